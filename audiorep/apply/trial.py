"""How much worse a smaller model is than the one it was made of, how much smaller, and how much faster."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from jaxtyping import Bool, Float

from audiorep.apply.detect import Reporting, reporting_of
from audiorep.evaluate.calibrate import probabilities
from audiorep.evaluate.metrics import Predictions, balanced_accuracy, cmap
from audiorep.model import Model, ModelInfo, at_once
from audiorep.onnx_model import session

TIMED = 15
"""Windows that each model is timed with, one by one."""

SHIFTS, GAINS = (0.0, 0.25, 0.5, 0.75), (1.0, 0.1, 0.01)
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Trial:
    """Sounds to try variants on.

    heard: what they are, in words. judged: [n t] windows. calibration: [m t] others, for what has to be calibrated.
    truth: [n] class numbers of the model, -1 unknown; or [n c] of 1 present, 0 absent, NaN unknown; None: no labels.
    """

    heard: str
    judged: Float[np.ndarray, "n t"]
    calibration: Float[np.ndarray, "m t"]
    truth: np.ndarray | None = None


@dataclass(frozen=True)
class Naming:
    """How a model's logits become names: thresholds [c] on probabilities where several classes may sound at once."""

    framewise: bool
    several: bool
    temperature: float
    thresholds: Float[np.ndarray, " c"]

    def named(self, logits: Float[np.ndarray, "*n c"]) -> Bool[np.ndarray, "m c"]:
        """Which classes are named in each window or frame: the likeliest, or all that reach their threshold."""
        flat = logits.reshape(-1, logits.shape[-1])
        if not self.several:
            return np.asarray(np.arange(flat.shape[1]) == flat.argmax(1)[:, None])
        return np.asarray(probabilities(flat, self.temperature, True) >= self.thresholds)

    def agreement(self, a: np.ndarray, b: np.ndarray) -> float:
        """Part of the windows that both name alike; where several classes may sound, of what either names the part that both
        name."""
        ours, theirs = self.named(a), self.named(b)
        both, either = int((ours & theirs).sum()), int((ours | theirs).sum())
        if not self.several:
            return both / len(a)
        return both / either if either else 1.0


def trial_of_golden(wave: Float[np.ndarray, " t"]) -> Trial:
    """A clip shifted around its end, made fainter, and reversed: enough to find what is broken, too little to judge by."""
    turned = [np.roll(way, round(shift * len(wave))) for way in (wave, wave[::-1]) for shift in SHIFTS]
    judged = np.stack([gain * turn for turn in turned for gain in GAINS]).astype(np.float32)
    return Trial(f"{len(judged)} versions of the golden clip: shifted, fainter, reversed", judged, judged[:0])


def naming_of(model: Model, info: ModelInfo, thresholds: Mapping[str, Any] | None) -> Naming | None:
    """By the content of a ``thresholds.json``, .5 where a class has no threshold; None: the model names nothing."""
    if model.classifier is None:
        return None
    reporting = Reporting({}) if thresholds is None else reporting_of(thresholds)
    at = [reporting.thresholds.get(name, 0.5) for name in info.classes]
    several = model.framewise or bool(info.training.get("multilabel"))
    return Naming(model.framewise, several, reporting.temperature, np.array(at))


def run(opened: onnxruntime.InferenceSession, waves: np.ndarray) -> list[np.ndarray]:
    """Outputs of a model on windows [n t], some at a time."""
    size = at_once(CPU, waves.shape[1], len(waves))
    said = [opened.run(None, {"waveform": waves[first : first + size]}) for first in range(0, len(waves), size)]
    return [np.concatenate(column) for column in zip(*said, strict=True)]


def tried(path: Path, original: Path, trial: Trial, naming: Naming | None) -> dict[str, float]:
    """What `path` gives beside `original`, which may be the same file.

    cosine: mean over windows of the cosine similarity of its embeddings to the original's. neighbour: part of the windows
    whose nearest other window is the same. agreement: see `Naming`. balanced_accuracy, or cmap where a row has several
    labels: on the labelled windows; of frames the one in the middle of the window counts. bytes: of the file. ms: of one
    window on one thread (median). speed: how many times as fast.
    """
    ours, theirs = session(path, 1), session(original, 1)
    found, wanted = run(ours, trial.judged), run(theirs, trial.judged)
    ms, theirs_ms = clocked([ours, theirs], trial.judged)
    figures: dict[str, float] = {
        "bytes": path.stat().st_size,
        "ms": ms,
        "speed": theirs_ms / ms,
        "cosine": float(cosines(found[0], wanted[0]).mean()),
        "neighbour": float((neighbours(found[0]) == neighbours(wanted[0])).mean()),
    }
    if naming is not None:
        figures["agreement"] = naming.agreement(found[1], wanted[1])
        figures |= score(found[1], trial.truth, naming)
    return figures


def score(logits: np.ndarray, truth: np.ndarray | None, naming: Naming) -> dict[str, float]:
    """Balanced accuracy, or cmap where a row has several labels; nothing where nothing is known."""
    if truth is None:
        return {}
    if naming.framewise:
        logits = logits[:, logits.shape[1] // 2]
    name, metric = ("cmap", cmap) if truth.ndim == 2 else ("balanced_accuracy", balanced_accuracy)
    known = ~np.isnan(truth).all(1) if truth.ndim == 2 else truth >= 0
    if not known.any():
        return {}
    said = Predictions(truth[known], logits[known].astype(float), np.arange(int(known.sum())))
    value = float(metric(said, np.ones((1, int(known.sum()))))[0])
    return {name: value} if np.isfinite(value) else {}


def cosines(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
    """Cosine similarity row by row; NaN where a number is."""
    a, b = a.astype(float), b.astype(float)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(1) / np.maximum(lengths, 1e-30))


def neighbours(x: Float[np.ndarray, "n d"]) -> np.ndarray:
    """[n] which other row has the highest cosine similarity."""
    unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-30)
    near = unit @ unit.T
    np.fill_diagonal(near, -np.inf)
    return np.asarray(near.argmax(1))


def clocked(sessions: Sequence[onnxruntime.InferenceSession], waves: np.ndarray) -> list[float]:
    """Median milliseconds of each for one window; they take turns, so that what else the machine does hits all alike."""
    spent = []
    for i in range(TIMED):
        wave, turn = waves[i % len(waves)][None], []
        for opened in sessions:
            began = time.perf_counter()
            opened.run(None, {"waveform": wave})
            turn.append(1000.0 * (time.perf_counter() - began))
        spent.append(turn)
    return [float(ms) for ms in np.median(spent, axis=0)]
