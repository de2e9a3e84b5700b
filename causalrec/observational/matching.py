"""Nearest-neighbour matching with Abadie–Imbens errors; pure functions on arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from causalrec._typing import FloatArray, IntArray
from causalrec._validation import check_vector
from causalrec.observational.design import check_arms, check_estimand


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
    check_arms(treatment)
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
