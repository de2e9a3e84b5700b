"""Checks of the rows of a Spark DataFrame by counts for every arm, with the errors that arrays give.

One query counts (:func:`scan_columns`); the checks look at its rows, a dict for each arm. Plain names stand for the
caller's columns: ``treatment``, ``outcome``, ``weight``, ``groups``, and ``p0``, ``p1``, … for known propensities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from causalrec._validation import check_not_empty, check_treatment, list_some
from causalrec.exceptions import CausalRecError, EngineError, OutcomeError, OverlapError, TreatmentError
from causalrec.nuisance.propensity import known_propensity

MOST_ARMS = 100
NUMBERS = ("tinyint", "smallint", "int", "bigint", "float", "double", "decimal", "boolean")

Propensity = float | str | Mapping[Any, float | str] | None


def quoted(name: str) -> str:
    """A column's name in Spark's SQL."""
    return "`" + name.replace("`", "``") + "`"


def infinite(column: str) -> str:
    """SQL that is true where a column is missing or infinite."""
    return f"COALESCE(NOT (abs({column}) < double('infinity')), true)"


def check_spark_frame(frame: Any, *, local: str = "the learners of causalrec.uplift") -> None:
    """Raise for a frame in memory, for which ``local`` is there."""
    if not hasattr(frame, "sparkSession"):
        raise CausalRecError(
            f"found a {type(frame).__name__}; expected a Spark DataFrame. For rows in memory use {local}."
        )


def check_frame_of_learners(frame: Any) -> None:
    """Raise for a frame in memory, or one whose tasks cannot be reached."""
    check_spark_frame(frame)
    if type(frame).__module__.startswith("pyspark.sql.connect"):
        raise EngineError(
            "this frame is of Spark Connect, which gives no access to the tasks that XGBoost runs in. Open the session "
            "without it (SparkSession.builder.master)."
        )


def check_numbers(types: Mapping[str, str], names: Sequence[str | None]) -> None:
    """Raise for a column that holds neither numbers nor booleans; ``types`` are Spark's names by column."""
    for name in names:
        if name is not None and types[name] not in NUMBERS:
            raise OutcomeError(
                f"column {name!r} is of type {types[name]}; expected numbers or booleans. Cast it first."
            )


def column_types(frame: Any) -> dict[str, str]:
    """Spark's type of every column, without its precision."""
    return {name: kind.split("(")[0] for name, kind in frame.dtypes}


def propensity_values(propensity: Propensity) -> list[float | str]:
    """Known propensities, numbers or columns: of the second of two arms, or one an arm."""
    if isinstance(propensity, Mapping):
        return list(propensity.values())
    return [] if propensity is None else [propensity]


def plain_columns(
    *, outcome: str, treatment: str, sample_weight: str | None, groups: str | None, propensity: Propensity
) -> list[str]:
    """SQL that brings the caller's columns under plain names."""
    columns = [f"{quoted(treatment)} AS treatment", f"CAST({quoted(outcome)} AS DOUBLE) AS outcome"]
    if sample_weight is not None:
        columns.append(f"CAST({quoted(sample_weight)} AS DOUBLE) AS weight")
    if groups is not None:
        columns.append(f"{quoted(groups)} AS groups")
    for i, value in enumerate(propensity_values(propensity)):
        columns.append(f"CAST({quoted(value) if isinstance(value, str) else repr(float(value))} AS DOUBLE) AS p{i}")
    return columns


def scan_columns(*, weighted: bool, grouped: bool, n_shares: int) -> list[str]:
    """SQL of the counts that the checks need, for a query by ``treatment``."""
    weight = "weight" if weighted else "1"
    columns = [
        "treatment", "COUNT(*) AS n", f"COUNT_IF({infinite('outcome')}) AS bad",
        f"COUNT_IF({infinite(weight)}) AS bad_weight", f"COUNT_IF({weight} < 0) AS negative",
        f"COUNT_IF({weight} > 0) AS weighty",
    ]  # fmt: skip
    if grouped:
        columns.append("COUNT_IF(groups IS NULL) AS no_group")
    shares = [f"p{i}" for i in range(n_shares)]
    columns += [f"COUNT_IF(NOT COALESCE({p} > 0 AND {p} < 1, false)) AS bad_{p}" for p in shares]
    if n_shares > 1:
        columns.append(f"COUNT_IF(abs({' + '.join(shares)} - 1) > 1e-6) AS off")
    return columns


