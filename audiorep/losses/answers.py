"""Classification as questions with answers, and what labels cost.

A window with one label is one question with c answers. A window with several labels is c questions with two answers
each, absent and present. All that follows works on [b q k], questions q and answers k, and need not know which it is.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from audiorep.errors import AudiorepError
from audiorep.losses.precision import wide

LogAnswers = Float[Tensor, "b q k"]
"""Logarithms of probabilities that sum to 1 over the answers."""

Answers = Float[Tensor, "b q k"]
"""Probabilities that sum to 1 over the answers."""

Counts = Float[Tensor, "q k"]
"""How many rows of the training side give each answer."""


def log_answers(logits: Float[Tensor, "b c"], several: bool) -> LogAnswers:
    """``log softmax(logits)`` as one question; with `several` labels ``log sigmoid(-+logits)`` as c questions."""
    logits = wide(logits)
    return torch.stack([F.logsigmoid(-logits), F.logsigmoid(logits)], 2) if several else logits.log_softmax(1)[:, None]


def truth_of(label: Tensor, classes: int) -> tuple[Answers, Bool[Tensor, "b q"]]:
    """Labels as certain answers, and which questions are answered: of [b] numbers with -1, or [b c] of 1, 0 and NaN."""
    if label.ndim == 1:
        return F.one_hot(label.clamp_min(0), classes).float()[:, None], (label >= 0)[:, None]
    present = label.nan_to_num()
    return torch.stack([1.0 - present, present], 2), ~label.isnan()


def inverse(counts: Counts) -> Counts:
    """``1 / n``: as much weight to a rare answer in all as to a common one."""
    return 1.0 / counts.clamp_min(1.0)


class Effective:
    """``(1 - beta) / (1 - beta^n)``: between no weights (beta = 0) and `inverse` (beta -> 1).

    Source: Cui et al. 2019, arXiv:1901.05555, eq. 2 (effective number of samples).
    """

    def __init__(self, beta: float = 0.99) -> None:
        if not 0.0 <= beta < 1.0:
            raise AudiorepError(f"objective.loss.weighting.beta={beta} must lie in [0, 1)")
        self.beta = beta

    def __call__(self, counts: Counts) -> Counts:
        return (1.0 - self.beta) / (1.0 - self.beta ** counts.clamp_min(1.0))


class LabelLoss(nn.Module):
    """``sum_k w_k t_k (1 - p_k)^focus (-log p_k)``, with ``log p = log softmax(log p + adjust log prior)``, averaged over
    the answered questions with their weights, ``sum_k w_k t_k``.

    With all at their defaults, cross-entropy. `fit` sets weights and priors from the training side.

    Args:
        weighting: from counts to weights: `inverse`, `Effective`; None: all alike. Scaled to a mean of 1 over answers.
        focus: gamma of the focal loss; 0: every window counts alike.
        adjust: tau of logit adjustment; 0: none.
        smoothing: part of the truth that is spread over all answers.

    Raises:
        AudiorepError: smoothing that is not a part, or a negative focus.

    Source: Lin et al. 2017 (focal loss), arXiv:1708.02002, eq. 4-5; Menon et al. 2021 (logit adjustment),
    arXiv:2007.07314, eq. 10; Szegedy et al. 2016 (label smoothing), arXiv:1512.00567, section 7.
    """

    def __init__(
        self,
        weighting: Callable[[Counts], Counts] | None = None,
        focus: float = 0.0,
        adjust: float = 0.0,
        smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0.0 <= smoothing < 1.0 or focus < 0.0:
            raise AudiorepError(
                f"objective.loss: smoothing={smoothing} must lie in [0, 1), focus={focus} must not be negative"
            )
        self.weighting, self.focus, self.adjust, self.smoothing = weighting, focus, adjust, smoothing
        self.register_buffer("weight", torch.ones(1, 1))
        self.register_buffer("log_prior", torch.zeros(1, 1))
        self.weight: Tensor
        self.log_prior: Tensor

    def fit(self, counts: Counts) -> None:
        """Weights and priors of the training side; an answer that never occurs counts as if it had occurred once."""
        weight = torch.ones_like(counts) if self.weighting is None else self.weighting(counts)
        self.weight = weight / weight.mean(1, keepdim=True)
        counts = counts.clamp_min(1.0)
        self.log_prior = (counts / counts.sum(1, keepdim=True)).log()

    def each(self, log_p: LogAnswers, target: Answers) -> Float[Tensor, "b q"]:
        """The loss of every question by itself, weighted."""
        if self.adjust:
            log_p = (log_p + self.adjust * self.log_prior).log_softmax(2)
        target = torch.lerp(target, torch.full_like(target, 1.0 / target.shape[2]), self.smoothing)
        # above 0, where a root has no slope
        focus = (-torch.expm1(log_p)).clamp_min(1e-12) ** self.focus if self.focus else 1.0
        return -(self.weight * target * focus * log_p).sum(2)

    def forward(self, log_p: LogAnswers, target: Answers, known: Bool[Tensor, "b q"]) -> Tensor:
        """The mean over what is `known`; 0 if nothing is."""
        weight = (self.weight * target).sum(2)
        zero = torch.zeros((), device=log_p.device, dtype=log_p.dtype)
        losses = torch.where(known, self.each(log_p, target), zero)
        return losses.sum() / torch.where(known, weight, zero).sum().clamp_min(1e-12)
