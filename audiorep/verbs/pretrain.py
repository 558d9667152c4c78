"""audiorep pretrain: learn an encoder from recordings, then say how good it is."""

import json
import logging
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from audiorep import __version__, build, types
from audiorep.checkpoint import Checkpoint
from audiorep.console import TrainingBar
from audiorep.data.audio import write_wav
from audiorep.data.loader import StepSampler, decoded_waves, fixed_batches, to_device, train_loader
from audiorep.data.manifest import Quarantined, write_quarantine
from audiorep.data.sampler import count_shared, label_codes
from audiorep.data.windows import Windows
from audiorep.data.words import count_texts
from audiorep.errors import AudiorepError
from audiorep.evaluate.embedding import embed_rows, extract_with
from audiorep.evaluate.shortcut import nuisance_columns
from audiorep.files import output_folder, remove, write_text
from audiorep.learner import Learner
from audiorep.model import Model, ModelInfo, count_parameters, save_model
from audiorep.objectives.base import Setting
from audiorep.types import Batch, generator
from audiorep.verbs.evaluate import check_evaluation, report_and_score
from audiorep.views import Views

log = logging.getLogger(__name__)

SETTING_KEYS = (
    "seed", "corpus", "transductive", "window", "split", "labels", "data", "frontend", "compress", "views", "encoder",
    "objective", "optimizer", "trainer",
)  # fmt: skip
"""What must be the same on resume, because the next step depends on it."""

NOT_SETTING = ("checkpoint_every_s", "workers", "cache_mb", "log_every", "health_every")
"""Keys inside those that the next step does not depend on."""

LEFT_BEHIND = ("last.ckpt", "logs", "quarantine.csv", "metrics.json", "report.html", "config.yaml", "golden.wav",
               "config.json", "model.safetensors", "predictions.npz")  # fmt: skip
"""What an earlier run left in `out`: removed by overwrite=true."""


def pretrain(cfg: DictConfig) -> dict[str, float]:
    """Train, save, evaluate; returns the metrics. Leaves in `out` the model, checkpoint, logs, metrics and report."""
    began, began_cpu = time.monotonic(), time.process_time()
    out = output_folder(cfg.out, resume=cfg.resume, overwrite=cfg.overwrite)
    if cfg.overwrite and not cfg.resume:
        remove(out, LEFT_BEHIND)
    corpus = build.open_corpus(cfg, out)
    nuisance_columns(corpus.manifest.frame, cfg.evaluation.shortcut)  # a wrong name is said before training, not after
    check_evaluation(cfg)
    cfg = build.fill_in_auto(cfg, corpus.manifest)
    stored = OmegaConf.load(out / "config.yaml") if cfg.resume and (out / "config.yaml").exists() else cfg
    chosen = stored if cfg.trainer.precision == "auto" else cfg  # what was chosen at the start holds for the whole run
    cfg.trainer.precision = build.choose_precision(str(chosen.trainer.precision))
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
    failed: dict[str, Quarantined] = {}

    def on_failed(row: int, reason: str) -> None:
        path = str(windows.paths[windows.path_of[row]])
        if path not in failed:
            failed[path] = Quarantined(path, None, reason.removeprefix(f"{path}: "))
            log.warning("left out: %s", reason)
            write_quarantine([*corpus.manifest.quarantined, *failed.values()], out / "quarantine.csv")

    learner = make_learner(cfg, model, windows, out, on_failed, vocabulary.size, build.words_hold_labels(cfg, corpus))
    write_text(out / "config.yaml", OmegaConf.to_yaml(cfg))
    if any(augment.wants_background for augment in learner.views.augments):
        bank = build.background_bank(cfg, corpus, windows, rows)
        for augment in learner.views.augments:
            augment.fill(bank)
    log.info(
        "%d windows of %g s from %d rows, %s with %.2f million parameters, %s",
        learner.sampler.drawing.units,
        cfg.window.length_s,
        len(windows),
        type(model.encoder).__name__,
        count_parameters(model.encoder) / 1e6,
        cfg.trainer.precision,
    )
    fit(cfg, learner, windows)
    trained_s, trained_cpu_s = time.monotonic() - began, time.process_time() - began_cpu
    training = facts(cfg, corpus, windows, learner, model, trained_s, trained_cpu_s)
    info = ModelInfo(cfg.frontend.sample_rate_hz, cfg.window.length_s, cfg.window.outside, (), training)
    save_model(model, build.model_parts(cfg), info, out)
    keep_golden(windows, out, cfg.seed)
    if learner.objective.uses_labels:
        corpus.notes.append(
            "labels of the training side trained the encoder: linear@1 and linear@5 do not tell what few labels would do"
        )
    task = measure_task(cfg, corpus, learner, tokens, build.device_of(cfg.trainer.accelerator))
    notes = [*corpus.notes, *(f"left out while training: {q.path}: {q.reason}" for q in failed.values())]
    return report_and_score(cfg, corpus, model, info, out, notes, learner.views, read_curves(out), task)


