"""audiorep label: the page in the browser to answer in."""

import logging
import socket
import threading
import webbrowser
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pandas as pd
import uvicorn
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig

from audiorep import build
from audiorep.active.scene import embeddings, open_corpus, standardise
from audiorep.active.settings import named, number
from audiorep.composing import compose
from audiorep.data.manifest import read_corpus
from audiorep.errors import AudiorepError
from audiorep.label.answer import Answer, check
from audiorep.label.app import make_app
from audiorep.label.clips import Clip, add_clips
from audiorep.label.cutting import check_begun, cut, length_of, settle_window
from audiorep.label.desk import Desk
from audiorep.label.exchange import clips_of, import_labels, unsaid
from audiorep.label.guard import check_address
from audiorep.label.store import Store, open_store
from audiorep.label.told import Settings, Told

log = logging.getLogger(__name__)

STORE = "labels.sqlite"
IMPORTED = "corpus"
"""The annotator of labels that the corpus brought."""


def label(cfg: DictConfig) -> None:
    """Serve the page until it is stopped. Leaves label store, embeddings and what was exported in `out`."""
    host, token = str(cfg.host), None if cfg.token is None else str(cfg.token)
    check_address(host, token)
    out = Path(str(cfg.out))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AudiorepError(f"out={out}: {error.strerror or error}: name a folder that you may write to") from error
    bound = listen(host, number(cfg, "port", 0))
    desk, folder = open_desk(cfg, out)
    server = uvicorn.Server(uvicorn.Config(make_app(desk, folder, out, token), log_level="warning", access_log=False))
    named = f"[{host}]" if ":" in host else host
    address = f"http://{named}:{bound.getsockname()[1]}/" + (f"?{urlencode({'token': token})}" if token else "")
    print(address, flush=True)  # alone on the standard output, for programs that start the page
    log.info("Ctrl-C ends; every answer is in %s at once", desk.store.name)
    if cfg.open:
        threading.Timer(0.5, webbrowser.open, [address]).start()
    try:
        desk.open()
        server.run(sockets=[bound])
    finally:
        desk.close()


def listen(host: str, port: int) -> socket.socket:
    """A socket on that address.

    Raises:
        AudiorepError: it is in use, or no address of this machine.
    """
    if not 0 <= port <= 65535:
        raise AudiorepError(f"port={port}: 1 to 65535, or 0 for any that is free")
    try:
        bound = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise AudiorepError(
            f"host={host} port={port}: {error.strerror or error}: choose another port=, or 0 for any"
        ) from error
    return bound


def open_desk(cfg: DictConfig, out: Path) -> tuple[Desk, Path]:
    """The corpus with its embeddings, the label store with what the corpus knows already, and the desk between them."""
    own = cfg.embeddings is None
    if own:
        cfg.embeddings = str(out / "embeddings.npz")
    several, wanted = bool(cfg.labels.multilabel), names(cfg)
    settle_window(cfg)
    cfg, whole, model = open_corpus(cfg, out, must_split=False)
    path, length_s = Path(str(cfg.corpus)), length_of(cfg)
    folder = (path if path.is_dir() else path.parent).resolve()
    corpus = cut(whole, length_s, "windows" if cfg.clip_s == "auto" else "clips")
    manifest, places = corpus.manifest, clips_of(corpus.manifest, folder)
    store = open_store(out / STORE if cfg.store is None else str(cfg.store))
    try:
        rows = whole.manifest.take(np.flatnonzero(unsaid(whole.manifest.frame)))
        check_begun(store, clips_of(rows, folder), places, length_s)
        x, known = embeddings(cfg, corpus, model, renew=own)
        known = known & np.isfinite(x).all(1)
        clips, first_rows = one_each(store, places)
        claims = cfg.detections is not None and Path(str(cfg.detections)).resolve() == path.resolve()
        new, old = (0, 0) if claims else import_labels(store, manifest, folder, IMPORTED, several)
        if new or old:
            log.info("%d label(s) of the corpus are in the store, %d of them new", new + old, new)
        held_out = np.zeros(len(clips), bool)
        test = np.intersect1d(corpus.split.test, np.flatnonzero(corpus.labelled))
        held_out[np.isin(first_rows, test)] = not claims  # what is only claimed judges nothing
        found = detected(cfg, folder, clips)
        classes = list(dict.fromkeys([*corpus.classes, *wanted, *sorted({name for name, _ in found.values()})]))
        usable = known[first_rows]
        seconds = {path: info.duration_s for path, info in manifest.files.items()}
        told = Told(
            clips,
            manifest.frame["path"].map(seconds).to_numpy(float)[first_rows],
            standardise(x, np.flatnonzero(known))[first_rows],
            usable,
            held_out,
            found,
            manifest.frame.iloc[first_rows].reset_index(drop=True),
        )
        settings = settings_of(cfg, several, len(classes))
        return Desk(store, told, settings, classes), folder
    except BaseException:
        store.close()
        raise


