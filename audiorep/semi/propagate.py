"""Labels that spread from the labelled rows to the others along a graph of nearest embeddings."""

import logging
import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor
from torch.nn import functional as F

from audiorep.errors import AudiorepError

log = logging.getLogger(__name__)

Graph = Callable[[Float[np.ndarray, "n d"], int], sparse.csr_array]
"""(embeddings, neighbours) to weights [n n]: row i holds how much i listens to each of the others."""

CELLS = 2**25
"""Products of embeddings that are held at once: 128 MB of float32."""


def nearest_graph(x: Float[np.ndarray, "n d"], k: int) -> sparse.csr_array:
    """``W_ij = 1`` where j is among the k rows that are nearest to i by Euclidean distance, i itself among them.

    Edges go one way, as in scikit-learn: a label reaches those that have it among their nearest, not its own neighbours.
    """
    values = torch.from_numpy(np.ascontiguousarray(x - x.mean(0)))
    index, _ = most_similar(values, -values.square().sum(1) / 2, min(k, len(x)), itself=math.inf)
    return to_sparse(index, np.ones(index.shape))


def cosine_graph(x: Float[np.ndarray, "n d"], k: int, gamma: float = 3.0) -> sparse.csr_array:
    """``W = A + A^T``, ``A_ij = max(0, cos(x_i, x_j))^gamma`` where j is among the k most similar others, else 0.

    Source: Iscen et al. 2019, arXiv:1904.04717 (k = 50, gamma = 3 there).
    """
    values = F.normalize(torch.from_numpy(np.ascontiguousarray(x)))
    index, cosine = most_similar(values, values.new_zeros(len(x)), min(k, len(x) - 1), itself=-math.inf)
    one_way = to_sparse(index, np.maximum(cosine, 0.0) ** gamma)
    return sparse.csr_array(one_way + one_way.T)


def most_similar(
    x: Float[Tensor, "n d"], bias: Float[Tensor, " n"], k: int, itself: float
) -> tuple[Int[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
    """The k rows j with the largest ``x_i . x_j + bias_j``, and these values; `itself` stands for j = i."""
    index, value = [], []
    for rows in torch.arange(len(x)).split(max(1, CELLS // len(x))):
        product = x[rows] @ x.T + bias
        product[torch.arange(len(rows)), rows] = itself
        top = product.topk(k, dim=1)
        index.append(top.indices)
        value.append(top.values)
    return torch.cat(index).numpy(), torch.cat(value).double().numpy()


def to_sparse(index: Int[np.ndarray, "n k"], weight: Float[np.ndarray, "n k"]) -> sparse.csr_array:
    """Neighbours and their weights as [n n]."""
    n, k = index.shape
    return sparse.csr_array((weight.ravel(), index.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))


def propagate(
    x: Float[np.ndarray, "n d"],
    label: Int[np.ndarray, " n"],
    classes: int,
    k: int = 10,
    alpha: float | None = 0.9,
    graph: Graph = cosine_graph,
    rounds: int = 2000,
    tolerance: float = 1e-6,
) -> Float[np.ndarray, "n c"]:
    """Class shares of every row, which sum to 1; all 0 where no label can be reached.

    alpha None, label propagation: ``P <- W P``, rows divided by their sum, labelled rows put back to their label.
    alpha in (0, 1), label spreading: ``P <- alpha S P + (1 - alpha) Y`` with ``S_ij = W_ij / sqrt(w_i w_j)``, ``i != j``,
    ``w_j = sum_{i != j} W_ij``; labelled rows may change their mind. Both run until nothing moves by `tolerance`, and say
    so in the log if `rounds` did not suffice; only neighbours are stored, so memory grows as n k and n c.

    Args:
        label: class numbers, -1 unlabelled.
        k: neighbours in the graph.
        alpha: how much a row believes its neighbours; None: labels are certain.
        graph: `cosine_graph`, whose edges go both ways, or `nearest_graph`, where fewer rows are reached.

    Raises:
        AudiorepError: no label, a label that is no class, embeddings that are not finite, or an alpha outside (0, 1).

    Source: Zhu and Ghahramani 2002, CMU-CALD-02-107 (propagation); Zhou et al. 2004, NeurIPS 16 (spreading).
    """
    check(x, label, classes, k, alpha)
    weight = graph(x, k)
    start = np.zeros((len(label), classes))
    known = np.flatnonzero(label >= 0)
    start[known, label[known]] = 1.0
    step = clamped(weight, start, known) if alpha is None else spreading(weight, start, alpha)
    shares, moved = start, math.inf
    for _ in range(rounds):
        found = step(start)
        before, shares, start = shares, to_shares(found), found
        moved = float(np.abs(shares - before).max())
        if moved < tolerance:
            return shares
    log.warning(
        "label propagation still moves by %.2g after %d rounds: raise rounds, or take alpha below 1 or more neighbours",
        moved,
        rounds,
    )
    return shares


def certainty(shares: Float[np.ndarray, "n c"]) -> Float[np.ndarray, " n"]:
    """How sure shares are, as a weight in training: ``1 - H(p) / log c``; 0 for rows that no label reached.

    Source: Iscen et al. 2019, arXiv:1904.04717.
    """
    entropy = -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(1)
    sure = 1.0 - entropy / math.log(max(2, shares.shape[1]))
    return np.where(shares.any(1), np.clip(sure, 0.0, 1.0), 0.0)


def clamped(weight: sparse.csr_array, start: np.ndarray, known: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """One round of label propagation."""
    certain = start[known]

    def step(p: np.ndarray) -> np.ndarray:
        out = to_shares(weight @ p)
        out[known] = certain
        return out

    return step


def spreading(weight: sparse.csr_array, start: np.ndarray, alpha: float) -> Callable[[np.ndarray], np.ndarray]:
    """One round of label spreading."""
    others = weight - sparse.diags_array(weight.diagonal())
    degree = others.sum(0)
    scale = sparse.diags_array(1.0 / np.sqrt(np.where(degree > 0, degree, 1.0)))
    spread = sparse.csr_array(alpha * (scale @ others @ scale))
    kept = (1.0 - alpha) * start
    return lambda p: spread @ p + kept


def to_shares(p: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
    """Rows divided by their sum; rows of zeros stay."""
    total = p.sum(1, keepdims=True)
    return p / np.where(total > 0, total, 1.0)


def check(x: np.ndarray, label: np.ndarray, classes: int, k: int, alpha: float | None) -> None:
    """Refuse what labels cannot spread on."""
    if k < 1:
        raise AudiorepError(f"label propagation: k={k} neighbours: at least 1")
    if alpha is not None and not 0.0 < alpha < 1.0:
        raise AudiorepError(
            f"label propagation: alpha={alpha} must lie between 0 and 1, or be null: labels are certain"
        )
    if not (label >= 0).any():
        raise AudiorepError("label propagation: not one row is labelled: label one of each class at least")
    if label.max() >= classes:
        raise AudiorepError(f"label propagation: a label is class {label.max()}, and there are {classes} classes")
    if not np.isfinite(x).all():
        raise AudiorepError("label propagation: some embeddings are not finite: leave out rows that cannot be decoded")
