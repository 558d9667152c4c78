"""What labels cost equals a written-out float64 loop, and PyTorch wherever that has the same definition."""

import math

import pytest
import torch
from torch.nn import functional as F

from audiorep.errors import AudiorepError
from audiorep.losses.answers import Effective, LabelLoss, inverse, log_answers, truth_of
from audiorep.types import generator

NAN = math.nan
COUNTS = torch.tensor([[50.0, 8.0, 2.0, 0.0]])
"""Of one question with four answers, the last of which never occurs."""
SEVERAL = torch.tensor([[90.0, 10.0], [30.0, 70.0], [50.0, 50.0]])
"""Of three questions: how often absent, how often present."""
LABEL = torch.tensor([0, -1, 3, 2, -1, 1, 1])
PRESENT = torch.tensor([[1, 0, NAN], [NAN, NAN, NAN], [0, 1, 1], [1, 1, NAN]], dtype=torch.float64)


def logits(rows: int, width: int, seed: int = 0) -> torch.Tensor:
    return (3.0 * torch.randn(rows, width, generator=generator(seed), dtype=torch.float64)).requires_grad_()


def fitted(counts: torch.Tensor, **parts) -> LabelLoss:
    loss = LabelLoss(**parts).double()
    loss.fit(counts.double())
    return loss


# ------------------------------------------------------------- questions and answers


def test_one_label_is_one_question_and_several_are_as_many_with_two_answers():
    x = logits(5, 3).detach()
    one, several = log_answers(x, False), log_answers(x, True)
    assert one.shape == (5, 1, 3) and several.shape == (5, 3, 2)
    for i in range(5):
        total = sum(math.exp(v) for v in x[i].tolist())
        for c in range(3):
            assert float(one[i, 0, c].exp()) == pytest.approx(math.exp(x[i, c]) / total, rel=1e-12)
            assert float(several[i, c, 1].exp()) == pytest.approx(1.0 / (1.0 + math.exp(-x[i, c])), rel=1e-12)
            assert float(several[i, c].exp().sum()) == pytest.approx(1.0, rel=1e-12)


def test_answers_are_in_full_precision_whatever_the_logits_are_in():
    assert log_answers(torch.randn(2, 3).bfloat16(), False).dtype == torch.float32


def test_answers_that_are_sure_have_finite_logarithms():
    for several in (False, True):
        assert log_answers(torch.tensor([[500.0, -500.0]]), several).isfinite().all()


def test_labels_are_certain_answers_and_say_what_is_known():
    target, known = truth_of(LABEL, 4)
    assert known[:, 0].tolist() == [True, False, True, True, False, True, True]
    assert [target[i, 0].argmax().item() for i in known[:, 0].nonzero()[:, 0]] == [0, 3, 2, 1, 1]
    assert torch.equal(target.sum(2), torch.ones(7, 1))
    target, known = truth_of(PRESENT, 3)
    assert known.tolist() == [[True, True, False], [False] * 3, [True] * 3, [True, True, False]]
    assert target[0, :2].tolist() == [[0.0, 1.0], [1.0, 0.0]] and target.isfinite().all()


# ------------------------------------------------------------------------- the loss


def loss_loop(x, target, known, weight, prior, focus=0.0, adjust=0.0, smoothing=0.0):
    """On [b][q][k] of logits of answers; `weight` and `prior` [q][k]."""
    total = norm = 0.0
    for i in range(len(x)):
        for q in range(x.shape[1]):
            if not known[i, q]:
                continue
            moved = [x[i, q, k] + adjust * math.log(prior[q][k]) for k in range(x.shape[2])]
            bottom = torch.logsumexp(torch.stack(moved), 0)
            for k in range(x.shape[2]):
                truth = (1.0 - smoothing) * target[i, q, k] + smoothing / x.shape[2]
                log_p = moved[k] - bottom
                total = total - weight[q][k] * truth * (1.0 - log_p.exp()) ** focus * log_p
                norm += weight[q][k] * float(target[i, q, k])
    return total / norm


def weights_of(counts, scheme):
    out = []
    for row in counts.tolist():
        raw = [
            {"even": 1.0, "inverse": 1 / max(1, n), "effective": 0.01 / (1 - 0.99 ** max(1, n))}[scheme] for n in row
        ]
        out.append([w * len(raw) / sum(raw) for w in raw])
    return out


