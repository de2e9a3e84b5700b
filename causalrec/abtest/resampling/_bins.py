"""A large sample as a few hundred bins, from which the sums of a resample are drawn without touching its rows.

The number of times that each of K groups of rows occurs in a resample is multinomial (bootstrap) or multivariate
hypergeometric (permutation), so a resample costs K draws, not n. Where all rows of a group are equal, as with few
distinct values, the sums are exact in law. Else rows that are close share a bin, and what a bin adds to the sums is
its count times its mean, plus a normal deviation with the covariance that those draws have in truth. So means and
covariances of the sums are exact, and what is lost is the third and higher cumulants of the deviations within bins:
with E|d|^3 the third absolute moment of a row's deviation from its bin's mean, the skewness of the resampled mean is
wrong by at most E|d|^3 / (sigma^3 sqrt(n)). The cuts are at equal steps of the integral of f^(1/3), f the density,
which makes that deviation least (Panter and Dite 1951, "Quantization distortion in pulse-count modulation with
nonuniform spacing of levels"), mixed in equal parts with cuts at equal numbers of rows; extremes so get bins of their
own, and are resampled exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from causalrec._typing import BoolArray, FloatArray, IntArray

_DISTINCT = 512  # up to so many different rows are groups as they are
_BINS = 256
_SLABS = 32  # of the first column, when the second varies too: 32 x 32 bins
EXACT_DRAWS = 50_000_000  # up to so many draws of single rows are made as they are


@dataclass(frozen=True)
class Bins:
    """Groups of rows, with the mean and the covariance of their columns.

    Attributes
    ----------
    count : array of shape (K,)
        Rows in each; all one where rows are kept as they are.
    mean : array of shape (K, p)
    cov : array of shape (K, p, p), or None where the rows of each group are all equal
        With denominator ``count``.
    """

    count: IntArray
    mean: FloatArray = field(repr=False)
    cov: FloatArray | None = field(repr=False)

    @property
    def n(self) -> int:
        """Rows."""
        return int(self.count.sum())

    def bootstrap_sums(self, size: int, rng: np.random.Generator) -> FloatArray:
        """Column sums of ``size`` resamples of n rows with replacement, shape (size, p)."""
        n, k = self.n, len(self.count)
        if k == n:
            rows = rng.integers(k, size=(size, n)) + k * np.arange(size)[:, None]
            drawn = np.bincount(rows.ravel(), minlength=size * k).reshape(size, k)
        else:
            drawn = rng.multinomial(n, self.count / n, size=size)
        counts = drawn.astype(np.float64)
        return self._sums(counts, counts, rng)

    def subset_sums(self, n_drawn: int, size: int, rng: np.random.Generator) -> FloatArray:
        """Column sums of ``size`` random subsets of ``n_drawn`` rows, shape (size, p)."""
        n, k = self.n, len(self.count)
        if k == n:
            chosen = np.tile(np.arange(n) < n_drawn, (size, 1))
            drawn = rng.permuted(chosen, axis=1, out=chosen)
        else:
            drawn = rng.multivariate_hypergeometric(self.count, n_drawn, size=size, method="marginals")
        counts = drawn.astype(np.float64)
        left = (self.count - counts) / np.maximum(self.count - 1, 1)  # without replacement
        return self._sums(counts, counts * left, rng)

    def _sums(self, counts: FloatArray, spread: FloatArray, rng: np.random.Generator) -> FloatArray:
        sums: FloatArray = counts @ self.mean
        if self.cov is None:
            return sums
        p = sums.shape[1]
        cov = (spread @ self.cov.reshape(len(self.cov), p * p)).reshape(len(counts), p, p)
        values, vectors = np.linalg.eigh(cov)  # a root even where columns are collinear or constant
        normal = rng.standard_normal((len(counts), p)) * np.sqrt(np.maximum(values, 0.0))
        return np.asarray(sums + np.einsum("rij,rj->ri", vectors, normal))


def keep_rows(columns: FloatArray) -> Bins:
    """Every row as a group of its own."""
    return Bins(np.ones(len(columns), dtype=np.int64), columns, None)


def make_bins(columns: FloatArray, n_keys: int, n_resamples: int) -> Bins:
    """Group the rows of ``columns`` (n, p): equal ones, else single ones where they are few, else close ones.

    ``n_keys`` is 1 or 2: the first columns, of which all others are functions.

    Examples
    --------
    >>> make_bins(np.array([[1.0], [0.0], [1.0]]), 1, 100).count
    array([1, 2])
    """
    keys = columns[:, :n_keys]
    if n_keys == 2 and np.ptp(keys[:, 1]) == 0:
        keys = keys[:, :1]
    order = np.argsort(keys[:, 0]) if keys.shape[1] == 1 else np.lexsort((keys[:, 1], keys[:, 0]))
    ordered = columns[order]
    differs = (np.diff(ordered[:, : keys.shape[1]], axis=0) != 0).any(axis=1)
    if differs.sum() < _DISTINCT:
        return _grouped(ordered, differs, exact=True)
    if len(columns) * n_resamples <= EXACT_DRAWS:
        return keep_rows(columns)
    if keys.shape[1] == 1:
        label = _cut(ordered[:, 0], np.zeros(len(order), dtype=np.int64), _BINS)
    else:
        slab = _cut(ordered[:, 0], np.zeros(len(order), dtype=np.int64), _SLABS)
        within = np.lexsort((ordered[:, 1], slab))
        ordered, slab = ordered[within], slab[within]
        label = _cut(ordered[:, 1], slab, _SLABS)
    return _grouped(ordered, np.diff(label) != 0, exact=False)


def _cut(values: FloatArray, groups: IntArray, n_bins: int) -> IntArray:
    """Labels, rising along the rows, of ``n_bins`` bins in each group; values rise within groups."""
    gaps = np.diff(values, prepend=values[:1])
    starts = np.flatnonzero(np.diff(groups, prepend=groups[:1] - 1))
    gaps[starts] = 0.0
    size = np.diff(np.append(starts, len(values)))
    width = _share_of_group(np.cbrt(gaps) ** 2, starts, size)
    rank = _share_of_group((gaps > 0).astype(np.float64), starts, size)
    bins = np.minimum((n_bins * (width + rank) / 2).astype(np.int64), n_bins - 1)
    return np.asarray(groups * n_bins + bins)


def _share_of_group(steps: FloatArray, starts: IntArray, size: IntArray) -> FloatArray:
    """The running sum of each group's steps, divided by the group's sum."""
    total = np.cumsum(steps)
    first = total[starts]  # the first step of a group is zero
    whole = total[starts + size - 1] - first
    share = (total - np.repeat(first, size)) / np.repeat(np.where(whole > 0, whole, 1.0), size)
    return np.asarray(share)


def _grouped(ordered: FloatArray, cuts: BoolArray, *, exact: bool) -> Bins:
    """Bins between the cuts; ``cuts[i]`` is between the rows i and i + 1."""
    starts = np.concatenate([[0], np.flatnonzero(cuts) + 1])
    count = np.diff(np.append(starts, len(ordered)))
    if exact:
        return Bins(count, ordered[starts], None)
    mean = np.add.reduceat(ordered, starts) / count[:, None]
    deviation = ordered - np.repeat(mean, count, axis=0)
    p = ordered.shape[1]
    cov = np.empty((len(count), p, p))
    for i in range(p):
        for j in range(i + 1):
            cov[:, i, j] = cov[:, j, i] = np.add.reduceat(deviation[:, i] * deviation[:, j], starts) / count
    return Bins(count, mean, cov)
