"""Every loss equals a written-out float64 loop, its gradients too, and an independent library where one has it."""

import math

import numpy as np
import pytest
import torch
from pytorch_metric_learning.losses import NTXentLoss, VICRegLoss
from torch.nn import functional as F

from audiorep.losses.consistency import CosineRegression
from audiorep.losses.contrast import NtXent
from audiorep.losses.redundancy import VicReg
from audiorep.types import generator


def pair(seed: int, b: int = 7, d: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    rng = generator(seed)
    a, b_ = (torch.randn(b, d, generator=rng, dtype=torch.float64) for _ in range(2))
    return a.requires_grad_(), b_.requires_grad_()


def nt_xent_loop(a, b, tau):
    z = [row / row.norm() for row in [*a, *b]]
    count, total = len(a), 0.0
    for i in range(2 * count):
        positive = (i + count) % (2 * count)
        denominator = sum(torch.exp(z[i] @ z[k] / tau) for k in range(2 * count) if k != i)
        total = total - torch.log(torch.exp(z[i] @ z[positive] / tau) / denominator)
    return total / (2 * count)


def vicreg_loop(a, b, invariance, variance, covariance):
    n, d = a.shape
    total = invariance * sum((a[i, j] - b[i, j]) ** 2 for i in range(n) for j in range(d)) / (n * d)
    for z in (a, b):
        mean = [sum(z[i, j] for i in range(n)) / n for j in range(d)]
        cov = [
            [sum((z[i, p] - mean[p]) * (z[i, q] - mean[q]) for i in range(n)) / (n - 1) for q in range(d)]
            for p in range(d)
        ]
        hinge = sum(torch.clamp(1.0 - torch.sqrt(cov[j][j] + 1e-4), min=0) for j in range(d)) / d
        total = total + variance * hinge / 2
        total = total + covariance * sum(cov[p][q] ** 2 for p in range(d) for q in range(d) if p != q) / d
    return total


def cosine_loop(a, b):
    return sum(2 - 2 * (p @ z) / (p.norm() * z.norm()) for p, z in zip(a, b, strict=True)) / len(a)


CASES = {
    "nt_xent": (NtXent(tau=0.3), lambda a, b: nt_xent_loop(a, b, 0.3)),
    "vicreg": (VicReg(25.0, 25.0, 1.0), lambda a, b: vicreg_loop(a, b, 25.0, 25.0, 1.0)),
    "cosine": (CosineRegression(), cosine_loop),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_value_and_gradient_equal_a_float64_loop(name, seed):
    loss, loop = CASES[name]
    a, b = pair(seed)
    ours = torch.stack(list(loss(a, b).values())).sum()
    theirs = loop(a, b)
    assert math.isclose(float(ours), float(theirs), rel_tol=2e-6)
    for mine, wanted in zip(torch.autograd.grad(ours, (a, b)), torch.autograd.grad(theirs, (a, b)), strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_nt_xent_equals_pytorch_metric_learning(seed):
    a, b = pair(seed, 16, 8)
    labels = torch.arange(16).repeat(2)
    theirs = NTXentLoss(temperature=0.2)(torch.cat([a, b]), labels)
    torch.testing.assert_close(NtXent(tau=0.2)(a, b)["contrast"], theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_vicreg_equals_pytorch_metric_learning(seed):
    a, b = pair(seed, 32, 8)
    theirs = VICRegLoss(25.0, 25.0, 1.0, eps=1e-4)(a, ref_emb=b)
    ours = torch.stack(list(VicReg()(a, b).values())).sum()
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_nt_xent_of_perfect_pairs_among_orthogonal_negatives():
    z = torch.eye(8, dtype=torch.float64)
    wanted = -math.log(math.exp(1 / 0.5) / (math.exp(1 / 0.5) + 14))
    assert math.isclose(float(NtXent(0.5)(z, z)["contrast"]), wanted, rel_tol=1e-6)


def test_vicreg_of_identical_white_embeddings_is_nearly_zero():
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.standard_normal((64, 8)) - 0.0)
    z = torch.from_numpy(q - q.mean(0))
    z = z / z.std(0) * 1.01
    terms = VicReg()(z, z)
    assert float(terms["invariance"]) == 0.0 and float(terms["variance"]) == 0.0


def test_cosine_regression_is_the_squared_distance_of_the_directions():
    a, b = pair(0)
    distance = (F.normalize(a) - F.normalize(b)).square().sum(1).mean()
    torch.testing.assert_close(CosineRegression()(a, b)["regression"], distance, rtol=1e-5, atol=1e-6)
