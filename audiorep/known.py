"""What may be known of a corpus's labels: a budget to train on, rows kept back to calibrate, and the classes of both."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from audiorep import build
from audiorep.data.budget import deal, hold_out, members, spend, with_errors
from audiorep.data.sampler import has_label
from audiorep.errors import AudiorepError
from audiorep.evaluate.answers import of_folds as answers_of_folds

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Known:
    """What may be known of the labels.

    classes: of the classifier. truth: [rows] or [rows c] of all rows, by these classes. train, calibration: labelled rows
    of the training side. notes: what a user should know. of_folds: logits [rows c] of `train` by classifiers that
    did not learn from them, NaN elsewhere; None where there are none, and `calibration` has to do.
    """

    classes: list[str]
    truth: np.ndarray
    train: np.ndarray
    calibration: np.ndarray
    notes: list[str]
    of_folds: np.ndarray | None = None


def what_is_known(cfg: DictConfig, corpus: build.Corpus) -> Known:
    """Spend the budget, hold out what calibrates, and settle the classes: those with a label to train on.

    Raises:
        AudiorepError: fewer than two classes (one, with several labels a row) have one.
    """
    seed = cfg.seed if cfg.labels_seed is None else cfg.labels_seed
    frame = corpus.manifest.frame
    named = np.flatnonzero(build.rows_where(frame, cfg.calibration.column, cfg.calibration.rows, "calibration.column"))
    named = np.intersect1d(named, corpus.split.train)
    budget = spend(
        np.setdiff1d(corpus.split.train, named),
        corpus.truth,
        corpus.classes,
        cfg.labels_per_class,
        cfg.label_fraction,
        int(seed),
    )
    notes = list(budget.notes)
    if cfg.calibration.column is not None:
        fit_rows, held = budget.rows, named if has_label(corpus.truth[named]).any() else named[:0]
    else:
        fit_rows, held = kept_back(cfg, corpus, budget.rows, int(seed))
    present = members(corpus.truth, len(corpus.classes))
    taught = present[fit_rows].any(0)
    if corpus.truth.ndim == 2:
        taught &= (corpus.truth[fit_rows] == 0).any(0)
    kept = np.flatnonzero(taught)
    notes += what_is_missing(corpus, present, fit_rows, taught)
    least_classes = 1 if corpus.truth.ndim == 2 else 2
    if len(kept) < least_classes:
        raise AudiorepError(
            f"{len(kept)} class(es) have labels to train on, at least {least_classes} are needed: label more rows, raise "
            "labels_per_class, or choose another split" + "".join(f"; {note}" for note in notes[:3])
        )
    if corpus.truth.ndim == 2:
        truth = corpus.truth[:, kept]
    else:
        number = np.full(len(corpus.classes) + 1, -1)
        number[kept] = np.arange(len(kept))
        truth = number[corpus.truth]
    for note in notes:
        log.warning("%s", note)
    classes, of_folds = [corpus.classes[int(c)] for c in kept], None
    if cfg.calibration.answers is not None:
        of_folds = answers_of_folds(Path(str(cfg.calibration.answers)), len(truth), classes, fit_rows)
    return Known(classes, truth, fit_rows, held, notes, of_folds)


def kept_back(cfg: DictConfig, corpus: build.Corpus, rows: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labelled rows in two: to train on, and to calibrate on; none of these where classifiers of folds answer instead."""
    labelled = rows, corpus.truth, corpus.manifest.frame["group"].to_numpy(dtype=str), len(corpus.classes)
    asked = cfg.calibration
    if asked.answers is not None:
        return rows, rows[:0]
    if asked.folds is not None:
        inside = deal(*labelled, asked.folds, seed) == asked.fold
        return rows[~inside], rows[inside]
    fit_rows, held, reason = hold_out(*labelled, asked.fraction, asked.least, seed)
    if reason:
        log.info("nothing is held out to calibrate: %s", reason)
    return fit_rows, held


def what_is_missing(corpus: build.Corpus, present: np.ndarray, fit_rows: np.ndarray, taught: np.ndarray) -> list[str]:
    """Which classes cannot be learned, or not be judged, and why.

    Args:
        present: [rows c] where the label is given. fit_rows: rows to train on. taught: [c] classes that can be learned.
    """
    notes = []
    heard = present[corpus.split.test].any(0)
    for c, name in enumerate(corpus.classes):
        if taught[c]:
            if not heard[c] and len(corpus.split.test):
                notes.append(f"class '{name}' has no label on the test side: it is learned, and nothing tells how well")
        elif present[fit_rows, c].any():
            notes.append(
                f"class '{name}' is not known to be absent from any row that the training may use, and cannot be learned: "
                f"where rows name all that is heard, set labels.complete=true; else say '-{name}' of some"
            )
        elif present[:, c].any():
            where = "that the training may use" if present[corpus.split.train, c].any() else "on the training side"
            notes.append(f"class '{name}' has no label {where}: it cannot be learned, and its test rows are not judged")
        else:
            notes.append(f"class '{name}' is only ever said to be absent: it cannot be learned")
    return notes


def labels_of(cfg: DictConfig, known: Known) -> np.ndarray:
    """Labels of all rows as the training may see them: of `known.train` and of no other, some wrong if that is studied."""
    hidden = np.full_like(known.truth, -1 if known.truth.ndim == 1 else np.nan)
    hidden[known.train] = known.truth[known.train]
    return with_errors(hidden, cfg.data.label_noise, cfg.seed)
