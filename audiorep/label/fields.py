"""What the page sends, read and checked: numbers, who answers, an answer."""

import math
from collections.abc import Mapping
from typing import Any

from audiorep.errors import AudiorepError
from audiorep.label.answer import Answer
from audiorep.label.answer import check as check_answer

MOST = 60
"""Cards sent at once."""

LONGEST_TEXT = 2000
"""Characters of a comment; of the name of a model a tenth."""

Fields = Mapping[str, Any]


def number(asked: Fields, name: str, otherwise: float, low: float, high: float) -> float:
    """A number of a request, kept within bounds."""
    text = asked.get(name, otherwise)
    try:
        value = float(text)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise AudiorepError(f"{name}={str(text)[:50]!r}: a number is needed")
    return min(high, max(low, value))


def count_of(asked: Fields) -> int:
    return int(number(asked, "count", 1, 1, MOST))


def annotator_of(asked: Fields) -> str:
    """Who answers.

    Raises:
        AudiorepError: nobody was named, or by a name that cannot be stored.
    """
    name = asked.get("annotator", "")
    if not isinstance(name, str) or not name.strip():
        raise AudiorepError("annotator: say who you are first")
    check_answer(Answer("x", "x", name.strip(), "skip"))
    return name.strip()


NUMBERS = ("start_s", "end_s", "low_hz", "high_hz")
TEXTS = {"model": LONGEST_TEXT // 10, "comment": LONGEST_TEXT}


def answer_of(sent: Any, source: str = "page") -> Answer:
    """An answer as the page sends it.

    Raises:
        AudiorepError: fields that are missing or of another kind.
    """
    if not isinstance(sent, dict):
        raise AudiorepError("an answer is a JSON object")
    named = {name: sent.get(name) for name in ("key", "clip", "kind")}
    if bad := next((name for name, value in named.items() if not isinstance(value, str)), None):
        raise AudiorepError(f"answer.{bad}={str(named[bad])[:50]}: text is needed")
    labels = sent.get("labels") or {}
    if not isinstance(labels, dict) or not all(isinstance(value, bool) for value in labels.values()):
        raise AudiorepError("answer.labels: class names with true or false are needed")
    more: dict[str, Any] = {}
    for name in NUMBERS:
        if (value := sent.get(name)) is not None:
            if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e12:
                raise AudiorepError(f"answer.{name}={str(value)[:50]}: a number is needed")
            more[name] = float(value)
    if (query := sent.get("query")) is not None:
        if isinstance(query, bool) or not isinstance(query, int):
            raise AudiorepError(f"answer.query={str(query)[:50]}: a whole number is needed")
        more["query"] = query
    for name, longest in TEXTS.items():
        if (text := sent.get(name)) is not None:
            if not isinstance(text, str) or len(text) > longest or not text.replace("\n", "").isprintable():
                raise AudiorepError(f"answer.{name}: text of {longest} printable characters at most is needed")
            more[name] = text
    return Answer(named["key"], named["clip"], annotator_of(sent), named["kind"], labels, source, **more)  # type: ignore[arg-type]
