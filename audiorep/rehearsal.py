"""A dry run or the real thing: what a long command would take in time, memory and disk, from a little of it done for real."""

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np
import torch
from omegaconf import DictConfig
from rich.table import Table

from audiorep.console import console

T = TypeVar("T")


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
