"""audiorep train: a call classifier from labels, from scratch or on a pretrained encoder, with thresholds."""

import logging
import time
from typing import Any

import numpy as np
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf, open_dict

from audiorep import build
from audiorep.batch_size import settle_batch
from audiorep.composing import compose
from audiorep.console import progress_bar
from audiorep.data.resample import multiplicity
from audiorep.data.sampler import has_label
from audiorep.data.windows import Windows
from audiorep.distributed import rank
from audiorep.errors import AudiorepError
from audiorep.evaluate.answers import NAME as ANSWERS
from audiorep.evaluate.predict import predict
from audiorep.known import Known, labels_of
from audiorep.learner import Learner
from audiorep.model import Model, ModelInfo, load_model, save_model
from audiorep.objectives.base import Objective
from audiorep.processes import own_folder, together
from audiorep.tasks.base import Task, Trained
from audiorep.training import (
    LEFT_BEHIND,
    Failures,
    fill_backgrounds,
    keep_config,
    keep_golden,
    make_learner,
    settle_pace,
)
from audiorep.transfer import Transfer
from audiorep.trial import fit_or_rehearse
from audiorep.verbs.evaluate import trained_on_test
from audiorep.verbs.pretrain import facts

log = logging.getLogger(__name__)

ALSO_LEFT = ("thresholds.json", ANSWERS)
LICENCES = ("licence", "teacher_licence")
"""Facts of a model that hold for what is trained on it, too."""

NUMBERS = {"labels_per_class": True, "labels_seed": True, "label_fraction": False, "window.length_s": False,
           "calibration.folds": True, "calibration.fold": True}  # fmt: skip
"""Settings that may be left open and otherwise are numbers, and whether these are whole."""


@together
def train(cfg: DictConfig) -> dict[str, float]:
    """Train a classifier, calibrate it, judge it; returns the metrics. Leaves in `out` the model with its thresholds,
    checkpoint, logs, metrics, predictions and report."""
    began, began_cpu = time.monotonic(), time.process_time()
    check_settings(cfg)
    out = own_folder(cfg, (*LEFT_BEHIND, *ALSO_LEFT))
    with build.plain_errors():
        transfer: Transfer = instantiate(cfg.transfer)
        task: Task = instantiate(cfg.task)
    corpus = task.corpus(cfg, build.open_corpus(cfg, None if rank() else out))
    known = task.known(cfg, corpus)
    model, parts, inherited = start(cfg, corpus, transfer)
    cfg = build.fill_in_auto(cfg, corpus.manifest) if cfg.init is None else cfg
    side = np.setdiff1d(corpus.split.train, known.calibration)
    windows = build.make_windows(cfg, corpus, side, side)
    windows.label = labels_of(cfg, known)[side]
    windows.tokens = np.zeros((len(side), 1), np.int64)
    if model is None:
        model, parts = build.make_model(cfg, cfg.seed), build.model_parts(cfg)
        build.fit_compression(model.frontend, model.compress, windows, cfg.seed)
    model.frontend.check_length(windows.length)
    windows.times = times_of(cfg, corpus, model, windows, side)
    with build.seeded(cfg.seed):
        model.encoder = transfer.apply(model.encoder)
    settle_batch(cfg, windows)
    settle_pace(cfg, out, model, windows)
    failures = Failures(windows, corpus.manifest.quarantined, out)
    told = {"pretrained": cfg.init is not None, "names": tuple(known.classes)} | task.facts(windows, model)
    learner = make_learner(cfg, model, windows, out, failures, transfer.rates, **told)
    if learner.objective.classifier is None:
        raise no_classifier(cfg)
    keep_config(cfg, out)
    fill_backgrounds(cfg, corpus, learner, windows, side)
    if not fit_or_rehearse(cfg, learner, windows, model, len(corpus.manifest)):
        return {}
    kept = learner.objective.classifier
    assert kept is not None
    parts = {**parts, "encoder": transfer.part(parts["encoder"])}
    encoder = transfer.finish(kept.encoder)
    trained = Model(model.frontend, model.compress, encoder, kept.head, kept.framewise).eval()
    spent = time.monotonic() - began, time.process_time() - began_cpu
    training = facts(cfg, corpus, windows, learner, trained, *spent) | inherited | extra_facts(cfg, known, learner)
    info = ModelInfo(
        cfg.frontend.sample_rate_hz, cfg.window.length_s, cfg.window.outside, tuple(known.classes), training
    )
    save_model(trained, parts, info, out)
    keep_golden(windows, out, cfg.seed)
    notes = [*corpus.notes, *known.notes, *failures.notes]
    beside = {
        name: Model(model.frontend, model.compress, transfer.finish(other.encoder), other.head).eval()
        for name, other in learner.objective.beside.items()
    }
    return task.judge(Trained(cfg, corpus, known, trained, info, notes, learner, out, beside))


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
        cfg.frontend, cfg.compress, cfg.encoder = (OmegaConf.create(parts[n]) for n in build.PARTS)
    cfg.window.length_s = info.window_s if cfg.window.length_s == "auto" else cfg.window.length_s
    cfg.window.outside = info.outside if cfg.window.outside == "auto" else cfg.window.outside
    corpus.notes.extend(trained_on_test(cfg, corpus, info))
    model.leave_answers()
    return model, parts, {name: info.training[name] for name in LICENCES if info.training.get(name)}


