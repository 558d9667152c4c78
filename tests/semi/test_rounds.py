"""Pseudo-labels, ensembles and co-training around learners that are worked out by hand."""

import numpy as np
import pytest

from audiorep.errors import AudiorepError
from audiorep.semi.rounds import bagging, boosting, co_training, pseudo_label_rounds, resampled, surest

P = np.array([[0.95, 0.05], [0.6, 0.4], [0.08, 0.92], [0.02, 0.98], [0.5, 0.5], [0.97, 0.03]])


def nearest(x: np.ndarray, spread: float = 1.0):
    """A learner on a line: the nearer class mean is the likelier."""

    def fit(labels, draws, name):
        means = [np.average(x[labels == c], weights=np.maximum(draws[labels == c], 1e-9)) for c in (0, 1)]
        away = np.abs(x[:, None] - np.array(means)) / spread
        p = np.exp(-away)
        return p / p.sum(1, keepdims=True)

    return fit


def test_the_surest_are_above_the_threshold_and_at_most_so_many_of_a_class():
    rows = np.arange(6)
    assert surest(P, rows, 0.9).tolist() == [0, 2, 3, 5]
    assert surest(P, rows, 0.9, most_per_class=1).tolist() == [3, 5]
    assert surest(P, rows[:0], 0.9).tolist() == [] and surest(P, rows, 0.99, 2).tolist() == []


def test_rounds_label_what_is_sure_and_never_touch_what_is_given():
    x = np.array([0.0, 1.0, 0.1, 0.2, 0.9, 0.5])
    given = np.array([0, 1, -1, -1, -1, -1])
    done = list(pseudo_label_rounds(nearest(x, 0.2), given, np.arange(2, 6), rounds=2, threshold=0.9))
    assert [r.number for r in done] == [0, 1, 2]
    assert done[0].labels.tolist() == given.tolist()
    assert done[1].labels.tolist() == [0, 1, 0, 0, 1, -1]
    assert np.flatnonzero((done[1].labels >= 0) & (given < 0)).tolist() == [2, 3, 4]


@pytest.mark.parametrize("refine", [True, False])
def test_a_wrong_guess_is_taken_back_only_where_guesses_are_refined(refine):
    given = np.array([0, 1, -1])
    said = iter([[0.99, 0.01], [0.2, 0.8], [0.2, 0.8]])

    def fit(labels, draws, name):
        return np.array([[1.0, 0.0], [0.0, 1.0], next(said)])

    done = list(pseudo_label_rounds(fit, given, np.array([2]), rounds=2, threshold=0.9, refine=refine))
    assert done[1].labels[2] == 0 and done[2].labels[2] == (-1 if refine else 0)


def test_rows_that_are_no_candidates_get_no_guess():
    given = np.array([0, 1, -1, -1])
    done = list(pseudo_label_rounds(lambda *_: P[:4], given, np.array([2]), rounds=1, threshold=0.5))
    assert done[1].labels.tolist() == [0, 1, 1, -1]


def test_numbers_that_make_no_sense_are_refused():
    for wrong in ({"threshold": 1.0}, {"threshold": -0.1}, {"rounds": 0}):
        with pytest.raises(AudiorepError, match="threshold="):
            next(pseudo_label_rounds(lambda *_: P, np.array([0, 1]), np.array([0]), **wrong))


def test_a_bootstrap_sample_is_as_large_keeps_every_class_and_depends_on_the_seed():
    labels = np.array([0] * 20 + [1] + [-1] * 5)
    draws = (labels >= 0).astype(np.int64)
    for seed in range(30):
        out = resampled(labels, draws, np.random.default_rng(seed))
        assert out[20] >= 1 and out.sum() in (21, 22) and not out[21:].any()
    one, two = (resampled(labels, draws, np.random.default_rng(seed)) for seed in (0, 1))
    assert not np.array_equal(one, two)


def test_bagging_is_the_mean_of_its_members():
    seen = []

    def fit(labels, draws, name):
        seen.append(draws)
        return np.full((3, 2), len(seen) / 10)

    labels = np.array([0, 1, -1])
    p = bagging(fit, 4, seed=3)(labels, np.array([1, 1, 0]), "x")
    assert p == pytest.approx(np.full((3, 2), 0.25)) and len(seen) == 4
    again = []
    bagging(lambda labels, draws, name: again.append(draws) or P[:3], 4, seed=3)(labels, np.array([1, 1, 0]), "x")
    assert all(np.array_equal(a, b) for a, b in zip(seen, again, strict=True))


def test_boosting_weighs_members_by_their_error_as_samme_does():
    labels = np.array([0, 0, 1, 1])
    right = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    first = right.copy()
    first[0] = [0.0, 1.0]  # one of four is wrong: e = 1/4
    taken = []

    def fit(labels, draws, name):
        taken.append(draws)
        return first if len(taken) == 1 else right

    p = boosting(fit, 3)(labels, np.ones(4, np.int64), "x")
    assert len(taken) == 2  # the second makes no error, so it is the last
    a, b = np.log(0.75 / 0.25), np.log((1 - 1e-6) / 1e-6)
    assert p[0] == pytest.approx((a * first[0] + b * right[0]) / (a + b))
    drawn = []
    for seed in range(200):
        taken.clear()
        boosting(fit, 2, seed)(labels, np.ones(4, np.int64), "x")
        drawn.append(taken[1][0])
    assert np.mean(drawn) == pytest.approx(2.0, abs=0.25)  # weight 1/2 of 4 draws: what was wrong comes twice


def test_boosting_stops_at_a_learner_no_better_than_chance():
    labels = np.array([0, 1])
    wrong = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert boosting(lambda *_: wrong, 3)(labels, np.ones(2, np.int64), "x") == pytest.approx(wrong)


def test_co_training_gives_each_what_the_other_is_sure_of():
    first = np.array([[1.0, 0.0], [0.0, 1.0], [0.95, 0.05], [0.5, 0.5]])
    second = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.1, 0.9]])
    given = np.array([0, 1, -1, -1])
    done = list(
        co_training(lambda *_: first, lambda *_: second, given, np.array([2, 3]), rounds=1, per_class=1, threshold=0.8)
    )
    assert done[0].disagreement == 0.5
    assert done[1].labels[0].tolist() == [0, 1, -1, 1] and done[1].labels[1].tolist() == [0, 1, 0, -1]
    assert done[0].together == pytest.approx((first + second) / 2)


def test_two_noisy_views_disagree_at_the_start_and_their_mean_is_right_in_the_end():
    rng = np.random.default_rng(0)
    truth = np.arange(400) % 2
    views = [truth + 0.7 * rng.standard_normal(400) for _ in range(2)]
    given = np.where(np.arange(400) < 6, truth, -1)
    done = list(
        co_training(*(nearest(x, 0.3) for x in views), given, np.arange(6, 400), rounds=8, per_class=20, threshold=0.6)
    )
    assert done[0].disagreement > 0.2
    right = [float((r.together.argmax(1) == truth).mean()) for r in done]
    alone = [float((done[0].p[side].argmax(1) == truth).mean()) for side in (0, 1)]
    assert right[-1] > max(alone) + 0.02, (right, alone)
