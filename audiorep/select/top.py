"""The clips with the highest scores, or any."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from audiorep.errors import AudiorepError
from audiorep.select.pool import Chosen, Needs, Pool, Selector
from audiorep.select.scores import Score


def highest(score: Float[Tensor, " n"], k: int, rng: torch.Generator) -> Int[Tensor, " k"]:
    """The rows of the k highest scores, highest first; which of equal ones, the generator says."""
    shuffled = torch.randperm(len(score), generator=rng, device=score.device)
    return shuffled[score[shuffled].argsort(descending=True, stable=True)[:k]]


def some(n: int, count: int | None, rng: torch.Generator) -> Int[Tensor, " s"]:
    """`count` rows of n, in order; all of them for None or where there are no more."""
    rows = torch.arange(n, device=rng.device)
    if count is None or count >= n:
        return rows
    return torch.randperm(n, generator=rng, device=rng.device)[:count].sort().values


def score_of(score: Score, pool: Pool) -> Float[Tensor, " n"]:
    """The score of every clip of a pool that has probabilities."""
    assert pool.log_p is not None  # for the type checker: Needs.trained was checked
    return score(pool.log_p, pool.several).float()


class Random(Selector):
    """Any k clips alike: what every strategy has to beat. The score is the chance that a clip had, k / n."""

    def pick(self, pool: Pool, k: int, rng: torch.Generator) -> Chosen:
        rows = torch.randperm(len(pool), generator=rng, device=rng.device)[:k]
        return Chosen(rows, torch.full((k,), k / len(pool), device=rows.device))


class Top(Selector):
    """The k highest scores.

    Args:
        score: what is wanted of a clip, such as `audiorep.select.scores.entropy`.
        passes: whether the score compares several passes, so that a caller makes them.
        among: look at so many clips only, drawn anew each time, so that a batch is not k times the same; None: all.
        per_minute: score divided by `Pool.minutes`; where these are not known, all cost alike.

    Raises:
        AudiorepError: `among` below 1.

    Source: Lewis and Gale 1994, arXiv:cmp-lg/9407020 (the highest first); Haertel et al. 2008, NIPS workshop
    on cost-sensitive learning, "Return on investment for active learning" (score a unit of cost).
    """

    def __init__(self, score: Score, passes: bool = False, among: int | None = None, per_minute: bool = False) -> None:
        if among is not None and among < 1:
            raise AudiorepError(f"selector.among={among}: look at one clip at least, or null for all")
        self.score, self.among, self.per_minute = score, among, per_minute
        self.needs = Needs(probabilities=True, trained=True, passes=passes)

    def pick(self, pool: Pool, k: int, rng: torch.Generator) -> Chosen:
        score = score_of(self.score, pool)
        if self.per_minute and pool.minutes is not None:
            score = score / pool.minutes
        rows = some(len(pool), None if self.among is None else max(k, self.among), rng)
        rows = rows[highest(score[rows], k, rng)]
        return Chosen(rows, score[rows])
