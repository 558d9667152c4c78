"""Classifiers that teach each other or themselves: loops, selections worked out by hand, and wrong labels left out."""

import math

import pytest
import torch
from plain import Plain, drawn, heard, likely, plain, setting, told
from small import KINDS, batch, build, views
from torch import nn
from torch.nn import functional as F

from audiorep.encoders.base import Encoder
from audiorep.encoders.vit import Vit
from audiorep.errors import AudiorepError
from audiorep.losses.agreement import Divergence
from audiorep.losses.answers import LabelLoss, log_answers, truth_of
from audiorep.objectives.base import Setting
from audiorep.objectives.peers import Peers, SmallLoss, smallest
from audiorep.objectives.self_distill import SelfDistill, over_positions
from audiorep.types import Features, generator

LABEL = [0, -1, 2, 1]


def number(x: torch.Tensor) -> float:
    return float(x.detach())


# ------------------------------------------------------------------- mutual learning


def divergence(p: torch.Tensor, t: torch.Tensor) -> float:
    return sum(float(t[i, k] * (t[i, k].log() - p[i, k].log())) for i in range(len(p)) for k in range(3)) / len(p)


@pytest.mark.parametrize(("progress", "alpha"), [(0.1, math.exp(-1.25)), (0.2, 1.0), (1.0, 1.0)])
def test_mutual_learning_equals_a_loop(progress, alpha):
    """The first hears the first view, the second the second."""
    objective = plain("mutual_learning")
    objective.after_step(progress)
    specs = [drawn(1), drawn(2)]
    terms = objective({"weak": specs}, told(LABEL), generator(0))
    p, q = (heard(spec) for spec in specs)
    labels = sum(-math.log(float(r[i, LABEL[i]])) for r in (p, q) for i in (0, 2, 3)) / 3
    assert number(terms["labels"]) == pytest.approx(labels, rel=1e-5)
    assert number(terms["agreement"]) == pytest.approx(alpha * (divergence(p, q) + divergence(q, p)), rel=1e-5)


def test_each_peer_learns_from_the_other_which_is_only_told():
    objective = plain("mutual_learning")
    objective.after_step(1.0)
    specs = [drawn(1).requires_grad_(), drawn(2).requires_grad_()]
    terms = objective({"weak": specs}, told(LABEL), generator(0))
    slopes = torch.autograd.grad(terms["agreement"], specs)
    for mine, (ours, theirs) in zip(slopes, (specs, specs[::-1]), strict=True):
        p, t = ours[:, 0, :, 0].softmax(1), theirs[:, 0, :, 0].softmax(1)
        torch.testing.assert_close(mine[:, 0, :, 0], ((p - t) / 4).detach(), rtol=1e-4, atol=1e-6)
        assert bool(mine[1].any())  # a window without a label teaches too


def test_one_view_is_heard_by_both():
    objective = plain("mutual_learning")
    alone = objective({"weak": [drawn(1)]}, told(LABEL), generator(0))
    assert number(alone["agreement"]) == pytest.approx(0.0, abs=1e-9) and number(alone["labels"]) > 0.1


def test_the_first_is_kept_and_both_are_measured():
    objective = plain("co_teaching")
    assert objective.classifier is objective.student is not objective.second
    objective.second.head.weight.data.neg_()
    spec = likely([0.8, 0.1, 0.1], [0.1, 0.7, 0.2], [0.2, 0.5, 0.3], [0.6, 0.3, 0.1])
    held = [({"weak": [spec]}, told([0, 1, 0, -1]))]
    found = objective.measure(iter(held), generator(0))
    assert found == {"accuracy": pytest.approx(2 / 3), "peer_accuracy": pytest.approx(1 / 3)}


