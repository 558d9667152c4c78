"""The desk: who is asked what, what is known of it afterwards, and learning that nobody has to wait for."""

import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from desks import CLASSES, make_desk, noisy, said, teach, told_of, until

from audiorep.active.heads import Answers, Head, Linear, Predict
from audiorep.errors import AudiorepError
from audiorep.label import leases, progress
from audiorep.label.desk import FIRST, NEIGHBOURS, Desk
from audiorep.label.discover import clusters
from audiorep.label.journal import add_answer, answers_since, history
from audiorep.label.lesson import NOISE, taught
from audiorep.label.queries import get_query, last_query
from audiorep.label.store import open_store
from audiorep.select.top import Random


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    """Desks that have chosen their first questions, closed in the end."""
    made: list[Desk] = []

    def one(*, learned: bool = True, **changes: Any) -> Desk:
        made.append(make_desk(tmp_path, **changes))
        if learned:
            made[-1].learn()
        return made[-1]

    yield one
    for desk in made:
        desk.close()


class Waiting(Head):
    """Learns as `Linear`, but not before it may."""

    passes = False

    def __init__(self) -> None:
        self.may, self.begun = threading.Event(), threading.Event()

    def __call__(self, x: torch.Tensor, answers: Answers, several: bool, rng: torch.Generator) -> Predict:
        self.begun.set()
        assert self.may.wait(30)
        return Linear()(x, answers, several, rng)


class Failing(Head):
    """Learns until it is told to fail."""

    passes = False

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def __call__(self, x: torch.Tensor, answers: Answers, several: bool, rng: torch.Generator) -> Predict:
        if self.error:
            raise self.error
        return Linear()(x, answers, several, rng)


def rows(questions: list[Any]) -> list[int]:
    return [one.row for one in questions]


# ------------------------------------------------------------ who is asked what


def test_annotators_at_once_are_never_asked_the_same_clip(make):
    desk = make(n=80, batch=30)
    with ThreadPoolExecutor(8) as threads:
        given = list(threads.map(lambda i: rows(desk.next(f"ann{i}", 5)), range(8)))
    asked = [row for one in given for row in one]
    assert len(asked) == len(set(asked)) == 40


def test_with_overlap_two_annotators_are_asked_the_same_clips_and_a_third_is_not(make):
    desk = make(overlap=2, batch=8)
    first, second = rows(desk.next("a", 5)), rows(desk.next("b", 5))
    assert first == second
    third = rows(desk.next("c", 5))
    assert not set(first) & set(third)


def test_with_overlap_what_one_has_answered_is_asked_of_another_after_the_next_query_too(make):
    desk = make(overlap=2, batch=4)
    mine = rows(desk.next("a", 4))
    asked = desk.next("a", 4)[0].query
    for row in mine:
        desk.answer(said(desk, row, "a", query=asked))
    desk.learn()
    for_b = desk.next("b", 4)
    assert rows(for_b) == mine
    assert {one.query for one in for_b} == {asked}  # by the query that asked first, not the newest
    desk.answer(said(desk, mine[0], "b"))
    assert mine[0] not in rows(desk.next("c", 40))


def test_what_was_answered_is_not_asked_again_of_anybody(make):
    desk = make()
    row = desk.next("a")[0].row
    desk.answer(said(desk, row, "a"))
    assert row not in rows(desk.next("a", 40)) + rows(desk.next("b", 40))
    desk.learn()
    assert row not in rows(desk.next("a", 40)) + rows(desk.next("b", 40))


@pytest.mark.parametrize("kind", ["unknown", "skip"])
def test_unknown_and_skipped_clips_are_not_asked_again_and_teach_no_class(make, kind):
    desk = make()
    teach(desk, range(8))
    row = desk.next("a")[0].row
    known = taught(desk.record, desk.told.usable)[0].tolist()
    desk.answer(said(desk, row, "a", kind))
    desk.learn()
    assert taught(desk.record, desk.told.usable)[0].tolist() == known
    assert row not in rows(desk.next("a", 40))


def test_what_somebody_left_unanswered_comes_first_when_they_come_back(make):
    desk = make()
    left = desk.next("a", 3)
    assert desk.next("a", 3) == left  # a reload of the page
    desk.answer(said(desk, left[1].row, "a"))
    teach(desk, [row for row in range(40) if row not in rows(left)][:8], "b")
    again = desk.next("a", 3)
    assert again[:2] == [left[0], left[2]]


