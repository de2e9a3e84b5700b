"""Regression adjustment of two arms by covariates, from the covariances of their scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from causalrec._typing import FloatArray
from causalrec.abtest.estimation.scores import Names, ScoredStratum, Scores
from causalrec.exceptions import OutcomeError

_CONSTANT = 1e-13  # error of a mean, as a share of it, below which a covariate varies by rounding only
_COLLINEAR = 1e-10  # share of the largest eigenvalue of the correlations below which a direction is taken as empty


class Residual(NamedTuple):
    """The variance of a cell's mean score, split by the covariates: of e = L - theta'x, of theta'x, and between."""

    error: float
    explained: float
    mixed: float


class Adjustment(NamedTuple):
    """Coefficients theta of shape (k,), and what estimating them costs.

    ``rank`` counts the covariates that add something; ``inflation`` is the small-sample factor of residual variances
    (in ``residuals``, control and treatment of each stratum that is not shared); ``theta_error`` what theta's own error
    adds: to the variance of control and treatment, and to their covariance.
    """

    theta: FloatArray
    rank: int
    inflation: float
    residuals: tuple[tuple[Residual, Residual], ...]
    theta_error: tuple[float, float, float]

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
    free = sum(c.control.n + c.treatment.n - 2 for c in cells)
    if free - rank < 1:
        raise OutcomeError(
            f"{names.metric}: {free + 2 * len(cells)} units in {2 * len(cells)} cells are too few to adjust for "
            f"{rank} covariates. Take fewer covariates, or collect more."
        )
    inflation = free / (free - rank)
    residuals = tuple((_split(c.control, theta, inflation), _split(c.treatment, theta, inflation)) for c in cells)
    return Adjustment(theta, rank, inflation, residuals, _theta_error(cells, residuals, inverse))


def _split(scores: Scores, theta: FloatArray, inflation: float) -> Residual:
    """The parts of the variance of a mean score."""
    along = theta @ scores.covariance[1:]
    with_score, explained = float(along[0]), float(along[1:] @ theta)
    return Residual(
        (float(scores.covariance[0, 0]) - 2 * with_score + explained) * inflation, explained, with_score - explained
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


def _theta_error(
    cells: Sequence[ScoredStratum], residuals: Sequence[tuple[Residual, Residual]], inverse: FloatArray
) -> tuple[float, float, float]:
    """Theta's error times the gaps that it multiplies, as of a regression: residual variance x (X'X)^-1."""
    meat = np.zeros_like(inverse)
    to_control, to_treatment = np.zeros(len(inverse)), np.zeros(len(inverse))
    for cell, (of_control, of_treatment) in zip(cells, residuals, strict=True):
        for arm, residual in ((cell.control, of_control), (cell.treatment, of_treatment)):
            meat += arm.covariance[1:, 1:] * (cell.weight**4 * residual.error / (arm.n - 1))
        to_control += cell.gap * (cell.weight * cell.treated_share)
        to_treatment -= cell.gap * (cell.weight * (1 - cell.treated_share))
    by_control, by_treatment = inverse @ to_control, inverse @ to_treatment
    half = meat @ by_treatment
    return float(by_control @ meat @ by_control), float(by_treatment @ half), float(by_control @ half)
