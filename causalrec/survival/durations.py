"""From the times that a log has to durations: when users came, were last seen, and when the log ends."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from causalrec._typing import FloatArray
from causalrec._validation import check_length, check_not_empty, check_vector
from causalrec.exceptions import CausalRecError, TimeError

_SECONDS_A_DAY = 86_400.0


def durations_of(first: Any, last: Any, *, as_of: Any, inactive_for: float = 0.0) -> pd.DataFrame:
    """Turn first and last activity into days until churn, and whether it was seen.

    A user churned if more than ``inactive_for`` days passed without activity until ``as_of``; the churn is dated at the
    last activity. Whoever was active in the last ``inactive_for`` days before ``as_of`` cannot be judged yet: such a
    user is censored at that moment, when they were still there. The usual shortcuts are biased: to censor those not yet
    judged at their last activity, or at ``as_of``, understates churn, since many have just left; to take all for
    churned at their last activity overstates it.

    Whether silence is churn is your definition, not a fact: too short an ``inactive_for`` calls those on holiday lost,
    and differs between arms if one changes how often people come. Look at the usual gaps, and at whether the answer
    stands with twice the rule. A cancellation that is recorded needs no rule: pass it as ``last`` only of those who
    cancelled and build ``event_observed`` from it.

    Parameters
    ----------
    first, last : array-like of shape (n,)
        Start (exposure, sign-up) and last activity: times, or numbers of days. Times without a zone are UTC. A missing
        ``last`` was never seen again after ``first``.
    as_of : time or float
        When observation ended, for all: the end of the log, not the last activity of each.
    inactive_for : float
        Days, >= 0. With 0 whoever was last seen before ``as_of`` has churned: right only where presence is continuous
        (a subscription).

    Returns
    -------
    DataFrame
        ``durations`` (days) and ``event_observed`` (bool), a row per user; the index is that of ``first``. Users who
        came within ``inactive_for`` days of ``as_of`` have 0 and False: they say nothing.

    Raises
    ------
    TimeError
        For missing starts, activity before the start or after ``as_of``, and numbers mixed with times.
    CausalRecError
        For lengths that differ, or ``inactive_for`` that is negative.

    Examples
    --------
    >>> print(durations_of(["2025-03-01", "2025-03-01", "2025-03-29"], ["2025-03-04 12:00", "2025-03-29", None],
    ...                    as_of="2025-03-31", inactive_for=7))
       durations  event_observed
    0        3.5            True
    1       23.0           False
    2        0.0           False
    """
    if not 0 <= inactive_for < math.inf:
        raise CausalRecError(f"inactive_for is {inactive_for}; expected days >= 0, such as 14.")
    index = first.index if isinstance(first, pd.Series) else None
    end_days, start = _days([as_of], "as_of"), _days(first, "first")
    check_not_empty(len(start[0]), where="first")
    seen = _days(last, "last", missing_like=start)
    check_length(len(seen[0]), len(start[0]), name="last")
    kinds = {start[1], seen[1], end_days[1]}
    if len(kinds) > 1:
        raise TimeError("first, last and as_of mix times with numbers; pass times for all, or days for all.")
    begin, end = start[0], float(end_days[0][0])
    if not np.isfinite(begin).all() or not math.isfinite(end):
        raise TimeError(
            f"first: {int((~np.isfinite(begin)).sum())} of {len(begin)} times are missing"
            f"{'' if math.isfinite(end) else ', and as_of is'}; a duration needs a start. Drop those rows, and say so."
        )
    final = np.where(np.isnan(seen[0]), begin, seen[0])
    _check_order(begin, final, end)
    cutoff = end - float(inactive_for)
    frame = {
        "durations": np.maximum(np.minimum(final, cutoff) - begin, 0.0),
        "event_observed": final < cutoff,
    }
    return pd.DataFrame(frame, index=index)


def _check_order(begin: FloatArray, final: FloatArray, end: float) -> None:
    for wrong, what, remedy in (
        (begin > end, "first lie after as_of", "Pass the end of observation of all, or drop those rows"),
        (final < begin, "last lie before first", "Look for swapped columns or mixed time zones"),
        (final > end, "last lie after as_of", "Pass the end of observation of all, or cut the log there"),
    ):
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise TimeError(f"{int(wrong.sum())} of {len(begin)} times of {what} (row {row} is the first). {remedy}.")


def _days(values: Any, name: str, missing_like: tuple[FloatArray, bool] | None = None) -> tuple[FloatArray, bool]:
    """Days since any origin, and whether they were times."""
    column = pd.Series(values).reset_index(drop=True)
    if missing_like is not None and column.isna().all():
        return np.full(len(column), np.nan), missing_like[1]
    if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
        numbers = column.to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
        known = ~np.isnan(numbers)
        numbers[known] = check_vector(numbers[known], name=name)
        return numbers, False
    layout = None if pd.api.types.is_datetime64_any_dtype(column) else "ISO8601"
    layout = None if pd.api.types.is_datetime64_any_dtype(column) else "ISO8601"
    try:
        times = pd.to_datetime(column, utc=True, format=layout)
    except (ValueError, TypeError) as error:
        raise TimeError(f"{name} cannot be read as times ({error}); expected such as '2025-03-31 12:00'.") from error
    passed = (times - pd.Timestamp("2000-01-01", tz="UTC")).dt.total_seconds()
    return np.asarray(passed / _SECONDS_A_DAY, dtype=np.float64), True
