"""The search for the tree of the highest total reward: exact over a grid of cuts, by joint histograms.

The value of a tree is a sum over its leaves, and the sums of a leaf are sums of the bins that it holds. So a histogram
of the rewards over the bins of d covariates together is all that is needed to judge every tree of depth d that splits
by them: the rows are read once for each pair (or triple) of covariates, and no sorting is repeated. Sverdrup, Kanodia,
Zhou, Athey and Wager (2020, JOSS 5, "policytree") search the same trees from sorted rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement, permutations
from typing import Any, NamedTuple

import numpy as np

from causalrec._typing import FloatArray, IntArray
from causalrec.policy._tree_grid import Column, coarser

_TINY = 1e-12


@dataclass(frozen=True)
class Node:
    """A leaf, or a split with what follows on either side.

    Attributes
    ----------
    arm : int
        Of all in the node, were it a leaf.
    column : int
        -1 for a leaf.
    cut : float
        Of a number: values up to it go left.
    left_levels : tuple of int
        Of a category: codes that go left; empty for a number.
    known_levels : tuple of int
        Of a category: those that some row of the node had.
    missing_left : bool
        Where missing values, and levels that nobody had, go.
    """

    arm: int
    column: int = -1
    cut: float = float("nan")
    left_levels: tuple[int, ...] = ()
    known_levels: tuple[int, ...] = ()
    missing_left: bool = False
    missing_seen: bool = False
    left: Node | None = None
    right: Node | None = None

    @property
    def leaf(self) -> bool:
        """Whether nothing follows."""
        return self.left is None


class Search(NamedTuple):
    """The most cuts of a covariate with 1, 2 or 3 levels at once, levels that are searched at once, rows of a leaf."""

    grid: tuple[int | None, int | None, int | None]
    levels: int
    min_leaf: int


class Choice(NamedTuple):
    """A split of one covariate: ``bins`` go left up to this one, and missing values if said; its value."""

    value: float
    column: int
    bin: int
    missing_left: bool


def grow(columns: list[Column], advantage: FloatArray, depth: int, search: Search) -> Node:
    """The best tree up to a depth for rows whose rewards exceed those of control by ``advantage``, shape (n, k - 1)."""
    total = advantage.sum(axis=0)
    arm = int(np.argmax(np.r_[0.0, total]))
    leaf = Node(arm)
    if depth == 0 or len(advantage) < 2 * search.min_leaf:
        return leaf
    choice = best_split(columns, advantage, min(depth, search.levels), search)
    scale = float(np.abs(advantage).sum())
    if choice is None or not choice.value > max(0.0, float(total.max())) + _TINY * scale:
        return leaf
    column = columns[choice.column]
    goes_left = column.codes <= choice.bin
    if column.missing:
        goes_left[column.codes == column.n_bins] = choice.missing_left
    sides = [np.flatnonzero(goes_left), np.flatnonzero(~goes_left)]
    left, right = (grow([c.take(rows) for c in columns], advantage[rows], depth - 1, search) for rows in sides)
    if left.leaf and right.leaf and left.arm == right.arm:
        return leaf
    levels: IntArray = np.empty(0, dtype=np.int64) if column.levels is None else column.levels
    here = levels[np.unique(column.codes[column.codes < column.n_bins])] if len(levels) else levels
    chosen = np.intersect1d(here, levels[: choice.bin + 1])
    return Node(
        arm, choice.column, cut=float(column.cuts[choice.bin]) if choice.bin < len(column.cuts) else np.inf,
        left_levels=tuple(chosen.tolist()), known_levels=tuple(sorted(here.tolist())),
        missing_left=choice.missing_left if column.missing else len(sides[0]) >= len(sides[1]),
        missing_seen=column.missing, left=left, right=right,
    )  # fmt: skip


def best_split(columns: list[Column], advantage: FloatArray, levels: int, search: Search) -> Choice | None:
    """The first split of the best tree of depth ``levels`` on the grid; None where no covariate can be split."""
    parts = [coarser(column, search.grid[levels - 1]) for column in columns]
    coarse = [column for column, _ in parts]
    usable = [j for j, column in enumerate(coarse) if column.size > 1]
    values = (_values_1, _values_2, _values_3)[levels - 1](coarse, usable, advantage, search.min_leaf)
    best: Choice | None = None
    for j in usable:
        at = int(np.argmax(values[j]))
        value = float(values[j][at])
        if np.isfinite(value) and (best is None or value > best.value):
            column, kept = parts[j]
            # Splits of a column with missing values: each cut with them on the right, none but them, each on the left.
            bin_ = at if at < column.n_bins else at - column.n_bins
            fine = int(kept[bin_]) if bin_ < len(kept) else columns[j].n_bins - 1
            best = Choice(value, j, fine, at >= column.n_bins)
    return best


def left_sums(table: FloatArray, axis: int, column: Column) -> FloatArray:
    """Sums over what goes left for every split of an axis of bins; with missing values, these on either side."""
    table = np.moveaxis(table, axis, 0)
    sums = np.cumsum(table[: column.n_bins], axis=0)
    found = np.concatenate([sums, sums[:-1] + table[column.n_bins]]) if column.missing else sums[:-1]
    return np.moveaxis(found, 0, axis)


def reward(sums: FloatArray, min_leaf: int) -> FloatArray:
    """What a leaf with these sums brings over control: of its best arm; -inf where it has too few rows."""
    found = np.maximum(sums[..., :-1].max(axis=-1), 0.0)
    return np.where(sums[..., -1] >= min_leaf - 0.5, found, -np.inf)


def split_rewards(table: FloatArray, axis: int, column: Column, min_leaf: int) -> FloatArray:
    """What the best split of an axis of bins brings, with the axis gone; a leaf where that is as good."""
    left = left_sums(table, axis, column)
    total = table.sum(axis=axis, keepdims=True)
    best: FloatArray = (reward(left, min_leaf) + reward(total - left, min_leaf)).max(axis=axis, initial=-np.inf)
    return np.maximum(best, reward(np.squeeze(total, axis), min_leaf))


def histogram(place: IntArray, shape: tuple[int, ...], advantage: FloatArray) -> FloatArray:
    """Sums of the advantages, and rows, by bin, shape (*shape, k)."""
    size = int(np.prod(shape))
    channels: list[Any] = [np.bincount(place, weights=a, minlength=size) for a in advantage.T]
    channels.append(np.bincount(place, minlength=size).astype(np.float64))
    return np.asarray(np.stack(channels, axis=-1).reshape(*shape, -1), dtype=np.float64)


def _values_1(columns: list[Column], usable: list[int], advantage: FloatArray, min_leaf: int) -> dict[int, FloatArray]:
    """For each split of each covariate what it brings."""
    found, advantage = {}, np.asfortranarray(advantage)
    for j in usable:
        table = histogram(columns[j].codes, (columns[j].size,), advantage)
        left = left_sums(table, 0, columns[j])
        found[j] = reward(left, min_leaf) + reward(table.sum(axis=0) - left, min_leaf)
    return found


def _values_2(columns: list[Column], usable: list[int], advantage: FloatArray, min_leaf: int) -> dict[int, FloatArray]:
    """For each split of each covariate what it brings with the best split of either side after it."""
    best: dict[int, list[FloatArray]] = {}
    advantage = np.asfortranarray(advantage)
    for pair in combinations_with_replacement(usable, 2):
        place, shape = _joint(columns, pair)
        table = histogram(place, shape, advantage)
        for order in _orders(pair):
            i, j = (pair[k] for k in order)
            first = _both_sides(np.transpose(table, (*order, 2)), 0, columns[i])
            found = [split_rewards(side, 1, columns[j], min_leaf) for side in first]
            best[i] = [np.maximum(a, b) for a, b in zip(best[i], found, strict=True)] if i in best else found
    return {i: left + right for i, (left, right) in best.items()}


def _values_3(columns: list[Column], usable: list[int], advantage: FloatArray, min_leaf: int) -> dict[int, FloatArray]:
    """For each split of each covariate what it brings with the best tree of depth two on either side."""
    best: dict[tuple[int, int], list[FloatArray]] = {}  # by first and second covariate, the four sides of two splits
    advantage = np.asfortranarray(advantage)
    for triple in combinations_with_replacement(usable, 3):
        place, shape = _joint(columns, triple)
        table = histogram(place, shape, advantage)
        for order in _orders(triple):
            i, j, m = (triple[k] for k in order)
            first = _both_sides(np.transpose(table, (*order, 3)), 0, columns[i])
            second = [part for side in first for part in _both_sides(side, 1, columns[j])]
            found = [split_rewards(part, 2, columns[m], min_leaf) for part in second]
            seen = best.get((i, j))
            best[i, j] = found if seen is None else [np.maximum(a, b) for a, b in zip(seen, found, strict=True)]
    values: dict[int, FloatArray] = {}
    sides = _values_leaf_or_two(columns, usable, advantage, min_leaf)
    for i in usable:
        left, right = sides[i]
        for j in usable:
            a, b, c, d = best[i, j]
            left = np.maximum(left, (a + b).max(axis=1, initial=-np.inf))
            right = np.maximum(right, (c + d).max(axis=1, initial=-np.inf))
        values[i] = left + right
    return values


def _values_leaf_or_two(
    columns: list[Column], usable: list[int], advantage: FloatArray, min_leaf: int
) -> dict[int, list[FloatArray]]:
    """What each side of each split brings as a leaf."""
    found = {}
    for j in usable:
        table = histogram(columns[j].codes, (columns[j].size,), advantage)
        found[j] = [reward(side, min_leaf) for side in _both_sides(table, 0, columns[j])]
    return found


def _both_sides(table: FloatArray, axis: int, column: Column) -> tuple[FloatArray, FloatArray]:
    left = left_sums(table, axis, column)
    return left, table.sum(axis=axis, keepdims=True) - left


def _joint(columns: list[Column], which: tuple[int, ...]) -> tuple[IntArray, tuple[int, ...]]:
    """The bin of each row in a table of several covariates."""
    place = columns[which[0]].codes
    for j in which[1:]:
        place = place * columns[j].size + columns[j].codes
    return place, tuple(columns[j].size for j in which)


def _orders(which: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Orders of the covariates that differ."""
    seen = set()
    for order in permutations(range(len(which))):
        named = tuple(which[k] for k in order)
        if named not in seen:
            seen.add(named)
            yield order
