"""A memory of past embeddings, first in, first out."""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from audiorep.errors import AudiorepError


class Queue(nn.Module):
    """The last `size` rows that were pushed, normalised; random directions until it is full. Saved with the state.

    Source: He et al. 2020 (MoCo), arXiv:1911.05722, section 3.2.
    """

    def __init__(self, dim: int, size: int = 4096) -> None:
        super().__init__()
        if size < 2:
            raise AudiorepError(f"a queue of size={size} holds nothing to compare with: at least 2")
        self.size = size
        self.register_buffer("rows", F.normalize(torch.randn(size, dim)))
        self.register_buffer("next", torch.zeros((), dtype=torch.int64))

    def content(self) -> Float[Tensor, "k d"]:
        """All rows; a copy, so that a later push leaves earlier graphs alone."""
        return cast(Tensor, self.rows).clone()

    @torch.no_grad()
    def push(self, x: Float[Tensor, "b d"]) -> None:
        """Put rows in the place of the oldest."""
        rows, position = cast(Tensor, self.rows), cast(Tensor, self.next)
        kept = F.normalize(x.detach().to(rows.dtype))[-self.size :]
        places = (position + torch.arange(len(kept), device=rows.device)) % self.size
        rows[places] = kept
        position.copy_((position + len(kept)) % self.size)
