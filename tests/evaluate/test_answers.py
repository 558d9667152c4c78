"""What classifiers said of every row: written and read again, and put together from folds."""

import numpy as np
import pytest

from audiorep.errors import AudiorepError
from audiorep.evaluate.answers import HELD, NAME, TEST, TRAIN, Told, of_folds, read_answers, write_answers

CLASSES = ["alarm", "trill"]


def fold(held: list[int], seed: int) -> Told:
    """Six rows, the last a test row; `held` are kept back."""
    logits = np.random.default_rng(seed).normal(size=(6, 2))
    side = np.array([TRAIN] * 5 + [TEST], np.int8)
    side[held] = HELD
    return Told(logits, np.array([0, 1, 0, 1, 0, 1]), side, CLASSES)


def test_answers_come_back_as_they_were(tmp_path):
    told = fold([1, 2], seed=0)
    told.logits[3] = np.nan  # not decoded
    write_answers(told, tmp_path / NAME)
    back = read_answers(tmp_path / NAME)
    np.testing.assert_array_equal(back.logits, told.logits)
    np.testing.assert_array_equal(back.truth, told.truth)
    np.testing.assert_array_equal(back.side, told.side)
    assert back.classes == CLASSES


def test_each_row_is_answered_by_the_fold_that_kept_it(tmp_path):
    folds = [fold([0, 3], seed=1), fold([1, 4], seed=2)]
    for number, told in enumerate(folds):
        (tmp_path / f"fold_{number}").mkdir()
        write_answers(told, tmp_path / f"fold_{number}" / NAME)
    logits = of_folds(tmp_path, 6, CLASSES, np.arange(5))
    np.testing.assert_array_equal(logits[[0, 3]], folds[0].logits[[0, 3]])
    np.testing.assert_array_equal(logits[[1, 4]], folds[1].logits[[1, 4]])
    assert np.isnan(logits[[2, 5]]).all()


@pytest.mark.parametrize(
    ("rows", "classes", "labelled"), [(7, CLASSES, range(5)), (6, ["alarm", "song"], range(5)), (6, CLASSES, range(3))]
)
def test_folds_of_another_training_are_refused(rows, classes, labelled, tmp_path):
    (tmp_path / "fold_0").mkdir()
    write_answers(fold([0, 3], seed=1), tmp_path / "fold_0" / NAME)
    with pytest.raises(AudiorepError, match="about other rows or classes"):
        of_folds(tmp_path, rows, classes, np.array(labelled))


def broken(whole: bytes) -> list[bytes]:
    return [b"", b"no archive", whole[: len(whole) // 2]]


@pytest.mark.parametrize("which", range(3))
def test_a_damaged_file_is_named(which, tmp_path):
    write_answers(fold([0], seed=0), tmp_path / NAME)
    (tmp_path / NAME).write_bytes(broken((tmp_path / NAME).read_bytes())[which])
    with pytest.raises(AudiorepError, match=r"cannot read .*answers\.npz.* train .* again"):
        read_answers(tmp_path / NAME)


@pytest.mark.parametrize("content", [{"logits": np.zeros((2, 2))}, None])
def test_an_archive_of_something_else_is_named(content, tmp_path):
    if content is None:  # one array, no archive
        with (tmp_path / NAME).open("wb") as file:
            np.save(file, np.zeros(3))
    else:
        np.savez(tmp_path / NAME, **content)
    with pytest.raises(AudiorepError, match="cannot read"):
        read_answers(tmp_path / NAME)
