"""Doubly robust scores, average effects with honest errors, and losses that judge effects without knowing them.

Pure functions on arrays. Arms are coded 0..k-1, control first; ``outcomes`` and ``propensity`` have shape (n, k) and
come from models that did not see the row (or from the design).
"""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy import stats

from causalrec._typing import FloatArray, IntArray
from causalrec._validation import check_length, list_some
from causalrec.exceptions import CausalRecError, TreatmentError
from causalrec.results import EffectResult

Estimand: TypeAlias = Literal["ate", "att", "atc"]


def aipw_scores(y: FloatArray, codes: IntArray, outcomes: FloatArray, propensity: FloatArray) -> FloatArray:
    """Scores whose mean is the mean outcome under each arm, shape (n, k).

    μ_a(x) + 1{t = a} (y - μ_a(x)) / e_a(x) (Robins, Rotnitzky and Zhao 1994, JASA 89; cross-fitted as in Chernozhukov
    et al. 2018, Econometrics Journal 21, section 5.1).

    Examples
    --------
    >>> aipw_scores(np.array([3.0]), np.array([1]), np.array([[1.0, 2.0]]), np.array([[0.5, 0.5]])).tolist()
    [[1.0, 4.0]]
    """
    rows = np.arange(len(y))
    scores = outcomes.astype(np.float64, copy=True)
    scores[rows, codes] += (y - outcomes[rows, codes]) / propensity[rows, codes]
    return scores


def effect_influence(
    y: FloatArray,
    codes: IntArray,
    outcomes: FloatArray,
    propensity: FloatArray,
    *,
    arm: int = 1,
    estimand: Estimand = "ate",
) -> tuple[FloatArray, FloatArray]:
    """Numerator and denominator, each of shape (n,), of a doubly robust average effect of an arm against control.

    The effect is the ratio of their weighted sums. For the ate the numerator is the difference of
    :func:`aipw_scores` and the denominator 1. For the att it is
    1{t = a}(y - μ_0) - 1{t = 0} (e_a / e_0)(y - μ_0) over 1{t = a}, and for the atc the same with the arms exchanged
    (Hahn 1998, Econometrica 66; Chernozhukov et al. 2018, equation 5.4). With more than two arms the att is that of
    the units of this arm.
    """
    if estimand == "ate":
        scores = aipw_scores(y, codes, outcomes, propensity)
        return scores[:, arm] - scores[:, 0], np.ones(len(y))
    sign, own, other = {"att": (1.0, arm, 0), "atc": (-1.0, 0, arm)}[estimand]
    gap = y - outcomes[:, other]
    odds = propensity[:, own] / propensity[:, other]
    share = (codes == own).astype(np.float64)
    return sign * gap * (share - (codes == other) * odds), share


def average_of_scores(
    numerator: FloatArray,
    denominator: FloatArray,
    *,
    weight: FloatArray | None = None,
    clusters: IntArray | None = None,
) -> tuple[float, float]:
    """A ratio of weighted sums and its standard error, robust or by cluster.

    The error is the root of Σ_g (Σ_{i in g} w_i (a_i - θ b_i))² · G / (G - 1), over Σ w_i b_i, with rows as their own
    clusters by default: for equal weights the sample standard deviation over the root of n.

    Parameters
    ----------
    numerator, denominator : arrays of shape (n,)
    weight : array of shape (n,), optional
    clusters : int array of shape (n,), optional

    Examples
    --------
    >>> estimate, std_error = average_of_scores(np.array([1.0, 2.0, 3.0]), np.ones(3))
    >>> estimate, round(std_error, 6)
    (2.0, 0.57735)
    """
    weight = np.ones(len(numerator)) if weight is None else weight
    total = float(weight @ denominator)
    estimate = float(weight @ numerator) / total
    gap: FloatArray = weight * (numerator - estimate * denominator)
    weights: FloatArray = weight
    if clusters is not None:
        gap = np.asarray(np.bincount(clusters, weights=gap), dtype=np.float64)
        weights = np.asarray(np.bincount(clusters, weights=weight), dtype=np.float64)
    units = int((weights > 0).sum())
    if units < 2:
        return estimate, float("nan")
    return estimate, math.sqrt(float(gap @ gap) * units / (units - 1)) / abs(total)


def effect_result(
    estimate: float, std_error: float, *, confidence_level: float, n_obs: int, method: str, estimand: str
) -> EffectResult:
    """An estimate with its normal interval and two-sided p-value; an error of NaN or 0 gives NaN."""
    half = float(stats.norm.isf((1 - confidence_level) / 2)) * std_error
    pvalue = float(2 * stats.norm.sf(abs(estimate) / std_error)) if std_error > 0 else float("nan")
    return EffectResult(
        estimate, std_error, estimate - half, estimate + half, pvalue, confidence_level, n_obs, method, estimand
    )  # fmt: skip


def arm_code(arm: Any, labels: tuple[Any, ...]) -> int:
    """The code of an arm other than control; None is the only one of two arms.

    Raises
    ------
    TreatmentError
        For an unknown arm, or none where there are several.
    """
    if arm is None:
        if len(labels) == 2:
            return 1
        raise TreatmentError(f"there are {len(labels)} arms; say which with arm=: {list_some(labels[1:])}.")
    if arm not in labels[1:]:
        raise TreatmentError(f"arm={arm!r} is no arm other than control; expected {list_some(labels[1:])}.")
    return labels.index(arm)


def check_effects(uplift: FloatArray, n_rows: int, n_arms: int) -> FloatArray:
    """Effects as a table of shape (n, k - 1); (n,) is taken for two arms.

    Raises
    ------
    CausalRecError
        For another shape, or missing or infinite values.
    """
    table = np.asarray(uplift, dtype=np.float64)
    if table.ndim == 1:
        table = table[:, None]
    check_length(len(table), n_rows, name="uplift")
    if table.ndim != 2 or table.shape[1] != n_arms - 1:
        raise CausalRecError(
            f"uplift has shape {np.shape(uplift)}; expected ({n_rows},) for two arms or ({n_rows}, {n_arms - 1}) here."
        )
    bad = int((~np.isfinite(table)).any(axis=1).sum())
    if bad:
        raise CausalRecError(f"uplift is missing or infinite in {bad} of {n_rows} rows; score every row.")
    return table


def r_losses(
    uplift: FloatArray, y: FloatArray, codes: IntArray, mean_outcome: FloatArray, propensity: FloatArray
) -> FloatArray:
    """The R-loss of every row, shape (n,): (y - m(x) - Σ_a (1{t = a} - e_a(x)) τ_a(x))².

    Nie and Wager 2021, Biometrika 108, "Quasi-oracle estimation of heterogeneous treatment effects", equation 4; the
    sum over arms other than control for more than two.

    Parameters
    ----------
    uplift : array of shape (n, k - 1)
    """
    taken = codes[:, None] == np.arange(1, uplift.shape[1] + 1)
    return np.asarray((y - mean_outcome - ((taken - propensity[:, 1:]) * uplift).sum(axis=1)) ** 2)


def dr_losses(uplift: FloatArray, effect_scores: FloatArray) -> FloatArray:
    """The DR-loss of every row, shape (n,): (Γ_a - τ_a(x))², averaged over arms other than control.

    Γ is the doubly robust score of the effect (Kennedy 2023, Electronic Journal of Statistics 17, "Towards optimal
    doubly robust estimation of heterogeneous causal effects").

    Parameters
    ----------
    uplift, effect_scores : arrays of shape (n, k - 1)
    """
    return np.asarray(((effect_scores - uplift) ** 2).mean(axis=1))
