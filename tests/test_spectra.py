"""Piece by piece in small buffers a front-end gives what it gives for the whole batch at once."""

import pytest
import torch

from audiorep import spectra
from audiorep.frontend import KaldiFbank, Mel, Stft
from audiorep.types import generator

FRONTENDS = [
    Stft(16000, win_length=400, n_fft=512, hop_length=160, f_min_hz=500.0, f_max_hz=5000.0),
    Stft(8000, win_length=200, hop_length=77, center=False),
    Mel(16000),
    Mel(32000, n_fft=1024, win_length=1024, hop_length=320, bands=128),
    Mel(16000, bands=1, n_fft=512),
    Mel(16000, center=False, scale="slaney", norm="slaney"),
    KaldiFbank(),
    KaldiFbank(window="povey", gain=2.0**15, preemphasis=0.9, bands=200),  # some of them empty
]


def name(frontend: Stft) -> str:
    return f"{type(frontend).__name__}-{frontend.band_count}"


@pytest.fixture(params=FRONTENDS, ids=name)
def frontend(request) -> Stft:
    return request.param


@pytest.mark.parametrize("cached", [1, 3 * 512, 100 * 512, 2**19])
@pytest.mark.parametrize("samples", [1024, 16001])
@pytest.mark.parametrize("clips", [0, 1, 5])
def test_it_is_the_plain_spectrogram_whatever_the_pieces(frontend, cached, samples, clips, monkeypatch):
    monkeypatch.setattr(spectra, "CACHED_SAMPLES", cached)
    wave = torch.randn(clips, samples, generator=generator(1)) * 0.1
    before = wave.clone()
    if not clips:
        assert frontend(wave).shape == (0, 1, frontend.band_count, frontend(torch.ones(1, samples)).shape[3])
        return
    plain = frontend.bands(frontend.power(wave))[:, None]
    torch.testing.assert_close(frontend(wave), plain, rtol=1e-4, atol=1e-6 * float(plain.max()))
    assert torch.equal(wave, before)


def test_a_wave_that_lies_apart_in_memory_is_read_right(frontend):
    wave = torch.randn(4000, 6, generator=generator(1)).T
    plain = frontend(wave.contiguous())
    torch.testing.assert_close(frontend(wave), plain, rtol=1e-4, atol=1e-6 * float(plain.max()))


def test_gradients_and_float64_take_the_plain_way(frontend):
    wave = torch.randn(2, 4000, generator=generator(1), requires_grad=True)
    made = frontend(wave)
    assert made.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(frontend(wave), made, rtol=1e-4, atol=1e-6 * float(made.max()))
    assert not spectra.suits(wave.detach().double(), frontend.window)
    assert spectra.suits(wave.detach(), frontend.window)


@pytest.mark.parametrize("span", [1, 8, 64, 10_000])
def test_parts_hold_every_filter_once_and_whole(span):
    filters = Mel(32000, n_fft=1024, win_length=1024, hop_length=320, bands=128).filters
    parts = spectra.parts_of(filters, span)
    whole = torch.zeros_like(filters)
    for part in parts:
        whole[part.bands, part.bins] += part.weights
        assert part.weights.shape[0] == 1 or part.weights.shape[1] <= span
    assert torch.equal(whole, filters)
    assert len(parts) == {1: 128, 10_000: 1}.get(span, len(parts))
