"""Readable SQL files with named parameters, filled in by one function, and the columns that they are filled with."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from causalrec.exceptions import ColumnError
from causalrec.journeys._tables import Table, Tables

DAY_US = 86_400_000_000
NOBODY = "(none)"
EVERYBODY = "all"
_PARAMETER = re.compile(r":([a-z_]+)")
_LOOP = re.compile(r"^ *-- for each .*?\n(.*?)^ *-- end\n", re.DOTALL | re.MULTILINE)


@cache
def sql_file(name: str) -> str:
    """The text of a file of this package's directory ``sql``."""
    return (Path(__file__).parent / "sql" / f"{name}.sql").read_text(encoding="utf-8")


def fill_sql(name: str, values: Mapping[str, str], *, each: Sequence[Mapping[str, object]] = ()) -> str:
    """A SQL file with its parameters, such as ``:user``, replaced.

    Lines between ``-- for each …`` and ``-- end`` are repeated for every mapping of ``each``, whose parameters are
    replaced in them.

    Raises
    ------
    KeyError
        For a parameter without a value.

    Examples
    --------
    >>> filled = fill_sql("retention", {"user": "u", "day": "d", "at": "t", "events": "log", "counted": "TRUE",
    ...                                 "days": "7, 30"})
    >>> print(filled.splitlines()[4].strip())
    SELECT first_day, day, CASE WHEN day - first_day IN (7, 30) THEN day - first_day ELSE -1 END AS days_after
    """

    def repeated(match: re.Match[str]) -> str:
        return "".join(_PARAMETER.sub(lambda m, row=row: str(row.get(m[1], m[0])), match[1]) for row in each)

    return _PARAMETER.sub(lambda m: values[m[1]], _LOOP.sub(repeated, sql_file(name)))


@dataclass(frozen=True)
class Log:
    """The events, perhaps beside a table with a row per user, as the parts of a query.

    Attributes
    ----------
    events : Table
    attributes : Table or None
    user : str
        A column of both.
    event_time : str or None
    """

    events: Table
    attributes: Table | None
    user: str
    event_time: str | None

    @property
    def source(self) -> str:
        """What to select from."""
        if self.attributes is None:
            return f"{self.events.sql} e"
        user, other = self.events.column(self.user, "e"), self.attributes.column(self.user, "a")
        return f"{self.events.sql} e LEFT JOIN {self.attributes.sql} a ON {user} = {other}"

    def column(self, name: str) -> str:
        """A column of the events, or else of the users' table."""
        if name not in self.events.kinds and self.attributes is not None and name in self.attributes.kinds:
            return self.attributes.column(name, "a")
        return self.events.column(name, "e")

    def kind(self, name: str) -> str:
        """The kind of such a column."""
        found = self.events.kinds.get(name) or (self.attributes.kinds.get(name) if self.attributes else None)
        return str(found)

    def key(self, name: str) -> str:
        """A column whose NaN means that there is nothing."""
        column = self.column(name)
        if self.kind(name) != "float":
            return column
        return f"CASE WHEN NOT {self.events.dialect.is_nan(column)} THEN {column} END"

    def text(self, name: str | None) -> str:
        """A column of labels as text; without a name everybody has the same."""
        literal = self.events.dialect.literal
        if name is None:
            return literal(EVERYBODY)
        return f"COALESCE(CAST({self.key(name)} AS STRING), {literal(NOBODY)})"

    def one_of(self, name: str | None, wanted: Sequence[str] | None) -> str:
        """Whether a column of labels has one of some values; always true without any."""
        if name is None or wanted is None:
            return "TRUE"
        listed = ", ".join(map(self.events.dialect.literal, wanted))
        return f"CAST({self.column(name)} AS STRING) IN ({listed})"

    @property
    def at(self) -> str:
        """The time of an event in microseconds."""
        return self.events.micros(str(self.event_time), "e")

    def basics(self) -> dict[str, str]:
        """The parameters that every file has."""
        at = self.at
        day = f"CAST(FLOOR({at} / {DAY_US}e0) AS BIGINT)"
        return {"events": self.source, "user": self.key(self.user), "at": at, "day": day}


def open_log(
    tables: Tables,
    *,
    user: str,
    event_time: str | None,
    columns: Sequence[str | None] = (),
    of_users: Sequence[str | None] = (),
) -> Log:
    """The log of open tables labelled ``events`` and perhaps ``attributes``, checked.

    ``columns`` are needed in the events; ``of_users`` in the events or in the users' table.

    Raises
    ------
    ColumnError
        For a missing column, for users of two types, or several rows of a user.
    TimeError
        For times that are none.
    """
    events, attributes = tables["events"], tables.get("attributes")
    events.check([user, *columns], times=[event_time])
    if attributes is None:
        events.check(of_users)
        return Log(events, None, user, event_time)
    attributes.check([user])
    attributes.check([c for c in of_users if c is not None and c not in events.kinds])
    if events.kinds[user] != attributes.kinds[user]:
        raise ColumnError(
            f"{user!r} is {events.kinds[user]} in events and {attributes.kinds[user]} in attributes, so that equal "
            "users could be missed. Convert one of them first."
        )
    key = attributes.column(user)
    doubled = tables.collect(f"SELECT COUNT({key}) - COUNT(DISTINCT {key}) AS n FROM {attributes.sql}")
    if doubled["n"].iloc[0]:
        raise ColumnError(
            f"attributes: {int(doubled['n'].iloc[0]):,} rows repeat a {user!r}; expected a row per user. Drop them."
        )
    return Log(events, attributes, user, event_time)
