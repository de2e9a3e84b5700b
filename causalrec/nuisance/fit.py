"""The fit of nuisances: checks, folds, and a model per arm and fold."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalrec._typing import FloatArray, IntArray
from causalrec._validation import CovariateForm, check_treatment, check_vector, check_weights
from causalrec.nuisance.crossfit import FoldModels, Held, Recipe, check_arm_weights, finish_propensity, fit_outside
from causalrec.nuisance.fitting import SharedCovariates, outcome_base
from causalrec.nuisance.folds import check_groups, make_folds
from causalrec.nuisance.nuisances import Nuisances
from causalrec.nuisance.propensity import (
    Calibration,
    check_calibration,
    check_clip,
    known_propensity,
    propensity_base,
)


def fit_nuisances(
    X: Any,
    y: Any,
    *,
    treatment: Any,
    control: Any = None,
    propensity: Any = None,
    sample_weight: Any = None,
    groups: Any = None,
    outcome_model: Any = None,
    propensity_model: Any = None,
    joint_outcome: bool = False,
    n_folds: int = 5,
    calibration: Calibration = None,
    clip: float | None = None,
    random_state: int = 0,
    n_jobs: int | None = None,
) -> Nuisances:
    """Cross-fit a model of the outcome per arm and, unless it is known, of the propensity.

    Parameters
    ----------
    X : frame or array of shape (n, p)
    y : array of shape (n,)
    treatment : array of shape (n,)
        0/1, or labels with ``control``.
    control : label, optional
    propensity : float, array of shape (n,) or (n, k), or mapping of arms to shares, optional
        Known by design: of two arms P(treated); no model is fitted then. See :func:`known_propensity`.
    sample_weight : array of shape (n,), optional
    groups : array of shape (n,), optional
        Rows that belong together, such as those of one user, lie in one fold, and are a cluster in errors.
    outcome_model : scikit-learn regressor or classifier, optional
        Cloned for every arm and fold; a classifier, for 0/1 outcomes, is used through ``predict_proba``. By default
        boosted trees.
    propensity_model : scikit-learn classifier, optional
        By default boosted trees.
    joint_outcome : bool
        One outcome model per fold with the arm among its covariates, as in an S-learner, instead of one per arm:
        twice the rows for what the arms share, where effects are small beside the outcome's variation or an arm is
        small.
    n_folds : int
    calibration : {"sigmoid", "isotonic"}, optional
        Calibrate the propensity of each fold on the others.
    clip : float, optional
        Least probability of an arm. By default nothing is clipped.
    random_state : int
        Seeds the folds and the default models.
    n_jobs : int, optional
        Threads of the default models; by default 2, or fewer where there are fewer.

    Returns
    -------
    Nuisances

    Raises
    ------
    TreatmentError
        For one arm, missing values, or an arm with too few rows for the folds.
    OutcomeError
        For missing outcomes, or a classifier and outcomes other than 0 and 1.
    OverlapError
        For a known propensity of 0 or 1, or a fitted one where nothing is clipped.
    CausalRecError
        For other settings that are not allowed.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X, treatment = rng.normal(size=(500, 2)), rng.integers(0, 2, 500)
    >>> y = X[:, 0] + 2.0 * treatment
    >>> from sklearn.linear_model import LinearRegression
    >>> nuisances = fit_nuisances(X, y, treatment=treatment, propensity=0.5, outcome_model=LinearRegression())
    >>> round(nuisances.average_effect().estimate, 9)
    2.0
    """
    shared = X if isinstance(X, SharedCovariates) else SharedCovariates(X)
    n = shared.n_rows
    outcome = check_vector(y, name="y", n_rows=n)
    codes, labels = check_treatment(treatment, n_rows=n, control=control)
    weight = None if sample_weight is None else check_weights(sample_weight, n_rows=n)
    recipe = Recipe(
        outcome_base(outcome_model, outcome, random_state=random_state, n_jobs=n_jobs),
        None if propensity is not None
        else propensity_base(propensity_model, random_state=random_state, n_jobs=n_jobs),
        check_calibration(calibration),
        check_clip(clip, len(labels)),
        joint_outcome,
    )  # fmt: skip
    known = None if propensity is None else known_propensity(propensity, labels, n_rows=n)
    units = check_groups(groups, n_rows=n)
    fold = make_folds(codes, n_folds, labels=labels, groups=units, random_state=random_state)
    check_arm_weights(codes, labels, weight, fold)
    return _cross_fit(shared, recipe, outcome, codes, labels, weight, units, fold, known)


def _cross_fit(
    shared: SharedCovariates,
    recipe: Recipe,
    y: FloatArray,
    codes: IntArray,
    labels: tuple[Any, ...],
    weight: FloatArray | None,
    groups: IntArray | None,
    fold: IntArray,
    known: FloatArray | None,
) -> Nuisances:
    k = len(labels)
    outcomes, raw, models = np.empty((len(y), k)), np.empty((len(y), k)), []
    for j in range(int(fold.max()) + 1):
        models.append(_store(fit_outside(shared, recipe, y, codes, k, weight, fold == j), outcomes, raw))
    propensity, clipped, calibrator = known, 0.0, None
    if propensity is None:
        propensity, clipped, calibrator = finish_propensity(raw, codes, fold, weight, recipe)
    return Nuisances(
        y=y, codes=codes, labels=labels, sample_weight=weight, groups=groups, fold=fold, outcomes=outcomes,
        propensity=propensity, propensity_known=known is not None, share_clipped=clipped, models=tuple(models),
        calibrator=calibrator, recipe=recipe, form=CovariateForm.of(shared.X), _cache={"covariates": shared},
    )  # fmt: skip


def _store(held: Held, outcomes: FloatArray, propensity: FloatArray) -> FoldModels:
    """Put a fold's predictions where they belong; its models are what is left."""
    outcomes[held.rows] = held.outcomes
    if held.propensity.shape[1]:
        propensity[held.rows] = held.propensity
    return held.models
