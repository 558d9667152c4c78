"""k-medoids: the clips that the pool is nearest to."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from audiorep.errors import AudiorepError
from audiorep.select.geometry import placed, squared_to_nearest
from audiorep.select.pool import Chosen, Pool, Selector
from audiorep.select.top import some

Distances = Float[Tensor, "n n"]
Nearest = tuple[Int[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, " n"]]
LIMIT = 20000
"""Rows of which all pairs are held: 1.6 GB of float32."""
BLOCK = 64
"""Candidates that are tried at once."""


def two_nearest(distance: Distances, medoids: Int[Tensor, " k"], fixed: Float[Tensor, " n"]) -> Nearest:
    """Which medoid is nearest to each row (k: what is fixed), how far that is, and how far the second is."""
    d = torch.cat([distance[medoids], fixed[None]])
    near, place = d.min(0)
    return place, near, d.scatter_(0, place[None], torch.inf).amin(0)


def seeds(
    distance: Distances, fixed: Float[Tensor, " n"], weight: Float[Tensor, " n"], k: int, rng: torch.Generator
) -> Int[Tensor, " k"]:
    """k rows to begin with, each drawn with probability ~ its distance to the nearest so far, times its weight."""
    near, rows = fixed.clone(), torch.empty(k, dtype=torch.int64, device=distance.device)
    for step in range(k):
        chance = (weight if bool(near.isinf().any()) else weight * near).clone()
        chance[rows[:step]] = 0.0
        if not bool(chance.sum() > 0.0):  # all that is left lies on a medoid, or weighs nothing
            chance = torch.ones_like(near)
            chance[rows[:step]] = 0.0
        total = chance.double().cumsum(0)
        draw = torch.rand((), generator=rng, device=rng.device, dtype=torch.float64) * total[-1]
        row = torch.searchsorted(total, draw, right=True).clamp_max(len(near) - 1)
        rows[step] = row if chance[row] > 0.0 else chance.argmax()
        near = torch.minimum(near, distance[rows[step]])
    return rows


def exchange(
    distance: Distances, nearest: Nearest, weight: Float[Tensor, " n"], k: int, candidates: Int[Tensor, " b"]
) -> tuple[float, int, int]:
    """The best exchange of one of k medoids for a candidate: change of the cost, as a part of it; which medoid; candidate.

    For candidate j and medoid m: ``sum_i min(d_ij - a_i, 0) + sum_{i nearest to m} min(d_ij, b_i) - min(d_ij, a_i)``, each
    term times the weight of i, with a_i and b_i the distances of i to its nearest and second nearest: what all gain, and
    what those of m lose. Medoids among the candidates do no harm: they never make the cost smaller.
    """
    place, near, second = nearest
    d = distance[candidates]
    kept = torch.minimum(d, near)
    lost = torch.minimum(d, second).sub_(kept).mul_(weight)
    change = d.new_zeros(len(candidates), k + 1).index_add_(1, place, lost)[:, :k]
    change += ((kept - near) @ weight)[:, None]
    best, m = divmod(int(change.argmin()), k)
    return float(change[best, m] / (near @ weight).clamp_min(1e-30)), m, int(candidates[best])


def k_medoids(
    distance: Distances,
    fixed: Float[Tensor, " n"],
    weight: Float[Tensor, " n"],
    k: int,
    rng: torch.Generator,
    starts: int = 2,
    sweeps: int = 20,
) -> tuple[Int[Tensor, " k"], Float[Tensor, " k"]]:
    """k rows with the smallest ``sum_i min(fixed_i, min_m d_im)`` that no single exchange makes smaller; the largest first.

    From rows drawn far apart on, medoids are exchanged for candidates as soon as one of a block of them is better, until
    a sweep over all rows finds none; the best of several starts.

    Args:
        distance: of all pairs of rows.
        fixed: distance to the nearest of what stays a medoid (answered clips); infinite where there is none.
        starts: how often to begin anew.
        sweeps: at most so many passes over the candidates a start.

    Returns:
        The rows, and the part of all rows that each is nearest to (not counting rows nearer to what is fixed).

    Source: Schubert and Rousseeuw 2021, arXiv:2008.05171 (FasterPAM: the change of an exchange, shared by all medoids,
    and eager exchanges). Only blocks, seeds and the fixed medoids are ours.
    """
    best, cost = torch.empty(0, dtype=torch.int64, device=distance.device), float("inf")
    for _ in range(starts):
        medoids = seeds(distance, fixed, weight, k, rng)
        nearest = two_nearest(distance, medoids, fixed)
        for _ in range(sweeps):
            changed = False
            for block in torch.randperm(len(distance), generator=rng, device=distance.device).split(BLOCK):
                change, m, row = exchange(distance, nearest, weight, k, block)
                if change < -1e-6:  # less is rounding
                    medoids[m], changed = row, True
                    nearest = two_nearest(distance, medoids, fixed)
            if not changed:
                break
        reached = float((nearest[1] * weight).double().sum())
        if reached < cost:
            best, cost = medoids, reached
    heavy = weight.new_zeros(k + 1).index_add_(0, two_nearest(distance, best, fixed)[0], weight)[:k]
    order = heavy.argsort(descending=True, stable=True)
    return best[order], heavy[order] / weight.sum()


def pairs(x: Float[Tensor, "n d"]) -> Distances:
    """``||x_i - x_j||`` of all pairs."""
    norm = x.square().sum(1)
    squared = torch.addmm(norm, x, x.T, alpha=-2.0).add_(norm[:, None])
    return squared.fill_diagonal_(0.0).clamp_min_(0.0).sqrt_()


def medoids_of(
    pool: Pool, rows: Int[Tensor, " s"], k: int, rng: torch.Generator, starts: int, normalise: bool
) -> Chosen:
    """k of some rows of a pool that stand for these rows, beside the answered clips, which stay medoids.

    Raises:
        AudiorepError: more rows than can be compared with each other.
    """
    if len(rows) > LIMIT:
        raise AudiorepError(
            f"k-medoids compares all pairs of {len(rows)} clips: lower batch={k} or selector.sample to {LIMIT} or less"
        )
    x, labelled = placed(pool, normalise, rows)
    fixed = squared_to_nearest(x, labelled).sqrt_()
    chosen, part = k_medoids(pairs(x), fixed, torch.ones_like(fixed), k, rng, starts)
    return Chosen(rows[chosen], part)


class KMedoids(Selector):
    """k clips that stand for the pool: the sum of distances to the nearest of them, or answered clip, is smallest.

    Those that stand for most come first; the score is the part of the pool that a clip stands for.

    Args:
        sample: clips that are drawn and clustered, as all pairs of them are compared.
        starts: how often the search begins anew.
        normalise: compare directions from the mean (see `audiorep.select.geometry.placed`); False: places.

    Raises:
        AudiorepError: a sample or starts below 1.

    Source: Zhao et al. 2017, doi:10.1109/ICASSP.2017.7952256 (medoids of sounds, largest clusters first); answered clips
    stay medoids here. The search: `k_medoids`.
    """

    def __init__(self, sample: int = 4000, starts: int = 2, normalise: bool = True) -> None:
        if sample < 1 or starts < 1:
            raise AudiorepError(f"selector: sample={sample} and starts={starts} must be 1 at least")
        self.sample, self.starts, self.normalise = sample, starts, normalise

    def pick(self, pool: Pool, k: int, rng: torch.Generator) -> Chosen:
        rows = some(len(pool), max(k, self.sample), rng)
        return medoids_of(pool, rows, k, rng, self.starts, self.normalise)
