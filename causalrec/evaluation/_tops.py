"""Effects in the top of an order, as values and as influence functions in that order."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from causalrec import _ratios
from causalrec._typing import BoolArray, FloatArray, IntArray
from causalrec.evaluation._ranked import Ranked, effect_at_cut, gain_path, group_ends, mid_ranks, slope_at
from causalrec.exceptions import CausalRecError, TreatmentError


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
        influence[rows] = sign * n * _welch(ranked, m) * weight * (ranked.y[rows] - mean) / weight.sum()
    return estimate, influence


def _welch(ranked: Ranked, m: int) -> float:
    """With it, equal weights and no clusters the error of means of m units is exactly Welch's: denominator m - 1."""
    return math.sqrt(m / (m - 1) * (ranked.n - 1) / ranked.n) if ranked.clusters is None else 1.0


def top_effect(ranked: Ranked, top: BoolArray) -> tuple[float, FloatArray]:
    """The effect in a top of the order, and its influence function, counting that the cut-off is estimated.

    A unit above the cut pushes the cut up: (effect in the top - effect at the cut) / q each, centred. The function is
    NaN where the outcomes of an arm do not vary in the top, though elsewhere they do.
    """
    estimate, influence = subset_effect(ranked, top)
    q = float(ranked.weight @ top) / ranked.n
    push = (estimate - float(effect_at_cut(ranked, np.array([q]))[0])) / q
    influence += push * ranked.weight * (top - q)
    if silent_groups(ranked, np.where(top, 0, -1), 1)[0]:
        influence[:] = np.nan
    return estimate, influence


def top_units(ranked: Ranked, k: float) -> BoolArray:
    """The best share k; equal predictions at the cut are in if their middle is, and the first ones always."""
    return np.asarray(ranked.rank <= max(k, float(ranked.rank[0])))


def check_top(ranked: Ranked, top: BoolArray, k: float) -> None:
    """Raise where a top holds fewer than two units of an arm."""
    sizes = [int(np.count_nonzero(top & (ranked.arm == arm))) for arm in (0, 1)]
    if min(sizes) < 2:
        raise TreatmentError(
            f"the top {100 * k:g}% holds {sizes[1]} treated and {sizes[0]} control units; at least two of each are "
            "needed. Take a larger k."
        )


def silent_groups(ranked: Ranked, group: IntArray, n_groups: int) -> BoolArray:
    """Groups in which the outcomes of an arm do not vary, though in others they do, shape (g,); of -1 no group.

    Their variance there is zero, which is no certainty: nobody of a few converted.
    """
    silent = np.zeros(n_groups, dtype=bool)
    for arm in (0, 1):
        of_arm = ranked.arm == arm
        rows = np.flatnonzero(of_arm & (group >= 0))
        low, high = np.full(n_groups, np.inf), np.full(n_groups, -np.inf)
        np.minimum.at(low, group[rows], ranked.y[rows])
        np.maximum.at(high, group[rows], ranked.y[rows])
        if np.ptp(ranked.y[of_arm]) > 0:
            silent |= low >= high
    return silent


def top_by_arm(ranked: Ranked, k: float) -> tuple[float, FloatArray]:
    """The mean of the best share k of the arm less that of the best share k of control, and its influence function.

    With c the mean outcome at the arm's cut, a unit of the arm moves the mean m of its top of share q by
    (y - m) 1{top} / q + (m - c) (1{top} / q - 1).

    Raises
    ------
    CausalRecError
        For doubly robust scores, which are of effects and know no arms.
    TreatmentError
        When the top of an arm has fewer than two units.
    """
    if ranked.doubly_robust:
        raise CausalRecError(
            "strategy='by_group' compares means of the arms, and nuisance gives scores of the effect. Leave nuisance "
            "out, or use strategy='overall'."
        )
    influence = np.zeros(ranked.n)
    estimate = 0.0
    for arm, sign in ((1, 1.0), (0, -1.0)):
        rows = np.flatnonzero(ranked.arm == arm)
        e = ranked.propensity(arm)
        weight, y = ranked.weight[rows] / (e if np.ndim(e) == 0 else e[rows]), ranked.y[rows]
        mean, own = _top_of_arm(ranked, ranked.uplift[rows], weight, y, k)
        estimate += sign * mean
        influence[rows] = sign * ranked.n * own
    return estimate, influence


