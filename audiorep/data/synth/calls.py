"""The call types of the demo corpus: one function each, from a generator, a voice and a sample rate to a signal."""

from collections.abc import Callable
from functools import partial

import numpy as np
from jaxtyping import Float
from numpy.random import Generator

from audiorep.data.synth.signals import Signal, bell, frequency_scale
from audiorep.data.synth.voices import Individual, glide, pulses, sing, swell

LONGEST_CALL_S = 0.8


def call_samples(rng: Generator, individual: Individual, sample_rate_hz: int, typical_s: float) -> int:
    """Length of one rendition in samples, `LONGEST_CALL_S` at most."""
    duration_s = typical_s * individual.tempo * rng.uniform(0.88, 1.12)
    return round(min(duration_s, LONGEST_CALL_S) * sample_rate_hz)


SWEEP_HZ = (1750.0, 3900.0)  # the band of both sweeps, the arch and the warble: only the order in time differs
TRILL_HZ = (5300.0, 3900.0)  # each note of either trill
VOICED_HZ = (370.0, 560.0)  # the fundamental of both harmonic calls


def note(
    rng: Generator, individual: Individual, sample_rate_hz: int, knots_hz: tuple[float, ...], typical_s: float
) -> Signal:
    """One note along a contour."""
    count = call_samples(rng, individual, sample_rate_hz, typical_s)
    return sing(rng, individual, sample_rate_hz, glide(individual, knots_hz, count)) * swell(rng, count)


def whistle(rng: Generator, individual: Individual, sample_rate_hz: int) -> Signal:
    """A level whistle below the sweeps; where exactly is left to chance."""
    level_hz = rng.uniform(1150, 1650)
    knots_hz = (0.94 * level_hz, level_hz, level_hz, 0.97 * level_hz)
    return note(rng, individual, sample_rate_hz, knots_hz, typical_s=0.42)


def warble(rng: Generator, individual: Individual, sample_rate_hz: int) -> Signal:
    """Three or four swings through the whole band and back."""
    return note(rng, individual, sample_rate_hz, SWEEP_HZ * int(rng.integers(4, 6)), typical_s=0.62)


def two_note(rng: Generator, individual: Individual, sample_rate_hz: int) -> Signal:
    """A high note, a breath, a low note."""
    high_hz = rng.uniform(3100, 3500)
    high = note(rng, individual, sample_rate_hz, (high_hz, 0.97 * high_hz), typical_s=0.2)
    low = note(rng, individual, sample_rate_hz, (0.66 * high_hz, 0.63 * high_hz), typical_s=0.26)
    return np.concatenate([0.85 * high, np.zeros(round(0.06 * sample_rate_hz)), low])


def trill(rng: Generator, individual: Individual, sample_rate_hz: int, notes_per_s: float) -> Signal:
    """A down-slurred note again and again; at any rate the notes fill 0.6 of the time."""
    period = round(sample_rate_hz / (notes_per_s * rng.uniform(0.93, 1.07)) * np.sqrt(individual.tempo))
    count = round(0.6 * period)
    longest = int((LONGEST_CALL_S * sample_rate_hz - count) // period) + 1
    repeats = round(call_samples(rng, individual, sample_rate_hz, typical_s=0.58) / period)
    repeats = min(max(3, repeats), longest)
    slur = sing(rng, individual, sample_rate_hz, glide(individual, TRILL_HZ, count))
    loudness = np.linspace(0.6, 1, repeats) * rng.uniform(0.85, 1, repeats)
    song = np.zeros((repeats, period))
    song[:, :count] = np.outer(loudness, slur * swell(rng, count, attack=0.3, release=0.4))
    return song.ravel()[: (repeats - 1) * period + count]


def harmonic(rng: Generator, individual: Individual, sample_rate_hz: int, knots_hz: tuple[float, ...]) -> Signal:
    """A voiced call: many partials under two formants that sit where the individual's size puts them."""
    size = individual.pitch * frequency_scale(sample_rate_hz)
    first = bell(1300 * size * rng.uniform(0.93, 1.07), 0.45)
    second = bell(3400 * size * rng.uniform(0.93, 1.07), 0.3)
    count = call_samples(rng, individual, sample_rate_hz, typical_s=0.48)
    contour_hz = glide(individual, knots_hz, count)
    return sing(
        rng, individual, sample_rate_hz, contour_hz, 14, lambda hz: first(hz) + 0.6 * second(hz) + 0.12
    ) * swell(rng, count)


def click_train(rng: Generator, individual: Individual, sample_rate_hz: int) -> Signal:
    """Separate clicks, some fifteen a second."""
    count = call_samples(rng, individual, sample_rate_hz, typical_s=0.6)
    return pulses(rng, individual, sample_rate_hz, count, rng.uniform(12, 18), centre_hz=3500.0)


def buzz(rng: Generator, individual: Individual, sample_rate_hz: int) -> Signal:
    """Lower clicks, so fast that they fuse."""
    count = call_samples(rng, individual, sample_rate_hz, typical_s=0.45)
    rate_hz = 110 * individual.pitch * frequency_scale(sample_rate_hz) * rng.uniform(0.9, 1.1)
    return pulses(rng, individual, sample_rate_hz, count, rate_hz, centre_hz=2300.0) * swell(rng, count)


CALLS: dict[str, Callable[[Generator, Individual, int], Float[np.ndarray, " _"]]] = {
    "whistle": whistle,
    "upsweep": partial(note, knots_hz=SWEEP_HZ, typical_s=0.4),
    "downsweep": partial(note, knots_hz=SWEEP_HZ[::-1], typical_s=0.4),
    "arch": partial(note, knots_hz=(*SWEEP_HZ, SWEEP_HZ[0]), typical_s=0.46),
    "warble": warble,
    "fast_trill": partial(trill, notes_per_s=16.0),
    "slow_trill": partial(trill, notes_per_s=6.5),
    "harmonic_stack": partial(harmonic, knots_hz=(*VOICED_HZ, VOICED_HZ[0])),
    "harmonic_fall": partial(harmonic, knots_hz=VOICED_HZ[::-1]),
    "click_train": click_train,
    "buzz": buzz,
    "two_note": two_note,
}
