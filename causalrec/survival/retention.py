"""Retention by day: who is still there after a week, a month, …, with censoring handled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from causalrec._validation import check_confidence_level, check_vector
from causalrec.exceptions import CausalRecError
from causalrec.results.base import NAN, format_number
from causalrec.results.survival import RetentionResult, retention_metric
from causalrec.survival.effects import arm_effect
from causalrec.survival.lifetimes import check_lifetimes
from causalrec.survival.spans import Span, stay_through
from causalrec.survival.tables import RiskTable

_METHOD = "Kaplan-Meier at the day, Greenwood"


def retention(
    durations: Any,
    event_observed: Any,
    *,
    treatment: Any,
    control: object = None,
    days: Sequence[float] = (7, 30, 60),
    entry: Any = None,
    weights: Any = None,
    confidence_level: float = 0.95,
) -> RetentionResult:
    """Compare the shares of arms that are still there after some days.

    Users who came too late to have been seen for so long count as long as they were seen: none is dropped, none is
    taken for lost. One who left just at a day is not there after it.

    Parameters
    ----------
    durations, event_observed : array-like of shape (n,)
        As of :func:`kaplan_meier`, in days; from :func:`durations_of`, say.
    treatment : array-like of shape (n,)
        0/1, or labels with ``control``.
    control : label, optional
    days : sequence of float
        In the unit of the durations, > 0.
    entry, weights : array-like of shape (n,), optional
        As of :func:`kaplan_meier`.
    confidence_level : float

    Returns
    -------
    RetentionResult
        Log-log intervals per arm and day; the difference to control with Greenwood's standard errors. NaN with a
        ``note`` for a day beyond an arm's follow-up.

    Raises
    ------
    OutcomeError, TreatmentError, CausalRecError
        As of :func:`kaplan_meier`; for days that are not positive.

    Notes
    -----
    Klein, Logan, Harhoff and Andersen (2007), Statistics in Medicine 26, compare such tests at a fixed time.

    Examples
    --------
    >>> result = retention([2, 5, 9, 9, 12, 3, 3, 7, 8, 10], [1, 1, 1, 0, 0, 1, 1, 1, 0, 1], days=[7, 30],
    ...                    treatment=["new"] * 5 + ["old"] * 5, control="old")
    >>> print(result)
    after 7 days, 60.0% of new and 40.0% of old are still there: +20 [-41, +81] points, p = 0.519
    after 30 days: new against old is not known: day 30 is beyond the follow-up of new, 12 days
    """
    level = check_confidence_level(confidence_level)
    lifetimes = check_lifetimes(
        durations, event_observed, treatment=treatment, control=control, entry=entry, weights=weights
    )
    asked = _check_days(days)
    arms = [lifetimes.arm(code) for code in range(len(lifetimes.arms))]
    tables = [RiskTable.of(arm) for arm in arms]
    cells = [[_at(table, day, level) for day in asked] for table in tables]
    notes = [
        _note(table, day, cell, name)
        for table, name, row in zip(tables, lifetimes.arms, cells, strict=True)
        for day, cell in zip(asked, row, strict=True)
    ]
    effects = []
    for k, day in enumerate(asked):
        sides = [
            (name, arm.n, row[k].stays, row[k].std_error)
            for name, arm, row in zip(lifetimes.arms, arms, cells, strict=True)
        ]
        metric = retention_metric(day)
        effects += [
            arm_effect(metric, sides[0], side, confidence_level=level, method=_METHOD) for side in sides[1:]
        ]  # fmt: skip
    flat = [cell for row in cells for cell in row]
    return RetentionResult(
        n_obs=lifetimes.n, confidence_level=level, control=lifetimes.arms[0], method=_METHOD, effects=tuple(effects),
        arm=np.repeat(np.array(lifetimes.arms), len(asked)), day=np.tile(asked, len(arms)),
        retention=np.array([c.stays for c in flat]), std_error=np.array([c.std_error for c in flat]),
        ci_low=np.array([c.low for c in flat]), ci_high=np.array([c.high for c in flat]),
        at_risk=np.array([c.at_risk_end for c in flat]), note=np.array(notes),
    )  # fmt: skip


def _check_days(days: Sequence[float]) -> list[float]:
    asked = [float(day) for day in check_vector(np.atleast_1d(np.asarray(days)), name="days")]
    if not asked or min(asked) <= 0 or len(set(asked)) < len(asked):
        raise CausalRecError(f"days is {list(days)}; expected different days > 0, such as (7, 30, 60).")
    return asked


def _at(table: RiskTable, day: float, level: float) -> Span:
    if day > table.follow_up:
        return Span(NAN, NAN, NAN, NAN, NAN, 0.0, NAN)
    return stay_through(table, 0.0, day, level, closed=True)


def _note(table: RiskTable, day: float, cell: Span, arm: str) -> str:
    if day > table.follow_up:
        until = format_number(math.floor(table.follow_up))
        return f"day {format_number(day)} is beyond the follow-up of {arm}, {until} days"
    if cell.stays == 1:
        return f"nobody of {arm} left until day {format_number(day)}, so there is no standard error"
    return f"all of {arm} left until day {format_number(day)}, so there is no standard error" if not cell.stays else ""
