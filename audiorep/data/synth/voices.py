"""The voices of the demo corpus: individuals, and how one sings along a contour or clicks."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy.ndimage import uniform_filter1d
from scipy.signal import fftconvolve

from audiorep.data.synth.signals import CEILING, Gain, Signal, frequency_scale


@dataclass(frozen=True)
class Individual:
    """One animal's voice."""

    name: str
    pitch: float  # factor on every frequency
    tempo: float  # factor on durations
    depth: float  # exponent on frequency ratios: above 1 sweeps are wider
    vibrato_hz: float
    vibrato_depth: float  # relative deviation of frequency
    overtone: float  # amplitude of the second partial relative to the first


def draw_individuals(rng: Generator, count: int = 10) -> list[Individual]:
    """Voices whose pitches and tempi are evenly spread, so that every seed is about as hard as the next."""
    pitches = np.exp2(rng.permutation(np.linspace(-0.18, 0.18, count))).tolist()
    tempi = np.exp2(rng.permutation(np.linspace(-0.35, 0.25, count))).tolist()
    return [
        Individual(
            name=f"i{number:02d}",
            pitch=pitch,
            tempo=tempo,
            depth=rng.uniform(0.9, 1.1),
            vibrato_hz=rng.uniform(9, 22),
            vibrato_depth=rng.uniform(0.0, 0.012),
            overtone=rng.uniform(0.05, 0.3),
        )
        for number, (pitch, tempo) in enumerate(zip(pitches, tempi, strict=True), 1)
    ]


def glide(individual: Individual, knots_hz: tuple[float, ...], count: int) -> Signal:
    """Contour in Hz through evenly spaced knots, straight in log frequency, with rounded corners."""
    knots = np.log2(knots_hz)
    knots = knots.mean() + individual.depth * (knots - knots.mean())
    contour = np.interp(np.linspace(0, len(knots) - 1, count), np.arange(len(knots)), knots)
    return np.exp2(uniform_filter1d(contour, max(1, count // (4 * len(knots))), mode="nearest"))


def swell(rng: Generator, count: int, attack: float = 0.2, release: float = 0.25) -> Signal:
    """Envelope that rises and falls within these fractions of its length, and flutters slowly between."""
    place = (np.arange(count) + 0.5) / count
    edges = np.minimum(place / attack, 1), np.minimum((1 - place) / release, 1)
    flutter = np.interp(place, np.linspace(0, 1, 7), rng.uniform(0.6, 1.0, 7))
    return np.sin(edges[0] * np.pi / 2) ** 2 * np.sin(edges[1] * np.pi / 2) ** 2 * flutter


def sing(
    rng: Generator,
    individual: Individual,
    sample_rate_hz: int,
    contour_hz: Signal,
    partials: int = 2,
    formants: Gain | None = None,
) -> Signal:
    """Harmonic tone along a contour; the partials follow `formants`, or fall off as the voice has it."""
    time_s = np.arange(len(contour_hz)) / sample_rate_hz
    vibrato = np.sin(2 * np.pi * (individual.vibrato_hz * time_s + rng.random()))
    factor = individual.pitch * frequency_scale(sample_rate_hz) * rng.uniform(0.96, 1.04)
    pitch_hz = factor * contour_hz * (1 + individual.vibrato_depth * vibrato)
    phase = 2 * np.pi * (np.cumsum(pitch_hz) / sample_rate_hz + rng.random())
    ceiling_hz = CEILING * sample_rate_hz
    tone = np.zeros(len(contour_hz))
    for order in range(1, partials + 1):
        partial_hz = order * pitch_hz
        gain = formants(partial_hz) if formants else individual.overtone ** (order - 1)
        tone += gain * np.clip((ceiling_hz - partial_hz) / (0.05 * ceiling_hz), 0, 1) * np.sin(order * phase)
    return tone


def pulses(
    rng: Generator, individual: Individual, sample_rate_hz: int, count: int, rate_hz: float, centre_hz: float
) -> Signal:
    """Damped clicks around `centre_hz`, a few ms each, at a nearly even rate."""
    scale = frequency_scale(sample_rate_hz)
    centre_hz *= individual.pitch * scale * rng.uniform(0.92, 1.08)
    time_s = np.arange(round(0.006 / scale * sample_rate_hz)) / sample_rate_hz
    click = np.exp(-time_s * scale / 0.0009) * np.sin(2 * np.pi * centre_hz * time_s)
    onsets = np.arange(0, count - len(click), sample_rate_hz / rate_hz)
    onsets += rng.uniform(0, 0.06, len(onsets)) * sample_rate_hz / rate_hz
    train = np.zeros(count)
    train[onsets.astype(int)] = rng.uniform(0.6, 1.0, len(onsets))
    return fftconvolve(train, click)[:count]
