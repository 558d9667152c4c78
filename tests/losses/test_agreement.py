"""Sharpening, masks, distances and ramps are what their formulas say, worked out by hand or in a loop."""

import math

import pytest
import torch
from torch.nn import functional as F

from audiorep.errors import AudiorepError
from audiorep.losses.agreement import (
    Confident,
    Distance,
    Divergence,
    Everything,
    Flexible,
    Hardest,
    LowEntropy,
    Margin,
    Power,
    Ramp,
    SoftCrossEntropy,
    SquaredError,
)
from audiorep.types import generator


def answers(b: int = 5, q: int = 2, k: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(b, q, k, generator=generator(seed), dtype=torch.float64).softmax(2)


def certain(*rows: list[float]) -> torch.Tensor:
    """Probabilities of one question a row."""
    return torch.tensor(rows, dtype=torch.float64)[:, None]


def row(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers)


# ---------------------------------------------------------------------- sharpening


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_power_equals_a_loop(temperature):
    p = answers()
    ours = Power(temperature)(p.log())
    for i in range(5):
        for q in range(2):
            raised = [v ** (1.0 / temperature) for v in p[i, q].tolist()]
            assert ours[i, q].tolist() == pytest.approx([v / sum(raised) for v in raised], rel=1e-12)
    if temperature == 1.0:
        torch.testing.assert_close(ours, p)


def test_a_learned_power_starts_as_the_fixed_one_and_is_driven_by_the_loss():
    p = answers()
    learned = Power(0.5, learned=True)
    torch.testing.assert_close(learned(p.log()), Power(0.5)(p.log()), rtol=1e-5, atol=1e-7)
    optimizer = torch.optim.SGD(learned.parameters(), lr=5.0)

    def entropy() -> torch.Tensor:
        return torch.special.entr(learned(p.log())).sum(2).mean()

    before = float(entropy().detach())
    for _ in range(20):
        optimizer.zero_grad()
        entropy().backward()
        assert learned.raw.grad is not None and float(learned.raw.grad) != 0.0
        optimizer.step()
    assert float(entropy().detach()) < before - 0.05


@pytest.mark.parametrize("raw", [-50.0, 0.0, 50.0])
def test_a_learned_power_stays_within_its_bounds(raw):
    p, learned = answers(), Power(0.5, learned=True, lowest=0.2, highest=1.5)
    learned.raw.data.fill_(raw)
    wanted = {-50.0: 0.2, 0.0: 0.85, 50.0: 1.5}[raw]
    torch.testing.assert_close(learned(p.log()), Power(wanted)(p.log()), rtol=1e-5, atol=1e-8)


def test_only_a_learned_power_has_a_parameter():
    assert len(list(Power(0.5).parameters())) == 0 and len(list(Power(0.5, learned=True).parameters())) == 1
    assert Power(0.1, highest=0.1)(answers().log()).isfinite().all()  # bounds bind what is learned only


def test_the_hardest_answer_is_a_pseudo_label():
    p = certain([0.2, 0.5, 0.3], [0.6, 0.3, 0.1])
    assert Hardest()(p.log())[:, 0].tolist() == [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    torch.testing.assert_close(Hardest()(p.log()), Power(0.001)(p.log()))


# --------------------------------------------------------------------------- masks

P = certain([0.96, 0.02, 0.02], [0.90, 0.10, 0.00], [0.90, 0.05, 0.05], [0.50, 0.50, 0.00], [1 / 3, 1 / 3, 1 / 3])


def test_everything_counts_every_target():
    assert Everything()(P, row(0, 1, 2, 3, 4)).all()


def test_confident_asks_for_the_likeliest_answer():
    assert Confident(0.95)(P, row(0, 1, 2, 3, 4))[:, 0].tolist() == [True, False, False, False, False]
    assert Confident(0.5)(P, row(0, 1, 2, 3, 4))[:, 0].tolist() == [True, True, True, True, False]


def test_margin_asks_how_far_the_second_is():
    assert Margin(0.82)(P, row(0, 1, 2, 3, 4))[:, 0].tolist() == [True, False, True, False, False]
    assert Margin(0.0)(P, row(0, 1, 2, 3, 4)).all()


def test_low_entropy_equals_a_loop():
    wanted = []
    for p in P[:, 0].tolist():
        entropy = -sum(v * math.log(v) for v in p if v > 0)
        wanted.append(1.0 - entropy / math.log(3))
    for threshold in (0.3, 0.6, 0.8):
        found = LowEntropy(threshold)(P, row(0, 1, 2, 3, 4))[:, 0].tolist()
        assert found == [w >= threshold for w in wanted]
    assert [round(w, 2) for w in wanted] == [0.82, 0.70, 0.64, 0.37, 0.0]  # so that the thresholds part them


def test_masks_are_asked_question_by_question():
    p = torch.tensor([[[0.99, 0.01], [0.6, 0.4]]])
    for mask in (Confident(0.9), Margin(0.8), LowEntropy(0.8)):
        assert mask(p, row(0)).tolist() == [[True, False]]


def test_flexible_thresholds_of_three_batches_worked_out_by_hand():
    """Ten rows, two classes, threshold 0.8; sigma: rows whose latest sure answer was the class."""
    mask = Flexible(0.8)
    mask.prepare(10, 1, 2)
    # sigma = (0, 0), unused = 10: both thresholds are 0, and everything counts: the warm-up
    p = certain([0.9, 0.1], [0.85, 0.15], [0.6, 0.4], [0.1, 0.9])
    assert mask(p, row(0, 1, 2, 3))[:, 0].tolist() == [True, True, True, True]
    assert mask.latest[:, 0].tolist() == [0, 0, 2, 1, 2, 2, 2, 2, 2, 2]  # row 2 was not sure
    # sigma = (2, 1), unused = 7: beta = (2/7, 1/7), thresholds 0.8 * (1/6, 1/13) = (0.133, 0.062): no one is below
    p = certain([0.55, 0.45], [0.9, 0.1], [0.9, 0.1], [0.9, 0.1])
    assert mask(p, row(2, 4, 5, 6))[:, 0].tolist() == [True, True, True, True]
    # sigma = (5, 1), unused = 4: beta = (1, 1/5), thresholds (0.8, 0.8/9 = 0.089): the usual one for the learned class
    p = certain([0.79, 0.21], [0.81, 0.19], [0.45, 0.55], [0.05, 0.95])
    assert mask(p, row(7, 8, 9, 0))[:, 0].tolist() == [False, True, True, True]
    assert mask.latest[:, 0].tolist() == [1, 0, 2, 1, 0, 0, 0, 2, 0, 2]  # row 0 changed its mind


def test_the_threshold_of_a_class_half_learned_is_a_third_of_the_whole():
    """beta = 1/2: 0.9 * 0.5 / 1.5 = 0.3."""
    mask = Flexible(0.9)
    mask.prepare(6, 1, 4)
    mask.latest[:, 0] = torch.tensor([0, 0, 0, 0, 1, 1])
    p = certain([0.26, 0.29, 0.25, 0.20], [0.20, 0.31, 0.29, 0.20], [0.89, 0.11, 0, 0], [0.91, 0.09, 0, 0])
    assert mask(p, row(0, 1, 2, 3))[:, 0].tolist() == [False, True, False, True]


def test_while_most_rows_are_unseen_they_lower_every_threshold():
    """sigma = (1, 0), unused = 3: beta = 1/3 and not 1, threshold 0.9 * (1/3) / (5/3) = 0.18."""
    p = certain([0.6, 0.4])
    seen, unseen = Flexible(0.9), Flexible(0.9)
    for mask, count in ((seen, 1), (unseen, 4)):
        mask.prepare(count, 1, 2)
        mask.latest[0] = 0
    assert not seen(p, row(0)) and unseen(p, row(0))


def test_flexible_counts_each_question_by_itself():
    mask = Flexible(0.8)
    mask.prepare(2, 2, 2)
    mask.latest[:] = torch.tensor(
        [[0, 1], [0, 1]]
    )  # the first class of one question is learned, the second of the other
    p = torch.tensor([[[0.7, 0.3], [0.7, 0.3]]])
    assert mask(p, row(0)).tolist() == [[False, True]]


def test_what_flexible_remembers_survives_saving():
    mask, again = Flexible(0.8), Flexible(0.8)
    for made in (mask, again):
        made.prepare(3, 1, 2)
    mask(certain([0.9, 0.1], [0.1, 0.9]), row(0, 2))
    again.load_state_dict(mask.state_dict())
    assert again.latest[:, 0].tolist() == [0, 2, 1]


# ----------------------------------------------------------------------- distances

DISTANCES = {
    "square": (SquaredError(), lambda p, t: sum((a - b) ** 2 for a, b in zip(p, t, strict=True)) / len(p)),
    "cross_entropy": (SoftCrossEntropy(), lambda p, t: -sum(b * math.log(a) for a, b in zip(p, t, strict=True))),
}


@pytest.mark.parametrize("name", DISTANCES)
def test_a_distance_equals_a_loop(name):
    distance, loop = DISTANCES[name]
    p, t = answers(seed=1), answers(seed=2)
    ours = distance(p.log(), t)
    assert isinstance(distance, Distance) and ours.shape == (5, 2)
    for i in range(5):
        for q in range(2):
            assert float(ours[i, q]) == pytest.approx(loop(p[i, q].tolist(), t[i, q].tolist()), rel=1e-12)


def test_soft_cross_entropy_equals_that_of_torch():
    x, t = torch.randn(6, 4, generator=generator(3), dtype=torch.float64), answers(6, 1, 4)[:, 0]
    ours = SoftCrossEntropy()(x.log_softmax(1)[:, None], t[:, None])
    torch.testing.assert_close(ours[:, 0], F.cross_entropy(x, t, reduction="none"))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_divergence_equals_that_of_torch_and_so_does_its_gradient(temperature):
    rng = generator(4)
    x, y = (torch.randn(6, 4, generator=rng, dtype=torch.float64) for _ in range(2))
    x.requires_grad_()
    ours = Divergence(temperature)(x.log_softmax(1)[:, None], y.softmax(1)[:, None])[:, 0]
    soft, wanted = (x / temperature).log_softmax(1), (y / temperature).softmax(1)
    theirs = temperature**2 * F.kl_div(soft, wanted, reduction="none").sum(1)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(value.sum(), x)[0] for value in (ours, theirs)))


