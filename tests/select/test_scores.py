"""Scores are what their formulas say: worked out by hand, in a float64 loop, and by baal."""

import math
from functools import partial

import pytest
import torch
from pools import log_p

from audiorep.select import scores
from audiorep.select.scores import (
    ambiguous,
    bald,
    disagreement,
    entropy,
    largest,
    least_confidence,
    log_answers,
    margin,
    mean,
    ratio,
    total,
)

ALL = {
    "least_confidence": least_confidence,
    "margin": margin,
    "ratio": ratio,
    "entropy": entropy,
    "disagreement": disagreement,
    "votes": partial(disagreement, votes=True),
    "bald": bald,
}
REDUCE = {mean: lambda values: sum(values) / len(values), largest: max, total: sum}


def h(p: list[float]) -> float:
    return -sum(v * math.log(v) for v in p if v > 0.0)


def by_loop(members: list[list[float]]) -> dict[str, float]:
    """Every score of one question, of the probabilities of each member."""
    m, k = len(members), len(members[0])
    p = [sum(member[j] for member in members) / m for j in range(k)]
    second, first = sorted(p)[-2:]
    votes = [sum(member.index(max(member)) == j for member in members) / m for j in range(k)]
    return {
        "least_confidence": 1.0 - first,
        "margin": 1.0 - (first - second),
        "ratio": second / first,
        "entropy": h(p),
        "disagreement": h(p),
        "votes": h(votes),
        "bald": h(p) - sum(h(member) for member in members) / m,
    }


def logs(*members: list[list[float]]) -> torch.Tensor:
    """[m n c] of written-out probabilities."""
    return torch.tensor(members, dtype=torch.float64).log()


@pytest.mark.parametrize("name", ALL)
def test_a_score_equals_a_loop(name):
    x = log_p(30, 5, 4, dtype=torch.float64)
    p = x.exp()
    for i, found in enumerate(ALL[name](x).tolist()):
        assert found == pytest.approx(by_loop(p[:, i].tolist())[name], abs=1e-12)


@pytest.mark.parametrize("reduce", REDUCE)
@pytest.mark.parametrize("name", ALL)
def test_a_score_of_several_labels_equals_a_loop_over_yes_and_no(name, reduce):
    x = log_p(20, 5, 3, several=True, dtype=torch.float64)
    p = x.exp()
    for i, found in enumerate(ALL[name](x, several=True, reduce=reduce).tolist()):
        each = [by_loop([[1.0 - v, v] for v in p[:, i, j].tolist()])[name] for j in range(3)]
        assert found == pytest.approx(REDUCE[reduce](each), abs=1e-12)


def test_scores_are_those_computed_by_hand():
    one = logs([[0.7, 0.2, 0.1], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    expected = {
        "least_confidence": [0.3, 0.5, 0.0],
        "margin": [0.5, 1.0, 0.0],
        "ratio": [2.0 / 7.0, 1.0, 0.0],
        "entropy": [0.8018185525433373, math.log(2.0), 0.0],
        "disagreement": [0.8018185525433373, math.log(2.0), 0.0],
        "votes": [0.0, 0.0, 0.0],
        "bald": [0.0, 0.0, 0.0],
    }
    for name, values in expected.items():
        assert ALL[name](one).tolist() == pytest.approx(values, abs=1e-12), name
    # two members, sure and of two minds: log 2 of information; two that are unsure alike: none
    two = logs([[1.0, 0.0], [0.5, 0.5], [0.9, 0.1]], [[0.0, 1.0], [0.5, 0.5], [0.6, 0.4]])
    assert bald(two).tolist() == pytest.approx(
        [math.log(2.0), 0.0, h([0.75, 0.25]) - (h([0.9, 0.1]) + h([0.6, 0.4])) / 2.0], abs=1e-12
    )
    assert disagreement(two, votes=True).tolist() == pytest.approx([math.log(2.0), 0.0, 0.0], abs=1e-12)


def test_scores_equal_baals():
    from baal.active.heuristics import BALD, Certainty, Entropy, Margin

    x = log_p(50, 6, 4, dtype=torch.float64)
    p = x.exp().permute(1, 2, 0).numpy()  # baal's order: clips, classes, passes
    equal = partial(torch.testing.assert_close, rtol=1e-6, atol=1e-9)
    equal(bald(x), torch.from_numpy(BALD().compute_score(p)))
    equal(entropy(x), torch.from_numpy(Entropy().compute_score(p)))
    equal(1.0 - margin(x), torch.from_numpy(Margin().compute_score(p)))
    equal(1.0 - least_confidence(x), torch.from_numpy(Certainty().compute_score(p)).reshape(50, -1).amax(1))


def test_bald_equals_batchbald_redux():
    from batchbald_redux.batchbald import compute_conditional_entropy, compute_entropy

    x = log_p(30, 6, 4, dtype=torch.float64)
    theirs = compute_entropy(x.movedim(0, 1)) - compute_conditional_entropy(x.movedim(0, 1))
    torch.testing.assert_close(bald(x), theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1, 2), (5, 57, 4), (20, 3000, 10)])
