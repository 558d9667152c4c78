"""Frame targets against a loop over frames and calls."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from audiorep.data.annotated import Annotated

CALL = st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 60), st.integers(1, 30))


def annotated(calls) -> Annotated:
    rows = np.array(sorted(calls), np.int64).reshape(-1, 4)
    return Annotated(rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 2] + rows[:, 3], 3, 2)


@given(st.lists(CALL, max_size=6), st.integers(0, 2), st.integers(-10, 50), st.sampled_from([1, 3, 7]))
@settings(max_examples=200, deadline=None)
def test_a_frame_belongs_to_the_calls_that_cover_its_middle(calls, recording, start, step):
    found = annotated(calls).frames(recording, start, 12, step)
    for j in range(12):
        for label in range(2):
            middle = start + j * step
            wanted = any(r == recording and c == label and s <= middle < s + n for r, c, s, n in calls)
            assert found[j, label] == wanted


def test_overlap_is_of_different_classes_in_one_recording():
    assert not annotated([(0, 0, 0, 5), (0, 1, 5, 5), (1, 1, 0, 9)]).overlap
    assert not annotated([(0, 0, 0, 5), (0, 0, 3, 5)]).overlap
    assert annotated([(0, 0, 0, 6), (0, 1, 5, 5)]).overlap
