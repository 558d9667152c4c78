"""Targets from scores against written-out loops and lightly; k-means against scikit-learn."""

import math

import numpy as np
import pytest
import torch
from peers import lightly
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from audiorep.assign import CELLS, Centring, Prototypes, Sharpen, Sinkhorn, kmeans, lloyd, nearest, two_nearest
from audiorep.errors import AudiorepError
from audiorep.types import generator


def scores(seed: int, n: int = 12, k: int = 5) -> Tensor:
    return torch.rand(n, k, generator=generator(seed)) * 2 - 1


# --------------------------------------------------------------- Sinkhorn


def sinkhorn_loop(table: Tensor, tau: float, iterations: int) -> list[list[float]]:
    n, k = table.shape
    p = [[math.exp(float(table[i, j]) / tau) for j in range(k)] for i in range(n)]
    for _ in range(iterations):
        for j in range(k):
            column = sum(p[i][j] for i in range(n))
            for i in range(n):
                p[i][j] /= column * k
        for i in range(n):
            row = sum(p[i])
            p[i] = [x / (row * n) for x in p[i]]
    return [[x * n for x in row] for row in p]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("tau,iterations", [(0.05, 3), (0.2, 1), (1.0, 10)])
def test_sinkhorn_equals_a_float64_loop_and_lightly(seed, tau, iterations):
    table = scores(seed)
    ours = Sinkhorn(5, tau, iterations)(table)
    torch.testing.assert_close(ours, torch.tensor(sinkhorn_loop(table, tau, iterations)), rtol=1e-4, atol=1e-6)
    theirs = lightly("loss.swav_loss").sinkhorn(table, iterations, tau)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_sinkhorn_gives_every_prototype_its_share_after_many_iterations():
    skewed = scores(1, 40, 8) + torch.linspace(0, 1, 8)
    p = Sinkhorn(8, 0.2, 200)(skewed)
    torch.testing.assert_close(p.sum(1), torch.ones(40))
    torch.testing.assert_close(p.sum(0), torch.full((8,), 5.0), rtol=1e-3, atol=1e-3)
    once = Sinkhorn(8, 0.2, 1)(skewed).sum(0)
    assert (once - 5).abs().max() > (p.sum(0) - 5).abs().max()


def test_sinkhorn_rows_are_distributions_at_any_sharpness_and_without_gradient():
    table = scores(2).requires_grad_()
    for tau in (1e-3, 0.05, 10.0):
        p = Sinkhorn(5, tau)(table)
        assert not p.requires_grad and torch.isfinite(p).all()
        torch.testing.assert_close(p.sum(1), torch.ones(12))


# --------------------------------------------------------------- centring


def softmax_loop(row: list[float]) -> list[float]:
    top = max(row)
    odds = [math.exp(x - top) for x in row]
    return [x / sum(odds) for x in odds]


@pytest.mark.parametrize("warmup", [0.0, 0.4, 1.0])
def test_centring_equals_a_loop_over_several_updates_and_its_warm_up(warmup):
    part = Centring(5, tau=0.07, tau_start=0.04, warmup=warmup, momentum=0.8)
    centre, progress = [0.0] * 5, 0.0
    for step in range(6):
        table = scores(step)
        tau = 0.07 if progress >= warmup else 0.04 + (0.07 - 0.04) * progress / warmup
        wanted = [softmax_loop([(float(x) - c) / tau for x, c in zip(row, centre, strict=True)]) for row in table]
        torch.testing.assert_close(part(table), torch.tensor(wanted), rtol=1e-4, atol=1e-6)
        progress = (step + 1) / 6
        part.update(table, progress)
        centre = [0.8 * c + 0.2 * float(table[:, j].double().mean()) for j, c in enumerate(centre)]
        torch.testing.assert_close(part.mean, torch.tensor(centre), rtol=1e-5, atol=1e-6)


def test_centring_with_the_students_loss_equals_lightlys_dino_loss():
    theirs = lightly("loss.dino_loss").DINOLoss(5, 0.04, 0.04, student_temp=0.1, center_momentum=0.9)
    part = Centring(5, tau=0.04, momentum=0.9)
    for step in range(4):
        taught, seen = [scores(step), scores(step + 10)], [scores(step + 20), scores(step + 30)]
        ours = 0.0
        for t, s in ((0, 1), (1, 0)):
            ours = ours - (part(taught[t]) * (seen[s] / 0.1).log_softmax(1)).sum(1).mean() / 2
        torch.testing.assert_close(ours, theirs(taught, seen), rtol=1e-5, atol=1e-6)
        part.update(torch.cat(taught), 0.0)


