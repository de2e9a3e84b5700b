"""Regression adjustment of two arms by covariates, from the covariances of their scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

import numpy as np
from scipy.linalg.lapack import dpotrf, dtrtri

from causalrec._typing import FloatArray
from causalrec.abtest.estimation.scores import Names, ScoredStratum, Scores, without_rounding
from causalrec.exceptions import OutcomeError

_CONSTANT = 1e-13  # error of a mean, as a share of it, below which a covariate varies by rounding only
_EXHAUSTED = 1e-6  # degrees of freedom of a cell, as a share of its own, that are none
_WELL_CONDITIONED = 1e6  # trace of the inverse correlations up to which their Cholesky root serves
_COLLINEAR = 1e-10  # share of the largest eigenvalue of the correlations below which a direction is taken as empty


class Residual(NamedTuple):
    """The variance of a cell's mean score, split by the covariates: of e = L - theta'x, of theta'x, and between.

    ``error`` is corrected for the part of the cell's ``df`` degrees of freedom that fitting theta took. By way of theta
    the same residuals add ``to_control`` and ``to_treatment`` to the arms' variances, ``to_both`` to their covariance.
    """

    error: float
    explained: float
    mixed: float
    df: float
    to_control: float
    to_treatment: float
    to_both: float


class Adjustment(NamedTuple):
    """Coefficients theta of shape (k,), the number of covariates that add something, and the residuals of each cell.

    Cells are control and treatment of each stratum that is not shared, in turn.
    """

    theta: FloatArray
    rank: int
    residuals: list[Residual]

    def levels(self, cell: ScoredStratum) -> tuple[float, float]:
        """Mean scores of control and treatment if both had the stratum's covariates."""
        moved, p = float(self.theta @ cell.gap), cell.treated_share
        return cell.control.level + p * moved, cell.treatment.level - (1 - p) * moved


def fit_adjustment(strata: Sequence[ScoredStratum], names: Names) -> Adjustment:
    """Find the theta, common to all strata, that gives the difference its least variance; strata are not shared ones.

    Fitting theta takes k degrees of freedom of all cells together. A cell loses the sum of its units' leverages, which
    is large for the smaller arm, as theta weighs units by the error that they cause.

    Raises
    ------
    OutcomeError
        For a cell that has no degrees of freedom left.
    """
    arms = [arm for stratum in strata for arm in (stratum.control, stratum.treatment)]
    squares = [stratum.weight**2 for stratum in strata for _ in range(2)]
    solve = _solve_one if len(arms[0].covariates) == 1 else _solve
    theta, rank, leverage, forms = solve(strata, arms, squares)
    own = [arm.n - 1 for arm in arms]
    left = [1 - taken / n for taken, n in zip(leverage, own, strict=True)]
    if min(left) < _EXHAUSTED:
        _refuse(left.index(min(left)), arms, rank, names)
    df = [n - taken for n, taken in zip(own, leverage, strict=True)]
    return Adjustment(theta, rank, [_residual(*cell) for cell in zip(forms, squares, own, df, strict=True)])


class _Form(NamedTuple):
    """A cell's covariances of (L, theta'x, what theta moves control by, what it moves treatment by).

    The last two are w p gap' (X'X)^-1 x of control and w (p - 1) gap' (X'X)^-1 x of treatment, over all strata.
    """

    own: float
    along: float
    explained: float
    to_control: float
    to_treatment: float
    to_both: float


class _Solution(NamedTuple):
    theta: FloatArray
    rank: int
    leverage: list[float]
    forms: list[_Form]


def _solve(strata: Sequence[ScoredStratum], arms: Sequence[Scores], squares: Sequence[float]) -> _Solution:
    """Theta, its rank, and for each cell the sum of its leverages and its covariances."""
    covariance = np.array([arm.covariance for arm in arms])
    weighted = covariance * np.array(squares)[:, None, None]
    within = np.add.reduce(weighted)
    largest = [max(map(abs, means)) for means in zip(*(arm.covariates.tolist() for arm in arms), strict=True)]
    inverse, rank = _pseudo_inverse(within[1:, 1:], largest)
    theta = inverse @ within[1:, 0]
    leverage = (weighted[:, 1:, 1:].reshape(len(arms), -1) @ inverse.ravel()).tolist()
    into = np.zeros((4, 1 + len(theta)))
    into[0, 0] = 1.0
    into[1, 1:] = theta
    into[2:, 1:] = np.array(_weights(strata)) @ np.array([s.gap for s in strata]) @ inverse
    found = (into @ covariance @ into.T).tolist()
    forms = [
        _Form(own, along, explained, control, treatment, both)
        for (own, along, *_), (_, explained, *_), (*_, control, both), (*_, treatment) in found
    ]
    return _Solution(theta, rank, leverage, forms)


