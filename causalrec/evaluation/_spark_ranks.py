"""Ranks of the rows of a Spark DataFrame in the order of a score, without sorting it as a whole.

The range of the score is cut into buckets, whose sums come to the driver. Within a bucket, cumulative sums in the order
of the score are a window's; with what the better buckets hold they are cumulative sums over all rows. Equal scores lie
in one bucket. A score so frequent that it fills buckets gets one of its own: nothing is to be sorted there, so its
rows stay spread over the tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalrec._typing import BoolArray, FloatArray
from causalrec.evaluation._spark_rows import Rows
from causalrec.exceptions import EngineError
from causalrec.nuisance.spark_rows import quoted

ROWS_PER_BUCKET = 20_000
MOST_BUCKETS = 512


@dataclass(frozen=True)
class Buckets:
    """Ranges of one scorer's predictions.

    Attributes
    ----------
    cuts : array of shape (m,)
        Rising; bucket b holds the scores from ``cuts[b - 1]`` to below ``cuts[b]``.
    flat : bool array of shape (m + 1,)
        Buckets of a single score.
    """

    scorer: int
    cuts: FloatArray
    flat: BoolArray


def make_buckets(rows: Rows, scorer: int) -> Buckets:
    """Buckets of about equally many rows, and one of its own for every score that would fill more than one."""
    n_buckets = int(np.clip(rows.n / ROWS_PER_BUCKET, 1, MOST_BUCKETS))
    found = rows.quantiles[scorer]
    some = np.unique(np.linspace(0, len(found) - 1, n_buckets + 1).round().astype(int))[1:-1]
    cuts, times = np.unique(found[some], return_counts=True)
    frequent = cuts[times > 1]
    if rows.constant(scorer):
        cuts = frequent = np.array([rows.low[scorer]])
    cuts = np.unique(np.concatenate([cuts, np.nextafter(frequent, np.inf)]))
    flat = np.append(False, np.isin(cuts, frequent))
    return Buckets(scorer, cuts, flat)


def select(frame: Any, columns: Sequence[str], arrays: Mapping[str, FloatArray] | None = None) -> Any:
    """Columns of a frame (SQL), in which an element of an array is written ``:name[place]``.

    An array goes to Spark as one text, which becomes one constant in the plan, however long it is.
    """
    query = f"SELECT {', '.join(columns)} FROM {{rows}}"
    for name in arrays or {}:
        query = query.replace(f":{name}[", f"CAST(split(:{name}, ',') AS ARRAY<DOUBLE>)[")
    texts = {name: ",".join(map(repr, values.tolist())) for name, values in (arrays or {}).items()}
    return frame.sparkSession.sql(query, args=texts, rows=frame)


def placed(frame: Any, value: str, cuts: FloatArray, name: str) -> Any:
    """The frame with a column ``name``: how many of the rising ``cuts`` are at most ``value`` (SQL), by bisection."""
    half = 1 << max(len(cuts).bit_length() - 1, 0)
    padded = np.append(cuts, np.full(2 * half - 1 - len(cuts), np.inf))
    place, steps = "0", []
    while half >= 1:
        steps.append(f"{place} + IF({value} >= :cuts[{place} + {half - 1}], {half}, 0) AS _p{half}")
        place, half = f"_p{half}", half // 2
    kept = [quoted(column) for column in frame.columns]
    # What varies by partition is not moved: else a filter on the column would write out the steps, 2 ** steps terms.
    place = f"{place} + 0 * spark_partition_id() AS {name}"
    return select(frame, ["*", *steps], {"cuts": padded}).selectExpr(*kept, place)


def by_bucket(frame: Any, bucket: str, n_buckets: int, sums: Sequence[str], distinct: str = "") -> FloatArray:
    """Sums (SQL) by bucket, shape (n_buckets, …): the number of rows, the sums, and how many values are distinct."""
    columns = ["COUNT(*)", *(f"SUM({s})" for s in sums), *([f"COUNT(DISTINCT {distinct})"] if distinct else [])]
    query = f"SELECT {bucket} AS b, {', '.join(f'{c} AS v{i}' for i, c in enumerate(columns))} FROM {{rows}} GROUP BY 1"
    found = frame.sparkSession.sql(query, rows=frame).toArrow()
    table = np.zeros((n_buckets, len(columns)))
    place = found.column("b").to_numpy()
    for i in range(len(columns)):
        table[place, i] = found.column(f"v{i}").to_numpy()
    return table


def check_same_rows(found: float, expected: int) -> None:
    """Raise where a later pass over the frame saw other rows than the first."""
    if found != expected:
        raise EngineError(
            f"the frame gave {expected:,} rows of positive weight first and {found:,.0f} later: it changes when it is "
            "computed again, as a sample without a seed does. Call persist() on it, or write it to a table first."
        )


def better(sums: FloatArray) -> FloatArray:
    """What the better buckets hold, by bucket: sums over all buckets of higher scores."""
    return np.asarray(np.append(np.cumsum(sums[::-1])[::-1][1:], 0.0))


@dataclass(frozen=True)
class Running:
    """A value to be summed in the order of a score.

    Attributes
    ----------
    name : str
    value : str
        SQL.
    sums : array of shape (n_buckets,)
        By bucket.
    through : bool
        Whether the sum over all rows of scores as high or higher is needed, as ``{name}_through``; the one over rows
        of the same score is ``{name}_own``.
    """

    name: str
    value: str
    sums: FloatArray
    through: bool = True


def in_order(frame: Any, buckets: Buckets, bucket: str, values: Sequence[Running], more: Sequence[str] = ()) -> Any:
    """The frame with running sums, and ``more`` window functions (SQL) over ``{window}``, void in flat buckets."""
    mixed = bool(buckets.flat.any())
    arrays = {"flat": buckets.flat.astype(np.float64)}
    flat = f":flat[{bucket}] = 1D"
    window = f"PARTITION BY {bucket}{', _spread' if mixed else ''} ORDER BY s{buckets.scorer} DESC"
    columns = [column.format(window=window) for column in more]
    for v in values:
        above = better(v.sums)
        arrays |= {f"{v.name}_above": above, f"{v.name}_sums": v.sums, f"{v.name}_end": above + v.sums}
        own = f"SUM({v.value}) OVER ({window} RANGE BETWEEN CURRENT ROW AND CURRENT ROW)"
        through = f":{v.name}_above[{bucket}] + SUM({v.value}) OVER ({window})"
        if mixed:
            own = f"IF({flat}, :{v.name}_sums[{bucket}], {own})"
            through = f"IF({flat}, :{v.name}_end[{bucket}], {through})"
        columns += [f"{own} AS {v.name}_own", *([f"{through} AS {v.name}_through"] if v.through else [])]
    if mixed and "_spread" not in frame.columns:
        frame = select(frame, ["*", f"IF({flat}, spark_partition_id(), 0) AS _spread"], arrays)
    return select(frame, ["*", *columns], arrays)
