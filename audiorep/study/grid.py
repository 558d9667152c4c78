"""A study on a grid: methods by label budgets by corpora, over folds and draws of the labels, against a first method."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from audiorep.cli import quoted, words
from audiorep.console import progress_bar
from audiorep.errors import AudiorepError
from audiorep.evaluate.metrics import SINGLE_LABEL, Predictions, paired_difference
from audiorep.evaluate.pictures import learning_curve
from audiorep.evaluate.predictions import NAME as PREDICTIONS
from audiorep.evaluate.predictions import read_predictions
from audiorep.files import read_json, write_bytes, write_text
from audiorep.study.cells import Cell, Entry, run_cells
from audiorep.study.tables import three

log = logging.getLogger(__name__)

PRETRAINED = "pretrained"
"""The method name of the cells that only make what others start from."""

SHOWN = ("balanced_accuracy", "macro_f1", "cmap", "ece")


@dataclass(frozen=True)
class Grid:
    """What a recipe says: corpora, methods, budgets; root: where the corpora are; folder: where everything goes."""

    cfg: DictConfig
    root: Path
    folder: Path
    journal: Path

    @property
    def scratch(self) -> Path:
        return self.folder / "runs"


def study(cfg: DictConfig) -> None:
    """Run the cells that are missing, then write `table.csv`, `table.md` and a learning curve a corpus into `out`.

    Raises:
        AudiorepError: a corpus that is not there, no cell that has ended, a method that is none.
    """
    grid = Grid(cfg, Path(str(cfg.data)), Path(str(cfg.out)), Path(str(cfg.journal or Path(str(cfg.out)) / "cells")))
    check(grid)
    first = list(pretraining(grid))
    for cell in first:  # what others start from has to be there, whatever the journal says
        if not (grid.scratch / cell.name / "model.safetensors").exists():
            (grid.journal / f"{cell.name}.json").unlink(missing_ok=True)
    cells = list(cells_of(grid))
    with progress_bar("cells") as progress:

        def told(done: int, total: int, name: str) -> None:
            progress(done, total)
            if name:
                log.info("%d of %d: %s", done, total, name)

        settings = (grid.journal, grid.scratch, digest_in(grid), cfg.workers, cfg.threads, cfg.hours, told)
        entries: dict[str, Entry] = {}
        for corpus in cfg.corpora:
            here = [cell for cell in cells if cell.facts["corpus"] == corpus]
            needed = {cell.facts["starts_from"] for cell in here}
            for name, entry in run_cells([cell for cell in first if cell.name in needed], *settings).items():
                if entry["status"] != "done":
                    raise AudiorepError(f"{name}, from which others start, {entry['status']}: {entry['message']}")
            ready = [cell for cell in here if starts(grid, cell)]
            entries |= run_cells(ready, *settings)
    table = summarise(grid, entries)
    if table.empty:
        raise AudiorepError("no cell has ended yet: give it more hours=, and run the same command again")
    write_text(grid.folder / "table.csv", table.to_csv(index=False))
    write_text(grid.folder / "table.md", markdown(grid, table))
    draw(grid, table)
    done = sum(entry["status"] == "done" for entry in entries.values())
    log.info("%d of %d cells are done; wrote %s", done, len(cells), grid.folder / "table.md")


def starts(grid: Grid, cell: Cell) -> bool:
    """Whether what a cell starts from is there: it is not where time ran out before."""
    return (
        cell.facts["starts_from"] is None or (grid.scratch / cell.facts["starts_from"] / "model.safetensors").exists()
    )


def check(grid: Grid) -> None:
    """Refuse before the first cell what would be refused after it."""
    for name, corpus in grid.cfg.corpora.items():
        path = grid.root / str(corpus.corpus)
        if not path.exists():
            raise AudiorepError(f"corpora.{name}.corpus={path} is not there: set data= to the folder that holds it")
    for name, method in grid.cfg.methods.items():
        if method.get("starts_from") and method.starts_from not in grid.cfg.pretraining:
            known = ", ".join(grid.cfg.pretraining)
            raise AudiorepError(f"methods.{name}.starts_from={method.starts_from} is not among pretraining: {known}")


def pretraining(grid: Grid) -> Iterator[Cell]:
    """What is pretrained on each fold of each corpus: the training side's recordings alone, without labels."""
    for name, corpus in grid.cfg.corpora.items():
        for kind, overrides in {**grid.cfg.pretraining, **corpus.get("pretraining", {})}.items():
            for fold in range(len(corpus.folds)):
                verb, given = verb_of(str(overrides))
                facts = {"corpus": name, "method": PRETRAINED, "kind": kind, "fold": fold}

                def command(
                    root: Path, given: Sequence[str] = given, corpus: Any = corpus, fold: int = fold
                ) -> list[str]:
                    return [
                        quoted(f"corpus={root / str(corpus.corpus)}"), *words(corpus.folds[fold]), *words(corpus.overrides),
                        *given, "evaluation.beside=[]", "logger=none",
                    ]  # fmt: skip

                yield Cell(f"{name},{kind},{fold}", verb, command(grid.root), facts, " ".join([verb, *command(Path())]))


