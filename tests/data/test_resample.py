"""Resamplers of embeddings: what imbalanced-learn does when called directly, the same again, or one clear line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.utils import instantiate
from imblearn.over_sampling import SMOTE, RandomOverSampler
from imblearn.under_sampling import (
    CondensedNearestNeighbour,
    EditedNearestNeighbours,
    RandomUnderSampler,
    TomekLinks,
)
from omegaconf import OmegaConf

from audiorep.data.resample import Resampled, Resampler, multiplicity
from audiorep.errors import AudiorepError

SELECT = {
    "random_under": lambda seed: RandomUnderSampler(random_state=seed),
    "random_over": lambda seed: RandomOverSampler(random_state=seed),
    "condensed": lambda seed: CondensedNearestNeighbour(random_state=seed),
    "edited": lambda seed: EditedNearestNeighbours(),
    "tomek": lambda seed: TomekLinks(),
}


def made(name: str) -> Any:
    return instantiate(OmegaConf.load(f"configs/resampler/{name}.yaml"))


@pytest.fixture
def long_tailed() -> tuple[np.ndarray, np.ndarray]:
    """60, 20 and 6 embeddings of three classes that touch each other, in no order."""
    rng = np.random.default_rng(0)
    y = rng.permutation(np.repeat([0, 1, 2], [60, 20, 6]))
    return (rng.normal(size=(86, 4)) + 1.2 * y[:, None]).astype(np.float32), y


def test_there_is_a_config_for_each_and_one_for_none():
    assert {path.stem for path in Path("configs/resampler").glob("*.yaml")} == {*SELECT, "smote", "none"}


@pytest.mark.parametrize("name", SELECT)
def test_those_that_select_agree_with_imbalanced_learn_and_give_rows(name, long_tailed):
    x, y = long_tailed
    wanted_x, wanted_y = SELECT[name](3).fit_resample(x, y)
    out = made(name)(x, y, 3)
    np.testing.assert_array_equal(out.x, wanted_x)
    np.testing.assert_array_equal(out.y, wanted_y)
    np.testing.assert_array_equal(out.x, x[out.rows])
    np.testing.assert_array_equal(out.y, y[out.rows])
    assert out.x.dtype == np.float32 and 0 < len(out.y) != len(y)


def test_smote_agrees_with_imbalanced_learn_and_gives_no_rows(long_tailed):
    x, y = long_tailed
    wanted_x, wanted_y = SMOTE(random_state=3).fit_resample(x, y)
    out = made("smote")(x, y, 3)
    np.testing.assert_allclose(out.x, wanted_x, rtol=1e-6)
    np.testing.assert_array_equal(out.y, wanted_y)
    assert out.rows is None and out.x.dtype == np.float32 and np.bincount(out.y).tolist() == [60, 60, 60]


@pytest.mark.parametrize("name", [*SELECT, "smote", "none"])
def test_a_seed_gives_the_same_again_and_leaves_numpys_generator_and_the_input_alone(name, long_tailed):
    x, y = long_tailed
    kept, state = x.copy(), np.random.get_state()[1].copy()  # noqa: NPY002
    resample = made(name)
    first, second, other = resample(x, y, 1), resample(x, y, 1), resample(x, y, 2)
    np.testing.assert_array_equal(first.x, second.x)
    np.testing.assert_array_equal(first.y, second.y)
    if name in ("random_under", "random_over", "smote"):
        assert not np.array_equal(first.x, other.x)
    np.testing.assert_array_equal(x, kept)
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_none_keeps_every_row_once(long_tailed):
    x, y = long_tailed
    assert made("none")(x, y, 0).rows.tolist() == list(range(86))


def test_smote_takes_fewer_neighbours_where_a_class_is_small():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(33, 4)), np.repeat([0, 1, 2], [20, 10, 3])
    wanted, _ = SMOTE(k_neighbors=2, random_state=0).fit_resample(x, y)
    np.testing.assert_allclose(made("smote")(x, y, 0).x, wanted)
    two = made("smote")(x[:22], np.repeat([0, 1], [20, 2]), 0)
    new, ends = two.x[22:], x[20:22]
    along = (new - ends[0]) @ (ends[1] - ends[0]) / np.square(ends[1] - ends[0]).sum()
    np.testing.assert_allclose(ends[0] + along[:, None] * (ends[1] - ends[0]), new)
    assert ((along >= 0) & (along <= 1)).all() and len(new) == 18


def test_smote_adds_nothing_where_classes_are_alike():
    x, y = np.random.default_rng(0).normal(size=(3, 2)), np.arange(3)
    np.testing.assert_array_equal(made("smote")(x, y, 0).x, x)


def test_smote_refuses_a_class_of_one_and_says_which():
    x, y = np.random.default_rng(0).normal(size=(13, 2)), np.repeat([0, 1, 2], [8, 1, 4])
    with pytest.raises(AudiorepError, match=r"class 1 has a single example.*resampler=random_over"):
        made("smote")(x, y, 0)
    with pytest.raises(AudiorepError, match="class 'trill' has a single example"):
        Resampler(SMOTE, interpolates=True)(x, y, 0, ["song", "trill", "buzz"])


def test_a_class_that_would_vanish_is_refused_and_named():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(20, 2)), rng.normal(size=(5, 2)) * 0.1, rng.normal(size=(4, 2)) * 0.1])
    y = np.repeat([0, 1, 2], [20, 5, 4])
    assert 1 not in EditedNearestNeighbours().fit_resample(x, y)[1]
    with pytest.raises(AudiorepError, match=r"EditedNearestNeighbours leaves no row of class 1.*resampler=tomek"):
        made("edited")(x, y, 0)


@pytest.mark.parametrize(
    "y, words",
    [
        (np.array([0, 1, -1, 1, 0, -1]), "2 of 6 rows have no label"),
        (np.zeros(6, np.int64), r"1 class\(es\) among 6 rows"),
        (np.zeros(0, np.int64), r"0 class\(es\) among 0 rows"),
    ],
)
def test_labels_that_cannot_be_resampled_are_refused(y, words):
    with pytest.raises(AudiorepError, match=words):
        made("random_over")(np.zeros((len(y), 2)), y, 0)


def test_what_imbalanced_learn_refuses_is_said_in_one_line(long_tailed):
    x, _ = long_tailed
    for broken, name in ((x[:3], "edited"), (x * np.nan, "tomek")):
        with pytest.raises(AudiorepError, match=r"cannot resample \d+ rows: ") as error:
            made(name)(broken, np.resize([0, 1], len(broken)), 0)
        assert "\n" not in str(error.value)


def test_rows_become_how_often_a_manifests_rows_are_drawn():
    rows, of = np.array([0, 2, 2, 1, 2]), np.array([7, 3, 4])
    out = multiplicity(Resampled(rows, np.zeros((5, 1)), np.zeros(5, np.int64)), of, 9)
    assert out.tolist() == [0, 0, 0, 1, 3, 0, 0, 1, 0]


def test_interpolated_samples_are_no_rows(long_tailed):
    with pytest.raises(AudiorepError, match=r"exist only as embeddings.*resampler=random_over"):
        multiplicity(made("smote")(*long_tailed, 0), np.arange(86), 86)
