"""The cluster engine: the same SQL text on PySpark, local or on a cluster."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import reduce
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pandas as pd

from causalrec._files import new_directory
from causalrec._validation import optional_import
from causalrec.engines.arrow import arrow_to_pandas, spark_table
from causalrec.engines.base import (
    Dialect,
    Files,
    Kind,
    check_source_columns,
    csv_header,
    csv_types,
    unknown_table,
)
from causalrec.engines.exact import literal_sql
from causalrec.engines.launch import launching, start_options
from causalrec.exceptions import DatasetError, EngineError

_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("byte", "short", "integer", "long"), "integer"),
    **dict.fromkeys(("float", "double", "decimal"), "float"),
    **dict.fromkeys(("string", "varchar", "char"), "string"),
    "boolean": "boolean",
    "timestamp": "timestamptz",
    "timestamp_ntz": "timestamp",
    "date": "date",
}
# What the common SQL text relies on.
_SESSION_OPTIONS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.timestampType": "TIMESTAMP_NTZ",  # TIMESTAMP '…' is naive, as in DuckDB
    "spark.sql.ansi.enabled": "true",
    "spark.sql.variable.substitute": "false",  # '${x}' in a literal is text
    "spark.sql.legacy.parquet.nanosAsLong": "true",  # Spark has no nanoseconds; see _read
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",  # else a time with a zone is written without it
    "spark.sql.execution.arrow.localRelationThreshold": "4m",  # a larger frame would go whole to each task, as rows
    "spark.sql.join.asofJoin.enabled": "true",
    "spark.sql.window.segmentTree.enabled": "true",  # sliding frames in O(log w) a row
}
_LARGE_FRAME = 16 * 2**20  # bytes


class SparkDialect(Dialect):
    """Spark's SQL."""

    name = "spark"
    quote_mark = "`"
    keeps_rows = False
    one_scan = True

    def literal(self, text: str) -> str:
        """Write a string literal; a backslash escapes."""
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

    def epoch_us(self, expression: str) -> str:
        """Microseconds since 1970 UTC; the session's time zone is UTC, so naive times are too."""
        return f"unix_micros(CAST({expression} AS TIMESTAMP_LTZ))"

    def from_epoch_us(self, expression: str) -> str:
        """The naive UTC timestamp of an integer of microseconds."""
        return f"CAST(timestamp_micros({expression}) AS TIMESTAMP_NTZ)"

    def wall_clock(self, expression: str, time_zone: str) -> str:
        """By Java's table of zones."""
        return f"convert_timezone('UTC', {self.literal(time_zone)}, {self.from_epoch_us(expression)})"

    def count_distinct(self, expression: str, over: str = "") -> str:
        """``DISTINCT`` is not allowed in a frame, but a set is; in a group it saves a copy of the rows for each."""
        return f"CAST(size(collect_set({expression}){over}) AS BIGINT)"

    def whole_sum(self, expression: str, summed: Callable[[str], str]) -> str:
        """Sums of the upper and the lower half of the bits, which is much faster than a sum of decimals."""
        value = f"CAST({expression} AS BIGINT)"
        upper, lower = summed(f"({value} >> 32)"), summed(f"({value} & 4294967295)")
        return f"(CAST({upper} AS DECIMAL(19, 0)) * 4294967296 + {lower})"

    def failure(self, message: str) -> str:
        """An error of Spark."""
        return f"raise_error({self.literal(message)})"

    def is_nan(self, expression: str) -> str:
        """``isnan``."""
        return f"isnan({expression})"

    def unpruned(self, column: str) -> str:
        """Twice the opposite: Spark passes filters of plain columns alone to a file's reader."""
        return f"(-(-{column}))"

    def deviation(self, expression: str) -> str:
        """Welford's recursion over a sorted list, as seen from the smallest number."""
        start = f"named_struct('low', MIN({expression}), 'n', 0e0, 'mean', 0e0, 's', 0e0)"
        gap = "(x - a.low - a.mean)"
        mean = f"a.mean + {gap} / (a.n + 1)"
        squares = f"a.s + {gap} * (x - a.low - ({mean}))"
        step = f"(a, x) -> named_struct('low', a.low, 'n', a.n + 1, 'mean', {mean}, 's', {squares})"
        end = "a -> CASE WHEN a.n > 1 THEN sqrt(a.s / (a.n - 1)) END"
        return f"aggregate(array_sort(collect_list({expression})), {start}, {step}, {end})"

    def quantile(self, expression: str, probability: float) -> str:
        """``percentile``."""
        return f"percentile({expression}, {literal_sql(probability)})"

    def quantiles(self, expression: str, probabilities: Sequence[float]) -> str:
        """``percentile`` of an array."""
        return f"percentile({expression}, array({', '.join(map(literal_sql, probabilities))}))"

    def latest(self, expression: str, over: str) -> str:
        """Nulls are passed over by a word after the brackets."""
        return f"last_value({expression}) IGNORE NULLS OVER ({over})"

    def record(self, expressions: Sequence[str]) -> str:
        """``named_struct``."""
        fields = (f"'f{i}', {text}" for i, text in enumerate(expressions))
        return f"named_struct({', '.join(fields)})"

    def steps(self, start: int, stop: int, step: int) -> str:
        """A list, unfolded."""
        return f"explode(sequence({start}, {stop - 1}, {step}))"

    def row_hash(self, expressions: Sequence[str]) -> str:
        """``xxhash64`` skips nulls, so where they stand is hashed too."""
        nulls = [f"({e}) IS NULL" for e in expressions]
        return f"CAST(xxhash64({', '.join([*expressions, *nulls])}) AS DECIMAL(38, 0))"


