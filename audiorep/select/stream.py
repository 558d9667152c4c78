"""One clip after another: ask about it now or never, within a budget."""

from bisect import bisect_left, bisect_right, insort
from collections import deque
from typing import Any

import torch

from audiorep.errors import AudiorepError
from audiorep.select.pool import Chosen, Needs, Pool, Selector
from audiorep.select.scores import Score
from audiorep.select.top import score_of
from audiorep.types import generator

DRAWS = 1024
"""Numbers that are drawn at once."""


class Stream:
    """Asks about a part of all clips that come by: those with the highest scores of late.

    A clip is asked if its rank among the last `window` scores, itself among them, is below the wanted part f:
    ``(higher + u equal) / window < f`` with u even in [0, 1). If old and new scores are alike, that happens with
    probability f whatever their distribution is. f follows what was spent: ``f = budget + (budget seen - asked) / window``,
    so what was asked too little or too much is made up for within about a window, and at most
    ``budget (seen + window) + 1`` clips are asked. While scores fall or rise on and on, a constant lag of less than a
    window stays.

    Args:
        budget: the part of all clips to ask about, between 0 and 1.
        window: scores that are remembered.
        seed: of u.

    Raises:
        AudiorepError: a budget outside [0, 1], or no window.

    Source: a threshold that follows a budget in a stream: Zliobaite et al. 2014, doi:10.1109/TNNLS.2012.2236570
    (variable uncertainty: there it is moved by a factor after each clip). The rank as threshold is a smoothed conformal
    p-value: Vovk et al. 2005, doi:10.1007/b106715.
    """

    def __init__(self, budget: float, window: int = 256, seed: int = 0) -> None:
        if not 0.0 <= budget <= 1.0 or window < 1:
            raise AudiorepError(
                f"stream: budget={budget} is a part of all clips, in [0, 1]; window={window} scores, 1 at least"
            )
        self.budget, self.window, self.seed = budget, window, seed
        self.seen = self.asked = 0
        self.recent: deque[float] = deque()
        self.ordered: list[float] = []
        self.draws: list[float] = []

    def ask(self, score: float, part: float | None = None) -> bool:
        """Whether to ask about the next clip.

        Args:
            score: how much its answer is wanted, on any scale.
            part: f, where the caller knows it better.
        """
        if part is None:
            part = self.budget + (self.budget * self.seen - self.asked) / self.window
        self.remember(score)
        equal = bisect_right(self.ordered, score) - bisect_left(self.ordered, score)
        higher = len(self.ordered) - bisect_right(self.ordered, score)
        wanted = higher + self.drawn() * equal < part * len(self.ordered)
        self.seen += 1
        self.asked += wanted
        return wanted

    def remember(self, score: float) -> None:
        """Put a score among the last ones, and forget the oldest."""
        if len(self.recent) == self.window:
            self.ordered.pop(bisect_left(self.ordered, self.recent.popleft()))
        self.recent.append(score)
        insort(self.ordered, score)

    def drawn(self) -> float:
        """u of the next clip, which depends on the seed and the number of clips alone."""
        block, place = divmod(self.seen, DRAWS)
        if not place or not self.draws:
            self.draws = torch.rand(DRAWS, generator=generator(self.seed, block)).tolist()
        return self.draws[place]

    def state(self) -> dict[str, Any]:
        """What has to be kept to go on later: numbers and a list of them, for JSON."""
        return {"seen": self.seen, "asked": self.asked, "recent": list(self.recent)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        self.seen, self.asked = int(state["seen"]), int(state["asked"])
        self.recent = deque(float(score) for score in state["recent"])
        self.ordered, self.draws = sorted(self.recent), []


class StreamInOrder(Selector):
    """The pool as a stream, clip by clip in its order, of which k are asked: what asking as recordings come in would give.

    The wanted part is what is left to ask of what is left to come, so it ends with k exactly. Clips are in their order;
    the score is the clip's.

    Args:
        score: how much an answer is wanted.
        window: scores that each clip is compared with.
        passes: whether the score compares several passes.

    Raises:
        AudiorepError: no window.

    Source: `Stream`.
    """

    def __init__(self, score: Score, window: int = 256, passes: bool = False) -> None:
        Stream(0.0, window)  # refuses a wrong window now
        self.score, self.window = score, window
        self.needs = Needs(probabilities=True, trained=True, passes=passes)

    def pick(self, pool: Pool, k: int, rng: torch.Generator) -> Chosen:
        score = score_of(self.score, pool)
        seed = int(torch.randint(2**62, (), generator=rng, device=rng.device))
        stream = Stream(k / len(pool), self.window, seed)
        rows = []
        for row, value in enumerate(score.tolist()):
            if stream.ask(value, (k - stream.asked) / (len(pool) - row)):
                rows.append(row)
        chosen = torch.tensor(rows, device=score.device)
        return Chosen(chosen, score[chosen])
