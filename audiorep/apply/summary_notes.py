"""What a reader of a summary must know before the numbers: clocks, gaps, overlaps, and what the counts are worth."""

import shlex
from typing import Any

import numpy as np
import pandas as pd

from audiorep.apply.effort import HOUR_US, NO_TIME, Listened, overlap_us
from audiorep.apply.evidence import Evidence
from audiorep.data.moments import FORMS

SHOWN, NAMED = 5, 20
UNEVEN = 2.0
"""Hours of the day of which one was listened to so many times as long as another are uneven."""

FEW_UNITS = 5
"""In a simulation of days that differ strongly (gamma distributed rates of shape .5) the interval held the truth in 22 % of
the cases with one day, 63 % with three, 82 % with five, 90 % with thirty."""


FEW_CALLS = 20
"""With this many calls, all of them right, the 95 % interval of a precision still begins at .83."""


def notes_on(found: Listened, evidence: Evidence, utc_offset_h: float | None) -> list[str]:
    """A sentence or two each."""
    return [
        *not_looked_for(evidence), *counts(found, evidence), *rests_on(found, evidence), *stretches(evidence),
        *clocks(found, utc_offset_h), *untimed(found), *schedule(found), *gaps(found), *overlaps(found),
    ]  # fmt: skip


def not_looked_for(evidence: Evidence) -> list[str]:
    """Classes of which nothing is known, and no zeros."""
    if not evidence.not_looked_for:
        return []
    names = list(evidence.not_looked_for)
    return [
        f"{len(names)} label(s) were not looked for, as the model has no threshold for them: {some(names, NAMED)}. That they "
        "are missing says nothing. Label more of them and train again, or let detect set one for all: threshold=0.5."
    ]


def stretches(evidence: Evidence) -> list[str]:
    """What a detection of a model of windows is."""
    if evidence.window_s is None:
        return []
    return [
        f"The model names windows of {evidence.window_s:.3g} s: a detection is a stretch in which the call is heard at least "
        "once, and calls closer together than a window are one detection. To count calls, train with objective=frames."
    ]


def clocks(found: Listened, utc_offset_h: float | None) -> list[str]:
    """What the hours are hours of."""
    if not found.timed:
        return []
    if utc_offset_h is not None:
        return [
            f"All times are shown at {offset_name(utc_offset_h)} (utc_offset_h={utc_offset_h:g}); those that told no offset "
            "were taken for UTC. Summer time is not put in."
        ]
    timed = found.recordings[found.recordings["begin_us"] != NO_TIME]
    told = sorted(timed["offset_h"].dropna().unique())
    plain = int(timed["offset_h"].isna().sum())
    out = []
    if plain:
        out.append(
            f"{plain} recording(s) tell their time without an offset from UTC: hours are those of the recorder's clock. If "
            "it ran on UTC, utc_offset_h=2 (your hours ahead of UTC) shows local time."
        )
    if len(told) > 1 or (told and plain):
        names = ", ".join([offset_name(hours) for hours in told] + ["none told"] * bool(plain))
        out.append(
            f"The clocks differ in their offset from UTC ({names}), and each hour is that of its own clock: utc_offset_h= "
            "brings all to one."
        )
    elif told == [0.0]:
        out.append("All recordings tell UTC, so hours are those of UTC: utc_offset_h= shows local time.")
    return out


def offset_name(hours: float) -> str:
    """ "UTC+05:30"."""
    minutes = round(abs(hours) * 60)
    return f"UTC{'-' if hours < 0 else '+'}{minutes // 60:02d}:{minutes % 60:02d}"


def untimed(found: Listened) -> list[str]:
    """Recordings that tell no time."""
    count = int((found.recordings["begin_us"] == NO_TIME).sum())
    if not count:
        return []
    where = "they count by site and in total only" if found.timed else "there is nothing by hour or date"
    return [
        f"{count} of {len(found.recordings)} recording(s) do not tell when they were made: {where}. Times are read from "
        f"GUANO, AudioMoth's comment, or names such as {FORMS}; or from a table times= with path and recorded_at."
    ]


def schedule(found: Listened) -> list[str]:
    """Whether some hours of the day were listened to far more than others."""
    if not found.timed:
        return []
    effort = found.effort[found.effort["hour"] != NO_TIME]
    hours = np.bincount(effort["hour"] % 24, effort["us"], 24)
    if hours.max() <= UNEVEN * hours.min():
        return []
    return [
        f"The hours of the day were not listened to alike (from {hours.min() / HOUR_US:.3g} h at {hours.argmin()} o'clock to "
        f"{hours.max() / HOUR_US:.3g} h at {hours.argmax()} o'clock): calls per hour over whole days go with the schedule. "
        "Compare sites, dates and studies of another schedule hour by hour."
    ]


