"""The parts of consistency training: how a target is sharpened, which samples count, how far a prediction is from it,
and how fast all this gains weight. All on answers [b q k], see `audiorep.losses.answers`."""

import math
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from audiorep.errors import AudiorepError
from audiorep.losses.answers import Answers, LogAnswers

PER_QUESTION = Float[Tensor, "b q"]

FIRST = 0.01  # the part of training that counts as done before the first step, so that this has a gradient too

# ------------------------------------------------------------------ sharpening


class Power(nn.Module):
    """``p_k^(1/T) / sum_j p_j^(1/T)``: below T = 1 sharper, above softer, at 1 as it is.

    ``learned=True``: T is trained with the rest, from `temperature` on, within [lowest, highest].

    Source: Berthelot et al. 2019 (MixMatch), arXiv:1905.02249, eq. 7.
    """

    def __init__(
        self, temperature: float = 0.5, learned: bool = False, lowest: float = 0.1, highest: float = 2.0
    ) -> None:
        super().__init__()
        if not temperature > 0.0 or (learned and not 0.0 < lowest < temperature < highest):
            raise AudiorepError(
                f"objective.sharpen.temperature={temperature} must be above 0"
                + (f", and between lowest={lowest:g}, above 0, and highest={highest:g}" if learned else "")
            )
        self.temperature, self.lowest, self.highest = temperature, lowest, highest
        part = (temperature - lowest) / (highest - lowest) if learned else 0.5
        self.raw = nn.Parameter(torch.tensor(math.log(part / (1.0 - part)))) if learned else None

    def forward(self, log_p: LogAnswers) -> Answers:
        if self.raw is None:
            return (log_p / self.temperature).softmax(2)
        return (log_p / (self.lowest + (self.highest - self.lowest) * self.raw.sigmoid())).softmax(2)


class Hardest(nn.Module):
    """1 for the likeliest answer, 0 for all others: a pseudo-label. Source: Lee 2013, ICML workshop on challenges in
    representation learning."""

    def forward(self, log_p: LogAnswers) -> Answers:
        return F.one_hot(log_p.argmax(2), log_p.shape[2]).to(log_p.dtype)


# ----------------------------------------------------------------------- masks


class Mask(nn.Module):
    """Which questions have a target that can be trusted."""

    def prepare(self, slots: int, questions: int, answers: int) -> None:
        """Make what depends on the corpus."""

    def forward(self, p: Answers, slot: Int[Tensor, " b"]) -> Bool[Tensor, "b q"]:
        """Of the target before it is sharpened; `slot` is where in the corpus each sample lies."""
        raise NotImplementedError


class Everything(Mask):
    """All of them."""

    def forward(self, p: Answers, slot: Int[Tensor, " b"]) -> Bool[Tensor, "b q"]:
        return torch.ones(p.shape[:2], dtype=torch.bool, device=p.device)


class Confident(Mask):
    """``max_k p_k >= threshold``. Source: Sohn et al. 2020 (FixMatch), arXiv:2001.07685, eq. 4."""

    def __init__(self, threshold: float = 0.95) -> None:
        super().__init__()
        self.threshold = is_part(threshold)

    def forward(self, p: Answers, slot: Int[Tensor, " b"]) -> Bool[Tensor, "b q"]:
        return p.amax(2) >= self.threshold


class Margin(Mask):
    """``p_(1) - p_(2) >= threshold``, the likeliest answer well before the second."""

    def __init__(self, threshold: float = 0.8) -> None:
        super().__init__()
        self.threshold = is_part(threshold)

    def forward(self, p: Answers, slot: Int[Tensor, " b"]) -> Bool[Tensor, "b q"]:
        first, second = p.topk(2, 2).values.unbind(2)
        return first - second >= self.threshold


class LowEntropy(Mask):
    """``1 - H(p) / log k >= threshold``."""

    def __init__(self, threshold: float = 0.8) -> None:
        super().__init__()
        self.threshold = is_part(threshold)

    def forward(self, p: Answers, slot: Int[Tensor, " b"]) -> Bool[Tensor, "b q"]:
        entropy = torch.special.entr(p).sum(2)
        return 1.0 - entropy / math.log(p.shape[2]) >= self.threshold


