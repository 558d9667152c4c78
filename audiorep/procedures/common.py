"""What all procedures share: the task (corpus, split, the labels that may be known), stages that are not run twice, and
learners for `audiorep.semi.rounds`."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from omegaconf import DictConfig, OmegaConf
from rich.markup import escape
from rich.table import Table
from torch import nn

from audiorep import __version__, build
from audiorep.composing import compose
from audiorep.console import console, progress_bar
from audiorep.errors import AudiorepError
from audiorep.evaluate.answers import NAME as ANSWERS
from audiorep.evaluate.answers import read_answers
from audiorep.evaluate.calibrate import probabilities
from audiorep.evaluate.metrics import Predictions, score_with_interval
from audiorep.evaluate.predict import predict
from audiorep.evaluate.predictions import NAME as PREDICTIONS
from audiorep.evaluate.predictions import write_predictions
from audiorep.evaluate.probe import linear_layer, linear_scores
from audiorep.evaluate.protocol import Sides
from audiorep.files import atomic, read_json, write_json, write_text
from audiorep.heads import UnitLinear
from audiorep.known import Known, what_is_known
from audiorep.model import Model, ModelInfo, load_model, save_model
from audiorep.overrides import quoted, words
from audiorep.training import keep_golden
from audiorep.verdict import judge

log = logging.getLogger(__name__)

SIDE, DRAWS = "audiorep_side", "audiorep_draws"
"""Columns of the manifests that stages are given: train, calibration or test; and how often a row is drawn."""


SPENT = (
    "split.",
    "labels_per_class",
    "label_fraction",
    "labels.least",
    "calibration.column",
    "calibration.rows",
    "format",
)
"""Settings of a task that the manifests of its stages already follow."""


@dataclass(frozen=True)
class Task:
    """A corpus with a split and the labels that may be known.

    given: [n] class numbers of the labels to train on, -1 elsewhere. truth: [n] of all rows, for judging alone.
    test, candidates: rows of the test side, and those of the training side without a given label, whether there is one in
    the manifest (the budget did not reach it) or not.
    """

    corpus: build.Corpus
    known: Known
    path: str
    overrides: tuple[str, ...]
    seed: int
    out: Path

    @property
    def given(self) -> Int[np.ndarray, " n"]:
        labels = np.full(len(self.known.truth), -1)
        labels[self.known.train] = self.known.truth[self.known.train]
        return labels

    @property
    def truth(self) -> Int[np.ndarray, " n"]:
        return self.known.truth

    @property
    def test(self) -> Int[np.ndarray, " k"]:
        return self.corpus.split.test

    @property
    def candidates(self) -> Int[np.ndarray, " k"]:
        labelled = np.concatenate([self.known.train, self.known.calibration])
        return np.setdiff1d(self.corpus.split.train, labelled)

    @property
    def group(self) -> np.ndarray:
        return self.corpus.manifest.frame["group"].to_numpy(dtype=str)


def open_task(cfg: DictConfig) -> Task:
    """The task of a recipe that has `corpus`, `out`, `seed`, `labels_per_class` and `train`, overrides of audiorep train.

    Raises:
        AudiorepError: rows with several labels; an `out` that holds another task.
    """
    out = Path(cfg.out)
    budget = [] if cfg.labels_per_class is None else [f"labels_per_class={cfg.labels_per_class}"]
    overrides = [quoted(f"corpus={cfg.corpus}"), f"seed={cfg.seed}", *budget, *words(cfg.train)]
    asked = compose("train", overrides)
    if asked.labels.multilabel:
        raise AudiorepError(
            "this recipe is for one label a row; with several, audiorep train objective=pseudo_label or fixmatch takes them"
        )
    remember(out, OmegaConf.to_container(cfg, resolve=True))
    corpus = build.open_corpus(asked, out)
    return Task(corpus, what_is_known(asked, corpus), str(cfg.corpus), tuple(words(cfg.train)), int(cfg.seed), out)


def remember(out: Path, asked: Any) -> None:
    """Keep what was asked for in ``out/recipe.json``; refuse to go on in a folder of something else."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "recipe.json"
    asked = json.loads(json.dumps({name: value for name, value in asked.items() if name not in ("out", "chosen")}))
    if path.exists() and (was := read_json(path)) != asked:
        changed = next(name for name in sorted({*was, *asked}) if was.get(name) != asked.get(name))
        raise AudiorepError(
            f"out={out} was begun with {changed}={was.get(changed)}, not {asked.get(changed)}: say the same to go on "
            "where it stopped, or name another out="
        )
    write_json(path, asked)


def write_manifest(task: Task, labels: Int[np.ndarray, " n"], draws: Int[np.ndarray, " n"], path: Path) -> None:
    """The corpus with these labels on the training side, and the true ones elsewhere."""
    frame = task.corpus.manifest.frame.copy()
    names = np.array([*task.known.classes, ""], dtype=object)
    side = np.full(len(frame), "train", dtype=object)
    side[task.test], side[task.known.calibration] = "test", "calibration"
    frame["label"] = np.where(side == "train", names[labels], names[task.truth])
    frame[SIDE], frame[DRAWS] = side, draws
    with atomic(path) as temporary:
        frame.to_csv(temporary, index=False)


