"""Losses that ask one branch to say what the other says."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from audiorep.losses.precision import wide


class CosineRegression(nn.Module):
    """``2 - 2 cos(p, z)``, the squared distance of the normalised vectors; BYOL's and SimSiam's loss.

    Source: Grill et al. 2020 (BYOL), arXiv:2006.07733, eq. 2; Chen and He 2021 (SimSiam), arXiv:2011.10566, eq. 1,
    without the constants.
    """

    def forward(self, prediction: Float[Tensor, "b d"], target: Float[Tensor, "b d"]) -> dict[str, Tensor]:
        """Returns {"regression": scalar}; no gradient is stopped here, that is the teacher's part."""
        cosine = F.cosine_similarity(wide(prediction), wide(target), dim=1)
        return {"regression": (2.0 - 2.0 * cosine).mean()}


def soft_cross_entropy(target: Float[Tensor, "b k"], logits: Float[Tensor, "b k"]) -> Tensor:
    """``-1/b sum_i sum_k p_ik log softmax(logits_i)_k``."""
    return -(target * wide(logits).log_softmax(1)).sum(1).mean()


def swapped(targets: Sequence[Float[Tensor, "b k"]], logits: Sequence[Float[Tensor, "b k"]]) -> Float[Tensor, ""]:
    """``mean over views t of targets and views s != t of logits of H(target_t, softmax(logits_s))``: no view is asked
    for its own target.

    Source: Caron et al. 2020 (SwAV), arXiv:2006.09882, eq. 1; with small crops, Caron et al. 2021 (DINO),
    arXiv:2104.14294, eq. 3.
    """
    pairs = [(target, logit) for t, target in enumerate(targets) for s, logit in enumerate(logits) if s != t]
    return torch.stack([soft_cross_entropy(target, logit) for target, logit in pairs]).mean()
