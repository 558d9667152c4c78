"""Pools that the tests of the selectors share."""

from typing import Any

import torch
from torch.nn import functional as F

from audiorep.select.pool import Pool
from audiorep.types import generator


def log_p(n: int = 40, m: int = 4, c: int = 3, seed: int = 0, several: bool = False, **kind: Any) -> torch.Tensor:
    """Logarithms of probabilities on which m members agree in part."""
    rng = generator(seed, 11)
    logits = 2.0 * torch.randn(1, n, c, generator=rng, **kind) + torch.randn(m, n, c, generator=rng, **kind)
    return F.logsigmoid(logits) if several else logits.log_softmax(2)


def blobs(n: int, d: int = 6, centres: int = 4, seed: int = 0, spread: float = 0.3) -> torch.Tensor:
    """n points around `centres` places, in turn."""
    rng = generator(seed, 12)
    places = 3.0 * torch.randn(centres, d, generator=rng)
    return places[torch.arange(n) % centres] + spread * torch.randn(n, d, generator=rng)


def make(n: int = 40, answered: int = 8, several: bool = False, m: int = 4, seed: int = 0, **more: Any) -> Pool:
    """A pool of n clips in four kinds, and some answered ones of them; what is in `more` takes the place of these."""
    n = len(more.get("embedding", range(n)))
    answered = len(more.get("labelled", range(answered)))
    label = torch.rand(answered, 3, generator=generator(seed, 13)).round() if several else torch.arange(answered) % 3
    known: dict[str, Any] = {
        "embedding": blobs(n, seed=seed),
        "log_p": log_p(n, m, seed=seed, several=several),
        "labelled": blobs(answered, seed=seed, spread=0.5),
        "label": label,
        "several": several,
        "spent": 0.3,
    }
    return Pool(**(known | more))
