"""Rows are calls (or clips) with a label, and a window is named as a whole."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from audiorep import build
from audiorep.data.windows import Windows
from audiorep.known import Known, what_is_known
from audiorep.learner import Learner
from audiorep.model import Model, ModelInfo
from audiorep.verdict import judge


class Calls:
    """As the manifest has them."""

    framewise = False

    def corpus(self, cfg: DictConfig, corpus: build.Corpus) -> build.Corpus:
        return corpus

    def known(self, cfg: DictConfig, corpus: build.Corpus) -> Known:
        return what_is_known(cfg, corpus)

    def facts(self, windows: Windows, model: Model) -> dict[str, Any]:
        return {}

    def judge(
        self,
        cfg: DictConfig,
        corpus: build.Corpus,
        known: Known,
        model: Model,
        info: ModelInfo,
        notes: list[str],
        learner: Learner,
        out: Path,
    ) -> dict[str, float]:
        return judge(cfg, corpus, known, model, info, notes, out, learner.objective.pooling, learner.views)
