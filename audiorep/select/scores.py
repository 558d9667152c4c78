"""How much an answer about each clip is wanted, by the probabilities of a model: [m n c] -> [n], high = ask.

All scores are at least 0, so that they can be divided by a cost. A clip with one label is one question with c answers; a
clip with several labels is c questions, present or not: the score of each question is taken, then `reduce` over them.
Scores of one model look at the mean ``p = 1/m sum_m p_m``, which for m = 1 is the model itself. H is in nats.
"""

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from audiorep.losses.precision import wide
from audiorep.select.pool import LogProbabilities

LogAnswers = Float[Tensor, "m n q k"]
"""Questions q and their answers k, as in `audiorep.losses.answers`."""

PerClip = Float[Tensor, " n"]
PerQuestion = Float[Tensor, "n q"]
Reduce = Callable[[PerQuestion], PerClip]
Score = Callable[..., PerClip]
"""(log_p, several) to how much each clip is wanted."""

LEAST = -80.0
"""The logarithm that stands for none at all: e^-80 = 2e-35 is still a float32, and adds nothing to an entropy."""

CELLS = {"cpu": 2**17}
"""Probabilities that are held at once: as many as fit into the cache of a core; elsewhere as `CELLS_ELSEWHERE`."""
CELLS_ELSEWHERE = 2**26


def mean(x: PerQuestion) -> PerClip:
    """Over all classes alike."""
    return x.mean(1)


def largest(x: PerQuestion) -> PerClip:
    """The class that is asked for most."""
    return x.amax(1)


def total(x: PerQuestion) -> PerClip:
    """The sum: nats that all classes together may give."""
    return x.sum(1)