def verb_of(text: str) -> tuple[str, list[str]]:
    """The verb and the overrides of ``"pretrain objective=swav ..."``, or of ``"run NAME key=value"``."""
    verb, *rest = text.split(" ", 1)
    if verb == "run":
        name, *rest = rest[0].split(" ", 1)
        return verb, [name, *words(rest[0] if rest else "")]
    return verb, words(rest[0] if rest else "")


def cells_of(grid: Grid) -> Iterator[Cell]:
    """Budget by budget, fold by fold, all methods on all corpora."""
    for name, corpus in grid.cfg.corpora.items():
        for budget, folds in corpus.budgets.items():
            for fold in folds:
                for draw_seed in grid.cfg.draws:
                    for method, settings in grid.cfg.methods.items():
                        if method not in corpus.get("skip", []):
                            yield cell(
                                grid, str(name), corpus, str(budget), int(fold), int(draw_seed), str(method), settings
                            )


def cell(
    grid: Grid, name: str, corpus: Any, budget: str, fold: int, draw_seed: int, method: str, settings: Any
) -> Cell:
    """The command of one method with one budget on one fold."""
    verb, given = verb_of(str(settings.command))
    start = settings.get("starts_from")
    starts_from = f"{name},{start},{fold}" if start else None

    def command(root: Path, scratch: Path) -> list[str]:
        labels = [] if budget == "all" or verb == "evaluate" else [f"labels_per_class={budget}"]
        init = [quoted(f"{settings.get('starts_as', 'init')}={scratch / starts_from}")] if starts_from else []
        split = f"{corpus.folds[fold]} {corpus.overrides}"
        own = [quoted(f"train={split} {settings.get('train', '')}")] if verb == "run" else words(split)
        quiet = ["logger=none"] if verb == "train" else []
        head = given[:1] if verb == "run" else []
        rest = given[1:] if verb == "run" else given
        return [
            *head,
            quoted(f"corpus={root / str(corpus.corpus)}"),
            *own,
            *labels,
            *init,
            f"seed={draw_seed}",
            *rest,
            *quiet,
        ]

    facts = {
        "corpus": name, "method": method, "budget": budget, "fold": fold, "draw": draw_seed, "starts_from": starts_from,
        "protocol": settings.get("protocol", "classifier"),
    }  # fmt: skip
    return Cell(
        f"{name},{budget},{method},{fold},{draw_seed}",
        verb,
        command(grid.root, grid.scratch),
        facts,
        " ".join([verb, *command(Path(), Path())]),
    )


def digest_in(grid: Grid) -> Any:
    """What to keep of a cell: its scores, and what it said of the test side."""

    def digest(cell: Cell, out: Path) -> dict[str, Any]:
        (out / "last.ckpt").unlink(missing_ok=True)
        if cell.facts["method"] == PRETRAINED:
            return {"metrics": {}}
        protocol = cell.facts["protocol"]
        held = read_predictions(out / PREDICTIONS)
        if protocol not in held:
            raise AudiorepError(f"{out / PREDICTIONS} has no predictions of {protocol}; there are: {', '.join(held)}")
        write_bytes(grid.journal / f"{cell.name}.npz", (out / PREDICTIONS).read_bytes())
        metrics = read_json(out / "metrics.json") if (out / "metrics.json").exists() else {}
        config = out / "config.json"
        spent = {"cpu_seconds": read_json(config)["training"]["cpu_seconds"]} if config.exists() else {}
        (out / "model.safetensors").unlink(missing_ok=True)
        return {"metrics": {name: round(v, 5) for name, v in metrics.items() if overall(name)}, **spent}

    return digest


def overall(name: str) -> bool:
    """Whether a metric is of all classes together."""
    parts = name.removeprefix("mel/").split("/")
    return parts[0] in ("test", "calibration") and (len(parts) < 3 or parts[2] in ("low", "high"))


