"""Losses that keep dimensions alive and different: no negatives needed."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


def variance_hinge(z: Float[Tensor, "b d"], gamma: float = 1.0, eps: float = 1e-4) -> Tensor:
    """``1/d sum_j max(0, gamma - sqrt(var(z_j) + eps))``, var unbiased. Source: VICReg, eq. 1."""
    return F.relu(gamma - torch.sqrt(z.var(0) + eps)).mean()


def off_diagonal_covariance(z: Float[Tensor, "b d"]) -> Tensor:
    """``1/d sum_{i != j} C_ij^2`` with the unbiased covariance C. Source: VICReg, eq. 3-4."""
    centred = z - z.mean(0)
    covariance = centred.T @ centred / (len(z) - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / z.shape[1]


class VicReg(nn.Module):
    """``invariance MSE(z, z') + variance/2 (V(z) + V(z')) + covariance (C(z) + C(z'))``.

    V is `variance_hinge`, C `off_diagonal_covariance`. The variance term is halved over the two branches, as in the
    authors' code (their eq. 6 does not halve it).

    Source: Bardes et al. 2022, arXiv:2105.04906, eq. 1-6, weights 25, 25, 1.
    """

    def __init__(self, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0) -> None:
        super().__init__()
        self.invariance, self.variance, self.covariance = invariance, variance, covariance

    def forward(self, prediction: Float[Tensor, "b d"], target: Float[Tensor, "b d"]) -> dict[str, Tensor]:
        """Returns the weighted terms {"invariance", "variance", "covariance"}."""
        a, b = prediction.float(), target.float()
        return {
            "invariance": self.invariance * F.mse_loss(a, b),
            "variance": self.variance * (variance_hinge(a) + variance_hinge(b)) / 2.0,
            "covariance": self.covariance * (off_diagonal_covariance(a) + off_diagonal_covariance(b)),
        }
