"""Layer two: from an estimate to p-value and intervals at a fixed horizon, whatever was estimated and how."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias, get_args

from scipy.special import ndtr, ndtri, stdtr, stdtrit

from causalrec._validation import check_confidence_level, list_some
from causalrec.abtest.estimation.estimates import Estimate, welch_df
from causalrec.abtest.hypotheses import (
    Alternative,
    Hypothesis,
    NonInferiority,
    OneSidedTest,
    Superiority,
    as_hypothesis,
    one_sided_tests,
)
from causalrec.exceptions import CausalRecError, OutcomeError
from causalrec.results import NAN, ABResult, format_level

Relative: TypeAlias = Literal["fieller", "delta", "log"]
Interval: TypeAlias = tuple[float, float]

_NO_EFFECT = {side: OneSidedTest(-1 if side == "less" else 1, 1.0, 0.0, NAN) for side in get_args(Alternative)}
UNBOUNDED = " (relative unbounded: the control mean is not distinguishable from zero)"
_LARGEST_LOG = 700.0  # of a float
_RELATIVE_NAMES = {"fieller": "Fieller", "delta": "delta method", "log": "log"}


class Answer(NamedTuple):
    """What a hypothesis says of an estimate: the test, the level and side of the intervals, the margins."""

    hypothesis: str
    statistic: float
    pvalue: float
    level: float
    side: str
    margins: Interval = (NAN, NAN)
    note: str = ""


def infer(
    estimate: Estimate,
    *,
    metric: str,
    control: str,
    treatment: str,
    hypothesis: Hypothesis = Superiority(),  # noqa: B008 - frozen
    confidence_level: float = 0.95,
    relative: Relative = "fieller",
    segment: str = "",
) -> ABResult:
    """Test an estimate and give its absolute and relative interval.

    The p-value is of the absolute effect, so it does not change with the scale on which an interval is shown; only a
    relative margin makes it a test of treatment - (1 + margin) control.

    Parameters
    ----------
    estimate : Estimate
        Without variances (NaN) the result has no error, interval or p-value.
    metric, control, treatment, segment : str
        Names for the result.
    hypothesis : Superiority, NonInferiority or Equivalence
        One-sided intervals are open on the side of the alternative. Of equivalence the intervals are at
        2 x confidence_level - 1: they lie inside the margins just when both one-sided tests reject (Schuirmann 1987).
    confidence_level : float
        Of the test, p < 1 - confidence_level, and of the intervals but for equivalence.
    relative : {"fieller", "delta", "log"}
        Interval of treatment / control - 1. Fieller's (1954) holds for any control mean, and is unbounded where that
        cannot be told from zero; the delta method is symmetric; the logarithm needs two positive means, and
        says nothing (-1 to infinity) of such as are tiny for their errors.

    Raises
    ------
    OutcomeError
        Where there is no variance to test with, or a relative margin and a control mean of zero.
    CausalRecError
        For a level outside (0, 1), or outside (.5, 1) for equivalence, or an unknown ``relative``.

    Examples
    --------
    >>> estimate = Estimate(10.0, 10.4, 0.02, 0.02, 0.0, math.inf, 500, 500, "z")
    >>> found = infer(estimate, metric="minutes", control="A", treatment="B", hypothesis=NonInferiority(0.1))
    >>> print(f"{found.pvalue:.4f} [{found.ci_low:.3f}, {found.ci_high}]")
    0.0062 [0.071, inf]
    """
    if relative not in _RELATIVE_NAMES:
        raise CausalRecError(f"relative is {relative!r}; expected one of {list_some(get_args(Relative))}.")
    variance = estimate.variance if math.isnan(estimate.null_variance) else estimate.null_variance
    if not variance > 0 and not math.isnan(variance):
        raise OutcomeError(
            f"{metric}: every value is the same within each arm, or the denominator or the covariates explain all that "
            "varies, so there is no variance to test with. "
            "Check that the metric is the one you mean."
        )
    answer = decide(
        hypothesis, check_confidence_level(confidence_level), metric, baseline=estimate.control, df=estimate.df,
        distance=lambda test: _distance(estimate, test),
    )  # fmt: skip
    named = not math.isnan(variance)
    method = (
        f"{estimate.method}; {_RELATIVE_NAMES[relative]} relative interval{answer.note}" if named else estimate.method
    )
    error, interval, shares = estimate.std_error, (NAN, NAN), (NAN, NAN)
    if error > 0:
        tail = (1 - answer.level) / (2 if answer.side == "two-sided" else 1)
        quantile = upper_quantile(tail, estimate.df)
        interval = _one_sided(_absolute(estimate, quantile), answer.side)
        shares, note = relative_interval(
            estimate, upper_quantile(tail, _log_df(estimate)) if relative == "log" else quantile, relative
        )
        # Dividing by a negative control mean turns the direction round.
        shares = _one_sided(shares, answer.side if estimate.control > 0 else _TURNED[answer.side])
        method += note
    elif error == 0:
        error, method = NAN, f"{method} (no interval: no variance within either arm)"
    return ABResult(
        estimate=estimate.effect, std_error=error, ci_low=interval[0], ci_high=interval[1], pvalue=answer.pvalue,
        confidence_level=float(confidence_level), n_obs=estimate.n_control + estimate.n_treatment, method=method,
        estimand=estimate.estimand, metric=metric, control=control, treatment=treatment,
        control_mean=estimate.control, treatment_mean=estimate.treatment, n_control=estimate.n_control,
        n_treatment=estimate.n_treatment, statistic=answer.statistic, df=float(estimate.df),
        relative_effect=estimate.effect / estimate.control if estimate.control else NAN,
        relative_ci_low=shares[0], relative_ci_high=shares[1], hypothesis=answer.hypothesis,
        margin_low=answer.margins[0], margin_high=answer.margins[1], segment=segment,
        control_std_error=_root(estimate.var_control), treatment_std_error=_root(estimate.var_treatment),
    )  # fmt: skip


def _root(variance: float) -> float:
    return 0.0 if variance < 0 else math.sqrt(variance)


_TURNED = {"greater": "less", "less": "greater", "two-sided": "two-sided"}


def upper_tail(x: float, df: float = math.inf) -> float:
    """P(X > x) of Student's t with ``df`` degrees of freedom, of the normal law if they are infinite."""
    return float(ndtr(-x) if math.isinf(df) else stdtr(df, -x))


