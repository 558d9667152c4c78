"""Clips chosen cluster by cluster: the most typical of clusters without a label, or the nearest to uncertain centres."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from audiorep.assign import kmeans, nearest
from audiorep.errors import AudiorepError
from audiorep.select.geometry import CELLS, placed
from audiorep.select.pool import Chosen, Needs, Pool, Selector
from audiorep.select.scores import Score
from audiorep.select.top import highest, score_of, some


def typicality(x: Float[Tensor, "n d"], others: Float[Tensor, "s d"], neighbours: int) -> Float[Tensor, " n"]:
    """``1 / mean distance of x_i to its nearest others``, at most `neighbours` of them, x_i itself not counted.

    Where x_i lies on its neighbours the distance counts as 1e-6 of the mean; alone in its cluster a clip has 0.

    Args:
        others: rows among which the neighbours are; the rows of x are among them.

    Source: Hacohen et al. 2022, arXiv:2202.02794, section 3.
    """
    count = min(neighbours, len(others) - 1)
    if count < 1:
        return x.new_zeros(len(x))
    norm = others.square().sum(1)
    found = []
    for piece in x.split(max(1, CELLS // len(others))):
        squared = torch.addmm(norm, piece, others.T, alpha=-2.0).add_(piece.square().sum(1)[:, None]).clamp_min_(0.0)
        near = squared.topk(count + 1, 1, largest=False, sorted=True).values.sqrt_()
        found.append(near[:, 1:].mean(1))
    distance = torch.cat(found)
    return 1.0 / distance.clamp_min(1e-6 * float(distance.mean()) + 1e-30)


class TypiClust(Selector):
    """For a start without labels: the most typical clip of the largest cluster that has no answer yet, again and again.

    k-means into as many clusters as there are answered clips and clips to choose (at most `clusters`); each next clip
    comes from the cluster with the fewest answered and chosen clips, of these the largest, and is its most typical. The
    score is its typicality: the inverse of the mean distance to its nearest neighbours in the cluster.

    Args:
        neighbours: that typicality looks at.
        clusters: at most.
        smallest: clusters with fewer clips come after the others, as those are outliers.
        sample: clips that k-means sees and that typicality compares within a cluster; the others join the nearest centre.
        normalise: compare directions from the mean (see `audiorep.select.geometry.placed`); False: places.

    Raises:
        AudiorepError: a number below 1.

    Source: Hacohen et al. 2022, arXiv:2202.02794, section 3; 20 neighbours and 500 clusters as there, where clusters of
    fewer than 5 are never asked.
    """

    def __init__(
        self, neighbours: int = 20, clusters: int = 500, smallest: int = 5, sample: int = 10000, normalise: bool = True
    ) -> None:
        if min(neighbours, clusters, sample) < 1:
            raise AudiorepError(
                f"selector: neighbours={neighbours}, clusters={clusters}, sample={sample}: each 1 at least"
            )
        self.neighbours, self.clusters, self.smallest, self.sample = neighbours, clusters, smallest, sample
        self.normalise = normalise

    def pick(self, pool: Pool, k: int, rng: torch.Generator) -> Chosen:
        x, labelled = placed(pool, self.normalise)
        every = torch.cat([x, labelled])
        count = min(len(labelled) + k, self.clusters)
        seen = every[some(len(every), max(count, self.sample), rng)]
        cluster = nearest(every, kmeans(seen, count, rng)[0])
        size = torch.bincount(cluster, minlength=count)
        answered = torch.bincount(cluster[len(x) :], minlength=count)
        ranked: dict[int, tuple[list[int], list[float]]] = {}
        rows, score = [], []
        members = [group.tolist() for group in grouped(cluster[: len(x)], count)]
        left = torch.tensor([len(group) for group in members], device=x.device)
        wanted = size.float() - (size < self.smallest) * float(len(every))  # the largest first, outliers last
        for _ in range(k):
            fewest = answered.masked_fill(left == 0, len(every) + 1)
            c = int(torch.where(fewest == fewest.amin(), wanted, -torch.inf).argmax())
            if c not in ranked:
                ranked[c] = self.typical(every, cluster == c, torch.tensor(members[c], device=x.device), rng)
            place = len(members[c]) - int(left[c])
            rows.append(ranked[c][0][place])
            score.append(ranked[c][1][place])
            answered[c] += 1
            left[c] -= 1
        return Chosen(torch.tensor(rows, device=x.device), torch.tensor(score, device=x.device))

    def typical(
        self, every: Float[Tensor, "n d"], inside: Tensor, members: Int[Tensor, " s"], rng: torch.Generator
    ) -> tuple[list[int], list[float]]:
        """The clips of a cluster that may be asked, the most typical first, and how typical each is.

        Of a cluster with more clips than `sample`, so many drawn ones are compared, and the others come after them.
        """
        some_members = members[some(len(members), self.sample, rng)]
        neighbours = torch.cat([some_members, inside.nonzero().flatten()]).unique()
        neighbours = neighbours if len(neighbours) <= self.sample else some_members
        found = typicality(every[some_members], every[neighbours], self.neighbours)
        order = found.argsort(descending=True, stable=True)
        rest = members[torch.isin(members, some_members, invert=True)]
        return torch.cat([some_members[order], rest]).tolist(), found[order].tolist() + [0.0] * len(rest)


def grouped(cluster: Int[Tensor, " n"], count: int) -> list[Int[Tensor, " _"]]:
    """The rows of each cluster."""
    order = cluster.argsort(stable=True)
    return list(order.split(torch.bincount(cluster, minlength=count).tolist()))


class Dbal(Selector):
    """Diverse mini-batches: of the ``beta k`` most uncertain clips, k-means weighted by uncertainty; of each cluster the
    clip nearest its centre. Clusters of much uncertainty come first; the score is the clip's own.

    Args:
        score: how uncertain a clip is.
        beta: how many times k clips are clustered.
        passes: whether the score compares several passes.
        normalise: compare directions from the mean (see `audiorep.select.geometry.placed`); False: places.

    Raises:
        AudiorepError: beta below 1.

    Source: Zhdanov 2019, arXiv:1901.05954 (with the margin, and beta of 10 and 50).
    """

    def __init__(self, score: Score, beta: float = 10.0, passes: bool = False, normalise: bool = True) -> None:
        if beta < 1.0:
            raise AudiorepError(f"selector.beta={beta}: 1 at least, so that there are enough clips to choose from")
        self.score, self.beta, self.normalise = score, beta, normalise
        self.needs = Needs(probabilities=True, trained=True, passes=passes)

    def pick(self, pool: Pool, k: int, rng: torch.Generator) -> Chosen:
        score = score_of(self.score, pool)
        rows = highest(score, min(len(score), round(self.beta * k)), rng)
        x, weight = placed(pool, self.normalise, rows)[0], score[rows]
        weight = weight.clamp_min(1e-6 * float(weight.amax()) + 1e-30) / float(weight.amax() + 1e-30)
        centre, cluster = kmeans(x, k, rng, weight=weight)
        far = (x - centre[cluster]).square().sum(1)
        heavy = x.new_zeros(k).index_add_(0, cluster, weight)
        chosen = [group[far[group].argmin()] for group in grouped(cluster, k)]
        order = heavy.argsort(descending=True, stable=True)
        found = rows[torch.stack(chosen)[order]]
        return Chosen(found, score[found])
