"""The addresses of the page: what they answer, and that nothing a browser can send brings them down or leads out."""

import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from desks import CLASSES, make_desk, said, teach
from PIL import Image
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from audiorep.data.formats.audacity import read_labels
from audiorep.data.formats.raven import read_table
from audiorep.data.formats.table import Table
from audiorep.data.manifest import read_corpus
from audiorep.errors import AudiorepError
from audiorep.label import journal
from audiorep.label.app import LONGEST_BODY, STATIC, make_app
from audiorep.label.clips import relink
from audiorep.label.desk import Desk
from audiorep.label.fields import MOST
from audiorep.label.journal import answers_since
from audiorep.label.page import KEYS, keys_of


class Client:
    """The page as a browser has it, and what is behind it."""

    def __init__(self, folder: Path, desk: Desk) -> None:
        self.folder, self.out, self.desk = folder, folder / "out", desk
        self.http = TestClient(make_app(desk, folder, self.out), base_url="http://127.0.0.1:8765")

    def get(self, path: str, **asked: Any) -> Any:
        answer = self.http.get(path, params=asked)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, sent: Any) -> Any:
        answer = self.http.post(path, json=sent)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, path: str, sent: Any = None, status: int = 400, **asked: Any) -> str:
        """The one line with which a request is refused; nothing was stored."""
        before = len(answers_since(self.desk.store))
        if sent is None:
            answer = self.http.get(path, params=asked)
        else:
            content = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
            answer = self.http.post(path, content=content, headers={"content-type": "application/json"})
        assert answer.status_code == status, answer.text
        assert len(answers_since(self.desk.store)) == before
        line = str(answer.json()["error"])
        assert line and "\n" not in line and len(line) < 700 and str(self.folder) not in line
        return line

    def card(self, annotator: str = "ann", **asked: Any) -> dict[str, Any]:
        return self.get("/api/next", annotator=annotator, **asked)["cards"][0]

    @property
    def answers(self) -> list[Any]:
        return answers_since(self.desk.store)


def sent(clip: str, key: str = "k", **more: Any) -> dict[str, Any]:
    return {"key": key, "clip": clip, "annotator": "ann", "kind": "label", "labels": {"up": True}} | more


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Client]]:
    made: list[Desk] = []

    def one(**changes: Any) -> Client:
        made.append(make_desk(tmp_path, **changes))
        made[-1].learn()
        return Client(tmp_path, made[-1])

    yield one
    for desk in made:
        desk.close()


@pytest.fixture
def page(make: Callable[..., Client]) -> Client:
    """Of a corpus without answers."""
    return make()


# ------------------------------------------------------------ looking


def test_the_page_and_its_parts_are_served_and_nothing_else(page):
    assert "<title>audiorep label</title>" in page.http.get("/").text
    for path in STATIC.iterdir():
        assert page.http.get(f"/static/{path.name}").content == path.read_bytes()
    for path in ("/static/", "/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/labels.sqlite", "/api/",
                 "/api/clip/../../labels.sqlite", "/docs", "//etc/passwd"):  # fmt: skip
        assert page.http.get(path).status_code == 404, path


def test_the_page_names_no_other_site():
    for path in STATIC.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text and "https://" not in text and "//cdn" not in text, path


def test_the_state_says_all_that_stands_around_the_question(make):
    page = make(overlap=2, usable=np.arange(40) != 39)
    empty = page.get("/api/state")
    assert empty["answered"] == 0 and empty["annotators"] == {} and empty["model"] == "" and empty["hint"] == ""
    assert [one["name"] for one in empty["classes"]] == list(CLASSES)
    teach(page.desk, range(8))
    page.desk.answer(said(page.desk, 0, "b", labels={"other": True}))
    page.desk.answer(said(page.desk, 9, "b", kind="noise"))
    state = page.get("/api/state")
    assert {key: state[key] for key in ("clips", "answered", "unusable", "disagreements", "several", "failed")} == {
        "clips": 40, "answered": 9, "unusable": 1, "disagreements": 1, "several": False, "failed": "",
    }  # fmt: skip
    assert state["annotators"] == {"ann": 8, "b": 2}
    assert state["history"][-1]["labels"] == 8
    assert state["classes"][-1] == {"name": "other", "key": "o"} and state["selector"] == "margin"


