"""A training in seconds, for tests: tones in memory, a small encoder, a plain loop or the learner."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate

from audiorep.augment.mix import MixPower
from audiorep.augment.spec import Fader, RandomResizeCrop
from audiorep.composing import compose
from audiorep.compress import Compress, FixedNorm, Log
from audiorep.data.loader import StepSampler
from audiorep.data.sampler import Shuffled
from audiorep.encoders.base import Encoder
from audiorep.encoders.cnn import SmallCnn
from audiorep.evaluate.health import entropies, figures
from audiorep.frontend import Mel
from audiorep.model import Model
from audiorep.objectives.base import Objective
from audiorep.types import generator
from audiorep.views import Branch, Views

RATE_HZ = 8000

MEL = {"_target_": "audiorep.frontend.Mel", "sample_rate_hz": RATE_HZ, "win_s": 0.032, "hop_s": 0.01, "bands": 32}
COMPRESS = {
    "_target_": "audiorep.compress.Compress",
    "compression": {"_target_": "audiorep.compress.Log"},
    "norm": {"_target_": "audiorep.compress.FixedNorm"},
}
CNN = {"_target_": "audiorep.encoders.cnn.SmallCnn", "width": 8, "dim": 32}
PARTS = {"frontend": MEL, "compress": COMPRESS, "encoder": CNN}
"""What `model_of` a SmallCnn(width=8, dim=32) is made of."""


class Rows(Shuffled):
    """Shuffled drawing of rows of which only the number of windows is known."""

    def __init__(self, windows_per_row: Sequence[int]) -> None:
        self.rows = np.repeat(np.arange(len(windows_per_row)), windows_per_row)
        self.units = len(self.rows)


def stream(sampler: StepSampler) -> list[list[tuple[int, int, int, int]]]:
    """All batches from `first_step` to the end, epoch after epoch."""
    batches, step = [], sampler.first_step
    while step < sampler.max_steps:
        sampler.first_step = step
        batches += [list(map(tuple, batch.tolist())) for batch in sampler]
        step = (step // sampler.steps_per_epoch + 1) * sampler.steps_per_epoch
    return batches


def tone(kind: int, seed: int, seconds: float = 0.5, rate_hz: int = RATE_HZ) -> np.ndarray:
    """A call of one of four kinds (up, down, flat, trill) in a little noise."""
    rng = np.random.default_rng([seed, kind])
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    base = rng.uniform(700, 1500)
    slope = (1500.0, -1000.0, 0.0, 0.0)[kind] / seconds
    phase = 2 * np.pi * (base * t + slope * t**2 / 2)
    envelope = np.sin(np.pi * t / seconds) ** 2
    if kind == 3:
        envelope = envelope * (np.sin(2 * np.pi * rng.uniform(15, 25) * t) > 0)
    return (0.3 * envelope * np.sin(phase) + 0.01 * rng.standard_normal(len(t))).astype(np.float32)


def waves(count: int = 256) -> torch.Tensor:
    return torch.from_numpy(np.stack([tone(i % 4, i) for i in range(count)]))


def views_of(wave: torch.Tensor) -> Views:
    frontend = Mel(RATE_HZ, win_s=0.032, hop_s=0.012, bands=32)
    compress = Compress()
    compress.fit(frontend(wave))
    branch = Branch(2, power=[MixPower()], spec=[RandomResizeCrop(), Fader()])
    return Views({"global": branch}, frontend, compress)


def model_of(encoder: Encoder) -> Model:
    """A model that was not trained, around an encoder."""
    frontend = Mel(RATE_HZ, win_s=0.032, hop_s=0.01, bands=32)
    compress = Compress(Log(), FixedNorm())
    compress.fit(frontend(torch.from_numpy(np.stack([tone(k, 0) for k in range(4)]))))
    return Model(frontend, compress, encoder).eval()


def objective_of(name: str, overrides: Sequence[str] = (), seed: int = 0) -> Objective:
    """An objective config around a small encoder; projector widths cut down."""
    sizes = ["objective.projector.hidden=128", "objective.projector.outputs=64"]
    cfg = compose("pretrain", ["corpus=x", "out=x", f"objective={name}", *sizes, *overrides])
    torch.manual_seed(seed)
    return instantiate(cfg.objective, encoder=SmallCnn(width=8, dim=64))


@cache
def train(
    name: str, overrides: tuple[str, ...] = (), steps: int = 100, lr: float = 3e-3, seed: int = 0
) -> dict[str, float]:
    """Train and return the figures of backbone, projection and prototypes on clean windows."""
    data = waves()
    views = views_of(data)
    objective = objective_of(name, overrides, seed)
    optimizer = torch.optim.AdamW(objective.parameter_groups()["main"], lr=lr)
    for step in range(steps):
        rng = generator(seed, step)
        rows = torch.randperm(len(data), generator=rng)[:64]
        terms = objective(views(data[rows], rng), {}, rng)
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        objective.after_step((step + 1) / steps)
    objective.eval()
    with torch.no_grad():
        clean = views.clean(data)
        measured = {name: figures(z) for name, z in objective.embeddings(clean).items()}
        measured |= {name: entropies(p) for name, p in objective.distributions(clean).items()}
    return {f"{name}/{figure}": value for name, found in measured.items() for figure, value in found.items()}


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Single items as `Windows.batch` makes a batch of them, in so many words."""
    good = [item for item in items if "failed" not in item]
    failed = [item["failed"] for item in items if "failed" in item]
    if not good:
        return {"index": torch.empty(0, dtype=torch.int64), "failed": failed}
    batch: dict[str, Any] = {
        name: torch.as_tensor([item[name] for item in good])
        for name in ("index", "group", "recording", "slot", "start", "domain")
    }
    batch["wave"] = torch.stack([item["wave"] for item in _one_dtype(good)])
    batch["valid"] = torch.stack([item["valid"] for item in good])
    batch["label"] = torch.stack([item["label"] for item in good])
    batch["tokens"] = torch.stack([item["tokens"] for item in good])
    if failed:
        batch["failed"] = failed
    return batch


def _one_dtype(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if len({item["wave"].dtype for item in items}) == 1:
        return items
    return [
        {"wave": item["wave"].float() / 32768.0 if item["wave"].dtype == torch.int16 else item["wave"]}
        for item in items
    ]
