"""Two samples made ready for resampling: a mean or ratio as sums, a quantile as ranks, any other statistic as rows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import pandas as pd

from causalrec._typing import AnyArray, FloatArray
from causalrec._validation import check_length, check_vector
from causalrec.abtest.resampling._bins import Bins, make_bins
from causalrec.exceptions import CausalRecError, OutcomeError

Statistic: TypeAlias = Literal["mean", "median", "ratio"] | tuple[Literal["quantile"], float] | Callable[..., Any]
_ROUNDING = 1e-13  # share of the terms' size, below which a sum of them is zero
_EXPECTED = "'mean', 'ratio', 'median', ('quantile', q) with q in (0, 1), or a function of an array of values"


class Sample(Protocol):
    """One arm. Values of the statistic are given as distances from the pair's centre."""

    @property
    def n(self) -> int:
        """Units."""

    @property
    def width(self) -> int:
        """Numbers held at once for one resample."""

    def value(self) -> FloatArray:
        """The statistic of the sample itself, and its variance (NaN if unknown), shape (2,)."""

    def bootstrap(self, size: int, rng: np.random.Generator) -> FloatArray:
        """The same of ``size`` resamples, shape (size, 2)."""

    def leave_one_out(self) -> FloatArray:
        """The statistic without each unit in turn, shape (n,)."""


def ratio_of_sums(sums: FloatArray, n: int, size: float) -> FloatArray:
    """Mean or ratio, and its variance, from the sums (…, 2 or 5) of :func:`sum_columns` over n units; shape (…, 2).

    ``size`` is the sum of absolute denominators: sums that are but the rounding of that are zero, and give NaN.

    With L the scores and D the sizes the value is r = sum L / sum D, and its variance by the delta method (Deng et al.
    2018) sum (L - r D)^2 / (n (n - 1) mean(D)^2): for a mean, where D = 1, s^2 / n.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        r = np.where(cancels(sums[..., 1], size), np.nan, sums[..., 0] / sums[..., 1])
        if sums.shape[-1] == 2:
            return np.stack([r, np.full_like(r, np.nan)], axis=-1)
        squares = sums[..., 2] - 2 * r * sums[..., 3] + r**2 * sums[..., 4]
        return np.stack([r, np.maximum(squares, 0.0) * n / (n - 1) / sums[..., 1] ** 2], axis=-1)


def cancels(total: Any, size: float) -> Any:
    """Whether sums of terms, of this total absolute size, are zero but for rounding."""
    return np.abs(total) <= _ROUNDING * size


@dataclass(frozen=True)
class SumSample:
    """A mean or a ratio, from the sums of columns."""

    columns: FloatArray = field(repr=False)
    bins: Bins

    @cached_property
    def size(self) -> float:
        """The sum of absolute denominators."""
        return float(np.abs(self.columns[:, 1]).sum())

    @property
    def n(self) -> int:
        return len(self.columns)

    @property
    def width(self) -> int:
        return len(self.bins.count)

    def value(self) -> FloatArray:
        return ratio_of_sums(self.columns.sum(axis=0), self.n, self.size)

    def bootstrap(self, size: int, rng: np.random.Generator) -> FloatArray:
        return ratio_of_sums(self.bins.bootstrap_sums(size, rng), self.n, self.size)

    def leave_one_out(self) -> FloatArray:
        left = self.columns.sum(axis=0) - self.columns
        return np.asarray(ratio_of_sums(left[:, :2], self.n - 1, self.size)[:, 0])


@dataclass(frozen=True)
class QuantileSample:
    """A quantile by linear interpolation (type 7), from the ranks of order statistics."""

    ordered: FloatArray = field(repr=False)
    q: float

    @property
    def n(self) -> int:
        return len(self.ordered)

    @property
    def width(self) -> int:
        return 1

    def value(self) -> FloatArray:
        return np.array([np.quantile(self.ordered, self.q), np.nan])

    def bootstrap(self, size: int, rng: np.random.Generator) -> FloatArray:
        """Exact in law: a resample is the values at floor(n U) for n uniforms U, whose order statistics are drawn.

        The (j + 1)-th of n is Beta(j + 1, n - j); the next one is the least of the n - j - 1 uniforms above it.
        """
        n = self.n
        j, share = quantile_rank(n, self.q)
        first = rng.beta(j + 1, n - j, size)
        values = self.ordered[np.minimum((n * first).astype(np.int64), n - 1)]
        if share > 0:
            second = 1 - (1 - first) * rng.random(size) ** (1 / (n - j - 1))
            above = self.ordered[np.minimum((n * second).astype(np.int64), n - 1)]
            values = values + share * (above - values)
        return np.column_stack([values, np.full(size, np.nan)])

    @property
    def has_ties(self) -> bool:
        """Whether values repeat where the quantile lies: within two standard errors of its rank."""
        middle, reach = (self.n - 1) * self.q, 2 * (self.n * self.q * (1 - self.q)) ** 0.5
        near = self.ordered[max(int(middle - reach), 0) : int(middle + reach) + 2]
        return bool((np.diff(near) == 0).mean() > 0.5)

    def leave_one_out(self) -> FloatArray:
        n = self.n
        j, share = quantile_rank(n - 1, self.q)
        left_out = np.arange(n)
        low = np.where(left_out > j, self.ordered[j], self.ordered[j + 1])
        if share == 0:
            return np.asarray(low)
        high = np.where(left_out > j + 1, self.ordered[j + 1], self.ordered[min(j + 2, n - 1)])
        return np.asarray(low + share * (high - low))


def quantile_rank(n: int, q: float) -> tuple[int, float]:
    """Position of a quantile among n ordered values: the rank below, from 0, and the share of the way to the next."""
    place = (n - 1) * q
    return int(place), place - int(place)


@dataclass(frozen=True)
class RowSample:
    """Any statistic of the rows themselves."""

    values: FloatArray = field(repr=False)
    function: Callable[[FloatArray], FloatArray]

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def width(self) -> int:
        return self.n

    def value(self) -> FloatArray:
        return np.array([self.function(self.values[None, :])[0], np.nan])

    def bootstrap(self, size: int, rng: np.random.Generator) -> FloatArray:
        drawn = self.function(self.values[rng.integers(self.n, size=(size, self.n))])
        return np.column_stack([drawn, np.full(size, np.nan)])

    def leave_one_out(self) -> FloatArray:
        rows = np.arange(self.n)
        return np.concatenate([self.function(self.values[None, rows != i]) for i in rows])


@dataclass(frozen=True)
class Pair:
    """Both arms, the centre that their values are distances from, and the statistic's name."""

    control: Sample
    treatment: Sample
    centre: float
    name: str


