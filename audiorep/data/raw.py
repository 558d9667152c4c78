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
        channels = 0
        for name, at, size in chunks_of(file, size_bytes):
            if name == b"fmt ":
                file.seek(at)
                channels = _channels_of(file.read(min(size, 40)))
            if name == b"data" or (name == b"fmt " and not channels):
                return Raw(at, size // (2 * channels), channels) if channels else None
    return None


def _channels_of(header: bytes) -> int:
    """The channels of plain numbers of 16 bits; 0: the file holds something else."""
    if len(header) < 16:
        return 0
    kind, channels, _, _, frame_bytes, bits = struct.unpack("<HHIIHH", header[:16])
    plain = kind == PLAIN or (kind == EXTENSIBLE and header[24:40] == PLAIN_GUID)
    return channels if plain and bits == 16 and frame_bytes == 2 * channels else 0


def read_raw(file: io.FileIO, raw: Raw, start: int, out: np.ndarray, channel: int | None = None) -> None:
    """Write samples [start, start + len(out)) into `out`, mono, of the type of `raw`; zeros outside the recording.

    Args:
        channel: counted from 1; None: the mean of all channels.

    Raises:
        AudioError: the file ends before, channel not there, NaN or inf.
    """
    first, last = max(0, start), min(raw.frames, start + len(out))
    if last <= first:
        out[:] = 0
        return
    if channel is not None and not 1 <= channel <= raw.channels:
        raise AudioError(f"{file.name!s}: has {raw.channels} channel(s), channel {channel} was asked for")
    out[: first - start] = 0
    out[last - start :] = 0
    inside = out[first - start : last - start]
    samples = inside if raw.channels == 1 else np.empty((last - first, raw.channels), raw.dtype)
    file.seek(raw.at + first * raw.channels * out.itemsize)
    if missing := samples.nbytes - _fill(file, samples):
        short = -(-missing // (raw.channels * out.itemsize))
        raise AudioError(f"{file.name!s}: truncated: ends {short} samples before its header says")
    if raw.channels > 1:
        inside[:] = mono(samples, channel)
    if raw.dtype == "float32" and not np.isfinite(inside).all():
        raise AudioError(f"{file.name!s}: NaN or infinite samples between {first} and {last}")


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


def _fill(file: io.FileIO, samples: np.ndarray) -> int:
    """Read on until all of `samples` is there or the file ends; returns how many bytes came."""
    rest = memoryview(samples.data).cast("B")
    while rest and (came := file.readinto(rest)):  # once, but of more than 2 GiB
        rest = rest[came:]
    return samples.nbytes - len(rest)
