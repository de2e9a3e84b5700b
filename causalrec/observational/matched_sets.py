"""Hidden bias in matched sets of any size: one treated and some controls, or one control and some treated."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse, stats

from causalrec._typing import BoolArray, FloatArray, IntArray
from causalrec._validation import check_length, check_treatment, check_two_arms, check_vector
from causalrec.exceptions import CausalRecError, OutcomeError, TreatmentError
from causalrec.observational._hidden_bias import set_moments, trials_tail
from causalrec.observational.rosenbaum import (
    GAMMAS,
    Alternative,
    Effects,
    Tail,
    bounds_result,
    check_gamma,
    rosenbaum_bounds,
)
from causalrec.results import MatchResult, RosenbaumResult

_SAME = 1e-9  # standardised sums nearer than that are one


class Sets(NamedTuple):
    """Matched units, set by set: outcomes, who is the one of its arm there, and whether that one is treated."""

    y: FloatArray
    treated: BoolArray
    label: IntArray  # 0, 0, …, 1, 1, …
    one_treated: BoolArray  # of each set

    @property
    def start(self) -> IntArray:
        """Where each set begins, and the end."""
        return np.concatenate([[0], np.cumsum(np.bincount(self.label))])


def matched_set_bounds(
    y: Any,
    sets: Any,
    *,
    treatment: Any,
    control: Any = None,
    gamma: Sequence[float] | FloatArray | float = GAMMAS,
    alternative: Alternative = "two-sided",
    exact: bool | None = None,
    confidence_level: float = 0.95,
) -> RosenbaumResult:
    """Bounds on tests of matched sets when the odds of treatment within a set differ by a factor of up to gamma.

    Pairs with outcomes other than 0/1: :func:`rosenbaum_bounds`, Wilcoxon's signed rank. Larger sets: the sum over
    the treated of aligned ranks, outcomes less their set's mean ranked all together (Hodges and Lehmann 1962, Annals of
    Mathematical Statistics 33), in large samples normal, its worst case by the separable approximation of Gastwirth,
    Krieger and Rosenbaum (2000, JRSS B 62). Outcomes 0/1: the number of events among the treated (Mantel–Haenszel;
    McNemar for pairs), whose worst case is exact: in a set of n with m events the chance is between
    m / (m + Γ(n - m)) and Γm / (Γm + n - m) (Rosenbaum 2002, Observational Studies, section 4.4).

    Parameters
    ----------
    y : array of shape (n,)
    sets : MatchResult, or labels of shape (n,)
        Without replacement: no unit may be in two sets. Labels that are missing, or below 0, are units without a match.
    treatment : array of shape (n,)
        0/1, or two labels with ``control``.
    control : label, optional
    gamma, alternative, exact, confidence_level
        As in :func:`rosenbaum_bounds`; ``exact`` is for pairs.

    Raises
    ------
    CausalRecError
        When a unit is in several sets, or a set has several of both arms, or gamma is below 1.
    TreatmentError, OutcomeError
        When no set has both arms, and where outcomes do not vary within any.

    Examples
    --------
    >>> y = [5.0, 2, 1, 7, 3, 4, 9, 6, 5]
    >>> found = matched_set_bounds(y, [0, 0, 0, 1, 1, 1, 2, 2, 2], treatment=[1, 0, 0, 1, 0, 0, 1, 0, 0], gamma=2)
    >>> found.n_sets, round(float(found.estimate), 6)
    (3, 3.5)
    """
    outcome = check_vector(y, name="y")
    codes, labels = check_treatment(treatment, n_rows=len(outcome), control=control)
    check_two_arms(labels, what="a test of matched sets")
    found = _as_sets(outcome, codes, _set_labels(sets, len(outcome)))
    gammas = check_gamma(gamma)
    n_sets = len(found.one_treated)
    if set(np.unique(found.y)) <= {0.0, 1.0}:
        value, tails, n_used = _event_test(found)
        return bounds_result(
            tails, None, gammas, n_sets=n_sets, n_used=n_used, method="events in matched sets", alternative=alternative,
            statistic=value, confidence_level=confidence_level,
        )  # fmt: skip
    if len(found.y) == 2 * n_sets:
        pairs = found.y[found.treated] - found.y[~found.treated]
        return rosenbaum_bounds(
            pairs, gamma=gammas, alternative=alternative, exact=exact, confidence_level=confidence_level
        )
    return _ranked_sets(found, gammas, alternative, confidence_level)


def _set_labels(sets: Any, n_rows: int) -> IntArray:
    if isinstance(sets, MatchResult):
        check_length(sets.n_obs, n_rows, name="sets")
        return _of_match(sets)
    labels = np.asarray(sets)
    if labels.ndim != 1:
        raise CausalRecError(f"sets has shape {labels.shape}; expected one label per unit, or the result of match().")
    check_length(len(labels), n_rows, name="sets")
    if labels.dtype.kind in "iuf":
        numbers = labels.astype(np.float64)
        out = np.isnan(numbers) | (numbers < 0)
    else:
        out = np.array([value is None or value != value for value in labels], dtype=bool)
    found = np.full(n_rows, -1)
    found[~out] = np.unique(labels[~out], return_inverse=True)[1]
    return found


def _of_match(match: MatchResult) -> IntArray:
    """The set of each unit, -1 without one."""
    pairs = match.pairs()
    unit, other = pairs["unit"].to_numpy(), pairs["match"].to_numpy()
    if match.replace and len(np.unique(other)) < len(other):
        raise CausalRecError(
            "some units are in the sets of several others, so that sets are not independent and no bound holds. Match "
            "without replacement: match(…, replace=False), or method='full'."
        )
    graph = sparse.coo_matrix((np.ones(len(unit)), (unit, other)), shape=(match.n_obs, match.n_obs))
    labels = sparse.csgraph.connected_components(graph, directed=False)[1]
    used = np.zeros(match.n_obs, dtype=bool)
    used[unit] = used[other] = True
    return np.where(used, labels, -1)


def _as_sets(y: FloatArray, treatment: IntArray, label: IntArray) -> Sets:
    order = np.lexsort((y, label))
    order = order[label[order] >= 0]
    sorted_label = np.unique(label[order], return_inverse=True)[1]
    treated = treatment[order] == 1
    sizes = np.bincount(sorted_label)
    n_treated = np.bincount(sorted_label, weights=treated)
    both = (n_treated > 0) & (n_treated < sizes)
    if not both.any():
        raise TreatmentError("no matched set has units of both arms. Check that sets and treatment are in one order.")
    crowded = both & (n_treated > 1) & (n_treated < sizes - 1)
    if crowded.any():
        raise CausalRecError(
            f"{int(crowded.sum())} of {int(both.sum())} matched sets have several treated and several controls; the "
            "bounds are for sets with one of either. Match with method='full', or to pairs."
        )
    kept = both[sorted_label]
    place = np.cumsum(both) - 1
    return Sets(y[order][kept], treated[kept], place[sorted_label[kept]], n_treated[both] == 1)


def _event_test(sets: Sets) -> tuple[float, tuple[Tail, Tail], int]:
    """The number of events of the one of each set, where it is the treated, or of none there, where it is the control.

    Where the control is the one, the treated have all events of the set but its own; a constant apart, that counts as
    the set's units without an event, of which the control may be one.
    """
    size, events = np.bincount(sets.label), np.bincount(sets.label, weights=sets.y)
    hits = np.where(sets.one_treated, events, size - events).astype(np.int64)
    one = sets.treated == sets.one_treated[sets.label]
    scored = np.where(sets.one_treated[sets.label], sets.y, 1 - sets.y)
    statistic = round(float(scored[one].sum()))
    varies = (hits > 0) & (hits < size)
    if not varies.any():
        raise OutcomeError(
            "no matched set is discordant: in each all units have the outcome, or none. Such sets say nothing about "
            "the effect; match more units, or take another outcome."
        )
    certain = int((hits == size).sum())
    kinds, counts = np.unique(np.column_stack([hits, size])[varies], axis=0, return_counts=True)

    def tail(reached: int, ones: IntArray, gamma: float, worst: bool) -> float:
        odds = gamma if worst else 1 / gamma
        chances = odds * ones / (odds * ones + kinds[:, 1] - ones)
        return trials_tail(list(zip(counts.tolist(), chances.tolist(), strict=True)), reached)

    value = statistic - certain

    def greater(g: float, worst: bool) -> float:
        return tail(value, kinds[:, 0], g, worst)

    def less(g: float, worst: bool) -> float:
        return tail(int(varies.sum()) - value, kinds[:, 1] - kinds[:, 0], g, worst)

    return float(sets.y[sets.treated].sum()), (greater, less), int(varies.sum())


class _Ranks:
    """Aligned ranks of matched sets, with an effect taken from the treated, and their worst standardised sum."""

    def __init__(self, sets: Sets) -> None:
        self.sets = sets
        self.start = sets.start
        self.size = np.bincount(sets.label)
        few = sets.one_treated[sets.label]
        self.one = sets.treated == few
        self.sign = np.where(few, 1.0, -1.0)
        self.kept: dict[tuple[float, bool], tuple[float, FloatArray]] = {}

    def scores(self, shift: float, greater: bool) -> tuple[float, FloatArray]:
        """The sum over the one of each set, and all scores ascending within sets; of no effect they are kept."""
        if (shift, greater) in self.kept:
            return self.kept[shift, greater]
        label = self.sets.label
        y = self.sets.y - shift * self.sets.treated
        residual = y - (np.bincount(label, weights=y) / self.size)[label]
        scale = float(np.abs(residual).max())
        ranks = stats.rankdata(np.round(residual / scale, 12) if scale > 0 else residual)
        centred = (ranks - (np.bincount(label, weights=ranks) / self.size)[label]) * self.sign
        centred = centred if greater else -centred
        found = float(centred[self.one].sum()), centred[np.lexsort((centred, label))]
        if shift == 0:
            self.kept[shift, greater] = found
        return found

    def standardised(self, shift: float, gamma: float, *, greater: bool) -> float:
        """(T - E T) / sd T under the worst bias, for a positive, or a negative, effect."""
        value, scores = self.scores(shift, greater)
        mean, variance = set_moments(scores, self.start, gamma)
        gap = value - mean
        return gap / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, gap) if gap else 0.0

    def shift_at(self, gamma: float, limit: float, *, greater: bool) -> float:
        """Where the standardised sum falls to ``limit`` as the shift grows (``greater``), or as it gets less.

        By bisection to 10 digits of the outcomes' range; the middle of the shifts where it stays there.
        """
        reach = 2 * float(self.sets.y.max() - self.sets.y.min())
        sign = 1.0 if greater else -1.0

        def value(shift: float) -> float:
            return self.standardised(sign * shift, gamma, greater=greater)

        if not value(-reach) > limit:
            return -sign * math.inf
        first = _last(lambda shift: value(shift) > limit + _SAME, -reach, reach)
        after = first + 1e-9 * reach
        stays = abs(value(after) - limit) <= _SAME
        last = _last(lambda shift: value(shift) > limit - _SAME, first, reach) if stays else first
        return sign * (first + last) / 2


def _last(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Where a condition that holds at ``low`` ends."""
    for _ in range(36):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return (low + high) / 2


