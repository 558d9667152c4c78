"""Joint embedding: two views of a sound shall say the same. SimCLR, MoCo, BYOL, SimSiam, Barlow Twins and VICReg are
configs of this class."""

from collections.abc import Callable
from itertools import combinations, product

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audiorep.distributed import gather
from audiorep.encoders.base import Encoder
from audiorep.errors import AudiorepError
from audiorep.objectives.base import Objective, Setting
from audiorep.queues import Queue
from audiorep.teachers import Teacher
from audiorep.types import Batch, Spec, Views

Head = Callable[[int], nn.Module]
PairLoss = Callable[..., dict[str, Tensor]]
"""Of predictions [b d] and targets [b d], and of a memory [k d] where the objective has one: named terms."""


class Projected(nn.Module):
    """Encoder and projector: spectrogram [b 1 f n] -> projection [b d]."""

    def __init__(self, encoder: Encoder, projector: nn.Module) -> None:
        super().__init__()
        self.encoder, self.projector = encoder, projector

    def forward(self, spec: Spec) -> Float[Tensor, "b d"]:
        return self.projector(self.encoder(spec).pooled)


class JointEmbedding(Objective):
    """``sum over pairs of views (a, b) of [loss(predictor(z_a), t_b) + loss(predictor(z_b), t_a)] / 2``, averaged.

    z are the student's projections, t the teacher's. The loss sees the joined batch of all processes.

    Args:
        encoder: the encoder to train.
        projector, predictor: heads, built on the width of what they stand on.
        teacher: built on the student (encoder and projector).
        loss: of a prediction and a target, named terms.
        memory: a queue of past targets, built on their width, which the loss gets as a third argument.
        symmetric: the loss is symmetric and its two orders are one: it is computed once a pair.
        view: the kind of view that the student sees.
        target_view: the kind that the teacher sees, if another: then every view is compared with every target.

    Raises:
        AudiorepError: predictions and projections differ in width, or a memory smaller than a batch.
    """

    def __init__(
        self,
        encoder: Encoder,
        projector: Head,
        predictor: Head,
        teacher: Callable[[nn.Module], Teacher],
        loss: PairLoss,
        memory: Callable[[int], Queue] | None = None,
        symmetric: bool = False,
        view: str = "global",
        target_view: str | None = None,
    ) -> None:
        super().__init__(encoder)
        head = projector(encoder.dim)
        width = int(head.dim)  # type: ignore[arg-type]
        self.student = Projected(encoder, head)
        self.predictor = predictor(width)
        if self.predictor.dim != width:
            raise AudiorepError(
                f"objective.predictor.outputs={self.predictor.dim} must equal objective.projector.outputs={width}: "
                "predictions are compared with projections"
            )
        self.teacher = teacher(self.student)
        self.memory = None if memory is None else memory(width)
        self.loss, self.symmetric, self.view, self.target_view = loss, symmetric, view, target_view
        self.latest: list[Tensor] = []

    def prepare(self, setting: Setting) -> None:
        if self.target_view is None:
            setting.wants_views(self.view, 2)
        else:
            setting.wants_views(self.view, 1)
            setting.wants_views(self.target_view, 1)
        if self.memory is not None and self.memory.size < setting.batch_size:
            raise AudiorepError(
                f"objective.memory.size={self.memory.size} is smaller than a batch of {setting.batch_size}: keys would "
                f"be pushed out by their own batch; raise it, or lower data.batch_size to {self.memory.size}"
            )

    def forward(self, views: Views, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        specs = views[self.view]
        projections = [self.student(spec) for spec in specs]
        predictions = [gather(self.predictor(z)) for z in projections]
        if self.target_view is None:
            targets = self.teacher(specs, projections)
            pairs = list(combinations(range(len(specs)), 2))
            orders = pairs if self.symmetric else pairs + [(b, a) for a, b in pairs]
        else:
            targets = self.teacher(views[self.target_view], projections)
            orders = list(product(range(len(specs)), range(len(targets))))
        targets = [gather(target) for target in targets]
        past = () if self.memory is None else (self.memory.content(),)
        self.latest = [target.detach() for target in targets]
        terms: dict[str, Tensor] = {}
        for a, b in orders:
            for name, value in self.loss(predictions[a], targets[b], *past).items():
                terms[name] = terms.get(name, 0.0) + value / len(orders)
        return terms

    def embeddings(self, spec: Spec) -> dict[str, Float[Tensor, "b d"]]:
        pooled = self.encoder(spec).pooled
        return {"backbone": pooled, "projection": self.student.projector(pooled)}

    def after_step(self, progress: float) -> None:
        self.teacher.update(self.student, progress)
        if self.memory is not None:
            for target in self.latest:
                self.memory.push(target)