def test_without_a_centre_it_stays_where_it_was():
    part = Centring(5, tau=0.04, centre=False)
    part.update(scores(0), 0.5)
    assert not part.mean.any()
    torch.testing.assert_close(part(scores(1)), (scores(1) / 0.04).softmax(1))


def test_centre_and_warm_up_are_saved_with_the_state():
    first, second = (Centring(5, tau=0.07, warmup=1.0) for _ in range(2))
    first.update(scores(0), 0.5)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(scores(1)), second(scores(1)))


def test_sharpen_is_a_power_of_the_students_softmax():
    table = scores(3)
    wanted = [softmax_loop([float(x) / 0.025 for x in row]) for row in table]
    torch.testing.assert_close(Sharpen(5)(table), torch.tensor(wanted), rtol=1e-4, atol=1e-6)
    msn = lightly("loss.msn_loss")  # softmax at .1, sharpened with T = .25
    torch.testing.assert_close(Sharpen(5)(table), msn.sharpen((table / 0.1).softmax(1), 0.25), rtol=1e-4, atol=1e-6)


# ------------------------------------------------------------- prototypes


def test_prototypes_give_cosines_with_gradient():
    torch.manual_seed(0)
    table = Prototypes(6, 4)
    z = (3 * torch.randn(5, 6, generator=generator(0))).requires_grad_()
    found = table(z)
    for i in range(5):
        for j in range(4):
            p = table.weight[j]
            assert float(found[i, j]) == pytest.approx((z[i] @ p / (z[i].norm() * p.norm())).item(), abs=1e-6)
    torch.testing.assert_close(table.weight.norm(dim=1), torch.ones(4))
    assert all(grad.any() for grad in torch.autograd.grad(found[:, 0].sum(), (z, table.weight)))
    with torch.no_grad():
        table.weight.mul_(5.0)
    torch.testing.assert_close(table(z), found)


def test_a_single_prototype_is_refused():
    with pytest.raises(AudiorepError, match="at least two"):
        Prototypes(6, 1)


# ---------------------------------------------------------------- k-means


