"""SHAP values of predicted effects, through the base models of a learner."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from causalrec._typing import FloatArray, RandomState
from causalrec.exceptions import CausalRecError
from causalrec.nuisance.fitting import predict_mean
from causalrec.nuisance.propensity import arm_probabilities
from causalrec.nuisance.scores import arm_code
from causalrec.results import ShapImportanceResult
from causalrec.uplift._contributions import Parts, contributions, correlation, of_arm
from causalrec.uplift.base import UpliftLearner
from causalrec.uplift.class_transformation import ClassTransformation
from causalrec.uplift.importance import covariate_names, take_rows
from causalrec.uplift.slearner import SLearner
from causalrec.uplift.stacking import StackedLearner
from causalrec.uplift.tlearner import TLearner
from causalrec.uplift.xlearner import XLearner, XModels


def shap_importance(
    learner: Any, X: Any, *, arm: Any = None, n_rows: int = 10_000, rng: RandomState = 0
) -> ShapImportanceResult:
    """Mean size of each covariate's contribution to the predicted effects (SHAP), and which way it goes.

    Parameters
    ----------
    learner : fitted uplift learner
        With boosted trees or linear models as base learners.
    X : frame or array of shape (n, p)
        Of those whose predictions are to be explained.
    arm : label, optional
        Needed where there are more than two arms.
    n_rows : int
        At most so many rows are taken, at random.
    rng : int or Generator

    Raises
    ------
    NotFittedError
        Before ``fit``.
    CausalRecError
        For base models that are neither trees of XGBoost nor linear.
    TreatmentError
        For an unknown arm, or none where there are several.

    Notes
    -----
    It explains the model, not the world: a covariate that the model uses in vain has a contribution as well. See
    :func:`effect_contributions` for how they are computed, and :func:`permutation_importance` for what is of use.

    Examples
    --------
    >>> from causalrec.uplift import XLearner
    >>> rng = np.random.default_rng(0)
    >>> X, treatment = rng.normal(size=(600, 2)), rng.integers(0, 2, 600)
    >>> y = X[:, 1] * treatment + 0.1 * rng.normal(size=600)
    >>> found = shap_importance(XLearner().fit(X, y, treatment=treatment, propensity=0.5), X)
    >>> found.covariate.tolist(), found.direction.round(1).tolist()[0]
    (['x1', 'x0'], 1.0)
    """
    names = covariate_names(_known(learner))
    table = learner._form.apply(X)
    if len(table) > n_rows:
        table = take_rows(table, np.sort(np.random.default_rng(rng).choice(len(table), n_rows, replace=False)))
    values, base = effect_contributions(learner, table, arm=arm)
    size = np.abs(values).mean(axis=0)
    order = np.argsort(-size, kind="stable")
    columns = [table.iloc[:, j] if isinstance(table, pd.DataFrame) else table[:, j] for j in order]
    total = float(size.sum())
    return ShapImportanceResult(
        model=type(learner).__name__, base=float(base.mean()), n_covariates=len(size), n_obs=len(table),
        method="SHAP of the base models", covariate=np.array(names)[order], importance=size[order],
        share=size[order] / total if total > 0 else size[order],
        direction=np.array([correlation(c, values[:, j]) for c, j in zip(columns, order, strict=True)]),
    )  # fmt: skip


def effect_contributions(learner: Any, X: Any, *, arm: Any = None) -> tuple[FloatArray, FloatArray]:
    """How each covariate moves each predicted effect (SHAP values), and what the predictions start from.

    Parameters
    ----------
    learner : fitted uplift learner
        With boosted trees (ours, or XGBoost's) or linear models as base learners.
    X : frame or array of shape (n, p)
    arm : label, optional
        Needed where there are more than two arms.

    Returns
    -------
    values : array of shape (n, p)
    base : array of shape (n,)
        ``values.sum(axis=1) + base`` is ``predict(X)``.

    Raises
    ------
    NotFittedError
        Before ``fit``.
    CausalRecError
        For other learners and base models.
    TreatmentError
        For an unknown arm, or none where there are several.

    Notes
    -----
    SHAP values are linear in the model, so those of an effect are sums and differences of its base models': of the
    effect model of R- and DR-learners, of both of an X-learner with their weights, of treated less control of a
    T-learner. An S-learner is taken as a T-learner, a model for each value of the arm, which is known, not a covariate
    that might be absent. Probabilities (classifiers of 0/1 outcomes) have their log-odds' contributions, scaled in each
    row to add up to the probability. Linear models are taken around the means of ``X``.

    Examples
    --------
    >>> from causalrec.uplift import TLearner
    >>> from sklearn.linear_model import LinearRegression
    >>> rng = np.random.default_rng(0)
    >>> X, treatment = rng.normal(size=(200, 2)), rng.integers(0, 2, 200)
    >>> learner = TLearner(LinearRegression()).fit(X, X[:, 0] * (1 + 2 * treatment), treatment=treatment)
    >>> values, base = effect_contributions(learner, X)
    >>> bool(np.allclose(values[:, 0], 2 * (X[:, 0] - X[:, 0].mean()))), bool(np.allclose(values[:, 1], 0))
    (True, True)
    """
    covariate_names(_known(learner))
    code = arm_code(arm, learner.labels_)
    found = _of_learner(learner, learner._form.apply(X), code)
    return found.values, found.base


def _known(learner: Any) -> Any:
    if not isinstance(learner, UpliftLearner):
        raise CausalRecError(
            f"contributions of covariates are not known for {type(learner).__name__}. Use permutation_importance, "
            "which takes any learner."
        )
    return learner


def _of_learner(learner: Any, X: Any, code: int) -> Parts:
    n_arms, models = len(learner.labels_), learner.models_
    if isinstance(learner, StackedLearner):
        return _of_stack(learner, X, code)
    if isinstance(learner, SLearner):
        return of_arm(models[0], X, code, n_arms).plus(of_arm(models[0], X, 0, n_arms), -1.0)
    if isinstance(learner, TLearner):
        return contributions(models[code], X).plus(contributions(models[0], X), -1.0)
    if isinstance(learner, XLearner):
        return _of_x(models, X, code)
    if getattr(learner, "multi_output", False):
        raise CausalRecError(
            "contributions of covariates are not known for one model of all arms. Fit a model of each arm "
            "(multi_output=False)."
        )
    found = contributions(models[code - 1], X)
    if isinstance(learner, ClassTransformation):
        return Parts(2 * found.values, 2 * found.base - 1)
    return found


def _of_stack(learner: StackedLearner, X: Any, code: int) -> Parts:
    start = float(learner.constant_[code - 1])
    total = Parts(np.zeros(X.shape), np.full(len(X), start))
    for (name, _), weights in zip(learner._named(), learner.weights_, strict=True):
        if name in learner.models_:
            each = learner.models_[name]
            total = total.plus(_of_learner(_known(each), X, code).times(float(weights[code - 1])))
    return total


def _of_x(models: XModels, X: Any, code: int) -> Parts:
    """Both models of the effect, with their weights in each row."""
    if models.shares is not None:
        shares = np.array(models.shares)[None, :]
    else:
        shares = arm_probabilities([predict_mean(model, X) for model in models.propensity])
    share = shares[:, code] / (shares[:, 0] + shares[:, code])
    from_treated, from_control = (contributions(m[code - 1], X) for m in (models.of_treated, models.of_control))
    return from_control.times(share).plus(from_treated.times(1 - share))
