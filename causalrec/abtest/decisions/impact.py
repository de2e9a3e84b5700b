"""What an effect is worth in a year, with its interval and the chance of a loss."""

from __future__ import annotations

import math
from collections.abc import Iterator

from scipy.special import ndtr, stdtr

from causalrec.abtest.decisions.families import estimate_of
from causalrec.exceptions import CausalRecError, OutcomeError
from causalrec.results import ABResult, ImpactResult, format_number

_YEAR = 365.0


def project_impact(
    effect: ABResult,
    *,
    units_per_year: float | None = None,
    baseline_per_year: float | None = None,
    value_per_unit: float = 1.0,
    rollout: float = 1.0,
    cost: float = 0.0,
    half_life_days: float | None = None,
    unit: str = "",
) -> ImpactResult:
    """Project an effect to a year: effect x units x value x rollout x what is left of it, less the cost.

    Parameters
    ----------
    effect : ABResult
    units_per_year : float, optional
        Units that the change will reach in a year, counted as the metric counts them: users for a mean per user,
        denominators for a ratio (views for clicks per view), triggered units for a triggered effect, and as often as
        the effect is had: a mean of the test's two weeks is had once in two weeks.
    baseline_per_year : float, optional
        In its place: the metric's yearly total without the change, of which the relative effect is a share. It follows
        a base that changes over the year.
    value_per_unit : float
        Of one unit of the metric; negative for what costs.
    rollout : float
        The share of units that will have the change, in (0, 1].
    cost : float
        A year's, taken off.
    half_life_days : float, optional
        After which half of the effect is gone, as by novelty; by default it stays.
    unit : str
        Of the value, such as ``"EUR"``.

    Notes
    -----
    The interval is the effect's, so it is as wide as its inference: always valid intervals stay so. The probability of
    a loss is that of the estimate's law around the truth read the other way round: a posterior without a prior.
    Effects that were chosen since they are large are too large: see :func:`conditional_estimate` and
    :func:`shrink_winners`.

    Raises
    ------
    CausalRecError
        Unless one of the two yearly numbers is given, or for numbers outside their range.
    OutcomeError
        For an effect without a value: a relative one of a control mean of zero.

    Examples
    --------
    >>> from causalrec.abtest import welch_test
    >>> revenue = welch_test(2.0, 25.0, 40_000, 2.1, 25.0, 40_000, metric="revenue")
    >>> found = project_impact(revenue, units_per_year=5_000_000, cost=100_000)
    >>> print(f"{found.estimate:,.0f} [{found.ci_low:,.0f}, {found.ci_high:,.0f}] {found.prob_loss:.4f}")
    400,000 [53,519, 746,481] 0.0118
    """
    per_year, relative = _per_year(units_per_year, baseline_per_year)
    _check_numbers(value_per_unit, rollout, cost, half_life_days)
    value, error, low, high = effect_on_scale(effect, relative)
    if not math.isfinite(value):
        raise OutcomeError(
            f"{effect.metric}: the control mean is {format_number(effect.control_mean)}, of which no relative effect "
            "is known; give units_per_year in place of baseline_per_year."
        )
    left = 1.0 if half_life_days is None else persistence(half_life_days)
    factor = per_year * value_per_unit * rollout * left
    ends = sorted((low * factor - cost, high * factor - cost))
    yearly, spread = value * factor - cost, error * abs(factor)
    distance = _distance(effect, relative, cost / factor) * math.copysign(1.0, factor)
    below = ndtr(-distance) if math.isinf(effect.df) else stdtr(effect.df, -distance)
    return ImpactResult(
        estimate=yearly, std_error=spread, ci_low=ends[0], ci_high=ends[1], pvalue=effect.pvalue,
        confidence_level=effect.interval_level, n_obs=effect.n_obs, method=_method(effect, relative),
        estimand="yearly value", metric=effect.metric, control=effect.control, treatment=effect.treatment,
        prob_loss=float(below), effect=value, scale="relative" if relative else "absolute", per_year=per_year,
        value_per_unit=float(value_per_unit), rollout=float(rollout), cost=float(cost), persistence=left, unit=unit,
        caveats=tuple(_caveats(effect, relative, rollout, half_life_days)),
    )  # fmt: skip


