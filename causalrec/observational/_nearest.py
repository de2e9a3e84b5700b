"""Nearest neighbours on a line (a score, its logit, one covariate), with replacement: sort once, then look up.

O(n log n) for any number of neighbours, ties of any size included: equally near units are neighbours in sorted order,
so that a matched set is a slice.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from causalrec._typing import BoolArray, FloatArray, IntArray
from causalrec.observational._sets import MatchedSets

_FEW = 16
ASKING = {"ate": (0, 1), "att": (1,), "atc": (0,)}


class Line(NamedTuple):
    """Both arms in order of stratum and place: the controls, then the treated, in one pool.

    ``values`` and ``strata`` are those of the pool; ``n_control`` is where the treated begin; ``before`` how many of
    the other arm lie before each of the pool; ``slack`` the largest difference that rounding may make between equal
    distances.
    """

    pool: IntArray
    values: FloatArray
    strata: IntArray | None
    n_control: int
    before: IntArray
    slack: float

    def arm(self, arm: int) -> slice:
        """Where an arm lies in the pool."""
        return slice(self.n_control, len(self.pool)) if arm else slice(0, self.n_control)

    def size(self, arm: int) -> int:
        """Units of an arm."""
        return len(self.pool) - self.n_control if arm else self.n_control


def sort_line(place: FloatArray, treatment: IntArray, strata: IntArray | None) -> Line:
    """Sort both arms by stratum and place."""
    order = np.argsort(place) if strata is None else np.lexsort((place, strata))
    treated = treatment[order] == 1
    at = [np.flatnonzero(~treated), np.flatnonzero(treated)]
    pool = order[np.concatenate(at)]
    before = np.concatenate([where - np.arange(len(where)) for where in at])
    return Line(
        pool, place[pool], None if strata is None else strata[pool], len(at[0]), before, rounding(place)
    )  # fmt: skip


def sorted_line(values: FloatArray, n_control: int) -> Line:
    """The line of units that lie in its order already, without strata."""
    control, treated = values[:n_control], values[n_control:]
    below = np.searchsorted(treated, control)
    not_above = np.cumsum(np.bincount(below, minlength=len(treated) + 1))[:-1]
    return Line(
        np.arange(len(values)), values, None, n_control, np.concatenate([below, not_above]), rounding(values)
    )  # fmt: skip


def rounding(place: FloatArray) -> float:
    """A bound on the rounding of differences between places."""
    return float(8 * np.finfo(np.float64).eps * max(place.max(), -place.min()))


def match_line(line: Line, *, estimand: str, ratio: int, caliper: float) -> MatchedSets:
    """Each asking unit's ``ratio`` nearest of the other arm within its stratum and the caliper, all ties included.

    The set is every unit no farther than the ``ratio``-th nearest (Abadie and Imbens 2006, Econometrica 74,
    section 2.2); fewer where the caliper or the stratum has no more.
    """
    found = [line_sets(line, arm, 1 - arm, ratio, caliper) for arm in ASKING[estimand]]
    unit, start, stop, distances = (
        np.concatenate([getattr(sets, name) for sets in found]) for name in ("unit", "start", "stop", "distances")
    )
    return MatchedSets(unit, start, stop, line.pool, distances)


def line_sets(line: Line, asking: int, serving: int, k: int, caliper: float = np.inf) -> MatchedSets:
    """The k nearest of an arm, ties included, for every unit of an arm; of its own arm the unit itself is one."""
    asked, values = line.values[line.arm(asking)], line.values[line.arm(serving)]
    low, high = _bounds(line, asking, serving)
    if asking == serving and line.strata is None and k <= _FEW:
        start, stop, farthest = _k_nearest_own(values, min(k, len(values)))
    else:
        start, stop, farthest = _k_nearest(asked, values, _middle(line, asking, serving), low, high, k)
    reach = np.minimum(farthest, caliper) + line.slack
    last = len(values) - 1
    other = (start > low) & (asked - values[np.maximum(start - 1, 0)] <= reach)
    other |= (stop < high) & (values[np.minimum(stop, last)] - asked <= reach)
    other |= farthest > reach
    if other.any():  # ties beyond the k, or a caliper within them
        rows = np.flatnonzero(other)
        low, high = (np.broadcast_to(bound, len(asked))[rows] for bound in (low, high))
        start[rows] = _bisect(values, (asked - reach)[rows], low, high, "left", strata=line.strata is not None)
        stop[rows] = _bisect(values, (asked + reach)[rows], low, high, "right", strata=line.strata is not None)
        kept = start < stop
        safe = np.minimum(start, last), np.maximum(stop - 1, 0)
        farthest[rows] = np.maximum(asked - values[safe[0]], values[safe[1]] - asked)[rows]
    else:
        kept = start < stop
    return _sets(line, asking, serving, kept, start, stop, farthest)


def windows(line: Line, asking: int, serving: int, size: int) -> MatchedSets:
    """About ``size`` units of an arm around each unit of an arm, half of them on either side, whole ties included.

    For local means: found by counting in sorted order, whatever the distances are.
    """
    asked, values = line.values[line.arm(asking)], line.values[line.arm(serving)]
    low, high = _bounds(line, asking, serving)
    begin, end, tied = _runs(line, serving)
    middle, last, half = _middle(line, asking, serving), len(values) - 1, max(size // 2, 1)
    if asking == serving:  # those that are tied with it
        first, after = begin, end
    else:
        left, right = np.maximum(middle - 1, 0), np.minimum(middle, last)
        on_left = (middle > low) & (np.abs(asked - values[left]) <= line.slack)
        on_right = (middle < high) & (np.abs(asked - values[right]) <= line.slack)
        first = after = middle
        if on_left.any() or on_right.any():
            first = np.where(on_left, begin[left], np.where(on_right, begin[right], middle))
            after = np.where(on_right, end[right], np.where(on_left, end[left], middle))
    length = 2 * half + after - first
    start = np.maximum(np.minimum(first - half, high - length), low)
    stop = np.minimum(np.maximum(after + half, low + length), high)
    kept = start < stop
    if tied:
        start = np.where(kept, begin[np.minimum(start, last)], start)
        stop = np.where(kept, end[np.maximum(stop - 1, 0)], stop)
    return _sets(line, asking, serving, kept, start, stop, np.zeros(len(start)))


def _runs(line: Line, serving: int) -> tuple[IntArray, IntArray, bool]:
    """Where the tied units of each unit of an arm begin and end, and whether there are any."""
    values = line.values[line.arm(serving)]
    new = np.concatenate([[True], np.diff(values) > line.slack, [True]])
    if line.strata is not None:
        new[1:-1] |= np.diff(line.strata[line.arm(serving)]) != 0
    if new.all():
        each = np.arange(len(new))
        return each[:-1], each[1:], False
    edges = np.flatnonzero(new)
    run = np.cumsum(new[:-1]) - 1
    return edges[run], edges[run + 1], True


def _sets(
    line: Line, asking: int, serving: int, kept: BoolArray, start: IntArray, stop: IntArray, farthest: FloatArray
) -> MatchedSets:
    unit, offset = line.pool[line.arm(asking)], line.arm(serving).start
    if not kept.all():
        unit, start, stop, farthest = unit[kept], start[kept], stop[kept], farthest[kept]
    return MatchedSets(unit, start + offset, stop + offset, line.pool, farthest)


def _middle(line: Line, asking: int, serving: int) -> IntArray:
    """Where each asking unit would stand among the serving arm."""
    return np.arange(line.size(asking)) if asking == serving else line.before[line.arm(asking)]


def _bounds(line: Line, asking: int, serving: int) -> tuple[Any, Any]:
    """The part of the serving arm, as numbers within it, that is in the stratum of each asking unit."""
    if line.strata is None:
        return 0, line.size(serving)
    mine, theirs = line.strata[line.arm(asking)], line.strata[line.arm(serving)]
    return np.searchsorted(theirs, mine, "left"), np.searchsorted(theirs, mine, "right")


def _k_nearest(
    asked: FloatArray, values: FloatArray, middle: IntArray, low: Any, high: Any, k: int
) -> tuple[IntArray, IntArray, FloatArray]:
    """The k nearest of ``values[low:high]``, or all if there are fewer: where they begin, end, and the distance.

    They are consecutive, so that it is enough to find where they begin: by bisection among the k + 1 places around
    ``middle``, where the asked value would stand.
    """
    last = len(values) - 1
    first = np.maximum(low, middle - k)
    end = np.maximum(first, np.minimum(middle, high - k))
    for _ in range(int(k).bit_length()):  # k + 1 places
        half = np.minimum((first + end) >> 1, last)
        right = (first < end) & (asked - values[half] > values[np.minimum(half + k, last)] - asked)
        end = np.where(right, end, half)
        first = np.where(right, half + 1, first)
    stop = np.minimum(first + k, high)
    distance = np.maximum(asked - values[np.minimum(first, last)], values[np.maximum(stop - 1, 0)] - asked)
    return first, stop, distance


def _k_nearest_own(values: FloatArray, k: int) -> tuple[IntArray, IntArray, FloatArray]:
    """The same for every one of sorted ``values`` among themselves: the best of the k runs of k that hold it."""
    n = len(values)
    distance, back = np.full(n, np.inf), np.zeros(n, dtype=np.int64)
    for s in range(k):
        inner = slice(s, n - k + s + 1)
        reach = np.maximum(values[inner] - values[: n - k + 1], values[k - 1 :] - values[inner])
        back[inner][reach < distance[inner]] = s
        np.minimum(distance[inner], reach, out=distance[inner])
    start = np.arange(n) - back
    return start, start + k, distance


def _bisect(
    values: FloatArray, wanted: FloatArray, low: IntArray, high: IntArray, side: str, *, strata: bool
) -> IntArray:
    """``np.searchsorted`` within ``values[low:high]``, which is sorted, for each wanted value."""
    if not strata:
        return np.searchsorted(values, wanted, side="left" if side == "left" else "right")
    first, end = low, high
    last = len(values) - 1
    while (open_ := first < end).any():
        half = np.minimum((first + end) // 2, last)
        right = values[half] < wanted if side == "left" else values[half] <= wanted
        first = np.where(open_ & right, half + 1, first)
        end = np.where(open_ & ~right, half, end)
    return first
