"""Audacity label tracks: tab-separated start, end (s) and label, a call a line; a second line holds its frequencies."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from audiorep.data.formats.beside import find_recordings, gathered, recording_of, write_each
from audiorep.data.formats.cells import number_of, one_line, times
from audiorep.data.formats.folders import files_of, holds
from audiorep.errors import AudiorepError
from audiorep.files import write_text

DECIMAL_COMMA = re.compile(r"^\s*(-?\d+),(\d+)\s*$")
"""As Audacity of old wrote numbers in some countries."""

UNSET_HZ = -1.0
"""How Audacity writes an edge of the box that is not set."""


def read_labels(path: Path) -> pd.DataFrame:
    """A label track as start_s, end_s, label, low_hz, high_hz (NaN where there is no box); a point ends where it begins.

    Raises:
        AudiorepError: a file that cannot be read, or a line that is none of a label track; names it.
    """
    rows: list[list[float | str]] = []
    for number, line in enumerate(lines_of(path), 1):
        if not line.strip():
            continue
        first, *rest = line.split("\t", 2)
        try:
            if first == "\\":
                low, high = (decimal(cell) for cell in rest)
                rows[-1][3:] = [low if low >= 0.0 else np.nan, high if high >= 0.0 else np.nan]
            else:
                rows.append(
                    [decimal(first), decimal(rest[0]), rest[1].strip() if len(rest) > 1 else "", np.nan, np.nan]
                )
        except (ValueError, IndexError) as error:
            raise AudiorepError(
                f"{path}: line {number}: expected start, end (s) and label with tabs between, or \\, low and high (Hz)"
            ) from error
    return pd.DataFrame(rows, columns=["start_s", "end_s", "label", "low_hz", "high_hz"])


def read_track(path: Path, point_s: float | None = None) -> pd.DataFrame:
    """A label track in which every call has a length; see `read_labels`.

    Args:
        point_s: the length that point labels get, in s; they are in its middle.

    Raises:
        AudiorepError: as `read_labels`; a time before 0, an end before its start, or a point label without `point_s`.
    """
    table = read_labels(path)
    start, end = table["start_s"].astype(float), table["end_s"].astype(float)
    wrong = ((start < 0) | (end < start) | ~np.isfinite(start) | ~np.isfinite(end)).to_numpy()
    point = ((start == end).to_numpy()) & ~wrong
    for rows, reason in (
        (wrong, "its times are no stretch of the recording"),
        (
            point & (point_s is None),
            "a point label has no length; say format=audacity format.point_s=SECONDS to give it one",
        ),
    ):
        if rows.any():
            at = int(rows.argmax())
            raise AudiorepError(f"{path}: label {at + 1}, {start.iloc[at]:g} to {end.iloc[at]:g} s: {reason}")
    half = np.where(point, (point_s or 0.0) / 2, 0.0)
    return table.assign(start_s=np.maximum(start - half, 0.0), end_s=end + half)


def write_labels(frame: pd.DataFrame, out: Path) -> None:
    r"""Write the calls of one recording as a label track, in order of time.

    Args:
        frame: start_s, end_s, label, and where there is a box low_hz, high_hz: then a line ``\<tab>low<tab>high`` (Hz)
            follows.

    Raises:
        AudiorepError: a label with a tab or line break, or a file that cannot be written.
    """
    frame = frame.sort_values("start_s", kind="stable")
    start, end = times(frame, out)
    lines = []
    box = zip(number_of(frame, "low_hz"), number_of(frame, "high_hz"), strict=True)
    for first, last, label, (low, high) in zip(start, end, frame["label"], box, strict=True):
        lines.append(f"{first:.6f}\t{last:.6f}\t{one_line(label, out, 'label')}\n")
        if np.isfinite(low) or np.isfinite(high):
            low, high = (hz if np.isfinite(hz) else UNSET_HZ for hz in (low, high))
            lines.append(f"\\\t{low:.6f}\t{high:.6f}\n")
    write_text(out, "".join(lines))


def write(frame: pd.DataFrame, out: Path, root: Path | None = None) -> list[Path]:
    """Write ``NAME.labels.txt`` for each recording, in the folder `out`; returns the files."""
    return write_each(frame, out, ".labels.txt", write_labels, root)


def is_track(path: Path) -> bool:
    """Whether the first line of a text file that is not blank is that of a label track."""
    if path.suffix.lower() != ".txt":
        return False
    return (first := first_line(path)) is not None and len(first) in (2, 3) and spans(first)


def first_line(path: Path) -> list[str] | None:
    """The cells of the first line that is not blank; None where there is none, or the file cannot be read."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            lines = (file.readline(1 << 16) for _ in range(100))
            return next((line.rstrip("\n").split("\t") for line in lines if line.strip()), None)
    except (OSError, ValueError):
        return None


def spans(cells: list[str]) -> bool:
    """Whether the first two cells are numbers."""
    try:
        return len([decimal(cell) for cell in cells[:2]]) == 2
    except ValueError:
        return False


def lines_of(path: Path) -> list[str]:
    """The lines of a text file.

    Raises:
        AudiorepError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, ValueError) as error:
        raise AudiorepError(f"{path}: not readable as an Audacity label track: {error}") from error


def decimal(cell: str) -> float:
    """A number with a point, or a comma."""
    return float(DECIMAL_COMMA.sub(r"\1.\2", cell))


class Audacity:
    """A folder of recordings with label tracks beside them or in `annotations`: ``NAME.txt`` or ``NAME.labels.txt``.

    Args:
        point_s: the length that point labels get, in s; None: they are refused.
        unannotated: keep recordings without a track, as unlabelled rows.
    """

    def __init__(self, point_s: float | None = None, unannotated: bool = True) -> None:
        self.point_s = point_s
        self.unannotated = unannotated

    def describe(self) -> str:
        return "Audacity label tracks"

    def recognises(self, recordings: Path, annotations: Path | None) -> bool:
        return holds(annotations or recordings, [".txt"], is_track)

    def read(self, recordings: Path, annotations: Path | None) -> pd.DataFrame:
        found = find_recordings(recordings)
        parts = [
            read_track(path, self.point_s).assign(path=recording_of(found, path, "NAME.wav beside NAME.txt"))
            for path in files_of(annotations or recordings, [".txt"], is_track)
        ]
        return gathered(parts, found, self.unannotated)
