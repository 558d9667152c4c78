"""Which windows stand in a batch together: shuffled, balanced over labels or clusters, or in pairs near in time.

A drawing is a function of windows that yields the batches [batch 4] of one epoch, items as `audiorep.data.items.Item`.
"""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np

from audiorep.data.items import side_by_side
from audiorep.data.windows import Windows
from audiorep.errors import AudiorepError

Batches = Iterator[np.ndarray]


@runtime_checkable
class Drawing(Protocol):
    """Draws the batches of one epoch from `rng` alone."""

    units: int
    """Windows of one pass over the corpus."""

    repeats: bool
    """Whether a batch may be larger than a pass, because windows come more than once."""

    def batches(
        self, rng: np.random.Generator, batch: int, steps: int, draw: int, partition: np.ndarray | None
    ) -> Batches:
        """Yield `steps` arrays [batch 4]. `draw` seeds the crops; `partition` [rows] is the objective's clustering."""
        ...


class Shuffled:
    """Every window once, in a new order each epoch; a long row comes as often as windows fit into it.

    Args:
        fixed: always the same windows of a row, side by side, instead of random ones; what a teacher's answers can be kept
            for.
    """

    repeats = False
    fixed = False

    def __init__(self, windows: Windows, fixed: bool = False) -> None:
        self.rows, self.window, self.of, _ = side_by_side(windows.windows_per_row()).T
        self.units, self.fixed = len(self.rows), fixed

    def batches(
        self, rng: np.random.Generator, batch: int, steps: int, draw: int, partition: np.ndarray | None
    ) -> Batches:
        order = rng.permutation(self.units)
        for step in range(steps):
            unit = order[step * batch : (step + 1) * batch]
            if self.fixed:
                yield np.stack([self.rows[unit], self.window[unit], self.of[unit], np.full_like(unit, -1)], 1)
                continue
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

    repeats = False

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

    repeats = False

    def __init__(self, windows: Windows, within_s: float = 2.0) -> None:
        items = side_by_side(windows.windows_per_row())
        self.rows, self.window, self.of, _ = items.T
        self.units = len(self.rows)
        start = windows.place(items)
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


class Labelled:
    """The part `labelled` of every batch from rows with a label, over and over again; the rest from all rows.

    Both parts run through their windows in new orders, one after the other, so that none comes more often than another,
    unless labels are balanced: then a labelled window is drawn with a probability that goes with ``n^-balance``, n the
    rows of its label. Of a row with several labels it is the rarest that counts.

    Args:
        windows: the rows.
        labelled: part of a batch; 1: labelled rows only.
        balance: 0: as labels are; 1: all labels alike often; one half: in between (square root).
        fixed: always the same windows of a row, side by side, instead of random ones; what a cache of a teacher's answers
            needs.

    Raises:
        AudiorepError: no row has a label, or a part that is none.
    """

    repeats = True

    def __init__(self, windows: Windows, labelled: float = 1.0, balance: float = 0.0, fixed: bool = False) -> None:
        if not 0.0 < labelled <= 1.0 or not 0.0 <= balance <= 1.0:
            raise AudiorepError(
                f"data.sampler: labelled={labelled} must lie in (0, 1], balance={balance} in [0, 1]: they are parts"
            )
        self.rows, self.window, self.of, _ = side_by_side(windows.windows_per_row()).T
        known = has_label(windows.label)[self.rows]
        self.named, self.every = np.flatnonzero(known), np.arange(len(self.rows))
        if windows.times is not None:
            self.named = np.repeat(self.named, windows.times[self.rows[self.named]])
        if not len(self.named):
            raise AudiorepError(
                "no row of the training side has a label: label some, or choose an objective without labels"
            )
        weight = rarity(windows.label, balance)[self.rows][self.named]
        self.chance = weight / weight.sum() if balance else None
        self.labelled, self.fixed = labelled, fixed
        self.units = len(self.named) if labelled == 1.0 else len(self.every)

    def batches(
        self, rng: np.random.Generator, batch: int, steps: int, draw: int, partition: np.ndarray | None
    ) -> Batches:
        some = batch if self.labelled == 1.0 else min(batch - 1, max(1, round(self.labelled * batch)))
        rest = cycle(self.every, rng, (batch - some) * steps)
        if self.chance is None:
            named = cycle(self.named, rng, some * steps)
        else:
            named = rng.choice(self.named, some * steps, p=self.chance)
        for step in range(steps):
            unit = np.concatenate(
                [named[step * some : (step + 1) * some], rest[step * (batch - some) : (step + 1) * (batch - some)]]
            )
            if self.fixed:
                yield np.stack([self.rows[unit], self.window[unit], self.of[unit], np.full_like(unit, -1)], 1)
            else:  # a window that comes again is cut anew: its place in the epoch is part of the draw
                turn = step * batch + np.arange(batch)
                yield np.stack([self.rows[unit], turn, np.ones_like(unit), np.full_like(unit, draw)], 1)


class Bags:
    """Batches of whole bags: `per_row` windows of each of batch / per_row labelled rows, for weak labels that are pooled.

    They lie at random in the row. A row that is no longer than a window gives the same one again.

    Raises:
        AudiorepError: no row has a label, or fewer than one window of a row.
    """

    repeats = True

    def __init__(self, windows: Windows, per_row: int = 4) -> None:
        if per_row < 1:
            raise AudiorepError(f"data.sampler.per_row={per_row}: at least 1")
        self.named = np.flatnonzero(has_label(windows.label))
        if not len(self.named):
            raise AudiorepError(
                "no row of the training side has a label: label some, or choose an objective without labels"
            )
        self.per_row, self.units = per_row, len(self.named) * per_row

    def batches(
        self, rng: np.random.Generator, batch: int, steps: int, draw: int, partition: np.ndarray | None
    ) -> Batches:
        each = max(1, batch // self.per_row)
        rows = cycle(self.named, rng, each * steps)
        for step in range(steps):
            row = np.repeat(rows[step * each : (step + 1) * each], self.per_row)
            turn = step * batch + np.arange(len(row))
            yield np.stack([row, turn, np.ones_like(row), np.full_like(row, draw)], 1)


def cycle(units: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
    """`count` of the units: all of them in random order, then again in another, and so on."""
    rounds = [rng.permutation(units) for _ in range(-(-count // len(units)))]
    return np.concatenate([units[:0], *rounds])[:count]


def has_label(label: np.ndarray) -> np.ndarray:
    """[rows] whether anything is known of a row."""
    return label >= 0 if label.ndim == 1 else ~np.isnan(label).all(1)


def rarity(label: np.ndarray, balance: float) -> np.ndarray:
    """[rows] ``n^-balance`` with n the rows that share the label, or the rarest of the labels; 1 where nothing is present."""
    if label.ndim == 1:
        counts = np.bincount(label[label >= 0], minlength=1)
        return np.where(label >= 0, counts[np.maximum(label, 0)].clip(1).astype(float) ** -balance, 1.0)
    present = label == 1
    weight = np.where(present, present.sum(0).clip(1).astype(float) ** -balance, 0.0).max(1)
    usual = weight[present.any(1)].min(initial=1.0)  # a row of which all is known to be absent comes as a common one
    return np.where(present.any(1), weight, usual)


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