def upper_quantile(p: float, df: float = math.inf) -> float:
    """The x with P(X > x) = p, of the same laws."""
    return -float(ndtri(p) if math.isinf(df) else stdtrit(df, p))


def decide(
    hypothesis: Hypothesis,
    level: float,
    metric: str,
    *,
    baseline: float,
    df: float,
    distance: Callable[[OneSidedTest], float],
) -> Answer:
    """Test a hypothesis, given the distance of the data from each null in standard errors.

    Raises
    ------
    OutcomeError
        For a relative margin and a control mean of zero.
    CausalRecError
        For equivalence at a level of .5 or below.
    """
    if not isinstance(hypothesis, Superiority) and hypothesis.relative and baseline == 0:
        raise OutcomeError(
            f"{metric}: the control mean is 0, of which a relative margin has no share; give the margin in the "
            "metric's unit."
        )
    if isinstance(hypothesis, Superiority):
        side = hypothesis.alternative
        statistic = distance(_NO_EFFECT[side])
        return Answer(side, statistic, _pvalue(statistic, df, side), level, side)
    tests = one_sided_tests(hypothesis, alpha=1 - level, baseline=baseline)
    distances = [distance(test) for test in tests]
    weakest = min(range(len(tests)), key=lambda i: tests[i].direction * distances[i])
    statistic, direction = distances[weakest], tests[weakest].direction
    pvalue = upper_tail(direction * statistic, df)
    low, high = (hypothesis.margin if any(t.direction == d for t in tests) else NAN for d in (1, -1))
    scale = "; relative margin" if hypothesis.relative else ""
    if isinstance(hypothesis, NonInferiority):
        side = "greater" if direction > 0 else "less"
        return Answer("non-inferiority", statistic, pvalue, level, side, (-low, high), scale)
    inner = 2 * level - 1
    if inner <= 0:
        raise CausalRecError(f"confidence_level is {level}; equivalence needs one above 0.5, such as 0.95.")
    note = f"{scale}; two one-sided tests, intervals at {format_level(inner)}"
    return Answer("equivalence", statistic, pvalue, inner, "two-sided", (-low, high), note)


