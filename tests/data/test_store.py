"""audiorep pack: a corpus from its store is the corpus from its recordings, whatever happens to either."""

import os
import shutil
import signal
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from test_cli import refused, run

from audiorep import build
from audiorep.composing import compose
from audiorep.data import packing
from audiorep.data.formats.table import Table
from audiorep.data.guano import write_guano
from audiorep.data.loader import Floats
from audiorep.data.manifest import read_corpus
from audiorep.data.store import INDEX, find_store
from audiorep.data.windows import Windows, WindowSpec
from audiorep.errors import AudiorepError

RATE_HZ = 16000
KINDS = {"a.wav": ("PCM_16", 1), "b.flac": ("PCM_16", 2), "c.flac": ("PCM_24", 1), "d.ogg": ("VORBIS", 1),
         "e.wav": ("FLOAT", 3), "f.wav": ("PCM_U8", 1)}  # fmt: skip


def record(path: Path, subtype: str = "PCM_16", channels: int = 1, seed: int = 0, seconds: float = 3.0) -> None:
    """Noise over tones."""
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    wave = 0.2 * np.sin(2 * np.pi * (300 + 900 * np.arange(1, channels + 1)) * t[:, None])
    wave += 0.1 * np.random.default_rng(seed).standard_normal(wave.shape)
    soundfile.write(path, wave, RATE_HZ, subtype=subtype)


def corpus(folder: Path, kinds: dict[str, tuple[str, int]] = KINDS, seconds: float = 3.0) -> Path:
    """A table of two rows of each recording."""
    (folder / "in").mkdir()
    lines = ["path,start_s,end_s,label"]
    for seed, (name, (subtype, channels)) in enumerate(kinds.items()):
        record(folder / "in" / name, subtype, channels, seed, seconds)
        lines += [f"in/{name},0.02,0.1,x", f"in/{name},0.5,{seconds - 0.3},y"]
    (folder / "corpus.csv").write_text("\n".join(lines) + "\n")
    return folder / "corpus.csv"


def flacs(folder: Path, count: int = 4, seconds: float = 2.0) -> Path:
    return corpus(folder, {f"{i}.flac": ("PCM_16", 1 + i % 2) for i in range(count)}, seconds)


def windows_of(table: Path, rate_hz: int = RATE_HZ, store: str | None = "auto", length_s: float = 0.25) -> Windows:
    """As `audiorep.build` makes them."""
    manifest = read_corpus(table, Table())
    found = find_store(table, store, list(manifest.files))
    return Windows(manifest, WindowSpec(length_s), rate_hz, cache_bytes=0, store=found)


def drawn(windows: Windows) -> np.ndarray:
    some = np.array([(row, k, 1, 7) for row in range(len(windows)) for k in range(5)])
    return np.concatenate([windows.fixed_items(), some])


def assert_same(table: Path, rate_hz: int = RATE_HZ) -> None:
    """The same batches with the store and without."""
    kept, plain = (windows_of(table, rate_hz, store) for store in ("auto", None))
    assert kept.packed is not None and plain.packed is None
    for rows in np.array_split(drawn(plain), 5):
        one, other = kept.batch(rows), plain.batch(rows)
        assert one.keys() == other.keys()
        for name, value in other.items():
            assert torch.equal(one[name], value) if isinstance(value, torch.Tensor) else one[name] == value, name


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in (".raw", ".parquet")}


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    table = corpus(tmp_path_factory.mktemp("packed"))
    assert run("pack", f"corpus={table}", "shard_mb=0.25") == 0
    return table


@pytest.mark.parametrize("rate_hz", [RATE_HZ, 8000, 22050])
def test_windows_from_the_store_are_those_from_the_recordings_to_the_bit(packed, rate_hz):
    assert_same(packed, rate_hz)
    assert windows_of(packed, rate_hz).packed.has.all()


def test_the_recordings_are_not_needed_for_their_samples(packed, tmp_path, monkeypatch):
    windows = windows_of(packed)
    monkeypatch.setattr("audiorep.data.audio.decode", lambda *_: pytest.fail("a recording was decoded"))
    monkeypatch.setattr("audiorep.data.audio.raw_of", lambda *_: pytest.fail("a recording was read"))
    assert "failed" not in windows.batch(drawn(windows))


