"""Effects of groups of units and their shares of the whole lift, with the covariances that intervals are made of."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse, stats

from causalrec._ratios import fieller_interval
from causalrec._typing import BoolArray, FloatArray, IntArray
from causalrec.nuisance.arm_scores import ArmScores
from causalrec.results import NAN

_FEW_UNIONS = 200


class GroupMeans(NamedTuple):
    """Of each group, shape (g,): rows, share of the weight, effect, and outcome without treatment, with their errors.

    ``moved`` says how far each row moves the effect of its own group, shape (n,).
    """

    n: IntArray
    share: FloatArray
    effect: FloatArray
    std_error: FloatArray
    outcome: FloatArray
    outcome_std_error: FloatArray
    moved: FloatArray


class Mean(NamedTuple):
    """Means by group, shape (g,), and how far each row moves that of its own group, shape (n,)."""

    value: FloatArray
    moved: FloatArray


def quantile_groups(uplift: FloatArray, weight: FloatArray, n_groups: int) -> IntArray:
    """Groups 0, 1, … of equal weight by prediction, highest first; equal predictions stay together, none is empty.

    Examples
    --------
    >>> quantile_groups(np.array([0.1, 0.4, 0.3, 0.2]), np.ones(4), 2).tolist()
    [1, 0, 0, 1]
    """
    _, place = np.unique(-uplift, return_inverse=True)
    mass = np.bincount(place, weights=weight)
    middle = (np.cumsum(mass) - mass / 2) / mass.sum()
    return np.unique(np.minimum((middle * n_groups).astype(np.int64), n_groups - 1)[place], return_inverse=True)[1]


def group_means(scores: ArmScores, group: IntArray, n_groups: int, code: int) -> GroupMeans:
    """Effect of an arm against control in groups 0..n_groups-1, and the mean outcome of control.

    With doubly robust scores their weighted means (the GATES of Chernozhukov et al. 2025, Econometrica 93). Without,
    the difference of the arms' means within the group, weighted by inverse propensity (Hájek), which needs no error
    for an estimated share. Variances are those of means of clusters' sums, times u / (u - 1) for the u rows or clusters
    that a mean is made of; for two arms of plain rows it is Welch's.

    Where the outcomes of an arm do not vary within a group, the effect's error is NaN: that nobody converted is no
    certainty. Only an arm that has one outcome everywhere, such as control where it cannot convert, is taken at its
    word.
    """
    w = scores.weight
    present, silent = w > 0, _silent(scores, group, n_groups, code)
    total = np.bincount(group, weights=w, minlength=n_groups)
    if scores.outcomes is None:
        control = _arm_mean(scores, group, n_groups, 0)
        treated = _arm_mean(scores, group, n_groups, code)
        effect = Mean(treated.value - control.value, treated.moved - control.moved)
    else:
        control = _mean(scores.of(0), w, group, n_groups, scores.clusters, present)
        effect = _mean(scores.effect(code), w, group, n_groups, scores.clusters, present)
    return GroupMeans(
        np.bincount(group[present], minlength=n_groups), total / total.sum(),
        effect.value, np.where(silent, NAN, group_errors(effect.moved, group, n_groups, scores.clusters)),
        control.value, group_errors(control.moved, group, n_groups, scores.clusters), effect.moved,
    )  # fmt: skip


def cautious_means(scores: ArmScores, group: IntArray, n_groups: int, code: int) -> GroupMeans:
    """:func:`group_means` with errors that few events do not make too small.

    A small arm that shows few events by chance has a low mean and a low variance at once, so that its effect looks
    certain: with 2% events and 15% treated, false sleeping dogs come up in 13% instead of 2.5%. The error is therefore
    at least that of outcomes which vary alike in both arms (the variance of the two together, as in Student's test and
    in the score test of two shares); with clusters it is raised by as much as without.
    """
    means = group_means(scores, group, n_groups, code)
    own, alike = _variances(scores, group, n_groups, code)
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = np.sqrt(np.fmax(1.0, alike / own))
    factor = np.where(np.isfinite(factor), factor, 1.0)
    return means._replace(std_error=means.std_error * factor, moved=means.moved * factor[group])


def _variances(scores: ArmScores, group: IntArray, n_groups: int, code: int) -> tuple[FloatArray, FloatArray]:
    """Variances of the groups' effects for plain rows: with the arms' own spreads, and with that of both together."""

    def sums(values: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(group, weights=values, minlength=n_groups), dtype=np.float64)

    w, both = scores.weight, (scores.codes == 0) | (scores.codes == code)
    share = scores.propensity[:, 0] + scores.propensity[:, code]
    inverse = (1 / scores.propensity[:, 0] + 1 / scores.propensity[:, code]) / share
    if scores.outcomes is not None:
        if not both.any():
            return np.ones(n_groups), np.zeros(n_groups)
        rows = np.flatnonzero(both)
        gap = np.zeros(len(w))
        gap[rows] = scores.y[rows] - scores.outcomes[rows, scores.codes[rows]]
        model = scores.outcomes[:, code] - scores.outcomes[:, 0]
        effect = scores.effect(code)
        with np.errstate(invalid="ignore", divide="ignore"):
            centre, middle = (sums(w * values) / sums(w) for values in (effect, model))
        own = sums(w**2 * (effect - centre[group]) ** 2)
        return own, sums(w**2 * ((model - middle[group]) ** 2 + np.where(both, gap**2 * inverse, 0.0)))
    own, size, spread = np.zeros(n_groups), np.zeros(n_groups), np.zeros(n_groups)
    with np.errstate(invalid="ignore", divide="ignore"):
        for each in (0, code):
            part = np.where(scores.codes == each, w / scores.propensity[:, each], 0.0)
            total = sums(part)
            squares = (scores.y - (sums(part * scores.y) / total)[group]) ** 2
            own += sums(part**2 * squares) / total**2
            size += sums(part**2) / total**2
            spread += sums(np.where(scores.codes == each, w, 0.0) * squares)
        return own, size * spread / sums(np.where(both, w, 0.0))


def _silent(scores: ArmScores, group: IntArray, n_groups: int, code: int) -> BoolArray:
    """Groups whose rows do not tell how much the outcomes of an arm vary."""
    varies, known = [], []
    for each in (0, code):
        rows = (scores.codes == each) & (scores.weight > 0)
        if not rows.any():  # a table of scores, of outcomes that nobody knows here
            return np.zeros(n_groups, dtype=bool)
        low, high = np.full(n_groups, np.inf), np.full(n_groups, -np.inf)
        np.minimum.at(low, group[rows], scores.y[rows])
        np.maximum.at(high, group[rows], scores.y[rows])
        varies.append(high > low)
        known.append(bool(low.min() == high.max()))
    told = (varies[0] | known[0]) & (varies[1] | known[1]) & (varies[0] | varies[1])
    return np.asarray(~told)


def _arm_mean(scores: ArmScores, group: IntArray, n_groups: int, code: int) -> Mean:
    own = scores.codes == code
    weight = np.where(own, scores.weight / scores.propensity[:, code], 0.0)
    return _mean(scores.y, weight, group, n_groups, scores.clusters, own & (scores.weight > 0))


def _mean(
    values: FloatArray, weight: FloatArray, group: IntArray, n_groups: int, clusters: IntArray | None, counts: BoolArray
) -> Mean:
    total = np.bincount(group, weights=weight, minlength=n_groups)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(group, weights=weight * values, minlength=n_groups) / total
        u = _units(group[counts], n_groups, None if clusters is None else clusters[counts])
        factor = np.sqrt(u / np.where(u > 1, u - 1, NAN))
        moved = weight / total[group] * (values - mean[group]) * factor[group]
    return Mean(mean, np.where(weight > 0, moved, 0.0))


def _units(group: IntArray, n_groups: int, clusters: IntArray | None) -> FloatArray:
    """Rows, or clusters, in each group."""
    if clusters is not None:
        group = np.unique(clusters * n_groups + group) % n_groups
    return np.bincount(group, minlength=n_groups).astype(np.float64)


def group_errors(moved: FloatArray, group: IntArray, n_groups: int, clusters: IntArray | None) -> FloatArray:
    """Root of the sum of squares, by group, of rows' or clusters' sums; NaN where that is not known."""
    if clusters is None:
        return np.sqrt(np.bincount(group, weights=moved**2, minlength=n_groups))
    shape = (int(clusters.max()) + 1, n_groups)
    table = sparse.coo_array((moved, (clusters, group)), shape=shape).tocsr()
    return np.sqrt(np.asarray(table.multiply(table).sum(axis=0), dtype=np.float64).ravel())


class Lift(NamedTuple):
    """Effect on everybody with its error, and each group's share of it with an interval, shape (g,)."""

    average: float
    std_error: float
    share: FloatArray
    ci_low: FloatArray
    ci_high: FloatArray


