"""When a recording was made: from the name of its file, or from a text in ISO 8601."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas as pd

from audiorep.errors import AudiorepError

WRITTEN = re.compile(
    r"(?<!\d)(?P<date>(?:19|20)\d\d(?P<between>[-_.]?)\d\d(?P=between)\d\d)[T_ $-]?"
    r"(?P<time>\d\d(?P<within>[-_.:]?)\d\d(?P=within)\d\d)(?!\d)"
    r"(?:[_ ]?(?:(?P<utc>Z)(?![A-Za-z])|(?P<sign>[+-])(?P<hours>\d\d)[:-]?(?P<minutes>\d\d)(?!\d)))?"
)
"""Year, month, day, hour, minute and second, with any one separator or none, and perhaps an offset from UTC."""

HEX = re.compile(r"[0-9A-F]{8}")
HEX_YEARS = (2016, 2035)
"""AudioMoth was built from 2017 on; its firmware soon gave up names of eight hexadecimal digits."""

NOT_SET = datetime(1970, 1, 1).date()
"""The date of a clock that was not set."""

ISO = r"^\s*(?P<wall>\d{4}-?\d{2}-?\d{2}[T ]\d{2}:?\d{2}(?::?\d{2}(?:[.,]\d+)?)?)\s*(?P<zone>Z|[+-]\d{2}(?::?\d{2})?)?\s*$"
FARTHEST_H = 14.0
"""No clock is farther from UTC."""

FORMS = "20230514_063000.wav, SITE_20230514_063000+0200.wav, 2023-05-14T06-30-00Z.wav"
"""Names that are understood, to be shown where none was."""


def moments(stems: Iterable[str]) -> pd.DataFrame:
    """What the names of recordings (without ending) tell: ``recorded_at`` (ISO 8601) and ``prefix``, what stands before it.

    Understood are year to second in this order, as AudioMoth (``20230514_063000``), Wildlife Acoustics
    (``SITE_20230514_063000``), Frontier Labs (``20230514T063000+1000_SITE``) and many others write it, with or without an
    offset from UTC, and the eight hexadecimal digits of early AudioMoths (``5C3E2D10``, seconds since 1970 in UTC).
    A name without an offset tells the time of the recorder's clock, whatever that is set to.

    Both are "" where a name tells nothing or two different times, and for 1 January 1970, a clock that was not set.
    Eight digits without a letter may be hexadecimal or a plain number: they are believed only where more of the names are
    hexadecimal beyond doubt.
    """
    names = list(stems)
    found = [moment(name) for name in names]
    doubtful = [row for row, name in enumerate(names) if name.isdecimal() and found[row] is None and hexadecimal(name)]
    certain = sum(one is not None and HEX.fullmatch(name) is not None for one, name in zip(found, names, strict=True))
    if certain > len(doubtful):
        for row in doubtful:
            found[row] = (str(hexadecimal(names[row])), "")
    return pd.DataFrame([one or ("", "") for one in found], columns=["recorded_at", "prefix"], dtype=object)


def moment(stem: str) -> tuple[str, str] | None:
    """The time in one name as ISO 8601, and what stands before it; None where there is none or more than one."""
    told: dict[str, str] = {}
    for match in WRITTEN.finditer(stem):
        if (when := _written(match)) is not None:
            told.setdefault(when, stem[: match.start()].rstrip("_-. "))
    if len(told) == 1:
        return next(iter(told.items()))
    if told or stem.isdecimal() or (when := hexadecimal(stem)) is None:
        return None
    return when, ""


def hexadecimal(stem: str) -> str | None:
    """Eight hexadecimal digits as the time in UTC that they count from 1970; None where it lies outside `HEX_YEARS`."""
    if HEX.fullmatch(stem) is None:
        return None
    when = datetime.fromtimestamp(int(stem, 16), UTC)
    return when.isoformat() if HEX_YEARS[0] <= when.year < HEX_YEARS[1] else None


def wall_clock(recorded_at: pd.Series, utc_offset_h: float | None = None) -> pd.DataFrame:
    """ISO 8601 as ``wall`` (datetime64, what the clock showed) and ``offset_h`` (of that clock from UTC, NaN if not told).

    Args:
        recorded_at: date and time, with or without an offset; blank: not known.
        utc_offset_h: bring every time to this offset; those without one are taken to be UTC. None: each stays as it is.

    Returns:
        NaT where a cell is blank or holds no date and time.

    Raises:
        AudiorepError: an offset that no clock has.
    """
    if utc_offset_h is not None and not abs(utc_offset_h) <= FARTHEST_H:
        raise AudiorepError(f"utc_offset_h={utc_offset_h}: hours from UTC, between -{FARTHEST_H:g} and {FARTHEST_H:g}")
    parts = recorded_at.astype(str).str.extract(ISO)
    text = parts["wall"].str.replace(",", ".", regex=False)
    wall = pd.to_datetime(text, format="ISO8601", errors="coerce").astype("datetime64[us]")
    hours = {zone: _hours(zone) for zone in parts["zone"].dropna().unique()}
    offset_h = parts["zone"].map(hours).astype(float)
    if utc_offset_h is not None:
        wall += pd.to_timedelta(utc_offset_h - offset_h.fillna(0.0), unit="h").astype("timedelta64[us]")
        offset_h = pd.Series(np.where(wall.isna(), np.nan, utc_offset_h), wall.index)
    return pd.DataFrame({"wall": wall, "offset_h": offset_h})


def _written(match: re.Match[str]) -> str | None:
    text = re.sub(r"\D", "", match["date"] + match["time"])
    try:
        when = datetime(
            int(text[:4]), int(text[4:6]), int(text[6:8]), int(text[8:10]), int(text[10:12]), int(text[12:])
        )
    except ValueError:
        return None
    if when.date() == NOT_SET:
        return None
    return when.replace(tzinfo=_zone(match)).isoformat()


def _zone(match: re.Match[str]) -> timezone | None:
    """The offset after a time; None where there is none, or what looks like one is no clock's."""
    if match["utc"]:
        return UTC
    if not match["sign"]:
        return None
    hours, minutes = int(match["hours"]), int(match["minutes"])
    if hours > FARTHEST_H or minutes not in (0, 15, 30, 45):
        return None
    ahead = timedelta(hours=hours, minutes=minutes)
    return timezone(ahead if match["sign"] == "+" else -ahead)


def _hours(zone: str) -> float:
    """ "+05:30" as 5.5, "Z" as 0."""
    if zone == "Z":
        return 0.0
    digits = zone[1:].replace(":", "")
    hours = int(digits[:2]) + int(digits[2:] or 0) / 60.0
    return -hours if zone[0] == "-" else hours
