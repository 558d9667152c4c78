"""Few-shot episodes: N classes, K examples of each, the class whose mean is nearest; the mean over many draws."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

from audiorep.errors import AudiorepError
from audiorep.evaluate.protocol import Outcome, Protocol, Scores, Sides

Distance = Callable[[Float[np.ndarray, "n d"], Float[np.ndarray, "c d"]], Float[np.ndarray, "n c"]]
Rows = Int[np.ndarray, " _"]
Z_95 = 1.959964
"""Of the normal distribution, 95 % lies within so many standard deviations."""


def squared_euclidean(x: Float[np.ndarray, "n d"], means: Float[np.ndarray, "c d"]) -> Float[np.ndarray, "n c"]:
    """``||x_i - m_c||^2``."""
    return np.square(x[:, None] - means[None]).sum(2)


def cosine(x: Float[np.ndarray, "n d"], means: Float[np.ndarray, "c d"]) -> Float[np.ndarray, "n c"]:
    """``1 - cos(x_i, m_c)``."""
    return 1.0 - unit(x) @ unit(means).T


def unit(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Rows of length 1; a row of zeros stays one."""
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def fewshot(
    embedding: Float[np.ndarray, "n d"],
    sides: Sides,
    protocol: Protocol,
    ways: int = 5,
    shots: Sequence[int] = (1, 5),
    queries: int = 15,
    episodes: int = 600,
    across: bool = True,
    centre: bool = True,
    normalise: bool = True,
    distance: Distance = squared_euclidean,
) -> Outcome:
    """Mean accuracy of nearest-mean classification over episodes: ``fewshot@N-way-K-shot/accuracy``.

    An episode draws N classes, K rows of each as support and up to `queries` others of each to be named; its accuracy is
    the mean over its classes. The interval ``mean +- 1.96 s / sqrt(episodes)`` tells how exactly the draws give the mean
    for these recordings, not how it would be for others. Draws depend on the seed alone and are the same for every
    embedding. Corpora with several labels a row are left out.

    Args:
        ways, shots: N, and each K to be tried.
        queries: of each class, at most; a class that has fewer gives all.
        across: support from the training side and queries from the test side: group-disjoint, as the split is. False: both
            from all labelled rows, for corpora with too few rows to be split (also of classes that one side lacks); then
            support and queries may share a recording or individual, and the score is NOT group-disjoint.
        centre: subtract the training side's mean first.
        normalise: then divide each embedding by its length.
        distance: to the means of the classes: `squared_euclidean` or `cosine`.

    Raises:
        AudiorepError: fewer classes with rows enough than ways, or numbers that make no episode.

    Source: Snell et al. 2017, arXiv:1703.05175, section 2.3; Wang et al. 2019 (SimpleShot), arXiv:1911.04623, section 3
    (centring and length).
    """
    if sides.multilabel:
        return Outcome()
    check(ways, shots, queries, episodes)
    x, scores = prepare(embedding, sides, centre, normalise), Scores()
    for k in shots:
        support, asked = pools(sides, k, across)
        if len(support) < ways:
            raise AudiorepError(too_few(len(support), ways, k, across))
        rng = np.random.default_rng([protocol.seed, ways, k])
        found = np.empty(episodes)
        for e in range(episodes):
            chosen = rng.choice(len(support), ways, replace=False)
            drawn = [draw(support[c], asked[c], k, queries, rng) for c in chosen]
            found[e] = episode(x, drawn, distance)
        mean, half = float(found.mean()), float(Z_95 * found.std(ddof=1) / np.sqrt(episodes))
        name = f"fewshot@{ways}-way-{k}-shot/accuracy"
        scores |= {name: mean}
        if protocol.resamples:
            scores |= {f"{name}/low": mean - half, f"{name}/high": mean + half}
    return Outcome(scores)


def pools(sides: Sides, shots: int, across: bool) -> tuple[list[Rows], list[Rows]]:
    """The rows that support and queries are drawn from, of each class that has enough: `shots`, and one besides."""
    if across:
        support = [sides.train[sides.truth[sides.train] == c] for c in range(len(sides.classes))]
        asked = [sides.test[sides.truth[sides.test] == c] for c in range(len(sides.classes))]
        kept = [c for c in range(len(sides.classes)) if len(support[c]) >= shots and len(asked[c])]
        return [support[c] for c in kept], [asked[c] for c in kept]
    of_class = [np.flatnonzero(sides.given == c) for c in np.unique(sides.given[sides.given >= 0])]
    both = [rows for rows in of_class if len(rows) > shots]
    return both, both


def draw(support: Rows, asked: Rows, shots: int, queries: int, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """`shots` rows of a class as support, and up to `queries` others."""
    chosen = rng.choice(support, shots, replace=False)
    others = asked[~np.isin(asked, chosen)]
    return chosen, rng.choice(others, min(queries, len(others)), replace=False)


def episode(x: Float[np.ndarray, "n d"], drawn: Sequence[tuple[Rows, Rows]], distance: Distance) -> float:
    """Mean over classes of the part of their queries that is nearest to the mean of their support.

    Args:
        drawn: of each class, the rows of its support and of its queries.
    """
    means = np.stack([x[support].mean(0) for support, _ in drawn])
    right = [(distance(x[asked], means).argmin(1) == way).mean() for way, (_, asked) in enumerate(drawn)]
    return float(np.mean(right))


def prepare(
    embedding: Float[np.ndarray, "n d"], sides: Sides, centre: bool, normalise: bool
) -> Float[np.ndarray, "n d"]:
    """Embeddings less the training side's mean, of length 1; each only if asked for."""
    x = embedding.astype(np.float64)
    if centre:
        x = x - x[sides.train].mean(0)
    return unit(x) if normalise else x


def check(ways: int, shots: Sequence[int], queries: int, episodes: int) -> None:
    """Refuse numbers that make no episode."""
    for name, value, least in (
        ("ways", ways, 2),
        ("shots", min(shots, default=0), 1),
        ("queries", queries, 1),
        ("episodes", episodes, 2),
    ):
        if value < least:
            raise AudiorepError(f"evaluation.protocols.fewshot.{name}={value}: at least {least}")


def too_few(classes: int, ways: int, shots: int, across: bool) -> str:
    """What to do where there are fewer classes than ways."""
    where = f"{shots} row(s) on the training side and one on the test side" if across else f"{shots + 1} labelled rows"
    other = "; across=false draws both from all labelled rows, but is not group-disjoint" if across else ""
    lower = f"lower evaluation.protocols.fewshot.ways to {classes} or less" if classes > 1 else "label more rows"
    return (
        f"fewshot: {ways}-way {shots}-shot episodes need {ways} classes with {where}, and there are {classes}: "
        f"{lower}, or lower shots{other}"
    )
