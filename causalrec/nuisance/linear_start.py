"""A ridge regression for boosted trees to start from: smooth slopes in many covariates are what trees learn slowly."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from causalrec._threads import one_thread
from causalrec._typing import AnyArray, FloatArray, IntArray

# Penalties per unit of weight on standardised covariates; infinite: no slope at all.
PENALTIES = (0.0003, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, np.inf)
_CHUNK_CELLS = 4_000_000
_SMALLEST = 1e-7
_MAX_COLUMNS = 500  # of more, trees alone make something
_MAX_PAIRS = 300  # more squares and products are not tried,
_MAX_CELLS = 10_000_000  # nor those of so many rows
_CLEAR = 0.5  # standard errors by which a larger model must be better than a smaller one


@dataclass(frozen=True)
class Terms:
    """Numeric covariates, their squares and products, standardised and held at the ends of what training showed.

    A covariate beyond its range in training counts as the end of that range, so that nothing is extrapolated; a
    missing value counts as the mean; categories are left to the trees.
    """

    columns: IntArray
    low: FloatArray
    high: FloatArray
    mean: FloatArray
    scale: FloatArray
    pairs: IntArray  # (n_pairs, 2): which standardised columns are multiplied
    pair_mean: FloatArray
    pair_scale: FloatArray

    @classmethod
    def of(cls, X: Any, weight: FloatArray, *, max_pairs: int = 0) -> Self:
        """The terms of covariates; products only where there are at most ``max_pairs``."""
        columns = numeric_columns(X)
        values = _floats(X, columns)
        seen = ~np.isnan(values)
        filled = np.where(seen, values, 0.0)
        total = np.maximum(weight @ seen, 1e-300)
        mean = (weight @ filled) / total
        deviation = np.sqrt(weight @ np.where(seen, (filled - mean) ** 2, 0.0) / total)
        low = np.where(seen, values, np.inf).min(axis=0, initial=np.inf)
        high = np.where(seen, values, -np.inf).max(axis=0, initial=-np.inf)
        use = (deviation > 1e-10 * (np.abs(mean) + 1e-300)) & (high > low)
        none, no_pairs = np.empty(0), np.empty((0, 2), dtype=np.int64)
        plain = cls(columns[use], low[use], high[use], mean[use], deviation[use], no_pairs, none, none)
        q = int(use.sum())
        if not 0 < q * (q + 1) // 2 <= max_pairs:
            return plain
        i, j = np.triu_indices(q)
        Z = plain.design(X)
        products = Z[:, i] * Z[:, j]
        mean_of = weight @ products / weight.sum()
        spread = np.sqrt(weight @ (products - mean_of) ** 2 / weight.sum())
        keep = spread > 1e-8  # the square of a covariate of two values says nothing new
        return replace(plain, pairs=np.column_stack([i, j])[keep], pair_mean=mean_of[keep], pair_scale=spread[keep])

    @property
    def n_terms(self) -> int:
        """Columns of the design."""
        return len(self.columns) + len(self.pairs)

    def design(self, X: Any) -> FloatArray:
        """Standardised terms, shape (n, n_terms)."""
        Z = _floats(X, self.columns)
        np.clip(Z, self.low, self.high, out=Z)
        Z -= self.mean
        Z /= self.scale
        Z[np.isnan(Z)] = 0.0
        if not len(self.pairs):
            return Z
        products = Z[:, self.pairs[:, 0]] * Z[:, self.pairs[:, 1]]
        products -= self.pair_mean
        products /= self.pair_scale
        return np.concatenate([Z, products], axis=1)

    def of_columns(self, n: int) -> Self:
        """The first few covariates alone."""
        cut = {name: getattr(self, name)[:n] for name in ("columns", "low", "high", "mean", "scale")}
        return replace(self.without_pairs(), **cut)

    def without_pairs(self) -> Self:
        """The covariates alone."""
        return replace(self, pairs=self.pairs[:0], pair_mean=self.pair_mean[:0], pair_scale=self.pair_scale[:0])


@dataclass(frozen=True)
class Slopes:
    """A linear predictor in terms of the covariates."""

    terms: Terms | None
    coef: FloatArray
    intercept: float
    penalty: float

    @classmethod
    def constant(cls, intercept: float) -> Self:
        """No slopes."""
        return cls(None, np.empty(0), intercept, np.inf)

    @property
    def degree(self) -> int:
        """0 for a constant, 1 for slopes, 2 with squares and products."""
        if self.terms is None or not self.coef.any():
            return 0
        return 2 if len(self.terms.pairs) else 1

    def predict(self, X: Any) -> FloatArray:
        """The linear predictor, shape (n,)."""
        n = int(X.shape[0])
        if self.terms is None or not self.coef.any():
            return np.full(n, self.intercept)
        step = max(1, _CHUNK_CELLS // self.terms.n_terms)
        parts = [self.terms.design(_slice(X, start, start + step)) @ self.coef for start in range(0, n, step)]
        return np.concatenate(parts) + self.intercept

    def importances(self, n_features: int) -> FloatArray:
        """The variance that each covariate's terms explain, those of products shared, shape (n_features,)."""
        shares = np.zeros(n_features)
        if self.terms is not None:
            q = len(self.terms.columns)
            np.add.at(shares, self.terms.columns, self.coef[:q] ** 2)
            for side in (0, 1):
                np.add.at(shares, self.terms.columns[self.terms.pairs[:, side]], self.coef[q:] ** 2 / 2)
        return shares