def test_peers_have_weights_of_their_own_and_begin_alike_where_the_encoder_was_pretrained():
    fresh = build("mutual_learning")
    pairs = list(zip(fresh.student.encoder.parameters(), fresh.second.encoder.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in pairs) and all(a is not b for a, b in pairs)
    told_so = Setting(256, 128, KINDS, 256, 4, outputs=4, counts=[[64] * 4], pretrained=True)
    fresh.prepare(told_so)
    pairs = list(zip(fresh.student.encoder.parameters(), fresh.second.encoder.parameters(), strict=True))
    assert all(torch.equal(a, b) and a is not b for a, b in pairs)
    assert not torch.equal(fresh.student.head.weight, fresh.second.head.weight)
    trained = {id(p) for p in fresh.parameter_groups()["main"]}
    assert {id(p) for pair in pairs for p in pair} <= trained


# ----------------------------------------------------------------------- co-teaching


def answers_with(*losses: float) -> torch.Tensor:
    """[b 1 2] of which the first answer costs as much."""
    p = torch.tensor(losses, dtype=torch.float64).neg().exp()
    return torch.stack([p, 1 - p], 1).log()[:, None]


def test_the_labels_that_are_easiest_for_the_other_are_learned_and_no_others():
    mine = answers_with(3.0, 0.2, 2.5, 0.1, 0.3, 0.4).requires_grad_()
    theirs = answers_with(0.1, 2.0, 0.5, 1.0, 0.01, 3.0).requires_grad_()
    target, known = truth_of(torch.tensor([0, 0, 0, 0, -1, 0]), 2)
    exchange = SmallLoss(forget=0.6, length=0.5)
    ours = exchange(mine, theirs, target, known, LabelLoss(), 0.5)["labels"]  # two of five, and the unlabelled never
    assert number(ours) == pytest.approx((3.0 + 2.5) / 2)
    slope = torch.autograd.grad(ours, (mine, theirs), allow_unused=True)
    assert slope[0][:, 0, 0].nonzero()[:, 0].tolist() == [0, 2] and slope[1] is None
    half = exchange(mine, theirs, target, known, LabelLoss(), 0.25)["labels"]  # 1 - 0.6 / 2 = 0.7 of five: 3.5, so four
    assert number(half) == pytest.approx((3.0 + 2.5 + 0.1 + 0.2) / 4)
    start = exchange(mine, theirs, target, known, LabelLoss(), 0.0)["labels"]
    assert number(start) == pytest.approx((3.0 + 0.2 + 2.5 + 0.1 + 0.4) / 5)


def test_each_peer_chooses_for_the_other():
    objective = plain("co_teaching", "exchange.forget=0.5", "exchange.length=0")
    first = likely([0.9, 0.05, 0.05], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.6, 0.2])  # all labels are 0
    second = likely([0.1, 0.8, 0.1], [0.7, 0.2, 0.1], [0.6, 0.2, 0.2], [0.05, 0.9, 0.05])
    ours = objective({"weak": [first, second]}, told([0, 0, 0, 0]), generator(0))["labels"]
    of_first, of_second = (0.8, 0.1), (0.1, 0.7)  # rows 1 and 2, easy for the second; rows 0 and 1, easy for the first
    assert number(ours) == pytest.approx(-sum(math.log(p) for p in of_first + of_second) / 2, rel=1e-5)


def test_of_several_labels_each_known_one_is_chosen_by_itself():
    mine = torch.full((1, 3, 2), 0.5, dtype=torch.float64).log()
    theirs = torch.tensor([[[0.9, 0.1], [0.4, 0.6], [0.3, 0.7]]], dtype=torch.float64).log()
    target, known = truth_of(torch.tensor([[0.0, math.nan, 0.0]]), 3)
    seen = []

    class Seen(LabelLoss):
        def forward(self, log_p, target, known):
            seen.append(known.tolist())
            return super().forward(log_p, target, known)

    for exchange, asked in (
        (SmallLoss(0.5, 0.0, each_class=False), known),
        (SmallLoss(0.5, 0.0), known),  # each is the only one of its question: the larger goes
        (SmallLoss(0.0, 0.0), known),
        (SmallLoss(0.5, 0.0), torch.zeros_like(known)),
    ):
        exchange(mine, theirs, target, asked, Seen(), 0.0)
    both = [[True, False, True]]
    assert seen == [[[True, False, False]], [[True, False, False]], both, [[False] * 3]]


def test_small_losses_are_chosen_class_by_class_so_that_a_late_one_keeps_its_labels():
    truth = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1, 2])
    cost = torch.tensor([0.4, 0.1, 0.3, 0.2, 3.0, 5.0, 4.0, 2.0, 6.0, 9.0], dtype=torch.float64)
    target, known = truth_of(truth, 3)
    theirs = torch.full((10, 1, 3), -50.0, dtype=torch.float64).scatter(2, truth[:, None, None], -cost[:, None, None])
    seen = []

    class Seen(LabelLoss):
        def forward(self, log_p, target, known):
            seen.append(known.flatten().nonzero().flatten().tolist())
            return super().forward(log_p, target, known)

    SmallLoss(0.5, 0.0)(theirs, theirs, target, known, Seen(), 0.0)
    SmallLoss(0.5, 0.0, each_class=False)(theirs, theirs, target, known, Seen(), 0.0)
    assert seen[0] == [1, 3, 4, 6, 7]  # two of four, three of five; and of what is one too many, the largest: row 9
    assert seen[1] == [0, 1, 2, 3, 7]


