"""The order in which money is best spent: every row's useful steps from arm to arm, highest gain per cost first."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from causalrec._typing import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Path:
    """Steps in the order in which they are taken.

    Attributes
    ----------
    unit, before, after : int arrays of shape (s,)
        The row, the arm that it leaves and the one that it gets (0 is control).
    run : array of shape (s,)
        What the step costs.
    slope : array of shape (s,)
        Predicted gain per cost; it never rises.
    end : int array of shape (g,)
        Last step of every group of equal slopes.
    spend : array of shape (g,)
        Spent up to there, per unit of the population.
    """

    unit: IntArray = field(repr=False)
    before: IntArray = field(repr=False)
    after: IntArray = field(repr=False)
    run: FloatArray = field(repr=False)
    slope: FloatArray = field(repr=False)
    end: IntArray = field(repr=False)
    spend: FloatArray = field(repr=False)

    @property
    def total(self) -> float:
        """Spent when all steps are taken."""
        return float(self.spend[-1]) if len(self.spend) else 0.0


def hull_steps(
    gain: FloatArray, cost: FloatArray, floor: float = 0.0
) -> tuple[IntArray, IntArray, IntArray, FloatArray, FloatArray]:
    """Each row's steps along the upper convex hull of its arms' (cost, gain), from control at (0, 0).

    From where it is, a row goes on to the arm with the steepest slope, to the nearest of several; arms below the hull
    are never the best use of money (Sverdrup, Wu, Athey and Wager 2023, arXiv 2306.11979, "Qini curves for multi-armed
    treatment rules", section 2.2; Sinha and Zoltners 1979, Operations Research 27, "The multiple-choice knapsack
    problem"). Rows are walked all at once: at most m rounds over what is left of them.

    Parameters
    ----------
    gain, cost : arrays of shape (n, m)
        Costs above zero.
    floor : float
        Steps whose slope is not above it are not taken.

    Returns
    -------
    unit, before, after, run, slope : arrays of shape (s,)
        By row, and within a row in the order of the steps; slopes of a row never rise.
    """
    n, m = gain.shape
    rows, at = np.arange(n), np.zeros(n, dtype=np.int64)
    here_gain, here_cost, last = np.zeros(n), np.zeros(n), np.full(n, np.inf)
    found: list[tuple[IntArray, IntArray, IntArray, FloatArray, FloatArray]] = []
    for _ in range(m):
        run = cost[rows] - here_cost[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = np.where(run > 0, (gain[rows] - here_gain[:, None]) / run, -np.inf)
        best = slope.max(axis=1)
        arm = np.where(slope == best[:, None], run, np.inf).argmin(axis=1)
        on = best > floor
        rows, arm, best, before, last = rows[on], arm[on], best[on], at[on], last[on]
        if not len(rows):
            break
        last = np.minimum(best, last)  # equal slopes may seem to rise by rounding
        found.append((rows, before, arm + 1, run[on, arm], last))
        at, here_gain, here_cost = arm + 1, gain[rows, arm], cost[rows, arm]
    if not found:
        empty = np.empty(0, dtype=np.int64)
        return empty, empty, empty, np.empty(0), np.empty(0)
    unit, before, after, run, slope = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.argsort(unit, kind="stable")
    return unit[order], before[order], after[order], run[order], slope[order]


def make_path(
    unit: IntArray, before: IntArray, after: IntArray, run: FloatArray, slope: FloatArray, weight: FloatArray
) -> Path:
    """Sort steps by slope, ties by row; rows of weight zero take none.

    Parameters
    ----------
    unit, before, after, run, slope : arrays of shape (s,)
        As from :func:`hull_steps`.
    weight : array of shape (n,)
        With a mean of one over the rows that have any.
    """
    if (weight == 0).any():
        there = weight[unit] > 0
        unit, before, after = unit[there], before[there], after[there]
        run, slope = run[there], slope[there]
    order = np.argsort(-slope, kind="stable")
    slope = slope[order]
    unit, before, after, run = unit[order], before[order], after[order], run[order]
    end = np.flatnonzero(np.r_[slope[1:] != slope[:-1], len(slope) > 0])
    spend = np.cumsum(weight[unit] * run)[end] / np.count_nonzero(weight)
    return Path(unit, before, after, run, slope, end, spend)
