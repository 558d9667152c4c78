"""Augmentations that mix two windows and their labels: mixup in linear power, CutMix in the spectrogram."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from audiorep.augment.base import band_mask, per_sample
from audiorep.compress import Compress
from audiorep.distributed import gather, mine, rand, world
from audiorep.errors import AudiorepError
from audiorep.losses.answers import Answers
from audiorep.types import Spec

Known = Bool[Tensor, "b q"]


@runtime_checkable
class Mix(Protocol):
    """Spectrograms with soft targets -> mixed ones. mixes: whether it does anything."""

    mixes: bool

    def prepare(self, compress: Compress | None) -> None:
        """Learn how the spectrograms were compressed."""

    def __call__(
        self, spec: Spec, target: Answers, known: Known, rng: torch.Generator
    ) -> tuple[Spec, Answers, Known]: ...


class Unmixed:
    """Every window as it is."""

    mixes = False

    def prepare(self, compress: Compress | None) -> None:
        """Nothing to learn."""

    def __call__(self, spec: Spec, target: Answers, known: Known, rng: torch.Generator) -> tuple[Spec, Answers, Known]:
        return spec, target, known


class Mixup:
    """``x = lam x_i + (1 - lam) x_j`` in linear power and ``t = lam t_i + (1 - lam) t_j``, ``lam ~ Beta(alpha, alpha)``.

    j is another place in the batch. What is known of one of the two only is not known of the mixture.

    Args:
        alpha: of the Beta distribution; below 1 most mixtures are nearly one of the two.
        p: part of the windows that are mixed at all.
        first: lam at least one half (``max(lam, 1 - lam)``), as MixMatch has it.

    Raises:
        AudiorepError: a compression or normalisation without an inverse (PCEN, ClipNorm).

    Source: Zhang et al. 2018, arXiv:1710.09412, eq. 1; in power, because sounds add as powers.
    """

    mixes = True

    def __init__(self, alpha: float = 0.4, p: float = 1.0, first: bool = False) -> None:
        if alpha <= 0.0:
            raise AudiorepError(f"objective.mix.alpha={alpha} must be above 0")
        self.alpha, self.p, self.first = alpha, p, first
        self.to_power: Callable[[Spec], Spec] = as_it_is
        self.to_spec: Callable[[Spec], Spec] = as_it_is

    def prepare(self, compress: Compress | None) -> None:
        if compress is not None:
            compress.check_inverse()
            self.to_power, self.to_spec = compress.inverse, compress.forward

    def __call__(self, spec: Spec, target: Answers, known: Known, rng: torch.Generator) -> tuple[Spec, Answers, Known]:
        lam = self.sample(spec, rng)
        other_spec, other_target, other_known = partners(spec, target, known, rng)
        mixed, soft = self.apply(spec, target, other_spec, other_target, lam)
        return mixed, soft, known & (other_known | (lam == 1.0)[:, None])

    def sample(self, spec: Spec, rng: torch.Generator) -> Float[Tensor, " b"]:
        """A lam for each sample; 1 where nothing is mixed."""
        lam = beta(self.alpha, len(spec), rng)
        lam = torch.maximum(lam, 1.0 - lam) if self.first else lam
        mixed = rand(len(spec), rng=rng, device=rng.device) < self.p
        return torch.where(mixed, lam, torch.ones_like(lam)).to(spec.device)

    def apply(
        self, a: Spec, target_a: Answers, b: Spec, target_b: Answers, lam: Float[Tensor, " b"]
    ) -> tuple[Spec, Answers]:
        """Mixtures of a and b, row by row."""
        power = torch.lerp(self.to_power(b), self.to_power(a), per_sample(lam, a))
        return self.to_spec(power).to(a.dtype), torch.lerp(target_b, target_a, per_sample(lam, target_a))


class CutMix:
    """A stretch of frames is taken from another window, and its part of the label: ``t = (1 - r) t_i + r t_j``.

    The stretch is a part r of the frames, ``1 - r ~ Beta(alpha, alpha)``; all bands, because a call that is cut across
    its bands is no call.

    Source: Yun et al. 2019, arXiv:1905.04899, eq. 1-2, there with boxes.
    """

    mixes = True

    def __init__(self, alpha: float = 1.0, p: float = 1.0) -> None:
        if alpha <= 0.0:
            raise AudiorepError(f"objective.mix.alpha={alpha} must be above 0")
        self.alpha, self.p = alpha, p

    def prepare(self, compress: Compress | None) -> None:
        """Nothing to learn."""

    def __call__(self, spec: Spec, target: Answers, known: Known, rng: torch.Generator) -> tuple[Spec, Answers, Known]:
        count, frames = len(spec), spec.shape[3]
        part = 1.0 - beta(self.alpha, count, rng)
        draws = mine(torch.rand(2, world() * count, generator=rng, device=rng.device), 1)
        width = torch.where(draws[0] < self.p, (part * frames).round(), torch.zeros_like(part)).long()
        start = (draws[1] * (frames - width + 1)).long()
        other_spec, other_target, other_known = partners(spec, target, known, rng)
        inside = band_mask(start, width, frames).to(spec.device)
        part = (width / frames).to(spec.device)
        mixed = torch.where(inside[:, None, None], other_spec, spec)
        soft = torch.lerp(target, other_target, per_sample(part.to(target.dtype), target))
        return mixed, soft, known & (other_known | (part == 0.0)[:, None])


def as_it_is(x: Tensor) -> Tensor:
    """x."""
    return x


def partner(x: Tensor, rng: torch.Generator) -> Int[Tensor, " b"]:
    """Another place in the joined batch for each: a random step around a circle, the same for all."""
    count = world() * len(x)
    step = int(torch.randint(1, max(2, count), (), generator=rng, device=rng.device))
    return mine((torch.arange(count, device=x.device) + step) % count)


def partners(spec: Spec, target: Answers, known: Known, rng: torch.Generator) -> tuple[Spec, Answers, Known]:
    """The windows, answers and what is known of them that each is mixed with."""
    other = partner(spec, rng)
    return gather(spec)[other], gather(target)[other], gather(known.to(target.dtype))[other] > 0


def beta(alpha: float, count: int, rng: torch.Generator) -> Float[Tensor, " count"]:
    """``count`` draws of Beta(alpha, alpha), as ``g1 / (g1 + g2)`` of two Gamma(alpha) draws, jointly over processes."""
    shape = torch.full((2, world() * count), alpha, dtype=torch.float64, device=rng.device)
    gamma = mine(torch._standard_gamma(shape, rng), 1)
    return (gamma[0] / gamma.sum(0).clamp_min(1e-300)).clamp(0.0, 1.0).float()
