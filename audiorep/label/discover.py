"""Groups of calls that nobody has named yet, to browse and to name at once; the newest first."""

from dataclasses import dataclass

import numpy as np
import torch

from audiorep.assign import kmeans
from audiorep.label.desk import Desk
from audiorep.types import generator

GROUPS = 12
MOST_ROWS = 20_000
"""Clips that are grouped: a draw of them where there are more."""


@dataclass(frozen=True)
class Group:
    """Unanswered clips that sound alike. rows: nearest to their middle first. novelty: distance from the middle to the
    nearest clip that was answered, in units of the distance to be expected between two clips; inf: nothing was."""

    rows: list[int]
    size: int
    novelty: float


def clusters(desk: Desk, groups: int = GROUPS) -> list[Group]:
    """k-means on the embeddings of what nobody has answered, the groups farthest from every answer first."""
    with desk.lock:
        desk.poll()
        free = desk.unanswered()
        known = np.array([row for row, kind in desk.verdicts.items() if kind.kind == "label"], np.int64)
    if not len(free):
        return []
    rng = np.random.default_rng(desk.settings.seed)
    rows = np.sort(rng.permutation(free)[:MOST_ROWS])
    x = desk.told.x[torch.from_numpy(rows)]
    middle, of = kmeans(x, min(groups, len(rows)), generator(desk.settings.seed, 5))
    usual = float((2.0 * x.var(0).sum()).sqrt().clamp_min(1e-9)) if len(x) > 1 else 1.0
    found = []
    for c in range(len(middle)):
        mine = (of == c).nonzero()[:, 0]
        nearest = (x[mine] - middle[c]).square().sum(1).argsort()
        novelty = 1.0
        if len(known):
            novelty = float((desk.told.x[torch.from_numpy(known)] - middle[c]).square().sum(1).min().sqrt()) / usual
        found.append(Group(rows[mine[nearest].numpy()].tolist(), len(mine), novelty))
    return sorted(found, key=lambda one: -one.novelty)
