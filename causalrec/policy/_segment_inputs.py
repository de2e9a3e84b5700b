"""Checked inputs of segments, and the ranges of groups of predicted uplift."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from causalrec._typing import FloatArray, IntArray
from causalrec._validation import check_vector, list_some
from causalrec.exceptions import CausalRecError, TreatmentError
from causalrec.nuisance import ArmScores
from causalrec.results import NAN, UpliftIntervalsResult

_LEAST_ROWS = 10  # of an arm in a group, below which its normal interval is not to be trusted


def interval_ends(intervals: Any, arm: Any) -> tuple[FloatArray, FloatArray]:
    """The ends of each unit's interval, shape (n,) each."""
    if isinstance(intervals, UpliftIntervalsResult):
        low, high = intervals.ci_low, intervals.ci_high
        if low.ndim == 2:
            if str(arm) not in intervals.arms or arm is None:
                raise TreatmentError(f"arm is {arm!r}; say which of {', '.join(intervals.arms)}.")
            low, high = (ends[:, intervals.arms.index(str(arm))] for ends in (low, high))
    else:
        try:
            low, high = intervals
        except (TypeError, ValueError) as error:
            raise CausalRecError(
                "intervals has to be an UpliftIntervalsResult, or a pair (low, high) of arrays with a value per unit."
            ) from error
    start = check_vector(low, name="the low ends")
    stop = check_vector(high, name="the high ends", n_rows=len(start))
    if (start > stop).any():
        raise CausalRecError(f"{int((start > stop).sum())} intervals end below their start; pass (low, high).")
    return start, stop


def check_threshold(threshold: float) -> float:
    """Return a threshold of at least 0."""
    return _amount(threshold, "threshold", "a number of at least 0: what treatment costs")


def check_margin(margin: float | None) -> float:
    """Return a margin of at least 0; infinite for None."""
    if margin is None:
        return float("inf")
    return _amount(margin, "margin", "an effect of at least 0 that counts as none, or None")


def _amount(value: Any, name: str, expected: str) -> float:
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or not 0 <= value < np.inf:
        raise CausalRecError(f"{name} is {value!r}; expected {expected}.")
    return float(value)


def effect_column(uplift: Any, scores: ArmScores, code: int) -> FloatArray:
    """Predicted effects of one arm, shape (n,); a frame's or a mapping's columns go by the arms' names.

    Raises
    ------
    TreatmentError
        For several columns of which none has the arm's name.
    CausalRecError
        For another shape, or missing values.
    """
    arm, n = scores.labels[code], len(scores.y)
    if not isinstance(uplift, pd.DataFrame | Mapping) and hasattr(uplift, "to_pandas") and hasattr(uplift, "columns"):
        uplift = uplift.to_pandas()  # Polars
    if isinstance(uplift, pd.DataFrame | Mapping):
        names = list(uplift)
        chosen = [name for name in names if name == arm] or [name for name in names if str(name) == str(arm)]
        if not chosen and len(names) != 1:
            raise TreatmentError(
                f"uplift has the columns {list_some(names)}, none of which is the arm {arm!r}. Name the columns by the "
                "arms, or pass an array."
            )
        return check_vector(uplift[(chosen or names)[0]], name="uplift", n_rows=n)
    table = np.asarray(uplift)
    if table.ndim == 2 and table.shape[1] > 1:
        if table.shape[1] != len(scores.labels) - 1:
            raise CausalRecError(
                f"uplift has shape {table.shape}; expected a column for each of the {len(scores.labels) - 1} arms but "
                "control, or one of the arm alone."
            )
        table = table[:, code - 1]
    return check_vector(table, name="uplift", n_rows=n)


def check_baseline(baseline: Any, scores: ArmScores) -> FloatArray | None:
    """The expected outcome without treatment: as given, or of the nuisances; None without either."""
    if baseline is not None:
        return check_vector(baseline, name="baseline", n_rows=len(scores.y))
    return None if scores.outcomes is None else scores.outcomes[:, 0]


def check_cut(baseline_cut: float | None, baseline: FloatArray | None, scores: ArmScores) -> float:
    """The cut of the baseline, by default the mean outcome of control; NaN without a baseline."""
    if baseline is None:
        if baseline_cut is not None:
            raise CausalRecError(f"baseline_cut is {baseline_cut} but there is no baseline to cut; pass baseline.")
        return NAN
    if baseline_cut is None:
        return float(scores.average(np.eye(len(scores.labels))[np.zeros(len(scores.y), dtype=np.int64)])[0])
    number = isinstance(baseline_cut, int | float | np.integer | np.floating) and not isinstance(baseline_cut, bool)
    if not number or not np.isfinite(baseline_cut):
        raise CausalRecError(f"baseline_cut is {baseline_cut!r}; expected a number, or None for the mean of control.")
    return float(baseline_cut)


def group_edges(uplift: FloatArray, group: IntArray, n_groups: int) -> FloatArray:
    """Ends of the groups' ranges, highest first: between two groups halfway, so that rounding moves nobody."""
    low, high = np.full(n_groups, np.inf), np.full(n_groups, -np.inf)
    np.minimum.at(low, group, uplift)
    np.maximum.at(high, group, uplift)
    between = high[1:] + (low[:-1] - high[1:]) / 2
    between = np.where(between > high[1:], between, low[:-1])
    return np.concatenate([[np.inf], between, [-np.inf]])


def check_group_rows(scores: ArmScores, group: IntArray, n_groups: int, code: int) -> None:
    """Raise where an arm has too few rows in a group."""
    for each in (0, code):
        rows = np.bincount(group[(scores.codes == each) & (scores.weight > 0)], minlength=n_groups)
        if rows.min() < _LEAST_ROWS:
            raise TreatmentError(
                f"group {int(rows.argmin()) + 1} of {n_groups} holds {int(rows.min())} rows of arm "
                f"{scores.labels[each]!r}; an interval needs {_LEAST_ROWS} or more. Take fewer groups (n_groups), or "
                "more rows."
            )


def share_above(
    baseline: FloatArray | None, cut: float, group: IntArray, n_groups: int, weight: FloatArray
) -> FloatArray | None:
    """Share of each group's weight at or above the cut."""
    return None if baseline is None else group_mean((baseline >= cut).astype(np.float64), group, n_groups, weight)


def group_mean(values: FloatArray, group: IntArray, n_groups: int, weight: FloatArray) -> FloatArray:
    """Weighted means by group, shape (g,)."""
    total = np.bincount(group, weights=weight, minlength=n_groups)
    return np.asarray(np.bincount(group, weights=weight * values, minlength=n_groups) / total)