def test_a_clip_is_handed_on_when_its_lease_has_run_out(make, monkeypatch):
    desk = make(n=6, batch=6)
    mine = rows(desk.next("a", 6))
    assert desk.next("b", 6) == []
    monkeypatch.setattr(leases, "LEASE_S", 0.0)
    assert sorted(rows(desk.next("b", 6))) == sorted(mine)


def test_undo_asks_again(make):
    desk = make()
    first = desk.next("a")[0]
    desk.answer(said(desk, first.row, "a", query=first.query))
    desk.learn()
    undone = desk.take_back("undo-1", "a")
    assert undone.clip == desk.told.clips[first.row].id and not desk.record.answered[first.row]
    again = desk.next("a")[0]
    assert (again.row, again.query) == (first.row, first.query)
    assert first.row not in rows(desk.next("b", 40))
    assert [one.kind for one in history(desk.store, undone.clip)] == ["label", "undo"]


def test_undo_sent_twice_takes_one_answer_back(make):
    desk = make()
    for row in (0, 1):
        desk.answer(said(desk, row, "a"))
    assert desk.take_back("u", "a") == desk.take_back("u", "a")
    assert sorted(desk.record.settled) == [0]


def test_nothing_to_undo_is_said(make):
    desk = make()
    desk.answer(said(desk, 0, "a"))
    with pytest.raises(AudiorepError, match="b has nothing to undo"):
        desk.take_back("u", "b")


def test_clips_that_cannot_be_decoded_are_never_asked_shown_as_alike_or_learned_from(make, tmp_path):
    usable = np.arange(40) % 5 != 0
    desk = make(usable=usable, batch=30)
    bad = set(np.flatnonzero(~usable).tolist())
    assert not bad & set(rows(desk.next("a", 40)) + desk.alike(1, "b", 40))
    teach(desk, range(12))
    assert not bad & set(taught(desk.record, desk.told.usable)[0].tolist())
    assert not bad & set(rows(desk.next("c", 40)))
    assert not bad & {row for group in clusters(desk) for row in group.rows}
    assert not bad & {row for row, _, _ in desk.review("d", 40)}


def test_a_clip_that_turns_out_to_be_corrupt_is_not_asked_any_more(make):
    desk = make()
    row = desk.next("a")[0].row
    desk.spoil(row)
    assert row not in rows(desk.next("a", 40)) + rows(desk.next("b", 40))


def test_rows_that_judge_are_never_asked_and_never_learned_from(make):
    held_out = np.arange(40) % 4 == np.arange(40) // 4 % 4  # ten, of all kinds
    head = Recording()
    desk = make(held_out=held_out, head=head, batch=30)
    judges = set(np.flatnonzero(held_out).tolist())
    for row in judges:
        desk.answer(said(desk, row, "corpus"))
    asked = rows(desk.next("a", 40))
    assert asked and not judges & set(asked + desk.alike(0, "b", 40)[1:])
    teach(desk, asked[:16], "a")
    trained = {tuple(x) for x in head.x.tolist()}
    assert len(trained) == 16
    assert not trained & {tuple(x) for x in desk.told.x[sorted(judges)].tolist()}
    assert desk.history[-1].held_out is not None


class Recording(Head):
    """Keeps what it was given."""

    passes = False
    x = torch.empty(0, 0)

    def __call__(self, x: torch.Tensor, answers: Answers, several: bool, rng: torch.Generator) -> Predict:
        self.x, self.answers = x, answers
        return Linear()(x, answers, several, rng)


def test_two_desks_on_one_store_see_each_others_answers_and_neither_asks_them(make, tmp_path):
    one = make()
    two = Desk(open_store(tmp_path / "labels.sqlite"), one.told, one.settings, CLASSES)
    two.learn()
    row = one.next("a")[0].row
    one.answer(said(one, row, "a"))
    assert row not in rows(two.next("b", 40))
    two.answer(said(two, (row + 1) % 40, "b", labels={"a new one": True}))
    one.next("a")
    assert one.record.answered.sum() == 2 and one.record.classes[-1] == "a new one"
    assert one.record.settled[(row + 1) % 40].labels == {"a new one": True}
    one.take_back("u", "a")
    two.poll()
    assert two.record.answered.sum() == 1
    two.close()


