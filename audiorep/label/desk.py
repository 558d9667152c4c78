"""The desk at which questions lie: who is asked what next, and learning behind the backs of those who answer."""

import logging
import threading
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from audiorep.errors import AudiorepError
from audiorep.label import progress
from audiorep.label.answer import Answer
from audiorep.label.journal import add_answer, answers_since, undo
from audiorep.label.leases import Leases
from audiorep.label.lesson import choose, heard, taught
from audiorep.label.points import add_point, all_points
from audiorep.label.queries import add_query
from audiorep.label.record import Record
from audiorep.label.round import Question, Round
from audiorep.label.settle import current
from audiorep.label.store import Store
from audiorep.label.told import Settings, Told
from audiorep.select.pool import Chosen
from audiorep.select.scores import ambiguous
from audiorep.types import generator

log = logging.getLogger(__name__)

NEIGHBOURS = 3
"""Answered clips shown beside a question: the nearest."""

FIRST = 5
"""Answers after which a first model is tried."""

STOP_SET = 2000
"""Clips on which successive models are compared."""


class Desk:
    """Questions and answers of one corpus, shared by all who answer. Its methods may be called from any thread."""

    def __init__(self, store: Store, told: Told, settings: Settings, classes: Sequence[str]) -> None:
        self.store, self.told, self.settings = store, told, settings
        self.row = {clip.id: i for i, clip in enumerate(told.clips)}
        self.lock = threading.RLock()
        self.record = Record(len(told.clips), classes, settings.several, settings.overlap)
        self.leases = Leases()
        self.guesses: dict[int, tuple[str, int]] = {}
        self.history, self.judged = all_points(store)
        self.failed = ""
        self.seen = self.news = 0
        self.round = Round(0, (), None, (), "", 0)
        self.due, self.closing = threading.Event(), threading.Event()
        self.worker = threading.Thread(target=self.work, name="learning", daemon=True)
        rng = np.random.default_rng(settings.seed)
        free = np.flatnonzero(told.usable & ~told.held_out)
        self.stop_set = np.sort(rng.permutation(free)[:STOP_SET])
        self.square = told.x.square().sum(1)
        self.poll()

    # ------------------------------------------------------------ life

    def open(self) -> None:
        """Begin to learn."""
        self.learn()
        self.due.clear()
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
            except Exception as error:  # answering goes on with the questions that there are
                self.failed = reason(error)
                log.warning("choosing what to ask failed: %s", self.failed)

    # ------------------------------------------------------------ answers

    def poll(self) -> None:
        """Take in what was answered since, here or elsewhere."""
        with self.lock:
            new = answers_since(self.store, self.seen)
            if not new:
                return
            clips = list(dict.fromkeys(a.clip for a in new if a.clip in self.row))
            latest: dict[str, list[Answer]] = {clip: [] for clip in clips}
            for one in current(self.store, clips if len(clips) < len(self.row) // 2 else None):
                if one.clip in latest:
                    latest[one.clip].append(one)
            for clip, answers in latest.items():
                self.record.take_in(self.row[clip], answers)
            self.seen = new[-1].id
            self.news += len(new)
            if self.news >= (self.settings.batch if self.round.p is not None else min(FIRST, self.settings.batch)):
                self.due.set()

    def answer(self, answer: Answer) -> Answer:
        """Store an answer; it is on disk when this returns.

        Raises:
            AudiorepError: not one class, where a clip has but one; or as `add_answer`.
        """
        row = self.at(answer.clip)
        if answer.kind == "label" and not self.settings.several and list(answer.labels.values()) != [True]:
            raise AudiorepError(
                f"answer.labels={answer.labels}: one class that is there is needed; several: labels.multilabel=true"
            )
        with self.lock:
            guess = [] if self.record.answered[row] else self.round.guess(row, 1)  # one that has not heard the answer
        stored = add_answer(self.store, answer)
        with self.lock:
            right = heard(answer, self.settings.several)
            if guess and right is not None and row not in self.guesses:
                self.guesses[row] = (guess[0][0], int(guess[0][0] in right))
            self.leases.release(row, answer.annotator)
            self.poll()
        return stored

    def take_back(self, key: str, annotator: str) -> Answer:
        """Undo the annotator's last answer; its clip is asked again."""
        taken = undo(self.store, key, annotator)
        with self.lock:
            row = self.row.get(taken.clip)
            if row is not None:
                was = next((one for one in self.record.said.get(row, ()) if one.id == taken.undoes), None)
                self.guesses.pop(row, None)
                self.leases.lease(row, annotator, Question(row, np.nan, 0, 0, was.query if was else None))
            self.poll()
        return taken

    def add_class(self, name: str) -> list[str]:
        """A class that can be answered with from now on."""
        with self.lock:
            self.record.add_class(name)
            return list(self.record.classes)

    def at(self, clip: str) -> int:
        """The row of a clip.

        Raises:
            AudiorepError: not of this corpus.
        """
        if clip not in self.row:
            raise AudiorepError(f"there is no clip {clip[:40]!r} in this corpus: reload the page")
        return self.row[clip]

    def spoil(self, row: int) -> None:
        """A row that turned out not to be decodable: it is not asked any more."""
        with self.lock:
            self.told.usable[row] = False

    # ------------------------------------------------------------ questions

    def open_to(self, row: int, annotator: str) -> bool:
        """Whether this annotator may be asked about a row: it was not answered by them, nor by or handed to as many others
        as are wanted."""
        said = self.record.said.get(row, ())
        if any(one.annotator == annotator or one.source in ("import", "adjudication") for one in said):
            return False
        others = {one.annotator for one in said if one.kind != "skip"} | self.leases.holders(row) - {annotator}
        return bool(self.told.usable[row]) and len(others) < self.settings.overlap

    def question(self, row: int, annotator: str) -> Question:
        """What an annotator was asked about a row; where they were not, a question of no query."""
        with self.lock:
            return self.leases.question(row, annotator) or Question(row, np.nan, 0, 0, None)

    def next(self, annotator: str, count: int = 1) -> list[Question]:
        """The next questions for an annotator, leased to them: what they left unanswered, what others have begun, then what
        the newest query asks."""
        with self.lock:
            self.poll()
            candidates = chain(self.leases.unanswered(annotator), self.record.begun.values(), self.round.questions)
            found: dict[int, Question] = {}
            for one in candidates:
                if len(found) == count:
                    break
                if one.row not in found and self.open_to(one.row, annotator):
                    found[one.row] = one
            for one in found.values():
                self.leases.lease(one.row, annotator, one)
            if len(found) < count and len(self.unasked()):
                self.due.set()
            return list(found.values())

    def review(self, annotator: str, count: int = 1) -> list[tuple[int, str, float]]:
        """What should be looked at again, worst first: (row, class, score) of detections, or where there are none, of
        labels that the model doubts and that no more than `overlap` people gave."""
        with self.lock:
            self.poll()
            detected = ((row, *self.told.detected[row]) for row in self.told.detected if self.open_to(row, annotator))
            doubted = () if self.told.detected else self.doubted(annotator)
            found = sorted(chain(detected, doubted), key=lambda one: one[2])[:count]
            for row, _, _ in found:
                self.leases.lease(row, annotator)
            return found

    def doubted(self, annotator: str) -> Iterator[tuple[int, str, float]]:
        """(row, class, what the model gives for it) of labels that others gave, and that are not in others' hands."""
        number = {name: c for c, name in enumerate(self.round.classes)}
        for row, settled in self.record.settled.items():
            said = [one for one in self.record.said[row] if one.kind != "skip"]
            mine = any(one.annotator == annotator and one.source != "import" for one in self.record.said[row])
            looked = len(said) + len(self.leases.holders(row) - {annotator}) > self.settings.overlap
            if self.round.p is None or mine or looked or settled.how == "adjudicated" or not self.told.usable[row]:
                continue
            for name, there in settled.labels.items():
                if name in number:
                    q = float(self.round.p[row, number[name]])
                    yield row, name, q if there else 1.0 - q

    def alike(self, row: int, annotator: str, count: int) -> list[int]:
        """Rows that were not answered yet and whose embeddings are nearest, that one first; leased to the annotator."""
        apart = self.apart(row)
        with self.lock:
            self.poll()
            free = self.unanswered()
            found = [row]
            for other in free[apart[torch.from_numpy(free)].argsort().numpy()].tolist():
                if len(found) >= count:
                    break
                if other != row and self.open_to(other, annotator):
                    found.append(other)
            for one in found:
                self.leases.lease(one, annotator)
        return found

    def apart(self, row: int) -> Float[Tensor, " n"]:
        """Squared distances of all rows from one."""
        return (self.square + self.square[row] - 2.0 * (self.told.x @ self.told.x[row])).clamp_min_(0.0)

    def neighbours(self, row: int) -> list[tuple[int, str, float]]:
        """The nearest answered clips: (row, class, distance), in standard deviations a dimension."""
        with self.lock:
            rows = np.array([r for r, one in self.record.settled.items() if one.kind == "label" and r != row], np.int64)
        rows = rows[self.told.usable[rows]]
        apart = (self.told.x[torch.from_numpy(rows)] - self.told.x[row]).square().mean(1).sqrt()
        best = apart.argsort()[:NEIGHBOURS].tolist()
        with self.lock:
            known = self.record.labels([int(rows[i]) for i in best])
        return [(int(rows[i]), "|".join(known[int(rows[i])]), float(apart[i])) for i in best if int(rows[i]) in known]

    def unanswered(self) -> Int[np.ndarray, " k"]:
        """Rows that nobody has answered."""
        return np.flatnonzero(self.told.usable & ~self.told.held_out & ~self.record.answered)

    def unasked(self) -> Int[np.ndarray, " k"]:
        """Rows that nobody has answered or has before them now."""
        free = self.unanswered()
        return free[~np.isin(free, self.leases.rows())]

    # ------------------------------------------------------------ learning

    def learn(self) -> None:
        """Train on what is settled, choose the next questions, and swap them in. Where training fails, it is chosen as if
        there were no model, and the one before goes on guessing."""
        with self.lock:
            self.poll()
            rows, answers, classes = taught(self.record, self.told.usable)
            answered, free, seen, news = int(self.record.answered.sum()), self.unasked(), self.seen, self.news
        use, failed = ~self.told.held_out[rows], ""
        known, said = (rows[use], answers[use]), None
        rng = generator(self.settings.seed, answered)
        try:
            model = progress.train(self.settings.head, self.told.x, *known, self.settings.several, rng)
            said = None if model is None else model(self.told.x)
            chosen = choose(self.told, self.settings, free, said, *known, rng)
        except Exception as error:
            failed, said = reason(error), None
            log.warning("learning from the answers failed: %s", failed)
            chosen = choose(self.told, self.settings, free, None, *known, rng)
        p = None if said is None else said.exp().mean(0).numpy()
        unclear = ambiguous(said, self.settings.several).numpy() if said is not None and len(said) > 1 else None
        before = self.round
        found = progress.figures(
            len(rows), p, before.over(classes), self.stop_set, rows[~use], answers[~use], list(self.guesses.values()),
            self.settings.several,
        )  # fmt: skip
        if failed:
            p, classes, name, unclear = before.p, before.classes, before.model, before.ambiguous
        else:
            name = "" if p is None else f"head-{seen}"
        questions = self.query(free[chosen.rows.numpy()], chosen, name)
        is_new = not failed and (seen != self.judged or not self.history)
        if is_new:
            add_point(self.store, seen, found)
        with self.lock:
            if is_new:
                self.history.append(found)
                self.judged = seen
            self.failed, self.news = failed, self.news - news
            self.round = Round(before.number + 1, questions, p, classes, name, seen, unclear)

    def query(self, order: np.ndarray, chosen: Chosen, model: str) -> tuple[Question, ...]:
        """Keep in the store what is asked."""
        if not len(order):
            return ()
        scores = dict(zip(order.tolist(), chosen.score.double().tolist(), strict=True))
        by_id = {self.told.clips[row].id: score for row, score in scores.items()}
        id = add_query(self.store, model, self.settings.selector_name, self.settings.seed, by_id).id
        return tuple(Question(row, score, i + 1, len(scores), id) for i, (row, score) in enumerate(scores.items()))


def reason(error: Exception) -> str:
    """What went wrong, in one line."""
    return (str(error) or type(error).__name__).splitlines()[0]
