"""Augmentations of power [b 1 f n], before `Compress`: sounds add as powers, not as decibels."""

import torch
from torch import Tensor

from audiorep.augment.base import Augment, Params, per_sample, uniform
from audiorep.distributed import gather, mine
from audiorep.types import Spec


class MixPower(Augment):
    """Mix a little of another clip of the batch in, as background: ``(1 - lam) x + lam s other``, in linear power.

    lam is uniform in [0, ratio]. With `match` the other clip is first scaled by s to the mean power of x, so that a
    loud clip does not drown a faint one.

    Source: after the pre-mixup of Niizumi et al. 2021 (BYOL-A), arXiv:2103.06695, eq. 1, which mixes log-mel
    spectrograms back in the linear domain with past inputs; here the other inputs are those of the batch.
    """

    local = False

    def __init__(self, ratio: float = 0.4, match: bool = True, p: float = 1.0) -> None:
        super().__init__(p)
        self.ratio, self.match = ratio, match

    def sample(self, x: Spec, rng: torch.Generator) -> Params:
        whole = gather(x)  # of all processes
        place, count = mine(torch.arange(len(whole), device=x.device)), len(whole)
        other = (place + 1 + (uniform(x, rng) * (count - 1)).long()) % count
        return {"lam": uniform(x, rng, 0.0, self.ratio), "other": whole[other]}

    def apply_to(self, x: Spec, **params: Tensor) -> Spec:
        lam, other = per_sample(params["lam"], x), params["other"]
        if self.match:
            scale = x.mean((1, 2, 3)) / other.mean((1, 2, 3)).clamp_min(1e-20)
            other = other * per_sample(scale, x)
        return torch.lerp(x, other, lam)
