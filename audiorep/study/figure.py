"""The comparison as a picture: a panel a corpus and track, a dot an objective with its spread, yardsticks as lines."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from audiorep.files import atomic

BETTER, LEVEL, WORSE, LABELLED = "#3f9b4b", "#3f78c9", "#8a929a", "#e6842a"
LINES = {"mel": ("#202428", "-"), "random": ("#8a929a", ":"), "supervised": ("#e6842a", "--")}
KEY = "green: above mel, for every seed with the whole interval · blue: above mel · grey: below · orange: trained with labels"
ROW_INCHES, PANEL_INCHES = 0.19, 3.6


def draw(table: pd.DataFrame, corpora: Mapping[str, Any], path: Path) -> None:
    """Draw the table of `comparison.summarise` as a PNG."""
    tracks, names = list(dict.fromkeys(table.track)), list(dict.fromkeys(table.corpus))
    longest = [max(len(methods(table, name, track)) for name in names) for track in tracks]
    figure = Figure(
        figsize=(PANEL_INCHES * len(names), ROW_INCHES * sum(longest) + 1.1 * len(tracks) + 0.4), layout="constrained"
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(tracks), len(names), squeeze=False, height_ratios=[max(1, rows) for rows in longest])
    for row, track in enumerate(tracks):
        for column, name in enumerate(names):
            panel(axes[row, column], table[(table.corpus == name) & (table.track == track)], str(corpora[name].judge))
            axes[row, column].set_title(f"{name}, {track}", fontsize=9, loc="left", fontweight="bold")
    figure.supxlabel(KEY, fontsize=7)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def methods(table: pd.DataFrame, name: str, track: str) -> pd.DataFrame:
    """The rows that are drawn as dots."""
    part = table[(table.corpus == name) & (table.track == track) & (table.status == "done")]
    return part[~part.objective.isin(list(LINES))]


def panel(axes: Axes, part: pd.DataFrame, score: str) -> None:
    """One corpus and track."""
    dots = part[(part.status == "done") & ~part.objective.isin(list(LINES))].sort_values("score")
    place = np.arange(len(dots))
    beaten = ((dots["beats_mel"] == dots["seeds"]) & (dots["seeds"] > 0)).to_numpy(bool)
    mel = part.loc[part.objective == "mel", "score"]
    level = (dots["score"] >= mel.mean()).to_numpy(bool) if len(mel) else np.zeros(len(dots), bool)
    labelled = dots["labels_used"].to_numpy(bool)
    colour: Any = np.select([labelled, beaten, level], [LABELLED, BETTER, LEVEL], WORSE).tolist()
    spread = dots["score/deviation"].fillna(0.0)
    axes.hlines(place, dots["score"] - spread, dots["score"] + spread, colors=colour, linewidth=1.6)
    axes.scatter(dots["score"], place, c=colour, s=14, zorder=3)
    axes.set_yticks(place, dots["objective"], fontsize=7)
    axes.set_ylim(-0.8, max(0.8, len(dots) - 0.2))
    for name, (hue, style) in LINES.items():
        value = part.loc[(part.objective == name) & (part.status == "done"), "score"]
        if len(value) and np.isfinite(value.mean()):
            axes.axvline(float(value.mean()), color=hue, linestyle=style, linewidth=1, label=name)
    axes.set_xlabel(score, fontsize=8)
    axes.tick_params(axis="x", labelsize=7)
    axes.grid(axis="x", linewidth=0.3, color="#d5dade")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=6, frameon=False, loc="lower right")
