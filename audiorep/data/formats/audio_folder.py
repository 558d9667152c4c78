"""Hugging Face's AudioFolder: ``metadata.csv`` or ``metadata.jsonl`` with ``file_name``, also one in each split's folder."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from audiorep.data.formats.cells import column_of, renamed
from audiorep.data.formats.clips import write_clips
from audiorep.data.formats.folders import find_audio
from audiorep.data.formats.table import header_of, read_any
from audiorep.errors import AudiorepError
from audiorep.files import write_text

TABLES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
LABEL_NAMES = ("label", "labels", "category", "class", "species")
SPLITS = {
    "train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation",
    "dev": "validation", "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
"""Folders that are splits."""


def read_metadata(path: Path, label_column: str | None = None) -> pd.DataFrame:
    """One table: path (absolute), label where there is one ("a|b" of a list), and all other columns.

    Raises:
        AudiorepError: not readable, or no `file_name`; names file, row and column.
    """
    table = read_lines(path) if path.suffix.lower() == ".jsonl" else read_any(path)
    table = renamed(table, {})
    if "file_name" not in table:
        raise AudiorepError(f"{path}: column 'file_name' is missing; there are: {', '.join(table.columns)}")
    names = column_of(table, "file_name").astype(str).str.strip()
    if (blank := ((names == "") | names.str.contains("\0")).to_numpy()).any():
        raise AudiorepError(f"{path}: row {int(table.index[blank][0]) + 2}: column 'file_name' is empty")
    wanted = label_column.strip().lower() if label_column else next((n for n in LABEL_NAMES if n in table), None)
    if wanted is not None and wanted not in table:
        raise AudiorepError(f"{path}: no column '{label_column}'; there are: {', '.join(table.columns)}")
    label = column_of(table, wanted).map(_label) if wanted is not None else ""
    rest = table.drop(columns=["file_name", *(["label"] if wanted == "label" else [])])
    rest = renamed(rest, {"path": "path_2", "label": "label_2"}).map(_text)
    return rest.assign(path=[str(path.parent / name) for name in names], label=label)


def read_lines(path: Path) -> pd.DataFrame:
    """JSON objects, one a line; blank lines are left out but counted: the index is the line number less 2.

    Raises:
        AudiorepError: a line that is no object; names it.
    """
    rows: list[dict[str, Any]] = []
    numbers = []
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, ValueError) as error:
        raise AudiorepError(f"{path}: not readable: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows.append(dict(json.loads(line).items()))
        except (ValueError, AttributeError, RecursionError) as error:
            raise AudiorepError(f'{path}: line {number} is no JSON object such as {{"file_name": "a.wav"}}') from error
        numbers.append(number - 2)
    return pd.DataFrame(rows, index=pd.Index(numbers, dtype=int), columns=None if rows else ["file_name"], dtype=object)


class AudioFolder:
    """A folder with metadata as Hugging Face's AudioFolder has it, or with ``train/CLASS/*.wav``.

    The folder of a split (train, validation, test and their other names) is the column `split`.

    Args:
        label_column: the column that holds the label; found by its usual names if None.
    """

    def __init__(self, label_column: str | None = None) -> None:
        self.label_column = label_column

    def describe(self) -> str:
        return "Hugging Face's AudioFolder"

    def recognises(self, recordings: Path, annotations: Path | None) -> bool:
        if annotations is not None:
            return False
        if recordings.is_file():
            return _is_table(recordings)
        return recordings.is_dir() and (any(map(_is_table, _tables(recordings))) or any(self._in_splits(recordings)))

    def read(self, recordings: Path, annotations: Path | None) -> pd.DataFrame:
        source = annotations or recordings
        tables = [source] if source.is_file() else _tables(source)
        if not tables:
            rows = list(self._in_splits(source))
            if not rows:
                raise AudiorepError(f"{source}: neither {' nor '.join(TABLES)}, nor folders such as train/CLASS")
            return pd.DataFrame(rows, columns=["path", "label", "split"])
        parts = []
        for path in tables:
            part = read_metadata(path, self.label_column)
            folders = [Path(name).relative_to(path.parent).parts[:1] if Path(name).is_relative_to(path.parent) else ()
                       for name in part["path"]]  # fmt: skip
            beside = SPLITS.get(path.parent.name.lower(), "") if path.parent != source else ""
            splits = [beside or SPLITS.get(str(first[0]).lower() if first else "", "") for first in folders]
            parts.append(part if "split" in part or not any(splits) else part.assign(split=splits))
        return pd.concat(parts, ignore_index=True)

    def _in_splits(self, folder: Path) -> Iterator[tuple[str, str, str]]:
        """Path, label and split of ``SPLIT/CLASS/NAME.wav``; nothing where a recording lies elsewhere."""
        if not any(place.name.lower() in SPLITS for place in folder.iterdir() if place.is_dir()):
            return
        found = [(path, path.relative_to(folder).parts) for path in find_audio(folder)]
        if all(len(parts) == 3 and parts[0].lower() in SPLITS for _, parts in found):
            yield from ((str(path), parts[1], SPLITS[parts[0].lower()]) for path, parts in found)


def write(frame: pd.DataFrame, out: Path) -> list[Path]:
    """Write rows as clips and their `metadata.jsonl`, a folder a split where all have one; returns the tables and the clips.

    All columns are kept but path, start_s and end_s, which the clips stand for. No label: the cell is empty.
    """
    frame = frame.reset_index(drop=True)
    known = [SPLITS.get(name.lower(), "") for name in column_of(frame, "split").astype(str)]
    splits = known if all(known) else [""] * len(frame)
    clips = write_clips(frame, out, [split or "." for split in splits])
    gone = ["path", "start_s", "end_s", "file_name", *(["split"] if any(splits) else [])]
    cells = frame.drop(columns=[name for name in gone if name in frame]).to_dict("records")
    written = []
    for split in dict.fromkeys(splits or [""]):
        path = out / split / "metadata.jsonl"
        rows = [
            {"file_name": clip.name} | {str(name): _plain(value) for name, value in cell.items()}
            for clip, cell, one in zip(clips, cells, splits, strict=True)
            if one == split
        ]
        write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
        written.append(path)
    return [*written, *clips]


def _tables(folder: Path) -> list[Path]:
    """Its metadata: in the folder itself, else in the folders of its splits."""
    own = [folder / name for name in TABLES if (folder / name).is_file()][:1]
    below = (place / name for place in sorted(folder.iterdir()) if place.is_dir() for name in TABLES)
    return own or [path for path in below if path.is_file()]


def _is_table(path: Path) -> bool:
    """Whether it is metadata with file names."""
    if path.name.lower() not in TABLES:
        return False
    if path.suffix.lower() == ".jsonl":
        return any('file_name"' in name for name in header_of(path))
    return "file_name" in header_of(path)


def _label(value: Any) -> str:
    """The label of a cell; a list of names is ``a|b``."""
    return "|".join(map(_text, value)) if isinstance(value, (list, tuple, np.ndarray)) else _text(value)


def _plain(value: Any) -> Any:
    """A cell as JSON has it: numbers stay numbers, no value is null."""
    if isinstance(value, (str, list, dict)):
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    return None if pd.isna(value) else value if isinstance(value, (bool, int, float)) else str(value)


def _text(value: Any) -> str:
    """A cell as text, as a CSV file would have it; lists and objects as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, np.ndarray):
        return json.dumps(value.tolist(), default=str)
    if isinstance(value, (list, dict)):
        return json.dumps(value)
    return "" if pd.isna(value) else str(value)
