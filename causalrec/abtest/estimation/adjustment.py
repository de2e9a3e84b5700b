"""Regression adjustment of two arms by covariates, from the covariances of their scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from causalrec._typing import FloatArray
from causalrec.abtest.estimation.scores import Names, ScoredStratum, Scores
from causalrec.exceptions import OutcomeError
from causalrec.results import NAN

_CONSTANT = 1e-13  # error of a mean, as a share of it, below which a covariate varies by rounding only
_EXHAUSTED = 1e-6  # degrees of freedom of a cell, as a share of its own, that are none
_COLLINEAR = 1e-10  # share of the largest eigenvalue of the correlations below which a direction is taken as empty


class Residual(NamedTuple):
    """The variance of a cell's mean score, split by the covariates: of e = L - theta'x, of theta'x, and between.

    ``error`` is corrected for the part of the cell's ``df`` degrees of freedom that fitting theta took.
    """

    error: float
    explained: float
    mixed: float
    df: float


class Adjustment(NamedTuple):
    """Coefficients theta of shape (k,), and what estimating them costs.

    ``rank`` counts the covariates that add something. ``residuals`` are of control and treatment of each stratum that
    is not shared. ``theta_error``, of shape (2 x strata, 2, 2), is what the residuals of each of these cells, by way of
    theta, add to the covariance of control and treatment.
    """

    theta: FloatArray
    rank: int
    residuals: tuple[tuple[Residual, Residual], ...]
    theta_error: FloatArray

    def levels(self, cell: ScoredStratum) -> tuple[float, float]:
        """Mean scores of control and treatment if both had the stratum's covariates."""
        moved, p = float(self.theta @ cell.gap), cell.treated_share
        return cell.control.level + p * moved, cell.treatment.level - (1 - p) * moved


def fit_adjustment(cells: Sequence[ScoredStratum], names: Names) -> Adjustment:
    """Find the theta, common to all strata, that gives the difference its least variance; strata are not shared ones.

    Raises
    ------
    OutcomeError
        For too few units.
    """
    within = np.zeros_like(cells[0].control.covariance)
    means = np.zeros(len(within) - 1)
    for cell in cells:
        within += cell.weight**2 * (cell.control.covariance + cell.treatment.covariance)
        means = np.maximum(means, np.maximum(np.abs(cell.control.covariates), np.abs(cell.treatment.covariates)))
    inverse, rank = _pseudo_inverse(within[1:, 1:], means)
    theta = inverse @ within[1:, 0]
    residuals = tuple(
        (_split(c.control, c.weight, theta, inverse), _split(c.treatment, c.weight, theta, inverse)) for c in cells
    )
    for cell, pair in zip(cells, residuals, strict=True):
        for arm, scores, residual in zip((names.control, names.treatment), (cell.control, cell.treatment), pair,
                                         strict=True):  # fmt: skip
            if not residual.df > 0:
                raise OutcomeError(
                    f"{names.metric}: arm {arm!r} has {scores.n} units{'' if len(cells) == 1 else ' in a stratum'}, too "
                    f"few to adjust for {rank} covariates: they leave nothing to estimate the variance from. Take fewer "
                    "covariates, collect more, or join strata."
                )
    return Adjustment(theta, rank, residuals, _theta_error(cells, residuals, inverse))


def _split(scores: Scores, weight: float, theta: FloatArray, inverse: FloatArray) -> Residual:
    """The parts of the variance of a mean score; ``inverse`` is of the covariates' covariance within all cells.

    Fitting theta takes k degrees of freedom of all cells together. A cell loses the sum of its units' leverages, which
    is large for the smaller arm, as theta weighs units by the error that they cause.
    """
    along = theta @ scores.covariance[1:]
    with_score, explained = float(along[0]), float(along[1:] @ theta)
    error = float(scores.covariance[0, 0]) - 2 * with_score + explained
    leverage = weight**2 * float((inverse * scores.covariance[1:, 1:]).sum())
    own = scores.n - 1
    df = own - leverage
    if df < _EXHAUSTED * own:
        return Residual(NAN, explained, with_score - explained, 0.0)
    return Residual(max(error, 0.0) * own / df, explained, with_score - explained, df)


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


def _theta_error(
    cells: Sequence[ScoredStratum], residuals: Sequence[tuple[Residual, Residual]], inverse: FloatArray
) -> FloatArray:
    """Theta's error times the gaps that it multiplies, as of a regression: residual variance x (X'X)^-1, by cell."""
    moved = np.zeros((2, len(inverse)))  # of control and treatment, by a unit of theta
    within, scale = [], []
    for cell, pair in zip(cells, residuals, strict=True):
        moved[0] += cell.gap * (cell.weight * cell.treated_share)
        moved[1] -= cell.gap * (cell.weight * (1 - cell.treated_share))
        for arm, residual in zip((cell.control, cell.treatment), pair, strict=True):
            within.append(arm.covariance[1:, 1:])
            scale.append(cell.weight**4 * residual.error / (arm.n - 1))
    by = moved @ inverse
    found: FloatArray = by @ np.array(within) @ by.T * np.array(scale)[:, None, None]
    return found
