"""Masked modelling of latent targets: see some patches, say what a slow teacher makes of the hidden ones. I-JEPA, M2D and
EAT are configs."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from audiorep.distributed import mean_over_ranks
from audiorep.encoders.base import Encoder
from audiorep.encoders.vit import grid, take
from audiorep.errors import AudiorepError
from audiorep.losses.precision import wide
from audiorep.masks import Masking, patches_of
from audiorep.objectives.base import Objective, Setting
from audiorep.objectives.joint import PairLoss
from audiorep.objectives.masked import Predictor
from audiorep.teachers import Ema
from audiorep.types import Batch, Spec, Views

Tokens = Float[Tensor, "b l d"]
Places = Int[Tensor, "b l"]
Normalise = Callable[[Tokens, Places, int], Tokens]
"""Of one layer's tokens, the number of the patch of each, and how many patches there are."""


def per_token(x: Tokens, place: Places, patches: int) -> Tokens:
    """Each token with mean 0 and variance 1 over its dimensions: a layer norm without parameters."""
    return F.layer_norm(wide(x), x.shape[2:])


def over_batch(x: Tokens, place: Places, patches: int) -> Tokens:
    """Each dimension with mean 0 and variance 1 over all tokens of the joined batch: a batch norm without parameters.

    What all tokens share is taken away, so that targets cannot all become the same.
    """
    x = wide(x)
    centred = x - mean_over_ranks(x.mean((0, 1)))
    return centred * (mean_over_ranks(centred.square().mean((0, 1))) + 1e-5).rsqrt()


def per_patch(x: Tokens, place: Places, patches: int) -> Tokens:
    """As `over_batch`, for each patch of the grid on its own: ``(x_i - mean_i) / sqrt(var_i + 1e-5)`` over the samples
    of the joined batch that have patch i.

    What all samples share at a place is taken away too. A teacher that has hardly learnt yet tells places apart better
    than sounds, and a place can be said without having heard anything.
    """
    x, flat = wide(x), place.flatten()
    count = mean_over_ranks(torch.bincount(flat, minlength=patches).to(x.dtype)).clamp_min(1e-9)[:, None]

    def mean(of: Tokens) -> Float[Tensor, "patches d"]:
        return mean_over_ranks(of.new_zeros(patches, of.shape[2]).index_add(0, flat, of.flatten(0, 1))) / count

    centred = x - mean(x)[place]
    return centred * (mean(centred.square()) + 1e-5).rsqrt()[place]


