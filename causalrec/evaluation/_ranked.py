"""Units in the order of a score, and the influence functions of what is averaged over that order.

An influence function says how far each unit moves an estimate; the standard error is the root of the sum of its
squares (of its sums by cluster) over n. Everything here takes and gives arrays in the order of the score.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from causalrec._typing import BoolArray, FloatArray, IntArray
from causalrec._validation import (
    check_length,
    check_propensity,
    check_treatment,
    check_two_arms,
    check_vector,
    check_weights,
)
from causalrec.exceptions import CausalRecError, OutcomeError, TreatmentError
from causalrec.results import NAN

# Share of the units on either side of a cut over which the slope of the gain curve is taken.
_WINDOW = 0.05


@dataclass(frozen=True, eq=False)
class Ranked:
    """Units sorted by predicted uplift, best first.

    Attributes
    ----------
    y, uplift, arm, e : arrays of shape (n,)
        Outcome, prediction, 0/1 treatment and P(treated).
    weight : array of shape (n,)
        Scaled to a mean of one; units of weight zero are left out.
    gamma, residual : arrays of shape (n,)
        The scores of the module docstring of :mod:`causalrec.evaluation.uplift`, and outcome minus arm mean.
    rank : array of shape (n,)
        Mid-rank as a share in (0, 1); equal predictions share it.
    group_end : int array
        Index of the last unit of every group of equal predictions.
    clusters : int array of shape (n,), or None
    known : bool
        Whether ``e`` was given; else it is the share treated.
    """

    y: FloatArray
    uplift: FloatArray
    arm: IntArray
    weight: FloatArray
    gamma: FloatArray
    residual: FloatArray
    rank: FloatArray
    group_end: IntArray
    clusters: IntArray | None
    e: FloatArray
    known: bool

    @property
    def share_influence(self) -> FloatArray:
        """How far each unit moves the estimated share treated; zero where the propensity is known."""
        return np.zeros(len(self.y)) if self.known else self.weight * (self.arm - self.e)

    @property
    def share_slope(self) -> FloatArray:
        """Minus the derivative of every unit's gamma with respect to the share treated."""
        return np.asarray(self.residual * (self.arm / self.e**2 + (1 - self.arm) / (1 - self.e) ** 2))


def rank_units(
    y: Any, uplift: Any, treatment: Any, propensity: Any, sample_weight: Any, clusters: Any, control: object
) -> Ranked:
    """Check the inputs and sort them by predicted uplift."""
    outcome = check_vector(y, name="y")
    n = len(outcome)
    score = check_vector(uplift, name="uplift", n_rows=n)
    arm, labels = check_treatment(treatment, n_rows=n, control=control)
    check_two_arms(labels, what="an uplift metric")
    weight = check_weights(sample_weight, n_rows=n)
    group = None if clusters is None else _cluster_codes(clusters, n)
    if outcome.min() == outcome.max():
        raise OutcomeError(
            f"y is {outcome[0]:g} in all {n} rows, so no unit can gain more than another. Check that it is the "
            "outcome you mean."
        )
    share = float(np.average(arm, weights=weight))
    if not 0 < share < 1:
        raise TreatmentError("one arm has no weight, and an effect needs both. Check sample_weight.")
    e = np.full(n, share) if propensity is None else check_propensity(propensity, n_rows=n)
    order = np.argsort(-score, kind="stable")
    order = order[weight[order] > 0]
    return _ranked(
        outcome[order], score[order], arm[order], weight[order] / weight[order].mean(), e[order],
        None if group is None else group[order], known=propensity is not None,
    )  # fmt: skip


def _cluster_codes(clusters: Any, n: int) -> IntArray:
    values = pd.Series(np.asarray(clusters))
    check_length(len(values), n, name="clusters")
    n_missing = int(values.isna().sum())
    if n_missing:
        raise CausalRecError(
            f"clusters: {n_missing} of {n} values are missing. Give each such row a cluster of its own, or drop it."
        )
    return np.asarray(pd.factorize(values)[0], dtype=np.int64)


def _ranked(
    y: FloatArray, uplift: FloatArray, arm: IntArray, weight: FloatArray, e: FloatArray, clusters: Any, *, known: bool
) -> Ranked:
    n = len(y)
    starts = np.flatnonzero(np.r_[True, uplift[1:] != uplift[:-1]])
    ends = np.r_[starts[1:], n] - 1
    above = np.cumsum(weight)[ends]
    middle = (np.r_[0.0, above[:-1]] + above) / 2 / above[-1]
    # The effective inverse-probability weights; with a constant propensity these are the plain means of the arms.
    means = [np.average(y[arm == a], weights=(weight / np.where(arm == 1, e, 1 - e))[arm == a]) for a in (0, 1)]
    residual = y - np.where(arm == 1, means[1], means[0])
    return Ranked(
        y=y, uplift=uplift, arm=arm, weight=weight, residual=residual,
        gamma=means[1] - means[0] + residual * (arm / e - (1 - arm) / (1 - e)),
        rank=np.repeat(middle, np.diff(np.r_[starts, n])), group_end=ends, clusters=clusters, e=e, known=known,
    )  # fmt: skip


