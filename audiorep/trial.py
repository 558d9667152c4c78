"""A dry run of a training: some steps of it are done, and tell what all of it would take."""

import math
import time
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from omegaconf import DictConfig

from audiorep.data.loader import decoded_waves
from audiorep.data.windows import Windows
from audiorep.learner import Learner
from audiorep.model import Model
from audiorep.processes import part
from audiorep.rehearsal import Estimate, memory_bytes, show, spread
from audiorep.training import fit, say_what

STEPS, WARM = 8, 3
"""Steps that are done, and those of them that do not count."""

SAMPLE = 64
"""Windows that are embedded to tell how long all of them take."""


def fit_or_rehearse(cfg: DictConfig, learner: Learner, windows: Windows, model: Model, rows: int) -> bool:
    """Say what is trained on what, and train; with `dry_run` show what it would take instead.

    Returns:
        whether this process goes on to judge what was trained: of several it is the first alone.
    """
    say_what(cfg, learner, model, windows)
    if cfg.dry_run:
        show(rehearse_training(cfg, learner, windows, model, rows))
        return False
    fit(cfg, learner, windows)
    return part()


def rehearse_training(cfg: DictConfig, learner: Learner, windows: Windows, model: Model, rows: int) -> Estimate:
    """Do a few steps of a training, and tell what all of it takes.

    Args:
        rows: of the corpus, which are embedded to evaluate.
    """
    clock = Clock()
    fit(cfg, learner, windows, only=STEPS, callbacks=[clock])
    ends = np.diff(clock.ends)
    step_s = float(np.median(ends[WARM:] if len(ends) > WARM else ends)) if len(ends) else clock.ends[0] - clock.began
    left = learner.max_steps - (learner.step - len(clock.ends))
    epochs = math.ceil(left / learner.sampler.steps_per_epoch)
    disk = sum(path.stat().st_size for path in Path(str(cfg.out)).rglob("*") if path.is_file())
    embedded_s = embedding_seconds(model, windows)
    beside = len(cfg.evaluation.beside) if "evaluation" in cfg and "beside" in cfg.evaluation else 0
    seconds = {
        f"{left} steps, {step_s:.3g} s each": left * step_s,
        f"{epochs} looks at the whole corpus": epochs * clock.before_s,
        f"embedding {rows} rows to evaluate": rows * embedded_s * (1 + beside),
    }
    kept = {what: spent for what, spent in seconds.items() if "looks" not in what or clock.before_s > step_s}
    return Estimate(kept, memory_bytes(), 2 * disk, Path(str(cfg.dry_run)))


class Clock(L.Callback):
    """When the steps ended, and what came before the first."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.began, self.before_s = 0.0, 0.0

    def on_fit_start(self, trainer: L.Trainer, module: Any) -> None:
        self.began = time.monotonic()

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        now = time.monotonic()
        self.before_s, self.began = now - self.began, now

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, *_: object) -> None:
        if not self.ends:  # its size is that of all later ones
            module.save()
        self.ends.append(time.monotonic())


@torch.inference_mode()
def embedding_seconds(model: Model, windows: Windows) -> float:
    """Seconds that a row takes to be decoded and embedded, on the CPU or GPU where the model stands."""
    items = windows.fixed_items()
    device, began = next(model.parameters()).device, time.monotonic()
    chosen = items[spread(range(len(items)), SAMPLE)]
    for batch in decoded_waves(windows, chosen, SAMPLE):
        model(batch["wave"].to(device))
    return (time.monotonic() - began) / len(chosen) * len(items) / len(windows)
