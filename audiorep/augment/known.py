"""Known transformations of compressed spectrograms [b 1 f n]: one parameter each, in [-1, 1], 0 changing nothing.

For objectives that say how an embedding moves under them, and that therefore draw them: jointly over processes. What
comes in from outside repeats the edge: a margin of zeros would tell the parameter by its width.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from audiorep.augment.base import Augment, Params
from audiorep.distributed import rand
from audiorep.types import Spec


class Pitch(Augment):
    """``y_f = x_{f - pitch * fraction * F}``, F the number of bands; 1: up by `fraction` of them.

    On a mel axis only nearly a shift of pitch: below about 1 kHz it is nearer to a shift in Hz.
    """

    def __init__(self, fraction: float = 0.15, p: float = 1.0) -> None:
        super().__init__(p)
        self.fraction = fraction

    def sample(self, x: Spec, rng: torch.Generator) -> Params:
        return {"pitch": 2.0 * rand(len(x), rng=rng, device=x.device) - 1.0}

    def apply_to(self, x: Spec, **params: Tensor) -> Spec:
        band = torch.arange(x.shape[2], device=x.device, dtype=x.dtype)
        return read_at(x, band - params["pitch"][:, None] * (self.fraction * x.shape[2]), 2)


class Speed(Augment):
    """``y_n = x_{m + (n - m) 2^(speed * octaves)}``, m the middle frame; 1: faster by ``2^octaves``, at the same pitch."""

    def __init__(self, octaves: float = 0.6, p: float = 1.0) -> None:
        super().__init__(p)
        self.octaves = octaves

    def sample(self, x: Spec, rng: torch.Generator) -> Params:
        return {"speed": 2.0 * rand(len(x), rng=rng, device=x.device) - 1.0}

    def apply_to(self, x: Spec, **params: Tensor) -> Spec:
        middle = (x.shape[3] - 1) / 2.0
        frame = torch.arange(x.shape[3], device=x.device, dtype=x.dtype) - middle
        return read_at(x, middle + frame * torch.exp2(self.octaves * params["speed"])[:, None], 3)


class TimeShift(Augment):
    """``y_n = x_{n - shift * fraction * N}``, N the number of frames; 1: later by `fraction` of them."""

    def __init__(self, fraction: float = 0.25, p: float = 1.0) -> None:
        super().__init__(p)
        self.fraction = fraction

    def sample(self, x: Spec, rng: torch.Generator) -> Params:
        return {"shift": 2.0 * rand(len(x), rng=rng, device=x.device) - 1.0}

    def apply_to(self, x: Spec, **params: Tensor) -> Spec:
        frame = torch.arange(x.shape[3], device=x.device, dtype=x.dtype)
        return read_at(x, frame - params["shift"][:, None] * (self.fraction * x.shape[3]), 3)


def read_at(x: Spec, position: Float[Tensor, "b length"], axis: int) -> Float[Tensor, "b 1 f_out n_out"]:
    """Read x along `axis` at these positions, linear between its values; beyond the ends the first or last value."""
    last = x.shape[axis] - 1
    position = position.clamp(0.0, last)
    low = position.floor().long().clamp_max(max(0, last - 1))
    line, size = [len(x), 1, 1, 1], list(x.shape)
    line[axis] = size[axis] = position.shape[1]
    ends = [x.gather(axis, index.clamp_max(last).view(line).expand(size)) for index in (low, low + 1)]
    return torch.lerp(ends[0], ends[1], (position - low).view(line))
