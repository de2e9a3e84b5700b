"""Propensity scores, nearest-neighbour matching with Abadie–Imbens errors, and balance; pure functions on arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from causalrec._typing import AnyArray, FloatArray, IntArray
from causalrec._validation import list_some
from causalrec.exceptions import CausalRecError, ColumnError, OverlapError
from causalrec.results import BalanceResult, OverlapResult

BALANCE_THRESHOLD = 0.1
_SEPARATION = 1e-10


def design_matrix(frame: pd.DataFrame) -> tuple[FloatArray, AnyArray]:
    """Numeric columns as they are, categories as 0/1 columns for all levels but the first.

    Returns the matrix (n, p) and the column names. Raises :class:`ColumnError` for missing values.
    """
    missing = frame.columns[frame.isna().any()].tolist()
    if missing:
        raise ColumnError(
            f"covariates {list_some(missing)} have missing values; drop those rows, or fill them with an indicator."
        )
    text = [c for c in frame.columns if not pd.api.types.is_numeric_dtype(frame[c])]
    coded = pd.get_dummies(frame, columns=text, drop_first=True, dtype=float)
    return coded.to_numpy(np.float64), np.array(coded.columns, dtype=object)


def fit_propensity(X: FloatArray, treatment: IntArray) -> FloatArray:
    """P(treated given X) by logistic regression: unpenalised, standardised inside, Newton steps to convergence.

    Parameters
    ----------
    X : array of shape (n, p), treatment : 0/1 array of shape (n,)

    Raises
    ------
    OverlapError
        When the covariates separate the arms, so that the likelihood has no maximum.
    """
    spread = X.std(axis=0)
    used = X[:, spread > 0]
    Z = np.column_stack([np.ones(len(X)), (used - used.mean(axis=0)) / spread[spread > 0]])
    beta = np.zeros(Z.shape[1])
    beta[0] = special.logit(treatment.mean())
    for _ in range(50):
        score = special.expit(Z @ beta)
        weight = score * (1 - score)
        if weight.max() < _SEPARATION or np.abs(Z @ beta).max() > 500:
            break
        hessian = (Z * weight[:, None]).T @ Z
        step = np.linalg.lstsq(hessian, Z.T @ (treatment - score), rcond=None)[0]
        beta = beta + step
        if np.abs(step).max() < 1e-9:
            return np.asarray(special.expit(Z @ beta))
    raise OverlapError(
        "the covariates separate treated from control units perfectly (or nearly): there is nothing to compare. Remove "
        "the covariate that decides the treatment, or restrict the data to where both occur."
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
    Econometrica, "Large sample properties of matching estimators") with the homoskedastic residual variance: half the
    mean squared deviation of the matched contrasts from the effect.

    Examples
    --------
    >>> match = match_nearest(np.array([0.1, 0.2, 0.1, 0.2]), np.array([0, 0, 1, 1]), np.array([1.0, 2.0, 2.0, 3.0]))
    >>> match.estimate
    1.0
    """
    if estimand not in ("ate", "att", "atc"):
        raise CausalRecError(f"estimand is {estimand!r}; expected 'ate', 'att' or 'atc'.")
    n = len(y)
    weight, imputed, spread = np.zeros(n), np.full(n, np.nan), np.zeros(n)
    for arm in {"ate": (0, 1), "att": (1,), "atc": (0,)}[estimand]:
        own, other = np.flatnonzero(treatment == arm), np.flatnonzero(treatment != arm)
        imputed[own], spread[own], weight[other] = _nearest(score[own], score[other], y[other])
    matched = ~np.isnan(imputed)
    contrast = np.where(treatment == 1, y - imputed, imputed - y)[matched]
    estimate = float(contrast.mean())
    # Over pairs, not over units: among tied matches the contrasts vary by the spread of the matches' outcomes.
    variance = float(((contrast - estimate) ** 2 + spread[matched]).mean() / 2)
    factor = (matched + weight) ** 2 if estimand == "ate" else np.where(matched, 1.0, weight) ** 2
    return Match(estimate, math.sqrt(variance * float(factor.sum())) / int(matched.sum()), weight, imputed)


def _nearest(asking: FloatArray, pool: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean and variance of the outcome of each asking unit's nearest pool units, and how often each pool unit serves."""
    values = np.unique(pool)
    code = np.searchsorted(values, pool)
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
    """Standardised mean differences and variance ratios, before and after matching or weighting.

    ``weight`` is added up per unit within its arm (None: no adjustment). Differences are divided by the standard
    deviation of the treated (att), of the controls (atc) or the root mean of both variances (ate) before adjustment;
    for 0/1 covariates by the root of p(1 - p).
    """
    w = np.ones(len(X)) if weight is None else weight
    plain = [_arm_moments(X, treatment, np.ones(len(X)), arm) for arm in (0, 1)]
    after = [_arm_moments(X, treatment, w, arm) for arm in (0, 1)]
    var = {"ate": (plain[0][1] + plain[1][1]) / 2, "att": plain[1][1], "atc": plain[0][1]}[estimand]
    scale = np.sqrt(np.where(var > 0, var, np.nan))
    before = np.nan_to_num((plain[1][0] - plain[0][0]) / scale)
    adjusted = np.nan_to_num((after[1][0] - after[0][0]) / scale)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = [m[1][1] / m[0][1] for m in (plain, after)]
    worst = [float(np.abs(s).max(initial=0.0)) for s in (before, adjusted)]
    denominator = {"ate": "both arms", "att": "the treated", "atc": "the controls"}[estimand]
    return BalanceResult(
        n_obs=len(X), max_abs_smd_before=worst[0], max_abs_smd_after=worst[1], threshold=BALANCE_THRESHOLD,
        balanced=worst[1] <= BALANCE_THRESHOLD, denominator=f"standard deviation of {denominator}", method=method,
        covariate=names, smd_before=before, smd_after=adjusted, variance_ratio_before=ratios[0],
        variance_ratio_after=ratios[1],
    )  # fmt: skip


def _arm_moments(X: FloatArray, treatment: IntArray, w: FloatArray, arm: int) -> tuple[FloatArray, FloatArray]:
    rows, weight = X[treatment == arm], w[treatment == arm]
    mean = np.average(rows, axis=0, weights=weight)
    var = np.average((rows - mean) ** 2, axis=0, weights=weight)
    effective = weight.sum() ** 2 / (weight**2).sum()
    binary = np.isin(rows, (0.0, 1.0)).all(axis=0)
    return mean, np.where(binary, mean * (1 - mean), var * effective / max(effective - 1, 1))


def overlap(propensity: FloatArray, treatment: IntArray) -> OverlapResult:
    """Histograms of the propensity by arm, and the share of units outside the range that both arms share."""
    edges = np.linspace(0, 1, 41)
    arms = [propensity[treatment == arm] for arm in (0, 1)]
    low, high = max(a.min() for a in arms), min(a.max() for a in arms)
    shares = [np.histogram(a, edges)[0] / len(a) for a in arms]
    return OverlapResult(
        n_obs=len(propensity), min_propensity=float(propensity.min()), max_propensity=float(propensity.max()),
        share_outside_common_support=float(((propensity < low) | (propensity > high)).mean()),
        method="logistic propensity", edges=edges, treated=shares[1], control=shares[0],
    )  # fmt: skip


__all__ = ["Match", "balance_table", "design_matrix", "fit_propensity", "match_nearest", "overlap"]
