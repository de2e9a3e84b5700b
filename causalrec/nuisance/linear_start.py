"""A ridge regression for boosted trees to start from: smooth slopes in many covariates are what trees learn slowly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from causalrec._typing import AnyArray, FloatArray, IntArray

# Penalties per unit of weight on standardised covariates; infinite: no slope at all.
PENALTIES = (0.0003, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, np.inf)
_CHUNK_CELLS = 4_000_000
_SMALLEST = 1e-7


@dataclass(frozen=True)
class Slopes:
    """A linear predictor of the numeric covariates, held at the ends of what training showed.

    A covariate beyond its range in training counts as the end of that range, so that nothing is extrapolated; a
    missing value counts as the mean; categories are left to the trees.
    """

    columns: IntArray
    low: FloatArray
    high: FloatArray
    mean: FloatArray
    scale: FloatArray
    coef: FloatArray
    intercept: float
    penalty: float

    @classmethod
    def constant(cls, intercept: float) -> Self:
        """No slopes."""
        none = np.empty(0)
        return cls(np.empty(0, dtype=np.int64), none, none, none, none, none, intercept, np.inf)

    @classmethod
    def scales(cls, X: Any, weight: FloatArray) -> Self:
        """Ranges, means and deviations of the numeric covariates, with no slope yet."""
        columns = numeric_columns(X)
        values = _floats(X, columns)
        seen = np.isfinite(values)
        filled = np.where(seen, values, 0.0)
        total = np.maximum(weight @ seen, 1e-300)
        mean = (weight @ filled) / total
        deviation = np.sqrt(weight @ np.where(seen, (filled - mean) ** 2, 0.0) / total)
        low = np.where(seen, values, np.inf).min(axis=0)
        high = np.where(seen, values, -np.inf).max(axis=0)
        use = (deviation > 1e-10 * (np.abs(mean) + 1e-300)) & (high > low)
        none = np.zeros(int(use.sum()))
        return cls(columns[use], low[use], high[use], mean[use], deviation[use], none, 0.0, np.inf)

    def design(self, X: Any) -> FloatArray:
        """Standardised covariates, shape (n, q)."""
        values = _floats(X, self.columns)
        np.clip(values, self.low, self.high, out=values)
        values -= self.mean
        values /= self.scale
        return np.where(np.isnan(values), 0.0, values)

    def predict(self, X: Any) -> FloatArray:
        """The linear predictor, shape (n,)."""
        n = int(X.shape[0])
        if not self.coef.any():
            return np.full(n, self.intercept)
        step = max(1, _CHUNK_CELLS // max(1, len(self.columns)))
        parts = [self.design(_slice(X, start, start + step)) @ self.coef for start in range(0, n, step)]
        return np.concatenate(parts) + self.intercept

    def importances(self, n_features: int) -> FloatArray:
        """The variance that each covariate's slope explains, shape (n_features,)."""
        shares = np.zeros(n_features)
        shares[self.columns] = self.coef**2
        return shares


@dataclass(frozen=True)
class FoldSlopes:
    """Slopes chosen by cross-validation: of all rows, and each row's linear predictor with every fold left out."""

    slopes: Slopes
    margins: FloatArray  # (n_folds, n)
    losses: FloatArray  # mean squared error out of fold for every penalty of PENALTIES


def fit_slopes(X: Any, y: FloatArray, weight: FloatArray, fold: IntArray, *, binary: bool) -> FoldSlopes:
    """Ridge regression of a target on the numeric covariates, its penalty chosen by cross-validation.

    Parameters
    ----------
    X : frame or array of shape (n, p)
    y : array of shape (n,)
        0/1 where ``binary``: the slopes are then those of a logistic regression.
    weight : array of shape (n,)
    fold : int array of shape (n,)
        The fold in which a row is left out.
    """
    base = Slopes.scales(X, weight)
    Z = base.design(X)
    n_folds = int(fold.max()) + 1
    losses, _ = ridge_path(Z, y, weight, fold)
    penalty = PENALTIES[int(np.argmin(losses))]
    solve = logistic_ridge if binary else ridge
    coef, intercept = solve(Z, y, weight, penalty)
    margins = np.empty((n_folds, len(y)))
    for k in range(n_folds):
        held_in = weight * (fold != k)
        fold_coef, fold_intercept = solve(Z, y, held_in, penalty)
        margins[k] = Z @ fold_coef + fold_intercept
    return FoldSlopes(replace(base, coef=coef, intercept=intercept, penalty=penalty), margins, losses)


