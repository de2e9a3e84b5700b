"""The cluster engine: the same SQL text on PySpark, local or on a cluster."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
    check_csv_times,
    check_source_columns,
    csv_header,
    unknown_table,
)
from causalrec.engines.java import find_java_home
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
    "spark.sql.join.asofJoin.enabled": "true",
    "spark.sql.window.segmentTree.enabled": "true",  # sliding frames in O(log w) a row
}
_START_OPTIONS = {
    "spark.app.name": "causalrec",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.catalogImplementation": "in-memory",
}
_LARGE_FRAME = 16 * 2**20  # bytes
# What makes a query fail is in the error that it raises; Java's traces beside it help nobody.
_LOGGING = """rootLogger.level = error
logger.gateway.name = org.apache.spark.api.python.PythonGatewayServer
logger.gateway.level = error
rootLogger.appenderRef.stderr.ref = stderr
logger.executor.name = org.apache.spark.executor.Executor
logger.executor.level = off
logger.tasks.name = org.apache.spark.scheduler.TaskSetManager
logger.tasks.level = off
logger.writer.name = org.apache.spark.sql.execution.datasources.FileFormatWriter
logger.writer.level = off
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n%ex
"""


class SparkDialect(Dialect):
    """Spark's SQL."""

    name = "spark"
    quote_mark = "`"

    def literal(self, text: str) -> str:
        """Write a string literal; a backslash escapes."""
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

    def epoch_us(self, expression: str) -> str:
        """Microseconds since 1970 UTC; the session's time zone is UTC, so naive times are too."""
        return f"unix_micros(CAST({expression} AS TIMESTAMP_LTZ))"

    def from_epoch_us(self, expression: str) -> str:
        """The naive UTC timestamp of an integer of microseconds."""
        return f"CAST(timestamp_micros({expression}) AS TIMESTAMP_NTZ)"

    def count_distinct(self, expression: str, window: str) -> str:
        """``DISTINCT`` is not allowed in a frame, but a set is."""
        return f"CAST(size(collect_set({expression}) OVER {window}) AS BIGINT)"

    def row_hash(self, expressions: Sequence[str]) -> str:
        """``xxhash64`` skips nulls, so where they stand is hashed too."""
        nulls = [f"({e}) IS NULL" for e in expressions]
        return f"CAST(xxhash64({', '.join([*expressions, *nulls])}) AS DECIMAL(38, 0))"


class SparkEngine:
    """Tables on Spark. Each engine has settings and table names of its own.

    Parameters
    ----------
    master : str, optional
        ``"local[*]"`` by default. Only read if Spark is started here.
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
    machine, which the workers of a cluster must see as well; register a Spark DataFrame for anything else.
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
        logging = self._scratch / "log4j2.properties"
        logging.write_text(_LOGGING, encoding="utf-8")
        start = {
            **_START_OPTIONS,
            "spark.sql.warehouse.dir": str(self._scratch / "warehouse"),
            "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={logging.as_uri()}",
        }
        if master.startswith("local"):
            start |= {
                "spark.driver.host": "127.0.0.1",
                "spark.driver.bindAddress": "127.0.0.1",
                "spark.driver.memory": f"{_heap_gigabytes()}g",
                "spark.sql.shuffle.partitions": str(2 * (os.cpu_count() or 1)),  # 200 is meant for a cluster
            }
        builder = factory.builder.master(master)
        for key, value in {**start, **_SESSION_OPTIONS, **options}.items():
            builder = builder.config(key, value)
        with self._failing(EngineError, "Spark does not start"), _starting_java(self._scratch):
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
                others = [self.dialect.quote(c) for c in frame.columns]
                frame = frame.selectExpr(*(f"{time} AS {q}" if c == q else c for c in others))
            return frame
        check_csv_times(files)
        reader = reader.options(
            header=True, inferSchema=True, multiLine=True, quote='"', escape='"', mode="FAILFAST", sep=files.delimiter
        )
        # Spark takes columns by position, so only files with the same header are read together.
        groups: dict[tuple[str, ...], list[str]] = {}
        for path in files.paths:
            groups.setdefault(tuple(csv_header(path, files.delimiter)), []).append(_pattern(path))
        frames = [reader.csv(group) for group in groups.values()]
        return reduce(lambda a, b: a.unionByName(b, allowMissingColumns=True), frames)

    def create_view(self, name: str, sql: str) -> None:
        """Give a query a name; see :class:`Engine`."""
        with self._failing(EngineError, f"view {name!r} cannot be made"):
            self._session.sql(f"CREATE OR REPLACE TEMPORARY VIEW {self.dialect.quote(name)} AS {sql}")
            self._names.add(name.lower())

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
                raise unknown_table(name, list(self._names))
            fields = self._session.table(quoted).schema.fields
        return {f.name: _KINDS.get(f.dataType.typeName().split("(")[0], "other") for f in fields}

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


def _error_types() -> tuple[type[Exception], ...]:
    protocol = optional_import("py4j.protocol", extra="spark")
    errors = optional_import("pyspark.errors", extra="spark")
    return errors.PySparkException, protocol.Py4JError


@contextmanager
def _starting_java(scratch: Path) -> Iterator[None]:
    """Point ``JAVA_HOME`` at a Java that works while Spark's launcher reads it."""
    from pyspark import SparkContext

    if SparkContext._gateway is not None:  # a Java process of an earlier session is taken again
        yield
        return
    before = os.environ.get("JAVA_HOME")
    os.environ["JAVA_HOME"] = str(find_java_home(scratch))
    try:
        yield
    finally:
        if before is None:
            del os.environ["JAVA_HOME"]
        else:
            os.environ["JAVA_HOME"] = before


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


def _heap_gigabytes() -> int:
    """A quarter of the memory, as Java itself would take, but no more than 4 GB; Spark would take 1."""
    known = hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else 0
    return max(1, min(4, total // 2**32))


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _uri(path: Path) -> str:
    return f"file://{path.absolute()}"


def _pattern(path: Path) -> str:
    """Spark takes paths to read as patterns."""
    return "file://" + "".join(f"\\{c}" if c in "{}[]*?\\" else c for c in str(path.absolute()))
