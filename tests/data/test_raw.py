"""16-bit WAV files read without a decoder: the samples and complaints of libsndfile, whatever stands in the header."""

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiorep.data.audio import decode, probe, read
from audiorep.data.raw import Raw, raw_of, read_raw
from audiorep.errors import AudioError

GUID = bytes.fromhex("0100000000001000800000aa00389b71")


def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(content) if size is None else size) + content + b"\0" * (len(content) % 2)


def fmt(channels: int, rate_hz: int = 16000, extensible: bool = False, bits: int = 16) -> bytes:
    width = bits // 8
    plain = struct.pack(
        "<HHIIHH", 0xFFFE if extensible else 1, channels, rate_hz, rate_hz * channels * width, channels * width, bits
    )
    return chunk(b"fmt ", plain + (struct.pack("<HHI", 22, bits, 0) + GUID if extensible else b""))


def riff(*chunks: bytes, kind: bytes = b"RIFF", size: int | None = None) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return kind + struct.pack("<I", len(body) if size is None else size) + body


def samples(frames: int, channels: int, seed: int = 0) -> bytes:
    return np.random.default_rng([seed, channels]).integers(-32768, 32768, (frames, channels), np.int16).tobytes()


def rf64(channels: int, content: bytes) -> bytes:
    ds64 = chunk(b"ds64", struct.pack("<QQQI", 60 + len(content), len(content), len(content) // (2 * channels), 0))
    return riff(ds64, fmt(channels), chunk(b"data", content, 0xFFFFFFFF), kind=b"RF64", size=0xFFFFFFFF)


ODD = chunk(b"LIST", b"INFOICMT\x03\0\0\0ab\0\0")
PLAIN = {  # what is read without a decoder
    **{f"{channels} channels": riff(fmt(channels), chunk(b"data", samples(997, channels))) for channels in range(1, 9)},
    "extensible": riff(fmt(2, extensible=True), chunk(b"data", samples(997, 2))),
    "chunks before": riff(ODD, chunk(b"bext", b"x" * 601), fmt(1), chunk(b"junk", b"y" * 7), chunk(b"data", samples(997, 1))),
    "chunks behind": riff(fmt(3), chunk(b"data", samples(997, 3)), ODD, chunk(b"guan", b"GUANO|Version: 1.0\n")),
    "bytes behind": riff(fmt(1), chunk(b"data", samples(997, 1))) + b"z" * 13,
    "an odd size": riff(fmt(1), chunk(b"data", samples(997, 1) + b"q")),
    "not a whole frame": riff(fmt(3), chunk(b"data", samples(997, 3) + b"qrs")),
    "a wrong riff size": riff(fmt(2), chunk(b"data", samples(997, 2)), size=0),
    "a riff size too large": riff(fmt(2), chunk(b"data", samples(997, 2)), size=10**6),
    "rf64": rf64(2, samples(997, 2)),
}  # fmt: skip
DECODED = {  # what is left to libsndfile
    "two stretches of samples": riff(fmt(1), chunk(b"data", samples(100, 1)), chunk(b"data", samples(300, 1))),
    "two formats": riff(fmt(1), fmt(2), chunk(b"data", samples(300, 2))),
    "a chunk without a name": riff(fmt(1), chunk(b"\x01\x02\x03\x04", b"ab"), chunk(b"data", samples(300, 1))),
    "an odd chunk without padding": riff(fmt(1), chunk(b"LIST", b"abcde")[:-1], chunk(b"data", samples(300, 1))),
    "truncated": riff(fmt(2), chunk(b"data", samples(997, 2)))[:-1500],
    "of unknown length": riff(fmt(1), chunk(b"data", samples(997, 1), 0xFFFFFFFF)),
    "24 bits": riff(fmt(1, bits=24), chunk(b"data", samples(1500, 1))),
    "8 bits": riff(fmt(2, bits=8), chunk(b"data", samples(997, 1))),
    "without samples": riff(fmt(1), chunk(b"data", b"")),
    "without a format": riff(chunk(b"data", samples(997, 1))),
    "nothing else": riff(fmt(1)),
    "half a header": riff(fmt(1))[:30],
    "of another kind": b"fLaC" + samples(100, 1),
}
STRETCHES = [
    (0, 997),
    (0, 1),
    (996, 1),
    (500, 100),
    (-50, 200),
    (900, 300),
    (-20, 1100),
    (997, 10),
    (-30, 30),
    (5000, 9),
]


def outcome(function, *given) -> tuple[str, object]:
    try:
        found = function(*given)
    except AudioError as error:
        return "error", str(error)
    return str(found.dtype), found.tolist()


@pytest.mark.parametrize("name", [*PLAIN, *DECODED])
def test_samples_and_complaints_are_those_of_libsndfile(name, tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes((PLAIN | DECODED)[name])
    with path.open("rb", buffering=0) as file:
        assert (raw_of(str(path), file) is not None) == (name in PLAIN)
    for start, count in STRETCHES:
        for channel in (None, 1, 2, 3, 9, 0):
            assert outcome(read, path, start, count, channel) == outcome(decode, path, start, count, channel)


@pytest.mark.parametrize("name", PLAIN)
def test_the_whole_file_is_what_soundfile_reads(name, tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(PLAIN[name])
    whole = soundfile.read(path, dtype="int16", always_2d=True)[0]
    assert probe(path).frames == len(whole) == 997
    for channel in range(1, whole.shape[1] + 1):
        np.testing.assert_array_equal(read(path, 0, 997, channel), whole[:, channel - 1])
    np.testing.assert_array_equal(read(path, 0, 997), np.rint(whole.mean(1, dtype=np.float32)).astype(np.int16))


def test_a_file_that_is_replaced_is_looked_at_anew(tmp_path):
    path = tmp_path / "a.wav"
    for name in ("1 channels", "chunks before", "3 channels", "24 bits"):
        path.write_bytes((PLAIN | DECODED)[name])
        np.testing.assert_array_equal(read(path, 10, 200), decode(path, 10, 200))
    path.unlink()
    assert outcome(read, path, 0, 10)[0] == "error" and outcome(read, path, 0, 10) == outcome(decode, path, 0, 10)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_samples_are_written_into_what_is_given_as_its_type(subtype, dtype, tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.9, 0.9, (500, 2)), 8000, subtype=subtype)
    for start in (-100, 200, 450):
        out = np.full(100, 7, dtype)
        assert read(path, start, 100, 2, out=out) is out
        own = read(path, start, 100, 2)
        floats = own if subtype == "PCM_24" else own.astype(np.float32) / 32768
        np.testing.assert_array_equal(out, floats if dtype == np.float32 else np.rint(floats * 32768).astype(np.int16))


def test_a_file_slowed_down_is_read_by_its_own_samples(tmp_path):
    path: Path = tmp_path / "bat.wav"
    path.write_bytes(PLAIN["1 channels"])
    info = probe(path, 10.0)
    assert info.rate_hz == 160000 and info.frames == 997
    np.testing.assert_array_equal(read(path, 100, 50), np.frombuffer(samples(997, 1), np.int16)[100:150])


def raw_in(path: Path):
    with io.FileIO(path) as file:
        return raw_of(str(path), file)


def test_fewer_bits_in_numbers_of_sixteen_are_left_to_libsndfile(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(riff(fmt(1)[:-2] + struct.pack("<H", 12), chunk(b"data", samples(300, 1))))
    assert raw_in(path) is None


def test_a_file_that_was_replaced_by_one_of_the_same_size_is_looked_at_anew(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(riff(fmt(1), chunk(b"data", samples(300, 1))))
    os.utime(path, (1, 1))
    one = raw_in(path)
    path.write_bytes(riff(fmt(2), chunk(b"data", samples(150, 2))))
    os.utime(path, (2, 2))
    other = raw_in(path)
    assert one is not None and other is not None
    assert (one.channels, one.frames, other.channels, other.frames) == (1, 300, 2, 150)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused_where_they_are_read(tmp_path, value):
    wave = np.zeros(100, "<f4")
    wave[60] = value
    (tmp_path / "shard.raw").write_bytes(wave.tobytes())
    with io.FileIO(tmp_path / "shard.raw") as file:
        out = np.ones(50, np.float32)
        read_raw("a.wav", file, Raw(0, 100, 1, "float32"), 0, out, None)
        assert not out.any()
        with pytest.raises(AudioError, match=r"a\.wav: NaN or infinite samples between 50 and 100"):
            read_raw("a.wav", file, Raw(0, 100, 1, "float32"), 50, out, None)
