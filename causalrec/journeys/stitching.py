"""Stitching: each later event to the latest earlier one that preceded it, of the same user or item, on either engine.

The rule, once for all functions here. An earlier event **precedes** a later one of the same keys if it is at the same
time or before (only before with ``strict``), and by no more than the tolerance: **exactly the tolerance still counts**,
and a tolerance of zero links events at the same time alone. Of those that precede, the latest is taken; of several at
one time the one that comes last by ``order_by`` and then by all columns, so results never depend on the order of
rows. Rows with a null among their keys or as their time are never linked: later ones are kept, without a match. An
earlier event may be linked to several later ones.
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
from causalrec.exceptions import ColumnError, ConfigError
from causalrec.journeys._links import Stage, chained_sql
from causalrec.journeys._pairs import nearest_places, stage_rows
from causalrec.journeys._tables import ROW, Duration, Table, Tables, in_memory, open_tables, parse_duration

_STAGES = ("view", "click", "cart", "purchase")


def as_of(
    later: Any,
    earlier: Any,
    tolerance: Duration | None,
    *,
    by: str | Sequence[str] = "user_id",
    event_time: str = "event_time",
    earlier_time: str | None = None,
    prefix: str = "earlier",
    order_by: str | Sequence[str] = (),
    strict: bool = False,
    engine: Engine | None = None,
) -> Any:
    """Each later event with the latest earlier one that precedes it within a tolerance.

    Parameters
    ----------
    later, earlier : table
        pandas, Polars or Arrow tables, Spark DataFrames, paths of Parquet or CSV files, or names of tables of
        ``engine``.
    tolerance : str or timedelta or None
        How long before, as ``"7d"``; exactly this still counts. None is any time.
    by : str or sequence of str
        Columns that must be equal, of the same names in both tables.
    event_time : str
        The column of times, of the later table and, unless ``earlier_time`` is given, of the earlier one. Naive times
        are UTC.
    prefix : str
        Of the earlier event's columns in the result, as in ``earlier_event_time``.
    order_by : str or sequence of str
        Columns of the earlier table that order events at equal times; the last is taken.
    strict : bool
        Whether an earlier event at the same time does not count.
    engine : Engine, optional
        By default the one that the tables belong to.

    Returns
    -------
    table
        The columns of ``later``, and those of the earlier event but the keys, null where there is none. Later frames
        in memory keep their rows, their order and, in pandas, their index; Spark DataFrames stay so, files come as
        pandas. Integers and booleans among nulls are as the engines give them.

    Raises
    ------
    ColumnError
        For a column that is missing, keys of two types, or names that would appear twice.
    TimeError
        For times that are no timestamps, and a tolerance that is no duration.
    EngineError
        For a table that cannot be read.

    Examples
    --------
    >>> mails = pd.DataFrame({"user_id": [1, 1], "event_time": pd.to_datetime(["2026-01-01", "2026-01-05"]),
    ...                       "mail": ["a", "b"]})
    >>> orders = pd.DataFrame({"user_id": [1, 1, 2], "event_time": pd.to_datetime(["2026-01-04", "2026-01-09",
    ...                                                                            "2026-01-09"])})
    >>> as_of(orders, mails, "3d", prefix="mail")["mail_mail"].fillna("none").tolist()
    ['a', 'none', 'none']
    """
    sources = {"later": later, "earlier": earlier}
    keys, order = _names(by, "by"), _names(order_by, "order_by")
    tolerance_us = _tolerance(tolerance)
    with _opened(sources, engine) as tables:
        base = _stage("later", tables["later"], event_time, keys, ())
        stage = _stage(prefix, tables["earlier"], earlier_time or event_time, keys, order)
        return _stitched(tables, base, [stage], keys, tolerance_us, strict)


def stitch(
    views: Any,
    clicks: Any = None,
    carts: Any = None,
    purchases: Any = None,
    tolerance: Duration | None = "7d",
    *,
    by: str | Sequence[str] = ("user_id", "item_id"),
    event_time: str = "event_time",
    order_by: str | Sequence[str] = (),
    strict: bool = False,
    engine: Engine | None = None,
) -> Any:
    """The journey that led to each purchase: its cart, the click before that, the view before that.

    The last table that is given is the one whose events are followed back. A purchase is linked to the latest cart
    that precedes it within the tolerance, that cart to the latest click that precedes it, that click to the latest
    view. Where a step finds nothing, its columns are null and the next step starts from the same event as it did: a
    purchase without a cart may still have a click. Times along a journey therefore never run backwards.

    Parameters
    ----------
    views, clicks, carts, purchases : table
        As :func:`as_of` takes them; leave out what there is none of, but give two.
    tolerance : str or timedelta or None
        The longest time between two linked events; exactly this still counts. None is any time.
    by : str or sequence of str
        Columns that must be equal: by default the same user and item; ``"user_id"`` links over items.
    event_time : str
        The column of times in each table.
    order_by : str or sequence of str
        Columns, of every table but the last, that order events at equal times.
    strict : bool
        Whether events at the same time do not count as one after the other.

    Returns
    -------
    table
        A row per event of the last table: its columns, then those of the linked events but the keys, as
        ``cart_event_time`` or ``view_<column>``, null where there is none. Kinds of tables as in :func:`as_of`.
        :func:`count_stitched` counts what was found.

    Raises
    ------
    ConfigError
        For fewer than two tables.
    ColumnError, TimeError, EngineError
        As :func:`as_of`.

    Examples
    --------
    >>> def log(*times, **more):
    ...     return pd.DataFrame({"user_id": "ann", "item_id": 7, "event_time": pd.to_datetime(list(times)), **more})
    >>> views = log("2026-01-01 10:00", "2026-01-01 10:09", position=[3, 1])
    >>> carts, orders = log("2026-01-01 10:05"), log("2026-01-01 10:20", "2026-02-01 09:00")
    >>> found = stitch(views, carts=carts, purchases=orders, tolerance="1d")
    >>> found["view_position"].tolist(), found["cart_event_time"].notna().tolist()
    ([3.0, nan], [True, False])
    """
    given = {name: table for name, table in zip(_STAGES, (views, clicks, carts, purchases), strict=True)
             if table is not None}  # fmt: skip
    if len(given) < 2:
        raise ConfigError(
            f"found {list_some(given) or 'no'} events alone; expected two or more of views, clicks, carts, purchases."
        )
    keys, order = _names(by, "by"), _names(order_by, "order_by")
    tolerance_us = _tolerance(tolerance)
    names = list(given)
    with _opened({f"{name}s": table for name, table in given.items()}, engine) as tables:
        stages = [_stage(n, tables[f"{n}s"], event_time, keys, order if n != names[-1] else ()) for n in names]
        return _stitched(tables, stages[-1], stages[-2::-1], keys, tolerance_us, strict)


def stitch_events(
    events: Any,
    tolerance: Duration | None = "7d",
    *,
    stages: Sequence[str] = _STAGES,
    event_type: str = "event_type",
    by: str | Sequence[str] = ("user_id", "item_id"),
    event_time: str = "event_time",
    order_by: str | Sequence[str] = (),
    strict: bool = False,
    engine: Engine | None = None,
) -> Any:
    """:func:`stitch` of one log, whose column ``event_type`` says what each event is.

    Parameters
    ----------
    events : table
    stages : sequence of str
        Types from the first of a journey to the last, whose events are followed back; other types are left out.
    event_type : str
        A column of text.
    tolerance, by, event_time, order_by, strict, engine
        As :func:`stitch` takes them.

    Returns
    -------
    table
        A row per event of the last type, as :func:`stitch` gives it.

    Raises
    ------
    ConfigError
        For fewer than two stages, or one that appears twice.
    ColumnError, TimeError, EngineError
        As :func:`as_of`.

    Examples
    --------
    >>> log = pd.DataFrame({"user_id": 1, "item_id": 7, "event_type": ["view", "purchase"],
    ...                     "event_time": pd.to_datetime(["2026-01-01", "2026-01-03"])})
    >>> stitch_events(log, "2d", stages=["view", "purchase"])["view_event_time"].astype(str).tolist()
    ['2026-01-01']
    """
    names = _names(stages, "stages")
    if len(names) < 2 or len(set(names)) < len(names):
        raise ConfigError(f"stages are {names!r}; expected two or more types of events, each once, as 'view'.")
    keys, order = _names(by, "by"), _names(order_by, "order_by")
    tolerance_us = _tolerance(tolerance)
    with _opened({"events": events}, engine) as tables:
        log = tables["events"]
        log.check([event_type])
        if log.kinds[event_type] != "string":
            raise ColumnError(f"events: {event_type!r} is {log.kinds[event_type]}; expected text. Convert it first.")
        parts = [_stage(name, log, event_time, keys, order, event_type) for name in names]
        return _stitched(tables, parts[-1], parts[-2::-1], keys, tolerance_us, strict)


def count_stitched(
    stitched: Any, stages: Sequence[str] = _STAGES[:3], *, event_time: str = "event_time", engine: Engine | None = None
) -> pd.DataFrame:
    """How many rows of a result of :func:`stitch` are linked to an event of each stage, and how many are not.

    Parameters
    ----------
    stitched : table
    stages : sequence of str
        Those without a column ``<stage>_<event_time>`` are left out.

    Returns
    -------
    DataFrame
        By stage: ``stage``, ``n``, ``n_matched``, ``n_unmatched``, ``share_matched`` (NaN of no rows).

    Raises
    ------
    ColumnError
        If no stage has a column.

    Examples
    --------
    >>> count_stitched(pd.DataFrame({"view_event_time": pd.to_datetime(["2026-01-01", None])})).values.tolist()
    [['view', 2, 1, 1, 0.5]]
    """
    with open_tables({"stitched": stitched}, engine=engine) as tables:
        table = tables["stitched"]
        found = [name for name in stages if f"{name}_{event_time}" in table.kinds]
        if not found:
            table.check([f"{stages[0]}_{event_time}"] if stages else [])
        counts = ", ".join(f"COUNT({table.column(f'{n}_{event_time}')}) AS n{i}" for i, n in enumerate(found))
        row = tables.collect(f"SELECT COUNT(*) AS n, {counts} FROM {table.sql}").iloc[0]
    n, matched = int(row["n"]), [int(row[f"n{i}"]) for i in range(len(found))]
    made = {"stage": found, "n": n, "n_matched": matched, "n_unmatched": [n - m for m in matched]}
    return pd.DataFrame({**made, "share_matched": [m / n if n else np.nan for m in matched]})


def _opened(sources: dict[str, Any], engine: Engine | None) -> Any:
    """Rows are numbered where all are in memory; elsewhere their columns go through the query."""
    return open_tables(sources, engine=engine, numbered=all(map(in_memory, sources.values())))


def _stage(
    name: str, table: Table, time: str, by: Sequence[str], order_by: Sequence[str], event_type: str | None = None
) -> Stage:
    table.check([*by, *order_by], times=[time])
    dropped = (*by, ROW) if event_type is None else (*by, ROW, event_type)
    columns = [c for c in table.kinds if c not in dropped]
    condition = None if event_type is None else f"{table.column(event_type, 'src')} = {table.dialect.literal(name)}"
    return Stage(name, table, time, columns, tuple(order_by), condition)


def _stitched(
    tables: Tables, base: Stage, stages: Sequence[Stage], by: Sequence[str], tolerance_us: int | None, strict: bool
) -> Any:
    own = [c for c in base.table.kinds if c != ROW]
    base = Stage(base.name, base.table, base.time, own, base.order_by, base.condition)
    _check_names(own, stages)
    for stage in stages:
        _check_keys(base, stage, by)
    if not base.table.numbered:
        return tables.frame(chained_sql(base, stages, by, tolerance_us, strict=strict))
    places = nearest_places(tables, base, stages, by, tolerance_us, strict=strict)
    rows = None if base.condition is None else stage_rows(tables, base)
    taken = [_taken(stage, p if rows is None else p[rows]) for stage, p in zip(stages, places, strict=True)]
    return tables.beside(base.table, pd.concat(taken, axis=1), rows)


def _taken(stage: Stage, places: IntArray) -> pd.DataFrame:
    """The rows of a stage at places, nulls at -1, by the names of the result."""
    import pyarrow as pa

    columns = list(stage.columns)
    taken = stage.table.arrow.select(columns).take(pa.array(places, mask=places < 0))
    return arrow_to_pandas(taken.rename_columns([f"{stage.name}_{c}" for c in columns]))


def _check_names(own: Sequence[str], stages: Sequence[Stage]) -> None:
    """Raise :class:`ColumnError` where the result would have a name twice, in any case of letters."""
    names = [*own, *(f"{stage.name}_{c}" for stage in stages for c in stage.columns)]
    low = [name.lower() for name in names]
    doubled = sorted({name for name in names if low.count(name.lower()) > 1})
    if doubled:
        raise ColumnError(f"the result would have {list_some(doubled)} twice. Rename that column in one of the tables.")


def _check_keys(base: Stage, stage: Stage, by: Sequence[str]) -> None:
    """Raise :class:`ColumnError` where a key has two types, so that equal ones could be missed."""
    for key in by:
        one, other = base.table.kinds[key], stage.table.kinds[key]
        if one != other:
            raise ColumnError(
                f"key {key!r} is {one} in {base.table.label} and {other} in {stage.table.label}. Convert one of them."
            )


def _names(value: str | Sequence[str], what: str) -> list[str]:
    """One or several names as a list; ``by`` needs one."""
    listed = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if not all(isinstance(each, str) for each in listed) or (what == "by" and not listed):
        raise ColumnError(f"{what} is {value!r}; expected the name of a column, or several.")
    return listed


def _tolerance(tolerance: Duration | None) -> int | None:
    return None if tolerance is None else parse_duration(tolerance, name="tolerance")
