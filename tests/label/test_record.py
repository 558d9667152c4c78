"""The record: what is said of a row and what that comes to, as answers come, change and go."""

from audiorep.label.answer import Answer
from audiorep.label.leases import Leases
from audiorep.label.record import Record
from audiorep.label.round import Question


def said(annotator: str, name: str = "owl", kind: str = "label", source: str = "page") -> Answer:
    labels = {name: True} if kind == "label" else {}
    return Answer(f"{annotator} {name}", "clip", annotator, kind, labels, source, query=7)


def record(overlap: int = 2) -> Record:
    return Record(4, ["owl", "wren"], several=False, overlap=overlap)


def test_a_row_waits_for_further_annotators_until_it_has_as_many_as_are_wanted():
    found = record(overlap=2)
    found.take_in(1, [said("ann")])
    assert list(found.begun) == [1] and found.begun[1].query == 7 and found.begun[1].rank == 0
    found.take_in(1, [said("ann"), said("bob")])
    assert not found.begun and found.settled[1].how == "agreed"
    found.take_in(2, [said("ann", kind="skip")])
    assert not found.begun, "a skip begins nothing"
    found.take_in(3, [said("corpus", source="import")])
    assert not found.begun, "what was known before is not asked again"


def test_who_differs_is_known_until_they_agree_or_somebody_adjudicates():
    found = record()
    found.take_in(0, [said("ann"), said("bob", "wren")])
    assert found.differing == {0} and 0 not in found.settled and found.answered.tolist() == [True, False, False, False]
    found.take_in(0, [said("ann"), said("bob", "wren"), said("eve", "wren", source="adjudication")])
    assert not found.differing and found.settled[0].labels == {"wren": True} and found.tally == {"ann": 1, "bob": 1}
    found.take_in(0, [])
    assert not found.settled and not found.answered.any() and +found.tally == {}


def test_a_class_that_is_answered_with_is_a_class_from_then_on():
    found = record()
    found.take_in(0, [said("ann", "a new one")])
    found.add_class("owl")
    assert found.classes == ["owl", "wren", "a new one"]
    assert found.labels([0, 1]) == {0: ("a new one",)}


def test_what_was_left_unanswered_comes_back_first_what_was_taken_back():
    leases = Leases()
    asked, undone = Question(1, 0.5, 3, 9, 7), Question(2, 0.0, 0, 0, 7)
    leases.lease(1, "ann", asked)
    leases.lease(2, "ann", undone)
    leases.lease(2, "bob")
    assert leases.unanswered("ann") == [undone, asked] and leases.unanswered("bob") == []
    leases.lease(1, "ann")  # a reload of the page knows no question
    assert leases.question(1, "ann") == asked and leases.holders(2) == {"ann", "bob"}
    leases.release(2, "ann")
    leases.release(1, "ann")
    assert leases.rows() == [2] and leases.question(2, "ann") is None
