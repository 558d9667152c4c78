"""Splits by group, never by row, unless the corpus has a split of its own; and what leaks between the sides."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from audiorep.errors import AudiorepError


@dataclass(frozen=True)
class Split:
    """Row numbers of the two sides, and the groups that stand on both."""

    train: np.ndarray
    test: np.ndarray
    description: str
    leaking: tuple[str, ...] = ()

    @property
    def metrics(self) -> dict[str, float]:
        """``split/leaking_groups``: how many groups stand on both sides; nothing where nothing is held out."""
        return {"split/leaking_groups": float(len(self.leaking))} if len(self.test) else {}

    @property
    def leak_report(self) -> str | None:
        """One sentence, or None where the sides share no group."""
        if not self.leaking:
            return None
        shown = ", ".join(self.leaking[:5]) + (" ..." if len(self.leaking) > 5 else "")
        return (
            f"{len(self.leaking)} group(s) stand on both sides of the split ({shown}): scores tell how well new calls of "
            "known groups are recognised, not how well new groups are"
        )


def split_by_group(frame: pd.DataFrame, by: str = "group", folds: int = 5, fold: int = 0) -> Split:
    """Fold `fold` of `folds` is the test side. Groups are dealt, largest first, to the fold with fewest labelled rows.

    An unlabelled row weighs a thousandth of a labelled one; in whole numbers, so that the order of rows plays no part.
    Rows without a value in the column are one group.

    Raises:
        AudiorepError: no such column, fewer groups than folds, a single fold, or a fold that does not exist.
    """
    groups = _column(frame, by, "split.by")
    groups = groups.astype(object).where(groups.notna(), "")
    if folds < 2:
        raise AudiorepError(f"split.folds={folds}: at least two folds are needed, one of them is the test side")
    if not 0 <= fold < folds:
        raise AudiorepError(
            f"split.fold={fold} does not exist: folds count from 0 to {folds - 1} (split.folds={folds})"
        )
    labelled = (frame["label"] != "").to_numpy() if "label" in frame else np.zeros(len(frame), bool)
    weight = pd.Series(np.where(labelled, 1000, 1)).groupby(groups.to_numpy()).sum()
    if len(weight) < folds:
        raise AudiorepError(
            f"the corpus has {len(weight)} group(s) in column '{by}', fewer than split.folds={folds}: lower split.folds, "
            "or name another column with split.by=NAME or split.column=NAME"
        )
    load, fold_of = np.zeros(folds, np.int64), {}
    for name in sorted(weight.index, key=lambda name: (-weight[name], str(name))):
        fold_of[name] = int(load.argmin())
        load[fold_of[name]] += weight[name]
    in_test = groups.map(fold_of).to_numpy() == fold
    return Split(
        np.flatnonzero(~in_test),
        np.flatnonzero(in_test),
        f"fold {fold} of {folds}, grouped by {by}",
        leaks(frame, in_test),
    )


def leaks(frame: pd.DataFrame, in_test: np.ndarray, group: str = "group") -> tuple[str, ...]:
    """The groups that stand on both sides; none where the rows have no groups."""
    if group not in frame:
        return ()
    groups = frame[group].astype(str)
    return tuple(sorted(set(groups[in_test]) & set(groups[~in_test])))


def split_by_column(frame: pd.DataFrame, column: str, test: Sequence[str | int], group: str = "group") -> Split:
    """Rows whose `column` holds one of the values `test` are the test side; groups on both sides are reported.

    Raises:
        AudiorepError: no such column or value, or an empty side.
    """
    values = _column(frame, column, "split.column").astype(str)
    wanted = [str(value) for value in test]
    if unknown := [value for value in wanted if value not in set(values)]:
        raise AudiorepError(
            f"split.test={unknown[0]!r} does not occur in column '{column}'; there are: {', '.join(sorted(set(values))[:12])}"
        )
    in_test = values.isin(wanted).to_numpy()
    if not in_test.any():
        raise AudiorepError(f"split.column={column} split.test={wanted}: no row is on the test side")
    if in_test.all():
        raise AudiorepError(f"split.column={column} split.test={wanted}: every row is on the test side")
    description = f"{column} in {', '.join(wanted)}"
    return Split(np.flatnonzero(~in_test), np.flatnonzero(in_test), description, leaks(frame, in_test, group))


def make_split(
    frame: pd.DataFrame,
    by: str = "group",
    folds: int = 5,
    fold: int = 0,
    column: str | None = None,
    test: str | Sequence[str | int] = ("test",),
) -> Split:
    """`split_by_column` where a column is named, else `split_by_group`."""
    if column is not None:
        return split_by_column(frame, column, [test] if isinstance(test, str) else list(test))
    return split_by_group(frame, by, folds, fold)


def _column(frame: pd.DataFrame, name: str, key: str) -> pd.Series:
    if name not in frame:
        raise AudiorepError(
            f"{key}={name}: the corpus has no such column; there are: {', '.join(map(str, frame.columns))}"
        )
    return frame[name]
