"""What an engine is: the one boundary through which tables enter.

Above it there are only SQL text, small frames and moments, so an embedded run
and a cluster run cannot drift apart. Where SQL differs between engines, a
:class:`Dialect` has a named hook for it.
"""

from __future__ import annotations

import csv
import gzip
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TextIO, TypeAlias, cast, runtime_checkable

import pandas as pd

from causalrec._validation import list_some, optional_import
from causalrec.engines.exact import LARGEST
from causalrec.exceptions import ColumnError, DatasetError, EngineError, TimeError

Kind: TypeAlias = Literal["integer", "float", "string", "boolean", "timestamp", "timestamptz", "date", "other"]
PathSource: TypeAlias = "str | Path | Sequence[str | Path]"

_ZONE = r":\d\d(\.\d+)?\s*(Z|UTC|[+-]\d\d(:?\d\d)?)$"
_OWN_NAME = re.compile(r"^__|_[0-9a-f]{12}$")  # views that queries make for themselves
_GLOB_MARKS = frozenset("*?[")
_FORMATS = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".csv.gz": "csv"}
_DELIMITERS = ",;\t|"


class Dialect(ABC):
    """The few places where the SQL of the engines differs, by name."""

    name: str
    quote_mark: str
    keeps_rows: bool  # whether Engine.keep computes once, so that rows can be numbered
    one_scan: bool  # whether a look at a table is so dear that a result must come from one

    def quote(self, identifier: str) -> str:
        """Write an identifier so that spaces, quotes and any letter are taken literally."""
        return f"{self.quote_mark}{identifier.replace(self.quote_mark, self.quote_mark * 2)}{self.quote_mark}"

    @abstractmethod
    def literal(self, text: str) -> str:
        """Write a string literal."""

    @abstractmethod
    def epoch_us(self, expression: str) -> str:
        """Microseconds since 1970 UTC, as a 64-bit integer, of a date or of a timestamp with or without zone."""

    @abstractmethod
    def from_epoch_us(self, expression: str) -> str:
        """The naive UTC timestamp of an integer of microseconds."""

    @abstractmethod
    def wall_clock(self, expression: str, time_zone: str) -> str:
        """What the clocks of an IANA time zone show, as a timestamp without zone, at an integer of microseconds."""

    @abstractmethod
    def count_distinct(self, expression: str, over: str = "") -> str:
        """The number of distinct values that are not null, of a group or of the frame of an ``OVER`` clause."""

    @abstractmethod
    def whole_sum(self, expression: str, summed: Callable[[str], str]) -> str:
        """The sum of integers in a type that it cannot leave; ``summed`` writes the sum of an expression."""

    @abstractmethod
    def failure(self, message: str) -> str:
        """A value that, once it is needed, stops the query with a message."""

    @abstractmethod
    def is_nan(self, expression: str) -> str:
        """Whether a float is NaN; null or false where it is null."""

    @abstractmethod
    def unpruned(self, column: str) -> str:
        """The same value, of which the engine takes nothing for known.

        A Parquet file's range of a column of floats leaves NaN out, so a filter that believes it does not find those
        rows, or finds them all, although NaN is larger than any number.
        """

    def tame(self, number: str, *, whole: bool = False) -> str:
        """A double, and null where it is NaN, infinite or beyond 1e150; ``whole`` if it was an integer."""
        known = "" if whole else f"NOT {self.is_nan(number)} AND "
        return f"CASE WHEN {known}ABS({number}) <= {LARGEST} THEN {number} END"

    @abstractmethod
    def deviation(self, expression: str) -> str:
        """The standard deviation (n - 1) of a group's numbers, which must be finite; their order does not matter."""

    @abstractmethod
    def quantile(self, expression: str, probability: float) -> str:
        """An exact quantile of a group, by linear interpolation (type 7); nulls do not count."""

    @abstractmethod
    def quantiles(self, expression: str, probabilities: Sequence[float]) -> str:
        """The list of several such quantiles."""

    @abstractmethod
    def latest(self, expression: str, over: str) -> str:
        """The last value that is not null in the frame of a window, ``over`` being what stands in its brackets."""

    @abstractmethod
    def record(self, expressions: Sequence[str]) -> str:
        """Several values as one that is not null, with fields ``f0``, ``f1``, …"""

    @abstractmethod
    def steps(self, start: int, stop: int, step: int) -> str:
        """In a list of columns: a row for each of ``start, start + step, …`` below ``stop``."""

    @abstractmethod
    def row_hash(self, expressions: Sequence[str]) -> str:
        """A 64-bit hash of a row, as a number that can be summed without overflow."""


