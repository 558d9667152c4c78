"""The one augmentation interface: `sample` draws parameters, one draw a sample; `apply` is deterministic.

What an objective does with it differs: be invariant to it (joint embedding), undo it (masking), name its parameters
(pretext tasks).
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from audiorep.distributed import rand

Params = dict[str, Tensor]


class Augment(nn.Module):
    """Batched, on the device of its input, never in place.

    Args:
        p: probability that a sample is augmented at all; the others pass unchanged.
    """

    wants_background = False
    """Whether `fill` must be called with background sounds before use."""

    def __init__(self, p: float = 1.0) -> None:
        super().__init__()
        self.p = p

    def fill(self, bank: Float[Tensor, "m t"]) -> None:
        """Take a bank of background waves; most augmentations need none."""

    def sample(self, x: Tensor, rng: torch.Generator) -> Params:
        """Draw the parameters for a batch: tensors whose first axis is the batch."""
        raise NotImplementedError

    def apply_to(self, x: Tensor, **params: Tensor) -> Tensor:
        """Augment with given parameters; same parameters, same output."""
        raise NotImplementedError

    def forward(self, x: Tensor, rng: torch.Generator) -> Tensor:
        params = self.sample(x, rng)
        out = self.apply_to(x, **params)
        if self.p >= 1.0:
            return out
        chosen = uniform(x, rng) < self.p
        return torch.where(per_sample(chosen, x), out, x)


def uniform(x: Tensor, rng: torch.Generator, low: float = 0.0, high: float = 1.0) -> Float[Tensor, " b"]:
    """One uniform draw a sample, on the device of `x`; several processes draw jointly for their joined batch."""
    return low + (high - low) * rand(len(x), rng=rng, device=x.device)


def per_sample(value: Tensor, x: Tensor) -> Tensor:
    """Reshape [b] so that it broadcasts over `x`."""
    return value.view(-1, *[1] * (x.ndim - 1))


def band_mask(start: Tensor, width: Tensor, length: int) -> Bool[Tensor, "b length"]:
    """True where ``start <= position < start + width``, for each sample."""
    position = torch.arange(length, device=start.device)
    return (position >= start[:, None]) & (position < (start + width)[:, None])
