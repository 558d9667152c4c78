"""From windows to rows: every pooling equals a loop over bags, and its gradient goes where it says."""

import math

import pytest
import torch

from audiorep.errors import AudiorepError
from audiorep.pooling import LinearSoftmax, LogMeanExp, bags_of, largest, mean
from audiorep.types import generator

BAG = torch.tensor([0, 2, 0, 1, 2, 2, 0])


def logits(seed: int = 0) -> torch.Tensor:
    return 3.0 * torch.randn(7, 3, generator=generator(seed), dtype=torch.float64)


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def linear_softmax(xs: list[float]) -> float:
    p = [sigmoid(x) for x in xs]
    pooled = sum(v * v for v in p) / sum(p)
    return math.log(pooled / (1.0 - pooled))


CASES = {
    "mean": (mean, lambda xs: sum(xs) / len(xs)),
    "largest": (largest, max),
    "log_mean_exp": (LogMeanExp(2.0), lambda xs: math.log(sum(math.exp(2.0 * x) for x in xs) / len(xs)) / 2.0),
    "linear_softmax": (LinearSoftmax(), linear_softmax),
}


@pytest.mark.parametrize("name", CASES)
def test_a_pooling_equals_a_loop_over_bags(name):
    pool, loop = CASES[name]
    x = logits()
    pooled = pool(x, BAG)
    assert pooled.shape == (3, 3)
    for bag in range(3):
        for c in range(3):
            wanted = loop([float(x[i, c]) for i in range(7) if BAG[i] == bag])
            assert float(pooled[bag, c]) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_one_window_is_its_own_row_and_the_order_of_windows_is_nothing(name):
    pool = CASES[name][0]
    x = logits(1)
    torch.testing.assert_close(pool(x, torch.arange(7)), x)
    order = torch.randperm(7, generator=generator(2))
    torch.testing.assert_close(pool(x[order], BAG[order]), pool(x, BAG))


@pytest.mark.parametrize("name", CASES)
def test_more_of_a_call_in_a_window_is_never_less_of_it_in_the_row(name):
    pool, x = CASES[name][0], logits(3).requires_grad_()
    (slope,) = torch.autograd.grad(pool(x, BAG).sum(), x)
    if name == "linear_softmax":  # a window below half of what the row is pulls it down, by the formula
        p, pooled = x.detach().sigmoid(), pool(x, BAG).detach().sigmoid()[BAG]
        assert torch.equal(slope < 0, 2.0 * p < pooled)
    else:
        assert bool((slope >= 0).all()) and slope.isfinite().all()


@pytest.mark.parametrize("name", CASES)
def test_windows_that_are_sure_have_finite_logits_and_somewhere_a_gradient(name):
    x = torch.tensor([[200.0, -200.0], [190.0, -210.0], [100.0, -100.0]], requires_grad=True)
    pooled = CASES[name][0](x, torch.tensor([0, 0, 1]))
    assert pooled.isfinite().all()
    (slope,) = torch.autograd.grad(pooled.sum(), x)
    assert slope.isfinite().all() and bool((slope[:2].abs().sum(0) > 0.5).all()) and bool((slope[2] > 0.5).all())


def test_log_mean_exp_runs_from_the_mean_to_the_largest():
    x = logits(4)
    torch.testing.assert_close(LogMeanExp(1e-5)(x, BAG), mean(x, BAG), rtol=0, atol=1e-3)
    torch.testing.assert_close(LogMeanExp(1e4)(x, BAG), largest(x, BAG), rtol=0, atol=1e-3)
    between = [LogMeanExp(r)(x, BAG)[0] for r in (0.1, 1.0, 10.0)]
    assert all(bool((a < b).all()) for a, b in zip(between, between[1:], strict=False))


def test_the_gradient_of_log_mean_exp_is_shared_by_how_large_windows_are():
    x = logits(5).requires_grad_()
    (slope,) = torch.autograd.grad(LogMeanExp(2.0)(x, BAG).sum(), x)
    for bag in range(3):
        inside = BAG.eq(bag)
        torch.testing.assert_close(slope[inside], (2.0 * x[inside]).softmax(0).detach())


def test_only_the_largest_has_a_gradient():
    x = logits(6).requires_grad_()
    (slope,) = torch.autograd.grad((largest(x, BAG) * torch.tensor([1.0, 2.0, 3.0])).sum(), x)
    for bag in range(3):
        for c in range(3):
            members = [i for i in range(7) if BAG[i] == bag]
            top = max(members, key=lambda i, c=c: float(x.detach()[i, c]))
            assert [float(slope[i, c]) for i in members] == [float(c + 1) * (i == top) for i in members]


def test_windows_of_one_row_lie_in_one_bag():
    row = torch.tensor([7, 3, 7, 7, 90, 3])
    bag, first = bags_of(row)
    assert bag.tolist() == [1, 0, 1, 1, 2, 0] and first.tolist() == [1, 0, 4]
    assert row[first].tolist() == [3, 7, 90] and torch.equal(row[first][bag], row)


def test_log_mean_exp_needs_a_positive_r():
    with pytest.raises(AudiorepError, match=r"objective\.pool\.r=0\.0 must be above 0"):
        LogMeanExp(0.0)
