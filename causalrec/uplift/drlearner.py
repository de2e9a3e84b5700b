"""The DR-learner: a regression of doubly robust scores on the covariates."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone

from causalrec._typing import FloatArray
from causalrec.exceptions import CausalRecError
from causalrec.nuisance import BoostedRegressor, Nuisances
from causalrec.nuisance.boosting import is_boosted
from causalrec.nuisance.propensity import Calibration
from causalrec.uplift.base import ScoreLearner, Training, View


class DRLearner(ScoreLearner):
    """Regress doubly robust scores on the covariates (Kennedy 2023, Electronic Journal of Statistics 17).

    The score of a row is μ_a - μ_0 + 1{t = a}(y - μ_a) / e_a - 1{t = 0}(y - μ_0) / e_0 with cross-fitted models; its
    mean given the covariates is the effect if either the outcomes or the propensity are right. Every row serves for
    every arm. Where propensities are small, the scores are noisy: see ``nuisance_.overlap()``.

    Parameters
    ----------
    base_learner : scikit-learn regressor, optional
        Used for outcomes and effects. By default boosted trees.
    outcome_model : scikit-learn classifier or regressor, optional
        Of the outcome of each arm; ``base_learner`` by default.
    effect_model : scikit-learn regressor, optional
        Of the effect; ``base_learner`` by default.
    propensity_model : scikit-learn classifier, optional
        Of the treatment; boosted trees by default.
    control : label, optional
        The arm that effects are measured against; needed unless the treatment is 0/1.
    n_folds : int
        Folds of the nuisances.
    joint_outcome, calibration, clip : as in :func:`causalrec.nuisance.fit_nuisances`
    multi_output : bool
        One effect model for all arms, where the base learner takes targets of shape (n, k - 1): of XGBoost trees with
        a vector in each leaf, which find splits that serve all arms.
    random_state : int
    n_jobs : int, optional
        Threads of the default base learners.

    Attributes
    ----------
    labels_ : tuple
        Arms, control first.
    models_ : list
        An effect model for each arm but control; one for all with ``multi_output``.
    nuisance_ : Nuisances
        Outcome and propensity models of the training rows; ``nuisance_.average_effect()`` is the AIPW effect.
    n_features_in_, feature_names_in_, feature_importances_ : as in :class:`TLearner`

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X, treatment = rng.normal(size=(400, 2)), rng.integers(0, 2, 400)
    >>> from sklearn.linear_model import LinearRegression
    >>> learner = DRLearner(LinearRegression()).fit(X, X[:, 0] * (1 + treatment), treatment=treatment, propensity=0.5)
    >>> np.abs(learner.predict(X) - X[:, 0]).max() < 1e-9
    np.True_
    """

    def __init__(
        self,
        base_learner: Any = None,
        *,
        outcome_model: Any = None,
        effect_model: Any = None,
        propensity_model: Any = None,
        control: object = None,
        joint_outcome: bool = False,
        n_folds: int = 5,
        calibration: Calibration = None,
        clip: float | None = None,
        multi_output: bool = False,
        random_state: int = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.base_learner = base_learner
        self.outcome_model = outcome_model
        self.effect_model = effect_model
        self.propensity_model = propensity_model
        self.control = control
        self.joint_outcome = joint_outcome
        self.n_folds = n_folds
        self.calibration = calibration
        self.clip = clip
        self.multi_output = multi_output
        self.random_state = random_state
        self.n_jobs = n_jobs

    def _fit_effects(self, training: Training, nuisance: Nuisances) -> list[Any]:
        base, scores = self._effect_base(), nuisance.effect_scores()
        if self.multi_output:
            return [training.fit(_of_all_arms(base), scores, weight=training.weight)]
        return [training.fit(base, of_arm, weight=training.weight) for of_arm in scores.T]

    def _effects(self, models: list[Any], view: View, n_arms: int) -> FloatArray:
        if self.multi_output:
            return np.asarray(models[0].predict(view.covariates), dtype=np.float64).reshape(view.n_rows, n_arms - 1)
        return super()._effects(models, view, n_arms)


def _of_all_arms(base: Any) -> Any:
    """The base learner as one model of several targets: XGBoost's with a vector in each leaf, others as they are."""
    if isinstance(base, BoostedRegressor):
        raise CausalRecError(
            "multi_output=True needs an effect model of several targets, and BoostedRegressor has one. Pass "
            "xgboost.XGBRegressor(...), or a scikit-learn regressor that takes targets of shape (n, k)."
        )
    if is_boosted(base):
        return clone(base).set_params(multi_strategy="multi_output_tree")
    return base
