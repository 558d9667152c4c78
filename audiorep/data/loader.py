"""Batches: in training a stream that depends on (seed, step) alone, in evaluation every fixed window once, in order."""

import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from audiorep.data.sampler import Drawing
from audiorep.data.windows import Windows
from audiorep.errors import AudiorepError
from audiorep.types import Batch, Wave

HELD = 3
"""Batches whose memory is kept: one that is used, one that is being made, and one that waits between them."""


class Floats(Dataset[dict[str, Any]]):
    """Windows whose samples come in [-1, 1] at once, for a loader in the process that uses them on the CPU; those that still
    go to another process or to a GPU go as 16 bits, which is half of it.

    Batches are written into the memory of earlier ones that nobody holds any more: to get fresh memory from the system takes
    as long as to read a window into it.
    """

    def __init__(self, windows: Windows) -> None:
        self.windows = windows
        self.held: list[np.ndarray] = []

    def __len__(self) -> int:
        return len(self.windows)

    def __getitems__(self, items: np.ndarray) -> dict[str, Any]:
        return self.windows.batch(items, self.memory(len(items)))

    def memory(self, count: int) -> np.ndarray:
        """[count t] floats that are nobody else's: a tensor made of an array, or of a part of it, refers to the array."""
        alone = references([np.empty(0)])[0]
        for array, times in zip(self.held, references(self.held), strict=True):
            if len(array) == count and times == alone:
                return array
        fresh = np.empty((count, self.windows.length), np.float32)
        self.held = [*self.held, fresh][-HELD:]
        return fresh


def references(arrays: list[np.ndarray]) -> list[int]:
    """How often each array of a list is referred to, this function's own references among them."""
    return [sys.getrefcount(array) for array in arrays]


class StepSampler(Sampler[np.ndarray]):
    """The batches [b 4] of one epoch from `first_step` on. Step s is the same wherever training was interrupted before it.

    The batches of an epoch are drawn from (seed, epoch) and, where the drawing uses it, the objective's `partition`.

    Args:
        drawing: which windows stand together.
        batch_size: items a batch, of this process.
        max_steps: where the stream ends.
        seed: of order and crops.
        rank, world: this process and the number of them; together they see the batch of one process.
    """

    def __init__(
        self, drawing: Drawing, batch_size: int, max_steps: int, seed: int, rank: int = 0, world: int = 1
    ) -> None:
        self.drawing = drawing
        self.batch_size, self.max_steps, self.seed = batch_size, max_steps, seed
        self.rank, self.world, self.first_step = rank, world, 0
        self.partition: np.ndarray | None = None
        if batch_size < 2:
            raise AudiorepError(
                f"data.batch_size={batch_size}: at least 2 windows are needed to compare one with another"
            )
        if max_steps < 1:
            raise AudiorepError(f"trainer.max_steps={max_steps}: at least one step is needed")
        if drawing.units < self.total and not drawing.repeats:
            raise AudiorepError(
                f"the training side has {drawing.units} windows, fewer than a batch of {self.total}: "
                f"lower data.batch_size to {drawing.units} or less, or add recordings"
            )

    @property
    def total(self) -> int:
        """Items of the joined batch of all processes."""
        return self.batch_size * self.world

    @property
    def steps_per_epoch(self) -> int:
        return max(1, self.drawing.units // self.total)

    def __iter__(self) -> Iterator[np.ndarray]:
        epoch, done = divmod(self.first_step, self.steps_per_epoch)
        rng = np.random.default_rng([self.seed, epoch])
        draw = int(np.random.default_rng([self.seed, epoch, 1]).integers(0, 2**31))
        stop = min(self.steps_per_epoch, self.max_steps - epoch * self.steps_per_epoch)
        batches = self.drawing.batches(rng, self.total, stop, draw, self.partition)
        for batch in islice(batches, done, stop):
            yield batch[self.rank * self.batch_size : (self.rank + 1) * self.batch_size]


def to_device(batch: dict[str, Any], device: torch.device) -> Batch:
    """Move a batch and turn its samples into floats in [-1, 1]."""
    moved: Any = {
        name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
        for name, value in batch.items()
    }
    if moved["wave"].dtype == torch.int16:
        moved["wave"] = to_floats(moved["wave"])
    return moved


def to_floats(wave: torch.Tensor) -> Wave:
    """Samples of 16 bits [b t] in [-1, 1]: ``wave / 32768``, exact. On a CPU a window at a time, which stays in its cache."""
    if wave.device.type != "cpu":
        return wave.float().mul_(1 / 32768)
    out = torch.empty(wave.shape)
    for window, samples in zip(out, wave, strict=True):
        window.copy_(samples).mul_(1 / 32768)
    return out


def source(windows: Windows, workers: int) -> Dataset[dict[str, Any]]:
    """What a loader takes its batches from."""
    return windows if workers or torch.cuda.is_available() else Floats(windows)


def as_it_is(batch: Any) -> Any:
    """What `Windows` returns is a batch already."""
    return batch


def train_loader(windows: Windows, sampler: StepSampler, workers: int) -> DataLoader[Any]:
    """The training stream."""
    batches: Any = sampler
    return DataLoader(
        source(windows, workers),
        batch_sampler=batches,
        collate_fn=as_it_is,
        num_workers=workers,
        persistent_workers=workers > 0,
        generator=torch.Generator().manual_seed(0),  # the loader would draw from the global one
        pin_memory=torch.cuda.is_available(),
        multiprocessing_context=None if workers == 0 else "spawn" if torch.cuda.is_available() else None,
    )


def fixed_batches(
    windows: Windows,
    batch_size: int,
    workers: int = 0,
    items: np.ndarray | None = None,
) -> DataLoader[Any]:
    """Every fixed window (or `items` [n 4]) once, in order of rows; a batch of which nothing could be decoded is empty."""
    items = windows.fixed_items() if items is None else items
    chunks: Any = [items[i : i + batch_size] for i in range(0, len(items), batch_size)]
    fresh = torch.Generator().manual_seed(0)  # the loader would draw from the global generator
    return DataLoader(
        source(windows, workers), batch_sampler=chunks, collate_fn=as_it_is, num_workers=workers, generator=fresh
    )


def decoded_waves(windows: Windows, items: np.ndarray, batch_size: int = 64) -> Iterator[Batch]:
    """Batches of `items` on the CPU, without those that cannot be decoded.

    Raises:
        AudiorepError: not one can be decoded.
    """
    found, failed = False, []
    for raw in fixed_batches(windows, batch_size, items=items):
        failed += raw.get("failed", [])
        if len(raw["index"]):
            found = True
            yield to_device(raw, torch.device("cpu"))
    if not found:
        raise AudiorepError(f"not one of {len(items)} windows can be decoded; the first: {failed[0][1]}")
