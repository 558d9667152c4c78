"""Augmentations of samples and of spectrograms, beside audiomentations, torch-audiomentations and torchaudio."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audiorep.augment.base import apply_all
from audiorep.augment.spec import FrequencyMask, RandomResizeCrop, TimeMask
from audiorep.augment.wave import ColouredNoise, Gain, Shift
from audiorep.torchaudio import torchaudio
from audiorep.types import generator
from benchmarks.harness import Case
from benchmarks.peers import imported

RATE_HZ, LENGTH_S = 32_000, 5.0


def cases(quick: bool) -> Iterator[Case]:
    many = 8 if quick else 64
    yield wave_case(many)
    yield mask_case(many)
    yield crop_case(many)


def wave_case(count: int) -> Case:
    wave = torch.randn(count, round(LENGTH_S * RATE_HZ), generator=generator(0)) * 0.1
    chain, rng = [ColouredNoise(10.0, 40.0), Gain(-6.0, 6.0), Shift(0.1)], generator(1)
    rows = wave.numpy()
    audiomentations, torch_audiomentations = imported("audiomentations"), imported("torch_audiomentations")

    def one_by_one() -> Any:
        parts = audiomentations
        transform = parts.Compose([
            parts.AddColorNoise(min_snr_db=10.0, max_snr_db=40.0, p=1.0),
            parts.Gain(min_gain_db=-6.0, max_gain_db=6.0, p=1.0),
            parts.Shift(min_shift=-0.1, max_shift=0.1, rollover=False, p=1.0),
        ])  # fmt: skip
        return lambda: np.stack([transform(samples=row, sample_rate=RATE_HZ) for row in rows])

    def batched() -> Any:
        parts = torch_audiomentations
        keys = {"p": 1.0, "output_type": "tensor"}
        transform = parts.Compose([
            parts.AddColoredNoise(min_snr_in_db=10.0, max_snr_in_db=40.0, min_f_decay=0.0, max_f_decay=2.0, **keys),
            parts.Gain(min_gain_in_db=-6.0, max_gain_in_db=6.0, **keys),
            parts.Shift(min_shift=-0.1, max_shift=0.1, rollover=False, **keys),
        ], output_type="tensor")  # fmt: skip
        return lambda: transform(wave[:, None], sample_rate=RATE_HZ)

    def in_turn() -> Tensor:
        out = wave
        for augment in chain:
            out = augment(out, rng)
        return out

    peers = {
        "audiomentations": audiomentations and one_by_one(),
        "torch-audiomentations": torch_audiomentations and batched(),
    }
    beside = {"one augmentation after the other": in_turn, "a copy of the batch": wave.clone}
    work = f"noise, gain, shift of {count} clips of {LENGTH_S:g} s at {RATE_HZ // 1000} kHz"
    return Case(work, "clips", count, lambda: apply_all(chain, wave, rng), peers, 6.0, beside=beside)


def spectrograms(count: int, bands: int = 128, frames: int = 501) -> Tensor:
    return torch.randn(count, 1, bands, frames, generator=generator(0))


def mask_case(count: int) -> Case:
    spec = spectrograms(count)
    chain, rng = [TimeMask(0.15, count=2), FrequencyMask(0.15, count=2)], generator(1)
    time = torchaudio.transforms.TimeMasking(75, iid_masks=True)
    frequency = torchaudio.transforms.FrequencyMasking(19, iid_masks=True)
    peers = {
        "torchaudio": lambda: frequency(frequency(time(time(spec)))),
    }
    beside = {"the same, input kept": lambda: apply_all(chain, spec, rng)}
    work = f"two time and two frequency masks on [{count}, 1, 128, 501]"
    ours = lambda: apply_all(chain, spec, rng, owned=True)  # noqa: E731
    return Case(work, "clips", count, ours, peers, 10.0, beside=beside)


def crop_case(count: int) -> Case:
    spec, crop, rng = spectrograms(count, 64, 101), RandomResizeCrop(), generator(1)
    whole = torch.nn.functional.affine_grid(
        torch.eye(2, 3).expand(count, 2, 3), [count, 1, 64, 101], align_corners=False
    )
    beside = {"grid_sample, its grid given": lambda: torch.nn.functional.grid_sample(spec, whole, align_corners=False)}
    return Case(
        f"random crop and resize of [{count}, 1, 64, 101]", "clips", count, lambda: crop(spec, rng), {}, beside=beside
    )
