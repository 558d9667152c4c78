"""A round: what one model asks, why each question is asked, and what the model would answer itself."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True)
class Question:
    """A row, and why it is asked: its score and its rank, from 1, among the `of` clips of a query; 0: it is not of the
    newest query, but was begun before."""

    row: int
    score: float
    rank: int
    of: int
    query: int | None


@dataclass(frozen=True)
class Round:
    """What one model asks. questions: the most wanted first. p: class probabilities of all rows by the classes of that
    time; None: there is no model yet. seen: id of the last answer that it has learned from. ambiguous: rows that are unclear
    in themselves, whatever the model (`audiorep.select.scores.ambiguous`); None: one pass cannot tell."""

    number: int
    questions: tuple[Question, ...]
    p: Float[np.ndarray, "n c"] | None
    classes: tuple[str, ...]
    model: str
    seen: int
    ambiguous: Bool[np.ndarray, " n"] | None = None

    def over(self, classes: tuple[str, ...]) -> Float[np.ndarray, "n c"] | None:
        """p by these classes: 0 of those that were not known then."""
        if self.p is None or classes == self.classes:
            return self.p
        p = np.zeros((len(self.p), len(classes)), self.p.dtype)
        for c, name in enumerate(classes):
            if name in self.classes:
                p[:, c] = self.p[:, self.classes.index(name)]
        return p

    def guess(self, row: int, most: int = 3) -> list[tuple[str, float]]:
        """What the model would say: the likeliest classes with their probabilities."""
        if self.p is None:
            return []
        p = self.p[row]
        return [(self.classes[c], float(p[c])) for c in np.argsort(-p, kind="stable")[:most]]
