"""Fits on a Spark DataFrame from sums over its rows: independent columns, least squares, likelihood, sandwich errors.

Sums of products are numpy's, batch by batch on the executors; a row for each task comes to the driver.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy import linalg, special
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from causalrec._typing import AnyArray, FloatArray, IntArray
from causalrec._validation import list_some
from causalrec.exceptions import EngineError, OverlapError
from causalrec.nuisance.spark_tasks import Sums, add_sums, running, summed
from causalrec.observational._spark_rows import Batch, Coding, Rows
from causalrec.observational.propensity import LINKS, SEPARATED, derivatives, maximise_likelihood

_COLLINEAR = 1e-6  # of sums of products, which hold half the digits
_NEWTON_STEPS = 30
_SETTLED = 1e-5  # the steps are quadratic: the next moves 1e-10
_SAMPLE = 50_000  # rows from which the likelihood's first steps are taken, where there are many


@dataclass(frozen=True)
class Moments:
    """Sums over the rows of each arm, control first.

    Attributes
    ----------
    gram : array of shape (2, q, q)
        Of w z z'; the first regressor is one.
    cross : array of shape (2, q)
        Of w z y, y about ``Rows.shift``.
    yy : array of shape (2,)
        Of w y².
    """

    gram: FloatArray
    cross: FloatArray
    yy: FloatArray

    def of(self, columns: IntArray) -> Moments:
        """Those of some regressors."""
        return Moments(self.gram[:, columns][:, :, columns], self.cross[:, columns], self.yy)

    @property
    def weight(self) -> FloatArray:
        """Summed weights of each arm."""
        return np.asarray(self.gram[:, 0, 0])


def pass_over(rows: Rows, function: Callable[[Batch], dict[str, Any]]) -> Sums:
    """The sums over all rows of what ``function`` makes of a block."""
    with running(rows.frame.sparkSession, "the pass over the frame failed"):
        return summed(rows.blocks, partial(_apply, function, rows.coding))


def _apply(function: Callable[[Batch], dict[str, Any]], coding: Coding, batch: Any) -> Sums:
    found: Sums = {}
    for table in tables_of(batch, coding):
        add_sums(found, function(coding.read(table)))
    return found


def tables_of(batch: Any, coding: Coding) -> Iterator[FloatArray]:
    """The packed rows of every block that is not empty."""
    for block in batch.column("block"):
        table = np.frombuffer(block.as_buffer(), dtype=np.float64).reshape(-1, coding.width)
        if len(table):
            yield table


def moments(rows: Rows) -> Moments:
    """One pass over the rows; raises :class:`EngineError` when they are others than those that were counted."""
    found = pass_over(rows, partial(_products, rows.shift))
    counts = tuple(found["n"].tolist())
    if counts != rows.n_arm:
        raise EngineError(
            f"the arms had {rows.n_arm} rows first and {counts} later: the frame changes when it is computed again, as "
            "a sample without a seed does. Call persist() on it, or write it to a table first."
        )
    return Moments(found["gram"], found["cross"], found["yy"])


def _products(shift: float, b: Batch) -> dict[str, Any]:
    """Sums by arm."""
    y = b.y - shift
    found: dict[str, list[Any]] = {"n": [], "gram": [], "cross": [], "yy": []}
    for code in (0, 1):
        own = b.t == code
        Z, w = b.Z[own], b.w[own]
        weighted = Z * w[:, None]
        found["n"].append(len(w))
        found["gram"].append(weighted.T @ Z)
        found["cross"].append(weighted.T @ y[own])
        found["yy"].append(w @ y[own] ** 2)
    return {name: np.array(values) for name, values in found.items()}


def independent(gram: FloatArray) -> IntArray:
    """The columns that are not linear in those before them, from their products: pivots of elimination."""
    size = np.sqrt(np.maximum(np.diag(gram), 0.0))
    rest = gram / np.where(size > 0, size, 1.0) / np.where(size > 0, size, 1.0)[:, None]
    keep = []
    for j in range(len(rest)):
        if size[j] > 0 and rest[j, j] > _COLLINEAR**2 and rest[j, j] > 0:
            keep.append(j)
            rest = rest - np.outer(rest[:, j], rest[j]) / rest[j, j]
    return np.array(keep, dtype=np.int64)


class Design(NamedTuple):
    """Rows with independent regressors, their moments, and the columns that were left out."""

    rows: Rows
    moments: Moments
    dropped: tuple[str, ...]

    @property
    def names(self) -> AnyArray:
        """Of the regressors, the intercept first."""
        return np.concatenate([["intercept"], self.rows.coding.names[self.rows.coding.keep]]).astype(object)

    def suffix(self) -> str:
        """What ``method`` says of columns that were left out."""
        return f"; without {list_some(self.dropped)}, collinear" if self.dropped else ""


def make_design(rows: Rows) -> Design:
    """The regressors that are not linear in those before them, after one pass for the moments."""
    rows = rows.packed()
    found = moments(rows)
    columns = independent(found.gram.sum(axis=0))
    kept = rows.coding.keep[columns[1:] - 1]
    left = set(range(len(rows.coding.names))) - set(kept.tolist())
    dropped = tuple(str(rows.coding.names[i]) for i in sorted(left))
    return Design(rows.keeping(kept), found.of(columns), dropped)


class Line(NamedTuple):
    """A least-squares fit: coefficients of some of the regressors, and the inverse of Σ w z z'."""

    columns: IntArray
    coef: FloatArray
    inverse: FloatArray

    def on(self, q: int, vector: FloatArray) -> FloatArray:
        """A vector of this fit's coefficients among all q regressors."""
        full = np.zeros(q)
        full[self.columns] = vector
        return full

    def solve(self, pull: FloatArray) -> FloatArray:
        """(Σ w z z')^-1 pull, among all regressors: what a residual times weight does to an estimate, by z."""
        return self.on(len(pull), self.inverse @ pull[self.columns])


