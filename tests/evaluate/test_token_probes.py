"""Probes of tokens find what a mean drowns; their pooling equals written-out loops; the same seed gives the same scores."""

import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from audiorep.cli import main
from audiorep.evaluate.probe import linear_scores
from audiorep.evaluate.token_probes import (
    Attentive,
    Fitting,
    Prototypical,
    TokenProbe,
    probe_loss,
    probe_scores,
    spread,
    standardiser,
)
from audiorep.evaluate.tokens import Tokens

QUICK = Fitting(steps=250, lr=0.03, dropout=0.0)
PROBES = {"attentive": Attentive, "prototypical": partial(Prototypical, each=5)}


def needles(rows: int = 320, classes: int = 4, tokens: int = 24, dim: int = 16) -> tuple[Tokens, np.ndarray]:
    """Rows of noise in which one token, anywhere, tells the class."""
    rng = np.random.default_rng(0)
    truth = rng.permutation(np.arange(rows) % classes)
    sign = rng.normal(size=(classes, dim))
    values = rng.normal(size=(rows, tokens, dim))
    values[np.arange(rows), rng.integers(0, tokens, rows)] += 6 * (sign / np.linalg.norm(sign, axis=1)[:, None])[truth]
    return Tokens(values.astype(np.float16), np.arange(rows + 1)), truth


def filled(probe: TokenProbe) -> TokenProbe:
    """The probe with random weights everywhere, in float64."""
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in probe.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng))
    return probe.double()


@pytest.fixture
def few() -> tuple[torch.Tensor, torch.Tensor]:
    """Three rows of seven tokens in eight dimensions, of which some are not there."""
    rng = torch.Generator().manual_seed(0)
    there = torch.ones(3, 7, dtype=torch.bool)
    there[1, 4:], there[2, :6] = False, False
    return torch.randn(3, 7, 8, generator=rng).double(), there


@pytest.mark.parametrize("name", PROBES)
def test_a_token_among_many_is_found_where_the_mean_drowns_it(name):
    tokens, truth = needles()
    train, test = np.arange(240), np.arange(240, 320)
    mean = tokens.values.astype(np.float32).mean(1)
    drowned = linear_scores(mean[train], truth[train], mean[test], 4)
    found = probe_scores(PROBES[name], tokens, train, truth[train], test, 4, QUICK)
    assert found.shape == (80, 4) and np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(1), 1.0, atol=1e-6)
    accuracy = [(scores.argmax(1) == truth[test]).mean() for scores in (found, drowned)]
    assert accuracy[0] > accuracy[1] + 0.2 and accuracy[0] > 0.8


@pytest.mark.parametrize("name", PROBES)
def test_the_same_seed_gives_the_same_scores_and_leaves_the_global_generator_alone(name):
    tokens, truth = needles(rows=60)
    train, test = np.arange(40), np.arange(40, 60)
    before = torch.random.get_rng_state()

    def scores(seed: int) -> np.ndarray:
        return probe_scores(PROBES[name], tokens, train, truth[train], test, 4, Fitting(steps=10, batch_size=16), seed)

    first = scores(0)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.rand(3)
    np.testing.assert_array_equal(first, scores(0))
    assert (first != scores(1)).any()


@pytest.mark.parametrize("name", PROBES)
def test_unknown_labels_take_no_part(name):
    """What an unknown entry would have said changes nothing, and what is known is learnt."""
    tokens, truth = needles()
    train, test = np.arange(240), np.arange(240, 320)
    hot = np.eye(4, dtype=np.float32)[truth]
    hidden = np.random.default_rng(0).random(hot.shape) < 0.3
    unknown = np.where(hidden, np.nan, hot)
    scores = probe_scores(PROBES[name], tokens, train, unknown[train], test, 4, QUICK)
    assert ((scores >= 0) & (scores <= 1)).all() and (scores.argmax(1) == truth[test]).mean() > 0.75
    logits = torch.randn(5, 4, requires_grad=True)
    target = torch.from_numpy(unknown[:5])
    probe_loss(logits, target).backward()
    assert logits.grad[target.isnan()].eq(0).all() and logits.grad[~target.isnan()].ne(0).all()
    assert probe_loss(logits, torch.full((5, 4), torch.nan)) == 0


