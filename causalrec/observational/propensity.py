"""The propensity score: logistic or probit regression by maximum likelihood, boosted trees, or any classifier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import linalg, special
from sklearn.base import is_classifier

from causalrec._typing import FloatArray, IntArray
from causalrec._validation import check_propensity, check_treatment, check_two_arms, check_weights, list_some, nearest
from causalrec.exceptions import CausalRecError, OverlapError
from causalrec.nuisance.boosting import BoostedClassifier
from causalrec.nuisance.crossfit import check_arm_weights
from causalrec.nuisance.fitting import SharedCovariates
from causalrec.nuisance.folds import check_groups, make_folds
from causalrec.nuisance.propensity import (
    Calibration,
    arm_probabilities,
    calibrate_across,
    check_calibration,
    check_clip,
    fit_propensity_models,
)
from causalrec.observational.design import as_design, check_arms, design_matrix, in_parts, regressors
from causalrec.results import PropensityResult

MODELS = ("logistic", "probit", "boosted")
_FOLDS = 5
_NEWTON_STEPS = 40
_SETTLED = 1e-5  # the steps are quadratic: after one that moves no score's predictor by more, the next moves 1e-10
_FIRST_FEW = 50_000
_SOLVED = 1e-6
SEPARATED = (
    "the covariates separate treated from control units perfectly, for some units at least: there is nothing to "
    "compare these with. Remove the covariate that decides the treatment, or restrict the data to where both occur."
)


class _Link(NamedTuple):
    """A model of P(treated) by a linear predictor eta."""

    mean: Callable[[FloatArray], FloatArray]
    slope: Callable[[FloatArray, FloatArray], FloatArray]  # of the mean, from eta and mean
    start: Callable[[float], float]  # eta of a mean
    terms: Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray, FloatArray]]


def _logistic_terms(eta: FloatArray, sign: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Derivative of the log-likelihood by eta, its curvature, and minus itself; ``sign`` is 1 or -1 by arm."""
    own = special.expit(sign * eta)
    other = 1 - own
    return sign * other, own * other, -np.log(np.maximum(own, 1e-300))


