"""Matched sets as slices of a pool, and sums over them in linear time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from causalrec._typing import AnyArray, FloatArray, IntArray
from causalrec.observational.design import in_parts

_LONG, _FEW = 16_384, 8


class MatchedSets(NamedTuple):
    """The set of ``unit[i]`` is ``pool[start[i]:stop[i]]``, each of it with the same share.

    ``pool`` and ``unit`` are row numbers, all of shape (m,) but the pool; units without a match are absent.
    ``distances`` are those to the farthest of a set.
    """

    unit: IntArray
    start: IntArray
    stop: IntArray
    pool: IntArray
    distances: FloatArray


class SortedSets(MatchedSets):
    """Sets whose pool is 0, 1, 2, …: values need not be looked up there."""

    __slots__ = ()


def longer(parts: list[slice]) -> list[slice]:
    """Adjoining rows in longer blocks: what is computed of a few vectors stays in the processor's cache even so."""
    if not parts:
        return []
    start, stop = parts[0].start, parts[-1].stop
    return [slice(i, min(i + _LONG, stop)) for i in range(start, stop, _LONG)]


def in_pool(values: AnyArray, sets: MatchedSets) -> AnyArray:
    """Values by row in the order of the pool."""
    return values if isinstance(sets, SortedSets) else values[sets.pool]


def by_unit(values: AnyArray, sets: MatchedSets) -> AnyArray:
    """Values by row in the order of the units that have sets."""
    return values if _each_in_order(sets) else values[sets.unit]


def by_row(values: FloatArray, sets: MatchedSets, n: int) -> FloatArray:
    """Values by set as values by row, shape (n,); NaN for rows without a set."""
    if _each_in_order(sets):
        return values
    rows = np.full(n, np.nan)
    rows[sets.unit] = values
    return rows


def _each_in_order(sets: MatchedSets) -> bool:
    return isinstance(sets, SortedSets) and len(sets.unit) == len(sets.pool)


def set_means(values: FloatArray, sets: MatchedSets) -> FloatArray:
    """Mean of ``values`` (one per row) over each set, shape (m,): from running sums, so that large sets cost nothing.

    Examples
    --------
    >>> sets = MatchedSets(*(np.array(a) for a in ([0, 1], [0, 1], [2, 3], [2, 3, 4], [0.0, 0.0])))
    >>> set_means(np.array([9.0, 9.0, 1.0, 3.0, 5.0]), sets).tolist()
    [2.0, 4.0]
    """
    size = sets.stop - sets.start
    if (size == 1).all():
        return np.asarray(in_pool(values, sets)[sets.start])
    inside = in_pool(values, sets)
    centre = float(inside.mean())
    sums = np.empty(len(inside) + 1)
    sums[0] = 0.0
    np.cumsum(inside - centre, out=sums[1:])
    means = np.empty(len(size))

    def average(parts: list[slice]) -> None:
        for part in longer(parts):
            means[part] = (sums[sets.stop[part]] - sums[sets.start[part]]) / size[part] + centre

    in_parts(len(size), average)
    return means


def set_covariances(a: FloatArray, b: FloatArray, sets: MatchedSets) -> FloatArray:
    """Sample covariance (divisor size - 1) within each set, shape (m,); NaN for sets of one."""
    size = sets.stop - sets.start
    if a is b and len(size) and (size == size[0]).all() and size[0] <= _FEW:
        return _few_variances(in_pool(a, sets), sets.start, int(size[0]))
    same, a = a is b, a - float(a.mean())
    mean = set_means(a, sets)
    if same:
        product = set_means(a**2, sets) - mean**2
    else:
        b = b - float(b.mean())
        product = set_means(a * b, sets) - mean * set_means(b, sets)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(size > 1, product * size / (size - 1), np.nan))


def _few_variances(inside: FloatArray, start: IntArray, k: int) -> FloatArray:
    """Sample variance of ``inside[start:start + k]``, deviation by deviation."""
    if k == 1:
        return np.full(len(start), np.nan)
    variances = np.empty(len(start))

    def spread(parts: list[slice]) -> None:
        for part in longer(parts):
            members = [inside[start[part] + j] for j in range(k)]
            mean = sum(members) / k
            variances[part] = sum((member - mean) ** 2 for member in members) / (k - 1)

    in_parts(len(start), spread)
    return variances


def set_shares(sets: MatchedSets, n: int, amounts: FloatArray | None = None) -> FloatArray:
    """What each row gets when every set hands ``amounts`` (default: 1 / its size) to each of its members, shape (n,).

    Examples
    --------
    >>> sets = MatchedSets(*(np.array(a) for a in ([0, 1], [0, 1], [2, 3], [2, 3, 4], [0.0, 0.0])))
    >>> set_shares(sets, 5).tolist()
    [0.0, 0.0, 0.5, 1.0, 0.5]
    """
    size = sets.stop - sets.start
    amounts = 1 / size if amounts is None else amounts
    if (size == 1).all():
        rows = sets.start if isinstance(sets, SortedSets) else sets.pool[sets.start]
        return np.bincount(rows, weights=amounts, minlength=n).astype(np.float64)
    running = _covering(sets, amounts)
    # Rounding in the running sum must not make a user of a row that is in no set.
    served = _covering(sets, None) > 0
    return _to_rows(np.where(served, running, 0.0), sets, n)


def spread_over(sets: MatchedSets, n: int, amounts: FloatArray) -> FloatArray:
    """As :func:`set_shares`, quicker, up to rounding: rows in no set may get a tiny amount."""
    return _to_rows(_covering(sets, amounts), sets, n)


def _to_rows(values: FloatArray, sets: MatchedSets, n: int) -> FloatArray:
    """Values by place in the pool, summed by row."""
    if isinstance(sets, SortedSets):
        return values
    return np.bincount(sets.pool, weights=values, minlength=n).astype(np.float64)


def _covering(sets: MatchedSets, amounts: FloatArray | None) -> AnyArray:
    """Sum over the sets that hold each place of the pool; of ones for None."""
    ends = len(sets.pool) + 1
    steps = np.bincount(sets.start, amounts, ends) - np.bincount(sets.stop, amounts, ends)
    return np.asarray(np.cumsum(steps)[:-1])
