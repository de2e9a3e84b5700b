"""Differences between two samples by the bootstrap, with the error and intervals that it gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy.special import ndtr, ndtri

from causalrec._resampling import Progress, draw_in_blocks, share_of_hits
from causalrec._typing import FloatArray, RandomState
from causalrec._validation import check_alternative, check_confidence_level, list_some
from causalrec.abtest.hypotheses import Alternative
from causalrec.abtest.resampling._samples import Pair, QuantileSample, Statistic, read_pair, statistic_name
from causalrec.exceptions import CausalRecError, OutcomeError
from causalrec.results import NAN, ResamplingResult

BootstrapMethod: TypeAlias = Literal["percentile", "basic", "bca", "studentized"]
_METHODS = ("percentile", "basic", "bca", "studentized")


@dataclass(frozen=True)
class _Interval:
    """Two-tailed limits, each with ``tail`` outside, and the p-values of the two one-sided tests that invert them."""

    low: float
    high: float
    p_greater: float
    p_less: float


class _NoIntervalError(Exception):
    """The reason why there is no interval, for the result's ``method``."""


def bootstrap_diff(
    control: Any,
    treatment: Any,
    *,
    statistic: Statistic = "mean",
    method: BootstrapMethod = "percentile",
    relative: bool = False,
    clusters_control: Any = None,
    clusters_treatment: Any = None,
    n_resamples: int = 10_000,
    confidence_level: float = 0.95,
    alternative: Alternative = "two-sided",
    rng: RandomState = None,
    progress: Progress | None = None,
) -> ResamplingResult:
    """Difference of a statistic between two arms, its error and interval by the bootstrap (Efron and Tibshirani 1993).

    Units are drawn with replacement within each arm. The time does not grow with the arms where the statistic is a
    mean, a ratio or a quantile: the sums of a resample are drawn from how often each distinct value, or each of 256
    narrow bins (1,024 for ratios), occurs in it, and quantiles from the ranks of order statistics. This is exact in
    law for quantiles, for up to 512 distinct values, and up to 50 million drawn rows in all; beyond, means and
    variances of the resampled sums are exact, and the skewness nearly so (the bins hold some 1e-4 of the variance of a
    mean, 1e-2 of a ratio's; only the third cumulant of that part is lost). Any other function reads all rows of every
    resample.

    Parameters
    ----------
    control, treatment : array-like of shape (n,), or (n, 2) for a ratio: numerators and denominators
        A row per unit.
    statistic : "mean", "median", "ratio", ("quantile", q) or callable
        A ratio is of the sums of two columns. A function takes an array and returns a number; with a parameter ``axis``
        (as numpy's) it gets many samples at once.
    method : {"percentile", "basic", "bca", "studentized"}
        ``"bca"`` is bias-corrected and accelerated (Efron 1987), its acceleration from leaving out each unit (n calls
        of a function); ``"studentized"`` is the bootstrap-t, for means and ratios.
    relative : bool
        Treatment / control - 1 instead of treatment - control.
    clusters_control, clusters_treatment : array-like of shape (n,), optional
        The cluster of each row: whole clusters are drawn, by their sums. For means (of rows) and ratios.
    n_resamples : int
    confidence_level : float
    alternative : {"two-sided", "greater", "less"}
        One-sided intervals are open, as scipy's.
    rng : int or Generator, optional
    progress : callable, optional
        Called with the resamples done and those asked for.

    Returns
    -------
    ResamplingResult
        ``std_error`` is the draws' standard deviation. ``pvalue`` inverts the interval: it is the level at which the
        interval of ``method`` starts to leave out zero, one added to counts and resamples, so never below
        1 / (n_resamples + 1) save by the correction of BCa. Where there is no interval it is NaN and ``method`` says
        why.

    Raises
    ------
    OutcomeError
        For missing or infinite values, an arm of fewer than two units, a denominator or (relative) a control that is
        zero, resamples without a finite value.
    CausalRecError
        For an unknown statistic or method, a studentised quantile or function, another shape.

    Examples
    --------
    >>> data = np.random.default_rng(0)
    >>> control, treatment = data.exponential(10, 500), data.exponential(13, 500)
    >>> result = bootstrap_diff(control, treatment, method="bca", rng=1)
    >>> print(f"{result.estimate:.2f} [{result.ci_low:.1f}, {result.ci_high:.1f}]")
    1.36 [-0.0, 2.8]
    """
    check_alternative(alternative)
    level = check_confidence_level(confidence_level)
    if method not in _METHODS:
        raise CausalRecError(f"method is {method!r}; expected one of {list_some(_METHODS)}.")
    name = statistic_name(statistic)
    studentized = method == "studentized"
    if studentized and (callable(statistic) or name not in ("mean", "ratio")):
        raise CausalRecError(
            f"method='studentized' needs the standard error of each resample, which {name!r} has not; take 'bca'."
        )
    pair = read_pair(
        control, treatment, statistic, (clusters_control, clusters_treatment), n_resamples=n_resamples,
        with_variance=studentized,
    )  # fmt: skip
    contrast = _Contrast(pair.centre, relative)
    observed = contrast.of_pair(np.concatenate([pair.control.value(), pair.treatment.value()])[None])[0]
    if not math.isfinite(observed[0]):
        raise OutcomeError(f"the {name} of control is zero, so there is no relative effect; take relative=False.")

    def draw(size: int, generator: np.random.Generator) -> FloatArray:
        return np.hstack([pair.control.bootstrap(size, generator), pair.treatment.bootstrap(size, generator)])

    values = draw_in_blocks(
        draw, n_resamples, width=pair.control.width + pair.treatment.width, rng=rng, progress=progress,
        threads=not callable(statistic),
    )  # fmt: skip
    draws = contrast.of_pair(values)
    _check_finite(draws[:, 0], name)
    note = f"{method} bootstrap, {n_resamples:,} resamples{' of clusters' if clusters_control is not None else ''}"
    if method == "basic" and any(
        isinstance(arm, QuantileSample) and arm.has_ties for arm in (pair.control, pair.treatment)
    ):
        note += "; values tie at the quantile, where basic limits do not hold: take 'percentile'"
    tail = (1 - level) / 2 if alternative == "two-sided" else 1 - level
    error = float(np.std(draws[:, 0], ddof=1)) if n_resamples > 1 else NAN
    try:
        _check_spread(draws[:, 0], pair.centre + values[:, 0] if relative else None)
        interval = _INTERVALS[method](draws, observed, tail, pair, contrast)
    except _NoIntervalError as reason:
        interval, note = _Interval(NAN, NAN, NAN, NAN), f"{note}; no interval: {reason}"
        error = NAN if error == 0 else error
    low, high, pvalue = _one_or_two_sided(interval, alternative)
    return ResamplingResult(
        estimate=float(observed[0]), std_error=error, ci_low=low, ci_high=high, pvalue=pvalue, confidence_level=level,
        n_obs=pair.control.n + pair.treatment.n, method=note, kind="bootstrap", statistic=name,
        estimand=f"{'relative ' if relative else ''}difference in {name}",
        control_value=float(pair.centre + pair.control.value()[0]),
        treatment_value=float(pair.centre + pair.treatment.value()[0]), n_resamples=n_resamples, draws=draws[:, 0],
    )  # fmt: skip


