r"""Observed against predicted effects in groups of the prediction, and the calibration error.

Groups are of equal size in the order of the prediction (or between given edges). With :math:`s_g` the share of group
g, :math:`\hat\tau_g` its observed effect and :math:`\bar p_g` its mean prediction, the calibration error is the root of

.. math:: \theta = \sum_g s_g d_g^2, \qquad d_g = \mathrm{E}[\tau - p \mid g] ,

the binned form of the L2 calibration error of Xu and Yadlowsky (2022, AISTATS, PMLR 151, "Calibration Error for
Heterogeneous Treatment Effects"). Squared gaps as observed would be too large by their noise, most of all with many
small groups: their variance V is taken off,
:math:`\hat\theta = \sum_g s_g (\hat d_g^2 - V_{gg})`. For means of scores and rows of equal weight that is the mean of
:math:`(\Gamma_i - p_i)(\Gamma_j - p_j)` over pairs of different rows of a group, the leave-one-out form of the paper;
theirs keeps each row's own prediction in both factors, and so also counts how gaps change with the prediction within
a group. Here what cancels within a group is not seen: the error is a lower bound, and rises with the number of groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize, sparse, special, stats

from causalrec._typing import BoolArray, FloatArray, IntArray
from causalrec._validation import check_confidence_level, check_vector
from causalrec.evaluation._pooled import pooled_covariance
from causalrec.evaluation._ranked import Ranked, rank_units
from causalrec.evaluation._tops import silent_groups
from causalrec.exceptions import CausalRecError, TreatmentError
from causalrec.nuisance.arm_scores import arm_scores
from causalrec.nuisance.nuisances import Nuisances
from causalrec.results import NAN, UpliftBinsResult, UpliftCalibrationResult

_SINGULAR = 1e-9
_ROUNDING = 1e-13  # share of the largest outcome, below which an error is zero


class GroupEffects(NamedTuple):
    """Of G groups: sizes, shares, mean predictions, effects and their errors, and the covariance of the gaps.

    ``silent`` groups have one arm whose outcomes do not vary there, though elsewhere they do: no error.
    ``test_covariance``, of the test, has variances of outcomes that are pooled over groups and arms.
    """

    n: IntArray
    share: FloatArray
    predicted: FloatArray
    effect: FloatArray
    std_error: FloatArray
    gap_covariance: FloatArray
    test_covariance: FloatArray
    silent: BoolArray
    units: float


def uplift_by_bin(
    y: Any,
    uplift: Any,
    treatment: Any,
    *,
    bins: int | Sequence[float] = 10,
    propensity: Any = None,
    nuisance: Nuisances | None = None,
    sample_weight: Any = None,
    clusters: Any = None,
    control: Any = None,
    arm: Any = None,
    confidence_level: float = 0.95,
) -> UpliftBinsResult:
    """Predicted and observed effect in equal groups, bin 1 the highest predictions.

    Ties stay together, so there may be fewer bins than asked for. The intervals take the cut-offs as given. An
    effect is NaN where a bin holds fewer than two units of an arm, and its interval also where the outcomes of an arm
    do not vary in the bin: that nobody converted is no certainty. Parameters as for :func:`uplift_calibration`.

    Examples
    --------
    >>> y, uplift, treatment = [3, 1, 2, 0, 1, 1, 0, 1], [9, 8, 7, 6, 4, 3, 2, 1], [1, 0, 1, 0, 1, 0, 1, 0]
    >>> uplift_by_bin(y, uplift, treatment, bins=2).effect.tolist()
    [2.0, -0.5]
    """
    level = check_confidence_level(confidence_level)
    scores = arm_scores(
        y, treatment, control=control, propensity=propensity, nuisance=nuisance, sample_weight=sample_weight,
        clusters=clusters,
    )  # fmt: skip
    ranked = rank_units(scores, uplift, arm=arm)
    found = group_effects(ranked, form_groups(ranked, bins))
    half = float(stats.norm.isf((1 - level) / 2)) * found.std_error
    return UpliftBinsResult(
        level, ranked.n, np.arange(1, len(found.n) + 1), found.n, found.predicted, found.effect,
        found.effect - half, found.effect + half,
    )  # fmt: skip


def uplift_calibration(
    y: Any,
    uplift: Any,
    treatment: Any,
    *,
    bins: int | Sequence[float] = 10,
    propensity: Any = None,
    nuisance: Nuisances | None = None,
    sample_weight: Any = None,
    clusters: Any = None,
    control: Any = None,
    arm: Any = None,
    confidence_level: float = 0.95,
) -> UpliftCalibrationResult:
    r"""Observed against predicted effect by group, the calibration error with its interval, and a test of no gap.

    Parameters
    ----------
    y : array of shape (n,)
        Outcomes, binary or continuous.
    uplift : array of shape (n,) or (n, k - 1)
        Predicted effects, in the outcome's unit, from a model that has not seen these rows.
    treatment : array of shape (n,)
        0/1, or labels with ``control``.
    bins : int or increasing numbers
        How many groups of equal size (equal predictions stay together, so there may be fewer), or the predictions
        that part one group from the next: a prediction on an edge is in the group above it.
    propensity : float, array of shape (n,) or (n, k), or mapping of arms to shares, optional
        Known by design. Without it the test is taken as randomised.
    nuisance : Nuisances, optional
        Of these rows: effects are means of doubly robust scores, not differences of the arms' means. Nothing else
        removes confounding, and in a test it narrows the intervals.
    sample_weight, clusters : arrays of shape (n,), optional
        Weights; and units within which rows depend on each other, which may be spread over several groups.
    control, arm : labels, optional
        The arm that others are compared with, and with more than two arms the one to compare. Groups are of all rows.
    confidence_level : float

    Raises
    ------
    TreatmentError
        When a group holds fewer than two units of an arm; the treatment has one arm, or ``arm`` is needed.
    CausalRecError
        For bad ``bins``, values that are missing, lengths that differ.

    Notes
    -----
    The interval inverts the distribution of :math:`\sum_g s_g \hat d_g^2`, a sum of noncentral chi-squares along the
    direction of the observed gaps, by the four moments of Liu, Tang and Zhang (2009, Computational Statistics and Data
    Analysis 53). It includes zero where such gaps are no surprise. Where the estimate falls below zero, the upper end
    is that of an estimate of zero: luck is no evidence of a perfect score. It may include zero where the test rejects:
    the test weighs each gap by its precision, the error by the group's share.
    Rare outcomes: a group where the outcomes of an arm do not vary has no interval of its own, and the test pools the
    variances of outcomes: with 3,000 rows in 10 groups, an arm of 15% and conversions of 2% a 5% test rejects 7% of
    scores without any gap, with each group's own variances 70%; with 10,000 rows 4%, and 33%.
    Where no outcome varies within the arms of a group there is no interval and no test; where a group lies in a single
    cluster there is no estimate either.
    The test is Wald's with Hotelling's F: it counts that V is estimated from the clusters, if few. The interval does
    not: in simulations with 30 clusters 95% intervals covered 89%, with 60 92% and with 200 94%.
    For the slope and mean of the predictions see :func:`causalrec.uplift.calibration_test`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, treatment = rng.random(4000), rng.integers(0, 2, 4000)
    >>> y = x * treatment + rng.normal(size=4000)
    >>> good, bad = (uplift_calibration(y, score, treatment, bins=5) for score in (x, 2 * x))
    >>> round(good.estimate, 2), bool(good.pvalue > 0.05)
    (0.05, True)
    >>> round(bad.estimate, 2), bool(bad.pvalue < 1e-12)
    (0.57, True)
    """
    level = check_confidence_level(confidence_level)
    scores = arm_scores(
        y, treatment, control=control, propensity=propensity, nuisance=nuisance, sample_weight=sample_weight,
        clusters=clusters,
    )  # fmt: skip
    ranked = rank_units(scores, uplift, arm=arm)
    group = form_groups(ranked, bins)
    found = group_effects(ranked, group)
    _check_effects_known(ranked, group, found)
    error = calibration_error(found.effect - found.predicted, found.gap_covariance, found.share, level)
    statistic, df_error, pvalue = wald_test(found.effect - found.predicted, found.test_covariance, found.units)
    return _calibration_result(ranked, found, error, (statistic, df_error, pvalue), level)


def form_groups(ranked: Ranked, bins: int | Sequence[float]) -> IntArray:
    """A number for every ranked unit, 0 for the highest predictions; every number up to the last occurs.

    Of equal size, a group of ties going where its middle lies; or between edges.
    """
    wanted = check_bins(bins)
    if isinstance(wanted, int):
        index = np.minimum((ranked.rank * wanted).astype(np.int64), wanted - 1)
    else:
        index = len(wanted) - np.searchsorted(wanted, ranked.uplift, side="right")
    # The order is that of the prediction, so the numbers rise along it.
    return np.cumsum(np.diff(index, prepend=index[0]) != 0)


def check_bins(bins: int | Sequence[float]) -> int | FloatArray:
    """Return a number of groups, or the edges between them."""
    if np.ndim(bins) == 0:
        if isinstance(bins, bool) or int(bins) != bins or bins < 2:  # type: ignore[arg-type]
            raise CausalRecError(f"bins is {bins}; expected a whole number of at least 2, or the edges of the groups.")
        return int(bins)
    edges = check_vector(bins, name="bins")
    if len(edges) == 0 or (np.diff(edges) <= 0).any():
        raise CausalRecError(f"bins is {bins}; expected edges that increase, at least one.")
    return edges


def group_effects(ranked: Ranked, group: IntArray) -> GroupEffects:
    """Effects of groups of ranked units: means of doubly robust scores, or differences of the arms' means.

    The variance of a group is that of its own units (Welch's without weights and clusters). A cluster in several
    groups makes their gaps covary (Liang and Zeger 1986).
    """
    w, n_groups = ranked.weight, int(group[-1]) + 1
    count = np.bincount(group)
    total = np.bincount(group, weights=w).astype(np.float64)
    predicted = np.bincount(group, weights=w * ranked.uplift) / total
    effect, moved = _score_means(ranked, group, total) if ranked.doubly_robust else _arm_differences(ranked, group)
    apart = w * (ranked.uplift - predicted[group]) / total[group]
    if ranked.clusters is None:
        apart *= np.sqrt(count / np.maximum(count - 1, 1))[group]
    error = np.sqrt(np.diag(_covariance(moved, group, n_groups, ranked.clusters)))
    varies = error > _ROUNDING * np.abs(ranked.y).max()
    silent = silent_groups(ranked, group, n_groups) & varies
    error = np.where(varies & ~silent, error, NAN)
    covariance = _covariance(moved - apart, group, n_groups, ranked.clusters)
    steadied = covariance if ranked.clusters is not None else pooled_covariance(ranked, group, moved, covariance)
    units = len(w) if ranked.clusters is None else np.count_nonzero(np.bincount(ranked.clusters))
    return GroupEffects(
        count, total / total.sum(), predicted, effect, error, covariance, steadied, silent, float(units)
    )


def _score_means(ranked: Ranked, group: IntArray, total: FloatArray) -> tuple[FloatArray, FloatArray]:
    count = np.bincount(group)
    mean = np.bincount(group, weights=ranked.weight * ranked.gamma) / total
    mean = np.where(count > 1, mean, NAN)
    scale = np.sqrt(count / np.maximum(count - 1, 1)) if ranked.clusters is None else np.ones(len(count))
    return mean, ranked.weight * (ranked.gamma - mean[group]) * (scale / total)[group]


def _arm_differences(ranked: Ranked, group: IntArray) -> tuple[FloatArray, FloatArray]:
    """The difference of the arms' means by group, and what each unit adds to its error."""
    n_groups = int(group[-1]) + 1
    effect, moved = np.zeros(n_groups), np.zeros(ranked.n)
    for arm, sign in ((1, 1.0), (0, -1.0)):
        rows = np.flatnonzero(ranked.arm == arm)
        e, own = ranked.propensity(arm), group[rows]
        weight, y = ranked.weight[rows] / (e if np.ndim(e) == 0 else e[rows]), ranked.y[rows]
        count = np.bincount(own, minlength=n_groups)
        total = np.bincount(own, weights=weight, minlength=n_groups)
        enough = count > 1
        total = np.where(enough, total, NAN)
        mean = np.bincount(own, weights=weight * y, minlength=n_groups) / total
        scale = np.sqrt(count / np.where(enough, count - 1, 1)) if ranked.clusters is None else np.ones(n_groups)
        effect += sign * mean
        moved[rows] = sign * weight * (y - mean[own]) * (scale / total)[own]
    return effect, np.where(np.isnan(effect)[group], NAN, moved)


def _covariance(moved: FloatArray, group: IntArray, n_groups: int, clusters: IntArray | None) -> FloatArray:
    if clusters is None:
        return np.diag(np.bincount(group, weights=moved**2, minlength=n_groups))
    table = sparse.coo_array((moved, (clusters, group)), shape=(int(clusters.max()) + 1, n_groups)).tocsr()
    units = np.bincount(table.indices, minlength=n_groups).astype(np.float64)  # clusters in each group
    factor = np.sqrt(units / np.where(units > 1, units - 1, NAN))
    return np.asarray((table.T @ table).toarray() * np.outer(factor, factor))


class CalibrationError(NamedTuple):
    """The mean squared gap without its noise, its error and interval, and as it is seen."""

    squared: float
    std_error: float
    ci_low: float
    ci_high: float
    raw: float


def calibration_error(
    gap: FloatArray, covariance: FloatArray, share: FloatArray, confidence_level: float
) -> CalibrationError:
    r"""The mean squared gap :math:`\sum_g s_g d_g^2` from observed gaps, taken as normal with a known covariance.

    The variance of :math:`Q = \sum_g s_g \hat d_g^2` is :math:`4 d'SVSd + 2 \mathrm{tr}(SVSV)`, of which the first term
    is estimated without bias too.

    Examples
    --------
    >>> found = calibration_error(np.array([3.0, -1.0]), np.eye(2), np.array([0.5, 0.5]), 0.95)
    >>> found.raw, found.squared
    (5.0, 4.0)
    """
    raw = float(share @ gap**2)
    if not np.isfinite(covariance).all():
        return CalibrationError(NAN, NAN, NAN, NAN, raw)
    root = np.sqrt(share)
    values, vectors = np.linalg.eigh(covariance * np.outer(root, root))
    along = vectors.T @ (root * gap)
    kept = values > _SINGULAR * values.max()
    values, along = values[kept], along[kept]
    noise, least = float(values.sum()), 2 * float(values @ values)
    variance = max(4 * float(values @ along**2) - least, least)
    half_tail = (1 - confidence_level) / 2

    def surprise(theta: float, seen: float) -> float:
        """P(Q > seen) where the mean squared gap is theta."""
        return quadratic_form_sf(seen, values, theta * along**2 / (raw * values))

    def end(seen: float, tail: float) -> float:
        if surprise(0.0, seen) >= tail:
            return 0.0
        high = seen + 10 * math.sqrt(variance)
        while surprise(high, seen) < tail:
            high *= 2
        return float(optimize.brentq(lambda theta: surprise(theta, seen) - tail, 0.0, high, xtol=1e-9 * high))

    return CalibrationError(
        raw - noise, math.sqrt(variance), end(raw, half_tail), end(max(raw, noise), 1 - half_tail), raw
    )


def quadratic_form_sf(value: float, weights: FloatArray, noncentrality: FloatArray) -> float:
    """P(sum of weights x noncentral chi-squares of one degree of freedom > value), by four moments.

    Liu, Tang and Zhang (2009), Computational Statistics and Data Analysis 53, "A new chi-square approximation to the
    distribution of non-negative definite quadratic forms in non-central normal variables".

    Examples
    --------
    >>> round(quadratic_form_sf(2 * 3.841459, np.array([2.0]), np.array([0.0])), 6)
    0.05
    """
    c1, c2, c3, c4 = (float(weights**k @ (1 + k * noncentrality)) for k in (1, 2, 3, 4))
    skew, kurtosis = c3 / c2**1.5, c4 / c2**2
    a = 1 / (skew - math.sqrt(skew**2 - kurtosis)) if skew**2 > kurtosis else 1 / skew
    shift = skew * a**3 - a**2 if skew**2 > kurtosis else 0.0
    df = a**2 - 2 * shift
    at = (value - c1) / math.sqrt(2 * c2) * math.sqrt(2) * a + df + shift
    if at <= 0:
        return 1.0
    return float(special.chdtrc(df, at) if shift <= 0 else 1 - special.chndtr(at, df, shift))


def wald_test(gap: FloatArray, covariance: FloatArray, units: float) -> tuple[float, float, float]:
    """F statistic that all gaps are zero, its second degrees of freedom, and p-value (Hotelling 1931).

    NaN where the covariance has no inverse or there are no more units than gaps.
    """
    p, df = len(gap), units - len(gap)
    scale = np.sqrt(np.diag(covariance))
    if df < 1 or not (np.isfinite(scale).all() and (scale > 0).all()):
        return NAN, NAN, NAN
    correlation = covariance / np.outer(scale, scale)
    if np.linalg.eigvalsh(correlation)[0] < _SINGULAR:
        return NAN, NAN, NAN
    z = gap / scale
    statistic = float(z @ np.linalg.solve(correlation, z)) / p * df / (units - 1)
    return statistic, float(df), float(stats.f.sf(statistic, p, df))


def _check_effects_known(ranked: Ranked, group: IntArray, found: GroupEffects) -> None:
    lacking = np.flatnonzero(np.isnan(found.effect))
    if not len(lacking):
        return
    first = int(lacking[0])
    labels = ranked.scores.labels
    sizes = [int(((group == first) & (ranked.arm == a)).sum()) for a in (0, 1)]
    raise TreatmentError(
        f"group {first + 1} of {len(found.n)}, counted from the highest predictions, holds {sizes[1]} units of arm "
        f"{labels[ranked.code]!r} and {sizes[0]} of arm {labels[0]!r}; at least two of each are needed. "
        "Take fewer bins."
    )


def _calibration_result(
    ranked: Ranked, found: GroupEffects, error: CalibrationError, test: tuple[float, float, float], level: float
) -> UpliftCalibrationResult:
    gap, gap_error = found.effect - found.predicted, np.sqrt(np.diag(found.gap_covariance))
    how = f"{len(found.n)} groups, {'means of ' if ranked.doubly_robust else 'differences of means, '}"
    how += ranked.scores.method if ranked.doubly_robust else ranked.scores.method.rsplit(", ", 1)[-1]
    how += "" if ranked.clusters is None else f", clustered by {found.units:,.0f} groups"
    unknown = np.flatnonzero(np.isnan(found.std_error) & ~found.silent)
    if len(unknown):
        how += f"; no interval and test: group {unknown[0] + 1} has one cluster, or no outcome varies within its arms"
        error = CalibrationError(error.squared, NAN, NAN, NAN, error.raw)
        test = (NAN, NAN, NAN)
    elif found.silent.any() and ranked.clusters is not None:
        how += "; no test: the outcomes of an arm do not vary in some group"
        test = (NAN, NAN, NAN)
    elif np.isnan(test[2]):
        how += "; no test: there are too few clusters for so many groups"
    gap_error = np.where(np.isnan(found.std_error), NAN, gap_error)
    root, low, high = (math.sqrt(max(v, 0.0)) if not math.isnan(v) else NAN
                       for v in (error.squared, error.ci_low, error.ci_high))  # fmt: skip
    quantile = float(stats.norm.isf((1 - level) / 2))
    half, gap_half = quantile * found.std_error, quantile * gap_error
    return UpliftCalibrationResult(
        estimate=root, std_error=error.std_error / (2 * root) if low > 0 and root > 0 else NAN, ci_low=low,
        ci_high=high, pvalue=test[2], confidence_level=level, n_obs=ranked.n, method=how,
        estimand="calibration_error", control=str(ranked.scores.labels[0]),
        treatment=str(ranked.scores.labels[ranked.code]), squared=error.squared, squared_std_error=error.std_error,
        squared_ci_low=error.ci_low, squared_ci_high=error.ci_high, raw=math.sqrt(error.raw), statistic=test[0],
        df=len(gap), df_error=test[1], n_bins=len(gap), bin=np.arange(1, len(gap) + 1), n=found.n, share=found.share,
        predicted=found.predicted, effect=found.effect, effect_std_error=found.std_error,
        effect_ci_low=found.effect - half, effect_ci_high=found.effect + half, gap=gap, gap_std_error=gap_error,
        gap_ci_low=gap - gap_half, gap_ci_high=gap + gap_half,
    )  # fmt: skip
