"""Critical values for several estimates at once: the largest of correlated normal variables."""

from __future__ import annotations

import numpy as np

from causalrec._typing import FloatArray, RandomState

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


def best_set(
    estimate: FloatArray, covariance: FloatArray, level: float, *, rng: RandomState
) -> tuple[FloatArray, FloatArray, FloatArray]:
    r"""How far each of several estimates lies below the best of them, with honest bounds.

    Multiple comparisons with the best (Hsu 1984, Annals of Statistics 12, "Constrained simultaneous confidence
    intervals for multiple comparisons with the best"), with unequal, correlated errors. For each i the differences
    :math:`\theta_j - \theta_i` get two-sided simultaneous intervals of their own critical value; the largest lower and
    the largest upper bound, not below zero, bound :math:`\max_j \theta_j - \theta_i`.

    Returns
    -------
    low, high : arrays of shape (m,)
        Bounds of the shortfall of each; each pair covers with at least ``level``.
    one_sided_low : array of shape (m,)
        Lower bound alone, at ``level``. Where it is zero the estimate may be the best: these form a set that holds the
        best with at least ``level``.
    """
    m = len(estimate)
    draws = normal_draws(covariance, rng=rng)
    variance = np.diag(covariance)
    low, high, single = np.zeros(m), np.zeros(m), np.zeros(m)
    for i in range(m):
        spread = np.sqrt(np.maximum(variance + variance[i] - 2 * covariance[i], 0.0))
        spread[spread <= 1e-12 * np.sqrt(variance.max(initial=0.0))] = 0.0
        gap = estimate - estimate[i]
        apart = draws - draws[:, [i]]
        two = largest_quantile(np.abs(apart), spread, level)
        low[i] = (gap - two * spread).max()
        high[i] = (gap + two * spread).max()
        single[i] = (gap - largest_quantile(apart, spread, level) * spread).max()
    return np.maximum(low, 0.0), np.maximum(high, 0.0), np.maximum(single, 0.0)