@pytest.mark.parametrize("part", [0.8, 0.6, 0.5])
@pytest.mark.parametrize("kinds", [1, 3, 10, 64, 500])
def test_that_part_is_kept_however_many_classes_share_a_batch(part, kinds):
    rng = generator(kinds)
    value, kind = torch.rand(128, generator=rng), torch.randint(0, kinds, (128,), generator=rng)
    chosen = smallest(value, kind, part)
    assert chosen.sum() == pytest.approx(part * 128, abs=1)
    for c in kind.unique():
        here = kind == c
        assert (here & ~chosen).sum() in (math.floor((1 - part) * here.sum()), math.floor((1 - part) * here.sum()) + 1)
        kept, left = value[here & chosen], value[here & ~chosen]
        assert not len(kept) or not len(left) or kept.max() < left.min()


@pytest.mark.parametrize(
    ("progress", "length", "kept"),
    [(0.0, 0.1, 1.0), (0.05, 0.1, 0.9), (0.1, 0.1, 0.8), (1.0, 0.1, 0.8), (0.0, 0.0, 0.8), (0.5, 1.0, 0.9)],
)
def test_the_kept_part_falls_to_what_is_thought_to_be_right(progress, length, kept):
    assert SmallLoss(0.2, length).kept(progress) == pytest.approx(kept)


class Shallow(Encoder):
    """A network of one layer, large enough to learn wrong labels by heart."""

    def __init__(self) -> None:
        super().__init__()
        self.dim = 128
        self.inner = nn.Sequential(nn.Linear(20, 128), nn.ReLU())

    def forward(self, spec, *, keep=None, mask=None):
        x = self.inner(spec[:, 0, :, 0])
        return Features(x, x[:, None])


class Selecting(LabelLoss):
    """Notes what was asked."""

    def forward(self, log_p, target, known):
        self.asked = known[:, 0]
        return super().forward(log_p, target, known)


def precision(forget: float, seed: int) -> float:
    """Train with 40 % wrong labels; the part of right ones among those that were learned, over the last 20 steps."""
    rng = generator(seed)
    torch.manual_seed(seed)
    truth = torch.arange(240) % 3
    x = torch.randn(240, 20, generator=rng)
    x[torch.arange(240), truth] += 4.0
    wrong = torch.rand(240, generator=rng) < 0.4
    label = torch.where(wrong, (truth + torch.randint(1, 3, (240,), generator=rng)) % 3, truth)
    loss = Selecting()
    objective = Peers(Shallow(), Shallow(), loss, SmallLoss(forget, 0.2), view="weak")
    objective.prepare(setting(rows=240))
    optimizer = torch.optim.AdamW(objective.parameter_groups()["main"], lr=3e-3)
    found = []
    for step in range(60):
        rows = torch.randperm(240, generator=rng)[:80]
        terms = objective({"weak": [x[rows, None, :, None]]}, told(label[rows]), rng)
        optimizer.zero_grad()
        terms["labels"].backward()
        optimizer.step()
        objective.after_step((step + 1) / 60)
        found.append(float((~wrong[rows])[loss.asked].float().mean()))
    return sum(found[-20:]) / 20


@pytest.mark.parametrize("seed", [0, 1])
def test_of_labels_two_fifths_of_which_are_wrong_mostly_right_ones_are_learned(seed):
    assert precision(0.0, seed) < 0.66  # all of them: nothing is chosen
    assert precision(0.4, seed) > 0.8


@pytest.mark.parametrize(("forget", "length"), [(1.0, 0.1), (-0.1, 0.1), (0.2, 1.5)])
def test_what_would_leave_nothing_is_refused(forget, length):
    with pytest.raises(AudiorepError, match=rf"exchange: forget={forget} .*length={length} is a part of training"):
        SmallLoss(forget, length)


