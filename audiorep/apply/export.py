"""One folder to share: safetensors, waveform-in ONNX, card, golden clip; checked against torch before it counts."""

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import soundfile
import torch
from jaxtyping import config as jaxtyping_config
from jinja2 import Environment, PackageLoader
from torch import Tensor, nn

from audiorep import __version__
from audiorep.data.audio import write_wav
from audiorep.errors import AudiorepError
from audiorep.files import atomic, write_json, write_text
from audiorep.model import Model, ModelInfo, count_parameters, save_model
from audiorep.onnx_model import session

TOLERANCE = 1e-4
"""Largest relative error ``|onnx - torch| / |torch|`` of the embeddings that an export may have."""


class Exported(nn.Module):
    """A model whose front-end is made of what ONNX runtimes do well."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        self.frontend = model.frontend.exported()

    def forward(self, waveform: Tensor) -> tuple[Tensor, ...]:
        return self.model.classify(self.model.compress(self.frontend(waveform)))


def export(
    model: Model, info: ModelInfo, parts: Mapping[str, Any], golden: np.ndarray, out: Path, card: Mapping[str, Any]
) -> dict[str, float]:
    """Write the bundle into the folder `out`.

    Args:
        golden: a clip [t] at the model's rate; kept in the bundle with its expected embedding.
        card: what the model card says: license, metrics ...

    Returns:
        The relative error between ONNX and torch at each window length tried, by samples.

    Raises:
        AudiorepError: the two differ by more than `TOLERANCE`; nothing is left in `out` then that looks like a bundle.
    """
    model = model.eval()
    write_onnx(model, info, out / "model.onnx", licence="" if card["license"] == "unknown" else str(card["license"]))
    lengths = sorted({info.window_samples, max(2 * info.window_samples, model.frontend.shortest)})
    errors = {length: parity(model, out / "model.onnx", clip(golden, length)) for length in lengths}
    worst = max(errors.values())
    if not worst < TOLERANCE:
        (out / "model.onnx").unlink()
        raise AudiorepError(
            f"the ONNX model differs from torch by {worst:.2g} (relative), more than {TOLERANCE:g}: not exported"
        )
    save_model(model, parts, info, out)
    write_golden(model, info, clip(golden, info.window_samples), out)
    if info.classes:
        write_text(out / "labels.txt", "\n".join(info.classes) + "\n")
    write_text(out / "README.md", render_card(model, info, card, worst))
    return {str(length): error for length, error in errors.items()}


def write_onnx(model: Model, info: ModelInfo, path: Path, licence: str = "") -> None:
    """Waveform [batch, samples] -> embedding (and logits); batch and samples are free. Facts stand in metadata_props."""
    names = ["embedding"] + (["logits"] if model.classifier is not None else [])
    length = max(info.window_samples, model.frontend.shortest)
    example = torch.zeros(2, length)
    dynamic = {"waveform": {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}}
    with atomic(path) as temporary, warnings.catch_warnings(), unchecked_shapes():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            Exported(model).eval(),
            (example,),
            input_names=["waveform"],
            output_names=names,
            dynamic_shapes=dynamic,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        proto = program.model_proto
        facts = {
            "sample_rate": info.sample_rate_hz,
            "sample_duration": info.window_s,
            "classes": list(info.classes),
            "embedding_outputs_key": "embedding",
            "class_outputs_key": "logits" if info.classes else "",
            "multilabel": bool(info.training.get("multilabel")),
            "framewise": model.framewise,
            "step_samples": model.step_samples if model.framewise else 0,
            "license": licence,
            "producer": f"audiorep {__version__}",
        }
        for key, value in facts.items():
            entry = proto.metadata_props.add()
            entry.key, entry.value = key, value if isinstance(value, str) else json.dumps(value)
        onnx.save(proto, str(temporary))


@contextmanager
def unchecked_shapes() -> Iterator[None]:
    """Shape checks cannot compare lengths that are symbols, as they are while a model is traced."""
    before = jaxtyping_config.jaxtyping_disable
    jaxtyping_config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping_config.update("jaxtyping_disable", before)


@torch.inference_mode()
def parity(model: Model, path: Path, wave: np.ndarray) -> float:
    """Largest relative error of the ONNX outputs on a clip, its reverse and a faint copy of it."""
    batch = np.stack([wave, wave[::-1], 0.01 * wave]).astype(np.float32)
    wanted = model(torch.from_numpy(batch.copy()))
    found = session(path).run(None, {"waveform": batch})
    return max(
        float(np.linalg.norm(f - w.numpy()) / max(1e-12, float(np.linalg.norm(w.numpy()))))
        for f, w in zip(found, wanted, strict=True)
    )


def clip(golden: np.ndarray, length: int) -> np.ndarray:
    """`length` samples of the golden clip, repeated where it is too short."""
    return np.resize(golden, length).astype(np.float32)


@torch.inference_mode()
def write_golden(model: Model, info: ModelInfo, wave: np.ndarray, out: Path) -> None:
    """`golden.wav` and the embedding that it must give."""
    write_wav(out / "golden.wav", wave, info.sample_rate_hz)
    kept, _ = soundfile.read(out / "golden.wav", dtype="float32")
    embedding = model(torch.from_numpy(kept[None]))[0][0]
    write_json(out / "golden.json", {"file": "golden.wav", "embedding": [float(value) for value in embedding]})


def render_card(model: Model, info: ModelInfo, card: Mapping[str, Any], error: float) -> str:
    """The model card: YAML head for model hubs, then what a person wants to know."""
    environment = Environment(loader=PackageLoader("audiorep.apply"), keep_trailing_newline=True, trim_blocks=True)
    return environment.get_template("card.md").render(
        info=info,
        training=info.training,
        card=card,
        parameters=count_parameters(model),
        dim=model.encoder.dim,
        error=error,
    )
