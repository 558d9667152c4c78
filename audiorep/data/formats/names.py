"""Recordings whose names say what they hold: a pattern tells which part is the label, which the group."""

import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from audiorep.data.formats.folders import find_audio
from audiorep.errors import AudiorepError


class Names:
    """Every recording of a folder is a row; the named groups of a pattern become its columns.

    Args:
        pattern: a regular expression that the whole path below the folder matches, with / between folders:
            ``(?P<label>[^_]+)_(?P<group>[^_]+)_.*``.
        values: what stands for a part: {"label": {"B": "brushing"}}; what is not named stays.
    """

    def __init__(self, pattern: str, values: Mapping[str, Mapping[str, str]] | None = None) -> None:
        try:
            self.pattern = re.compile(pattern)
        except re.error as error:
            raise AudiorepError(f"format.pattern={pattern}: no regular expression: {error}") from error
        self.values = values or {}

    def describe(self) -> str:
        return "recordings whose names tell their labels"

    def recognises(self, recordings: Path, annotations: Path | None) -> bool:
        return annotations is None and recordings.is_dir()

    def read(self, recordings: Path, annotations: Path | None) -> pd.DataFrame:
        """Raises AudiorepError: a name that does not match."""
        rows = []
        for path in find_audio(recordings):
            found = self.pattern.fullmatch(path.relative_to(recordings).as_posix())
            if found is None:
                raise AudiorepError(f"{path}: its name does not match {self.pattern.pattern}")
            rows.append({"path": str(path), **{k: v or "" for k, v in found.groupdict().items()}})
        table = pd.DataFrame(rows, columns=["path", *self.pattern.groupindex])
        for column, named in self.values.items():
            table[column] = table[column].map(lambda value, named=named: named.get(value, value))
        return table if "label" in table else table.assign(label="")
