"""Restricted mean survival: how long units stay on average, of the time until a horizon."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import stats

from causalrec._validation import check_confidence_level
from causalrec.exceptions import CausalRecError
from causalrec.results.base import NAN, format_number
from causalrec.results.survival import RestrictedMeanResult
from causalrec.survival.effects import arm_effect
from causalrec.survival.lifetimes import check_lifetimes
from causalrec.survival.tables import RiskTable

_METHOD = "area under Kaplan-Meier, Greenwood"


def rmst_difference(
    durations: Any,
    event_observed: Any,
    *,
    treatment: Any,
    control: object = None,
    horizon: float | None = None,
    entry: Any = None,
    weights: Any = None,
    confidence_level: float = 0.95,
) -> RestrictedMeanResult:
    """Compare the mean time that units of each arm stay until a horizon, without assuming proportional hazards.

    "In the first 28 days, the new arm stays 0.8 days longer on average."

    Parameters
    ----------
    durations, event_observed : array-like of shape (n,)
        As of :func:`kaplan_meier`.
    treatment : array-like of shape (n,)
        0/1, or labels with ``control``.
    control : label, optional
    horizon : float, optional
        > 0, in the unit of the durations, chosen before looking at the data; by default the last time at which all
        curves are known.
    entry, weights : array-like of shape (n,), optional
        As of :func:`kaplan_meier`.
    confidence_level : float

    Returns
    -------
    RestrictedMeanResult
        A mean per arm, and an ``ABResult`` per arm against control: the difference, and the ratio less one. Errors are
        NaN where nobody left an arm before the horizon, or all at one time.

    Raises
    ------
    OutcomeError, TreatmentError, CausalRecError
        As of :func:`kaplan_meier`; for a horizon that is not positive, or beyond the follow-up of an arm.

    Notes
    -----
    The variance sums (area under the curve from t to the horizon)^2 d / (n (n - d)) over event times t: Klein and
    Moeschberger (2003), Survival Analysis, equation 4.5.2; Royston and Parmar (2013), BMC Medical Research Methodology
    13:152. The ratio's interval is Fieller's.

    Examples
    --------
    >>> print(rmst_difference([2, 5, 9, 9, 12, 3, 3, 7, 8, 10], [1, 1, 1, 0, 0, 1, 1, 1, 0, 1],
    ...                       treatment=["new"] * 5 + ["old"] * 5, control="old", horizon=8))
    in the first 8, new stays 6.2 on average, old 5.8: a difference of 0.40 [-2.52, 3.32], p = 0.789
    """
    level = check_confidence_level(confidence_level)
    lifetimes = check_lifetimes(
        durations, event_observed, treatment=treatment, control=control, entry=entry, weights=weights
    )
    arms = [lifetimes.arm(code) for code in range(len(lifetimes.arms))]
    tables = [RiskTable.of(arm) for arm in arms]
    until = _check_horizon(horizon, tables, lifetimes.arms)
    means, errors = (np.array(v) for v in zip(*[restricted_mean(table, until) for table in tables], strict=True))
    errors = np.where(errors > 0, errors, NAN)  # nobody left, or all at one time: there is no error to be had
    estimates = list(zip(lifetimes.arms, [arm.n for arm in arms], means.tolist(), errors.tolist(), strict=True))
    metric = f"mean time until {format_number(until)}"
    effects = tuple(
        arm_effect(metric, estimates[0], other, confidence_level=level, method=_METHOD) for other in estimates[1:]
    )
    z = stats.norm.isf((1 - level) / 2)
    return RestrictedMeanResult(
        horizon=until, n_obs=lifetimes.n, confidence_level=level, method=_METHOD, effects=effects,
        arm=np.array(lifetimes.arms), mean=means, std_error=errors, ci_low=means - z * errors,
        ci_high=means + z * errors,
    )  # fmt: skip


def restricted_mean(table: RiskTable, horizon: float) -> tuple[float, float]:
    """The area under a curve until a horizon, and its standard error."""
    inside = table.time < horizon
    time = np.append(table.time[inside], horizon)
    areas = table.survival[inside] * np.diff(time)
    left = np.cumsum(areas[::-1])[::-1]  # from each time to the horizon
    terms = table.greenwood_terms[inside]
    counts = np.isfinite(terms)  # where all have left, no area remains
    return float(areas.sum()), math.sqrt(float((left[counts] ** 2 * terms[counts]).sum()))


def _check_horizon(horizon: float | None, tables: list[RiskTable], arms: tuple[str, ...]) -> float:
    known = [table.follow_up for table in tables]
    longest = min(known)
    if horizon is None:
        return longest if math.isfinite(longest) else max(float(table.time[-1]) for table in tables)
    if not 0 < horizon < math.inf:
        raise CausalRecError(f"horizon is {horizon}; expected a finite time > 0, such as 28.")
    if horizon > longest:
        short = arms[int(np.argmin(known))]
        raise CausalRecError(
            f"horizon is {horizon:g}, but arm {short!r} was followed until {longest:g} only, where some are still "
            f"there. Choose a horizon of at most {longest:g}."
        )
    return float(horizon)
