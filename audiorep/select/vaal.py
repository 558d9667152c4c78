"""VAAL: clips that a discriminator tells from the answered ones, in a latent space that would rather hide it."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import skip_init

from audiorep.errors import AudiorepError
from audiorep.select.pool import Chosen, Needs, Pool, Selector
from audiorep.select.top import highest


def linear(inputs: int, outputs: int, rng: torch.Generator) -> nn.Linear:
    """A layer whose weights come from a generator alone; the global one is not touched."""
    layer = skip_init(nn.Linear, inputs, outputs, device=rng.device)
    nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=rng)
    nn.init.zeros_(layer.bias)
    return layer


def layers(widths: list[int], rng: torch.Generator) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    parts: list[nn.Module] = []
    for inputs, outputs in zip(widths, widths[1:], strict=False):
        parts += [linear(inputs, outputs, rng), nn.ReLU()]
    return nn.Sequential(*parts[:-1])


class Autoencoder(nn.Module):
    """A VAE of embeddings, and the discriminator on its latents: high where a clip looks answered."""

    def __init__(self, inputs: int, hidden: int, latent: int, rng: torch.Generator) -> None:
        super().__init__()
        self.encoder = layers([inputs, hidden, 2 * latent], rng)
        self.decoder = layers([latent, hidden, inputs], rng)
        self.discriminator = layers([latent, hidden, 1], rng)

    def encode(self, x: Float[Tensor, "b d"]) -> tuple[Float[Tensor, "b z"], Float[Tensor, "b z"]]:
        """Mean and logarithm of the variance."""
        mean, log_variance = self.encoder(x).chunk(2, 1)
        return mean, log_variance.clamp(-10.0, 10.0)

    def looks_answered(self, z: Float[Tensor, "b z"]) -> Float[Tensor, " b"]:
        """Logit of being answered."""
        return self.discriminator(z)[:, 0]


def vae_loss(
    x: Float[Tensor, "b d"], found: Float[Tensor, "b d"], mean: Tensor, log_variance: Tensor, beta: float
) -> Tensor:
    """``mean_b ||x - x'||^2 / d + beta KL(q || N(0, 1)) / z``, the KL ``1/2 sum (mu^2 + sigma^2 - 1 - log sigma^2)``."""
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).mean()
    return F.mse_loss(found, x) + beta * divergence


def train(
    model: Autoencoder,
    labelled: Float[Tensor, "l d"],
    unlabelled: Float[Tensor, "n d"],
    rng: torch.Generator,
    steps: int,
    batch: int,
    rate: float,
    beta: float,
    adversary: float,
) -> None:
    """The two in turn: the VAE restores both kinds and makes all look answered, the discriminator tells them apart.

    VAE: ``L_vae(x_l) + L_vae(x_u) - adversary E[log D(z_l) + log D(z_u)]``; discriminator:
    ``-E[log D(z_l) + log(1 - D(z_u))]``.

    Source: Sinha et al. 2019, arXiv:1904.00370, section 3.
    """
    own = [*model.encoder.parameters(), *model.decoder.parameters()]
    vae = torch.optim.Adam(own, lr=rate)
    judge = torch.optim.Adam(model.discriminator.parameters(), lr=rate)
    for _ in range(steps):
        loss, latents = torch.zeros((), device=rng.device), []
        for kind in (labelled, unlabelled):
            x = kind[torch.randint(len(kind), (batch,), generator=rng, device=rng.device)]
            mean, log_variance = model.encode(x)
            noise = torch.randn(mean.shape, generator=rng, device=rng.device)
            z = mean + noise * (log_variance / 2.0).exp()
            loss = loss + vae_loss(x, model.decoder(z), mean, log_variance, beta)
            loss = loss - adversary * F.logsigmoid(model.looks_answered(z)).mean()
            latents.append(z.detach())
        vae.zero_grad()
        loss.backward()
        vae.step()
        answered, other = (model.looks_answered(z) for z in latents)
        doubt = -F.logsigmoid(answered).mean() - F.logsigmoid(-other).mean()
        judge.zero_grad()  # also of what the VAE's loss left there
        doubt.backward()
        judge.step()


class Vaal(Selector):
    """Variational adversarial active learning, on embeddings: the clips that look least like the answered ones.

    A small VAE and a discriminator of its latents are trained against each other on both kinds; the score is
    ``1 - D(z)``, the discriminator's probability that a clip was not answered. It knows no task: it finds what the
    answers do not cover yet.

    Args:
        steps, batch, rate: of training, each step with `batch` clips of both kinds; Adam's rate.
        hidden, latent: widths.
        beta: weight of the KL divergence.
        adversary: weight of looking answered, in the VAE's loss.

    Raises:
        AudiorepError: a number below 1 where there must be one.

    Source: Sinha et al. 2019, arXiv:1904.00370, algorithms 1-2; on embeddings instead of pictures, with its rate 5e-4.
    """

    needs = Needs(answered=True)

    def __init__(
        self,
        steps: int = 400,
        batch: int = 128,
        rate: float = 5e-4,
        hidden: int = 256,
        latent: int = 32,
        beta: float = 0.01,
        adversary: float = 0.1,
    ) -> None:
        if min(steps, batch, hidden, latent) < 1:
            raise AudiorepError("selector: steps, batch, hidden and latent must be 1 at least")
        self.steps, self.batch, self.rate = steps, batch, rate
        self.hidden, self.latent, self.beta, self.adversary = hidden, latent, beta, adversary

    def pick(self, pool: Pool, k: int, rng: torch.Generator) -> Chosen:
        score = self.score(pool, rng)
        rows = highest(score, k, rng)
        return Chosen(rows, score[rows])

    def score(self, pool: Pool, rng: torch.Generator) -> Float[Tensor, " n"]:
        """``1 - D(z)`` of every clip of the pool, at the mean of its latent."""
        x, labelled = pool.embedding.float(), pool.labelled.float()
        mean = x.mean(0)
        scale = (x - mean).square().mean(0).sqrt_()
        scale = scale.clamp_min(1e-3 * float(scale.amax()) + 1e-12)
        x, labelled = (x - mean) / scale, (labelled - mean) / scale
        model = Autoencoder(x.shape[1], self.hidden, self.latent, rng)
        with torch.enable_grad():
            train(model, labelled, x, rng, self.steps, self.batch, self.rate, self.beta, self.adversary)
        return torch.cat([torch.sigmoid(-model.looks_answered(model.encode(piece)[0])) for piece in x.split(8192)])
