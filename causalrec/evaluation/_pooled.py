"""Variances of groups' effects that are pooled over groups and arms, for outcomes that are rare."""

from __future__ import annotations

import numpy as np

from causalrec._typing import FloatArray, IntArray
from causalrec.evaluation._ranked import Ranked


def pooled_covariance(ranked: Ranked, group: IntArray, moved: FloatArray, covariance: FloatArray) -> FloatArray:
    """The (diagonal) covariance of the gaps with pooled variances of the effects."""
    own = np.bincount(group, weights=moved**2, minlength=len(covariance))
    if not np.isfinite(own).all():
        return covariance
    if ranked.doubly_robust:
        share = ranked.weight / np.bincount(group, weights=ranked.weight)[group]
        spread = ranked.gamma - np.bincount(group, weights=share * ranked.gamma)[group]
    else:
        spread, share = np.zeros(ranked.n), np.zeros(ranked.n)
        for arm in (0, 1):
            rows = np.flatnonzero(ranked.arm == arm)
            e, place = ranked.propensity(arm), group[rows]
            weight = ranked.weight[rows] / (e if np.ndim(e) == 0 else e[rows])
            share[rows] = weight / np.bincount(place, weights=weight)[place]
            spread[rows] = ranked.y[rows] - np.bincount(place, weights=share[rows] * ranked.y[rows])[place]
    pooled = pooled_squares(spread, share, ranked.arm, group)
    seen = np.diag(covariance)
    return np.diag(np.where(own > 0, seen * pooled / np.where(own > 0, own, 1.0), seen + pooled))


def pooled_squares(spread: FloatArray, share: FloatArray, arm: IntArray, group: IntArray) -> FloatArray:
    r"""Variances of the groups' effects, shape (g,), where the variance of an outcome is that of its group times a
    factor of its arm: :math:`\sum_{i \in g} s_i^2 r_{a_i} v_g`.

    An arm that is small in a group and whose outcomes are rare has a variance of its own that says little: it is
    smallest just when its mean is, so that small effects look certain.

    Parameters
    ----------
    spread : array of shape (n,)
        Outcomes less the mean of their arm in the group; zero in arms that do not count.
    share : array of shape (n,)
        Weight of each row in that mean.
    arm, group : int arrays of shape (n,)

    Examples
    --------
    >>> one = np.array([1.0, -1.0, 0.5, -0.5])
    >>> pooled_squares(np.r_[one, 2 * one], np.full(8, 0.5), np.tile([1, 1, 0, 0], 2), np.repeat([0, 1], 4)).tolist()
    [1.25, 5.0]
    """
    squares, found = spread**2, np.zeros(int(group.max()) + 1)
    of_group = np.bincount(group, weights=squares * (share > 0)) / np.maximum(np.bincount(group, weights=share > 0), 1)
    for each in np.unique(arm[share > 0]):
        rows = np.flatnonzero((arm == each) & (share > 0))
        expected, count = of_group[group[rows]], np.bincount(group[rows], minlength=len(found))
        total = float(expected.sum())
        ratio = float(squares[rows].sum()) / total if total > 0 else 0.0
        lost = (count / np.maximum(count - 1, 1))[group[rows]]
        found += np.bincount(group[rows], weights=share[rows] ** 2 * ratio * expected * lost, minlength=len(found))
    return found
