"""Groups of calls that nobody has named yet, to browse and to name at once; those least like any answer first."""

from dataclasses import dataclass

import numpy as np
import torch

from audiorep.assign import kmeans
from audiorep.label.desk import Desk
from audiorep.types import generator

GROUPS = 12
MOST_ROWS = 5000
"""Clips whose groups are looked for: a draw of them where there are more. All are put into the groups then."""


@dataclass(frozen=True)
class Group:
    """Unanswered clips that sound alike. rows: nearest to their middle first. novelty: distance from the middle to the
    nearest clip that was named or called noise, in units of the distance to be expected between two clips; 1: nothing was."""

    rows: list[int]
    size: int
    novelty: float


def clusters(desk: Desk, groups: int = GROUPS) -> list[Group]:
    """k-means on the embeddings of what nobody has answered, the groups farthest from every answer first."""
    with desk.lock:
        desk.poll()
        free = desk.unanswered()
        told = [row for row, one in desk.record.settled.items() if one.kind in ("label", "noise")]
        known = np.array([row for row in told if desk.told.usable[row]], np.int64)
    if not len(free):
        return []
    rng = np.random.default_rng(desk.settings.seed)
    x, draw = desk.told.x, np.sort(rng.permutation(free)[:MOST_ROWS])
    middle, _ = kmeans(x[torch.from_numpy(draw)], min(groups, len(draw)), generator(desk.settings.seed, 5))
    apart = (desk.square[:, None] + middle.square().sum(1) - 2.0 * (x @ middle.T)).clamp_min_(0.0)
    of = apart[torch.from_numpy(free)].argmin(1).numpy()
    usual = float((2.0 * x[torch.from_numpy(draw)].var(0).sum()).sqrt().clamp_min(1e-9)) if len(draw) > 1 else 1.0
    found = []
    for c in range(len(middle)):
        mine = free[of == c]
        nearest = apart[torch.from_numpy(mine), c].argsort(stable=True).numpy()
        novelty = float(apart[torch.from_numpy(known), c].min().sqrt()) / usual if len(known) else 1.0
        if len(mine):
            found.append(Group(mine[nearest].tolist(), len(mine), novelty))
    return sorted(found, key=lambda one: -one.novelty)