def test_losses_equal_written_out_loops():
    logits = torch.randn(4, 3).double()
    truth = torch.tensor([0, 2, 1, 1])
    expected = np.mean(
        [-math.log(math.exp(x[t]) / sum(map(math.exp, x))) for x, t in zip(logits.tolist(), truth, strict=True)]
    )
    assert probe_loss(logits, truth).item() == pytest.approx(expected)
    hot = torch.tensor([[1, 0, torch.nan], [torch.nan] * 3, [0, 0, 1], [1, torch.nan, 1]]).double()
    each = [
        -math.log(p if t else 1 - p)
        for p, t in zip(logits.sigmoid().flatten().tolist(), hot.flatten().tolist(), strict=True)
        if not math.isnan(t)
    ]
    assert probe_loss(logits, hot).item() == pytest.approx(np.mean(each))


@pytest.mark.parametrize("heads, queries", [(1, 1), (4, 1), (2, 3), (6, 2)])
def test_attentive_pooling_equals_a_loop(few, heads, queries):
    tokens, there = few
    probe = filled(Attentive(8, 5, torch.Generator(), heads, queries))
    assert probe.heads == math.gcd(8, heads)
    width = 8 // probe.heads
    for b in range(3):
        kept = tokens[b][there[b]]
        gathered = []
        for q in range(queries):
            for h in range(probe.heads):
                part = slice(h * width, (h + 1) * width)
                score = [probe.query[q, h] @ (probe.key[part] @ x) / math.sqrt(width) for x in kept]
                weight = [math.exp(s) / sum(map(math.exp, score)) for s in score]
                gathered.append(sum(w * (probe.value[part] @ x) for w, x in zip(weight, kept, strict=True)))
        expected = probe.weight @ torch.cat(gathered) + probe.bias
        torch.testing.assert_close(probe(tokens, there)[b], expected)
    attention = probe.attention(tokens, there)
    torch.testing.assert_close(attention.sum(2), torch.ones(3, queries * probe.heads).double())
    assert attention.transpose(1, 2)[~there].eq(0).all()


def test_attentive_pooling_is_pytorchs_multi_head_attention(few):
    tokens, there = few
    probe = filled(Attentive(8, 5, torch.Generator(), heads=4))
    theirs = nn.MultiheadAttention(8, 4, bias=False, batch_first=True).double()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([torch.eye(8).double(), probe.key, probe.value]))
        theirs.out_proj.weight.copy_(torch.eye(8))
    query = probe.query.reshape(1, 1, 8).expand(3, -1, -1)
    pooled, _ = theirs(query, tokens, tokens, key_padding_mask=~there)
    torch.testing.assert_close(probe(tokens, there), pooled[:, 0] @ probe.weight.T + probe.bias)


def test_an_attentive_probe_starts_out_as_a_probe_of_the_mean(few):
    tokens, there = few
    probe = Attentive(8, 5, torch.Generator().manual_seed(0)).double()
    nn.init.normal_(probe.weight, generator=torch.Generator().manual_seed(1))
    mean = torch.stack([row[kept].mean(0) for row, kept in zip(tokens, there, strict=True)])
    torch.testing.assert_close(probe(tokens, there), mean @ probe.weight.T, rtol=0.1, atol=0.1)


def test_prototypical_pooling_equals_a_loop(few):
    tokens, there = few
    probe = filled(Prototypical(8, 5, torch.Generator(), each=3))
    logits = probe(tokens, there)
    assert (probe.weight < 0).any()
    for b in range(3):
        for c in range(5):
            total = float(probe.bias[c])
            for j in range(3):
                nearest = max(float(F.cosine_similarity(x, probe.prototypes[c, j], dim=0)) for x in tokens[b][there[b]])
                total += max(float(probe.weight[c, j]), 0.0) * nearest
            assert logits[b, c].item() == pytest.approx(total)


def test_prototypes_of_a_class_are_kept_apart():
    prototypes = torch.randn(3, 4, 6)
    total = 0.0
    for members in prototypes.double().tolist():
        off = [
            (sum(a * b for a, b in zip(p, q, strict=True)) / (math.hypot(*p) * math.hypot(*q)) - (i == j)) ** 2
            for i, p in enumerate(members)
            for j, q in enumerate(members)
        ]
        total += math.sqrt(sum(off)) / 16
    assert spread(prototypes).item() == pytest.approx(total / 3, rel=1e-5)
    assert spread(torch.eye(4)[None]) < 1e-4 < spread(torch.ones(1, 4, 4))
    alike = torch.ones(1, 2, 3, requires_grad=True)
    spread(alike).backward()
    assert alike.grad.isfinite().all()


