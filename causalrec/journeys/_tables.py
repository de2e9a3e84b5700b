"""How the tables of a journey come in, are checked, and go out again: one entry for every function of this package.

A function opens its tables, checks the columns that it reads, and answers with one SQL text, the same on both engines::

    with open_tables({"events": events}, engine=engine) as tables:
        log = tables["events"]
        log.check(["user_id"], times=["event_time"])
        return tables.frame(f"SELECT {log.column('user_id')} AS user_id, COUNT(*) AS n FROM {log.sql} GROUP BY 1")
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from causalrec._typing import BoolArray, IntArray
from causalrec._validation import check_columns, list_some
from causalrec.engines import Dialect, Engine, Kind, LocalEngine, SparkEngine
from causalrec.engines.arrow import arrow_table, arrow_to_pandas
from causalrec.exceptions import ColumnError, EngineError, TimeError

ROW = "__row"
Duration: TypeAlias = "str | timedelta | pd.Timedelta"

_TIMES = ("timestamp", "timestamptz", "date")
_LONGEST = 2**61  # microseconds; a time and two of them stay within 64 bits
_UNIT_US = {"s": 10**6, "m": 60 * 10**6, "h": 3_600 * 10**6, "d": 86_400 * 10**6, "w": 604_800 * 10**6}


@dataclass(frozen=True)
class Table:
    """A table that SQL can read.

    Attributes
    ----------
    label : str
        What the caller calls it, for messages.
    sql : str
        Its quoted name.
    kinds : mapping of str to Kind
        Of its columns, in order.
    dialect : Dialect
    held : table or None
        The frame in memory, if it was one.
    numbered : bool
        Whether it has a column ``ROW`` with the places of the frame's rows, from 0.
    arrow : Arrow table or None
        What SQL reads of a frame whose rows are numbered.
    """

    label: str
    sql: str
    kinds: Mapping[str, Kind]
    dialect: Dialect
    held: Any = field(default=None, repr=False)
    numbered: bool = False
    arrow: Any = field(default=None, repr=False)

    @property
    def n_rows(self) -> int:
        """Of a frame in memory whose rows are numbered."""
        return int(self.arrow.num_rows)

    def check(self, columns: Iterable[str | None] = (), *, times: Iterable[str | None] = ()) -> None:
        """Raise :class:`ColumnError` for a column that is missing, :class:`TimeError` for times that are none."""
        named, timed = [c for c in columns if c is not None], [t for t in times if t is not None]
        check_columns(self.kinds, list(dict.fromkeys([*named, *timed])), where=self.label)
        for time in timed:
            if self.kinds[time] not in _TIMES:
                raise TimeError(
                    f"{self.label}: {time!r} is {self.kinds[time]}; expected timestamps (naive ones are UTC). Convert "
                    "it first, e.g. pd.to_datetime(…, utc=True)."
                )

    def check_free(self, names: Iterable[str]) -> None:
        """Raise :class:`ColumnError` where a column has a name that the result needs, in any case of letters."""
        taken = sorted({n.lower() for n in names} & {c.lower() for c in self.kinds})
        if taken:
            raise ColumnError(f"{self.label}: found a column {taken[0]!r}, as the result has one. Rename or drop it.")

    def column(self, name: str, of: str = "") -> str:
        """The quoted name of a column, of an alias if one is given."""
        return f"{of}.{self.dialect.quote(name)}" if of else self.dialect.quote(name)

    def micros(self, name: str, of: str = "") -> str:
        """SQL of a column's times as integers: microseconds since 1970 UTC."""
        return self.dialect.epoch_us(self.column(name, of))

    def total_order(self, first: Sequence[str] = (), of: str = "") -> str:
        """The end of an ORDER BY that leaves only equal rows tied: ``first``, then every other column, nulls first.

        Starts with a comma unless there are no columns.
        """
        rest = [c for c in self.kinds if c not in first and c != ROW]
        return "".join(f", {self.column(c, of)} ASC NULLS FIRST" for c in (*first, *rest))


