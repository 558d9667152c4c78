"""k-means from the same start, as often: beside scikit-learn and faiss; and its seeds beside scikit-learn's."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans, kmeans_plusplus

from audiorep.assign import lloyd, seeds
from audiorep.types import generator
from benchmarks.harness import Case
from benchmarks.peers import imported


def cases(quick: bool) -> Iterator[Case]:
    n, width, k, iterations = (10_000, 64, 64, 5) if quick else (100_000, 128, 256, 20)
    for name, x in (("noise", noise(n, width)), ("groups", groups(n, width))):
        yield lloyd_case(name, x, k, iterations)
    yield seeds_case(x, k)


def noise(n: int, width: int) -> torch.Tensor:
    """Rows [n d] without any groups: the hardest there is."""
    return torch.randn(n, width, generator=generator(0))


def groups(n: int, width: int, count: int = 400) -> torch.Tensor:
    """Rows [n d] in groups of unequal size that overlap a little, as embeddings of calls do."""
    rng = generator(1)
    share = torch.rand(count, generator=rng).square() + 0.02
    middle = torch.randn(count, width, generator=rng)
    member = torch.multinomial(share, n, replacement=True, generator=rng)
    return middle[member] + 0.7 * torch.randn(n, width, generator=rng)


def lloyd_case(name: str, x: torch.Tensor, k: int, iterations: int) -> Case:
    rows, (n, width) = x.numpy(), x.shape
    start = x[torch.randperm(n, generator=generator(2))[:k]]
    faiss = imported("faiss")

    def by_scikit_learn() -> np.ndarray:
        peer = KMeans(k, init=start.numpy(), n_init=1, max_iter=iterations, tol=0.0, algorithm="lloyd")
        return np.asarray(peer.fit(rows).cluster_centers_)

    def by_faiss() -> np.ndarray:
        peer = faiss.Kmeans(width, k, niter=iterations, min_points_per_centroid=1, max_points_per_centroid=n)
        peer.train(rows, init_centroids=start.numpy())
        return np.asarray(peer.centroids)

    def agree(ours: Any, theirs: Any) -> bool:
        """As near to their rows, on the mean; roundings may send a row to another cluster."""
        return bool(np.isclose(spread(x, torch.as_tensor(ours)), spread(x, torch.as_tensor(theirs)), rtol=1e-3))

    peers = {"scikit-learn": by_scikit_learn, "faiss": faiss and by_faiss}
    work = f"k-means of {name}, {n:,} x {width}, k = {k}, {iterations} iterations"
    return Case(work, "rows", n * iterations, lambda: lloyd(x, start, iterations)[0], peers, agree=agree)


def spread(x: torch.Tensor, centroids: torch.Tensor) -> float:
    """Mean squared distance to the nearest centroid."""
    return float(torch.cdist(x, centroids).amin(1).square().mean())


def seeds_case(x: torch.Tensor, k: int) -> Case:
    def by_scikit_learn() -> Any:
        return kmeans_plusplus(x.numpy(), k, random_state=0, n_local_trials=1)[0]

    work = f"k-means++ seeds, {k} of {len(x):,} x {x.shape[1]}"
    return Case(work, "seeds", k, lambda: seeds(x, k, generator(3)), {"scikit-learn": by_scikit_learn})
