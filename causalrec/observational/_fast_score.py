"""The logistic score of changed data, from that of the true data: steps with a Hessian that is computed once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import special

from causalrec._typing import FloatArray, IntArray
from causalrec.observational._changes import Change
from causalrec.observational._fast_moments import Table, gram, solve
from causalrec.observational.design import blocks
from causalrec.observational.propensity import maximise_likelihood

_STEPS = 30
_SETTLED = 1e-9  # of a standard error: the step that would follow, as steps shrink
_SLOW = 0.1  # a step that is not this much smaller than the last asks for a new Hessian


class Start(NamedTuple):
    """Where the true treatment's score stands: coefficients of shape (q,), information of shape (q, q)."""

    coef: FloatArray
    information: FloatArray


def true_score(table: Table) -> Start:
    """The score of the data as they are."""
    weight = table.weight
    return Start(*maximise_likelihood(np.ascontiguousarray(table.Z), table.treatment, sample_weight=weight))


def changed_score(table: Table, change: Change, start: Start | None, *, ties: bool = False) -> FloatArray | None:
    """P(treated) of every unit after a change, shape (n,), of those outside the rows of a subset too.

    ``ties`` asks that units with equal covariates have equal scores to the last bit. None where the steps do not
    settle, as under separation.
    """
    weight = table.weights_of(change)
    t = table.treatment if change.treatment is None else change.treatment
    if change.treatment is not None or start is None:
        begun = _without_slopes(table, t, weight)
    elif change.covariate is not None:
        begun = _with_column(table, change.covariate, start, weight)
    else:
        share = float(weight.sum()) / (len(weight) if table.weight is None else float(table.weight.sum()))
        begun = Start(start.coef, start.information * share)
    coef = _settle(table.Z, change.covariate, t, weight, begun)
    if coef is None:
        return None
    return np.asarray(special.expit((by_column if ties else predictor)(table.Z, change.covariate, coef)))


def _without_slopes(table: Table, t: IntArray, weight: FloatArray) -> Start:
    """A permuted treatment hangs on nothing but chance: near zero slopes, where the information is p(1 - p) Z'WZ."""
    p = float(weight @ t) / float(weight.sum())
    coef = np.zeros(table.A.shape[1] - 1)
    coef[0] = special.logit(p)
    return Start(coef, p * (1 - p) * table.total[:-1, :-1])


def _with_column(table: Table, z: FloatArray, start: Start, weight: FloatArray) -> Start:
    e = special.expit(table.Z @ start.coef)
    curve = weight * e * (1 - e) * z
    across = table.Z.T @ curve
    information = np.block([[start.information, across[:, None]], [across, float(curve @ z)]])
    return Start(np.append(start.coef, 0.0), information)


def _settle(Z: FloatArray, z: FloatArray | None, t: IntArray, weight: FloatArray, begun: Start) -> FloatArray | None:
    """Coefficients where the likelihood is largest; None where the steps do not get there."""
    coef, information = begun
    last = np.inf
    for _ in range(_STEPS):
        e = special.expit(predictor(Z, z, coef))
        residual = weight * (t - e)
        gradient = Z.T @ residual
        if z is not None:
            gradient = np.append(gradient, float(z @ residual))
        step = solve(information, gradient)
        if step is None:
            return None
        size = float(np.sqrt(max(float(gradient @ step), 0.0)))
        if not np.isfinite(size):
            return None
        if size > _SLOW * last or size > 100:
            curve = weight * e * (1 - e)
            full = Z if z is None else np.column_stack([Z, z])
            information = gram(full, np.flatnonzero(weight > 0), curve)
            step = solve(information, gradient)
            if step is None:
                return None
        coef = coef + step
        if np.isfinite(last) and size * min(size / last, 1.0) < _SETTLED:
            return coef
        last = size
    return None


def predictor(Z: FloatArray, z: FloatArray | None, coef: FloatArray) -> FloatArray:
    """Z coef, with a last coefficient for one more column."""
    return np.asarray(Z @ coef if z is None else Z @ coef[:-1] + coef[-1] * z)


def by_column(Z: FloatArray, z: FloatArray | None, coef: FloatArray) -> FloatArray:
    """The same, column after column: equal rows get equal values to the last bit, so that ties are ties."""
    eta = np.zeros(len(Z)) if z is None else coef[-1] * z
    for rows in blocks(len(Z)):
        for column, b in zip(Z[rows].T, coef, strict=False):
            eta[rows] += column * b
    return eta
