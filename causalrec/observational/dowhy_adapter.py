"""DoWhy behind our results: graphs, what they say must be adjusted for, and what must be believed.

Imported inside functions, since dowhy alone takes seconds. DoWhy's d-separation judges every set; which sets to try is
ours (:mod:`causalrec.observational._criteria`), so that no subsets need to be searched.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from typing import Any

from causalrec._validation import list_some, nearest, optional_import
from causalrec.exceptions import CausalRecError
from causalrec.observational._words import assumptions_of, expression_of
from causalrec.results import IdentificationResult

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # third-party deprecations at import; restored on leaving the block
    optional_import("dowhy", extra="ate")
    import networkx as nx
    from dowhy.graph import check_dseparation

from causalrec.observational._criteria import CausalGraph
from causalrec.observational._graph import check_apart, check_nodes, read_graph

__all__ = ["adjustment_set", "identify", "quiet", "read_graph"]


@contextmanager
def quiet() -> Iterator[None]:
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


def _separated(graph: Any, first: Set[str], second: Set[str], given: Set[str]) -> bool:
    return bool(check_dseparation(graph, first, second, given))


def _causal_graph(graph: Any, treatment: str, outcome: str, observed: Iterable[Any]) -> CausalGraph:
    found, columns = read_graph(graph), {str(c) for c in observed}
    check_nodes(found, treatment, outcome, columns)
    return CausalGraph(found, treatment, outcome, columns, _separated)


def adjustment_set(graph: Any, treatment: str, outcome: str, observed: Iterable[str]) -> tuple[str, ...]:
    """The observed variables to adjust for, so that what is left between treatment and outcome is the effect.

    These are the observed causes of treatment or outcome, direct or not, that the treatment does not cause, without
    instruments. Where any set of observed variables suffices, this one does (van der Zander, Liśkiewicz and Textor
    2019, Artificial Intelligence 270, theorem 4), so that no subsets need to be tried; DoWhy's d-separation is the
    judge.

    Parameters
    ----------
    graph : DOT or GML text, a file of either, or a networkx graph
        Arrows with two heads (``a -> b [dir=both]``, ``a <-> b``) stand for unobserved causes of both.
    treatment, outcome : str
        Nodes.
    observed : column names
        Nodes that are none of these are unobserved.

    Raises
    ------
    CausalRecError
        For a graph that cannot be read, is empty or has a cycle, a missing node, an effect that the graph excludes, or
        where no set of observed variables suffices.

    Examples
    --------
    >>> adjustment_set("digraph {z -> t; x -> t; x -> y; t -> m -> y}", "t", "y", ["x", "z", "m", "t", "y"])
    ('x',)
    """
    with quiet():
        found = _causal_graph(graph, treatment, outcome, observed)
        if found.adjustment is None:
            raise CausalRecError(f"{_why_not(found)} {_remedy(found)}")
        return found.adjustment


def identify(
    treatment: str,
    outcome: str,
    *,
    covariates: Sequence[str] = (),
    graph: Any = None,
    estimand: str = "ate",
    given: Sequence[str] | None = None,
    instruments: Sequence[str] = (),
) -> IdentificationResult:
    """What the effect is identified by and what must be believed, in words.

    Parameters
    ----------
    treatment, outcome : str
    covariates : sequence of str
        Columns at hand; without a graph taken as common causes of treatment and outcome, without any the treatment as
        assigned at random.
    graph : optional
        As for :func:`adjustment_set`.
    estimand : {"ate", "att", "atc", "ato"}
        Of an adjustment; the effect by an instrument is always the ``"late"``.
    given : sequence of str, optional
        A set of nodes to judge: does it suffice, and what of it is a bad control?
    instruments : sequence of str
        Without a graph: columns that move the treatment, and the outcome only through it, given the covariates. An
        unobserved cause of treatment and outcome is then granted.

    Returns
    -------
    IdentificationResult
        The way taken is adjustment where a set suffices, else an instrument, else a front door; other ways that the
        graph leaves are named beside it.

    Raises
    ------
    CausalRecError
        As :func:`adjustment_set`, but only where neither an instrument nor a front door is left; for ``given`` with
        names that are no nodes; for an estimand that is unknown or that the way that is left does not have.

    Examples
    --------
    >>> print(identify("emailed", "spend", covariates=["loyalty"], estimand="att").expression)
    mean over the treated of E[spend | emailed=1, X] − E[spend | emailed=0, X] with X = (loyalty)
    >>> found = identify("t", "y", graph="digraph {u -> t; u -> y; t -> m; m -> y}", covariates=["m"])
    >>> found.strategy, found.mediators
    ('front_door', ('m',))
    """
    if graph is None:
        graph = _plain_graph(treatment, outcome, covariates, instruments)
        covariates = [*covariates, *instruments]
    elif instruments:
        raise CausalRecError("pass instruments or a graph, not both: the graph says what is an instrument.")
    with quiet():
        found = _causal_graph(graph, treatment, outcome, covariates)
        return _identified(found, estimand, given)


def _plain_graph(treatment: str, outcome: str, covariates: Sequence[str], instruments: Sequence[str]) -> Any:
    """The graph that columns stand for: all covariates cause all, and with instruments something unobserved does."""
    check_apart(treatment, outcome)
    named = [treatment, outcome, *covariates, *instruments]
    twice = [name for name in dict.fromkeys(named) if named.count(name) > 1]
    if twice:
        raise CausalRecError(f"{list_some(twice)} named twice among treatment, outcome, covariates and instruments.")
    graph = nx.DiGraph([(treatment, outcome)])
    graph.add_edges_from((c, node) for c in covariates for node in (treatment, outcome, *instruments))
    graph.add_edges_from((z, treatment) for z in instruments)
    if instruments:
        hidden = f"{treatment} ↔ {outcome}"
        graph.add_edges_from([(hidden, treatment), (hidden, outcome)])
    return graph


def _identified(found: CausalGraph, estimand: str, given: Sequence[str] | None) -> IdentificationResult:
    adjust, (instruments, with_instruments) = found.adjustment, found.instruments
    mediators, with_mediators = found.front_door
    strategy = _strategy(found)
    words = {
        "instrument": (instruments, with_instruments),
        "front_door": (mediators, with_mediators),
    }.get(strategy, (adjust or (), ()))
    estimand = "late" if strategy == "instrument" else estimand
    asked: dict[str, Any] = {"bad_controls": found.bad_controls()}
    if given is not None:
        asked = _judged(found, given)
    return IdentificationResult(
        estimand=estimand, treatment=found.treatment, outcome=found.outcome, backdoor_variables=adjust or (),
        assumptions=assumptions_of(strategy, estimand, found.treatment, found.outcome, *words),
        expression=expression_of(strategy, estimand, found.treatment, found.outcome, *words),
        strategy=strategy, minimal_sets=() if adjust is None else found.minimal_sets, instruments=instruments,
        instrument_covariates=with_instruments, mediators=mediators, mediator_covariates=with_mediators,
        unobserved=tuple(sorted(set(found.graph) - found.observed - {found.treatment, found.outcome})),
        edges=tuple(sorted(found.graph.edges)), **asked,
    )  # fmt: skip


def _strategy(found: CausalGraph) -> str:
    if found.adjustment is not None:
        return "backdoor" if found.graph.in_degree(found.treatment) else "randomised"
    if found.instruments[0]:
        return "instrument"
    if found.front_door[0]:
        return "front_door"
    raise CausalRecError(f"{_why_not(found)} {_remedy(found)}")


def _judged(found: CausalGraph, given: Sequence[str]) -> dict[str, Any]:
    if isinstance(given, str):
        raise CausalRecError(f"covariates is the text {given!r}; expected a list of columns: [{given!r}].")
    for node in given:
        if node not in found.graph:
            raise CausalRecError(
                f"covariates name {node!r}, which is no node of the graph: it says nothing of it."
                f"{nearest(node, found.graph)}"
            )
        if node in (found.treatment, found.outcome):
            raise CausalRecError(f"covariates name {node!r}, which is the treatment or the outcome; leave it out.")
    valid, bad, path = found.judge(set(given))
    return {"given": tuple(given), "given_valid": valid, "bad_controls": bad, "open_path": path}


def _why_not(found: CausalGraph) -> str:
    """Why no set suffices, with the columns that may be meant by nodes that are none."""
    why, path = found.why_not()
    hidden = sorted(set(found.graph) - found.observed - {found.treatment, found.outcome})
    return f"{why}{''.join(nearest(node, found.columns - set(found.graph)) for node in hidden)} {path}"


def _remedy(found: CausalGraph) -> str:
    left = {"instrument": found.instruments[0], "front door": found.front_door[0]}
    ways = [f"the {name} {list_some(nodes)}" for name, nodes in left.items() if nodes]
    if ways:
        return f"What is left is {' or '.join(ways)}, which needs another estimator."
    return "There is no instrument and no front door either: measure them, or doubt the graph."
