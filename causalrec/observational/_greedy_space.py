"""Matching without replacement on several covariates, greedily: k-d trees of the units that are still free."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from scipy.spatial import cKDTree

from causalrec._typing import BoolArray, FloatArray, IntArray
from causalrec.exceptions import CausalRecError
from causalrec.observational._greedy import REPORT_EVERY, Progress, join_rounds, reporter, turns
from causalrec.observational._mahalanobis import Space, make_space
from causalrec.observational._sets import MatchedSets

_FIRST_WIDTH = 8
_MOST_LISTED = 50_000_000
_List: TypeAlias = tuple[list[float], list[int], bool]  # distances, places, and whether there are no more


def greedy_space(
    place: FloatArray,
    treatment: IntArray,
    *,
    arm: int = 1,
    ratio: int = 1,
    caliper: float = np.inf,
    strata: IntArray | None = None,
    gate: tuple[FloatArray, float] | None = None,
    order: str = "closest",
    rng: np.random.Generator | None = None,
    progress: Progress | None = None,
) -> MatchedSets:
    """As :func:`greedy_match`, by Euclidean distance, within strata and the width of ``gate``.

    Each unit has a list of its nearest, made longer when all on it are taken; the tree is built anew from free units
    when half of it is gone. Of equally near units (to about nine digits) the first by covariates is taken, then by
    rows, so that the order of the rows decides among identical units alone. Turns by score are by that of ``gate``.

    Parameters
    ----------
    place : array of shape (n, p)
    gate : (score, width), optional

    Raises
    ------
    CausalRecError
        When turns by score are asked for without a score.

    Examples
    --------
    >>> place, treatment = np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 0.4], [3.0, 3.0]]), np.array([1, 1, 0, 0])
    >>> sets = greedy_space(place, treatment)
    >>> sets.unit.tolist(), sets.pool.tolist()
    ([0, 1], [2, 3])
    """
    space = make_space(place, strata, gate)
    own = np.flatnonzero(treatment == arm)
    key = space.code if gate is None else gate[0]
    if gate is None and order in ("ascending", "descending"):
        raise CausalRecError(
            f"order={order!r} goes by a score; found distances on covariates alone. Pass propensity and a caliper, or "
            "order='closest'."
        )
    turn = own[turns(key[own], order, rng)]
    free = _Free(space, treatment != arm)
    lists = _Lists(space, np.unique(space.code[own]), free, caliper)
    report = reporter(progress, ratio * len(turn))
    rounds = []
    for _ in range(ratio):
        asked = np.searchsorted(lists.asked, space.code[turn])
        walk = _walk_closest if order == "closest" else _walk
        taken = walk(asked.tolist(), lists, free, report)
        found = taken >= 0
        turn, match = turn[found], taken[found]
        gap = np.sqrt(((place[turn] - place[match]) ** 2).sum(axis=1))
        rounds.append((turn, match, gap))
    return join_rounds(rounds)


class _Free:
    """Units that may still be taken, by place: how many of each, and which comes first."""

    def __init__(self, space: Space, serving: BoolArray) -> None:
        rows = np.flatnonzero(serving)
        self.rows = rows[np.argsort(space.code[rows], kind="stable")]
        n = len(space.place)
        counts = np.bincount(space.code[rows], minlength=n)
        self.next = (np.cumsum(counts) - counts).tolist()
        self.room = counts.tolist()
        self.n_places = int(np.count_nonzero(counts))

    def take(self, place: int) -> int:
        """The row that is taken."""
        row = int(self.rows[self.next[place]])
        self.next[place] += 1
        self.room[place] -= 1
        self.n_places -= not self.room[place]
        return row


class _Lists:
    """For each place that asks, its nearest places in order, made longer on demand."""

    def __init__(self, space: Space, asked: IntArray, free: _Free, caliper: float) -> None:
        self.space, self.asked, self.free = space, asked, free
        extent = float(np.sqrt((np.ptp(space.place, axis=0) ** 2).sum())) + 1.0
        self.reach = min(caliper, 1.5 * extent) + space.slack
        self.grain = 100 * space.slack if space.slack > 0 else 1.0
        # Strata lie farther from each other than any two units of one: one tree serves all.
        self.points = np.column_stack([space.place, 4 * extent * space.stratum])
        self.width = min(_FIRST_WIDTH, max(free.n_places, 1), max(_MOST_LISTED // max(len(asked), 1), 1))
        self._plant()
        distance, answer = self.tree.query(self.points[asked], k=np.arange(1, self.width + 1))
        self.first, self.all_at_first = (distance, self.planted[answer]), self.width >= len(self.planted)
        self.lists: list[_List | None] = [None] * len(asked)
        self.at = [0] * len(asked)
        self.widths = [self.width] * len(asked)

    def _plant(self) -> None:
        self.planted = np.flatnonzero(np.array(self.free.room) > 0)
        self.tree = cKDTree(self.points[self.planted])

    def nearest(self, i: int) -> tuple[float, int] | None:
        """Distance (rounded) and place of the nearest free place, None without one."""
        room = self.free.room
        while True:
            listed = self.lists[i]
            if listed is None:
                listed = self.lists[i] = self._listed(i, self.first[0][i], self.first[1][i], self.all_at_first)
            distances, places, whole = listed
            at = self.at[i]
            while at < len(places) and not room[places[at]]:
                at += 1
            self.at[i] = at
            if at < len(places):
                return distances[at], places[at]
            if whole or not self.free.n_places:
                return None
            self._lengthen(i)

    def _lengthen(self, i: int) -> None:
        if 2 * self.free.n_places < len(self.planted):
            self._plant()
        self.at[i] = 0
        if np.isfinite(self.space.width):
            self.lists[i] = self._within_gate(i)
            return
        width = self.widths[i] = min(4 * self.widths[i], len(self.planted))
        distance, answer = self.tree.query(self.points[self.asked[i]], k=np.arange(1, width + 1))
        self.lists[i] = self._listed(i, distance, self.planted[answer], width >= len(self.planted))

    def _listed(self, i: int, distance: FloatArray, place: IntArray, all_there: bool) -> _List:
        """What is certain of a list: places as far as its last one may have been cut off."""
        whole = all_there or distance[-1] > self.reach
        kept = distance <= self.reach if whole else distance < distance[-1] - self.space.slack
        return self._in_order(i, distance[kept], place[kept], bool(whole))

    def _within_gate(self, i: int) -> _List:
        place = self.planted[np.abs(self.space.gate[self.planted] - self.space.gate[self.asked[i]]) <= self.space.width
                             + self.space.gate_slack]  # fmt: skip
        distance = np.sqrt(((self.points[place] - self.points[self.asked[i]]) ** 2).sum(axis=1))
        kept = distance <= self.reach
        return self._in_order(i, distance[kept], place[kept], True)

    def _in_order(self, i: int, distance: FloatArray, place: IntArray, whole: bool) -> _List:
        if np.isfinite(self.space.width):
            gap = np.abs(self.space.gate[place] - self.space.gate[self.asked[i]])
            kept = gap <= self.space.width + self.space.gate_slack
            distance, place = distance[kept], place[kept]
        rounded = np.round(distance / self.grain)
        order = np.lexsort((place, rounded))
        return rounded[order].tolist(), place[order].tolist(), whole


def _walk(asked: list[int], lists: _Lists, free: _Free, report: Callable[[int], None]) -> IntArray:
    taken = []
    for i in asked:
        found = lists.nearest(i)
        taken.append(-1 if found is None else free.take(found[1]))
        if not len(taken) % REPORT_EVERY:
            report(REPORT_EVERY)
    report(len(taken) % REPORT_EVERY)
    return np.array(taken, dtype=np.int64)


def _walk_closest(asked: list[int], lists: _Lists, free: _Free, report: Callable[[int], None]) -> IntArray:
    taken = [-1] * len(asked)
    found = [lists.nearest(i) for i in asked]
    heap = [(pair[0], k, pair[1]) for k, pair in enumerate(found) if pair is not None]
    heapq.heapify(heap)
    done = 0
    while heap:
        _, k, place = heap[0]
        if free.room[place]:
            heapq.heappop(heap)
            taken[k] = free.take(place)
            done += 1
            if not done % REPORT_EVERY:
                report(REPORT_EVERY)
            continue
        pair = lists.nearest(asked[k])
        if pair is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (pair[0], k, pair[1]))
    report(len(asked) - done // REPORT_EVERY * REPORT_EVERY)
    return np.array(taken, dtype=np.int64)
