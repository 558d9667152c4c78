"""Fingerprints: the same sound is found although it was cut, turned up, coded anew or resampled; other sound is not."""

import io

import numpy as np
import pytest
import soundfile
import soxr

from audiorep.doctor.fingerprint import HOP_S, edges_hz, matches, words

RATE_HZ = 16000
EDGES = edges_hz(8000)


def song(seed, seconds=6.0, rate_hz=RATE_HZ):
    """Chirps over noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    wave = 0.02 * rng.standard_normal(len(t))
    for start in np.arange(0.2, seconds - 0.5, 0.4):
        inside = (t >= start) & (t < start + 0.25)
        low, high = rng.uniform(400, 3000, 2)
        u = t[inside] - start
        wave[inside] += 0.3 * np.sin(2 * np.pi * (low * u + (high - low) / 0.5 * u**2)) * np.hanning(inside.sum())
    return wave.astype(np.float32)


def found(*waves, rates=None):
    rates = rates or [RATE_HZ] * len(waves)
    return matches([words(wave, rate, EDGES) for wave, rate in zip(waves, rates, strict=True)])


def vorbis(wave):
    memory = io.BytesIO()
    soundfile.write(memory, wave, RATE_HZ, format="OGG", subtype="VORBIS")
    memory.seek(0)
    return soundfile.read(memory, dtype="float32")[0]


CHANGES = {
    "cut": lambda wave: wave[12345:],
    "turned down": lambda wave: 0.05 * wave,
    "upside down": lambda wave: -wave,
    "coded anew": vorbis,
    "in noise": lambda wave: wave + 0.004 * np.random.default_rng(9).standard_normal(len(wave)).astype(np.float32),
    "with an offset": lambda wave: wave + 0.1,
}


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_the_same_sound_is_found(change):
    wave = song(1)
    (match,) = found(wave, CHANGES[change](wave), song(2), song(3))
    assert (match.first, match.second) == (0, 1) and match.seconds > 4.5
    assert match.at_s - match.there_s == pytest.approx(12345 / RATE_HZ if change == "cut" else 0.0, abs=2 * HOP_S)


def test_another_sample_rate_does_not_hide_it():
    wave = song(1)
    other = soxr.resample(wave, RATE_HZ, 22050)
    (match,) = found(wave, other, rates=[RATE_HZ, 22050])
    assert match.seconds > 5


def test_a_part_of_a_long_recording_is_found_where_it_is():
    long = np.concatenate([song(i) for i in range(4, 9)])
    (match,) = found(long, song(6), song(20))
    assert (match.first, match.second) == (0, 1)
    assert match.at_s == pytest.approx(12.0, abs=2 * HOP_S) and match.there_s == pytest.approx(0.0, abs=2 * HOP_S)


def test_other_sound_silence_and_short_clips_do_not_match():
    rng = np.random.default_rng(0)
    noise = [rng.standard_normal(6 * RATE_HZ).astype(np.float32) * 0.1 for _ in range(6)]
    hum = np.sin(2 * np.pi * 1000 * np.arange(6 * RATE_HZ) / RATE_HZ).astype(np.float32)
    assert found(*noise, *(song(i) for i in range(30, 40)), hum) == []
    assert found(np.zeros(6 * RATE_HZ, np.float32), np.zeros(6 * RATE_HZ, np.float32)) == []
    assert found(song(1)[: RATE_HZ // 4], song(1)[: RATE_HZ // 4]) == [] and matches([]) == []
    few = (np.arange(2, dtype=np.uint32), np.ones(2, bool))
    assert matches([few, few]) == []


def test_words_are_those_of_the_formula():
    """One word, bit by bit, by loops in float64."""
    wave, size, hop = song(3, 1.0), round(0.37 * RATE_HZ), round(HOP_S * RATE_HZ)
    word, heard = words(wave, RATE_HZ, EDGES)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    bins = np.clip(np.rint(EDGES * size / RATE_HZ).astype(int), 1, size // 2)

    def energies(n):
        power = np.abs(np.fft.rfft(wave[n * hop : n * hop + size].astype(float) * window)) ** 2
        return [np.log(power[bins[b] : max(bins[b + 1], bins[b] + 1)].mean() + 1e-12) for b in range(33)]

    for n in (1, 7):
        now, before = energies(n), energies(n - 1)
        bits = sum(1 << b for b in range(32) if now[b] - now[b + 1] > before[b] - before[b + 1])
        assert bin(bits ^ int(word[n - 1])).count("1") <= 1  # float32 may turn a bit that hangs in the balance
    assert heard.all() and len(word) == (len(wave) - size) // hop
