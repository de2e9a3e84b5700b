"""The T-learner: one outcome model per arm; the effect is the difference of their predictions."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import has_fit_parameter

from causalrec._typing import FloatArray
from causalrec._validation import (
    CovariateForm,
    check_covariates,
    check_model_columns,
    check_propensity,
    check_treatment,
    check_vector,
    check_weights,
)
from causalrec.exceptions import CausalRecError, OutcomeError, TreatmentError

_MIN_ARM_ROWS = 2


class TLearner(BaseEstimator):
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
        overfitting lands in the difference. ``min_child_weight`` is about the least rows of a leaf: for a 0/1
        outcome XGBoost gets a tenth of it, as a row weighs p (1 - p) <= 1/4 there, and 0.1 when p is 0.11 or 0.89.
    random_state : int
    n_jobs : int
        Threads of the default base learner.

    Attributes
    ----------
    labels_ : tuple
        Arms, control first.
    models_ : list
        A fitted model per arm, in that order; for an arm with one outcome value and a classifier, a constant.
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
        n_estimators: int = 100,
        max_depth: int = 2,
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

        Parameters
        ----------
        X : frame or array of shape (n, p)
            A frame (pandas, or Polars) may hold categories and missing values if the base learner takes them; the
            default one does.
        y : array of shape (n,)
        treatment : array of shape (n,)
            0/1, or labels with ``control``.
        propensity : float or array of shape (n,), optional
            A T-learner needs none; one that is given is only checked.
        sample_weight : array of shape (n,), optional
            Passed on to the base learner.

        Raises
        ------
        TreatmentError
            For one arm, or an arm with fewer than two rows or no weight.
        OutcomeError
            For missing outcomes, or a classifier and outcomes other than 0 and 1.
        ColumnError
            For text columns and the default base learner.
        CausalRecError
            For weights and a base learner that takes none.
        """
        X = check_covariates(X)
        outcome = check_vector(y, name="y", n_rows=X.shape[0])
        codes, labels = check_treatment(treatment, n_rows=X.shape[0], control=self.control)
        weight = None if sample_weight is None else check_weights(sample_weight, n_rows=X.shape[0])
        if propensity is not None:
            check_propensity(propensity, n_rows=X.shape[0])
        base = self._base(X, outcome)
        if weight is not None and not has_fit_parameter(base, "sample_weight"):
            raise CausalRecError(
                f"sample_weight is given, but {type(base).__name__}.fit takes none. Use a base learner that does, or "
                "leave the weights out and say so."
            )
        models = []
        for code, label in enumerate(labels):
            rows = np.flatnonzero(codes == code)
            if len(rows) < _MIN_ARM_ROWS:
                raise TreatmentError(
                    f"arm {label!r} has {len(rows)} row; a model needs at least {_MIN_ARM_ROWS}. Drop the arm, or "
                    "collect more."
                )
            if weight is not None and not weight[rows].any():
                raise TreatmentError(
                    f"arm {label!r} has no weight in any of its {len(rows)} rows; check sample_weight."
                )
            models.append(_fit_arm(base, _take(X, rows), outcome[rows], None if weight is None else weight[rows]))
        self.labels_, self.models_ = labels, models
        self._form = CovariateForm.of(X)
        self.n_features_in_ = self._form.n_columns
        self.__dict__.pop("feature_names_in_", None)
        if self._form.names is not None:
            self.feature_names_in_ = self._form.names
        return self

    def predict(self, X: Any) -> FloatArray:
        """Predicted effects: shape (n,) for two arms, (n, k - 1) for k, in the order of ``labels_[1:]``."""
        outcomes = self.predict_outcomes(X)
        effects = outcomes[:, 1:] - outcomes[:, :1]
        return effects[:, 0] if effects.shape[1] == 1 else effects

    def predict_outcomes(self, X: Any) -> FloatArray:
        """Predicted outcome under every arm, shape (n, k), in the order of ``labels_``.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        ColumnError
            When the columns or categories are not those of ``fit`` (a frame's columns may come in any order).
        """
        if not hasattr(self, "models_"):
            raise NotFittedError("this TLearner is not fitted yet; call fit first.")
        X = self._form.apply(X)
        return np.column_stack([_predict(model, X) for model in self.models_])

    @property
    def feature_importances_(self) -> FloatArray:
        """Mean over arms of the base models' importances, shape (p,)."""
        models = [m for m in self.models_ if not isinstance(m, _Constant)]
        total = np.zeros(self.n_features_in_)
        for model in models:
            total += model.feature_importances_
        return total / len(self.models_)

    def _base(self, X: Any, outcome: FloatArray) -> Any:
        """The estimator to clone for every arm, after checking that it can take this outcome."""
        binary = bool(np.isin(outcome, (0.0, 1.0)).all())
        if self.base_learner is None:
            check_model_columns(X, model="the default base learner")
            return self._default_base(binary)
        if is_classifier(self.base_learner) and not binary:
            odd = outcome[~np.isin(outcome, (0.0, 1.0))]
            raise OutcomeError(
                f"{type(self.base_learner).__name__} is a classifier, but y holds {odd[0]:g} and {len(odd) - 1} more "
                "values other than 0 and 1. Use a regressor, or code the outcome as 0/1."
            )
        return self.base_learner

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
    """Predicts the one outcome that an arm showed, where a classifier cannot be fitted."""

    def __init__(self, value: float) -> None:
        self.value = value

    def predict(self, X: Any) -> FloatArray:
        """The constant for every row."""
        return np.full(len(X), self.value)


def _fit_arm(base: Any, X: Any, y: FloatArray, weight: FloatArray | None) -> Any:
    model = clone(base)
    if is_classifier(model):
        seen = y if weight is None else y[weight > 0]
        if len(np.unique(seen)) == 1:
            return _Constant(float(seen[0]))
        y = y.astype(np.int64)
    return model.fit(X, y) if weight is None else model.fit(X, y, sample_weight=weight)


def _take(X: Any, rows: Any) -> Any:
    return X.iloc[rows] if isinstance(X, pd.DataFrame) else X[rows]


def _predict(model: Any, X: Any) -> FloatArray:
    if not isinstance(model, _Constant) and is_classifier(model):
        return np.asarray(model.predict_proba(X)[:, 1], dtype=np.float64)
    return np.asarray(model.predict(X), dtype=np.float64)
