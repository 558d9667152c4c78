"""The model that is saved, exported and used: samples in, embedding (and logits) out. Front-end and statistics inside."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from audiorep.compress import Compress
from audiorep.encoders.base import Encoder
from audiorep.errors import AudiorepError
from audiorep.files import write_bytes, write_json
from audiorep.frontend import FrontEnd
from audiorep.heads import UnitLinear
from audiorep.onnx_model import onnx_config
from audiorep.types import Spec, Wave

SCHEMA = 3
"""Version of the model folder; older ones are brought up to it, newer ones refused."""


def _with_framewise(config: dict[str, Any]) -> dict[str, Any]:
    """Version 1 knew classifiers of whole windows only."""
    return {**config, "framewise": False}


def _with_unit_length(config: dict[str, Any]) -> dict[str, Any]:
    """Version 2 knew classifiers of embeddings as they are only."""
    return {**config, "unit_length": False}


MIGRATIONS: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _with_framewise, 2: _with_unit_length}
"""From the config of a version to that of the next."""

ALLOWED = frozenset(
    {
        "audiorep.frontend.Stft",
        "audiorep.frontend.Mel",
        "audiorep.frontend.KaldiFbank",
        "audiorep.frontend_wave.Waveform",
        "audiorep.compress.Compress",
        "audiorep.compress.Log",
        "audiorep.compress.Decibel",
        "audiorep.compress.Pcen",
        "audiorep.compress.Identity",
        "audiorep.compress.FixedNorm",
        "audiorep.compress.ClipNorm",
        "audiorep.compress.RunningNorm",
        "audiorep.encoders.adapted.Adapted",
        "audiorep.encoders.birdnet.BirdNet",
        "audiorep.encoders.cnn.SmallCnn",
        "audiorep.encoders.convnext.ConvNeXt",
        "audiorep.encoders.frame_cnn.FrameCnn",
        "audiorep.encoders.onnx.OnnxEncoder",
        "audiorep.encoders.resnet.ResNet",
        "audiorep.encoders.vit.Vit",
        "audiorep.encoders.wave.WaveTransformer",
    }
)
"""The only classes that a saved model may name: a stranger's config must not become code."""


class Model(nn.Module):
    """Wave [b t] at the front-end's rate -> embedding [b d], and logits [b c] where there is a (linear) classifier; where
    it is `framewise`, logits of every token [b n c], one every `step_samples`. Where it `answers`, the encoder itself brings
    the logits."""

    def __init__(
        self,
        frontend: FrontEnd,
        compress: Compress,
        encoder: Encoder,
        classifier: nn.Linear | None = None,
        framewise: bool = False,
        answers: bool = False,
    ) -> None:
        super().__init__()
        if encoder.takes_samples != frontend.gives_samples:
            wants, gives = ("samples", "a spectrogram") if encoder.takes_samples else ("a spectrogram", "samples")
            raise AudiorepError(
                f"{type(encoder).__name__} takes {wants} and the front-end {type(frontend).__name__} gives {gives}: "
                f"choose {'frontend=waveform compress=none' if encoder.takes_samples else 'frontend=mel'}, or another encoder"
            )
        self.frontend, self.compress, self.encoder = frontend, compress, encoder
        self.classifier, self.framewise, self.answers = classifier, framewise, answers

    @property
    def step_samples(self) -> int:
        """Samples from one token (of which there are logits) to the next, the first being centred on the first sample.

        Raises:
            AudiorepError: its tokens are no frames in order of time.
        """
        frames = self.encoder.frames_per_answer if self.answers else self.encoder.frames_per_token
        if frames is None or not self.frontend.hop_samples:
            raise AudiorepError(f"{type(self.encoder).__name__} behind {type(self.frontend).__name__} keeps no frames")
        return frames * self.frontend.hop_samples

    def leave_answers(self) -> None:
        """Without logits from now on: to embed, or to start a training from."""
        self.classifier, self.framewise, self.answers = None, False, False

    def spectrogram(self, wave: Wave) -> Spec:
        """What the encoder sees."""
        return self.compress(self.frontend(wave))

    def forward(self, wave: Wave) -> tuple[Float[Tensor, "b *n d"], ...]:
        return self.classify(self.spectrogram(wave))

    def classify(self, spec: Spec) -> tuple[Float[Tensor, "b *n d"], ...]:
        """Embedding, and logits where there is a classifier, of a spectrogram as the encoder sees it."""
        said = self.encoder(spec)
        if self.answers and said.logits is not None:
            return said.pooled, said.logits
        if self.classifier is None:
            return (said.pooled,)
        return said.pooled, self.classifier(said.tokens if self.framewise else said.pooled)


PIECE, PIECE_SAMPLES = 32, 2**20
"""Windows, and their samples, that a CPU encodes at once: more than fits its cache costs up to twice the time."""


