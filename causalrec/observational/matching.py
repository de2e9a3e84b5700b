"""Propensity scores, nearest-neighbour matching with Abadie–Imbens errors, and balance; pure functions on arrays."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import linalg, special
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from causalrec._typing import AnyArray, FloatArray, IntArray
from causalrec._validation import check_length, check_vector, list_some, nearest
from causalrec.exceptions import CausalRecError, ColumnError, OverlapError, TreatmentError
from causalrec.results import BalanceResult

ESTIMANDS = ("ate", "att", "atc")
BALANCE_THRESHOLD = 0.1
_NEWTON_STEPS = 40
_COLLINEAR = 1e-10
_SEPARATED = (
    "the covariates separate treated from control units perfectly, for some units at least: there is nothing to "
    "compare these with. Remove the covariate that decides the treatment, or restrict the data to where both occur."
)


def check_estimand(estimand: str) -> str:
    """Return one of ``ate``, ``att``, ``atc``."""
    if estimand not in ESTIMANDS:
        raise CausalRecError(
            f"estimand is {estimand!r}; expected one of {list_some(ESTIMANDS)}.{nearest(str(estimand), ESTIMANDS)}"
        )
    return estimand


def one_thread(small: bool) -> AbstractContextManager[Any]:
    """Keep BLAS and OpenMP to one thread while the work is small.

    More threads gain nothing there, and cost tens of times as much where the cores are shared: they wait spinning.
    """
    limits: AbstractContextManager[Any] = threadpool_limits(limits=1 if small else None)
    return limits


def design_matrix(frame: pd.DataFrame, *, all_levels: bool = False) -> tuple[FloatArray, AnyArray]:
    """Numeric columns as they are, categories as 0/1 columns.

    Parameters
    ----------
    frame : DataFrame with numbers, booleans, text or categories
    all_levels : bool
        One column for every level, as a balance table wants it; else for all levels but the first.

    Returns
    -------
    matrix of shape (n, p) and the column names, numeric covariates first

    Raises
    ------
    ColumnError
        For missing or infinite values, and for times.

    Examples
    --------
    >>> X, names = design_matrix(pd.DataFrame({"plan": ["a", "b", "b"], "age": [20, 30, 40]}))
    >>> [str(name) for name in names], X[0].tolist()
    (['age', 'plan_b'], [20.0, 0.0])
    """
    missing = frame.columns[frame.isna().any()].tolist()
    if missing:
        raise ColumnError(
            f"covariates {list_some(missing)} have missing values; drop those rows, or fill them with an indicator."
        )
    times = [c for c in frame.columns if frame[c].dtype.kind in "mM" or isinstance(frame[c].dtype, pd.PeriodDtype)]
    if times:
        raise ColumnError(f"covariates {list_some(times)} are times; turn them into numbers, such as days since then.")
    text = [c for c in frame.columns if not pd.api.types.is_numeric_dtype(frame[c])]
    coded = pd.get_dummies(
        frame.assign(**{c: _levels(frame[c]) for c in text}), columns=text, drop_first=not all_levels, dtype=float
    )
    X = coded.to_numpy(np.float64)
    infinite = coded.columns[~np.isfinite(X).all(axis=0)].tolist()
    if infinite:
        raise ColumnError(f"covariates {list_some(infinite)} have infinite values; drop or cap those rows first.")
    return X, np.array(coded.columns, dtype=object)


def _levels(column: pd.Series) -> pd.Series:
    """The column as categories that occur: one that is only declared would make an empty column, or hide the first."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.remove_unused_categories()
    return column.astype(str).astype("category")


def fit_propensity(X: FloatArray, treatment: IntArray) -> FloatArray:
    """P(treated given X) by logistic regression: with an intercept, unpenalised, Newton steps to convergence.

    Columns that are constant or linear in others change nothing. Rows with equal covariates get equal scores, to the
    last bit, so that ties are ties.

    Parameters
    ----------
    X : array of shape (n, p), treatment : 0/1 array of shape (n,)

    Returns
    -------
    array of shape (n,)

    Raises
    ------
    TreatmentError
        When an arm is empty.
    OverlapError
        When the covariates separate the arms, so that the likelihood has no maximum.

    Examples
    --------
    >>> fit_propensity(np.array([[0.0], [0.0], [1.0], [1.0]]), np.array([0, 1, 0, 1])).tolist()
    [0.5, 0.5, 0.5, 0.5]
    """
    return fit_logistic(regressors(X), treatment)


def regressors(X: FloatArray) -> FloatArray:
    """An intercept and the standardised columns of ``X``, without those that are linear in others; shape (n, q)."""
    spread = X.std(axis=0)
    varies = spread > 1e-12 * np.abs(X).max(axis=0, initial=0.0)
    used = X[:, varies]
    Z = np.column_stack([np.ones(len(X)), (used - used.mean(axis=0)) / spread[varies]])
    R, order = linalg.qr(Z, mode="r", pivoting=True)
    size = np.abs(np.diag(R))
    return np.asarray(Z[:, np.sort(order[: len(size)][size > _COLLINEAR * size[0]])])


