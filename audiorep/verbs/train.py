"""audiorep train: a call classifier from labels, from scratch or on a pretrained encoder, with thresholds."""

import io
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.markup import escape
from rich.table import Table

from audiorep import build
from audiorep.cli import compose
from audiorep.console import console, progress_bar
from audiorep.data.budget import hold_out, members, spend, with_errors
from audiorep.data.resample import multiplicity
from audiorep.data.sampler import has_label
from audiorep.data.windows import Windows
from audiorep.errors import AudiorepError
from audiorep.evaluate.embedding import Embedded
from audiorep.evaluate.metrics import Predictions, score_with_interval
from audiorep.evaluate.predict import Said, predict
from audiorep.evaluate.predictions import NAME as PREDICTIONS
from audiorep.evaluate.predictions import write_predictions
from audiorep.evaluate.probe import linear_scores
from audiorep.evaluate.protocol import Sides
from audiorep.evaluate.report import write_report
from audiorep.evaluate.results import Answers, Results, results, write_thresholds
from audiorep.files import output_folder, remove, write_bytes, write_json, write_text
from audiorep.learner import Learner
from audiorep.model import Model, ModelInfo, load_model, save_model
from audiorep.objectives.base import Objective
from audiorep.pooling import Pooling, mean
from audiorep.training import (
    LEFT_BEHIND,
    Failures,
    fill_backgrounds,
    fit,
    keep_golden,
    make_learner,
    read_curves,
    say_what,
    settle_precision,
)
from audiorep.transfer import Transfer
from audiorep.verbs.evaluate import cell, make_report, trained_on_test
from audiorep.verbs.pretrain import facts
from audiorep.views import Views

log = logging.getLogger(__name__)

ANSWERS = "answers.npz"
ALSO_LEFT = ("thresholds.json", ANSWERS)
LICENCES = ("licence", "teacher_licence")
"""Facts of a model that hold for what is trained on it, too."""

NUMBERS = {"labels_per_class": True, "labels_seed": True, "label_fraction": False, "window.length_s": False}
"""Settings that may be left open and otherwise are numbers, and whether these are whole."""

PARTS = ("frontend", "compress", "encoder")
"""What `init=` brings."""

MOST_SHOWN = 30
"""Thresholds on the terminal; `thresholds.json` holds all."""

SHOWN = ("accuracy", "balanced_accuracy", "macro_f1", "cmap", "auroc", "ece", "false_positives_per_hour")


@dataclass(frozen=True)
class Known:
    """What may be known of the labels.

    classes: of the classifier. truth: [rows] or [rows c] of all rows, by these classes. train, calibration: labelled rows
    of the training side. notes: what a user should know.
    """

    classes: list[str]
    truth: np.ndarray
    train: np.ndarray
    calibration: np.ndarray
    notes: list[str]


