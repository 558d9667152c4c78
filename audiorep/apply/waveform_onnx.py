"""ONNX with the front-end inside: waveform in, embedding and logits out."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import torch
from jaxtyping import config as jaxtyping_config
from torch import Tensor, nn

from audiorep.files import atomic
from audiorep.model import Model
from audiorep.onnx_model import session

SEEN = "spectrogram"
"""The value in the graph that the encoder sees: what makes it is front-end and compression, what it makes the encoder."""

FREE = {"waveform": {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}}
"""Batch and samples."""


class Exported(nn.Module):
    """A model whose front-end is made of what runtimes do well: [b t] -> embedding, logits, and, `seen`, the spectrogram."""

    def __init__(self, model: Model, seen: bool = False) -> None:
        super().__init__()
        self.model, self.seen = model, seen
        self.frontend = model.frontend.exported()

    def forward(self, waveform: Tensor) -> tuple[Tensor, ...]:
        spec = self.model.compress(self.frontend(waveform))
        said = self.model.classify(spec)
        return (*said, spec) if self.seen else said


def outputs_of(model: Model) -> list[str]:
    """Names of what an exported model gives."""
    return ["embedding"] + (["logits"] if model.classifier is not None else [])


def write_onnx(model: Model, samples: int, path: Path, facts: Mapping[str, str]) -> None:
    """Waveform [batch, samples] -> embedding (and logits); batch and samples are free. `facts` stand in metadata_props.

    Args:
        samples: of the clip that it is traced with.
    """
    example = torch.zeros(2, samples)
    with atomic(path) as temporary, warnings.catch_warnings(), unchecked_shapes():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            Exported(model, seen=True).eval(),
            (example,),
            input_names=["waveform"],
            output_names=[*outputs_of(model), SEEN],
            dynamic_shapes=FREE,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        proto = program.model_proto
        proto.graph.value_info.append(proto.graph.output.pop())
        for key, value in facts.items():
            entry = proto.metadata_props.add()
            entry.key, entry.value = key, value
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
    batch = trio(wave)
    return largest_error(session(path).run(None, {"waveform": batch}), model(torch.from_numpy(batch)))


def trio(wave: np.ndarray) -> np.ndarray:
    """A clip [t], its reverse and a faint copy of it, [3 t]."""
    return np.stack([wave, wave[::-1], 0.01 * wave]).astype(np.float32)


def largest_error(found: list[np.ndarray], wanted: tuple[Tensor, ...]) -> float:
    """``max |found - wanted| / |wanted|`` over the outputs."""
    pairs = [(f, w.numpy()) for f, w in zip(found, wanted, strict=True)]
    return max(float(np.linalg.norm(f - w) / max(1e-12, float(np.linalg.norm(w)))) for f, w in pairs)
