"""`Compress`: power to the numbers an encoder sees: a compression, then a normalisation, both saved with the model."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audiorep.errors import AudiorepError
from audiorep.types import Spec


class Log(nn.Module):
    """``ln(power + offset)``. The offset is the noise floor below which nothing matters, in units of power.

    ``offset=None``: fitted to the corpus as `quantile` of the non-zero powers, and kept in the state.
    """

    def __init__(self, offset: float | None = None, quantile: float = 0.02) -> None:
        super().__init__()
        self.quantile = quantile
        self.fitted = offset is None
        self.register_buffer("offset", torch.tensor(1e-8 if offset is None else offset))
        self.offset: Tensor

    def fit(self, power: Spec) -> None:
        """Set the offset from a sample of the corpus."""
        if self.fitted:
            positive = power[power > power.max() * 1e-12].flatten()
            positive = positive[:: max(1, len(positive) // 1_000_000)]
            if len(positive):
                self.offset.fill_(float(positive.float().quantile(self.quantile).clamp_min(1e-12)))

    def forward(self, power: Spec) -> Spec:
        return (power + self.offset).log_()

    def inverse(self, x: Spec) -> Spec:
        """``exp(x) - offset``, at least 0."""
        return (torch.exp(x) - self.offset).clamp_min(0.0)


class Decibel(nn.Module):
    """``10 log10(max(power, floor) / ref)``, with ``floor = ref 10^(-range_db / 10)``: `range_db` dB below `ref`."""

    def __init__(self, ref: float = 1.0, range_db: float = 100.0) -> None:
        super().__init__()
        self.ref, self.range_db = ref, range_db

    def fit(self, power: Spec) -> None:
        """Nothing to fit."""

    def forward(self, power: Spec) -> Spec:
        return 10.0 * torch.log10(power.clamp_min(self.ref * 10.0 ** (-self.range_db / 10.0)) / self.ref)

    def inverse(self, x: Spec) -> Spec:
        """``ref 10^(x / 10)``."""
        return self.ref * 10.0 ** (x / 10.0)


class Pcen(nn.Module):
    """Per-channel energy normalisation ``(E / (eps + M)^gain + bias)^power - bias^power``.

    M is E smoothed in time, ``M[j] = (1 - s) M[j-1] + s E[j]``, with ``s = (sqrt(1 + 4 T^2) - 1) / (2 T^2)`` and
    ``T = time_constant_s / hop_s`` frames; M starts at rest at the first frame (librosa's `zi` scaled by the first frame).
    ``trainable=True`` learns gain, bias, power (per band) in logarithms. Equal to ``librosa.pcen``.

    Source: Wang et al. 2017, arXiv:1607.05666, eq. 1; Lostanlen et al. 2019, doi:10.1109/LSP.2018.2878620.
    """

    def __init__(
        self,
        hop_s: float,
        bands: int = 64,
        gain: float = 0.98,
        bias: float = 2.0,
        power: float = 0.5,
        time_constant_s: float = 0.4,
        eps: float = 1e-6,
        scale: float = 2.0**31,
        trainable: bool = False,
    ) -> None:
        super().__init__()
        frames = time_constant_s / hop_s
        self.smoothing = (math.sqrt(1.0 + 4.0 * frames**2) - 1.0) / (2.0 * frames**2)
        self.eps, self.scale = eps, scale
        initial = torch.log(torch.tensor([gain, bias, power]))[:, None].repeat(1, bands)
        self.log_parameters = nn.Parameter(initial, requires_grad=trainable)

    def fit(self, power: Spec) -> None:
        """Nothing to fit."""

    def smooth(self, energy: Float[Tensor, "b 1 f n"]) -> Float[Tensor, "b 1 f n"]:
        """First-order low-pass along time, started at rest at the first frame's level.

        ``M[j] = (1 - s)^j E[0] + sum_{i=1}^{j} s (1 - s)^(j - i) E[i]``, as one product with a [n, n] matrix.
        """
        frame = torch.arange(energy.shape[3], device=energy.device)
        lag = frame[:, None] - frame[None]
        decay = torch.pow(1.0 - self.smoothing, lag.clamp_min(0).to(energy.dtype))
        weight = torch.where(frame[None] == 0, decay, self.smoothing * decay) * (lag >= 0)
        return energy @ weight.T

    def inverse(self, x: Spec) -> Spec:
        """There is none that could be computed."""
        raise AudiorepError("mixup adds powers, and PCEN cannot be undone: choose compress=log or compress=decibel")

    def forward(self, power: Spec) -> Spec:
        energy = power * self.scale
        gain, bias, root = self.log_parameters.exp()[:, None, :, None].unbind(0)
        level = torch.exp(-gain * torch.log(self.eps + self.smooth(energy)))
        return (energy * level + bias) ** root - bias**root


class Identity(nn.Module):
    """x as it is: no compression, or no normalisation, for encoders that take samples."""

    def fit(self, x: Spec) -> None:
        """Nothing to fit."""

    def forward(self, x: Spec) -> Spec:
        return x

    def inverse(self, x: Spec) -> Spec:
        """x too."""
        return x


class FixedNorm(nn.Module):
    """``(x - mean) / (spread * std)`` with one mean and std of the corpus, fitted before training, saved in the state.

    ``per_band=True`` keeps them per band. `spread` = 2 is Audio-MAE's habit (std of one half).
    """

    def __init__(
        self, bands: int = 1, per_band: bool = False, mean: float = 0.0, std: float = 1.0, spread: float = 1.0
    ):
        super().__init__()
        self.per_band, self.spread = per_band, spread
        shape = (1, 1, bands, 1) if per_band else (1, 1, 1, 1)
        self.register_buffer("mean", torch.full(shape, float(mean)))
        self.register_buffer("std", torch.full(shape, float(std)))
        self.mean: Tensor
        self.std: Tensor

    def fit(self, x: Spec) -> None:
        """Set mean and std from a sample of compressed spectrograms."""
        over = (0, 1, 3) if self.per_band else (0, 1, 2, 3)
        self.mean.copy_(x.mean(over, keepdim=True))
        self.std.copy_(x.std(over, keepdim=True).clamp_min(1e-5))

    def forward(self, x: Spec) -> Spec:
        return (x - self.mean).div_(self.spread * self.std)

    def inverse(self, x: Spec) -> Spec:
        """``x spread std + mean``."""
        return x * (self.spread * self.std) + self.mean


class ClipNorm(nn.Module):
    """``(x - mean) / std`` over each clip by itself."""

    def fit(self, x: Spec) -> None:
        """Nothing to fit."""

    def forward(self, x: Spec) -> Spec:
        mean = x.mean((1, 2, 3), keepdim=True)
        return (x - mean) / ((x - mean).square().mean((1, 2, 3), keepdim=True) + 1e-5).sqrt()

    def inverse(self, x: Spec) -> Spec:
        """There is none: the clip's own level is gone."""
        raise AudiorepError(
            "mixup adds powers, and a clip that is normalised by itself has lost its level: set compress.norm to FixedNorm"
        )


class RunningNorm(nn.Module):
    """`FixedNorm` whose statistics follow the training batches with an exponential average; fixed in evaluation."""

    def __init__(self, momentum: float = 0.01) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1, momentum=momentum, affine=False)

    def fit(self, x: Spec) -> None:
        """Start the averages at a sample's statistics."""
        assert self.norm.running_mean is not None and self.norm.running_var is not None
        self.norm.running_mean.fill_(float(x.mean()))
        self.norm.running_var.fill_(float(x.var()))

    def forward(self, x: Spec) -> Spec:
        return self.norm(x)

    def inverse(self, x: Spec) -> Spec:
        """By the running averages."""
        assert self.norm.running_mean is not None and self.norm.running_var is not None
        return x * (self.norm.running_var + self.norm.eps).sqrt() + self.norm.running_mean


