"""First what stands for the pool, then what stands for the doubtful part of it: the default."""

import torch

from audiorep.errors import AudiorepError
from audiorep.select.medoids import medoids_of
from audiorep.select.pool import Chosen, Needs, Pool, Selector
from audiorep.select.scores import Score, margin
from audiorep.select.top import highest, score_of, some


def doubtful(n: int, k: int, spent: float, beta: float, power: float) -> int:
    """How many of n clips are doubtful enough: ``max(beta k, n (1 - spent^power))``, from all at the start on."""
    return min(n, max(round(beta * k), round(n * (1.0 - spent**power))))


class DiversityFirst(Selector):
    """The k medoids of the most uncertain ``max(beta k, n (1 - spent^power))`` clips, with the answered clips as medoids.

    Without a model, or with nothing spent, these are all clips, and the choice is k-medoids of the pool: diverse and
    typical. As the budget is spent, fewer and fewer clips are looked at, and at last the ``beta k`` most uncertain ones:
    the choice is of uncertain clips, but still one for each kind of them. Redundancy is explicit all along: a clip counts
    by how much nearer it is to others than any clip that was answered or chosen, so a double of those counts for nothing.

    Those that stand for most clips come first; the score is the part of the clips looked at that a clip stands for.

    Args:
        score: how uncertain a clip is; where there are no probabilities yet, none is needed.
        beta: at the end, how many times k clips are looked at.
        power: below 1 uncertainty counts sooner, above 1 later.
        sample: clips that are drawn of those and clustered, as all pairs of them are compared.
        starts: how often the search for medoids begins anew.
        passes: whether the score compares several passes.
        normalise: compare directions from the mean (see `audiorep.select.geometry.placed`); False: places.

    Raises:
        AudiorepError: beta, sample or starts below 1, or a power that is not above 0.

    Source: redundancy with what was chosen, weighed explicitly: Carbonell and Goldstein 1998 (MMR),
    doi:10.1145/290941.291025; a part of the most uncertain clips that is then thinned by clusters: Zhdanov 2019,
    arXiv:1901.05954. Medoids that respect the answered clips, and the part that shrinks with the budget, are ours.
    """

    def __init__(
        self,
        score: Score = margin,
        beta: float = 10.0,
        power: float = 0.5,
        sample: int = 4000,
        starts: int = 1,
        passes: bool = False,
        normalise: bool = True,
    ) -> None:
        if beta < 1.0 or power <= 0.0 or sample < 1 or starts < 1:
            raise AudiorepError(
                f"selector: beta={beta}, sample={sample} and starts={starts} must be 1 at least, power={power} above 0"
            )
        self.score, self.beta, self.power, self.sample, self.starts = score, beta, power, sample, starts
        self.normalise = normalise
        self.needs = Needs(probabilities=True, passes=passes)

    def pick(self, pool: Pool, k: int, rng: torch.Generator) -> Chosen:
        count = len(pool) if pool.log_p is None else doubtful(len(pool), k, pool.spent, self.beta, self.power)
        rows = torch.arange(len(pool), device=pool.embedding.device)
        if count < len(pool):
            rows = highest(score_of(self.score, pool), count, rng).sort().values
        rows = rows[some(len(rows), max(k, self.sample), rng)]
        return medoids_of(pool, rows, k, rng, self.starts, self.normalise)
