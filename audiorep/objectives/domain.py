"""Domain-adversarial training: an embedding from which a second network cannot tell the site or the recorder."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from audiorep.classifier import Classifier
from audiorep.distributed import gather
from audiorep.encoders.base import Encoder
from audiorep.errors import AudiorepError
from audiorep.losses.precision import in_full, wide
from audiorep.objectives.base import Embed, HeldOut, Objective, Setting
from audiorep.pooling import Pooling
from audiorep.types import Batch, Features, Spec, Views

BETAS, EPS = (0.9, 0.999), 1e-8
FIRST = 0.01  # the part of training that counts as done before the first step, so that this has a gradient too


class Reverse(torch.autograd.Function):
    """``x`` forwards, ``-strength gradient`` backwards. Source: Ganin and Lempitsky 2015, arXiv:1409.7495."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: Tensor) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * grads[0], None


class DomainHead(nn.Module):
    """Scores of the domains from embeddings of the joined batch, standardised over it: [b d] -> [b c].

    `layers` linear layers with ReLU between them.
    """

    def __init__(self, inputs: int, outputs: int, hidden: int = 256, layers: int = 3) -> None:
        super().__init__()
        widths = [inputs] + [hidden] * (layers - 1) + [outputs]
        parts: list[nn.Module] = []
        for width, following in zip(widths[:-1], widths[1:], strict=True):
            parts += [nn.Linear(width, following), nn.ReLU()]
        self.network = nn.Sequential(*parts[:-1])

    def forward(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b c"]:
        return self.network(F.batch_norm(x, None, None, training=True))


class Opponent(nn.Module):
    """A head that learns on the side, by Adam of its own: the run's optimiser leaves its parameters alone.

    Adam's moments are buffers, so that a resumed run goes on as if it had not stopped.

    Source: Kingma and Ba 2015, arXiv:1412.6980, algorithm 1.
    """

    def __init__(self, head: nn.Module, lr: float) -> None:
        super().__init__()
        self.head, self.lr = head.requires_grad_(False), lr
        self.sizes = [parameter.numel() for parameter in head.parameters()]
        self.register_buffer("moments", torch.zeros(2, sum(self.sizes)))
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b c"]:
        return self.head(x)

    def learn(self, x: Float[Tensor, "b d"], domain: Int[Tensor, " b"]) -> None:
        """One step down the balanced cross-entropy."""
        own = {name: p.detach().requires_grad_() for name, p in self.head.named_parameters()}
        with torch.enable_grad():
            loss = balanced_cross_entropy(functional_call(self.head, own, (x.detach(),)), domain)
            slope = torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(own.values()))])
        (mean, square), count = cast(Tensor, self.moments), cast(Tensor, self.count)
        mean.lerp_(slope, 1.0 - BETAS[0])
        square.lerp_(slope.square(), 1.0 - BETAS[1])
        count += 1.0
        step = mean / (1.0 - BETAS[0] ** count) / ((square / (1.0 - BETAS[1] ** count)).sqrt() + EPS)
        for parameter, part in zip(self.head.parameters(), step.split(self.sizes), strict=True):
            parameter.data.sub_(self.lr * part.view_as(parameter))


