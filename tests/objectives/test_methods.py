"""What single methods must show: balanced assignments, living vocabularies, clusters that come to mean something."""

import pytest
import torch
from hydra.utils import instantiate
from sklearn.metrics import normalized_mutual_info_score
from small import KINDS, ROWS, batch, build, views
from toy import objective_of, views_of, waves

from audiorep.composing import compose
from audiorep.encoders.cnn import SmallCnn
from audiorep.errors import AudiorepError
from audiorep.evaluate.health import entropies
from audiorep.objectives.base import Objective, Setting
from audiorep.types import generator


def train(objective: Objective, steps: int, epoch: int = 8, count: int = 192) -> tuple[torch.Tensor, list]:
    """Train on tones, epochs of `epoch` steps; clean spectrograms, and the partition after each `before_epoch`."""
    data = waves(count)
    made = views_of(data)
    clean = made.clean(data)
    objective.prepare(Setting(count, 64, KINDS, count, 4, 20.0))
    optimizer = torch.optim.AdamW(objective.parameter_groups()["main"], lr=3e-3)

    def embed() -> torch.Tensor:
        objective.eval()
        with torch.no_grad():
            out = objective.encoder(clean).pooled
        objective.train()
        return out

    partitions = []
    for step in range(steps):
        rng = generator(0, step)
        if step % epoch == 0:
            objective.before_epoch(step // epoch, embed, generator(0, step, 1))
            if objective.partition() is not None:
                partitions.append(objective.partition().clone())
        index = torch.randperm(count, generator=rng)[:64]
        told = {"index": index, "label": index % 4, "recording": index, "start": index}
        loss = torch.stack(list(objective(made(data[index], rng), told, rng).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        objective.after_step((step + 1) / steps)
    return clean, partitions


def test_swav_assignments_are_balanced():
    objective = objective_of("swav", ["objective.prototypes=32"])
    clean, _ = train(objective, 40)
    with torch.no_grad():
        targets = objective.eval().distributions(clean)["teacher"]
    shares = targets.sum(0)
    assert shares.max() < 2.0 * shares.mean() and shares.min() > 0.3 * shares.mean()
    assert entropies(targets)["conditional_entropy_relative"] < 0.8  # balanced because decided, not because blurred


def test_swav_takes_its_memory_along_late_and_only_when_it_is_full():
    objective = build("swav")
    memory, scores = objective.memory, torch.randn(16, 64, generator=generator(1))
    alone = objective.assign(scores)
    assert torch.equal(objective.target(scores), alone)
    objective.pushed.fill_(memory.size)
    assert torch.equal(objective.target(scores), alone)
    objective.progress.fill_(0.9)
    assert not torch.equal(objective.target(scores), alone) and objective.target(scores).shape == alone.shape


def test_the_vocabulary_of_obow_refreshes_and_no_word_is_dead():
    objective = objective_of_bags(128)
    first = objective.vocabulary.content()
    train(objective, 24)
    words = objective.vocabulary.content()
    assert not (words[:, None] == first[None]).all(2).any(), "a word of the beginning is still there"
    data = waves(192)
    made = views_of(data)
    with torch.no_grad():  # the views that the words came from, two draws of each
        seen = [objective.teacher([view], [])[0] for draw in range(2) for view in made(data, generator(draw))["global"]]
        bags = torch.cat([objective.bag(tokens, words)[0] for tokens in seen])
    alive = bags.amax(0) > 0.1 / objective.vocabulary.size
    assert alive.float().mean() > 0.9, "words that no sound is near to; they would be gone two steps later"


def objective_of_bags(words: int) -> Objective:
    cfg = compose("pretrain", ["corpus=x", "out=x", "objective=obow", f"objective.words={words}"])
    torch.manual_seed(0)
    return instantiate(cfg.objective, encoder=SmallCnn(width=8, dim=64))


def test_clusters_of_deepcluster_come_to_mean_something():
    cfg = compose("pretrain", ["corpus=x", "out=x", "objective=deepcluster", "objective.clusters=12"])
    torch.manual_seed(0)
    objective = instantiate(cfg.objective, encoder=SmallCnn(width=8, dim=64))
    _, partitions = train(objective, 65, epoch=8)
    kinds = [i % 4 for i in range(192)]
    agreement = [normalized_mutual_info_score(kinds, found.tolist()) for found in partitions]
    assert agreement[-1] > agreement[0] + 0.05, agreement


def test_the_head_of_deepcluster_begins_anew_with_each_clustering():
    objective = build("deepcluster")
    before = objective.head.weight.clone()
    objective.before_epoch(1, lambda: torch.randn(ROWS, 12, generator=generator(8)), generator(9))
    assert not torch.equal(before, objective.head.weight)
    assert torch.bincount(objective.partition(), minlength=objective.clusters).min() > 0


def test_the_prior_of_msn_says_how_large_the_clusters_should_be():
    objective = build("msn")
    assert torch.allclose(objective.prior, torch.full_like(objective.prior, 1 / objective.count))
    objective.prior.copy_(torch.arange(1, objective.count + 1).float().pow(-1.0))
    objective.prior /= objective.prior.sum()
    optimizer = torch.optim.AdamW(objective.parameter_groups()["main"], lr=3e-3)

    def distance() -> float:
        with torch.no_grad():
            share = objective.eval().distributions(views(0)["global"][0])["prototypes"].mean(0)
        objective.train()
        return float((share - objective.prior).abs().sum())

    far = distance()
    for _ in range(30):
        loss = objective(views(0), batch(), generator(0))["mean_entropy"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert distance() < 0.8 * far


def test_moco_compares_with_what_came_before_and_its_queue_survives_a_checkpoint():
    objective = build("moco")
    objective(views(0), batch(), generator(0))
    objective.after_step(0.1)
    pushed = list(objective.latest)
    rows = objective.memory.content()
    joined = torch.nn.functional.normalize(torch.cat(pushed))
    torch.testing.assert_close(rows[: len(joined)], joined)
    again = build("moco")
    again.load_state_dict(objective.state_dict())
    assert torch.equal(again.memory.content(), rows) and int(again.memory.next) == len(joined)


def test_the_branches_of_vicreg_may_differ():
    objective = build("vicreg_branches")
    own = {id(p) for p in objective.encoder.parameters()}
    assert not own & {id(p) for p in objective.teacher.parameters()}
    sum(objective(views(0), batch(), generator(0)).values()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in objective.teacher.encoder.parameters())


@pytest.mark.parametrize(
    ("name", "setting", "words"),
    [
        ("swav", Setting(500, 32, KINDS), "objective.prototypes=64: more than the 32 samples"),
        ("dino", Setting(100, 64, KINDS), "objective.prototypes=256: more than the 100 windows"),
        ("moco", Setting(5000, 4096, KINDS), "objective.memory.size=2048 is smaller than a batch of 4096"),
        ("obow", Setting(5000, 1024, KINDS), "objective.words=512 is smaller than a batch of 1024"),
        ("deepcluster", Setting(50, 32, KINDS), "objective.clusters=64: more than the 50 rows"),
        ("supcon", Setting(500, 64, KINDS, labelled=0), "positives=labels needs two labels"),
    ],
)
def test_what_cannot_work_is_refused_with_the_remedy(name, setting, words):
    with pytest.raises(AudiorepError, match=words):
        build(name).prepare(setting)


@pytest.mark.parametrize("name", ["dino", "swav"])
def test_a_few_long_recordings_may_have_more_prototypes_than_rows(name):
    build(name).prepare(Setting(10, 64, KINDS, slots=3000))
