"""BatchBALD equals the joint entropy of all configurations, exactly where they are few and nearly where they are drawn."""

import math
from itertools import product

import pytest
import torch
from pools import blobs, log_p, make

from audiorep.errors import AudiorepError
from audiorep.select.batch_bald import BatchBald, asked, batch_bald, gain, nothing_asked
from audiorep.select.scores import bald, log_answers
from audiorep.select.top import Top
from audiorep.types import generator


def information(p: torch.Tensor, rows: list[int]) -> float:
    """``H(y_1 ... y_t) - 1/m sum_m H(y_1 ... y_t | m)`` of [m n c], over every configuration."""
    m, _, c = p.shape
    joint = 0.0
    for configuration in product(range(c), repeat=len(rows)):
        value = (
            sum(math.prod(float(p[i, r, y]) for r, y in zip(rows, configuration, strict=True)) for i in range(m)) / m
        )
        joint -= value * math.log(value) if value > 0.0 else 0.0
    own = sum(-float((p[i, r] * p[i, r].log()).sum()) for i in range(m) for r in rows) / m
    return joint - own


def greedy(p: torch.Tensor, k: int) -> tuple[list[int], list[float]]:
    rows: list[int] = []
    values = [0.0]
    for _ in range(k):
        found = {i: information(p, [*rows, i]) for i in range(p.shape[1]) if i not in rows}
        best = max(found, key=found.__getitem__)
        rows.append(best)
        values.append(found[best])
    return rows, values


def questions(x: torch.Tensor, several: bool = False) -> torch.Tensor:
    """[m n c] to probabilities [q m n k]."""
    return log_answers(x, several).exp().permute(2, 0, 1, 3).contiguous()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("block", [1, 256])
def test_exact_batches_equal_brute_force(seed, block):
    x = log_p(12, 5, 3, seed=seed, dtype=torch.float64)
    rows, gains = batch_bald(questions(x), 4, 1000, generator(0), block)
    expected, values = greedy(x.exp(), 4)
    assert rows == expected
    assert torch.tensor(gains, dtype=torch.float64).cumsum(0).tolist() == pytest.approx(values[1:], abs=1e-6)


def test_sampled_configurations_come_near():
    x = log_p(12, 5, 3, seed=1, dtype=torch.float64)
    p, chosen = questions(x), [0, 3, 5, 7]
    exact, drawn = nothing_asked(p), []
    for row in chosen:
        exact = asked(exact, p[:, :, row], 10**6, generator(0))
    for seed in range(20):
        rng, known = generator(seed), nothing_asked(p)
        for row in chosen:
            known = asked(known, p[:, :, row], 40, rng)
        assert known.probability.shape == (1, 40)
        drawn.append(gain(known, p))
    assert exact.probability.shape == (1, 81)
    assert float(exact.probability.sum()) == pytest.approx(1.0)
    mean = torch.stack(drawn).mean(0)
    torch.testing.assert_close(mean, gain(exact, p), rtol=0.05, atol=2e-3)
    rows, gains = batch_bald(p, 5, 30, generator(0))
    best = greedy(x.exp(), 5)[1][-1]
    assert information(x.exp(), rows) > 0.98 * best
    assert sum(gains) == pytest.approx(information(x.exp(), rows), rel=0.1)


def test_the_same_as_batchbald_redux():
    from batchbald_redux.batchbald import get_batchbald_batch

    x = log_p(15, 6, 3, seed=2, dtype=torch.float64)
    theirs = get_batchbald_batch(x.movedim(0, 1), 2, 1000, dtype=torch.double)
    rows, gains = batch_bald(questions(x), 2, 1000, generator(0))
    assert rows == list(theirs.indices)
    assert torch.tensor(gains, dtype=torch.float64).cumsum(0).tolist() == pytest.approx(list(theirs.scores), abs=1e-9)


def test_the_first_clip_is_that_of_bald():
    pool = make(n=60, m=6)
    chosen = BatchBald().select(pool, 3, generator(0))
    assert int(chosen.rows[0]) == int(bald(pool.log_p).argmax())
    assert float(chosen.score[0]) == pytest.approx(float(bald(pool.log_p).max()), rel=1e-4)
    assert (chosen.score[1:] <= chosen.score[:-1]).all()


def test_several_labels_are_questions_of_their_own():
    x = log_p(10, 5, 2, several=True, dtype=torch.float64)
    rows, gains = batch_bald(questions(x, several=True), 3, 1000, generator(0))
    yes_no = [torch.stack([1.0 - x[:, :, j].exp(), x[:, :, j].exp()], 2) for j in range(2)]
    told = [sum(information(p, rows[:t]) for p in yes_no) / 2.0 for t in (1, 2, 3)]
    assert torch.tensor(gains, dtype=torch.float64).cumsum(0).tolist() == pytest.approx(told, abs=1e-6)
    others = [sum(information(p, [rows[0], i]) for p in yes_no) / 2.0 for i in range(10) if i != rows[0]]
    assert told[1] == pytest.approx(max(others), abs=1e-6)


def test_more_different_clips_than_the_highest_bald():
    kinds, copies = 10, 8
    sure = (4.0 * log_p(kinds, 20, 3, seed=4)).log_softmax(2)  # each pass is sure, and they disagree
    pool = make(embedding=blobs(kinds * copies), log_p=sure.repeat_interleave(copies, 1))
    different = lambda selector: len((selector.select(pool, 6, generator(0)).rows // copies).unique())  # noqa: E731
    assert different(Top(bald, passes=True)) == 1
    assert different(BatchBald()) >= 5
    assert different(BatchBald(configurations=50)) >= 5


def test_candidates_are_those_of_the_highest_bald():
    pool = make(n=60, m=6)
    rows = BatchBald(candidates=10).select(pool, 5, generator(0)).rows
    assert set(rows.tolist()) <= set(bald(pool.log_p).topk(10).indices.tolist())
    assert len(BatchBald(candidates=10).select(pool, 20, generator(0)).rows.unique()) == 20
    with pytest.raises(AudiorepError, match="configurations=0"):
        BatchBald(configurations=0)
