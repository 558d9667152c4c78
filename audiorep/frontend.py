"""Front-ends: samples to power.

The front-end is part of the model: it is saved and exported with it. It returns *power*, so that mixing augmentations
add powers; `audiorep.compress.Compress` follows them.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from audiorep.convolved import Convolved, fourier
from audiorep.errors import AudiorepError
from audiorep.mel import hz_to_mel, mel_filterbank, mel_to_hz, triangles
from audiorep.spectra import Part, in_cache, parts_of, suits
from audiorep.types import Spec, Wave


def one_of(name: str, value: str | None, choices: Sequence[str | None]) -> None:
    """Refuse a value that is not among the choices, by the name of its key."""
    if value not in choices:
        raise AudiorepError(f"{name}={value}: say one of {', '.join('null' if c is None else c for c in choices)}")


def check_band(f_min_hz: float, f_max_hz: float, sample_rate_hz: int) -> None:
    """Refuse a band that is empty or reaches above the Nyquist frequency."""
    if f_max_hz > sample_rate_hz / 2:
        raise AudiorepError(
            f"frontend.f_max_hz={f_max_hz:g} lies above the Nyquist frequency {sample_rate_hz / 2:g} Hz of "
            f"frontend.sample_rate_hz={sample_rate_hz}: lower f_max_hz (null means Nyquist) or raise sample_rate_hz"
        )
    if not 0 <= f_min_hz < f_max_hz:
        raise AudiorepError(f"frontend.f_min_hz={f_min_hz:g} must lie in [0, f_max_hz={f_max_hz:g})")


class FrontEnd(nn.Module):
    """Wave [b t] to what `Compress` and the encoder take: Spec [b 1 f n].

    sample_rate_hz: rate of the samples, in Hz.
    gives_samples: whether what comes out are samples instead of power by band and frame.
    hop_samples: from the middle of one frame to that of the next; 0: there are no frames.
    """

    sample_rate_hz: int
    gives_samples: bool = False
    hop_samples: int = 0

    @property
    def shortest(self) -> int:
        """Samples of the shortest wave."""
        raise NotImplementedError

    @property
    def shown(self) -> "Stft":
        """The spectrogram that reports draw and the mel baseline of the evaluation measures."""
        raise NotImplementedError

    def picture(self, seen: Spec) -> Float[Tensor, "b 1 bands frames"]:
        """What the encoder sees, as that spectrogram."""
        return seen

    def check_length(self, samples: int) -> None:
        """Refuse windows that are too short to train and evaluate on."""
        raise NotImplementedError

    def exported(self) -> nn.Module:
        """The same function in operations that ONNX runtimes do well."""
        return self


class Stft(FrontEnd):
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
        self.hop_samples = self.hop_length if center else 0  # else the first frame is not centred on the first sample
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

    @property
    def shortest(self) -> int:
        return self.n_fft

    @property
    def shown(self) -> "Stft":
        return self

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

    def exported(self) -> nn.Module:
        return Convolved(self)

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

    @property
    def band_count(self) -> int:
        """f, the bands of what comes out."""
        return len(self.band_hz)

    @property
    def padding(self) -> int:
        """Zeros before and after a wave, in samples."""
        return self.n_fft // 2 if self.center else 0

    @property
    def frame_length(self) -> int:
        """Samples that a frame is cut with, for `write_frames`."""
        return self.n_fft

    def write_frames(self, cut: Float[Tensor, "k n frame"], out: Float[Tensor, "k n n_fft"]) -> None:
        """Frames as they are cut from a wave, made ready for the transform."""
        before = (self.n_fft - self.win_length) // 2  # torch.stft centres a short window in the transform
        torch.mul(cut, F.pad(self.window, (before, self.n_fft - self.win_length - before)), out=out)

    def write_bands(self, power: Float[Tensor, "m bins"], out: Float[Tensor, "f m"]) -> None:
        """`bands`, into a tensor that is there."""
        out.copy_(power[:, self.first_bin : self.last_bin].T)

    def forward(self, wave: Wave) -> Spec:
        self.check_length(wave.shape[1])
        if suits(wave, self.window):
            return in_cache(self, wave)[:, None]
        return self.bands(self.power(wave))[:, None]


class Filtered(Stft):
    """A power spectrogram times `filters` [f, bins]: what `Mel` and `KaldiFbank` have in common."""

    filters: Tensor
    parts: list[Part]

    def set_filters(self, filters: Float[Tensor, "f bins"], centres_hz: Float[Tensor, " f"]) -> None:
        """Take the filters and the frequency that each stands for."""
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("band_hz", centres_hz.float(), persistent=False)
        self.parts = parts_of(filters)

    def bands(self, power: Float[Tensor, "b bins n"]) -> Float[Tensor, "b f n"]:
        return self.filters.to(power.dtype) @ power

    def write_bands(self, power: Float[Tensor, "m bins"], out: Float[Tensor, "f m"]) -> None:
        for part in self.parts:
            torch.mm(part.weights, power[:, part.bins].T, out=out[part.bands])


class Mel(Filtered):
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
        scale: str = "htk",
        norm: str | None = None,
        n_fft: int | None = None,
        win_length: int | None = None,
        hop_length: int | None = None,
        center: bool = True,
    ) -> None:
        one_of("frontend.scale", scale, ("htk", "slaney"))
        one_of("frontend.norm", norm, (None, "slaney"))
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
        self.set_filters(filters, mel_to_hz(centres, scale))


class KaldiFbank(Filtered):
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
        window: str = "hanning",
        preemphasis: float = 0.97,
        gain: float = 1.0,
    ) -> None:
        one_of("frontend.window", window, ("hanning", "povey"))
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
        filters = triangles(bins, corners)
        filters[:, -1] = 0.0  # Kaldi leaves the Nyquist bin out
        self.set_filters(filters.float(), 700.0 * torch.expm1(corners[1:-1] / 1127.0))

    @property
    def frame_length(self) -> int:
        return self.win_length

    def write_frames(self, cut: Float[Tensor, "k n frame"], out: Float[Tensor, "k n n_fft"]) -> None:
        frames = (cut - cut.mean(2, keepdim=True)).mul_(self.gain)
        ready = out[..., : self.win_length]
        torch.sub(frames[..., 1:], frames[..., :-1], alpha=self.preemphasis, out=ready[..., 1:])
        torch.mul(frames[..., :1], 1.0 - self.preemphasis, out=ready[..., :1])
        ready.mul_(self.window)
        out[..., self.win_length :].zero_()

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
