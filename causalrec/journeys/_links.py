"""The query that links each later event to the latest earlier one, in one sort and the same text on both engines.

Both tables go into one, each key's rows are sorted by time, and every later row takes over the last earlier row above
it: a union and a running ``last_value``. An ASOF join of either engine leaves open which of several rows at one time is
taken. For frames in memory :mod:`causalrec.journeys._pairs` is faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from causalrec.engines import Dialect
from causalrec.journeys._tables import ROW, Table


@dataclass(frozen=True)
class Stage:
    """A table of events of one kind.

    Attributes
    ----------
    name : str
        What its columns are called by in the result.
    table : Table
    time : str
        The column of times.
    columns : sequence of str
        Those that the result has.
    order_by : sequence of str
        What breaks ties at equal times before all columns do.
    condition : str or None
        SQL of which rows of the table belong to it; None for all.
    """

    name: str
    table: Table
    time: str
    columns: Sequence[str]
    order_by: Sequence[str] = ()
    condition: str | None = None


def chained_sql(
    base: Stage, stages: Sequence[Stage], by: Sequence[str], tolerance_us: int | None, *, strict: bool
) -> str:
    """A row per event of ``base`` and what each of the stages, the nearest first, gives it.

    Each link starts at the event that was found by the link before, or where that found none from the same event as it
    did. Columns by their names, those of a stage after its own name.
    """
    d, table = base.table.dialect, base.table
    keys = [f"{table.column(key, 'src')} AS __k{i}" for i, key in enumerate(by)]
    row = f"{_payload(base)} AS __l"
    sql = f"SELECT {', '.join(keys)}, {table.micros(base.time, 'src')} AS __t, {row} FROM {table.sql} src{where(base)}"
    for i, stage in enumerate(stages):
        sql = _link_sql(sql, stage, by, i, tolerance_us, strict=strict)
    found = [f"__l.f{j} AS {d.quote(c)}" for j, c in enumerate(base.columns)]
    found += [f"__e{i}.f{j} AS {d.quote(f'{s.name}_{c}')}" for i, s in enumerate(stages)
                  for j, c in enumerate(s.columns)]  # fmt: skip
    return f"SELECT {', '.join(found)} FROM ({sql}) found"


def _link_sql(later: str, stage: Stage, by: Sequence[str], i: int, tolerance_us: int | None, *, strict: bool) -> str:
    """The later rows with the latest row of a stage as ``__e{i}``, and its time as ``__t`` where there is one."""
    table, d = stage.table, stage.table.dialect
    keys = [f"__k{j}" for j in range(len(by))]
    before = [f"__e{j}" for j in range(i)]
    ties = tie_columns(stage, by)
    tied = [f"__c{j}" for j in range(len(ties))]
    known = [f"{table.column(c, 'src')} IS NOT NULL" for c in (*by, stage.time)]
    time = table.micros(stage.time, "src")
    earlier = [
        *(f"{table.column(key, 'src')} AS __k{j}" for j, key in enumerate(by)), f"{time} AS __t",
        f"{int(strict)} AS __side", "NULL AS __l", *(f"NULL AS {e}" for e in before),
        f"{_payload(stage)} AS __p", f"{time} AS __pt",
        *(f"{table.column(c, 'src')} AS {name}" for c, name in zip(ties, tied, strict=True)),
    ]  # fmt: skip
    nothing = ["NULL"] * (2 + len(tied))
    rows = f"SELECT {', '.join([*keys, '__t', str(int(not strict)), '__l', *before, *nothing])} FROM ({later}) later"
    rows = f"SELECT {', '.join(earlier)} FROM {table.sql} src{where(stage, known)} UNION ALL {rows}"
    order = ", ".join(["__t", "__side", *(f"{name} ASC NULLS FIRST" for name in tied)])
    window = f"PARTITION BY {', '.join(keys)} ORDER BY {order} ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"
    found = f"{d.latest('__p', window)} AS __e, {d.latest('__pt', window)} AS __te"
    near = "__t >= __te" if tolerance_us is None else f"__t - __te <= {tolerance_us}"
    kept = ", ".join([*keys, f"CASE WHEN {near} THEN __te ELSE __t END AS __t", "__l", *before])
    return (
        f"SELECT {kept}, CASE WHEN {near} THEN __e END AS __e{i} FROM (SELECT *, {found} FROM ({rows}) both_sides) w "
        f"WHERE __side = {int(not strict)}"
    )


def _payload(stage: Stage) -> str:
    """A row's columns as one value."""
    d: Dialect = stage.table.dialect
    return d.record([stage.table.column(c, "src") for c in stage.columns])


def tie_columns(stage: Stage, by: Sequence[str]) -> list[str]:
    """Columns that order rows of one key and time until only equal rows are left."""
    rest = [c for c in stage.table.kinds if c not in (*stage.order_by, *by, stage.time, ROW)]
    return [*(c for c in stage.order_by if c not in by), *rest]


def where(stage: Stage, conditions: Sequence[str] = ()) -> str:
    """WHERE of a stage's condition and others, over the table as ``src``; nothing where there are none."""
    every = [*([stage.condition] if stage.condition is not None else []), *conditions]
    return f" WHERE {' AND '.join(every)}" if every else ""
