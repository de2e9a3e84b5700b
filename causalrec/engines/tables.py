"""Any table that an analysis may be given, opened on the engine that it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from causalrec.engines.base import Engine
from causalrec.engines.local import LocalEngine
from causalrec.engines.spark import SparkEngine
from causalrec.exceptions import EngineError

Choice: TypeAlias = Callable[[Sequence[str]], Sequence[str]]
_NAME = "__table"
_KINDS = (
    "a pandas, Polars (also lazy) or Arrow table, an Arrow dataset, a DuckDB relation, a Spark DataFrame, the path of "
    "Parquet or CSV files, or a pair (engine, name of a table)"
)
# One job: the plan is not changed while it runs, which would make each of its stages a job.
_ONE_JOB = {"spark.sql.adaptive.enabled": "false"}


@contextmanager
def open_table(source: Any, choose: Choice) -> Iterator[tuple[Engine, str]]:
    """The engine and the name under which a table can be read; closed afterwards unless it was open before.

    Parameters
    ----------
    source : table
        A pandas frame, a Polars frame or lazy frame, an Arrow table or dataset, a DuckDB relation, a Spark DataFrame,
        the path of Parquet or CSV files (or a directory, pattern or list of them), or ``(engine, name)``.
    choose : callable
        Takes the names of the columns and gives those that will be read; it raises for names that are missing. Of
        frames the others are not even looked at; a lazy frame and a relation compute the chosen ones, once.

    Raises
    ------
    EngineError
        For anything else.

    Examples
    --------
    >>> frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    >>> with open_table(frame, lambda names: ["a"]) as (engine, name):
    ...     engine.columns(name)
    {'a': 'integer'}
    """
    if isinstance(source, tuple) and len(source) == 2 and isinstance(source[0], Engine):
        engine, name = source
        choose(list(engine.columns(name)))
        yield engine, name
        return
    with _engine_for(source) as engine:
        if isinstance(source, str | Path | list):
            engine.register(_NAME, source)
            choose(list(engine.columns(_NAME)))
        else:
            engine.register(_NAME, _chosen(source, choose))
        yield engine, _NAME


def _engine_for(source: Any) -> LocalEngine | SparkEngine:
    if not _is_spark(source):
        return LocalEngine()
    session = source.sparkSession
    few = str(2 * session.sparkContext.defaultParallelism)
    return SparkEngine(session=session, options={**_ONE_JOB, "spark.sql.shuffle.partitions": few})


def _is_spark(source: Any) -> bool:
    return hasattr(source, "sparkSession") and hasattr(source, "createOrReplaceGlobalTempView")


def _chosen(source: Any, choose: Choice) -> Any:
    """The columns that are read, without a copy where the kind of table allows it."""
    if _is_spark(source):
        choose(list(source.columns))
        return source
    if isinstance(source, pd.DataFrame):
        return pd.DataFrame({c: source[c] for c in choose(list(source.columns))}, copy=False)
    if hasattr(source, "collect_schema"):  # Polars
        lazy = source.select(list(choose(source.collect_schema().names())))
        return lazy.collect() if hasattr(lazy, "collect") else lazy
    if hasattr(source, "scanner") and hasattr(source, "schema"):  # an Arrow dataset is scanned in place
        choose(source.schema.names)
        return source
    if hasattr(source, "sql_query") and hasattr(source, "project"):  # a DuckDB relation
        columns = (f'"{c.replace(chr(34), chr(34) * 2)}"' for c in choose(source.columns))
        return source.project(", ".join(columns)).to_arrow_table()
    if hasattr(source, "column_names") and hasattr(source, "select"):  # an Arrow table
        return source.select(list(choose(source.column_names)))
    raise EngineError(f"found {type(source).__name__}; expected {_KINDS}.")
