"""What every objective keeps to: views in, named and weighted loss terms out."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from audiorep.encoders.base import Encoder
from audiorep.types import Batch, Spec, Views

Embed = Callable[[], Float[Tensor, "m d"]]
"""Embeddings of the whole training side, in order of rows."""


@dataclass(frozen=True)
class Setting:
    """What an objective is told before training.

    rows: rows of the training side. batch_size: windows of the joined batch of all processes. labelled: rows with a
    label. rate_hz: the model's sample rate.
    """

    rows: int
    batch_size: int
    labelled: int = 0
    rate_hz: int = 0


class Objective(nn.Module):
    """Built on the encoder it trains; owns heads, teacher, queue, prototypes.

    Terms whose name is ``group/term`` belong to the parameter group `group`, all others to "main".
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def prepare(self, setting: Setting) -> None:
        """Before training, before a state is loaded: refuse what cannot work, make room for what depends on the corpus.

        Raises:
            AudiorepError: this objective cannot be trained in this setting; the message says what to change.
        """

    def forward(self, views: Views, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """Named, already weighted loss terms; their sum is minimised."""
        raise NotImplementedError

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by the optimiser that updates them, in the order of updates. An adversary is a second group."""
        return {"main": [parameter for parameter in self.parameters() if parameter.requires_grad]}

    def embeddings(self, spec: Spec) -> dict[str, Float[Tensor, "b d"]]:
        """Embeddings whose health is watched during training."""
        return {"backbone": self.encoder(spec).pooled}

    def distributions(self, spec: Spec) -> dict[str, Float[Tensor, "b k"]]:
        """Distributions over prototypes or clusters whose entropies are watched during training."""
        return {}

    def after_step(self, progress: float) -> None:
        """After every optimiser step: averages, centres, queues. `progress` runs from 0 to 1."""

    def before_epoch(self, embed: Embed, rng: torch.Generator) -> None:
        """Before every pass over the corpus: clusters, vocabularies, pseudo-labels."""

    def partition(self) -> Int[Tensor, " m"] | None:
        """The cluster of each row, for samplers that draw by cluster."""
        return None
