"""The journal of answers: every word kept, in one order for all annotators. Nothing in it is changed or deleted."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from sqlalchemy import Connection, Select, func, insert, select

from audiorep.errors import AudiorepError
from audiorep.label.answer import LARGEST_ID, SAID, Answer, check, undone
from audiorep.label.clips import check_known
from audiorep.label.queries import now
from audiorep.label.schema import answers as table
from audiorep.label.schema import queries
from audiorep.label.store import Store, in_chunks


def add_answer(store: Store, answer: Answer) -> Answer:
    """Store an answer, and give it back with id and time. It is on disk when this returns.

    A key that is known is not stored again: the first answer comes back.

    Raises:
        AudiorepError: an unknown clip or query, labels that do not fit the kind, a name or comment that cannot be
            stored, a box that is none, an undo of somebody else's answer or of one that does not count any more, a key
            that belongs to a different answer, or a database that says no.
    """
    return add_answers(store, [answer])[0]


def add_answers(store: Store, answers: Sequence[Answer]) -> list[Answer]:
    """As `add_answer`, for many: either all are stored or none."""
    for answer in answers:
        check(answer)
    with store.writing() as connection:
        return _append(connection, answers)


def undo(store: Store, key: str, annotator: str, answer: int | None = None) -> Answer:
    """Take back an answer of one's own; an undo taken back is a redo.

    Args:
        answer: its id; None: the annotator's last one that counts and was not imported.

    Raises:
        AudiorepError: there is none, it is another annotator's, or it does not count any more.
    """
    with store.writing() as connection:
        if first := _by_key(connection, [key]).get(key):
            return _same(first, replace(first, kind="undo", annotator=annotator, undoes=answer or first.undoes))
        if answer is None:
            own = every().where(table.c.annotator == annotator)
            out = undone(load(connection, own.where(table.c.undoes.is_not(None))))
            said = own.where(table.c.undoes.is_(None), table.c.source != "import")
            last = said.order_by(None).order_by(table.c.id.desc()).limit(len(out) + 1)  # so many at most are undone
            target = next((past for past in load(connection, last) if past.id not in out), None)
            if target is None:
                raise AudiorepError(f"{annotator} has nothing to undo")
        else:
            target = _target(connection, answer)
        taken_back = Answer(key, target.clip, annotator, "undo", source=target.source, undoes=target.id)
        check(taken_back)
        return _append(connection, [taken_back])[0]


def history(store: Store, clip: str) -> list[Answer]:
    """Everything that was said about a clip, undone or not, in order."""
    with store.reading() as connection:
        return load(connection, every().where(table.c.clip == clip))


def answers_since(store: Store, id: int = 0, limit: int | None = None) -> list[Answer]:
    """Everything that was said after the answer `id`, in order: none that comes later will have a smaller id."""
    with store.reading() as connection:
        return load(connection, every().where(table.c.id > min(id, LARGEST_ID)).limit(limit))


def every() -> Select[Any]:
    """All answers, in order; to be narrowed by `.where`."""
    return select(*(table.c[f.name] for f in fields(Answer))).order_by(table.c.id)


def load(connection: Connection, which: Select[Any]) -> list[Answer]:
    """The answers that a statement made of `every` selects."""
    return [Answer(*row) for row in connection.execute(which)]


def newest(store: Store) -> int:
    """Id of the last answer, for `answers_since`; 0 where there is none."""
    with store.reading() as connection:
        return connection.scalar(select(func.max(table.c.id))) or 0


def _append(connection: Connection, answers: Sequence[Answer]) -> list[Answer]:
    """Store what is not stored yet; within a transaction of its own turn."""
    asked = list(dict.fromkeys(answer.key for answer in answers))
    known = _by_key(connection, asked)
    new: dict[str, Answer] = {}
    for answer in answers:
        if (first := known.get(answer.key) or new.get(answer.key)) is None:
            new[answer.key] = answer
        else:
            _same(first, answer)
    check_known(connection, dict.fromkeys(answer.clip for answer in new.values()))
    for answer in new.values():
        _check_links(connection, answer)
    if new:
        time = now()
        rows = [{**vars(answer), "time": time} for answer in new.values()]
        for row in rows:
            del row["id"]
        connection.execute(insert(table), rows)
        known |= _by_key(connection, list(new))
    return [known[answer.key] for answer in answers]


def _same(first: Answer, again: Answer) -> Answer:
    """The first answer of a key, if what comes again says the same."""
    if any(getattr(first, name) != getattr(again, name) for name in SAID):
        raise AudiorepError(
            f"answer.key={again.key!r} belongs to another answer (id {first.id}): send every answer with a key of its own"
        )
    return first


def _check_links(connection: Connection, answer: Answer) -> None:
    """The query that asked must be there; what is undone must be one's own, and count."""
    if answer.query is not None and connection.scalar(select(queries.c.id).where(queries.c.id == answer.query)) is None:
        raise AudiorepError(f"answer.query={answer.query}: there is no such query; reload the page")
    if answer.undoes is None:
        return
    target = _target(connection, answer.undoes)
    if (target.annotator, target.clip) != (answer.annotator, answer.clip):
        raise AudiorepError(
            f"answer {target.id} is {target.annotator}'s, about clip {target.clip}: {answer.annotator} cannot undo it;"
            " answer the clip instead, or adjudicate it"
        )
    later = load(connection, every().where(table.c.clip == target.clip, table.c.undoes.is_not(None)))
    if target.id in undone(later):
        raise AudiorepError(f"answer {target.id} is undone already; to have it back, undo the undo")


def _target(connection: Connection, id: int) -> Answer:
    found = load(connection, every().where(table.c.id == id)) if 0 < id <= LARGEST_ID else []
    if not found:
        raise AudiorepError(f"there is no answer {id} to undo: reload the page")
    return found[0]


def _by_key(connection: Connection, keys: Sequence[str]) -> dict[str, Answer]:
    parts = in_chunks(keys)
    return {found.key: found for part in parts for found in load(connection, every().where(table.c.key.in_(part)))}
