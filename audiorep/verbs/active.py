"""audiorep active: active learning simulated with known labels; learning curves, and the labels that a strategy saves."""

import logging

import numpy as np
import pandas as pd
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.markup import escape
from rich.table import Table

from audiorep import build
from audiorep.active.curves import REACHED, points_table, summarise
from audiorep.active.loop import Point, Scene, check_batches, full_score, simulate
from audiorep.active.network import Setting
from audiorep.active.picture import draw_curves
from audiorep.active.scene import embeddings, minutes_of, open_corpus, standardise
from audiorep.active.settings import named, number
from audiorep.console import console, progress_bar
from audiorep.errors import AudiorepError
from audiorep.evaluate.metrics import MULTI_LABEL, SINGLE_LABEL
from audiorep.files import output_folder, remove, write_json, write_text
from audiorep.select.pool import Selector
from audiorep.study.markdown import three

log = logging.getLogger(__name__)

LEFT = ("curves.csv", "curves.png", "table.md", "metrics.json", "config.yaml")
BATCHES = 20
"""Batches of a budget that was left open."""


def active(cfg: DictConfig) -> dict[str, float]:
    """Simulate, and leave `curves.csv`, `curves.png`, `table.md` and `metrics.json` in `out`."""
    out = output_folder(cfg.out, overwrite=cfg.overwrite)
    remove(out, LEFT if cfg.overwrite else ())
    strategies = strategies_of(cfg)
    cfg, corpus, model = open_corpus(cfg, out)
    x, known = embeddings(cfg, corpus, model)
    sides, notes = corpus.sides(known)
    for note in [*corpus.notes, *notes]:
        log.warning("%s", note)
    metrics_known = MULTI_LABEL if sides.multilabel else SINGLE_LABEL
    score = ("cmap" if sides.multilabel else "balanced_accuracy") if cfg.score == "auto" else str(cfg.score)
    if score not in metrics_known:
        raise AudiorepError(f"score={score} is none of {', '.join(metrics_known)}")
    batch = number(cfg, "batch", max(2, len(sides.classes)), "{} clips are asked at a time")
    budget = number(cfg, "budget", min(BATCHES * batch, len(sides.train)), "{} labels are asked for in all")
    check_batches(batch, budget, len(sides.train))
    if cfg.seeds < 1:
        raise AudiorepError(f"seeds={cfg.seeds}: one simulation at least")
    scene = Scene(standardise(x, corpus.split.train[known[corpus.split.train]]), sides, minutes_of(corpus))
    with build.plain_errors():
        learner = instantiate(cfg.learner)
    for name, selector in strategies.items():
        if selector.needs.passes and not learner.passes:
            log.warning("%s compares passes, and this learner makes one: choose learner=ensemble or dropout", name)
    first = named(str(cfg.first), "first")
    write_text(out / "config.yaml", OmegaConf.to_yaml(cfg))
    metric, full = metrics_known[score], []
    curves: dict[str, list[list[Point]]] = {name: [] for name in strategies}
    rounds = len(strategies) * cfg.seeds * -(-budget // batch)
    with progress_bar("asking") as progress:
        done = 0
        for seed in range(cfg.seed, cfg.seed + cfg.seeds):
            whole = learner.bind(scene.x, sides.multilabel, Setting(cfg, corpus, sides.train, out / "runs" / f"{seed}"))
            full.append(full_score(scene, whole, metric, seed))
            for name, selector in strategies.items():
                folder = Setting(cfg, corpus, sides.train, out / "runs" / f"{seed}-{name}")
                learn = learner.bind(scene.x, sides.multilabel, folder)
                begins = first if selector.needs.trained or selector.needs.answered else selector
                points: list[Point] = []
                for point in simulate(scene, selector, begins, learn, metric, batch, budget, seed):
                    points.append(point)
                    done += 1
                    progress(done, rounds)
                curves[name].append(points)
    table = summarise(curves, full)
    write_text(out / "curves.csv", points_table(curves).to_csv(index=False))
    draw_curves(curves, float(np.mean(full)), out / "curves.png", score.replace("_", " "))
    write_text(out / "table.md", markdown(table, score))
    metrics = figures(table)
    write_json(out / "metrics.json", metrics)
    show(table, score)
    log.info("wrote %s", out / "curves.png")
    return metrics


def strategies_of(cfg: DictConfig) -> dict[str, Selector]:
    """What is chosen, and what stands beside it, by name."""
    with build.plain_errors():
        chosen = instantiate(cfg.selector)
    return {str(cfg.chosen.selector): chosen} | {
        str(name): named(str(name), "beside") for name in cfg.beside if name != cfg.chosen.selector
    }


def figures(table: pd.DataFrame) -> dict[str, float]:
    """``STRATEGY/area`` ... for `metrics.json`; what is not finite is left out."""
    return {
        f"{row.strategy}/{name}": float(row[name])
        for _, row in table.iterrows()
        for name in table.columns
        if name != "strategy" and np.isfinite(row[name])
    }


COLUMNS = ("strategy", "area", "labels", "of random", "minutes", "last", "all labels", "choosing s", "training s")


def cells(row: pd.Series, seeds: int) -> list[str]:
    """One strategy, as it is shown."""
    never = f"{row.reached:.0f} of {seeds} reached"
    part = "" if np.isnan(row.of_random) else "-" if np.isinf(row.of_random) else f"{100 * row.of_random:.0f} %"
    return [
        str(row.strategy), f"{three(row.area)} ± {three(row.deviation)}",
        f"{row.labels:.0f}" if np.isfinite(row.labels) else never, part,
        f"{row.minutes:.1f}" if np.isfinite(row.minutes) else "-", three(row["last"]), three(row.full),
        f"{row.choosing_s:.3f}", f"{row.training_s:.2f}",
    ]  # fmt: skip


def seeds_of(table: pd.DataFrame) -> int:
    """How many simulations there were: none reached it in more."""
    return int(table.attrs["seeds"])


def markdown(table: pd.DataFrame, score: str) -> str:
    """The table of strategies."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    lines += ["| " + " | ".join(cells(row, seeds_of(table))) + " |" for _, row in table.iterrows()]
    return "\n".join([*lines, "", explanation(score)]) + "\n"


def explanation(score: str) -> str:
    """What the columns say."""
    return (
        f"Area: mean {score.replace('_', ' ')} over the learning curve, ±: deviation over seeds. Labels, minutes: needed to "
        f"reach {100 * REACHED:.0f} % of the score with all labels. Last: at the end of the budget."
    )


def show(table: pd.DataFrame, score: str) -> None:
    """The table on the terminal."""
    shown = Table(*COLUMNS)
    for _, row in table.iterrows():
        shown.add_row(*map(escape, cells(row, seeds_of(table))))
    console.print(shown)
    console.print(explanation(score))
