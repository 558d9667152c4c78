"""Labels on a graph of neighbours: scikit-learn's results, the closed forms, islands without a label, certainty."""

import logging

import numpy as np
import pytest
import torch
from sklearn.semi_supervised import LabelPropagation, LabelSpreading

from audiorep.errors import AudiorepError
from audiorep.semi import propagate as module
from audiorep.semi.propagate import certainty, cosine_graph, nearest_graph, propagate


@pytest.fixture
def clouds() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """150 embeddings of three clouds that touch, their classes, and the labels of some 12 of them."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 150)
    x = rng.normal(size=(150, 8)) + 2.0 * np.eye(8)[truth]
    label = np.where(np.arange(150) % 12 == 0, truth, -1)
    assert set(label) == {-1, 0, 1, 2}
    return x, label, truth


@pytest.mark.parametrize("k", [3, 7, 20])
def test_propagation_equals_scikit_learns(clouds, k):
    x, label, _ = clouds
    theirs = LabelPropagation(kernel="knn", n_neighbors=k, max_iter=20000, tol=1e-9).fit(x, label)
    ours = propagate(x, label, 3, k, None, nearest_graph, rounds=20000, tolerance=1e-9)
    np.testing.assert_allclose(ours, theirs.label_distributions_, atol=1e-6)


@pytest.mark.parametrize("k", [3, 7, 20])
@pytest.mark.parametrize("alpha", [0.2, 0.9, 0.99])
def test_spreading_equals_scikit_learns(clouds, k, alpha):
    x, label, _ = clouds
    theirs = LabelSpreading(kernel="knn", n_neighbors=k, alpha=alpha, max_iter=20000, tol=1e-12).fit(x, label)
    ours = propagate(x, label, 3, k, alpha, nearest_graph, rounds=20000, tolerance=1e-10)
    np.testing.assert_allclose(ours, theirs.label_distributions_, atol=1e-6)


def test_spreading_on_cosines_equals_the_closed_form(clouds):
    """``(I - alpha D^-1/2 (A + A^T) D^-1/2)^-1 Y``, rows divided by their sum."""
    x, label, _ = clouds
    cosine = x @ x.T / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(x, axis=1)
    np.fill_diagonal(cosine, -2)
    a = np.zeros((150, 150))
    for i in range(150):
        for j in np.argsort(-cosine[i])[:6]:
            a[i, j] = max(0.0, cosine[i, j]) ** 3
    w = a + a.T
    np.testing.assert_allclose(cosine_graph(x, 6).toarray(), w, atol=1e-12)
    s = w / np.sqrt(np.outer(w.sum(1), w.sum(1)))
    y = np.where((label >= 0)[:, None], np.eye(3)[label], 0.0)
    z = np.linalg.solve(np.eye(150) - 0.99 * s, y)
    ours = propagate(x, label, 3, 6, 0.99, cosine_graph, rounds=20000, tolerance=1e-10)
    np.testing.assert_allclose(ours, z / z.sum(1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("alpha", [None, 0.9])
@pytest.mark.parametrize("graph", [nearest_graph, cosine_graph])
def test_shares_sum_to_one_and_name_the_clouds(clouds, alpha, graph):
    x, label, truth = clouds
    x = x + 3.0 * np.eye(8)[truth]
    shares = propagate(x.astype(np.float32), label, 4, 10, alpha, graph)
    assert shares.shape == (150, 4) and (shares >= 0).all() and not shares[:, 3].any()
    np.testing.assert_allclose(shares.sum(1), 1)
    assert (shares.argmax(1) == truth).mean() > 0.95
    if alpha is None:
        np.testing.assert_array_equal(shares[label >= 0], np.eye(4)[label[label >= 0]])


@pytest.mark.parametrize("alpha", [None, 0.9])
@pytest.mark.parametrize("graph", [nearest_graph, cosine_graph])
def test_rows_that_no_label_reaches_are_zero(alpha, graph):
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(40, 3)) * 0.1 + np.eye(3)[np.arange(40) // 20]).astype(np.float32)
    label = np.full(40, -1)
    label[:2] = [0, 1]
    shares = propagate(x, label, 2, 10, alpha, graph)
    assert not shares[20:].any() and not certainty(shares)[20:].any()
    np.testing.assert_allclose(shares[:20].sum(1), 1)


def test_a_row_stands_among_its_own_neighbours_also_where_rows_are_alike():
    x = np.repeat(np.eye(2), 4, axis=0)
    graph = nearest_graph(x, 3).toarray()
    np.testing.assert_array_equal(graph.sum(1), 3)
    np.testing.assert_array_equal(np.diag(graph), 1)
    assert not graph[:4, 4:].any() and not graph[4:, :4].any()
    assert not np.diag(cosine_graph(x, 3).toarray()).any()
    assert nearest_graph(x, 99).nnz == 64 and cosine_graph(x, 99).shape == (8, 8)


def test_neighbours_do_not_depend_on_how_many_rows_are_held_at_once(clouds, monkeypatch):
    x, _, _ = clouds
    whole = nearest_graph(x, 5).toarray()
    monkeypatch.setattr(module, "CELLS", 150 * 7)
    np.testing.assert_array_equal(nearest_graph(x, 5).toarray(), whole)


def test_certainty_is_one_for_one_class_and_none_for_all():
    shares = np.array([[1.0, 0, 0, 0], [0.25] * 4, [0.5, 0.5, 0, 0], [0.0] * 4])
    np.testing.assert_allclose(certainty(shares), [1, 0, 0.5, 0], atol=1e-12)
    np.testing.assert_allclose(certainty(np.ones((2, 1))), 1)


def test_too_few_rounds_are_said(clouds, caplog):
    x, label, _ = clouds
    with caplog.at_level(logging.WARNING):
        propagate(x, label, 3, 5, None, rounds=3)
    assert "still moves by" in caplog.text and "after 3 rounds" in caplog.text


def test_no_global_generator_is_touched(clouds):
    x, label, _ = clouds
    before = torch.random.get_rng_state()
    np.testing.assert_array_equal(propagate(x, label, 3), propagate(x, label, 3))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"label": np.full(6, -1)}, "not one row is labelled"),
        ({"label": np.arange(6)}, "a label is class 5, and there are 2 classes"),
        ({"x": np.full((6, 2), np.nan)}, "not finite"),
        ({"alpha": 1.0}, "alpha=1.0 must lie between 0 and 1"),
        ({"k": 0}, "k=0 neighbours"),
    ],
)
def test_what_cannot_spread_is_refused(change, words):
    given = {"x": np.random.default_rng(0).normal(size=(6, 2)), "label": np.array([0, 1, -1, -1, -1, -1]), "classes": 2}
    with pytest.raises(AudiorepError, match=words):
        propagate(**(given | change))
