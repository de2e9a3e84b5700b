"""Features of the time itself: the hour, the weekday, the season, the holidays, on the clocks of a place."""

from __future__ import annotations

import datetime
import zoneinfo
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from causalrec._validation import list_some, nearest
from causalrec.engines import Dialect, Engine
from causalrec.exceptions import ConfigError, EngineError, TimeError
from causalrec.features.days import DAY_US
from causalrec.features.spec import PlainDeclaration, as_tuple, check_feature_names, check_name

BASIC_PARTS = ("hour", "weekday", "month", "season", "is_weekend")
HOLIDAY_PARTS = ("is_holiday", "days_to_holiday", "days_since_holiday")
PARTS = (*BASIC_PARTS, "day_of_month", "week", *HOLIDAY_PARTS)
HEMISPHERES = ("north", "south")
_SEASONS = ("winter", "spring", "summer", "autumn")
_EPOCH = datetime.date(1970, 1, 1)
_WEEKDAY_OF_EPOCH = 4  # 1970-01-01 was a Thursday


@dataclass(frozen=True)
class CalendarFeatures(PlainDeclaration):
    """Contextual features: what clock and calendar of a place show at the time that is asked about.

    ==================  ============================================================================================
    hour                0 to 23
    weekday             1 (Monday) to 7 (Sunday), as ISO 8601
    day_of_month        1 to 31
    week                1 to 53, as ISO 8601
    month               1 to 12
    season              winter (December to February), spring, summer, autumn; turned round for ``"south"``
    is_weekend          1 on Saturdays and Sundays, else 0
    is_holiday          1 on the dates given, else 0
    days_to_holiday     days until the next date given, 0 on it; null after the last
    days_since_holiday  days since the latest date given, 0 on it; null before the first
    ==================  ============================================================================================

    Parameters
    ----------
    name : str
    parts : tuple of str, optional
        Rows of the table above; hour, weekday, month, season and is_weekend by default, and is_holiday where there
        are holidays.
    holidays : tuple of dates, optional
        As ``"2025-12-25"`` or ``datetime.date``; days of the place.
    time_zone : str, optional
        An IANA name such as ``"Europe/Berlin"``, whose summer time is followed.
    hemisphere : {"north", "south"}, optional
    prefix : str, optional
        Stands before the name of each part.

    Raises
    ------
    ConfigError
        For a part or hemisphere that is unknown, holidays that no part looks at, or a part that has none to look at.
    TimeError
        For a time zone or a date that is none.

    Examples
    --------
    >>> CalendarFeatures("when", holidays=("2025-12-25",), time_zone="Europe/Berlin").feature_names
    ('hour', 'weekday', 'month', 'season', 'is_weekend', 'is_holiday')
    """

    kind: ClassVar[str] = "calendar"

    name: str
    parts: tuple[str, ...] = ()
    holidays: tuple[str, ...] = ()
    time_zone: str = "UTC"
    hemisphere: str = "north"
    prefix: str = ""

    def __post_init__(self) -> None:
        check_name(self.name)
        where = f"calendar features {self.name!r}"
        dates = {_iso_date(day, where=where) for day in as_tuple(self.holidays, where=f"{where}: holidays")}
        default = (*BASIC_PARTS, *(["is_holiday"] if dates else []))
        parts = as_tuple(self.parts, where=f"{where}: parts") or default
        object.__setattr__(self, "holidays", tuple(sorted(dates)))
        object.__setattr__(self, "parts", parts)
        for part in parts:
            _check_choice(part, PARTS, where=f"{where}: part")
        _check_choice(self.hemisphere, HEMISPHERES, where=f"{where}: hemisphere")
        _check_zone(self.time_zone, where=where)
        looking = [part for part in parts if part in HOLIDAY_PARTS]
        if looking and not dates:
            raise ConfigError(f"{where}: {looking[0]!r} needs holidays; give their dates, as holidays=('2025-12-25',).")
        if dates and not looking:
            raise ConfigError(
                f"{where}: no part looks at the holidays; add one of {list_some(HOLIDAY_PARTS)} or drop them."
            )
        check_feature_names(self.feature_names, where=where)

    @property
    def keys(self) -> tuple[str, ...]:
        """None: a time is the same for everybody."""
        return ()

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Column names in order."""
        return tuple(f"{self.prefix}{part}" for part in self.parts)


def check_calendar(features: CalendarFeatures, engine: Engine) -> None:
    """Raise :class:`TimeError` where the engine does not know the time zone."""
    try:
        engine.collect(f"SELECT {engine.dialect.wall_clock('CAST(0 AS BIGINT)', features.time_zone)} AS shown")
    except EngineError as error:
        raise TimeError(
            f"calendar features {features.name!r}: the engine does not know the time zone {features.time_zone!r}: "
            f"{error} Take an IANA name, such as 'Europe/Berlin'."
        ) from error


def calendar_relation(features: CalendarFeatures, asked: str, engine: Engine) -> str:
    """SQL with one row per row of the table ``asked`` (column ``__t``, microseconds UTC), and the features of it."""
    d = engine.dialect
    columns = ", ".join(
        f"{_part_sql(part, features, d)} AS {d.quote(label)}"
        for part, label in zip(features.parts, features.feature_names, strict=True)
    )
    shown = f"SELECT __t, {d.wall_clock('__t', features.time_zone)} AS __shown FROM {d.quote(asked)}"
    us = d.epoch_us("__shown")
    midnight = f"({us} - ({us} % {DAY_US} + {DAY_US}) % {DAY_US})"  # engines round the division of negatives apart
    dated = f"SELECT __t, __shown, CAST(ROUND({midnight} / {DAY_US}e0) AS BIGINT) AS __day FROM ({shown}) shown"
    return f"SELECT __t, {columns} FROM ({dated}) dated"


def _part_sql(part: str, features: CalendarFeatures, d: Dialect) -> str:
    holidays = [(datetime.date.fromisoformat(day) - _EPOCH).days for day in features.holidays]
    weekday = f"(__day % 7 + {7 + _WEEKDAY_OF_EPOCH - 1}) % 7 + 1"
    fields = {"hour": "HOUR", "day_of_month": "DAY", "week": "WEEK", "month": "MONTH"}
    if part in fields:
        return f"CAST(EXTRACT({fields[part]} FROM __shown) AS BIGINT)"
    if part == "weekday":
        return weekday
    if part == "is_weekend":
        return f"CAST(CASE WHEN {weekday} >= 6 THEN 1 ELSE 0 END AS BIGINT)"
    if part == "season":
        turned = 0 if features.hemisphere == "north" else 2
        quarters = " ".join(
            f"WHEN EXTRACT(MONTH FROM __shown) IN ({', '.join(str((3 * i + m - 1) % 12 + 1) for m in range(3))}) "
            f"THEN {d.literal(_SEASONS[(i + turned) % 4])}"
            for i in range(4)
        )
        return f"CASE {quarters} END"
    if part == "is_holiday":
        return f"CAST(CASE WHEN __day IN ({', '.join(map(str, holidays))}) THEN 1 ELSE 0 END AS BIGINT)"
    if part == "days_to_holiday":
        cases = " ".join(f"WHEN __day <= {day} THEN {day} - __day" for day in holidays)
    else:
        cases = " ".join(f"WHEN __day >= {day} THEN __day - {day}" for day in reversed(holidays))
    return f"CAST(CASE {cases} END AS BIGINT)"


def _iso_date(day: object, *, where: str) -> str:
    # A datetime is a date too, but which day it falls on depends on a zone.
    if isinstance(day, datetime.date) and not isinstance(day, datetime.datetime):
        return day.isoformat()
    try:
        return datetime.date.fromisoformat(str(day)).isoformat()
    except ValueError as error:
        raise TimeError(f"{where}: holiday {day!r} is no date; expected one such as '2025-12-25'.") from error


def _check_choice(found: object, known: Sequence[str], *, where: str) -> None:
    if found not in known:
        raise ConfigError(
            f"{where} {found!r} is unknown; expected one of {list_some(known, 20)}.{nearest(str(found), known)}"
        )


def _check_zone(name: str, *, where: str) -> None:
    try:
        zoneinfo.ZoneInfo(name)
    except (OSError, ValueError, TypeError, zoneinfo.ZoneInfoNotFoundError) as error:
        raise TimeError(
            f"{where}: there is no time zone {name!r}; expected an IANA name, such as 'Europe/Berlin'."
            f"{nearest(str(name), zoneinfo.available_timezones())}"
        ) from error