class Tables(Mapping[str, Table]):
    """The open tables by label, and the engine that they are on."""

    def __init__(self, engine: Engine, like: Any, session: Any) -> None:
        self.engine = engine
        self.dialect = engine.dialect
        self._like, self._session = like, session
        self._tables: dict[str, Table] = {}
        self._names: list[str] = []

    def __getitem__(self, label: str) -> Table:
        return self._tables[label]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)

    def frame(self, sql: str) -> Any:
        """The result of a query: pandas, or Polars where the first table was; a Spark DataFrame on Spark."""
        found = self.engine.frame(sql)
        if self._session is not None:
            return _into_session(found, self._session)
        return as_given(found, self._like) if isinstance(found, pd.DataFrame) else found

    def beside(self, table: Table, found: pd.DataFrame, rows: IntArray | None = None) -> Any:
        """New columns beside those of a frame in memory: Polars stays Polars, all else is pandas.

        ``rows`` are the places of the frame's rows that they belong to, all in turn by default. pandas keeps its index;
        the caller's frame is not changed.
        """
        held = table.held
        rows = None if rows is not None and len(rows) == len(held) else rows
        if hasattr(held, "hstack"):
            joined = (held if rows is None else held[rows]).hstack(as_given(found, held))
            return joined.lazy() if hasattr(self._like, "collect") else joined
        if not isinstance(held, pd.DataFrame):
            held = arrow_to_pandas(arrow_table(table.label, held))
        own = held if rows is None else held.take(rows)
        return pd.concat([own, found.set_axis(own.index)], axis=1)

    def collect(self, sql: str) -> pd.DataFrame:
        """The small result of a query, as a pandas frame on either engine."""
        return self.engine.collect(sql)

    def times(self, table: Table, name: str) -> tuple[IntArray, BoolArray]:
        """Times of numbered rows as :meth:`Table.micros` gives them, and whether each is known.

        Microseconds are read as they are; other units and dates are left to the engine.
        """
        import pyarrow.types as pat

        column = table.arrow.column(name)
        known = np.asarray(column.is_valid().to_numpy()) if column.null_count else np.ones(len(column), dtype=bool)
        if not pat.is_timestamp(column.type) or column.type.unit != "us":
            found = self.engine.collect(f"SELECT {ROW} AS l, COALESCE({table.micros(name)}, 0) AS t FROM {table.sql}")
            times = np.empty(len(found), dtype=np.int64)
            times[found["l"].to_numpy()] = found["t"].to_numpy()
            return times, known
        whole = column.cast("int64")
        return np.asarray((whole.fill_null(0) if whole.null_count else whole).to_numpy()), known

    def register(self, table: Any) -> str:
        """Give a small table of our own a name until the tables are closed; quoted."""
        name = self._new_name()
        self.engine.register(name, table)
        return self.dialect.quote(name)

    def keep(self, sql: str) -> str:
        """Give a query a name until the tables are closed, and keep its rows where the engine can; quoted."""
        name = self._new_name()
        self.engine.keep(name, sql)
        return self.dialect.quote(name)

    def add(self, label: str, source: Any, *, only: Sequence[str] | None, numbered: bool) -> None:
        """Register a table, or find the one that has been."""
        chosen = None
        if not in_memory(source) and not _is_spark(source):
            name, held = self._name_of_files(label, source), None
        else:
            name, held = self._new_name(), _collected(label, source, numbered)
            chosen = self._chosen(label, held, only, numbered)
            self.engine.register(name, chosen)
        kinds = self.engine.columns(name)
        arrow = chosen if ROW in kinds else None
        self._tables[label] = Table(label, self.dialect.quote(name), kinds, self.dialect, held, ROW in kinds, arrow)

    def close(self) -> None:
        """Forget the names that were made here."""
        for name in self._names:
            self.engine.drop(name)

    def _new_name(self) -> str:
        self._names.append(f"journeys_{uuid.uuid4().hex[:12]}")
        return self._names[-1]

    def _name_of_files(self, label: str, source: Any) -> str:
        if isinstance(source, str):
            try:
                self.engine.columns(source)
            except EngineError as error:
                if not _may_be_path(source):
                    raise EngineError(
                        f"{label} is {source!r}, which is no path of files, nor a table of the engine: {error}"
                    ) from error
            else:
                return source
        name = self._new_name()
        self.engine.register(name, list(source) if isinstance(source, tuple) else source)
        return name

    def _chosen(self, label: str, held: Any, only: Sequence[str] | None, numbered: bool) -> Any:
        """The columns that are read, with the places of the rows where they are asked for."""
        if _is_spark(held) or hasattr(held, "scanner"):
            return held
        if only is not None and (isinstance(held, pd.DataFrame) or hasattr(held, "select")):
            check_columns(getattr(held, "column_names", None) or held.columns, only, where=label)
            wanted = list(dict.fromkeys(only))
            held = held[wanted] if isinstance(held, pd.DataFrame) else held.select(wanted)
        table = _typed(arrow_table(label, held))
        if not numbered:
            return table
        import pyarrow as pa

        return table.append_column(ROW, pa.array(np.arange(len(table))))


