"""Sounds and words in one space: the loss against a loop and a library, retrieval by hand, and what it must show."""

import math

import pytest
import torch
from hydra.utils import instantiate
from pytorch_metric_learning.losses import SupConLoss
from small import KINDS, batch, build, views
from toy import views_of, waves

from audiorep.build import plain_errors
from audiorep.composing import compose
from audiorep.data.words import learn_vocabulary
from audiorep.encoders.cnn import SmallCnn
from audiorep.errors import AudiorepError
from audiorep.objectives.align import first_rows, retrieval, symmetric_info_nce
from audiorep.objectives.base import Objective, Setting
from audiorep.types import generator

TEXTS = ["rising tone", "tone falling", "flat tone", "trill of clicks"]
"""What is said of the four kinds of `toy.tone`."""


def annotated(count: int) -> tuple[torch.Tensor, int]:
    """Words of `toy.waves`, every fifth row without, and the size of their vocabulary."""
    vocabulary = learn_vocabulary(TEXTS)
    texts = ["" if i % 5 == 4 else TEXTS[i % 4] for i in range(count)]
    return torch.from_numpy(vocabulary.encode(texts)), vocabulary.size


def objective_of(*overrides: str):
    cfg = compose("pretrain", ["corpus=x", "out=x", "objective=audio_text", *overrides])
    torch.manual_seed(0)
    with plain_errors():
        return instantiate(cfg.objective, encoder=SmallCnn(width=8, dim=64))


def before_and_after(objective: Objective, steps: int, lr: float) -> tuple[dict[str, float], dict[str, float]]:
    """What an objective measures on tones that it did not train on, before and after `steps` steps of training."""
    count, held = 192, 64
    data, (tokens, size) = waves(count + held), annotated(count + held)
    spec = views_of(data[:count]).clean(data)
    objective.prepare(Setting(count, 48, KINDS, vocabulary=size, words=tokens.shape[1], texts=4))

    def measured() -> dict[str, float]:
        objective.eval()
        parts = torch.arange(count, count + held).split(24)
        with torch.no_grad():
            held_out = (({"global": [spec[part]]}, {"tokens": tokens[part]}) for part in parts)
            found = objective.measure(held_out, generator(2))
        objective.train()
        return found

    before = measured()
    optimizer = torch.optim.AdamW(objective.parameter_groups()["main"], lr=lr)
    for step in range(steps):
        rng = generator(0, step)
        rows = torch.randperm(count, generator=rng)[:48]
        terms = objective({"global": [spec[rows]]}, {"tokens": tokens[rows]}, rng)
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        objective.after_step(step / steps)
    return before, measured()


def test_the_loss_equals_a_written_out_loop():
    rng = generator(0)
    sound, words = torch.randn(6, 5, generator=rng), torch.randn(6, 5, generator=rng)
    text_of = torch.tensor([0, 1, -1, 0, 2, 0])
    found = symmetric_info_nce(sound, words, text_of, torch.tensor(7.0))
    a, b = (torch.nn.functional.normalize(z.double()) for z in (sound, words))
    rows = [i for i in range(6) if text_of[i] >= 0]
    total = 0.0
    for i in rows:
        same = [j for j in rows if text_of[j] == text_of[i]]
        along = math.log(sum(math.exp(7.0 * float(a[i] @ b[j])) for j in rows))
        down = math.log(sum(math.exp(7.0 * float(a[j] @ b[i])) for j in rows))
        for j in same:
            total += (along - 7.0 * float(a[i] @ b[j])) / len(same) / 2
            total += (down - 7.0 * float(a[j] @ b[i])) / len(same) / 2
    assert float(found) == pytest.approx(total / len(rows), rel=1e-5)


