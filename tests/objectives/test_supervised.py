"""Cross-entropy with labels is a written-out loop over what is known, and what teaches nothing is refused."""

import math

import pytest
import torch
from hydra.utils import instantiate
from plain import Plain, drawn, heard, likely, plain, told
from small import KINDS, batch, build, views
from torch.nn import functional as F

from audiorep.augment.labels import CutMix, Unmixed
from audiorep.composing import compose
from audiorep.encoders.cnn import SmallCnn
from audiorep.errors import AudiorepError
from audiorep.losses.answers import LabelLoss, log_answers, truth_of
from audiorep.objectives.base import Setting
from audiorep.objectives.supervised import Supervised
from audiorep.pooling import LinearSoftmax, largest
from audiorep.types import generator

NAN = math.nan


def label_loss(logit: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    target, known = truth_of(label, logit.shape[1])
    return LabelLoss()(log_answers(logit, label.ndim == 2), target.to(logit.dtype), known)


def test_one_label_a_row_equals_a_loop_over_the_labelled_rows():
    logit, label = torch.randn(7, 4, generator=generator(0), dtype=torch.float64), torch.tensor([0, -1, 3, 2, -1, 1, 1])
    losses = []
    for scores, right in zip(logit.tolist(), label.tolist(), strict=True):
        if right >= 0:
            losses.append(math.log(sum(math.exp(s) for s in scores)) - scores[right])
    assert float(label_loss(logit, label)) == pytest.approx(sum(losses) / len(losses), rel=1e-12)
    torch.testing.assert_close(label_loss(logit, label), F.cross_entropy(logit, label, ignore_index=-1))


def test_several_labels_a_row_equal_a_loop_over_what_is_known():
    logit = torch.randn(3, 3, generator=generator(1), dtype=torch.float64)
    label = torch.tensor([[1, 0, NAN], [NAN, NAN, NAN], [0, 1, 1]], dtype=torch.float64)
    losses = []
    for scores, row in zip(logit.tolist(), label.tolist(), strict=True):
        for score, known in zip(scores, row, strict=True):
            if not math.isnan(known):
                p = 1.0 / (1.0 + math.exp(-score))
                losses.append(-math.log(p if known else 1.0 - p))
    assert float(label_loss(logit, label)) == pytest.approx(sum(losses) / 5, rel=1e-12)
    assert float(label_loss(logit, torch.full_like(label, NAN))) == 0.0


def test_the_objective_is_the_mean_over_views_and_says_how_often_the_head_is_right():
    objective, made, said = build("supervised").eval(), views(0), batch()
    logits = [objective.student.head(objective.encoder(view).pooled) for view in made["global"]]
    wanted = sum(F.cross_entropy(logit, said["label"], ignore_index=-1) for logit in logits) / 2
    torch.testing.assert_close(objective(made, said, generator(0))["labels"], wanted)
    said["label"] = logits[0].argmax(1)
    said["label"][::2] = (said["label"][::2] + 1) % 4
    said["label"][:4] = -1
    assert objective.measure(iter([(made, said)]), generator(0)) == {"accuracy": 0.5}


def test_it_leaves_its_classifier_and_dropout_acts_in_training_only():
    objective, made, said = build("supervised"), views(0), batch()
    objective.student.dropout = 0.5
    assert objective.classifier is objective.student
    spec = made["global"][0]
    objective.eval()
    assert torch.equal(objective.classifier(spec), objective.student.head(objective.encoder(spec).pooled))
    a, b, c = (objective(made, said, generator(seed))["labels"] for seed in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_dropout_leaves_a_feature_out_or_scales_it_so_that_the_mean_stays():
    dropped = plain("supervised").student
    dropped.dropout = 0.25
    x = torch.ones(4000, 3)
    out = dropped.drop(x, generator(0))
    assert sorted(out.unique().tolist()) == pytest.approx([0.0, 4 / 3])
    assert float((out == 0).float().mean()) == pytest.approx(0.25, abs=0.02)
    assert dropped.drop(x, None) is x


def test_weights_come_from_how_often_labels_occur():
    cfg = compose("pretrain", ["corpus=x", "out=x", "objective=supervised", "loss=weighted"])
    objective = instantiate(cfg.objective, encoder=SmallCnn(width=8, dim=64))
    objective.prepare(Setting(100, 16, KINDS, 100, 2, outputs=2, counts=[[90, 10]]))
    torch.testing.assert_close(objective.loss.weight, torch.tensor([[0.2, 1.8]]))


def test_mixed_windows_are_asked_for_both_labels():
    objective = plain("supervised", "mix={_target_: audiorep.augment.labels.Mixup, alpha: 1.0}")
    spec, rng = drawn(0), generator(4)
    target = torch.eye(3)[[0, 1, 2, 0]][:, None]
    mixed, soft, known = objective.mix(spec, target, torch.tensor([True, True, False, True])[:, None], generator(4))
    ours = objective({"global": [spec]}, told([0, 1, -1, 0]), rng)["labels"]
    total = sum(-float((soft[i, 0].double() * heard(mixed)[i].log()).sum()) for i in range(4) if known[i, 0])
    assert float(ours.detach()) == pytest.approx(total / int(known.sum()), rel=1e-5)
    assert 1 <= int(known.sum()) <= 3 and bool((soft[known[:, 0]].amax(2) < 1).any())


# ---------------------------------------------------------------------- weak labels


def test_the_windows_of_a_row_are_pooled_before_they_are_asked():
    objective = plain("weak_labels", "pool={_target_: hydra.utils.get_method, path: audiorep.pooling.largest}")
    spec = likely([0.8, 0.1, 0.1], [0.2, 0.6, 0.2], [0.1, 0.1, 0.8], [0.4, 0.5, 0.1], [0.1, 0.8, 0.1])
    ours = objective({"global": [spec]}, told([1, 2, 2, 1, -1], index=[5, 2, 2, 5, 9]), generator(0))["labels"]
    total = 0.0
    for rows, label in (([0, 3], 1), ([1, 2], 2)):
        top = [max(float(spec[i, 0, c, 0]) for i in rows) for c in range(3)]
        total += math.log(sum(math.exp(x) for x in top)) - top[label]
    assert float(ours.detach()) == pytest.approx(total / 2, rel=1e-6)


def test_several_weak_labels_are_pooled_question_by_question():
    objective = plain("weak_labels", several=True)
    objective.pool = LinearSoftmax()
    spec = drawn(1)
    label = torch.tensor([[1, 0, NAN], [1, 0, NAN], [0, 1, 1], [0, 1, 1]])
    ours = objective({"global": [spec]}, told(label, index=[3, 3, 1, 1]), generator(0))["labels"]
    losses = []
    for rows in ([0, 1], [2, 3]):
        for c in range(3):
            p = [1.0 / (1.0 + math.exp(-float(spec[i, 0, c, 0]))) for i in rows]
            pooled = sum(v * v for v in p) / sum(p)
            known = float(label[rows[0], c])
            if not math.isnan(known):
                losses.append(-math.log(pooled if known else 1.0 - pooled))
    assert len(losses) == 5 and float(ours.detach()) == pytest.approx(sum(losses) / 5, rel=1e-5)


def test_a_row_is_evaluated_as_it_was_trained():
    objective, x, bag = build("weak_labels"), torch.randn(4, 3), torch.tensor([0, 0, 1, 1])
    torch.testing.assert_close(objective.pooling(x, bag), objective.pool(x, bag))
    torch.testing.assert_close(build("supervised").pooling(x, bag), x.view(2, 2, 3).mean(1))


def test_mixtures_of_windows_belong_to_no_row():
    with pytest.raises(AudiorepError, match="a mixture of windows belongs to no row; choose mix=none"):
        Supervised(Plain(), LabelLoss(), CutMix(), pool=largest)
    Supervised(Plain(), LabelLoss(), Unmixed(), pool=largest)


@pytest.mark.parametrize("name", ["supervised", "weak_labels"])
@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"labelled": 0, "classes": 0}, "two labels or more"),
        ({"labelled": 50, "classes": 1}, "two labels or more"),
        ({"labelled": 50, "classes": 4, "absences": False}, "labels.complete=true"),
    ],
)
def test_labels_that_teach_nothing_are_refused_with_the_remedy(name, facts, message):
    with pytest.raises(AudiorepError, match=message):
        build(name).prepare(Setting(100, 16, KINDS, outputs=4, **facts))
