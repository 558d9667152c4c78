"""What a person sees while a command runs: notes and a progress bar."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

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
    """A bar; the block calls what it is given with (done, total)."""
    with bar() as shown:
        task = shown.add_task(what, total=None, shown="")
        yield lambda done, total: shown.update(task, completed=done, total=total)


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