class SparkEngine:
    """Tables on Spark. Each engine has settings and table names of its own.

    Parameters
    ----------
    master : str, optional
        ``"local[*]"`` by default, threads of one Java process; ``"local-cluster[2,1,1024]"`` has two executors of one
        core and 1,024 MB on this machine, as a cluster would; ``"spark://host:7077"`` is a cluster. Only read if Spark
        is started here.
    session : SparkSession, optional
        A running session to work beside: its catalog is seen, its settings and temporary views are left alone.
        It is not stopped at :meth:`close`. Without it, a session of this process that runs already is taken so; the
        engine that started Spark stops it.
    options : mapping, optional
        Spark options by name, such as ``{"spark.driver.memory": "4g"}``; they go before causalrec's own.

    Raises
    ------
    EngineError
        If there is no Java of version 17 or newer, Spark does not start, or refuses an option.
    MissingExtraError
        If PySpark is not installed.

    Notes
    -----
    pandas, Polars and Arrow tables go in and results come out through Arrow. Paths of files are paths of this
    machine, which the workers of a cluster must see as well, to read and to write; register a Spark DataFrame for
    anything else, and for what is large. Workers need a Java of their own and no Python package: all that runs there
    is SQL.

    A table of the session's catalog is known by its name; one of another database gets a plain name by
    ``create_view("orders", "SELECT * FROM shop.orders")``.
    """

    name = "spark"

    def __init__(
        self,
        master: str | None = None,
        session: Any = None,
        options: Mapping[str, object] | None = None,
    ) -> None:
        if session is not None and master is not None:
            raise EngineError("master and session are both given; a session has its master already. Drop one of them.")
        sql = optional_import("pyspark.sql", extra="spark")
        self.dialect: Dialect = SparkDialect()
        self._names: set[str] = set()
        self._scratch = Path(tempfile.mkdtemp(prefix="causalrec-spark-"))
        # At close, or at the latest when the engine is forgotten or Python ends.
        self._clean = weakref.finalize(self, shutil.rmtree, self._scratch, ignore_errors=True)
        self._started: Any = None
        self._errors = _error_types()
        own = {key: _text(value) for key, value in (options or {}).items()}
        if session is None and optional_import("pyspark", extra="spark").SparkContext._active_spark_context:
            session = sql.SparkSession.getActiveSession() or sql.SparkSession.builder.getOrCreate()
        try:
            beside = session is not None
            if not beside:
                session = self._start(sql.SparkSession, master or "local[*]", own)
            with self._failing(EngineError, "Spark refuses an option"):
                self._session = session.newSession()
                for key, value in {**_SESSION_OPTIONS, **own}.items():
                    if beside or self._session.conf.isModifiable(key):
                        self._session.conf.set(key, value)
        except BaseException:
            self.close()
            raise

    def _start(self, factory: Any, master: str, options: Mapping[str, str]) -> Any:
        builder = factory.builder.master(master)
        warehouse = {"spark.sql.warehouse.dir": str(self._scratch / "warehouse")}
        for key, value in {**start_options(master), **warehouse, **_SESSION_OPTIONS, **options}.items():
            builder = builder.config(key, value)
        with self._failing(EngineError, "Spark does not start"), _starting_java():
            self._started = builder.getOrCreate()
        return self._started

    def register(self, name: str, source: Any) -> None:
        """Give a frame or file a name; see :class:`Engine`."""
        if isinstance(source, str | Path | list | tuple):
            files = Files(source)
            with self._failing(DatasetError, f"{files.paths[0]}: unreadable as {files.format}"):
                self._name(name, self._read(files))
        elif hasattr(source, "createOrReplaceGlobalTempView"):
            check_source_columns(list(source.columns), where=f"table {name!r}")
            with self._failing(EngineError, f"table {name!r} cannot be read"):
                self._name(name, self._adopt(source))
        else:
            table = spark_table(name, source)
            with self._failing(EngineError, f"table {name!r} cannot be read"):
                self._name(name, self._frame_of(table))

    def _frame_of(self, table: Any) -> Any:
        """Hand over an Arrow table; a large one by a file, where Spark reads this machine's: it spares Java's heap."""
        if table.nbytes < _LARGE_FRAME or not self._session.conf.get("spark.master", "").startswith("local"):
            return self._session.createDataFrame(table)
        import pyarrow.parquet as pq

        path = self._scratch / f"{os.urandom(8).hex()}.parquet"
        pq.write_table(table, path, coerce_timestamps="us", allow_truncated_timestamps=True)
        return self._session.read.parquet(_uri(path))

    def _name(self, name: str, frame: Any) -> None:
        frame.createOrReplaceTempView(self.dialect.quote(name))
        self._names.add(name.lower())

    def _adopt(self, frame: Any) -> Any:
        """A frame of another session as one of ours: global temporary views are what sessions share."""
        shared = f"causalrec_{os.urandom(8).hex()}"
        frame.createOrReplaceGlobalTempView(shared)
        try:
            return self._session.table(f"global_temp.{shared}")
        finally:
            self._session.catalog.dropGlobalTempView(shared)

    def _read(self, files: Files) -> Any:
        reader = self._session.read
        if files.base is not None:
            reader = reader.option("basePath", _uri(files.base))
        if files.format == "parquet":
            frame = reader.option("mergeSchema", "true").parquet(*map(_pattern, files.paths))
            for column, has_zone in files.nanoseconds.items():
                q = self.dialect.quote(column)
                micros = f"({q} - pmod({q}, 1000)) DIV 1000"
                time = f"timestamp_micros({micros})" if has_zone else self.dialect.from_epoch_us(micros)
                if frame.schema[column].dataType.typeName() == "timestamp":  # INT96, as Spark writes by default
                    time = f"CAST({q} AS TIMESTAMP_NTZ)"
                others = [self.dialect.quote(c) for c in frame.columns]
                frame = frame.selectExpr(*(f"{time} AS {q}" if c == q else c for c in others))
            return frame
        types = csv_types(files)
        options = {
            "header": True, "multiLine": True, "quote": '"', "escape": '"', "mode": "FAILFAST", "sep": files.delimiter,
            **({} if files.base is None else {"basePath": _uri(files.base)}),
        }  # fmt: skip
        # Spark takes columns by position, so only files with the same header are read together.
        groups: dict[tuple[str, ...], list[str]] = {}
        for path in files.paths:
            groups.setdefault(tuple(csv_header(path, files.delimiter)), []).append(_pattern(path))
        frames = [_read_csv(self._session, group, types, options) for group in groups.values()]
        return reduce(lambda a, b: a.unionByName(b, allowMissingColumns=True), frames)

    def create_view(self, name: str, sql: str) -> None:
        """Give a query a name; see :class:`Engine`."""
        with self._failing(EngineError, f"view {name!r} cannot be made"):
            self._session.sql(f"CREATE OR REPLACE TEMPORARY VIEW {self.dialect.quote(name)} AS {sql}")
            self._names.add(name.lower())

    def keep(self, name: str, sql: str) -> None:
        """Give a query a name; it runs when it is used. See :class:`Engine`."""
        self.create_view(name, sql)

    def drop(self, name: str) -> None:
        """Forget a table or view; a name that is unknown is left alone."""
        if name.lower() in self._names:
            with self._failing(EngineError, f"table {name!r} cannot be dropped"):
                self._session.sql(f"DROP VIEW IF EXISTS {self.dialect.quote(name)}")
            self._names.discard(name.lower())

    def columns(self, name: str) -> dict[str, Kind]:
        """Columns of a table in order, with the kind of each; see :class:`Engine`."""
        with self._failing(EngineError, f"table {name!r} cannot be read"):
            quoted = self.dialect.quote(name)
            if name.lower() not in self._names and not self._session.catalog.tableExists(quoted):
                raise self._unknown(name)
            fields = self._session.table(quoted).schema.fields
        return {f.name: _KINDS.get(f.dataType.typeName().split("(")[0], "other") for f in fields}

    def _unknown(self, name: str) -> EngineError:
        if "." in name and self._session.catalog.tableExists(name):
            return EngineError(
                f"{name!r} is a table of the catalog with a name in parts; give it a plain one first, such as "
                f"create_view({name.split('.')[-1]!r}, 'SELECT * FROM {name}')."
            )
        return unknown_table(name, list(self._names))

    def ranges(self, name: str) -> dict[str, tuple[float, float, bool]]:  # noqa: ARG002
        """Nothing is known; see :class:`Engine`."""
        return {}

    def collect(self, sql: str) -> pd.DataFrame:
        """Run a query; the result must fit into memory. See :class:`Engine`."""
        with self._failing(EngineError, "the query failed"):
            return arrow_to_pandas(self._session.sql(sql).toArrow())

    def frame(self, sql: str) -> Any:
        """The result as a Spark DataFrame of this engine's session."""
        with self._failing(EngineError, "the query failed"):
            return self._session.sql(sql)

    def write_parquet(self, sql: str, path: str | Path, *, partition_by: Sequence[str] = ()) -> None:
        """Write a result to a new directory, whole or not at all; see :class:`Engine`."""
        with new_directory(path) as scratch, self._failing(EngineError, "the query failed"):
            if partition_by:  # each value to one task, or each task would write a file of its own for each value
                sql = f"SELECT /*+ REBALANCE({', '.join(map(self.dialect.quote, partition_by))}) */ * FROM ({sql}) r"
            writer = self._session.sql(sql).write.mode("append").option("compression", "zstd")
            writer.partitionBy(*partition_by).parquet(_uri(scratch))

    def close(self) -> None:
        """Forget the tables; stop Spark if it was started here."""
        if self._started is not None:
            self._started.stop()
        else:
            for name in sorted(self._names):
                self.drop(name)
        self._names.clear()
        self._session = self._started = None
        self._clean()

    @contextmanager
    def _failing(self, kind: type[EngineError] | type[DatasetError], what: str) -> Iterator[None]:
        try:
            with _quiet():
                yield
        except self._errors as error:
            raise kind(f"{what}: {_message(error)}") from error
        except AttributeError as error:
            if getattr(self, "_session", None) is None:
                raise EngineError(f"{what}: the engine is closed. Open a new one.") from error
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _read_csv(session: Any, paths: list[str], types: Mapping[str, str], options: Mapping[str, Any]) -> Any:
    """CSV files of one header, in the types that DuckDB finds where Spark finds other text or integers."""
    frame = session.read.options(inferSchema=True, **options).csv(paths)
    wanted = {
        field.name: {"VARCHAR": "string", "BIGINT": "bigint"}.get(
            types.get(field.name, ""), field.dataType.simpleString()
        )
        for field in frame.schema.fields
    }
    if all(wanted[field.name] == field.dataType.simpleString() for field in frame.schema.fields):
        return frame
    quoted = (f"`{name.replace('`', '``')}` {kind}" for name, kind in wanted.items())
    return session.read.options(**options).schema(", ".join(quoted)).csv(paths)


