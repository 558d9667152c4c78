"""From scores along time to calls: a call begins and ends by hysteresis, chunk by chunk, in constant memory."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from audiorep.errors import AudiorepError


class Call(NamedTuple):
    """The class with this number from step `first` to step `last`, both included; `score`: the highest on the way."""

    label: int
    first: int
    last: int
    score: float


@dataclass(frozen=True)
class Rule:
    """When scores are a call.

    high: [c] a call reaches this score somewhere; NaN: the class is never reported.
    low: [c] and at least this one everywhere.
    gap: so many steps below `low` do not end a call.
    shortest: a call has so many steps.
    exclusive: at each step only the class with the highest score counts.
    """

    high: Float[np.ndarray, " c"]
    low: Float[np.ndarray, " c"]
    gap: int = 0
    shortest: int = 1
    exclusive: bool = False

    def __post_init__(self) -> None:
        if self.high.shape != self.low.shape or bool((self.low > self.high).any()):
            raise AudiorepError("of each class the low threshold must not be above the high one")
        if self.gap < 0 or self.shortest < 1:
            raise AudiorepError(f"a gap of {self.gap} steps, or a shortest call of {self.shortest}: cannot be")


@dataclass
class Tracker:
    """Scores of one recording in, finished calls out; how the scores are cut into chunks makes no difference."""

    rule: Rule
    step: int = 0
    running: dict[int, Call] = field(default_factory=dict)

    def push(self, scores: Float[np.ndarray, "n c"]) -> list[Call]:
        """The calls that have ended with these scores, in no particular order."""
        if self.rule.exclusive:
            scores = np.where(np.arange(scores.shape[1]) == scores.argmax(1)[:, None], scores, -np.inf)
        above = scores >= self.rule.low
        ended = []
        for label in np.flatnonzero(above.any(0) & ~np.isnan(self.rule.high)).tolist():
            for first, last in runs(above[:, label]):
                best = float(scores[first : last + 1, label].max())
                call = Call(label, self.step + first, self.step + last, best)
                before = self.running.get(call.label)
                if before is not None and call.first - before.last - 1 <= self.rule.gap:
                    call = before._replace(last=call.last, score=max(before.score, best))
                elif before is not None:
                    ended.append(before)
                self.running[call.label] = call
        self.step += len(scores)
        for label, call in list(self.running.items()):
            if self.step - call.last - 1 > self.rule.gap:
                ended.append(self.running.pop(label))
        return [call for call in ended if self.counts(call)]

    def end(self) -> list[Call]:
        """The calls that the end of the recording ends."""
        ended, self.running = list(self.running.values()), {}
        return [call for call in ended if self.counts(call)]

    def counts(self, call: Call) -> bool:
        """Whether a stretch is a call."""
        return bool(call.score >= self.rule.high[call.label]) and call.last - call.first + 1 >= self.rule.shortest


def calls_of(scores: Iterable[np.ndarray], rule: Rule) -> list[Call]:
    """All calls of a recording, in order of time, from chunks [n c] of its scores."""
    tracker = Tracker(rule)
    found = [call for chunk in scores for call in tracker.push(chunk)]
    return sorted([*found, *tracker.end()], key=lambda call: (call.first, call.last, call.label))


def runs(on: np.ndarray) -> Iterator[tuple[int, int]]:
    """First and last index of every stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], on, [False]])))
    yield from zip(edges[::2].tolist(), (edges[1::2] - 1).tolist(), strict=True)
