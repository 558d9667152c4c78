"""What every objective config keeps to: gradients term by term, teachers without, falling loss, exact save and load."""

import copy

import pytest
import torch
from small import COUNT, NAMES, batch, build, part, views

from audiorep.encoders.vit import Vit
from audiorep.errors import AudiorepError
from audiorep.groups import group_of, terms_of
from audiorep.masks import Parts, Random
from audiorep.objectives.masked import MaskedAutoencoder, patchify
from audiorep.optim import Lars, decay_groups, warmup_cosine
from audiorep.types import generator

DRAWN_BY_POSITION = {
    **dict.fromkeys(("ijepa", "m2d", "eat", "dinov2"), "masks"),
    "mae": "masks",
    "msn": "masks",
    "n_plus_one": "negatives",
}
"""Where what is drawn depends on the place in the batch, so that shuffling draws anew."""
DRAWN_BY_POSITION |= dict.fromkeys(("rotation", "jigsaw", "relative_position"), "puzzles")
DRAWN_BY_POSITION |= {"multimodal_masked": "masks and the words of other rows"}
DRAWN_BY_POSITION |= {"inpainting": "boxes", "mixmatch": "partners"}
DRAWN_BY_POSITION |= dict.fromkeys(("pi_model", "temporal_ensembling", "mean_teacher"), "dropped features")
DRAWN_BY_POSITION |= dict.fromkeys(("consistency_dropout", "self_distill_predictions"), "dropped features")
DRAWN_BY_POSITION |= {"equivariance": "transformations", "ss_gan": "noise and flips"}


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


def test_each_term_alone_reaches_the_encoder_or_its_own_group(name):
    objective = build(name)
    for term in objective(views(0), batch(), generator(0)):
        objective.zero_grad()
        objective(views(0), batch(), generator(0))[term].backward()
        groups = objective.parameter_groups() | {"main": list(objective.encoder.parameters())}
        reached = [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in groups[group_of(term)]]
        assert sum(reached) > 0.8 * len(reached), f"{name}: {term} reaches {sum(reached)} of {len(reached)}"


def test_all_terms_together_reach_every_trained_parameter(name):
    objective = build(name)
    sum(objective(views(0), batch(), generator(0)).values()).backward()
    trained = {n: p for n, p in objective.named_parameters() if p.requires_grad}
    without = [n for n, p in trained.items() if p.grad is None]
    assert not [n for n in without if not n.endswith("mask_token")], without
    listed = [p for group in objective.parameter_groups().values() for p in group]
    assert len(listed) == len({id(p) for p in listed}) == len(trained)


