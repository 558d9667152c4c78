"""Which patches of a grid are hidden: drawn for each sample, as many for every sample of a call.

All draws are joint over processes, so that several draw what one would draw for the joined batch.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from audiorep.distributed import gather, rand
from audiorep.encoders.base import Encoder
from audiorep.errors import AudiorepError


@dataclass(frozen=True)
class Parts:
    """Numbers of patches, row by row: `visible` ones are encoded, `hidden` ones are predicted, in m groups of l each.

    Every group is predicted from the visible patches alone. A patch may be in several groups or in no part, but it is
    never both visible and hidden.
    """

    visible: Int[Tensor, "b k"]
    hidden: Int[Tensor, "b m l"]


Masking = Callable[[int, int, int, torch.Generator, torch.device], Parts]
"""Of the number of samples, rows, columns, a generator and a device: what each class of this file is."""


def patches_of(encoder: Encoder) -> tuple[int, int]:
    """The encoder's patch: bands, frames.

    Raises:
        AudiorepError: it has none.
    """
    if encoder.patch is None:
        raise AudiorepError(
            f"this objective hides patches (objective.mask), and {type(encoder).__name__} has none: choose "
            "encoder=vit_mini or another ViT"
        )
    return encoder.patch


def random_order(count: int, tokens: int, rng: torch.Generator, device: torch.device) -> Int[Tensor, "b l"]:
    """A random permutation of the tokens for each sample."""
    return rand(count, tokens, rng=rng, device=device).argsort(1)


def flags(parts: Parts, tokens: int) -> Bool[Tensor, "b l_all"]:
    """True for the hidden ones of all `tokens`: the encoder's `mask`."""
    hidden = parts.hidden.flatten(1)
    return torch.zeros(len(hidden), tokens, dtype=torch.bool, device=hidden.device).scatter(1, hidden, True)


class Random:
    """Hide the part `ratio` of the patches, each as likely as any other.

    Raises:
        AudiorepError: a ratio that hides everything or nothing.

    Source: He et al. 2021 (MAE), arXiv:2111.06377, section 3; Huang et al. 2022 (Audio-MAE), arXiv:2207.06405,
    section 3.1 ("unstructured").
    """

    def __init__(self, ratio: float = 0.75) -> None:
        self.ratio = checked(ratio)

    def __call__(self, count: int, rows: int, columns: int, rng: torch.Generator, device: torch.device) -> Parts:
        order = random_order(count, rows * columns, rng, device)
        return cut(order, visible_of(rows * columns, self.ratio))


class InverseBlock:
    """Keep blocks of `size` x `size` patches visible and hide the rest, the part `ratio` of all.

    Blocks are placed at random, one after the other, until enough patches are visible; of the last block a random part
    is. They are smaller where the grid or the number of visible patches is.

    Raises:
        AudiorepError: a ratio that hides everything or nothing, blocks without patches.

    Source: Baevski et al. 2022 (data2vec 2.0), arXiv:2212.07525, section 3.3; Chen et al. 2024 (EAT),
    arXiv:2401.03497, section 3.2.
    """

    def __init__(self, ratio: float = 0.8, size: int = 5) -> None:
        self.ratio, self.size = checked(ratio), checked_size(size)

    def __call__(self, count: int, rows: int, columns: int, rng: torch.Generator, device: torch.device) -> Parts:
        visible = visible_of(rows * columns, self.ratio)
        return cut(block_order(count, rows, columns, visible, self.size, rng, device), visible)


class Block:
    """Hide blocks of `size` x `size` patches, the part `ratio` of all in total: as `InverseBlock`, the other way round.

    Raises:
        AudiorepError: a ratio that hides everything or nothing, blocks without patches.

    Source: Bao et al. 2021 (BEiT), arXiv:2106.08254, section 2.3, with square blocks of one size.
    """

    def __init__(self, ratio: float = 0.5, size: int = 3) -> None:
        self.ratio, self.size = checked(ratio), checked_size(size)

    def __call__(self, count: int, rows: int, columns: int, rng: torch.Generator, device: torch.device) -> Parts:
        tokens = rows * columns
        hidden = tokens - visible_of(tokens, self.ratio)
        order = block_order(count, rows, columns, hidden, self.size, rng, device)
        return Parts(order[:, hidden:], order[:, None, :hidden])


