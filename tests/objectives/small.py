"""Every objective config around a small encoder, with views and a batch of its own making."""

import copy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from audiorep.composing import compose
from audiorep.data.annotated import Annotated
from audiorep.encoders.cnn import SmallCnn
from audiorep.encoders.vit import Vit
from audiorep.frozen import FrozenTeacher, Told
from audiorep.objectives.base import Objective, Setting
from audiorep.types import generator

NAMES = sorted(path.stem for path in Path("configs/objective").glob("*.yaml"))
COUNT, ROWS = 16, 256
NAMED = ("a", "b", "c", "d")
KINDS = {"global": 2, "local": 2, "other": 1, "wave": 1, "clean": 1, "noisy": 1, "weak": 2, "strong": 1}
VOCABULARY = 9


class Finished:
    """A teacher that is no network: embedding and logits are fixed functions of the samples."""

    rate_hz, dim, classes, multilabel, licence = 8000, 6, NAMED, False, "to be named"

    def __call__(self, wave: torch.Tensor) -> Told:
        x = torch.stack([wave.mean(1), wave.abs().mean(1), wave.square().mean(1)], 1)
        return Told(torch.cat([x, x.square()], 1), torch.cat([x, -x[:, :1]], 1))


def teacher() -> FrozenTeacher:
    return FrozenTeacher(Finished(), "finished")


def songs() -> Annotated:
    """Two calls in each row, in the part of it that `batch` cuts out; which ones goes by the row."""
    row = np.repeat(np.arange(ROWS), 2)
    first = 800 * row + 1000 * (np.arange(2 * ROWS) % 2)
    return Annotated(row, (row + np.arange(2 * ROWS) % 2) % 4, first, first + 700, ROWS, 4)


@cache
def config(name: str) -> Any:
    """The composed config, with heads made narrow."""
    given = ["teacher.model=x"] if name == "distill" else []
    cfg = compose("pretrain", ["corpus=x", f"objective={name}", "out=x", "frontend.sample_rate_hz=8000", *given])
    if name == "distill":
        cfg.teacher = {"_target_": "small.teacher"}

    def narrow(node: Any) -> None:
        for key, value in node.items():
            if isinstance(value, DictConfig):
                if value.get("_target_") == "audiorep.heads.Mlp":
                    sizes = {"hidden": 64, "outputs": 32}
                    value.update({size: width for size, width in sizes.items() if size in value})
                if "threshold" in value:  # a fresh network is sure of nothing
                    value.threshold = 0.0
                narrow(node[key])

    narrow(cfg.objective)
    return cfg


def build(name: str) -> Objective:
    """The objective as it ships, but for the encoder and the width of the heads."""
    cfg = copy.deepcopy(config(name))
    torch.manual_seed(0)
    patches = "Vit" in cfg.encoder._target_
    encoder = Vit(dim=48, depth=2, heads=2, patch=(8, 8)) if patches else SmallCnn(width=8, dim=64)
    cfg.encoder = {"_target_": "audiorep.encoders.cnn.SmallCnn", "width": 8, "dim": 64}  # for objectives with a second
    objective = instantiate(cfg.objective, encoder=encoder)
    told = Setting(
        ROWS, 128, KINDS, ROWS, 4, 20.0, domains=2, shared=4, vocabulary=VOCABULARY, words=3, outputs=4, texts=4,
        counts=[[64] * 4], names=NAMED, rate_hz=8000, annotated=songs(), samples=ROWS * 1600, hop_samples=100,
    )  # fmt: skip
    objective.prepare(told)
    objective.before_epoch(0, lambda: torch.randn(ROWS, 12, generator=generator(4)), generator(5))
    return objective.train()


def views(seed: int, frames: int = 32, count: int = COUNT) -> dict[str, list[torch.Tensor]]:
    """Two noisy views of random spectrograms, crops of them, and another front-end's look at them."""
    rng = generator(seed)
    base = torch.randn(count, 1, 32, frames, generator=rng)

    def view() -> torch.Tensor:
        return base + 0.3 * torch.randn(base.shape, generator=rng)

    return {
        "global": [view(), view()],
        "local": [view()[..., : frames // 2], view()[..., : frames // 2]],
        "other": [view()[:, :, ::2]],
        "clean": [base],
        "noisy": [view()],
        "weak": [view(), view()],
        "strong": [view()],
        "wave": [torch.randn(count, 1, 1, 60 * frames, generator=rng)],
    }


def batch(count: int = COUNT) -> dict[str, torch.Tensor]:
    """Four labels, four recordings, two sites, two words a label, a window every tenth of a second."""
    index = torch.arange(count)
    label = index % 4
    return {
        "index": index,
        "slot": index,
        "label": torch.where(index % 16 < 12, label, -1),
        "group": index // 4,
        "recording": index // 4,
        "start": 800 * index,
        "valid": torch.ones(count, 400, dtype=torch.bool),
        "wave": torch.sin(0.01 * (1.0 + index[:, None]) * torch.arange(400.0)),
        "domain": index // 4 % 2,
        "tokens": torch.stack([3 + label, 7 + label % 2, torch.zeros_like(index)], 1),
    }


def part(made: dict[str, list[torch.Tensor]], rows: torch.Tensor | slice) -> dict[str, list[torch.Tensor]]:
    """The views of some rows."""
    return {name: [view[rows] for view in of_kind] for name, of_kind in made.items()}
