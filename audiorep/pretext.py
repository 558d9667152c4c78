"""Pretext tasks: make a puzzle of a spectrogram whose answer is known, because we made it.

What gives the answer away teaches nothing. Tiles are cut with gaps, so that lines cannot simply be followed across
edges, and normalised one by one, so that loudness does not sort them. What is left, and cannot be helped: on a
spectrogram the axis of frequency has no symmetry, so noise floor and band limits alone tell high tiles from low ones
and a frequency flip from none. Order in time is what is hard; `rows=1` asks for nothing else.
"""

import math
from collections.abc import Iterable
from itertools import permutations, product
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from audiorep.augment.base import Params, per_sample
from audiorep.distributed import rand
from audiorep.errors import AudiorepError
from audiorep.types import Spec, generator

LEAST = 6
"""Bands and frames that a tile must have."""


class Task(nn.Module):
    """`sample` draws a puzzle, "target" and what else it takes; `apply_to` is deterministic, as in `Augment`.

    parts: spectrograms that the puzzle consists of, in order. classes: number of answers.
    """

    parts: int
    classes: int

    def sample(self, spec: Spec, rng: torch.Generator) -> Params:
        """Draw one puzzle a sample, jointly over processes: "target" [b] is the answer."""
        raise NotImplementedError

    def apply_to(self, spec: Spec, **params: Tensor) -> list[Float[Tensor, "b 1 f_part n_part"]]:
        """The parts of each puzzle."""
        raise NotImplementedError


class Flips(Task):
    """Name the flip: 0 none, 1 in time, 2 in frequency, 3 both; what rotation is to pictures.

    A quarter turn would put time on the axis of frequency, which no recording does.

    Source: after Gidaris et al. 2018, arXiv:1803.07728, with the four symmetries of a rectangle.
    """

    parts, classes = 1, 4

    def sample(self, spec: Spec, rng: torch.Generator) -> Params:
        return {"target": integers(4, spec, rng)}

    def apply_to(self, spec: Spec, **params: Tensor) -> list[Spec]:
        target = params["target"]
        out = torch.where(per_sample(target % 2 == 1, spec), spec.flip(3), spec)
        return [torch.where(per_sample(target >= 2, spec), out.flip(2), out)]


