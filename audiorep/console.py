"""What a person sees while a command runs: notes and a progress bar."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
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
    with _bar() as bar:
        task = bar.add_task(what, total=None, shown="")
        yield lambda done, total: bar.update(task, completed=done, total=total)


class TrainingBar(L.Callback):
    """Steps, loss, RankMe, embedding std, windows/s."""

    def __init__(self) -> None:
        self.bar = _bar()

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        self.bar.start()
        self.task = self.bar.add_task("training", total=module.max_steps, completed=module.step, shown="")

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, *_: object) -> None:
        shown = {
            "loss": "loss",
            "RankMe": "backbone/rankme",
            "std": "backbone/std",
            "windows/s": "windows_per_s",
        }
        text = "  ".join(f"{name} {module.shown[key]:.3g}" for name, key in shown.items() if key in module.shown)
        self.bar.update(self.task, completed=module.step, shown=text)

    def teardown(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        self.bar.stop()


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[shown]}"),
        console=console,
        disable=not console.is_terminal,
    )
