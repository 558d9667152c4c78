"""Protocols: which rows and classes take part, and the flat names of metrics.json."""

import functools

import numpy as np
import pytest
import torch

from audiorep.errors import AudiorepError
from audiorep.evaluate.health import embedding_std, rankme
from audiorep.evaluate.knn import knn_scores
from audiorep.evaluate.metrics import Predictions, balanced_accuracy
from audiorep.evaluate.probe import few_labels, linear_scores
from audiorep.evaluate.protocol import (
    Protocol,
    Sides,
    attentive,
    evaluate,
    health,
    knn,
    linear,
    make_sides,
    prototypical,
)
from audiorep.evaluate.token_probes import Fitting
from audiorep.evaluate.tokens import Tokens

SCORES = ("accuracy", "balanced_accuracy", "macro_f1", "cmap", "auroc")
ALL = {"knn": knn, "linear": linear, "health": health}
FAST = Protocol(resamples=20, draws=2)


def sides(multilabel: bool = False) -> tuple[Sides, np.ndarray]:
    """Three classes in five dimensions, 60 rows of 6 groups, the last two groups are the test side."""
    rng = np.random.default_rng(0)
    truth, group = rng.integers(0, 3, 60), np.repeat([f"g{i}" for i in range(6)], 10)
    embedding = (rng.normal(size=(60, 5)) + np.eye(5)[truth] * 2).astype(np.float32)
    labels = np.eye(3, dtype=np.float32)[truth] if multilabel else truth
    made, notes = make_sides(np.arange(40), np.arange(40, 60), labels, group, ["a", "b", "c"])
    assert not notes
    return made, embedding


def test_metrics_have_the_flat_names_of_the_design():
    made, embedding = sides()
    scores = evaluate({"": embedding, "mel": embedding[:, :2], "random": embedding * 0 + 1}, made, FAST, ALL).scores
    names = {f"{p}/{s}{end}" for p in ("knn", "linear", "linear@1", "linear@5") for s in SCORES
             for end in ("", "/low", "/high")} | {"rankme", "embedding_std"}  # fmt: skip
    assert set(scores) == {prefix + name for prefix in ("", "mel/", "random/") for name in names}
    assert all(isinstance(value, float) and np.isfinite(value) for value in scores.values())
    for name in names:
        if name.endswith("/low"):
            assert scores[name] <= scores[name.removesuffix("/low")] + 1e-12 <= scores[name[:-3] + "high"] + 1e-9
    assert scores["knn/accuracy"] > scores["random/knn/accuracy"]
    assert scores["random/embedding_std"] == pytest.approx(0, abs=1e-6)


def test_only_the_protocols_chosen_are_run():
    made, embedding = sides()
    assert set(evaluate({"": embedding}, made, FAST, {"health": health}).scores) == {"rankme", "embedding_std"}
    no_intervals = Protocol(resamples=0, labels_per_class=["all"])
    out = evaluate({"": embedding}, made, no_intervals, {"linear": linear})
    assert set(out.scores) == {f"linear/{score}" for score in SCORES}


def test_knn_and_linear_score_the_test_side_by_the_training_side():
    made, embedding = sides()
    train, test, truth = embedding[:40], embedding[40:], made.truth
    for name, scores in [
        ("knn", knn_scores(train, truth[:40], test, 3, 20)),
        ("linear", linear_scores(train, truth[:40], test, 3)),
    ]:
        expected = balanced_accuracy(Predictions(truth[40:], scores, made.group[40:]), np.ones((1, 20)))[0]
        out = ALL[name](embedding, made, FAST)
        assert out.scores[f"{name}/balanced_accuracy"] == pytest.approx(expected)
        np.testing.assert_allclose(out.said[name], scores)


def test_few_labels_are_a_mean_over_draws():
    made, embedding = sides()
    out = linear(embedding, made, Protocol(labels_per_class=[2], draws=3, resamples=0, seed=5))
    single, said = [], out.said["linear@2"]
    assert said.shape == (3, 20, 3)
    for draw, seed in enumerate((5, 6, 7)):
        rows = few_labels(made.truth[:40], 2, seed)
        scores = linear_scores(embedding[rows], made.truth[rows], embedding[40:], 3)
        single.append((scores.argmax(1) == made.truth[40:]).mean())
        np.testing.assert_allclose(said[draw], scores)
    assert len(set(single)) > 1
    assert out.scores["linear@2/accuracy"] == pytest.approx(np.mean(single))


def test_health_is_that_of_the_test_side():
    made, embedding = sides()
    z = torch.from_numpy(embedding[40:])
    expected = {"rankme": rankme(z), "embedding_std": embedding_std(z)}
    assert health(embedding, made, FAST).scores == pytest.approx(expected)
    embedding[:40] = 1e3
    assert health(embedding, made, FAST).scores == pytest.approx(expected)


def test_multi_label_corpora_get_the_scores_that_make_sense_for_them():
    made, embedding = sides(multilabel=True)
    assert made.multilabel
    scores = evaluate({"": embedding}, made, FAST, ALL).scores
    names = {f"{p}/{s}{end}" for p in ("knn", "linear") for s in ("cmap", "auroc") for end in ("", "/low", "/high")}
    assert set(scores) == names | {"rankme", "embedding_std"}
    assert scores["linear/cmap"] > 0.6


