"""Cells of tables that other programs wrote: names, numbers and stretches, each error with file, row and column."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from audiorep.errors import AudiorepError

BREAKS = re.compile(r"[\x00\t\n\r\v\f\x1c-\x1e\x85\u2028\u2029\ud800-\udfff]")
"""What a cell of a tab-separated file cannot hold."""


def renamed(table: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """The table with lower-case names, those of `names` as it says. No two columns end up with one name: a free column
    that bears one of ours, or a name for the second time, gets a number.
    """
    plain = [str(column).strip().lower() for column in table.columns]
    taken = {new for old, new in names.items() if old in plain}
    out: list[str] = []
    for name in plain:
        wanted = names.get(name, name)
        count = 2 if wanted in out or (name not in names and wanted in taken) else 1
        while count > 1 and (f"{wanted}_{count}" in out or f"{wanted}_{count}" in plain):
            count += 1
        out.append(wanted if count == 1 else f"{wanted}_{count}")
    return table.set_axis(out, axis=1)


def numbers(table: pd.DataFrame, name: str, source: Path, column: str | None = None) -> pd.Series:
    """A column as finite numbers.

    Args:
        table: its index is the line in the file less 2.
        column: its name in the file, if another.

    Raises:
        AudiorepError: a cell that is no number; names file, row and column.
    """
    values = pd.to_numeric(table[name], errors="coerce").astype(float)
    if (bad := ~np.isfinite(values.to_numpy())).any():
        at = int(bad.argmax())
        raise AudiorepError(
            f"{source}: row {row(table, at)}: column '{column or name}' is no number: {shown(table[name], at)}"
        )
    return values


def seconds(table: pd.DataFrame, name: str, source: Path, column: str) -> pd.Series:
    """A column as times from the file's begin, in s; raises as `numbers` does, for a time below 0 too."""
    values = numbers(table, name, source, column)
    if (early := (values < 0).to_numpy()).any():
        at = int(early.argmax())
        raise AudiorepError(
            f"{source}: row {row(table, at)}: column '{column}' is before the file begins: {shown(table[name], at)}"
        )
    return values


def stretch(table: pd.DataFrame, source: Path, start: str, end: str) -> tuple[pd.Series, pd.Series]:
    """Begin and end in s, from the columns ``start_s`` and ``end_s``, which the file calls `start` and `end`.

    Raises:
        AudiorepError: no number, a begin before 0, an end that is not after its begin; names file, row and column.
    """
    first, last = seconds(table, "start_s", source, start), seconds(table, "end_s", source, end)
    if (backwards := (last <= first).to_numpy()).any():
        raise AudiorepError(
            f"{source}: row {row(table, int(backwards.argmax()))}: column '{end}' is not after '{start}'"
        )
    return first, last


def one_line(text: Any, out: Path, what: str) -> str:
    """A cell as text for a tab-separated file; "" for None and NaN.

    Args:
        what: for the error: "label", or the column.

    Raises:
        AudiorepError: it holds a tab or line break.
    """
    cell = "" if pd.isna(text) else str(text)
    if BREAKS.search(cell):
        raise AudiorepError(f"{out}: the {what} {cell!r} holds a tab or line break: rename it")
    return cell


def column_of(frame: pd.DataFrame, name: str, default: object = "") -> pd.Series:
    """A column, or the default in every row where there is none; cells without a value are the default too."""
    values = frame[name] if name in frame else pd.Series(default, frame.index, dtype=object)
    return values.astype(object).where(values.notna(), default)


def number_of(frame: pd.DataFrame, name: str) -> pd.Series:
    """A column as numbers, NaN where there is none."""
    return pd.to_numeric(frame.get(name, pd.Series(np.nan, frame.index)), errors="coerce").astype(float)


def times(frame: pd.DataFrame, out: Path) -> tuple[pd.Series, pd.Series]:
    """Begin and end of each row in s, for a writer.

    Raises:
        AudiorepError: a row without times, which stands for a whole file; names it.
    """
    first, last = number_of(frame, "start_s"), number_of(frame, "end_s")
    if (bad := (~np.isfinite(first) | ~np.isfinite(last)).to_numpy()).any():
        at = int(bad.argmax())
        raise AudiorepError(
            f"{out}: row {at + 1} ({column_of(frame, 'path').iloc[at]}) has no start_s and end_s, which this format needs: "
            "index the recordings first"
        )
    return first, last


def row(table: pd.DataFrame, at: int) -> int:
    """The row as a person counts it in the file: the header is row 1."""
    return int(table.index[at]) + 2


def shown(column: pd.Series, at: int) -> str:
    """A cell for an error message, not longer than need be."""
    text = repr(column.iloc[at])
    return text if len(text) <= 60 else f"{text[:57]}..."
