"""Frequency in mel, and triangular filters that are equally spaced in it."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def hz_to_mel(hz: Float[Tensor, "*s"], scale: str = "htk") -> Float[Tensor, "*s"]:
    """Frequency in Hz to mel.

    HTK: ``m = 2595 log10(1 + f / 700)`` (O'Shaughnessy 1987). Slaney: linear below 1 kHz with 200/3 Hz a mel, above it
    logarithmic with 27 mels per factor 6.4 (Slaney, Auditory Toolbox, Interval Research TR 1998-010).
    """
    if scale == "htk":
        return 2595.0 * torch.log10(1.0 + hz / 700.0)
    log_part = 15.0 + torch.log(hz.clamp_min(1e-9) / 1000.0) * (27.0 / math.log(6.4))
    return torch.where(hz < 1000.0, hz * (3.0 / 200.0), log_part)


def mel_to_hz(mel: Float[Tensor, "*s"], scale: str = "htk") -> Float[Tensor, "*s"]:
    """Inverse of `hz_to_mel`."""
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    return torch.where(mel < 15.0, mel * (200.0 / 3.0), 1000.0 * torch.exp((mel - 15.0) * (math.log(6.4) / 27.0)))


def triangles(at: Float[Tensor, " bins"], corners: Float[Tensor, " edges"]) -> Float[Tensor, "f bins"]:
    """Filters that rise from one corner to 1 at the next and fall to 0 at the one after, at the places `at` (float64)."""
    low, centre, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    return torch.minimum((at - low) / (centre - low), (high - at) / (high - centre)).clamp_min(0.0)


def mel_filterbank(
    sample_rate_hz: int,
    n_fft: int,
    bands: int,
    f_min_hz: float,
    f_max_hz: float,
    scale: str = "htk",
    norm: str | None = None,
) -> Float[Tensor, "f bins"]:
    """Triangular filters [bands, n_fft // 2 + 1] whose corners are equally spaced in mel.

    ``norm="slaney"`` divides each filter by half its width in Hz, so that all have the same area. Equal to
    ``librosa.filters.mel`` (float64 inside, float32 out).
    """
    bins_hz = torch.linspace(0.0, sample_rate_hz / 2, n_fft // 2 + 1, dtype=torch.float64)
    edges = hz_to_mel(torch.tensor([f_min_hz, f_max_hz], dtype=torch.float64), scale)
    corners = mel_to_hz(torch.linspace(float(edges[0]), float(edges[1]), bands + 2, dtype=torch.float64), scale)
    filters = triangles(bins_hz, corners)
    if norm == "slaney":
        filters = filters * (2.0 / (corners[2:] - corners[:-2]))[:, None]
    return filters.float()