@runtime_checkable
class Engine(Protocol):
    """A place that holds tables and answers SQL: :class:`LocalEngine` or :class:`SparkEngine`.

    Naive timestamps are UTC and zoned ones are converted to it. Times come back from :meth:`collect`
    as naive ``datetime64[us]`` in UTC; integers among nulls as floats where those can hold them, else as ``Int64``.
    Rows have no order unless the query asks for one.
    """

    name: str
    dialect: Dialect

    def register(self, name: str, source: Any) -> None:
        """Give a table a name; a former table of that name is replaced.

        ``source`` is a pandas, Polars or Arrow table (a Spark DataFrame on Spark), or the path of a Parquet or CSV
        file, of a directory of them (hive partitions become columns), a glob pattern, or a list of files.
        Raises :class:`DatasetError` for a path that is missing or cannot be read, :class:`ColumnError` for names
        that appear twice (in any case of letters), :class:`EngineError` for anything else.
        """

    def create_view(self, name: str, sql: str) -> None:
        """Give a query a name; it runs when it is used. Raises :class:`EngineError` if it cannot be planned."""

    def keep(self, name: str, sql: str) -> None:
        """Give a query a name, and keep its rows where the engine can; elsewhere it runs when it is used."""

    def drop(self, name: str) -> None:
        """Forget a table or view; a name that is unknown is left alone."""

    def columns(self, name: str) -> dict[str, Kind]:
        """Columns of a table in order, with the kind of each. Raises :class:`EngineError` for an unknown table."""

    def ranges(self, name: str) -> dict[str, tuple[float, float, bool]]:
        """What files say of their columns of numbers, without a look at the rows: low end, high end, has nulls."""

    def collect(self, sql: str) -> pd.DataFrame:
        """Run a query whose result is small. Raises :class:`EngineError` with the engine's message."""

    def frame(self, sql: str) -> Any:
        """The result as the engine's own frame: pandas on local, a Spark DataFrame on Spark."""

    def write_parquet(self, sql: str, path: str | Path, *, partition_by: Sequence[str] = ()) -> None:
        """Write a result to a new directory of Parquet files, whole or not at all.

        Raises :class:`StoreError` if the directory exists or cannot be made, :class:`EngineError` if the query fails.
        """

    def close(self) -> None:
        """Let go of everything; a second call does nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def check_source_columns(names: Sequence[object], *, where: str) -> None:
    """Raise :class:`ColumnError` where a table has no columns, or names that SQL cannot tell apart."""
    if not names:
        raise ColumnError(f"{where}: the table has no columns; at least one is needed.")
    odd = [n for n in names if not isinstance(n, str) or not n]
    if odd:
        raise ColumnError(f"{where}: column names must be non-empty strings; found {list_some(odd)}. Rename them.")
    lowered = [str(n).lower() for n in names]
    doubled = [n for n, low in zip(names, lowered, strict=True) if lowered.count(low) > 1]
    if doubled:
        raise ColumnError(
            f"{where}: column names appear twice: {list_some(doubled)} (SQL does not tell upper and lower case apart). "
            "Rename or drop one of each."
        )


class Files:
    """The files that a path source stands for.

    Attributes
    ----------
    paths : list of Path
        Data files, sorted; at least one.
    base : Path or None
        The directory below which hive partitions count as columns; None if they do not.
    format : "parquet" or "csv"
    nanoseconds : dict of str to bool
        Parquet columns of times in nanoseconds, which not every engine can use, and whether they have a zone.
    delimiter : str
        Of CSV files, which have a line of names: the comma, semicolon, tab or bar that is most frequent in it.
    """

    def __init__(self, source: PathSource) -> None:
        if isinstance(source, str | Path):
            self.paths, self.base = _find_files(Path(source).expanduser())
        else:
            self.paths, self.base = [Path(p).expanduser() for p in source], None
        missing = [str(p) for p in self.paths if not p.is_file()]
        if missing or not self.paths:
            raise DatasetError(f"no such file: {list_some(missing) or 'an empty list of paths'}. Check the path.")
        formats = {_format_of(p) for p in self.paths}
        if len(formats) != 1 or None in formats:
            raise DatasetError(
                f"{source}: found files {list_some(sorted({p.suffix for p in self.paths}))}; expected only Parquet "
                "(.parquet, .pq) or only CSV (.csv, .csv.gz)."
            )
        self.format = str(formats.pop())
        self.nanoseconds: dict[str, bool] = {}
        self.delimiter = ","
        check_source_columns(self._names(self.paths[0]), where=str(self.paths[0]))

    def ranges(self) -> dict[str, tuple[float, float, bool]]:
        """Low end, high end and whether there are nulls, of the columns of numbers whose Parquet footers tell."""
        import pyarrow.parquet as pq

        if self.format != "parquet":
            return {}
        groups = []
        for path in self.paths:
            footer = pq.read_metadata(path)
            groups += [_column_ranges(footer.row_group(g)) for g in range(footer.num_row_groups)]
        shared = set.intersection(*map(set, groups)) if groups else set()
        return {c: (min(g[c][0] for g in groups), max(g[c][1] for g in groups), any(g[c][2] for g in groups))
                for c in shared}  # fmt: skip

    def _names(self, path: Path) -> list[str]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            if self.format == "parquet":
                schema = pq.read_schema(path)
                nano = [f for f in schema if pa.types.is_timestamp(f.type) and f.type.unit == "ns"]
                self.nanoseconds = {f.name: f.type.tz is not None for f in nano}
                return list(schema.names)
            with _open_text(path) as file:
                self.delimiter = max(_DELIMITERS, key=file.readline().count)
            return csv_header(path, self.delimiter)
        except (OSError, EOFError, UnicodeError, csv.Error, pa.ArrowException) as error:
            raise DatasetError(f"{path}: unreadable as {self.format}: {error}") from error


def _column_ranges(row_group: Any) -> dict[str, tuple[float, float, bool]]:
    ranges = {}
    for i in range(row_group.num_columns):
        column = row_group.column(i)
        known = column.statistics
        if known is None or not (known.has_min_max and known.has_null_count):
            continue
        low, high = known.min, known.max
        if all(type(end) in (int, float) for end in (low, high)) and -math.inf < low <= high < math.inf:
            ranges[column.path_in_schema] = (float(low), float(high), known.null_count > 0)
    return ranges


def csv_types(files: Files) -> dict[str, str]:
    """DuckDB's types of the columns of CSV files, to which both engines keep: ``007`` is text, not the number 7.

    All rows are looked at, once: a column may begin with any number of empty cells.

    Raises :class:`TimeError` where a column has times with a zone and times without: the latter would be read as UTC,
    hours off where the writer meant the local time.
    """
    duckdb = optional_import("duckdb", extra="all")
    quoted = ", ".join("'" + str(path).replace("'", "''") + "'" for path in files.paths)
    source = (
        f"[{quoted}], header = true, delim = '{files.delimiter}', quote = '\"', escape = '\"', union_by_name = true"
    )
    with duckdb.connect(":memory:") as connection:
        try:
            described = connection.execute(f"DESCRIBE SELECT * FROM read_csv({source}, sample_size = -1)").fetchall()
            zoned = [row[0] for row in described if row[1] == "TIMESTAMP WITH TIME ZONE"]
            for column in zoned:
                c = '"' + column.replace('"', '""') + '"'
                n_zoned, n = connection.execute(
                    f"SELECT COUNT(*) FILTER (regexp_matches(trim({c}), '{_ZONE}')), COUNT({c}) "
                    f"FROM read_csv({source}, all_varchar = true)"
                ).fetchone()
                if n_zoned < n:
                    raise TimeError(
                        f"{files.paths[0]}: {n - n_zoned:,} of {n:,} times in column {column!r} have no zone and the "
                        "others have one. Give all of them a zone, or none of them (then they are UTC)."
                    )
            return {row[0]: row[1] for row in described}
        except duckdb.Error as error:
            raise DatasetError(f"{files.paths[0]}: unreadable as csv: {error}") from error


def csv_header(path: Path, delimiter: str) -> list[str]:
    """The names in the first line of a CSV file."""
    with _open_text(path) as file:
        return next(csv.reader(file, delimiter=delimiter), [])


def _open_text(path: Path) -> TextIO:
    if path.suffix.lower() == ".gz":
        return cast(TextIO, gzip.open(path, "rt", encoding="utf-8-sig", newline=""))
    return path.open(encoding="utf-8-sig", newline="")


def _format_of(path: Path) -> str | None:
    name = path.name.lower()
    return next((known for ending, known in _FORMATS.items() if name.endswith(ending)), None)


def _find_files(path: Path) -> tuple[list[Path], Path | None]:
    if path.is_file():
        return [path], None
    if path.is_dir():
        base, found = path, path.rglob("*")
    elif _GLOB_MARKS & set(str(path)):
        plain = next(i for i, part in enumerate(path.parts) if _GLOB_MARKS & set(part))
        base = Path(*path.parts[:plain])
        found = base.glob(str(Path(*path.parts[plain:])))
    else:
        raise DatasetError(f"no such file or directory: {path}. Check the path, or make the data first.")
    files = sorted(p for p in found if p.is_file() and _format_of(p) and not _is_hidden(p.relative_to(base)))
    if not files:
        raise DatasetError(f"{path} matches no Parquet or CSV file. Check the path, or make the data first.")
    return files, base


def _is_hidden(path: Path) -> bool:
    """Spark and others keep their own files under names that start so."""
    return any(part.startswith(("_", ".")) and "=" not in part for part in path.parts)


def unknown_table(name: str, known: Sequence[str]) -> EngineError:
    """The error for a table that nobody registered."""
    shown = sorted(each for each in known if not _OWN_NAME.search(each))
    return EngineError(f"no table named {name!r}; known: {list_some(shown) or 'none'}. Call register() first.")
