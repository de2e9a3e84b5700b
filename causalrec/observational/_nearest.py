"""Nearest neighbours on a line (a score, its logit, one covariate), with replacement: sort once, then look up.

O(n log n) for any number of neighbours, ties of any size included: equally near units are neighbours in sorted order,
so that a matched set is a slice.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from causalrec._typing import FloatArray, IntArray
from causalrec.observational._sets import MatchedSets

ASKING = {"ate": (0, 1), "att": (1,), "atc": (0,)}


class Line(NamedTuple):
    """Both arms in order of stratum and place: the controls, then the treated, in one pool.

    ``values`` and ``strata`` are those of the pool; ``n_control`` where the treated begin; ``slack`` the largest
    difference that rounding may make between equal distances.
    """

    pool: IntArray
    values: FloatArray
    strata: IntArray | None
    n_control: int
    slack: float

    def arm(self, arm: int) -> slice:
        """Where an arm lies in the pool."""
        return slice(self.n_control, len(self.pool)) if arm else slice(0, self.n_control)


def sort_line(place: FloatArray, treatment: IntArray, strata: IntArray | None) -> Line:
    """Sort both arms by stratum and place."""
    order = np.argsort(place) if strata is None else np.lexsort((place, strata))
    treated = treatment[order] == 1
    pool = np.concatenate([order[~treated], order[treated]])
    slack = rounding(place)
    return Line(pool, place[pool], None if strata is None else strata[pool], int((~treated).sum()), slack)


def rounding(place: FloatArray) -> float:
    """A bound on the rounding of differences between places."""
    return float(8 * np.finfo(np.float64).eps * max(place.max(), -place.min()))


def match_line(line: Line, *, estimand: str, ratio: int, caliper: float) -> MatchedSets:
    """Each asking unit's ``ratio`` nearest of the other arm within its stratum and the caliper, all ties included.

    The set is every unit no farther than the ``ratio``-th nearest (Abadie and Imbens 2006, Econometrica 74,
    section 2.2); fewer where the caliper or the stratum has no more.
    """
    found = [line_sets(line, arm, 1 - arm, ratio, caliper) for arm in ASKING[estimand]]
    return MatchedSets(*(np.concatenate(parts) for parts in zip(*(sets[:3] for sets in found), strict=True)),
                       line.pool, np.concatenate([sets.distances for sets in found]))  # fmt: skip


def line_sets(line: Line, asking: int, serving: int, k: int, caliper: float = np.inf) -> MatchedSets:
    """The k nearest of an arm, ties included, for every unit of an arm; of its own arm the unit itself is one."""
    asked, values = line.values[line.arm(asking)], line.values[line.arm(serving)]
    low, high = _bounds(line, asking, serving)
    distance = np.minimum(_kth_distance(asked, values, low, high, k, line.strata is not None), caliper)
    distance += line.slack
    start = _bisect(values, asked - distance, low, high, "left", strata=line.strata is not None)
    stop = _bisect(values, asked + distance, low, high, "right", strata=line.strata is not None)
    kept = start < stop
    if not kept.all():
        asked, start, stop = asked[kept], start[kept], stop[kept]
    farthest = np.maximum(asked - values[start], values[stop - 1] - asked)
    offset = line.arm(serving).start
    return MatchedSets(line.pool[line.arm(asking)][kept], start + offset, stop + offset, line.pool, farthest)


def windows(line: Line, asking: int, serving: int, size: int) -> MatchedSets:
    """About ``size`` units of an arm around each unit of an arm, half of them on either side, whole ties included.

    For local means: found by counting in sorted order, whatever the distances are.
    """
    asked, values = line.values[line.arm(asking)], line.values[line.arm(serving)]
    low, high = _bounds(line, asking, serving)
    middle = _bisect(values, asked, low, high, "left", strata=line.strata is not None)
    start = np.maximum(np.minimum(middle - size // 2, high - size), low)
    stop = np.minimum(start + size, high)
    kept = start < stop
    start, stop = start[kept], stop[kept]
    new = np.concatenate([[True], np.diff(values) > line.slack, [True]])
    if line.strata is not None:
        new[1:-1] |= np.diff(line.strata[line.arm(serving)]) != 0
    edges = np.flatnonzero(new)
    run = np.cumsum(new[:-1]) - 1
    start, stop = edges[run[start]], edges[run[stop - 1] + 1]
    offset = line.arm(serving).start
    return MatchedSets(
        line.pool[line.arm(asking)][kept], start + offset, stop + offset, line.pool, np.zeros(len(start))
    )


def _bounds(line: Line, asking: int, serving: int) -> tuple[IntArray, IntArray]:
    """The part of the serving arm, as numbers within it, that is in the stratum of each asking unit."""
    asked = line.pool[line.arm(asking)]
    if line.strata is None:
        served = line.arm(serving)
        return np.zeros(len(asked), dtype=np.int64), np.full(len(asked), served.stop - served.start, dtype=np.int64)
    mine, theirs = line.strata[line.arm(asking)], line.strata[line.arm(serving)]
    return np.searchsorted(theirs, mine, "left"), np.searchsorted(theirs, mine, "right")


def _kth_distance(
    asked: FloatArray, values: FloatArray, low: IntArray, high: IntArray, k: int, strata: bool
) -> FloatArray:
    """Distance to the k-th nearest of ``values[low:high]``, to the farthest where there are fewer; -inf for none.

    The k nearest are consecutive, so that it is enough to find where they begin: by bisection among the k + 1 places
    around the asked value.
    """
    last = len(values) - 1
    middle = _bisect(values, asked, low, high, "left", strata=strata)
    first = np.maximum(low, middle - k)
    end = np.maximum(first, np.minimum(middle, high - k))
    while (first < end).any():
        half = (first + end) // 2
        right = asked - values[half] > values[np.minimum(half + k, last)] - asked
        move = right & (first < end)
        end = np.where(right, end, half)
        first = np.where(move, half + 1, first)
    farthest = np.minimum(np.minimum(first + k, high) - 1, last)
    distance = np.maximum(asked - values[np.minimum(first, last)], values[farthest] - asked)
    return np.where(low < high, distance, -np.inf)


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
