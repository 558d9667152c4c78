"""audiorep pretrain: learn an encoder from recordings, then say how good it is."""

import logging
import time
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from audiorep import __version__, build
from audiorep.batch_size import settle_batch
from audiorep.data.windows import Windows
from audiorep.distributed import rank
from audiorep.evaluate.shortcut import nuisance_columns
from audiorep.learner import Learner
from audiorep.model import Model, ModelInfo, count_parameters, save_model
from audiorep.processes import own_folder, together
from audiorep.training import (
    LEFT_BEHIND,
    Failures,
    fill_backgrounds,
    keep_config,
    keep_golden,
    make_learner,
    measure_task,
    read_curves,
    settle_pace,
)
from audiorep.trial import fit_or_rehearse
from audiorep.verbs.evaluate import check_evaluation, report_and_score

log = logging.getLogger(__name__)


@together
def pretrain(cfg: DictConfig) -> dict[str, float]:
    """Train, save, evaluate; returns the metrics. Leaves in `out` the model, checkpoint, logs, metrics and report."""
    began, began_cpu = time.monotonic(), time.process_time()
    out = own_folder(cfg, LEFT_BEHIND)
    corpus = build.open_corpus(cfg, None if rank() else out)
    nuisance_columns(corpus.manifest.frame, cfg.evaluation.shortcut)  # a wrong name is said before training, not after
    check_evaluation(cfg)
    cfg = build.fill_in_auto(cfg, corpus.manifest)
    rows = None if cfg.transductive else corpus.split.train
    windows = build.make_windows(cfg, corpus, rows)
    if cfg.transductive:  # the test rows are heard, their labels stay hidden
        windows.label = windows.label.copy()
        windows.label[corpus.split.test] = -1 if windows.label.ndim == 1 else np.nan
    tokens, vocabulary = build.annotation_words(cfg, corpus)
    windows.tokens = tokens.copy() if rows is None else tokens[rows]
    if rows is None:
        windows.tokens[corpus.split.test] = 0
    model = build.make_model(cfg, cfg.seed)
    build.fit_compression(model.frontend, model.compress, windows, cfg.seed)
    settle_batch(cfg, windows)
    settle_pace(cfg, out, model, windows)
    failures = Failures(windows, corpus.manifest.quarantined, out)
    words_hold_labels = build.words_hold_labels(cfg, corpus)
    learner = make_learner(
        cfg, model, windows, out, failures, vocabulary=vocabulary.size, words_hold_labels=words_hold_labels
    )
    keep_config(cfg, out)
    fill_backgrounds(cfg, corpus, learner, windows, rows)
    if not fit_or_rehearse(cfg, learner, windows, model, len(corpus.manifest)):
        return {}
    spent = time.monotonic() - began, time.process_time() - began_cpu
    training = facts(cfg, corpus, windows, learner, model, *spent) | learner.objective.facts
    info = ModelInfo(cfg.frontend.sample_rate_hz, cfg.window.length_s, cfg.window.outside, (), training)
    save_model(model, build.model_parts(cfg), info, out)
    keep_golden(windows, out, cfg.seed)
    if learner.objective.uses_labels:
        corpus.notes.append(
            "labels of the training side trained the encoder: linear@1 and linear@5 do not tell what few labels would do"
        )
    task = measure_task(cfg, corpus, learner, tokens, build.device_of(cfg.trainer.accelerator))
    notes = [*corpus.notes, *failures.notes]
    return report_and_score(cfg, corpus, model, info, out, notes, learner.views, read_curves(out), task)


def facts(
    cfg: DictConfig,
    corpus: build.Corpus,
    windows: Windows,
    learner: Learner,
    model: Model,
    seconds: float,
    cpu_seconds: float,
) -> dict[str, Any]:
    """What was trained on what, for the model card and the report; seconds are of this start, earlier ones are added."""
    return {
        "corpus": str(cfg.corpus),
        "objective": cfg.chosen.objective,
        "rows": len(windows),
        "hours": round(float(sum(info.duration_s for info in corpus.manifest.files.values())) / 3600, 3),
        "labelled_rows": int(corpus.labelled.sum()),
        "classes": list(corpus.classes),
        "split": corpus.split.description,
        "split_settings": OmegaConf.to_container(cfg.split),
        "labels_used": learner.objective.uses_labels,
        "rows_seen": "all" if OmegaConf.select(cfg, "transductive") else "training side",
        "encoder": cfg.chosen.encoder,
        "parameters": count_parameters(model.encoder),
        "steps": int(cfg.trainer.max_steps),
        "batch_size": int(cfg.data.batch_size),
        "precision": cfg.trainer.precision,
        "seed": int(cfg.seed),
        "seconds": round(learner.earlier[0] + seconds, 1),
        "cpu_seconds": round(learner.earlier[1] + cpu_seconds, 1),
        "audiorep": __version__,
        "torch": str(torch.__version__),
    }
