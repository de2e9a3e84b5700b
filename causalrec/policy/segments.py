"""Persuadables, sure things, lost causes and sleeping dogs: by the interval of the effect, not by its estimate.

Somebody with a predicted uplift of 2% is not yet persuadable: the prediction has to hold. A persuadable is in a group
whose effect is above zero (or above what treatment costs) over the whole of its interval, a sleeping dog in one whose
effect is below zero. Where the interval holds zero no effect is shown, and the expected outcome without treatment
tells sure things, who do it anyway, from lost causes, who do not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from causalrec._typing import AnyArray, FloatArray, IntArray
from causalrec._validation import check_confidence_level, check_vector
from causalrec.exceptions import CausalRecError
from causalrec.nuisance import ArmScores, Nuisances, arm_scores
from causalrec.policy._groups import GroupMeans, cautious_means, lift_shares
from causalrec.policy._profile import Profile, segment_profile
from causalrec.policy._segment_inputs import (
    check_baseline,
    check_cut,
    check_margin,
    check_threshold,
    effect_column,
    group_mean,
    interval_ends,
)
from causalrec.policy._verdicts import Judged, judge_groups, no_groups, verdicts
from causalrec.results import NAN, SegmentRule, SegmentsResult
from causalrec.results.segments import (
    NO_EFFECT,
    SEGMENTS,
    UNDECIDED,
    check_segments,
    split_by_baseline,
)

__all__ = ["SegmentRule", "describe_segments", "learn_segments", "segment_units"]

_MOST_GROUPS = 10
_MAP_CELLS = 16  # of each side of the map


def segment_units(
    intervals: Any,
    baseline: Any = None,
    *,
    threshold: float = 0.0,
    margin: float | None = None,
    baseline_cut: float | None = None,
    arm: Any = None,
) -> AnyArray:
    """The segment of each unit by the interval of its own effect.

    Parameters
    ----------
    intervals : UpliftIntervalsResult, or a pair of arrays (low, high), each of shape (n,)
        Pointwise, from a causal forest (``predict_interval``) or :func:`causalrec.uplift.bootstrap_intervals`.
    baseline : array of shape (n,), optional
        Expected outcome of each unit without treatment. Without it sure things cannot be told from lost causes, and
        both are ``"undecided"``.
    threshold : float
        Effect that a persuadable's has to exceed: the cost of treatment over the value of a unit of the outcome.
    margin : float, optional
        Largest effect, beyond zero or the threshold, that counts as none: an interval that reaches further leaves the
        unit undecided rather than a sure thing or a lost cause. By default every interval that holds zero counts as
        no effect shown, however wide it is.
    baseline_cut : float, optional
        Expected outcome from which on somebody is a sure thing. By default the mean of ``baseline``: with a conversion
        of 2% nobody is sure in the plain sense of the word, only surer than most.
    arm : label, optional
        Of several in an ``UpliftIntervalsResult``.

    Returns
    -------
    array of shape (n,), text
        ``"persuadables"``, ``"sure things"``, ``"lost causes"``, ``"sleeping dogs"`` or ``"undecided"``.

    Raises
    ------
    CausalRecError
        For low ends above high ones, missing values, lengths that differ, a threshold or margin below zero.
    TreatmentError
        For an unknown arm, or none of several.

    Notes
    -----
    Each interval holds for its own unit: of people whom treatment does nothing for, (1 - confidence level) / 2 are
    called persuadable. :func:`learn_segments` makes claims about groups that hold together.

    Examples
    --------
    >>> segment_units(([0.1, -0.2, -0.1, -0.4], [0.3, 0.2, 0.1, -0.2]), baseline=[0.2, 0.7, 0.1, 0.9]).tolist()
    ['persuadables', 'sure things', 'lost causes', 'sleeping dogs']
    """
    low, high = interval_ends(intervals, arm)
    worth, room = check_threshold(threshold), check_margin(margin)
    verdict = verdicts(low, high, worth, room)
    found = np.where(verdict == NO_EFFECT, UNDECIDED, verdict)
    if baseline is not None:
        base = check_vector(baseline, name="baseline", n_rows=len(low))
        cut = float(base.mean()) if baseline_cut is None else float(baseline_cut)
        found = np.where(verdict == NO_EFFECT, split_by_baseline(base, cut), found)
    return found.astype(str)


def learn_segments(
    y: Any,
    uplift: Any,
    treatment: Any,
    *,
    baseline: Any = None,
    X: Any = None,
    propensity: Any = None,
    nuisance: Nuisances | None = None,
    sample_weight: Any = None,
    clusters: Any = None,
    control: Any = None,
    arm: Any = None,
    n_groups: int = 5,
    threshold: float = 0.0,
    margin: float | None = None,
    baseline_cut: float | None = None,
    confidence_level: float = 0.95,
) -> SegmentsResult:
    """Segments by groups of predicted uplift whose effects were measured, with a rule for new units.

    Units are put into groups of equal weight by predicted uplift. The effect of each group, with an interval that is
    corrected for the number of groups (Bonferroni), says what its members are; neighbouring groups of one verdict are
    one range of ``.rule``. Where no effect is shown, the expected outcome without treatment divides.

    Parameters
    ----------
    y : array of shape (n,)
        Outcomes; larger is better.
    uplift : array of shape (n,) or (n, k - 1), or frame with columns named by the arms
        Effects predicted for these rows **by a model that has not seen them**.
    treatment : array of shape (n,)
        0/1, or labels with ``control``.
    baseline : array of shape (n,), optional
        Expected outcome of each unit without treatment, by a model that has not seen it. By default what ``nuisance``
        expects; without either, units without a shown effect are ``"undecided"``.
    X : frame or array of shape (n, p), optional
        Covariates for the profile of each segment.
    propensity, nuisance, sample_weight, clusters, control : as for :func:`causalrec.nuisance.arm_scores`
    arm : label, optional
        Needed where there are more than two arms.
    n_groups : int
        From 1 to 10. More groups find finer segments and need more rows: each has to show its effect alone.
    threshold : float
        Effect that a persuadable's has to exceed: the cost of treatment over the value of a unit of the outcome.
    margin : float, optional
        Largest effect, beyond zero or the threshold, that counts as none; groups whose interval reaches further are
        undecided. By default every group without a shown effect counts as no effect shown, however wide its interval.
    baseline_cut : float, optional
        Expected outcome from which on somebody is a sure thing; by default the mean outcome of control in these rows.
    confidence_level : float
        With which all verdicts, and all intervals of segments, hold at once.

    Raises
    ------
    TreatmentError
        For an unknown arm, a group in which an arm has fewer than 10 rows, or a frame without the arm.
    CausalRecError
        For predictions that are missing or of another shape, or settings out of range.

    Notes
    -----
    All verdicts and all intervals of effects hold at once with ``confidence_level``. Four fifths of the allowed error
    are the groups', by Bonferroni. Segments are unions of groups that these same outcomes chose; their intervals have
    the last fifth, and hold for every union that might have been chosen. Shares of the lift are corrected for the
    number of segments alone: together they cover in 94 to 99% (simulated, 1500 rows).

    A group's average says nothing of the differences within it: finer groups do. Verdicts need not fall with the
    predictions; where they do not, the model's order is wrong there.

    Errors are at least those of outcomes that vary alike in both arms, so that a small arm with few events by chance
    does not look certain. Without nuisances a group's effect is the difference of its arms' means, weighted by inverse
    propensity; with them the mean of doubly robust scores.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, treatment = rng.uniform(-1, 1, 4000), rng.integers(0, 2, 4000)
    >>> y = 1.0 * (rng.random(4000) < 0.4 + 0.3 * x * treatment)
    >>> found = learn_segments(y, 0.3 * x, treatment, propensity=0.5, n_groups=3)
    >>> found.rule.verdicts
    ('persuadables', 'no effect shown', 'sleeping dogs')
    >>> found.rule.assign([0.2, 0.0, -0.2]).tolist()
    ['persuadables', 'undecided', 'sleeping dogs']
    """
    level, worth, room = check_confidence_level(confidence_level), check_threshold(threshold), check_margin(margin)
    if not isinstance(n_groups, int | np.integer) or isinstance(n_groups, bool) or not 1 <= n_groups <= _MOST_GROUPS:
        raise CausalRecError(f"n_groups is {n_groups!r}; expected a whole number from 1 to {_MOST_GROUPS}.")
    scores = arm_scores(
        y, treatment, control=control, propensity=propensity, nuisance=nuisance, sample_weight=sample_weight,
        clusters=clusters,
    )  # fmt: skip
    code = scores.arm_code(arm)
    effect = effect_column(uplift, scores, code)
    base = check_baseline(baseline, scores)
    cut = check_cut(baseline_cut, base, scores)
    judged = judge_groups(
        scores, code, effect, base, cut, n_groups=int(n_groups), threshold=worth, margin=room, level=level
    )  # fmt: skip
    rule = SegmentRule("", "", tuple(judged.edges[1:-1].tolist()), tuple(judged.verdict.tolist()), cut)
    return _described(
        scores, code, rule.assign(effect, base), effect, base, X, level=level, critical=judged.critical,
        threshold=worth, margin=room, cut=cut, judged=judged,
        method=f"{len(judged.verdict)} group{'s' * (len(judged.verdict) > 1)} of predicted uplift, {_how(scores)}",
    )  # fmt: skip


def describe_segments(
    segments: Any,
    y: Any,
    treatment: Any,
    *,
    uplift: Any = None,
    baseline: Any = None,
    X: Any = None,
    propensity: Any = None,
    nuisance: Nuisances | None = None,
    sample_weight: Any = None,
    clusters: Any = None,
    control: Any = None,
    arm: Any = None,
    confidence_level: float = 0.95,
) -> SegmentsResult:
    """Size, effect, share of the lift and profile of segments that were assigned without looking at these outcomes.

    For segments from :func:`segment_units`, or from a rule that other rows taught: its promise put to the test.

    Parameters
    ----------
    segments : array of shape (n,)
        Of each row, as :func:`segment_units` and ``SegmentRule.assign`` give them.
    y, treatment, uplift, baseline, X, propensity, nuisance, sample_weight, clusters, control, arm :
        As for :func:`learn_segments`; ``uplift`` may be left out.
    confidence_level : float
        With which the intervals of all segments hold at once (Bonferroni).

    Raises
    ------
    CausalRecError
        For labels that are no segments; besides what :func:`learn_segments` raises.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, treatment = rng.uniform(-1, 1, 4000), rng.integers(0, 2, 4000)
    >>> y = 1.0 * (rng.random(4000) < 0.4 + 0.3 * x * treatment)
    >>> found = describe_segments(np.where(x > 0, "persuadables", "sleeping dogs"), y, treatment, propensity=0.5)
    >>> found.effect.round(2).tolist(), found.n.tolist()
    ([0.15, -0.14], [1969, 2031])
    """
    level = check_confidence_level(confidence_level)
    scores = arm_scores(
        y, treatment, control=control, propensity=propensity, nuisance=nuisance, sample_weight=sample_weight,
        clusters=clusters,
    )  # fmt: skip
    code = scores.arm_code(arm)
    labels = check_segments(segments, len(scores.y))
    n_segments = len(set(labels[scores.weight > 0].tolist()))
    return _described(
        scores, code, labels, None if uplift is None else effect_column(uplift, scores, code),
        check_baseline(baseline, scores), X, level=level, critical=float(stats.norm.isf((1 - level) / 2 / n_segments)),
        threshold=NAN, margin=NAN, cut=NAN, method=f"as given, {_how(scores)}", judged=None,
    )  # fmt: skip


def _described(
    scores: ArmScores,
    code: int,
    labels: AnyArray,
    uplift: FloatArray | None,
    baseline: FloatArray | None,
    X: Any,
    *,
    level: float,
    critical: float,
    threshold: float,
    margin: float,
    cut: float,
    method: str,
    judged: Judged | None,
) -> SegmentsResult:
    weight = scores.weight
    present = set(labels[weight > 0].tolist())
    names = np.array([name for name in SEGMENTS if name in present])
    place = {name: i for i, name in enumerate(names.tolist())}
    group = np.array([place.get(label, 0) for label in labels.tolist()], dtype=np.int64)
    k = len(names)
    means = cautious_means(scores, group, k, code)
    lift = lift_shares(scores, means, group, code, float(stats.norm.isf((1 - level) / 2 / k)))
    low, high = _interval(means, names, critical, judged)
    alone = float(stats.norm.isf((1 - level) / 2)) * lift.std_error
    none = np.empty(0)
    profile = (
        Profile(np.empty(0, dtype=np.int64), np.empty(0, dtype=str), none, none, none)
        if X is None
        else segment_profile(X, group, k, weight)
    )
    where, across, up, n = _map(group, uplift, baseline, weight)
    return SegmentsResult(
        control=str(scores.labels[0]), treatment=str(scores.labels[code]), threshold=threshold,
        margin=margin if np.isfinite(margin) else NAN, baseline_cut=cut, average=lift.average,
        average_std_error=lift.std_error, average_ci_low=lift.average - alone, average_ci_high=lift.average + alone,
        confidence_level=level, n_obs=scores.n_obs, n_segments=k, method=method, segment=names, n=means.n,
        share=means.share,
        predicted=np.full(k, NAN) if uplift is None else group_mean(uplift, group, k, weight),
        effect=means.effect, std_error=means.std_error, ci_low=low, ci_high=high,
        outcome=means.outcome, outcome_std_error=means.outcome_std_error, lift_share=lift.share,
        lift_share_ci_low=lift.ci_low, lift_share_ci_high=lift.ci_high,
        **(no_groups() if judged is None else judged.fields()),
        profile_segment=names[profile.segment], profile_covariate=profile.covariate, profile_mean=profile.mean,
        profile_rest=profile.rest, profile_difference=profile.difference,
        map_segment=names[where], map_uplift=across, map_baseline=up, map_n=n,
    )  # fmt: skip


def _interval(
    means: GroupMeans, names: AnyArray, critical: float, judged: Judged | None
) -> tuple[FloatArray, FloatArray]:
    """Ends of the segments' intervals: where those of the groups say more about a union of them, these."""
    half = critical * means.std_error
    low, high = means.effect - half, means.effect + half
    if judged is not None:
        ends = np.array([judged.whole(name) for name in names.tolist()])
        low = np.minimum(np.fmax(low, ends[:, 0]), means.effect)
        high = np.maximum(np.fmin(high, ends[:, 1]), means.effect)
    unknown = np.isnan(means.std_error)
    return np.where(unknown, NAN, low), np.where(unknown, NAN, high)


