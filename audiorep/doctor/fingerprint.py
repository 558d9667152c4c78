"""Acoustic fingerprints: the same sound in two files is found although it was cut, turned up or coded anew."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt32

BANDS, LOW_HZ, TOP = 33, 300.0, 0.45
"""Bands whose differences make the 32 bits of a word; from here to this part of the lowest sample rate."""

WINDOW_S, HOP_S = 0.37, 0.37 / 16
"""Windows overlap by 15/16, so that files that were cut elsewhere still give nearly the same words."""

FLOOR = 1e-9
"""Mean power of a frame below which there is nothing to tell by."""

COMMON = 20
"""A word that occurs more often than this tells nothing."""

LEAST_S, FEWEST = 1.0, 4
"""Shorter stretches are not compared; so many equal words at one distance make two files suspect."""

ERRORS = 0.3
"""Of random bits one half differs; below this part it is the same sound."""


Print = tuple[UInt32[np.ndarray, " _"], Bool[np.ndarray, " _"]]
"""Words of a recording, and where there was anything to hear."""


@dataclass(frozen=True)
class Match:
    """`seconds` of the first file, from `at_s` on, are also in the second, from `there_s` on."""

    first: int
    second: int
    seconds: float
    at_s: float
    there_s: float
    errors: float


def edges_hz(lowest_rate_hz: int) -> Float[np.ndarray, " e"]:
    """Edges of the bands, in equal ratios, for a corpus whose lowest sample rate is given."""
    top = TOP * lowest_rate_hz
    return np.geomspace(min(LOW_HZ, top / 4), top, BANDS + 1)


def hop_samples(rate_hz: int) -> int:
    """From word to word."""
    return max(1, round(HOP_S * rate_hz))


def words(
    wave: Float[np.ndarray, " t"], rate_hz: int, edges: Float[np.ndarray, " e"]
) -> tuple[UInt32[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """A 32-bit word every `HOP_S`, and whether there was anything to hear.

    Bit b of word n: ``E[n, b] - E[n, b + 1] > E[n - 1, b] - E[n - 1, b + 1]``, E the logarithm of a band's power.

    Source: Haitsma and Kalker 2002, ISMIR, "A highly robust audio fingerprinting system", section 4.2.
    """
    size, hop = round(WINDOW_S * rate_hz), hop_samples(rate_hz)
    if len(wave) < size + hop:
        return np.empty(0, np.uint32), np.empty(0, bool)
    window = torch.hann_window(size)
    bins = np.clip(np.rint(edges * size / rate_hz).astype(int), 1, size // 2)
    spectrum = torch.stft(torch.from_numpy(wave), size, hop, window=window, center=False, return_complex=True)
    power = spectrum.abs().square()
    summed = torch.cat([power.new_zeros(1, power.shape[1]), power.cumsum(0, dtype=torch.float64).float()])
    low, high = bins[:-1], np.maximum(bins[1:], bins[:-1] + 1)
    energy = ((summed[high] - summed[low]) / torch.from_numpy(high - low)[:, None].float()).clamp_min(0.0)
    slope = (energy + 1e-12).log().diff(dim=0)
    bits = (slope[:, 1:] < slope[:, :-1]).numpy()
    heard = (power.mean(0)[1:] / size > FLOOR).numpy()
    return (bits * (1 << np.arange(BANDS - 1, dtype=np.uint64))[:, None]).sum(0).astype(np.uint32), heard


def matches(
    files: Sequence[Print],
) -> list[Match]:
    """Pairs of files of which one second or more is the same sound, each pair once, the longest stretch of it.

    Words that two files share at one distance in time make a pair suspect; then all words of the overlap are compared.
    """
    word = np.concatenate([w[h] for w, h in files]) if files else np.empty(0, np.uint32)
    file = np.concatenate([np.full(int(h.sum()), i) for i, (_, h) in enumerate(files)]) if files else np.empty(0, int)
    place = np.concatenate([np.flatnonzero(h) for _, h in files]) if files else np.empty(0, int)
    order = np.argsort(word, kind="stable")
    word, file, place = word[order], file[order], place[order]
    starts = np.flatnonzero(np.r_[True, word[1:] != word[:-1]]) if len(word) else np.empty(0, int)
    sizes = np.diff(np.r_[starts, len(word)])
    found: list[np.ndarray] = []
    for distance in range(1, min(COMMON, len(word))):
        # neighbours at this distance in the sorted list that lie in one group of equal words
        inside = np.repeat((sizes > distance) & (sizes <= COMMON), sizes)
        left = np.flatnonzero(inside[: len(word) - distance] & (word[: len(word) - distance] == word[distance:]))
        right = left + distance
        other = file[left] != file[right]
        a, b = left[other], right[other]
        swap = file[a] > file[b]
        a, b = np.where(swap, b, a), np.where(swap, a, b)
        found.append(np.stack([file[a], file[b], place[b] - place[a]], 1))
    pairs = np.concatenate(found) if found else np.empty((0, 3), int)
    if not len(pairs):
        return []
    kinds, count = np.unique(pairs, axis=0, return_counts=True)
    best: dict[tuple[int, int], Match] = {}
    for (a, b, shift), many in zip(kinds.tolist(), count.tolist(), strict=True):
        match = overlap(files, a, b, shift) if many >= FEWEST else None
        if match is not None and ((a, b) not in best or match.seconds > best[a, b].seconds):
            best[a, b] = match
    return list(best.values())


def overlap(files: Sequence[Print], a: int, b: int, shift: int) -> Match | None:
    """The two files laid over each other, word n of the first on word n + shift of the second; None: not the same sound."""
    (first, heard), (second, heard_too) = files[a], files[b]
    start = max(0, -shift)
    end = min(len(first), len(second) - shift)
    if (end - start) * HOP_S < LEAST_S - WINDOW_S:
        return None
    both = heard[start:end] & heard_too[start + shift : end + shift]
    apart = np.bitwise_count(first[start:end] ^ second[start + shift : end + shift])[both] / (BANDS - 1)
    if both.sum() * HOP_S < LEAST_S - WINDOW_S or apart.mean() > ERRORS:
        return None
    seconds = (end - start) * HOP_S + WINDOW_S
    return Match(a, b, seconds, start * HOP_S, (start + shift) * HOP_S, float(apart.mean()))
