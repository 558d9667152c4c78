"""Splits: groups stay together, every row is tested once, sides are balanced, and leaks are told."""

import numpy as np
import pandas as pd
import pytest

from audiorep.data.splits import make_split, split_by_column, split_by_group
from audiorep.errors import AudiorepError


def corpus(rows: int = 300, groups: int = 17, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "label": rng.choice(["", "a", "b"], rows),
            "group": [f"g{g}" for g in rng.permutation(np.arange(rows) % groups)],
            "split": rng.choice(["train", "valid", "test"], rows),
        }
    )


@pytest.mark.parametrize("seed,folds", [(0, 5), (1, 2), (2, 17)])
def test_groups_never_stand_on_both_sides_and_every_row_is_tested_in_exactly_one_fold(seed, folds):
    frame = corpus(seed=seed)
    tested = np.zeros(len(frame), int)
    for fold in range(folds):
        split = split_by_group(frame, folds=folds, fold=fold)
        assert sorted([*split.train, *split.test]) == list(range(len(frame)))
        assert not set(frame["group"].iloc[split.train]) & set(frame["group"].iloc[split.test])
        assert split.leak_report is None and str(fold) in split.description
        tested[split.test] += 1
    assert (tested == 1).all()


def test_folds_hold_about_as_many_labelled_rows_even_where_groups_differ_in_size():
    sizes = [50, 30, 20, 20, 10, 10, 5, 5]
    frame = pd.DataFrame({"group": np.repeat([f"g{i}" for i in range(8)], sizes), "label": "x"})
    tested = [len(split_by_group(frame, folds=3, fold=fold).test) for fold in range(3)]
    assert sum(tested) == 150 and max(tested) == 50 and min(tested) == 50


def test_folds_are_balanced_by_labelled_rows_not_by_all_rows():
    unlabelled = pd.DataFrame({"group": np.repeat(["u0", "u1"], [1000, 15]), "label": ""})
    labelled = pd.DataFrame({"group": np.repeat(["a", "b", "c", "d"], 10), "label": "x"})
    frame = pd.concat([unlabelled, labelled], ignore_index=True)
    for fold in range(2):
        test = split_by_group(frame, folds=2, fold=fold).test
        assert (frame["label"].iloc[test] != "").sum() == 20


def test_a_split_depends_on_the_groups_and_not_on_the_order_of_the_rows():
    frame = corpus()
    first, second = split_by_group(frame), split_by_group(frame.copy())
    np.testing.assert_array_equal(first.test, second.test)
    shuffled = frame.sample(frac=1, random_state=1)
    again = split_by_group(shuffled)
    assert set(shuffled["group"].iloc[again.test]) == set(frame["group"].iloc[first.test])


def test_an_unlabelled_corpus_is_split_too():
    frame = corpus().drop(columns="label")
    assert 0 < len(split_by_group(frame, folds=3).test) < len(frame)


def test_rows_without_a_value_are_one_group_and_tested_once():
    frame = pd.DataFrame({"label": "x", "site": ["a", None, "b", "c", None, "b"]})
    tested = [tuple(split_by_group(frame, by="site", folds=4, fold=fold).test) for fold in range(4)]
    assert sorted(tested) == [(0,), (1, 4), (2, 5), (3,)]


def test_too_few_groups_are_an_error_that_names_the_column_and_the_remedy():
    for groups in (3, 4):
        with pytest.raises(AudiorepError, match=rf"{groups} group\(s\) in column 'group'.*split\.folds=5.*split\.by"):
            split_by_group(corpus(groups=groups))
    assert all(len(split_by_group(corpus(groups=5), fold=fold).test) for fold in range(5))


@pytest.mark.parametrize("fold", [-1, 5])
def test_a_fold_that_does_not_exist_is_an_error(fold):
    with pytest.raises(AudiorepError, match=rf"split\.fold={fold} does not exist: folds count from 0 to 4"):
        split_by_group(corpus(), fold=fold)


@pytest.mark.parametrize("folds", [0, 1])
def test_fewer_than_two_folds_are_an_error(folds):
    with pytest.raises(AudiorepError, match=rf"split\.folds={folds}"):
        split_by_group(corpus(), folds=folds)


def test_a_column_that_does_not_exist_is_an_error_that_lists_the_columns():
    with pytest.raises(AudiorepError, match=r"split\.by=site: .*label, group, split"):
        split_by_group(corpus(), by="site")
    with pytest.raises(AudiorepError, match=r"split\.column=fold: .*label, group, split"):
        split_by_column(corpus(), "fold", ["1"])


def test_a_split_by_column_tests_the_rows_with_the_values_named_and_reports_leaking_groups():
    frame = corpus()
    split = split_by_column(frame, "split", ["test", "valid"])
    assert set(frame["split"].iloc[split.test]) == {"test", "valid"}
    assert set(frame["split"].iloc[split.train]) == {"train"}
    both = set(frame["group"].iloc[split.test]) & set(frame["group"].iloc[split.train])
    assert both and set(split.leaking) == both
    assert split.leak_report is not None and f"{len(both)} group(s)" in split.leak_report
    assert split.metrics == {"split/leaking_groups": len(both)}


def test_a_split_by_column_that_keeps_groups_together_reports_no_leak():
    frame = pd.DataFrame({"label": "x", "group": list("aabbcc"), "fold": [1, 1, 2, 2, 3, 3]})
    split = make_split(frame, column="fold", test=[2])
    assert split.metrics == {"split/leaking_groups": 0.0}
    assert split.test.tolist() == [2, 3] and split.leak_report is None
    assert make_split(frame, column="fold", test="3").test.tolist() == [4, 5]


def test_a_value_that_does_not_occur_is_an_error_that_lists_those_that_do():
    with pytest.raises(AudiorepError, match=r"split\.test='exam' does not occur in column 'split'.*test, train, valid"):
        split_by_column(corpus(), "split", ["test", "exam"])


def test_an_empty_side_is_an_error():
    with pytest.raises(AudiorepError, match="every row is on the test side"):
        split_by_column(corpus(), "split", ["test", "train", "valid"])
    with pytest.raises(AudiorepError, match="no row is on the test side"):
        split_by_column(corpus(), "split", [])


def test_without_a_column_the_split_is_by_group():
    frame = corpus()
    np.testing.assert_array_equal(make_split(frame, folds=4, fold=2).test, split_by_group(frame, "group", 4, 2).test)
