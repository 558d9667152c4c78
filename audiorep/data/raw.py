"""Samples that are read as they stand in a file, without a decoder: those of 16-bit WAV files, and of a store's shards."""

import io
import os
import struct
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from audiorep.data.riff import chunks_of
from audiorep.errors import AudioError

PLAIN, EXTENSIBLE = 1, 0xFFFE
PLAIN_GUID = bytes.fromhex("0100000000001000800000aa00389b71")
"""How a WAV file says that its samples are plain numbers (PCM)."""

HEADERS = 2**16
"""WAV files whose header is remembered, the last ones that were read."""


@dataclass(frozen=True, slots=True)
class Raw:
    """Where the samples of a recording stand in a file: from byte `at` on, its channels interleaved, little-endian."""

    at: int
    frames: int
    channels: int
    dtype: str = "int16"  # or "float32"


def raw_of(path: str, file: io.FileIO) -> Raw | None:
    """Where the samples of an open WAV file of 16 bits stand; None: of another kind, or cut off: libsndfile knows more."""
    told = os.fstat(file.fileno())
    return _find_raw(path, told.st_size, told.st_mtime_ns)


@lru_cache(HEADERS)
def _find_raw(path: str, size_bytes: int, mtime_ns: int) -> Raw | None:
    """Size and time of change are part of the question: a file that was replaced is looked at anew."""
    with io.FileIO(path) as file:
        chunks = list(chunks_of(file, size_bytes))
        names = [name for name, _, _ in chunks]
        if [name for name in names if name in (b"fmt ", b"data")] != [b"fmt ", b"data"] or not all(
            map(_printable, names)
        ):
            return None
        (_, head, head_bytes), (_, at, data_bytes) = (chunks[names.index(name)] for name in (b"fmt ", b"data"))
        file.seek(head)
        channels = _channels_of(file.read(min(head_bytes, 40)))
        return Raw(at, data_bytes // (2 * channels), channels) if channels and data_bytes else None


def _printable(name: bytes) -> bool:
    """Whether libsndfile goes on behind a chunk of that name."""
    return name.isascii() and name.decode("ascii").isprintable()


def _channels_of(header: bytes) -> int:
    """The channels of plain numbers of 16 bits; 0: the file holds something else."""
    if len(header) < 16:
        return 0
    kind, channels, _, _, frame_bytes, bits = struct.unpack("<HHIIHH", header[:16])
    plain = kind == PLAIN or (kind == EXTENSIBLE and header[24:40] == PLAIN_GUID)
    return channels if plain and bits == 16 and frame_bytes == 2 * channels else 0


def read_raw(path: str, file: io.FileIO, raw: Raw, start: int, out: np.ndarray, channel: int | None) -> None:
    """Write samples [start, start + len(out)) into `out`, mono, as its type; zeros outside the recording.

    Args:
        path, file: its name, and it itself, open.
        channel: counted from 1; None: the mean of all channels.

    Raises:
        AudioError: the file ends before, channel not there, NaN or inf.
    """
    first, last = max(0, start), min(raw.frames, start + len(out))
    if last <= first:
        out[:] = 0
        return
    if channel is not None and not 1 <= channel <= raw.channels:
        raise AudioError(f"{path}: has {raw.channels} channel(s), channel {channel} was asked for")
    out[: first - start] = 0
    out[last - start :] = 0
    inside = out[first - start : last - start]
    straight = raw.channels == 1 and raw.dtype == out.dtype
    samples = inside if straight else np.empty((last - first) * raw.channels, raw.dtype)
    file.seek(raw.at + first * raw.channels * samples.itemsize)
    if missing := _missing(file, samples):
        short = -(-missing // (raw.channels * samples.itemsize))
        raise AudioError(f"{path}: truncated: ends {short} samples before its header says")
    if not straight:
        samples = mono(samples.reshape(-1, raw.channels), channel)
        put(samples, inside)
    if raw.dtype == "float32" and not np.isfinite(samples).all():
        raise AudioError(f"{path}: NaN or infinite samples between {first} and {last}")


def mono(samples: np.ndarray, channel: int | None) -> np.ndarray:
    """One channel of samples [n c], or the mean of all; int16 is rounded."""
    if channel is not None or samples.shape[1] == 1:
        return samples[:, (channel or 1) - 1]
    if samples.dtype != np.int16:
        return samples.mean(1, dtype=np.float32)
    total = samples[:, 0].astype(np.float32)  # exact: a sum of 16-bit numbers
    for column in samples.T[1:]:
        total += column
    total /= samples.shape[1]
    return np.rint(total, out=total).astype(np.int16)


def put(samples: np.ndarray, out: np.ndarray | None) -> np.ndarray:
    """The samples in `out`, as its type: int16, or float32 in [-1, 1]; themselves where there is none."""
    if out is None:
        return samples
    out[:] = to_pcm(samples) if out.dtype == np.int16 != samples.dtype else samples
    if out.dtype != np.int16 == samples.dtype:
        out *= np.float32(1 / 32768)
    return out


def to_pcm(samples: np.ndarray) -> np.ndarray:
    """Samples in [-1, 1] as int16: rounded without dither, clipped where they overshoot."""
    return to_int16(samples * 32768.0)


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Samples in [-32768, 32767] as int16: rounded without dither, clipped where they overshoot."""
    return np.clip(np.rint(samples), -32768, 32767).astype(np.int16)


def _missing(file: io.FileIO, samples: np.ndarray) -> int:
    """Read on until all of `samples` is there or the file ends; returns how many bytes are missing."""
    rest = memoryview(samples.data).cast("B")
    while rest and (came := file.readinto(rest)):  # once, but of more than 2 GiB
        rest = rest[came:]
    return len(rest)
