r"""Uplift metrics with standard errors that come from their influence functions.

Every unit gets a score :math:`\Gamma_i` whose mean over any group is the group's average effect: inverse-probability
weighting of the deviations from the arms' means m (weighting the outcomes themselves would add noise that grows with
their level),

.. math:: \Gamma_i = m_1 - m_0 + \frac{t_i (y_i - m_1)}{e_i} - \frac{(1 - t_i)(y_i - m_0)}{1 - e_i} .

With the units sorted by predicted uplift, best first, the gain of treating the top share q is

.. math:: C(q) = \frac{1}{N}\sum_{\mathrm{rank}(i) \le qN} \Gamma_i ,

and straight between two units, or across units with equal predictions, so row order never matters.
``qini_score`` is :math:`\int_0^1 (C(q) - q\,C(1))\,dq` and ``auuc_score`` is :math:`\int_0^1 C(q)\,dq`. Both are gains
per unit of the whole population, in the outcome's unit.

Other definitions. With equal weights ``qini_score`` is, to the last digit, the QINI coefficient of Yadlowsky, Fleming,
Shah, Brunskill and Wager (2025, JASA, "Evaluating Treatment Prioritization Rules via Rank-Weighted Average Treatment
Effects") as the R package grf computes it, :math:`\sum_i (i/n^2)\,\mathrm{TOC}(i/n)`, given the same scores; effects
4, 3, 2, 1 in that order give 0.3125. causalml's "qini" RATE is twice that. The Qini and AUUC of scikit-uplift and of
causalml divide by a perfect or a final gain: they have no unit and are not comparable with these.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from causalrec._typing import FloatArray, IntArray
from causalrec._validation import check_confidence_level
from causalrec.evaluation._areas import area_score
from causalrec.evaluation._curve_errors import gain_curve
from causalrec.evaluation._ranked import Ranked, rank_units
from causalrec.evaluation._tops import subset_effect, top_effect
from causalrec.exceptions import CausalRecError, TreatmentError
from causalrec.nuisance.arm_scores import arm_scores
from causalrec.results import NAN, CurveResult, EffectResult, UpliftBinsResult

_CURVE_POINTS = 200


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

    Zero for a score that orders no better than chance, negative for one that orders worse.

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
        Weights (a row of weight zero is as good as absent); and units within which rows depend on each other.

    Raises
    ------
    CausalRecError
        For missing values, lengths that differ, other than two arms, or an outcome that never varies.

    Examples
    --------
    >>> score = qini_score([1, 0, 0, 1], [0.9, 0.8, 0.1, 0.2], [1, 0, 1, 0])
    >>> round(float(score), 4)
    0.25
    """
    ranked = _rank(y, uplift, treatment, propensity, sample_weight, clusters, control)
    estimate, influence = area_score(ranked, 0.5)
    return _result(estimate, influence, ranked, "qini", confidence_level, ranked.n)


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

    A random order gives half the average effect, so the p-value (of a zero area) is not a test of the score.

    Examples
    --------
    >>> round(float(auuc_score([1, 0, 0, 1], [0.9, 0.8, 0.1, 0.2], [1, 0, 1, 0])), 4)
    0.25
    """
    ranked = _rank(y, uplift, treatment, propensity, sample_weight, clusters, control)
    estimate, influence = area_score(ranked, 0.0)
    return _result(estimate, influence, ranked, "auuc", confidence_level, ranked.n)


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
    middle lies above the cut. The interval is for the best share ``k`` of the population: it counts that the
    cut-off is estimated. With ``k=1`` and no weights or clusters its standard error is Welch's. ``n_obs`` counts
    the top. Parameters as for :func:`qini_score`.

    Raises
    ------
    TreatmentError
        When an arm has fewer than two units in the top share.

    Examples
    --------
    >>> y, uplift, treatment = [3, 1, 2, 0, 1, 1, 0, 1], [9, 8, 7, 6, 4, 3, 2, 1], [1, 0, 1, 0, 1, 0, 1, 0]
    >>> uplift_at_k(y, uplift, treatment, k=0.5).estimate
    2.0
    >>> everyone = uplift_at_k(y, uplift, treatment, k=1)
    >>> everyone.estimate, round(everyone.std_error, 4), everyone.n_obs
    (0.75, 0.6922, 8)
    """
    if not 0 < k <= 1:
        raise CausalRecError(f"k is {k}; expected a share in (0, 1], such as 0.1 for the top tenth.")
    check_confidence_level(confidence_level)
    ranked = _rank(y, uplift, treatment, propensity, sample_weight, clusters, control)
    top = ranked.rank <= max(k, float(ranked.rank[0]))
    sizes = [int((top & (ranked.arm == a)).sum()) for a in (0, 1)]
    if min(sizes) < 2:
        raise TreatmentError(
            f"the top {100 * k:g}% holds {sizes[1]} treated and {sizes[0]} control units; at least two of each are "
            "needed. Take a larger k."
        )
    estimate, influence = top_effect(ranked, top)
    return _result(estimate, influence, ranked, f"uplift_at_{k * 100:g}pct", confidence_level, int(top.sum()))


