"""Which windows stand in a batch together: shuffled, balanced over labels or clusters, or in pairs near in time.

A drawing is a function of windows that yields the batches [batch 4] of one epoch, items as `audiorep.data.windows.Item`.
"""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np

from audiorep.data.windows import Windows
from audiorep.errors import AudiorepError

Batches = Iterator[np.ndarray]


@runtime_checkable
class Drawing(Protocol):
    """Draws the batches of one epoch from `rng` alone."""

    units: int
    """Windows of one pass over the corpus."""

    def batches(
        self, rng: np.random.Generator, batch: int, steps: int, draw: int, partition: np.ndarray | None
    ) -> Batches:
        """Yield `steps` arrays [batch 4]. `draw` seeds the crops; `partition` [rows] is the objective's clustering."""
        ...


class Shuffled:
    """Every window once, in a new order each epoch; a long row comes as often as windows fit into it."""

    def __init__(self, windows: Windows) -> None:
        counts = windows.windows_per_row()
        self.rows = np.repeat(np.arange(len(counts)), counts)
        self.units = len(self.rows)

    def batches(
        self, rng: np.random.Generator, batch: int, steps: int, draw: int, partition: np.ndarray | None
    ) -> Batches:
        order = rng.permutation(self.units)
        for step in range(steps):
            unit = order[step * batch : (step + 1) * batch]
            yield np.stack([self.rows[unit], unit, np.ones_like(unit), np.full_like(unit, draw)], 1)


class Balanced:
    """As many rows of one group as of another: a batch holds `per_group` rows of each of batch / per_group groups.

    Groups are labels (`by="label"`), domains (`by="domain"`), of which unlabelled and unknown rows never come, or the
    objective's clusters (`by="partition"`; as long as there are none, every row is its own). Groups and rows are drawn
    with replacement only where there are too few.

    Args:
        windows: the rows.
        by: label, domain or partition.
        per_group: rows of a group in a batch; 1: groups come alike often, in no pairs.

    Raises:
        AudiorepError: no labels.
    """

    def __init__(self, windows: Windows, by: str = "label", per_group: int = 4) -> None:
        if per_group < 1:
            raise AudiorepError(f"data.sampler.per_group={per_group}: at least 1")
        self.by, self.per_group = by, per_group
        self.fallback = Shuffled(windows)
        self.units = self.fallback.units
        groups = {"label": label_codes(windows.label), "domain": windows.domain}
        self.group = groups.get(by)
        if by == "label" and not (groups["label"] >= 0).any():
            raise AudiorepError(
                "the windows shall be drawn by label and no row of the training side has one: label some, or choose "
                "positives=augmentation; against sites or recorders without labels: objective=domain_negatives"
            )

    def batches(
        self, rng: np.random.Generator, batch: int, steps: int, draw: int, partition: np.ndarray | None
    ) -> Batches:
        group = partition if self.group is None else self.group
        if group is None:
            yield from self.fallback.batches(rng, batch, steps, draw, None)
            return
        members = [np.flatnonzero(group == value) for value in np.unique(group[group >= 0])]
        wanted = -(-batch // self.per_group)
        for step in range(steps):
            chosen = np.concatenate([rng.permutation(len(members)) for _ in range(-(-wanted // len(members)))])[:wanted]
            picked: dict[int, np.ndarray] = {}
            rows = []
            for value, times in zip(*np.unique(chosen, return_counts=True), strict=True):
                need = int(times) * self.per_group
                pool = members[value]
                rounds = [rng.permutation(pool) for _ in range(-(-need // len(pool)))]
                picked[int(value)] = np.concatenate(rounds)[:need]
            for value in chosen:
                rows.append(picked[int(value)][: self.per_group])
                picked[int(value)] = picked[int(value)][self.per_group :]
            row = np.concatenate(rows)[:batch]
            unit = step * batch + np.arange(batch)
            yield np.stack([row, unit, np.ones_like(row), np.full_like(row, draw)], 1)


class NearInTime:
    """Batches of pairs: a window and another of the same recording whose start is at most `within_s` away.

    Long rows are cut into windows side by side for this. A window without a neighbour stands twice.

    Raises:
        AudiorepError: no window has a neighbour.
    """

    def __init__(self, windows: Windows, within_s: float = 2.0) -> None:
        counts = windows.windows_per_row()
        self.rows = np.repeat(np.arange(len(counts)), counts)
        self.window = np.arange(len(self.rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        self.of = np.repeat(counts, counts)
        self.units = len(self.rows)
        start = np.array(
            [
                windows.place((int(row), int(k), int(of), -1))
                for row, k, of in zip(self.rows, self.window, self.of, strict=True)
            ]
        )
        recording = windows.path_of[self.rows]
        seconds = start / windows.source_hz[recording]
        seconds -= seconds.min(initial=0.0)  # a window may begin before its recording does
        self.order = np.lexsort((seconds, recording))
        # recordings one after the other on one axis, farther apart than any neighbours
        span = float(seconds.max(initial=0.0)) + 2.0 * within_s + 1.0
        axis = (recording * span + seconds)[self.order]
        reach = within_s + 1e-6  # a neighbour just so far away is one, whatever the rounding
        self.low = np.searchsorted(axis, axis - reach, "left")
        self.high = np.searchsorted(axis, axis + reach, "right")
        if not (self.high - self.low > 1).any():
            raise AudiorepError(
                f"positives=time: no two windows of a recording start within {within_s:g} s of each other; raise "
                "positives.within_s, or choose positives=augmentation"
            )

    def batches(
        self, rng: np.random.Generator, batch: int, steps: int, draw: int, partition: np.ndarray | None
    ) -> Batches:
        half = (batch + 1) // 2
        queue = np.empty(0, np.int64)
        for _ in range(steps):
            while len(queue) < half:
                queue = np.concatenate([queue, rng.permutation(self.units)])
            anchor, queue = queue[:half], queue[half:]
            count = self.high[anchor] - self.low[anchor]
            other = self.low[anchor] + (rng.random(half) * np.maximum(count - 1, 1)).astype(np.int64)
            other = np.where(count > 1, other + (other >= anchor), anchor)
            unit = self.order[np.stack([anchor, other], 1).ravel()[:batch]]
            yield np.stack([self.rows[unit], self.window[unit], self.of[unit], np.full_like(unit, -1)], 1)


def count_shared(label: np.ndarray, domain: np.ndarray) -> int:
    """How many labels occur in two domains or more; of rows with several labels each counts."""
    known = domain >= 0
    present = label[:, None] == np.unique(label[label >= 0]) if label.ndim == 1 else label == 1
    return sum(len(np.unique(domain[known & column])) > 1 for column in present.T)


def label_codes(label: np.ndarray) -> np.ndarray:
    """[rows] one group a label, -1 unlabelled; rows with several labels are grouped by their whole set."""
    if label.ndim == 1:
        return label
    present = label == 1
    codes = np.unique(present, axis=0, return_inverse=True)[1].reshape(-1)
    return np.where(present.any(1), codes, -1)
