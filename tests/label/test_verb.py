"""`audiorep label` and `audiorep relink` as a user types them: from start to SIGKILL and on, and one line for wrong input."""

import itertools
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
import soundfile
from desks import CLASSES, until
from toy import RATE_HZ, tone

from audiorep.cli import main
from audiorep.errors import AudiorepError
from audiorep.label.answer import Answer
from audiorep.label.clips import get_clips
from audiorep.label.journal import add_answer, answers_since
from audiorep.label.settle import settled
from audiorep.label.store import open_store
from audiorep.verbs.label import defaults, open_desk

N = 24
NAN = 23
"""Its recording has a good header and samples that are none."""


def run(*arguments: object) -> int:
    """Exit status of a command in this process."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a refused command prints."""
    assert run(*arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("audiorep: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 calls in a folder, every second of the first 16 with a label, one that cannot be decoded."""
    folder = tmp_path_factory.mktemp("corpus")
    lines = ["path,start_s,end_s,label,group,score"]
    for i in range(N):
        bad = {"data": np.full(RATE_HZ // 2, np.nan, np.float32), "subtype": "FLOAT"}
        good = {"data": tone(i % 4, i), "subtype": "PCM_16"}
        soundfile.write(folder / f"{i:03d}.wav", samplerate=RATE_HZ, **(bad if i == NAN else good))
        lines.append(f"{i:03d}.wav,0,0.5,{CLASSES[i // 2 % 4] if i < 16 and not i % 2 else ''},g{i // 4},{i / 100}")
    (folder / "corpus.csv").write_text("\n".join(lines) + "\n")
    return folder / "corpus.csv"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Embeddings are made here once."""
    return tmp_path_factory.mktemp("out")


class Server:
    """`audiorep label` in a process of its own."""

    def __init__(self, corpus: Path, out: Path, *more: str) -> None:
        self.log = out.parent / f"{out.name}.log"
        given = [f"corpus={corpus}", f"out={out}", "port=0", "open=false", *more]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "audiorep.cli", "label", *given], stdout=subprocess.PIPE, stderr=log, text=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        assert self.address.startswith("http://127.0.0.1:"), self.log.read_text()

    @contextmanager
    def client(self) -> Iterator[httpx.Client]:
        with httpx.Client(base_url=self.address.split("?")[0], timeout=30, follow_redirects=True) as made:
            assert "<title>audiorep label" in made.get(self.address).text  # with the token, a cookie from here on
            yield made


def test_every_answer_acknowledged_before_sigkill_is_there_after_a_new_start(corpus, tmp_path):
    server = Server(corpus, tmp_path / "out", "classes=[hoot]", "token=a secret = of/many+words&")
    try:
        acknowledged = answer_until_killed(server)
    finally:
        server.process.kill()
        server.process.wait()
    desk, _ = desk_of(corpus, tmp_path / "out")
    kept = {one.id: one.key for one in answers_since(desk.store)}
    assert {id: kept.get(id) for id in acknowledged} == acknowledged
    assert (
        len(kept) - 8 <= len(acknowledged) + 4
    )  # at most one more a client: stored, and killed before it could say so
    assert desk.record.tally["corpus"] == 8 and desk.record.answered.sum() >= 15  # imported once
    desk.close()


def answer_until_killed(server: Server) -> dict[int, str]:
    """{id: key} of the answers that four clients were told are kept, until the process is no more."""
    assert httpx.get(server.address.split("?")[0]).status_code == 401
    with server.client() as client:
        state = client.get("/api/state").json()
        assert [one["name"] for one in state["classes"]] == [*sorted(CLASSES), "hoot"]
        assert state["annotators"] == {"corpus": 8} and state["unusable"] == 1 and state["model"]
        cards = client.get("/api/next", params={"annotator": "a", "count": 20}).json()["cards"]
        clips = [card["clip"] for card in cards]
        assert len(clips) == 15 and client.get(f"/api/clip/{clips[0]}/spectrogram.png").status_code == 200

    keys = itertools.count()
    acknowledged: dict[int, str] = {}

    def stream(name: str) -> None:
        with server.client() as client:
            while True:
                key = f"{name}-{next(keys)}"
                labels = {CLASSES[len(acknowledged) % 4]: True}
                sent = {
                    "key": key,
                    "clip": clips[len(acknowledged) % 15],
                    "annotator": name,
                    "kind": "label",
                    "labels": labels,
                }
                try:
                    answer = client.post("/api/answer", json=sent)
                except httpx.TransportError:
                    return
                assert answer.status_code == 200, answer.text
                acknowledged[answer.json()["ids"][0]] = key

    threads = [threading.Thread(target=stream, args=(f"ann{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: len(acknowledged) >= 60 or not any(thread.is_alive() for thread in threads), 60)
    server.process.send_signal(signal.SIGKILL)
    assert server.process.wait(30) == -signal.SIGKILL
    for thread in threads:
        thread.join()
    assert len(acknowledged) >= 60
    return acknowledged


# ------------------------------------------------------------ what the desk is told


def desk_of(corpus: Path, out: Path, *more: str) -> Any:
    cfg = defaults(f"corpus={corpus}", f"out={out}", "open=false", *more)
    return open_desk(cfg, out)


def test_labels_of_the_corpus_are_answers_those_of_its_test_side_only_judge(corpus, out):
    desk, folder = desk_of(corpus, out, "store=null")
    assert folder == corpus.parent and len(desk.told.clips) == N
    assert sorted(desk.record.said) == list(range(0, 16, 2))
    assert {desk.record.said[row][0].annotator for row in desk.record.said} == {"corpus"}
    judges = np.flatnonzero(desk.told.held_out)
    assert 0 < len(judges) < 8 and set(judges.tolist()) <= set(desk.record.said)
    assert not desk.told.usable[NAN] and desk.told.usable.sum() == N - 1
    assert (desk.told.length_s == 0.5).all()
    assert desk.told.x[desk.told.usable].mean(0).abs().max() < 1e-4
    desk.close()
    again, _ = desk_of(corpus, out)
    assert len(answers_since(again.store)) == 8
    again.close()


def test_rows_of_the_same_place_are_one_clip(corpus, tmp_path):
    both = corpus.with_name("both.csv")
    table = pd.read_csv(corpus, dtype=str, keep_default_na=False).iloc[:8]
    pd.concat([table, table]).to_csv(both, index=False)
    desk, _ = desk_of(both, tmp_path)
    assert len(desk.told.clips) == 8 and len(desk.told.x) == 8
    desk.close()


def test_labels_of_a_single_recording_are_no_obstacle(corpus, tmp_path):
    one = corpus.with_name("one.csv")
    one.write_text("path,start_s,end_s,label\n000.wav,0,0.2,up\n000.wav,0.2,0.4,down\n000.wav,0.3,0.5,\n")
    desk, _ = desk_of(one, tmp_path)
    assert sorted(desk.record.said) == [0, 1] and not desk.told.held_out.any()
    desk.close()


def detections(
    corpus: Path, rows: list[tuple[int, str, object]], columns: str = "path,start_s,end_s,label,score"
) -> Path:
    path = corpus.with_name("detections.csv")
    lines = [f"{row:03d}.wav,0,0.5,{label},{score}" for row, label, score in rows]
    path.write_text("\n".join([columns, *lines]) + "\n")
    return path


def test_detections_are_reviewed_and_do_not_count_as_labels(corpus, out, tmp_path):
    path = detections(corpus, [(1, "owl", 0.5), (3, "up", 0.25), (3, "owl", 0.75), (5, "", 0.1), (2, "owl", 0.1)])
    desk, _ = desk_of(corpus, tmp_path, f"detections={path}")
    assert desk.told.detected == {1: ("owl", 0.5), 3: ("owl", 0.75), 2: ("owl", 0.1)}
    assert [row for row, _, _ in desk.review("a", 9)] == [1, 3]  # 2 has a label
    assert "owl" in desk.record.classes
    desk.close()
    own, _ = desk_of(path, tmp_path / "own", f"detections={path}")
    assert own.record.said == {} and not own.told.held_out.any()
    assert [row for row, _, _ in own.review("a", 9)] == [3, 0, 1]
    own.close()


# ------------------------------------------------------------ wrong settings


@pytest.mark.parametrize(
    "settings, said",
    [
        (["host=0.0.0.0"], "host=0.0.0.0: other machines could reach the page: set token="),
        (["token=short"], "token= is too short"),
        (["port=70000"], "port=70000: 1 to 65535"),
        (["port=-1"], "port=-1: 1 to 65535"),
        (["port=80.5"], "port=80.5: a whole number"),
        (["host=256.1.1.1", "token=0123456789abcdef"], "host=256.1.1.1"),
        (["host=203.0.113.7", "token=0123456789abcdef"], "host=203.0.113.7"),  # no address of this machine
        (["classes=owl"], "classes=owl: a list is needed, such as classes=[owl]"),
        (["classes=['a|b']"], "1 to 200 printable characters"),
        (["corpus=nowhere.csv"], "corpus=nowhere.csv: no such file"),
        (["learner=network"], "learner=linear, ensemble or dropout"),
        (["overlap=0"], "overlap=0: 1 at least"),
        (["batch=0"], "batch=0: 1 at least"),
        (["budget=-3"], "budget=-3: 1 at least"),
        (["batch=many"], "batch=many"),
        (["first=bald"], "first=bald needs a model"),
        (["first=nothing"], "first=nothing is no strategy"),
        (["selector=nothing"], "selector=nothing does not exist"),
        (["embeddings=CORPUS"], "no file of embeddings"),
        (["store=CORPUS"], "label store"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(corpus, out, capsys, settings, said):
    given = {"port": "0", "corpus": str(corpus), "out": str(out), "open": "false"}
    given |= dict(one.replace("CORPUS", str(corpus)).split("=", 1) for one in settings)
    assert said in refused(capsys, "label", *(f"{key}={value}" for key, value in given.items()))


def test_a_port_in_use_is_refused_at_once(corpus, tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(capsys, "label", f"corpus={corpus}", f"out={tmp_path}", f"port={port}", "open=false")
    assert f"port={port}: Address already in use" in line and "choose another port=, or 0 for any" in line
    assert not list(tmp_path.iterdir())


def test_an_out_that_is_a_file_is_refused(corpus, capsys):
    assert f"out={corpus}" in refused(capsys, "label", f"corpus={corpus}", f"out={corpus}", "port=0", "open=false")


def test_a_store_of_another_program_is_refused(corpus, out, tmp_path, capsys):
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE birds (name TEXT)")
    connection.close()
    line = refused(capsys, "label", f"corpus={corpus}", f"out={out}", f"store={other}", "port=0", "open=false")
    assert "belongs to another program" in line


@pytest.mark.parametrize(
    "rows, columns, said",
    [
        ([(1, "owl", 0.5)], "path,start_s,end_s,label,sure", "a column score is needed"),
        ([(1, "owl", "high")], "path,start_s,end_s,label,score", "001.wav at 0 s: score=high: a number is needed"),
        ([(1, "owl", "")], "path,start_s,end_s,label,score", "a number is needed"),
        ([(1, "owl", "nan")], "path,start_s,end_s,label,score", "a number is needed"),
        ([(1, "", 0.5)], "path,start_s,end_s,label,score", "none of them is a clip of corpus="),
    ],
)
def test_detections_that_are_none_are_refused(corpus, out, capsys, rows, columns, said):
    path = detections(corpus, rows, columns)
    line = refused(capsys, "label", f"corpus={corpus}", f"out={out}", f"detections={path}", "port=0", "open=false")
    assert said in line


# ------------------------------------------------------------ relink


@pytest.fixture
def moved(corpus: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A store in which 000.wav was answered, and a copy of its corpus."""
    folder = tmp_path / "corpus"
    shutil.copytree(corpus.parent, folder)
    desk, _ = desk_of(folder / "corpus.csv", tmp_path / "out")
    row = next(i for i, clip in enumerate(desk.told.clips) if clip.path == "001.wav")
    add_answer(desk.store, Answer("k", desk.told.clips[row].id, "ann", labels={"owl": True}))
    desk.close()
    return tmp_path / "out" / "labels.sqlite", folder


def places(store: Path) -> dict[str, str]:
    opened = open_store(store)
    found = {id: clip.path for id, clip in get_clips(opened).items()}
    opened.close()
    return found


def test_recordings_that_were_moved_are_found_again_and_keep_their_answers(moved, tmp_path, capsys):
    store, folder = moved
    (folder / "deep" / "er").mkdir(parents=True)
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (folder / "001.wav").rename(folder / "deep" / "er" / "001.wav")
    (folder / "002.wav").rename(outside / "002.wav")
    (folder / "003.wav").unlink()
    before = places(store)
    given = [f"store={store}", f"corpus={folder / 'corpus.csv'}"]
    assert run("relink", *given, f"recordings={tmp_path}", "dry_run=true") == 0
    told = capsys.readouterr().err
    assert "2 recording(s) would be linked again, with 2 clip(s); 1 not found" in told
    assert "003.wav: not found" in told and places(store) == before
    assert run("relink", *given, f"recordings={tmp_path}") == 0
    assert "2 recording(s) are linked again, with 2 clip(s); 1 not found" in capsys.readouterr().err
    after = places(store)
    assert after.keys() == before.keys()
    changed = {before[id]: after[id] for id in before if before[id] != after[id]}
    assert changed == {"001.wav": "deep/er/001.wav", "002.wav": str(outside / "002.wav")}
    opened = open_store(store)
    answered = {after[one.clip]: one.labels for one in settled(opened) if one.answer.source == "page"}
    opened.close()
    assert answered == {"deep/er/001.wav": {"owl": True}}
    assert run("relink", *given, f"recordings={tmp_path}") == 0
    assert "0 recording(s) are linked again" in capsys.readouterr().err


def test_a_page_that_starts_with_the_corpus_indexed_anew_knows_the_answers(moved, tmp_path):
    store, folder = moved
    (folder / "deep").mkdir()
    (folder / "001.wav").rename(folder / "deep" / "001.wav")
    assert run("relink", f"store={store}", f"corpus={folder}", f"recordings={folder}") == 0
    csv = folder / "corpus.csv"
    csv.write_text(csv.read_text().replace("\n001.wav", "\ndeep/001.wav"))
    desk, _ = desk_of(csv, tmp_path / "out")
    row = next(i for i, clip in enumerate(desk.told.clips) if clip.path == "deep/001.wav")
    assert desk.record.settled[row].labels == {"owl": True}
    desk.close()


def test_a_recording_of_that_name_that_does_not_fit_or_is_not_the_only_one_is_not_taken(moved, tmp_path, capsys):
    store, folder = moved
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    shutil.copy(folder / "001.wav", tmp_path / "a" / "001.wav")
    (folder / "001.wav").rename(tmp_path / "b" / "001.wav")
    for name, wave, rate in (("002.wav", tone(0, 0), 16000), ("003.wav", tone(0, 0)[:2000], RATE_HZ)):
        (folder / name).unlink()
        soundfile.write(tmp_path / "a" / name, wave, rate)
    before = places(store)
    assert run("relink", f"store={store}", f"corpus={folder}", f"recordings={tmp_path}") == 0
    told = capsys.readouterr().err
    assert "001.wav: 2 recordings of that name fit" in told
    assert "002.wav: not found" in told and "003.wav: not found" in told
    assert places(store) == before


@pytest.mark.parametrize(
    "wrong, said",
    [
        ("store=FOLDER/nowhere.sqlite", "nowhere.sqlite: no such file"),
        ("store=sqlite:///FOLDER/nowhere.sqlite", "nowhere.sqlite: no such file"),
        ("store=oracle://x", "oracle://"),
        ("corpus=FOLDER/nowhere.csv", "nowhere.csv: no such file or folder"),
        ("recordings=FOLDER/corpus.csv", "is no folder"),
        ("recordings=FOLDER/nowhere", "is no folder"),
    ],
)
def test_relink_of_what_is_not_there_is_refused_and_makes_nothing(corpus, out, tmp_path, capsys, wrong, said):
    store = tmp_path / "labels.sqlite"
    open_store(store).close()
    given = {"store": str(store), "corpus": str(corpus), "recordings": str(corpus.parent)}
    key, value = wrong.replace("FOLDER", str(corpus.parent)).split("=", 1)
    assert said in refused(capsys, "relink", *(f"{k}={v}" for k, v in (given | {key: value}).items()))
    assert not (corpus.parent / "nowhere.sqlite").exists()


def test_defaults_are_those_of_the_command():
    cfg = defaults("corpus=x", "out=y")
    assert cfg.host == "127.0.0.1" and cfg.overlap == 1 and cfg.token is None
    with pytest.raises(AudiorepError, match="there is no key 'prot'"):
        defaults("corpus=x", "out=y", "prot=1")
    assert json.dumps(list(cfg.classes)) == "[]"
