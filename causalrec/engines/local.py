"""The embedded engine: DuckDB. Frames are read in place, files may be larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pandas as pd

from causalrec._files import new_directory
from causalrec._validation import optional_import
from causalrec.engines.arrow import arrow_table, arrow_to_pandas
from causalrec.engines.base import (
    Dialect,
    Files,
    Kind,
    check_source_columns,
    csv_types,
    unknown_table,
)
from causalrec.engines.exact import literal_sql
from causalrec.exceptions import DatasetError, EngineError

_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"), "integer"),
    **dict.fromkeys(("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT"), "integer"),
    **dict.fromkeys(("FLOAT", "DOUBLE"), "float"),
    **dict.fromkeys(("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"), "timestamp"),
    **dict.fromkeys(("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ"), "timestamptz"),
    "VARCHAR": "string",
    "BOOLEAN": "boolean",
    "DATE": "date",
}


class DuckDBDialect(Dialect):
    """DuckDB's SQL."""

    name = "duckdb"
    quote_mark = '"'
    keeps_rows = True
    one_scan = False

    def literal(self, text: str) -> str:
        """Write a string literal; only the quote itself is special."""
        return "'" + text.replace("'", "''") + "'"

    def epoch_us(self, expression: str) -> str:
        """Microseconds since 1970 UTC."""
        return f"epoch_us({expression})"

    def from_epoch_us(self, expression: str) -> str:
        """The naive UTC timestamp of an integer of microseconds."""
        return f"make_timestamp({expression})"

    def wall_clock(self, expression: str, time_zone: str) -> str:
        """By ICU, which is part of DuckDB's Python package."""
        return f"timezone({self.literal(time_zone)}, make_timestamptz({expression}))"

    def count_distinct(self, expression: str, over: str = "") -> str:
        """``DISTINCT`` is allowed in a frame."""
        return f"count(DISTINCT {expression}){over}"

    def whole_sum(self, expression: str, summed: Callable[[str], str]) -> str:
        """Sums of integers have 128 bits."""
        return summed(expression)

    def failure(self, message: str) -> str:
        """An error of DuckDB."""
        return f"error({self.literal(message)})"

    def is_nan(self, expression: str) -> str:
        """By what it is not. A Parquet file's range of a column leaves NaN out, and DuckDB believes it: it takes
        ``isnan(x)``, and a comparison that holds within the range, for decided.
        """
        return f"(NOT (isfinite({expression}) OR isinf({expression})))"

    def unpruned(self, column: str) -> str:
        """``try``, through which DuckDB passes neither filters nor ranges."""
        return f"try({column})"

    def deviation(self, expression: str) -> str:
        """Over a sorted list, which is faster than ``stddev_samp(x ORDER BY x)``, as seen from the smallest number."""
        listed = f"list_sort(list({expression}) FILTER (WHERE {expression} IS NOT NULL))"
        return f"list_aggregate(list_transform({listed}, lambda x: x - min({expression})), 'stddev_samp')"

    def quantile(self, expression: str, probability: float) -> str:
        """``quantile_cont``."""
        return f"quantile_cont({expression}, {literal_sql(probability)})"

    def quantiles(self, expression: str, probabilities: Sequence[float]) -> str:
        """``quantile_cont`` of a list."""
        return f"quantile_cont({expression}, [{', '.join(map(literal_sql, probabilities))}])"

    def latest(self, expression: str, over: str) -> str:
        """Nulls are passed over by a word within the brackets."""
        return f"last_value({expression} IGNORE NULLS) OVER ({over})"

    def record(self, expressions: Sequence[str]) -> str:
        """``struct_pack``."""
        return f"struct_pack({', '.join(f'f{i} := {text}' for i, text in enumerate(expressions))})"

    def steps(self, start: int, stop: int, step: int) -> str:
        """A list, unfolded."""
        return f"unnest(range({start}, {stop}, {step}))"

    def row_hash(self, expressions: Sequence[str]) -> str:
        """DuckDB's own hash; it may change with DuckDB's version."""
        return f"CAST(hash({', '.join(expressions)}) AS HUGEINT)"


