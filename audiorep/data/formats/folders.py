"""Folders of recordings: one folder a class, or just recordings."""

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from audiorep.data.audio import EXTENSIONS, is_audio


def find_files(folder: Path, endings: Iterable[str], wanted: Callable[[Path], bool] | None = None) -> list[Path]:
    """All files below a folder that end so, in any case, and are wanted, sorted; hidden files and folders are left out."""
    last, out = tuple(endings), list[str]()
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        named = (name for name in files if name.lower().endswith(last) and not name.startswith("."))
        out.extend(os.path.join(place, name) for name in named)  # noqa: PTH118 a hundred thousand paths take seconds
    paths = map(Path, sorted(out, key=lambda name: name.split("/")))
    return list(paths) if wanted is None else [path for path in paths if path.is_file() and wanted(path)]


def files_of(source: Path, endings: Iterable[str], wanted: Callable[[Path], bool] | None = None) -> list[Path]:
    """The file itself, or all files below a folder that end so and are wanted."""
    return [source] if source.is_file() else find_files(source, endings, wanted)


def holds(source: Path, endings: Iterable[str], wanted: Callable[[Path], bool]) -> bool:
    """Whether a file is wanted, or any below a folder that ends so."""
    return bool(find_files(source, endings, wanted)) if source.is_dir() else wanted(source)


def find_audio(folder: Path) -> list[Path]:
    """All recordings below a folder, sorted, hidden files and folders left out."""
    return find_files(folder, EXTENSIONS)


DATE = re.compile(r"\D*((19|20)\d{2}([-_. ]?\d{2}){0,5}|\d{6})\D*")
"""A folder's name that is a year, a month, a day or a moment, and so no class: 2012, 2012-03, 20120323, night_120323."""


UNLABELLED = ("", "unlabelled", "unlabeled")
"""Class folders that are none: recordings beside the others, and what says so by its name."""


class ClassFolders:
    """``corpus/CLASS/*.wav``: the folder's name is the label. Recordings beside the folders, or in one that is called
    ``unlabelled``, have none."""

    def describe(self) -> str:
        return "class folders (one folder a class; if their names are no labels, say format=recordings)"

    def recognises(self, recordings: Path, annotations: Path | None) -> bool:
        if annotations is not None or not recordings.is_dir():
            return False
        parents = {path.parent for path in find_audio(recordings)} - {recordings}
        dates = all(DATE.fullmatch(parent.name) for parent in parents)
        return len(parents) >= 2 and not dates and all(parent.parent == recordings for parent in parents)

    def read(self, recordings: Path, annotations: Path | None) -> pd.DataFrame:
        found = find_audio(recordings)
        folders = ["".join(path.relative_to(recordings).parts[:-1][:1]) for path in found]
        labels = ["" if name.lower() in UNLABELLED else name for name in folders]
        return pd.DataFrame({"path": [str(path) for path in found], "label": labels})


class Recordings:
    """Any folder (or single file) of recordings, all of them unlabelled; the folder a file lies in is its group."""

    def describe(self) -> str:
        return "unlabelled recordings"

    def recognises(self, recordings: Path, annotations: Path | None) -> bool:
        return annotations is None and (is_audio(recordings) or (recordings.is_dir() and bool(find_audio(recordings))))

    def read(self, recordings: Path, annotations: Path | None) -> pd.DataFrame:
        if recordings.is_file():
            return pd.DataFrame({"path": [str(recordings)], "label": ""})
        found = find_audio(recordings)
        groups = [path.parent.relative_to(recordings).as_posix() for path in found]
        if len(set(groups)) < 2:
            groups = [str(path) for path in found]
        return pd.DataFrame({"path": [str(path) for path in found], "label": "", "group": groups})
