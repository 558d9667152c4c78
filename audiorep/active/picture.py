"""Learning curves as a picture: a line a strategy, a band over the seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from audiorep.active.curves import REACHED
from audiorep.active.loop import Point
from audiorep.evaluate.figures import HUES, plain_axes, write_figure


def plot(axes: Axes, of_seed: Sequence[Sequence[Point]], name: str, number: int) -> None:
    """The mean over seeds against the labels, and a band from the lowest seed to the highest."""
    labels = np.array([p.labels for p in of_seed[0]])
    scores = np.array([[p.score for p in points] for points in of_seed])
    told = np.isfinite(scores).all(0)
    colour, style = HUES[number % len(HUES)], "-" if number < len(HUES) else "--"
    axes.plot(labels[told], scores[:, told].mean(0), style, color=colour, linewidth=1.4, label=name)
    axes.fill_between(
        labels[told], scores[:, told].min(0), scores[:, told].max(0), color=colour, alpha=0.13, linewidth=0
    )


def finish(axes: Axes, full: float) -> None:
    """Lines for the score with all labels and for what counts as arrived; grid and scales."""
    for height, what in ((full, "all labels"), (REACHED * full, f"{100 * REACHED:.0f} % of it")):
        axes.axhline(height, color="#7b868f", linewidth=0.9, linestyle=":")
        axes.annotate(what, (1.0, height), xycoords=("axes fraction", "data"), fontsize=7, ha="right", va="bottom")
    axes.set_xlabel("labels", fontsize=8)
    axes.tick_params(labelsize=8)
    plain_axes(axes)


def curves_figure(curves: Mapping[str, Sequence[Sequence[Point]]], full: float, score: str) -> Figure:
    """A line and a band for each strategy; dotted: all labels, and 95 % of that."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for number, (name, of_seed) in enumerate(curves.items()):
        plot(axes, of_seed, name, number)
    finish(axes, full)
    axes.set_ylabel(score, fontsize=9)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    return figure


def draw_curves(curves: Mapping[str, Sequence[Sequence[Point]]], full: float, path: Path, score: str) -> None:
    """Write `curves_figure` as a PNG."""
    write_figure(curves_figure(curves, full, score), path)


def draw_panels(
    panels: Mapping[str, tuple[Mapping[str, Sequence[Sequence[Point]]], float]], path: Path, drawn: Sequence[str]
) -> None:
    """A panel for each corpus and encoder, with the strategies of `drawn`, as a PNG."""
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.6 * columns + 1.6, 2.9 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for place, (title, (curves, full)) in zip(axes.flat, panels.items(), strict=False):
        for name in drawn:
            if name in curves:
                plot(place, curves[name], name, list(drawn).index(name))
        finish(place, full)
        place.set_title(title, fontsize=9)
    for place in list(axes.flat)[len(panels) :]:
        place.set_visible(False)
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right upper", fontsize=8, frameon=False)
    write_figure(figure, path, dpi=90)
