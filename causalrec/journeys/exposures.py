"""Users before, during and after a period of touches: the table from which a channel's effect is estimated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from causalrec._validation import check_not_empty, list_some, nearest
from causalrec.engines import Engine
from causalrec.exceptions import ColumnError, EmptyTableError, TimeError
from causalrec.journeys._credit_log import Columns, Log, exact_sum, open_log, user_sql
from causalrec.journeys._tables import Duration, parse_duration
from causalrec.journeys.credit import RULES, asked_rules, credit_of, rule_settings, ties, written
from causalrec.results import CreditResult

_DAY_US = 86_400_000_000
_USERS = "users"


@dataclass(frozen=True)
class Exposures:
    """A row per user, and the rules' credit for the same touches and outcomes.

    Attributes
    ----------
    frame : pandas frame
        The user; ``touched_<channel>`` (0/1, in the period); ``touches_before_<channel>``, ``conversions_before``,
        ``value_before``, ``days_since_touch``, ``days_since_conversion`` (missing for those without any), all strictly
        before the period; the columns of ``users`` that were asked for; ``conversions_after`` and ``value_after``, in
        the outcome window. In the order of the users. ``value_*`` only where values were asked for.
    channels : tuple of str
        Those with a touch in the period.
    before : tuple of str
        Columns of the frame that are known before the period.
    counts : tuple of str
        Those of them that count touches or conversions.
    credit : CreditResult
        Touches of the period, conversions of the outcome window, both of the users of the frame.
    period_start, period_end, outcome_end : Timestamp
    last_conversion : Timestamp
        Of the whole log. Where that is long before ``outcome_end``, the log may end within the outcome window.
    """

    frame: pd.DataFrame = field(repr=False)
    channels: tuple[str, ...]
    before: tuple[str, ...]
    counts: tuple[str, ...]
    credit: CreditResult = field(repr=False)
    period_start: pd.Timestamp
    period_end: pd.Timestamp
    outcome_end: pd.Timestamp
    last_conversion: pd.Timestamp


def exposures(
    touches: Any,
    conversions: Any,
    *,
    period: tuple[Any, Any],
    outcome_window: Duration = "14d",
    history: Duration | None = None,
    users: Any = None,
    covariates: Sequence[str] = (),
    channels: Sequence[str] | None = None,
    rules: Sequence[str] = RULES,
    half_life: Duration = "7d",
    position: tuple[float, float, float] = (0.4, 0.2, 0.4),
    user: str = "user_id",
    channel: str = "channel",
    event_time: str = "event_time",
    conversion_time: str | None = None,
    order_by: str | Sequence[str] = (),
    value: str | None = None,
    engine: Engine | None = None,
) -> Exposures:
    """Put what is known of each user before a period, the touches in it, and the conversions after it into one row.

    With the period ``[start, end)``: history is ``[start - history, start)``, outcomes are of
    ``[end, end + outcome_window)``. Conversions within the period count nowhere, since some come before the touch. The
    users are those of ``users``, or all with a touch or conversion before the start: being touched makes nobody one.

    Parameters
    ----------
    touches, conversions : table
        As in :func:`causalrec.journeys.credit`, with ``user``, ``channel``, ``event_time``, ``conversion_time``,
        ``order_by`` and ``value``.
    period : pair of times
        Start and end, as text, dates or timestamps; naive ones are UTC.
    outcome_window, history : str or timedelta
        ``history=None``: all that there is. The logs must reach the end of the outcome window: conversions that nobody
        has logged yet count as none, and only logs without any after the period are refused.
    users : table, optional
        A row per user, with the columns named by ``covariates``, all known before the period.
    covariates : sequence of str
    channels : sequence of str, optional
        By default all with a touch in the period.
    rules, half_life, position
        As in :func:`causalrec.journeys.credit`. Every touch of the period counts: the window is the whole.
    engine : Engine, optional
        The users' rows come into memory on either.

    Raises
    ------
    TimeError
        For a period that does not end after its start, windows that are not positive, and logs without a conversion at
        or after the period's end.
    ColumnError
        For missing columns, users who appear twice, and channels without a touch in the period.
    EmptyTableError
        Without users, or without any touch in the period.
    CausalRecError
        As :func:`causalrec.journeys.credit`.

    Examples
    --------
    >>> touches = pd.DataFrame({
    ...     "user_id": [1, 1, 2], "channel": ["email", "email", "push"],
    ...     "event_time": pd.to_datetime(["2025-01-01", "2025-02-01", "2025-01-05"]),
    ... })
    >>> orders = pd.DataFrame({"user_id": [1, 2], "event_time": pd.to_datetime(["2025-02-09", "2025-01-20"])})
    >>> found = exposures(touches, orders, period=("2025-02-01", "2025-02-08"), outcome_window="1d")
    >>> found.frame[["user_id", "touched_email", "touches_before_email", "conversions_before"]].values.tolist()
    [[1, 1, 1, 0], [2, 0, 0, 1]]
    """
    asked = asked_rules("", rules)
    settings = replace(rule_settings("1d", half_life, position), window=None)
    clock = _Clock.make(period, outcome_window, history)
    columns = Columns(user, channel, event_time, conversion_time or event_time, ties(order_by), value)
    if isinstance(covariates, str):
        raise ColumnError(f"covariates is the text {covariates!r}; expected a list of columns: [{covariates!r}].")
    if covariates and users is None:
        raise ColumnError(f"covariates {list_some(covariates)} are columns of users=, a table with a row per user.")
    more = {} if users is None else {_USERS: users}
    with open_log(touches, conversions, columns, engine, more=more) as log:
        latest = _check_reach(log, clock)
        units = _units(log, columns, clock, tuple(covariates))
        within = log.between((clock.start, clock.end), (clock.end, clock.last), units)
        found = credit_of(within, asked, settings)
        chosen, past = _channels(found, channels), _past_channels(log, clock)
        table = log.tables.collect(_frame_sql(log, units, clock, len(covariates), chosen, past))
    frame, before, counts = _named(table, user, tuple(covariates), chosen, past, value is not None)
    return Exposures(
        frame=frame, channels=chosen, before=before, counts=counts, credit=replace(
            found, window=f"{clock.stamp(clock.start)} to {clock.stamp(clock.end)}", half_life=written(half_life)
        ),
        period_start=clock.stamp(clock.start), period_end=clock.stamp(clock.end), outcome_end=clock.stamp(clock.last),
        last_conversion=clock.stamp(latest),
    )  # fmt: skip


@dataclass(frozen=True)
class _Clock:
    """Microseconds at which history, the period, the outcome window and what comes after it start."""

    first: int | None
    start: int
    end: int
    last: int

    @classmethod
    def make(cls, period: tuple[Any, Any], outcome_window: Duration, history: Duration | None) -> _Clock:
        if not isinstance(period, tuple | list) or len(period) != 2:
            raise TimeError(f"period is {period!r}; expected its start and its end: ('2025-03-01', '2025-03-08').")
        start, end = (_micros(t, name=name) for t, name in zip(period, ("start", "end"), strict=True))
        if end <= start:
            raise TimeError(
                f"the period ends at {period[1]} and starts at {period[0]}; expected an end after the start."
            )
        outcome = _positive(outcome_window, "outcome_window")
        first = None if history is None else start - _positive(history, "history")
        return cls(first, start, end, end + outcome)

    @staticmethod
    def stamp(micros: int) -> pd.Timestamp:
        return pd.Timestamp(micros, unit="us")

    def before(self, time: str) -> str:
        """SQL: whether a time is of the history."""
        since = "" if self.first is None else f" AND {time} >= {self.first}"
        return f"{time} < {self.start}{since}"


def _micros(time: Any, *, name: str) -> int:
    try:
        stamp = pd.Timestamp(time)
    except (ValueError, TypeError) as error:
        raise TimeError(f"the period's {name} is {time!r}; expected a time, such as '2025-03-01'.") from error
    if pd.isna(stamp):
        raise TimeError(f"the period's {name} is missing; expected a time, such as '2025-03-01'.")
    zoned = stamp if stamp.tzinfo is None else stamp.tz_convert("UTC").tz_localize(None)
    return int(np.datetime64(zoned, "us").astype(np.int64))


def _positive(duration: Duration, name: str) -> int:
    length = parse_duration(duration, name=name)
    if length == 0:
        raise TimeError(f"{name} is {duration!r}; expected a length of time above zero, such as '14d'.")
    return length


def _check_reach(log: Log, clock: _Clock) -> int:
    """When the last conversion was; outcomes that nobody could have logged yet are not zeros."""
    latest = log.tables.collect(f"SELECT MAX(__t) AS t FROM {log.conversions}")["t"].iloc[0]
    if pd.isna(latest) or latest < clock.end:
        when = "there are none" if pd.isna(latest) else f"the last is at {clock.stamp(int(latest))}"
        raise TimeError(
            f"no conversion is at or after the period's end, {clock.stamp(clock.end)} ({when}), so the outcome window "
            f"to {clock.stamp(clock.last)} has not been logged. Take an earlier period."
        )
    return int(latest)


def _units(log: Log, columns: Columns, clock: _Clock, covariates: tuple[str, ...]) -> str:
    """A table of the users, __u, and their covariates, __x0, ….

    Raises :class:`ColumnError` for users that are missing, doubled or of another type, :class:`EmptyTableError` without
    any.
    """
    tables = log.tables
    if _USERS not in tables:
        units = tables.keep(
            f"SELECT __u FROM {log.touches} WHERE {clock.before('__at')} "
            f"UNION SELECT __u FROM {log.conversions} WHERE {clock.before('__t')}"
        )
        n = int(tables.collect(f"SELECT COUNT(*) AS n FROM {units}")["n"].iloc[0])
        if n == 0:
            raise EmptyTableError(
                f"no user has a touch or a conversion in the history before {clock.stamp(clock.start)}; give users=, a "
                "table with a row per user, or a later period."
            )
        return units
    table = tables[_USERS]
    table.check([columns.user, *covariates])
    kinds = table.kinds[columns.user], tables["touches"].kinds[columns.user]
    if kinds[0] != kinds[1]:
        raise ColumnError(
            f"{columns.user!r} is {kinds[0]} in users and {kinds[1]} in the touches. Convert one of them."
        )
    u = user_sql(table, columns.user)
    counts = tables.collect(
        f"SELECT COUNT(*) AS n, COUNT({u}) AS known, COUNT(DISTINCT {u}) AS apart FROM {table.sql}"
    ).iloc[0]
    check_not_empty(int(counts["n"]), where=_USERS)
    if counts["apart"] < counts["n"]:
        missing, doubled = int(counts["n"] - counts["known"]), int(counts["known"] - counts["apart"])
        raise ColumnError(
            f"users: {missing:,} rows have no {columns.user!r} and {doubled:,} repeat one; expected a row per user."
        )
    given = "".join(f", {table.column(c)} AS __x{i}" for i, c in enumerate(covariates))
    return tables.keep(f"SELECT {u} AS __u{given} FROM {table.sql}")


def _channels(found: CreditResult, channels: Sequence[str] | None) -> tuple[str, ...]:
    known = found.channels[:-1]
    if not known:
        raise EmptyTableError("no user has a touch in the period. Check the period and the users.")
    if channels is None:
        return known
    if isinstance(channels, str):
        raise ColumnError(f"channels is the text {channels!r}; expected a list: [{channels!r}].")
    unknown = [c for c in channels if c not in known]
    if unknown or not channels:
        named = list_some(unknown) or "none"
        raise ColumnError(
            f"channels: {named} asked for, and the period has touches of {list_some(known, 20)}."
            f"{nearest(str(unknown[0]), known) if unknown else ''}"
        )
    return tuple(dict.fromkeys(channels))


def _past_channels(log: Log, clock: _Clock) -> tuple[str, ...]:
    found = log.tables.collect(f"SELECT DISTINCT __channel AS c FROM {log.touches} WHERE {clock.before('__at')}")
    return tuple(sorted(map(str, found["c"])))


def _frame_sql(
    log: Log, units: str, clock: _Clock, n_covariates: int, channels: Sequence[str], past: Sequence[str]
) -> str:
    """A row per user: touches by channel in the period and before, conversions before and after."""
    text = log.tables.dialect.literal
    during = f"__at >= {clock.start} AND __at < {clock.end}"
    before, bought = clock.before("__at"), clock.before("__t")
    after = f"__t >= {clock.end} AND __t < {clock.last}"
    touched = [f"MAX(CASE WHEN {during} AND __channel = {text(c)} THEN 1 ELSE 0 END)" for c in channels]
    earlier = [f"COUNT(CASE WHEN {before} AND __channel = {text(c)} THEN 1 END)" for c in past]
    of_touches = [
        *_aliased(touched, "__d"),
        *_aliased(earlier, "__b"),
        f"MAX(CASE WHEN {before} THEN __at END) AS __at",
    ]
    counts = [f"SUM(CASE WHEN {when} THEN __n ELSE 0 END)" for when in (bought, after)]
    values = []
    if len(log.weights) > 1:
        values = [
            exact_sum(f"(CASE WHEN {when} THEN __v ELSE 0e0 END)", log.weights[1].reach, log.rows)
            for when in (bought, after)
        ]
    of_conversions = [
        *_aliased(counts, "__c"), *_aliased(values, "__v"), f"MAX(CASE WHEN {bought} THEN __t END) AS __ct"
    ]  # fmt: skip
    filled = [f"COALESCE(t.{name}, 0) AS {name}" for name in (
        *(f"__d{i}" for i in range(len(touched))), *(f"__b{i}" for i in range(len(earlier))))]  # fmt: skip
    filled += [f"COALESCE(c.__c{i}, 0) AS __c{i}" for i in range(2)]
    filled += [f"COALESCE(c.__v{i}, 0e0) AS __v{i}" for i in range(len(values))]
    since = [
        f"({clock.start} - {time}) / {_DAY_US}e0 AS {name}" for time, name in (("t.__at", "__st"), ("c.__ct", "__sc"))
    ]
    given = [f"u.__x{i}" for i in range(n_covariates)]
    return (
        f"SELECT u.__u, {', '.join([*given, *filled, *since])} FROM {units} u "
        f"LEFT JOIN (SELECT __u, {', '.join(of_touches)} FROM {log.touches} GROUP BY __u) t ON t.__u = u.__u "
        f"LEFT JOIN (SELECT __u, {', '.join(of_conversions)} FROM {log.conversions} GROUP BY __u) c ON c.__u = u.__u "
        "ORDER BY u.__u"
    )


def _aliased(expressions: Sequence[str], name: str) -> list[str]:
    return [f"{expression} AS {name}{i}" for i, expression in enumerate(expressions)]


def _named(
    table: pd.DataFrame,
    user: str,
    covariates: tuple[str, ...],
    channels: Sequence[str],
    past: Sequence[str],
    with_value: bool,
) -> tuple[pd.DataFrame, tuple[str, ...], tuple[str, ...]]:
    """The frame under public names, which of its columns are known before the period, and which of these are counts."""
    given = {f"__x{i}": c for i, c in enumerate(covariates)}
    earlier = {f"__b{i}": f"touches_before_{c}" for i, c in enumerate(past)}
    history = {**earlier, "__c0": "conversions_before", **({"__v0": "value_before"} if with_value else {}),
               "__st": "days_since_touch", "__sc": "days_since_conversion"}  # fmt: skip
    names = {
        "__u": user, **given, **{f"__d{i}": f"touched_{c}" for i, c in enumerate(channels)}, **history,
        "__c1": "conversions_after", **({"__v1": "value_after"} if with_value else {}),
    }  # fmt: skip
    taken = [c for c in names.values() if list(names.values()).count(c) > 1]
    if taken:
        raise ColumnError(f"users: the column {taken[0]!r} has a name that the result needs. Rename it.")
    frame = table[list(names)].rename(columns=names)
    whole = [names[c] for c in table.columns if c.startswith(("__d", "__b", "__c"))]
    before = (*given.values(), *history.values())
    return frame.astype(dict.fromkeys(whole, np.int64)), before, (*earlier.values(), history["__c0"])
