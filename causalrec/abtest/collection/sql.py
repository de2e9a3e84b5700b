"""What each metric asks of a row, as SQL: its value, what goes with it, and the rows that count."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from causalrec._validation import check_columns
from causalrec.abtest.aggregates import covariate_name
from causalrec.abtest.metrics import Mean, Metric, Proportion, Quantile, Ratio, Retention
from causalrec.engines import Engine
from causalrec.engines.exact import literal_sql
from causalrec.engines.groups import Term
from causalrec.exceptions import ColumnError

DAY_US = 86_400_000_000
BY_DAY = " by day"  # ends the labels of terms that hold the day
TIMES = ("timestamp", "timestamptz", "date")
_NUMBERS = ("integer", "float", "boolean")


def both(*conditions: str | None) -> str | None:
    """All of the conditions; None where there is none."""
    held = [c for c in conditions if c is not None]
    return " AND ".join(f"({c})" for c in held) or None


@dataclass(frozen=True)
class Rows:
    """The rows that an experiment analyses: where they are and what their columns are.

    Attributes
    ----------
    engine : Engine
    sql : str
        A quoted name, or a query in parentheses.
    kinds : mapping of column to kind
    ranges : mapping of column to (low, high, has nulls)
        What is known without a look at the rows.
    scratch : list of str
        Tables of our own, to be dropped at the end.
    """

    engine: Engine
    sql: str
    kinds: Mapping[str, str]
    ranges: Mapping[str, tuple[float, float, bool]]
    scratch: list[str] = field(default_factory=list)

    def quote(self, column: str) -> str:
        """The column in SQL."""
        return self.engine.dialect.quote(column)

    def restricted(self, condition: str) -> Rows:
        """Those rows only for which an SQL condition holds."""
        return replace(self, sql=f"(SELECT * FROM {self.sql} restricted WHERE {condition})")

    def tidied(self, conditions: Sequence[str | None], *, ids: Sequence[str | None]) -> Rows:
        """The same rows, where the user's conditions see NaN in files too, and NaN is no id of a unit."""
        floats = [c for c, kind in self.kinds.items() if kind == "float"]
        new: dict[str | None, str] = {}
        for column in {c for text in conditions for c in reads(text, floats)}:
            new[column] = self.engine.dialect.unpruned(self.quote(column))
        for column in set(floats).intersection(ids):
            new[column] = f"CASE WHEN {self.present(column) or 'TRUE'} THEN {self.quote(column)} END"
        if not new:
            return self
        listed = ", ".join(f"{new[c]} AS {self.quote(c)}" if c in new else self.quote(c) for c in self.kinds)
        return replace(self, sql=f"(SELECT {listed} FROM {self.sql} tidied)")

    def where_known(self, column: str) -> str:
        """How a user leaves out the rows without a value."""
        name = column if column.isidentifier() else self.quote(column)
        return f"where={f'{name} IS NOT NULL'!r}"

    def of_one_arm(self, variant: str) -> Rows:
        """The same rows, with a column of the arm that is the same for all."""
        sql = f"(SELECT *, {self.engine.dialect.literal('all')} AS {self.quote(variant)} FROM {self.sql} everyone)"
        return replace(self, sql=sql, kinds={**self.kinds, variant: "string"})

    def keep(self, sql: str) -> str:
        """The quoted name of a table with the result of a query, kept where the engine can."""
        name = f"__abtest_{uuid.uuid4().hex[:12]}"
        self.engine.keep(name, sql)
        self.scratch.append(name)
        return self.quote(name)

    def check_numbers(self, column: str, *, label: str) -> None:
        """Raise :class:`ColumnError` for a column that is missing or has no numbers."""
        check_columns(self.kinds, [column], where=label)
        if self.kinds[column] not in _NUMBERS:
            raise ColumnError(
                f"{label}: column {column!r} is {self.kinds[column]}; expected numbers or booleans. Convert it first, "
                f"in pandas by frame[{column!r}] = pd.to_numeric(frame[{column!r}])."
            )

    def check_times(self, column: str, *, label: str) -> None:
        """Raise :class:`ColumnError` for text, of which neither a time nor a number of days is known."""
        if self.kinds[column] == "string":
            raise ColumnError(
                f"{label}: column {column!r} is string; expected times, or days as numbers. Convert it first, in "
                f"pandas by frame[{column!r}] = pd.to_datetime(frame[{column!r}])."
            )

    def present(self, column: str) -> str | None:
        """The condition that a column has a value; NaN is none. None where it is known to hold."""
        q = self.quote(column)
        if self.kinds[column] == "float":
            return f"{q} IS NOT NULL AND NOT {self.engine.dialect.is_nan(q)}"
        known = self.ranges.get(column)
        return None if known is not None and not known[2] else f"{q} IS NOT NULL"

    def number(self, column: str, *, label: str, within: str | None) -> Term:
        """A column of numbers as a term."""
        self.check_numbers(column, label=label)
        known = self.ranges.get(column)
        kind = self.kinds[column]
        bounds = (0.0, 1.0) if kind == "boolean" else known[:2] if known else None
        complete = known is not None and not known[2]
        return Term(self.quote(column), label, within, bounds, whole=kind != "float", complete=complete)

    def micros(self, column: str) -> str:
        """Microseconds since 1970 UTC of a column of times."""
        return self.engine.dialect.epoch_us(self.quote(column))


