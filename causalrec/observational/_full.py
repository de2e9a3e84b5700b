"""Everybody in a set with the other arm: optimal full matching on a score, and fine stratification."""

from __future__ import annotations

import numpy as np

from causalrec._typing import FloatArray, IntArray
from causalrec.observational._sets import MatchedSets
from causalrec.observational.subclasses import score_strata

_SHORT = 32


def full_match(
    score: FloatArray,
    treatment: IntArray,
    *,
    estimand: str = "att",
    caliper: float = np.inf,
    strata: IntArray | None = None,
) -> tuple[MatchedSets, FloatArray]:
    """Optimal full matching on a score: sets of one treated and some controls, or one control and some treated.

    Everybody with anyone of the other arm within the caliper has a place, and the sum of distances between the one and
    the others of each set is the least possible (Rosenbaum 1991, JRSS B 53, "A characterization of optimal designs for
    observational studies"; Hansen 2004, JASA 99), without limits on the size of sets. On a line this is a least-cost
    edge cover whose edges only join neighbouring runs of one arm (Colannino et al. 2007, Graphs and Combinatorics 23,
    "Efficient many-to-many point matching in one dimension"): everyone goes to the nearest of the other arm, but for
    pairs that are formed across the gaps between runs, each of which saves a walk. How many there are across each gap
    is found by dynamic programming. O(n log n).

    Parameters
    ----------
    score : array of shape (n,), treatment : 0/1 array of shape (n,)
    estimand : {"att", "atc", "ate"}
    caliper : float
    strata : int array of shape (n,), optional
        Sets lie within strata.

    Returns
    -------
    MatchedSets and weights of shape (n,)
        Of each unit within its arm: for the att 1 for the treated, treated by controls of the set for the controls;
        for the ate the size of the set over those of its own arm there.

    Examples
    --------
    >>> sets, weights = full_match(np.array([0.1, 0.2, 0.3, 0.8, 0.9]), np.array([0, 1, 0, 1, 0]))
    >>> weights.tolist()
    [0.5, 1.0, 0.5, 1.0, 1.0]
    """
    group = np.zeros(len(score), dtype=np.int64) if strata is None else strata
    order = np.lexsort((treatment, score, group))
    nearest = _nearest_other(score[order], treatment[order], group[order])[0]
    order = order[(nearest <= caliper) & (nearest < np.inf)]
    label = np.full(len(score), -1)
    if len(order):
        label[order] = order[_centres(score[order], treatment[order], group[order], caliper)]
    return subclass_sets(label, score, treatment, estimand)


def fine_strata(
    score: FloatArray,
    treatment: IntArray,
    *,
    estimand: str = "att",
    n_strata: int = 20,
    strata: IntArray | None = None,
) -> tuple[MatchedSets, FloatArray]:
    """Strata of the score as sets: weights by their composition (Desai et al. 2017, Epidemiology 28, 249-257).

    Limits are quantiles of the score among the treated for the att, the controls for the atc, all for the ate. Strata
    without one of the arms are left out. With ``strata``, within each of those.

    Returns
    -------
    MatchedSets and weights of shape (n,), as :func:`full_match`
    """
    label = score_strata(score, treatment, n_strata, estimand=estimand)
    if strata is not None:
        label = label + (int(label.max()) + 1) * np.unique(strata, return_inverse=True)[1]
    arms = [np.bincount(label[treatment == arm], minlength=int(label.max()) + 1) for arm in (0, 1)]
    return subclass_sets(np.where((arms[0] > 0) & (arms[1] > 0), True, False)[label] * (label + 1) - 1, score,
                         treatment, estimand)  # fmt: skip


def subclass_sets(
    label: IntArray, score: FloatArray, treatment: IntArray, estimand: str
) -> tuple[MatchedSets, FloatArray]:
    """Subclasses, each with both arms, as matched sets: the other arm's members for each whose effect is asked for.

    ``label`` is -1 for units outside. Weights are 1 for the unit itself plus its shares in the sets of others.
    """
    inside = np.flatnonzero(label >= 0)
    code = np.unique(label[inside], return_inverse=True)[1]
    rows = [inside[treatment[inside] == arm] for arm in (0, 1)]
    codes = [code[treatment[inside] == arm] for arm in (0, 1)]
    sizes = [np.bincount(c, minlength=int(code.max(initial=-1)) + 1) for c in codes]
    weights, found, before = np.zeros(len(label)), [], 0
    for arm in {"att": (1,), "atc": (0,), "ate": (0, 1)}[estimand]:
        pool = rows[1 - arm][np.argsort(codes[1 - arm], kind="stable")]
        weights[rows[arm]] += 1.0
        weights[rows[1 - arm]] += (sizes[arm] / np.maximum(sizes[1 - arm], 1))[codes[1 - arm]]
        stop = np.cumsum(sizes[1 - arm])
        start = stop - sizes[1 - arm]
        mine, unit = codes[arm], rows[arm]
        low, high = np.minimum.reduceat(score[pool], start), np.maximum.reduceat(score[pool], start)
        farthest = np.maximum(score[unit] - low[mine], high[mine] - score[unit])
        found.append(MatchedSets(unit, start[mine] + before, stop[mine] + before, pool, farthest))
        before += len(pool)
    return MatchedSets(*(np.concatenate(parts) for parts in zip(*found, strict=True))), weights


