"""One folder to share: safetensors, waveform-in ONNX, program, card, golden clip; checked against torch before it counts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import soundfile
import torch

from audiorep.apply.card import render_card
from audiorep.apply.facts import facts_of
from audiorep.apply.program import program_parity, write_program
from audiorep.apply.trial import Naming, Trial, naming_of, trial_of_golden, tried
from audiorep.apply.variants import VARIANTS
from audiorep.apply.waveform_onnx import outputs_of, parity, write_onnx
from audiorep.data.audio import write_wav
from audiorep.errors import AudiorepError
from audiorep.files import atomic, remove, write_json, write_text
from audiorep.model import Model, ModelInfo, save_model

TOLERANCE = 1e-4
"""Largest relative error ``|exported - torch| / |torch|`` of the outputs that an export may have."""

ONNX, PROGRAM, THRESHOLDS, LABELS, TRIED = "model.onnx", "model.pt2", "thresholds.json", "labels.txt", "variants.json"

NOT_ALWAYS = (THRESHOLDS, LABELS, TRIED, *(f"model.{name}.onnx" for name in VARIANTS))
"""What a bundle may hold or not."""


def export(
    model: Model,
    info: ModelInfo,
    parts: Mapping[str, Any],
    golden: np.ndarray,
    out: Path,
    card: Mapping[str, Any],
    thresholds: Mapping[str, Any] | None = None,
    variants: Sequence[str] = (),
    trial: Trial | None = None,
    least_cosine: float = 0.95,
) -> dict[str, float]:
    """Write the bundle into the folder `out`, which gets all of it or nothing.

    Args:
        golden: a clip [t] at the model's rate; kept in the bundle with what the model says of it.
        card: what the model card says: license, metrics ...
        thresholds: the content of ``thresholds.json``.
        variants: names in `VARIANTS`. trial: sounds to try them on; None: the golden clip, shifted, fainter, reversed.
        least_cosine: mean cosine similarity to the embeddings of float32 that a variant must reach.

    Returns:
        The largest relative error of ONNX and program against torch at each window length tried, by samples.

    Raises:
        AudiorepError: an error above `TOLERANCE`, a variant that falls short, or a folder that cannot be written to.
    """
    model = model.eval()
    try:
        staging = TemporaryDirectory(prefix=".bundle-", dir=out)
    except OSError as error:
        raise AudiorepError(f"cannot write into out={out}: {error.strerror or error}") from error
    with staging as name:
        folder, window = Path(name), clip(golden, info.window_samples)
        licence = str(card["license"])
        facts = facts_of(model, info, "" if licence == "unknown" else licence, thresholds)
        errors, fixed = write_exported(model, info, golden, folder, facts)
        sounds = trial or trial_of_golden(window)
        found = write_variants(folder, variants, sounds, naming_of(model, info, thresholds), least_cosine)
        save_model(model, parts, info, folder)
        write_golden(model, info, window, folder)
        if info.classes:
            write_text(folder / LABELS, "\n".join(info.classes) + "\n")
        if thresholds is not None:
            write_json(folder / THRESHOLDS, thresholds)
        told = {"error": max(errors.values()), "fixed": fixed, "variants": found, "facts": facts}
        text = render_card(model, info, card, calibrated=thresholds is not None, **told)
        write_text(folder / "README.md", text)
        written = sorted(path.name for path in folder.iterdir())
        for file in written:
            (folder / file).replace(out / file)
        remove(out, [file for file in NOT_ALWAYS if file not in written])
    return errors


def write_exported(
    model: Model, info: ModelInfo, golden: np.ndarray, folder: Path, facts: Mapping[str, str]
) -> tuple[dict[str, float], list[str]]:
    """Write ONNX and program; the largest relative error by samples, and which axes of the program are not free.

    Raises:
        AudiorepError: an error above `TOLERANCE`.
    """
    shortest = max(info.window_samples, model.frontend.shortest)
    write_onnx(model, shortest, folder / ONNX, facts)
    fixed = write_program(model, shortest, folder / PROGRAM, facts)
    worst = dict[str, float]()
    for samples in sorted({info.window_samples, max(2 * info.window_samples, model.frontend.shortest)}):
        wave = clip(golden, samples)
        errors = {"ONNX model": parity(model, folder / ONNX, wave)}
        if not fixed:
            errors["exported program"] = program_parity(model, folder / PROGRAM, wave)
        for name, error in errors.items():
            if not error < TOLERANCE:
                raise AudiorepError(
                    f"the {name} differs from torch by {error:.2g} (relative) at {samples} samples, more than "
                    f"{TOLERANCE:g}: not exported"
                )
        worst[str(samples)] = max(errors.values())
    return worst, fixed


def write_variants(
    folder: Path, names: Sequence[str], trial: Trial, naming: Naming | None, least_cosine: float
) -> dict[str, Any] | None:
    """Make variants of ``model.onnx``, try them, and tell of it in ``variants.json``; None: there are none.

    Raises:
        AudiorepError: one that is too far from float32.
    """
    if not names:
        return None
    original = folder / ONNX
    figures = {"float32": {"file": ONNX, **tried(original, original, trial, naming), "speed": 1.0}}
    for name in names:
        path = folder / f"model.{name}.onnx"
        with atomic(path) as temporary:
            onnx.save(VARIANTS[name](onnx.load(original), trial.calibration), str(temporary))
        figures[name] = {"file": path.name, **(found := tried(path, original, trial, naming))}
        if not found["cosine"] >= least_cosine:
            raise AudiorepError(
                f"variants={name}: the mean cosine similarity of its embeddings to those of float32 is "
                f"{found['cosine']:.4f}, below least_cosine={least_cosine:g} ({trial.heard}): nothing was exported; leave "
                "it out, or say least_cosine= if that is good enough"
            )
    told = {
        "tried_on": trial.heard,
        "windows": len(trial.judged),
        "calibrated_on": len(trial.calibration),
        "least_cosine": least_cosine,
        "models": figures,
    }
    write_json(folder / TRIED, told)
    return told


def clip(golden: np.ndarray, length: int) -> np.ndarray:
    """`length` samples of the golden clip, repeated where it is too short."""
    return np.resize(golden, length).astype(np.float32)


@torch.inference_mode()
def write_golden(model: Model, info: ModelInfo, wave: np.ndarray, out: Path) -> None:
    """`golden.wav`, and the embedding and logits that it must give, to seven digits."""
    write_wav(out / "golden.wav", wave, info.sample_rate_hz)
    kept, _ = soundfile.read(out / "golden.wav", dtype="float32")
    said = [values[0].numpy() for values in model(torch.from_numpy(kept[None]))]
    told = {name: rounded(values) for name, values in zip(outputs_of(model), said, strict=True)}
    write_json(out / "golden.json", {"file": "golden.wav", **told})


def rounded(values: np.ndarray) -> list[Any]:
    """Numbers with seven digits, as float32 holds them."""
    return [float(f"{value:.7g}") if value.ndim == 0 else rounded(value) for value in values]
