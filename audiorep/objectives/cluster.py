"""DeepCluster: cluster the embeddings, learn to tell the clusters apart, cluster again."""

from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from audiorep.assign import clusters_of
from audiorep.encoders.base import Encoder
from audiorep.errors import AudiorepError
from audiorep.objectives.base import Embed, Objective, Setting
from audiorep.types import Batch, Views


class DeepCluster(Objective):
    """Cross-entropy of a linear head against k-means clusters of the embeddings, found anew before every epoch.

    Before k-means the embeddings are centred, reduced to `pca` dimensions, whitened and normalised. The numbers of
    clusters mean nothing from one epoch to the next, so the head begins anew with them (its running moments in the
    optimiser do not). Rows are drawn evenly over clusters by `audiorep.data.sampler.Balanced`, which uses `partition`.

    Args:
        encoder: the encoder to train.
        clusters: number of clusters.
        pca: dimensions before clustering; null: as many as there are.
        every: epochs from one clustering to the next.
        view: the kind of view that is used.

    Raises:
        AudiorepError: more clusters than rows.

    Source: Caron et al. 2018, arXiv:1807.05520, eq. 1-2, section 3.
    """

    def __init__(
        self, encoder: Encoder, clusters: int = 64, pca: int | None = 64, every: int = 1, view: str = "global"
    ) -> None:
        super().__init__(encoder)
        self.clusters, self.pca, self.every, self.view = clusters, pca, every, view
        self.head = nn.Linear(encoder.dim, clusters)
        self.register_buffer("cluster", torch.zeros(0, dtype=torch.int64))

    def prepare(self, setting: Setting) -> None:
        setting.wants_views(self.view, 1)
        if self.clusters > setting.rows:
            raise AudiorepError(
                f"objective.clusters={self.clusters}: more than the {setting.rows} rows of the training side; lower it"
            )
        empty = torch.zeros(setting.rows, dtype=torch.int64, device=cast(Tensor, self.cluster).device)
        self.register_buffer("cluster", empty)

    @torch.no_grad()
    def before_epoch(self, epoch: int, embed: Embed, rng: torch.Generator) -> None:
        if epoch % self.every == 0:
            cast(Tensor, self.cluster).copy_(clusters_of(whiten(embed().float(), self.pca), self.clusters, rng))
            fresh = torch.randn(self.head.weight.shape, generator=rng, device=rng.device)
            self.head.weight.copy_(0.01 * fresh)
            self.head.bias.zero_()

    def partition(self) -> Int[Tensor, " m"]:
        return cast(Tensor, self.cluster)

    def forward(self, views: Views, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        wanted = cast(Tensor, self.cluster)[batch["index"]]
        logits = [self.head(self.encoder(spec).pooled).float() for spec in views[self.view]]
        losses = [F.cross_entropy(logit, wanted, ignore_index=-1) for logit in logits]
        return {"clusters": torch.stack(losses).mean()}


def whiten(x: Float[Tensor, "m d"], dims: int | None) -> Float[Tensor, "m p"]:
    """The first `dims` principal components with unit variance, each row normalised; at most as many as have variance.

    Rows that are not finite play no part and come back as NaN.
    """
    known = x.isfinite().all(1)
    centred = x - x[known].mean(0)
    _, sigma, axes = torch.linalg.svd(centred[known], full_matrices=False)
    wanted = int(min(len(sigma) if dims is None else dims, int((sigma > 1e-4 * sigma[0]).sum())))
    return F.normalize(centred @ axes[:wanted].T / sigma[:wanted].clamp_min(1e-12))
