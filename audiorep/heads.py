"""Heads: small networks on top of an embedding."""

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class Mlp(nn.Module):
    """Projector or predictor: `layers` linear layers with batch norm and ReLU between them, [b d_in] -> [b d_out].

    Args:
        inputs, hidden, outputs: widths.
        layers: number of linear layers; 1: linear only.
        last_norm: batch norm (without affine) after the last layer, as SimSiam's and MoCo v3's projectors have.
    """

    def __init__(
        self, inputs: int, hidden: int = 1024, outputs: int = 128, layers: int = 2, last_norm: bool = False
    ) -> None:
        super().__init__()
        widths = [inputs] + [hidden] * (layers - 1)
        parts: list[nn.Module] = []
        for width, following in pairwise(widths):
            parts += [nn.Linear(width, following, bias=False), nn.BatchNorm1d(following), nn.ReLU(inplace=True)]
        parts.append(nn.Linear(widths[-1], outputs))
        if last_norm:
            parts.append(nn.BatchNorm1d(outputs, affine=False))
        self.network = nn.Sequential(*parts)
        self.dim = outputs

    def forward(self, x: Float[Tensor, "b d_in"]) -> Float[Tensor, "b d_out"]:
        return self.network(x)


class Identity(nn.Module):
    """No head: SimCLR's and VICReg's predictor."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.dim = inputs

    def forward(self, x: Float[Tensor, "b d_in"]) -> Float[Tensor, "b d_in"]:
        return x


class UnitLinear(nn.Linear):
    """``W x / |x| + b``: a linear layer that hears the direction of an embedding [b d], not its length, in which loudness
    may stand."""

    def forward(self, input: Float[Tensor, "*b d"]) -> Float[Tensor, "*b c"]:
        return super().forward(F.normalize(input, dim=-1))
