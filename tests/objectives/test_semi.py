"""Semi-supervised objectives: batches worked out by hand, teachers, banks, MixMatch, and that agreement is learned."""

import logging
import math
from itertools import permutations

import pytest
import torch
from plain import Plain, drawn, heard, likely, plain, setting, told, written
from small import COUNT, KINDS, batch, build, views
from torch.nn import functional as F

from audiorep.augment.labels import Mixup
from audiorep.compress import Compress, FixedNorm, Log, Pcen
from audiorep.errors import AudiorepError
from audiorep.losses.agreement import Everything, Mask, Power, Ramp, SquaredError
from audiorep.losses.answers import LabelLoss
from audiorep.objectives.base import Setting
from audiorep.objectives.mixmatch import MixMatch
from audiorep.teachers import Bank
from audiorep.types import generator

NAN = math.nan
SEMI = ["pseudo_label", "pi_model", "consistency_augmentation", "consistency_noise", "consistency_dropout",
        "temporal_ensembling", "mean_teacher",
        "fixmatch", "flexmatch", "self_distill_predictions"]  # fmt: skip
CLASSIFIERS = [*SEMI, "mixmatch", "supervised", "weak_labels", "self_distill", "mutual_learning", "co_teaching"]


def number(x: torch.Tensor) -> float:
    return float(x.detach())


# -------------------------------------------------------------------------- FixMatch

WEAK = likely([0.98, 0.01, 0.01], [0.01, 0.97, 0.02], [0.60, 0.30, 0.10], [0.005, 0.005, 0.99])
STRONG = likely([0.50, 0.30, 0.20], [0.25, 0.50, 0.25], [0.10, 0.10, 0.80], [0.20, 0.20, 0.60])
LABEL = [0, -1, -1, 2]


def test_fixmatch_on_a_batch_worked_out_by_hand():
    """The third target is not sure enough; the mean is over all four windows all the same."""
    objective = plain("fixmatch")
    terms = objective({"weak": [WEAK], "strong": [STRONG]}, told(LABEL), generator(0))
    assert number(terms["labels"]) == pytest.approx(-(math.log(0.98) + math.log(0.99)) / 2, rel=1e-5)
    assert number(terms["agreement"]) == pytest.approx(-(math.log(0.5) + math.log(0.5) + math.log(0.6)) / 4, rel=1e-5)
    assert objective.watched() == {"counted": 0.5, "alpha": 1.0}  # of the two without a label


def test_in_fixmatch_the_target_has_no_gradient_and_what_does_not_count_has_none_either():
    objective = plain("fixmatch")
    weak, strong = WEAK.clone().requires_grad_(), STRONG.clone().requires_grad_()
    terms = objective({"weak": [weak], "strong": [strong]}, told(LABEL), generator(0))
    slope = torch.autograd.grad(terms["agreement"], (weak, strong), retain_graph=True, allow_unused=True)
    assert slope[0] is None or not slope[0].any()
    assert slope[1].flatten(1).any(1).tolist() == [True, True, False, True]
    (named,) = torch.autograd.grad(terms["labels"], weak)
    assert named.flatten(1).any(1).tolist() == [True, False, False, True]


def test_fixmatch_of_several_labels_asks_every_question_by_itself():
    objective = plain("fixmatch", several=True)
    weak, strong = written([[4.0, -4.0, 1.0], [0.0, -9.0, 9.0]]), written([[0.5, 0.5, 0.5], [1.0, 1.0, -1.0]])
    terms = objective({"weak": [weak], "strong": [strong]}, told([[1.0, NAN, NAN], [NAN, 0.0, 1.0]]), generator(0))

    def cost(x: float, present: bool) -> float:
        return math.log1p(math.exp(-x if present else x))

    labels = (cost(4.0, True) + cost(-9.0, False) + cost(9.0, True)) / 3
    agreement = (cost(0.5, True) + cost(0.5, False) + cost(1.0, False) + cost(-1.0, True)) / 6  # sigmoid(4) = 0.982
    assert number(terms["labels"]) == pytest.approx(labels, rel=1e-4)
    assert number(terms["agreement"]) == pytest.approx(agreement, rel=1e-5)