class MultiBlock:
    """Several blocks to predict, each a group of its own, and a large block without them to predict from.

    The sizes of the blocks are drawn once a call, their places for each sample, so that groups are rectangular. Of the
    visible patches every sample keeps as many as the sample with the fewest (of the joined batch), drawn at random, but
    at least the part `least` of the grid: a target that would leave fewer repeats the target before it, and where the
    context block has fewer, patches outside of it that are no targets are added.

    Args:
        targets: blocks to predict.
        scale: part of the grid that a target covers, drawn uniformly.
        aspect: of a target's height to its width, in units of the grid's height and width; uniform in its logarithm.
        context: part of the grid that the block of visible patches covers before the targets are taken out.
        least: part of the grid that stays visible whatever is drawn.

    Raises:
        AudiorepError: bounds that are no parts of the grid or the wrong way round; targets that leave nothing.

    Source: Assran et al. 2023 (I-JEPA), arXiv:2301.08243, section 3, appendix A.1: 4 targets, (0.15, 0.2),
    (0.75, 1.5), (0.85, 1.0). The aspect in units of the grid is ours: spectrograms are seldom square.
    """

    def __init__(
        self,
        targets: int = 4,
        scale: Sequence[float] = (0.15, 0.2),
        aspect: Sequence[float] = (0.75, 1.5),
        context: Sequence[float] = (0.85, 1.0),
        least: float = 0.15,
    ) -> None:
        if targets < 1:
            raise AudiorepError(f"objective.mask.targets={targets}: at least one is needed")
        for name, (low, high) in {"scale": scale, "context": context}.items():
            if not 0.0 < low <= high <= 1.0:
                raise AudiorepError(
                    f"objective.mask.{name}={[low, high]}: two parts of the grid, the smaller one first"
                )
        if not 0.0 < aspect[0] <= aspect[1]:
            raise AudiorepError(f"objective.mask.aspect={list(aspect)}: two ratios above 0, the smaller one first")
        if not 0.0 < least <= 1.0 - scale[1]:
            raise AudiorepError(
                f"objective.mask.least={least} and a target of objective.mask.scale={list(scale)} must fit into the grid"
            )
        self.targets, self.scale, self.aspect, self.context, self.least = targets, scale, aspect, context, least

    def __call__(self, count: int, rows: int, columns: int, rng: torch.Generator, device: torch.device) -> Parts:
        tokens = rows * columns
        visible_of(tokens, 0.5)
        least = min(max(1, math.ceil(self.least * tokens)), tokens - 1)
        sizes = torch.rand(3, generator=rng, device=device).tolist()  # the same in all processes
        aspect = self.aspect[0] * (self.aspect[1] / self.aspect[0]) ** sizes[1]
        target = shape(between(self.scale, sizes[0]), aspect, rows, columns, tokens - least)
        context = shape(between(self.context, sizes[2]), 1.0, rows, columns, tokens)
        places = rand(count, 2 * (self.targets + 1) + tokens, rng=rng, device=device)
        top, left = corners(places[:, : 2 * self.targets], target, rows, columns)
        hidden = inside(top, left, target, rows, columns)
        taken = hidden[:, 0]
        for i in range(1, self.targets):
            wider = taken | hidden[:, i]
            fits = tokens - wider.sum(1) >= least
            top[:, i] = torch.where(fits, top[:, i], top[:, i - 1])
            left[:, i] = torch.where(fits, left[:, i], left[:, i - 1])
            taken = torch.where(fits[:, None], wider, taken)
        around = corners(places[:, 2 * self.targets : 2 * self.targets + 2], context, rows, columns)
        seen = inside(*around, context, rows, columns)[:, 0] & ~taken
        rank = torch.where(seen, 0.0, torch.where(taken, 2.0, 1.0))
        visible = max(least, int(gather(seen.sum(1)).min()))
        order = (rank + places[:, -tokens:]).argsort(1)
        return Parts(order[:, :visible], numbers(top, left, target, columns))