@dataclass(frozen=True)
class _Contrast:
    """Treatment - control, or that over control, of values that are distances from a centre."""

    centre: float
    relative: bool

    def of_pair(self, values: FloatArray) -> FloatArray:
        """The contrast and its variance (delta method) from columns of value, variance of control, then treatment."""
        c, c_var, t, t_var = values.T
        if not self.relative:
            return np.column_stack([t - c, c_var + t_var])
        with np.errstate(divide="ignore", invalid="ignore"):
            base = self.centre + c
            variance = (t_var + ((self.centre + t) / base) ** 2 * c_var) / base**2
            return np.column_stack([(t - c) / base, variance])

    def leave_one_out(self, pair: Pair) -> tuple[FloatArray, FloatArray]:
        """The contrast without each unit of control, and without each of treatment."""
        c, t = pair.control.value()[0], pair.treatment.value()[0]
        base = self.centre + c if self.relative else 1.0
        without = pair.control.leave_one_out()
        bases = self.centre + without if self.relative else 1.0
        return (t - without) / bases, (pair.treatment.leave_one_out() - c) / base


def _check_finite(draws: FloatArray, name: str) -> None:
    n_bad = int((~np.isfinite(draws)).sum())
    if n_bad:
        raise OutcomeError(
            f"{n_bad} of {len(draws)} resamples have no finite {name}: a denominator, or the control of a relative "
            "effect, is zero there. There are too few units for this statistic."
        )


