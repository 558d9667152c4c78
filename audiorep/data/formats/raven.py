"""Raven selection tables: tab-separated text, one selection a row."""

from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path

import pandas as pd

from audiorep.data.audio import is_audio
from audiorep.data.formats.folders import find_audio
from audiorep.data.formats.table import read_text_table
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
TIMES = {"start_s": "Begin Time (s)", "end_s": "End Time (s)"}
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


def is_table(path: Path) -> bool:
    """Whether a text file starts like a selection table."""
    if path.suffix.lower() != ENDING or not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        header = {name.strip().lower() for name in file.readline().split("\t")}
    return {"begin time (s)", "end time (s)"} <= header


def find_tables(folder: Path) -> list[Path]:
    """All selection tables below a folder (or the one table given), sorted."""
    return [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if is_table(path))


def read_table(path: Path, label_column: str | None = None) -> pd.DataFrame:
    """One selection table with canonical column names; free columns are kept under their own.

    Waveform and spectrogram views of one selection are one row. Times are those of `Begin Time (s)`, or of
    `File Offset (s)` where the table spans several files and names them.

    Raises:
        AudiorepError: no times, a time that is no number, an end before its start, or no label column to be found;
            names the file, the row and the column.
    """
    try:
        table = read_text_table(path, "\t")
    except (ValueError, OSError) as error:
        raise AudiorepError(f"{path}: not readable as a Raven selection table: {error}".replace("\n", " ")) from error
    lower = {str(name).strip().lower(): name for name in table.columns}
    if missing := [name for name in ("begin time (s)", "end time (s)") if name not in lower]:
        raise AudiorepError(f"{path}: column '{missing[0]}' is missing; is it a Raven selection table?")
    wanted = (
        label_column.strip().lower() if label_column else next((name for name in LABEL_NAMES if name in lower), None)
    )
    if wanted is None:
        free = [name for name in lower if name not in CORE and name not in MULTI]
        wanted = free[0] if len(free) == 1 else None
    if (wanted is None and len(table)) or (wanted is not None and wanted not in lower):
        raise AudiorepError(
            f"{path}: cannot tell which column holds the label; say format.label_column=NAME, one of: {', '.join(lower)}"
        )
    table = table.rename(columns={original: CORE.get(name, name) for name, original in lower.items()})
    table["label"] = table[wanted].str.strip() if wanted is not None else ""
    if "selection" in table and "view" in table:
        table = table.drop_duplicates(["selection", "start_s", "end_s", "label"])
    start, end = (_numbers(table, name, path, column) for name, column in TIMES.items())
    if (backwards := (end <= start).to_numpy()).any():
        raise AudiorepError(
            f"{path}: row {table.index[backwards][0] + 2}: column 'End Time (s)' is not after 'Begin Time (s)'"
        )
    if "file offset (s)" in table:
        offset = _numbers(table, "file offset (s)", path, "File Offset (s)")
        start, end = offset, offset + (end - start)
    table["start_s"], table["end_s"] = start, end
    return table.reset_index(drop=True)


def write_table(frame: pd.DataFrame, out: Path) -> None:
    """Write the calls of one recording as a selection table, in order of time; what `read_table` reads.

    It opens as a selection table, and by its file columns as a sound selection table.

    Args:
        frame: path, start_s, end_s, label, rate_hz; channel (empty: the first) and low_hz, high_hz (NaN: the whole band)
            where they are known; and annotator, where somebody is to be named.

    Raises:
        AudiorepError: a path or label with a tab or line break, or a file that cannot be written.
    """
    frame = frame.sort_values("start_s", kind="stable").reset_index(drop=True)
    empty = pd.Series(float("nan"), frame.index)
    known = {name: pd.to_numeric(frame.get(name, empty), errors="coerce") for name in ("channel", "low_hz", "high_hz")}
    cells: dict[str, Sequence[object]] = {
        "Selection": range(1, len(frame) + 1),
        "View": ["Spectrogram 1"] * len(frame),
        "Channel": known["channel"].fillna(1).clip(lower=1).astype(int).tolist(),
        "Begin Time (s)": [f"{t:.6f}" for t in frame["start_s"]],
        "End Time (s)": [f"{t:.6f}" for t in frame["end_s"]],
        "Low Freq (Hz)": [f"{f:.3f}" for f in known["low_hz"].fillna(0.0)],
        "High Freq (Hz)": [f"{f:.3f}" for f in known["high_hz"].fillna(frame["rate_hz"] / 2)],
        "Begin File": [Path(path).name for path in frame["path"]],
        "Begin Path": frame["path"].tolist(),
        "File Offset (s)": [f"{t:.6f}" for t in frame["start_s"]],
        "Annotation": frame["label"].tolist(),
        **({"Annotator": frame["annotator"].tolist()} if "annotator" in frame else {}),
    }
    lines = [list(cells), *([str(cell) for cell in row] for row in zip(*cells.values(), strict=True))]
    if bad := next((cell for line in lines for cell in line if not cell.isprintable()), None):
        raise AudiorepError(f"{out}: {bad!r} holds a tab or line break, which a selection table cannot: rename it")
    write_text(out, "".join("\t".join(line) + "\n" for line in lines))