def test_the_same_seed_asks_the_same_questions(make):
    asked = []
    for seed in (3, 3, 4):
        desk = make(seed=seed, x=noisy(40), selector=Random(), first=Random())
        before = rows(desk.next("a", 8))
        for row in before:
            desk.answer(said(desk, row, "a"))
        desk.learn()
        asked.append((before, rows(desk.next("a", 8))))
        for i in range(8):
            desk.take_back(f"{len(asked)}-{i}", "a")
    assert asked[0] == asked[1] != asked[2]


def test_a_new_desk_knows_what_was_answered_before(make):
    desk = make()
    teach(desk, range(10))
    desk.answer(said(desk, 20, labels={"hoot": True}))
    again = make()
    assert sorted(again.record.settled) == [*range(10), 20]
    assert again.record.classes == [*CLASSES, "hoot"]
    assert again.round.p is not None
    assert not set(rows(again.next("b", 40))) & {*range(10), 20}


def test_a_corpus_without_labels_or_classes_can_be_begun(make):
    desk = make(classes=[])
    assert len(desk.next("a", 3)) == 3
    desk.add_class("hoot")
    desk.answer(said(desk, 0, labels={"hoot": True}))
    desk.answer(said(desk, 1, labels={"croak": True}))
    desk.learn()
    assert desk.record.classes == ["hoot", "croak"] and desk.round.p is not None


def test_an_unknown_clip_is_refused_and_nothing_is_stored(make):
    desk = make()
    with pytest.raises(AudiorepError, match="no clip 'nowhere'"):
        desk.answer(replace(said(desk, 0), clip="nowhere"))
    assert answers_since(desk.store) == []


@pytest.mark.parametrize("labels", [{"up": True, "down": True}, {"up": False}, {"up": True, "down": False}])
def test_where_a_clip_has_one_class_other_answers_are_refused_and_not_learned_from(make, labels):
    desk = make()
    with pytest.raises(AudiorepError, match="one class that is there is needed"):
        desk.answer(said(desk, 0, labels=labels))
    add_answer(desk.store, said(desk, 0, labels=labels))  # from a page that was told labels.multilabel=true
    desk.poll()
    assert taught(desk.record, desk.told.usable)[0].tolist() == []


def test_every_question_is_kept_with_its_query_model_and_score(make):
    desk = make()
    teach(desk, range(8))
    asked = desk.next("a", 4)
    query = get_query(desk.store, asked[0].query)
    assert query == last_query(desk.store)
    assert query.model == desk.round.model == f"head-{answers_since(desk.store)[-1].id}"
    assert [desk.told.clips[row].id for row in rows(asked)] == list(query.scores)[:4]
    assert [one.score for one in asked] == list(query.scores.values())[:4]
    assert [(one.rank, one.of) for one in asked] == [(i + 1, 12) for i in range(4)]


# ------------------------------------------------------------ learning behind


def test_answers_do_not_wait_for_a_head_that_learns_slowly_and_a_new_batch_follows(make):
    head = Waiting()
    desk = make(learned=False, head=head, batch=6)
    desk.open()
    assert desk.round.number == 1 and desk.round.p is None
    for row in range(FIRST):
        desk.answer(said(desk, row))
    assert head.begun.wait(20)
    before = desk.round
    asked = rows(desk.next("b", 3))
    with ThreadPoolExecutor(1) as other:  # which would hang here if learning held the lock
        for row in asked:
            other.submit(desk.answer, said(desk, row, "b")).result(20)
        assert other.submit(desk.take_back, "u", "b").result(20)
        assert other.submit(desk.alike, 30, "b", 5).result(20)
    assert desk.round is before
    head.may.set()
    until(lambda: desk.round.p is not None)
    assert desk.round.number > before.number
    assert not set(rows(desk.next("c", 40))) & {*range(FIRST), *asked}


def test_learning_begins_after_a_batch_of_answers_and_not_before(make):
    desk = make(learned=False, batch=4)
    desk.open()
    for row in range(3):
        desk.answer(said(desk, row))
    assert desk.round.number == 1
    desk.answer(said(desk, 3))
    until(lambda: desk.round.number == 2)


def test_corrected_labels_are_learned_as_new_ones_are(make):
    desk = make(learned=False, batch=4)
    for row in range(40):
        add_answer(desk.store, said(desk, row, "corpus", source="import"))
    desk.open()
    assert desk.record.answered.all()
    before = desk.round
    for row in range(4):
        desk.answer(said(desk, row, "a", labels={"other": True}))
    until(lambda: desk.round is not before)


