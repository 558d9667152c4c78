"""The study of strategies: all of them on several corpora, on embeddings of several encoders; one table, one picture."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from audiorep.active.curves import summarise
from audiorep.active.loop import Point
from audiorep.active.picture import draw_panels
from audiorep.errors import AudiorepError
from audiorep.files import read_json, write_bytes, write_text
from audiorep.overrides import quoted, words
from audiorep.study.cells import Cell, Entry, run_cells, telling
from audiorep.study.markdown import head, opening, row, three

log = logging.getLogger(__name__)

RANDOM = "random"
"""What all are compared with; its cell also keeps the embeddings for the others."""

Curves = dict[str, list[list[Point]]]


def study(cfg: DictConfig) -> None:
    """Pretrain the encoders, simulate every strategy, write `table.csv`, `table.md` and `curves.png` into `out`; the same
    command goes on where it stopped.

    Raises:
        AudiorepError: a corpus that is not there, an encoder that cannot be trained, or no cell that has ended.
    """
    data, out = Path(str(cfg.data)), Path(str(cfg.out))
    journal, scratch = Path(str(cfg.journal or out / "cells")), out / "runs"
    for name, corpus in cfg.corpora.items():
        if not (data / str(corpus.corpus)).exists():
            raise AudiorepError(
                f"corpora.{name}.corpus={data / str(corpus.corpus)} is not there: set data= to its folder"
            )
    made = list(makings(cfg, data))
    for cell in made:
        if not (scratch / cell.name / "model.safetensors").exists():
            (journal / f"{cell.name}.json").unlink(missing_ok=True)
    with telling() as told:
        settings = (journal, scratch, digest_in(journal), cfg.workers, cfg.threads, cfg.hours, told)
        for name, entry in run_cells(made, *settings).items():
            if entry["status"] != "done":
                raise AudiorepError(f"{name} {entry['status']}: {entry['message']}")
        ready = {cell.name for cell in made if (scratch / cell.name / "model.safetensors").exists()}
        cells = [cell for cell in simulations(cfg, data, scratch) if cell.facts["starts_from"] in (None, *ready)]
        first = [cell for cell in cells if cell.facts["strategy"] == RANDOM]  # so that no two write the same embeddings
        entries = run_cells(first, *settings)
        entries |= run_cells([cell for cell in cells if cell not in first], *settings)
    done = {name: entry for name, entry in entries.items() if entry["status"] == "done"}
    if not done:
        raise AudiorepError("no cell has ended yet: give it more hours=, and run the same command again")
    table, curves = summary(cfg, done, journal)
    write_text(out / "table.csv", table.to_csv(index=False))
    write_text(out / "table.md", markdown(cfg, table))
    draw_panels(curves, out / "curves.png", [str(name) for name in cfg.drawn])
    log.info("%d of %d cells are done; wrote %s", len(done), len(cells), out / "table.md")


def makings(cfg: DictConfig, data: Path) -> Iterator[Cell]:
    """A cell for each encoder that is trained on each corpus."""
    for encoder, settings in cfg.encoders.items():
        if "pretrain" in settings:
            for name, corpus in cfg.corpora.items():
                given = [
                    *words(str(corpus.overrides)),
                    *words(str(settings.pretrain)),
                    "evaluation.beside=[]",
                    "logger=none",
                ]
                command = " ".join(["pretrain", f"corpus={corpus.corpus}", *given])
                facts = {"corpus": name, "encoder": encoder, "strategy": None, "starts_from": None}
                yield Cell(
                    f"{name},{encoder}",
                    "pretrain",
                    [quoted(f"corpus={data / str(corpus.corpus)}"), *given],
                    facts,
                    command,
                )


def simulations(cfg: DictConfig, data: Path, scratch: Path) -> Iterator[Cell]:
    """A cell for each strategy on each corpus and encoder; encoders that are given as null are left out."""
    for name, corpus in cfg.corpora.items():
        for encoder, settings in cfg.encoders.items():
            start = f"{name},{encoder}" if "pretrain" in settings else None
            folder = scratch / start if start else settings.model
            if folder is None:
                continue
            for strategy, more in cfg.strategies.items():
                given = [
                    f"selector={strategy}", *words(str(corpus.overrides)), *words(str(corpus.get("asked", ""))),
                    *words(str(cfg.shared)), *words(str(more or "")), "beside=[]",
                ]  # fmt: skip
                paths = [
                    quoted(f"corpus={data / str(corpus.corpus)}"), quoted(f"model={folder}"),
                    quoted(f"embeddings={scratch / f'{name},{encoder}.npz'}"),
                ]  # fmt: skip
                command = " ".join(["active", f"corpus={corpus.corpus}", f"model={encoder}", *given])
                facts = {"corpus": name, "encoder": encoder, "strategy": strategy, "starts_from": start}
                yield Cell(f"{name},{encoder},{strategy}", "active", [*paths, *given], facts, command)


def digest_in(journal: Path) -> Any:
    """What is kept of a cell: its curves."""

    def digest(cell: Cell, out: Path) -> dict[str, Any]:
        (out / "last.ckpt").unlink(missing_ok=True)
        if cell.facts["strategy"] is None:
            return {"metrics": {}}
        write_bytes(journal / f"{cell.name}.csv", (out / "curves.csv").read_bytes())
        return {"metrics": read_json(out / "metrics.json")}

    return digest


def summary(
    cfg: DictConfig, done: Mapping[str, Entry], journal: Path
) -> tuple[pd.DataFrame, dict[str, tuple[Curves, float]]]:
    """A row for each corpus, encoder and strategy; and the curves of each corpus and encoder with the score of all labels."""
    tables, panels = [], {}
    for name in cfg.corpora:
        for encoder in cfg.encoders:
            here = {e["strategy"]: e for e in done.values() if (e["corpus"], e["encoder"]) == (name, encoder)}
            if not here:
                continue
            curves = {s: read_curves(journal / f"{name},{encoder},{s}.csv") for s in cfg.strategies if s in here}
            full = {s: here[s]["metrics"][f"{s}/full"] for s in curves}
            parts = [summarise({s: c}, [full[s]] * len(c)) for s, c in curves.items()]
            table = pd.concat(parts, ignore_index=True)
            base = table.loc[table.strategy == RANDOM, "labels"]
            spent = max((points[-1].labels for of_seed in curves.values() for points in of_seed), default=np.nan)
            all_there = bool(len(base)) and bool(np.isfinite(base.iloc[0]))
            table["of_random"] = table.labels / (base.iloc[0] if all_there else spent if len(base) else np.nan)
            table["at_most"] = not all_there  # random needs more than all that were spent
            table.insert(0, "corpus", name)
            table.insert(1, "encoder", encoder)
            table["seeds"] = [len(curves[s]) for s in table.strategy]
            tables.append(table)
            panels[f"{name}, {cfg.encoders[encoder].what}"] = curves, float(np.mean(list(full.values())))
    return pd.concat(tables, ignore_index=True), panels


def read_curves(path: Path) -> list[list[Point]]:
    """One curve a seed, as `audiorep active` wrote them."""
    frame = pd.read_csv(path)
    return [
        [Point(**{name: row[name] for name in Point.__dataclass_fields__}) for row in part.to_dict("records")]
        for _, part in frame.groupby("seed")
    ]


def markdown(cfg: DictConfig, table: pd.DataFrame) -> str:
    """A table a corpus: a row a strategy; for each encoder the area and the labels needed, as a part of random's."""
    lines = opening(cfg.title, cfg.name)
    for name in dict.fromkeys(table.corpus):
        part = table[table.corpus == name]
        encoders = list(dict.fromkeys(part.encoder))
        heads = [
            f"{cfg.encoders[e].what}: {what}" for e in encoders for what in ("area", "labels to 95 %", "of random")
        ]
        lines += [f"## {name}", "", str(cfg.corpora[name].what), "", *head(["strategy", *heads])]
        for strategy in dict.fromkeys(part.strategy):
            cells = []
            for encoder in encoders:
                rows = part[(part.strategy == strategy) & (part.encoder == encoder)]
                cells += shown(rows.iloc[0]) if len(rows) else ["", "", ""]
            lines.append(row([strategy, *cells]))
        lines.append("")
    lines += [
        "Area: mean score over the learning curve ± deviation over seeds. Labels to 95 %: needed, on average over seeds, for",
        "95 % of the score with all labels of the training side; in brackets how many seeds got there where not all did. Of",
        "random: bold up to 60 %; below: random did not get there with all labels that were spent.",
    ]
    return "\n".join(lines) + "\n"


def shown(row: pd.Series) -> list[str]:
    """Area, labels and their part of random's."""
    all_there = np.isfinite(row.labels)
    part = f"{'below ' if row.at_most else ''}{100 * row.of_random:.0f} %" if np.isfinite(row.of_random) else ""
    bold = f"**{part}**" if part and row.of_random <= 0.6 else part
    return [
        f"{three(row.area)} ± {three(row.deviation)}",
        f"{row.labels:.0f}" if all_there else f"not reached ({row.reached:.0f} of {row.seeds:.0f})",
        bold,
    ]
