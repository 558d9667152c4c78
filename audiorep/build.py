"""From a verb's config to parts: corpus, split, windows, front-end, model. The choices marked `auto` are made here."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict

from audiorep.compress import Compress
from audiorep.console import progress_bar
from audiorep.data.items import one_each
from audiorep.data.labels import encode, frequent
from audiorep.data.loader import decoded_waves
from audiorep.data.manifest import Manifest, read_corpus, write_quarantine
from audiorep.data.sampler import has_label
from audiorep.data.splits import Split, make_split
from audiorep.data.store import Store, find_store
from audiorep.data.windows import Windows, WindowSpec, choose_length_s
from audiorep.data.words import Vocabulary, annotation_texts, learn_vocabulary, word_columns
from audiorep.distributed import neighbours
from audiorep.errors import AudiorepError
from audiorep.evaluate.protocol import Sides, make_sides
from audiorep.evaluate.shortcut import encode as encode_column
from audiorep.evaluate.shortcut import nuisance_columns
from audiorep.frontend import FrontEnd
from audiorep.model import Model, ModelInfo, load_model
from audiorep.types import Wave

log = logging.getLogger(__name__)

PARTS = ("frontend", "compress", "encoder")
"""What a model consists of, and what a pretrained one brings."""

TRAINED = "trained"
"""The value of a setting of the split that is to be as it was when the model was trained."""

FRAMES_A_WINDOW = 96
HOP_BOUNDS_S = (0.0005, 0.010)


@dataclass(frozen=True)
class Corpus:
    """A corpus ready to be cut into windows."""

    manifest: Manifest
    split: Split
    classes: list[str]
    truth: np.ndarray
    notes: list[str]
    store: Store | None = None

    @property
    def labelled(self) -> np.ndarray:
        """[rows] which rows have a label."""
        return self.truth >= 0 if self.truth.ndim == 1 else ~np.isnan(self.truth).all(1)

    def sides(self, known: np.ndarray) -> tuple[Sides, list[str]]:
        """Both sides' labelled rows among those that are `known` [rows], for evaluation."""
        group = self.manifest.frame["group"].to_numpy(dtype=str)
        train, test = (rows[known[rows]] for rows in (self.split.train, self.split.test))
        return make_sides(train, test, self.truth, group, self.classes)


def open_corpus(cfg: DictConfig, out: Path | None = None, must_split: bool = True) -> Corpus:
    """Read, scan, quarantine, split. What is left out goes into ``out/quarantine.csv`` and into the notes.

    Args:
        must_split: refuse a corpus that cannot be split; False: nothing is held out of it, and that is noted.
    """
    with progress_bar("reading headers") as progress:
        manifest = read_corpus(cfg.corpus, instantiate(cfg.format), cfg.annotations, progress)
    notes = []
    if manifest.quarantined:
        named = "; ".join(f"{q.path}: {q.reason}" for q in manifest.quarantined[:3])
        count = len(manifest.quarantined)
        notes.append(
            f"{count} file(s) or row(s) left out: {named}"
            + (f"; all {count} in {out / 'quarantine.csv'}" if out and count > 3 else "")
        )
        if out:
            write_quarantine(manifest.quarantined, out / "quarantine.csv")
    labels = manifest.frame["label"].tolist()
    classes, rare = frequent(labels, cfg.labels.least, cfg.labels.multilabel)
    if rare:
        named = ", ".join(f"{name} ({count})" for name, count in rare.items())
        notes.append(f"classes with fewer than labels.least={cfg.labels.least} rows count as unlabelled: {named}")
    truth = encode(labels, classes, cfg.labels.multilabel, cfg.labels.complete)
    split = Split(np.arange(len(manifest)), np.empty(0, np.int64), "no labels: nothing is held out")
    if classes or rare or cfg.split.get("column") is not None:
        try:
            split = make_split(manifest.frame, **OmegaConf.to_container(cfg.split))  # type: ignore[arg-type]
        except AudiorepError as error:
            if must_split:
                raise
            notes.append(f"nothing is held out: {error}")
    if split.leak_report:
        notes.append(split.leak_report)
    for note in notes:
        log.warning("%s", note)
    with progress_bar("comparing with the store") as progress:
        store = find_store(cfg.corpus, cfg.data.store, list(manifest.files), progress)
    return Corpus(manifest, split, classes, truth, notes, store)


