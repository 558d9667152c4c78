"""Probes of frozen tokens: what a mean over tokens drowns, an attentive or a prototypical probe still finds.

Both are trained by AdamW on standardised tokens, and draw from a generator of their own.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from audiorep.evaluate.tokens import Tokens
from audiorep.optim import decay_groups, warmup_cosine
from audiorep.types import generator


class TokenProbe(nn.Module):
    """Tokens [b l d], of which some are there [b l], to logits [b c].

    width: numbers that the probe computes for every token.
    """

    width: int

    def forward(self, tokens: Float[Tensor, "b l d"], there: Bool[Tensor, "b l"]) -> Float[Tensor, "b c"]:
        raise NotImplementedError

    def penalty(self) -> Float[Tensor, ""]:
        """What is added to the loss."""
        return torch.zeros(())


Make = Callable[[int, int, torch.Generator], TokenProbe]
"""(d, c, generator of the initial weights) to a probe."""


class Attentive(TokenProbe):
    """Learned queries attend over the tokens, and what they gather is classified linearly.

    ``a_h = softmax_l(q_h . K_h x_l / sqrt(d / heads))``, ``logits = W [V_h sum_l a_hl x_l]_h + bias``. This is
    multi-head attention whose queries do not depend on the tokens, so that K and V need not touch every token:
    ``K_h^T q_h`` is one vector a head, and V follows the sum. W stands for the output projection too. At the start the
    weights are almost alike and V is the identity: a linear probe of the mean.

    Args:
        dim, classes, rng: d, c, and the generator of the initial weights.
        heads: at most; as many of them as divide d. queries: of every head.

    Source: Chen et al. 2023 (context autoencoder), arXiv:2202.03026: one query, cross-attention, a linear classifier;
    what follows from constant queries: Psomas et al. 2025, arXiv:2506.10178.
    """

    def __init__(self, dim: int, classes: int, rng: torch.Generator, heads: int = 8, queries: int = 1) -> None:
        super().__init__()
        self.heads = math.gcd(dim, heads)
        self.width = queries * self.heads
        self.query = nn.Parameter(0.02 * torch.randn(queries, self.heads, dim // self.heads, generator=rng))
        self.key = nn.Parameter(torch.randn(dim, dim, generator=rng) / math.sqrt(dim))
        self.value = nn.Parameter(torch.eye(dim))
        self.weight = nn.Parameter(torch.zeros(classes, queries * dim))
        self.bias = nn.Parameter(torch.zeros(classes))

    def attention(self, tokens: Float[Tensor, "b l d"], there: Bool[Tensor, "b l"]) -> Float[Tensor, "b m l"]:
        """The weight of every token, for each of m = queries x heads."""
        dim = self.query.shape[2]
        asked = torch.einsum("qhi,hid->qhd", self.query, self.key.unflatten(0, (self.heads, dim))).flatten(0, 1)
        score = asked @ tokens.transpose(1, 2) / math.sqrt(dim)
        return score.masked_fill(~there[:, None], -torch.inf).softmax(2)

    def forward(self, tokens: Float[Tensor, "b l d"], there: Bool[Tensor, "b l"]) -> Float[Tensor, "b c"]:
        gathered = (self.attention(tokens, there) @ tokens).unflatten(1, (-1, self.heads))
        values = torch.einsum("bqhd,hid->bqhi", gathered, self.value.unflatten(0, (self.heads, -1)))
        return values.flatten(1) @ self.weight.T + self.bias


class Prototypical(TokenProbe):
    """Every class has prototypes, and counts how near a token comes to each of them.

    ``logit_c = sum_j max(w_cj, 0) max_l cos(x_l, p_cj) + bias_c``: what speaks for a class is there; nothing speaks
    against it. `spread` keeps the prototypes of a class apart. At the start, a cosine of 1/2 tells neither way.

    Args:
        dim, classes, rng: d, c, and the generator of the initial weights.
        each: prototypes j of a class.

    Source: Rauch et al. 2025, arXiv:2504.12880 (prototypical probing), after Heinrich et al. 2025 (AudioProtoPNet),
    arXiv:2404.10420. They train several labels a clip by an asymmetric loss; here the loss is that of all probes.
    """

    def __init__(self, dim: int, classes: int, rng: torch.Generator, each: int = 20) -> None:
        super().__init__()
        self.width = classes * each
        self.prototypes = nn.Parameter(torch.randn(classes, each, dim, generator=rng) / math.sqrt(dim))
        self.weight = nn.Parameter(torch.ones(classes, each))
        self.bias = nn.Parameter(torch.full((classes,), -0.5 * each))

    def similarity(self, tokens: Float[Tensor, "b l d"], there: Bool[Tensor, "b l"]) -> Float[Tensor, "b c k"]:
        """``max_l cos(x_l, p_cj)`` for the k prototypes of each class."""
        cosine = F.normalize(tokens, dim=2) @ F.normalize(self.prototypes, dim=2).flatten(0, 1).T
        return cosine.masked_fill(~there[:, :, None], -torch.inf).amax(1).unflatten(1, self.weight.shape)

    def forward(self, tokens: Float[Tensor, "b l d"], there: Bool[Tensor, "b l"]) -> Float[Tensor, "b c"]:
        return (self.similarity(tokens, there) * self.weight.clamp_min(0.0)).sum(2) + self.bias

    def penalty(self) -> Float[Tensor, ""]:
        return spread(self.prototypes)


def spread(prototypes: Float[Tensor, "c k d"]) -> Float[Tensor, ""]:
    """How alike the prototypes of a class are: the mean over classes of ``||P P^T - I||_F / k^2``, P their unit vectors."""
    unit = F.normalize(prototypes, dim=2)
    alike = unit @ unit.transpose(1, 2) - torch.eye(prototypes.shape[1])
    return alike.square().sum((1, 2)).clamp_min(1e-12).sqrt().mean() / prototypes.shape[1] ** 2


@dataclass(frozen=True)
class Fitting:
    """How a probe is trained: `steps` of AdamW, the rate rising over a tenth of them and then falling as a cosine.

    batch_size: rows a step; fewer where these would take more than `room` numbers at once.
    dropout: part of the dimensions that a step leaves out of a row, the same in all of its tokens.
    """

    steps: int = 300
    batch_size: int = 128
    lr: float = 3e-3
    weight_decay: float = 0.05
    dropout: float = 0.3
    room: int = 2**25


def probe_scores(
    make: Make,
    tokens: Tokens,
    train: Int[np.ndarray, " n"],
    truth: np.ndarray,
    test: Int[np.ndarray, " m"],
    classes: int,
    fitting: Fitting,
    seed: int = 0,
) -> Float[np.ndarray, "m c"]:
    """Class probabilities of the test rows by a probe that is trained on the training rows.

    Args:
        make: the probe.
        train, test: rows of `tokens`, which are standardised by those of the training rows.
        truth: [n] class numbers, or [n, c] multi-hot with NaN.
        seed: of the initial weights and of the order of rows.
    """
    rng = generator(seed, 11)
    probe = make(tokens.dim, classes, rng)
    mean, deviation = standardiser(tokens, train)
    target = torch.from_numpy(np.asarray(truth, np.int64 if truth.ndim == 1 else np.float32))
    size = max(8, min(fitting.batch_size, fitting.room // (tokens.longest * (tokens.dim + probe.width))))

    def logits(rows: Int[np.ndarray, " b"], dropout: float = 0.0) -> Float[Tensor, "b c"]:
        values, there = tokens.batch(rows)
        kept = (torch.rand(len(rows), 1, tokens.dim, generator=rng) >= dropout) / (1.0 - dropout)
        return probe((values - mean) / deviation * kept, there)

    optimizer = torch.optim.AdamW(decay_groups(probe.parameters(), fitting.weight_decay), lr=fitting.lr)
    schedule = warmup_cosine(optimizer, fitting.steps, 0.1)
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(fitting.steps):
        if not len(order):
            order = torch.randperm(len(train), generator=rng)
        chosen, order = order[:size], order[size:]
        loss = probe_loss(logits(train[chosen.numpy()], fitting.dropout), target[chosen]) + probe.penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        said = torch.cat([logits(test[first : first + size]) for first in range(0, len(test), size)])
    return (said.softmax(1) if target.ndim == 1 else said.sigmoid()).double().numpy()


def probe_loss(logits: Float[Tensor, "b c"], truth: Tensor) -> Float[Tensor, ""]:
    """Cross-entropy with class numbers [b]; with [b c] the binary one over the entries that are not NaN."""
    if truth.ndim == 1:
        return F.cross_entropy(logits, truth)
    known = ~truth.isnan()
    each = F.binary_cross_entropy_with_logits(logits, truth.nan_to_num(), reduction="none")
    return (each * known).sum() / known.sum().clamp_min(1)


def standardiser(
    tokens: Tokens, rows: Int[np.ndarray, " n"], chunk: int = 256
) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
    """Mean and standard deviation over the tokens of some rows; 1 where a dimension does not vary."""
    count, total, square = 0, torch.zeros(tokens.dim).double(), torch.zeros(tokens.dim).double()
    for first in range(0, len(rows), chunk):
        values, there = tokens.batch(rows[first : first + chunk])
        here = values[there].double()
        count, total, square = count + len(here), total + here.sum(0), square + here.square().sum(0)
    mean = total / max(1, count)
    deviation = (square / max(1, count) - mean.square()).clamp_min(0.0).sqrt()
    return mean.float(), torch.where(deviation > 1e-6, deviation, 1.0).float()
