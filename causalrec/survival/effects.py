"""Two arms' estimates with their variances as an effect: difference and ratio."""

from __future__ import annotations

import math

from scipy import stats

from causalrec.results import ABResult
from causalrec.results.base import NAN


def arm_effect(
    metric: str,
    control: tuple[str, int, float, float],
    treatment: tuple[str, int, float, float],
    *,
    confidence_level: float,
    method: str,
) -> ABResult:
    """The difference treatment - control of independent, asymptotically normal estimates, and their ratio less one.

    The ratio's interval is Fieller's, which excludes zero just when that of the difference does.

    Parameters
    ----------
    metric : str
    control, treatment : (arm, units, estimate, standard error)
        NaN where not known.
    """
    control_name, n_control, control_value, control_error = control
    name, n_treatment, value, error = treatment
    z = stats.norm.isf((1 - confidence_level) / 2)
    difference, spread = value - control_value, math.hypot(control_error, error)
    statistic = difference / spread if spread > 0 else NAN
    relative = difference / control_value if control_value > 0 else NAN
    relative_low, relative_high = _ratio_interval(control_value, control_error, value, error, z)
    return ABResult(
        estimate=difference, std_error=spread if spread > 0 else NAN, ci_low=difference - z * spread,
        ci_high=difference + z * spread, pvalue=float(2 * stats.norm.sf(abs(statistic))),
        confidence_level=confidence_level, n_obs=n_control + n_treatment, method=method, estimand=metric, metric=metric,
        control=control_name, treatment=name, control_mean=control_value, treatment_mean=value, n_control=n_control,
        n_treatment=n_treatment, statistic=statistic, df=math.inf, relative_effect=relative,
        relative_ci_low=relative_low - 1, relative_ci_high=relative_high - 1, control_std_error=control_error,
        treatment_std_error=error,
    )  # fmt: skip


def _ratio_interval(
    control: float, control_error: float, treatment: float, error: float, z: float
) -> tuple[float, float]:
    """All r for which treatment - r control is not z standard errors from zero; without ends if control may be 0."""
    if math.isnan(treatment - control) or not control_error > 0:
        return NAN, NAN
    a = control**2 - (z * control_error) ** 2
    c = treatment**2 - (z * error) ** 2
    if a <= 0:
        return -math.inf, math.inf
    centre, half = control * treatment / a, math.sqrt(max((control * treatment) ** 2 - a * c, 0.0)) / a
    return centre - half, centre + half
