"""A study of detectors: one is trained on each fold of each corpus, and judged call by call on recordings it never heard."""

import logging
from collections.abc import Iterator, Mapping, Sequence
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


def study(cfg: DictConfig) -> None:
    """Train and judge a detector a fold, write `table.md` into `out`; the same command goes on where it stopped.

    Raises:
        AudiorepError: a corpus that is not there, or not one cell that could be run.
    """
    data, out = Path(str(cfg.data)), Path(str(cfg.out))
    cells = list(cells_of(cfg, data))
    with telling() as told:
        entries = run_cells(cells, out / "cells", out / "runs", digest, cfg.workers, cfg.threads, cfg.hours, told)
    done = {name: entry for name, entry in entries.items() if entry["status"] == "done"}
    for name, entry in entries.items():
        if name not in done:
            log.warning("%s %s: %s", name, entry["status"], entry["message"])
    if not done:
        raise AudiorepError(f"not one of {len(cells)} cells could be run")
    write_text(out / "table.md", markdown(cfg, done))
    log.info("%d of %d cells; wrote %s", len(done), len(cells), out / "table.md")


def cells_of(cfg: DictConfig, data: Path) -> Iterator[Cell]:
    """A cell for each fold of each corpus."""
    for name, corpus in cfg.corpora.items():
        path = data / str(corpus.corpus)
        if not path.exists():
            raise AudiorepError(f"{path} is not there: set data= to the folder that holds it")
        for fold, keys in enumerate(corpus.folds):
            overrides = [quoted(f"corpus={path}"), *words(f"{cfg.train} {keys}"), "logger=none"]
            command = " ".join(["train", f"corpus={corpus.corpus}", *overrides[1:]])
            yield Cell(f"{name},{fold}", "train", overrides, {"corpus": name, "fold": fold}, command)


def digest(cell: Cell, out: Path) -> Mapping[str, Any]:
    """The figures of a detector."""
    (out / "last.ckpt").unlink(missing_ok=True)
    return {"metrics": read_json(out / "metrics.json")}


def markdown(cfg: DictConfig, done: Mapping[str, Entry]) -> str:
    """A row a corpus: means over its folds, and the intervals' ends averaged; then a table of classes each."""
    figures = [str(cfg.judge), *map(str, cfg.beside)]
    lines = [*opening(cfg.title, cfg.name), *head(["", "folds", *(name.replace("_", " ") for name in figures)])]
    of_corpus = {name: [e["metrics"] for e in done.values() if e["corpus"] == name] for name in cfg.corpora}
    of_corpus = {name: found for name, found in of_corpus.items() if found}
    for name, found in of_corpus.items():
        scores = [shown(found, f"test/{figure}") for figure in figures]
        lines.append(row([str(cfg.corpora[name].what), str(len(found)), *scores]))
    for name, found in of_corpus.items():
        start = f"test/{cfg.judge}/"
        kinds = sorted(
            {key.removeprefix(start) for one in found for key in one if key.startswith(start)} - {"low", "high"}
        )
        scores = [shown(found, start + kind) for kind in kinds]
        lines += ["", f"{name}, by type:", "", *head(kinds), row(scores)]
    return "\n".join(lines) + "\n"


def shown(found: Sequence[Mapping[str, float]], figure: str) -> str:
    """The mean of a figure over folds, with the mean ends of its interval where it has one."""
    mean, low, high = (
        float(np.mean(values)) if (values := [one[figure + end] for one in found if figure + end in one]) else np.nan
        for end in ("", "/low", "/high")
    )
    text = three(mean) if mean <= 1 else f"{mean:.0f}"
    return text + ("" if np.isnan(low) else f" ({three(low)} {three(high)})")
