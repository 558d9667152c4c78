"""Front-ends equal librosa and torchaudio."""

import librosa
import numpy as np
import pytest
import torch

from audiorep.errors import AudiorepError
from audiorep.frontend import KaldiFbank, Mel, Stft
from audiorep.frontend_wave import Waveform
from audiorep.torchaudio import torchaudio


@pytest.fixture
def wave() -> torch.Tensor:
    return torch.randn(3, 16000, generator=torch.Generator().manual_seed(0)) * 0.1


@pytest.mark.parametrize("win_length,n_fft,hop", [(400, 512, 160), (512, 512, 128), (300, 1024, 77)])
def test_stft_equals_librosa_in_float64(wave, win_length, n_fft, hop):
    ours = Stft(16000, n_fft=n_fft, win_length=win_length, hop_length=hop)
    ours.window = torch.hann_window(win_length, dtype=torch.float64)
    theirs = librosa.stft(
        wave.double().numpy(), n_fft=n_fft, hop_length=hop, win_length=win_length, pad_mode="constant"
    )
    np.testing.assert_allclose(ours(wave.double())[:, 0].numpy(), np.abs(theirs) ** 2, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("scale,norm", [("htk", None), ("slaney", "slaney"), ("slaney", None)])
@pytest.mark.parametrize("rate", [8000, 48000, 384000])
def test_mel_equals_librosa(wave, scale, norm, rate):
    high = 0.45 * rate
    ours = Mel(rate, n_fft=1024, win_length=800, hop_length=160, bands=32, f_min_hz=rate / 50, f_max_hz=high,
               scale=scale, norm=norm)  # fmt: skip
    theirs = librosa.feature.melspectrogram(
        y=wave.numpy(), sr=rate, n_fft=1024, win_length=800, hop_length=160, n_mels=32, fmin=rate / 50, fmax=high,
        htk=scale == "htk", norm=norm, pad_mode="constant",
    )  # fmt: skip
    np.testing.assert_allclose(ours(wave)[:, 0].numpy(), theirs, rtol=2e-4, atol=1e-6 * theirs.max())


def test_mel_equals_torchaudio(wave):
    theirs = torchaudio.transforms.MelSpectrogram(
        16000, n_fft=1024, win_length=640, hop_length=160, f_min=60, f_max=7800, n_mels=64, pad_mode="constant"
    )(wave)
    ours = Mel(16000, n_fft=1024, win_length=640, hop_length=160, f_min_hz=60, f_max_hz=7800)(wave)[:, 0]
    torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=float(1e-6 * theirs.max()))


@pytest.mark.parametrize("window", ["hanning", "povey"])
def test_kaldi_fbank_equals_torchaudio(wave, window):
    theirs = torchaudio.compliance.kaldi.fbank(
        wave[:1], num_mel_bins=128, dither=0.0, use_log_fbank=False, window_type=window, sample_frequency=16000
    )
    ours = KaldiFbank(window=window)(wave[:1])[0, 0].T
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=float(2e-5 * theirs.max()))


def test_a_pure_tone_lands_in_its_band():
    for rate in (8000, 384000):
        mel = Mel(rate, hop_s=0.002 if rate < 100000 else 0.0005, win_s=0.03 if rate < 100000 else 0.002)
        hz = rate / 9
        wave = torch.sin(2 * torch.pi * hz * torch.arange(rate // 4) / rate)[None]
        band = int(mel(wave)[0, 0].mean(1).argmax())
        spacing = mel.band_hz[band + 1] - mel.band_hz[band - 1]
        assert abs(float(mel.band_hz[band]) - hz) < spacing


def test_a_stft_of_a_band_keeps_only_that_band():
    front = Stft(16000, win_s=0.032, f_min_hz=1000, f_max_hz=4000)
    assert front.band_hz.min() >= 1000 and front.band_hz.max() <= 4000
    assert front(torch.randn(1, 4000)).shape[2] == len(front.band_hz)


def test_waveform_leaves_the_samples_and_shows_their_mel_spectrogram_in_decibel(wave):
    front = Waveform(16000, hop_s=0.008)
    seen = front(wave)
    assert torch.equal(seen[:, 0, 0], wave) and front.exported()(wave).data_ptr() == wave.data_ptr()
    power = Mel(16000, win_s=0.032, hop_s=0.008)(wave)
    torch.testing.assert_close(front.picture(seen), 10 * torch.log10(power.clamp_min(1e-10)))
    assert front.picture(seen).shape[2] == len(front.shown.band_hz) == 64 and front.shown.hop_length == 128
    assert front.shortest == 1 and not front.state_dict()


def test_a_spectrogram_shows_itself(wave):
    front = Mel(16000)
    seen = front(wave).log()
    assert front.shown is front and front.picture(seen) is seen and front.shortest == front.n_fft


@pytest.mark.parametrize(
    "make,words",
    [
        (lambda: Mel(16000, f_max_hz=9000.0), "Nyquist"),
        (lambda: Mel(16000, f_min_hz=5000.0, f_max_hz=4000.0), "f_min_hz"),
        (lambda: Stft(16000, win_length=512, n_fft=256), "n_fft"),
        (lambda: Mel(16000, bands=200, n_fft=512), "bands"),
        (lambda: Stft(16000, win_length=512)(torch.zeros(1, 100)), "shorter than n_fft"),
        (lambda: Waveform(16000).check_length(100), "raise window.length_s or lower frontend.hop_s"),
    ],
)
def test_impossible_settings_get_a_clear_error(make, words):
    with pytest.raises(AudiorepError, match=words):
        make()
