"""Which labels a training may use: a budget of so many a class, and a part that is held out to calibrate."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from audiorep.data.sampler import has_label
from audiorep.errors import AudiorepError

Rows = Int[np.ndarray, " k"]


@dataclass(frozen=True)
class Budget:
    """Rows whose labels may be used, and what a user should know about them."""

    rows: Rows
    notes: tuple[str, ...] = ()


def spend(
    rows: Rows,
    truth: np.ndarray,
    classes: list[str],
    per_class: int | None = None,
    fraction: float | None = None,
    seed: int = 0,
) -> Budget:
    """Draw the labelled rows that a training may know, among `rows`; all where neither number is given.

    Args:
        rows: of the training side.
        truth: [n] or [n c] of all rows, as `audiorep.data.labels.encode`.
        classes: their names.
        per_class: labels of each class; where a class has fewer, all of them, and that is noted. Rows with several labels
            are drawn class by class, the rarest first, and count for every class that they hold.
        fraction: part of the labels of each class, at least one; of rows with several labels, of all labelled rows.

    Raises:
        AudiorepError: both numbers, or none that makes sense.
    """
    if per_class is not None and fraction is not None:
        raise AudiorepError("labels_per_class and label_fraction are two ways to say the same: give one of them")
    if per_class is not None and per_class < 1:
        raise AudiorepError(f"labels_per_class={per_class}: at least one label of each class is needed")
    if fraction is not None and not 0.0 < fraction <= 1.0:
        raise AudiorepError(f"label_fraction={fraction} must lie in (0, 1]")
    rows = rows[has_label(truth[rows])]
    if per_class is None and fraction is None:
        return Budget(rows)
    rng = np.random.default_rng([seed, 11])
    present = members(truth[rows], len(classes))
    if truth.ndim == 2 and fraction is not None:
        return Budget(np.sort(rng.permutation(rows)[: max(2, round(fraction * len(rows)))]))
    chosen, short = np.zeros(len(rows), bool), []
    for c in np.argsort(present.sum(0), kind="stable"):
        have = int(present[:, c].sum())
        if not have:
            continue
        wanted = per_class if per_class is not None else max(1, round(float(fraction or 0) * have))
        if per_class is not None and have < wanted:
            short.append(f"{classes[c]} ({have})")
        free = rng.permutation(np.flatnonzero(present[:, c] & ~chosen))
        chosen[free[: max(0, wanted - int((present[:, c] & chosen).sum()))]] = True
    notes = (
        (f"fewer than labels_per_class={per_class} labels on the training side, all are used: {', '.join(short)}",)
        if short
        else ()
    )
    return Budget(rows[chosen], notes)


def members(truth: np.ndarray, classes: int) -> Bool[np.ndarray, "n c"]:
    """Which classes are present in which rows."""
    return truth == 1 if truth.ndim == 2 else truth[:, None] == np.arange(classes)


def hold_out(
    rows: Rows, truth: np.ndarray, group: np.ndarray, classes: int, fraction: float, least: int, seed: int = 0
) -> tuple[Int[np.ndarray, " fit"], Int[np.ndarray, " held"], str]:
    """Split labelled rows in two: to train on, and to calibrate on; the second are whole groups, of about `fraction`.

    Groups come in random order; one is held out where one of its classes still lacks calls to calibrate on, as long as the
    second part does not exceed what is wanted by half. A group whose rows are needed, because a class would have no label
    left to train on, is not held out.

    Args:
        least: fewer rows than this are not held out at all: a temperature or a threshold from them would mean nothing.

    Returns:
        Both, and the reason where the second is empty, else "".

    Raises:
        AudiorepError: a fraction that is none.
    """
    if not 0.0 <= fraction < 1.0:
        raise AudiorepError(f"calibration.fraction={fraction} must lie in [0, 1)")
    wanted = round(fraction * len(rows))
    if wanted < least:
        few = (
            f"calibration.fraction={fraction:g} of {len(rows)} labels is {wanted}, fewer than calibration.least={least}"
        )
        return rows, rows[:0], f"{few}; so there will be no thresholds"
    units = group[rows]
    names = np.unique(units)
    if len(names) < 3:
        units, names = np.arange(len(rows)), np.arange(len(rows))
    heard = members(truth[rows], classes)
    present = np.column_stack([heard, ~heard.any(1)])  # rows in which all is absent are a kind of their own
    left, held = present.sum(0), np.zeros(len(rows), bool)
    missing = np.ceil(fraction * left)
    for name in np.random.default_rng([seed, 12]).permutation(names):
        inside = units == name
        taken = present[inside].sum(0)
        fits = held.sum() + inside.sum() <= 1.5 * wanted and ((left - taken > 0) | (taken == 0)).all()
        if fits and (missing[taken > 0] > 0).any():
            held |= inside
            left, missing = left - taken, missing - taken
    if held.sum() < least:
        return rows, rows[:0], "no groups could be held out to calibrate on without taking a class its last labels"
    return rows[~held], rows[held], ""


def deal(
    rows: Rows, truth: np.ndarray, group: np.ndarray, classes: int, folds: int, seed: int = 0
) -> Int[np.ndarray, " k"]:
    """The fold in which each labelled row is held out: groups are whole, and each fold has its part of every class.

    Groups are dealt out by size, the largest first and equals in random order, each to the fold in which its classes are
    rarest: to the k that minimises ``sum_c load[k, c] share[c]``, with the parts of all labels of class c that this fold and
    this group have; where rows have several labels, known absences count as classes too. With fewer groups than folds rows
    are dealt out one by one. A group is in no fold, -1, where holding it out would leave a class without a label.

    Raises:
        AudiorepError: fewer than two folds.
    """
    if folds < 2:
        raise AudiorepError(f"calibration.folds={folds}: at least 2 are needed")
    names, unit = np.unique(group[rows], return_inverse=True)
    if len(names) < folds:
        unit = np.arange(len(rows))
    told = members(truth[rows], classes)
    if truth.ndim == 2:
        told = np.column_stack([told, truth[rows] == 0])
    share = np.zeros((int(unit.max(initial=-1)) + 1, told.shape[1]))
    np.add.at(share, unit, told)
    share /= np.maximum(share.sum(0), 1.0)
    order = np.random.default_rng([seed, 15]).permutation(len(share))
    order = order[np.argsort(-np.bincount(unit)[order], kind="stable")]
    load, fold = np.zeros((folds, told.shape[1])), np.zeros(len(share), int)
    for u in order:
        fold[u] = np.argmin(load @ share[u] + 1e-6 * load.sum(1))
        load[fold[u]] += share[u]
    alone = (load > 1.0 - 1e-9).any(0)
    fold[(share[:, alone] > 0).any(1)] = -1
    return fold[unit]


def with_errors(label: np.ndarray, part: float, seed: int) -> np.ndarray:
    """Labels of which a `part` is replaced by another class, all others alike likely: symmetric label noise, for studies.

    Raises:
        AudiorepError: a part that is none, or several labels a row.
    """
    if not 0.0 <= part < 1.0:
        raise AudiorepError(f"data.label_noise={part} must lie in [0, 1)")
    if not part:
        return label
    if label.ndim == 2:
        raise AudiorepError("data.label_noise is for one label a row")
    rng = np.random.default_rng([seed, 13])
    rows = np.flatnonzero(label >= 0)
    rows = np.sort(rng.permutation(rows)[: round(part * len(rows))])
    classes = int(label.max()) + 1
    out = label.copy()
    out[rows] = (label[rows] + rng.integers(1, classes, len(rows))) % classes
    return out
