"""Mergeable centred moments: all that a mean, a ratio or a regression adjustment needs of a table.

Raw sums of squares lose everything when the mean is large (mean 1e8, sd 1);
centred products do not. Merging follows Chan, Golub and LeVeque (1979),
"Updating formulae and a pairwise algorithm for computing sample variances".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from causalrec._typing import FloatArray
from causalrec._validation import check_columns
from causalrec.exceptions import CausalRecError, OutcomeError


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean vector and centred cross-products of some columns.

    Attributes
    ----------
    n : int
        Rows.
    names : tuple of str
        Column names, length p.
    mean : array of shape (p,)
    products : array of shape (p, p)
        Sum over rows of (x - mean)(x - mean)'.

    Examples
    --------
    >>> import numpy as np
    >>> a = Moments.from_array(np.array([[1.0], [2.0]]), ["spend"])
    >>> b = Moments.from_array(np.array([[6.0]]), ["spend"])
    >>> both = a.merge(b)
    >>> both.n, both.mean_of("spend"), both.var_of("spend")
    (3, 3.0, 7.0)
    """

    n: int
    names: tuple[str, ...]
    mean: FloatArray = field(repr=False)
    products: FloatArray = field(repr=False)

    @classmethod
    def from_array(cls, values: FloatArray, names: Sequence[str]) -> Moments:
        """Moments of an array of shape (n, p).

        Raises
        ------
        CausalRecError
            For another shape.
        OutcomeError
            For missing or infinite values, with the column and their count.
        """
        array = np.asarray(values, dtype=np.float64)
        if array.ndim != 2 or array.shape[1] != len(names):
            raise CausalRecError(f"values have shape {array.shape}; expected (n, {len(names)}), a column per name.")
        n_bad = (~np.isfinite(array)).sum(axis=0)
        if n_bad.any():
            worst = int(np.argmax(n_bad > 0))
            raise OutcomeError(
                f"column {names[worst]!r}: {n_bad[worst]} of {len(array)} values are missing or infinite. "
                "Drop those rows or fill them in a way that you can defend."
            )
        mean = array.mean(axis=0) if len(array) else np.zeros(array.shape[1])
        centred = array - mean
        return cls(len(array), tuple(names), mean, centred.T @ centred)

    @classmethod
    def from_covariance(cls, n: int, names: Sequence[str], mean: FloatArray, cov: FloatArray) -> Moments:
        """Moments from a mean vector (p,) and a covariance matrix (p, p) with denominator n - 1.

        With fewer than two rows there is no covariance: ``cov`` is not read (it is NaN in most tables).

        Raises
        ------
        CausalRecError
            For shapes that do not fit the names.
        """
        p = len(names)
        centre, matrix = np.asarray(mean, dtype=np.float64), np.asarray(cov, dtype=np.float64)
        if centre.shape != (p,) or matrix.shape != (p, p):
            raise CausalRecError(
                f"mean has shape {centre.shape} and cov {matrix.shape}; expected ({p},) and ({p}, {p}), as there are "
                f"{p} names."
            )
        return cls(int(n), tuple(names), centre, matrix * (int(n) - 1) if n > 1 else np.zeros((p, p)))

    def merge(self, other: Moments) -> Moments:
        """Moments of both sets of rows together; the order does not matter.

        Raises
        ------
        CausalRecError
            When the columns are not the same, in the same order.
        """
        if self.names != other.names:
            raise CausalRecError(
                f"cannot merge moments of {self.names} with those of {other.names}; compute both over the same "
                "columns in the same order."
            )
        n = self.n + other.n
        if n == 0:
            return self
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.n / n)
        products = self.products + other.products + np.outer(delta, delta) * (self.n * other.n / n)
        return Moments(n, self.names, mean, products)

    def select(self, columns: Sequence[str], names: Sequence[str] | None = None) -> Moments:
        """Moments of some columns, in this order, under other names if these are given.

        Raises
        ------
        ColumnError
            For a column that is not there.

        Examples
        --------
        >>> import numpy as np
        >>> both = Moments.from_array(np.array([[1.0, 4.0], [3.0, 8.0]]), ["clicks", "views"])
        >>> both.select(["views"], ["value"]).mean_of("value")
        6.0
        """
        return self.take([self._index(name) for name in columns], names or columns)

    def take(self, positions: Sequence[int], names: Sequence[str]) -> Moments:
        """Moments of the columns at some positions, under the given names."""
        order = list(positions)
        return Moments(self.n, tuple(names), self.mean[order], self.products[np.ix_(order, order)])

    def _index(self, name: str) -> int:
        check_columns(self.names, [name], where="moments")
        return self.names.index(name)

    def mean_of(self, name: str) -> float:
        """Mean of a column."""
        return float(self.mean[self._index(name)])

    def var_of(self, name: str) -> float:
        """Variance of a column with denominator n - 1; NaN for one row."""
        return self.cov_of(name, name)

    def cov_of(self, first: str, second: str) -> float:
        """Covariance of two columns with denominator n - 1; NaN for one row."""
        if self.n < 2:
            return float("nan")
        return float(self.products[self._index(first), self._index(second)] / (self.n - 1))
