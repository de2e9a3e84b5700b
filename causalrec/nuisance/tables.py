"""Rows of a table of covariates, in parts of bounded size, so that no fit and no prediction copies all of them."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from causalrec._typing import AnyArray, FloatArray, IntArray
from causalrec._validation import check_covariates

CHUNK_CELLS = 500_000  # numbers that are copied at a time
_MANY_CELLS = 4_000_000  # from here on, memory that a fit leaves behind counts


class Joined:
    """Covariates and, behind them, an indicator of each arm but control, put together when rows are asked for.

    Parameters
    ----------
    X : frame or array of shape (n, p)
        As :func:`check_covariates` returns it; kept by reference.
    codes : int array of shape (n,)
        Arms as 0..k-1, control first.
    n_arms : int

    Examples
    --------
    >>> Joined(np.array([[5.0], [6.0]]), np.array([0, 1]), 2).take(np.array([1])).tolist()
    [[6.0, 1.0]]
    """

    def __init__(self, X: Any, codes: IntArray, n_arms: int) -> None:
        self.X = X
        self.codes = codes
        self.n_arms = n_arms

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, and columns with the indicators."""
        return int(self.X.shape[0]), int(self.X.shape[1]) + self.n_arms - 1

    def take(self, rows: IntArray | slice) -> Any:
        """The joined covariates of some rows: a copy."""
        return join_arms(take_rows(self.X, rows), self.codes[rows], self.n_arms)


def join_arms(X: Any, codes: IntArray, n_arms: int) -> Any:
    """The covariates and, behind them, an indicator of each arm but control."""
    indicators: FloatArray = (codes[:, None] == np.arange(1, n_arms)).astype(np.float64)
    if not isinstance(X, pd.DataFrame):
        return np.column_stack([X, indicators])
    return X.assign(**dict(zip(arm_names(X, n_arms), indicators.T, strict=True)))


def arm_names(X: pd.DataFrame, n_arms: int) -> list[str]:
    """Names for the indicators that no covariate has."""
    prefix = "arm"
    while any(str(c).startswith(prefix) for c in X.columns):
        prefix += "_"
    return [f"{prefix}{code}" for code in range(1, n_arms)]


def check_table(X: Any) -> Any:
    """Covariates as :func:`check_covariates` returns them; joined ones, which were checked, as they are."""
    return X if isinstance(X, Joined) else check_covariates(X)


def take_rows(X: Any, rows: AnyArray | slice | None) -> Any:
    """The covariates of some rows; of all for None, without a copy unless they are joined."""
    if isinstance(X, Joined):
        return X.take(slice(None) if rows is None else rows)
    if rows is None:
        return X
    return X.iloc[rows] if isinstance(X, pd.DataFrame) else X[rows]


def head(X: Any) -> Any:
    """The first row, which has the columns, types and categories of all."""
    return take_rows(X, slice(0, 1))


def chunk_rows(X: Any) -> int:
    """How many rows a chunk holds: a multiple of 64, so that sums of products in vector registers stay the same."""
    return 64 * max(1, CHUNK_CELLS // (64 * int(X.shape[1])))


def row_chunks(X: Any, rows: AnyArray | None = None) -> Iterator[Any]:
    """The covariates of some rows, or of all, in parts; one part, which may be empty, where there are few."""
    n, step = int(X.shape[0]) if rows is None else len(rows), chunk_rows(X)
    for start in range(0, max(n, 1), step):
        part = slice(start, start + step)
        yield take_rows(X, part if rows is None else rows[part])


def has_many(X: Any) -> bool:
    """Whether the memory that a fit leaves behind is worth a thought."""
    return bool(X.shape[0] * X.shape[1] >= _MANY_CELLS)


def give_back(X: Any) -> None:
    """Return freed memory to the system after work on these covariates, if they are many.

    XGBoost and numpy free hundreds of blocks of some megabytes, which glibc keeps for a next time (``malloc_trim``
    in its manual); with several models fitted in turn, the process would grow by what none of them needs. Costs
    milliseconds; other C libraries are left alone.
    """
    if has_many(X):
        _trim()(0)


@functools.cache
def _trim() -> Callable[[int], Any]:
    try:
        found: Callable[[int], Any] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # not glibc
        return lambda _: None
    return found
