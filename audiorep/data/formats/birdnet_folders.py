"""Training folders of BirdNET: a comma in a folder's name makes several labels, a leading - says absent."""

from pathlib import Path

import pandas as pd

from audiorep.data.formats.clips import write_clips
from audiorep.data.formats.folders import find_audio
from audiorep.data.labels import split_label
from audiorep.errors import AudiorepError

NON_EVENTS = ("noise", "other", "background", "silence")
"""Folders of what is no call, in any case; `data.background` names them."""


def label_of(folder: str) -> str:
    """A folder's name as a label: ``a,-b`` is ``a|-b``; noise and its like are in small letters."""
    names = [name.strip() for name in folder.split(",") if name.strip().strip("-")]
    return "|".join(name.lower() if name.lower() in NON_EVENTS else name for name in names)


def folder_of(label: str) -> str:
    """The folder of a label, the other way round.

    Raises:
        AudiorepError: a label that no folder can bear.
    """
    names = split_label(label)
    if not names or any("," in name or "/" in name or "\0" in name or name.startswith(".") for name in names):
        raise AudiorepError(
            f"the label {label!r} cannot be a folder of BirdNET (empty, or , / or a leading . in it): rename it"
        )
    return ",".join(names)


def write(frame: pd.DataFrame, out: Path) -> list[Path]:
    """Cut each labelled row out of its recording into ``out/LABELS/``; unlabelled rows are left out; returns the clips.

    Raises:
        AudiorepError: a label that no folder can bear, or a clip that cannot be read or written.
    """
    frame = frame[frame["label"] != ""]
    return write_clips(frame, out, [folder_of(label) for label in frame["label"]])


class BirdNETFolders:
    """``corpus/LABELS/*.wav``: training folders as BirdNET takes them, ``a,b`` for both and ``-a`` for known absent."""

    def describe(self) -> str:
        return "training folders of BirdNET (several labels, and absent ones with -: say labels.multilabel=true)"

    def recognises(self, recordings: Path, annotations: Path | None) -> bool:
        if annotations is not None or not recordings.is_dir():
            return False
        parents = {path.parent for path in find_audio(recordings)}
        flat = all(parent.parent == recordings for parent in parents)
        return flat and any("," in parent.name or parent.name.startswith("-") for parent in parents)

    def read(self, recordings: Path, annotations: Path | None) -> pd.DataFrame:
        paths = [path for path in find_audio(recordings) if path.parent != recordings]
        rows = [(str(path), label_of(path.relative_to(recordings).parts[0])) for path in paths]
        return pd.DataFrame(rows, columns=["path", "label"])
