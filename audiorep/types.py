"""The shape vocabulary. Axis letters, used everywhere and explained only here:

    b batch     t samples   f bands      n frames              l tokens
    d embedding dimension   c classes    m members or draws    k neighbours, picks    w annotation words

Shapes stand in the signatures (jaxtyping) and are checked at every call by `make shapes` (beartype).
"""

from dataclasses import dataclass, field
from typing import NotRequired, TypedDict

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Wave = Float[Tensor, "b t"]
"""Mono samples in [-1, 1]."""

Spec = Float[Tensor, "b 1 f n"]
"""f bands, n frames: power before `Compress`, compressed and normalised after."""

Views = dict[str, list[Spec]]
"""Named augmented views of one batch: "global", "local", or what an objective and its views agree on."""


class Batch(TypedDict):
    """What the loader hands to the device; `wave` is int16 in the workers and [-1, 1] float once on the device."""

    wave: Wave
    valid: Bool[Tensor, "b t"]  # False where padded
    label: Tensor  # [b] class index, -1 unlabelled; or [b c] multi-hot with NaN for unknown
    index: Int[Tensor, " b"]  # manifest row
    group: Int[Tensor, " b"]  # recording, site or individual
    recording: Int[Tensor, " b"]  # recording, for neighbours in time
    slot: Int[Tensor, " b"]  # of the windows that fit side by side into the rows, the one that lies here: for banks
    start: Int[Tensor, " b"]  # first sample in the recording, at the model's rate
    domain: Int[Tensor, " b"]  # recorder, site ... (data.domain), -1 unknown: for domain objectives
    tokens: Int[Tensor, "b w"]  # annotation words, 0 = padding: for multimodal objectives
    failed: NotRequired[list[tuple[int, str]]]  # rows that could not be decoded, with the reason


@dataclass
class Features:
    """What an encoder says about a spectrogram; `logits` of windows or of moments where it names calls itself."""

    pooled: Float[Tensor, "b d"]
    tokens: Float[Tensor, "b l d"]
    layers: list[Float[Tensor, "b l d"]] = field(default_factory=list)
    logits: Float[Tensor, "b *n c"] | None = None


def generator(*entropy: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that depends on `entropy` alone (seed, step, ...), so that resuming needs no stored state."""
    mixed = 0x9E3779B97F4A7C15
    for value in entropy:
        mixed = ((mixed ^ (value & 0xFFFFFFFFFFFFFFFF)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        mixed ^= mixed >> 29
    return torch.Generator(device=device).manual_seed(mixed >> 1)
