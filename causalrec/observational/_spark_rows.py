"""Rows of a Spark DataFrame for average effects: checked in one scan, and turned into regressors batch by batch.

The columns of :attr:`Rows.frame`, which holds the rows of positive weight: ``t`` (1 treated, 0 control), ``y``, ``w``,
``e`` (a known propensity), ``cluster``, each where there is one, ``x0``, ``x1``, … for numeric covariates, and ``c0``,
``c1``, … for text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

import numpy as np

from causalrec._typing import AnyArray, FloatArray, IntArray
from causalrec._validation import check_columns, check_two_arms, list_some
from causalrec.exceptions import ColumnError, EngineError, TreatmentError
from causalrec.nuisance.spark_rows import (
    NUMBERS,
    by_treatment,
    check_numbers,
    check_scan,
    check_spark_frame,
    column_types,
    infinite,
    quoted,
    scan_columns,
)
from causalrec.nuisance.spark_tasks import running

_MOST_LEVELS = 500
_FIRST = 4  # columns before the covariates: t, y, w, e


@dataclass(frozen=True)
class Asked:
    """The columns that the caller named."""

    treatment: str
    covariates: tuple[str, ...] = ()
    outcome: str | None = None
    clusters: str | None = None
    sample_weight: str | None = None
    propensity: str | float | None = None
    control: Any = None
    what: str = "an average effect"
    smallest: int = 1


class Batch(NamedTuple):
    """Rows as arrays: regressors of shape (m, q), and vectors of shape (m,)."""

    Z: FloatArray
    t: IntArray
    y: FloatArray
    w: FloatArray
    e: FloatArray


@dataclass(frozen=True)
class Coding:
    """How an Arrow batch becomes an intercept and standardised regressors.

    Attributes
    ----------
    numbers, texts : tuples of str
        The covariates, as the caller named them.
    levels : tuple of tuples of str
        Of every text covariate, in order; the first has no column.
    names : array of shape (p,)
        As :func:`causalrec.observational.design.design_matrix` names the columns.
    mean, spread : arrays of shape (p,)
    keep : int array
        Which of the p columns are regressors: those that vary and are not linear in others.
    """

    numbers: tuple[str, ...]
    texts: tuple[str, ...]
    levels: tuple[tuple[str, ...], ...]
    names: AnyArray
    mean: FloatArray
    spread: FloatArray
    keep: IntArray

    @property
    def width(self) -> int:
        """Numbers of a packed row."""
        return _FIRST + len(self.numbers) + len(self.texts)

    def pack(self, batch: Any) -> FloatArray:
        """An Arrow batch as numbers: t, y, w, e, the numeric covariates and the codes of text; one for no weights."""
        import pyarrow as pa
        import pyarrow.compute as pc

        table = np.zeros((batch.num_rows, self.width))
        table[:, 2] = 1.0
        there = set(batch.schema.names)
        names = ["t", "y", "w", "e", *(f"x{i}" for i in range(len(self.numbers)))]
        for j, name in enumerate(names):
            if name in there:
                table[:, j] = batch.column(name).to_numpy()
        for i, levels in enumerate(self.levels):
            code = pc.index_in(batch.column(f"c{i}"), value_set=pa.array(levels, pa.string()))
            if code.null_count:
                raise EngineError("the frame holds other categories when it is read again. Call persist() on it.")
            table[:, len(names) + i] = code.to_numpy()
        return table

    def matrix(self, table: FloatArray) -> FloatArray:
        """The covariates of packed rows, shape (m, p)."""
        n = _FIRST + len(self.numbers)
        parts = [table[:, _FIRST:n]]
        for i, levels in enumerate(self.levels):
            parts.append(table[:, n + i, None] == np.arange(1.0, len(levels)))
        return np.concatenate(parts, axis=1)

    def read(self, table: FloatArray) -> Batch:
        """Packed rows as regressors and vectors."""
        Z = np.ones((len(table), len(self.keep) + 1))
        if len(self.keep):
            Z[:, 1:] = (self.matrix(table)[:, self.keep] - self.mean[self.keep]) / self.spread[self.keep]
        t, y, w, e = (np.ascontiguousarray(column) for column in table[:, :_FIRST].T)
        return Batch(Z, t.astype(np.int64), y, w, e)

    def predictor(self, beta: FloatArray) -> str:
        """The linear predictor of a row of the caller's frame, in Spark's SQL: equal covariates give equal numbers."""
        slope, n = np.zeros(len(self.names)), len(self.numbers)
        slope[self.keep] = beta[1:] / self.spread[self.keep]
        terms = [
            f"{number(slope[i])} * (CAST({quoted(name)} AS DOUBLE) - {number(self.mean[i])})"
            for i, name in enumerate(self.numbers) if slope[i]
        ]  # fmt: skip
        place, start = n, float(beta[0]) - float(slope[n:] @ self.mean[n:])
        for name, levels in zip(self.texts, self.levels, strict=True):
            own = slope[place : place + len(levels) - 1]
            place += len(levels) - 1
            cases = [f"WHEN {text(level)} THEN {number(b)}" for level, b in zip(levels[1:], own, strict=True) if b]
            terms += [f"CASE {quoted(name)} {' '.join(cases)} ELSE 0D END"] if cases else []
        return " + ".join([number(start), *terms])


@dataclass(frozen=True)
class Rows:
    """Rows ready for sums; what executors keep of them, they keep until the end of the context.

    Attributes
    ----------
    frame : Spark DataFrame
    coding : Coding
    labels : tuple
        Control first.
    n_arm : tuple of int
        Rows of positive weight in each arm, control first.
    n_all : tuple of int
        Those of weight zero too.
    level_counts : tuple of arrays
        Rows of each level (rows) and arm (columns), of every text covariate.
    shift : float
        Near the mean outcome: sums are taken about it, so that no digits are lost.
    blocks : Spark DataFrame, or None
        The packed rows of each Arrow batch as one binary value, kept by the executors; see :meth:`packed`.
    """

    frame: Any
    coding: Coding
    labels: tuple[Any, ...]
    n_arm: tuple[int, int]
    n_all: tuple[int, int]
    level_counts: tuple[IntArray, ...]
    shift: float
    weighted: bool
    clustered: bool
    known: bool
    blocks: Any = None
    kept: list[Any] = field(default_factory=list)

    @property
    def n(self) -> int:
        """Rows of positive weight."""
        return sum(self.n_arm)

    def arm(self, code: int) -> str:
        """An arm in a message: its role, and its label where it is not 0/1."""
        name = ("control", "treated")[code]
        return name if self.labels == (0, 1) else f"{name} ({self.labels[code]!r})"

    def one_armed_levels(self) -> list[str]:
        """Levels of text that one arm alone has."""
        return [
            f"{name}_{level}"
            for name, levels, counts in zip(self.coding.texts, self.coding.levels, self.level_counts, strict=True)
            for level, n in zip(levels, counts, strict=True) if n.min() == 0
        ]  # fmt: skip

    def keeping(self, keep: IntArray) -> Self:
        """The same rows with some of the columns as regressors."""
        return replace(self, coding=replace(self.coding, keep=keep))

    def packed(self) -> Self:
        """The same rows with blocks, which many passes read several times as fast as columns."""
        coding = self.coding

        def run(batches: Iterator[Any]) -> Iterator[Any]:
            import pyarrow as pa

            for batch in batches:
                yield pa.RecordBatch.from_pydict({"block": pa.array([coding.pack(batch).tobytes()], pa.binary())})

        with running(self.frame.sparkSession, "the frame cannot be packed"):
            return replace(self, blocks=self.keep(self.frame.mapInArrow(run, "block binary")))

    def keep(self, frame: Any) -> Any:
        """Let executors keep a frame until the end of the context."""
        self.kept.append(frame.persist())
        return frame

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self.kept:
            self.kept.pop().unpersist()


def number(value: float) -> str:
    """A number in Spark's SQL, to the last bit."""
    return f"{float(value)!r}D"