def _probit_terms(eta: FloatArray, sign: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    log_own = special.log_ndtr(sign * eta)
    ratio = np.exp(-(eta**2) / 2 - _HALF_LOG_TWO_PI - log_own)
    return sign * ratio, np.maximum(ratio * (ratio + sign * eta), 0.0), -log_own


_HALF_LOG_TWO_PI = float(np.log(2 * np.pi)) / 2
LINKS = {
    "logistic": _Link(special.expit, lambda _, mean: mean * (1 - mean), special.logit, _logistic_terms),
    "probit": _Link(
        special.ndtr, lambda eta, _: np.exp(-(eta**2) / 2 - _HALF_LOG_TWO_PI), special.ndtri, _probit_terms
    ),
}


def fit_propensity(
    X: Any,
    *,
    treatment: Any,
    control: Any = None,
    model: Any = "logistic",
    n_folds: int | None = None,
    calibration: Calibration = None,
    clip: float | None = None,
    groups: Any = None,
    sample_weight: Any = None,
    random_state: int = 0,
    n_jobs: int | None = None,
) -> PropensityResult:
    """P(treated given X), the propensity score (Rosenbaum and Rubin 1983, Biometrika 70).

    Parameters
    ----------
    X : frame or array of shape (n, p)
        Text and categories become 0/1 columns for the regressions; boosted trees and other classifiers get X as it is.
    treatment : array of shape (n,)
        0/1, or labels with ``control``.
    control : label, optional
    model : {"logistic", "probit", "boosted"} or scikit-learn classifier
        The regressions have an intercept and no penalty, are standardised inside, and are iterated until nothing
        moves; columns that are constant or linear in others change nothing. Rows with equal covariates get equal
        scores, to the last bit, so that ties are ties.
    n_folds : int, optional
        Folds of cross-fitting, 1 for none. By default none for the regressions, whose estimation the errors of
        weighting and matching can count, and 5 for other models, whose scores in sample follow the treatment's noise.
    calibration : {"sigmoid", "isotonic"}, optional
        Calibrate the score of each fold on the others.
    clip : float, optional
        Least and greatest score: clip and 1 - clip. Nothing is clipped by default; ``share_clipped`` says how many.
        A clipped score no longer follows its coefficients, so that errors take it as known; to count its estimation,
        clip in :func:`weights`.
    groups : array of shape (n,), optional
        Rows of one group, such as a user, lie in one fold.
    sample_weight : array of shape (n,), optional
    random_state : int
        For folds and boosted trees.
    n_jobs : int, optional
        Threads of the boosted trees.

    Raises
    ------
    TreatmentError
        For one arm, more than two, missing values, or too few units for the folds.
    ColumnError
        For covariates with missing values, where the model is a regression.
    OverlapError
        When the covariates separate the arms, so that the likelihood has no maximum (the message names values that
        one arm alone has), or a score is 0 or 1 and nothing is clipped.
    CausalRecError
        For an unknown model, or a calibration without folds.

    Examples
    --------
    >>> X = np.array([[0.0], [0.0], [1.0], [1.0], [1.0]])
    >>> fit_propensity(X, treatment=np.array([0, 1, 0, 1, 1])).score.round(6).tolist()
    [0.5, 0.5, 0.666667, 0.666667, 0.666667]
    """
    _check_model(model)
    check_calibration(calibration)
    check_clip(clip, 2)
    regression = isinstance(model, str) and model in LINKS
    folds = (1 if regression else _FOLDS) if n_folds is None else n_folds
    if calibration is not None and folds == 1:
        raise CausalRecError("calibration needs scores of units that the model has not seen; set n_folds=5, say.")
    matrix = as_design(X)[0] if regression else None
    shared = None if matrix is not None else SharedCovariates(X)
    n = len(X) if shared is None else shared.n_rows
    codes, labels = check_treatment(treatment, n_rows=n, control=control)
    check_two_arms(labels, what="a propensity score")
    weight = None if sample_weight is None else check_weights(sample_weight, n_rows=n)
    check_arm_weights(codes, labels, weight)
    fold = None
    if folds != 1:
        units = check_groups(groups, n_rows=n)
        fold = make_folds(codes, folds, labels=labels, groups=units, random_state=random_state)
    if matrix is not None:
        found = _named(lambda: _regression(regressors(matrix), codes, model, weight, fold), X, codes)
    else:
        base = BoostedClassifier(random_state=random_state, n_jobs=n_jobs) if isinstance(model, str) else model
        found = _classification(shared, base, codes, weight, fold)
    if calibration is not None and fold is not None:
        score = calibrate_across(calibration, _both(found.score), codes, fold, weight)[:, 1]
        found = replace(found, score=score, method=f"{found.method}, {calibration} calibration")
    return _clipped(found, clip)


def as_propensity(propensity: Any, *, n_rows: int, treatment: IntArray | None = None) -> PropensityResult:
    """A fitted score as it is; a number or an array of shape (n,) as one that is known by design.

    Raises
    ------
    OverlapError
        For values that are not strictly between 0 and 1.
    CausalRecError
        For another length, and for a regression that was fitted on another ``treatment``, or in another order.
    """
    if isinstance(propensity, PropensityResult):
        if propensity.n_obs != n_rows:
            raise CausalRecError(f"propensity is of {propensity.n_obs} units but there are {n_rows}; fit it on these.")
        if treatment is not None and not _solves(propensity, treatment):
            raise CausalRecError(
                "propensity was not fitted on this treatment, or its rows are in another order: its likelihood "
                "equations do not hold. Fit it on these units, with the same control."
            )
        return propensity
    return PropensityResult(
        n_obs=n_rows, method="known by design", known=True, cross_fitted=False, share_clipped=0.0,
        score=check_propensity(propensity, n_rows=n_rows),
    )  # fmt: skip


def _solves(found: PropensityResult, treatment: IntArray) -> bool:
    """Whether the score equations of a regression hold: of another treatment their χ² is about its coefficients."""
    if found.design is None or found.slope is None or found.information is None:
        return True
    residual = (treatment - found.score) * found.slope / (found.score * (1 - found.score))
    if found.sample_weight is not None:
        residual = residual * found.sample_weight
    sums = found.design.T @ residual
    return float(sums @ np.linalg.solve(found.information, sums)) < _SOLVED


def fit_likelihood(
    Z: FloatArray, treatment: IntArray, *, link: str = "logistic", sample_weight: FloatArray | None = None
) -> PropensityResult:
    """Maximum likelihood on :func:`regressors`: unpenalised Newton steps.

    Raises
    ------
    TreatmentError
        When an arm is empty.
    OverlapError
        When the covariates separate the arms, so that the likelihood has no maximum.
    """
    check_arms(treatment)
    chosen = LINKS[link]
    beta, information = maximise_likelihood(Z, treatment, link=link, sample_weight=sample_weight)
    eta = _row_by_row(Z, beta)
    score = _inside(chosen.mean(eta))
    return PropensityResult(
        n_obs=len(Z), method=f"{link} regression, unpenalised", known=False, cross_fitted=False, share_clipped=0.0,
        score=score, design=Z, slope=chosen.slope(eta, score), information=information, sample_weight=sample_weight,
    )  # fmt: skip


def maximise_likelihood(
    Z: FloatArray, treatment: IntArray, *, link: str = "logistic", sample_weight: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Coefficients of a regression on ``Z`` of shape (n, q) and their information; as :func:`fit_likelihood`."""
    chosen = LINKS[link]
    share = float(np.average(treatment, weights=sample_weight))
    start = np.zeros(Z.shape[1])
    start[0] = chosen.start(share)
    if len(Z) > 4 * _FIRST_FEW:  # most of the way on a few rows, far apart: each step on all rows costs as much
        few = slice(None, None, len(Z) // _FIRST_FEW)
        near = _newton(chosen, Z[few], treatment[few], start, None if sample_weight is None else sample_weight[few])
        start = start if near is None else near[0]
    found = _newton(chosen, Z, treatment, start, sample_weight)
    if found is None:
        raise OverlapError(SEPARATED)
    return found


def _newton(
    link: _Link, Z: FloatArray, treatment: IntArray, beta: FloatArray, weight: FloatArray | None
) -> tuple[FloatArray, FloatArray] | None:
    """Coefficients where the likelihood is largest, and its information; None where it has no maximum."""
    gradient, information, loss, _ = derivatives(link, Z, treatment, beta, weight)
    for _ in range(_NEWTON_STEPS):
        try:
            step = linalg.cho_solve(linalg.cho_factor(information), gradient)
        except linalg.LinAlgError:
            return None
        size, found = 1.0, derivatives(link, Z, treatment, beta + step, weight, step)
        while found[2] > loss + 1e-12 * abs(loss) and size > 1e-6:
            size /= 2
            found = derivatives(link, Z, treatment, beta + size * step, weight, step)
        beta = beta + size * step
        gradient, information, loss, change = found
        # Judged by what moves in the scores: blind to the covariates' units and to near collinearity, and under
        # separation, where some score moves by about one at every step, never small.
        if change < _SETTLED:
            return beta + linalg.cho_solve(linalg.cho_factor(information), gradient), information
    return None


def derivatives(
    link: _Link,
    Z: FloatArray,
    treatment: IntArray,
    beta: FloatArray,
    weight: FloatArray | None,
    step: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray, float, float]:
    """Gradient and observed information of the log-likelihood, minus the latter, and the largest ``|Z step|``."""
    both = beta[:, None] if step is None else np.column_stack([beta, step])

    def work(part: list[slice]) -> tuple[FloatArray, FloatArray, float, float]:
        gradient, information, loss, change = np.zeros(len(beta)), np.zeros((len(beta), len(beta))), 0.0, 0.0
        for rows in part:
            used = Z[rows]
            moved = used @ both
            sign: FloatArray = np.where(treatment[rows] == 1, 1.0, -1.0)
            tilt, curve, losses = link.terms(moved[:, 0], sign)
            if weight is not None:
                tilt, curve, losses = weight[rows] * tilt, weight[rows] * curve, weight[rows] * losses
            gradient += tilt @ used
            information += (used * curve[:, None]).T @ used
            loss += float(losses.sum())
            change = max(change, float(np.abs(moved[:, -1]).max()))
        return gradient, information, loss, change

    gradients, informations, losses, changes = zip(*in_parts(len(Z), work), strict=True)
    return np.sum(gradients, axis=0), np.sum(informations, axis=0), sum(losses), max(changes)


def _inside(score: FloatArray) -> FloatArray:
    """Scores that are next to 0 or 1 as the nearest numbers that are not: the fit converged, so that none is either."""
    return np.asarray(np.clip(score, np.finfo(np.float64).tiny, 1 - np.finfo(np.float64).epsneg))


def _row_by_row(Z: FloatArray, beta: FloatArray) -> FloatArray:
    """``Z @ beta``, column after column: a matrix product may round equal rows differently, and untie them."""
    eta = np.zeros(len(Z))

    def work(part: list[slice]) -> None:
        for rows in part:
            for column, b in zip(Z[rows].T, beta, strict=True):
                eta[rows] += column * b

    in_parts(len(Z), work)
    return eta


def _regression(
    Z: FloatArray, codes: IntArray, link: str, weight: FloatArray | None, fold: IntArray | None
) -> PropensityResult:
    if fold is None:
        return fit_likelihood(Z, codes, link=link, sample_weight=weight)
    score = np.empty(len(Z))
    for j in np.unique(fold):
        held = fold == j
        inside = None if weight is None else weight[~held]
        beta, _ = maximise_likelihood(Z[~held], codes[~held], link=link, sample_weight=inside)
        score[held] = _inside(LINKS[link].mean(_row_by_row(Z[held], beta)))
    return _scored(score, f"{link} regression, unpenalised", fold, weight)


def _classification(
    shared: Any, base: Any, codes: IntArray, weight: FloatArray | None, fold: IntArray | None
) -> PropensityResult:
    score = np.empty(len(codes))
    for j in range(1) if fold is None else np.unique(fold):
        rows = np.arange(len(codes)) if fold is None else np.flatnonzero(fold == j)
        seen = None if fold is None else np.flatnonzero(fold != j)
        models = fit_propensity_models(shared, base, codes, 2, seen, weight)
        score[rows] = arm_probabilities([shared.predict(m, rows) for m in models])[:, 1]
    how = "boosted trees" if isinstance(base, BoostedClassifier) else type(base).__name__
    return _scored(score, how, fold, weight)


def _scored(score: FloatArray, model: str, fold: IntArray | None, weight: FloatArray | None) -> PropensityResult:
    seen = "in sample" if fold is None else f"cross-fitted on {len(np.unique(fold))} folds"
    return PropensityResult(
        n_obs=len(score), method=f"{model}, {seen}", known=False, cross_fitted=fold is not None, share_clipped=0.0,
        score=score, sample_weight=weight,
    )  # fmt: skip


def _clipped(found: PropensityResult, clip: float | None) -> PropensityResult:
    """Scores within bounds."""
    if clip is None:
        certain = int(((found.score <= 0) | (found.score >= 1)).sum())
        if certain:
            raise OverlapError(
                f"the propensity is exactly 0 or 1 for {certain} of {found.n_obs} units: these have no comparison. "
                "Drop them, pass clip=0.01 to bound their weight, or use calibration='sigmoid'."
            )
        return found
    score = np.clip(found.score, clip, 1 - clip)
    moved = score != found.score
    if not moved.any():
        return found
    return replace(
        found, score=score, design=None, slope=None, information=None, share_clipped=float(moved.mean()),
        method=f"{found.method}, clipped to [{clip:g}, {1 - clip:g}]",
    )  # fmt: skip


def _both(score: FloatArray) -> FloatArray:
    return np.asarray(np.column_stack([1.0 - score, score]))


def _check_model(model: Any) -> None:
    if isinstance(model, str):
        if model not in MODELS:
            raise CausalRecError(
                f"model is {model!r}; expected one of {list_some(MODELS)} or a scikit-learn classifier."
                f"{nearest(model, MODELS)}"
            )
    elif isinstance(model, type) or not is_classifier(model):
        raise CausalRecError(f"model is {model!r}; expected one of {list_some(MODELS)} or a scikit-learn classifier.")


def _named(fit: Callable[[], Any], X: Any, codes: IntArray) -> Any:
    """What a fit gives; where the arms are separated, the values that only one of them has are named."""
    try:
        return fit()
    except OverlapError as error:
        alone = levels_of_one_arm(X, codes)
        if not alone:
            raise
        raise OverlapError(f"{error} Values that only one arm has: {list_some(alone)}.") from error


def levels_of_one_arm(X: Any, treatment: IntArray) -> list[str]:
    """The 0/1 columns of the design, levels of categories among them, that are 1 in units of one arm alone."""
    if isinstance(X, pd.DataFrame):
        matrix, names = design_matrix(X, all_levels=True)
    else:
        matrix, names = as_design(X)
    found = []
    for name, x in zip(names, matrix.T, strict=True):
        if np.isin(x, (0.0, 1.0)).all() and len(np.unique(treatment[x == 1.0])) == 1:
            found.append(str(name))
    return found


__all__ = ["MODELS", "as_propensity", "fit_likelihood", "fit_propensity", "levels_of_one_arm", "maximise_likelihood"]
