"""Losses of two views against written-out float64 loops and against lightly: InfoNCE, Barlow Twins, VICReg's kin."""

import math

import pytest
import torch
from peers import lightly
from torch import Tensor
from torch.nn import functional as F

from audiorep.losses.consistency import CosineRegression, soft_cross_entropy
from audiorep.losses.contrast import InfoNce, NtXent
from audiorep.losses.redundancy import (
    BarlowTwins,
    ExpOffDiagonal,
    VicReg,
    covariance,
    squared_off_diagonal,
    variance_hinge,
)
from audiorep.queues import Queue
from audiorep.types import generator


def pair(seed: int, b: int = 7, d: int = 5) -> tuple[Tensor, Tensor]:
    rng = generator(seed)
    a, b_ = (torch.randn(b, d, generator=rng, dtype=torch.float64) for _ in range(2))
    return a.requires_grad_(), b_.requires_grad_()


def agree(mine: Tensor, wanted: Tensor, *at: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(mine, wanted, rtol=tolerance, atol=tolerance)
    got, right = (torch.autograd.grad(loss, at, retain_graph=True) for loss in (mine, wanted))
    for ours, theirs in zip(got, right, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=10 * tolerance, atol=tolerance)


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def unit(row: Tensor) -> Tensor:
    return row / (row * row).sum().sqrt()


# --------------------------------------------------------------- InfoNCE


def info_nce_loop(a: Tensor, b: Tensor, tau: float, memory: Tensor | None = None) -> Tensor:
    losses = []
    for i in range(len(a)):
        own = torch.exp(unit(a[i]) @ unit(b[i]) / tau)
        keys = [unit(b[k]) for k in range(len(b)) if k != i] if memory is None else [unit(row) for row in memory]
        losses.append(-torch.log(own / (own + sum(torch.exp(unit(a[i]) @ key / tau) for key in keys))))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("remembered", [0, 1, 11])
def test_info_nce_equals_a_float64_loop(seed, remembered):
    a, b = pair(seed)
    memory = F.normalize(torch.randn(remembered, 5, generator=generator(9), dtype=torch.float64))
    past = (memory,) if remembered else ()
    agree(InfoNce(0.3)(a, b, *past)["contrast"], info_nce_loop(a, b, 0.3, *past), a, b)


def test_info_nce_within_the_batch_is_moco_v3s_up_to_its_factor():
    a, b = pair(1)  # Chen et al. 2021, arXiv:2104.02057, algorithm 1: 2 tau CE(q k / tau), in both orders
    q, k = F.normalize(a), F.normalize(b)
    ctr = 2 * 0.2 * F.cross_entropy(q @ k.T / 0.2, torch.arange(7))
    agree(2 * 0.2 * InfoNce(0.2)(a, b)["contrast"], ctr, a, b)
    assert InfoNce(0.2)(a, b)["contrast"] != InfoNce(0.2)(b, a)["contrast"]


@pytest.mark.parametrize("seed", range(3))
def test_info_nce_with_a_queue_equals_lightlys_memory_bank(seed):
    theirs = lightly("loss.ntx_ent_loss").NTXentLoss(0.2, memory_bank_size=(24, 5))
    queue = Queue(5, 24)
    queue.rows.copy_(theirs.memory_bank.bank)
    for step in range(5):  # 24 rows are three pushes: theirs drops what reaches over the end
        a, b = (x.detach().float().requires_grad_() for x in pair(10 * seed + step, 8))
        ours = InfoNce(0.2)(a, b, queue.content())["contrast"]
        agree(ours, theirs(a, b.detach()), a, tolerance=1e-5)
        queue.push(b)
        torch.testing.assert_close(queue.content(), theirs.memory_bank.bank)


def test_a_query_far_from_its_own_key_and_near_the_others_is_dear():
    z = torch.eye(4, dtype=torch.float64)
    near = float(InfoNce(0.2)(z, z)["contrast"])
    assert math.isclose(near, -math.log(math.exp(5) / (math.exp(5) + 3)), rel_tol=1e-9)
    assert math.isclose(float(InfoNce(0.2)(z, z.roll(1, 0))["contrast"]), math.log(math.exp(5) + 3), rel_tol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_nt_xent_equals_lightly(seed):
    a, b = pair(seed)
    agree(NtXent(0.2)(a, b)["contrast"], lightly("loss.ntx_ent_loss").NTXentLoss(0.2)(a, b), a, b)


def test_nt_xent_without_negatives_is_the_similarity_of_the_pairs_alone():
    a, b = pair(0)
    wanted = -sum(unit(p) @ unit(q) for p, q in zip(a, b, strict=True)) / 7 / 0.2
    agree(NtXent(0.2, negatives=False)(a, b)["contrast"], wanted, a, b)


# ------------------------------------------------------------ redundancy


def moments(z: Tensor, unbiased: bool) -> tuple[list[Tensor], list[list[Tensor]]]:
    n, d = z.shape
    mean = [sum(z[i, p] for i in range(n)) / n for p in range(d)]
    cov = [
        [sum((z[i, p] - mean[p]) * (z[i, q] - mean[q]) for i in range(n)) / (n - unbiased) for q in range(d)]
        for p in range(d)
    ]
    return mean, cov


def barlow_loop(a: Tensor, b: Tensor, lam: float, eps: float = 1e-5) -> Tensor:
    n, d = a.shape
    (mean_a, cov_a), (mean_b, cov_b) = moments(a, False), moments(b, False)
    loss = 0.0
    for p in range(d):
        for q in range(d):
            c = sum((a[i, p] - mean_a[p]) * (b[i, q] - mean_b[q]) for i in range(n)) / n
            c = c / ((cov_a[p][p] + eps).sqrt() * (cov_b[q][q] + eps).sqrt())
            loss = loss + ((1 - c) ** 2 if p == q else lam * c**2)
    return loss


def vicreg_loop(
    a: Tensor, b: Tensor, weights: tuple[float, float, float], tau: float | None, transposed: bool
) -> Tensor:
    n, d = a.shape
    loss = weights[0] * sum((a[i, j] - b[i, j]) ** 2 for i in range(n) for j in range(d)) / (n * d)
    for z in (a, b):
        _, cov = moments(z.T if transposed else z, True)
        size = len(cov)
        hinge = sum(torch.clamp(1 - torch.sqrt(cov[j][j] + 1e-4), min=0) for j in range(size)) / size
        off = [[cov[p][q] for q in range(size) if q != p] for p in range(size)]
        if tau is None:
            spread = sum(c**2 for row in off for c in row) / size
        else:
            spread = sum(torch.log(sum(torch.exp(c / tau) for c in row)) for row in off) / size
        loss = loss + weights[1] * hinge / 2 + weights[2] * spread
    return loss


@pytest.mark.parametrize("seed", range(3))
def test_barlow_twins_equals_a_float64_loop_and_lightly(seed):
    a, b = pair(seed)
    agree(total(BarlowTwins(0.02)(a, b)), barlow_loop(a, b, 0.02), a, b)
    a, b = (x.detach().requires_grad_() for x in pair(seed, 32, 8))
    theirs = lightly("loss.barlow_twins_loss").BarlowTwinsLoss(0.0051)
    torch.testing.assert_close(total(BarlowTwins(0.0051)(a, b)), theirs(a, b))  # it works in place: no gradient


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("tau", [None, 0.4])
def test_vicreg_and_its_way_to_simclr_equal_float64_loops(seed, tau, transposed):
    a, b = pair(seed)
    spread = squared_off_diagonal if tau is None else ExpOffDiagonal(tau)
    loss = VicReg(3.0, 5.0, 2.0, spread, transposed)
    terms = loss(a, b)
    assert set(terms) == {"invariance", "variance", "covariance"}
    agree(total(terms), vicreg_loop(a, b, (3.0, 5.0, 2.0), tau, transposed), a, b)


@pytest.mark.parametrize("seed", range(3))
def test_vicreg_equals_lightly(seed):
    a, b = pair(seed, 32, 8)
    agree(total(VicReg()(a, b)), lightly("loss.vicreg_loss").VICRegLoss(25.0, 25.0, 1.0)(a, b), a, b)


@pytest.mark.parametrize("b,d", [(6, 4), (4, 6), (5, 5)])
def test_contrastive_and_non_contrastive_criteria_are_dual(b, d):
    """``L_nc + sum_j |K_.j|^4 = L_c + sum_i |K_i.|^4``: Garrido et al. 2023, arXiv:2206.02574, section 3."""
    k = torch.randn(b, d, generator=generator(b, d), dtype=torch.float64)
    non_contrastive = d * squared_off_diagonal(k.T @ k)
    contrastive = b * squared_off_diagonal(k @ k.T)
    loop = sum(float(k[i] @ k[j]) ** 2 for i in range(b) for j in range(b) if i != j)
    assert math.isclose(float(contrastive), loop, rel_tol=1e-9)
    columns = sum(float(k[:, j] @ k[:, j]) ** 2 for j in range(d))
    rows = sum(float(k[i] @ k[i]) ** 2 for i in range(b))
    assert math.isclose(float(non_contrastive) + columns, float(contrastive) + rows, rel_tol=1e-9)


def test_the_dual_of_vicreg_sees_samples_where_it_sees_dimensions():
    a, b = pair(2, 6, 9)
    ours, dual = VicReg(0.0, 1.0, 1.0)(a.T, b.T), VicReg(0.0, 1.0, 1.0, transposed=True)(a, b)
    for name in ("variance", "covariance"):
        torch.testing.assert_close(ours[name], dual[name])


def test_the_parts_of_vicreg():
    z = pair(3)[0].detach()
    torch.testing.assert_close(covariance(z), torch.cov(z.T))
    matrix = torch.tensor([[9.0, 1.0, 2.0], [3.0, 9.0, 4.0], [5.0, 6.0, 9.0]])
    assert float(squared_off_diagonal(matrix)) == pytest.approx((1 + 4 + 9 + 16 + 25 + 36) / 3)
    shares = [math.log(math.exp(p / 2) + math.exp(q / 2)) for p, q in ((1, 2), (3, 4), (5, 6))]
    assert float(ExpOffDiagonal(2.0)(matrix)) == pytest.approx(sum(shares) / 3)
    assert float(variance_hinge(torch.zeros(4, 3))) == pytest.approx(1 - math.sqrt(1e-4))
    assert float(variance_hinge(10 * z)) == 0.0


@pytest.mark.parametrize(
    "loss", [NtXent(), InfoNce(), BarlowTwins(), VicReg(), VicReg(transposed=True), CosineRegression()]
)
def test_gradients_are_finite_where_all_embeddings_are_one_or_zero(loss):
    for a in (torch.ones(6, 4), torch.zeros(6, 4)):
        a.requires_grad_()
        value = total(loss(a, a))
        assert torch.isfinite(value) and torch.isfinite(torch.autograd.grad(value, a)[0]).all()


# ----------------------------------------------------------- consistency


@pytest.mark.parametrize("seed", range(3))
def test_cosine_regression_is_lightlys_negative_cosine_moved_and_doubled(seed):
    a, b = pair(seed)
    theirs = lightly("loss.negative_cosine_similarity").NegativeCosineSimilarity()(a, b)
    agree(CosineRegression()(a, b)["regression"], 2 + 2 * theirs, a, b)


@pytest.mark.parametrize("seed", range(3))
def test_soft_cross_entropy_equals_a_float64_loop(seed):
    logits, other = pair(seed)
    target = other.detach().softmax(1)
    loop = 0.0
    for row, share in zip(logits, target, strict=True):
        norm = torch.log(sum(torch.exp(x) for x in row))
        loop = loop - sum(p * (x - norm) for p, x in zip(share, row, strict=True))
    agree(soft_cross_entropy(target, logits), loop / len(logits), logits)
    hard = target.argmax(1)
    agree(soft_cross_entropy(F.one_hot(hard, 5).double(), logits), F.cross_entropy(logits, hard), logits)
