"""The rows most like each of many queries, exactly, in one pass over rows that never lie in memory together."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Float16, Int

from audiorep.apply.rows import BATCH, Chunk

CELLS = 2**24
"""Numbers that are held at once: 64 MB of float32."""

MOST_ROWS, ROWS_ON_ONE = BATCH, 2**11
"""Rows that are multiplied at once, by several threads and by one: more leave the cache, with fewer the threads wait for
each other more often."""

LEAST = -2.0
"""Less than any cosine."""

CROWD = 4
"""So many times `top` rows of a chunk may look good enough before a chunk's own order is asked."""

Stream = Callable[[int], Iterator[Chunk]]
"""From a number of rows to all rows, so many at a time: `Rows.chunks`."""

Pairs = tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"]]
"""Numbers of queries, and of a row for each."""


@dataclass(frozen=True)
class Nearest:
    """The best first; where there are fewer than asked for, row -1 and similarity minus infinity."""

    rows: Int[np.ndarray, "q k"]
    similarity: Float[np.ndarray, "q k"]


def unit(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Rows of length 1, as float32; a row of zeros stays one."""
    wide = x.astype(np.float32)
    return wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), np.float32(1e-12))


def stream_of(x: Float16[np.ndarray, "n d"]) -> Stream:
    """Rows that lie in memory, as a stream."""
    return partial(_pieces, x)


def _pieces(x: Float16[np.ndarray, "n d"], size: int) -> Iterator[Chunk]:
    for first in range(0, len(x), size):
        yield first, x[first : first + size]


def nearest(
    queries: Float[np.ndarray, "q d"],
    rows: Stream,
    top: int,
    leave_out: Pairs | None = None,
    size: int | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Nearest:
    """The `top` rows of the largest cosine similarity to each query, equal ones by their number; exact, in one pass.

    ``s_ij = <q_i / ||q_i||, x_j>`` in float64 of float32 queries and float16 rows of length 1. A product in float32 is
    off by ``d 2^-24`` at most, so only the rows within twice that of the k-th best so far are multiplied again; the
    answer does not depend on how many rows are taken at a time.

    Args:
        queries: of any length but 0.
        leave_out: pairs of a query and a row that is not to be found for it.
        size: rows at a time; None: as many as `CELLS` allows.
        progress: is told how many rows are done.

    Source: of the bound, Higham 2002, Accuracy and Stability of Numerical Algorithms, section 3.1,
    doi:10.1137/1.9780898718027.
    """
    q = unit(queries)
    slack = q.shape[1] * 2.0**-23  # twice the bound, as a row rounded to float16 is a little longer or shorter than 1
    out_query, out_row = _by_row(leave_out)
    found = Nearest(np.full((len(q), top), -1), np.full((len(q), top), -np.inf))
    most = MOST_ROWS if torch.get_num_threads() > 1 else ROWS_ON_ONE
    many = size or int(np.clip(CELLS // (q.shape[1] + 2 * max(1, len(q))), 64, most))
    for_half, for_wide = np.empty((many, q.shape[1]), np.float16), torch.empty(many, q.shape[1])
    for_rough = torch.empty(len(q) * many)  # room that is used again costs less than new room
    for first, x in rows(many):
        for_half[: len(x)] = x  # out of the file: torch takes nothing that is read only
        wide = for_wide[: len(x)].copy_(torch.from_numpy(for_half[: len(x)]))
        product = for_rough[: len(q) * len(x)].view(len(q), len(x))
        rough: np.ndarray = torch.mm(torch.from_numpy(q), wide.T, out=product).numpy()
        within = slice(*np.searchsorted(out_row, [first, first + len(x)]))
        rough[out_query[within], out_row[within] - first] = -np.inf
        query, row = np.nonzero(_promising(rough, found.similarity[:, -1] - slack, top, slack))
        if len(query):
            found = _merged(found, query, row + first, _products(q, wide.numpy(), query, row))
        progress(first + len(x))
    return found


def _by_row(pairs: Pairs | None) -> Pairs:
    if pairs is None:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    order = np.argsort(pairs[1], kind="stable")
    return pairs[0][order], pairs[1][order]


def _promising(
    rough: Float[np.ndarray, "q n"], floor: Float[np.ndarray, " q"], top: int, slack: float
) -> Bool[np.ndarray, "q n"]:
    """What may be among the `top`: above the floor, and not below `top` others of the chunk by more than rounding."""
    floor = np.maximum(floor, LEAST).astype(np.float32)
    good = rough >= floor[:, None]
    crowded = np.flatnonzero(np.count_nonzero(good, axis=1) > CROWD * top)
    if len(crowded) and top < rough.shape[1]:
        at = rough.shape[1] - top
        own = np.partition(rough[crowded], at, axis=1)[:, at] - np.float32(2.0 * slack)
        good[crowded] = rough[crowded] >= np.maximum(own, floor[crowded])[:, None]
    return np.asarray(good)


def _products(
    q: Float[np.ndarray, "q d"], x: Float[np.ndarray, "n d"], query: Int[np.ndarray, " m"], row: Int[np.ndarray, " m"]
) -> Float[np.ndarray, " m"]:
    """Each pair multiplied by itself in float64: the same whatever else is multiplied, which no matrix product promises."""
    out, step = np.empty(len(query)), max(1, CELLS // (8 * q.shape[1]))
    for i in range(0, len(query), step):
        part = slice(i, i + step)
        out[part] = (q[query[part]].astype(np.float64) * x[row[part]]).sum(1)
    return out


def _merged(
    found: Nearest, query: Int[np.ndarray, " m"], row: Int[np.ndarray, " m"], similarity: Float[np.ndarray, " m"]
) -> Nearest:
    """The best of what was found and of what is new."""
    top = found.rows.shape[1]
    changed = np.unique(query)
    who = np.concatenate([np.repeat(changed, top), query])
    rows = np.concatenate([found.rows[changed].ravel(), row])
    values = np.concatenate([found.similarity[changed].ravel(), similarity])
    order = np.lexsort((rows, -values, who))
    begins = np.searchsorted(who[order], changed)
    best = order[(begins[:, None] + np.arange(top)).ravel()]
    found.rows[changed] = rows[best].reshape(-1, top)
    found.similarity[changed] = values[best].reshape(-1, top)
    return found
