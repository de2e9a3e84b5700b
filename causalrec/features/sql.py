"""A feature set as one SQL text, the same for every engine but for the dialect's named hooks.

Events and the rows that ask for features are put in one table, sorted by key and time once, and every feature is a
window over it: ``[t - w, t)`` is RANGE BETWEEN w PRECEDING AND 1 PRECEDING on integer microseconds.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from causalrec._validation import check_columns
from causalrec.engines import Dialect, Engine, Kind
from causalrec.exceptions import ColumnError, ConfigError, EngineError, TimeError
from causalrec.features.spec import OUTCOME_OPERATIONS, Aggregation, FeatureSet, parse_window

ROW = "__row"
_DAY_US = 86_400_000_000
_NUMERIC = ("integer", "float", "boolean")
_AGGREGATES = {"count": "COUNT", "mean": "AVG", "min": "MIN", "max": "MAX", "std": "STDDEV_SAMP"}


def check_features(features: FeatureSet, engine: Engine) -> None:
    """Raise where a set does not fit its event table.

    Raises
    ------
    ColumnError
        For a column that is missing or has a type that the operation cannot use.
    TimeError
        For times that are no timestamps.
    ConfigError
        For a condition that the engine cannot plan, with its message.
    """
    where = f"feature set {features.name!r}, table {features.source!r}"
    events = engine.columns(features.source)
    needed = [*features.keys, features.time_column, *features.order_by]
    check_columns(events, [*needed, *(a.column for a in features.aggregations if a.column)], where=where)
    check_time_kind(events[features.time_column], features.time_column, where=where)
    for aggregation in features.aggregations:
        kind = events[aggregation.column] if aggregation.column else "integer"
        if aggregation.op in ("sum", "mean", "std") and kind not in _NUMERIC:
            raise ColumnError(f"{where}: {aggregation.op} needs numbers, but {aggregation.column!r} is {kind}.")
    for condition in dict.fromkeys(a.where for a in features.aggregations if a.where):
        _check_condition(condition, features.source, engine, where=where)


def _check_condition(condition: str, source: str, engine: Engine, *, where: str) -> None:
    view = f"condition_{uuid.uuid4().hex[:8]}"
    try:
        engine.create_view(view, f"SELECT 1 AS one FROM {engine.dialect.quote(source)} WHERE ({condition})")
    except EngineError as error:
        raise ConfigError(f"{where}: the condition {condition!r} is not understood: {error}") from error
    engine.drop(view)


def check_keys(features: FeatureSet, spine: Mapping[str, Kind], events: Mapping[str, Kind]) -> None:
    """Raise :class:`ColumnError` where a key has another type in the spine than in the events."""
    for key in features.keys:
        if spine[key] != events[key]:
            raise ColumnError(
                f"feature set {features.name!r}: key {key!r} is {spine[key]} in the spine and {events[key]} in table "
                f"{features.source!r}, so that equal keys could be missed. Convert one of them first."
            )


def check_time_kind(kind: str, column: str, *, where: str) -> None:
    """Raise :class:`TimeError` unless a column holds timestamps or dates."""
    if kind not in ("timestamp", "timestamptz", "date"):
        raise TimeError(
            f"{where}: {column!r} is {kind}; expected timestamps (naive ones are UTC). Convert it first, e.g. "
            "pd.to_datetime(…, utc=True)."
        )


def feature_sql(features: FeatureSet, spine: str, event_time: str, engine: Engine, *, ahead: bool = False) -> str:
    """The query that gives one row per spine row, numbered ``__row``, with all features of the set.

    ``ahead=True`` looks at ``[t, t + w)`` instead, for outcomes. Events with a null key or time are left out.
    """
    d = engine.dialect
    kinds = engine.columns(features.source)
    numbered = list(enumerate(features.aggregations))
    # Names of our own from here on: a column of the events may be called anything.
    keys = [f"__k{i}" for i in range(len(features.keys))]
    named = ", ".join(f"{d.quote(k)} AS {name}" for k, name in zip(features.keys, keys, strict=True))
    columns = ", ".join(keys)
    time = d.epoch_us(d.quote(features.time_column))
    values = ", ".join(f"{_value(a, d, kinds)} AS __v{i}" for i, a in numbered)
    numbers = ", ".join(f"__v{i}" for i, _ in numbered)
    nulls = ", ".join(f"NULL AS __v{i}" for i, _ in numbered)
    windows = ", ".join(f"{_windowed(i, a, d, columns, ahead=ahead)} AS __f{i}" for i, a in numbered)
    known = " AND ".join(f"{d.quote(c)} IS NOT NULL" for c in (*features.keys, features.time_column))
    looked_up = [i for i, a in numbered if a.op in ("first", "last")]
    order = f", row_number() OVER ({_total_order(features, kinds, d, time)}) AS __o" if looked_up else ""
    o, no_o = (", __o", ", NULL AS __o") if looked_up else ("", "")
    final = ", ".join(f"{f'j{i}.__v{i}' if i in looked_up else f'w.__f{i}'} AS {d.quote(a.label)}" for i, a in numbered)
    joins = " ".join(
        f"LEFT JOIN e AS j{i} ON {' AND '.join(f'j{i}.{k} = w.{k}' for k in keys)} AND j{i}.__o = w.__f{i}"
        for i in looked_up
    )
    return (
        f"WITH e AS (SELECT {named}, {time} AS __t, {values}{order} FROM {d.quote(features.source)} WHERE {known}), "
        f"u AS (SELECT {columns}, __t, {numbers}{o}, CAST(NULL AS BIGINT) AS {ROW} FROM e "
        f"UNION ALL SELECT {named}, {d.epoch_us(d.quote(event_time))} AS __t, {nulls}{no_o}, {ROW} "
        f"FROM {d.quote(spine)}), "
        f"a AS (SELECT {columns}, {ROW}, {windows} FROM u), "
        f"w AS (SELECT * FROM a WHERE {ROW} IS NOT NULL) "
        f"SELECT w.{ROW} AS {ROW}, {final} FROM w {joins}"
    )


def _total_order(features: FeatureSet, kinds: Mapping[str, Kind], d: Dialect, time: str) -> str:
    """Events of a key in time, ties broken until only equal rows are left. Engines differ on where nulls go: say it."""
    keys = ", ".join(map(d.quote, features.keys))
    rest = [c for c in kinds if c not in (*features.keys, features.time_column, *features.order_by)]
    ties = "".join(f", {d.quote(c)} ASC NULLS FIRST" for c in (*features.order_by, *rest))
    return f"PARTITION BY {keys} ORDER BY {time}{ties}"


def _value(aggregation: Aggregation, d: Dialect, kinds: Mapping[str, Kind]) -> str:
    """What an event adds to an aggregate; null if it does not count."""
    value = "1"
    if aggregation.column:
        value = d.quote(aggregation.column)
        if aggregation.op in ("sum", "mean", "std"):
            kind = kinds[aggregation.column]
            value = f"CAST({value} AS {'DOUBLE' if kind == 'float' else 'BIGINT'})"
    return f"CASE WHEN ({aggregation.where}) THEN {value} END" if aggregation.where else value


def _windowed(i: int, aggregation: Aggregation, d: Dialect, keys: str, *, ahead: bool) -> str:
    over = f"(PARTITION BY {keys} ORDER BY __t RANGE BETWEEN {_frame(aggregation, ahead=ahead)})"
    v = f"__v{i}"
    if aggregation.op in _AGGREGATES:
        return f"{_AGGREGATES[aggregation.op]}({v}) OVER {over}"
    if aggregation.op == "sum":
        return f"COALESCE(SUM({v}) OVER {over}, 0)"
    if aggregation.op == "n_unique":
        return d.count_distinct(v, over)
    seen = f"CASE WHEN {v} IS NOT NULL THEN"
    if aggregation.op == "recency":
        return f"(__t - MAX({seen} __t END) OVER {over}) / {_DAY_US}e0"
    return f"{'MAX' if aggregation.op == 'last' else 'MIN'}({seen} __o END) OVER {over}"


def _frame(aggregation: Aggregation, *, ahead: bool) -> str:
    if not ahead:
        start = f"{parse_window(aggregation.window)} PRECEDING" if aggregation.window else "UNBOUNDED PRECEDING"
        return f"{start} AND 1 PRECEDING"
    if aggregation.window is None or aggregation.op not in OUTCOME_OPERATIONS:
        raise ColumnError(
            f"outcome {aggregation.label!r}: op {aggregation.op!r}, window {aggregation.window!r}; an outcome needs "
            f"a window and one of {', '.join(OUTCOME_OPERATIONS)}."
        )
    return f"CURRENT ROW AND {parse_window(aggregation.window) - 1} FOLLOWING"
