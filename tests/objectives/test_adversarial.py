"""SS-GAN: losses are their formulas, each group is trained by its own terms, and both come to do what they are for."""

import copy

import pytest
import torch
from small import KINDS, build, views
from torch.nn import functional as F
from toy import tone, views_of, waves

from audiorep.errors import AudiorepError
from audiorep.groups import only_these, terms_of
from audiorep.objectives.adversarial import Generator
from audiorep.objectives.base import Setting
from audiorep.types import generator


@pytest.mark.parametrize("shape", [(64, 96), (31, 50), (128, 301), (8, 6)])
def test_the_generator_makes_spectrograms_of_any_size(shape):
    made = Generator(noise=16, width=4)(torch.randn(3, 16), *shape)
    assert made.shape == (3, 1, *shape) and made.isfinite().all() and not torch.equal(made[0], made[1])


def test_the_losses_equal_a_written_out_loop():
    objective = build("ss_gan").eval()
    objective.alpha, objective.beta = 0.3, 0.7
    real = views(0, count=6)["global"][0]
    terms = objective({"global": [real]}, {}, generator(4))
    rng = generator(4)
    fake = objective.generator(torch.randn(6, objective.generator.noise, generator=rng), 32, 32)
    wanted = dict.fromkeys(terms, 0.0)
    for spec, is_real in ((real, True), (fake, False)):
        flips = (4 * torch.rand(6, generator=rng)).long()
        for i in range(6):
            judged = float(objective.judge(objective.encoder(spec[i : i + 1]).pooled))
            turned = spec[i : i + 1].flip([[], [3], [2], [2, 3]][flips[i]])
            says = objective.name(objective.encoder(turned).pooled)[0].double()
            missed = float(says.exp().sum().log() - says[flips[i]]) / 6
            if is_real:
                wanted["real"] += max(0.0, 1.0 - judged) / 6
                wanted["flips"] += 0.7 * missed
            else:
                wanted["fake"] += max(0.0, 1.0 + judged) / 6
                wanted["generator/fool"] -= judged / 6
                wanted["generator/flips"] += 0.3 * missed
    for name, value in terms.items():
        assert float(value) == pytest.approx(wanted[name], rel=1e-4), name


def test_every_parameter_stands_in_one_group_and_no_term_moves_the_other_group():
    objective = build("ss_gan")
    groups = objective.parameter_groups()
    assert list(groups) == ["main", "generator"]
    for active, idle in (("main", "generator"), ("generator", "main")):
        objective.zero_grad()
        with only_these(groups, active):
            sum(terms_of(active, objective(views(0), {}, generator(0))).values()).backward()
        assert all(p.grad is None for p in groups[idle]) and all(p.grad is not None for p in groups[active])


def test_the_generator_wants_to_be_taken_for_real_and_to_be_seen_upright():
    objective = build("ss_gan")
    objective.generator = Generator(noise=16, width=6)
    before = copy.deepcopy(objective.generator.state_dict())
    groups = objective.parameter_groups()
    for name in ("generator/fool", "generator/flips"):
        objective.generator.load_state_dict(before)
        optimizer = torch.optim.Adam(groups["generator"], lr=1e-3)
        values = []
        for _ in range(6):
            with only_these(groups, "generator"):
                loss = objective(views(0), {}, generator(0))[name]
                optimizer.zero_grad()
                loss.backward()
            optimizer.step()
            values.append(float(loss.detach()))
        assert values[-1] < values[0], (name, values)


def test_one_view_is_needed():
    with pytest.raises(AudiorepError, match="needs 1 view"):
        build("ss_gan").prepare(Setting(100, 16, KINDS | {"global": 0}))


@pytest.fixture(scope="module")
def trained():
    """Trained on tones as the learner does, group by group: objective, its untrained encoder, spectrograms."""
    data = waves(192)
    made, objective = views_of(data), build("ss_gan")
    objective.generator = Generator(noise=16, width=6)
    untrained = copy.deepcopy(objective.encoder).eval()
    groups = objective.parameter_groups()
    optimizers = {name: torch.optim.AdamW(p, lr=2e-3, betas=(0.5, 0.999)) for name, p in groups.items()}
    for step in range(60):
        rows = torch.randperm(192, generator=generator(0, step))[:32]
        for name, optimizer in optimizers.items():
            rng = generator(1, step)
            with only_these(groups, name):
                loss = sum(terms_of(name, objective(made(data[rows], rng), {}, rng)).values())
                optimizer.zero_grad()
                loss.backward()
            optimizer.step()
    unheard = torch.stack([torch.from_numpy(tone(i % 4, 1000 + i)) for i in range(128)])
    return objective.eval(), untrained, made, data, unheard


def test_discriminator_features_beat_random_ones(trained):
    """Of the 48 nearest tones of training, how many are of the unheard tone's kind? 48 are; the single nearest nearly
    always is, for an untrained encoder too."""
    objective, untrained, made, data, unheard = trained
    kinds = torch.arange(192) % 4
    right = []
    for encoder in (untrained, objective.encoder):
        with torch.no_grad():
            z, other = (F.normalize(encoder(made.clean(x)).pooled, dim=1) for x in (data, unheard))
        near = (other @ z.T).topk(48, 1).indices
        right.append(float((kinds[near] == kinds[:128, None]).float().mean()))
    assert right[1] > right[0] + 0.02, right


def test_flips_of_unheard_sounds_are_named_and_made_up_sounds_become_like_real_ones(trained):
    objective, _, made, data, unheard = trained
    with torch.no_grad():
        found = objective.measure([(made(unheard, generator(1)), {})], generator(2))
        fake = objective.generate(made.clean(data), generator(3))
        objective.generator = Generator(noise=16, width=6).eval()
        fresh = objective.generate(made.clean(data), generator(3))
    assert found["chance"] == 0.25 and found["accuracy"] > 0.5
    assert 0.0 <= found["real"] <= 1.0 and 0.0 <= found["fake"] <= 1.0
    profile = made.clean(data).mean((0, 1, 3))
    far = [float((sounds.mean((0, 1, 3)) - profile).abs().mean()) for sounds in (fresh, fake)]
    assert far[1] < 0.95 * far[0], far
