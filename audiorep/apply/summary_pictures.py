"""The pictures of a summary: activity over the day, over the season, over both, and by site."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import DAILY, HOURLY, MONTHLY, AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from audiorep.apply.effort import HOUR_US, NO_TIME, Listened
from audiorep.apply.summary_notes import cell
from audiorep.apply.summary_tables import ALL_SITES, BINS
from audiorep.evaluate.figures import HUES, plain_axes, write_figure

MOST_LABELS, MOST_SITES = 12, 24
LONGEST_NAME = 36
ROOM = 2.0
"""A panel is this many times as high as its highest rate at most; what an interval has above that is cut off."""

DPI = 110
"""So that a picture of twelve panels stays below 300 KB."""

NO_EFFORT = "#c3c9ce"

MOST_DATES = 5
WIDER = {HOURLY: [1, 2, 3, 4, 6, 12, 24], DAILY: [1, 2, 3, 7, 14, 21, 31], MONTHLY: [1, 2, 3, 4, 6, 12]}
"""Steps between dates: without the widest, two or three days, months or years have none that leaves `MOST_DATES` at most."""

ABOUT = {
    "diel": (
        "Through the day",
        "Calls per hour listened to, by hour of day, all sites together; the band is the 95 % interval over days. Hours "
        "without recordings are left open.",
    ),
    "season": (
        "Through the season",
        "Calls per hour listened to, all sites together: a dot a date, a line a week from Monday on, with its 95 % interval "
        "over days. Weeks without recordings are left open.",
    ),
    "date_by_hour": (
        "Day and season at once",
        "Calls per hour listened to, by date and hour of day, all sites together. Grey: no recordings. The brightest colour "
        "holds the highest hundredth.",
    ),
    "effort": ("When the recorders ran", "Hours listened to, by site and date. Grey: no recordings."),
    "sites": ("From site to site", "Calls per hour listened to, with their 95 % interval."),
}
"""The pictures, in their order: title and caption."""


@dataclass(frozen=True)
class Drawn:
    """A picture that was written: what it shows, for who sees it and who does not."""

    path: Path
    title: str
    caption: str
    alt: str


def draw(tables: Mapping[str, pd.DataFrame], found: Listened, out: Path) -> list[Drawn]:
    """Write the pictures that the tables allow into a folder; of the `MOST_LABELS` labels with most calls."""
    names, places = shown_labels(tables["summary"]), found.sites[:MOST_SITES]
    told, high = f"Calls per hour of {', '.join(names)}", 0.9 + 0.2 * len(places)
    left_out = f" The first {MOST_SITES} of {len(found.sites)} sites." if len(found.sites) > MOST_SITES else ""
    figures: dict[str, tuple[Figure, str]] = {}
    if found.timed:
        hours, dates, weeks = (pooled(tables[f"by_{name}"]) for name in BINS)
        figures = {
            "diel": (
                panels(names, lambda axes, name: diel(axes, of_label(hours, name))),
                f"{told} by hour of day. {peaks(hours, names)}",
            ),
            "season": (
                panels(names, lambda axes, name: season(axes, of_label(dates, name), of_label(weeks, name)), 3.6),
                f"{told} by date and week; the numbers are in by_date.csv and by_week.csv.",
            ),
            "date_by_hour": (
                panels(names, lambda axes, name: by_both(axes, *date_by_hour(found, name)), 4.2, unit=None),
                f"{told} by date and hour of day, as a map.",
            ),
            "effort": (
                effort(*hours_by_date(found, len(places)), places, high),
                f"Hours listened to at {len(places)} site(s) by date, as a map; the numbers are in effort.csv.",
            ),
        }
    figures["sites"] = (
        panels(names, lambda axes, name: sites(axes, of_label(tables["by_site"], name), places), 2.9, high, "x"),
        f"{told} at {len(places)} site(s); the numbers are in by_site.csv.",
    )
    drawn = []
    for name, (figure, alt) in figures.items():
        title, caption = ABOUT[name]
        drawn.append(
            Drawn(out / f"{name}.png", title, caption + (left_out if name in ("effort", "sites") else ""), alt)
        )
        write_figure(figure, drawn[-1].path, DPI)
    return drawn


def shown_labels(totals: pd.DataFrame) -> list[str]:
    """The labels with most calls; without calls, the first ones."""
    ranked = totals[totals["not_looked_for"] == ""].sort_values(["calls", "label"], ascending=[False, True])
    heard = ranked[ranked["calls"] > 0]
    return (heard if len(heard) else ranked)["label"].tolist()[:MOST_LABELS]


def pooled(table: pd.DataFrame) -> pd.DataFrame:
    """The rows over all sites, or of the only one."""
    several = (table["site"] == ALL_SITES).any()
    return table[(table["site"] == ALL_SITES) | (not several)]


def of_label(table: pd.DataFrame, name: str) -> pd.DataFrame:
    return table[table["label"] == name]


def peaks(hours: pd.DataFrame, names: Sequence[str]) -> str:
    """In words, when each label is heard most."""
    most = {name: rows.nlargest(1, "calls_per_h") for name in names if len(rows := of_label(hours, name))}
    return "; ".join(
        f"{name}: most from {row['hour'].iloc[0]} o'clock on, {cell(row['calls_per_h'].iloc[0])}"
        for name, row in most.items()
    )


def panels(
    names: Sequence[str],
    fill: Callable[[Axes, str], None],
    width: float = 2.9,
    height: float = 2.1,
    unit: Literal["x", "y"] | None = "y",
) -> Figure:
    """A panel a label, up to three beside each other; `unit`: the side that has calls per hour, if one has."""
    columns = min(3, len(names)) if len(names) != 4 else 2
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(max(width * columns, 5.2), height * rows + 0.2), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, name in zip(grid.flat, names, strict=False):
        fill(axes, name)
        axes.set_title(shortened(name), fontsize=9, loc="left")
        axes.tick_params(labelsize=7)
    for axes in list(grid.flat)[len(names) :]:
        axes.set_visible(False)
    if unit is not None:
        {"x": figure.supxlabel, "y": figure.supylabel}[unit]("calls per hour", fontsize=8)
    return figure


def shortened(name: str) -> str:
    """Names that are too long lose their middle: what tells them apart often stands at the end."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 13]}…{name[-12:]}"


