"""Matching without replacement, greedily: every unit in its turn takes the nearest that is still free."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from causalrec._typing import AnyArray, BoolArray, FloatArray, IntArray
from causalrec._validation import list_some, nearest
from causalrec.exceptions import CausalRecError
from causalrec.observational._sets import MatchedSets

ORDERS = ("descending", "ascending", "closest", "random", "data")
Progress = Callable[[int, int], None]
REPORT_EVERY = 1 << 16
_INFINITE = float("inf")


class Shelf(NamedTuple):
    """The pool by score: groups of equal score in ascending order, within strata, with walls around each stratum.

    A wall has an infinite value, so that nothing reaches across it, and room without end, so that no excess of demand
    is carried across it.
    """

    key: AnyArray  # ascending; what the units' keys are searched in
    value: FloatArray
    room: IntArray
    first: IntArray  # where the group begins in ``rows``
    rows: IntArray


def greedy_match(
    score: FloatArray,
    treatment: IntArray,
    *,
    arm: int = 1,
    ratio: int = 1,
    caliper: float = np.inf,
    strata: IntArray | None = None,
    order: str = "descending",
    rng: np.random.Generator | None = None,
    progress: Progress | None = None,
) -> MatchedSets:
    """Greedy nearest-neighbour matching without replacement on a score.

    Units of ``arm`` take turns; each takes the nearest unit of the other arm that is still free, the lower score where
    two are equally near, the first row among equal scores. For ``ratio`` above one all take a first match before any
    takes a second, and so on (as MatchIt does: Ho, Imai, King and Stuart 2011, Journal of Statistical Software 42(8)).

    Turns: by descending or ascending score, in random order, in the order of the rows (``"data"``), or the closest
    pair of all first, again and again (Rassen et al. 2012, Pharmacoepidemiology and Drug Safety 21, supplement 2).
    Units of equal score are exchangeable: how many of each group of equal scores are matched with which group does not
    depend on the order of the rows, except with ``order="data"``. See :func:`tie_classes`.

    O(n log n): where demand never exceeds supply all are matched at once (see :func:`settled_groups`), for the others
    union-find jumps over what is taken.

    Parameters
    ----------
    score : array of shape (n,)
    treatment : 0/1 array of shape (n,)
    arm : {1, 0}
        The arm that is matched: 1 for the att.
    ratio : int
        Matches for each; fewer where the pool has no more within the caliper.
    caliper : float
        Largest distance, in the units of ``score``.
    strata : int array of shape (n,), optional
        Matches have the same stratum.
    order : {"descending", "ascending", "closest", "random", "data"}
    rng : Generator
        For ``order="random"``.
    progress : callable, optional
        Called now and then with the turns that are over and all turns.

    Raises
    ------
    CausalRecError
        For an unknown order, or a random one without ``rng``.

    Examples
    --------
    >>> score, treatment = np.array([0.9, 0.6, 0.5, 0.8, 0.1]), np.array([1, 1, 0, 0, 0])
    >>> sets = greedy_match(score, treatment)
    >>> sets.unit.tolist(), sets.pool.tolist()
    ([0, 1], [3, 2])
    """
    check_order(order)
    own, other = np.flatnonzero(treatment == arm), np.flatnonzero(treatment != arm)
    key, width = (score, None) if strata is None else stratum_keys(score, strata)
    turn = own[turns(key[own], order, rng)]
    shelf = make_shelf(key, width, score, other)
    closest = order == "closest"
    report = reporter(progress, ratio * len(turn))
    rounds: list[tuple[IntArray, IntArray, FloatArray]] = []
    for _ in range(ratio):
        group = _one_round(score[turn], key[turn], shelf, caliper, closest=closest, report=report)
        found = group >= 0
        turn, group = turn[found], group[found]
        rounds.append((turn, take_rows(shelf, group), np.abs(score[turn] - shelf.value[group])))
        used = np.bincount(group, minlength=len(shelf.room))
        shelf = shelf._replace(room=shelf.room - used, first=shelf.first + used)
    return join_rounds(rounds)


def check_order(order: str) -> None:
    """Raise :class:`CausalRecError` for a name that is none of the orders."""
    if order not in ORDERS:
        raise CausalRecError(f"order is {order!r}; expected one of {list_some(ORDERS)}.{nearest(str(order), ORDERS)}")


def tie_classes(place: list[FloatArray], treatment: IntArray, strata: IntArray | None = None) -> IntArray | None:
    """Classes of units of one arm and stratum in the same place, shape (n,); None where no two are alike.

    Parameters
    ----------
    place : list of arrays of shape (n,)
        A score, or several covariates.

    Examples
    --------
    >>> tie_classes([np.array([0.2, 0.1, 0.2, 0.2])], np.array([0, 1, 1, 0])).tolist()
    [0, 1, 2, 0]
    """
    if not any(_has_ties(place[0][treatment == arm]) for arm in (0, 1)):
        return None
    keys = [*place, treatment] if strata is None else [*place, strata, treatment]
    order = np.lexsort(keys)
    new = np.ones(len(treatment), dtype=bool)
    new[1:] = np.logical_or.reduce([key[order[1:]] != key[order[:-1]] for key in keys])
    if new.all():
        return None
    code = np.empty(len(treatment), dtype=np.int64)
    code[order] = np.cumsum(new) - 1
    return code


def _has_ties(values: FloatArray) -> bool:
    ordered = np.sort(values)
    return bool((ordered[1:] == ordered[:-1]).any())


def stable_order(values: AnyArray) -> IntArray:
    """``argsort(kind="stable")``, several times as fast where no two values are equal."""
    order = np.argsort(values)
    ordered = values[order]
    return np.argsort(values, kind="stable") if (ordered[1:] == ordered[:-1]).any() else order


def class_means(values: FloatArray, tie: IntArray) -> FloatArray:
    """Each value replaced by the mean of its class: of weights, the expectation over which of its units is taken.

    Examples
    --------
    >>> class_means(np.array([1.0, 0.0, 1.0]), np.array([0, 0, 1])).tolist()
    [0.5, 0.5, 1.0]
    """
    return np.asarray((np.bincount(tie, weights=values) / np.bincount(tie))[tie])


def join_rounds(rounds: list[tuple[IntArray, IntArray, FloatArray]]) -> MatchedSets:
    """Sets in the order of the rows from rounds of (unit, match, distance)."""
    unit, match, distance = (np.concatenate(parts) for parts in zip(*rounds, strict=True))
    order = stable_order(unit)
    unit, match, distance = unit[order], match[order], distance[order]
    start = np.flatnonzero(np.r_[True, unit[1:] != unit[:-1]]) if len(unit) else np.zeros(0, dtype=np.int64)
    stop = np.append(start[1:], len(unit)) if len(unit) else start
    farthest = np.maximum.reduceat(distance, start) if len(unit) else distance
    return MatchedSets(unit[start], start, stop, match, farthest)


def stratum_keys(score: FloatArray, strata: IntArray) -> tuple[IntArray, int]:
    """Whole numbers in the order of (stratum, score), and how many there are for each stratum: two more than scores.

    These two, the first and the last, are for walls.
    """
    values, rank = np.unique(score, return_inverse=True)
    width = len(values) + 2
    return np.unique(strata, return_inverse=True)[1] * width + rank + 1, width


def turns(key: AnyArray, order: str, rng: np.random.Generator | None) -> IntArray:
    """Places of the units in the order in which they take their turns; ``"closest"`` breaks its ties by it."""
    if order == "data":
        return np.arange(len(key))
    if order == "ascending":
        return stable_order(key)
    if order == "random":
        if rng is None:
            raise CausalRecError("order='random' needs random numbers; pass random_state, such as 0.")
        return rng.permutation(stable_order(key))
    return stable_order(-key)


def make_shelf(key: AnyArray, width: int | None, score: FloatArray, other: IntArray) -> Shelf:
    rows = other[stable_order(key[other])]
    sorted_key = key[rows]
    first = np.flatnonzero(np.r_[True, sorted_key[1:] != sorted_key[:-1]])
    room = np.diff(np.append(first, len(rows)))
    group_key, value = sorted_key[first], score[rows[first]]
    if width is None:
        at, wall_key = np.array([0, len(first)]), np.array([-np.inf, np.inf])
    else:
        stratum = group_key // width
        begin = np.flatnonzero(np.r_[True, stratum[1:] != stratum[:-1]])
        # One more at the end, for units of later strata; those of earlier ones find the last wall at place -1.
        at = np.r_[np.c_[begin, np.append(begin[1:], len(first))].ravel(), len(first)]
        wall_key = np.r_[(stratum[begin, None] * width + [0, width - 1]).ravel(), np.iinfo(np.int64).max]
    return Shelf(
        np.insert(group_key, at, wall_key), np.insert(value, at, np.inf), np.insert(room, at, len(key)),
        np.insert(first, at, 0), rows,
    )  # fmt: skip


def _one_round(
    score: FloatArray, key: AnyArray, shelf: Shelf, caliper: float, *, closest: bool, report: Callable[[int], None]
) -> IntArray:
    """The group that each unit takes one of, in the order of their turns; -1 without one."""
    some = np.flatnonzero(shelf.room > 0)
    value, room = shelf.value[some], shelf.room[some]
    place = np.searchsorted(shelf.key[some], key)
    group, distance = nearest_group(score, place, value)
    group[~((distance <= caliper) & (distance < np.inf))] = -1  # what is nearest now stays the nearest of all
    settled = settled_groups(group, room)
    open_units = np.flatnonzero((group >= 0) & ~settled[group])
    # Walls, which are settled as well, stay in: they keep the strata apart.
    left_over = np.flatnonzero(~settled | np.isinf(value))
    walk = _walk_closest if closest else _walk
    report(len(score) - len(open_units))
    taken = walk(
        score[open_units], np.searchsorted(left_over, place[open_units]), value[left_over], room[left_over], caliper,
        report,
    )  # fmt: skip
    group[open_units] = np.where(taken >= 0, left_over[taken], -1)
    return np.where(group >= 0, some[group], -1)


def nearest_group(score: FloatArray, place: IntArray, value: FloatArray) -> tuple[IntArray, FloatArray]:
    """The nearest group at or right of ``place`` or left of it, the left one if equally near, and its distance."""
    to_left, to_right = np.abs(score - value[place - 1]), np.abs(score - value[place])
    go_left = (to_left <= to_right) & (to_left < np.inf)
    return np.where(go_left, place - 1, place), np.minimum(to_left, to_right)


def settled_groups(group: IntArray, room: IntArray) -> BoolArray:
    """Groups that keep exactly those units that find them nearest, whatever the order of the turns.

    A unit that finds its group full moves on to the next free group, so it comes to group x from the left only if all
    groups of some run [a, x - 1] are full, of units that find them nearest, and one more: the first to cross x cannot
    have been preceded. So if demand - room sums to less than 1 over every run that ends before x, and the same from
    the right, then nobody else comes to x; and if its own demand fits, nobody leaves it.
    """
    excess = np.bincount(group[group >= 0], minlength=len(room)) - room
    return np.asarray((excess <= 0) & ~_reached(excess) & ~_reached(excess[::-1])[::-1])


def _reached(excess: IntArray) -> BoolArray:
    """Whether some run that ends just before has an excess of 1 or more."""
    total = np.cumsum(excess)
    before = np.r_[0, total[:-1]]
    most = total - np.minimum.accumulate(before)
    return np.asarray(np.r_[False, most[:-1] >= 1])


def _walk(
    score: FloatArray,
    place: IntArray,
    value: FloatArray,
    room: IntArray,
    caliper: float,
    report: Callable[[int], None],
) -> IntArray:
    """The group that each takes, in turn; -1 without one.

    Union-find with path halving: ``right[g]`` leads to the next group with room at or right of g, ``left[g]`` at or
    left of it. Lists, since Python reads single items of a list several times as fast as of an array.
    """
    left, right = list(range(len(value))), list(range(len(value)))
    values, rooms, taken = value.tolist(), room.tolist(), []
    for i, (s, r) in enumerate(zip(score.tolist(), place.tolist(), strict=True)):
        g = r - 1
        while right[r] != r:
            right[r] = r = right[right[r]]
        while left[g] != g:
            left[g] = g = left[left[g]]
        distance, other = abs(s - values[g]), abs(s - values[r])
        if other < distance:
            distance, g = other, r
        if distance <= caliper and distance < _INFINITE:
            taken.append(g)
            rooms[g] -= 1
            if not rooms[g]:
                right[g], left[g] = g + 1, g - 1
        else:
            taken.append(-1)
        if not (i + 1) % REPORT_EVERY:
            report(REPORT_EVERY)
    report(len(taken) % REPORT_EVERY)
    return np.array(taken, dtype=np.int64)


def _walk_closest(
    score: FloatArray,
    place: IntArray,
    value: FloatArray,
    room: IntArray,
    caliper: float,
    report: Callable[[int], None],
) -> IntArray:
    """As :func:`_walk`, but the closest pair of all comes first; equally close ones in the order given."""
    left, right = list(range(len(value))), list(range(len(value)))
    values, rooms, scores, places = value.tolist(), room.tolist(), score.tolist(), place.tolist()
    taken = [-1] * len(scores)
    group, distance = nearest_group(score, place, value)
    heap = list(zip(distance.tolist(), range(len(scores)), group.tolist(), strict=True))
    heapq.heapify(heap)
    done = 0
    while heap:
        _, i, g = heap[0]
        if rooms[g]:
            heapq.heappop(heap)
            taken[i] = g
            rooms[g] -= 1
            if not rooms[g]:
                right[g], left[g] = g + 1, g - 1
            done += 1
            if not done % REPORT_EVERY:
                report(REPORT_EVERY)
            continue
        s, r = scores[i], places[i]
        g = r - 1
        while right[r] != r:
            right[r] = r = right[right[r]]
        while left[g] != g:
            left[g] = g = left[left[g]]
        to_left, to_right = abs(s - values[g]), abs(s - values[r])
        to, g = (to_right, r) if to_right < to_left else (to_left, g)
        if to <= caliper and to < _INFINITE:
            heapq.heapreplace(heap, (to, i, g))
        else:
            heapq.heappop(heap)
    report(len(scores) - done // REPORT_EVERY * REPORT_EVERY)
    return np.array(taken, dtype=np.int64)


def take_rows(shelf: Shelf, group: IntArray) -> IntArray:
    """A row for each that takes one of ``group``: the first to take gets the first row that is left."""
    order = stable_order(group)
    sorted_group = group[order]
    new = np.r_[True, sorted_group[1:] != sorted_group[:-1]] if len(group) else np.zeros(0, dtype=bool)
    begin = np.flatnonzero(new)
    rank = np.empty(len(group), dtype=np.int64)
    rank[order] = np.arange(len(group)) - np.repeat(begin, np.diff(np.append(begin, len(group))))
    return np.asarray(shelf.rows[shelf.first[group] + rank])


def reporter(progress: Progress | None, total: int) -> Callable[[int], None]:
    done = 0

    def report(more: int) -> None:
        nonlocal done
        done += more
        if progress is not None and more:
            progress(done, total)

    return report
