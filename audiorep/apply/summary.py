"""Summaries of detections as ecologists use them: calls per hour listened to, by hour, date, week and site."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from audiorep.apply.effort import Listened, listened
from audiorep.apply.evidence import Evidence
from audiorep.apply.summary_notes import notes_on
from audiorep.apply.summary_page import write_page
from audiorep.apply.summary_pictures import draw
from audiorep.apply.summary_tables import (
    ALL_SITES,
    BINS,
    by_recording,
    by_site,
    hours_listened,
    rates_by,
    totals,
    with_silent,
)
from audiorep.errors import AudiorepError
from audiorep.files import atomic, remove

PAGE = "summary.html"
PICTURES = ("diel.png", "season.png", "date_by_hour.png", "effort.png", "sites.png")
TABLES = ("summary", "by_site", "by_hour", "by_date", "by_week", "effort", "by_recording")


@dataclass(frozen=True)
class Summary:
    """Tables by name, what a reader must know before them, and what they were made of.

    A table of rates has ``label``, ``site`` (``all sites``: over all, where there are several), what it is by, ``effort_h``
    (hours listened to), ``calls`` (that begin there), ``calls_expected_true``, ``call_s`` (seconds of calls), ``calls_per_h``
    with the ends ``low`` and ``high`` of its 95 % interval (`audiorep.apply.rates.intervals`), and ``units``: the days that
    the interval is drawn from; of recordings that tell no time, the recordings. Where nothing was recorded there is no row,
    and where nothing was heard a row with 0. By hour, date and week a site has rows for the labels that were heard there.
    ``calls_expected_true`` is ``calls * precision``, what is left if detections are right as often as where their threshold
    was chosen, and ``calls_expected_true_low`` and ``_high`` the same at the ends of the precision's 95 % interval; empty
    where they are not known.

    tables: ``summary`` (a row a label; of one that was not looked for, ``not_looked_for`` says why and all else is empty),
    ``by_site``; where recordings tell their time ``by_hour`` (of the day), ``by_date``,
    ``by_week`` (its Monday) and ``effort`` (a row an hour of each site); ``by_recording`` (a row a label that was heard in
    it, else one without label).
    """

    tables: Mapping[str, pd.DataFrame]
    notes: Sequence[str]
    found: Listened


def summarise(
    detections: pd.DataFrame,
    recordings: pd.DataFrame,
    out: Path,
    evidence: Evidence | None = None,
    utc_offset_h: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
    title: str = "Detections",
) -> Summary:
    """Write the tables of `summaries` as CSV into the folder `out`, pictures (PNG) and ``summary.html``, and return them.

    What an earlier summary left there is replaced. Arguments and errors are those of `summaries`.
    """
    summary = summaries(detections, recordings, evidence, utc_offset_h, resamples, seed)
    remove(out, [PAGE, *PICTURES, *(f"{name}.csv" for name in TABLES)])
    for name, table in summary.tables.items():
        with atomic(out / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False, float_format="%.9g", lineterminator="\n")
    pictures = draw(summary.tables, summary.found, out)
    write_page(summary.tables, summary.notes, summary.found, pictures, title, out / PAGE)
    return summary


def summaries(
    detections: pd.DataFrame,
    recordings: pd.DataFrame,
    evidence: Evidence | None = None,
    utc_offset_h: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Summary:
    """All tables and notes of detections (path, start_s, end_s, label, score) in recordings, as `listened` wants them.

    Args:
        evidence: of the detector; None: nothing is known of it. A label that it looked for and never heard has rows of zeros.
        utc_offset_h: bring all times to this offset from UTC, those that tell none being taken for UTC; None: as they are.
        resamples: of the bootstrap. Same seed, same intervals.

    Raises:
        AudiorepError: as `listened`; fewer than two resamples.
    """
    if resamples < 2:
        raise AudiorepError(f"resamples={resamples}: a bootstrap takes at least 2, better 1000")
    evidence = evidence or Evidence()
    found = listened(detections, recordings, evidence.looked_for, utc_offset_h)
    evidence = evidence.beside(found.labels)
    known = evidence.precision
    if ALL_SITES in found.sites:
        raise AudiorepError(f"recordings: a site is called '{ALL_SITES}', as the rows over all sites are: rename it")
    whole = rates_by(found, None, known, resamples, seed)
    tables = {"summary": totals(found, whole, known), "by_site": by_site(found, whole)}
    if found.timed:
        tables |= {f"by_{name}": rates_by(found, name, known, resamples, seed) for name in BINS}
        tables["effort"] = hours_listened(found)
    tables["by_recording"] = by_recording(found)
    tables["summary"] = with_silent(tables["summary"], evidence.not_looked_for)
    return Summary(tables, notes_on(found, evidence, utc_offset_h), found)
