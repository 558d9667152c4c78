"""DINOv2: what a slow teacher says of a sound as a whole, and of the patches that the student cannot see."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from audiorep.assign import Assign, Prototypes
from audiorep.distributed import gather, mine
from audiorep.encoders.base import Encoder
from audiorep.encoders.vit import grid, take
from audiorep.errors import AudiorepError
from audiorep.losses.consistency import soft_cross_entropy, swapped
from audiorep.losses.spread import KoLeo
from audiorep.masks import Masking, flags, patches_of
from audiorep.objectives.base import Objective, Setting
from audiorep.objectives.joint import Head
from audiorep.teachers import Ema
from audiorep.types import Batch, Spec, Views

Scores = Float[Tensor, "b c"]


class Scorer(nn.Module):
    """Projector and prototypes: [n d] -> cosines with `count` prototypes [n c]."""

    def __init__(self, projector: nn.Module, count: int) -> None:
        super().__init__()
        self.projector = projector
        self.prototypes = Prototypes(int(projector.dim), count)  # type: ignore[arg-type]

    def forward(self, x: Float[Tensor, "b d"]) -> Scores:
        return self.prototypes(self.projector(x))


class Seen(NamedTuple):
    """What a network says of a view: embeddings, their scores, and the scores of the patches that are asked for."""

    pooled: Float[Tensor, "b d"]
    image: Scores
    patch: Scores


class Network(nn.Module):
    """Encoder and both heads: the student, and what the teacher is an average of."""

    def __init__(self, encoder: Encoder, image: Scorer, patch: Scorer) -> None:
        super().__init__()
        self.encoder, self.image, self.patch = encoder, image, patch

    def forward(self, spec: Spec, asked: Int[Tensor, "b k"], mask: Bool[Tensor, "b l"] | None = None) -> Seen:
        features = self.encoder(spec, mask=mask)
        tokens = take(features.tokens, asked).flatten(0, 1)
        return Seen(features.pooled, self.image(features.pooled), self.patch(tokens))


class SelfDistillation(Objective):
    """``image_weight L_image + patch_weight L_patch + koleo_weight L_koleo``.

    ``L_image = mean over teacher views t and student views s != t of H( assign(image scores_t), softmax(image scores_s
    / tau) )`` (DINO); ``L_patch = mean over views and their hidden patches i of H( assign(patch scores of teacher_i),
    softmax(patch scores of student_i / tau) )`` (iBOT); ``L_koleo`` keeps the pooled embeddings of each view apart
    (`KoLeo`). Scores are cosines of projections and prototypes.

    One teacher, an EMA of the encoder and both heads, sees the views of the kind `view` whole. The student sees them
    with the hidden patches replaced by its mask token, and the small crops of the kind `local` whole. Targets are
    assigned over all teacher views, or all hidden patches of all teacher views, of the joined batch at once.

    Args:
        encoder: one with patches (a ViT).
        mask: draws which patches of the student's views are hidden.
        image_projector, patch_projector: heads, built on the encoder's width.
        image_prototypes, patch_prototypes: numbers of prototypes.
        teacher: an EMA, built on encoder and heads.
        assign: turns the teacher's scores into targets; built on a number of prototypes, once for each head.
        tau: the student's temperature.
        image_weight, patch_weight, koleo_weight: of the terms; 0 leaves one out, with its head.
        view, local: kinds of views.

    Raises:
        AudiorepError: an encoder without patches, a teacher without a network of its own, more prototypes than what is
            dealt out to them.

    Source: Oquab et al. 2023 (DINOv2), arXiv:2304.07193, section 4; Zhou et al. 2021 (iBOT), arXiv:2111.07832, eq. 1-3;
    Caron et al. 2021 (DINO), arXiv:2104.14294, eq. 1-3.
    """

    def __init__(
        self,
        encoder: Encoder,
        mask: Masking,
        image_projector: Head,
        patch_projector: Head,
        image_prototypes: int,
        patch_prototypes: int,
        teacher: Callable[[nn.Module], Ema],
        assign: Callable[[int], Assign],
        tau: float = 0.1,
        image_weight: float = 1.0,
        patch_weight: float = 1.0,
        koleo_weight: float = 0.1,
        view: str = "global",
        local: str = "local",
    ) -> None:
        super().__init__(encoder)
        patches_of(encoder)
        self.mask, self.tau, self.view, self.local = mask, tau, view, local
        self.image_weight, self.patch_weight, self.koleo_weight = image_weight, patch_weight, koleo_weight
        image = Scorer(image_projector(encoder.dim), image_prototypes).requires_grad_(image_weight > 0.0)
        patch = Scorer(patch_projector(encoder.dim), patch_prototypes).requires_grad_(patch_weight > 0.0)
        self.student = Network(encoder, image, patch)
        self.teacher = teacher(self.student)
        if self.teacher.echoes:
            raise AudiorepError("objective.teacher needs a network of its own: audiorep.teachers.Ema")
        self.assign_image, self.assign_patch = assign(image_prototypes), assign(patch_prototypes)
        self.koleo = KoLeo()
        self.image_prototypes = image_prototypes
        self.latest: list[Seen] = []

    def prepare(self, setting: Setting) -> None:
        setting.wants_views(self.view, 1 if setting.views.get(self.local) else 2)
        if self.image_weight:
            samples = setting.views[self.view] * setting.batch_size if self.assign_image.equal_shares else None
            setting.limits_prototypes("image_prototypes", self.image_prototypes, samples)

    def forward(self, views: Views, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        specs = views[self.view]
        patch = patches_of(self.encoder)
        grids = [grid(spec, patch) for spec in specs]
        drawn = [self.mask(len(spec), *shape, rng, spec.device) for spec, shape in zip(specs, grids, strict=True)]
        asked = [parts.hidden.flatten(1) for parts in drawn]
        with torch.no_grad():
            taught = [self.teacher.network(spec, where) for spec, where in zip(specs, asked, strict=True)]
        masks = [flags(parts, rows * columns) for parts, (rows, columns) in zip(drawn, grids, strict=True)]
        seen = [self.student(*given) for given in zip(specs, asked, masks, strict=True)]
        self.latest = [Seen(*(gather(of_all) for of_all in out)) for out in taught]
        terms: dict[str, Tensor] = {}
        if self.image_weight:
            small = [self.student.image(self.encoder(spec).pooled) for spec in views.get(self.local, [])]
            logits = [scores / self.tau for scores in [out.image for out in seen] + small]
            targets = deal(self.assign_image, [out.image for out in self.latest])
            terms["image"] = self.image_weight * swapped(targets, logits)
        if self.patch_weight:
            targets = deal(self.assign_patch, [out.patch for out in self.latest])
            losses = [soft_cross_entropy(t, s.patch / self.tau) for t, s in zip(targets, seen, strict=True)]
            terms["patch"] = self.patch_weight * torch.stack(losses).mean()
        if self.koleo_weight:
            spread = [self.koleo(gather(out.pooled))["koleo"] for out in seen]
            terms["koleo"] = self.koleo_weight * torch.stack(spread).mean()
        return terms

    def embeddings(self, spec: Spec) -> dict[str, Float[Tensor, "b d"]]:
        pooled = self.encoder(spec).pooled
        return {"backbone": pooled, "projection": self.student.image.projector(pooled)}

    def distributions(self, spec: Spec) -> dict[str, Float[Tensor, "b k"]]:
        """Student and teacher over prototypes: of the whole view, and of the patch in its middle."""
        rows, columns = grid(spec, patches_of(self.encoder))
        middle = torch.full((len(spec), 1), rows * columns // 2, device=spec.device)
        out, taught = self.student(spec, middle), self.teacher.network(spec, middle)
        return {
            "prototypes": (out.image / self.tau).softmax(1),
            "teacher": self.assign_image(taught.image),
            "patch_prototypes": (out.patch / self.tau).softmax(1),
            "patch_teacher": self.assign_patch(taught.patch),
        }

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        self.teacher.update(self.student, progress)
        if self.latest:
            self.assign_image.update(torch.cat([out.image for out in self.latest]), progress)
            self.assign_patch.update(torch.cat([out.patch for out in self.latest]), progress)
        self.latest = []


def deal(assign: Assign, scores: list[Scores]) -> list[Scores]:
    """Targets of this process's rows of each view, assigned over all views of the joined batch together."""
    return [mine(targets) for targets in assign(torch.cat(scores)).chunk(len(scores))]
