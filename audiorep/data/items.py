"""Which windows of which rows: items (row, window of the row, number of windows of the row, seed of the draw)."""

from collections.abc import Sequence

import numpy as np

Item = Sequence[int] | np.ndarray
"""The four numbers of a window; the seed of a fixed one is negative. Many are an array [b 4]."""


def one_each(rows: np.ndarray) -> np.ndarray:
    """Fixed items [n 4]: one window of each of some rows, from its middle."""
    return np.stack([rows, np.zeros_like(rows), np.ones_like(rows), np.full_like(rows, -1)], 1)


def side_by_side(counts: np.ndarray) -> np.ndarray:
    """Fixed items [n 4] of so many windows in each row."""
    row = np.repeat(np.arange(len(counts)), counts)
    k = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.stack([row, k, np.repeat(counts, counts), np.full_like(row, -1)], 1)


def uniform(draw: np.ndarray, row: np.ndarray, k: np.ndarray) -> np.ndarray:
    """[b] numbers in [0, 1), the same for the same (draw, row, k): SplitMix64 over one after the other.

    Source: Steele, Lea, Flood 2014, doi:10.1145/2660193.2660195.
    """
    mixed = np.zeros(len(draw), np.uint64)
    for part in (draw, row, k):
        mixed = (mixed ^ part.astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)) * 2.0**-53