def area_score(ranked: Ranked, centre: float) -> tuple[float, FloatArray]:
    """The integral of C(q) - 2 centre q C(1) over q in (0, 1), and its influence function.

    By partial summation the integral of C is the mean of gamma (1 - rank), and that of q C(1) is half the mean.
    The influence function has two terms, as for any rank statistic: the unit's own contribution, and its push on the
    ranks of the units below it. An estimated share treated brings a third.
    """
    w, n = ranked.weight, len(ranked.y)
    if centre == 0.5 and len(ranked.group_end) == 1:
        return 0.0, np.zeros(n)
    multiplier = 1 - ranked.rank - centre
    estimate = float(np.mean(w * ranked.gamma * multiplier))
    gain = np.cumsum(w * ranked.gamma)[ranked.group_end]
    size = np.diff(np.r_[-1, ranked.group_end])
    below = np.repeat(gain[-1] - (np.r_[0.0, gain[:-1]] + gain) / 2, size) / n
    influence = w * (ranked.gamma * multiplier - below) - np.mean(w * multiplier * ranked.share_slope) * (
        ranked.share_influence
    )
    influence = influence - w * np.mean(influence)
    return estimate, influence * (math.sqrt(n / (n - 1)) if ranked.clusters is None else 1.0)


def subset_effect(ranked: Ranked, inside: BoolArray) -> tuple[float, FloatArray]:
    """Difference of the arms' weighted means in a subset, and its influence function (zero outside)."""
    n = len(ranked.y)
    influence = np.zeros(n)
    estimate = 0.0
    for arm, sign, e in ((1, 1.0, ranked.e), (0, -1.0, 1 - ranked.e)):
        rows = inside & (ranked.arm == arm)
        weight, m = ranked.weight[rows] / e[rows], int(rows.sum())
        mean = float(np.average(ranked.y[rows], weights=weight))
        estimate += sign * mean
        # With equal weights and no clusters this is exactly Welch's variance, denominator m - 1.
        scale = math.sqrt(m / (m - 1)) if ranked.clusters is None else 1.0
        influence[rows] = sign * n * scale * weight * (ranked.y[rows] - mean) / weight.sum()
    return estimate, influence


def top_effect(ranked: Ranked, top: BoolArray) -> tuple[float, FloatArray]:
    """The effect in a top of the order, and its influence function, counting that the cut-off is estimated.

    A unit above the cut pushes the cut up: (effect in the top - effect at the cut) / q each, centred.
    """
    estimate, influence = subset_effect(ranked, top)
    q = float(np.sum(ranked.weight[top]) / len(top))
    push = (estimate - float(_effect_at_cut(ranked, np.array([q]))[0])) / q
    return estimate, influence + push * ranked.weight * (top - q)


def gain_curve(ranked: Ranked, ends: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Share treated q, gain C(q) and its standard error where the first ``end + 1`` units are treated.

    C(q) is the gain of treating the best share q of the *population*, so the cut itself is estimated: a unit above it
    counts with gamma - tau(q), where tau(q), the effect at the cut, is the slope of the curve in a window around it.
    """
    w, n = ranked.weight, len(ranked.y)
    q, gain = np.cumsum(w)[ends] / n, np.cumsum(w * ranked.gamma)[ends] / n
    tau = _effect_at_cut(ranked, q)
    slope = np.cumsum(w * ranked.share_slope)[ends] / n
    rest = q * tau - gain
    share = ranked.share_influence
    if ranked.clusters is not None:
        value = w * ranked.gamma
        above = np.arange(n)
        errors = [
            std_error(np.where(above <= end, value - w * tau[i], 0.0) + w * rest[i] - slope[i] * share, ranked.clusters)
            for i, end in enumerate(ends)
        ]
        return q, gain, np.array(errors)
    # The same sum of squares, multiplied out, so that every point costs one look-up in cumulative sums.
    first, second, ones, cross, weighted_share = (
        np.cumsum(v)[ends]
        for v in (w**2 * ranked.gamma, (w * ranked.gamma) ** 2, w**2, w * ranked.gamma * share, w * share)
    )
    squares = second - 2 * tau * first + tau**2 * ones
    squares += 2 * rest * (first - tau * ones) + rest**2 * (w**2).sum()
    squares += slope**2 * (share**2).sum() - 2 * slope * (cross - tau * weighted_share + rest * (w * share).sum())
    return q, gain, np.sqrt(np.maximum(squares, 0.0) / (n * (n - 1)))


def _effect_at_cut(ranked: Ranked, q: FloatArray) -> FloatArray:
    """Slope of the gain curve around each share q; straight across ties, so row order does not matter."""
    w, n, ends = ranked.weight, len(ranked.y), ranked.group_end
    share, gain = np.r_[0.0, np.cumsum(w)[ends] / n], np.r_[0.0, np.cumsum(w * ranked.gamma)[ends] / n]
    reach = max(_WINDOW, 1 / n)
    low, high = np.maximum(q - reach, 0.0), np.minimum(q + reach, 1.0)
    rise = np.interp(high, share, gain) - np.interp(low, share, gain)
    return np.asarray(rise / (high - low))


def std_error(influence: FloatArray, clusters: IntArray | None) -> float:
    """Standard error of an estimate from its influence function; NaN for a single cluster."""
    n = len(influence)
    if clusters is None:
        return float(np.sqrt((influence**2).sum()) / n)
    sums = np.bincount(clusters)
    sums = np.bincount(clusters, weights=influence)[sums > 0]
    g = len(sums)
    return float(np.sqrt((sums**2).sum() * g / (g - 1)) / n) if g > 1 else NAN
