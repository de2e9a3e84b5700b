"""Two proportions from their counts: each test with the intervals that belong to it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import get_args

from causalrec._validation import check_confidence_level, list_some, nearest
from causalrec.abtest._exact import exact_pvalue
from causalrec.abtest._proportions import Counts, LikelihoodRatio, Newcombe, Score, Statistic
from causalrec.abtest.estimation.estimates import Estimate
from causalrec.abtest.hypotheses import Hypothesis, OneSidedTest, Superiority, as_hypothesis
from causalrec.abtest.inference import decide, infer, upper_quantile
from causalrec.abtest.metrics import ProportionMethod
from causalrec.abtest.relative import UNBOUNDED, Interval, Relative, relative_interval
from causalrec.exceptions import CausalRecError, OutcomeError
from causalrec.results import NAN, ABResult

_EXACT = {"fisher": "Fisher exact", "barnard": "Barnard exact", "boschloo": "Boschloo exact"}
_CORRECTED = ("wald", "g")


@dataclass(frozen=True)
class _Asked:
    """Who is compared, and what is asked."""

    metric: str
    control: str
    treatment: str
    hypothesis: Hypothesis
    level: float
    relative: Relative


def two_proportion_test(
    successes_control: int,
    n_control: int,
    successes_treatment: int,
    n_treatment: int,
    *,
    method: ProportionMethod = "wald",
    pooled: bool = True,
    correction: bool = False,
    pooled_interval: bool = False,
    alternative: str = "two-sided",
    hypothesis: Hypothesis | None = None,
    confidence_level: float = 0.95,
    relative: Relative = "fieller",
    metric: str = "conversion",
    control: str = "control",
    treatment: str = "treatment",
) -> ABResult:
    """Compare two proportions.

    Parameters
    ----------
    successes_control, n_control, successes_treatment, n_treatment : int
    method : str
        ``"wald"``: the z test, interval of the unpooled variance (Fleiss, Levin and Paik 2003, section 3.3).
        ``"agresti-caffo"``: the same after a success and a failure are added to each arm (Agresti and Caffo 2000).
        ``"newcombe"``: Wilson's limits combined (Newcombe 1998, method 10); p is where the interval meets the null.
        ``"miettinen-nurminen"``: the score test and its interval (1985), for difference and ratio.
        ``"g"``: the likelihood ratio and the profile likelihood's interval.
        ``"fisher"``, ``"barnard"``, ``"boschloo"``: exact p-values, without a margin. Limits that agree with those at
        every border do not exist in closed form: they come with those of Miettinen and Nurminen, as ``method`` says.
    pooled : bool
        Whether the z test of ``"wald"``, or of Barnard, takes the variance of no effect. Then p-value and interval may
        disagree near the border; ``pooled=False`` makes Wald's one.
    correction : bool
        Continuity correction: of ``"wald"`` p and interval move by (1 / n_control + 1 / n_treatment) / 2, of ``"g"``
        counts move by half a unit (Yates; p only).
    pooled_interval : bool
        Take the variance of no effect for Wald's interval too, as some tools do; its coverage is not right where there
        is an effect.
    alternative : {"two-sided", "greater", "less"}
    hypothesis : NonInferiority or Equivalence, optional
        In place of ``alternative``. A margin is tested with the variance at the margin: of the score methods that of
        the likeliest proportions there.
    confidence_level : float
    relative : {"fieller", "delta", "log"}
        The relative interval of ``"wald"`` and ``"agresti-caffo"``; the others have one of their own kind.
    metric, control, treatment : str
        Names for the result.

    Returns
    -------
    ABResult
        ``std_error`` is the unpooled one, NaN where each arm is all 0 or all 1; Wald's interval is NaN then too.

    Raises
    ------
    OutcomeError
        For counts that are not whole numbers with 0 <= successes <= n, fewer than two units in an arm, or no variance
        to test with.
    CausalRecError
        For an unknown method, choices that do not go together, or an exact test of too many tables.

    Examples
    --------
    >>> result = two_proportion_test(420, 23_524, 14_423, 564_577, control="psa", treatment="ad")
    >>> print(f"{result.estimate:.5f} {result.statistic:.3f} {result.pvalue:.2e}")
    0.00769 7.370 1.71e-13
    >>> small = two_proportion_test(0, 20, 4, 18, method="miettinen-nurminen")
    >>> print(f"[{small.ci_low:.3f}, {small.ci_high:.3f}] p = {small.pvalue:.3f}")
    [0.039, 0.455] p = 0.028
    """
    asked = _Asked(
        metric, control, treatment, as_hypothesis(alternative, hypothesis), check_confidence_level(confidence_level),
        relative,
    )  # fmt: skip
    counts = _checked_counts(asked, successes_control, n_control, successes_treatment, n_treatment)
    _check_method(method, correction=correction, pooled_interval=pooled_interval, hypothesis=asked.hypothesis)
    if method == "wald":
        return _wald(counts, asked, pooled=pooled, correction=correction, pooled_interval=pooled_interval)
    if method == "agresti-caffo":
        return _agresti_caffo(counts, asked)
    if method in _EXACT:
        return _exact(counts, asked, method, pooled=pooled)
    if method == "newcombe":
        return _inverted(counts, asked, Newcombe(counts), "Newcombe hybrid score, p by inversion")
    if method == "miettinen-nurminen":
        return _inverted(counts, asked, Score(counts), "Miettinen–Nurminen score")
    name = "likelihood ratio G" + (", Yates-corrected p" if correction else "") + "; profile likelihood interval"
    return _inverted(counts, asked, LikelihoodRatio(counts, correction), name)


def _wald(counts: Counts, asked: _Asked, *, pooled: bool, correction: bool, pooled_interval: bool) -> ABResult:
    p0, p1, n0, n1 = counts.p0, counts.p1, counts.n0, counts.n1
    share = (counts.x0 + counts.x1) / (n0 + n1)
    null = share * (1 - share) * (1 / n0 + 1 / n1)
    v0, v1 = p0 * (1 - p0) / n0, p1 * (1 - p1) / n1
    if pooled_interval:
        v0, v1 = share * (1 - share) / n0, share * (1 - share) / n1
    name = (
        f"two-proportion z, {'pooled' if pooled else 'unpooled'}{', continuity-corrected' if correction else ''}; "
        f"{'pooled ' if pooled_interval else ''}Wald interval"
    )
    estimate = Estimate(p0, p1, v0, v1, 0.0, math.inf, n0, n1, name, null_variance=null if pooled else NAN)
    result = _infer(estimate, asked)
    if pooled_interval and asked.relative == "log" and 0 < share < 1 and p0 * p1 > 0:
        result = _with_pooled_log_interval(result, math.sqrt(null) / share)
    return _with_correction(result, estimate, asked) if correction else result


def _agresti_caffo(counts: Counts, asked: _Asked) -> ABResult:
    more = Counts(counts.x0 + 1, counts.n0 + 2, counts.x1 + 1, counts.n1 + 2)
    p0, p1 = more.p0, more.p1
    estimate = Estimate(
        p0, p1, p0 * (1 - p0) / more.n0, p1 * (1 - p1) / more.n1, 0.0, math.inf, counts.n0, counts.n1,
        "Agresti–Caffo: z and interval of the counts with one more success and failure in each arm",
    )  # fmt: skip
    return _as_seen(_infer(estimate, asked), counts)


def _exact(counts: Counts, asked: _Asked, method: str, *, pooled: bool) -> ABResult:
    alternative = asked.hypothesis.alternative  # type: ignore[union-attr]  # a margin was refused
    name = f"{_EXACT[method]}; interval: Miettinen–Nurminen, which may contradict p near the border"
    result = _inverted(counts, asked, Score(counts), name)
    table = (int(counts.x0), counts.n0, int(counts.x1), counts.n1)
    pvalue = NAN if _all_alike(counts) else exact_pvalue(*table, method, alternative, pooled=pooled)
    return replace(result, pvalue=pvalue, statistic=NAN, df=NAN)


def _inverted(counts: Counts, asked: _Asked, statistic: Statistic, name: str) -> ABResult:
    """The test and the intervals of a statistic that has a distance from any null."""
    answer = decide(
        asked.hypothesis, asked.level, asked.metric, baseline=counts.p0,
        distance=lambda test: statistic.distance(test.theta, test.offset),
    )  # fmt: skip
    note = answer.note
    if _all_alike(counts) and isinstance(asked.hypothesis, Superiority):
        # All distances are 0 / 0: nothing was seen that could differ, which is no evidence for p = 1.
        answer = answer._replace(statistic=NAN, pvalue=NAN)
        note += " (no p-value: every value is the same in both arms)"
    quantile = _quantile(answer.level, answer.side)
    low, high = _open(statistic.difference(quantile), answer.side)
    ratio_low, ratio_high = _open(statistic.ratio(quantile), answer.side)
    return _as_seen(
        ABResult(
            estimate=NAN, std_error=NAN, ci_low=low, ci_high=high, pvalue=answer.pvalue, confidence_level=asked.level,
            n_obs=counts.n0 + counts.n1, method=name + note, estimand="difference", metric=asked.metric,
            control=asked.control, treatment=asked.treatment, control_mean=NAN, treatment_mean=NAN,
            n_control=counts.n0, n_treatment=counts.n1, statistic=answer.statistic, df=math.inf, relative_effect=NAN,
            relative_ci_low=ratio_low - 1, relative_ci_high=ratio_high - 1, hypothesis=answer.hypothesis,
            margin_low=answer.margins[0], margin_high=answer.margins[1],
        ),
        counts,
    )  # fmt: skip


def _as_seen(result: ABResult, counts: Counts) -> ABResult:
    """The result with the plain shares, their difference and its standard error."""
    p0, p1 = counts.p0, counts.p1
    error = math.sqrt(p0 * (1 - p0) / counts.n0 + p1 * (1 - p1) / counts.n1)
    return replace(
        result, estimate=p1 - p0, std_error=error or NAN, control_mean=p0, treatment_mean=p1,
        relative_effect=(p1 - p0) / p0 if p0 else NAN, control_std_error=math.sqrt(p0 * (1 - p0) / counts.n0) or NAN,
        treatment_std_error=math.sqrt(p1 * (1 - p1) / counts.n1) or NAN,
    )  # fmt: skip


def _with_correction(result: ABResult, estimate: Estimate, asked: _Asked) -> ABResult:
    """Move test and limits by half a unit in each arm: (1 / n_control + 1 / n_treatment) / 2 in all."""
    half0, half1 = 0.5 / estimate.n_control, 0.5 / estimate.n_treatment
    two_sided = isinstance(asked.hypothesis, Superiority) and asked.hypothesis.alternative == "two-sided"

    def distance(test: OneSidedTest) -> float:
        gap = estimate.treatment - test.theta * estimate.control - test.offset
        move = half1 + test.theta * half0
        nearer = math.copysign(min(move, abs(gap)), gap) if two_sided else test.direction * move
        variance = estimate.var_treatment + test.theta**2 * estimate.var_control
        if (test.theta, test.offset) == (1.0, 0.0) and not math.isnan(estimate.null_variance):
            variance = estimate.null_variance
        return (gap - nearer) / (math.sqrt(variance) or NAN)

    answer = decide(asked.hypothesis, asked.level, asked.metric, baseline=estimate.control, distance=distance)
    low, high = _corrected_shares(result, estimate, asked.relative, _quantile(answer.level, answer.side))
    unbounded = math.isinf(low) and math.isinf(high) and UNBOUNDED not in result.method
    low, high = _open((low, high), answer.side)
    return replace(
        result, method=result.method + UNBOUNDED * unbounded, pvalue=answer.pvalue, statistic=answer.statistic,
        ci_low=result.ci_low - half0 - half1, ci_high=result.ci_high + half0 + half1, relative_ci_low=low,
        relative_ci_high=high,
    )  # fmt: skip


def _corrected_shares(result: ABResult, estimate: Estimate, relative: Relative, quantile: float) -> Interval:
    """Relative limits: Fieller's of shares moved by half a unit; else moved by the correction / control share."""
    half0, half1 = 0.5 / estimate.n_control, 0.5 / estimate.n_treatment
    if relative == "fieller" and estimate.control <= half0:
        return -math.inf, math.inf
    if relative == "fieller":
        moved = [
            replace(estimate, treatment=estimate.treatment + sign * half1, control=estimate.control - sign * half0)
            for sign in (-1, 1)
        ]
        (low, _), (_, high) = (relative_interval(each, quantile, "fieller")[0] for each in moved)
        return low, high
    move = (half0 + half1) / estimate.control if estimate.control else NAN
    low, high = result.relative_ci_low, result.relative_ci_high
    if relative == "delta":
        return low - move, high + move
    return (1 + low) * math.exp(-move) - 1, (1 + high) * math.exp(move) - 1