def test_the_index_tells_source_sound_and_place(packed):
    table = pq.read_table(packed.with_suffix(".store") / INDEX).to_pandas().set_index("path")
    assert list(table.index) == [f"in/{name}" for name in KINDS]
    for name, (subtype, channels) in KINDS.items():
        told, path = table.loc[f"in/{name}"], packed.parent / "in" / name
        assert told["size_bytes"] == path.stat().st_size and told["mtime_ns"] == path.stat().st_mtime_ns
        assert (told["rate_hz"], told["header_hz"], told["packed_hz"]) == (RATE_HZ,) * 3
        assert (told["frames"], told["channels"]) == (3 * RATE_HZ, channels)
        assert told["dtype"] == ("float32" if subtype in ("PCM_24", "FLOAT") else "int16")
        assert told["length_bytes"] == 3 * RATE_HZ * channels * (4 if told["dtype"] == "float32" else 2)
        assert not told["offset_bytes"] % 64
        samples = np.memmap(packed.with_suffix(".store") / told["shard"], told["dtype"], "r", told["offset_bytes"])
        if subtype != "VORBIS":
            whole = soundfile.read(path, dtype=told["dtype"], always_2d=True)[0]
            np.testing.assert_array_equal(samples[: whole.size].reshape(whole.shape), whole)
    shards = {path.name: path.stat().st_size for path in packed.with_suffix(".store").glob("*.raw")}
    assert set(table["shard"]) == set(shards) and len(shards) > 3
    alone = table.groupby("shard").filter(lambda rows: len(rows) == 1)
    assert all(size <= 2**18 or name in set(alone["shard"]) for name, size in shards.items())


@pytest.mark.parametrize("target_hz", [8000, 4000, 12000])
def test_packed_at_another_rate_windows_are_those_of_the_recordings_within_a_bit(tmp_path, target_hz):
    table = corpus(tmp_path)
    assert run("pack", f"corpus={table}", f"rate_hz={target_hz}") == 0
    kept, plain = windows_of(table, target_hz), windows_of(table, target_hz, None)
    assert kept.packed.has.all() and set(kept.packed.rate_hz) == {target_hz}
    one, other = (Floats(windows).__getitems__(drawn(windows)) for windows in (kept, plain))
    assert all(torch.equal(one[name], other[name]) for name in one.keys() - {"wave"})
    error = (one["wave"] - other["wave"]).abs().amax(1) * 32768
    channels = torch.tensor([KINDS[Path(path).name][1] for path in plain.paths[plain.path_of]])[one["index"]]
    assert error[channels == 1].max() <= 1.0  # a mix of channels is rounded before it is resampled, and after
    assert error[channels > 1].max() <= 2.0 and error.mean() <= 1.0
    assert other["wave"].std() > 0.05


def test_a_store_of_another_rate_than_the_models_is_not_used_and_that_is_said(tmp_path, capsys):
    table = flacs(tmp_path)
    assert run("pack", f"corpus={table}", "rate_hz=8000") == 0
    assert not windows_of(table, RATE_HZ).packed.has.any()
    assert "at 8000 Hz, this model hears 16000 Hz" in capsys.readouterr().err
    assert_same(table, RATE_HZ)