@dataclass(frozen=True)
class Measure:
    """The numbers that a metric needs of each row within ``within``.

    Attributes
    ----------
    terms : mapping of name to Term
        ``value``, ``den`` of a ratio, and covariates by ``covariate_name``.
    all_within : str or None
        The condition before rows without a value were left out.
    exposed_within : str or None
        Of a retention metric: the condition before users who were exposed too late were left out.
    """

    terms: Mapping[str, Term]
    within: str | None
    all_within: str | None
    exposed_within: str | None = None


Limits = Mapping[str, tuple[float, float]]  # column -> winsorising limits


def measure(name: str, metric: Metric, rows: Rows, *, limits: Limits, exposed_at: str | None, as_of: Any) -> Measure:
    """What a metric needs, in SQL. ``as_of`` is the end of observation of a retention metric, in its own unit."""
    if isinstance(metric, Retention):
        return _retention(name, metric, rows, exposed_at, as_of)
    outcome = outcome_columns(metric)
    for column in outcome:
        rows.check_numbers(column, label=f"metric {name!r}")
    within = both(metric.where, *_left_out(metric, rows))
    keys = dict(zip(("value", "den"), outcome, strict=False))
    terms = {key: _outcome(name, metric, rows, column, within, limits) for key, column in keys.items()}
    for covariate in getattr(metric, "covariates", ()):
        label = f"covariate {covariate!r} of metric {name!r}"
        terms[covariate_name(covariate)] = rows.number(covariate, label=label, within=within)
    return Measure(terms, within, metric.where)


def outcome_columns(metric: Metric) -> tuple[str, ...]:
    """The columns of the metric itself, without covariates."""
    if isinstance(metric, Ratio):
        return metric.numerator, metric.denominator
    return (metric.column,) if isinstance(metric, Mean | Proportion | Quantile) else ()


def _left_out(metric: Metric, rows: Rows) -> list[str | None]:
    return [rows.present(c) for c in outcome_columns(metric)] if metric.missing == "drop" else []


def _outcome(name: str, metric: Metric, rows: Rows, column: str, within: str | None, limits: Limits) -> Term:
    term = rows.number(column, label=f"metric {name!r}, column {column!r}", within=within)
    if metric.missing == "zero" and not (term.complete and term.whole):  # NaN is missing too
        present = rows.present(column) or "TRUE"
        bounds = (min(term.bounds[0], 0.0), max(term.bounds[1], 0.0)) if term.bounds else None
        term = replace(
            term, sql=f"CASE WHEN {present} THEN CAST({term.sql} AS DOUBLE) ELSE 0e0 END", bounds=bounds, rounded=True
        )
    if column in limits:
        low, high = limits[column]
        clipped = f"GREATEST(LEAST(CAST({term.sql} AS DOUBLE), {literal_sql(high)}), {literal_sql(low)})"
        # Null where the value is bad, which LEAST would hide.
        known = rows.engine.dialect.tame(f"CAST({term.sql} AS DOUBLE)", whole=term.whole)
        sql = f"CASE WHEN {known} IS NOT NULL THEN {clipped} END"
        whole = term.whole and low == int(low) and high == int(high)
        complete = term.complete and term.whole  # what was NaN is null now
        term = replace(term, sql=sql, bounds=(low, high), whole=whole, complete=complete, rounded=True)
    return term


def find_limits(name: str, metric: Mean | Ratio, rows: Rows) -> dict[str, tuple[float, float]]:
    """Winsorising quantiles of each outcome column over the rows that count, all arms together."""
    bare = measure(name, metric, rows, limits={}, exposed_at=None, as_of=None)
    columns = outcome_columns(metric)
    shares: Any = metric.winsorize
    tame = [bare.terms[key].tame_sql(rows.engine.dialect) for key, _ in zip(("value", "den"), columns, strict=False)]
    listed = [f"{rows.engine.dialect.quantiles(t, shares)} AS q{k}" for k, t in enumerate(tame)]
    row: Any = rows.engine.collect(f"SELECT {', '.join(listed)} FROM {rows.sql} x").iloc[0]
    found = {}
    for k, column in enumerate(columns):
        if row[f"q{k}"] is not None:
            low, high = row[f"q{k}"]
            found[column] = (float(low), float(high))
    return found


@dataclass(frozen=True)
class _Clock:
    """Exposure and last activity in one unit: microseconds, or the numbers of the columns."""

    seen: str
    exposed: str | None
    day: float
    number_of: Callable[[Any], float]


