"""Which rows of a collection are least like anything known, or least like the rest of it."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from audiorep.apply.nearest import Nearest, Pairs, Stream, nearest, stream_of
from audiorep.apply.rows import Rows
from audiorep.apply.search import SAME_S, distinct
from audiorep.errors import AudiorepError

BLOCK = 4096
"""Rows whose novelty is found in one pass over what is known."""


def novel_to(
    rows: Rows, known: Rows, progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """``1 - max_j cos(x_i, known_j)`` of every row, and the known row that it is most like; exact.

    Half the squared distance to the nearest known row, of rows of length 1: what `audiorep label` and the selectors of
    `audiorep.select.geometry` call far from every answer.

    Raises:
        AudiorepError: known rows of another width.
    """
    if known.width != rows.width:
        raise AudiorepError(
            f"{known.path.parent}: embeddings of {known.width} numbers, those in {rows.path.parent} have {rows.width}: "
            "embed both with one model"
        )
    found = compared(rows, known.chunks, 1, None, progress)
    return 1.0 - found.similarity[:, 0], found.rows[:, 0]


def novel_within(
    rows: Rows,
    neighbour: int = 10,
    sample: int | None = 20_000,
    seed: int = 0,
    apart_s: float = 0.0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """``1 - cos`` of every row to its `neighbour`-th most similar of a sample of the collection, and the most similar one.

    Neither the row itself nor rows of its recording that begin less than `apart_s` from it are its neighbours. Where the
    sample holds fewer neighbours than asked for, the last there is counts.

    Args:
        sample: rows that are drawn by `seed`; None, or as many as there are: all.

    Source: distance to the k-th neighbour as outlier score, Ramaswamy, Rastogi and Shim 2000, doi:10.1145/342009.335437.

    Raises:
        AudiorepError: a row that nothing can be compared with.
    """
    draw = np.arange(len(rows))
    if sample is not None and sample < len(rows):
        draw = np.sort(np.random.default_rng(seed).permutation(len(rows))[:sample])
    found = compared(rows, stream_of(rows.take(draw)), neighbour, too_near(rows, draw, apart_s), progress)
    if (alone := found.rows[:, 0] < 0).any():
        place = rows.places(np.flatnonzero(alone)[:1]).iloc[0]
        raise AudiorepError(
            f"{place['path']}, {place['start_s']:g} s: no other stretch to compare it with; a larger sample= may hold one, "
            "or name what is known by novel_to="
        )
    last = (found.rows >= 0).sum(1) - 1
    return 1.0 - found.similarity[np.arange(len(rows)), last], draw[found.rows[:, 0]]


def compared(
    rows: Rows,
    others: Stream,
    top: int,
    leave_out: Callable[[int, int], Pairs] | None,
    progress: Callable[[int, int], None],
) -> Nearest:
    """The `top` of the others of each row, a block of rows at a time.

    Args:
        leave_out: from the first row of a block and the one behind it to pairs that are not compared.
    """
    parts = []
    for first, x in rows.chunks(BLOCK):
        pairs = None if leave_out is None else leave_out(first, first + len(x))
        parts.append(nearest(x, others, top, pairs))
        progress(first + len(x), len(rows))
    return Nearest(np.concatenate([one.rows for one in parts]), np.concatenate([one.similarity for one in parts]))


def too_near(rows: Rows, draw: Int[np.ndarray, " s"], apart_s: float) -> Callable[[int, int], Pairs]:
    """From a block of rows to its pairs with those of the drawn rows that are themselves or too near them in time."""
    recording, start_s = rows.clocks()
    clock = np.rint(start_s / SAME_S).astype(np.int64)
    far = max(1, round(apart_s / SAME_S))
    place = recording * (int(clock.max()) + 2 * far) + clock  # no two recordings come nearer than `far`
    order = np.argsort(place[draw], kind="stable")
    drawn = place[draw][order]
    return partial(_pairs, place, drawn, order, far)


def _pairs(
    place: Int[np.ndarray, " n"],
    drawn: Int[np.ndarray, " s"],
    order: Int[np.ndarray, " s"],
    far: int,
    first: int,
    end: int,
) -> Pairs:
    low = np.searchsorted(drawn, place[first:end] - far, "right")
    count = np.searchsorted(drawn, place[first:end] + far, "left") - low
    owner = np.repeat(np.arange(end - first), count)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    return owner, order[low[owner] + within]


def most_novel(
    rows: Rows,
    novelty: Float[np.ndarray, " n"],
    alike: Int[np.ndarray, " n"],
    others: Rows,
    top: int = 50,
    distinct_s: float = 0.0,
) -> pd.DataFrame:
    """The rows of the largest novelty, one a stretch, equal ones by their number.

    Args:
        alike: for each row the number of the one among the others that it is most like.

    Returns:
        rank (from 1), path, start_s, end_s, novelty; like_path, like_start_s, like_end_s: what it is most like; row.
    """
    order = np.argsort(-novelty, kind="stable")
    if distinct_s > 0.0:
        recording, start_s = rows.clocks()
        order = order[distinct(recording[order], start_s[order], distinct_s, top)]
    order = order[:top]
    like = others.places(alike[order]).add_prefix("like_")
    table = pd.concat([rows.places(order).assign(novelty=novelty[order]), like], axis=1).assign(row=order)
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    return table
