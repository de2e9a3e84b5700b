"""Fixed-horizon tests of two arms from their means, variances and sizes alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from scipy import stats

from causalrec._validation import check_alternative, check_confidence_level, list_some, nearest
from causalrec.exceptions import CausalRecError, OutcomeError, TreatmentError
from causalrec.moments import Moments
from causalrec.results import NAN, ABResult

_KINDS = ("proportion", "mean")


@dataclass(frozen=True)
class _Arm:
    """One arm: its name, mean, variance of the mean, and size."""

    name: str
    mean: float
    variance: float
    n: int


def two_proportion_test(
    successes_control: int,
    n_control: int,
    successes_treatment: int,
    n_treatment: int,
    *,
    pooled: bool = True,
    alternative: str = "two-sided",
    confidence_level: float = 0.95,
    metric: str = "conversion",
    control: str = "control",
    treatment: str = "treatment",
) -> ABResult:
    """Compare two proportions by the normal approximation, without continuity correction.

    The p-value takes the variance under the null (``pooled=True``) or under the alternative; the
    interval of the difference is Wald's, which needs the unpooled variance (Fleiss, Levin and Paik 2003,
    section 3.3). So near the border a pooled p-value and the interval may disagree; ``pooled=False`` makes
    them one. The relative interval is Fieller's. Where each arm is all 0 or all 1 the unpooled variance is
    zero: the interval is NaN then, and ``method`` says so.

    Raises
    ------
    OutcomeError
        For counts that are not whole numbers with 0 <= successes <= n, fewer than two units in an arm, or no
        variance to test with.

    Examples
    --------
    >>> result = two_proportion_test(420, 23_524, 14_423, 564_577, control="psa", treatment="ad")
    >>> print(f"{result.estimate:.5f} {result.statistic:.3f} {result.pvalue:.2e}")
    0.00769 7.370 1.71e-13
    """
    counts = ((control, successes_control, n_control), (treatment, successes_treatment, n_treatment))
    arms = []
    for name, successes, n in counts:
        if not (0 <= successes <= n and n >= 2 and successes == int(successes) and n == int(n)):
            raise OutcomeError(
                f"{metric}: arm {name!r} has {successes} successes in {n} units; expected whole numbers with "
                "0 <= successes <= n and at least two units. Check how they were counted."
            )
        share = successes / n
        arms.append(_Arm(name, float(share), float(share * (1 - share) / n), int(n)))
    share = (successes_control + successes_treatment) / (n_control + n_treatment)
    null = share * (1 - share) * (1 / n_control + 1 / n_treatment) if pooled else arms[0].variance + arms[1].variance
    name = f"two-proportion z, {'pooled' if pooled else 'unpooled'}; Wald interval; Fieller relative interval"
    return _compare(
        *arms, null_variance=null, df=math.inf, name=name, metric=metric, alternative=alternative,
        confidence_level=confidence_level,
    )  # fmt: skip


def welch_test(
    mean_control: float,
    var_control: float,
    n_control: int,
    mean_treatment: float,
    var_treatment: float,
    n_treatment: int,
    *,
    alternative: str = "two-sided",
    confidence_level: float = 0.95,
    metric: str = "mean",
    control: str = "control",
    treatment: str = "treatment",
) -> ABResult:
    """Compare two means without assuming equal variances (Welch 1947), variances with denominator n - 1.

    The relative interval is Fieller's with the same degrees of freedom, so it excludes zero just when
    the absolute one does; it is unbounded where the control mean cannot be told from zero.

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
    arms = []
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
        arms.append(_Arm(name, float(mean), float(var / n), int(n)))
    v0, v1 = arms[0].variance, arms[1].variance
    total = v0 + v1
    df = 1 / ((v0 / total) ** 2 / (n_control - 1) + (v1 / total) ** 2 / (n_treatment - 1)) if total > 0 else NAN
    return _compare(
        *arms, null_variance=total, df=df, name="Welch t; Fieller relative interval", metric=metric,
        alternative=alternative, confidence_level=confidence_level,
    )  # fmt: skip


def compare_arms(
    moments: Mapping[str, Moments],
    metrics: Mapping[str, str],
    *,
    control: str,
    alternative: str = "two-sided",
    confidence_level: float = 0.95,
) -> list[ABResult]:
    """Compare every arm with ``control`` on every metric, ``"proportion"`` (0/1) or ``"mean"``.

    Parameters
    ----------
    moments : mapping of arm to its moments
    metrics : mapping of column to kind
    control : str

    Returns
    -------
    A result per metric and arm other than control, metrics in their order, arms in theirs.

    Raises
    ------
    TreatmentError
        For one arm, or a control that is not among them.
    OutcomeError
        For a proportion that is not 0/1, an arm with fewer than two units, or no variance.
    ColumnError
        For a metric without moments.
    CausalRecError
        For another kind.

    Examples
    --------
    >>> import numpy as np
    >>> arms = {"A": np.array([[0.0], [0.0], [1.0], [0.0]]), "B": np.array([[1.0], [0.0], [1.0], [1.0]])}
    >>> moments = {arm: Moments.from_array(values, ["bought"]) for arm, values in arms.items()}
    >>> [result] = compare_arms(moments, {"bought": "proportion"}, control="A")
    >>> result.treatment, result.control_mean, result.treatment_mean
    ('B', 0.25, 0.75)
    """
    if control not in moments:
        hint = nearest(str(control), map(str, moments))
        raise TreatmentError(f"control {control!r} is not among the arms {list_some(moments)}.{hint}")
    if len(moments) < 2:
        raise TreatmentError(f"found only the arm {control!r}; a comparison needs two. Check the filter or the split.")
    results = []
    for metric, kind in metrics.items():
        if kind not in _KINDS:
            raise CausalRecError(f"metric {metric!r} is of kind {kind!r}; expected one of {list_some(_KINDS)}.")
        test = _test_proportions if kind == "proportion" else _test_means
        for arm in (a for a in moments if a != control):
            both = ((control, moments[control]), (arm, moments[arm]))
            results.append(test(both, metric, alternative, confidence_level))
    return results


