"""A study of models: each is made or given, and asked the same questions; a table of the figures that answer."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from audiorep.errors import AudiorepError
from audiorep.files import read_json, write_text
from audiorep.overrides import quoted, words
from audiorep.study.cells import Cell, Entry, run_cells, telling
from audiorep.study.markdown import head, opening, row, three

log = logging.getLogger(__name__)

MADE = "made"
"""The question of the cells that only make a model."""


def study(cfg: DictConfig) -> None:
    """Make the models, ask them, write `table.md` into `out`; the same command goes on where it stopped.

    The recipe: `models`, each with `make` (keys of pretrain; its corpus relative to `data`) or `model` (a folder);
    `questions`, each the keys of evaluate; `columns`, a heading to a figure of `metrics.json`; `yardsticks`, prefixes of
    figures that stand beside every model's, such as mel, and what to call them.

    Raises:
        AudiorepError: a model neither made nor given, or both; one that cannot be made; no question that was answered.
    """
    data, out = Path(str(cfg.data)), Path(str(cfg.out))
    journal, scratch = out / "cells", out / "runs"
    check(cfg, data)
    made = list(makings(cfg, data))
    for cell in made:
        if not (scratch / cell.name / "model.safetensors").exists():
            (journal / f"{cell.name}.json").unlink(missing_ok=True)
    asked = list(questions(cfg, data, scratch))
    with telling() as told:
        settings = (journal, scratch, digest, cfg.workers, cfg.threads, cfg.hours, told)
        for name, entry in run_cells(made, *settings).items():
            if entry["status"] != "done":
                raise AudiorepError(f"{name} {entry['status']}: {entry['message']}")
        ready = [cell for cell in asked if cell.facts["folder"] is None or Path(cell.facts["folder"]).exists()]
        entries = run_cells(ready, *settings)
    if not any(entry["status"] == "done" for entry in entries.values()):
        raise AudiorepError(
            "no question was answered"
            + "".join(f"; {name}: {entry['message']}" for name, entry in list(entries.items())[:1])
        )
    write_text(out / "table.md", markdown(cfg, entries))
    log.info("%d of %d questions are answered; wrote %s", len(entries), len(asked), out / "table.md")


def check(cfg: DictConfig, data: Path) -> None:
    """Refuse before the first cell what would be refused after it."""
    if not (data / str(cfg.corpus)).exists():
        raise AudiorepError(f"{data / str(cfg.corpus)} is not there: set data= to the folder that holds it")
    for name, model in cfg.models.items():
        if ("make" in model) == ("model" in model):
            raise AudiorepError(f"models.{name}: say make= or model=, and not both")


def makings(cfg: DictConfig, data: Path) -> Iterator[Cell]:
    """A cell for each model that has to be made."""
    for name, model in cfg.models.items():
        if "make" in model:
            overrides = [
                quoted(f"corpus={data / str(model.corpus)}"),
                *words(str(model.make)),
                "evaluation.beside=[]",
                "logger=none",
            ]
            command = " ".join(["pretrain", f"corpus={model.corpus}", *overrides[1:]])
            yield Cell(f"{name},{MADE}", "pretrain", overrides, {"model": name, "question": MADE}, command)


def questions(cfg: DictConfig, data: Path, scratch: Path) -> Iterator[Cell]:
    """A cell for each model and question; models that are given as null are left out."""
    for name, model in cfg.models.items():
        folder = scratch / f"{name},{MADE}" if "make" in model else model.model
        for question, keys in cfg.questions.items():
            if folder is not None:
                overrides = [quoted(f"corpus={data / str(cfg.corpus)}"), quoted(f"model={folder}"), *words(str(keys))]
                command = " ".join(["evaluate", f"corpus={cfg.corpus}", f"model={name}", *overrides[2:]])
                facts = {"model": name, "question": question, "folder": str(folder) if "make" in model else None}
                yield Cell(f"{name},{question}", "evaluate", overrides, facts, command)


def digest(cell: Cell, out: Path) -> Mapping[str, Any]:
    """The figures of an evaluation."""
    (out / "last.ckpt").unlink(missing_ok=True)
    return {"metrics": {} if cell.facts["question"] == MADE else read_json(out / "metrics.json")}


def markdown(cfg: DictConfig, entries: Mapping[str, Entry]) -> str:
    """A row a model, after the yardsticks of the first; a column a figure, with its interval."""
    figures: dict[str, dict[str, float]] = {}
    for entry in entries.values():
        figures.setdefault(entry["model"], {}).update(entry.get("metrics", {}))
    first = next(iter(figures.values()))
    rows = [
        (what, {k.removeprefix(f"{prefix}/"): v for k, v in first.items() if k.startswith(f"{prefix}/")})
        for prefix, what in cfg.yardsticks.items()
    ]
    rows += [(str(cfg.models[name].what), found) for name, found in figures.items()]
    lines = [*opening(cfg.title, cfg.name), *head(["", *cfg.columns])]
    lines += [row([what, *(shown(found, str(figure)) for figure in cfg.columns.values())]) for what, found in rows]
    return "\n".join(lines) + "\n"


def shown(found: Mapping[str, float], figure: str) -> str:
    """A figure and its interval."""
    value, low, high = (found.get(f"{figure}{end}", np.nan) for end in ("", "/low", "/high"))
    return three(value) + ("" if np.isnan(low) else f" ({three(low)} {three(high)})")