def blobs(seed: int, spread: float, per: int = 40, k: int = 6, d: int = 4) -> tuple[Tensor, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = 4.0 * rng.standard_normal((k, d))
    truth = np.repeat(np.arange(k), per)
    return torch.from_numpy(centres[truth] + spread * rng.standard_normal((k * per, d))).float(), truth


def inertia(x: Tensor, centroids: Tensor, assignment: Tensor) -> float:
    return float((x - centroids[assignment]).square().sum())


@pytest.mark.parametrize("seed", range(4))
def test_kmeans_is_about_as_good_as_scikit_learn(seed):
    x, _ = blobs(seed, 2.0)
    ours = min(inertia(x, *kmeans(x, 6, generator(seed, draw), 100)) for draw in range(8))
    assert ours < 1.03 * KMeans(6, n_init=8, random_state=seed).fit(x.numpy()).inertia_


def test_kmeans_finds_well_separated_blobs():
    found = 0
    for seed in range(8):
        x, truth = blobs(seed, 0.02)
        centroids, assignment = kmeans(x, 6, generator(seed))
        if adjusted_rand_score(truth, assignment.numpy()) == 1.0:
            found += 1
            for j in range(6):
                torch.testing.assert_close(centroids[j], x[assignment == j].mean(0), rtol=1e-5, atol=1e-5)
    assert found == 8


def test_kmeans_ends_where_rows_lie_nearest_to_their_own_mean():
    x, _ = blobs(3, 2.0)
    centroids, assignment = kmeans(x, 6, generator(0), 500)
    for i in range(0, len(x), 7):
        distance = [float((x[i] - c).square().sum()) for c in centroids]
        assert int(assignment[i]) == min(range(6), key=distance.__getitem__)
    means = torch.stack([x[assignment == j].mean(0) for j in range(6)])
    torch.testing.assert_close(centroids, means, rtol=1e-4, atol=1e-4)
    assert torch.equal(assignment, nearest(x, centroids, chunk=7))


def test_kmeans_depends_on_its_generator_alone():
    x, _ = blobs(1, 3.0)
    torch.manual_seed(0)
    first = kmeans(x, 9, generator(1))
    torch.manual_seed(1)
    second, other = kmeans(x, 9, generator(1)), kmeans(x, 9, generator(2))
    assert torch.equal(first[1], second[1]) and torch.equal(first[0], second[0])
    assert not torch.equal(first[1], other[1])


@pytest.mark.parametrize("differing,count", [(1, 4), (2, 5), (4, 5), (10, 10), (3, 10)])
def test_kmeans_leaves_no_cluster_empty_even_of_duplicates(differing, count):
    x = torch.randn(differing, 3, generator=generator(0))[torch.arange(10) % differing]
    for seed in range(5):
        centroids, assignment = kmeans(x, count, generator(seed))
        assert torch.bincount(assignment, minlength=count).min() >= 1 and torch.isfinite(centroids).all()
        if count >= differing:  # then no two rows that differ share a cluster
            assert inertia(x, centroids, assignment) < 1e-10


@pytest.mark.parametrize("seed", range(3))
def test_weighted_kmeans_is_about_as_good_as_scikit_learn(seed):
    x, _ = blobs(seed, 2.0)
    weight = torch.rand(len(x), generator=generator(seed)) ** 4 + 1e-3

    def weighted(centroids: Tensor, assignment: Tensor) -> float:
        return float(((x - centroids[assignment]).square().sum(1) * weight).sum())

    runs = [kmeans(x, 6, generator(seed, draw), 100, weight) for draw in range(8)]
    theirs = KMeans(6, n_init=8, random_state=seed).fit(x.numpy(), sample_weight=weight.numpy())
    assert min(weighted(*run) for run in runs) < 1.03 * theirs.inertia_
    centroids, assignment = runs[0]
    for j in range(6):
        rows = assignment == j
        expected = (x[rows] * weight[rows, None]).sum(0) / weight[rows].sum()
        torch.testing.assert_close(centroids[j], expected, rtol=1e-4, atol=1e-4)


def plain_lloyd(x: Tensor, centroids: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Every row against every centroid, every time."""
    assignment = torch.cdist(x, centroids).argmin(1)
    for _ in range(iterations):
        centroids = torch.stack([x[assignment == j].mean(0) for j in range(len(centroids))])
        assignment = torch.cdist(x, centroids).argmin(1)
    return centroids, assignment


@pytest.mark.parametrize("k", [6, 16, 24])
@pytest.mark.parametrize("iterations", [1, 3, 12])
def test_lloyd_with_bounds_goes_the_same_way_as_without(k, iterations, monkeypatch):
    monkeypatch.setattr("audiorep.assign.ROWS", 50)
    monkeypatch.setitem(CELLS, "cpu", 1000)
    x = blobs(5, 2.0, per=100)[0].double()
    start = x[torch.randperm(len(x), generator=generator(k))[:k]]
    kept = start.clone()
    centroids, assignment = lloyd(x, start, iterations)
    expected = plain_lloyd(x, start, iterations)
    assert torch.equal(start, kept) and torch.equal(assignment, expected[1])
    torch.testing.assert_close(centroids, expected[0])


def test_the_two_nearest_are_those_of_all_distances(monkeypatch):
    monkeypatch.setitem(CELLS, "cpu", 1000)
    x, centroids = blobs(2, 2.0)[0].double(), blobs(3, 2.0, per=4)[0].double()
    found, near, second = two_nearest(x, centroids, x.square().sum(1))
    expected = torch.cdist(x, centroids).topk(2, 1, largest=False)
    assert torch.equal(found, expected.indices[:, 0]) and torch.equal(found, nearest(x, centroids))
    torch.testing.assert_close(torch.stack([near, second], 1), expected.values)
    assert two_nearest(x, centroids[:1], x.square().sum(1))[2].isinf().all()


def test_of_equal_centroids_the_first_is_the_nearest():
    x = torch.randn(30, 4, generator=generator(0))
    assert (nearest(x, torch.zeros(16, 4)) == 0).all() and (nearest(x, torch.zeros(5, 4)) == 0).all()


def test_equal_weights_are_none():
    x, _ = blobs(0, 0.02)
    for weight in (None, torch.full((len(x),), 0.3)):
        centroids, assignment = kmeans(x, 6, generator(4), weight=weight)
        assert inertia(x, centroids, assignment) < 0.5


def test_more_clusters_than_rows_are_refused():
    with pytest.raises(AudiorepError, match=r"11 clusters of 10 rows.*fewer clusters"):
        kmeans(torch.zeros(10, 3), 11, generator(0))
