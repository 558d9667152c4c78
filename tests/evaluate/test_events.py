"""Matching of detections and annotations against all pairings tried out."""

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiorep.errors import AudiorepError
from audiorep.evaluate.events import Tolerance, count, f1, match, scores

EVENT = st.tuples(st.sampled_from("xy"), st.integers(0, 12), st.integers(1, 5), st.sampled_from("ab"))


def events(rows) -> pd.DataFrame:
    return pd.DataFrame(
        [(path, 0.1 * start, 0.1 * (start + length), label) for path, start, length, label in rows],
        columns=["path", "start_s", "end_s", "label"],
    )


def fits(a, b, onset_s: float, iou: float) -> bool:
    both = min(a.end_s, b.end_s) - max(a.start_s, b.start_s)
    either = max(a.end_s, b.end_s) - min(a.start_s, b.start_s)
    near = abs(a.start_s - b.start_s) <= onset_s + 1e-6
    return (a.path, a.label) == (b.path, b.label) and near and both >= iou * either - 1e-9 and both >= 0


@given(
    st.lists(EVENT, max_size=5),
    st.lists(EVENT, max_size=5),
    st.sampled_from([0.0, 0.1, 0.25]),
    st.sampled_from([0.0, 0.5, 1.0]),
)
@settings(max_examples=200, deadline=None)
def test_as_many_pairs_as_any_pairing_gives(found, true, onset_s, iou):
    a, b = events(found), events(true)
    rows, columns = match(a, b, Tolerance(onset_s, iou))
    assert len(set(rows)) == len(rows) and len(set(columns)) == len(columns)
    assert all(fits(a.iloc[i], b.iloc[j], onset_s, iou) for i, j in zip(rows, columns, strict=True))
    short, long, turned = (a, b, False) if len(a) <= len(b) else (b, a, True)
    most = max(
        sum(
            fits(*(x if not turned else x[::-1]), onset_s, iou)
            for x in ((short.iloc[i], long.iloc[j]) for i, j in enumerate(chosen))
        )
        for chosen in permutations(range(len(long)), len(short))
    )
    assert len(rows) == most


def test_scores_by_hand():
    true = events([("x", 0, 2, "a"), ("x", 5, 2, "a"), ("y", 0, 2, "b"), ("y", 4, 2, "a")])
    found = events([("x", 0, 2, "a"), ("x", 0, 2, "a"), ("y", 0, 2, "a"), ("y", 4, 2, "a"), ("y", 9, 1, "b")])
    counts = count(found, true, ["x", "y"], ["a", "b", "c"], Tolerance(0.01, 0.5))
    assert counts.hits.tolist() == [[1, 0, 0], [1, 0, 0]]
    assert counts.true.tolist() == [[2, 0, 0], [1, 1, 0]] and counts.found.tolist() == [[2, 0, 0], [2, 1, 0]]
    assert f1(counts)[:2].tolist() == pytest.approx([4 / 7, 0.0]) and np.isnan(f1(counts)[2])
    told = scores(counts, np.array(["x", "y"]), ["a", "b", "c"], 50, 0, hours=0.5)
    assert told["event_f1"] == pytest.approx(2 / 7) and told["event_recall/a"] == pytest.approx(2 / 3)
    assert told["event_precision/a"] == 0.5 and told["event_precision/b"] == 0.0 and "event_f1/c" not in told
    assert (
        told["false_detections_per_hour"] == 6.0 and told["event_f1/low"] <= told["event_f1"] <= told["event_f1/high"]
    )


def test_tolerances_that_cannot_be_are_refused():
    with pytest.raises(AudiorepError, match="onset_s=-1"):
        Tolerance(-1)
    with pytest.raises(AudiorepError, match="iou=2"):
        Tolerance(0.1, 2)