class Compress(nn.Module):
    """Power [b 1 f n] to what the encoder sees: a compression (`Log`, `Decibel`, `Pcen`), then a normalisation."""

    def __init__(self, compression: nn.Module | None = None, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.compression = compression or Log()
        self.norm = norm or FixedNorm()

    @torch.no_grad()
    def fit(self, power: Spec) -> None:
        """Fit offset and statistics to a sample of the corpus; called once before training."""
        fit: Callable[[Tensor], None]
        for part, x in ((self.compression, lambda: power), (self.norm, lambda: self.compression(power))):
            fit = part.fit  # type: ignore[assignment]
            fit(x())

    def forward(self, power: Spec) -> Spec:
        return self.norm(self.compression(power))

    def inverse(self, spec: Spec) -> Spec:
        """What the encoder sees back to power, as far as the compression kept it: for mixing sounds after augmentation.

        Raises:
            AudiorepError: a compression or normalisation that cannot be undone.
        """
        undo_norm: Callable[[Tensor], Tensor] = self.norm.inverse  # type: ignore[assignment]
        undo: Callable[[Tensor], Tensor] = self.compression.inverse  # type: ignore[assignment]
        return undo(undo_norm(spec.float()))

    def check_inverse(self) -> None:
        """Raise what `inverse` would raise."""
        bands = max((buffer.shape[2] for buffer in self.norm.buffers() if buffer.ndim == 4), default=1)
        self.inverse(torch.zeros(1, 1, bands, 1, device=next(self.buffers(), torch.zeros(())).device))
