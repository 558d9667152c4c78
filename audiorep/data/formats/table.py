"""Our own manifest: CSV, TSV or Parquet with a header."""

from pathlib import Path

import pandas as pd

from audiorep.errors import AudiorepError

SEPARATORS = {".csv": ",", ".tsv": "\t"}


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
                table = pd.read_parquet(recordings)
            else:
                separator = SEPARATORS.get(recordings.suffix.lower(), ",")
                table = pd.read_csv(recordings, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
        except (ValueError, OSError) as error:
            raise AudiorepError(f"{recordings}: not readable as a table: {error}".replace("\n", " ")) from error
        for name, column in self.columns.items():
            if column is None:
                continue
            if column not in table.columns:
                raise AudiorepError(
                    f"{recordings}: no column '{column}'; there are: {', '.join(map(str, table.columns))}"
                )
            table[name] = table[column]
        return table
