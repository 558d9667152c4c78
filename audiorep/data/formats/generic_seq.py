"""crowsetta's generic-seq: one CSV of all recordings, each row a segment with its times, its recording and its source."""

from pathlib import Path

import numpy as np
import pandas as pd

from audiorep.data.formats.beside import Found, find_recordings, gathered, rates_hz, recording_named, recording_of
from audiorep.data.formats.cells import column_of, number_of, numbers, renamed, stretch, times
from audiorep.data.formats.folders import files_of, holds
from audiorep.data.formats.table import header_of, read_any
from audiorep.errors import AudiorepError
from audiorep.files import atomic

NAMES = {"onset_s": "start_s", "offset_s": "end_s"}
MARKS = {"notated_path", "annot_path"}
ENDINGS = (".csv",)


def is_table(path: Path) -> bool:
    """Whether it is a CSV file with the columns of generic-seq."""
    return path.suffix.lower() in ENDINGS and {"label", *MARKS} <= header_of(path)


def read_table(path: Path, found: Found) -> pd.DataFrame:
    """One table; times are those in s, else samples over the recording's rate; the other columns are kept.

    Raises:
        AudiorepError: a column is missing, a time is no number, a recording is not named; names file, row and column.
    """
    table = renamed(read_any(path), NAMES)
    if missing := [name for name in ("label", "notated_path") if name not in table]:
        raise AudiorepError(f"{path}: column '{missing[0]}' is missing; is it a generic-seq table?")
    places = zip(column_of(table, "notated_path").astype(str), column_of(table, "annot_path").astype(str), strict=True)
    pairs = list(places)
    place = {pair: _recording(found, *pair, path) for pair in set(pairs)}
    table = table.assign(path=[place[pair] for pair in pairs])
    if not {"start_s", "end_s"} <= set(table.columns):
        table = _from_samples(table, path)
    known = table[table["start_s"].notna()]  # of a recording that cannot be read, samples tell no time
    start, end = stretch(known, path, "onset_s", "offset_s")
    return table.assign(start_s=start, end_s=end).drop(columns="notated_path")


def write(frame: pd.DataFrame, out: Path) -> list[Path]:
    """Write one table of all recordings, the file `out`, as crowsetta reads it.

    Args:
        frame: path, start_s, end_s, label; rate_hz (then samples too); annot_path, sequence and annotation where known.

    Raises:
        AudiorepError: a row without times or label, or a file that cannot be written.
    """
    start, end = times(frame, out)
    if (blank := (frame["label"].astype(str).str.strip() == "").to_numpy()).any():
        raise AudiorepError(f"{out}: row {int(blank.argmax()) + 1} has no label, which this format needs: leave it out")
    rate = number_of(frame, "rate_hz")
    columns: dict[str, object] = {"label": frame["label"].astype(str), "onset_s": start, "offset_s": end}
    if len(frame) and rate.notna().all():
        columns |= {
            f"{name}_sample": np.rint(t * rate).astype(np.int64) for name, t in (("onset", start), ("offset", end))
        }
    paths = frame["path"].astype(str)
    number = {path: i for i, path in enumerate(dict.fromkeys(paths))}
    columns |= {
        "notated_path": paths,
        "annot_path": column_of(frame, "annot_path", str(out)).astype(str),
        "sequence": number_of(frame, "sequence").fillna(0).astype(np.int64),
        "annotation": number_of(frame, "annotation").fillna(paths.map(number).astype(float)).astype(np.int64),
    }
    with atomic(out) as temporary:
        pd.DataFrame(columns).to_csv(temporary, index=False, lineterminator="\n")
    return [out]


class GenericSeq:
    """A CSV table in crowsetta's generic-seq format, given as the corpus, in its folder, or as `annotations`.

    Args:
        unannotated: keep recordings that no row names, as unlabelled rows.
    """

    def __init__(self, unannotated: bool = True) -> None:
        self.unannotated = unannotated

    def describe(self) -> str:
        return "crowsetta's generic-seq"

    def recognises(self, recordings: Path, annotations: Path | None) -> bool:
        return holds(annotations or recordings, ENDINGS, is_table)

    def read(self, recordings: Path, annotations: Path | None) -> pd.DataFrame:
        found, sources = find_recordings(recordings), files_of(annotations or recordings, ENDINGS, is_table)
        return gathered((read_table(path, found) for path in sources), found, self.unannotated)


def _recording(found: Found, notated: str, annot: str, source: Path) -> str:
    if notated.strip() not in ("", "None", "nan"):
        return recording_named(found, notated, source)
    if not annot.strip():
        raise AudiorepError(
            f"{source}: a row names no recording: columns 'notated_path' and 'annot_path' are both empty"
        )
    return recording_of(found, source.parent / annot.replace("\\", "/").rsplit("/", 1)[-1], "notated_path to name it")


def _from_samples(table: pd.DataFrame, source: Path) -> pd.DataFrame:
    if not {"onset_sample", "offset_sample"} <= set(table.columns):
        raise AudiorepError(f"{source}: columns 'onset_s' and 'offset_s' are missing, and those in samples too")
    rate = table["path"].map(rates_hz(table["path"])).astype(float)
    first, last = (numbers(table, f"{name}_sample", source) / rate for name in ("onset", "offset"))
    return table.assign(start_s=first, end_s=last)