# ----------------------------------------------------------------- numbers


def checked(ratio: float) -> float:
    """A ratio that hides something and leaves something."""
    if not 0.0 < ratio < 1.0:
        raise AudiorepError(f"objective.mask.ratio={ratio} must lie between 0 and 1")
    return ratio


def checked_size(size: int) -> int:
    """A block of at least one patch."""
    if size < 1:
        raise AudiorepError(f"objective.mask.size={size}: at least one patch is needed")
    return size


def visible_of(tokens: int, ratio: float) -> int:
    """How many of the patches stay visible: at least one, and not all."""
    if tokens < 2:
        raise AudiorepError(
            "a view of a single patch has nothing to hide: raise window.length_s, or make encoder.patch smaller"
        )
    return min(max(1, round(tokens * (1.0 - ratio))), tokens - 1)


def cut(order: Int[Tensor, "b l"], visible: int) -> Parts:
    """The first `visible` ones of an order, and the rest as one group."""
    return Parts(order[:, :visible], order[:, None, visible:])


def between(bounds: Sequence[float], draw: float) -> float:
    """`draw` in [0, 1) moved to between the bounds."""
    return bounds[0] + (bounds[1] - bounds[0]) * draw


# ------------------------------------------------------------------ blocks

Shape = tuple[int, int]
"""Height and width of a block, in patches."""


def shape(part: float, aspect: float, rows: int, columns: int, most: int) -> Shape:
    """The block of about `part` of the grid and, in units of the grid, of the aspect; at most `most` patches."""
    height = min(max(1, round(rows * math.sqrt(part * aspect))), rows, most)
    return height, min(max(1, round(part * rows * columns / height)), columns, most // height)


def corners(draws: Tensor, block: Shape, rows: int, columns: int) -> tuple[Int[Tensor, "b m"], Int[Tensor, "b m"]]:
    """Top and left of blocks that lie within the grid, from two uniform draws each."""
    top, left = draws.unflatten(1, (2, -1)).unbind(1)
    return (top * (rows - block[0] + 1)).long(), (left * (columns - block[1] + 1)).long()


def inside(
    top: Int[Tensor, "b m"], left: Int[Tensor, "b m"], block: Shape, rows: int, columns: int
) -> Bool[Tensor, "b m l"]:
    """Which patches each block covers."""
    row, column = torch.arange(rows, device=top.device), torch.arange(columns, device=top.device)
    high = (row >= top[:, :, None]) & (row < top[:, :, None] + block[0])
    wide = (column >= left[:, :, None]) & (column < left[:, :, None] + block[1])
    return (high[:, :, :, None] & wide[:, :, None]).flatten(2)


def numbers(top: Int[Tensor, "b m"], left: Int[Tensor, "b m"], block: Shape, columns: int) -> Int[Tensor, "b m l"]:
    """The numbers of the patches of each block."""
    row, column = torch.arange(block[0], device=top.device), torch.arange(block[1], device=top.device)
    within = (row[:, None] * columns + column).flatten()
    return (top * columns + left)[:, :, None] + within


def block_order(
    count: int, rows: int, columns: int, wanted: int, size: int, rng: torch.Generator, device: torch.device
) -> Int[Tensor, "b l"]:
    """The patches of randomly placed blocks first, one block after the other, then all others in random order.

    Blocks have at most `wanted` patches; there are twice as many as would be needed if none overlapped.
    """
    height, width = min(size, rows), min(size, columns)
    while height * width > wanted:
        height, width = (height - 1, width) if height >= width else (height, width - 1)
    blocks = 2 * math.ceil(wanted / (height * width))
    draws = rand(count, 2 * blocks + rows * columns, rng=rng, device=device)
    covered = inside(*corners(draws[:, : 2 * blocks], (height, width), rows, columns), (height, width), rows, columns)
    turn = torch.arange(blocks, device=device)[:, None]
    first = torch.where(covered, turn, blocks).amin(1)
    return (first + draws[:, 2 * blocks :]).argsort(1)