def ridge_path(Z: FloatArray, y: FloatArray, weight: FloatArray, fold: IntArray) -> tuple[FloatArray, FloatArray]:
    """Out-of-fold mean squared error of ridge regression for each penalty, and its standard error over rows.

    Every fold's normal equations are those of all rows less the fold's own, and one eigendecomposition serves all
    penalties.
    """
    squares = np.zeros((len(PENALTIES), len(y)))
    for k in range(int(fold.max()) + 1):
        out = fold == k
        total, mean, mean_y, gram, cross = _moments(Z, y, weight * ~out)
        if total <= 0:
            continue
        values, vectors = np.linalg.eigh(gram / total)
        rotated = vectors.T @ (cross / total)
        scores = (Z[out] - mean) @ vectors
        for i, penalty in enumerate(PENALTIES):
            fit = 0.0 if np.isinf(penalty) else scores @ (rotated / (np.maximum(values, 0.0) + penalty))
            squares[i, out] = (y[out] - mean_y - fit) ** 2
    loss = squares @ weight / weight.sum()
    return loss, np.sqrt(((squares - loss[:, None]) ** 2) @ weight**2) / weight.sum()


def ridge(Z: FloatArray, y: FloatArray, weight: FloatArray, penalty: float) -> tuple[FloatArray, float]:
    """Coefficients and intercept of weighted ridge regression; the intercept is not penalised."""
    total, mean, mean_y, gram, cross = _moments(Z, y, weight)
    if np.isinf(penalty) or total <= 0 or not Z.shape[1]:
        return np.zeros(Z.shape[1]), mean_y
    coef = np.linalg.solve(gram / total + penalty * np.eye(Z.shape[1]), cross / total)
    return coef, float(mean_y - mean @ coef)


def logistic_ridge(
    Z: FloatArray, y: FloatArray, weight: FloatArray, penalty: float, *, n_steps: int = 8
) -> tuple[FloatArray, float]:
    """Coefficients and intercept of weighted logistic regression with a ridge penalty, by Newton's method.

    The penalty is on the scale of least squares: it is multiplied by the variance of the target.
    """
    total = weight.sum()
    share = float(np.clip(weight @ y / total, _SMALLEST, 1 - _SMALLEST)) if total > 0 else 0.5
    theta = np.zeros(Z.shape[1] + 1)
    theta[0] = logit(share)
    if np.isinf(penalty) or not Z.shape[1] or share * (1 - share) < 1e-6:
        return theta[1:], float(theta[0])
    A = np.column_stack([np.ones(len(y)), Z])
    ridge_term = penalty * total * share * (1 - share) * np.r_[0.0, np.ones(Z.shape[1])]
    for _ in range(n_steps):
        p = expit(A @ theta)
        gradient = A.T @ (weight * (y - p)) - ridge_term * theta
        curvature = (A * (weight * np.maximum(p * (1 - p), 1e-6))[:, None]).T @ A
        step = np.linalg.solve(curvature + np.diag(ridge_term + 1e-9 * total), gradient)
        theta += step / max(1.0, float(np.abs(step).max()) / 2.0)  # a bounded step: separable arms do not run away
        if np.abs(step).max() < 1e-6:
            break
    return theta[1:], float(theta[0])


def numeric_columns(X: Any) -> IntArray:
    """Positions of the columns that are numbers or booleans."""
    if not isinstance(X, pd.DataFrame):
        return np.arange(X.shape[1])
    plain = [not isinstance(kind, pd.CategoricalDtype) for kind in X.dtypes]
    return np.flatnonzero(plain)


def _moments(
    Z: FloatArray, y: FloatArray, weight: FloatArray
) -> tuple[float, FloatArray, float, FloatArray, FloatArray]:
    """Total weight, weighted means, and centred weighted cross-products."""
    total = float(weight.sum())
    if total <= 0:
        q = Z.shape[1]
        return 0.0, np.zeros(q), 0.0, np.zeros((q, q)), np.zeros(q)
    weighted = Z * weight[:, None]
    mean, mean_y = weighted.sum(axis=0) / total, float(weight @ y / total)
    return total, mean, mean_y, weighted.T @ Z - total * np.outer(mean, mean), weighted.T @ y - total * mean * mean_y


def _floats(X: Any, columns: IntArray) -> FloatArray:
    """A fresh float copy of some columns, missing and infinite values as NaN."""
    if isinstance(X, pd.DataFrame):
        parts = [X.iloc[:, j].to_numpy(dtype=np.float64, na_value=np.nan) for j in columns]
        values = np.column_stack(parts) if parts else np.empty((len(X), 0))
    else:
        values = np.array(X[:, columns], dtype=np.float64)
    values[~np.isfinite(values)] = np.nan
    return values


def _slice(X: Any, start: int, stop: int) -> Any:
    return X.iloc[start:stop] if isinstance(X, pd.DataFrame) else X[start:stop]


def sample_rows(n_rows: int, limit: int, rng: np.random.Generator) -> AnyArray:
    """All rows, or a random few of many, in order."""
    if n_rows <= limit:
        return np.arange(n_rows)
    return np.sort(rng.choice(n_rows, size=limit, replace=False))
