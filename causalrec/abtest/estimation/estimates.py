"""Layer one: from moments to an estimate of each arm with its covariance. No level, no hypothesis, no interval here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from causalrec._validation import list_some
from causalrec.abtest.aggregates import QuantileSummary
from causalrec.abtest.estimation.adjustment import Adjustment, fit_adjustment
from causalrec.abtest.estimation.scores import (
    ROWS,
    VALUE,
    Names,
    ScoredStratum,
    Stratum,
    is_clustered,
    is_ratio,
    score_strata,
    without_rounding,
)
from causalrec.exceptions import OutcomeError
from causalrec.moments import Moments
from causalrec.results import NAN

Law: TypeAlias = Literal["t", "z"]

TIED_QUANTILE = (
    "no error, interval or test: many units share the value at the quantile, which moves in steps; compare the share "
    "of units above it, or take permutation_test or bootstrap_diff"
)
_LAWS = {"t": "Welch t", "z": "z"}


@dataclass(frozen=True)
class Estimate:
    """A metric in two arms, with the covariance of the two estimates: all that inference sees.

    Attributes
    ----------
    control, treatment : float
        The metric in each arm, adjusted where it is adjusted.
    var_control, var_treatment, covariance : float
        Of those two estimates, not of the data.
    df : float
        Degrees of freedom of the difference's variance; infinite where the normal law is meant.
    n_control, n_treatment : int
        Units.
    method, estimand : str
    null_variance : float
        Variance of the difference if there is no effect, where a test uses another one (pooled proportions); else NaN.

    Examples
    --------
    >>> estimate = Estimate(10.0, 11.0, 0.16, 0.09, 0.0, 98.0, 50, 50, "Welch t")
    >>> estimate.effect, estimate.std_error
    (1.0, 0.5)
    """

    control: float
    treatment: float
    var_control: float
    var_treatment: float
    covariance: float
    df: float
    n_control: int
    n_treatment: int
    method: str
    estimand: str = "difference"
    null_variance: float = NAN

    @property
    def effect(self) -> float:
        """Treatment - control."""
        return self.treatment - self.control

    @property
    def variance(self) -> float:
        """Of the effect."""
        own, shared = self.var_treatment + self.var_control, 2 * self.covariance
        return own - shared if math.isnan(own) else without_rounding(own - shared, own)

    @property
    def std_error(self) -> float:
        """Of the effect."""
        return math.sqrt(self.variance)


def welch_df(parts: Iterable[tuple[float, float]]) -> float:
    """Welch (1947) and Satterthwaite's (1946) degrees of freedom of a sum of variances, each with its own.

    Examples
    --------
    >>> welch_df([(1.0, 9), (1.0, 9)])
    18.0
    """
    total = squares = 0.0
    for variance, df in parts:
        total += variance
        squares += variance**2 / df
    return total**2 / squares if squares > 0 else NAN


class _Part(NamedTuple):
    """A part of the arms' variances and covariance, with the degrees of freedom of its estimate."""

    var_control: float
    var_treatment: float
    covariance: float
    df: float

    @property
    def variance(self) -> float:
        """Of the difference."""
        variance = self.var_control + self.var_treatment - 2 * self.covariance
        return 0.0 if variance < 0 else variance


def difference(strata: Sequence[Stratum], names: Names, *, covariates: Sequence[str] = (), law: Law = "t") -> Estimate:
    """Estimate a mean or a ratio in two arms, adjusted for strata and for covariates, and dilute it.

    Covariates (columns measured before assignment) are adjusted for with the coefficients theta that give the
    difference its least variance: theta = (sum_a V_xx,a / n_a)^-1 sum_a V_xy,a / n_a. With one covariate and equal arms
    that is CUPED (Deng et al. 2013); in large samples it is the regression with interactions of Lin (2013), never worse
    than no adjustment. The adjusted means refer to the covariates' mean over both arms. For small samples each cell (an
    arm in a stratum) of n units has n - 1 - h degrees of freedom, where h is the sum of its units' leverages in the fit
    of theta (k over all cells), its residual variance is multiplied by (n - 1) / (n - 1 - h), and the error of theta is
    added, so that in equal arms of one variance this is ordinary least squares.

    Parameters
    ----------
    strata : sequence of Stratum
        One for all units if there are no strata.
    names : Names
    covariates : sequence of str
        The last columns of the moments.
    law : {"t", "z"}
        Welch and Satterthwaite's degrees of freedom over the cells, or the normal law.

    Raises
    ------
    OutcomeError
        For a cell with fewer than two units, values that are not finite, a denominator whose mean is zero, or too few
        units for the covariates.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> before = rng.normal(10, 2, size=(2, 1000))
    >>> arms = [Moments.from_array(np.c_[x + rng.normal(size=1000), x], ["value", "before"]) for x in before]
    >>> names = Names("minutes", "A", "B")
    >>> plain = difference([Stratum(None, *arms)], names)
    >>> adjusted = difference([Stratum(None, *arms)], names, covariates=["before"])
    >>> print(f"{plain.std_error:.3f} {adjusted.std_error:.3f}")
    0.099 0.045
    """
    control, treatment, cells = score_strata(strata, names, len(covariates))
    apart = [cell for cell in cells if not cell.shared]
    fit = fit_adjustment(apart, names) if covariates else None
    pairs = [_own(cell) for cell in apart] if fit is None else _adjusted(apart, fit)
    parts = [part for pair in pairs for part in pair]
    parts += [_shared(cell) for cell in cells if cell.shared]
    between, moved = _between(cells, fit, sum(s.n for s in strata))
    if len(cells) > 1:
        parts.append(between)
    df = math.inf
    if law == "t":
        df = welch_df([(part.variance, part.df) for part in parts])
    var_control, var_treatment, covariance, _ = map(sum, zip(*parts, strict=True))
    estimate = Estimate(
        control.value + moved[0], treatment.value + moved[1], var_control, var_treatment, covariance, df,
        sum(s.control.n for s in strata), sum(s.treatment.n for s in strata),
        "".join(_method(strata, cells, fit, covariates, law)),
    )  # fmt: skip
    return _checked(estimate, names)


