"""Figures that tell whether a representation is alive, without labels."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def rankme(z: Float[Tensor, "m d"], eps: float = 1e-7) -> float:
    """Effective rank ``exp(-sum_k p_k ln p_k)``, ``p_k = sigma_k / sum sigma + eps``, sigma the singular values of z.

    Between 1 (all embeddings on one line through the origin) and min(m, d).

    Source: Garrido et al. 2023, arXiv:2210.02885, eq. 1.
    """
    sigma = torch.linalg.svdvals(z.double())
    p = sigma / sigma.sum().clamp_min(eps) + eps
    return float(torch.exp(-(p * p.log()).sum()))


def embedding_std(z: Float[Tensor, "m d"]) -> float:
    """Mean over dimensions of the standard deviation of the normalised embeddings, times sqrt(d).

    1 where they fill the sphere evenly, 0 where they are all the same. Source: Chen and He 2021 (SimSiam),
    arXiv:2011.10566, section 4.1.
    """
    unit = F.normalize(z.double())
    return float(unit.std(0).mean() * z.shape[1] ** 0.5)


def raw_std(z: Float[Tensor, "m d"]) -> float:
    """Mean over dimensions of the standard deviation, without normalisation."""
    return float(z.double().std(0).mean())


def mean_cosine(z: Float[Tensor, "m d"]) -> float:
    """Mean cosine similarity of different embeddings; 1 where all point the same way."""
    unit = F.normalize(z.double())
    count = len(z)
    return float((unit.sum(0).square().sum() - count) / (count * (count - 1)))


def uniformity(z: Float[Tensor, "m d"], t: float = 2.0) -> float:
    """``log mean exp(-t |z_i - z_j|^2)`` over pairs of normalised embeddings; lower is more even.

    Source: Wang and Isola 2020, arXiv:2005.10242, eq. 2.
    """
    distances = torch.pdist(F.normalize(z.double()))
    return float(torch.exp(-t * distances.square()).mean().log())


def marginal_entropy(p: Float[Tensor, "m k"]) -> float:
    """``H(mean_i p_i)`` in nats, ``H(q) = -sum_k q_k ln q_k`` with ``0 ln 0 = 0``, of distributions over k prototypes.

    ln k where all prototypes are used alike, 0 where everything falls into one: a collapse.

    Source: Assran et al. 2022 (MSN), arXiv:2204.07141 (mean entropy maximisation).
    """
    return float(torch.special.entr(p.double().mean(0)).sum())


def conditional_entropy(p: Float[Tensor, "m k"]) -> float:
    """``mean_i H(p_i)`` in nats, H as in `marginal_entropy`: how undecided a single embedding is between prototypes.

    0 where each falls into one prototype, ln k where all are uniform and nothing is told apart: a collapse.

    Source: Caron et al. 2021 (DINO), arXiv:2104.14294, section 5.3 (the entropy of the teacher).
    """
    return float(torch.special.entr(p.double()).sum(1).mean())


MAX_PAIRED = 512
"""Rows of which `figures` takes pairs."""


def figures(z: Float[Tensor, "m d"]) -> dict[str, float]:
    """All figures of one set of embeddings, uniformity of the first `MAX_PAIRED`; NaN where one is not finite."""
    if not z.isfinite().all():
        return dict.fromkeys(("rankme", "std", "raw_std", "mean_cosine", "uniformity"), float("nan"))
    return {
        "rankme": rankme(z),
        "std": embedding_std(z),
        "raw_std": raw_std(z),
        "mean_cosine": mean_cosine(z),
        "uniformity": uniformity(z[:MAX_PAIRED]),
    }


@dataclass(frozen=True)
class CollapseRule:
    """When to call a representation collapsed: any figure past its limit, `patience` checks in a row.

    rankme, std, raw_std: floors; NaN counts as below. For methods with k prototypes, where they are measured:
    marginal_entropy_relative: floor of `marginal_entropy` / ln k, below which everything falls into one prototype.
    conditional_entropy_relative: ceiling of `conditional_entropy` / ln k, above which nothing is told apart.

    The limits are far from what a training that works passes through; a slow decay short of them is for the reader of
    the curves to judge.
    """

    rankme: float = 1.5
    std: float = 0.03
    raw_std: float = 1e-4
    patience: int = 3
    marginal_entropy_relative: float = 0.05
    conditional_entropy_relative: float = 0.999

    def broken(self, measured: dict[str, float]) -> str | None:
        """Which figure tells, as words; None where all is well. A figure that was not measured tells nothing."""
        floors = {"rankme": self.rankme, "std": self.std, "raw_std": self.raw_std}
        for name, floor in floors.items():
            if name in measured and not measured[name] >= floor:
                return f"{name} = {measured[name]:.3g}, below {floor:g}"
        marginal = measured.get("marginal_entropy_relative", 1.0)
        if marginal < self.marginal_entropy_relative:
            return f"marginal_entropy_relative = {marginal:.3g}, below {self.marginal_entropy_relative:g}"
        conditional = measured.get("conditional_entropy_relative", 0.0)
        if conditional > self.conditional_entropy_relative:
            return f"conditional_entropy_relative = {conditional:.4g}, above {self.conditional_entropy_relative:g}"
        return None


def entropies(p: Float[Tensor, "m k"]) -> dict[str, float]:
    """`marginal_entropy` and `conditional_entropy` of distributions over k prototypes, also relative to ln k."""
    most = math.log(p.shape[1])
    found = {"marginal_entropy": marginal_entropy(p), "conditional_entropy": conditional_entropy(p)}
    return found | {f"{name}_relative": value / most for name, value in found.items()}
