"""The pictures of a classifier's results: what a report shows of them, and the learning curve of a study of label budgets.

As in `figures`, the page sets words and colours itself; the learning curve is a PNG. Nothing here touches pyplot.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from audiorep.evaluate.calibrate import Reliability
from audiorep.evaluate.figures import HUES, plain_axes, write_figure
from audiorep.evaluate.results import Results

MAX_CLASSES = 60
"""A confusion matrix shows this many classes, those of the most errors."""

LONG_NAME = 24
"""Where a class has a longer name than this, the columns of a confusion matrix are numbered instead."""

FIRM = 10
MIX_UPS = 8
MARKERS = "osD^vP"
Interval = tuple[float, float, float]
"""Mean, lower and upper end."""


@dataclass(frozen=True)
class Cell:
    """How many calls of a class were taken for another, and which part of its calls that is."""

    count: int
    share: float

    @property
    def percent(self) -> int:
        return round(100 * self.share)


@dataclass(frozen=True)
class MixUp:
    """A frequent error: `count` of the `of` calls of one class were taken for another."""

    truth: str
    said: str
    count: int
    of: int


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix: [truth][said], the calls of each class, and its most frequent errors."""

    names: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    calls: tuple[int, ...]
    mix_ups: tuple[MixUp, ...]
    left_out: int  # classes beyond `MAX_CLASSES`

    @property
    def numbered(self) -> bool:
        """Whether names are too long to stand over the columns."""
        return max(map(len, self.names)) > LONG_NAME


def confusion_matrix(counts: Int[np.ndarray, "c c"], classes: Sequence[str]) -> Confusion | None:
    """Rows as parts of a class's calls; classes that neither occur nor are said are left out. None without any."""
    seen = np.flatnonzero(counts.any(0) | counts.any(1))
    wrong = counts - np.diag(np.diag(counts))
    errors = wrong.sum(0) + wrong.sum(1)
    shown = np.sort(seen[np.argsort(-errors[seen], kind="stable")][:MAX_CLASSES])
    if not len(shown):
        return None
    calls = counts.sum(1)
    rows = tuple(tuple(Cell(int(counts[a, b]), float(counts[a, b] / max(calls[a], 1))) for b in shown) for a in shown)
    worst = np.argsort(-wrong, axis=None, kind="stable")[:MIX_UPS]
    pairs = [(int(place) // len(classes), int(place) % len(classes)) for place in worst]
    mix_ups = tuple(MixUp(classes[a], classes[b], int(wrong[a, b]), int(calls[a])) for a, b in pairs if wrong[a, b])
    names, number = tuple(classes[a] for a in shown), tuple(int(calls[a]) for a in shown)
    return Confusion(names, rows, number, mix_ups, len(seen) - len(shown))


@dataclass(frozen=True)
class Line:
    """A reliability curve in a box of 100 x 100 with y pointing down: its path, and (x, y, radius) of each bin."""

    path: str
    dots: tuple[tuple[float, float, float], ...]


def reliability_line(of: Reliability) -> Line | None:
    """The bins that hold something; the area of a dot goes with the part of the predictions that it holds, and the path
    leaves out bins with fewer than `FIRM` of them, which jump about."""
    held = np.flatnonzero(of.count)
    if not len(held):
        return None
    x, y = 100.0 * of.confidence[held], 100.0 * (1.0 - of.accuracy[held])
    radius = np.maximum(0.9, 4.0 * np.sqrt(of.count[held] / of.count.max()))
    points = list(zip(x.tolist(), y.tolist(), radius.tolist(), strict=True))
    firm = of.count[held] >= FIRM
    path = "L".join(f"{a:.2f} {b:.2f}" for (a, b, _), kept in zip(points, firm, strict=True) if kept)
    return Line(f"M{path}" if path else "", tuple(points))


@dataclass(frozen=True)
class ClassRow:
    """What is known of a class; NaN where it is not."""

    name: str
    calls: int
    ap: float
    auroc: float
    recall: float
    threshold: float
    precision_at: float
    recall_at: float
    false_per_hour: float


def class_rows(found: Results) -> list[ClassRow]:
    """A row for each class, in the order of the classes."""

    def figure(name: str, of: str) -> float:
        return float(found.metrics.get(f"test/{name}/{of}", math.nan))

    rows = []
    for name in found.classes:
        threshold = found.thresholds["classes"][name]["threshold"]
        rows.append(
            ClassRow(
                name,
                int(found.metrics.get(f"test/count/{name}", 0)),
                figure("ap", name),
                figure("auroc", name),
                figure("recall", name),
                math.nan if threshold is None else float(threshold),
                figure("precision_at_threshold", name),
                figure("recall_at_threshold", name),
                figure("false_positives_per_hour", name),
            )
        )
    return rows


@dataclass(frozen=True)
class Shown:
    """What a report shows of a classifier."""

    confusion: Confusion | None
    uncalibrated: Line | None
    calibrated: Line | None
    rows: list[ClassRow]


def show_results(found: Results) -> Shown:
    """All pictures of a classifier's results."""
    return Shown(
        None if found.confusion is None else confusion_matrix(found.confusion, found.classes),
        reliability_line(found.uncalibrated),
        reliability_line(found.calibrated),
        class_rows(found),
    )


def learning_figure(
    budgets: Sequence[str],
    series: Mapping[str, Sequence[Interval]],
    score: str = "balanced accuracy",
    known: str = "labelled calls of each class",
) -> Figure:
    """A score against the number of labels: a line each of `series` through its means, with its intervals as bars.

    Args:
        budgets: "1", "5", "all" ...: the names of places of equal distance, in rising order.
        series: by name one (mean, low, high) a budget; NaN where it was not measured, or has no interval.
        score, known: what the axes say, of the score and of the budgets.

    Raises:
        ValueError: a series that has not one triple a budget.
    """
    figure = Figure(figsize=(max(4.8, 0.8 * len(budgets) + 3.4), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for number, (name, triples) in enumerate(series.items()):
        if len(triples) != len(budgets):
            raise ValueError(f"{name} has {len(triples)} scores for {len(budgets)} budgets")
        mean, low, high = np.array(triples, float).reshape(-1, 3).T
        place = np.arange(len(budgets)) + 0.05 * (number - (len(series) - 1) / 2)  # so that bars do not hide each other
        colour, marker = HUES[number % len(HUES)], MARKERS[number // len(HUES) % len(MARKERS)]
        axes.plot(place, mean, color=colour, marker=marker, markersize=4, linewidth=1.4, label=name)
        axes.vlines(place, low, high, colors=colour, linewidth=1.2)
    axes.set_xticks(np.arange(len(budgets)), list(budgets), fontsize=8)
    axes.set_xlabel(known, fontsize=9)
    axes.set_ylabel(score, fontsize=9)
    axes.tick_params(axis="y", labelsize=8)
    plain_axes(axes)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    return figure


def learning_curve(
    budgets: Sequence[str],
    series: Mapping[str, Sequence[Interval]],
    path: Path,
    score: str = "balanced accuracy",
    known: str = "labelled calls of each class",
) -> None:
    """Write `learning_figure` as a PNG."""
    write_figure(learning_figure(budgets, series, score, known), path)