@dataclass(frozen=True)
class FoldSlopes:
    """Slopes chosen by cross-validation: of all rows, and each row's linear predictor with every fold left out."""

    slopes: Slopes
    margins: FloatArray  # (n_margins, n)


def fit_slopes(
    X: Any,
    y: FloatArray,
    weight: FloatArray,
    fold: IntArray,
    *,
    binary: bool,
    n_margins: int | None = None,
    products: bool = True,
) -> FoldSlopes:
    """Ridge regression of a target on the numeric covariates, its penalty chosen by cross-validation.

    Parameters
    ----------
    X : frame or array of shape (n, p)
    y : array of shape (n,)
        0/1 where ``binary``: the slopes are then those of a logistic regression.
    weight : array of shape (n,)
    fold : int array of shape (n,)
        The fold in which a row is left out.
    n_margins : int, optional
        Folds whose linear predictors are asked for; all by default.
    products : bool
        Whether to try squares and products.
    """
    n_margins = int(fold.max()) + 1 if n_margins is None else min(n_margins, int(fold.max()) + 1)
    max_pairs = min(_MAX_PAIRS, _MAX_CELLS // len(y)) if products else 0
    with one_thread(only_blas=True):  # matrices of a few columns: threads would wait for one another
        return _fit_slopes(X, y, weight, fold, binary, n_margins, max_pairs)


def _fit_slopes(
    X: Any, y: FloatArray, weight: FloatArray, fold: IntArray, binary: bool, n_margins: int, max_pairs: int
) -> FoldSlopes:
    terms = Terms.of(X, weight, max_pairs=max_pairs)
    if len(terms.columns) > _MAX_COLUMNS:
        terms = terms.of_columns(0)
    Z = terms.design(X)
    q, penalty = choose_terms(Z, len(terms.columns), y, weight, fold)
    if q < terms.n_terms:
        terms, Z = terms.without_pairs(), Z[:, :q]
    solve = logistic_ridge if binary else ridge
    coef, intercept = solve(Z, y, weight, penalty)
    margins = np.empty((n_margins, len(y)))
    for k in range(n_margins):
        fold_coef, fold_intercept = solve(Z, y, weight * (fold != k), penalty)
        margins[k] = Z @ fold_coef + fold_intercept
    return FoldSlopes(Slopes(terms, coef, intercept, penalty), margins)


def choose_terms(Z: FloatArray, n_columns: int, y: FloatArray, weight: FloatArray, fold: IntArray) -> tuple[int, float]:
    """How many columns of the design to use, and their penalty: slopes alone, products too, or neither.

    More must be clearly better: slopes than a constant, and products than what was chosen of these.
    """
    q, penalty, losses = n_columns, PENALTIES[-1], np.empty(0)
    for width in dict.fromkeys((n_columns, Z.shape[1])):
        path = ridge_path(Z[:, :width], y, weight, fold)
        losses = losses if len(losses) else path[-1]
        best = int(np.argmin(path @ weight))
        if clearly_less(path[best], losses, weight):
            q, penalty, losses = width, PENALTIES[best], path[best]
    return q, penalty


def clearly_less(loss: FloatArray, than: FloatArray, weight: FloatArray) -> bool:
    """Whether one weighted mean loss is below another by more than chance: half its standard error over rows."""
    gain = (than - loss) * weight
    sums = (weight @ weight, weight @ gain, gain @ gain, weight.sum(), gain.sum())
    return clearly_positive(*map(float, sums))


def clearly_positive(ww: float, wwg: float, wwgg: float, w: float, wg: float) -> bool:
    """Whether a weighted mean of gains g is above half its standard error, from the sums of w², w²g, w²g², w and wg.

    Examples
    --------
    >>> clearly_positive(2.0, 3.0, 5.0, 2.0, 3.0), clearly_positive(2.0, 1.0, 41.0, 2.0, 1.0)
    (True, False)
    """
    mean = wg / w
    error = math.sqrt(max(wwgg - 2 * mean * wwg + mean**2 * ww, 0.0)) / w
    return mean > _CLEAR * error


def ridge_path(Z: FloatArray, y: FloatArray, weight: FloatArray, fold: IntArray) -> FloatArray:
    """Out-of-fold squared errors of ridge regression, shape (n_penalties, n).

    Every fold's normal equations are those of all rows less the fold's own, and one eigendecomposition serves all
    penalties.
    """
    squares = np.zeros((len(PENALTIES), len(y)))
    parts = [np.flatnonzero(fold == k) for k in range(int(fold.max()) + 1)]
    sums = [_sums(Z[out], y[out], weight[out]) for out in parts]
    whole = [sum(each) for each in zip(*sums, strict=True)]
    for out, own in zip(parts, sums, strict=True):
        total, mean, mean_y, gram, cross = _centred(*(w - o for w, o in zip(whole, own, strict=True)))
        if total <= 0:
            continue
        values, vectors = np.linalg.eigh(gram / total)
        rotated = vectors.T @ (cross / total)
        scores = (Z[out] - mean) @ vectors
        for i, penalty in enumerate(PENALTIES):
            fit = 0.0 if np.isinf(penalty) else scores @ (rotated / (np.maximum(values, 0.0) + penalty))
            squares[i, out] = (y[out] - mean_y - fit) ** 2
    return squares


def ridge(Z: FloatArray, y: FloatArray, weight: FloatArray, penalty: float) -> tuple[FloatArray, float]:
    """Coefficients and intercept of weighted ridge regression; the intercept is not penalised."""
    total, mean, mean_y, gram, cross = _centred(*_sums(Z, y, weight))
    if np.isinf(penalty) or total <= 0 or not Z.shape[1]:
        return np.zeros(Z.shape[1]), mean_y
    coef = np.linalg.solve(gram / total + penalty * np.eye(Z.shape[1]), cross / total)
    return np.asarray(coef, dtype=np.float64), float(mean_y - mean @ coef)


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
    A = np.column_stack([np.ones(len(y)), Z])[weight > 0]
    y, weight = y[weight > 0], weight[weight > 0]
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


def _sums(Z: FloatArray, y: FloatArray, weight: FloatArray) -> tuple[Any, Any, Any, Any, Any]:
    """Weighted sums of 1, Z, y, ZZ' and Zy: those of disjoint rows add up."""
    weighted = Z * weight[:, None]
    return weight.sum(), weighted.sum(axis=0), weight @ y, weighted.T @ Z, weighted.T @ y


def _centred(
    total: Any, sum_z: Any, sum_y: Any, gram: Any, cross: Any
) -> tuple[float, FloatArray, float, FloatArray, FloatArray]:
    """Total weight, means, and cross-products about the means; Z and y are standardised, so that none cancel out."""
    if total <= 1e-12 * max(1.0, float(np.abs(gram).max(initial=0.0))):
        return 0.0, np.zeros_like(sum_z), 0.0, np.zeros_like(gram), np.zeros_like(cross)
    mean, mean_y = sum_z / total, float(sum_y / total)
    return float(total), mean, mean_y, gram - total * np.outer(mean, mean), cross - total * mean * mean_y


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
