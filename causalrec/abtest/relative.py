"""Intervals of treatment / control - 1 from an estimate: Fieller's theorem, the delta method, logarithms."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

from causalrec._ratios import fieller_interval
from causalrec.abtest.estimation.estimates import Estimate, welch_df
from causalrec.results import NAN

Relative: TypeAlias = Literal["fieller", "delta", "log"]
Interval: TypeAlias = tuple[float, float]

UNBOUNDED = " (relative unbounded: the control mean is not distinguishable from zero)"
RELATIVE_NAMES = {"fieller": "Fieller", "delta": "delta method", "log": "log"}
_LARGEST_LOG = 700.0  # of a float


def relative_interval(estimate: Estimate, quantile: float, relative: Relative) -> tuple[Interval, str]:
    """Two-sided interval of treatment / control - 1 at ``quantile`` of the law, and a note where it is not usual."""
    if relative == "fieller":
        low, high, note = fieller_ratio(
            estimate.treatment, estimate.var_treatment, estimate.control, estimate.var_control, quantile,
            covariance=estimate.covariance,
        )  # fmt: skip
        return (low - 1, high - 1), note
    if relative == "log":
        return _log_interval(estimate, quantile)
    if estimate.control == 0:
        return (NAN, NAN), " (no relative interval: the control mean is 0)"
    ratio = estimate.treatment / estimate.control
    half = quantile * math.sqrt(_relative_variance(estimate, 1.0, ratio)) / abs(estimate.control)
    if not math.isfinite(half):
        return (-math.inf, math.inf), UNBOUNDED
    return (ratio - 1 - half, ratio - 1 + half), ""


def log_df(estimate: Estimate) -> float:
    """Satterthwaite's degrees of freedom of the log ratio where the arms are independent, else those of the effect."""
    e = estimate
    if math.isinf(e.df) or e.covariance != 0 or e.control <= 0 or e.treatment <= 0:
        return e.df
    # The other way round the shares overflow where a mean is tiny.
    control, treatment = math.sqrt(e.var_control) * e.treatment, math.sqrt(e.var_treatment) * e.control
    largest = max(control, treatment)
    if not 0 < largest < math.inf:
        return e.df
    return welch_df([((control / largest) ** 2, e.n_control - 1), ((treatment / largest) ** 2, e.n_treatment - 1)])


def _log_interval(estimate: Estimate, quantile: float) -> tuple[Interval, str]:
    c, t = estimate.control, estimate.treatment
    if c <= 0 or t <= 0:
        return (NAN, NAN), " (no relative interval: the logarithm needs two positive means)"
    variance = _relative_variance(estimate, 1 / t, 1 / c)
    half = abs(quantile) * math.sqrt(variance) if variance > 0 else 0.0
    if not half < _LARGEST_LOG:
        return (-1.0, math.inf), " (relative unbounded: the means are not distinguishable from zero)"
    if quantile < 0:
        half = -half
    return (t / c * math.exp(-half) - 1, t / c * math.exp(half) - 1), ""


def _relative_variance(estimate: Estimate, per_treatment: float, per_control: float) -> float:
    """Variance of ``per_treatment * treatment - per_control * control``; infinite where that overflows."""
    t, c = per_treatment * math.sqrt(estimate.var_treatment), per_control * math.sqrt(estimate.var_control)
    mixed = 2 * estimate.covariance * per_treatment * per_control
    variance = t * t - mixed + c * c
    return math.inf if math.isnan(variance) else max(variance, 0.0)


def fieller_ratio(
    m1: float, v1: float, m0: float, v0: float, quantile: float, *, covariance: float = 0.0
) -> tuple[float, float, str]:
    """Fieller's (1954) interval for m1 / m0 from two means with variances v1 and v0 and their covariance.

    The ratios r that the test of m1 - r m0 = 0 does not reject, at ``quantile`` of its law. Returns low, high and a
    note. Where m0 is not distinguishable from zero that set is unbounded: then (-inf, inf) and a note that says so.

    Examples
    --------
    >>> low, high, note = fieller_ratio(12.0, 0.25, 10.0, 0.25, 1.96)
    >>> print(f"{low:.3f} {high:.3f} {note!r}")
    1.057 1.366 ''
    """
    low, high = fieller_interval(m1, m0, v1, v0, covariance, quantile)
    return low, high, UNBOUNDED if math.isinf(low) else ""
