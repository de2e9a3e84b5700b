"""Kaplan and Meier's curve per arm, with Greenwood's standard errors on the log-log scale."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalrec._typing import FloatArray
from causalrec._validation import check_confidence_level, check_vector
from causalrec.exceptions import OutcomeError
from causalrec.results.base import NAN
from causalrec.results.survival import SurvivalCurveResult, SurvivalResult
from causalrec.survival.lifetimes import Lifetimes, check_lifetimes
from causalrec.survival.tables import RiskTable, log_log_interval

_METHOD = "Kaplan-Meier, log-log Greenwood"


def kaplan_meier(
    durations: Any,
    event_observed: Any,
    *,
    treatment: Any = None,
    control: object = None,
    entry: Any = None,
    weights: Any = None,
    confidence_level: float = 0.95,
    times: Any = None,
) -> SurvivalResult:
    """Estimate the share of each arm that is still there at each time, with those still there at the end counted right.

    Censoring must not tell who would leave soon: an experiment's end does not; closing unprofitable accounts does.

    Parameters
    ----------
    durations : array-like of shape (n,)
        Time from the start to the event, or to when the unit was last observed; in any unit, >= 0.
    event_observed : array-like of shape (n,)
        1 if the event was seen, 0 if the unit was still there.
    treatment : array-like of shape (n,), optional
        Arms, of any labels; one curve of all units without.
    control : label, optional
        The arm that comes first.
    entry : array-like of shape (n,), optional
        When each came under observation, if later than at 0: it is at risk after that.
    weights : array-like of shape (n,), optional
        Counts: how many alike units a row stands for.
    confidence_level : float
        Of pointwise intervals, and of the median's (Brookmeyer and Crowley 1982).
    times : array-like, optional
        Where ``to_frame`` shows the curves.

    Returns
    -------
    SurvivalResult
        With a :class:`SurvivalCurveResult` per arm. The median is the first time at which no more than half are left.

    Raises
    ------
    OutcomeError
        For missing or negative durations, or events that are not 0/1.
    CausalRecError
        For lengths that differ, entries at or after the exit, weights that are not counts, or no events.
    TreatmentError
        For missing arms.

    Notes
    -----
    Kaplan and Meier (1958), Journal of the American Statistical Association 53; Kalbfleisch and Prentice (2002),
    section 1.4. Equal to R's ``survfit(conf.type = "log-log")``.

    Examples
    --------
    >>> result = kaplan_meier([2, 5, 9, 9, 12, 3, 3, 7, 8, 10], [1, 1, 1, 0, 0, 1, 1, 1, 0, 1],
    ...                       treatment=["new"] * 5 + ["old"] * 5, control="old", times=[7])
    >>> result["old"].median, result["new"].median
    (7.0, 9.0)
    >>> result.to_frame()[["arm", "time", "survival", "at_risk"]].round(3)
       arm  time  survival  at_risk
    0  old   7.0       0.4      3.0
    1  new   7.0       0.6      3.0
    """
    level = check_confidence_level(confidence_level)
    lifetimes = check_lifetimes(
        durations, event_observed, treatment=treatment, control=control, entry=entry, weights=weights, need_arms=False
    )
    shown = np.zeros(0) if times is None else np.sort(np.atleast_1d(check_vector(np.atleast_1d(times), name="times")))
    if (shown < 0).any():
        raise OutcomeError(f"times holds {shown[0]:g}; expected times since the start, >= 0.")
    curves = tuple(_curve(lifetimes.arm(code), arm, level, shown) for code, arm in enumerate(lifetimes.arms))
    return SurvivalResult(lifetimes.n, lifetimes.n_events, level, _METHOD, curves)


def _curve(lifetimes: Lifetimes, arm: str, level: float, times: FloatArray) -> SurvivalCurveResult:
    table = RiskTable.of(lifetimes)
    survival = table.survival
    log_variance = np.cumsum(table.greenwood_terms)
    low, high = log_log_interval(survival, log_variance, level)
    error = np.full(len(survival), NAN)
    np.multiply(survival, np.sqrt(log_variance), out=error, where=survival > 0)
    median = _first_at_most_half(table.time, survival, NAN)
    return SurvivalCurveResult(
        arm=arm, n_obs=lifetimes.n, n_events=lifetimes.n_events, follow_up=lifetimes.follow_up, median=median,
        median_low=_first_at_most_half(table.time, low, NAN), median_high=_first_at_most_half(table.time, high, np.inf),
        confidence_level=level, method=_METHOD, time=table.time, survival=survival, std_error=error, ci_low=low,
        ci_high=high, at_risk=table.at_risk, events=table.events, times=times,
    )  # fmt: skip


def _first_at_most_half(time: FloatArray, share: FloatArray, otherwise: float) -> float:
    reached = np.flatnonzero(share <= 0.5 + 1e-12)
    return float(time[reached[0]]) if len(reached) else otherwise
