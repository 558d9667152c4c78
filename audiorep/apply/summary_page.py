"""A summary as one HTML file that needs no other: what was listened to, tables, pictures, and what to know before."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from audiorep import html
from audiorep.apply.effort import Listened
from audiorep.apply.summary_notes import cell, fact_rows
from audiorep.apply.summary_pictures import Drawn, pooled, shown_labels
from audiorep.evaluate.figures import data_uri
from audiorep.files import write_text

MOST_ROWS = 300
"""A table on the page has this many rows; the CSV has all."""

NAMES = {
    "label": "Label",
    "site": "Site",
    "hour": "Hour of day",
    "week": "Week of",
    "calls": "Calls",
    "rate": "Calls per hour",
    "effort_h": "Hours listened",
    "recordings": "Recordings with call",
    "sites": "Sites with call",
    "site_days": "Days with call",
    "occupancy": "Occupancy",
    "first": "First",
    "last": "Last",
    "mean_score": "Mean score",
}
"""Columns of the page, in this order, as far as a table has them."""

WORTH = {
    "label": "Label",
    "calls": "Calls",
    "calls_expected_true": "Expected true, if they are like those clips",
    "precision": "Precision on the labelled clips kept back",
    "positives": "Calls of it among those clips",
}
"""The same of the table that says what calls are worth: a number that holds under a condition stands beside it alone."""

PARTS = ("recordings", "sites", "site_days")
"""Columns that are shown as so many of so many."""


@dataclass(frozen=True)
class Shown:
    """A table on the page, all cells text; `silent`: labels without numbers, and why."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left_out: int
    file: str
    silent: tuple[tuple[str, str], ...] = ()


def write_page(
    tables: Mapping[str, pd.DataFrame],
    notes: Sequence[str],
    found: Listened,
    pictures: Sequence[Drawn],
    title: str,
    path: Path,
) -> None:
    """Write the page; every name in it may be a stranger's and is escaped."""
    names, known = shown_labels(tables["summary"]), judged_labels(tables["summary"])
    text = html.render(
        "audiorep.apply",
        "summary.html",
        title=title,
        facts=fact_rows(found),
        notes=notes,
        totals=shown_totals(tables["summary"]),
        sites=shown(tables["by_site"], "by_site.csv") if len(found.sites) > 1 else None,
        more={
            words: shown(pooled(table[table["label"].isin(names)]).drop(columns="site"), f"{name}.csv")
            for name, words in (("by_hour", "By hour of day"), ("by_week", "By week"))
            if (table := tables.get(name)) is not None
        },
        pictures=[{"about": one, "src": data_uri(one.path.read_bytes())} for one in pictures],
        timed=found.timed,
        files=[f"{name}.csv" for name in tables],
        worth=shown(known, "summary.csv", WORTH) if len(known) else None,
    )
    write_text(path, text)


def judged_labels(table: pd.DataFrame) -> pd.DataFrame:
    """The labels of which a precision is known, those with most calls first."""
    return table.dropna(subset="precision").sort_values(["calls", "label"], ascending=[False, True])


def shown_totals(table: pd.DataFrame) -> Shown:
    """The labels with most calls first; below them those that were not looked for."""
    silent = table[table["not_looked_for"] != ""]
    ranked = table.drop(index=silent.index).sort_values(["calls", "label"], ascending=[False, True])
    rows = zip(silent["label"], "not looked for: " + silent["not_looked_for"], strict=True)
    return replace(shown(ranked, "summary.csv"), silent=tuple(rows))


def shown(table: pd.DataFrame, file: str, names: Mapping[str, str] = NAMES) -> Shown:
    """The columns of `names` that hold something."""
    cut = table.head(MOST_ROWS)
    columns: dict[str, Sequence[str]] = {}
    for name, words in names.items():
        cells = COLUMNS.get(name, plain)(cut, name) if name in cut or name == "rate" else []
        if any(cells):
            columns[words] = cells
    return Shown(tuple(columns), tuple(zip(*columns.values(), strict=True)), len(table) - len(cut), file)


def plain(table: pd.DataFrame, name: str) -> list[str]:
    """Text as it is, numbers with four digits, "" for NaN."""
    return ["" if pd.isna(value) else cell(value) for value in table[name]]


def rate(table: pd.DataFrame, name: str) -> list[str]:
    """ "1.2 (0.8–1.9)"."""
    triples = zip(table["calls_per_h"], table["low"], table["high"], strict=True)
    return [f"{cell(value)} ({cell(low)}–{cell(high)})" for value, low, high in triples]


def date(table: pd.DataFrame, name: str) -> list[str]:
    """The day of a moment."""
    return [text.partition("T")[0] for text in table[name]]


def part(table: pd.DataFrame, name: str) -> list[str]:
    """ "3 of 7"."""
    return [f"{held:,} of {whole:,}" for held, whole in zip(table[f"{name}_with_call"], table[name], strict=True)]


def expected(table: pd.DataFrame, name: str) -> list[str]:
    """ "22–46", or "about 41" where it is not known on how many clips the precision rests."""
    triples = zip(*(table[f"{name}{end}"] for end in ("", "_low", "_high")), strict=True)
    return [
        "" if pd.isna(value) else f"about {value:,.0f}" if pd.isna(low) else f"{low:,.0f}–{high:,.0f}"
        for value, low, high in triples
    ]


def judged(table: pd.DataFrame, name: str) -> list[str]:
    """ "5 of 5 right (0.48–1)", or "0.9"."""
    rows = zip(*(table[column] for column in (name, f"{name}_low", f"{name}_high", "reported")), strict=True)
    return [
        ("" if pd.isna(value) else cell(value))
        if pd.isna(low)
        else f"{round(value * tries)} of {tries} right ({low:.2g}–{high:.2g})"
        for value, low, high, tries in rows
    ]


def share(table: pd.DataFrame, name: str) -> list[str]:
    return ["" if pd.isna(value) else f"{100 * value:.0f} %" for value in table[name]]


COLUMNS: dict[str, Callable[[pd.DataFrame, str], list[str]]] = {
    "calls_expected_true": expected,
    "rate": rate,
    "precision": judged,
    "first": date,
    "last": date,
    "occupancy": share,
    **dict.fromkeys(PARTS, part),
}
"""How columns are written that are more than a number."""