def make_learner(
    cfg: DictConfig,
    model: Model,
    windows: Windows,
    out: Path | None,
    on_failed: Any = None,
    vocabulary: int = 0,
    words_hold_labels: bool = True,
) -> Learner:
    """Objective, views and learner of the config around a model. `vocabulary`: how many numbers the tokens may be;
    `words_hold_labels`: whether labels are among them."""
    with build.seeded(cfg.seed + 1), build.plain_errors():
        objective = instantiate(cfg.objective, encoder=model.encoder)
        views = instantiate(cfg.views, frontend=model.frontend, compress=model.compress)
        for frontend, compress in views.own():
            build.fit_compression(frontend, compress, windows, cfg.seed)
        optimizer = instantiate(cfg.optimizer, _partial_=True)
        drawing = instantiate(cfg.data.sampler, windows=windows)
        sampler = StepSampler(drawing, cfg.data.batch_size, cfg.trainer.max_steps, cfg.seed)
        objective.prepare(told(windows, views, sampler, vocabulary, words_hold_labels))
    resolved: Any = OmegaConf.to_container(cfg, resolve=True)
    setting = {"rows": str(len(windows))} | flat({name: resolved[name] for name in SETTING_KEYS})
    return Learner(
        objective,
        views,
        optimizer,
        sampler,
        weight_decay=cfg.trainer.weight_decay,
        warmup=cfg.trainer.warmup,
        clip_norm=cfg.trainer.clip_norm,
        seed=cfg.seed,
        checkpoint=None if out is None else Checkpoint(out / "last.ckpt", cfg.trainer.checkpoint_every_s),
        resume=cfg.resume,
        setting=setting,
        health_every=cfg.trainer.health_every,
        log_every=cfg.trainer.log_every,
        collapse=instantiate(cfg.collapse),
        channels_last=cfg.trainer.channels_last,
        accumulate=cfg.trainer.accumulate,
        on_failed=on_failed or (lambda row, reason: None),
        embed=lambda: embed_training_side(model, windows, cfg.data.batch_size),
    )


def told(
    windows: Windows, views: Views, sampler: StepSampler, vocabulary: int, words_hold_labels: bool = True
) -> Setting:
    """What an objective is told of the training side."""
    codes, several = label_codes(windows.label), windows.label.ndim == 2
    return Setting(
        rows=len(windows),
        batch_size=sampler.total,
        views=views.counts,
        labelled=int((codes >= 0).sum()),
        classes=len(np.unique(codes[codes >= 0])),
        epochs=sampler.max_steps / sampler.steps_per_epoch,
        domains=len(np.unique(windows.domain[windows.domain >= 0])),
        shared=count_shared(windows.label, windows.domain),
        vocabulary=vocabulary if windows.tokens.any() else 0,
        words=windows.tokens.shape[1],
        texts=count_texts(windows.tokens),
        words_hold_labels=words_hold_labels,
        outputs=windows.label.shape[1] if several else int(windows.label.max(initial=-1)) + 1,
        absences=not several or bool((windows.label == 0).any()),
    )


