"""Decode a stretch of one recording by seeking to it: int16 where the file has 16 bits or fewer, float32 otherwise."""

import io
import math
import re
from dataclasses import dataclass
from math import gcd
from pathlib import Path

import numpy as np
import soundfile
import soxr

from audiorep.data import guano
from audiorep.data.raw import Raw, mono, put, raw_of, read_raw, to_int16, to_pcm
from audiorep.errors import AudioError
from audiorep.files import is_file, write_bytes

EXTENSIONS = (frozenset(f".{name.lower()}" for name in soundfile.available_formats()) - {".raw"}) | {
    ".aif",
    ".oga",
    ".opus",
    ".mp3",
}
"""Endings of sound files; raw samples have no header that tells their rate."""
NARROW = frozenset(
    {
        "PCM_16",
        "PCM_S8",
        "PCM_U8",
        "ULAW",
        "ALAW",
        "VORBIS",
        "OPUS",
        "MPEG_LAYER_III",
        "IMA_ADPCM",
        "MS_ADPCM",
    }
)
"""Encodings whose samples lose nothing that matters as int16."""

WITH_CHUNKS = frozenset({"WAV", "WAVEX", "RF64"})
"""Formats that may hold GUANO."""

LOSSY = frozenset({"VORBIS", "OPUS", "MPEG_LAYER_III"})
"""Encodings that may overshoot full scale; decoded straight to int16 they would wrap around."""

RESAMPLER_MARGIN = 256
"""Samples of context, at the slower of the two rates, read on both sides of a stretch that is resampled."""


SHORT_CHUNK = re.compile(r"^\s*(?:data|SSND) : (\d+) \(should be (\d+)\)", re.MULTILINE)
"""How libsndfile notes that fewer bytes of samples are there than a WAV or AIFF header says; it reads on regardless."""

STREAMED_BYTES = 0x7FFF0000
"""Sizes from here on stand for "not known yet" (ffmpeg or sox into a pipe): nothing is missing."""


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says; rate and duration are those of the sound, where the file is slowed down (bats)."""

    rate_hz: int
    frames: int
    channels: int
    dtype: str  # "int16" or "float32"
    time_expansion: float = 1.0  # the sound's rate over that of the header

    @property
    def duration_s(self) -> float:
        return self.frames / self.rate_hz


def is_audio(path: Path) -> bool:
    """Whether the name ends like a sound file that we can decode."""
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")


def probe(path: str | Path, time_expansion: float | None = None) -> AudioInfo:
    """Read a file's header.

    Args:
        time_expansion: how many times the file is slowed down; None or NaN: as its GUANO tells, else not at all.

    Raises:
        AudioError: missing, empty, corrupt, zero-length, or with fewer samples than its header promises (WAV, AIFF).
    """
    path = Path(path)
    if not is_file(path):
        raise AudioError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise AudioError(f"{path}: the file is empty (0 bytes)")
    try:
        info = soundfile.info(str(path))
    except (soundfile.SoundFileError, RuntimeError, TypeError) as error:
        raise AudioError(f"{path}: not readable as audio ({reason_of(error)})") from error
    if info.frames <= 0:
        raise AudioError(f"{path}: holds no samples (zero-length)")
    if (short := SHORT_CHUNK.search(info.extra_info)) and int(short[2]) < int(short[1]) < STREAMED_BYTES:
        raise AudioError(f"{path}: truncated: {short[2]} bytes of samples are there, its header says {short[1]}")
    factor = time_expansion
    if factor is None or math.isnan(factor):
        factor = guano.time_expansion(path, info.samplerate) if info.format in WITH_CHUNKS else 1.0
    rate_hz, dtype = round(info.samplerate * factor), dtype_of(info.subtype)
    return AudioInfo(max(1, rate_hz), info.frames, info.channels, dtype, factor)


def read(
    path: str | Path,
    start: int,
    count: int,
    channel: int | None = None,
    raw: Raw | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Samples [start, start + count) of a recording at its own rate, mono; zeros outside the file.

    Args:
        path: the recording.
        start: first sample; may be negative.
        count: number of samples; may reach past the end.
        channel: counted from 1; None: the mean of all channels.
        raw: where the samples stand in the file, which is a shard of a store; None: a recording, that tells it itself.
        out: [count] int16 or float32 to write into; None: a new array of the recording's own type.

    Raises:
        AudioError: not decodable, truncated (fewer samples than its header promises), channel not there, NaN or inf.
    """
    name = str(path)
    try:
        with io.FileIO(name) as file:
            if plain := raw or raw_of(name, file):
                found = np.empty(count, plain.dtype) if out is None else out
                read_raw(name, file, plain, start, found, channel)
                return found
    except (OSError, ValueError) as error:
        if raw is not None:
            raise AudioError(f"{path}: cannot read samples {start} to {start + count} ({error})") from error
    return put(decode(path, start, count, channel), out)  # which also tells what is wrong with a file


