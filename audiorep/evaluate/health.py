"""Figures that tell whether a representation is alive, without labels."""

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


def figures(z: Float[Tensor, "m d"]) -> dict[str, float]:
    """All figures of one set of embeddings; NaN where an embedding is not finite."""
    if not z.isfinite().all():
        return dict.fromkeys(("rankme", "std", "raw_std", "mean_cosine"), float("nan"))
    return {
        "rankme": rankme(z),
        "std": embedding_std(z),
        "raw_std": raw_std(z),
        "mean_cosine": mean_cosine(z),
    }


@dataclass(frozen=True)
class CollapseRule:
    """When to call a representation collapsed: any figure under its floor, `patience` checks in a row.

    The floors are far below what a training that works passes through; a slow decay above them is for the reader of
    the curves to judge.
    """

    rankme: float = 1.5
    std: float = 0.03
    raw_std: float = 1e-4
    patience: int = 3

    def broken(self, measured: dict[str, float]) -> str | None:
        """Which figure tells, as words; None where all is well."""
        floors = {"rankme": self.rankme, "std": self.std, "raw_std": self.raw_std}
        for name, floor in floors.items():
            if not measured[name] >= floor:
                return f"{name} = {measured[name]:.3g}, below {floor:g}"
        return None
