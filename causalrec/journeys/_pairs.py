"""The query for frames in memory whose keys have few rows each: all pairs of a key, and of them the nearest.

It gives what :mod:`causalrec.journeys._links` gives, by hashing instead of sorting, which takes a third of the time as
long as there are only a few times as many pairs as rows; :func:`nearest_places` counts them first and declines where
there are more (one user with half of the log would make a square of it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from causalrec._typing import IntArray
from causalrec.journeys._links import Stage, tie_columns, where
from causalrec.journeys._tables import ROW, Tables

_MOST_PAIRS = 4  # for each row, from where on sorting is faster
_WIDEST = 2**63


@dataclass(frozen=True)
class _Base:
    """The events that are followed back: a kept table of keys, times (``__t``) and places (``__l``)."""

    tables: Tables
    name: str
    by: Sequence[str]
    tolerance_us: int | None
    strict: bool

    def pairs_sql(self, stage: Stage, later: str) -> str:
        """FROM and WHERE of all pairs of which the earlier precedes the later, as ``l`` and ``e``."""
        table = stage.table
        keys = " AND ".join(f"l.__k{i} = e.{table.column(key)}" for i, key in enumerate(self.by))
        gap = self.gap_sql(stage)
        near = f"{gap} {'>' if self.strict else '>='} 0"
        if self.tolerance_us is not None:
            near += f" AND {gap} <= {self.tolerance_us}"
        source = f"(SELECT * FROM {table.sql} src{where(stage)})"
        return f"FROM {later} l JOIN {source} e ON {keys} WHERE {near}"

    def gap_sql(self, stage: Stage) -> str:
        """The time between the two of a pair."""
        return f"(l.__t - {stage.table.micros(stage.time, 'e')})"


def nearest_places(
    tables: Tables, base: Stage, stages: Sequence[Stage], by: Sequence[str], tolerance_us: int | None, *, strict: bool,
    most_pairs: float = _MOST_PAIRS,
) -> list[IntArray] | None:  # fmt: skip
    """For each stage the place of the row that it gives to each row of the base's frame, -1 where there is none.

    None where there are more than ``most_pairs`` pairs for each row of both tables.
    """
    table = base.table
    keys = ", ".join(f"{table.column(key, 'src')} AS __k{i}" for i, key in enumerate(by))
    known = [f"{table.column(c, 'src')} IS NOT NULL" for c in (*by, base.time)]
    kept = tables.keep(
        f"SELECT {keys}, {table.micros(base.time, 'src')} AS __t, src.{ROW} AS __l FROM {table.sql} src"
        f"{where(base, known)}"
    )
    asked = _Base(tables, kept, by, tolerance_us, strict)
    if any(_n_pairs(asked, stage) > most_pairs * (len(table.held) + len(stage.table.held)) for stage in stages):
        return None
    found: list[IntArray] = []
    later = kept
    for i, stage in enumerate(stages):
        places, gaps = _nearest(asked, stage, later, len(table.held))
        found.append(places)
        if i + 1 < len(stages) and (places >= 0).any():
            moved = _register(tables, np.arange(len(gaps)), gaps)
            columns = ", ".join(f"l.__k{j}" for j in range(len(by)))
            later = tables.keep(
                f"SELECT {columns}, l.__t - m.__gap AS __t, l.__l FROM {later} l JOIN {moved} m ON l.__l = m.__l"
            )
    return found


def _n_pairs(asked: _Base, stage: Stage) -> float:
    names = ", ".join(f"__k{i}" for i in range(len(asked.by)))
    keys = " AND ".join(f"l.__k{i} = src.{stage.table.column(key)}" for i, key in enumerate(asked.by))
    counts = f"(SELECT {names}, COUNT(*) AS n FROM {asked.name} GROUP BY {names})"
    sql = f"SELECT SUM(CAST(l.n AS DOUBLE)) AS n FROM {counts} l JOIN {stage.table.sql} src ON {keys}{where(stage)}"
    return float(np.nan_to_num(asked.tables.collect(sql)["n"].iloc[0]))


def _nearest(asked: _Base, stage: Stage, later: str, n_base: int) -> tuple[IntArray, IntArray]:
    """Places and gaps. A gap and a place go into one number, whose smallest is found once with places from either
    end: where the two differ, several rows are at the same time and their order decides.
    """
    n, gap, pairs = len(stage.table.held), asked.gap_sql(stage), asked.pairs_sql(stage, later)
    places, gaps = np.full(n_base, -1, dtype=np.int64), np.zeros(n_base, dtype=np.int64)
    if asked.tolerance_us is None or (asked.tolerance_us + 1) * n >= _WIDEST:
        found = asked.tables.collect(f"SELECT l.__l AS l, MIN({gap}) AS gap {pairs} GROUP BY l.__l")
        rows = tied = found["l"].to_numpy()
        gaps[rows] = found["gap"].to_numpy()
    else:
        both = f"MIN({gap} * {n} + e.{ROW}) AS a, MIN({gap} * {n} + {n - 1} - e.{ROW}) AS b"
        found = asked.tables.collect(f"SELECT l.__l AS l, {both} {pairs} GROUP BY l.__l")
        rows, low = found["l"].to_numpy(), found["a"].to_numpy()
        gaps[rows], places[rows] = np.divmod(low, n)
        tied = rows[places[rows] != n - 1 - found["b"].to_numpy() % n]
    if len(tied):
        _break_ties(asked, stage, later, tied, gaps, places)
    return places, gaps


def _break_ties(asked: _Base, stage: Stage, later: str, tied: IntArray, gaps: IntArray, places: IntArray) -> None:
    """Put the last of the rows at one time, in the order of ``order_by`` and all columns, into ``places``."""
    chosen = _register(asked.tables, tied, gaps[tied])
    order = ", ".join(f"{stage.table.column(c, 'e')} DESC NULLS LAST" for c in tie_columns(stage, asked.by)) or "l.__l"
    pairs = asked.pairs_sql(stage, f"(SELECT k.*, m.__gap FROM {later} k JOIN {chosen} m ON k.__l = m.__l)")
    ranked = f"SELECT l.__l AS l, e.{ROW} AS e, row_number() OVER (PARTITION BY l.__l ORDER BY {order}) AS n"
    last = asked.tables.collect(
        f"SELECT l, e FROM ({ranked} {pairs} AND {asked.gap_sql(stage)} = l.__gap) ranked WHERE n = 1"
    )
    places[last["l"].to_numpy()] = last["e"].to_numpy()


def _register(tables: Tables, rows: IntArray, gaps: IntArray) -> str:
    import pyarrow as pa

    return tables.register(pa.table({"__l": rows, "__gap": gaps}))