def run_stage(verb: str, overrides: Sequence[str], out: Path, of: str = "") -> dict[str, float]:
    """Run a verb into `out`, unless it was run there by the same command; one that was stopped goes on.

    Args:
        of: a fingerprint of what the command works on, where its path does not tell.

    Returns:
        Its metrics.
    """
    done = out / "stage.json"
    command = {"command": [verb, *overrides], "of": of}
    if done.exists() and read_json(done) == command and (out / "metrics.json").exists():
        log.info("%s is done", out)
        return dict(read_json(out / "metrics.json"))
    begun = out / "begun.json"
    again = (out / "last.ckpt").exists() and begun.exists() and read_json(begun) == command
    write_json(begun, command)
    how = "resume=true" if again else "overwrite=true"
    log.info("%s: audiorep %s %s", out.name, verb, " ".join(overrides))
    function = getattr(import_module(f"audiorep.verbs.{verb}"), verb)
    metrics = function(compose(verb, [*overrides, quoted(f"out={out}"), how]))
    write_json(done, command)
    return dict(metrics)


@dataclass(frozen=True)
class Network:
    """A learner that trains a whole classifier by ``audiorep train`` with `overrides`, into ``out/NAME``."""

    task: Task
    overrides: tuple[str, ...] = ()

    def __call__(
        self, labels: Int[np.ndarray, " n"], draws: Int[np.ndarray, " n"], name: str
    ) -> Float[np.ndarray, "n c"]:
        folder = self.task.out / name
        manifest = folder / "labels.csv"
        write_manifest(self.task, labels, draws, manifest)
        digest = hashlib.sha256(manifest.read_bytes()).hexdigest()[:12]
        given = [
            quoted(f"corpus={manifest}"), f"split.column={SIDE}", "split.test=[test]", f"calibration.column={SIDE}",
            f"data.draws={DRAWS}", f"seed={self.task.seed}",
        ]  # fmt: skip
        kept = [text for text in self.task.overrides if not text.startswith(SPENT)]
        run_stage("train", [*given, *kept, *self.overrides], folder, digest)
        return read_probabilities(folder, self.task.known.classes)


def read_probabilities(folder: Path, classes: Sequence[str]) -> Float[np.ndarray, "n c"]:
    """Calibrated probabilities of all rows by a trained classifier, in the order of `classes`; 0 for one it lacks."""
    told = read_answers(folder / ANSWERS)
    temperature = read_json(folder / "thresholds.json")["temperature"]
    p = np.zeros((len(told.logits), len(classes)))
    named = [list(classes).index(name) for name in told.classes]
    p[:, named] = np.nan_to_num(probabilities(told.logits, temperature, False))
    return p


@dataclass(frozen=True)
class Probe:
    """A learner of embeddings [n d]: standardise, then logistic regression."""

    x: Float[np.ndarray, "n d"]
    classes: int

    def __call__(
        self, labels: Int[np.ndarray, " n"], draws: Int[np.ndarray, " n"], name: str
    ) -> Float[np.ndarray, "n c"]:
        rows = np.repeat(np.flatnonzero(labels >= 0), draws[labels >= 0])
        return linear_scores(self.x[rows], labels[rows], self.x, self.classes)


def started(task: Task, init: str) -> tuple[DictConfig, Model, ModelInfo, dict[str, Any]]:
    """A pretrained model without its classifier, its facts and parts, and the config of a training that starts from it."""
    cfg = compose("train", [quoted(f"corpus={task.path}"), f"seed={task.seed}", *task.overrides])
    model, info, parts = load_model(init, "init")
    model.leave_answers()
    cfg.frontend, cfg.compress, cfg.encoder = (OmegaConf.create(parts[n]) for n in build.PARTS)
    cfg.window.length_s = info.window_s if cfg.window.length_s == "auto" else cfg.window.length_s
    cfg.window.outside = info.outside if cfg.window.outside == "auto" else cfg.window.outside
    return cfg, model, info, parts


