"""audiorep export: one folder to share."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from audiorep import build
from audiorep.apply.export import THRESHOLDS, TRIED
from audiorep.apply.export import export as write_bundle
from audiorep.apply.trial import Trial
from audiorep.apply.variants import LEAST, VARIANTS
from audiorep.composing import compose
from audiorep.data.audio import probe, read_resampled, to_float
from audiorep.data.labels import encode
from audiorep.data.loader import decoded_waves
from audiorep.errors import AudiorepError
from audiorep.evaluate.results import read_thresholds
from audiorep.files import output_folder, read_json
from audiorep.model import ModelInfo, load_model
from audiorep.overrides import quoted
from audiorep.rehearsal import spread

log = logging.getLogger(__name__)

JUDGED, CALIBRATED, MOST_SAMPLES = 512, 128, 2**26
"""Windows of a corpus that variants are judged on and calibrated with, and samples that are held at once, at most."""

JUDGED_BY = ("agreement", "balanced_accuracy", "cmap")


def export(cfg: DictConfig) -> None:
    """Leaves the bundle in `out`: weights, ONNX, program, labels, thresholds, golden clip, card; checked against torch."""
    source = Path(cfg.model)
    if source.is_file():
        raise AudiorepError(
            f"model={source}: is finished, and there is nothing to export: share the file as it is, with its licence and "
            "what lies beside it (.onnx.json, labels)"
        )
    variants = variants_of(cfg)
    model, info, parts = load_model(source)
    if not model.encoder.exportable:
        raise AudiorepError(
            f"model={source}: {type(model.encoder).__name__} cannot become ONNX, so there is no bundle of it: use the folder "
            "as it is, with audiorep embed and audiorep evaluate"
        )
    golden = golden_clip(cfg.golden, source, info.sample_rate_hz)
    trial = None if cfg.corpus is None else trial_of_corpus(cfg, info, model.framewise)
    metrics, thresholds = source / "metrics.json", source / THRESHOLDS
    card = {
        "title": cfg.title or f"{info.training.get('objective', 'Encoder')} encoder",
        "license": licence_of(cfg.license, info.training),
        "dataset": str(info.training.get("corpus", "unknown")),
        "metrics": json.loads(metrics.read_text(encoding="utf-8")) if metrics.exists() else {},
    }
    out = output_folder(cfg.out, overwrite=cfg.overwrite)
    errors = write_bundle(
        model,
        info,
        parts,
        golden,
        out,
        card,
        thresholds=read_thresholds(thresholds) if info.classes and thresholds.exists() else None,
        variants=variants,
        trial=trial,
        least_cosine=cfg.least_cosine,
    )
    for length, error in errors.items():
        log.info("ONNX and program against torch at %s samples: relative error %.1e", length, error)
    for name, found in (read_json(out / TRIED)["models"] if variants else {}).items():
        log.info(
            "%s: %.3g MB, %.2f times as fast as float32, cosine similarity %.4f%s",
            name, found["bytes"] / 1e6, found["speed"], found["cosine"],
            "".join(f", {what.replace('_', ' ')} {found[what]:.3f}" for what in JUDGED_BY if what in found),
        )  # fmt: skip
    log.info("wrote the bundle %s", out)


def variants_of(cfg: DictConfig) -> list[str]:
    """The variants that are asked for, each once.

    Raises:
        AudiorepError: one that there is not, or int8 without a corpus to calibrate on.
    """
    given = [cfg.variants] if isinstance(cfg.variants, str) else list(cfg.variants or [])
    names = list(dict.fromkeys(str(name) for name in given))
    if unknown := [name for name in names if name not in VARIANTS]:
        raise AudiorepError(f"variants={unknown[0]}: there are {', '.join(VARIANTS)}")
    if "int8" in names and cfg.corpus is None:
        raise AudiorepError(
            f"variants=int8 takes the ranges of its numbers from sounds: name a corpus of {LEAST} windows or more in corpus="
        )
    if cfg.corpus is not None and not names:
        raise AudiorepError("corpus= is what variants are tried on: say variants=[fp16,int8] too, or leave corpus= out")
    return names


def trial_of_corpus(cfg: DictConfig, info: ModelInfo, framewise: bool) -> Trial:
    """Windows of the test side to judge by and others of the training side to calibrate with, by the model's own split;
    where nothing is held out, every other window.

    Raises:
        AudiorepError: a corpus that cannot be read, or of which nothing can be decoded.
    """
    keys = [quoted(f"{name}={cfg[name]}") for name in ("model", "corpus", "annotations") if cfg[name] is not None]
    several = bool(info.training.get("multilabel")) and not framewise
    settings = compose("evaluate", [*keys, f"labels.multilabel={str(several).lower()}"])
    build.open_model(settings)
    corpus = build.open_corpus(settings, must_split=False)
    held_out = len(corpus.split.test) > 0 and len(corpus.split.train) > 0
    rows = (corpus.split.train, corpus.split.test) if held_out else (np.arange(len(corpus.manifest)),) * 2
    (calibration, _), (judged, row) = (
        some(settings, corpus, side, most, None if held_out else turn)
        for turn, (side, most) in enumerate(zip(rows, (CALIBRATED, JUDGED), strict=True))
    )
    truth = encode(corpus.manifest.frame["label"].tolist(), info.classes, several)[row]
    heard = f"{'the test side' if held_out else 'every other window'} of {Path(str(cfg.corpus)).name}"
    return Trial(heard, judged, calibration, truth if info.classes else None)


def some(
    settings: DictConfig, corpus: build.Corpus, rows: np.ndarray, most: int, turn: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Up to `most` windows [n t] from all over some rows of a corpus, and the row of each; by turns where `turn` is 0 or 1.

    Raises:
        AudiorepError: there is none, or not one can be decoded.
    """
    windows = build.make_windows(settings, corpus, rows)
    items = windows.fixed_items()[slice(turn, None, None if turn is None else 2)]
    if not len(items):
        raise AudiorepError(f"corpus={settings.corpus}: has too few windows to try variants on")
    chosen = spread(range(len(items)), max(1, min(most, MOST_SAMPLES // windows.length)))
    found = list(decoded_waves(windows, items[chosen]))
    return np.concatenate([b["wave"].numpy() for b in found]), rows[np.concatenate([b["index"].numpy() for b in found])]


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
