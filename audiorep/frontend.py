"""Front-ends: samples to power, and `Compress`: power to the numbers an encoder sees.

The front-end is part of the model: it is saved and exported with it. It returns *power*, so that mixing augmentations
add powers; `Compress` follows them.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audiorep.errors import AudiorepError
from audiorep.types import Spec, Wave

MelScale = Literal["htk", "slaney"]


def hz_to_mel(hz: Float[Tensor, "*s"], scale: MelScale = "htk") -> Float[Tensor, "*s"]:
    """Frequency in Hz to mel.

    HTK: ``m = 2595 log10(1 + f / 700)`` (O'Shaughnessy 1987). Slaney: linear below 1 kHz with 200/3 Hz a mel, above it
    logarithmic with 27 mels per factor 6.4 (Slaney, Auditory Toolbox, Interval Research TR 1998-010).
    """
    if scale == "htk":
        return 2595.0 * torch.log10(1.0 + hz / 700.0)
    log_part = 15.0 + torch.log(hz.clamp_min(1e-9) / 1000.0) * (27.0 / math.log(6.4))
    return torch.where(hz < 1000.0, hz * (3.0 / 200.0), log_part)


def mel_to_hz(mel: Float[Tensor, "*s"], scale: MelScale = "htk") -> Float[Tensor, "*s"]:
    """Inverse of `hz_to_mel`."""
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    return torch.where(mel < 15.0, mel * (200.0 / 3.0), 1000.0 * torch.exp((mel - 15.0) * (math.log(6.4) / 27.0)))


def mel_filterbank(
    sample_rate_hz: int,
    n_fft: int,
    bands: int,
    f_min_hz: float,
    f_max_hz: float,
    scale: MelScale = "htk",
    norm: Literal["slaney"] | None = None,
) -> Float[Tensor, "f bins"]:
    """Triangular filters [bands, n_fft // 2 + 1] whose corners are equally spaced in mel.

    ``norm="slaney"`` divides each filter by half its width in Hz, so that all have the same area. Equal to
    ``librosa.filters.mel`` (float64 inside, float32 out).
    """
    bins_hz = torch.linspace(0.0, sample_rate_hz / 2, n_fft // 2 + 1, dtype=torch.float64)
    edges = hz_to_mel(torch.tensor([f_min_hz, f_max_hz], dtype=torch.float64), scale)
    corners = mel_to_hz(torch.linspace(float(edges[0]), float(edges[1]), bands + 2, dtype=torch.float64), scale)
    low, centre, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    filters = torch.minimum((bins_hz - low) / (centre - low), (high - bins_hz) / (high - centre)).clamp_min(0.0)
    if norm == "slaney":
        filters = filters * (2.0 / (high - low))
    return filters.float()


def check_band(f_min_hz: float, f_max_hz: float, sample_rate_hz: int) -> None:
    """Refuse a band that is empty or reaches above the Nyquist frequency."""
    if f_max_hz > sample_rate_hz / 2:
        raise AudiorepError(
            f"frontend.f_max_hz={f_max_hz:g} lies above the Nyquist frequency {sample_rate_hz / 2:g} Hz of "
            f"frontend.sample_rate_hz={sample_rate_hz}: lower f_max_hz (null means Nyquist) or raise sample_rate_hz"
        )
    if not 0 <= f_min_hz < f_max_hz:
        raise AudiorepError(f"frontend.f_min_hz={f_min_hz:g} must lie in [0, f_max_hz={f_max_hz:g})")


def fourier(n_fft: int, first: int, count: int) -> Float[Tensor, "2 bins count"]:
    """``cos`` and ``-sin`` of ``2 pi k s / n_fft`` for all bins k and samples s = first, ..., first + count - 1."""
    samples = torch.arange(first, first + count, dtype=torch.float64)
    angle = 2.0 * torch.pi * torch.arange(n_fft // 2 + 1, dtype=torch.float64)[:, None] * samples / n_fft
    return torch.stack([angle.cos(), -angle.sin()])


class Stft(nn.Module):
    """Power spectrogram ``|sum_s w[s] x[s + j hop] exp(-2 pi i k s / n_fft)|^2``: Wave [b t] -> Spec [b 1 f n].

    Args:
        sample_rate_hz: rate of the samples, in Hz.
        win_s: length of the Hann window (periodic), in s; `win_length` overrules it, in samples.
        hop_s: distance of frames, in s; `hop_length` overrules it, in samples.
        n_fft: transform length, in samples; None: the smallest power of two that holds the window.
        center: pad by n_fft // 2 on both sides (zeros), so that frame j is centred on sample ``j hop``.
        f_min_hz, f_max_hz: keep the bins inside this band; None: up to Nyquist.

    Raises:
        AudiorepError: band above Nyquist, n_fft shorter than the window, or a wave shorter than the transform.
    """

    def __init__(
        self,
        sample_rate_hz: int,
        win_s: float = 0.025,
        hop_s: float = 0.01,
        n_fft: int | None = None,
        win_length: int | None = None,
        hop_length: int | None = None,
        center: bool = True,
        f_min_hz: float = 0.0,
        f_max_hz: float | None = None,
    ) -> None:
        super().__init__()
        self.sample_rate_hz = sample_rate_hz
        self.win_length = win_length or max(2, round(win_s * sample_rate_hz))
        self.hop_length = hop_length or max(1, round(hop_s * sample_rate_hz))
        self.hop_s = self.hop_length / sample_rate_hz
        self.n_fft = n_fft or 2 ** math.ceil(math.log2(self.win_length))
        self.center = center
        if self.n_fft < self.win_length:
            raise AudiorepError(
                f"frontend.n_fft={self.n_fft} is shorter than the analysis window of {self.win_length} samples: "
                "raise n_fft or lower win_s"
            )
        f_max_hz = sample_rate_hz / 2 if f_max_hz is None else f_max_hz
        check_band(f_min_hz, f_max_hz, sample_rate_hz)
        bins_hz = torch.linspace(0.0, sample_rate_hz / 2, self.n_fft // 2 + 1, dtype=torch.float64)
        kept = ((bins_hz >= f_min_hz) & (bins_hz <= f_max_hz)).nonzero()[:, 0]
        if not len(kept):
            raise AudiorepError(f"no bin of n_fft={self.n_fft} lies in {f_min_hz:g}-{f_max_hz:g} Hz: raise n_fft")
        self.first_bin, self.last_bin = int(kept[0]), int(kept[-1]) + 1
        self.register_buffer("band_hz", bins_hz[self.first_bin : self.last_bin].float(), persistent=False)
        self.register_buffer("window", torch.hann_window(self.win_length), persistent=False)
        self.band_hz: Tensor
        self.window: Tensor

    def check_length(self, samples: int) -> None:
        """Refuse waves shorter than one transform."""
        if samples < self.n_fft:
            raise AudiorepError(
                f"a window of {samples} samples ({samples / self.sample_rate_hz:g} s at {self.sample_rate_hz} Hz) is "
                f"shorter than n_fft={self.n_fft}: raise window.length_s or lower frontend.n_fft / frontend.win_s"
            )

    def power(self, wave: Wave) -> Float[Tensor, "b bins n"]:
        """All n_fft // 2 + 1 bins of the power spectrogram."""
        self.check_length(wave.shape[1])
        spectrum = torch.stft(
            wave,
            self.n_fft,
            self.hop_length,
            self.win_length,
            self.window.to(wave.dtype),
            center=self.center,
            pad_mode="constant",
            return_complex=True,
        )
        return spectrum.real.square() + spectrum.imag.square()

    def kernel(self) -> Float[Tensor, "2 bins samples"]:
        """Real and imaginary part of one frame's transform as vectors over its samples (float64): for the export."""
        offset = (self.n_fft - self.win_length) // 2  # torch.stft centres a short window in the transform
        kernel = torch.zeros(2, self.n_fft // 2 + 1, self.n_fft, dtype=torch.float64)
        kernel[..., offset : offset + self.win_length] = (
            fourier(self.n_fft, offset, self.win_length) * self.window.double()
        )
        return kernel

    def bands(self, power: Float[Tensor, "b bins n"]) -> Float[Tensor, "b f n"]:
        """From all bins to the bands of this front-end."""
        return power[:, self.first_bin : self.last_bin]

    def forward(self, wave: Wave) -> Spec:
        return self.bands(self.power(wave))[:, None]


class Mel(Stft):
    """Mel power spectrogram: `Stft` times a triangular filterbank; HTK or Slaney scale. Wave [b t] -> Spec [b 1 f n].

    Arguments as `Stft`, and `bands` (number of filters), `scale` and `norm` as `mel_filterbank`. Where n_fft is None it
    is doubled until no filter is empty (a filter narrower than the spacing of the bins would see nothing).
    Equal to ``librosa.feature.melspectrogram(pad_mode="constant")`` and torchaudio's MelSpectrogram within float32
    rounding.
    """

    def __init__(
        self,
        sample_rate_hz: int,
        win_s: float = 0.025,
        hop_s: float = 0.01,
        bands: int = 64,
        f_min_hz: float = 50.0,
        f_max_hz: float | None = None,
        scale: MelScale = "htk",
        norm: Literal["slaney"] | None = None,
        n_fft: int | None = None,
        win_length: int | None = None,
        hop_length: int | None = None,
        center: bool = True,
    ) -> None:
        f_max_hz = sample_rate_hz / 2 if f_max_hz is None else f_max_hz
        check_band(f_min_hz, f_max_hz, sample_rate_hz)
        super().__init__(sample_rate_hz, win_s, hop_s, n_fft, win_length, hop_length, center)
        filters = mel_filterbank(sample_rate_hz, self.n_fft, bands, f_min_hz, f_max_hz, scale, norm)
        while n_fft is None and (filters.sum(1) == 0).any() and self.n_fft < 16 * self.win_length:
            self.n_fft *= 2
            filters = mel_filterbank(sample_rate_hz, self.n_fft, bands, f_min_hz, f_max_hz, scale, norm)
        if (filters.sum(1) == 0).any():
            raise AudiorepError(
                f"{int((filters.sum(1) == 0).sum())} of {bands} mel bands between {f_min_hz:g} and {f_max_hz:g} Hz are "
                f"narrower than the bins of n_fft={self.n_fft}: raise n_fft or lower frontend.bands"
            )
        edges = hz_to_mel(torch.tensor([f_min_hz, f_max_hz], dtype=torch.float64), scale)
        centres = torch.linspace(float(edges[0]), float(edges[1]), bands + 2, dtype=torch.float64)[1:-1]
        self.register_buffer("band_hz", mel_to_hz(centres, scale).float(), persistent=False)
        self.register_buffer("filters", filters, persistent=False)
        self.filters: Tensor

    def bands(self, power: Float[Tensor, "b bins n"]) -> Float[Tensor, "b f n"]:
        return self.filters.to(power.dtype) @ power


class KaldiFbank(Stft):
    """Kaldi's filterbank energies, as Audio-MAE, BEATs and EAT use them; power (take the log with `Compress`).

    Per frame: subtract the mean, pre-emphasis ``x[s] - 0.97 x[s-1]`` (the first sample against itself), symmetric Hann
    (or Povey: Hann^0.85) window, power spectrum, mel triangles computed on the mel axis with the scale
    ``1127 ln(1 + f / 700)``, no padding: n = 1 + (t - win) // hop. Equal to
    ``torchaudio.compliance.kaldi.fbank(dither=0, use_log_fbank=False)`` for samples scaled by `gain`.

    Source: Kaldi, feat/mel-computations.cc; Gong et al. 2021, arXiv:2104.01778, section 2 for 128 bands, 25/10 ms.
    """

    def __init__(
        self,
        sample_rate_hz: int = 16_000,
        win_s: float = 0.025,
        hop_s: float = 0.01,
        bands: int = 128,
        f_min_hz: float = 20.0,
        f_max_hz: float | None = None,
        window: Literal["hanning", "povey"] = "hanning",
        preemphasis: float = 0.97,
        gain: float = 1.0,
    ) -> None:
        win_length = int(win_s * sample_rate_hz)  # Kaldi truncates
        hop_length = int(hop_s * sample_rate_hz)
        super().__init__(sample_rate_hz, win_length=win_length, hop_length=hop_length, center=False)
        f_max_hz = sample_rate_hz / 2 if f_max_hz is None else f_max_hz
        check_band(f_min_hz, f_max_hz, sample_rate_hz)
        self.preemphasis, self.gain = preemphasis, gain
        hann = torch.hann_window(win_length, periodic=False)
        self.window = hann if window == "hanning" else hann.pow(0.85)

        def mel(hz: Tensor) -> Tensor:
            return 1127.0 * torch.log1p(hz / 700.0)

        edges = mel(torch.tensor([f_min_hz, f_max_hz], dtype=torch.float64))
        corners = torch.linspace(float(edges[0]), float(edges[1]), bands + 2, dtype=torch.float64)
        bins = mel(torch.linspace(0.0, sample_rate_hz / 2, self.n_fft // 2 + 1, dtype=torch.float64))
        low, centre, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
        filters = torch.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)).clamp_min(0.0)
        filters[:, -1] = 0.0  # Kaldi leaves the Nyquist bin out
        self.register_buffer("filters", filters.float(), persistent=False)
        self.register_buffer("band_hz", (700.0 * torch.expm1(corners[1:-1] / 1127.0)).float(), persistent=False)
        self.filters: Tensor

    def power(self, wave: Wave) -> Float[Tensor, "b bins n"]:
        self.check_length(wave.shape[1])
        frames = (wave * self.gain).unfold(1, self.win_length, self.hop_length)
        frames = frames - frames.mean(2, keepdim=True)
        previous = torch.cat([frames[..., :1], frames[..., :-1]], 2)
        frames = (frames - self.preemphasis * previous) * self.window
        spectrum = torch.fft.rfft(frames, self.n_fft)
        return (spectrum.real.square() + spectrum.imag.square()).transpose(1, 2)

    def kernel(self) -> Float[Tensor, "2 bins samples"]:
        """As `Stft.kernel`; mean removal, pre-emphasis and gain are linear in a frame and fold into it."""
        identity = torch.eye(self.win_length, dtype=torch.float64)
        previous = torch.cat([identity[:1], identity[:-1]])
        frame = (identity - self.preemphasis * previous) @ (identity - 1.0 / self.win_length) * self.gain
        return fourier(self.n_fft, 0, self.win_length) * self.window.double() @ frame

    def check_length(self, samples: int) -> None:
        if samples < self.win_length:
            super().check_length(samples)

    def bands(self, power: Float[Tensor, "b bins n"]) -> Float[Tensor, "b f n"]:
        return self.filters.to(power.dtype) @ power


FrontEnd = Stft
"""Every front-end is an `Stft` with bands of its own."""


# ---------------------------------------------------------------- compression


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
        return torch.log(power + self.offset)


class Decibel(nn.Module):
    """``10 log10(max(power, floor) / ref)``, with ``floor = ref 10^(-range_db / 10)``: `range_db` dB below `ref`."""

    def __init__(self, ref: float = 1.0, range_db: float = 100.0) -> None:
        super().__init__()
        self.ref, self.range_db = ref, range_db

    def fit(self, power: Spec) -> None:
        """Nothing to fit."""

    def forward(self, power: Spec) -> Spec:
        return 10.0 * torch.log10(power.clamp_min(self.ref * 10.0 ** (-self.range_db / 10.0)) / self.ref)


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
        """First-order low-pass along time, started at rest at the first frame's level."""
        smoothed = [energy[..., 0]]
        for frame in energy.unbind(-1)[1:]:
            smoothed.append(torch.lerp(smoothed[-1], frame, self.smoothing))
        return torch.stack(smoothed, -1)

    def forward(self, power: Spec) -> Spec:
        energy = power * self.scale
        gain, bias, root = self.log_parameters.exp()[:, None, :, None].unbind(0)
        level = torch.exp(-gain * torch.log(self.eps + self.smooth(energy)))
        return (energy * level + bias) ** root - bias**root


# -------------------------------------------------------------- normalisation


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
        return (x - self.mean) / (self.spread * self.std)


class ClipNorm(nn.Module):
    """``(x - mean) / std`` over each clip by itself."""

    def fit(self, x: Spec) -> None:
        """Nothing to fit."""

    def forward(self, x: Spec) -> Spec:
        mean = x.mean((1, 2, 3), keepdim=True)
        return (x - mean) / ((x - mean).square().mean((1, 2, 3), keepdim=True) + 1e-5).sqrt()


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