def one_each(store: Store, clips: list[Clip]) -> tuple[list[Clip], np.ndarray]:
    """The clips with the ids that the store has for them, alike ones once; and the row of each."""
    ids = add_clips(store, clips)
    rows = {clip: row for row, clip in reversed(list(enumerate(ids)))}
    kept = sorted(rows.values())
    return [Clip(**{**vars(clips[row]), "id": ids[row]}) for row in kept], np.array(kept, np.int64)


def names(cfg: DictConfig) -> list[str]:
    """The classes that were named, each as it can be answered.

    Raises:
        AudiorepError: no list, or a name that cannot be a class.
    """
    if not isinstance(cfg.classes, ListConfig):
        raise AudiorepError(f"classes={cfg.classes}: a list is needed, such as classes=[{cfg.classes}]")
    for name in (found := [str(name) for name in cfg.classes]):
        check(Answer("x", "x", "x", "label", {name: True}))
    return found


def detected(cfg: DictConfig, folder: Path, clips: list[Clip]) -> dict[int, tuple[str, float]]:
    """What a detector said of the clips of this corpus; of several classes in one clip the one with the highest score.

    Raises:
        AudiorepError: no column of scores, a score that is no number, or detections that are no clips of the corpus.
    """
    if cfg.detections is None:
        return {}
    manifest = read_corpus(cfg.detections, instantiate(cfg.format), None, lambda done, total: None)
    frame = manifest.frame
    if "score" not in frame:
        raise AudiorepError(f"detections={cfg.detections}: a column score is needed, beside label")
    scores = pd.to_numeric(frame["score"], errors="coerce").to_numpy(float)
    if (bad := (frame["label"] != "").to_numpy() & ~np.isfinite(scores)).any():
        row = int(bad.argmax())
        raise AudiorepError(
            f"detections={cfg.detections}: {Path(frame['path'].iloc[row]).name} at {frame['start_s'].iloc[row]:g} s: score="
            f"{frame['score'].iloc[row]}: a number is needed"
        )
    place = {clip.place: row for row, clip in enumerate(clips)}
    found: dict[int, tuple[str, float]] = {}
    for clip, name, score in zip(clips_of(manifest, folder), frame["label"], scores.tolist(), strict=True):
        row = place.get(clip.place, -1)
        if row >= 0 and name and (row not in found or score > found[row][1]):
            found[row] = (str(name), score)
    if not found:
        raise AudiorepError(
            f"detections={cfg.detections}: none of them is a clip of corpus={cfg.corpus}: index the detections themselves, "
            "and name them as corpus= too"
        )
    return found


def settings_of(cfg: DictConfig, several: bool, classes: int) -> Settings:
    """How is chosen and learned."""
    with build.plain_errors():
        selector, head = instantiate(cfg.selector), instantiate(cfg.learner)
    name = str(cfg.chosen.selector)
    if not callable(head):
        raise AudiorepError("the page learns on embeddings: learner=linear, ensemble or dropout")
    needs_model = selector.needs.trained or selector.needs.answered
    begins = ("typiclust" if needs_model else "") if cfg.first == "auto" else str(cfg.first)
    first = named(begins, "first") if begins else selector
    if first.needs.trained or first.needs.answered:
        raise AudiorepError(
            f"first={begins} needs a model or answers, and there are none at first: choose auto, diversity_first, typiclust,"
            " k_medoids, farthest_first or random"
        )
    batch = number(cfg, "batch", max(10, 2 * classes), "{} questions are chosen at a time")
    counts = {"batch": batch} | {key: number(cfg, key, 1) for key in ("overlap", "budget")}
    if low := next((key for key, value in counts.items() if value < 1), None):
        raise AudiorepError(f"{low}={counts[low]}: 1 at least is needed")
    return Settings(selector, name, first, head, several=several, seed=int(cfg.seed), **counts)


def defaults(*overrides: str) -> DictConfig:
    """The verb's config, for programs that open a desk themselves."""
    cfg: DictConfig = compose("label", list(overrides))
    return cfg
