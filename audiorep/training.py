"""One training stage, whatever the verb: from config, model and windows to a trained objective."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import torch
from hydra.utils import instantiate
from lightning.fabric.plugins.environments import LightningEnvironment
from omegaconf import DictConfig, OmegaConf
from torch import nn

from audiorep import build, types
from audiorep.checkpoint import Checkpoint
from audiorep.data.audio import write_wav
from audiorep.data.loader import StepSampler, decoded_waves, fixed_batches, to_device, train_loader
from audiorep.data.manifest import Quarantined, write_quarantine
from audiorep.data.sampler import count_shared, label_codes
from audiorep.data.windows import Windows
from audiorep.data.words import count_texts
from audiorep.distributed import rank, world
from audiorep.encoders.base import Encoder
from audiorep.errors import AudiorepError, Interrupted
from audiorep.evaluate.embedding import embed_rows, extract_with
from audiorep.files import write_text
from audiorep.learner import Learner
from audiorep.losses.answers import truth_of
from audiorep.model import Model, count_parameters
from audiorep.objectives.base import Setting
from audiorep.pace import Way, fastest
from audiorep.sharding import unshard
from audiorep.training_bar import TrainingBar
from audiorep.types import Batch, generator
from audiorep.views import Views

log = logging.getLogger(__name__)

SETTING_KEYS = (
    "seed", "corpus", "transductive", "window", "split", "labels", "data", "frontend", "compress", "views", "encoder",
    "objective", "optimizer", "trainer", "init", "transfer", "labels_per_class", "label_fraction", "labels_seed",
    "calibration", "resampler",
)  # fmt: skip
"""What must be the same on resume, because the next step depends on it."""

OPEN = ("auto", "probe")
"""Precisions that are chosen when training starts."""

NOT_SETTING = ("devices", "nodes", "strategy", "checkpoint_every_s", "workers", "cache_mb", "store", "log_every",
               "health_every")  # fmt: skip
"""Keys inside those that the next step does not depend on."""

SHARDED = {"auto": False, "ddp": False, "fsdp": True}
"""Strategies of several processes, and whether each process keeps only a part of the weights."""

LEFT_BEHIND = ("last.ckpt", "logs", "quarantine.csv", "metrics.json", "report.html", "config.yaml", "golden.wav",
               "config.json", "model.safetensors", "predictions.npz", "thresholds.json")  # fmt: skip
"""What an earlier run left in `out`: removed by overwrite=true."""


class Failures:
    """Rows that could not be decoded while training: each file is named once, and written to ``out/quarantine.csv``.

    Of several processes the first writes; it is told of the others' rows.
    """

    def __init__(self, windows: Windows, quarantined: tuple[Quarantined, ...], out: Path) -> None:
        self.windows, self.quarantined, self.out = windows, quarantined, out
        self.found: dict[str, Quarantined] = {}

    def __call__(self, row: int, reason: str) -> None:
        path = str(self.windows.paths[self.windows.path_of[row]])
        if path not in self.found:
            self.found[path] = Quarantined(path, None, reason.removeprefix(f"{path}: "))
            log.warning("left out: %s", reason)
            if not rank():
                write_quarantine([*self.quarantined, *self.found.values()], self.out / "quarantine.csv")

    @property
    def notes(self) -> list[str]:
        return [f"left out while training: {q.path}: {q.reason}" for q in self.found.values()]


def settle_pace(cfg: DictConfig, out: Path, model: Model, windows: Windows) -> None:
    """Choose precision and memory layout; what was chosen at the start holds for the whole run.

    Raises:
        AudiorepError: a precision that is not supported; trying it out in several processes.
    """
    path = out / "config.yaml"
    if cfg.trainer.precision in OPEN and cfg.resume and path.exists():
        stored = OmegaConf.load(path).trainer
        cfg.trainer.precision, cfg.trainer.channels_last = stored.precision, stored.channels_last
    trying = cfg.trainer.precision == "probe"
    cfg.trainer.precision = build.choose_precision("auto" if trying else str(cfg.trainer.precision))
    if not trying:
        return
    if world() > 1:
        raise AudiorepError("trainer.precision=probe: several processes would choose for themselves; try it out in one")
    shape = model.spectrogram(torch.zeros(1, windows.length)).shape
    usual = Way(cfg.trainer.precision, bool(cfg.trainer.channels_last))
    device = build.device_of(cfg.trainer.accelerator)
    way, took = fastest(model.encoder, (cfg.data.batch_size, *shape[1:]), device, usual)
    cfg.trainer.precision, cfg.trainer.channels_last = way
    log.info("trains with %s; a step of a few windows took %s", way, ", ".join(f"{took[w]:.3g} s ({w})" for w in took))


def keep_config(cfg: DictConfig, out: Path) -> None:
    """Write ``out/config.yaml``, of several processes by the first."""
    if not rank():
        write_text(out / "config.yaml", OmegaConf.to_yaml(cfg))


def fill_backgrounds(
    cfg: DictConfig, corpus: build.Corpus, learner: Learner, windows: Windows, rows: np.ndarray | None
) -> None:
    """Give background sounds to the augmentations that want some."""
    wanting = [augment for augment in learner.views.augments if augment.wants_background]
    if wanting:
        bank = build.background_bank(cfg, corpus, windows, rows)
        for augment in wanting:
            augment.fill(bank)


def say_what(cfg: DictConfig, learner: Learner, model: Model, windows: Windows) -> None:
    """Log what is about to be trained on what."""
    log.info(
        "%d windows of %g s from %d rows, %s with %.2f million parameters, %s",
        learner.sampler.drawing.units,
        cfg.window.length_s,
        len(windows),
        type(model.encoder).__name__,
        count_parameters(model.encoder) / 1e6,
        cfg.trainer.precision,
    )


def make_learner(
    cfg: DictConfig,
    model: Model,
    windows: Windows,
    out: Path | None,
    on_failed: Any = None,
    rates: Callable[[Encoder], Mapping[nn.Parameter, float]] | None = None,
    **facts: Any,
) -> Learner:
    """Objective, views and learner of the config around a model.

    Args:
        rates: the learning rates of an encoder's parameters, as factors; asked for every encoder that is trained.
        facts: what the `Setting` of the objective shall say besides what the windows tell: `vocabulary` ...
    """
    with build.seeded(cfg.seed + 1), build.plain_errors():
        objective = instantiate(cfg.objective, encoder=model.encoder)
        views = instantiate(cfg.views, frontend=model.frontend, compress=model.compress)
        for frontend, compress in views.own():
            build.fit_compression(frontend, compress, windows, cfg.seed)
        optimizer = instantiate(cfg.optimizer, _partial_=True)
        drawing = instantiate(cfg.data.sampler, windows=windows)
        sampler = StepSampler(drawing, cfg.data.batch_size // world(), cfg.trainer.max_steps, cfg.seed, rank(), world())
        objective.prepare(
            told(windows, views, sampler, **{"compress": model.compress, "rate_hz": windows.rate_hz, **facts})
        )
    resolved: Any = OmegaConf.to_container(cfg, resolve=True)
    setting = {"rows": str(len(windows))} | flat({name: resolved[name] for name in SETTING_KEYS if name in resolved})
    encoders = [part for part in objective.modules() if isinstance(part, Encoder)] if rates else []
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
        compiler=cfg.trainer.compile,
        accumulate=cfg.trainer.accumulate,
        on_failed=on_failed or (lambda row, reason: None),
        embed=lambda: embed_training_side(model, windows, cfg.data.batch_size),
        sharded=strategy(cfg),
        rates={parameter: rate for encoder in encoders for parameter, rate in rates(encoder).items()}
        if rates
        else None,
    )


def told(windows: Windows, views: Views, sampler: StepSampler, vocabulary: int = 0, **facts: Any) -> Setting:
    """What an objective is told of the training side."""
    codes, several = label_codes(windows.label), windows.label.ndim == 2
    outputs = windows.label.shape[1] if several else int(windows.label.max(initial=-1)) + 1
    target, known = truth_of(torch.from_numpy(windows.label), max(1, outputs))
    return Setting(
        rows=len(windows),
        slots=int(windows.slots[-1]),
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
        outputs=outputs,
        absences=not several or bool((windows.label == 0).any()),
        counts=(target * known[:, :, None]).sum(0).long().tolist(),
        **facts,
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


def fit(
    cfg: DictConfig,
    learner: Learner,
    windows: Windows,
    only: int | None = None,
    callbacks: Sequence[L.Callback] | None = None,
) -> None:
    """Run the training steps through Lightning's Trainer.

    Args:
        only: stop after so many steps of the first epoch.
        callbacks: instead of the progress bar.
    """
    epoch = learner.sampler.steps_per_epoch
    check_world(cfg)
    loggers = [] if rank() else [instantiate(logger) for logger in (cfg.logger or {}).values()]
    bar: list[L.Callback] = [] if rank() else [TrainingBar()]
    trainer = L.Trainer(
        max_epochs=1 if only else max(1, -(-cfg.trainer.max_steps // epoch) - learner.step // epoch),
        limit_train_batches=only or 1.0,
        accelerator=cfg.trainer.accelerator,
        devices=1 if world() == 1 else own_device(cfg),
        plugins=[] if world() == 1 else [LightningEnvironment()],  # not torchrun's: each sees its own device alone
        precision=cfg.trainer.precision,
        logger=loggers,
        callbacks=bar if callbacks is None else list(callbacks),
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
            if not learner.sharded:  # the parts of others would be needed, and these may have ended
                learner.save()
            raise Interrupted(f"interrupted at step {learner.step}; go on with resume=true out={cfg.out}") from None
    unshard(learner.objective)
    learner.eval().cpu()


def strategy(cfg: DictConfig) -> bool:
    """Whether each process keeps only a part of the weights, by the name of the strategy."""
    name = cfg.trainer.strategy
    if name not in SHARDED:
        raise AudiorepError(f"trainer.strategy={name} does not exist; there are: {', '.join(SHARDED)}")
    return SHARDED[name]


def check_world(cfg: DictConfig) -> None:
    """Refuse several processes where the command starts one."""
    if cfg.trainer.devices * cfg.trainer.nodes != world():
        raise AudiorepError(
            f"trainer.devices={cfg.trainer.devices} trainer.nodes={cfg.trainer.nodes}: several processes train in audiorep "
            "pretrain and train, and in the stages of audiorep run; nowhere else"
        )


def own_device(cfg: DictConfig) -> Any:
    """Lightning's `devices` for this one of several processes."""
    return [torch.cuda.current_device()] if build.device_of(cfg.trainer.accelerator).type == "cuda" else 1


def keep_golden(windows: Windows, out: Path, seed: int) -> None:
    """Keep the loudest of a few windows as `golden.wav`, for the export to carry along."""
    items = windows.fixed_items()
    order = np.random.default_rng([seed, 5]).permutation(len(items))
    wave = next(decoded_waves(windows, items[order], 16))["wave"]
    loudest = wave[wave.square().mean(1).argmax()]
    write_wav(out / "golden.wav", loudest.numpy(), windows.rate_hz)


def read_curves(out: Path) -> pd.DataFrame | None:
    """All logged figures by step, over every start of the run; the last word on a step counts."""
    versions = sorted((out / "logs" / "csv").glob("version_*"), key=lambda path: int(path.name.split("_")[1]))
    files = [path / "metrics.csv" for path in versions]
    parts = [pd.read_csv(path) for path in files if path.exists() and path.stat().st_size]
    if not parts:
        return None
    return pd.concat(parts).drop_duplicates("step", keep="last").sort_values("step").reset_index(drop=True)
