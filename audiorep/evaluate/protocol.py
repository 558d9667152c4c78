"""The evaluation protocols, run alike over the encoder and its two yardsticks, mel statistics and the random encoder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from audiorep.errors import AudiorepError
from audiorep.evaluate.health import embedding_std, rankme
from audiorep.evaluate.knn import knn_scores
from audiorep.evaluate.metrics import Predictions, score_with_interval
from audiorep.evaluate.probe import few_labels, linear_scores


@dataclass(frozen=True)
class Sides:
    """Embeddings and truth of both sides of a split.

    train, test: row numbers, labelled rows only. truth: as `audiorep.data.labels.encode`, all rows. group: all rows.
    """

    train: np.ndarray
    test: np.ndarray
    truth: np.ndarray
    group: np.ndarray
    classes: Sequence[str]

    @property
    def multilabel(self) -> bool:
        return self.truth.ndim == 2


@dataclass(frozen=True)
class Protocol:
    """Settings of the protocols.

    k: neighbours. labels_per_class: budgets of the linear probe, numbers and "all". draws: how often a budget is drawn.
    resamples: of the bootstrap; 0: no intervals.
    """

    k: int = 20
    labels_per_class: Sequence[int | str] = (1, 5, "all")
    draws: int = 3
    resamples: int = 300
    seed: int = 0


Scores = dict[str, float]
Evaluate = Callable[[np.ndarray, Sides, Protocol], Scores]


def knn(embedding: np.ndarray, sides: Sides, protocol: Protocol) -> Scores:
    """`knn_scores` of the test side against the labelled training side."""
    truth = sides.truth[sides.train]
    scores = knn_scores(embedding[sides.train], truth, embedding[sides.test], len(sides.classes), protocol.k)
    return prefixed("knn", _measure(scores, sides, protocol))


def linear(embedding: np.ndarray, sides: Sides, protocol: Protocol) -> Scores:
    """`linear_scores` with all labels, and with a few of each class: the mean over draws."""
    out: Scores = {}
    train, test, classes = embedding[sides.train], embedding[sides.test], len(sides.classes)
    truth = sides.truth[sides.train]
    for budget in protocol.labels_per_class:
        if budget == "all":
            out |= prefixed("linear", _measure(linear_scores(train, truth, test, classes), sides, protocol))
        elif not sides.multilabel:
            measured = []
            for draw in range(protocol.draws):
                rows = few_labels(truth, int(budget), protocol.seed + draw)
                scores = linear_scores(train[rows], truth[rows], test, classes)
                measured.append(_measure(scores, sides, protocol))
            mean = {name: float(np.mean([m[name] for m in measured])) for name in measured[0]}
            out |= prefixed(f"linear@{budget}", mean)
    return out


def health(embedding: np.ndarray, sides: Sides, protocol: Protocol) -> Scores:
    """RankMe and standard deviation of the test side's embeddings (at most 4096 of them)."""
    rows = np.random.default_rng(protocol.seed).permutation(sides.test)[:4096]
    z = torch.from_numpy(embedding[rows])
    return {"rankme": rankme(z), "embedding_std": embedding_std(z)}


def evaluate(
    embeddings: Mapping[str, np.ndarray], sides: Sides, protocol: Protocol, protocols: Mapping[str, Evaluate]
) -> Scores:
    """All protocols over all embeddings. The encoder's own scores have no prefix; "mel/" and "random/" stand beside.

    Args:
        embeddings: {"": [rows d], "mel": ..., "random": ...}.
    """
    out: Scores = {}
    for name, embedding in embeddings.items():
        for run in protocols.values():
            out |= prefixed(name, run(embedding, sides, protocol))
    return out


def make_sides(
    train: np.ndarray, test: np.ndarray, truth: np.ndarray, group: np.ndarray, classes: Sequence[str]
) -> tuple[Sides, list[str]]:
    """Labelled rows of both sides; classes that one side lacks are left out, and named.

    Raises:
        AudiorepError: nothing to evaluate: fewer than two classes (one, if multi-label) stand on both sides.
    """
    multilabel = truth.ndim == 2
    labelled = ~np.isnan(truth).all(1) if multilabel else truth >= 0
    present = truth == 1 if multilabel else truth[:, None] == np.arange(len(classes))
    train, test = train[labelled[train]], test[labelled[test]]
    in_train, in_test = present[train].any(0), present[test].any(0)
    both = np.flatnonzero(in_train & in_test)
    notes: list[str] = []
    for c, name in enumerate(classes):
        count = int(present[:, c].sum())
        if c in both or not count:
            continue
        where = "test" if in_train[c] else "training"
        reason = "has a single example" if count == 1 else f"has no example on the {where} side"
        notes.append(f"class '{name}' {reason} and is left out of the evaluation")
    needed = 1 if multilabel else 2
    if len(both) < needed:
        raise AudiorepError(
            f"{len(both)} class(es) have labelled rows on both sides of the split: at least {needed} needed; "
            "label more rows or choose another split"
        )
    if multilabel:
        kept = truth[:, both]
        known = ~np.isnan(kept).all(1)
    else:
        number = np.full(len(classes) + 1, -1)
        number[both] = np.arange(len(both))
        kept = number[truth]
        known = kept >= 0
    return Sides(train[known[train]], test[known[test]], kept, group, [classes[int(c)] for c in both]), notes


def prefixed(prefix: str, scores: Scores) -> Scores:
    """Names with ``prefix/`` before them, unless it is empty."""
    return {f"{prefix}/{name}" if prefix else name: value for name, value in scores.items()}


def _measure(scores: np.ndarray, sides: Sides, protocol: Protocol) -> Scores:
    predictions = Predictions(sides.truth[sides.test], scores, sides.group[sides.test])
    return score_with_interval(predictions, protocol.resamples, protocol.seed)
