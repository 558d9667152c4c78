"""A spectrogram as one convolution: the form in which a front-end is exported."""

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from audiorep.types import Spec, Wave


@runtime_checkable
class Kernelled(Protocol):
    """What `Convolved` asks a front-end for."""

    hop_length: int

    @property
    def padding(self) -> int: ...
    def kernel(self) -> Float[Tensor, "2 bins samples"]: ...
    def bands(self, power: Float[Tensor, "b bins n"]) -> Float[Tensor, "b f n"]: ...


class Convolved(nn.Module):
    """A spectrogram whose transform is one strided convolution with its `kernel`: Wave [b t] -> Spec [b 1 f n].

    ONNX runtimes handle a convolution of any length well, and complex transforms badly. Equal to the transform within
    float32 rounding.
    """

    def __init__(self, frontend: Kernelled) -> None:
        super().__init__()
        self.frontend: Any = frontend
        self.register_buffer("kernel", frontend.kernel().flatten(0, 1)[:, None].float(), persistent=False)
        self.kernel: Tensor

    def forward(self, wave: Wave) -> Spec:
        stride, padding = self.frontend.hop_length, self.frontend.padding
        parts = F.conv1d(wave[:, None], self.kernel, stride=stride, padding=padding)
        real, imaginary = parts.chunk(2, dim=1)
        return self.frontend.bands(real.square() + imaginary.square())[:, None]


def fourier(n_fft: int, first: int, count: int) -> Float[Tensor, "2 bins count"]:
    """``cos`` and ``-sin`` of ``2 pi k s / n_fft`` for all bins k and samples s = first, ..., first + count - 1."""
    samples = torch.arange(first, first + count, dtype=torch.float64)
    angle = 2.0 * torch.pi * torch.arange(n_fft // 2 + 1, dtype=torch.float64)[:, None] * samples / n_fft
    return torch.stack([angle.cos(), -angle.sin()])
