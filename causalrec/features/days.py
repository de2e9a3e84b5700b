"""Days as the store counts them: UTC midnights, whole days since 1970, and their names."""

from __future__ import annotations

import datetime
import re

import numpy as np
import pandas as pd

from causalrec.exceptions import TimeError

DAY_US = 86_400_000_000
_ISO = re.compile(r"\d{4}-\d{2}-\d{2}([ T].*)?")  # other texts, as 01/05/2025, are not the same day to everybody
_EPOCH = datetime.date(1970, 1, 1).toordinal()


def parse_day(value: object, *, name: str) -> int:
    """The number, since 1970, of the UTC day that begins at a midnight: a text, a date or a timestamp.

    Raises
    ------
    TimeError
        For anything else, and for a time within a day.

    Examples
    --------
    >>> parse_day("2025-01-01", name="start")
    20089
    """
    expected = "expected a UTC midnight such as '2025-01-31'"
    if not isinstance(value, str | datetime.date | np.datetime64):
        raise TimeError(f"{name} is {value!r}; {expected}.")
    if isinstance(value, str) and not _ISO.fullmatch(value.strip()):
        raise TimeError(f"{name} is {value!r}; {expected}: year, month, day.")
    try:
        time = pd.Timestamp(value)
    except ValueError as error:
        raise TimeError(f"{name} is {value!r}; {expected}.") from error
    if pd.isna(time):
        raise TimeError(f"{name} is missing; {expected}.")
    time = time if time.tz is None else time.tz_convert("UTC")
    if time != time.normalize():
        raise TimeError(f"{name} is {value!r}, within a day; {expected}.")
    return time.toordinal() - _EPOCH


def day_range(start: object, end: object) -> range:
    """The days of ``[start, end)``, by number.

    Raises
    ------
    TimeError
        Where one of them is no midnight, or ``start`` is not before ``end``.

    Examples
    --------
    >>> [day_name(day) for day in day_range("2025-02-28", "2025-03-02")]
    ['2025-02-28', '2025-03-01']
    """
    days = range(parse_day(start, name="start"), parse_day(end, name="end"))
    if not days:
        raise TimeError(f"start is {start!r} and end is {end!r}; start must be before end, which is not included.")
    return days


def day_name(day: int) -> str:
    """A day's date as text, which is also the name of its partition."""
    return datetime.date.fromordinal(day + _EPOCH).isoformat()
