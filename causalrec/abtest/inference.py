"""Fixed-horizon tests of two arms from their means, variances and sizes alone."""

from __future__ import annotations

import math
from collections.abc import Mapping

from scipy import stats

from causalrec._validation import check_alternative, check_confidence_level, list_some, nearest
from causalrec.exceptions import OutcomeError, TreatmentError
from causalrec.moments import Moments
from causalrec.results import ABResult


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
    """Compare two proportions by the normal approximation.

    The p-value takes the variance under the null (``pooled=True``) or under the alternative; the
    interval of the difference is Wald's, which needs the unpooled variance (Fleiss, Levin and Paik 2003,
    section 3.3). The relative interval is Fieller's.

    Examples
    --------
    >>> result = two_proportion_test(420, 23_524, 14_423, 564_577, control="psa", treatment="ad")
    >>> print(f"{result.estimate:.5f} {result.statistic:.3f} {result.pvalue:.2e}")
    0.00769 7.370 1.71e-13
    """
    for label, successes, n in ((control, successes_control, n_control), (treatment, successes_treatment, n_treatment)):
        if not 0 <= successes <= n or n < 1:
            raise OutcomeError(
                f"{metric}: arm {label!r} has {successes} successes in {n}; expected 0 <= successes <= n."
            )
    p0, p1 = successes_control / n_control, successes_treatment / n_treatment
    v0, v1 = p0 * (1 - p0) / n_control, p1 * (1 - p1) / n_treatment
    share = (successes_control + successes_treatment) / (n_control + n_treatment)
    null = share * (1 - share) * (1 / n_control + 1 / n_treatment) if pooled else v0 + v1
    name = f"two-proportion z, {'pooled' if pooled else 'unpooled'}; Wald interval; Fieller relative interval"
    return _compare(
        (p0, v0, n_control), (p1, v1, n_treatment), null_variance=null, df=math.inf, name=name, metric=metric,
        alternative=alternative, confidence_level=confidence_level, control=control, treatment=treatment,
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

    Examples
    --------
    >>> print(f"{welch_test(3.0, 2.0, 104, 1.95, 1.9, 1009).estimate:.2f}")
    -1.05
    """
    for label, n in ((control, n_control), (treatment, n_treatment)):
        if n < 2:
            raise OutcomeError(f"{metric}: arm {label!r} has {n} unit; a variance needs at least two.")
    v0, v1 = var_control / n_control, var_treatment / n_treatment
    if v0 + v1 <= 0:
        raise OutcomeError(f"{metric}: every value is the same within each arm, so there is no variance to test with.")
    df = (v0 + v1) ** 2 / (v0**2 / (n_control - 1) + v1**2 / (n_treatment - 1))
    return _compare(
        (mean_control, v0, n_control), (mean_treatment, v1, n_treatment), null_variance=v0 + v1, df=df,
        name="Welch t; Fieller relative interval", metric=metric, alternative=alternative,
        confidence_level=confidence_level, control=control, treatment=treatment,
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

    Raises
    ------
    TreatmentError
        For one arm, or a control that is not among them.
    OutcomeError
        For a proportion that is not 0/1, an arm with one unit, or no variance.
    """
    if control not in moments:
        raise TreatmentError(f"control {control!r} is not among {list_some(moments)}.{nearest(control, moments)}")
    if len(moments) < 2:
        raise TreatmentError(f"found only the arm {control!r}; a comparison needs two.")
    results = []
    for metric, kind in metrics.items():
        for arm in (a for a in moments if a != control):
            base, other = moments[control], moments[arm]
            common = {"metric": metric, "control": control, "treatment": arm, "alternative": alternative,
                      "confidence_level": confidence_level}  # fmt: skip
            if kind == "proportion":
                counts = [_successes(m, metric, a) for a, m in ((control, base), (arm, other))]
                result = two_proportion_test(counts[0], base.n, counts[1], other.n, **common)  # type: ignore[arg-type]
            else:
                result = welch_test(
                    base.mean_of(metric), base.var_of(metric), base.n,
                    other.mean_of(metric), other.var_of(metric), other.n, **common,  # type: ignore[arg-type]
                )  # fmt: skip
            results.append(result)
    return results


def _successes(moments: Moments, metric: str, arm: str) -> int:
    mean, n = moments.mean_of(metric), moments.n
    if n > 1 and not math.isclose(moments.var_of(metric) * (n - 1) / n, mean * (1 - mean), abs_tol=1e-9):
        raise OutcomeError(f"{metric}: arm {arm!r} holds values other than 0 and 1; treat it as a mean instead.")
    return round(mean * n)


def _compare(
    base: tuple[float, float, int],
    other: tuple[float, float, int],
    *,
    null_variance: float,
    df: float,
    name: str,
    metric: str,
    alternative: str,
    confidence_level: float,
    control: str,
    treatment: str,
) -> ABResult:
    (m0, v0, n0), (m1, v1, n1) = base, other
    check_alternative(alternative)
    level = check_confidence_level(confidence_level)
    if null_variance <= 0:
        raise OutcomeError(f"{metric}: all values are alike in both arms, so there is no variance to test with.")
    law = stats.norm if math.isinf(df) else stats.t(df)
    effect, error = m1 - m0, math.sqrt(v0 + v1)
    statistic = effect / math.sqrt(null_variance)
    tail = {"greater": law.sf(statistic), "less": law.sf(-statistic), "two-sided": 2 * law.sf(abs(statistic))}
    quantile = float(law.isf((1 - level) / 2 if alternative == "two-sided" else 1 - level))
    low, high = effect - quantile * error, effect + quantile * error
    rel_low, rel_high, note = fieller_ratio(m1, v1, m0, v0, quantile)
    if alternative == "greater":
        high, rel_high = math.inf, math.inf
    elif alternative == "less":
        low, rel_low = -math.inf, -math.inf
    return ABResult(
        estimate=effect, std_error=error, ci_low=low, ci_high=high, pvalue=float(tail[alternative]),
        confidence_level=level, n_obs=n0 + n1, method=name + note, estimand="difference", metric=metric,
        control=control, treatment=treatment, control_mean=m0, treatment_mean=m1, n_control=n0, n_treatment=n1,
        statistic=statistic, df=float(df), relative_effect=effect / m0 if m0 else math.nan,
        relative_ci_low=rel_low - 1, relative_ci_high=rel_high - 1,
    )  # fmt: skip


def fieller_ratio(m1: float, v1: float, m0: float, v0: float, quantile: float) -> tuple[float, float, str]:
    """Fieller's (1954) interval for m1 / m0 from independent means with variances v1 and v0.

    Unbounded where m0 is not distinguishable from zero: then (-inf, inf) and a note that says so.
    """
    z2 = quantile**2
    a = m0**2 - z2 * v0
    discriminant = (m0 * m1) ** 2 - a * (m1**2 - z2 * v1)
    if a <= 0 or discriminant < 0:
        return -math.inf, math.inf, " (unbounded: the control mean is not distinguishable from zero)"
    root = math.sqrt(discriminant)
    return (m0 * m1 - root) / a, (m0 * m1 + root) / a, ""
