"""The results of a call classifier: calibrated on rows held out for it, judged on the test side, with thresholds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from audiorep.errors import AudiorepError
from audiorep.evaluate.calibrate import HOTTEST, Reliability, fit_temperature, probabilities, reliability, threshold_for
from audiorep.evaluate.metrics import (
    Predictions,
    confusion,
    divide,
    macro_f1_at,
    one_hot,
    per_class_auroc,
    per_class_average_precision,
    score_with_interval,
)
from audiorep.files import read_json, write_json

FEWEST_CALLS = 5
"""A threshold that is chosen on fewer calls of a class than this says nothing."""

FEW_ROWS = 30
"""A temperature that was fitted to fewer rows than this is a guess; the notes say so."""

HELD_OUT = "more labels, or a larger calibration.fraction, hold some out; audiorep run cross_calibration takes them all"


@dataclass(frozen=True)
class Answers:
    """What a classifier said of some rows, and what is known of them. Raises ValueError where lengths differ.

    logits: [n c]. truth: [n] class numbers, -1 unknown; or [n c] of 1 present, 0 absent, NaN unknown.
    group: [n] recording, site or individual. seconds: [n] length of each row. background: [n] True where it is known that
    a row holds no call at all.
    """

    logits: Float[np.ndarray, "n c"]
    truth: np.ndarray
    group: np.ndarray
    seconds: np.ndarray
    background: np.ndarray

    def __post_init__(self) -> None:
        lengths = {len(x) for x in (self.logits, self.truth, self.group, self.seconds, self.background)}
        if len(lengths) > 1 or (self.multilabel and self.truth.shape != self.logits.shape):
            raise ValueError("logits, truth, group, seconds and background must be of the same rows and classes")

    @property
    def multilabel(self) -> bool:
        return self.truth.ndim == 2

    @property
    def labelled(self) -> Bool[np.ndarray, " n"]:
        """Rows of which some class is known."""
        return ~np.isnan(self.truth).all(1) if self.multilabel else self.truth >= 0

    @property
    def presence(self) -> Float[np.ndarray, "n c"]:
        """1 where a class is known to be there, 0 where it is known not to be, NaN else; background lacks all classes."""
        known = self.truth.astype(float) if self.multilabel else one_hot(self.truth, self.logits.shape[1])
        if not self.multilabel:
            known[~self.labelled] = np.nan
        return np.where(np.isnan(known) & self.background.astype(bool)[:, None], 0.0, known)


@dataclass(frozen=True)
class Results:
    """What is told of a classifier.

    metrics: flat names. thresholds: the content of ``thresholds.json``. confusion: [c c] counts of labelled test rows by
    truth (row) and likeliest class (column), None where a row may have several labels. uncalibrated, calibrated: the
    reliability on the test side. notes: what a user must read.
    """

    metrics: Mapping[str, float]
    thresholds: Mapping[str, Any]
    confusion: Int[np.ndarray, "c c"] | None
    uncalibrated: Reliability
    calibrated: Reliability
    classes: Sequence[str]
    notes: Sequence[str]


def results(
    test: Answers,
    calibration: Answers | None,
    classes: Sequence[str],
    precision: float = 0.9,
    resamples: int = 300,
    seed: int = 0,
) -> Results:
    """Calibrate on `calibration`, judge on `test`; what is not known has no figure.

    The metrics of `audiorep.evaluate.metrics` as ``test/accuracy`` ... with 95 % intervals by group, on labelled rows and
    calibrated probabilities; for several labels a row also ``test/macro_f1``, a class being predicted at its threshold, or
    at .5 where it has none. ``test/ece``, ``test/ece_uncalibrated``, ``test/rows``, ``calibration/temperature``,
    ``calibration/rows``. And by class, see `by_class` and `at_thresholds`: ``test/ap/CLASS``, ``test/auroc/CLASS``,
    ``test/recall/CLASS``, ``test/count/CLASS``, ``test/precision_at_threshold/CLASS``,
    ``test/recall_at_threshold/CLASS``, ``test/false_positives_per_hour/CLASS``, their sum, ``test/background_hours``; where a
    row has one label, ``test/confusion/TRUTH/SAID``, the calls of one class that are named another, where there are some.

    Args:
        calibration: rows that were neither trained on nor tested on; None: temperature 1 and no thresholds.
        precision: wanted of a threshold.

    Raises:
        AudiorepError: a precision that is not between 0 and 1.
    """
    multilabel, known = test.multilabel, test.labelled
    temperature, notes = temperature_of(calibration)
    chosen, more = thresholds_of(calibration, temperature, classes, precision)
    raw, p = (probabilities(test.logits, t, multilabel) for t in (1.0, temperature))
    reliabilities = reliability(raw, test.truth), reliability(p, test.truth)
    cut = np.array([found["threshold"] for found in chosen.values()], float)  # NaN for None
    said = Predictions(test.truth[known], p[known], test.group[known])
    confused = None if multilabel else confusion(said)
    metrics = {
        **(overall(said, cut, resamples, seed) if known.any() else {}),
        "test/ece": reliabilities[1].error,
        "test/ece_uncalibrated": reliabilities[0].error,
        "test/rows": float(known.sum()),
        "calibration/temperature": temperature,
        "calibration/rows": float(calibration.labelled.sum()) if calibration else 0.0,
        **(by_class(said, classes) if known.any() else {}),
        **at_thresholds(p, test, cut, classes),
        **({} if confused is None else counts_of(confused, classes)),
    }
    return Results(
        metrics={name: value for name, value in metrics.items() if math.isfinite(value)},
        thresholds={
            "temperature": temperature,
            "wanted_precision": precision,
            "multilabel": multilabel,
            "background": 0 if calibration is None else int(calibration.background.sum()),
            "classes": chosen,
        },
        confusion=confused,
        uncalibrated=reliabilities[0],
        calibrated=reliabilities[1],
        classes=list(classes),
        notes=[*notes, *more, *notes_on(test, calibration, cut, classes)],
    )


def temperature_of(calibration: Answers | None) -> tuple[float, list[str]]:
    """The temperature that the calibration rows ask for, and what to tell of it.

    It stays 1 where nothing is held out, and where each row is recognised: then the likeliest temperature is 0, every
    probability 0 or 1, and a threshold would tell apart nothing but rounding.
    """
    if calibration is None or not calibration.labelled.any():
        return 1.0, [
            "No labelled rows were held out for calibration: probabilities are the classifier's own and no thresholds were "
            f"chosen; {HELD_OUT}."
        ]
    truth, logits, rows = calibration.truth, calibration.logits, int(calibration.labelled.sum())
    if calibration.multilabel:
        recognised = bool(((logits > 0) == (truth == 1))[~np.isnan(truth)].all())
    else:
        recognised = bool((logits.argmax(1) == truth)[calibration.labelled].all())
    if recognised:
        return 1.0, [
            f"All {rows} calibration rows are recognised, so they cannot tell how often the classifier errs: its "
            f"probabilities are left as they are (temperature 1); {HELD_OUT}."
        ]
    temperature = fit_temperature(logits, truth)
    notes = []
    if rows < FEW_ROWS:
        notes.append(f"The temperature was fitted to {rows} rows only and is rough; {HELD_OUT}.")
    if temperature > 0.99 * HOTTEST:
        notes.append(
            "On the calibration rows the scores say next to nothing of the classes: do not use this classifier."
        )
    return temperature, notes


def thresholds_of(
    calibration: Answers | None, temperature: float, classes: Sequence[str], precision: float
) -> tuple[dict[str, dict[str, float | int | None]], list[str]]:
    """For each class the lowest probability from which on the wanted precision is reached on the calibration rows, with
    its precision and recall there, the calls it was chosen on and the rows that reach it; None where it cannot be had; and
    notes that say where.
    Where a row has one label, a threshold is not below ``1 / c``: a probability below chance is no reason to report a call,
    however few rows speak against it.

    Background rows are known to be no call of any class, and have a say.
    """
    few: list[str] = []
    out_of_reach: list[str] = []
    out: dict[str, dict[str, float | int | None]] = {}
    presence = np.zeros((0, len(classes))) if calibration is None else calibration.presence
    p = presence if calibration is None else probabilities(calibration.logits, temperature, calibration.multilabel)
    for c, name in enumerate(classes):
        known = ~np.isnan(presence[:, c])
        present = presence[known, c] == 1
        least = 0.0 if calibration is None or calibration.multilabel else 1.0 / len(classes)
        found, calls = threshold_for(p[known, c], present, precision, least), int(present.sum())
        usable = calls >= FEWEST_CALLS and found.value is not None
        if not usable:
            (few if calls < FEWEST_CALLS else out_of_reach).append(name)
        figures = (found.value, found.precision, found.recall) if usable else (None, None, None)
        out[name] = dict(zip(("threshold", "precision", "recall"), figures, strict=True)) | {
            "positives": calls, "reported": found.reported if usable else None,
        }  # fmt: skip
    notes = []
    if few and calibration is not None:
        notes.append(f"No threshold, for want of {FEWEST_CALLS} calls among the calibration rows: {', '.join(few)}.")
    if out_of_reach:
        notes.append(f"No threshold reaches a precision of {precision:g}: {', '.join(out_of_reach)}.")
    return out, notes


def overall(said: Predictions, cut: Float[np.ndarray, " c"], resamples: int, seed: int) -> dict[str, float]:
    """All metrics with their intervals, under ``test/``."""
    more = {"macro_f1": partial(macro_f1_at, threshold=np.where(np.isnan(cut), 0.5, cut))} if said.multilabel else {}
    scores = score_with_interval(said, resamples, seed, more)
    return {f"test/{name}": value for name, value in scores.items()}


def counts_of(confused: Int[np.ndarray, "c c"], classes: Sequence[str]) -> dict[str, float]:
    """``test/confusion/TRUTH/SAID``: what a confusion matrix holds, without its zeros."""
    return {
        f"test/confusion/{classes[truth]}/{classes[said]}": float(confused[truth, said])
        for truth, said in np.argwhere(confused).tolist()
    }


def is_overall(name: str) -> bool:
    """Whether a metric, ``test/...`` or ``calibration/...``, is of all classes together."""
    side, *rest = name.split("/")
    return side in ("test", "calibration") and rest[1:] in ([], ["low"], ["high"])


def by_class(said: Predictions, classes: Sequence[str]) -> dict[str, float]:
    """Average precision, AUROC, recall and number of calls of each class that has calls.

    Recall: the part of its calls of which it is the likeliest class; with several labels a row, of which it has .5.
    """
    ones = np.ones((1, len(said.truth)))
    ap, area = per_class_average_precision(said, ones)[0], per_class_auroc(said, ones)[0]
    present = said.truth == 1 if said.multilabel else one_hot(said.truth, len(classes)) == 1
    told = said.score >= 0.5 if said.multilabel else one_hot(said.predicted, len(classes)) == 1
    count = present.sum(0)
    recall = divide((present & told).sum(0).astype(float), count)
    figures = {"ap": ap, "auroc": area, "recall": recall, "count": count}
    return {
        f"test/{figure}/{name}": float(values[c])
        for figure, values in figures.items()
        for c, name in enumerate(classes)
        if count[c]
    }


def at_thresholds(
    p: Float[np.ndarray, "n c"], test: Answers, cut: Float[np.ndarray, " c"], classes: Sequence[str]
) -> dict[str, float]:
    """What the thresholds really give on the test side: precision and recall of each class that has calls there, and how
    many background rows an hour of background are reported.

    A background row that is labelled with a class ("noise") is no false positive of this class.
    """
    presence, reported = test.presence, p >= cut  # nothing is reported where the threshold is NaN
    hits, calls = (reported & (presence == 1)).sum(0), (presence == 1).sum(0)
    told = (reported & ~np.isnan(presence)).sum(0)
    background = test.background.astype(bool)
    hours = float(test.seconds[background].sum()) / 3600.0
    false = (reported & (presence != 1))[background].sum(0)
    out: dict[str, float] = {"test/background_hours": hours}
    for c, name in enumerate(classes):
        if math.isnan(cut[c]):
            continue
        if calls[c]:
            out[f"test/recall_at_threshold/{name}"] = float(hits[c] / calls[c])
            if told[c]:
                out[f"test/precision_at_threshold/{name}"] = float(hits[c] / told[c])
        if hours > 0:
            out[f"test/false_positives_per_hour/{name}"] = float(false[c]) / hours
    if hours > 0 and not np.isnan(cut).all():
        out["test/false_positives_per_hour"] = float(false.sum()) / hours
    return out


def notes_on(
    test: Answers, calibration: Answers | None, cut: Float[np.ndarray, " c"], classes: Sequence[str]
) -> list[str]:
    """What the test side cannot tell."""
    notes = []
    missing = [name for name, calls in zip(classes, (test.presence == 1).sum(0), strict=True) if not calls]
    if missing:
        notes.append(f"No call on the test side, so nothing is said of: {', '.join(missing)}.")
    shared = len(np.intersect1d(calibration.group, test.group)) if calibration is not None else 0
    if shared:
        notes.append(
            f"{shared} group(s) of the test side were calibrated on too: thresholds look better than they are."
        )
    if not float(test.seconds[test.background.astype(bool)].sum()) > 0:
        notes.append("No test row is known to be background, so false positives per hour of it are not counted.")
    elif np.isnan(cut).all():
        notes.append("Without a threshold there are no false positives per hour of background to count.")
    return notes


def write_thresholds(found: Results, path: Path) -> None:
    """Write ``thresholds.json``: {"temperature", "wanted_precision", "multilabel", "background", "classes": {NAME:
    {"threshold", "precision", "recall", "positives", "reported"}}}; None where there is no threshold.

    background: how many of the calibration rows are known to hold no call. positives: the calls of a class among them.
    reported: the rows that reach the threshold. Files of older versions lack background and reported.
    """
    write_json(path, found.thresholds)


def read_thresholds(path: Path) -> dict[str, Any]:
    """What `write_thresholds` wrote.

    Raises:
        AudiorepError: no such file, no JSON, or not of this form.
    """
    content = read_json(path)
    try:
        chosen = [found["threshold"] for found in dict(content["classes"]).values()]
        sound = {"multilabel", "wanted_precision"} <= set(content) and 0.0 < content["temperature"] < math.inf
        sound = sound and all(at is None or 0.0 <= at <= 1.0 for at in chosen)
    except (KeyError, TypeError, ValueError):
        sound = False
    if not sound:
        raise AudiorepError(
            f"{path} holds no thresholds of a classifier: it needs a temperature above 0, thresholds between 0 and 1 or "
            "null, multilabel and wanted_precision; training writes them"
        )
    return dict(content)