def measure_task(
    cfg: DictConfig, corpus: build.Corpus, learner: Learner, tokens: np.ndarray, device: torch.device
) -> dict[str, float]:
    """What the objective says of its own task on the held-out side: `held_out/...`; nothing where that was trained on."""
    held = corpus.split.test
    if not len(held) or cfg.transductive:
        return {}
    windows = build.make_windows(cfg, corpus, held)
    windows.tokens = tokens[held]
    learner.eval().to(device)
    rng = generator(cfg.seed, 3, device=device)

    def batches() -> Iterator[tuple[types.Views, Batch]]:
        for raw in fixed_batches(windows, cfg.data.batch_size):
            if len(raw["index"]):
                batch = to_device(raw, device)
                yield learner.views(batch["wave"], rng), batch

    with torch.no_grad():
        found = learner.objective.measure(batches(), rng)
    learner.cpu()
    return {f"held_out/{name}": value for name, value in found.items()}


def embed_training_side(model: Model, windows: Windows, batch_size: int) -> torch.Tensor:
    """Embeddings of all rows [m d] by the model as it is; NaN where a row cannot be decoded."""
    device = next(model.parameters()).device
    embedded = embed_rows(windows, extract_with({"": model}, mel=False), batch_size, device)
    found = torch.from_numpy(embedded.values[""])
    found[torch.from_numpy(~embedded.known)] = torch.nan
    return found


def flat(config: Any, prefix: str = "") -> dict[str, str]:
    """Dotted keys of a config with their values as JSON, without those of `NOT_SETTING`."""
    out: dict[str, str] = {}
    for name, value in config.items():
        if isinstance(value, dict):
            out |= flat(value, f"{prefix}{name}.")
        elif name not in NOT_SETTING:
            out[f"{prefix}{name}"] = json.dumps(value)
    return out


def fit(cfg: DictConfig, learner: Learner, windows: Windows) -> None:
    """Run the training steps through Lightning's Trainer."""
    epoch = learner.sampler.steps_per_epoch
    loggers = [instantiate(logger) for logger in (cfg.logger or {}).values()]
    trainer = L.Trainer(
        max_epochs=max(1, -(-cfg.trainer.max_steps // epoch) - learner.step // epoch),
        accelerator=cfg.trainer.accelerator,
        devices=1,
        precision=cfg.trainer.precision,
        logger=loggers,
        callbacks=[TrainingBar()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        log_every_n_steps=cfg.trainer.log_every,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        try:
            trainer.fit(learner, train_loader(windows, learner.sampler, build.workers_for(cfg, windows)))
        except SystemExit:  # Lightning's answer to Ctrl-C
            learner.save()
            raise AudiorepError(f"interrupted at step {learner.step}; go on with resume=true out={cfg.out}") from None
    learner.eval().cpu()


def keep_golden(windows: Windows, out: Path, seed: int) -> None:
    """Keep the loudest of a few windows as `golden.wav`, for the export to carry along."""
    items = windows.fixed_items()
    order = np.random.default_rng([seed, 5]).permutation(len(items))
    wave = next(decoded_waves(windows, [items[i] for i in order], 16))["wave"]
    loudest = wave[wave.square().mean(1).argmax()]
    write_wav(out / "golden.wav", loudest.numpy(), windows.rate_hz)


def facts(
    cfg: DictConfig,
    corpus: build.Corpus,
    windows: Windows,
    learner: Learner,
    model: Model,
    seconds: float,
    cpu_seconds: float,
) -> dict[str, Any]:
    """What was trained on what; for the model card and the report."""
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
        "rows_seen": "all" if cfg.transductive else "training side",
        "encoder": cfg.chosen.encoder,
        "parameters": count_parameters(model.encoder),
        "steps": int(cfg.trainer.max_steps),
        "batch_size": int(cfg.data.batch_size),
        "precision": cfg.trainer.precision,
        "seed": int(cfg.seed),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "audiorep": __version__,
        "torch": str(torch.__version__),
    }


def read_curves(out: Path) -> pd.DataFrame | None:
    """All logged figures by step, over every start of the run; the last word on a step counts."""
    versions = sorted((out / "logs" / "csv").glob("version_*"), key=lambda path: int(path.name.split("_")[1]))
    files = [path / "metrics.csv" for path in versions]
    parts = [pd.read_csv(path) for path in files if path.exists() and path.stat().st_size]
    if not parts:
        return None
    return pd.concat(parts).drop_duplicates("step", keep="last").sort_values("step").reset_index(drop=True)
