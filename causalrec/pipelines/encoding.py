"""Frames as numbers, for models that know no categories and no gaps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone

from causalrec._typing import AnyArray, FloatArray


@dataclass(frozen=True)
class Encoding:
    """A frame as a matrix of numbers: standardised, a column for each level, gaps as the mean with an indicator."""

    columns: tuple[str, ...]
    levels: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    means: Mapping[str, float] = field(default_factory=dict)
    scales: Mapping[str, float] = field(default_factory=dict)
    gaps: tuple[str, ...] = ()

    @classmethod
    def of(cls, X: pd.DataFrame) -> Encoding:
        """The encoding of a training frame."""
        levels = {c: tuple(X[c].cat.categories) for c in X.columns if isinstance(X[c].dtype, pd.CategoricalDtype)}
        means, scales, gaps = {}, {}, []
        for column in X.columns:
            if column in levels:
                continue
            values = X[column].to_numpy(np.float64, na_value=np.nan)
            known = values[np.isfinite(values)]
            means[column] = float(known.mean()) if len(known) else 0.0
            spread = float(known.std()) if len(known) else 0.0
            scales[column] = spread if spread > 0 else 1.0
            if len(known) < len(values):
                gaps.append(column)
        return cls(tuple(map(str, X.columns)), levels, means, scales, tuple(gaps))

    def apply(self, X: pd.DataFrame) -> pd.DataFrame:
        """The frame in numbers, the index kept."""
        parts: dict[str, Any] = {}
        for column in self.columns:
            if column in self.levels:
                values, levels = X[column].astype(object), self.levels[column]
                parts |= {f"{column} = {level}": (values == level).to_numpy(np.float64) for level in levels}
                continue
            numbers = X[column].to_numpy(np.float64, na_value=np.nan)
            scaled = (numbers - self.means[column]) / self.scales[column]
            parts[column] = np.where(np.isfinite(scaled), scaled, 0.0)
            if column in self.gaps:
                parts[f"{column} is missing"] = (~np.isfinite(scaled)).astype(np.float64)
        return pd.DataFrame(parts, index=X.index)

    def sources(self) -> list[str]:
        """The column that each column of the matrix comes from."""
        found: list[str] = []
        for column in self.columns:
            width = len(self.levels[column]) if column in self.levels else 1 + (column in self.gaps)
            found += [column] * width
        return found


class _Encoded(BaseEstimator):
    """A scikit-learn estimator that knows numbers only, on frames with categories and gaps."""

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def fit(self, X: pd.DataFrame, y: Any, sample_weight: Any = None) -> Self:
        """Fit the estimator on the encoded frame."""
        self.encoding_ = Encoding.of(X)
        self.n_features_in_ = X.shape[1]
        Z = self.encoding_.apply(X).to_numpy()
        self.estimator_ = clone(self.estimator).fit(Z, y, sample_weight=sample_weight)
        if "n_jobs" in self.estimator_.get_params():
            self.estimator_.set_params(n_jobs=1)  # threads of a forest add up its trees in whatever order they end
        if hasattr(self.estimator_, "classes_"):
            self.classes_ = self.estimator_.classes_
        return self

    def predict(self, X: pd.DataFrame) -> AnyArray:
        """What the estimator predicts, shape (n,)."""
        return np.asarray(self.estimator_.predict(self.encoding_.apply(X).to_numpy()))

    @property
    def feature_importances_(self) -> FloatArray:
        """Importances, or squared coefficients of standardised covariates as shares, by column of the frame."""
        raw = getattr(self.estimator_, "feature_importances_", None)
        if raw is None:
            raw = np.ravel(self.estimator_.coef_) ** 2
        by_source = pd.Series(np.asarray(raw, dtype=np.float64)).groupby(self.encoding_.sources()).sum()
        shares = by_source.reindex(list(self.encoding_.columns)).to_numpy()
        return np.asarray(shares / (shares.sum() or 1.0))


class EncodedRegressor(RegressorMixin, _Encoded):
    """A regressor on frames with categories and gaps."""


class EncodedClassifier(ClassifierMixin, _Encoded):
    """A classifier on frames with categories and gaps."""

    def predict_proba(self, X: pd.DataFrame) -> FloatArray:
        """P(class), shape (n, 2)."""
        return np.asarray(self.estimator_.predict_proba(self.encoding_.apply(X).to_numpy()), dtype=np.float64)
