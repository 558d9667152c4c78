"""Losses of other libraries, to hold ours against.

lightly imports torchvision, which has no CPU build in the registry and which its losses do not use: it is installed
without dependencies, and gets an empty torchvision here. So only what computes without pictures can be taken from it.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any


def lightly(module: str) -> Any:
    """A module of lightly, such as ``loss.swav_loss``."""
    if "torchvision" not in sys.modules and find_spec("torchvision") is None:
        empty = {name: ModuleType(name) for name in ("torchvision", "torchvision.ops")}
        empty["torchvision.ops"].__dict__.update(roi_align=None, StochasticDepth=object)
        sys.modules |= empty
        try:
            return import_module(f"lightly.{module}")
        finally:  # nothing else shall find the empty one
            for name in empty:
                del sys.modules[name]
    return import_module(f"lightly.{module}")