def _top_of_arm(
    ranked: Ranked, uplift: FloatArray, weight: FloatArray, y: FloatArray, k: float
) -> tuple[float, FloatArray]:
    ends = group_ends(uplift)
    running = np.cumsum(weight)
    rank = mid_ranks(running, ends)
    top = rank <= max(k, float(rank[0]))
    m = int(np.count_nonzero(top))
    if m < 2:
        raise TreatmentError(f"the top {100 * k:g}% of an arm holds {m} unit; two are needed. Take a larger k.")
    total = running[-1]
    q = float(weight @ top) / total
    mean = float(np.average(y[top], weights=weight[top]))
    share, path = (np.append(0.0, v[ends]) / total for v in (running, np.cumsum(weight * y)))
    cut = float(slope_at(share, path, np.array([q]), len(y))[0])
    part = _welch(ranked, m) * (y - mean) * top / q + (mean - cut) * (top / q - 1)
    if np.ptp(y[top]) == 0 < np.ptp(y):
        part[:] = np.nan
    return mean, weight / total * part


@dataclass(frozen=True, eq=False)
class LiftShare:
    """The gain of treating a share of the units, that of treating all, and the influence functions of both."""

    share: float
    gain: float
    total: float
    gain_influence: FloatArray = field(repr=False)
    total_influence: FloatArray = field(repr=False)

    @property
    def above_random(self) -> FloatArray:
        """Influence function of gain - share x total."""
        return self.gain_influence - self.share * self.total_influence

    def estimate_and_influence(self) -> tuple[float, FloatArray]:
        """The ratio gain / total, by the delta method; NaN where the total is zero."""
        if self.total == 0:
            return float("nan"), np.full(len(self.gain_influence), np.nan)
        ratio = self.gain / self.total
        return ratio, (self.gain_influence - ratio * self.total_influence) / self.total

    def fieller(self, ranked: Ranked, level: float) -> tuple[float, float]:
        """Fieller's interval of the ratio."""
        a, b = self.gain_influence, self.total_influence
        var_a, var_b, var_sum = (ranked.error(v) ** 2 for v in (a, b, a + b))
        return fieller_interval(self.gain, self.total, var_a, var_b, (var_sum - var_a - var_b) / 2, level)


def fieller_interval(
    gain: float, total: float, var_gain: float, var_total: float, covariance: float, level: float
) -> tuple[float, float]:
    """Fieller's interval of gain / total at a confidence level."""
    critical = float(stats.norm.isf((1 - level) / 2))
    return _ratios.fieller_interval(gain, total, var_gain, var_total, covariance, critical)


def lift_shares(ranked: Ranked, share: float) -> LiftShare:
    """The gain of the best ``share`` of the population, straight across equal predictions, and that of all."""
    w, n = ranked.weight, ranked.n
    path_share, path_gain = gain_path(ranked)
    gain, total = float(np.interp(share, path_share, path_gain)), float(path_gain[-1])
    taken = ranked.spread(np.clip((share - path_share[:-1]) / np.diff(path_share), 0.0, 1.0))
    value = w * ranked.gamma
    tau = float(effect_at_cut(ranked, np.array([share]))[0])
    of_gain = taken * (value - tau * w) + w * (share * tau - gain)
    of_total = value - w * total
    for slope, influence in ranked.share_terms:
        weighted = w * slope
        of_gain -= float(taken @ weighted) / n * influence
        of_total -= float(weighted.sum()) / n * influence
    return LiftShare(share, gain, total, of_gain, of_total)