def ignored(cfg: DictConfig) -> list[str]:
    """Which of the parts that a pretrained model brings were set to something else than their default."""
    usual = compose("train", ["corpus=none"])
    return [name for name in build.PARTS if OmegaConf.to_container(cfg[name]) != OmegaConf.to_container(usual[name])]


def times_of(
    cfg: DictConfig, corpus: build.Corpus, model: Model, windows: Windows, side: np.ndarray
) -> np.ndarray | None:
    """How often each row of the training side is drawn, by the resampler's choice among the labelled rows' embeddings."""
    draws = build.draws_of(corpus.manifest.frame, cfg.data.draws)
    if cfg.chosen.resampler == "none":
        return None if draws is None else draws[side]
    with build.plain_errors():
        resampler = instantiate(cfg.resampler)
    labelled = np.flatnonzero(has_label(windows.label))
    with progress_bar("embedding for the resampler") as progress:
        said = predict(model, build.make_windows(cfg, corpus, side[labelled]), progress=progress)
    x = said.mel if cfg.init is None else said.embedding
    good = said.known
    x = (x[good] - x[good].mean(0)) / np.maximum(x[good].std(0), 1e-6)
    found = resampler(x, windows.label[labelled[good]], cfg.seed, corpus.classes)
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
    ways = [f"calibration.{way}" for way in ("column", "folds", "answers") if cfg.calibration[way] is not None]
    if len(ways) > 1:
        raise AudiorepError(f"{' and '.join(ways)} are several ways to say what calibrates: give one of them")
    if cfg.calibration.folds is not None and not 0 <= cfg.calibration.fold < cfg.calibration.folds:
        raise AudiorepError(
            f"calibration.fold={cfg.calibration.fold} must lie between 0 and {cfg.calibration.folds - 1}, of "
            f"calibration.folds={cfg.calibration.folds}"
        )
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
        "calibration_rows": len(known.calibration) if cfg.calibration.answers is None else None,
        "calibrated_on": None if cfg.calibration.answers is None else "what classifiers say of labels kept from them",
        "classes": known.classes,
        "multilabel": known.truth.ndim == 2,
        "init": None if cfg.init is None else str(cfg.init),
        "transfer": cfg.chosen.transfer,
        "labels_per_class": cfg.labels_per_class,
        **learner.objective.facts,
    }
    return {name: value for name, value in found.items() if value is not None}
