"""Lifetimes of units in arms, checked: how long each was seen, and whether it was seen to leave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from causalrec._typing import BoolArray, FloatArray, IntArray
from causalrec._validation import check_length, check_not_empty, check_treatment, check_vector, list_some
from causalrec.exceptions import CausalRecError, OutcomeError


@dataclass(frozen=True, eq=False)
class Lifetimes:
    """Checked lifetimes.

    Attributes
    ----------
    durations : float array of shape (n,)
        Time until the event, or until a unit was last observed; >= 0.
    observed : bool array of shape (n,)
        Whether the event was seen.
    entry : float array of shape (n,)
        A unit is at risk in (entry, duration]; -inf from the start.
    weights : float array of shape (n,)
        How many units a row stands for.
    codes : int array of shape (n,)
        Arms: 0 is control.
    arms : tuple of str
    """

    durations: FloatArray
    observed: BoolArray
    entry: FloatArray
    weights: FloatArray
    codes: IntArray
    arms: tuple[str, ...]

    def arm(self, code: int) -> Lifetimes:
        """Those of one arm."""
        return self.where(self.codes == code)

    def where(self, mask: BoolArray) -> Lifetimes:
        """Those where the mask is true."""
        return Lifetimes(
            self.durations[mask], self.observed[mask], self.entry[mask], self.weights[mask], self.codes[mask], self.arms
        )

    @property
    def n(self) -> int:
        """Units."""
        return int(self.weights.sum())

    @property
    def n_events(self) -> int:
        """Events seen."""
        return int(self.weights[self.observed].sum())

    @property
    def follow_up(self) -> float:
        """The longest duration."""
        return float(self.durations.max())


def check_lifetimes(
    durations: Any,
    event_observed: Any,
    *,
    treatment: Any = None,
    control: object = None,
    entry: Any = None,
    weights: Any = None,
    need_arms: bool = True,
) -> Lifetimes:
    """Check lifetimes and code their arms, control first.

    Without ``need_arms`` there may be one arm or none, and no control.

    Raises
    ------
    OutcomeError
        For missing, infinite or negative durations, and events that are not 0/1.
    CausalRecError
        For columns of different lengths, entries at or after the exit, weights that are not counts, or no events.
    TreatmentError
        For a missing arm, one arm alone, or labels without a control.
    """
    times = check_vector(durations, name="durations")
    check_not_empty(len(times), where="durations")
    if (times < 0).any():
        raise OutcomeError(
            f"durations: {int((times < 0).sum())} of {len(times)} are negative (the least is {times.min():g}); "
            "expected times since the start, >= 0. Look for units that left before they came."
        )
    observed = _check_observed(event_observed, len(times))
    start = _check_entry(entry, times)
    counts = _check_counts(weights, len(times))
    codes, arms = _check_arms(treatment, control, len(times), need_arms)
    if not counts[observed].any():
        raise CausalRecError(
            f"no events: event_observed is 0 in all {len(times)} rows, so nobody was seen to leave. Check its coding "
            "(1 means that the event happened, not that it was censored), or wait longer."
        )
    return Lifetimes(times, observed, start, counts, codes, tuple(map(str, arms)))


def _check_observed(event_observed: Any, n_rows: int) -> BoolArray:
    values = check_vector(event_observed, name="event_observed", n_rows=n_rows)
    strange = np.unique(values[(values != 0) & (values != 1)])
    if len(strange):
        raise OutcomeError(
            f"event_observed holds {list_some(strange.tolist())}; expected 0/1 or booleans: 1 where the event was "
            "seen, 0 where the unit was still there when last observed."
        )
    return np.asarray(values == 1, dtype=bool)


def _check_entry(entry: Any, durations: FloatArray) -> FloatArray:
    if entry is None:
        return np.full(len(durations), -np.inf)
    start = check_vector(entry, name="entry", n_rows=len(durations))
    start = np.where(start <= 0, -np.inf, start)
    late = start >= durations
    if late.any():
        row = int(np.flatnonzero(late)[0])
        raise CausalRecError(
            f"entry: {int(late.sum())} of {len(durations)} units enter at or after their exit (row {row}: entry "
            f"{start[row]:g}, duration {durations[row]:g}); expected entry < duration, both since the same start."
        )
    return start


def _check_counts(weights: Any, n_rows: int) -> FloatArray:
    if weights is None:
        return np.ones(n_rows)
    counts = check_vector(weights, name="weights", n_rows=n_rows)
    odd = (counts < 0) | (counts != np.floor(counts))
    if odd.any():
        raise CausalRecError(
            f"weights: {int(odd.sum())} of {n_rows} are not counts (such as {counts[odd][0]:g}); expected how many "
            "alike units a row stands for, 0, 1, 2, … Other weights need robust standard errors: use cox_effect."
        )
    return counts


def _check_arms(treatment: Any, control: object, n_rows: int, need_arms: bool) -> tuple[IntArray, tuple[Any, ...]]:
    if treatment is None:
        if need_arms:
            raise CausalRecError("treatment is None; expected the arm of each row, to compare arms.")
        return np.zeros(n_rows, dtype=np.int64), ("all",)
    if control is None and not need_arms:
        column = pd.Series(treatment).reset_index(drop=True)
        check_length(len(column), n_rows, name="treatment")
        known = sorted(column.dropna().unique().tolist(), key=lambda arm: (type(arm).__name__, arm))
        if len(known) == 1 and column.notna().all():
            return np.zeros(n_rows, dtype=np.int64), (known[0],)
        control = known[0] if known else None  # a curve needs none; it only comes first
    return check_treatment(treatment, n_rows=n_rows, control=control)
