"""The learner: exact resume, seeds, parameter groups, health, and two awkward objectives that prove the interface."""

import copy
from pathlib import Path

import lightning as L
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from toy import RATE_HZ, Rows, collate, objective_of, stream, tone, views_of, waves

from audiorep.checkpoint import Checkpoint
from audiorep.data.loader import StepSampler
from audiorep.encoders.cnn import SmallCnn
from audiorep.errors import AudiorepError, CollapseError
from audiorep.evaluate.health import CollapseRule
from audiorep.learner import Learner
from audiorep.objectives.base import Objective
from audiorep.types import generator


class InMemory(torch.utils.data.Dataset):
    """Tones under the items of a StepSampler."""

    def __getitem__(self, item):
        wave = torch.from_numpy(tone(item[0] % 4, item[0]))
        return {
            "wave": wave, "valid": torch.ones(len(wave), dtype=torch.bool), "label": torch.tensor(item[0] % 4),
            "index": item[0], "group": item[0] % 3, "recording": item[0], "slot": item[0], "start": 0,
            "domain": 0, "tokens": torch.zeros(1, dtype=torch.int64),
        }  # fmt: skip


def learner(objective: Objective, steps: int = 8, **keys) -> Learner:
    sampler = StepSampler(Rows([1] * 64), 16, steps, seed=3)
    return Learner(
        objective, views_of(waves(64)), lambda groups: torch.optim.AdamW(groups, lr=1e-3), sampler,
        seed=3, channels_last=False, log_every=1000, **{"health_every": 1000, **keys},
    )  # fmt: skip


def fit(module: Learner, stop_after: int | None = None, data: InMemory | None = None) -> Learner:
    class Stop(L.Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            if pl_module.step == stop_after:
                raise KeyboardInterrupt

    trainer = L.Trainer(
        max_epochs=100, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[Stop()],
    )  # fmt: skip
    loader = torch.utils.data.DataLoader(
        data or InMemory(), batch_sampler=module.sampler, collate_fn=collate, generator=torch.Generator()
    )
    try:
        trainer.fit(module, loader)
    except (KeyboardInterrupt, SystemExit):
        assert stop_after is not None
    return module


def assert_equal(a: nn.Module, b: nn.Module) -> None:
    for (name, x), (_, y) in zip(a.state_dict().items(), b.state_dict().items(), strict=True):
        assert torch.equal(x, y), name


@pytest.mark.parametrize("name", ["simclr", "byol"])
def test_resumed_training_equals_undisturbed_training(name, tmp_path):
    sizes = [] if name == "simclr" else ["objective.predictor.hidden=64", "objective.predictor.outputs=64"]
    whole = fit(learner(objective_of(name, sizes)))
    path = tmp_path / "last.ckpt"
    first = fit(learner(objective_of(name, sizes), checkpoint=Checkpoint(path, every_s=0.0)), stop_after=5)
    assert first.step == 5
    again = learner(objective_of(name, sizes, seed=9), checkpoint=Checkpoint(path), resume=True)
    assert again.step == 5
    fit(again)
    assert again.step == 8
    assert_equal(whole.objective, again.objective)


def test_same_seed_same_weights_and_another_seed_others():
    a, b = fit(learner(objective_of("simclr"))), fit(learner(objective_of("simclr")))
    assert_equal(a.objective, b.objective)
    c = learner(objective_of("simclr"))
    c.seed = 4
    fit(c)
    assert not torch.equal(a.objective.encoder.stem[0].weight, c.objective.encoder.stem[0].weight)


def test_training_leaves_the_global_generator_alone():
    module = learner(objective_of("simclr"), steps=2)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    fit(module)
    assert torch.equal(before, torch.get_rng_state())


def test_a_checkpoint_of_other_settings_or_version_is_refused(tmp_path):
    path = tmp_path / "last.ckpt"
    Checkpoint(path).save(3, {}, {"seed": 0})
    with pytest.raises(AudiorepError, match="seed=0, not 1"):
        Checkpoint(path).load({"seed": 1})
    torch.save({"audiorep_checkpoint": 99}, path)
    with pytest.raises(AudiorepError, match="version 99"):
        Checkpoint(path).load({})
    path.write_bytes(b"no checkpoint")
    with pytest.raises(AudiorepError, match="not readable"):
        Checkpoint(path).load({})
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_collapse_stops_training_and_says_what_collapsed():
    objective = objective_of("simclr", ["+objective.loss.negatives=false"])
    module = learner(objective, steps=400, health_every=5, collapse=CollapseRule(std=0.3, patience=2))
    with pytest.raises(CollapseError, match="std = .* projection at step"):
        fit(module)
    assert module.step < 200


@pytest.mark.parametrize("decodable", [0, 1])
def test_a_batch_of_which_less_than_two_windows_can_be_decoded_stops_training_with_the_reason(decodable):
    class Broken(InMemory):
        def __getitem__(self, item):
            return super().__getitem__(item) if item[0] < decodable else {"failed": (item[0], "x.wav: no samples")}

    module = learner(objective_of("simclr"), steps=2)
    seen = []
    module.on_failed = lambda row, reason: seen.append(reason)
    with pytest.raises(
        AudiorepError, match=r"window\(s\) of the batch at step 0 .* x.wav: no samples.* audiorep check"
    ):
        fit(module, data=Broken())
    assert len(seen) in (15, 16)


def test_entropies_over_prototypes_are_watched_too():
    module = learner(objective_of("dino", ["objective.prototypes=32"]), steps=2, health_every=1)
    fit(module)
    for name in ("prototypes", "teacher"):
        assert 0.0 < module.shown[f"{name}/marginal_entropy"] <= 3.47
        assert module.shown[f"{name}/conditional_entropy"] <= module.shown[f"{name}/marginal_entropy"] + 1e-6
    assert {"backbone/uniformity", "projection/rankme", "backbone/mean_cosine"} <= module.shown.keys()


def test_everything_in_one_prototype_stops_training():
    module = learner(objective_of("dino", ["objective.prototypes=32"]), steps=40, health_every=1)
    module.collapse = CollapseRule(marginal_entropy_relative=0.9999, patience=2)
    with pytest.raises(CollapseError, match="marginal_entropy_relative = .* for the prototypes at step 2"):
        fit(module)


def test_a_loss_that_is_no_number_stops_training():
    class Broken(Objective):
        def forward(self, views, batch, rng):
            return {"broken": self.encoder(views["global"][0]).pooled.sum() * float("nan")}

    module = learner(Broken(SmallCnn(width=8, dim=64)))
    module.log_every = 1
    with pytest.raises(AudiorepError, match="the loss became nan at step 1"):
        fit(module)


class AdversarialSketch(Objective):
    """A GAN: a discriminator (the encoder) and a generator are two parameter groups, updated in turn."""

    def __init__(self, encoder, noise: int = 8):
        super().__init__(encoder)
        self.judge = nn.Linear(encoder.dim, 1)
        self.generator = nn.Sequential(nn.Linear(noise, 32 * 42), nn.Unflatten(1, (1, 32, 42)))
        self.noise = noise

    def parameter_groups(self):
        return {
            "discriminator": [*self.encoder.parameters(), *self.judge.parameters()],
            "generator": list(self.generator.parameters()),
        }

    def forward(self, views, batch, rng):
        real = views["global"][0]
        fake = self.generator(torch.randn(len(real), self.noise, generator=rng))
        says = [self.judge(self.encoder(x).pooled) for x in (real, fake.detach(), fake)]
        return {
            "discriminator/real": F.softplus(-says[0]).mean(),
            "discriminator/fake": F.softplus(says[1]).mean(),
            "generator/fool": F.softplus(-says[2]).mean(),
        }


class MutualSketch(Objective):
    """Two encoders that teach each other: each is trained towards the other's detached embedding."""

    def __init__(self, encoder):
        super().__init__(encoder)
        self.peer = copy.deepcopy(encoder)
        for layer in self.peer.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, generator=generator(1))

    def forward(self, views, batch, rng):
        a, b = (F.normalize(net(v).pooled) for net, v in zip((self.encoder, self.peer), views["global"], strict=True))
        return {"first": (a - b.detach()).square().sum(1).mean(), "second": (b - a.detach()).square().sum(1).mean()}


