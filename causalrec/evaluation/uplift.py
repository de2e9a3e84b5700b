r"""Uplift metrics with standard errors that come from their influence functions.

Every unit gets a score :math:`\Gamma_i` whose mean over any group is the group's average effect: inverse-probability
weighting of the deviations from the arms' means m (weighting the outcomes themselves would add noise that grows with
their level),

.. math:: \Gamma_i = m_1 - m_0 + \frac{t_i (y_i - m_1)}{e_i} - \frac{(1 - t_i)(y_i - m_0)}{1 - e_i} .

With the units sorted by predicted uplift, best first, the gain of treating the top share q is

.. math:: C(q) = \frac{1}{N}\sum_{\mathrm{rank}(i) \le qN} \Gamma_i .

``qini_score`` is :math:`\int_0^1 (C(q) - q\,C(1))\,dq`, the QINI coefficient of Yadlowsky, Fleming, Shah, Brunskill
and Wager (2025, JASA, "Evaluating Treatment Prioritization Rules via Rank-Weighted Average Treatment Effects");
``auuc_score`` is :math:`\int_0^1 C(q)\,dq`. Both are gains per unit of the whole population, so they do not depend on
a peer's normalisation. Equal predictions share one rank, so row order never matters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from causalrec._typing import FloatArray, IntArray
from causalrec._validation import (
    check_confidence_level,
    check_propensity,
    check_treatment,
    check_two_arms,
    check_vector,
    check_weights,
)
from causalrec.exceptions import CausalRecError, TreatmentError
from causalrec.results import NAN, CurveResult, EffectResult, UpliftBinsResult

_CURVE_POINTS = 200


@dataclass(frozen=True, eq=False)
class _Ranked:
    """Units sorted by predicted uplift, best first; ``rank`` is the mid-rank share in (0, 1), equal in ties."""

    y: FloatArray
    uplift: FloatArray
    arm: IntArray
    weight: FloatArray
    gamma: FloatArray
    residual: FloatArray
    rank: FloatArray
    group_end: IntArray
    clusters: Any
    e: FloatArray
    known: bool

    @property
    def method(self) -> str:
        return "inverse-probability scores around the arm means, " + (
            "known propensity" if self.known else "estimated share treated"
        )


def qini_score(
    y: Any,
    uplift: Any,
    treatment: Any,
    *,
    propensity: Any = None,
    sample_weight: Any = None,
    clusters: Any = None,
    control: object = None,
    confidence_level: float = 0.95,
) -> EffectResult:
    """Area between the gain curve and that of a random order, per unit of the population.

    Parameters
    ----------
    y : array of shape (n,)
        Outcomes, binary or continuous.
    uplift : array of shape (n,)
        Predicted effects from a model that has not seen these rows.
    treatment : array of shape (n,)
        0/1, or two labels with ``control``.
    propensity : float or array of shape (n,), optional
        P(treated given X). Without it the test is taken as randomised and the share treated is estimated.
    sample_weight, clusters : arrays of shape (n,), optional
        Weights; and units within which rows depend on each other.

    Raises
    ------
    CausalRecError
        For NaN, lengths that differ, or one arm only.

    Examples
    --------
    >>> score = qini_score([1, 0, 0, 1], [0.9, 0.8, 0.1, 0.2], [1, 0, 1, 0])
    >>> round(float(score), 4)
    0.25
    """
    ranked = _rank(y, uplift, treatment, propensity, sample_weight, clusters, control)
    return _linear_score(ranked, 0.5, "qini", confidence_level)


def auuc_score(
    y: Any,
    uplift: Any,
    treatment: Any,
    *,
    propensity: Any = None,
    sample_weight: Any = None,
    clusters: Any = None,
    control: object = None,
    confidence_level: float = 0.95,
) -> EffectResult:
    """Area under the gain curve, per unit of the population; parameters as for :func:`qini_score`.

    Examples
    --------
    >>> round(float(auuc_score([1, 0, 0, 1], [0.9, 0.8, 0.1, 0.2], [1, 0, 1, 0])), 4)
    0.25
    """
    ranked = _rank(y, uplift, treatment, propensity, sample_weight, clusters, control)
    return _linear_score(ranked, 0.0, "auuc", confidence_level)


def uplift_at_k(
    y: Any,
    uplift: Any,
    treatment: Any,
    *,
    k: float = 0.1,
    propensity: Any = None,
    sample_weight: Any = None,
    clusters: Any = None,
    control: object = None,
    confidence_level: float = 0.95,
) -> EffectResult:
    """Average effect among the share ``k`` of units with the highest predictions.

    The difference of the arms' (weighted) means in the top; a group of ties at the cut is taken whole if its
    middle lies above the cut. Parameters as for :func:`qini_score`.

    Raises
    ------
    TreatmentError
        When an arm has fewer than two units in the top share.
    """
    if not 0 < k <= 1:
        raise CausalRecError(f"k is {k}; expected a share in (0, 1], such as 0.1 for the top tenth.")
    ranked = _rank(y, uplift, treatment, propensity, sample_weight, clusters, control)
    top = ranked.rank <= max(k, float(ranked.rank[0]))
    sizes = [int((top & (ranked.arm == a)).sum()) for a in (0, 1)]
    if min(sizes) < 2:
        raise TreatmentError(
            f"the top {k:.0%} holds {sizes[1]} treated and {sizes[0]} control units; at least two of each are needed. "
            "Take a larger k."
        )
    influence = _effect_influence(ranked, top)
    estimate = _subset_effect(ranked, top)
    return _result(estimate, influence, ranked, f"uplift_at_{k * 100:g}pct", confidence_level, int(top.sum()))


def qini_curve(
    y: Any,
    uplift: Any,
    treatment: Any,
    *,
    propensity: Any = None,
    sample_weight: Any = None,
    control: object = None,
    confidence_level: float = 0.95,
    label: str = "model",
) -> CurveResult:
    """The gain C(q) over the share treated, at most 200 points, with pointwise intervals.

    Parameters as for :func:`qini_score`; ``label`` names the scorer in plots.
    """
    ranked = _rank(y, uplift, treatment, propensity, sample_weight, None, control)
    level = check_confidence_level(confidence_level)
    n, ends = len(ranked.y), ranked.group_end
    if len(ends) > _CURVE_POINTS:
        ends = ends[np.unique(np.linspace(0, len(ends) - 1, _CURVE_POINTS).round().astype(int))]
    w = ranked.weight
    total = w.sum()
    gain = np.cumsum(w * ranked.gamma)[ends] / total
    square = np.cumsum((w * ranked.gamma) ** 2)[ends] * n / total**2
    half = stats.norm.isf((1 - level) / 2) * np.sqrt(np.maximum(square - gain**2, 0) / n)
    fraction = np.concatenate([[0.0], np.cumsum(w)[ends] / total])
    value, half = np.concatenate([[0.0], gain]), np.concatenate([[0.0], half])
    return CurveResult("qini", label, level, n, fraction, value, value - half, value + half, fraction * value[-1])


def uplift_by_bin(
    y: Any,
    uplift: Any,
    treatment: Any,
    *,
    bins: int = 10,
    propensity: Any = None,
    sample_weight: Any = None,
    control: object = None,
    confidence_level: float = 0.95,
) -> UpliftBinsResult:
    """Predicted and observed effect in equal groups, bin 1 the highest predictions; ties stay together.

    An effect is NaN where a bin holds fewer than two units of an arm.
    """
    if bins < 2:
        raise CausalRecError(f"bins is {bins}; expected at least 2.")
    ranked = _rank(y, uplift, treatment, propensity, sample_weight, None, control)
    level = check_confidence_level(confidence_level)
    index = np.minimum((ranked.rank * bins).astype(int), bins - 1)
    rows = []
    for b in np.unique(index):
        inside = index == b
        predicted = float(np.average(ranked.uplift[inside], weights=ranked.weight[inside]))
        if min((inside & (ranked.arm == a)).sum() for a in (0, 1)) < 2:
            rows.append((int(inside.sum()), predicted, NAN, NAN, NAN))
            continue
        effect = _subset_effect(ranked, inside)
        error = _std_error(_effect_influence(ranked, inside), None)
        half = float(stats.norm.isf((1 - level) / 2)) * error
        rows.append((int(inside.sum()), predicted, effect, effect - half, effect + half))
    n, predicted_, effect_, low, high = (np.array(c) for c in zip(*rows, strict=True))
    return UpliftBinsResult(level, len(ranked.y), np.arange(1, len(rows) + 1), n, predicted_, effect_, low, high)


def _rank(
    y: Any, uplift: Any, treatment: Any, propensity: Any, sample_weight: Any, clusters: Any, control: object
) -> _Ranked:
    outcome = check_vector(y, name="y")
    n = len(outcome)
    score = check_vector(uplift, name="uplift", n_rows=n)
    arm, labels = check_treatment(treatment, n_rows=n, control=control)
    check_two_arms(labels, what="an uplift metric")
    weight = check_weights(sample_weight, n_rows=n)
    share = float(np.average(arm, weights=weight))
    if not 0 < share < 1:
        raise TreatmentError("one arm has no weight; an effect needs both arms.")
    e = np.full(n, share) if propensity is None else check_propensity(propensity, n_rows=n)
    order = np.argsort(-score, kind="stable")
    sorted_score, w = score[order], weight[order]
    starts = np.flatnonzero(np.r_[True, sorted_score[1:] != sorted_score[:-1]])
    ends = np.r_[starts[1:], n] - 1
    cumulative = np.cumsum(w)
    before = np.r_[0.0, cumulative[ends[:-1]]]
    middle = (before + cumulative[ends]) / 2 / cumulative[-1]
    t, yy, ee = arm[order], outcome[order], e[order]
    means = [np.average(yy[t == a], weights=(w / np.where(t == 1, ee, 1 - ee))[t == a]) for a in (0, 1)]
    residual = yy - np.where(t == 1, means[1], means[0])
    return _Ranked(
        y=yy, uplift=sorted_score, arm=t, weight=w, residual=residual,
        gamma=means[1] - means[0] + residual * (t / ee - (1 - t) / (1 - ee)),
        rank=np.repeat(middle, np.diff(np.r_[starts, n])), group_end=ends,
        clusters=None if clusters is None else np.asarray(clusters)[order], e=ee, known=propensity is not None,
    )  # fmt: skip


def _linear_score(ranked: _Ranked, centre: float, name: str, confidence_level: float) -> EffectResult:
    """Integral of C minus ``centre`` times C(1): the mean of Gamma (1 - rank - centre)."""
    w = ranked.weight / ranked.weight.mean()
    multiplier = 1 - ranked.rank - centre
    estimate = float(np.mean(w * ranked.gamma * multiplier))
    # A unit also moves the ranks of those below it: the second term of a rank statistic's influence function.
    gain = np.cumsum(w * ranked.gamma)
    group = np.searchsorted(ranked.group_end, np.arange(len(gain)))
    high = gain[ranked.group_end]
    low = np.r_[0.0, high[:-1]]
    below = (gain[-1] - (low + high)[group] / 2) / len(gain)
    influence = w * (ranked.gamma * multiplier - below - (estimate - _mean_below(w, below)))
    if not ranked.known:
        influence = influence - _share_correction(ranked, w * multiplier)
    return _result(estimate, influence - influence.mean(), ranked, name, confidence_level, len(gain))


def _mean_below(w: FloatArray, below: FloatArray) -> float:
    return float(np.mean(w * below))


def _share_correction(ranked: _Ranked, multiplier: FloatArray) -> FloatArray:
    """How the estimated share treated moves the score: its derivative times the share's own influence."""
    t, e = ranked.arm, ranked.e
    slope = float(np.mean(multiplier * ranked.residual * (t / e**2 + (1 - t) / (1 - e) ** 2)))
    return np.asarray(slope * (t - e) * ranked.weight / ranked.weight.mean())