def test_a_card_tells_where_the_clip_is_what_is_guessed_and_why_it_was_asked(page):
    teach(page.desk, range(8))
    card = page.card()
    row = page.desk.row[card["clip"]]
    clip = page.desk.told.clips[row]
    assert (card["name"], card["start_s"], card["end_s"]) == (clip.path, clip.start_s, clip.end_s)
    assert (card["rate_hz"], card["length_s"], card["problem"]) == (8000, 5.0, "")
    assert card["guess"][0]["name"] == page.desk.round.guess(row)[0][0]
    assert sum(one["p"] for one in card["guess"]) <= 1.001
    assert len(card["near"]) == 3 and {one["label"] for one in card["near"]} <= set(CLASSES)
    assert card["why"]["rank"] == 1 and card["why"]["of"] == 12 and card["why"]["selector"] == "margin"
    assert card["query"] == page.desk.round.questions[0].query and card["model"] == page.desk.round.model


def test_only_what_was_asked_by_a_query_names_it(make):
    page = make(detected={3: ("up", 0.5)})
    assert page.card()["query"] is not None
    assert page.card(mode="review")["query"] is None
    assert page.card(mode="alike", clip=page.desk.told.clips[0].id)["query"] is None
    assert page.get("/api/clusters")["clusters"][0]["cards"][0]["query"] is None


def test_no_more_cards_than_the_page_can_show_are_sent(make):
    page = make(n=120, batch=80)
    assert len(page.get("/api/next", annotator="a", count=10**9)["cards"]) == MOST
    assert len(page.get("/api/next", annotator="a", count=-5)["cards"]) == 1
    assert len(page.get("/api/next", annotator="a", count="2.7")["cards"]) == 2
    assert all(len(one["cards"]) <= MOST for one in page.get("/api/clusters", count=1000)["clusters"])


@pytest.mark.parametrize("count", ["nan", "inf", "many", "", "1" * 5000])
def test_a_count_that_is_no_number_is_refused(page, count):
    assert "count=" in page.refused("/api/next", annotator="a", count=count)


@pytest.mark.parametrize("name", ["", " ", None])
def test_who_does_not_say_who_they_are_is_asked_nothing(page, name):
    asked = {} if name is None else {"annotator": name}
    assert "say who you are" in page.refused("/api/next", **asked)
    assert "say who you are" in page.refused("/api/answer", sent(page.desk.told.clips[0].id) | {"annotator": name})


def test_an_unknown_mode_is_refused(page):
    assert "mode=guess: one of ask, review, alike, adjudicate" in page.refused("/api/next", annotator="a", mode="guess")


def test_review_shows_detections_with_their_claim(make):
    page = make(detected={3: ("down", 0.9), 7: ("up", 0.2)})
    cards = page.get("/api/next", mode="review", annotator="a", count=5)["cards"]
    assert [(page.desk.row[card["clip"]], card["why"]["claim"], card["why"]["score"]) for card in cards] == [
        (7, "up", 0.2), (3, "down", 0.9),
    ]  # fmt: skip
    assert {card["why"]["what"] for card in cards} == {"detected"} and page.get("/api/state")["detections"] == 2


def test_look_alikes_begin_with_the_clip_that_they_are_like(page):
    clip = page.desk.told.clips[5].id
    cards = page.get("/api/next", mode="alike", annotator="a", clip=clip, count=7)["cards"]
    assert cards[0]["clip"] == clip and len({card["clip"] for card in cards}) == 7
    assert "no clip" in page.refused("/api/next", mode="alike", annotator="a")


def test_disagreements_show_who_says_what_and_are_settled(make):
    page = make(overlap=2)
    page.desk.answer(said(page.desk, 0, "a"))
    page.desk.answer(said(page.desk, 0, "b", "noise"))
    card = page.card("c", mode="adjudicate")
    assert card["why"]["said"] == [
        {"annotator": "a", "kind": "label", "labels": {"up": True}}, {"annotator": "b", "kind": "noise", "labels": {}},
    ]  # fmt: skip
    page.post("/api/settle", sent(card["clip"], annotator="c"))
    assert page.answers[-1].source == "adjudication"
    assert page.get("/api/next", mode="adjudicate", annotator="c")["cards"] == []
    assert page.get("/api/state")["disagreements"] == 0
    assert page.desk.record.settled[0].how == "adjudicated"


