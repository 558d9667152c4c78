"""A dry run or the real thing: what a long command would take in time, memory and disk, from a little of it done for real."""

import math
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import lightning as L
import numpy as np
import torch
from omegaconf import DictConfig
from rich.table import Table

from audiorep.console import console
from audiorep.data.loader import decoded_waves
from audiorep.data.windows import Windows
from audiorep.learner import Learner
from audiorep.model import Model
from audiorep.processes import part
from audiorep.training import fit, say_what

T = TypeVar("T")

STEPS, WARM = 8, 3
"""Steps that are done, and those of them that do not count."""

SAMPLE = 64
"""Windows that are embedded to tell how long all of them take."""


@dataclass(frozen=True)
class Estimate:
    """seconds: by what they go on. memory_bytes: the most held at once. disk_bytes: the most needed at once in `out`."""

    seconds: dict[str, float]
    memory_bytes: int
    disk_bytes: int
    out: Path

    @property
    def free_bytes(self) -> int:
        """Room on the disk of `out`."""
        place = next(place for place in (self.out, *self.out.absolute().parents) if place.exists())
        return shutil.disk_usage(place).free


@contextmanager
def set_aside(cfg: DictConfig) -> Iterator[None]:
    """In a dry run `out` is a folder that is gone afterwards; `dry_run` says then which it would have been."""
    if not cfg.get("dry_run") or cfg.get("out") is None:
        yield
        return
    with TemporaryDirectory(prefix="audiorep-") as folder:
        cfg.dry_run, cfg.out = str(cfg.out), f"{folder}/{Path(str(cfg.out)).name}"
        yield


def show(estimate: Estimate) -> None:
    """The estimate as a table; where the disk is too small, that too."""
    table = Table("what", "takes", title="dry run: nothing was written")
    for what, seconds in estimate.seconds.items():
        table.add_row(what, duration(seconds))
    if len(estimate.seconds) > 1:
        table.add_row("together", duration(sum(estimate.seconds.values())))
    table.add_row("memory", size(estimate.memory_bytes) if estimate.memory_bytes else "unknown")
    table.add_row("disk", f"{size(estimate.disk_bytes)}, of {size(estimate.free_bytes)} free")
    console.print(table)
    if estimate.disk_bytes > estimate.free_bytes:
        console.print(
            f"the disk of {estimate.out} is too small: free some space or choose another out=", highlight=False
        )


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


def spread(things: Sequence[T], count: int) -> list[T]:
    """Some of many, from all over the list."""
    return [things[i] for i in np.unique(np.linspace(0, len(things) - 1, min(count, len(things))).astype(int))]


def memory_bytes() -> int:
    """The most that this process has held so far, on the GPU where it used one, else in main memory; 0 where nobody tells."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return int(torch.cuda.max_memory_allocated())
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says on Linux may be of the process that started this one
        held = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(held.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def duration(seconds: float) -> str:
    """ "2 h 5 min", "3 min 20 s", "12 s", "0.2 s"."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours} h {m} min" if hours else f"{m} min {s} s" if m else f"{s} s"


def size(count: int) -> str:
    """ "1.5 GB", "20 MB"."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"
