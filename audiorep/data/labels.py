"""Labels are strings; here they become numbers. "" unlabelled, "a|b" several, "-a" known absent (multi-label only)."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from audiorep.errors import AudiorepError


def classes_of(labels: Sequence[str], multilabel: bool = False) -> list[str]:
    """Sorted names of all classes that occur."""
    if not multilabel:
        return sorted(set(labels) - {""})
    return sorted({name.removeprefix("-") for label in labels for name in split_label(label)})


def frequent(labels: Sequence[str], least: int, multilabel: bool = False) -> tuple[list[str], dict[str, int]]:
    """The classes that at least so many rows are labelled with, and the others with their numbers of rows.

    Where a row may have several labels, rows that say that a class is absent do not count.
    """
    rows = Counter(name for label in labels for name in (split_label(label) if multilabel else [label]))
    names = classes_of(labels, multilabel)
    return [n for n in names if rows[n] >= least], {n: rows[n] for n in names if rows[n] < least}


def split_label(label: str) -> list[str]:
    """The names in one cell."""
    return [name.strip() for name in label.split("|") if name.strip()]


def encode(
    labels: Sequence[str], classes: Sequence[str], multilabel: bool = False, complete: bool = False
) -> np.ndarray:
    """Labels as numbers.

    Returns:
        Single-label: int64 [b], -1 unlabelled (or of a class not in `classes`). Multi-label: float32 [b, c] with 1
        present, 0 absent and NaN unknown; what a labelled row does not name is absent only if `complete`.

    Raises:
        AudiorepError: several labels in one row although `multilabel` is false.
    """
    number = {name: i for i, name in enumerate(classes)}
    if not multilabel:
        several = next((label for label in labels if "|" in label), None)
        if several is not None:
            raise AudiorepError(f"the label {several!r} names several classes: say labels.multilabel=true")
        return np.array([number.get(label, -1) for label in labels], dtype=np.int64)
    out = np.full((len(labels), len(classes)), np.nan, dtype=np.float32)
    for row, label in enumerate(labels):
        names = split_label(label)
        if names and complete:
            out[row] = 0.0
        for name in names:
            if (column := number.get(name.removeprefix("-"))) is not None:
                out[row, column] = 0.0 if name.startswith("-") else 1.0
    return out
