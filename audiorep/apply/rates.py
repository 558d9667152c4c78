"""Calls per hour with 95 % intervals: what was counted, over what was listened to."""

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from scipy.special import betaincinv, gammaincinv, ndtr, stdtrit

GROUPS, ROWS = 1024, 4096
"""So many efforts and rates are resampled at a time, so that memory does not grow with the tables."""


def intervals(
    calls: csr_array, effort_h: csr_array, group: Int[np.ndarray, " r"], resamples: int = 1000, seed: int = 0
) -> tuple[Float[np.ndarray, " r"], Float[np.ndarray, " r"]]:
    """The 95 % interval of ``sum_u calls / sum_u effort_h`` of every row: the wider, at each end, of two.

    The bootstrap over units (`bootstrap_bounds`) holds what differs from day to day: weather, mood, season. The Poisson
    interval (`poisson_bounds`) holds what chance alone does to calls that know nothing of each other: it has an upper end
    where no call was heard at all, and is the only one where there is a single unit; then, as calls come in bouts, it is
    too narrow.

    Args:
        calls: [r u] in each unit (a day).
        effort_h: [g u] hours listened.
        group: [r] row of `effort_h`, in rising order.
    """
    counted, hours = calls.sum(1), effort_h.sum(1)[group]
    low, high = poisson_bounds(np.asarray(counted), np.asarray(hours))
    lower, upper = bootstrap_bounds(calls, effort_h, group, resamples, seed)
    return np.fmin(low, lower), np.fmax(high, upper)


def poisson_bounds(
    calls: Float[np.ndarray, " r"], effort_h: Float[np.ndarray, " r"]
) -> tuple[Float[np.ndarray, " r"], Float[np.ndarray, " r"]]:
    """Exact 95 % interval of a Poisson rate: ``chi2_{.025, 2 n} / 2 h`` and ``chi2_{.975, 2 n + 2} / 2 h``; from 0 for none.

    Source: Garwood 1936, doi:10.2307/2333958.
    """
    low = gammaincinv(np.maximum(calls, 1.0), 0.025) * (calls > 0)
    return low / effort_h, gammaincinv(calls + 1.0, 0.975) / effort_h


def binomial_bounds(hits: int, tries: int) -> tuple[float, float]:
    """Exact 95 % interval of a part: the beta quantiles ``B_{.025}(k, n - k + 1)`` and ``B_{.975}(k + 1, n - k)`` for k
    hits of n tries; from 0 for none, to 1 for all.

    Source: Clopper & Pearson 1934, doi:10.1093/biomet/26.4.404.
    """
    low = betaincinv(hits, tries - hits + 1, 0.025) if hits else 0.0
    return float(low), float(betaincinv(hits + 1, tries - hits, 0.975)) if hits < tries else 1.0


def bootstrap_bounds(
    calls: csr_array, effort_h: csr_array, group: Int[np.ndarray, " r"], resamples: int = 1000, seed: int = 0
) -> tuple[Float[np.ndarray, " r"], Float[np.ndarray, " r"]]:
    """Expanded 95 % percentile interval of the Bayesian bootstrap of ``sum_u w_u calls_u / sum_u w_u effort_u``.

    The weights w are drawn once from the exponential distribution with mean 1 for all units; those of the units of a row,
    divided by their sum, are Dirichlet distributed, so that every row has a bootstrap of its own units. The quantiles are
    ``q`` and ``1 - q``, ``q = Phi(-sqrt((g + 1) / (g - 1)) t_{.975, g - 1})`` for g units, which makes up for the variance
    that such weights miss, ``(g - 1) / (g + 1)`` of it, and for few units. NaN for fewer than two.

    Args:
        calls, effort_h, group: as `intervals`.

    Source: Rubin 1981, doi:10.1214/aos/1176345338; Hesterberg 2015, arXiv:1411.5279 (expanded percentiles).
    """
    low, high = np.full(calls.shape[0], np.nan), np.full(calls.shape[0], np.nan)
    units = np.diff(effort_h.indptr)
    several = units > 1
    if not several.any():
        return low, high
    g = np.maximum(units, 2)
    level = ndtr(-np.sqrt((g + 1) / (g - 1)) * stdtrit(g - 1, 0.975))
    weight = np.random.default_rng(seed).exponential(size=(calls.shape[1], resamples))
    for first in range(0, len(units), GROUPS):
        begin, end = np.searchsorted(group, [first, first + GROUPS])
        hours = effort_h[first : first + GROUPS] @ weight
        rows = np.arange(begin, end)[several[group[begin:end]]]
        for i in range(0, len(rows), ROWS):
            some = rows[i : i + ROWS]
            drawn = np.sort((calls[some] @ weight) / hours[group[some] - first], axis=1)
            low[some], high[some] = (quantile(drawn, q) for q in (level[group[some]], 1.0 - level[group[some]]))
    return low, high


def quantile(ordered: Float[np.ndarray, "r m"], q: Float[np.ndarray, " r"]) -> Float[np.ndarray, " r"]:
    """The quantile q of each row of numbers in rising order, between two of them in proportion."""
    place = q * (ordered.shape[1] - 1)
    below = np.floor(place).astype(int)
    above, row = np.minimum(below + 1, ordered.shape[1] - 1), np.arange(len(ordered))
    return ordered[row, below] + (place - below) * (ordered[row, above] - ordered[row, below])