@pytest.mark.parametrize("protocol, name", [(attentive, "attentive"), (prototypical, "prototypical")])
@pytest.mark.parametrize("multilabel", [False, True])
def test_probes_of_tokens_have_the_names_and_draws_of_the_others(protocol, name, multilabel):
    made, embedding = sides(multilabel)
    tokens = Tokens(embedding[:, None].astype(np.float16), np.arange(61))
    run = functools.partial(protocol, fitting=Fitting(steps=40, lr=0.03), labels_per_class=[5, "all"])
    out = evaluate({"": tokens, "random": tokens}, made, FAST, {name: run})
    scores = ("cmap", "auroc") if multilabel else SCORES
    budgets = (name,) if multilabel else (name, f"{name}@5")
    assert set(out.scores) == {
        f"{prefix}{p}/{s}{end}"
        for prefix in ("", "random/")
        for p in budgets
        for s in scores
        for end in ("", "/low", "/high")
    }
    assert set(out.said) == {prefix + p for prefix in ("", "random/") for p in budgets}
    assert out.said[name].shape == (20, 3) and out.scores[f"{name}/cmap"] > 0.6
    if not multilabel:
        assert out.said[f"{name}@5"].shape == (2, 20, 3)
        assert (out.said[f"{name}@5"][0] != out.said[f"{name}@5"][1]).any()


@pytest.fixture
def split():
    return functools.partial(make_sides, group=np.array(list("ttttttssss")), classes=["a", "b", "hapax", "late", "old"])


def test_classes_that_one_side_lacks_are_left_out_and_named(split):
    truth = np.array([0, 1, 0, 4, 4, 2, 0, 1, 3, 3])
    made, notes = split(np.arange(6), np.arange(6, 10), truth)
    assert list(made.classes) == ["a", "b"]
    assert made.train.tolist() == [0, 1, 2] and made.test.tolist() == [6, 7]
    assert made.truth[made.train].tolist() == [0, 1, 0] and made.truth[made.test].tolist() == [0, 1]
    assert len(notes) == 3
    for name, reason in [("hapax", "single example"), ("late", "training side"), ("old", "test side")]:
        assert any(f"'{name}'" in note and reason in note for note in notes)


def test_class_numbers_are_closed_up_where_a_class_is_left_out():
    truth = np.array([0, 1, 2, 2, 1, 2])
    made, _ = make_sides(np.arange(3), np.arange(3, 6), truth, np.arange(6), ["gone", "b", "c"])
    assert list(made.classes) == ["b", "c"] and made.truth.tolist() == [-1, 0, 1, 1, 0, 1]
    assert truth.tolist() == [0, 1, 2, 2, 1, 2]


def test_unlabelled_rows_take_no_part(split):
    truth = np.array([0, -1, 1, 0, -1, 1, -1, 0, 1, -1])
    made, notes = split(np.arange(6), np.arange(6, 10), truth)
    assert made.train.tolist() == [0, 2, 3, 5] and made.test.tolist() == [7, 8] and not notes


def test_too_few_classes_on_both_sides_are_an_error(split):
    for truth, count in [([0] * 10, 1), ([0] * 6 + [1] * 4, 0), ([-1] * 10, 0)]:
        with pytest.raises(AudiorepError, match=rf"{count} class\(es\) can be evaluated: at least 2 with"):
            split(np.arange(6), np.arange(6, 10), np.array(truth))


def test_multi_label_classes_that_one_side_lacks_are_left_out_and_named():
    nan = np.nan
    truth = np.array([[1, 1, nan], [0, nan, 1], [nan] * 3, [1, 0, 0], [0, 0, nan], [nan, 0, nan]], np.float32)
    made, notes = make_sides(np.arange(3), np.arange(3, 6), truth, np.arange(6), ["a", "b", "c"])
    assert list(made.classes) == ["a"] and made.train.tolist() == [0, 1] and made.test.tolist() == [3, 4]
    np.testing.assert_array_equal(made.truth[:, 0], truth[:, 0])
    assert len(notes) == 2 and "'b'" in notes[0] and "'c'" in notes[1]
    with pytest.raises(AudiorepError, match=r"0 class\(es\)"):
        make_sides(np.arange(3), np.arange(2, 3), truth, np.arange(6), ["a", "b", "c"])


def test_multi_label_classes_that_are_never_known_to_be_absent_are_left_out_and_named():
    nan = np.nan
    truth = np.array([[1, 1, 1], [0, nan, 0], [1, 1, 0], [0, 0, nan]], np.float32)
    made, notes = make_sides(np.arange(2), np.arange(2, 4), truth, np.arange(4), ["a", "b", "c"])
    assert list(made.classes) == ["a"] and len(notes) == 2 and "'b'" in notes[0] and "labels.complete=true" in notes[0]
    with pytest.raises(AudiorepError, match=r"0 class\(es\) can be evaluated.*labels\.complete=true"):
        make_sides(np.arange(2), np.arange(2, 4), np.where(truth == 0, nan, truth), np.arange(4), ["a", "b", "c"])
