"""DINOv2: its terms as loops and as lightly's, who is reached by which term, one teacher, balanced targets."""

import copy

import pytest
import torch
from hydra.utils import instantiate
from peers import lightly
from small import KINDS, batch, build, config, views

from audiorep.assign import Centring, Sinkhorn
from audiorep.encoders.cnn import SmallCnn
from audiorep.encoders.vit import Vit
from audiorep.errors import AudiorepError
from audiorep.losses.spread import KoLeo
from audiorep.masks import flags
from audiorep.objectives.base import Setting
from audiorep.objectives.dinov2 import SelfDistillation, deal
from audiorep.teachers import Shared
from audiorep.types import generator

CPU = torch.device("cpu")


def made(encoder: torch.nn.Module | None = None, **changes: object) -> SelfDistillation:
    """The config's objective with some parts changed."""
    torch.manual_seed(0)
    cfg = copy.deepcopy(config("dinov2")).objective
    encoder = encoder or Vit(dim=48, depth=2, heads=2, patch=(8, 8))
    return instantiate(cfg, encoder=encoder, **changes).train()


# --------------------------------------------------------------- the terms


def koleo_loop(z: torch.Tensor) -> torch.Tensor:
    unit = [row / (row * row).sum().sqrt() for row in z]
    nearest = [
        torch.stack([((a - b) ** 2).sum().sqrt() for j, b in enumerate(unit) if j != i]).min()
        for i, a in enumerate(unit)
    ]
    return -sum(d.log() for d in nearest) / len(nearest)


@pytest.mark.parametrize("seed", range(3))
def test_koleo_equals_a_float64_loop_and_lightly(seed):
    z = torch.randn(9, 5, generator=generator(seed), dtype=torch.float64).requires_grad_()
    ours = KoLeo()(z)["koleo"]
    (slope,) = torch.autograd.grad(ours, z)
    for theirs in (koleo_loop(z), lightly("loss.koleo_loss").KoLeoLoss()(z)):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(slope, torch.autograd.grad(theirs, z)[0], rtol=1e-5, atol=1e-6)


def test_koleo_spreads_and_stays_finite_where_rows_are_equal():
    z = torch.randn(32, 3, generator=generator(0))
    z[1] = z[0]
    z.requires_grad_()
    first = float(KoLeo()(z.detach()[2:])["koleo"])
    for _ in range(50):
        (slope,) = torch.autograd.grad(KoLeo()(z)["koleo"], z)
        assert slope.isfinite().all()
        z = (z - 0.1 * slope).detach().requires_grad_()
    assert float(KoLeo()(z.detach()[2:])["koleo"]) < first - 0.3
    twins = torch.ones(2, 3, requires_grad=True)
    assert not torch.autograd.grad(KoLeo()(twins)["koleo"], twins)[0].any()
    assert float(KoLeo()(z[:1])["koleo"]) == 0.0


def cross_entropy_loop(target: torch.Tensor, scores: torch.Tensor, tau: float) -> torch.Tensor:
    losses = []
    for p, row in zip(target, scores, strict=True):
        e = (row / tau).exp()
        losses.append(-sum(a * (b / e.sum()).log() for a, b in zip(p, e, strict=True)))
    return sum(losses) / len(losses)


def seen_by(objective: SelfDistillation, specs: list[torch.Tensor], rng: torch.Generator) -> tuple[list, list]:
    """What student and teacher say of each view, with the masks that the objective would draw."""
    drawn = [objective.mask(len(spec), 4, 4, rng, CPU) for spec in specs]
    asked = [parts.hidden.flatten(1) for parts in drawn]
    student = [objective.student(x, k, flags(p, 16)) for x, k, p in zip(specs, asked, drawn, strict=True)]
    with torch.no_grad():
        return student, [objective.teacher.network(x, k) for x, k in zip(specs, asked, strict=True)]


def sinkhorn_loop(scores: torch.Tensor, tau: float, iterations: int) -> torch.Tensor:
    p = (scores / tau).exp()
    for _ in range(iterations):
        p = torch.stack([p[:, k] / p[:, k].sum() for k in range(p.shape[1])], 1)
        p = torch.stack([row / row.sum() for row in p])
    return p


