"""A feature set as one SQL text, the same for every engine but for the dialect's named hooks.

Events and the rows that ask for features are put in one table, sorted by key and time once, and every feature is a
window over it: ``[t - w, t)`` is RANGE BETWEEN w PRECEDING AND 1 PRECEDING on integer microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping

from causalrec._validation import check_columns
from causalrec.engines import Engine
from causalrec.exceptions import ColumnError, TimeError
from causalrec.features.spec import OUTCOME_OPERATIONS, Aggregation, FeatureSet, parse_window

ROW = "__row"
_DAY_US = 86_400_000_000
_NUMERIC = ("integer", "float", "boolean")


def check_features(features: FeatureSet, events: Mapping[str, str]) -> None:
    """Raise where a column is missing, has a type that the operation cannot use, or times are no timestamps."""
    where = f"feature set {features.name!r}, table {features.source!r}"
    needed = [*features.keys, features.time_column, *features.order_by]
    check_columns(events, [*needed, *(a.column for a in features.aggregations if a.column)], where=where)
    check_time_kind(events[features.time_column], features.time_column, where=where)
    for aggregation in features.aggregations:
        kind = events[aggregation.column] if aggregation.column else "integer"
        if aggregation.op in ("sum", "mean", "std") and kind not in _NUMERIC:
            raise ColumnError(f"{where}: {aggregation.op} needs numbers, but {aggregation.column!r} is {kind}.")


def check_time_kind(kind: str, column: str, *, where: str) -> None:
    """Raise :class:`TimeError` unless a column holds timestamps or dates."""
    if kind not in ("timestamp", "timestamptz", "date"):
        raise TimeError(
            f"{where}: {column!r} is {kind}; expected timestamps (naive ones are UTC). Convert it first, e.g. "
            "pd.to_datetime(…, utc=True)."
        )


def feature_sql(features: FeatureSet, spine: str, event_time: str, engine: Engine, *, ahead: bool = False) -> str:
    """The query that gives one row per spine row, numbered ``__row``, with all features of the set.

    ``ahead=True`` looks at ``[t, t + w)`` instead, for outcomes.
    """
    d = engine.dialect
    keys = [d.quote(k) for k in features.keys]
    ordered = any(a.op in ("first", "last") for a in features.aggregations)
    values, windows = [], []
    for i, aggregation in enumerate(features.aggregations):
        values.append(f"{_value(aggregation, d.quote)} AS v{i}")
        windows.append(f"{_windowed(i, aggregation, engine, ', '.join(keys), ahead=ahead)} AS f{i}")
    time = d.epoch_us(d.quote(features.time_column))
    order = ""
    if ordered:
        ties = [d.quote(c) for c in features.order_by or engine.columns(features.source) if c not in features.keys]
        order = f", row_number() OVER (PARTITION BY {', '.join(keys)} ORDER BY {time}, {', '.join(ties)}) AS o"
    not_null = " AND ".join(f"{k} IS NOT NULL" for k in keys)
    nulls = ", ".join(f"NULL AS v{i}" for i in range(len(values)))
    numbers = ", ".join(f"v{i}" for i in range(len(values)))
    columns = ", ".join(keys)
    joins = [(i, a) for i, a in enumerate(features.aggregations) if a.op in ("first", "last")]
    final = ", ".join(
        f"{f'j{i}.v{i}' if a.op in ('first', 'last') else f'w.f{i}'} AS {d.quote(a.label)}"
        for i, a in enumerate(features.aggregations)
    )
    same = " AND ".join(f"{{j}}.{k} = w.{k}" for k in keys)
    lookups = " ".join(f"LEFT JOIN e AS j{i} ON {same.format(j=f'j{i}')} AND j{i}.o = w.f{i}" for i, _ in joins)
    return (
        f"WITH e AS (SELECT {columns}, {time} AS t, {', '.join(values)}{order} "
        f"FROM {d.quote(features.source)} WHERE {not_null}), "
        f"u AS (SELECT {columns}, t, {numbers}{', o' if ordered else ''}, CAST(NULL AS BIGINT) AS {ROW} FROM e "
        f"UNION ALL SELECT {columns}, {d.epoch_us(d.quote(event_time))} AS t, {nulls}"
        f"{', CAST(NULL AS INT) AS o' if ordered else ''}, {ROW} FROM {d.quote(spine)}), "
        f"a AS (SELECT {columns}, {ROW}, {', '.join(windows)} FROM u), "
        f"w AS (SELECT * FROM a WHERE {ROW} IS NOT NULL) "
        f"SELECT w.{ROW} AS {ROW}, {final} FROM w {lookups}"
    )


def _value(aggregation: Aggregation, quote) -> str:  # type: ignore[no-untyped-def]  # noqa: ANN001
    value = quote(aggregation.column) if aggregation.column else "1"
    return f"CASE WHEN {aggregation.where} THEN {value} END" if aggregation.where else value


def _windowed(i: int, aggregation: Aggregation, engine: Engine, keys: str, *, ahead: bool) -> str:
    if ahead:
        if aggregation.window is None or aggregation.op not in OUTCOME_OPERATIONS:
            raise ColumnError(
                f"outcome {aggregation.label!r}: op {aggregation.op!r}, window {aggregation.window!r}; an outcome needs "
                f"a window and one of {', '.join(OUTCOME_OPERATIONS)}."
            )
        frame = f"RANGE BETWEEN CURRENT ROW AND {parse_window(aggregation.window) - 1} FOLLOWING"
    else:
        start = f"{parse_window(aggregation.window)} PRECEDING" if aggregation.window else "UNBOUNDED PRECEDING"
        frame = f"RANGE BETWEEN {start} AND 1 PRECEDING"
    over = f"(PARTITION BY {keys} ORDER BY t {frame})"
    v = f"v{i}"
    simple = {"count": "COUNT", "mean": "AVG", "min": "MIN", "max": "MAX", "std": "STDDEV_SAMP"}
    if aggregation.op in simple:
        return f"{simple[aggregation.op]}({v}) OVER {over}"
    if aggregation.op == "sum":
        return f"COALESCE(SUM({v}) OVER {over}, 0)"
    if aggregation.op == "n_unique":
        return engine.dialect.count_distinct(v, over)
    seen = f"CASE WHEN {v} IS NOT NULL THEN"
    if aggregation.op == "recency":
        return f"(t - MAX({seen} t END) OVER {over}) / {_DAY_US}.0"
    return f"{'MAX' if aggregation.op == 'last' else 'MIN'}({seen} o END) OVER {over}"