def text(value: str) -> str:
    """A text in Spark's SQL."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def read_rows(frame: Any, asked: Asked, *, weights: str | None = None) -> Rows:
    """Check the rows and prepare them: a scan, and one more for each text covariate.

    ``weights``: a column to be carried along as ``e``, unchecked.

    Raises
    ------
    ColumnError
        For columns that are missing, named twice, or hold missing values where covariates may not.
    TreatmentError, OutcomeError, OverlapError, EmptyTableError, CausalRecError
        As the estimators on arrays do.
    """
    check_spark_frame(frame, local="causalrec.observational")
    types = _check_frame(frame, asked)
    if weights is not None:
        check_columns(frame.columns, [weights], where="frame")
        check_numbers(types, [weights])
    numbers = [name for name in asked.covariates if types[name] != "string"]
    texts = [name for name in asked.covariates if types[name] == "string"]
    more = [] if weights is None else [f"COALESCE(CAST({quoted(weights)} AS DOUBLE), double('nan')) AS p0"]
    plain = frame.selectExpr(*_plain(asked, numbers, texts), *more)
    counts = scan_columns(
        weighted=asked.sample_weight is not None, grouped=asked.clusters is not None,
        n_shares=int(asked.propensity is not None),
    )  # fmt: skip
    with running(frame.sparkSession, "the frame cannot be read"):
        found = by_treatment(plain, [*counts, *_scan(asked, len(numbers), len(texts))])
        labels = check_scan(
            found, outcome=asked.outcome or "", treatment=asked.treatment, sample_weight=asked.sample_weight,
            propensity=asked.propensity, control=asked.control, groups="clusters",
        )  # fmt: skip
        check_two_arms(labels, what=asked.what)
        found = sorted(found, key=lambda row: labels.index(row["treatment"]))
        _check_sizes(found, asked, labels)
        _check_covariates(found, numbers, texts)
        levels = [_levels(plain, i, name, labels) for i, name in enumerate(texts)]
    mean, spread = _moments(found, len(numbers))
    return _prepared(plain, asked, found, labels, numbers, texts, levels, mean, spread)


def _check_frame(frame: Any, asked: Asked) -> dict[str, str]:
    known = [asked.propensity] if isinstance(asked.propensity, str) else []
    single = [asked.treatment, *filter(None, [asked.outcome, asked.sample_weight])]
    check_columns(frame.columns, [*single, *filter(None, [asked.clusters]), *known, *asked.covariates], where="frame")
    check_columns(asked.covariates, [], where="covariates")
    if both := [name for name in single if name in asked.covariates]:
        raise ColumnError(
            f"columns {list_some(both)} are named twice among treatment, outcome, weight and covariates. Leave it out: "
            "a covariate is known before the treatment."
        )
    types = column_types(frame)
    check_numbers(types, [asked.outcome, asked.sample_weight, *known])
    if strange := [name for name in asked.covariates if types[name] not in (*NUMBERS, "string")]:
        raise ColumnError(
            f"frame: column{'s' * (len(strange) > 1)} {list_some(strange)} of type {types[strange[0]]}; covariates are "
            "numbers, booleans or text. Cast it, or leave it out."
        )
    return types


def _plain(asked: Asked, numbers: Sequence[str], texts: Sequence[str]) -> list[str]:
    """The columns under plain names."""
    y = "0D" if asked.outcome is None else f"CAST({quoted(asked.outcome)} AS DOUBLE)"
    columns = [f"{quoted(asked.treatment)} AS treatment", f"{y} AS outcome"]
    if asked.sample_weight is not None:
        columns.append(f"CAST({quoted(asked.sample_weight)} AS DOUBLE) AS weight")
    if asked.clusters is not None:
        columns.append(f"{quoted(asked.clusters)} AS groups")
    if asked.propensity is not None:
        p = quoted(asked.propensity) if isinstance(asked.propensity, str) else repr(float(asked.propensity))
        columns.append(f"CAST({p} AS DOUBLE) AS p0")
    columns += [f"CAST({quoted(name)} AS DOUBLE) AS x{i}" for i, name in enumerate(numbers)]
    return columns + [f"{quoted(name)} AS c{i}" for i, name in enumerate(texts)]


def _scan(asked: Asked, n_numbers: int, n_texts: int) -> list[str]:
    """What is asked of each arm beyond the checks that all share: moments of rows with weight, and gaps."""
    used = "weight > 0" if asked.sample_weight is not None else "true"
    columns = [f"AVG(IF({used}, outcome, NULL)) AS mean_y"]
    for i in range(n_numbers):
        x = f"IF({used} AND NOT {infinite(f'x{i}')}, x{i}, NULL)"
        columns += [
            f"COUNT_IF(x{i} IS NULL OR isnan(x{i})) AS missing{i}", f"COUNT_IF({infinite(f'x{i}')}) AS bad{i}",
            f"AVG({x}) AS mean{i}", f"VAR_POP({x}) AS var{i}", f"MAX(abs({x})) AS size{i}",
        ]  # fmt: skip
    for i in range(n_texts):
        columns += [f"COUNT_IF(c{i} IS NULL) AS gaps{i}", f"approx_count_distinct(c{i}) AS distinct{i}"]
    return columns


def _check_sizes(found: Sequence[Mapping[str, Any]], asked: Asked, labels: tuple[Any, ...]) -> None:
    for row, label in zip(found, labels, strict=True):
        if row["weighty"] < asked.smallest:
            raise TreatmentError(
                f"arm {label!r} has {row['weighty']} row{'s' * (row['weighty'] != 1)} of a weight above zero; "
                f"{asked.what} needs at least {asked.smallest}. Check the filter and the weights."
            )


def _check_covariates(found: Sequence[Mapping[str, Any]], numbers: Sequence[str], texts: Sequence[str]) -> None:
    def total(name: str) -> int:
        return int(sum(row[name] for row in found))

    missing = [name for i, name in enumerate(numbers) if total(f"missing{i}")]
    missing += [name for i, name in enumerate(texts) if total(f"gaps{i}")]
    if missing:
        raise ColumnError(
            f"covariates {list_some(missing)} have missing values; drop those rows, or fill them with an indicator."
        )
    if bad := [name for i, name in enumerate(numbers) if total(f"bad{i}")]:
        raise ColumnError(f"covariates {list_some(bad)} have infinite values; drop or cap those rows first.")
    for i, name in enumerate(texts):
        if max(row[f"distinct{i}"] for row in found) > 1.1 * _MOST_LEVELS:
            raise ColumnError(_many_levels(name))


def _many_levels(name: str) -> str:
    return (
        f"covariate {name!r} holds text of more than {_MOST_LEVELS} values, each of which is a regressor. Leave it out "
        "if it is a name or a key; else group its rare values."
    )


def _levels(plain: Any, i: int, name: str, labels: tuple[Any, ...]) -> tuple[tuple[str, ...], IntArray]:
    """The levels of a text covariate in order, and how many rows each has in each arm."""
    used = " WHERE weight > 0" if "weight" in plain.columns else ""
    query = f"SELECT c{i} AS level, treatment, COUNT(*) AS n FROM {{rows}}{used} GROUP BY 1, 2"
    found = plain.sparkSession.sql(query, rows=plain).toArrow().to_pylist()
    levels = sorted({row["level"] for row in found})
    if len(levels) > _MOST_LEVELS:
        raise ColumnError(_many_levels(name))
    counts = np.zeros((len(levels), 2), dtype=np.int64)
    for row in found:
        counts[levels.index(row["level"]), labels.index(row["treatment"])] = row["n"]
    return tuple(levels), counts


def _moments(found: Sequence[Mapping[str, Any]], n_numbers: int) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation over both arms of the rows with weight."""
    n = np.array([row["weighty"] for row in found], dtype=np.float64)
    mean, spread = np.zeros(n_numbers), np.zeros(n_numbers)
    for i in range(n_numbers):
        means = np.array([row[f"mean{i}"] for row in found])
        mean[i] = n @ means / n.sum()
        variance = n @ (np.array([row[f"var{i}"] for row in found]) + (means - mean[i]) ** 2) / n.sum()
        size = max(row[f"size{i}"] for row in found)
        spread[i] = np.sqrt(variance) if np.sqrt(variance) > 1e-12 * size else 0.0
    return mean, spread


