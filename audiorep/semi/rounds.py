"""Semi-supervised learning in rounds, around any learner: pseudo-labels, ensembles of learners, co-training."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from audiorep.errors import AudiorepError

Labels = Int[np.ndarray, " n"]
"""Class numbers of all rows; -1 unlabelled."""

Fit = Callable[[Labels, Int[np.ndarray, " n"], str], Float[np.ndarray, "n c"]]
"""(labels, how often each labelled row is drawn, a name for files) to class probabilities of all rows."""

ENOUGH = 1e-6  # an error of boosting below this counts as this


@dataclass(frozen=True)
class Round:
    """One round: what was learned from, and what was said.

    number: from 0, where only the given labels are there. labels: of all rows. p: class probabilities of all rows.
    """

    number: int
    labels: Labels
    p: Float[np.ndarray, "n c"]


def pseudo_label_rounds(
    fit: Fit,
    given: Labels,
    candidates: Int[np.ndarray, " k"],
    rounds: int = 3,
    threshold: float = 0.9,
    refine: bool = True,
    most_per_class: int | None = None,
) -> Iterator[Round]:
    """Learn, label the candidates of which ``max p > threshold``, learn again from both; `rounds` times after the first.

    Args:
        fit: the learner.
        given: the labels that are known; they are never changed.
        candidates: rows that may be labelled: unlabelled ones of the training side.
        refine: every round labels anew; False: a guess stays.
        most_per_class: at most so many guesses of a class, the surest; None: all.

    Raises:
        AudiorepError: a threshold that is none, or no round.

    Source: Lee 2013, ICML workshop on challenges in representation learning; thresholded rounds as in Yarowsky 1995,
    doi:10.3115/981658.981684.
    """
    if not 0.0 <= threshold < 1.0 or rounds < 1:
        raise AudiorepError(f"threshold={threshold} must lie in [0, 1), rounds={rounds} be 1 or more")
    labels = given
    for number in range(rounds + 1):
        p = fit(labels, (labels >= 0).astype(np.int64), f"round_{number}")
        yield Round(number, labels, p)
        start = given if refine else labels
        free = candidates[start[candidates] < 0]
        chosen = surest(p, free, threshold, most_per_class)
        labels = start.copy()
        labels[chosen] = p[chosen].argmax(1)


def surest(
    p: Float[np.ndarray, "n c"], rows: Int[np.ndarray, " k"], threshold: float, most_per_class: int | None = None
) -> Int[np.ndarray, " m"]:
    """The rows of which ``max p > threshold``, at most so many of a class: those with the largest."""
    best, named = p[rows].max(1), p[rows].argmax(1)
    order = rows[np.argsort(-best, kind="stable")]
    order = order[p[order].max(1) > threshold]
    if most_per_class is None:
        return np.sort(order)
    return np.sort(
        np.concatenate([order[:0], *(order[p[order].argmax(1) == c][:most_per_class] for c in np.unique(named))])
    )


def bagging(fit: Fit, members: int, seed: int = 0) -> Fit:
    """The mean of `members` learners, each of a bootstrap sample of the labelled rows that keeps every class.

    Source: Breiman 1996, doi:10.1007/BF00058655.
    """

    def ensemble(labels: Labels, draws: Int[np.ndarray, " n"], name: str) -> Float[np.ndarray, "n c"]:
        rng = np.random.default_rng([seed, 21])
        return np.mean([fit(labels, resampled(labels, draws, rng), f"{name}_{m}") for m in range(members)], 0)

    return ensemble


def boosting(fit: Fit, members: int, seed: int = 0) -> Fit:
    """`members` learners one after the other, each of a sample in which what the former got wrong comes more often.

    ``alpha = log((1 - e) / e) + log(c - 1)`` with e the weighted error on the labelled rows; the weights of the wrong ones
    grow by ``exp(alpha)``; probabilities are averaged with weights alpha. It ends early where a learner is no better than
    chance (which does not count, unless it is the first), or makes no error.

    Source: Zhu et al. 2009, doi:10.4310/SII.2009.v2.n3.a8 (SAMME), by resampling.
    """

    def ensemble(labels: Labels, draws: Int[np.ndarray, " n"], name: str) -> Float[np.ndarray, "n c"]:
        rng = np.random.default_rng([seed, 22])
        rows = np.flatnonzero((labels >= 0) & (draws > 0))
        weight = draws[rows] / draws[rows].sum()
        said: list[tuple[float, np.ndarray]] = []
        for member in range(members):
            taken = draws if member == 0 else resampled(labels, draws, rng, weight)
            p = fit(labels, taken, f"{name}_{member}")
            wrong = p[rows].argmax(1) != labels[rows]
            error = max(float(weight[wrong].sum()), ENOUGH)
            if error >= 1.0 - 1.0 / p.shape[1]:
                said = said or [(1.0, p)]
                break
            alpha = float(np.log((1.0 - error) / error) + np.log(p.shape[1] - 1))
            said.append((alpha, p))
            if not wrong.any():
                break
            weight = weight * np.exp(alpha * wrong)
            weight /= weight.sum()
        total = sum(alpha for alpha, _ in said)
        return np.sum([alpha / total * p for alpha, p in said], 0)

    return ensemble


def resampled(
    labels: Labels, draws: Int[np.ndarray, " n"], rng: np.random.Generator, weight: np.ndarray | None = None
) -> Int[np.ndarray, " n"]:
    """As many draws as before, with replacement, by `weight` of the labelled rows; and one of a class that was missed."""
    rows = np.flatnonzero((labels >= 0) & (draws > 0))
    chance = draws[rows] / draws[rows].sum() if weight is None else weight
    out = np.zeros_like(draws)
    out[rows] = rng.multinomial(int(draws[rows].sum()), chance)
    for c in np.setdiff1d(labels[rows], labels[out > 0]):
        out[rng.choice(rows[labels[rows] == c])] += 1
    return out


@dataclass(frozen=True)
class Exchange:
    """One round of co-training: each learner's labels and probabilities, and how often they differ on the candidates."""

    number: int
    labels: tuple[Labels, Labels]
    p: tuple[Float[np.ndarray, "n c"], Float[np.ndarray, "n c"]]
    disagreement: float

    @property
    def together(self) -> Float[np.ndarray, "n c"]:
        """The mean of both."""
        return (self.p[0] + self.p[1]) / 2.0


