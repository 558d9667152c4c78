"""Contrastive losses of two views: bring the pair together, push everything else apart."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from audiorep.losses.precision import in_full, wide


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

    @in_full
    def forward(self, prediction: Float[Tensor, "b d"], target: Float[Tensor, "b d"]) -> dict[str, Tensor]:
        """Symmetric in its arguments; returns {"contrast": scalar}."""
        z = F.normalize(wide(torch.cat([prediction, target])))
        similarity = z @ z.T / self.tau
        count = len(prediction)
        positive = torch.arange(2 * count, device=z.device).roll(count)
        if not self.negatives:
            return {"contrast": -similarity.gather(1, positive[:, None]).mean()}
        similarity = similarity.masked_fill(torch.eye(2 * count, dtype=torch.bool, device=z.device), -torch.inf)
        return {"contrast": F.cross_entropy(similarity, positive)}


class InfoNce(nn.Module):
    """Cross-entropy of each query's own key against a memory of other keys, or against the keys of the batch.

    ``L = -1/b sum_i log( exp(q_i k_i / tau) / (exp(q_i k_i / tau) + sum_n exp(q_i n / tau)) )``, all normalised; n runs
    over the memory (MoCo v2) or, without one, over the other keys of the batch (MoCo v3).

    Source: van den Oord et al. 2018, arXiv:1807.03748, eq. 4; He et al. 2020 (MoCo), arXiv:1911.05722, eq. 1.
    """

    def __init__(self, tau: float = 0.2) -> None:
        super().__init__()
        self.tau = tau

    @in_full
    def forward(
        self,
        prediction: Float[Tensor, "b d"],
        target: Float[Tensor, "b d"],
        memory: Float[Tensor, "k d"] | None = None,
    ) -> dict[str, Tensor]:
        """Returns {"contrast": scalar}."""
        query, key = F.normalize(wide(prediction)), F.normalize(wide(target))
        if memory is None:
            logits, own = query @ key.T, torch.arange(len(query), device=query.device)
        else:
            logits = torch.cat([(query * key).sum(1, keepdim=True), query @ memory.to(query).T], 1)
            own = torch.zeros(len(query), dtype=torch.int64, device=query.device)
        return {"contrast": F.cross_entropy(logits / self.tau, own)}