def test_agreement_is_told_in_numbers_that_json_has(make):
    page = make(overlap=2)
    assert page.get("/api/agreement") == {
        "cohen": {},
        "fleiss": None,
        "fleiss_clips": 0,
        "alpha": None,
        "alpha_clips": 0,
    }
    for row in range(4):
        page.desk.answer(said(page.desk, row, "a"))
        page.desk.answer(said(page.desk, row, "b"))
    found = page.get("/api/agreement")
    assert found["cohen"] == {"a/b": [1.0, 4]} and found["fleiss"] == 1.0


# ------------------------------------------------------------ pictures and sound


def test_pictures_and_sound_of_a_clip(page):
    base = f"/api/clip/{page.desk.told.clips[3].id}"
    answer = page.http.get(f"{base}/spectrogram.png", params={"width": 220, "height": 96, "context": 0.1, "range": 40})
    assert answer.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(answer.content)).size == (220, 96)
    answer = page.http.get(f"{base}/sound.wav", params={"slower": 4, "context": 0})
    assert answer.headers["content-type"] == "audio/wav"
    info = soundfile.info(io.BytesIO(answer.content))
    assert info.duration == pytest.approx(2.0, abs=0.01) and info.samplerate == 8000


@pytest.mark.parametrize(
    "asked",
    [{"width": 10**9, "height": 10**9}, {"width": -1, "height": 0}, {"low": -5, "high": 1e9}, {"low": 3999, "high": 5},
     {"context": 1e9}, {"context": -3}, {"range": 0}],
)  # fmt: skip
def test_what_cannot_be_drawn_is_drawn_as_near_as_can_be(page, asked):
    answer = page.http.get(f"/api/clip/{page.desk.told.clips[3].id}/spectrogram.png", params=asked)
    assert answer.status_code == 200
    width, height = Image.open(io.BytesIO(answer.content)).size
    assert 50 <= width <= 2000 and 32 <= height <= 1000


@pytest.mark.parametrize("name", ["width", "context", "low", "high", "range"])
@pytest.mark.parametrize("value", ["nan", "wide", "", "-inf"])
def test_a_measure_that_is_no_number_is_refused(page, name, value):
    line = page.refused(f"/api/clip/{page.desk.told.clips[3].id}/spectrogram.png", **{name: value})
    assert line.startswith(f"{name}=")


@pytest.mark.parametrize(
    "clip", ["nothing", "..", "%2e%2e", "..%2f..%2fetc%2fpasswd", "000.wav", "000.wav%00", "x" * 3000]
)
@pytest.mark.parametrize("what", ["spectrogram.png", "sound.wav"])
def test_only_ids_of_clips_lead_to_a_file(page, clip, what):
    answer = page.http.get(f"/api/clip/{clip}/{what}")
    assert answer.status_code in (400, 404)
    assert "\n" not in answer.text and str(page.folder) not in answer.text and len(answer.text) < 700


def test_a_recording_that_was_moved_is_said_on_the_card_and_found_again_by_relink_without_a_new_start(page):
    clip = page.desk.told.clips[0]
    elsewhere = page.folder / "elsewhere"
    elsewhere.mkdir()
    (page.folder / clip.path).rename(elsewhere / clip.path)
    card = page.get("/api/next", mode="alike", annotator="a", clip=clip.id)["cards"][0]
    assert card["problem"] == "000.wav is not where it was: audiorep relink finds it again"
    for what in ("spectrogram.png", "sound.wav"):
        line = page.refused(f"/api/clip/{clip.id}/{what}", status=404)
        assert line == "000.wav: no such file"
    assert page.desk.told.usable[0]  # it will be found
    relink(page.desk.store, {clip.path: f"elsewhere/{clip.path}"})
    assert page.get("/api/next", mode="alike", annotator="a", clip=clip.id)["cards"][0]["problem"] == ""
    assert page.http.get(f"/api/clip/{clip.id}/spectrogram.png").status_code == 200