def _distance(estimate: Estimate, test: OneSidedTest) -> float:
    """Treatment - (theta control + offset) over its standard error."""
    theta = test.theta
    variance = estimate.var_treatment + theta**2 * estimate.var_control - 2 * theta * estimate.covariance
    if (theta, test.offset) == (1.0, 0.0) and not math.isnan(estimate.null_variance):
        variance = estimate.null_variance
    return (estimate.treatment - theta * estimate.control - test.offset) / (_root(variance) or NAN)


def _pvalue(statistic: float, df: float, side: str) -> float:
    if side == "two-sided":
        return 2 * upper_tail(abs(statistic), df)
    return upper_tail(statistic if side == "greater" else -statistic, df)


def _absolute(estimate: Estimate, quantile: float) -> Interval:
    half = quantile * estimate.std_error
    return estimate.effect - half, estimate.effect + half


def _one_sided(interval: Interval, side: str) -> Interval:
    low, high = interval
    if math.isnan(low) or side == "two-sided":
        return interval
    return (low, math.inf) if side == "greater" else (-math.inf, high)


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


def _log_df(estimate: Estimate) -> float:
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
    z2 = quantile**2
    a = m0**2 - z2 * v0
    if a <= 0:
        return -math.inf, math.inf, UNBOUNDED
    middle = m0 * m1 - z2 * covariance
    # middle^2 - a (m1^2 - z2 v1), multiplied out: the difference of squares loses all digits when z2 v << m^2.
    spread = v0 * m1**2 - 2 * covariance * m0 * m1 + z2 * covariance**2 + v1 * a
    root = math.copysign(math.sqrt(z2 * max(spread, 0.0)), quantile)
    return (middle - root) / a, (middle + root) / a, ""


def welch_test(
    mean_control: float,
    var_control: float,
    n_control: int,
    mean_treatment: float,
    var_treatment: float,
    n_treatment: int,
    *,
    alternative: str = "two-sided",
    hypothesis: Hypothesis | None = None,
    confidence_level: float = 0.95,
    relative: Relative = "fieller",
    metric: str = "mean",
    control: str = "control",
    treatment: str = "treatment",
) -> ABResult:
    """Compare two means without assuming equal variances (Welch 1947), variances with denominator n - 1.

    The relative interval is Fieller's with the same degrees of freedom, so it excludes zero just when
    the absolute one does; it is unbounded where the control mean cannot be told from zero. See :func:`infer`
    for the others, and for ``hypothesis``, which takes the place of ``alternative``.

    Raises
    ------
    OutcomeError
        For means or variances that are not finite, negative variances, an arm with fewer than two units, or no
        variance in either arm.

    Examples
    --------
    >>> print(f"{welch_test(3.0, 2.0, 104, 1.95, 1.9, 1009).estimate:.2f}")
    -1.05
    """
    for name, mean, var, n in (
        (control, mean_control, var_control, n_control),
        (treatment, mean_treatment, var_treatment, n_treatment),
    ):
        if not n >= 2:
            raise OutcomeError(
                f"{metric}: arm {name!r} has {n} units; a variance needs at least two. Collect more, or drop the arm."
            )
        if not (math.isfinite(mean) and math.isfinite(var) and var >= 0):
            raise OutcomeError(
                f"{metric}: arm {name!r} has mean {mean} and variance {var}; expected finite numbers and a "
                "variance >= 0. Look for missing or infinite values."
            )
    v0, v1 = var_control / n_control, var_treatment / n_treatment
    estimate = Estimate(
        float(mean_control), float(mean_treatment), float(v0), float(v1), 0.0,
        welch_df([(v0, n_control - 1), (v1, n_treatment - 1)]), int(n_control), int(n_treatment), "Welch t",
    )  # fmt: skip
    return infer(
        estimate, metric=metric, control=control, treatment=treatment,
        hypothesis=as_hypothesis(alternative, hypothesis), confidence_level=confidence_level, relative=relative,
    )  # fmt: skip
