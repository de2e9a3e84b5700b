"""DoWhy behind our results: graphs, what they say must be adjusted for, and what must be believed.

The only module that imports dowhy; it is imported inside functions, since dowhy alone takes seconds.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from causalrec._validation import list_some, nearest, optional_import
from causalrec.exceptions import CausalRecError
from causalrec.results import IdentificationResult

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # third-party deprecations at import; restored on leaving the block
    optional_import("dowhy", extra="ate")
    import networkx as nx
    from dowhy.graph import check_valid_backdoor_set, do_surgery, get_instruments


@contextmanager
def _quiet() -> Iterator[None]:
    """DoWhy logs a line per model and warns on pandas 3 per call; both say nothing about the user's data."""
    logger = logging.getLogger("dowhy")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for category in (FutureWarning, DeprecationWarning, UserWarning):
                warnings.simplefilter("ignore", category)
            yield
    finally:
        logger.setLevel(level)


# --- graphs ---------------------------------------------------------------------------------------------------------


def read_graph(graph: Any) -> Any:
    """A directed graph from DOT or GML text, a file of either, or a networkx graph, which is copied.

    Raises
    ------
    CausalRecError
        For text that is neither, an undirected graph, one with a cycle, or DOT with subgraphs.
    """
    found = nx.DiGraph(_parsed(graph) if isinstance(graph, str | Path) else _directed(graph))
    try:
        cycle = [source for source, _ in nx.find_cycle(found)]
    except nx.NetworkXNoCycle:
        return found
    around = " → ".join(map(str, [*cycle, cycle[0]]))
    raise CausalRecError(f"graph has a cycle: {around}. A cause cannot be its own effect; take one of the arrows out.")


def _directed(graph: Any) -> Any:
    if not isinstance(graph, nx.Graph):
        raise CausalRecError(f"graph is of type {type(graph).__name__}; expected DOT or GML text, or a networkx graph.")
    if not graph.is_directed():
        raise CausalRecError("graph is undirected; expected arrows from cause to effect (digraph, ->, nx.DiGraph).")
    return graph


