"""Balance of covariates between the arms, before and after an adjustment."""

from __future__ import annotations

import numpy as np

from causalrec._typing import AnyArray, FloatArray, IntArray
from causalrec._validation import check_length
from causalrec.observational.design import check_arms, check_estimand
from causalrec.results import BalanceResult

BALANCE_THRESHOLD = 0.1


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
    check_arms(treatment)
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