class Raven:
    """A folder of recordings with selection tables beside them or in `annotations`.

    ``NAME.Table.1.selections.txt`` and ``NAME.selections.txt`` belong to ``NAME.wav``; a table with a column
    ``Begin Path`` or ``Begin File`` names its recordings itself. Recordings without a table are unlabelled rows.

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
        return (
            bool(find_tables(annotations or recordings))
            if (annotations or recordings).is_dir()
            else is_table(annotations or recordings)
        )

    def read(self, recordings: Path, annotations: Path | None) -> pd.DataFrame:
        root = recordings if recordings.is_dir() else recordings.parent
        found = [recordings] if is_audio(recordings) else find_audio(root)
        by_name, by_stem = _index(found, lambda path: path.name), _index(found, lambda path: path.stem)
        parts = []
        for source in find_tables(annotations or recordings):
            table = read_table(source, self.label_column)
            if "begin path" in table or "begin file" in table:
                column = "begin file" if "begin file" in table else "begin path"
                full = table["begin path" if "begin path" in table else column].str.replace("\\", "/")
                names = [name.replace("\\", "/").rsplit("/", 1)[-1] for name in table[column]]
                table["path"] = [
                    str(_nearest(by_name.get(name.lower(), []), source, tail) or root / name)
                    for name, tail in zip(names, full, strict=True)
                ]
            else:
                table["path"] = str(self.recording_of(source, by_stem))
            parts.append(table)
        annotated = {path for part in parts for path in part["path"]}
        if self.unannotated:
            parts.append(pd.DataFrame({"path": [str(p) for p in found if str(p) not in annotated], "label": ""}))
        return pd.concat(parts, ignore_index=True)

    def recording_of(self, table: Path, by_stem: Mapping[str, Sequence[Path]]) -> Path:
        """The recording that a table's name points to; of several of that name the one beside it."""
        stem = table.name.lower()
        while stem:
            stem = stem.rpartition(".")[0]
            if found := _nearest(by_stem.get(stem, []), table):
                return found
        raise AudiorepError(f"{table}: no recording of that name; expected NAME.wav beside NAME.Table.1.selections.txt")


def _index(paths: Sequence[Path], name: Callable[[Path], str]) -> dict[str, list[Path]]:
    """Paths by a name, whatever its case."""
    out: dict[str, list[Path]] = {}
    for path in paths:
        out.setdefault(name(path).lower(), []).append(path)
    return out


def _nearest(paths: Sequence[Path], table: Path, tail: str = "") -> Path | None:
    """Of recordings of one name the one whose folders agree with `tail`, or the one beside the table; None of none.

    Raises:
        AudiorepError: several of that name, and nothing tells which is meant.
    """

    def agreement(path: Path) -> tuple[int, bool]:
        ends = zip(reversed(path.parts), reversed(tail.lower().split("/")), strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0].lower() == pair[1], ends)), path.parent == table.parent

    if len(paths) < 2:
        return paths[0] if paths else None
    best = max(map(agreement, paths))
    nearest = [path for path in paths if agreement(path) == best]
    if len(nearest) > 1:
        raise AudiorepError(
            f"{table}: {len(nearest)} recordings are called {nearest[0].name} ({nearest[0]}, {nearest[1]}); "
            "put the table beside the one it belongs to"
        )
    return nearest[0]


def _numbers(table: pd.DataFrame, name: str, source: Path, column: str) -> pd.Series:
    """A column as numbers; `column` is its name in the file, whose index tells the row."""
    values = pd.to_numeric(table[name], errors="coerce").astype(float)
    if (bad := values.isna()).any():
        at = int(bad.to_numpy().argmax())
        raise AudiorepError(
            f"{source}: row {table.index[at] + 2}: column '{column}' is no number: {table[name].iloc[at]!r}"
        )
    return values