def _map(
    group: IntArray, uplift: FloatArray | None, baseline: FloatArray | None, weight: FloatArray
) -> tuple[IntArray, FloatArray, FloatArray, IntArray]:
    """Rows by segment and cell of predicted uplift and baseline: place of the segment, centres, rows."""
    if uplift is None or baseline is None:
        none = np.empty(0, dtype=np.int64)
        return none, np.empty(0), np.empty(0), none
    keep = weight > 0
    (column, across), (row, up) = _cells(uplift[keep]), _cells(baseline[keep])
    cell, n = np.unique((group[keep] * len(across) + column) * len(up) + row, return_counts=True)
    return cell // (len(across) * len(up)), across[cell // len(up) % len(across)], up[cell % len(up)], n


def _cells(values: FloatArray) -> tuple[IntArray, FloatArray]:
    """Cells of equal width between the 1st and 99th percentile, the outer ones open, and their centres."""
    low, high = np.quantile(values, [0.01, 0.99])
    if not high > low:
        low, high = float(values.min()), float(values.max())
    if not high > low:
        return np.zeros(len(values), dtype=np.int64), values[:1].copy()
    width = (high - low) / _MAP_CELLS
    cell = np.clip(((values - low) / width).astype(np.int64), 0, _MAP_CELLS - 1)
    return cell, low + width * (np.arange(_MAP_CELLS) + 0.5)


def _how(scores: ArmScores) -> str:
    by = "difference of means" if scores.outcomes is None else "doubly robust scores"
    units = scores.clusters
    return by if units is None else f"{by}, clustered by {len(np.unique(units[scores.weight > 0])):,} groups"
