"""The whole encoder as the learner of active learning: fine-tuned by `audiorep train` after every batch of answers."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from omegaconf import DictConfig
from torch import Tensor

from audiorep import build
from audiorep.active.heads import Answers, Ask, Learn, Rows
from audiorep.errors import AudiorepError
from audiorep.known import Known
from audiorep.overrides import quoted, words
from audiorep.procedures import common


@dataclass(frozen=True)
class Setting:
    """What a network is trained on: the verb's config and corpus, the rows that may be asked, and a folder for its runs."""

    cfg: DictConfig
    corpus: build.Corpus
    pool: Rows
    folder: Path


class Network:
    """Fine-tunes the model (without `model=`: trains from scratch) on the answers so far, each time from its beginning.

    One model answers once: scores that compare passes have nothing to compare.

    Args:
        overrides: keys of audiorep train.

    Raises:
        AudiorepError: several labels a row.
    """

    passes = False

    def __init__(self, overrides: str = "") -> None:
        self.overrides = words(overrides)

    def bind(self, x: Float[Tensor, "n d"], several: bool, setting: Setting) -> Learn:
        if several:
            raise AudiorepError(
                "learner=network is for one label a row: choose learner=linear, ensemble or dropout, which take several"
            )
        cfg, corpus = setting.cfg, setting.corpus
        known = Known(corpus.classes, corpus.truth, setting.pool, np.empty(0, np.int64), [])
        kept = [f"window.{name}={cfg.window[name]}" for name in map(str, cfg.window)]
        start = [] if cfg.model is None else [quoted(f"init={cfg.model}")]
        task = common.Task(corpus, known, str(cfg.corpus), (*kept, *self.overrides), int(cfg.seed), setting.folder)
        train = common.Network(task, tuple(start))

        def learn(rows: Rows, answers: Answers, rng: torch.Generator, name: str) -> Ask:
            labels = np.full(len(x), -1)
            labels[rows] = answers.argmax(1).numpy()
            p = train(labels, (labels >= 0).astype(np.int64), name)
            return lambda wanted: torch.from_numpy(p[wanted]).float().log()[None]

        return learn
