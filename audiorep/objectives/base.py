"""What every objective keeps to: views in, named and weighted loss terms out."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audiorep.encoders.base import Encoder
from audiorep.types import Batch, Spec, Views

Embed = Callable[[], Float[Tensor, "m d"]]
"""Embeddings of the whole training side, in order of rows."""


class Objective(nn.Module):
    """Built on the encoder it trains; owns heads, teacher, queue, prototypes.

    Terms whose name is ``group/term`` belong to the parameter group `group`, all others to "main".
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, views: Views, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """Named, already weighted loss terms; their sum is minimised."""
        raise NotImplementedError

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by the optimiser that updates them, in the order of updates. An adversary is a second group."""
        return {"main": [parameter for parameter in self.parameters() if parameter.requires_grad]}

    def embeddings(self, spec: Spec) -> dict[str, Float[Tensor, "b d"]]:
        """Embeddings whose health is watched during training."""
        return {"backbone": self.encoder(spec).pooled}

    def after_step(self, progress: float) -> None:
        """After every optimiser step: averages, centres, queues. `progress` runs from 0 to 1."""

    def before_epoch(self, embed: Embed) -> None:
        """Before every pass over the corpus: clusters, vocabularies, pseudo-labels."""