def test_asking_for_more_than_there_is_does_not_learn_in_circles(make):
    desk = make(n=12, batch=4)
    assert len(desk.next("a", 12)) == 6
    assert desk.due.is_set()  # there are more
    desk.due.clear()
    desk.learn()
    assert len(desk.next("a", 12)) == 12  # of two queries, without an answer between
    desk.due.clear()
    for _ in range(5):
        assert desk.next("b", 3) == []
    assert not desk.due.is_set()
    assert (
        len(desk.history) == 1
    )  # nothing was answered: no point of the curve, and no agreement of a model with itself


def test_the_learning_curve_goes_on_when_the_page_is_served_again(make):
    desk = make(batch=4)
    teach(desk, range(8))
    teach(desk, range(8, 16))
    curve = list(desk.history)
    assert [one.labels for one in curve] == [0, 8, 16]
    again = make(told=desk.told, batch=4)
    assert again.history == curve  # nothing was answered since: no point is added
    teach(again, range(16, 20))
    assert [one.labels for one in again.history] == [0, 8, 16, 20]


@pytest.mark.parametrize("error", [RuntimeError("no memory\nleft"), MemoryError()])
def test_a_head_that_fails_leaves_questions_and_says_so_and_recovers(make, error):
    head = Failing()
    desk = make(head=head, batch=4)
    teach(desk, range(8))
    guesses, points = desk.round.p, len(desk.history)
    head.error = error
    for i in range(3):  # more than one query is left
        for one in desk.next("a", 4):
            desk.answer(said(desk, one.row, "a"))
        desk.learn()
        assert desk.failed == (str(error) or "MemoryError").splitlines()[0]
        assert len(desk.next("a", 4)) == 4, i
    assert desk.round.p is guesses and len(desk.history) == points
    head.error = None
    desk.answer(said(desk, desk.next("a")[0].row, "a"))
    desk.learn()
    assert desk.failed == "" and desk.round.p is not guesses


def test_a_head_that_fails_does_not_end_the_learning_thread(make):
    head = Failing(ValueError("broken"))
    desk = make(learned=False, head=head, batch=4)
    desk.open()
    for row in range(4):
        desk.answer(said(desk, row))
    until(lambda: desk.failed == "broken")
    head.error = None
    for row in range(4, 8):
        desk.answer(said(desk, row))
    until(lambda: desk.round.p is not None and not desk.failed)


def test_closing_waits_for_learning_and_lets_go_of_the_store(make, tmp_path):
    head = Waiting()
    desk = make_desk(tmp_path, head=head, batch=2)
    desk.open()
    for row in (0, 1):
        desk.answer(said(desk, row))
    assert head.begun.wait(20)
    closing = threading.Thread(target=desk.close)
    closing.start()
    closing.join(0.2)
    assert closing.is_alive()
    head.may.set()
    closing.join(20)
    assert not closing.is_alive() and not desk.worker.is_alive()


# ------------------------------------------------------------ noise


def test_noise_is_a_class_of_its_own_that_is_guessed_and_not_asked_again(make):
    desk = make(classes=CLASSES[:3])
    for row in range(12):
        desk.answer(said(desk, row, **({"kind": "noise", "labels": {}} if row % 4 == 3 else {})))
    desk.learn()
    rows_taught, answers, classes = taught(desk.record, desk.told.usable)
    assert classes == (*CLASSES[:3], NOISE) and desk.record.classes == [*CLASSES[:3]]  # no class to answer with
    assert answers[rows_taught.tolist().index(3)].tolist() == [0.0, 0.0, 0.0, 1.0]
    assert {desk.round.guess(row, 1)[0][0] for row in range(15, 40, 4)} == {NOISE}
    assert {desk.round.guess(row, 1)[0][0] for row in range(12, 40, 4)} == {"up"}
    assert desk.history[-1].labels == 12
    desk.answer(said(desk, 15, kind="noise"))
    assert desk.guesses[15] == (NOISE, 1)


def test_calls_of_one_class_and_noise_are_enough_to_learn(make):
    desk = make(classes=["up"])
    for row in (0, 4, 8, 1, 5, 9):
        desk.answer(said(desk, row, kind="label" if row % 4 == 0 else "noise"))
    desk.learn()
    assert [desk.round.guess(row, 1)[0][0] for row in (12, 13)] == ["up", NOISE]


