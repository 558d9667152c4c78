"""Metric losses and mining against written-out float64 loops, as they ship, and against pytorch-metric-learning."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from peers import lightly
from pytorch_metric_learning import distances, losses, miners, reducers
from scipy.linalg import subspace_angles
from scipy.stats import chisquare
from torch import Tensor

from audiorep.assign import Prototypes
from audiorep.composing import compose
from audiorep.errors import AudiorepError
from audiorep.losses import metric, mining
from audiorep.losses.contrast import InfoNce, NtXent
from audiorep.losses.metric import Debiased, PairContrastive, PhiPsi, Relation, SmoothAp, SupCon
from audiorep.losses.redundancy import BarlowTwins, VicReg
from audiorep.objectives.metric import relate
from audiorep.types import generator

EYE = torch.eye(5, dtype=torch.bool)
# 0 and 4 belong to both kinds: they have no negatives; 6 to none: no positives
KINDS = torch.tensor([[1, 1], [1, 0], [0, 1], [1, 0], [1, 1], [1, 0], [0, 0]]).float()


def by_label(labels: list[int], views: int = 1) -> Relation:
    label = torch.tensor(labels)
    same = (label[:, None] == label) & (label >= 0)[:, None]
    return relate(same | torch.eye(len(label), dtype=torch.bool), views)


def by_kinds() -> Relation:
    both = KINDS.sum(1) == 2
    same = (KINDS @ KINDS.T > 0) | both[:, None] | both
    return relate(same | torch.eye(len(KINDS), dtype=torch.bool), 1)


RELATIONS = {
    "augmentation": relate(EYE, 2),
    "labels": by_label([0, 0, 0, 0, 1, 1, 2, -1]),  # classes of unequal size; the last two have no positive
    "labels_of_views": by_label([0, 0, 0, 1, 2], 2),
    "without_negatives": by_kinds(),
}


def embeddings(relation: Relation, seed: int = 0, d: int = 4) -> Tensor:
    return torch.randn(len(relation.view), d, generator=generator(seed), dtype=torch.float64).requires_grad_()


def value_of(loss: Callable, z: Tensor, relation: Relation, progress: float = 0.0) -> Tensor:
    return torch.stack(list(loss(z, relation, generator(7), progress).values())).sum()


def agree(mine: Tensor, wanted: Tensor, *at: Tensor) -> None:
    torch.testing.assert_close(mine, wanted, rtol=1e-9, atol=1e-9)
    got, wanted = (torch.autograd.grad(loss, at, retain_graph=True) for loss in (mine, wanted))
    for ours, right in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, right, rtol=1e-8, atol=1e-9)


# ------------------------------------------------------------ written out


def half_square(a: Tensor, b: Tensor) -> Tensor:
    return ((a - b) ** 2).sum() / 2


DISTANCES = {
    "cosine": lambda a, b: half_square(a / a.norm(), b / b.norm()),
    "euclidean": half_square,
    "inner_product": lambda a, b: -(a * b).sum(),
}


def cos(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum() / (a.norm() * b.norm())


def semi_hard(near: Tensor, far: Tensor) -> bool:
    return bool(near < far < near + 0.2)


def family(z, relation, phi, psi, distance=DISTANCES["cosine"], mined=lambda near, far: True, across=False):
    """``mean over (i, p) of phi(sum_j psi(d_ip - d_ij))``."""
    terms = []
    for i in range(len(z)):
        for p in range(len(z)):
            if not relation.positive[i, p] or (across and relation.view[i] == relation.view[p]):
                continue
            near, total = distance(z[i], z[p]), []
            for j in range(len(z)):
                if not relation.negative[i, j] or (across and relation.view[i] == relation.view[j]):
                    continue
                far = distance(z[i], z[j])
                if mined(near, far):
                    total.append(psi(near - far))
            if total:
                terms.append(phi(sum(total)))
    return sum(terms) / len(terms) if terms else 0.0 * z.sum()


def pair_contrastive_loop(z, relation, margin):
    attract, repel = [], []
    for i in range(len(z)):
        for j in range(len(z)):
            d = (2 * DISTANCES["cosine"](z[i], z[j])).sqrt() if i != j else 0.0
            if relation.positive[i, j]:
                attract.append(d**2)
            if relation.negative[i, j]:
                repel.append(torch.clamp(margin - d, min=0) ** 2)
    return sum(attract) / len(attract) + sum(repel) / len(repel)


def supcon_loop(z, relation, tau):
    anchors = []
    for i in range(len(z)):
        others = [torch.exp(cos(z[i], z[k]) / tau) for k in range(len(z)) if k != i]
        logs = [
            torch.log(torch.exp(cos(z[i], z[p]) / tau) / sum(others)) for p in range(len(z)) if relation.positive[i, p]
        ]
        if logs:
            anchors.append(-sum(logs) / len(logs))
    return sum(anchors) / len(anchors)


def smooth_ap_loop(z, relation, tau):
    anchors = []
    for i in range(len(z)):
        positives = [p for p in range(len(z)) if relation.positive[i, p]]
        negatives = [n for n in range(len(z)) if relation.negative[i, n]]
        precisions = []
        for p in positives:

            def ahead(k: int, i=i, p=p) -> Tensor:
                return 1 / (1 + torch.exp(-(cos(z[i], z[k]) - cos(z[i], z[p])) / tau))

            rank = 1 + sum(ahead(q) for q in positives if q != p)
            precisions.append(rank / (rank + sum(ahead(n) for n in negatives)))
        if precisions:
            anchors.append(1 - sum(precisions) / len(precisions))
    return sum(anchors) / len(anchors)


def debiased_loop(z, relation, tau, prior):
    pairs = []
    for i in range(len(z)):
        for p in range(len(z)):
            if not relation.positive[i, p]:
                continue
            near = torch.exp(cos(z[i], z[p]) / tau)
            far = [torch.exp(cos(z[i], z[n]) / tau) for n in range(len(z)) if relation.negative[i, n]]
            if not far:
                pairs.append(0.0 * near)
                continue
            g = (sum(far) / len(far) - prior * near) / (1 - prior)
            g = torch.maximum(g, torch.exp(torch.tensor(-1 / tau, dtype=z.dtype)))
            pairs.append(-torch.log(near / (near + len(far) * g)))
    return sum(pairs) / len(pairs)


TAU, EPS, C = 0.3, 0.7, 4.0
FAMILY = {
    "info_nce": (
        metric.Log(TAU, EPS),
        metric.Exp(TAU),
        lambda s: TAU * torch.log(EPS + s),
        lambda x: torch.exp(x / TAU),
    ),
    "mine": (metric.Log(), metric.Exp(), torch.log, torch.exp),
    "triplet": (metric.LinearPhi(), metric.Hinge(0.2), lambda s: s, lambda x: torch.clamp(x + 0.2, min=0)),
    "soft_triplet": (
        metric.Log(TAU, 1.0),
        metric.Exp(TAU, EPS),
        lambda s: TAU * torch.log(1 + s),
        lambda x: torch.exp(x / TAU + EPS),
    ),
    "n_pair": (metric.Log(eps=1.0), metric.Exp(), lambda s: torch.log(1 + s), torch.exp),
    "lifted": (
        metric.SquaredLog(),
        metric.Exp(margin=EPS),
        lambda s: torch.clamp(torch.log(s), min=0) ** 2,
        lambda x: torch.exp(x + EPS),
    ),
    "modified_triplet": (
        metric.LinearPhi(),
        metric.Sigmoid(C),
        lambda s: s,
        lambda x: 1 / (1 + torch.exp(-C * x)),
    ),
    "triplet_contrastive": (metric.LinearPhi(), metric.LinearPsi(), lambda s: s, lambda x: x),
    # no row of the table, but a pair that nobody forbids: the logarithm of a sum that has no form of its own
    "log_of_sigmoid": (metric.Log(), metric.Sigmoid(C), torch.log, lambda x: 1 / (1 + torch.exp(-C * x))),
}


@pytest.mark.parametrize(
    "distance,relation",
    [*[("cosine", relation) for relation in RELATIONS], ("euclidean", "labels"), ("inner_product", "labels")],
)
@pytest.mark.parametrize("name", FAMILY)
def test_each_row_of_the_family_equals_a_float64_loop(name, distance, relation):
    phi, psi, phi_loop, psi_loop = FAMILY[name]
    relation = RELATIONS[relation]
    z = embeddings(relation)
    loss = PhiPsi(phi, psi, getattr(metric, distance))
    agree(value_of(loss, z, relation), family(z, relation, phi_loop, psi_loop, DISTANCES[distance]), z)


def test_pairs_across_views_and_the_norm_enter_as_they_say():
    relation = RELATIONS["labels_of_views"]
    z = embeddings(relation)
    loss = PhiPsi(metric.Log(eps=1.0), metric.Exp(), metric.inner_product, across_views=True, norm_weight=0.3)
    norm = 0.3 * sum((row**2).sum() for row in z) / len(z)
    wanted = family(z, relation, lambda s: torch.log(1 + s), torch.exp, DISTANCES["inner_product"], across=True)
    agree(value_of(loss, z, relation), wanted + norm, z)


OTHERS = {
    "pair_contrastive": (PairContrastive(0.9), lambda z, r: pair_contrastive_loop(z, r, 0.9)),
    "supcon": (SupCon(0.3), lambda z, r: supcon_loop(z, r, 0.3)),
    "smooth_ap": (SmoothAp(0.05), lambda z, r: smooth_ap_loop(z, r, 0.05)),
    "debiased": (Debiased(0.3, 0.1), lambda z, r: debiased_loop(z, r, 0.3, 0.1)),
    "debiased_at_its_floor": (Debiased(0.3, 0.6), lambda z, r: debiased_loop(z, r, 0.3, 0.6)),
}


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("name", OTHERS)
def test_each_loss_beside_the_family_equals_a_float64_loop(name, relation):
    loss, loop = OTHERS[name]
    z = embeddings(RELATIONS[relation])
    agree(value_of(loss, z, RELATIONS[relation]), loop(z, RELATIONS[relation]), z)


# -------------------------------------------------------------- as it ships


def info_nce(c: DictConfig, z: Tensor, r: Relation) -> Tensor:
    return family(z, r, lambda s: c.phi.tau * torch.log(c.phi.eps + s), lambda x: torch.exp(x / c.psi.tau))


def triplet(c: DictConfig, z: Tensor, r: Relation) -> Tensor:
    return family(z, r, lambda s: s, lambda x: torch.clamp(x + c.psi.margin, min=0), mined=semi_hard)


def soft_triplet(c: DictConfig, z: Tensor, r: Relation) -> Tensor:
    tau = c.phi.tau
    return family(z, r, lambda s: tau * torch.log(1 + s), lambda x: torch.exp(x / tau + c.psi.margin))


def n_pair(c: DictConfig, z: Tensor, r: Relation) -> Tensor:
    paired = family(z, r, lambda s: torch.log(1 + s), torch.exp, DISTANCES["inner_product"], across=True)
    return paired + c.norm_weight * sum((row**2).sum() for row in z) / len(z)


def lifted(c: DictConfig, z: Tensor, r: Relation) -> Tensor:
    def psi(x: Tensor) -> Tensor:
        return torch.exp(x + c.psi.margin)

    return family(z, r, lambda s: torch.clamp(torch.log(s), min=0) ** 2, psi)


SHIPPED = {
    "info_nce": info_nce,
    "mine": lambda c, z, r: family(z, r, torch.log, torch.exp),
    "triplet": triplet,
    "soft_triplet": soft_triplet,
    "n_pair": n_pair,
    "n_plus_one": lambda c, z, r: family(z, r, lambda s: torch.log(1 + s), lambda x: torch.exp(x / c.psi.tau)),
    "lifted": lifted,
    "modified_triplet": lambda c, z, r: family(z, r, lambda s: s, lambda x: 1 / (1 + torch.exp(-c.psi.c * x))),
    "triplet_contrastive": lambda c, z, r: family(z, r, lambda s: s, lambda x: x),
    "pair_contrastive": lambda c, z, r: pair_contrastive_loop(z, r, c.margin),
    "supcon": lambda c, z, r: supcon_loop(z, r, c.tau),
    "smooth_ap": lambda c, z, r: smooth_ap_loop(z, r, c.tau),
    "debiased": lambda c, z, r: debiased_loop(z, r, c.tau, c.prior),
}
"""Loops with the numbers of the config; (N + 1) draws its negatives, of which there are fewer here than it asks for."""


@pytest.mark.parametrize("name", SHIPPED)
def test_what_ships_equals_a_float64_loop(name):
    cfg = compose("pretrain", ["corpus=x", "out=x", f"objective={name}"]).objective.loss
    loss = instantiate(cfg)
    for relation in (RELATIONS["augmentation"], RELATIONS["labels_of_views"]):
        z = embeddings(relation, seed=3)
        agree(value_of(loss, z, relation), SHIPPED[name](cfg, z, relation), z)


def test_every_metric_objective_that_ships_is_tested():
    files = Path("configs/objective").glob("*.yaml")
    shipped = {file.stem for file in files if "parts/metric" in file.read_text()}
    assert shipped - {"domain_negatives"} == set(SHIPPED), "tests/objectives/test_domain.py has the other one"


# ------------------------------------------------------------ other libraries
# N-pair and lifted structure are defined otherwise there (one pair a class; the hinge over both ends of a pair): for
# them only the loops count.


@pytest.mark.parametrize("seed", range(3))
def test_info_nce_is_nt_xent_times_tau(seed):
    relation = relate(torch.eye(8, dtype=torch.bool), 2)
    z = embeddings(relation, seed, 6)
    ours = value_of(PhiPsi(metric.Log(0.2, 1.0), metric.Exp(0.2)), z, relation) / 0.2
    agree(ours, losses.NTXentLoss(temperature=0.2)(z, torch.arange(8).repeat(2)), z)
    agree(ours, lightly("loss.ntx_ent_loss").NTXentLoss(0.2)(z[:8], z[8:]), z)
    agree(value_of(Debiased(0.2, 0.0), z, relation), ours, z)  # nothing to correct for


LABELS = [0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4]
SQUARED = distances.LpDistance(normalize_embeddings=True, p=2, power=2)
"""Twice our distance."""


@pytest.mark.parametrize("seed", range(3))
def test_triplet_equals_pytorch_metric_learning(seed):
    relation, label = by_label(LABELS), torch.tensor(LABELS)
    z = embeddings(relation, seed)
    theirs = losses.TripletMarginLoss(margin=0.4, distance=SQUARED, reducer=reducers.SumReducer())(z, label)
    ours = value_of(PhiPsi(metric.LinearPhi(), metric.Hinge(0.2)), z, relation)  # a mean over pairs
    agree(2 * ours * int(relation.positive.sum()), theirs, z)


@pytest.mark.parametrize("seed", range(3))
def test_pair_contrastive_equals_pytorch_metric_learning(seed):
    # which does not square the hinges: a squared distance on one side, squared losses on the other
    relation, label = by_label(LABELS), torch.tensor(LABELS)
    z = embeddings(relation, seed)
    plain = distances.LpDistance(normalize_embeddings=True, p=2, power=1)
    single = {"reducer": reducers.DoNothingReducer()}
    attract = losses.ContrastiveLoss(0, 1, distance=SQUARED, **single)(z, label)["pos_loss"]["losses"]
    repel = losses.ContrastiveLoss(0, 1, distance=plain, **single)(z, label)["neg_loss"]["losses"]
    agree(value_of(PairContrastive(1.0), z, relation), attract.mean() + (repel**2).mean(), z)


@pytest.mark.parametrize("seed", range(3))
def test_supcon_equals_pytorch_metric_learning(seed):
    relation = by_label(LABELS)
    z = embeddings(relation, seed)
    agree(value_of(SupCon(0.1), z, relation), losses.SupConLoss(temperature=0.1)(z, torch.tensor(LABELS)), z)


@pytest.mark.parametrize("seed", range(3))
def test_smooth_ap_equals_pytorch_metric_learning(seed):
    # there, as in the authors' code, the query stands among its own positives; and as many classes as members
    label = torch.arange(4).repeat_interleave(4)
    same = label[:, None] == label
    relation = Relation(same, ~same, torch.zeros(16, dtype=torch.int64))
    z = embeddings(relation, seed)
    theirs = losses.SmoothAPLoss(temperature=0.1)(z, label)
    torch.testing.assert_close(value_of(SmoothAp(0.1), z, relation), theirs.double(), rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------- mining


def distances_of(seed: int, p: int = 12, m: int = 9) -> tuple[Tensor, Tensor, Tensor]:
    rng = generator(seed)
    near, far = torch.rand(p, generator=rng), torch.rand(p, m, generator=rng)
    return near, far, torch.rand(p, m, generator=rng) < 0.6


SELECTS = {
    "all": (mining.All(), lambda near, far: True),
    "easy": (mining.Easy(0.3), lambda near, far: far >= near + 0.3),
    "semi_hard": (mining.SemiHard(0.3), lambda near, far: near < far < near + 0.3),
    "hard": (mining.Hard(), lambda near, far: far < near),
}


@pytest.mark.parametrize("name", SELECTS)
def test_mining_selects_what_its_formula_says(name):
    part, wanted = SELECTS[name]
    near, far, allowed = distances_of(1)
    chosen = part(near, far, allowed, generator(0), 0.0)
    assert 0 < chosen.sum() <= allowed.sum()
    for i in range(len(near)):
        for j in range(far.shape[1]):
            assert bool(chosen[i, j]) == (bool(allowed[i, j]) and bool(wanted(near[i], far[i, j])))


def test_a_negative_at_its_positives_distance_is_neither_hard_nor_semi_hard():
    near, far = torch.tensor([0.5]), torch.tensor([[0.5]])
    for part in (mining.Hard(), mining.SemiHard(0.2)):
        assert not part(near, far, torch.ones(1, 1, dtype=torch.bool), generator(0), 0.0).any()


@pytest.mark.parametrize("kind", ["easy", "semihard", "hard"])
def test_mining_equals_pytorch_metric_learning(kind):
    relation = by_label(LABELS)
    z = embeddings(relation, 2).detach()
    theirs = miners.TripletMarginMiner(margin=0.6, type_of_triplets=kind, distance=SQUARED)(z, torch.tensor(LABELS))
    anchor, partner = relation.positive.nonzero(as_tuple=True)
    d = metric.cosine(z)
    part = {"easy": mining.Easy(0.3), "semihard": mining.SemiHard(0.3), "hard": mining.Hard()}[kind]
    chosen = part(d[anchor, partner], d[anchor], relation.negative[anchor], generator(0), 0.0)
    pair, negative = chosen.nonzero(as_tuple=True)
    ours = set(zip(anchor[pair].tolist(), partner[pair].tolist(), negative.tolist(), strict=True))
    assert len(ours) > 5 and ours == set(zip(*(part.tolist() for part in theirs), strict=True))


def test_sampled_negatives_are_so_many_of_the_allowed_or_all():
    near, far, allowed = distances_of(2, 40)
    for count in (1, 3, 100):
        chosen = mining.Sampled(count)(near, far, allowed, generator(0), 0.0)
        assert not (chosen & ~allowed).any()
        assert torch.equal(chosen.sum(1), allowed.sum(1).clamp_max(count))


@pytest.mark.parametrize("part", [mining.Sampled(2), mining.DistanceWeighted(8, count=2)])
def test_the_same_generator_draws_the_same_negatives(part):
    near, far, allowed = distances_of(3, 40)
    draws = [part(near, far, allowed, generator(seed), 0.0) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_sampled_negatives_come_alike_often():
    times = 20000
    far = torch.tensor([[0.1, 0.9, 0.2, 1.8, 0.4]]).expand(times, -1)
    allowed = torch.tensor([True, True, False, True, True]).expand(times, -1)
    chosen = mining.Sampled(2)(torch.zeros(times), far, allowed, generator(5), 0.0)
    pairs = (chosen.int() @ torch.tensor([1, 2, 4, 8, 16], dtype=torch.int32)).bincount()
    assert (pairs > 0).sum() == 6 and chisquare(pairs[pairs > 0].numpy()).pvalue > 0.01


def odds(d: float, dim: int, cutoff: float, limit: float) -> float:
    """Odds of a negative at distance d of the normalised embeddings: Wu et al. 2017, section 4.1."""
    at = max(d, cutoff)
    density = at ** (dim - 2) * (1 - at**2 / 4) ** ((dim - 3) / 2)
    return 1 / density if d < limit else 0.0


@pytest.mark.parametrize("dim", [3, 8])
def test_distance_weighted_negatives_come_as_often_as_the_formula_says(dim):
    times, d = 20000, [0.2, 0.45, 0.7, 0.9, 1.1, 1.39, 1.5, 0.8]
    allowed = torch.tensor([True] * 7 + [False]).expand(times, -1)
    far = (torch.tensor(d) ** 2 / 2).expand(times, -1)
    chosen = mining.DistanceWeighted(dim, 0.5, 1.4)(torch.zeros(times), far, allowed, generator(6), 0.0)
    assert (chosen.sum(1) == 1).all() and not chosen[:, 6:].any()
    wanted = np.array([odds(x, dim, 0.5, 1.4) for x in d[:6]])
    assert chisquare(chosen[:, :6].sum(0).numpy(), times * wanted / wanted.sum()).pvalue > 0.01


def test_distance_weighted_draws_as_pytorch_metric_learning_does():
    times, angle = 400, torch.tensor([0.0, 0.1, 0.4, 0.8, 1.2, 1.45, 2.0])  # within the cutoff ... beyond the limit
    z = torch.stack([angle.cos(), angle.sin(), 0 * angle, 0 * angle], 1)
    label = torch.tensor([0, 0, 1, 2, 3, 4, 5])
    far, allowed = metric.cosine(z)[:1].expand(50 * times, -1), (label != 0).expand(50 * times, -1)
    ours = mining.DistanceWeighted(4)(torch.zeros(50 * times), far, allowed, generator(1), 0.0).sum(0)
    torch.manual_seed(0)
    drawn = [miners.DistanceWeightedMiner()(z, label) for _ in range(times)]
    theirs = torch.cat([negative[anchor == 0] for anchor, _, negative in drawn]).bincount(minlength=7)
    assert not ours[[0, 1, 6]].any() and not theirs[[0, 1, 6]].any()
    expected = ours[2:6].double().numpy()
    seen = theirs[2:6].double().numpy()
    assert seen.max() > 2 * seen.min() and chisquare(seen, expected / expected.sum() * seen.sum()).pvalue > 0.01


def test_without_a_negative_within_the_limit_none_is_drawn():
    far = torch.tensor([[1.5, 1.9]])
    chosen = mining.DistanceWeighted(8)(torch.zeros(1), far, torch.ones(1, 2, dtype=torch.bool), generator(0), 0.0)
    assert not chosen.any()


@pytest.mark.parametrize("part", [0.0, 0.3, 0.5])
def test_drop_nearest_drops_the_nearest_part(part):
    near, far, allowed = distances_of(4, 20)
    chosen = mining.DropNearest(part)(near, far, allowed, generator(0), 0.0)
    for i in range(len(far)):
        kept = sorted((float(far[i, j]), j) for j in range(far.shape[1]) if allowed[i, j])
        kept = kept[int(part * len(kept)) :]
        assert chosen[i].nonzero().flatten().tolist() == sorted(j for _, j in kept)


def test_scheduled_mining_changes_at_equal_parts_of_training():
    parts = [mining.Easy(0.3), mining.SemiHard(0.3), mining.Hard()]
    near, far, allowed = distances_of(5)
    scheduled = mining.Scheduled(parts)
    for progress, stage in [(0, 0), (0.33, 0), (0.34, 1), (0.66, 1), (0.67, 2), (0.99, 2), (1, 2)]:
        got = scheduled(near, far, allowed, generator(0), float(progress))
        assert torch.equal(got, parts[stage](near, far, allowed, generator(0), 0.0))


def test_the_loss_hands_progress_and_generator_on_to_its_mining():
    relation = RELATIONS["augmentation"]
    z = embeddings(relation)
    rows = metric.LinearPhi(), metric.LinearPsi(), metric.cosine
    scheduled = PhiPsi(*rows, mining.Scheduled([mining.Easy(0.1), mining.Hard()]))
    assert value_of(scheduled, z, relation, 0.0) == value_of(PhiPsi(*rows, mining.Easy(0.1)), z, relation)
    assert value_of(scheduled, z, relation, 1.0) == value_of(PhiPsi(*rows, mining.Hard()), z, relation)
    drawn = PhiPsi(*rows, mining.Sampled(1))
    values = [float(drawn(z.detach(), relation, generator(seed), 0.0)["metric"]) for seed in (0, 0, 1)]
    assert values[0] == values[1] != values[2]


@pytest.mark.parametrize(
    "make", [lambda: mining.Sampled(0), lambda: mining.DropNearest(1.0), lambda: mining.Scheduled([])]
)
def test_mining_that_cannot_be_is_refused(make):
    with pytest.raises(AudiorepError, match="mining"):
        make()


@pytest.mark.parametrize("name", sorted(path.stem for path in Path("configs/mining").glob("*.yaml")))
def test_every_mining_config_fits_into_a_loss(name):
    cfg = compose("pretrain", ["corpus=x", "out=x", "objective=info_nce", f"mining={name}"]).objective.loss
    relation = RELATIONS["labels_of_views"]
    z = embeddings(relation)
    assert torch.isfinite(torch.autograd.grad(value_of(instantiate(cfg), z, relation), z)[0]).all()


# ---------------------------------------------------------- where it is odd

EVERY = {
    **{name: PhiPsi(row[0], row[1]) for name, row in FAMILY.items()},
    "n_pair_as_shipped": PhiPsi(metric.Log(eps=1.0), metric.Exp(), metric.inner_product, across_views=True),
    "euclidean": PhiPsi(metric.LinearPhi(), metric.Hinge(), metric.euclidean),
    **{name: case[0] for name, case in OTHERS.items()},
}
NOTHING = {
    "no_negatives": by_label([0, 0, 0, 0]),
    "no_positives": by_label([0, 1, 2, 3]),
}


@pytest.mark.parametrize("relation", NOTHING)
@pytest.mark.parametrize("name", EVERY)
def test_without_pairs_to_compare_the_loss_is_zero_with_zero_gradient(name, relation):
    has_one_side = {"supcon", "pair_contrastive"}  # positives alone, or negatives alone, still say something
    z = embeddings(NOTHING[relation])
    value = value_of(EVERY[name], z, NOTHING[relation])
    grad = torch.autograd.grad(value, z)[0]
    assert torch.isfinite(value) and torch.isfinite(grad).all()
    if name not in has_one_side or (name == "supcon" and relation == "no_positives"):
        assert value == 0 and grad.abs().max() < 1e-15


def test_mining_that_finds_nothing_gives_zero_loss_and_gradient():
    relation = relate(torch.eye(4, dtype=torch.bool), 2)
    z = torch.eye(4, dtype=torch.float64).repeat(2, 1).requires_grad_()
    for name, row in FAMILY.items():
        value = value_of(PhiPsi(row[0], row[1], mining=mining.Hard()), z, relation)
        assert value == 0 and not torch.autograd.grad(value, z)[0].any(), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", EVERY)
def test_gradients_are_finite_where_embeddings_coincide_or_vanish(name, dtype):
    relation = RELATIONS["labels"]
    for odd in ("coincide", "one_is_zero", "all_zero"):
        z = embeddings(relation).detach().to(dtype)
        if odd == "coincide":
            z[1:6] = z[0]  # of the same label and of another
        z[3] = 0.0 if odd == "one_is_zero" else z[3]
        z = (torch.zeros_like(z) if odd == "all_zero" else z).requires_grad_()
        value = value_of(EVERY[name], z, relation)
        assert torch.isfinite(value) and torch.isfinite(torch.autograd.grad(value, z)[0]).all(), odd


@pytest.mark.parametrize("name", EVERY)
def test_half_precision_embeddings_are_compared_in_single(name):
    relation = RELATIONS["labels"]
    z = embeddings(relation).detach()
    for dtype in (torch.float16, torch.bfloat16):
        value = value_of(EVERY[name], z.to(dtype), relation)
        assert value.dtype == torch.float32 and value == value_of(EVERY[name], z.to(dtype).float(), relation)


@pytest.mark.parametrize("name", EVERY)
def test_autocast_does_not_round_what_is_compared(name):
    relation = RELATIONS["labels"]
    z = embeddings(relation).detach().float().requires_grad_()
    wanted = value_of(EVERY[name], z, relation)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = value_of(EVERY[name], z, relation)
    assert torch.equal(value, wanted)
    assert torch.equal(torch.autograd.grad(value, z)[0], torch.autograd.grad(wanted, z)[0])


@pytest.mark.parametrize(
    "loss", [NtXent(), InfoNce(), VicReg(), VicReg(transposed=True), BarlowTwins(), Prototypes(6, 4)]
)
def test_autocast_does_not_round_the_losses_of_two_views(loss):
    a, b = (torch.randn(8, 6, generator=generator(seed)) for seed in range(2))
    given = (a,) if isinstance(loss, Prototypes) else (a, b)
    wanted = loss(*given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(*given)
    torch.testing.assert_close(value, wanted, rtol=0, atol=0)


# --------------------------------------------------------------------- PCA


@pytest.mark.parametrize("seed", range(2))
def test_the_triplet_contrastive_loss_of_a_linear_network_finds_the_principal_components(seed):
    """Tian 2022, arXiv:2201.12680: with phi and psi linear, Euclidean distance and no augmentation."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((24, 7)) * np.array([3.0, 2.5, 2.0, 1.0, 0.7, 0.5, 0.3])
    x = torch.from_numpy(x @ np.linalg.qr(rng.standard_normal((7, 7)))[0] + 1.0)
    loss = PhiPsi(metric.LinearPhi(), metric.LinearPsi(), metric.euclidean)
    relation = relate(torch.eye(24, dtype=torch.bool), 2)
    weight = torch.from_numpy(np.linalg.qr(rng.standard_normal((7, 3)))[0])
    for _ in range(60):
        weight.requires_grad_()
        slope = torch.autograd.grad(value_of(loss, (x @ weight).repeat(2, 1), relation), weight)[0]
        weight = torch.linalg.qr(weight.detach() - slope)[0]
    axes = np.linalg.svd((x - x.mean(0)).numpy())[2][:3]
    assert subspace_angles(weight.numpy(), axes.T).max() < 1e-2