def test_flexmatch_counts_at_first_what_fixmatch_would_not_and_then_asks_for_more():
    objective = plain("flexmatch", rows=4)
    made, said = {"weak": [WEAK], "strong": [STRONG]}, told(LABEL)
    shown = []
    for _ in range(3):
        objective(made, said, generator(0))
        shown.append(objective.watched()["counted"])
    # at first all; then one row of each class is sure and one of none: beta = 1, threshold 0.95, which row 2 misses
    assert shown == [1.0, 0.5, 0.5]


# -------------------------------------------------------------------------- pi-model


def test_the_pi_model_on_two_views_equals_a_loop_and_both_are_drawn_together():
    objective = plain("pi_model")
    specs = [drawn(seed).requires_grad_() for seed in (1, 2)]
    for progress, alpha in ((0.0, 30 * math.exp(-5 * (1 - 0.01 / 0.4) ** 2)), (0.2, 30 * math.exp(-1.25)), (0.5, 30.0)):
        objective.after_step(progress)
        terms = objective({"weak": specs}, told(LABEL), generator(0))
        p, q = (heard(spec.detach()) for spec in specs)
        wanted = sum(float((p[i, k] - q[i, k]) ** 2) for i in range(4) for k in range(3)) / 12
        assert number(terms["agreement"]) == pytest.approx(alpha * wanted, rel=1e-5)
        labels = sum(-math.log(float(r[i, LABEL[i]])) for r in (p, q) for i in (0, 3)) / 4
        assert number(terms["labels"]) == pytest.approx(labels, rel=1e-5)
    slopes = torch.autograd.grad(terms["agreement"], specs)
    assert all(bool(slope.flatten(1).any(1).all()) for slope in slopes)


def test_every_view_is_compared_with_every_other_in_both_orders():
    """With a distance that is not the same both ways."""
    parts = [
        "teacher._target_=audiorep.teachers.StopGradient",
        "distance._target_=audiorep.losses.agreement.SoftCrossEntropy",
        "alpha.length=0",
    ]
    objective = plain("pi_model", *parts)
    specs = [drawn(seed) for seed in (1, 2, 3)]
    ours = number(objective({"weak": specs}, told(LABEL), generator(0))["agreement"])
    p = [heard(spec) for spec in specs]
    pairs = [float(-(p[j] * p[i].log()).sum(1).mean()) for i, j in permutations(range(3), 2)]
    assert len(set(pairs)) == 6 and ours == pytest.approx(30.0 * sum(pairs) / 6, rel=1e-5)


def test_a_single_view_is_heard_twice_and_dropout_alone_tells_the_two_apart():
    objective = build("consistency_dropout").eval()
    objective.alpha = Ramp(1.0, 0.0)
    made, answer = {"global": views(0)["global"][:1]}, objective.student
    ours = objective(made, batch(), generator(7))["agreement"]
    rng = generator(7)
    one, other = (answer.log(made["global"][0], rng).exp() for _ in range(2))
    torch.testing.assert_close(ours, (one - other).square().mean())
    assert number(ours) > 0.0
    answer.classifier.dropout = 0.0
    assert number(objective(made, batch(), generator(7))["agreement"]) < 1e-9


def test_the_clean_window_is_the_target_of_the_noisy_one_and_has_no_gradient():
    objective = plain("consistency_noise", "alpha.length=0")
    clean, noisy = drawn(1).requires_grad_(), drawn(2).requires_grad_()
    terms = objective({"clean": [clean], "noisy": [noisy]}, told(LABEL), generator(0))
    wanted = -(heard(clean) * heard(noisy).log()).sum(1).mean()
    assert number(terms["agreement"]) == pytest.approx(number(wanted), rel=1e-5)
    labels = sum(-math.log(float(heard(clean.detach())[i, LABEL[i]])) for i in (0, 3)) / 2
    assert number(terms["labels"]) == pytest.approx(labels, rel=1e-5)
    slope = torch.autograd.grad(terms["agreement"], (clean, noisy), allow_unused=True)
    assert (slope[0] is None or not slope[0].any()) and bool(slope[1].any())


