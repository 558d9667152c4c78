"""Losses that keep dimensions alive and different: no negatives needed."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from audiorep.losses.precision import in_full, wide

Matrix = Float[Tensor, "d d"]


def variance_hinge(z: Float[Tensor, "b d"], gamma: float = 1.0, eps: float = 1e-4) -> Tensor:
    """``1/d sum_j max(0, gamma - sqrt(var(z_j) + eps))``, var unbiased. Source: VICReg, eq. 1."""
    return F.relu(gamma - torch.sqrt(z.var(0) + eps)).mean()


def covariance(z: Float[Tensor, "b d"]) -> Matrix:
    """The unbiased covariance of the columns. Source: VICReg, eq. 3."""
    centred = z - z.mean(0)
    return centred.T @ centred / (len(z) - 1)


def squared_off_diagonal(matrix: Matrix) -> Tensor:
    """``1/d sum_{i != j} C_ij^2``. Source: VICReg, eq. 4."""
    return (matrix.square().sum() - matrix.diagonal().square().sum()) / len(matrix)


class ExpOffDiagonal:
    """``1/d sum_i log sum_{j != i} exp(C_ij / tau)``.

    Source: Garrido et al. 2023, arXiv:2206.02574, section 5 (VICReg-exp).
    """

    def __init__(self, tau: float = 0.1) -> None:
        self.tau = tau

    def __call__(self, matrix: Matrix) -> Tensor:
        itself = torch.eye(len(matrix), dtype=torch.bool, device=matrix.device)
        return (matrix / self.tau).masked_fill(itself, -torch.inf).logsumexp(1).mean()


class VicReg(nn.Module):
    """``invariance MSE(z, z') + variance/2 (V(z) + V(z')) + covariance (C(z) + C(z'))``.

    V is `variance_hinge`, C `spread` of the covariance. As in the authors' code, the squared error is the mean over
    dimensions too and the variance term is halved over the two branches (their eq. 5 and 6 do neither).

    Args:
        spread: what keeps the entries off the diagonal small: `squared_off_diagonal`, or `ExpOffDiagonal` on the way
            to SimCLR.
        transposed: V and C act between samples instead of between dimensions: the loss becomes contrastive.

    Source: Bardes et al. 2022, arXiv:2105.04906, eq. 1-6, weights 25, 25, 1; the way to SimCLR (exponential, then
    transposed): Garrido et al. 2023, arXiv:2206.02574, section 5.
    """

    def __init__(
        self,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
        spread: Callable[[Matrix], Tensor] = squared_off_diagonal,
        transposed: bool = False,
    ) -> None:
        super().__init__()
        self.invariance, self.variance, self.covariance = invariance, variance, covariance
        self.spread, self.transposed = spread, transposed

    @in_full
    def forward(self, prediction: Float[Tensor, "b d"], target: Float[Tensor, "b d"]) -> dict[str, Tensor]:
        """Returns the weighted terms {"invariance", "variance", "covariance"}."""
        a, b = wide(prediction), wide(target)
        sides = [z.T if self.transposed else z for z in (a, b)]
        return {
            "invariance": self.invariance * F.mse_loss(a, b),
            "variance": self.variance * torch.stack([variance_hinge(z) for z in sides]).mean(),
            "covariance": self.covariance * torch.stack([self.spread(covariance(z)) for z in sides]).sum(),
        }


class BarlowTwins(nn.Module):
    """``sum_i (1 - C_ii)^2 + lam sum_{i != j} C_ij^2``, C the cross-correlation of two views over the batch.

    ``C_ij = 1/b sum_n a_ni b_nj`` with a, b standardised over the batch (biased deviation).

    Source: Zbontar et al. 2021, arXiv:2103.03230, eq. 1-2, lam = .0051.
    """

    def __init__(self, lam: float = 0.0051, eps: float = 1e-5) -> None:
        super().__init__()
        self.lam, self.eps = lam, eps

    @in_full
    def forward(self, prediction: Float[Tensor, "b d"], target: Float[Tensor, "b d"]) -> dict[str, Tensor]:
        """Returns {"diagonal", "off_diagonal"}."""
        a, b = (self.standardise(wide(z)) for z in (prediction, target))
        correlation = a.T @ b / len(a)
        diagonal = correlation.diagonal()
        return {
            "diagonal": (1.0 - diagonal).square().sum(),
            "off_diagonal": self.lam * (correlation.square().sum() - diagonal.square().sum()),
        }

    def standardise(self, z: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """Zero mean and unit variance over the batch; eps is added to the variance."""
        centred = z - z.mean(0)
        return centred * (centred.square().mean(0) + self.eps).rsqrt()