def _nearest_other(score: FloatArray, arm: IntArray, group: IntArray) -> tuple[FloatArray, IntArray]:
    """Distance to the nearest of the other arm in the same group, infinite without one, and where it is.

    All in the order of (group, score); the left one if equally near.
    """
    n = len(score)
    places = np.arange(n)
    distances, where = [], []
    for step in (1, -1):
        a, s, g = arm[::step], score[::step], group[::step]
        last = [np.maximum.accumulate(np.where(a == other, places, -1)) for other in (0, 1)]
        at = np.where(a == 1, last[0], last[1])
        ok = (at >= 0) & (g[at] == g)
        distances.append(np.where(ok, np.abs(s - s[at]), np.inf)[::step])
        where.append((at if step == 1 else n - 1 - at)[::step])
    left = distances[0] <= distances[1]
    return np.where(left, *distances), np.where(left, *where)


def _centres(score: FloatArray, arm: IntArray, group: IntArray, caliper: float) -> IntArray:
    """Where the one is to whom each unit's set belongs; units in the order of (group, score)."""
    nearest, target = _nearest_other(score, arm, group)
    left, right = _pairs_across(score, arm, group, nearest, caliper)
    places = np.arange(len(score))
    single = np.ones(len(score), dtype=bool)
    single[left] = single[right] = False
    centre = np.where(single, target, places)
    wanted = np.zeros(len(score), dtype=bool)
    wanted[target[single]] = True
    # A pair is a set of its own, or belongs to the one of it to whom others have come; if they have come to both, it
    # is two sets.
    follow = wanted[right] & ~wanted[left]
    centre[left[follow]] = right[follow]
    lead = ~wanted[right]
    centre[right[lead]] = left[lead]
    return centre


def _pairs_across(
    score: FloatArray, arm: IntArray, group: IntArray, nearest: FloatArray, caliper: float
) -> tuple[IntArray, IntArray]:
    """Pairs across the gaps between runs of one arm that save most against everyone going to the nearest.

    The k pairs of a gap are of the k last left of it and the k first right of it. The k-th adds
    nearest(a_k) + nearest(b_k) - (b_k - a_k), never more than the one before; gaps compete for the units of a run.
    """
    begin = np.flatnonzero(np.r_[True, (arm[1:] != arm[:-1]) | (group[1:] != group[:-1])])
    size = np.diff(np.append(begin, len(score)))
    gap = np.flatnonzero(group[begin[1:]] == group[begin[:-1]]) + 1  # the run right of it
    most = np.minimum(size[gap - 1], size[gap])
    ends = np.cumsum(most)
    k = np.arange(int(most.sum())) - np.repeat(ends - most, most)
    at = np.repeat(begin[gap], most)
    a, b = at - 1 - k, at + k
    gain = nearest[a] + nearest[b] - (score[b] - score[a])
    allowed = _within(score, begin[gap], most, caliper) if np.isfinite(caliper) else most
    useful = (gain >= 0) & (k < np.repeat(allowed, most))
    counts = np.bincount(np.repeat(np.arange(len(gap)), most)[useful], minlength=len(gap))
    chosen = np.zeros(len(size), dtype=np.int64)
    chosen[gap] = _share_runs(gain[useful], counts, size, gap)
    chosen = chosen[gap]
    ends = np.cumsum(chosen)
    k = np.arange(int(chosen.sum())) - np.repeat(ends - chosen, chosen)
    at, many = np.repeat(begin[gap], chosen), np.repeat(chosen, chosen)
    return at - many + k, at + k  # in order: the farthest left with the first right


def _within(score: FloatArray, begin: IntArray, most: IntArray, caliper: float) -> IntArray:
    """How many pairs across each gap, paired in order, have all their distances within the caliper."""
    allowed = most.copy()
    for i in np.flatnonzero(score[begin + most - 1] - score[begin - most] > caliper):
        low, high, at = 0, int(most[i]), int(begin[i])
        while low < high:
            k = (low + high + 1) // 2
            fits = (score[at : at + k] - score[at - k : at]).max() <= caliper
            low, high = (k, high) if fits else (low, k - 1)
        allowed[i] = low
    return allowed


def _share_runs(gain: FloatArray, counts: IntArray, size: IntArray, gap: IntArray) -> IntArray:
    """How many pairs to form across each gap: the most gain in all, where those of both gaps of a run fit into it.

    best(i, k) = gain of k pairs at gap i + max over j <= size - k of best(i - 1, j); the larger of equal numbers.
    """
    total = np.concatenate([[0.0], np.cumsum(gain)])
    ends = np.cumsum(counts)
    limits = size[gap - 1].tolist()
    linked = np.r_[False, gap[1:] == gap[:-1] + 1].tolist()
    best: list[float] = [0.0]
    where: list[int] = [0]
    history: list[tuple[list[int], int]] = []  # for each gap: the best number up to j at the gap before, its limit
    finals: list[list[int]] = []
    for begin, end, room, joined in zip((ends - counts).tolist(), ends.tolist(), limits, linked, strict=True):
        if not joined:
            best, where = [0.0], [0]
        history.append((where, room))
        sums = (total[begin : end + 1] - total[begin]).tolist()
        last = len(best) - 1
        best = [s + best[min(room - k, last)] for k, s in enumerate(sums)]
        best, where = _running_best(best)
        finals.append(where)
    chosen = np.zeros(len(counts), dtype=np.int64)
    k = 0
    for i in range(len(counts) - 1, -1, -1):
        if i == len(counts) - 1 or not linked[i + 1]:
            k = finals[i][-1]
        chosen[i] = k
        before, room = history[i]
        k = before[min(room - k, len(before) - 1)]
    return chosen


def _running_best(best: list[float]) -> tuple[list[float], list[int]]:
    """The best up to each place, and where it is; the later of equal ones."""
    top, at, tops, ats = -1.0, 0, [], []
    for k, value in enumerate(best):
        if value >= top:
            top, at = value, k
        tops.append(top)
        ats.append(at)
    return tops, ats
