"""Where the targets of a student come from: itself, itself without gradient, or its slow average."""

import copy
import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from audiorep.encoders.base import Encoder
from audiorep.errors import AudiorepError
from audiorep.types import Spec

Outputs = list[Float[Tensor, "b ..."]]
Slots = Int[Tensor, " b"]


class Teacher(nn.Module):
    """Gives targets for the student's views; `update` follows the student after each step."""

    echoes = False
    """Whether the targets are the student's own outputs: then these have to be computed first."""

    def prepare(self, slots: int, shape: Sequence[int]) -> None:
        """Make what depends on the corpus: `slots` of the training side (`Batch.slot`), `shape` of the student's output for
        one."""

    def forward(self, specs: list[Spec], student: Outputs, slot: Slots | None = None) -> Outputs:
        """Targets, one for each view; `student` are the student's own outputs for the same views, `slot` where in the
        corpus each sample lies."""
        raise NotImplementedError

    @property
    def trained(self) -> nn.Module | None:
        """The network that is better than the student at the end, where there is one."""
        return None

    def update(self, student: nn.Module, progress: float) -> None:
        """Follow the student; `progress` runs from 0 to 1 over training."""


class Shared(Teacher):
    """The student itself, with gradient: both branches are one network (SimCLR, VICReg, Barlow Twins)."""

    echoes = True

    def __init__(self, student: nn.Module) -> None:
        super().__init__()

    def forward(self, specs: list[Spec], student: Outputs, slot: Slots | None = None) -> Outputs:
        return student


class StopGradient(Teacher):
    """The student itself, without gradient (SimSiam)."""

    echoes = True

    def __init__(self, student: nn.Module) -> None:
        super().__init__()

    def forward(self, specs: list[Spec], student: Outputs, slot: Slots | None = None) -> Outputs:
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
    def forward(self, specs: list[Spec], student: Outputs, slot: Slots | None = None) -> Outputs:
        return [self.network(spec) for spec in specs]

    @property
    def trained(self) -> nn.Module:
        return self.network

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

    def forward(self, specs: list[Spec], student: Outputs, slot: Slots | None = None) -> Outputs:
        return [self.projector(self.encoder(spec).pooled) for spec in specs]


class Bank(Teacher):
    """The student's own earlier outputs for a window, averaged over time without the bias of the start.

    ``Z <- m Z + (1 - m) z`` after every look, target ``Z / (1 - m^n)`` after n looks. Before the first, a window's target is
    what the student says now, from which it cannot differ. Outputs should be probabilities: these are averaged, those of
    a window that comes twice in a batch as one look. Long rows have an entry for each of the windows that fit side by side
    into them; with ``data.sampler.fixed=true`` these are the windows that are drawn.

    Args:
        momentum: m; 0 keeps the latest output only.

    Source: Laine and Aila 2017, arXiv:1610.02242, algorithm 2 (temporal ensembling); with momentum 0 the earlier
    predictions of Kim et al. 2021, arXiv:2006.12000 (self-distillation).
    """

    echoes = True

    def __init__(self, student: nn.Module, momentum: float = 0.6) -> None:
        super().__init__()
        if not 0.0 <= momentum < 1.0:
            raise AudiorepError(f"objective.teacher.momentum={momentum} must lie in [0, 1)")
        self.momentum = momentum
        self.register_buffer("total", torch.empty(0, 0))
        self.register_buffer("looks", torch.empty(0))
        self.total: Tensor
        self.looks: Tensor

    def prepare(self, slots: int, shape: Sequence[int]) -> None:
        self.total, self.looks = torch.zeros(slots, *shape), torch.zeros(slots)

    @torch.no_grad()
    def forward(self, specs: list[Spec], student: Outputs, slot: Slots | None = None) -> Outputs:
        assert slot is not None, "a bank needs the slots"
        looks = self.looks[slot].view(-1, *[1] * (self.total.ndim - 1))
        known = self.total[slot] / (1.0 - self.momentum**looks).clamp_min(1e-12)
        targets = [torch.where(looks > 0, known.to(said.dtype), said.detach()) for said in student]
        now = torch.stack(student).mean(0).to(self.total.dtype)
        where, place, times = slot.unique(return_inverse=True, return_counts=True)
        now = torch.zeros_like(self.total[where]).index_add(0, place, now) / times.view(-1, *[1] * (now.ndim - 1))
        self.total[where] = self.momentum * self.total[where] + (1.0 - self.momentum) * now
        self.looks[where] += 1.0
        return targets
