"""Critical values for several estimates at once: the largest of correlated normal variables."""

from __future__ import annotations

import numpy as np

from causalrec._typing import BoolArray, FloatArray, RandomState

_DRAWS = 4000


def normal_draws(covariance: FloatArray, *, rng: RandomState, draws: int = _DRAWS) -> FloatArray:
    """Draws of centred normal variables with this covariance, shape (draws, m).

    Antithetic: every draw comes with its mirror image, which steadies symmetric quantiles.
    """
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    half = np.random.default_rng(rng).standard_normal((-(-draws // 2), len(values)))
    return np.asarray(np.vstack([half, -half]) @ root.T)


def largest_quantile(draws: FloatArray, scale: FloatArray, level: float) -> float:
    """The quantile of the largest of variables, each over its scale; those with a scale of zero are left out.

    With absolute draws this is the critical value of a two-sided band over all (max-t; Montiel Olea and
    Plagborg-Møller 2019, Journal of Applied Econometrics 34, "Simultaneous confidence bands: theory, implementation,
    and an application to SVARs", section 3).
    """
    known = scale > 0
    if not known.any():
        return 0.0
    return float(np.quantile((draws[:, known] / scale[known]).max(axis=1), level))


def shortfall(
    estimate: FloatArray, covariance: FloatArray, level: float, *, rng: RandomState
) -> tuple[FloatArray, FloatArray]:
    r"""Bounds of how far each of several estimates lies below the best of them, whichever that is.

    Multiple comparisons with the best (Hsu 1984, Annals of Statistics 12, "Constrained simultaneous confidence
    intervals for multiple comparisons with the best"), with unequal, correlated errors. For each i the differences
    :math:`\theta_j - \theta_i` get two-sided simultaneous intervals of their own critical value; the largest lower and
    the largest upper bound, not below zero, bound :math:`\max_j \theta_j - \theta_i`.

    Returns
    -------
    low, high : arrays of shape (m,)
        Each pair covers with at least ``level``.
    """
    draws = normal_draws(covariance, rng=rng)
    low, high = np.zeros(len(estimate)), np.zeros(len(estimate))
    for i in range(len(estimate)):
        spread, gap = _differences(covariance, i), estimate - estimate[i]
        reach = largest_quantile(np.abs(draws - draws[:, [i]]), spread, level) * spread
        low[i], high[i] = (gap - reach).max(), (gap + reach).max()
    return np.maximum(low, 0.0), np.maximum(high, 0.0)


def may_be_best(estimate: FloatArray, covariance: FloatArray, level: float, *, rng: RandomState) -> BoolArray:
    """The set of estimates that may be the best: it holds the truly best one with at least ``level``.

    One is left out when some other is higher by more than the largest of all differences from it would be by chance
    (one-sided tests turned around, as in :func:`shortfall`). Where several are truly best, each is held that often.

    Returns
    -------
    bool array of shape (m,)
    """
    draws = normal_draws(covariance, rng=rng, draws=_DRAWS // 2)
    inside = np.ones(len(estimate), dtype=bool)
    for i in range(len(estimate)):
        spread = _differences(covariance, i)
        known = spread > 0
        if known.any():
            worst = float(((estimate[known] - estimate[i]) / spread[known]).max())
            inside[i] = worst <= largest_quantile(draws - draws[:, [i]], spread, level)
    return inside


def _differences(covariance: FloatArray, i: int) -> FloatArray:
    """Standard errors of the differences of all estimates from one of them; those that are mere rounding are zero."""
    variance = np.diag(covariance)
    spread = np.sqrt(np.maximum(variance + variance[i] - 2 * covariance[i], 0.0))
    return np.where(spread > 1e-7 * np.sqrt(variance.max(initial=0.0)), spread, 0.0)