def _with_pooled_log_interval(result: ABResult, error: float) -> ABResult:
    """The interval of the log ratio with the standard error of no effect."""
    side = result.hypothesis if result.hypothesis in ("greater", "less") else "two-sided"
    half = _quantile(result.confidence_level, side) * error
    ratio = result.treatment_mean / result.control_mean
    low, high = _open((ratio * math.exp(-half) - 1, ratio * math.exp(half) - 1), side)
    return replace(result, relative_ci_low=low, relative_ci_high=high)


def _infer(estimate: Estimate, asked: _Asked) -> ABResult:
    return infer(
        estimate, metric=asked.metric, control=asked.control, treatment=asked.treatment, hypothesis=asked.hypothesis,
        confidence_level=asked.level, relative=asked.relative,
    )  # fmt: skip


def _quantile(level: float, side: str) -> float:
    return upper_quantile((1 - level) / (2 if side == "two-sided" else 1))


def _open(interval: Interval, side: str) -> Interval:
    """A one-sided interval, from the limits of a two-sided one."""
    low, high = interval
    return (-math.inf if side == "less" else low), (math.inf if side == "greater" else high)


def _all_alike(counts: Counts) -> bool:
    return counts.x0 + counts.x1 in (0, counts.n0 + counts.n1)


def _checked_counts(asked: _Asked, x0: float, n0: float, x1: float, n1: float) -> Counts:
    for name, successes, n in ((asked.control, x0, n0), (asked.treatment, x1, n1)):
        if not (0 <= successes <= n and n >= 2 and successes == int(successes) and n == int(n)):
            raise OutcomeError(
                f"{asked.metric}: arm {name!r} has {successes} successes in {n} units; expected whole numbers with "
                "0 <= successes <= n and at least two units. Check how they were counted."
            )
    return Counts(int(x0), int(n0), int(x1), int(n1))


def _check_method(method: str, *, correction: bool, pooled_interval: bool, hypothesis: Hypothesis) -> None:
    known = get_args(ProportionMethod)
    if method not in known:
        raise CausalRecError(
            f"method is {method!r}; expected one of {list_some(known, 10)}.{nearest(str(method), known)}"
        )
    superiority = isinstance(hypothesis, Superiority)
    if method in _EXACT and not superiority:
        raise CausalRecError(f"method {method!r} takes no margin; take 'miettinen-nurminen', whose test has one.")
    if correction and method not in _CORRECTED:
        raise CausalRecError(
            f"method {method!r} has no continuity correction; take correction=False, or 'wald' or 'g'."
        )
    if pooled_interval and (method != "wald" or not superiority):
        raise CausalRecError("pooled_interval goes with method='wald' and without a margin; leave it out.")
    if correction and method == "g" and not superiority:
        raise CausalRecError("correction of 'g' is for no effect, not for a margin; take correction=False.")
