"""Mining: which negatives of an anchor-positive pair count. Distances are those of the loss (half squared).

Every part takes the distances ``near`` [p] of p pairs, ``far`` [p m] from each pair's anchor to all m embeddings, the
mask ``allowed`` [p m] of negatives, a generator and the progress of training in [0, 1]; it returns a mask [p m].
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from audiorep.errors import AudiorepError

Near = Float[Tensor, " p"]
Far = Float[Tensor, "p m"]
Mask = Bool[Tensor, "p m"]
Mining = Callable[[Near, Far, Mask, torch.Generator, float], Mask]


class All:
    """Every negative."""

    def __call__(self, near: Near, far: Far, allowed: Mask, rng: torch.Generator, progress: float) -> Mask:
        return allowed


class Easy:
    """Negatives beyond the margin: ``d_an >= d_ap + eps``."""

    def __init__(self, eps: float = 0.2) -> None:
        self.eps = eps

    def __call__(self, near: Near, far: Far, allowed: Mask, rng: torch.Generator, progress: float) -> Mask:
        return allowed & (far >= near[:, None] + self.eps)


class SemiHard:
    """Negatives behind the positive but within the margin: ``d_ap < d_an < d_ap + eps``.

    Source: Schroff et al. 2015 (FaceNet), arXiv:1503.03832, eq. 4.
    """

    def __init__(self, eps: float = 0.2) -> None:
        self.eps = eps

    def __call__(self, near: Near, far: Far, allowed: Mask, rng: torch.Generator, progress: float) -> Mask:
        return allowed & (far > near[:, None]) & (far < near[:, None] + self.eps)


class Hard:
    """Negatives nearer than the positive: ``d_an < d_ap``."""

    def __call__(self, near: Near, far: Far, allowed: Mask, rng: torch.Generator, progress: float) -> Mask:
        return allowed & (far < near[:, None])


class Sampled:
    """`count` negatives of each pair, drawn evenly; all where there are fewer."""

    def __init__(self, count: int = 16) -> None:
        if count < 1:
            raise AudiorepError(f"mining.count={count}: at least one negative is needed")
        self.count = count

    def __call__(self, near: Near, far: Far, allowed: Mask, rng: torch.Generator, progress: float) -> Mask:
        return _draw(torch.zeros_like(far), allowed, self.count, rng)


class DistanceWeighted:
    """`count` negatives drawn with probability ~ ``min(1 / q(max(d, cutoff)), .)`` among those with d below `limit`.

    ``q(d) ~ d^(n - 2) (1 - d^2 / 4)^((n - 3) / 2)`` is how distances d of random points on the sphere in `dim`
    dimensions are spread, so that all distances are drawn alike often. For normalised embeddings (cosine) only:
    d = sqrt(2 far).

    Source: Wu et al. 2017, arXiv:1706.07567, section 4.1, cutoff .5, limit 1.4.
    """

    def __init__(self, dim: int = 128, cutoff: float = 0.5, limit: float = 1.4, count: int = 1) -> None:
        self.dim, self.cutoff, self.limit, self.count = dim, cutoff, limit, count

    def __call__(self, near: Near, far: Far, allowed: Mask, rng: torch.Generator, progress: float) -> Mask:
        d = (2.0 * far).clamp_min(0.0).sqrt().clamp(self.cutoff, 1.999)
        log_q = (self.dim - 2.0) * d.log() + (self.dim - 3.0) / 2.0 * (1.0 - d.square() / 4.0).log()
        within = allowed & ((2.0 * far).clamp_min(0.0).sqrt() < self.limit)
        return _draw(-log_q, within, self.count, rng)


class DropNearest:
    """All but the nearest `part` of the negatives: those are the likeliest to be unlabelled calls of the same kind.

    Source: false-negative elimination, Huynh et al. 2022, arXiv:2011.11765, section 3.2; there the candidates are
    found by support views, here by distance alone.
    """

    def __init__(self, part: float = 0.05) -> None:
        if not 0.0 <= part < 1.0:
            raise AudiorepError(f"mining.part={part}: a part of the negatives, in [0, 1)")
        self.part = part

    def __call__(self, near: Near, far: Far, allowed: Mask, rng: torch.Generator, progress: float) -> Mask:
        rank = far.masked_fill(~allowed, torch.inf).argsort(1).argsort(1)
        dropped = (self.part * allowed.sum(1, keepdim=True)).floor()
        return allowed & (rank >= dropped)


class Scheduled:
    """One stage of mining after another over equal parts of training, such as easy, semi-hard, hard."""

    def __init__(self, stages: Sequence[Mining]) -> None:
        if not stages:
            raise AudiorepError("mining.stages is empty: name at least one")
        self.stages = list(stages)

    def __call__(self, near: Near, far: Far, allowed: Mask, rng: torch.Generator, progress: float) -> Mask:
        stage = min(int(progress * len(self.stages)), len(self.stages) - 1)
        return self.stages[stage](near, far, allowed, rng, progress)


def _draw(log_weight: Far, allowed: Mask, count: int, rng: torch.Generator) -> Mask:
    """Draw `count` of the allowed in each row without replacement, with odds exp(log_weight) (Gumbel top-k)."""
    noise = torch.rand(log_weight.shape, generator=rng, device=log_weight.device).clamp_min(1e-12)
    keys = (log_weight - (-noise.log()).log()).masked_fill(~allowed, -torch.inf)
    best = keys.topk(min(count, keys.shape[1]), 1).indices
    return torch.zeros_like(allowed).scatter(1, best, True) & allowed