@pytest.mark.parametrize("content", [b"", b"RIFF and no more", b"RIFF\x24\x00\x00\x00WAVEfmt "])
def test_a_recording_that_has_become_corrupt_is_said_and_its_clips_are_not_asked_again(page, content):
    card = page.card()
    (page.folder / card["name"]).write_bytes(content)
    line = page.refused(f"/api/clip/{card['clip']}/spectrogram.png", status=404)
    assert line.startswith(card["name"])
    assert page.get("/api/state")["unusable"] == 1
    again = (
        page.get("/api/next", annotator="ann", count=40)["cards"]
        + page.get("/api/next", annotator="b", count=40)["cards"]
    )
    assert card["clip"] not in [one["clip"] for one in again]
    shown = page.get("/api/next", mode="alike", annotator="a", clip=card["clip"])["cards"][0]
    assert shown["problem"] == "cannot be decoded"


def test_a_recording_replaced_by_one_of_another_rate_is_not_drawn(page):
    clip = page.desk.told.clips[0]
    soundfile.write(page.folder / clip.path, np.zeros(16000), 16000)
    assert "16000 Hz now, 8000 Hz when it was indexed" in page.refused(f"/api/clip/{clip.id}/sound.wav", status=404)


def test_a_recording_outside_the_folder_is_named_without_its_folder(make, tmp_path):
    page = make()
    clip = page.desk.told.clips[0]
    outside = tmp_path / "private" / "place"
    relink(page.desk.store, {clip.path: str(outside / "a.wav")})
    (page.folder / clip.path).unlink()
    assert page.refused(f"/api/clip/{clip.id}/sound.wav", status=404) == "a.wav: no such file"


# ------------------------------------------------------------ answering


def test_an_answer_is_stored_with_all_that_was_said(page):
    card = page.card()
    box = {"start_s": 0.1, "end_s": 0.4, "low_hz": 100, "high_hz": 2000.5}
    more = {"query": card["query"], "model": "head-3", "comment": "two of them,\nor three"}
    told = page.post("/api/answer", sent(card["clip"], **box, **more))
    stored = page.answers[-1]
    assert told == {"ids": [stored.id], "answered": 1}
    assert (stored.clip, stored.annotator, stored.labels, stored.source) == (card["clip"], "ann", {"up": True}, "page")
    assert (stored.query, stored.model) == (card["query"], "head-3")
    assert (stored.start_s, stored.end_s, stored.low_hz, stored.high_hz) == (0.1, 0.4, 100.0, 2000.5)
    assert stored.comment == "two of them,\nor three"


