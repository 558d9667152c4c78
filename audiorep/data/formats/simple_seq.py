"""crowsetta's simple-seq: a CSV or text file a recording, with the columns onset_s, offset_s and label."""

from pathlib import Path

import pandas as pd

from audiorep.data.formats.beside import find_recordings, gathered, recording_of, write_each
from audiorep.data.formats.cells import renamed, stretch, times
from audiorep.data.formats.folders import files_of, holds
from audiorep.data.formats.generic_seq import MARKS, NAMES
from audiorep.data.formats.table import header_of, read_any
from audiorep.errors import AudiorepError
from audiorep.files import atomic

COLUMNS = ("onset_s", "offset_s", "label")
ENDINGS = (".csv", ".txt")


def is_table(path: Path) -> bool:
    """Whether it is a text file with the columns of simple-seq, and of no larger format."""
    return path.suffix.lower() in ENDINGS and set(COLUMNS) <= (header := header_of(path)) and not header & MARKS


def read_table(path: Path) -> pd.DataFrame:
    """One recording's table: start_s, end_s, label, and what else it holds.

    Raises:
        AudiorepError: a column is missing, or a time is no number; names file, row and column.
    """
    table = renamed(read_any(path), NAMES)
    if missing := [name for name in COLUMNS if NAMES.get(name, name) not in table]:
        raise AudiorepError(f"{path}: column '{missing[0]}' is missing; is it a simple-seq table?")
    start, end = stretch(table, path, "onset_s", "offset_s")
    return table.assign(start_s=start, end_s=end)


def write(frame: pd.DataFrame, out: Path, root: Path | None = None) -> list[Path]:
    """Write ``NAME.csv`` for each recording, in the folder `out`; returns the files.

    Raises:
        AudiorepError: a row without times, or a file that cannot be written.
    """

    def write_one(part: pd.DataFrame, path: Path) -> None:
        start, end = times(part, path)
        table = pd.DataFrame({"onset_s": start, "offset_s": end, "label": part["label"].astype(str)})
        with atomic(path) as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")

    return write_each(frame, out, ".csv", write_one, root)


class SimpleSeq:
    """Recordings with tables in crowsetta's simple-seq format beside them or in `annotations`: ``NAME.csv``.

    Args:
        unannotated: keep recordings without a table, as unlabelled rows.
    """

    def __init__(self, unannotated: bool = True) -> None:
        self.unannotated = unannotated

    def describe(self) -> str:
        return "crowsetta's simple-seq"

    def recognises(self, recordings: Path, annotations: Path | None) -> bool:
        return holds(annotations or recordings, ENDINGS, is_table)

    def read(self, recordings: Path, annotations: Path | None) -> pd.DataFrame:
        found = find_recordings(recordings)
        parts = [
            read_table(path).assign(path=recording_of(found, path, "NAME.wav beside NAME.csv"))
            for path in files_of(annotations or recordings, ENDINGS, is_table)
        ]
        return gathered(parts, found, self.unannotated)
