"""How much of an encoder is trained: what is frozen stays to the last bit, what is added begins as nothing."""

import copy
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from test_learner import fit, learner
from torch import nn
from toy import RATE_HZ

from audiorep.augment.labels import Unmixed
from audiorep.compress import Compress, Identity
from audiorep.encoders.adapted import Adapted, Adapter
from audiorep.encoders.base import Encoder
from audiorep.errors import AudiorepError
from audiorep.frontend import Mel
from audiorep.frontend_wave import Waveform
from audiorep.losses.answers import LabelLoss
from audiorep.model import Model, ModelInfo, load_model, save_model
from audiorep.objectives.base import Setting
from audiorep.objectives.supervised import Supervised
from audiorep.teachers import Ema
from audiorep.transfer import Adapters, Full, LastStages, Lora, LowRank, Transfer, stage_of
from audiorep.types import generator

PARTS: dict[str, dict[str, Any]] = {
    "small_cnn": {"_target_": "audiorep.encoders.cnn.SmallCnn", "width": 8, "dim": 32},
    "vit_mini": {"_target_": "audiorep.encoders.vit.Vit", "dim": 48, "depth": 2, "heads": 3, "patch": [8, 8]},
    "resnet": {"_target_": "audiorep.encoders.resnet.ResNet", "depths": [1, 2], "width": 8},
    "convnext_mini": {"_target_": "audiorep.encoders.convnext.ConvNeXt", "depths": [1, 2], "dims": [8, 16], "scale": 0.1},
    "hubert_mini": {
        "_target_": "audiorep.encoders.wave.WaveTransformer", "dim": 24, "depth": 2, "heads": 2, "position_kernel": 8,
        "position_groups": 2, "conv": [[8, 20, 10], [12, 3, 2]],
    },
}  # fmt: skip
every = pytest.mark.parametrize("name", PARTS)
WAYS = {
    "frozen": LastStages(0),
    "last": LastStages(1),
    "lora": Lora(rank=2),
    "adapter": Adapters(width=5),
    "full": Full(),
}


def fresh(name: str, seed: int = 0) -> Encoder:
    """An encoder with statistics of its own, as if it had been trained."""
    torch.manual_seed(seed)
    encoder = instantiate(PARTS[name])
    for module in encoder.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return encoder


def given(name: str, seed: int = 0, count: int = 6) -> torch.Tensor:
    shape = (1, 400) if name == "hubert_mini" else (32, 40)
    return torch.randn(count, 1, *shape, generator=generator(seed))


def embed(encoder: Encoder, name: str) -> torch.Tensor:
    with torch.no_grad():
        return copy.deepcopy(encoder).eval()(given(name, 9)).pooled


def train(encoder: Encoder, name: str, steps: int = 3) -> Encoder:
    """Some steps of whatever is trained, towards noise."""
    trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.01) if trained else None
    encoder.train()
    for step in range(steps):
        pooled = encoder(given(name, step)).pooled
        if optimizer is not None:
            optimizer.zero_grad()
            (pooled - torch.randn(pooled.shape, generator=generator(step, 1))).square().mean().backward()
            optimizer.step()
    return encoder


def kept(encoder: Encoder) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in encoder.state_dict().items()}


def supervised(encoder: Encoder) -> Supervised:
    objective = Supervised(encoder, LabelLoss(), Unmixed())
    objective.prepare(Setting(64, 16, {"global": 2}, 64, 4, outputs=4))
    return objective


# ------------------------------------------------------------------- stages


@every
def test_stages_name_submodules_in_order_with_the_width_of_what_they_give(name):
    encoder, seen = fresh(name).eval(), {}
    for stage in encoder.stages:
        encoder.get_submodule(stage).register_forward_hook(
            lambda module, inputs, out, stage=stage: seen.update({stage: out[0] if isinstance(out, tuple) else out})
        )
    encoder(given(name))
    assert list(seen) == list(encoder.stages)  # each is run, from input to output
    widths = {stage: out.shape[1] if out.ndim == 4 else out.shape[2] for stage, out in seen.items()}
    assert widths == dict(encoder.stages)


# ------------------------------------------------------- frozen, last stages


