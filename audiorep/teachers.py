"""Where the targets of a student come from: itself, itself without gradient, or its slow average."""

import copy
import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audiorep.encoders.base import Encoder
from audiorep.types import Spec

Outputs = list[Float[Tensor, "b ..."]]


class Teacher(nn.Module):
    """Gives targets for the student's views; `update` follows the student after each step."""

    echoes = False
    """Whether the targets are the student's own outputs: then these have to be computed first."""

    def forward(self, specs: list[Spec], student: Outputs) -> Outputs:
        """Targets, one for each view; `student` are the student's own outputs for the same views."""
        raise NotImplementedError

    def update(self, student: nn.Module, progress: float) -> None:
        """Follow the student; `progress` runs from 0 to 1 over training."""


class Shared(Teacher):
    """The student itself, with gradient: both branches are one network (SimCLR, VICReg, Barlow Twins)."""

    echoes = True

    def __init__(self, student: nn.Module) -> None:
        super().__init__()

    def forward(self, specs: list[Spec], student: Outputs) -> Outputs:
        return student


class StopGradient(Teacher):
    """The student itself, without gradient (SimSiam)."""

    echoes = True

    def __init__(self, student: nn.Module) -> None:
        super().__init__()

    def forward(self, specs: list[Spec], student: Outputs) -> Outputs:
        return [output.detach() for output in student]


class Ema(Teacher):
    """Exponential moving average of the student: ``theta' = m theta' + (1 - m) theta``, buffers copied.

    m rises from `momentum` to 1 along half a cosine, ``m = 1 - (1 - momentum) (cos(pi progress) + 1) / 2``, or stays
    where `final` equals it. The average is kept in float32.

    Source: Grill et al. 2020 (BYOL), arXiv:2006.07733, eq. 1 and section 3.3.
    """

    def __init__(self, student: nn.Module, momentum: float = 0.99, final: float = 1.0) -> None:
        super().__init__()
        self.momentum, self.final = momentum, final
        self.network = copy.deepcopy(student).requires_grad_(False)

    @torch.no_grad()
    def forward(self, specs: list[Spec], student: Outputs) -> Outputs:
        return [self.network(spec) for spec in specs]

    @torch.no_grad()
    def update(self, student: nn.Module, progress: float) -> None:
        momentum = self.final - (self.final - self.momentum) * (math.cos(math.pi * progress) + 1.0) / 2.0
        mine = [parameter.data for parameter in self.network.parameters()]
        theirs = [parameter.data for parameter in student.parameters()]
        torch._foreach_lerp_(mine, theirs, 1.0 - momentum)
        for buffer, source in zip(self.network.buffers(), student.buffers(), strict=True):
            buffer.copy_(source)


class Peer(Teacher):
    """A network of its own, trained along with gradient: the branches may differ in encoder, and see other inputs.

    Args:
        encoder: the peer's encoder.
        projector: built on the encoder's width; of the student's output width.

    Source: Bardes et al. 2022 (VICReg), arXiv:2105.04906: branches need not share weights, architecture or
    modality.
    """

    def __init__(self, student: nn.Module, encoder: Encoder, projector: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.encoder, self.projector = encoder, projector(encoder.dim)

    def forward(self, specs: list[Spec], student: Outputs) -> Outputs:
        return [self.projector(self.encoder(spec).pooled) for spec in specs]
