"""Average effects from sums over a Spark DataFrame: least squares, weighting, doubly robust; the local formulas.

Every estimator takes sums that give its coefficients, then one pass for the influence of each row, whose squares (or
whose sums by cluster) give the error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from causalrec._typing import BoolArray, FloatArray, IntArray
from causalrec._validation import list_some, nearest
from causalrec.exceptions import CausalRecError, OverlapError
from causalrec.nuisance.scores import effect_result
from causalrec.nuisance.support import balancing_weights
from causalrec.observational._spark_fit import (
    Design,
    Influence,
    Line,
    Score,
    fit_arm,
    independent,
    influences,
    pass_over,
    solve_line,
)
from causalrec.observational._spark_rows import Batch, Rows
from causalrec.observational.doubly_robust import inverse_weights
from causalrec.observational.regression import ERRORS
from causalrec.results import AdjustedEffect

_CERTAIN = 1e-9  # 1 - leverage of a row that its own column fits
_SIGNS = (-1.0, 1.0)  # of control and treated in an effect


def error_kind(error: Any, rows: Rows) -> str:
    """The kind of error: HC2 by default, CR1 with clusters."""
    if error is None:
        return "CR1" if rows.clustered else "HC2"
    if error not in ERRORS:
        raise CausalRecError(f"error is {error!r}; expected one of {list_some(ERRORS)}.{nearest(str(error), ERRORS)}")
    if (error == "CR1") != rows.clustered:
        found = "with clusters" if rows.clustered else "without clusters"
        raise CausalRecError(f"error is {error!r} {found}; errors by cluster are 'CR1', and need clusters.")
    return str(error)


def effect(
    rows: Rows, estimate: float, std_error: float, found: Influence, *, method: str, estimand: str, level: float,
    **rest: Any,
) -> AdjustedEffect:  # fmt: skip
    """The result, with what the method says of weights and clusters."""
    method += ", weighted by sample_weight" if rows.weighted else ""
    method += f", clustered by {found.units:,} groups" if rows.clustered else ""
    base = effect_result(estimate, std_error, confidence_level=level, n_obs=rows.n, method=method, estimand=estimand)
    sizes = {
        "n_treated": rows.n_arm[1], "n_control": rows.n_arm[0], "ess_treated": float(found.effective[1]),
        "ess_control": float(found.effective[0]),
    }  # fmt: skip
    return AdjustedEffect(**{**vars(base), **sizes, **rest})


@dataclass(frozen=True)
class _Main:
    """The influence on the coefficient of the treatment, of a row."""

    columns: IntArray  # of the regressors; the treatment comes after them
    coef: FloatArray
    inverse: FloatArray
    kind: str
    shift: float

    def __call__(self, b: Batch) -> tuple[FloatArray, FloatArray]:
        A = np.column_stack([b.Z[:, self.columns], b.t])
        reach = A @ self.inverse[-1]
        psi = b.w * (b.y - self.shift - A @ self.coef) * reach
        leverage = b.w * np.einsum("ij,ij->i", A @ self.inverse, A) if self.kind in ("HC2", "HC3") else np.zeros(1)
        return _grown(psi, leverage, self.kind), b.w * reach * np.where(b.t == 1, 1.0, -1.0)


def main_effect(design: Design, *, kind: str, method: str, estimand: str, level: float) -> AdjustedEffect:
    """The coefficient of the treatment beside the regressors; see :func:`causalrec.observational.ols_effect`."""
    rows, m = design.rows, design.moments
    q = len(m.cross[0])
    gram = np.empty((q + 1, q + 1))
    gram[:q, :q], gram[q, :q], gram[:q, q] = m.gram.sum(axis=0), m.gram[1, 0], m.gram[1, 0]
    gram[q, q] = m.weight[1]
    columns = independent(gram)
    if columns[-1] != q:
        raise OverlapError(
            "the covariates determine the treatment: it is linear in them, so that no two units differ in it alone. "
            "Remove the covariate that decides the treatment, or restrict the data to where both arms occur."
        )
    cross = np.append(m.cross.sum(axis=0), m.cross[1, 0])
    line = solve_line(gram, cross, columns)
    found = influences(rows, _Main(columns[:-1], line.coef, line.inverse, kind, rows.shift))
    if kind == "classical":
        free = rows.n - len(columns)
        rest = float(m.yy.sum()) - float(line.coef @ cross[columns])
        error = math.sqrt(max(rest, 0.0) / free * float(line.inverse[-1, -1])) if free > 0 else float("nan")
    else:
        error = _finish(found, kind, rows.n, len(columns))
    return effect(rows, float(line.coef[-1]), error, found, method=method, estimand=estimand, level=level)


def _grown(psi: FloatArray, leverage: FloatArray, kind: str) -> FloatArray:
    """Influences with residuals divided by √(1 - h) (HC2) or 1 - h (HC3)."""
    if kind not in ("HC2", "HC3"):
        return psi
    rest = 1 - leverage
    return psi / np.where(rest > _CERTAIN, rest if kind == "HC3" else np.sqrt(np.maximum(rest, _CERTAIN)), 1.0)


def _finish(found: Influence, kind: str, n: int, n_coefficients: int) -> float:
    if n <= n_coefficients:
        return float("nan")
    factor = {"HC1": n, "CR1": n - 1}.get(kind, n - n_coefficients) / (n - n_coefficients)
    return found.error * math.sqrt(factor)


@dataclass(frozen=True)
class _Lines:
    """The influence of a row on a contrast of the regressions of both arms."""

    coefs: tuple[FloatArray, FloatArray]  # among all regressors, control first
    reaches: tuple[FloatArray, FloatArray]  # (Σ w z z')^-1 pull of each arm
    inverses: tuple[FloatArray, FloatArray]
    kind: str
    estimand: str
    total: float  # weight of the units asked for
    estimate: float
    centred: bool
    shift: float

    def __call__(self, b: Batch) -> tuple[FloatArray, FloatArray]:
        psi, implied, leverage, gap = np.zeros((4, len(b.t)))
        for code, sign in enumerate(_SIGNS):
            own = (b.t == code) * b.w
            mean = b.Z @ self.coefs[code]
            weight = own * (b.Z @ self.reaches[code])
            psi += sign * weight * (b.y - self.shift - mean)
            implied += weight
            gap += sign * mean
            if self.kind in ("HC2", "HC3"):
                leverage += own * np.einsum("ij,ij->i", b.Z @ self.inverses[code], b.Z)
        psi = _grown(psi, leverage, self.kind)
        if self.centred:
            psi = psi + b.w * asked_for(b.t, self.estimand) / self.total * (gap - self.estimate)
        return psi, implied


def asked_for(t: IntArray, estimand: str) -> FloatArray:
    """One for the units that the estimand is of."""
    return np.asarray({"ate": np.ones(len(t)), "att": t, "atc": 1 - t}[estimand], dtype=np.float64)


def units(design: Design, estimand: str) -> tuple[FloatArray, float]:
    """Mean regressors of the units that the estimand is of, and their weight."""
    arms = {"ate": [0, 1], "att": [1], "atc": [0]}[estimand]
    sums = design.moments.gram[arms, 0].sum(axis=0)
    return sums / sums[0], float(sums[0])


def own_arm(estimand: str, code: int) -> bool:
    """Whether the units asked for are those of an arm: no model of its outcomes is needed."""
    return (estimand, code) in (("att", 1), ("atc", 0))


def contrast_of_lines(
    design: Design, lines: tuple[Line, Line], *, kind: str, estimand: str, centred: bool, method: str, level: float
) -> AdjustedEffect:
    """Mean difference of the arms' regressions over the units of the estimand (Lin, standardisation)."""
    pull, total = units(design, estimand)
    q = len(pull)
    coefs = tuple(line.on(q, line.coef) for line in lines)
    estimate = float((coefs[1] - coefs[0]) @ pull)
    inverses = []
    for line in lines:
        full = np.zeros((q, q))
        full[np.ix_(line.columns, line.columns)] = line.inverse
        inverses.append(full)
    row = _Lines(
        (coefs[0], coefs[1]), (inverses[0] @ pull, inverses[1] @ pull), (inverses[0], inverses[1]), kind, estimand,
        total, estimate, centred, design.rows.shift,
    )  # fmt: skip
    found = influences(design.rows, row)
    error = found.error if kind == "stacked" else _finish(
        found, kind, design.rows.n, sum(len(line.columns) for line in lines)
    )  # fmt: skip
    return effect(design.rows, estimate, error, found, method=method, estimand=estimand, level=level)


