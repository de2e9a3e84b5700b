"""Sums of products of columns over the rows, or the clusters, of a Spark DataFrame.

The influence function of every metric here is a combination of a few columns whose coefficients are known only after
the sums of other columns. The sum of its squares is a quadratic form in the sums of the products, so one pass over the
rows gives all that standard errors and those of differences need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalrec._typing import FloatArray, IntArray
from causalrec.evaluation._spark_rows import Rows


@dataclass(frozen=True)
class Sums:
    """Sums over the rows.

    Attributes
    ----------
    products : array of shape (p, p)
        Of the features, which are summed by cluster first where there are clusters.
    features : array of shape (p,)
    others : array of shape (m,)
    n, units : int
        Rows; and clusters, or rows where each is its own.
    """

    products: FloatArray
    features: FloatArray
    others: FloatArray
    n: int
    units: int


def pairs(p: int) -> list[tuple[int, int]]:
    """The pairs (i, j) with i <= j of p columns."""
    return [(i, j) for i in range(p) for j in range(i, p)]


def symmetric(values: FloatArray, p: int) -> FloatArray:
    """Matrices of shape (…, p, p) from their upper halves of shape (…, p (p + 1) / 2)."""
    full = np.empty((*values.shape[:-1], p, p))
    for place, (i, j) in enumerate(pairs(p)):
        full[..., i, j] = full[..., j, i] = values[..., place]
    return full


@dataclass(frozen=True)
class Groups:
    """Sums over the rows of each of m groups, as in :class:`Sums`: ``n`` and ``units`` are of shape (m,)."""

    products: FloatArray
    features: FloatArray
    others: FloatArray
    n: IntArray
    units: IntArray


def sums_by_group(
    rows: Rows, frame: Any, group: str, m: int, features: Sequence[str], others: Sequence[str] = ()
) -> Groups:
    """Sums of features (SQL), of their products by row or cluster, and of other values in groups 0..m-1, by one query.

    A cluster whose rows lie in several groups is a unit of each.
    """
    p = len(features)
    inner = [f"{value} AS f{i}" for i, value in enumerate(features)]
    inner += [f"{value} AS o{i}" for i, value in enumerate(others)]
    names = [*(f"f{i}" for i in range(p)), *(f"o{i}" for i in range(len(others)))]
    if rows.clustered:
        sums = ", ".join(f"SUM({name}) AS {name}" for name in names)
        table = f"SELECT {group} AS j, cluster, {', '.join(inner)} FROM {{rows}}"
        table = f"SELECT j, COUNT(*) AS c, {sums} FROM ({table}) GROUP BY j, cluster"
    else:
        table = f"SELECT {group} AS j, 1 AS c, {', '.join(inner)} FROM {{rows}}"
    columns = [f"SUM(f{i} * f{j})" for i, j in pairs(p)] + [f"SUM({name})" for name in names]
    query = f"SELECT j, SUM(c) AS n, COUNT(*) AS units, array({', '.join(columns)}) AS v FROM ({table}) GROUP BY j"
    values, n, units = np.zeros((m, len(columns))), np.zeros(m, dtype=np.int64), np.zeros(m, dtype=np.int64)
    for row in frame.sparkSession.sql(query, rows=frame).toArrow().to_pylist():
        values[row["j"]], n[row["j"]], units[row["j"]] = row["v"], row["n"], row["units"]
    half = p * (p + 1) // 2
    return Groups(symmetric(values[:, :half], p), values[:, half : half + p], values[:, half + p :], n, units)


def sums_of_products(rows: Rows, frame: Any, features: Sequence[str], others: Sequence[str] = ()) -> Sums:
    """The sums over all rows; see :func:`sums_by_group`."""
    found = sums_by_group(rows, frame, "0", 1, features, others)
    return Sums(found.products[0], found.features[0], found.others[0], int(found.n[0]), int(found.units[0]))


def covariance(coefficients: FloatArray, products: FloatArray, n: int, units: int) -> FloatArray:
    """Of estimates whose influence functions are combinations of features, shape (s, s)."""
    if units < 2:
        return np.full((len(coefficients), len(coefficients)), np.nan)
    return np.asarray(coefficients @ products @ coefficients.T * (units / (units - 1)) / n**2)


@dataclass(frozen=True)
class Moments:
    """Sums over the rows up to every cut of an order, and of their products by row or cluster.

    Attributes
    ----------
    products : array of shape (m, p, p)
        As of :func:`causalrec.evaluation._curve_errors.prefix_moments`.
    running : array of shape (m, s)
        Running sums of further values.
    units : int
    """

    products: FloatArray
    running: FloatArray
    units: int


def running_moments(
    rows: Rows, frame: Any, place: str, m: int, prefix: Sequence[str], total: Sequence[str], others: Sequence[str]
) -> Moments:
    """Moments at m cuts; ``place`` is a column: the first cut that a row lies above, 0 the best.

    When a cut is passed, a cluster's running sums F grow by f, and F_i F_j by F_i F_j - (F_i - f_i)(F_j - f_j).
    """
    a = len(prefix)
    if rows.clustered:
        table, running, units = _cluster_moments(frame, place, m, prefix, total, others)
    else:
        found = sums_by_group(rows, frame, place, m, [*prefix, *total], others)
        table, running, units = np.cumsum(found.products, axis=0), np.cumsum(found.others, axis=0), rows.n
    # Sums over all rows are the same at every cut.
    table[:, a:, a:] = table[-1, a:, a:]
    return Moments(table, running, units)


def _cluster_moments(
    frame: Any, place: str, m: int, prefix: Sequence[str], total: Sequence[str], others: Sequence[str]
) -> tuple[FloatArray, FloatArray, int]:
    a, b = len(prefix), len(total)
    inner = [f"{v} AS f{i}" for i, v in enumerate(prefix)] + [f"{v} AS t{i}" for i, v in enumerate(total)]
    inner += [f"{v} AS o{i}" for i, v in enumerate(others)]
    names = [*(f"f{i}" for i in range(a)), *(f"t{i}" for i in range(b)), *(f"o{i}" for i in range(len(others)))]
    table = f"SELECT cluster, {place} AS j, {', '.join(inner)} FROM {{rows}}"
    table = f"SELECT cluster, j, {', '.join(f'SUM({n}) AS {n}' for n in names)} FROM ({table}) GROUP BY cluster, j"
    window = "PARTITION BY cluster ORDER BY j"
    running = [f"SUM(f{i}) OVER ({window}) AS r{i}" for i in range(a)]
    whole = [f"SUM(t{i}) OVER (PARTITION BY cluster) AS w{i}" for i in range(b)]
    table = f"SELECT *, {', '.join([*running, *whole])}, ROW_NUMBER() OVER ({window}) AS k FROM ({table})"
    columns = [f"SUM(r{i} * r{j} - (r{i} - f{i}) * (r{j} - f{j}))" for i, j in pairs(a)]
    columns += [f"SUM(f{i} * w{j})" for i in range(a) for j in range(b)]
    columns += [f"SUM(IF(k = 1, w{i} * w{j}, 0D))" for i, j in pairs(b)]
    columns += [f"SUM(o{i})" for i in range(len(others))]
    query = f"SELECT j, SUM(IF(k = 1, 1, 0)) AS units, array({', '.join(columns)}) AS v FROM ({table}) GROUP BY j"
    found = frame.sparkSession.sql(query, rows=frame).toArrow()
    values = np.zeros((m, len(columns)))
    values[found.column("j").to_numpy()] = np.array(found.column("v").to_pylist(), dtype=np.float64)
    values = np.cumsum(values, axis=0)
    own, cross, last = np.cumsum([len(pairs(a)), a * b, len(pairs(b))])
    products = np.empty((m, a + b, a + b))
    products[:, :a, :a] = symmetric(values[:, :own], a)
    products[:, :a, a:] = values[:, own:cross].reshape(m, a, b)
    products[:, a:, :a] = products[:, :a, a:].transpose(0, 2, 1)
    products[:, a:, a:] = symmetric(values[:, cross:last], b)
    return products, values[:, last:], int(sum(found.column("units").to_pylist()))