def qini_curve(
    y: Any,
    uplift: Any,
    treatment: Any,
    *,
    propensity: Any = None,
    sample_weight: Any = None,
    clusters: Any = None,
    control: object = None,
    confidence_level: float = 0.95,
    label: str = "model",
) -> CurveResult:
    """The gain C(q) over the share treated: the origin and at most 200 points, with pointwise intervals.

    The interval at q is for the gain of treating the best share q of the population; it counts that the cut-off
    is estimated. Parameters as for :func:`qini_score`; ``label`` names the scorer in plots.

    Examples
    --------
    >>> curve = qini_curve([1, 0, 0, 1], [0.9, 0.8, 0.1, 0.2], [1, 0, 1, 0])
    >>> curve.fraction.tolist(), curve.value.tolist()
    ([0.0, 0.25, 0.5, 0.75, 1.0], [0.0, 0.25, 0.5, 0.25, 0.0])
    """
    ranked = _rank(y, uplift, treatment, propensity, sample_weight, clusters, control)
    level = check_confidence_level(confidence_level)
    ends = ranked.group_end
    if len(ends) > _CURVE_POINTS:
        ends = ends[np.unique(np.linspace(0, len(ends) - 1, _CURVE_POINTS).round().astype(int))]
    fraction, value, error = (np.r_[0.0, part] for part in gain_curve(ranked, ends))
    half = stats.norm.isf((1 - level) / 2) * error
    n = ranked.n
    return CurveResult("qini", label, level, n, fraction, value, value - half, value + half, fraction * value[-1])


def uplift_by_bin(
    y: Any,
    uplift: Any,
    treatment: Any,
    *,
    bins: int = 10,
    propensity: Any = None,
    sample_weight: Any = None,
    clusters: Any = None,
    control: object = None,
    confidence_level: float = 0.95,
) -> UpliftBinsResult:
    """Predicted and observed effect in equal groups, bin 1 the highest predictions; parameters as in `qini_score`.

    Ties stay together, so there may be fewer bins than asked for. The intervals take the cut-offs as given. An
    effect is NaN where a bin holds fewer than two units of an arm, and its interval also where no outcome in the bin
    varies within its arm.

    Examples
    --------
    >>> y, uplift, treatment = [3, 1, 2, 0, 1, 1, 0, 1], [9, 8, 7, 6, 4, 3, 2, 1], [1, 0, 1, 0, 1, 0, 1, 0]
    >>> uplift_by_bin(y, uplift, treatment, bins=2).effect.tolist()
    [2.0, -0.5]
    """
    if bins < 2:
        raise CausalRecError(f"bins is {bins}; expected at least 2.")
    ranked = _rank(y, uplift, treatment, propensity, sample_weight, clusters, control)
    level = check_confidence_level(confidence_level)
    quantile = float(stats.norm.isf((1 - level) / 2))
    index: IntArray = np.minimum((ranked.rank * bins).astype(np.int64), bins - 1)
    sizes, rows = [], []
    for b in np.unique(index):
        inside = index == b
        effect = error = NAN
        if min((inside & (ranked.arm == a)).sum() for a in (0, 1)) >= 2:
            effect, influence = subset_effect(ranked, inside)
            error = _honest_error(influence, ranked)
        sizes.append(int(inside.sum()))
        predicted = float(np.average(ranked.uplift[inside], weights=ranked.weight[inside]))
        rows.append((predicted, effect, effect - quantile * error, effect + quantile * error))
    number = np.arange(1, len(rows) + 1)
    return UpliftBinsResult(level, ranked.n, number, np.array(sizes), *np.array(rows, dtype=np.float64).T)


def _rank(
    y: Any, uplift: Any, treatment: Any, propensity: Any, sample_weight: Any, clusters: Any, control: object
) -> Ranked:
    scores = arm_scores(
        y, treatment, control=control, propensity=propensity, sample_weight=sample_weight, clusters=clusters
    )
    return rank_units(scores, uplift)


def _honest_error(influence: FloatArray, ranked: Ranked) -> float:
    """The standard error, or NaN where nothing varies: a zero would look like certainty."""
    error = ranked.error(influence)
    rounding = 1e-13 * float(np.abs(ranked.y).max())
    return error if error > rounding else NAN


def _result(
    estimate: float, influence: FloatArray, ranked: Ranked, name: str, confidence_level: float, n_obs: int
) -> EffectResult:
    level = check_confidence_level(confidence_level)
    how = ranked.scores.method
    how += "; influence-function standard error" + (", clustered" if ranked.clusters is not None else "")
    if name == "qini" and len(ranked.group_end) == 1:
        error, how = 0.0, how + "; all predictions are equal, so the score is zero by definition"
    else:
        error = _honest_error(influence, ranked)
        if np.isnan(error):
            how += "; none here: the outcome does not vary within the arms, or there is one cluster"
    half = float(stats.norm.isf((1 - level) / 2)) * error
    pvalue = float(2 * stats.norm.sf(abs(estimate) / error)) if error > 0 else NAN
    return EffectResult(estimate, error, estimate - half, estimate + half, pvalue, level, n_obs, how, name)
