"""Weighted k-nearest-neighbour classification of embeddings: no training, so the embedding has to do it all."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch.nn import functional as F


def knn_scores(
    train: Float[np.ndarray, "n d"],
    truth: np.ndarray,
    test: Float[np.ndarray, "m d"],
    classes: int,
    k: int = 20,
    tau: float = 0.07,
    chunk: int = 4096,
) -> Float[np.ndarray, "m c"]:
    """``score_c = sum over the k nearest of exp(cos / tau) [label = c]``, as a part of the sum over classes.

    Args:
        train, test: embeddings.
        truth: [n] class numbers, or [n, c] multi-hot (NaN counts as absent).
        k: neighbours; at most n are used.
        tau: temperature of the weights.
        chunk: test rows at a time; fewer where the bank is large, so that memory stays under some 300 MB.

    Source: Wu et al. 2018, arXiv:1805.01978, section 3.4 (k = 200, tau = 0.07 there).
    """
    votes = torch.from_numpy(np.nan_to_num(truth)).float() if truth.ndim == 2 else _votes(truth, classes)
    bank = F.normalize(torch.from_numpy(np.ascontiguousarray(train)).float())
    out = []
    rows = max(1, min(chunk, 2**26 // max(1, len(bank))))
    for part in torch.from_numpy(np.ascontiguousarray(test)).float().split(rows):
        cosine, nearest = (F.normalize(part) @ bank.T).topk(min(k, len(bank)), dim=1)
        weight = torch.exp((cosine - cosine[:, :1]) / tau)
        out.append((weight[:, :, None] * votes[nearest]).sum(1) / weight.sum(1, keepdim=True))
    return torch.cat(out).double().numpy()


def _votes(truth: Int[np.ndarray, " n"], classes: int) -> torch.Tensor:
    return F.one_hot(torch.from_numpy(truth), classes).float()
