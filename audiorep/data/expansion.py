"""Time expansion: recordings of bats that are slowed down, mostly ten times, so that one can hear them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from audiorep.data.audio import AudioInfo
from audiorep.errors import AudiorepError

LEAST, MOST = 1e-3, 1e3

SLOWED = ", which is slowed down; if the table's times are those at which it plays, say expanded=true to audiorep index"
"""What is added where times lie past the end of such a file."""


def factors(table: pd.DataFrame, source: Path) -> pd.Series:
    """The column ``time_expansion`` as numbers; NaN where a cell is empty, and the file itself is asked.

    Raises:
        AudiorepError: a cell that is no factor; names file, row and column.
    """
    text = table["time_expansion"].replace("", np.nan)
    value = pd.to_numeric(text, errors="coerce").astype(float)
    if (bad := (text.notna() & ~value.between(LEAST, MOST)).to_numpy()).any():
        at = int(bad.argmax())
        raise AudiorepError(
            f"{source}: row {int(table.index[at]) + 2}: column 'time_expansion' is no factor such as 10: {text.iloc[at]!r}"
        )
    return value


def at_true_speed(frame: pd.DataFrame, files: Mapping[str, AudioInfo]) -> pd.DataFrame:
    """Times (s) and frequencies (Hz) of slowed-down files as they play become those of the sound."""
    return faster(frame, factors_of(frame, files))


def as_played(frame: pd.DataFrame, files: Mapping[str, AudioInfo]) -> pd.DataFrame:
    """The inverse of `at_true_speed`, for programs that do not know that a file is slowed down; and that it is said so."""
    return faster(frame, 1.0 / factors_of(frame, files)).assign(time_expansion=1.0)


def factors_of(frame: pd.DataFrame, files: Mapping[str, AudioInfo]) -> pd.Series:
    """How far the recording of each row is slowed down."""
    return frame["path"].map({path: info.time_expansion for path, info in files.items()}).astype(float).fillna(1.0)


def faster(frame: pd.DataFrame, factor: pd.Series) -> pd.DataFrame:
    """Times divided by a factor a row, frequencies and sample rates times that factor."""
    hertz = {
        name: pd.to_numeric(frame[name], errors="coerce").astype(float) * factor
        for name in ("low_hz", "high_hz", "rate_hz")
        if name in frame
    }
    return frame.assign(start_s=frame["start_s"] / factor, end_s=frame["end_s"] / factor, **hertz)
