"""Reconstruction: say from a narrow code what a spectrogram looks like, as it is, without its noise, or where it was hidden.

The autoencoders, the two VAEs, inpainting and band colourisation are configs of one class.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from audiorep.augment.base import Augment
from audiorep.distributed import gather
from audiorep.encoders.base import Encoder
from audiorep.encoders.vit import grid
from audiorep.errors import AudiorepError
from audiorep.latents import Code
from audiorep.losses.precision import wide
from audiorep.objectives.base import HeldOut, Objective, Setting
from audiorep.objectives.joint import PairLoss
from audiorep.types import Batch, Features, Spec, Views, generator

Part = Callable[[int], Any]
"""A latent or a decoder, built on the width of what it stands on."""

Cells = Bool[Tensor, "b 1 f n"]

ACTIVE = 0.01
"""Variance of its mean over recordings above which a unit of the code counts as active (Burda et al. 2016)."""


class Reconstruction(Objective):
    """``L = mean over samples of [mean over cells of (decoder(z) - target)^2 + 2 beta / (f n) KL] + weight contrast``.

    The code z is made of what `pooled` says, and of `order` numbers for each of `segments` stretches of time, linear in
    the tokens' mean over the stretch: pooling over time forgets when a sound came, and without those few numbers the
    decoder could not know. What the sound is must pass through `pooled`, the embedding that is kept. The code is the only
    thing that the decoder gets; with a code of 128 numbers for 64 bands of 96 frames it says 1 cell in 48.

    With `hide` the encoder sees what that leaves, and the error is that of the hidden cells alone. With two views and a
    `contrast` the drawn codes of both are contrasted over the joined batch (CR-VAE). The factor 2 / (f n) makes beta = 1
    the evidence lower bound, per cell, of a Gaussian decoder with unit variance.

    Args:
        encoder: the encoder to train.
        latent: what the code is: a point, or a Gaussian with its weight beta.
        decoder: called with a code, bands and frames.
        segments, order: stretches of time, and numbers kept of each; order 0: none.
        hide: an augmentation that replaces cells, whatever they hold, by a value of its own; null: nothing is hidden.
        contrast, contrast_weight: a loss of the codes of two views, and its weight.
        view: the kind of view that is encoded; each of them is decoded.
        target_view: the kind whose first view is to be decoded, cell by cell aligned with `view`; null: the same view.

    Raises:
        AudiorepError: a `hide` that hides nothing, everything, or only some samples.

    Source: autoencoder: Hinton and Salakhutdinov 2006, doi:10.1126/science.1127647; denoising: Vincent et al. 2008,
    doi:10.1145/1390156.1390294, section 2.3; VAE: Kingma and Welling 2014, arXiv:1312.6114, eq. 7; CR-VAE: Lygerakis and
    Rueckert 2023, arXiv:2309.02968 (the authors' code takes keys from a slow encoder and a queue; here both views stand in
    the batch); inpainting: Pathak et al. 2016, arXiv:1604.07379, section 3.2; colourisation: Zhang et al. 2017,
    arXiv:1611.09842, section 3.
    """

    def __init__(
        self,
        encoder: Encoder,
        latent: Part,
        decoder: Part,
        segments: int = 12,
        order: int = 4,
        hide: Augment | None = None,
        contrast: PairLoss | None = None,
        contrast_weight: float = 1.0,
        view: str = "global",
        target_view: str | None = None,
    ) -> None:
        super().__init__(encoder)
        if segments < 1 or order < 0:
            raise AudiorepError(f"objective.segments={segments}, objective.order={order}: 1 or more, and 0 or more")
        self.when = nn.Linear(encoder.dim, order) if order else None
        self.latent = latent(encoder.dim + segments * order)
        self.decoder = decoder(self.latent.dim)
        self.segments, self.hide = segments, hide
        self.contrast, self.contrast_weight = contrast, contrast_weight
        self.view, self.target_view = view, target_view
        if hide is not None:
            refuse_idle(hide)

    def prepare(self, setting: Setting) -> None:
        setting.wants_views(self.view, 1 if self.contrast is None else 2)
        if self.target_view is not None:
            setting.wants_views(self.target_view, 1)

    def forward(self, views: Views, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        codes, errors = [], []
        for spec in views[self.view]:
            target = self.target(spec, views)
            seen, hidden = self.conceal(spec, rng)
            codes.append(self.encode(seen, rng))
            errors.append(cell_error(self.decode(codes[-1], target), target, hidden).mean())
        terms = {"reconstruction": torch.stack(errors).mean()}
        if self.latent.beta:
            cells = views[self.view][0][0].numel()
            terms["kl"] = self.latent.beta * 2.0 / cells * torch.cat([code.kl for code in codes]).mean()
        if self.contrast is not None:
            found = self.contrast(gather(codes[0].drawn), gather(codes[1].drawn))
            terms |= {name: self.contrast_weight * value for name, value in found.items()}
        return terms

    def target(self, spec: Spec, views: Views) -> Spec:
        """What is to be said of a view."""
        return spec if self.target_view is None else views[self.target_view][0]

    def conceal(self, spec: Spec, rng: torch.Generator) -> tuple[Spec, Cells]:
        """What the encoder sees of a view, and the cells to be said: all of them where nothing is hidden."""
        if self.hide is None:
            return spec, torch.ones_like(spec, dtype=torch.bool)
        params = self.hide.sample(spec, rng)
        return self.hide.apply_to(spec, **params), hidden_by(self.hide, params, spec)

    def encode(self, spec: Spec, rng: torch.Generator) -> Code:
        """The code of a view."""
        features = self.encoder(spec)
        if self.when is None:
            return self.latent(features.pooled, rng)
        order = self.when(in_time(features, spec, self.encoder.patch, self.segments)).flatten(1)
        return self.latent(torch.cat([features.pooled, order], 1), rng)

    def decode(self, code: Code, target: Spec) -> Spec:
        """The spectrogram that a code stands for, of the target's size."""
        return self.decoder(code.drawn, target.shape[2], target.shape[3])

    def measure(self, held_out: HeldOut, rng: torch.Generator) -> dict[str, float]:
        """The error on held-out recordings, and how much of their variance is explained; for Gaussians the code too.

        reconstruction: mean squared error of the cells to be said. explained: ``1 - error / error of the mean
        spectrogram``, the mean of each cell over the held-out windows: above 0 is better than chance. kl: mean
        divergence in nats. active_units: units whose mean varies, ``Var_x(E[z | x]) > 0.01``.

        Source of active_units: Burda et al. 2016 (IWAE), arXiv:1509.00519, section 5.2.
        """
        tally, codes = Tally(), []
        for views, _ in held_out:
            spec = views[self.view][0]
            target = self.target(spec, views)
            seen, hidden = self.conceal(spec, rng)
            codes.append(self.encode(seen, rng))
            tally.add(self.decode(codes[-1], target), target, hidden)
        if not codes:
            return {}
        found = {"reconstruction": tally.error(), "explained": tally.explained()}
        if self.latent.beta:
            found["kl"] = float(torch.cat([code.kl for code in codes]).mean())
            found["active_units"] = float(active_units(torch.cat([code.mean for code in codes])))
        return found


