"""The web page to answer in: its addresses. It sees clips by their ids, the desk and the label store, and nothing else."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anyio.to_thread
import pandas as pd
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from audiorep.data.manifest import write_manifest
from audiorep.errors import AudioError, AudiorepError
from audiorep.label import discover, progress
from audiorep.label.agreement import agreement
from audiorep.label.answer import Answer
from audiorep.label.answer import check as check_answer
from audiorep.label.clips import Clip, get_clips
from audiorep.label.desk import Desk, Question
from audiorep.label.exchange import settled_table, write_audacity, write_raven
from audiorep.label.guard import Guard
from audiorep.label.media import around, sound_wav, spectrogram_png
from audiorep.label.settle import current

STATIC = Path(__file__).parent / "static"
KEYS = "1234567890qwertyioadfjkxcvbm"
"""Keys of classes, in their order; g h l n p s u z mean something else on the page."""

MOST = 60
"""Cards sent at once."""

LONGEST_BODY = 1_000_000
"""Bytes of a request; longer ones are not read."""

LONGEST_TEXT = 2000
"""Characters of a comment; of the name of a model a tenth."""

Fields = Mapping[str, Any]


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
            classes, history = list(desk.classes), list(desk.history)
            people = {name: count for name, count in sorted(desk.tally.items()) if count}
        return {
            "classes": [{"name": name, "key": key} for name, key in zip(classes, keys_of(classes), strict=True)],
            "several": desk.settings.several,
            "selector": desk.settings.selector_name,
            "round": desk.round.number,
            "model": desk.round.model,
            "clips": len(desk.told.clips),
            "answered": int(desk.answered.sum()),
            "unusable": int((~desk.told.usable).sum()),
            "history": [vars(one) for one in history],
            "hint": progress.hint(history),
            "failed": desk.failed,
            "annotators": people,
            "disagreements": len(desk.differing),
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
            differ = {row: list(self.desk.said[row]) for row in sorted(self.desk.differing)[:count]}
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
        """Groups of unlabelled calls that sound alike, the newest to the model first."""
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
        return {"ids": [one.id for one in kept], "answered": int(self.desk.answered.sum())}

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
        return EXPORTS[format](self)

    def export_manifest(self) -> dict[str, Any]:
        """All clips, with all that the corpus says of them: what is settled with its label, the others without, for training
        that uses both."""
        table = settled_table(self.desk.store, self.folder, several=self.desk.settings.several)
        named, known = set(table["clip"]), get_clips(self.desk.store)
        rest = [known[clip.id] for clip in self.desk.told.clips if clip.id not in named]
        paths = [str(self.folder / clip.path) for clip in rest]
        groups = [path if clip.group == clip.path else clip.group for clip, path in zip(rest, paths, strict=True)]
        columns = {
            "path": paths, "start_s": [clip.start_s for clip in rest], "end_s": [clip.end_s for clip in rest],
            "label": "", "group": groups, "channel": pd.array([clip.channel or None for clip in rest], "Int64"),
            "rate_hz": [clip.rate_hz for clip in rest], "clip": [clip.id for clip in rest],
        }  # fmt: skip
        whole = pd.concat([one for one in (table, pd.DataFrame(columns)) if len(one)], ignore_index=True)
        if (about := self.desk.told.about) is not None:
            said = about.assign(clip=[clip.id for clip in self.desk.told.clips])
            whole = whole.merge(said.drop(columns=[name for name in about if name in whole]), how="left", on="clip")
        write_manifest(whole, self.out / "labels.csv")
        return {"written": ["labels.csv"], "rows": len(table)}

    def export_tables(self, write: Callable[..., list[Path]], name: str) -> dict[str, Any]:
        table = settled_table(self.desk.store, self.folder, several=self.desk.settings.several, each=True)
        written = write(table, self.out / name, self.folder)
        return {"written": [str(path.relative_to(self.out)) for path in written], "rows": len(table)}


MODES: Mapping[str, Callable[[Page, str, int, Fields], list[dict[str, Any]]]] = {
    "ask": Page.ask, "review": Page.review, "alike": Page.alike, "adjudicate": Page.adjudicate,
}  # fmt: skip
EXPORTS: Mapping[str, Callable[[Page], dict[str, Any]]] = {
    "manifest": Page.export_manifest,
    "raven": lambda page: page.export_tables(write_raven, "raven"),
    "audacity": lambda page: page.export_tables(write_audacity, "audacity"),
}


def make_app(desk: Desk, folder: Path, out: Path, token: str | None = None) -> Starlette:
    """The application; folder: of the corpus; out: where exports go."""
    page = Page(desk, folder, out)

    def looking(path: str, function: Callable[[Fields], dict[str, Any]]) -> Route:
        async def endpoint(request: Request) -> Response:
            return await answered(function, dict(request.query_params), out, folder)

        return Route(path, endpoint, methods=["GET"])

    def writing(path: str, function: Callable[[Fields], dict[str, Any]]) -> Route:
        async def endpoint(request: Request) -> Response:
            body = bytearray()
            async for part in request.stream():
                body += part
                if len(body) > LONGEST_BODY:
                    return refused(413, f"the request is longer than {LONGEST_BODY} bytes")
            try:
                sent = json.loads(body)
            except (ValueError, RecursionError):
                return refused(400, "the request is no JSON")
            if not isinstance(sent, dict):
                return refused(400, "a JSON object is needed")
            return await answered(function, sent, out, folder)

        return Route(path, endpoint, methods=["POST"])

    async def spectrogram(request: Request) -> Response:
        return await media(request, picture_of, "image/png")

    async def sound(request: Request) -> Response:
        return await media(request, wave_of, "audio/wav")

    async def media(request: Request, make: Callable[[Clip, Path, Fields], bytes], kind: str) -> Response:
        asked, id = dict(request.query_params), request.path_params["clip"]

        def made() -> bytes:
            row = desk.at(id)
            clip = place_of(desk, folder, row)
            try:
                return make(clip, folder, asked)
            except AudioError as error:
                if (folder / clip.path).is_file():  # there, and not to be heard: it is not asked again
                    desk.spoil(row)
                raise AudioError(hidden(error, (folder / clip.path).parent)) from error

        try:
            return Response(
                await anyio.to_thread.run_sync(made),
                media_type=kind,
                headers={"cache-control": "private, max-age=3600"},
            )
        except AudioError as error:
            return refused(404, str(error))
        except AudiorepError as error:
            return refused(status_of(error), hidden(error, out, folder))

    async def index(request: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    routes = [
        Route("/", index),
        looking("/api/state", page.state),
        looking("/api/next", page.next),
        looking("/api/clusters", page.clusters),
        looking("/api/agreement", page.agreement),
        Route("/api/clip/{clip}/spectrogram.png", spectrogram),
        Route("/api/clip/{clip}/sound.wav", sound),
        writing("/api/answer", page.answer),
        writing("/api/undo", page.undo),
        writing("/api/class", page.add_class),
        writing("/api/settle", page.settle),
        writing("/api/export", page.export),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    return Starlette(routes=routes, middleware=[Middleware(Guard, token=token)])


async def answered(function: Callable[[Fields], dict[str, Any]], asked: Fields, *folders: Path) -> Response:
    """Run it beside the event loop; a refusal is one line, and does not tell where the folders lie."""
    try:
        return JSONResponse(await anyio.to_thread.run_sync(function, asked))
    except AudiorepError as error:
        return refused(status_of(error), hidden(error, *folders))


def status_of(error: AudiorepError) -> int:
    """400: what was sent is wrong, and will be when it is sent again; 503: the store could not take it now."""
    return 503 if isinstance(error.__cause__, SQLAlchemyError) else 400


def refused(status: int, message: str) -> Response:
    return JSONResponse({"error": message.encode("utf-8", "replace").decode()}, status)


def place_of(desk: Desk, folder: Path, row: int) -> Clip:
    """The clip; where its recording is not there any more, as the store knows it: perhaps it was relinked."""
    clip = desk.told.clips[row]
    return clip if (folder / clip.path).is_file() else get_clips(desk.store, [clip.id]).get(clip.id, clip)


def hidden(error: Exception, *folders: Path) -> str:
    """What went wrong, without telling where on this machine."""
    text = str(error)
    for folder in folders:
        text = text.replace(f"{folder}/", "").replace(f"{folder.resolve()}/", "")
    return text


def picture_of(clip: Clip, folder: Path, asked: Fields) -> bytes:
    stretch = around(clip, folder, number(asked, "context", 0.0, 0.0, 30.0))
    high = number(asked, "high", 0.0, 0.0, 1e6)
    return spectrogram_png(
        stretch, number(asked, "low", 0.0, 0.0, 1e6), high or None, number(asked, "range", 60.0, 10.0, 120.0),
        int(number(asked, "width", 800, 50, 2000)), int(number(asked, "height", 256, 32, 1000)),
    )  # fmt: skip


def wave_of(clip: Clip, folder: Path, asked: Fields) -> bytes:
    stretch = around(clip, folder, number(asked, "context", 0.0, 0.0, 30.0))
    return sound_wav(stretch, number(asked, "slower", 1.0, 0.25, 50.0))


def number(asked: Fields, name: str, otherwise: float, low: float, high: float) -> float:
    """A number of a request, kept within bounds."""
    text = asked.get(name, otherwise)
    try:
        value = float(text)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise AudiorepError(f"{name}={str(text)[:50]!r}: a number is needed")
    return min(high, max(low, value))


def count_of(asked: Fields) -> int:
    return int(number(asked, "count", 1, 1, MOST))


def annotator_of(asked: Fields) -> str:
    """Who answers.

    Raises:
        AudiorepError: nobody was named, or by a name that cannot be stored.
    """
    name = asked.get("annotator", "")
    if not isinstance(name, str) or not name.strip():
        raise AudiorepError("annotator: say who you are first")
    check_answer(Answer("x", "x", name.strip(), "skip"))
    return name.strip()


NUMBERS = ("start_s", "end_s", "low_hz", "high_hz")
TEXTS = {"model": LONGEST_TEXT // 10, "comment": LONGEST_TEXT}


def answer_of(sent: Any, source: str = "page") -> Answer:
    """An answer as the page sends it.

    Raises:
        AudiorepError: fields that are missing or of another kind.
    """
    if not isinstance(sent, dict):
        raise AudiorepError("an answer is a JSON object")
    named = {name: sent.get(name) for name in ("key", "clip", "kind")}
    if bad := next((name for name, value in named.items() if not isinstance(value, str)), None):
        raise AudiorepError(f"answer.{bad}={str(named[bad])[:50]}: text is needed")
    labels = sent.get("labels") or {}
    if not isinstance(labels, dict) or not all(isinstance(value, bool) for value in labels.values()):
        raise AudiorepError("answer.labels: class names with true or false are needed")
    more: dict[str, Any] = {}
    for name in NUMBERS:
        if (value := sent.get(name)) is not None:
            if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e12:
                raise AudiorepError(f"answer.{name}={str(value)[:50]}: a number is needed")
            more[name] = float(value)
    if (query := sent.get("query")) is not None:
        if isinstance(query, bool) or not isinstance(query, int):
            raise AudiorepError(f"answer.query={str(query)[:50]}: a whole number is needed")
        more["query"] = query
    for name, longest in TEXTS.items():
        if (text := sent.get(name)) is not None:
            if not isinstance(text, str) or len(text) > longest or not text.replace("\n", "").isprintable():
                raise AudiorepError(f"answer.{name}: text of {longest} printable characters at most is needed")
            more[name] = text
    return Answer(named["key"], named["clip"], annotator_of(sent), named["kind"], labels, source, **more)  # type: ignore[arg-type]


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