def diel(axes: Axes, rows: pd.DataFrame) -> None:
    """Rates by hour of day."""
    by_hour = rows.set_index("hour").reindex(range(24))
    place = np.arange(24) + 0.5
    axes.fill_between(place, by_hour["low"], by_hour["high"], color=HUES[0], alpha=0.18, linewidth=0)
    axes.plot(place, by_hour["calls_per_h"], color=HUES[0], linewidth=1.4, marker="o", markersize=2.5)
    axes.set_xlim(0, 24)
    axes.set_xticks(range(0, 25, 6), [f"{hour} h" for hour in range(0, 25, 6)])
    finish(axes, rows)


def season(axes: Axes, dates: pd.DataFrame, weeks: pd.DataFrame) -> None:
    """Rates by date as dots, and by week as steps with their interval; gaps where nothing was recorded."""
    day = dates["date"].to_numpy("datetime64[D]")
    axes.plot(day + np.timedelta64(12, "h"), dates["calls_per_h"], ".", color=HUES[0], alpha=0.45, markersize=3.5)
    for monday, low, high, rate in zip(weeks["week"], weeks["low"], weeks["high"], weeks["calls_per_h"], strict=True):
        ends = np.datetime64(monday) + np.array([0, 7])
        if len(day):
            ends = np.clip(ends, day.min(), day.max() + 1)
        axes.fill_between(ends, low, high, color=HUES[0], alpha=0.18, linewidth=0)
        axes.plot(ends, [rate, rate], color=HUES[0], linewidth=1.6)
    dated(axes)
    finish(axes, dates if len(dates) else weeks)


def by_both(axes: Axes, rates: Float[np.ndarray, "24 d"], first: int) -> None:
    """Rates by hour [24] and date [d], of which `first` is the first, as colours."""
    known = rates[np.isfinite(rates)]
    top = float(np.quantile(known[known > 0], 0.99)) if (known > 0).any() else 1.0
    colour_map(axes, rates, first, top, "calls per hour", "viridis")
    axes.set_yticks(range(0, 25, 6), [f"{hour} h" for hour in range(0, 25, 6)])


