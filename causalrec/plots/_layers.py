"""A layered layout of a graph without cycles: causes to the left of effects (Sugiyama et al. 1981)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np

Edge: TypeAlias = tuple[str, str]
Place: TypeAlias = str | tuple[str, str, int]  # a node, or where an edge passes a layer

_SWEEPS = 12
_PASSING = 0.35  # the room of an edge that passes, in rows


@dataclass(frozen=True)
class Layout:
    """Where nodes lie, and by what heights edges pass between them.

    Attributes
    ----------
    layer : mapping of nodes to int
    height : mapping of nodes to float
        In rows; nodes of one layer are at least one apart.
    passes : mapping of edges to tuple of float
        Heights in the layers between their ends.
    """

    layer: Mapping[str, int]
    height: Mapping[str, float]
    passes: Mapping[Edge, tuple[float, ...]]


def layered(nodes: Sequence[str], edges: Iterable[Edge]) -> Layout:
    """Place the nodes of a graph without cycles.

    Examples
    --------
    >>> found = layered(["x", "t", "y"], [("x", "t"), ("x", "y"), ("t", "y")])
    >>> dict(found.layer), len(found.passes["x", "y"])
    ({'x': 0, 't': 1, 'y': 2}, 1)
    """
    arrows = list(dict.fromkeys(edges))
    layer = _layers(nodes, arrows)
    columns, links = _columns(nodes, arrows, layer)
    columns = _ordered(columns, links)
    at = _heights(columns, links)
    passes = {
        (a, b): tuple(at[a, b, k] for k in range(layer[a] + 1, layer[b])) for a, b in arrows
    }  # fmt: skip
    return Layout(layer, {node: at[node] for node in nodes}, passes)


def neighbours(nodes: Sequence[str], edges: Iterable[Edge]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """What each node is caused by, and what it causes."""
    above: dict[str, list[str]] = {node: [] for node in nodes}
    below: dict[str, list[str]] = {node: [] for node in nodes}
    for source, target in edges:
        below[source].append(target)
        above[target].append(source)
    return above, below


def reached(start: str, below: Mapping[str, Sequence[str]]) -> set[str]:
    """What can be reached from a node, itself among it."""
    found, queue = {start}, [start]
    while queue:
        new = set(below[queue.pop()]) - found
        found |= new
        queue += sorted(new)
    return found


def _layers(nodes: Sequence[str], edges: Sequence[Edge]) -> dict[str, int]:
    """The longest way to each node from the left; nodes without causes stand right before what they cause."""
    above, below = neighbours(nodes, edges)
    layer: dict[str, int] = {}

    def place(node: str) -> int:
        if node not in layer:
            layer[node] = 1 + max((place(a) for a in above[node]), default=-1)
        return layer[node]

    for node in nodes:
        place(node)
    for node in nodes:
        if not above[node] and below[node]:
            layer[node] = min(layer[b] for b in below[node]) - 1
    return layer


def _columns(
    nodes: Sequence[str], edges: Sequence[Edge], layer: Mapping[str, int]
) -> tuple[list[list[Place]], dict[Place, tuple[list[Place], list[Place]]]]:
    """What stands in each layer, edges that pass among it, and the neighbours to the left and right of each."""
    columns: list[list[Place]] = [[] for _ in range(1 + max(layer.values(), default=0))]
    for node in nodes:
        columns[layer[node]].append(node)
    links: dict[Place, tuple[list[Place], list[Place]]] = {node: ([], []) for node in nodes}
    for a, b in edges:
        way: list[Place] = [a, *((a, b, k) for k in range(layer[a] + 1, layer[b])), b]
        for k, place in enumerate(way[1:-1], layer[a] + 1):
            columns[k].append(place)
            links[place] = ([], [])
        for left, right in pairwise(way):
            links[left][1].append(right)
            links[right][0].append(left)
    return columns, links


def _ordered(columns: list[list[Place]], links: Mapping[Place, tuple[list[Place], list[Place]]]) -> list[list[Place]]:
    """Each layer by the mean place of the neighbours, to and fro; the order with the fewest crossings is kept."""
    best, fewest = columns, _crossings(columns, links)
    for sweep in range(_SWEEPS):
        side = sweep % 2
        found = [list(column) for column in columns]
        for k in range(1, len(found)) if side == 0 else range(len(found) - 2, -1, -1):
            rank = {p: i for i, p in enumerate(found[k - 1 if side == 0 else k + 1])}
            own = {p: i for i, p in enumerate(found[k])}
            found[k].sort(key=lambda p: (_mean([rank[q] for q in links[p][side] if q in rank], own[p]), own[p]))
        columns = found
        crossings = _crossings(columns, links)
        if crossings < fewest:
            best, fewest = columns, crossings
    return best


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _crossings(columns: Sequence[Sequence[Place]], links: Mapping[Place, tuple[list[Place], list[Place]]]) -> int:
    total = 0
    for left, right in pairwise(columns):
        rank = {p: i for i, p in enumerate(right)}
        ends = [rank[q] for p in left for q in sorted(links[p][1], key=lambda q: rank[q])]
        total += sum(a > b for i, a in enumerate(ends) for b in ends[i + 1 :])
    return total


def _heights(
    columns: Sequence[Sequence[Place]], links: Mapping[Place, tuple[list[Place], list[Place]]]
) -> dict[Place, float]:
    """Heights as near to those of the neighbours as the order and the room of each allow."""
    at: dict[Place, float] = {}
    for column in columns:
        room = _room(column)
        at.update(zip(column, (room - room.mean()).tolist(), strict=True))
    for sweep in range(2 * _SWEEPS):
        for column in columns if sweep % 2 == 0 else columns[::-1]:
            wished = [_mean([at[q] for q in (*links[p][0], *links[p][1])], at[p]) for p in column]
            at.update(zip(column, _apart(np.array(wished), _room(column)), strict=True))
    return at


def _room(column: Sequence[Place]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The lowest heights that leave each its room, from zero upwards."""
    size = np.array([1.0 if isinstance(place, str) else _PASSING for place in column])
    steps = np.maximum(size[1:], size[:-1]) if len(size) else size
    return np.concatenate([np.zeros(min(len(size), 1)), np.cumsum(steps)])


def _apart(
    wished: np.ndarray[tuple[int], np.dtype[np.float64]], room: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> list[float]:
    """The heights nearest to those wished, by least squares, in the order given and with its room.

    Without the room they must not decrease: pooling of adjacent violators.
    """
    blocks: list[list[float]] = []  # sum, count
    for value in wished - room:
        blocks.append([float(value), 1.0])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += count
    level = np.concatenate([np.full(int(count), total / count) for total, count in blocks]) if blocks else room
    return [float(v) for v in level + room]
