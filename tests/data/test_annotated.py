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
    for label in range(2):
        here = sorted((s, s + n) for r, c, s, n in calls if (r, c) == (recording, label))
        # the first frame of a call, and the one after its last, counted from the start of the window
        edges = [(-((start - s) // step), -((start - e) // step)) for s, e in here]
        onsets = [i for k, (i, _) in enumerate(edges) if k and i - max(j for _, j in edges[:k]) < 2]
        for j in range(12):
            inside = any(s <= start + j * step < e for s, e in here)
            assert found[j, label] == (inside and not any(i - 1 <= j <= i for i in onsets))


def test_calls_of_a_class_that_touch_stay_two():
    found = annotated([(0, 0, 0, 10), (0, 0, 10, 10), (0, 1, 20, 5)]).frames(0, 0, 30, 1)
    assert found[:, 0].tolist() == [1.0] * 9 + [0.0] * 2 + [1.0] * 9 + [0.0] * 10
    assert found[:, 1].sum() == 5


def test_overlap_is_of_different_classes_in_one_recording():
    assert not annotated([(0, 0, 0, 5), (0, 1, 5, 5), (1, 1, 0, 9)]).overlap
    assert not annotated([(0, 0, 0, 5), (0, 0, 3, 5)]).overlap
    assert annotated([(0, 0, 0, 6), (0, 1, 5, 5)]).overlap
