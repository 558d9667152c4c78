"""A study on a grid: methods by label budgets by corpora, over folds and draws of the labels, against a first method."""

import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from audiorep.errors import AudiorepError
from audiorep.evaluate.predictions import NAME as PREDICTIONS
from audiorep.evaluate.predictions import read_predictions
from audiorep.evaluate.results import is_overall
from audiorep.files import read_json, write_bytes, write_text
from audiorep.study.cells import Cell, Entry, is_done, read_journal, run_cells, telling
from audiorep.study.grid_cells import PRETRAINED, Grid, cells_of, pretraining
from audiorep.study.grid_table import draw, markdown, summarise

log = logging.getLogger(__name__)


def study(cfg: DictConfig) -> None:
    """Run the cells that are missing, then write `table.csv`, `table.md` and a learning curve a corpus into `out`.

    Raises:
        AudiorepError: a corpus that is not there, no cell that has ended, a method that is none.
    """
    grid = Grid(cfg, Path(str(cfg.data)), Path(str(cfg.out)), Path(str(cfg.journal or Path(str(cfg.out)) / "cells")))
    check(grid)
    first, cells, kept = list(pretraining(grid)), list(cells_of(grid)), read_journal(grid.journal)
    with telling() as told:
        settings = (grid.journal, grid.scratch, digest_in(grid), cfg.workers, cfg.threads, cfg.hours, told)
        entries: dict[str, Entry] = {}
        for corpus in cfg.corpora:
            here = [cell for cell in cells if cell.facts["corpus"] == corpus]
            needed = {cell.facts["starts_from"] for cell in here if not is_done(cell, kept)}
            begin = [cell for cell in first if cell.name in needed]
            for cell in begin:  # what others start from has to be there, whatever the journal says
                if not is_there(grid, cell.name):
                    (grid.journal / f"{cell.name}.json").unlink(missing_ok=True)
            for name, entry in run_cells(begin, *settings).items():
                if entry["status"] != "done":
                    raise AudiorepError(f"{name}, from which others start, {entry['status']}: {entry['message']}")
            ready = [cell for cell in here if is_done(cell, kept) or is_there(grid, cell.facts["starts_from"])]
            entries |= run_cells(ready, *settings)
    table = summarise(grid, entries)
    if table.empty:
        raise AudiorepError("no cell has ended yet: give it more hours=, and run the same command again")
    write_text(grid.folder / "table.csv", table.to_csv(index=False))
    write_text(grid.folder / "table.md", markdown(grid, table))
    draw(grid, table)
    done = sum(entry["status"] == "done" for entry in entries.values())
    log.info("%d of %d cells are done; wrote %s", done, len(cells), grid.folder / "table.md")


def is_there(grid: Grid, start: str | None) -> bool:
    """Whether what a cell starts from is there, if it starts from anything: it is not where time ran out before."""
    return start is None or (grid.scratch / start / "model.safetensors").exists()


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
        overall = (name for name in metrics if is_overall(name.removeprefix("mel/").removeprefix("peer/")))
        kept = {name: round(metrics[name], 5) for name in overall}
        return {"metrics": kept, **spent}

    return digest
