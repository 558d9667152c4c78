"""What an answer is: who said what about which clip; and which answers count, when some undo others."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from math import isfinite

from audiorep.errors import AudiorepError

KINDS = ("label", "unknown", "noise", "skip", "undo")
"""It is these calls; a call, but which?; no call; not answered; the answer `undoes` does not count."""
SOURCES = ("page", "import", "adjudication")
"""Said on the page, taken over from earlier labels, or the last word on a clip about which annotators disagree."""


@dataclass(frozen=True)
class Answer:
    """One answer.

    Args:
        kind, source: of `KINDS`, `SOURCES`.
        key: made by whoever sends it, new for each answer: sent twice, it is stored once.
        labels: of the kind `label`: {name: is it there}; what is not named is not judged.
        start_s, end_s, low_hz, high_hz: where it was dragged to: onset and end in the recording, lower and upper edge.
        model: that made the guess beside the question.
        query: id of the query that asked.
        undoes: id of the answer that this one, of the kind `undo`, takes back; itself an undo: then that is done again.
        id, time: given by the store: ids grow in the order in which answers came; UTC, ISO 8601 with microseconds.
    """

    key: str
    clip: str
    annotator: str
    kind: str = "label"
    labels: dict[str, bool] = field(default_factory=dict)
    source: str = "page"
    start_s: float | None = None
    end_s: float | None = None
    low_hz: float | None = None
    high_hz: float | None = None
    model: str = ""
    query: int | None = None
    undoes: int | None = None
    comment: str = ""
    id: int = 0
    time: str = ""


SAID = tuple(f.name for f in fields(Answer) if f.name not in ("id", "time", "model", "query", "comment"))
"""What makes two answers the same."""
NAMES = ("key", "clip", "annotator")
LARGEST_ID = 2**31 - 1


def undone(answers: Iterable[Answer]) -> set[int]:
    """Ids of the answers that do not count. Read from the newest to the oldest, an undo that is not undone itself takes
    its target out.

    Args:
        answers: with those that undo them: of a clip, of an annotator, or all.
    """
    out: set[int] = set()
    for answer in sorted((a for a in answers if a.undoes is not None), key=lambda a: a.id, reverse=True):
        if answer.id not in out and answer.undoes is not None:
            out.add(answer.undoes)
    return out


def in_effect(answers: Sequence[Answer]) -> list[Answer]:
    """Those that count, as they came: neither `undone` nor an undo."""
    out = undone(answers)
    return [answer for answer in answers if answer.undoes is None and answer.id not in out]


def check(answer: Answer) -> None:
    """Refuse what is no answer, whatever the store holds.

    Raises:
        AudiorepError: names the field and what it may be.
    """
    for name, value, allowed in (("kind", answer.kind, KINDS), ("source", answer.source, SOURCES)):
        if value not in allowed:
            raise AudiorepError(f"answer.{name}={value!r}: say one of {', '.join(allowed)}")
    for name, text in (*((name, getattr(answer, name)) for name in NAMES), *(("label", x) for x in answer.labels)):
        if not text or text != text.strip() or not text.isprintable() or "|" in text or len(text) > 200:
            raise AudiorepError(
                f"answer.{name}={text[:200]!r}: 1 to 200 printable characters without | and without spaces at the ends"
            )
    if any("\ud800" <= character <= "\udfff" or character == "\0" for character in answer.comment):
        raise AudiorepError("answer.comment holds characters that cannot be stored: leave them out")
    for name, id in (("query", answer.query), ("undoes", answer.undoes)):
        if id is not None and not 0 < id <= LARGEST_ID:
            raise AudiorepError(f"answer.{name}={id}: there is none of that id; reload the page")
    if bool(answer.labels) != (answer.kind == "label") or not all(type(x) is bool for x in answer.labels.values()):
        raise AudiorepError(
            f"answer.labels={answer.labels}: an answer of the kind label names at least one class, true or false; others none"
        )
    if (answer.undoes is None) == (answer.kind == "undo"):
        raise AudiorepError("answer.undoes: an answer of the kind undo names the one it undoes; others name none")
    for name in ("start_s, end_s", "low_hz, high_hz"):
        low, high = (getattr(answer, part) for part in name.split(", "))
        if low is None and high is None:
            continue
        if low is None or high is None or not (isfinite(low) and isfinite(high) and 0.0 <= low < high):
            raise AudiorepError(f"answer.{name}={low}, {high}: both or neither, from 0 up, the second above the first")
