"""What stands between an encoder and a decoder: a point, or a Gaussian of which a point is drawn."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audiorep.distributed import randn
from audiorep.errors import AudiorepError
from audiorep.losses.precision import wide


@dataclass
class Code:
    """The code that is decoded, its mean, and how far its distribution is from the prior, in nats."""

    drawn: Float[Tensor, "b d"]
    mean: Float[Tensor, "b d"]
    kl: Float[Tensor, " b"]


class Point(nn.Module):
    """A linear map to `dim` numbers and nothing more: the code of a plain autoencoder. [b d_in] -> `Code` [b d].

    Args:
        inputs: width of what is encoded.
        dim: numbers in the code.
    """

    beta = 0.0
    """Weight of the divergence from a prior; 0: there is none."""

    def __init__(self, inputs: int, dim: int = 128) -> None:
        super().__init__()
        self.dim = dim
        self.mean = nn.Linear(inputs, dim)

    def forward(self, x: Float[Tensor, "b d_in"], rng: torch.Generator) -> Code:
        mean = self.mean(x)
        return Code(mean, mean, wide(mean.new_zeros(len(mean))))


class Gaussian(nn.Module):
    """``z = mu + sigma eps``, eps ~ N(0, I), with mu and ln sigma^2 linear in the input. [b d_in] -> `Code` [b d].

    ``KL = 1/2 sum_j (mu_j^2 + sigma_j^2 - ln sigma_j^2 - 1)`` against N(0, I). In evaluation the code is its mean.

    Args:
        inputs: width of what is encoded.
        dim: numbers in the code.
        beta: weight of the KL; 1: the evidence lower bound of a decoder with unit variance (see `Reconstruction`).

    Raises:
        AudiorepError: a weight below zero.

    Source: Kingma and Welling 2014, arXiv:1312.6114, section 2.4 and appendix B; beta: Higgins et al. 2017 (beta-VAE),
    ICLR, eq. 4.
    """

    def __init__(self, inputs: int, dim: int = 128, beta: float = 1.0) -> None:
        super().__init__()
        if beta < 0.0:
            raise AudiorepError(f"objective.latent.beta={beta} would push the code away from its prior: 0 or more")
        self.dim, self.beta = dim, beta
        self.mean, self.log_variance = nn.Linear(inputs, dim), nn.Linear(inputs, dim)

    def forward(self, x: Float[Tensor, "b d_in"], rng: torch.Generator) -> Code:
        mean, log_variance = wide(self.mean(x)), wide(self.log_variance(x))
        kl = divergence(mean, log_variance)
        if not self.training:
            return Code(mean, mean, kl)
        noise = randn(*mean.shape, rng=rng, device=mean.device)
        return Code(mean + (0.5 * log_variance).exp() * noise, mean, kl)


def divergence(mean: Float[Tensor, "b d"], log_variance: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
    """``KL(N(mu, sigma^2) || N(0, I)) = 1/2 sum_j (mu_j^2 + sigma_j^2 - ln sigma_j^2 - 1)``, in nats."""
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1.0).sum(1)