class Tiles(Task):
    """A grid of rows x columns cells; of each cell a tile is cut that is smaller by `gap` and lies anywhere within it.

    Args:
        rows, columns: of the grid.
        gap: part of a cell, in both directions, by which its tile is smaller.
        normalise: give every tile mean 0 and deviation 1.

    Raises:
        AudiorepError: a gap that leaves no tile; a spectrogram too small for the grid.
    """

    def __init__(self, rows: int, columns: int, gap: float = 0.2, normalise: bool = True) -> None:
        super().__init__()
        if not 0.0 <= gap < 1.0:
            raise AudiorepError(f"objective.task.gap={gap} is a part of a cell: it must lie in [0, 1)")
        self.rows, self.columns, self.gap, self.normalise = rows, columns, gap, normalise

    def sizes(self, spec: Spec) -> tuple[tuple[int, int], tuple[int, int]]:
        """Bands and frames of a cell, and of a tile."""
        cell = spec.shape[2] // self.rows, spec.shape[3] // self.columns
        tile = math.ceil((1.0 - self.gap) * cell[0]), math.ceil((1.0 - self.gap) * cell[1])
        for what, has, key, more in (
            ("bands", tile[0], f"objective.task.rows={self.rows}", "frontend.bands"),
            ("frames", tile[1], f"objective.task.columns={self.columns}", "window.length_s"),
        ):
            if has < LEAST:
                raise AudiorepError(
                    f"a spectrogram of {spec.shape[2]} bands and {spec.shape[3]} frames gives tiles of {has} {what}, at "
                    f"least {LEAST} are needed: lower {key}, or raise {more}"
                )
        return cell, tile

    def places(self, spec: Spec, tiles: int, rng: torch.Generator) -> Float[Tensor, "b m 2"]:
        """Where each of m tiles lies within its cell: parts of the gap, in bands and in frames."""
        return rand(len(spec), tiles, 2, rng=rng, device=spec.device)

    def cut(self, spec: Spec, cells: Int[Tensor, "b m"], places: Float[Tensor, "b m 2"]) -> list[Tensor]:
        """The tiles [b 1 f_tile n_tile] of the cells that are named, in that order; cells are numbered row by row."""
        cell, tile = self.sizes(spec)
        room = torch.tensor([cell[0] - tile[0] + 1, cell[1] - tile[1] + 1], device=spec.device)
        inner = (places * room).long().minimum(room - 1)
        low = (cells // self.columns) * cell[0] + inner[:, :, 0]
        left = (cells % self.columns) * cell[1] + inner[:, :, 1]
        band = low[:, :, None, None] + torch.arange(tile[0], device=spec.device)[:, None]
        frame = left[:, :, None, None] + torch.arange(tile[1], device=spec.device)
        sample = torch.arange(len(spec), device=spec.device)[:, None, None, None]
        out = spec[sample, 0, band, frame]
        if self.normalise:
            out = (out - out.mean((2, 3), keepdim=True)) / (out.var((2, 3), keepdim=True) + 1e-4).sqrt()
        return [part[:, None] for part in out.unbind(1)]


class Jigsaw(Tiles):
    """All tiles in the order of one of K permutations: say which one.

    Args:
        permutations: K, chosen to differ in as many places as possible (`far_apart`).
        rows, columns, gap, normalise: as in `Tiles`.

    Source: Noroozi and Favaro 2016, arXiv:1603.09246 (3 x 3 tiles).
    """

    def __init__(
        self, rows: int = 2, columns: int = 3, permutations: int = 24, gap: float = 0.2, normalise: bool = True
    ) -> None:
        super().__init__(rows, columns, gap, normalise)
        self.parts, self.classes = rows * columns, permutations
        self.register_buffer("order", far_apart(self.parts, permutations), persistent=False)

    def sample(self, spec: Spec, rng: torch.Generator) -> Params:
        return {"target": integers(self.classes, spec, rng), "places": self.places(spec, self.parts, rng)}

    def apply_to(self, spec: Spec, **params: Tensor) -> list[Tensor]:
        return self.cut(spec, cast(Tensor, self.order)[params["target"]], params["places"])


class RelativePosition(Tiles):
    """Two neighbouring tiles: say where the second lies, seen from the first.

    The first is one that has neighbours on all sides, so that its own place says nothing of the answer. The answers
    are the eight directions; with one row (or one column) the two that there are.

    Args:
        rows, columns: 1, or 3 and more.
        gap, normalise: as in `Tiles`.

    Source: Doersch et al. 2015, arXiv:1505.05192.
    """

    parts = 2

    def __init__(self, rows: int = 3, columns: int = 3, gap: float = 0.25, normalise: bool = True) -> None:
        super().__init__(rows, columns, gap, normalise)
        if 2 in (rows, columns) or rows * columns == 1:
            raise AudiorepError(
                f"objective.task.rows={rows}, objective.task.columns={columns}: no tile would have neighbours on all "
                "sides; choose 1 (no neighbours that way) or 3 and more, and not 1 for both"
            )
        steps = [(0,) if length == 1 else (-1, 0, 1) for length in (rows, columns)]
        inner = [range(1) if length == 1 else range(1, length - 1) for length in (rows, columns)]
        directions = [step for step in product(*steps) if step != (0, 0)]
        self.classes = len(directions)
        offsets = torch.tensor([step[0] * columns + step[1] for step in directions])
        self.register_buffer("offset", offsets, persistent=False)
        anchors = torch.tensor([row * columns + column for row, column in product(*inner)])
        self.register_buffer("anchor", anchors, persistent=False)

    def sample(self, spec: Spec, rng: torch.Generator) -> Params:
        anchors = cast(Tensor, self.anchor)
        return {
            "target": integers(self.classes, spec, rng),
            "first": anchors[integers(len(anchors), spec, rng)],
            "places": self.places(spec, 2, rng),
        }

    def apply_to(self, spec: Spec, **params: Tensor) -> list[Tensor]:
        second = params["first"] + cast(Tensor, self.offset)[params["target"]]
        return self.cut(spec, torch.stack([params["first"], second], 1), params["places"])


def integers(below: int, spec: Spec, rng: torch.Generator) -> Int[Tensor, " b"]:
    """One uniform integer of 0 ... below - 1 a sample, jointly over processes."""
    return (rand(len(spec), rng=rng, device=spec.device) * below).long().clamp_max(below - 1)


def far_apart(tiles: int, count: int) -> Int[Tensor, "k m"]:
    """`count` permutations that differ from each other in as many places as possible; the same ones at each call.

    One after the other that is taken whose smallest Hamming distance to those taken already is largest, of several
    such the one with the largest sum of distances (the source goes by the sum alone, which lets near twins in).
    Candidates are all permutations of up to 7 tiles, 5000 different random ones beyond.

    Raises:
        AudiorepError: fewer than two, or more than there are.

    Source: Noroozi and Favaro 2016, arXiv:1603.09246.
    """
    if not 2 <= count <= min(math.factorial(tiles), 5000):
        raise AudiorepError(
            f"objective.task.permutations={count}: {tiles} tiles have {math.factorial(tiles)}; choose 2 to "
            f"{min(math.factorial(tiles), 5000)}, or another objective.task.rows and columns"
        )
    pool = torch.tensor(list(_candidates(tiles)))
    smallest, total = torch.full((len(pool),), tiles), torch.zeros(len(pool), dtype=torch.int64)
    taken = [0]
    for _ in range(count - 1):
        distance = (pool != pool[taken[-1]]).sum(1)
        smallest, total = smallest.minimum(distance), total + distance
        taken.append(int((smallest * (total.max() + 1) + total).argmax()))
    return pool[torch.tensor(taken)]


def _candidates(tiles: int) -> Iterable[tuple[int, ...]]:
    if tiles <= 7:
        return permutations(range(tiles))
    rng = generator(tiles)
    found = {tuple(range(tiles)): None}
    while len(found) < 5000:
        found[tuple(torch.randperm(tiles, generator=rng).tolist())] = None
    return found
