"""Summaries against hours counted by hand and loops, intervals against simulations, and the command as a user types it."""

import json
import shutil
import warnings
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from annotated import wav
from matplotlib.figure import Figure
from PIL import Image
from scipy.sparse import csr_array
from scipy.stats import binomtest, chi2

from audiorep.apply.effort import NO_TIME, by_hour, overlap_us
from audiorep.apply.evidence import Evidence, Precision
from audiorep.apply.rates import bootstrap_bounds, intervals, poisson_bounds, quantile
from audiorep.apply.summary import PICTURES, summaries, summarise
from audiorep.apply.summary_input import with_times
from audiorep.apply.summary_pictures import MOST_DATES, dated
from audiorep.cli import main
from audiorep.data.formats import raven
from audiorep.errors import AudiorepError
from audiorep.verbs.summarise import line_of

DETECTIONS = ["path", "start_s", "end_s", "label", "score"]
RECORDINGS = ["path", "duration_s", "status", "recorded_at", "site"]


def detected(*rows: tuple) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=DETECTIONS)


def recorded(*rows: tuple) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=RECORDINGS)


def season(days: int = 20, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two sites, two minutes an hour from 4 to 9 o'clock; one fails for some days. Recordings reach over full hours."""
    rng = np.random.default_rng(seed)
    rows, calls = [], []
    for site in ("pond", "wood"):
        for day in range(days):
            if site == "wood" and 5 <= day < 8:
                continue
            for hour in range(4, 9):
                begin = datetime(2023, 5, 1, hour, 59) + timedelta(days=day)
                path = f"/data/{site}/{begin:%Y%m%d_%H%M%S}.wav"
                rows.append((path, 120.0, "done", begin.isoformat(), site))
                for label, rate in (("thrush", 3.0 if hour == 5 else 0.5), ("owl", 0.2 * (site == "wood"))):
                    for start in rng.uniform(0, 118, rng.poisson(rate)):
                        calls.append((path, start, start + 2.0, label, 0.8))
    return detected(*calls), recorded(*rows)


# ---- effort and counts


def test_hours_and_days_are_split_at_their_borders_and_calls_count_where_they_begin():
    recordings = recorded(("/a.wav", 7200.0, "done", "2023-05-14T22:30:00", "pond"))
    calls = detected(
        ("/a.wav", 1799.0, 1803.0, "owl", 0.9),
        ("/a.wav", 5399.5, 5401.5, "owl", 0.7),
        ("/a.wav", 7000, 7000.5, "owl", 0.8),
    )
    tables = summaries(calls, recordings).tables
    hours = tables["by_hour"].set_index("hour")
    assert hours["effort_h"].to_dict() == {0: 0.5, 22: 0.5, 23: 1.0}
    assert hours["calls"].to_dict() == {0: 1, 22: 1, 23: 1}
    assert hours["call_s"].to_dict() == {0: 2.0, 22: 1.0, 23: 3.5}  # 1 s before 23:00; 3 s and .5 s; 1.5 s and .5 s
    assert hours["calls_per_h"].to_dict() == {0: 2.0, 22: 2.0, 23: 1.0}
    dates = tables["by_date"].set_index("date")
    assert dates["effort_h"].to_dict() == {"2023-05-14": 1.5, "2023-05-15": 0.5}
    assert dates["calls"].to_dict() == {"2023-05-14": 2, "2023-05-15": 1}
    assert tables["by_week"]["week"].tolist() == ["2023-05-08", "2023-05-15"]  # Mondays
    row = tables["summary"].iloc[0]
    assert (row["calls"], row["effort_h"], row["call_s"], row["units"]) == (3, 2.0, 6.5, 2)
    assert (row["first"], row["last"]) == ("2023-05-14T22:59:59", "2023-05-15T00:26:40")
    assert row["mean_score"] == pytest.approx(0.8) and row["occupancy"] == 1.0


def test_silent_hours_are_zeros_and_hours_without_recordings_are_missing():
    recordings = recorded(
        ("/a.wav", 3600.0, "done", "2023-05-14T04:00:00", "pond"), ("/b.wav", 3600.0, "done", "2023-05-14T06:00:00", "pond"),
        ("/c.wav", 3600.0, "failed", "2023-05-14T07:00:00", "pond"),
        ("/d.wav", 3600.0, "done", "2023-05-14T04:00:00", "wood"),
    )  # fmt: skip
    summary = summaries(detected(("/a.wav", 1.0, 2.0, "owl", 0.9)), recordings)
    hours = summary.tables["by_hour"]
    assert hours[["site", "hour", "effort_h", "calls"]].to_numpy().tolist() == [
        ["all sites", 4, 2.0, 1], ["all sites", 6, 1.0, 0], ["pond", 4, 1.0, 1], ["pond", 6, 1.0, 0],
    ]  # fmt: skip
    assert hours["low"].iloc[1] == 0 and hours["high"].iloc[1] == pytest.approx(-np.log(0.025))  # no call in an hour
    sites = summary.tables["by_site"].set_index("site")
    assert sites["calls"].to_dict() == {"pond": 1, "wood": 0} and sites["recordings"].to_dict() == {
        "pond": 2,
        "wood": 1,
    }
    row = summary.tables["summary"].iloc[0]
    assert (row["sites_with_call"], row["sites"], row["site_days_with_call"], row["site_days"]) == (1, 2, 1, 2)
    assert any("1 recording(s) could not be listened to" in note for note in summary.notes)


def test_tables_equal_a_loop_over_every_minute():
    calls, recordings = season()
    tables = summaries(calls, recordings).tables
    begin = dict(zip(recordings["path"], map(datetime.fromisoformat, recordings["recorded_at"]), strict=True))
    site = dict(zip(recordings["path"], recordings["site"], strict=True))
    effort: dict[tuple, float] = {}
    counted: dict[tuple, int] = {}
    for path, when in begin.items():
        for second in range(120):
            moment = when + timedelta(seconds=second)
            key = site[path], moment.date().isoformat(), moment.hour
            effort[key] = effort.get(key, 0) + 1 / 3600
    for path, start, label in calls[["path", "start_s", "label"]].itertuples(index=False):
        moment = begin[path] + timedelta(seconds=start)
        key = label, site[path], moment.date().isoformat(), moment.hour
        counted[key] = counted.get(key, 0) + 1

    def of(row: pd.Series, place: int, value: object) -> tuple[float, int]:
        here = row["site"]
        hours = sum(h for key, h in effort.items() if here in ("all sites", key[0]) and key[place] == value)
        number = sum(
            n
            for key, n in counted.items()
            if key[0] == row["label"] and here in ("all sites", key[1]) and key[place + 1] == value
        )
        return hours, number

    for name, place, column in (("by_hour", 2, "hour"), ("by_date", 1, "date"), ("by_site", 0, "site")):
        for _, row in tables[name].iterrows():
            hours, number = of(row, place, row[column])
            assert row["effort_h"] == pytest.approx(hours) and row["calls"] == number, (name, row)
    assert tables["effort"]["effort_h"].sum() == pytest.approx(sum(effort.values()))
    assert set(tables["by_date"].query("site == 'wood'")["date"]) == {key[1] for key in effort if key[0] == "wood"}
    assert tables["by_hour"].query("label == 'owl'")["site"].unique().tolist() == ["all sites", "wood"]
    recordings_with = calls.groupby("label")["path"].nunique()
    assert tables["summary"].set_index("label")["recordings_with_call"].to_dict() == recordings_with.to_dict()
    each = tables["by_recording"]
    assert each["calls"].sum() == len(calls) and set(each["path"]) == set(recordings["path"])
    assert set(each.loc[each["label"] == "", "path"]) == set(recordings["path"]) - set(calls["path"])


def test_pieces_of_stretches_are_cut_at_full_hours():
    hour_us = 3_600_000_000
    row, hour, us = by_hour(np.array([hour_us - 1, 0, NO_TIME, -5]), np.array([2 * hour_us, 0, 7, 10]))
    assert row.tolist() == [0, 0, 0, 1, 2, 3, 3]
    assert hour.tolist() == [0, 1, 2, 0, NO_TIME, -1, 0]
    assert us.tolist() == [1, hour_us, hour_us - 1, 0, 7, 5, 5]


def test_the_order_of_rows_plays_no_part_and_the_seed_decides():
    calls, recordings = season()
    plain = summaries(calls, recordings).tables
    shuffled = summaries(calls.sample(frac=1, random_state=1), recordings.sample(frac=1, random_state=2)).tables
    for name in ("summary", "by_site", "by_hour", "by_date", "by_week", "effort"):
        pd.testing.assert_frame_equal(plain[name], shuffled[name])
    other = summaries(calls, recordings, seed=1).tables["by_hour"]
    assert (other["low"] != plain["by_hour"]["low"]).any() and other["calls"].equals(plain["by_hour"]["calls"])


# ---- clocks


def test_recorders_on_utc_are_shown_at_local_time():
    recordings = recorded(
        ("/a.wav", 60.0, "done", "2023-05-14T23:30:00", "pond"),
        ("/b.wav", 60.0, "done", "2023-05-14T23:30:00+02:00", "wood"),
    )
    calls = detected(("/a.wav", 0, 1, "owl", 1.0), ("/b.wav", 0, 1, "owl", 1.0))
    plain, local = summaries(calls, recordings), summaries(calls, recordings, utc_offset_h=2.0)
    assert plain.tables["by_hour"].query("site != 'all sites'")["hour"].tolist() == [23, 23]
    assert any("differ in their offset from UTC (UTC+02:00, none told)" in note for note in plain.notes)
    shown = local.tables["by_recording"].set_index("path")["recorded_at"].to_dict()
    assert shown == {"/a.wav": "2023-05-15T01:30:00", "/b.wav": "2023-05-14T23:30:00"}
    assert any("UTC+02:00" in note and "Summer time" in note for note in local.notes)


def test_times_and_sites_come_from_names_where_the_table_is_silent():
    recordings = pd.DataFrame(
        {"path": ["/d/A_20230514_040000.wav", "/d/B_20230514_050000Z.wav"], "duration_s": [60.0, 60.0]}
    )
    tables = summaries(detected(("/d/A_20230514_040000.wav", 0, 1, "owl", 1.0)), recordings).tables
    assert tables["by_site"]["site"].tolist() == ["A", "B"]
    assert tables["effort"][["site", "hour"]].to_numpy().tolist() == [["A", 4], ["B", 5]]


def test_without_times_there_are_sites_and_recordings_and_a_note():
    recordings = recorded(*((f"/d/{i}.wav", 3600.0, "done", "", "pond") for i in range(6)))
    summary = summaries(detected(("/d/0.wav", 0, 1, "owl", 1.0), ("/d/0.wav", 2, 3, "owl", 1.0)), recordings)
    assert set(summary.tables) == {"summary", "by_site", "by_recording"}
    row = summary.tables["summary"].iloc[0]
    assert (row["calls_per_h"], row["units"], row["recordings_with_call"]) == (2 / 6, 6, 1)
    assert not {"first", "site_days", "occupancy"} & set(row.index)
    assert any("20230514_063000.wav" in note and "times=" in note for note in summary.notes)


def test_a_recording_without_time_counts_by_site_and_not_by_hour():
    recordings = recorded(
        ("/a.wav", 3600.0, "done", "2023-05-14T04:00:00", "pond"), ("/b.wav", 3600.0, "done", "", "pond")
    )
    summary = summaries(detected(("/b.wav", 0, 1, "owl", 1.0)), recordings)
    assert summary.tables["by_hour"]["calls"].tolist() in ([], [0])
    assert summary.tables["by_site"][["calls", "effort_h", "recordings", "site_days"]].to_numpy().tolist() == [
        [1, 2, 2, 1]
    ]
    assert any("1 of 2 recording(s) do not tell when" in note for note in summary.notes)


# ---- intervals


def test_the_poisson_interval_is_that_of_the_chi_square_distribution():
    calls, hours = np.array([0.0, 1.0, 7.0, 400.0]), np.array([1.0, 0.5, 3.0, 10.0])
    low, high = poisson_bounds(calls, hours)
    assert low[0] == 0 and np.allclose(low[1:], chi2.ppf(0.025, 2 * calls[1:]) / 2 / hours[1:])
    assert np.allclose(high, chi2.ppf(0.975, 2 * calls + 2) / 2 / hours)


def test_quantiles_of_rows_equal_those_of_numpy():
    values = np.sort(np.random.default_rng(0).normal(size=(5, 101)), axis=1)
    q = np.array([0.0, 0.013, 0.5, 0.977, 1.0])
    assert np.allclose(quantile(values, q), [np.quantile(row, p) for row, p in zip(values, q, strict=True)])


def test_a_rate_has_the_same_interval_alone_and_among_others():
    """Each row's bootstrap is one of its own days, whatever other rows and days there are."""
    rng = np.random.default_rng(0)
    hours = np.where(rng.random((40, 30)) < 0.6, rng.uniform(0.5, 1, (40, 30)), 0.0)
    group = np.sort(rng.integers(0, 40, 3000))
    calls = rng.poisson(2 * hours[group]).astype(float)
    low, high = bootstrap_bounds(csr_array(calls), csr_array(hours), group, 200, 0)
    weight = np.random.default_rng(0).exponential(size=(30, 200))
    some = [0, 1234, 2999]
    for row in some:
        drawn = (calls[row] @ weight) / (hours[group[row]] @ weight)
        assert drawn.min() <= low[row] <= high[row] <= drawn.max()
        days = (hours[group[row]] > 0).sum()
        alone = bootstrap_bounds(csr_array(calls[[row]]), csr_array(hours[[group[row]]]), np.zeros(1, int), 200, 0)
        assert alone[0][0] == pytest.approx(low[row]) and alone[1][0] == pytest.approx(high[row]) and days > 1


@pytest.mark.parametrize(("days", "spread", "least"), [
    (1, None, 0.95), (3, None, 0.95), (30, None, 0.94),  # calls that know nothing of each other
    (10, 0.5, 0.84), (30, 0.5, 0.88), (30, 2.0, 0.91),  # days that differ: gamma distributed rates of this shape
])  # fmt: skip
def test_intervals_hold_the_true_rate(days, spread, least):
    rng = np.random.default_rng(days)
    hours = rng.uniform(0.5, 1.5, (1, days))
    rate = np.full((600, days), 3.0) if spread is None else rng.gamma(spread, 3.0 / spread, (600, days))
    calls = rng.poisson(rate * hours).astype(float)
    low, high = intervals(csr_array(calls), csr_array(hours), np.zeros(600, int), 500, 0)
    held = np.mean((low <= 3.0) & (high >= 3.0))
    assert least <= held < 1.0, held


def test_zero_calls_and_single_days_have_an_upper_end():
    low, high = intervals(csr_array(np.zeros((1, 20))), csr_array(np.ones((1, 20))), np.zeros(1, int))
    assert low[0] == 0 and high[0] == pytest.approx(chi2.ppf(0.975, 2) / 2 / 20)


# ---- what counts are worth


def test_expected_true_calls_are_calls_times_precision_where_it_is_known():
    recordings = recorded(("/a.wav", 3600.0, "done", "2023-05-14T04:00:00", "pond"))
    calls = detected(*(("/a.wav", i, i + 1, "owl" if i % 2 else "thrush", 0.9) for i in range(10)))
    known = {"owl": Precision(0.8, 50, 50), "crake": Precision(0.9)}
    summary = summaries(calls, recordings, Evidence(known, ["owl", "thrush", "crake"]))
    rows = summary.tables["summary"].set_index("label")
    assert rows["calls_expected_true"].to_dict() == pytest.approx(
        {"crake": 0.0, "owl": 4.0, "thrush": np.nan}, nan_ok=True
    )
    assert rows["calls"].to_dict() == {"crake": 0, "owl": 5, "thrush": 5} and rows.loc["crake", "high"] > 3
    assert any("not known for 1 label(s): thrush" in note for note in summary.notes)
    low, high = binomtest(40, 50).proportion_ci()
    ends = rows.loc["owl", ["calls_expected_true_low", "calls_expected_true_high"]].tolist()
    assert ends == pytest.approx([5 * low, 5 * high]) and np.isnan(rows.loc["crake", "precision_low"])
    assert rows.loc["owl", ["positives", "reported"]].tolist() == [50, 50] and pd.isna(rows.loc["crake", "positives"])
    with pytest.raises(AudiorepError, match="precision of 'owl'"):
        Evidence({"owl": Precision(1.2)})


def test_overlapping_recordings_of_a_site_are_told():
    recordings = recorded(
        ("/a.wav", 3600.0, "done", "2023-05-14T04:00:00", "pond"), ("/b.wav", 1200.0, "done", "2023-05-14T04:30:00", "pond"),
        ("/c.wav", 1800.0, "done", "2023-05-14T04:45:00", "pond"), ("/d.wav", 3600.0, "done", "2023-05-14T04:00:00", "wood"),
    )  # fmt: skip
    summary = summaries(detected(), recordings)
    assert overlap_us(summary.found.recordings).tolist() == [(1200 + 900) * 1_000_000, 0]
    assert any("At 1 site(s) recordings overlap in time (pond 0.583 h)" in note for note in summary.notes)


def test_no_detection_gives_zeros_with_effort(tmp_path):
    calls, recordings = season(3)
    summary = summarise(calls.iloc[:0], recordings, tmp_path)
    row = summary.tables["summary"].iloc[0]
    assert (row["label"], row["calls"]) == ("any call", 0) and row["effort_h"] == pytest.approx(1.0) and row["high"] > 0
    named = summaries(calls.iloc[:0], recordings, Evidence(looked_for=["owl", "thrush"])).tables
    assert named["summary"]["label"].tolist() == ["owl", "thrush"] and named["summary"]["calls"].sum() == 0
    assert "Nothing was detected" in (tmp_path / "summary.html").read_text()


# ---- wrong input


@pytest.mark.parametrize(("change", "message"), [
    ({"detections": {"label": None}}, r"detections: no column 'label'; there are: path, start_s, end_s, score"),
    ({"recordings": {"duration_s": None}}, "recordings: no column 'duration_s'"),
    ({"detections": {"path": "/other.wav"}}, r"detections: 1 are in recordings that are not in the table.*row 2: /other.wav"),
    ({"recordings": {"recorded_at": "14.5.2023"}}, r"row 2: /a.wav: recorded_at='14.5.2023' is no date and time"),
    ({"recordings": {"duration_s": -1.0}}, r"row 2: /a.wav: duration_s=-1.0 is no duration"),
    ({"recordings": {"duration_s": float("nan")}}, "is no duration"),
    ({"recordings": {"duration_s": 1e9}}, "up to a year"),
    ({"recordings": {"status": "failed"}}, r"1 are in recordings that failed, the first in row 2: /a.wav"),
    ({"recordings": {"site": "all sites"}}, "rename it"),
    ({"detections": {"label": " "}}, r"row 2: /a.wav: column 'label' is empty"),
    ({"detections": {"start_s": -1.0}}, "no stretch of time"),
    ({"detections": {"end_s": 1.0}}, "no stretch of time"),
    ({"detections": {"start_s": 61.0, "end_s": 62.0}}, r"start_s=61 lies past the end of the recording \(60 s\)"),
])  # fmt: skip
def test_wrong_tables_are_refused_with_their_row(change, message):
    tables = {
        "detections": detected(("/a.wav", 2.0, 3.0, "owl", 0.9)),
        "recordings": recorded(("/a.wav", 60.0, "done", "2023-05-14T04:00:00", "pond")),
    }
    for name, cells in change.items():
        for column, value in cells.items():
            table = tables[name]
            tables[name] = table.drop(columns=column) if value is None else table.assign(**{column: value})
    with pytest.raises(AudiorepError, match=message):
        summaries(tables["detections"], tables["recordings"])


def test_recordings_that_are_named_twice_or_not_at_all_are_refused():
    row = ("/a.wav", 60.0, "done", "2023-05-14T04:00:00", "pond")
    with pytest.raises(AudiorepError, match="1 path\\(s\\) are named twice, the first in row 3: /a.wav"):
        summaries(detected(), recorded(row, row))
    with pytest.raises(AudiorepError, match="no rows"):
        summaries(detected(), recorded())
    with pytest.raises(AudiorepError, match="none was listened to"):
        summaries(detected(), recorded(("/a.wav", None, "failed", "", "")))
    with pytest.raises(AudiorepError, match="resamples=1"):
        summaries(detected(), recorded(row), resamples=1)


# ---- pictures and page


def test_pictures_are_small_and_the_page_needs_nothing_else(tmp_path):
    calls, recordings = season()
    calls["label"] = [f"<b>{label}</b> {number % 2}" for number, label in enumerate(calls["label"])]
    summarise(calls, recordings, tmp_path, title="a & b")
    for name in PICTURES:
        with Image.open(tmp_path / name) as image:
            assert image.width > 400 and len(np.unique(np.asarray(image.convert("L")))) > 20
        assert (tmp_path / name).stat().st_size < 300_000
    page = (tmp_path / "summary.html").read_text()
    assert page.count('<img src="data:image/png;base64,') == len(PICTURES) == page.count(' alt="')
    assert "<b>thrush" not in page and "&lt;b&gt;thrush&lt;/b&gt; 0" in page and "a &amp; b" in page
    assert "http" not in page.replace("http-equiv", "") and "<script" not in page


@pytest.mark.parametrize("days", [1, 2, 3, 7, 30, 89, 120, 700, 1000, 4000])
def test_dates_are_few_and_come_without_a_warning(days):
    axes = Figure().subplots()
    dated(axes)
    axes.set_xlim(np.datetime64("2023-05-14"), np.datetime64("2023-05-14") + days)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert 1 <= len(axes.get_xticks()) <= MOST_DATES + 1


def test_rates_are_written_out():
    calls = pd.Series(
        {"label": "owl", "calls": 1295, "calls_per_h": 1300.4, "low": 12.34, "high": 0.5, "not_looked_for": ""}
    )
    assert line_of(calls) == "owl: 1,295 calls, 1,300 per hour (12.3 to 0.5)"


def test_what_an_earlier_summary_left_is_replaced(tmp_path):
    calls, recordings = season(3)
    summarise(calls, recordings, tmp_path)
    assert (tmp_path / "by_hour.csv").exists()
    plain = recordings.assign(path=[f"/d/{i}.wav" for i in range(len(recordings))], recorded_at="")
    summarise(calls.iloc[:0], plain, tmp_path)
    assert not (tmp_path / "by_hour.csv").exists() and not (tmp_path / "diel.png").exists()


# ---- the command


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


@pytest.fixture
def detect_folder(tmp_path: Path) -> Path:
    """What detect leaves: of recordings that are not there any more."""
    calls, recordings = season(3)
    folder = tmp_path / "found"
    folder.mkdir()
    calls.to_parquet(folder / "detections.parquet")
    recordings.assign(lat="", lon="", recorder="").to_csv(folder / "recordings.csv", index=False)
    return folder


def test_summarise_reads_what_detect_left(detect_folder, tmp_path):
    (tmp_path / "thresholds.json").write_text(
        json.dumps({"classes": {"owl": {"precision": 0.9}, "thrush": {"precision": None}}})
    )
    out = tmp_path / "out"
    assert (
        run("summarise", f"detections={detect_folder}", f"thresholds={tmp_path}", f"out={out}", "utc_offset_h=2") == 0
    )
    table = pd.read_csv(out / "summary.csv").set_index("label")
    calls = pd.read_parquet(detect_folder / "detections.parquet")
    assert table["calls"].to_dict() == calls["label"].value_counts().to_dict()
    assert table["calls_expected_true"].notna().to_dict() == {"owl": True, "thrush": False}
    assert pd.read_csv(out / "by_hour.csv")["hour"].min() == 6  # 4:59 in UTC


def test_summarise_reads_annotations_and_takes_their_recordings_for_what_was_listened_to(tmp_path):
    for hour in (4, 5):
        wav(tmp_path / f"A_20230514_0{hour}0000.wav", 2.0)
    (tmp_path / "corpus.csv").write_text(
        "path,start_s,end_s,label\nA_20230514_040000.wav,0,1,owl|thrush\nA_20230514_040000.wav,1,2,owl\nA_20230514_050000.wav,,,\n"
    )
    out = tmp_path / "out"
    assert run("summarise", f"detections={tmp_path / 'corpus.csv'}", f"out={out}") == 0
    table = pd.read_csv(out / "by_hour.csv").set_index(["label", "hour"])
    assert table["calls"].to_dict() == {("owl", 4): 2, ("owl", 5): 0, ("thrush", 4): 1, ("thrush", 5): 0}
    assert table["effort_h"].tolist() == pytest.approx([2 / 3600] * 4, rel=1e-6)


def test_recordings_may_be_a_folder_or_a_table_without_the_sound(tmp_path, capsys, monkeypatch):
    for hour in (4, 5, 6):
        wav(tmp_path / "rec" / f"A_20230514_0{hour}0000.wav", 2.0)
    (tmp_path / "rec" / "calls.csv").write_text("path,start_s,end_s,label\nA_20230514_040000.wav,0,1,owl\n")
    monkeypatch.chdir(tmp_path)
    words = ["detections=rec/calls.csv", "overwrite=true", f"out={tmp_path / 'out'}"]
    assert run("summarise", *words, f"recordings={tmp_path / 'rec'}") == 0
    assert pd.read_csv(tmp_path / "out" / "by_hour.csv")["hour"].tolist() == [4, 5, 6]
    assert run("summarise", f"detections={tmp_path / 'rec'}", f"out={tmp_path / 'none'}") == 2
    assert "no row has a label" in capsys.readouterr().err
    (tmp_path / "rec" / "heard.csv").write_text("path,duration_s\nA_20230514_040000.wav,60\nA_20230514_070000.wav,60\n")
    assert run("summarise", *words, f"recordings={tmp_path / 'rec' / 'heard.csv'}") == 0
    assert pd.read_csv(tmp_path / "out" / "by_hour.csv")["hour"].tolist() == [4, 7]


@pytest.mark.parametrize("sound", ["where it was", "moved", "gone"])
def test_the_raven_tables_of_detect_find_their_recordings(tmp_path, sound):
    """Tables in a folder of their own: by the path that they name, among recordings=, or with a table of recordings."""
    calls = [(wav(tmp_path / "birds" / site / "20230514_060000.wav", 3.0), n) for n, site in enumerate("ab", 1)]
    calls.append((wav(tmp_path / "birds" / "a" / "20230514_070000.wav", 3.0), 3))
    wav(tmp_path / "birds" / "c" / "20230514_080000.wav", 3.0)  # where nothing was heard
    rows = [(str(path), n + i / 100, n + 1.0, "owl", 0.9) for path, n in calls for i in range(n) if n < 3]
    found = detected(*rows, (str(calls[2][0]), 0.5, 1.0, "owl", 0.9))
    place = tmp_path / "detections" / "raven"
    place.mkdir(parents=True)
    raven.write(found, place, tmp_path / "birds")
    words = [f"detections={place}", f"out={tmp_path / 'out'}", "overwrite=true"]
    counts = {"a/20230514_060000.wav": 1, "b/20230514_060000.wav": 2, "a/20230514_070000.wav": 1}
    root = tmp_path / "birds"
    if sound == "where it was":
        assert run("summarise", *words) == 0
        assert heard_in(tmp_path / "out", root) == counts
    if sound == "moved":
        root = (tmp_path / "birds").rename(tmp_path / "elsewhere")
    if sound == "gone":
        shutil.rmtree(tmp_path / "birds")
        table = tmp_path / "recordings.csv"
        table.write_text(f"path,duration_s\n{calls[2][0]},3\nx/20230514_080000.wav,3\n")
        shutil.rmtree(place / "b")
        (place / "a" / "20230514_060000.Table.1.selections.txt").unlink()
        assert run("summarise", *words, f"recordings={table}") == 0
        assert heard_in(tmp_path / "out", root) == {"a/20230514_070000.wav": 1}
        return
    assert run("summarise", *words, f"recordings={root}") == 0
    assert heard_in(tmp_path / "out", root) == counts
    assert pd.read_csv(tmp_path / "out" / "by_recording.csv")["path"].nunique() == 4


def heard_in(out: Path, root: Path) -> dict[str, int]:
    table = pd.read_csv(out / "by_recording.csv")
    table = table[table["calls"] > 0]
    return {str(Path(path).relative_to(root)): calls for path, calls in zip(table["path"], table["calls"], strict=True)}


def test_a_table_of_times_counts_before_all_else(detect_folder, tmp_path):
    recordings = pd.read_csv(detect_folder / "recordings.csv")
    told = tmp_path / "times.csv"
    recordings["path"] = [f"/d/{site}/{i}.wav" for i, site in enumerate(recordings["site"])]

    def read(*rows: str) -> pd.DataFrame:
        told.write_text("\n".join(["path,recorded_at,site", *rows]))
        return with_times(recordings, told)

    changed = read("/d/pond/0.wav,2023-06-01T12:00:00,lake", "1.wav,,lake", "elsewhere.wav,2023-06-01T12:00:00,")
    assert changed["site"].tolist() == ["lake", "lake", *recordings["site"][2:]]
    assert changed["recorded_at"].tolist() == ["2023-06-01T12:00:00", *recordings["recorded_at"][1:]]
    with pytest.raises(AudiorepError, match=r"times.csv: row 3: recorded_at='noon' is no date and time"):
        read("0.wav,2023-06-01T12:00:00,", "1.wav,noon,")
    with pytest.raises(AudiorepError, match="row 3: /d/pond/0.wav is named twice"):
        read("0.wav,,lake", "/d/pond/0.wav,,pond")
    with pytest.raises(AudiorepError, match=r"none of its paths is among the recordings, the first: x.wav"):
        read("x.wav,,lake")
    recordings["path"] = [f"/d/{i}/a.wav" for i in range(len(recordings))]
    with pytest.raises(AudiorepError, match=r"row 2: several recordings are called a.wav: give the path"):
        read("a.wav,,lake")
    told.write_text("file,when\na.wav,x\n")
    with pytest.raises(AudiorepError, match="has the columns path and recorded_at"):
        with_times(recordings, told)


@pytest.mark.parametrize(("words", "message"), [
    (["detections=nowhere"], "detections=nowhere: no such file or folder"),
    (["times=nowhere.csv"], "times=nowhere.csv: no such table"),
    (["recordings=nowhere.csv"], "recordings=nowhere.csv: no such table or folder"),
    (["thresholds=nowhere.json"], "cannot read nowhere.json"),
    (["site_from=moon"], "site_from=moon: there are auto, recorder, name, folder"),
    (["utc_offset_h=20"], "utc_offset_h=20"),
])  # fmt: skip
def test_wrong_words_are_refused_in_one_line(detect_folder, tmp_path, words, message, capsys):
    assert run("summarise", f"detections={detect_folder}", *words, f"out={tmp_path / 'out'}") == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("audiorep: ")]
    assert len(lines) == 1 and message in lines[0]
    assert not (tmp_path / "out" / "summary.csv").exists()
