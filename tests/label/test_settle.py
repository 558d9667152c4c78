"""What answers come to: the last words, one answer a clip by rule, adjudication and counts."""

import itertools

import numpy as np
import pytest

from audiorep.label.answer import Answer, in_effect
from audiorep.label.journal import add_answer, undo
from audiorep.label.settle import (
    counts,
    current,
    majority,
    settle,
    settled,
    unanimous,
)

KEYS = (f"key{i}" for i in itertools.count())


def said(clip: str, annotator: str, labels: str = "", **more: object) -> Answer:
    """Of labels "a b -c": a and b are there, c is not."""
    names = {name.removeprefix("-"): not name.startswith("-") for name in labels.split()}
    return Answer(next(KEYS), clip, annotator, **{"labels": names, **more})


def words(answers: list[Answer], **how: object) -> tuple[str, dict[str, bool], str, tuple[str, ...]] | None:
    found = settle(answers, **how)
    return None if found is None else (found.kind, found.labels, found.how, found.annotators)


def test_the_last_word_of_each_annotator_counts(store, clips):
    add_answer(store, said(clips[0], "ann", "owl"))
    bob = add_answer(store, said(clips[0], "bob", "owl"))
    ann = add_answer(store, said(clips[0], "ann", "wren"))
    skipped = add_answer(store, said(clips[1], "bob", kind="skip"))
    assert current(store) == [bob, ann, skipped]
    assert current(store, annotator="bob") == [bob, skipped]
    assert current(store, clips=[clips[0], clips[5]]) == [bob, ann]
    assert current(store, clips=[]) == []


def test_two_annotators_agree_disagree_and_are_adjudicated(store, clips):
    for clip, ann, bob in zip(clips, ["owl", "owl", "owl"], ["owl", "wren", None], strict=False):
        add_answer(store, said(clip, "ann", ann))
        if bob:
            add_answer(store, said(clip, "bob", bob))
    add_answer(store, said(clips[3], "bob", kind="skip"))
    assert {one.clip: (one.labels, one.how, one.annotators) for one in settled(store)} == {
        clips[0]: ({"owl": True}, "agreed", ("ann", "bob")),
        clips[2]: ({"owl": True}, "agreed", ("ann",)),
    }
    assert settle(current(store, clips=[clips[1]])) is None
    last = add_answer(store, said(clips[1], "ann", kind="noise", source="adjudication"))
    judged = settle(current(store, clips=[clips[1]]))
    assert (judged.kind, judged.labels, judged.how, judged.answer) == ("noise", {}, "adjudicated", last)
    # beside the adjudication stays what its author said as an annotator
    assert [one.labels for one in current(store, clips=[clips[1]], annotator="ann")] == [{"owl": True}, {}]
    assert counts(store).labels == {"ann": {"owl": 3}, "bob": {"owl": 1, "wren": 1}}
    assert counts(store).kinds == {"ann": {"label": 3}, "bob": {"label": 2, "skip": 1}}
    undo(store, "undo", "ann", last.id)
    assert settle(current(store, clips=[clips[1]])) is None


def test_of_several_adjudications_the_last_one_stands():
    answers = [said("c", "ann", "a"), said("c", "eve", "b", source="adjudication"),
               said("c", "mia", "a", source="adjudication"), said("c", "bob", "b")]  # fmt: skip
    assert words(answers) == ("label", {"a": True}, "adjudicated", ("mia",))


def test_rules_find_what_all_or_most_say_or_nothing():
    assert [unanimous(votes) for votes in ("aaa", "a", "aab")] == ["a", "a", None]
    assert [majority(votes) for votes in ("aab", "a", "ab", "aabb", "aaabb", "aabc")] == [
        "a",
        "a",
        None,
        None,
        "a",
        None,
    ]


def test_a_majority_settles_what_not_all_say_and_the_box_is_that_of_its_last():
    answers = [said("c", "ann", "a", start_s=0.1, end_s=0.2), said("c", "bob", "b"), said("c", "eve", "a"),
               said("c", "mia", kind="skip")]  # fmt: skip
    assert settle(answers) is None
    assert words(answers, rule=majority) == ("label", {"a": True}, "voted", ("ann", "eve"))
    assert settle(answers, rule=majority).answer == answers[2]
    assert settle(answers[:2], rule=majority) is None
    assert settle(answers[3:]) is None
    assert settle([]) is None


@pytest.mark.parametrize(
    ("votes", "whole", "by_class"),
    [
        (["a", "a b"], None, {"a": True, "b": True}),
        (["a -b", "a"], None, {"a": True, "b": False}),
        (["a -b", "b"], None, None),
        (["a b", "b a"], {"a": True, "b": True}, {"a": True, "b": True}),
        (["-a", "-a"], {"a": False}, {"a": False}),
    ],
)  # fmt: skip
def test_where_clips_hold_several_calls_each_class_is_settled_by_itself(votes, whole, by_class):
    answers = [said("c", f"ann{i}", labels) for i, labels in enumerate(votes)]
    for several, expected in ((False, whole), (True, by_class)):
        found = settle(answers, several=several)
        assert (None if found is None else found.labels) == expected


def test_noise_denies_every_class_and_unknown_none():
    noise, unknown = said("c", "eve", kind="noise"), said("c", "eve", kind="unknown")
    ann, bob = said("c", "ann", "a"), said("c", "bob", "a b")
    assert words([ann, bob, noise], rule=majority, several=True) is None  # b: one for, one against
    assert words([ann, bob, unknown], rule=majority, several=True) == (
        "label", {"a": True, "b": True}, "voted", ("ann", "bob"))  # fmt: skip
    assert words([noise, said("c", "bob", kind="noise")], several=True) == ("noise", {}, "agreed", ("eve", "bob"))
    assert words([ann, unknown]) is None


def test_no_single_vote_need_be_the_result():
    answers = [said("c", "ann", "a b -c"), said("c", "bob", "a -b c"), said("c", "eve", "-a b c")]
    assert words(answers, rule=majority, several=True) == (
        "label", {"a": True, "b": True, "c": True}, "voted", ("ann", "bob", "eve"))  # fmt: skip


def test_what_counts_is_what_a_plain_reading_of_the_journal_says(store, clips):
    """Against a recursive definition, on random journals of answers and undos of everything that counts."""
    rng = np.random.default_rng(0)
    written: list[Answer] = []

    def counts_still(id: int) -> bool:
        return not any(one.undoes == id and counts_still(one.id) for one in written)

    for i in range(60):
        mine = [one for one in written if one.annotator == "ann" and counts_still(one.id)]
        if mine and rng.random() < 0.6:
            written.append(undo(store, f"u{i}", "ann", mine[rng.integers(len(mine))].id))
        else:
            written.append(add_answer(store, Answer(f"a{i}", clips[rng.integers(2)], "ann", labels={f"{i}": True})))
    plain = [one for one in written if one.kind != "undo" and counts_still(one.id)]
    assert in_effect(written) == plain
    last = {one.clip: one for one in plain}
    assert current(store) == sorted(last.values(), key=lambda one: one.id)
    assert 0 < len(plain) < sum(one.kind != "undo" for one in written)
