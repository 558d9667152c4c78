"""Losses that ask one branch to say what the other says."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class CosineRegression(nn.Module):
    """``2 - 2 cos(p, z)``, the squared distance of the normalised vectors; BYOL's and SimSiam's loss.

    Source: Grill et al. 2020 (BYOL), arXiv:2006.07733, eq. 2.
    """

    def forward(self, prediction: Float[Tensor, "b d"], target: Float[Tensor, "b d"]) -> dict[str, Tensor]:
        """Returns {"regression": scalar}; no gradient is stopped here, that is the teacher's part."""
        cosine = F.cosine_similarity(prediction.float(), target.float(), dim=1)
        return {"regression": (2.0 - 2.0 * cosine).mean()}
