"""What lets several processes train as one: gathering with gradient, joint statistics, joint draws. Alone: no-ops.

Rank r of w processes holds rows [r b, (r + 1) b) of the joined batch. Every rank computes the loss of the joined batch;
the gradient that flows back through `gather` is the sum over ranks of what each sent, and DistributedDataParallel
averages the parameters' gradients: together that is the gradient of one process on the joined batch.
"""

import os
from collections.abc import Sequence
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

T = TypeVar("T")


def world() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process."""
    return dist.get_rank() if world() > 1 else 0


def neighbours() -> int:
    """Number of processes on this machine, this one among them."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", world())) if world() > 1 else 1


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(world())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].contiguous().clone()
        dist.all_reduce(total)
        return total.chunk(world())[rank()]


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].contiguous().clone()
        dist.all_reduce(total)
        return total


def gather(x: Tensor) -> Tensor:
    """Rows of all processes, in order of rank: [b ...] -> [w b ...], with gradient. Every rank must hold as many rows."""
    return x if world() == 1 else cast(Tensor, _Gather.apply(x))


def mine(x: Tensor, axis: int = 0) -> Tensor:
    """The rows of this process out of joined ones, which lie along `axis`: the inverse of `gather`."""
    return x.chunk(world(), axis)[rank()]


def mean_over_ranks(x: Tensor) -> Tensor:
    """The mean of a tensor over processes, with gradient."""
    return x if world() == 1 else cast(Tensor, _Sum.apply(x)) / world()


def rand(count: int, *shape: int, rng: torch.Generator, device: torch.device | str) -> Tensor:
    """Uniform draws [count ...] for this process's rows: a part of what one process would draw for the joined batch."""
    return mine(torch.rand(world() * count, *shape, generator=rng, device=device))


def randn(count: int, *shape: int, rng: torch.Generator, device: torch.device | str) -> Tensor:
    """As `rand`, from the standard normal distribution."""
    return mine(torch.randn(world() * count, *shape, generator=rng, device=device))


def least(*values: int, device: torch.device | str) -> list[int]:
    """The least of each value over all processes."""
    if world() == 1:
        return list(values)
    found = torch.tensor(values, device=device)
    dist.all_reduce(found, dist.ReduceOp.MIN)
    return [int(value) for value in found.tolist()]


def gather_lists(own: list[T]) -> list[T]:
    """The lists of all processes in one, in order of rank; of anything that pickles."""
    if world() == 1:
        return own
    parts: list[list[T]] = [[] for _ in range(world())]
    dist.all_gather_object(parts, own)
    return [item for part in parts for item in part]


def broadcast(module: nn.Module) -> None:
    """Give every process the parameters and buffers of the first."""
    if world() > 1:
        with torch.no_grad():
            for tensor in (*module.parameters(), *module.buffers()):
                dist.broadcast(tensor, 0)


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace each gradient by its mean over processes; None counts as zeros, and stays None where no process has one.

    Parameters of which each process holds a part (audiorep/sharding.py) come with their mean already.
    """
    if world() == 1:
        return
    from torch.distributed.tensor import DTensor  # half a second, which one process alone does not need

    parameters = [parameter for parameter in parameters if not isinstance(parameter, DTensor)]
    if not parameters:
        return
    has = torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
    dist.all_reduce(has)
    under_way = []
    for parameter, count in zip(parameters, has.tolist(), strict=True):
        if count:
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            under_way.append(dist.all_reduce(parameter.grad, async_op=True))
    for handle in under_way:
        handle.wait()
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad /= world()


class SyncNorm(nn.Module):
    """Batch norm with statistics over the batches of all processes, on any device (PyTorch's own refuses the CPU).

    ``(x - mean) / sqrt(var + eps) weight + bias`` with mean and (biased) variance over all axes but the second.

    Source: Ioffe and Szegedy 2015, arXiv:1502.03167, algorithm 1.
    """

    def __init__(self, norm: nn.modules.batchnorm._BatchNorm) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias
        self.register_buffer("running_mean", norm.running_mean)
        self.register_buffer("running_var", norm.running_var)
        self.register_buffer("num_batches_tracked", norm.num_batches_tracked)
        self.eps, self.momentum = norm.eps, norm.momentum

    def forward(self, x: Float[Tensor, "b d ..."]) -> Float[Tensor, "b d ..."]:
        mean, var = cast(Tensor, self.running_mean), cast(Tensor, self.running_var)
        if not self.training:
            return F.batch_norm(x, mean, var, self.weight, self.bias, False, 0.0, self.eps)
        axes = [0, *range(2, x.ndim)]
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        shape = [1, -1] + [1] * (x.ndim - 2)
        batch_mean = mean_over_ranks(wide.mean(axes))
        centred = wide - batch_mean.view(shape)
        batch_var = mean_over_ranks(centred.square().mean(axes))
        count = world() * x.numel() // x.shape[1]
        with torch.no_grad():
            momentum = 0.1 if self.momentum is None else self.momentum
            mean.lerp_(batch_mean.to(mean.dtype), momentum)
            var.lerp_((batch_var * count / max(1, count - 1)).to(var.dtype), momentum)
            cast(Tensor, self.num_batches_tracked).add_(1)
        out = centred * (batch_var + self.eps).rsqrt().view(shape)
        if self.weight is not None:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        return out.to(x.dtype)


def synchronise_norms(module: nn.Module) -> nn.Module:
    """Replace every batch norm within a module by one that sees all processes' batches; parameters stay the same ones."""
    for name, child in module.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            setattr(module, name, SyncNorm(child))
        else:
            synchronise_norms(child)
    return module