def keep_linear(
    task: Task, cfg: DictConfig, x: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], what: str
) -> None:
    """A pretrained encoder with a linear layer, fitted to the embeddings of the rows with a label, as a classifier folder.

    Standardising is folded into the layer: ``W' = W / sigma``, ``b' = b - W' mu``. Nothing is left without an encoder.

    Args:
        cfg: of the recipe: `init`, and `unit_length` as the embeddings were made.
    """
    init = cfg.init
    if init is None:
        log.info("mel statistics are no encoder: no classifier is kept; name a pretrained model with init=FOLDER")
        return
    as_trained, model, info, parts = started(task, init)
    rows = np.flatnonzero(labels >= 0)
    weight, bias = linear_layer(x[rows], labels[rows], len(task.known.classes))
    head = (UnitLinear if cfg.unit_length else nn.Linear)(x.shape[1], len(bias))
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias))
    model.classifier = head
    facts = {name: value for name, value in info.training.items() if name in ("licence", "teacher_licence", "encoder")}
    training = facts | {
        "corpus": task.path,
        "objective": what,
        "init": str(init),
        "classes": task.known.classes,
        "multilabel": False,
        "split": task.corpus.split.description,
        "split_settings": OmegaConf.to_container(as_trained.split),
        "labels_used": True,
        "labelled_rows": len(task.known.train),
        "guessed_rows": int((task.given[rows] < 0).sum()),
        "calibration_rows": len(task.known.calibration),
        "rows_seen": "training side",
        "seed": task.seed,
        "audiorep": __version__,
    }
    folder = task.out / "classifier"
    window = as_trained.window
    told = ModelInfo(info.sample_rate_hz, window.length_s, window.outside, tuple(task.known.classes), training)
    folder.mkdir(parents=True, exist_ok=True)
    save_model(model.eval(), parts, told, folder)
    keep_golden(build.make_windows(as_trained, task.corpus, task.corpus.split.train), folder, task.seed)
    judge(as_trained, task.corpus, task.known, model, told, [*task.corpus.notes, *task.known.notes], folder)


def embeddings(task: Task, init: str | None, unit_length: bool = False) -> Float[np.ndarray, "n d"]:
    """Embeddings of all rows by a pretrained model, or mel statistics where there is none; 0 where nothing is decoded.

    Args:
        unit_length: divided by their length, so that direction alone counts.
    """
    if init is None:
        cfg = compose("train", [quoted(f"corpus={task.path}"), *task.overrides])
        cfg.window.outside = "context" if cfg.window.outside == "auto" else cfg.window.outside
        cfg = build.fill_in_auto(cfg, task.corpus.manifest)
        model = build.make_model(cfg, task.seed)
        build.fit_compression(
            model.frontend, model.compress, build.make_windows(cfg, task.corpus, task.corpus.split.train), 0
        )
    else:
        cfg, model, _, _ = started(task, init)
    windows = build.make_windows(cfg, task.corpus)
    with progress_bar("embedding") as progress:
        said = predict(model, windows, progress=progress, workers=build.workers_for(cfg, windows))
    x = np.nan_to_num(said.mel if init is None else said.embedding).astype(float)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) if unit_length else x


def judged(task: Task, p: Float[np.ndarray, "n c"], prefix: str = "test") -> dict[str, float]:
    """Metrics of probabilities on the labelled rows of the test side, ``PREFIX/...``."""
    rows = task.test[task.truth[task.test] >= 0]
    if not len(rows):
        return {}
    found = score_with_interval(Predictions(task.truth[rows], p[rows], task.group[rows]), seed=task.seed)
    return {f"{prefix}/{name}": value for name, value in found.items() if np.isfinite(value)}


def keep_predictions(task: Task, said: Mapping[str, Float[np.ndarray, "n c"]]) -> None:
    """What was said of the labelled test rows, by name, in ``predictions.npz``, for comparisons sample by sample."""
    rows = task.test[task.truth[task.test] >= 0]
    sides = Sides(task.known.train, rows, task.truth, task.group, task.known.classes)
    write_predictions({name: p[rows] for name, p in said.items()}, sides, task.out / PREDICTIONS)


def guessed(task: Task, labels: Int[np.ndarray, " n"]) -> dict[str, float]:
    """How many labels were guessed, and how many of those are right, where the manifest can tell."""
    rows = np.flatnonzero((labels >= 0) & (task.given < 0))
    told = rows[task.truth[rows] >= 0]
    right = {"kept_accuracy": float((labels[told] == task.truth[told]).mean())} if len(told) else {}
    return {"kept": float(len(rows)), **right}


def report(out: Path, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Show the rounds as a table, and leave them in ``rounds.json`` and ``rounds.md``."""
    names = list(dict.fromkeys(name for row in rows for name in row if not name.endswith(("/low", "/high"))))
    shown = [name for name in names if name in SHOWN or name not in AS_SCORES]
    table = Table(*shown, title=title)
    lines = [f"# {title}", "", "| " + " | ".join(shown) + " |", "|" + "---|" * len(shown)]
    for row in rows:
        cells = [cell(row, name) for name in shown]
        table.add_row(*map(escape, cells))
        lines.append("| " + " | ".join(cells) + " |")
    write_json(out / "rounds.json", {"rounds": [dict(row) for row in rows]})
    write_text(out / "rounds.md", "\n".join(lines) + "\n")
    console.print(table)
    log.info("wrote %s", out / "rounds.md")


SHOWN = ("test/balanced_accuracy", "test/macro_f1")
AS_SCORES = tuple(f"test/{name}" for name in ("accuracy", "cmap", "auroc"))


def cell(row: Mapping[str, Any], name: str) -> str:
    """A value of a round, a score with its interval."""
    value = row.get(name)
    if value is None:
        return "-"
    if f"{name}/low" in row:
        return f"{value:.3f} ({row[f'{name}/low']:.3f}-{row[f'{name}/high']:.3f})"
    return str(value) if isinstance(value, str | int) else f"{value:g}" if float(value).is_integer() else f"{value:.3f}"
