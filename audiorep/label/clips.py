"""Clips: the stretches of recordings that are asked about. Their ids outlive a move of the corpus and of its files."""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

from sqlalchemy import Column, ColumnElement, Connection, bindparam, insert, select, true, update

from audiorep.errors import AudiorepError
from audiorep.label import schema
from audiorep.label.store import Store, in_chunks

Place = tuple[str, int, int, int]
"""(path, start, end, channel)"""


@dataclass(frozen=True)
class Clip:
    """A stretch of a recording.

    path: relative to the folder of the corpus, with "/"; absolute where the recording lies elsewhere.
    start, end: samples of the recording at `rate_hz`; the end is the first sample behind the clip.
    channel: from 1; 0: the mean of all.
    """

    id: str
    path: str
    start: int
    end: int
    rate_hz: int
    channel: int = 0
    group: str = ""

    @property
    def start_s(self) -> float:
        return self.start / self.rate_hz

    @property
    def end_s(self) -> float:
        return self.end / self.rate_hz

    @property
    def place(self) -> Place:
        return self.path, self.start, self.end, self.channel


def clip_id(path: str, start: int, end: int, channel: int = 0) -> str:
    """20 hexadecimal digits of SHA-256 over path, samples and channel: the same in every store and on every machine."""
    return hashlib.sha256(f"{path}\n{start}\n{end}\n{channel}".encode()).hexdigest()[:20]


def add_clips(store: Store, clips: Sequence[Clip]) -> list[str]:
    """Make the clips known, and give the id of each. A place that is known keeps its id; its group and rate are renewed.

    Raises:
        AudiorepError: the id of a new clip belongs to a recording that was relinked from its path.
    """
    table = schema.clips
    with store.writing() as connection:
        known = {clip.place: clip for clip in _load(connection, true())}
        taken = {clip.id for clip in known.values()}
        new = {clip.place: clip for clip in reversed(clips) if clip.place not in known}
        if clash := next((clip for clip in new.values() if clip.id in taken), None):
            raise AudiorepError(
                f"label store {store.name}: the ids of {clash.path} belong to a recording that was relinked from"
                " there; give the new recording another name"
            )
        changed = {
            old.id: {"clip": old.id, "of": clip.group, "rate": clip.rate_hz}
            for clip in clips
            if (old := known.get(clip.place)) and (old.group, old.rate_hz) != (clip.group, clip.rate_hz)
        }
        if new:
            connection.execute(insert(table), [vars(clip) for clip in new.values()])
        if changed:
            renewed = update(table).values(group=bindparam("of"), rate_hz=bindparam("rate"))
            connection.execute(renewed.where(table.c.id == bindparam("clip")), list(changed.values()))
    ids = {place: clip.id for place, clip in {**known, **new}.items()}
    return [ids[clip.place] for clip in clips]


def get_clips(store: Store, ids: Iterable[str] | None = None) -> dict[str, Clip]:
    """Clips by id: all of the store, or those of the ids that it knows."""
    with store.reading() as connection:
        if ids is None:
            return {clip.id: clip for clip in _load(connection, true())}
        return {clip.id: clip for clip in _load_by(connection, schema.clips.c.id, ids)}


def relink(store: Store, moved: Mapping[str, str]) -> int:
    """Tell the store that recordings were moved: {path before: path now}. Ids and answers stay.

    Returns:
        how many clips lie in them.

    Raises:
        AudiorepError: the store has the same clips at a new path already; nothing is changed then.
    """
    table = schema.clips
    with store.writing() as connection:
        found = _load_by(connection, table.c.path, moved)
        taken = {
            clip.place for clip in _load_by(connection, table.c.path, set(moved.values())) if clip.path not in moved
        }
        for clip in found:
            place = moved[clip.path], *clip.place[1:]
            if place in taken:
                raise AudiorepError(
                    f"label store {store.name}: {place[0]} has the clips of {clip.path} already; name another file"
                )
            taken.add(place)
        change = update(table).where(table.c.id == bindparam("clip")).values(path=bindparam("to"))
        if found:  # first out of each other's way: recordings may have changed places
            connection.execute(change, [{"clip": clip.id, "to": f"//{clip.id}"} for clip in found])
            connection.execute(change, [{"clip": clip.id, "to": moved[clip.path]} for clip in found])
    return len(found)


def check_known(connection: Connection, ids: Collection[str]) -> None:
    """Refuse ids that no clip has.

    Raises:
        AudiorepError: names the first.
    """
    column = schema.clips.c.id
    known = {id for part in in_chunks(list(ids)) for id in connection.scalars(select(column).where(column.in_(part)))}
    if unknown := next((id for id in ids if id not in known), None):
        raise AudiorepError(
            f"there is no clip {unknown!r} in this store: reload the page, or add the corpus to the store"
        )


def _load(connection: Connection, where: ColumnElement[bool]) -> list[Clip]:
    table = schema.clips
    rows = connection.execute(select(*(table.c[f.name] for f in fields(Clip))).where(where).order_by(table.c.id))
    return [Clip(*row) for row in rows]


def _load_by(connection: Connection, column: Column[str], values: Iterable[str]) -> list[Clip]:
    return [clip for part in in_chunks(list(values)) for clip in _load(connection, column.in_(part))]