def fill_in_auto(cfg: DictConfig, manifest: Manifest) -> DictConfig:
    """Replace every `auto` that depends on the corpus by a number, and say which."""
    cfg = OmegaConf.create(OmegaConf.to_container(cfg))  # type: ignore[assignment]
    for name in ("window.length_s", "frontend.sample_rate_hz", "frontend.hop_s", "frontend.win_s", "data.workers"):
        value = OmegaConf.select(cfg, name)
        if isinstance(value, str) and value != "auto":
            raise AudiorepError(f"{name}={value}: a number or auto is needed")
    chosen = []
    if cfg.window.length_s == "auto":
        cfg.window.length_s = choose_length_s(manifest.durations_s)
        chosen.append(f"windows of {cfg.window.length_s:g} s")
    if cfg.frontend.sample_rate_hz == "auto":
        cfg.frontend.sample_rate_hz = manifest.common_rate_hz
        chosen.append(f"{cfg.frontend.sample_rate_hz} Hz")
    if cfg.frontend.get("hop_s") == "auto":
        hop_s = float(np.clip(cfg.window.length_s / FRAMES_A_WINDOW, *HOP_BOUNDS_S))
        cfg.frontend.hop_s = round(hop_s * cfg.frontend.sample_rate_hz) / cfg.frontend.sample_rate_hz
        chosen.append(f"a hop of {1000 * cfg.frontend.hop_s:.3g} ms")
    if cfg.frontend.get("win_s") == "auto":
        cfg.frontend.win_s = 4 * cfg.frontend.hop_s
        chosen.append(f"an analysis window of {1000 * cfg.frontend.win_s:.3g} ms")
    if chosen:
        log.info("chosen for this corpus: %s", ", ".join(chosen))
    return cfg


def open_model(cfg: DictConfig) -> tuple[Model, ModelInfo]:
    """The model in the folder `cfg.model`; its front-end, encoder, window and, where nothing else was said, its split are
    the config's then."""
    model, info, parts = load_model(cfg.model)
    with open_dict(cfg):
        cfg.frontend, cfg.compress, cfg.encoder = (OmegaConf.create(parts[n]) for n in PARTS)
        cfg.window.length_s = info.window_s if cfg.window.length_s == "auto" else cfg.window.length_s
        cfg.window.outside = info.outside if cfg.window.outside == "auto" else cfg.window.outside
        for key, value in info.training.get("split_settings", {}).items():
            cfg.split[key] = value if cfg.split[key] == TRAINED else cfg.split[key]
    settle_split(cfg)
    return model, info


def settle_split(cfg: DictConfig) -> None:
    """Leave the defaults for what was left open."""
    with open_dict(cfg):
        cfg.split = {key: value for key, value in cfg.split.items() if value != TRAINED}


def window_spec(cfg: DictConfig) -> WindowSpec:
    """`WindowSpec` of the config."""
    return WindowSpec(**OmegaConf.to_container(cfg.window))  # type: ignore[arg-type]


def make_windows(
    cfg: DictConfig, corpus: Corpus, rows: np.ndarray | None = None, trained: np.ndarray | None = None
) -> Windows:
    """Windows of all rows, or of some; domains are numbered by the `trained` rows, as a rule the training side."""
    manifest = corpus.manifest if rows is None else corpus.manifest.take(rows)
    truth = corpus.truth if rows is None else corpus.truth[rows]
    rate, cache = int(cfg.frontend.sample_rate_hz), int(cfg.data.cache_mb) * 2**20
    windows = Windows(manifest, window_spec(cfg), rate, truth, cache, corpus.store)
    if trained is None and not OmegaConf.select(cfg, "transductive"):
        trained = corpus.split.train
    codes = domain_codes(corpus.manifest.frame, cfg.data.domain, trained)
    windows.domain = codes if rows is None else codes[rows]
    return windows


def domain_codes(frame: pd.DataFrame, column: str | None, trained: np.ndarray | None = None) -> np.ndarray:
    """[rows] the recorder, site ... of each row: 0, 1 ... those of the `trained` rows (None: all), -1 unknown or other.

    "auto" is the first usual column with two values.

    Raises:
        AudiorepError: a column that is not there, or the label.
    """
    found = nuisance_columns(frame, [] if column is None else column, "data.domain")
    if not found:
        return np.full(len(frame), -1, np.int64)
    codes = encode_column(frame[found[0]])
    known = np.unique(codes if trained is None else codes[trained])
    known = known[known >= 0]
    number = np.full(codes.max(initial=-1) + 2, -1, np.int64)  # the last place is that of -1
    number[known] = np.arange(len(known))
    return number[codes]


def annotation_words(cfg: DictConfig, corpus: Corpus) -> tuple[np.ndarray, Vocabulary]:
    """[rows w] the annotation words of every row as numbers, and the vocabulary, which the training side alone makes."""
    texts = annotation_texts(corpus.manifest.frame, cfg.data.words, cfg.labels.multilabel)
    vocabulary = learn_vocabulary([texts[row] for row in corpus.split.train])
    return vocabulary.encode(texts), vocabulary


def rows_where(frame: pd.DataFrame, column: str | None, values: Sequence[Any], key: str) -> np.ndarray:
    """[rows] whether a column holds one of some values; nowhere without a column.

    Raises:
        AudiorepError: no such column.
    """
    if column is None:
        return np.zeros(len(frame), bool)
    if column not in frame:
        raise AudiorepError(
            f"{key}={column}: the corpus has no such column; there are: {', '.join(map(str, frame.columns))}"
        )
    return frame[column].astype(str).isin([str(value) for value in values]).to_numpy()


