"""From scores over prototypes to targets: Sinkhorn-Knopp, centring, sharpening; and k-means.

Targets are distributions [n k] without gradient. Scores come from all processes at once.
"""

from collections.abc import Iterator
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from audiorep.errors import AudiorepError

Scores = Float[Tensor, "n k"]

CELLS = {"cpu": 2**18}
"""Distances that are held at once: as many as fit into the cache of a core; elsewhere as `CELLS_ELSEWHERE`."""
CELLS_ELSEWHERE = 2**26
ROWS = 2**14
"""Rows that are copied at once to be compared again."""
MOST = 0.8
"""Part of the rows from which on all are compared again, which spares the copying."""


class Prototypes(nn.Module):
    """Cosine of an embedding with each of `count` prototypes: [b d] -> [b k].

    Source: Caron et al. 2020 (SwAV), arXiv:2006.09882, section 3.1.
    """

    def __init__(self, inputs: int, count: int) -> None:
        super().__init__()
        if count < 2:
            raise AudiorepError(f"objective.prototypes.count={count}: at least two are needed")
        self.count = count
        self.weight = nn.Parameter(F.normalize(torch.randn(count, inputs)))

    def forward(self, z: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        with torch.autocast(z.device.type, enabled=False):  # divided by a small tau: 8 bits will not do
            return F.normalize(z.float()) @ F.normalize(self.weight.float()).T


class Assign(nn.Module):
    """Scores of the teacher to targets; `update` follows the scores after each step."""

    equal_shares = False
    """Whether every prototype gets the same share of a batch, which wants no more prototypes than samples."""

    def __init__(self, count: int) -> None:
        super().__init__()

    def forward(self, scores: Scores) -> Scores:
        raise NotImplementedError

    def update(self, scores: Scores, progress: float) -> None:
        """Take in the scores of a step; `progress` runs from 0 to 1 over training."""


class Sinkhorn(Assign):
    """Targets of which every prototype gets an equal share of the batch.

    ``P = diag(u) exp(scores / tau) diag(v)`` with rows that sum to 1 and columns to n / k, by `iterations` of
    normalising columns, then rows; in logarithms.

    Source: Cuturi 2013, arXiv:1306.0895; Caron et al. 2020 (SwAV), arXiv:2006.09882, eq. 3-5.
    """

    equal_shares = True

    def __init__(self, count: int, tau: float = 0.05, iterations: int = 3) -> None:
        super().__init__(count)
        self.tau, self.iterations = tau, iterations

    @torch.no_grad()
    def forward(self, scores: Scores) -> Scores:
        log_p = scores.float() / self.tau
        for _ in range(self.iterations):
            log_p = log_p - log_p.logsumexp(0)
            log_p = log_p - log_p.logsumexp(1, keepdim=True)
        return log_p.exp()


class Centring(Assign):
    """``softmax((scores - c) / tau)``, c the moving average of the scores: no prototype wins all, each is sharp.

    ``c <- m c + (1 - m) mean(scores)``; tau rises linearly from `tau_start` to `tau` over the part `warmup` of training.

    Args:
        count: prototypes.
        tau, tau_start, warmup: sharpening; tau as large as the student's, or larger, does not sharpen.
        momentum: m.
        centre: False leaves c at zero; the representation collapses. It is there to show just that.

    Source: Caron et al. 2021 (DINO), arXiv:2104.14294, section 3.1, eq. 4.
    """

    def __init__(
        self,
        count: int,
        tau: float = 0.04,
        tau_start: float = 0.04,
        warmup: float = 0.3,
        momentum: float = 0.9,
        centre: bool = True,
    ) -> None:
        super().__init__(count)
        self.tau, self.tau_start, self.warmup, self.momentum, self.centre = tau, tau_start, warmup, momentum, centre
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("progress", torch.zeros(()))

    @torch.no_grad()
    def forward(self, scores: Scores) -> Scores:
        progress = cast(Tensor, self.progress)
        risen = (progress / self.warmup).clamp_max(1.0) if self.warmup > 0.0 else torch.ones_like(progress)
        tau = torch.lerp(torch.full_like(risen, self.tau_start), torch.full_like(risen, self.tau), risen)
        return ((scores.float() - cast(Tensor, self.mean)) / tau).softmax(1)

    @torch.no_grad()
    def update(self, scores: Scores, progress: float) -> None:
        cast(Tensor, self.progress).fill_(progress)
        if self.centre:
            cast(Tensor, self.mean).lerp_(scores.float().mean(0), 1.0 - self.momentum)


class Sharpen(Assign):
    """``softmax(scores / tau)``. Source: Assran et al. 2022 (MSN), arXiv:2204.07141, section 3, tau = .025."""

    def __init__(self, count: int, tau: float = 0.025) -> None:
        super().__init__(count)
        self.tau = tau

    @torch.no_grad()
    def forward(self, scores: Scores) -> Scores:
        return (scores.float() / self.tau).softmax(1)


def nearest(x: Float[Tensor, "n d"], centroids: Float[Tensor, "k d"], chunk: int | None = None) -> Int[Tensor, " n"]:
    """The number of the nearest centroid of each row: ``argmin_j ||c_j||^2 / 2 - <x, c_j>``, of equal ones the first.

    Args:
        chunk: rows at a time; None: as many as `CELLS` allows.
    """
    found = torch.empty(len(x), dtype=torch.int64, device=x.device)
    for first, scores in _scores(x, centroids, chunk):
        found[first : first + len(scores)] = _argmin(scores)
    return found


def _scores(
    x: Float[Tensor, "n d"], centroids: Float[Tensor, "k d"], chunk: int | None = None
) -> Iterator[tuple[int, Float[Tensor, "b k"]]]:
    """``||c_j||^2 / 2 - <x, c_j>`` of some rows at a time, and the first of them, in room that is used again and again."""
    half = centroids.square().sum(1) / 2.0
    cells = CELLS.get(x.device.type, CELLS_ELSEWHERE)
    chunk = chunk or max(64, cells // len(centroids))
    room = x.new_empty(min(chunk, len(x)), len(centroids))
    for first in range(0, len(x), chunk):
        piece = x[first : first + chunk]
        yield first, torch.addmm(half, piece, centroids.T, alpha=-1.0, out=room[: len(piece)])


def _argmin(scores: Float[Tensor, "b k"]) -> Int[Tensor, " b"]:
    """``scores.argmin(1)``, by the least of eight groups, then within its group: a minimum is found faster than its place."""
    rows, count = scores.shape
    if count % 8:
        return scores.argmin(1)
    groups = scores.view(rows, 8, count // 8)
    group = groups.amin(2).argmin(1)
    return groups[torch.arange(rows, device=scores.device), group].argmin(1).add_(group, alpha=count // 8)


def kmeans(
    x: Float[Tensor, "n d"],
    count: int,
    rng: torch.Generator,
    iterations: int = 20,
    weight: Float[Tensor, " n"] | None = None,
) -> tuple[Float[Tensor, "k d"], Int[Tensor, " n"]]:
    """Lloyd's algorithm from k-means++ seeds; a cluster that loses all its rows takes the row farthest from its own.

    So no cluster is empty, even where fewer rows differ than there are clusters.

    Args:
        x: rows to cluster.
        count: clusters.
        rng: draws the seeds.
        iterations: at most; it ends where no row changes its cluster.
        weight: how much each row counts, above 0; None: all alike.

    Returns:
        Centroids and each row's cluster.

    Raises:
        AudiorepError: more clusters than rows.

    Source: Lloyd 1982, doi:10.1109/TIT.1982.1056489; Arthur and Vassilvitskii 2007 (k-means++), section 2.2.
    """
    if count > len(x):
        raise AudiorepError(f"{count} clusters of {len(x)} rows: ask for fewer clusters, or add recordings")
    x = x.float()
    return lloyd(x, seeds(x, count, rng, weight), iterations, weight)


def lloyd(
    x: Float[Tensor, "n d"],
    centroids: Float[Tensor, "k d"],
    iterations: int = 20,
    weight: Float[Tensor, " n"] | None = None,
) -> tuple[Float[Tensor, "k d"], Int[Tensor, " n"]]:
    """As `kmeans`, from given centroids on, which are not written to.

    A row is compared with all centroids only where it may have come nearer to another: its own has moved away by so much
    at most, and the second nearest has come nearer by no more than the centroid that moved most. That changes nothing.

    Source: Hamerly 2010, doi:10.1137/1.9781611972801.12 (the bounds).
    """
    weighted = x if weight is None else x * weight[:, None]
    centroids, norm = centroids.clone(), _squared_to(x, torch.zeros_like(x[0]))
    assignment, near, second = two_nearest(x, centroids, norm)
    for _ in range(iterations):
        if _refill(x, centroids, assignment):
            second.fill_(-1.0)  # nothing is known of the new ones
        before, old = assignment.clone(), centroids
        sums = torch.zeros_like(centroids).index_add_(0, assignment, weighted)
        centroids = sums / torch.bincount(assignment, weight, minlength=len(centroids))[:, None]
        moved = torch.linalg.vector_norm(centroids - old, dim=1)
        near += moved[assignment]
        second -= moved.amax()
        unsure = (near >= second).nonzero().flatten()
        if len(unsure) > MOST * len(x):
            assignment, near, second = two_nearest(x, centroids, norm)
        else:
            for rows in unsure.split(ROWS):
                assignment[rows], near[rows], second[rows] = two_nearest(x[rows], centroids, norm[rows])
        if torch.equal(before, assignment):
            break
    _refill(x, centroids, assignment)
    return centroids, assignment


def two_nearest(
    x: Float[Tensor, "n d"], centroids: Float[Tensor, "k d"], norm: Float[Tensor, " n"]
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, " n"]]:
    """The number of the nearest centroid of each row, its distance, and that of the second; infinite where there is none.

    Args:
        norm: ``||x_i||^2``.
    """
    found = torch.empty(len(x), dtype=torch.int64, device=x.device)
    near, second = x.new_empty(2, len(x))
    for first, scores in _scores(x, centroids):
        part = slice(first, first + len(scores))
        place = _argmin(scores)[:, None]
        found[part], near[part] = place[:, 0], scores.gather(1, place)[:, 0]
        second[part] = scores.scatter_(1, place, torch.inf).amin(1)
    for one in (near, second):
        one.mul_(2.0).add_(norm).clamp_min_(0.0).sqrt_()
    return found, near, second


def clusters_of(x: Float[Tensor, "n d"], count: int, rng: torch.Generator) -> Int[Tensor, " n"]:
    """The k-means cluster of each row, -1 for rows that are not finite.

    Raises:
        AudiorepError: more clusters than finite rows.
    """
    known = x.isfinite().all(1)
    out = torch.full((len(x),), -1, dtype=torch.int64, device=x.device)
    out[known] = kmeans(x[known], count, rng)[1]
    return out


def _refill(x: Float[Tensor, "n d"], centroids: Float[Tensor, "k d"], assignment: Int[Tensor, " n"]) -> bool:
    """Give each empty cluster the row that is farthest from its own centroid, of those whose cluster keeps another.

    Returns:
        whether there were any.
    """
    sizes = torch.bincount(assignment, minlength=len(centroids))
    if not (left := (sizes == 0).nonzero().flatten().tolist()):
        return False
    pieces = zip(x.split(1024), assignment.split(1024), strict=True)
    distance = torch.cat([(piece - centroids[own]).square_().sum(1) for piece, own in pieces])
    for empty in left:
        row = int(distance.masked_fill(sizes[assignment] < 2, -1.0).argmax())
        sizes[assignment[row]] -= 1
        sizes[empty] = 1
        assignment[row] = empty
        centroids[empty] = x[row]
        distance = distance.minimum(_squared_to(x, x[row]))
    return True


def seeds(
    x: Float[Tensor, "n d"], count: int, rng: torch.Generator, weight: Float[Tensor, " n"] | None = None
) -> Float[Tensor, "k d"]:
    """k-means++: each seed is drawn with probability ~ its squared distance to the nearest seed so far, times `weight`."""
    if weight is None:
        first = int(torch.randint(len(x), (), generator=rng, device=rng.device))
    else:
        first = _draw(weight, rng)
    chosen = [first]
    distance = _squared_to(x, x[first])
    for _ in range(count - 1):
        pick = _draw(distance if weight is None else distance * weight, rng)
        chosen.append(pick)
        distance = distance.minimum(_squared_to(x, x[pick]))
    return x[chosen]


def _squared_to(x: Float[Tensor, "n d"], place: Float[Tensor, " d"], chunk: int = 1024) -> Float[Tensor, " n"]:
    """Squared distance of all rows to a place, in pieces that fit into the cache, in room that is used again."""
    room, found = x.new_empty(min(chunk, len(x)), x.shape[1]), x.new_empty(len(x))
    for piece, out in zip(x.split(chunk), found.split(chunk), strict=True):
        torch.sum(torch.sub(piece, place, out=room[: len(piece)]).square_(), 1, out=out)
    return found


def _draw(weight: Float[Tensor, " n"], rng: torch.Generator) -> int:
    """One row, drawn with probability ~ its weight."""
    total = weight.double().cumsum(0)
    draw = torch.rand((), generator=rng, device=rng.device, dtype=torch.float64).to(weight.device) * total[-1]
    return int(torch.searchsorted(total, draw).clamp_max(len(weight) - 1))
