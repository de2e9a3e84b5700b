"""Churn by period: of those still there at its start, the share that leaves in it."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import stats

from causalrec._typing import FloatArray
from causalrec._validation import check_confidence_level
from causalrec.exceptions import CausalRecError
from causalrec.results.base import NAN, format_number
from causalrec.results.survival import ChurnResult
from causalrec.survival.lifetimes import check_lifetimes
from causalrec.survival.spans import Span, stay_through
from causalrec.survival.tables import RiskTable

_METHOD = "discrete hazard by Kaplan-Meier within each period"
_MOST = 520  # periods: ten years of weeks


def churn_hazards(
    durations: Any,
    event_observed: Any,
    *,
    treatment: Any,
    control: object = None,
    period: float = 7,
    n_periods: int | None = None,
    entry: Any = None,
    weights: Any = None,
    confidence_level: float = 0.95,
) -> ChurnResult:
    """Estimate who leaves when: the life table of each arm by week, month or renewal, and the ratio to control.

    Retention adds up all that happened; the hazard shows when. An arm may lose more in the first week and fewer later.

    Parameters
    ----------
    durations, event_observed : array-like of shape (n,)
        As of :func:`kaplan_meier`.
    treatment : array-like of shape (n,)
        0/1, or labels with ``control``.
    control : label, optional
    period : float
        Length, in the unit of the durations. Periods are [0, period), [period, 2 period), …: who leaves after just 7
        days leaves in the second week.
    n_periods : int, optional
        By default as many whole ones as all arms were followed for.
    entry, weights : array-like of shape (n,), optional
        As of :func:`kaplan_meier`.
    confidence_level : float

    Returns
    -------
    ChurnResult
        NaN in periods that an arm was not followed to the end of.

    Raises
    ------
    OutcomeError, TreatmentError, CausalRecError
        As of :func:`kaplan_meier`; for a period that is not positive, or longer than the follow-up.

    Notes
    -----
    A period's hazard is 1 - S(end) / S(start), which uses the exact times of censoring, where the actuarial life table
    has each censored unit at risk for half the period. The interval is Greenwood's on the log-log scale, the ratio's
    on the log scale. Kalbfleisch and Prentice (2002), section 1.4.

    Examples
    --------
    >>> print(churn_hazards([2, 5, 9, 9, 12, 3, 3, 7, 8, 10], [1, 1, 1, 0, 0, 1, 1, 1, 0, 1],
    ...                     treatment=["new"] * 5 + ["old"] * 5, control="old", period=5))
    leave per 5, of those still there at its start (discrete hazard by Kaplan-Meier within each period)
      old: 40.0%, 33.3%
      new: 20.0%, 50.0%
    """
    level = check_confidence_level(confidence_level)
    lifetimes = check_lifetimes(
        durations, event_observed, treatment=treatment, control=control, entry=entry, weights=weights
    )
    tables = [RiskTable.of(lifetimes.arm(code)) for code in range(len(lifetimes.arms))]
    count = _check_periods(period, n_periods, tables)
    edges = period * np.arange(count + 1, dtype=np.float64)
    cells = [[_within(table, a, b, level) for a, b in pairwise(edges)] for table in tables]
    flat = [cell for row in cells for cell in row]
    ratios = np.array([_ratio(cell, base, level) for row in cells for cell, base in zip(row, cells[0], strict=True)])
    ratios[:count] = NAN
    return ChurnResult(
        period=float(period), n_periods=count, n_obs=lifetimes.n, confidence_level=level, control=lifetimes.arms[0],
        method=_METHOD, arm=np.repeat(np.array(lifetimes.arms), count), start=np.tile(edges[:-1], len(tables)),
        end=np.tile(edges[1:], len(tables)), at_risk=_column(flat, "at_risk_start"), events=_column(flat, "events"),
        hazard=1 - _column(flat, "stays"), ci_low=1 - _column(flat, "high"), ci_high=1 - _column(flat, "low"),
        ratio=ratios[:, 0], ratio_low=ratios[:, 1], ratio_high=ratios[:, 2], pvalue=ratios[:, 3],
    )  # fmt: skip


def _column(cells: list[Span], name: str) -> FloatArray:
    return np.array([getattr(cell, name) for cell in cells], dtype=np.float64)


def _check_periods(period: float, n_periods: int | None, tables: list[RiskTable]) -> int:
    if not 0 < period < math.inf:
        raise CausalRecError(f"period is {period}; expected a finite length > 0, such as 7 (days).")
    if n_periods is not None:
        if not 1 <= n_periods <= _MOST:
            raise CausalRecError(f"n_periods is {n_periods}; expected 1 to {_MOST}.")
        return int(n_periods)
    shortest = min(float(table.time[-1]) for table in tables)
    count = math.floor(shortest / period + 1e-9)
    if not 1 <= count <= _MOST:
        raise CausalRecError(
            f"period is {period:g}, and all arms were followed for {format_number(shortest)}: {count} whole periods, "
            f"expected 1 to {_MOST}. Choose a {'shorter' if count < 1 else 'longer'} period."
        )
    return count


def _within(table: RiskTable, start: float, end: float, level: float) -> Span:
    last = float(table.time[-1])
    gone = table.survival[-1] == 0
    if (end > last and not gone) or (gone and start > last):
        return Span(NAN, NAN, NAN, NAN, NAN, NAN, NAN)
    return stay_through(table, start, end, level, closed=False)


def _ratio(cell: Span, base: Span, level: float) -> tuple[float, float, float, float]:
    """The ratio of two hazards with its interval, and the p-value of their difference."""
    hazard, other = 1 - cell.stays, 1 - base.stays
    if not (0 < hazard < 1 and 0 < other < 1):
        return (NAN,) * 4
    log_ratio = math.log(hazard / other)
    error = math.hypot(cell.std_error / hazard, base.std_error / other)
    z = float(stats.norm.isf((1 - level) / 2))
    low, high = (math.exp(log_ratio + sign * z * error) for sign in (-1, 1))
    return math.exp(log_ratio), low, high, float(2 * stats.norm.sf(abs(log_ratio) / error))
