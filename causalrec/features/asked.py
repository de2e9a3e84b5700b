"""Which rows a materialisation asks for, day by day, and a count and hash of them that tell when they change."""

from __future__ import annotations

import uuid
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from causalrec._validation import check_columns
from causalrec.engines import Dialect, Engine
from causalrec.engines.arrow import arrow_table
from causalrec.exceptions import ColumnError, ConfigError, TimeError
from causalrec.features.days import DAY_US, day_range
from causalrec.features.grid import distinct_keys
from causalrec.features.spec import Declaration, FeatureSet
from causalrec.features.sql import check_events, check_time_kind, source_sql

ALWAYS = -(2**62)  # the time since which a key without a time of its own is known


class Tally:
    """Counts and sums of hashes by day, and their totals over any days."""

    def __init__(self, rows: Iterable[tuple[int, int, int]]) -> None:
        found = sorted(rows)
        self.days = [day for day, _, _ in found]
        self._counts = [0, *accumulate(count for _, count, _ in found)]
        self._hashes = [0, *accumulate(hashed for _, _, hashed in found)]

    def between(self, first: int | None, last: int) -> tuple[int, int]:
        """Count and sum of hashes of the days from ``first``, or the beginning, to ``last``, both included."""
        a = 0 if first is None else bisect_left(self.days, first)
        b = max(a, bisect_right(self.days, last))
        return self._counts[b] - self._counts[a], self._hashes[b] - self._hashes[a]


def tally(engine: Engine, table: str, time: str, columns: Sequence[str]) -> Tally:
    """Count the rows of a query or quoted table by the day of ``time``, an expression of microseconds.

    Rows without a time are left out.
    """
    hashed = engine.dialect.row_hash(columns)
    found = engine.collect(
        f"SELECT d, COUNT(*) AS n, CAST(SUM(h) AS VARCHAR(64)) AS h FROM (SELECT {day_sql(time)} AS d, {hashed} AS h "
        f"FROM {table}) x WHERE d IS NOT NULL GROUP BY d"
    )
    return Tally((int(d), int(n), int(h)) for d, n, h in found.itertuples(index=False))


def day_sql(time: str) -> str:
    """The number of the day of a time in microseconds."""
    return f"CAST(FLOOR({time} / {DAY_US}e0) AS BIGINT)"


class Asked(Protocol):
    """Rows that ask for features, by day."""

    @property
    def event_time(self) -> str:
        """The column of the time."""

    @property
    def columns(self) -> Mapping[str, str]:
        """Names and kinds; the keys and the time are among them."""

    @property
    def days(self) -> Sequence[int]:
        """The days that are asked for, in order."""

    def content(self, day: int) -> tuple[int, int]:
        """Count and sum of hashes of a day's rows."""

    def last_event_day(self, day: int) -> int:
        """The last day whose events the features of a day can see."""

    def sql(self, days: Sequence[int]) -> str:
        """A query of the rows of some days."""


@dataclass(frozen=True)
class Midnights:
    """Every key at each midnight after it was first seen. ``keys`` is a query of ``__k0``, … and ``__first``."""

    event_time: str
    columns: Mapping[str, str]
    days: Sequence[int]
    keys: str
    known: Tally
    dialect: Dialect

    def content(self, day: int) -> tuple[int, int]:
        """See :class:`Asked`."""
        return self.known.between(None, day - 1)

    def last_event_day(self, day: int) -> int:
        """The day before: windows end before the midnight."""
        return day - 1

    def sql(self, days: Sequence[int]) -> str:
        """See :class:`Asked`."""
        q = self.dialect.quote
        named = ", ".join(f"k.__k{i} AS {q(c)}" for i, c in enumerate(c for c in self.columns if c != self.event_time))
        midnights = ", ".join(f"(CAST({day * DAY_US} AS BIGINT))" for day in days)
        return (
            f"SELECT {named}, {self.dialect.from_epoch_us('d.t')} AS {q(self.event_time)} FROM ({self.keys}) k "
            f"JOIN (VALUES {midnights}) AS d(t) ON k.__first < d.t"
        )


@dataclass(frozen=True)
class SpineRows:
    """The rows of a table, at whatever time each asks."""

    event_time: str
    columns: Mapping[str, str]
    table: str
    rows: Tally
    dialect: Dialect

    @property
    def days(self) -> Sequence[int]:
        """Those that have rows."""
        return self.rows.days

    def content(self, day: int) -> tuple[int, int]:
        """See :class:`Asked`."""
        return self.rows.between(day, day)

    def last_event_day(self, day: int) -> int:
        """The day itself: a row may ask late in it."""
        return day

    def sql(self, days: Sequence[int]) -> str:
        """See :class:`Asked`."""
        day = day_sql(_time_of(self.event_time, self.dialect))
        return f"SELECT * FROM {self.dialect.quote(self.table)} WHERE {day} IN ({', '.join(map(str, days))})"


