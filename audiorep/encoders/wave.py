"""A transformer on samples, as wav2vec 2.0, HuBERT and AVES are, with or without their weights."""

import inspect
import json
import math
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Int
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from audiorep.encoders.base import Encoder, refuse_patches, refuse_spectrograms
from audiorep.errors import AudiorepError
from audiorep.torchaudio import torchaudio
from audiorep.types import Features, Spec

HUBERT_CONV = ((512, 10, 5), *[(512, 3, 2)] * 4, *[(512, 2, 2)] * 2)
"""Convolutions of wav2vec 2.0 and HuBERT: (channels, kernel, stride), 20 ms a token at 16 kHz."""

NAMES = {
    "extractor_mode": "extractor",
    "extractor_conv_layer_config": "conv",
    "extractor_conv_bias": "conv_bias",
    "encoder_embed_dim": "dim",
    "encoder_pos_conv_kernel": "position_kernel",
    "encoder_pos_conv_groups": "position_groups",
    "encoder_num_layers": "depth",
    "encoder_num_heads": "heads",
    "encoder_ff_interm_features": "hidden",
    "encoder_layer_norm_first": "norm_first",
}
"""torchaudio's names of what an architecture is, and ours."""

NOT_TAKEN = frozenset(
    {
        "encoder_projection_dropout",
        "encoder_attention_dropout",
        "encoder_ff_interm_dropout",
        "encoder_dropout",
        "encoder_layer_drop",
        "aux_num_out",
    }
)
"""What an architecture file says besides: how it was trained, and a head that is not used."""


class WaveTransformer(Encoder):
    """Convolutions on samples [b 1 1 t], a convolution for the position, transformer layers.

    Tokens: the last layer. Pooled: their mean. `layers`: every layer. A wave shorter than one token is padded with
    zeros at its end. The network is torchaudio's `Wav2Vec2Model`, without layer drop.

    Args:
        dim, depth, heads: width, number of layers, attention heads.
        hidden: width inside the MLPs; None: four times `dim`.
        conv: (channels, kernel, stride) of each convolution; None: those of HuBERT.
        conv_bias: whether these have biases.
        extractor: "group_norm" in the first convolution (base models) or "layer_norm" in each (large wav2vec 2.0).
        position_kernel, position_groups: the convolution for the position, in tokens and groups.
        norm_first: pre-norm layers and a norm after the last.
        dropout: of all layers, from torch's global generator; 0 leaves that alone.
        weights: state dict of a `Wav2Vec2Model` to start from, `.pt` or `.safetensors`.
        architecture: JSON with the arguments of `torchaudio.models.wav2vec2_model`; overrules all of the above but
            `dropout`. AVES comes as such a pair of files.

    Raises:
        AudiorepError: a file that is not there, that is something else, or that does not fit; or input of several bands.

    Source: Baevski et al. 2020, arXiv:2006.11477; Hsu et al. 2021 (HuBERT), arXiv:2106.07447; Hagiwara 2022 (AVES),
    arXiv:2210.14493.
    """

    takes_samples = True

    def __init__(
        self,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        hidden: int | None = None,
        conv: Sequence[Sequence[int]] | None = None,
        conv_bias: bool = False,
        extractor: str = "group_norm",
        position_kernel: int = 128,
        position_groups: int = 16,
        norm_first: bool = False,
        dropout: float = 0.0,
        weights: str | None = None,
        architecture: str | None = None,
    ) -> None:
        super().__init__()
        self.shape: dict[str, Any] = {
            "dim": dim, "depth": depth, "heads": heads, "hidden": hidden, "conv": conv, "conv_bias": conv_bias,
            "extractor": extractor, "position_kernel": position_kernel, "position_groups": position_groups,
            "norm_first": norm_first,
        }  # fmt: skip
        if architecture is not None:
            self.shape |= read_architecture(Path(architecture))
        self.shape["hidden"] = self.shape["hidden"] or 4 * self.shape["dim"]
        self.shape["conv"] = [[int(number) for number in layer] for layer in self.shape["conv"] or HUBERT_CONV]
        self.dim, self.norm_first = self.shape["dim"], self.shape["norm_first"]
        self.receptive = receptive(self.shape["conv"])
        self.network = network(self.shape, dropout)
        layers = "network.encoder.transformer.layers"
        self.stages = {f"{layers}.{layer}": self.dim for layer in range(self.shape["depth"])}
        if weights is not None:
            fit_weights(self.network, Path(weights))

    def standalone(self, part: Mapping[str, Any]) -> dict[str, Any]:
        return {**part, **self.shape, "weights": None, "architecture": None}

    def forward(
        self, spec: Spec, *, keep: Int[Tensor, "b k"] | None = None, mask: Bool[Tensor, "b l"] | None = None
    ) -> Features:
        refuse_patches(self, keep, mask)
        refuse_spectrograms(self, spec)
        wave = spec[:, 0, 0]
        if wave.shape[1] < self.receptive:
            wave = F.pad(wave, (0, self.receptive - wave.shape[1]))
        layers, _ = self.network.extract_features(wave)
        tokens = self.network.encoder.transformer.layer_norm(layers[-1]) if self.norm_first else layers[-1]
        return Features(tokens.mean(1), tokens, layers)


