"""Which labels may be used: so many of each class and no more, and whole groups kept back to calibrate."""

import numpy as np
import pytest

from audiorep.data.budget import deal, hold_out, members, spend, with_errors
from audiorep.errors import AudiorepError

NAMES = ["a", "b", "c", "d"]
TRUTH = np.array([0] * 20 + [1] * 10 + [2] * 3 + [-1] * 7)
ROWS = np.arange(len(TRUTH))
NAN = np.nan


def counts(rows: np.ndarray, truth: np.ndarray = TRUTH) -> list[int]:
    return members(truth[rows], 4).sum(0).tolist()


# -------------------------------------------------------------------- spend


def test_without_a_budget_every_label_may_be_used_and_nothing_else():
    found = spend(ROWS[5:], TRUTH, NAMES)
    assert found.rows.tolist() == list(range(5, 33)) and not found.notes


@pytest.mark.parametrize("wanted", [1, 2, 5, 15])
def test_so_many_labels_of_each_class_and_all_of_a_class_that_has_fewer(wanted):
    found = spend(ROWS, TRUTH, NAMES, per_class=wanted)
    assert counts(found.rows) == [min(wanted, have) for have in (20, 10, 3, 0)]
    assert len(set(found.rows.tolist())) == len(found.rows) and (TRUTH[found.rows] >= 0).all()
    short = [f"{name} ({have})" for name, have in (("c", 3), ("b", 10), ("a", 20)) if have < wanted]
    assert len(found.notes) == bool(short)
    for name in short:
        assert name in found.notes[0] and f"labels_per_class={wanted}" in found.notes[0]


def test_only_rows_of_the_training_side_are_drawn():
    side = np.array([0, 1, 2, 20, 21, 22, 30, 35])
    found = spend(side, TRUTH, NAMES, per_class=2)
    assert set(found.rows.tolist()) <= set(side.tolist()) and counts(found.rows) == [2, 2, 1, 0]
    assert "c (1)" in found.notes[0]


@pytest.mark.parametrize("fraction, wanted", [(0.1, [2, 1, 1, 0]), (0.5, [10, 5, 2, 0]), (1.0, [20, 10, 3, 0])])
def test_a_part_of_each_class_and_at_least_one(fraction, wanted):
    found = spend(ROWS, TRUTH, NAMES, fraction=fraction)
    assert counts(found.rows) == wanted and not found.notes


@pytest.mark.parametrize("given", [{"per_class": 3}, {"fraction": 0.3}])
def test_the_seed_makes_the_choice_and_every_row_may_be_chosen(given):
    drawn = [spend(ROWS, TRUTH, NAMES, **given, seed=seed).rows.tolist() for seed in range(60)]
    assert drawn[0] == spend(ROWS, TRUTH, NAMES, **given, seed=0).rows.tolist() != drawn[1]
    assert {row for rows in drawn for row in rows} == set(range(33))


SEVERAL = np.full((30, 3), NAN)
SEVERAL[:20, 0] = 1.0  # a: common
SEVERAL[:20, 1:] = 0.0
SEVERAL[15:20, 1] = 1.0  # b: always together with a
SEVERAL[20:22] = [0.0, 0.0, 1.0]  # c: rare
SEVERAL[22:25, 0] = 0.0  # known not to be a, and no more


@pytest.mark.parametrize("seed", range(5))
def test_a_row_with_several_labels_counts_for_every_class_it_holds(seed):
    found = spend(np.arange(30), SEVERAL, ["a", "b", "c"], per_class=3, seed=seed)
    assert members(SEVERAL[found.rows], 3).sum(0).tolist() == [3, 3, 2]  # the three of b are the three of a
    assert len(found.rows) == 5 and "c (2)" in found.notes[0]


def test_of_rows_with_several_labels_a_fraction_is_one_of_rows():
    found = spend(np.arange(30), SEVERAL, ["a", "b", "c"], fraction=0.4)
    assert len(found.rows) == 10 and found.rows.max() < 25 and (np.diff(found.rows) > 0).all()
    assert len(spend(np.arange(30), SEVERAL, ["a", "b", "c"], fraction=0.01).rows) == 2


