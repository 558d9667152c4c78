"""The record of a corpus: what each annotator says of each row, what that comes to, and whom it still waits for."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from audiorep.label.answer import Answer
from audiorep.label.round import Question
from audiorep.label.settle import Settled, settle


class Record:
    """What is known of a corpus. The desk's lock guards it.

    classes: that can be answered with. said: by row, the standing answers. settled: by row, what they come to.
    answered: rows of which anything is said. differing: rows that annotators disagree about. begun: rows that wait for
    further annotators. tally: answers of each annotator.

    Args:
        rows: of the corpus. several: whether a clip may have several labels. overlap: annotators asked about each clip.
    """

    def __init__(self, rows: int, classes: Sequence[str], several: bool, overlap: int) -> None:
        self.several, self.overlap = several, overlap
        self.classes = list(classes)
        self.said: dict[int, list[Answer]] = {}
        self.settled: dict[int, Settled] = {}
        self.answered = np.zeros(rows, bool)
        self.differing: set[int] = set()
        self.begun: dict[int, Question] = {}
        self.tally: Counter[str] = Counter()

    def take_in(self, row: int, answers: list[Answer]) -> None:
        """What is now said of a row, by each annotator."""
        self.tally.subtract(one.annotator for one in self.said.get(row, ()) if one.source != "adjudication")
        self.tally.update(one.annotator for one in answers if one.source != "adjudication")
        self.said[row], self.answered[row] = answers, bool(answers)
        settled = settle(answers, several=self.several)
        self.settled.pop(row, None)
        if settled is not None:
            self.settled[row] = settled
        votes = [one for one in answers if one.kind != "skip"]
        (self.differing.add if settled is None and len(votes) > 1 else self.differing.discard)(row)
        self.begun.pop(row, None)
        if 0 < len(votes) < self.overlap and all(one.source == "page" for one in votes):
            self.begun[row] = Question(row, np.nan, 0, 0, votes[0].query)
        for name in (name for one in answers for name in one.labels):
            self.add_class(name)

    def add_class(self, name: str) -> None:
        """A class that can be answered with from now on."""
        if name not in self.classes:
            self.classes.append(name)

    def labels(self, rows: Sequence[int]) -> dict[int, tuple[str, ...]]:
        """The classes of those rows that are settled as labelled."""
        known = {row: self.settled[row] for row in rows if row in self.settled}
        return {
            row: tuple(name for name, there in settled.labels.items() if there)
            for row, settled in known.items()
            if settled.kind == "label"
        }