def test_an_answer_sent_twice_at_once_counts_once(page):
    answer = sent(page.card()["clip"])
    told: list[Any] = []
    threads = [threading.Thread(target=lambda: told.append(page.post("/api/answer", answer))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(page.answers) == 1
    assert [one["ids"] for one in told] == [[page.answers[0].id]] * 4


def test_a_key_that_belongs_to_another_answer_is_refused(page):
    first, second = (clip.id for clip in page.desk.told.clips[:2])
    page.post("/api/answer", sent(first))
    assert "answer.key='k' belongs to another answer" in page.refused("/api/answer", sent(second))


def test_several_answers_at_once_and_again(page):
    many = {"answers": [sent(clip.id, f"k{i}") for i, clip in enumerate(page.desk.told.clips[:5])]}
    told = page.post("/api/answer", many)
    assert page.post("/api/answer", many) == told and len(page.answers) == 5
    assert told["answered"] == 5


def test_of_several_answers_of_which_one_is_wrong_none_is_stored(page):
    good, bad = sent(page.desk.told.clips[0].id, "a"), sent(page.desk.told.clips[1].id, "b")
    for wrong in ({"clip": "nowhere"}, {"kind": "maybe"}, {"labels": {}}, {"start_s": 3.0}, {"annotator": ""}):
        page.refused("/api/answer", {"answers": [good, bad | wrong]})
    page.refused("/api/answer", {"answers": [good, "bad"]})


def test_an_answer_to_a_question_of_a_batch_that_is_over_is_kept_with_its_query(page):
    card = page.card()
    teach(page.desk, range(20, 30))
    assert page.desk.round.questions[0].query != card["query"]
    page.post("/api/answer", sent(card["clip"], query=card["query"]))
    assert page.answers[-1].query == card["query"]


def test_a_query_that_never_was_is_refused(page):
    assert "no such query" in page.refused("/api/answer", sent(page.desk.told.clips[0].id, query=10**6))


def test_an_answer_with_a_class_that_was_added_before_a_new_start_is_taken(page):
    page.post("/api/answer", sent(page.card()["clip"], labels={"added yesterday": True}))
    assert page.get("/api/state")["classes"][-1]["name"] == "added yesterday"


def test_a_browser_cannot_make_its_answer_count_as_imported_or_settled(page):
    page.post("/api/answer", sent(page.card()["clip"], source="adjudication"))
    page.post("/api/answer", sent(page.card()["clip"], "k2", source="import", id=7, time="2001", undoes=None))
    assert [one.source for one in page.answers] == ["page", "page"]
    assert page.answers[-1].time > "2020"


LONG = "x" * 201
BAD: list[dict[str, Any]] = [
    {"key": None}, {"key": 7}, {"key": ""}, {"key": LONG}, {"clip": None}, {"clip": ["a"]}, {"clip": "../000.wav"},
    {"kind": "maybe"}, {"kind": None}, {"kind": "undo"}, {"kind": "undo", "labels": {}}, {"kind": "noise"},
    {"labels": None}, {"labels": []}, {"labels": "up"}, {"labels": {"up": 1}}, {"labels": {"up": None}},
    {"labels": {"": True}},
    {"labels": {LONG: True}}, {"labels": {"a|b": True}}, {"labels": {"a\nb": True}}, {"labels": {" up": True}},
    {"labels": {"\ud800": True}}, {"labels": {"up": True, "down": True}}, {"labels": {"up": False}},
    {"annotator": 5}, {"annotator": LONG}, {"annotator": "a|b"}, {"annotator": "\0"}, {"annotator": "\udfff"},
    {"start_s": 1.0}, {"start_s": 2.0, "end_s": 1.0}, {"start_s": -1.0, "end_s": 1.0}, {"start_s": "0", "end_s": "1"},
    {"start_s": True, "end_s": 2}, {"low_hz": float("nan"), "high_hz": 5.0}, {"low_hz": 0, "high_hz": float("inf")},
    {"start_s": 0, "end_s": 10**400}, {"start_s": {}, "end_s": []},
    {"query": "1"}, {"query": True}, {"query": 1.5}, {"query": -1}, {"query": 10**30},
    {"model": 3}, {"model": LONG}, {"model": "\ud800"}, {"comment": ["x"]}, {"comment": "x" * 2001}, {"comment": "\0"},
    {"comment": "\ud800"},
]  # fmt: skip


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A page on which nothing is ever answered."""
    folder = tmp_path_factory.mktemp("kept")
    desk = make_desk(folder)
    desk.learn()
    yield Client(folder, desk)
    desk.close()


@pytest.mark.parametrize("wrong", BAD, ids=lambda wrong: str(wrong)[:40].encode("ascii", "replace").decode())
@pytest.mark.parametrize("path", ["/api/answer", "/api/settle"])
def test_an_answer_that_is_none_is_refused_in_one_line(kept, wrong, path):
    kept.refused(path, sent(kept.desk.told.clips[0].id) | wrong)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"7", b'"text"', b"null", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000]
)
@pytest.mark.parametrize("path", ["/api/answer", "/api/undo", "/api/class", "/api/settle", "/api/export"])
def test_a_request_that_is_no_json_object_is_refused(kept, path, body):
    assert kept.refused(path, body) in ("the request is no JSON", "a JSON object is needed")


def test_a_request_without_end_is_not_read(kept):
    assert "longer than" in kept.refused("/api/answer", b" " * (LONGEST_BODY + 1), 413)


@pytest.mark.parametrize("sent_", [{}, {"annotator": "a"}, {"annotator": "a", "key": ""}, {"annotator": "a", "key": LONG},
                                   {"annotator": ["a"], "key": "k"}, {"annotator": "\ud800", "key": "k"}])  # fmt: skip
def test_an_undo_that_is_none_is_refused(kept, sent_):
    kept.refused("/api/undo", sent_)


@pytest.mark.parametrize("name", ["", "  ", "a|b", LONG, "a\tb", "\ud800", None, 5, ["x"]])
def test_a_class_that_cannot_be_one_is_refused(kept, name):
    before = list(kept.desk.record.classes)
    kept.refused("/api/class", {"name": name})
    assert kept.desk.record.classes == before


@pytest.mark.parametrize("format", ["xml", "", None, ["manifest"], "../manifest", "\ud800"])
def test_an_unknown_format_of_export_is_refused(kept, format):
    assert "one of manifest, raven, audacity" in kept.refused("/api/export", {"format": format})


def test_looking_and_writing_are_not_mixed_up(kept):
    assert kept.http.get("/api/answer").status_code == 405
    assert kept.http.post("/api/state", json={}).status_code == 405
    assert kept.http.put("/api/answer", json={}).status_code == 405


def test_what_the_store_cannot_take_now_is_not_the_fault_of_the_answer(page, monkeypatch):
    """The page keeps the answer, and sends it again."""

    def full(*_: object) -> None:
        raise OperationalError("INSERT", {}, Exception("database or disk is full"))

    answer = sent(page.card()["clip"])
    with monkeypatch.context() as patched:
        patched.setattr(journal, "_append", full)
        assert "disk is full" in page.refused("/api/answer", answer, 503)
    assert page.post("/api/answer", answer)["answered"] == 1


def test_undo_gives_the_clip_back_and_keeps_both_entries(page):
    card = page.card()
    page.post("/api/answer", sent(card["clip"], query=card["query"]))
    told = page.post("/api/undo", {"key": "u", "annotator": "ann"})
    assert told["undoes"] == page.answers[0].id
    assert (told["card"]["clip"], told["card"]["query"]) == (card["clip"], card["query"])
    assert told["card"]["why"]["undone"] is True
    assert page.post("/api/undo", {"key": "u", "annotator": "ann"})["undoes"] == told["undoes"]
    assert [one.kind for one in page.answers] == ["label", "undo"]
    assert page.get("/api/state")["answered"] == 0
    assert "nothing to undo" in page.refused("/api/undo", {"key": "v", "annotator": "ann"})
    assert page.card()["clip"] == card["clip"]


def test_a_class_is_added_once_and_changes_no_key_before_it(page):
    keys = page.get("/api/state")["classes"]
    assert page.post("/api/class", {"name": "  hoot "})["classes"] == [*CLASSES, "hoot"]
    assert page.post("/api/class", {"name": "hoot"})["classes"] == [*CLASSES, "hoot"]
    assert page.get("/api/state")["classes"][:4] == keys


def test_a_class_whose_name_is_markup_stays_text(page):
    name = "<img src=x onerror=alert(1)>"
    page.post("/api/class", {"name": name})
    answer = page.http.get("/api/state")
    assert name in [one["name"] for one in answer.json()["classes"]]
    assert answer.headers["content-type"] == "application/json"


# ------------------------------------------------------------ export


def test_what_is_written_is_read_back_as_it_was_answered(page):
    clips = page.desk.told.clips
    page.post(
        "/api/answer", sent(clips[0].id, "a", labels={"up": True}, start_s=0.1, end_s=0.4, low_hz=500, high_hz=2000)
    )
    page.post("/api/answer", sent(clips[11].id, "b", labels={"été": True}))
    page.post("/api/answer", sent(clips[12].id, "c", kind="noise", labels={}))
    page.post("/api/answer", sent(clips[13].id, "d", kind="unknown", labels={}))
    told = page.post("/api/export", {"format": "manifest"})
    assert told == {"written": ["labels.csv"], "rows": 40, "answered": 4}
    frame = read_corpus(page.out / "labels.csv", Table()).frame
    assert len(frame) == 40 and (frame["label"] == "").sum() == 37
    named = frame[frame["label"] != ""]
    assert named["label"].tolist() == ["up", "été", "noise"]
    assert named["start_s"].tolist() == [0.1, 0.5, 1.0] and named["end_s"].tolist() == [0.4, 1.0, 1.5]
    assert {path: set(part["group"]) for path, part in frame.groupby("path")} == {
        path: {path} for path in {str(page.folder / clip.path) for clip in clips}
    }  # a recording is one group, answered or not

    told = page.post("/api/export", {"format": "raven"})
    assert told["written"] == ["raven/000.Table.1.selections.txt", "raven/001.Table.1.selections.txt"]
    table = read_table(page.out / told["written"][0])
    assert table[["start_s", "end_s", "label"]].values.tolist() == [[0.1, 0.4, "up"]]
    assert [float(table[name].iloc[0]) for name in ("low_hz", "high_hz")] == [500.0, 2000.0]
    assert read_table(page.out / told["written"][1])["label"].tolist() == ["été", "noise"]

    told = page.post("/api/export", {"format": "audacity"})
    track = read_labels(page.out / told["written"][0])
    assert track[["start_s", "end_s", "label", "low_hz", "high_hz"]].values.tolist() == [
        [0.1, 0.4, "up", 500.0, 2000.0]
    ]
    assert len(told["written"]) == 2


def test_an_export_keeps_what_else_the_corpus_says_of_a_clip(make):
    about = pd.DataFrame({"site": [f"s{i % 3}" for i in range(40)], "path": "x", "label": "", "score": np.arange(40.0)})
    page = make(about=about)
    page.post("/api/answer", sent(page.desk.told.clips[7].id, "a", labels={"up": True}))
    page.post("/api/export", {})
    frame = read_corpus(page.out / "labels.csv", Table()).frame
    assert frame.loc[frame["label"] == "up", ["site", "score"]].astype(str).values.tolist() == [["s1", "7.000000"]]
    by_clip = dict(zip(frame["clip"], frame["site"], strict=True))
    assert by_clip == {clip.id: f"s{i % 3}" for i, clip in enumerate(page.desk.told.clips)}


def test_an_export_without_an_answer_has_all_clips_without_labels(page):
    assert page.post("/api/export", {}) == {"written": ["labels.csv"], "rows": 40, "answered": 0}
    assert (read_corpus(page.out / "labels.csv", Table()).frame["label"] == "").all()
    assert page.post("/api/export", {"format": "raven"}) == {"written": [], "rows": 0, "answered": 0}


def test_an_export_when_all_is_answered_has_each_clip_once(make):
    page = make(n=6)
    teach(page.desk, range(6))
    assert page.post("/api/export", {"format": "manifest"})["rows"] == 6
    assert len(read_corpus(page.out / "labels.csv", Table()).frame) == 6


def test_an_export_of_several_labels_says_what_is_absent(make):
    page = make(several=True)
    page.post("/api/answer", sent(page.desk.told.clips[0].id, labels={"up": True, "down": False}))
    page.post("/api/export", {"format": "manifest"})
    assert read_corpus(page.out / "labels.csv", Table()).frame["label"].tolist()[0] == "up|-down"


def test_an_export_that_cannot_be_written_is_said(make, tmp_path):
    page = make()
    page.out.write_text("a file, where a folder is needed")
    assert "cannot write" in page.refused("/api/export", {"format": "manifest"})


# ------------------------------------------------------------ keys


def test_classes_get_the_first_letter_of_their_name_or_the_next_key_that_is_free():
    assert keys_of(["owl", "robin", "Otter", "2nd", "nightjar", "über"]) == ["o", "r", "1", "2", "3", "4"]


def test_keys_are_all_different_none_means_something_else_and_in_the_end_there_are_none():
    classes = [f"x{i}" for i in range(40)]
    keys = keys_of(classes)
    given = [key for key in keys if key]
    assert len(given) == len(set(given)) == len(KEYS) and keys[len(KEYS) :] == [""] * (40 - len(KEYS))
    script = (STATIC / "app.js").read_text()
    actions = script[script.index("const ACTIONS") : script.index("};", script.index("const ACTIONS"))]
    for key in given:
        assert f" {key}:" not in actions
    assert keys_of(classes[:7]) == keys[:7]


def test_errors_of_the_package_are_what_is_refused_with_400(page, monkeypatch):
    def broken(*_: object) -> None:
        raise AudiorepError("one line")

    monkeypatch.setattr(page.desk, "poll", broken)
    assert page.refused("/api/state") == "one line"