def fit_logistic(Z: FloatArray, treatment: IntArray) -> FloatArray:
    """Fitted probabilities of a logistic regression on :func:`regressors`; as :func:`fit_propensity`."""
    _check_arms(treatment)
    beta = np.zeros(Z.shape[1])
    beta[0] = special.logit(treatment.mean())
    eta = Z @ beta
    loss = _log_loss(eta, treatment)
    for _ in range(_NEWTON_STEPS):
        score = special.expit(eta)
        try:
            hessian = linalg.cho_factor((Z * (score * (1 - score))[:, None]).T @ Z)
        except linalg.LinAlgError as error:
            raise OverlapError(_SEPARATED) from error
        step = linalg.cho_solve(hessian, Z.T @ (treatment - score))
        change = Z @ step
        size = 1.0
        while (worse := _log_loss(eta + size * change, treatment)) > loss + 1e-12 * abs(loss) and size > 1e-6:
            size /= 2
        beta, eta, loss = beta + size * step, eta + size * change, worse
        # Judged by what moves in the scores: blind to the covariates' units and to near collinearity, and under
        # separation, where some score moves by about one at every step, never small.
        if np.abs(change).max() < 1e-8 * (1 + np.abs(eta).max()):
            return np.asarray(special.expit(_row_by_row(Z, beta)))
    raise OverlapError(_SEPARATED)


def _log_loss(eta: FloatArray, treatment: IntArray) -> float:
    return float(np.logaddexp(0, eta).sum() - eta[treatment == 1].sum())


def _row_by_row(Z: FloatArray, beta: FloatArray) -> FloatArray:
    """``Z @ beta``, column after column: a matrix product may round equal rows differently, and untie them."""
    eta = np.zeros(len(Z))
    for column, b in zip(Z.T, beta, strict=True):
        eta += column * b
    return eta


def _check_arms(treatment: IntArray) -> None:
    n_treated = int((treatment == 1).sum())
    if not 0 < n_treated < len(treatment):
        raise TreatmentError(
            f"treatment: {n_treated} treated units of {len(treatment)}; matching needs both arms. Check the filter."
        )


@dataclass(frozen=True, eq=False)
class Match:
    """What matching found.

    ``weight`` is how often each unit serves as a match (K_i), shape (n,); ``imputed`` the outcome that its matches
    show in the other arm, shape (n,), NaN where the estimand does not need it.
    """

    estimate: float
    std_error: float
    weight: FloatArray = field(repr=False)
    imputed: FloatArray = field(repr=False)


def match_nearest(score: FloatArray, treatment: IntArray, y: FloatArray, *, estimand: str = "ate") -> Match:
    """Match each unit to the nearest of the other arm by score, with replacement; all ties are averaged.

    Averaging ties makes the answer independent of row order. The standard error is Abadie and Imbens (2006,
    Econometrica 74, "Large sample properties of matching estimators"): sigma² Σ (1 + K_i)² / N² for the ate,
    sigma² Σ (T_i + (1 - T_i) K_i)² / N₁² for the att, where K_i is how often unit i is used and sigma² half the mean
    squared deviation of the matched contrasts from the effect (homoskedastic).

    The error takes the score as known. Where it was estimated, the error of the ate is too large, if anything; that
    of the att or atc may be too large or too small (Abadie and Imbens 2016, Econometrica 84, "Matching on the
    estimated propensity score").

    Parameters
    ----------
    score, y : arrays of shape (n,), treatment : 0/1 array of shape (n,)
    estimand : {"ate", "att", "atc"}

    Raises
    ------
    TreatmentError, OutcomeError, CausalRecError
        For an empty arm, values that are not finite, or an unknown estimand.

    Examples
    --------
    >>> match = match_nearest(np.array([0.1, 0.2, 0.1, 0.2]), np.array([0, 0, 1, 1]), np.array([1.0, 2.0, 2.0, 3.0]))
    >>> match.estimate
    1.0
    """
    check_estimand(estimand)
    n = len(treatment)
    score, y = check_vector(score, name="score", n_rows=n), check_vector(y, name="y", n_rows=n)
    _check_arms(treatment)
    weight, imputed, spread, matched = np.zeros(n), np.full(n, np.nan), np.zeros(n), np.zeros(n, dtype=bool)
    for arm in {"ate": (0, 1), "att": (1,), "atc": (0,)}[estimand]:
        own, other = np.flatnonzero(treatment == arm), np.flatnonzero(treatment != arm)
        imputed[own], spread[own], weight[other] = _nearest(score[own], score[other], y[other])
        matched[own] = True
    contrast = np.where(treatment == 1, y - imputed, imputed - y)[matched]
    estimate = float(contrast.mean())
    # Over pairs, not over units: among tied matches the contrasts vary by the spread of the matches' outcomes.
    variance = float(((contrast - estimate) ** 2 + spread[matched]).mean() / 2)
    factor = (matched + weight) ** 2 if estimand == "ate" else np.where(matched, 1.0, weight) ** 2
    return Match(estimate, math.sqrt(variance * float(factor.sum())) / int(matched.sum()), weight, imputed)


