"""The heads: equal to scikit-learn's regression, sure of what they were taught, honest about what they were not."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from audiorep.active.heads import Dropout, Linear, log_probabilities, one_hot
from audiorep.errors import AudiorepError
from audiorep.types import generator


def blobs(rows=60, width=8, classes=3, seed=0):
    rng = generator(seed)
    centre = 3.0 * torch.randn(classes, width, generator=rng)
    label = torch.arange(rows) % classes
    return torch.randn(rows, width, generator=rng) + centre[label], label


def test_one_member_is_the_logistic_regression_of_scikit_learn():
    x, label = blobs()
    p = Linear(strength=0.1)(x, one_hot(label, 3), False, generator(0))(x)
    beside = LogisticRegression(C=0.1, max_iter=1000, tol=1e-8).fit(x.numpy(), label.numpy()).predict_proba(x.numpy())
    assert p.shape == (1, 60, 3)
    np.testing.assert_allclose(p[0].exp().numpy(), beside, atol=2e-3)


def test_the_loss_is_that_of_the_docstring_by_a_written_out_loop():
    """No step from the found minimum in any of many directions is lower, of the loss summed by hand in float64."""
    x, label = blobs(20, 4)
    head = Linear(strength=0.5, iterations=500)
    predict = head(x, one_hot(label, 3), False, generator(0))
    unit = torch.cat([torch.zeros(1, 4), torch.eye(4)])
    logits = predict(unit)[0].double()
    bias = logits[0]
    weight = logits[1:] - bias  # up to a number a row, which softmax does not see
    weight = weight - weight.mean(1, keepdim=True)

    def loss(w, b):
        total = 0.0
        for row, truth in zip(x.double(), label, strict=True):
            z = [sum(float(row[d]) * float(w[d, c]) for d in range(4)) + float(b[c]) for c in range(3)]
            total += np.log(sum(np.exp(v) for v in z)) - z[truth]
        return total + float(w.square().sum()) / (2 * 0.5)

    best, rng = loss(weight, bias), np.random.default_rng(0)
    for _ in range(20):
        step = torch.from_numpy(rng.standard_normal((5, 3))) * 0.05
        assert loss(weight + step[:4], bias + step[4]) > best - 1e-4


def test_members_differ_and_know_less_far_from_what_they_were_taught():
    x, label = blobs(30)
    predict = Linear(members=8)(x, one_hot(label, 3), False, generator(1))
    between = x[label == 0].mean(0, keepdim=True) / 2 + x[label == 1].mean(0, keepdim=True) / 2
    spread = predict(torch.cat([x[label == 0], between])).exp().std(0).mean(1)
    assert predict(x).shape == (8, 30, 3) and spread[-1] > 2 * spread[:-1].mean()
    again = Linear(members=8)(x, one_hot(label, 3), False, generator(1))(x)
    other = Linear(members=8)(x, one_hot(label, 3), False, generator(2))(x)
    assert torch.equal(again, predict(x)) and not torch.equal(other, again)


def test_dropout_stays_on_and_a_pass_is_one_network_for_all_clips():
    x, label = blobs(90)
    predict = Dropout(hidden=32, passes_made=5, steps=200, lr=1e-2)(x, one_hot(label, 3), False, generator(0))
    p = predict(x)
    assert p.shape == (5, 90, 3) and (p.exp().mean(0).argmax(1) == label).float().mean() > 0.9
    assert p.exp().std(0).max() > 0.01
    torch.testing.assert_close(predict(x[7:8]), p[:, 7:8])  # alone or among others: the same


@pytest.mark.parametrize("head", [Linear(), Linear(members=3), Dropout(hidden=16, passes_made=3, steps=20)])
def test_contract_of_all_heads(head):
    x, label = blobs(12)
    state = torch.random.get_rng_state()
    answers = one_hot(label.clamp(max=1), 4)  # classes 2 and 3 have no answer
    p = head(x, answers, False, generator(0))(x)
    assert p.shape[0] == (1 if not head.passes else 3) and p.shape[1:] == (12, 4)
    assert torch.isinf(p[..., 2:]).all() and torch.allclose(p.exp().sum(-1), torch.ones(p.shape[:2]), atol=1e-5)
    several = torch.tensor([[1.0, 0.0, np.nan], [0.0, 1.0, 1.0]] * 6)
    q = head(x, several, True, generator(0))(x)
    assert torch.isinf(q[..., 2]).all() and (q[..., :2] <= 0).all()  # of the third, no absence is known
    assert torch.equal(torch.random.get_rng_state(), state)
    with pytest.raises(AudiorepError, match="answer some clips first"):
        head(x[:0], answers[:0], False, generator(0))


def test_unknown_labels_teach_nothing():
    x, label = blobs(40)
    truth = (one_hot(label, 3)).float()
    hidden = truth.clone()
    hidden[20:, 0] = np.nan
    flipped = hidden.clone()
    flipped[20:, 1] = truth[20:, 1]
    a = Linear()(x, hidden, True, generator(0))(x)
    b = Linear()(x[:20], truth[:20, :1], True, generator(0))(x)
    np.testing.assert_allclose(a[0, :, 0].exp().numpy(), b[0, :, 0].exp().numpy(), atol=5e-3)


def test_numbers_that_make_no_sense_are_refused():
    for wrong in (
        lambda: Linear(strength=0.0),
        lambda: Linear(members=0),
        lambda: Dropout(rate=1.0),
        lambda: Dropout(steps=0),
    ):
        with pytest.raises(AudiorepError):
            wrong()
    assert log_probabilities(torch.zeros(1, 2, 2), True).exp().unique().tolist() == [0.5]
