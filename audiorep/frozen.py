"""Teachers that are finished: a model folder of audiorep, or any ONNX model that takes samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from audiorep.errors import AudiorepError
from audiorep.model import load_model
from audiorep.onnx_model import OnnxModel
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
    """A run folder or bundle of audiorep; of one that names moments, the embedding alone."""

    def __init__(self, path: str | Path) -> None:
        self.model, info, _ = load_model(path, "teacher.model")
        self.model.requires_grad_(False)
        self.rate_hz = info.sample_rate_hz
        self.classes: Sequence[str] = () if self.model.framewise else info.classes
        self.dim: int | None = self.model.encoder.dim
        self.multilabel = bool(info.training.get("multilabel"))
        self.licence: str | None = info.training.get("licence") or info.training.get("teacher_licence")

    @torch.no_grad()
    def __call__(self, wave: Wave) -> Told:
        with torch.autocast(wave.device.type, enabled=False):
            said = self.model.to(wave.device)(wave.float())
        return Told(said[0], said[1] if self.classes else None)


class Onnx:
    """An ONNX model that takes samples; of one that names moments, the embedding alone.

    Args:
        rate_hz, embedding, logits: sample rate and names of outputs; overrule what the file says.

    Raises:
        AudiorepError: see `OnnxModel` and `read_facts`.
    """

    def __init__(
        self, path: str | Path, rate_hz: int | None = None, embedding: str | None = None, logits: str | None = None
    ) -> None:
        self.network = OnnxModel(Path(path), "teacher.model")
        facts = self.network.facts(rate_hz, embedding, logits)
        named = facts.step_samples is None
        self.embedding, self.logits = facts.embedding, facts.logits if named else None
        self.rate_hz = facts.rate_hz
        self.classes: Sequence[str] = facts.classes if named else ()
        self.multilabel, self.licence = facts.multilabel, facts.licence
        self.dim = None if self.embedding is None else self.network.width(self.embedding, self.rate_hz)

    def __call__(self, wave: Wave) -> Told:
        heard = self.network.hear(wave, self.embedding, self.logits)
        return Told(None if heard.tokens is None else heard.tokens.mean(1), heard.logits)


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