class LatentMasking(Objective):
    """``mean over hidden patches i of loss( predictor(encoder(visible))_i, sg(t_i) ) + utterance loss( U(pooled), sg(t) )``.

    t_i are the teacher's tokens, normalised; t is their mean over the patches that the teacher sees, U a linear layer.

    Args:
        encoder: one with patches (a ViT). It sees nothing but the visible ones.
        mask: draws visible and hidden patches.
        teacher: an EMA of the encoder.
        loss: of predictions and targets [n d], named terms.
        normalise: of each layer's tokens: `per_token` as published; `over_batch`, which keeps short trainings from
            collapsing; `per_patch`, which also keeps them from learning where a patch is instead of what it is.
        layers: the targets are the mean over so many top layers' normalised tokens, or over all if there are fewer; null:
            the teacher's final tokens.
        teacher_sees_all: the teacher encodes all patches; false: the hidden ones only.
        masks: masks of each view. What the teacher says of the whole view serves them all.
        utterance: weight of the loss between pooled embedding and pooled targets.
        dim, depth, heads: the predictor's width, layers, attention heads.
        view: the kind of view that is used.

    Raises:
        AudiorepError: an encoder without patches, no layers, no masks, a teacher without a network of its own.

    Source: Assran et al. 2023 (I-JEPA), arXiv:2301.08243, section 3; Niizumi et al. 2022 (M2D), arXiv:2210.14648,
    section 2; Chen et al. 2024 (EAT), arXiv:2401.03497, section 3; top layers and several masks: Baevski et al. 2022
    (data2vec 2.0), arXiv:2212.07525, section 3.
    """

    def __init__(
        self,
        encoder: Encoder,
        mask: Masking,
        teacher: Callable[[nn.Module], Ema],
        loss: PairLoss,
        normalise: Normalise = per_token,
        layers: int | None = None,
        teacher_sees_all: bool = True,
        masks: int = 1,
        utterance: float = 0.0,
        dim: int = 96,
        depth: int = 2,
        heads: int = 3,
        view: str = "global",
    ) -> None:
        super().__init__(encoder)
        self.patch = patches_of(encoder)
        if masks < 1:
            raise AudiorepError(f"objective.masks={masks}: at least one is needed")
        if layers is not None and layers < 1:
            raise AudiorepError(f"objective.layers={layers}: at least one is needed, or null for the final tokens")
        self.mask, self.loss, self.normalise, self.layers = mask, loss, normalise, layers
        self.teacher_sees_all, self.masks, self.utterance, self.view = teacher_sees_all, masks, utterance, view
        self.teacher = teacher(encoder)
        if self.teacher.echoes:
            raise AudiorepError("objective.teacher needs a network of its own: audiorep.teachers.Ema")
        self.predictor = Predictor(encoder.dim, encoder.dim, dim, depth, heads)
        self.say = nn.Linear(encoder.dim, encoder.dim) if utterance else nn.Identity()

    def prepare(self, setting: Setting) -> None:
        setting.wants_views(self.view, 1)

    def forward(self, views: Views, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        specs = views[self.view]
        terms: dict[str, Tensor] = {}
        for spec in specs:
            whole = self.targets(spec) if self.teacher_sees_all else None
            for _ in range(self.masks):
                for name, value in self.one_mask(spec, whole, rng).items():
                    terms[name] = terms.get(name, 0.0) + value / (len(specs) * self.masks)
        return terms

    def one_mask(self, spec: Spec, whole: Tokens | None, rng: torch.Generator) -> dict[str, Tensor]:
        """The terms of one mask of one view; `whole` are the targets of all its patches, if they are known already."""
        rows, columns = grid(spec, self.patch)
        parts = self.mask(len(spec), rows, columns, rng, spec.device)
        hidden = parts.hidden.flatten(1)
        features = self.encoder(spec, keep=parts.visible)
        predicted = self.predictor(features.tokens, parts, rows, columns)
        seen = self.targets(spec, hidden) if whole is None else whole
        wanted = seen if whole is None else take(whole, hidden)
        terms = self.loss(predicted.flatten(0, 2), wanted.flatten(0, 1))
        if self.utterance:
            for name, value in self.loss(self.say(features.pooled), seen.mean(1)).items():
                terms[f"utterance_{name}"] = self.utterance * value
        return terms

    @torch.no_grad()
    def targets(self, spec: Spec, keep: Int[Tensor, "b k"] | None = None) -> Tokens:
        """What the teacher makes of all patches, or of those that are kept."""
        features = self.teacher.network(spec, keep=keep)
        rows, columns = grid(spec, self.patch)
        place = torch.arange(rows * columns, device=spec.device).expand(len(spec), -1) if keep is None else keep
        levels = [features.tokens] if self.layers is None else features.layers[-self.layers :]
        return torch.stack([self.normalise(level, place, rows * columns) for level in levels]).mean(0)

    def embeddings(self, spec: Spec) -> dict[str, Float[Tensor, "b d"]]:
        """The pooled embedding, and the target of the patch in the middle: the same for all where targets collapse."""
        targets = self.targets(spec)
        return {"backbone": self.encoder(spec).pooled, "target": targets[:, targets.shape[1] // 2]}

    def after_step(self, progress: float) -> None:
        self.teacher.update(self.encoder, progress)
