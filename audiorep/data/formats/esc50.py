"""The layout of ESC-50: ``meta/esc50.csv`` (filename, fold, target, category) and the clips in ``audio``."""

import re
from pathlib import Path

import pandas as pd

from audiorep.data.formats.cells import column_of, number_of, one_line, renamed
from audiorep.data.formats.clips import write_clips
from audiorep.data.formats.table import read_any
from audiorep.errors import AudiorepError
from audiorep.files import atomic

TABLE = Path("meta", "esc50.csv")
COLUMNS = ("filename", "fold", "target", "category")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SOURCE = re.compile(r"\d+-([^-]+)-")
"""A clip is called FOLD-SOURCE-TAKE-TARGET.wav: clips of one source belong on one side of a split."""


class Esc50:
    """A folder with ``meta/esc50.csv`` and ``audio``; `fold` and `target` are columns, the source recording is the group."""

    def describe(self) -> str:
        return "the layout of ESC-50 (meta/esc50.csv; the official folds: split.column=fold)"

    def recognises(self, recordings: Path, annotations: Path | None) -> bool:
        return annotations is None and _folder(recordings).joinpath(TABLE).is_file()

    def read(self, recordings: Path, annotations: Path | None) -> pd.DataFrame:
        folder = _folder(recordings)
        source = annotations or folder / TABLE
        table = renamed(read_any(source), {"category": "label"})
        if missing := [name for name in ("filename", "label") if name not in table]:
            raise AudiorepError(f"{source}: column '{ {'label': 'category'}.get(missing[0], missing[0]) }' is missing")
        names = column_of(table, "filename").astype(str).str.strip()
        if (bad := names.isin(["", ".", ".."]) | names.str.contains(r"[/\\\x00]")).any():
            raise AudiorepError(f"{source}: row {int(table.index[bad][0]) + 2}: column 'filename' is no file's name")
        clip = names.str.extract(SOURCE, expand=False)
        group = column_of(table, "src_file").astype(str).where(lambda name: name != "", clip)
        return table.drop(columns="filename").assign(path=[str(folder / "audio" / name) for name in names], group=group)


def write(frame: pd.DataFrame, out: Path) -> list[Path]:
    """Write labelled rows as clips and their table in the layout of ESC-50; returns the table and the clips.

    Args:
        frame: path, start_s, end_s, label; where known fold (else 1 to 5 by group), target (else the label's number among
            all labels, sorted), group (else the recording).
    """
    frame = frame[frame["label"] != ""].reset_index(drop=True)
    group = column_of(frame, "group").astype(str)
    stems = pd.Series([Path(path).stem for path in frame["path"]], frame.index, dtype=object)
    group = group.where((group != "") & (group != frame["path"].astype(str)), stems)
    labels, groups = sorted(set(frame["label"])), sorted(set(group))
    number, side = ({name: i for i, name in enumerate(names)} for names in (labels, groups))
    fold = number_of(frame, "fold").fillna(group.map(side).astype(float) % 5 + 1)
    target = number_of(frame, "target").fillna(frame["label"].map(number).astype(float))
    source = group.map(lambda name: re.sub(r"[\W-]+", "_", name) or "0")
    take = frame.groupby(source).cumcount().map(lambda i: LETTERS[i % 26] * (i // 26 + 1))
    parts = zip(fold.astype("int64"), source, take, target.astype("int64"), strict=True)
    clips = write_clips(frame, out, ["audio"] * len(frame), ["-".join(map(str, part)) for part in parts])
    table = pd.DataFrame(
        {
            "filename": [path.name for path in clips],
            "fold": fold.astype("int64"),
            "target": target.astype("int64"),
            "category": [one_line(label, out / TABLE, "label") for label in frame["label"]],
            "src_file": group,
        }
    )
    with atomic(out / TABLE) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")
    return [out / TABLE, *clips]


def _folder(recordings: Path) -> Path:
    """The data set's folder, also where its table or one of its folders is given."""
    if recordings.is_file():
        return recordings.parent.parent if recordings.name.lower() == TABLE.name else recordings
    return recordings.parent if recordings.name == "audio" and (recordings.parent / TABLE).is_file() else recordings