def test_a_class_that_is_called_noise_is_the_same(make):
    desk = make(classes=["up", NOISE])
    for row, more in ((0, {}), (1, {"labels": {NOISE: True}}), (5, {"kind": "noise"})):
        desk.answer(said(desk, row, **more))
    _, answers, classes = taught(desk.record, desk.told.usable)
    assert classes == ("up", NOISE) and answers.tolist() == [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]


def test_models_are_compared_by_the_names_of_classes_when_one_is_added_before_noise(make):
    desk = make(classes=CLASSES[:3])
    for row in range(12):
        desk.answer(said(desk, row, **({"kind": "noise", "labels": {}} if row % 4 == 3 else {})))
    desk.learn()
    desk.add_class("hoot")
    desk.answer(said(desk, 12))
    desk.learn()
    assert desk.round.classes == (*CLASSES[:3], "hoot", NOISE)
    assert desk.history[-1].kappa == 1.0


def test_groups_like_what_was_called_noise_come_last(make):
    desk = make()
    for row in (0, 1, 2):
        desk.answer(said(desk, row))
    assert {row % 4 for row in clusters(desk, 4)[0].rows} == {3}
    desk.answer(said(desk, 3, kind="noise"))
    desk.answer(said(desk, 7, kind="noise"))
    assert clusters(desk, 4)[0].novelty < 0.5


# ------------------------------------------------------------ several labels


def test_several_labels_noise_and_what_was_not_said_are_learned_as_such(make):
    head = Recording()
    desk = make(several=True, head=head)
    desk.answer(said(desk, 0, labels={"up": True, "down": False}))
    desk.answer(said(desk, 1, labels={"down": True, "up": False}))
    desk.answer(said(desk, 2, kind="noise"))
    desk.answer(said(desk, 3, kind="unknown"))
    desk.learn()
    nan = math.nan
    wanted = [[1, 0, nan, nan], [0, 1, nan, nan], [0, 0, 0, 0]]
    np.testing.assert_array_equal(head.answers.numpy(), np.array(wanted, np.float32))
    np.testing.assert_array_equal(head.x, desk.told.x[:3])
    assert desk.round.p.shape == (40, 4) and desk.next("a")


# ------------------------------------------------------------ figures


def test_figures_equal_those_counted_by_hand():
    nan = math.nan
    before = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7], [0.1, 0.9]], np.float32)
    now = np.array([[0.7, 0.3], [0.1, 0.9], [0.4, 0.6], [0.3, 0.7], [0.9, 0.1]], np.float32)
    truth = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    guesses = [("a", 0)] * 30 + [("a", 1)] * 20  # the last 40: 20 wrong, 20 right
    found = progress.figures(7, now, before, np.arange(4), np.array([0, 1, 4]), truth, guesses, False)
    # kappa on rows 0 to 3: decisions 0 1 1 1 and 0 0 1 1, observed 3/4, by chance (1 * 2 + 3 * 2) / 16
    assert found.labels == 7
    assert found.kappa == pytest.approx((3 / 4 - 1 / 2) / (1 - 1 / 2))
    assert found.held_out == pytest.approx((1.0 + 0.5) / 2)
    assert found.guessed == 0.5
    first = progress.figures(2, None, None, np.arange(4), np.empty(0, np.int64), torch.empty(0, 2), [], False)
    assert first == progress.Figures(2, None, None, None)
    several = np.array([[0.9, 0.6], [0.2, 0.7]], np.float32)
    answers = torch.tensor([[1.0, nan], [0.0, nan]])
    found = progress.figures(2, several, 1.0 - several, np.arange(2), np.arange(2), answers, [], True)
    assert found.held_out == 1.0
    # decisions 1 1 0 1 and 0 0 1 0: none alike, by chance (3 * 1 + 1 * 3) / 16
    assert found.kappa == pytest.approx((0.0 - 6 / 16) / (1 - 6 / 16))


def test_models_that_decide_for_one_class_throughout_have_no_agreement_to_stop_at():
    same = np.zeros((5, 3), np.float32)
    same[:, 1] = 1.0
    found = progress.figures(3, same, same, np.arange(5), np.empty(0, np.int64), torch.empty(0, 3), [], False)
    assert found.kappa is None
    assert progress.hint([found] * 5) == ""