def test_the_loss_and_its_gradient_equal_a_library_both_ways():
    rng = generator(1)
    sound = torch.randn(12, 8, generator=rng, requires_grad=True)
    words = torch.randn(12, 8, generator=rng, requires_grad=True)
    text_of = torch.arange(12) % 5
    theirs = SupConLoss(temperature=0.1)  # between two sets of embeddings it is one of the two directions
    wanted = theirs(sound, text_of, ref_emb=words, ref_labels=text_of.clone())
    wanted = (wanted + theirs(words, text_of, ref_emb=sound, ref_labels=text_of.clone())) / 2
    ours = symmetric_info_nce(sound, words, text_of, torch.tensor(10.0))
    torch.testing.assert_close(ours, wanted)
    for mine, other in zip(*(torch.autograd.grad(loss, (sound, words)) for loss in (ours, wanted)), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


def test_rows_without_words_are_left_out_and_a_batch_of_them_is_no_loss():
    objective = build("audio_text").eval()
    made, told = views(0), batch()
    some = torch.arange(len(told["index"])) % 3 > 0
    told["tokens"] = told["tokens"] * some[:, None]
    loss = objective(made, told, generator(0))["alignment"]
    part = {name: [view[some] for view in of_kind] for name, of_kind in made.items()}
    torch.testing.assert_close(loss, objective(part, {k: v[some] for k, v in told.items()}, generator(0))["alignment"])
    told["tokens"] = torch.zeros_like(told["tokens"])
    nothing = objective(made, told, generator(0))["alignment"]
    nothing.backward()
    assert float(nothing) == 0.0 and all(not p.grad.any() for p in objective.parameters() if p.grad is not None)


def test_the_temperature_is_learned_and_kept_in_bounds():
    objective = build("audio_text")
    assert float(objective.log_scale.exp()) == pytest.approx(1 / 0.07)
    objective(views(0), batch(), generator(0))["alignment"].backward()
    assert objective.log_scale.grad.abs() > 0
    for value, kept in ((9.0, 100.0), (-1.0, 1.0)):
        objective.log_scale.data.fill_(value)
        objective.after_step(0.5)
        assert float(objective.log_scale.exp()) == pytest.approx(kept, rel=1e-5)


def test_retrieval_by_hand():
    text_of = torch.tensor([0, 0, 0, 1, 2])
    score = torch.tensor([[9.0, 1, 1], [8, 7, 0], [0, 5, 1], [1, 2, 3], [0, 1, 4]])
    found = retrieval(score, text_of)
    assert found["audio_to_text_recall@1"] == pytest.approx(3 / 5)  # rows 0, 1 and 4
    assert found["audio_to_text_chance"] == pytest.approx(3 / 5)  # "0" is always right for three
    assert found["text_to_audio_recall@1"] == pytest.approx(2 / 3)  # for text 1 row 1 is on top, which is of text 0
    assert found["text_to_audio_chance"] == pytest.approx(1 / 3)
    assert retrieval(score[:3, :1], text_of[:3]) == {}


def test_first_rows_are_one_row_of_each_text_in_order():
    assert first_rows(torch.tensor([2, -1, 0, 2, 1, 0, -1])).tolist() == [2, 4, 0]
    assert first_rows(torch.tensor([-1, -1])).tolist() == []


def test_words_that_do_not_tell_rows_apart_are_refused():
    objective = objective_of()
    with pytest.raises(AudiorepError, match=r"no row has any.*data\.words="):
        objective.prepare(Setting(96, 16, KINDS))
    with pytest.raises(AudiorepError, match=r"have the same.*data\.words="):
        objective.prepare(Setting(96, 16, KINDS, vocabulary=5, words=2, texts=1))
    with pytest.raises(AudiorepError, match=r"text_projector\.outputs=8 must equal objective\.projector\.outputs=128"):
        objective_of("objective.text_projector.outputs=8").prepare(Setting(96, 16, KINDS, vocabulary=5, texts=2))
    with pytest.raises(AudiorepError, match=r"objective\.tau=0\.001 must lie between 0\.01 and 1"):
        objective_of("objective.tau=0.001")
    assert objective.uses_labels
    objective.prepare(Setting(96, 16, KINDS, vocabulary=5, words=2, texts=2, words_hold_labels=False))
    assert not objective.uses_labels


def test_nothing_is_measured_where_nothing_is_held_out_or_has_words():
    objective = build("audio_text").eval()
    told = batch() | {"tokens": torch.zeros(16, 3, dtype=torch.int64)}
    assert objective.measure([], generator(0)) == {}
    assert objective.measure([(views(0), told)], generator(0)) == {}


def test_sounds_find_their_words_and_words_their_sounds_on_held_out_recordings():
    before, after = before_and_after(objective_of(), 40, 3e-3)
    assert after["audio_to_text_chance"] < 0.3 and after["text_to_audio_chance"] == pytest.approx(0.25)
    assert after["audio_to_text_recall@1"] > 0.9 and after["text_to_audio_recall@1"] == 1.0, after
    assert before["audio_to_text_recall@1"] < 0.5, before
