"""The S-learner: one outcome model with the arm among its covariates."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from causalrec._typing import FloatArray
from causalrec.nuisance import Nuisances
from causalrec.nuisance.fitting import outcome_base
from causalrec.nuisance.joined import predict_joined
from causalrec.nuisance.tables import Joined
from causalrec.uplift.base import Training, UpliftLearner, View

_JOINED = "with arms"


class SLearner(UpliftLearner):
    """Fit one model of the outcome on the covariates and the arm (Künzel et al. 2019, PNAS 116, "Metalearners").

    The effect is the difference of its predictions under two arms. It shrinks effects to zero, all the more the
    weaker they are: good where there are none, biased where the model may pass over the arm. A linear base learner
    without interactions finds the same effect for all.

    Parameters
    ----------
    base_learner : scikit-learn classifier or regressor, optional
        A classifier is used through ``predict_proba`` and needs a 0/1 outcome. By default boosted trees.
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
    models_ : list of one model
        Fitted on the covariates and, behind them, an indicator of each arm but control.
    n_features_in_, feature_names_in_, feature_importances_ : as in :class:`TLearner`, without the indicators.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X, treatment = rng.normal(size=(400, 2)), rng.integers(0, 2, 400)
    >>> from sklearn.linear_model import LinearRegression
    >>> SLearner(LinearRegression()).fit(X, X[:, 0] + 2.0 * treatment, treatment=treatment).predict(X)[:2].round(6)
    array([2., 2.])
    """

    _uses_nuisance = False

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
        return self._outcomes(self.models_, view, len(self.labels_))

    def _fit_models(self, training: Training, nuisance: Nuisances | None) -> list[Any]:  # noqa: ARG002
        base = outcome_base(self.base_learner, training.y, random_state=self.random_state, n_jobs=self.n_jobs)
        joined = training.shared.derived(_JOINED, lambda X: Joined(X, training.all_codes, training.n_arms))
        return [joined.fit(base, training.y, rows=training.index, weight=training.weight)]

    def _effects(self, models: list[Any], view: View, n_arms: int) -> FloatArray:
        outcomes = self._outcomes(models, view, n_arms)
        return np.asarray(outcomes[:, 1:] - outcomes[:, :1])

    def _outcomes(self, models: list[Any], view: View, n_arms: int) -> FloatArray:
        return predict_joined(models[0], view.shared.X, n_arms, range(n_arms), rows=view.index)

    def _fit_all(self, training: Training, nuisance: Nuisances | None) -> Self:
        fitted = super()._fit_all(training, nuisance)
        training.shared.forget(_JOINED)  # bins with the arm, which only the folds' models share
        return fitted
