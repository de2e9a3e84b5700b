"""The cleaning of assignments and outcomes as SQL, the same text on Spark and on DuckDB, with a count for each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from causalrec.engines import Engine

USER, GROUP, OUTCOME, ORDER = "user id", "test group", "converted", "row"


@dataclass(frozen=True)
class Cleaned:
    """The clean table of an engine, and what each step took away: columns step, removed, remaining."""

    table: Any
    steps: pd.DataFrame
    rates: pd.DataFrame


def clean(engine: Engine, raw: str = "raw") -> Cleaned:
    """Leave one row a user with the outcome as 0 or 1.

    Parameters
    ----------
    engine : Engine
    raw : str
        A table of it with the columns user id, test group, converted, and row: the order by which the first occurrence
        of a user is kept, as a table has no order of its own.

    Returns
    -------
    Cleaned
        ``table`` is a Spark DataFrame on Spark, a pandas frame on the local engine.
    """
    q = engine.dialect.quote
    user, group, outcome, order = q(USER), q(GROUP), q(OUTCOME), q(ORDER)
    complete = " AND ".join(f"{key} IS NOT NULL" for key in (user, group, outcome))
    engine.create_view("complete_rows", f"SELECT * FROM {q(raw)} WHERE {complete}")
    engine.create_view(
        "one_group",
        f"SELECT * FROM complete_rows WHERE {user} IN "
        f"(SELECT {user} FROM complete_rows GROUP BY {user} HAVING COUNT(DISTINCT {group}) = 1)",
    )
    engine.create_view(
        "first_rows",
        f"SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY {user} ORDER BY {order}) AS nth FROM one_group) t "
        "WHERE nth = 1",
    )
    others = [c for c in engine.columns(raw) if c not in (OUTCOME, ORDER)]
    engine.create_view(
        "clean_rows", f"SELECT {', '.join(map(q, others))}, CAST({outcome} AS INT) AS {outcome} FROM first_rows"
    )
    counts = engine.collect(
        f"SELECT (SELECT COUNT(*) FROM {q(raw)}) AS n0, (SELECT COUNT(*) FROM complete_rows) AS n1, "
        "(SELECT COUNT(*) FROM one_group) AS n2, (SELECT COUNT(*) FROM clean_rows) AS n3"
    )
    n = [int(v) for v in counts.iloc[0]]
    steps = pd.DataFrame({
        "step": ["read", "null in a key column", "user in both groups", "user seen before (first row kept)"],
        "removed": [0, n[0] - n[1], n[1] - n[2], n[2] - n[3]],
        "remaining": n,
    })  # fmt: skip
    rates = engine.collect(
        f"SELECT {group}, COUNT(*) AS users, SUM({outcome}) AS converted, AVG({outcome}) AS rate FROM clean_rows "
        f"GROUP BY {group} ORDER BY {group}"
    )
    return Cleaned(engine.frame("SELECT * FROM clean_rows"), steps, rates)
