"""What is left of a call classifier besides its weights: calibration, scores beside mel, thresholds, answers, a report."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from omegaconf import DictConfig
from rich.markup import escape
from rich.table import Table

from audiorep import build
from audiorep.batch_size import batch_size
from audiorep.console import console, progress_bar
from audiorep.data.sampler import has_label
from audiorep.evaluate.answers import HELD, TEST, TRAIN, Told, write_answers
from audiorep.evaluate.answers import NAME as ANSWERS
from audiorep.evaluate.embedding import Embedded
from audiorep.evaluate.metrics import Predictions, score_with_interval
from audiorep.evaluate.pieces import undecoded
from audiorep.evaluate.predict import Said, predict
from audiorep.evaluate.predictions import NAME as PREDICTIONS
from audiorep.evaluate.predictions import write_predictions
from audiorep.evaluate.probe import linear_scores
from audiorep.evaluate.protocol import Sides
from audiorep.evaluate.report import write_report
from audiorep.evaluate.results import Answers, Results, results, write_thresholds
from audiorep.files import write_json
from audiorep.known import Known, labels_of
from audiorep.model import Model, ModelInfo
from audiorep.pooling import Pooling, mean
from audiorep.shown import cell, make_report
from audiorep.training import read_curves
from audiorep.views import Views

log = logging.getLogger(__name__)

MOST_SHOWN = 30
"""Thresholds on the terminal; `thresholds.json` holds all."""

SHOWN = ("accuracy", "balanced_accuracy", "macro_f1", "cmap", "auroc", "ece", "false_positives_per_hour")


def judge(
    cfg: DictConfig,
    corpus: build.Corpus,
    known: Known,
    model: Model,
    info: ModelInfo,
    notes: list[str],
    out: Path,
    pooling: Pooling = mean,
    views: Views | None = None,
    others: Mapping[str, Model] | None = None,
) -> dict[str, float]:
    """Ask the classifier about every row; calibrate, score, write thresholds, predictions, metrics and report."""
    device = build.device_of(cfg.trainer.accelerator)
    windows = build.make_windows(cfg, corpus)
    with progress_bar("predicting") as progress:
        workers = build.workers_for(cfg, windows)
        said = predict(model, windows, pooling, batch_size(cfg), device, workers, progress)
    if not said.known.all():
        notes.append(undecoded(int((~said.known).sum()), said.failed))
        log.warning("%s", notes[-1])
    test = answers(cfg, corpus, known, said, corpus.split.test)
    if known.of_folds is None:
        calibration = answers(cfg, corpus, known, said, known.calibration)
    else:
        heard = ~np.isnan(known.of_folds).any(1)
        elsewhere = replace(said, logits=known.of_folds, known=heard)
        calibration = answers(cfg, corpus, known, elsewhere, np.flatnonzero(heard))
        notes.append(
            f"Temperature and thresholds were chosen on what classifiers that were each trained without a part of the labels "
            f"say of that part, {len(calibration.truth)} rows in all; this one learned from all labels."
        )
    asked = cfg.evaluation.settings
    found = results(
        test,
        calibration if len(calibration.truth) else None,
        known.classes,
        cfg.calibration.precision,
        asked.resamples,
        cfg.seed,
    )
    beside, scores = mel_baseline(cfg, corpus, known, said)
    metrics = {**found.metrics, **beside, **corpus.split.metrics}
    for name, other in (others or {}).items():
        metrics |= scores_of(cfg, corpus, known, other, pooling, name)
    if scores:
        write_predictions(scores, sides_of(corpus, known, said), out / PREDICTIONS)
    write_thresholds(found, out / "thresholds.json")
    write_json(out / "metrics.json", metrics)
    write_answers(told(corpus, known, said), out / ANSWERS)
    for note in found.notes:
        log.warning("%s", note)
    embedded = Embedded({"": said.embedding}, said.known, said.failed)
    steps = next_steps(cfg, out)
    report = make_report(
        cfg,
        corpus,
        info,
        windows,
        model,
        views,
        embedded,
        metrics,
        notes,
        read_curves(out),
        steps,
        found,
    )
    write_report(report, out / "report.html")
    show(metrics, found)
    log.info("wrote %s", out / "report.html")
    return metrics


def scores_of(
    cfg: DictConfig, corpus: build.Corpus, known: Known, model: Model, pooling: Pooling, name: str
) -> dict[str, float]:
    """``NAME/test/...``: what a classifier that was trained along with it scores on the test side."""
    rows = corpus.split.test[has_label(known.truth[corpus.split.test])]
    if not len(rows):
        return {}
    windows = build.make_windows(cfg, corpus, rows)
    with progress_bar(f"predicting: {name}") as progress:
        device, workers = build.device_of(cfg.trainer.accelerator), build.workers_for(cfg, windows)
        said = predict(model, windows, pooling, batch_size(cfg), device, workers, progress)
    heard = rows[said.known]
    group = corpus.manifest.frame["group"].to_numpy(dtype=str)[heard]
    predictions = Predictions(known.truth[heard], said.logits[said.known], group)
    found = score_with_interval(predictions, cfg.evaluation.settings.resamples, cfg.seed)
    return {f"{name}/test/{score}": value for score, value in found.items() if np.isfinite(value)}


def told(corpus: build.Corpus, known: Known, said: Said) -> Told:
    """What was said of every row, with its side."""
    side = np.full(len(said.known), TRAIN, np.int8)
    side[corpus.split.test], side[known.calibration] = TEST, HELD
    return Told(said.logits, known.truth, side, known.classes)


def answers(cfg: DictConfig, corpus: build.Corpus, known: Known, said: Said, rows: np.ndarray) -> Answers:
    """What was said about some rows beside what is true of them."""
    rows = rows[said.known[rows]]
    frame = corpus.manifest.frame.iloc[rows]
    quiet = frame["label"].str.lower().isin(list(cfg.data.background)).to_numpy()
    if known.truth.ndim == 2:
        quiet = quiet | (known.truth[rows] == 0).all(1)
    seconds = (frame["end_s"] - frame["start_s"]).to_numpy(float)
    return Answers(said.logits[rows], known.truth[rows], frame["group"].to_numpy(dtype=str), seconds, quiet)


def sides_of(corpus: build.Corpus, known: Known, said: Said) -> Sides:
    """The labelled rows of both sides, of which something was said; those that calibrated stand with the training side."""
    train = np.sort(np.concatenate([known.train, known.calibration]))
    train, test = (rows[said.known[rows] & has_label(known.truth[rows])] for rows in (train, corpus.split.test))
    group = corpus.manifest.frame["group"].to_numpy(dtype=str)
    return Sides(train, test, known.truth, group, known.classes)


def mel_baseline(
    cfg: DictConfig, corpus: build.Corpus, known: Known, said: Said
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """``mel/test/...``: a linear probe of mel statistics on the labels that the classifier had, beside its scores; and
    what both said of the test side: {"classifier": [n c], "mel/classifier": [n c]}."""
    sides = sides_of(corpus, known, said)
    if not len(sides.test):
        return {}, {}
    labels = labels_of(cfg, known)
    labels[known.calibration] = known.truth[known.calibration]
    scores = linear_scores(said.mel[sides.train], labels[sides.train], said.mel[sides.test], len(known.classes))
    predictions = Predictions(known.truth[sides.test], scores, sides.group[sides.test])
    found = score_with_interval(predictions, cfg.evaluation.settings.resamples, cfg.seed)
    metrics = {f"mel/test/{name}": value for name, value in found.items() if np.isfinite(value)}
    return metrics, {"classifier": said.logits[sides.test], "mel/classifier": scores}


def next_steps(cfg: DictConfig, out: Path) -> list[tuple[str, str]]:
    """What to do with a classifier, as the report says it."""
    return [
        (
            "Share it: one folder with weights, ONNX, thresholds, card and golden clip.",
            f"audiorep export model={out} out=bundle",
        ),
        (
            "Few labels and many recordings? Pretrain on all of them first, then start from there.",
            f"audiorep pretrain corpus={cfg.corpus} out=runs/pretrained, and then audiorep train init=runs/pretrained",
        ),
        (
            "Let the unlabelled rows of the corpus take part.",
            f"audiorep train corpus={cfg.corpus} objective=fixmatch",
        ),
    ]


def show(metrics: dict[str, float], found: Results) -> None:
    """The scores as a table on the terminal."""
    table = Table("metric", "classifier", "mel, linear", title="test side, 95 % bootstrap interval by group")
    for name in SHOWN:
        if f"test/{name}" in metrics:
            table.add_row(escape(name), cell(metrics, f"test/{name}"), cell(metrics, f"mel/test/{name}"))
    console.print(table)
    marks = {name: mark for name, mark in found.thresholds["classes"].items() if mark["threshold"] is not None}
    if not marks:
        return
    wanted = found.thresholds["wanted_precision"]
    table = Table(
        "class",
        "threshold",
        "precision",
        "recall",
        "calls",
        title=f"for a precision of {wanted:g}, on calibration rows",
    )
    for name, mark in list(marks.items())[:MOST_SHOWN]:
        figures = (f"{mark[key]:.3f}" for key in ("threshold", "precision", "recall"))
        table.add_row(escape(name), *figures, str(mark["positives"]))
    console.print(table)