def at_once(device: torch.device, samples: int, batch_size: int) -> int:
    """How many windows of so many samples a device encodes at once, where `batch_size` lie ready."""
    return batch_size if device.type != "cpu" else max(1, min(PIECE, PIECE_SAMPLES // samples, batch_size))


@dataclass(frozen=True)
class ModelInfo:
    """What a model folder's config.json says besides its parts.

    window_s: length of the windows it was trained on, in s.
    outside: what stood around short calls, as `WindowSpec.outside`.
    classes: names of the logits, empty without a classifier.
    training: facts for the card: corpus, objective, rows, steps ...
    """

    sample_rate_hz: int
    window_s: float
    outside: str = "context"
    classes: Sequence[str] = ()
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def window_samples(self) -> int:
        return round(self.window_s * self.sample_rate_hz)


def save_model(model: Model, parts: Mapping[str, Any], info: ModelInfo, folder: Path) -> None:
    """Write `model.safetensors` and `config.json`, which need no other file (`Encoder.standalone`).

    Args:
        parts: the configs {"frontend": {"_target_": ...}, "compress": ..., "encoder": ...} that rebuild the model.
    """
    parts = {**parts, "encoder": model.encoder.standalone(parts["encoder"])}
    config = {
        "audiorep_schema": SCHEMA,
        "sample_rate_hz": info.sample_rate_hz,
        "window_s": info.window_s,
        "outside": info.outside,
        "embedding_dim": model.encoder.dim,
        "classes": list(info.classes),
        "framewise": model.framewise,
        "unit_length": isinstance(model.classifier, UnitLinear),
        **parts,
        "training": dict(info.training),
    }
    check_targets(parts, folder)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_bytes(folder / "model.safetensors", save(tensors, metadata={"format": "pt"}))
    write_json(folder / "config.json", config)


def load_model(
    model: str | Path, key: str = "model", rate_hz: int | None = None
) -> tuple[Model, ModelInfo, dict[str, Any]]:
    """Read a run folder, a bundle or an `.onnx` that takes samples; `key` is the setting that named it.

    Args:
        rate_hz: sample rate of an ONNX; overrules what it says.

    Returns:
        The model in evaluation mode, its facts, and the configs of its parts.

    Raises:
        AudiorepError: neither, a folder of another version, naming classes that are not audiorep's, with a part that
        cannot be made here, or not matching its weights; an ONNX that takes something else, or does not say enough.
    """
    path = Path(model)
    if path.suffix == ".onnx" and not path.is_dir():
        return made(onnx_config(path, key, rate_hz), path)
    config = read_config(path, key)
    found, info, parts = made(config, path / "config.json")
    if config["classes"]:
        head = UnitLinear if config["unit_length"] else nn.Linear
        found.classifier = head(found.encoder.dim, len(config["classes"]))
    try:
        found.load_state_dict(load_file(path / "model.safetensors"))
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise AudiorepError(f"{path / 'model.safetensors'}: does not fit config.json: {reason}") from error
    return found, info, parts


def read_config(folder: Path, key: str) -> dict[str, Any]:
    """The config of a run folder or bundle, as this version writes it.

    Raises:
        AudiorepError: there is none, or one of another version.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise AudiorepError(
            f"{key}={folder}: no config.json there; name the out= folder of pretrain or train, a bundle"
            + ", or an .onnx that takes samples"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise AudiorepError(f"{path}: not valid JSON: {error}") from error
    return migrated(config, path)


def made(config: Mapping[str, Any], source: Path) -> tuple[Model, ModelInfo, dict[str, Any]]:
    """The model that a config describes, without the weights that are saved beside it.

    Raises:
        AudiorepError: it names classes that are not audiorep's, or a part that cannot be made here.
    """
    parts = {name: config[name] for name in ("frontend", "compress", "encoder")}
    check_targets(parts, source)
    kind = {"framewise": config["framewise"], "answers": config.get("answers", False)}
    try:
        model = Model(**{name: instantiate(part) for name, part in parts.items()}, **kind).eval()
    except InstantiationException as error:
        raise AudiorepError(f"{source}: {str(error.__cause__ or error).splitlines()[0]}") from error
    info = ModelInfo(
        config["sample_rate_hz"], config["window_s"], config["outside"], tuple(config["classes"]), config["training"]
    )
    return model, info, parts


def migrated(config: Any, path: Path) -> dict[str, Any]:
    """A config as this version writes it.

    Raises:
        AudiorepError: it is of no version, or of a newer one.
    """
    version = config.get("audiorep_schema") if isinstance(config, Mapping) else None
    if not isinstance(version, int) or not 1 <= version <= SCHEMA:
        newer = isinstance(version, int) and version > SCHEMA
        raise AudiorepError(
            f"{path}: model of schema version {version}, this audiorep reads versions 1 to {SCHEMA}: "
            + ("install the newer audiorep that wrote it" if newer else "it is no model folder of audiorep")
        )
    for old in range(version, SCHEMA):
        config = {**MIGRATIONS[old](config), "audiorep_schema": old + 1}
    return dict(config)


def check_targets(part: Any, source: Path) -> None:
    """Refuse any `_target_` that is not on the closed list, at any depth."""
    if isinstance(part, Mapping):
        target = part.get("_target_")
        if target is not None and target not in ALLOWED:
            raise AudiorepError(f"{source}: names the class {target}, which is not one of audiorep's; it is not loaded")
        for value in part.values():
            check_targets(value, source)
    elif isinstance(part, list | tuple):
        for value in part:
            check_targets(value, source)


@torch.inference_mode()
def count_parameters(module: nn.Module) -> int:
    """Number of trained numbers."""
    return sum(parameter.numel() for parameter in module.parameters())
