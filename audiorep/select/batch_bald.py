"""BatchBALD: clips whose answers together tell most about the model."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from audiorep.errors import AudiorepError
from audiorep.select.pool import Chosen, Needs, Pool, Selector
from audiorep.select.scores import LEAST, bald, log_answers
from audiorep.select.top import highest

CELLS = 2**21
"""Joint probabilities that are held at once: 8 MB of float32."""

Candidates = Float[Tensor, "q m n k"]
"""Probabilities of the answers k to each question q, by member m and clip n."""


@dataclass(frozen=True)
class Configurations:
    """Answers that the clips chosen so far may get together: s configurations of each question q.

    probability: of each configuration, or 1 / s of sampled ones; posterior: of the members after it, sums to 1 over m.
    """

    probability: Float[Tensor, "q s"]
    posterior: Float[Tensor, "q s m"]


def nothing_asked(p: Candidates) -> Configurations:
    """The one configuration of no answers: all members alike."""
    questions, members = p.shape[:2]
    return Configurations(p.new_ones(questions, 1), p.new_full((questions, 1, members), 1.0 / members))


def gain(known: Configurations, p: Candidates) -> Float[Tensor, " n"]:
    """``H(y_i | y_1 ... y_t) - 1/m sum_m H(y_i | m)``, the mean over questions: what one more answer tells about the model.

    The conditional entropy is ``sum_s P(s) H(sum_m P(m | s) p_m)`` over the configurations s of the answers before.
    """
    joint = known.probability.numel() * p.shape[3]  # of one clip
    pieces = p.split(max(1, CELLS // joint), 2)
    return torch.cat([_gain(known, piece) for piece in pieces])


def _gain(known: Configurations, p: Candidates) -> Float[Tensor, " n"]:
    questions, members, clips, k = p.shape
    joint = known.posterior @ p.reshape(questions, members, clips * k)
    joint.mul_(joint.clamp_min(math.exp(LEAST)).log_())
    conditional = -(known.probability[:, None] @ joint).reshape(questions, clips, k).sum(2)
    own = -(p * p.clamp_min(math.exp(LEAST)).log()).sum(3).mean(1)
    return (conditional - own).mean(0)


def asked(known: Configurations, p: Float[Tensor, "q m k"], limit: int, rng: torch.Generator) -> Configurations:
    """The configurations with one more answer: all of them up to `limit`, else so many drawn by their probability.

    They are drawn at even distances along the sum of probabilities (systematic sampling), by one number a question: a
    configuration with probability P is drawn limit P times, rounded up or down.

    Source: Kitagawa 1996, doi:10.1080/10618600.1996.10474692 (systematic resampling).
    """
    questions, size, members = known.posterior.shape
    k = p.shape[2]
    answer = known.posterior @ p  # [q s k]
    probability = (known.probability[:, :, None] * answer).flatten(1)
    if size * k <= limit:
        rows = torch.arange(size * k, device=p.device).expand(questions, -1)
    else:
        offset = torch.rand(questions, 1, generator=rng, device=p.device)
        total = probability.double().cumsum(1)
        places = (torch.arange(limit, device=p.device) + offset.double()) / limit * total[:, -1:]
        rows = torch.searchsorted(total, places).clamp_max(size * k - 1)
        probability = torch.full_like(rows, 1.0 / limit, dtype=p.dtype)
    before, said = rows // k, rows % k
    posterior = known.posterior.gather(1, before[:, :, None].expand(-1, -1, members))
    posterior = posterior * p.transpose(1, 2).gather(1, said[:, :, None].expand(-1, -1, members))
    return Configurations(probability, posterior / posterior.sum(2, keepdim=True).clamp_min(1e-30))


def batch_bald(
    p: Candidates, k: int, configurations: int, rng: torch.Generator, block: int = 256
) -> tuple[list[int], list[float]]:
    """k clips by greedy ``argmax_i I(y_1 ... y_t, y_i; w)``, and what each adds in nats.

    As answers tell less the more is known, the gain of an earlier step bounds that of a later one: only clips whose
    bound is above the best gain are looked at again, which changes nothing (with sampled configurations next to nothing).

    Source: Kirsch et al. 2019, arXiv:1906.08158, algorithm 1; Minoux 1978, doi:10.1007/BFb0006528 (bounds).
    """
    known = nothing_asked(p)
    bound = gain(known, p)
    rows: list[int] = []
    gains: list[float] = []
    for step in range(k):
        best, value = int(bound.argmax()), float(bound.max())
        if step:
            best, value = best_of(known, p, bound, block)
        rows.append(best)
        gains.append(max(0.0, value))
        bound[best] = -torch.inf
        if step + 1 < k:
            known = asked(known, p[:, :, best], configurations, rng)
    return rows, gains


def best_of(known: Configurations, p: Candidates, bound: Float[Tensor, " n"], block: int) -> tuple[int, float]:
    """The clip with the largest gain; `bound` becomes what was found on the way."""
    order = bound.argsort(descending=True, stable=True)
    best, value = -1, -math.inf
    for piece in order.split(block):
        if bound[piece[0]] <= value:
            break
        found = gain(known, p[:, :, piece])
        found = found.masked_fill(bound[piece] == -torch.inf, -torch.inf)  # chosen already
        bound[piece] = found
        if float(found.max()) > value:
            best, value = int(piece[found.argmax()]), float(found.max())
    return best, value


class BatchBald(Selector):
    """The batch whose answers together tell most about the model: BALD that counts what clips tell in common only once.

    The score is what each clip adds to those before it, in nats. m passes tell at most log m nats in all: when a batch
    has told them, the rest of it is arbitrary, so take about as many passes as clips, or more. With several labels a clip,
    the classes are questions of their own, each with its own configurations, and the score is their mean.

    Args:
        configurations: of answers that are counted exactly up to so many, and sampled beyond.
        candidates: clips with the highest BALD that are looked at; the others tell less even alone.

    Raises:
        AudiorepError: a number below 1.

    Source: Kirsch et al. 2019, arXiv:1906.08158. The conditional entropy is summed over answers and only what was
    answered before is sampled; there the joint entropy is estimated from sampled answers.
    """

    needs = Needs(probabilities=True, trained=True, passes=True)

    def __init__(self, configurations: int = 1000, candidates: int = 10000) -> None:
        if configurations < 1 or candidates < 1:
            raise AudiorepError(
                f"selector: configurations={configurations} and candidates={candidates} must be 1 at least"
            )
        self.configurations, self.candidates = configurations, candidates

    def pick(self, pool: Pool, k: int, rng: torch.Generator) -> Chosen:
        assert pool.log_p is not None  # for the type checker: Needs.trained was checked
        alone = bald(pool.log_p, pool.several)
        rows = highest(alone, min(len(pool), max(k, self.candidates)), rng)
        p = log_answers(pool.log_p[:, rows], pool.several).exp().permute(2, 0, 1, 3).contiguous()
        found, gains = batch_bald(p, k, self.configurations, rng)
        device = rows.device
        return Chosen(rows[torch.tensor(found, device=device)], torch.tensor(gains, device=device))