def lin_lines(design: Design, estimand: str) -> tuple[Line, Line]:
    """The regressions of both arms, control first."""
    found = [fit_arm(design, code, told_apart=own_arm(estimand, code)) for code in (0, 1)]
    return found[0], found[1]


def mean_lines(design: Design, estimand: str) -> tuple[Line, Line]:
    """The same, with an intercept alone for an arm whose own units are asked for."""
    found = []
    for code in (0, 1):
        if own_arm(estimand, code):
            found.append(solve_line(design.moments.gram[code], design.moments.cross[code], np.array([0])))
        else:
            found.append(fit_arm(design, code))
    return found[0], found[1]


@dataclass(frozen=True)
class Weighting:
    """Weights by the score, with what bounds it."""

    score: Score
    estimand: str
    low: float = 0.0
    high: float = 1.0
    clip: float | None = None

    def of(self, b: Batch) -> tuple[FloatArray, FloatArray, FloatArray, BoolArray]:
        """Weights within the arm, their derivative by the linear predictor, the score, and which scores were moved."""
        e = self.score.of(b)
        within = e if self.clip is None else np.clip(e, self.clip, 1 - self.clip)
        moved = within != e
        weight, change = balancing_weights(within, b.t, self.estimand)
        base = b.w * ((e >= self.low) & (e <= self.high))
        return base * weight, np.where(moved, 0.0, base * change) * self.score.slope(e), e, moved

    def sums(self, shift: float, b: Batch) -> dict[str, Any]:
        """Sums by arm, control first."""
        weight, change, e, moved = self.of(b)
        y, arms = b.y - shift, [b.t == code for code in (0, 1)]
        target = asked_for(b.t, self.estimand) if self.estimand in ("att", "atc") else np.ones(len(e))
        return {
            "n": [np.count_nonzero(weight[arm]) for arm in arms], "weight": [weight[arm].sum() for arm in arms],
            "wy": [weight[arm] @ y[arm] for arm in arms], "z": [change[arm] @ b.Z[arm] for arm in arms],
            "zy": [(change * y)[arm] @ b.Z[arm] for arm in arms], "moved": np.count_nonzero(moved),
            "dropped": np.count_nonzero((weight == 0) & (target == 1)),
        }  # fmt: skip


