"""Other packages, where they are installed: a peer that is not there is left out, and the table says so."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch

import audiorep.torchaudio  # noqa: F401  peers import torchaudio, which this makes loadable beside a CPU build of torch


def imported(module: str) -> Any:
    """A module of a peer; None where it, or what it needs, is not installed."""
    try:
        return import_module(module)
    except (ImportError, OSError):
        return None


@contextmanager
def stand_in(modules: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """Empty modules, with the given names in them, for what is not installed and not used; gone after the block.

    For peers that import torchvision, which has no CPU build in the registry, for parts that are not measured.
    """
    missing = {name: ModuleType(name) for name in modules if name not in sys.modules and not installed(name)}
    for name, module in missing.items():
        vars(module).update(modules[name])
        parent, _, child = name.rpartition(".")
        if parent in missing:
            setattr(missing[parent], child, module)
    sys.modules |= missing
    try:
        yield
    finally:  # nothing else shall find the empty ones
        for name in missing:
            del sys.modules[name]


def installed(module: str) -> bool:
    """Whether there is such a module."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def lightly(module: str) -> Any:
    """A module of lightly, such as ``loss``, without torchvision, which is not used here; None: not installed."""
    names = {"torchvision": {}, "torchvision.ops": {"roi_align": None, "StochasticDepth": object}}
    with stand_in(names):
        return imported(f"lightly.{module}")


def opensoundscape() -> Any:
    """opensoundscape without torchvision, IPython and wandb, of which its embedding uses but one sum; None: not installed.

    Networks are given to its CNN as modules; those of torchvision are not there.
    """
    for module in ("torchmetrics", "lightning"):  # these ask whether torchvision is there: before the stand-in is
        import_module(module)
    shown = {"Audio": None, "display": None, "HTML": None}
    transforms = {"Compose": _one_after_the_other, "Normalize": _standardised}
    names: dict[str, dict[str, Any]] = {
        "IPython": {},
        "IPython.display": shown,
        "wandb": {},
        "torchvision": {},
        "torchvision.transforms": transforms,
    }
    with stand_in(names):
        return imported("opensoundscape")


def _one_after_the_other(parts: Sequence[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    def transform(x: Any) -> Any:
        for part in parts:
            x = part(x)
        return x

    return transform


def _standardised(mean: Any, std: Any) -> Callable[[Any], Any]:
    return lambda x: (x - torch.as_tensor(mean, dtype=x.dtype)) / torch.as_tensor(std, dtype=x.dtype)
