"""Quantiles of cells and the variances of their estimates, from the rows."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from scipy.special import ndtri

from causalrec.abtest.aggregates import QuantileSummary
from causalrec.abtest.collection.sql import Rows
from causalrec.engines.groups import Term

_N_STEPS = 21  # half octaves: down to a thousandth of the widest bandwidth


def hall_sheather(q: float, n: int) -> float:
    """Bandwidth for the difference quotient of quantiles at ``q`` that estimates the sparsity, at 95%.

    Hall and Sheather (1988), "On the distribution of a studentized quantile"; the default of R's ``quantreg``.

    Examples
    --------
    >>> round(hall_sheather(0.5, 1_000), 4)
    0.0972
    """
    z = float(ndtri(q))
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return float(n ** (-1 / 3) * ndtri(0.975) ** (2 / 3) * (1.5 * density**2 / (2 * z * z + 1)) ** (1 / 3))


def bandwidths(q: float) -> list[float]:
    """A ladder of bandwidths within (0, 1) on both sides of ``q``, widest first: one query serves cells of any size."""
    return [0.95 * min(q, 1 - q) * 2 ** (-k / 2) for k in range(_N_STEPS)]


def sparsity(q: float, n: int, below: Sequence[float], above: Sequence[float]) -> float:
    """The slope of the quantiles at ``q``, by the widest bandwidth that is not above Hall and Sheather's.

    ``below`` and ``above`` are the quantiles at ``q`` minus and plus each of :func:`bandwidths`.
    """
    ladder = bandwidths(q)
    wanted = hall_sheather(q, n)
    k = next((k for k, h in enumerate(ladder) if h <= wanted), len(ladder) - 1)
    return float(above[k] - below[k]) / (2 * ladder[k])


def is_tied(q: float, share_variance: float, below: Sequence[float], above: Sequence[float]) -> bool:
    """Whether one value holds so many units next to the quantile that its estimate moves in steps.

    That is so if the share that equals it is not small against the error of the share below: then the normal law does
    not hold, as where the median of a count is 16 or 17 by the toss of a coin. ``below`` and ``above`` as of
    :func:`sparsity`, ``share_variance`` of the share of units at or below the quantile.
    """
    ladder = bandwidths(q)
    for values in (below, above):
        widest = next(h for h, value in zip(ladder, values, strict=True) if value == values[-1])
        if widest > max(ladder[-1], math.sqrt(share_variance) / 4):
            return True
    return False


def quantile_summaries(
    rows: Rows, term: Term, q: float, keys: Sequence[str], *, cluster: str | None
) -> dict[tuple[Any, ...], QuantileSummary]:
    """The quantile of a term in each group of the SQL expressions ``keys``, with the variance of its estimate.

    Of n independent units that is q (1 - q) s^2 / n with s the sparsity; of clusters, with sums u over their rows of
    1[y <= quantile] - q, it is s^2 var(u) / (G m^2) for G clusters of m rows on average.
    """
    ladder = bandwidths(q)
    asked = [q, *(q - h for h in ladder), *(q + h for h in ladder)]
    names = [f"g{k}" for k in range(len(keys))]
    labelled = [f"{key} AS {name}" for key, name in zip(keys, names, strict=True)]
    unit = [] if cluster is None else [f"{rows.quote(cluster)} AS u"]
    number = f"{term.tame_sql(rows.engine.dialect)} AS y"
    source = f"(SELECT {', '.join([*labelled, *unit, number])} FROM {rows.sql} r) x"
    by = ", ".join(names)
    listed = rows.engine.dialect.quantiles("y", asked)
    found = rows.engine.collect(
        f"SELECT {by}, COUNT(y) AS n, {listed} AS qs FROM {source} WHERE y IS NOT NULL GROUP BY {by}"
    )
    spread = {} if cluster is None else _cluster_spread(rows, source, q, names)
    summaries = {}
    for row in found.to_dict("records"):
        key = tuple(_plain(row[name]) for name in names)
        value, *ends = map(float, row["qs"])
        n = int(row["n"])
        below, above = ends[: len(ladder)], ends[len(ladder) :]
        n_units, share_variance = spread.get(key, (n, q * (1 - q) / n))
        variance = share_variance * sparsity(q, n, below, above) ** 2 if n_units > 1 else math.nan
        tied = n_units > 1 and is_tied(q, share_variance, below, above)
        summaries[key] = QuantileSummary(n_units, value, variance, tied)
    return summaries


def _cluster_spread(
    rows: Rows, source: str, q: float, names: Sequence[str]
) -> Mapping[tuple[Any, ...], tuple[int, float]]:
    """Clusters, and the variance of the share of rows at or below the quantile, by group."""
    by = ", ".join(names)
    at = rows.engine.dialect.quantile("y", q)
    same = " AND ".join(f"x.{k} IS NOT DISTINCT FROM v.{k}" for k in names)
    value = f"(SELECT {by}, {at} AS at FROM {source} WHERE y IS NOT NULL GROUP BY {by}) v"
    kept = ", ".join(f"x.{k}" for k in names)
    counts = (
        f"(SELECT {kept}, u, COUNT(*) AS m, COUNT(CASE WHEN y <= v.at THEN 1 END) AS k FROM {source} JOIN {value} "
        f"ON {same} WHERE y IS NOT NULL GROUP BY {kept}, u) clusters"
    )
    sums = ", ".join(f"SUM({s}) AS {s.replace(' * ', '')}" for s in ("k", "m", "k * k", "k * m", "m * m"))
    found = rows.engine.collect(f"SELECT {by}, COUNT(*) AS n, {sums} FROM {counts} GROUP BY {by}")
    return {tuple(_plain(row[k]) for k in names): _share_variance(row, q) for row in found.to_dict("records")}


def _share_variance(row: Mapping[Any, Any], q: float) -> tuple[int, float]:
    """From sums over n clusters of their k of m rows at or below the quantile; whole numbers, so without rounding."""
    n, k, m, kk, km, mm = (Fraction(int(row[name])) for name in ("n", "k", "m", "kk", "km", "mm"))
    share = Fraction(q)
    if n < 2:
        return int(n), math.nan
    squares = kk - 2 * share * km + share**2 * mm - (k - share * m) ** 2 / n
    return int(n), float(squares / (n - 1) * n / m**2)


def _plain(value: Any) -> Hashable:
    return None if value is None or value != value else value
