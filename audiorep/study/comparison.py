"""The comparison: every objective on several corpora with several seeds, beside mel, random and supervised."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from audiorep.errors import AudiorepError
from audiorep.evaluate.metrics import SINGLE_LABEL, paired_difference
from audiorep.evaluate.predictions import NAME as PREDICTIONS
from audiorep.evaluate.predictions import read_predictions
from audiorep.files import read_json, write_bytes, write_text
from audiorep.study.cells import Cell, run_cells, telling
from audiorep.study.figure import draw
from audiorep.study.tables import YARDSTICK, markdown, summarise

log = logging.getLogger(__name__)

KEPT = ("knn/", "linear/", "linear@", "rankme", "embedding_std", "held_out/", "attentive/", "prototypical/")


@dataclass(frozen=True)
class Study:
    """corpora, tracks: as in the recipe. steps: of every run. root: where the corpora are. folder: where everything goes.
    journal: where the cells' entries go, and the predictions of mel and the untrained encoders."""

    corpora: Mapping[str, Any]
    tracks: Mapping[str, Any]
    steps: int
    root: Path
    folder: Path
    journal: Path


def compare(cfg: DictConfig) -> None:
    """Run the cells that are missing, then write `comparison.csv`, `comparison.md` and `comparison.png` into `out`.

    Raises:
        AudiorepError: a corpus that is not there, a `judge` that is no score, numbers that make no sense, mel and an
            untrained encoder that could not be evaluated.
    """
    journal = Path(str(cfg.journal or Path(str(cfg.out)) / "cells"))
    study = Study(cfg.corpora, cfg.tracks, int(cfg.steps), Path(str(cfg.data)), Path(str(cfg.out)), journal)
    check(study, cfg.hours)
    cells = list(cells_of(study))
    yardsticks = [cell for cell in cells if cell.facts["objective"] == YARDSTICK]
    for cell in yardsticks:
        if not said_by(study, cell.name).exists():  # nothing could be compared with it
            (journal / f"{cell.name}.json").unlink(missing_ok=True)
    with telling() as told:
        settings = (journal, study.folder / "runs", digest_in(study), cfg.workers, cfg.threads, cfg.hours, told)
        for name, entry in run_cells(yardsticks, *settings).items():
            if entry["status"] != "done":
                raise AudiorepError(
                    f"{name}, with which all others are compared, {entry['status']}: {entry['message']}"
                )
        entries = run_cells(cells, *settings)
    table = summarise(list(entries.values()), study.corpora)
    if table.empty:
        raise AudiorepError("no cell has ended yet: give it more hours=, and run the same command again")
    write_text(study.folder / "comparison.csv", table.to_csv(index=False))
    write_text(study.folder / "comparison.md", markdown(table, study.corpora))
    draw(table, study.corpora, study.folder / "comparison.png")
    done = sum(entry["status"] == "done" for entry in entries.values())
    log.info("%d of %d cells are done; wrote %s", done, len(cells), study.folder / "comparison.md")


def check(study: Study, hours: Any) -> None:
    """Refuse before the first cell what would be refused after it."""
    if study.steps < 1:
        raise AudiorepError(f"steps={study.steps}: at least one is needed")
    if hours is not None and not isinstance(hours, int | float):
        raise AudiorepError(f"hours={hours}: a number is needed, or null")
    for name, corpus in study.corpora.items():
        path = study.root / str(corpus.corpus)
        if not path.exists():
            raise AudiorepError(f"corpora.{name}.corpus={path} is not there: set data= to the folder that holds it")
        protocol, _, metric = str(corpus.judge).rpartition("/")
        if not protocol or metric not in SINGLE_LABEL:
            raise AudiorepError(
                f"corpora.{name}.judge={corpus.judge}: a protocol and a metric are needed, such as knn/accuracy; the "
                f"metrics: {', '.join(SINGLE_LABEL)}"
            )