def gaps(found: Listened) -> list[str]:
    """Recordings that failed, and sites with few days."""
    out = []
    if found.failed:
        out.append(f"{found.failed} recording(s) could not be listened to and count neither as effort nor as silence.")
    effort = found.effort[found.effort["hour"] != NO_TIME]
    days = effort[["site", "unit"]].drop_duplicates().groupby("site").size()
    few = [found.sites[site] for site in days.index[days < FEW_UNITS]]
    if few:
        out.append(
            f"{len(few)} site(s) have fewer than {FEW_UNITS} days of recordings ({some(few)}): their intervals rest on so "
            "few days that they are too narrow where calls come in bouts."
        )
    return out


def overlaps(found: Listened) -> list[str]:
    """Recordings of one site at one time."""
    hours = (overlap_us(found.recordings) / HOUR_US).sort_values(ascending=False)
    hours = hours[hours > 0]
    if not len(hours):
        return []
    names = some(
        [f"{found.sites[site]} {each:.3g} h" for site, each in zip(hours.index.to_numpy(int), hours, strict=True)]
    )
    return [
        f"At {len(hours)} site(s) recordings overlap in time ({names}): effort and calls of these hours count twice. If two "
        "recorders ran there, give them sites of their own."
    ]


def counts(found: Listened, evidence: Evidence) -> list[str]:
    """Of which labels it is not known how many detections are right."""
    heard = heard_in(found)
    unknown = [name for name in heard if name not in evidence.precision]
    if not len(heard):
        return ["Nothing was detected; zeros stand beside the effort that found nothing."]
    if not unknown:
        return []
    if len(unknown) == len(heard):
        return [
            "How many detections are right is not known (no precision was given), so calls are what the detector said. Check "
            "some of each label by ear before comparing rates."
        ]
    return [f"How many detections are right is not known for {len(unknown)} label(s): {some(unknown)}."]


def rests_on(found: Listened, evidence: Evidence) -> list[str]:
    """What the precision is worth: few calls, no background, another choice of sounds."""
    judged = {name: of for name in heard_in(found) if (of := evidence.precision.get(name)) is not None}
    out = []
    few = [
        f"{name} {'unknown' if of.positives is None else of.positives}"
        for name, of in judged.items()
        if of.positives is None or of.positives < FEW_CALLS
    ]
    if few:
        out.append(
            f"The precision of {len(few)} label(s) rests on fewer than {FEW_CALLS} labelled calls that were kept back "
            f"({some(few, NAMED)}): of what is expected to be true believe the range, no number in it."
        )
    if judged and evidence.background is not True:
        why = "No background was" if evidence.background is False else "It is not told whether background was"
        out.append(
            f"{why} among the labelled clips by which the precision was judged. On continuous recordings false alarms come "
            "from sounds that were not among the labelled clips, and fewer detections may be right than even the range "
            f"says: check some by ear with {review(evidence)}. Clips labelled noise in the corpus would have a say."
        )
    return out


def review(evidence: Evidence) -> str:
    """The command that shows detections to a person, worst first."""
    table = "DETECTIONS" if evidence.folder is None else shlex.quote(str(evidence.folder / "detections.parquet"))
    return f"audiorep label corpus={table} detections={table} out=review"


def heard_in(found: Listened) -> list[str]:
    """The labels of which there are calls."""
    return [found.labels[number] for number in np.unique(found.calls["label"])]


def some(names: list[str], most: int = SHOWN) -> str:
    """The first few."""
    return ", ".join(names[:most]) + (" ..." if len(names) > most else "")


def cell(value: Any) -> str:
    """A number as a reader wants it: 1,300, 46, 0.478; text as it is."""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 1000 or value == round(value) else f"{value:.3g}"


def fact_rows(found: Listened) -> dict[str, str]:
    """What was listened to, in a few words."""
    begin_us = found.recordings["begin_us"]
    timed = found.recordings[begin_us != NO_TIME]
    facts = {
        "Recordings": f"{len(found.recordings):,}",
        "Listened to": f"{cell(found.recordings['duration_us'].sum() / HOUR_US)} h",
        "Sites": f"{len(found.sites):,}",
        "Detections": f"{len(found.calls):,}",
    }
    if len(timed):
        ends = timed["begin_us"].min(), (timed["begin_us"] + timed["duration_us"]).max() - 1
        first, last = (pd.Timestamp(us, unit="us").date().isoformat() for us in ends)
        days = len(found.effort.loc[found.effort["hour"] != NO_TIME, "unit"].unique())
        facts |= {"From": first, "To": last, "Days with recordings": f"{days:,}"}
    return facts
