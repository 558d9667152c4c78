"""VAAL's discriminator tells what the answers cover from what they do not; its losses have the right signs."""

import torch
from pools import make

from audiorep.select.vaal import Autoencoder, Vaal, linear, train, vae_loss
from audiorep.types import generator


def test_what_the_answers_do_not_cover_is_asked_first():
    x = 0.3 * torch.randn(300, 6, generator=generator(0))
    x[150:, :3] += 2.0  # the second half lies elsewhere
    answered = 0.3 * torch.randn(60, 6, generator=generator(1))  # where the first half is
    pool = make(embedding=x, log_p=None, labelled=answered)
    selector = Vaal(hidden=32, latent=4, steps=150, rate=2e-3)
    with torch.no_grad():
        score = selector.score(pool, generator(0))
    assert score[150:].median() > score[:150].median() + 0.1
    assert float((score.topk(50).indices >= 150).float().mean()) > 0.9
    assert ((score > 0.0) & (score < 1.0)).all()


def test_the_vae_would_rather_hide_what_the_discriminator_looks_for():
    x = torch.randn(400, 6, generator=generator(0))
    x[200:, 0] += 3.0

    def told_apart(adversary: float) -> float:
        rng = generator(3)
        model = Autoencoder(6, 32, 4, rng)
        with torch.enable_grad():
            train(model, x[:200], x[200:], rng, 150, 64, 5e-3, 0.01, adversary)
        with torch.no_grad():
            said = model.looks_answered(model.encode(x)[0]).sigmoid()
        return float(said[:200].mean() - said[200:].mean())

    freely = told_apart(0.0)
    assert freely > 0.4 and told_apart(3.0) < 0.5 * freely


def test_the_vae_loss_is_its_formula():
    x, found = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 2.0]])
    mean, log_variance = torch.tensor([[1.0]]), torch.tensor([[0.0]])
    assert float(vae_loss(x, found, mean, log_variance, 0.5)) == 0.5 + 0.5 * 0.5
    assert float(vae_loss(x, x, torch.zeros(1, 1), torch.zeros(1, 1), 0.5)) == 0.0


def test_weights_come_from_the_generator_alone():
    before = torch.get_rng_state()
    a, b, c = (linear(5, 4, generator(seed)).weight for seed in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert torch.equal(torch.get_rng_state(), before)