def train(cfg: DictConfig) -> dict[str, float]:
    """Train a classifier, calibrate it, judge it; returns the metrics. Leaves in `out` the model with its thresholds,
    checkpoint, logs, metrics, predictions and report."""
    began, began_cpu = time.monotonic(), time.process_time()
    check_settings(cfg)
    out = output_folder(cfg.out, resume=cfg.resume, overwrite=cfg.overwrite)
    if cfg.overwrite and not cfg.resume:
        remove(out, (*LEFT_BEHIND, *ALSO_LEFT))
    corpus = build.open_corpus(cfg, out)
    known = what_is_known(cfg, corpus)
    with build.plain_errors():
        transfer: Transfer = instantiate(cfg.transfer)
    model, parts, inherited = start(cfg, corpus, transfer)
    cfg = build.fill_in_auto(cfg, corpus.manifest) if cfg.init is None else cfg
    settle_precision(cfg, out)
    side = np.setdiff1d(corpus.split.train, known.calibration)
    windows = build.make_windows(cfg, corpus, side)
    windows.label = labels_of(cfg, known)[side]
    windows.tokens = np.zeros((len(side), 1), np.int64)
    if model is None:
        model, parts = build.make_model(cfg, cfg.seed), build.model_parts(cfg)
        build.fit_compression(model.frontend, model.compress, windows, cfg.seed)
    model.frontend.check_length(windows.length)
    windows.times = times_of(cfg, corpus, model, windows, known, side)
    with build.seeded(cfg.seed):
        model.encoder = transfer.apply(model.encoder)
    failures = Failures(windows, corpus.manifest.quarantined, out)
    learner = make_learner(
        cfg, model, windows, out, failures, transfer.rates, pretrained=cfg.init is not None, names=tuple(known.classes)
    )
    if learner.objective.classifier is None:
        raise no_classifier(cfg)
    write_text(out / "config.yaml", OmegaConf.to_yaml(cfg))
    fill_backgrounds(cfg, corpus, learner, windows, side)
    say_what(cfg, learner, model, windows)
    fit(cfg, learner, windows)
    kept = learner.objective.classifier
    assert kept is not None
    parts = {**parts, "encoder": transfer.part(parts["encoder"])}
    trained = Model(model.frontend, model.compress, transfer.finish(kept.encoder), kept.head).eval()
    spent = time.monotonic() - began, time.process_time() - began_cpu
    training = facts(cfg, corpus, windows, learner, trained, *spent) | inherited | extra_facts(cfg, known, learner)
    info = ModelInfo(
        cfg.frontend.sample_rate_hz, cfg.window.length_s, cfg.window.outside, tuple(known.classes), training
    )
    save_model(trained, parts, info, out)
    keep_golden(windows, out, cfg.seed)
    notes = [*corpus.notes, *known.notes, *failures.notes]
    return judge(cfg, corpus, known, trained, info, notes, out, learner.objective.pooling, learner.views)


def start(
    cfg: DictConfig, corpus: build.Corpus, transfer: Transfer
) -> tuple[Model | None, dict[str, Any], dict[str, Any]]:
    """The model of `init`, the configs of its parts, which the run's config then names too, and what its card says that
    holds on; None where there is none.

    Raises:
        AudiorepError: a transfer that trains less than everything, and nothing to start from.
    """
    if cfg.init is None:
        cfg.window.outside = "context" if cfg.window.outside == "auto" else cfg.window.outside
        if transfer.wants_trained:
            raise AudiorepError(
                f"transfer={cfg.chosen.transfer} keeps weights as they are, and without init= they are random: name a "
                "pretrained model with init=FOLDER, or choose transfer=full"
            )
        return None, {}, {}
    model, info, parts = load_model(cfg.init, "init")
    for name in ignored(cfg):
        log.warning("%s= is left aside: init= brings its own %s", name, name)
    cfg.chosen.encoder = info.training.get("encoder", type(model.encoder).__name__)
    with open_dict(cfg):
        cfg.frontend, cfg.compress, cfg.encoder = (OmegaConf.create(parts[n]) for n in PARTS)
    cfg.window.length_s = info.window_s if cfg.window.length_s == "auto" else cfg.window.length_s
    cfg.window.outside = info.outside if cfg.window.outside == "auto" else cfg.window.outside
    corpus.notes.extend(trained_on_test(cfg, corpus, info))
    model.classifier = None
    return model, parts, {name: info.training[name] for name in LICENCES if info.training.get(name)}


def ignored(cfg: DictConfig) -> list[str]:
    """Which of the parts that a pretrained model brings were set to something else than their default."""
    usual = compose("train", ["corpus=none"])
    return [name for name in PARTS if OmegaConf.to_container(cfg[name]) != OmegaConf.to_container(usual[name])]