@pytest.mark.parametrize(
    "given, words",
    [
        ({"per_class": 3, "fraction": 0.5}, "give one of them"),
        ({"per_class": 0}, "labels_per_class=0: at least one label"),
        ({"fraction": 0.0}, r"label_fraction=0.0 must lie in \(0, 1\]"),
        ({"fraction": 1.5}, r"label_fraction=1.5 must lie in \(0, 1\]"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(given, words):
    with pytest.raises(AudiorepError, match=words):
        spend(ROWS, TRUTH, NAMES, **given)


# ----------------------------------------------------------------- hold out


def labelled(groups: int = 12, each: int = 5, classes: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows = np.arange(groups * each)
    return rows, rows % classes, np.repeat([f"g{i:02d}" for i in range(groups)], each)


@pytest.mark.parametrize("seed", range(8))
def test_whole_groups_of_about_the_fraction_are_held_out(seed):
    rows, truth, group = labelled()
    fit, held, reason = hold_out(rows, truth, group, 3, 0.25, 5, seed)
    assert reason == "" and sorted([*fit, *held]) == rows.tolist()
    assert not set(group[fit]) & set(group[held])
    assert 15 <= len(held) <= 22
    assert set(truth[fit]) == {0, 1, 2}


def test_other_seeds_hold_out_other_groups():
    rows, truth, group = labelled()
    found = [hold_out(rows, truth, group, 3, 0.25, 5, seed)[1].tolist() for seed in range(20)]
    assert found[0] == hold_out(rows, truth, group, 3, 0.25, 5, 0)[1].tolist()
    assert len({tuple(held) for held in found}) > 10
    assert {row for held in found for row in held} == set(rows.tolist())


@pytest.mark.parametrize("seed", range(20))
def test_the_last_label_of_a_class_is_never_taken(seed):
    rows, truth, group = labelled(groups=6, each=4, classes=2)
    truth[:4] = 2  # a class that lives in one group only
    fit, held, _reason = hold_out(rows, truth, group, 3, 0.4, 2, seed)
    assert set(truth[fit]) == {0, 1, 2} and len(held) and "g00" not in group[held]
    several = np.eye(3)[truth]
    same = hold_out(rows, several, group, 3, 0.4, 2, seed)
    assert same[1].tolist() == held.tolist()


def test_where_every_group_is_needed_nothing_is_held_out_and_the_reason_is_said():
    rows, group = np.arange(12), np.repeat(list("pqr"), 4)
    truth = np.repeat([0, 1, 2], 4)
    fit, held, reason = hold_out(rows, truth, group, 3, 0.3, 2)
    assert fit.tolist() == rows.tolist() and not len(held) and "without taking a class its last labels" in reason


def test_fewer_than_three_groups_are_split_by_row():
    rows, truth, _ = labelled()
    group = np.where(rows < 30, "x", "y")
    _fit, held, reason = hold_out(rows, truth, group, 3, 0.2, 5)
    assert len(held) == 12 and set(group[held]) == {"x", "y"} and reason == ""


def test_too_few_labels_hold_nothing_out_and_the_reason_names_the_number():
    rows, truth, group = labelled()
    fit, held, reason = hold_out(rows, truth, group, 3, 0.2, 30)
    assert fit.tolist() == rows.tolist() and not len(held)
    assert (
        reason
        == "calibration.fraction=0.2 of 60 labels is 12, fewer than calibration.least=30; so there will be no thresholds"
    )
    assert not len(hold_out(rows[:0], truth, group, 3, 0.2, 0)[1])
    assert not len(hold_out(rows, truth, group, 3, 0.0, 0)[1])


def test_rows_keep_their_numbers_where_they_are_some_of_many():
    rows, truth, group = labelled()
    some = rows[rows % 4 != 1]
    fit, held, _ = hold_out(some, truth, group, 3, 0.3, 5)
    assert sorted([*fit, *held]) == some.tolist() and not set(group[fit]) & set(group[held])


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_a_fraction_that_is_none_is_refused(fraction):
    rows, truth, group = labelled()
    with pytest.raises(AudiorepError, match=r"calibration\.fraction=.* must lie in \[0, 1\)"):
        hold_out(rows, truth, group, 3, fraction, 5)


def test_wrong_labels_are_a_part_of_the_known_ones_each_another_class_and_seeded():
    label = np.where(np.arange(400) % 4 == 3, -1, np.arange(400) % 3)
    wrong = with_errors(label, 0.4, seed=1)
    changed = wrong != label
    assert changed.sum() == 120 and not changed[label < 0].any() and set(wrong[changed]) == {0, 1, 2}
    assert np.array_equal(with_errors(label, 0.4, seed=1), wrong) and with_errors(label, 0.0, seed=1) is label
    assert not np.array_equal(with_errors(label, 0.4, seed=2), wrong)
    labelled = label >= 0
    assert np.array_equal(with_errors(label[labelled], 0.4, seed=1), wrong[labelled])  # wherever the others stand
    for bad in (1.0, -0.1):
        with pytest.raises(AudiorepError, match="label_noise"):
            with_errors(label, bad, seed=0)
    with pytest.raises(AudiorepError, match="one label a row"):
        with_errors(np.zeros((3, 2), np.float32), 0.2, seed=0)


# --------------------------------------------------------------------- deal


def dealt_share(fold: np.ndarray, told: np.ndarray) -> np.ndarray:
    """[folds c] part of each class's labels in each fold."""
    return np.stack([told[fold == k].sum(0) for k in range(fold.max() + 1)]) / told.sum(0)


def test_each_fold_has_its_part_of_every_class_and_each_row_one_fold():
    rows = ROWS[:33]
    fold = deal(rows, TRUTH, np.arange(40).astype(str), 4, 3)
    assert set(fold.tolist()) == {0, 1, 2}
    counted = [[int((TRUTH[rows[fold == k]] == c).sum()) for c in range(3)] for k in range(3)]
    for c, have in enumerate((20, 10, 3)):
        held = [counted[k][c] for k in range(3)]
        assert sum(held) == have and max(held) - min(held) <= 1


def test_groups_are_dealt_out_whole():
    rng = np.random.default_rng(0)
    truth, group = rng.integers(0, 3, 300), rng.integers(0, 30, 300).astype(str)
    fold = deal(np.arange(300), truth, group, 3, 5)
    assert all(len(set(fold[group == name].tolist())) == 1 for name in set(group.tolist()))
    assert (np.abs(dealt_share(fold, members(truth, 3)) - 0.2) < 0.1).all()


def test_a_group_without_which_a_class_had_no_label_is_never_held_out():
    truth = np.array([0, 0, 0, 1, 1, 1, 2, 2])
    group = np.array(["x", "y", "z", "x", "y", "z", "only", "only"])
    fold = deal(np.arange(8), truth, group, 3, 2)
    assert fold[6:].tolist() == [-1, -1] and set(fold[:6].tolist()) == {0, 1}
    for k in range(2):
        assert set(truth[fold != k].tolist()) == {0, 1, 2}


def test_with_fewer_groups_than_folds_rows_are_dealt_out():
    truth = np.repeat([0, 1], 6)
    fold = deal(np.arange(12), truth, np.array(["x"] * 12), 2, 3)
    assert [np.bincount(fold[truth == c]).tolist() for c in range(2)] == [[2, 2, 2]] * 2


def test_with_several_labels_a_row_known_absences_are_shared_out_too():
    truth = np.full((24, 2), NAN)
    truth[:12, 0], truth[12:18, 0], truth[:6, 1], truth[6:, 1] = 1.0, 0.0, 1.0, 0.0
    fold = deal(np.arange(24), truth, np.arange(24).astype(str), 2, 3)
    for value in (0.0, 1.0):
        for c in range(2):
            held = [int((truth[fold == k, c] == value).sum()) for k in range(3)]
            assert max(held) - min(held) <= 2 and min(held) > 0


def test_the_seed_deals():
    given = ROWS[:33], TRUTH, np.arange(40).astype(str), 4, 3
    assert (deal(*given, seed=1) == deal(*given, seed=1)).all() and (deal(*given, seed=1) != deal(*given, seed=2)).any()


def test_one_fold_is_refused():
    with pytest.raises(AudiorepError, match=r"calibration\.folds=1: at least 2"):
        deal(ROWS[:33], TRUTH, np.arange(40), 4, 1)
