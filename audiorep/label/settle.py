"""What the answers come to: the last word of each annotator, one answer a clip, and where annotators disagree."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import true

from audiorep.label.answer import Answer, in_effect
from audiorep.label.journal import every, load
from audiorep.label.schema import answers as table
from audiorep.label.store import Store, in_chunks

Votes = Sequence[Any]
Rule = Callable[[Votes], Any]
"""The vote that carries the day, or None."""


def unanimous(votes: Votes) -> Any:
    """What all say."""
    return votes[0] if len(set(votes)) == 1 else None


def majority(votes: Votes) -> Any:
    """What more than half of all say."""
    vote, count = Counter(votes).most_common(1)[0]
    return vote if 2 * count > len(votes) else None


@dataclass(frozen=True)
class Settled:
    """One answer for a clip.

    how: "adjudicated"; "agreed": by all of `annotators`, who may be one; "voted": by the rule, against others.
    answer: the last of those that say so; its box is the clip's.
    """

    clip: str
    kind: str
    labels: dict[str, bool]
    how: Literal["adjudicated", "agreed", "voted"]
    annotators: tuple[str, ...]
    answer: Answer


@dataclass(frozen=True)
class Counts:
    """How much each annotator's answers come to, adjudications apart from their own.

    labels: {annotator: {class: clips in which they hear it}}. kinds: {annotator: {kind: clips}}.
    """

    labels: dict[str, Counter[str]]
    kinds: dict[str, Counter[str]]


def current(store: Store, clips: Sequence[str] | None = None, annotator: str | None = None) -> list[Answer]:
    """The last word of each annotator on each clip, in the order in which they came: what is undone does not count.

    An adjudication does not replace what its author said as an annotator; it is there beside it.

    Args:
        clips: of these only; None: of all.
        annotator: of this one only.
    """
    one = true() if annotator is None else table.c.annotator == annotator
    which = [one] if clips is None else [one & table.c.clip.in_(part) for part in in_chunks(clips)]
    with store.reading() as connection:
        answers = [answer for where in which for answer in load(connection, every().where(where))]
    last = {(one.clip, one.annotator, one.source == "adjudication"): one for one in in_effect(answers)}
    return sorted(last.values(), key=lambda one: one.id)


def settled(store: Store, rule: Rule = unanimous, several: bool = False) -> list[Settled]:
    """One answer for each clip for which there is one; see `settle`."""
    found = [settle(answers, rule, several) for answers in by_clip(current(store)).values()]
    return [one for one in found if one is not None]


def settle(answers: Sequence[Answer], rule: Rule = unanimous, several: bool = False) -> Settled | None:
    """One answer from the last words on one clip: the last adjudication if there is one, else what `rule` finds.

    Skipped is not said: it has no vote.

    Args:
        answers: of one clip, as `current` gives them.
        several: whether a clip may have several labels: then each class is voted on by itself, by those who named it
            (who says noise has denied all classes), and it is not settled before each is. Else an answer is voted on as
            a whole.

    Returns:
        None where nobody said anything, or where the rule finds nothing.
    """
    said = [answer for answer in answers if answer.kind != "skip"]
    if last := [answer for answer in said if answer.source == "adjudication"][-1:]:
        return Settled(last[0].clip, last[0].kind, last[0].labels, "adjudicated", (last[0].annotator,), last[0])
    if not said:
        return None
    if (found := _verdict(said, rule, several)) is None:
        return None
    kind, labels = found
    alike = [a for a in said if a.kind == kind]
    for_it = [a for a in alike if all(labels.get(name) == there for name, there in a.labels.items())]
    best = (for_it or alike)[-1]
    return Settled(
        best.clip,
        kind,
        labels,
        "agreed" if len(for_it) == len(said) else "voted",
        tuple(a.annotator for a in for_it or alike),
        best,
    )


def counts(store: Store) -> Counts:
    """How many clips of each class and kind each annotator has."""
    labels: defaultdict[str, Counter[str]] = defaultdict(Counter)
    kinds: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for answer in current(store):
        if answer.source != "adjudication":
            kinds[answer.annotator][answer.kind] += 1
            labels[answer.annotator].update(name for name, there in answer.labels.items() if there)
    return Counts(dict(labels), dict(kinds))


def by_clip(answers: Iterable[Answer]) -> dict[str, list[Answer]]:
    """Answers of each clip, in their order."""
    out: defaultdict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        out[answer.clip].append(answer)
    return dict(out)


def whole(answer: Answer) -> tuple[str, tuple[tuple[str, bool], ...]]:
    """An answer as one category: two are the same if they say the same of the same classes."""
    return answer.kind, tuple(sorted(answer.labels.items()))


def presence(answer: Answer, name: str) -> bool | None:
    """Whether a class is there, says the answer; None if it does not say. Noise: no class is there."""
    return False if answer.kind == "noise" else answer.labels.get(name)


def _verdict(said: Sequence[Answer], rule: Rule, several: bool) -> tuple[str, dict[str, bool]] | None:
    if not several:
        found = rule([whole(answer) for answer in said])
        return None if found is None else (found[0], dict(found[1]))
    kind = rule([answer.kind for answer in said])
    if kind != "label":
        return None if kind is None else (kind, {})
    names = sorted({name for answer in said for name in answer.labels})
    cast = {name: [vote for answer in said if (vote := presence(answer, name)) is not None] for name in names}
    labels = {name: rule(votes) for name, votes in cast.items()}
    return None if None in labels.values() else (kind, labels)
