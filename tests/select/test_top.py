"""The highest scores, ties by chance, a cost a minute, and what a pool refuses."""

import pytest
import torch
from pools import make

from audiorep.errors import AudiorepError
from audiorep.select.scores import entropy, margin
from audiorep.select.top import Random, Top, highest
from audiorep.types import generator


def test_the_highest_come_first():
    pool = make()
    chosen = Top(margin).select(pool, 5, generator(0))
    best = margin(pool.log_p).sort(descending=True)
    assert chosen.rows.tolist() == best.indices[:5].tolist()
    assert torch.equal(chosen.score, best.values[:5])


def test_ties_are_drawn():
    score = torch.tensor([1.0, 2.0, 1.0, 1.0, 1.0])
    picks = {tuple(highest(score, 2, generator(seed)).tolist()) for seed in range(40)}
    assert {first for first, _ in picks} == {1} and {second for _, second in picks} == {0, 2, 3, 4}


def test_a_minute_of_a_short_clip_may_be_worth_more():
    pool = make(minutes=torch.ones(40))
    assert torch.equal(
        Top(entropy, per_minute=True).select(pool, 40, generator(0)).rows,
        Top(entropy).select(pool, 40, generator(0)).rows,
    )
    best = int(entropy(pool.log_p).argmax())
    minutes = torch.ones(40)
    minutes[best] = 1e3
    dear = make(minutes=minutes)
    assert int(Top(entropy).select(dear, 1, generator(0)).rows) == best
    chosen = Top(entropy, per_minute=True).select(dear, 40, generator(0))
    assert int(chosen.rows[-1]) == best
    assert torch.equal(chosen.score, (entropy(pool.log_p) / minutes)[chosen.rows])


def test_a_part_of_the_pool_is_looked_at():
    pool, selector = make(), Top(entropy, among=10)
    picks = [set(selector.select(pool, 5, generator(seed)).rows.tolist()) for seed in range(8)]
    assert len(set.union(*picks)) > 10
    assert len(selector.select(pool, 12, generator(0)).rows) == 12
    with pytest.raises(AudiorepError, match="among=0"):
        Top(entropy, among=0)


def test_random_is_even():
    pool, counts = make(n=10), torch.zeros(10)
    for seed in range(400):
        counts[Random().select(pool, 3, generator(seed)).rows] += 1
    assert counts.min() > 80 and counts.max() < 160


def test_what_is_no_pool_is_refused():
    pool = make()
    bad = pool.embedding.clone()
    bad[7, 2] = torch.nan
    huge = torch.full_like(pool.embedding, 3e38)
    for changed, word in (
        ({"embedding": bad}, "row 7 is not finite"),
        ({"log_p": pool.log_p.exp()}, "logarithms of probabilities"),
        ({"log_p": torch.full_like(pool.log_p, torch.nan)}, "logarithms of probabilities"),
        ({"log_p": pool.log_p[:, :, :1]}, "one class"),
        ({"minutes": torch.zeros(40)}, "minutes"),
        ({"spent": 1.5}, "spent=1.5"),
    ):
        with pytest.raises(AudiorepError, match=word):
            make(**changed)
    make(embedding=huge)  # large is not infinite, though the sum is
    make(log_p=torch.full_like(pool.log_p, -torch.inf), several=True, label=torch.ones(8, 3))