def fit_arm(design: Design, code: int, *, told_apart: bool = False) -> Line:
    """Least squares of the outcome in an arm.

    ``told_apart``: leave out the columns that the arm cannot tell apart, rather than raise.

    Raises
    ------
    OverlapError
        When columns are linear in others there, though not among all rows.
    """
    gram, n = design.moments.gram[code], design.rows.n_arm[code]
    columns = independent(gram)
    if told_apart:
        columns = columns[:1] if n <= len(columns) else columns
    elif len(columns) < len(gram) or n < len(gram):
        out = np.delete(design.names, columns) if len(columns) < len(gram) else design.names[n:]
        raise OverlapError(
            f"the {n} {design.rows.arm(code)} units cannot tell what {list_some(map(str, out))} does: it does not vary "
            "among them, or only with other columns (a category of one arm only, or fewer units than columns). Drop "
            "the column, merge its category, restrict the units to where both arms occur, or use ols_effect."
        )
    return solve_line(gram, design.moments.cross[code], columns)


def solve_line(gram: FloatArray, cross: FloatArray, columns: IntArray) -> Line:
    """The normal equations of some columns."""
    part = gram[np.ix_(columns, columns)]
    size = np.sqrt(np.diag(part))
    inverse = linalg.inv(part / size / size[:, None]) / size / size[:, None]
    coef = inverse @ cross[columns]
    coef = coef + inverse @ (cross[columns] - part @ coef)
    return Line(columns, coef, (inverse + inverse.T) / 2)


@dataclass(frozen=True)
class Score:
    """A logistic regression of the treatment, or a propensity that is known (no coefficients).

    Attributes
    ----------
    beta : array of shape (q,) or None
    inverse : array of shape (q, q) or None
        Of the information.
    """

    beta: FloatArray | None = None
    inverse: FloatArray | None = None

    def of(self, b: Batch) -> FloatArray:
        """P(treated) of a batch."""
        return b.e if self.beta is None else np.asarray(special.expit(b.Z @ self.beta))

    def slope(self, e: FloatArray) -> FloatArray:
        """Derivative by the linear predictor; zero where the score is known."""
        return np.zeros(len(e)) if self.beta is None else e * (1 - e)

    def influence(self, b: Batch, e: FloatArray, direction: FloatArray) -> FloatArray:
        """What the estimation of the score adds to each row's influence; ``direction`` is Σ gradient slope z."""
        if self.inverse is None:
            return np.zeros(len(e))
        return np.asarray(b.w * (b.t - e) * (b.Z @ (self.inverse @ direction)))

    @property
    def text(self) -> str:
        """As ``PropensityResult.method`` has it."""
        return "known by design" if self.beta is None else "logistic regression, unpenalised"


def fit_score(rows: Rows) -> Score:
    """Maximum likelihood, unpenalised: Newton steps, each a pass, as those of the local fit.

    With many rows the first steps are taken on a sample of them, by one task.

    Raises
    ------
    OverlapError
        When the covariates separate the arms, so that the likelihood has no maximum; names categories of one arm.
    """
    if rows.known:
        return Score()
    beta = _first_guess(rows)
    found, step = _derivative_sums(rows, beta, None), beta
    for _ in range(_NEWTON_STEPS):
        try:
            step = linalg.cho_solve(linalg.cho_factor(found["information"]), found["gradient"])
        except linalg.LinAlgError:
            break
        loss, size = float(found["loss"]), 1.0
        found = _derivative_sums(rows, beta + step, step)
        while found["loss"] > loss + 1e-12 * abs(loss) and size > 1e-6:
            size /= 2
            found = _derivative_sums(rows, beta + size * step, step)
        beta = beta + size * step
        if found["max_change"] < _SETTLED:
            if found["certain"]:
                break
            inverse = linalg.cho_solve(linalg.cho_factor(found["information"]), np.eye(len(beta)))
            return Score(beta + inverse @ found["gradient"], inverse)
    raise OverlapError(_separated(rows))


def _separated(rows: Rows) -> str:
    alone = rows.one_armed_levels()
    return SEPARATED + (f" Values that only one arm has: {list_some(alone)}." if alone else "")


def _derivative_sums(rows: Rows, beta: FloatArray, step: FloatArray | None) -> Sums:
    return pass_over(rows, partial(_likelihood_part, beta, step))