@every
@pytest.mark.parametrize("count", [0, 1, 2])
def test_what_is_frozen_stays_to_the_last_bit_statistics_too_and_the_last_stages_move(name, count):
    encoder = LastStages(count).apply(fresh(name))
    before = kept(encoder)
    after = train(encoder, name).state_dict()
    trained = list(encoder.stages)[len(encoder.stages) - count :] + list(encoder.tail if count else ())
    inside = {key: any(key.startswith(f"{stage}.") for stage in trained) for key in before}
    assert all(torch.equal(before[key], after[key]) for key in before if not inside[key])
    for stage in trained:
        assert any(not torch.equal(before[key], after[key]) for key in before if key.startswith(f"{stage}.")), stage
    statistics = [key for key in before if key.endswith("running_mean") and inside[key]]
    assert all(not torch.equal(before[key], after[key]) for key in statistics)


def test_without_resting_the_statistics_of_a_frozen_encoder_would_move():
    encoder = LastStages(0).apply(fresh("small_cnn"))
    encoder.resting = ()
    before = kept(encoder)
    after = train(encoder, "small_cnn").state_dict()
    assert not torch.equal(before["stem.1.running_mean"], after["stem.1.running_mean"])


@pytest.mark.parametrize("name", ["small_cnn", "resnet"])
@pytest.mark.parametrize("count", [0, 1])
def test_the_learner_trains_the_head_and_the_last_stages_and_nothing_else(name, count):
    encoder = LastStages(count).apply(fresh(name).eval())  # as `load_model` gives it
    objective = supervised(encoder)
    before = {key: value.clone() for key, value in objective.state_dict().items()}
    fit(learner(objective, steps=5, health_every=2))
    after = objective.state_dict()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert "student.head.weight" in moved
    last = f"encoder.{list(encoder.stages)[-1]}."
    of_encoder = {key for key in moved if not key.startswith("student.head") and key.startswith("encoder.")}
    assert all(key.startswith(last) for key in of_encoder) and bool(of_encoder) == bool(count)


def test_more_stages_than_there_are_are_refused():
    with pytest.raises(AudiorepError, match=r"transfer\.count=6: SmallCnn has 5 stages; transfer=full trains all"):
        LastStages(6).apply(fresh("small_cnn"))
    with pytest.raises(AudiorepError, match=r"transfer\.count=-1 must be 0 or more"):
        LastStages(-1)


# --------------------------------------------------------------------- LoRA


@every
def test_low_rank_additions_begin_as_nothing_and_nothing_else_is_trained(name):
    plain = fresh(name)
    wanted, before = embed(plain, name), kept(plain)
    encoder = Lora(rank=2).apply(plain)
    assert torch.equal(embed(encoder, name), wanted)
    trained = {key for key, parameter in encoder.named_parameters() if parameter.requires_grad}
    additions = {f"{key}.{part}" for key, m in encoder.named_modules() if isinstance(m, LowRank) for part in "ab"}
    assert trained == additions and len(additions) > 4
    start = kept(encoder)
    after = train(encoder, name).state_dict()
    assert {key for key in start if not torch.equal(start[key], after[key])} == additions
    assert not torch.allclose(embed(encoder, name), wanted)
    unmerged = embed(encoder, name)
    merged = Lora(rank=2).finish(encoder)
    assert set(merged.state_dict()) == set(before)
    torch.testing.assert_close(embed(merged, name), unmerged, rtol=1e-4, atol=1e-5)


def test_a_low_rank_addition_is_a_product_of_two_thin_matrices():
    weight = torch.randn(6, 3, 2, 2, generator=generator(0))
    addition = LowRank(weight, rank=2, scale=3.0)
    with torch.no_grad():
        addition.b.copy_(torch.randn(6, 2, generator=generator(1)))
    wanted, a, b = weight.clone(), addition.a.detach(), addition.b.detach()
    for i in range(6):
        for j in range(12):
            change = sum(float(b[i, r]) * float(a[r, j]) for r in range(2))
            wanted.view(6, 12)[i, j] += 3.0 * change
    torch.testing.assert_close(addition(weight), wanted)
    assert addition.a.abs().max() <= 12**-0.5