@pytest.mark.parametrize(
    "kappas, stops",
    [([0.99, 1.0, 0.995], True), ([0.5, 1.0, 1.0, 1.0], True), ([1.0, 1.0], False), ([1.0, 0.98, 1.0], False),
     ([1.0, None, 1.0], False)],
)  # fmt: skip
def test_the_hint_to_stop_comes_after_three_models_that_agree(kappas, stops):
    assert bool(progress.hint([progress.Figures(10, None, k, None) for k in kappas])) is stops


def test_guesses_are_counted_as_right_or_wrong_only_where_the_model_had_not_heard_the_answer(make):
    desk = make()
    teach(desk, range(8))
    assert desk.history[-1].guessed is None  # nothing was guessed when these were asked
    guessed = {row: desk.round.guess(row, 1)[0][0] for row in (8, 9, 10, 11)}
    wrong = next(name for name in CLASSES if name != guessed[11])
    answers = [said(desk, row, labels={guessed[row]: True}) for row in (8, 9, 10)] + [
        said(desk, 11, labels={wrong: True})
    ]
    for answer in answers:
        desk.answer(answer)
        desk.answer(answer)  # sent twice
    desk.answer(said(desk, 0, "b"))  # learned before
    desk.learn()
    assert desk.history[-1].guessed == 0.75
    desk.take_back("u", "ann")
    desk.answer(said(desk, 12, kind="unknown"))
    desk.learn()
    assert desk.history[-1].guessed == 1.0
    desk.answer(said(desk, 13, kind="noise"))  # guessed as a call
    desk.learn()
    assert desk.history[-1].guessed == 0.75


def test_the_guess_is_the_likeliest_classes_with_their_probabilities(make):
    desk = make()
    assert desk.round.guess(0) == []
    teach(desk, range(12))
    p = desk.round.p[20]
    order = np.argsort(-p)[:3]
    assert desk.round.guess(20) == [(CLASSES[c], pytest.approx(float(p[c]))) for c in order]
    assert desk.round.guess(20)[0][0] == CLASSES[0]
    desk.add_class("later")  # the model was made before
    assert len(desk.round.guess(20)) == 3


def test_neighbours_are_the_nearest_answered_clips(make):
    desk = make()
    assert desk.neighbours(0) == []
    teach(desk, range(1, 9))
    desk.answer(said(desk, 20, kind="noise"))
    found = desk.neighbours(0)
    x = desk.told.x.double()
    apart = {row: float(((x[row] - x[0]) ** 2).mean().sqrt()) for row in range(1, 9)}
    nearest = sorted(apart, key=apart.__getitem__)[:NEIGHBOURS]
    assert [(row, name) for row, name, _ in found] == [(row, CLASSES[row % 4]) for row in nearest]
    assert [d for _, _, d in found] == pytest.approx([apart[row] for row in nearest], rel=1e-4)


def test_look_alikes_are_the_nearest_that_nobody_has_answered_or_before_them(make):
    desk = make()
    teach(desk, [4, 8])
    others = set(rows(desk.next("b", 3)))
    found = desk.alike(0, "a", 6)
    x = desk.told.x.double()
    apart = ((x - x[0]) ** 2).sum(1)
    free = [row for row in apart.argsort().tolist() if row not in {0, 4, 8} | others]
    assert found == [0, *free[:5]]
    assert not set(found) & set(rows(desk.next("c", 40)))
    assert desk.alike(4, "a", 3)[0] == 4  # answered, and still the one that the others are like
    assert desk.alike(0, "d", 1) == [0]


# ------------------------------------------------------------ review


def test_detections_are_reviewed_from_the_lowest_score_up_until_somebody_has_judged_them(make):
    detected = {3: ("down", 0.9), 7: ("up", 0.2), 12: ("flat", 0.5), 5: ("up", 0.4)}
    usable = np.arange(40) != 12
    desk = make(detected=detected, usable=usable)
    assert desk.review("a", 9) == [(7, "up", 0.2), (5, "up", 0.4), (3, "down", 0.9)]
    assert desk.review("b", 9) == []  # they are before a
    for row in (7, 5):
        desk.answer(said(desk, row, "a"))
    assert desk.review("a", 9) == [(3, "down", 0.9)]


