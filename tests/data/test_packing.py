"""Where recordings go in a store, by their headers alone, and that nothing is written outside of its place."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile

from audiorep.data import packing
from audiorep.data.audio import probe
from audiorep.data.packing import ALIGNED_BYTES, Packer, Place, make_shards, plan, shard_sizes, write_samples
from audiorep.errors import AudioError


@pytest.fixture
def info(tmp_path):
    """Of a recording of 100 samples, which are 200 bytes."""
    soundfile.write(tmp_path / "a.wav", np.arange(100, dtype=np.int16), 8000)
    return probe(tmp_path / "a.wav")


def test_recordings_begin_at_multiples_and_do_not_meet(info):
    files = {f"{frames}": replace(info, frames=frames) for frames in (1, 31, 32, 33, 100, 7)}
    places = list(plan(files).values())
    assert [place.at for place in places] == [0, 64, 128, 192, 320, 576]
    assert all(not place.at % ALIGNED_BYTES for place in places)
    assert all(one.end <= other.at for one, other in zip(places, places[1:], strict=False))


def test_a_shard_may_be_exactly_full_and_no_fuller(info):
    files = {name: replace(info, frames=64) for name in "abcde"}  # 128 bytes each
    assert [place.shard for place in plan(files, shard_bytes=256).values()] == [0, 0, 1, 1, 2]
    assert [place.shard for place in plan(files, shard_bytes=255).values()] == [0, 1, 2, 3, 4]
    assert [place.shard for place in plan(files, shard_bytes=1).values()] == [0, 1, 2, 3, 4]
    assert list(shard_sizes(plan(files, shard_bytes=256)).values()) == [256, 256, 128]


@pytest.mark.parametrize("said", [99, 101])
def test_a_recording_that_is_not_as_long_as_its_header_said_is_refused_and_hurts_no_other(info, tmp_path, said):
    place = Place(0, 64, replace(info, frames=said), 8000)
    other = Place(0, 320, info, 8000)
    make_shards(tmp_path, {"a": place, "b": other})
    with pytest.raises(AudioError, match=r"a\.wav: is not of the length that its header says"):
        write_samples(tmp_path / "a.wav", place, tmp_path / "shard-00000.raw")
    written = (tmp_path / "shard-00000.raw").read_bytes()
    assert not any(written[:64]) and not any(written[place.end :])
    write_samples(tmp_path / "a.wav", other, tmp_path / "shard-00000.raw")
    whole = np.fromfile(tmp_path / "shard-00000.raw", np.int16)
    np.testing.assert_array_equal(whole[160:], np.arange(100))


def test_a_recording_that_changes_while_it_is_packed_is_refused(info, tmp_path, monkeypatch):
    place = Place(0, 0, info, 8000)
    path = tmp_path / "a.wav"
    make_shards(tmp_path, {str(path): place})
    packer = Packer(tmp_path, tmp_path, {str(path): place})
    (row,) = next(packer(path)).to_pylist()
    assert (row["path"], row["frames"], row["length_bytes"]) == ("a.wav", 100, 200)

    def rewritten(*given):
        crc32 = write_samples(*given)
        soundfile.write(path, np.arange(101, dtype=np.int16), 8000)
        return crc32

    monkeypatch.setattr(packing, "write_samples", rewritten)
    with pytest.raises(AudioError, match=r"a\.wav: was changed while it was packed"):
        next(packer(path))