def test_a_rank_that_no_weight_exceeds_is_refused():
    with pytest.raises(AudiorepError, match=r"transfer\.rank=500: SmallCnn has no weight that is wider; lower it"):
        Lora(rank=500).apply(fresh("small_cnn"))
    with pytest.raises(AudiorepError, match=r"transfer\.rank=0 must be 1 or more"):
        Lora(rank=0)


# ----------------------------------------------------------------- adapters


@every
def test_adapters_begin_as_nothing_and_nothing_else_is_trained(name):
    plain = fresh(name)
    wanted = embed(plain, name)
    encoder = Adapters(width=5).apply(plain)
    assert isinstance(encoder, Adapted) and (encoder.dim, encoder.patch) == (plain.dim, plain.patch)
    torch.testing.assert_close(embed(encoder, name), wanted, rtol=0, atol=1e-6)
    start = kept(encoder)
    after = train(encoder, name).state_dict()
    moved = {key for key in start if not torch.equal(start[key], after[key])}
    assert moved and all(".down." in key or ".up." in key for key in moved)
    behind = {key.rpartition(".up.weight")[0] for key in moved if key.endswith(".up.weight")}
    assert behind == set(encoder.stages)  # each of them has learned something
    assert not torch.allclose(embed(encoder, name), wanted)


def test_an_adapter_is_a_residual_layer_at_every_position():
    adapter = Adapter(nn.Identity(), 3, 2)
    nn.init.normal_(adapter.up.weight)
    x = torch.randn(2, 3, 4, 5, generator=generator(0))
    one = adapter(x)
    place = x[1, :, 2, 3]
    wanted = place + adapter.up(torch.relu(adapter.down(place)))
    torch.testing.assert_close(one[1, :, 2, 3], wanted)
    tokens = x.flatten(2).transpose(1, 2)
    torch.testing.assert_close(adapter(tokens), one.flatten(2).transpose(1, 2))


def test_adapters_without_width_are_refused():
    with pytest.raises(AudiorepError, match=r"transfer\.width=0 must be 1 or more"):
        Adapters(0).apply(fresh("small_cnn"))


# ------------------------------------------------------- saved, copied, again


@every
@pytest.mark.parametrize("way", ["last", "lora", "adapter"])
def test_the_saved_model_embeds_as_the_trained_one(name, way, tmp_path):
    transfer: Transfer = WAYS[way]
    encoder = train(transfer.apply(fresh(name)), name)
    part = transfer.part(PARTS[name])
    encoder = transfer.finish(encoder).eval()
    samples = name == "hubert_mini"
    frontend = Waveform(RATE_HZ) if samples else Mel(RATE_HZ, bands=32)
    compress = Compress(Identity(), Identity()) if samples else Compress()
    identity = {"_target_": "audiorep.compress.Identity"}
    parts = {
        "frontend": {"_target_": f"audiorep.{'frontend_wave.Waveform' if samples else 'frontend.Mel'}",
                     "sample_rate_hz": RATE_HZ} | ({} if samples else {"bands": 32}),
        "compress": {"_target_": "audiorep.compress.Compress"}
        | ({"compression": identity, "norm": identity} if samples else {}),
        "encoder": part,
    }  # fmt: skip
    model = Model(frontend, compress, encoder).eval()
    save_model(model, parts, ModelInfo(RATE_HZ, 0.5), tmp_path)
    again, _, _ = load_model(tmp_path)
    assert type(again.encoder) is (Adapted if way == "adapter" else type(fresh(name)))
    wave = 0.1 * torch.randn(2, 4000, generator=generator(3))
    with torch.no_grad():
        assert torch.equal(again(wave)[0], model(wave)[0])
    # and what was saved may be adapted once more
    twice = Adapters(3).apply(again.encoder)
    wanted = embed(encoder, name)
    torch.testing.assert_close(embed(twice, name), wanted, rtol=0, atol=1e-6)
    assert set(twice.stages) == {f"encoder.{stage}" for stage in encoder.stages}


