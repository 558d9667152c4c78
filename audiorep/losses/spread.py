"""Losses that push the embeddings of a batch apart, whoever they belong to."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from audiorep.losses.precision import in_full, wide


class KoLeo(nn.Module):
    """``-1/b sum_i log( min_{j != i} |z_i - z_j| )``, z normalised: each moves away from its nearest neighbour.

    After Kozachenko and Leonenko's estimator of entropy. `eps` in place of a smaller distance keeps two equal rows
    (a clip drawn twice) finite; they do not push each other away.

    Source: Sablayrolles et al. 2019, arXiv:1806.03198, eq. 2; Oquab et al. 2023 (DINOv2), arXiv:2304.07193, section 4.
    """

    def __init__(self, eps: float = 1e-8) -> None:
        super().__init__()
        self.eps = eps

    @in_full
    def forward(self, z: Float[Tensor, "b d"]) -> dict[str, Tensor]:
        """Returns {"koleo": scalar}; 0 for a single row."""
        z = F.normalize(wide(z))
        if len(z) < 2:
            return {"koleo": 0.0 * z.sum()}
        itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
        nearest = (z @ z.T).detach().masked_fill(itself, -torch.inf).argmax(1)
        squared = (z - z[nearest]).square().sum(1)
        return {"koleo": -(squared + self.eps**2).log().mean() / 2.0}
