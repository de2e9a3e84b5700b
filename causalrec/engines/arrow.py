"""Frames to Arrow tables and back, so that both engines give and take the same types."""

from __future__ import annotations

import contextlib
from typing import Any

import pandas as pd

from causalrec.engines.base import check_source_columns
from causalrec.exceptions import EngineError


def arrow_to_pandas(table: Any) -> pd.DataFrame:
    """Turn an Arrow table into a frame of the same types whichever engine it came from.

    Times and dates become naive ``datetime64[us]`` in UTC, decimals numbers, dictionaries their values. Integers among
    nulls become floats where that changes none of them, else pandas' ``Int64``.
    """
    import pyarrow as pa

    columns = [_plain_column(table.column(i)) for i in range(table.num_columns)]
    frame: pd.DataFrame = pa.Table.from_arrays(columns, names=table.column_names).to_pandas()
    for i, column in enumerate(columns):
        if column.null_count and pa.types.is_integer(column.type) and _is_wide(column):
            frame.isetitem(i, _nullable_integers(column))
    return frame


def _is_wide(column: Any) -> bool:
    """Whether some integer has more digits than a float."""
    import pyarrow.compute as pc

    return any(abs(end or 0) > 2**53 for end in pc.min_max(column).as_py().values())


def _nullable_integers(column: Any) -> Any:
    import pyarrow as pa

    kind: Any = pd.UInt64Dtype() if column.type == pa.uint64() else pd.Int64Dtype()
    return kind.__from_arrow__(column)


def _plain_column(column: Any) -> Any:
    import pyarrow as pa
    import pyarrow.types as pat

    if pat.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pat.is_timestamp(column.type):
        zone = "UTC" if column.type.tz else None
        return column.cast(pa.timestamp("us", zone), safe=False).cast(pa.timestamp("us"))
    if pat.is_date(column.type):
        return column.cast(pa.timestamp("us"))
    if pat.is_decimal(column.type):
        return _plain_decimal(column)
    return column


def _plain_decimal(column: Any) -> Any:
    """Sums of integers come as wide decimals: integers again where they fit, floats otherwise."""
    import pyarrow as pa

    if column.type.scale == 0:
        with contextlib.suppress(pa.ArrowInvalid):
            return column.cast(pa.int64())
    return column.cast(pa.float64())


def arrow_table(name: str, source: Any) -> Any:
    """A pandas, Polars or Arrow table as an Arrow table that shares its data where it can.

    Raises :class:`EngineError` for anything else and for columns of mixed types, :class:`ColumnError` for names that
    SQL cannot use.
    """
    import pyarrow as pa

    if hasattr(source, "collect") and not hasattr(source, "to_arrow"):  # a lazy Polars frame
        source = source.collect()
    try:
        if isinstance(source, pd.DataFrame):
            check_source_columns(list(source.columns), where=f"table {name!r}")
            return _without_zoned_nanoseconds(_from_pandas(source))
        if hasattr(source, "to_arrow") or hasattr(source, "__arrow_c_stream__"):
            table = source.to_arrow() if hasattr(source, "to_arrow") else pa.table(source)
            check_source_columns(table.column_names, where=f"table {name!r}")
            return _without_zoned_nanoseconds(table)
    except (pa.ArrowException, TypeError) as error:
        raise EngineError(f"table {name!r} cannot be read: {error}") from error
    raise EngineError(
        f"table {name!r}: found {type(source).__name__}; expected a pandas, Polars or Arrow table "
        "(a Spark DataFrame on Spark), or a path."
    )


def _from_pandas(frame: pd.DataFrame) -> Any:
    """Zoned times go as naive ones and get their zone afterwards: pyarrow asks pandas for them in a way that warns."""
    import pyarrow as pa

    zoned = [c for c, t in frame.dtypes.items() if isinstance(t, pd.DatetimeTZDtype)]
    plain = frame.assign(**{str(c): frame[c].dt.tz_convert(None) for c in zoned})
    table = pa.Table.from_pandas(plain, preserve_index=False).replace_schema_metadata(None)
    for column in zoned:
        i = table.column_names.index(column)
        table = table.set_column(i, column, table.column(i).cast(pa.timestamp(table.column(i).type.unit, "UTC")))
    return table


def _without_zoned_nanoseconds(table: Any) -> Any:
    """DuckDB has such times, but no functions of them."""
    import pyarrow as pa

    for i, column in enumerate(table.schema):
        if pa.types.is_timestamp(column.type) and column.type.tz and column.type.unit == "ns":
            table = table.set_column(i, column.name, table.column(i).cast(pa.timestamp("us", "UTC"), safe=False))
    return table


def spark_table(name: str, source: Any) -> Any:
    """:func:`arrow_table` in types that Spark has."""
    import pyarrow as pa

    table = arrow_table(name, source)
    columns = []
    for label, column in zip(table.column_names, table.columns, strict=True):
        try:
            columns.append(_spark_type(column))
        except pa.ArrowException as error:
            raise EngineError(
                f"table {name!r}: Spark has no type for column {label!r} ({column.type}): {error}. Convert it first, "
                "as to text or floats."
            ) from error
    return pa.Table.from_arrays(columns, names=table.column_names)


def _spark_type(column: Any) -> Any:
    """Spark has no unsigned integers, half floats, dictionaries or views."""
    import pyarrow as pa
    import pyarrow.types as pat

    if pat.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    changes = {
        pa.uint8(): pa.int16(),
        pa.uint16(): pa.int32(),
        pa.uint32(): pa.int64(),
        pa.uint64(): pa.int64(),
        pa.float16(): pa.float32(),
        pa.string_view(): pa.string(),
        pa.binary_view(): pa.binary(),
    }
    return column.cast(changes[column.type]) if column.type in changes else column
