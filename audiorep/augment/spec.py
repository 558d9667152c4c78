"""Augmentations of compressed, normalised spectrograms [b 1 f n]; 0 is the corpus mean."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from audiorep.augment.base import Augment, InPlace, Params, fill_boxes, fill_stretches, per_sample, shift, uniform
from audiorep.distributed import mine, world
from audiorep.errors import AudiorepError
from audiorep.types import Spec


class TimeMask(InPlace):
    """Replace `count` stretches of frames, each up to `fraction` of the length, by `value`.

    Source: SpecAugment, Park et al. 2019, arXiv:1904.08779, section 2.
    """

    axis = 3

    def __init__(self, fraction: float = 0.15, count: int = 1, value: float = 0.0, p: float = 1.0) -> None:
        super().__init__(p)
        self.fraction, self.count, self.value = fraction, count, value

    def sample(self, x: Spec, rng: torch.Generator) -> Params:
        length = x.shape[self.axis]
        draws = mine(torch.rand(2, world() * len(x), self.count, generator=rng, device=x.device), 1)
        width = (draws[0] * (self.fraction * length + 1)).long().clamp_max(length)
        return {"width": width, "start": (draws[1] * (length - width + 1)).long()}

    def apply_(self, x: Spec, **params: Tensor) -> Spec:
        fill_stretches(x, params["start"], params["width"], self.axis, self.value)
        return x


class FrequencyMask(TimeMask):
    """Replace `count` stretches of bands, each up to `fraction` of them, by `value`. Source: as `TimeMask`."""

    axis = 2


class Cutout(InPlace):
    """Replace `count` boxes by `value`; the sides of each are uniform in `frequency` and `time`, parts of bands and frames.

    A box lies wholly within the spectrogram and has one cell at least.

    Raises:
        AudiorepError: sides that are no parts of the whole, or fewer than one box.

    Source: DeVries and Taylor 2017 (Cutout), arXiv:1708.04552, section 3.1; boxes of any size as in Zhong et al. 2017
    (random erasing), arXiv:1708.04896.
    """

    def __init__(
        self,
        frequency: Sequence[float] = (0.1, 0.3),
        time: Sequence[float] = (0.1, 0.3),
        count: int = 1,
        value: float = 0.0,
        p: float = 1.0,
    ) -> None:
        super().__init__(p)
        for name, (low, high) in (("frequency", frequency), ("time", time)):
            if not 0.0 <= low <= high <= 1.0:
                raise AudiorepError(f"Cutout: {name}=[{low}, {high}] must be two rising numbers between 0 and 1")
        if count < 1:
            raise AudiorepError(f"Cutout: count={count} boxes; 1 at least")
        self.frequency, self.time, self.count, self.value = frequency, time, count, value

    def sample(self, x: Spec, rng: torch.Generator) -> Params:
        params = {}
        for name, (low, high), length in (("f", self.frequency, x.shape[2]), ("t", self.time, x.shape[3])):
            draws = mine(torch.rand(2, world() * len(x), self.count, generator=rng, device=x.device), 1)
            width = ((low + (high - low) * draws[0]) * length).round().long().clamp(1, length)
            params[f"width_{name}"] = width
            params[f"start_{name}"] = (draws[1] * (length - width + 1)).long()
        return params

    def apply_(self, x: Spec, **params: Tensor) -> Spec:
        fill_boxes(x, value=self.value, **params)
        return x


class RandomResizeCrop(Augment):
    """Crop a random box and resize it to the original size, bilinear: shifts and stretches in time and in pitch.

    The box is [h, w] = [f, n] times factors uniform in `frequency` and in `time`; factors above 1 reach into a margin
    of zeros, so that shrinking is as frequent as magnifying. Draws: box centre and size, in units of the input.
    `output` is the size of the result as parts of bands and frames: below 1 for the small crops of multi-crop.

    Source: Niizumi et al. 2021 (BYOL-A), arXiv:2103.06695, section III-B2 (virtual crop boundary 1.5 times the length).
    """

    def __init__(
        self,
        frequency: Sequence[float] = (0.6, 1.5),
        time: Sequence[float] = (0.6, 1.5),
        virtual: Sequence[float] = (1.0, 1.5),
        output: Sequence[float] = (1.0, 1.0),
        p: float = 1.0,
    ) -> None:
        super().__init__(p)
        self.frequency, self.time, self.virtual, self.output = frequency, time, virtual, output
        self.local = tuple(output) == (1.0, 1.0)
        if p < 1.0 and not self.local:
            raise AudiorepError("RandomResizeCrop: with output below 1 every sample is cropped, so p must be 1")

    def sample(self, x: Spec, rng: torch.Generator) -> Params:
        params = {}
        for name, (low, high), room in (
            ("f", self.frequency, self.virtual[0]),
            ("t", self.time, self.virtual[1]),
        ):
            size = uniform(x, rng, low, high).clamp_max(room)
            params[f"size_{name}"] = size
            params[f"centre_{name}"] = (uniform(x, rng) - 0.5) * (room - size)
        return params

    def apply_to(self, x: Spec, **params: Tensor) -> Float[Tensor, "b 1 f_out n_out"]:
        size = [max(1, round(part * length)) for part, length in zip(self.output, x.shape[2:], strict=True)]
        grid = torch.empty(len(x), *size, 2, device=x.device, dtype=x.dtype)  # where each cell is read, from -1 to 1
        grid[..., 0] = places(params["centre_t"], params["size_t"], size[1])[:, None]
        grid[..., 1] = places(params["centre_f"], params["size_f"], size[0])[:, :, None]
        return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def places(centre: Float[Tensor, " b"], size: Float[Tensor, " b"], count: int) -> Float[Tensor, "b count"]:
    """The middles of `count` cells side by side of a stretch with that centre and size; in it, -1 to 1 is 2 long."""
    cell = (2.0 * torch.arange(count, device=centre.device) + 1.0) / count - 1.0
    return size[:, None] * cell + 2.0 * centre[:, None]


class Fader(InPlace):
    """Add a plane that rises or falls linearly over time (and over frequency): fading in or out, a tilted response.

    The two ends of each axis are uniform in [-strength, strength], in standard deviations of the corpus.

    Source: random linear fader, Niizumi et al. 2022 (BYOL-A v2), arXiv:2204.07402, section IV-B3; the tilt over
    frequency is ours and off by default.
    """

    def __init__(self, strength: float = 0.5, frequency_strength: float = 0.0, p: float = 1.0) -> None:
        super().__init__(p)
        self.strength, self.frequency_strength = strength, frequency_strength

    def sample(self, x: Spec, rng: torch.Generator) -> Params:
        draws = mine(torch.rand(4, world() * len(x), generator=rng, device=x.device), 1) * 2.0 - 1.0
        return {
            "time": draws[:2].T * self.strength,
            "frequency": draws[2:].T * self.frequency_strength,
        }

    def apply_(self, x: Spec, **params: Tensor) -> Spec:
        for strength, ends, axis in (
            (self.strength, params["time"], 3), (self.frequency_strength, params["frequency"], 2),
        ):  # fmt: skip
            if strength:
                ramp = torch.linspace(0.0, 1.0, x.shape[axis], device=x.device, dtype=x.dtype)
                shape = [1, 1, 1, 1]
                shape[axis] = -1
                x.add_(torch.lerp(per_sample(ends[:, 0], x), per_sample(ends[:, 1], x), ramp.view(shape)))
        return x


class FrequencyShift(InPlace):
    """Shift all bands up or down by up to `fraction` of them; bands shifted in are zero. On a mel axis: a pitch shift."""

    def __init__(self, fraction: float = 0.1, p: float = 1.0) -> None:
        super().__init__(p)
        self.fraction = fraction

    def sample(self, x: Spec, rng: torch.Generator) -> Params:
        most = math.floor(self.fraction * x.shape[2])
        return {"bands": uniform(x, rng, -most - 0.5, most + 0.5).round().long()}

    def apply_(self, x: Spec, **params: Tensor) -> Spec:
        shift(x, params["bands"], 2)
        return x
