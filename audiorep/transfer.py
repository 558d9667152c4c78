"""How much of a pretrained encoder is trained: all, nothing, the last stages, or small layers that are added to it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from audiorep.encoders.adapted import Adapted
from audiorep.encoders.base import Encoder
from audiorep.errors import AudiorepError

Rates = dict[nn.Parameter, float]


class Transfer:
    """Prepares an encoder before training, tells the learning rates of its parameters, and tidies up afterwards.

    wants_trained: whether it keeps weights as they are, which should then mean something.
    """

    wants_trained = True

    def apply(self, encoder: Encoder) -> Encoder:
        """The encoder to train: the same one, or a new one around it."""
        return encoder

    def rates(self, encoder: Encoder) -> Rates:
        """Factors of the learning rate, for parameters of a prepared encoder (or of a copy); 1 where none is given."""
        return {}

    def finish(self, encoder: Encoder) -> Encoder:
        """The encoder to save."""
        return encoder

    def part(self, part: Mapping[str, Any]) -> dict[str, Any]:
        """The config of the encoder to save, from that of the encoder that was given."""
        return dict(part)


class Full(Transfer):
    """All weights are trained; a stage that lies k stages below the last at ``decay^k`` of the learning rate.

    Source: decay by layer as in Howard and Ruder 2018, arXiv:1801.06146, section 3.2 (discriminative fine-tuning).
    """

    wants_trained = False

    def __init__(self, decay: float = 1.0) -> None:
        if not 0.0 < decay <= 1.0:
            raise AudiorepError(f"transfer.decay={decay} must lie in (0, 1]")
        self.decay = decay

    def apply(self, encoder: Encoder) -> Encoder:
        if not any(True for _ in encoder.parameters()):
            raise AudiorepError(
                f"transfer=full trains all weights, and {type(encoder).__name__} has none that can be trained: choose "
                "transfer=frozen views=wave, audiorep run label_propagation, or objective=distill teacher.model= to train "
                "another encoder from it"
            )
        return encoder

    def rates(self, encoder: Encoder) -> Rates:
        depth = stage_of(encoder)
        last = len(encoder.stages) - 1
        return {p: self.decay ** (last - depth[name]) for name, p in encoder.named_parameters()}


class LastStages(Transfer):
    """The last `count` stages are trained, what lies below is frozen, batch norms included; 0: the encoder is frozen.

    Raises:
        AudiorepError: more stages than the encoder has.
    """

    def __init__(self, count: int = 0) -> None:
        if count < 0:
            raise AudiorepError(f"transfer.count={count} must be 0 or more")
        self.count = count

    def apply(self, encoder: Encoder) -> Encoder:
        names = list(encoder.stages)
        if self.count > len(names):
            raise AudiorepError(
                f"transfer.count={self.count}: {type(encoder).__name__} has {len(names)} stages; transfer=full trains all"
            )
        encoder.requires_grad_(False)
        trained = [*names[len(names) - self.count :], *(encoder.tail if self.count else ())]
        for name in trained:
            encoder.get_submodule(name).requires_grad_(True)
        encoder.resting = tuple(apart_from(encoder, trained)) if trained else ("",)
        encoder.train(encoder.training)
        return encoder


class LowRank(nn.Module):
    """``w + scale b a`` for a weight w of [out, ...]: a [rank, ...] from He's uniform distribution, b [out, rank] zero."""

    def __init__(self, weight: Tensor, rank: int, scale: float) -> None:
        super().__init__()
        rows, columns = weight.shape[0], weight[0].numel()
        bound = 1.0 / math.sqrt(columns)
        self.a = nn.Parameter(torch.empty(rank, columns).uniform_(-bound, bound))
        self.b = nn.Parameter(torch.zeros(rows, rank))
        self.scale = scale

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scale * (self.b @ self.a).view_as(weight)


class Lora(Transfer):
    """The encoder is frozen, and every weight of two axes or more that is at least `rank` wide gets a low-rank addition.

    After training the additions are merged into the weights: the saved encoder is as large and as fast as before.

    Raises:
        AudiorepError: a rank below 1, or no weight that is wide enough.

    Source: Hu et al. 2022, arXiv:2106.09685, section 4.1; convolutions as matrices [out, in * kernel].
    """

    def __init__(self, rank: int = 8, scale: float = 2.0) -> None:
        if rank < 1:
            raise AudiorepError(f"transfer.rank={rank} must be 1 or more")
        self.rank, self.scale = rank, scale

    def apply(self, encoder: Encoder) -> Encoder:
        encoder.requires_grad_(False)
        wide = [
            module
            for module in encoder.modules()
            if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)
            and not parametrize.is_parametrized(module)  # a weight norm: merged, it would not load again
            and min(module.weight.shape[0], module.weight[0].numel()) > self.rank
        ]
        if not wide:
            raise AudiorepError(
                f"transfer.rank={self.rank}: {type(encoder).__name__} has no weight that is wider; lower it, or choose "
                "transfer=full or transfer=adapter"
            )
        for module in wide:
            addition = LowRank(module.weight, self.rank, self.scale)
            parametrize.register_parametrization(module, "weight", addition)
        encoder.resting = ("",)
        encoder.train(encoder.training)
        return encoder

    def finish(self, encoder: Encoder) -> Encoder:
        for module in list(encoder.modules()):
            if is_lowered(module):
                parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
        return encoder


class Adapters(Transfer):
    """The encoder is frozen, and a small residual network, an `Adapter`, is added behind every stage and trained."""

    def __init__(self, width: int = 32) -> None:
        self.width = width

    def apply(self, encoder: Encoder) -> Encoder:
        encoder.requires_grad_(False)
        return Adapted(encoder, self.width)

    def part(self, part: Mapping[str, Any]) -> dict[str, Any]:
        return {"_target_": "audiorep.encoders.adapted.Adapted", "encoder": dict(part), "width": self.width}


def is_lowered(module: nn.Module) -> bool:
    """Whether a module's weight has a low-rank addition."""
    if not parametrize.is_parametrized(module, "weight"):
        return False
    return isinstance(cast(nn.ModuleDict, module.parametrizations)["weight"][-1], LowRank)  # type: ignore[index]


def apart_from(module: nn.Module, names: Sequence[str], prefix: str = "") -> Iterator[str]:
    """Names of the largest submodules that neither are, nor hold, nor lie within those that are named."""
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        if any(other.startswith(f"{path}.") for other in names):
            yield from apart_from(child, names, f"{path}.")
        elif path not in names:
            yield path


def stage_of(encoder: Encoder) -> dict[str, int]:
    """The stage that each parameter of an encoder belongs to: the last for its tail, the first where it belongs to none."""
    places = {stage: place for place, stage in enumerate(encoder.stages)}
    places |= dict.fromkeys(encoder.tail, max(0, len(places) - 1))
    return {
        name: next((place for stage, place in places.items() if name.startswith(f"{stage}.")), 0)
        for name, _ in encoder.named_parameters()
    }
