"""Covariates with the arm among them, and one outcome model of all arms on these."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from causalrec._typing import FloatArray, IntArray
from causalrec.nuisance.fitting import predict_mean

_CHUNK = 250_000  # rows that are copied at a time for prediction


class ArmModel(BaseEstimator):
    """A model of all arms, seen as the outcome model of one.

    Parameters
    ----------
    model : fitted on covariates as :func:`join_arms` makes them
    code : int
        The arm.
    n_arms : int
    """

    def __init__(self, model: Any, code: int, n_arms: int) -> None:
        self.model = model
        self.code = code
        self.n_arms = n_arms

    def predict(self, X: Any) -> FloatArray:
        """Expected outcomes under the arm, shape (n,)."""
        return predict_joined(self.model, X, self.n_arms, [self.code])[:, 0]


def predict_joined(model: Any, X: Any, n_arms: int, codes: list[int] | range) -> FloatArray:
    """Expected outcomes under some arms, shape (n, len(codes)), by a model of all arms."""
    found = np.empty((len(X), len(codes)))
    for start in range(0, len(X), _CHUNK):
        part = slice(start, start + _CHUNK)
        some = X.iloc[part] if isinstance(X, pd.DataFrame) else X[part]
        joined = join_arms(some, np.zeros(len(some), dtype=np.int64), n_arms)
        for place, code in enumerate(codes):
            joined = _as_arm(joined, code, n_arms)
            found[part, place] = predict_mean(model, joined)
    return found


def join_arms(X: Any, codes: IntArray, n_arms: int) -> Any:
    """The covariates and, behind them, an indicator of each arm but control."""
    indicators = (codes[:, None] == np.arange(1, n_arms)).astype(np.float64)
    if not isinstance(X, pd.DataFrame):
        return np.column_stack([X, indicators])
    return X.assign(**dict(zip(arm_names(X, n_arms), indicators.T, strict=True)))


def arm_names(X: pd.DataFrame, n_arms: int) -> list[str]:
    """Names for the indicators that no covariate has."""
    prefix = "arm"
    while any(str(c).startswith(prefix) for c in X.columns):
        prefix += "_"
    return [f"{prefix}{code}" for code in range(1, n_arms)]


def _as_arm(joined: Any, code: int, n_arms: int) -> Any:
    """The same rows with the indicators of one arm; an array, which is ours, in place."""
    values = [float(a == code) for a in range(1, n_arms)]
    if isinstance(joined, pd.DataFrame):
        return joined.assign(**dict(zip(map(str, joined.columns[1 - n_arms :]), values, strict=True)))
    joined[:, 1 - n_arms :] = values
    return joined
