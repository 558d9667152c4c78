"""Work on recordings that are text files, for tests of what does it: some are broken, some kill whoever reads them."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from audiorep.errors import AudioError, AudiorepError

SCHEMA = pa.schema([("path", pa.string()), ("number", pa.int64())])


def numbers(path: Path, deadly: bool = False) -> Iterator[pa.Table]:
    """As many rows as the file says, in tables of two.

    "3 once" kills the process, but only the first one, amidst its rows, "3 always" every process; "full" is a full disk,
    and everything else is a broken recording.
    """
    count, _, death = path.read_text().partition(" ")
    if count == "full":
        raise AudiorepError("cannot write: the disk is full")
    if not count.isdigit():
        raise AudioError(f"{path}: no number")
    rows = [{"path": path.name, "number": i} for i in range(int(count))]
    for i in range(0, max(1, len(rows)), 2):
        yield pa.Table.from_pylist(rows[i : i + 2], SCHEMA)
        died = path.with_suffix(".died")
        if deadly and (death == "always" or (death == "once" and not died.exists())):
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Opened:
    """Work that another process gets by calling `again`."""

    again: Callable[..., object]
    given: tuple[object, ...] = ()

    def __call__(self, path: Path) -> Iterator[pa.Table]:
        return numbers(path)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.again, self.given


def open_nothing() -> None:
    """Open a model that is not there."""
    raise AudiorepError("model=x: no such file")
