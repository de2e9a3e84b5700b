"""Outcome and propensity models for doubly robust estimates: a linear model, and small trees for what it misses.

Trees alone are slow to learn smooth slopes in many covariates, and what they miss in both models is bias in the
effect; a linear model alone misses curves. Both are scikit-learn estimators.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from causalrec._typing import AnyArray, FloatArray

# As many trees as a held-out part asks for: any fixed number overfits hundreds of units or underfits many thousands.
_TREES: dict[str, Any] = {
    "max_iter": 400, "max_leaf_nodes": 8, "learning_rate": 0.1, "min_samples_leaf": 20,
    "early_stopping": True, "validation_fraction": 0.15,
}  # fmt: skip


class OutcomeModel(RegressorMixin, BaseEstimator):
    """Least squares, and boosted trees on its residuals."""

    def __init__(self, random_state: int = 0) -> None:
        self.random_state = random_state

    def fit(self, X: FloatArray, y: FloatArray) -> OutcomeModel:
        """Fit on ``X`` of shape (n, p) and ``y`` of shape (n,)."""
        target = np.asarray(y, dtype=np.float64).ravel()
        self.linear_ = make_pipeline(StandardScaler(), LinearRegression()).fit(X, target)
        trees = HistGradientBoostingRegressor(**_TREES, random_state=self.random_state)
        self.trees_ = trees.fit(X, target - self.linear_.predict(X))
        return self

    def predict(self, X: FloatArray) -> FloatArray:
        """Expected outcomes, shape (n,)."""
        return np.asarray(self.linear_.predict(X) + self.trees_.predict(X))


class PropensityModel(ClassifierMixin, BaseEstimator):
    """Boosted trees on the covariates and on the score of a logistic regression."""

    def __init__(self, random_state: int = 0) -> None:
        self.random_state = random_state

    def fit(self, X: FloatArray, y: AnyArray) -> PropensityModel:
        """Fit on ``X`` of shape (n, p) and a 0/1 ``y`` of shape (n,)."""
        target = np.asarray(y).ravel()
        self.classes_ = np.unique(target)
        self.linear_ = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(X, target)
        trees = HistGradientBoostingClassifier(**_TREES, random_state=self.random_state)
        self.trees_ = trees.fit(self._with_score(X), target)
        return self

    def predict_proba(self, X: FloatArray) -> FloatArray:
        """P(class), shape (n, 2)."""
        return np.asarray(self.trees_.predict_proba(self._with_score(X)))

    def predict(self, X: FloatArray) -> AnyArray:
        """The likelier class, shape (n,)."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])

    def _with_score(self, X: FloatArray) -> FloatArray:
        return np.column_stack([X, self.linear_.decision_function(X)])
