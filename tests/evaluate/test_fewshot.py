"""Few-shot episodes: known accuracies, an episode by hand, who takes part, and what is refused."""

import numpy as np
import pytest
from hydra.utils import instantiate

from audiorep.composing import compose
from audiorep.errors import AudiorepError
from audiorep.evaluate.fewshot import cosine, draw, episode, fewshot, pools, prepare, squared_euclidean
from audiorep.evaluate.protocol import Protocol, Sides, evaluate, make_sides

SEED = Protocol(seed=3)


def corpus(classes: int = 6, each: int = 20, apart: float = 0.0, seed: int = 0) -> tuple[np.ndarray, Sides]:
    """Embeddings of `classes` classes around centres that are `apart`, half of each on either side."""
    rng = np.random.default_rng(seed)
    truth = np.tile(np.arange(classes), each)
    embedding = rng.normal(size=(len(truth), 16)) + apart * np.eye(16)[truth]
    half = np.arange(len(truth)) < len(truth) // 2
    names = [f"c{i}" for i in range(classes)]
    sides, _ = make_sides(np.flatnonzero(half), np.flatnonzero(~half), truth, np.where(half, "a", "b"), names)
    return embedding.astype(np.float32), sides


@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize("distance", [squared_euclidean, cosine])
def test_classes_far_apart_are_always_told_apart(across, distance):
    out = fewshot(*corpus(apart=200.0), SEED, episodes=20, across=across, distance=distance)
    assert set(out.scores) == {f"fewshot@5-way-{k}-shot/accuracy{end}" for k in (1, 5) for end in ("", "/low", "/high")}
    assert set(out.scores.values()) == {1.0} and not out.said


@pytest.mark.parametrize("ways", [2, 5])
def test_embeddings_that_say_nothing_are_at_chance(ways):
    for embedding in (corpus(each=200)[0], np.zeros((1200, 16), np.float32)):
        scores = fewshot(embedding, corpus(each=200)[1], SEED, ways=ways, shots=[1], episodes=300).scores
        name = f"fewshot@{ways}-way-1-shot/accuracy"
        assert scores[name] == pytest.approx(1 / ways, abs=0.03)
        assert scores[f"{name}/low"] <= scores[name] <= scores[f"{name}/high"]


def test_an_episode_by_hand():
    """Means (1, 0) and (0, 4): of the first class' queries (2, 0) and (0, 3) one is nearer to it, and (1, 3) is not."""
    x = np.array([[0, 0], [2, 0], [0, 4], [2, 0], [0, 3], [1, 3], [0, 9]], float)
    drawn = [(np.array([0, 1]), np.array([3, 4, 5])), (np.array([2]), np.array([6]))]
    np.testing.assert_allclose(squared_euclidean(x[3:], np.array([[1.0, 0.0], [0.0, 4.0]]))[0], [1, 20])
    assert episode(x, drawn, squared_euclidean) == pytest.approx((1 / 3 + 1) / 2)
    np.testing.assert_allclose(cosine(x[5:6], np.array([[1.0, 0.0], [0.0, 4.0]])), [[1 - 10**-0.5, 1 - 3 * 10**-0.5]])
    assert episode(x, drawn, cosine) == pytest.approx((1 / 3 + 1) / 2)


def test_the_score_is_the_mean_over_seeded_episodes():
    embedding, sides = corpus(apart=2.0)
    x = prepare(embedding, sides, True, True)
    support, asked = pools(sides, 5, True)
    rng, found = np.random.default_rng([3, 4, 5]), []
    for _ in range(30):
        chosen = rng.choice(6, 4, replace=False)
        found.append(episode(x, [draw(support[c], asked[c], 5, 3, rng) for c in chosen], squared_euclidean))
    scores = fewshot(embedding, sides, SEED, ways=4, shots=[5], queries=3, episodes=30).scores
    name = "fewshot@4-way-5-shot/accuracy"
    assert scores[name] == pytest.approx(np.mean(found)) and len(set(found)) > 3
    half = 1.96 * np.std(found, ddof=1) / 30**0.5
    assert (scores[f"{name}/low"], scores[f"{name}/high"]) == pytest.approx(
        (scores[name] - half, scores[name] + half), 1e-4
    )
    assert scores == fewshot(embedding, sides, SEED, ways=4, shots=[5], queries=3, episodes=30).scores
    assert scores != fewshot(embedding, sides, Protocol(seed=4), ways=4, shots=[5], queries=3, episodes=30).scores
    without = fewshot(embedding, sides, Protocol(seed=3, resamples=0), ways=4, shots=[5], queries=3, episodes=30).scores
    assert without == {name: scores[name]}


