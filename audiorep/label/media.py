"""What the page shows and plays of a clip: a spectrogram at the recording's own rate, and sound, slowed where wanted."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from jaxtyping import Float
from matplotlib import colormaps
from PIL import Image

from audiorep.data.audio import probe, read, to_float
from audiorep.errors import AudioError
from audiorep.label.clips import Clip

LONGEST_S = 30.0
"""More of a recording than this is never drawn or played at once."""

BROWSER_HZ = (8000, 48000)
"""Sample rates that every browser plays."""

WIDTH, HEIGHT = 800, 256
PALETTE = np.rint(255.0 * colormaps["magma"](np.arange(256))[:, :3]).astype(np.uint8).tobytes()
WINDOW_PIXELS, LONGEST_WINDOW = 4, 8192
"""Length of the analysis window, in columns of the picture, and in samples at most."""

SILENCE_DB = -120.0
"""What digital silence is taken for; it is always black."""

LOUDEST_DB = 0.995
"""The part of all points that lie below full brightness."""


@dataclass(frozen=True)
class Stretch:
    """A part of a recording: a clip and what surrounds it.

    start, count: samples at `rate_hz`, within the file.
    """

    path: Path
    start: int
    count: int
    rate_hz: int
    channel: int | None

    @property
    def start_s(self) -> float:
        return self.start / self.rate_hz

    @property
    def end_s(self) -> float:
        return (self.start + self.count) / self.rate_hz


def around(clip: Clip, folder: Path, context_s: float) -> Stretch:
    """A clip with so much before and behind it as there is, at most `LONGEST_S` in all.

    Raises:
        AudioError: the recording is not there, or not readable.
    """
    path = folder / clip.path
    info = probe(path)
    if info.rate_hz != clip.rate_hz:
        raise AudioError(
            f"{path}: {info.rate_hz} Hz now, {clip.rate_hz} Hz when it was indexed: another file of that name?"
        )
    context = round(max(0.0, context_s) * info.rate_hz)
    start = max(0, clip.start - context)
    end = min(info.frames, clip.end + context, start + round(LONGEST_S * info.rate_hz))
    if end <= start:
        raise AudioError(f"{path}: ends before this clip begins: another file of that name?")
    return Stretch(path, start, end - start, info.rate_hz, clip.channel or None)


def samples_of(stretch: Stretch) -> Float[np.ndarray, " t"]:
    """Its sound, in [-1, 1]."""
    return to_float(read(stretch.path, stretch.start, stretch.count, stretch.channel))


def decibels(
    stretch: Stretch, low_hz: float, high_hz: float, width: int, height: int
) -> Float[np.ndarray, "height width"]:
    """Power in dB: a column for each `width`-th part of the time, rows from `low_hz` up to `high_hz`; of what falls into one
    point, the loudest.

    The Hann window is `WINDOW_PIXELS` columns long, but never so short that a row has no bin of its own, and of
    `LONGEST_WINDOW` samples at most; beyond it, rows share bins. At the edges it hears what lies around the stretch.
    """
    rate_hz, count = stretch.rate_hz, stretch.count
    hop = max(1, count // width)
    bins = int(np.ceil(height * rate_hz / (high_hz - low_hz)))
    size = int(2 ** np.ceil(np.log2(np.clip(max(WINDOW_PIXELS * hop, bins), 64, LONGEST_WINDOW))))
    start = stretch.start + hop // 2 - size // 2  # each window lies around the middle of its hop
    wave = to_float(read(stretch.path, start, count + size, stretch.channel))
    window = torch.hann_window(size)
    spectrum = torch.stft(torch.from_numpy(wave), size, hop, window=window, return_complex=True, center=False)
    hz, samples = np.linspace(low_hz, high_hz, height + 1), np.linspace(0.0, count, width + 1)
    found = loudest(loudest(spectrum.abs().square().numpy(), hz * size / rate_hz, 0), samples / hop - 0.5, 1)
    return np.asarray(10.0 * np.log10(found + 10.0 ** (SILENCE_DB / 10.0)))


def loudest(x: Float[np.ndarray, "f n"], edges: Float[np.ndarray, " k"], axis: int) -> Float[np.ndarray, "g m"]:
    """The largest value between each two edges, which count along the axis; where nothing lies between, the nearest."""
    first = np.clip(np.floor(edges + 0.5).astype(np.int64), 0, x.shape[axis] - 1)
    kept = x.take(np.arange(max(first[-1], first[-2] + 1)), axis)
    return np.asarray(np.maximum.reduceat(kept, first[:-1], axis))


def spectrogram_png(
    stretch: Stretch,
    low_hz: float = 0.0,
    high_hz: float | None = None,
    range_db: float = 60.0,
    width: int = WIDTH,
    height: int = HEIGHT,
) -> bytes:
    """A picture of `width` by `height` without axes: time to the right, frequency upwards, `range_db` below the loudest
    points black."""
    nyquist = stretch.rate_hz / 2.0
    high = nyquist if high_hz is None else min(nyquist, high_hz)
    low = min(max(0.0, low_hz), 0.95 * high)
    power = decibels(stretch, low, high, width, height)
    top = max(float(np.quantile(power, LOUDEST_DB)), SILENCE_DB + range_db)
    level = np.clip(1.0 + (power - top) / max(1.0, range_db), 0.0, 1.0)
    picture = Image.fromarray(np.rint(255.0 * level[::-1]).astype(np.uint8), "P")
    picture.putpalette(PALETTE)
    memory = io.BytesIO()
    picture.save(memory, "PNG", compress_level=3)
    return memory.getvalue()


def sound_wav(stretch: Stretch, slower: float = 1.0) -> bytes:
    """A WAV as loud as it can be; see `sound`."""
    return sound(stretch, slower)


def sound(stretch: Stretch, slower: float = 1.0, rates_hz: tuple[int, int] = BROWSER_HZ, kind: str = "WAV") -> bytes:
    """16-bit sound as loud as it can be, `slower` times slower and lower: ten times brings 60 kHz down to 6 kHz.

    The samples stay as they are and the rate in the header changes, unless it is not between the two of `rates_hz`.

    Args:
        kind: "WAV", or "FLAC" for half the bytes.
    """
    wave = samples_of(stretch)
    rate = stretch.rate_hz / max(0.1, slower)
    lowest, highest = rates_hz
    if not lowest <= rate <= highest:
        target = highest if rate > highest else lowest
        wave = soxr.resample(wave, rate, target, quality="HQ")
        rate = target
    peak = float(np.abs(wave).max(initial=0.0))
    memory = io.BytesIO()
    soundfile.write(memory, wave * (0.9 / peak if peak > 0.0 else 1.0), round(rate), subtype="PCM_16", format=kind)
    return memory.getvalue()
