"""The tables of a summary: rates by hour, date, week and site, totals, and what was listened to."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from jaxtyping import Int
from scipy.sparse import csr_array

from audiorep.apply.effort import HOUR_US, NO_TIME, SECOND_US, Listened
from audiorep.apply.evidence import UNKNOWN, Precision
from audiorep.apply.rates import intervals

ALL_SITES = "all sites"
"""The site of rows over all of them."""

MONDAY = 3
"""Days from a Monday to 1 January 1970."""

BINS: dict[str, Callable[[pd.Series], pd.Series]] = {
    "hour": lambda hour: hour % 24,
    "date": lambda hour: hour // 24,
    "week": lambda hour: (hour // 24 + MONDAY) // 7,
}
"""What tables are by, as numbers, from hours since 1970."""

BY_TIME = ["site_days", "site_days_with_call", "occupancy", "first", "last"]
"""Columns of totals that are told only where recordings tell their time."""

AS_SHOWN: dict[str, Callable[[pd.Series], pd.Series]] = {
    "hour": lambda hour: hour,
    "date": lambda day: iso_dates(day),
    "week": lambda week: iso_dates(7 * week - MONDAY),
}
"""What these numbers are shown as: hours of the day, dates, and the Mondays of weeks."""


def rates_by(
    found: Listened, name: str | None, precision: Mapping[str, Precision], resamples: int, seed: int
) -> pd.DataFrame:
    """A table of rates by `name`, a key of `BINS` (None: only by label and site); see `audiorep.apply.summary.Summary`."""
    effort, heard = found.effort, found.heard
    if name is None:
        effort, heard = effort.assign(bin=0), heard.assign(bin=0)
        pairs = pd.MultiIndex.from_product([range(len(found.labels)), range(len(found.sites))], names=["label", "site"])
        shown = pairs.to_frame(index=False)
    else:
        effort, heard = (
            table[table["hour"] != NO_TIME].assign(bin=lambda rows: BINS[name](rows["hour"]))
            for table in (effort, heard)
        )
        shown = heard[["label", "site"]].drop_duplicates()
    if len(found.sites) > 1:
        effort, heard, shown = (pd.concat([table.assign(site=-1), table]) for table in (effort, heard, shown))
    table = rates_of(effort, heard, shown.drop_duplicates(), resamples, seed)
    table["label"] = np.array(found.labels, object)[table["label"]]
    table["site"] = np.array([*found.sites, ALL_SITES], object)[table["site"]]  # that of -1 is the last
    for place, (column, part) in enumerate(expected(table, precision).items(), list(table).index("calls") + 1):
        table.insert(place, column, part)
    if name is None:
        return table.drop(columns="bin")
    return table.assign(bin=AS_SHOWN[name](table["bin"])).rename(columns={"bin": name})


def rates_of(effort: pd.DataFrame, heard: pd.DataFrame, shown: pd.DataFrame, resamples: int, seed: int) -> pd.DataFrame:
    """Rates by label, site and bin, all of them numbers.

    Args:
        effort: site, bin, unit, us. heard: label, site, bin, unit, calls, us.
        shown: label, site: each pair has a row for every bin with effort.
    """
    days = np.unique(effort["unit"])
    bins = effort.groupby(["site", "bin"])["us"].sum().rename("effort_us").reset_index()
    place = pd.MultiIndex.from_frame(bins[["site", "bin"]])
    rows = shown.merge(bins.assign(group=np.arange(len(bins))), on="site").sort_values(["group", "label"])
    key = pd.MultiIndex.from_frame(rows[["label", "group"]])

    group = place.get_indexer(pd.MultiIndex.from_frame(effort[["site", "bin"]]))
    heard_in = place.get_indexer(pd.MultiIndex.from_frame(heard[["site", "bin"]]))
    row = key.get_indexer(pd.MultiIndex.from_arrays([heard["label"], heard_in]))
    hours = summed(effort["us"] / HOUR_US, group, np.searchsorted(days, effort["unit"]), (len(bins), len(days)))
    counts = summed(heard["calls"], row, np.searchsorted(days, heard["unit"]), (len(rows), len(days)))

    low, high = intervals(counts, hours, rows["group"].to_numpy(), resamples, seed)
    effort_h, calls = (rows["effort_us"] / HOUR_US).to_numpy(), counts.sum(1)
    table = pd.DataFrame(
        {
            **{name: rows[name].to_numpy() for name in ("label", "site", "bin")},
            "effort_h": effort_h,
            "calls": np.rint(calls).astype(np.int64),
            "call_s": np.bincount(row, heard["us"] / SECOND_US, len(rows)),
            "calls_per_h": calls / effort_h,
            "low": low,
            "high": high,
            "units": np.diff(hours.indptr)[rows["group"]],
        }
    )
    return table.sort_values(["label", "site", "bin"], ignore_index=True)


def summed(values: pd.Series, row: np.ndarray, column: np.ndarray, shape: tuple[int, int]) -> csr_array:
    """A sparse matrix of the sums of values by row and column."""
    out = csr_array((values.to_numpy(float), (row, column)), shape=shape)
    out.sum_duplicates()
    return out


def totals(found: Listened, rates: pd.DataFrame, precision: Mapping[str, Precision]) -> pd.DataFrame:
    """A row a label: its rate over all sites, in how many recordings, sites and site-days it was heard, when first and last,
    and its precision with the ends of the 95 % interval, the calls (``positives``) and reported rows it rests on.

    ``occupancy`` is the part of the site-days with effort on which it was heard; days on which it was missed are not made
    up for.

    Args:
        rates: by label and site.
    """
    over_all = rates if len(found.sites) == 1 else rates[rates["site"] == ALL_SITES]
    at = listened_at(found).sum()
    there = {"recordings": int(at["recordings"]), "sites": len(found.sites), "site_days": int(at["site_days"])}
    out = with_places(over_all.drop(columns="site").assign(**there), heard_by(found, ["label"]), ["label"], found.timed)
    labels = out["label"]
    rests = [precision.get(label, UNKNOWN) for label in labels]
    counts = {"positives": [of.positives for of in rests], "reported": [of.reported for of in rests]}
    numbers = {name: pd.array(of, "Int64") for name, of in counts.items()}
    return out.assign(**precisions(labels, precision), **numbers)


def with_silent(table: pd.DataFrame, silent: Mapping[str, str]) -> pd.DataFrame:
    """A row more for each label that was not looked for, with the reason as ``not_looked_for``; its numbers are missing."""
    counts = dict.fromkeys(table.select_dtypes("int64"), "Int64")
    out = table.assign(not_looked_for="").astype(counts).reindex(range(len(table) + len(silent)))
    out.loc[len(table) :, "label"] = list(silent)
    out.loc[len(table) :, "not_looked_for"] = list(silent.values())
    return out


def by_site(found: Listened, rates: pd.DataFrame) -> pd.DataFrame:
    """A row a label and site, as `totals`, and where the site is."""
    own = rates[rates["site"] != ALL_SITES].merge(listened_at(found), left_on="site", right_index=True, how="left")
    place = found.recordings.groupby("site")[["lat", "lon"]].median().set_index(pd.Index(found.sites, dtype=object))
    out = with_places(own, heard_by(found, ["label", "site"]), ["label", "site"], found.timed).drop(
        columns="sites_with_call"
    )
    return out.merge(place, left_on="site", right_index=True, how="left").sort_values(
        ["label", "site"], ignore_index=True
    )


def listened_at(found: Listened) -> pd.DataFrame:
    """How many recordings and days each site has."""
    days = found.effort.loc[found.effort["hour"] != NO_TIME, ["site", "unit"]].drop_duplicates()
    counts = {"recordings": found.recordings["site"], "site_days": days["site"]}
    of_site = {name: np.bincount(numbers, minlength=len(found.sites)) for name, numbers in counts.items()}
    return pd.DataFrame(of_site, index=pd.Index(found.sites, dtype=object))


def heard_by(found: Listened, names: list[str]) -> pd.DataFrame:
    """Of each label, or label and site: where and when it was heard, and its mean score."""
    calls, recording = found.calls, found.calls["recording"].to_numpy()
    timed = found.recordings["begin_us"].to_numpy()[recording] != NO_TIME
    site = found.recordings["site"].to_numpy()[recording]
    clock_us = np.where(timed, calls["begin_us"], NO_TIME)
    day = (clock_us // (24 * HOUR_US)) * len(found.sites) + site
    table = pd.DataFrame(
        {
            "label": np.array(found.labels, object)[calls["label"]],
            "site": np.array(found.sites, object)[site],
            "recording": recording,
            "site_day": np.where(timed, day, np.nan),
            "clock": clock_us.astype("datetime64[us]"),
            "score": calls["score"].to_numpy(),
        }
    )
    return table.groupby(names).agg(
        recordings_with_call=("recording", "nunique"),
        sites_with_call=("site", "nunique"),
        site_days_with_call=("site_day", "nunique"),
        first=("clock", "min"),
        last=("clock", "max"),
        mean_score=("score", "mean"),
    )


def with_places(table: pd.DataFrame, heard: pd.DataFrame, names: list[str], timed: bool) -> pd.DataFrame:
    """A table of rates with what `heard_by` tells, 0 and empty where nothing was heard; not `timed`: without `BY_TIME`."""
    out = table.merge(heard, left_on=names, right_index=True, how="left").reset_index(drop=True)
    for name in ("recordings", "sites", "site_days"):
        counts = out.pop(f"{name}_with_call").fillna(0).astype(np.int64)
        if name in out:  # moved beside its like
            out[name] = out.pop(name)
        out[f"{name}_with_call"] = counts
    out["occupancy"] = out["site_days_with_call"] / out["site_days"].where(out["site_days"] > 0)
    for name in ("first", "last"):
        out[name] = iso_times(out.pop(name))
    return out.assign(mean_score=out.pop("mean_score")).drop(columns=[] if timed else BY_TIME)


def by_recording(found: Listened) -> pd.DataFrame:
    """A row for each label that was heard in a recording, and one without label for a recording in which none was."""
    counts = (
        found.calls.groupby(["recording", "label"]).agg(calls=("label", "size"), us=("length_us", "sum")).reset_index()
    )
    silent = np.setdiff1d(np.arange(len(found.recordings)), counts["recording"])
    row = np.concatenate([counts["recording"].to_numpy(), silent])
    label = np.concatenate([counts["label"].to_numpy(), np.full(len(silent), len(found.labels))])
    begin_us = found.recordings["begin_us"].to_numpy()[row]
    table = pd.DataFrame(
        {
            "path": found.recordings["path"].to_numpy()[row],
            "site": np.array(found.sites, object)[found.recordings["site"].to_numpy()[row]],
            "recorded_at": iso_times(pd.Series(begin_us.astype("datetime64[us]"))),
            "duration_s": found.recordings["duration_us"].to_numpy()[row] / SECOND_US,
            "label": np.array([*found.labels, ""], object)[label.astype(int)],
            "calls": np.concatenate([counts["calls"].to_numpy(), np.zeros(len(silent), int)]),
            "call_s": np.concatenate([counts["us"].to_numpy() / SECOND_US, np.zeros(len(silent))]),
        }
    )
    return table.iloc[np.lexsort((label, row))].reset_index(drop=True)


def hours_listened(found: Listened) -> pd.DataFrame:
    """A row for each hour of each site in which something was recorded."""
    effort = found.effort[found.effort["hour"] != NO_TIME]
    return pd.DataFrame(
        {
            "site": np.array(found.sites, object)[effort["site"]],
            "date": iso_dates(BINS["date"](effort["hour"])).to_numpy(),
            "hour": BINS["hour"](effort["hour"]).to_numpy(),
            "effort_h": (effort["us"] / HOUR_US).to_numpy(),
            "recordings": effort["recordings"].to_numpy(),
        }
    )


def expected(table: pd.DataFrame, precision: Mapping[str, Precision]) -> dict[str, pd.Series]:
    """``calls * precision``, and the same at the ends of the precision's interval: NaN where it is not known."""
    parts = precisions(table["label"], precision)
    return {name.replace("precision", "calls_expected_true"): table["calls"] * part for name, part in parts.items()}


def precisions(labels: pd.Series, precision: Mapping[str, Precision]) -> dict[str, pd.Series]:
    """Of each label's precision the value and the ends of its 95 % interval; NaN where it is not known."""
    told = {name: (of.value, *of.interval) for name, of in precision.items()}
    unknown = (UNKNOWN.value, *UNKNOWN.interval)
    ends = np.array([told.get(name, unknown) for name in labels], float).reshape(-1, 3)
    names = ("precision", "precision_low", "precision_high")
    return {name: pd.Series(ends[:, i], labels.index) for i, name in enumerate(names)}


def iso_dates(day: pd.Series) -> pd.Series:
    """Days from 1970 as 2023-05-14."""
    numbers: Int[np.ndarray, " n"] = day.to_numpy(np.int64)
    return pd.Series(np.datetime_as_string(numbers.astype("datetime64[D]"), unit="D").astype(object), day.index)


def iso_times(moment: pd.Series) -> pd.Series:
    """2023-05-14T06:30:05; "" where there is none."""
    clock = moment.to_numpy("datetime64[s]")
    text = np.datetime_as_string(clock, unit="s").astype(object)
    return pd.Series(np.where(np.isnat(clock), "", text), moment.index, dtype=object)
