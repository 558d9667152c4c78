"""How fast the page to answer in is on a large corpus: requests, learning, choosing, memory.

    python benchmarks/label_page.py [clips, 100000] [answers, 2000] [threads, 2]

Random embeddings of 512 numbers, ten classes, clips of 50 ms in ten recordings. Four people answer in turn while the head
learns behind them; requests go through Starlette's test client, so without the network. Then every strategy chooses 20 of
all clips, from one model or, where it compares passes, ten. Peaks are of the whole process, torch and all included.
"""

import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from starlette.testclient import TestClient

from audiorep.active.heads import Linear
from audiorep.composing import options
from audiorep.label import discover
from audiorep.label.answer import Answer
from audiorep.label.app import make_app
from audiorep.label.clips import Clip, add_clips, clip_id
from audiorep.label.desk import Desk, Settings, Told
from audiorep.label.journal import add_answers
from audiorep.label.store import open_store
from audiorep.select.pool import Pool
from audiorep.types import generator
from audiorep.verbs.active import named

WIDTH, CLASSES, FILES, RATE_HZ, CLIP = 512, 10, 10, 16000, 800
ROUNDS, PEOPLE, CARDS = 100, 4, 3
SLOW = ("vaal",)
"""Strategies that train a network of their own."""

rows: list[tuple[str, str]] = []


def tell(what: str, value: str) -> None:
    rows.append((what, value))
    print(f"{what:46s} {value}", flush=True)


@contextmanager
def timed(what: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    tell(what, f"{time.perf_counter() - began:8.2f} s")


def peak(what: str) -> None:
    """The largest memory since the last call, and begin anew; where Linux tells."""
    status = Path("/proc/self/status")
    if status.exists():
        found = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        tell(f"peak memory, {what}", f"{int(found.split()[1]) / 2**20:8.2f} GiB")
        Path("/proc/self/clear_refs").write_text("5")


def record(folder: Path, n: int) -> list[Clip]:
    clips = []
    for first in range(0, n, -(-n // FILES)):
        count, path = min(n - first, -(-n // FILES)), f"{first}.wav"
        noise = np.random.default_rng(first).standard_normal(count * CLIP).astype(np.float32)
        soundfile.write(folder / path, 0.1 * noise, RATE_HZ, subtype="PCM_16")
        places = [(path, i * CLIP, (i + 1) * CLIP) for i in range(count)]
        clips += [Clip(clip_id(*place), *place, RATE_HZ, group=path) for place in places]
    return clips


def make_desk(folder: Path, n: int, answered: int) -> Desk:
    """n clips of which some are answered, by embeddings from which the classes can be learned."""
    rng = generator(0)
    label = torch.randint(CLASSES, (n,), generator=rng)
    x = torch.randn(n, WIDTH, generator=rng)
    x += 0.5 * torch.randn(CLASSES, WIDTH, generator=rng)[label]
    with timed("recordings written"):
        clips = record(folder, n)
    store = open_store(folder / "labels.sqlite")
    with timed("clips put into the store"):
        add_clips(store, clips)
    said = [
        Answer(f"k{i}", clips[i].id, f"ann{i % PEOPLE}", labels={f"class {label[i]}": True}) for i in range(answered)
    ]
    with timed("answers put into the store"):
        add_answers(store, said)
    no = np.zeros(n, bool)
    held_out = no.copy()
    held_out[: answered // 5] = True
    length_s = np.full(n, -(-n // FILES) * CLIP / RATE_HZ)
    told = Told(clips, length_s, x, ~no, held_out)
    settings = Settings(named("diversity_first", "selector"), "diversity_first", named("typiclust", "first"), Linear())
    with timed("desk made"):
        return Desk(store, told, settings, [f"class {i}" for i in range(CLASSES)])


def requests(desk: Desk, folder: Path) -> None:
    """What people do: ask for cards, look at each, answer it, and what the page does between."""
    client = TestClient(make_app(desk, folder, folder / "out"), base_url="http://127.0.0.1")
    spent: dict[str, list[float]] = {}
    keys = itertools.count()

    def ask(name: str, path: str, sent: Any = None, **given: Any) -> Any:
        began = time.perf_counter()
        answer = client.get(path, params=given) if sent is None else client.post(path, json=sent)
        spent.setdefault(name, []).append(time.perf_counter() - began)
        assert answer.status_code == 200, answer.text
        return answer

    with client:
        for i in range(ROUNDS):
            who = f"ann{i % PEOPLE}"
            while not (cards := ask("/api/next", "/api/next", annotator=who, count=CARDS).json()["cards"]):
                time.sleep(0.1)  # nobody answers as fast as this: the next query is still being chosen
            for card in cards:
                ask("picture", f"/api/clip/{card['clip']}/spectrogram.png", context=0.5)
                ask("sound", f"/api/clip/{card['clip']}/sound.wav", context=0.5)
                sent = {"key": f"new{next(keys)}", "clip": card["clip"], "annotator": who, "query": card["query"]}
                ask("/api/answer", "/api/answer", {**sent, "kind": "label", "labels": {f"class {i % CLASSES}": True}})
                ask("/api/state", "/api/state")
            if i % 10 == 0:
                ask("/api/undo", "/api/undo", {"key": f"undo{i}", "annotator": who})
                ask("/api/next, review", "/api/next", mode="review", annotator="judge", count=CARDS)
                ask("/api/next, 24 alike", "/api/next", mode="alike", annotator=who, count=24, clip=cards[0]["clip"])
        for _ in range(3):
            ask("/api/clusters", "/api/clusters", count=8)
    for name, seconds in spent.items():
        middle, high = np.percentile(seconds, [50, 95]) * 1000
        tell(f"{name}, median and 95 %, of {len(seconds)}", f"{middle:8.0f} ms {high:8.0f} ms")
    tell("rounds learned meanwhile", f"{len(desk.history):8d}")


def choosing(n: int) -> None:
    """Every strategy over n clips."""
    rng = generator(1)
    x, known = torch.randn(n, WIDTH, generator=rng), torch.randn(500, WIDTH, generator=rng)
    label = torch.randint(CLASSES, (500,), generator=rng)
    for name in options("selector"):
        if name in SLOW:
            continue
        selector = named(name, "selector")
        passes = 10 if selector.needs.passes else 1
        log_p = torch.randn(passes, n, CLASSES, generator=rng).log_softmax(2)
        pool = Pool(x, log_p, known, label, False, None, 0.5)
        with timed(f"{name}, 20 of {n} by {passes} pass(es)"):
            selector.select(pool, 20, rng)
        peak(name)


def main(clips: int = 100_000, answers: int = 2_000, threads: int = 2) -> None:
    torch.set_num_threads(threads)
    peak("libraries alone")
    with tempfile.TemporaryDirectory() as name:
        desk = make_desk(Path(name), clips, answers)
        times: list[float] = []
        learn: Callable[[], None] = desk.learn

        def measured() -> None:
            began = time.perf_counter()
            learn()
            times.append(time.perf_counter() - began)

        desk.learn = measured  # type: ignore[method-assign]
        desk.open()
        tell("learning, at first", f"{times[0]:8.2f} s")
        requests(desk, Path(name))
        tell("learning while they answer, median and longest", f"{np.median(times[1:]):8.2f} s {max(times[1:]):8.2f} s")
        with timed("groups to discover"):
            discover.clusters(desk)
        peak("page")
        desk.close()
        del desk
    choosing(clips)


if __name__ == "__main__":
    if len(sys.argv) > 4:
        sys.exit(__doc__)
    main(*map(int, sys.argv[1:]))