@pytest.mark.parametrize("name", ["pi_model", "fixmatch"])
def test_a_learned_temperature_is_trained_with_the_rest(name):
    objective = plain(name)
    objective.sharpen = Power(0.5, learned=True)
    objective.mask = Everything()
    specs = {"weak": [drawn(1), drawn(2)], "strong": [drawn(3)]}
    objective(specs, told(LABEL), generator(0))["agreement"].backward()
    assert any(p is objective.sharpen.raw for p in objective.parameter_groups()["main"])
    assert float(objective.sharpen.raw.grad) != 0.0


# ---------------------------------------------------------------------- mean teacher


def test_the_mean_teacher_gives_the_target_without_dropout_and_has_no_gradient():
    objective, made = build("mean_teacher"), views(0)
    objective.teacher.update(objective.student, 0.0)
    torch.nn.init.normal_(objective.teacher.network.classifier.head.weight)  # another network than the student
    objective.eval()
    objective.alpha = Ramp(1.0, 0.0)
    terms = objective(made, batch(), generator(1))
    target = objective.teacher.network.classifier(made["weak"][0]).softmax(1)
    others = objective.teacher.network.classifier(made["weak"][1]).softmax(1)
    rng = generator(1)
    for weak in made["weak"]:
        objective.student.log(weak, rng)
    said = objective.student.log(made["strong"][0], rng).exp()[:, 0]
    wanted = sum((said - t).square().mean() for t in (target, others)) / 2
    torch.testing.assert_close(terms["agreement"], wanted)
    assert number(terms["agreement"]) > 1e-3
    terms["agreement"].backward()
    assert all(p.grad is None and not p.requires_grad for p in objective.teacher.parameters())
    assert all(bool(p.grad.abs().sum() > 0) for p in objective.student.parameters())


def test_the_slow_average_follows_and_is_the_classifier_that_is_kept():
    objective = build("mean_teacher")
    assert objective.classifier is objective.teacher.network.classifier
    assert build("pi_model").classifier is not None
    plain_one = build("fixmatch")
    assert plain_one.classifier is plain_one.student.classifier
    before = [p.clone() for p in objective.teacher.parameters()]
    sum(objective(views(0), batch(), generator(0)).values()).backward()
    torch.optim.SGD(objective.parameter_groups()["main"], lr=0.1).step()
    objective.after_step(0.0)
    pairs = zip(before, objective.teacher.parameters(), objective.student.parameters(), strict=True)
    for old, new, now in pairs:
        torch.testing.assert_close(new, 0.97 * old + 0.03 * now)
        assert not torch.equal(new, old)
    buffers = list(zip(objective.teacher.network.buffers(), objective.student.buffers(), strict=True))
    assert buffers and all(torch.equal(mine, theirs) for mine, theirs in buffers)
    said = objective.eval().classifier(views(0)["weak"][0]).argmax(1)
    held = batch() | {"label": said}
    assert objective.measure(iter([(views(0), held)]), generator(0)) == {"accuracy": 1.0}


# --------------------------------------------------------------- temporal ensembling


def test_the_bank_equals_algorithm_2_of_laine_and_aila():
    rows, momentum, rng = 6, 0.6, generator(0)
    bank = Bank(torch.nn.Identity(), momentum)
    bank.prepare(rows, (1, 3))
    total = [[0.0] * 3 for _ in range(rows)]
    for epoch in range(1, 5):
        said = torch.rand(rows, 1, 3, generator=rng).softmax(2)
        for chunk in torch.randperm(rows, generator=rng).split(2):
            (target,) = bank([], [said[chunk]], chunk)
            for place, i in enumerate(chunk.tolist()):
                for k in range(3):
                    if epoch == 1:  # nothing yet: from itself it cannot differ
                        wanted = float(said[i, 0, k])
                    else:
                        wanted = total[i][k] / (1.0 - momentum ** (epoch - 1))
                    assert float(target[place, 0, k]) == pytest.approx(wanted, rel=1e-5)
                    total[i][k] = momentum * total[i][k] + (1.0 - momentum) * float(said[i, 0, k])