def what_is_known(cfg: DictConfig, corpus: build.Corpus) -> Known:
    """Spend the budget, hold out what calibrates, and settle the classes: those with a label to train on.

    Raises:
        AudiorepError: fewer than two classes (one, with several labels a row) have one.
    """
    seed = cfg.seed if cfg.labels_seed is None else cfg.labels_seed
    frame = corpus.manifest.frame
    named = np.flatnonzero(build.rows_where(frame, cfg.calibration.column, cfg.calibration.rows, "calibration.column"))
    named = np.intersect1d(named, corpus.split.train)
    budget = spend(
        np.setdiff1d(corpus.split.train, named),
        corpus.truth,
        corpus.classes,
        cfg.labels_per_class,
        cfg.label_fraction,
        int(seed),
    )
    notes = list(budget.notes)
    group = frame["group"].to_numpy(dtype=str)
    fraction, least = (cfg.calibration.fraction if cfg.calibration.column is None else 0.0), cfg.calibration.least
    fit_rows, held, reason = hold_out(budget.rows, corpus.truth, group, len(corpus.classes), fraction, least, int(seed))
    if cfg.calibration.column is not None:
        held = named if has_label(corpus.truth[named]).any() else named[:0]
    elif reason:
        log.info("nothing is held out to calibrate: %s", reason)
    present = members(corpus.truth, len(corpus.classes))
    taught = present[fit_rows].any(0)
    if corpus.truth.ndim == 2:
        taught &= (corpus.truth[fit_rows] == 0).any(0)
    kept = np.flatnonzero(taught)
    heard = present[corpus.split.test].any(0)
    for c, name in enumerate(corpus.classes):
        if not taught[c] and present[:, c].any():
            where = "that the training may use" if present[corpus.split.train, c].any() else "on the training side"
            notes.append(f"class '{name}' has no label {where}: it cannot be learned, and its test rows are not judged")
        elif taught[c] and not heard[c] and len(corpus.split.test):
            notes.append(f"class '{name}' has no label on the test side: it is learned, and nothing tells how well")
    least_classes = 1 if corpus.truth.ndim == 2 else 2
    if len(kept) < least_classes:
        raise AudiorepError(
            f"{len(kept)} class(es) have labels to train on, at least {least_classes} are needed: label more rows, raise "
            "labels_per_class, or choose another split" + "".join(f"; {note}" for note in notes[:3])
        )
    if corpus.truth.ndim == 2:
        truth = corpus.truth[:, kept]
    else:
        number = np.full(len(corpus.classes) + 1, -1)
        number[kept] = np.arange(len(kept))
        truth = number[corpus.truth]
    for note in notes:
        log.warning("%s", note)
    return Known([corpus.classes[int(c)] for c in kept], truth, fit_rows, held, notes)


def labels_of(cfg: DictConfig, known: Known) -> np.ndarray:
    """Labels of all rows as the training may see them: of `known.train` and of no other, some wrong if that is studied."""
    hidden = np.full_like(known.truth, -1 if known.truth.ndim == 1 else np.nan)
    hidden[known.train] = known.truth[known.train]
    return with_errors(hidden, cfg.data.label_noise, cfg.seed)


def times_of(
    cfg: DictConfig, corpus: build.Corpus, model: Model, windows: Windows, known: Known, side: np.ndarray
) -> np.ndarray | None:
    """How often each row of the training side is drawn, by the resampler's choice among the labelled rows' embeddings."""
    draws = build.draws_of(corpus.manifest.frame, cfg.data.draws)
    if cfg.chosen.resampler == "none":
        return None if draws is None else draws[side]
    with build.plain_errors():
        resampler = instantiate(cfg.resampler)
    labelled = np.flatnonzero(has_label(windows.label))
    model.classifier = None
    with progress_bar("embedding for the resampler") as progress:
        said = predict(model, build.make_windows(cfg, corpus, side[labelled]), progress=progress)
    x = said.mel if cfg.init is None else said.embedding
    good = said.known
    x = (x[good] - x[good].mean(0)) / np.maximum(x[good].std(0), 1e-6)
    found = resampler(x, windows.label[labelled[good]], cfg.seed)
    times = multiplicity(found, labelled[good], len(side))
    log.info("the resampler draws %d of %d labelled rows, %d in all", (times > 0).sum(), len(labelled), times.sum())
    return times


