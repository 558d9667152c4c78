"""In which precision and memory layout an encoder trains fastest here: found out by trying."""

import copy
import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from audiorep.encoders.base import Encoder
from audiorep.types import generator

TRIED_WINDOWS = 8
"""Windows that are tried with."""

ROUNDS = 3
"""Of which the first warms up, and the fastest of the others counts."""

WORTH_IT = 1.1
"""How many times as fast another way must be than the usual one to be taken: what is nearer may be chance."""


class Way(NamedTuple):
    """How an encoder is trained."""

    precision: str
    channels_last: bool

    def __str__(self) -> str:
        return f"{self.precision}{', channels last' if self.channels_last else ''}"


def fastest(encoder: Encoder, shape: Sequence[int], device: torch.device, usual: Way) -> tuple[Way, dict[Way, float]]:
    """The way of a step forward and back that takes least, and the seconds that each way took.

    The usual way, unless another is 1.1 times as fast. Ways: float32 and, where the usual one is bfloat16, that; both
    layouts. A copy of the encoder is tried.

    Args:
        shape: of spectrograms [b 1 f n]; of the batch at most `TRIED_WINDOWS` are used.
        usual: the way without trying.
    """
    tried = copy.deepcopy(encoder).train().to(device)
    spec = torch.randn(min(shape[0], TRIED_WINDOWS), *shape[1:], generator=generator(0)).to(device)
    ways = [Way(precision, last) for precision in dict.fromkeys([usual.precision, "32-true"]) for last in (True, False)]
    with torch.random.fork_rng():  # dropout draws
        took = {way: min([step_s(tried, spec, way) for _ in range(ROUNDS)][1:]) for way in ways}
    best = min(took, key=lambda way: took[way])
    return (best if took[usual] > WORTH_IT * took[best] else usual), took


def step_s(encoder: Encoder, spec: torch.Tensor, way: Way) -> float:
    """Seconds of a step, all gradients included."""
    layout = lay_out(encoder, way.channels_last)
    spec = spec.contiguous(memory_format=layout)
    began = time.perf_counter()
    with torch.autocast(spec.device.type, torch.bfloat16, enabled=way.precision == "bf16-mixed"):
        pooled = encoder(spec).pooled
    if pooled.requires_grad:
        pooled.float().square().mean().backward()
    encoder.zero_grad()
    if spec.device.type == "cuda":
        torch.cuda.synchronize(spec.device)
    return time.perf_counter() - began


def lay_out(module: nn.Module, channels_last: bool) -> torch.memory_format:
    """Bring the weights of an encoder, or of something with one in it, into a memory layout, and say which."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    module.to(memory_format=layout)  # type: ignore[call-overload]  # which torch's stubs leave out
    return layout
