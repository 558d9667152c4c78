"""A call classifier: encoder, dropout, one linear layer."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audiorep.distributed import rand
from audiorep.encoders.base import Encoder
from audiorep.errors import AudiorepError
from audiorep.types import Spec


class Classifier(nn.Module):
    """Spectrogram [b 1 f n] -> logits [b c], or, `framewise`, of every frame [b n c].

    Dropout acts where a generator is given, and nowhere else.

    Source: dropout as in Srivastava et al. 2014, JMLR 15, scaled by ``1 / (1 - dropout)`` in training.
    """

    def __init__(self, encoder: Encoder, outputs: int, dropout: float = 0.0, framewise: bool = False) -> None:
        super().__init__()
        if not 0.0 <= dropout < 1.0:
            raise AudiorepError(f"objective.dropout={dropout} must lie in [0, 1)")
        self.encoder, self.dropout, self.framewise = encoder, dropout, framewise
        self.head = nn.Linear(encoder.dim, outputs)

    def forward(self, spec: Spec, rng: torch.Generator | None = None) -> Float[Tensor, "b *n c"]:
        said = self.encoder(spec)
        return self.head(self.drop(said.tokens if self.framewise else said.pooled, rng))

    def drop(self, x: Float[Tensor, "b *n d"], rng: torch.Generator | None) -> Float[Tensor, "b *n d"]:
        """Dropout with draws from `rng`, alike for all frames; None: as it is."""
        if not self.dropout or rng is None:
            return x
        kept = rand(len(x), x.shape[-1], rng=rng, device=x.device) >= self.dropout
        return x * kept.view(len(x), *[1] * (x.ndim - 2), -1) / (1.0 - self.dropout)