@dataclass(frozen=True)
class _Weighted:
    """The influence of a row on a difference of weighted means."""

    design: Weighting
    means: FloatArray
    weights: FloatArray
    direction: FloatArray
    shift: float

    def __call__(self, b: Batch) -> tuple[FloatArray, FloatArray]:
        weight, _, e, _ = self.design.of(b)
        sign = 2.0 * b.t - 1
        psi = weight * sign * (b.y - self.shift - self.means[b.t]) / self.weights[b.t]
        return psi + self.design.score.influence(b, e, self.direction), weight


def weighted_effect(rows: Rows, design: Weighting, *, known: bool, method: str, level: float) -> AdjustedEffect:
    """The difference of weighted means; see :func:`causalrec.observational.weighting_effect`."""
    found = pass_over(rows, partial(design.sums, rows.shift))
    for code in (0, 1):
        if found["n"][code] < 2:
            raise OverlapError(
                f"{found['n'][code]} {rows.arm(code)} units have a weight above zero; at least 2 are needed. Look at "
                "the sample weights, and at what trimming cuts off."
            )
    means = found["wy"] / found["weight"]
    slopes = (found["zy"] - means[:, None] * found["z"]) / found["weight"][:, None]
    counted = design.score.beta is not None and not known
    direction = slopes[1] - slopes[0] if counted else np.zeros(slopes.shape[1])
    psi = influences(rows, _Weighted(design, means, found["weight"], direction, rows.shift))
    how = "error counts the estimation of the weights" if counted else "weights taken as known"
    return effect(
        rows, float(means[1] - means[0]), psi.error, psi, method=f"{method}; {how}", estimand=design.estimand,
        level=level, n_treated=int(found["n"][1]), n_control=int(found["n"][0]), n_obs=int(found["n"].sum()),
        n_dropped=int(found["dropped"]), share_clipped=float(found["moved"]) / rows.n,
    )  # fmt: skip