def _likelihood_part(beta: FloatArray, step: FloatArray | None, b: Batch) -> dict[str, Any]:
    gradient, information, loss, change = derivatives(LINKS["logistic"], b.Z, b.t, beta, b.w, step)
    score = special.expit(b.Z @ beta)
    certain = np.count_nonzero((score <= 0) | (score >= 1))
    return {
        "gradient": gradient, "information": information, "loss": loss, "max_change": change, "certain": certain,
    }  # fmt: skip


def _first_guess(rows: Rows) -> FloatArray:
    """The share of treated, or the coefficients of a sample."""
    beta = np.zeros(len(rows.coding.keep) + 1)
    beta[0] = special.logit(rows.n_arm[1] / rows.n)
    if rows.n <= 4 * _SAMPLE:
        return beta
    coding, step = rows.coding, rows.n // _SAMPLE

    def some(batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow as pa

        for batch in batches:
            blocks = [table[::step].tobytes() for table in tables_of(batch, coding)]
            yield pa.RecordBatch.from_pydict({"block": pa.array(blocks, pa.binary())})

    def run(batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow as pa

        with threadpool_limits(limits=1):
            b = coding.read(np.concatenate([table for batch in batches for table in tables_of(batch, coding)]))
            try:
                near = maximise_likelihood(b.Z, b.t, sample_weight=b.w)[0]
            except OverlapError:
                near = beta
        yield pa.RecordBatch.from_pydict({"found": pa.array([pickle.dumps(near)], pa.binary())})

    with running(rows.frame.sparkSession, "the pass over the frame failed"):
        sample = rows.blocks.mapInArrow(some, "block binary").repartition(1)
        return np.asarray(pickle.loads(sample.mapInArrow(run, "found binary").toArrow().column(0)[0].as_py()))


class Influence(NamedTuple):
    """What comes of the influences: Σψ² over rows or clusters, their number, and sums of weights by arm."""

    squares: float
    units: int
    weight: FloatArray
    weight_squares: FloatArray

    @property
    def error(self) -> float:
        """As :func:`causalrec.observational._errors.sandwich_error`, clusters being the units where there are any."""
        return math.sqrt(self.squares)

    @property
    def effective(self) -> FloatArray:
        """(Σw)² / Σw² of each arm (Kish 1965)."""
        return np.asarray(self.weight**2 / np.where(self.weight_squares > 0, self.weight_squares, np.nan))


def influences(rows: Rows, function: Callable[[Batch], tuple[FloatArray, FloatArray]]) -> Influence:
    """One pass for the squares of what ``function`` gives for a batch: influences, and weights within the arm."""
    if not rows.clustered:
        found = pass_over(rows, partial(_squares, function))
        return Influence(float(found["squares"]), rows.n, found["weight"], found["weight_squares"])
    names = ["psi", "w0", "w1", "q0", "q1"]
    with running(rows.frame.sparkSession, "the pass over the frame failed"):
        frame = _by_row(rows, function, names)
        sums = ", ".join(f"SUM({name}) AS {name}" for name in names)
        totals = ", ".join(f"SUM({name})" for name in names[1:])
        query = f"SELECT cluster, {sums} FROM {{rows}} GROUP BY cluster"
        query = f"SELECT COUNT(*) AS n, array(SUM(psi * psi), {totals}) AS v FROM ({query})"
        row = frame.sparkSession.sql(query, rows=frame).toArrow().to_pylist()[0]
    n, v = row["n"], np.array(row["v"], dtype=np.float64)
    factor = n / (n - 1) if n > 1 else float("nan")
    return Influence(float(v[0]) * factor, int(n), v[1:3], v[3:])


def _squares(function: Callable[[Batch], tuple[FloatArray, FloatArray]], b: Batch) -> dict[str, Any]:
    psi, weight = function(b)
    return {
        "squares": psi @ psi, "weight": np.bincount(b.t, weights=weight, minlength=2),
        "weight_squares": np.bincount(b.t, weights=weight**2, minlength=2),
    }  # fmt: skip


def _by_row(rows: Rows, function: Callable[[Batch], tuple[FloatArray, FloatArray]], names: Sequence[str]) -> Any:
    """A frame of the cluster, the influence, and the weights of either arm and their squares, of every row."""
    coding = rows.coding

    def run(batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow as pa

        with threadpool_limits(limits=1):
            for batch in batches:
                b = coding.read(coding.pack(batch))
                psi, weight = function(b) if batch.num_rows else (np.zeros(0), np.zeros(0))
                w0, w1 = weight * (b.t == 0), weight * (b.t == 1)
                columns = [batch.column("cluster"), *(pa.array(v, pa.float64()) for v in (psi, w0, w1, w0**2, w1**2))]
                yield pa.RecordBatch.from_arrays(columns, names=["cluster", *names])

    kind = dict(rows.frame.dtypes)["cluster"]
    return rows.frame.mapInArrow(run, ", ".join([f"cluster {kind}", *(f"{name} double" for name in names)]))
