"""Sites and recorders: the adversary, positives across and negatives within, and that the site fades while the call stays."""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from hydra.utils import instantiate
from sklearn.metrics import balanced_accuracy_score
from small import KINDS, batch, build, config, views
from test_positives import batch as columns
from test_positives import related
from torch.nn import functional as F

from audiorep.augment.spec import Fader, RandomResizeCrop
from audiorep.build import domain_codes
from audiorep.classifier import Classifier
from audiorep.composing import compose
from audiorep.compress import Compress
from audiorep.data.demo import CALLS, SITES, make_world, write_clip
from audiorep.encoders.base import Encoder
from audiorep.encoders.cnn import SmallCnn
from audiorep.encoders.vit import Vit
from audiorep.errors import AudiorepError
from audiorep.evaluate.probe import linear_scores
from audiorep.frontend import Mel
from audiorep.losses.metric import SupCon
from audiorep.objectives.base import Objective, Setting
from audiorep.objectives.domain import (
    DomainAdversarial,
    DomainHead,
    Opponent,
    Reverse,
    balanced_cross_entropy,
    embeddings_of,
)
from audiorep.objectives.metric import relate
from audiorep.objectives.positives import ByAugmentation, ByLabel
from audiorep.objectives.positives_domain import ByDomain
from audiorep.pooling import LogMeanExp, Pooling
from audiorep.types import generator
from audiorep.views import Branch, Views

SETTING = Setting(256, 128, KINDS, 256, 4, 20.0, domains=2, shared=4)

# ------------------------------------------------------------- the adversary


def test_balanced_cross_entropy_equals_a_written_out_loop_and_the_weighted_one_of_torch():
    rng = generator(0)
    scores = torch.randn(11, 4, generator=rng, dtype=torch.float64)
    domain = torch.tensor([0, 0, 0, 0, 0, 2, 2, -1, 3, -1, 0])  # nothing of 1
    ours = balanced_cross_entropy(scores, domain)
    means = []
    for d in (0, 2, 3):
        rows = [i for i in range(11) if domain[i] == d]
        means.append(
            sum(-math.log(math.exp(scores[i, d]) / sum(math.exp(s) for s in scores[i])) for i in rows) / len(rows)
        )
    assert float(ours) == pytest.approx(sum(means) / 3, rel=1e-12)
    weight = 1.0 / torch.bincount(domain[domain >= 0], minlength=4).clamp_min(1).double()
    torch.testing.assert_close(ours, F.cross_entropy(scores, domain, weight=weight, ignore_index=-1))


def test_a_batch_of_unknown_domains_has_no_loss_but_a_gradient():
    scores = torch.randn(3, 2, requires_grad=True)
    loss = balanced_cross_entropy(scores, torch.tensor([-1, -1, -1]))
    loss.backward()
    assert float(loss.detach()) == 0.0 and torch.equal(scores.grad, torch.zeros(3, 2))


def test_the_reversal_is_the_identity_forwards_and_turns_the_gradient_round():
    x = torch.randn(4, 3, requires_grad=True)
    out = Reverse.apply(x, torch.tensor(0.3))
    assert torch.equal(out, x)
    (slope,) = torch.autograd.grad((out * torch.arange(3.0)).sum(), x)
    torch.testing.assert_close(slope, -0.3 * torch.arange(3.0).expand(4, 3))


@pytest.mark.parametrize("progress", [0.0, 0.25, 1.0])
def test_the_encoder_is_pushed_by_minus_lambda_times_the_gradient_of_the_head(progress):
    objective = build("domain_adversarial").eval()  # the head stays as it is
    objective.after_step(progress)
    h = torch.randn(8, 64, generator=generator(1), requires_grad=True)
    domain = torch.arange(8) % 2
    (reversed_slope,) = torch.autograd.grad(objective.adversary(h, domain), h)
    (slope,) = torch.autograd.grad(balanced_cross_entropy(objective.opponent(h), domain), h)
    strength = 2.0 / (1.0 + math.exp(-10.0 * max(progress, 0.01))) - 1.0
    torch.testing.assert_close(reversed_slope, -strength * slope)