def test_all_terms_equal_float64_loops():
    objective = made(image_weight=0.7, patch_weight=1.3, koleo_weight=0.2).double()
    given = {name: [view.double() for view in of_kind[:2]] for name, of_kind in views(0, count=5).items()}
    terms = objective(given, batch(5), generator(4))
    student, teacher = seen_by(objective, given["global"], generator(4))
    small = [objective.student.image(objective.encoder(spec).pooled) for spec in given["local"]]
    answers = [out.image for out in student] + small
    image, patch = (
        sinkhorn_loop(torch.cat([getattr(out, name) for out in teacher]), 0.05, 3).chunk(2)
        for name in ("image", "patch")
    )
    pairs = [(t, s) for t in range(2) for s in range(4) if s != t]
    wanted = {
        "image": 0.7 * sum(cross_entropy_loop(image[t], answers[s], 0.1) for t, s in pairs) / 6,
        "patch": 1.3 * sum(cross_entropy_loop(patch[v], student[v].patch, 0.1) for v in range(2)) / 2,
        "koleo": 0.2 * sum(koleo_loop(out.pooled) for out in student) / 2,
    }
    assert terms.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-5, atol=1e-7, msg=lambda m, name=name: f"{name}: {m}")


def test_the_patch_term_equals_lightlys_ibot_loss_where_targets_are_centred():
    objective = made(assign=lambda count: Centring(count, tau=0.05, tau_start=0.05), patch_weight=1.0)
    theirs = lightly("loss.ibot_loss").IBOTPatchLoss(output_dim=128, teacher_temp=0.05)
    for step in range(3):  # their centre moves with each view, ours once a step: one view
        given = {"global": views(step)["global"][:1], "local": views(step)["local"]}
        student, teacher = seen_by(objective, given["global"], generator(step))
        mask = flags(objective.mask(16, 4, 4, generator(step), CPU), 16).view(16, 4, 4)
        ours = objective(given, batch(), generator(step))["patch"]
        torch.testing.assert_close(ours, theirs(teacher[0].patch, student[0].patch, mask), rtol=1e-4, atol=1e-5)
        objective.after_step(0.0)


# ------------------------------------------------------ who is reached by what


def test_each_term_alone_reaches_the_encoder_and_its_own_head_only():
    objective = build("dinov2")
    heads = {"image": objective.student.image, "patch": objective.student.patch}
    reached = {}
    for term in ("image", "patch", "koleo"):
        objective.zero_grad()
        objective(views(0), batch(), generator(0))[term].backward()
        of_encoder = [p.grad is not None and bool(p.grad.any()) for p in objective.encoder.parameters()]
        assert all(of_encoder), term
        assert objective.encoder.mask_token.grad.any(), f"{term} does not train the mask token"
        for name, head in heads.items():
            got = [p.grad is not None and bool(p.grad.any()) for p in head.parameters()]
            reached[term, name] = sum(got) / len(got)
    own = {("image", "image"), ("patch", "patch")}
    # a bias before a batch norm gets none but rounding errors, so nearly all
    assert all(part > 0.8 if pair in own else part == 0.0 for pair, part in reached.items()), reached


def test_the_mask_token_is_trained():
    objective = build("dinov2")
    before = objective.encoder.mask_token.clone()
    optimizer = torch.optim.SGD(objective.parameter_groups()["main"], lr=0.1)
    sum(objective(views(0), batch(), generator(0)).values()).backward()
    optimizer.step()
    assert not torch.equal(before, objective.encoder.mask_token)


def test_one_teacher_averages_the_encoder_and_both_heads_and_gets_no_gradient():
    objective = build("dinov2")
    network = objective.teacher.network
    before = [p.clone() for p in network.parameters()]
    assert len(before) == len(list(objective.student.parameters()))
    sum(objective(views(0), batch(), generator(0)).values()).backward()
    assert all(p.grad is None and not p.requires_grad for p in network.parameters())
    torch.optim.SGD(objective.parameter_groups()["main"], lr=0.1).step()
    objective.after_step(0.0)
    for old, new, student in zip(before, network.parameters(), objective.student.parameters(), strict=True):
        torch.testing.assert_close(new, 0.99 * old + 0.01 * student)
    for part in (network.encoder, network.image, network.patch):
        moved = [not torch.equal(new, old) for new, old in zip(network.parameters(), before, strict=True)]
        assert any(moved) and any(p is q for p in part.parameters() for q in network.parameters())


