"""Errors from influences: what every estimator of this package ends with."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from causalrec._typing import FloatArray, IntArray
from causalrec.nuisance.scores import effect_result
from causalrec.results import AdjustedEffect


def sandwich_error(influence: FloatArray, clusters: IntArray | None = None) -> float:
    """The root of Σ_g (Σ_{i in g} ψ_i)², rows being their own clusters; with clusters times G / (G - 1).

    Without clusters no small-sample factor: of a regression's influence this is White's HC0, of a weighted mean what
    generalised estimating equations print. NaN for a single cluster.

    Parameters
    ----------
    influence : array of shape (n,)
        On the scale of a sum: estimate - truth ≈ Σψ_i.
    clusters : int array of shape (n,), optional

    Examples
    --------
    >>> influence = np.array([0.3, -0.4, 0.2])
    >>> round(sandwich_error(influence), 6), round(sandwich_error(influence, np.array([0, 0, 1])), 6)
    (0.538516, 0.316228)
    """
    if clusters is None:
        return math.sqrt(float(influence @ influence))
    groups = np.unique(clusters, return_inverse=True)[1]
    sums = np.bincount(groups, weights=influence)
    if len(sums) < 2:
        return float("nan")
    return math.sqrt(float(sums @ sums) * len(sums) / (len(sums) - 1))


def clustered_by(clusters: IntArray | None) -> str:
    """What a method's text says of clusters: how many there are, since few of them make errors too small."""
    return "" if clusters is None else f", clustered by {len(np.unique(clusters)):,} groups"


def adjusted_effect(
    estimate: float,
    std_error: float,
    *,
    treatment: IntArray,
    confidence_level: float,
    method: str,
    estimand: str,
    weights: FloatArray | None = None,
    **rest: Any,
) -> AdjustedEffect:
    """The result with its normal interval; units and effective sample sizes by arm from ``weights``, if there are any.

    ``rest`` are other fields of :class:`AdjustedEffect`, which go before what is found here.
    """
    base = effect_result(
        estimate, std_error, confidence_level=confidence_level, n_obs=len(treatment), method=method, estimand=estimand
    )
    arms = [treatment == 1, treatment == 0]
    if weights is None:
        found: dict[str, Any] = {"n_treated": int(arms[0].sum()), "n_control": int(arms[1].sum())}
    else:
        used = [np.count_nonzero(weights[arm]) for arm in arms]
        sizes = [effective_size(weights[arm]) for arm in arms]
        found = {
            "n_treated": int(used[0]), "n_control": int(used[1]), "ess_treated": sizes[0], "ess_control": sizes[1],
            "n_obs": int(sum(used)),
        }  # fmt: skip
    return AdjustedEffect(**{**vars(base), **found, "weights": weights, **rest})


def effective_size(weights: FloatArray) -> float:
    """(Σw)² / Σw² (Kish 1965, Survey Sampling); NaN without weight.

    Examples
    --------
    >>> effective_size(np.array([1.0, 1.0, 0.0])), effective_size(np.array([3.0, 1.0]))
    (2.0, 1.6)
    """
    squares = float(weights @ weights)
    return float(weights.sum()) ** 2 / squares if squares > 0 else float("nan")