def decode(path: str | Path, start: int, count: int, channel: int | None = None) -> np.ndarray:
    """What `read` returns, by libsndfile, whatever the format."""
    try:
        with soundfile.SoundFile(str(path)) as file:
            first, last = max(0, start), min(file.frames, start + count)
            out = np.zeros(count, dtype_of(file.subtype))
            if last <= first:
                return out
            file.seek(first)
            samples = next_samples(file, last - first)
    except (soundfile.SoundFileError, RuntimeError, OSError) as error:
        raise AudioError(f"{path}: cannot decode samples {start} to {start + count} ({reason_of(error)})") from error
    if len(samples) < last - first:
        raise AudioError(f"{path}: truncated: ends {last - first - len(samples)} samples before its header says")
    if channel is not None and not 1 <= channel <= samples.shape[1]:
        raise AudioError(f"{path}: has {samples.shape[1]} channel(s), channel {channel} was asked for")
    inside = mono(samples, channel)
    if out.dtype == np.float32 and not np.isfinite(inside).all():
        raise AudioError(f"{path}: NaN or infinite samples between {first} and {last}")
    out[first - start : last - start] = inside
    return out


def dtype_of(subtype: str) -> str:
    """int16 where that holds all there is, else float32."""
    return "int16" if subtype in NARROW else "float32"


def next_samples(file: soundfile.SoundFile, count: int) -> np.ndarray:
    """The next samples [n c] of an open file."""
    if file.subtype in LOSSY:
        return to_pcm(file.read(count, dtype="float32", always_2d=True))
    return file.read(count, dtype=dtype_of(file.subtype), always_2d=True)


def read_resampled(
    path: str | Path,
    rate_hz: int,
    start: int,
    count: int,
    target_hz: int,
    channel: int | None = None,
    raw: Raw | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """`count` samples at `target_hz`, the first of which coincides with sample `start` of the recording at `rate_hz`.

    Resampled with soxr (HQ) from a stretch with context on both sides, so that a window equals the same stretch of the
    whole file resampled. No dither. `raw` and `out` as of `read`.
    """
    if rate_hz == target_hz:
        return read(path, start, count, channel, raw, out)
    before, after = margins(rate_hz, target_hz)
    needed = -(-count * rate_hz // target_hz)
    samples = read(path, start - before, needed + 2 * before, channel, raw)
    resampled = soxr.resample(samples.astype(np.float32), rate_hz, target_hz, quality="HQ")
    found = resampled[after : after + count]
    if len(found) < count:
        found = np.pad(found, (0, count - len(found)))
    return put(to_int16(found) if samples.dtype == np.int16 else found, out)


def margins(rate_hz: int, target_hz: int) -> tuple[int, int]:
    """The context on either side of a stretch that is resampled, in samples at either rate: the same time to the sample."""
    divisor = gcd(rate_hz, target_hz)
    source_unit, target_unit = rate_hz // divisor, target_hz // divisor
    units = -(-RESAMPLER_MARGIN // min(source_unit, target_unit))
    return units * source_unit, units * target_unit


def write_wav(path: Path, samples: np.ndarray, rate_hz: int) -> None:
    """Write samples in [-1, 1] as 16-bit WAV, atomically and without dither."""
    memory = io.BytesIO()
    soundfile.write(memory, to_pcm(samples), rate_hz, subtype="PCM_16", format="WAV")
    write_bytes(path, memory.getbuffer())


def to_float(samples: np.ndarray) -> np.ndarray:
    """Samples in [-1, 1] as float32."""
    return samples.astype(np.float32) * np.float32(1 / 32768) if samples.dtype == np.int16 else samples


def reason_of(error: Exception) -> str:
    """What libsndfile complains of, without the name of the file."""
    return str(error).rsplit(": ", 1)[-1].strip().rstrip(".")
