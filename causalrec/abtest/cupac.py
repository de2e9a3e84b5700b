"""A covariate from a model: many pre-experiment features pressed into the one that explains the outcome best."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from causalrec._typing import AnyArray, FloatArray, RandomState
from causalrec._validation import check_covariates, check_length, check_model_columns, check_vector, check_weights
from causalrec.exceptions import CausalRecError


def cupac_predictions(
    X: Any,
    y: Any,
    *,
    model: Any = None,
    cv: int = 5,
    groups: Any = None,
    sample_weight: Any = None,
    random_state: RandomState = None,
) -> FloatArray:
    """Predict an outcome out of fold from features measured before assignment, for use as a covariate.

    Each row is predicted by a model that was fitted without its fold (CUPAC: Tang et al. 2020, "Control using
    predictions as covariates in switchback experiments"). Put the predictions into a column and name it in
    ``covariates`` of a metric: like any covariate it leaves the effect unbiased, and it removes as much variance as the
    model explains, in curves and interactions that a linear adjustment misses.

    Which ``y``:

    - an outcome of a time before assignment, such as last month's revenue: no arm can have changed it;
    - the experiment's own outcome, of all arms together: valid because it is out of fold. A model that has seen the
      row it predicts carries that row's noise, and its effect, into the covariate; the adjustment would take a part
      of the effect away and understate the error. Out of fold a row's prediction depends on other rows only, as in the
      cross-fitting of Wager et al. (2016, "High-dimensional regression adjustments in randomized experiments"; see
      also Jin and Ba 2023, "Toward optimal variance reduction in online controlled experiments").

    In both cases ``X`` must be measured before assignment and must not hold the arm, nor anything that the arm changed.

    Parameters
    ----------
    X : array-like or frame of shape (n, k)
        Numbers, booleans and categories; the default model takes missing values.
    y : array-like of shape (n,)
    model : scikit-learn regressor, optional
        Cloned for each fold; ``HistGradientBoostingRegressor`` by default.
    cv : int
        Folds, at least 2.
    groups : array-like of shape (n,), optional
        The unit of each row where units have several: all rows of a unit go into one fold.
    sample_weight : array-like of shape (n,), optional
    random_state : int or Generator, optional
        Of the folds, and of the default model.

    Returns
    -------
    array of shape (n,)

    Raises
    ------
    CausalRecError
        For fewer than 2 folds, or fewer rows or groups than folds.
    ColumnError
        For columns that a model cannot read.
    OutcomeError
        For missing or infinite ``y``.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(2_000, 3))
    >>> y = np.abs(X[:, 0]) + 0.1 * rng.normal(size=2_000)
    >>> covariate = cupac_predictions(X, y, random_state=1)
    >>> print(f"explained {1 - np.var(y - covariate) / np.var(y):.2f}")
    explained 0.96
    """
    from sklearn.base import clone
    from sklearn.ensemble import HistGradientBoostingRegressor

    X = check_covariates(X)
    y = check_vector(y, name="y", n_rows=len(X))
    weights = None if sample_weight is None else check_weights(sample_weight, n_rows=len(X))
    seed = int(np.random.default_rng(random_state).integers(2**31))
    if model is None:
        check_model_columns(X, model="HistGradientBoostingRegressor")
        model = HistGradientBoostingRegressor(random_state=seed)
    predictions = np.empty(len(X))
    for rest, fold in _folds(len(X), cv, groups, seed):
        fitted = clone(model)
        kwargs = {} if weights is None else {"sample_weight": weights[rest]}
        fitted.fit(_rows(X, rest), y[rest], **kwargs)
        predictions[fold] = fitted.predict(_rows(X, fold))
    return predictions


def _folds(n: int, cv: int, groups: Any, seed: int) -> list[tuple[AnyArray, AnyArray]]:
    """Row numbers outside and inside each fold."""
    from sklearn.model_selection import KFold

    codes = np.arange(n)
    if groups is not None:
        check_length(len(groups), n, name="groups")
        codes = pd.factorize(np.asarray(groups))[0]
        if (codes < 0).any():
            raise CausalRecError(f"groups: {(codes < 0).sum()} of {n} are missing. Drop those rows first.")
    n_units = int(codes.max()) + 1
    if not 2 <= cv <= n_units:
        raise CausalRecError(
            f"cv is {cv}, for {n_units} {'rows' if groups is None else 'groups'}; expected 2 folds or more, and no "
            "more than there are to fold."
        )
    fold_of = np.empty(n_units, dtype=np.int64)
    for number, (_, units) in enumerate(KFold(cv, shuffle=True, random_state=seed).split(np.arange(n_units))):
        fold_of[units] = number
    row_fold = fold_of[codes]
    return [(np.flatnonzero(row_fold != number), np.flatnonzero(row_fold == number)) for number in range(cv)]


def _rows(X: Any, rows: AnyArray) -> Any:
    return X.iloc[rows] if isinstance(X, pd.DataFrame) else X[rows]
