"""Pretext tasks: pose puzzles whose answers are known and learn to answer them; rotation, jigsaw, relative position."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from audiorep.encoders.base import Encoder
from audiorep.objectives.base import HeldOut, Objective, Setting
from audiorep.pretext import Task
from audiorep.types import Batch, Spec, Views


class PretextTask(Objective):
    """``L = -mean log softmax(head([z_1 ... z_m]))_target``, z_i the pooled embedding of the puzzle's i-th part alone.

    Args:
        encoder: the encoder to train.
        task: makes parts and a target of a spectrogram.
        head: built on the width of all parts together, and told `outputs`, the number of answers.
        view: the kind of view that is used.

    Raises:
        AudiorepError: a spectrogram too small for the task, at the first step.

    Source: those of the tasks (`audiorep.pretext`).
    """

    def __init__(self, encoder: Encoder, task: Task, head: Callable[..., nn.Module], view: str = "global") -> None:
        super().__init__(encoder)
        self.task, self.view = task, view
        self.head = head(task.parts * encoder.dim, outputs=task.classes)

    def prepare(self, setting: Setting) -> None:
        setting.wants_views(self.view, 1)

    def forward(self, views: Views, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        losses = []
        for spec in views[self.view]:
            logits, target = self.answers(spec, rng)
            losses.append(F.cross_entropy(logits, target))
        return {"task": torch.stack(losses).mean()}

    def answers(self, spec: Spec, rng: torch.Generator) -> tuple[Float[Tensor, "b c"], Tensor]:
        """Draw a puzzle of each sample: what the head says, and what is right."""
        params = self.task.sample(spec, rng)
        parts = self.task.apply_to(spec, **params)
        pooled = self.encoder(torch.cat(parts)).pooled
        return self.head(torch.cat(pooled.chunk(len(parts)), 1)).float(), params["target"]

    def measure(self, held_out: HeldOut, rng: torch.Generator) -> dict[str, float]:
        """Returns {"accuracy", "chance"} of puzzles made of recordings that were not trained on."""
        right = [
            logits.argmax(1) == target
            for views, _ in held_out
            for logits, target in [self.answers(spec, rng) for spec in views[self.view]]
        ]
        if not right:
            return {}
        return {"accuracy": float(torch.cat(right).float().mean()), "chance": 1.0 / self.task.classes}
