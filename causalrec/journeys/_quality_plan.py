"""What the checks of a log's quality look at, as the parameters of their SQL files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from causalrec.exceptions import ColumnError, TimeError
from causalrec.journeys._sql import Log, open_log
from causalrec.journeys._tables import ROW, Duration, Table, Tables, parse_duration

OUT_OF_ORDER = "out of order"


@dataclass(frozen=True)
class Check:
    """Something that an event can be marked with: what it is called, what handles it, and when it is so, in SQL."""

    name: str
    option: str
    condition: str


@dataclass(frozen=True)
class Asked:
    """Everything that the queries need to know."""

    log: Log
    checks: tuple[Check, ...]
    variant: str | None
    rules: str

    def bits(self, option: str) -> int:
        """The bits of the marks that an option handles."""
        return sum(1 << k for k, check in enumerate(self.checks) if check.option == option)

    def values(self) -> dict[str, str]:
        """The parameters of the SQL files."""
        d, variant = self.log.events.dialect, self.variant
        marks = [f"CASE WHEN {c.condition} THEN {1 << k} ELSE 0 END" for k, c in enumerate(self.checks)]
        columns = [self.log.events.column(c, "e") for c in self.log.events.kinds if c != ROW]
        return {
            **self.log.basics(), "mark": " + ".join(marks), "row_hash": d.row_hash(columns),
            "variant": f"CAST({'NULL' if variant is None else self.log.key(variant)} AS STRING)",
        }  # fmt: skip


def asked_of(
    tables: Tables,
    *,
    user: str = "user_id",
    event_time: str = "event_time",
    item: str | None = None,
    event_type: str | None = None,
    variant: str | None = None,
    arrival: str | None = None,
    registered: str | None = None,
    order_by: str | None = None,
    now: object = None,
    start: object = "1971-01-01",
    late_after: Duration = "1d",
) -> Asked:
    """The checks that the named columns allow; see :func:`causalrec.journeys.check_quality`."""
    columns = [item, event_type, variant, order_by]
    log = open_log(tables, user=user, event_time=event_time, columns=columns)
    events = tables["events"]
    events.check(times=[arrival, registered])
    at = log.at
    latest, earliest = _instant(now, name="now"), _instant(start, name="start")
    if earliest > latest:
        raise TimeError(f"start is {start!r}, which is after now, {now!r}.")
    late = parse_duration(late_after, name="late_after")
    keys = [user, event_time, *(c for c in (item, event_type, variant) if c is not None)]
    checks = [Check(f"no {key}", "nulls", f"{log.key(key)} IS NULL") for key in dict.fromkeys(keys)]
    checks += [
        Check("in the future", "skew", f"{at} > {latest}"),
        Check("before any clock was set", "skew", f"{at} < {earliest}"),
    ]
    if registered is not None:
        checks.append(Check("before the user registered", "skew", f"{at} < {events.micros(registered, 'e')}"))
    if arrival is not None:
        arrived = events.micros(arrival, "e")
        checks.append(Check("later than it arrived", "skew", f"{at} > {arrived}"))
        checks.append(Check(f"arrived more than {late_after} late", "", f"{arrived} - {at} > {late}"))
    place = order_by or arrival
    if place is not None:
        rank = _rank(events, place)
        frame = f"PARTITION BY {log.key(user)} ORDER BY {rank} RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING"
        checks.append(Check(OUT_OF_ORDER, "", f"{at} < MAX({at}) OVER ({frame})"))
    until = "now" if now is None else written_time(latest)
    rules = f"times until {until}, clocks set since {written_time(earliest)} UTC"
    return Asked(log, tuple(checks), variant, rules)


def _rank(events: Table, column: str) -> str:
    """A whole number by which events are ordered."""
    kind = events.kinds[column]
    if kind == "integer":
        return f"CAST({events.column(column, 'e')} AS BIGINT)"
    if kind not in ("timestamp", "timestamptz", "date"):
        raise ColumnError(f"events: {column!r} is {kind}; events can be in the order of a whole number or a time.")
    return events.micros(column, "e")


def _instant(time: object, *, name: str) -> int:
    """A time in microseconds since 1970 UTC; now for None."""
    try:
        stamp = pd.Timestamp.now("UTC") if time is None else pd.Timestamp(time)  # type: ignore[arg-type]
    except (ValueError, TypeError) as error:
        raise TimeError(f"{name} is {time!r}; expected a time, such as '2025-01-31' (UTC).") from error
    if pd.isna(stamp):
        raise TimeError(f"{name} is missing; expected a time, such as '2025-01-31' (UTC).")
    stamp = stamp if stamp.tz is None else stamp.tz_convert("UTC").tz_localize(None)
    return (stamp - pd.Timestamp(0)) // pd.Timedelta(1, "us")


def written_time(micros: Any) -> str:
    """A time for people, to the second."""
    return "" if pd.isna(micros) else str(np.datetime64(int(micros), "us").astype("datetime64[s]")).replace("T", " ")