def test_the_opponent_steps_as_adam_of_torch_does():
    torch.manual_seed(0)
    head, twin = (DomainHead(6, 3, hidden=8) for _ in range(2))
    twin.load_state_dict(head.state_dict())
    opponent, adam = Opponent(head, 0.01), torch.optim.Adam(twin.parameters(), lr=0.01)
    for step in range(5):
        x, domain = torch.randn(12, 6, generator=generator(step)), torch.arange(12) % 3
        opponent.learn(x, domain)
        adam.zero_grad()
        balanced_cross_entropy(twin(x), domain).backward()
        adam.step()
    for ours, theirs in zip(opponent.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
        assert not ours.requires_grad and ours.grad is None


def test_the_head_learns_on_every_batch_and_only_in_training():
    objective = build("domain_adversarial")
    told, made = batch(), views(0)
    before = [p.clone() for p in objective.opponent.parameters()]
    objective.eval()(made, told, generator(0))
    assert all(torch.equal(a, b) for a, b in zip(before, objective.opponent.parameters(), strict=True))
    objective.train()
    asked = [float(objective(made, told, generator(0))["domain"].detach()) for _ in range(10)]
    assert asked[-1] < 0.3 * asked[0] < 0.3 * 1.1 * math.log(2)
    assert int(objective.opponent.count) == 40
    group = {id(p) for p in objective.parameter_groups()["main"]}
    assert not group & {id(p) for p in objective.opponent.parameters()}


def parts_of(name: str) -> Callable[[Encoder], Objective]:
    """Another objective as the base of the adversarial one."""
    return lambda encoder: instantiate(config(name).objective, encoder=encoder)


@pytest.mark.parametrize("name", ["moco", "byol", "mae", "swav", "domain_negatives"])
def test_any_objective_can_be_the_base(name):
    torch.manual_seed(0)
    encoder = Vit(dim=48, depth=1, heads=2, patch=(8, 8)) if name == "mae" else SmallCnn(width=8, dim=64)
    objective = DomainAdversarial(encoder, parts_of(name), DomainHead)
    objective.prepare(SETTING)
    alone = parts_of(name)(encoder)
    alone.prepare(SETTING)
    terms = objective(views(0), batch(), generator(0))
    assert terms.keys() == alone(views(0), batch(), generator(0)).keys() | {"domain"}
    objective.zero_grad()
    terms["domain"].backward()
    reached = [p.grad is not None and bool(p.grad.any()) for p in encoder.parameters()]
    assert sum(reached) > 0.8 * len(reached)
    objective.after_step(0.5)
    spec = views(0)["global"][0]
    assert objective.embeddings(spec).keys() == alone.embeddings(spec).keys()
    assert objective.distributions(spec).keys() == alone.distributions(spec).keys()


class Asked(Objective):
    """Notes what it is asked, and answers something of its own."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder)
        self.asked: list[str] = []
        self.first, self.second = Classifier(encoder, 2), Classifier(encoder, 2)

    @property
    def uses_labels(self) -> bool:
        return True

    @property
    def classifier(self) -> Classifier:
        return self.first

    @property
    def beside(self) -> dict[str, Classifier]:
        return {"peer": self.second}

    @property
    def pooling(self) -> Pooling:
        return LogMeanExp(5.0)

    @property
    def facts(self) -> dict[str, str]:
        return {"teacher_licence": "CC BY-NC-SA 4.0"}

    def watched(self) -> dict[str, float]:
        return {"counted": 0.25}

    def parameter_groups(self) -> dict[str, list[torch.nn.Parameter]]:
        return {"other": list(self.encoder.parameters())}

    def after_step(self, progress: float) -> None:
        self.asked.append(f"after {progress}")

    def before_epoch(self, epoch, embed, rng) -> None:
        self.asked.append(f"before {epoch}")

    def measure(self, held_out, rng) -> dict[str, float]:
        return {"accuracy": 0.5}

    def partition(self) -> torch.Tensor:
        return torch.arange(3)


def test_the_base_is_asked_for_all_that_is_its_own():
    objective = DomainAdversarial(SmallCnn(width=8, dim=64), Asked, DomainHead)
    objective.prepare(SETTING)
    objective.before_epoch(2, lambda: torch.zeros(3, 2), generator(0))
    objective.after_step(0.5)
    assert objective.base.asked == ["before 2", "after 0.5"] and float(objective.progress) == 0.5
    assert objective.uses_labels and not build("domain_adversarial").uses_labels
    assert objective.measure([], generator(0)) == {"accuracy": 0.5} and objective.partition().tolist() == [0, 1, 2]
    assert list(objective.parameter_groups()) == ["other"] and objective.classifier is objective.base.first
    assert objective.beside == {"peer": objective.base.second} and isinstance(objective.pooling, LogMeanExp)
    assert objective.facts == {"teacher_licence": "CC BY-NC-SA 4.0"} and objective.watched() == {"counted": 0.25}


def test_a_base_that_makes_up_sounds_is_refused():
    objective = DomainAdversarial(SmallCnn(width=8, dim=64), parts_of("ss_gan"), DomainHead)
    with pytest.raises(AudiorepError, match=r"trains main and .* in turn .*choose a base that hears recordings alone"):
        objective.prepare(SETTING)


def test_what_an_encoder_says_in_pieces_is_heard_whole():
    torch.manual_seed(0)
    encoder = Vit(dim=48, depth=1, heads=2, patch=(8, 8)).train()
    slopes = []
    for pieces in (1, 3):
        encoder.pieces = pieces
        with embeddings_of(encoder) as seen:
            whole = [encoder(spec).pooled for spec in views(0)["global"]]
            with torch.no_grad():
                encoder(views(0)["clean"][0])
        assert torch.equal(torch.cat(seen), torch.cat(whole)) and len(seen) == 2 * pieces
        loss = (torch.cat(seen) * torch.arange(48.0)).square().mean()
        slopes.append(torch.autograd.grad(loss, list(encoder.parameters()), allow_unused=True))
    assert not encoder._forward_hooks
    for one, three in zip(*slopes, strict=True):
        torch.testing.assert_close(one, three, rtol=1e-4, atol=1e-6)


# ------------------------------------------------------ positives and negatives


def test_across_domains_the_same_label_elsewhere_belongs_together_and_the_same_label_here_is_neither():
    told = columns(label=[0, 0, 0, 1, 1, -1, -1], domain=[0, 0, 1, 1, -1, 0, 1], index=list(range(7)))
    positives = ByDomain(ByLabel(), across=True)
    same = positives(told)
    assert related(same) == {(0, 2), (1, 2)}
    neither = ~(same | positives.apart(told, same))
    assert {(int(i), int(j)) for i, j in neither.nonzero() if i < j} == {(0, 1), (3, 4)}  # here, and where is unknown


def test_within_domains_only_windows_of_one_domain_are_pushed_apart_and_no_row_from_itself():
    told = columns(index=[0, 1, 2, 3, 0, 5, 6], domain=[0, 0, 1, 1, 0, -1, -1])
    positives = ByDomain(ByAugmentation(), within=True)
    same = positives(told)
    apart = positives.apart(told, same)
    assert related(same) == set()
    assert {(int(i), int(j)) for i, j in apart.nonzero() if i < j} == {(0, 1), (1, 4), (2, 3), (5, 6)}
    assert torch.equal(apart, apart.T)


def test_across_and_within_together():
    told = columns(label=[0, 1, 0, 1], domain=[0, 0, 1, 1], index=[0, 1, 2, 3])
    positives = ByDomain(ByLabel(), across=True, within=True)
    same = positives(told)
    assert related(same) == {(0, 2), (1, 3)}
    apart = positives.apart(told, same)
    assert {(int(i), int(j)) for i, j in apart.nonzero() if i < j} == {(0, 1), (2, 3)}


def test_supcon_leaves_out_pairs_that_are_neither():
    told = columns(label=[0, 0, 0, 1, 1, -1], domain=[0, 0, 1, 0, 1, 1], index=list(range(6)))
    positives = ByDomain(ByLabel(), across=True, within=True)
    same = positives(told)
    relation = relate(same, 2, positives.apart(told, same))
    z = torch.randn(12, 4, generator=generator(2), dtype=torch.float64)
    label, domain = told["label"].tolist() * 2, told["domain"].tolist() * 2
    total = 0.0
    for i in range(12):
        together, apart = [], []
        for j in range(12):
            alike = label[i] == label[j] >= 0
            if i != j and (i % 6 == j % 6 or (alike and domain[i] != domain[j])):
                together.append(j)
            elif i % 6 != j % 6 and not alike and domain[i] == domain[j]:
                apart.append(j)
        score = {j: float(F.cosine_similarity(z[i], z[j], dim=0)) / 0.1 for j in together + apart}
        bottom = math.log(sum(math.exp(s) for s in score.values()))
        total += sum(bottom - score[j] for j in together) / len(together)
    ours = SupCon(0.1)(z, relation, generator(0), 0.0)["contrast"]
    assert float(ours) == pytest.approx(total / 12, rel=1e-9)


# ------------------------------------------------------ what objectives are told


def test_domains_are_numbered_over_the_training_side_and_others_are_unknown():
    frame = pd.DataFrame({"site": ["c", "a", "", "b", "c", "d"], "recorder": ["x"] * 6})
    assert domain_codes(frame, "auto").tolist() == [2, 0, -1, 1, 2, 3]
    assert domain_codes(frame, "site", np.array([0, 2, 5])).tolist() == [0, -1, -1, -1, 0, 1]
    assert domain_codes(frame, "recorder", np.array([0])).tolist() == [0] * 6
    assert domain_codes(frame, None).tolist() == domain_codes(frame[["recorder"]], "auto").tolist() == [-1] * 6
    with pytest.raises(
        AudiorepError, match="data.domain=place: the corpus has no such column; there are: site, recorder"
    ):
        domain_codes(frame, "place")


@pytest.mark.parametrize(
    ("name", "setting", "words"),
    [
        ("domain_adversarial", {"domains": 1}, r"data\.domain knows 1 on the training side.*data\.domain=COLUMN"),
        ("domain_contrastive", {"domains": 0}, r"data\.domain knows 0 on the training side.*split\.by=COLUMN"),
        ("domain_negatives", {"domains": 1}, r"data\.domain=COLUMN"),
        ("domain_contrastive", {"shared": 0}, r"none of the 4 label\(s\).*objective=domain_negatives"),
        ("domain_contrastive", {"domains": 40}, r"raise data.batch_size to 160, or set positives.within=false"),
    ],
)
def test_what_cannot_work_is_refused_with_the_remedy(name, setting, words):
    told = {"labelled": 256, "classes": 4, "epochs": 20.0, "domains": 2, "shared": 4} | setting
    with pytest.raises(AudiorepError, match=words):
        build(name).prepare(Setting(256, 128, KINDS, **told))


def test_a_head_without_a_step_is_refused():
    with pytest.raises(AudiorepError, match=r"objective\.steps=0"):
        DomainAdversarial(SmallCnn(width=8, dim=64), parts_of("simclr"), DomainHead, steps=0)


# --------------------------------------------------- the site fades, the call stays

RATE_HZ, TRAIN, TEST, BATCH = 8000, 288, 288, 48


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> dict:
    """Demo clips, every call type at every site alike often; the first are trained on, the others held out."""
    folder, world = tmp_path_factory.mktemp("places"), make_world(0, RATE_HZ)
    rows = [write_clip(folder, world, index) for index in range(TRAIN + TEST)]
    wave = torch.from_numpy(np.stack([soundfile.read(folder / row["path"], dtype="float32")[0] for row in rows]))
    wave = wave[:, RATE_HZ // 5 : -RATE_HZ // 5]
    frontend, compress = Mel(RATE_HZ, win_s=0.05, hop_s=0.0125, bands=32), Compress()
    compress.fit(frontend(wave[:TRAIN]))
    sites = [site.name for site in SITES]
    return {
        "wave": wave,
        "views": Views({"global": Branch(2, spec=[RandomResizeCrop(), Fader()])}, frontend, compress),
        "label": torch.tensor([list(CALLS).index(row["label"]) for row in rows]),
        "domain": torch.tensor([sites.index(row["site"]) for row in rows]),
    }


def told_apart(places: dict, name: str, overrides: list[str], seed: int, steps: int = 80) -> dict[str, float]:
    """Train; balanced accuracy of linear probes for site and call on recordings that were not trained on."""
    cfg = compose("pretrain", ["corpus=x", "out=x", f"objective={name}", *overrides])
    torch.manual_seed(seed)
    objective = instantiate(cfg.objective, encoder=SmallCnn(width=8, dim=64))
    objective.prepare(Setting(TRAIN, BATCH, KINDS, TRAIN, 12, 20.0, domains=6, shared=12))
    optimizer = torch.optim.AdamW(objective.parameter_groups()["main"], lr=3e-3)
    for step in range(steps):
        rng = generator(seed, step)
        rows = torch.randperm(TRAIN, generator=rng)[:BATCH]
        told = {"index": rows, "label": places["label"][rows], "domain": places["domain"][rows]}
        loss = torch.stack(list(objective(places["views"](places["wave"][rows], rng), told, rng).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        objective.after_step((step + 1) / steps)
    objective.eval()
    with torch.no_grad():
        embedding = objective.encoder(places["views"].clean(places["wave"])).pooled.numpy()
    out = {}
    for what, column in (("site", "domain"), ("call", "label")):
        truth = places[column].numpy()
        guess = linear_scores(embedding[:TRAIN], truth[:TRAIN], embedding[TRAIN:], int(truth.max()) + 1).argmax(1)
        out[what] = float(balanced_accuracy_score(truth[TRAIN:], guess))
    return out


@pytest.fixture(scope="module")
def without(places) -> Callable[[int], dict[str, float]]:
    """SimCLR by seed, trained once for all that are compared with it."""
    return cache(lambda seed: told_apart(places, "simclr", [], seed))


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("name", "fall", "loss"),
    [("domain_adversarial", 0.15, 0.05), ("domain_negatives", 0.08, 0.02), ("domain_contrastive", 0.2, 0.0)],
)
def test_the_site_fades_and_the_call_stays(name, fall, loss, seed, places, without):
    """Each beside SimCLR, of which it is a variant."""
    plain, ours = without(seed), told_apart(places, name, [], seed)
    assert plain["site"] > 0.7 and plain["call"] > 0.5  # of 1/6 and 1/12
    assert ours["site"] < plain["site"] - fall and ours["call"] > plain["call"] - loss, (plain, ours)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_positives_across_and_negatives_within_take_the_site_out_of_what_labels_teach(seed, places):
    plain = told_apart(places, "domain_contrastive", ["positives=labels"], seed)
    ours = told_apart(places, "domain_contrastive", [], seed)
    assert ours["site"] < plain["site"] - 0.03 and ours["call"] > plain["call"] - 0.1, (plain, ours)