def test_the_student_does_not_see_hidden_patches_and_the_teacher_does():
    objective = build("dinov2").eval()
    spec = views(0)["global"][0]
    parts = objective.mask(16, 4, 4, generator(1), CPU)
    asked = parts.hidden.flatten(1)
    changed = spec.clone()
    for i, patch in enumerate(asked[:, 0].tolist()):
        row, column = divmod(patch, 4)
        changed[i, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] += 9.0
    with torch.no_grad():
        student = [objective.student(x, asked, flags(parts, 16)) for x in (spec, changed)]
        teacher = [objective.teacher.network(x, asked) for x in (spec, changed)]
    assert all(torch.equal(a, b) for a, b in zip(*student, strict=True))
    assert not any(torch.allclose(a, b) for a, b in zip(*teacher, strict=True))


def test_targets_of_patches_are_balanced_over_all_views():
    objective = made(patch_prototypes=16)
    objective.assign_patch = Sinkhorn(16, 0.05, 30)
    specs = [torch.randn(16, 1, 32, 32, generator=generator(seed)) for seed in (1, 2)]
    _, teacher = seen_by(objective, specs, generator(3))
    targets = torch.cat(deal(objective.assign_patch, [out.patch for out in teacher]))
    torch.testing.assert_close(targets.sum(1), torch.ones(len(targets)))
    torch.testing.assert_close(targets.mean(0), torch.full((16,), 1 / 16), rtol=0.02, atol=0.0)


def test_a_step_moves_both_centres_towards_the_mean_of_what_the_teacher_said_of_all_views():
    objective = made(assign=Centring)
    _, teacher = seen_by(objective, views(0)["global"], generator(0))
    objective(views(0), batch(), generator(0))
    objective.after_step(0.5)
    for name, assign in {"image": objective.assign_image, "patch": objective.assign_patch}.items():
        wanted = 0.1 * torch.cat([getattr(out, name) for out in teacher]).mean(0)
        torch.testing.assert_close(assign.mean, wanted, msg=lambda m, name=name: f"{name}: {m}")
        assert float(assign.mean.abs().amax()) > 1e-3 and float(assign.progress) == 0.5


# ------------------------------------------------------------- what is refused


@pytest.mark.parametrize("left_out", ["image", "patch", "koleo"])
def test_a_weight_of_zero_leaves_a_term_out_and_trains_no_idle_head(left_out):
    objective = made(**{f"{left_out}_weight": 0.0})
    terms = objective(views(0), batch(), generator(0))
    assert terms.keys() == {"image", "patch", "koleo"} - {left_out}
    sum(terms.values()).backward()
    assert all(p.grad is not None for p in objective.parameter_groups()["main"])


@pytest.mark.parametrize(
    ("changes", "setting", "words"),
    [
        ({}, Setting(500, 32, KINDS), "objective.image_prototypes=128: more than the 64 samples"),
        ({}, Setting(100, 64, KINDS), "objective.image_prototypes=128: more than the 100 windows"),
        ({}, Setting(500, 128, {"global": 1}), "needs 2 view.s. of the kind 'global'"),
        (
            {"encoder": SmallCnn(width=8, dim=64)},
            Setting(500, 128, KINDS),
            "SmallCnn has none: choose encoder=vit_mini",
        ),
        ({"teacher": Shared}, Setting(500, 128, KINDS), "a network of its own: audiorep.teachers.Ema"),
    ],
)
def test_what_cannot_work_is_refused_with_the_remedy(changes, setting, words):
    with pytest.raises(AudiorepError, match=words):
        try:
            made(**changes).prepare(setting)
        except Exception as error:
            raise (error.__cause__ or error) from None


def test_prototypes_of_patches_and_of_a_head_that_is_left_out_may_be_many():
    made(patch_prototypes=1024).prepare(Setting(500, 128, KINDS))
    made(image_prototypes=1024, image_weight=0.0).prepare(Setting(500, 128, KINDS))
