"""Augmentations of waves [b t]."""

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from audiorep.augment.base import Augment, InPlace, Params, shift, uniform
from audiorep.types import Wave, generator

NOISE_SAMPLES = 2**17
"""Of each colour of noise in a bank; it goes round."""

COLOURS = 17
"""In a bank, evenly spaced."""


class Crop(Augment):
    """A random stretch of `fraction` of the wave; the rest is cut off, so that the output is shorter: [b t'].

    Draws: start, in samples, uniform over all places.
    """

    local = False

    def __init__(self, fraction: float = 0.8) -> None:
        super().__init__()
        self.fraction = fraction

    def sample(self, x: Wave, rng: torch.Generator) -> Params:
        spare = x.shape[1] - round(x.shape[1] * self.fraction)
        return {"start": (uniform(x, rng) * (spare + 1)).long().clamp_max(spare)}

    def apply_to(self, x: Wave, **params: Tensor) -> Float[Tensor, "b cropped"]:
        length = round(x.shape[1] * self.fraction)
        return x.gather(1, params["start"][:, None] + torch.arange(length, device=x.device))


class Gain(InPlace):
    """``x 10^(gain_db / 20)`` with gain_db uniform in [low_db, high_db]."""

    def __init__(self, low_db: float = -6.0, high_db: float = 6.0, p: float = 1.0) -> None:
        super().__init__(p)
        self.low_db, self.high_db = low_db, high_db

    def sample(self, x: Wave, rng: torch.Generator) -> Params:
        return {"gain_db": uniform(x, rng, self.low_db, self.high_db)}

    def apply_(self, x: Wave, **params: Tensor) -> Wave:
        return x.mul_((10.0 ** (params["gain_db"] / 20.0))[:, None])


class Shift(InPlace):
    """Shift in time by up to `fraction` of the length either way; what is shifted in is silence."""

    def __init__(self, fraction: float = 0.1, p: float = 1.0) -> None:
        super().__init__(p)
        self.fraction = fraction

    def sample(self, x: Wave, rng: torch.Generator) -> Params:
        most = self.fraction * x.shape[1]
        return {"samples": uniform(x, rng, -most, most).round().long()}

    def apply_(self, x: Wave, **params: Tensor) -> Wave:
        shift(x, params["samples"], 1)
        return x


class ColouredNoise(InPlace):
    """Add noise with power spectrum ``1 / f^colour`` at a drawn signal-to-noise ratio.

    colour is uniform among 17 values from `colour_low` to `colour_high` (0 white, 1 pink, 2 brown, negative blue), the SNR
    uniform in [low_db, high_db] relative to the power of each wave. Silent waves stay silent.
    The noise is a stretch of a bank, from a random place on: drawing it anew would take longer than all the rest.
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
        self.colours = torch.linspace(colour_low, colour_high, 1 if colour_low == colour_high else COLOURS)
        self.register_buffer("bank", noise_bank(colour_low, colour_high), persistent=False)
        self.bank: Tensor

    def sample(self, x: Wave, rng: torch.Generator) -> Params:
        return {
            "snr_db": uniform(x, rng, self.low_db, self.high_db),
            "colour": (uniform(x, rng) * len(self.bank)).long(),
            "start": (uniform(x, rng) * self.bank.shape[1]).long(),
        }

    def apply_(self, x: Wave, **params: Tensor) -> Wave:
        return add_at_snr(x, stretches(self.bank, params["colour"], params["start"], x.shape[1]), params["snr_db"])


class BackgroundMix(InPlace):
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
        return {"snr_db": uniform(x, rng, self.low_db, self.high_db), "which": which, "start": start}

    def apply_(self, x: Wave, **params: Tensor) -> Wave:
        return add_at_snr(x, stretches(self.bank, params["which"], params["start"], x.shape[1]), params["snr_db"])


@cache
def noise_bank(colour_low: float, colour_high: float) -> Float[Tensor, "colours samples"]:
    """Noise of each colour, of power 1, whose end goes on with its beginning; always the same.

    White noise, each bin of its transform times ``k^(-colour / 2)``, k the bin's number (the first: 1).
    """
    colours = torch.linspace(colour_low, colour_high, 1 if colour_low == colour_high else COLOURS)
    spectrum = torch.fft.rfft(torch.randn(len(colours), NOISE_SAMPLES, generator=generator(0)))
    bins = torch.arange(spectrum.shape[1], dtype=torch.float32).clamp_min(1.0)
    noise = torch.fft.irfft(spectrum * bins ** (-colours[:, None] / 2.0), n=NOISE_SAMPLES)
    return noise / noise.square().mean(1, keepdim=True).sqrt()


def stretches(bank: Float[Tensor, "m samples"], which: Tensor, start: Tensor, length: int) -> Float[Tensor, "b length"]:
    """`length` samples of the bank's waves `which` [b] from `start` [b] on; behind the last comes the first again."""
    if bank.device.type != "cpu":
        place = (start[:, None] + torch.arange(length, device=bank.device)) % bank.shape[1]
        return bank[which[:, None], place]
    out = torch.empty(len(which), length)
    for wave, row, first in zip(out, which.tolist(), start.tolist(), strict=True):
        done = 0
        while done < length:
            part = bank[row, first : first + length - done]
            wave[done : done + len(part)] = part
            done, first = done + len(part), 0
    return out


def add_at_snr(x: Wave, noise: Wave, snr_db: Tensor) -> Wave:
    """Add ``g noise`` to x, g such that the power of x over that of ``g noise`` is `snr_db`; x and noise are changed."""
    power = x.square().mean(1)
    noise_power = noise.square().mean(1).clamp_min(1e-20)
    gain = (power / noise_power * 10.0 ** (-snr_db / 10.0)).sqrt()
    return x.add_(noise.mul_(gain[:, None]))
