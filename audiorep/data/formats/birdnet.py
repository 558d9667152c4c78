"""What BirdNET writes: selection tables, combined tables (CSV, Parquet) and Audacity labels, all with a confidence."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from audiorep.data.audio import probe
from audiorep.data.formats import audacity
from audiorep.data.formats.beside import Found, find_recordings, gathered, recording_named, recording_of, write_each
from audiorep.data.formats.cells import column_of, number_of, numbers, one_line, renamed, stretch, times
from audiorep.data.formats.folders import find_files
from audiorep.data.formats.raven import read_table, recordings_of, with_rates
from audiorep.data.formats.table import TABLES, header_of, read_any
from audiorep.errors import AudiorepError
from audiorep.files import atomic, write_text

SPECIES = {"common name": "common_name", "scientific name": "scientific_name", "species code": "species_code"}
"""How a species is named, in the order in which a label is looked for."""

COMBINED = {"start (s)": "start_s", "end (s)": "end_s", "confidence": "score", "file": "recording"} | SPECIES
WRITTEN = {"start_s": "Start (s)", "end_s": "End (s)", "score": "Confidence"}
NOTHING = "nocall"
"""What BirdNET writes into the table of a recording in which it found nothing."""

EXAMPLE = "NAME.wav beside NAME.BirdNET.selection.table.txt, NAME.BirdNET.results.csv or NAME.BirdNET.results.txt"


def read_selections(path: Path, found: Found) -> pd.DataFrame:
    """A selection table: a Raven table with `Confidence`."""
    table = recordings_of(read_table(path, "confidence"), path, found)  # what the label is, is chosen later
    return _scored(renamed(table.drop(columns="label"), {"confidence": "score"} | SPECIES), path)


def read_combined(path: Path, found: Found) -> pd.DataFrame:
    """A combined table: `Start (s)`, `End (s)`, names, `Confidence` and `File`."""
    table = renamed(read_any(path), COMBINED)
    if missing := [name for name in WRITTEN if name not in table]:
        raise AudiorepError(f"{path}: column '{WRITTEN[missing[0]]}' is missing; is it a table of BirdNET?")
    start, end = stretch(table, path, "Start (s)", "End (s)")
    table = _scored(table.assign(start_s=start, end_s=end), path)
    if "recording" not in table:
        return table.assign(path=recording_of(found, path, EXAMPLE))
    names = column_of(table, "recording").astype(str)
    if (blank := (names.str.strip() == "").to_numpy()).any():
        raise AudiorepError(f"{path}: row {int(table.index[blank][0]) + 2}: column 'File' is empty")
    known = {name: recording_named(found, name, path) for name in set(names)}
    return table.drop(columns="recording").assign(path=names.map(known))


def read_labels(path: Path, found: Found) -> pd.DataFrame:
    """Audacity labels: start, end, `Scientific_Common`, confidence."""
    rows = []
    for number, line in enumerate(audacity.lines_of(path), 1):
        if not line.strip():
            continue
        try:
            *cells, name, sure = line.split("\t")
            start, end, score = (audacity.decimal(cell) for cell in (*cells, sure))
        except ValueError as error:
            raise AudiorepError(
                f"{path}: line {number}: expected start, end (s), Scientific_Common and confidence with tabs between"
            ) from error
        if not (0.0 <= start < end < np.inf and np.isfinite(score)):
            raise AudiorepError(
                f"{path}: line {number}: its times are no stretch of the recording, or its confidence no number"
            )
        scientific, _, common = name.strip().partition("_") if "_" in name else ("", "", name.strip())
        rows.append([start, end, scientific, common, score])
    columns = ["start_s", "end_s", "scientific_name", "common_name", "score"]
    return pd.DataFrame(rows, columns=columns).assign(path=recording_of(found, path, EXAMPLE))


def is_selections(path: Path) -> bool:
    """Whether it is a selection table with a confidence."""
    wanted = {"begin time (s)", "end time (s)", "confidence"}
    return path.suffix.lower() == ".txt" and wanted <= (header := header_of(path, "\t")) and bool(_names(header))


def is_combined(path: Path) -> bool:
    """Whether it is a combined table."""
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    if path.suffix.lower() not in TABLES:
        return False
    return {"start (s)", "end (s)", "confidence"} <= (header := header_of(path, separator)) and bool(_names(header))


def is_labels(path: Path) -> bool:
    """Whether the first line of a text file is that of Audacity labels with a confidence."""
    if path.suffix.lower() != ".txt" or (cells := audacity.first_line(path)) is None or len(cells) != 4:
        return False
    return audacity.spans(cells) and audacity.spans([cells[3], cells[3]])


KINDS: tuple[tuple[Callable[[Path], bool], Callable[[Path, Found], pd.DataFrame]], ...] = (
    (is_selections, read_selections),
    (is_combined, read_combined),
    (is_labels, read_labels),
)


def write_selections(frame: pd.DataFrame, out: Path) -> list[Path]:
    """Write one selection table of all recordings, the file `out`, in BirdNET's columns; times of several add up.

    Args:
        frame: path, start_s, end_s, label; where they are known score, common_name (else the label), scientific_name,
            species_code, channel, low_hz, high_hz, rate_hz.

    Raises:
        AudiorepError: a cell with a tab or line break, a row without times, or a file that cannot be written.
    """
    frame = with_rates(frame).sort_values(["path", "start_s"], kind="stable").reset_index(drop=True)
    start, end = times(frame, out)
    paths = list(dict.fromkeys(frame["path"]))
    lengths = [probe(path).duration_s for path in paths[:-1]] if len(paths) > 1 else []
    gone = frame["path"].map(dict(zip(paths, np.cumsum([0.0, *lengths]), strict=False))).astype(float)
    names, score = _species(frame), number_of(frame, "score")
    top = number_of(frame, "high_hz").fillna(number_of(frame, "rate_hz") / 2)
    columns = {
        "Selection": range(1, len(frame) + 1),
        "Begin Time (s)": [f"{t:.6f}" for t in gone + start],
        "End Time (s)": [f"{t:.6f}" for t in gone + end],
        "Common Name": names["common_name"],
        "Scientific Name": names["scientific_name"],
        "Species Code": names["species_code"],
        "Confidence": _scores(score),
        "View": ["Spectrogram 1"] * len(frame),
        "Channel": number_of(frame, "channel").fillna(1).clip(lower=1).astype(int),
        "File Offset (s)": [f"{t:.6f}" for t in start],
        "Low Freq (Hz)": [f"{f:.3f}" for f in number_of(frame, "low_hz").fillna(0.0)],
        "High Freq (Hz)": [f"{f:.3f}" for f in top],
        "Begin Path": frame["path"],
    }
    lines = [
        list(columns),
        *([one_line(cell, out, "cell") for cell in row] for row in zip(*columns.values(), strict=True)),
    ]
    write_text(out, "".join("\t".join(line) + "\n" for line in lines))
    return [out]


def write_combined(frame: pd.DataFrame, out: Path) -> list[Path]:
    """Write one combined table of all recordings, `out`, as Parquet or CSV by its ending; see `write_selections`."""
    start, end = times(frame, out)
    names, score = _species(frame), number_of(frame, "score").fillna(1.0)
    columns = [start, end, names["scientific_name"], names["common_name"], score, frame["path"].astype(str)]
    heads = ["Start (s)", "End (s)", "Scientific name", "Common name", "Confidence", "File"]
    table = pd.DataFrame(dict(zip(heads, columns, strict=True)))
    with atomic(out) as temporary:
        if out.suffix.lower() == ".parquet":
            table.to_parquet(temporary, index=False)
        else:
            table.to_csv(temporary, index=False, lineterminator="\n")
    return [out]


def write_labels(frame: pd.DataFrame, out: Path, root: Path | None = None) -> list[Path]:
    """Write ``NAME.BirdNET.results.txt`` for each recording, in the folder `out`: Audacity labels with confidence."""

    def write_one(part: pd.DataFrame, path: Path) -> None:
        part = part.sort_values("start_s", kind="stable")
        start, end = times(part, path)
        names, scores = _species(part), _scores(number_of(part, "score"))
        rows = zip(start, end, names["scientific_name"], names["common_name"], scores, strict=True)
        lines = (f"{a:.6f}\t{b:.6f}\t{one_line(f'{s}_{c}', path, 'label')}\t{p}\n" for a, b, s, c, p in rows)
        write_text(path, "".join(lines))

    return write_each(frame, out, ".BirdNET.results.txt", write_one, root)


class BirdNET:
    """Tables of BirdNET beside recordings or in `annotations`: each detection a row with a `score`.

    What two files tell of one detection is one row. Recordings in which nothing was found are unlabelled rows.

    Args:
        label_column: the label: Common Name, Scientific Name or Species Code; None: the first of these that is there.
        unannotated: keep recordings without a detection, as unlabelled rows.
    """

    def __init__(self, label_column: str | None = None, unannotated: bool = True) -> None:
        self.label_column = label_column
        self.unannotated = unannotated

    def describe(self) -> str:
        return "BirdNET detections (score: BirdNET's confidence)"

    def recognises(self, recordings: Path, annotations: Path | None) -> bool:
        return any(self._sources(annotations or recordings))

    def read(self, recordings: Path, annotations: Path | None) -> pd.DataFrame:
        found, parts = find_recordings(recordings), list[pd.DataFrame]()
        sources = self._sources(annotations or recordings)
        if not any(sources):
            raise AudiorepError(f"{annotations or recordings}: no table of BirdNET there that we know")
        for (_, read), paths in zip(KINDS, sources, strict=True):
            for path in paths:
                table = self._labelled(read(path, found), path)
                parts.append(table[table["label"].str.lower() != NOTHING])
        table = gathered(parts, found, unannotated=False)
        if len(parts) > 1:
            place = {name: number_of(table, name).round(3) for name in ("start_s", "end_s")}
            table = table[~table[["path", "label"]].assign(**place).duplicated()]
        return gathered([table], found, self.unannotated)

    def _sources(self, source: Path) -> list[list[Path]]:
        if source.is_file():
            return [[source] if is_kind(source) else [] for is_kind, _ in KINDS]
        return [find_files(source, (".txt", *TABLES), is_kind) for is_kind, _ in KINDS]

    def _labelled(self, table: pd.DataFrame, path: Path) -> pd.DataFrame:
        wanted = (self.label_column or "").strip().lower()
        names = [SPECIES.get(wanted, wanted)] if wanted else [name for name in SPECIES.values() if name in table]
        if not names or names[0] not in table:
            raise AudiorepError(
                f"{path}: no column '{self.label_column or 'Common Name'}' for the label; say format.label_column=NAME, "
                f"one of: {', '.join(table.columns)}"
            )
        label = column_of(table, names[0]).astype(str).str.strip()
        for name in names[1:]:
            label = label.where(label != "", column_of(table, name).astype(str).str.strip())
        return table.assign(label=label)


def _names(header: set[str]) -> set[str]:
    return header & set(SPECIES)


def _scored(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    return table.assign(score=numbers(table, "score", path, "Confidence"))


def _species(frame: pd.DataFrame) -> pd.DataFrame:
    """The three names of each row: a label that is none of the others is the common one."""
    names = {name: column_of(frame, name).astype(str) for name in SPECIES.values()}
    label = column_of(frame, "label").astype(str)
    other = (label == "") | (label == names["scientific_name"]) | (label == names["species_code"])
    common = names["common_name"].where(other & (names["common_name"] != ""), label)
    return pd.DataFrame(names | {"common_name": common})


def _scores(score: pd.Series) -> pd.Series:
    """As text that reads back as the same number; what has none, as an answer of a person, is certain."""
    return score.fillna(1.0).map(lambda value: repr(float(value)))