def lift_shares(scores: ArmScores, means: GroupMeans, group: IntArray, code: int, critical: float) -> Lift:
    r"""What part of the lift of treating everybody comes from each group, by Fieller's method.

    With :math:`p_s` the share of people and :math:`\theta_s` the effect of group s, the part is
    :math:`N_s / A = p_s \theta_s / \sum_r p_r \theta_r`. Fieller (1954, JRSS B 16): the ratios r for which
    :math:`N_s - r A` is within ``critical`` errors of zero. Where A may be zero there is no bound; a group without an
    error has no share.
    """
    k, w = len(means.n), scores.weight
    product = means.share * means.effect
    moves = np.outer(-w / w.sum(), np.nan_to_num(product))
    rows = np.arange(len(w))
    own = means.share[group] * means.moved + w / w.sum() * means.effect[group]
    moves[rows, group] += np.nan_to_num(own)
    if scores.clusters is not None:
        moves = np.column_stack([np.bincount(scores.clusters, weights=column) for column in moves.T])
    covariance = moves.T @ moves
    average, variance = float(product.sum()), float(covariance.sum())
    error, silent = float(np.sqrt(variance)), np.isnan(means.std_error)
    if silent.any():  # a segment that lacks an arm, or its variance, which everybody together may have
        everybody = group_means(scores, np.zeros_like(group), 1, code)
        average, error = float(everybody.effect[0]), float(everybody.std_error[0])
        variance = error**2
    shares, low, high = np.full(k, NAN), np.full(k, NAN), np.full(k, NAN)
    for s in np.flatnonzero(~silent):
        shares[s] = product[s] / average if average else NAN
        low[s], high[s] = fieller_interval(
            float(product[s]), average, float(covariance[s, s]), variance, float(covariance[s].sum()), critical
        )  # fmt: skip
    return Lift(average, error, shares, low, high)