def _nearest(asking: FloatArray, pool: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean and variance of the outcome of each asking unit's nearest pool units, and how often each pool unit serves.

    Equal scores are one group, so a tie of any size costs nothing.
    """
    values, code = np.unique(pool, return_inverse=True)
    size = np.bincount(code)
    mean = np.bincount(code, weights=y) / size
    right = np.minimum(np.searchsorted(values, asking), len(values) - 1)
    left = np.maximum(right - 1, 0)
    far_left, far_right = np.abs(asking - values[left]), np.abs(values[right] - asking)
    take_left = (far_left <= far_right) & (left != right)
    take_right = (far_right <= far_left) | (left == right)
    share_left = np.where(take_left & take_right, size[left] / (size[left] + size[right]), take_left)
    imputed = share_left * mean[left] + (1 - share_left) * mean[right]
    within = np.bincount(code, weights=(y - mean[code]) ** 2) / size
    spread = share_left * (within[left] + (mean[left] - imputed) ** 2)
    spread += (1 - share_left) * (within[right] + (mean[right] - imputed) ** 2)
    used = np.bincount(left, share_left, len(values)) + np.bincount(right, 1 - share_left, len(values))
    return imputed, spread, (used / size)[code]


def balance_table(
    X: FloatArray, names: AnyArray, treatment: IntArray, weight: FloatArray | None, *, estimand: str, method: str
) -> BalanceResult:
    """Standardised mean differences and variance ratios (treated over control), before and after an adjustment.

    Parameters
    ----------
    X : array of shape (n, p), names : array of shape (p,), treatment : 0/1 array of shape (n,)
    weight : array of shape (n,) or None
        The weight of each unit within its arm; None: no adjustment, so that after equals before.
    estimand : {"ate", "att", "atc"}
        Differences are divided by the standard deviation of the treated (att), of the controls (atc), or the root of
        the mean of both variances (ate), before adjustment in both columns; where that is zero, by the standard
        deviation over all units. A covariate that is constant over all units has difference 0.
    method : str
        What the weights come from, for the result.

    Notes
    -----
    The variance has divisor n - 1, weighted Σw - Σw²/Σw; that of a 0/1 covariate is p(1 - p).
    """
    check_estimand(estimand)
    check_length(len(names), X.shape[1], name="names")
    _check_arms(treatment)
    binary = np.asarray(np.isin(X, (0.0, 1.0)).all(axis=0))
    ones = np.ones(len(X))
    before = [_arm_moments(X, binary, treatment == arm, ones) for arm in (0, 1)]
    after = before if weight is None else [_arm_moments(X, binary, treatment == arm, weight) for arm in (0, 1)]
    var = {"ate": (before[0][1] + before[1][1]) / 2, "att": before[1][1], "atc": before[0][1]}[estimand]
    whole = _arm_moments(X, binary, ones > 0, ones)[1]
    scale = np.sqrt(np.where(var > 0, var, np.where(whole > 0, whole, 1.0)))
    smd = [(treated[0] - control[0]) / scale for control, treated in (before, after)]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = [treated[1] / control[1] for control, treated in (before, after)]
    worst = [float(np.abs(s).max(initial=0.0)) for s in smd]
    denominator = {"ate": "both arms", "att": "the treated", "atc": "the controls"}[estimand]
    return BalanceResult(
        n_obs=len(X), max_abs_smd_before=worst[0], max_abs_smd_after=worst[1], threshold=BALANCE_THRESHOLD,
        balanced=worst[1] <= BALANCE_THRESHOLD, denominator=f"standard deviation of {denominator}", method=method,
        covariate=names, smd_before=smd[0], smd_after=smd[1], variance_ratio_before=ratios[0],
        variance_ratio_after=ratios[1],
    )  # fmt: skip


def _arm_moments(X: FloatArray, binary: AnyArray, arm: AnyArray, w: FloatArray) -> tuple[FloatArray, FloatArray]:
    rows, weight = X[arm], w[arm]
    mean = np.average(rows, axis=0, weights=weight)
    var = np.average((rows - mean) ** 2, axis=0, weights=weight)
    effective = float(weight.sum() ** 2 / (weight**2).sum())
    unbiased = var * effective / (effective - 1) if effective > 1 else np.zeros_like(var)
    return mean, np.where(binary, mean * (1 - mean), unbiased)


__all__ = ["Match", "balance_table", "design_matrix", "fit_propensity", "match_nearest"]
