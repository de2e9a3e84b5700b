"""Layer two: from an estimate to p-value and intervals at a fixed horizon, whatever was estimated and how."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, Protocol, get_args, runtime_checkable

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
from causalrec.abtest.relative import RELATIVE_NAMES, Interval, Relative, log_df, relative_interval
from causalrec.exceptions import CausalRecError, OutcomeError
from causalrec.results import NAN, ABResult, format_level

_NO_EFFECT = {side: OneSidedTest(-1 if side == "less" else 1, 1.0, 0.0, NAN) for side in get_args(Alternative)}


@runtime_checkable
class Inference(Protocol):
    """How far from a null an estimate must be to reject it: once, at a planned end, or as often as one looks.

    Implementations are frozen and can be hashed. With :func:`infer` each goes with every estimate and hypothesis.
    """

    @property
    def name(self) -> str:
        """For results, such as ``"always valid"``."""
        ...

    def critical(self, estimate: Estimate, size: float, *, two_sided: bool) -> float:
        """The distance from the null, in standard errors, beyond which it is rejected at ``size``.

        With ``two_sided`` that is the size of both sides together.
        """
        ...

    def pvalue(self, estimate: Estimate, distance: float, *, two_sided: bool) -> float:
        """Of a distance, which points to rejection where it is positive, or with ``two_sided`` either way."""
        ...

    def note(self, estimate: Estimate, size: float, *, two_sided: bool) -> str:
        """What a result's method says of it; empty where nothing is out of the ordinary."""
        ...


@dataclass(frozen=True)
class FixedHorizon:
    """One look, at an end that was planned: the normal law, or Student's t where the estimate has degrees of freedom.

    Examples
    --------
    >>> estimate = Estimate(10.0, 10.4, 0.02, 0.02, 0.0, math.inf, 500, 500, "z")
    >>> print(f"{FixedHorizon().critical(estimate, 0.05, two_sided=True):.3f}")
    1.960
    """

    name: ClassVar[str] = "fixed horizon"

    def critical(self, estimate: Estimate, size: float, *, two_sided: bool) -> float:
        """See :class:`Inference`."""
        return upper_quantile(size / 2 if two_sided else size, estimate.df)

    def pvalue(self, estimate: Estimate, distance: float, *, two_sided: bool) -> float:
        """See :class:`Inference`."""
        return 2 * upper_tail(abs(distance), estimate.df) if two_sided else upper_tail(distance, estimate.df)

    def note(self, estimate: Estimate, size: float, *, two_sided: bool) -> str:  # noqa: ARG002 - nothing to add
        """See :class:`Inference`."""
        return ""


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
    inference: Inference = FixedHorizon(),
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
    inference : Inference
        By default for one look, at a planned end.

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
    if relative not in RELATIVE_NAMES:
        raise CausalRecError(f"relative is {relative!r}; expected one of {list_some(get_args(Relative))}.")
    variance = estimate.variance if math.isnan(estimate.null_variance) else estimate.null_variance
    if not variance > 0 and not math.isnan(variance):
        raise OutcomeError(
            f"{metric}: every value is the same within each arm, or the denominator or the covariates explain all that "
            "varies, so there is no variance to test with. "
            "Check that the metric is the one you mean."
        )
    answer = decide(
        hypothesis, check_confidence_level(confidence_level), metric, baseline=estimate.control,
        distance=lambda test: _distance(estimate, test),
        pvalue=lambda distance, two_sided: inference.pvalue(estimate, distance, two_sided=two_sided),
    )  # fmt: skip
    size, two_sided = 1 - float(confidence_level), answer.hypothesis == "two-sided"
    method = estimate.method
    if not math.isnan(variance):
        how = inference.note(estimate, size, two_sided=two_sided)
        method += f"{how and '; '}{how}; {RELATIVE_NAMES[relative]} relative interval{answer.note}"
    error, interval, shares = estimate.std_error, (NAN, NAN), (NAN, NAN)
    if error > 0:
        quantile = inference.critical(estimate, size, two_sided=two_sided)
        interval = _one_sided(_absolute(estimate, quantile), answer.side)
        if relative == "log":
            quantile = inference.critical(replace(estimate, df=log_df(estimate)), size, two_sided=two_sided)
        unknown = (-math.inf, math.inf), ""  # it is too early for any answer
        shares, note = relative_interval(estimate, quantile, relative) if math.isfinite(quantile) else unknown
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
        inference=inference.name,
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


def _normal_pvalue(distance: float, two_sided: bool) -> float:
    return 2 * upper_tail(abs(distance)) if two_sided else upper_tail(distance)


def decide(
    hypothesis: Hypothesis,
    level: float,
    metric: str,
    *,
    baseline: float,
    distance: Callable[[OneSidedTest], float],
    pvalue: Callable[[float, bool], float] = _normal_pvalue,
) -> Answer:
    """Test a hypothesis, given the distance of the data from each null in standard errors.

    ``pvalue`` is that of a distance, for two sides or one, where it points to rejection if positive.

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
        towards = -statistic if side == "less" else statistic
        return Answer(side, statistic, pvalue(towards, side == "two-sided"), level, side)
    tests = one_sided_tests(hypothesis, alpha=1 - level, baseline=baseline)
    distances = [distance(test) for test in tests]
    weakest = min(range(len(tests)), key=lambda i: tests[i].direction * distances[i])
    statistic, direction = distances[weakest], tests[weakest].direction
    p = pvalue(direction * statistic, False)
    low, high = (hypothesis.margin if any(t.direction == d for t in tests) else NAN for d in (1, -1))
    scale = "; relative margin" if hypothesis.relative else ""
    if isinstance(hypothesis, NonInferiority):
        side = "greater" if direction > 0 else "less"
        return Answer("non-inferiority", statistic, p, level, side, (-low, high), scale)
    inner = 2 * level - 1
    if inner <= 0:
        raise CausalRecError(f"confidence_level is {level}; equivalence needs one above 0.5, such as 0.95.")
    note = f"{scale}; two one-sided tests, intervals at {format_level(inner)}"
    return Answer("equivalence", statistic, p, inner, "two-sided", (-low, high), note)


def _distance(estimate: Estimate, test: OneSidedTest) -> float:
    """Treatment - (theta control + offset) over its standard error."""
    theta = test.theta
    variance = estimate.var_treatment + theta**2 * estimate.var_control - 2 * theta * estimate.covariance
    if (theta, test.offset) == (1.0, 0.0) and not math.isnan(estimate.null_variance):
        variance = estimate.null_variance
    return (estimate.treatment - theta * estimate.control - test.offset) / (_root(variance) or NAN)


def _absolute(estimate: Estimate, quantile: float) -> Interval:
    half = quantile * estimate.std_error
    return estimate.effect - half, estimate.effect + half


def _one_sided(interval: Interval, side: str) -> Interval:
    low, high = interval
    if math.isnan(low) or side == "two-sided":
        return interval
    return (low, math.inf) if side == "greater" else (-math.inf, high)


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
