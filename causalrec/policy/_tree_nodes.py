"""A fitted policy tree as a list of nodes: where units end up, and its questions in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd

from causalrec._typing import AnyArray, BoolArray, FloatArray, IntArray
from causalrec.policy._tree_grid import as_numbers
from causalrec.policy._tree_search import Node
from causalrec.results import format_number


class Placed(NamedTuple):
    """A node, the place of the node above (-1 for the root), and the answer that leads here: yes, no or none."""

    node: Node
    parent: int
    side: str


@dataclass(frozen=True, eq=False)
class Nodes:
    """The nodes of a tree, each before those below it and yes before no.

    Attributes
    ----------
    placed : list of Placed
    names : tuple of str
        Of the covariates.
    levels : list of arrays, or None
        The levels of each category; None for numbers.
    """

    placed: list[Placed] = field(repr=False)
    names: tuple[str, ...]
    levels: list[AnyArray | None] = field(repr=False)

    @classmethod
    def of(cls, tree: Node, names: tuple[str, ...], levels: list[AnyArray | None]) -> Self:
        """The list of a tree's nodes."""
        placed: list[Placed] = []
        for each in _listed(tree, -1, "", placed):
            placed.append(each)
        return cls(placed, names, levels)

    def __len__(self) -> int:
        return len(self.placed)

    @property
    def arms(self) -> IntArray:
        """Of each node, were it a leaf."""
        return np.array([each.node.arm for each in self.placed], dtype=np.int64)

    @property
    def parents(self) -> IntArray:
        """Place of the node above each; -1 for the root."""
        return np.array([each.parent for each in self.placed], dtype=np.int64)

    @property
    def n_leaves(self) -> int:
        """Leaves."""
        return sum(each.node.leaf for each in self.placed)

    @property
    def depth(self) -> int:
        """Questions on the longest way to a leaf."""
        depths = [0]
        for each in self.placed[1:]:
            depths.append(depths[each.parent] + 1)
        return max(depths)

    def children(self, place: int) -> list[int]:
        """Places of the nodes below, yes before no; none below a leaf."""
        return [k for k, each in enumerate(self.placed) if each.parent == place]

    def below(self, place: int) -> list[int]:
        """The node and all that follow from it."""
        found = [place]
        for k, each in enumerate(self.placed):
            if each.parent in found:
                found.append(k)
        return found

    def assign(self, X: Any) -> IntArray:
        """The place of each row's leaf, for covariates in the form of ``fit``."""
        found = np.zeros(X.shape[0], dtype=np.int64)
        for place, each in enumerate(self.placed):
            if not each.node.leaf:
                rows = np.flatnonzero(found == place)
                left = goes_left(each.node, X, rows)
                yes, no = self.children(place)
                found[rows] = np.where(left, yes, no)
        return found

    def add_up(self, of_leaves: FloatArray) -> FloatArray:
        """Of each node what its leaves hold together."""
        total = of_leaves.astype(np.float64, copy=True)
        for place in range(len(self) - 1, 0, -1):
            total[self.placed[place].parent] += total[place]
        return total

    def rule(self, place: int) -> str:
        """The question of a node whose answer yes goes left; empty for a leaf."""
        node = self.placed[place].node
        if node.leaf:
            return ""
        name, levels = self.names[node.column], self.levels[node.column]
        missing = " or missing" if node.missing_left and node.missing_seen else ""
        if levels is not None:
            chosen = ", ".join(str(levels[code]) for code in node.left_levels)
            return f"{name} in {{{chosen}}}{missing}" if chosen else f"{name} is missing"
        return f"{name} is known" if np.isinf(node.cut) else f"{name} ≤ {format_number(node.cut)}{missing}"


def _listed(node: Node, parent: int, side: str, placed: list[Placed]) -> Iterator[Placed]:
    yield Placed(node, parent, side)
    here = len(placed) - 1  # of the node that was just put there
    if node.left is not None and node.right is not None:
        yield from _listed(node.left, here, "yes", placed)
        yield from _listed(node.right, here, "no", placed)


def goes_left(node: Node, X: Any, rows: IntArray) -> BoolArray:
    """Whether each of some rows goes left at a node."""
    values = X.iloc[rows, node.column] if isinstance(X, pd.DataFrame) else X[rows, node.column]
    if isinstance(values, pd.Series) and isinstance(values.dtype, pd.CategoricalDtype):
        codes = np.asarray(values.cat.codes, dtype=np.int64)
        known = np.isin(codes, node.known_levels)
        return np.where(known, np.isin(codes, node.left_levels), node.missing_left)
    numbers = as_numbers(values)
    return np.where(np.isnan(numbers), node.missing_left, numbers <= node.cut)