def test_the_bank_averages_the_views_of_a_look_and_knows_how_often_it_looked_at_each_row():
    bank = Bank(torch.nn.Identity(), 0.5)
    bank.prepare(3, (1, 2))
    a, b = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.5, 0.5]]])
    bank([], [a, b], torch.tensor([2]))  # 0.75
    both = bank([], [b], torch.tensor([2]))[0]
    torch.testing.assert_close(both, torch.tensor([[[0.75, 0.25]]]))
    third = bank([], [a], torch.tensor([2]))[0]  # (0.25 * 0.75 + 0.5 * 0.5) / 0.75
    torch.testing.assert_close(third, torch.tensor([[[0.4375 / 0.75, 0.3125 / 0.75]]]))
    assert bank.looks.tolist() == [0.0, 0.0, 3.0]


def test_a_window_that_comes_twice_in_a_batch_has_been_looked_at_once():
    bank = Bank(torch.nn.Identity(), 0.5)
    bank.prepare(2, (1, 2))
    said = torch.tensor([[[1.0, 0.0]], [[0.2, 0.8]], [[0.5, 0.5]]])
    bank([], [said], torch.tensor([1, 0, 1]))
    assert bank.looks.tolist() == [1.0, 1.0]
    (again,) = bank([], [said], torch.tensor([0, 1, 1]))
    torch.testing.assert_close(again, torch.tensor([[[0.2, 0.8]], [[0.75, 0.25]], [[0.75, 0.25]]]))


@pytest.mark.parametrize(("name", "momentum"), [("temporal_ensembling", 0.6), ("self_distill_predictions", 0.0)])
def test_the_third_look_at_a_row_is_compared_with_the_first_two(name, momentum):
    objective = plain(name)
    objective.alpha, objective.distance = Ramp(1.0, 0.0), SquaredError()
    looks = [drawn(seed) for seed in range(3)]
    for spec in looks[:2]:
        objective({"weak": [spec]}, told(LABEL, index=[6, 0, 3, 4]), generator(0))
    p = [heard(spec) for spec in looks]
    ours = objective({"weak": [looks[2]]}, told(LABEL, index=[6, 0, 3, 4]), generator(0))["agreement"]
    target = (momentum * (1 - momentum) * p[0] + (1 - momentum) * p[1]) / (1 - momentum**2)
    assert number(ours) == pytest.approx(float((p[2] - target).square().mean()), rel=1e-4)
    again = objective({"weak": [looks[2]]}, told(LABEL, index=[7, 1, 2, 5]), generator(0))["agreement"]
    assert number(again) == pytest.approx(0.0, abs=1e-9)  # of rows not yet heard nothing else is known


def test_what_the_bank_remembers_survives_saving_bit_for_bit():
    whole, again = plain("temporal_ensembling"), plain("temporal_ensembling")
    for seed in range(3):
        whole({"weak": [drawn(seed), drawn(seed + 10)]}, told(LABEL), generator(seed))
        whole.after_step(seed / 5)
    again.load_state_dict(whole.state_dict())
    assert torch.equal(whole.teacher.total, again.teacher.total) and float(again.teacher.looks.sum()) == 12.0
    made = {"weak": [drawn(5), drawn(6)]}
    one, other = (o(made, told(LABEL), generator(0)) for o in (whole, again))
    assert torch.equal(one["agreement"], other["agreement"]) and number(one["agreement"]) > 0


def test_a_bank_without_a_memory_that_fades_is_refused():
    with pytest.raises(AudiorepError, match=r"teacher.momentum=1.0 must lie in \[0, 1\)"):
        Bank(torch.nn.Identity(), 1.0)


# --------------------------------------------------------------- agreement is learned


def looks(kind: str, seed: int) -> dict[str, list[torch.Tensor]]:
    """New noise on the same windows; a quarter of them have labels."""
    base, rng = torch.randn(COUNT, 1, 32, 32, generator=generator(99)), generator(seed)

    def noisy(strength: float) -> torch.Tensor:
        return base + strength * torch.randn(base.shape, generator=rng)

    if kind == "consistency_noise":
        return {"clean": [base], "noisy": [noisy(1.0)]}
    return {"global": [base]} if kind == "consistency_dropout" else {"weak": [noisy(0.7), noisy(0.7)]}


