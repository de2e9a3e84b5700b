"""Robust standard errors of Cox's model.

Not lifelines', which have everybody at risk from the start whatever the entry, and which with tied events are not those
of Efron's likelihood (both equal these where there are neither).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from causalrec._typing import AnyArray, FloatArray, IntArray


def influences(
    X: FloatArray,
    beta: FloatArray,
    variance: FloatArray,
    *,
    durations: FloatArray,
    observed: AnyArray,
    entry: FloatArray,
    weights: FloatArray,
    strata: AnyArray,
) -> FloatArray:
    """How much each unit moves the coefficients (R's dfbeta): weight x score residual x variance, of shape (n, k).

    Parameters
    ----------
    X : float array of shape (n, k)
    beta : float array of shape (k,)
    variance : float array of shape (k, k)
        The model's own: the inverse of the information.
    durations, observed, entry, weights, strata : arrays of shape (n,)

    Notes
    -----
    Therneau and Grambsch (2000), Modeling Survival Data, section 7.2; with Efron's ties it is the derivative of the
    estimate with respect to the unit's weight, times that weight.
    """
    scores = np.zeros_like(X)
    for stratum in np.unique(strata):
        rows = strata == stratum
        scores[rows] = _score_residuals(
            X[rows], X[rows] @ beta, durations[rows], observed[rows], entry[rows], weights[rows]
        )
    return np.asarray((weights[:, None] * scores) @ variance, dtype=np.float64)


def robust_errors(influence: FloatArray, clusters: IntArray | None) -> FloatArray:
    """Standard errors: the root of the squared influences of units, or of clusters, added up (Lin and Wei 1989)."""
    parts = influence if clusters is None else pd.DataFrame(influence).groupby(clusters).sum().to_numpy()
    return np.asarray(np.sqrt((parts**2).sum(axis=0)), dtype=np.float64)


def _score_residuals(
    x: FloatArray, log_risk: FloatArray, durations: FloatArray, observed: AnyArray, entry: FloatArray, w: FloatArray
) -> FloatArray:
    """Each unit's observed less expected covariates over its time at risk; Efron's share of tied events."""
    risk = np.exp(log_risk)
    times, tied = np.unique(durations[observed], return_inverse=True)
    if not len(times):
        return np.zeros_like(x)
    mass = np.column_stack([w * risk, (w * risk)[:, None] * x])  # S0 and S1
    at_risk = _sum_from(durations, mass, times) - _sum_from(entry, mass, times)
    ties = np.zeros((len(times), mass.shape[1]))
    np.add.at(ties, tied, mass[observed])
    count = np.bincount(tied, minlength=len(times))
    mean_weight = np.bincount(tied, weights=w[observed], minlength=len(times)) / count
    full, half, centre = (np.zeros((len(times), mass.shape[1])) for _ in range(3))
    for order in range(int(count.max())):
        live = count > order
        share = order / count[live]
        left = at_risk[live] - share[:, None] * ties[live]
        means = np.column_stack([np.ones(int(live.sum())), left[:, 1:] / left[:, :1]])
        step = (mean_weight[live] / left[:, 0])[:, None] * means
        full[live] += step
        half[live] += share[:, None] * step
        centre[live] += means / count[live][:, None]
    passed = np.vstack([np.zeros(mass.shape[1]), np.cumsum(full, axis=0)])
    hazard = passed[np.searchsorted(times, durations, side="right")] - passed[
        np.searchsorted(times, entry, side="right")
    ]  # fmt: skip
    hazard[observed] -= half[tied]
    scores = -risk[:, None] * (hazard[:, :1] * x - hazard[:, 1:])
    scores[observed] += x[observed] - centre[tied, 1:]
    return np.asarray(scores, dtype=np.float64)


def _sum_from(start: FloatArray, mass: FloatArray, times: FloatArray) -> FloatArray:
    """Sums of the rows with start >= each time."""
    order = np.argsort(start)
    total = np.vstack([np.cumsum(mass[order][::-1], axis=0)[::-1], np.zeros(mass.shape[1])])
    return np.asarray(total[np.searchsorted(start[order], times, side="left")], dtype=np.float64)
