"""A wave of any length for a network of fixed length."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from audiorep.types import Wave


def cut(wave: Wave, samples: int) -> Float[Tensor, "b l t2"]:
    """Pieces of `samples`: one, centred in zeros, of a short wave; else the fewest that cover it, evenly spaced from end
    to end."""
    spare = wave.shape[1] - samples
    if spare <= 0:
        before = -spare // 2
        return F.pad(wave, (before, -spare - before))[:, None]
    count = math.ceil(wave.shape[1] / samples)
    starts = [round(i * spare / (count - 1)) for i in range(count)]
    return torch.stack([wave[:, start : start + samples] for start in starts], 1)