def cell_error(predicted: Spec, target: Spec, chosen: Cells) -> Float[Tensor, " b"]:
    """The mean squared error of each sample over the chosen cells; 0 where none is chosen."""
    square = (wide(predicted) - wide(target).detach()).square()
    return torch.where(chosen, square, 0.0).sum((1, 2, 3)) / chosen.sum((1, 2, 3)).clamp_min(1)


def in_time(
    features: Features, spec: Spec, patch: tuple[int, int] | None, segments: int
) -> Float[Tensor, "b segments d"]:
    """The mean of the tokens over each of `segments` stretches of time; over all bands where there are patches.

    Without patches the tokens are cut into stretches as they stand: one a frame for `SmallCnn`, band by band for others.
    """
    tokens = features.tokens if patch is None else features.tokens.unflatten(1, grid(spec, patch)).mean(1)
    return F.adaptive_avg_pool1d(tokens.transpose(1, 2), segments).transpose(1, 2)


def hidden_by(hide: Augment, params: dict[str, Tensor], spec: Spec) -> Cells:
    """True where a spectrogram plays no part: the same parameters make the same of nothing but ones and nothing but zeros."""
    ones, zeros = torch.ones_like(spec), torch.zeros_like(spec)
    return hide.apply_to(ones, **params) == hide.apply_to(zeros, **params)


def refuse_idle(hide: Augment, count: int = 64) -> None:
    """Refuse what hides nothing or everything of some samples, tried on `count`."""
    name, probe = type(hide).__name__, torch.zeros(count, 1, 64, 96)
    if hide.p < 1.0:
        raise AudiorepError(f"objective.hide.p={hide.p}: {name} must hide something of every sample; set it to 1")
    params = hide.sample(probe, generator(0))
    part = hidden_by(hide, params, probe).float().mean((1, 2, 3))
    if not part.all():
        raise AudiorepError(
            f"objective.hide: {name} hides nothing of some samples, and there would be nothing to say: raise its sizes, or "
            "choose audiorep.augment.spec.Cutout; for reconstruction of all cells set objective.hide=null"
        )
    if bool((part == 1.0).any()):
        raise AudiorepError(
            f"objective.hide: {name} hides whole samples, and nothing is left to be seen: lower its sizes"
        )


def active_units(mean: Float[Tensor, "m d"]) -> int:
    """Units that say something, ``Var_x(E[z_j | x]) > 0.01``. Source: Burda et al. 2016, arXiv:1509.00519, section 5.2."""
    return int((mean.double().var(0, correction=0) > ACTIVE).sum())


class Tally:
    """Sums over batches of spectrograms of one size: the error, and that of the mean spectrogram, on the chosen cells."""

    def __init__(self) -> None:
        self.squares, self.windows = 0.0, 0
        self.mean: Any = 0.0
        self.chosen: list[Any] = [0.0, 0.0, 0.0]

    def add(self, predicted: Spec, target: Spec, chosen: Cells) -> None:
        """Count a batch in."""
        x, weight = target.double(), chosen.double()
        self.squares += float(((predicted.double() - x).square() * weight).sum())
        self.windows += len(x)
        self.mean = self.mean + x.sum(0)
        for power in range(3):
            self.chosen[power] = self.chosen[power] + (weight * x**power).sum(0)

    def error(self) -> float:
        """The mean squared error of the chosen cells."""
        return self.squares / float(self.chosen[0].sum())

    def explained(self) -> float:
        """``1 - error / error of the mean spectrogram``."""
        mean = self.mean / self.windows
        count, total, squares = self.chosen
        return 1.0 - self.squares / max(1e-12, float((squares - 2.0 * mean * total + mean**2 * count).sum()))
