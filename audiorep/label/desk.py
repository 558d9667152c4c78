"""The desk at which questions lie: what is known, what is asked next and why, and learning behind the backs of those who
answer."""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from audiorep.active.heads import Answers, Head
from audiorep.errors import AudiorepError
from audiorep.label import progress
from audiorep.label.answer import Answer
from audiorep.label.clips import Clip
from audiorep.label.journal import add_answer, answers_since, undo
from audiorep.label.queries import add_query
from audiorep.label.settle import Settled, current, settle
from audiorep.label.store import Store
from audiorep.select.pool import Pool, Selector
from audiorep.types import generator

log = logging.getLogger(__name__)

LEASE_S = 300.0
"""A clip that was handed to an annotator is not handed to another for so long."""

NEIGHBOURS = 3
"""Answered clips shown beside a question: the nearest."""

FIRST = 5
"""Answers after which a first model is tried."""

STOP_SET = 2000
"""Clips on which successive models are compared."""


@dataclass(frozen=True)
class Told:
    """A corpus as the desk sees it.

    clips: one a row. length_s: of the recording of each. x: embeddings, standardised. usable: rows that could be decoded.
    held_out: rows that only judge.
    detected: {row: (class, score)}, what a detector said, for the review; may be empty.
    """

    clips: Sequence[Clip]
    length_s: Float[np.ndarray, " n"]
    x: Float[Tensor, "n d"]
    usable: Bool[np.ndarray, " n"]
    held_out: Bool[np.ndarray, " n"]
    detected: dict[int, tuple[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """selector, head: how is chosen and learned. batch: questions a query. overlap: annotators asked about each clip.
    several: whether a clip may have several labels. budget: answers at which a selector is through with its diversity."""

    selector: Selector
    selector_name: str
    first: Selector
    head: Head
    batch: int = 20
    overlap: int = 1
    several: bool = False
    budget: int = 500
    seed: int = 0


@dataclass(frozen=True)
class Round:
    """What one model asks. query: its id in the store. order, score: rows, the most wanted first, and why. p: class
    probabilities of all rows by the classes of that time; None: there is no model yet."""

    number: int
    query: int | None
    order: Int[np.ndarray, " k"]
    score: Float[np.ndarray, " k"]
    p: Float[np.ndarray, "n c"] | None
    classes: tuple[str, ...]
    model: str
    answers: int


class Desk:
    """Questions and answers of one corpus, shared by all who answer. Its methods may be called from any thread."""

    def __init__(self, store: Store, told: Told, settings: Settings, classes: Sequence[str]) -> None:
        self.store, self.told, self.settings = store, told, settings
        self.row = {clip.id: i for i, clip in enumerate(told.clips)}
        self.lock = threading.RLock()
        self.classes = list(classes)
        self.said: dict[int, list[Answer]] = {}
        self.verdicts: dict[int, Settled] = {}
        self.answered = np.zeros(len(told.clips), bool)
        self.leases: dict[int, tuple[str, float]] = {}
        self.guesses: dict[int, tuple[str, int]] = {}
        self.history: list[progress.Figures] = []
        self.failed = ""
        self.seen = 0
        self.round = Round(0, None, np.empty(0, np.int64), np.empty(0), None, (), "", 0)
        self.due, self.closing = threading.Event(), threading.Event()
        self.worker = threading.Thread(target=self.work, name="learning", daemon=True)
        rng = np.random.default_rng(settings.seed)
        free = np.flatnonzero(told.usable & ~told.held_out)
        self.stop_set = np.sort(rng.permutation(free)[:STOP_SET])
        self.poll()

    # ------------------------------------------------------------ life

    def open(self) -> None:
        """Begin to learn."""
        self.learn()
        self.worker.start()

    def close(self) -> None:
        """Stop learning, wait for it, let go of the store."""
        self.closing.set()
        self.due.set()
        if self.worker.is_alive():
            self.worker.join()
        self.store.close()

    def work(self) -> None:
        """Learn whenever enough was answered."""
        while True:
            self.due.wait()
            self.due.clear()
            if self.closing.is_set():
                return
            try:
                self.learn()
                self.failed = ""
            except Exception as error:  # answering goes on with the questions that there are
                self.failed = str(error)
                log.warning("learning from the answers failed: %s", error)

    # ------------------------------------------------------------ answers

    def poll(self) -> None:
        """Take in what was answered since, here or elsewhere."""
        with self.lock:
            new = answers_since(self.store, self.seen)
            if not new:
                return
            self.seen = new[-1].id
            clips = list(dict.fromkeys(a.clip for a in new if a.clip in self.row))
            latest: dict[str, list[Answer]] = {clip: [] for clip in clips}
            for one in current(self.store, clips if len(clips) < len(self.row) // 2 else None):
                if one.clip in latest:
                    latest[one.clip].append(one)
            for clip, answers in latest.items():
                row = self.row[clip]
                self.said[row], self.answered[row] = answers, bool(answers)
                settled = settle(answers, several=self.settings.several)
                self.verdicts.pop(row, None)
                if settled is not None:
                    self.verdicts[row] = settled
                for name in (name for one in answers for name in one.labels if name not in self.classes):
                    self.classes.append(name)

    def answer(self, answer: Answer) -> Answer:
        """Store an answer; it is on disk when this returns."""
        row = self.at(answer.clip)
        stored = add_answer(self.store, answer)
        with self.lock:
            guess = self.guess(row)
            if guess and answer.kind == "label" and stored.key == answer.key and row not in self.guesses:
                there = [name for name, present in answer.labels.items() if present]
                self.guesses[row] = (guess[0][0], int(guess[0][0] in there))
            self.leases.pop(row, None)
            self.poll()
            self.maybe_learn()
        return stored

    def take_back(self, key: str, annotator: str) -> Answer:
        """Undo the annotator's last answer."""
        taken = undo(self.store, key, annotator)
        with self.lock:
            row = self.row.get(taken.clip)
            if row is not None:
                self.guesses.pop(row, None)
                self.leases[row] = (annotator, time.monotonic())
            self.poll()
        return taken

    def add_class(self, name: str) -> list[str]:
        """A class that can be answered with from now on."""
        with self.lock:
            if name not in self.classes:
                self.classes.append(name)
            return list(self.classes)

    def at(self, clip: str) -> int:
        """The row of a clip.

        Raises:
            AudiorepError: not of this corpus.
        """
        if clip not in self.row:
            raise AudiorepError(f"there is no clip {clip!r} in this corpus: reload the page")
        return self.row[clip]

    def open_to(self, row: int, annotator: str) -> bool:
        """Whether this annotator may be asked about a row: it was neither answered by them nor often enough by others."""
        said = [one for one in self.said.get(row, ()) if one.source != "import" or one.kind != "skip"]
        if any(one.annotator == annotator or one.source in ("import", "adjudication") for one in said):
            return False
        return sum(one.kind != "skip" for one in said) < self.settings.overlap

    # ------------------------------------------------------------ questions

    def next(self, annotator: str, count: int = 1) -> list[tuple[int, float, int]]:
        """The next questions for an annotator: (row, score, rank), leased to them."""
        with self.lock:
            self.poll()
            now, found = time.monotonic(), []
            for rank, (row, score) in enumerate(zip(self.round.order.tolist(), self.round.score.tolist(), strict=True)):
                holder, since = self.leases.get(row, ("", -LEASE_S))
                held = holder not in ("", annotator) and now - since < LEASE_S and self.settings.overlap == 1
                if not held and self.open_to(row, annotator):
                    self.leases[row] = (annotator, now)
                    found.append((row, score, rank + 1))
                    if len(found) == count:
                        break
            if len(found) < count:
                self.due.set()
            return found

    def review(self, annotator: str, count: int = 1) -> list[tuple[int, str, float]]:
        """What should be looked at again, worst first: (row, class, score) of detections, or where there are none, of
        labels that the model doubts."""
        with self.lock:
            self.poll()
            if self.told.detected:
                rows = sorted(self.told.detected, key=lambda row: self.told.detected[row][1])
                open_rows = (row for row in rows if self.told.usable[row] and self.open_to(row, annotator))
                return [(row, *self.told.detected[row]) for row in open_rows][:count]
            p, number = self.round.p, {name: c for c, name in enumerate(self.round.classes)}
            doubted: list[tuple[int, str, float]] = []
            for row, settled in self.verdicts.items():
                mine = any(one.annotator == annotator and one.source != "import" for one in self.said[row])
                if settled.kind != "label" or mine or p is None:
                    continue
                for name, there in settled.labels.items():
                    if name in number:
                        q = float(p[row, number[name]])
                        doubted.append((row, name, q if there else 1.0 - q))
            return sorted(doubted, key=lambda one: one[2])[:count]

    def alike(self, row: int, count: int) -> list[int]:
        """Rows that were not answered yet and whose embeddings are nearest, that one first."""
        with self.lock:
            self.poll()
            free = self.unanswered()
        apart = (self.told.x[torch.from_numpy(free)] - self.told.x[row]).square().sum(1)
        nearest = free[apart.argsort()[: count + 1].numpy()].tolist()
        return [row, *(other for other in nearest if other != row)][:count]

    def neighbours(self, row: int) -> list[tuple[int, str, float]]:
        """The nearest answered clips: (row, class, distance), in standard deviations a dimension."""
        with self.lock:
            known = {r: c for r, c in self.labels().items() if r != row}
        if not known:
            return []
        rows = np.fromiter(known, np.int64)
        apart = (self.told.x[torch.from_numpy(rows)] - self.told.x[row]).square().mean(1).sqrt()
        best = apart.argsort()[:NEIGHBOURS].tolist()
        return [(int(rows[i]), "|".join(known[int(rows[i])]), float(apart[i])) for i in best]

    def guess(self, row: int, most: int = 3) -> list[tuple[str, float]]:
        """What the model would say: the likeliest classes with their probabilities."""
        if self.round.p is None:
            return []
        p = self.round.p[row]
        return [(self.round.classes[c], float(p[c])) for c in np.argsort(-p)[:most]]

    def labels(self) -> dict[int, tuple[str, ...]]:
        """The classes of the rows that are settled as labelled."""
        return {
            row: tuple(name for name, there in settled.labels.items() if there)
            for row, settled in self.verdicts.items()
            if settled.kind == "label"
        }

    def unanswered(self) -> Int[np.ndarray, " k"]:
        """Rows that nobody has answered."""
        return np.flatnonzero(self.told.usable & ~self.told.held_out & ~self.answered)

    # ------------------------------------------------------------ learning

    def maybe_learn(self) -> None:
        """Learn where a batch was answered since the last time, or, as long as there is no model, `FIRST` clips."""
        wanted = self.settings.batch if self.round.p is not None else min(FIRST, self.settings.batch)
        if int(self.answered.sum()) - self.round.answers >= wanted:
            self.due.set()

    def taught(self) -> tuple[np.ndarray, Answers, tuple[str, ...]]:
        """Rows that the head learns from, what was answered, and the classes."""
        classes = tuple(self.classes)
        number = {name: c for c, name in enumerate(classes)}
        several = self.settings.several
        rows, answers = [], []
        for row, settled in self.verdicts.items():
            if not self.told.usable[row] or settled.kind not in (("label", "noise") if several else ("label",)):
                continue
            line = np.full(len(classes), np.nan if several and settled.kind == "label" else 0.0)
            for name, there in settled.labels.items():
                line[number[name]] = float(there)
            rows.append(row)
            answers.append(line)
        width = len(classes)
        return np.array(rows, np.int64), torch.from_numpy(np.array(answers).reshape(-1, width)).float(), classes

    def learn(self) -> None:
        """Train on what is settled, choose the next questions, and swap them in."""
        with self.lock:
            self.poll()
            rows, answers, classes = self.taught()
            answered, free = int(self.answered.sum()), self.unanswered()
        settings, x = self.settings, self.told.x
        rng = generator(settings.seed, answered)
        use = ~self.told.held_out[rows]
        model = progress.train(settings.head, x, rows[use], answers[use], settings.several, rng)
        if model is None:
            p, log_p, selector = None, None, settings.first
        else:
            said = model(x)
            p = said.exp().mean(0).numpy()
            log_p, selector = said[:, torch.from_numpy(free)], settings.selector
        asked = torch.from_numpy(rows[use])
        label = answers[use] if settings.several else answers[use].argmax(1)
        spent = min(1.0, len(rows) / max(1, settings.budget))
        pool = Pool(x[torch.from_numpy(free)], log_p, x[asked], label, settings.several, None, spent)
        chosen = selector.select(pool, min(settings.batch + settings.batch // 2, len(free)), rng)
        order = free[chosen.rows.numpy()]
        score = chosen.score.double().numpy()
        number = self.round.number + 1
        name = f"head-{number}" if p is not None else ""
        query = None
        if len(order):
            scores = {self.told.clips[row].id: float(s) for row, s in zip(order.tolist(), score, strict=True)}
            query = add_query(self.store, name, settings.selector_name, settings.seed, scores).id
        found = progress.figures(
            len(rows), p, self.round.p, self.stop_set, rows[~use], answers[~use], list(self.guesses.values()),
            settings.several,
        )  # fmt: skip
        with self.lock:
            self.history.append(found)
            self.round = Round(number, query, order, score, p, classes, name, answered)
