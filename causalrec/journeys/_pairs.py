"""Which row of each stage is linked to which of the base, for frames in memory, whose rows have places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from causalrec._typing import IntArray
from causalrec.journeys._arrays import Events, key_codes, latest_before
from causalrec.journeys._links import Stage, chained_sql, tie_columns, where
from causalrec.journeys._tables import ROW, Tables


def nearest_places(
    tables: Tables, base: Stage, stages: Sequence[Stage], by: Sequence[str], tolerance_us: int | None, *, strict: bool
) -> list[IntArray]:
    """For each stage the place of the row that it gives to each row of the base's frame, -1 where there is none.

    By sorted arrays where the keys allow it, else by the SQL that other tables go by.
    """
    events = _events(tables, [base, *stages], by)
    if events is None:
        return _places_by_sql(tables, base, stages, by, tolerance_us, strict=strict)
    later, found = events[0], []
    for stage, earlier in zip(stages, events[1:], strict=True):
        last_of = partial(_last_of_ties, tables, stage, by, earlier)
        linked = latest_before(later, earlier, tolerance_us, strict=strict, last_of=last_of)
        places = np.full(base.table.n_rows, -1, dtype=np.int64)
        if len(earlier.code):
            places[later.place] = np.where(linked < 0, -1, earlier.place[linked])
            later = replace(later, time=np.where(linked < 0, later.time, earlier.time[linked]))
        found.append(places)
    return found


def stage_rows(tables: Tables, stage: Stage) -> IntArray:
    """The places of a stage's rows in its table, in order."""
    found = tables.collect(f"SELECT {ROW} AS l FROM {stage.table.sql} src{where(stage)}")["l"]
    return np.sort(found.to_numpy())


def _events(tables: Tables, stages: Sequence[Stage], by: Sequence[str]) -> list[Events] | None:
    """What of each stage has all keys and a time; None for keys that only SQL compares."""
    every = {stage.table.sql: stage.table for stage in stages}
    codes = key_codes([[table.arrow.column(key) for table in every.values()] for key in by])
    if codes is None:
        return None
    coded = dict(zip(every, codes, strict=True))
    found = []
    for stage in stages:
        code, (time, known) = coded[stage.table.sql], tables.times(stage.table, stage.time)
        known &= code >= 0
        if stage.condition is not None:
            rows = stage_rows(tables, stage)
            rows = rows[known[rows]]
        elif known.all():
            found.append(Events(code, time, np.arange(len(code))))
            continue
        else:
            rows = np.flatnonzero(known)
        found.append(Events(code[rows], time[rows], rows))
    return found


def _last_of_ties(
    tables: Tables, stage: Stage, by: Sequence[str], events: Events, tied: IntArray, tie: IntArray
) -> IntArray:
    """Which of the tied events is the last of each tie, in the order of ``order_by`` and all columns."""
    import pyarrow as pa

    columns = [*tie_columns(stage, by), stage.time]  # times of one microsecond may have nanoseconds
    table = stage.table.arrow.select(columns).take(pa.array(events.place[tied]))
    table = table.append_column("__tie", pa.array(tie)).append_column("__k", pa.array(np.arange(len(tie))))
    order = ", ".join(f"{stage.table.column(c)} DESC NULLS LAST" for c in columns)
    ranked = f"SELECT __tie, __k, row_number() OVER (PARTITION BY __tie ORDER BY {order}) AS __n"
    last = tables.collect(f"SELECT __k FROM ({ranked} FROM {tables.register(table)}) r WHERE __n = 1 ORDER BY __tie")
    chosen: IntArray = tied[last["__k"].to_numpy()]
    return chosen


def _places_by_sql(
    tables: Tables, base: Stage, stages: Sequence[Stage], by: Sequence[str], tolerance_us: int | None, *, strict: bool
) -> list[IntArray]:
    """The same by the text that links tables elsewhere."""
    numbered = [replace(stage, name=f"s{i}", columns=[ROW]) for i, stage in enumerate(stages)]
    sql = chained_sql(replace(base, columns=[ROW]), numbered, by, tolerance_us, strict=strict)
    linked = tables.collect(sql)
    found = []
    for stage in numbered:
        places = np.full(base.table.n_rows, -1, dtype=np.int64)
        places[linked[ROW].to_numpy()] = linked[f"{stage.name}_{ROW}"].fillna(-1).to_numpy(dtype=np.int64)
        found.append(places)
    return found
