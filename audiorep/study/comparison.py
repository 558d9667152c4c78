"""The comparison: every objective on several corpora with several seeds, beside mel, random and supervised."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from audiorep.console import progress_bar
from audiorep.errors import AudiorepError
from audiorep.evaluate.metrics import Predictions, accuracy, balanced_accuracy, paired_difference
from audiorep.evaluate.predictions import NAME as PREDICTIONS
from audiorep.evaluate.predictions import read_predictions
from audiorep.files import read_json, write_text
from audiorep.study.cells import Cell, run_cells
from audiorep.study.figure import draw
from audiorep.study.tables import YARDSTICK, markdown, summarise

log = logging.getLogger(__name__)

METRICS = {"accuracy": accuracy, "balanced_accuracy": balanced_accuracy}
KEPT = ("knn/", "linear/", "linear@", "rankme", "embedding_std", "held_out/", "attentive/", "prototypical/")


@dataclass(frozen=True)
class Study:
    """corpora, tracks: as in the recipe. steps: of every run. folder: where everything goes."""

    corpora: Mapping[str, Any]
    tracks: Mapping[str, Any]
    steps: int
    root: Path
    folder: Path


def compare(cfg: DictConfig) -> None:
    """Run the cells that are missing, then write `comparison.csv`, `comparison.md` and `comparison.png` into `out`.

    Raises:
        AudiorepError: a corpus that is not there.
    """
    study = Study(cfg.corpora, cfg.tracks, int(cfg.steps), Path(str(cfg.data)), Path(str(cfg.out)))
    for name, corpus in study.corpora.items():
        path = study.root / str(corpus.corpus)
        if not path.exists():
            raise AudiorepError(f"corpora.{name}.corpus={path} is not there: set data= to the folder that holds it")
    journal = Path(str(cfg.journal or study.folder / "cells"))
    with progress_bar("cells") as progress:

        def told(done: int, total: int, name: str) -> None:
            progress(done, total)
            if name:
                log.info("%d of %d: %s", done, total, name)

        entries = run_cells(
            cells_of(study), journal, study.folder / "runs", digest_in(study), cfg.workers, cfg.threads, cfg.hours, told
        )
    wanted = {cell.name for cell in cells_of(study)}
    table = summarise([entry for name, entry in entries.items() if name in wanted], study.corpora)
    if table.empty:
        raise AudiorepError("no cell has ended yet: give it more hours=, and run the same command again")
    write_text(study.folder / "comparison.csv", table.to_csv(index=False))
    write_text(study.folder / "comparison.md", markdown(table, study.corpora))
    draw(table, study.corpora, study.folder / "comparison.png")
    ended = wanted & {name for name, entry in entries.items() if entry["status"] != "failed"}
    log.info("%d of %d cells have ended; wrote %s", len(ended), len(wanted), study.folder / "comparison.md")


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
    overrides = [
        f"objective={own}",
        *settings.overrides,
        *corpus.overrides,
        f"corpus={study.root / str(corpus.corpus)}",
        f"seed={seed}",
        f"trainer.max_steps={1 if yardstick else study.steps}",
        f"evaluation.beside={'[mel,random]' if yardstick else '[]'}",
        "evaluation.predictions=true",
        "logger=none",
    ]
    facts = {"corpus": name, "track": track, "objective": objective, "seed": seed, "steps": study.steps}
    return Cell(f"{name},{track},{objective},{seed}", "pretrain", overrides, facts)


def digest_in(study: Study) -> Any:
    """What to keep of a cell: its scores, its cost, and how it differs from mel and from its untrained encoder."""

    def digest(cell: Cell, out: Path) -> dict[str, Any]:
        metrics = read_json(out / "metrics.json")
        training = read_json(out / "config.json")["training"]
        (out / "last.ckpt").unlink(missing_ok=True)
        kept = {name: round(value, 5) for name, value in metrics.items() if name.startswith(KEPT)}
        facts = cell.facts
        if facts["objective"] == YARDSTICK:
            return {"metrics": {k: round(v, 5) for k, v in metrics.items() if k.startswith(("mel/", "random/"))}}
        beside = study.folder / "runs" / f"{facts['corpus']},{facts['track']},{YARDSTICK},{facts['seed']}"
        score = str(study.corpora[facts["corpus"]].judge)
        return {
            "metrics": kept,
            "cpu_seconds": training["cpu_seconds"],
            "labels_used": training["labels_used"],
            "against": {
                yardstick: [round(x, 5) for x in difference(out, beside, yardstick, score)]
                for yardstick in ("mel", "random")
            },
        }

    return digest


def difference(run: Path, beside: Path, yardstick: str, score: str) -> tuple[float, float, float]:
    """Score of a run minus that of a yardstick on the same rows, with the 95 % interval of a paired bootstrap over groups.

    Where labels were drawn several times, a group's samples are drawn together in all of them.

    Raises:
        AudiorepError: the two were not scored on the same rows.
    """
    protocol, metric = score.split("/")
    own, other = read_predictions(run / PREDICTIONS)[protocol], read_predictions(beside / PREDICTIONS)
    first, second = joined(own), joined(other[f"{yardstick}/{protocol}"])
    if not np.array_equal(first.truth, second.truth) or not np.array_equal(first.group, second.group):
        raise AudiorepError(f"{run} and {beside} were scored on other rows: delete both, and run the study again")
    return paired_difference(first, second, METRICS[metric])


def joined(draws: Sequence[Predictions]) -> Predictions:
    """The samples of several draws as one."""
    return Predictions(
        *(np.concatenate([getattr(draw, name) for draw in draws]) for name in ("truth", "score", "group"))
    )
