"""The sites of the demo corpus: what sounds at each, how long it echoes, and the recorder that hears it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.random import Generator
from scipy import fft

from audiorep.data.synth.noises import SOURCES
from audiorep.data.synth.signals import (
    Gain,
    Loop,
    Signal,
    amplitude,
    band,
    bell,
    coloured_noise,
    filtered,
    frequency_scale,
    unit,
)

FLOOR_DB = -44.0  # where a background of 0 dB lies, relative to full scale


@dataclass(frozen=True)
class Recorder:
    """One make of recorder: its band, a resonance within, and its own noise."""

    name: str
    low_hz: float
    high_hz: float
    resonance_hz: float
    resonance_db: float
    gain_db: float
    noise_db: float
    noise_slope_db: float  # per octave


@dataclass(frozen=True)
class Site:
    """One place: what sounds there and how loud, how long it reverberates, and its recorder."""

    name: str
    place: str
    sources_db: Mapping[str, float]
    reverberation_s: float
    recorder: Recorder


RECORDER_LOOP_S = 17

PLAIN = Recorder("plain", 80.0, 9000.0, 2500.0, 0.0, gain_db=0.0, noise_db=-17.0, noise_slope_db=0.0)
BRIGHT = Recorder("bright", 200.0, 12000.0, 5000.0, 5.0, gain_db=2.0, noise_db=-15.0, noise_slope_db=1.0)
DULL = Recorder("dull", 60.0, 5000.0, 1700.0, 4.0, gain_db=-3.0, noise_db=-14.0, noise_slope_db=-2.0)
SITES = (
    Site("s01", "open ridge", {"wind": 0.0, "neighbours": -18.0}, 0.12, PLAIN),
    Site("s02", "dry meadow", {"insects": -15.0, "wind": -6.0, "neighbours": -18.0}, 0.10, BRIGHT),
    Site("s03", "stony brook", {"stream": -6.0, "neighbours": -17.0}, 0.30, DULL),
    Site("s04", "wet canopy", {"rain": -9.0, "insects": -19.0, "neighbours": -16.0}, 0.45, PLAIN),
    Site("s05", "reed marsh", {"insects": -18.0, "neighbours": -13.0, "wind": -6.0}, 0.18, BRIGHT),
    Site("s06", "valley wood", {"stream": -10.0, "rain": -14.0, "neighbours": -15.0}, 0.40, DULL),
)


def response(recorder: Recorder, sample_rate_hz: int) -> Gain:
    """Gain of a recorder over frequency."""
    within = band(recorder.low_hz, recorder.high_hz, sample_rate_hz)
    resonance = bell(recorder.resonance_hz * frequency_scale(sample_rate_hz), 0.7)
    return lambda hz: within(hz) * 10 ** ((recorder.gain_db + recorder.resonance_db * resonance(hz)) / 20)


def site_loops(rng: Generator, site: Site, sample_rate_hz: int) -> list[Loop]:
    """A site's backgrounds as recorded, one loop per source; the last is the recorder's own noise."""
    gain = response(site.recorder, sample_rate_hz)
    loops = []
    for name, level_db in site.sources_db.items():
        source, loop_s = SOURCES[name]
        loop = unit(source(rng, loop_s * sample_rate_hz, sample_rate_hz))
        loops.append(amplitude(FLOOR_DB + level_db) * filtered(loop, sample_rate_hz, gain))
    slope = site.recorder.noise_slope_db / 6.02
    own_count = RECORDER_LOOP_S * sample_rate_hz
    own = coloured_noise(rng, own_count, sample_rate_hz, lambda hz: np.maximum(hz / 1000, 0.05) ** slope)
    return [*loops, amplitude(FLOOR_DB + site.recorder.noise_db) * own]


def background(rng: Generator, loops: list[Loop], count: int) -> Signal:
    """A stretch of a site: each loop from its own moment and, save the recorder's noise, louder or softer."""
    scene = np.zeros(count)
    for place, loop in enumerate(loops, 1):
        level_db = rng.uniform(-5, 3) if place < len(loops) else 0.0
        moments = rng.integers(len(loop)) + np.arange(count)
        scene += amplitude(level_db) * np.take(loop, moments, mode="wrap")
    return scene


def received(
    rng: Generator, call: Float[np.ndarray, " _"], site: Site, sample_rate_hz: int, distance_m: float
) -> Signal:
    """A call as the site's recorder gets it from afar, echoes included; its level is left to the caller.

    Air and leaves take 6 dB per 100 m at 4 kHz, growing as frequency to the power 1.5.
    """
    tail = round(site.reverberation_s * sample_rate_hz)
    echoes = rng.standard_normal(tail) * np.exp(-6.9 * np.arange(tail) / tail)
    echoes *= 0.9 * np.sqrt(distance_m / 100 / np.sum(echoes**2))
    echoes[0] = 1.0
    length = fft.next_fast_len(len(call) + tail, real=True)
    hz = fft.rfftfreq(length, 1 / sample_rate_hz)
    absorption_db = 6 * distance_m / 100 * (hz / (4000 * frequency_scale(sample_rate_hz))) ** 1.5
    gain = response(site.recorder, sample_rate_hz)(hz) * 10 ** (-absorption_db / 20)
    return fft.irfft(fft.rfft(call, length) * fft.rfft(echoes, length) * gain, length)[: len(call) + tail]
