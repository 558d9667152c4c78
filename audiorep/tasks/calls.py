"""Rows are calls (or clips) with a label, and a window is named as a whole."""

from typing import Any

from omegaconf import DictConfig

from audiorep import build
from audiorep.data.windows import Windows
from audiorep.known import Known, what_is_known
from audiorep.model import Model
from audiorep.tasks.base import Trained
from audiorep.verdict import judge


class Calls:
    """As the manifest has them."""

    def corpus(self, cfg: DictConfig, corpus: build.Corpus) -> build.Corpus:
        return corpus

    def known(self, cfg: DictConfig, corpus: build.Corpus) -> Known:
        return what_is_known(cfg, corpus)

    def facts(self, windows: Windows, model: Model) -> dict[str, Any]:
        return {}

    def judge(self, trained: Trained) -> dict[str, float]:
        t, learner = trained, trained.learner
        return judge(
            t.cfg,
            t.corpus,
            t.known,
            t.model,
            t.info,
            t.notes,
            t.out,
            learner.objective.pooling,
            learner.views,
            t.beside,
        )