@pytest.mark.parametrize("distance", [SquaredError(), Divergence(1.0), Divergence(3.0)], ids=str)
def test_a_distance_from_itself_is_zero_and_from_another_is_not(distance):
    p = answers(seed=5)
    torch.testing.assert_close(distance(p.log(), p), torch.zeros(5, 2, dtype=torch.float64))
    assert (distance(p.log(), answers(seed=6)) > 1e-4).all()


@pytest.mark.parametrize("distance", [SquaredError(), SoftCrossEntropy(), Divergence(2.0)], ids=str)
def test_a_target_that_is_sure_has_a_finite_distance_and_gradient(distance):
    x = torch.tensor([[3.0, -200.0, 1.0]], requires_grad=True)
    value = distance(x.log_softmax(1)[:, None], torch.tensor([[[0.0, 1.0, 0.0]]])).sum()
    value.backward()
    assert value.isfinite() and x.grad.isfinite().all()


# -------------------------------------------------------------------------- weight


@pytest.mark.parametrize("progress", [0.0, 0.1, 0.2, 0.4, 1.0])
def test_a_ramp_rises_as_its_formula_says(progress):
    done = 1.0 if progress >= 0.4 else max(progress, 0.01) / 0.4
    assert Ramp(30.0, 0.4)(progress) == pytest.approx(30.0 * math.exp(-5.0 * (1.0 - done) ** 2))
    assert Ramp(30.0, 0.4, linear=True)(progress) == pytest.approx(30.0 * done)
    assert Ramp(2.0, 0.0)(progress) == Ramp(2.0, 0.0, linear=True)(progress) == 2.0


