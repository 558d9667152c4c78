"""Metric learning: embeddings of what belongs together near, of all else far; every loss of `losses/metric.py`."""

from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from audiorep.distributed import gather
from audiorep.encoders.base import Encoder
from audiorep.losses.metric import MetricLoss, Relation
from audiorep.objectives.base import Embed, Objective, Setting
from audiorep.objectives.joint import Head, Projected
from audiorep.objectives.positives import Positives
from audiorep.types import Batch, Spec, Views


class MetricLearning(Objective):
    """``loss(z, who belongs together)`` over the projections z of all views of the joined batch.

    Views of one window always belong together; `positives` says which windows do besides.

    Args:
        encoder: the encoder to train.
        projector: built on the encoder's width.
        positives: where the positives come from, and what is a negative: as a rule all else.
        loss: of z and a `Relation`.
        view: the kind of view that is used.
    """

    def __init__(
        self, encoder: Encoder, projector: Head, positives: Positives, loss: MetricLoss, view: str = "global"
    ) -> None:
        super().__init__(encoder)
        self.student = Projected(encoder, projector(encoder.dim))
        self.positives, self.loss, self.view = positives, loss, view
        self.register_buffer("progress", torch.zeros(()))

    @property
    def uses_labels(self) -> bool:
        return self.positives.uses_labels

    def prepare(self, setting: Setting) -> None:
        setting.wants_views(self.view, self.positives.views_needed)
        self.positives.prepare(setting)

    def forward(self, views: Views, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        projections = [gather(self.student(spec)) for spec in views[self.view]]
        same = self.positives(batch)
        relation = relate(same, len(projections), self.positives.apart(batch, same))
        return self.loss(torch.cat(projections), relation, rng, float(cast(Tensor, self.progress)))

    def embeddings(self, spec: Spec) -> dict[str, Float[Tensor, "b d"]]:
        pooled = self.encoder(spec).pooled
        return {"backbone": pooled, "projection": self.student.projector(pooled)}

    def after_step(self, progress: float) -> None:
        cast(Tensor, self.progress).fill_(progress)

    def before_epoch(self, epoch: int, embed: Embed, rng: torch.Generator) -> None:
        self.positives.before_epoch(epoch, embed, rng)

    def partition(self) -> Int[Tensor, " m"] | None:
        return self.positives.partition()


def relate(same: Tensor, views: int, apart: Tensor | None = None) -> Relation:
    """The relation of all embeddings of `views` views, from that of the windows [b b]: who belongs together, and who is
    pushed apart, which is all others where `apart` does not say so."""
    tiled = same.repeat(views, views)
    itself = torch.eye(len(tiled), dtype=torch.bool, device=same.device)
    view = torch.arange(views, device=same.device).repeat_interleave(len(same))
    return Relation(tiled & ~itself, ~tiled if apart is None else apart.repeat(views, views), view)
