"""Metrics of reweighted units without sorting again: chunks of the order, several reweightings at a time.

Every metric here is a function of sums over the units, in the order of the score, of a multiplier that depends on the
weights alone (1 less the rank, whether the unit is in the top, ...) times columns that do not depend on them. So a
reweighting costs one pass; arrays have a row per unit and a column per reweighting.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from causalrec._typing import FloatArray, IntArray
from causalrec.evaluation._metrics import Choice
from causalrec.evaluation._ranked import Ranked

_CHUNK = 65_536  # numbers of a temporary array, which stays in the cache


@dataclass(frozen=True, eq=False)
class Sorted:
    """Units in the order of a score, as their reweighting needs them.

    Attributes
    ----------
    unit : int array of shape (n,), or None
        Row of the drawn weights that is each unit's; None is its own number.
    weight : array of shape (n,), or None
        Of the sample; None where all are one.
    columns : array of shape (n, p)
        A one and the doubly robust score (p = 2). Else a one and, for the arm and then for control, 1{t = a} / e_a and
        that times the deviation of the outcome from ``means`` (p = 5).
    group_end : int array, or None
        Last unit of each group of equal predictions; None where there are no ties.
    means : array of shape (2,)
        Of the arm and of control, in the sample.
    shares_estimated, constant : bool
    unit_totals : array of shape (p, U)
        Weighted columns, summed over each row of the drawn weights.
    """

    unit: IntArray | None = field(repr=False)
    weight: FloatArray | None = field(repr=False)
    columns: FloatArray = field(repr=False)
    group_end: IntArray | None = field(repr=False)
    means: FloatArray = field(repr=False)
    shares_estimated: bool
    constant: bool
    unit_totals: FloatArray = field(repr=False)

    @property
    def n(self) -> int:
        """Units."""
        return len(self.columns)


def sorted_units(ranked: Ranked, unit: IntArray | None, n_units: int) -> Sorted:
    """What :class:`Sorted` holds, of ranked units; ``unit`` is each one's row of the drawn weights."""
    w = None if np.ptp(ranked.weight) == 0 else ranked.weight
    means = np.array([ranked.mean(1), ranked.mean(0)])
    if ranked.doubly_robust:
        columns = np.column_stack([np.ones(ranked.n), ranked.gamma])
    else:
        columns = np.ones((ranked.n, 5))
        for j, arm in enumerate((1, 0)):
            own = (ranked.arm == arm) / ranked.propensity(arm)
            columns[:, 2 * j + 1], columns[:, 2 * j + 2] = own, own * (ranked.y - means[j])
    weighted = columns if w is None else columns * w[:, None]
    totals = weighted.T if unit is None else np.array(
        [np.bincount(unit, weights=column, minlength=n_units) for column in weighted.T])  # fmt: skip
    return Sorted(
        unit=unit, weight=w, columns=columns, group_end=ranked.group_end if ranked.tied else None, means=means,
        shares_estimated=ranked.scores.shares_estimated, constant=ranked.constant, unit_totals=totals,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Some units: their weights, the weight up to and with each group, and the sizes of the groups (None: all one)."""

    first: int
    last: int
    weight: FloatArray
    carry: FloatArray
    above: FloatArray
    sizes: IntArray | None

    def before(self) -> FloatArray:
        """The weight above each group."""
        return np.concatenate([self.carry, self.above[:-1]])

    def rank(self, total: FloatArray) -> FloatArray:
        """Mid-rank of each unit, as a share of all weight."""
        if self.sizes is not None:
            return self.spread((self.before() + self.above) / (2 * total))
        rank = self.weight * -0.5
        rank += self.above
        rank *= 1 / total
        return np.asarray(rank)

    def spread(self, by_group: FloatArray) -> FloatArray:
        """A row per group as one per unit."""
        return by_group if self.sizes is None else np.repeat(by_group, self.sizes, axis=0)

    def averaged(self, by_unit: FloatArray) -> FloatArray:
        """Plain means over the units of each group."""
        if self.sizes is None:
            return by_unit
        starts = np.cumsum(self.sizes) - self.sizes
        return self.spread(np.add.reduceat(by_unit, starts, axis=0) / self.sizes[:, None])


def _chunks(units: Sorted, drawn: FloatArray) -> Iterator[_Chunk]:
    """The order in chunks that part no group of equal predictions."""
    size = max(_CHUNK // drawn.shape[1], 1)
    ends = units.group_end
    carry = np.zeros((1, drawn.shape[1]))
    first = 0
    while first < units.n:
        last, sizes = min(first + size, units.n), None
        if ends is not None:
            left, right = np.searchsorted(ends, [first, last])
            right = max(right - 1, left)  # the last group that ends in the chunk, or one that is larger than it
            sizes = np.diff(ends[left : right + 1], prepend=first - 1)
            last = int(ends[right]) + 1
        weight = _weights(units, drawn, first, last)
        running = np.cumsum(weight, axis=0)
        running += carry
        above = running if sizes is None else running[np.cumsum(sizes) - 1]
        yield _Chunk(first, last, weight, carry, above, sizes)
        carry, first = running[-1:], last


def _weights(units: Sorted, drawn: FloatArray, first: int, last: int) -> FloatArray:
    weight = drawn[first:last] if units.unit is None else drawn.take(units.unit[first:last], axis=0)
    return weight if units.weight is None else weight * units.weight[first:last, None]


def reweighted_values(choice: Choice, units: Sorted, drawn: FloatArray) -> FloatArray:
    """A metric under each column of ``drawn``, shape (U, R): the weights that multiply those of the sample.

    Equal to :func:`causalrec.evaluation._metrics.value` of units so weighted.

    Returns
    -------
    array of shape (R,)
    """
    if units.constant and choice.metric in ("qini", "rate_qini", "autoc"):
        return np.zeros(drawn.shape[1])
    totals = units.unit_totals @ drawn
    sums = np.zeros_like(totals)
    running = np.zeros((1, drawn.shape[1]))  # of the AUTOC
    first_rank: Any = None
    for chunk in _chunks(units, drawn):
        if choice.metric == "autoc":
            multiplier, running = _above_itself(chunk, running)
        elif choice.metric == "lift_share":
            before = chunk.before()
            multiplier = chunk.spread(np.clip((choice.k * totals[0] - before) / (chunk.above - before), 0.0, 1.0))
        else:
            multiplier = chunk.rank(totals[0])
            if choice.metric == "uplift_at_k":
                first_rank = multiplier[:1].copy() if first_rank is None else first_rank
                multiplier = multiplier <= np.maximum(choice.k, first_rank)
            else:
                np.subtract(1.0 if choice.metric == "auuc" else 0.5, multiplier, out=multiplier)
        multiplier = multiplier * chunk.weight
        sums += units.columns[chunk.first : chunk.last].T @ multiplier
        if choice.looks_at_top and not multiplier[-1].any():
            break  # below the top
    if choice.metric == "autoc":
        sums = (running - 1) * totals - sums
    if choice.metric == "uplift_at_k":
        return _effect(units, sums)
    gain = _gain(units, sums, totals)
    return gain / (_gain(units, totals, totals) if choice.metric == "lift_share" else totals[0])


def _above_itself(chunk: _Chunk, running: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The part of the AUTOC's multiplier that is taken off, and the running sum of grid weight over weight above."""
    grid = chunk.averaged(chunk.weight)
    if chunk.sizes is None:
        above = chunk.above
    else:
        above = np.cumsum(grid, axis=0)
        above += chunk.carry
    step = grid / above
    up_to = np.cumsum(step, axis=0)
    up_to += running
    return chunk.averaged(up_to - step), up_to[-1:]


def _gain(units: Sorted, sums: FloatArray, totals: FloatArray) -> FloatArray:
    """Sums of multiplier x score; scores depend on the arms' reweighted means and shares."""
    if len(sums) == 2:
        return np.asarray(sums[1])
    shift = totals[[2, 4]] / totals[[1, 3]]  # of the arms' means from those in the sample
    factor = totals[0] / totals[[1, 3]] if units.shares_estimated else np.ones((2, 1))
    effect = (units.means[0] + shift[0]) - (units.means[1] + shift[1])
    apart = factor * (sums[[2, 4]] - shift * sums[[1, 3]])
    return np.asarray(effect * sums[0] + apart[0] - apart[1])


def _effect(units: Sorted, sums: FloatArray) -> FloatArray:
    """The average effect in a part: the mean of doubly robust scores, or the difference of the arms' means.

    NaN where the part lacks an arm.
    """
    if len(sums) == 2:
        return np.asarray(sums[1] / sums[0])
    with np.errstate(invalid="ignore"):
        means = units.means[:, None] + sums[[2, 4]] / sums[[1, 3]]
    return np.asarray(means[0] - means[1])


def reweighted_curve(kind: str, units: Sorted, drawn: FloatArray, ends: IntArray, shares: FloatArray) -> FloatArray:
    """A curve at ``shares``, all above zero, under each column of ``drawn``; sums are straight between units ``ends``.

    Parameters
    ----------
    kind : {"qini", "toc", "uplift", "cumulative_gain"}

    Returns
    -------
    array of shape (len(shares), R)
    """
    totals = units.unit_totals @ drawn
    sums = _prefix_sums(units, drawn, ends)
    at = np.empty((len(shares), *totals.shape))
    for r in range(drawn.shape[1]):
        share = sums[:, 0, r] / totals[0, r]
        for j in range(len(totals)):
            at[:, j, r] = np.interp(shares, share, sums[:, j, r])
    if kind in ("uplift", "cumulative_gain"):
        effect = np.stack([_effect(units, each) for each in at])
        return effect if kind == "uplift" else effect * shares[:, None]
    gain: FloatArray = np.stack([_gain(units, each, totals) for each in at]) / totals[0]
    return gain if kind == "qini" else np.asarray(gain / shares[:, None] - _gain(units, totals, totals) / totals[0])


def _prefix_sums(units: Sorted, drawn: FloatArray, ends: IntArray) -> FloatArray:
    """Sums of weighted columns above all and down to each of ``ends``, (1 + len(ends), p, R)."""
    sums = np.zeros((len(ends) + 1, len(units.unit_totals), drawn.shape[1]))
    size = max(_CHUNK // drawn.shape[1], 1)
    for j, (start, stop) in enumerate(zip(np.append(0, ends + 1)[:-1], ends + 1, strict=True)):
        sums[j + 1] = sums[j]
        for first in range(start, stop, size):
            last = min(first + size, stop)
            weight = _weights(units, drawn, first, last)
            sums[j + 1] += units.columns[first:last].T @ weight
    return sums