def cells_of(study: Study) -> Iterator[Cell]:
    """Yardsticks first, then all objectives of all tracks on one corpus after the other, seed by seed."""
    most = max(len(corpus.seeds) for corpus in study.corpora.values())
    rounds = [
        (name, corpus, corpus.seeds[place])
        for place in range(most)
        for name, corpus in study.corpora.items()
        if place < len(corpus.seeds)
    ]
    for name, corpus, seed in rounds:
        for track, settings in study.tracks.items():
            yield cell(study, name, corpus, track, settings, YARDSTICK, seed)
        for track, settings in study.tracks.items():
            for objective in settings.objectives:
                if objective not in corpus.get("skip", []):
                    yield cell(study, name, corpus, track, settings, objective, seed)


def cell(study: Study, name: str, corpus: Any, track: str, settings: Any, objective: str, seed: int) -> Cell:
    """The pretrain command of one objective on one corpus with one seed."""
    yardstick = objective == YARDSTICK
    own = settings.get("yardstick", "simclr") if yardstick else objective

    def overrides(root: Path) -> list[str]:
        return [
            f"objective={own}",
            *settings.overrides,
            *corpus.overrides,
            f"corpus={root / str(corpus.corpus)}",
            f"seed={seed}",
            f"trainer.max_steps={1 if yardstick else study.steps}",
            f"evaluation.beside={'[mel,random]' if yardstick else '[]'}",
            "evaluation.predictions=true",
            "logger=none",
        ]

    facts = {"corpus": name, "track": track, "objective": objective, "seed": seed, "steps": study.steps}
    command = " ".join(["pretrain", *overrides(Path())])
    return Cell(f"{name},{track},{objective},{seed}", "pretrain", overrides(study.root), facts, command)


def said_by(study: Study, name: str) -> Path:
    """Where the journal keeps the predictions of a cell of mel and the untrained encoder."""
    return study.journal / f"{name}.npz"


def digest_in(study: Study) -> Any:
    """What to keep of a cell: its scores, its cost, and how it differs from mel and from its untrained encoder."""

    def digest(cell: Cell, out: Path) -> dict[str, Any]:
        metrics = read_json(out / "metrics.json")
        training = read_json(out / "config.json")["training"]
        (out / "last.ckpt").unlink(missing_ok=True)
        kept = {name: round(value, 5) for name, value in metrics.items() if name.startswith(KEPT)}
        facts = cell.facts
        if facts["objective"] == YARDSTICK:
            read_predictions(out / PREDICTIONS)
            write_bytes(said_by(study, cell.name), (out / PREDICTIONS).read_bytes())
            return {"metrics": {k: round(v, 5) for k, v in metrics.items() if k.startswith(("mel/", "random/"))}}
        beside = said_by(study, f"{facts['corpus']},{facts['track']},{YARDSTICK},{facts['seed']}")
        score = str(study.corpora[facts["corpus"]].judge)
        return {
            "metrics": kept,
            "cpu_seconds": training["cpu_seconds"],
            "labels_used": training["labels_used"],
            "against": {
                yardstick: [round(x, 5) for x in difference(out / PREDICTIONS, beside, yardstick, score)]
                for yardstick in ("mel", "random")
            },
        }

    return digest


def difference(run: Path, beside: Path, yardstick: str, score: str) -> tuple[float, float, float]:
    """Score of one predictions file minus that of a yardstick in another, with the 95 % interval of a paired bootstrap.

    Raises:
        AudiorepError: the two were not scored on the same rows, or not by this score.
    """
    protocol, _, metric = score.rpartition("/")
    own, other = read_predictions(run), read_predictions(beside)
    for path, held, name in ((run, own, protocol), (beside, other, f"{yardstick}/{protocol}")):
        if name not in held:
            raise AudiorepError(f"{path} has no predictions of {name}; there are: {', '.join(held)}")
    first, second = own[protocol], other[f"{yardstick}/{protocol}"]
    if not np.array_equal(first[0].truth, second[0].truth, equal_nan=True) or not np.array_equal(
        first[0].group, second[0].group
    ):
        raise AudiorepError(f"{run} and {beside} were scored on other rows: delete both, and run the study again")
    return paired_difference(first, second, SINGLE_LABEL[metric])
