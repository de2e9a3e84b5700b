"""Causal graphs as people write them: DOT, GML, files, networkx. Imported only by the adapter of DoWhy."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Collection
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import networkx as nx

from causalrec._validation import list_some, nearest, optional_import
from causalrec.exceptions import CausalRecError

_NAME = r'"(?:[^"\\]|\\.)*"|[\w.]+'
_BOTH_WAYS = re.compile(rf'({_NAME})\s*<->\s*({_NAME})|"(?:[^"\\]|\\.)*"')
_DEFAULTS = ("node", "edge", "graph")  # what DOT says of all nodes or arrows, no node of its own
_QUOTES = "Names with spaces, hyphens and the like need double quotes in DOT."


def read_graph(graph: Any) -> Any:
    """A directed graph from DOT or GML text, a file of either, or a networkx graph, which is copied.

    An arrow with two heads (``a -> b [dir=both]``, or ``a <-> b``) stands for an unobserved cause of both, and becomes
    a node ``a ↔ b``. Names are text, whatever they were.

    Raises
    ------
    CausalRecError
        For text that is neither, an undirected or empty graph, or one with a cycle.
    """
    found = _one_way(_parsed(graph) if isinstance(graph, str | Path) else _directed(graph))
    if not len(found):
        raise CausalRecError("graph is empty; expected arrows from cause to effect: 'digraph {x -> t; x -> y; t -> y}'")
    try:
        cycle = [source for source, _ in nx.find_cycle(found)]
    except nx.NetworkXNoCycle:
        return found
    around = " → ".join(map(str, [*cycle, cycle[0]]))
    raise CausalRecError(f"graph has a cycle: {around}. A cause cannot be its own effect; take one of the arrows out.")


def check_nodes(graph: Any, treatment: str, outcome: str, columns: Collection[str]) -> None:
    """Raise :class:`CausalRecError` where treatment or outcome are no nodes, are one, or names were torn apart."""
    check_apart(treatment, outcome)
    for node, role in ((treatment, "treatment"), (outcome, "outcome")):
        if node not in graph:
            quotes = f" {_QUOTES}" if _torn(node, graph) else ""
            raise CausalRecError(
                f"graph has no node {node!r}, the {role}; its nodes are {list_some(sorted(graph), 20)}."
                f"{nearest(node, graph)}{quotes}"
            )
    torn = [c for c in columns if c not in graph and _torn(c, set(graph) - set(columns))]
    if torn:
        raise CausalRecError(f'graph has the words of {torn[0]!r} as nodes of their own. {_QUOTES[:-1]}: "{torn[0]}".')
    if not nx.has_path(graph, treatment, outcome):
        raise CausalRecError(f"graph has no path from {treatment!r} to {outcome!r}: it says that there is no effect.")


def check_apart(treatment: str, outcome: str) -> None:
    """Raise :class:`CausalRecError` where treatment and outcome are the same."""
    if treatment == outcome:
        raise CausalRecError(f"treatment and outcome are both {treatment!r}; name two columns.")


def _torn(name: str, nodes: Collection[str]) -> bool:
    """Whether a name of several words is found in pieces, as DOT reads it without quotes."""
    words = re.split(r"\W+", name)
    return len(words) > 1 and all(word in nodes for word in words)


def _one_way(graph: Any) -> Any:
    """The arrows alone, with names of text; those of two heads as an unobserved cause of both."""
    found = nx.DiGraph()
    found.add_nodes_from(map(str, graph))
    for source, target, about in graph.edges(data=True):
        way, ends = str(about.get("dir", "forward")).strip('"'), (str(source), str(target))
        if way == "none":
            raise CausalRecError(f"graph has a line without a head between {ends[0]!r} and {ends[1]!r}; draw an arrow.")
        if way == "both":
            hidden = " ↔ ".join(sorted(ends))
            found.add_edges_from([(hidden, ends[0]), (hidden, ends[1])])
        else:
            found.add_edge(*(ends[::-1] if way == "back" else ends))
    return found


def _directed(graph: Any) -> Any:
    if not isinstance(graph, nx.Graph):
        raise CausalRecError(f"graph is of type {type(graph).__name__}; expected DOT or GML text, or a networkx graph.")
    if not graph.is_directed():
        raise CausalRecError("graph is undirected; expected arrows from cause to effect (digraph, ->, nx.DiGraph).")
    return graph


def _parsed(graph: str | Path) -> Any:
    text = str(graph)
    if not text.strip():
        raise CausalRecError("graph is empty text; expected DOT such as 'digraph {x -> t; x -> y; t -> y}'.")
    if isinstance(graph, Path) or not ("{" in text or "[" in text):
        path = Path(graph)
        if not path.is_file():
            raise CausalRecError(f"graph: there is no file {text!r}; expected a file, or DOT or GML text.")
        text = path.read_text(encoding="utf-8")
    if "{" not in text:
        return _directed(_from_gml(text))
    return _directed(_from_dot(text))


def _from_gml(text: str) -> Any:
    try:
        return nx.parse_gml(text)
    except (nx.NetworkXError, ValueError) as error:
        raise CausalRecError(f"graph is no GML that can be read: {error}.") from error


def _from_dot(text: str) -> Any:
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):  # pydot prints what it cannot read
        warnings.simplefilter("ignore")
        pydot = optional_import("pydot", extra="ate")
        graphs = pydot.graph_from_dot_data(_BOTH_WAYS.sub(_two_heads, text))
    if not graphs:
        raise CausalRecError(
            f"graph is no DOT that can be read; expected text such as 'digraph {{x -> t; x -> y; t -> y}}'. {_QUOTES}"
        )
    found = nx.MultiDiGraph() if graphs[0].get_type() == "digraph" else nx.MultiGraph()
    _add_part(found, graphs[0])
    return found


def _add_part(found: Any, part: Any) -> None:
    """Nodes and arrows of a DOT graph and of the groups in it; an arrow from or to a group is one for each of it."""
    names = [str(node.get_name()) for node in part.get_nodes()]
    found.add_nodes_from(name.strip('"') for name in names if name not in _DEFAULTS)
    for edge in part.get_edges():
        for source in _ends(edge.get_source()):
            for target in _ends(edge.get_destination()):
                found.add_edge(source, target, **edge.get_attributes())
    for group in part.get_subgraphs():
        _add_part(found, group)


def _ends(end: Any) -> list[str]:
    """The nodes at one end of an arrow: one, or those of a group."""
    return [str(end).strip('"')] if isinstance(end, str) else [str(name).strip('"') for name in end["nodes"]]


def _two_heads(match: re.Match[str]) -> str:
    return f"{match[1]} -> {match[2]} [dir=both]" if match[1] else match[0]
