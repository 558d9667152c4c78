"""Leases: which clip is before whom, so that nobody is asked what somebody else is answering."""

import time

from audiorep.label.round import Question

LEASE_S = 300.0
"""A clip that was handed to an annotator is not handed to another for so long."""


class Leases:
    """Rows that are before somebody, and what they were asked about them. The desk's lock guards it."""

    def __init__(self) -> None:
        self.held: dict[int, dict[str, tuple[float, Question | None]]] = {}

    def holders(self, row: int) -> set[str]:
        """Who has a row before them now."""
        now, held = time.monotonic(), self.held.get(row, {})
        for name in [name for name, (since, _) in held.items() if now - since >= LEASE_S]:
            self.release(row, name)
        return set(held)

    def lease(self, row: int, annotator: str, question: Question | None = None) -> None:
        """Note that a row is before somebody; question: to be asked again if they come back without having answered."""
        held = self.held.setdefault(row, {})
        held[annotator] = (time.monotonic(), question or held.get(annotator, (0.0, None))[1])

    def release(self, row: int, annotator: str) -> None:
        """A row is not before somebody any more."""
        held = self.held.get(row, {})
        held.pop(annotator, None)
        if not held:
            self.held.pop(row, None)

    def question(self, row: int, annotator: str) -> Question | None:
        """What an annotator was asked about a row; None: nothing, or their lease was given back."""
        return self.held.get(row, {}).get(annotator, (0.0, None))[1]

    def unanswered(self, annotator: str) -> list[Question]:
        """What was asked of an annotator and is still before them, what they took back first."""
        mine = [held[annotator][1] for row, held in list(self.held.items()) if annotator in self.holders(row)]
        return sorted((one for one in mine if one), key=lambda one: one.rank > 0)

    def rows(self) -> list[int]:
        """Rows that somebody has before them now."""
        return [row for row in list(self.held) if self.holders(row)]
