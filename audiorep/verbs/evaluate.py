"""audiorep evaluate: score an encoder on a corpus, always beside mel statistics and an untrained encoder."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.table import Table

from audiorep import build
from audiorep.console import console, progress_bar
from audiorep.data.loader import fixed_batches, to_device
from audiorep.data.windows import Windows
from audiorep.errors import AudiorepError
from audiorep.evaluate.embedding import embed_rows, extract_with
from audiorep.evaluate.protocol import evaluate as run_protocols
from audiorep.evaluate.report import Picture, Report, write_report
from audiorep.files import output_folder, write_json, write_text
from audiorep.model import Model, ModelInfo, load_model
from audiorep.types import generator
from audiorep.views import Views

log = logging.getLogger(__name__)

SHOWN = (
    "knn/accuracy",
    "knn/balanced_accuracy",
    "knn/cmap",
    "linear@1/balanced_accuracy",
    "linear@5/balanced_accuracy",
    "linear/balanced_accuracy",
    "linear/macro_f1",
    "linear/cmap",
    "rankme",
    "embedding_std",
)
"""What a person sees; `metrics.json` holds all."""


def evaluate(cfg: DictConfig) -> dict[str, float]:
    """Evaluate a saved model; leaves `metrics.json` and `report.html` in `out`."""
    out = output_folder(cfg.out, overwrite=cfg.overwrite)
    model, info, parts = load_model(cfg.model)
    with open_dict(cfg):
        cfg.frontend, cfg.compress, cfg.encoder = (
            OmegaConf.create(parts[n]) for n in ("frontend", "compress", "encoder")
        )
        cfg.window.length_s = info.window_s if cfg.window.length_s == "auto" else cfg.window.length_s
        cfg.window.outside = info.outside if cfg.window.outside == "auto" else cfg.window.outside
    corpus = build.open_corpus(cfg, out)
    write_text(out / "config.yaml", OmegaConf.to_yaml(cfg))
    return report_and_score(cfg, corpus, model, info, out, corpus.notes)


def report_and_score(
    cfg: DictConfig,
    corpus: build.Corpus,
    model: Model,
    info: ModelInfo,
    out: Path,
    notes: list[str],
    views: Views | None = None,
    curves: pd.DataFrame | None = None,
) -> dict[str, float]:
    """Embed every row, run the protocols where there are labels, write `metrics.json` and `report.html`, show a table."""
    windows = build.make_windows(cfg, corpus)
    device = build.device_of(cfg.trainer.accelerator)
    untrained = build.make_model(cfg, cfg.seed).eval()
    models = {"": model.eval().to(device), "random": untrained.to(device)}
    with progress_bar("embedding") as progress:
        embedded = embed_rows(windows, extract_with(models), cfg.data.batch_size, device, progress=progress)
    model.cpu()
    metrics: dict[str, float] = {}
    if corpus.labelled.sum() and corpus.classes:
        try:
            sides, more = corpus.sides()
            notes = [*notes, *more]
            for note in more:
                log.warning("%s", note)
            protocols = instantiate(cfg.evaluation.protocols)
            chosen = {name: choose(protocols, name) for name in cfg.evaluation.protocol}
            metrics = run_protocols(embedded.values, sides, instantiate(cfg.evaluation.settings), chosen)
        except AudiorepError as error:
            notes = [*notes, f"not evaluated: {error}"]
            log.warning("not evaluated: %s", error)
    else:
        notes = [*notes, "no labels: the encoder is trained but not evaluated"]
    write_json(out / "metrics.json", metrics)
    report = make_report(cfg, corpus, info, windows, model, views, embedded.values[""], metrics, notes, curves, out)
    write_report(report, out / "report.html")
    if metrics:
        show(metrics)
    log.info("wrote %s", out / "report.html")
    return metrics


def choose(protocols: Mapping[str, Any], name: str) -> Any:
    """The protocol of that name."""
    if name not in protocols:
        raise AudiorepError(f"evaluation.protocol={name} is not known; there are: {', '.join(protocols)}")
    return protocols[name]


def show(metrics: Mapping[str, float]) -> None:
    """The scores as a table on the terminal."""
    table = Table("metric", "encoder", "mel", "random", title="test side, 95 % bootstrap interval by group")
    for name in [name for name in SHOWN if name in metrics]:
        table.add_row(name, *(cell(metrics, prefix + name) for prefix in ("", "mel/", "random/")))
    console.print(table)


def shown_only(metrics: Mapping[str, float]) -> dict[str, float]:
    """The scores of `SHOWN`, with baselines and intervals."""
    names = {
        prefix + name + end for name in SHOWN for prefix in ("", "mel/", "random/") for end in ("", "/low", "/high")
    }
    return {name: value for name, value in metrics.items() if name in names}


def cell(metrics: Mapping[str, float], name: str) -> str:
    """A score with its interval."""
    if f"{name}/low" not in metrics:
        return f"{metrics[name]:.3g}" if name in metrics else ""
    return f"{metrics[name]:.3f} [dim]{metrics[f'{name}/low']:.3f}-{metrics[f'{name}/high']:.3f}[/dim]"


def make_report(
    cfg: DictConfig,
    corpus: build.Corpus,
    info: ModelInfo,
    windows: Windows,
    model: Model,
    views: Views | None,
    embedding: np.ndarray,
    metrics: Mapping[str, float],
    notes: list[str],
    curves: pd.DataFrame | None,
    out: Path,
) -> Report:
    """Gather what `report.html` shows."""
    frame = corpus.manifest.frame
    rng = np.random.default_rng(cfg.seed)
    shown = rng.permutation(len(frame))[:12]
    labelled = np.flatnonzero(corpus.labelled)
    if len(labelled):  # a call of each class first, then others
        order = rng.permutation(labelled)
        _, first = np.unique(frame["label"].to_numpy(dtype=str)[order], return_index=True)
        shown = np.concatenate([order[first], np.delete(order, first), shown])[:12]
    items = [(int(row), 0, 1, -1) for row in shown]
    raw = next(iter(fixed_batches(windows, len(items), items=items)))
    batch = to_device(raw, torch.device("cpu"))
    with torch.inference_mode():
        clean = model.spectrogram(batch["wave"])
        augmented = views(batch["wave"], generator(cfg.seed, 1))["global"] if views is not None else []
    names = [frame["label"].iloc[int(row)] or "unlabelled" for row in batch["index"]]
    band_hz = model.frontend.band_hz

    def picture(spec: torch.Tensor, title: str) -> Picture:
        return Picture(spec[0].float().numpy(), title, cfg.window.length_s, float(band_hz[0]), float(band_hz[-1]))

    kept = rng.permutation(len(frame))[:3000]
    return Report(
        title=f"{info.training.get('objective', 'encoder')} on {Path(str(cfg.corpus)).parent.name or cfg.corpus}",
        facts={name.replace("_", " "): show_fact(value) for name, value in info.training.items()},
        warnings=notes,
        windows=[picture(spec, name) for spec, name in zip(clean, names, strict=True)],
        views=[
            [picture(clean[i], names[i]), *(picture(view[i], f"view {v}") for v, view in enumerate(augmented, 1))]
            for i in range(min(4, len(clean)))
        ]
        if augmented
        else [],
        curves=curves,
        embedding=embedding[kept],
        label=frame["label"].iloc[kept].tolist(),
        group=frame["group"].iloc[kept].map(lambda group: Path(group).name).tolist(),
        metrics=shown_only(metrics),
        next_steps=[
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
        ],
    )


def show_fact(value: Any) -> str:
    """A fact as text."""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
