"""What a person sees of a run: which of its scores, how they are written, and what `report.html` shows of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from omegaconf import DictConfig

from audiorep import build
from audiorep.data.items import one_each
from audiorep.data.loader import decoded_waves
from audiorep.data.windows import Windows
from audiorep.evaluate.embedding import Embedded
from audiorep.evaluate.report import Picture, Report
from audiorep.evaluate.results import Results
from audiorep.model import Model, ModelInfo
from audiorep.types import generator
from audiorep.views import Views

SHOWN = (
    "knn/accuracy",
    "knn/balanced_accuracy",
    "knn/cmap",
    "linear@1/balanced_accuracy",
    "linear@5/balanced_accuracy",
    "linear/accuracy",
    "linear/balanced_accuracy",
    "linear/macro_f1",
    "linear/cmap",
    "attentive/accuracy",
    "attentive/balanced_accuracy",
    "attentive/cmap",
    "prototypical/accuracy",
    "prototypical/balanced_accuracy",
    "prototypical/cmap",
    "test/accuracy",
    "test/balanced_accuracy",
    "test/macro_f1",
    "test/cmap",
    "test/auroc",
    "rankme",
    "embedding_std",
)
"""What a person sees, besides the few-shot scores, whose names depend on settings; `metrics.json` holds all."""


def shown_names(metrics: Mapping[str, float]) -> list[str]:
    """The scores that a person sees, without baselines and intervals."""
    few = (name for name in metrics if name.startswith("fewshot@") and not name.endswith(("/low", "/high")))
    return [*(name for name in SHOWN if name in metrics), *few]


def shown_only(metrics: Mapping[str, float]) -> dict[str, float]:
    """The scores of `shown_names`, with baselines and intervals, and the shortcuts."""
    names = {
        prefix + name + end
        for name in shown_names(metrics)
        for prefix in ("", "mel/", "random/")
        for end in ("", "/low", "/high")
    }
    kept = ("shortcut/", "held_out/")
    return {name: v for name, v in metrics.items() if name in names or any(part in name for part in kept)}


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
    embedded: Embedded,
    metrics: Mapping[str, float],
    notes: list[str],
    curves: pd.DataFrame | None,
    next_steps: list[tuple[str, str]],
    classifier: Results | None = None,
) -> Report:
    """Gather what `report.html` shows."""
    frame = corpus.manifest.frame
    rng = np.random.default_rng(cfg.seed)
    shown = rng.permutation(np.flatnonzero(embedded.known))[:12]
    labelled = np.flatnonzero(corpus.labelled & embedded.known)
    if len(labelled):  # a call of each class first, then others
        order = rng.permutation(labelled)
        _, first = np.unique(frame["label"].to_numpy(dtype=str)[order], return_index=True)
        shown = np.concatenate([order[first], np.delete(order, first), shown])[:12]
    batch = next(decoded_waves(windows, one_each(shown)))
    with torch.inference_mode():
        clean = model.frontend.picture(model.spectrogram(batch["wave"]))
        kinds = views(batch["wave"], generator(cfg.seed, 1)) if views is not None else {}
        made = kinds.get("global", [view for of_kind in kinds.values() for view in of_kind])
        augmented = [model.frontend.picture(view) for view in made]
    names = [frame["label"].iloc[int(row)] or "unlabelled" for row in batch["index"]]
    band_hz = model.frontend.shown.band_hz

    def picture(spec: torch.Tensor, title: str) -> Picture:
        return Picture(spec[0].float().numpy(), title, cfg.window.length_s, float(band_hz[0]), float(band_hz[-1]))

    kept = rng.permutation(np.flatnonzero(embedded.known))[:3000]
    return Report(
        title=f"{info.training.get('objective', 'encoder')} on {Path(str(cfg.corpus)).parent.name or cfg.corpus}",
        facts={n.replace("_", " "): show_fact(v) for n, v in info.training.items() if n != "split_settings"},
        warnings=notes,
        windows=[picture(spec, name) for spec, name in zip(clean, names, strict=True)],
        views=[
            [picture(clean[i], names[i]), *(picture(view[i], f"view {v}") for v, view in enumerate(augmented, 1))]
            for i in range(min(4, len(clean)))
        ]
        if augmented
        else [],
        curves=curves,
        embedding=embedded.values[""][kept],
        label=frame["label"].iloc[kept].tolist(),
        group=frame["group"].iloc[kept].map(lambda group: Path(group).name).tolist(),
        metrics=shown_only(metrics),
        next_steps=next_steps,
        classifier=classifier,
    )


def show_fact(value: Any) -> str:
    """A fact as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
