"""A convolutional network without batch norm: every sample stands alone, so that batches may be split exactly."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from audiorep.encoders.base import Encoder, map_to_tokens, refuse_patches
from audiorep.encoders.vit import pad_to_grid
from audiorep.errors import AudiorepError
from audiorep.types import Features, Spec

Map = Float[Tensor, "b d f n"]


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each position of a map [b d f n]."""

    def forward(self, x: Map) -> Map:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """``x + scale * MLP(norm(depthwise 7x7(x)))``, the MLP four times as wide inside, with GELU.

    `scale` is learnt for each channel (layer scale, Touvron et al. 2021, arXiv:2103.17239).
    """

    def __init__(self, dim: int, scale: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.scale = nn.Parameter(torch.full((dim,), scale))

    def forward(self, x: Map) -> Map:
        branch = self.scale * self.mlp(self.norm(self.depthwise(x).permute(0, 2, 3, 1)))
        return x + branch.permute(0, 3, 1, 2)


class ConvNeXt(Encoder):
    """A stem of 4x4 patches, then stages of `Block`s, between them LayerNorm and a 2x2 convolution of stride 2.

    Tiny is depths 3-3-9-3 with dims 96-192-384-768. Pooled: mean over the last map, then LayerNorm. Tokens: the
    positions of the last map, 1/32 of the input either way with four stages. An input whose sides are no multiple of
    that is padded with zeros (the corpus mean).

    Args:
        depths: blocks in each stage.
        dims: channels of each stage; the last is the width of the embedding.
        scale: of the blocks' branches at the start.

    Raises:
        AudiorepError: depths and dims of different lengths.

    Source: Liu et al. 2022, arXiv:2201.03545, section 2 and appendix A.1.
    """

    def __init__(
        self, depths: Sequence[int] = (3, 3, 9, 3), dims: Sequence[int] = (96, 192, 384, 768), scale: float = 1e-6
    ) -> None:
        super().__init__()
        if len(depths) != len(dims) or not dims:
            raise AudiorepError(
                f"encoder.depths={list(depths)} and encoder.dims={list(dims)} need one number for every stage each"
            )
        stages: list[nn.Module] = [nn.Conv2d(1, dims[0], 4, 4), ChannelNorm(dims[0])]
        widths = [dims[0], dims[0]]
        for stage, (depth, dim) in enumerate(zip(depths, dims, strict=True)):
            if stage > 0:
                stages += [ChannelNorm(dims[stage - 1]), nn.Conv2d(dims[stage - 1], dim, 2, 2)]
                widths += [dims[stage - 1], dim]
            stages += [Block(dim, scale) for _ in range(depth)]
            widths += [dim] * depth
        self.body = nn.Sequential(*stages)
        self.stages, self.tail = {f"body.{layer}": width for layer, width in enumerate(widths)}, ("norm",)
        self.dim, self.stride = dims[-1], 2 ** (len(dims) + 1)
        self.norm = nn.LayerNorm(self.dim)
        self.apply(_initialise)

    def forward(
        self, spec: Spec, *, keep: Int[Tensor, "b k"] | None = None, mask: Bool[Tensor, "b l"] | None = None
    ) -> Features:
        refuse_patches(self, keep, mask)
        x = self.body(pad_to_grid(spec, (self.stride, self.stride)))
        return Features(self.norm(x.mean((2, 3))), map_to_tokens(x))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
