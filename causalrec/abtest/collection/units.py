"""Units in several arms, rows that repeat, rows without an arm: found, counted, refused or dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from causalrec._typing import IntArray
from causalrec._validation import list_some
from causalrec.abtest.collection.finest import CONFLICT, NO_ARM, NO_CLUSTER, SPREAD, Finest
from causalrec.abtest.collection.sql import Rows
from causalrec.exceptions import OutcomeError, TreatmentError

if TYPE_CHECKING:
    from causalrec.abtest.experiment import Experiment


def clean_units(experiment: Experiment, rows: Rows, columns: Sequence[str]) -> tuple[Rows, int, int]:
    """Check the column ``unit``: the rows that stay, the units in several arms, and the repeated rows, both dropped.

    ``columns`` are those that the experiment reads: rows that are equal in all of them repeat each other.

    Raises
    ------
    TreatmentError
        For units in several arms unless ``on_conflict="drop"``, and for rows without a unit.
    OutcomeError
        For units with several rows, unless those are equal and ``on_duplicate="drop"``.
    """
    if experiment.unit is None:
        return rows, 0, 0
    row = _unit_counts(experiment, rows)
    if row["nameless"]:
        raise TreatmentError(
            f"{row['nameless']:,} rows have no {experiment.unit!r}, so their unit cannot be known. Leave them out with "
            f"{rows.where_known(experiment.unit)}."
        )
    n_conflicting, n_duplicates = int(row["conflicting"]), 0
    if n_conflicting:
        rows = _without_conflicts(experiment, rows, experiment.unit, n_conflicting, int(row["units"]))
        row = _unit_counts(experiment, rows)
    if row["repeated"] and experiment.on_duplicate == "drop":
        listed = ", ".join(map(rows.quote, columns))
        distinct = rows.keep(f"SELECT DISTINCT {listed} FROM {rows.sql} x")
        rows, n_before = replace(rows, sql=distinct), int(row["n"])
        row = _unit_counts(experiment, rows)
        n_duplicates = n_before - int(row["n"])
    if row["repeated"] and experiment.unit != experiment.cluster:
        _refuse_repeats(experiment, rows, row)
    return rows, n_conflicting, n_duplicates


def _unit_counts(experiment: Experiment, rows: Rows) -> dict[str, Any]:
    unit, arm = rows.quote(str(experiment.unit)), rows.quote(experiment.variant)
    counts: Any = rows.engine.collect(
        "SELECT COALESCE(SUM(k), 0) AS n, COUNT(*) AS units, COUNT(CASE WHEN k > 1 THEN 1 END) AS repeated, "
        "COUNT(CASE WHEN conflict THEN 1 END) AS conflicting, COALESCE(SUM(CASE WHEN u IS NULL THEN k END), 0) AS "
        f"nameless FROM (SELECT {unit} AS u, COUNT(*) AS k, MIN({arm}) <> MAX({arm}) AS conflict FROM {rows.sql} x "
        f"GROUP BY {unit}) units"
    )
    return {name: int(count) for name, count in counts.iloc[0].items()}


def _refuse_repeats(experiment: Experiment, rows: Rows, row: dict[str, Any]) -> None:
    differ = ""
    remedy = f"drop the repeats with on_duplicate='drop', or name cluster={experiment.unit!r}"
    if experiment.on_duplicate == "drop":
        differ, remedy = " that differ", f"name cluster={experiment.unit!r}"
    raise OutcomeError(
        f"{row['repeated']:,} of {row['units']:,} units have several rows{differ}, such as {experiment.unit} "
        f"{list_some(_some_units(experiment, rows, 'COUNT(*) > 1'), 5)}. Where that is meant, {remedy}, so that the "
        "rows of a unit are not taken for independent ones."
    )


def _some_units(experiment: Experiment, rows: Rows, having: str, column: str | None = None) -> list[Any]:
    q = rows.quote(column or str(experiment.unit))
    sql = f"SELECT {q} AS u FROM {rows.sql} x GROUP BY {q} HAVING {having} ORDER BY {q} LIMIT 5"
    return list(rows.engine.collect(sql)["u"].tolist())


def _without_conflicts(experiment: Experiment, rows: Rows, column: str, n: int, n_units: int) -> Rows:
    arm, q = rows.quote(experiment.variant), rows.quote(column)
    several = f"MIN({arm}) <> MAX({arm})"
    if experiment.on_conflict == "raise":
        raise TreatmentError(
            f"{n:,} of {n_units:,} units are in several arms, such as {column} "
            f"{list_some(_some_units(experiment, rows, several, column), 5)}. Find out why; or drop them with "
            "on_conflict='drop' and say so."
        )
    return rows.restricted(f"{q} NOT IN (SELECT {q} FROM {rows.sql} y GROUP BY {q} HAVING {several})")


def clean_clusters(experiment: Experiment, rows: Rows, finest: Finest, flaws: IntArray) -> tuple[Rows, int]:
    """Check the clusters: the rows that stay, and the number of clusters in several arms, which were dropped.

    Raises
    ------
    TreatmentError
        For rows without an arm or a cluster, and clusters in several arms unless ``on_conflict="drop"``.
    OutcomeError
        For clusters in several strata.
    """
    counts = {flaw: int(finest.groups.rows[finest.whole & (flaws == flaw)].sum()) for flaw in np.unique(flaws)}
    if counts.get(NO_ARM):
        refuse_missing_arms(experiment, rows)
    if counts.get(NO_CLUSTER):
        q = rows.quote(str(experiment.cluster))
        n = int(rows.engine.collect(f"SELECT COUNT(*) AS n FROM {rows.sql} x WHERE {q} IS NULL")["n"].iloc[0])
        raise TreatmentError(
            f"{n:,} rows have no {experiment.cluster!r}, so their cluster cannot be known. Leave them out with "
            f"{rows.where_known(str(experiment.cluster))}."
        )
    if counts.get(CONFLICT):
        n_clusters = int(finest.groups.rows[finest.whole].sum())
        kept = _without_conflicts(experiment, rows, str(experiment.cluster), counts[CONFLICT], n_clusters)
        return kept, counts[CONFLICT]
    if counts.get(SPREAD):
        columns = [*experiment.strata, *([experiment.trigger] if experiment.trigger else [])]
        raise OutcomeError(
            f"{counts[SPREAD]:,} clusters of {experiment.cluster!r} have several values of {list_some(columns)}; "
            "strata and triggers must be properties of the whole cluster. Give each cluster one value, such as its "
            "first or its largest; or make the column a segment."
        )
    return rows, 0


def refuse_missing_arms(experiment: Experiment, rows: Rows) -> None:
    """Raise :class:`TreatmentError` with the number of rows that have no arm."""
    known = f"COUNT(CASE WHEN {rows.present(experiment.variant) or 'TRUE'} THEN 1 END) AS known"
    row: Any = rows.engine.collect(f"SELECT COUNT(*) AS n, {known} FROM {rows.sql} x").iloc[0]
    raise TreatmentError(
        f"{int(row['n'] - row['known']):,} of {int(row['n']):,} rows have no {experiment.variant!r}, so their arm "
        f"cannot be known. Leave them out with {rows.where_known(experiment.variant)}."
    )
