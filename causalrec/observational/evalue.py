"""E-values: how strong a hidden confounder must be, on the scale of risk ratios, to explain an association away."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import optimize, stats

from causalrec._validation import check_confidence_level, list_some, nearest
from causalrec.exceptions import CausalRecError
from causalrec.results import EffectResult, EValueResult

MEASURES = ("rr", "or", "hr", "smd", "ols", "rd")
_RATIOS = ("rr", "or", "hr")
_MOST = 300.0  # of a logarithm: beyond it nothing is left to tell
_SLOPE = 0.91  # log odds ratio π/√3 of a standardised difference, halved to a log risk ratio (Chinn 2000)


def bias_factor(treatment_ratio: float, outcome_ratio: float) -> float:
    """The most that a confounder can multiply a risk ratio by: ab / (a + b - 1).

    Ding and VanderWeele 2016, Epidemiology 27, "Sensitivity analysis without assumptions", equation 1, with the risk
    ratios a between treatment and confounder and b between confounder and outcome, both at least 1.

    Examples
    --------
    >>> bias_factor(2.0, 2.0).__round__(4)
    1.3333
    """
    for name, value in (("treatment_ratio", treatment_ratio), ("outcome_ratio", outcome_ratio)):
        if not (math.isfinite(value) and value >= 1):
            raise CausalRecError(f"{name} is {value}; expected a risk ratio of at least 1. Of one below 1 pass 1 / it.")
    return treatment_ratio * outcome_ratio / (treatment_ratio + outcome_ratio - 1)


def evalue_of_ratio(risk_ratio: float) -> float:
    """RR + √(RR(RR - 1)), of 1 / RR where RR is below 1 (VanderWeele and Ding 2017, Annals of Internal Medicine 167).

    Examples
    --------
    >>> round(evalue_of_ratio(3.9), 5), round(evalue_of_ratio(0.8), 5)
    (7.26303, 1.80902)
    """
    if math.isnan(risk_ratio):
        return math.nan
    if not risk_ratio > 0:
        raise CausalRecError(f"the risk ratio is {risk_ratio}; expected a number above 0. Check the estimate's scale.")
    ratio = max(risk_ratio, 1 / risk_ratio)
    return ratio + math.sqrt(ratio * (ratio - 1))


def evalue(
    estimate: float | EffectResult,
    ci_low: float | None = None,
    ci_high: float | None = None,
    *,
    measure: str | None = None,
    rare: bool | None = None,
    std_error: float | None = None,
    sd: float | None = None,
    delta: float = 1.0,
    baseline_risk: float | None = None,
    true_value: float | None = None,
    confidence_level: float = 0.95,
) -> EValueResult:
    r"""The E-value of an estimate, and of the limit of its interval that is nearer to ``true_value``.

    Conversions to a risk ratio (VanderWeele and Ding 2017, table 2; VanderWeele 2017, Epidemiology 28):
    odds and hazard ratios of rare outcomes as they are; of common ones √OR, and
    :math:`(1 - 0.5^{\sqrt{HR}}) / (1 - 0.5^{1 / \sqrt{HR}})`; standardised differences d by exp(0.91 d); a coefficient
    of a regression is first divided by ``sd``.

    Parameters
    ----------
    estimate : float or EffectResult
        A result brings its interval and its level, and needs ``measure``.
    ci_low, ci_high : float, optional
    measure : {"rr", "or", "hr", "smd", "ols", "rd"}, optional
        Risk (or rate), odds, hazard ratio; standardised mean difference; coefficient of a least-squares regression
        of an outcome with standard deviation ``sd``; risk difference, with ``baseline_risk``. Of numbers ``"rr"`` by
        default.
    rare : bool
        Whether fewer than 15% have the outcome by the end of follow-up. Needed for ``"or"`` and ``"hr"``.
    std_error : float, optional
        Of a difference, instead of an interval.
    sd : float
        Of the outcome, best within levels of the covariates (the residual standard deviation).
    delta : float
        Contrast of the treatment that a coefficient is multiplied by.
    baseline_risk : float
        Risk without the treatment: the risk ratio is (baseline_risk + rd) / baseline_risk. Its own error is not
        counted; with a two-by-two table use :func:`evalue_of_table`.
    true_value : float, optional
        Default: 1 for ratios, 0 for differences. In the units of ``estimate``.
    confidence_level : float

    Returns
    -------
    EValueResult

    Raises
    ------
    CausalRecError
        For ratios that are not positive, an interval without the estimate, and what a conversion needs and lacks.

    Examples
    --------
    >>> found = evalue(0.80, 0.71, 0.91)
    >>> round(found.evalue, 5), round(found.evalue_ci, 5)
    (1.80902, 1.42857)
    """
    if measure is None and isinstance(estimate, EffectResult):
        raise CausalRecError(
            "measure is not given, and a result may be a difference or a ratio; expected measure='ols' with sd= for a "
            f"difference of means, 'rd' with baseline_risk= for one of risks, or another of {list_some(MEASURES)}."
        )
    measure = "rr" if measure is None else measure
    if measure not in MEASURES:
        hint = nearest(str(measure), MEASURES)
        raise CausalRecError(f"measure is {measure!r}; expected one of {list_some(MEASURES)}.{hint}")
    if isinstance(estimate, EffectResult):
        confidence_level = estimate.confidence_level
        ci_low, ci_high, estimate = estimate.ci_low, estimate.ci_high, estimate.estimate
    low, high = _interval(float(estimate), ci_low, ci_high, std_error, check_confidence_level(confidence_level))
    true = (1.0 if measure in _RATIOS else 0.0) if true_value is None else float(true_value)
    as_ratio, words = _conversion(measure, rare, sd, delta, baseline_risk)
    ratios = [as_ratio(value) for value in (float(estimate), low, high)]
    target = as_ratio(true)
    return EValueResult(
        measure=measure, estimate=float(estimate), ci_low=low, ci_high=high, true_value=true, conversion=words,
        risk_ratio=ratios[0], risk_ratio_low=ratios[1], risk_ratio_high=ratios[2],
        evalue=evalue_of_ratio(ratios[0] / target), evalue_ci=_nearer(ratios, target),
        confidence_level=confidence_level,
    )  # fmt: skip


def evalue_of_table(
    treated_events: int,
    treated_others: int,
    control_events: int,
    control_others: int,
    *,
    true_value: float = 0.0,
    confidence_level: float = 0.95,
) -> EValueResult:
    r"""The E-value of a risk difference from a two-by-two table, without a conversion.

    With confounding by the bias factor B the risk difference of the population is at least
    :math:`(p_1 - p_0 B)(f + (1 - f) / B)`, f being the share treated (Ding and VanderWeele 2016, Epidemiology 27, page
    376; its error by the delta method, eAppendix 5). B is found where that, or its lower limit, reaches
    ``true_value``.

    Parameters
    ----------
    treated_events, treated_others, control_events, control_others : int
        Units with and without the outcome.
    true_value : float
    confidence_level : float

    Raises
    ------
    CausalRecError
        For counts below 0, an empty arm, or a difference not above ``true_value``: exchange the arms, or the outcome.

    Examples
    --------
    Smoking and lung cancer (Hammond and Horn 1958):

    >>> found = evalue_of_table(397, 78557, 51, 108778)
    >>> round(found.evalue, 2), round(found.evalue_ci, 2)
    (20.95, 15.96)
    """
    counts = [float(c) for c in (treated_events, treated_others, control_events, control_others)]
    if not all(math.isfinite(c) and c >= 0 for c in counts):
        raise CausalRecError(f"the table has counts {list_some(counts)}; expected numbers of units, 0 or more.")
    n1, n0 = counts[0] + counts[1], counts[2] + counts[3]
    if not (n1 > 0 and n0 > 0 and counts[2] > 0):
        raise CausalRecError(
            f"the table has {n1:g} treated, {n0:g} controls, and {counts[2]:g} events of controls; all must be above "
            "0. Without events among controls no bias factor is defined."
        )
    p1, p0, share = counts[0] / n1, counts[2] / n0, n1 / (n1 + n0)
    if p1 - p0 <= true_value:
        raise CausalRecError(
            f"the risk difference {p1 - p0:.4g} is not above true_value = {true_value:g}; exchange the arms, so that "
            "it is positive, or take a lesser true_value."
        )
    z = float(stats.norm.isf((1 - check_confidence_level(confidence_level)) / 2))
    v1, v0, vf = p1 * (1 - p1) / n1, p0 * (1 - p0) / n0, share * (1 - share) / (n1 + n0)

    def bound(factor: float, width: float) -> float:
        difference, reach = p1 - p0 * factor, share + (1 - share) / factor
        error = math.sqrt((v1 + v0 * factor**2) * reach**2 + (difference * (1 - 1 / factor)) ** 2 * vf)
        return difference * reach - width * error - true_value

    largest = _factor(lambda factor: bound(factor, 0.0))
    least = _factor(lambda factor: bound(factor, z)) if bound(1.0, z) > 0 else 1.0
    half = z * math.sqrt(v1 + v0)
    return EValueResult(
        measure="rd", estimate=p1 - p0, ci_low=p1 - p0 - half, ci_high=p1 - p0 + half, true_value=true_value,
        conversion="bounds of a risk difference", risk_ratio=p1 / p0, risk_ratio_low=math.nan,
        risk_ratio_high=math.nan, evalue=evalue_of_ratio(largest), evalue_ci=evalue_of_ratio(least),
        confidence_level=confidence_level,
    )  # fmt: skip


def _factor(gap: Callable[[float], float]) -> float:
    high = 2.0
    while gap(high) > 0:
        high *= 2
    return float(optimize.brentq(gap, 1.0, high, xtol=1e-12))


def _interval(
    estimate: float, low: float | None, high: float | None, std_error: float | None, level: float
) -> tuple[float, float]:
    if not math.isfinite(estimate):
        raise CausalRecError(f"estimate is {estimate}; expected a finite number.")
    if std_error is not None:
        if low is not None or high is not None:
            raise CausalRecError("both std_error and an interval are given; pass one of them.")
        if not std_error >= 0:
            raise CausalRecError(f"std_error is {std_error}; expected a number of at least 0.")
        half = float(stats.norm.isf((1 - level) / 2)) * float(std_error)
        return estimate - half, estimate + half
    ends = [math.nan if end is None else float(end) for end in (low, high)]
    if ends[0] > estimate or ends[1] < estimate:
        raise CausalRecError(
            f"the interval [{ends[0]:g}, {ends[1]:g}] does not contain the estimate {estimate:g}; expected ci_low <= "
            "estimate <= ci_high. Check their order, and that all are on one scale (ratios, not logarithms)."
        )
    return ends[0], ends[1]


def _nearer(ratios: list[float], target: float) -> float:
    """The E-value of the limit nearer to the target, 1 where the interval has it."""
    estimate, low, high = ratios
    end = low if estimate > target else high
    if math.isnan(end):
        return math.nan
    reached = end <= target if estimate > target else end >= target
    return 1.0 if reached or estimate == target else evalue_of_ratio(end / target)


def _conversion(
    measure: str, rare: bool | None, sd: float | None, delta: float, baseline_risk: float | None
) -> tuple[Callable[[float], float], str]:
    if measure in ("or", "hr") and rare is None:
        raise CausalRecError(
            f"measure={measure!r} needs rare=: True where fewer than 15% have the outcome by the end, else False."
        )
    if measure in _RATIOS:
        kind = measure if not rare else "rr"
        words = {"rr": "taken as a risk ratio", "or": "risk ratio as √OR", "hr": "risk ratio from HR, common outcome"}
        return lambda value: _ratio(value, kind, measure), words[kind]
    if measure == "rd":
        if baseline_risk is None or not 0 < baseline_risk < 1:
            raise CausalRecError(f"measure='rd' needs baseline_risk in (0, 1), the risk without treatment; found "
                                 f"{baseline_risk}.")  # fmt: skip
        return lambda value: _risk_ratio(value, baseline_risk), f"risk ratio at a baseline risk of {baseline_risk:g}"
    if measure == "ols" and (sd is None or not sd > 0):
        raise CausalRecError(f"measure='ols' needs sd, the outcome's standard deviation, above 0; found {sd}.")
    scale = delta / float(sd) if measure == "ols" and sd is not None else 1.0
    return lambda value: _risk_ratio_of_smd(value * scale), "risk ratio as exp(0.91 × standardised difference)"


def _risk_ratio_of_smd(difference: float) -> float:
    return float(np.exp(np.clip(_SLOPE * difference, -_MOST, _MOST)))


def _ratio(value: float, kind: str, measure: str) -> float:
    if math.isnan(value):
        return value
    if not value > 0:
        raise CausalRecError(
            f"measure={measure!r} is a ratio, but found {value:g}; expected numbers above 0. Exponentiate coefficients "
            "of logarithms first, or pass measure='rd' or 'smd' for a difference."
        )
    root = math.sqrt(value)
    if kind == "or":
        return root
    return (1 - 0.5**root) / (1 - 0.5 ** (1 / root)) if kind == "hr" else value


def _risk_ratio(difference: float, baseline: float) -> float:
    """The limit of an interval beyond what a risk can be counts as just within."""
    if math.isnan(difference):
        return difference
    return float(np.clip(baseline + difference, 1e-12, 1.0)) / baseline


def ratios_for(evalue_factor: float, treatment_ratio: Any) -> Any:
    """The outcome's ratio that, with each of the treatment's, makes a bias factor: B(1 - a) / (B - a).

    Solved from :func:`bias_factor`; NaN where the treatment's ratio is not above the bias factor, since no confounder
    with it is enough.

    Examples
    --------
    >>> ratios_for(2.0, [4.0, 1.5]).tolist()
    [3.0, nan]
    """
    a = np.asarray(treatment_ratio, dtype=np.float64)
    enough = a > evalue_factor
    return np.where(enough, evalue_factor * (a - 1) / np.where(enough, a - evalue_factor, 1.0), np.nan)
