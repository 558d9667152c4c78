"""What each address of the page answers, in plain values: cards to look at, answers to keep, tables to write."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from audiorep.errors import AudiorepError
from audiorep.label import discover, progress
from audiorep.label.agreement import agreement
from audiorep.label.answer import Answer
from audiorep.label.answer import check as check_answer
from audiorep.label.clips import Clip, get_clips
from audiorep.label.desk import Desk
from audiorep.label.export import EXPORTS
from audiorep.label.fields import Fields, annotator_of, answer_of, count_of
from audiorep.label.round import Question
from audiorep.label.settle import current

KEYS = "1234567890qwertyioadfjkxcvbm"
"""Keys of classes, in their order; g h l n p s u z mean something else on the page."""


class Page:
    """What the addresses answer, in plain values."""

    def __init__(self, desk: Desk, folder: Path, out: Path) -> None:
        self.desk, self.folder, self.out = desk, folder, out

    # ------------------------------------------------------------ looking

    def state(self, asked: Fields) -> dict[str, Any]:
        """Everything around the question: classes and their keys, curve, hint, who answered how much."""
        desk = self.desk
        with desk.lock:
            desk.poll()
            classes, history = list(desk.record.classes), list(desk.history)
            people = {name: count for name, count in sorted(desk.record.tally.items()) if count}
        return {
            "classes": [{"name": name, "key": key} for name, key in zip(classes, keys_of(classes), strict=True)],
            "several": desk.settings.several,
            "selector": desk.settings.selector_name,
            "round": desk.round.number,
            "model": desk.round.model,
            "clips": len(desk.told.clips),
            "answered": int(desk.record.answered.sum()),
            "unusable": int((~desk.told.usable).sum()),
            "history": [vars(one) for one in history],
            "hint": progress.hint(history),
            "failed": desk.failed,
            "annotators": people,
            "disagreements": len(desk.record.differing),
            "detections": len(desk.told.detected),
        }

    def next(self, asked: Fields) -> dict[str, Any]:
        """Cards to answer, in one of the modes."""
        annotator, count = annotator_of(asked), count_of(asked)
        mode = str(asked.get("mode", "ask"))
        if mode not in MODES:
            raise AudiorepError(f"mode={mode}: one of {', '.join(MODES)}")
        return {"cards": MODES[mode](self, annotator, count, asked), "round": self.desk.round.number}

    def ask(self, annotator: str, count: int, asked: Fields) -> list[dict[str, Any]]:
        """What the selector wants to know."""
        return [
            self.asking(one, {"selector": self.desk.settings.selector_name}) for one in self.desk.next(annotator, count)
        ]

    def review(self, annotator: str, count: int, asked: Fields) -> list[dict[str, Any]]:
        """What was detected, or labelled and is doubted, worst first."""
        what = "detected" if self.desk.told.detected else "labelled"
        return [
            self.card(row, {"score": finite(score), "claim": name, "what": what})
            for row, name, score in self.desk.review(annotator, count)
        ]

    def alike(self, annotator: str, count: int, asked: Fields) -> list[dict[str, Any]]:
        """What sounds like a clip and was not answered yet."""
        return [
            self.card(row, {}, alone=False)
            for row in self.desk.alike(self.desk.at(str(asked.get("clip", ""))), annotator, count)
        ]

    def adjudicate(self, annotator: str, count: int, asked: Fields) -> list[dict[str, Any]]:
        """What annotators disagree about."""
        with self.desk.lock:
            self.desk.poll()
            differ = {row: list(self.desk.record.said[row]) for row in sorted(self.desk.record.differing)[:count]}
        return [
            self.card(row, {"said": [{"annotator": a.annotator, "kind": a.kind, "labels": a.labels} for a in answers]})
            for row, answers in differ.items()
        ]

    def asking(self, question: Question, why: Mapping[str, Any]) -> dict[str, Any]:
        """One clip of a query."""
        known = {"score": finite(question.score), "rank": question.rank, "of": question.of}
        return {**self.card(question.row, {**known, **why}), "query": question.query}

    def card(self, row: int, why: Mapping[str, Any], alone: bool = True) -> dict[str, Any]:
        """One clip as the page shows it, alone or among others; it was asked by no query."""
        desk, seen = self.desk, self.desk.round
        clip = place_of(desk, self.folder, row)
        problem = ""
        if not desk.told.usable[row]:
            problem = "cannot be decoded"
        elif not (self.folder / clip.path).is_file():
            problem = f"{Path(clip.path).name} is not where it was: audiorep relink finds it again"
        near = [
            {"clip": desk.told.clips[other].id, "label": name, "distance": round(apart, 3)}
            for other, name, apart in (desk.neighbours(row) if alone else [])
        ]
        return {
            "clip": clip.id, "name": Path(clip.path).name, "group": clip.group, "start_s": clip.start_s, "end_s": clip.end_s,
            "rate_hz": clip.rate_hz, "length_s": float(desk.told.length_s[row]),
            "query": None, "model": seen.model, "problem": problem,
            "guess": [{"name": name, "p": round(p, 4)} for name, p in seen.guess(row)], "near": near, "why": dict(why),
            "ambiguous": seen.ambiguous is not None and bool(seen.ambiguous[row]),
        }  # fmt: skip

    def clusters(self, asked: Fields) -> dict[str, Any]:
        """Groups of unlabelled calls that sound alike, those least like any answer first."""
        found = discover.clusters(self.desk)
        return {
            "clusters": [
                {
                    "number": i, "size": one.size, "novelty": round(one.novelty, 3),
                    "cards": [self.card(row, {}, alone=False) for row in one.rows[: count_of(asked)]],
                }
                for i, one in enumerate(found)
            ]
        }  # fmt: skip

    def agreement(self, asked: Fields) -> dict[str, Any]:
        """How far annotators agree."""
        found = agreement(current(self.desk.store))
        return {name: plain(value) for name, value in vars(found).items()}

    # ------------------------------------------------------------ answering

    def answer(self, asked: Fields) -> dict[str, Any]:
        """Keep one answer, or several at once."""
        several = asked.get("answers")
        said = [answer_of(one) for one in (several if isinstance(several, list) else [asked])]
        for one in said:  # all or none, as far as it can be told before
            check_answer(one)
            self.desk.at(one.clip)
        kept = [self.desk.answer(one) for one in said]
        return {"ids": [one.id for one in kept], "answered": int(self.desk.record.answered.sum())}

    def undo(self, asked: Fields) -> dict[str, Any]:
        """Take the last answer back, and show its clip again."""
        taken = self.desk.take_back(str(asked.get("key", "")), annotator_of(asked))
        row = self.desk.row.get(taken.clip)
        if row is None:
            return {"undoes": taken.undoes, "card": None}
        return {"undoes": taken.undoes, "card": self.asking(self.desk.question(row, taken.annotator), {"undone": True})}

    def add_class(self, asked: Fields) -> dict[str, Any]:
        """A new class."""
        name = asked.get("name")
        if not isinstance(name, str):
            raise AudiorepError("class.name: text is needed")
        check_answer(Answer("x", "x", "x", "label", {(name := name.strip()): True}))
        return {"classes": self.desk.add_class(name)}

    def settle(self, asked: Fields) -> dict[str, Any]:
        """The last word on a clip about which annotators disagree."""
        return {"ids": [self.desk.answer(answer_of(asked, "adjudication")).id]}

    def export(self, asked: Fields) -> dict[str, Any]:
        """Write what is settled, as a manifest, Raven tables or Audacity tracks, below `out`."""
        format = str(asked.get("format", "manifest"))
        if format not in EXPORTS:
            raise AudiorepError(f"format={format}: one of {', '.join(EXPORTS)}")
        return EXPORTS[format](self.desk, self.folder, self.out)


MODES: Mapping[str, Callable[[Page, str, int, Fields], list[dict[str, Any]]]] = {
    "ask": Page.ask, "review": Page.review, "alike": Page.alike, "adjudicate": Page.adjudicate,
}  # fmt: skip


def place_of(desk: Desk, folder: Path, row: int) -> Clip:
    """The clip; where its recording is not there any more, as the store knows it: perhaps it was relinked."""
    clip = desk.told.clips[row]
    return clip if (folder / clip.path).is_file() else get_clips(desk.store, [clip.id]).get(clip.id, clip)


def keys_of(classes: list[str]) -> list[str]:
    """A key for each class: what its name begins with if that is free, else the next that is; "" when they have run out.
    Classes that are added change no key of those before them."""
    free = list(KEYS)
    keys = []
    for name in classes:
        wanted = name[:1].lower()
        key = wanted if wanted in free else free[0] if free else ""
        keys.append(key)
        if key:
            free.remove(key)
    return keys


def finite(value: float) -> float | None:
    """A score, or nothing: JSON has no NaN."""
    return round(float(value), 4) if math.isfinite(value) else None


def plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, float):
        return finite(value)
    if isinstance(value, Mapping):
        return {"/".join(k) if isinstance(k, tuple) else str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value