def summarise(grid: Grid, entries: Mapping[str, Entry]) -> pd.DataFrame:
    """A row for each corpus, budget and method, and for mel: means over folds and draws, difference from `against`."""
    done = [entry for entry in entries.values() if entry["status"] == "done"]
    failed = [entry for entry in entries.values() if entry["status"] != "done"]
    rows: list[dict[str, Any]] = []
    metric = SINGLE_LABEL[str(grid.cfg.judge)]
    for name in grid.cfg.corpora:
        for budget in grid.cfg.corpora[name].budgets:
            here = [e for e in done if e["corpus"] == name and e["budget"] == str(budget)]
            held = {method: said_by(grid, [e for e in here if e["method"] == method]) for method in grid.cfg.methods}
            beside = said_by(grid, [e for e in here if e["method"] == grid.cfg.against], "mel/classifier")
            for method, said in [("mel, linear", beside), *held.items()]:
                told = [e for e in here if e["method"] == method]
                broken = [e for e in failed if (e["corpus"], e["budget"], e["method"]) == (name, str(budget), method)]
                if not said:
                    if broken:
                        rows.append(
                            {
                                "corpus": name,
                                "budget": budget,
                                "method": method,
                                "cells": 0,
                                "status": broken[0]["status"],
                            }
                        )
                    continue
                scores = [float(metric(p, np.ones((1, len(p.truth))))[0]) for p in said.values()]
                row = {
                    "corpus": name, "budget": budget, "method": method, "cells": len(said), "status": "done",
                    "score": float(np.mean(scores)), "deviation": float(np.std(scores)) if len(scores) > 1 else np.nan,
                    "worst": float(np.min(scores)),
                }  # fmt: skip
                row |= {
                    other: float(
                        np.mean([SINGLE_LABEL[other](p, np.ones((1, len(p.truth))))[0] for p in said.values()])
                    )
                    for other in ("macro_f1", "cmap")
                }
                row["cpu_seconds"] = float(np.mean([e["cpu_seconds"] for e in told if "cpu_seconds" in e] or [np.nan]))
                row["ece"] = float(
                    np.mean([e["metrics"]["test/ece"] for e in told if "test/ece" in e["metrics"]] or [np.nan])
                )
                against = grid.cfg.methods.get(method, {}).get("against", grid.cfg.against)
                row |= difference(said, held[against], metric)
                rows.append(row)
    return pd.DataFrame(rows)


Said = dict[tuple[int, int], Predictions]
"""Predictions by (fold, draw)."""


def said_by(grid: Grid, entries: Sequence[Entry], protocol: str | None = None) -> Said:
    """What a method said, by fold and draw."""
    found: Said = {}
    for e in entries:
        name = f"{e['corpus']},{e['budget']},{e['method']},{e['fold']},{e['draw']}"
        found[e["fold"], e["draw"]] = read_predictions(grid.journal / f"{name}.npz")[protocol or e["protocol"]][0]
    return found


def difference(ours: Said, theirs: Said, metric: Any) -> dict[str, float]:
    """The mean difference over the folds and draws that both have, with a paired bootstrap over the groups of all folds."""
    shared = [key for key in ours if key in theirs]
    if not shared or all(ours[key] is theirs[key] for key in shared):
        return {}
    draws = sorted({draw for _, draw in shared})
    complete = [d for d in draws if len([1 for fold, draw in shared if draw == d]) == len({f for f, _ in shared})]
    pairs = [
        [together([said[key] for key in sorted(shared) if key[1] == d]) for d in complete] for said in (ours, theirs)
    ]
    if not complete or any(not np.array_equal(a.truth, b.truth) for a, b in zip(*pairs, strict=True)):
        return {}
    mean, low, high = paired_difference(pairs[0], pairs[1], metric)
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
    lines = [
        f"# {grid.cfg.title}",
        "",
        f"Written by `audiorep run {grid.cfg.name}`; see README.md for what it says.",
        "",
    ]
    judge = str(grid.cfg.judge).replace("_", " ")
    for name in dict.fromkeys(table.corpus):
        lines += [f"## {name}", "", str(grid.cfg.corpora[name].what), ""]
        for budget in dict.fromkeys(table[table.corpus == name].budget):
            part = table[(table.corpus == name) & (table.budget == budget)]
            what = "All labels" if budget == "all" else f"{budget} label(s) a class"
            lines += [
                f"{what}:", "",
                f"| method | cells | {judge} | worst | macro F1 | cmAP | ECE | minus {grid.cfg.against} | CPU s |",
                "|---" * 9 + "|",
            ]  # fmt: skip
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
    text = (
        f"{row.difference:+.3f} ({row.low:+.3f} {row.high:+.3f})"
        if row.get("low", np.nan) == row.get("low", np.nan)
        else ""
    )
    text = f"**{text}**" if text and row.low > 0 else text
    cost = "" if np.isnan(row.cpu_seconds) else f"{row.cpu_seconds:.0f}"
    cells = [
        row.method,
        str(row.cells),
        score,
        three(row.worst),
        three(row.macro_f1),
        three(row.cmap),
        three(row.ece),
        text,
        cost,
    ]
    return "| " + " | ".join(cells) + " |"


def draw(grid: Grid, table: pd.DataFrame) -> None:
    """A learning curve over the budgets for every corpus that has two of them or more."""
    for name, part in table[table.status == "done"].groupby("corpus", sort=False):
        budgets = [str(b) for b in grid.cfg.corpora[name].budgets if b in set(part.budget)]
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
        learning_curve(budgets, series, grid.folder / f"{name}.png", str(grid.cfg.judge).replace("_", " "))