def by_treatment(plain: Any, columns: Sequence[str]) -> list[dict[str, Any]]:
    """A row of aggregates for every arm, one more than there may be at most."""
    query = f"SELECT {', '.join(columns)} FROM {{rows}} GROUP BY treatment ORDER BY n DESC LIMIT {MOST_ARMS + 1}"
    found: list[dict[str, Any]] = plain.sparkSession.sql(query, rows=plain).toArrow().to_pylist()
    return found


def check_scan(
    found: list[dict[str, Any]], *, outcome: str, treatment: str, sample_weight: str | None = None,
    propensity: Propensity = None, control: Any = None, groups: str = "groups",
) -> tuple[Any, ...]:  # fmt: skip
    """The arms, control first, after the checks of outcomes, arms, weights, propensities and groups."""
    n = sum(row["n"] for row in found)
    check_not_empty(n, where="frame")
    labels = _check_arms(found, n, treatment, control)
    if bad := sum(row["bad"] for row in found):
        raise OutcomeError(
            f"outcome {outcome!r}: {bad} of {n} values are missing or infinite. "
            "Drop those rows or fill them in a way that you can defend; causalrec does not guess."
        )
    _check_weights(found, n, sample_weight)
    _check_shares(found, n, propensity, labels)
    if missing := sum(row.get("no_group", 0) for row in found):
        raise CausalRecError(
            f"{groups}: {missing} of {n} values are missing. Every row belongs to a group, such as its user; "
            "give rows without one a value of their own."
        )
    return labels


def _check_arms(found: list[dict[str, Any]], n: int, treatment: str, control: Any) -> tuple[Any, ...]:
    arms = [row["treatment"] for row in found]
    if missing := sum(row["n"] for row in found if pd.isna(row["treatment"])):
        raise TreatmentError(f"treatment: {missing} of {n} values are missing. Drop those rows first.")
    if len(arms) > MOST_ARMS:
        raise TreatmentError(
            f"treatment: column {treatment!r} holds more than {MOST_ARMS} values, such as {list_some(arms, 3)}; "
            "expected 0/1 or a few arms. Check the column."
        )
    if len(arms) == 1:
        raise TreatmentError(
            f"treatment: found only {arms[0]!r} in {n} rows; an effect needs two arms. Check the filter or the split."
        )
    return check_treatment(arms, control=control)[1]


def _check_weights(found: list[dict[str, Any]], n: int, sample_weight: str | None) -> None:
    if bad := sum(row["bad_weight"] for row in found):
        raise OutcomeError(
            f"sample_weight {sample_weight!r}: {bad} of {n} values are missing or infinite. Drop "
            "those rows, or give them a weight."
        )
    if negative := sum(row["negative"] for row in found):
        raise CausalRecError(f"sample_weight has {negative} negative values; weights must be >= 0.")
    for row in found:
        if not row["weighty"]:
            raise TreatmentError(
                f"arm {row['treatment']!r} has no weight in any of its {row['n']} rows; check sample_weight."
            )


def _check_shares(found: list[dict[str, Any]], n: int, propensity: Propensity, labels: tuple[Any, ...]) -> None:
    if propensity is None:
        return
    # What is no number stands for itself as an even share, so that names and shapes are checked as on arrays.
    if isinstance(propensity, Mapping):
        columns = any(isinstance(value, str) for value in propensity.values())
        share = {arm: 1 / len(labels) if columns else value for arm, value in propensity.items()}
        known_propensity(share, labels, n_rows=1)
    else:
        known_propensity(0.5 if isinstance(propensity, str) else propensity, labels, n_rows=1)
    bad = max(sum(row[f"bad_p{i}"] for row in found) for i in range(len(propensity_values(propensity))))
    if bad:
        raise OverlapError(
            f"propensity: {bad} of {n} values are not strictly between 0 and 1. A unit that is certain to be "
            "(un)treated has no comparison; drop those rows and say so, or pass the design's true probability."
        )
    if off := sum(row.get("off", 0) for row in found):
        raise CausalRecError(
            f"propensity: the probabilities of {off} of {n} rows do not sum to 1 over the arms. Pass P(arm "
            "given X) of every arm."
        )
