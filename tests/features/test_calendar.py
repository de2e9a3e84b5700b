"""Clock and calendar of a place, against Python's own, on every engine."""

from __future__ import annotations

import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from causalrec.engines import Engine, LocalEngine
from causalrec.exceptions import ConfigError, TimeError
from causalrec.features.calendar import PARTS, CalendarFeatures, calendar_relation, check_calendar

HOLIDAYS = ("2025-12-25", "2025-01-01", "2025-12-26")
WHEN = CalendarFeatures("when", PARTS, HOLIDAYS)
UTC = datetime.UTC


def expected(time: datetime.datetime, features: CalendarFeatures) -> dict[str, Any]:
    """What Python's calendar says."""
    shown = time.astimezone(ZoneInfo(features.time_zone))
    day = shown.date()
    ahead = [(datetime.date.fromisoformat(h) - day).days for h in features.holidays]
    seasons = ["winter", "spring", "summer", "autumn"]
    turned = {"north": 0, "south": 2}[features.hemisphere]
    return {
        "hour": shown.hour,
        "weekday": day.isoweekday(),
        "day_of_month": day.day,
        "week": day.isocalendar().week,
        "month": day.month,
        "season": seasons[(day.month % 12 // 3 + turned) % 4],
        "is_weekend": int(day.isoweekday() > 5),
        "is_holiday": int(0 in ahead),
        "days_to_holiday": min((n for n in ahead if n >= 0), default=None),
        "days_since_holiday": min((-n for n in ahead if n <= 0), default=None),
    }


def compute(engine: Engine, features: CalendarFeatures, times: list[datetime.datetime]) -> pd.DataFrame:
    asked = pd.DataFrame({"__t": [round(t.timestamp() * 1e6) for t in times]})
    engine.register("asked", asked)
    check_calendar(features, engine)
    found = engine.collect(calendar_relation(features, "asked", engine))
    assert list(found.columns) == ["__t", *features.feature_names]
    return found.set_index("__t").loc[asked["__t"]].reset_index(drop=True)


def compare(found: pd.DataFrame, times: list[datetime.datetime], features: CalendarFeatures) -> None:
    for i, time in enumerate(times):
        for part, want in expected(time, features).items():
            got = found[part].iloc[i]
            assert pd.isna(got) if want is None else got == want, (time, part, got, want)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Pacific/Auckland"])
def test_every_part_is_what_python_says(engine: Engine, zone: str) -> None:
    features = CalendarFeatures("when", PARTS, HOLIDAYS, time_zone=zone)
    step = datetime.timedelta(hours=67, minutes=13, microseconds=1)
    times = [datetime.datetime(2024, 12, 1, tzinfo=UTC) + i * step for i in range(160)]
    compare(compute(engine, features, times), times, features)


@pytest.mark.parametrize("day", ["2025-03-30", "2025-10-26"])
def test_the_nights_when_the_clocks_change(engine: Engine, day: str) -> None:
    features = CalendarFeatures("when", PARTS, HOLIDAYS, time_zone="Europe/Berlin")
    midnight = datetime.datetime.fromisoformat(day).replace(tzinfo=UTC) - datetime.timedelta(hours=3)
    times = [midnight + datetime.timedelta(minutes=20 * i) for i in range(60)]
    found = compute(engine, features, times)
    compare(found, times, features)
    hours = found["hour"].value_counts()
    assert hours.get(2, 0) == {"2025-03-30": 0, "2025-10-26": 6}[day]  # the hour that is skipped, or comes twice


def test_times_before_1970_and_far_ahead(engine: Engine) -> None:
    times = [
        datetime.datetime(y, m, d, 23, 59, 59, 999_999, tzinfo=UTC)
        for y, m, d in ((1969, 12, 31), (1969, 12, 28), (1900, 2, 28), (2000, 2, 29), (2199, 12, 31))
    ]
    compare(compute(engine, WHEN, times), times, WHEN)


def test_the_southern_year_is_turned_round(engine: Engine) -> None:
    features = CalendarFeatures("when", ("season",), hemisphere="south", prefix="the_")
    times = [datetime.datetime(2025, month, 15, tzinfo=UTC) for month in range(1, 13)]
    found = compute(engine, features, times)
    assert list(found["the_season"]) == [
        *["summer"] * 2, *["autumn"] * 3, *["winter"] * 3, *["spring"] * 3, "summer",
    ]  # fmt: skip


def test_numbers_are_whole_numbers(engine: Engine) -> None:
    features = CalendarFeatures("when", tuple(p for p in PARTS if "days" not in p), HOLIDAYS)
    found = compute(engine, features, [datetime.datetime(2025, 12, 25, tzinfo=UTC)])
    assert {str(t) for c, t in found.dtypes.items() if c != "season"} == {"int64"}


def test_holidays_are_days_of_the_place(engine: Engine) -> None:
    features = CalendarFeatures("when", ("is_holiday",), (datetime.date(2025, 12, 25),), time_zone="Pacific/Auckland")
    times = [datetime.datetime(2025, 12, 24, 10, 59, tzinfo=UTC), datetime.datetime(2025, 12, 24, 11, tzinfo=UTC)]
    assert list(compute(engine, features, times)["is_holiday"]) == [0, 1]


def test_parts_by_default() -> None:
    assert CalendarFeatures("when").feature_names == ("hour", "weekday", "month", "season", "is_weekend")
    assert CalendarFeatures("when", holidays=("2025-01-01",)).feature_names[-1] == "is_holiday"


def test_plain_values_and_back() -> None:
    values = WHEN.to_dict()
    assert values["kind"] == "calendar"
    assert CalendarFeatures.from_dict(values) == WHEN
    assert hash(CalendarFeatures.from_dict(values)) == hash(WHEN)
    assert WHEN.keys == ()
    shuffled = CalendarFeatures("when", PARTS, HOLIDAYS[::-1])
    assert shuffled.spec_hash == WHEN.spec_hash
    assert CalendarFeatures("when", PARTS, HOLIDAYS, "Europe/Berlin").spec_hash != WHEN.spec_hash


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"parts": ("hours",)}, ConfigError, "part 'hours' is unknown.*Did you mean 'hour'"),
        ({"parts": "hour"}, ConfigError, "parts is 'hour'; expected a tuple"),
        ({"parts": ("hour", "hour")}, ConfigError, "'hour' appears twice"),
        ({"parts": ("is_holiday",)}, ConfigError, "'is_holiday' needs holidays"),
        ({"parts": ("hour",), "holidays": HOLIDAYS}, ConfigError, "no part looks at the holidays"),
        ({"holidays": ("2025-02-29",)}, TimeError, "holiday '2025-02-29' is no date"),
        ({"holidays": ("25.12.2025",)}, TimeError, "expected one such as '2025-12-25'"),
        ({"holidays": (pd.Timestamp("2025-12-25 10:00"),)}, TimeError, "is no date"),
        ({"time_zone": "Europe/Berln"}, TimeError, "Did you mean 'Europe/Berlin'"),
        ({"time_zone": "../etc"}, TimeError, "no time zone"),
        ({"time_zone": None}, TimeError, "no time zone"),
        ({"hemisphere": "nort"}, ConfigError, "Did you mean 'north'"),
        ({"name": "a/b"}, ConfigError, "it names a directory"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        CalendarFeatures(**{"name": "when", **changes})


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(ConfigError, match="colour"):
        CalendarFeatures.from_dict({"name": "when", "colour": 1})


def test_a_zone_that_only_python_knows() -> None:
    features = CalendarFeatures("when")
    object.__setattr__(features, "time_zone", "Mars/Olympus")
    with LocalEngine() as engine, pytest.raises(TimeError, match=r"the engine does not know.*Mars/Olympus"):
        check_calendar(features, engine)
