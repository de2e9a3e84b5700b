"""Curves and groups of an order, from a Spark DataFrame: as in :mod:`causalrec.evaluation.curves` and ``calibration``.

Once it is known which scores the points of a curve lie at, every row falls between two of them, and sums by such
intervals are all that the curve and its errors need.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from causalrec._typing import FloatArray, IntArray
from causalrec.evaluation._curve_errors import curve_errors, gain_coefficients, toc_coefficients, top_coefficients
from causalrec.evaluation._spark_order import Order, Ties, open_order
from causalrec.evaluation._spark_ranks import placed
from causalrec.evaluation._spark_rows import Rows, number
from causalrec.evaluation._spark_sums import running_moments, sums_by_group
from causalrec.evaluation._spark_tops import arm_columns, silent_groups
from causalrec.exceptions import TreatmentError

POINTS = 200
Curve = tuple[FloatArray, FloatArray, FloatArray]


def qini_points(rows: Rows) -> Curve:
    """Share q, gain C(q) and its standard error; :func:`causalrec.evaluation._curve_errors.gain_curve`."""
    order = open_order(rows, 0, count_ties=True)
    ends = order.at_numbers(_thinned(0, order.n_ties))
    q, gain, n = ends.share, ends.gain, rows.n
    moves, slopes = _share_columns(rows)
    found = running_moments(rows, *_intervals(order, ends), ["w * g", "w"], ["w", *moves], slopes)
    coefficients = gain_coefficients(q, gain, order.slopes(q), found.running / n)
    return q, gain, curve_errors(coefficients, found.products, n, found.units)


def toc_points(rows: Rows) -> Curve:
    """Share q, TOC(q) and its standard error; :func:`causalrec.evaluation._curve_errors.toc_points`."""
    order = open_order(rows, 0, count_ties=True)
    ends = order.at_numbers(_thinned(0, order.n_ties))
    q, n = ends.share, rows.n
    moves, slopes = _share_columns(rows)
    found = running_moments(rows, *_intervals(order, ends), ["w * g", "w"], ["w", "w * g", *moves], slopes)
    running = found.running / n
    coefficients = toc_coefficients(q, ends.gain, order.slopes(q), running, order.total, running[-1])
    toc, error = ends.gain / q - order.total, curve_errors(coefficients, found.products, n, found.units)
    toc[-1] = error[-1] = 0.0
    return q, toc, error


def uplift_points(rows: Rows) -> Curve:
    """Share q, the effect among the best q and its standard error; ``_curve_errors.top_effects``.

    Raises
    ------
    TreatmentError
        When an arm has a single unit.
    """
    order = open_order(rows, 0, count_ties=True)
    ends = order.at_numbers(_thinned(_first_wide(rows), order.n_ties))
    counts = [f"IF(arm = {arm}, 1D, 0D)" for arm in (1, 0)]
    columns = arm_columns(rows)
    found = running_moments(rows, *_intervals(order, ends), [*columns, "w"], ["w"], [*columns, *counts])
    residual, size, count = found.running[:, [0, 2]].T, found.running[:, [1, 3]].T, found.running[:, 4:].T
    effect, coefficients = top_coefficients(
        ends.share, order.slopes(ends.share), rows.means[1] - rows.means[0], residual, size, count, rows.n,
        clustered=rows.clustered,
    )  # fmt: skip
    return ends.share, effect, curve_errors(coefficients, found.products, rows.n, found.units)


CURVES: dict[str, Callable[[Rows], Curve]] = {
    "qini": qini_points, "toc": toc_points, "uplift": uplift_points, "cumulative_gain": uplift_points,
}  # fmt: skip


def _share_columns(rows: Rows) -> tuple[list[str], list[str]]:
    terms = range(rows.n_terms)
    return [f"move{i}" for i in terms], [f"w * slope{i}" for i in terms]


def _thinned(first: int, n_ties: int) -> IntArray:
    """At most :data:`POINTS` numbers of groups of equal scores, from ``first`` to the last."""
    n = n_ties - first
    some = np.arange(n) if n <= POINTS else np.unique(np.linspace(0, n - 1, POINTS).round().astype(np.int64))
    return np.asarray(first + some, dtype=np.int64)


def _first_wide(rows: Rows) -> int:
    """Number of the first group of equal scores down to which there are two units of each arm."""
    session, lowest = rows.frame.sparkSession, np.inf
    for arm in (0, 1):
        query = f"SELECT s0 FROM {{rows}} WHERE arm = {arm} ORDER BY s0 DESC LIMIT 2"
        best = session.sql(query, rows=rows.frame).toArrow().column(0).to_pylist()
        if len(best) < 2:
            raise TreatmentError("an arm has a single unit; its mean has no error. Collect more of it.")
        lowest = min(lowest, best[1])
    query = f"SELECT COUNT(DISTINCT s0) AS n FROM {{rows}} WHERE s0 >= {number(lowest)}"
    return int(session.sql(query, rows=rows.frame).toArrow().column(0)[0].as_py()) - 1


def _intervals(order: Order, ends: Ties) -> tuple[Any, str, int]:
    """The rows with the number of the first point at or below their score, the name of that column, how many."""
    return _numbered(order, ends.score)


def _numbered(order: Order, scores: FloatArray) -> tuple[Any, str, int]:
    m = len(scores)
    frame = placed(order.frame, order.score, scores[::-1], "_above")
    return frame, f"({m} - _above)", m


def group_effects(rows: Rows, bins: int | FloatArray) -> tuple[IntArray, FloatArray, FloatArray, FloatArray]:
    """Units, mean prediction, effect and its standard error in groups of the score, the best first.

    ``bins`` is a number of groups of equal size, or rising edges; as ``calibration.group_effects`` computes them.
    """
    order = open_order(rows, 0)
    cuts = _bin_scores(order, bins) if isinstance(bins, int) else bins[::-1]
    frame, place, m = _numbered(order, cuts)
    others = ["w", f"w * {order.score}", *(f"IF(arm = {arm}, 1D, 0D)" for arm in (1, 0))]
    found = sums_by_group(rows, frame, place, m + 1, arm_columns(rows), others)
    there = np.flatnonzero(found.n)
    weight, score, *counts = found.others[there].T
    enough = np.minimum(*counts) > 1
    effect = np.where(enough, rows.means[1] - rows.means[0], np.nan)
    coefficients = np.zeros((len(there), 4))
    for i, sign in enumerate((1.0, -1.0)):
        residual, size = found.features[there, 2 * i : 2 * i + 2].T
        size = np.where(enough, size, np.nan)
        gap, m_arm = residual / size, np.where(enough, counts[i], 2)
        effect += sign * gap
        welch = 1.0 if rows.clustered else np.sqrt(m_arm / (m_arm - 1))
        coefficients[:, 2 * i], coefficients[:, 2 * i + 1] = sign * welch / size, -sign * welch * gap / size
    squares = np.einsum("mi,mij,mj->m", coefficients, found.products[there], coefficients)
    units = found.units[there]
    if rows.clustered:
        squares = squares * units / np.where(units > 1, units - 1, np.nan)
    error = np.sqrt(np.maximum(squares, 0.0))
    return found.n[there], score / weight, effect, np.where(silent_groups(frame, place, m + 1)[there], np.nan, error)


def _bin_scores(order: Order, bins: int) -> FloatArray:
    """The lowest score of every group but the last, falling; groups that no score falls into share one."""
    shares = np.arange(1, bins) / bins
    found = order.at_shares(shares)
    number_of = np.minimum((found.middle * bins).astype(np.int64), bins - 1)
    cuts = []
    for b in range(1, bins):
        near = (found.share_before - 1e-9 <= b / bins) & (found.share + 1e-9 >= b / bins)
        above = near & (number_of < b)
        cuts.append(found.score[above].min() if above.any() else np.nextafter(found.score[near].max(), np.inf))
    return np.array(cuts)
