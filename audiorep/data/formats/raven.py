"""Raven selection tables: tab-separated text, one selection a row."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from audiorep.data.audio import probe
from audiorep.data.formats.beside import Found, find_recordings, gathered, recording_named, recording_of, write_each
from audiorep.data.formats.cells import column_of, number_of, one_line, renamed, seconds, stretch, times
from audiorep.data.formats.folders import files_of, holds
from audiorep.data.formats.table import header_of, read_text_table
from audiorep.errors import AudiorepError
from audiorep.files import write_text

CORE = {
    "selection": "selection",
    "view": "view",
    "channel": "channel",
    "begin time (s)": "start_s",
    "end time (s)": "end_s",
    "low freq (hz)": "low_hz",
    "high freq (hz)": "high_hz",
}
MULTI = ("begin file", "begin path", "file offset (s)")
LABEL_NAMES = (
    "annotation",
    "label",
    "species",
    "type",
    "call type",
    "calltype",
    "class",
    "call",
    "common name",
)
ENDING = ".txt"
NOT_FREE = {*CORE, *CORE.values(), *MULTI, "path", "label", "annotation", "annotator", "group", "rate_hz"}
"""Columns that a table has under another name, or not at all."""


def is_table(path: Path) -> bool:
    """Whether a text file starts like a selection table."""
    return path.suffix.lower() == ENDING and {"begin time (s)", "end time (s)"} <= header_of(path, "\t")


def read_table(path: Path, label_column: str | None = None) -> pd.DataFrame:
    """One selection table with canonical column names; free columns are kept under their own.

    Waveform and spectrogram views of one selection are one row. Times are those of `Begin Time (s)`, or of
    `File Offset (s)` where the table spans several files and names them.

    Raises:
        AudiorepError: no times, a time that is no number, an end before its start, or no label column to be found;
            names the file, the row and the column.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            quoted = file.readline(1 << 16).startswith('"')  # by R or a spreadsheet: Raven itself quotes nothing
        table = read_text_table(path, "\t", quoted)
    except (ValueError, OSError) as error:
        raise AudiorepError(f"{path}: not readable as a Raven selection table: {error}".replace("\n", " ")) from error
    table = renamed(table, {})
    names = list(table.columns)
    if missing := [name for name in ("begin time (s)", "end time (s)") if name not in names]:
        raise AudiorepError(f"{path}: column '{missing[0]}' is missing; is it a Raven selection table?")
    wanted = (
        label_column.strip().lower() if label_column else next((name for name in LABEL_NAMES if name in names), None)
    )
    if wanted is None:
        free = [name for name in names if name not in CORE and name not in MULTI]
        wanted = free[0] if len(free) == 1 else None
    if (wanted is None and len(table)) or (wanted is not None and wanted not in names):
        raise AudiorepError(
            f"{path}: cannot tell which column holds the label; say format.label_column=NAME, one of: {', '.join(names)}"
        )
    label = column_of(table, wanted).str.strip() if wanted is not None else ""
    table = renamed(table, CORE | {"label": "label_2"}).assign(label=label)
    if "selection" in table and "view" in table:
        table = table.drop_duplicates(["selection", "start_s", "end_s", "label"])
    start, end = stretch(table, path, "Begin Time (s)", "End Time (s)")
    if "file offset (s)" in table:
        offset = seconds(table, "file offset (s)", path, "File Offset (s)")
        start, end = offset, offset + (end - start)
    return (
        table.drop(columns="label_2" if wanted == "label" else [])
        .assign(start_s=start, end_s=end)
        .reset_index(drop=True)
    )


def recordings_of(table: pd.DataFrame, source: Path, found: Found) -> pd.DataFrame:
    """A table that was read with its recordings as ``path``: those it names, or the one whose name it bears.

    Raises:
        AudiorepError: no such recording beside it, or several and nothing tells which is meant.
    """
    if "begin path" not in table and "begin file" not in table:
        return table.assign(path=recording_of(found, source, "NAME.wav beside NAME.Table.1.selections.txt"))
    names = column_of(table, "begin file" if "begin file" in table else "begin path")
    whole = column_of(table, "begin path" if "begin path" in table else "begin file")
    if (blank := (names.str.strip() == "").to_numpy()).any():
        raise AudiorepError(f"{source}: selection {int(blank.argmax()) + 1}: column '{names.name}' is empty")
    pairs = {pair: recording_named(found, pair[0], source, pair[1]) for pair in set(zip(names, whole, strict=True))}
    return table.assign(path=[pairs[pair] for pair in zip(names, whole, strict=True)])


