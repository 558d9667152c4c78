"""Training steps of SimCLR from recordings to updated weights, beside lightly's parts in a plain PyTorch loop.

Same recordings, windows, augmentations, encoder and optimiser. The peer's front-end is torchaudio's and it reads with
soundfile, in float32 throughout; ours is what `audiorep pretrain` runs, with the trainer around it. What neither can beat is
the same encoder, loss and optimiser on random spectrograms that are there already, in our precision and layout.
"""

import copy
import logging
import tempfile
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import soundfile
import torch
from torch import Tensor, nn

from audiorep.augment.base import Augment
from audiorep.augment.spec import Fader, RandomResizeCrop
from audiorep.build import choose_precision
from audiorep.compress import Compress
from audiorep.data.loader import StepSampler, train_loader
from audiorep.data.manifest import canonical, scan
from audiorep.data.sampler import Shuffled
from audiorep.data.windows import Windows, WindowSpec
from audiorep.encoders.base import Encoder
from audiorep.encoders.cnn import SmallCnn
from audiorep.encoders.resnet import ResNet
from audiorep.frontend import Mel
from audiorep.heads import Identity, Mlp
from audiorep.learner import Learner
from audiorep.losses.contrast import NtXent
from audiorep.objectives.joint import JointEmbedding
from audiorep.pace import lay_out
from audiorep.teachers import Shared
from audiorep.torchaudio import torchaudio
from audiorep.types import generator
from audiorep.views import Branch, Views
from benchmarks.harness import Case
from benchmarks.peers import lightly

RATE_HZ, BANDS, N_FFT, HOP = 32_000, 128, 1024, 320
LENGTH_S, FILES, FILE_S = 2.56, 12, 60.0
ADAM: dict[str, Any] = {"lr": 1e-3, "weight_decay": 1e-4}
TAU = 0.2
THREADS = 2


def cases(quick: bool) -> Iterator[Case]:
    with tempfile.TemporaryDirectory() as folder:
        paths = recordings(Path(folder))
        steps = 1 if quick else 4
        yield case("ResNet-18", ResNet(), paths, 4 if quick else 16, steps, 2.5, 3.0)
        yield case("the small CNN", SmallCnn(), paths, 4 if quick else 64, steps)


def recordings(folder: Path) -> list[Path]:
    """Noise as 16-bit WAV."""
    paths = [folder / f"{i}.wav" for i in range(FILES)]
    for seed, path in enumerate(paths):
        samples = np.random.default_rng(seed).standard_normal(round(FILE_S * RATE_HZ)) * 0.1
        soundfile.write(path, samples, RATE_HZ, subtype="PCM_16")
    return paths


def case(
    name: str,
    encoder: Encoder,
    paths: list[Path],
    batch: int,
    steps: int,
    least: float | None = None,
    stretch: float | None = None,
) -> Case:
    views = 2 * batch * steps
    peers = {
        "lightly in a plain loop": lightly("loss") and (lambda: plain(copy.deepcopy(encoder), paths, batch, steps)),
    }
    beside = {
        "the bare step on random data": lambda: bare(copy.deepcopy(encoder), batch, steps),
    }
    work = f"SimCLR steps, {name}, {2 * batch} views of [1, {BANDS}, {1 + round(LENGTH_S * RATE_HZ / HOP)}]"
    return Case(
        work, "views", views, lambda: ours(copy.deepcopy(encoder), paths, batch, steps), peers,
        least, stretch, threads=THREADS, beside=beside,
    )  # fmt: skip


def augments() -> list[Augment]:
    return [RandomResizeCrop(), Fader()]


def ours(encoder: Encoder, paths: list[Path], batch: int, steps: int) -> None:
    """The learner, its loader and the trainer, as `audiorep pretrain` sets them up."""
    manifest = scan(canonical(pd.DataFrame({"path": [str(path) for path in paths]}), paths[0].parent))
    windows = Windows(manifest, WindowSpec(LENGTH_S), RATE_HZ, cache_bytes=0)
    frontend = Mel(RATE_HZ, n_fft=N_FFT, win_length=N_FFT, hop_length=HOP, bands=BANDS)
    views = Views({"global": Branch(2, spec=augments())}, frontend, Compress())
    projector = partial(Mlp, hidden=512, outputs=128)
    objective = JointEmbedding(encoder, projector, Identity, Shared, NtXent(TAU), symmetric=True)
    learner = Learner(
        objective, views, partial(torch.optim.AdamW, lr=ADAM["lr"], fused=True),
        StepSampler(Shuffled(windows), batch, steps, seed=0), health_every=1000, clip_norm=None,
    )  # fmt: skip
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    precision: Any = choose_precision("auto")
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", precision=precision, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        trainer.fit(learner, train_loader(windows, learner.sampler, workers=0))
    assert learner.step == steps


class Clips(torch.utils.data.Dataset[Tensor]):
    """Random windows, as one would write it."""

    def __init__(self, paths: list[Path], count: int) -> None:
        self.paths, self.count = paths, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, item: int) -> Tensor:
        rng = np.random.default_rng(item)
        length = round(LENGTH_S * RATE_HZ)
        with soundfile.SoundFile(self.paths[item % len(self.paths)]) as file:
            file.seek(int(rng.integers(0, file.frames - length)))
            return torch.from_numpy(file.read(length, dtype="float32"))


def plain(encoder: Encoder, paths: list[Path], batch: int, steps: int) -> None:
    head = lightly("models.modules.heads").SimCLRProjectionHead(encoder.dim, 512, 128)
    criterion = lightly("loss").NTXentLoss(temperature=TAU)
    mel = torchaudio.transforms.MelSpectrogram(RATE_HZ, n_fft=N_FFT, hop_length=HOP, n_mels=BANDS)
    parts, rng, model = augments(), generator(0), nn.ModuleList([encoder, head])
    optimizer = torch.optim.AdamW(model.parameters(), **ADAM)
    loader = torch.utils.data.DataLoader(Clips(paths, batch * steps), batch)

    def view(spec: Tensor) -> Tensor:
        for part in parts:
            spec = part(spec, rng)
        return head(encoder(spec).pooled)

    for wave in loader:
        with torch.no_grad():
            spec = torch.log(mel(wave) + 1e-8)[:, None]
            spec = (spec - spec.mean()) / spec.std()
        loss = criterion(view(spec), view(spec))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def bare(encoder: Encoder, batch: int, steps: int) -> None:
    """Forward, loss, backward, update, of spectrograms that need no making."""
    model = nn.Sequential(Embed(encoder), Mlp(encoder.dim, 512, 128))
    lay_out(model, channels_last=True)
    optimizer, loss = torch.optim.AdamW(model.parameters(), fused=True, **ADAM), NtXent(TAU)
    shape = (batch, 1, BANDS, 1 + round(LENGTH_S * RATE_HZ / HOP))
    spec = torch.randn(shape, generator=generator(0)).contiguous(memory_format=torch.channels_last)
    for _ in range(steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=choose_precision("auto") == "bf16-mixed"):
            terms: dict[str, Tensor] = loss(model(spec), model(spec))
            total = torch.stack([term.float() for term in terms.values()]).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()


class Embed(nn.Module):
    """An encoder's pooled embedding."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, spec: Tensor) -> Tensor:
        return self.encoder(spec).pooled
