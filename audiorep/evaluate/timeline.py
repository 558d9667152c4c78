"""A stretch of a recording with what is annotated in it and what was detected, one above the other."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from audiorep.evaluate.figures import HUES


def timeline(
    spec: Float[np.ndarray, "f n"],
    start_s: float,
    end_s: float,
    band_hz: Sequence[float],
    rows: Sequence[tuple[str, pd.DataFrame]],
    classes: Sequence[str],
    title: str,
) -> Figure:
    """Below a spectrogram a line of bars for each of `rows`, a name and its calls (start_s, end_s, label)."""
    figure = Figure(figsize=(10.0, 2.6 + 0.35 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4.0, 0.75 * len(rows)])
    low, high = np.quantile(spec, (0.05, 0.995))
    edges = np.linspace(start_s, end_s, spec.shape[1] + 1), np.arange(spec.shape[0] + 1)
    above.pcolormesh(*edges, spec, cmap="Greys", vmin=low, vmax=max(high, low + 1e-9), rasterized=True)
    ticks = np.linspace(0, len(band_hz) - 1, 5).round().astype(int)
    above.set_yticks(ticks + 0.5, [f"{band_hz[i] / 1000:.2g}" for i in ticks], fontsize=8)
    above.set_ylabel("kHz", fontsize=9)
    above.set_title(title, fontsize=9, loc="left")
    number = {name: i for i, name in enumerate(classes)}
    for line, (_, calls) in enumerate(rows):
        for start, end, label in zip(calls["start_s"], calls["end_s"], calls["label"], strict=True):
            if end < start_s or start > end_s:
                continue
            colour = HUES[number.get(label, 0) % len(HUES)]
            left, right = max(start, start_s), min(end, end_s)
            below.broken_barh([(left, right - left)], (line + 0.1, 0.8), color=colour, linewidth=0)
            below.text(
                (left + right) / 2, line + 0.5, label, ha="center", va="center", fontsize=7, color="white", clip_on=True
            )
    below.set_ylim(len(rows), 0)
    below.set_yticks(np.arange(len(rows)) + 0.5, [name for name, _ in rows], fontsize=8)
    below.set_xlabel("s", fontsize=9)
    below.tick_params(axis="x", labelsize=8)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    below.set_xlim(start_s, end_s)
    return figure
