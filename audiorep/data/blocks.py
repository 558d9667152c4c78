"""A whole recording with all its channels, some samples at a time: what is decoded once to be kept."""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import soundfile
import soxr

from audiorep.data.audio import AudioInfo, margins, next_samples, reason_of
from audiorep.data.raw import to_int16
from audiorep.errors import AudioError

BLOCK = 2**18
"""Samples of each channel in a block."""


def decode_blocks(path: str | Path, block: int = BLOCK) -> Iterator[np.ndarray]:
    """All samples [n c] of a recording from its first to its last, some at a time.

    Raises:
        AudioError: not decodable, truncated, NaN or inf.
    """
    try:
        with soundfile.SoundFile(str(path)) as file:
            left = file.frames
            while left:
                samples = next_samples(file, min(left, block))
                if not len(samples):
                    raise AudioError(f"{path}: truncated: ends {left} samples before its header says")
                if samples.dtype == np.float32 and not np.isfinite(samples).all():
                    raise AudioError(f"{path}: NaN or infinite samples")
                left -= len(samples)
                yield samples
    except (soundfile.SoundFileError, RuntimeError, OSError) as error:
        raise AudioError(f"{path}: cannot decode ({reason_of(error)})") from error


def resample_blocks(blocks: Iterable[np.ndarray], info: AudioInfo, target_hz: int) -> Iterator[np.ndarray]:
    """All samples [n c] of a recording at another rate: as many as `resampled_frames` says.

    Resampled with soxr (HQ) with silence before and after, as `audiorep.data.audio.read_resampled` sees it.
    """
    before, skip = margins(info.rate_hz, target_hz)
    silence = np.zeros((before, info.channels), np.float32)
    stream = soxr.ResampleStream(info.rate_hz, target_hz, info.channels, "float32", "HQ")
    left = resampled_frames(info, target_hz)
    for samples, last in chain([(silence, False)], ((block, False) for block in blocks), [(silence, True)]):
        found = stream.resample_chunk(samples.astype(np.float32), last)
        dropped = min(skip, len(found))
        kept = found[dropped:][:left]
        skip, left = skip - dropped, left - len(kept)
        if len(kept):
            yield to_int16(kept) if info.dtype == "int16" else kept


def resampled_frames(info: AudioInfo, target_hz: int) -> int:
    """How many samples a recording has at another rate: those of which any part lies within it."""
    return -(-info.frames * target_hz // info.rate_hz)