# ----------------------------------------------------------------- self-distillation


def test_self_distillation_equals_a_loop_over_stages():
    objective, made, said = build("self_distill").eval(), views(0), batch()
    terms = objective(made, said, generator(0))
    encoder, known = objective.encoder, said["label"] >= 0
    wanted = {"labels": 0.0, "shallow": 0.0, "agreement": 0.0}
    for spec in made["global"]:
        maps = [encoder.stem(spec)]
        for stage in encoder.body:
            maps.append(stage(maps[-1]))
        deep = objective.student.head(encoder(spec).pooled)
        shallow = [head(x.mean((2, 3))) for head, x in zip(objective.heads, maps, strict=True)]
        wanted["labels"] += F.cross_entropy(deep[known], said["label"][known]) / 2
        for logit in shallow:
            wanted["shallow"] += 0.5 * F.cross_entropy(logit[known], said["label"][known]) / 4 / 2
            soft, goal = (logit / 2).log_softmax(1), (deep / 2).softmax(1)
            wanted["agreement"] += 0.3 * 4 * F.kl_div(soft, goal, reduction="batchmean") / 4 / 2
    assert len(objective.heads) == 4
    for name, value in wanted.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-4, atol=1e-6)


def test_the_shallow_learn_from_the_deepest_which_is_only_told():
    objective = build("self_distill")
    objective(views(0), batch(), generator(0))["agreement"].backward()
    assert all(bool(p.grad.any()) for p in objective.heads.parameters())
    assert bool(objective.encoder.stem[0].weight.grad.any())
    above = [*objective.student.head.parameters(), *objective.encoder.mix.parameters()]
    assert all(p.grad is None or not p.grad.any() for p in above)
    objective.zero_grad()
    objective(views(0), batch(), generator(0))["labels"].backward()
    assert bool(objective.student.head.weight.grad.any())
    assert all(p.grad is None or not p.grad.any() for p in objective.heads.parameters())


def transformer(pieces: int = 1) -> SelfDistill:
    torch.manual_seed(0)
    encoder = Vit(dim=24, depth=2, heads=2, patch=(8, 8))
    objective = SelfDistill(encoder, LabelLoss(), Divergence(2.0))
    objective.prepare(setting())
    encoder.pieces = pieces
    return objective.train()


def test_the_stages_of_a_transformer_are_heard_too():
    objective, spec = transformer().eval(), views(0)["global"][0]
    features = objective.encoder(spec)
    assert objective.names == ["embed", "blocks.0"]
    _, embed, *inner = objective.all_logits(spec, None)
    for place, logits in enumerate(inner):
        torch.testing.assert_close(logits, objective.heads[1 + place](features.layers[place].mean(1)))
    torch.testing.assert_close(embed, objective.heads[0](objective.encoder.embed(spec).mean((2, 3))))
    assert not any(part._forward_hooks for part in objective.modules())


def test_a_batch_that_is_encoded_in_pieces_teaches_the_same():
    slopes = []
    for pieces in (1, 3):
        objective = transformer(pieces)
        said = batch() | {"label": batch()["label"].clamp_max(2)}
        terms = objective(views(0), said, generator(0))
        sum(terms.values()).backward()
        slopes.append([p.grad for p in objective.parameters() if p.grad is not None])
    assert len(slopes[0]) == len(slopes[1]) > 10
    for one, three in zip(*slopes, strict=True):
        torch.testing.assert_close(one, three, rtol=1e-3, atol=1e-6)


def test_positions_are_averaged_whatever_a_stage_gives():
    x = torch.randn(2, 3, 4, 5, generator=generator(0))
    tokens = x.flatten(2).transpose(1, 2)
    for given in (x, tokens, (tokens, None)):
        torch.testing.assert_close(over_positions(given), x.mean((2, 3)))


def test_an_encoder_without_shallow_layers_is_refused_with_the_remedy():
    with pytest.raises(AudiorepError, match=r"Plain has no layers before its last.*objective=self_distill_predictions"):
        SelfDistill(Plain(), LabelLoss(), Divergence()).prepare(setting())


def test_the_answers_of_a_classifier_are_those_of_its_head():
    objective, spec = build("self_distill").eval(), views(0)["global"][0]
    wanted = log_answers(objective.classifier(spec), False)
    torch.testing.assert_close(log_answers(objective.all_logits(spec, None)[0], False), wanted)
