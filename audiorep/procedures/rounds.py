"""Recipes in rounds: pseudo-labels, noisy student, co-training, label propagation; and pretraining with fine-tuning."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate
from jaxtyping import Float
from omegaconf import DictConfig

from audiorep.evaluate.results import is_overall
from audiorep.overrides import quoted, words
from audiorep.procedures.common import (
    Network,
    Probe,
    Task,
    embeddings,
    guessed,
    judged,
    keep_linear,
    keep_predictions,
    open_task,
    read_probabilities,
    report,
    run_stage,
    write_manifest,
)
from audiorep.semi import propagate as graph
from audiorep.semi import rounds as semi
from audiorep.semi.rounds import Fit

log = logging.getLogger(__name__)


def learner(cfg: DictConfig, task: Task, x: Float[np.ndarray, "n d"] | None) -> Fit:
    """What learns in each round: logistic regression on embeddings, or, without them (`frozen=false`), the whole network."""
    if x is not None:
        return Probe(x, len(task.known.classes))
    start = () if cfg.init is None else (quoted(f"init={cfg.init}"),)
    return Network(task, start)


def pretrain_finetune(cfg: DictConfig) -> None:
    """Pretrain on all rows of the training side, without labels; then train a classifier from there, and one from scratch."""
    task = open_task(cfg)
    split = [text for text in task.overrides if text.startswith(("split.", "window.", "format", "data."))]
    corpus, seed = quoted(f"corpus={task.path}"), f"seed={task.seed}"
    pretrained = task.out / "pretrained"
    run_stage("pretrain", [corpus, seed, *split, *words(cfg.pretrain)], pretrained)
    rows: list[dict[str, Any]] = []
    budget = [] if cfg.labels_per_class is None else [f"labels_per_class={cfg.labels_per_class}"]
    own = [text for text in task.overrides if not text.startswith(("encoder", "frontend", "compress"))]
    for name, overrides in (
        ("classifier", [*own, quoted(f"init={pretrained}")]),
        *([("from_scratch", list(task.overrides))] if cfg.beside else []),
    ):
        metrics = run_stage("train", [corpus, seed, *budget, *overrides], task.out / name)
        told = {k: v for k, v in metrics.items() if k.startswith("test/") and is_overall(k)}
        rows.append({"stage": name, **told})
    report(task.out, "pretrain, then fine-tune", rows)


def pseudo_label_rounds(cfg: DictConfig) -> None:
    """Learn, label what is sure, learn again; with one learner or an ensemble of them."""
    task = open_task(cfg)
    x = embeddings(task, cfg.init, cfg.unit_length) if cfg.frozen else None
    fit = learner(cfg, task, x)
    if cfg.ensemble is not None:
        fit = instantiate(cfg.ensemble)(fit, seed=task.seed)
    rows: list[dict[str, Any]] = []
    last = task.given
    said: dict[str, np.ndarray] = {}
    for done in semi.pseudo_label_rounds(
        fit, task.given, task.candidates, cfg.rounds, cfg.threshold, cfg.refine, cfg.most_per_class
    ):
        rows.append({"round": done.number, **guessed(task, done.labels), **judged(task, done.p)})
        if done.number and not rows[-1]["kept"]:
            log.warning(
                "round %d: no guess was surer than threshold=%s, so it learned from the given labels alone; lower threshold",
                done.number,
                cfg.threshold,
            )
        last = done.labels
        said |= {f"round_{done.number}": done.p, "classifier": done.p}
    keep_predictions(task, said)
    write_manifest(task, last, (last >= 0).astype(np.int64), task.out / "labels.csv")
    if x is not None and cfg.classifier:
        keep_linear(task, cfg, x, last, "pseudo_label_rounds")
    report(task.out, "pseudo-labels in rounds", rows)


def noisy_student(cfg: DictConfig) -> None:
    """A teacher from the labels; then students, each as large or larger, taught by the one before on all rows: the teacher
    hears them as they are, the student with strong augmentation and dropout.

    Source: Xie et al. 2020, arXiv:1911.04252, algorithm 1, with soft labels.
    """
    task = open_task(cfg)
    corpus, seed = quoted(f"corpus={task.path}"), f"seed={task.seed}"
    budget = [] if cfg.labels_per_class is None else [f"labels_per_class={cfg.labels_per_class}"]
    start = [] if cfg.init is None else [quoted(f"init={cfg.init}")]
    rows: list[dict[str, Any]] = []
    teacher: Path | None = None
    said: dict[str, np.ndarray] = {}
    for number, student in enumerate(["", *cfg.students]):
        folder = task.out / ("teacher" if teacher is None else f"student_{number}")
        given = [corpus, seed, *budget, *task.overrides]
        if teacher is None:
            given += start
        else:
            given += [
                f"objective={cfg.objective}",
                quoted(f"teacher.model={teacher}"),
                *words(cfg.noise),
                *words(student),
            ]
            given += start if cfg.init is not None and not student else []
        run_stage("train", given, folder)
        p = read_probabilities(folder, task.known.classes)
        rows.append({"round": folder.name, **judged(task, p), **sure(task, p, cfg.threshold)})
        teacher = folder
        said |= {folder.name: p, "classifier": p}
    keep_predictions(task, said)
    report(task.out, "noisy student", rows)


def sure(task: Task, p: np.ndarray, threshold: float) -> dict[str, float]:
    """How many unlabelled rows are named with more than `threshold`, and how many of those rightly, where it is known."""
    labels = task.given.copy()
    chosen = semi.surest(p, task.candidates, threshold)
    labels[chosen] = p[chosen].argmax(1)
    return guessed(task, labels)


def co_training(cfg: DictConfig) -> None:
    """Two learners that hear different things label for each other what they are sure of; their mean is the result."""
    task = open_task(cfg)
    said: dict[str, np.ndarray] = {}
    first, second = (
        Probe(part, len(task.known.classes)) if cfg.frozen else Network(task, tuple(words(overrides)))
        for part, overrides in zip(views_of(cfg, task), (cfg.first, cfg.second), strict=True)
    )
    rows: list[dict[str, Any]] = []
    for done in semi.co_training(first, second, task.given, task.candidates, cfg.rounds, cfg.per_class, cfg.threshold):
        found: dict[str, Any] = {"round": done.number, "disagreement": done.disagreement}
        for name, labels, p in zip(("first", "second"), done.labels, done.p, strict=True):
            found |= {f"{name}/{k}": v for k, v in guessed(task, labels).items()}
            found[name] = judged(task, p).get("test/balanced_accuracy")
        rows.append(found | judged(task, done.together))
        said |= {f"round_{done.number}": done.together, "classifier": done.together}
    keep_predictions(task, said)
    report(task.out, "co-training", rows)


def views_of(cfg: DictConfig, task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Two halves of the embedding's principal components, dealt out in turn; nothing where networks hear for themselves."""
    if not cfg.frozen:
        return np.empty((0, 0)), np.empty((0, 0))
    x = embeddings(task, cfg.init)
    x = (x - x.mean(0)) / np.maximum(x.std(0), 1e-6)
    _, _, axes = np.linalg.svd(x[task.corpus.split.train], full_matrices=False)
    turned = x @ axes[: cfg.components].T
    return turned[:, 0::2], turned[:, 1::2]


