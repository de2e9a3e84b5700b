"""Areas under curves over the order of a score, from a Spark DataFrame: :mod:`causalrec.evaluation._areas` in SQL.

For each scorer two columns are made, ``a0``, ``a1``, …, the influence before the terms that all rows share, and
``m0``, ``m1``, …, what a row's score of the effect is multiplied by.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import special

from causalrec._typing import FloatArray
from causalrec.evaluation._spark_ranks import (
    Running,
    by_bucket,
    check_same_rows,
    in_order,
    make_buckets,
    placed,
    select,
)
from causalrec.evaluation._spark_rows import Rows, number
from causalrec.evaluation._spark_sums import covariance, sums_of_products

Columns = Callable[[Rows, Any, int], Any]


def area_estimates(rows: Rows, n_scorers: int, columns: Columns, *, centred: bool) -> tuple[FloatArray, FloatArray]:
    """Estimates of all scorers, shape (s,), and their covariance, (s, s), NaN for a single cluster.

    ``columns`` is :func:`area_columns` with a centre, or :func:`toc_columns`; where ``centred`` the score of a constant
    scorer is zero by definition.
    """
    frame = rows.frame
    for scorer in range(n_scorers):
        frame = columns(rows, frame, scorer)
    moves = [f"move{i}" for i in range(rows.n_terms)]
    values = [f"w * g * m{k}" for k in range(n_scorers)]
    slopes = [f"w * m{k} * slope{i}" for k in range(n_scorers) for i in range(rows.n_terms)]
    sums = sums_of_products(rows, frame, [*(f"a{k}" for k in range(n_scorers)), *moves, "w"], [*values, *slopes])
    check_same_rows(sums.n, rows.n)
    n = rows.n
    estimate = sums.others[:n_scorers] / n
    slope = sums.others[n_scorers:].reshape(n_scorers, rows.n_terms) / n
    coefficients = np.zeros((n_scorers, len(sums.features)))
    coefficients[:, :n_scorers] = np.eye(n_scorers)
    coefficients[:, n_scorers:-1] = -slope
    coefficients[:, -1] = -(coefficients @ sums.features) / n
    if centred:
        constant = [k for k in range(n_scorers) if rows.constant(k)]
        estimate[constant], coefficients[constant] = 0.0, 0.0
    return estimate, covariance(coefficients, sums.products, n, sums.units)


def area_columns(centre: float) -> Columns:
    """Columns of the integral of C(q) - 2 centre q C(1); see :func:`causalrec.evaluation._areas.area_score`."""

    def columns(rows: Rows, frame: Any, scorer: int) -> Any:
        frame, kept, _, sums = _ordered(rows, frame, scorer)
        weight, value = number(sums[:, 1].sum()), number(sums[:, 2].sum())
        multiplier = f"{number(1 - centre)} - (w_through - w_own / 2) / {weight} AS m{scorer}"
        below = f"({value} - g_through + g_own / 2) / {rows.n}"
        frame = frame.selectExpr(*kept, "w_through", "w_own", "g_through", "g_own", multiplier)
        return frame.selectExpr(*kept, f"m{scorer}", f"w * (g * m{scorer} - {below}) AS a{scorer}")

    return columns


def toc_columns(rows: Rows, frame: Any, scorer: int) -> Any:
    """Columns of AUTOC; see :func:`causalrec.evaluation._areas.toc_mean`.

    The grid's weight t and the term u of the influence function are a row's once the weight above it is known, and are
    summed in the same order then. ``l`` counts the rows of equal score.
    """
    buckets = make_buckets(rows, scorer)
    frame, kept, bucket, sums = _ordered(
        rows, frame, scorer,
        ["ROW_NUMBER() OVER ({window}) - RANK() OVER ({window}) + 1 AS l",
         "COUNT(*) OVER ({window} RANGE BETWEEN CURRENT ROW AND CURRENT ROW) AS size"],
    )  # fmt: skip
    spread = ["_spread"] if "_spread" in frame.columns else []
    frame = frame.selectExpr(
        *kept, bucket, *spread, "l", "size", "w_own / size AS grid",
        "w_through - w_own + l * w_own / size AS above", "g_through - g_own + l * g_own / size AS gain",
    ).selectExpr(
        *kept, bucket, *spread, "l", "size", "grid / above AS t", "gain / above AS toc",
        "grid * gain / above / above AS u",
    )  # fmt: skip
    terms = ["t", "l * t", "u", "l * u", "toc"]
    second = by_bucket(frame, bucket, len(sums), terms)[:, 1:]
    for b in np.flatnonzero(buckets.flat):
        above = sums[b + 1 :].sum(axis=0)
        second[b] = tied_terms(above[1], above[2], *sums[b])
    # No row of a flat bucket knows its place, and all are alike.
    size = f"IF(:flat[{bucket}] = 1D, :sizes[{bucket}], CAST(size AS DOUBLE)) AS size"
    others = [column for column in frame.columns if column != "size"]
    frame = select(frame, [*others, size], {"flat": buckets.flat.astype(np.float64), "sizes": sums[:, 0]})
    running = [Running(f"v{i}", term, second[:, i], through=i in (0, 2)) for i, term in enumerate(terms)]
    frame = in_order(frame, buckets, bucket, running)
    t, u = number(second[:, 0].sum()), number(second[:, 2].sum())
    multiplier = f"{t} - v0_through + v1_own / size - 1 AS m{scorer}"
    push = f"v4_own / size - ({u} - v2_through + v3_own / size)"
    frame = frame.selectExpr(*kept, multiplier, f"{push} AS push")
    return frame.selectExpr(*kept, f"m{scorer}", f"w * (g * m{scorer} + push) AS a{scorer}")


def tied_terms(above: float, gain: float, size: float, weight: float, value: float) -> FloatArray:
    r"""Sums of t, l t, u, l u and the mean above, l = 1..m, over a group of equal scores, in closed form, shape (5,).

    With a the weight above over the group's mean weight, :math:`t_l = 1 / (a + l)`, whose sum is a difference of
    digamma functions, as that of its squares is one of trigamma functions.

    Parameters
    ----------
    above, gain : float
        Weight and weighted scores of the units above the group.
    size, weight, value : float
        Units, weight and weighted scores of the group.
    """
    grid, mean = weight / size, value / size
    a = above / grid
    inverse = float(special.digamma(a + size + 1) - special.digamma(a + 1))
    squares = float(special.polygamma(1, a + 1) - special.polygamma(1, a + size + 1))
    level, rest = mean / grid, (gain - a * mean) / grid
    toc = size * level + rest * inverse
    u = level * inverse + rest * squares
    return np.array([inverse, size - a * inverse, u, toc - a * u, toc])


def _ordered(rows: Rows, frame: Any, scorer: int, more: Sequence[str] = ()) -> tuple[Any, list[str], str, FloatArray]:
    """The frame with running sums of weights and gains, the columns to keep, the bucket, and sums by bucket."""
    buckets = make_buckets(rows, scorer)
    bucket, kept = f"b{scorer}", list(frame.columns)
    frame = placed(frame, f"s{scorer}", buckets.cuts, bucket)
    sums = by_bucket(frame, bucket, len(buckets.flat), ["w", "w * g"])
    check_same_rows(sums[:, 0].sum(), rows.n)
    running = [Running("w", "w", sums[:, 1]), Running("g", "w * g", sums[:, 2])]
    return in_order(frame, buckets, bucket, running, more), kept, bucket, sums
