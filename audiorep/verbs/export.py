"""audiorep export: one folder to share."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from audiorep.apply.export import export as write_bundle
from audiorep.data.audio import probe, read_resampled, to_float
from audiorep.errors import AudiorepError
from audiorep.files import output_folder, remove, write_bytes
from audiorep.model import load_model

log = logging.getLogger(__name__)

THRESHOLDS = "thresholds.json"


def export(cfg: DictConfig) -> None:
    """Write the bundle of a model and check it against torch."""
    source = Path(cfg.model)
    if source.is_file():
        raise AudiorepError(
            f"model={source}: is finished, and there is nothing to export: share the file as it is, with its licence and "
            "what lies beside it (.onnx.json, labels)"
        )
    model, info, parts = load_model(source)
    if not model.encoder.exportable:
        raise AudiorepError(
            f"model={source}: {type(model.encoder).__name__} cannot become ONNX, so there is no bundle of it: use the folder "
            "as it is, with audiorep embed and audiorep evaluate"
        )
    out = output_folder(cfg.out, overwrite=cfg.overwrite)
    metrics = source / "metrics.json"
    card = {
        "title": cfg.title or f"{info.training.get('objective', 'Encoder')} encoder",
        "license": licence_of(cfg.license, info.training),
        "dataset": str(info.training.get("corpus", "unknown")),
        "metrics": json.loads(metrics.read_text(encoding="utf-8")) if metrics.exists() else {},
    }
    errors = write_bundle(model, info, parts, golden_clip(cfg.golden, source, info.sample_rate_hz), out, card)
    for length, error in errors.items():
        log.info("ONNX against torch at %s samples: relative error %.1e", length, error)
    if (source / THRESHOLDS).exists():
        write_bytes(out / THRESHOLDS, (source / THRESHOLDS).read_bytes())
    else:
        remove(out, (THRESHOLDS,))
    log.info("wrote the bundle %s", out)


def licence_of(given: str, training: Mapping[str, Any]) -> str:
    """The licence for the card: the given one; where that is unknown, the one that the model or its teacher came with."""
    inherited = training.get("licence") or training.get("teacher_licence")
    return str(inherited) if given == "unknown" and inherited else given


def golden_clip(golden: str | None, source: Path, rate_hz: int) -> np.ndarray:
    """The clip that travels with the bundle: `golden=FILE`, or the one that pretrain kept."""
    path = Path(golden) if golden else source / "golden.wav"
    if not path.exists():
        raise AudiorepError(f"golden={path}: no such file; name a short recording with golden=FILE")
    info = probe(path)
    count = min(info.frames * rate_hz // info.rate_hz, 10 * rate_hz)
    return to_float(read_resampled(path, info.rate_hz, 0, count, rate_hz))
