"""What every augmentation keeps to: deterministic given parameters, batched as single, input untouched, seeds differ."""

import pytest
import torch

from audiorep.augment import base, known, mix, spec, wave
from audiorep.types import generator

WAVES = [wave.Crop(), wave.Gain(), wave.Shift(), wave.ColouredNoise(), wave.BackgroundMix()]
SPECS = [
    spec.TimeMask(count=2), spec.FrequencyMask(), spec.RandomResizeCrop(), spec.Fader(frequency_strength=0.3),
    spec.FrequencyShift(), mix.MixPower(), known.Pitch(), known.Speed(), known.TimeShift(),
]  # fmt: skip


def example(augment: torch.nn.Module) -> torch.Tensor:
    shape = (6, 2000) if augment in WAVES else (6, 1, 32, 48)
    return torch.rand(shape, generator=generator(7)) + 0.1


@pytest.fixture(params=WAVES + SPECS, ids=lambda a: type(a).__name__)
def augment(request):
    if isinstance(request.param, wave.BackgroundMix):
        request.param.fill(torch.randn(4, 5000, generator=generator(3)))
    return request.param


def test_same_parameters_same_output_and_the_input_is_untouched(augment):
    x = example(augment)
    before = x.clone()
    params = augment.sample(x, generator(1))
    assert torch.equal(augment.apply_to(x, **params), augment.apply_to(x, **params))
    assert torch.equal(x, before)


def test_a_tensor_of_our_own_may_be_changed_and_the_result_is_the_same(augment):
    x = example(augment)
    params = augment.sample(x, generator(1))
    wanted = augment.apply_to(x, **params)
    assert wanted.data_ptr() != x.data_ptr()
    assert torch.equal(augment.apply_(x.clone(), **params), wanted)
    for p in (0.4, 1.0):
        augment.p, whole = p, augment.p
        if augment.local or p == 1.0:
            assert torch.equal(augment(x.clone(), generator(2), owned=True), augment(x, generator(2)))
        augment.p = whole


@pytest.mark.parametrize("few_bytes", [1, 20_000, 2**30])
def test_a_few_samples_at_a_time_are_augmented_as_all_at_once(few_bytes, monkeypatch):
    monkeypatch.setattr(base, "CACHED_BYTES", few_bytes)
    for chain, x in ((WAVES[1:4], example(WAVES[1])), (SPECS[:1] + SPECS[3:5], example(SPECS[0]))):
        before = x.clone()
        wanted, rng = x, generator(4)
        for augment in chain:
            wanted = augment(wanted, rng)
        torch.testing.assert_close(base.apply_all(chain, x, generator(4)), wanted)
        assert torch.equal(x, before)
        torch.testing.assert_close(base.apply_all(chain, x.clone(), generator(4), owned=True), wanted)
        assert torch.equal(base.apply_all([], x, generator(4)), x)


def test_what_changes_the_shape_or_looks_at_other_samples_sees_the_whole_batch(monkeypatch):
    monkeypatch.setattr(base, "CACHED_BYTES", 1)
    crop = spec.RandomResizeCrop(output=(0.5, 0.5))
    assert not crop.local and not mix.MixPower.local and not wave.Crop.local
    x = example(SPECS[0])
    assert base.apply_all([mix.MixPower(), crop], x, generator(0)).shape == (6, 1, 16, 24)
    both = base.apply_all([wave.Crop(0.5), wave.Gain()], example(WAVES[0]), generator(0))
    assert both.shape == (6, 1000)


def test_gradients_pass_through_augmentations():
    x = example(SPECS[0]).requires_grad_()
    base.apply_all(
        [spec.TimeMask(), spec.FrequencyShift(p=0.5), spec.Fader()], x.sqrt(), generator(0), owned=True
    ).sum().backward()
    assert x.grad is not None and 0.0 < (x.grad != 0).float().mean() < 1.0


def test_batched_equals_single(augment):
    x = example(augment)
    params = augment.sample(x, generator(1))
    assert all(len(value) == len(x) for value in params.values())
    together = augment.apply_to(x, **params)
    for i in range(len(x)):
        alone = augment.apply_to(x[i : i + 1], **{name: value[i : i + 1] for name, value in params.items()})
        torch.testing.assert_close(alone[0], together[i], rtol=1e-5, atol=1e-5)


def test_every_sample_has_a_draw_of_its_own_and_seeds_differ(augment):
    x = example(augment)
    same = x[:1].expand_as(x).contiguous()
    out = augment(x if isinstance(augment, mix.MixPower) else same, generator(1))
    assert any(not torch.equal(out[0], other) for other in out[1:])
    assert torch.equal(augment(x, generator(5)), augment(x, generator(5)))
    assert not torch.equal(augment(x, generator(5)), augment(x, generator(6)))


def test_probability_leaves_samples_alone():
    x = example(SPECS[0])
    out = spec.Fader(p=0.5)(x.repeat(50, 1, 1, 1), generator(0))
    untouched = (out == x.repeat(50, 1, 1, 1)).flatten(1).all(1).float().mean()
    assert 0.35 < untouched < 0.65


def test_coloured_noise_has_the_snr_and_the_colour_that_were_drawn():
    x = torch.randn(4, 2**15, generator=generator(0))
    augment = wave.ColouredNoise()
    params = augment.sample(x, generator(1))
    noise = augment.apply_to(x, **params) - x
    snr = 10 * torch.log10(x.square().mean(1) / noise.square().mean(1))
    torch.testing.assert_close(snr, params["snr_db"], atol=1e-2, rtol=0)
    spectrum = torch.fft.rfft(noise).abs().square()
    low, high = spectrum[:, 100:200].mean(1), spectrum[:, 6400:12800].mean(1)
    measured = torch.log2(low / high) / 6.0  # six octaves apart
    torch.testing.assert_close(measured, augment.colours[params["colour"]], atol=0.15, rtol=0)


def test_mixing_adds_powers():
    x = torch.rand(4, 1, 8, 8, generator=generator(0))
    augment = mix.MixPower(match=False)
    other = x.roll(1, 0)
    out = augment.apply_to(x, lam=torch.full((4,), 0.3), other=other)
    torch.testing.assert_close(out, 0.7 * x + 0.3 * other)


def test_mixing_never_mixes_a_clip_with_itself():
    x = torch.arange(5.0)[:, None, None, None].expand(5, 1, 2, 2) + 1
    for seed in range(20):
        params = mix.MixPower().sample(x, generator(seed))
        assert (params["other"][:, 0, 0, 0] != x[:, 0, 0, 0]).all()


def test_random_resize_crop_with_the_whole_box_is_the_identity():
    x = torch.randn(3, 1, 20, 30, generator=generator(0))
    whole = {f"{what}_{axis}": torch.full((3,), float(what == "size")) for what in ("size", "centre") for axis in "ft"}
    torch.testing.assert_close(spec.RandomResizeCrop().apply_to(x, **whole), x, atol=1e-5, rtol=1e-5)


def test_masks_cover_what_was_drawn():
    x = torch.ones(4, 1, 10, 40)
    params = {"start": torch.tensor([[0], [5], [39], [10]]), "width": torch.tensor([[3], [0], [1], [30]])}
    masked = (spec.TimeMask().apply_to(x, **params) == 0).sum((1, 2, 3))
    assert masked.tolist() == [30, 0, 10, 300]
