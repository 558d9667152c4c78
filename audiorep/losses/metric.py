"""Deep metric learning: one family of losses by (phi, psi, distance, mining), and the losses that stand beside it.

All take embeddings z [m d] of every view, and who is whose: `Relation`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from audiorep.losses.mining import All, Mining
from audiorep.losses.precision import in_full, wide

Embeddings = Float[Tensor, "m d"]
Square = Float[Tensor, "m m"]


@dataclass(frozen=True)
class Relation:
    """Which embeddings belong together; the diagonal is in neither mask. `view` numbers the view each came from."""

    positive: Bool[Tensor, "m m"]
    negative: Bool[Tensor, "m m"]
    view: Int[Tensor, " m"]


MetricLoss = Callable[[Embeddings, Relation, torch.Generator, float], dict[str, Tensor]]
"""What every loss of this file is."""


# ---------------------------------------------------------------- distances


def cosine(z: Embeddings) -> Square:
    """``1 - cos(z_i, z_j)``: half the squared distance of the normalised embeddings."""
    unit = F.normalize(z)
    return 1.0 - unit @ unit.T


def euclidean(z: Embeddings) -> Square:
    """``|z_i - z_j|^2 / 2``."""
    square = z.square().sum(1)
    return ((square[:, None] + square) / 2.0 - z @ z.T).clamp_min(0.0)


def inner_product(z: Embeddings) -> Square:
    """``- z_i . z_j``, which is no distance but stands in the place of one in the N-pair loss."""
    return -z @ z.T


Distance = Callable[[Embeddings], Square]


# -------------------------------------------------------------- psi and phi

X = Float[Tensor, "p m"]
Chosen = Bool[Tensor, "p m"]
PerPair = Float[Tensor, " p"]


class Psi:
    """``psi(x)`` of one negative, summed over the chosen ones of each pair; also as a logarithm, where phi wants that."""

    def value(self, x: X) -> X:
        """psi, element by element."""
        raise NotImplementedError

    def total(self, x: X, chosen: Chosen) -> PerPair:
        """``sum_j psi(x_j)``."""
        return torch.where(chosen, self.value(x), 0.0).sum(1)

    def log_total(self, x: X, chosen: Chosen) -> PerPair:
        """``log sum_j psi(x_j)``."""
        return self.total(x, chosen).clamp_min(1e-12).log()


class Exp(Psi):
    """``exp(x / tau + margin)``."""

    def __init__(self, tau: float = 1.0, margin: float = 0.0) -> None:
        self.tau, self.margin = tau, margin

    def value(self, x: X) -> X:
        return (x / self.tau + self.margin).exp()

    def log_total(self, x: X, chosen: Chosen) -> PerPair:
        return (x / self.tau + self.margin).masked_fill(~chosen, -torch.inf).logsumexp(1)


class Hinge(Psi):
    """``max(0, x + margin)``."""

    def __init__(self, margin: float = 0.2) -> None:
        self.margin = margin

    def value(self, x: X) -> X:
        return F.relu(x + self.margin)


class Sigmoid(Psi):
    """``1 / (1 + exp(-c x))``."""

    def __init__(self, c: float = 5.0) -> None:
        self.c = c

    def value(self, x: X) -> X:
        return torch.sigmoid(self.c * x)


class LinearPsi(Psi):
    """``x``."""

    def value(self, x: X) -> X:
        return x


Phi = Callable[[Psi, X, Chosen], PerPair]
"""From psi and the differences x [p m] to one loss a pair [p]."""


class LinearPhi:
    """``phi(s) = s``."""

    def __call__(self, psi: Psi, x: X, chosen: Chosen) -> PerPair:
        return psi.total(x, chosen)


class Log:
    """``phi(s) = tau log(eps + s)``."""

    def __init__(self, tau: float = 1.0, eps: float = 0.0) -> None:
        self.tau, self.eps = tau, eps

    def __call__(self, psi: Psi, x: X, chosen: Chosen) -> PerPair:
        log_sum = psi.log_total(x, chosen)
        if self.eps > 0.0:
            log_sum = torch.logaddexp(log_sum, torch.tensor(self.eps, dtype=x.dtype, device=x.device).log())
        return self.tau * log_sum


class SquaredLog:
    """``phi(s) = max(0, log s)^2``."""

    def __call__(self, psi: Psi, x: X, chosen: Chosen) -> PerPair:
        return F.relu(psi.log_total(x, chosen)).square()


# ------------------------------------------------------------------ losses


class PhiPsi(nn.Module):
    """``L = mean over pairs (i, p) of phi( sum_j psi( d_ip^2 - d_ij^2 ) )``, j the mined negatives of i.

    d^2 is half the squared distance (`cosine`, `euclidean`). Pairs without a negative do not count; without any the
    loss is 0. The paper sums over anchors of one positive each; the mean keeps the learning rate free of batch size.

    Args:
        phi, psi, distance, mining: the parts.
        across_views: positives and negatives come from other views than the anchor's only, as in the N-pair loss.
        norm_weight: weight of the mean squared norm, for distances that do not normalise.

    Source: Tian 2022, arXiv:2201.12680, eq. 1 and table 1, where d^2 is halved too.
    """

    def __init__(
        self,
        phi: Phi,
        psi: Psi,
        distance: Distance = cosine,
        mining: Mining | None = None,
        across_views: bool = False,
        norm_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.phi, self.psi, self.distance, self.mining = phi, psi, distance, mining or All()
        self.across_views, self.norm_weight = across_views, norm_weight

    @in_full
    def forward(self, z: Embeddings, relation: Relation, rng: torch.Generator, progress: float) -> dict[str, Tensor]:
        """Returns {"metric"}, and {"norm"} where it has a weight."""
        z = wide(z)
        distances = self.distance(z)
        positive, negative = relation.positive, relation.negative
        if self.across_views:
            other = relation.view[:, None] != relation.view
            positive, negative = positive & other, negative & other
        anchor, partner = positive.nonzero(as_tuple=True)
        near, far, allowed = distances[anchor, partner], distances[anchor], negative[anchor]
        chosen = self.mining(near.detach(), far.detach(), allowed, rng, progress)
        used = chosen.any(1)
        losses = self.phi(self.psi, (near[:, None] - far)[used], chosen[used])
        # an empty sum still hangs on z, so that a batch without a mined negative has a gradient: zero
        terms = {"metric": losses.sum() / max(1, len(losses)) + 0.0 * distances.sum()}
        if self.norm_weight:
            terms["norm"] = self.norm_weight * z.square().sum(1).mean()
        return terms


class PairContrastive(nn.Module):
    """``mean over positive pairs of d^2 + mean over negative pairs of max(0, margin - d)^2``, d of normalised embeddings.

    The halves of the two sums as in the source are left out: the two kinds of pairs weigh alike whatever their number.

    Source: Hadsell et al. 2006, doi:10.1109/CVPR.2006.100, eq. 4.
    """

    def __init__(self, margin: float = 1.0) -> None:
        super().__init__()
        self.margin = margin

    @in_full
    def forward(self, z: Embeddings, relation: Relation, rng: torch.Generator, progress: float) -> dict[str, Tensor]:
        """Returns {"attract", "repel"}."""
        square = 2.0 * cosine(wide(z))
        d = square.clamp_min(1e-12).sqrt()
        repelled = F.relu(self.margin - d).square()
        return {"attract": masked_mean(square, relation.positive), "repel": masked_mean(repelled, relation.negative)}


class SupCon(nn.Module):
    """``-mean_i mean over positives p of log( exp(s_ip / tau) / sum_{k != i} exp(s_ik / tau) )``, s the cosine.

    Anchors without a positive do not count.

    Source: Khosla et al. 2020, arXiv:2004.11362, eq. 2 (L_out).
    """

    def __init__(self, tau: float = 0.1) -> None:
        super().__init__()
        self.tau = tau

    @in_full
    def forward(self, z: Embeddings, relation: Relation, rng: torch.Generator, progress: float) -> dict[str, Tensor]:
        """Returns {"contrast"}."""
        similarity = (1.0 - cosine(wide(z))) / self.tau
        others = relation.positive | relation.negative
        log_p = similarity - similarity.masked_fill(~others, -torch.inf).logsumexp(1, keepdim=True)
        count = relation.positive.sum(1)
        per_anchor = torch.where(relation.positive, log_p, 0.0).sum(1) / count.clamp_min(1)
        return {"contrast": -per_anchor.sum() / (count > 0).sum().clamp_min(1)}


class SmoothAp(nn.Module):
    """``1 - mean_i AP_i``, average precision with ranks made smooth by ``G(x) = 1 / (1 + exp(-x / tau))``.

    ``AP_i = mean over positives p of (1 + sum_{q in P, q != p} G(s_iq - s_ip)) / (1 + sum_{k in P or N, k != p}
    G(s_ik - s_ip))``, s the cosine. Anchors without a positive do not count.

    Source: Brown et al. 2020, arXiv:2007.12163, eq. 5-7, tau = .01.
    """

    def __init__(self, tau: float = 0.01) -> None:
        super().__init__()
        self.tau = tau

    @in_full
    def forward(self, z: Embeddings, relation: Relation, rng: torch.Generator, progress: float) -> dict[str, Tensor]:
        """Returns {"ranking"}."""
        similarity = 1.0 - cosine(wide(z))
        anchor, partner = relation.positive.nonzero(as_tuple=True)
        ahead = torch.sigmoid((similarity[anchor] - similarity[anchor, partner][:, None]) / self.tau)
        itself = F.one_hot(partner, len(z)).bool()
        among_positives = torch.where(relation.positive[anchor] & ~itself, ahead, 0.0).sum(1)
        among_negatives = torch.where(relation.negative[anchor], ahead, 0.0).sum(1)
        precision = (1.0 + among_positives) / (1.0 + among_positives + among_negatives)
        count = relation.positive.sum(1)
        missing = torch.zeros_like(similarity[:, 0]).index_add(0, anchor, 1.0 - precision) / count.clamp_min(1)
        return {"ranking": missing.sum() / (count > 0).sum().clamp_min(1)}


class Debiased(nn.Module):
    """NT-Xent whose negatives are corrected for the part `prior` of them that are of the anchor's own class.

    ``L = -mean log( e^{s+/tau} / (e^{s+/tau} + N g) )``, ``g = max( (mean_n e^{s_n/tau} - prior e^{s+/tau}) / (1 - prior),
    e^{-1/tau} )``, N the number of negatives; where an anchor has several positives, each in turn. A pair without a
    negative costs nothing. To choose when a class is common among the unlabelled: `prior` is about 1 / number of classes.

    Source: Chuang et al. 2020, arXiv:2007.00224, eq. 7-8 with M = 1.
    """

    def __init__(self, tau: float = 0.2, prior: float = 0.1) -> None:
        super().__init__()
        self.tau, self.prior = tau, prior

    @in_full
    def forward(self, z: Embeddings, relation: Relation, rng: torch.Generator, progress: float) -> dict[str, Tensor]:
        """Returns {"contrast"}."""
        scores = ((1.0 - cosine(wide(z))) / self.tau).exp()
        anchor, partner = relation.positive.nonzero(as_tuple=True)
        near, count = scores[anchor, partner], relation.negative.sum(1)[anchor]
        far = torch.where(relation.negative, scores, 0.0).sum(1)[anchor]
        floor = torch.tensor(-1.0 / self.tau).exp().to(scores)
        corrected = ((far / count.clamp_min(1) - self.prior * near) / (1.0 - self.prior)).maximum(floor)
        losses = (1.0 + count * corrected / near).log()
        return {"contrast": losses.sum() / max(1, len(losses))}


def masked_mean(x: Square, mask: Bool[Tensor, "m m"]) -> Tensor:
    """The mean over the mask; 0 where it is empty."""
    return torch.where(mask, x, 0.0).sum() / mask.sum().clamp_min(1)
