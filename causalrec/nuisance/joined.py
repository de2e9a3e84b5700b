"""One outcome model of all arms, on covariates with the arm among them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from causalrec._typing import FloatArray, IntArray
from causalrec.nuisance.fitting import predict_mean
from causalrec.nuisance.tables import join_arms, row_chunks


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


def predict_joined(
    model: Any, X: Any, n_arms: int, codes: list[int] | range, *, rows: IntArray | None = None
) -> FloatArray:
    """Expected outcomes of some rows under some arms, shape (m, len(codes)), by a model of all arms."""
    found = np.empty((len(X) if rows is None else len(rows), len(codes)))
    start = 0
    for some in row_chunks(X, rows):
        if not len(some):
            break
        joined = join_arms(some, np.zeros(len(some), dtype=np.int64), n_arms)
        for place, code in enumerate(codes):
            joined = _as_arm(joined, code, n_arms)
            found[start : start + len(some), place] = predict_mean(model, joined)
        start += len(some)
    return found


def _as_arm(joined: Any, code: int, n_arms: int) -> Any:
    """The same rows with the indicators of one arm; an array, which is ours, in place."""
    values = [float(a == code) for a in range(1, n_arms)]
    if isinstance(joined, pd.DataFrame):
        return joined.assign(**dict(zip(map(str, joined.columns[1 - n_arms :]), values, strict=True)))
    joined[:, 1 - n_arms :] = values
    return joined
