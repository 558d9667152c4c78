"""Scores equal scikit-learn's, weights equal repeated rows, and the bootstrap draws groups."""

import numpy as np
import pytest
import sklearn.metrics as sk

from audiorep.evaluate.metrics import (
    SINGLE_LABEL,
    Predictions,
    accuracy,
    auroc,
    average_precision,
    balanced_accuracy,
    bounds,
    cmap,
    confusion,
    group_weights,
    macro_f1,
    macro_f1_at,
    paired_difference,
    per_class_auroc,
    per_class_average_precision,
    roc_area,
    score_with_interval,
)

N, C = 120, 5


def predictions(seed: int = 0, n: int = N, skill: float = 1.0, ties: bool = False) -> Predictions:
    rng = np.random.default_rng(seed)
    truth = rng.choice(C, n, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    score = rng.normal(size=(n, C))
    score[np.arange(n), truth] += skill
    return Predictions(truth, np.round(score) if ties else score, np.arange(n) % 8)


def multilabel(seed: int = 0, unknown: float = 0.3) -> Predictions:
    rng = np.random.default_rng(seed)
    truth = (rng.random((N, C)) < 0.3).astype(float)
    score = rng.normal(size=(N, C)) + truth
    truth[rng.random((N, C)) < unknown] = np.nan
    return Predictions(truth, score, np.arange(N) % 8)


def one(p: Predictions) -> np.ndarray:
    return np.ones((1, len(p.truth)))


def theirs(truth: np.ndarray, score: np.ndarray) -> dict[str, float]:
    """The same scores by scikit-learn, on rows that are really there."""
    predicted = score.argmax(1)
    present = np.unique(truth)
    return {
        "accuracy": sk.accuracy_score(truth, predicted),
        "balanced_accuracy": sk.recall_score(truth, predicted, labels=present, average="macro"),
        "macro_f1": sk.f1_score(truth, predicted, average="macro"),
        "cmap": float(np.mean([sk.average_precision_score(truth == c, score[:, c]) for c in present])),
        "auroc": float(np.mean([sk.roc_auc_score(truth == c, score[:, c]) for c in present])),
    }


@pytest.mark.parametrize("seed,ties", [(0, False), (1, True), (2, True)])
def test_scores_equal_scikit_learn(seed, ties):
    p = predictions(seed, ties=ties)
    expected = theirs(p.truth, p.score)
    assert expected["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(p.truth, p.predicted))
    for name, metric in SINGLE_LABEL.items():
        assert metric(p, one(p))[0] == pytest.approx(expected[name], abs=1e-12), name


@pytest.mark.parametrize("ties", [False, True])
def test_weights_are_rows_that_stand_so_many_times(ties):
    p = predictions(3, ties=ties)
    weight = np.random.default_rng(0).integers(0, 4, (6, N)).astype(float)
    weight[0, p.truth == 4] = 0  # a class that a resample lost
    for name, metric in SINGLE_LABEL.items():
        ours = metric(p, weight)
        for row, counts in enumerate(weight.astype(int)):
            expected = theirs(np.repeat(p.truth, counts), np.repeat(p.score, counts, axis=0))[name]
            assert ours[row] == pytest.approx(expected, abs=1e-12), (name, row)


@pytest.mark.parametrize("ties", [False, True])
def test_average_precision_equals_scikit_learn_with_sample_weights(ties):
    rng = np.random.default_rng(4)
    present, score = rng.random(80) < 0.2, rng.normal(size=80)
    score = np.round(score) if ties else score
    weight = rng.integers(0, 3, (5, 80)).astype(float)
    expected = [sk.average_precision_score(present, score, sample_weight=w) for w in weight]
    np.testing.assert_allclose(average_precision(present, score, weight), expected, atol=1e-12)


@pytest.mark.parametrize("share", [0.03, 0.2, 0.9])
@pytest.mark.parametrize("levels", [2, 6, 10**9])
def test_the_roc_area_equals_scikit_learn_with_sample_weights(levels, share):
    rng = np.random.default_rng(5)
    present, score = rng.random(90) < share, np.round(rng.random(90) * levels)
    present[:2] = [True, False]
    score[present] += np.round(0.2 * levels)
    weight = rng.integers(0, 3, (6, 90)).astype(float)
    weight[:, :2] = 1.0
    weight[0] = 1.0
    expected = [sk.roc_auc_score(present, score, sample_weight=w) for w in weight]
    np.testing.assert_allclose(roc_area(present, score, weight), expected, atol=1e-12)


def test_the_roc_area_counts_pairs_and_halves_ties():
    present, score = np.array([True, False, True, False]), np.array([3.0, 2.0, 2.0, 1.0])
    assert roc_area(present, score, np.ones((1, 4)))[0] == (2 + 1.5) / 4
    assert roc_area(present, np.zeros(4), np.ones((1, 4)))[0] == 0.5
    assert roc_area(~present, score, np.array([[1.0, 2, 0, 1]]))[0] == 0.0  # two below and one below the positive


def test_the_roc_area_needs_both_kinds():
    some, weight = np.array([True, False, False]), np.array([[0.0, 1, 1], [1, 0, 0], [1, 1, 0]])
    assert np.isnan(roc_area(some, np.arange(3.0), weight)).tolist() == [True, True, False]
    for every in (np.ones(3, bool), np.zeros(3, bool)):
        assert np.isnan(roc_area(every, np.arange(3.0), weight)).all()


def test_average_precision_without_a_positive_is_unknown():
    nothing = np.zeros(4, bool)
    assert np.isnan(average_precision(nothing, np.arange(4.0), np.ones((3, 4)))).all()
    some = np.array([True, False, False, False])
    assert np.isnan(average_precision(some, np.arange(4.0), np.array([[0.0, 1, 1, 1], [1, 1, 1, 1]]))).tolist() == [
        True,
        False,
    ]


def test_multi_label_scores_ignore_what_is_unknown():
    p = multilabel()
    columns = []
    for c in range(C):
        known = ~np.isnan(p.truth[:, c])
        columns.append(sk.average_precision_score(p.truth[known, c], p.score[known, c]))
    np.testing.assert_allclose(per_class_average_precision(p, one(p))[0], columns, atol=1e-12)
    assert cmap(p, one(p))[0] == pytest.approx(np.mean(columns))
    areas = [sk.roc_auc_score(p.truth[k, c], p.score[k, c]) for c in range(C) for k in [~np.isnan(p.truth[:, c])]]
    np.testing.assert_allclose(per_class_auroc(p, one(p))[0], areas, atol=1e-12)
    assert auroc(p, one(p))[0] == pytest.approx(np.mean(areas))
    names = {name + end for name in ("cmap", "auroc") for end in ("", "/low", "/high")}
    assert set(score_with_interval(p, 20)) == names
    assert set(score_with_interval(p, 20, more={"other": cmap})) - names == {"other", "other/low", "other/high"}


def test_macro_f1_at_thresholds_equals_scikit_learn_on_what_is_known():
    p, cut = multilabel(), np.linspace(-0.5, 1.0, C)
    expected = []
    for c in range(C):
        known = ~np.isnan(p.truth[:, c])
        expected.append(sk.f1_score(p.truth[known, c] == 1, p.score[known, c] >= cut[c]))
    assert macro_f1_at(p, one(p), cut)[0] == pytest.approx(np.mean(expected))
    twice = np.random.default_rng(0).integers(0, 3, N)
    again = Predictions(np.repeat(p.truth, twice, 0), np.repeat(p.score, twice, 0), np.repeat(p.group, twice))
    assert macro_f1_at(p, twice[None].astype(float), cut)[0] == pytest.approx(macro_f1_at(again, one(again), cut)[0])


def test_confusion_equals_scikit_learn():
    p = predictions(6)
    np.testing.assert_array_equal(confusion(p), sk.confusion_matrix(p.truth, p.predicted, labels=range(C)))


@pytest.mark.filterwarnings("error")
def test_where_no_resample_has_a_score_there_are_no_bounds():
    assert np.isnan(bounds(np.full(20, np.nan), np.arange(6))).all()


def test_multi_label_classes_without_a_known_positive_do_not_count():
    p = multilabel()
    p.truth[:, 1] = np.nan
    p.truth[:, 2] = 0.0
    columns = per_class_average_precision(p, one(p))[0]
    assert np.isnan(columns).tolist() == [False, True, True, False, False]
    assert cmap(p, one(p))[0] == pytest.approx(np.nanmean(columns))


def test_classes_that_never_occur_do_not_count():
    p = predictions(5)
    wider = Predictions(p.truth, np.concatenate([p.score, np.full((N, 2), -99.0)], 1), p.group)
    for name, metric in SINGLE_LABEL.items():
        assert metric(wider, one(p))[0] == pytest.approx(metric(p, one(p))[0]), name


def test_balanced_accuracy_does_not_reward_the_commonest_class():
    truth = np.array([0] * 90 + [1] * 10)
    p = Predictions(truth, np.tile([1.0, 0.0], (100, 1)), truth)
    assert accuracy(p, one(p))[0] == pytest.approx(0.9)
    assert balanced_accuracy(p, one(p))[0] == pytest.approx(0.5)
    assert macro_f1(p, one(p))[0] == pytest.approx(sk.f1_score(truth, np.zeros(100), average="macro", zero_division=0))


def test_group_weights_draw_as_many_groups_as_there_are_and_whole_ones():
    group = np.repeat(["x", "y", "z", "w"], [1, 10, 3, 6])
    weight = group_weights(group, 500, seed=0)
    assert weight.shape == (500, 20)
    first = np.array([0, 1, 11, 14])
    assert (weight[:, first].sum(1) == 4).all()
    for name in "xyzw":
        assert (np.ptp(weight[:, group == name], axis=1) == 0).all()
    np.testing.assert_allclose(weight[:, first].mean(0), 1.0, atol=0.12)
    np.testing.assert_allclose(weight[:, first].var(0), 0.75, atol=0.15)
    np.testing.assert_array_equal(weight, group_weights(group, 500, seed=0))
    assert not np.array_equal(weight, group_weights(group, 500, seed=1))


def test_a_single_group_is_resampled_by_row():
    weight = group_weights(np.zeros(30, int), 50, seed=0)
    assert (weight.sum(1) == 30).all() and np.ptp(weight, axis=1).min() > 0


def test_the_interval_by_group_is_wider_than_by_row_where_groups_differ():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(10), 40)
    right = rng.random(400) < np.where(np.arange(10) % 2, 0.95, 0.35)[group]
    truth = rng.integers(0, 2, 400)
    score = np.eye(2)[np.where(right, truth, 1 - truth)]

    def width(of: np.ndarray) -> float:
        out = score_with_interval(Predictions(truth, score, of), 400)
        assert out["accuracy/low"] < out["accuracy"] < out["accuracy/high"]
        return out["accuracy/high"] - out["accuracy/low"]

    by_group, by_row = width(group), width(np.arange(400))
    assert by_group > 2.5 * by_row
    assert by_row == pytest.approx(2 * 1.96 * np.sqrt(right.mean() * (1 - right.mean()) / 400), rel=0.2)
    assert by_group == pytest.approx(2 * 2.262 * 0.3 / np.sqrt(9), rel=0.3)  # t of nine degrees of freedom


def test_without_resamples_there_are_no_intervals():
    p = predictions()
    assert set(score_with_interval(p, resamples=0)) == set(SINGLE_LABEL)
    assert set(score_with_interval(p, 10)) == {name + end for name in SINGLE_LABEL for end in ("", "/low", "/high")}


def test_perfect_predictions_score_one_with_an_interval_of_no_width():
    p = predictions(skill=100.0)
    assert set(score_with_interval(p, 50).values()) == {1.0}


def test_a_paired_difference_has_the_sign_of_the_better_and_is_narrower_than_two_intervals():
    good, bad = predictions(0, 400, skill=2.0), predictions(0, 400, skill=1.5)
    assert (good.truth == bad.truth).all()
    difference, low, high = paired_difference([good], [bad], accuracy, 300)
    assert difference == pytest.approx(float((accuracy(good, one(good)) - accuracy(bad, one(bad)))[0]))
    assert 0 < low < difference < high
    swapped = paired_difference([bad], [good], accuracy, 300)
    np.testing.assert_allclose(swapped, (-difference, -high, -low))
    assert paired_difference([good], [good], accuracy, 50) == (0.0, 0.0, 0.0)
    a, b = score_with_interval(good, 300), score_with_interval(bad, 300)
    unpaired = np.hypot(a["accuracy/high"] - a["accuracy/low"], b["accuracy/high"] - b["accuracy/low"])
    assert high - low < unpaired


@pytest.mark.parametrize("groups", [6, 30])
def test_the_interval_of_a_difference_covers_the_truth_about_as_often_as_it_says(groups):
    covered, trials, true = 0, 150, 0.1
    for trial in range(trials):
        rng = np.random.default_rng([7, trial])
        truth, group = rng.integers(0, 2, 300), np.repeat(np.arange(groups), 300 // groups)
        chance = rng.normal(0, 0.1, groups)[group]  # a hard recording is hard for both
        gains = (true + rng.normal(0, 0.05, groups)[group], 0.0)  # and one is better by more in some recordings
        both = [[Predictions(truth, np.eye(2)[np.where(rng.random(300) < 0.6 + gain + chance, truth, 1 - truth)], group)]
                for gain in gains]  # fmt: skip
        _, low, high = paired_difference(*both, accuracy, 1000, seed=trial)
        covered += low <= true <= high
    assert 0.91 <= covered / trials <= 0.995


def test_the_same_labels_drawn_several_times_make_no_interval_narrower():
    good, bad = predictions(0, 60, skill=2.0), predictions(0, 60, skill=1.0)
    for group in (np.zeros(60, int), np.arange(60) % 6):
        once = [[Predictions(p.truth, p.score, group)] for p in (good, bad)]
        assert paired_difference(*(9 * p for p in once), accuracy) == pytest.approx(paired_difference(*once, accuracy))


def test_few_groups_widen_the_interval_as_a_t_distribution_does():
    rng = np.random.default_rng(0)
    resampled = rng.normal(0.0, np.sqrt(5 / 6) * 0.1 / np.sqrt(6), 200_000)  # means of six groups of deviation .1
    low, high = bounds(resampled, np.arange(6))
    assert (low, high) == pytest.approx((-2.571 * 0.1 / np.sqrt(6), 2.571 * 0.1 / np.sqrt(6)), rel=0.03)
    low, high = bounds(resampled, np.arange(5000))
    assert (low, high) == pytest.approx(tuple(np.quantile(resampled, [0.025, 0.975])), rel=0.01)


def test_a_class_that_is_known_present_everywhere_has_no_average_precision():
    score, weight = np.array([0.1, 0.9, 0.5]), np.ones((2, 3))
    assert np.isnan(average_precision(np.ones(3, bool), score, weight)).all()
    assert np.isnan(average_precision(np.zeros(3, bool), score, weight)).all()
