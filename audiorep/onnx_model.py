"""Finished ONNX models of any maker: samples in, embedding and answers out, each by its name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from jaxtyping import Float
from torch import Tensor

from audiorep.data.pieces import cut
from audiorep.errors import AudiorepError
from audiorep.files import sha256
from audiorep.onnx_facts import Facts, beside, read_facts
from audiorep.types import Wave

NUMBERS: Mapping[str, type] = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
"""What samples may be, by onnxruntime's name."""


def session(path: Path, threads: int | None = None) -> onnxruntime.InferenceSession:
    """Open an ONNX model on the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised, and need not be printed too
    if threads is not None:
        options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True)
class Heard:
    """What an ONNX says of windows, as far as it was asked: tokens [b l d], whose mean is the embedding, and logits."""

    tokens: Float[Tensor, "b l d"] | None
    logits: Float[Tensor, "b *n c"] | None


class OnnxModel:
    """An ONNX model with one input [batch, samples] or [batch, 1, samples], and outputs by name.

    A model of fixed length gets windows centred in zeros, or cut into pieces over which its logits are averaged; one of
    fixed batch 1 gets them one by one. An embedding [batch, ..., d] of more than two axes is one of several tokens.
    It runs on the CPU. A copy opens the file for itself.

    Args:
        key: the setting that named the file, for messages.

    Raises:
        AudiorepError: no ONNX, several inputs, or one that is no samples.
    """

    def __init__(self, path: Path, key: str = "model") -> None:
        self.path, self.key = path, key
        self.running: onnxruntime.InferenceSession | None = None
        inputs, number = self.session.get_inputs(), None
        if len(inputs) == 1:
            number = NUMBERS.get(inputs[0].type)
        shape = inputs[0].shape if len(inputs) == 1 else []
        if number is None or not (len(shape) == 2 or (len(shape) == 3 and shape[1] == 1)):
            shapes = ", ".join(f"{i.name} {i.shape} {i.type}" for i in inputs)
            raise AudiorepError(
                f"{key}={path}: takes {shapes}; one input [batch, samples] or [batch, 1, samples] of floating-point numbers "
                "is needed: a model that wants spectrograms leaves the front-end to every user, and each builds it slightly "
                "wrong; export it with its front-end inside"
            )
        self.input, self.number, self.axes = inputs[0].name, number, len(shape)
        self.samples: int | None = shape[-1] if isinstance(shape[-1], int) else None
        self.batch: int | None = shape[0] if isinstance(shape[0], int) else None
        if self.batch not in (None, 1):
            raise AudiorepError(
                f"{key}={path}: takes {self.batch} windows at a time, no more and no less: export it with a free "
                "first axis, or for one"
            )

    @property
    def session(self) -> onnxruntime.InferenceSession:
        """The running network."""
        if self.running is None:
            try:
                self.running = session(self.path, torch.get_num_threads())
            except Exception as error:  # onnxruntime raises types of its own, by the cause
                if not self.path.exists():
                    raise AudiorepError(f"{self.key}={self.path}: no such file") from error
                reason = str(error).splitlines()[0]
                raise AudiorepError(f"{self.key}={self.path}: not an ONNX model: {reason}") from error
        return self.running

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "running": None}

    def facts(self, rate_hz: int | None = None, embedding: str | None = None, logits: str | None = None) -> Facts:
        """What is known of it, as `read_facts`."""
        outputs = {output.name: output.shape for output in self.session.get_outputs()}
        metadata = self.session.get_modelmeta().custom_metadata_map
        return read_facts(self.path, metadata, outputs, self.key, rate_hz, embedding, logits)

    def width(self, output: str, samples: int) -> int:
        """Length of the last axis of an output; where the file leaves it open, of what it says of `samples` zeros."""
        said = {found.name: found.shape[-1] for found in self.session.get_outputs() if found.shape}
        if isinstance(said.get(output), int):
            return int(said[output])
        return self.run([output], np.zeros((1, self.samples or samples), np.float32))[0].shape[-1]

    def hear(self, wave: Wave, embedding: str | None, logits: str | None, framewise: bool = False) -> Heard:
        """What the outputs of these names say of windows.

        Args:
            framewise: whether the logits are of moments [b n c]; then they cannot be averaged over pieces.

        Raises:
            AudiorepError: the network fails on windows of this length, or names their moments at another length only.
        """
        if framewise and self.samples not in (None, wave.shape[1]):
            raise AudiorepError(
                f"{self.key}={self.path}: names every moment of windows of {self.samples} samples, and of no others: got "
                f"{wave.shape[1]}"
            )
        pieces = [wave] if self.samples is None else list(cut(wave, self.samples).unbind(1))
        names = [name for name in (embedding, logits) if name is not None]
        said = [self.run(names, piece.float().cpu().numpy()) for piece in pieces]
        found = {name: [torch.from_numpy(part[i]).to(wave.device) for part in said] for i, name in enumerate(names)}
        tokens = torch.cat([rows_of(part) for part in found[embedding]], 1) if embedding is not None else None
        answers = torch.stack([part.float() for part in found[logits]]).mean(0) if logits is not None else None
        return Heard(tokens, answers)

    def run(self, names: Sequence[str], wave: Float[np.ndarray, "b t"]) -> list[np.ndarray]:
        """The outputs of these names [b ...]; window by window where the network takes no more."""
        given: np.ndarray = wave.astype(self.number).reshape(len(wave), *[1] * (self.axes - 2), -1)
        parts = [given] if self.batch is None else np.split(given, len(given))
        try:
            said = [self.session.run(list(names), {self.input: part}) for part in parts]
        except Exception as error:  # onnxruntime raises types of its own, by the cause
            reason = str(error).splitlines()[0]
            raise AudiorepError(
                f"{self.key}={self.path}: fails on windows of {wave.shape[1]} samples: {reason}"
            ) from error
        found = [np.concatenate([np.atleast_2d(part) for part in column]) for column in zip(*said, strict=True)]
        for name, value in zip(names, found, strict=True):
            if len(value) != len(wave):
                raise AudiorepError(
                    f"{self.key}={self.path}: its output '{name}' has {len(value)} rows for {len(wave)} window(s)"
                )
        return found


def rows_of(said: Float[Tensor, "b *l d"]) -> Float[Tensor, "b l d"]:
    """An embedding of any number of axes as tokens."""
    return said.float().reshape(len(said), -1, said.shape[-1])


def onnx_config(path: Path, key: str = "model", rate_hz: int | None = None) -> dict[str, Any]:
    """What a model folder's config.json would say of an ONNX, with `answers`: whether it names calls itself.

    Args:
        rate_hz: overrules the file.

    Raises:
        AudiorepError: no ONNX that takes samples, or one of which too little is known.
    """
    network = OnnxModel(path, key)
    facts = network.facts(rate_hz)
    fixed_s = None if network.samples is None else network.samples / facts.rate_hz
    window_s = fixed_s or facts.window_s
    if window_s is None:
        raise AudiorepError(
            f"{key}={path}: takes windows of any length and tells no usual one: write it into {beside(path).name}: "
            '{"sample_duration": 3.0} (seconds)'
        )
    identity = {"_target_": "audiorep.compress.Identity"}
    training = {"objective": path.name, "encoder": path.stem, "multilabel": facts.multilabel, "licence": facts.licence}
    return {
        "sample_rate_hz": facts.rate_hz,
        "window_s": window_s,
        "outside": "context",
        "classes": list(facts.classes),
        "framewise": bool(facts.classes) and facts.step_samples is not None,
        "answers": bool(facts.classes),
        "frontend": {"_target_": "audiorep.frontend_wave.Waveform", "sample_rate_hz": facts.rate_hz},
        "compress": {"_target_": "audiorep.compress.Compress", "compression": identity, "norm": identity},
        "encoder": {
            "_target_": "audiorep.encoders.onnx.OnnxEncoder",
            "path": str(path.absolute()),
            "embedding": facts.embedding,
            "dim": network.width(str(facts.embedding), round(window_s * facts.rate_hz)),
            "logits": facts.logits if facts.classes else None,
            "step_samples": facts.step_samples,
            "sha256": sha256(path),
        },
        "training": {name: value for name, value in training.items() if value is not None},
    }
