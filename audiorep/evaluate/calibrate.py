"""Calibration: do probabilities come true as often as they say, and from which score on is a call reported?"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit, log_softmax, softmax

from audiorep.errors import AudiorepError

HOTTEST = 100.0
"""Temperatures are looked for between ``1 / HOTTEST`` and this."""


@dataclass(frozen=True)
class Reliability:
    """Predictions by confidence, in bins of equal width from 0 to 1: mean confidence, part that is right, and how many.

    NaN and 0 where a bin is empty.
    """

    confidence: Float[np.ndarray, " bins"]
    accuracy: Float[np.ndarray, " bins"]
    count: Float[np.ndarray, " bins"]

    @property
    def error(self) -> float:
        """``sum_b count_b / n |accuracy_b - confidence_b|``, the expected calibration error; NaN without predictions."""
        gap = np.nan_to_num(np.abs(self.accuracy - self.confidence))
        return float((gap * self.count).sum() / self.count.sum()) if self.count.sum() else float("nan")


@dataclass(frozen=True)
class Threshold:
    """The score from which on a class is reported, with its precision and recall on the rows it was chosen on.

    value: None where no score is good enough; then recall is 0 and precision NaN.
    reported: the rows that reach it, of which the part `precision` are calls.
    """

    value: float | None
    precision: float
    recall: float
    reported: int = 0


def fit_temperature(logits: Float[np.ndarray, "n c"], truth: np.ndarray) -> float:
    """The temperature T that makes held-out labels likeliest: ``argmin_T -mean log softmax(logits / T)[truth]``.

    Args:
        logits: of rows that were not trained on.
        truth: [n] class numbers, -1 unknown; or [n c] of 1 present, 0 absent, NaN unknown: then ``sigmoid`` for ``softmax``,
            and the mean is over what is known.

    Raises:
        AudiorepError: nothing is known of any row.

    Source: Guo et al. 2017, arXiv:1706.04599 (temperature scaling).
    """
    logits = np.asarray(logits, np.float64)
    known = ~np.isnan(truth) if truth.ndim == 2 else truth >= 0
    if not known.any():
        raise AudiorepError("a temperature is fitted to labelled rows that were not trained on, and there are none")

    def surprise(log_t: float) -> float:
        scaled = logits * np.exp(-log_t)
        if truth.ndim == 2:
            return -float(log_expit(np.where(truth == 1, scaled, -scaled))[known].mean())
        return -float(log_softmax(scaled[known], 1)[np.arange(known.sum()), truth[known]].mean())

    widest = float(np.log(HOTTEST))
    return float(
        np.exp(minimize_scalar(surprise, bounds=(-widest, widest), method="bounded", options={"xatol": 1e-6}).x)
    )


def probabilities(logits: Float[np.ndarray, "n c"], temperature: float, multilabel: bool) -> Float[np.ndarray, "n c"]:
    """``softmax(logits / T)``, or ``sigmoid(logits / T)`` where a row has several labels."""
    scaled = np.asarray(logits, np.float64) / temperature
    return np.asarray(expit(scaled) if multilabel else softmax(scaled, 1))


def reliability(p: Float[np.ndarray, "n c"], truth: np.ndarray, bins: int = 15) -> Reliability:
    """How often predictions of each confidence are right: the likeliest class of each row, or, where a row has several
    labels, every known class of it.

    Source: Guo et al. 2017, arXiv:1706.04599.
    """
    if truth.ndim == 2:
        known = ~np.isnan(truth)
        confidence, right = p[known], truth[known] == 1
    else:
        known = truth >= 0
        confidence, right = p[known].max(1), p[known].argmax(1) == truth[known]
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    count, told, hits = (np.bincount(which, weight, bins) for weight in (None, confidence, right.astype(float)))
    with np.errstate(invalid="ignore"):
        return Reliability(told / count, hits / count, count.astype(float))


def threshold_for(
    score: Float[np.ndarray, " n"], present: Bool[np.ndarray, " n"], precision: float = 0.9, least: float = -np.inf
) -> Threshold:
    """The lowest score, not below `least`, from which on at least the part `precision` of the rows are calls of the class.

    It is the one with the highest recall among those that are precise enough; rows of the same score go together.

    Raises:
        AudiorepError: a precision that is not between 0 and 1.
    """
    if not 0.0 < precision <= 1.0:
        raise AudiorepError(f"precision={precision} must lie between 0 and 1")
    order = np.argsort(-score, kind="stable")
    ranked, hits = score[order], np.cumsum(present[order])
    reported = np.arange(1, len(score) + 1)
    last_of_tie = np.append(np.diff(ranked) != 0, True)[: len(score)]
    good = np.flatnonzero(last_of_tie & (ranked >= least) & (hits >= precision * reported - 1e-9) & (hits > 0))
    if not len(good):
        return Threshold(None, float("nan"), 0.0)
    place = good[-1]
    right, told = hits[place], reported[place]
    return Threshold(float(ranked[place]), float(right / told), float(right / hits[-1]), int(told))
