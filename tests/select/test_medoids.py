"""k-medoids reaches the best choice on small pools, what the kmedoids package reaches on larger, and keeps the answered."""

from itertools import combinations

import pytest
import torch
from pools import blobs, make

from audiorep.select.geometry import squared_to_nearest
from audiorep.select.medoids import KMedoids, exchange, k_medoids, pairs, two_nearest
from audiorep.types import generator

NONE = torch.inf


def cost(d: torch.Tensor, rows: torch.Tensor | list[int], fixed: torch.Tensor, weight: torch.Tensor) -> float:
    return float((d[rows].amin(0).minimum(fixed) * weight).sum())


@pytest.mark.parametrize("answered", [0, 2])
@pytest.mark.parametrize("seed", range(6))
def test_the_best_of_all_choices_on_small_pools(seed, answered):
    x = torch.randn(13, 3, generator=generator(seed))
    weight = torch.rand(13, generator=generator(seed, 1)) + 0.1
    fixed = squared_to_nearest(x, torch.randn(answered, 3, generator=generator(seed, 2))).sqrt()
    d = pairs(x)
    for k in (1, 2, 3):
        rows, part = k_medoids(d, fixed, weight, k, generator(0), starts=8)
        best = min(cost(d, list(choice), fixed, weight) for choice in combinations(range(13), k))
        assert cost(d, rows, fixed, weight) == pytest.approx(best, rel=1e-5)
        assert part.tolist() == sorted(part.tolist(), reverse=True)
        assert float(part.sum()) == pytest.approx(1.0) if not answered else float(part.sum()) <= 1.0


def test_an_exchange_changes_the_cost_by_what_it_says():
    x = torch.randn(30, 4, generator=generator(0))
    weight, d = torch.rand(30, generator=generator(1)), pairs(x)
    fixed = squared_to_nearest(x, x[28:] + 0.5).sqrt()
    medoids = torch.tensor([3, 11, 20])
    before = cost(d, medoids, fixed, weight)
    changes = {}
    for row in range(30):
        for m in range(3):
            after = medoids.clone()
            after[m] = row
            changes[m, row] = cost(d, after, fixed, weight) / before - 1.0
    change, m, row = exchange(d, two_nearest(d, medoids, fixed), weight, 3, torch.arange(30))
    assert change == pytest.approx(min(changes.values()), rel=1e-4)
    assert changes[m, row] == pytest.approx(change, rel=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_as_good_as_the_kmedoids_package(seed):
    import kmedoids

    x = blobs(300, centres=12, seed=seed, spread=1.5)
    d, none, ones = pairs(x), torch.full((300,), NONE), torch.ones(300)
    ours = cost(d, k_medoids(d, none, ones, 10, generator(seed), starts=3)[0], none, ones)
    theirs = min(kmedoids.fasterpam(d.numpy(), 10, random_state=start).loss for start in range(3))
    assert ours <= 1.01 * theirs


def test_answered_clips_stay_medoids():
    x = blobs(40, centres=4)
    pool = make(embedding=x, labelled=x[[0, 1]])  # one of the first and one of the second kind
    chosen = KMedoids(normalise=False).select(pool, 2, generator(0))
    assert {row % 4 for row in chosen.rows.tolist()} == {2, 3}
    assert chosen.score.tolist() == pytest.approx([0.25, 0.25])


def test_of_a_large_pool_a_sample_is_clustered():
    pool = make(n=300, answered=0)
    picks = {tuple(KMedoids(sample=20).select(pool, 4, generator(seed)).rows.tolist()) for seed in range(4)}
    assert len(picks) > 1
    assert all(len({row % 4 for row in rows}) == 4 for rows in picks)
    assert len(KMedoids(sample=20).select(pool, 50, generator(0)).rows.unique()) == 50


def test_of_doubles_alone_different_ones_are_chosen():
    pool = make(embedding=torch.ones(20, 6), answered=0)
    assert len(KMedoids().select(pool, 7, generator(0)).rows.unique()) == 7