class DomainAdversarial(Objective):
    """``base - lambda CE(head(h), domain)`` for the encoder, ``+ CE`` for the head, h the embeddings that the base makes.

    CE is the mean over the domains of a batch of the mean over their windows, so that a site with many rows weighs no
    more than one with few; windows of unknown domain are left out. ``lambda = weight (2 / (1 + exp(-gamma p)) - 1)``
    rises with progress p. A head that takes one step where the encoder takes one lags behind: the encoder deceives it
    and keeps what another probe finds at once. So the head takes `steps` steps of Adam on each batch before it is asked.

    The term "domain" is the head's CE: log(domains) where it can tell nothing.

    Args:
        encoder: the encoder to train.
        base: any objective of one parameter group, built on the same encoder.
        head: built on the encoder's width and the number of domains.
        weight, gamma: of lambda. Larger weights cost what the base learns.
        steps, lr: of the head's own training on each batch.

    Raises:
        AudiorepError: fewer than two domains on the training side, a base of several parameter groups, or steps below 1.

    Source: Ganin and Lempitsky 2015, arXiv:1409.7495; Ganin et al. 2016, arXiv:1505.07818. Several steps of the head,
    balance and any base are ours.
    """

    def __init__(
        self,
        encoder: Encoder,
        base: Callable[[Encoder], Objective],
        head: Callable[..., nn.Module],
        weight: float = 1.0,
        gamma: float = 10.0,
        steps: int = 4,
        lr: float = 0.003,
    ) -> None:
        super().__init__(encoder)
        if steps < 1:
            raise AudiorepError(f"objective.steps={steps}: a head that takes no step tells nothing; at least 1")
        self.base, self.make_head = base(encoder), head
        self.weight, self.gamma, self.steps, self.lr = weight, gamma, steps, lr
        self.register_buffer("progress", torch.zeros(()))

    @property
    def uses_labels(self) -> bool:
        return self.base.uses_labels

    @property
    def classifier(self) -> Classifier | None:
        return self.base.classifier

    @property
    def beside(self) -> dict[str, Classifier]:
        return self.base.beside

    @property
    def pooling(self) -> Pooling:
        return self.base.pooling

    @property
    def facts(self) -> dict[str, str]:
        return self.base.facts

    def watched(self) -> dict[str, float]:
        return self.base.watched()

    def prepare(self, setting: Setting) -> None:
        setting.wants_domains()
        self.base.prepare(setting)
        if len(groups := self.base.parameter_groups()) > 1:
            raise AudiorepError(
                f"objective.base={type(self.base).__name__} trains {' and '.join(groups)} in turn and hears sounds that were "
                "made up, which no site has: choose a base that hears recordings alone, such as simclr"
            )
        device = cast(Tensor, self.progress).device
        head = self.make_head(inputs=self.encoder.dim, outputs=setting.domains)
        self.opponent = Opponent(head, self.lr).to(device)

    def forward(self, views: Views, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        with embeddings_of(self.encoder) as seen:
            terms = self.base(views, batch, rng)
        h = torch.cat(seen)
        domain = batch["domain"].repeat(len(h) // len(batch["domain"]))
        return terms | {"domain": self.adversary(gather(wide(h)), gather(domain))}

    @in_full
    def adversary(self, h: Float[Tensor, "m d"], domain: Int[Tensor, " m"]) -> Float[Tensor, ""]:
        """The head's cross-entropy, after its own steps; its gradient reaches the encoder reversed."""
        if self.training:
            for _ in range(self.steps):
                self.opponent.learn(h, domain)
        p = cast(Tensor, self.progress).clamp_min(FIRST)
        strength = self.weight * (2.0 / (1.0 + (-self.gamma * p).exp()) - 1.0)
        return balanced_cross_entropy(self.opponent(Reverse.apply(h, strength)), domain)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return self.base.parameter_groups()

    def embeddings(self, spec: Spec) -> dict[str, Float[Tensor, "b d"]]:
        return self.base.embeddings(spec)

    def distributions(self, spec: Spec) -> dict[str, Float[Tensor, "b k"]]:
        return self.base.distributions(spec)

    def after_step(self, progress: float) -> None:
        self.base.after_step(progress)
        cast(Tensor, self.progress).fill_(progress)

    def before_epoch(self, epoch: int, embed: Embed, rng: torch.Generator) -> None:
        self.base.before_epoch(epoch, embed, rng)

    def measure(self, held_out: HeldOut, rng: torch.Generator) -> dict[str, float]:
        return self.base.measure(held_out, rng)

    def partition(self) -> Int[Tensor, " m"] | None:
        return self.base.partition()


@contextmanager
def embeddings_of(encoder: Encoder) -> Iterator[list[Float[Tensor, "b d"]]]:
    """Listens to an encoder: the embeddings with gradient that it makes in the meantime, in order."""
    seen: list[Tensor] = []

    def listen(module: nn.Module, given: Any, found: Features) -> None:
        if found.pooled.requires_grad:
            seen.append(found.pooled)

    handle = encoder.register_forward_hook(listen)
    try:
        yield seen
    finally:
        handle.remove()


def balanced_cross_entropy(scores: Float[Tensor, "m c"], domain: Int[Tensor, " m"]) -> Float[Tensor, ""]:
    """``mean over domains d that occur of mean over the rows of d of -log softmax(scores)_d``; rows with -1 do not count."""
    loss = F.cross_entropy(scores, domain, ignore_index=-1, reduction="none")
    member = F.one_hot(domain.clamp_min(0), scores.shape[1]).to(loss.dtype) * (domain >= 0)[:, None]
    count = member.sum(0)
    return (loss @ member / count.clamp_min(1.0)).sum() / (count > 0).sum().clamp_min(1)