def date_by_hour(found: Listened, name: str) -> tuple[Float[np.ndarray, "24 d"], int]:
    """Calls per hour by hour of day and date, NaN where nothing was recorded, and the first date, in days from 1970."""
    effort = found.effort[found.effort["hour"] != NO_TIME]
    heard = found.heard[(found.heard["hour"] != NO_TIME) & (found.heard["label"] == found.labels.index(name))]
    first = int(BINS["date"](effort["hour"]).min())
    size = 24 * (int(BINS["date"](effort["hour"]).max()) - first + 1)
    hours = np.bincount(effort["hour"] - 24 * first, effort["us"] / HOUR_US, size)
    calls = np.bincount(heard["hour"] - 24 * first, heard["calls"], size)
    rates = np.divide(calls, hours, out=np.full(size, np.nan), where=hours > 0)
    return rates.reshape(-1, 24).T, first


def hours_by_date(found: Listened, count: int) -> tuple[Float[np.ndarray, "s d"], int]:
    """Hours listened to at the first `count` sites by date, NaN for none, and the first date, in days from 1970."""
    rows = found.effort[found.effort["hour"] != NO_TIME]
    day = BINS["date"](rows["hour"])
    first, span = int(day.min()), int(day.max() - day.min()) + 1
    hours = np.bincount(rows["site"] * span + day - first, rows["us"] / HOUR_US, len(found.sites) * span)
    return np.where(hours > 0, hours, np.nan).reshape(-1, span)[:count], first


def effort(hours: Float[np.ndarray, "s d"], first: int, places: Sequence[str], height: float) -> Figure:
    """Hours by site and date as colours."""
    figure = Figure(figsize=(7.6, height + 0.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    colour_map(axes, hours[::-1], first, float(np.nanmax(hours)), "hours a day", "GnBu")
    axes.set_yticks(np.arange(len(places)) + 0.5, [shortened(site) for site in places][::-1])
    axes.tick_params(labelsize=7)
    return figure


def colour_map(axes: Axes, values: Float[np.ndarray, "r d"], first: int, top: float, unit: str, colours: str) -> None:
    """Values by row (from below) and date as colours from 0 to `top`, grey where there is none, with their scale."""
    image = axes.imshow(
        values, cmap=colormaps[colours].with_extremes(bad=NO_EFFORT), vmin=0.0, vmax=top, aspect="auto", origin="lower",
        interpolation="nearest", extent=(first, first + values.shape[1], 0, len(values)),
    )  # fmt: skip
    axes.xaxis_date()
    dated(axes)
    bar = axes.figure.colorbar(image, ax=axes, pad=0.02, aspect=14)
    bar.ax.tick_params(labelsize=7)
    bar.set_label(unit, fontsize=7)
    bar.locator = MaxNLocator(4)
    bar.outline.set_visible(False)
    bar.update_ticks()


def sites(axes: Axes, rows: pd.DataFrame, places: Sequence[str]) -> None:
    """Rates by site as bars, the first on top."""
    of_site = rows.set_index("site").reindex(list(places))
    place, rate = np.arange(len(places)), of_site["calls_per_h"]
    axes.barh(place, rate, height=0.62, color=HUES[0], alpha=0.75)
    axes.hlines(place, of_site["low"], of_site["high"], colors="#202428", linewidth=1.0)
    axes.set_yticks(place, [shortened(site) for site in places])
    axes.set_ylim(len(places) - 0.4, -0.6)
    axes.set_xlim(0, room(of_site))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    plain_axes(axes, "x")


def dated(axes: Axes) -> None:
    """Dates below a panel, as few as can be read."""
    locator = AutoDateLocator(minticks=3, maxticks=MOST_DATES)
    locator.intervald |= WIDER
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.xaxis.get_offset_text().set_fontsize(7)


def finish(axes: Axes, rows: pd.DataFrame) -> None:
    """From 0 up, as high as the rates want."""
    axes.set_ylim(0, room(rows))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    plain_axes(axes)


def room(rows: pd.DataFrame) -> float:
    """How far an axis goes: to the highest end of an interval, but not beyond `ROOM` times the highest rate above 0."""
    highest, end = (float(rows[name].max()) if len(rows) else 0.0 for name in ("calls_per_h", "high"))
    return 1.05 * (min(end, ROOM * highest) or end or 1.0)
