"""Contrastive losses: bring positives together, push everything else apart."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class NtXent(nn.Module):
    """Normalised temperature-scaled cross-entropy over the 2b embeddings of two views.

    ``L = -1/2b sum_i log( exp(s_i,j(i) / tau) / sum_{k != i} exp(s_ik / tau) )``, s the cosine similarity, j(i) the
    other view of i: one positive against 2b - 2 negatives.

    Args:
        tau: temperature.
        negatives: False leaves the denominator out: only attraction is left, and the representation collapses. It is
            there to show just that.

    Source: Chen et al. 2020 (SimCLR), arXiv:2002.05709, eq. 1.
    """

    def __init__(self, tau: float = 0.2, negatives: bool = True) -> None:
        super().__init__()
        self.tau, self.negatives = tau, negatives

    def forward(self, prediction: Float[Tensor, "b d"], target: Float[Tensor, "b d"]) -> dict[str, Tensor]:
        """Symmetric in its arguments; returns {"contrast": scalar}."""
        z = F.normalize(torch.cat([prediction, target]).float())
        similarity = z @ z.T / self.tau
        count = len(prediction)
        positive = torch.arange(2 * count, device=z.device).roll(count)
        if not self.negatives:
            return {"contrast": -similarity.gather(1, positive[:, None]).mean()}
        similarity = similarity.masked_fill(torch.eye(2 * count, dtype=torch.bool, device=z.device), -torch.inf)
        return {"contrast": F.cross_entropy(similarity, positive)}
