"""Queries: which clips were asked, by which selector and model, in which order."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isnan
from typing import Any

from sqlalchemy import Select, insert, select

from audiorep.errors import AudiorepError
from audiorep.label.clips import check_known
from audiorep.label.schema import queries, query_clips
from audiorep.label.store import Store


@dataclass(frozen=True)
class Query:
    """One batch of questions.

    time: UTC, ISO 8601 with microseconds.
    model: name or fingerprint; "" where there was none yet.
    scores: {clip: score}, the most wanted first; None where the selector gives no score.
    """

    id: int
    time: str
    model: str
    selector: str
    seed: int
    scores: dict[str, float | None]


def now() -> str:
    """The time in UTC, ISO 8601 with microseconds: sorted as text it is sorted in time."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def add_query(store: Store, model: str, selector: str, seed: int, scores: Mapping[str, float | None]) -> Query:
    """Keep a batch of questions.

    Args:
        scores: {clip: score}, the most wanted first; NaN or None: no score.

    Raises:
        AudiorepError: a clip that the store does not know.
    """
    kept = {clip: None if score is None or isnan(score) else float(score) for clip, score in scores.items()}
    time = now()
    with store.writing() as connection:
        check_known(connection, kept.keys())
        head = insert(queries).values(time=time, model=model, selector=selector, seed=seed)
        id = int(connection.execute(head).inserted_primary_key[0])  # type: ignore[index]
        rows = [
            {"query": id, "rank": rank, "clip": clip, "score": score} for rank, (clip, score) in enumerate(kept.items())
        ]
        if rows:
            connection.execute(insert(query_clips), rows)
    return Query(id, time, model, selector, seed, kept)


def get_query(store: Store, id: int) -> Query:
    """One query.

    Raises:
        AudiorepError: there is none of that id.
    """
    found = _load(store, select(queries).where(queries.c.id == id))
    if found is None:
        raise AudiorepError(f"there is no query {id} in this store: reload the page")
    return found


def last_query(store: Store) -> Query | None:
    """The newest query; None where nothing was asked yet."""
    return _load(store, select(queries).order_by(queries.c.id.desc()).limit(1))


def _load(store: Store, which: Select[Any]) -> Query | None:
    with store.reading() as connection:
        head = connection.execute(which).mappings().one_or_none()
        if head is None:
            return None
        asked = select(query_clips.c.clip, query_clips.c.score).where(query_clips.c.query == head["id"])
        scores = {row.clip: row.score for row in connection.execute(asked.order_by(query_clips.c.rank))}
    return Query(**head, scores=scores)
