"""Audacity label tracks: tab-separated start, end (s) and label, a call a line; a second line holds its frequencies."""

from math import isfinite
from pathlib import Path

import numpy as np
import pandas as pd

from audiorep.errors import AudiorepError
from audiorep.files import write_text


def write_labels(frame: pd.DataFrame, out: Path) -> None:
    r"""Write the calls of one recording as a label track, in order of time.

    Args:
        frame: start_s, end_s, label, and where there is a box low_hz, high_hz: then a line ``\<tab>low<tab>high`` (Hz)
            follows.

    Raises:
        AudiorepError: a label with a tab or line break, or a file that cannot be written.
    """
    lines = []
    for row in frame.reindex(columns=["start_s", "end_s", "label", "low_hz", "high_hz"]).sort_values("start_s").values:
        start_s, end_s, label, low_hz, high_hz = row
        if not str(label).isprintable():
            raise AudiorepError(f"{out}: the label {label!r} holds a tab or line break: rename it")
        lines.append(f"{start_s:.6f}\t{end_s:.6f}\t{label}\n")
        if isfinite(low_hz) and isfinite(high_hz):
            lines.append(f"\\\t{low_hz:.6f}\t{high_hz:.6f}\n")
    write_text(out, "".join(lines))


def read_labels(path: Path) -> pd.DataFrame:
    """A label track as start_s, end_s, label, low_hz, high_hz (NaN where there is no box).

    Raises:
        AudiorepError: a file that cannot be read, or a line that is none of a label track; names it.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise AudiorepError(f"{path}: not readable as an Audacity label track: {error}") from error
    rows: list[list[float | str]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        first, *rest = line.split("\t", 2)
        try:
            if first == "\\":
                rows[-1][3:] = [_number(cell) for cell in rest]
                if len(rest) != 2:
                    raise ValueError
            else:
                rows.append([float(first), float(rest[0]), rest[1].strip() if len(rest) > 1 else "", np.nan, np.nan])
        except (ValueError, IndexError) as error:
            raise AudiorepError(
                f"{path}: line {number}: expected start, end (s) and label with tabs between, or \\, low and high (Hz)"
            ) from error
    return pd.DataFrame(rows, columns=["start_s", "end_s", "label", "low_hz", "high_hz"])


def _number(cell: str) -> float:
    """A frequency; Audacity writes -1 for an edge that is not set."""
    return value if (value := float(cell)) >= 0.0 else np.nan
