"""What a person sees while a command runs: notes and a progress bar."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger(__name__)

PAUSE_S = 60.0
"""Between two lines that tell how far something is."""

console = Console(stderr=True, soft_wrap=True, width=None if sys.stderr.isatty() else 120)


def set_up_logging() -> None:
    """Our notes to the terminal, a line each; of other packages errors only."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("audiorep").setLevel(logging.INFO)
    for name in ("lightning.pytorch", "lightning.fabric", "torch.onnx._internal.exporter._registration", "onnxscript"):
        logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar; the block calls what it is given with (done, total). Where there is no terminal, a line a minute."""
    if not console.is_terminal:
        yield EveryMinute(what)
        return
    with bar() as shown:
        task = shown.add_task(what, total=None, shown="")
        yield lambda done, total: shown.update(task, completed=done, total=total)


class EveryMinute:
    """How far something is, for logs: "training: 120 of 400", at most once in `PAUSE_S`, and not in the first."""

    def __init__(self, what: str) -> None:
        self.what, self.said = what, time.monotonic()

    def __call__(self, done: int, total: int | None, more: str = "") -> None:
        if time.monotonic() - self.said >= PAUSE_S:
            self.said = time.monotonic()
            log.info("%s: %d%s%s", self.what, done, f" of {total}" if total else "", more and f", {more}")


def bar() -> Progress:
    """As all of them look."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[shown]}"),
        console=console,
        disable=not console.is_terminal,
    )