def statistic_name(statistic: Statistic) -> str:
    """The name of a statistic: ``"mean"``, ``"quantile 0.9"``, or that of the function.

    Raises
    ------
    CausalRecError
        For what is not a statistic.
    """
    if isinstance(statistic, str) and statistic in ("mean", "median", "ratio"):
        return statistic
    if callable(statistic):
        return str(getattr(statistic, "__name__", type(statistic).__name__))
    if isinstance(statistic, tuple) and len(statistic) == 2 and statistic[0] == "quantile" and 0 < statistic[1] < 1:
        return f"quantile {statistic[1]:g}"
    raise CausalRecError(f"statistic is {statistic!r}; expected {_EXPECTED}.")


def row_function(statistic: Callable[..., Any]) -> Callable[[FloatArray], FloatArray]:
    """A user's function as one from rows of values (size, n) to (size,)."""
    name = statistic_name(statistic)
    try:
        takes_axis = "axis" in inspect.signature(statistic).parameters
    except ValueError:  # some functions written in C have no signature
        takes_axis = False

    def evaluate(rows: FloatArray) -> FloatArray:
        found = statistic(rows, axis=-1) if takes_axis else [statistic(row) for row in rows]
        values = np.asarray(found, dtype=np.float64)
        if values.shape != (len(rows),):
            raise CausalRecError(
                f"statistic {name!r} gave an array of shape {values.shape} for {len(rows)} samples; expected one "
                "number a sample."
            )
        return values

    return evaluate