def disagreement(objective, kind: str) -> float:
    """Of the trained network, under noise that was not in training; of dropout the mean over draws that were not."""
    found, answer = [], objective.student
    objective.eval()
    with torch.no_grad():
        for seed in range(1000, 1008):
            made = looks(kind, seed)
            if kind == "consistency_dropout":
                pair = [answer.log(made["global"][0], generator(seed, i)) for i in range(2)]
            else:
                pair = [answer.log(spec) for of_kind in made.values() for spec in of_kind]
            found.append(float((pair[0].exp() - pair[1].exp()).square().mean()))
    return sum(found) / len(found)


def trained(kind: str, weight: float, steps: int = 25) -> tuple[float, float]:
    """Disagreement at the end, and the last loss of the labels."""
    objective = build(kind)
    objective.alpha = Ramp(weight, 0.0)
    if kind != "consistency_dropout":
        objective.student.classifier.dropout = 0.0
    said = batch()
    said["label"] = torch.where(torch.arange(COUNT) < 8, torch.arange(COUNT) % 4, -1)
    optimizer = torch.optim.AdamW(objective.parameter_groups()["main"], lr=2e-3)
    for step in range(steps):
        terms = objective(looks(kind, step), said, generator(step))
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
        objective.after_step(0.0)
    return disagreement(objective, kind), number(terms["labels"])


@pytest.mark.parametrize(
    ("kind", "weight"), [("consistency_noise", 3.0), ("consistency_dropout", 30.0), ("consistency_augmentation", 30.0)]
)
def test_noise_dropout_and_augmentation_alone_each_teach_to_agree(kind, weight):
    """Beside a classifier that learns the same labels without: else to say nothing would be agreement too."""
    (without, plainly), (with_it, labels) = trained(kind, 0.0), trained(kind, weight)
    assert plainly < 0.7 and labels < 0.7  # of log 4 = 1.39
    assert with_it < 0.7 * without, (with_it, without)


# ------------------------------------------------------------------------ the warning


def passed(objective, threshold: float, caplog, epoch: int) -> list[str]:
    """What is said after a pass of two batches with that threshold."""
    objective.mask.threshold = threshold
    for seed in range(2):
        objective(views(seed), batch(), generator(seed))
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        objective.before_epoch(epoch, lambda: torch.zeros(1, 1), generator(0))
    return [record.getMessage() for record in caplog.records]


def test_a_pass_in_which_nothing_was_confident_is_told_and_others_are_not(caplog):
    objective = build("fixmatch")
    with caplog.at_level(logging.WARNING):
        objective.before_epoch(0, lambda: torch.zeros(1, 1), generator(0))
    assert not caplog.records
    (said,) = passed(objective, 0.999, caplog, epoch=1)
    assert "in pass 0" in said and "lower objective.mask.threshold" in said
    assert passed(objective, 0.0, caplog, epoch=2) == []
    assert len(passed(objective, 0.999, caplog, epoch=3)) == 1  # the pass before does not excuse this one


def test_one_confident_window_in_a_pass_is_enough(caplog):
    objective = build("fixmatch")
    objective(views(0), batch(), generator(0))  # threshold 0
    assert passed(objective, 0.999, caplog, epoch=1) == []