def persistence(half_life_days: float) -> float:
    """The mean over a year of 2^(-t / half-life).

    Examples
    --------
    >>> print(f"{persistence(180):.4f}")
    0.5370
    """
    rate = math.log(2) * _YEAR / half_life_days
    return -math.expm1(-rate) / rate


def _per_year(units: float | None, baseline: float | None) -> tuple[float, bool]:
    if (units is None) == (baseline is None):
        raise CausalRecError(
            "expected one of units_per_year (for the absolute effect per unit) and baseline_per_year (the yearly "
            "total, for the relative effect)."
        )
    found = units if units is not None else baseline
    if not (found is not None and 0 < found < math.inf):
        name = "units" if baseline is None else "baseline"
        raise CausalRecError(f"{name}_per_year is {found}; expected a number > 0.")
    return float(found), baseline is not None


def _check_numbers(value_per_unit: float, rollout: float, cost: float, half_life_days: float | None) -> None:
    life = 1.0 if half_life_days is None else half_life_days
    for name, value, ok, expected in (
        ("value_per_unit", value_per_unit, value_per_unit != 0, "a finite number that is not 0"),
        ("rollout", rollout, 0 < rollout <= 1, "a share in (0, 1]"),
        ("cost", cost, True, "a finite number"),
        ("half_life_days", life, life > 0, "a number of days > 0"),
    ):
        if not (ok and math.isfinite(value)):
            raise CausalRecError(f"{name} is {value}; expected {expected}.")


def effect_on_scale(effect: ABResult, relative: bool) -> tuple[float, float, float, float]:
    """The effect, its error and interval, absolute or relative (the error by the delta method)."""
    if not relative:
        return effect.estimate, effect.std_error, effect.ci_low, effect.ci_high
    given = estimate_of(effect)
    theta = 1 + effect.relative_effect
    variance = given.var_treatment + theta**2 * given.var_control - 2 * theta * given.covariance
    error = math.sqrt(max(variance, 0.0)) / abs(given.control) if given.control else math.nan
    return effect.relative_effect, error, effect.relative_ci_low, effect.relative_ci_high


def _distance(effect: ABResult, relative: bool, null: float) -> float:
    """From an effect that is worth nothing, in standard errors of their difference; no delta method is needed."""
    if not relative:
        return (effect.estimate - null) / effect.std_error if effect.std_error > 0 else math.nan
    given, theta = estimate_of(effect), 1 + null
    variance = given.var_treatment + theta**2 * given.var_control - 2 * theta * given.covariance
    away = (given.treatment - theta * given.control) * math.copysign(1.0, given.control)
    return away / math.sqrt(variance) if variance > 0 else math.nan


def _method(effect: ABResult, relative: bool) -> str:
    how = "relative effect x yearly baseline" if relative else "effect per unit x yearly units"
    return f"{how}; {effect.inference} interval"


def _caveats(effect: ABResult, relative: bool, rollout: float, half_life_days: float | None) -> Iterator[str]:
    if half_life_days is None:
        yield "The effect is taken to stay for a year. If it wears off (novelty), give half_life_days."
    else:
        yield f"Half of the effect is taken to be gone after {half_life_days:g} days, which is an assumption."
    yield "The weeks of the test stand for the whole year: season and prices are not accounted for."
    if not relative:
        yield (
            "Units are those that the metric is averaged over (of a ratio its denominators) and as often as the test's "
            "length fits into the year."
        )
    if rollout < 1:
        yield f"Only {rollout:.0%} of the units will have the change."
    if effect.significant:
        yield "An effect that is reported since it is significant is too large on average (winner's curse)."
    if effect.segment:
        yield f"Of the segment {effect.segment} alone."
