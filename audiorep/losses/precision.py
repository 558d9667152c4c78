"""Losses in full precision, whatever the networks before them compute in."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

Forward = TypeVar("Forward", bound=Callable[..., Any])


def in_full(forward: Forward) -> Forward:
    """Under autocast too, the products within a loss are float32: rounded to 8 bits, near pairs and ties look alike."""

    @wraps(forward)
    def inner(self: nn.Module, first: Tensor, *rest: Any, **named: Any) -> Any:
        with torch.autocast(first.device.type, enabled=False):
            return forward(self, first, *rest, **named)

    return cast(Forward, inner)


def wide(z: Tensor) -> Tensor:
    """At least float32."""
    return z.to(torch.promote_types(z.dtype, torch.float32))