def _parsed(graph: str | Path) -> Any:
    text = str(graph)
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
        graphs = pydot.graph_from_dot_data(text)
    if not graphs:
        raise CausalRecError(
            "graph is no DOT that can be read; expected text such as 'digraph {x -> t; x -> y; t -> y}'."
        )
    if graphs[0].get_subgraphs():
        raise CausalRecError("graph has subgraphs, whose arrows would be lost; write its arrows without them.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = nx.nx_pydot.from_pydot(graphs[0])
    return nx.relabel_nodes(found, {n: n.strip('"') for n in found})


def adjustment_set(graph: Any, treatment: str, outcome: str, observed: Iterable[str]) -> tuple[str, ...]:
    """The observed variables to adjust for, so that what is left between treatment and outcome is the effect.

    These are the observed causes of treatment or outcome, direct or not, that the treatment does not cause, without
    instruments. Where any set of observed variables meets the back-door criterion, this one does (van der Zander,
    Liśkiewicz and Textor 2019, Artificial Intelligence 270, theorem 4), so that no subsets need to be tried; DoWhy's
    d-separation is the judge.

    Parameters
    ----------
    graph : DOT or GML text, a file of either, or a networkx graph
    treatment, outcome : str
        Nodes.
    observed : column names
        Nodes that are none of these are unobserved.

    Raises
    ------
    CausalRecError
        For a graph that cannot be read or has a cycle, a missing node, an effect that the graph excludes, or where no
        set of observed variables suffices.

    Examples
    --------
    >>> adjustment_set("digraph {z -> t; x -> t; x -> y; t -> m -> y}", "t", "y", ["x", "z", "m", "t", "y"])
    ('x',)
    """
    found, columns = read_graph(graph), {str(c) for c in observed}
    for node, role in ((treatment, "treatment"), (outcome, "outcome")):
        if node not in found:
            raise CausalRecError(
                f"graph has no node {node!r}, the {role}; its nodes are {list_some(sorted(found), 20)}."
                f"{nearest(node, found)}"
            )
    if not nx.has_path(found, treatment, outcome):
        raise CausalRecError(f"graph has no path from {treatment!r} to {outcome!r}: it says that there is no effect.")
    causes = nx.ancestors(found, treatment) | nx.ancestors(found, outcome)
    usable = (causes & columns) - nx.descendants(found, treatment) - {treatment, outcome}
    cut = do_surgery(found, [treatment], remove_outgoing_edges=True)
    if not _blocks(found, cut, treatment, outcome, usable):
        raise _not_identified(found, treatment, outcome, columns)
    plain = usable - set(get_instruments(found, [treatment], [outcome]))
    return tuple(sorted(plain if _blocks(found, cut, treatment, outcome, plain) else usable))


def _blocks(graph: Any, cut: Any, treatment: str, outcome: str, given: set[str]) -> bool:
    with _quiet():
        found = check_valid_backdoor_set(graph, [treatment], [outcome], given, new_graph=cut)
    return bool(found["is_dseparated"])


def _not_identified(graph: Any, treatment: str, outcome: str, columns: set[str]) -> CausalRecError:
    hidden = sorted((nx.ancestors(graph, treatment) | nx.ancestors(graph, outcome)) - columns - {treatment, outcome})
    hints = "".join(nearest(node, columns) for node in hidden)
    return CausalRecError(
        f"no set of columns suffices to adjust for, by the graph: {list_some(hidden)} cause "
        f"{treatment!r} or {outcome!r} and are no columns.{hints} Measure them, or doubt the graph; an instrument or "
        "a front door, if there is one, needs another estimator."
    )


# --- in words ---------------------------------------------------------------------------------------------------------


def identify(
    treatment: str, outcome: str, *, covariates: Sequence[str] = (), graph: Any = None, estimand: str = "ate"
) -> IdentificationResult:
    """What to adjust for and what must be believed, in words.

    Parameters
    ----------
    treatment, outcome : str
    covariates : sequence of str
        Columns at hand; without a graph taken as common causes of treatment and outcome, without any the treatment as
        assigned at random.
    graph : optional
        As for :func:`adjustment_set`.
    estimand : {"ate", "att", "atc", "ato"}

    Examples
    --------
    >>> print(identify("emailed", "spend", covariates=["loyalty"], estimand="att").expression)
    mean over the treated of E[spend | emailed=1, X] − E[spend | emailed=0, X] with X = (loyalty)
    """
    if graph is None:
        graph = nx.DiGraph([(treatment, outcome), *((c, node) for c in covariates for node in (treatment, outcome))])
    adjust = adjustment_set(graph, treatment, outcome, covariates)
    population = _POPULATION[estimand]
    interference = "no interference: one unit's treatment does not change another's outcome"
    if not adjust:
        text = f"E[{outcome} | {treatment}=1] − E[{outcome} | {treatment}=0]"
        return IdentificationResult(
            estimand, treatment, outcome, (), ("treatment was assigned at random", interference), text
        )
    assumptions = (
        "no unobserved common cause of treatment and outcome, given the variables adjusted for",
        f"overlap: {_OVERLAP[estimand]}",
        interference,
    )
    text = (
        f"mean over {population} of E[{outcome} | {treatment}=1, X] − E[{outcome} | {treatment}=0, X] "
        f"with X = ({', '.join(adjust)})"
    )
    return IdentificationResult(estimand, treatment, outcome, adjust, assumptions, text)


_POPULATION = {
    "ate": "all units",
    "att": "the treated",
    "atc": "the controls",
    "ato": "all units, weighted by how much the arms overlap,",
}
_OVERLAP = {
    "ato": "some units could have been treated or not",
    "ate": "every unit could have been treated or not",
    "att": "every treated unit could have been left untreated",
    "atc": "every control unit could have been treated",
}
