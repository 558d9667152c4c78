"""Scores of predictions, with bootstrap intervals by group. All work on counts, so that resampling is one product.

Weights: every function takes `weight` [m n], one row per resample, how often each sample counts; the plain score is the
one with all weights 1.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import ndtr, stdtrit

Weight = Float[np.ndarray, "m n"]
Scores = Float[np.ndarray, " m"]


@dataclass(frozen=True)
class Predictions:
    """What a classifier said about the test side.

    truth: [n] class number, or [n, c] with 1 present, 0 absent, NaN unknown.
    score: [n, c], high where the class is likely.
    group: [n] recording, site or individual.
    """

    truth: np.ndarray
    score: Float[np.ndarray, "n c"]
    group: np.ndarray

    @property
    def multilabel(self) -> bool:
        return self.truth.ndim == 2

    @property
    def predicted(self) -> Int[np.ndarray, " n"]:
        """The likeliest class."""
        return self.score.argmax(1)


def accuracy(p: Predictions, weight: Weight) -> Scores:
    """Part of samples whose likeliest class is right."""
    return weight @ (p.predicted == p.truth) / weight.sum(1)


def balanced_accuracy(p: Predictions, weight: Weight) -> Scores:
    """Mean over classes of the part of their samples that is recognised; classes without samples do not count."""
    member = one_hot(p.truth, p.score.shape[1])
    hits = weight @ (member * (p.predicted == p.truth)[:, None])
    return nan_mean(divide(hits, weight @ member))


def macro_f1(p: Predictions, weight: Weight) -> Scores:
    """Mean over classes of ``2 TP / (2 TP + FP + FN)``; classes neither present nor predicted do not count."""
    classes = p.score.shape[1]
    truth, predicted = one_hot(p.truth, classes), one_hot(p.predicted, classes)
    return nan_mean(divide(2.0 * (weight @ (truth * predicted)), weight @ truth + weight @ predicted))


def average_precision(
    present: Bool[np.ndarray, " n"], score: Float[np.ndarray, " n"], weight: Weight
) -> Float[np.ndarray, " m"]:
    """``sum_k (R_k - R_{k-1}) P_k`` over the thresholds of the scores, ties taken together.

    NaN without a positive, and where all are positive: then every ranking would be perfect.
    """
    if present.all() or not present.any():
        return np.full(len(weight), np.nan)
    of = rank(present, score)
    calls = np.cumsum(np.add.reduceat(weight[:, of.order[: of.ends[-1]]], np.append(0, of.ends[:-1]), 1), 1)
    gained = np.add.reduceat(weight[:, of.found], of.first_found, 1)
    hits = np.cumsum(gained, 1)
    return divide((gained * divide(hits, calls, 0.0)).sum(1), hits[:, -1])


def roc_area(
    present: Bool[np.ndarray, " n"], score: Float[np.ndarray, " n"], weight: Weight
) -> Float[np.ndarray, " m"]:
    """Area under the ROC curve: ``P(a > b) + P(a = b) / 2`` for the score a of a positive and b of a negative.

    NaN without a positive or without a negative.

    Source: Hanley and McNeil 1982, doi:10.1148/radiology.143.1.7063747.
    """
    if present.all() or not present.any():
        return np.full(len(weight), np.nan)
    of = rank(present, score)
    edges = np.unique(np.concatenate(([0], of.starts, of.ends)))
    between = np.add.reduceat(weight[:, of.order[: edges[-1]]], edges[:-1], 1)
    above = np.concatenate((np.zeros((len(weight), 1)), np.cumsum(between, 1)), 1)
    gained = np.add.reduceat(weight[:, of.found], of.first_found, 1)
    hits = np.cumsum(gained, 1)
    wrong_before = above[:, np.searchsorted(edges, of.starts)] - (hits - gained)
    wrong_after = above[:, np.searchsorted(edges, of.ends)] - hits
    positive = hits[:, -1]
    pairs = positive * (weight.sum(1) - positive)
    return 1.0 - divide((gained * (wrong_before + wrong_after)).sum(1), 2.0 * pairs)


@dataclass(frozen=True)
class Ranking:
    """Rows in falling order of their score, ties taken together; only ties that hold a positive are told of.

    order: [n] rows. found: the positives among them, in this order. starts, ends: [k] places in `order` where the k-th
    tie begins, and where the next one does. first_found: [k] place in `found` of its first positive.
    """

    order: Int[np.ndarray, " n"]
    found: Int[np.ndarray, " l"]
    starts: Int[np.ndarray, " k"]
    ends: Int[np.ndarray, " k"]
    first_found: Int[np.ndarray, " k"]


def rank(present: Bool[np.ndarray, " n"], score: Float[np.ndarray, " n"]) -> Ranking:
    """Sort rows by score; there has to be a positive."""
    order = np.argsort(-score, kind="stable")
    first_of_tie = np.append(True, np.diff(score[order]) != 0)
    tie, found = np.cumsum(first_of_tie) - 1, np.flatnonzero(present[order])
    begins = np.append(np.flatnonzero(first_of_tie), len(order))
    counted, first_found = np.unique(tie[found], return_index=True)
    return Ranking(order, order[found], begins[counted], begins[counted + 1], first_found)


def cmap(p: Predictions, weight: Weight) -> Scores:
    """Class-wise mean average precision: the mean of `average_precision` over classes that occur."""
    return nan_mean(per_class_average_precision(p, weight))


def per_class_average_precision(p: Predictions, weight: Weight) -> Float[np.ndarray, "m c"]:
    """`average_precision` of each class over the samples where it is known."""
    return by_class(average_precision, p, weight)


def auroc(p: Predictions, weight: Weight) -> Scores:
    """The mean of `roc_area`, one class against the rest, over classes that occur and are not everywhere."""
    return nan_mean(per_class_auroc(p, weight))


def per_class_auroc(p: Predictions, weight: Weight) -> Float[np.ndarray, "m c"]:
    """`roc_area` of each class over the samples where it is known."""
    return by_class(roc_area, p, weight)


OneClass = Callable[[Bool[np.ndarray, " n"], Float[np.ndarray, " n"], Weight], Scores]


def by_class(score: OneClass, p: Predictions, weight: Weight) -> Float[np.ndarray, "m c"]:
    """A score of one class against the rest, of each class over the samples where it is known."""
    truth = p.truth if p.multilabel else one_hot(p.truth, p.score.shape[1])
    columns = []
    for c in range(p.score.shape[1]):
        known = ~np.isnan(truth[:, c])
        columns.append(score(truth[known, c] > 0.5, p.score[known, c], weight[:, known]))
    return np.stack(columns, 1)


def macro_f1_at(p: Predictions, weight: Weight, threshold: Float[np.ndarray, " c"]) -> Scores:
    """`macro_f1` of several labels a row: a class is predicted where its score reaches its threshold, and each is judged
    on the samples where it is known."""
    known = ~np.isnan(p.truth)
    present, told = known & (p.truth == 1), known & (p.score >= threshold)
    return nan_mean(divide(2.0 * (weight @ (present & told)), weight @ present.astype(float) + weight @ told))


def confusion(p: Predictions) -> Int[np.ndarray, "c c"]:
    """How many samples of each class (row) are taken for each class (column)."""
    classes = p.score.shape[1]
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (p.truth, p.predicted), 1)
    return table


Metric = Callable[[Predictions, Weight], Scores]
SINGLE_LABEL: Mapping[str, Metric] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "cmap": cmap,
    "auroc": auroc,
}
MULTI_LABEL: Mapping[str, Metric] = {"cmap": cmap, "auroc": auroc}


def group_weights(group: np.ndarray, resamples: int, seed: int) -> Weight:
    """Bootstrap by group: draw as many groups as there are, with replacement; [resamples, n] counts.

    Where there is only one group, its samples are drawn instead.
    """
    member, units = units_of(group)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(units, np.full(units, 1.0 / units), size=resamples)
    return counts[:, member].astype(float)


def units_of(group: np.ndarray) -> tuple[Int[np.ndarray, " n"], int]:
    """The number of each sample's group, and how many there are; of each sample itself where there is only one group."""
    names, member = np.unique(group, return_inverse=True)
    return (np.arange(len(group)), len(group)) if len(names) == 1 else (member, len(names))