def _ranked_sets(sets: Sets, gammas: FloatArray, alternative: str, level: float) -> RosenbaumResult:
    low, high = sets.y[sets.start[:-1]], sets.y[sets.start[1:] - 1]
    n_used = int((high > low).sum())
    if n_used == 0:
        raise OutcomeError(
            f"in all {len(low)} matched sets the units have the same outcome, so that no test can tell the arms "
            "apart. Check the outcome, or take a finer one."
        )
    ranks = _Ranks(sets)

    def tail(greater: bool) -> Tail:
        def of(gamma: float, worst: bool) -> float:
            sign = 1.0 if worst else -1.0
            return float(stats.norm.sf(sign * ranks.standardised(0.0, gamma, greater=greater == worst)))

        return of

    def effects(gamma: float, alpha: float) -> Effects:
        z = float(stats.norm.isf(alpha))
        ends = [ranks.shift_at(gamma, limit, greater=greater) for greater in (True, False) for limit in (0.0, z)]
        return Effects(ends[0], ends[2], ends[1], ends[3])

    return bounds_result(
        (tail(True), tail(False)), effects, gammas, n_sets=len(low), n_used=n_used,
        method="aligned ranks of matched sets, normal approximation", alternative=alternative,
        statistic=ranks.scores(0.0, True)[0], confidence_level=level,
    )  # fmt: skip
