"""Answers are stored once, undone by further answers, and none is lost, whoever writes at the same time."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from audiorep.errors import AudiorepError
from audiorep.label.answer import Answer, check
from audiorep.label.clips import Clip, add_clips, clip_id, get_clips, relink
from audiorep.label.journal import add_answer, add_answers, answers_since, history, newest, undo
from audiorep.label.queries import add_query, get_query, last_query
from audiorep.label.settle import current


def owl(key: str, clip: str, annotator: str = "ann", **more: object) -> Answer:
    return Answer(key, clip, annotator, **{"labels": {"owl": True}, **more})


def test_an_answer_comes_back_as_it_was_given(store, clips):
    query = add_query(store, "model-1", "entropy", 3, {clips[0]: 0.5})
    before = datetime.now(UTC).isoformat(timespec="microseconds")
    given = Answer("k", clips[0], "Ann Ö.", labels={"owl": True, "wren": False, "ü-b": True}, start_s=0.1, end_s=0.30000001,
                   low_hz=100.0, high_hz=3999.5, model="model-1", query=query.id, comment="faint\nbut there")  # fmt: skip
    stored = add_answer(store, given)
    assert replace(stored, id=0, time="") == given
    assert history(store, clips[0]) == answers_since(store) == current(store) == [stored]
    assert before <= stored.time <= datetime.now(UTC).isoformat(timespec="microseconds")
    assert len(stored.time) == len("2026-01-01T00:00:00.000000+00:00")
    assert newest(store) == stored.id


def test_a_double_submit_is_stored_once_and_a_key_cannot_hide_another_answer(store, clips):
    first = add_answer(store, owl("k", clips[0]))
    assert add_answer(store, owl("k", clips[0])) == first
    assert add_answers(store, [owl("k", clips[0]), owl("new", clips[1]), owl("new", clips[1])])[0] == first
    assert [answer.key for answer in answers_since(store)] == ["k", "new"]
    for other in (owl("k", clips[1]), owl("k", clips[0], "bob"), owl("k", clips[0], labels={"owl": False})):
        with pytest.raises(AudiorepError, match=f"'k' belongs to another answer \\(id {first.id}\\)"):
            add_answer(store, other)


def test_many_answers_are_stored_all_or_none(store, clips):
    with pytest.raises(AudiorepError, match="there is no clip 'gone'"):
        add_answers(store, [owl("a", clips[0]), owl("b", "gone")])
    assert answers_since(store) == []
    many = [owl(f"k{i}", clips[i % 6]) for i in range(1200)]
    assert [answer.key for answer in add_answers(store, many)] == [answer.key for answer in many]
    assert [answer.key for answer in answers_since(store, limit=7)] == [f"k{i}" for i in range(7)]
    assert len(answers_since(store, answers_since(store)[999].id)) == 200
    assert answers_since(store, 10**30) == []


def test_undo_and_redo_are_answers_and_nothing_is_deleted(store, clips):
    first = add_answer(store, owl("1", clips[0]))
    second = add_answer(store, owl("2", clips[0], labels={"wren": True}))
    taken_back = undo(store, "3", "ann", second.id)
    assert (taken_back.kind, taken_back.undoes, taken_back.clip) == ("undo", second.id, clips[0])
    assert current(store) == [first]
    redone = undo(store, "4", "ann", taken_back.id)
    assert current(store) == [second]
    undo(store, "5", "ann", redone.id)
    assert current(store) == [first]
    undo(store, "6", "ann", first.id)
    assert current(store) == []
    assert [answer.key for answer in history(store, clips[0])] == ["1", "2", "3", "4", "5", "6"]


def test_undo_without_an_id_takes_the_annotators_last_answer_and_a_double_submit_only_one(store, clips):
    kept = [add_answer(store, owl(f"a{i}", clips[i])) for i in range(3)]
    add_answer(store, owl("b", clips[0], "bob"))
    add_answer(store, owl("i", clips[4], source="import"))
    for _ in range(2):
        assert undo(store, "u1", "ann").undoes == kept[2].id
    assert undo(store, "u2", "ann").undoes == kept[1].id
    assert undo(store, "u3", "ann").undoes == kept[0].id
    with pytest.raises(AudiorepError, match="ann has nothing to undo"):
        undo(store, "u4", "ann")
    assert [answer.annotator for answer in current(store)] == ["bob", "ann"]


def test_what_may_not_be_undone(store, clips):
    answer = add_answer(store, owl("1", clips[0]))
    with pytest.raises(AudiorepError, match="ann's, about clip .*: bob cannot undo it"):
        undo(store, "2", "bob", answer.id)
    with pytest.raises(AudiorepError, match="cannot undo it"):
        add_answer(store, Answer("2", clips[1], "ann", "undo", undoes=answer.id))
    undo(store, "3", "ann", answer.id)
    with pytest.raises(AudiorepError, match="is undone already"):
        undo(store, "4", "ann", answer.id)
    for id in (0, 999, 10**30):
        with pytest.raises(AudiorepError, match=f"there is no answer {id} to undo"):
            undo(store, "5", "ann", id)
    assert [answer.key for answer in history(store, clips[0])] == ["1", "3"]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"kind": "maybe"}, "answer.kind='maybe': say one of label, unknown, noise, skip, undo"),
        ({"source": "dream"}, "answer.source='dream': say one of page, import, adjudication"),
        ({"key": ""}, "answer.key=''"),
        ({"annotator": " ann"}, "answer.annotator=' ann'"),
        ({"annotator": "a|b"}, "answer.annotator='a|b'"),
        ({"labels": {"a\tb": True}}, "answer.label='a"),
        ({"labels": {"a|b": True}}, "answer.label='a|b'"),
        ({"labels": {"\ud800": True}}, "answer.label="),
        ({"labels": {}}, "names at least one class"),
        ({"kind": "noise"}, "others none"),
        ({"comment": "\0"}, "answer.comment"),
        ({"comment": "\ud800"}, "answer.comment"),
        ({"undoes": 1}, "others name none"),
        ({"kind": "undo", "labels": {}}, "names the one it undoes"),
        ({"start_s": 1.0}, "answer.start_s, end_s=1.0, None: both or neither"),
        ({"start_s": 1.0, "end_s": 1.0}, "the second above the first"),
        ({"low_hz": 0.0, "high_hz": float("inf")}, "answer.low_hz, high_hz=0.0, inf"),
        ({"low_hz": -1.0, "high_hz": 5.0}, "answer.low_hz, high_hz"),
        ({"query": 10**30}, "answer.query=1000"),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_refused_by_the_name_of_its_field(wrong, told):
    with pytest.raises(AudiorepError) as said:
        check(replace(owl("k", "clip"), **wrong))
    assert told in str(said.value)


def test_an_answer_about_what_the_store_does_not_know_is_refused(store, clips):
    for wrong, told in [
        ({"query": 7}, "answer.query=7: there is no such query"),
        ({"clip": "x' OR 1=1 --"}, 'there is no clip "x\' OR 1=1 --" in this store'),
        ({"kind": "noise"}, "others none"),
    ]:
        with pytest.raises(AudiorepError) as said:
            add_answer(store, replace(owl("k", clips[0]), **wrong))
        assert told in str(said.value)
    assert answers_since(store) == []


def test_eight_threads_lose_nothing_and_a_reader_misses_nothing(store, clips):
    """Some are sent twice, as by an impatient client; a poll sees every id once, in order, while they come."""
    done, seen = threading.Event(), []

    def poll() -> None:
        last = 0
        while True:
            finished = done.is_set()
            for answer in answers_since(store, last):
                seen.append(answer)
                last = answer.id
            if finished:
                return
            time.sleep(0.005)

    def write(thread: int) -> list[Answer]:
        out = []
        for i in range(50):
            answer = owl(f"{thread}-{i}", clips[i % 6], f"ann{thread % 2}")
            out.append(add_answer(store, answer))
            if i % 10 == 0:
                assert add_answer(store, answer) == out[-1]
        return out

    watcher = threading.Thread(target=poll)
    watcher.start()
    with ThreadPoolExecutor(8) as pool:
        stored = [answer for part in pool.map(write, range(8)) for answer in part]
    done.set()
    watcher.join()
    assert len({answer.id for answer in stored}) == 400
    assert seen == answers_since(store) == sorted(stored, key=lambda answer: answer.id)


def test_of_threads_that_send_the_same_key_or_undo_the_same_answer_one_gets_through(store, clips):
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda i: add_answer(store, owl(f"k{i % 5}", clips[0])).id, range(40)))
    assert len(ids) == len(answers_since(store)) == 5

    def take_back(i: int) -> bool:
        try:
            undo(store, f"u{i}", "ann", min(ids))
        except AudiorepError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take_back, range(8))) == 1


def test_queries_keep_their_clips_in_order_with_their_scores(store, clips):
    assert last_query(store) is None
    scores = {clips[2]: 0.9, clips[0]: float("inf"), clips[1]: float("nan"), clips[5]: None}
    query = add_query(store, "model-1", "batch_bald", 2**40, scores)
    assert get_query(store, query.id) == query == last_query(store)
    assert list(query.scores.items()) == [(clips[2], 0.9), (clips[0], float("inf")), (clips[1], None), (clips[5], None)]
    assert add_query(store, "", "random", 0, {}) == last_query(store)
    with pytest.raises(AudiorepError, match="there is no clip 'gone'"):
        add_query(store, "", "random", 0, {"gone": 1.0})
    with pytest.raises(AudiorepError, match="there is no query 99"):
        get_query(store, 99)


def test_clips_keep_their_ids_when_they_come_again_and_when_their_recordings_move(store, clips):
    def clip(path: str, start: int = 0, **more: object) -> Clip:
        place = path, start, start + 4000
        return Clip(clip_id(*place), *place, 8000, **more)

    assert clips == [clip(f"site/{name}.wav", 4000 * i).id for name in "ab" for i in range(3)]
    add_answer(store, owl("k", clips[0]))
    assert relink(store, {"site/a.wav": "north/a.wav", "site/c.wav": "x.wav"}) == 3
    assert add_clips(store, [clip("north/a.wav", group="north"), clip("new.wav"), clip("new.wav")]) == [
        clips[0], clip("new.wav").id, clip("new.wav").id]  # fmt: skip
    found = get_clips(store, [clips[0], "gone"])
    assert {id: (c.path, c.group, c.start_s, c.end_s) for id, c in found.items()} == {
        clips[0]: ("north/a.wav", "north", 0.0, 0.5)}  # fmt: skip
    assert len(get_clips(store)) == 7
    with pytest.raises(AudiorepError, match=r"north/a\.wav has the clips of new\.wav already"):
        relink(store, {"new.wav": "north/a.wav"})
    with pytest.raises(AudiorepError, match=r"site/a\.wav belong to a recording that was relinked"):
        add_clips(store, [clip("site/a.wav")])
    assert relink(store, {"north/a.wav": "site/b2.wav", "site/b.wav": "north/a.wav"}) == 6
    assert get_clips(store)[clips[0]].path == "site/b2.wav"


def test_ids_of_clips_differ_by_every_part_of_their_place():
    places = [("a", 1, 23, 0), ("a", 12, 3, 0), ("a\n1", 23, 0, 0), ("a", 1, 23, 1), ("b", 1, 23, 0)]
    assert len({clip_id(*place) for place in places}) == 5
    assert clip_id("a.wav", 0, 4000) == "dba72494918fcc575cde"  # for ever: stores hold it
