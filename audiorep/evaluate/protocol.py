"""The evaluation protocols, run alike over the encoder and its yardsticks, mel statistics and the random encoder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from audiorep.data.resample import Resample
from audiorep.errors import AudiorepError
from audiorep.evaluate.health import embedding_std, rankme
from audiorep.evaluate.knn import knn_scores
from audiorep.evaluate.metrics import Predictions, score_with_interval
from audiorep.evaluate.probe import few_labels, linear_scores
from audiorep.evaluate.token_probes import Attentive, Fitting, Make, Prototypical, probe_scores
from audiorep.evaluate.tokens import Tokens


@dataclass(frozen=True)
class Sides:
    """Embeddings and truth of both sides of a split.

    train, test: row numbers, labelled rows only. truth: as `audiorep.data.labels.encode`, all rows. group: all rows.
    given: [rows] class numbers before classes that one side lacks were left out, -1 on neither side; single-label only.
    """

    train: np.ndarray
    test: np.ndarray
    truth: np.ndarray
    group: np.ndarray
    classes: Sequence[str]
    given: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

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


@dataclass(frozen=True)
class Outcome:
    """What protocols found.

    scores: flat metrics. said: {"knn": [n c], "linear@5": [m n c], ...} class scores of the n test rows, by draw of the
    labels where there are m draws.
    """

    scores: Scores = field(default_factory=dict)
    said: dict[str, np.ndarray] = field(default_factory=dict)

    def __or__(self, other: "Outcome") -> "Outcome":
        return Outcome(self.scores | other.scores, self.said | other.said)

    def prefixed(self, prefix: str) -> "Outcome":
        """Names with ``prefix/`` before them, unless it is empty."""
        return Outcome(under(prefix, self.scores), under(prefix, self.said))


def under(prefix: str, named: Mapping[str, Any]) -> dict[str, Any]:
    """Names with ``prefix/`` before them; either may be empty."""
    return {"/".join(filter(None, (prefix, name))): value for name, value in named.items()}


Seen = Any
"""What a protocol looks at: embeddings [rows d], or `Tokens`."""

Evaluate = Callable[[Seen, Sides, Protocol], Outcome]
Fit = Callable[[Int[np.ndarray, " n"], int], np.ndarray]
"""(which of the training side's rows are labelled, seed) to class scores of the test side [n c]."""


def knn(embedding: np.ndarray, sides: Sides, protocol: Protocol) -> Outcome:
    """`knn_scores` of the test side against the labelled training side."""
    truth = sides.truth[sides.train]
    scores = knn_scores(embedding[sides.train], truth, embedding[sides.test], len(sides.classes), protocol.k)
    return measured("knn", scores, sides, protocol)


def linear(embedding: np.ndarray, sides: Sides, protocol: Protocol, resampler: Resample | None = None) -> Outcome:
    """`linear_scores` with all labels, and with a few of each class: the mean over draws.

    With a `resampler`, of what it makes of the standardised embeddings of the labelled rows.
    """
    train, test, truth = embedding[sides.train], embedding[sides.test], sides.truth[sides.train]

    def fit(rows: np.ndarray, seed: int) -> np.ndarray:
        if resampler is None:
            return linear_scores(train[rows], truth[rows], test, len(sides.classes))
        mean, spread = train[rows].mean(0), np.maximum(train[rows].std(0), 1e-6)
        made = resampler((train[rows] - mean) / spread, truth[rows], seed, sides.classes)
        return linear_scores(made.x, made.y, (test - mean) / spread, len(sides.classes))

    return by_budget("linear", fit, protocol.labels_per_class, sides, protocol)


def attentive(
    tokens: Tokens,
    sides: Sides,
    protocol: Protocol,
    fitting: Fitting,
    heads: int = 8,
    queries: int = 1,
    labels_per_class: Sequence[int | str] = ("all",),
) -> Outcome:
    """`probe_scores` of an `Attentive` probe, with all labels or as many of each class as `labels_per_class` says."""
    make = partial(Attentive, heads=heads, queries=queries)
    return by_budget("attentive", fit_to(tokens, sides, make, fitting), labels_per_class, sides, protocol)


def prototypical(
    tokens: Tokens,
    sides: Sides,
    protocol: Protocol,
    fitting: Fitting,
    each: int = 20,
    labels_per_class: Sequence[int | str] = ("all",),
) -> Outcome:
    """`probe_scores` of a `Prototypical` probe, with all labels or as many of each class as `labels_per_class` says."""
    make = partial(Prototypical, each=each)
    return by_budget("prototypical", fit_to(tokens, sides, make, fitting), labels_per_class, sides, protocol)


def fit_to(tokens: Tokens, sides: Sides, make: Make, fitting: Fitting) -> Fit:
    """How a probe of tokens is fitted to some of the training side's rows."""

    def fit(rows: np.ndarray, seed: int) -> np.ndarray:
        train = sides.train[rows]
        return probe_scores(make, tokens, train, sides.truth[train], sides.test, len(sides.classes), fitting, seed)

    return fit


def health(embedding: np.ndarray, sides: Sides, protocol: Protocol) -> Outcome:
    """RankMe and standard deviation of the test side's embeddings (at most 4096 of them)."""
    rows = np.random.default_rng(protocol.seed).permutation(sides.test)[:4096]
    z = torch.from_numpy(embedding[rows])
    return Outcome({"rankme": rankme(z), "embedding_std": embedding_std(z)})


def evaluate(seen: Mapping[str, Seen], sides: Sides, protocol: Protocol, protocols: Mapping[str, Evaluate]) -> Outcome:
    """All protocols over all embeddings. The encoder's own scores have no prefix; "mel/" and "random/" stand beside.

    Args:
        seen: {"": [rows d], "mel": ..., "random": ...}, or the `Tokens` of each for protocols over tokens.
    """
    out = Outcome()
    for name, given in seen.items():
        for run in protocols.values():
            out |= run(given, sides, protocol).prefixed(name)
    return out


def by_budget(name: str, fit: Fit, budgets: Sequence[int | str], sides: Sides, protocol: Protocol) -> Outcome:
    """A probe under its name with "all" labels, and as ``name@k`` with k labels of each class: the mean over draws.

    Where a row may have several labels, there is no drawing k of each, and these budgets are left out.
    """
    out, truth = Outcome(), sides.truth[sides.train]
    for budget in budgets:
        if budget == "all":
            out |= measured(name, fit(np.arange(len(truth)), protocol.seed), sides, protocol)
        elif not sides.multilabel:
            seeds = range(protocol.seed, protocol.seed + protocol.draws)
            said = np.stack([fit(few_labels(truth, int(budget), seed), seed) for seed in seeds])
            each = [measured("", scores, sides, protocol).scores for scores in said]
            mean = {score: float(np.mean([found[score] for found in each])) for score in each[0]}
            out |= Outcome(mean, {"": said}).prefixed(f"{name}@{budget}")
    return out


def measured(name: str, scores: np.ndarray, sides: Sides, protocol: Protocol) -> Outcome:
    """Metrics of class scores of the test side, under a name."""
    predictions = Predictions(sides.truth[sides.test], scores, sides.group[sides.test])
    return Outcome(score_with_interval(predictions, protocol.resamples, protocol.seed), {"": scores}).prefixed(name)


def make_sides(
    train: np.ndarray, test: np.ndarray, truth: np.ndarray, group: np.ndarray, classes: Sequence[str]
) -> tuple[Sides, list[str]]:
    """Labelled rows of both sides; classes that one side lacks are left out, and named. So are, where rows have several
    labels, classes that are not known to be absent from any row of a side: every ranking of its rows would be right.

    Raises:
        AudiorepError: nothing to evaluate: fewer than two classes (one, if multi-label) stand on both sides.
    """
    multilabel = truth.ndim == 2
    labelled = ~np.isnan(truth).all(1) if multilabel else truth >= 0
    present = truth == 1 if multilabel else truth[:, None] == np.arange(len(classes))
    train, test = train[labelled[train]], test[labelled[test]]
    in_train, in_test = present[train].any(0), present[test].any(0)
    absent = (truth == 0) if multilabel else ~present
    told_apart = absent[train].any(0) & absent[test].any(0) if multilabel else np.ones(len(classes), bool)
    both = np.flatnonzero(in_train & in_test & told_apart)
    notes: list[str] = []
    for c, name in enumerate(classes):
        count = int(present[:, c].sum())
        if c in both or not count:
            continue
        if in_train[c] and in_test[c]:
            notes.append(
                f"class '{name}' is not known to be absent from any row of one side and is left out of the evaluation: where "
                f"rows name all that is heard, set labels.complete=true; else say '-{name}' of some"
            )
            continue
        where = "test" if in_train[c] else "training"
        reason = "has a single example" if count == 1 else f"has no example on the {where} side"
        notes.append(f"class '{name}' {reason} and is left out of the evaluation")
    needed = 1 if multilabel else 2
    if len(both) < needed:
        raise AudiorepError(
            f"{len(both)} class(es) can be evaluated: at least {needed} with labelled rows on both sides of the split "
            "needed; label more rows or choose another split" + "".join(f"; {note}" for note in notes[:3])
        )
    given = np.full(len(truth), -1)
    if multilabel:
        kept = truth[:, both]
        known = ~np.isnan(kept).all(1)
    else:
        number = np.full(len(classes) + 1, -1)
        number[both] = np.arange(len(both))
        kept = number[truth]
        known = kept >= 0
        for side in (train, test):
            given[side] = truth[side]
    return Sides(train[known[train]], test[known[test]], kept, group, [classes[int(c)] for c in both], given), notes