def test_without_detections_the_labels_that_the_model_doubts_most_come_first_to_those_who_did_not_give_them(make):
    desk = make()
    for row in range(16):
        wrong = {"labels": {CLASSES[(row + 1) % 4]: True}} if row == 6 else {}
        desk.answer(said(desk, row, "b", **wrong))
    assert desk.review("a", 9) == []  # there is no model yet
    desk.learn()
    found = desk.review("a", 16)
    assert found[0][:2] == (6, CLASSES[3])
    scores = [score for _, _, score in found]
    assert scores == sorted(scores) and len(found) == 16
    assert scores[0] == pytest.approx(float(desk.round.p[6, 3]))
    assert desk.review("b", 9) == []  # one's own
    desk.answer(said(desk, 6, "a"))
    assert 6 not in [row for row, _, _ in desk.review("a", 16)]
    assert 6 not in [row for row, _, _ in desk.review("c", 16)]  # two have looked


def test_imported_labels_are_reviewed_once_and_denied_classes_by_what_the_model_thinks_of_them(make):
    desk = make(several=True)
    for row in range(16):
        labels = {name: name == CLASSES[row % 4] for name in CLASSES}
        desk.answer(said(desk, row, "corpus", source="import", labels=labels))
    desk.learn()
    found = desk.review("a", 64)
    assert len(found) == 64
    q = {(row, name): score for row, name, score in found}
    assert q[0, "up"] == pytest.approx(float(desk.round.p[0, 0]))
    assert q[0, "down"] == pytest.approx(1.0 - float(desk.round.p[0, 1]))
    desk.answer(said(desk, 0, "a"))
    assert 0 not in [row for row, _, _ in desk.review("b", 64)]


# ------------------------------------------------------------ what annotators agree about


def test_what_annotators_differ_about_is_known_and_gone_once_it_is_settled(make):
    desk = make(overlap=2)
    for row in (0, 1, 2):
        desk.answer(said(desk, row, "a"))
    desk.answer(said(desk, 0, "b"))
    desk.answer(said(desk, 1, "b", labels={"other": True}))
    desk.answer(said(desk, 2, "b", "skip"))
    assert desk.record.differing == {1}
    assert desk.record.tally == {"a": 3, "b": 3}
    assert 1 not in taught(desk.record, desk.told.usable)[0]
    desk.answer(said(desk, 1, "c", source="adjudication"))
    assert desk.record.differing == set() and 1 in taught(desk.record, desk.told.usable)[0]
    assert +desk.record.tally == {"a": 3, "b": 3}
    desk.take_back("u", "c")
    assert desk.record.differing == {1}
    desk.take_back("v", "b")
    desk.take_back("w", "b")
    assert desk.record.differing == set() and +desk.record.tally == {"a": 3, "b": 1}


# ------------------------------------------------------------ discover


def test_groups_are_of_one_kind_each_nearest_to_the_middle_first_and_leave_out_what_is_answered(make):
    desk = make()
    teach(desk, [0, 1])
    found = clusters(desk, 4)
    assert len(found) == 4
    assert [{row % 4 for row in group.rows} for group in found] == [{k} for k in (group.rows[0] % 4 for group in found)]
    assert sorted(row for group in found for row in group.rows) == list(range(2, 40))
    assert [group.size for group in found] == [len(group.rows) for group in found]
    for group in found:
        x = desk.told.x[group.rows]
        apart = (x - x.mean(0)).square().sum(1)
        assert (apart.diff() >= -1e-4).all()


def test_groups_far_from_every_answer_are_the_newest(make):
    desk = make()
    assert [group.novelty for group in clusters(desk, 4)] == [1.0] * 4  # as nothing was answered
    for row in (0, 1, 2):
        desk.answer(said(desk, row))
    found = clusters(desk, 4)
    assert found[0].rows[0] % 4 == 3
    novelty = [group.novelty for group in found]
    assert novelty == sorted(novelty, reverse=True)
    x = desk.told.x
    middle = x[found[0].rows].mean(0)
    usual = (2.0 * x[desk.unanswered()].var(0).sum()).sqrt()
    assert novelty[0] == pytest.approx(float((x[:3] - middle).norm(dim=1).min() / usual), rel=1e-4)


def test_few_clips_and_none_are_grouped(make):
    desk = make(n=3)
    assert sorted(group.size for group in clusters(desk)) == [1, 1, 1]
    desk.answer(said(desk, 0))
    desk.answer(said(desk, 1))
    assert [group.rows for group in clusters(desk)] == [[2]]
    desk.answer(said(desk, 2))
    assert clusters(desk) == []


def test_told_lengths_are_those_of_the_recordings(tmp_path):
    assert set(told_of(tmp_path, 15).length_s) == {5.0, 2.5}
