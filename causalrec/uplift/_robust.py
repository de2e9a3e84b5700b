"""Weighted means and least squares with errors that hold for unequal variances, and for rows in clusters."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import linalg, sparse, stats

from causalrec._typing import BoolArray, FloatArray, IntArray
from causalrec.exceptions import CausalRecError, ColumnError
from causalrec.results import NAN

_BLOCK = 2**22  # numbers of the outer products that are held at once
_SINGULAR = 1e-9


class Estimates(NamedTuple):
    """Values of shape (p,), their covariance of shape (p, p), and the degrees of freedom of their t statistics."""

    value: FloatArray
    covariance: FloatArray
    df: float

    @property
    def std_error(self) -> FloatArray:
        """Roots of the variances; NaN where there is none."""
        return np.sqrt(np.diag(self.covariance))

    def contrast(self, C: FloatArray) -> Estimates:
        """Linear combinations, one for each row of ``C``."""
        return Estimates(C @ self.value, C @ self.covariance @ C.T, self.df)


def weighted_means(values: FloatArray, weight: FloatArray, clusters: IntArray | None = None) -> Estimates:
    """Means of the columns of ``values``, shape (n, p), and their covariance.

    The outer products of the clusters' weighted sums of deviations, times g / (g - 1); rows are clusters of their own
    by default, so that with equal weights it is the sample covariance over n.

    Examples
    --------
    >>> found = weighted_means(np.array([[1.0], [2.0], [6.0]]), np.ones(3))
    >>> float(found.value[0]), round(float(found.std_error[0]), 6)  # sqrt(7 / 3)
    (3.0, 1.527525)
    """
    total = float(weight.sum())
    means = weight @ values / total
    sums = (values - means) * (weight / total)[:, None]
    if clusters is not None:
        sums = np.column_stack([np.bincount(clusters, weights=column) for column in sums.T])
    g = len(sums)
    return Estimates(means, sums.T @ sums * (g / (g - 1) if g > 1 else NAN), g - 1.0)


def group_means(
    values: FloatArray, group: IntArray, n_groups: int, weight: FloatArray, clusters: IntArray | None = None
) -> tuple[Estimates, FloatArray]:
    """Means of ``values``, shape (n,), in groups 0..n_groups-1, none empty, their covariance, and units in each.

    The variance of a group is that of :func:`weighted_means` within it; units are rows, or clusters that are in the
    group. With equal weights and no clusters it is HC2 (MacKinnon and White 1985) of the regression on an indicator of
    each group. A cluster in several groups makes their means covary (Liang and Zeger 1986). Where a group has one unit
    it has no variance: NaN.
    """
    total = np.bincount(group, weights=weight, minlength=n_groups)
    means = np.bincount(group, weights=weight * values, minlength=n_groups) / total
    moved = weight / total[group] * (values - means[group])
    if clusters is None:
        units = np.bincount(group, minlength=n_groups).astype(np.float64)
        covariance = np.diag(np.bincount(group, weights=moved**2, minlength=n_groups))
        n_units = len(values)
    else:
        n_units = int(clusters.max()) + 1
        table = sparse.coo_array((moved, (clusters, group)), shape=(n_units, n_groups)).tocsr()
        units = np.bincount(np.unique(clusters * n_groups + group) % n_groups, minlength=n_groups).astype(np.float64)
        covariance = (table.T @ table).toarray()
    factor = np.sqrt(units / np.where(units > 1, units - 1, NAN))
    return Estimates(means, covariance * np.outer(factor, factor), float(n_units - n_groups)), units


def least_squares(
    X: FloatArray, y: FloatArray, weight: FloatArray, clusters: IntArray | None = None, *, names: tuple[str, ...]
) -> Estimates:
    """Weighted least squares of ``y`` on the columns of ``X``, shape (n, p), with jackknife errors.

    Without clusters HC3 (MacKinnon and White 1985). With clusters CR3 (Bell and McCaffrey 2002): the sum of
    the outer products of what the coefficients change by when a cluster is left out, to which HC3 comes down for rows
    that are each a cluster. Both err on the safe side. ``names`` of the columns are for messages.

    Raises
    ------
    ColumnError
        For columns that depend on one another.
    CausalRecError
        For a row or cluster without which they would.
    """
    n, p = X.shape
    root = np.sqrt(weight)
    scale = np.sqrt(weight @ X**2)
    dependent = scale == 0
    Q, R = np.linalg.qr(X * root[:, None] / np.where(dependent, 1.0, scale))
    dependent |= np.abs(np.diag(R)) < _SINGULAR if n >= p else np.ones(p, dtype=bool)
    if dependent.any():
        raise ColumnError(_dependent_message(names, dependent, n))
    beta = linalg.solve_triangular(R, Q.T @ (root * y))
    residual = root * y - Q @ (R @ beta)
    lone: FloatArray | None
    shifts, lone = _row_shifts(Q, residual) if clusters is None else _cluster_shifts(Q, residual, clusters)
    if lone is not None:
        name = names[int(np.abs(linalg.solve_triangular(R, lone)).argmax())]
        raise CausalRecError(_lone_message(name, "row" if clusters is None else "cluster"))
    back = linalg.solve_triangular(R, np.eye(p)) / scale[:, None]
    df = n - p if clusters is None else int(clusters.max())
    return Estimates(beta / scale, back @ shifts @ back.T, float(df))


def _row_shifts(Q: FloatArray, residual: FloatArray) -> tuple[FloatArray, FloatArray | None]:
    """Sum over rows of the outer products of the changes when the row is left out, in the basis Q.

    And the direction that a row alone decides, if there is one.
    """
    room = 1 - np.einsum("ij,ij->i", Q, Q)
    if room.min() < _SINGULAR:
        return Q, Q[int(room.argmin())]
    moved = Q * (residual / room)[:, None]
    return np.asarray(moved.T @ moved), None


def _cluster_shifts(Q: FloatArray, residual: FloatArray, clusters: IntArray) -> tuple[FloatArray, FloatArray | None]:
    """The same of clusters: (I - Q_c'Q_c)^-1 Q_c'e_c is the change in the basis Q."""
    n, p = Q.shape
    order = np.argsort(clusters, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(clusters[order]) > 0])
    ends = np.r_[starts[1:], n]
    total, first = np.zeros((p, p)), 0
    while first < len(starts):
        last = int(np.searchsorted(ends, starts[first] + max(_BLOCK // p**2, 1), side="right"))
        last = max(last, first + 1)
        rows = order[starts[first] : ends[last - 1]]
        at = starts[first:last] - starts[first]
        q = Q[rows]
        own = np.add.reduceat(q[:, :, None] * q[:, None, :], at)
        scores = np.add.reduceat(q * residual[rows, None], at)
        values, vectors = np.linalg.eigh(own)
        if values.max() > 1 - _SINGULAR:
            return total, vectors[int(values[:, -1].argmax()), :, -1]
        along = np.einsum("cij,ci->cj", vectors, scores) / (1 - values)
        moved = np.einsum("cij,cj->ci", vectors, along)
        total += moved.T @ moved
        first = last
    return total, None


def _lone_message(name: str, what: str) -> str:
    return (
        f"one {what} alone decides the coefficient of {name!r}, or of one that it goes with, so that there is no error "
        f"to give. Leave the term out, or merge levels, until every term varies over several {what}s."
    )


def _dependent_message(names: tuple[str, ...], dependent: BoolArray, n_rows: int) -> str:
    if n_rows < len(names):
        return (
            f"found {n_rows} rows for {len(names)} coefficients; expected more rows than that. Take fewer covariates."
        )
    which = ", ".join(repr(name) for name, bad in zip(names, dependent, strict=True) if bad)
    return (
        f"the columns {which} are constant, or combinations of those before them, so that their coefficients cannot be "
        "told apart. Leave them out."
    )


def wald(found: Estimates) -> tuple[float, float]:
    """F statistic and p-value of the null that all values are zero; NaN where the covariance has no inverse."""
    p = len(found.value)
    if p == 0 or not np.isfinite(found.covariance).all() or found.df < 1:
        return NAN, NAN
    scale = found.std_error
    if (scale == 0).any():
        return NAN, NAN
    correlation = found.covariance / np.outer(scale, scale)
    if np.linalg.eigvalsh(correlation)[0] < _SINGULAR:
        return NAN, NAN
    z = found.value / scale
    statistic = float(z @ np.linalg.solve(correlation, z)) / p
    return statistic, float(stats.f.sf(statistic, p, found.df))


class Answers(NamedTuple):
    """Of each value: standard error, ends of the interval, t statistic and p-value, each of shape (p,)."""

    std_error: FloatArray
    ci_low: FloatArray
    ci_high: FloatArray
    statistic: FloatArray
    pvalue: FloatArray


def student(
    found: Estimates, confidence_level: float, *, df: FloatArray | float | None = None, alternative: str = "two-sided"
) -> Answers:
    """Intervals and tests of zero by Student's t; NaN where there is no error.

    ``alternative="greater"`` is of the p-values only.
    """
    error = np.where(found.std_error > 0, found.std_error, NAN)
    degrees = np.asarray(found.df if df is None else df, dtype=np.float64)
    degrees = np.where(degrees >= 1, degrees, NAN)
    half = stats.t.isf((1 - confidence_level) / 2, degrees) * error
    t = found.value / error
    pvalue = stats.t.sf(t, degrees) if alternative == "greater" else 2 * stats.t.sf(np.abs(t), degrees)
    return Answers(error, found.value - half, found.value + half, t, np.asarray(pvalue, dtype=np.float64))