@contextmanager
def open_tables(
    sources: Mapping[str, Any],
    *,
    engine: Engine | None = None,
    only: Mapping[str, Sequence[str]] | None = None,
    numbered: bool = False,
) -> Iterator[Tables]:
    """Open tables on one engine; names that were made are forgotten afterwards, an engine that was given stays open.

    Parameters
    ----------
    sources : mapping of label to table
        pandas, Polars (also lazy) or Arrow tables, Spark DataFrames, paths of Parquet or CSV (a file, directory,
        pattern or list of files), or the name of a table of ``engine``. Labels are for messages.
    engine : Engine, optional
        By default DuckDB in this process, or Spark in the session of the DataFrames.
    only : mapping of label to columns, optional
        Of a frame in memory, no other columns are looked at.
    numbered : bool
        Give frames in memory a column ``ROW`` with the places of their rows (not on Spark).

    Raises
    ------
    EngineError
        For a kind of table that cannot be read, an unknown name, or Spark DataFrames beside other tables without
        ``engine``.

    Examples
    --------
    >>> events = pd.DataFrame({"user_id": [1, 1, 2]})
    >>> with open_tables({"events": events}) as tables:
    ...     tables.frame(f"SELECT COUNT(*) AS n FROM {tables['events'].sql}")["n"].tolist()
    [3]
    """
    chosen, session = (engine, None) if engine is not None else _engine_for(sources)
    on_spark = chosen.name == "spark"
    like = None if on_spark else next(iter(sources.values()))
    tables = Tables(chosen, like, session)
    try:
        for label, source in sources.items():
            tables.add(label, source, only=(only or {}).get(label), numbered=numbered and not on_spark)
        yield tables
    finally:
        try:
            tables.close()
        finally:
            if engine is None:
                chosen.close()


def in_memory(source: Any) -> bool:
    """Whether a table is a frame in this process, whose rows can be numbered."""
    return not isinstance(source, str | Path | list | tuple) and not _is_spark(source)


def parse_duration(duration: Duration, *, name: str) -> int:
    """A length of time, zero included, in microseconds; ``name`` is the argument's, for messages.

    Raises
    ------
    TimeError
        For anything but a whole number and one of s, m, h, d, w as text, or a timedelta; and below zero.

    Examples
    --------
    >>> parse_duration("30m", name="gap") == parse_duration(timedelta(minutes=30), name="gap") == 1_800_000_000
    True
    """
    remedy = "expected a whole number of s, m, h, d or w, as '30m', or a timedelta, not below zero."
    if isinstance(duration, str):
        match = re.fullmatch(r"([0-9]+)([smhdw])", duration)
        if not match:
            raise TimeError(f"{name} is {duration!r}; {remedy}")
        length = int(match[1]) * _UNIT_US[match[2]]
    elif isinstance(duration, timedelta | np.timedelta64) and not pd.isna(duration):
        length = pd.Timedelta(duration) // pd.Timedelta(1, "us")
    else:
        raise TimeError(f"{name} is {duration!r}; {remedy}")
    if not 0 <= length <= _LONGEST:
        raise TimeError(f"{name} is {duration!r}, which is below zero or beyond 73,000 years; {remedy}")
    return length


def as_given(frame: pd.DataFrame, like: Any) -> Any:
    """A pandas frame as the kind of table that ``like`` is: Polars stays Polars (lazy, lazy), all else is pandas."""
    if not type(like).__module__.startswith("polars"):
        return frame
    import polars

    made = polars.DataFrame(arrow_table("result", frame))
    return made.lazy() if hasattr(like, "collect") else made


def _engine_for(sources: Mapping[str, Any]) -> tuple[Engine, Any]:
    """An engine of our own, and the Spark session to give results to."""
    on_spark = [label for label, source in sources.items() if _is_spark(source)]
    if not on_spark:
        return LocalEngine(), None
    if len(on_spark) < len(sources):
        others = [label for label in sources if label not in on_spark]
        raise EngineError(
            f"{list_some(on_spark)} is a Spark DataFrame and {list_some(others)} is not; give all as Spark "
            "DataFrames, or pass engine=SparkEngine(session=…), which reads the others too."
        )
    session = sources[on_spark[0]].sparkSession
    return SparkEngine(session=session), session


def _into_session(frame: Any, session: Any) -> Any:
    """A Spark DataFrame in the caller's session: global temporary views are what sessions share."""
    shared = f"causalrec_{uuid.uuid4().hex}"
    frame.createOrReplaceGlobalTempView(shared)
    try:
        return session.table(f"global_temp.{shared}")
    finally:
        session.catalog.dropGlobalTempView(shared)


def _is_spark(source: Any) -> bool:
    return hasattr(source, "sparkSession") and hasattr(source, "createOrReplaceGlobalTempView")


def _collected(label: str, source: Any, numbered: bool) -> Any:
    """A lazy Polars frame, computed once; where rows are numbered, other kinds than pandas and Polars as Arrow."""
    if hasattr(source, "collect_schema") and hasattr(source, "collect"):
        return source.collect()
    if not numbered or isinstance(source, pd.DataFrame) or hasattr(source, "hstack"):
        return source
    return arrow_table(label, source.to_table() if hasattr(source, "scanner") else source)


def _typed(table: Any) -> Any:
    """An Arrow table whose columns without any value, which have no type, are text."""
    import pyarrow as pa

    for i, column in enumerate(table.schema):
        if pa.types.is_null(column.type):
            table = table.set_column(i, column.name, table.column(i).cast(pa.string()))
    return table


def _may_be_path(text: str) -> bool:
    return any(mark in text for mark in "/\\*?[.") or Path(text).expanduser().exists()
