"""The permutation test of two arms: what would the labels of the arms show if they meant nothing?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Any, Protocol

import numpy as np

from causalrec._resampling import Progress, draw_in_blocks
from causalrec._typing import AnyArray, BoolArray, FloatArray, IntArray, RandomState
from causalrec._validation import check_alternative
from causalrec.abtest.hypotheses import Alternative
from causalrec.abtest.resampling._bins import Bins, make_bins
from causalrec.abtest.resampling._samples import (
    Statistic,
    quantile_rank,
    ratio_of_sums,
    read_rows,
    row_function,
    statistic_name,
    sum_columns,
)
from causalrec.exceptions import CausalRecError, OutcomeError
from causalrec.results import NAN, ResamplingResult

_TIE = 1e-9  # of the draws' standard deviation: differences that only rounding tells apart
_EXACT_BLOCK = 500
_WINDOW = 6  # standard deviations: outside it in 1 of 1e9 splits


def permutation_test(
    control: Any,
    treatment: Any,
    *,
    statistic: Statistic = "mean",
    studentized: bool = False,
    clusters_control: Any = None,
    clusters_treatment: Any = None,
    n_resamples: int = 10_000,
    alternative: Alternative = "two-sided",
    rng: RandomState = None,
    progress: Progress | None = None,
) -> ResamplingResult:
    """Test whether the arms are alike, by dealing their units out anew.

    The null is that the label of a unit changes nothing for it; then the test is exact. Where variances differ a plain
    difference of means also rejects for that reason; with ``studentized`` the test is of the means alone, exact under
    the strict null and asymptotically right otherwise (Janssen 1997; Chung and Romano 2013).

    All splits are enumerated where there are at most ``n_resamples``; else p = (1 + hits) / (1 + n_resamples) of random
    splits, which is never zero (Phipson and Smyth 2010). The two-sided p-value is twice the smaller one-sided one.
    Means and ratios of large samples are drawn from the hypergeometric counts of distinct values or narrow bins, as
    :func:`causalrec.abtest.bootstrap_diff` does. For a quantile the units below, in and above a window around it are
    counted, and only those in it are dealt out, which has the same law; functions read all rows of every split.

    Parameters
    ----------
    control, treatment, statistic, clusters_control, clusters_treatment, rng, progress
        As of :func:`causalrec.abtest.bootstrap_diff`; clusters are dealt out whole.
    studentized : bool
        Divide by the standard error of each split; for means and ratios. ``draws`` are then those quotients times the
        standard error of the sample, so that they compare with ``estimate``.
    n_resamples : int
    alternative : {"two-sided", "greater", "less"}

    Returns
    -------
    ResamplingResult
        Without standard error and interval (NaN): a test of no effect at all gives none. Where all splits give the same
        difference ``pvalue`` is NaN, and ``method`` says so.

    Raises
    ------
    OutcomeError
        For missing or infinite values, an arm of fewer than two units, denominators that sum to zero.
    CausalRecError
        For an unknown statistic, a studentised quantile or function, another shape.

    Examples
    --------
    >>> result = permutation_test([1.2, 3.4, 2.2, 1.9], [3.9, 4.1, 3.5, 5.0], alternative="greater")
    >>> print(f"{result.pvalue:.4f} = 1/70, {result.method}")
    0.0143 = 1/70, permutation test, all 70 splits; no interval
    """
    check_alternative(alternative)
    name = statistic_name(statistic)
    if studentized and (callable(statistic) or name not in ("mean", "ratio")):
        raise CausalRecError(
            f"studentized=True needs the standard error of each split, which {name!r} has not; take studentized=False."
        )
    pooled = _pool(control, treatment, statistic, (clusters_control, clusters_treatment), studentized, n_resamples)
    observed = pooled.split(np.arange(pooled.n)[None, :] >= pooled.n_control)
    # comb(n, k) >= n for 0 < k < n, and takes seconds to write out for a million units.
    exact = pooled.n <= n_resamples and math.comb(pooled.n, pooled.n_control) <= n_resamples
    if exact:
        values = np.concatenate([pooled.split(masks) for masks in _all_splits(pooled.n, pooled.n_control)])
    else:
        values = draw_in_blocks(
            pooled.random, n_resamples, width=pooled.width, rng=rng, progress=progress, threads=not callable(statistic)
        )
    estimate = float(observed[0, 1] - observed[0, 0])
    draws, reason = _differences(values, observed[0], studentized)
    pvalue = NAN if reason else _pvalue(draws, estimate, alternative, exact=exact)
    splits = f"all {len(draws):,} splits" if exact else f"{n_resamples:,} random splits"
    return ResamplingResult(
        estimate=estimate, std_error=NAN, ci_low=NAN, ci_high=NAN, pvalue=pvalue, confidence_level=NAN, n_obs=pooled.n,
        method=f"{'studentized ' if studentized else ''}permutation test, {splits}; no interval{reason}",
        estimand=f"difference in {name}", kind="permutation", statistic=name,
        control_value=float(pooled.centre + observed[0, 0]), treatment_value=float(pooled.centre + observed[0, 1]),
        n_resamples=len(draws), draws=draws,
    )  # fmt: skip


class _Pooled(Protocol):
    """All units, to be split into two arms: shape (size, 4), the values of control and treatment, their variances."""

    centre: float
    n_control: int

    @property
    def n(self) -> int: ...

    @property
    def width(self) -> int: ...

    def split(self, treated: BoolArray) -> FloatArray: ...

    def random(self, size: int, rng: np.random.Generator) -> FloatArray: ...


@dataclass
class _PooledSums:
    """Units of a mean or ratio."""

    columns: FloatArray = field(repr=False)
    n_control: int
    centre: float
    bins: Bins

    @property
    def n(self) -> int:
        return len(self.columns)

    @property
    def width(self) -> int:
        return len(self.bins.count)

    @cached_property
    def _size(self) -> float:
        return float(np.abs(self.columns[:, 1]).sum())

    def split(self, treated: BoolArray) -> FloatArray:
        return self._values(treated.astype(np.float64) @ self.columns)

    def random(self, size: int, rng: np.random.Generator) -> FloatArray:
        return self._values(self.bins.subset_sums(self.n - self.n_control, size, rng))

    def _values(self, sums: FloatArray) -> FloatArray:
        treatment = ratio_of_sums(sums, self.n - self.n_control, self._size)
        control = ratio_of_sums(self.columns.sum(axis=0) - sums, self.n_control, self._size)
        return np.column_stack([control[:, 0], treatment[:, 0], control[:, 1], treatment[:, 1]])


@dataclass
class _PooledQuantile:
    """Units of a quantile, in the order of their values."""

    ordered: FloatArray = field(repr=False)
    place: IntArray = field(repr=False)  # of each of these units among those that were given
    n_control: int
    centre: float
    q: float

    @property
    def n(self) -> int:
        return len(self.ordered)

    @property
    def width(self) -> int:
        return self._window[1] - self._window[0]

    @cached_property
    def _window(self) -> tuple[int, int]:
        """Where the order statistics of both arms lie in nearly all splits.

        The place of the k-th of m that are drawn from N has the negative hypergeometric law.
        """
        ends, n = [], self.n
        for m in (self.n_control, n - self.n_control):
            k = quantile_rank(m, self.q)[0] + 1
            middle = k * (n + 1) / (m + 1)
            spread = math.sqrt(k * (m + 1 - k) * (n + 1) * (n - m) / ((m + 1) ** 2 * (m + 2)))
            ends += [middle - _WINDOW * spread - 2, middle + _WINDOW * spread + 2 + (n + 1) / (m + 1)]
        return max(int(min(ends)), 0), min(int(max(ends)) + 1, n)

    def split(self, treated: BoolArray) -> FloatArray:
        return self._with_variance(self._values(treated[:, self.place], 0, np.zeros(len(treated), dtype=np.int64)))

    def random(self, size: int, rng: np.random.Generator) -> FloatArray:
        start, stop = self._window
        sizes = [start, stop - start, self.n - stop]
        below, within, above = rng.multivariate_hypergeometric(sizes, self.n - self.n_control, size).T
        middle = _deal(within, sizes[1], rng)
        values = self._values(middle, start, below)
        outside = np.isnan(values).any(axis=1)
        if outside.any():  # deal out the others too
            parts = [_deal(below[outside], sizes[0], rng), middle[outside], _deal(above[outside], sizes[2], rng)]
            values[outside] = self._values(np.hstack(parts), 0, np.zeros(outside.sum(), dtype=np.int64))
        return self._with_variance(values)

    def _values(self, treated: BoolArray, start: int, below: IntArray) -> FloatArray:
        """Quantiles of control and treatment, shape (size, 2): who is treated from the unit ``start`` on, and how many
        are ``below`` it. NaN where the quantile is not among them.
        """
        control = self._quantile(~treated, start, start - below, self.n_control)
        return np.column_stack([control, self._quantile(treated, start, below, self.n - self.n_control)])

    def _quantile(self, chosen: BoolArray, start: int, below: IntArray, n: int) -> FloatArray:
        rank, share = quantile_rank(n, self.q)
        count: AnyArray = np.cumsum(chosen, axis=1, dtype=np.int32)  # half the memory
        low = self._order_statistic(count, start, rank - below)
        if share == 0:
            return low
        return np.asarray(low + share * (self._order_statistic(count, start, rank + 1 - below) - low))

    def _order_statistic(self, count: AnyArray, start: int, rank: IntArray) -> FloatArray:
        """The value of the chosen unit with each ``rank``, from 0, by the running counts of chosen units."""
        known = (rank >= 0) & (rank < count[:, -1])
        place = (count <= rank[:, None]).sum(axis=1)
        return np.where(known, self.ordered[np.minimum(start + place, self.n - 1)], np.nan)

    def _with_variance(self, values: FloatArray) -> FloatArray:
        return np.hstack([values, np.full(values.shape, np.nan)])


def _deal(n_treated: IntArray, size: int, rng: np.random.Generator) -> BoolArray:
    """Who of ``size`` units is treated, ``n_treated`` in each row."""
    treated = np.arange(size) < n_treated[:, None]
    return rng.permuted(treated, axis=1, out=treated)


@dataclass
class _PooledRows:
    """Units of any other statistic."""

    values: FloatArray = field(repr=False)
    n_control: int
    centre: float
    function: Callable[[FloatArray], FloatArray]

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def width(self) -> int:
        return self.n

    def split(self, treated: BoolArray) -> FloatArray:
        return self._values(self.values[np.argsort(treated, axis=1, kind="stable")])

    def random(self, size: int, rng: np.random.Generator) -> FloatArray:
        return self._values(rng.permuted(np.tile(self.values, (size, 1)), axis=1))

    def _values(self, dealt: FloatArray) -> FloatArray:
        control, treatment = self.function(dealt[:, : self.n_control]), self.function(dealt[:, self.n_control :])
        return np.column_stack([control, treatment, np.full((len(dealt), 2), np.nan)])


def _pool(
    control: Any, treatment: Any, statistic: Statistic, clusters: tuple[Any, Any], studentized: bool, n_resamples: int
) -> _Pooled:
    name = statistic_name(statistic)
    if name in ("mean", "ratio") and not callable(statistic):
        arms, centre = sum_columns(control, treatment, name, clusters, with_variance=studentized)
        columns = np.concatenate(arms)
        return _PooledSums(columns, len(arms[0]), centre, make_bins(columns, 2, n_resamples))
    rows = read_rows(control, treatment, name, clusters)
    values, n_control = np.concatenate(rows), len(rows[0])
    if callable(statistic):
        return _PooledRows(values, n_control, 0.0, row_function(statistic))
    place = np.argsort(values, kind="stable")
    return _PooledQuantile(values[place], place, n_control, 0.0, 0.5 if isinstance(statistic, str) else statistic[1])


def _all_splits(n: int, n_control: int) -> Iterator[BoolArray]:
    """Every way to choose the treated, in blocks of shape (size, n)."""
    block: list[AnyArray] = []
    for chosen in combinations(range(n), n_control):
        treated = np.ones(n, dtype=bool)
        treated[list(chosen)] = False
        block.append(treated)
        if len(block) == _EXACT_BLOCK:
            yield np.array(block)
            block = []
    if block:
        yield np.array(block)


def _differences(values: FloatArray, observed: FloatArray, studentized: bool) -> tuple[FloatArray, str]:
    """What each split gives, on the scale of the estimate; and the reason if that is no basis for a p-value."""
    draws = values[:, 1] - values[:, 0]
    if not np.isfinite(draws).all():
        raise OutcomeError(
            f"{int((~np.isfinite(draws)).sum())} of {len(draws)} splits have an arm whose statistic is not finite: its "
            "denominators sum to zero. There are too few units for this statistic."
        )
    if np.ptp(draws) == 0:
        return draws, "; no p-value: every split gives the same difference"
    if not studentized:
        return draws, ""
    with np.errstate(divide="ignore", invalid="ignore"):
        draws = draws / np.sqrt(values[:, 2:].sum(axis=1)) * math.sqrt(observed[2:].sum())
    if not np.isfinite(draws).all():
        return draws, "; no p-value: some splits have no variance"
    return draws, ""


def _pvalue(draws: FloatArray, estimate: float, alternative: Alternative, *, exact: bool) -> float:
    slack = _TIE * float(np.std(draws))
    itself = 0 if exact else 1  # the observed split is among all of them
    above, below = (
        (itself + np.count_nonzero(hits)) / (itself + len(draws))
        for hits in (draws >= estimate - slack, draws <= estimate + slack)
    )
    if alternative == "two-sided":
        return float(min(1.0, 2 * min(above, below)))
    return float(above if alternative == "greater" else below)
