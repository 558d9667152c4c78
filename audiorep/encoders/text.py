"""Annotation words to vectors: a small transformer over the set of words of a row, and the attention that sees no padding."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from audiorep.data.words import MASK, PADDING, UNKNOWN
from audiorep.errors import AudiorepError
from audiorep.types import Features


class CrossAttention(nn.Module):
    """Multi-head attention of x to another sequence; what of that is not `known` is not seen.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.kv, self.out = even(dim, dim), even(dim, 2 * dim), even(dim, dim)

    def forward(
        self, x: Float[Tensor, "b l d"], other: Float[Tensor, "b k d"], known: Bool[Tensor, "b k"] | None = None
    ) -> Float[Tensor, "b l d"]:
        q = self.q(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(other).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return self.out(attend_to_known(q, k, v, known).transpose(1, 2).flatten(2))


def even(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer that starts with weights of variance ``1 / inputs``: what goes in comes out as strong.

    By default it would come out a third as strong in power, and after several such layers one stream hardly hears the
    other.

    Source: LeCun et al. 1998 (Efficient BackProp), doi:10.1007/3-540-49430-8_2, section 4.6.
    """
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=inputs**-0.5)
    nn.init.zeros_(layer.bias)
    return layer


def attend_to_known(
    q: Float[Tensor, "b heads l d"],
    k: Float[Tensor, "b heads k d"],
    v: Float[Tensor, "b heads k d"],
    known: Bool[Tensor, "b k"] | None,
) -> Float[Tensor, "b heads l d"]:
    """``softmax over known keys (q k^T / sqrt(d)) v``, of which every row has one; None: all are. As `vit.attend`."""
    mask = None if known is None else known[:, None, None]
    if q.is_cuda:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    score = q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)
    return (score if mask is None else score.masked_fill(~mask, -torch.inf)).softmax(-1) @ v


class CrossBlock(nn.Module):
    """Pre-norm transformer layer in which x attends to another sequence, or to itself where that is what it is given.

    ``x += attention(norm x, norm other)``, then ``x += mlp(norm x)``. Source: Dosovitskiy et al. 2021, arXiv:2010.11929,
    eq. 2-3; with another sequence: Lu et al. 2019 (ViLBERT), arXiv:1908.02265, section 2.2.

    Raises:
        AudiorepError: a width that the heads cannot share.
    """

    def __init__(self, dim: int, heads: int, ratio: float = 4.0) -> None:
        super().__init__()
        if dim % heads:
            raise AudiorepError(f"objective.text.dim={dim} must be a multiple of the attention heads, here {heads}")
        self.norm1, self.norm2, self.norm_other = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = CrossAttention(dim, heads)
        hidden = int(dim * ratio)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(
        self, x: Float[Tensor, "b l d"], other: Float[Tensor, "b k d"], known: Bool[Tensor, "b k"] | None = None
    ) -> Float[Tensor, "b l d"]:
        x = x + self.attention(self.norm1(x), self.norm_other(other), known)
        return x + self.mlp(self.norm2(x))


class WordEncoder(nn.Module):
    """Annotation words [b w] to `Features`: an embedding a word, `depth` transformer layers, a final norm.

    The words of a row are a set: they have no positions, and their order changes nothing but the order of the tokens.
    Padding is not seen, nor is a word that the training side does not have. A learned token for the whole stands before
    the words; it is the first of `tokens` [b 1+w d] and, after the layers, `pooled` [b d]. So a row without words has
    features too, the same for all such rows.

    Args:
        vocabulary: numbers that a token may be (`audiorep.data.words.Vocabulary.size`).
        dim, depth, heads: width, layers, attention heads.
    """

    def __init__(self, vocabulary: int, dim: int = 128, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.dim = dim
        self.embed = nn.Embedding(vocabulary, dim)
        self.whole = nn.Parameter(torch.zeros(dim))
        self.blocks = nn.ModuleList(CrossBlock(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        nn.init.trunc_normal_(self.embed.weight, std=0.02)
        nn.init.trunc_normal_(self.whole, std=0.02)

    def forward(self, words: Int[Tensor, "b w"]) -> Features:
        seen = with_whole(visible(words))
        x = torch.cat([self.whole.expand(len(words), 1, -1), self.embed(words)], 1)
        for block in self.blocks:
            x = block(x, x, seen)
        x = self.norm(x)
        return Features(x[:, 0], x)


def visible(words: Int[Tensor, "b w"]) -> Bool[Tensor, "b w"]:
    """Which places hold something that is looked at: a known word, or the token that hides one."""
    return (words != PADDING) & (words != UNKNOWN)


def with_whole(seen: Bool[Tensor, "b w"]) -> Bool[Tensor, "b l"]:
    """The same for the tokens of a `WordEncoder`: the token for the whole is always seen."""
    return F.pad(seen, (1, 0), value=True)


def word_sets(words: Int[Tensor, "b w"]) -> Int[Tensor, " b"]:
    """Rows with the same set of known words have the same number, counted from 0; -1: no known word."""
    known = torch.where(visible(words) & (words != MASK), words, torch.zeros_like(words))
    some = known.any(1)
    number = torch.full_like(known[:, 0], -1)
    number[some] = known[some].sort(1).values.unique(dim=0, return_inverse=True)[1]
    return number
