"""Our own manifest: CSV, TSV or Parquet with a header."""

import csv
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from audiorep.errors import AudiorepError

SEPARATORS = {".csv": ",", ".tsv": "\t"}
TABLES = (*SEPARATORS, ".parquet")
LONGEST_HEADER = 1 << 16


def header_of(path: Path, separator: str = ",") -> set[str]:
    """The lower-case names in a table's header; none where there is no such file or it cannot be read."""
    try:
        if path.suffix.lower() == ".parquet":
            return {name.strip().lower() for name in pq.read_schema(path).names}
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            line = file.readline(LONGEST_HEADER)
        return {name.strip().strip('"').strip().lower() for name in line.split(separator)}
    except (OSError, ValueError, pa.ArrowException):
        return set()


def read_text_table(path: Path, separator: str, quoted: bool = True) -> pd.DataFrame:
    """All cells as text. Blank lines are left out but counted: the index is the line number less 2 (header: line 1).

    Args:
        quoted: whether a cell that begins with " is taken to be quoted.

    Raises:
        ValueError: rows with more fields than the header, or a header over several lines.
    """
    table = pd.read_csv(
        path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig", skip_blank_lines=False,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
    )  # fmt: skip
    if not isinstance(table.index, pd.RangeIndex):  # pandas would take the first column for an index
        raise ValueError("its rows have more fields than its header; quote cells that hold a separator")
    if any("\n" in str(name) or "\r" in str(name) for name in table.columns):
        raise ValueError("a name in its header goes on over lines; is a quotation mark missing there?")
    return table[~(table.isna() | (table == "")).all(axis=1)]


def read_any(path: Path) -> pd.DataFrame:
    """A table by the ending of its name: Parquet, tab-separated, else with commas.

    Raises:
        AudiorepError: not readable as that.
    """
    try:
        if path.suffix.lower() == ".parquet":
            table = pd.read_parquet(path).reset_index(drop=True)
            texts = table.loc[:, [str(kind) == "str" for kind in table.dtypes]]
            texts.to_numpy(dtype=object)  # what is no UTF-8 is found here, not where it is first looked at
            return table
        separator = SEPARATORS.get(path.suffix.lower(), ",")
        if len(header_of(path, separator)) == 1 < len(header_of(path, ";")):
            raise ValueError(
                "its columns are separated by semicolons; save it with commas, and with points in its numbers"
            )
        return read_text_table(path, separator)
    except Exception as error:  # of a broken Parquet file, whatever comes
        raise AudiorepError(f"{path}: not readable as a table: {error}".replace("\n", " ")) from error


class Table:
    """A table with a column `path` (or file, filename, file_name) and optional start_s, end_s, label, group, split ...

    Columns may have other names.

    Args:
        label_column, group_column: where `label` and `group` are.
        columns: where others are: {"path": "Filename", "start_s": "Start Time (s)"}.
        folder: of the recordings, where paths are not relative to the table.
    """

    def __init__(
        self,
        label_column: str | None = None,
        group_column: str | None = None,
        columns: Mapping[str, str] | None = None,
        folder: str | None = None,
    ) -> None:
        self.columns, self.folder = {"label": label_column, "group": group_column, **(columns or {})}, folder

    def describe(self) -> str:
        return "manifest table"

    def recognises(self, recordings: Path, annotations: Path | None) -> bool:
        return annotations is None and recordings.is_file() and recordings.suffix.lower() in TABLES

    def read(self, recordings: Path, annotations: Path | None) -> pd.DataFrame:
        table = read_any(recordings)
        wanted = {name: column for name, column in self.columns.items() if column is not None}
        for column in wanted.values():
            if column not in table.columns:
                raise AudiorepError(
                    f"{recordings}: no column '{column}'; there are: {', '.join(map(str, table.columns))}"
                )
        replaced = [other for other in table.columns if str(other).strip().lower() in wanted]
        table = table.drop(columns=replaced).assign(**{name: table[column] for name, column in wanted.items()})
        if self.folder is not None and "path" in table:
            table["path"] = [f"{self.folder}/{path}" for path in table["path"]]
        return table
