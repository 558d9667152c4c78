"""audiorep evaluate: score an encoder on a corpus, always beside mel statistics and an untrained encoder."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.markup import escape
from rich.table import Table

from audiorep import build
from audiorep.batch_size import batch_size
from audiorep.console import console, progress_bar
from audiorep.data.windows import Windows
from audiorep.errors import AudiorepError
from audiorep.evaluate.embedding import Embedded, embed_rows, extract_with
from audiorep.evaluate.pieces import undecoded
from audiorep.evaluate.predictions import NAME as PREDICTIONS
from audiorep.evaluate.predictions import write_predictions
from audiorep.evaluate.protocol import Outcome, Sides
from audiorep.evaluate.protocol import evaluate as run_protocols
from audiorep.evaluate.report import write_report
from audiorep.evaluate.shortcut import find_shortcuts, nuisance_columns
from audiorep.evaluate.tokens import Keeping
from audiorep.files import output_folder, remove, write_json, write_text
from audiorep.model import Model, ModelInfo, count_parameters
from audiorep.shown import cell, make_report, shown_names
from audiorep.views import Views

log = logging.getLogger(__name__)

PROTOCOLS, TOKEN_PROTOCOLS, YARDSTICKS = "protocols", "token_protocols", ("mel", "random")


def evaluate(cfg: DictConfig) -> dict[str, float]:
    """Evaluate a saved model; leaves `metrics.json` and `report.html` in `out`."""
    out = output_folder(cfg.out, overwrite=cfg.overwrite)
    model, info = build.open_model(cfg)
    corpus = build.open_corpus(cfg, out)
    corpus.notes.extend(trained_on_test(cfg, corpus, info))
    if info.training.get("labels_used"):
        corpus.notes.append("labels of its training side trained the encoder: see its own report for which")
    write_text(out / "config.yaml", OmegaConf.to_yaml(cfg))
    return report_and_score(cfg, corpus, model, info, out, corpus.notes, asked=True)


def trained_on_test(cfg: DictConfig, corpus: build.Corpus, info: ModelInfo) -> list[str]:
    """What to say of a model that may have seen the test rows of this corpus."""
    if str(cfg.corpus) != info.training.get("corpus"):
        return []
    if info.training.get("rows_seen") == "all":
        return ["the encoder was pretrained on the test rows too (transductive)"]
    if corpus.split.description != info.training.get("split"):
        was = info.training.get("split")
        return [f"the encoder was pretrained with another split of this corpus ({was}): it may have seen the test rows"]
    return []


def report_and_score(
    cfg: DictConfig,
    corpus: build.Corpus,
    model: Model,
    info: ModelInfo,
    out: Path,
    notes: list[str],
    views: Views | None = None,
    curves: pd.DataFrame | None = None,
    task: Mapping[str, float] | None = None,
    asked: bool = False,
) -> dict[str, float]:
    """Embed every row, run the protocols where there are labels, write `metrics.json` and `report.html`, show a table.

    `task` holds figures of the objective's own task on the held-out side, `held_out/...`; they stand with the scores.
    `asked`: scores are what the command is for, not what stands beside a trained encoder.

    Raises:
        AudiorepError: a column of `evaluation.shortcut` is not there; the labels cannot be evaluated, if `asked` (the rest
            of the report is written before).
    """
    check_evaluation(cfg)
    frame = corpus.manifest.frame
    columns = nuisance_columns(frame, cfg.evaluation.shortcut)
    windows = build.make_windows(cfg, corpus)
    embedded = embed(cfg, corpus, model, windows)
    if "random" in cfg.evaluation.beside and not count_parameters(model.encoder):
        notes = [*notes, "the encoder has no weights that could be random: there is no random encoder beside it"]
    if not embedded.known.all():
        notes = [*notes, undecoded(int((~embedded.known).sum()), embedded.failed)]
        log.warning("%s", notes[-1])
    metrics: dict[str, float] = {}
    refused: AudiorepError | None = None
    remove(out, (PREDICTIONS,))
    if has_labels(corpus):
        try:
            sides, more = corpus.sides(embedded.known)
            if embedded.too_large:
                more = [*more, f"{', '.join(chosen(cfg, TOKEN_PROTOCOLS))}: not evaluated: {embedded.too_large}"]
            notes = [*notes, *more]
            for note in more:
                log.warning("%s", note)
            found = score(cfg, embedded, sides)
            metrics = found.scores
            if cfg.evaluation.predictions:
                write_predictions(found.said, sides, out / PREDICTIONS)
        except AudiorepError as error:
            refused = error
            notes = [*notes, f"not evaluated: {error}"]
            if not asked:
                log.warning("not evaluated: %s", error)
    else:
        notes = [*notes, "no labels: the encoder is trained but not evaluated"]
    shortcuts = find_shortcuts(embedded.values, embedded.known, frame, columns, corpus.truth, cfg.seed)
    for warning in shortcuts.warnings:
        log.warning("%s", warning)
    metrics, notes = metrics | shortcuts.metrics | dict(task or {}), [*notes, *shortcuts.warnings]
    metrics = metrics | corpus.split.metrics if metrics else metrics
    write_json(out / "metrics.json", metrics)
    steps = next_steps(cfg, out)
    report = make_report(cfg, corpus, info, windows, model, views, embedded, metrics, notes, curves, steps)
    report = replace(report, shortcut_notes=shortcuts.notes)
    write_report(report, out / "report.html")
    if metrics:
        show(metrics)
    log.info("wrote %s", out / "report.html")
    if asked and refused:
        raise AudiorepError(f"not evaluated: {refused}") from refused
    return metrics


def check_evaluation(cfg: DictConfig) -> None:
    """Refuse what `evaluation` cannot mean.

    Raises:
        AudiorepError: a protocol or a yardstick of that name is not there.
    """
    for key, known in (
        ("protocol", [*cfg.evaluation[PROTOCOLS], *cfg.evaluation[TOKEN_PROTOCOLS]]),
        ("beside", list(YARDSTICKS)),
    ):
        for name in cfg.evaluation[key]:
            if name not in known:
                raise AudiorepError(f"evaluation.{key}={name} is not known; there are: {', '.join(known)}")


def chosen(cfg: DictConfig, kind: str) -> dict[str, Any]:
    """The protocols among `PROTOCOLS` or `TOKEN_PROTOCOLS` that were chosen."""
    return {name: instantiate(part) for name, part in cfg.evaluation[kind].items() if name in cfg.evaluation.protocol}


def has_labels(corpus: build.Corpus) -> bool:
    """Whether there is something to evaluate by."""
    return bool(corpus.labelled.any() and corpus.classes)


def embed(cfg: DictConfig, corpus: build.Corpus, model: Model, windows: Windows) -> Embedded:
    """All rows by the encoder and the yardsticks of `evaluation.beside`; with their tokens where a protocol wants them."""
    device = build.device_of(cfg.trainer.accelerator)
    models = {"": model.eval().to(device)}
    if "random" in cfg.evaluation.beside and count_parameters(model.encoder):
        parts = build.model_parts(cfg)
        bare = OmegaConf.create(parts | {"encoder": model.encoder.standalone(parts["encoder"])})
        models["random"] = build.make_model(bare, cfg.seed).eval().to(device)
    keep, most = None, None
    if chosen(cfg, TOKEN_PROTOCOLS) and has_labels(corpus):
        items = windows.fixed_items()
        keep = Keeping(len(items), cfg.evaluation.tokens.memory_gb * 2**30)
        most = max(1, cfg.evaluation.tokens.per_row // int(items[:, 2].max()))
    with progress_bar("embedding") as progress:
        workers = build.workers_for(cfg, windows)
        extract = extract_with(models, "mel" in cfg.evaluation.beside, most)
        embedded = embed_rows(windows, extract, batch_size(cfg), device, workers, progress, keep)
    model.cpu()
    return embedded


def score(cfg: DictConfig, embedded: Embedded, sides: Sides) -> Outcome:
    """What the chosen protocols say."""
    settings = instantiate(cfg.evaluation.settings)
    found = run_protocols(embedded.values, sides, settings, chosen(cfg, PROTOCOLS))
    return found | run_protocols(embedded.tokens, sides, settings, chosen(cfg, TOKEN_PROTOCOLS))


def show(metrics: Mapping[str, float]) -> None:
    """The scores as a table on the terminal, and one of what should not be told."""
    told = [name for name in metrics if name.startswith("shortcut/") and name.endswith("/balanced_accuracy")]
    task = [name for name in metrics if name.startswith("held_out/")]
    for names, title in (
        (shown_names(metrics), "test side, 95 % bootstrap interval by group"),
        (told, "shortcuts, the lower the better, 95 % bootstrap interval"),
        (task, "the objective's own task on held-out recordings"),
    ):
        beside = [name for name in YARDSTICKS if any(key.startswith(f"{name}/") for key in metrics)]
        table = Table("metric", "encoder", *beside, title=title)
        for name in names:
            table.add_row(escape(name), *(cell(metrics, prefix + name) for prefix in ("", *(f"{n}/" for n in beside))))
        if names:
            console.print(table)


def next_steps(cfg: DictConfig, out: Path) -> list[tuple[str, str]]:
    """What to do with an encoder, as the report says it."""
    return [
        (
            "Use the encoder: write an embedding for every window of your recordings.",
            f"audiorep embed model={out} recordings=FOLDER",
        ),
        (
            "Share it: one folder with weights, ONNX, card and golden clip.",
            f"audiorep export model={out} out=bundle",
        ),
        (
            "Train longer: more steps help as long as the curves still move.",
            f"audiorep pretrain corpus={cfg.corpus} trainer.max_steps=2000",
        ),
    ]
