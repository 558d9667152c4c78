"""The backgrounds of the demo corpus: wind, rain, insects, running water and other species, as loops."""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from scipy import fft

from audiorep.data.synth.signals import (
    Loop,
    Signal,
    band,
    bell,
    coloured_noise,
    filtered,
    frequency_scale,
    unit,
    wander,
)
from audiorep.data.synth.voices import Individual, glide, sing, swell


def wind(rng: Generator, count: int, sample_rate_hz: int) -> Signal:
    """Low rumble in gusts."""
    gusts = np.exp(0.7 * wander(rng, count, sample_rate_hz, 0.7))
    return gusts * coloured_noise(rng, count, sample_rate_hz, band(30.0, 260.0, sample_rate_hz))


def rain(rng: Generator, count: int, sample_rate_hz: int) -> Signal:
    """Drops on leaves over a fine high hiss."""
    drops = rng.exponential(1.0, count) * (rng.random(count) < 120 / sample_rate_hz)
    patter = unit(filtered(drops, sample_rate_hz, band(1900.0, 6000.0, sample_rate_hz)))
    return patter + 0.5 * coloured_noise(rng, count, sample_rate_hz, band(2500.0, 6500.0, sample_rate_hz))


def insects(rng: Generator, count: int, sample_rate_hz: int) -> Signal:
    """Two choirs of narrow pulsed tone."""
    time_s = np.arange(count) / sample_rate_hz
    choir = np.zeros(count)
    for tone_hz in frequency_scale(sample_rate_hz) * rng.uniform((4600, 5600), (5500, 6800)):
        pulse = 0.5 + 0.5 * np.sin(2 * np.pi * int(rng.integers(18, 45)) * time_s)
        level = np.exp(0.4 * wander(rng, count, sample_rate_hz, 1.0))
        choir += level * pulse * coloured_noise(rng, count, sample_rate_hz, bell(tone_hz, 0.018))
    return choir


def stream(rng: Generator, count: int, sample_rate_hz: int) -> Signal:
    """Running water: a broad wash, and bubbling above it."""
    bubbles = np.exp(0.6 * wander(rng, count, sample_rate_hz, 14.0))
    wash = coloured_noise(rng, count, sample_rate_hz, band(250.0, 1600.0, sample_rate_hz))
    return wash + 0.6 * bubbles * coloured_noise(rng, count, sample_rate_hz, band(700.0, 3200.0, sample_rate_hz))


def neighbours(rng: Generator, count: int, sample_rate_hz: int) -> Signal:
    """Far-off phrases of other species: two to six equal notes of some pitch and slant, with echoes."""
    stranger = Individual("stranger", 1.0, 1.0, 1.0, 12.0, 0.004, 0.1)
    choir = np.zeros(count)
    for onset in rng.integers(0, count, max(1, round(0.4 * count / sample_rate_hz))):
        first_hz = 800 * 6.5 ** rng.random()
        samples = round(rng.uniform(0.05, 0.2) * sample_rate_hz)
        contour_hz = glide(stranger, (first_hz, first_hz * rng.uniform(0.8, 1.25)), samples)
        peep = sing(rng, stranger, sample_rate_hz, contour_hz) * swell(rng, samples, 0.3, 0.5)
        peep *= rng.uniform(0.3, 1.0)
        for repeat in range(int(rng.integers(2, 7))):
            choir[(onset + round(1.5 * repeat * samples) + np.arange(samples)) % count] += peep
    tail = round(0.3 * sample_rate_hz)
    echoes = rng.standard_normal(tail) * np.linspace(1, 0, tail) ** 4
    echoes[0] += 12
    return fft.irfft(fft.rfft(choir) * fft.rfft(echoes, count), count)


# Each source and its loop's length in s; no two share a divisor, so their sum does not repeat in a recording.
SOURCES: dict[str, tuple[Callable[[Generator, int, int], Loop], int]] = {
    "wind": (wind, 31),
    "rain": (rain, 23),
    "insects": (insects, 29),
    "stream": (stream, 19),
    "neighbours": (neighbours, 37),
}
