"""The web page to answer in: its addresses. It sees clips by their ids, the desk and the label store, and nothing else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from audiorep.errors import AudioError, AudiorepError
from audiorep.label.clips import Clip
from audiorep.label.desk import Desk
from audiorep.label.fields import Fields, number
from audiorep.label.guard import Guard
from audiorep.label.media import around, sound_wav, spectrogram_png
from audiorep.label.page import Page, place_of

STATIC = Path(__file__).parent / "static"

LONGEST_BODY = 1_000_000
"""Bytes of a request; longer ones are not read."""


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
                await run_in_threadpool(made),
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
        return JSONResponse(await run_in_threadpool(function, asked))
    except AudiorepError as error:
        return refused(status_of(error), hidden(error, *folders))


def status_of(error: AudiorepError) -> int:
    """400: what was sent is wrong, and will be when it is sent again; 503: the store could not take it now."""
    return 503 if isinstance(error.__cause__, SQLAlchemyError) else 400


def refused(status: int, message: str) -> Response:
    return JSONResponse({"error": message.encode("utf-8", "replace").decode()}, status)


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