def test_more_shots_and_classes_farther_apart_are_easier():
    near, sides = corpus(apart=2.0)
    scores = fewshot(near, sides, SEED).scores
    assert scores["fewshot@5-way-1-shot/accuracy"] + 0.05 < scores["fewshot@5-way-5-shot/accuracy"]
    farther = fewshot(corpus(apart=4.0)[0], sides, SEED).scores
    assert scores["fewshot@5-way-1-shot/accuracy"] + 0.05 < farther["fewshot@5-way-1-shot/accuracy"]


def test_centring_and_length_undo_what_hides_the_classes():
    embedding, sides = corpus(apart=4.0)
    loud = embedding * np.exp(np.random.default_rng(1).normal(size=(len(embedding), 1)) * 2)
    as_it_is = fewshot(loud, sides, SEED, shots=[5], centre=False, normalise=False).scores
    cleaned = fewshot(loud, sides, SEED, shots=[5], centre=False).scores
    assert as_it_is["fewshot@5-way-5-shot/accuracy"] + 0.05 < cleaned["fewshot@5-way-5-shot/accuracy"]
    x = prepare(embedding + 7, sides, True, True)
    np.testing.assert_allclose(x, prepare(embedding, sides, True, True), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1)
    np.testing.assert_allclose(prepare(embedding, sides, True, False)[sides.train].mean(0), 0, atol=1e-6)


def test_support_and_queries_never_share_a_row():
    _, sides = corpus()
    for across in (True, False):
        support, asked = pools(sides, 5, across)
        rng = np.random.default_rng(0)
        for c in range(6):
            chosen, others = draw(support[c], asked[c], 5, 15, rng)
            assert len(set(chosen) | set(others)) == len(chosen) + len(others) and len(chosen) == 5
            assert len(others) == (10 if across else 15)
            if across:
                assert set(chosen) <= set(sides.train) and set(others) <= set(sides.test)


def test_classes_with_too_few_rows_and_rows_without_a_label_take_no_part():
    """a: 3 + 1, b: 3 + 1, c: 1 + 2, d: on the training side only, and the last row has no label."""
    truth = np.array([0, 0, 0, 1, 1, 1, 2, 3, 3, 3, 0, 1, 2, 2, -1])
    sides, _ = make_sides(np.arange(10), np.arange(10, 15), truth, np.arange(15), list("abcd"))
    assert [rows.tolist() for rows in pools(sides, 2, True)[0]] == [[0, 1, 2], [3, 4, 5]]
    assert len(pools(sides, 1, True)[0]) == 3
    both = [rows.tolist() for rows in pools(sides, 2, False)[0]]
    assert both == [[0, 1, 2, 10], [3, 4, 5, 11], [6, 12, 13], [7, 8, 9]]
    assert len(pools(sides, 3, False)[0]) == 2
    embedding = np.random.default_rng(0).normal(size=(15, 4))
    with pytest.raises(AudiorepError, match=r"5-way 2-shot .* and there are 2: lower .*ways to 2 .*across=false"):
        fewshot(embedding, sides, SEED, shots=[2])
    with pytest.raises(AudiorepError, match=r"need 5 classes with 3 labelled rows, and there are 4: lower"):
        fewshot(embedding, sides, SEED, shots=[2], across=False)
    with pytest.raises(AudiorepError, match=r"there are 0: label more rows, or lower shots$"):
        fewshot(embedding, sides, SEED, shots=[9], across=False)
    assert fewshot(embedding, sides, SEED, ways=4, shots=[2], across=False, episodes=5).scores


@pytest.mark.parametrize("key, value", [("ways", 1), ("shots", [1, 0]), ("shots", []), ("queries", 0), ("episodes", 1)])
def test_numbers_that_make_no_episode_are_refused(key, value):
    with pytest.raises(AudiorepError, match=rf"evaluation\.protocols\.fewshot\.{key}=[01]: at least [12]"):
        fewshot(*corpus(), SEED, **{key: value})


def test_rows_of_several_labels_are_left_out():
    embedding, sides = corpus()
    several, _ = make_sides(
        sides.train, sides.test, np.eye(6, dtype=np.float32)[sides.truth], sides.group, sides.classes
    )
    assert not fewshot(embedding, several, SEED).scores


def test_the_config_runs_where_it_is_asked_for_and_is_no_default():
    evaluation = compose("pretrain", ["corpus=x", "out=x"]).evaluation
    assert "fewshot" not in evaluation.protocol
    embedding, sides = corpus(apart=2.0)
    run = {"fewshot": instantiate(evaluation.protocols.fewshot)}
    scores = evaluate({"": embedding, "mel": embedding}, sides, SEED, run).scores
    assert scores == {p + n: v for n, v in fewshot(embedding, sides, SEED).scores.items() for p in ("", "mel/")}
