"""Prototypes: one view's place among learned prototypes shall be read from another view. SwAV, DINO and MSN are configs."""

from collections.abc import Callable
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audiorep.assign import Assign, Prototypes
from audiorep.distributed import gather
from audiorep.encoders.base import Encoder
from audiorep.encoders.vit import grid
from audiorep.errors import AudiorepError
from audiorep.losses.consistency import swapped
from audiorep.masks import random_order
from audiorep.objectives.base import Objective, Setting
from audiorep.objectives.joint import Head
from audiorep.queues import Queue
from audiorep.teachers import Teacher
from audiorep.types import Batch, Spec, Views


class Placed(nn.Module):
    """Encoder, projector, and prototypes: spectrogram [b 1 f n] -> projection [b d] or scores [b k]."""

    def __init__(self, encoder: Encoder, projector: nn.Module, prototypes: nn.Module) -> None:
        super().__init__()
        self.encoder, self.projector, self.prototypes = encoder, projector, prototypes

    def forward(self, spec: Spec, keep: Tensor | None = None) -> Float[Tensor, "b k"]:
        features = self.encoder(spec) if keep is None else self.encoder(spec, keep=keep)
        return self.prototypes(self.projector(features.pooled))


class PrototypeMatching(Objective):
    """``mean over teacher views t and student views s != t of H( assign(scores_t), softmax(scores_s / tau) )``.

    Scores are cosines of projections and prototypes. The teacher sees the views of the kind `view` only, the student
    those and the small crops of the kind `local`, if there are any (multi-crop).

    Args:
        encoder: the encoder to train.
        projector: built on the encoder's width.
        prototypes: number of prototypes.
        teacher: built on the student.
        assign: turns the teacher's scores into targets; built on the number of prototypes.
        tau: the student's temperature.
        shared_prototypes: the teacher's projections are compared with the student's prototypes, not with its own.
        memory: a queue of the teacher's projections, built on their width, that joins the batch while targets are
            assigned; used once it is full.
        memory_from: part of training before the queue is used: early on it is stale and does harm.
        visible: part of the patches that the student sees of each view of the kind `view`; below 1 it needs patches.
        mean_entropy: weight of ``KL(mean student distribution || prior)``, which keeps all prototypes in use.
        prior: exponent of the prior ``p_k ~ k^-prior``: 0 for classes of equal size, above 0 for a long tail.
        view, local: kinds of views.

    Raises:
        AudiorepError: an encoder without patches that shall see a part of them, more prototypes than samples.

    Source: Caron et al. 2020 (SwAV), arXiv:2006.09882, eq. 1-5; Caron et al. 2021 (DINO), arXiv:2104.14294, eq. 1-4;
    Assran et al. 2022 (MSN), arXiv:2204.07141, eq. 1; prior: Assran et al. 2022 (PMSN), arXiv:2210.07277, eq. 4.
    """

    def __init__(
        self,
        encoder: Encoder,
        projector: Head,
        prototypes: int,
        teacher: Callable[[nn.Module], Teacher],
        assign: Callable[[int], Assign],
        tau: float = 0.1,
        shared_prototypes: bool = False,
        memory: Callable[[int], Queue] | None = None,
        memory_from: float = 0.5,
        visible: float = 1.0,
        mean_entropy: float = 0.0,
        prior: float = 0.0,
        view: str = "global",
        local: str = "local",
    ) -> None:
        super().__init__(encoder)
        if not 0.0 < visible <= 1.0:
            raise AudiorepError(f"objective.visible={visible}: a part of the patches, above 0 and at most 1")
        if visible < 1.0 and encoder.patch is None:
            raise AudiorepError(
                f"objective.visible={visible} hides patches, and {type(encoder).__name__} has none: choose "
                "encoder=vit_mini or another ViT, or objective.visible=1"
            )
        head = projector(encoder.dim)
        width = int(head.dim)  # type: ignore[arg-type]
        table = Prototypes(width, prototypes)
        self.student = Placed(encoder, head, nn.Identity() if shared_prototypes else table)
        self.shared: nn.Module = table if shared_prototypes else nn.Identity()
        self.teacher = teacher(self.student)
        self.assign = assign(prototypes)
        self.memory = None if memory is None else memory(width)
        if self.memory is not None and not shared_prototypes:
            raise AudiorepError("objective.memory keeps projections: it needs objective.shared_prototypes=true")
        self.tau, self.visible, self.mean_entropy, self.count = tau, visible, mean_entropy, prototypes
        self.memory_from = memory_from
        share = torch.arange(1, prototypes + 1, dtype=torch.float32).pow(-prior)
        self.register_buffer("prior", share / share.sum())
        self.register_buffer("pushed", torch.zeros((), dtype=torch.int64))
        self.register_buffer("progress", torch.zeros(()))
        self.view, self.local = view, local
        self.latest: tuple[list[Tensor], list[Tensor]] = ([], [])

    def prepare(self, setting: Setting) -> None:
        setting.wants_views(self.view, 1 if setting.views.get(self.local) else 2)
        if self.memory is not None and self.memory.size < setting.batch_size:
            raise AudiorepError(
                f"objective.memory.size={self.memory.size} is smaller than a batch of {setting.batch_size}: raise it, or "
                f"lower data.batch_size to {self.memory.size}"
            )
        setting.limits_prototypes("prototypes", self.count, setting.batch_size if self.assign.equal_shares else None)

    def forward(self, views: Views, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        seen = views[self.view]
        needed = self.visible == 1.0 or self.teacher.echoes
        whole = [self.student(spec) for spec in seen] if needed else []
        with torch.no_grad():
            taught = [gather(out) for out in self.teacher(seen, whole)]
            scores = [self.shared(out) for out in taught]
            targets = [self.target(score) for score in scores]
        self.latest = (taught, scores)
        if self.visible < 1.0:
            whole = [self.student(spec, keep=self.some_patches(spec, rng)) for spec in seen]
        answers = whole + [self.student(spec) for spec in views.get(self.local, [])]
        logits = [gather(self.shared(out)) / self.tau for out in answers]
        terms = {"matching": swapped(targets, logits)}
        if self.mean_entropy:
            share = torch.cat(logits).softmax(1).mean(0)
            divergence = (share * (share.clamp_min(1e-12).log() - cast(Tensor, self.prior).log())).sum()
            terms["mean_entropy"] = self.mean_entropy * divergence
        return terms

    def target(self, scores: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
        """Targets of one view's scores, those in memory taken along once there are enough."""
        early = float(cast(Tensor, self.progress)) < self.memory_from
        if self.memory is None or early or int(cast(Tensor, self.pushed)) < self.memory.size:
            return self.assign(scores)
        past = self.shared(self.memory.content())
        return self.assign(torch.cat([scores, past]))[: len(scores)]

    def some_patches(self, spec: Spec, rng: torch.Generator) -> Tensor:
        """The numbers of the patches that the student sees, drawn for each sample."""
        rows, columns = grid(spec, cast(tuple[int, int], self.encoder.patch))
        kept = max(1, round(self.visible * rows * columns))
        return random_order(len(spec), rows * columns, rng, spec.device)[:, :kept]

    def embeddings(self, spec: Spec) -> dict[str, Float[Tensor, "b d"]]:
        pooled = self.encoder(spec).pooled
        return {"backbone": pooled, "projection": self.student.projector(pooled)}

    def distributions(self, spec: Spec) -> dict[str, Float[Tensor, "b k"]]:
        """The student's distribution over prototypes, and what the teacher makes of the same views."""
        out = self.student(spec)
        taught = self.teacher([spec], [out])[0]
        return {
            "prototypes": (self.shared(out) / self.tau).softmax(1),
            "teacher": self.assign(self.shared(taught)),
        }

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        self.teacher.update(self.student, progress)
        cast(Tensor, self.progress).fill_(progress)
        taught, scores = self.latest
        if scores:
            self.assign.update(torch.cat(scores), progress)
        if self.memory is not None and taught:
            self.memory.push(taught[0])
            cast(Tensor, self.pushed).add_(len(taught[0]))
        self.latest = ([], [])
