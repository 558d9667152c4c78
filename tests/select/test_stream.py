"""The stream keeps to its budget whatever the scores are, takes the high ones, and goes on where it was stopped."""

import json

import pytest
import torch
from pools import make

from audiorep.errors import AudiorepError
from audiorep.select.scores import margin
from audiorep.select.stream import Stream, StreamInOrder
from audiorep.types import generator


def scores(kind: str, n: int = 4000) -> list[float]:
    x = torch.rand(n, generator=generator(5))
    drift = {"even": x, "equal": torch.ones(n), "falling": x + torch.linspace(3.0, 0.0, n)}
    drift |= {"rising": x - torch.linspace(3.0, 0.0, n), "jump": x + (torch.arange(n) > n // 2) * 5.0}
    drift |= {"few values": (3.0 * x).round(), "huge": 1e30 * x}
    return drift[kind].tolist()


@pytest.mark.parametrize("kind", ["even", "equal", "falling", "rising", "jump", "few values", "huge"])
@pytest.mark.parametrize("budget", [0.02, 0.1, 0.5])
def test_the_budget_is_spent_and_kept(kind, budget):
    stream = Stream(budget)
    for seen, score in enumerate(scores(kind), 1):
        stream.ask(score)
        assert stream.asked <= budget * (seen + stream.window) + 1.0
    assert stream.asked == pytest.approx(4000 * budget, abs=30)


def test_the_high_ones_are_asked():
    stream, x = Stream(0.1), scores("even")
    asked = torch.tensor([stream.ask(score) for score in x])
    assert torch.tensor(x)[asked].mean() > 0.9
    assert torch.tensor(x)[200:][asked[200:]].min() > 0.8


def test_a_stream_of_part_one_asks_always_and_of_part_zero_never():
    everything, nothing = Stream(1.0), Stream(0.0)
    for score in scores("even", 500):
        assert everything.ask(score) and not nothing.ask(score)


def test_a_stream_goes_on_from_its_state():
    x = scores("few values", 1500)
    whole, first = Stream(0.2, window=50, seed=3), Stream(0.2, window=50, seed=3)
    expected = [whole.ask(score) for score in x]
    said = [first.ask(score) for score in x[:700]]
    second = Stream(0.2, window=50, seed=3)
    second.restore(json.loads(json.dumps(first.state())))
    assert said + [second.ask(score) for score in x[700:]] == expected
    assert second.state() == whole.state()
    assert [Stream(0.2, window=50, seed=4).ask(score) for score in x] != expected


def test_a_pool_in_its_order():
    pool = make(n=400)
    chosen = StreamInOrder(margin).select(pool, 40, generator(0))
    assert chosen.rows.tolist() == sorted(chosen.rows.tolist())
    score = margin(pool.log_p)
    assert torch.equal(chosen.score, score[chosen.rows])
    assert score[chosen.rows].mean() > score.sort(descending=True).values[:120].mean()


def test_wrong_numbers_are_refused():
    for wrong in ({"budget": -0.1}, {"budget": 1.1}, {"budget": 0.1, "window": 0}):
        with pytest.raises(AudiorepError, match="stream"):
            Stream(**wrong)
    with pytest.raises(AudiorepError, match="window=0"):
        StreamInOrder(margin, window=0)
