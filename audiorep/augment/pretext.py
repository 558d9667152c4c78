"""Augmentations that only a pretext task would want: what they take away is to be said again."""

import torch
from torch import Tensor

from audiorep.augment.base import Augment, Params
from audiorep.errors import AudiorepError
from audiorep.types import Spec


class UpperBand(Augment):
    """Replace the upper `fraction` of the bands by `value`, always the same ones: nothing is drawn.

    Of whatever number of bands one is left and one is taken at least, if there are two.

    Raises:
        AudiorepError: a fraction that takes nothing or everything.

    Source: the task of saying one part of the channels from the other is Zhang et al. 2017 (split-brain autoencoders),
    arXiv:1611.09842, section 3; bands in the place of colours are ours.
    """

    def __init__(self, fraction: float = 0.5, value: float = 0.0) -> None:
        super().__init__()
        if not 0.0 < fraction < 1.0:
            raise AudiorepError(
                f"UpperBand: fraction={fraction} must lie between 0 and 1: something is hidden, something seen"
            )
        self.fraction, self.value = fraction, value

    def sample(self, x: Spec, rng: torch.Generator) -> Params:
        bands = min(max(1, round(self.fraction * x.shape[2])), x.shape[2] - 1)
        return {"bands": torch.full((len(x),), bands, device=x.device)}

    def apply_to(self, x: Spec, **params: Tensor) -> Spec:
        place = torch.arange(x.shape[2], device=x.device)
        upper = place >= x.shape[2] - params["bands"][:, None]
        return x.masked_fill(upper[:, None, :, None], self.value)