def _error_types() -> tuple[type[Exception], ...]:
    protocol = optional_import("py4j.protocol", extra="spark")
    errors = optional_import("pyspark.errors", extra="spark")
    return errors.PySparkException, protocol.Py4JError


@contextmanager
def _starting_java() -> Iterator[None]:
    """Prepare the start of a Java process, unless that of an earlier session is taken again."""
    from pyspark import SparkContext
    from pyspark.find_spark_home import _find_spark_home

    with nullcontext() if SparkContext._gateway is not None else launching(Path(_find_spark_home())):
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep PySpark from printing what becomes an error of ours, and from warning of a pandas that is not used here."""
    from pyspark.logger import PySparkLogger

    logger = PySparkLogger.getLogger("SQLQueryContextLogger")
    before = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message="PySpark does not yet fully support pandas", category=FutureWarning
            )
            yield
    finally:
        logger.disabled = before


def _message(error: Exception) -> str:
    """Spark's message without the query, its plan and the trace of Java."""
    text = str(error).strip()
    for mark in (";\n", "\n\n== SQL", "\n== SQL", "\n\tat ", "JVM stacktrace"):
        text = text.split(mark)[0]
    return text.strip()


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _uri(path: Path) -> str:
    return f"file://{path.absolute()}"


def _pattern(path: Path) -> str:
    """Spark takes paths to read as patterns."""
    return "file://" + "".join(f"\\{c}" if c in "{}[]*?\\" else c for c in str(path.absolute()))
