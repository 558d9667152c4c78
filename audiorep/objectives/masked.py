"""Masked spectrogram modelling: see a quarter of the patches, say what the rest looks like."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audiorep.encoders.base import Encoder
from audiorep.encoders.vit import Block, grid, pad_to_grid, positions, take
from audiorep.errors import AudiorepError
from audiorep.masks import Masking, Parts, patches_of
from audiorep.objectives.base import Objective, Setting
from audiorep.types import Batch, Spec, Views


def patchify(spec: Spec, patch: tuple[int, int]) -> Float[Tensor, "b l d"]:
    """Cut [b 1 f n] into patches, band by band, as the encoder's tokens are: [b l patch_f * patch_n]."""
    x = pad_to_grid(spec, patch)[:, 0].unfold(1, patch[0], patch[0]).unfold(2, patch[1], patch[1])
    return x.flatten(3).flatten(1, 2)


class Predictor(nn.Module):
    """From visible tokens to hidden ones: a narrow transformer over the visible tokens and, for each hidden patch, a
    learnt token that knows its position. Every group of hidden patches is predicted on its own.

    Args:
        inputs, outputs: width of the encoder's tokens, and of what is predicted.
        dim, depth, heads: width, layers, attention heads.

    Raises:
        AudiorepError: a width that cannot be cut into heads or positions.

    Source: He et al. 2021 (MAE), arXiv:2111.06377, section 3; Assran et al. 2023 (I-JEPA), arXiv:2301.08243, section 3.
    """

    def __init__(self, inputs: int, outputs: int, dim: int, depth: int, heads: int) -> None:
        super().__init__()
        if dim % 4 or dim % heads:
            raise AudiorepError(f"objective.dim={dim} must be a multiple of 4 and of objective.heads={heads}")
        self.enter = nn.Linear(inputs, dim)
        self.hidden_token = nn.Parameter(torch.zeros(dim))
        nn.init.trunc_normal_(self.hidden_token, std=0.02)
        self.blocks = nn.Sequential(*[Block(dim, heads) for _ in range(depth)], nn.LayerNorm(dim))
        self.leave = nn.Linear(dim, outputs)

    def forward(
        self, tokens: Float[Tensor, "b k d"], parts: Parts, rows: int, columns: int
    ) -> Float[Tensor, "b m l d_out"]:
        """Predictions for `parts.hidden` from the tokens of `parts.visible`, on a grid of patches."""
        x = self.enter(tokens)
        place = positions(rows, columns, x.shape[2], x.device).to(x.dtype)
        groups = parts.hidden.shape[1]
        visible = (x + place[parts.visible]).repeat_interleave(groups, 0)
        wanted = (self.hidden_token.to(x.dtype) + place[parts.hidden]).flatten(0, 1)
        out = self.blocks(torch.cat([visible, wanted], 1))[:, visible.shape[1] :]
        return self.leave(out).unflatten(0, (-1, groups))


class MaskedAutoencoder(Objective):
    """Encode the visible patches, decode the hidden ones, mean squared error on these.

    ``L = mean over hidden patches of (decoder(encoder(visible))_i - target_i)^2``; with `normalise` the target of each
    patch has its own mean removed and is divided by its own standard deviation.

    Args:
        encoder: one with patches (a ViT). It sees nothing but the visible ones, so that its cost falls with their number.
        mask: draws visible and hidden patches.
        normalise: predict normalised patches.
        dim, depth, heads: the decoder's width, layers, attention heads.
        view: the kind of view that is used.

    Raises:
        AudiorepError: an encoder without patches.

    Source: He et al. 2021 (MAE), arXiv:2111.06377, section 3; Huang et al. 2022 (Audio-MAE), arXiv:2207.06405.
    """

    def __init__(
        self,
        encoder: Encoder,
        mask: Masking,
        normalise: bool = True,
        dim: int = 128,
        depth: int = 2,
        heads: int = 4,
        view: str = "global",
    ) -> None:
        super().__init__(encoder)
        self.patch = patches_of(encoder)
        self.mask, self.normalise, self.view = mask, normalise, view
        self.decoder = Predictor(encoder.dim, self.patch[0] * self.patch[1], dim, depth, heads)

    def prepare(self, setting: Setting) -> None:
        setting.wants_views(self.view, 1)

    def forward(self, views: Views, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        losses = [self.reconstruction(spec, rng) for spec in views[self.view]]
        return {"reconstruction": torch.stack(losses).mean()}

    def reconstruction(self, spec: Spec, rng: torch.Generator) -> Tensor:
        """The error on the hidden patches of one view."""
        rows, columns = grid(spec, self.patch)
        parts = self.mask(len(spec), rows, columns, rng, spec.device)
        predicted = self.decoder(self.encoder(spec, keep=parts.visible).tokens, parts, rows, columns)
        wanted = take(patchify(spec, self.patch).float().detach(), parts.hidden.flatten(1))
        if self.normalise:
            wanted = (wanted - wanted.mean(2, keepdim=True)) / (wanted.var(2, keepdim=True) + 1e-6).sqrt()
        return (predicted.flatten(1, 2).float() - wanted).square().mean()