def simultaneous_critical(shares: FloatArray, side_share: FloatArray | None, confidence_level: float) -> float:
    r"""Errors that an interval needs on either side to hold for every union of groups at once.

    Segments are unions of groups that the same outcomes chose, so all that might have been chosen have to hold. Groups
    are taken as independent with variances that fall with their share; the largest of the unions' standardised errors,
    :math:`\max_S |\sum_{g \in S} \sqrt{p_g} z_g| / \sqrt{p_S}`, is simulated (a fixed seed).

    Parameters
    ----------
    shares : array of shape (g,)
        Of the groups, g at most 10.
    side_share : array of shape (g,), optional
        Share of each group's weight at or above the cut of the baseline; then unions of either side count as well.
    confidence_level : float
    """
    k = len(shares)
    unions = ((np.arange(1, 2**k)[:, None] >> np.arange(k)) & 1).astype(np.float64)
    if side_share is None:
        cells, chosen = shares, unions
    else:
        cells = np.concatenate([shares * side_share, shares * (1 - side_share)])
        none = np.zeros_like(unions)
        chosen = np.concatenate([np.hstack(pair) for pair in ((unions, unions), (unions, none), (none, unions))])
    loads = chosen * np.sqrt(cells)
    size = np.sqrt((loads**2).sum(axis=1))
    loads = loads[size > 0] / size[size > 0, None]
    rng, n_parts = np.random.default_rng(0), 40 if len(loads) <= _FEW_UNIONS else 20
    largest = np.concatenate(
        [np.abs(rng.standard_normal((1000, len(cells))) @ loads.T).max(axis=1) for _ in range(n_parts)]
    )
    alone = float(stats.norm.isf((1 - confidence_level) / 2))
    return alone if len(loads) == 1 else max(alone, float(np.quantile(largest, confidence_level)))
