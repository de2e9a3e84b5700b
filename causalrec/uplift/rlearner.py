"""The R-learner: what the treatment explains of the outcome beyond what the covariates explain of both."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalrec._typing import FloatArray
from causalrec.nuisance import Nuisances
from causalrec.nuisance.fitting import check_takes_weights
from causalrec.nuisance.propensity import Calibration
from causalrec.uplift.base import ScoreLearner, Training


class RLearner(ScoreLearner):
    """Minimise the R-loss (Nie and Wager 2021, Biometrika 108, "Quasi-oracle estimation of heterogeneous effects").

    With cross-fitted m(x) = E[y | x] and e(x), the effect model minimises Σ w (y - m - (t - e) τ(x))², which is a
    regression of (y - m) / (t - e) with weights w (t - e)². Errors of m and e enter by their product. Each arm is
    compared with control among the rows of both.

    Parameters
    ----------
    base_learner : scikit-learn regressor, optional
        Used for outcomes and effects; needs ``sample_weight``. By default boosted trees.
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
    random_state : int
    n_jobs : int, optional
        Threads of the default base learners.

    Attributes
    ----------
    labels_ : tuple
        Arms, control first.
    models_ : list
        An effect model for each arm but control.
    nuisance_ : Nuisances
        Outcome and propensity models of the training rows; ``nuisance_.average_effect()`` is the AIPW effect.
    n_features_in_, feature_names_in_, feature_importances_ : as in :class:`TLearner`

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X, treatment = rng.normal(size=(400, 2)), rng.integers(0, 2, 400)
    >>> from sklearn.linear_model import LinearRegression
    >>> learner = RLearner(LinearRegression()).fit(X, X[:, 0] * (1 + treatment), treatment=treatment, propensity=0.5)
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
        self.random_state = random_state
        self.n_jobs = n_jobs

    def _fit_effects(self, training: Training, nuisance: Nuisances) -> list[Any]:
        base = self._effect_base()
        check_takes_weights(base, why="the R-learner weights rows by how far their treatment was from expected")
        models = []
        for code in range(1, training.n_arms):
            inside = None if training.n_arms == 2 else np.flatnonzero((training.codes == code) | (training.codes == 0))
            target, weight = residual_target(nuisance if inside is None else nuisance.take(inside), code)
            models.append(training.fit(base, target, inside=inside, weight=weight))
        return models


def residual_target(nuisance: Nuisances, arm: int) -> tuple[FloatArray, FloatArray]:
    """The target (y - m) / (t - e) and the weight w (t - e)² of the R-loss, among the rows of an arm and control."""
    shares = nuisance.propensity[:, [0, arm]]
    shares = shares / shares.sum(axis=1, keepdims=True)
    mean = (shares * nuisance.outcomes[:, [0, arm]]).sum(axis=1)
    surprise = (nuisance.codes == arm) - shares[:, 1]
    weight = surprise**2 if nuisance.sample_weight is None else nuisance.sample_weight * surprise**2
    return (nuisance.y - mean) / surprise, weight
