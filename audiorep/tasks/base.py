"""What a training stage is about: calls cut out of recordings, or every moment of a recording."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from omegaconf import DictConfig

from audiorep import build
from audiorep.data.windows import Windows
from audiorep.known import Known
from audiorep.learner import Learner
from audiorep.model import Model, ModelInfo


@dataclass(frozen=True)
class Trained:
    """A trained model, what it was trained on, and where it is told of; `notes` grows with what a user should know.

    beside: other classifiers of the same training, by name, which are judged too.
    """

    cfg: DictConfig
    corpus: build.Corpus
    known: Known
    model: Model
    info: ModelInfo
    notes: list[str]
    learner: Learner
    out: Path
    beside: Mapping[str, Model] = field(default_factory=dict)


class Task(Protocol):
    """From a corpus to rows that are learned from, and from a trained model to what is told of it."""

    def corpus(self, cfg: DictConfig, corpus: build.Corpus) -> build.Corpus:
        """The corpus in rows that windows are cut from."""
        ...

    def known(self, cfg: DictConfig, corpus: build.Corpus) -> Known:
        """What may be known of the labels of these rows."""
        ...

    def facts(self, windows: Windows, model: Model) -> dict[str, Any]:
        """What the objective is told besides what windows tell: keys of `Setting`."""
        ...

    def judge(self, trained: Trained) -> dict[str, float]:
        """Calibrate, score, leave thresholds, metrics and pictures in `out`; returns the metrics."""
        ...