def _prepared(
    plain: Any,
    asked: Asked,
    found: Sequence[Mapping[str, Any]],
    labels: tuple[Any, ...],
    numbers: Sequence[str],
    texts: Sequence[str],
    levels: Sequence[tuple[tuple[str, ...], IntArray]],
    mean: FloatArray,
    spread: FloatArray,
) -> Rows:
    n = sum(row["weighty"] for row in found)
    names = list(numbers)
    for name, (values, counts) in zip(texts, levels, strict=True):
        share = counts.sum(axis=1)[1:] / n
        names += [f"{name}_{value}" for value in values[1:]]
        mean, spread = np.append(mean, share), np.append(spread, np.sqrt(share * (1 - share)))
    coding = Coding(
        tuple(numbers), tuple(texts), tuple(values for values, _ in levels), np.array(names, dtype=object), mean,
        np.where(spread > 0, spread, 1.0), np.flatnonzero(spread > 0),
    )  # fmt: skip
    columns = [
        "CAST(IF(treatment = :treated, 1, 0) AS DOUBLE) AS t", "outcome AS y",
        *(["weight AS w"] if asked.sample_weight is not None else []),
        *(["p0 AS e"] if "p0" in plain.columns else []),
        *(["groups AS cluster"] if asked.clusters is not None else []),
        *(f"x{i}" for i in range(len(numbers))), *(f"c{i}" for i in range(len(texts))),
    ]  # fmt: skip
    query = f"SELECT {', '.join(columns)} FROM {{rows}}" + (" WHERE weight > 0" if asked.sample_weight else "")
    return Rows(
        frame=plain.sparkSession.sql(query, args={"treated": found[1]["treatment"]}, rows=plain), coding=coding,
        labels=labels, n_arm=(found[0]["weighty"], found[1]["weighty"]), n_all=(found[0]["n"], found[1]["n"]),
        level_counts=tuple(c for _, c in levels),
        shift=sum(row["mean_y"] * row["weighty"] for row in found) / n, weighted=asked.sample_weight is not None,
        clustered=asked.clusters is not None, known=asked.propensity is not None,
    )  # fmt: skip
