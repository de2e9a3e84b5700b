"""Distributions of matched-set statistics under the worst hidden bias of a size, and effects that tests leave open."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import optimize, stats

from causalrec._typing import BoolArray, FloatArray, IntArray

_MOST_EXACT = 100  # pairs whose signed ranks are counted out
_MOST_TRIALS = 4000  # discordant sets of several sizes
_MOST_WALSH = 1500  # differences whose averages are written out
_LARGEST_GAMMA = 1e12


def bernoulli_tail(scores: FloatArray, statistic: float, p: float, *, exact: bool) -> float:
    """P(Σ q_s B_s >= statistic) of independent B_s that are 1 with probability p.

    Rosenbaum 2002, Observational Studies, section 4.3.3, with p = Γ / (1 + Γ). Exactly by convolution (scores are
    multiples of 1/2, as average ranks are), or by a normal distribution of the same mean and variance.

    Examples
    --------
    >>> bernoulli_tail(np.array([1.0, 2.0]), 2.0, 0.5, exact=True)
    0.5
    """
    if exact:
        steps = np.rint(2 * scores).astype(np.int64)
        mass = np.zeros(int(steps.sum()) + 1)
        mass[0] = 1.0
        for step in steps:
            moved = p * mass[: len(mass) - step]
            mass *= 1 - p
            mass[step:] += moved
        return min(1.0, float(mass[round(2 * statistic) :].sum()))
    mean, spread = p * scores.sum(), math.sqrt(p * (1 - p) * float(scores @ scores))
    return float(stats.norm.sf((statistic - mean) / spread))


def trials_tail(groups: list[tuple[int, float]], statistic: int) -> float:
    """P(at least ``statistic`` successes) in independent trials: how many there are of each chance.

    Rosenbaum 2002, section 4.4. One group by the binomial distribution; several exactly by convolution, or by a normal
    distribution, corrected for continuity, where there are more than 4,000 trials.

    Examples
    --------
    >>> round(trials_tail([(122, 0.8)], 110), 5)
    0.00196
    """
    if len(groups) == 1:
        return float(stats.binom.sf(statistic - 1, *groups[0]))
    if sum(n for n, _ in groups) > _MOST_TRIALS:
        mean = sum(n * p for n, p in groups)
        spread = math.sqrt(sum(n * p * (1 - p) for n, p in groups))
        return float(stats.norm.sf((statistic - 0.5 - mean) / spread))
    mass = np.ones(1)
    for n, p in groups:
        mass = np.convolve(mass, stats.binom.pmf(np.arange(n + 1), n, p))
    return min(1.0, float(mass[statistic:].sum()))


def set_moments(scores: FloatArray, start: IntArray, gamma: float) -> tuple[float, float]:
    """Greatest mean, and variance there, of Σ over sets of the score of the one who is treated.

    In each set of n the odds of being the one differ by at most Γ. The mean is greatest for u = 1 in the n - a units
    of the highest scores, for some a, u = 0 in the others (Rosenbaum and Krieger 1990, JASA 85); the set's part of the
    worst case is that with the greatest mean, and of these the greatest variance (Gastwirth, Krieger and Rosenbaum
    2000, JRSS B 62, "Asymptotic separability in sensitivity analysis").

    Parameters
    ----------
    scores : array of shape (n,), set by set, ascending within each
    start : int array of shape (m + 1,)
        Where each set begins, and the end.

    Examples
    --------
    >>> set_moments(np.array([0.0, 3.0, 0.0, 1.0]), np.array([0, 2, 4]), 2.0)
    (2.6666666666666665, 2.2222222222222223)
    """
    sizes = np.diff(start)
    mean = variance = 0.0
    for size in np.unique(sizes):
        q = scores[start[:-1][sizes == size][:, None] + np.arange(size)]
        low, low2 = np.cumsum(q, axis=1)[:, :-1], np.cumsum(q**2, axis=1)[:, :-1]
        rest = np.arange(1, size)
        weight = rest + gamma * (size - rest)
        first = (low + gamma * (q.sum(axis=1)[:, None] - low)) / weight
        second = (low2 + gamma * ((q**2).sum(axis=1)[:, None] - low2)) / weight - first**2
        greatest = first.max(axis=1)
        tied = first >= greatest[:, None] - 1e-12 * np.abs(q).max(axis=1)[:, None]
        mean += float(greatest.sum())
        variance += float(np.where(tied, second, 0.0).max(axis=1).sum())
    return mean, variance


def pair_averages_at(differences: FloatArray, place: int) -> float:
    """The ``place``-th smallest (from 1) of the Walsh averages (d_i + d_j) / 2, i <= j.

    Written out for up to 1,500 differences; of more found by bisection on the count of averages above a value, each in
    O(n log n), to the last digits.

    Examples
    --------
    >>> pair_averages_at(np.array([1.0, 3.0, 8.0]), 3), pair_averages_at(np.array([1.0, 3.0, 8.0]), 6)
    (3.0, 8.0)
    """
    d = np.sort(differences)
    n = len(d)
    if n <= _MOST_WALSH:
        i, j = np.triu_indices(n)
        return float(np.partition((d[i] + d[j]) / 2, place - 1)[place - 1])
    low, high = float(d[0]), float(d[-1])
    for _ in range(100):
        middle = low + (high - low) / 2
        if middle in (low, high):
            break
        if _averages_to(d, middle) >= place:
            high = middle
        else:
            low = middle
    return high


def _averages_to(d: FloatArray, value: float) -> int:
    """How many Walsh averages of sorted differences are at most the value."""
    reach = np.searchsorted(d, 2 * value - d, side="right")
    return int(reach.sum() + np.count_nonzero(d <= value)) // 2


def crossing(count: int, target: float) -> tuple[int, int]:
    """Places (from 1, of ``count`` in ascending order) between which the number above a value passes ``target``.

    Examples
    --------
    >>> crossing(6, 3.0), crossing(6, 2.5)
    ((3, 4), (4, 4))
    """
    left = count - target
    places = math.ceil(round(left, 9)), math.floor(round(left, 9)) + 1
    return min(max(places[0], 1), count), min(max(places[1], 1), count)


def critical_value(scores: FloatArray, p: float, alpha: float, *, exact: bool) -> int:
    """The least whole number that Σ q_s B_s reaches or passes with probability at most alpha; q_s are whole."""
    if exact:
        mass = np.ones(1)
        for step in scores.astype(np.int64):
            moved = np.concatenate([np.zeros(step), p * mass])
            moved[: len(mass)] += (1 - p) * mass
            mass = moved
        tail = np.cumsum(mass[::-1])[::-1]
        return int(np.count_nonzero(tail > alpha))
    mean, spread = p * scores.sum(), math.sqrt(p * (1 - p) * float(scores @ scores))
    return math.ceil(float(mean) + float(stats.norm.isf(alpha)) * spread)


def binomial_critical(n: int, p: float, alpha: float) -> int:
    """The least number of successes in n trials that is reached with probability at most alpha; n + 1 if none is."""
    return int(stats.binom.isf(alpha, n, p)) + 1


def turning_point(largest_pvalue: Callable[[float], float], alpha: float) -> float:
    """Where a p-value that grows with gamma passes alpha, by root finding; 1 where it is above at once.

    A test of few units never passes it at any gamma that matters, so that the search ends at 10¹².
    """

    def gap(log_gamma: float) -> float:
        return float(largest_pvalue(math.exp(log_gamma))) - alpha

    if gap(0.0) > 0:
        return 1.0
    high = 1.0
    while gap(high) <= 0:
        high *= 2
        if high > math.log(_LARGEST_GAMMA):
            return math.inf
    return math.exp(float(optimize.brentq(gap, 0.0, high, xtol=1e-12)))


def exact_is_cheap(n: int) -> bool:
    """Whether signed ranks of n pairs are counted out by default."""
    return n <= _MOST_EXACT


def signed_ranks(differences: FloatArray, zeros: str) -> tuple[FloatArray, BoolArray]:
    """Ranks of the absolute differences (means of ties; zero differences get 0) and which are positive.

    Zeros are left out before ranking (``"drop"``, Wilcoxon 1945), or ranked and then left out (``"keep"``, Pratt 1959,
    JASA 54).

    Examples
    --------
    >>> signed_ranks(np.array([0.0, -1.0, 2.0]), "keep")[0].tolist()
    [0.0, 2.0, 3.0]
    """
    kept = differences if zeros == "keep" else differences[differences != 0]
    return np.where(kept != 0, stats.rankdata(np.abs(kept)), 0.0), kept > 0
