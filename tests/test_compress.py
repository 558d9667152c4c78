"""Compression and normalisation equal librosa and their formulas, and survive saving."""

import librosa
import numpy as np
import pytest
import scipy.signal
import torch

from audiorep.compress import ClipNorm, Compress, Decibel, FixedNorm, Log, Pcen, RunningNorm
from audiorep.frontend import Mel


@pytest.fixture
def wave() -> torch.Tensor:
    return torch.randn(3, 16000, generator=torch.Generator().manual_seed(0)) * 0.1


def test_pcen_equals_librosa(wave):
    power = Mel(16000, n_fft=512, win_length=400, hop_length=160)(wave)
    pcen = Pcen(hop_s=0.01)
    energy = power.double().numpy() * 2**31
    start = scipy.signal.lfilter_zi([pcen.smoothing], [1, pcen.smoothing - 1]) * energy[..., :1]
    theirs = librosa.pcen(energy, sr=16000, hop_length=160, zi=start)
    np.testing.assert_allclose(pcen(power).detach().numpy(), theirs, rtol=1e-4, atol=1e-4)


def test_training_moves_trainable_pcen(tmp_path):
    from toy import Rows, objective_of, views_of, waves

    from audiorep.data.loader import StepSampler
    from audiorep.learner import Learner

    views = views_of(waves(8))
    views.compress.compression = Pcen(hop_s=0.012, bands=32, trainable=True)
    sampler = StepSampler(Rows([1] * 8), 8, 1, seed=0)
    learner = Learner(objective_of("simclr"), views, lambda groups: torch.optim.AdamW(groups), sampler)
    assert any(p is views.compress.compression.log_parameters for p in learner.groups["main"])
    rng = torch.Generator().manual_seed(0)
    sum(learner.objective(views(waves(8), rng), {}, rng).values()).backward()
    assert views.compress.compression.log_parameters.grad.abs().sum() > 0


def test_trainable_pcen_has_gradients_and_the_fixed_one_none(wave):
    power = Mel(16000)(wave)
    pcen = Pcen(hop_s=0.01, trainable=True)
    pcen(power).square().sum().backward()
    assert pcen.log_parameters.grad is not None and (pcen.log_parameters.grad.abs().sum(1) > 0).all()
    assert not Pcen(hop_s=0.01).log_parameters.requires_grad


def test_decibel_equals_librosa(wave):
    power = Mel(16000)(wave)
    theirs = librosa.power_to_db(power.numpy(), ref=1.0, amin=1e-10, top_db=None)
    np.testing.assert_allclose(Decibel(range_db=100.0)(power).numpy(), theirs, atol=1e-3)


@pytest.mark.parametrize("norm", [FixedNorm(), FixedNorm(bands=64, per_band=True), RunningNorm(), ClipNorm()])
@pytest.mark.parametrize("compression", [Log(), Decibel(), Pcen(hop_s=0.01)])
def test_compress_gives_zero_mean_unit_deviation_and_survives_saving(wave, norm, compression):
    power = Mel(16000)(wave)
    compress = Compress(compression, norm)
    compress.fit(power)
    compress.eval()
    out = compress(power)
    assert abs(float(out.mean())) < 0.05 and 0.9 < float(out.std()) < 1.1
    again = Compress(type(compression)(**({"hop_s": 0.01} if isinstance(compression, Pcen) else {})), norm)
    again.load_state_dict(compress.state_dict())
    assert torch.equal(again.eval()(power), out)


def test_log_offset_is_the_corpus_noise_floor(wave):
    power = Mel(16000)(wave)
    log = Log(quantile=0.1)
    log.fit(power)
    assert 0.05 < float((power < log.offset).float().mean()) < 0.15
