"""What all synthetic sounds are made with: filters, noise, slow modulation, and the scale of frequencies.

Frequencies are written for sample rates of 16 kHz or more; below that all shrink by `frequency_scale`, so that no tone
passes `CEILING` of the sample rate.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy.random import Generator
from scipy import fft
from scipy.ndimage import uniform_filter1d

Signal = Float[np.ndarray, " t"]
Loop = Float[np.ndarray, " _"]  # a signal whose end runs on into its beginning
Spectrum = Float[np.ndarray, " f"]  # frequencies in Hz, or a linear gain at each
Gain = Callable[[Spectrum], Spectrum]

CEILING = 0.45


def frequency_scale(sample_rate_hz: int) -> float:
    """Factor on all frequencies: 1 from 16 kHz on, proportionally less below."""
    return min(1.0, sample_rate_hz / 16_000)


def amplitude(level_db: float) -> float:
    """Linear factor of a level in dB."""
    return float(10 ** (level_db / 20))


def unit(signal: Signal) -> Signal:
    """The signal at root mean square 1."""
    return signal / np.sqrt(np.mean(signal**2) + 1e-20)


def filtered(signal: Signal, sample_rate_hz: int, gain: Gain) -> Signal:
    """Zero-phase circular filter: a loop stays a loop."""
    hz = fft.rfftfreq(len(signal), 1 / sample_rate_hz)
    return fft.irfft(fft.rfft(signal) * gain(hz), len(signal))


def coloured_noise(rng: Generator, count: int, sample_rate_hz: int, gain: Gain) -> Signal:
    """Gaussian noise with a spectrum, at root mean square 1."""
    return unit(filtered(rng.standard_normal(count), sample_rate_hz, gain))


def band(low_hz: float, high_hz: float, sample_rate_hz: int) -> Gain:
    """Gain of a band, second-order Butterworth at either edge, scaled to the sample rate."""
    low_hz, high_hz = frequency_scale(sample_rate_hz) * np.array((low_hz, high_hz))
    return lambda hz: 1 / np.sqrt((1 + (low_hz / np.maximum(hz, 1e-3)) ** 4) * (1 + (hz / high_hz) ** 4))


def bell(centre_hz: float, octaves: float) -> Gain:
    """Gain that falls to 1/e within so many octaves on either side of a frequency."""
    return lambda hz: np.exp(-((np.log2(np.maximum(hz, 1e-3) / centre_hz) / octaves) ** 2))


def wander(rng: Generator, count: int, sample_rate_hz: int, changes_per_s: float) -> Signal:
    """Smooth random modulator of about unit deviation that turns so many times a second."""
    knots = rng.standard_normal(max(4, round(changes_per_s * count / sample_rate_hz)))
    place = np.linspace(0, len(knots), count, endpoint=False)
    contour = np.interp(place, np.arange(len(knots) + 1), np.append(knots, knots[0]))
    return 1.4 * uniform_filter1d(contour, max(1, count // len(knots)), mode="wrap")
