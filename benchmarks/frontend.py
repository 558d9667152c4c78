"""Samples to log-mel spectrograms, beside torchaudio, librosa and nnAudio."""

from collections.abc import Iterator
from typing import Any

import librosa
import numpy as np
import torch
from torch import Tensor

from audiorep.compress import Log
from audiorep.frontend import KaldiFbank, Mel
from audiorep.torchaudio import torchaudio
from audiorep.types import generator
from benchmarks.harness import Case
from benchmarks.peers import imported

OFFSET = 1e-6


def cases(quick: bool) -> Iterator[Case]:
    many = 8 if quick else 64
    yield mel_case(many, 5.0, 32_000, 1024, 320, 128, 5.0, 8.0)
    yield mel_case(many, 5.0, 32_000, 1024, 320, 128, threads=2)
    yield mel_case(many, 1.0, 16_000, 512, 160, 64)
    yield mel_case(many, 0.25, 256_000, 1024, 256, 64)
    yield kaldi_case(many)


def waves(count: int, samples: int) -> Tensor:
    return torch.randn(count, samples, generator=generator(0)) * 0.1


def mel_case(
    count: int,
    length_s: float,
    rate_hz: int,
    n_fft: int,
    hop: int,
    bands: int,
    least: float | None = None,
    stretch: float | None = None,
    threads: int = 1,
) -> Case:
    wave, log = waves(count, round(length_s * rate_hz)), Log(OFFSET)
    ours = Mel(rate_hz, n_fft=n_fft, win_length=n_fft, hop_length=hop, bands=bands, f_min_hz=rate_hz / 100)
    keys: dict[str, Any] = {"n_fft": n_fft, "hop_length": hop, "n_mels": bands, "pad_mode": "constant"}
    theirs = torchaudio.transforms.MelSpectrogram(rate_hz, f_min=rate_hz / 100, **keys)
    samples, nnaudio = wave.numpy(), nnaudio_mel(rate_hz, n_fft, hop, bands)

    def of_librosa() -> np.ndarray:
        power = librosa.feature.melspectrogram(y=samples, sr=rate_hz, fmin=rate_hz / 100, htk=True, norm=None, **keys)
        return np.log(power + OFFSET)

    peers = {
        "torchaudio": torch.no_grad()(lambda: torch.log(theirs(wave) + OFFSET)),
        "librosa": of_librosa,
        "nnAudio": nnaudio and torch.no_grad()(lambda: torch.log(nnaudio(wave) + OFFSET)),
    }
    beside = {"the whole batch at once": torch.no_grad()(lambda: log(ours.bands(ours.power(wave))))}

    def agree(mine: Tensor, other: Tensor | np.ndarray) -> bool:
        other = torch.as_tensor(other).reshape(mine[:, 0].shape)
        return bool((mine[:, 0] - other).abs().max() < 1e-2)

    work = f"log-mel of {count} clips of {length_s:g} s at {rate_hz / 1000:g} kHz ({n_fft}/{hop}, {bands} bands)"
    return Case(
        work, "clips", count, torch.no_grad()(lambda: log(ours(wave))), peers, least, stretch, "torchaudio", agree, threads,
        beside=beside,
    )  # fmt: skip


def kaldi_case(count: int) -> Case:
    wave, ours = waves(count, 160_000), KaldiFbank()

    def theirs() -> Tensor:
        kaldi = torchaudio.compliance.kaldi.fbank
        return torch.stack([kaldi(one[None], num_mel_bins=128, dither=0.0, use_log_fbank=False, window_type="hanning").T
                            for one in wave])  # fmt: skip

    peers = {
        "torchaudio": torch.no_grad()(theirs),
    }
    beside = {"the whole batch at once": torch.no_grad()(lambda: ours.bands(ours.power(wave)))}

    def agree(mine: Tensor, other: Tensor) -> bool:
        return torch.allclose(mine[:, 0], other, rtol=1e-2, atol=2e-5 * float(other.max()))

    work = f"Kaldi filterbank of {count} clips of 10 s at 16 kHz (400/160, 128 bands)"
    return Case(work, "clips", count, torch.no_grad()(lambda: ours(wave)), peers, agree=agree, beside=beside)


def nnaudio_mel(rate_hz: int, n_fft: int, hop: int, bands: int) -> torch.nn.Module | None:
    """nnAudio's mel spectrogram; None where it is not installed."""
    features = imported("nnAudio.features")
    if features is None:
        return None
    keys = {
        "htk": True,
        "norm": None,
        "pad_mode": "constant",
        "fmin": rate_hz / 100,
        "fmax": rate_hz / 2,
        "verbose": False,
    }
    mel: torch.nn.Module = features.MelSpectrogram(sr=rate_hz, n_fft=n_fft, hop_length=hop, n_mels=bands, **keys)
    return mel
