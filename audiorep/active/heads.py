"""Classifiers of frozen embeddings that learn in a second and answer once or several times: one model, an
ensemble, passes of dropout."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from audiorep.errors import AudiorepError

Answers = Float[Tensor, "l c"]
"""1 what is there, 0 what is not, NaN unknown; without `several` one 1 a row."""

Predict = Callable[[Float[Tensor, "n d"]], Float[Tensor, "m n c"]]
"""Log-probabilities by m passes or members; with `several` of each class by itself. -inf of classes that had no
answer yet."""


Rows = Int[np.ndarray, " k"]
Ask = Callable[[Rows], Float[Tensor, "m k c"]]
"""What is said of rows of a corpus."""

Learn = Callable[[Rows, Answers, torch.Generator, str], Ask]
"""(answered rows, their answers, draws, a name for files) to a model that can be asked."""


class Head:
    """Learns from embeddings and answers.

    passes: whether its answers differ, so that selectors which compare them have something to compare.
    """

    passes: bool

    def __call__(self, x: Float[Tensor, "l d"], answers: Answers, several: bool, rng: torch.Generator) -> Predict:
        raise NotImplementedError

    def bind(self, x: Float[Tensor, "n d"], several: bool, setting: Any = None) -> Learn:
        """Learning from embeddings of all rows of a corpus."""

        def learn(rows: Rows, answers: Answers, rng: torch.Generator, name: str) -> Ask:
            predict = self(x[torch.from_numpy(rows)], answers, several, rng)
            return lambda wanted: predict(x[torch.from_numpy(wanted)])

        return learn


@dataclass(frozen=True)
class Layers:
    """m linear layers: weight [m d c], bias [m c]."""

    weight: Float[Tensor, "m d c"]
    bias: Float[Tensor, "m c"]

    def logits(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "m n c"]:
        members, width, classes = self.weight.shape
        flat = self.weight.permute(1, 0, 2).reshape(width, members * classes)
        return (x @ flat).view(len(x), members, classes).transpose(0, 1) + self.bias[:, None]


class Linear(Head):
    """Logistic regression, ``min sum_i w_i loss(x_i W + b, y_i) + |W|^2 / (2 C)``: one model, or several of weights w.

    Args:
        strength: C. As the linear probe's for standardised embeddings.
        members: 1: all w are 1. More: a Bayesian bootstrap, w from the exponential distribution with mean 1, so that no
            class is ever without a row.
        iterations: of L-BFGS, at most.

    Raises:
        AudiorepError: numbers that are not positive.

    Source: Rubin 1981, doi:10.1214/aos/1176345338 (the bootstrap); Lakshminarayanan et al. 2017, arXiv:1612.01474
    (ensembles to tell what a model does not know).
    """

    def __init__(self, strength: float = 0.1, members: int = 1, iterations: int = 100) -> None:
        if strength <= 0.0 or members < 1 or iterations < 1:
            raise AudiorepError(
                f"head: strength={strength}, members={members}, iterations={iterations} must be positive"
            )
        self.strength, self.members, self.iterations = strength, members, iterations
        self.passes = members > 1

    def __call__(self, x: Float[Tensor, "l d"], answers: Answers, several: bool, rng: torch.Generator) -> Predict:
        taught = taught_classes(answers, several)
        shape = (self.members, len(x))
        weight = torch.ones(shape, device=x.device)
        if self.passes:
            weight.exponential_(generator=rng)
        layers = fit(x, answers[:, taught], several, weight, self.strength, self.iterations)
        return lambda y: filled(log_probabilities(layers.logits(y), several), taught, answers.shape[1])


class Dropout(Head):
    """A hidden layer with dropout before and after it, that stays on: every pass drops other numbers, the same for all clips.

    Args:
        hidden: numbers in the hidden layer.
        rate: part that is dropped.
        passes_made: how often a clip is answered.
        steps: of AdamW, each with `batch` answers.
        lr, weight_decay: of AdamW.

    Source: Gal and Ghahramani 2016, arXiv:1506.02142; one mask for all clips of a pass, as joint scores need: Kirsch et al.
    2019, arXiv:1906.08158, section 3.
    """

    passes = True

    def __init__(
        self,
        hidden: int = 256,
        rate: float = 0.5,
        passes_made: int = 20,
        steps: int = 300,
        batch: int = 256,
        lr: float = 1e-3,
        weight_decay: float = 1e-2,
    ) -> None:
        if not 0.0 < rate < 1.0 or min(hidden, passes_made, steps, batch) < 1:
            raise AudiorepError(f"head.rate={rate} must lie between 0 and 1, and all counts be positive")
        self.hidden, self.rate, self.passes_made, self.steps = hidden, rate, passes_made, steps
        self.batch, self.lr, self.weight_decay = batch, lr, weight_decay

    def __call__(self, x: Float[Tensor, "l d"], answers: Answers, several: bool, rng: torch.Generator) -> Predict:
        taught = taught_classes(answers, several)
        known, width = answers[:, taught], x.shape[1]
        shapes = [(width, self.hidden), (self.hidden, len(taught))]
        parameters = [nn.Parameter(normal(shape, rng, x) * math.sqrt(2.0 / shape[0])) for shape in shapes]
        parameters += [nn.Parameter(x.new_zeros(shape[1])) for shape in shapes]

        def logits(y: Tensor, first: Tensor, second: Tensor) -> Tensor:
            inner, outer, inner_bias, outer_bias = parameters
            return (F.relu((y * first) @ inner + inner_bias) * second) @ outer + outer_bias

        def masks(rows: int) -> tuple[Tensor, Tensor]:
            keep = 1.0 - self.rate
            first, second = (
                torch.bernoulli(x.new_full((rows, n), keep), generator=rng) / keep for n in (width, self.hidden)
            )
            return first, second

        with torch.enable_grad():
            optimizer = torch.optim.AdamW(parameters, self.lr, weight_decay=self.weight_decay)
            for _ in range(self.steps):
                rows = torch.randint(len(x), (min(self.batch, len(x)),), generator=rng, device=x.device)
                loss = losses(logits(x[rows], *masks(len(rows)))[None], known[rows], several).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        kept = [masks(1) for _ in range(self.passes_made)]

        @torch.no_grad()
        def predict(y: Float[Tensor, "n d"]) -> Float[Tensor, "m n c"]:
            found = torch.stack([logits(y, *mask) for mask in kept])
            return filled(log_probabilities(found, several), taught, answers.shape[1])

        return predict


# ------------------------------------------------------------------ the parts


def taught_classes(answers: Answers, several: bool) -> Tensor:
    """The classes that something is known of: [t] numbers.

    Raises:
        AudiorepError: nothing was answered yet.
    """
    seen = (answers == 1).any(0)
    if several:
        seen = seen & (answers == 0).any(0)
    if not len(answers) or not bool(seen.any()):
        raise AudiorepError("no class has an answer to learn from yet: answer some clips first")
    return seen.nonzero()[:, 0]


def log_probabilities(logits: Float[Tensor, "m n c"], several: bool) -> Float[Tensor, "m n c"]:
    """Log softmax, or with `several` log sigmoid."""
    return F.logsigmoid(logits) if several else logits.log_softmax(-1)


def filled(log_p: Float[Tensor, "m n t"], taught: Tensor, classes: int) -> Float[Tensor, "m n c"]:
    """Log-probabilities of all classes, -inf where nothing was taught."""
    if len(taught) == classes:
        return log_p
    out = log_p.new_full((*log_p.shape[:2], classes), -torch.inf)
    out[..., taught] = log_p
    return out


def losses(logits: Float[Tensor, "m l c"], answers: Answers, several: bool) -> Float[Tensor, "m l"]:
    """Cross-entropy of every row, or the sum of binary ones over the classes that are known."""
    if not several:
        return -(logits.log_softmax(-1) * answers).sum(-1)
    known = ~answers.isnan()
    target = answers.nan_to_num(0.0).expand_as(logits)
    return (F.binary_cross_entropy_with_logits(logits, target, reduction="none") * known).sum(-1)


def fit(
    x: Float[Tensor, "l d"],
    answers: Answers,
    several: bool,
    weight: Float[Tensor, "m l"],
    strength: float,
    iterations: int,
) -> Layers:
    """The minimum of `Linear` for each row of `weight`, all at once, by L-BFGS; biases are free.

    The members do not touch each other: the sum of their losses is least where each is.
    """
    members, classes = len(weight), answers.shape[1]
    w = nn.Parameter(x.new_zeros(members, x.shape[1], classes))
    b = nn.Parameter(x.new_zeros(members, classes))
    optimizer = torch.optim.LBFGS(
        [w, b], max_iter=iterations, tolerance_grad=1e-4, tolerance_change=1e-7, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = (losses(Layers(w, b).logits(x), answers, several) * weight).sum() + w.square().sum() / (2.0 * strength)
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    return Layers(w.detach(), b.detach())


def normal(shape: tuple[int, ...], rng: torch.Generator, like: Tensor) -> Tensor:
    """Numbers from the normal distribution."""
    return torch.randn(shape, generator=rng, device=like.device, dtype=like.dtype)


def one_hot(label: Tensor, classes: int) -> Answers:
    """Class numbers [l] as answers."""
    return F.one_hot(label, classes).float()
