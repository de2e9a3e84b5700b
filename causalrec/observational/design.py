"""From covariates to numbers: design matrices, their independent columns, and checks that all methods share."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from scipy import linalg

from causalrec._threads import one_thread
from causalrec._typing import AnyArray, FloatArray, IntArray
from causalrec._validation import check_covariates, list_some, nearest
from causalrec.exceptions import CausalRecError, ColumnError, TreatmentError

_Part = TypeVar("_Part")
ESTIMANDS = ("ate", "att", "atc")
_COLLINEAR = 1e-10
_BLOCK = 2048
_PARTS, _MANY, _FEW = 4, 200_000, 20_000


def check_estimand(estimand: str) -> str:
    """Return one of ``ate``, ``att``, ``atc``."""
    if estimand not in ESTIMANDS:
        raise CausalRecError(
            f"estimand is {estimand!r}; expected one of {list_some(ESTIMANDS)}.{nearest(str(estimand), ESTIMANDS)}"
        )
    return estimand


def check_arms(treatment: IntArray) -> None:
    """Raise :class:`TreatmentError` unless both 0 and 1 occur."""
    n_treated = int((treatment == 1).sum())
    if not 0 < n_treated < len(treatment):
        raise TreatmentError(
            f"treatment: {n_treated} treated units of {len(treatment)}; both arms are needed. Check the filter."
        )


def design_matrix(frame: pd.DataFrame, *, all_levels: bool = False) -> tuple[FloatArray, AnyArray]:
    """Numeric columns as they are, categories as 0/1 columns.

    Parameters
    ----------
    frame : DataFrame with numbers, booleans, text or categories
    all_levels : bool
        One column for every level, as a balance table wants it; else for all levels but the first.

    Returns
    -------
    matrix of shape (n, p) and the column names, numeric covariates first

    Raises
    ------
    ColumnError
        For missing or infinite values, and for times.

    Examples
    --------
    >>> X, names = design_matrix(pd.DataFrame({"plan": ["a", "b", "b"], "age": [20, 30, 40]}))
    >>> [str(name) for name in names], X[0].tolist()
    (['age', 'plan_b'], [20.0, 0.0])
    """
    missing = frame.columns[frame.isna().any()].tolist()
    if missing:
        raise ColumnError(
            f"covariates {list_some(missing)} have missing values; drop those rows, or fill them with an indicator."
        )
    times = [c for c in frame.columns if frame[c].dtype.kind in "mM" or isinstance(frame[c].dtype, pd.PeriodDtype)]
    if times:
        raise ColumnError(f"covariates {list_some(times)} are times; turn them into numbers, such as days since then.")
    text = [c for c in frame.columns if not pd.api.types.is_numeric_dtype(frame[c])]
    levels = frame.copy(deep=False)
    for column in text:  # names need not be text themselves
        levels[column] = _levels(frame[column])
    coded = pd.get_dummies(levels, columns=text, drop_first=not all_levels, dtype=float)
    X = coded.to_numpy(np.float64)
    infinite = coded.columns[~np.isfinite(X).all(axis=0)].tolist()
    if infinite:
        raise ColumnError(f"covariates {list_some(infinite)} have infinite values; drop or cap those rows first.")
    return X, np.array(coded.columns, dtype=object)


def _levels(column: pd.Series) -> pd.Series:
    """The column as categories that occur: one that is only declared would make an empty column, or hide the first."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.remove_unused_categories()
    return column.astype(str).astype("category")


def regressors(X: FloatArray) -> FloatArray:
    """An intercept and the standardised columns of ``X``, without those that are linear in others; shape (n, q)."""
    mean, spread = _mean_and_spread(X)
    varies = np.flatnonzero(spread > 1e-12 * np.abs(mean))
    Z = np.empty((len(X), len(varies) + 1))
    Z[:, 0] = 1.0

    def fill(part: list[slice]) -> None:
        for rows in part:
            used = X[rows] if len(varies) == X.shape[1] else X[rows][:, varies]
            np.divide(used - mean[varies], spread[varies], out=Z[rows, 1:])

    in_parts(len(X), fill)
    some = Z[:: max(1, len(Z) // _FEW)]  # columns that are independent in some rows are so in all
    return Z if _clearly_independent(some) or _clearly_independent(Z) else _independent(Z)


def _mean_and_spread(X: FloatArray) -> tuple[FloatArray, FloatArray]:
    mean = X.mean(axis=0)

    def squares(part: list[slice]) -> FloatArray:
        total = np.zeros(X.shape[1])
        for rows in part:
            gap = X[rows] - mean
            total += np.einsum("ij,ij->j", gap, gap)
        return total

    return mean, np.sqrt(np.asarray(sum(in_parts(len(X), squares))) / len(X))


def _clearly_independent(Z: FloatArray) -> bool:
    """Whether the columns are so far from collinear that products, which square it, can tell."""
    values = np.linalg.eigvalsh(Z.T @ Z)
    return len(Z) > Z.shape[1] and bool(values[0] > 1e-8 * values[-1])


def _independent(Z: FloatArray) -> FloatArray:
    R, order = linalg.qr(Z, mode="r", pivoting=True)
    size = np.abs(np.diag(R))
    return np.asarray(Z[:, np.sort(order[: len(size)][size > _COLLINEAR * size[0]])])


def blocks(n: int, start: int = 0) -> list[slice]:
    """Rows from ``start`` to n in blocks that stay in the cache."""
    return [slice(i, min(i + _BLOCK, n)) for i in range(start, n, _BLOCK)]


def in_parts(n: int, work: Callable[[list[slice]], _Part]) -> list[_Part]:
    """What ``work`` gives for the blocks of a few parts of the rows, at once where there are many.

    The parts depend on n alone, so that sums over them do not depend on the number of processors.
    """
    if n < _MANY:
        return [work(blocks(n))]
    edges = [n * i // _PARTS for i in range(_PARTS + 1)]
    parts = [blocks(stop, start) for start, stop in pairwise(edges)]
    with one_thread(), ThreadPoolExecutor(2) as pool:
        return list(pool.map(work, parts))


def as_design(X: Any) -> tuple[FloatArray, AnyArray]:
    """The design matrix of a frame (:func:`design_matrix`), or an array as it is with names x0, x1, …

    Raises
    ------
    ColumnError, CausalRecError
        For missing or infinite values, times, no columns, or another shape.
    """
    X = check_covariates(X)
    if isinstance(X, pd.DataFrame):
        return design_matrix(X)
    matrix = np.asarray(X, dtype=np.float64)
    names = np.array([f"x{i}" for i in range(matrix.shape[1])], dtype=object)
    # A sum is finite only where all of its terms are, and takes a tenth of the time of looking at each.
    with np.errstate(over="ignore", invalid="ignore"):
        unsure = np.flatnonzero(~np.isfinite(matrix.sum(axis=0)))
    bad = names[unsure[~np.isfinite(matrix[:, unsure]).all(axis=0)]]
    if len(bad):
        raise ColumnError(f"columns {list_some(bad)} of X have missing or infinite values; drop or fill those rows.")
    return matrix, names
