"""Joint embedding: two views of a sound shall say the same. SimCLR, BYOL and VICReg are three configs of this class."""

from collections.abc import Callable
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audiorep.encoders.base import Encoder
from audiorep.errors import AudiorepError
from audiorep.objectives.base import Objective
from audiorep.teachers import Teacher
from audiorep.types import Batch, Spec, Views

Head = Callable[[int], nn.Module]
PairLoss = Callable[[Float[Tensor, "b d"], Float[Tensor, "b d"]], dict[str, Tensor]]


class Projected(nn.Module):
    """Encoder and projector: spectrogram [b 1 f n] -> projection [b d]."""

    def __init__(self, encoder: Encoder, projector: nn.Module) -> None:
        super().__init__()
        self.encoder, self.projector = encoder, projector

    def forward(self, spec: Spec) -> Float[Tensor, "b d"]:
        return self.projector(self.encoder(spec).pooled)


class JointEmbedding(Objective):
    """``sum over pairs of views (a, b) of [loss(predictor(z_a), t_b) + loss(predictor(z_b), t_a)] / 2``, averaged.

    z are the student's projections, t the teacher's.

    Args:
        encoder: the encoder to train.
        projector, predictor: heads, built on the width of what they stand on.
        teacher: built on the student (encoder and projector).
        loss: of a prediction and a target, named terms.
        symmetric: the loss is symmetric and its two orders are one: it is computed once a pair.
        view: the kind of view that is used.

    Raises:
        AudiorepError: predictions and projections differ in width.
    """

    def __init__(
        self,
        encoder: Encoder,
        projector: Head,
        predictor: Head,
        teacher: Callable[[nn.Module], Teacher],
        loss: PairLoss,
        symmetric: bool = False,
        view: str = "global",
    ) -> None:
        super().__init__(encoder)
        head = projector(encoder.dim)
        self.student = Projected(encoder, head)
        self.predictor = predictor(int(head.dim))  # type: ignore[arg-type]
        if self.predictor.dim != head.dim:
            raise AudiorepError(
                f"objective.predictor.outputs={self.predictor.dim} must equal objective.projector.outputs={head.dim}: "
                "predictions are compared with projections"
            )
        self.teacher = teacher(self.student)
        self.loss, self.symmetric, self.view = loss, symmetric, view

    def forward(self, views: Views, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        specs = views[self.view]
        projections = [self.student(spec) for spec in specs]
        predictions = [self.predictor(z) for z in projections]
        targets = self.teacher(specs, projections)
        pairs = list(combinations(range(len(specs)), 2))
        orders = pairs if self.symmetric else pairs + [(b, a) for a, b in pairs]
        terms: dict[str, Tensor] = {}
        for a, b in orders:
            for name, value in self.loss(predictions[a], targets[b]).items():
                terms[name] = terms.get(name, 0.0) + value / len(orders)
        return terms

    def embeddings(self, spec: Spec) -> dict[str, Float[Tensor, "b d"]]:
        pooled = self.encoder(spec).pooled
        return {"backbone": pooled, "projection": self.student.projector(pooled)}

    def after_step(self, progress: float) -> None:
        self.teacher.update(self.student, progress)
