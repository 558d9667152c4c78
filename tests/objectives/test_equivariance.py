"""Equivariance: the loss is its formula; transformations are read from embeddings better than with SimCLR, calls as well."""

import pytest
import torch
from pytorch_metric_learning.losses import NTXentLoss
from small import KINDS, build
from toy import tone, views_of, waves

from audiorep.augment.known import Pitch, Speed, TimeShift
from audiorep.encoders.base import Encoder
from audiorep.errors import AudiorepError
from audiorep.evaluate.knn import knn_scores
from audiorep.objectives.base import Setting
from audiorep.objectives.equivariance import Displacement, half, readable, transformed
from audiorep.types import Features, generator
from audiorep.views import Branch

NAMES = ["pitch", "speed", "shift"]


def embeddings(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Predictions and transformed embeddings of two draws of five samples, and the untransformed ones."""
    rng = generator(seed)
    drawn = [torch.randn(2, 5, 7, generator=rng, dtype=torch.float64) for _ in range(2)]
    return (*drawn, torch.randn(5, 7, generator=rng, dtype=torch.float64))


def test_displacement_equals_a_written_out_loop_with_its_gradient():
    prediction, moved, still = (z.requires_grad_() for z in embeddings(0))
    ours = Displacement(tau=0.3)(prediction, moved, still)
    slopes = torch.autograd.grad(ours, [prediction, moved, still])
    total = torch.zeros((), dtype=torch.float64)
    for m in range(2):
        for i in range(5):
            p = prediction[m, i] / prediction[m, i].norm()
            score = {(n, j): (p @ moved[n, j] / moved[n, j].norm() / 0.3).exp() for n in range(2) for j in range(5)}
            origin = (p @ still[i] / still[i].norm() / 0.3).exp()
            total = total - (score[m, i] / (sum(score.values()) + origin)).log() / 10
    torch.testing.assert_close(ours, total)
    for mine, theirs in zip(slopes, torch.autograd.grad(total, [prediction, moved, still]), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_displacement_equals_that_of_another_library():
    prediction, moved, still = embeddings(1)
    own = torch.arange(10)
    anchor, other = torch.where(~torch.eye(10, dtype=torch.bool))
    pairs = (own, own, torch.cat([anchor, own]), torch.cat([other, 10 + own % 5]))
    peer = NTXentLoss(temperature=0.2)
    reference = torch.cat([moved.flatten(0, 1), still])
    theirs = peer(prediction.flatten(0, 1), own, pairs, ref_emb=reference, ref_labels=torch.arange(15))
    torch.testing.assert_close(Displacement(tau=0.2)(prediction, moved, still), theirs)


def test_an_embedding_that_does_not_move_cannot_satisfy_the_loss():
    z = torch.eye(6)
    still = Displacement(tau=0.05)(z[None], z[None], z)  # invariant: the predictor says what it was given
    assert float(still) == pytest.approx(0.693, abs=1e-3)
    moved = torch.eye(12)[6:]
    assert float(Displacement(tau=0.05)(moved[None], moved[None], torch.eye(12)[:6])) < 1e-3


def test_both_terms_train_the_encoder_and_the_draws_are_told_apart():
    objective = build("equivariance")
    spec = torch.randn(8, 1, 32, 40, generator=generator(0))
    moved, parameters = transformed(spec, objective.transforms, generator(1))
    wanted = spec
    for column, each in enumerate(objective.transforms):
        wanted = each.apply_to(wanted, **{NAMES[column]: parameters[:, column]})
    assert objective.names == NAMES and parameters.shape == (8, 3) and torch.equal(moved, wanted)
    assert objective.predictor.network[0].in_features == objective.place.dim + 3


class Told(Encoder):
    """Says at which band the energy lies, or how much there is of it, beside something that does not matter."""

    def __init__(self, place: bool) -> None:
        super().__init__()
        self.dim, self.place = 3, place

    def forward(self, spec, *, keep=None, mask=None) -> Features:
        level = spec[:, 0].sum(2)
        says = (level * torch.arange(spec.shape[2])).sum(1) / level.sum(1) if self.place else level.sum(1)
        z = torch.stack([says, spec[:, 0, 3, 3], torch.ones(len(spec))], 1)
        return Features(z, z[:, None])


def test_reading_finds_what_is_there_and_nothing_where_nothing_is():
    place = 12.0 + 8.0 * torch.rand(60, 1, generator=generator(3))
    lines = torch.exp(-((torch.arange(32.0) - place) ** 2) / 4.0)[:, None, :, None].expand(-1, -1, -1, 20)
    windows = [(lines[i : i + 15], torch.arange(i, i + 15) // 6) for i in range(0, 60, 15)]
    seeing = readable(Told(place=True), [Pitch()], ["pitch"], windows, generator(4))
    blind = readable(Told(place=False), [Pitch()], ["pitch"], windows, generator(4))
    assert seeing.keys() == {"r2", "r2_pitch"} and seeing["r2_pitch"] > 0.99 and blind["r2_pitch"] < 0.1
    assert readable(Told(place=True), [Pitch()], ["pitch"], [], generator(4)) == {}


def test_halves_hold_whole_groups():
    group = torch.tensor([0] * 9 + [1] * 2 + [2] * 4 + [3] * 3 + [4] * 2)
    chosen = half(group)
    assert all(len(chosen[group == g].unique()) == 1 for g in range(5)) and 8 <= int(chosen.sum()) <= 12
    alone = half(torch.arange(7).repeat(4))
    assert torch.equal(alone.view(4, 7), alone[:7].expand(4, 7)) and int(alone[:7].sum()) in (3, 4)


def test_what_cannot_work_is_refused():
    with pytest.raises(AudiorepError, match="needs 1 view.* of the kind 'clean'"):
        build("equivariance").prepare(Setting(100, 16, {"global": 2}))
    objective = build("equivariance")
    with pytest.raises(AudiorepError, match="objective.transforms has 0 entries"):
        type(objective)(objective.encoder, *[lambda width: torch.nn.Identity()] * 4, Displacement(), [])
    assert objective.prepare(Setting(100, 16, KINDS)) is None


@pytest.fixture(scope="module")
def trained():
    """SimCLR's encoder and ours, trained alike on tones; clean tones that neither has heard."""
    data = waves(192)
    made = views_of(data)
    made.branches["clean"] = Branch(1)
    encoders = {}
    for name in ("simclr", "equivariance"):
        objective = build(name)
        optimizer = torch.optim.AdamW(objective.parameter_groups()["main"], lr=3e-3)
        for step in range(60):
            rng = generator(0, step)
            rows = torch.randperm(192, generator=rng)[:32]
            loss = sum(objective(made(data[rows], rng), {}, rng).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        encoders[name] = objective.eval().encoder
    unheard = made.clean(torch.stack([torch.from_numpy(tone(i % 4, 1000 + i)) for i in range(192)]))
    return encoders, made.clean(data), unheard


def test_the_transformation_is_read_from_pairs_of_embeddings_better_than_with_simclr(trained):
    encoders, _, unheard = trained
    transforms = [Pitch(), Speed(), TimeShift()]
    r2 = {
        name: readable(encoder, transforms, NAMES, [(unheard, torch.arange(192) // 4 % 6)], generator(7))
        for name, encoder in encoders.items()
    }
    assert r2["equivariance"]["r2"] > r2["simclr"]["r2"] + 0.05, r2
    assert r2["equivariance"]["r2_pitch"] > 0.5, r2


def test_the_call_is_still_recognised(trained):
    encoders, heard, unheard = trained
    kinds = torch.arange(192) % 4
    right = {}
    for name, encoder in encoders.items():
        with torch.no_grad():
            z, other = encoder(heard).pooled, encoder(unheard).pooled
        scores = knn_scores(z.numpy(), kinds.numpy(), other.numpy(), 4)
        right[name] = float((scores.argmax(1) == kinds.numpy()).mean())
    assert right["equivariance"] > right["simclr"] - 0.1 and right["equivariance"] > 0.6, right
