"""Cross-entropy with labels is a written-out loop over what is known, and what teaches nothing is refused."""

import math

import pytest
import torch
from small import KINDS, batch, build, views
from torch.nn import functional as F

from audiorep.errors import AudiorepError
from audiorep.objectives.base import Setting
from audiorep.objectives.supervised import label_loss
from audiorep.types import generator


def test_one_label_a_row_equals_a_loop_over_the_labelled_rows():
    logit, label = torch.randn(7, 4, generator=generator(0), dtype=torch.float64), torch.tensor([0, -1, 3, 2, -1, 1, 1])
    losses = []
    for scores, right in zip(logit.tolist(), label.tolist(), strict=True):
        if right >= 0:
            losses.append(math.log(sum(math.exp(s) for s in scores)) - scores[right])
    assert float(label_loss(logit, label)) == pytest.approx(sum(losses) / len(losses), rel=1e-12)
    torch.testing.assert_close(label_loss(logit, label), F.cross_entropy(logit, label, ignore_index=-1))


def test_several_labels_a_row_equal_a_loop_over_what_is_known():
    nan, logit = math.nan, torch.randn(3, 3, generator=generator(1), dtype=torch.float64)
    label = torch.tensor([[1, 0, nan], [nan, nan, nan], [0, 1, 1]], dtype=torch.float64)
    losses = []
    for scores, row in zip(logit.tolist(), label.tolist(), strict=True):
        for score, known in zip(scores, row, strict=True):
            if not math.isnan(known):
                p = 1.0 / (1.0 + math.exp(-score))
                losses.append(-math.log(p if known else 1.0 - p))
    assert float(label_loss(logit, label)) == pytest.approx(sum(losses) / 5, rel=1e-12)
    assert float(label_loss(logit, torch.full_like(label, nan))) == 0.0


def test_the_objective_is_the_mean_over_views_and_says_how_often_the_head_is_right():
    objective, made, told = build("supervised").eval(), views(0), batch()
    logits = [objective.head(objective.encoder(view).pooled) for view in made["global"]]
    wanted = sum(F.cross_entropy(logit, told["label"]) for logit in logits) / 2
    torch.testing.assert_close(objective(made, told, generator(0))["labels"], wanted)
    told["label"] = logits[0].argmax(1)
    told["label"][::2] = (told["label"][::2] + 1) % 4
    told["label"][:4] = -1
    assert objective.measure(iter([(made, told)]), generator(0)) == {"accuracy": 0.5}


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"labelled": 0, "classes": 0}, "two labels or more"),
        ({"labelled": 50, "classes": 1}, "two labels or more"),
        ({"labelled": 50, "classes": 4, "absences": False}, "labels.complete=true"),
    ],
)
def test_labels_that_teach_nothing_are_refused_with_the_remedy(told, message):
    with pytest.raises(AudiorepError, match=message):
        build("supervised").prepare(Setting(100, 16, KINDS, outputs=4, **told))