def draws_of(frame: pd.DataFrame, column: str | None) -> np.ndarray | None:
    """[rows] how often a labelled row is drawn in a pass, by a column of whole numbers; None without one.

    Raises:
        AudiorepError: no such column, or something in it that is no whole number from 0 on.
    """
    if column is None:
        return None
    if column not in frame:
        raise AudiorepError(f"data.draws={column}: the corpus has no such column")
    values = pd.to_numeric(frame[column], errors="coerce").fillna(0.0).to_numpy(float)
    if (values < 0).any() or (values != values.round()).any():
        raise AudiorepError(f"data.draws={column}: whole numbers from 0 on are needed")
    return values.astype(np.int64)


def words_hold_labels(cfg: DictConfig, corpus: Corpus) -> bool:
    """Whether the label is among the annotation words."""
    return "label" in word_columns(corpus.manifest.frame, cfg.data.words)


def workers_for(cfg: DictConfig, windows: Windows) -> int:
    """Loader processes: none where all that is read fits into memory, else one a core of this process's share, the first
    left free."""
    if cfg.data.workers != "auto":
        return int(cfg.data.workers)
    if windows.rows_fit:
        return 0
    return max(1, min(8, (os.cpu_count() or 2) // neighbours() - 1))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Initial weights from `seed`; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def make_model(cfg: DictConfig, seed: int) -> Model:
    """Front-end, compression and encoder, with initial weights from `seed`."""
    with seeded(seed), plain_errors():
        parts: tuple[FrontEnd, Compress, Any] = tuple(instantiate(cfg[name]) for name in PARTS)
        return Model(*parts)


def model_parts(cfg: DictConfig) -> dict[str, Any]:
    """The configs that rebuild a model."""
    return {name: OmegaConf.to_container(cfg[name], resolve=True) for name in PARTS}


def fit_compression(frontend: FrontEnd, compress: Compress, windows: Windows, seed: int, count: int = 512) -> None:
    """Fit offset and statistics of a compression to a sample of the training windows.

    Raises:
        AudiorepError: the windows are shorter than the front-end's transform.
    """
    frontend.check_length(windows.length)
    items = windows.fixed_items()
    chosen = np.sort(np.random.default_rng([seed, 2]).permutation(len(items))[:count])
    with torch.inference_mode():
        power = [frontend(batch["wave"]) for batch in decoded_waves(windows, items[chosen])]
    compress.fit(torch.cat(power).clone())


def background_bank(cfg: DictConfig, corpus: Corpus, windows: Windows, rows: np.ndarray | None) -> Wave:
    """Up to `data.background_windows` windows [m t] of the rows labelled as background; of any rows where none is."""
    label = corpus.manifest.frame["label"].str.lower().to_numpy(dtype=str)
    named = np.isin(label if rows is None else label[rows], list(cfg.data.background))
    quiet = np.flatnonzero(named & has_label(windows.label))  # a label that is hidden must not tell either
    if not len(quiet):
        log.info("no row is labelled %s: other windows serve as background", " or ".join(cfg.data.background))
        quiet = np.arange(len(windows))
    order = np.random.default_rng([cfg.seed, 4]).permutation(quiet)[: cfg.data.background_windows]
    return torch.cat([batch["wave"] for batch in decoded_waves(windows, one_each(order))])


@contextmanager
def plain_errors() -> Iterator[None]:
    """Hydra wraps what a part raises; let our own errors through as they are."""
    try:
        yield
    except InstantiationException as error:
        cause = error.__cause__
        while cause is not None and not isinstance(cause, AudiorepError):
            cause = cause.__cause__
        if cause is not None:
            raise cause from None
        reason = str(error.__cause__ or error).splitlines()[0]
        part = str(error).splitlines()[-1].removeprefix("full_key: ")
        raise AudiorepError(f"the part '{part}' of the config cannot be made: {reason}") from error


def device_of(accelerator: str) -> torch.device:
    """Where evaluation runs."""
    wants: Callable[[str], bool] = lambda name: accelerator in ("auto", name)  # noqa: E731
    if wants("gpu") and torch.cuda.is_available():
        return torch.device("cuda")
    if wants("mps") and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def choose_precision(precision: str) -> str:
    """`auto`: bfloat16 where the hardware multiplies it natively, else float32.

    Raises:
        AudiorepError: float16: its loss scaling would spoil gradient clipping and exact resume.
    """
    if "16" in precision and "bf16" not in precision:
        raise AudiorepError(f"trainer.precision={precision} is not supported: use bf16-mixed, or 32-true")
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    native = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return "bf16-mixed" if any(getattr(torch.cpu, name, bool)() for name in native) else "32-true"