@every
@pytest.mark.parametrize("way", WAYS)
def test_a_prepared_encoder_can_be_copied_and_the_copy_is_its_own(name, way):
    encoder = train(WAYS[way].apply(fresh(name)), name)
    again = copy.deepcopy(encoder)
    assert torch.equal(embed(again, name), embed(encoder, name))
    before = kept(encoder)
    trained = [parameter for parameter in again.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.data += 1.0
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    changed = [key for key, value in again.state_dict().items() if not torch.equal(value, before[key])]
    assert len(changed) >= len(trained)
    again.train()
    assert [m.training for m in again.modules()] == [m.training for m in encoder.train().modules()]


@pytest.mark.parametrize("way", WAYS)
def test_a_mean_teacher_follows_a_prepared_encoder(way):
    encoder = WAYS[way].apply(fresh("small_cnn"))
    teacher = Ema(encoder, momentum=0.5, final=0.5)
    start = kept(encoder)
    train(encoder, "small_cnn")
    teacher.update(encoder, 0.5)
    mean = teacher.network.state_dict()
    for key, value in encoder.state_dict().items():
        wanted = torch.lerp(start[key], value, 0.5) if key in dict(encoder.named_parameters()) else value
        torch.testing.assert_close(mean[key], wanted)
    merged = WAYS[way].finish(teacher.network)
    assert set(merged.state_dict()) == set(Full().finish(fresh("small_cnn")).state_dict()) or way == "adapter"


# --------------------------------------------------------------------- rates


@every
def test_the_lower_a_stage_the_slower_it_learns(name):
    encoder = fresh(name)
    rates, depth = Full(decay=0.5).rates(encoder), stage_of(encoder)
    last = len(encoder.stages) - 1
    assert len(rates) == len(list(encoder.parameters()))
    for key, parameter in encoder.named_parameters():
        assert rates[parameter] == 0.5 ** (last - depth[key])
    named = {key: stage for key in depth for stage in encoder.stages if key.startswith(f"{stage}.")}
    for key, stage in named.items():
        assert depth[key] == list(encoder.stages).index(stage)
    assert max(rates.values()) == 1.0 and min(rates.values()) == 0.5**last


def test_the_optimiser_has_these_rates_and_warms_up_to_them():
    encoder = fresh("small_cnn")
    module = learner(supervised(encoder), steps=10, rates=Full(decay=0.5).rates(encoder), warmup=0.2)
    (optimizer,), _ = module.configure_optimizers()
    rate = {p: group["initial_lr"] for group in optimizer.param_groups for p in group["params"]}
    decay = {p: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert len(rate) == len(list(module.objective.parameters()))  # none is lost, none is there twice
    assert rate[encoder.stem[0].weight] == pytest.approx(1e-3 * 0.5**4)
    assert rate[encoder.body[1][0].weight] == pytest.approx(1e-3 * 0.5**2)
    assert rate[encoder.mix[0].bias] == rate[module.objective.student.head.weight] == pytest.approx(1e-3)
    assert {decay[p] for p in rate if p.ndim == 1} == {0.0} and {decay[p] for p in rate if p.ndim > 1} == {1e-4}
    assert all(group["lr"] == group["initial_lr"] / 2 for group in optimizer.param_groups)


def test_without_rates_there_is_one_group_with_decay_and_one_without():
    module = learner(supervised(fresh("small_cnn")))
    (optimizer,), _ = module.configure_optimizers()
    assert [group["initial_lr"] for group in optimizer.param_groups] == [1e-3, 1e-3]


def test_a_stage_with_a_rate_of_nearly_nothing_hardly_moves():
    encoder = fresh("small_cnn")
    before = kept(encoder)
    fit(learner(supervised(encoder), steps=4, rates=Full(decay=1e-3).rates(encoder)))
    moved = {key: float((encoder.state_dict()[key] - before[key]).abs().max()) for key in before}
    assert moved["stem.0.weight"] < 1e-9 < 1e-4 < moved["mix.0.weight"]


@pytest.mark.parametrize("decay", [0.0, 1.5])
def test_a_decay_that_is_none_is_refused(decay):
    with pytest.raises(AudiorepError, match=r"transfer\.decay=.* must lie in \(0, 1\]"):
        Full(decay)