def co_training(
    first: Fit,
    second: Fit,
    given: Labels,
    candidates: Int[np.ndarray, " k"],
    rounds: int = 5,
    per_class: int = 5,
    threshold: float = 0.8,
) -> Iterator[Exchange]:
    """Two learners that hear different things: each labels, for the other, the candidates of which it is surest.

    Per round at most `per_class` of each class, with ``max p > threshold``, that the other has no label for yet.

    Source: Blum and Mitchell 1998, doi:10.1145/279943.279962, table 1; with a pool for each, as in Nigam and Ghani 2000,
    doi:10.1145/354756.354805.
    """
    labels = [given.copy(), given.copy()]
    for number in range(rounds + 1):
        p = [
            fit(own, (own >= 0).astype(np.int64), f"round_{number}_{side}")
            for fit, own, side in zip((first, second), labels, ("first", "second"), strict=True)
        ]
        differ = float((p[0][candidates].argmax(1) != p[1][candidates].argmax(1)).mean()) if len(candidates) else 0.0
        yield Exchange(number, (labels[0].copy(), labels[1].copy()), (p[0], p[1]), differ)
        chosen = [
            surest(said, candidates[other[candidates] < 0], threshold, per_class)
            for said, other in zip(p, labels[::-1], strict=True)
        ]
        for said, other, rows in zip(p, labels[::-1], chosen, strict=True):
            other[rows] = said[rows].argmax(1)
