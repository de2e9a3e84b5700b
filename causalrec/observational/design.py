"""From covariates to numbers: design matrices, their independent columns, and checks that all methods share."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pandas as pd
from scipy import linalg
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from causalrec._typing import AnyArray, FloatArray, IntArray
from causalrec._validation import check_covariates, list_some, nearest
from causalrec.exceptions import CausalRecError, ColumnError, TreatmentError

ESTIMANDS = ("ate", "att", "atc")
_COLLINEAR = 1e-10


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


def one_thread(small: bool) -> AbstractContextManager[Any]:
    """Keep BLAS and OpenMP to one thread while the work is small.

    More threads gain nothing there, and cost tens of times as much where the cores are shared: they wait spinning.
    """
    limits: AbstractContextManager[Any] = threadpool_limits(limits=1 if small else None)
    return limits


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
    coded = pd.get_dummies(
        frame.assign(**{c: _levels(frame[c]) for c in text}), columns=text, drop_first=not all_levels, dtype=float
    )
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
    spread = X.std(axis=0)
    varies = spread > 1e-12 * np.abs(X).max(axis=0, initial=0.0)
    used = X[:, varies]
    Z = np.column_stack([np.ones(len(X)), (used - used.mean(axis=0)) / spread[varies]])
    R, order = linalg.qr(Z, mode="r", pivoting=True)
    size = np.abs(np.diag(R))
    return np.asarray(Z[:, np.sort(order[: len(size)][size > _COLLINEAR * size[0]])])


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
    bad = names[~np.isfinite(matrix).all(axis=0)]
    if len(bad):
        raise ColumnError(f"columns {list_some(bad)} of X have missing or infinite values; drop or fill those rows.")
    return matrix, names