def _check_spread(draws: FloatArray, control: FloatArray | None) -> None:
    if np.ptp(draws) == 0:
        raise _NoIntervalError("every resample gives the same difference")
    if control is not None and control.min() <= 0 <= control.max():
        raise _NoIntervalError("the control of some resamples is on the other side of zero")


def _percentile(draws: FloatArray, observed: FloatArray, tail: float, pair: Pair, contrast: _Contrast) -> _Interval:  # noqa: ARG001
    low, high = np.quantile(draws[:, 0], [tail, 1 - tail])
    return _Interval(low, high, share_of_hits(draws[:, 0] <= 0), share_of_hits(draws[:, 0] >= 0))


def _basic(draws: FloatArray, observed: FloatArray, tail: float, pair: Pair, contrast: _Contrast) -> _Interval:  # noqa: ARG001
    """The percentiles reflected at the estimate."""
    twice = 2 * observed[0]
    low, high = twice - np.quantile(draws[:, 0], [1 - tail, tail])
    return _Interval(low, high, share_of_hits(draws[:, 0] >= twice), share_of_hits(draws[:, 0] <= twice))


def _studentized(draws: FloatArray, observed: FloatArray, tail: float, pair: Pair, contrast: _Contrast) -> _Interval:  # noqa: ARG001
    """Estimate - t* x standard error, t* the resampled Student statistic."""
    error = math.sqrt(observed[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (draws[:, 0] - observed[0]) / np.sqrt(draws[:, 1])
    n_bad = int((~np.isfinite(t)).sum())
    if n_bad or error == 0:
        raise _NoIntervalError(f"{n_bad} resamples have no variance")
    low, high = observed[0] - np.quantile(t, [1 - tail, tail]) * error
    return _Interval(low, high, share_of_hits(t >= observed[0] / error), share_of_hits(t <= observed[0] / error))


def _bca(draws: FloatArray, observed: FloatArray, tail: float, pair: Pair, contrast: _Contrast) -> _Interval:
    """Bias-corrected and accelerated (Efron 1987; for two samples Davison and Hinkley 1997, 5.4)."""
    values = draws[:, 0]
    below = (np.count_nonzero(values < observed[0]) + np.count_nonzero(values <= observed[0])) / 2
    if not 0 < below < len(values):
        raise _NoIntervalError("the estimate is outside all resamples, so their bias cannot be corrected")
    z0 = float(ndtri(below / len(values)))
    cubes = squares = 0.0
    for without in contrast.leave_one_out(pair):
        influence = (len(without) - 1) * (without.mean() - without)
        cubes += float((influence**3).sum()) / len(without) ** 3
        squares += float((influence**2).sum()) / len(without) ** 2
    if not (math.isfinite(cubes) and math.isfinite(squares) and squares > 0):
        raise _NoIntervalError("the statistic does not change when single units are left out")
    a = cubes / (6 * squares**1.5)
    z = z0 + ndtri(np.array([tail, 1 - tail]))
    low, high = np.quantile(values, ndtr(z0 + z / (1 - a * z)))
    below_zero, above_zero = share_of_hits(values <= 0), share_of_hits(values >= 0)

    def level(share: float) -> float:
        """The nominal tail whose corrected one is ``share``."""
        w = float(ndtri(share)) - z0
        return float(w / (1 + a * w) - z0) if 1 + a * w > 0 else NAN

    limit = len(values) / (1 + len(values))  # a share of one has no quantile
    p_greater = float(ndtr(level(min(below_zero, limit))))
    return _Interval(low, high, p_greater, float(ndtr(-level(max(1 - above_zero, 1 - limit)))))


_INTERVALS: dict[str, Callable[[FloatArray, FloatArray, float, Pair, _Contrast], _Interval]] = {
    "percentile": _percentile, "basic": _basic, "bca": _bca, "studentized": _studentized,
}  # fmt: skip


def _one_or_two_sided(interval: _Interval, alternative: Alternative) -> tuple[float, float, float]:
    if math.isnan(interval.low):
        return NAN, NAN, NAN
    if alternative == "greater":
        return float(interval.low), math.inf, interval.p_greater
    if alternative == "less":
        return -math.inf, float(interval.high), interval.p_less
    return float(interval.low), float(interval.high), min(1.0, 2 * min(interval.p_greater, interval.p_less))
