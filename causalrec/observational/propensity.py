"""The propensity score: logistic or probit regression by maximum likelihood, boosted trees, or any classifier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import linalg, special, stats

from causalrec._typing import FloatArray, IntArray
from causalrec._validation import check_treatment, check_two_arms, check_weights
from causalrec.exceptions import OverlapError
from causalrec.observational.design import as_design, check_arms, regressors
from causalrec.results import PropensityResult

_NEWTON_STEPS = 40
_SEPARATED = (
    "the covariates separate treated from control units perfectly, for some units at least: there is nothing to "
    "compare these with. Remove the covariate that decides the treatment, or restrict the data to where both occur."
)


class _Link(NamedTuple):
    name: str
    mean: Callable[[FloatArray], FloatArray]
    slope: Callable[[FloatArray, FloatArray], FloatArray]  # of the mean, from linear predictor and mean
    start: Callable[[float], float]


_LINKS = {
    "logistic": _Link("logistic", special.expit, lambda _, mean: mean * (1 - mean), special.logit),
    "probit": _Link("probit", special.ndtr, lambda eta, _: stats.norm.pdf(eta), special.ndtri),
}


def fit_propensity(
    X: Any,
    *,
    treatment: Any,
    control: Any = None,
    model: Any = "logistic",
    sample_weight: Any = None,
) -> PropensityResult:
    """P(treated given X)."""
    matrix, _ = as_design(X)
    codes, labels = check_treatment(treatment, n_rows=len(matrix), control=control)
    check_two_arms(labels, what="a propensity score")
    weight = None if sample_weight is None else check_weights(sample_weight, n_rows=len(matrix))
    return fit_likelihood(regressors(matrix), codes, link=model, sample_weight=weight)


def fit_likelihood(
    Z: FloatArray, treatment: IntArray, *, link: str = "logistic", sample_weight: FloatArray | None = None
) -> PropensityResult:
    """Maximum likelihood on :func:`regressors`: unpenalised, Newton (Fisher scoring) to convergence.

    Rows with equal covariates get equal scores, to the last bit, so that ties are ties.

    Raises
    ------
    TreatmentError
        When an arm is empty.
    OverlapError
        When the covariates separate the arms, so that the likelihood has no maximum.
    """
    check_arms(treatment)
    chosen = _LINKS[link]
    weight = np.ones(len(Z)) if sample_weight is None else sample_weight
    beta = np.zeros(Z.shape[1])
    beta[0] = chosen.start(float(np.average(treatment, weights=weight)))
    eta = Z @ beta
    sign = np.where(treatment == 1, 1.0, -1.0)
    loss = _loss(link, sign * eta, weight)
    for _ in range(_NEWTON_STEPS):
        score = chosen.mean(eta)
        slope = chosen.slope(eta, score)
        spread = np.maximum(score * (1 - score), 1e-300)
        try:
            hessian = linalg.cho_factor((Z * (weight * slope**2 / spread)[:, None]).T @ Z)
        except linalg.LinAlgError as error:
            raise OverlapError(_SEPARATED) from error
        step = linalg.cho_solve(hessian, Z.T @ (weight * (treatment - score) * slope / spread))
        change = Z @ step
        size = 1.0
        while (worse := _loss(link, sign * (eta + size * change), weight)) > loss + 1e-12 * abs(loss) and size > 1e-6:
            size /= 2
        beta, eta, loss = beta + size * step, eta + size * change, worse
        # Judged by what moves in the scores: blind to the covariates' units and to near collinearity, and under
        # separation, where some score moves by about one at every step, never small.
        if np.abs(change).max() < 1e-8 * (1 + np.abs(eta).max()):
            return _result(chosen, Z, beta, sample_weight)
    raise OverlapError(_SEPARATED)


def _loss(link: str, signed: FloatArray, weight: FloatArray) -> float:
    """Minus the log-likelihood, from the linear predictor with the sign of the arm."""
    logs = np.logaddexp(0, -signed) if link == "logistic" else -special.log_ndtr(signed)
    return float(weight @ logs)


def _result(link: _Link, Z: FloatArray, beta: FloatArray, sample_weight: FloatArray | None) -> PropensityResult:
    eta = _row_by_row(Z, beta)
    score = link.mean(eta)
    slope = link.slope(eta, score)
    weight = slope**2 / (score * (1 - score)) * (1.0 if sample_weight is None else sample_weight)
    return PropensityResult(
        n_obs=len(Z), method=f"{link.name} regression, unpenalised", known=False, cross_fitted=False,
        share_clipped=0.0, score=score, design=Z, slope=slope, information=(Z * weight[:, None]).T @ Z,
        sample_weight=sample_weight,
    )  # fmt: skip


def _row_by_row(Z: FloatArray, beta: FloatArray) -> FloatArray:
    """``Z @ beta``, column after column: a matrix product may round equal rows differently, and untie them."""
    eta = np.zeros(len(Z))
    for column, b in zip(Z.T, beta, strict=True):
        eta += column * b
    return eta