def bounds(resampled: Scores, group: np.ndarray) -> tuple[float, float]:
    """The 95 % interval from the values of a bootstrap over groups: their quantiles at ``q`` and ``1 - q``,
    ``q = Phi(-sqrt(g / (g - 1)) t_{.975, g - 1})`` for g groups.

    q is .025 for many groups and smaller for few: in a simulation plain quantiles of six groups held the truth in 86 % of
    the cases. For one sample: all values. NaN where no value is known.

    Source: Hesterberg 2015, arXiv:1411.5279 (expanded percentile interval).
    """
    if np.isnan(resampled).all():
        return math.nan, math.nan
    units = units_of(group)[1]
    q = ndtr(-math.sqrt(units / (units - 1)) * stdtrit(units - 1, 0.975)) if units > 1 else 0.0
    low, high = np.nanquantile(resampled, [q, 1.0 - q])
    return float(low), float(high)


def score_with_interval(
    p: Predictions, resamples: int = 300, seed: int = 0, more: Mapping[str, Metric] | None = None
) -> dict[str, float]:
    """Every metric with its 95 % bootstrap interval: {"accuracy": ., "accuracy/low": ., "accuracy/high": ., ...}.

    Without `resamples` there are no intervals. `more`: metrics beside those of `SINGLE_LABEL` or `MULTI_LABEL`.
    """
    out: dict[str, float] = {}
    ones, weight = np.ones((1, len(p.truth))), group_weights(p.group, resamples, seed)
    for name, metric in {**(MULTI_LABEL if p.multilabel else SINGLE_LABEL), **(more or {})}.items():
        out[name] = float(metric(p, ones)[0])
        if resamples:
            out[f"{name}/low"], out[f"{name}/high"] = bounds(metric(p, weight), p.group)
    return out