@dataclass(frozen=True)
class _Augmented:
    """Sums of a doubly robust effect, from the score and the regressions of both arms."""

    score: Score
    coefs: tuple[FloatArray, FloatArray]
    estimand: str
    total: float
    shift: float

    def parts(self, b: Batch) -> tuple[FloatArray, FloatArray, FloatArray, list[FloatArray]]:
        """Score, inverse weights, their slopes by the linear predictor, and residuals by arm (0 in the other)."""
        e = self.score.of(b)
        odds, slope = inverse_weights(b.t, e, self.estimand)
        size = b.w / self.total
        y = b.y - self.shift
        residuals = [np.where(b.t == code, y - b.Z @ self.coefs[code], 0.0) for code in (0, 1)]
        return e, size * odds, size * slope * self.score.slope(e), residuals

    def sums(self, b: Batch) -> dict[str, Any]:
        """Augmentation of the estimate, its gradient by each regression, and by the score."""
        _, odds, slope, residuals = self.parts(b)
        signed = residuals[1] - residuals[0]
        return {
            "augmented": odds @ signed, "loss": [(odds * (b.t == code)) @ b.Z for code in (0, 1)],
            "direction": (slope * signed) @ b.Z,
        }  # fmt: skip


@dataclass(frozen=True)
class _DoublyRobust:
    """The influence of a row on a doubly robust effect."""

    model: _Augmented
    reaches: tuple[FloatArray, FloatArray]
    direction: FloatArray
    estimate: float

    def __call__(self, b: Batch) -> tuple[FloatArray, FloatArray]:
        m = self.model
        e, odds, _, residuals = m.parts(b)
        share = b.w * asked_for(b.t, m.estimand) / m.total
        psi = share * (b.Z @ (m.coefs[1] - m.coefs[0]) - self.estimate) + m.score.influence(b, e, self.direction)
        implied = odds.copy()
        for code, sign in enumerate(_SIGNS):
            reach = b.w * (b.t == code) * (b.Z @ self.reaches[code])
            psi += sign * (odds + reach) * residuals[code]
            implied += reach
        return psi, implied


def doubly_robust_effect(design: Design, score: Score, *, estimand: str, method: str, level: float) -> AdjustedEffect:
    """AIPW with a regression in each arm; see :func:`causalrec.observational.aipw_parametric`."""
    rows, q = design.rows, len(design.moments.cross[0])
    lines = mean_lines(design, estimand)
    pull, total = units(design, estimand)
    coefs = tuple(line.on(q, line.coef) for line in lines)
    model = _Augmented(score, (coefs[0], coefs[1]), estimand, total, rows.shift)
    found = pass_over(rows, model.sums)
    estimate = float((coefs[1] - coefs[0]) @ pull) + float(found["augmented"])
    reaches = [line.solve(pull - loss) for line, loss in zip(lines, found["loss"], strict=True)]
    psi = influences(rows, _DoublyRobust(model, (reaches[0], reaches[1]), found["direction"], estimate))
    return effect(rows, estimate, psi.error, psi, method=method, estimand=estimand, level=level)
