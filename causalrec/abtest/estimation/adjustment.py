"""Regression adjustment of two arms by covariates, from the covariances of their scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, NoReturn

import numpy as np

from causalrec._typing import FloatArray
from causalrec.abtest.estimation.scores import Names, ScoredStratum, Scores
from causalrec.exceptions import OutcomeError

_CONSTANT = 1e-13  # error of a mean, as a share of it, below which a covariate varies by rounding only
_EXHAUSTED = 1e-6  # degrees of freedom of a cell, as a share of its own, that are none
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
    covariance = np.array([arm.covariance for arm in arms])
    own = np.array([arm.n - 1.0 for arm in arms])
    square = np.array([stratum.weight**2 for stratum in strata for _ in range(2)])
    weighted = covariance * square[:, None, None]
    within = weighted.sum(axis=0)
    largest = np.abs(np.array([arm.covariates for arm in arms])).max(axis=0)
    inverse, rank = _pseudo_inverse(within[1:, 1:], largest)
    theta = inverse @ within[1:, 0]
    df = own - (weighted[:, 1:, 1:] * inverse).sum(axis=(1, 2))
    if (df < _EXHAUSTED * own).any():
        _refuse(int(np.argmin(df / own)), arms, rank, names)
    along = theta @ covariance[:, 1:]
    explained = along[:, 1:] @ theta
    mixed = along[:, 0] - explained
    error = np.maximum(covariance[:, 0, 0] - 2 * mixed - explained, 0.0) * own / df
    by_theta = _theta_error(strata, covariance[:, 1:, 1:] * (square**2 * error / own)[:, None, None], inverse)
    columns = (error, explained, mixed, df, by_theta[:, 0, 0], by_theta[:, 1, 1], by_theta[:, 0, 1])
    return Adjustment(theta, rank, [Residual(*row) for row in np.array(columns).T.tolist()])


def _theta_error(strata: Sequence[ScoredStratum], noise: FloatArray, inverse: FloatArray) -> FloatArray:
    """Theta's error times the gaps that it multiplies, as of a regression: residual variance x (X'X)^-1, by cell."""
    gaps = np.array([stratum.gap for stratum in strata])
    share = np.array([stratum.treated_share for stratum in strata])
    weight = np.array([stratum.weight for stratum in strata])
    by = np.array([weight * share, weight * (share - 1)]) @ gaps @ inverse  # of control, of treatment
    return np.asarray(by @ noise @ by.T)


def _refuse(worst: int, arms: Sequence[Scores], rank: int, names: Names) -> NoReturn:
    arm = (names.control, names.treatment)[worst % 2]
    raise OutcomeError(
        f"{names.metric}: arm {arm!r} has {arms[worst].n} units{' in a stratum' if len(arms) > 2 else ''}, too few to "
        f"adjust for {rank} covariates: they leave nothing to estimate the variance from. Take fewer covariates, "
        "collect more, or join strata."
    )


def _pseudo_inverse(matrix: FloatArray, means: FloatArray) -> tuple[FloatArray, int]:
    """Inverse of a covariance matrix on the space that it fills, and the dimension of that."""
    if len(matrix) == 1:
        varies = matrix[0, 0] > (_CONSTANT * means[0]) ** 2
        return (1 / matrix, 1) if varies else (np.zeros((1, 1)), 0)
    scale = np.sqrt(matrix.diagonal())
    unit = np.zeros(len(scale))
    np.divide(1.0, scale, out=unit, where=scale > _CONSTANT * means)
    values, vectors = np.linalg.eigh(matrix * np.outer(unit, unit))
    kept = values > _COLLINEAR * max(float(values[-1]), 0.0)
    basis = vectors[:, kept] * unit[:, None]
    return (basis / values[kept]) @ basis.T, int(kept.sum())