def paired_difference(
    a: Sequence[Predictions], b: Sequence[Predictions], metric: Metric, resamples: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Difference a - b of a metric on the same test samples, with its 95 % interval by paired bootstrap over groups.

    Each is one prediction, or several of the same samples (by draws of the labels), of whose scores the mean is taken.
    """
    return paired_differences([(a, b)], [1], metric, resamples, seed)


def paired_differences(
    pairs: Sequence[tuple[Sequence[Predictions], Sequence[Predictions]]],
    counts: Sequence[int],
    metric: Metric,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """``sum_k n_k d_k / sum_k n_k`` over several sets of test samples, d_k as in `paired_difference`, n_k the `counts`.

    The bootstrap draws from the groups of all sets together.
    """
    group = np.concatenate([a[0].group for a, _ in pairs])
    ends = np.cumsum([len(a[0].group) for a, _ in pairs])[:-1]

    def mean(draws: Sequence[Predictions], of: Weight) -> Scores:
        return np.stack([metric(draw, of) for draw in draws]).mean(0)

    def apart(weight: Weight) -> Scores:
        parts = np.split(weight, ends, axis=1)
        each = [mean(a, part) - mean(b, part) for (a, b), part in zip(pairs, parts, strict=True)]
        return np.average(np.stack(each), axis=0, weights=counts)

    low, high = bounds(apart(group_weights(group, resamples, seed)), group)
    return float(apart(np.ones((1, len(group))))[0]), low, high


def one_hot(index: Int[np.ndarray, " n"], classes: int) -> Float[np.ndarray, "n c"]:
    """[n] class numbers as [n, c] ones and zeros."""
    return (np.asarray(index)[:, None] == np.arange(classes)).astype(float)


def divide(a: np.ndarray, b: np.ndarray, empty: float = np.nan) -> np.ndarray:
    """a / b, and `empty` where b is 0."""
    return np.divide(a, b, out=np.full(np.broadcast(a, b).shape, empty), where=b != 0)


def nan_mean(x: Float[np.ndarray, "m c"]) -> Scores:
    """Mean over the columns that are known; NaN where none is."""
    known = ~np.isnan(x)
    return divide(np.where(known, x, 0.0).sum(1), known.sum(1).astype(float))
