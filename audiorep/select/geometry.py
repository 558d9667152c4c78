"""Distances between embeddings without a matrix of all pairs, and farthest-first traversal (k-centre)."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from audiorep.select.pool import Chosen, Pool, Selector

CELLS = 2**22
"""Products of embeddings that are held at once: 16 MB of float32."""
SMALL = 2**17
"""Numbers of embeddings that are held at once: half of a cache."""

Squared = Float[Tensor, " n"]
First = Callable[[Float[Tensor, "n d"], torch.Generator], int]
"""The clip to begin with where none was answered."""


def placed(
    pool: Pool, normalise: bool, rows: Int[Tensor, " s"] | None = None
) -> tuple[Float[Tensor, "s d"], Float[Tensor, "l d"]]:
    """Embeddings that may be asked (all, or some rows) and those that were answered, as float32 and made comparable.

    Less the mean of those that may be asked, so that distances lose fewer digits; then, with `normalise`, of length 1:
    what is far from everything in length alone is not asked first. A row of zeros stays one.
    """
    middle = pool.embedding.mean(0, dtype=torch.float32)
    x = pool.embedding if rows is None else pool.embedding[rows]
    both = [x.float() - middle, pool.labelled.float() - middle]
    if normalise:
        both = [one.div_(torch.linalg.vector_norm(one, dim=1, keepdim=True).clamp_min_(1e-12)) for one in both]
    return both[0], both[1]


def squared_to_nearest(x: Float[Tensor, "n d"], others: Float[Tensor, "l d"]) -> Squared:
    """``min_j ||x_i - others_j||^2``, infinite where there are no others."""
    if not len(others):
        return x.new_full((len(x),), torch.inf)
    half = others.square().sum(1) / 2.0
    pieces = x.split(max(1, CELLS // len(others)))
    nearest = torch.cat([torch.addmm(half, piece, others.T, alpha=-1.0).amin(1) for piece in pieces])
    return nearest.mul_(2.0).add_(squared_length(x)).clamp_min_(0.0)


def squared_length(x: Float[Tensor, "n d"], origin: Tensor | float = 0.0) -> Squared:
    """``||x_i - origin||^2``, in pieces that fit into the cache, in room that is used again."""
    rows = max(1, SMALL // x.shape[1])
    room, found = x.new_empty(min(rows, len(x)), x.shape[1]), x.new_empty(len(x))
    for piece, out in zip(x.split(rows), found.split(rows), strict=True):
        torch.sum(torch.sub(piece, origin, out=room[: len(piece)]).square_(), 1, out=out)
    return found


def central(x: Float[Tensor, "n d"], rng: torch.Generator) -> int:
    """The clip nearest the mean of all."""
    return int(squared_length(x, x.mean(0)).argmin())


def anywhere(x: Float[Tensor, "n d"], rng: torch.Generator) -> int:
    """Any clip."""
    return int(torch.randint(len(x), (), generator=rng, device=rng.device))


def farthest_first(
    x: Float[Tensor, "n d"], others: Float[Tensor, "l d"], k: int, first: int, block: int = 512
) -> tuple[Int[Tensor, " k"], Float[Tensor, " k"]]:
    """k rows, each the one that is farthest from `others` and all rows before; and how far.

    ``i_t = argmax_i min_{s in others + {i_1 ... i_(t-1)}} ||x_i - x_s||``. No row is then farther than twice as far from
    the nearest of these as with the best k rows. A distance that misses the latest rows is an upper bound, so only the
    `block` rows with the largest bounds are brought up to date, until the largest of all is: two or three passes over x
    instead of k, for the same rows.

    Args:
        first: the row to begin with where there are no others; its distance is that of the second.

    Source: Gonzalez 1985, doi:10.1016/0304-3975(85)90224-5; Sener and Savarese 2018, arXiv:1708.00489, algorithm 1; Minoux
    1978, doi:10.1007/BFb0006528 (bounds).
    """
    norm, bound = squared_length(x), squared_to_nearest(x, others)
    rows, far = torch.empty(k, dtype=torch.int64, device=x.device), x.new_empty(k)
    begun = 0 if len(others) else 1
    if begun:
        bound = (norm + norm[first] - 2.0 * (x @ x[first])).clamp_min_(0.0)
        rows[0], far[0], bound[first] = first, bound.amax(), -1.0
    known = torch.full_like(bound, begun, dtype=torch.int64)  # how many chosen rows the bound has seen
    for step in range(begun, k):
        while known[row := int(bound.argmax())] < step:
            largest = bound.topk(min(block, len(x))).indices
            late = largest[known[largest] < step]
            new = rows[int(known[late].min()) : step]
            found = torch.addmm(norm[new], x[late], x[new].T, alpha=-2.0).add_(norm[late, None]).amin(1)
            bound[late] = bound[late].minimum(found.clamp_min_(0.0))
            known[late] = step
        rows[step], far[step] = row, bound[row]
        bound[row], known[row] = -1.0, k  # not again, whatever lies at the same place
    return rows, far.sqrt_()


class FarthestFirst(Selector):
    """k-centre: each clip as far as can be from all that were answered and chosen; the score is that distance.

    It covers a pool without a model, but asks for what is odd first: outliers, noise, clipped recordings.

    Args:
        first: the clip to begin with where none was answered: `central` or `anywhere`.
        normalise: compare directions from the mean (see `placed`); False: places.

    Source: as `farthest_first`.
    """

    def __init__(self, first: First = central, normalise: bool = True) -> None:
        self.first, self.normalise = first, normalise

    def pick(self, pool: Pool, k: int, rng: torch.Generator) -> Chosen:
        x, labelled = placed(pool, self.normalise)
        first = 0 if len(labelled) else self.first(x, rng)
        return Chosen(*farthest_first(x, labelled, k, first))