def check_settings(cfg: DictConfig) -> None:
    """Refuse what no corpus could make sense of, before anything is read.

    Raises:
        AudiorepError: text for a number, a precision that is none, or an objective that trains no classifier.
    """
    for name, whole in NUMBERS.items():
        value, free = OmegaConf.select(cfg, name), "auto" if name == "window.length_s" else None
        if value != free and (isinstance(value, bool) or not isinstance(value, int if whole else int | float)):
            raise AudiorepError(f"{name}={value}: a {'whole ' if whole else ''}number is needed")
    if not 0.0 < cfg.calibration.precision <= 1.0:
        raise AudiorepError(f"calibration.precision={cfg.calibration.precision} must lie in (0, 1]")
    if getattr(get_class(cfg.objective._target_), "classifier", None) is Objective.classifier:
        raise no_classifier(cfg)


def no_classifier(cfg: DictConfig) -> AudiorepError:
    """What to say of an objective that leaves nothing to name calls with."""
    return AudiorepError(
        f"objective={cfg.chosen.objective} trains no classifier: use audiorep pretrain objective={cfg.chosen.objective}, "
        "and then audiorep train init=FOLDER with objective=supervised, fixmatch, mean_teacher ..."
    )


def extra_facts(cfg: DictConfig, known: Known, learner: Learner) -> dict[str, Any]:
    """What the card says of a classifier besides what it says of any model; what there is none of is left out."""
    found = {
        "labelled_rows": len(known.train),
        "calibration_rows": len(known.calibration),
        "classes": known.classes,
        "multilabel": known.truth.ndim == 2,
        "init": None if cfg.init is None else str(cfg.init),
        "transfer": cfg.chosen.transfer,
        "labels_per_class": cfg.labels_per_class,
        **learner.objective.facts,
    }
    return {name: value for name, value in found.items() if value is not None}


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
) -> dict[str, float]:
    """Ask the classifier about every row; calibrate, score, write thresholds, predictions, metrics and report."""
    device = build.device_of(cfg.trainer.accelerator)
    windows = build.make_windows(cfg, corpus)
    with progress_bar("predicting") as progress:
        workers = build.workers_for(cfg, windows)
        said = predict(model, windows, pooling, cfg.data.batch_size, device, workers, progress)
    if not said.known.all():
        reasons = list(dict.fromkeys(reason for _, reason in said.failed))
        notes.append(
            f"{int((~said.known).sum())} row(s) cannot be decoded and are not scored: {'; '.join(reasons[:3])}"
        )
        log.warning("%s", notes[-1])
    test, calibration = (answers(cfg, corpus, known, said, rows) for rows in (corpus.split.test, known.calibration))
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
    metrics = {**found.metrics, **beside}
    if scores:
        write_predictions(scores, sides_of(corpus, known, said), out / PREDICTIONS)
    write_thresholds(found, out / "thresholds.json")
    write_json(out / "metrics.json", metrics)
    write_bytes(out / ANSWERS, packed(corpus, known, said))
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


def packed(corpus: build.Corpus, known: Known, said: Said) -> bytes:
    """What was said of every row: logits [n c], truth, side (0 training, 1 test, 2 calibration) and classes, as `.npz`."""
    side = np.zeros(len(said.known), np.int8)
    side[corpus.split.test], side[known.calibration] = 1, 2
    memory = io.BytesIO()
    np.savez_compressed(memory, logits=said.logits, truth=known.truth, side=side, classes=np.array(known.classes))
    return memory.getvalue()


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
        "class", "threshold", "precision", "recall", title=f"for a precision of {wanted:g}, on calibration rows"
    )
    for name, mark in list(marks.items())[:MOST_SHOWN]:
        table.add_row(escape(name), *(f"{mark[key]:.3f}" for key in ("threshold", "precision", "recall")))
    console.print(table)