class Sure(Mask):
    """Of the first `count` samples."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, p, slot):
        return (torch.arange(len(p)) < self.count)[:, None].expand(p.shape[:2])


def test_confidence_in_labelled_windows_does_not_excuse_that_the_unlabelled_teach_nothing(caplog):
    objective = build("fixmatch")
    label = torch.full((COUNT,), -1)
    label[:4] = 0
    for sure, share in ((4, 0.0), (5, 1 / (COUNT - 4))):
        objective.mask = Sure(sure)
        objective(views(0), batch() | {"label": label}, generator(0))
        assert objective.watched()["counted"] == pytest.approx(share)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            objective.before_epoch(1, lambda: torch.zeros(1, 1), generator(0))
        assert len(caplog.records) == (share == 0)


# ---------------------------------------------------------------------- several labels


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_several_labels_of_which_some_are_unknown_teach_every_objective(name):
    """The labels cost the binary cross-entropy over what is known; all terms have a gradient."""
    objective = build(name)
    objective.prepare(
        Setting(256, 128, KINDS, 256, 4, 20.0, outputs=4, counts=[[128, 128]] * 4, names=("a", "b", "c", "d"))
    )
    objective.eval()
    for part in objective.modules():
        if hasattr(part, "dropout") and hasattr(part, "head"):
            part.dropout = 0.0
    said, rng = batch(), generator(11)
    label = torch.rand(COUNT, 4, generator=rng).round()
    label[torch.rand(COUNT, 4, generator=rng) < 0.3] = NAN
    label[COUNT // 2 :] = NAN
    made = views(0)
    terms = objective(made, said | {"label": label}, generator(0))
    if name != "mixmatch":  # where labels are of mixtures
        known = ~label.isnan()
        kind = getattr(objective, "label_view", None) or objective.view
        peers = name in ("mutual_learning", "co_teaching")
        networks = [objective.student, objective.second] if peers else [objective.student]
        specs = [[spec] for spec in made[kind]] if peers else [made[kind]]
        wanted = 0.0
        for network, shown in zip(networks, specs, strict=False):
            classifier = getattr(network, "classifier", network)
            each = [F.binary_cross_entropy_with_logits(classifier(spec)[known], label[known]) for spec in shown]
            wanted = wanted + sum(each) / len(each)
        torch.testing.assert_close(terms["labels"], wanted)
    again = objective(made, said | {"label": torch.full_like(label, NAN)}, generator(0))
    assert number(again["labels"]) == 0.0
    for term in terms.values():
        assert bool(term.isfinite()) and number(term) >= 0.0
        objective.zero_grad()
        term.backward(retain_graph=True)
        slopes = [p.grad for p in objective.parameters() if p.grad is not None]
        assert slopes and all(slope.isfinite().all() for slope in slopes)
    assert number(terms["labels"]) > 0.1


# --------------------------------------------------------------------------- MixMatch


def test_mixmatch_on_a_batch_worked_out_in_a_loop():
    """Algorithm 1 of Berthelot et al.: guess, sharpen, shuffle, mix in power; then eq. 3-5."""
    offset, mean, std, temperature = 1e-3, -2.0, 1.5, 0.5
    objective = plain("mixmatch", compress=Compress(Log(offset), FixedNorm(mean=mean, std=std)))
    objective.after_step(0.5)  # alpha = 30
    specs, label = [drawn(1, 5), drawn(2, 5)], [2, -1, 0, -1, -1]
    ours = objective({"weak": specs}, told(label), generator(8))

    def one_hot(k: int) -> list[float]:
        return [float(k == c) for c in range(3)]

    items: list[tuple[torch.Tensor, list[float]]] = [(specs[0][i].double(), one_hot(label[i])) for i in (0, 2)]
    for spec in specs:
        for i in (1, 3, 4):
            p = [float((heard(specs[0])[i, c] + heard(specs[1])[i, c]) / 2) ** (1 / temperature) for c in range(3)]
            items.append((spec[i].double(), [v / sum(p) for v in p]))
    rng = generator(8)
    order = torch.randperm(8, generator=rng).tolist()
    lam = objective.mix.sample(torch.zeros(8, 1, 1, 1), rng).tolist()
    assert min(lam) >= 0.5 and order != sorted(order)
    labels, unlabelled = 0.0, 0.0
    for place, ((x, t), j) in enumerate(zip(items, order, strict=True)):
        y, u = items[j]
        power = lam[place] * ((x * std + mean).exp() - offset).clamp_min(0) + (1 - lam[place]) * (
            (y * std + mean).exp() - offset
        ).clamp_min(0)
        p = ((power + offset).log() - mean)[0, :, 0].div(std).softmax(0).tolist()
        target = [lam[place] * a + (1 - lam[place]) * b for a, b in zip(t, u, strict=True)]
        if place < 2:
            labels -= sum(b * math.log(a) for a, b in zip(p, target, strict=True)) / 2
        else:
            unlabelled += sum((a - b) ** 2 for a, b in zip(p, target, strict=True)) / (3 * 6)
    assert number(ours["labels"]) == pytest.approx(labels, rel=1e-4)
    assert number(ours["agreement"]) == pytest.approx(30.0 * unlabelled, rel=1e-4)


class Watched(Mixup):
    """Notes which targets it mixes, and leaves the windows as they are."""

    def apply(self, a, target_a, b, target_b, lam):
        self.targets = target_a
        return a, target_a


def test_the_guess_stands_in_for_a_label_of_which_nothing_is_known():
    objective = plain("mixmatch", several=True)
    objective.mix = Watched(first=True)
    specs = [drawn(1, 2), drawn(2, 2)]
    terms = objective({"weak": specs}, told([[1.0, NAN, 0.0], [NAN, NAN, NAN]]), generator(0))
    p = sum(spec[:, 0, :, 0].double().sigmoid() for spec in specs) / 2
    guess = (p**2 / (p**2 + (1 - p) ** 2)).float()
    present = objective.mix.targets[:, :, 1]
    assert present[0].tolist() == pytest.approx([1.0, float(guess[0, 1]), 0.0], rel=1e-5)
    torch.testing.assert_close(present[1:], guess[1:].expand(2, 3))
    x = specs[0][0, 0, :, 0].double()
    wanted = -(float(F.logsigmoid(x[0])) + float(F.logsigmoid(-x[2]))) / 2  # what is only guessed is no label
    assert number(terms["labels"]) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("label", [[-1, -1, -1, -1], [0, 1, 2, 0]])
def test_mixmatch_takes_a_batch_without_labels_and_one_of_nothing_else(label):
    objective = plain("mixmatch")
    terms = objective({"weak": [drawn(1), drawn(2)]}, told(label), generator(0))
    empty = "labels" if label[0] < 0 else "agreement"
    assert number(terms[empty]) == 0.0 and all(number(terms[name]) > 0 for name in terms.keys() - {empty})
    sum(terms.values()).backward()
    assert all(p.grad.isfinite().all() for p in objective.parameters())


def test_guesses_have_no_gradient_but_for_a_learned_temperature():
    objective = plain("mixmatch")
    objective.sharpen = Power(0.5, learned=True)
    objective.mix = Watched(first=True)
    specs = [drawn(1).requires_grad_(), drawn(2).requires_grad_()]
    terms = objective({"weak": specs}, told([0, 1, -1, -1]), generator(0))
    (slope,) = torch.autograd.grad(objective.mix.targets.square().sum(), objective.sharpen.raw, retain_graph=True)
    assert float(slope) != 0.0
    assert torch.autograd.grad(objective.mix.targets.sum(), specs, retain_graph=True, allow_unused=True) == (None, None)
    terms["agreement"].backward()
    assert float(objective.sharpen.raw.grad) != 0.0


def test_mixmatch_refuses_a_mixture_nearer_to_the_other_a_single_view_and_what_has_no_power():
    parts = (LabelLoss(), Power(), Mixup(), SquaredError(), Ramp())
    with pytest.raises(AudiorepError, match=r"mix\.first=false.*set it to true"):
        MixMatch(Plain(), *parts)
    with pytest.raises(AudiorepError, match=r"needs 2 view\(s\) of the kind 'weak'.* 1 weak"):
        build("mixmatch").prepare(Setting(8, 4, {"weak": 1}, 8, 3, outputs=3, counts=[[1, 1, 1]]))
    with pytest.raises(AudiorepError, match="PCEN cannot be undone"):
        build("mixmatch").prepare(setting(compress=Compress(Pcen(0.01))))


# -------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("name", [name for name in CLASSIFIERS if name not in ("supervised", "weak_labels")])
@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"labelled": 0, "classes": 0}, "two labels or more, and the training side has 0"),
        ({"labelled": 50, "classes": 1}, "two labels or more, and the training side has 1"),
        ({"labelled": 50, "classes": 3, "views": {"other": 2}}, "needs .* view.* makes 2 other: choose another views="),
    ],
)
def test_what_cannot_be_learned_from_is_refused_with_the_remedy(name, facts, words):
    given = {"views": KINDS, "outputs": 3, "counts": [[5, 5, 5]]} | facts
    with pytest.raises(AudiorepError, match=words):
        build(name).prepare(Setting(100, 16, **given))


def test_a_long_wait_for_confidence_is_told_ever_less_often(caplog):
    objective = build("fixmatch")
    for number in range(1, 9):
        objective.counted.copy_(torch.tensor([0.0, 1.0]))
        objective.before_epoch(number, lambda: torch.empty(0), generator(0))
    assert [record.args[0] for record in caplog.records] == [f"in pass {n} over the corpus" for n in (0, 1, 3, 7)]
