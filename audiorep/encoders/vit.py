"""Vision transformer on spectrogram patches, with `keep` (drop tokens) and `mask` (replace tokens)."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint as recomputed

from audiorep.encoders.base import Encoder, map_to_tokens
from audiorep.types import Features, Spec

Heads = Float[Tensor, "b heads l d"]


def positions(rows: int, columns: int, dim: int, device: torch.device) -> Float[Tensor, "l d"]:
    """Fixed sine-cosine position embedding: half of the dimensions for the band, half for the frame, any grid size.

    ``sin(p / 10000^(2 i / (d / 2)))`` and the cosine of the same. Source: Vaswani et al. 2017, arXiv:1706.03762,
    section 3.5; two axes as in He et al. 2021 (MAE), arXiv:2111.06377.
    """
    quarter = dim // 4
    frequency = 10000.0 ** (-torch.arange(quarter, device=device, dtype=torch.float32) / quarter)

    def axis(length: int) -> Tensor:
        angle = torch.arange(length, device=device, dtype=torch.float32)[:, None] * frequency
        return torch.cat([angle.sin(), angle.cos()], 1)

    row = axis(rows)[:, None].expand(-1, columns, -1)
    column = axis(columns)[None].expand(rows, -1, -1)
    return torch.cat([row, column], 2).flatten(0, 1)


def attend(q: Heads, k: Heads, v: Heads) -> Heads:
    """``softmax(q k^T / sqrt(d)) v``: fused on a GPU; as plain products on a CPU, where they are several times faster.

    Source: Vaswani et al. 2017, eq. 1.
    """
    if q.is_cuda:
        return F.scaled_dot_product_attention(q, k, v)
    return (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(-1) @ v


class Attention(nn.Module):
    """Multi-head self-attention. Source: Vaswani et al. 2017, section 3.2.2."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return self.out(attend(q, k, v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Pre-norm transformer layer. Source: Dosovitskiy et al. 2021, arXiv:2010.11929, eq. 2-3."""

    def __init__(self, dim: int, heads: int, ratio: float = 4.0) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        hidden = int(dim * ratio)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Vit(Encoder):
    """Patches of (bands, frames), a linear embedding, fixed positions, `depth` layers, a final norm.

    Tiny, small and base are (dim, heads) = (192, 3), (384, 6), (768, 12) at depth 12. An input whose sides are no
    multiple of the patch is padded with zeros (the corpus mean). Pooled: the mean over tokens. `layers` holds the
    output of every layer. ``checkpoint=True`` keeps only these in training and computes what lies inside a layer again
    in the backward pass: less memory for one more forward pass (Chen et al. 2016, arXiv:1604.06174).

    Source: Dosovitskiy et al. 2021, arXiv:2010.11929, section 3.1, table 1.
    """

    patch: tuple[int, int]

    def __init__(
        self,
        dim: int = 192,
        depth: int = 12,
        heads: int = 3,
        patch: Sequence[int] = (16, 16),
        ratio: float = 4.0,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        self.dim, self.patch, self.checkpoint = dim, (patch[0], patch[1]), checkpoint
        self.embed = nn.Conv2d(1, dim, self.patch, self.patch)
        self.mask_token = nn.Parameter(torch.zeros(dim))
        self.blocks = nn.ModuleList(Block(dim, heads, ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.stages = {"embed": dim} | {f"blocks.{layer}": dim for layer in range(depth)}
        self.tail = ("norm",)
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.apply(_initialise)

    def forward(
        self, spec: Spec, *, keep: Int[Tensor, "b k"] | None = None, mask: Bool[Tensor, "b l"] | None = None
    ) -> Features:
        rows, columns = grid(spec, self.patch)
        x = map_to_tokens(self.embed(pad_to_grid(spec, self.patch)))
        if mask is not None:
            x = torch.where(mask[:, :, None], self.mask_token.to(x.dtype), x)
        x = x + positions(rows, columns, self.dim, x.device).to(x.dtype)
        if keep is not None:
            x = take(x, keep)
        layers = []
        again = self.checkpoint and self.training and torch.is_grad_enabled()
        for layer in self.blocks:
            x = recomputed(layer, x, use_reentrant=False, preserve_rng_state=False) if again else layer(x)
            layers.append(x)
        tokens = self.norm(x)
        return Features(tokens.mean(1), tokens, layers)


def grid(spec: Spec, patch: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of patches, after padding."""
    return (spec.shape[2] + patch[0] - 1) // patch[0], (spec.shape[3] + patch[1] - 1) // patch[1]


def pad_to_grid(spec: Spec, patch: tuple[int, int]) -> Float[Tensor, "b 1 f_padded n_padded"]:
    """Pad bands and frames with zeros at their ends to multiples of the patch."""
    rows, columns = grid(spec, patch)
    return F.pad(spec, (0, columns * patch[1] - spec.shape[3], 0, rows * patch[0] - spec.shape[2]))


def take(tokens: Float[Tensor, "b l d"], index: Int[Tensor, "b k"]) -> Float[Tensor, "b k d"]:
    """The tokens at `index`, for each sample."""
    return tokens.gather(1, index[:, :, None].expand(-1, -1, tokens.shape[2]))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
