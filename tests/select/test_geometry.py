"""Farthest-first traversal picks what a loop over all pairs picks, and is at most twice as wide as the best."""

from itertools import combinations

import pytest
import torch
from pools import blobs, make

from audiorep.select.geometry import (
    FarthestFirst,
    anywhere,
    central,
    farthest_first,
    placed,
    squared_length,
    squared_to_nearest,
)
from audiorep.types import generator


def by_loop(x: torch.Tensor, others: torch.Tensor, k: int, first: int) -> list[int]:
    """All distances anew at every step, in float64."""
    x, chosen, rows = x.double(), list(others.double()), []
    while len(rows) < k:
        if not chosen:
            row = first
        else:
            near = [min(float((a - b).norm()) for b in chosen) if i not in rows else -1.0 for i, a in enumerate(x)]
            row = near.index(max(near))
        rows.append(row)
        chosen.append(x[row])
    return rows


@pytest.mark.parametrize("block", [1, 7, 512])
@pytest.mark.parametrize("answered", [0, 1, 9])
def test_the_same_picks_as_a_loop(answered, block):
    x, others = torch.randn(80, 5, generator=generator(1)), torch.randn(answered, 5, generator=generator(2))
    rows, far = farthest_first(x, others, 30, 4, block)
    assert rows.tolist() == by_loop(x, others, 30, 4)
    covered = torch.cat([others, x[rows[:29]]])
    assert float(far[29]) == pytest.approx(float(torch.cdist(x[rows[29:]], covered).min()), rel=1e-4)
    assert (far[1:] <= far[:-1] + 1e-5).all()


@pytest.mark.parametrize("seed", range(5))
def test_no_wider_than_twice_the_best(seed):
    x = torch.randn(14, 2, generator=generator(seed))
    rows, _ = farthest_first(x, x[:0], 3, central(x, generator(0)))
    d = torch.cdist(x, x)
    best = min(float(d[list(choice)].amin(0).max()) for choice in combinations(range(14), 3))
    assert float(d[rows].amin(0).max()) <= 2.0 * best + 1e-6


def test_doubles_are_chosen_last_and_never_twice():
    x = torch.randn(6, 4, generator=generator(0)).repeat(3, 1)
    rows, far = farthest_first(x, x[:0], 18, 0)
    assert sorted(rows.tolist()) == list(range(18))
    assert len({row % 6 for row in rows[:6].tolist()}) == 6
    assert far[6:].amax() < 1e-2


def test_one_clip_of_one():
    rows, far = farthest_first(torch.ones(1, 3), torch.ones(0, 3), 1, 0)
    assert rows.tolist() == [0] and far.tolist() == [0.0]


def test_the_first_clip_is_central_or_any():
    x = blobs(40)
    assert central(x, generator(0)) == int((x - x.mean(0)).norm(dim=1).argmin())
    assert len({anywhere(x, generator(seed)) for seed in range(30)}) > 10
    empty = make(answered=0)
    firsts = {int(FarthestFirst(anywhere).select(empty, 3, generator(seed)).rows[0]) for seed in range(8)}
    assert len(firsts) > 1


def test_distances_to_the_nearest_equal_cdist():
    x, others = blobs(50), blobs(7, seed=3)
    found = squared_to_nearest(x, others)
    torch.testing.assert_close(found, torch.cdist(x, others).amin(1).square(), rtol=1e-4, atol=1e-4)
    assert squared_to_nearest(x, others[:0]).isinf().all()


def test_lengths_in_pieces_are_those_of_the_formula(monkeypatch):
    monkeypatch.setattr("audiorep.select.geometry.SMALL", 20)
    x, origin = blobs(50), blobs(1, seed=3)[0]
    torch.testing.assert_close(squared_length(x), x.square().sum(1))
    torch.testing.assert_close(squared_length(x, origin), (x - origin).square().sum(1))


@pytest.mark.parametrize("normalise", [False, True])
def test_embeddings_are_placed_around_the_mean_of_the_pool(normalise):
    pool = make()
    before = pool.embedding.clone()
    x, labelled = placed(pool, normalise)
    expected = pool.embedding - pool.embedding.mean(0)
    if normalise:
        expected = expected / expected.norm(dim=1, keepdim=True)
    torch.testing.assert_close(x, expected)
    torch.testing.assert_close(placed(pool, normalise, torch.tensor([3, 5]))[0], expected[[3, 5]])
    assert labelled.shape == pool.labelled.shape and torch.equal(pool.embedding, before)