def _clock(name: str, metric: Retention, rows: Rows, exposed_at: str | None) -> _Clock:
    column = metric.exposed or exposed_at
    check_columns(rows.kinds, [metric.last_seen, *([column] if column else [])], where=f"metric {name!r}")
    for each in (metric.last_seen, *([column] if column else [])):
        rows.check_times(each, label=f"metric {name!r}")
    seen = rows.quote(metric.last_seen)
    if rows.kinds[metric.last_seen] in TIMES:
        if column is None:
            raise ColumnError(
                f"metric {name!r}: column {metric.last_seen!r} holds times, and from when they count is not known. "
                "Give the experiment exposed_at=, the column with the time of exposure."
            )
        if rows.kinds[column] not in TIMES:
            raise ColumnError(
                f"metric {name!r}: {metric.last_seen!r} holds times and {column!r} is {rows.kinds[column]}; expected "
                "times in both."
            )
        return _Clock(rows.micros(metric.last_seen), rows.micros(column), float(DAY_US), _micros)
    rows.check_numbers(metric.last_seen, label=f"metric {name!r}")
    # NaN is never seen again, and would be the largest number.
    seen = rows.engine.dialect.tame(f"CAST({seen} AS DOUBLE)")
    if column is None:
        return _Clock(seen, None, 1.0, float)
    if rows.kinds[column] in TIMES:  # days since an exposure at a time
        exposed = rows.micros(column)
        return _Clock(f"({exposed} + {seen} * {DAY_US})", exposed, float(DAY_US), _micros)
    rows.check_numbers(column, label=f"metric {name!r}")
    return _Clock(seen, rows.engine.dialect.tame(f"CAST({rows.quote(column)} AS DOUBLE)"), 1.0, float)


def _micros(time: Any) -> float:
    stamp = pd.Timestamp(time)
    utc = stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")
    return float(utc.value // 1000)


def find_as_of(name: str, metric: Retention, rows: Rows, exposed_at: str | None) -> float | None:
    """The end of observation in the metric's own unit: as given, else the latest activity; None without exposure."""
    clock = _clock(name, metric, rows, exposed_at)
    if clock.exposed is None:
        return None
    if metric.as_of is not None:
        is_time = isinstance(metric.as_of, date | str | np.datetime64)
        if is_time != (clock.number_of is _micros):
            raise ColumnError(
                f"metric {name!r}: as_of is {metric.as_of!r}; expected a {'number' if is_time else 'time'}, as the "
                "column of exposure holds."
            )
        return clock.number_of(metric.as_of)
    latest: Any = rows.engine.collect(f"SELECT MAX({clock.seen}) AS latest FROM {rows.sql} x")["latest"].iloc[0]
    if pd.isna(latest):
        raise ColumnError(
            f"metric {name!r}: column {metric.last_seen!r} is empty, so the end of observation is not known. "
            "Give as_of=."
        )
    return float(latest)


def _retention(name: str, metric: Retention, rows: Rows, exposed_at: str | None, as_of: float | None) -> Measure:
    clock = _clock(name, metric, rows, exposed_at)
    label = f"metric {name!r}, column {metric.last_seen!r}"
    horizon = literal_sql(metric.days * clock.day)
    if clock.exposed is None:
        sql = f"CASE WHEN {clock.seen} >= {horizon} THEN 1 ELSE 0 END"
        term = Term(sql, label, metric.where, (0.0, 1.0), whole=True, complete=metric.where is None)
        return Measure({"value": term}, metric.where, metric.where)
    known = f"{clock.exposed} IS NOT NULL"
    mature = f"{clock.exposed} + {horizon} <= {literal_sql(as_of or 0.0)}"
    if metric.missing == "drop":
        exposed_within = both(metric.where, known)
        within = both(exposed_within, mature)
    else:  # a user without an exposure is within, and has no value
        exposed_within, within = metric.where, both(metric.where, f"{mature} OR {clock.exposed} IS NULL")
    sql = f"CASE WHEN {known} THEN CASE WHEN {clock.seen} - {clock.exposed} >= {horizon} THEN 1 ELSE 0 END END"
    label = f"metric {name!r}, exposure {metric.exposed or exposed_at!r}"
    term = Term(sql, label, within, (0.0, 1.0), whole=True)
    return Measure({"value": term}, within, metric.where, exposed_within)


def trend_terms(found: Measure, day: str) -> dict[str, Term]:
    """Weight, day x weight, day^2 x weight, value, day x value; ``day`` is an SQL expression of whole numbers."""
    value = found.terms["value"]
    weight = found.terms.get("den") or ones(found.within)
    times_day = f"CAST({day} AS DOUBLE)"

    def times(term: Term, factor: str) -> Term:
        sql = f"(CAST({term.sql} AS DOUBLE) * {factor})"
        return Term(sql, f"{term.label}{BY_DAY}", term.within, whole=term.whole, rounded=True)

    return {
        "w": weight,
        "dw": times(weight, times_day),
        "ddw": times(weight, f"{times_day} * {times_day}"),
        "v": value,
        "dv": times(value, times_day),
    }


def ones(within: str | None) -> Term:
    """One for each row within."""
    return Term("1", "rows", within, (1.0, 1.0), whole=True, complete=within is None)


def reads(text: str | None, columns: Sequence[str]) -> list[str]:
    """Columns whose name occurs in a piece of SQL; some may be there by chance."""
    return [c for c in columns if text is not None and c.lower() in text.lower()]
