"""What in a collection of embeddings sounds like a query: exact, one hit a stretch, the query itself marked or left out.

embedded = open_embedded("embeddings")
queries, _ = open_queries("clip.wav", format, Box(1.2, 1.5))
vectors = [embed_query(query, embedder, embedded.hop_samples) for query in queries]
hits = search(embedded.rows, queries, vectors, top=50, distinct_s=embedded.window_s)
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from audiorep.apply.nearest import Nearest, Pairs, nearest
from audiorep.apply.query import Query
from audiorep.apply.rows import Rows
from audiorep.errors import AudiorepError

SPARE, MORE = 4, 4
"""So many times `top` rows are looked for at first where overlapping ones do not count, and so many times more where that
was too few."""

TOGETHER = 4096
"""Vectors that are compared in one pass over the rows."""

SAME_S = 1e-6
"""Times nearer than this are one: seconds of samples are rounded."""

ITSELF, RECORDING = "itself", "recording"
"""How a hit belongs to its query: it overlaps it, or lies in the same recording."""


@dataclass(frozen=True)
class Found:
    """The hits of one query, the best first."""

    rows: Int[np.ndarray, " k"]
    similarity: Float[np.ndarray, " k"]


def check_width(rows: Rows, vectors: Sequence[Float[np.ndarray, "_ d"]]) -> None:
    """Refuse queries of another width.

    Raises:
        AudiorepError: names both.
    """
    if wrong := next((x.shape[1] for x in vectors if x.shape[1] != rows.width), None):
        raise AudiorepError(
            f"the model gives {wrong} numbers a window, the embeddings in {rows.path.parent} have {rows.width}: "
            "they are of another model"
        )


def search(
    rows: Rows,
    queries: Sequence[Query],
    vectors: Sequence[Float[np.ndarray, "_ d"]],
    top: int = 50,
    distinct_s: float = 0.0,
    leave_out_itself: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> pd.DataFrame:
    """The rows most like each query, by the largest cosine similarity to any of its vectors.

    Args:
        vectors: of each query, of any length but 0, as `audiorep.apply.query.embed_query` gives them.
        top: hits a query; fewer where there are no more.
        distinct_s: rows of a recording that begin less than this apart are one stretch, of which the most similar row
            is a hit; 0: every row is.
        leave_out_itself: rows that overlap the query in its own recording are no hits.

    Returns:
        query (its name), rank (from 1), path, start_s, end_s, similarity, own: "itself" where the row overlaps the
        query, "recording" where it is of the same recording, "" elsewhere; and row, its number.

    Raises:
        AudiorepError: vectors of another width.
    """
    check_width(rows, vectors)
    home = rows.of({str(query.path) for query in queries})
    homes = dict(iter(home.groupby("path", sort=False)))
    itself = [overlapping(homes.get(str(query.path)), query) for query in queries]
    none = np.empty(0, np.int64)
    found = find(rows, vectors, top, distinct_s, itself if leave_out_itself else [none] * len(queries), progress)
    parts = []
    for query, mine, overlap in zip(queries, found, itself, strict=True):
        part = rows.places(mine.rows)
        own = np.where(part["path"] == str(query.path), RECORDING, "")
        part.insert(0, "query", query.name)
        part.insert(1, "rank", np.arange(1, len(part) + 1))
        part["similarity"], part["own"] = mine.similarity, np.where(np.isin(mine.rows, overlap), ITSELF, own)
        parts.append(part.assign(row=mine.rows))
    return pd.concat(parts, ignore_index=True)


def overlapping(home: pd.DataFrame | None, query: Query) -> Int[np.ndarray, " m"]:
    """Numbers of the rows of a query's recording that share some of its time."""
    if home is None:
        return np.empty(0, np.int64)
    shared = (home["start_s"] < query.end_s - SAME_S) & (home["end_s"] > query.start_s + SAME_S)
    return home.loc[shared, "row"].to_numpy(np.int64)