def test_a_gan_trains_both_groups_each_with_its_own_terms():
    objective = AdversarialSketch(SmallCnn(width=8, dim=64))
    module = learner(objective, steps=1)
    before = copy.deepcopy(objective.state_dict())
    fit(module)
    after = objective.state_dict()
    for part in ("encoder.mix.0.weight", "judge.weight", "generator.0.weight"):
        assert not torch.equal(before[part], after[part]), part
    assert all(p.requires_grad for p in objective.parameters())


def test_the_second_group_sees_the_first_already_updated():
    seen = []

    class Watching(AdversarialSketch):
        def forward(self, views, batch, rng):
            seen.append(self.judge.weight.detach().clone())
            return super().forward(views, batch, rng)

    fit(learner(Watching(SmallCnn(width=8, dim=64)), steps=1))
    assert len(seen) == 2 and not torch.equal(seen[0], seen[1])


def test_two_encoders_teach_each_other():
    objective = MutualSketch(SmallCnn(width=8, dim=64))
    before = copy.deepcopy(objective)
    fit(learner(objective, steps=3))
    for mine, old in ((objective.encoder, before.encoder), (objective.peer, before.peer)):
        assert not torch.equal(mine.mix[0].weight, old.mix[0].weight)


def test_the_stream_of_batches_depends_on_seed_and_step_alone():
    rows = Rows([1, 3, 2, 1, 1])
    whole = stream(StepSampler(rows, 2, 12, seed=1))
    late = StepSampler(rows, 2, 12, seed=1)
    late.first_step = 7
    assert len(whole) == 12 and stream(late) == whole[7:]
    epoch = [item[0] for items in whole[:4] for item in items]
    assert len(epoch) == 8 and {row: epoch.count(row) for row in set(epoch)} == {0: 1, 1: 3, 2: 2, 3: 1, 4: 1}
    ranks = [stream(StepSampler(Rows([1] * 8), 2, 3, seed=1, rank=r, world=2)) for r in range(2)]
    joined = stream(StepSampler(Rows([1] * 8), 4, 3, seed=1))
    assert [a + b for a, b in zip(*ranks, strict=True)] == joined


def test_fewer_windows_than_a_batch_is_said_with_the_remedy():
    with pytest.raises(AudiorepError, match="lower data.batch_size to 3"):
        StepSampler(Rows([1] * 3), 8, 1, seed=0)


def test_the_toy_rate_is_what_the_views_expect():
    assert views_of(waves(8)).frontend.sample_rate_hz == RATE_HZ and Path("configs").is_dir()