def receptive(conv: Sequence[Sequence[int]]) -> int:
    """Samples that the first token depends on: ``1 + sum_i (kernel_i - 1) prod_{j < i} stride_j``."""
    strides = [layer[2] for layer in conv]
    return 1 + sum((layer[1] - 1) * math.prod(strides[:i]) for i, layer in enumerate(conv))


def network(shape: Mapping[str, Any], dropout: float) -> Any:
    """torchaudio's model of that shape, with fresh weights.

    Linear layers start from N(0, 0.02^2); the convolutions on samples from He's normal distribution, because with
    torch's own they shrink what passes through, layer by layer, to below the epsilon of the norm behind them.
    """
    names = {theirs: shape[ours] for theirs, ours in NAMES.items()}
    drops = {name: dropout for name in NOT_TAKEN if name.endswith("dropout")}
    try:
        made = torchaudio.models.wav2vec2_model(**names, **drops, encoder_layer_drop=0.0, aux_num_out=None)
    except ValueError as error:
        raise AudiorepError(f"encoder: {shape} is no architecture: {str(error).splitlines()[0]}") from error
    for module in made.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    for layer in made.feature_extractor.conv_layers:
        nn.init.kaiming_normal_(layer.conv.weight)
    return made


def read_architecture(path: Path) -> dict[str, Any]:
    """Arguments of `wav2vec2_model` in a JSON file, by our names.

    Raises:
        AudiorepError: no such file, no JSON object, or a key that is none of these arguments.
    """
    if not path.is_file():
        raise AudiorepError(f"encoder.architecture={path}: no such file")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise AudiorepError(f"encoder.architecture={path}: not valid JSON: {error}") from error
    known = inspect.signature(torchaudio.models.wav2vec2_model).parameters
    wrong = next((key for key in found if key not in known), None) if isinstance(found, dict) else "no object"
    if wrong is not None:
        raise AudiorepError(
            f"encoder.architecture={path}: '{wrong}' is no argument of torchaudio's wav2vec2_model: "
            "name the .model_config.json that came with the weights"
        )
    return {NAMES[key]: value for key, value in found.items() if key not in NOT_TAKEN}


def fit_weights(model: nn.Module, path: Path) -> None:
    """Load a state dict from a file, whole and exactly; nothing in it is run.

    Raises:
        AudiorepError: no such file, not a state dict, or one of another architecture.
    """
    if not path.is_file():
        raise AudiorepError(f"encoder.weights={path}: no such file")
    try:
        read = load_file if path.suffix == ".safetensors" else read_torch
        found = read(path)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        raise AudiorepError(f"encoder.weights={path}: not a state dict: {str(error).splitlines()[0]}") from error
    named = isinstance(found, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in found.items())
    if not named:
        raise AudiorepError(f"encoder.weights={path}: not a state dict: it must hold tensors by name, and nothing else")
    remedy = "give encoder.architecture=, the .model_config.json that came with the weights"
    try:
        keys = model.load_state_dict(found, strict=False)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip(" \t.")
        raise AudiorepError(f"encoder.weights={path}: {reason}: {remedy}") from error
    for what, names in (("lacks", keys.missing_keys), ("has the unexpected", keys.unexpected_keys)):
        if names:
            raise AudiorepError(f"encoder.weights={path}: {what} {names[0]} (of {len(names)} such): {remedy}")


def read_torch(path: Path) -> Any:
    """A `.pt` file without its code."""
    return torch.load(path, map_location="cpu", weights_only=True)
