"""From the logits of windows to those of a recording whose label says only that a call is somewhere in it."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from audiorep.errors import AudiorepError

Logits = Float[Tensor, "b c"]
Bag = Int[Tensor, " b"]
Pooling = Callable[[Logits, Bag], Float[Tensor, "m c"]]
"""Logits of windows and the number of each one's bag, 0 ... m - 1, to logits of the bags."""


def mean(logits: Logits, bag: Bag) -> Float[Tensor, "m c"]:
    """The mean over the windows of a bag: what is heard all along."""
    count = int(bag.max()) + 1
    total = logits.new_zeros(count, logits.shape[1]).index_add(0, bag, logits)
    return total / torch.bincount(bag, minlength=count).to(logits.dtype)[:, None]


def largest(logits: Logits, bag: Bag) -> Float[Tensor, "m c"]:
    """The maximum: one window is enough. Only that one has a gradient. Source: Maron and Lozano-Perez 1998, NeurIPS."""
    count = int(bag.max()) + 1
    index = bag[:, None].expand_as(logits)
    return logits.new_full((count, logits.shape[1]), -torch.inf).scatter_reduce(0, index, logits, "amax")


class LogMeanExp:
    """``1/r log mean_i exp(r x_i)``: from the mean (r -> 0) to the maximum (r -> inf).

    Source: Pinheiro and Collobert 2015, arXiv:1411.6228, eq. 6.
    """

    def __init__(self, r: float = 1.0) -> None:
        if r <= 0.0:
            raise AudiorepError(f"objective.pool.r={r} must be above 0")
        self.r = r

    def __call__(self, logits: Logits, bag: Bag) -> Float[Tensor, "m c"]:
        top = largest(logits.detach(), bag)
        grown = torch.exp(self.r * (logits - top[bag]))
        return top + mean(grown, bag).log() / self.r


class LinearSoftmax:
    """``p = sum_i p_i^2 / sum_i p_i`` of ``p_i = sigmoid(x_i)``, as logits: windows count by how sure they are.

    Source: Wang et al. 2019, arXiv:1810.09050, table 1, which finds it best of five for weak labels.
    """

    def __call__(self, logits: Logits, bag: Bag) -> Float[Tensor, "m c"]:
        # logit = log sum_i p_i^2 - log sum_i p_i (1 - p_i), with a gradient however sure all windows are
        pool, present = LogMeanExp(), F.logsigmoid(logits)
        return pool(2.0 * present, bag) - pool(present + F.logsigmoid(-logits), bag)


def bags_of(row: Int[Tensor, " b"]) -> tuple[Bag, Int[Tensor, " m"]]:
    """The number of each window's bag, windows of one manifest row together, and the place of each bag's first window."""
    rows, bag = torch.unique(row, return_inverse=True)
    place = torch.arange(len(row), device=row.device)
    first = torch.full((len(rows),), len(row), device=row.device).scatter_reduce(0, bag, place, "amin")
    return bag, first
