"""A study on a grid as a table: from the journal's entries to means over folds and draws, to Markdown and a picture."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from audiorep.evaluate.metrics import SINGLE_LABEL, Predictions, paired_differences
from audiorep.evaluate.pictures import learning_curve
from audiorep.evaluate.predictions import read_predictions
from audiorep.study.cells import Entry
from audiorep.study.grid_cells import Grid
from audiorep.study.markdown import difference as difference_text
from audiorep.study.markdown import head, opening, three
from audiorep.study.markdown import row as row_text

MEL = "mel, linear"
"""What stands beside the methods: a linear probe of mel statistics on the labels that `against` had."""

Said = dict[tuple[int, int], Predictions]
"""Predictions by (fold, draw)."""


def summarise(grid: Grid, entries: Mapping[str, Entry]) -> pd.DataFrame:
    """A row for each corpus, budget and method, and for mel: means over folds and draws, difference from `against`."""
    rows = []
    for name, corpus in grid.cfg.corpora.items():
        for budget in by_size(corpus.budgets):
            here = [e for e in entries.values() if (e["corpus"], e["budget"]) == (name, str(budget))]
            rows += [{"corpus": name, "budget": budget, **row} for row in rows_of(grid, here)]
    return pd.DataFrame(rows)


def by_size(budgets: Iterable[Any]) -> list[Any]:
    """Budgets from the smallest on, all labels last; a recipe may name the one that counts first."""

    def size(budget: Any) -> float:
        number = str(budget).removesuffix("%")
        return float(number) if number.isdigit() else float("inf")

    return sorted(budgets, key=size)


def rows_of(grid: Grid, here: Sequence[Entry]) -> Iterator[dict[str, Any]]:
    """Mel, then the methods, from all entries of one budget on one corpus; what has no cell yet is left out."""
    judge, methods = str(grid.cfg.judge), grid.cfg.methods
    done = {method: [e for e in here if (e["method"], e["status"]) == (method, "done")] for method in methods}
    said = {method: said_by(grid, own) for method, own in done.items()}
    mel = said_by(grid, done.get(grid.cfg.against, []), "mel/classifier")
    for method, heard in {MEL: mel, **said}.items():
        against = methods.get(method, {}).get("against", grid.cfg.against)
        broken = [e["status"] for e in here if e["method"] == method and e["status"] != "done"]
        if heard:
            row = figures(heard, done.get(method, []), judge)
            yield {"method": method, **row, **difference(heard, said[against], SINGLE_LABEL[judge])}
        elif broken:
            yield {"method": method, "cells": 0, "status": broken[0]}


def figures(said: Said, entries: Sequence[Entry], judge: str) -> dict[str, Any]:
    """Means over the cells of one method: the score by `judge` with deviation and worst, other scores, cost, ECE."""
    scores = scores_of(said, judge)
    return {
        "cells": len(said),
        "status": "done",
        "score": mean(scores),
        "deviation": float(np.std(scores)) if len(scores) > 1 else np.nan,
        "worst": float(np.min(scores)),
        **{other: mean(scores_of(said, other)) for other in ("macro_f1", "cmap")},
        "cpu_seconds": mean(e["cpu_seconds"] for e in entries if "cpu_seconds" in e),
        "ece": mean(e["metrics"]["test/ece"] for e in entries if "test/ece" in e["metrics"]),
    }


def scores_of(said: Said, metric: str) -> list[float]:
    """A score of each cell."""
    return [float(SINGLE_LABEL[metric](p, np.ones((1, len(p.truth))))[0]) for p in said.values()]


def mean(values: Iterable[float]) -> float:
    """The mean; NaN of nothing."""
    return float(np.mean(list(values) or [np.nan]))


def said_by(grid: Grid, entries: Sequence[Entry], protocol: str | None = None) -> Said:
    """What a method said, by fold and draw; where it was asked by another protocol than its own, nothing."""
    found: Said = {}
    for e in entries:
        name = f"{e['corpus']},{e['budget']},{e['method']},{e['fold']},{e['draw']}"
        held, asked = read_predictions(grid.journal / f"{name}.npz"), protocol or e["protocol"]
        if asked in held:
            found[e["fold"], e["draw"]] = held[asked][0]
    return found


def difference(ours: Said, theirs: Said, metric: Any) -> dict[str, float]:
    """The mean difference over the folds and draws that both have, with a paired bootstrap over the groups of all folds.

    Folds are joined before they are scored. Where some have other numbers of classes (one was too rare to be kept on both
    sides), those with the same number are joined, and the differences averaged, each counting as many times as it has folds.
    """
    shared = [key for key in ours if key in theirs]
    if not shared or all(ours[key] is theirs[key] for key in shared):
        return {}
    draws = sorted({draw for _, draw in shared})
    complete = [d for d in draws if len([1 for fold, draw in shared if draw == d]) == len({f for f, _ in shared})]
    alike: dict[int, list[int]] = {}
    for fold in sorted({fold for fold, _ in shared}) if complete else ():
        widths = {said[fold, d].score.shape[1] for said in (ours, theirs) for d in complete}
        if len(widths) > 1:
            return {}
        alike.setdefault(widths.pop(), []).append(fold)

    def joined(said: Said, folds: list[int]) -> list[Predictions]:
        return [together([said[fold, d] for fold in folds]) for d in complete]

    pairs = [(joined(ours, folds), joined(theirs, folds)) for folds in alike.values()]
    if not pairs or any(not np.array_equal(x.truth, y.truth) for pair in pairs for x, y in zip(*pair, strict=True)):
        return {}
    mean, low, high = paired_differences(pairs, [len(folds) for folds in alike.values()], metric)
    return {"difference": mean, "low": low, "high": high}


def together(parts: Sequence[Predictions]) -> Predictions:
    """The test sides of all folds as one; their groups do not meet."""
    return Predictions(
        np.concatenate([p.truth for p in parts]),
        np.concatenate([p.score for p in parts]),
        np.concatenate([p.group for p in parts]),
    )


def markdown(grid: Grid, table: pd.DataFrame) -> str:
    """A section a corpus, a table a budget."""
    lines = opening(grid.cfg.title, grid.cfg.name)
    judge = str(grid.cfg.judge).replace("_", " ")
    for name in dict.fromkeys(table.corpus):
        lines += [f"## {name}", "", str(grid.cfg.corpora[name].what), ""]
        for budget in dict.fromkeys(table[table.corpus == name].budget):
            part = table[(table.corpus == name) & (table.budget == budget)]
            some = f"{budget} of the labels" if str(budget).endswith("%") else f"{budget} label(s) a class"
            what = "All labels" if budget == "all" else some
            names = ["method", "cells", judge, "worst", "macro F1", "cmAP", "ECE", f"minus {grid.cfg.against}", "CPU s"]
            lines += [f"{what}:", "", *head(names)]
            for _, row in part.iterrows():
                lines.append(line(row))
            lines.append("")
    lines += [
        "Means over the cells (folds and draws of the labels), ±: their standard deviation. Differences: in brackets the",
        "95 % interval of a paired bootstrap over groups (expanded percentile interval), bold where it lies above 0. CPU s:",
        "without pretraining.",
    ]
    return "\n".join(lines) + "\n"


def line(row: pd.Series) -> str:
    """One row of the Markdown table."""
    if row.status != "done":
        return f"| {row.method} | {row.status} |" + " |" * 7
    score = three(row.score) + ("" if np.isnan(row.deviation) else f" ± {three(row.deviation)}")
    ends = (row.get(name, np.nan) for name in ("difference", "low", "high"))
    against = difference_text(*ends, bold=row.get("low", np.nan) > 0)
    others = [three(row[name]) for name in ("worst", "macro_f1", "cmap", "ece")]
    cost = "" if np.isnan(row.cpu_seconds) else f"{row.cpu_seconds:.0f}"
    return row_text([row.method, str(row.cells), score, *others, against, cost])


def draw(grid: Grid, table: pd.DataFrame) -> None:
    """A learning curve over the budgets for every corpus that has two of them or more."""
    for name, part in table[table.status == "done"].groupby("corpus", sort=False):
        budgets = [str(b) for b in by_size(grid.cfg.corpora[name].budgets) if b in set(part.budget)]
        if len(budgets) < 2:
            continue
        nan = (float("nan"),) * 3
        series = {
            str(method): [
                next(((r.score, r.score, r.score) for _, r in rows.iterrows() if str(r.budget) == b), nan)
                for b in budgets
            ]
            for method, rows in part.groupby("method", sort=False)
        }
        known = "part of the labels" if budgets[0].endswith("%") else "labelled calls of each class"
        learning_curve(budgets, series, grid.folder / f"{name}.png", str(grid.cfg.judge).replace("_", " "), known)
