"""The tables of touches and conversions, opened, checked and brought under names of our own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from causalrec.engines import Engine
from causalrec.engines.exact import literal_sums
from causalrec.exceptions import ColumnError, OutcomeError
from causalrec.journeys._credit_sql import WHOLE, Settings, Weight, pairs_sql, shares_sql, sums_sql
from causalrec.journeys._tables import Table, Tables, open_tables
from causalrec.results import NO_CHANNEL

_TEXT = ("string", "integer", "boolean")


@dataclass(frozen=True)
class Columns:
    """Which column plays which part; ``value`` None where only conversions are counted."""

    user: str
    channel: str
    event_time: str
    conversion_time: str
    order_by: tuple[str, ...]
    value: str | None


@dataclass(frozen=True)
class Log:
    """Touches and conversions under names of our own, and what is known of them.

    ``touches`` has __u, __at, __channel and __o0, …; ``conversions`` has a row per user and time: __u, __t, their
    number __n and, where values are shared out, their sum __v. There are at most ``rows`` pairs of both, or rows of
    either.
    """

    tables: Tables
    touches: str
    conversions: str
    n_order: int
    rows: int
    weights: tuple[Weight, ...]
    n_touches: int
    n_touches_left_out: int
    n_conversions: int
    n_conversions_without_user: int
    total_value: float

    def credit_sql(self, by: str, rules: Sequence[str], settings: Settings, *, once: bool = False) -> str:
        """Sums of shares by groups, of all conversions of a user and time together, or ``once`` for them."""
        pairs = pairs_sql(self.conversions, self.touches, self.n_order, settings)
        weights = (Weight("__one", 1.0, True),) if once else self.weights
        return sums_sql(shares_sql(pairs, rules, settings), by, weights, self.rows, [r in WHOLE for r in rules])

    def between(self, touched: tuple[int, int], converted: tuple[int, int], users: str) -> Log:
        """The touches and conversions of times in ``[from, to)`` and of the users (__u) of a table."""
        known = f"__u IN (SELECT __u FROM {users})"
        touches = self.tables.keep(
            f"SELECT * FROM {self.touches} WHERE __at >= {touched[0]} AND __at < {touched[1]} AND {known}"
        )
        conversions = self.tables.keep(
            f"SELECT * FROM {self.conversions} WHERE __t >= {converted[0]} AND __t < {converted[1]} AND {known}"
        )
        value = "" if len(self.weights) == 1 else f", {exact_sum('__v', self.weights[1].reach, self.rows)} AS v"
        n = self.tables.collect(f"SELECT COUNT(*) AS n FROM {touches}")["n"]
        made = self.tables.collect(f"SELECT COALESCE(SUM(__n), 0) AS n{value} FROM {conversions}").iloc[0]
        return replace(
            self, touches=touches, conversions=conversions, n_touches=int(n.iloc[0]), n_touches_left_out=0,
            n_conversions=int(made["n"]), n_conversions_without_user=0,
            total_value=float("nan") if not value else float(np.nan_to_num(made["v"])),
        )  # fmt: skip


@contextmanager
def open_log(
    touches: Any,
    conversions: Any,
    columns: Columns,
    engine: Engine | None,
    *,
    whole: bool = False,
    more: Mapping[str, Any] | None = None,
) -> Iterator[Log]:
    """Open and check both tables; of frames only the columns that are used, unless conversions are given back whole.

    ``more`` are other tables to open beside them.
    """
    of_touches = [columns.user, columns.channel, columns.event_time, *columns.order_by]
    of_conversions = [c for c in (columns.user, columns.conversion_time, columns.value) if c is not None]
    only = {"touches": of_touches} if whole else {"touches": of_touches, "conversions": of_conversions}
    sources = {"touches": touches, "conversions": conversions, **(more or {})}
    with open_tables(sources, engine=engine, only=only, numbered=whole) as tables:
        given, made = tables["touches"], tables["conversions"]
        given.check(of_touches, times=[columns.event_time])
        made.check(of_conversions, times=[columns.conversion_time])
        _check_kinds(given, made, columns)
        n_touches, left_out = _count_touches(tables, columns)
        n_conversions, without, largest, total = _count_conversions(tables, columns)
        view = tables.keep(_touches_sql(given, columns))
        grouped = tables.keep(_conversions_sql(made, columns, n_conversions, largest))
        rows, weights = _bounds(tables, grouped, n_touches, n_conversions, columns.value)
        yield Log(
            tables, view, grouped, len(columns.order_by), rows, weights, n_touches - left_out, left_out,
            n_conversions, without, total,
        )  # fmt: skip


def _check_kinds(touches: Table, conversions: Table, columns: Columns) -> None:
    of_user = touches.kinds[columns.user], conversions.kinds[columns.user]
    if of_user[0] != of_user[1]:
        raise ColumnError(
            f"{columns.user!r} is {of_user[0]} in the touches and {of_user[1]} in the conversions, so that equal users "
            "could be missed. Convert one of them first."
        )
    if touches.kinds[columns.channel] not in _TEXT:
        raise ColumnError(
            f"touches: {columns.channel!r} is {touches.kinds[columns.channel]}; expected text, or whole numbers."
        )
    if columns.value is not None and conversions.kinds[columns.value] not in ("integer", "float", "boolean"):
        raise ColumnError(
            f"conversions: {columns.value!r} is {conversions.kinds[columns.value]}; expected numbers to share out. "
            "Convert it first; CSV files whose first rows have none are read as text, Parquet files are not."
        )


def user_sql(table: Table, user: str, of: str = "") -> str:
    """The user of a row; categories, which engines order and compare by their codes, as text."""
    column = table.column(user, of)
    return f"CAST({column} AS STRING)" if table.kinds[user] == "string" else column


def _known(table: Table, user: str, time: str) -> str:
    return f"{table.column(user)} IS NOT NULL AND {table.column(time)} IS NOT NULL"


def _count_touches(tables: Tables, columns: Columns) -> tuple[int, int]:
    """All touches, and those without a user or a time; the others must have channels."""
    table = tables["touches"]
    known, channel = _known(table, columns.user, columns.event_time), table.column(columns.channel)
    none = tables.dialect.literal(NO_CHANNEL)
    row = tables.collect(
        f"SELECT COUNT(*) AS n, COUNT(CASE WHEN NOT ({known}) THEN 1 END) AS unknown, "
        f"COUNT(CASE WHEN {known} AND {channel} IS NULL THEN 1 END) AS nulls, "
        f"COUNT(CASE WHEN CAST({channel} AS STRING) = {none} THEN 1 END) AS taken FROM {table.sql}"
    ).iloc[0]
    if row["nulls"]:
        raise ColumnError(
            f"touches: {int(row['nulls']):,} of {int(row['n']):,} have no {columns.channel!r}. Give them a name, such "
            "as 'unknown', or leave them out; either changes the credit of the others."
        )
    if row["taken"]:
        raise ColumnError(
            f"touches: {int(row['taken']):,} are of a channel {NO_CHANNEL!r}, which stands for conversions without a "
            "touch. Rename it."
        )
    return int(row["n"]), int(row["unknown"])


def _count_conversions(tables: Tables, columns: Columns) -> tuple[int, int, float, float]:
    """All conversions, those without a user or a time, the size of the largest value, and the sum of values."""
    table = tables["conversions"]
    known = _known(table, columns.user, columns.conversion_time)
    counts = f"SELECT COUNT(*) AS n, COUNT(CASE WHEN NOT ({known}) THEN 1 END) AS unknown"
    if columns.value is None:
        row = tables.collect(f"{counts} FROM {table.sql}").iloc[0]
        return int(row["n"]), int(row["unknown"]), 0.0, float("nan")
    value = _value(table, columns.value)
    tame = tables.dialect.tame(value)
    row = tables.collect(
        f"{counts}, COUNT({tame}) AS finite, COALESCE(MAX(ABS({tame})), 0e0) AS largest FROM {table.sql}"
    ).iloc[0]
    n, largest = int(row["n"]), float(row["largest"])
    if row["finite"] < n:
        raise OutcomeError(
            f"conversions: {n - int(row['finite']):,} of {n:,} values of {columns.value!r} are missing or infinite. "
            "Fill them in a way that you can defend, or leave those conversions out."
        )
    total = tables.collect(f"SELECT COALESCE({exact_sum(value, largest, n)}, 0e0) AS total FROM {table.sql}")
    return n, int(row["unknown"]), largest, float(total["total"].iloc[0])


def _value(table: Table, value: str) -> str:
    column = table.column(value)
    if table.kinds[value] == "boolean":
        column = f"CAST({column} AS INTEGER)"
    return f"CAST({column} AS DOUBLE)"


def exact_sum(term: str, reach: float, rows: int) -> str:
    """SQL of a sum that no order of rows changes, of a term of at most ``reach`` in each of at most ``rows``."""
    return " + ".join(literal_sums(term, reach, max(rows, 1), whole=False)) or "SUM(0e0)"


def _touches_sql(table: Table, columns: Columns) -> str:
    ties = "".join(f", {user_sql(table, c)} AS __o{i}" for i, c in enumerate(columns.order_by))
    return (
        f"SELECT {user_sql(table, columns.user)} AS __u, {table.micros(columns.event_time)} AS __at, "
        f"CAST({table.column(columns.channel)} AS STRING) AS __channel{ties} FROM {table.sql} "
        f"WHERE {_known(table, columns.user, columns.event_time)}"
    )


def _conversions_sql(table: Table, columns: Columns, n: int, largest: float) -> str:
    """Conversions of a user at one time have the same touches, and so the same shares."""
    value = ""
    if columns.value is not None:
        value = f", {exact_sum(_value(table, columns.value), largest, n)} AS __v"
    return (
        f"SELECT {user_sql(table, columns.user)} AS __u, {table.micros(columns.conversion_time)} AS __t, "
        f"COUNT(*) AS __n, 1 AS __one{value} FROM {table.sql} "
        f"WHERE {_known(table, columns.user, columns.conversion_time)} GROUP BY 1, 2"
    )


def _bounds(
    tables: Tables, conversions: str, n_touches: int, n_conversions: int, value: str | None
) -> tuple[int, tuple[Weight, ...]]:
    """How many rows a sum can have, and the sizes of what is summed."""
    of_value = "" if value is None else ", MAX(ABS(__v)) AS v"
    per_user = f"SELECT COUNT(*) AS times, MAX(__n) AS n{of_value} FROM {conversions} GROUP BY __u"
    top = tables.collect(
        f"SELECT COALESCE(MAX(times), 0) AS times, COALESCE(MAX(n), 0) AS n"
        f"{'' if value is None else ', COALESCE(MAX(v), 0e0) AS v'} FROM ({per_user}) u"
    ).iloc[0]
    weights = [Weight("__n", float(top["n"]), True)]
    if value is not None:
        weights.append(Weight("__v", float(top["v"]), False))
    return max(1, n_conversions, n_touches * int(top["times"])), tuple(weights)