def test_recordings_slowed_down_are_packed_at_the_rate_of_the_sound(tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(3):
        path = tmp_path / "in" / f"{i}.wav"
        record(path, seed=i)
        write_guano(path, path, {"TE": "10", "Samplerate": str(10 * RATE_HZ)})
    (tmp_path / "corpus.csv").write_text("path,start_s,end_s\n" + "".join(f"in/{i}.wav,0.1,0.25\n" for i in range(3)))
    table = tmp_path / "corpus.csv"
    for keys in ([], ["rate_hz=80000", "overwrite=true"]):
        assert run("pack", f"corpus={table}", *keys) == 0
        index = pq.read_table(tmp_path / "corpus.store" / INDEX).to_pandas()
        assert set(index["rate_hz"]) == {10 * RATE_HZ} and set(index["header_hz"]) == {RATE_HZ}
        assert set(index["time_expansion"]) == {10.0}
        windows, plain = (windows_of(table, 80000, store, 0.02) for store in ("auto", None))
        assert windows.packed.has.all()
        one, other = (w.batch(drawn(w))["wave"].int() for w in (windows, plain))
        assert (one - other).abs().max() <= (1 if keys else 0)


# -------------------------------------------------------- recordings that change


def test_a_recording_that_was_touched_is_used_and_one_that_was_changed_is_not(tmp_path, capsys):
    table = flacs(tmp_path)
    assert run("pack", f"corpus={table}") == 0
    os.utime(tmp_path / "in" / "0.flac")
    record(tmp_path / "in" / "1.flac", channels=2, seed=77, seconds=2.0)
    (tmp_path / "in" / "2.flac").write_bytes(b"no sound")
    capsys.readouterr()
    windows = windows_of(table)
    assert windows.packed.has.tolist() == [True, False, True]  # 2.flac is no recording any more
    said = capsys.readouterr().err
    assert "changed since they were packed" in said and said.count("1.flac") == 1 and "0.flac" not in said
    assert "2 of 3 recording(s) are read from the store" in said
    assert_same(table)


def test_other_sound_of_the_same_size_is_not_taken_for_what_was_packed(tmp_path):
    table = corpus(tmp_path, {f"{i}.wav": ("PCM_16", 1) for i in range(2)})
    assert run("pack", f"corpus={table}") == 0
    size = (tmp_path / "in" / "1.wav").stat().st_size
    record(tmp_path / "in" / "1.wav", seed=77)
    os.utime(tmp_path / "in" / "1.wav", (1, 1))
    assert (tmp_path / "in" / "1.wav").stat().st_size == size
    assert windows_of(table).packed.has.tolist() == [True, False]
    assert_same(table)


def test_what_was_resampled_serves_only_while_the_corpus_says_the_same_rate_of_its_source(tmp_path):
    table = flacs(tmp_path, 2)
    assert run("pack", f"corpus={table}", "rate_hz=8000") == 0
    paths = [str(tmp_path / "in" / f"{i}.flac") for i in range(2)]
    store = find_store(table, "auto", paths)
    found = store.find(paths, np.array([RATE_HZ, 10 * RATE_HZ]), 8000)  # the second slowed down, as is known by now
    assert found.has.tolist() == [True, False]


def test_what_is_not_in_the_store_is_read_from_its_source(tmp_path, capsys):
    table = flacs(tmp_path)
    assert run("pack", f"corpus={table}") == 0
    record(tmp_path / "in" / "new.flac")
    table.write_text(table.read_text() + "in/new.flac,0,0.5,x\n")
    assert windows_of(table).packed.has.tolist() == [True] * 4 + [False]
    said = capsys.readouterr().err
    assert "4 of 5 recording(s) are read from the store" in said and "1 are not in it" in said
    assert_same(table)


def test_corpus_and_store_can_be_moved_together_and_named_apart(tmp_path):
    (tmp_path / "one").mkdir()
    table = flacs(tmp_path / "one", 2)
    assert run("pack", f"corpus={table}", f"out={tmp_path / 'elsewhere'}") == 0
    moved = shutil.copytree(tmp_path / "one", tmp_path / "two") / "corpus.csv"  # with their times of change
    assert windows_of(moved).packed is None
    assert windows_of(moved, store=str(tmp_path / "elsewhere")).packed.has.all()
    assert run("pack", f"corpus={tmp_path / 'two' / 'in'}") == 0  # a folder of recordings
    assert (tmp_path / "two" / "in.store" / INDEX).is_file()
    with pytest.raises(AudiorepError, match="data.store=.*nowhere.*audiorep pack corpus="):
        windows_of(moved, store=str(tmp_path / "nowhere"))


# ------------------------------------------------------------------ damage


@pytest.mark.parametrize("damage", ["shard", "short", "index", "cut", "other"])
def test_a_damaged_store_is_refused_with_the_remedy(packed, tmp_path, damage):
    store = shutil.copytree(packed.with_suffix(".store"), tmp_path / "store")
    shard, index = store / "shard-00000.raw", store / INDEX
    if damage == "shard":
        shard.unlink()
    if damage == "short":
        os.truncate(shard, shard.stat().st_size - 1)
    if damage == "index":
        index.write_bytes(b"")
    if damage == "cut":
        index.write_bytes(index.read_bytes()[:-100])
    if damage == "other":
        pq.write_table(pq.read_table(index).drop_columns("crc32"), index)
    with pytest.raises(AudiorepError, match="audiorep pack corpus=.* overwrite=true") as caught:
        windows_of(packed, store=str(store))
    assert "\n" not in str(caught.value) and "data.store=null" in str(caught.value)


def test_a_store_that_is_packed_anew_is_read_anew(tmp_path):
    table = flacs(tmp_path, 2)
    for seed in (5, 6):
        record(tmp_path / "in" / "0.flac", seed=seed, seconds=2.0)
        assert run("pack", f"corpus={table}", "overwrite=true") == 0
        assert_same(table)


def test_the_verbs_find_the_store(packed):
    cfg = compose("pretrain", [f"corpus='{packed}'", "window.length_s=0.25", "frontend.sample_rate_hz=8000"])
    found = build.open_corpus(cfg, must_split=False)
    assert build.make_windows(cfg, found, np.array([1, 4, 5])).packed.has.all()
    cfg.data.store = None
    assert build.make_windows(cfg, build.open_corpus(cfg, must_split=False)).packed is None


def test_a_store_that_is_not_finished_is_not_used_and_that_is_said(tmp_path, capsys):
    table = flacs(tmp_path, 2)
    assert run("pack", f"corpus={table}") == 0
    (tmp_path / "corpus.store" / INDEX).unlink()
    assert windows_of(table).packed is None and "is not finished" in capsys.readouterr().err
    with pytest.raises(AudiorepError, match="resume=true"):
        windows_of(table, store=str(tmp_path / "corpus.store"))


def test_verify_finds_samples_that_changed(tmp_path, capsys):
    table = flacs(tmp_path)
    assert run("pack", f"corpus={table}") == 0
    before = content(tmp_path / "corpus.store")
    assert run("pack", f"corpus={table}", "verify=true") == 0
    index = pq.read_table(tmp_path / "corpus.store" / INDEX).to_pandas()
    with (tmp_path / "corpus.store" / "shard-00000.raw").open("r+b") as file:
        file.seek(int(index["offset_bytes"][2]) + 4321)
        file.write(b"\x55")
    line = refused(capsys, "pack", f"corpus={table}", "verify=true")
    assert "1 recording(s) are damaged: in/2.flac" in line and "overwrite=true" in line
    assert content(tmp_path / "corpus.store").keys() == before.keys()
    assert "no index.parquet" in refused(capsys, "pack", f"corpus={table}", "verify=true", f"out={tmp_path / 'none'}")


# ----------------------------------------------------------- the command itself


def test_what_cannot_be_decoded_is_left_out_and_named(tmp_path, capsys):
    table = flacs(tmp_path)
    whole = (tmp_path / "in" / "1.flac").read_bytes()
    (tmp_path / "in" / "1.flac").write_bytes(whole[: len(whole) // 2])  # its header is as it was
    (tmp_path / "in" / "2.flac").write_bytes(b"no sound")
    assert run("pack", f"corpus={table}") == 3
    named = (tmp_path / "corpus.store" / "quarantine.csv").read_text()
    assert "1.flac" in named and "2.flac" in named and "0.flac" not in named
    assert windows_of(table).packed.has.tolist() == [True, False, True]
    assert_same(table)
    assert run("pack", f"corpus={table}", "resume=true") == 3


def test_several_processes_leave_the_same_bytes(tmp_path, packed):
    assert run("pack", f"corpus={packed}", f"out={tmp_path / 'two'}", "shard_mb=0.25", "workers=2") == 0
    assert content(tmp_path / "two") == content(packed.with_suffix(".store"))


def kill_at(block: int, arguments: list[str]) -> None:
    """Pack, and die when so many blocks were decoded, in the middle of a recording."""
    decode, seen = packing.decode_blocks, iter(range(10**6))

    def dying(path):
        for samples in decode(path, 5000):
            if next(seen) == block:
                os.kill(os.getpid(), signal.SIGKILL)
            yield samples

    packing.decode_blocks = dying
    run(*arguments)


@pytest.mark.parametrize("block", [0, 4, 9, 20])
def test_a_killed_run_goes_on_and_leaves_the_same_bytes(tmp_path, block):
    table = flacs(tmp_path)
    assert run("pack", f"corpus={table}", f"out={tmp_path / 'whole'}", "shard_mb=0.1") == 0
    keys = ["pack", f"corpus={table}", f"out={tmp_path / 'killed'}", "shard_mb=0.1"]
    child = get_context("fork").Process(target=kill_at, args=(block, keys))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL and not (tmp_path / "killed" / INDEX).exists()
    assert run(*keys) == 2  # not without being asked to
    assert run(*keys, "shard_mb=0.2", "resume=true") == 2  # nor otherwise than it was begun
    done = len(list((tmp_path / "killed" / "parts").glob("*.parquet"))) if block > 4 else 0
    assert done == {0: 0, 4: 0, 9: 1, 20: 2}[block]
    assert run(*keys, "resume=true") == 0
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    assert not (tmp_path / "killed" / "parts").exists()


def test_a_dry_run_writes_nothing_and_tells_when_the_disk_is_too_small(tmp_path, capsys, monkeypatch):
    table = flacs(tmp_path)
    keys = ["pack", f"corpus={table}", f"out={tmp_path / 'out'}"]
    assert run(*keys, "dry_run=true") == 0 and run("pack", f"corpus={table}", "dry_run=true") == 0
    assert "4 recordings into 1 shard(s)" in " ".join(capsys.readouterr().err.split())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**5))
    for more in (["dry_run=true"], []):
        line = refused(capsys, *keys, *more)
        assert "takes 417 kB and the disk has 100 kB left" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.csv", "in"]


@pytest.mark.parametrize("key", ["rate_hz=0", "rate_hz=fast", "shard_mb=0", "workers=0"])
def test_numbers_that_are_none_are_refused(tmp_path, capsys, key):
    table = flacs(tmp_path, 1)
    assert key.split("=")[0] in refused(capsys, "pack", f"corpus={table}", key)
    assert not (tmp_path / "corpus.store" / INDEX).exists()