def _own(cell: ScoredStratum) -> tuple[_Part, _Part]:
    """What each arm of a stratum adds."""
    w2, c, t = cell.weight**2, cell.control, cell.treatment
    return (
        _Part(w2 * float(c.covariance[0, 0]), 0.0, 0.0, c.n - 1),
        _Part(0.0, w2 * float(t.covariance[0, 0]), 0.0, t.n - 1),
    )


def _adjusted(cells: Sequence[ScoredStratum], fit: Adjustment) -> Iterator[tuple[_Part, _Part]]:
    """The same of adjusted means, which are e + theta'x, with x the mean over both arms."""
    for cell, rc, rt in zip(cells, fit.residuals[::2], fit.residuals[1::2], strict=True):
        w2, p = cell.weight**2, cell.treated_share
        q = 1 - p
        both_c, both_t = q * q * rc.explained, p * p * rt.explained
        own_c, own_t = q * rc.mixed, p * rt.mixed
        yield (
            _Part(
                w2 * (rc.error + 2 * own_c + both_c) + rc.to_control, w2 * both_c + rc.to_treatment,
                w2 * (own_c + both_c) + rc.to_both, rc.df,
            ),
            _Part(
                w2 * both_t + rt.to_control, w2 * (rt.error + 2 * own_t + both_t) + rt.to_treatment,
                w2 * (own_t + both_t) + rt.to_both, rt.df,
            ),
        )  # fmt: skip


def _shared(cell: ScoredStratum) -> _Part:
    """What units add that are in both arms' values alike: next to nothing to their difference."""
    w2, c, t = cell.weight**2, cell.control, cell.treatment
    return _Part(w2 * float(c.covariance[0, 0]), w2 * float(t.covariance[0, 0]), w2 * cell.cross, c.n - 1)


def _between(cells: Sequence[ScoredStratum], fit: Adjustment | None, n: int) -> tuple[_Part, tuple[float, float]]:
    """What the estimated shares of strata add, and how far the adjustment moves each arm."""
    levels = [fit.levels(cell) if fit else (cell.control.level, cell.treatment.level) for cell in cells]
    if len(cells) == 1:
        return _Part(0.0, 0.0, 0.0, n - 1), levels[0]
    weights, found = np.array([cell.weight for cell in cells]), np.array(levels)
    moved = weights @ found
    around = found - moved
    spread = (around * weights[:, None]).T @ around / n
    part = _Part(float(spread[0, 0]), float(spread[1, 1]), float(spread[0, 1]), n - 1)
    return part, (float(moved[0]), float(moved[1]))


def _method(
    strata: Sequence[Stratum],
    cells: Sequence[ScoredStratum],
    fit: Adjustment | None,
    covariates: Sequence[str],
    law: Law,
) -> Iterable[str]:
    moments = strata[0].control
    yield _LAWS[law]
    if is_ratio(moments, len(covariates)):
        yield ", delta method"
    if is_clustered(moments, len(covariates)):
        yield " over clusters"
    n_strata = sum(not cell.shared for cell in cells)
    if n_strata > 1:
        yield f", {n_strata} strata"
    if n_strata < len(cells):
        yield ", diluted by units without trigger"
    if fit is not None:
        yield f", adjusted for {list_some(covariates, 4)}"
        if fit.rank < len(covariates):
            yield f" (only {fit.rank} of these {len(covariates)} add something: constant or collinear)"


def _checked(estimate: Estimate, names: Names) -> Estimate:
    for arm, mean, variance in (
        (names.control, estimate.control, estimate.var_control),
        (names.treatment, estimate.treatment, estimate.var_treatment),
    ):
        if not (math.isfinite(mean) and math.isfinite(variance) and variance >= 0):
            raise OutcomeError(
                f"{names.metric}: arm {arm!r} has mean {mean} and variance {variance}; expected finite numbers and a "
                "variance >= 0. Look for missing or infinite values."
            )
    return estimate


