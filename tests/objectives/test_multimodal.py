"""Masked multimodal modelling: the terms against loops, who sees what, how words are swapped, and what it must show."""

import copy

import pytest
import torch
from hydra.utils import instantiate
from small import KINDS, batch, build, views
from test_align import before_and_after

from audiorep.build import plain_errors
from audiorep.composing import compose
from audiorep.data.words import FIRST, MASK, UNKNOWN
from audiorep.encoders.cnn import SmallCnn
from audiorep.encoders.text import word_sets
from audiorep.encoders.vit import Vit
from audiorep.errors import AudiorepError
from audiorep.masks import Parts
from audiorep.objectives import multimodal
from audiorep.objectives.base import Setting
from audiorep.objectives.masked import patchify
from audiorep.objectives.multimodal import CoBlock, draw_annotated, swap_words
from audiorep.types import Features, generator


@pytest.fixture(scope="module")
def objective():
    return build("multimodal_masked").eval()


@pytest.fixture
def seen(objective):
    """What encoder and word encoder are given, call by call."""
    given: dict[str, list] = {"keep": [], "words": []}
    hooks = [
        objective.encoder.register_forward_pre_hook(
            lambda module, args, named: given["keep"].append(named["keep"]), with_kwargs=True
        ),
        objective.text.register_forward_pre_hook(lambda module, args: given["words"].append(args[0])),
    ]
    yield given
    for hook in hooks:
        hook.remove()


def some_words() -> torch.Tensor:
    """Words of sixteen rows, every fifth without."""
    tokens = batch()["tokens"].clone()
    tokens[::5] = 0
    return tokens


def objective_of(encoder: torch.nn.Module, *overrides: str):
    cfg = compose("pretrain", ["corpus=x", "out=x", "objective=multimodal_masked", *overrides])
    torch.manual_seed(0)
    with plain_errors():
        return instantiate(cfg.objective, encoder=encoder)


def test_hidden_patches_and_words_equal_a_written_out_loop(objective, seen):
    spec, tokens = views(0)["global"][0], some_words()
    with torch.no_grad():
        patches, words = objective.fill_in(spec, tokens, generator(3))
        parts = objective.mask(16, 4, 4, generator(3), spec.device)
        assert torch.equal(seen["keep"][0], parts.visible)  # the encoder saw these patches, and no other
        given = seen["words"][0]
        hidden = given != tokens
        assert bool((given[hidden] == MASK).all()) and 8 < int(hidden.sum()) < int((tokens >= FIRST).sum())
        sound, text = objective.meet(objective.listen(spec, parts), given)
        patch, named = objective.name_patch(sound).double(), objective.name_word(text).double()
    target, total, count = patchify(spec, (8, 8)).double(), 0.0, 0
    for i in range(16):
        for place, number in enumerate(parts.hidden[i, 0].tolist()):
            wanted = target[i, number]
            wanted = (wanted - wanted.mean()) / (wanted.var() + 1e-6).sqrt()
            total += float((patch[i, 1 + parts.visible.shape[1] + place] - wanted).square().sum())
            count += len(wanted)
    assert float(patches) == pytest.approx(total / count, rel=1e-5)
    total, count = 0.0, 0
    for i in range(16):
        for place in range(3):
            if hidden[i, place]:
                total -= float(named[i, 1 + place].log_softmax(0)[tokens[i, place]])
                count += 1
    assert float(words) == pytest.approx(total / count, rel=1e-5)


def test_alignment_equals_a_written_out_loop_over_rows_with_words(objective, seen):
    spec, tokens = views(0)["global"][0], some_words()
    with torch.no_grad():
        found = objective.alignment(spec, tokens, generator(4))
        given = seen["words"][0]
        logit = objective.score(objective.listen(spec), given).double()
    own, losses = word_sets(torch.cat([given, tokens])).view(2, 16), []
    for i in range(16):
        if tokens[i].any():
            same = bool(own[0, i] == own[1, i])
            p = 1.0 / (1.0 + torch.exp(-logit[i]))
            losses.append(-float(p.log() if same else (1.0 - p).log()))
    assert seen["keep"][0] is None and len(losses) == 12
    assert float(found) == pytest.approx(sum(losses) / 12, rel=1e-5)


def test_each_stream_looks_at_the_other_and_neither_at_padding(objective):
    spec, tokens = views(0)["global"][0][:2], torch.tensor([[3, 7, 0], [4, 8, 0]])
    with torch.no_grad():
        heard = objective.listen(spec)
        sound, text = objective.meet(heard, tokens)
        other_sound, other_text = objective.meet(heard.flip(0), tokens)
        assert (text - other_text)[:, :3].abs().amax() > 1e-3
        other_sound, _ = objective.meet(heard, tokens.flip(0))
        assert (sound - other_sound).abs().amax() > 1e-3
        longer = torch.cat([tokens, torch.tensor([[0, UNKNOWN], [UNKNOWN, 0]])], 1)
        same_sound, same_text = objective.meet(heard, longer)
    torch.testing.assert_close(sound, same_sound)
    torch.testing.assert_close(text[:, :3], same_text[:, :3])


def test_in_a_layer_each_stream_reads_the_other_as_it_was_before_that_layer():
    """So what one stream reads of the other changes that stream alone; the other learns of it in the next layer."""
    torch.manual_seed(0)
    block = CoBlock(8, 2)
    given = torch.randn(2, 5, 8), torch.randn(2, 3, 8), torch.ones(2, 3, dtype=torch.bool)
    for name, same in {"sound_from_text": [False, True], "text_from_sound": [True, False]}.items():
        changed = copy.deepcopy(block)
        torch.nn.init.normal_(getattr(changed, name).attention.kv.weight)
        assert [torch.equal(a, b) for a, b in zip(changed(*given), block(*given), strict=True)] == same


