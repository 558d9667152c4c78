"""A generator and a discriminator that also names flips: the discriminator's backbone is the encoder (SS-GAN)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from audiorep.distributed import randn
from audiorep.encoders.base import Encoder
from audiorep.objectives.base import HeldOut, Objective, Setting
from audiorep.pretext import Flips
from audiorep.types import Batch, Spec, Views


class Generator(nn.Module):
    """Noise [b d] to a spectrogram of any size [b 1 f n].

    A linear layer makes a map of `rows` x `columns`, three times doubled by nearest neighbours and a convolution; it is
    then stretched to the size that is asked for, and a last convolution draws the spectrogram.

    Args:
        noise: width of the noise. width: channels of the last map; the first has four times as many.
        rows, columns: of the first map.

    A layout of our own, small enough for a CPU.
    """

    def __init__(self, noise: int = 64, width: int = 16, rows: int = 4, columns: int = 6) -> None:
        super().__init__()
        self.noise = noise
        self.enter = nn.Sequential(
            nn.Linear(noise, 4 * width * rows * columns, bias=False), nn.Unflatten(1, (4 * width, rows, columns))
        )
        self.doublings = nn.Sequential(
            nn.BatchNorm2d(4 * width),
            nn.ReLU(inplace=True),
            *doubling(4 * width, 4 * width),
            *doubling(4 * width, 2 * width),
            *doubling(2 * width, width),
        )
        self.leave = nn.Conv2d(width, 1, 5, padding=2)

    def forward(self, noise: Float[Tensor, "b d"], bands: int, frames: int) -> Spec:
        x = self.doublings(self.enter(noise))
        return self.leave(F.interpolate(x, (bands, frames), mode="bilinear"))


def doubling(inputs: int, outputs: int) -> list[nn.Module]:
    """Twice as many rows and columns, convolution, batch norm, ReLU."""
    return [
        nn.Upsample(scale_factor=2),
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]


class SelfSupervisedGan(Objective):
    """Hinge losses of discriminator and generator, and a flip that both want named rightly.

    ``L_D = mean [1 - D(x)]+ + mean [1 + D(G(e))]+ + beta H(r, Q(flip_r x))``
    ``L_G = -mean D(G(e)) + alpha H(r, Q(flip_r G(e)))``

    x real and G(e) generated spectrograms, e normal noise, D and Q two linear heads on one encoder, H the
    cross-entropy, r one of four flips (`audiorep.pretext.Flips`) drawn for each sample. The discriminator (group
    "main") learns flips on real sounds only, the generator (group "generator", updated second) makes sounds whose flip
    can be told: on this the two are no adversaries. All four kinds pass the encoder as one batch, so that batch norm
    sees alike what it has to tell apart.

    Args:
        encoder: the encoder to train.
        generator: of `noise` [b d] and a size; `generator.noise` is d.
        alpha, beta: weights of the flips for the generator and for the discriminator.
        view: the kind of view that is real.

    Source: Chen et al. 2019 (SS-GAN), arXiv:1811.11212, section 3, with rotations; alpha = .2, beta = 1 and the one batch
    as in the authors' code (google/compare_gan). Their spectral norm and gradient penalty are left out: the encoder is
    to be used alone. Hinge loss: Miyato et al. 2018, arXiv:1802.05957.
    """

    def __init__(
        self, encoder: Encoder, generator: Generator, alpha: float = 0.2, beta: float = 1.0, view: str = "global"
    ) -> None:
        super().__init__(encoder)
        self.generator, self.flips = generator, Flips()
        self.judge, self.name = nn.Linear(encoder.dim, 1), nn.Linear(encoder.dim, self.flips.classes)
        self.alpha, self.beta, self.view = alpha, beta, view

    def prepare(self, setting: Setting) -> None:
        setting.wants_views(self.view, 1)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        discriminator = [self.encoder, self.judge, self.name]
        return {
            "main": [p for part in discriminator for p in part.parameters() if p.requires_grad],
            "generator": list(self.generator.parameters()),
        }

    def forward(self, views: Views, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        real = views[self.view][0]
        judged, named, target = self.say([real, self.generate(real, rng)], rng)
        return {
            "real": F.relu(1.0 - judged[0]).mean(),
            "fake": F.relu(1.0 + judged[1]).mean(),
            "flips": self.beta * F.cross_entropy(named[0], target[0]),
            "generator/fool": -judged[1].mean(),
            "generator/flips": self.alpha * F.cross_entropy(named[1], target[1]),
        }

    def generate(self, like: Spec, rng: torch.Generator) -> Spec:
        """As many spectrograms as there are in `like`, of their size."""
        noise = randn(len(like), self.generator.noise, rng=rng, device=like.device)
        return self.generator(noise, *like.shape[2:]).to(like.dtype)

    def say(self, specs: list[Spec], rng: torch.Generator) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Of each spec: how real it looks upright [b], what flip was done to it [b c], and the right answer [b]."""
        params = [self.flips.sample(spec, rng) for spec in specs]
        flipped = [self.flips.apply_to(spec, **drawn)[0] for spec, drawn in zip(specs, params, strict=True)]
        pooled = self.encoder(torch.cat([*specs, *flipped])).pooled.chunk(2 * len(specs))
        judged = [self.judge(z).float().flatten() for z in pooled[: len(specs)]]
        named = [self.name(z).float() for z in pooled[len(specs) :]]
        return judged, named, [drawn["target"] for drawn in params]

    def measure(self, held_out: HeldOut, rng: torch.Generator) -> dict[str, float]:
        """Returns {"accuracy", "chance"} of naming flips of held-out recordings, and {"real", "fake"}: the parts of them
        and of as many generated ones that the discriminator takes for real."""
        right, real, fake = [], [], []
        for views, _ in held_out:
            seen = views[self.view][0]
            judged, named, target = self.say([seen, self.generate(seen, rng)], rng)
            right.append(named[0].argmax(1) == target[0])
            real.append(judged[0] > 0)
            fake.append(judged[1] > 0)
        if not right:
            return {}
        shares = {"accuracy": right, "real": real, "fake": fake}
        return {name: float(torch.cat(found).float().mean()) for name, found in shares.items()} | {"chance": 0.25}
