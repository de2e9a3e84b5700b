"""Areas under curves over the order of a score, as values and as influence functions in that order."""

from __future__ import annotations

import numpy as np

from causalrec._typing import FloatArray
from causalrec.evaluation._ranked import Ranked
from causalrec.evaluation._sorting import BLOCK


def area_value(ranked: Ranked, centre: float) -> float:
    """The integral of C(q) - 2 centre q C(1) over q in (0, 1); ``centre`` is 0 for the area, 0.5 for the Qini.

    By partial summation the integral of C is the mean of gamma (1 - rank), and that of q C(1) is half the mean.
    """
    if centre == 0.5 and ranked.constant:
        return 0.0
    n = ranked.n
    if ranked.unweighted and not ranked.tied:
        total, by_rank, place = 0.0, 0.0, np.arange(BLOCK) + 0.5
        for start, gamma in ranked.gamma_blocks():
            own = float(gamma.sum())
            total += own
            # Not np.dot, whose threads cost more than they save.
            by_rank += float(np.einsum("i,i->", gamma, place[: len(gamma)])) + start * own
        return ((1 - centre) * total - by_rank / n) / n
    value = ranked.weight * ranked.gamma
    return float((1 - centre) * value.sum() - value @ ranked.rank) / n


def area_score(ranked: Ranked, centre: float) -> tuple[float, FloatArray]:
    """:func:`area_value` and its influence function.

    It has two terms, as for any rank statistic: the unit's own contribution, and its push on the ranks of the units
    below it. Estimated shares of the arms bring a third.
    """
    w, n = ranked.weight, ranked.n
    if centre == 0.5 and ranked.constant:
        return 0.0, np.zeros(n)
    multiplier = 1 - centre - ranked.rank
    value = w * ranked.gamma
    influence = value * multiplier
    estimate = float(influence.sum()) / n
    gain = ranked.at_ends(np.cumsum(value))
    below = 2 * gain[-1] - gain
    below[1:] -= gain[:-1]
    below /= 2 * n
    influence -= w * ranked.spread(below)
    return estimate, _finished(ranked, influence, w * multiplier)


def toc_mean_value(ranked: Ranked) -> float:
    r"""AUTOC, the mean of TOC(q) = C(q) / q - C(1) over the grid of all units.

    As the R package grf computes it (Yadlowsky et al. 2025, section 2): a weighted mean over the units j of
    :math:`\sum_{i \le j} w_i \Gamma_i / \sum_{i \le j} w_i - \bar\Gamma`, the scores of equal predictions being
    averaged. Their weights are averaged too, so that row order never matters. Summed the other way it is a mean of
    :math:`\Gamma_i (h_i - 1)` with :math:`h_i = \sum_{j \ge i} w_j / \sum_{l \le j} w_l`.
    """
    if ranked.constant:
        return 0.0
    return float((ranked.weight * ranked.gamma) @ (_toc_multiplier(ranked) - 1)) / ranked.n


def toc_mean(ranked: Ranked) -> tuple[float, FloatArray]:
    """:func:`toc_mean_value` and its influence function."""
    w, n = ranked.weight, ranked.n
    if ranked.constant:
        return 0.0, np.zeros(n)
    multiplier = _toc_multiplier(ranked) - 1
    value = w * ranked.gamma
    influence = value * multiplier
    estimate = float(influence.sum()) / n
    grid = _grid_weight(ranked)
    above = np.cumsum(grid)
    mean_above = np.cumsum(_averaged(ranked, value)) / above
    influence += w * _averaged(ranked, mean_above - _from_below(grid * mean_above / above))
    return estimate, _finished(ranked, influence, w * multiplier)


def _finished(ranked: Ranked, influence: FloatArray, multiplier: FloatArray) -> FloatArray:
    """With the terms of the estimated shares, and brought to a sum of zero."""
    for slope, share in ranked.share_terms:
        influence -= float((multiplier * slope).sum()) / ranked.n * share
    influence -= ranked.weight * (influence.sum() / ranked.n)
    return influence


def _toc_multiplier(ranked: Ranked) -> FloatArray:
    grid = _grid_weight(ranked)
    return _averaged(ranked, _from_below(grid / np.cumsum(grid)))


def _grid_weight(ranked: Ranked) -> FloatArray:
    return _averaged(ranked, ranked.weight)


def _from_below(values: FloatArray) -> FloatArray:
    """Sums of each value and all below it."""
    return np.cumsum(values[::-1])[::-1]


def _averaged(ranked: Ranked, values: FloatArray) -> FloatArray:
    """Plain means over equal predictions."""
    if not ranked.tied:
        return values
    size = ranked.group_size
    sums = np.add.reduceat(values, ranked.group_end - size + 1)
    return np.repeat(sums / size, size)
