"""The T-learner: one outcome model per arm; the effect is the difference of their predictions."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.exceptions import NotFittedError

from causalrec._typing import FloatArray
from causalrec._validation import (
    check_columns,
    check_covariates,
    check_length,
    check_propensity,
    check_treatment,
    check_vector,
    check_weights,
)
from causalrec.exceptions import ColumnError, TreatmentError

_MIN_ARM_ROWS = 2


class TLearner(BaseEstimator):  # type: ignore[misc]
    """Fit one model of the outcome per arm (Künzel, Sekhon, Bickel and Yu 2019, PNAS, "Metalearners").

    Parameters
    ----------
    base_learner : scikit-learn classifier or regressor, optional
        Cloned for every arm; a classifier is used through ``predict_proba`` and needs a 0/1 outcome.
        By default XGBoost: a classifier for 0/1 outcomes, else a regressor.
    control : label, optional
        The arm that effects are measured against; needed unless the treatment is 0/1.
    n_estimators, max_depth, learning_rate, min_child_weight : settings of the default base learner.
        Shallow trees and a slow rate: effects are small beside the outcome's noise, and each arm's
        overfitting lands in the difference.
    random_state : int
    n_jobs : int
        Threads of the default base learner.

    Attributes
    ----------
    labels_ : tuple
        Arms, control first.
    models_ : list
        A fitted model per arm, in that order.

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
        n_estimators: int = 150,
        max_depth: int = 3,
        learning_rate: float = 0.05,
        min_child_weight: float = 20.0,
        random_state: int = 0,
        n_jobs: int = 2,
    ) -> None:
        self.base_learner = base_learner
        self.control = control
        self.n_estimators = n_estimators
        self.max_depth = max_depth
        self.learning_rate = learning_rate
        self.min_child_weight = min_child_weight
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any, *, treatment: Any, propensity: Any = None, sample_weight: Any = None) -> Self:
        """Fit a model per arm.

        ``X`` is a frame or array of shape (n, p), ``y`` and ``treatment`` have shape (n,). A T-learner needs no
        propensity; one that is given is only checked. Raises :class:`TreatmentError` for one arm or an arm with
        fewer than two rows, :class:`OutcomeError` for missing outcomes.
        """
        X = check_covariates(X)
        outcome = check_vector(y, name="y", n_rows=X.shape[0])
        codes, labels = check_treatment(treatment, n_rows=X.shape[0], control=self.control)
        weight = check_weights(sample_weight, n_rows=X.shape[0])
        if propensity is not None:
            check_propensity(propensity, n_rows=X.shape[0])
        binary = bool(np.isin(outcome, (0.0, 1.0)).all())
        self.labels_ = labels
        self.n_features_in_ = X.shape[1]
        self.feature_names_in_ = np.array(X.columns, dtype=object) if isinstance(X, pd.DataFrame) else None
        self.models_ = []
        for code, label in enumerate(labels):
            rows = np.flatnonzero(codes == code)
            if len(rows) < _MIN_ARM_ROWS:
                raise TreatmentError(f"arm {label!r} has {len(rows)} row; a model needs at least {_MIN_ARM_ROWS}.")
            self.models_.append(self._fit_arm(_take(X, rows), outcome[rows], weight[rows], binary=binary))
        return self

    def predict(self, X: Any) -> FloatArray:
        """Predicted effects: shape (n,) for two arms, (n, k - 1) for k, in the order of ``labels_[1:]``."""
        outcomes = self.predict_outcomes(X)
        effects = outcomes[:, 1:] - outcomes[:, :1]
        return effects[:, 0] if effects.shape[1] == 1 else effects

    def predict_outcomes(self, X: Any) -> FloatArray:
        """Predicted outcome under every arm, shape (n, k).

        Raises NotFittedError before ``fit``, and :class:`ColumnError` when the columns are not those of ``fit``
        (a frame's columns may come in any order).
        """
        if not hasattr(self, "models_"):
            raise NotFittedError("this TLearner is not fitted yet; call fit first.")
        X = check_covariates(X)
        if self.feature_names_in_ is not None and isinstance(X, pd.DataFrame):
            check_columns(X.columns, list(self.feature_names_in_), where="X at predict")
            X = X[list(self.feature_names_in_)]
        elif X.shape[1] != self.n_features_in_:
            raise ColumnError(f"X at predict has {X.shape[1]} columns; the model was fitted on {self.n_features_in_}.")
        return np.column_stack([_predict(model, X) for model in self.models_])

    @property
    def feature_importances_(self) -> FloatArray:
        """Mean over arms of the base models' importances, shape (p,)."""
        found = [m.feature_importances_ for m in self.models_ if hasattr(m, "feature_importances_")]
        check_length(len(found), len(self.models_), name="importances")
        return np.asarray(np.mean(found, axis=0), dtype=np.float64)

    def _fit_arm(self, X: Any, y: FloatArray, weight: FloatArray, *, binary: bool) -> Any:
        base = self._default_base(binary) if self.base_learner is None else clone(self.base_learner)
        if is_classifier(base) and len(np.unique(y)) == 1:
            return _Constant(float(y[0]))
        target = y.astype(np.int64) if is_classifier(base) else y
        if np.all(weight == weight[0]):
            return base.fit(X, target)
        return base.fit(X, target, sample_weight=weight)

    def _default_base(self, binary: bool) -> Any:
        import xgboost

        settings = {
            "n_estimators": self.n_estimators, "max_depth": self.max_depth, "learning_rate": self.learning_rate,
            "min_child_weight": self.min_child_weight, "tree_method": "hist", "enable_categorical": True,
            "random_state": self.random_state, "n_jobs": self.n_jobs,
        }  # fmt: skip
        if not binary:
            return xgboost.XGBRegressor(**settings)
        # In a binary loss the weight of a row is p (1 - p) <= 1/4, so the same number of rows weighs less.
        return xgboost.XGBClassifier(**{**settings, "min_child_weight": self.min_child_weight / 10})


class _Constant:
    """Predicts the one outcome that an arm showed."""

    def __init__(self, value: float) -> None:
        self.value = value

    def predict(self, X: Any) -> FloatArray:
        """The constant for every row."""
        return np.full(len(X), self.value)


def _take(X: Any, rows: Any) -> Any:
    return X.iloc[rows] if isinstance(X, pd.DataFrame) else X[rows]


def _predict(model: Any, X: Any) -> FloatArray:
    if is_classifier(model) if not isinstance(model, _Constant) else False:
        return np.asarray(model.predict_proba(X)[:, 1], dtype=np.float64)
    return np.asarray(model.predict(X), dtype=np.float64)
