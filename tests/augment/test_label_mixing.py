"""Mixing windows with their labels: powers add, labels in the same parts, what is not known stays so."""

import math

import pytest
import torch

from audiorep.augment.labels import CutMix, Mixup, Unmixed, beta, partner
from audiorep.compress import ClipNorm, Compress, Decibel, FixedNorm, Identity, Log, Pcen, RunningNorm
from audiorep.errors import AudiorepError
from audiorep.types import generator

COUNT = 6


def power(seed: int = 0, count: int = COUNT) -> torch.Tensor:
    """Powers over eight decades, as those of sounds."""
    return 10.0 ** (8.0 * torch.rand(count, 1, 5, 12, generator=generator(seed)) - 8.0)


def compress(compression: torch.nn.Module | None = None, norm: torch.nn.Module | None = None) -> Compress:
    made = Compress(compression or Log(offset=1e-8), norm or FixedNorm())
    made.fit(power(9))
    return made.eval()


def labels(count: int = COUNT) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.eye(count)[:, None], torch.ones(count, 1, dtype=torch.bool)


COMPRESSIONS = {
    "log": lambda: compress(),
    "fitted log": lambda: compress(Log()),
    "log, each band": lambda: compress(norm=FixedNorm(bands=5, per_band=True, spread=2.0)),
    "decibel": lambda: compress(Decibel()),
    "running": lambda: compress(norm=RunningNorm()),
    "none": lambda: compress(Identity(), Identity()),
}


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_what_is_compressed_comes_back_up_to_the_rounding_of_float32(name):
    made, x = COMPRESSIONS[name](), power()
    made.check_inverse()
    back = made.inverse(made(x))
    offset = float(made.compression.offset) if isinstance(made.compression, Log) else 0.0
    assert float(((back - x).abs() / (x + offset)).max()) < 2e-5
    assert bool((made(x) != x).any()) == (name != "none")


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_mixup_in_power_equals_a_mixture_made_by_hand(name):
    made, x = COMPRESSIONS[name](), power()
    mix, (target, known) = Mixup(0.4), labels()
    mix.prepare(made)
    mixed, soft, still = mix(made(x), target, known, generator(3))
    rng = generator(3)
    lam, other = mix.sample(x, rng), partner(x, rng)
    assert sorted(other.tolist()) == list(range(COUNT)) and not (other == torch.arange(COUNT)).any()
    for i in range(COUNT):
        part, j = float(lam[i]), int(other[i])
        wanted = made(part * x[i : i + 1] + (1.0 - part) * x[j : j + 1])[0]
        torch.testing.assert_close(mixed[i], wanted, rtol=1e-4, atol=1e-4)
        assert soft[i, 0].tolist() == pytest.approx([part * (k == i) + (1 - part) * (k == j) for k in range(COUNT)])
    assert still.all()


def test_without_a_compression_what_is_given_is_mixed_itself():
    mix = Mixup()
    mix.prepare(None)
    a, b, target = power(1), power(2), labels()[0]
    lam = torch.linspace(0.0, 1.0, COUNT)
    mixed, _ = mix.apply(a, target, b, target.flip(0), lam)
    torch.testing.assert_close(mixed, lam.view(-1, 1, 1, 1) * a + (1 - lam).view(-1, 1, 1, 1) * b)
    assert torch.equal(mixed[0], b[0]) and torch.equal(mixed[-1], a[-1])


def test_the_loud_window_masks_the_quiet_one_as_sounds_do():
    made = compress(norm=FixedNorm(mean=0.0, std=1.0))
    mix, loud = Mixup(), torch.full((1, 1, 2, 2), 1.0)
    mix.prepare(made)
    mixed, _ = mix.apply(made(loud), torch.eye(1)[None], made(loud * 1e-8), torch.eye(1)[None], torch.tensor([0.5]))
    assert float(made.inverse(mixed).mean()) == pytest.approx(0.5, rel=1e-4)  # not the geometric mean, 1e-4


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: Compress(Pcen(0.01, bands=5)), "PCEN cannot be undone: choose compress=log or compress=decibel"),
        (lambda: Compress(Log(), ClipNorm()), "set compress.norm to FixedNorm"),
    ],
)
def test_mixup_refuses_what_cannot_be_undone_and_says_the_remedy(made, words):
    with pytest.raises(AudiorepError, match=words):
        Mixup().prepare(made())
    CutMix().prepare(made())  # which does not add powers
    Unmixed().prepare(made())


# ------------------------------------------------------------------------- how much


@pytest.mark.parametrize("alpha", [0.2, 0.75, 4.0])
def test_draws_have_the_mean_and_the_variance_of_the_beta_distribution(alpha):
    lam = beta(alpha, 20_000, generator(0)).double()
    variance = 1.0 / (4.0 * (2.0 * alpha + 1.0))
    assert bool(((lam >= 0) & (lam <= 1)).all())
    assert float(lam.mean()) == pytest.approx(0.5, abs=5 * math.sqrt(variance / 20_000))
    assert float(lam.var()) == pytest.approx(variance, rel=0.05)


