"""Optimisers and the learning-rate schedule."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from audiorep.errors import AudiorepError


class Lars(Optimizer):
    """Layer-wise adaptive rate scaling, with momentum.

    For weights (two axes or more): ``g = grad + wd w``, scaled by ``eta |w| / |g|``; biases and norms: plain momentum
    without decay. Then ``v = momentum v + g``, ``w -= lr v``.

    Source: You et al. 2017, arXiv:1708.03888, algorithm 1 (there the learning rate is inside the momentum); biases and
    norms are excluded as in SimCLR and BYOL.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.3,
        weight_decay: float = 1e-4,
        momentum: float = 0.9,
        eta: float = 0.02,
        clip: bool = False,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "eta": eta, "clip": clip}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                update = parameter.grad
                if parameter.ndim > 1:
                    update = update + group["weight_decay"] * parameter
                    weight_norm, norm = parameter.norm(), update.norm()
                    ratio = group["eta"] * weight_norm / norm.clamp_min(1e-12)
                    if group["clip"]:
                        ratio = (ratio / group["lr"]).clamp_max(1.0)
                    update = update * torch.where((weight_norm > 0) & (norm > 0), ratio, torch.ones_like(ratio))
                velocity = self.state[parameter].setdefault("velocity", torch.zeros_like(parameter))
                velocity.mul_(group["momentum"]).add_(update)
                parameter.add_(velocity, alpha=-group["lr"])
        return loss


def decay_groups(
    parameters: Iterable[nn.Parameter], weight_decay: float, rates: Mapping[nn.Parameter, float] | None = None
) -> list[dict[str, Any]]:
    """Weight decay for weights (two axes or more), none for biases, norms and tokens; one group a learning rate.

    Args:
        rates: factors of the learning rate, kept in each group as "rate" for `scale_rates`; 1 where none is given.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in parameters:
        key = (weight_decay if parameter.ndim > 1 else 0.0, (rates or {}).get(parameter, 1.0))
        groups.setdefault(key, []).append(parameter)
    order = sorted(groups, key=lambda key: (-key[1], -key[0]))
    return [{"params": groups[decay, rate], "weight_decay": decay, "rate": rate} for decay, rate in order]


def scale_rates(optimizer: Optimizer) -> Optimizer:
    """Multiply the learning rate of every group by its "rate"; before a schedule is made."""
    for group in optimizer.param_groups:
        group["lr"] *= group.pop("rate", 1.0)
    return optimizer


def warmup_cosine(optimizer: Optimizer, steps: int, warmup: float) -> LambdaLR:
    """Rise linearly over the first `warmup` part of `steps`, then fall along half a cosine to zero.

    Source: Loshchilov and Hutter 2017 (SGDR), arXiv:1608.03983, eq. 5, without restarts.
    """
    if not 0.0 <= warmup < 1.0:
        raise AudiorepError(f"trainer.warmup={warmup} is a part of the steps: it must lie in [0, 1)")
    rising = max(1, round(steps * warmup))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, (step - rising) / max(1, steps - rising))))

    return LambdaLR(optimizer, factor)
