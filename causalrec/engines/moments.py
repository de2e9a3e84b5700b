"""Moments of a table by group: one query serves all metrics.

Sums of floats depend on the order in which an engine adds them, which differs from run to run. Here they do not: every
term is split into two parts on grids so coarse that adding them up is exact, and what is exact has no order. Demmel and
Nguyen (2013), "Fast reproducible floating-point summation", has the idea. The terms are centred on the point of each
group's range that is nearest to zero, so that nothing is lost to a large mean, nor to a long tail.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import Any

import numpy as np

from causalrec._validation import check_columns
from causalrec.engines.base import Engine
from causalrec.exceptions import ColumnError, OutcomeError
from causalrec.moments import Moments

LARGEST = "1e150"  # its square is still a number
_SECOND_GRID = "4.440892098500626e-16"  # 2^-51


def collect_moments(
    engine: Engine, table: str, columns: Sequence[str], by: Sequence[str]
) -> dict[tuple[Any, ...], Moments]:
    """Count, means and covariances of numeric columns for every group, in one query.

    The same rows give the same bits, in any order and on any engine. Booleans count as 0 and 1.

    Raises
    ------
    ColumnError
        For a column that is missing or not numeric.
    OutcomeError
        For values that are missing, infinite or beyond 1e150, with their count and group.

    Examples
    --------
    >>> import pandas as pd
    >>> from causalrec.engines import LocalEngine
    >>> with LocalEngine() as engine:
    ...     engine.register("t", pd.DataFrame({"arm": ["a", "a", "b"], "spend": [1.0, 3.0, 5.0]}))
    ...     found = collect_moments(engine, "t", ["spend"], by=["arm"])
    >>> found["a",].n, found["a",].mean_of("spend"), found["a",].var_of("spend")
    (2, 2.0, 2.0)
    """
    if not columns:
        raise ColumnError(f"table {table!r}: no metric is named; at least one is needed.")
    kinds = engine.columns(table)
    check_columns(kinds, [*columns, *by], where=f"table {table!r}")
    text = [c for c in columns if kinds[c] not in ("integer", "float", "boolean")]
    if text:
        raise ColumnError(
            f"table {table!r}: metric {text[0]!r} is {kinds[text[0]]}; expected numbers. Convert it first."
        )
    q = engine.dialect.quote
    rows: Any = engine.collect(_moments_sql(q(table), [q(c) for c in columns], [q(b) for b in by]))
    found = {}
    for row in rows.to_dict("records"):
        if not row["n"]:  # no groups and no rows
            continue
        key = tuple(row[f"g{i}"] for i in range(len(by)))
        _check_bad(row, columns, key)
        found[key] = _moments(row, columns)
    return found


def _moments_sql(table: str, columns: Sequence[str], by: Sequence[str]) -> str:
    """Ranges of each group, then sums of the centred values ``d`` and of their products, in two parts each."""
    each = range(len(columns))
    pairs = list(combinations_with_replacement(each, 2))
    keys = [f"g{i}" for i in range(len(by))]

    def listed(*parts: Sequence[str]) -> str:
        return ", ".join(text for part in parts for text in part)

    # A comparison with NaN or null is never true here: both engines take NaN for the largest number.
    values = [f"CASE WHEN ABS(CAST({c} AS DOUBLE)) <= {LARGEST} THEN CAST({c} AS DOUBLE) END AS x{i}"
              for i, c in enumerate(columns)]  # fmt: skip
    # Written out twice: DuckDB would keep a shared one in memory.
    table = f"(SELECT {listed([f'{b} AS {k}' for b, k in zip(by, keys, strict=True)], values)} FROM {table})"
    ranges = [f"COUNT(*) - COUNT(x{i}) AS b{i}, MIN(x{i}) AS lo{i}, MAX(x{i}) AS hi{i}" for i in each]
    centre = [f"CASE WHEN lo{i} > 0 THEN lo{i} WHEN hi{i} < 0 THEN hi{i} ELSE 0e0 END AS c{i}" for i in each]
    reach = [f"GREATEST(hi{i} - c{i}, c{i} - lo{i}) AS r{i}" for i in each]
    centred = [f"x.x{i} - s.c{i} AS d{i}, r{i}" for i in each]
    sums = [_exact_sums(f"{i}", f"d{i}", f"(coarse * r{i})") for i in each]
    sums += [_exact_sums(f"{i}_{j}", f"d{i} * d{j}", f"(coarse * r{i} * r{j})") for i, j in pairs]
    same = " AND ".join(f"{{0}}.{k} IS NOT DISTINCT FROM s.{k}" for k in keys) or "TRUE"
    group = f" GROUP BY {listed(keys)}" if keys else ""
    return (
        f"WITH a AS (SELECT {listed(keys, ['COUNT(*) AS n'], ranges)} FROM {table} x{group}), "
        f"c AS (SELECT *, 4e0 * n AS coarse, {_SECOND_GRID} * n AS fine, {listed(centre)} FROM a), "
        f"s AS (SELECT *, {listed(reach)} FROM c), "
        f"d AS (SELECT {listed([f's.{k}' for k in keys], ['coarse', 'fine'], centred)} "
        f"FROM {table} x JOIN s ON {same.format('x')}), "
        f"t AS (SELECT {listed(keys, sums)} FROM d{group}) "
        f"SELECT s.*, {listed([c for i in each for c in (f'h{i}', f'l{i}')])}, "
        f"{listed([c for i, j in pairs for c in (f'h{i}_{j}', f'l{i}_{j}')])} FROM t JOIN s ON {same.format('t')}"
        + (f" ORDER BY {listed([f's.{k}' for k in keys])}" if keys else "")
    )


def rounded_sql(term: str, grid: str) -> str:
    """A term that is smaller than the grid, rounded to a multiple of the grid's last digit."""
    return f"({term} + {grid} - {grid})"


def _exact_sums(name: str, term: str, grid: str) -> str:
    """Sums of the two parts of a term that is at most ``grid / 4n`` in each of n rows.

    Adding and taking away the grid g rounds to a multiple of its last digit, at least ``g * 2^-54``; n of those stay
    below 2^53 multiples, so their sum has no rounding. The remainder, at most ``g * 2^-53``, is treated so again.
    """
    head = rounded_sql(term, grid)
    rest = rounded_sql(f"({term} - {head})", f"{grid} * fine")
    return f"SUM({head}) AS h{name}, SUM({rest}) AS l{name}"


def _check_bad(row: dict[str, Any], columns: Sequence[str], key: tuple[Any, ...]) -> None:
    for i, column in enumerate(columns):
        if row[f"b{i}"]:
            raise OutcomeError(
                f"metric {column!r}, group {key}: {int(row[f'b{i}'])} of {row['n']} values are missing, infinite or "
                f"beyond {LARGEST}. Drop those rows or fill them in a way that you can defend."
            )


def _moments(row: dict[str, Any], columns: Sequence[str]) -> Moments:
    n, each = int(row["n"]), range(len(columns))
    shift = np.array([row[f"h{i}"] + row[f"l{i}"] for i in each], dtype=np.float64)
    mean = np.array([row[f"c{i}"] for i in each], dtype=np.float64) + shift / n
    products = np.empty((len(columns), len(columns)))
    for i, j in combinations_with_replacement(each, 2):
        products[i, j] = products[j, i] = row[f"h{i}_{j}"] + row[f"l{i}_{j}"] - shift[i] * shift[j] / n
    return Moments(n, tuple(columns), mean, products)
