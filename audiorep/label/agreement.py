"""How far annotators agree beyond chance: Cohen's and Fleiss' kappa, and Krippendorff's alpha where numbers vary."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np
from jaxtyping import Int

from audiorep.errors import AudiorepError
from audiorep.label.answer import Answer
from audiorep.label.settle import by_clip, presence, whole


def cohen_kappa(counts: Int[np.ndarray, "k k"]) -> float:
    """``(p_o - p_e) / (1 - p_e)``, ``p_o = sum_i n_ii / n``, ``p_e = sum_i n_i. n_.i / n^2``: two annotators.

    Args:
        counts: n_ij clips that the first put into category i and the second into j.

    Returns:
        1 for full agreement, 0 for what chance would give; NaN without a clip, or where both only ever say the same one
        category.

    Source: Cohen 1960, doi:10.1177/001316446002000104.
    """
    n = int(counts.sum())
    # in whole numbers, so that no rounding stands in for 0
    agreed, chance = n * int(np.trace(counts)), int(counts.sum(1) @ counts.sum(0))
    return (agreed - chance) / (n * n - chance) if n * n != chance else math.nan


def fleiss_kappa(counts: Int[np.ndarray, "n k"]) -> float:
    """``(P - P_e) / (1 - P_e)``, ``P = mean_i sum_j n_ij (n_ij - 1) / (m (m - 1))``, ``P_e = sum_j p_j^2``: m annotators of
    every clip, who need not be the same ones.

    Args:
        counts: n_ij annotators who put clip i into category j.

    Returns:
        as `cohen_kappa`.

    Raises:
        AudiorepError: clips of fewer than two annotators or of unequal numbers, for which the formula does not hold: leave
            out what not all have answered, or take `krippendorff_alpha`.

    Source: Fleiss 1971, doi:10.1037/h0031619.
    """
    if not counts.sum():
        return math.nan
    each = counts.sum(1)
    m, n = int(each[0]), len(counts)
    if m < 2 or (each != m).any():
        raise AudiorepError(
            f"Fleiss' kappa: clips of {each.min()} to {each.max()} annotators; it needs equal numbers, two at least: leave"
            " out clips that not all have answered, or take Krippendorff's alpha"
        )
    part = counts.sum(0) / (n * m)
    agreed, chance = float((counts * (counts - 1)).sum()) / (n * m * (m - 1)), float(part @ part)
    return (agreed - chance) / (1.0 - chance) if (counts.sum(0) < n * m).all() else math.nan


def krippendorff_alpha(counts: Int[np.ndarray, "n k"]) -> float:
    """``1 - D_o / D_e`` for categories, ``D_o = 1/N sum_i sum_{j != l} n_ij n_il / (m_i - 1)``,
    ``D_e = sum_{j != l} N_j N_l / (N (N - 1))``, over clips of m_i >= 2 annotators: their numbers may vary.

    Args:
        counts: n_ij annotators who put clip i into category j; clips of fewer than two do not count.

    Returns:
        as `cohen_kappa`.

    Source: Krippendorff 2011, Computing Krippendorff's alpha-reliability, repository.upenn.edu/asc_papers/43, part C.
    """
    pairable = counts[counts.sum(1) > 1]
    each, of = pairable.sum(1), pairable.sum(0)
    n = int(each.sum())
    expected = n * n - int(of @ of)
    if not expected:
        return math.nan
    observed = float(((each**2 - (pairable**2).sum(1)) / (each - 1)).sum())
    return 1.0 - observed * (n - 1) / expected


@dataclass(frozen=True)
class Agreement:
    """How far the annotators of a store agree.

    cohen: {(annotator, annotator): (kappa, clips that both answered)}.
    fleiss, fleiss_clips: of all annotators, over the clips that each of them answered; NaN where there is none.
    alpha, alpha_clips: over all clips that two or more answered.
    """

    cohen: dict[tuple[str, str], tuple[float, int]]
    fleiss: float
    fleiss_clips: int
    alpha: float
    alpha_clips: int


def agreement(answers: Sequence[Answer], name: str | None = None) -> Agreement:
    """Agreement of annotators, adjudications left aside.

    Args:
        answers: from `audiorep.label.settle.current`. What was skipped is not answered.
        name: a class: only whether it is there, in clips of which that was said. None: the answer as a whole, in which
            unknown and noise are categories like any other.
    """
    category: Callable[[Answer], Hashable] = whole if name is None else partial(presence, name=name)
    said: dict[str, dict[str, Hashable]] = {
        clip: {
            one.annotator: category(one)
            for one in of_clip
            if one.kind != "skip" and one.source != "adjudication" and category(one) is not None
        }
        for clip, of_clip in by_clip(answers).items()
    }
    number = {value: i for i, value in enumerate(dict.fromkeys(v for votes in said.values() for v in votes.values()))}
    people = sorted({annotator for votes in said.values() for annotator in votes})
    full = [votes for votes in said.values() if len(votes) == len(people)] if len(people) > 1 else []
    several = [votes for votes in said.values() if len(votes) > 1]
    return Agreement(
        {(a, b): _pair(said, number, a, b) for a, b in combinations(people, 2)},
        fleiss_kappa(_counts(full, number)),
        len(full),
        krippendorff_alpha(_counts(several, number)),
        len(several),
    )


def _counts(clips: Sequence[Mapping[str, Hashable]], number: Mapping[Hashable, int]) -> np.ndarray:
    """[n k] annotators of each clip by category."""
    out = np.zeros((len(clips), len(number)), np.int64)
    for row, votes in enumerate(clips):
        for value in votes.values():
            out[row, number[value]] += 1
    return out


def _pair(
    said: Mapping[str, Mapping[str, Hashable]], number: Mapping[Hashable, int], a: str, b: str
) -> tuple[float, int]:
    out = np.zeros((len(number), len(number)), np.int64)
    for votes in said.values():
        if a in votes and b in votes:
            out[number[votes[a]], number[votes[b]]] += 1
    return cohen_kappa(out), int(out.sum())
