"""Where the targets of a student come from: itself, itself without gradient, or its slow average."""

import copy
import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audiorep.types import Spec

Outputs = list[Float[Tensor, "b d"]]


class Teacher(nn.Module):
    """Gives targets for the student's views; `update` follows the student after each step."""

    def forward(self, specs: list[Spec], student: Outputs) -> Outputs:
        """Targets, one for each view; `student` are the student's own outputs for the same views."""
        raise NotImplementedError

    def update(self, student: nn.Module, progress: float) -> None:
        """Follow the student; `progress` runs from 0 to 1 over training."""


class Shared(Teacher):
    """The student itself, with gradient: both branches are one network (SimCLR, VICReg, Barlow Twins)."""

    def __init__(self, student: nn.Module) -> None:
        super().__init__()

    def forward(self, specs: list[Spec], student: Outputs) -> Outputs:
        return student


class StopGradient(Teacher):
    """The student itself, without gradient (SimSiam)."""

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