def read_pair(
    control: Any,
    treatment: Any,
    statistic: Statistic,
    clusters: tuple[Any, Any] = (None, None),
    *,
    n_resamples: int,
    with_variance: bool,
) -> Pair:
    """Check two samples and make them ready for the bootstrap.

    Raises
    ------
    OutcomeError
        For missing or infinite values, an arm with fewer than two units, denominators that sum to zero.
    CausalRecError
        For values of another shape, an unknown statistic, clusters of a statistic that is not a mean or ratio.
    """
    name = statistic_name(statistic)
    if name in ("mean", "ratio") and not callable(statistic):
        arms, centre = sum_columns(control, treatment, name, clusters, with_variance=with_variance)
        both = [SumSample(columns, make_bins(columns, 2, n_resamples)) for columns in arms]
        return Pair(both[0], both[1], centre, name)
    rows = read_rows(control, treatment, name, clusters)
    if callable(statistic):
        function = row_function(statistic)
        return Pair(RowSample(rows[0], function), RowSample(rows[1], function), 0.0, name)
    q = 0.5 if isinstance(statistic, str) else statistic[1]
    return Pair(QuantileSample(np.sort(rows[0]), q), QuantileSample(np.sort(rows[1]), q), 0.0, name)


def read_rows(control: Any, treatment: Any, name: str, clusters: tuple[Any, Any]) -> tuple[FloatArray, FloatArray]:
    """Two checked vectors of values."""
    if any(labels is not None for labels in clusters):
        raise CausalRecError(
            f"clusters go with statistic='mean' or 'ratio'; found {name!r}. Aggregate the rows to one value a cluster."
        )
    arms = check_vector(control, name="control"), check_vector(treatment, name="treatment")
    _check_units(arms)
    return arms


def sum_columns(
    control: Any, treatment: Any, name: str, clusters: tuple[Any, Any], *, with_variance: bool
) -> tuple[list[FloatArray], float]:
    """The columns whose sums give the mean or ratio, per arm, and the centre: that of both arms together.

    They are the scores L = (numerator - centre x denominator) / mean denominator and the sizes D = denominator / mean
    denominator, and L^2, LD, D^2 for the variance. Numerator / denominator = centre + sum L / sum D, without loss
    of digits where the centre is large.
    """
    if (clusters[0] is None) != (clusters[1] is None):
        raise CausalRecError("clusters of one arm only; give clusters_control and clusters_treatment, or neither.")
    arms = [
        _sums_of_units(values, name, labels, arm)
        for values, labels, arm in zip((control, treatment), clusters, ("control", "treatment"), strict=True)
    ]
    _check_units(arms)
    for values, arm in zip(arms, ("control", "treatment"), strict=True):
        if cancels(values[:, 1].sum(), np.abs(values[:, 1]).sum()):
            raise OutcomeError(f"{arm}: the denominators sum to zero, so there is no ratio. Check that column.")
    total, n = arms[0].sum(axis=0) + arms[1].sum(axis=0), len(arms[0]) + len(arms[1])
    centre, size = float(total[0] / total[1]), float(total[1] / n)
    if not np.isfinite(centre) or cancels(total[1], sum(np.abs(values[:, 1]).sum() for values in arms)):
        raise OutcomeError("the denominators of both arms sum to zero, so there is no ratio. Check that column.")
    columns = []
    for values in arms:
        L, D = (values[:, 0] - centre * values[:, 1]) / size, values[:, 1] / size
        columns.append(np.column_stack([L, D, L * L, L * D, D * D] if with_variance else [L, D]))
    return columns, centre


def _sums_of_units(values: Any, name: str, clusters: Any, arm: str) -> FloatArray:
    """Numerator and denominator of each unit, shape (n, 2)."""
    if name == "ratio":
        array: AnyArray = np.asarray(values)
        if array.ndim != 2 or array.shape[1] != 2:
            raise CausalRecError(
                f"{arm} has shape {array.shape}; statistic='ratio' takes (n, 2): a column of numerators and one of "
                "denominators."
            )
        pairs = np.column_stack([check_vector(array[:, j], name=f"{arm}, column {j}") for j in (0, 1)])
    else:
        vector = check_vector(values, name=arm)
        pairs = np.column_stack([vector, np.ones(len(vector))])
    if clusters is None:
        return pairs
    check_length(len(clusters), len(pairs), name=f"clusters_{arm}")
    codes, labels = pd.factorize(np.asarray(clusters))
    if (codes < 0).any():
        raise CausalRecError(f"clusters_{arm}: {(codes < 0).sum()} of {len(codes)} are missing. Drop those rows first.")
    return np.column_stack([np.bincount(codes, weights=column, minlength=len(labels)) for column in pairs.T])


def _check_units(arms: Sequence[FloatArray]) -> None:
    for values, arm in zip(arms, ("control", "treatment"), strict=True):
        if len(values) < 2:
            raise OutcomeError(
                f"{arm} has {len(values)} units; resampling needs at least two. Collect more, or drop the arm."
            )