@contextmanager
def asked_rows(
    engine: Engine,
    features: Declaration,
    start: object,
    end: object,
    *,
    entities: Any,
    spine: Any,
    event_time: str,
) -> Iterator[Asked]:
    """The rows that arguments of :meth:`FeatureStore.materialize` stand for; tables given are known until the end."""
    if spine is not None:
        if not (start is None and end is None and entities is None):
            raise ConfigError("materialize takes start and end (and entities), or a spine, not both: drop one.")
        with _table(engine, spine, where="spine") as table:
            yield _spine_rows(engine, table, event_time)
        return
    if start is None or end is None:
        missing = [name for name, value in (("start", start), ("end", end)) if value is None]
        raise TimeError(f"materialize: {' and '.join(missing)} missing; give start= and end=, or the rows as spine=.")
    if not features.keys:
        raise ConfigError(
            f"feature set {features.name!r} has no keys: its values follow from the time alone, so there is nothing to "
            "keep. Use training_frame, or give the rows as spine=."
        )
    if event_time in features.keys:
        raise ColumnError(f"feature set {features.name!r}: {event_time!r} is a key; give another event_time=.")
    days = day_range(start, end)
    if entities is None:
        yield _midnights(engine, features, days, event_time, None)
        return
    with _table(engine, _as_frame(entities, features.keys), where="entities") as table:
        yield _midnights(engine, features, days, event_time, table)


def _as_frame(entities: Any, keys: Sequence[str]) -> Any:
    """Keys in a list, array or Series as a frame; a frame or the name of a table as it is."""
    of_columns = any(hasattr(type(entities), name) for name in ("columns", "schema"))
    if isinstance(entities, str | Path) or (of_columns and not isinstance(entities, pd.Series)):
        return entities
    if len(keys) > 1:
        raise ColumnError(
            f"entities: found {type(entities).__name__}; expected a frame with the columns {', '.join(keys)}, or the "
            "name of a table."
        )
    frame = distinct_keys(entities, keys[0], where="entities").to_frame()
    if frame.empty:
        raise ColumnError("entities: found no keys; give some, or leave entities out for all that have events.")
    return frame


@contextmanager
def _table(engine: Engine, source: Any, *, where: str) -> Iterator[str]:
    """The name of a table: given, or made for a frame or file, of which errors speak as ``where``."""
    if isinstance(source, str):
        yield source
        return
    name = f"asked_{uuid.uuid4().hex[:12]}"
    as_it_is = isinstance(source, Path) or any(hasattr(source, x) for x in ("scanner", "createOrReplaceGlobalTempView"))
    engine.register(name, source if as_it_is else arrow_table(where, source))
    try:
        yield name
    finally:
        engine.drop(name)


def _spine_rows(engine: Engine, table: str, event_time: str) -> SpineRows:
    columns = engine.columns(table)
    check_columns(columns, [event_time], where="spine")
    check_time_kind(columns[event_time], event_time, where="spine")
    d = engine.dialect
    n = int(engine.collect(f"SELECT COUNT(*) - COUNT({d.quote(event_time)}) AS n FROM {d.quote(table)}")["n"].iloc[0])
    if n:
        raise TimeError(f"spine: {n} rows have no {event_time!r}.")
    rows = tally(engine, d.quote(table), _time_of(event_time, d), list(map(d.quote, columns)))
    return SpineRows(event_time, columns, table, rows, d)


def _midnights(engine: Engine, features: Any, days: range, event_time: str, table: str | None) -> Midnights:
    """Midnights of the keys of a table, or of all keys that the declaration's own table knows by then."""
    d, keys = engine.dialect, [f"__k{i}" for i in range(len(features.keys))]
    first = f"CAST({ALWAYS} AS BIGINT)"
    source = d.quote(table or features.source)
    if table is not None:
        kinds = engine.columns(table)
        check_columns(kinds, features.keys, where="entities")
        _check_no_null(engine, table, features.keys)
    elif isinstance(features, FeatureSet):
        kinds, source = check_events(features, engine), source_sql(features, d)
        first = f"MIN({_time_of(features.time_column, d)})"
    else:
        kinds = engine.columns(features.source)
    named = [f"{d.quote(k)} AS {key}" for k, key in zip(features.keys, keys, strict=True)]
    seen = (
        f"SELECT {', '.join(keys)}, {first} AS __first FROM (SELECT *, {', '.join(named)} "
        f"FROM {source} src) x WHERE {' AND '.join(f'{k} IS NOT NULL' for k in keys)} "
        f"GROUP BY {', '.join(keys)} HAVING {first} IS NOT NULL"
    )
    columns = {**{k: kinds[k] for k in features.keys}, event_time: "timestamp"}
    return Midnights(event_time, columns, days, seen, tally(engine, f"({seen}) k", "__first", keys), d)


def _check_no_null(engine: Engine, table: str, keys: Sequence[str]) -> None:
    q = engine.dialect.quote
    null = " OR ".join(f"{q(k)} IS NULL" for k in keys)
    n = int(engine.collect(f"SELECT COUNT(*) AS n FROM {q(table)} WHERE {null}")["n"].iloc[0])
    if n:
        raise ColumnError(f"entities: {n} rows have no value of a key ({', '.join(keys)}); drop them.")


def _time_of(column: str, dialect: Dialect) -> str:
    return dialect.epoch_us(dialect.quote(column))
