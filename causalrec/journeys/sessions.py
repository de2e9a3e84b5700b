"""Sessions: events of a user with no longer pause between them than a gap, on either engine.

The rule, once for all functions here: an event starts a new session if it is the user's first, or if more than ``gap``
has passed since the user's event before it. **A pause of exactly the gap stays in the session.** Events at equal times
are always in one session, so numbers do not depend on the order of rows; where an order within a session matters
(the event of entry and of exit), ties are broken by ``order_by`` and then by all columns.

Events without a user or a time belong to no session: :func:`sessionize` keeps them, with nulls; the others leave
them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from causalrec._typing import IntArray
from causalrec._validation import list_some
from causalrec.engines import Engine
from causalrec.engines.arrow import arrow_to_pandas
from causalrec.exceptions import ColumnError, TimeError
from causalrec.journeys._arrays import Sessions, key_codes, number_sessions
from causalrec.journeys._tables import ROW, Duration, Table, Tables, open_tables, parse_duration

_MOST_TYPES = 200
_OWN = ("session_id", "session_number")
_OF_SESSIONS = (
    *_OWN, "session_start", "session_end", "duration_seconds", "n_events", "bounce", "entry_event", "exit_event"
)  # fmt: skip
_OF_USERS = ("n_sessions", "mean_events", "mean_duration_seconds", "bounce_rate", "last_session_end")
_HIDDEN = ("__session_id", "__session_number")


def sessionize(
    events: Any,
    gap: Duration,
    *,
    user: str = "user_id",
    event_time: str = "event_time",
    engine: Engine | None = None,
) -> Any:
    """The events with the session that each belongs to.

    Parameters
    ----------
    events : table
        pandas, Polars or Arrow table, Spark DataFrame, path of Parquet or CSV files, or the name of a table of
        ``engine``.
    gap : str or timedelta
        The longest pause within a session, as ``"30m"``; a pause of exactly this length stays in the session.
    user, event_time : str
        Columns. Naive times are UTC.
    engine : Engine, optional
        By default the one that the table belongs to.

    Returns
    -------
    table
        The columns of ``events``, then ``session_id`` (the user and the number, as ``"ann-2"``: unique) and
        ``session_number`` (from 1 for each user, in time). Frames in memory keep their rows, their order and, in
        pandas, their index; Spark DataFrames stay Spark DataFrames, and files come as pandas.

    Raises
    ------
    ColumnError
        For a column that is missing, or one that is called as those of the result.
    TimeError
        For times that are no timestamps, and a gap that is no duration.
    EngineError
        For a table that cannot be read.

    Examples
    --------
    >>> log = pd.DataFrame({
    ...     "user_id": ["ann", "ann", "bob", "ann"],
    ...     "event_time": pd.to_datetime(["2026-01-01 10:00", "2026-01-01 10:30", "2026-01-01 10:00",
    ...                                   "2026-01-02 09:00"]),
    ... })
    >>> sessionize(log, "30m")["session_id"].tolist()
    ['ann-1', 'ann-1', 'bob-1', 'ann-2']
    """
    gap_us = parse_duration(gap, name="gap")
    with open_tables({"events": events}, engine=engine, numbered=True) as tables:
        log = tables["events"]
        log.check([user], times=[event_time])
        log.check_free(_OWN)
        if not log.numbered:
            return tables.frame(_numbered_sql(log, gap_us, user, event_time, list(log.kinds)))
        return tables.beside(log, _numbered(tables, log, gap_us, user, event_time))


def sessions(
    events: Any,
    gap: Duration,
    *,
    user: str = "user_id",
    event_time: str = "event_time",
    event_type: str | None = None,
    order_by: str | None = None,
    engine: Engine | None = None,
) -> Any:
    """One row per session: when it was, how long and deep it went, how it began and ended.

    Parameters
    ----------
    events, gap, user, event_time, engine
        As :func:`sessionize` takes them.
    event_type : str, optional
        A column of text; adds a count of each type and the types of the first and last event.
    order_by : str, optional
        A column that orders events at equal times; ties beyond it are broken by all columns.

    Returns
    -------
    table
        By user and number: the user, ``session_id``, ``session_number``, ``session_start``, ``session_end`` (times),
        ``duration_seconds``, ``n_events``, ``bounce`` (a single event); with ``event_type`` also ``entry_event``,
        ``exit_event`` and ``n_<type>`` for each type, in the order of the alphabet.

    Raises
    ------
    ColumnError, TimeError, EngineError
        As :func:`sessionize`; also for more than 200 types of events, or types whose counts cannot be told apart.

    Examples
    --------
    >>> log = pd.DataFrame({
    ...     "user_id": [1, 1, 1],
    ...     "event_time": pd.to_datetime(["2026-01-01 10:00", "2026-01-01 10:20", "2026-01-02 10:00"]),
    ...     "event_type": ["view", "cart", "view"],
    ... })
    >>> found = sessions(log, "30m", event_type="event_type")
    >>> found[["duration_seconds", "n_events", "bounce", "exit_event", "n_cart"]].values.tolist()
    [[1200.0, 2, False, 'cart', 1], [0.0, 1, True, 'view', 0]]
    """
    gap_us = parse_duration(gap, name="gap")
    with open_tables({"events": events}, engine=engine) as tables:
        log = tables["events"]
        log.check([user, event_type, order_by], times=[event_time])
        _check_user(user, _OF_SESSIONS)
        types = _types(tables, log, event_type, user)
        order = [c for c in (order_by,) if c is not None]
        sql = _sessions_sql(log, gap_us, user, event_time, event_type, types, order)
        return tables.frame(f"SELECT * FROM ({sql}) s ORDER BY {log.column(user)}, session_number")


def session_features(
    events: Any,
    gap: Duration,
    *,
    as_of: Any = None,
    user: str = "user_id",
    event_time: str = "event_time",
    engine: Engine | None = None,
) -> Any:
    """One row per user: how many sessions, how long and deep on average, and how many of them bounced.

    Parameters
    ----------
    events, gap, user, event_time, engine
        As :func:`sessionize` takes them.
    as_of : timestamp or text, optional
        Only events strictly before it count, as in the feature store: a session that goes on is cut there, and
        nothing at or after it changes the result. Naive times are UTC.

    Returns
    -------
    table
        By user: the user, ``n_sessions``, ``mean_events``, ``mean_duration_seconds``, ``bounce_rate`` and
        ``last_session_end``; users without an event are not in it.

    Raises
    ------
    ColumnError, TimeError, EngineError
        As :func:`sessionize`; :class:`TimeError` also for an ``as_of`` that is no time.

    Examples
    --------
    >>> log = pd.DataFrame({"user_id": [1, 1, 1], "event_time": pd.to_datetime(["2026-01-01 00:00",
    ...                     "2026-01-02 00:00", "2026-01-02 00:10"])})
    >>> found = session_features(log, "30m", as_of="2026-01-03")
    >>> found[["n_sessions", "mean_events", "mean_duration_seconds", "bounce_rate"]].values.tolist()
    [[2.0, 1.5, 300.0, 0.5]]
    """
    gap_us = parse_duration(gap, name="gap")
    until = None if as_of is None else _as_micros(as_of)
    with open_tables({"events": events}, engine=engine) as tables:
        log = tables["events"]
        log.check([user], times=[event_time])
        _check_user(user, _OF_USERS)
        u = log.column(user)
        each = _sessions_sql(log, gap_us, user, event_time, None, [], [], until=until, exact=True)
        return tables.frame(
            f"SELECT {u}, COUNT(*) AS n_sessions, AVG(CAST(n_events AS DOUBLE)) AS mean_events, "
            "CAST(SUM(__us) AS DOUBLE) / 1e6 / COUNT(*) AS mean_duration_seconds, "
            "AVG(CASE WHEN bounce THEN 1e0 ELSE 0e0 END) AS bounce_rate, MAX(session_end) AS last_session_end "
            f"FROM ({each}) s GROUP BY {u} ORDER BY {u}"
        )


def _numbered_sql(
    log: Table, gap_us: int, user: str, event_time: str, columns: Sequence[str], *, until: int | None = None,
    homeless: bool = True, called: tuple[str, str] = _OWN,
) -> str:  # fmt: skip
    """The events' columns, session_id and session_number; ``homeless`` keeps those without a user or a time.

    A running count over RANGE counts all events at a time at once, so ties cannot part.
    """
    u, t = log.column(user, "src"), log.micros(event_time, "src")
    known = f"{u} IS NOT NULL AND {log.column(event_time, 'src')} IS NOT NULL"
    before = "" if until is None else f" AND {t} < {until}"
    kept = "".join(f"{log.column(c, 'src')}, " for c in columns)
    named = ", ".join(log.column(c) for c in columns)
    ordered = "OVER (PARTITION BY __u ORDER BY __t)"
    starts = f"CASE WHEN __t - LAG(__t) {ordered} <= {gap_us} THEN NULL ELSE 1 END AS __new"
    events = f"SELECT {kept}{u} AS __u, {t} AS __t FROM {log.sql} src WHERE {known}{before}"
    sid, number = called
    counted = f"SELECT *, COUNT(__new) {ordered} AS __number FROM (SELECT *, {starts} FROM ({events}) a) b"
    made = f"concat(CAST(__u AS STRING), '-', CAST(__number AS STRING)) AS {sid}, __number AS {number}"
    rest = ", CAST(NULL AS STRING), CAST(NULL AS BIGINT)"
    others = f" UNION ALL SELECT {kept[:-2]}{rest} FROM {log.sql} src WHERE NOT ({known})" if homeless else ""
    return f"SELECT {named}, {made} FROM ({counted}) c{others}"


def _sessions_sql(
    log: Table, gap_us: int, user: str, event_time: str, event_type: str | None, types: Sequence[str],
    order_by: Sequence[str], *, until: int | None = None, exact: bool = False,
) -> str:  # fmt: skip
    """One row per session; ``exact`` adds its length in microseconds, whose sum is the same in any order."""
    d, u = log.dialect, log.column(user)
    columns = list(log.kinds) if event_type is not None else [user, event_time]
    events = _numbered_sql(log, gap_us, user, event_time, columns, until=until, homeless=False, called=_HIDDEN)
    time = log.micros(event_time)
    start, end = f"MIN({time})", f"MAX({time})"
    made = [
        u, "__session_id AS session_id", "__session_number AS session_number",
        f"{d.from_epoch_us(start)} AS session_start",
        f"{d.from_epoch_us(end)} AS session_end",
        f"({end} - {start}) / 1e6 AS duration_seconds",
        "COUNT(*) AS n_events", "COUNT(*) = 1 AS bounce",
    ]  # fmt: skip
    if exact:
        made.append(f"{end} - {start} AS __us")
    if event_type is not None:
        within = f"PARTITION BY {u}, __session_number"
        ties = log.total_order([event_time, *order_by])
        place = f"row_number() OVER ({within} ORDER BY {ties[2:]}) AS __place"
        events = f"SELECT *, {place}, COUNT(*) OVER ({within}) AS __n FROM ({events}) e"
        kind = log.column(event_type)
        made.append(f"MAX(CASE WHEN __place = 1 THEN {kind} END) AS entry_event")
        made.append(f"MAX(CASE WHEN __place = __n THEN {kind} END) AS exit_event")
        made += [f"COUNT(CASE WHEN {kind} = {d.literal(x)} THEN 1 END) AS {d.quote(f'n_{x}')}" for x in types]
    return f"SELECT {', '.join(made)} FROM ({events}) s GROUP BY {u}, __session_id, __session_number"


def _check_user(user: str, names: Sequence[str]) -> None:
    """Raise :class:`ColumnError` where the result has another column of that name, in any case of letters."""
    if user.lower() in names:
        raise ColumnError(f"events: the users' column is {user!r}, as one of the result. Rename it.")


def _types(tables: Tables, log: Table, event_type: str | None, user: str) -> list[str]:
    """The types of events, sorted, whose counts become columns."""
    if event_type is None:
        return []
    if log.kinds[event_type] != "string":
        raise ColumnError(f"events: {event_type!r} is {log.kinds[event_type]}; expected text. Convert it first.")
    column = log.column(event_type)
    listed = f"SELECT DISTINCT {column} AS kind FROM {log.sql} WHERE {column} IS NOT NULL LIMIT {_MOST_TYPES + 1}"
    types = sorted(tables.collect(listed)["kind"])
    if len(types) > _MOST_TYPES:
        raise ColumnError(f"events: {event_type!r} has more than {_MOST_TYPES} values. Is it the column of types?")
    own = {"n_events", user.lower()}
    low = [f"n_{each}".lower() for each in types]
    odd = [each for each, name in zip(types, low, strict=True) if low.count(name) > 1 or name in own]
    if odd:
        raise ColumnError(f"events: the types {list_some(odd)} give columns n_<type> of names taken. Rename them.")
    return types


def _numbered(tables: Tables, log: Table, gap_us: int, user: str, event_time: str) -> pd.DataFrame:
    """session_id and session_number of numbered rows, in their order: by sorted arrays where the users allow it."""
    codes = key_codes([[log.arrow.column(user)]])
    if codes is None:
        return _in_places(tables.collect(_numbered_sql(log, gap_us, user, event_time, [ROW])))
    time, known = tables.times(log, event_time)
    known &= codes[0] >= 0
    rows = None if known.all() else np.flatnonzero(known)
    code, time = (codes[0], time) if rows is None else (codes[0][rows], time[rows])
    return _of_sessions(log.arrow.column(user), rows, number_sessions(code, time, gap_us))


def _of_sessions(users: Any, rows: IntArray | None, found: Sessions) -> pd.DataFrame:
    """Ids and numbers of all rows, of which ``rows`` are in the sessions found; nulls elsewhere."""
    import pyarrow as pa
    import pyarrow.compute as pc

    first = found.event if rows is None else rows[found.event]
    texts = [pc.cast(each, pa.large_string()) for each in (users.take(pa.array(first)), pa.array(found.number))]
    ids = pc.binary_join_element_wise(*texts, pa.scalar("-", pa.large_string()))
    if rows is None:
        session = pa.array(found.session)
    else:
        places = np.full(len(users), -1, dtype=np.int64)
        places[rows] = found.session
        session = pa.array(places, mask=places < 0)
    return arrow_to_pandas(
        pa.table({"session_id": pc.take(ids, session), "session_number": pc.take(pa.array(found.number), session)})
    )


def _in_places(found: pd.DataFrame) -> pd.DataFrame:
    """What was found of numbered rows, in the order of the rows."""
    places = np.empty(len(found), dtype=np.int64)
    places[found[ROW].to_numpy()] = np.arange(len(found))
    return found.drop(columns=ROW).take(places)


def _as_micros(moment: Any) -> int:
    """A time in UTC microseconds."""
    try:
        stamp = pd.Timestamp(moment)
    except (TypeError, ValueError) as error:
        raise TimeError(f"as_of is {moment!r}; expected a time, as '2026-01-31' (naive ones are UTC).") from error
    if isinstance(moment, bool | int | float) or pd.isna(stamp):
        raise TimeError(f"as_of is {moment!r}; expected a time, as '2026-01-31' (naive ones are UTC).")
    naive = stamp.tz_convert(None) if stamp.tzinfo is not None else stamp
    return int((naive - pd.Timestamp(0)) // pd.Timedelta(1, "us"))