def in_pieces(score: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The score of so many clips at once that what is held fits into the cache."""

    @wraps(score)
    def inner(log_p: LogProbabilities, several: bool = False, **options: Any) -> Tensor:
        members, _, classes = log_p.shape
        cells = CELLS.get(log_p.device.type, CELLS_ELSEWHERE)
        pieces = log_p.split(max(1, cells // max(1, members * classes)), 1)
        return torch.cat([score(piece, several, **options) for piece in pieces])

    return inner


def log_answers(log_p: LogProbabilities, several: bool = False) -> LogAnswers:
    """One question of c answers; with `several` c questions of two: ``log(1 - p)`` and ``log p``. None below -80."""
    log_p = wide(log_p).clamp(LEAST, 0.0)
    if not several:
        return log_p[:, :, None]
    # log(1 - e^x): each form is exact where the other is not. Maechler 2012, note on log1mexp
    absent = torch.where(log_p > -math.log(2.0), (-torch.expm1(log_p)).log(), torch.log1p(-log_p.exp()))
    return torch.stack([absent.clamp_min(LEAST), log_p]).movedim(0, 3)


def answers(log_p: LogProbabilities, several: bool = False) -> Float[Tensor, "n q k"]:
    """``1/m sum_m p_m``."""
    log_p = wide(log_p).clamp_max(0.0)
    present = exp(log_p).mean(0)
    return torch.stack([-torch.expm1(log_p).mean(0), present], 2) if several else present[:, None]


def exp(x: Tensor) -> Tensor:
    """``e^x`` as ``2^(x log2 e)``, which a CPU does several times as fast; off by ``|x| 2^-24`` of itself at most."""
    return (x * math.log2(math.e)).exp2_()


def entropy_of(p: Float[Tensor, "n q k"]) -> PerQuestion:
    """``-sum_k p_k log p_k`` in nats."""
    return -(p * p.clamp_min(math.exp(LEAST)).log()).sum(2)


def entropies(log_p: LogProbabilities, several: bool = False) -> tuple[PerQuestion, PerQuestion]:
    """``H(1/m sum_m p_m)``, of the mean, and ``1/m sum_m H(p_m)``, the mean of all."""
    log_a = log_answers(log_p, several)
    a = exp(log_a)
    of_mean = entropy_of(a.sum(0).div_(len(a)))
    return of_mean, a.mul_(log_a).sum(0).sum(2).div_(-len(a))


@in_pieces
def least_confidence(log_p: LogProbabilities, several: bool = False, reduce: Reduce = mean) -> PerClip:
    """``1 - max_k p_k``. Source: Lewis and Gale 1994, arXiv:cmp-lg/9407020; Settles 2009, TR 1648, section 3.1."""
    return reduce(1.0 - answers(log_p, several).amax(2))


@in_pieces
def margin(log_p: LogProbabilities, several: bool = False, reduce: Reduce = mean) -> PerClip:
    """``1 - (p_(1) - p_(2))``, one less the lead of the likeliest answer over the second.

    Source: Scheffer et al. 2001, doi:10.1007/3-540-44816-0_31, there without the one, which keeps it from being negative.
    """
    first, second = answers(log_p, several).topk(2, 2).values.unbind(2)
    return reduce(1.0 - (first - second))


@in_pieces
def ratio(log_p: LogProbabilities, several: bool = False, reduce: Reduce = mean) -> PerClip:
    """``p_(2) / p_(1)``: from 0, sure, to 1, two answers alike. Source: Monarch 2021,
    Human-in-the-Loop Machine Learning, chapter 3."""
    first, second = answers(log_p, several).topk(2, 2).values.unbind(2)
    return reduce(second / first.clamp_min(1e-30))


@in_pieces
def entropy(log_p: LogProbabilities, several: bool = False, reduce: Reduce = mean) -> PerClip:
    """``H(p) = -sum_k p_k log p_k``. Source: Shannon 1948, doi:10.1002/j.1538-7305.1948.tb01338.x; Settles 2009, TR 1648."""
    return reduce(entropy_of(answers(log_p, several)))


@in_pieces
def disagreement(log_p: LogProbabilities, several: bool = False, reduce: Reduce = mean, votes: bool = False) -> PerClip:
    """``H(1/m sum_m p_m)`` of what the members say; with `votes` of what they decide for, ``p_m`` rounded to 0 and 1.

    Source: Argamon-Engelson and Dagan 1999, arXiv:1106.0220 (vote entropy); Settles 2009, TR 1648, section 3.2.
    """
    log_a = log_answers(log_p, several)
    if not votes:
        return reduce(entropy_of(exp(log_a).mean(0)))
    decided = torch.zeros_like(log_a).scatter_(3, log_a.argmax(3, keepdim=True), 1.0)
    return reduce(entropy_of(decided.mean(0)))


def bald(log_p: LogProbabilities, several: bool = False, reduce: Reduce = mean) -> PerClip:
    """``I(y; w) = H(1/m sum_m p_m) - 1/m sum_m H(p_m)``: what the answer tells about the model; 0 where all agree.

    With one pass it is 0 everywhere.

    Source: Houlsby et al. 2011, arXiv:1112.5745, eq. 2; Gal et al. 2017, arXiv:1703.02910, section 4.
    """
    return reduced_information(log_p, several, reduce=reduce) if several else reduce(information(log_p)[:, None])


@in_pieces
def reduced_information(log_p: LogProbabilities, several: bool = False, reduce: Reduce = mean) -> PerClip:
    """`bald` as its formula stands."""
    of_mean, mean_of = entropies(log_p, several)
    return reduce((of_mean - mean_of).clamp_min(0.0))


def information(log_p: LogProbabilities) -> PerClip:
    """`bald` of clips with one label each, in bits until the end, in two rooms that every piece uses again.

    New room for every piece would cost as much as the exponentials. Pieces are larger than elsewhere: with few operations
    on each, their number counts for more than the cache.
    """
    (members, n, classes), log2_e = log_p.shape, math.log2(math.e)
    cells = 8 * CELLS.get(log_p.device.type, CELLS_ELSEWHERE)
    step = max(1, min(n, cells // max(1, members * classes)))
    found = wide(log_p.new_empty(0)).new_empty(n)
    log_room, room = found.new_empty(2, members, step, classes)
    for piece, out in zip(log_p.split(step, 1), found.split(step), strict=True):
        log_a, a = log_room[:, : len(out)], room[:, : len(out)]
        torch.mul(wide(piece), log2_e, out=log_a)
        p = torch.exp2(log_a, out=a).sum(0).div_(members)
        mean_of = a.mul_(log_a).sum(0).div_(members)  # less than 0, as is what follows
        of_mean = p.clamp_min(math.exp(LEAST)).log2_().mul_(p)
        torch.sum(mean_of.sub_(of_mean), 1, out=out)
    found.div_(log2_e).clamp_min_(0.0)
    if len(never := found.isnan().nonzero().flatten()):  # 0 log 0: to look for it costs less than to keep it away
        found[never] = reduced_information(log_p[:, never])
    return found


@in_pieces
def ambiguous(
    log_p: LogProbabilities, several: bool = False, of_mean: float = 0.5, mean_of: float = 0.5
) -> Bool[Tensor, " n"]:
    """Clips that every pass is unsure of: the sound is ambiguous, not the model unsure, so an answer teaches little.

    ``H(1/m sum_m p_m) >= of_mean log k`` and ``1/m sum_m H(p_m) >= mean_of log k``, with k = c answers; with `several`
    k = 2 for at least one of the classes. One pass cannot tell the two entropies apart.

    Source: the parts of predictive uncertainty in Gal et al. 2017, arXiv:1703.02910, section 4; the thresholds are ours.
    """
    found = entropies(log_p, several)
    log_k = math.log(2 if several else log_p.shape[2])
    return ((found[0] >= of_mean * log_k) & (found[1] >= mean_of * log_k)).any(1)