class LocalEngine:
    """Tables in this process, by DuckDB.

    Parameters
    ----------
    threads : int, optional
        All cores by default.
    memory_limit : str, optional
        Such as ``"4GB"``; beyond it DuckDB spills to ``temp_directory``.
    temp_directory : path, optional

    Raises
    ------
    EngineError
        If DuckDB refuses an option.

    Examples
    --------
    >>> import pandas as pd
    >>> with LocalEngine() as engine:
    ...     engine.register("events", pd.DataFrame({"user": [1, 1, 2], "spend": [2.0, 3.0, 5.0]}))
    ...     engine.collect("SELECT user, sum(spend) AS spend FROM events GROUP BY user ORDER BY user")
       user  spend
    0     1    5.0
    1     2    5.0
    """

    name = "local"

    def __init__(
        self,
        threads: int | None = None,
        memory_limit: str | None = None,
        temp_directory: str | Path | None = None,
    ) -> None:
        duckdb = optional_import("duckdb", extra="all")
        self.dialect: Dialect = DuckDBDialect()
        options = {
            "TimeZone": "UTC",
            # A query must not find tables among the caller's Python variables, nor fetch code from the network.
            "python_enable_replacements": False,
            "autoinstall_known_extensions": False,
            # Groups by a number below 2^18 go to a plain array: grouping rows by their number takes half the time.
            "perfect_ht_threshold": 18,
            "threads": threads,
            "memory_limit": memory_limit,
            "temp_directory": None if temp_directory is None else str(temp_directory),
        }
        self._error: type[Exception] = duckdb.Error
        self._frames: dict[str, Any] = {}
        self._kept: set[str] = set()
        self._files: dict[str, Files] = {}
        self._connection = duckdb.connect(":memory:")
        try:
            for key, value in options.items():
                if value is not None:
                    self._connection.execute(f"SET {key} = {self._setting(value)}")
        except duckdb.Error as error:
            self.close()
            raise EngineError(f"DuckDB refuses an option: {error}") from error

    def _setting(self, value: object) -> str:
        return self.dialect.literal(value) if isinstance(value, str) else str(value).lower()

    def register(self, name: str, source: Any) -> None:
        """Give a frame or file a name; see :class:`Engine`."""
        if isinstance(source, str | Path | list | tuple):
            self._register_files(name, Files(source))
        else:
            self._register_frame(name, source)

    def _register_frame(self, name: str, source: Any) -> None:
        # Arrow reads pandas frames in place; DuckDB's own reader fails on columns that run backwards in memory. The
        # shallow copy makes pandas copy what the caller changes later.
        held = source.copy(deep=False) if isinstance(source, pd.DataFrame) else source
        scanned = held if hasattr(source, "scanner") else arrow_table(name, held)
        check_source_columns(scanned.schema.names, where=f"table {name!r}")
        with self._failing(EngineError, f"table {name!r} cannot be read"):
            self.drop(name)
            self._connection.register(name, scanned)
            self._frames[name.lower()] = (held, scanned)
            self._connection.execute(f"SELECT * FROM {self.dialect.quote(name)} LIMIT 0")

    def _register_files(self, name: str, files: Files) -> None:
        listed = "[" + ", ".join(self.dialect.literal(str(p)) for p in files.paths) + "]"
        options = f", hive_partitioning = {str(files.base is not None).lower()}, union_by_name = true"
        if files.format == "csv":
            mark = self.dialect.literal(files.delimiter)
            options += f""", header = true, delim = {mark}, quote = '"', escape = '"'"""
            options += self._late_types(files, f"{listed}{options}")
        above = {part.split("=")[0] for part in files.base.absolute().parts if "=" in part} if files.base else set()
        dropped = f" EXCLUDE ({', '.join(map(self.dialect.quote, sorted(above)))})" if above else ""
        zoned = [self.dialect.quote(c) for c, has_zone in files.nanoseconds.items() if has_zone]
        if zoned:
            dropped += f" REPLACE ({', '.join(f'CAST({c} AS TIMESTAMPTZ) AS {c}' for c in zoned)})"
        self.drop(name)
        with self._failing(DatasetError, f"{files.paths[0]}: unreadable as {files.format}"):
            self._connection.execute(
                f"CREATE OR REPLACE TEMP VIEW {self.dialect.quote(name)} AS "
                f"SELECT *{dropped} FROM read_{files.format}({listed}{options})"
            )
        self._files[name.lower()] = files

    def _late_types(self, files: Files, source: str) -> str:
        """The option of a CSV reader for columns whose type its first rows, the ones it looks at, do not show."""
        types = csv_types(files)
        with self._failing(DatasetError, f"{files.paths[0]}: unreadable as csv"):
            seen = self._connection.execute(f"DESCRIBE SELECT * FROM read_csv({source})").fetchall()
        text = self.dialect.literal
        late = [f"{text(c)}: {text(types[c])}" for c, kind, *_ in seen if types.get(c, kind) != kind]
        return f", types = {{{', '.join(late)}}}" if late else ""

    def create_view(self, name: str, sql: str) -> None:
        """Give a query a name; see :class:`Engine`."""
        self._files.pop(name.lower(), None)
        with self._failing(EngineError, f"view {name!r} cannot be made"):
            self._connection.execute(f"CREATE OR REPLACE TEMP VIEW {self.dialect.quote(name)} AS {sql}")

    def keep(self, name: str, sql: str) -> None:
        """Run a query and keep its rows under a name; see :class:`Engine`."""
        self.drop(name)
        with self._failing(EngineError, "the query failed"):
            self._connection.execute(f"CREATE TEMP TABLE {self.dialect.quote(name)} AS {sql}")
        self._kept.add(name.lower())

    def drop(self, name: str) -> None:
        """Forget a table or view; a name that is unknown is left alone."""
        with self._failing(EngineError, f"table {name!r} cannot be dropped"):
            kind = "TABLE" if name.lower() in self._kept else "VIEW"
            self._connection.execute(f"DROP {kind} IF EXISTS {self.dialect.quote(name)}")
        self._kept.discard(name.lower())
        self._frames.pop(name.lower(), None)
        self._files.pop(name.lower(), None)

    def columns(self, name: str) -> dict[str, Kind]:
        """Columns of a table in order, with the kind of each; see :class:`Engine`."""
        with self._failing(EngineError, f"table {name!r} cannot be read"):
            views = self._connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
            known = [row[0] for row in views] + sorted(self._kept)
            if name.lower() not in {k.lower() for k in known}:
                raise unknown_table(name, known)
            rows = self._connection.execute(f"DESCRIBE {self.dialect.quote(name)}").fetchall()
        return {row[0]: _kind(row[1]) for row in rows}

    def ranges(self, name: str) -> dict[str, tuple[float, float, bool]]:
        """By the footers of Parquet files; see :class:`Engine`."""
        return {} if name.lower() not in self._files else self._files[name.lower()].ranges()

    def collect(self, sql: str) -> pd.DataFrame:
        """Run a query; the result must fit into memory. See :class:`Engine`."""
        with self._failing(EngineError, "the query failed"):
            return arrow_to_pandas(self._connection.sql(sql).to_arrow_table())

    def frame(self, sql: str) -> pd.DataFrame:
        """The result as a pandas frame, which is this engine's own."""
        return self.collect(sql)

    def write_parquet(self, sql: str, path: str | Path, *, partition_by: Sequence[str] = ()) -> None:
        """Write a result to a new directory, whole or not at all; see :class:`Engine`."""
        with new_directory(path) as scratch, self._failing(EngineError, "the query failed"):
            target = scratch if partition_by else scratch / "part-0.parquet"
            split = f", PARTITION_BY ({', '.join(map(self.dialect.quote, partition_by))})" if partition_by else ""
            self._connection.execute(
                f"COPY ({sql}) TO {self.dialect.literal(str(target))} (FORMAT parquet, COMPRESSION zstd{split})"
            )

    def close(self) -> None:
        """Close the connection and let go of the frames."""
        self._connection.close()
        self._frames.clear()

    @contextmanager
    def _failing(self, kind: type[EngineError] | type[DatasetError], what: str) -> Iterator[None]:
        try:
            yield
        except (self._error, RuntimeError) as error:
            if "Query interrupted" in str(error) or "KeyboardInterrupt" in str(error):
                raise KeyboardInterrupt from error  # DuckDB's word for an interrupt, which is nobody's mistake
            if isinstance(error, RuntimeError) and not isinstance(error, self._error):
                raise
            raise kind(f"{what}: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _kind(sql_type: str) -> Kind:
    if sql_type.startswith("DECIMAL"):
        return "float"
    if sql_type.startswith("ENUM") and not sql_type.endswith("]"):
        return "string"
    return _KINDS.get(sql_type, "other")