class Flexible(Mask):
    """`Confident` with a threshold a class that is lower for classes that are learned more slowly.

    ``threshold_k = beta_k / (2 - beta_k) threshold``, with ``beta_k = sigma_k / max(max_j sigma_j, n - sum_j sigma_j)``
    and sigma_k those of the corpus's n windows whose latest prediction above `threshold` was k; those not yet seen are
    the warm-up term.

    Source: Zhang et al. 2021 (FlexMatch), arXiv:2110.08263, eq. 5-11.
    """

    def __init__(self, threshold: float = 0.95) -> None:
        super().__init__()
        self.threshold = is_part(threshold)
        self.register_buffer("latest", torch.empty(0, 0, dtype=torch.int64))
        self.latest: Tensor

    def prepare(self, slots: int, questions: int, answers: int) -> None:
        self.latest = torch.full((slots, questions), answers)  # answers: none yet

    @torch.no_grad()
    def forward(self, p: Answers, slot: Int[Tensor, " b"]) -> Bool[Tensor, "b q"]:
        best, answer = p.max(2)
        counts = F.one_hot(self.latest, p.shape[2] + 1).sum(0).to(p.dtype)  # the last column: none yet
        learned = counts[:, :-1] / counts.amax(1, keepdim=True).clamp_min(1.0)
        lowered = self.threshold * learned / (2.0 - learned)
        wanted = lowered[None].expand(len(p), -1, -1).gather(2, answer[:, :, None])[:, :, 0]
        self.latest[slot] = torch.where(best >= self.threshold, answer, self.latest[slot])
        return best >= wanted


def is_part(threshold: float) -> float:
    """The threshold, if it lies between 0 and 1."""
    if not 0.0 <= threshold <= 1.0:
        raise AudiorepError(f"objective.mask.threshold={threshold} must lie between 0 and 1")
    return threshold


# -------------------------------------------------------------------- distances


class SquaredError(nn.Module):
    """``mean_k (p_k - t_k)^2``, the Brier score. Source: Laine and Aila 2017, arXiv:1610.02242, algorithm 1."""

    def forward(self, log_p: LogAnswers, target: Answers) -> PER_QUESTION:
        return (log_p.exp() - target).square().mean(2)


class SoftCrossEntropy(nn.Module):
    """``-sum_k t_k log p_k``."""

    def forward(self, log_p: LogAnswers, target: Answers) -> PER_QUESTION:
        return -(target * log_p).sum(2)


class Divergence(nn.Module):
    """``T^2 sum_k t_k (log t_k - log p_k)`` with target and prediction at temperature T, ``p_k^(1/T)`` normalised.

    T^2 keeps the size of the gradient. Source: Hinton et al. 2015, arXiv:1503.02531, section 2.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        if temperature <= 0.0:
            raise AudiorepError(f"objective.distance.temperature={temperature} must be above 0")
        self.temperature = temperature

    def forward(self, log_p: LogAnswers, target: Answers) -> PER_QUESTION:
        soft = (log_p / self.temperature).log_softmax(2)
        wanted = (target.clamp_min(1e-30).log() / self.temperature).softmax(2)
        return self.temperature**2 * (torch.special.xlogy(wanted, wanted) - wanted * soft).sum(2)


@runtime_checkable
class Distance(Protocol):
    """How far a prediction is from its target, question by question."""

    def __call__(self, log_p: LogAnswers, target: Answers) -> PER_QUESTION: ...


# ----------------------------------------------------------------------- weight


class Ramp:
    """``alpha = weight`` times a factor that rises from 0 to 1 over the first `length` of training: ``exp(-5 (1 - x)^2)``
    with x the part of the rise that is done, or x itself if `linear`; `length` 0: at once.

    Source: Laine and Aila 2017, arXiv:1610.02242, section 3.1; linear as in MixMatch, arXiv:1905.02249.
    """

    def __init__(self, weight: float = 1.0, length: float = 0.4, linear: bool = False) -> None:
        if not 0.0 <= length <= 1.0 or weight < 0.0:
            raise AudiorepError(
                f"objective.alpha: length={length} is a part of training, in [0, 1]; weight={weight} must not be negative"
            )
        self.weight, self.length, self.linear = weight, length, linear

    def __call__(self, progress: float) -> float:
        x = 1.0 if progress >= self.length else min(1.0, max(progress, FIRST) / self.length)
        return self.weight * (x if self.linear else math.exp(-5.0 * (1.0 - x) ** 2))
