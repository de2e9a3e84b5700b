"""The queries for frames in memory, whose rows have places: what :mod:`causalrec.journeys._links` gives, faster.

Where keys have few rows each, all pairs of a key are made and the nearest taken, by hashing instead of sorting; the
pairs are counted first. Where there are many (one user with half of the log would make a square of it), DuckDB's ASOF
join finds the time that is linked. It leaves open which of several rows at that time is taken, as the first query does;
such rows are looked for, and put in order where there are some.
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

    def pairs_sql(self, stage: Stage, later: str, at: str = "") -> str:
        """FROM and WHERE of all pairs of which the earlier precedes the later, as ``l`` and ``e``, also on ``at``."""
        source = f"(SELECT * FROM {stage.table.sql} src{where(stage)})"
        return f"FROM {later} l JOIN {source} e ON {self.keys_sql(stage)}{at} WHERE {self.near_sql(stage)}"

    def keys_sql(self, stage: Stage) -> str:
        """Equal keys."""
        return " AND ".join(f"l.__k{i} = e.{stage.table.column(key)}" for i, key in enumerate(self.by))

    def near_sql(self, stage: Stage) -> str:
        """Whether the earlier precedes the later within the tolerance."""
        gap = self.gap_sql(stage)
        near = f"{gap} {'>' if self.strict else '>='} 0"
        return near if self.tolerance_us is None else f"{near} AND {gap} <= {self.tolerance_us}"

    def gap_sql(self, stage: Stage) -> str:
        """The time between the two of a pair."""
        return f"(l.__t - {stage.table.micros(stage.time, 'e')})"


def nearest_places(
    tables: Tables, base: Stage, stages: Sequence[Stage], by: Sequence[str], tolerance_us: int | None, *, strict: bool,
    most_pairs: float = _MOST_PAIRS,
) -> list[IntArray]:  # fmt: skip
    """For each stage the place of the row that it gives to each row of the base's frame, -1 where there is none.

    All pairs are made where there are no more than ``most_pairs`` of them for each row of both tables.
    """
    table = base.table
    keys = ", ".join(f"{table.column(key, 'src')} AS __k{i}" for i, key in enumerate(by))
    known = [f"{table.column(c, 'src')} IS NOT NULL" for c in (*by, base.time)]
    kept = tables.keep(
        f"SELECT {keys}, {table.micros(base.time, 'src')} AS __t, src.{ROW} AS __l FROM {table.sql} src"
        f"{where(base, known)}"
    )
    asked = _Base(tables, kept, by, tolerance_us, strict)
    found: list[IntArray] = []
    later = kept
    for i, stage in enumerate(stages):
        few = _n_pairs(asked, stage) <= most_pairs * (len(table.held) + len(stage.table.held))
        places, gaps = (_nearest if few else _joined)(asked, stage, later, len(table.held))
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


def _joined(asked: _Base, stage: Stage, later: str, n_base: int) -> tuple[IntArray, IntArray]:
    """Places and gaps by an ASOF join, and then by a look at whether other rows are at the time that it found."""
    table = stage.table
    places, gaps = np.full(n_base, -1, dtype=np.int64), np.zeros(n_base, dtype=np.int64)
    time, sign = table.micros(stage.time, "e"), ">" if asked.strict else ">="
    known = [f"{table.column(c, 'src')} IS NOT NULL" for c in (*asked.by, stage.time)]
    source = f"(SELECT * FROM {table.sql} src{where(stage, known)})"
    found = asked.tables.collect(
        f"SELECT l.__l AS l, e.{ROW} AS e, {asked.gap_sql(stage)} AS gap FROM {later} l ASOF JOIN {source} e "
        f"ON {asked.keys_sql(stage)} AND l.__t {sign} {time} WHERE {asked.near_sql(stage)}"
    )
    rows = found["l"].to_numpy()
    places[rows], gaps[rows] = found["e"].to_numpy(), found["gap"].to_numpy()
    at = _register(asked.tables, rows, gaps[rows], places[rows])
    linked = f"(SELECT k.*, m.__gap, m.__e FROM {later} k JOIN {at} m ON k.__l = m.__l)"
    pairs = asked.pairs_sql(stage, linked, f" AND {time} = l.__t - l.__gap")
    tied = asked.tables.collect(f"SELECT DISTINCT l.__l AS l {pairs} AND e.{ROW} <> l.__e")["l"].to_numpy()
    if len(tied):
        _break_ties(asked, stage, later, tied, gaps, places)
    return places, gaps


def _break_ties(asked: _Base, stage: Stage, later: str, tied: IntArray, gaps: IntArray, places: IntArray) -> None:
    """Put the last of the rows at one time, in the order of ``order_by`` and all columns, into ``places``."""
    chosen = _register(asked.tables, tied, gaps[tied])
    order = ", ".join(f"{stage.table.column(c, 'e')} DESC NULLS LAST" for c in tie_columns(stage, asked.by)) or "l.__l"
    linked = f"(SELECT k.*, m.__gap FROM {later} k JOIN {chosen} m ON k.__l = m.__l)"
    pairs = asked.pairs_sql(stage, linked, f" AND {stage.table.micros(stage.time, 'e')} = l.__t - l.__gap")
    ranked = f"SELECT l.__l AS l, e.{ROW} AS e, row_number() OVER (PARTITION BY l.__l ORDER BY {order}) AS n"
    last = asked.tables.collect(f"SELECT l, e FROM ({ranked} {pairs}) ranked WHERE n = 1")
    places[last["l"].to_numpy()] = last["e"].to_numpy()


def _register(tables: Tables, rows: IntArray, gaps: IntArray, places: IntArray | None = None) -> str:
    import pyarrow as pa

    more = {} if places is None else {"__e": places}
    return tables.register(pa.table({"__l": rows, "__gap": gaps, **more}))
