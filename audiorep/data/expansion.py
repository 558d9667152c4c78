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
    factor = frame["path"].map({path: info.time_expansion for path, info in files.items()}).astype(float).fillna(1.0)
    hertz = {
        name: pd.to_numeric(frame[name], errors="coerce").astype(float) * factor
        for name in ("low_hz", "high_hz")
        if name in frame
    }
    return frame.assign(start_s=frame["start_s"] / factor, end_s=frame["end_s"] / factor, **hertz)
