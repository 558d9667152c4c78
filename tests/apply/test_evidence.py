"""What a summary may say of the detector behind it: how often it was right, on how much, and what it never looked for."""

from pathlib import Path

import pandas as pd
import pytest
from scipy.stats import binomtest
from test_summary import detected, recorded

from audiorep.apply.evidence import evidence_of
from audiorep.apply.rates import binomial_bounds
from audiorep.apply.summary import summaries, summarise


@pytest.mark.parametrize(("hits", "tries"), [(0, 4), (5, 5), (3, 7), (90, 100), (1, 1)])
def test_the_interval_of_a_part_is_that_of_clopper_and_pearson(hits, tries):
    ends = binomtest(hits, tries).proportion_ci(method="exact")
    assert binomial_bounds(hits, tries) == pytest.approx((ends.low, ends.high))


def mark(threshold: float | None = 0.5, precision: float | None = 1.0, recall: float | None = 1.0, positives: int = 5):
    return {"threshold": threshold, "precision": precision, "recall": recall, "positives": positives}


def test_a_precision_carries_what_it_rests_on(tmp_path):
    """Five of five right are no precision of 1, and clips without background say little of continuous recordings."""
    recordings = recorded(("/a.wav", 3600.0, "done", "2023-05-14T04:00:00", "pond"))
    calls = detected(*(("/a.wav", 10 * i, 10 * i + 1, "owl", 0.9) for i in range(46)))
    told = {"background": 0, "classes": {"owl": mark() | {"reported": 5}, "crake": mark(None, None, None, 3)}}
    summary = summarise(calls, recordings, tmp_path, evidence_of(told, folder=Path("my found")))
    page, notes = (tmp_path / "summary.html").read_text(), "\n".join(summary.notes)
    for words in ("22–46", "5 of 5 right (0.48–1)", "Precision on the labelled clips kept back"):
        assert f">{words}<" in page, words
    assert "rests on fewer than 20 labelled calls" in notes and "(owl 5)" in notes
    assert "No background was among" in notes and "detections='my found/detections.parquet'" in notes
    well = {"background": 30, "classes": {"owl": mark(precision=0.9, positives=90) | {"reported": 100}}}
    assert not any("labelled clips" in note for note in summaries(calls, recordings, evidence_of(well)).notes)
    older = {"classes": {"owl": mark(precision=0.9, positives=90)}}
    assert evidence_of(older).precision["owl"].reported == 100  # follows from what older files tell
    assert any("not told whether background" in note for note in summaries(calls, recordings, evidence_of(older)).notes)


def test_what_was_not_looked_for_is_no_zero(tmp_path):
    recordings = recorded(("/a.wav", 3600.0, "done", "2023-05-14T04:00:00", "pond"))
    calls = detected(("/a.wav", 0, 1, "owl", 0.9), ("/a.wav", 5, 6, "owl", 0.9))
    silent = {f"rail {i}": mark(None, None, None, 2) for i in range(9)}
    told = {"classes": {"owl": mark(), "thrush": mark(), **silent}}
    summary = summarise(calls, recordings, tmp_path, evidence_of(told))
    table = pd.read_csv(tmp_path / "summary.csv", keep_default_na=False, dtype=str).set_index("label")
    assert table["calls"].to_dict() == {"owl": "2", "thrush": "0"} | dict.fromkeys(silent, "")
    assert set(table.loc[list(silent), "not_looked_for"]) == {"no threshold"} and not table.loc["owl", "not_looked_for"]
    assert (table.loc[list(silent)].drop(columns="not_looked_for") == "").all(axis=None)
    assert set(summary.tables["by_site"]["label"]) == {"owl", "thrush"}
    page = (tmp_path / "summary.html").read_text()
    assert page.count("not looked for: no threshold") == 9
    assert any("9 label(s) were not looked for" in note and "rail 8" in note for note in summary.notes)
    heard = summaries(calls.assign(label="rail 3"), recordings, evidence_of(told)).tables["summary"].set_index("label")
    assert heard.loc["rail 3", "calls"] == 2 and heard["not_looked_for"].eq("no threshold").sum() == 8


def test_detect_tells_what_it_looked_for_and_by_which_thresholds():
    told = {"background": 4, "classes": {"owl": mark(0.7), "noise": mark(0.7), "rail": mark(None, None, None, 1)}}
    used = {"thresholds": {"owl": 0.7}, "without_threshold": ["rail"], "calibration": told, "window_s": 0.6}
    found = evidence_of(None, used)
    assert (found.looked_for, found.not_looked_for, found.background) == (["owl"], {"rail": "no threshold"}, True)
    assert set(found.precision) == {"owl"} and found.window_s == 0.6  # noise was left out
    all_at_half = used | {"thresholds": {"owl": 0.5, "rail": 0.5}, "without_threshold": [], "calibration": None}
    found = evidence_of(told, all_at_half)  # the file tells of another threshold than the one that was used
    assert not found.precision and found.looked_for == ["owl", "rail"] and not found.not_looked_for
    assert evidence_of(told | {"events": {}}).background is True and evidence_of(None).background is None


def test_only_detections_of_windows_are_called_stretches():
    recordings = recorded(("/a.wav", 3600.0, "done", "2023-05-14T04:00:00", "pond"))
    for window_s, told in ((0.6, True), (None, False)):
        summary = summaries(
            detected(), recordings, evidence_of(None, {"thresholds": {"owl": 0.5}, "window_s": window_s})
        )
        assert any("windows of 0.6 s" in note and "objective=frames" in note for note in summary.notes) == told
