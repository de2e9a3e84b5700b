"""Effects in the top of an order, as values and as influence functions in that order."""

from __future__ import annotations

import math

import numpy as np

from causalrec._typing import BoolArray, FloatArray
from causalrec.evaluation._ranked import Ranked, effect_at_cut


def subset_effect(ranked: Ranked, inside: BoolArray) -> tuple[float, FloatArray]:
    """The average effect in a subset, and its influence function (zero outside).

    The mean of doubly robust scores, or the difference of the arms' means, weighted by inverse probability.
    """
    return _mean_of_scores(ranked, inside) if ranked.doubly_robust else _difference_of_means(ranked, inside)


def _mean_of_scores(ranked: Ranked, inside: BoolArray) -> tuple[float, FloatArray]:
    weight = ranked.weight * inside
    total = float(weight.sum())
    estimate = float(weight @ ranked.gamma) / total
    return estimate, weight * (ranked.gamma - estimate) * (ranked.n / total)


def _difference_of_means(ranked: Ranked, inside: BoolArray) -> tuple[float, FloatArray]:
    n = ranked.n
    influence = np.zeros(n)
    estimate = 0.0
    for arm, sign in ((1, 1.0), (0, -1.0)):
        rows = np.flatnonzero(inside & (ranked.arm == arm))
        e = ranked.propensity(arm)
        weight, m = ranked.weight[rows] / (e if np.ndim(e) == 0 else e[rows]), len(rows)
        mean = float(np.average(ranked.y[rows], weights=weight))
        estimate += sign * mean
        # With equal weights and no clusters the error is then exactly Welch's, with a denominator of m - 1.
        scale = math.sqrt(m / (m - 1) * (n - 1) / n) if ranked.clusters is None else 1.0
        influence[rows] = sign * n * scale * weight * (ranked.y[rows] - mean) / weight.sum()
    return estimate, influence


def top_effect(ranked: Ranked, top: BoolArray) -> tuple[float, FloatArray]:
    """The effect in a top of the order, and its influence function, counting that the cut-off is estimated.

    A unit above the cut pushes the cut up: (effect in the top - effect at the cut) / q each, centred.
    """
    estimate, influence = subset_effect(ranked, top)
    q = float(ranked.weight @ top) / ranked.n
    push = (estimate - float(effect_at_cut(ranked, np.array([q]))[0])) / q
    influence += push * ranked.weight * (top - q)
    return estimate, influence
