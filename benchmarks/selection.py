"""Choosing clips to ask about: BALD, BatchBALD and k-centre, beside baal, batchbald_redux and scikit-activeml."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from audiorep.select.batch_bald import BatchBald
from audiorep.select.geometry import FarthestFirst
from audiorep.select.pool import Pool
from audiorep.select.scores import bald
from audiorep.types import generator
from benchmarks.harness import Case
from benchmarks.peers import imported

CLASSES, PASSES, WIDTH = 10, 20, 512
CONFIGURATIONS = 1000


def cases(quick: bool) -> Iterator[Case]:
    yield bald_case(5_000 if quick else 100_000)
    yield batch_bald_case(1_000 if quick else 10_000, 5 if quick else 10)
    yield k_centre_case(10_000 if quick else 100_000, 20 if quick else 100)


def probabilities(n: int) -> torch.Tensor:
    """log p [m n c] of passes that are sure of some clips and of two minds about others."""
    rng = generator(0)
    agreed, own = torch.randn(1, n, CLASSES, generator=rng), torch.randn(PASSES, n, CLASSES, generator=rng)
    return (2.0 * agreed + own).log_softmax(2)


def bald_case(n: int) -> Case:
    log_p = probabilities(n)
    heuristics, redux = imported("baal.active.heuristics"), imported("batchbald_redux.batchbald")
    p = log_p.exp().permute(1, 2, 0).contiguous().numpy()  # baal's order: clips, classes, passes
    by_clip = log_p.movedim(0, 1).contiguous()

    def of_redux() -> torch.Tensor:
        return redux.compute_entropy(by_clip) - redux.compute_conditional_entropy(by_clip)

    def agree(ours: Any, theirs: Any) -> bool:
        return bool(np.allclose(ours, theirs, atol=1e-5))

    peers = {
        "baal": heuristics and (lambda: heuristics.BALD().compute_score(p)),
        "batchbald_redux": redux and of_redux,
    }
    work = f"BALD of {n:,} clips, {CLASSES} classes, {PASSES} passes"
    return Case(work, "clips", n, lambda: bald(log_p), peers, 10.0, against="baal", agree=agree)


def batch_bald_case(n: int, k: int) -> Case:
    log_p = probabilities(n)
    redux = imported("batchbald_redux.batchbald")
    by_clip = log_p.movedim(0, 1).contiguous()
    pool = Pool(torch.zeros(n, 1), log_p, torch.zeros(0, 1), torch.zeros(0, dtype=torch.int64))

    def ours() -> list[int]:
        return BatchBald(CONFIGURATIONS, n).select(pool, k, generator(1)).rows.tolist()

    def theirs() -> list[int]:
        return list(redux.get_batchbald_batch(by_clip, k, CONFIGURATIONS, dtype=torch.float32).indices)

    def agree(ours: list[int], theirs: list[int]) -> bool:
        """Exact while the configurations are few: 10 and 100 of 1,000; sampled beyond, each by its own draws."""
        return ours[:3] == theirs[:3]

    work = f"BatchBALD, {k} of {n:,}, {CONFIGURATIONS:,} configurations"
    return Case(work, "clips", k, ours, {"batchbald_redux": redux and theirs}, 4.5, agree=agree)


def k_centre_case(n: int, k: int) -> Case:
    x = torch.randn(n, WIDTH, generator=generator(2))
    peer = imported("skactiveml.pool")
    known = x[:1]
    pool = Pool(x, None, known, torch.zeros(1, dtype=torch.int64))
    all_x, y = x.numpy(), np.full(n, np.nan)
    y[0] = 0.0

    def theirs() -> list[int]:
        return [int(row) for row in peer.CoreSet(random_state=0).query(all_x, y, batch_size=k)]

    def ours() -> list[int]:
        return FarthestFirst(normalise=False).select(pool, k, generator(0)).rows.tolist()

    def agree(ours: list[int], theirs: list[int]) -> bool:
        return ours == theirs

    return Case(
        f"k-centre, {k} of {n:,} x {WIDTH}", "clips", k, ours, {"scikit-activeml": peer and theirs}, 4.5, agree=agree
    )
