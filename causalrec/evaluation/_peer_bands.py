r"""Pointwise errors of other packages' curves, for the best share of the population.

At a fixed share of the units a row moves the value through the sums up to the point, through those of all units, and by
pushing the point itself along the curve. All of this is linear in six things that a row brings: one, whether it is
treated, and what it adds to the sums of its arm. So with coefficients :math:`\alpha` for every row and :math:`\beta`
for those before the point the squares of the influence function add up to
:math:`\alpha' M \alpha + 2 \alpha' M_j \beta + \beta' M_j \beta`; the moments M are summed once, from point to point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np

from causalrec._typing import FloatArray, IntArray
from causalrec.evaluation._peer_curves import N_C, N_T, Y_C, Y_T, Curve, Rows, X
from causalrec.results import NAN

# Share of the units on either side of a point over which the slope of a curve is taken.
_WINDOW = 0.05
# Places of what a row brings: as in the five sums, and whether it is treated.
_TREATED = 5


def std_errors(
    rows: Rows,
    sums: FloatArray,
    curve: Curve,
    points: IntArray,
    *,
    by_weights: bool,
    shares_estimated: bool,
    clusters: IntArray | None,
    n_units: int,
) -> FloatArray:
    """The standard error at each point.

    Parameters
    ----------
    rows : Rows
    sums : array of shape (5, m)
        That ``curve`` was made of.
    points : int array of shape (p,)
        Places in the curve.
    by_weights : bool
        Whether the share of the units is counted by the weights of the arms' sums, as pylift does.
    shares_estimated : bool
        Whether those weights hold the share treated of these rows.
    clusters : int array of shape (n,), optional
    n_units : int
        Rows, or clusters, of the population, those of other arms counted.

    Returns
    -------
    array of shape (p,)
        NaN where the curve is interpolated, and for a single cluster.
    """
    brought = _brought(rows)
    ends = rows.group_end[points] + 1
    mean = brought.sum(axis=1)
    coefficients = list(_coefficients(rows, sums, curve, points, by_weights, shares_estimated))
    squares = (
        _squares(brought, ends, n_units) if clusters is None else _squares_by_cluster(brought, ends, clusters, n_units)
    )
    errors = np.empty(len(points))
    for i, ((every, before), (first, of_squares)) in enumerate(zip(coefficients, squares, strict=True)):
        every[X] -= (every @ mean + before @ first) / len(rows.y)
        errors[i] = np.sqrt(np.maximum(of_squares(every, before), 0.0))
    return errors


def _brought(rows: Rows) -> FloatArray:
    """What each row brings, times its weight, shape (6, n)."""
    treated, control = rows.treated * rows.treated_factor, (1 - rows.treated) * rows.control_factor
    parts = np.stack([np.ones(len(rows.y)), treated, control, treated * rows.y, control * rows.y, rows.treated])
    return np.asarray(parts * rows.weight)


def _coefficients(
    rows: Rows, sums: FloatArray, curve: Curve, points: IntArray, by_weights: bool, shares_estimated: bool
) -> Iterator[tuple[FloatArray, FloatArray]]:
    """The coefficients of every row and of those before each point, shape (6,)."""
    size = sums[N_T] + sums[N_C] if by_weights else sums[X]
    axis = np.array([0.0, 1.0, 1.0, 0.0, 0.0] if by_weights else [1.0, 0.0, 0.0, 0.0, 0.0]) / size[-1]
    share, reach = size / size[-1], max(_WINDOW, 1 / len(rows.y))
    w_t, w = float(rows.weight @ rows.treated), float(rows.weight.sum())
    for j in points:
        low, high = max(share[j] - reach, 0.0), min(share[j] + reach, 1.0)
        ends = np.interp([low, high], np.r_[0.0, share], np.r_[0.0, curve.value])
        rise = (ends[1] - ends[0]) / (high - low)
        every, before = np.zeros(6), np.zeros(6)
        before[:_TREATED], every[:_TREATED] = curve.slope[:, j] - rise * axis, rise * share[j] * axis
        if curve.total_slope is not None:
            every[:_TREATED] += curve.total_slope[:, j]
        if by_weights and shares_estimated:
            # The factors n / (2 n_t) and n / (2 n_c) of the arms' sums move with the share treated.
            arms = before[:_TREATED] * sums[:, j] + every[:_TREATED] * sums[:, -1]
            of_treated, of_control = arms[N_T] + arms[Y_T], arms[N_C] + arms[Y_C]
            every[X] += of_treated / w + of_control * (1 / w - 1 / (w - w_t))
            every[_TREATED] += of_control / (w - w_t) - of_treated / w_t
        if j < curve.first:
            every[:] = NAN
        yield every, before


# What rows before a point bring in all, and the sum of squares given coefficients of every row and of those before.
_Moments: TypeAlias = tuple[FloatArray, Callable[[FloatArray, FloatArray], float]]


def _squares(brought: FloatArray, ends: IntArray, n_obs: int) -> Iterator[_Moments]:
    whole, before, first = brought @ brought.T, np.zeros((6, 6)), np.zeros(6)
    start = 0
    for end in ends:
        part = brought[:, start:end]
        before, first, start = before + part @ part.T, first + part.sum(axis=1), int(end)
        yield first, _quadratic(whole, before, n_obs / (n_obs - 1) if n_obs > 1 else NAN)


def _quadratic(whole: FloatArray, before: FloatArray, scale: float) -> Callable[[FloatArray, FloatArray], float]:
    return lambda a, b: scale * float(a @ whole @ a + 2 * a @ before @ b + b @ before @ b)


def _squares_by_cluster(brought: FloatArray, ends: IntArray, clusters: IntArray, n_clusters: int) -> Iterator[_Moments]:
    count = int(clusters.max()) + 1
    scale = n_clusters / (n_clusters - 1) if n_clusters > 1 else NAN
    whole, before, first = _by_cluster(brought, clusters, count), np.zeros((6, count)), np.zeros(6)
    start = 0
    for end in ends:
        part = brought[:, start:end]
        before = before + _by_cluster(part, clusters[start:end], count)
        first, start = first + part.sum(axis=1), int(end)
        yield first, _of_clusters(whole, before, scale)


def _of_clusters(whole: FloatArray, before: FloatArray, scale: float) -> Callable[[FloatArray, FloatArray], float]:
    return lambda a, b: scale * float(np.square(a @ whole + b @ before).sum())


def _by_cluster(brought: FloatArray, clusters: IntArray, count: int) -> FloatArray:
    return np.stack([np.bincount(clusters, weights=row, minlength=count) for row in brought])
