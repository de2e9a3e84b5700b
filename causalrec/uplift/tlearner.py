"""The T-learner: one outcome model per arm; the effect is the difference of their predictions."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalrec._typing import FloatArray
from causalrec.exceptions import CausalRecError
from causalrec.nuisance import Nuisances
from causalrec.nuisance.fitting import MeanModel, outcome_base
from causalrec.uplift.base import Training, UpliftLearner, View


class TLearner(UpliftLearner):
    """Fit one model of the outcome per arm (Künzel, Sekhon, Bickel and Yu 2019, PNAS 116, "Metalearners").

    Simple, and right wherever the outcome models are; what each of them misses lands in the difference, so that it is
    noisy where effects are small beside the outcome's variation, and biased where the arms' covariates differ much.

    Parameters
    ----------
    base_learner : scikit-learn classifier or regressor, optional
        Cloned for every arm; a classifier is used through ``predict_proba`` and needs a 0/1 outcome. By default
        boosted trees (:class:`causalrec.nuisance.BoostedClassifier` for 0/1 outcomes, else ``BoostedRegressor``).
    control : label, optional
        The arm that effects are measured against; needed unless the treatment is 0/1.
    n_folds : int
        Folds of ``fit_predict``.
    random_state : int
    n_jobs : int, optional
        Threads of the default base learner.

    Attributes
    ----------
    labels_ : tuple
        Arms, control first.
    models_ : list
        A fitted model per arm, in that order; for an arm with one outcome value and a classifier, a constant. After a
        fit with a nuisance, the mean of its folds' models.
    n_features_in_ : int
    feature_names_in_ : array of str, only after ``fit`` on a frame whose column names are strings.
    feature_importances_ : array of shape (p,), only where the base models have importances
        Mean over the arms; a constant counts as zeros.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X, treatment = rng.normal(size=(400, 2)), rng.integers(0, 2, 400)
    >>> y = X[:, 0] + 2.0 * treatment
    >>> from sklearn.linear_model import LinearRegression
    >>> TLearner(LinearRegression()).fit(X, y, treatment=treatment).predict(X)[:2].round(6)
    array([2., 2.])
    """

    def __init__(
        self,
        base_learner: Any = None,
        *,
        control: object = None,
        n_folds: int = 5,
        random_state: int = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.base_learner = base_learner
        self.control = control
        self.n_folds = n_folds
        self.random_state = random_state
        self.n_jobs = n_jobs

    def predict_outcomes(self, X: Any) -> FloatArray:
        """Predicted outcome under every arm, shape (n, k), in the order of ``labels_``; raises as ``predict``."""
        view = self._view(X)
        return np.column_stack([view.predict(model) for model in self.models_])

    def _fit_models(self, training: Training, nuisance: Nuisances | None) -> list[Any]:
        if nuisance is not None:
            return [MeanModel([fold.outcome[code] for fold in nuisance.models]) for code in range(training.n_arms)]
        base = outcome_base(self.base_learner, training.y, random_state=self.random_state, n_jobs=self.n_jobs)
        models = []
        for code in range(training.n_arms):
            models.append(fit_outcome(training, base, code))
            training.forget(training.arm(code))
        return models

    def _effects(self, models: list[Any], view: View, n_arms: int) -> FloatArray:  # noqa: ARG002
        outcomes = np.column_stack([view.predict(model) for model in models])
        return np.asarray(outcomes[:, 1:] - outcomes[:, :1])

    def _out_of_fold(self, training: Training, nuisance: Nuisances | None) -> FloatArray:
        if nuisance is None:
            return super()._out_of_fold(training, None)
        return np.asarray(nuisance.outcomes[:, 1:] - nuisance.outcomes[:, :1])

    def _check_given(self) -> None:
        if self.base_learner is not None:
            raise CausalRecError(
                "TLearner was given a base_learner, and a nuisance that brings fitted outcome models, which are all "
                "that a T-learner has. Pass the model to fit_nuisances as outcome_model, or leave the nuisance out."
            )


def fit_arms(training: Training, base: Any) -> list[Any]:
    """A model of the outcome for every arm, control first."""
    return [fit_outcome(training, base, code) for code in range(training.n_arms)]


def fit_outcome(training: Training, base: Any, code: int) -> Any:
    """A model of the outcome on the rows of an arm."""
    return fit_on_arm(training, base, training.y[training.arm(code)], code)


def fit_on_arm(training: Training, base: Any, target: FloatArray, code: int, *, common_bins: bool = False) -> Any:
    """A model of a target on the rows of an arm; boosted bases bin them alone, unless folds share the bins of all."""
    rows = training.arm(code)
    weight = None if training.weight is None else training.weight[rows]
    common = common_bins or training.index is not None
    return training.fit(base, target, inside=rows, weight=weight, common_bins=common)