_NamedMoments = tuple[tuple[str, Moments], tuple[str, Moments]]


def _test_proportions(arms: _NamedMoments, metric: str, alternative: str, confidence_level: float) -> ABResult:
    (control, base), (treatment, other) = arms
    return two_proportion_test(
        _successes(base, metric, control), base.n, _successes(other, metric, treatment), other.n, metric=metric,
        alternative=alternative, confidence_level=confidence_level, control=control, treatment=treatment,
    )  # fmt: skip


def _test_means(arms: _NamedMoments, metric: str, alternative: str, confidence_level: float) -> ABResult:
    (control, base), (treatment, other) = arms
    return welch_test(
        base.mean_of(metric), base.var_of(metric), base.n, other.mean_of(metric), other.var_of(metric), other.n,
        metric=metric, alternative=alternative, confidence_level=confidence_level, control=control,
        treatment=treatment,
    )  # fmt: skip


def _successes(moments: Moments, metric: str, arm: str) -> int:
    """The number of ones, after checking that mean and variance are those of zeros and ones."""
    mean, n = moments.mean_of(metric), moments.n
    spread = moments.var_of(metric) * (n - 1) / n if n > 1 else 0.0
    whole = math.isclose(mean * n, round(mean * n), rel_tol=1e-9, abs_tol=1e-6)
    if not (whole and math.isclose(spread, mean * (1 - mean), rel_tol=1e-9, abs_tol=1e-9)):
        raise OutcomeError(f"{metric}: arm {arm!r} holds values other than 0 and 1; treat it as a mean instead.")
    return round(mean * n)


def _compare(
    base: _Arm,
    other: _Arm,
    *,
    null_variance: float,
    df: float,
    name: str,
    metric: str,
    alternative: str,
    confidence_level: float,
) -> ABResult:
    check_alternative(alternative)
    level = check_confidence_level(confidence_level)
    if null_variance <= 0:
        raise OutcomeError(
            f"{metric}: every value is the same within each arm, so there is no variance to test with. "
            "Check that the metric is the one you mean."
        )
    law = stats.norm if math.isinf(df) else stats.t(df)
    effect, error = other.mean - base.mean, math.sqrt(base.variance + other.variance)
    statistic = effect / math.sqrt(null_variance)
    tail = {"greater": law.sf(statistic), "less": law.sf(-statistic), "two-sided": 2 * law.sf(abs(statistic))}
    if error > 0:
        quantile = float(law.isf((1 - level) / 2 if alternative == "two-sided" else 1 - level))
        interval, relative, note = _intervals(base, other, quantile, alternative)
    else:
        error, interval, relative = NAN, (NAN, NAN), (NAN, NAN)
        note = " (no interval: no variance within either arm)"
    return ABResult(
        estimate=effect, std_error=error, ci_low=interval[0], ci_high=interval[1], pvalue=float(tail[alternative]),
        confidence_level=level, n_obs=base.n + other.n, method=name + note, estimand="difference", metric=metric,
        control=base.name, treatment=other.name, control_mean=base.mean, treatment_mean=other.mean, n_control=base.n,
        n_treatment=other.n, statistic=statistic, df=float(df),
        relative_effect=effect / base.mean if base.mean else NAN,
        relative_ci_low=relative[0], relative_ci_high=relative[1],
    )  # fmt: skip


def _intervals(
    base: _Arm, other: _Arm, quantile: float, alternative: str
) -> tuple[tuple[float, float], tuple[float, float], str]:
    """Absolute and relative interval; one-sided ones are open on the side of the alternative."""
    effect, half = other.mean - base.mean, quantile * math.sqrt(base.variance + other.variance)
    low, high = effect - half, effect + half
    ratio_low, ratio_high, note = fieller_ratio(other.mean, other.variance, base.mean, base.variance, quantile)
    relative_low, relative_high = ratio_low - 1, ratio_high - 1
    # Dividing by a negative control mean turns the direction round.
    open_above = "greater" if base.mean > 0 else "less"
    if alternative == "greater":
        high = math.inf
    elif alternative == "less":
        low = -math.inf
    if alternative == open_above:
        relative_high = math.inf
    elif alternative != "two-sided":
        relative_low = -math.inf
    return (low, high), (relative_low, relative_high), note


def fieller_ratio(m1: float, v1: float, m0: float, v0: float, quantile: float) -> tuple[float, float, str]:
    """Fieller's (1954) interval for m1 / m0 from independent means with variances v1 and v0.

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
        return -math.inf, math.inf, " (relative unbounded: the control mean is not distinguishable from zero)"
    # (m0 m1)^2 - a (m1^2 - z2 v1), multiplied out: the difference of squares loses all digits when z2 v << m^2.
    root = math.copysign(math.sqrt(z2 * (v0 * m1**2 + v1 * a)), quantile)
    return (m0 * m1 - root) / a, (m0 * m1 + root) / a, ""
