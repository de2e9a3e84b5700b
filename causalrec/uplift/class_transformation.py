"""The class transformation: one classifier of whether the outcome agrees with the treatment."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import is_classifier

from causalrec._typing import FloatArray, IntArray
from causalrec.exceptions import CausalRecError, OutcomeError
from causalrec.nuisance import Nuisances
from causalrec.nuisance.fitting import check_takes_weights, outcome_base
from causalrec.nuisance.propensity import Calibration
from causalrec.uplift.base import Training, UpliftLearner, View


class ClassTransformation(UpliftLearner):
    """Classify z = 1{y = t} with weights 1 / P(arm given X); the uplift is 2 P(z = 1 | x) - 1.

    Jaskowski and Jaroszewicz (2012, ICML workshop on clinical data, "Uplift modeling for clinical trial data") for
    even splits; the weights make it right for any other propensity: P_w(z = 1 | x) = (μ_1 + 1 - μ_0) / 2. For 0/1
    outcomes. Each arm is compared with control among the rows of both.

    Parameters
    ----------
    base_learner : scikit-learn classifier, optional
        Needs ``sample_weight``. By default boosted trees.
    propensity_model : scikit-learn classifier, optional
        Of the treatment, where the propensity is not known; boosted trees by default.
    control : label, optional
        The arm that effects are measured against; needed unless the treatment is 0/1.
    n_folds : int
        Folds of the propensity.
    calibration, clip : as in :func:`causalrec.nuisance.fit_nuisances`
    random_state : int
    n_jobs : int, optional
        Threads of the default base learners.

    Attributes
    ----------
    labels_ : tuple
        Arms, control first.
    models_ : list
        A classifier for each arm but control.
    n_features_in_, feature_names_in_, feature_importances_ : as in :class:`TLearner`

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X, treatment = rng.integers(0, 2, size=(4000, 1)), rng.integers(0, 2, 4000)
    >>> y = rng.random(4000) < 0.2 + 0.4 * treatment * X[:, 0]
    >>> from sklearn.linear_model import LogisticRegression
    >>> learner = ClassTransformation(LogisticRegression()).fit(X, y, treatment=treatment, propensity=0.5)
    >>> bool(abs(learner.predict(np.array([[1]]))[0] - 0.4) < 0.05)
    True
    """

    def __init__(
        self,
        base_learner: Any = None,
        *,
        propensity_model: Any = None,
        control: object = None,
        n_folds: int = 5,
        calibration: Calibration = None,
        clip: float | None = None,
        random_state: int = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.base_learner = base_learner
        self.propensity_model = propensity_model
        self.control = control
        self.n_folds = n_folds
        self.calibration = calibration
        self.clip = clip
        self.random_state = random_state
        self.n_jobs = n_jobs

    def _fit_models(self, training: Training, nuisance: Nuisances | None) -> list[Any]:
        base, propensity = self._classifier(training.y), training.propensity
        if propensity is None:
            propensity = (self._fit_nuisance(training) if nuisance is None else nuisance).propensity
        models = []
        for code in range(1, training.n_arms):
            inside = np.flatnonzero((training.codes == code) | (training.codes == 0))
            target, weight = agreement(training.y[inside], training.codes[inside], propensity[inside], code)
            if training.weight is not None:
                weight = weight * training.weight[inside]
            models.append(training.fit(base, target, inside=inside, weight=weight))
        return models

    def _classifier(self, y: FloatArray) -> Any:
        if not np.isin(y, (0.0, 1.0)).all():
            odd = y[~np.isin(y, (0.0, 1.0))]
            raise OutcomeError(
                f"the class transformation needs a 0/1 outcome, but y holds {odd[0]:g} and {len(odd) - 1} more values "
                "other than 0 and 1. Use DRLearner or another learner for numbers."
            )
        base = outcome_base(self.base_learner, y, random_state=self.random_state, n_jobs=self.n_jobs)
        if not is_classifier(base):
            raise CausalRecError(
                f"the class transformation needs a classifier as base learner; {type(base).__name__} is none."
            )
        check_takes_weights(base, why="the class transformation weights rows by their propensity")
        return base

    def _effects(self, models: list[Any], view: View, n_arms: int) -> FloatArray:  # noqa: ARG002
        return np.column_stack([2.0 * view.predict(model) - 1.0 for model in models])

    def _needs_nuisance(self, training: Training) -> bool:
        return training.propensity is None

    def _outcome_model(self) -> Any:
        return self.base_learner


def agreement(y: FloatArray, codes: IntArray, propensity: FloatArray, arm: int) -> tuple[FloatArray, FloatArray]:
    """Whether the outcome is that of success under the arm or of failure under control, and the row's weight."""
    treated = codes == arm
    shares = propensity[:, [0, arm]]
    own = np.where(treated, shares[:, 1], shares[:, 0]) / shares.sum(axis=1)
    return (y == treated).astype(np.float64), 0.5 / own
