"""Objectives around a classifier that says what is written in the spectrogram, so that batches are worked out by hand."""

from typing import Any

import torch
from hydra.utils import instantiate
from torch import Tensor, nn

from audiorep.classifier import Classifier
from audiorep.composing import compose
from audiorep.compress import Compress
from audiorep.encoders.base import Encoder
from audiorep.objectives.base import Objective, Setting
from audiorep.types import Features, generator

CLASSES = 3


class Plain(Encoder):
    """The bands of the first frame, times 1."""

    def __init__(self, dim: int = CLASSES) -> None:
        super().__init__()
        self.dim = dim
        self.scale = nn.Parameter(torch.ones(dim))

    def forward(self, spec: Tensor, *, keep: Any = None, mask: Any = None) -> Features:
        x = spec[:, 0, : self.dim, 0] * self.scale
        return Features(x, x[:, None])


def plain(name: str, *overrides: str, several: bool = False, rows: int = 8, compress: Compress | None = None) -> Any:
    """An objective as it ships, whose logits are the first frame of what it is shown; without dropout."""
    given = ["corpus=x", "out=x", f"objective={name}", "objective.dropout=0"]
    cfg = compose("pretrain", [*given, *(f"objective.{override}" for override in overrides)])
    cfg.encoder = {"_target_": "plain.Plain"}
    objective: Objective = instantiate(cfg.objective, encoder=Plain())
    objective.prepare(setting(several, rows, compress=compress))
    for part in objective.modules():
        if isinstance(part, Classifier):
            nn.init.eye_(part.head.weight)
            nn.init.zeros_(part.head.bias)
    return objective


def setting(several: bool = False, rows: int = 8, outputs: int = CLASSES, **facts: Any) -> Setting:
    """Of a corpus in which every answer is given alike often."""
    counts = [[rows, rows]] * outputs if several else [[rows] * outputs]
    kinds = {"global": 2, "weak": 2, "strong": 1, "clean": 1, "noisy": 1}
    return Setting(rows, 4, kinds, rows, outputs, 10.0, outputs=outputs, counts=counts, **facts)


def written(logits: Tensor | list[list[float]]) -> Tensor:
    """Spectrograms that are heard as these logits."""
    x = torch.as_tensor(logits, dtype=torch.float32)
    return torch.stack([x, torch.full_like(x, 7.0)], 2)[:, None]


def likely(*p: list[float]) -> Tensor:
    """Spectrograms that are heard as these probabilities."""
    return written(torch.tensor(p).log())


def heard(spec: Tensor) -> Tensor:
    """[b c] the probabilities, in float64."""
    return spec[:, 0, :, 0].double().softmax(1)


def drawn(seed: int, count: int = 4) -> Tensor:
    return written(2.0 * torch.randn(count, CLASSES, generator=generator(seed)))


def told(label: Any, index: list[int] | None = None) -> Any:
    """A batch, as far as classifiers ask for it."""
    label = torch.as_tensor(label)
    row = torch.arange(len(label)) if index is None else torch.tensor(index)
    return {"label": label, "index": row, "slot": row}
