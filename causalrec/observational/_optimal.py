"""Pairs of the least total distance: by dynamic programming on a score, as an assignment problem on covariates."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from causalrec._typing import BoolArray, FloatArray, IntArray
from causalrec.exceptions import CausalRecError
from causalrec.observational._greedy import (
    join_rounds,
    make_shelf,
    nearest_group,
    settled_groups,
    stratum_keys,
    take_rows,
)
from causalrec.observational._sets import MatchedSets

_MOST_ON_LINE = 400_000_000
_MOST_IN_SPACE = 30_000_000


def optimal_line(
    score: FloatArray,
    treatment: IntArray,
    *,
    arm: int = 1,
    ratio: int = 1,
    caliper: float = np.inf,
    strata: IntArray | None = None,
) -> MatchedSets:
    """Matching without replacement on a score: as many matches as possible, of the least total distance.

    Where not everybody can have ``ratio`` matches, as many as possible have a first one, then a second, and so on.

    On a line some optimal matching does not cross itself, so that dynamic programming over both arms in order finds
    it. Where demand does not exceed supply (:func:`settled_groups`) everybody simply has the nearest; what remains
    falls apart into stretches, each solved by itself (compare Sävje 2020, Sociological Methods & Research 49, who
    prunes the same way). A stretch of m matches asked for and n units takes m n steps and bytes.

    Parameters
    ----------
    As :func:`greedy_match`.

    Raises
    ------
    CausalRecError
        When a stretch is too long.

    Examples
    --------
    >>> sets = optimal_line(np.array([0.5, 0.4, 0.42, 0.0, 0.9]), np.array([1, 1, 0, 0, 0]))
    >>> sets.pool.tolist(), sets.distances.round(6).tolist()  # greedily 0.08 + 0.4
    ([4, 2], [0.4, 0.02])
    """
    own, other = np.flatnonzero(treatment == arm), np.flatnonzero(treatment != arm)
    key, width = (score, None) if strata is None else stratum_keys(score, strata)
    unit, turn = np.repeat(own[np.argsort(key[own], kind="stable")], ratio), np.tile(np.arange(ratio), len(own))
    shelf = make_shelf(key, width, score, other)
    place = np.searchsorted(shelf.key, key[unit])
    group, distance = nearest_group(score[unit], place, shelf.value)
    possible = (distance <= caliper) & (distance < np.inf)
    unit, group, turn = unit[possible], group[possible], turn[possible]
    settled = settled_groups(group, shelf.room) | np.isinf(shelf.value)
    at_once = settled[group]
    match = np.full(len(unit), -1)
    match[at_once] = take_rows(shelf, group[at_once])
    stretch = np.cumsum(np.r_[True, settled[1:] != settled[:-1]])  # a number per run of groups
    open_units = np.flatnonzero(~at_once)
    for part in _split(open_units, stretch[group[open_units]]):
        first, last = np.searchsorted(stretch, stretch[group[part[0]]] + np.array([0, 1])) - [0, 1]
        rows = shelf.rows[shelf.first[first] : shelf.first[last] + shelf.room[last]]
        aligned = _align(score[unit[part]], score[rows], caliper, ratio - turn[part])
        match[part] = np.where(aligned >= 0, rows[aligned], -1)
    found = match >= 0
    unit, match = unit[found], match[found]
    return join_rounds([(unit, match, np.abs(score[unit] - score[match]))])


def optimal_space(
    place: FloatArray,
    treatment: IntArray,
    *,
    arm: int = 1,
    ratio: int = 1,
    caliper: float = np.inf,
    strata: IntArray | None = None,
    gate: tuple[FloatArray, float] | None = None,
) -> MatchedSets:
    """As :func:`optimal_line`, by Euclidean distance: an assignment problem (Rosenbaum 1989, JASA 84) for each block.

    Blocks are strata, cut where the scores of ``gate`` are farther apart than its width. Distances count to nine
    digits. Of several optima the one that the solver finds first, in the order of the covariates, so that only
    identical units go by their rows.

    Raises
    ------
    CausalRecError
        When a block has more than thirty million possible pairs.
    """
    group = np.zeros(len(treatment), dtype=np.int64) if strata is None else strata
    score, width = (np.zeros(len(treatment)), 0.0) if gate is None else gate
    grain = 1e-9 * max(float(np.abs(place).max(initial=0.0)), 1e-300)
    order = np.lexsort((*np.round(place / grain).T[::-1], score, group))
    apart = (np.diff(group[order]) != 0) | (np.diff(score[order]) > width)
    found = []
    for block in _split(order, np.cumsum(np.r_[False, apart])):
        own = np.repeat(block[treatment[block] == arm], ratio)
        other = block[treatment[block] != arm]
        if len(own) and len(other):
            worth = np.tile(np.arange(ratio, 0, -1), len(own) // ratio)
            found.append(_assign(place, score, width, own, other, caliper, grain, worth))
    if not found:
        found = [(order[:0], order[:0], score[:0])]
    return join_rounds(found)


def _split(values: IntArray, label: IntArray) -> list[IntArray]:
    return np.split(values, np.flatnonzero(np.diff(label)) + 1) if len(values) else []


def _assign(
    place: FloatArray,
    score: FloatArray,
    width: float,
    own: IntArray,
    other: IntArray,
    caliper: float,
    grain: float,
    worth: IntArray,
) -> tuple[IntArray, IntArray, FloatArray]:
    """Pairs of rows and their distances; ``worth`` as for :func:`_align`."""
    if len(own) * len(other) > _MOST_IN_SPACE:
        raise CausalRecError(
            f"optimal matching of {len(own):,} with {len(other):,} units has {len(own) * len(other):,} possible pairs; "
            f"at most {_MOST_IN_SPACE:,} are weighed against each other. Match exactly on some covariates, within a "
            "caliper of the score, on the score alone, or with method='nearest'."
        )
    distance = cdist(place[own], place[other])
    allowed = (distance <= caliper) & (np.abs(score[own][:, None] - score[other]) <= width)
    # One match more outweighs any distances.
    gain = float(distance[allowed].sum() if allowed.sum() < 2 else distance[allowed].max() * min(distance.shape)) + 1
    cost = np.where(allowed, np.round(distance / grain) - gain / grain * worth[:, None], 0.0)
    row, column = linear_sum_assignment(cost)
    kept = allowed[row, column]
    row, column = row[kept], column[kept]
    return own[row], other[column], distance[row, column]


def _align(score: FloatArray, pool: FloatArray, caliper: float, worth: IntArray) -> IntArray:
    """Which of the pool each takes, -1 for none; both in ascending order.

    best(i, j): the least cost of the first i with the first j of the pool, where one without a match costs more than
    all distances together, times its ``worth``, a whole number of 1 or more. Those that can have matches at once are
    the independent sets of a matroid, so that the most worth is had with the most matches.
    """
    n, m = len(score), len(pool)
    if n * m > _MOST_ON_LINE:
        raise CausalRecError(
            f"optimal matching: a stretch of the score has {n:,} matches to be found among {m:,} units, {n * m:,} "
            f"steps; at most {_MOST_ON_LINE:,} are taken. Use method='nearest', a smaller ratio or caliper, or strata "
            "(exact=)."
        )
    reach = min(caliper, max(pool[-1], score[-1]) - min(pool[0], score[0]))
    penalty = reach * min(n, m) + max(reach, 1.0)
    best = np.zeros(m + 1)
    here, taken = np.zeros((n, m), dtype=np.bool_), np.zeros((n, m), dtype=np.bool_)
    for i, (s, lost) in enumerate(zip(score, penalty * worth, strict=True)):
        distance = np.abs(s - pool)
        take = np.where(distance <= caliper, best[:-1] + distance, np.inf)
        skip = best[1:] + lost
        taken[i] = take <= skip
        new = np.minimum.accumulate(np.r_[best[0] + lost, np.minimum(take, skip)])
        here[i] = new[1:] < new[:-1]  # the j-th of the pool makes a difference
        best = new
    match, j = np.full(n, -1), m
    for i in range(n - 1, -1, -1):
        j = _last_true(here[i], j)
        if j and taken[i, j - 1]:
            match[i] = j = j - 1
    return match


def _last_true(flags: BoolArray, stop: int) -> int:
    """One after the last True before ``stop``; 0 without one."""
    found = np.flatnonzero(flags[:stop])
    return int(found[-1]) + 1 if len(found) else 0
