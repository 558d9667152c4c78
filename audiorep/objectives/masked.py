"""Masked spectrogram modelling: see a quarter of the patches, say what the rest looks like."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from audiorep.distributed import rand
from audiorep.encoders.base import Encoder
from audiorep.encoders.vit import Block, grid, pad_to_grid, positions, take
from audiorep.errors import AudiorepError
from audiorep.objectives.base import Objective, Setting
from audiorep.types import Batch, Spec, Views


def patchify(spec: Spec, patch: tuple[int, int]) -> Float[Tensor, "b l d"]:
    """Cut [b 1 f n] into patches, band by band, as the encoder's tokens are: [b l patch_f * patch_n]."""
    x = pad_to_grid(spec, patch)[:, 0].unfold(1, patch[0], patch[0]).unfold(2, patch[1], patch[1])
    return x.flatten(3).flatten(1, 2)


def random_order(count: int, tokens: int, rng: torch.Generator, device: torch.device) -> Int[Tensor, "b l"]:
    """A random permutation of the tokens for each sample."""
    return rand(count, tokens, rng=rng, device=device).argsort(1)


class MaskedAutoencoder(Objective):
    """Encode a random part of the patches, decode all, mean squared error on the hidden ones.

    ``L = mean over hidden patches of (decoder(encoder(visible))_i - target_i)^2``; with `normalise` the target of each
    patch has its own mean removed and is divided by its own standard deviation.

    Args:
        encoder: one with patches (a ViT).
        ratio: part of the patches that is hidden.
        normalise: predict normalised patches.
        dim, depth, heads: the decoder's width, layers, attention heads.
        view: the kind of view that is used.

    Raises:
        AudiorepError: an encoder without patches, or a ratio that hides everything or nothing.

    Source: He et al. 2021 (MAE), arXiv:2111.06377, section 3; Huang et al. 2022 (Audio-MAE), arXiv:2207.06405.
    """

    def __init__(
        self,
        encoder: Encoder,
        ratio: float = 0.75,
        normalise: bool = True,
        dim: int = 128,
        depth: int = 2,
        heads: int = 4,
        view: str = "global",
    ) -> None:
        super().__init__(encoder)
        if encoder.patch is None:
            raise AudiorepError(
                f"objective=mae hides patches, and {type(encoder).__name__} has none: choose encoder=vit_mini or another ViT"
            )
        if not 0.0 < ratio < 1.0:
            raise AudiorepError(f"objective.ratio={ratio} must lie between 0 and 1")
        self.patch, self.ratio, self.normalise, self.view = encoder.patch, ratio, normalise, view
        self.enter = nn.Linear(encoder.dim, dim)
        self.hidden_token = nn.Parameter(torch.zeros(dim))
        nn.init.trunc_normal_(self.hidden_token, std=0.02)
        self.decoder = nn.Sequential(*[Block(dim, heads) for _ in range(depth)], nn.LayerNorm(dim))
        self.leave = nn.Linear(dim, self.patch[0] * self.patch[1])

    def prepare(self, setting: Setting) -> None:
        setting.wants_views(self.view, 1)

    def forward(self, views: Views, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        losses = [self.reconstruction(spec, rng) for spec in views[self.view]]
        return {"reconstruction": torch.stack(losses).mean()}

    def reconstruction(self, spec: Spec, rng: torch.Generator) -> Tensor:
        """The error on the hidden patches of one view."""
        target = patchify(spec, self.patch).float().detach()
        count, tokens = target.shape[:2]
        visible = max(1, round(tokens * (1.0 - self.ratio)))
        order = random_order(count, tokens, rng, spec.device)
        keep, hidden = order[:, :visible], order[:, visible:]
        predicted = take(self.decode(self.encoder(spec, keep=keep).tokens, order, spec), hidden).float()
        wanted = take(target, hidden)
        if self.normalise:
            wanted = (wanted - wanted.mean(2, keepdim=True)) / (wanted.var(2, keepdim=True) + 1e-6).sqrt()
        return (predicted - wanted).square().mean()

    def decode(self, visible: Float[Tensor, "b k d"], order: Int[Tensor, "b l"], spec: Spec) -> Float[Tensor, "b l p"]:
        """Patches of the whole grid from the visible tokens; `order` lists the visible ones first."""
        x = self.enter(visible)
        blank = self.hidden_token.to(x.dtype).expand(len(x), order.shape[1] - x.shape[1], -1)
        x = take(torch.cat([x, blank], 1), order.argsort(1))
        rows, columns = grid(spec, self.patch)
        x = x + positions(rows, columns, x.shape[2], x.device).to(x.dtype)
        return self.leave(self.decoder(x))
