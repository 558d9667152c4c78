"""From a corpus and a model to what active learning works on: embeddings of all rows, kept for the next time."""

import hashlib
import json
import logging
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from audiorep import build
from audiorep.batch_size import batch_size
from audiorep.console import progress_bar
from audiorep.errors import AudiorepError
from audiorep.evaluate.embedding import embed_rows, extract_with
from audiorep.files import atomic
from audiorep.model import Model

log = logging.getLogger(__name__)

SMALLEST = 1e-6
"""A number of the embedding that varies less than this is not standardised."""


def open_corpus(cfg: DictConfig, out: Path, must_split: bool = True) -> tuple[DictConfig, build.Corpus, Model]:
    """The corpus, and the model whose embeddings are used; without one, a front-end for mel statistics.

    Args:
        must_split: see `audiorep.build.open_corpus`.
    """
    if cfg.model is not None:
        model, _ = build.open_model(cfg)
        return cfg, build.open_corpus(cfg, out, must_split), model
    build.settle_split(cfg)
    cfg.window.outside = "context" if cfg.window.outside == "auto" else cfg.window.outside
    corpus = build.open_corpus(cfg, out, must_split)
    cfg = build.fill_in_auto(cfg, corpus.manifest)
    model = build.make_model(cfg, cfg.seed)
    train = build.make_windows(cfg, corpus, corpus.split.train)
    build.fit_compression(model.frontend, model.compress, train, cfg.seed)
    return cfg, corpus, model


def embeddings(
    cfg: DictConfig, corpus: build.Corpus, model: Model, renew: bool = False
) -> tuple[Float[np.ndarray, "n d"], Bool[np.ndarray, " n"]]:
    """Embeddings of all rows, and which rows could be decoded; from `cfg.embeddings` where that file holds those of this
    corpus by this model, else computed and kept there.

    Args:
        renew: a file that holds something else is replaced, not refused.

    Raises:
        AudiorepError: the file holds something else.
    """
    kept = None if cfg.embeddings is None else Path(str(cfg.embeddings))
    of = fingerprint(cfg, corpus, model)
    if kept is not None and kept.exists():
        try:
            with np.load(kept, allow_pickle=False) as file:
                x, known, was = file["embedding"], file["known"], str(file["of"])
        except (OSError, ValueError, KeyError) as error:
            raise AudiorepError(f"embeddings={kept}: no file of embeddings: {error}") from error
        if was == of:
            return x, known
        if not renew:
            raise AudiorepError(
                f"embeddings={kept} are of another corpus, model or window: name another file, or delete this one"
            )
    windows = build.make_windows(cfg, corpus)
    device = build.device_of(cfg.trainer.accelerator)
    with progress_bar("embedding") as progress:
        workers = build.workers_for(cfg, windows)
        found = embed_rows(
            windows,
            extract_with({"": model.eval().to(device)}, cfg.model is None),
            batch_size(cfg),
            device,
            workers,
            progress,
        )
    model.cpu()
    x = found.values["mel" if cfg.model is None else ""]
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with atomic(kept) as temporary, temporary.open("wb") as file:
            np.savez(file, embedding=x, known=found.known, of=np.array(of))
    return x, found.known


def fingerprint(cfg: DictConfig, corpus: build.Corpus, model: Model) -> str:
    """What embeddings depend on: the rows, the window, the model's parts and weights."""
    digest = hashlib.sha256()
    rows = corpus.manifest.frame[["path", "start_s", "end_s"]]
    digest.update(rows.to_csv(index=False).encode())
    digest.update(json.dumps([OmegaConf.to_container(cfg.window), build.model_parts(cfg)], sort_keys=True).encode())
    for name, tensor in model.state_dict().items():
        if cfg.model is not None or not name.startswith("encoder."):
            digest.update(tensor.cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()


def standardise(x: Float[np.ndarray, "n d"], rows: np.ndarray) -> Float[Tensor, "n d"]:
    """Mean 0 and deviation 1 over `rows`."""
    mean, deviation = x[rows].mean(0), x[rows].std(0)
    return torch.from_numpy(((x - mean) / np.where(deviation < SMALLEST, 1.0, deviation)).astype(np.float32))


def minutes_of(corpus: build.Corpus) -> Float[np.ndarray, " n"]:
    """How long each row lasts, in minutes: what it costs to listen to it."""
    return np.maximum(np.asarray(corpus.manifest.durations_s, float), 1e-3) / 60.0
