"""What learning curves say: the area under them, and how many labels a strategy saves."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from audiorep.active.loop import Point

REACHED = 0.95
"""A curve has arrived where it reaches this part of the score with all labels."""


def area(points: Sequence[Point]) -> float:
    """Area under the learning curve over the labels from the first score to the last, by trapezia, divided by their
    number: a mean score. A round without a model counts as 0."""
    labels, score = np.array([p.labels for p in points], float), np.array([p.score for p in points])
    score = np.nan_to_num(score)
    if len(points) == 1:
        return float(score[0])
    return float(np.trapezoid(score, labels) / (labels[-1] - labels[0]))


def labels_needed(points: Sequence[Point], target: float) -> float:
    """The labels at which the curve first reaches `target`, between two rounds by a straight line; inf: it does not."""
    before = Point(0, 0.0, 0.0, 0, 0.0, 0.0)
    for p in points:
        if np.nan_to_num(p.score) >= target:
            rise = p.score - before.score
            part = 1.0 if rise <= 0.0 else (target - before.score) / rise
            return float(before.labels + part * (p.labels - before.labels))
        before = p if np.isfinite(p.score) else Point(p.labels, p.minutes, 0.0, 0, 0.0, 0.0)
    return float("inf")


def minutes_needed(points: Sequence[Point], target: float) -> float:
    """The minutes listened to in the round in which the curve first reaches `target`; inf: it does not."""
    return next((p.minutes for p in points if np.nan_to_num(p.score) >= target), float("inf"))


def summarise(curves: Mapping[str, Sequence[Sequence[Point]]], full: Sequence[float]) -> pd.DataFrame:
    """A row a strategy: means over seeds, and what is saved beside `random`, where that is among the strategies.

    Args:
        curves: of each strategy, one curve a seed.
        full: of each seed, the score with all labels.

    Returns:
        `area` and its standard deviation over seeds; `labels` needed on average for `REACHED` of the full score (inf where
        one seed does not get there, `reached` how many do); `of_random`, the part of random's labels that this is; `last`,
        the score at the end of the budget; `seconds`, choosing and training, a round.
    """
    rows: list[dict[str, Any]] = []
    for name, of_seed in curves.items():
        needed = [labels_needed(points, REACHED * best) for points, best in zip(of_seed, full, strict=True)]
        minutes = [minutes_needed(points, REACHED * best) for points, best in zip(of_seed, full, strict=True)]
        areas = [area(points) for points in of_seed]
        rows.append(
            {
                "strategy": name,
                "area": float(np.mean(areas)),
                "deviation": float(np.std(areas)),
                "labels": float(np.mean(needed)),
                "reached": int(np.isfinite(needed).sum()),
                "minutes": float(np.mean(minutes)),
                "last": float(np.mean([points[-1].score for points in of_seed])),
                "full": float(np.mean(full)),
                "choosing_s": float(np.mean([p.choosing_s for points in of_seed for p in points])),
                "training_s": float(np.mean([p.training_s for points in of_seed for p in points])),
            }
        )
    table = pd.DataFrame(rows)
    beside = table.loc[table.strategy == "random", "labels"]
    base = float(beside.iloc[0]) if len(beside) else np.nan
    with np.errstate(invalid="ignore"):
        table["of_random"] = table.labels / base if np.isfinite(base) else np.nan
    table.attrs["seeds"] = len(full)
    return table


def points_table(curves: Mapping[str, Sequence[Sequence[Point]]]) -> pd.DataFrame:
    """All points, a row each."""
    return pd.DataFrame(
        [
            {"strategy": name, "seed": seed, **vars(p)}
            for name, of_seed in curves.items()
            for seed, points in enumerate(of_seed)
            for p in points
        ]
    )
