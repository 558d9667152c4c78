"""What was listened to and what was heard, checked and cut at the hours of the clock.

Times are whole microseconds inside, so that no hour gains or loses by rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int

from audiorep.data.guano import blank
from audiorep.data.moments import wall_clock
from audiorep.data.recordings import from_names
from audiorep.errors import AudiorepError

SECOND_US = 1_000_000
HOUR_US = 3600 * SECOND_US
PAST_END_S = 0.05
"""A call that begins this little after the end of its recording is taken to be rounded; more is an error."""

LONGEST_S = 366 * 86400.0
MOST_UNITS = 4000
"""Recordings without a time are joined to this many units at most."""

DONE = "done"
NO_CALL = "any call"
"""The label of tables without any."""

NO_TIME = np.iinfo(np.int64).min


@dataclass(frozen=True)
class Listened:
    """Recordings that were listened to, and the calls in them, cut at the hours.

    recordings: path, site, duration_us, begin_us (of the wall clock, from 1970; `NO_TIME`), offset_h, lat, lon, unit.
    calls: recording (row), label, begin_us (of the wall clock, or in the recording), length_us, score.
    effort: site, unit, hour (from 1970; `NO_TIME`), us, recordings: a row for each hour of each site.
    heard: label, site, unit, hour, calls (that begin in it), us (of calls in it): the same of each label.
    sites, labels: names of their numbers. failed: recordings that could not be listened to.

    A unit is what intervals are drawn from: a day (from 1970), or a recording without a time.
    """

    recordings: pd.DataFrame
    calls: pd.DataFrame
    effort: pd.DataFrame
    heard: pd.DataFrame
    sites: tuple[str, ...]
    labels: tuple[str, ...]
    failed: int

    @property
    def timed(self) -> bool:
        """Whether any recording tells its time."""
        return bool((self.recordings["begin_us"] != NO_TIME).any())


def listened(
    detections: pd.DataFrame,
    recordings: pd.DataFrame,
    labels: Sequence[str] = (),
    utc_offset_h: float | None = None,
) -> Listened:
    """Check both tables, put them on the wall clock and cut them at the hours.

    Args:
        detections: path, start_s, end_s, label, and score if there is one.
        recordings: path, duration_s, and status, recorded_at, site, lat, lon as far as they are there. What is no ``done``
            counts for nothing; blank times and sites are filled in from the names of files and folders.
        labels: what was listened for besides what was heard.
        utc_offset_h: see `audiorep.data.moments.wall_clock`.

    Raises:
        AudiorepError: a column that is missing, a recording that is named twice, calls in recordings that are not in the
            table or failed, and cells that cannot be; names column, row and path.
    """
    every = check_recordings(recordings)
    done = every["status"] == DONE
    heard = check_calls(detections, every, done)
    every = every[done].reset_index(drop=True)
    if not len(every):
        raise AudiorepError("recordings: none was listened to to its end, so there is nothing to summarise")
    every = on_the_clock(every, utc_offset_h)
    names, every["site"] = np.unique(every["site"].astype(str), return_inverse=True)
    heard["label"], kinds = numbered(heard["label"], labels)
    begin_us = every["begin_us"].to_numpy()[heard["recording"]]
    heard["begin_us"] += np.where(begin_us == NO_TIME, 0, begin_us)
    return Listened(
        every,
        heard,
        effort_by_hour(every),
        calls_by_hour(every, heard),
        tuple(map(str, names)),
        kinds,
        int((~done).sum()),
    )


def check_recordings(table: pd.DataFrame) -> pd.DataFrame:
    """The recordings with all columns and right types; see `listened`."""
    need(table, ("path", "duration_s"), "recordings")
    frame = table.reset_index(drop=True)
    if not len(frame):
        raise AudiorepError("recordings: no rows, so nothing was listened to")
    if (twice := frame["path"].duplicated()).any():
        raise AudiorepError(f"recordings: {int(twice.sum())} path(s) are named twice, {first(frame, twice)}")
    status = frame["status"].fillna("").astype(str) if "status" in frame else pd.Series(DONE, frame.index)
    duration_s = pd.to_numeric(frame["duration_s"], errors="coerce").astype(float)
    bad = (status == DONE) & ~((duration_s * SECOND_US >= 1.0) & (duration_s <= LONGEST_S))
    if bad.any():
        cell = frame["duration_s"][bad].iloc[0]
        raise AudiorepError(
            f"recordings: {first(frame, bad)}: duration_s={cell} is no duration: seconds, above 0 and up to a year"
        )
    frame = from_names(frame.assign(status=status, duration_s=duration_s))
    for name in ("lat", "lon"):
        frame[name] = pd.to_numeric(frame[name], errors="coerce") if name in frame else np.nan
    return frame


def check_calls(table: pd.DataFrame, recordings: pd.DataFrame, done: pd.Series) -> pd.DataFrame:
    """The calls as rows of recordings that are done, in microseconds from their begin; see `listened`."""
    need(table, ("path", "start_s", "end_s", "label"), "detections")
    frame = table.reset_index(drop=True)
    row = pd.Index(recordings["path"]).get_indexer(frame["path"])
    if (stray := row < 0).any():
        raise AudiorepError(
            f"detections: {int(stray.sum())} are in recordings that are not in the table of recordings, "
            f"{first(frame, stray)}: add a row for every recording that was listened to"
        )
    if len(frame) and (lost := ~done.to_numpy()[row]).any():
        raise AudiorepError(
            f"detections: {int(lost.sum())} are in recordings that failed, {first(frame, lost)}: listen to these again"
        )
    if (nameless := blank(frame["label"])).any():
        raise AudiorepError(f"detections: {first(frame, nameless)}: column 'label' is empty")
    start_s, end_s = (pd.to_numeric(frame[name], errors="coerce").to_numpy(float) for name in ("start_s", "end_s"))
    duration_s = recordings["duration_s"].to_numpy(float)[row]
    if (bad := ~((start_s >= 0) & (end_s >= start_s) & np.isfinite(end_s))).any():
        raise AudiorepError(f"detections: {first(frame, bad)}: start_s and end_s are no stretch of time, in s")
    if (late := start_s > duration_s + PAST_END_S).any():
        at = int(late.argmax())
        raise AudiorepError(
            f"detections: {first(frame, late)}: start_s={start_s[at]:g} lies past the end of the recording "
            f"({duration_s[at]:g} s)"
        )
    last_us = np.maximum(microseconds(duration_s) - 1, 0)
    begin_us = np.minimum(microseconds(start_s), last_us)
    score = pd.to_numeric(frame["score"], errors="coerce") if "score" in frame else pd.Series(np.nan, frame.index)
    return pd.DataFrame(
        {
            "recording": (np.cumsum(done.to_numpy()) - 1)[row],
            "label": frame["label"].astype(str),
            "begin_us": begin_us,
            "length_us": np.clip(microseconds(end_s) - begin_us, 0, last_us + 1 - begin_us),
            "score": score.astype(float),
        }
    )


def on_the_clock(frame: pd.DataFrame, utc_offset_h: float | None) -> pd.DataFrame:
    """With begin_us, offset_h, duration_us and unit; see `Listened`."""
    clock = wall_clock(frame["recorded_at"], utc_offset_h)
    if (bad := clock["wall"].isna() & ~blank(frame["recorded_at"])).any():
        cell = frame["recorded_at"][bad].iloc[0]
        raise AudiorepError(
            f"recordings: {first(frame, bad)}: recorded_at={cell!r} is no date and time: write 2023-05-14T06:30:00, with an "
            "offset from UTC (+02:00) if it is known, or leave it empty"
        )
    begin_us = clock["wall"].to_numpy().astype("datetime64[us]").astype(np.int64)  # NaT becomes NO_TIME
    timed = begin_us != NO_TIME
    untimed = np.cumsum(~timed) - 1
    joined = untimed * min(MOST_UNITS, max(1, untimed[-1] + 1)) // max(1, untimed[-1] + 1)
    return frame.assign(
        begin_us=begin_us,
        offset_h=clock["offset_h"],
        duration_us=microseconds(frame["duration_s"].to_numpy(float)),
        unit=np.where(timed, 0, -1 - joined),
    )


def numbered(cells: pd.Series, more: Sequence[str]) -> tuple[Int[np.ndarray, " n"], tuple[str, ...]]:
    """Labels as numbers in the order of their names, and the names."""
    code, seen = pd.factorize(cells)
    names = sorted({*map(str, seen), *more}) or [NO_CALL]
    place = {name: number for number, name in enumerate(names)}
    return np.array([place[str(name)] for name in seen], np.int64)[code], tuple(names)


def effort_by_hour(recordings: pd.DataFrame) -> pd.DataFrame:
    """What was listened to in each hour of each site; see `Listened`."""
    row, hour, us = by_hour(recordings["begin_us"].to_numpy(), recordings["duration_us"].to_numpy())
    cells = pd.DataFrame({"site": recordings["site"].to_numpy()[row], "hour": hour, "us": us})
    cells["unit"] = units(recordings["unit"].to_numpy()[row], hour)
    return cells.groupby(["site", "unit", "hour"]).agg(us=("us", "sum"), recordings=("us", "size")).reset_index()


def calls_by_hour(recordings: pd.DataFrame, calls: pd.DataFrame) -> pd.DataFrame:
    """The calls of each label in each hour of each site: counted where they begin, their length where it lies."""
    recording = calls["recording"].to_numpy()
    timed = recordings["begin_us"].to_numpy()[recording] != NO_TIME
    row, hour, us = by_hour(np.where(timed, calls["begin_us"], NO_TIME), calls["length_us"].to_numpy())
    begins = np.append(True, row[1:] != row[:-1])[: len(row)]
    cells = pd.DataFrame(
        {
            "label": calls["label"].to_numpy()[row],
            "site": recordings["site"].to_numpy()[recording[row]],
            "unit": units(recordings["unit"].to_numpy()[recording[row]], hour),
            "hour": hour,
            "calls": begins.astype(np.int64),
            "us": us,
        }
    )
    return cells.groupby(["label", "site", "unit", "hour"]).sum().reset_index()


def by_hour(
    begin_us: Int[np.ndarray, " n"], length_us: Int[np.ndarray, " n"]
) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"], Int[np.ndarray, " m"]]:
    """Stretches cut at the full hours: the row that each piece is of, its hour from 1970, and its length.

    What has no time stays whole, in the hour `NO_TIME`; what has no length is one piece.
    """
    timed = begin_us != NO_TIME
    begin = np.where(timed, begin_us, 0)
    end = begin + length_us
    first_hour = begin // HOUR_US
    count = np.where(timed, np.maximum(end - 1, begin) // HOUR_US - first_hour + 1, 1)
    row = np.repeat(np.arange(len(begin)), count)
    hour = first_hour[row] + np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    us = np.minimum(end[row], (hour + 1) * HOUR_US) - np.maximum(begin[row], hour * HOUR_US)
    return row, np.where(timed[row], hour, NO_TIME), np.where(timed[row], us, length_us[row])


def units(unit: Int[np.ndarray, " n"], hour: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """The day of each hour, and what stands there where there is no time."""
    return np.where(hour == NO_TIME, unit, hour // 24)


def overlap_us(recordings: pd.DataFrame) -> pd.Series:
    """Microseconds of recordings that an earlier one of the same site covers too, by number of site."""
    timed = recordings[recordings["begin_us"] != NO_TIME].sort_values(["site", "begin_us"], kind="stable")
    end = timed["begin_us"] + timed["duration_us"]
    covered = end.groupby(timed["site"]).cummax().groupby(timed["site"]).shift()
    twice = (np.minimum(end, covered) - timed["begin_us"]).clip(lower=0)
    return twice.groupby(timed["site"]).sum().astype(np.int64)


def microseconds(seconds: np.ndarray) -> Int[np.ndarray, " n"]:
    return np.rint(np.nan_to_num(seconds) * SECOND_US).astype(np.int64)


def need(table: pd.DataFrame, names: Sequence[str], what: str) -> None:
    """Refuse a table without these columns."""
    if missing := [name for name in names if name not in table]:
        raise AudiorepError(
            f"{what}: no column {', '.join(repr(name) for name in missing)}; there are: {', '.join(map(str, table.columns))}"
        )


def first(frame: pd.DataFrame, marked: pd.Series | np.ndarray) -> str:
    """The first marked row, as a person counts it below a header, with its path."""
    at = int(np.flatnonzero(np.asarray(marked))[0])
    return f"the first in row {at + 2}: {frame['path'].iloc[at]}"