def _subset_effect(ranked: _Ranked, inside: Any) -> float:
    means = []
    for arm, e in ((1, ranked.e), (0, 1 - ranked.e)):
        rows = inside & (ranked.arm == arm)
        means.append(float(np.average(ranked.y[rows], weights=ranked.weight[rows] / e[rows])))
    return means[0] - means[1]


def _effect_influence(ranked: _Ranked, inside: Any) -> FloatArray:
    """Contribution of each row to the difference of two weighted means; zero outside the subset."""
    n = len(ranked.y)
    influence = np.zeros(n)
    for arm, sign, e in ((1, 1.0, ranked.e), (0, -1.0, 1 - ranked.e)):
        rows = inside & (ranked.arm == arm)
        weight = ranked.weight[rows] / e[rows]
        centred = ranked.y[rows] - np.average(ranked.y[rows], weights=weight)
        # n/(m-1) instead of n/m: with equal weights this is exactly Welch's variance.
        scale = math.sqrt(rows.sum() / (rows.sum() - 1))
        influence[rows] = sign * n * scale * weight * centred / weight.sum()
    return influence


def _std_error(influence: FloatArray, clusters: Any) -> float:
    n = len(influence)
    if clusters is None:
        return float(np.sqrt((influence**2).sum()) / n)
    _, codes = np.unique(clusters, return_inverse=True)
    sums = np.bincount(codes, weights=influence)
    g = len(sums)
    return float(np.sqrt((sums**2).sum() * g / (g - 1)) / n) if g > 1 else NAN


def _result(
    estimate: float, influence: FloatArray, ranked: _Ranked, name: str, confidence_level: float, n_obs: int
) -> EffectResult:
    level = check_confidence_level(confidence_level)
    error = _std_error(influence, ranked.clusters)
    half = float(stats.norm.isf((1 - level) / 2)) * error
    pvalue = float(2 * stats.norm.sf(abs(estimate) / error)) if error > 0 else NAN
    how = ranked.method + ("; influence-function standard error" if ranked.clusters is None else "; clustered")
    return EffectResult(estimate, error, estimate - half, estimate + half, pvalue, level, n_obs, how, name)
