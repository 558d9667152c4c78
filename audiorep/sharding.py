"""Weights, gradients and optimiser states in parts, one a process; whole only while a step computes with them.

Every process keeps rows [r n / w, (r + 1) n / w) of each parameter. Before the forward pass they are gathered, after the
backward pass each process is left with the mean gradient of its own part, which its optimiser takes alone.

Source: Zhao et al. 2023 (PyTorch FSDP), arXiv:2304.11277; here PyTorch's second edition of it, `fully_shard`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_map

from audiorep.distributed import world
from audiorep.errors import AudiorepError
from audiorep.objectives.base import Objective

Ask = Callable[..., Any]
"""Calls a method of an objective, by its name, with what it is given."""


def ask(objective: Objective, name: str, *given: Any) -> Any:
    """``objective.name(*given)``."""
    return getattr(objective, name)(*given)


class Gathered(nn.Module):
    """Asks an objective whose parameters are gathered for as long: a shell, so that the objective itself stays as it is."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, name: str, *given: Any) -> Any:
        return ask(self.objective, name, *given)


def shard(objective: Objective, others: Sequence[nn.Parameter], device: torch.device) -> Ask:
    """Leave this process with its part of all parameters of an objective: the same names, other tensors.

    Args:
        others: parameters that are trained with it and not its own.

    Returns:
        what asks the objective from now on.

    Raises:
        AudiorepError: the objective uses its weights between steps, trains in turns, or is not all that is trained.
    """
    reasons = {
        "looks at the whole corpus between epochs": type(objective).before_epoch is not Objective.before_epoch,
        "trains several groups of parameters in turn": len(objective.parameter_groups()) > 1,
        "is trained together with the front-end of its views": bool(others),
    }
    for reason in (reason for reason, holds in reasons.items() if holds):
        raise AudiorepError(
            f"trainer.strategy=fsdp: this objective {reason}, for which it needs whole weights; choose ddp"
        )
    for parameter in objective.parameters():
        parameter.data = parameter.data.contiguous()
    shell = Gathered(objective)
    fully_shard(shell, mesh=init_device_mesh(device.type, (world(),)), reshard_after_forward=True)
    return shell.__call__


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tree: Any) -> Any:
    """A state with every tensor whole; all processes must ask together."""
    return tree_map(lambda value: value.full_tensor() if isinstance(value, DTensor) else value, tree)


def part_like(value: Tensor, like: Tensor) -> Tensor:
    """This process's part of a whole tensor, as it holds that of `like`; whole tensors go with whole ones."""
    if not isinstance(like, DTensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)


def load_whole(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Load a state of whole tensors into a module that may hold parts."""
    own = module.state_dict()
    module.load_state_dict({name: part_like(value, own.get(name, value)) for name, value in state.items()})


def load_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Load a state of whole tensors into an optimiser whose parameters may be parts."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    parts = {
        number: {k: part_like(v, parameters[number]) if isinstance(v, Tensor) else v for k, v in known.items()}
        for number, known in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": parts})


def unshard(module: nn.Module) -> None:
    """Give every process all parameters whole again, for good."""
    whole_of: dict[nn.Parameter, nn.Parameter] = {
        p: nn.Parameter(p.full_tensor(), p.requires_grad) for p in module.parameters() if isinstance(p, DTensor)
    }
    for owner in module.modules():
        for name, parameter in list(owner.named_parameters(recurse=False)):
            setattr(owner, name, whole_of.get(parameter, parameter))
