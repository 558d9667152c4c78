"""Augmentations of waves [b t]."""

import torch
from jaxtyping import Float
from torch import Tensor

from audiorep.augment.base import Augment, Params, uniform
from audiorep.distributed import randn
from audiorep.types import Wave


class Crop(Augment):
    """A random stretch of `fraction` of the wave; the rest is cut off, so that the output is shorter: [b t'].

    Draws: start, in samples, uniform over all places.
    """

    def __init__(self, fraction: float = 0.8) -> None:
        super().__init__()
        self.fraction = fraction

    def sample(self, x: Wave, rng: torch.Generator) -> Params:
        spare = x.shape[1] - round(x.shape[1] * self.fraction)
        return {"start": (uniform(x, rng) * (spare + 1)).long().clamp_max(spare)}

    def apply_to(self, x: Wave, **params: Tensor) -> Float[Tensor, "b cropped"]:
        length = round(x.shape[1] * self.fraction)
        return x.gather(1, params["start"][:, None] + torch.arange(length, device=x.device))


class Gain(Augment):
    """``x 10^(gain_db / 20)`` with gain_db uniform in [low_db, high_db]."""

    def __init__(self, low_db: float = -6.0, high_db: float = 6.0, p: float = 1.0) -> None:
        super().__init__(p)
        self.low_db, self.high_db = low_db, high_db

    def sample(self, x: Wave, rng: torch.Generator) -> Params:
        return {"gain_db": uniform(x, rng, self.low_db, self.high_db)}

    def apply_to(self, x: Wave, **params: Tensor) -> Wave:
        return x * (10.0 ** (params["gain_db"] / 20.0))[:, None]


class Shift(Augment):
    """Shift in time by up to `fraction` of the length either way; what is shifted in is silence."""

    def __init__(self, fraction: float = 0.1, p: float = 1.0) -> None:
        super().__init__(p)
        self.fraction = fraction

    def sample(self, x: Wave, rng: torch.Generator) -> Params:
        most = self.fraction * x.shape[1]
        return {"samples": uniform(x, rng, -most, most).round().long()}

    def apply_to(self, x: Wave, **params: Tensor) -> Wave:
        source = torch.arange(x.shape[1], device=x.device) - params["samples"][:, None]
        inside = (source >= 0) & (source < x.shape[1])
        return x.gather(1, source.clamp(0, x.shape[1] - 1)) * inside


class ColouredNoise(Augment):
    """Add noise with power spectrum ``1 / f^colour`` at a drawn signal-to-noise ratio.

    colour is uniform in [low, high] (0 white, 1 pink, 2 brown, negative blue), the SNR uniform in [low_db, high_db]
    relative to the power of each wave. Silent waves stay silent.
    """

    def __init__(
        self,
        low_db: float = 10.0,
        high_db: float = 40.0,
        colour_low: float = 0.0,
        colour_high: float = 2.0,
        p: float = 1.0,
    ) -> None:
        super().__init__(p)
        self.low_db, self.high_db = low_db, high_db
        self.colour_low, self.colour_high = colour_low, colour_high

    def sample(self, x: Wave, rng: torch.Generator) -> Params:
        return {
            "snr_db": uniform(x, rng, self.low_db, self.high_db),
            "colour": uniform(x, rng, self.colour_low, self.colour_high),
            "white": randn(*x.shape, rng=rng, device=x.device).to(x.dtype),
        }

    def apply_to(self, x: Wave, **params: Tensor) -> Wave:
        spectrum = torch.fft.rfft(params["white"])
        bins = torch.arange(spectrum.shape[1], device=x.device, dtype=x.dtype).clamp_min(1.0)
        noise = torch.fft.irfft(spectrum * bins ** (-params["colour"] / 2.0)[:, None], n=x.shape[1])
        return add_at_snr(x, noise, params["snr_db"])


class BackgroundMix(Augment):
    """Add a random stretch of real background at a drawn signal-to-noise ratio, uniform in [low_db, high_db].

    The bank [m t'] of background waves, at the model's rate, is given once with `fill`. A wave longer than the bank's
    runs through it again.
    """

    wants_background = True

    def __init__(self, low_db: float = 0.0, high_db: float = 20.0, p: float = 0.5) -> None:
        super().__init__(p)
        self.low_db, self.high_db = low_db, high_db
        self.register_buffer("bank", torch.zeros(1, 1), persistent=False)
        self.bank: Tensor

    def fill(self, bank: Wave) -> None:
        """Give the background waves."""
        self.bank = bank.to(self.bank.device)

    def sample(self, x: Wave, rng: torch.Generator) -> Params:
        which = (uniform(x, rng) * len(self.bank)).long()
        spare = max(0, self.bank.shape[1] - x.shape[1])
        start = (uniform(x, rng) * (spare + 1)).long().clamp_max(spare)
        position = (start[:, None] + torch.arange(x.shape[1], device=x.device)) % self.bank.shape[1]
        noise = self.bank[which[:, None], position].to(x.dtype)
        return {"snr_db": uniform(x, rng, self.low_db, self.high_db), "noise": noise}

    def apply_to(self, x: Wave, **params: Tensor) -> Wave:
        return add_at_snr(x, params["noise"], params["snr_db"])


def add_at_snr(x: Wave, noise: Wave, snr_db: Tensor) -> Wave:
    """``x + g noise`` with g such that the power of x over that of ``g noise`` is `snr_db`."""
    power = x.square().mean(1)
    noise_power = noise.square().mean(1).clamp_min(1e-20)
    gain = (power / noise_power * 10.0 ** (-snr_db / 10.0)).sqrt()
    return x + gain[:, None] * noise
