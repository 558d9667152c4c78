"""Embeddings along a long recording, beside OpenSoundscape with the same network and input shape."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor, nn

from audiorep.apply.embed import Embedder, embed_recording, open_embedder
from audiorep.compress import Compress
from audiorep.encoders.resnet import ResNet
from audiorep.frontend import Mel
from audiorep.model import Model, ModelInfo, save_model
from audiorep.pace import lay_out
from benchmarks.harness import Case
from benchmarks.peers import opensoundscape

RATE_HZ, LENGTH_S, BANDS, FRAMES = 32_000, 5.0, 128, 501
FRONTEND: dict[str, Any] = {
    "sample_rate_hz": RATE_HZ,
    "n_fft": 1024,
    "win_length": 1024,
    "hop_length": 320,
    "bands": BANDS,
}


def cases(quick: bool) -> Iterator[Case]:
    seconds = 40 if quick else 160
    with tempfile.TemporaryDirectory() as folder:
        sound, model = Path(folder) / "night.wav", Path(folder) / "model"
        samples = np.random.default_rng(0).standard_normal(seconds * RATE_HZ) * 0.1
        soundfile.write(sound, samples, RATE_HZ, subtype="PCM_16")
        encoder = ResNet()
        save(encoder, model)
        yield case(encoder, model, sound, seconds)


def save(encoder: ResNet, folder: Path) -> None:
    """As a model folder, untrained."""
    parts = {
        "frontend": {"_target_": "audiorep.frontend.Mel", **FRONTEND},
        "compress": {"_target_": "audiorep.compress.Compress"},
        "encoder": {"_target_": "audiorep.encoders.resnet.ResNet"},
    }
    save_model(Model(Mel(**FRONTEND), Compress(), encoder), parts, ModelInfo(RATE_HZ, LENGTH_S), folder)


def case(encoder: ResNet, model: Path, sound: Path, seconds: int) -> Case:
    exact, rough = open_embedder(model), open_embedder(model, precision="bf16-mixed")
    hop = exact.window_samples

    def embed(embedder: Embedder) -> list[int]:
        return [len(rows) for rows in embed_recording(sound, embedder, hop, 64)]

    spec = torch.randn(8, 1, BANDS, FRAMES).contiguous(memory_format=torch.channels_last)
    lay_out(encoder.eval(), channels_last=True)

    @torch.inference_mode()
    def network_alone() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            for _ in range(0, seconds, 8 * round(LENGTH_S)):
                encoder(spec)

    peers = {
        "OpenSoundscape": of_opensoundscape(sound),
    }
    beside = {
        "audiorep, precision=32-true": lambda: embed(exact),
        "the network alone, bf16": network_alone,
    }
    work = f"ResNet-18 embeddings of {seconds} s, [1, {BANDS}, {FRAMES}] every {LENGTH_S:g} s, precision=bf16-mixed"
    return Case(work, "s of sound", seconds, lambda: embed(rough), peers, 2.5, 3.0, beside=beside)


class Named(nn.Module):
    """An encoder with a classifier on top, as OpenSoundscape wants its networks."""

    def __init__(self, encoder: ResNet) -> None:
        super().__init__()
        self.encoder, self.classifier = encoder, nn.Linear(encoder.dim, 1)

    def forward(self, spec: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.encoder(spec).pooled)
        return logits


def of_opensoundscape(sound: Path) -> Callable[[], Any] | None:
    """Its `embed` of the same network; None where it is not installed."""
    if opensoundscape() is None:
        return None
    from opensoundscape.ml.cnn import SpectrogramClassifier

    shape = {"height": BANDS, "width": FRAMES, "channels": 1}
    theirs = SpectrogramClassifier(Named(ResNet()), ["call"], LENGTH_S, RATE_HZ, device="cpu", **shape)
    layer = theirs.network.encoder.body
    return lambda: theirs.embed([str(sound)], batch_size=32, target_layer=layer, progress_bar=False, return_dfs=False)
