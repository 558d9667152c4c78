"""RankMe, deviation, cosine and uniformity of embeddings whose figures are known, and against plain loops."""

import numpy as np
import pytest
import torch
from torch import Tensor

from audiorep.evaluate.health import (
    MAX_PAIRED,
    CollapseRule,
    conditional_entropy,
    embedding_std,
    figures,
    marginal_entropy,
    mean_cosine,
    rankme,
    raw_std,
    uniformity,
)


def gaussian(m: int = 200, d: int = 16, seed: int = 0) -> Tensor:
    return torch.randn(m, d, generator=torch.Generator().manual_seed(seed))


def test_rankme_of_an_orthonormal_matrix_is_its_dimension():
    q, _ = torch.linalg.qr(gaussian(64, 12).double())
    assert rankme(q) == pytest.approx(12, rel=1e-4)
    assert rankme(torch.eye(7)) == pytest.approx(7, rel=1e-4)


def test_rankme_of_a_line_is_one_and_of_a_plane_with_equal_axes_two():
    line = gaussian(50, 1) @ gaussian(1, 16, 1)
    assert rankme(line) == pytest.approx(1, abs=1e-3)
    q, _ = torch.linalg.qr(gaussian(50, 2).double())
    axes, _ = torch.linalg.qr(gaussian(16, 2).double())
    assert rankme(q @ axes.T) == pytest.approx(2, abs=1e-3)


def test_rankme_equals_a_loop_in_float64_and_does_not_depend_on_scale():
    z = gaussian() * torch.linspace(0.01, 3, 16)
    sigma = np.linalg.svd(z.numpy().astype(np.float64), compute_uv=False)
    entropy = 0.0
    for s in sigma:
        p = s / sum(sigma) + 1e-7
        entropy -= p * np.log(p)
    assert rankme(z) == pytest.approx(np.exp(entropy), rel=1e-9)
    assert rankme(z * 1000) == pytest.approx(rankme(z), rel=1e-5)
    assert 1 < rankme(z) < 16


def test_the_deviation_of_collapsed_embeddings_is_zero_and_of_an_even_sphere_one():
    assert embedding_std(torch.ones(50, 16)) == pytest.approx(0.0, abs=1e-9)
    assert embedding_std(torch.rand(50, 1) * torch.ones(1, 16) + 0.1) == pytest.approx(0.0, abs=1e-6)
    assert embedding_std(gaussian(4000, 64)) == pytest.approx(1.0, abs=0.02)
    assert embedding_std(gaussian(4000, 64) * 1e-3) == pytest.approx(1.0, abs=0.02)
    assert embedding_std(gaussian() + 100) < 0.05


def test_deviation_equals_a_loop():
    z = gaussian(30, 5) + 1
    rows = [[float(v) / float(row.norm()) for v in row] for row in z.double()]
    expected = np.mean([np.std([row[k] for row in rows], ddof=1) for k in range(5)]) * np.sqrt(5)
    assert embedding_std(z) == pytest.approx(expected, rel=1e-9)
    assert raw_std(z) == pytest.approx(float(np.std(z.double().numpy(), axis=0, ddof=1).mean()), rel=1e-9)
    assert raw_std(10 * z) == pytest.approx(10 * raw_std(z), rel=1e-5)


def pairs(z: Tensor) -> list[tuple[np.ndarray, np.ndarray]]:
    unit = [v / np.linalg.norm(v) for v in z.double().numpy()]
    return [(unit[i], unit[j]) for i in range(len(unit)) for j in range(i)]


@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_mean_cosine_and_uniformity_equal_loops_over_pairs(shift):
    z = gaussian(25, 6) + shift
    assert mean_cosine(z) == pytest.approx(np.mean([a @ b for a, b in pairs(z)]), abs=1e-9)
    for t in (2.0, 0.5):
        expected = np.log(np.mean([np.exp(-t * np.sum((a - b) ** 2)) for a, b in pairs(z)]))
        assert uniformity(z, t) == pytest.approx(expected, abs=1e-9)


def test_collapsed_embeddings_have_cosine_one_and_are_least_uniform():
    collapsed = torch.ones(20, 8)
    assert mean_cosine(collapsed) == pytest.approx(1.0) and uniformity(collapsed) == pytest.approx(0.0, abs=1e-9)
    assert uniformity(gaussian(200, 8)) < -1


def test_figures_tell_collapsed_embeddings_from_living_ones():
    rule = CollapseRule()
    assert rule.broken(figures(gaussian())) is None
    generator = torch.Generator().manual_seed(1)
    constant = torch.ones(50, 16) + 1e-6 * torch.randn(50, 16, generator=generator)
    assert rule.broken(figures(constant)) is not None
    assert "rankme" in (rule.broken(figures(gaussian(50, 1) @ torch.ones(1, 16))) or "")
    assert rule.broken(figures(gaussian() * 1e-6)) is not None
    assert rule.broken({"rankme": float("nan"), "std": 1.0, "raw_std": 1.0}) is not None


def test_figures_hold_uniformity_of_the_first_rows_only():
    z = gaussian(MAX_PAIRED + 100)
    assert figures(z)["uniformity"] == uniformity(z[:MAX_PAIRED]) != uniformity(z)
    z[-1, 0] = float("nan")
    assert set(figures(z)) == set(figures(gaussian())) and all(np.isnan(value) for value in figures(z).values())


def test_entropies_of_assignments_equal_loops():
    p = gaussian(30, 7).double().softmax(1)
    mean = p.numpy().mean(0)
    assert marginal_entropy(p) == pytest.approx(-sum(q * np.log(q) for q in mean))
    rows = [-sum(q * np.log(q) for q in row) for row in p.numpy()]
    assert conditional_entropy(p) == pytest.approx(np.mean(rows))
    assert conditional_entropy(p) < marginal_entropy(p) < np.log(7)


def test_entropies_of_sure_even_and_collapsed_assignments():
    sure, even, collapsed = torch.eye(8), torch.full((20, 8), 1 / 8), torch.eye(8)[:1].expand(20, 8)
    assert (marginal_entropy(sure), conditional_entropy(sure)) == (pytest.approx(np.log(8)), 0.0)
    assert (marginal_entropy(even), conditional_entropy(even)) == (pytest.approx(np.log(8)), pytest.approx(np.log(8)))
    assert (marginal_entropy(collapsed), conditional_entropy(collapsed)) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("measured", "word"),
    [
        ({"marginal_entropy_relative": 0.04, "conditional_entropy_relative": 0.0}, "marginal"),
        ({"marginal_entropy_relative": 1.0, "conditional_entropy_relative": 0.9995}, "conditional"),
        ({"marginal_entropy_relative": 0.9, "conditional_entropy_relative": 0.5}, None),
        ({"marginal_entropy_relative": float("nan"), "conditional_entropy_relative": float("nan")}, None),
        ({"rankme": 20.0, "std": 0.5, "raw_std": 1.0, "marginal_entropy_relative": 0.0}, "marginal"),
        ({"rankme": 1.0, "marginal_entropy_relative": 0.9}, "rankme"),
        ({}, None),
    ],
)
def test_the_collapse_rule_knows_the_entropies_of_prototypes(measured, word):
    broken = CollapseRule().broken(measured)
    assert broken is None if word is None else word in (broken or "")
