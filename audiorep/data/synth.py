"""The sounds of the demo corpus: twelve call types in ten voices, and the places they are heard in.

Every function draws from the generator that it is given. Frequencies are written for sample rates of 16 kHz
or more; below that all shrink by `frequency_scale`, so that no tone passes `CEILING` of the sample rate.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float
from numpy.random import Generator
from scipy import fft
from scipy.ndimage import uniform_filter1d
from scipy.signal import fftconvolve

Signal = Float[np.ndarray, " t"]
Loop = Float[np.ndarray, " _"]  # a signal whose end runs on into its beginning
Spectrum = Float[np.ndarray, " f"]  # frequencies in Hz, or a linear gain at each
Gain = Callable[[Spectrum], Spectrum]

CEILING = 0.45
LONGEST_CALL_S = 0.8
FLOOR_DB = -44.0  # where a background of 0 dB lies, relative to full scale


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


def frequency_scale(sample_rate_hz: int) -> float:
    """Factor on all frequencies: 1 from 16 kHz on, proportionally less below."""
    return min(1.0, sample_rate_hz / 16_000)


def amplitude(level_db: float) -> float:
    """Linear factor of a level in dB."""
    return float(10 ** (level_db / 20))


def call_samples(rng: Generator, individual: Individual, sample_rate_hz: int, typical_s: float) -> int:
    """Length of one rendition in samples, `LONGEST_CALL_S` at most."""
    duration_s = typical_s * individual.tempo * rng.uniform(0.88, 1.12)
    return round(min(duration_s, LONGEST_CALL_S) * sample_rate_hz)


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


SWEEP_HZ = (
    1750.0,
    3900.0,
)  # the band of both sweeps, the arch and the warble: only the order in time differs
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
