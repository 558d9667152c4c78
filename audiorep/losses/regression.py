"""Losses of predicted vectors against given ones, element by element."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from audiorep.losses.precision import in_full, wide


class MeanSquared(nn.Module):
    """``mean over rows and dimensions of (p - t)^2``."""

    @in_full
    def forward(self, prediction: Float[Tensor, "b d"], target: Float[Tensor, "b d"]) -> dict[str, Tensor]:
        """Returns {"regression": scalar}."""
        return {"regression": F.mse_loss(wide(prediction), wide(target))}


class SmoothL1(nn.Module):
    """``mean of x^2 / (2 beta) where |x| < beta, of |x| - beta / 2 elsewhere``, x = p - t.

    Source: Girshick 2015, arXiv:1504.08083, eq. 3, with beta = 1.
    """

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        self.beta = beta

    @in_full
    def forward(self, prediction: Float[Tensor, "b d"], target: Float[Tensor, "b d"]) -> dict[str, Tensor]:
        """Returns {"regression": scalar}."""
        return {"regression": F.smooth_l1_loss(wide(prediction), wide(target), beta=self.beta)}
