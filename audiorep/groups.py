"""Parameter groups that are updated in turn: which term belongs to which, and gradients for one of them only."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


def terms_of(group: str, terms: dict[str, Tensor]) -> dict[str, Tensor]:
    """The terms that belong to a parameter group: ``group/term``, and for "main" all without a slash."""
    return {name: value for name, value in terms.items() if group_of(name) == group}


def group_of(term: str) -> str:
    """The parameter group that a term's name points to."""
    return term.split("/")[0] if "/" in term else "main"


@contextmanager
def only_these(groups: dict[str, list[nn.Parameter]], active: str) -> Iterator[None]:
    """Let gradients flow into one parameter group only."""
    others = [parameter for name, group in groups.items() if name != active for parameter in group]
    for parameter in others:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in others:
            parameter.requires_grad_(True)
