"""Our own manifest: CSV, TSV or Parquet with a header."""

from pathlib import Path

import pandas as pd

from audiorep.errors import AudiorepError

SEPARATORS = {".csv": ",", ".tsv": "\t"}


def read_text_table(path: Path, separator: str) -> pd.DataFrame:
    """All cells as text. Blank lines are left out but counted: the index is the line number less 2 (header: line 1).

    Raises:
        ValueError: rows with more fields than the header.
    """
    table = pd.read_csv(
        path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig", skip_blank_lines=False
    )
    if not isinstance(table.index, pd.RangeIndex):  # pandas would take the first column for an index
        raise ValueError("its rows have more fields than its header; quote cells that hold a separator")
    return table[~(table.isna() | (table == "")).all(axis=1)]


class Table:
    """A table with a column `path` (or file, filename, file_name) and optional start_s, end_s, label, group, split ...

    `label` and `group` may live in columns of other names: `label_column`, `group_column`.
    """

    def __init__(self, label_column: str | None = None, group_column: str | None = None) -> None:
        self.columns = {"label": label_column, "group": group_column}

    def describe(self) -> str:
        return "manifest table"

    def recognises(self, recordings: Path, annotations: Path | None) -> bool:
        return annotations is None and recordings.is_file() and recordings.suffix.lower() in (*SEPARATORS, ".parquet")

    def read(self, recordings: Path, annotations: Path | None) -> pd.DataFrame:
        try:
            if recordings.suffix.lower() == ".parquet":
                table = pd.read_parquet(recordings).reset_index(drop=True)
            else:
                separator = SEPARATORS.get(recordings.suffix.lower(), ",")
                table = read_text_table(recordings, separator)
        except (ValueError, OSError) as error:
            raise AudiorepError(f"{recordings}: not readable as a table: {error}".replace("\n", " ")) from error
        wanted = {name: column for name, column in self.columns.items() if column is not None}
        for column in wanted.values():
            if column not in table.columns:
                raise AudiorepError(
                    f"{recordings}: no column '{column}'; there are: {', '.join(map(str, table.columns))}"
                )
        replaced = [other for other in table.columns if str(other).strip().lower() in wanted]
        return table.drop(columns=replaced).assign(**{name: table[column] for name, column in wanted.items()})