def quantile_difference(control: QuantileSummary, treatment: QuantileSummary, names: Names) -> Estimate:
    """Compare a quantile of two arms by the normal law.

    Where many units share a value at the quantile of either arm, there is no such law: the variances are NaN.

    Raises
    ------
    OutcomeError
        For an arm with fewer than two units, or a variance that is not finite.

    Examples
    --------
    >>> names = Names("p90", "A", "B")
    >>> quantile_difference(QuantileSummary(100, 7.0, 0.04), QuantileSummary(100, 7.5, 0.05), names).effect
    0.5
    """
    for arm, summary in ((names.control, control), (names.treatment, treatment)):
        if summary.n < 2:
            raise OutcomeError(
                f"{names.metric}: arm {arm!r} has {summary.n} units; a quantile's variance needs at least two. Collect "
                "more, or drop the arm."
            )
    if control.tied or treatment.tied:
        return Estimate(control.value, treatment.value, NAN, NAN, NAN, math.inf, control.n, treatment.n, TIED_QUANTILE)
    estimate = Estimate(
        control.value, treatment.value, control.variance, treatment.variance, 0.0, math.inf, control.n, treatment.n,
        "z, variance by the density at the quantile",
    )  # fmt: skip
    return _checked(estimate, names)


def slope_difference(control: Moments, treatment: Moments, names: Names, *, law: Law = "t") -> Estimate:
    """Compare the change per day of a mean or ratio: the slope of least squares, whose units are those of the moments.

    slope = (E[w] E[dv] - E[dw] E[v]) / (E[w] E[d^2 w] - E[dw]^2), by the delta method; columns as of the dimension
    ``TREND``. A unit's days are correlated, which its sums respect.

    Raises
    ------
    OutcomeError
        For an arm with fewer than two units, or one that was seen on one day only.
    """
    (c, vc), (t, vt) = (
        _slope(moments, names.metric, arm) for moments, arm in ((control, names.control), (treatment, names.treatment))
    )
    df = welch_df([(vc, control.n - 1), (vt, treatment.n - 1)]) if law == "t" else math.inf
    return Estimate(
        c, t, vc, vt, 0.0, df, control.n, treatment.n, f"{_LAWS[law]}, slope of least squares over days",
        "difference of changes per day",
    )  # fmt: skip


def _slope(moments: Moments, metric: str, arm: str) -> tuple[float, float]:
    """Slope and its variance."""
    w, dw, ddw, v, dv = (moments.mean_of(name) for name in ("w", "dw", "ddw", "v", "dv"))
    spread = w * ddw - dw**2
    if moments.n < 2 or not spread > 1e-12 * w * ddw:
        raise OutcomeError(
            f"{metric}: arm {arm!r} has {moments.n} units on too few days; a slope needs two units and two days. Leave "
            "out day=, or wait."
        )
    slope = (w * dv - dw * v) / spread
    # By w, dw, ddw, v, dv, the order of the columns.
    gradient = np.array([dv - slope * ddw, 2 * slope * dw - v, -slope * w, -dw, w]) / spread
    order = [moments.names.index(name) for name in ("w", "dw", "ddw", "v", "dv")]
    products = moments.products[np.ix_(order, order)]
    return slope, float(gradient @ products @ gradient) / ((moments.n - 1) * moments.n)


def check_shares(moments: Moments, names: Names, arm: str) -> None:
    """Check that the sums of clusters can be of zeros and ones: in all a whole number, not more than there are rows.

    Raises
    ------
    OutcomeError
        For other sums.
    """
    total, rows = (moments.mean_of(column) * moments.n for column in (VALUE, ROWS))
    whole = math.isclose(total, round(total), rel_tol=1e-9, abs_tol=1e-6)
    if not (whole and -0.5 < total < rows + 0.5):
        raise OutcomeError(
            f"{names.metric}: arm {arm!r} holds values other than 0 and 1 (they sum to {total:g} in {rows:,.0f} rows); "
            "treat it as a mean instead."
        )


def count_successes(moments: Moments, names: Names, arm: str, *, column: str = "value") -> int:
    """The number of ones, after checking that mean and variance are those of zeros and ones.

    Raises
    ------
    OutcomeError
        For other values, as far as moments can tell, or fewer than two units.
    """
    mean, n = moments.mean_of(column), moments.n
    if n < 2:
        raise OutcomeError(
            f"{names.metric}: arm {arm!r} has {n} units; a comparison needs at least two. Collect more, or drop it."
        )
    spread = moments.var_of(column) * (n - 1) / n
    whole = math.isclose(mean * n, round(mean * n), rel_tol=1e-9, abs_tol=1e-6)
    if not (whole and math.isclose(spread, mean * (1 - mean), rel_tol=1e-9, abs_tol=1e-9)):
        raise OutcomeError(f"{names.metric}: arm {arm!r} holds values other than 0 and 1; treat it as a mean instead.")
    return round(mean * n)
