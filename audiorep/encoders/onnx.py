"""An ONNX model of any maker as an encoder: it is run and never trained."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtyping import Bool, Int
from torch import Tensor

from audiorep.encoders.base import Encoder, refuse_patches, refuse_spectrograms, refuse_training
from audiorep.errors import AudiorepError
from audiorep.files import sha256 as sha256_of
from audiorep.onnx_model import OnnxModel
from audiorep.types import Features, Spec


class OnnxEncoder(Encoder):
    """Samples [b 1 1 t] -> what an ONNX says of them, as `OnnxModel` hears them.

    Tokens: those of its embedding, piece by piece. Pooled: their mean. It has no parameters and lets no gradient through.
    The network is not part of a saved model, which keeps its path and its SHA-256 instead.

    Args:
        path: of the ONNX.
        embedding, logits: names of its outputs; logits null: none are wanted.
        dim: width of the embedding.
        step_samples: from one moment to the next, where it names moments.
        sha256: of the file, where a saved model says it; null: whatever it is.

    Raises:
        AudiorepError: no such file, or another one than the model was made with; input of several bands, or training.
    """

    takes_samples = True
    exportable = False

    def __init__(
        self,
        path: str,
        embedding: str,
        dim: int,
        logits: str | None = None,
        step_samples: int | None = None,
        sha256: str | None = None,
    ) -> None:
        super().__init__()
        file = Path(path)
        if sha256 is not None and (not file.is_file() or sha256_of(file) != sha256):
            raise AudiorepError(
                f"{file}: the ONNX that this model was made with (SHA-256 {sha256[:12]}...) is not there: put it back"
            )
        self.network = OnnxModel(file, "encoder.path")
        self.embedding, self.logits, self.sha256 = embedding, logits, sha256 or sha256_of(file)
        self.dim, self.frames_per_answer = dim, step_samples

    def standalone(self, part: Mapping[str, Any]) -> dict[str, Any]:
        return {**part, "path": str(self.network.path.absolute()), "sha256": self.sha256}

    def forward(
        self, spec: Spec, *, keep: Int[Tensor, "b k"] | None = None, mask: Bool[Tensor, "b l"] | None = None
    ) -> Features:
        refuse_patches(self, keep, mask)
        refuse_spectrograms(self, spec)
        refuse_training(self, spec, self.network.path.name)
        heard = self.network.hear(spec[:, 0, 0], self.embedding, self.logits, self.frames_per_answer is not None)
        assert heard.tokens is not None
        return Features(heard.tokens.mean(1), heard.tokens, [heard.tokens], heard.logits)
