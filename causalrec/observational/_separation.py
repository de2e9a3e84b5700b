"""Paths in causal graphs: which are open, and what closes them. Imported only by the adapter of DoWhy.

Paths are those of d-separation (Pearl 2009, Causality, definition 1.2.3).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Set
from itertools import pairwise
from typing import Any

import networkx as nx


def minimal_separators(
    graph: Any, start: str, end: str, allowed: Collection[str], most: int = 50
) -> list[frozenset[str]]:
    """Sets of ``allowed`` nodes that d-separate two nodes and can spare none of theirs; all of them up to ``most``.

    Such a set consists of ancestors of the two, and separates them in the moral graph of these (Lauritzen et al. 1990,
    Networks 20); other nodes are eliminated from it. The sets are listed from ``start`` outwards: each yields those
    that lie one node farther (Shen and Liang 1997, Theoretical Computer Science 180).
    """
    near = _moral(graph, start, end, set(allowed) - {start, end})
    if end in near[start]:
        return []
    first = _close_to(near, {start}, end)
    found, queue = {first: None}, deque([first])
    while queue and len(found) < most:
        given = queue.popleft()
        inside = _component(near, start, given)
        for node in sorted(given):
            if end not in near[node]:
                farther = _close_to(near, inside | {node}, end)
                if farther not in found:
                    found[farther] = None
                    queue.append(farther)
    return list(found)


def _moral(graph: Any, start: str, end: str, allowed: Set[str]) -> dict[str, set[str]]:
    """Neighbours in the moral graph of the ancestors, after elimination of what is not allowed."""
    kept = nx.ancestors(graph, start) | nx.ancestors(graph, end) | {start, end}
    moral = nx.moral_graph(graph.subgraph(kept))
    near: dict[str, set[str]] = {node: set(moral[node]) for node in moral}
    for node in sorted(kept - allowed - {start, end}):
        around = near.pop(node)
        for other in around:
            near[other] |= around
            near[other] -= {node, other}
    return near


def _component(near: dict[str, set[str]], start: str, without: Collection[str]) -> set[str]:
    found, queue = {start}, [start]
    while queue:
        new = near[queue.pop()] - found - set(without)
        found |= new
        queue += new
    return found


def _around(near: dict[str, set[str]], inside: set[str]) -> set[str]:
    return set().union(*(near[node] for node in inside)) - inside


def _close_to(near: dict[str, set[str]], inside: set[str], end: str) -> frozenset[str]:
    """The separator nearest to a connected set: the neighbours of what is left around ``end`` without that set's."""
    wall = _around(near, inside)
    return frozenset(_around(near, _component(near, end, wall | inside)))


def open_path(graph: Any, start: str, end: str, given: Set[str]) -> list[str]:
    """A shortest path that is open given a set, as its nodes; empty where there is none.

    Reachability of Geiger, Verma and Pearl (1990, Networks 20): a chain or fork passes where its middle is not given, a
    collider where it or what it causes is.
    """
    opened = set(given).union(*(nx.ancestors(graph, node) for node in given))
    came: dict[tuple[str, bool], tuple[str, bool] | None] = {(start, True): None}
    queue = deque(came)
    while queue:
        state = queue.popleft()
        if state[0] == end:
            return _traced(came, state)
        for following in _steps(graph, state, given, opened):
            if following not in came:
                came[following] = state
                queue.append(following)
    return []


def _steps(graph: Any, state: tuple[str, bool], given: Set[str], opened: Set[str]) -> Iterator[tuple[str, bool]]:
    """Where a path goes on from a node that it reached against an arrow (True) or along one."""
    node, upwards = state
    if node not in given:
        yield from ((child, False) for child in sorted(graph.successors(node)))
    if (node not in given) if upwards else (node in opened):
        yield from ((parent, True) for parent in sorted(graph.predecessors(node)))


def _traced(came: dict[tuple[str, bool], tuple[str, bool] | None], last: tuple[str, bool]) -> list[str]:
    path: list[str] = []
    state: tuple[str, bool] | None = last
    while state is not None:
        path.append(state[0])
        state = came[state]
    return path[::-1]


def colliders(graph: Any, path: list[str]) -> list[str]:
    """The nodes of a path where two arrows meet."""
    inner = zip(path, path[1:], path[2:], strict=False)
    return [node for left, node, right in inner if graph.has_edge(left, node) and graph.has_edge(right, node)]


def write_path(graph: Any, path: list[str]) -> str:
    """A path with its arrows."""
    steps = (f" {'→' if graph.has_edge(a, b) else '←'} {b}" for a, b in pairwise(path))
    return "".join([*path[:1], *steps])
