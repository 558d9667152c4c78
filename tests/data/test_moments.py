"""Times in the names of recordings: customary forms are read, doubtful ones give nothing; and the wall clock."""

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiorep.data.moments import moment, moments, wall_clock
from audiorep.errors import AudiorepError


@pytest.mark.parametrize(("stem", "when", "prefix"), [
    ("20230514_063000", "2023-05-14T06:30:00", ""),  # AudioMoth
    ("20230514_063000T", "2023-05-14T06:30:00", ""),  # AudioMoth, triggered
    ("SITE_20230514_063000", "2023-05-14T06:30:00", "SITE"),  # Wildlife Acoustics
    ("S4A01234_20230514_063000_000", "2023-05-14T06:30:00", "S4A01234"),
    ("2MU04567-A_0+1_20230514_063000", "2023-05-14T06:30:00", "2MU04567-A_0+1"),
    ("SITE_20230514_063000Z", "2023-05-14T06:30:00+00:00", "SITE"),
    ("SITE_20230514_063000+0200", "2023-05-14T06:30:00+02:00", "SITE"),
    ("SITE_20230514_063000-0500", "2023-05-14T06:30:00-05:00", "SITE"),
    ("SITE_20230514_063000_-0500", "2023-05-14T06:30:00-05:00", "SITE"),
    ("20230514T063000+1000_Bush", "2023-05-14T06:30:00+10:00", ""),  # Frontier Labs
    ("2023-05-14T06-30-00", "2023-05-14T06:30:00", ""),
    ("pond 2023-05-14T06-30-00Z", "2023-05-14T06:30:00+00:00", "pond"),
    ("2023-05-14_06.30.00+05:30", "2023-05-14T06:30:00+05:30", ""),
    ("20230514T063000", "2023-05-14T06:30:00", ""),
    ("20230514063000", "2023-05-14T06:30:00", ""),
    ("20230514_063000_20230514_063000", "2023-05-14T06:30:00", ""),  # the same time twice
    ("20230514_063000-0123", "2023-05-14T06:30:00", ""),  # no clock is 1 h 23 min off: a counter
    ("20230514_063000-2000", "2023-05-14T06:30:00", ""),
    ("20230514_063000-063100", "2023-05-14T06:30:00", ""),  # an end, not an offset
    ("20230514_063000Zoo", "2023-05-14T06:30:00", ""),
    ("5C3E2D10", "2019-01-15T18:57:20+00:00", ""),  # early AudioMoth: seconds since 1970, in UTC
])  # fmt: skip
def test_customary_names_tell_their_time(stem, when, prefix):
    assert moment(stem) == (when, prefix)


@pytest.mark.parametrize("stem", [
    "recording_001", "", "20230514", "20230514_0630", "20231314_063000", "20230514_246000", "20230230_120000",
    "20230514_063000_20230514_073000",  # begin and end: which?
    "14052023_063000", "120230514_063000", "20230514_0630001", "19700101_000012",  # a clock that was not set
    "DEADBEEF", "5c3e2d10", "5C3E2D1", "5C3E2D10A", "00000000", "20190514", "58000000",
])  # fmt: skip
def test_doubtful_names_tell_nothing(stem):
    assert moment(stem) is None


def test_eight_digits_are_hexadecimal_only_among_names_that_are():
    assert moments(["58000000", "5C3E2D10", "5C3E2F68"])["recorded_at"].tolist() == [
        datetime.fromtimestamp(0x58000000, UTC).isoformat(), "2019-01-15T18:57:20+00:00", "2019-01-15T19:07:20+00:00",
    ]  # fmt: skip
    assert moments(["58000000", "60000001", "5C3E2D10"])["recorded_at"].tolist()[:2] == ["", ""]
    assert moments([]).columns.tolist() == ["recorded_at", "prefix"]


@given(
    when=st.datetimes(datetime(1971, 1, 1), datetime(2099, 12, 31)).map(lambda t: t.replace(microsecond=0)),
    form=st.sampled_from(["%Y%m%d_%H%M%S", "%Y-%m-%dT%H-%M-%S", "%Y%m%dT%H%M%S", "%Y%m%d%H%M%S", "%Y-%m-%d %H.%M.%S"]),
    quarters=st.none() | st.integers(-48, 56),
    site=st.from_regex(r"[A-Za-z]{0,6}", fullmatch=True),
)
def test_what_is_written_is_read(when, form, quarters, site):
    zone = None if quarters is None else timezone(timedelta(minutes=15 * quarters))
    when = when.replace(tzinfo=zone)
    stem = when.strftime(f"{site}_{form}%z" if site else f"{form}%z")
    assert moment(stem) == (when.isoformat(), site)


def test_the_wall_clock_is_what_is_written_unless_an_offset_is_asked_for():
    cells = ["2023-05-14T06:30:00", "2023-05-14T06:30:00+02:00", "2023-05-14T06:30:00Z", "20230514T063000-0530", "", None,
             "2023-05-14", "yesterday", "2023-05-14 06:30", "2023-05-14T06:30:00.250"]  # fmt: skip
    plain = wall_clock(pd.Series(cells))
    told = ["2023-05-14T06:30"] * 4 + [None] * 4 + ["2023-05-14T06:30", "2023-05-14T06:30:00.250"]
    assert plain["wall"].tolist() == [pd.Timestamp(t) if t else pd.NaT for t in told]
    assert np.array_equal(plain["offset_h"], [np.nan, 2, 0, -5.5] + [np.nan] * 6, equal_nan=True)
    local = wall_clock(pd.Series(cells), 1.0)["wall"]
    assert [t.strftime("%H:%M") for t in local[:4]] == ["07:30", "05:30", "07:30", "13:00"]
    assert local[4:8].isna().all()


@pytest.mark.parametrize("hours", [15.0, -14.5, float("nan")])
def test_offsets_that_no_clock_has_are_refused(hours):
    with pytest.raises(AudiorepError, match="utc_offset_h"):
        wall_clock(pd.Series(["2023-05-14T06:30:00"]), hours)
