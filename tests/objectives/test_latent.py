"""Masked methods with latent targets: formulas as loops, targets without gradient, who sees what; the cost of MAE."""

import pytest
import torch
from hydra.utils import instantiate
from small import KINDS, batch, build, views
from torch.utils.flop_counter import FlopCounterMode
from toy import views_of, waves

from audiorep.composing import compose
from audiorep.encoders.cnn import SmallCnn
from audiorep.encoders.vit import Vit
from audiorep.errors import AudiorepError
from audiorep.evaluate.health import embedding_std
from audiorep.losses.regression import MeanSquared
from audiorep.masks import Parts, Random
from audiorep.objectives.base import Setting
from audiorep.objectives.latent import LatentMasking, Normalise, over_batch, per_patch, per_token
from audiorep.objectives.masked import MaskedAutoencoder, Predictor
from audiorep.teachers import Ema, Shared
from audiorep.types import generator

METHODS = ["ijepa", "m2d", "eat"]
ALL = torch.arange(16)


def standardised(x: torch.Tensor) -> torch.Tensor:
    """Numbers with mean 0 and variance 1, eps as in a layer norm."""
    centred = x - sum(x) / len(x)
    return centred / (sum(centred**2) / len(x) + 1e-5).sqrt()


def distance(method: str, p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Of one prediction and one target."""
    if method == "m2d":
        return 2 - 2 * (p @ t) / (p @ p).sqrt() / (t @ t).sqrt()
    if method == "eat":
        return sum((a - b) ** 2 for a, b in zip(p, t, strict=True)) / len(p)
    off = (p - t).abs()
    return sum(x * x / 2 if x < 1 else x - 0.5 for x in off) / len(p)


def normalised(how: Normalise, rows: torch.Tensor, patch: torch.Tensor) -> torch.Tensor:
    """Tokens of a batch one after the other [n d]: each standardised, or each dimension, of all or patch by patch."""
    if how is per_token:
        return torch.stack([standardised(row) for row in rows])
    out = torch.empty_like(rows)
    for same in [patch == i for i in patch.unique()] if how is per_patch else [patch >= 0]:
        out[same] = torch.stack([standardised(column) for column in rows[same].T]).T
    return out


def targets_loop(
    objective: LatentMasking, method: str, spec: torch.Tensor, parts: Parts
) -> list[dict[int, torch.Tensor]]:
    """What each sample's patches, those that the teacher sees, are to be predicted as."""
    seen = parts.hidden.flatten(1) if method == "m2d" else ALL.expand(len(spec), -1)
    with torch.no_grad():
        taught = [objective.teacher.network(one[None], keep=kept[None]) for one, kept in zip(spec, seen, strict=True)]
    top = 0 if objective.layers is None else min(objective.layers, 2)
    levels = [[f.layers[-1 - k] for f in taught] for k in range(top)] or [[f.tokens for f in taught]]
    how, patch = objective.normalise, seen.flatten()
    flat = sum(normalised(how, torch.cat([x[0] for x in level]), patch) for level in levels) / len(levels)
    rows = flat.view(*seen.shape, -1)
    return [{int(k): row for k, row in zip(kept, of_one, strict=True)} for kept, of_one in zip(seen, rows, strict=True)]


def wanted_loss(objective: LatentMasking, method: str, spec: torch.Tensor, masks: list[Parts]) -> torch.Tensor:
    """The loss of one view with given masks, sample by sample and patch by patch; targets are numbers."""
    losses, utterances = [], []
    for parts in masks:
        for i, target in enumerate(targets_loop(objective, method, spec, parts)):
            visible = parts.visible[i : i + 1]
            features = objective.encoder(spec[i : i + 1], keep=visible)
            for group in parts.hidden[i]:
                predicted = objective.predictor(features.tokens, Parts(visible, group[None, None]), 4, 4)[0, 0]
                losses += [distance(method, p, target[int(k)]) for p, k in zip(predicted, group, strict=True)]
            whole = sum(target.values()) / len(target)
            utterances.append(distance(method, objective.say(features.pooled)[0], whole))
    loss = sum(losses) / len(losses)
    return loss + sum(utterances) / len(utterances) if method == "eat" else loss


@pytest.mark.parametrize(
    ("method", "how", "layers"),
    [
        ("ijepa", over_batch, None),
        ("m2d", per_token, None),
        ("m2d", per_patch, None),
        ("eat", per_token, 12),
        ("eat", per_patch, 12),
        ("eat", per_patch, 1),
    ],
)
def test_loss_and_gradients_equal_a_float64_loop_in_which_targets_are_numbers(method, how, layers):
    objective = build(method).double()
    objective.normalise, objective.layers = how, layers
    with torch.no_grad():  # a teacher that is not the student
        for parameter in objective.teacher.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator(3), dtype=torch.float64))
    spec = views(0, count=8)["global"][0].double()
    rng = generator(5)
    masks = [objective.mask(8, 4, 4, rng, spec.device) for _ in range(objective.masks)]
    ours = sum(objective({"global": [spec]}, batch(8), generator(5)).values())
    wanted = wanted_loss(objective, method, spec, masks)
    torch.testing.assert_close(ours, wanted, rtol=1e-8, atol=1e-10)
    trained = {n: p for n, p in objective.named_parameters() if p.requires_grad and n != "encoder.mask_token"}
    mine, loops = (torch.autograd.grad(loss, list(trained.values())) for loss in (ours, wanted))
    for name, a, b in zip(trained, mine, loops, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-10, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("method", METHODS)
def test_the_target_gets_no_gradient_and_the_teacher_follows_slowly(method):
    objective = build(method)
    assert objective.targets(views(0)["global"][0]).grad_fn is None
    before = [p.clone() for p in objective.teacher.parameters()]
    sum(objective(views(0), batch(), generator(0)).values()).backward()
    assert before and all(p.grad is None and not p.requires_grad for p in objective.teacher.parameters())
    torch.optim.SGD(objective.parameter_groups()["main"], lr=0.1).step()
    objective.after_step(0.0)
    keep = objective.teacher.momentum
    pairs = zip(before, objective.teacher.parameters(), objective.encoder.parameters(), strict=True)
    for old, new, student in pairs:
        torch.testing.assert_close(new, keep * old + (1 - keep) * student)


@pytest.mark.parametrize("method", METHODS)
def test_a_hidden_patch_changes_the_target_and_not_the_prediction(method):
    objective = build(method).eval()
    spec = views(0, count=3)["global"][0]
    parts = Parts(torch.tensor([[0, 5, 9]]).expand(3, -1), torch.tensor([[[1, 2, 3], [4, 6, 7]]]).expand(3, -1, -1))
    changed = spec.clone()
    changed[0, :, 0:8, 8:16] += 9.0  # patch 1, hidden

    def predicted(x: torch.Tensor) -> torch.Tensor:
        return objective.predictor(objective.encoder(x, keep=parts.visible).tokens, parts, 4, 4)

    assert torch.equal(predicted(spec), predicted(changed))
    assert not torch.allclose(objective.targets(spec)[0, 1], objective.targets(changed)[0, 1])


class Remember(torch.nn.Module):
    """A loss that keeps its targets."""

    def __init__(self) -> None:
        super().__init__()
        self.targets = []

    def forward(self, prediction, target):
        self.targets.append(target)
        return {"regression": (prediction - target).square().mean()}


@pytest.mark.parametrize(("method", "blind"), [("ijepa", False), ("m2d", True), ("eat", False)])
def test_the_teacher_of_m2d_does_not_see_what_the_student_sees_and_that_of_the_others_does(method, blind):
    objective = build(method).eval()
    objective.masks, objective.utterance, objective.loss = 1, 0.0, Remember()
    spec = views(0, count=3)["global"][0]
    row, column = divmod(int(objective.mask(3, 4, 4, generator(2), spec.device).visible[0, 0]), 4)
    changed = spec.clone()
    changed[0, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] += 9.0
    for x in (spec, changed):
        objective({"global": [x]}, batch(3), generator(2))
    before, after = objective.loss.targets
    assert torch.equal(before, after) == blind


def test_several_masks_of_a_view_ask_the_teacher_once():
    objective = build("eat")
    calls = []
    objective.teacher.network.register_forward_hook(lambda *_: calls.append("teacher"))
    objective.encoder.register_forward_hook(lambda *_: calls.append("student"))
    objective.masks = 3
    objective({"global": views(0)["global"][:1]}, batch(), generator(0))
    assert calls.count("teacher") == 1 and calls.count("student") == 3


def test_every_group_is_predicted_on_its_own_and_knows_its_place():
    torch.manual_seed(0)
    predictor = Predictor(8, 5, 16, 2, 2)
    tokens, visible = torch.randn(2, 3, 8), torch.tensor([[0, 5, 9], [1, 2, 3]])
    hidden = torch.tensor([[[7, 8], [10, 4]], [[11, 6], [0, 8]]])
    together = predictor(tokens, Parts(visible, hidden), 3, 4)
    assert together.shape == (2, 2, 2, 5)
    for group in (0, 1):
        alone = predictor(tokens, Parts(visible, hidden[:, group : group + 1]), 3, 4)
        torch.testing.assert_close(together[:, group], alone[:, 0])
    assert torch.pdist(together[0].flatten(0, 1)).min() > 1e-3


class WithGradient(LatentMasking):
    """The broken twin: the student is its own teacher, and the gradient flows into the targets too."""

    def __init__(self, encoder: Vit, **parts: object) -> None:
        super().__init__(encoder, **parts)
        self.teacher.network = encoder

    def targets(self, spec, keep=None):
        return LatentMasking.targets.__wrapped__(self, spec, keep)

    def after_step(self, progress):
        pass


def trained(method: str, make: type[LatentMasking], seed: int) -> dict[str, float]:
    """The deviation of embeddings and targets over clips, 1 where they fill the sphere, after 40 steps on tones.

    With targets normalised one by one: over the batch, which is what ships, they cannot become quite the same.
    """
    cfg = compose("pretrain", ["corpus=x", "out=x", f"objective={method}"])
    torch.manual_seed(seed)
    cfg.objective._target_ = "builtins.dict"
    objective = make(
        Vit(dim=48, depth=2, heads=2, patch=(8, 8)), **instantiate(cfg.objective) | {"normalise": per_token}
    )
    data = waves(64)
    made = views_of(data)
    optimizer = torch.optim.AdamW(objective.parameter_groups()["main"], lr=3e-3)
    for step in range(40):
        rng = generator(seed, step)
        rows = torch.randperm(len(data), generator=rng)[:32]
        loss = sum(objective({"global": made(data[rows], rng)["global"][:1]}, batch(32), rng).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        objective.after_step((step + 1) / 40)
    with torch.no_grad():
        return {name: embedding_std(z) for name, z in objective.eval().embeddings(made.clean(data)).items()}


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("method", ["m2d", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ijepa", "eat"))])
def test_with_a_gradient_into_the_targets_all_become_the_same(method, seed):
    good, broken = (trained(method, make, seed) for make in (LatentMasking, WithGradient))
    for figure, floor in {"backbone": 0.03, "target": 0.2}.items():
        assert good[figure] > floor > broken[figure], f"{figure}: {good[figure]:.3g} / {broken[figure]:.3g}"


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75, 0.9])
@pytest.mark.parametrize("method", ["mae", "m2d"])
def test_the_cost_of_the_encoder_falls_with_the_masking_ratio(method, ratio):
    def flops(hidden: float) -> int:
        encoder = Vit(dim=192, depth=4, heads=3, patch=(16, 8))
        if method == "mae":
            objective = MaskedAutoencoder(encoder, Random(hidden))
        else:
            objective = LatentMasking(encoder, Random(hidden), Ema, MeanSquared(), teacher_sees_all=False)
        spec = torch.randn(2, 1, 64, 96)
        with FlopCounterMode(display=False) as counter:
            objective({"global": [spec]}, batch(2), generator(0))
        return sum(counter.get_flop_counts()[f"{type(objective).__name__}.encoder"].values())

    encoder = Vit(dim=192, depth=4, heads=3, patch=(16, 8))
    with FlopCounterMode(display=False) as counter:
        encoder(torch.randn(2, 1, 64, 96))
    part = flops(ratio) / counter.get_total_flops()
    assert 0.8 * (1 - ratio) < part < 1.05 * (1 - ratio) + 0.02  # the embedding of all patches is left


@pytest.mark.parametrize(
    "make",
    [lambda: MaskedAutoencoder(SmallCnn(), Random()), lambda: LatentMasking(SmallCnn(), Random(), Ema, MeanSquared())],
)
def test_an_encoder_without_patches_is_refused(make):
    with pytest.raises(AudiorepError, match=r"SmallCnn has none: choose encoder=vit_mini"):
        make()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"layers": 0}, "objective.layers=0: at least one is needed, or null"),
        ({"masks": 0}, "objective.masks=0"),
        ({"dim": 30}, "objective.dim=30 must be a multiple of 4"),
        ({"dim": 32, "heads": 3}, "objective.dim=32 must be a multiple of 4 and of objective.heads=3"),
        ({"teacher": Shared}, "a network of its own: audiorep.teachers.Ema"),
    ],
)
def test_what_cannot_work_is_refused_with_the_remedy(settings, words):
    parts = {"mask": Random(), "teacher": Ema, "loss": MeanSquared()} | settings
    with pytest.raises(AudiorepError, match=words):
        LatentMasking(Vit(dim=48, depth=2, heads=2, patch=(8, 8)), **parts).prepare(Setting(100, 16, KINDS))
