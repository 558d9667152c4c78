"""A study as cells, one command each in a process of its own, journalled: the study goes on where it stopped."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiorep.console import progress_bar
from audiorep.errors import AudiorepError
from audiorep.files import read_json, write_json

log = logging.getLogger(__name__)

LEFT_IN_A_LOG = 600
"""Characters of a failed command's last words that the journal keeps."""


@dataclass(frozen=True)
class Cell:
    """One command of a study.

    name: unique in the study, and a file name. verb, overrides: what to run. facts: what the journal says besides.
    command: what is run, as the journal keeps it, without the folders of this machine: a journalled cell whose command is
    another one is run again.
    """

    name: str
    verb: str
    overrides: Sequence[str]
    facts: Mapping[str, Any]
    command: str = ""


Entry = dict[str, Any]
"""A line of the journal: the cell's facts, `command`, `status` (done, refused, failed), `metrics`, `seconds`, `message`."""

Digest = Callable[[Cell, Path], Mapping[str, Any]]
"""What the journal shall keep of a finished cell, from its output folder."""


@contextmanager
def telling() -> Iterator[Callable[[int, int, str], None]]:
    """What `run_cells` tells, as a bar and a line a cell."""
    with progress_bar("cells") as progress:

        def told(done: int, total: int, name: str) -> None:
            progress(done, total)
            if name:
                log.info("%d of %d: %s", done, total, name)

        yield told


def read_journal(folder: Path) -> dict[str, Entry]:
    """All finished cells by name.

    Raises:
        AudiorepError: a file that is no JSON.
    """
    return {path.stem: read_json(path) for path in sorted(folder.glob("*.json"))}


def run_cells(
    cells: Iterable[Cell],
    journal: Path,
    scratch: Path,
    digest: Digest,
    workers: int = 2,
    threads: int = 1,
    hours: float | None = None,
    told: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> dict[str, Entry]:
    """Run the cells that the journal does not have as done, `workers` at once, in their order; returns these cells' entries.

    Args:
        cells: what to run; names are unique.
        journal: folder of one JSON file a cell, written when the cell has ended.
        scratch: folder for the cells' own output.
        digest: what to keep of a cell.
        workers, threads: processes at once, and threads of each.
        hours: no cell is started after so many hours.
        told: called with (cells done, cells in all, name of the last).

    A cell that refuses its input is journalled as refused, with the reason; one that fails otherwise, or whose output
    cannot be digested, as failed. Both are run again at the next start.

    Raises:
        AudiorepError: two cells of one name, no worker, no thread, a journal that cannot be read.
    """
    cells = list(cells)
    if len({cell.name for cell in cells}) < len(cells):
        raise AudiorepError("two cells of the study have the same name")
    if workers < 1 or threads < 1:
        raise AudiorepError(f"workers={workers}, threads={threads}: at least one of each is needed")
    kept = read_journal(journal)
    entries = {cell.name: kept[cell.name] for cell in cells if is_done(cell, kept)}
    waiting = [cell for cell in cells if cell.name not in entries]
    done, stop = len(cells) - len(waiting), None if hours is None else time.monotonic() + 3600.0 * hours
    told(done, len(cells), "")
    running: dict[Future[Entry], Cell] = {}
    with ThreadPoolExecutor(workers) as pool:
        try:
            while waiting or running:
                while waiting and len(running) < workers and (stop is None or time.monotonic() < stop):
                    cell = waiting.pop(0)
                    running[pool.submit(run_cell, cell, scratch / cell.name, threads, digest)] = cell
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    cell = running.pop(future)
                    entries[cell.name] = future.result()
                    write_json(journal / f"{cell.name}.json", entries[cell.name])
                    done += 1
                    told(done, len(cells), cell.name)
        finally:
            for future in running:
                future.cancel()
    return entries


def is_done(cell: Cell, journal: Mapping[str, Entry]) -> bool:
    """Whether the journal has the cell as done, by the same command."""
    entry = journal.get(cell.name, {})
    return entry.get("status") == "done" and entry.get("command") == cell.command


def run_cell(cell: Cell, out: Path, threads: int, digest: Digest) -> Entry:
    """Run one cell in a process of its own, and say how it ended."""
    again = [] if cell.verb == "run" else ["overwrite=true"]  # a recipe goes on where it stopped
    command = [sys.executable, "-m", "audiorep", cell.verb, *cell.overrides, f"out={out}", *again]
    limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    began = time.monotonic()
    ended = subprocess.run(
        command, env={**os.environ, **limits}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    entry: Entry = {**cell.facts, "command": cell.command, "seconds": round(time.monotonic() - began, 1)}
    if ended.returncode:
        entry["status"] = "refused" if ended.returncode == 2 else "failed"
        entry["message"] = ended.stdout.strip()[-LEFT_IN_A_LOG:]
        return entry
    try:
        return {**entry, "status": "done", **digest(cell, out)}
    except Exception as error:  # whatever it is, the other cells go on
        return {**entry, "status": "failed", "message": f"{type(error).__name__}: {error}"[-LEFT_IN_A_LOG:]}