def write_table(
    frame: pd.DataFrame, out: Path, free: Sequence[str] = (), lengths_s: Mapping[str, float] | None = None
) -> None:
    """Write calls as a selection table, in order of recording and time; what `read_table` reads.

    Opened as a selection table, the times of several recordings add up; opened as a sound selection table, the file
    columns hold.

    Args:
        frame: path, start_s, end_s, label, rate_hz; channel (empty: the first) and low_hz, high_hz (NaN: the whole band)
            where they are known; annotator, where somebody is to be named; time_expansion of a recording, if not its own.
        free: further columns, written as they are.
        lengths_s: of recordings, in s; asked of the files themselves where there are several.

    Raises:
        AudiorepError: a path or label with a tab or line break, or a file that cannot be written.
    """
    frame = frame.sort_values(["path", "start_s"], kind="stable").reset_index(drop=True)
    start, end = times(frame, out)
    slowed = dict(zip(frame["path"].astype(str), number_of(frame, "time_expansion"), strict=True))
    before, total = {}, 0.0
    for path, factor in slowed.items():
        before[path] = total
        total += (lengths_s or {}).get(path) or probe(path, factor).duration_s if len(slowed) > 1 else 0.0
    gone = frame["path"].astype(str).map(before).astype(float)
    known = {name: number_of(frame, name) for name in ("channel", "low_hz", "high_hz", "rate_hz")}
    cells: dict[str, Sequence[object]] = {
        "Selection": range(1, len(frame) + 1),
        "View": ["Spectrogram 1"] * len(frame),
        "Channel": known["channel"].fillna(1).clip(lower=1).astype(int).tolist(),
        "Begin Time (s)": [f"{t:.6f}" for t in gone + start],
        "End Time (s)": [f"{t:.6f}" for t in gone + end],
        "Low Freq (Hz)": [f"{f:.3f}" for f in known["low_hz"].fillna(0.0)],
        "High Freq (Hz)": [f"{f:.3f}" for f in known["high_hz"].fillna(known["rate_hz"] / 2)],
        "Begin File": [Path(path).name for path in frame["path"]],
        "Begin Path": frame["path"].tolist(),
        "File Offset (s)": [f"{t:.6f}" for t in start],
        "Annotation": frame["label"].tolist(),
        **({"Annotator": frame["annotator"].tolist()} if "annotator" in frame else {}),
        **{name: frame[name].tolist() for name in free},
    }
    lines = [list(cells), *([one_line(cell, out, "cell") for cell in row] for row in zip(*cells.values(), strict=True))]
    write_text(out, "".join("\t".join(line) + "\n" for line in lines))


def write(frame: pd.DataFrame, out: Path, root: Path | None = None) -> list[Path]:
    """Write ``NAME.Table.1.selections.txt`` for each recording, in the folder `out`, with all columns; returns the files."""
    frame = with_rates(frame)
    return write_each(
        frame, out, ".Table.1.selections.txt", lambda part, path: write_table(part, path, _free(part)), root
    )


def write_together(frame: pd.DataFrame, out: Path) -> list[Path]:
    """Write one table of several recordings, the file `out`, with all columns."""
    frame = with_rates(frame)
    write_table(frame, out, _free(frame))
    return [out]


def with_rates(frame: pd.DataFrame) -> pd.DataFrame:
    """With the recordings' sample rates as a column, asked of the files where there is none."""
    if "rate_hz" in frame:
        return frame
    rates = {path: probe(path).rate_hz for path in set(frame["path"])}
    return frame.assign(rate_hz=frame["path"].map(rates).astype(float))


class Raven:
    """A folder of recordings with selection tables beside them or in `annotations`.

    ``NAME.Table.1.selections.txt`` and ``NAME.selections.txt`` belong to ``NAME.wav``; a table with a column
    ``Begin Path`` or ``Begin File`` names its recordings itself: what is not found by its name is looked for at its path.
    Recordings without a table are unlabelled rows.

    Args:
        label_column: the column that holds the label; found by its usual names if None.
        unannotated: keep recordings without a table, as unlabelled rows.
    """

    def __init__(self, label_column: str | None = None, unannotated: bool = True) -> None:
        self.label_column = label_column
        self.unannotated = unannotated

    def describe(self) -> str:
        return "Raven selection tables"

    def recognises(self, recordings: Path, annotations: Path | None) -> bool:
        return holds(annotations or recordings, [ENDING], is_table)

    def read(self, recordings: Path, annotations: Path | None) -> pd.DataFrame:
        found, sources = find_recordings(recordings), files_of(annotations or recordings, [ENDING], is_table)
        parts = (recordings_of(read_table(source, self.label_column), source, found) for source in sources)
        return gathered(parts, found, self.unannotated)


def _free(frame: pd.DataFrame) -> list[str]:
    return [name for name in frame.columns if str(name).lower() not in NOT_FREE]