def priors_of(counts):
    raised = [[max(1.0, n) for n in row] for row in counts.tolist()]
    return [[n / sum(row) for n in row] for row in raised]


SCHEMES = {"even": None, "inverse": inverse, "effective": Effective(0.99)}
PARTS = [
    {}, {"focus": 2.0}, {"focus": 0.5}, {"adjust": 1.0}, {"smoothing": 0.1},
    {"focus": 1.5, "adjust": 0.5, "smoothing": 0.2},
]  # fmt: skip


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("parts", PARTS, ids=str)
@pytest.mark.parametrize("several", [False, True])
def test_value_and_gradient_equal_a_float64_loop(scheme, parts, several):
    counts, label = (SEVERAL, PRESENT) if several else (COUNTS, LABEL)
    x = logits(len(label), 3 if several else 4, seed=1)
    target, known = truth_of(label, x.shape[1])
    target = target.double()
    loss = fitted(counts, weighting=SCHEMES[scheme], **parts)
    ours = loss(log_answers(x, several), target, known)
    answers = torch.stack([torch.zeros_like(x), x], 2) if several else x[:, None]
    theirs = loss_loop(answers, target, known, weights_of(counts, scheme), priors_of(counts), **parts)
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-10)
    torch.testing.assert_close(*(torch.autograd.grad(value, x)[0] for value in (ours, theirs)))


def test_mixed_targets_count_by_their_parts():
    x, target = logits(2, 4), torch.tensor([[[0.7, 0.3, 0, 0]], [[0, 0, 1.0, 0]]], dtype=torch.float64)
    known = torch.ones(2, 1, dtype=torch.bool)
    loss = fitted(COUNTS, weighting=inverse)
    wanted = loss_loop(x[:, None], target, known, weights_of(COUNTS, "inverse"), priors_of(COUNTS))
    assert float(loss(log_answers(x, False), target, known).detach()) == pytest.approx(
        float(wanted.detach()), rel=1e-10
    )


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_one_label_equals_the_weighted_and_smoothed_cross_entropy_of_torch(scheme, smoothing):
    x = logits(7, 4, seed=2)
    target, known = truth_of(LABEL, 4)
    loss = fitted(COUNTS, weighting=SCHEMES[scheme], smoothing=smoothing)
    weight = torch.tensor(weights_of(COUNTS, scheme)[0], dtype=torch.float64)
    wanted = F.cross_entropy(x, LABEL, weight=weight, ignore_index=-1, label_smoothing=smoothing)
    ours = loss(log_answers(x, False), target.double(), known)
    torch.testing.assert_close(ours, wanted)
    torch.testing.assert_close(*(torch.autograd.grad(value, x)[0] for value in (ours, wanted)))


def test_several_labels_equal_the_binary_cross_entropy_of_torch_over_what_is_known():
    x = logits(4, 3, seed=3)
    target, known = truth_of(PRESENT, 3)
    wanted = F.binary_cross_entropy_with_logits(x[known], PRESENT[known])
    torch.testing.assert_close(fitted(SEVERAL)(log_answers(x, True), target, known), wanted)


def test_adjusted_by_one_it_is_cross_entropy_of_the_logits_plus_the_logarithm_of_the_prior():
    x = logits(7, 4, seed=4)
    target, known = truth_of(LABEL, 4)
    prior = torch.tensor([50.0, 8.0, 2.0, 1.0], dtype=torch.float64) / 61.0  # what never occurs counts as once
    ours = fitted(COUNTS, adjust=1.0)(log_answers(x, False), target.double(), known)
    torch.testing.assert_close(ours, F.cross_entropy(x + prior.log(), LABEL, ignore_index=-1))
    present = fitted(SEVERAL, adjust=1.0)(log_answers(x[:4, :3], True), *truth_of(PRESENT, 3))
    odds = torch.tensor([10 / 90, 70 / 30, 1.0], dtype=torch.float64).log()
    known = ~PRESENT.isnan()
    torch.testing.assert_close(present, F.binary_cross_entropy_with_logits((x[:4, :3] + odds)[known], PRESENT[known]))


def test_the_focal_loss_of_a_hand_worked_case():
    log_p = torch.tensor([[[0.9, 0.1]], [[0.4, 0.6]]], dtype=torch.float64).log()
    target, known = truth_of(torch.tensor([0, 0]), 2)
    ours = fitted(torch.tensor([[1.0, 1.0]]), focus=2.0)(log_p, target, known)
    assert float(ours) == pytest.approx((0.1**2 * -math.log(0.9) + 0.6**2 * -math.log(0.4)) / 2, rel=1e-12)


