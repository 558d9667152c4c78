"""Desks that the tests of the page share: a folder of short recordings, and a desk on it whose embeddings fall into the
four kinds of calls."""

import itertools
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from pools import blobs
from toy import RATE_HZ, tone

from audiorep.active.heads import Linear
from audiorep.label.answer import Answer
from audiorep.label.clips import Clip, add_clips, clip_id
from audiorep.label.desk import Desk
from audiorep.label.store import Store, open_store
from audiorep.label.told import Settings, Told
from audiorep.select.medoids import KMedoids
from audiorep.select.scores import margin
from audiorep.select.top import Top

CLASSES = ("up", "down", "flat", "trill")
A_FILE = 10
"""Calls of half a second in each recording."""
KEYS = itertools.count()


def record(folder: Path, n: int) -> list[Clip]:
    """n calls, the kinds in turn, in files of `A_FILE`; as clips."""
    clips = []
    for first in range(0, n, A_FILE):
        rows = range(first, min(n, first + A_FILE))
        path = f"{first // A_FILE:03d}.wav"
        soundfile.write(folder / path, np.concatenate([tone(i % 4, i) for i in rows]), RATE_HZ, subtype="PCM_16")
        length = RATE_HZ // 2
        for i in range(len(rows)):
            place = path, i * length, (i + 1) * length
            clips.append(Clip(clip_id(*place), *place, RATE_HZ, group=path))
    return clips


def told_of(folder: Path, n: int = 40, **changes: Any) -> Told:
    """A corpus of n calls."""
    length_s = np.minimum(A_FILE, n - np.arange(n) // A_FILE * A_FILE) * 0.5
    x = blobs(n, spread=0.5)
    no = np.zeros(n, bool)
    known: dict[str, Any] = {"clips": record(folder, n), "length_s": length_s, "x": x, "usable": ~no, "held_out": no}
    return Told(**(known | changes))


def make_desk(folder: Path, told: Told | None = None, store: Store | None = None, **changes: Any) -> Desk:
    """A desk that has learned nothing yet. changes: of `Told` or `Settings`, or n."""
    of_told = {name: changes.pop(name) for name in ("n", *(f.name for f in fields(Told))) if name in changes}
    told = told or told_of(folder, **of_told)
    store = store or open_store(folder / "labels.sqlite")
    add_clips(store, told.clips)
    classes = changes.pop("classes", CLASSES)
    settings = {
        "selector": Top(margin), "selector_name": "margin", "first": KMedoids(), "head": Linear(), "batch": 8, "budget": 40,
    }  # fmt: skip
    return Desk(store, told, Settings(**(settings | changes)), classes)


def said(desk: Desk, row: int, annotator: str = "ann", kind: str = "label", **more: Any) -> Answer:
    """The right answer to a row, or another."""
    labels = {CLASSES[row % 4]: True} if kind == "label" else {}
    return Answer(f"k{next(KEYS)}", desk.told.clips[row].id, annotator, kind, **({"labels": labels} | more))


def teach(desk: Desk, rows: range | list[int], annotator: str = "ann") -> None:
    """Answer rows rightly, and learn."""
    for row in rows:
        desk.answer(said(desk, row, annotator))
    desk.learn()


def until(true: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait for something to become true, and give it back."""
    ends = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.01)
    return found


def noisy(n: int) -> torch.Tensor:
    """Embeddings that tell nothing about the kinds."""
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(0))
