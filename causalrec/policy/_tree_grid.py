"""Covariates as bins, in whose order a policy tree looks for cuts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from causalrec._typing import AnyArray, FloatArray, IntArray

_SAMPLED = 200_000  # rows that decide where cuts lie


@dataclass(frozen=True, eq=False)
class Column:
    """A covariate in bins 0..n_bins-1, low values or poor levels first; missing values have the bin ``n_bins``.

    Attributes
    ----------
    codes : int array of shape (n,)
    n_bins : int
    missing : bool
        Whether there are any missing values.
    cuts : array of shape (n_bins - 1,)
        Of a number: values up to cut b are in bins up to b.
    levels : int array of shape (n_levels,), or None
        Of a category: its codes in the order of the bins.
    """

    codes: IntArray
    n_bins: int
    missing: bool
    cuts: FloatArray
    levels: IntArray | None = None

    @property
    def size(self) -> int:
        """Bins, with that of missing values."""
        return self.n_bins + self.missing

    def take(self, rows: IntArray) -> Column:
        """Some of the rows."""
        codes = self.codes[rows]
        missing = self.missing and bool((codes == self.n_bins).any())
        return Column(codes, self.n_bins, missing, self.cuts, self.levels)


def number_column(values: FloatArray, most_cuts: int | None) -> Column:
    """A number in bins: of every value where there are few, else between quantiles.

    Examples
    --------
    >>> column = number_column(np.array([3.0, 1.0, np.nan, 1.0]), None)
    >>> column.codes.tolist(), column.cuts.tolist(), column.missing
    ([1, 0, 2, 0], [2.0], True)
    """
    seen = ~np.isnan(values)
    some = values[seen]
    known, counts = np.unique(some[:: -(-len(some) // _SAMPLED)] if len(some) else some, return_counts=True)
    cuts = known[:-1] + (known[1:] - known[:-1]) / 2
    cuts = np.where(cuts < known[1:], cuts, known[:-1])
    if most_cuts is not None and len(cuts) > most_cuts:
        cuts = cuts[spread_cuts(counts, most_cuts)]
    codes = np.searchsorted(cuts, values, side="left")
    n_bins, missing = len(cuts) + 1, not seen.all()
    if missing:
        codes[~seen] = n_bins
    return Column(codes, n_bins, missing, cuts)


def level_column(codes: IntArray, advantage: FloatArray) -> Column:
    """A category with its levels in the order of what treatment brings there.

    Levels are ordered by the mean advantage over control of the arm, or, of several arms, by the direction in which the
    levels' means differ most (their first principal component). For two arms the best split of the levels in two is
    among the cuts in this order (Fisher 1958, JASA 53).

    Parameters
    ----------
    codes : int array of shape (n,)
        -1 where missing.
    advantage : array of shape (n, k - 1)
    """
    seen = codes >= 0
    known, place = np.unique(codes[seen], return_inverse=True)
    counts = np.bincount(place, minlength=len(known)).astype(np.float64)
    sums = [np.bincount(place, weights=a, minlength=len(known)) for a in advantage[seen].T]
    means: FloatArray = np.column_stack(sums).astype(np.float64) / np.maximum(counts, 1.0)[:, None]
    order = np.argsort(_along(means, counts), kind="stable")
    rank = np.empty(len(known), dtype=np.int64)
    rank[order] = np.arange(len(known))
    found = np.full(len(codes), len(known), dtype=np.int64)
    found[seen] = rank[place]
    return Column(found, len(known), not seen.all(), np.empty(0), known[order])


def _along(means: FloatArray, counts: FloatArray) -> FloatArray:
    if means.shape[1] == 1 or len(means) < 2:
        return means[:, 0]
    centred = (means - counts @ means / counts.sum()) * np.sqrt(counts)[:, None]
    direction = np.linalg.svd(centred, full_matrices=False)[2][0]
    return np.asarray(means @ direction * (np.sign(direction.sum()) or 1.0))


def spread_cuts(counts: FloatArray | IntArray, most: int) -> IntArray:
    """Which of the cuts between bins to keep, at most ``most``, so that about as many rows lie between each two.

    Examples
    --------
    >>> spread_cuts(np.array([1, 1, 1, 1, 4]), 1).tolist()
    [3]
    """
    below = np.cumsum(counts)[:-1]
    wanted = np.arange(1, most + 1) / (most + 1) * counts.sum()
    right = np.clip(np.searchsorted(below, wanted), 0, len(below) - 1)
    left = np.maximum(right - 1, 0)
    return np.unique(np.where(wanted - below[left] < below[right] - wanted, left, right))


def coarser(column: Column, most: int | None) -> tuple[Column, IntArray]:
    """A column with at most ``most`` cuts, and for each of them the cut of the finer column that it is."""
    counts = np.bincount(column.codes, minlength=column.n_bins)[: column.n_bins]
    kept = np.flatnonzero((np.cumsum(counts)[:-1] > 0) & (np.cumsum(counts[::-1])[::-1][1:] > 0) & (counts[:-1] > 0))
    if most is not None and len(kept) > most:
        merged = np.add.reduceat(counts, np.r_[0, kept + 1])
        kept = kept[spread_cuts(merged, most)]
    to = np.searchsorted(kept, np.arange(column.n_bins), side="left")
    to = np.r_[to, len(kept) + 1]
    return Column(to[column.codes], len(kept) + 1, column.missing, column.cuts), kept


def columns_of(X: Any, advantage: FloatArray, most_cuts: int | None) -> list[Column]:
    """The covariates of a checked frame or array in bins."""
    found = []
    for j in range(X.shape[1]):
        values = X.iloc[:, j] if isinstance(X, pd.DataFrame) else X[:, j]
        if isinstance(values, pd.Series) and isinstance(values.dtype, pd.CategoricalDtype):
            found.append(level_column(np.asarray(values.cat.codes, dtype=np.int64), advantage))
        else:
            found.append(number_column(as_numbers(values), most_cuts))
    return found


def as_numbers(values: Any) -> FloatArray:
    """A column as floats, NaN where missing."""
    if isinstance(values, pd.Series):
        return values.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.asarray(values, dtype=np.float64)


def level_names(X: Any) -> list[AnyArray | None]:
    """The levels of each category, None for numbers."""
    if not isinstance(X, pd.DataFrame):
        return [None] * X.shape[1]
    return [np.asarray(X[c].cat.categories) if isinstance(X[c].dtype, pd.CategoricalDtype) else None for c in X.columns]
