"""Detections against annotations: which calls were found, where they begin, and what was reported that is none."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from audiorep.errors import AudiorepError
from audiorep.evaluate.metrics import divide

COLUMNS = ("path", "start_s", "end_s", "label")


@dataclass(frozen=True)
class Tolerance:
    """What counts as found: onsets at most `onset_s` apart, and an overlap of at least `iou` of what both cover together."""

    onset_s: float = 0.01
    iou: float = 0.5

    def __post_init__(self) -> None:
        if self.onset_s < 0 or not 0 <= self.iou <= 1:
            raise AudiorepError(f"onset_s={self.onset_s}, iou={self.iou}: a time from 0 on and a part of 1 are needed")


def match(found: pd.DataFrame, true: pd.DataFrame, tolerance: Tolerance) -> tuple[np.ndarray, np.ndarray]:
    """The largest number of pairs of a detection and an annotation of one recording and label, each used once.

    Args:
        found, true: path, start_s, end_s, label.

    Returns:
        Row numbers in `found` and in `true` [pairs].

    Source: Mesaros, Heittola, Virtanen 2016, doi:10.3390/app6060162, section 3.2 (event-based); the assignment is the
    maximum matching, not the first that fits.
    """
    keys = (
        pd.concat([found[["path", "label"]], true[["path", "label"]]]).groupby(["path", "label"], sort=False).ngroup()
    )
    key_found, key_true = keys.to_numpy()[: len(found)], keys.to_numpy()[len(found) :]
    start, end = (found[name].to_numpy(float) for name in ("start_s", "end_s"))
    from_s, to_s = (true[name].to_numpy(float) for name in ("start_s", "end_s"))
    order = np.lexsort((from_s, key_true))
    span = 2.0 * tolerance.onset_s + 1.0 + max(start.max(initial=0.0), from_s.max(initial=0.0))
    axis = key_true[order] * span + from_s[order]  # groups one after the other, farther apart than any tolerance
    reach = tolerance.onset_s + 1e-6
    low = np.searchsorted(axis, key_found * span + start - reach, "left")
    high = np.searchsorted(axis, key_found * span + start + reach, "right")
    many = np.maximum(high - low, 0)
    row = np.repeat(np.arange(len(found)), many)
    column = order[np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many) + np.repeat(low, many)]
    both = np.minimum(end[row], to_s[column]) - np.maximum(start[row], from_s[column])
    either = np.maximum(end[row], to_s[column]) - np.minimum(start[row], from_s[column])
    good = (both >= tolerance.iou * either - 1e-9) & (both >= 0)
    if not good.any():
        return np.empty(0, np.int64), np.empty(0, np.int64)
    graph = csr_array((np.ones(good.sum(), np.int8), (row[good], column[good])), shape=(len(found), len(true)))
    partner = maximum_bipartite_matching(graph, perm_type="column")
    rows = np.flatnonzero(partner >= 0)
    return rows, partner[rows].astype(np.int64)


@dataclass(frozen=True)
class Counts:
    """Of each recording and class: calls that were found, that are there, and that were reported. [recordings c]"""

    hits: Int[np.ndarray, "m c"]
    true: Int[np.ndarray, "m c"]
    found: Int[np.ndarray, "m c"]


def count(
    found: pd.DataFrame, true: pd.DataFrame, recordings: Sequence[str], classes: Sequence[str], tolerance: Tolerance
) -> Counts:
    """Counts by recording and class; rows of other recordings or classes are left out."""
    shape = (len(recordings), len(classes))
    place = pd.Index(recordings), pd.Index(classes)

    def table(frame: pd.DataFrame) -> np.ndarray:
        at = [index.get_indexer(pd.Index(frame[name])) for index, name in zip(place, ("path", "label"), strict=True)]
        out = np.zeros(shape, np.int64)
        known = (at[0] >= 0) & (at[1] >= 0)
        np.add.at(out, (at[0][known], at[1][known]), 1)
        return out

    rows, _ = match(found, true, tolerance)
    return Counts(table(found.iloc[rows]), table(true), table(found))


def f1(counts: Counts, weight: np.ndarray | None = None) -> np.ndarray:
    """``2 hits / (true + found)`` of each class [c], NaN for classes without a call; `weight` [... recordings]: [... c]."""
    weight = np.ones(len(counts.hits)) if weight is None else weight
    hits, true, found = (weight @ table for table in (counts.hits, counts.true, counts.found))
    return np.where(true > 0, divide(2.0 * hits, true + found), np.nan)


def scores(
    counts: Counts, group: np.ndarray, classes: Sequence[str], resamples: int, seed: int, hours: float
) -> dict[str, float]:
    """Event F1, precision and recall, each class and their mean over the classes that have calls, with 95 % bootstrap
    intervals of the means by `group` [recordings]; and false detections per hour of recording.

    Names: ``event_f1``, ``event_f1/low``, ``event_f1/CLASS``, ``event_precision`` ..., ``event_recall`` ...,
    ``false_detections_per_hour``.
    """
    kinds, code = np.unique(group, return_inverse=True)
    drawn = np.random.default_rng([seed, 7]).multinomial(len(kinds), np.full(len(kinds), 1 / len(kinds)), resamples)
    weight = np.concatenate([np.ones((1, len(group))), drawn[:, code]])
    hits, true, found = (weight @ table for table in (counts.hits, counts.true, counts.found))
    there = true > 0
    figures = {
        "event_f1": divide(2.0 * hits, true + found),
        "event_precision": np.where(found > 0, divide(hits, found), 0.0),
        "event_recall": divide(hits, true),
    }
    out: dict[str, float] = {}
    for name, values in figures.items():
        means = np.array([row[here].mean() if here.any() else np.nan for row, here in zip(values, there, strict=True)])
        out[name] = float(means[0])
        out[f"{name}/low"], out[f"{name}/high"] = (float(x) for x in np.nanquantile(means[1:], (0.025, 0.975)))
        out |= {f"{name}/{label}": float(values[0, c]) for c, label in enumerate(classes) if there[0, c]}
    out["false_detections_per_hour"] = float((counts.found - counts.hits).sum() / hours)
    return out
