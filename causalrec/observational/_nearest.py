"""Nearest neighbours on a line (a score, its logit, one covariate), with replacement: sort once, then look up.

O(n log n) for any number of neighbours, ties of any size included: equally near units are neighbours in sorted order,
so that a matched set is a slice.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from causalrec._typing import BoolArray, FloatArray, IntArray
from causalrec.observational._sets import MatchedSets, SortedSets, longer
from causalrec.observational.design import in_parts

_FEW = 16
ASKING = {"ate": (0, 1), "att": (1,), "atc": (0,)}


class Line(NamedTuple):
    """Both arms in order of stratum and place: the controls, then the treated, in one pool.

    ``values`` and ``strata`` are those of the pool; ``n_control`` is where the treated begin; ``before`` how many of
    the other arm lie before each of the pool; ``slack`` the largest difference that rounding may make between equal
    distances; ``in_order`` whether the pool is 0, 1, 2, ….
    """

    pool: IntArray
    values: FloatArray
    strata: IntArray | None
    n_control: int
    before: IntArray
    slack: float
    in_order: bool = False

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


def sorted_line(values: FloatArray, n_control: int, before: IntArray | None = None) -> Line:
    """The line of units that lie in its order already, without strata; ``before`` where it is known."""
    if before is not None:
        return Line(np.arange(len(values)), values, None, n_control, before, rounding(values), True)
    control, treated = values[:n_control], values[n_control:]
    below = np.searchsorted(treated, control)
    not_above = np.cumsum(np.bincount(below, minlength=len(treated) + 1))[:-1]
    return Line(
        np.arange(len(values)), values, None, n_control, np.concatenate([below, not_above]), rounding(values), True
    )  # fmt: skip


def rounding(place: FloatArray) -> float:
    """A bound on the rounding of differences between places."""
    return float(8 * np.finfo(np.float64).eps * max(place.max(), -place.min()))


def match_line(line: Line, *, estimand: str, ratio: int, caliper: float) -> MatchedSets:
    """Each asking unit's ``ratio`` nearest of the other arm within its stratum and the caliper, all ties included.

    The set is every unit no farther than the ``ratio``-th nearest (Abadie and Imbens 2006, Econometrica 74,
    section 2.2); fewer where the caliper or the stratum has no more.
    """
    return line_sets(line, ASKING[estimand], ratio, caliper)


def line_sets(line: Line, arms: tuple[int, ...], k: int, caliper: float = np.inf, *, own: bool = False) -> MatchedSets:
    """The k nearest of the other arm, ties included, for every unit of ``arms``.

    With ``own`` the nearest of its own arm, of which the unit itself is one.
    """
    whole = slice(line.arm(arms[0]).start, line.arm(arms[-1]).stop)
    start, stop, farthest = (np.empty(whole.stop - whole.start, dtype=kind) for kind in (np.int64, np.int64, float))
    for arm in arms:
        place = slice(line.arm(arm).start - whole.start, line.arm(arm).stop - whole.start)
        _search(line, arm, arm if own else 1 - arm, k, caliper, start[place], stop[place], farthest[place])
    return _sets(line, whole, start, stop, farthest)


def _search(
    line: Line, asking: int, serving: int, k: int, caliper: float, start: IntArray, stop: IntArray, farthest: FloatArray
) -> None:
    """Write where in the pool the sets of an arm begin and end."""
    asked, values = line.values[line.arm(asking)], line.values[line.arm(serving)]
    low, high = _bounds(line, asking, serving)
    runs = asking == serving and line.strata is None and k <= min(_FEW, len(values))
    middle, offset = _middle(line, asking, serving), line.arm(serving).start
    open_ = np.empty(len(asked), dtype=bool)

    def search(parts: list[slice]) -> None:
        for part in longer(parts):
            lowest, highest = _part(low, part), _part(high, part)
            found = _k_nearest_own(values, part, k) if runs else k_nearest(
                asked[part], values, middle[part], lowest, highest, k
            )  # fmt: skip
            open_[part] = _beyond(asked[part], values, *found, lowest, highest, caliper, line.slack)
            start[part], stop[part], farthest[part] = found[0] + offset, found[1] + offset, found[2]

    in_parts(len(asked), search)
    if open_.any():
        rows = np.flatnonzero(open_)
        reach = np.minimum(farthest[rows], caliper) + line.slack
        low, high = (np.broadcast_to(bound, len(asked))[rows] for bound in (low, high))
        first = _bisect(values, asked[rows] - reach, low, high, "left", strata=line.strata is not None)
        after = _bisect(values, asked[rows] + reach, low, high, "right", strata=line.strata is not None)
        ends = values[np.minimum(first, len(values) - 1)], values[np.maximum(after - 1, 0)]
        start[rows], stop[rows] = first + offset, after + offset
        farthest[rows] = np.maximum(asked[rows] - ends[0], ends[1] - asked[rows])


def _beyond(
    asked: FloatArray,
    values: FloatArray,
    start: IntArray,
    stop: IntArray,
    farthest: FloatArray,
    low: Any,
    high: Any,
    caliper: float,
    slack: float,
) -> BoolArray:
    """Whether there are ties beyond the k nearest, or the caliper lies within them."""
    reach = np.minimum(farthest, caliper) + slack
    found = (start > low) & (asked - values[np.maximum(start - 1, 0)] <= reach)
    found |= (stop < high) & (values[np.minimum(stop, len(values) - 1)] - asked <= reach)
    return np.asarray(found | (farthest > reach))


def windows(line: Line, sizes: tuple[int, int], *, own: bool) -> MatchedSets:
    """About ``sizes`` units of the own, or the other, arm around each unit, half of them on either side, whole ties.

    For local means: found by counting in sorted order, whatever the distances are.
    """
    start, stop = (np.empty(len(line.pool), dtype=np.int64) for _ in range(2))
    for arm in (0, 1):
        serving = arm if own else 1 - arm
        _count(line, arm, serving, max(sizes[serving] // 2, 1), start[line.arm(arm)], stop[line.arm(arm)])
    return _sets(line, slice(0, len(line.pool)), start, stop, np.zeros(len(start)))


def _count(line: Line, asking: int, serving: int, half: int, start: IntArray, stop: IntArray) -> None:
    """Write where in the pool the windows of an arm begin and end."""
    asked, values = line.values[line.arm(asking)], line.values[line.arm(serving)]
    low, high = _bounds(line, asking, serving)
    runs, middle = _runs(line, serving), _middle(line, asking, serving)
    offset = line.arm(serving).start

    def count(parts: list[slice]) -> None:
        for part in longer(parts):
            lowest, highest = _part(low, part), _part(high, part)
            found = _around(asked[part], values, middle[part], lowest, highest, half, line.slack, runs)
            start[part], stop[part] = found[0] + offset, found[1] + offset

    in_parts(len(asked), count)


def _around(
    asked: FloatArray,
    values: FloatArray,
    middle: IntArray,
    low: Any,
    high: Any,
    half: int,
    slack: float,
    runs: tuple[IntArray, IntArray] | None,
) -> tuple[IntArray, IntArray]:
    """``half`` units on either side of those that are tied with each; ``runs`` where tied units begin and end."""
    last = len(values) - 1
    left, right = np.maximum(middle - 1, 0), np.minimum(middle, last)
    on_left = (middle > low) & (np.abs(asked - values[left]) <= slack)
    on_right = (middle < high) & (np.abs(asked - values[right]) <= slack)
    if runs is None:
        first, after = middle - on_left, middle + on_right
    else:
        begin, end = runs
        first = np.where(on_left, begin[left], np.where(on_right, begin[right], middle))
        after = np.where(on_right, end[right], np.where(on_left, end[left], middle))
    length = 2 * half + after - first
    start = np.maximum(np.minimum(first - half, high - length), low)
    stop = np.minimum(np.maximum(after + half, low + length), high)
    if runs is not None:
        kept = start < stop
        start = np.where(kept, begin[np.minimum(start, last)], start)
        stop = np.where(kept, end[np.maximum(stop - 1, 0)], stop)
    return start, stop


def _runs(line: Line, serving: int) -> tuple[IntArray, IntArray] | None:
    """Where the tied units of each unit of an arm begin and end; None where there are no ties."""
    values = line.values[line.arm(serving)]
    new = np.concatenate([[True], np.diff(values) > line.slack, [True]])
    if line.strata is not None:
        new[1:-1] |= np.diff(line.strata[line.arm(serving)]) != 0
    if new.all():
        return None
    edges = np.flatnonzero(new)
    run = np.cumsum(new[:-1]) - 1
    return edges[run], edges[run + 1]


def _sets(line: Line, whole: slice, start: IntArray, stop: IntArray, farthest: FloatArray) -> MatchedSets:
    unit, kept = line.pool[whole], start < stop
    if not kept.all():
        unit, start, stop, farthest = unit[kept], start[kept], stop[kept], farthest[kept]
    return (SortedSets if line.in_order else MatchedSets)(unit, start, stop, line.pool, farthest)


def _middle(line: Line, asking: int, serving: int) -> IntArray:
    """Where each asking unit would stand among the serving arm."""
    return np.arange(line.size(asking)) if asking == serving else line.before[line.arm(asking)]


def _bounds(line: Line, asking: int, serving: int) -> tuple[Any, Any]:
    """The part of the serving arm, as numbers within it, that is in the stratum of each asking unit."""
    if line.strata is None:
        return 0, line.size(serving)
    mine, theirs = line.strata[line.arm(asking)], line.strata[line.arm(serving)]
    return np.searchsorted(theirs, mine, "left"), np.searchsorted(theirs, mine, "right")


def _part(bound: Any, part: slice) -> Any:
    return bound if isinstance(bound, int) else bound[part]


def k_nearest(
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


def _k_nearest_own(values: FloatArray, part: slice, k: int) -> tuple[IntArray, IntArray, FloatArray]:
    """The same for a part of sorted ``values`` among all of them: the best of the k runs of k that hold each."""
    n, asked = len(values), values[part]
    low, high = max(part.start - k + 1, 0), min(part.stop + k - 1, n)
    before, after = part.start - k + 1 - low, high - part.stop - k + 1  # minus how many there are too few of
    around = np.concatenate([np.full(-before, -np.inf), values[low:high], np.full(-after, np.inf)])
    back, distance = np.zeros(len(asked), dtype=np.int64), np.full(len(asked), np.inf)
    for s in range(k):
        first = around[k - 1 - s : k - 1 - s + len(asked)]
        last = around[2 * (k - 1) - s : 2 * (k - 1) - s + len(asked)]
        reach = np.maximum(asked - first, last - asked)
        back = np.where(reach < distance, s, back)
        distance = np.minimum(reach, distance)
    start = np.arange(part.start, part.stop) - back
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
