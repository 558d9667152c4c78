"""audiorep label: the page in the browser to answer in."""

import logging
import socket
import threading
import webbrowser
from pathlib import Path

import numpy as np
import uvicorn
from hydra.utils import instantiate
from omegaconf import DictConfig

from audiorep import build
from audiorep.active.scene import embeddings, open_corpus, standardise
from audiorep.cli import compose
from audiorep.console import console
from audiorep.data.manifest import read_corpus
from audiorep.errors import AudiorepError
from audiorep.label.app import make_app
from audiorep.label.clips import Clip, add_clips
from audiorep.label.desk import Desk, Settings, Told
from audiorep.label.exchange import clips_of, import_labels
from audiorep.label.guard import check_address
from audiorep.label.store import Store, open_store
from audiorep.verbs.active import named, number

log = logging.getLogger(__name__)

STORE = "labels.sqlite"
IMPORTED = "corpus"
"""The annotator of labels that the corpus brought."""


def label(cfg: DictConfig) -> None:
    """Serve the page until it is stopped."""
    check_address(str(cfg.host), cfg.token)
    out = Path(str(cfg.out))
    out.mkdir(parents=True, exist_ok=True)
    bound = listen(str(cfg.host), cfg.port)
    desk, folder = open_desk(cfg, out)
    server = uvicorn.Server(
        uvicorn.Config(make_app(desk, folder, out, cfg.token), log_level="warning", access_log=False)
    )
    address = f"http://{cfg.host}:{bound.getsockname()[1]}/" + (f"?token={cfg.token}" if cfg.token else "")
    console.print(f"[bold]{address}[/]   (Ctrl-C ends; every answer is in {desk.store.name} at once)", highlight=False)
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
    several = bool(cfg.labels.multilabel)
    cfg, corpus, model = open_corpus(cfg, out)
    x, known = embeddings(cfg, corpus, model, renew=own)
    manifest, path = corpus.manifest, Path(str(cfg.corpus))
    folder = (path if path.is_dir() else path.parent).resolve()
    store = open_store(out / STORE if cfg.store is None else str(cfg.store))
    try:
        clips, first_rows = one_each(store, clips_of(manifest, folder))
        claims = cfg.detections is not None and Path(str(cfg.detections)).resolve() == path.resolve()
        new, old = (0, 0) if claims else import_labels(store, manifest, folder, IMPORTED, several)
        if new or old:
            log.info("%d label(s) of the corpus are in the store, %d of them new", new + old, new)
        held_out = np.zeros(len(clips), bool)
        test = np.intersect1d(corpus.split.test, np.flatnonzero(corpus.labelled))
        held_out[np.isin(first_rows, test)] = not claims  # what is only claimed judges nothing
        classes = list(dict.fromkeys([*corpus.classes, *map(str, cfg.classes)]))
        usable = known[first_rows]
        seconds = {path: info.duration_s for path, info in manifest.files.items()}
        length_s = manifest.frame["path"].map(seconds).to_numpy(float)[first_rows]
        told = Told(
            clips,
            length_s,
            standardise(x, np.flatnonzero(known))[first_rows],
            usable,
            held_out,
            detected(cfg, folder, store, clips),
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


def detected(cfg: DictConfig, folder: Path, store: Store, clips: list[Clip]) -> dict[int, tuple[str, float]]:
    """What a detector said of the clips of this corpus.

    Raises:
        AudiorepError: no column of scores, or detections that are no clips of the corpus.
    """
    if cfg.detections is None:
        return {}
    manifest = read_corpus(cfg.detections, instantiate(cfg.format), None, lambda done, total: None)
    frame = manifest.frame
    if "score" not in frame:
        raise AudiorepError(f"detections={cfg.detections}: a column score is needed, beside label")
    place = {clip.place: row for row, clip in enumerate(clips)}
    found = {}
    for clip, name, score in zip(clips_of(manifest, folder), frame["label"], frame["score"], strict=True):
        if clip.place in place and name:
            found[place[clip.place]] = (str(name), float(score))
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
    needs_model = selector.needs.probabilities or selector.needs.answered
    begins = ("typiclust" if needs_model else "") if cfg.first == "auto" else str(cfg.first)
    first = named(begins, "first") if begins else selector
    batch = number(cfg, "batch", max(10, 2 * classes))
    return Settings(selector, name, first, head, batch, int(cfg.overlap), several, int(cfg.budget), int(cfg.seed))


def defaults(*overrides: str) -> DictConfig:
    """The verb's config, for programs that open a desk themselves."""
    cfg: DictConfig = compose("label", list(overrides))
    return cfg
