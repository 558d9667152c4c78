"""Autoencoders, VAEs, inpainting, band colourisation: formulas against loops and other libraries, and what each must show."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from small import batch, build, views
from toy import views_of, waves

from audiorep.augment.pretext import UpperBand
from audiorep.augment.spec import Cutout, Fader, TimeMask
from audiorep.augment.wave import ColouredNoise
from audiorep.decoders import ConvDecoder
from audiorep.distributed import randn
from audiorep.encoders.base import Encoder
from audiorep.encoders.cnn import SmallCnn
from audiorep.encoders.vit import Vit
from audiorep.errors import AudiorepError
from audiorep.latents import Gaussian, Point, divergence
from audiorep.losses.contrast import NtXent
from audiorep.objectives.base import Setting
from audiorep.objectives.reconstruct import Reconstruction, Tally, active_units, hidden_by, in_time
from audiorep.types import Features, generator
from audiorep.views import Branch, Views

HIDES = {"boxes": Cutout(count=2), "boxes of ones": Cutout(value=1.0), "upper band": UpperBand(0.5)}


def small_one(latent=None, encoder=None, **parts) -> Reconstruction:
    """A small convolutional one."""
    decoder = partial(ConvDecoder, channels=(32, 16, 8))
    return Reconstruction(encoder or SmallCnn(width=8, dim=64), latent or partial(Point, dim=32), decoder, **parts)


def trained(objective: Reconstruction, made: Views, data: torch.Tensor, steps: int, seed: int = 0) -> Reconstruction:
    """Train on some windows and return it ready for evaluation."""
    optimizer = torch.optim.AdamW(objective.parameter_groups()["main"], lr=3e-3)
    for step in range(steps):
        rng = generator(seed, step)
        rows = torch.randperm(len(data), generator=rng)[:32]
        terms = objective(made(data[rows], rng), {}, rng)
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
    return objective.eval()


# ------------------------------------------------------------------- latents


def test_the_kl_equals_the_closed_form():
    mean, log_variance = torch.randn(2, 5, 7, generator=generator(0)).unbind(0)
    ours = divergence(mean, log_variance)
    normal = torch.distributions.Normal(mean.double(), (0.5 * log_variance.double()).exp())
    standard = torch.distributions.Normal(torch.zeros(7).double(), 1.0)
    theirs = torch.distributions.kl_divergence(normal, standard).sum(1)
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-5)
    for i in range(5):
        total = 0.0
        for j in range(7):
            mu, variance = float(mean[i, j]), float(np.exp(float(log_variance[i, j])))
            total += 0.5 * (mu**2 + variance - np.log(variance) - 1.0)
        assert abs(float(ours[i]) - total) < 1e-5


def test_a_gaussian_is_drawn_in_training_and_its_mean_in_evaluation():
    torch.manual_seed(0)
    latent = Gaussian(6, dim=3)
    x = torch.randn(1, 6).expand(20000, -1)
    code = latent(x, generator(0))
    torch.testing.assert_close(code.drawn.mean(0), code.mean[0], atol=0.03, rtol=0)
    torch.testing.assert_close(code.drawn.std(0), (0.5 * latent.log_variance(x[0])).exp(), atol=0.03, rtol=0.02)
    assert torch.equal(latent(x, generator(0)).drawn, code.drawn)
    assert not torch.equal(latent(x, generator(1)).drawn, code.drawn)
    still = latent.eval()(x, generator(1))
    assert torch.equal(still.drawn, still.mean) and torch.equal(still.kl, code.kl)


def test_normal_draws_alone_are_those_of_torch():
    assert torch.equal(randn(6, 2, rng=generator(1), device="cpu"), torch.randn(6, 2, generator=generator(1)))


def test_with_beta_one_the_loss_is_the_evidence_lower_bound_per_cell():
    torch.manual_seed(0)
    objective = small_one(partial(Gaussian, dim=8, beta=1.0)).eval()
    spec = torch.randn(4, 1, 16, 24)
    terms = objective({"global": [spec]}, {}, generator(0))
    code = objective.encode(spec, generator(0))
    likelihood = torch.distributions.Normal(objective.decode(code, spec), 1.0).log_prob(spec).sum((1, 2, 3))
    constant = 0.5 * np.log(2 * np.pi) * 16 * 24
    bound = (likelihood + constant - code.kl).mean()
    torch.testing.assert_close(sum(terms.values()), -2.0 * bound / (16 * 24), rtol=1e-4, atol=1e-5)
    heavy = small_one(partial(Gaussian, dim=8, beta=5.0)).eval()
    heavy.load_state_dict(objective.state_dict())
    torch.testing.assert_close(heavy({"global": [spec]}, {}, generator(0))["kl"], 5.0 * terms["kl"])


def test_active_units_vary_with_what_is_heard():
    mean = torch.zeros(100, 3)
    mean[:, 1] = 0.05 * torch.randn(100, generator=generator(0))
    mean[:, 2] = 0.5 * torch.randn(100, generator=generator(1))
    assert active_units(mean) == 1 and active_units(4.0 * mean) == 2


# ------------------------------------------------------ what is said, and of what


def test_the_error_equals_a_loop_over_the_hidden_cells_which_nobody_saw():
    for name, hide in HIDES.items():
        torch.manual_seed(0)
        objective = small_one(hide=hide).eval()
        spec = torch.randn(3, 1, 16, 24)
        loss = objective({"global": [spec]}, {}, generator(2))["reconstruction"]
        seen, hidden = objective.conceal(spec, generator(2))
        assert torch.equal(seen[~hidden], spec[~hidden]) and (seen[hidden] == hide.value).all(), name
        predicted = objective.decode(objective.encode(seen, generator(2)), spec)
        total = 0.0
        for i in range(3):
            errors = []
            for f, n in hidden[i, 0].nonzero().tolist():
                errors.append((float(predicted[i, 0, f, n]) - float(spec[i, 0, f, n])) ** 2)
            total += sum(errors) / len(errors) / 3
        assert abs(float(loss) - total) < 1e-5, name
        changed = torch.where(hidden, 9.0, spec)
        assert torch.equal(objective.conceal(changed, generator(2))[0], seen), name


def test_boxes_differ_between_samples_and_the_upper_band_does_not():
    spec = torch.zeros(8, 1, 16, 24)
    for name, hide in HIDES.items():
        hidden = hidden_by(hide, hide.sample(spec, generator(0)), spec)
        same = all(torch.equal(hidden[0], other) for other in hidden)
        assert same == (name == "upper band"), name
    assert hidden[:, :, 8:].all() and not hidden[:, :, :8].any()


@pytest.mark.parametrize(
    ("hide", "said"),
    [
        (Fader(), "hides nothing"),
        (TimeMask(fraction=0.0), "hides nothing"),
        (TimeMask(), "hides nothing of some samples"),
        (Cutout(frequency=(1.0, 1.0), time=(1.0, 1.0)), "whole samples"),
        (Cutout(p=0.5), "hide.p=0.5"),
    ],
)
def test_a_hide_that_hides_nothing_or_everything_is_refused(hide, said):
    with pytest.raises(AudiorepError, match=said):
        small_one(hide=hide)


def test_refusals_name_the_key():
    with pytest.raises(AudiorepError, match=r"latent\.beta=-1"):
        Gaussian(4, beta=-1.0)
    with pytest.raises(AudiorepError, match=r"objective\.segments=0"):
        small_one(segments=0)
    setting = Setting(64, 16, {"global": 1})
    with pytest.raises(AudiorepError, match="2 view"):
        small_one(contrast=NtXent()).prepare(setting)
    with pytest.raises(AudiorepError, match="'clean'"):
        small_one(target_view="clean").prepare(setting)
    small_one().prepare(setting)


def test_a_noisy_view_is_held_against_the_clean_one():
    objective, made = build("denoising_autoencoder").eval(), views(0)
    code = objective.encode(made["noisy"][0], generator(0))
    wanted = (objective.decode(code, made["clean"][0]) - made["clean"][0]).square().mean()
    torch.testing.assert_close(objective(made, batch(), generator(0))["reconstruction"], wanted)


def test_noisy_and_clean_views_are_aligned():
    views_made = views_of(waves(8))
    made = Views(
        {"clean": Branch(), "noisy": Branch(wave=[ColouredNoise(40.0, 40.0)])}, views_made.frontend, views_made.compress
    )(waves(8), generator(0))
    clean, noisy = made["clean"][0], made["noisy"][0]
    loud = clean > clean.quantile(0.95)
    assert clean.shape == noisy.shape and (clean - noisy)[loud].abs().mean() < 0.05


def test_codes_that_are_drawn_of_both_views_are_contrasted():
    objective, made, rng = build("cr_vae"), views(0), generator(0)
    terms = objective(made, batch(), generator(0))
    codes = [objective.encode(spec, rng) for spec in made["global"]]
    wanted = objective.contrast_weight * objective.contrast(*(code.drawn for code in codes))["contrast"]
    torch.testing.assert_close(terms["contrast"], wanted)
    assert all((code.drawn - code.mean).std() > 0.1 for code in codes)
    assert set(terms) == {"reconstruction", "kl", "contrast"}


# ------------------------------------------------------------ code and decoder


@pytest.mark.parametrize("size", [(64, 96), (32, 50), (7, 3), (1, 1)])
def test_the_decoder_makes_any_number_of_bands_and_frames(size):
    assert ConvDecoder(5)(torch.randn(3, 5), *size).shape == (3, 1, *size)


class Blind(Encoder):
    """Tokens are frames, and what is pooled does not know their order."""

    dim = 16

    def forward(self, spec, *, keep=None, mask=None):
        tokens = spec[:, 0].transpose(1, 2)
        return Features(tokens.mean(1), tokens)


def test_the_few_numbers_of_each_stretch_tell_when_a_sound_came():
    spec = torch.randn(4, 1, 16, 24, generator=generator(0))
    for order, same in ((0, True), (2, False)):
        torch.manual_seed(0)
        objective = small_one(encoder=Blind(), order=order).eval()
        there, back = (objective.encode(x, generator(0)).mean for x in (spec, spec.flip(3)))
        assert torch.allclose(there, back, atol=1e-5) == same


def test_tokens_of_patches_are_averaged_over_bands_within_stretches_of_time():
    spec = torch.randn(2, 1, 16, 48)
    tokens = torch.randn(2, 2 * 6, 5)  # two rows of patches, six columns
    got = in_time(Features(tokens.mean(1), tokens), spec, (8, 8), 3)
    for stretch in range(3):
        chosen = [row * 6 + column for row in range(2) for column in (2 * stretch, 2 * stretch + 1)]
        torch.testing.assert_close(got[:, stretch], tokens[:, chosen].mean(1))


@pytest.mark.parametrize("frames", [32, 50])
def test_it_works_around_a_transformer(frames):
    torch.manual_seed(0)
    objective = small_one(encoder=Vit(dim=48, depth=1, heads=2, patch=(8, 8)), hide=UpperBand())
    objective(views(0, frames), batch(), generator(0))["reconstruction"].backward()
    assert all(p.grad is not None for n, p in objective.named_parameters() if not n.endswith("mask_token"))


# ------------------------------------------------------------------- must show


class Linear(Encoder):
    """One linear map of all cells."""

    def __init__(self, cells: int, dim: int) -> None:
        super().__init__()
        self.dim, self.map = dim, torch.nn.Linear(cells, dim)

    def forward(self, spec, *, keep=None, mask=None):
        pooled = self.map(spec.flatten(1))
        return Features(pooled, pooled[:, None])


class LinearDecoder(torch.nn.Module):
    def __init__(self, inputs: int, cells: int) -> None:
        super().__init__()
        self.map = torch.nn.Linear(inputs, cells)

    def forward(self, code, bands, frames):
        return self.map(code).view(-1, 1, bands, frames)


def test_a_linear_untied_autoencoder_spans_the_subspace_of_pca():
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(12, 12)))[0]
    x = rng.normal(size=(400, 12)) * np.array([3, 2.5, 2, *[0.5] * 9]) @ axes.T + 1.0
    spec = torch.from_numpy(x).float().view(400, 1, 3, 4)
    torch.manual_seed(0)
    objective = Reconstruction(Linear(12, 12), partial(Point, dim=3), partial(LinearDecoder, cells=12), order=0)
    pca = PCA(3).fit(x)

    def angles() -> tuple[float, float]:
        """The largest principal angle of the decoder's columns, and of the encoder's rows."""
        encoder = objective.latent.mean.weight @ objective.encoder.map.weight
        spans = objective.decoder.map.weight, encoder.T
        return tuple(subspace_angles(span.detach().numpy(), pca.components_.T).max() for span in spans)

    assert min(angles()) > 0.5
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 600)
    for _ in range(600):
        loss = objective({"global": [spec]}, {}, generator(0))["reconstruction"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    assert max(angles()) < 0.02, angles()
    left_over = ((x - pca.inverse_transform(pca.transform(x))) ** 2).mean()
    assert float(loss.detach()) == pytest.approx(left_over, rel=1e-3)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_denoising_autoencoder_beats_the_plain_one_in_noise(seed):
    data, kinds = waves(384), np.arange(384) % 4
    frontend, compress = views_of(data).frontend, views_of(data).compress
    branches = {"clean": Branch(), "noisy": Branch(wave=[ColouredNoise(-10.0, 10.0)])}
    made = Views(branches, frontend, compress)
    noisy = compress(frontend(ColouredNoise(-5.0, 0.0)(data, generator(9))))
    scores = {}
    for name, keys in {"plain": {"view": "clean"}, "denoising": {"view": "noisy", "target_view": "clean"}}.items():
        torch.manual_seed(seed)
        objective = trained(small_one(**keys), made, data[:192], 50, seed)
        with torch.no_grad():
            z = objective.encoder(noisy).pooled.numpy()
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
        scores[name] = probe.fit(z[:192], kinds[:192]).score(z[192:], kinds[192:])
    assert scores["denoising"] > scores["plain"] + 0.05, scores


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_cr_vae_keeps_units_alive_that_a_vae_of_the_same_beta_loses(seed):
    data = waves(192)
    made, found = views_of(data), {}
    for name, contrast in {"vae": None, "cr_vae": NtXent()}.items():
        torch.manual_seed(seed)
        objective = trained(
            small_one(partial(Gaussian, dim=32, beta=64.0), contrast=contrast), made, data[:128], 50, seed
        )
        with torch.no_grad():
            found[name] = objective.measure([(made(data[128:], generator(9)), {})], generator(1))
    units = {name: figures["active_units"] for name, figures in found.items()}
    assert units["vae"] < 8 and units["cr_vae"] > 24, units
    assert found["cr_vae"]["kl"] > found["vae"]["kl"] and found["cr_vae"]["explained"] > found["vae"]["explained"]


@pytest.mark.parametrize("hide", [Cutout((0.2, 0.6), (0.1, 0.3), count=4), UpperBand()], ids=["boxes", "upper band"])
def test_what_is_hidden_is_said_better_than_by_the_mean_spectrogram_on_held_out_windows(hide):
    data = waves(192)
    views_made = views_of(data)
    made = Views({"global": Branch()}, views_made.frontend, views_made.compress)
    found = []
    for steps in (0, 40):
        torch.manual_seed(0)
        objective = trained(small_one(hide=hide), made, data[:128], steps)
        with torch.no_grad():
            held_out = [(made(half, generator(9)), {}) for half in data[128:].chunk(2)]
            found.append(objective.measure(held_out, generator(1)))
    assert found[0]["explained"] < 0.0 < 0.1 < found[1]["explained"], found
    assert set(found[1]) == {"reconstruction", "explained"}


def test_the_part_explained_equals_a_loop_over_the_cells_and_the_mean_spectrogram_explains_nothing():
    rng = generator(0)
    target, predicted = torch.randn(2, 6, 1, 3, 4, generator=rng).unbind(0)
    chosen = torch.rand(6, 1, 3, 4, generator=rng) < 0.5

    def counted(said: torch.Tensor) -> Tally:
        tally = Tally()
        for half in (slice(0, 2), slice(2, 6)):
            tally.add(said[half], target[half], chosen[half])
        return tally

    wrong = chance = cells = 0.0
    for i, _, f, n in chosen.nonzero().tolist():
        mean = sum(float(target[k, 0, f, n]) for k in range(6)) / 6
        wrong += (float(predicted[i, 0, f, n]) - float(target[i, 0, f, n])) ** 2
        chance += (mean - float(target[i, 0, f, n])) ** 2
        cells += 1
    assert counted(predicted).error() == pytest.approx(wrong / cells)
    assert counted(predicted).explained() == pytest.approx(1.0 - wrong / chance)
    assert counted(target.mean(0).expand_as(target)).explained() == pytest.approx(0.0, abs=1e-6)
    assert counted(target).explained() == 1.0
