"""Labels to numbers: one class or several, unknown, known absent, complete."""

import numpy as np
import pytest

from audiorep.data.labels import classes_of, encode, frequent, split_label
from audiorep.errors import AudiorepError

NAN = np.nan


def test_single_labels_become_class_numbers_and_the_unlabelled_minus_one():
    labels = ["wren", "", "owl", "wren"]
    classes = classes_of(labels)
    assert classes == ["owl", "wren"]
    encoded = encode(labels, classes)
    assert encoded.dtype == np.int64 and encoded.tolist() == [1, -1, 0, 1]


def test_a_class_that_is_not_asked_for_is_unlabelled():
    assert encode(["owl", "crow"], ["owl"]).tolist() == [0, -1]


def test_classes_of_few_rows_are_told_apart_from_those_of_enough():
    labels = ["a", "b", "a", "", "-b", "a|b"]
    assert frequent(["a", "b", "a", ""], 2) == (["a"], {"b": 1})
    assert frequent(["a", "b", "a", ""], 0) == (["a", "b"], {})
    assert frequent(labels, 3, multilabel=True) == (["a"], {"b": 2})  # "-b" says that it is absent
    assert frequent(["-c", "a"], 1, multilabel=True) == (["a"], {"c": 0})


def test_a_leading_minus_is_part_of_a_single_label():
    assert classes_of(["-a", "a"]) == ["-a", "a"]
    assert encode(["-a", "a"], ["-a", "a"]).tolist() == [0, 1]


def test_several_labels_in_a_row_are_an_error_unless_multilabel():
    labels = ["owl", "owl|wren"]
    for classes in (["owl", "wren"], classes_of(labels)):
        with pytest.raises(AudiorepError, match=r"'owl\|wren'.*labels\.multilabel=true"):
            encode(labels, classes)


def test_multi_hot_labels_know_present_absent_and_unknown():
    labels = ["a|b", "-a", "", "c", " b | -c |"]
    classes = classes_of(labels, multilabel=True)
    assert classes == ["a", "b", "c"]
    encoded = encode(labels, classes, multilabel=True)
    assert encoded.dtype == np.float32
    expected = [[1, 1, NAN], [0, NAN, NAN], [NAN, NAN, NAN], [NAN, NAN, 1], [NAN, 1, 0]]
    np.testing.assert_array_equal(encoded, np.array(expected, np.float32))


def test_a_complete_row_has_nothing_unknown_and_an_unlabelled_row_stays_unknown():
    encoded = encode(["a|b", "-a", "", "crow"], ["a", "b", "c"], multilabel=True, complete=True)
    np.testing.assert_array_equal(encoded, np.array([[1, 1, 0], [0, 0, 0], [NAN] * 3, [0, 0, 0]], np.float32))


def test_a_cell_is_split_at_bars_and_blanks_around_names_are_dropped():
    assert split_label(" a b |c||d ") == ["a b", "c", "d"]
    assert split_label("") == []
