"""TypiClust takes the typical clip of what is not covered; DBAL takes uncertain clips, one of each kind."""

import math

import pytest
import torch
from pools import blobs, log_p, make

from audiorep.errors import AudiorepError
from audiorep.select.clusters import Dbal, TypiClust, typicality
from audiorep.select.scores import bald, margin
from audiorep.select.top import Top
from audiorep.types import generator


def test_typicality_equals_a_loop():
    x = torch.randn(15, 3, generator=generator(0))
    found = typicality(x, x, 4)
    for i in range(15):
        near = sorted(math.dist(x[i].tolist(), x[j].tolist()) for j in range(15) if j != i)[:4]
        assert float(found[i]) == pytest.approx(4.0 / sum(near), rel=1e-3)
    assert typicality(x[:1], x[:1], 4).tolist() == [0.0]
    assert typicality(torch.ones(5, 3), torch.ones(5, 3), 4).isfinite().all()


def test_one_typical_clip_of_each_kind_without_an_answer():
    x = blobs(80, centres=4, spread=0.2)
    x[3] += 0.9  # an odd one of the fourth kind
    chosen = TypiClust(normalise=False).select(make(embedding=x, labelled=x[:0]), 4, generator(0))
    assert {row % 4 for row in chosen.rows.tolist()} == {0, 1, 2, 3} and 3 not in chosen.rows
    partly = make(embedding=x, labelled=x[[0, 1]])
    chosen = TypiClust(normalise=False).select(partly, 2, generator(0))
    assert {row % 4 for row in chosen.rows.tolist()} == {2, 3}
    kind = x[chosen.rows[0] % 4 :: 4]
    expected = typicality(kind, kind, 20)
    assert float(chosen.score[0]) == pytest.approx(float(expected.max()), rel=0.05)


def test_small_clusters_come_last():
    x = torch.cat([blobs(60, centres=3, spread=0.1), torch.full((2, 6), 40.0)])
    pool = make(embedding=x, labelled=x[:0], log_p=None)
    rows = TypiClust(normalise=False).select(pool, 4, generator(0)).rows.tolist()
    assert all(row < 60 for row in rows[:3]) and rows[3] >= 60


def test_more_clips_than_clusters():
    pool = make(n=60, answered=12)
    rows = TypiClust(clusters=5, sample=30).select(pool, 50, generator(0)).rows
    assert len(rows.unique()) == 50
    rows = TypiClust(clusters=3, sample=4, neighbours=2).select(pool, 60, generator(0)).rows
    assert len(rows.unique()) == 60


def test_dbal_takes_one_of_each_uncertain_kind():
    x = blobs(80, centres=8, spread=0.1)
    p = torch.full((1, 80, 2), 0.5)
    sure = torch.arange(80) % 8 >= 4  # kinds 4 to 7 are known
    p[0, sure] = torch.tensor([0.95, 0.05])
    p[0, ~sure] += torch.tensor([0.01, -0.01]) * torch.rand(40, 1, generator=generator(0))
    pool = make(embedding=x, log_p=p.log())
    chosen = Dbal(margin, beta=10.0, normalise=False).select(pool, 4, generator(0))
    assert {row % 8 for row in chosen.rows.tolist()} == {0, 1, 2, 3}
    torch.testing.assert_close(chosen.score, margin(p.log())[chosen.rows])


def test_dbal_is_pulled_to_the_uncertain_side_of_a_cluster():
    x = torch.linspace(0.0, 1.0, 21)[:, None].repeat(1, 2)
    lead = torch.cat([torch.full((11,), 0.98), torch.linspace(0.5, 0.0, 10)])
    p = torch.stack([0.5 + lead / 2.0, 0.5 - lead / 2.0], 1)[None]
    pool = make(embedding=x, log_p=p.log(), labelled=x[:0])
    picked = int(Dbal(margin, beta=100.0, normalise=False).select(pool, 1, generator(0)).rows)
    weight = 1.0 - lead
    assert picked == int((x[:, 0] - (x[:, 0] * weight).sum() / weight.sum()).abs().argmin())
    assert picked > 10


def test_more_different_clips_than_the_highest_bald():
    kinds, copies = 10, 8
    x, p = blobs(kinds, centres=kinds, seed=4), log_p(kinds, 6, 3, seed=4)
    pool = make(embedding=x.repeat_interleave(copies, 0), log_p=p.repeat_interleave(copies, 1))
    different = lambda selector: len((selector.select(pool, 6, generator(0)).rows // copies).unique())  # noqa: E731
    assert different(Top(bald, passes=True)) == 1
    assert different(Dbal(bald, beta=10.0, passes=True)) == 6


def test_what_makes_no_cluster_is_refused():
    for make_one in (lambda: TypiClust(neighbours=0), lambda: TypiClust(sample=0), lambda: Dbal(margin, beta=0.5)):
        with pytest.raises(AudiorepError, match="selector"):
            make_one()
