"""Nearest neighbours equal a plain loop."""

import numpy as np
import pytest

from audiorep.evaluate.knn import knn_scores


def loop(train, votes, test, k, tau):
    """By the formula: for each test row sort the cosines, weigh the k largest."""
    out = []
    for x in test:
        cosine = [float(x @ y / np.linalg.norm(x) / np.linalg.norm(y)) for y in train]
        nearest = sorted(range(len(train)), key=lambda i: -cosine[i])[:k]
        weight = {i: np.exp(cosine[i] / tau) for i in nearest}
        out.append(sum(weight[i] * votes[i] for i in nearest) / sum(weight.values()))
    return np.array(out)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(40, 6)), rng.integers(0, 4, 40), rng.normal(size=(25, 6)) * 10


@pytest.mark.parametrize("k,tau", [(1, 0.07), (5, 0.07), (20, 0.5)])
def test_scores_equal_a_plain_loop(data, k, tau):
    train, truth, test = data
    ours = knn_scores(train, truth, test, 4, k, tau)
    np.testing.assert_allclose(ours, loop(train, np.eye(4)[truth], test, k, tau), atol=2e-5)
    np.testing.assert_allclose(ours.sum(1), 1.0, atol=1e-6)


def test_more_neighbours_than_rows_are_all_rows(data):
    train, truth, test = data
    expected = loop(train, np.eye(4)[truth], test, 40, 0.07)
    np.testing.assert_allclose(knn_scores(train, truth, test, 4, k=1000), expected, atol=2e-5)
    only = knn_scores(train[:1], truth[:1], test, 4)
    assert (only.argmax(1) == truth[0]).all()


def test_multi_label_rows_vote_for_all_their_classes_and_unknown_for_none(data):
    train, _, test = data
    truth = np.random.default_rng(1).choice([0.0, 1.0, np.nan], (40, 3))
    ours = knn_scores(train, truth, test, 3, k=7)
    np.testing.assert_allclose(ours, loop(train, np.nan_to_num(truth), test, 7, 0.07), atol=2e-5)


def test_chunks_and_the_length_of_embeddings_play_no_part(data):
    train, truth, test = data
    whole = knn_scores(train, truth, test, 4)
    np.testing.assert_allclose(knn_scores(train, truth, test, 4, chunk=7), whole, atol=1e-6)
    np.testing.assert_allclose(knn_scores(train * 100, truth, test / 100, 4), whole, atol=1e-5)


def test_a_row_finds_itself(data):
    train, truth, _ = data
    assert (knn_scores(train, truth, train, 4, k=1).argmax(1) == truth).all()


def test_a_class_that_nobody_has_gets_no_vote(data):
    train, truth, test = data
    scores = knn_scores(train, truth, test, 6)
    assert scores.shape == (25, 6) and not scores[:, 4:].any()


def test_a_very_small_temperature_does_not_overflow(data):
    train, truth, test = data
    scores = knn_scores(train, truth, test, 4, tau=1e-4)
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(scores.argmax(1), knn_scores(train, truth, test, 4, k=1).argmax(1))