def find(
    rows: Rows,
    vectors: Sequence[Float[np.ndarray, "_ d"]],
    top: int,
    distinct_s: float = 0.0,
    leave_out: Sequence[Int[np.ndarray, " _"]] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Found]:
    """As `search`, of vectors alone: for each list of vectors the numbers of its rows.

    Where overlapping rows do not count, more rows than `top` are looked for; queries that still come up short are
    searched again for more, so that the answer is exact.

    Args:
        leave_out: for each query, rows that are no hits.
    """
    check_width(rows, vectors)
    out: list[Found] = [Found(np.empty(0, np.int64), np.empty(0))] * len(vectors)
    open_, wanted = list(range(len(vectors))), min(len(rows), top * (SPARE if distinct_s > 0.0 else 1))
    while open_:
        mine = [leave_out[i] for i in open_] if leave_out is not None else None
        found = best_rows(rows, [vectors[i] for i in open_], wanted, mine, progress)
        short = []
        for i, all_of_it in zip(open_, found, strict=True):
            places = rows.places(all_of_it.rows) if distinct_s > 0.0 else None
            kept = np.arange(len(all_of_it.rows))
            if places is not None:
                kept = distinct(places["path"], places["start_s"], distinct_s, top)
            out[i] = Found(all_of_it.rows[kept[:top]], all_of_it.similarity[kept[:top]])
            if len(kept) < top and len(all_of_it.rows) == wanted < len(rows):
                short.append(i)
        open_, wanted = short, min(len(rows), MORE * wanted)
    return out


def best_rows(
    rows: Rows,
    vectors: Sequence[Float[np.ndarray, "_ d"]],
    top: int,
    leave_out: Sequence[Int[np.ndarray, " _"]] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Found]:
    """The `top` rows of each list of vectors, by the largest similarity to one of them.

    A row among them is among the `top` of the vector that it is most like, so these hold all that can be.
    """
    owner = np.repeat(np.arange(len(vectors)), [len(x) for x in vectors])
    stacked = np.concatenate(list(vectors))
    passes = -(-len(stacked) // TOGETHER)
    found: list[Nearest] = []

    def told(before: int, done: int) -> None:
        progress(before * len(rows) + done, passes * len(rows))

    for first in range(0, len(stacked), TOGETHER):
        part = slice(first, first + TOGETHER)
        pairs = None if leave_out is None else pairs_of([leave_out[i] for i in owner[part]])
        found.append(nearest(stacked[part], rows.chunks, top, pairs, None, partial(told, len(found))))
    row, similarity = (np.concatenate([getattr(one, name) for one in found]) for name in ("rows", "similarity"))
    ends = np.cumsum([len(x) for x in vectors])
    return [
        merged(row[end - len(x) : end].ravel(), similarity[end - len(x) : end].ravel(), top)
        for x, end in zip(vectors, ends, strict=True)
    ]


def merged(row: Int[np.ndarray, " m"], similarity: Float[np.ndarray, " m"], top: int) -> Found:
    """The `top` different rows of the largest similarity, equal ones by their number; row -1 is none."""
    order = np.lexsort((row, -similarity))
    order = order[row[order] >= 0]
    firsts = np.sort(np.unique(row[order], return_index=True)[1])[:top]
    return Found(row[order][firsts], similarity[order][firsts])


def pairs_of(leave_out: Sequence[Int[np.ndarray, " _"]]) -> Pairs:
    """Lists of rows, one a query, as pairs of query and row."""
    owner = np.repeat(np.arange(len(leave_out)), [len(one) for one in leave_out])
    return owner, np.concatenate(list(leave_out)).astype(np.int64)


def distinct(
    recordings: Iterable[Hashable], starts_s: Iterable[float], apart_s: float, top: int
) -> Int[np.ndarray, " k"]:
    """Places in a list, the best first, of the first `top` of which no two of one recording begin less than `apart_s`
    apart: each is kept unless it is too near one that was kept before it."""
    kept_s, kept = defaultdict[Hashable, list[float]](list), list[int]()
    for place, (recording, start) in enumerate(zip(recordings, starts_s, strict=True)):
        if len(kept) == top:
            break
        if all(abs(start - other) >= apart_s - SAME_S for other in kept_s[recording]):
            kept_s[recording].append(start)
            kept.append(place)
    return np.array(kept, np.int64)
