"""The customer-day spine: every customer at every midnight."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from causalrec._validation import check_columns
from causalrec.engines import Engine
from causalrec.engines.arrow import arrow_table, arrow_to_pandas
from causalrec.exceptions import ColumnError
from causalrec.features.days import DAY_US, day_range

_TIME = "event_time"


def daily_grid(
    customers: Any, start: object, end: object, *, key: str | None = None, engine: Engine | None = None
) -> Any:
    """Each customer at each UTC midnight of ``[start, end)``, as a spine for :meth:`FeatureStore.training_frame`.

    Parameters
    ----------
    customers : list, array, Series or frame of keys; name of a table or Spark DataFrame with ``engine``
        Customers who appear twice count once.
    start, end : date, timestamp or text
        Midnights in UTC.
    key : str, optional
        Name of the key column; not needed for a named Series or a frame of one column.
    engine : Engine, optional
        Where the table of customers is.

    Returns
    -------
    frame
        The key and ``event_time``: pandas, sorted by both; the engine's own frame, in no order, for a table.

    Raises
    ------
    ColumnError
        Where the key has no name, is not among the columns, or is missing for some customers.
    TimeError
        For times that are no midnights, or a start that is not before the end.

    Examples
    --------
    >>> daily_grid(["b", "a"], "2025-01-30", "2025-02-01", key="user")
      user event_time
    0    a 2025-01-30
    1    a 2025-01-31
    2    b 2025-01-30
    3    b 2025-01-31
    """
    days = day_range(start, end)
    if isinstance(customers, str) or hasattr(customers, "createOrReplaceGlobalTempView"):
        return _grid_of_table(customers, days, key, engine)
    keys = distinct_keys(customers, key, where="customers")
    times = np.arange(days.start, days.stop).astype("datetime64[D]").astype("datetime64[us]")
    repeated = keys.repeat(len(times)).reset_index(drop=True)
    return pd.DataFrame({str(keys.name): repeated, _TIME: np.tile(times, len(keys))})


def distinct_keys(values: Any, key: str | None, *, where: str) -> pd.Series:
    """The distinct keys of a list, array, Series or frame in order, named; :class:`ColumnError` for none of these."""
    if isinstance(values, pd.Series):
        found = values if key is None else pd.Series(values, name=key)
    elif hasattr(values, "columns"):
        frame = values if isinstance(values, pd.DataFrame) else arrow_to_pandas(arrow_table(where, values))
        found = frame[_key_column([str(c) for c in frame.columns], key, where=where)]
    elif isinstance(values, Iterable):
        found = pd.Series(values.to_pylist() if hasattr(values, "to_pylist") else list(values), name=key)
    else:
        raise ColumnError(f"{where}: found {type(values).__name__}; expected keys, a frame or the name of a table.")
    if found.name is None:
        raise ColumnError(f"{where}: the key column has no name; give key=.")
    _check_known(int(found.isna().sum()), len(found), str(found.name), where=where)
    try:
        distinct: pd.Series = found.drop_duplicates().sort_values()
    except TypeError as error:
        raise ColumnError(f"{where}: the keys cannot be sorted ({error}); give keys of one type.") from error
    return distinct


def _key_column(columns: list[str], key: str | None, *, where: str) -> str:
    if key is None and len(columns) != 1:
        raise ColumnError(f"{where}: found columns {columns}; say which one is the key with key=.")
    check_columns(columns, [] if key is None else [key], where=where)
    return columns[0] if key is None else key


def _check_known(missing: int, rows: int, key: str, *, where: str) -> None:
    if missing:
        raise ColumnError(f"{where}: {missing} of {rows} have no {key!r}; drop them.")


def _grid_of_table(customers: Any, days: range, key: str | None, engine: Engine | None) -> Any:
    if engine is None:
        raise ColumnError("customers is a table of an engine; give engine=, or the customers themselves as a list.")
    table = customers if isinstance(customers, str) else f"customers_{uuid.uuid4().hex[:12]}"
    if table is not customers:
        engine.register(table, customers)
    try:
        d = engine.dialect
        column = d.quote(_key_column(list(engine.columns(table)), key, where="customers"))
        known = engine.collect(f"SELECT COUNT(*) AS n, COUNT({column}) AS k FROM {d.quote(table)}").iloc[0]
        _check_known(int(known["n"] - known["k"]), int(known["n"]), str(key or column), where="customers")
        each_day = f"SELECT {d.steps(days.start * DAY_US, days.stop * DAY_US, DAY_US)} AS t"
        return engine.frame(
            f"SELECT k.{column}, {d.from_epoch_us('d.t')} AS {d.quote(_TIME)} "
            f"FROM (SELECT DISTINCT {column} FROM {d.quote(table)}) k CROSS JOIN ({each_day}) d"
        )
    finally:
        if table is not customers:
            engine.drop(table)