def _solve_one(strata: Sequence[ScoredStratum], arms: Sequence[Scores], squares: Sequence[float]) -> _Solution:
    """The same of one covariate, without matrices: most experiments have one, and numbers are quicker."""
    cells = [(*arm.covariance[0].tolist(), float(arm.covariance[1, 1])) for arm in arms]
    within = sum(square * xx for square, (_, _, xx) in zip(squares, cells, strict=True))
    largest = max(abs(float(arm.covariates[0])) for arm in arms)
    inverse = 1 / within if within > (_CONSTANT * largest) ** 2 else 0.0
    theta = inverse * sum(square * lx for square, (_, lx, _) in zip(squares, cells, strict=True))
    gaps = [float(stratum.gap[0]) * inverse for stratum in strata]
    control, treatment = (sum(w * gap for w, gap in zip(of, gaps, strict=True)) for of in _weights(strata))
    forms = [
        _Form(ll, theta * lx, theta**2 * xx, control**2 * xx, treatment**2 * xx, control * treatment * xx)
        for ll, lx, xx in cells
    ]
    leverage = [square * xx * inverse for square, (_, _, xx) in zip(squares, cells, strict=True)]
    return _Solution(np.array([theta]), int(inverse > 0), leverage, forms)


def _weights(strata: Sequence[ScoredStratum]) -> tuple[list[float], list[float]]:
    """What a stratum's gap counts in control and in treatment."""
    return [s.weight * s.treated_share for s in strata], [s.weight * (s.treated_share - 1) for s in strata]


def _residual(form: _Form, square: float, own_df: int, df: float) -> Residual:
    """From a cell's covariances, squared weight and degrees of freedom."""
    mixed = form.along - form.explained
    error = without_rounding(form.own - 2 * mixed - form.explained, form.own + form.explained) * own_df / df
    noise = square * square * error / own_df  # theta's error is that of a regression: residual variance x (X'X)^-1
    return Residual(
        error, form.explained, mixed, df, noise * form.to_control, noise * form.to_treatment, noise * form.to_both
    )


def _refuse(worst: int, arms: Sequence[Scores], rank: int, names: Names) -> NoReturn:
    arm = (names.control, names.treatment)[worst % 2]
    raise OutcomeError(
        f"{names.metric}: arm {arm!r} has {arms[worst].n} units{' in a stratum' if len(arms) > 2 else ''}, too few to "
        f"adjust for {rank} covariates: they leave nothing to estimate the variance from. Take fewer covariates, "
        "collect more, or join strata."
    )


def _pseudo_inverse(matrix: FloatArray, means: Sequence[float]) -> tuple[FloatArray, int]:
    """Inverse of a covariance matrix on the space that it fills, and the dimension of that."""
    scales = zip(matrix.diagonal().tolist(), means, strict=True)
    unit = np.array([1 / math.sqrt(square) if square > (_CONSTANT * mean) ** 2 else 0.0 for square, mean in scales])
    basis = _white_basis(matrix * unit * unit[:, None]) * unit
    return basis.T @ basis, len(basis)


def _white_basis(correlations: FloatArray) -> FloatArray:
    """Rows B with B C B' = I, as many as the correlations C have directions that are not empty."""
    root, failed = dpotrf(correlations, lower=True)
    if not failed:
        basis, _ = dtrtri(root, lower=True)
        if np.vdot(basis, basis) < _WELL_CONDITIONED:
            return np.asarray(basis)
    values, vectors = np.linalg.eigh(correlations)
    kept = values > _COLLINEAR * max(float(values[-1]), 0.0)
    return np.asarray((vectors[:, kept] / np.sqrt(values[kept])).T)
