"""Rows of a Spark DataFrame, checked in one scan and brought into the columns that models are trained on.

The columns are ``arm`` (0 is control), ``outcome``, ``weight`` where there are weights, ``e0``, ``e1``, … (P(arm given
X)) where they are known, ``x0``, ``x1``, … (covariates as numbers, categories as codes), ``fold``, and ``held``, a
number in [0, 1): rows below a share are held out of training to say when to stop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from causalrec._validation import CovariateForm, check_columns, list_some
from causalrec.exceptions import CausalRecError, ColumnError
from causalrec.nuisance.folds import check_arm_rows, check_training_rows
from causalrec.nuisance.spark_rows import (
    NUMBERS,
    Propensity,
    by_treatment,
    check_numbers,
    check_scan,
    column_types,
    plain_columns,
    propensity_values,
    quoted,
    scan_columns,
)

_MOST_CATEGORIES = 10_000


@dataclass(frozen=True)
class Asked:
    """The columns that the caller named."""

    outcome: str
    treatment: str
    covariates: tuple[str, ...]
    propensity: Propensity = None
    sample_weight: str | None = None
    groups: str | None = None

    @property
    def propensities(self) -> list[float | str]:
        """Known propensities: of the second of two arms, or one an arm."""
        return propensity_values(self.propensity)


@dataclass(frozen=True)
class Rows:
    """Rows ready for training.

    Attributes
    ----------
    frame : Spark DataFrame
    labels : tuple of k arms, control first
    form : CovariateForm
        Names, and the categories of text.
    kinds : list of str
        XGBoost's type of each covariate: ``"q"`` a number, ``"c"`` a category.
    n_rows : list of int
        Of every arm.
    binary : bool
        Whether every outcome is 0 or 1.
    weighted, known : bool
        Whether there are weights and a known propensity.
    """

    frame: Any
    labels: tuple[Any, ...]
    form: CovariateForm
    kinds: list[str]
    n_rows: list[int]
    binary: bool
    weighted: bool
    known: bool

    @property
    def features(self) -> list[str]:
        """Names of the columns of covariates."""
        return [f"x{i}" for i in range(len(self.kinds))]

    @property
    def columns(self) -> list[str]:
        """The columns that targets are computed from."""
        shares = [f"e{code}" for code in range(len(self.labels))] if self.known else []
        return ["fold", "arm", "outcome", *shares, *self.features]


def check_fold_rows(rows: Rows, n_folds: int) -> None:
    """Raise where an arm has fewer than two rows with weight outside a fold."""
    counted = "COUNT_IF(weight > 0)" if rows.weighted else "COUNT(*)"
    query = f"SELECT arm, fold, {counted} AS n FROM {{rows}} GROUP BY arm, fold"
    table = np.zeros((len(rows.labels), n_folds), dtype=np.int64)
    for row in rows.frame.sparkSession.sql(query, rows=rows.frame).toArrow().to_pylist():
        table[row["arm"], row["fold"]] = row["n"]
    check_training_rows(table, rows.labels)


def read_rows(frame: Any, asked: Asked, *, control: Any, n_folds: int = 1, random_state: int = 0) -> Rows:
    """Check the rows, which takes one scan (two with text among the covariates), and prepare them.

    Raises
    ------
    ColumnError
        For columns that are missing, named twice, or of a type that cannot be used.
    TreatmentError, OutcomeError, OverlapError, EmptyTableError, CausalRecError
        As the learners on arrays do.
    """
    types = _check_frame(frame, asked)
    plain = frame.selectExpr(*_plain(asked, types))
    text = [i for i, name in enumerate(asked.covariates) if types[name] == "string"]
    found = _scan(plain, asked, text)
    labels = _check_scan(found, asked, text, control)
    categories = {i: _categories(plain, i) for i in text}
    form = CovariateForm(
        len(asked.covariates), asked.covariates,
        {asked.covariates[i]: pd.CategoricalDtype(values) for i, values in categories.items()},
    )  # fmt: skip
    by_code = _by_code(found, labels)
    return Rows(
        frame=_coded(plain, asked, labels, categories, n_folds, random_state),
        labels=labels,
        form=form,
        kinds=["c" if i in categories else "q" for i in range(len(asked.covariates))],
        n_rows=[int(row["n"]) for row in by_code],
        binary=not sum(row["odd"] for row in found),
        weighted=asked.sample_weight is not None,
        known=asked.propensity is not None,
    )


def _by_code(found: list[dict[str, Any]], labels: tuple[Any, ...]) -> list[dict[str, Any]]:
    codes = {label: code for code, label in enumerate(labels)}
    return sorted(found, key=lambda row: codes[row["treatment"]])


def _check_frame(frame: Any, asked: Asked) -> dict[str, str]:
    """The type of every column, after a look at names and types alone."""
    columns = [name for name in asked.propensities if isinstance(name, str)]
    single = [asked.outcome, asked.treatment, *filter(None, [asked.sample_weight, asked.groups])]
    check_columns(frame.columns, [*single, *columns, *asked.covariates], where="frame")
    if not asked.covariates:
        raise ColumnError("covariates is empty; name at least one column.")
    check_columns(asked.covariates, [], where="covariates")
    roles = [asked.outcome, asked.treatment, *filter(None, [asked.sample_weight])]
    if both := [name for name in roles if name in asked.covariates]:
        raise ColumnError(
            f"covariates hold {list_some(both)}, which is also the outcome, the treatment or the weight. Leave it out: "
            "a covariate is known before the treatment."
        )
    types = column_types(frame)
    check_numbers(types, [asked.outcome, asked.sample_weight, *columns])
    if strange := [name for name in asked.covariates if types[name] not in (*NUMBERS, "string")]:
        raise ColumnError(
            f"frame: column{'s' * (len(strange) > 1)} {list_some(strange)} of type {types[strange[0]]}; a base learner "
            "on Spark takes numbers, booleans and text, which are categories. Cast it, or leave it out."
        )
    return types


def _plain(asked: Asked, types: Mapping[str, str]) -> list[str]:
    """The columns under our names; covariates in the 4 bytes a number that XGBoost keeps."""
    columns = plain_columns(
        outcome=asked.outcome, treatment=asked.treatment, sample_weight=asked.sample_weight, groups=asked.groups,
        propensity=asked.propensity,
    )  # fmt: skip
    for i, name in enumerate(asked.covariates):
        columns.append(f"{quoted(name) if types[name] == 'string' else f'CAST({quoted(name)} AS FLOAT)'} AS x{i}")
    return columns


def _scan(plain: Any, asked: Asked, text: Sequence[int]) -> list[dict[str, Any]]:
    """A row of counts for every arm."""
    columns = scan_columns(
        weighted=asked.sample_weight is not None, grouped=asked.groups is not None, n_shares=len(asked.propensities)
    )
    columns += ["COUNT_IF(outcome NOT IN (0, 1)) AS odd", "MIN_BY(outcome, outcome IN (0, 1)) AS example"]
    for i in range(len(asked.covariates)):
        # A float that is not missing and as far as infinity; NaN counts as the largest number in Spark.
        finite = f"COUNT_IF(abs(x{i}) = float('infinity')) AS infinite{i}"
        columns.append(f"approx_count_distinct(x{i}) AS distinct{i}" if i in text else finite)
    return by_treatment(plain, columns)


def _check_scan(found: list[dict[str, Any]], asked: Asked, text: Sequence[int], control: Any) -> tuple[Any, ...]:
    """The arms, control first, after all checks of values."""
    labels = check_scan(
        found, outcome=asked.outcome, treatment=asked.treatment, sample_weight=asked.sample_weight,
        propensity=asked.propensity, control=control,
    )  # fmt: skip
    check_arm_rows({row["treatment"]: row["n"] for row in found})
    n = sum(row["n"] for row in found)
    for i, name in enumerate(asked.covariates):
        if i in text and max(row[f"distinct{i}"] for row in found) > _MOST_CATEGORIES:
            raise ColumnError(
                f"covariate {name!r} holds text of more than {_MOST_CATEGORIES:,} values, too many for categories. "
                "Leave it out if it is a name or a key; else group its rare values."
            )
        bad = 0 if i in text else sum(row[f"infinite{i}"] for row in found)
        if bad:
            raise CausalRecError(
                f"covariate {name!r}: {bad} of {n} values are infinite as 4-byte floats, which "
                "XGBoost cannot split. Make them missing (null), or bound them."
            )
    return labels


def _categories(plain: Any, i: int) -> list[str]:
    """The values of a text covariate in order, as pandas orders categories."""
    found = plain.selectExpr(f"x{i}").distinct().toArrow().column(0).to_pylist()
    return sorted(value for value in found if value is not None)


def _coded(
    plain: Any, asked: Asked, labels: tuple[Any, ...], categories: Mapping[int, list[str]], n_folds: int, seed: int
) -> Any:
    """The rows with arms and categories as codes and with folds, by one query of hash joins."""
    import pyarrow as pa

    session = plain.sparkSession
    arm = "CASE treatment " + " ".join(f"WHEN :arm{i} THEN {i}" for i in range(len(labels))) + " END"
    columns = [f"{arm} AS arm", "outcome", *_shares(asked, labels), *_parts(asked, n_folds, seed)]
    if asked.sample_weight is not None:
        columns.append("weight")
    joins, tables = [], {}
    for i in range(len(asked.covariates)):
        columns.append(f"c{i}.code AS x{i}" if i in categories else f"x{i}")
    for i, values in categories.items():
        codes = pa.array(np.arange(len(values), dtype=np.float32))
        tables[f"c{i}"] = session.createDataFrame(pa.table({f"value{i}": pa.array(values, pa.string()), "code": codes}))
        joins.append(f"LEFT JOIN {{c{i}}} AS c{i} ON x{i} = value{i}")
    hint = f"/*+ BROADCAST({', '.join(tables)}) */" if tables else ""
    arms = {f"arm{i}": label for i, label in enumerate(labels)}
    query = f"SELECT {hint} {', '.join(columns)} FROM {{rows}} {' '.join(joins)}"
    return session.sql(query, args=arms, rows=plain, **tables)


def _shares(asked: Asked, labels: tuple[Any, ...]) -> list[str]:
    """P(arm given X) of every arm."""
    if isinstance(asked.propensity, Mapping):
        place = {arm: i for i, arm in enumerate(asked.propensity)}
        return [f"p{place[label]} AS e{code}" for code, label in enumerate(labels)]
    return [] if asked.propensity is None else ["1 - p0 AS e0", "p0 AS e1"]


def _parts(asked: Asked, n_folds: int, seed: int) -> list[str]:
    """A fold, and a number in [0, 1) that says who is held out first: by a hash of the group, or at random."""
    if asked.groups is None:
        return [f"CAST(floor({n_folds} * rand({seed})) AS INT) AS fold", f"rand({seed + 1}) AS held"]
    fold, held = (f"xxhash64(groups, {seed + shift}L)" for shift in (0, 1))
    return [f"CAST(pmod({fold}, {n_folds}) AS INT) AS fold", f"pmod({held}, 1048576) / 1048576D AS held"]