@pytest.mark.parametrize("length", [0.004, 0.01, 0.3, 1.0])
@pytest.mark.parametrize("linear", [True, False])
def test_a_ramp_of_any_length_rises_from_above_zero_to_its_weight_and_never_over_it(length, linear):
    values = [Ramp(3.0, length, linear)(step / 1000) for step in range(1001)]
    assert values[0] > 0.0 and values[-1] == 3.0 and max(values) <= 3.0
    assert all(a <= b for a, b in zip(values, values[1:], strict=False))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Power(0.0), r"sharpen.temperature=0.0 must be above 0"),
        (lambda: Power(3.0, learned=True), r"temperature=3.0 .* between lowest=0.1, above 0, and highest=2"),
        (lambda: Power(0.5, learned=True, lowest=-1.0), r"lowest=-1, above 0"),
        (lambda: Confident(1.1), r"mask.threshold=1.1 must lie between 0 and 1"),
        (lambda: Margin(-0.1), r"mask.threshold=-0.1"),
        (lambda: LowEntropy(2.0), r"mask.threshold=2.0"),
        (lambda: Flexible(95.0), r"mask.threshold=95.0"),
        (lambda: Divergence(0.0), r"distance.temperature=0.0 must be above 0"),
        (lambda: Ramp(1.0, 1.5), r"length=1.5 is a part of training"),
        (lambda: Ramp(-1.0), r"weight=-1.0 must not be negative"),
    ],
)
def test_what_makes_no_sense_is_refused(make, words):
    with pytest.raises(AudiorepError, match=words):
        make()
