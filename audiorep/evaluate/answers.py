"""What a classifier said of every row of its corpus, labelled or not, in a small file of its folder."""

import io
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float, Int, Int8

from audiorep.errors import AudiorepError
from audiorep.files import write_bytes

NAME = "answers.npz"

TRAIN, TEST, HELD = 0, 1, 2
"""Sides of a row; held: neither trained nor tested on, but kept back to calibrate."""


@dataclass(frozen=True)
class Told:
    """Of every row: logits [n c] (NaN where it could not be decoded), truth [n] or [n c], side [n]; and the classes [c]."""

    logits: Float[np.ndarray, "n c"]
    truth: np.ndarray
    side: Int8[np.ndarray, " n"]
    classes: list[str]


def write_answers(told: Told, path: Path) -> None:
    """Write plain arrays: `numpy.load` reads them without pickle."""
    memory = io.BytesIO()
    np.savez_compressed(
        memory, logits=told.logits, truth=told.truth, side=told.side, classes=np.array(told.classes, dtype=str)
    )
    write_bytes(path, memory.getvalue())


def read_answers(path: Path) -> Told:
    """What `write_answers` wrote.

    Raises:
        AudiorepError: no such file, or a damaged one.
    """
    if not path.exists():
        raise AudiorepError(f"{path} is not there: {path.parent} was not trained to its end")
    try:
        with np.load(path, allow_pickle=False) as file:
            return Told(file["logits"], file["truth"], file["side"], file["classes"].tolist())
    except (OSError, EOFError, ValueError, KeyError, AttributeError, TypeError, BadZipFile) as error:
        raise AudiorepError(f"cannot read {path}: {error}; train {path.parent} again") from error


def of_folds(
    folder: Path, rows: int, classes: list[str], labelled: Int[np.ndarray, " k"]
) -> Float[np.ndarray, "rows c"]:
    """What each of the classifiers in ``folder/fold_*`` said of the rows that were kept from it; NaN of other rows.

    Args:
        rows: of the corpus. labelled: those that may be learned from, the only ones that can have been kept back.

    Raises:
        AudiorepError: there are none, or they answered about other rows, classes or labels than are given.
    """
    logits = np.full((rows, len(classes)), np.nan)
    folders = sorted(folder.glob("fold_*"))
    if not folders:
        raise AudiorepError(f"calibration.answers={folder} holds no fold_*: audiorep run cross_calibration makes them")
    for fold in folders:
        told = read_answers(fold / NAME)
        held = told.side == HELD
        if len(told.logits) != rows or told.classes != classes or np.setdiff1d(np.flatnonzero(held), labelled).size:
            raise AudiorepError(
                f"{fold / NAME} is about other rows or classes than this training has: train all of them on the same corpus, "
                "with the same split, labels and seed"
            )
        logits[held] = told.logits[held]
    return logits