def test_the_loss_falls_on_a_fixed_batch(name):
    objective = build(name)
    optimizer = torch.optim.AdamW(objective.parameter_groups()["main"], lr=2e-3)
    losses = []
    for _ in range(20):
        loss = sum(terms_of("main", objective(views(0), batch(), generator(0))).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        objective.after_step(0.0)
        losses.append(float(loss.detach()))
    assert min(losses[-5:]) < losses[0] - 0.1 * abs(losses[0]), losses


def test_terms_are_finite_at_two_window_lengths(name):
    objective = build(name)
    for frames in (32, 70):
        terms = objective(views(1, frames), batch(), generator(0))
        assert all(torch.isfinite(value) for value in terms.values())


def test_shuffling_the_batch_leaves_the_loss(name):
    if name in DRAWN_BY_POSITION:
        pytest.skip(f"{DRAWN_BY_POSITION[name]} are drawn by position in the batch")
    objective = build(name).eval()
    made, told = views(2), batch()
    order = torch.randperm(COUNT, generator=generator(3))
    a = sum(objective(made, told, generator(0)).values())
    b = sum(objective(part(made, order), {k: v[order] for k, v in told.items()}, generator(0)).values())
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_health_figures_are_finite_distributions(name):
    objective = build(name).eval()
    with torch.no_grad():
        spec = views(3)["global"][0]
        assert all(z.isfinite().all() for z in objective.embeddings(spec).values())
        for p in objective.distributions(spec).values():
            torch.testing.assert_close(p.sum(1), torch.ones(COUNT))


def test_save_load_next_step_is_identical(name):
    def steps(objective, optimizer, first, last):
        for step in range(first, last):
            loss = sum(objective(views(step), batch(), generator(step)).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            objective.after_step(step / 10)

    whole = build(name)
    optimizer = torch.optim.AdamW(whole.parameter_groups()["main"], lr=1e-3)
    steps(whole, optimizer, 0, 2)
    again = build(name)
    again.load_state_dict(copy.deepcopy(whole.state_dict()))
    optimizer2 = torch.optim.AdamW(again.parameter_groups()["main"], lr=1e-3)
    optimizer2.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    steps(whole, optimizer, 2, 4)
    steps(again, optimizer2, 2, 4)
    for key, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key


def test_its_task_is_measured_on_any_number_of_held_out_windows(name):
    objective = build(name).eval()
    with torch.no_grad():
        assert objective.measure(iter([]), generator(0)) == {}
        for counts in ([1], [5, 1]):
            held = [(views(i, count=count), batch(count)) for i, count in enumerate(counts)]
            found = objective.measure(iter(held), generator(0))
            assert all(isinstance(value, float) for value in found.values())


@pytest.mark.parametrize("method", ["byol", "moco", "dino", "msn", "obow"])
def test_an_ema_teacher_has_no_gradient_and_moves(method):
    objective = build(method)
    before = [p.clone() for p in objective.teacher.parameters()]
    sum(objective(views(0), batch(), generator(0)).values()).backward()
    assert before and all(p.grad is None and not p.requires_grad for p in objective.teacher.parameters())
    torch.optim.SGD(objective.parameter_groups()["main"], lr=0.1).step()
    objective.after_step(0.0)
    assert any(not torch.equal(a, b) for a, b in zip(before, objective.teacher.parameters(), strict=True))


def test_byol_teacher_has_no_gradient_follows_the_student_and_copies_buffers():
    objective = build("byol")
    assert not any(p.requires_grad for p in objective.teacher.parameters())
    before = [p.clone() for p in objective.teacher.parameters()]
    student = [p.clone() for p in objective.student.parameters()]
    optimizer = torch.optim.SGD(objective.parameter_groups()["main"], lr=0.1)
    sum(objective(views(0), batch(), generator(0)).values()).backward()
    assert all(p.grad is None for p in objective.teacher.parameters())
    optimizer.step()
    objective.after_step(0.0)
    moved = list(objective.teacher.parameters())
    for old, new, was, now in zip(before, moved, student, objective.student.parameters(), strict=True):
        torch.testing.assert_close(new, 0.99 * old + 0.01 * now)
        assert torch.equal(old, was)
    for mine, theirs in zip(objective.teacher.network.buffers(), objective.student.buffers(), strict=True):
        assert torch.equal(mine, theirs)
    objective.after_step(1.0)
    torch.testing.assert_close(next(objective.teacher.parameters()), moved[0])


def small_mae() -> MaskedAutoencoder:
    return MaskedAutoencoder(Vit(dim=32, depth=1, heads=2, patch=(8, 8)), Random(0.75), dim=32, depth=1).eval()


def test_mae_equals_a_written_out_loop():
    torch.manual_seed(0)
    objective = small_mae()
    spec = torch.randn(3, 1, 16, 24)
    ours = objective.reconstruction(spec, generator(5))
    order = torch.rand(3, 6, generator=generator(5)).argsort(1)
    visible = 2  # a quarter of six, rounded
    parts = Parts(order[:, :visible], order[:, None, visible:])
    decoded = objective.decoder(objective.encoder(spec, keep=parts.visible).tokens, parts, 2, 3)
    total, count = 0.0, 0
    for i in range(3):
        for place, j in enumerate(order[i, visible:].tolist()):
            row, column = divmod(j, 3)
            patch = spec[i, 0, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8].flatten().double()
            patch = (patch - patch.mean()) / (patch.var() + 1e-6).sqrt()
            total += float((decoded[i, 0, place].double() - patch).square().sum())
            count += len(patch)
    assert abs(float(ours) - total / count) < 1e-5


def test_mae_cannot_see_what_it_predicts():
    objective = small_mae()
    spec = torch.randn(1, 1, 16, 24)
    parts = Parts(torch.tensor([[0, 4]]), torch.tensor([[[1, 2, 3, 5]]]))
    before = objective.decoder(objective.encoder(spec, keep=parts.visible).tokens, parts, 2, 3)
    changed = spec.clone()
    changed[..., 0:8, 8:16] = 9.0  # token 1, hidden
    after = objective.decoder(objective.encoder(changed, keep=parts.visible).tokens, parts, 2, 3)
    assert torch.equal(before, after)


def test_patchify_cuts_as_the_encoder_does():
    spec = torch.arange(16 * 24.0).view(1, 1, 16, 24)
    patches = patchify(spec, (8, 8))
    assert patches.shape == (1, 6, 64)
    assert torch.equal(patches[0, 4], spec[0, 0, 8:16, 8:16].flatten())


def test_mae_refuses_an_encoder_without_patches():
    from audiorep.encoders.cnn import SmallCnn

    with pytest.raises(AudiorepError, match="ViT"):
        MaskedAutoencoder(SmallCnn(), Random())


def test_lars_equals_its_formula():
    w = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
    bias = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = Lars([w, bias], lr=0.1, weight_decay=0.5, momentum=0.9, eta=0.02)
    velocity, w_loop = torch.zeros(2, dtype=torch.float64), torch.tensor([3.0, 4.0], dtype=torch.float64)
    for step in range(3):
        grad = torch.tensor([[1.0 + step, -2.0]])
        w.grad, bias.grad = grad.clone(), torch.tensor([1.0])
        optimizer.step()
        g = grad[0].double() + 0.5 * w_loop
        velocity = 0.9 * velocity + 0.02 * w_loop.norm() / g.norm() * g
        w_loop = w_loop - 0.1 * velocity
    torch.testing.assert_close(w.data[0].double(), w_loop, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(bias.data, torch.tensor([1.0 - 0.1 * (1 + 1.9 + 2.71)]))


def test_biases_and_norms_do_not_decay_and_the_schedule_warms_up_and_falls():
    layer = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.LayerNorm(3))
    groups = decay_groups(layer.parameters(), 0.1)
    assert [g["weight_decay"] for g in groups] == [0.1, 0.0] and [len(g["params"]) for g in groups] == [1, 3]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    schedule = warmup_cosine(optimizer, 100, 0.1)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(0.1) and max(rates) == pytest.approx(1.0) and rates.index(max(rates)) in (9, 10)
    assert rates[-1] < 0.001 and all(a >= b for a, b in zip(rates[10:], rates[11:], strict=False))