def test_hidden_patches_are_told_apart_by_their_places_and_depend_on_those_of_the_visible_ones():
    """The encoder says the same of every patch here, so that nothing but `listen` can tell their places."""
    objective = build("multimodal_masked").eval()
    objective.encoder.register_forward_hook(
        lambda module, args, out: Features(torch.ones_like(out.pooled), torch.ones_like(out.tokens))
    )
    spec, tokens = views(0)["global"][0][:1], batch()["tokens"][:1]

    def predicted(*visible: int) -> torch.Tensor:
        parts = Parts(torch.tensor([visible]), torch.tensor([[[1, 4, 6, 11]]]))
        return objective.name_patch(objective.meet(objective.listen(spec, parts), tokens)[0])[0, 1 + len(visible) :]

    with torch.no_grad():
        first = predicted(0, 5, 9)
        assert first.shape == (4, 64) and torch.pdist(first).min() > 1e-3
        assert (first - predicted(0, 5, 15)).abs().amax() > 1e-4
        assert torch.pdist(objective.listen(spec)[0, 1:]).min() > 1e-3


def test_a_batch_without_words_trains_on_patches_alone():
    objective = build("multimodal_masked")
    told = batch() | {"tokens": torch.zeros(16, 3, dtype=torch.int64)}
    terms = objective(views(0), told, generator(0))
    assert float(terms["words"]) == 0.0 and float(terms["alignment"]) == 0.0 and float(terms["patches"]) > 0.1
    sum(terms.values()).backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in objective.parameters())


def test_half_of_the_rows_get_the_words_of_another_row_with_another_set():
    tokens = some_words().repeat(50, 1)
    given, own = swap_words(tokens, generator(0))
    annotated = tokens.any(1)
    assert bool(own[~annotated].all()) and torch.equal(given[own], tokens[own])
    assert 0.45 < float((~own[annotated]).float().mean()) < 0.55
    number = word_sets(torch.cat([tokens, given])).view(2, -1)
    assert bool((number[0] != number[1])[~own].all()) and bool(given[~own].any(1).all())
    shares = torch.bincount(number[1][~own]) / int((~own).sum())
    assert shares.min() > 0.15  # of four sets, every one serves
    alike = torch.tensor([[3, 4], [4, 3], [0, 0]])
    for seed in range(8):
        given, own = swap_words(alike, generator(seed))
        assert bool(own.all()) and torch.equal(given, alike)


def test_few_windows_and_texts_are_drawn_for_retrieval(monkeypatch):
    monkeypatch.setattr(multimodal, "MOST_SOUNDS", 20)
    monkeypatch.setattr(multimodal, "MOST_TEXTS", 3)
    tokens = torch.arange(60)[:, None] % 6
    specs = torch.arange(60.0)[:, None, None, None].expand(-1, 1, 2, 2)

    def drawn(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        parts = ((specs[rows], tokens[rows] + FIRST - 1) for rows in torch.arange(60).split(7))
        return draw_annotated(parts, generator(seed))

    spec, words = drawn(1)
    row = spec[:, 0, 0, 0].long()
    assert torch.equal(words, tokens[row] + FIRST - 1) and len(row.unique()) == len(row) <= 20
    assert len(words.unique()) == 3 and bool((words >= FIRST).all())
    assert torch.equal(spec, drawn(1)[0]) and drawn(2)[0].flatten().tolist() != spec.flatten().tolist()
    assert draw_annotated(iter([(specs, torch.zeros_like(tokens))]), generator(0)) is None
    assert draw_annotated(iter([]), generator(0)) is None


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(AudiorepError, match=r"SmallCnn has none: choose encoder=vit_mini"):
        objective_of(SmallCnn(width=8, dim=64))
    vit = Vit(dim=48, depth=1, heads=2, patch=(8, 8))
    with pytest.raises(AudiorepError, match=r"objective\.word_ratio=1\.0 must lie between 0 and 1"):
        objective_of(vit, "objective.word_ratio=1.0")
    for setting, words in (({}, "no row has any"), ({"vocabulary": 4, "texts": 1}, "all rows that have words")):
        with pytest.raises(AudiorepError, match=rf"{words}.*data\.words="):
            objective_of(vit).prepare(Setting(96, 16, KINDS, **setting))
    with pytest.raises(AudiorepError, match=r"objective\.text\.dim=6 must be a multiple of 4"):
        objective_of(vit, "objective.text.dim=6", "objective.text.heads=2").prepare(
            Setting(96, 16, KINDS, vocabulary=5, texts=2)
        )
    objective = objective_of(vit)
    assert objective.uses_labels
    objective.prepare(Setting(96, 16, KINDS, vocabulary=5, texts=2, words_hold_labels=False))
    assert not objective.uses_labels


def test_sounds_find_their_words_and_words_their_sounds_on_held_out_recordings():
    made = objective_of(Vit(dim=48, depth=2, heads=2, patch=(32, 4)), "objective.text.dim=64")
    before, after = before_and_after(made, 40, 1e-3)
    assert after["audio_to_text_chance"] < 0.3 and after["text_to_audio_chance"] == pytest.approx(0.25)
    assert after["audio_to_text_recall@1"] > 0.8 and after["text_to_audio_recall@1"] == 1.0, after
    assert before["audio_to_text_recall@1"] < 0.5, before
