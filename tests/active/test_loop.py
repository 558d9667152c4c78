"""The simulated loop: what is asked is never asked twice, the oracle answers, curves and their figures are right."""

import math

import numpy as np
import pytest
import torch

from audiorep.active.curves import area, labels_needed, minutes_needed, points_table, summarise
from audiorep.active.heads import Linear
from audiorep.active.loop import Point, Scene, full_score, simulate
from audiorep.errors import AudiorepError
from audiorep.evaluate.metrics import balanced_accuracy, cmap
from audiorep.evaluate.protocol import Sides
from audiorep.select.pool import Chosen, Needs, Selector
from audiorep.select.top import Random
from audiorep.types import generator


def scene(rows=90, classes=3, several=False):
    rng = generator(3)
    truth = np.arange(rows) % classes
    x = torch.randn(rows, 6, generator=rng) + 2.0 * torch.randn(classes, 6, generator=rng)[truth]
    labels = np.eye(classes)[truth] if several else truth
    train, test = np.arange(0, 60), np.arange(60, rows)
    sides = Sides(train, test, labels, np.array([f"g{i % 5}" for i in range(rows)]), list("abcdef"[:classes]))
    return Scene(x, sides, np.full(rows, 0.5))


class Watching(Selector):
    """Takes the first clips of the pool, and remembers what it saw."""

    needs = Needs(probabilities=True, trained=True)

    def __init__(self):
        self.seen = []

    def pick(self, pool, k, rng):
        self.seen.append(pool)
        rows = torch.arange(k)
        return Chosen(rows, torch.zeros(k))


@pytest.mark.parametrize("several", [False, True])
def test_each_round_asks_a_batch_and_learns_from_all_answers(several):
    watching, here = Watching(), scene(several=several)
    metric = cmap if several else balanced_accuracy
    learn = Linear().bind(here.x, several)
    points = list(simulate(here, watching, Random(), learn, metric, 7, 25, 0))
    assert [p.labels for p in points] == [7, 14, 21, 25] and [p.minutes for p in points] == [3.5, 7.0, 10.5, 12.5]
    assert all(np.isfinite(p.score) for p in points) and points[-1].score > 0.8
    asked = [len(pool.labelled) for pool in watching.seen]
    assert asked == [7, 14, 21] and [len(pool) for pool in watching.seen] == [53, 46, 39]
    assert [round(pool.spent, 3) for pool in watching.seen] == [0.28, 0.56, 0.84]
    for pool in watching.seen:
        both = torch.cat([pool.embedding, pool.labelled])
        assert len(both.unique(dim=0)) == 60  # every clip of the pool once, asked or not
        for row, label in zip(pool.labelled, pool.label, strict=True):
            at = int((here.x == row).all(1).nonzero()[0])
            truth = torch.from_numpy(np.asarray(here.sides.truth[at]))
            assert torch.equal(label.double(), truth.double())
        assert pool.log_p.shape == (1, len(pool), 3) and pool.several == several


def test_same_seed_same_curve():
    here = scene()
    learn = Linear(members=3).bind(here.x, False)
    curves = [
        [p.score for p in simulate(here, Watching(), Random(), learn, balanced_accuracy, 5, 20, s)] for s in (1, 1, 2)
    ]
    assert curves[0] == curves[1] != curves[2]


def test_until_two_classes_are_known_the_first_selector_goes_on():
    class Poor(Selector):
        def pick(self, pool, k, rng):
            return Chosen(torch.arange(k) * 3, torch.zeros(k))  # rows 0, 3, 6 ...: class 0 as long as the pool is whole

    here = scene()
    points = list(simulate(here, Watching(), Poor(), Linear().bind(here.x, False), balanced_accuracy, 2, 12, 0))
    assert math.isnan(points[0].score) and np.isfinite(points[-1].score)
    assert area(points) < np.nanmean([p.score for p in points])  # a round without a model counts as 0


def test_a_batch_or_budget_that_cannot_be_asked_is_refused():
    here = scene()
    learn = Linear().bind(here.x, False)
    for batch, budget in ((0, 5), (5, 3), (5, 61)):
        with pytest.raises(AudiorepError, match="60 rows can be asked"):
            next(simulate(here, Random(), Random(), learn, balanced_accuracy, batch, budget, 0))


def at(labels, score, minutes=0.0):
    return Point(labels, minutes, score, 0, 0.0, 0.0)


def test_area_and_labels_by_hand():
    curve = [at(10, 0.2, 1.0), at(20, 0.6, 2.0), at(40, 0.8, 4.0)]
    assert area(curve) == pytest.approx((10 * 0.4 + 20 * 0.7) / 30)
    assert labels_needed(curve, 0.7) == pytest.approx(30) and labels_needed(curve, 0.2) == pytest.approx(10)
    assert labels_needed(curve, 0.81) == math.inf and minutes_needed(curve, 0.7) == 4.0
    assert labels_needed([at(10, math.nan), at(20, 0.5)], 0.5) == pytest.approx(20)


def test_savings_are_against_random():
    fast, slow = [at(10, 0.5), at(20, 0.9)], [at(10, 0.5), at(20, 0.5), at(40, 0.9)]
    table = summarise({"random": [slow, slow], "good": [fast, fast], "never": [fast, slow[:2]]}, [0.9, 0.9]).set_index(
        "strategy"
    )
    need = [labels_needed(c, 0.855) for c in (fast, slow)]
    assert table.of_random["good"] == pytest.approx(need[0] / need[1]) and table.reached.tolist() == [2, 2, 1]
    assert math.isinf(table.labels["never"]) and table.attrs["seeds"] == 2
    assert len(points_table({"a": [fast, slow]})) == 5


def test_all_labels_are_the_ceiling():
    here = scene()
    learn = Linear().bind(here.x, False)
    few = [p.score for p in simulate(here, Random(), Random(), learn, balanced_accuracy, 3, 6, 0)]
    assert full_score(here, learn, balanced_accuracy, 0) >= max(few) - 0.05
