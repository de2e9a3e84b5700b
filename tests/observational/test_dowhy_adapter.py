"""Graphs: what must be adjusted for, against DoWhy's exhaustive search, and what is wrong with a graph."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from causalrec.exceptions import CausalRecError, MissingExtraError
from causalrec.observational.dowhy_adapter import adjustment_set, identify, read_graph

GML = """graph [ directed 1
  node [ id 0 label "x" ] node [ id 1 label "t" ] node [ id 2 label "y" ]
  edge [ source 0 target 1 ] edge [ source 0 target 2 ] edge [ source 1 target 2 ] ]"""


@pytest.mark.parametrize(
    "graph,observed,expected",
    [
        ("digraph {x -> t; x -> y; t -> y}", "x", ("x",)),
        ('digraph g { "x" -> {t y}; t -> y; node [shape=box]; x [label="a cause"]; }', "x", ("x",)),
        (GML, "x", ("x",)),
        (nx.DiGraph([("x", "t"), ("x", "y"), ("t", "y")]), "x", ("x",)),
        # Mediators, colliders and descendants of the treatment are left alone, and so are instruments.
        ("digraph {z -> t; x -> t; x -> y; t -> m -> y; t -> c; y -> c}", "xzmc", ("x",)),
        # An unobserved cause is blocked by what it works through.
        ("digraph {U -> x; U -> t; x -> y; t -> y}", "x", ("x",)),
            # The M: x is a collider of two unobserved causes, and must be left alone.
        ("digraph {A -> t; A -> x; B -> x; B -> y; t -> y}", "x", ()),
        # Causes of the outcome alone make the estimate more precise.
        ("digraph {x -> y; t -> y}", "x", ("x",)),
        ("digraph {t -> y; apart}", ["apart"], ()),
    ],
)  # fmt: skip
def test_what_to_adjust_for(graph, observed, expected) -> None:
    assert adjustment_set(graph, "t", "y", ["t", "y", *observed]) == expected


def test_random_graphs_agree_with_dowhys_exhaustive_search() -> None:
    """There is a set if and only if some subset of the observed meets the criterion, and ours is among these."""
    from dowhy.causal_identifier.auto_identifier import BackdoorAdjustment, identify_backdoor

    rng = np.random.default_rng(0)
    found = {True: 0, False: 0}
    while min(found.values()) < 12:
        k = int(rng.integers(4, 8))
        names = [f"v{i}" for i in range(k)]
        order = rng.permutation(k)
        graph = nx.DiGraph()
        graph.add_nodes_from(names)
        graph.add_edges_from(
            (names[order[i]], names[order[j]]) for i in range(k) for j in range(i + 1, k) if rng.random() < 0.5
        )
        t, y = names[:2]
        if not nx.has_path(graph, t, y):
            continue
        observed = [v for v in names if v in (t, y) or rng.random() < 0.4]
        peer = identify_backdoor(graph, [t], [y], observed, BackdoorAdjustment.BACKDOOR_EXHAUSTIVE)
        sets = [set(s.get_adjustment_variables()) for s in peer]
        found[bool(sets)] += 1
        if sets:
            assert set(adjustment_set(graph, t, y, observed)) in sets
        else:
            with pytest.raises(CausalRecError, match="no set of columns suffices"):
                adjustment_set(graph, t, y, observed)


def test_a_graph_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "g.dot"
    path.write_text("digraph {x -> t; x -> y; t -> y}", encoding="utf-8")
    assert adjustment_set(path, "t", "y", ["x"]) == adjustment_set(str(path), "t", "y", ["x"]) == ("x",)


def test_the_graph_given_is_not_changed() -> None:
    graph = nx.DiGraph([("x", "t"), ("x", "y"), ("t", "y")])
    before = graph.copy()
    adjustment_set(graph, "t", "y", ["x"])
    assert nx.utils.graphs_equal(graph, before)


@pytest.mark.parametrize(
    "graph,message",
    [
        ("digraph {x -> t; t -> y; y -> x}", "has a cycle: x → t → y → x"),
        ("digraph {x -> tt; tt -> y}", "no node 't', the treatment; its nodes are 'tt', 'x', 'y'.*Did you mean 'tt'"),
        ("digraph {x -> t}", "no node 'y', the outcome"),
        ("digraph {x -> t; x -> y}", "no path from 't' to 'y'"),
        ("digraph {u -> t; u -> y; t -> y}", "no set of columns suffices.*'u' cause"),
        ("digraph {xx -> t; xx -> y; t -> y}", "'xx' cause 't' or 'y' and are no columns. Did you mean 'x1x'"),
        ("digraph {x -> ", "no DOT that can be read"),
        ("graph {x -- t}", "undirected"),
        (nx.Graph([("x", "t")]), "undirected"),
        ("graph [ x", "no GML that can be read"),
        ("digraph {subgraph a {x -> t}; t -> y}", "has subgraphs"),
        ("somewhere.dot", "there is no file 'somewhere.dot'"),
        (3, "of type int; expected DOT"),
    ],
)
def test_errors_name_what_is_wrong_with_the_graph(graph, message) -> None:
    with pytest.raises(CausalRecError, match=message):
        adjustment_set(graph, "t", "y", ["x1x"])


def test_names_of_any_kind() -> None:
    graph = read_graph('digraph {"test group" -> t; "größe" -> y; t -> y; "test group" -> y}')
    assert set(graph) == {"test group", "größe", "t", "y"}


def test_identification_in_words() -> None:
    names = [f"x{i}" for i in range(60)]  # DoWhy's default search would try their subsets: hours
    found = identify("t", "y", covariates=names, estimand="att")
    assert found.backdoor_variables == tuple(sorted(names))
    assert found.expression.startswith("mean over the treated of E[y | t=1, X] − E[y | t=0, X] with X = (x0, x1, x10")
    assert "every treated unit could have been left untreated" in " ".join(found.assumptions)
    assert identify("t", "y").assumptions[0] == "treatment was assigned at random"
    by_graph = identify("t", "y", covariates=["x", "z"], graph="digraph {z -> t; x -> t; x -> y; t -> y}")
    assert by_graph.backdoor_variables == ("x",)


def test_without_dowhy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dowhy", None)
    monkeypatch.delitem(sys.modules, "causalrec.observational.dowhy_adapter", raising=False)
    with pytest.raises(MissingExtraError, match=r"pip install 'causalrec\[ate\]'"):
        __import__("causalrec.observational.dowhy_adapter")


@pytest.mark.slow
def test_observational_alone_loads_no_dowhy() -> None:
    heavy = "{'dowhy', 'econml', 'networkx', 'matplotlib'}"
    code = f"import sys, causalrec.observational; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