class Mute(Prototypical):
    """Its scores say nothing of its prototypes, so that their penalty alone trains them."""

    def forward(self, tokens: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        return self.bias.expand(len(tokens), -1)


def test_training_moves_the_prototypes_of_a_class_apart():
    tokens, truth = needles(rows=40)
    probe = Mute(tokens.dim, 4, torch.Generator().manual_seed(0), each=5)
    before = probe.penalty()
    assert torch.equal(before, spread(probe.prototypes))
    rows = np.arange(40)
    probe_scores(lambda *_: probe, tokens, rows, truth, rows, 4, Fitting(steps=20, lr=0.03))
    assert probe.penalty() < 0.5 * before


@pytest.mark.parametrize("name", PROBES)
def test_tokens_that_are_not_there_play_no_part(name):
    """Padded windows of rows with fewer of them, and tokens that are NaN, leave all scores as they are."""
    tokens, truth = needles(rows=60)
    more = np.full((60, 30, 16), np.nan, np.float16)
    more[:, :24] = tokens.values
    padded = Tokens(more, tokens.first)
    train, test = np.arange(40), np.arange(40, 60)
    a, b = (probe_scores(PROBES[name], t, train, truth[train], test, 4, Fitting(steps=20)) for t in (tokens, padded))
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_tokens_of_several_windows_follow_one_another():
    values = np.arange(24, dtype=np.float16).reshape(4, 3, 2)
    tokens = Tokens(values, np.array([0, 1, 1, 4]))
    got, there = tokens.batch(np.array([2, 0, 1]))
    assert tokens.longest == 9 and got.shape == (3, 9, 2) and there.sum(1).tolist() == [9, 3, 0]
    np.testing.assert_array_equal(got[0], values[1:].reshape(9, 2))
    np.testing.assert_array_equal(got[1, :3], values[0])
    assert got[~there].eq(0).all()


def test_tokens_are_standardised_by_those_of_the_rows_named():
    rng = np.random.default_rng(0)
    values = rng.normal(3, 5, (20, 4, 3)).astype(np.float16)
    values[:, :, 2] = 7
    values[3, 1:] = np.nan
    rows = np.array([1, 3, 5, 8])
    mean, deviation = standardiser(Tokens(values, np.arange(21)), rows, chunk=3)
    flat = values[rows].reshape(-1, 3).astype(float)
    np.testing.assert_allclose(mean, np.nanmean(flat, 0), rtol=1e-5)
    np.testing.assert_allclose(deviation, [*np.nanstd(flat[:, :2], 0), 1.0], rtol=1e-5)


def test_a_step_takes_fewer_rows_where_they_would_not_fit():
    """Batches of the least size and of any more give other scores, so `room` is heeded."""
    tokens, truth = needles(rows=60)
    rows = np.arange(60)
    said = [
        probe_scores(Attentive, tokens, rows, truth, rows, 4, Fitting(steps=5, batch_size=size, room=room))
        for size, room in ((8, 2**25), (128, 1), (128, 2**25))
    ]
    np.testing.assert_allclose(said[0], said[1])
    assert np.abs(said[0] - said[2]).max() > 1e-3


@pytest.mark.corpora
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_probes_of_tokens_do_a_masked_autoencoder_justice(corpora: Path, tmp_path: Path):
    """Measured after 400 steps: linear .873, attentive .957, prototypical .960."""
    keys = ["split.column=official_split", "objective=mae", "trainer.max_steps=400", "data.workers=0"]
    chosen = "evaluation.protocol=[linear,attentive,prototypical]"
    with pytest.raises(SystemExit) as ended:
        main(["pretrain", f"corpus={corpora / 'fsdd' / 'labels.csv'}", f"out={tmp_path / 'run'}", *keys, chosen])
    assert not ended.value.code
    scores = json.loads((tmp_path / "run" / "metrics.json").read_text())
    for probe in ("attentive", "prototypical"):
        assert scores[f"{probe}/accuracy"] > scores["linear/accuracy"] + 0.03
        assert scores[f"{probe}/accuracy"] > scores[f"random/{probe}/accuracy"]