def test_nearer_to_the_first_means_at_least_one_half_and_the_other_half_folded_over():
    x = torch.zeros(5000, 1, 1, 1)
    first, plain = Mixup(0.75, first=True).sample(x, generator(1)), Mixup(0.75).sample(x, generator(1))
    assert float(first.min()) >= 0.5 and float(plain.min()) < 0.05
    torch.testing.assert_close(first, torch.maximum(plain, 1 - plain))


def test_a_part_of_the_windows_is_left_as_it_is():
    x = torch.zeros(4000, 1, 1, 1)
    assert float((Mixup(0.4, p=0.3).sample(x, generator(2)) == 1.0).float().mean()) == pytest.approx(0.7, abs=0.04)
    a, (target, known) = power(), labels()
    for mix in (Mixup(p=0.0), CutMix(p=0.0), Unmixed()):
        mixed, soft, still = mix(a, target, known, generator(0))
        torch.testing.assert_close(mixed, a)
        assert torch.equal(soft, target) and torch.equal(still, known)


def test_partners_are_one_step_for_all_and_every_step_comes():
    seen = set()
    for seed in range(40):
        other = partner(torch.zeros(5), generator(seed))
        steps = {int(step) for step in (other - torch.arange(5)) % 5}
        assert len(steps) == 1
        seen |= steps
    assert seen == {1, 2, 3, 4} and partner(torch.zeros(1), generator(0)).tolist() == [0]


# ------------------------------------------------------------------ known and unknown


@pytest.mark.parametrize("mix", [Mixup(0.4, p=0.7), Mixup(0.4, p=0.7, first=True), CutMix(1.0, p=0.7)])
def test_a_mixture_with_something_unknown_is_unknown_and_a_window_left_alone_is_not(mix):
    x, (target, known) = torch.rand(60, 1, 3, 10, generator=generator(0)), labels(60)
    known = torch.arange(60)[:, None] % 3 > 0
    mixed, soft, still = mix(x, target, known, generator(1))
    alone = (soft == target).all(2)[:, 0]
    kept = 0
    for i in range(60):
        j = int(soft[i, 0].masked_fill(torch.arange(60) == i, -1.0).argmax())
        whole = bool(known[i]) and (bool(alone[i]) or bool(known[j]))
        assert bool(still[i]) == whole
        kept += whole
        if alone[i]:
            torch.testing.assert_close(mixed[i], x[i])
    assert 0 < kept < 40 and 0 < int(alone.sum()) < 60


def test_of_several_labels_each_is_known_by_itself():
    target = torch.rand(2, 3, 2, generator=generator(0))
    known = torch.tensor([[True, True, False], [True, False, True]])
    for mix in (Mixup(4.0), CutMix(4.0)):
        still = mix(torch.rand(2, 1, 3, 50, generator=generator(1)), target, known, generator(0))[2]
        assert still.tolist() == [[True, False, False]] * 2


# ---------------------------------------------------------------------------- CutMix


def test_the_part_of_the_label_is_the_part_of_the_frames():
    count, frames = 40, 24
    x = torch.arange(float(count))[:, None, None, None].expand(count, 1, 4, frames)
    mixed, soft, _ = CutMix(1.0, p=0.8)(x, *labels(count), generator(0))
    widths = []
    for i in range(count):
        assert bool((mixed[i] == mixed[i, :, :1]).all())  # all bands alike
        foreign = (mixed[i, 0, 0] != i).nonzero()[:, 0].tolist()
        widths.append(len(foreign))
        assert foreign == list(range(foreign[0], foreign[0] + len(foreign))) if foreign else True
        assert float(soft[i, 0, i]) == pytest.approx(1.0 - len(foreign) / frames)
        for frame in foreign:
            assert float(soft[i, 0, int(mixed[i, 0, 0, frame])]) == pytest.approx(len(foreign) / frames)
    assert 0 in widths and max(widths) > frames / 2 and len(set(widths)) > 8


def test_the_stretch_lies_anywhere():
    x = torch.arange(400.0)[:, None, None, None].expand(400, 1, 1, 10)
    mixed, _, _ = CutMix(4.0)(x, *labels(400), generator(0))
    often = (mixed[:, 0, 0] != x[:, 0, 0]).float().mean(0)
    assert often.min() > 0.1 and often.max() < 0.9
    torch.testing.assert_close(often, often.flip(0), atol=0.15, rtol=0)


@pytest.mark.parametrize("mix", [Mixup(0.4), Mixup(0.75, first=True), CutMix(1.0)])
def test_the_same_seed_gives_the_same_another_another_and_the_input_is_untouched(mix):
    x, (target, known) = power(), labels()
    before = x.clone(), target.clone(), known.clone()
    a, b, c = (mix(x, target, known, generator(seed)) for seed in (5, 5, 6))
    assert all(torch.equal(one, other) for one, other in zip(a, b, strict=True))
    assert not torch.equal(a[0], c[0]) and not torch.equal(a[1], c[1])
    assert all(torch.equal(now, was) for now, was in zip((x, target, known), before, strict=True))


@pytest.mark.parametrize("make", [Mixup, CutMix])
def test_no_mixture_is_drawn_from_an_alpha_of_zero(make):
    with pytest.raises(AudiorepError, match=r"objective\.mix\.alpha=0\.0 must be above 0"):
        make(0.0)
