"""The progress bar of training."""

from typing import Any

import lightning as L

from audiorep.console import EveryMinute, bar


class TrainingBar(L.Callback):
    """Steps, loss, RankMe, embedding std, windows/s."""

    def __init__(self) -> None:
        self.bar, self.lines = bar(), EveryMinute("training")

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
        if self.bar.disable:
            self.lines(module.step, module.max_steps, text)

    def teardown(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        self.bar.stop()