def label_propagation(cfg: DictConfig) -> None:
    """Labels spread along a graph of nearest embeddings; then a classifier learns from all that was reached."""
    task = open_task(cfg)
    x = embeddings(task, cfg.init, cfg.unit_length)
    side = np.sort(task.corpus.split.train)
    z = (x - x[side].mean(0)) / np.maximum(x[side].std(0), 1e-6)
    p = np.zeros((len(x), len(task.known.classes)))
    p[side] = graph.propagate(z[side], task.given[side], p.shape[1], cfg.k, cfg.alpha)
    certain = graph.certainty(p)
    reached = task.candidates[(p[task.candidates].sum(1) > 0) & (certain[task.candidates] >= cfg.certainty)]
    labels = task.given.copy()
    labels[reached] = p[reached].argmax(1)
    write_manifest(task, labels, (labels >= 0).astype(np.int64), task.out / "labels.csv")
    fit = learner(cfg, task, x if cfg.frozen else None)
    once = (labels >= 0).astype(np.int64)
    given = fit(task.given, (task.given >= 0).astype(np.int64), "given")
    spread = fit(labels, once, "propagated")
    keep_predictions(task, {"given": given, "classifier": spread})
    rows = [
        {"learned from": "given labels", **judged(task, given)},
        {"learned from": "propagated labels", **guessed(task, labels), **judged(task, spread)},
    ]
    if cfg.frozen and cfg.classifier:
        keep_linear(task, cfg, x, labels, "label_propagation")
    report(task.out, "label propagation", rows)
