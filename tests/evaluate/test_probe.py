"""The linear probe is scikit-learn's pipeline; few labels are drawn class by class."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from audiorep.evaluate.probe import few_labels, linear_layer, linear_scores


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 90)
    centres = rng.normal(size=(3, 5)) * 2
    scale = np.array([1.0, 100.0, 0.01, 1.0, 1.0])
    train = (centres[truth] + rng.normal(size=(90, 5))) * scale + 7
    test = (centres[rng.integers(0, 3, 30)] + rng.normal(size=(30, 5))) * scale + 7
    return train, truth, test


def pipeline(strength: float):
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))


@pytest.mark.parametrize("strength", [0.1, 10.0])
def test_scores_equal_scikit_learns_pipeline(data, strength):
    train, truth, test = data
    expected = pipeline(strength).fit(train, truth).predict_proba(test)
    np.testing.assert_allclose(linear_scores(train, truth, test, 3, strength), expected, atol=1e-6)


def test_the_default_strength_is_that_of_the_published_baselines(data):
    train, truth, test = data
    expected = pipeline(0.1).fit(train, truth).predict_proba(test)
    np.testing.assert_allclose(linear_scores(train, truth, test, 3), expected, atol=1e-6)


def test_a_class_that_the_training_side_lacks_scores_nothing(data):
    train, truth, test = data
    scores = linear_scores(train, np.array([0, 2, 4])[truth], test, 6)
    assert scores.shape == (30, 6) and not scores[:, [1, 3, 5]].any()
    np.testing.assert_allclose(scores[:, [0, 2, 4]], linear_scores(train, truth, test, 3), atol=1e-9)


def test_a_single_class_is_certain(data):
    train, _, test = data
    scores = linear_scores(train, np.full(90, 1), test, 3)
    np.testing.assert_array_equal(scores, np.tile([0.0, 1.0, 0.0], (30, 1)))


def test_multi_label_is_one_regression_a_class_on_the_rows_that_know_it(data):
    train, truth, test = data
    hot = np.eye(3)[truth]
    hot[::4, 0] = np.nan
    hot[:, 2] = np.nan
    scores = linear_scores(train, hot, test, 3)
    known = ~np.isnan(hot[:, 0])
    scaler = StandardScaler().fit(train)  # the unlabelled rows help to standardise
    model = LogisticRegression(C=0.1, max_iter=1000).fit(scaler.transform(train[known]), hot[known, 0])
    np.testing.assert_allclose(scores[:, 0], model.predict_proba(scaler.transform(test))[:, 1], atol=1e-6)
    assert not scores[:, 2].any()


def test_one_label_of_each_class_is_enough_to_fit(data):
    train, truth, test = data
    rows = few_labels(truth, 1, seed=0)
    assert len(rows) == 3
    np.testing.assert_array_equal(linear_scores(train[rows], truth[rows], train[rows], 3).argmax(1), truth[rows])
    np.testing.assert_allclose(linear_scores(train[rows], truth[rows], test, 3).sum(1), 1.0, atol=1e-6)


def test_few_labels_are_drawn_from_each_class_and_a_small_class_gives_all_it_has():
    truth = np.array([0] * 50 + [1] * 3 + [2] * 10)
    rows = few_labels(truth, 5, seed=0)
    assert np.bincount(truth[rows]).tolist() == [5, 3, 5]
    assert len(set(rows)) == 13 and sorted(rows) == rows.tolist()


def test_draws_of_few_labels_depend_on_the_seed_alone_and_reach_all_rows():
    truth = np.arange(40) % 2
    np.testing.assert_array_equal(few_labels(truth, 3, 1), few_labels(truth, 3, 1))
    drawn = [tuple(few_labels(truth, 3, seed)) for seed in range(80)]
    assert len(set(drawn)) > 70 and set(np.concatenate(drawn)) == set(range(40))


@pytest.mark.parametrize("classes", [2, 3])
def test_the_probe_as_one_linear_layer_says_the_same(classes):
    rng = np.random.default_rng(0)
    truth = np.arange(40) % classes
    x = rng.standard_normal((40, 6)) * 3 + 5 + truth[:, None]
    wanted = linear_scores(x, truth, x, classes + 1)
    weight, bias = linear_layer(x, truth, classes + 1)
    assert softmax(x @ weight.T + bias, 1) == pytest.approx(wanted, abs=1e-9)
    assert not wanted[:, classes].any()
