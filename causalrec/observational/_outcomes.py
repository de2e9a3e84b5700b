"""Regressions of the outcome: independent columns, weighted fits, and what their errors add to an effect's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import linalg, special

from causalrec._typing import AnyArray, BoolArray, FloatArray
from causalrec._validation import check_columns, list_some, nearest
from causalrec.exceptions import CausalRecError, ColumnError, OutcomeError

OUTCOME_MODELS = ("linear", "logistic", "poisson")
_COLLINEAR = 1e-8
_CLEAR = 1e-3  # a Cholesky pivot of standardised columns above this leaves twice the digits needed
_NEWTON_STEPS = 60
_MEAN: dict[str, Callable[[FloatArray], FloatArray]] = {
    "linear": lambda eta: eta,
    "logistic": special.expit,
    "poisson": np.exp,
}
_SLOPE: dict[str, Callable[[FloatArray], FloatArray]] = {
    "linear": np.ones_like,
    "logistic": lambda mean: mean * (1 - mean),
    "poisson": lambda mean: mean,
}


@dataclass(frozen=True, eq=False)
class Design:
    """An intercept and standardised covariates, none of them linear in those before it.

    Attributes
    ----------
    Z : array of shape (n, q)
    names : array of shape (q,)
    dropped : tuple of str
        Columns without variation, or linear in those before them: they change no prediction.
    """

    Z: FloatArray
    names: AnyArray
    dropped: tuple[str, ...]

    def suffix(self) -> str:
        """What ``method`` says of columns that were left out."""
        return f"; without {list_some(self.dropped)}, collinear" if self.dropped else ""

    def column(self, name: str) -> FloatArray:
        """A column by its name."""
        return np.asarray(self.Z[:, list(self.names).index(name)])


def make_design(X: FloatArray, names: Sequence[Any] | AnyArray, used: BoolArray | None = None) -> Design:
    """Standardise the columns and leave out, from left to right, those that are linear in others.

    Parameters
    ----------
    X : array of shape (n, p), names : of its columns
    used : bool array of shape (n,), optional
        The units that count: a column that varies among others alone is none.

    Examples
    --------
    >>> design = make_design(np.array([[1.0, 2], [2, 4], [4, 8]]), ["a", "twice a"])
    >>> design.names.tolist(), design.dropped
    (['intercept', 'a'], ('twice a',))
    """
    rows = slice(None) if used is None or used.all() else used
    counted = X[rows]
    mean, spread = counted.mean(axis=0), counted.std(axis=0)
    varies = spread > 1e-12 * np.abs(counted).max(axis=0, initial=0.0)
    Z = np.column_stack([np.ones(len(X)), (X[:, varies] - mean[varies]) / spread[varies]])
    known = [str(name) for name in names]
    labels = np.array(["intercept", *[name for name, v in zip(known, varies, strict=True) if v]], dtype=object)
    keep = independent(Z[rows])
    dropped = tuple(name for name in known if name not in labels[keep])
    return Design(Z if keep.all() else Z[:, keep], labels[keep], dropped)


def named_columns(X: FloatArray, names: AnyArray, wanted: str | Sequence[Any], *, what: str) -> FloatArray:
    """An intercept and some columns, standardised; ``what`` names them in messages."""
    if isinstance(wanted, str):
        raise ColumnError(f"{what} is the text {wanted!r}; expected a list of columns, such as [{wanted!r}].")
    known = [str(name) for name in names]
    check_columns(known, wanted, where=f"{what}, among the columns of X")
    columns = X[:, [known.index(str(name)) for name in wanted]]
    spread = columns.std(axis=0)
    return np.column_stack([np.ones(len(X)), (columns - columns.mean(axis=0)) / np.where(spread > 0, spread, 1.0)])


def independent(Z: FloatArray) -> BoolArray:
    """Which columns are not linear in those before them, shape (q,)."""
    R = triangle(Z) if Z.size else Z
    size = np.sqrt((R**2).sum(axis=0))
    basis = np.zeros((len(R), 0))
    keep = np.zeros(Z.shape[1], dtype=bool)
    for j in range(Z.shape[1]):
        if size[j] <= 0:
            continue
        rest = R[:, j] / size[j]
        for _ in range(2):  # twice is enough: Gram–Schmidt loses digits once
            rest = rest - basis @ (basis.T @ rest)
        length = float(np.sqrt(rest @ rest))
        if length > _COLLINEAR:
            keep[j] = True
            basis = np.column_stack([basis, rest / length])
    return keep


def triangle(Z: FloatArray) -> FloatArray:
    """An upper triangle R with R'R = Z'Z: by Cholesky where that is precise, else by a QR decomposition."""
    gram = Z.T @ Z
    size = np.sqrt(np.maximum(np.diag(gram), 1e-300))
    try:
        R: FloatArray = linalg.cholesky(gram / size / size[:, None])
    except linalg.LinAlgError:
        R = np.zeros_like(gram)
    if np.diag(R).min() < _CLEAR:
        return np.asarray(linalg.qr(Z, mode="r")[0][: Z.shape[1]])
    return np.asarray(R * size)


@dataclass(frozen=True, eq=False)
class OutcomeFit:
    """A weighted regression of the outcome on a design, by least squares or by a likelihood with its natural link.

    Its coefficients β solve Σ w_i (y_i - m(Z_i'β)) Z_i = 0. For an estimate that depends on β by the gradient ``pull``
    (shape (q,)), :meth:`influence` is w_i (y_i - m_i) Z_i' H^-1 pull with H = Σ w_i m'_i Z_i Z_i', on the scale of a
    sum (Stefanski and Boos 2002, The American Statistician 56, "The calculus of M-estimation").
    """

    family: str
    Z: FloatArray
    weight: FloatArray  # zero for units outside the fit
    coef: FloatArray
    residual: FloatArray
    root: FloatArray  # upper triangle of H

    def predict(self, Z: FloatArray) -> FloatArray:
        """Expected outcomes."""
        return np.asarray(_MEAN[self.family](Z @ self.coef))

    def slope(self, mean: FloatArray) -> FloatArray:
        """Derivative of expected outcomes by the linear predictor, from these outcomes."""
        return np.asarray(_SLOPE[self.family](mean))

    def reach(self, pull: FloatArray) -> FloatArray:
        """Z_i' H^-1 pull, shape (n,): what a unit of residual times weight does to the estimate."""
        return np.asarray(self.Z @ _solve(self.root, pull))

    def influence(self, pull: FloatArray) -> FloatArray:
        """Each unit's influence by way of the coefficients, shape (n,)."""
        return self.weight * self.residual * self.reach(pull)

    def leverage(self) -> FloatArray:
        """The diagonal of the hat matrix of a linear fit, shape (n,)."""
        half = linalg.solve_triangular(self.root, self.Z.T, trans=1)
        return np.asarray(self.weight * (half**2).sum(axis=0))


def fit_outcome(Z: FloatArray, y: FloatArray, weight: FloatArray, family: str = "linear", *, who: str) -> OutcomeFit:
    """Fit the regression on the units of weight above zero; ``who`` names them in messages.

    The columns of ``Z`` must be independent among these units, and the outcomes as :func:`check_outcomes` wants them.

    Raises
    ------
    OutcomeError
        For a likelihood without a maximum.
    """
    used = weight > 0
    A, target, w = Z[used], y[used], weight[used]
    if family == "linear":
        root = triangle(A * np.sqrt(w)[:, None])
        coef = _solve(root, A.T @ (w * target))
        coef = coef + _solve(root, A.T @ (w * (target - A @ coef)))  # one refinement: the last digits
    else:
        coef, root = _newton(A, target, w, family, who)
    residual = np.zeros(len(y))
    residual[used] = target - _MEAN[family](A @ coef)
    return OutcomeFit(family, Z, np.where(used, weight, 0.0), coef, residual, root)


def check_outcome_model(family: str) -> str:
    """Return one of ``linear``, ``logistic``, ``poisson``."""
    if family not in OUTCOME_MODELS:
        raise CausalRecError(
            f"outcome_model is {family!r}; expected one of {list_some(OUTCOME_MODELS)}."
            f"{nearest(str(family), OUTCOME_MODELS)}"
        )
    return family


def check_outcomes(y: FloatArray, family: str) -> None:
    """Raise :class:`OutcomeError` for outcomes outside [0, 1] (logistic) or below zero (poisson)."""
    low, high = {"linear": (-np.inf, np.inf), "logistic": (0.0, 1.0), "poisson": (0.0, np.inf)}[family]
    bad = int(((y < low) | (y > high)).sum())
    if bad:
        need = "between 0 and 1" if family == "logistic" else "of zero or more"
        raise OutcomeError(
            f"y: {bad} of {len(y)} values are not {need}, as outcome_model={family!r} needs; use 'linear'."
        )


def _newton(A: FloatArray, y: FloatArray, w: FloatArray, family: str, who: str) -> tuple[FloatArray, FloatArray]:
    """Coefficients and the triangle of the Hessian at the maximum of the likelihood."""
    mean_of, slope_of = _MEAN[family], _SLOPE[family]
    start = float(np.average(y, weights=w))
    beta = np.zeros(A.shape[1])
    if not 0 < start < (1 if family == "logistic" else np.inf):
        raise OutcomeError(_no_maximum(who, f"all outcomes are {start:g}"))
    beta[0] = special.logit(start) if family == "logistic" else np.log(start)
    eta = A @ beta
    loss = _loss(family, eta, y, w)
    for _ in range(_NEWTON_STEPS):
        mean = mean_of(eta)
        root = triangle(A * np.sqrt(w * slope_of(mean))[:, None])
        if not np.abs(np.diag(root)).min() > 1e-10 * np.abs(np.diag(root)).max():
            break
        step = _solve(root, A.T @ (w * (y - mean)))
        change, size = A @ step, 1.0
        while not (now := _loss(family, eta + size * change, y, w)) <= loss + 1e-12 * abs(loss) and size > 1e-8:
            size /= 2
        beta, eta, loss = beta + size * step, eta + size * change, now
        if np.abs(change).max() < 1e-9 * (1 + np.abs(eta).max()):
            return beta, triangle(A * np.sqrt(w * slope_of(mean_of(eta)))[:, None])
    raise OutcomeError(_no_maximum(who, "the covariates separate outcomes of zero from the others"))


def _no_maximum(who: str, why: str) -> str:
    return f"the outcome model of {who} units has no maximum: {why}. Use outcome_model='linear', or fewer covariates."


def _loss(family: str, eta: FloatArray, y: FloatArray, w: FloatArray) -> float:
    """Minus the log-likelihood, but for a constant."""
    with np.errstate(over="ignore"):
        total: Any = np.logaddexp(0, eta) if family == "logistic" else np.exp(eta)
    return float(w @ (total - y * eta))


def _solve(root: FloatArray, vector: FloatArray) -> FloatArray:
    """(R'R)^-1 v."""
    return np.asarray(linalg.solve_triangular(root, linalg.solve_triangular(root, vector, trans=1)))