@pytest.mark.parametrize("focus", [0.0, 0.5, 1.0, 2.0])
def test_a_window_that_is_surely_right_has_a_finite_gradient(focus):
    x = torch.tensor([[40.0, -40.0], [0.3, 1.0]], requires_grad=True)
    target, known = truth_of(torch.tensor([0, 0]), 2)
    loss = LabelLoss(focus=focus)(log_answers(x, False), target, known)
    loss.backward()
    assert x.grad.isfinite().all() and bool(x.grad[1].any()) and float(x.grad[0].abs().max()) < 1e-10


@pytest.mark.parametrize("parts", PARTS, ids=str)
def test_where_nothing_is_known_the_loss_and_its_gradient_are_zero(parts):
    x = logits(2, 3)
    for label, several, counts in (
        (torch.tensor([-1, -1]), False, COUNTS[:, :3]),
        (torch.full((2, 3), NAN), True, SEVERAL),
    ):
        loss = fitted(counts, weighting=inverse, **parts)(log_answers(x, several), *truth_of(label, 3))
        assert float(loss.detach()) == 0.0
        assert torch.equal(torch.autograd.grad(loss, x)[0], torch.zeros(2, 3))


def test_what_is_not_known_does_not_move_the_loss():
    x, loss = logits(7, 4), fitted(COUNTS, weighting=inverse, focus=1.0)
    target, known = truth_of(LABEL, 4)
    before = loss(log_answers(x, False), target.double(), known)
    (slope,) = torch.autograd.grad(before, x)
    assert not slope[LABEL < 0].any() and slope[LABEL >= 0].any(1).all()
    changed = torch.where(LABEL[:, None] < 0, 9.0, x)
    torch.testing.assert_close(loss(log_answers(changed, False), target.double(), known), before, rtol=0, atol=0)


# --------------------------------------------------------------------- rare answers


def test_weights_have_a_mean_of_one_and_make_answers_count_alike_in_all():
    counts = torch.tensor([[60.0, 30.0, 10.0]])
    weight = fitted(counts, weighting=inverse).weight
    assert float(weight.mean()) == pytest.approx(1.0)
    torch.testing.assert_close(weight * counts, (weight * counts)[:, :1].expand(1, 3))
    several = fitted(SEVERAL, weighting=inverse).weight
    torch.testing.assert_close(several.mean(1), torch.ones(3, dtype=torch.float64))
    assert fitted(counts).weight.tolist() == [[1.0, 1.0, 1.0]]


def test_the_effective_number_lies_between_no_weights_and_the_inverse():
    counts = torch.tensor([[60.0, 30.0, 10.0]], dtype=torch.float64)
    torch.testing.assert_close(Effective(0.0)(counts), torch.ones(1, 3, dtype=torch.float64))
    near = Effective(1.0 - 1e-9)(counts)
    torch.testing.assert_close(near / near.sum(), inverse(counts) / inverse(counts).sum(), rtol=1e-6, atol=0)
    assert float(Effective(0.9)(torch.tensor([[2.0]]))) == pytest.approx(1.0 / 1.9)  # E_2 = 1 + beta
    between = Effective(0.99)(counts)[0]
    assert 1.0 < float(between[2] / between[0]) < 6.0


def test_weights_and_priors_are_saved_with_the_model():
    whole, again = (
        fitted(COUNTS, weighting=inverse, adjust=1.0),
        fitted(torch.ones(1, 4), weighting=inverse, adjust=1.0),
    )
    again.load_state_dict(whole.state_dict())
    told = log_answers(logits(7, 4).detach(), False), *truth_of(LABEL, 4)
    assert float(whole(*told)) == float(again(*told))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LabelLoss(smoothing=1.0), r"smoothing=1.0 must lie in \[0, 1\)"),
        (lambda: LabelLoss(smoothing=-0.1), r"smoothing=-0.1"),
        (lambda: LabelLoss(focus=-1.0), r"focus=-1.0 must not be negative"),
        (lambda: Effective(1.0), r"weighting.beta=1.0 must lie in \[0, 1\)"),
    ],
)
def test_what_makes_no_sense_is_refused(make, words):
    with pytest.raises(AudiorepError, match=words):
        make()
