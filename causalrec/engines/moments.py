"""Moments of a table by group: one scan serves all metrics."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import Any

import numpy as np

from causalrec._validation import check_columns
from causalrec.engines.base import Engine
from causalrec.exceptions import ColumnError, OutcomeError
from causalrec.moments import Moments


def collect_moments(
    engine: Engine, table: str, columns: Sequence[str], by: Sequence[str]
) -> dict[tuple[Any, ...], Moments]:
    """Count, means and covariances of numeric columns for every group, in one grouped query.

    Raises
    ------
    ColumnError
        For a column that is missing or not numeric.
    OutcomeError
        For missing or infinite values, with their count and group.
    """
    kinds = engine.columns(table)
    check_columns(kinds, [*columns, *by], where=f"table {table!r}")
    text = [c for c in columns if kinds[c] not in ("integer", "float", "boolean")]
    if text:
        raise ColumnError(
            f"table {table!r}: metric {text[0]!r} is {kinds[text[0]]}; expected numbers. Convert it first."
        )
    q = engine.dialect.quote
    value = [f"CAST({q(c)} AS DOUBLE)" for c in columns]
    pairs = list(combinations_with_replacement(range(len(columns)), 2))
    parts = [f"{q(b)} AS g{i}" for i, b in enumerate(by)] + ["COUNT(*) AS n"]
    parts += [f"AVG({v}) AS m{i}" for i, v in enumerate(value)]
    parts += [f"COVAR_POP({value[i]}, {value[j]}) AS c{i}_{j}" for i, j in pairs]
    bad = [
        f"SUM(CASE WHEN {v} IS NULL OR isnan({v}) OR ABS({v}) > 1.7e308 THEN 1 ELSE 0 END) AS b{i}"
        for i, v in enumerate(value)
    ]
    finite = [f"CASE WHEN {v} IS NULL OR isnan({v}) OR ABS({v}) > 1.7e308 THEN NULL ELSE {v} END" for v in value]
    for i, v in enumerate(value):
        parts = [p.replace(v, finite[i]) for p in parts]
    groups = ", ".join(q(b) for b in by)
    rows = engine.collect(f"SELECT {', '.join([*parts, *bad])} FROM {q(table)} GROUP BY {groups} ORDER BY {groups}")
    found = {}
    for row in rows.to_dict("records"):
        key = tuple(row[f"g{i}"] for i in range(len(by)))
        for i, column in enumerate(columns):
            if row[f"b{i}"]:
                raise OutcomeError(
                    f"metric {column!r}, group {key}: {int(row[f'b{i}'])} of {row['n']} values are missing or infinite. "
                    "Drop those rows or fill them in a way that you can defend."
                )
        products = np.empty((len(columns), len(columns)))
        for i, j in pairs:
            products[i, j] = products[j, i] = row[f"c{i}_{j}"] * row["n"]
        mean = np.array([row[f"m{i}"] for i in range(len(columns))], dtype=np.float64)
        found[key] = Moments(int(row["n"]), tuple(columns), mean, products)
    return found