def test_the_fast_bald_equals_its_formula(shape):
    m, n, c = shape
    for dtype, equal in ((torch.float64, 1e-12), (torch.float32, 2e-6), (torch.bfloat16, 2e-6)):
        x = (3.0 * log_p(n, m, c, dtype=torch.float64)).log_softmax(2).to(dtype)
        x[:, 0, 0] = -torch.inf
        torch.testing.assert_close(bald(x), scores.reduced_information(x), rtol=0.0, atol=equal)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("name", ALL)
def test_certainty_is_a_finite_score(name, several):
    never = torch.tensor([[[0.0, -torch.inf, -torch.inf], [-torch.inf, 0.0, -torch.inf]]])
    for x in (never, torch.cat([never, never.flip(1)]), never.bfloat16()):
        found = ALL[name](x, several)
        assert found.isfinite().all() and (found >= 0.0).all()
    assert ALL[name](never, several).tolist() == pytest.approx([0.0, 0.0], abs=1e-6)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("name", ALL)
def test_half_precision_is_widened(name, several):
    x = log_p(200, 3, 5, several=several)
    found = ALL[name](x.bfloat16(), several)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, ALL[name](x, several), atol=0.05, rtol=0.05) if name != "votes" else None


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("name", ALL)
def test_pieces_change_nothing(name, several, monkeypatch):
    x = log_p(57, 3, 4, several=several)
    whole = ALL[name](x, several)
    monkeypatch.setitem(scores.CELLS, "cpu", 100)
    torch.testing.assert_close(ALL[name](x, several), whole, rtol=1e-6, atol=1e-7)
    assert len(ALL[name](x[:, :0], several)) == 0


def test_absence_is_exact_where_presence_is_almost_sure_or_almost_none():
    for p_absent in (1e-12, 1e-6, 0.3):
        x = torch.tensor([[[math.log1p(-p_absent)]]], dtype=torch.float64)
        assert float(log_answers(x, True)[0, 0, 0, 0]) == pytest.approx(math.log(p_absent), rel=1e-4)
    x = torch.tensor([[[math.log(1e-12)]]], dtype=torch.float64)
    assert float(log_answers(x, True)[0, 0, 0, 0]) == pytest.approx(-1e-12, rel=1e-9)


def test_ambiguous_clips_are_those_that_every_pass_is_unsure_of():
    unsure, split, sure = [0.5, 0.5], ([1.0, 0.0], [0.0, 1.0]), [0.99, 0.01]
    x = logs([unsure, split[0], sure], [unsure, split[1], sure])
    assert ambiguous(x).tolist() == [True, False, False]
    assert bald(x).argmax() == 1  # where the passes disagree, the answer tells something
    assert ambiguous(x, mean_of=0.0).tolist() == [True, True, False]
    one_class = torch.tensor([[[0.5, 0.99], [0.01, 0.99]]]).log()
    assert ambiguous(one_class, several=True).tolist() == [True, False]
