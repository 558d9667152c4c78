"""A power spectrogram on a CPU: some frames at a time, in buffers that stay in its cache, and no bin that no filter touches.

A whole batch of frames and its transform are hundreds of megabytes of fresh memory, and fetching those costs more than the
transform itself; and of a filterbank's matrix nearly all is zero.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from audiorep.threads import one_thread
from audiorep.types import Wave

CACHED_SAMPLES = 2**19
"""Samples of all frames that are worked on together: 2 MB, which an L2 cache holds, or nearly."""

SPAN = 64
"""Bins that neighbouring filters may touch together to be multiplied as one."""


class Part(NamedTuple):
    """Neighbouring filters: which bands they are, which bins they touch, and their weights there."""

    bands: slice
    bins: slice
    weights: Float[Tensor, "some touched"]


@runtime_checkable
class Frames(Protocol):
    """What `in_cache` asks a front-end for."""

    n_fft: int
    hop_length: int

    @property
    def band_count(self) -> int: ...
    @property
    def padding(self) -> int: ...
    @property
    def frame_length(self) -> int: ...
    def write_frames(self, cut: Float[Tensor, "k n frame"], out: Float[Tensor, "k n n_fft"]) -> None: ...
    def write_bands(self, power: Float[Tensor, "m bins"], out: Float[Tensor, "f m"]) -> None: ...


def parts_of(filters: Float[Tensor, "f bins"], span: int = SPAN) -> list[Part]:
    """A filterbank as few narrow matrices; filters that touch more than `span` bins stand alone."""
    touched: list[tuple[int, int]] = []
    for row in filters:
        bins = row.nonzero()[:, 0].tolist()
        touched.append(
            (bins[0], bins[-1] + 1) if bins else touched[-1] if touched else (0, 1)
        )  # an empty one touches none
    parts, first = [], 0
    while first < len(touched):
        low, high = touched[first]
        last = first + 1
        while last < len(touched) and max(high, touched[last][1]) - min(low, touched[last][0]) <= span:
            low, high = min(low, touched[last][0]), max(high, touched[last][1])
            last += 1
        parts.append(Part(slice(first, last), slice(low, high), filters[first:last, low:high].contiguous()))
        first = last
    return parts


def suits(wave: Wave, window: Float[Tensor, " win"]) -> bool:
    """Whether `in_cache` may be used: float32 on a CPU, nothing to differentiate, nothing being compiled or exported."""
    return (
        wave.device.type == "cpu"
        and wave.dtype == window.dtype == torch.float32
        and not (torch.is_grad_enabled() and wave.requires_grad)
        and not torch.compiler.is_compiling()
    )


@torch.no_grad()
@one_thread()
def in_cache(frontend: Frames, wave: Wave) -> Float[Tensor, "b f n"]:
    """``bands(power(wave))`` of a front-end within float32 rounding, piece by piece."""
    n_fft, count = frontend.n_fft, len(wave)
    samples = wave.shape[1] + 2 * frontend.padding
    frames = 1 + (samples - frontend.frame_length) // frontend.hop_length
    out = torch.empty(count, frontend.band_count, frames)
    together = max(1, CACHED_SAMPLES // n_fft)
    clips = max(1, min(count, together // frames))
    length = min(frames, together)
    ready = torch.empty(clips * length, n_fft)
    spectrum = torch.empty(clips * length, n_fft // 2 + 1, dtype=torch.complex64)
    power = torch.empty(clips * length, n_fft // 2 + 1)
    bands = torch.empty(frontend.band_count, clips * length)
    for clip in range(0, count, clips):
        padded = F.pad(wave[clip : clip + clips], (frontend.padding, frontend.padding))
        cut = padded.unfold(1, frontend.frame_length, frontend.hop_length)
        for first in range(0, frames, length):
            piece = cut[:, first : first + length]
            k, n = piece.shape[:2]
            m = k * n
            frontend.write_frames(piece, ready[:m].view(k, n, n_fft))
            torch.fft.rfft(ready[:m], out=spectrum[:m])
            parts = torch.view_as_real(spectrum[:m])
            parts.square_()
            torch.add(parts[..., 0], parts[..., 1], out=power[:m])
            here = out[clip : clip + k, :, first : first + n]
            if k == 1:
                frontend.write_bands(power[:m], here[0])
            else:
                frontend.write_bands(power[:m], bands[:, :m])
                here.copy_(bands[:, :m].view(-1, k, n).transpose(0, 1))
    return out
