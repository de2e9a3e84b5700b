"""Graphs: what must be adjusted for, against DoWhy's exhaustive search, and what is wrong with a graph."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from causalrec.exceptions import CausalRecError, MissingExtraError
from causalrec.observational._words import identify_plain
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
        ("somewhere.dot", "there is no file 'somewhere.dot'"),
        (3, "of type int; expected DOT"),
        ("", "graph is empty text"),
        ("digraph {}", "graph is empty; expected arrows"),
        (nx.DiGraph(), "graph is empty; expected arrows"),
        ("digraph {x1x -> t; t -> y; x1x -> y [dir=none]}", "a line without a head between 'x1x' and 'y'"),
        ("digraph {a-b -> t; t -> y}", "Names with spaces, hyphens and the like need double quotes"),
        (
            "digraph {u -> t; u -> y; t -> y; u -> x1x; x1x -> t}",
            "The path t ← u → y stays open. There is no instrument",
        ),
        ("digraph {u -> t; u -> y; t -> y; x1x -> t}", "What is left is the instrument 'x1x', which needs another est"),
        ("digraph {u -> t; u -> y; t -> x1x -> y}", "What is left is the front door 'x1x', which needs another est"),
    ],
)
def test_errors_name_what_is_wrong_with_the_graph(graph, message) -> None:
    with pytest.raises(CausalRecError, match=message):
        adjustment_set(graph, "t", "y", ["x1x"])


@pytest.mark.parametrize("arrow", ["t -> y; t -> y [dir=both]", "t -> y; y -> t [dir=both]", "t -> y; t <-> y"])
def test_arrows_with_two_heads_are_unobserved_causes(arrow: str) -> None:
    graph = read_graph(f"digraph {{{arrow}; x -> t; y -> x2 [dir=back]}}")
    assert set(graph.edges) == {("t", "y"), ("t ↔ y", "t"), ("t ↔ y", "y"), ("x", "t"), ("x2", "y")}
    found = identify("t", "y", graph=f"digraph {{{arrow}; x -> t}}", covariates=["x"])
    assert (found.strategy, found.instruments, found.unobserved) == ("instrument", ("x",), ("t ↔ y",))


@pytest.mark.parametrize(
    "text",
    [
        "{a b} -> {t y}; t -> y",
        "{a; b} -> t; {a; b} -> y; t -> y",
        "subgraph cluster_people {a -> t; b -> t} a -> y; b -> y; t -> y; node [shape=box]",
        'subgraph causes {"a"; "b"} subgraph inner {subgraph deeper {a -> {t y}} b -> t -> y} b -> y',
    ],
)
def test_groups_of_nodes(text: str) -> None:
    expected = {("a", "t"), ("b", "t"), ("a", "y"), ("b", "y"), ("t", "y")}
    assert set(read_graph(f"digraph {{{text}}}").edges) == expected


def test_quoted_names_keep_arrows_within() -> None:
    graph = read_graph('digraph {"a <-> b" -> t; "a <-> b" <-> y; t -> y}')
    assert set(graph) == {"a <-> b", "t", "y", "a <-> b ↔ y"}


def test_names_that_dot_tears_apart_are_told() -> None:
    with pytest.raises(CausalRecError, match=r"the words of 'past spend' as nodes of their own.*quotes.*.past spend."):
        identify("t", "y", graph="digraph {past spend -> t; spend -> y; t -> y}", covariates=["past spend"])
    with pytest.raises(CausalRecError, match=r"no node 'past spend', the treatment.*need double quotes"):
        identify("past spend", "y", graph="digraph {past spend -> y}")


def test_numbers_are_names_too() -> None:
    graph = nx.DiGraph([(0, 1), (0, 2), (1, 2)])
    assert adjustment_set(graph, "1", "2", [0, 1, 2]) == ("0",)


def test_a_set_is_judged() -> None:
    graph = "digraph {x -> t; x -> y; t -> m -> y; m -> d; A -> t; A -> c; B -> c; B -> y}"
    columns = ["x", "m", "c", "d"]
    found = identify("t", "y", graph=graph, covariates=columns, given=["c", "d", "m"])
    assert found.given == ("c", "d", "m")
    assert not found.given_valid
    assert found.open_path == "t ← x → y"
    assert [node for node, _ in found.bad_controls] == ["c", "d", "m"]
    text = str(found)
    assert "to adjust for c, d, m does not suffice; open without its bad controls: t ← x → y" in text
    assert "not to be adjusted for: d (descendant of the mediator m" in text
    good = identify("t", "y", graph=graph, covariates=columns, given=["x"])
    assert (good.given_valid, good.bad_controls, good.open_path) == (True, (), "")
    assert "to adjust for x suffices" in str(good)
    trivial = identify("t", "y", covariates=["x", "z"], given=["z"])
    assert (trivial.given_valid, trivial.open_path) == (False, "t ← x → y")


@pytest.mark.parametrize(
    "options,message",
    [
        ({"given": "x"}, r"covariates is the text 'x'; expected a list of columns: \['x'\]"),
        ({"given": ["xx"]}, "covariates name 'xx', which is no node of the graph: it says nothing of it"),
        ({"given": ["t"]}, "covariates name 't', which is the treatment or the outcome"),
        ({"outcome": "t"}, "treatment and outcome are both 't'"),
        ({"estimand": "late"}, "estimand is 'late'; expected one of 'ate', 'att', 'atc', 'ato'"),
        ({"instruments": ["x"]}, "'x' named twice"),
        ({"instruments": ["z"], "graph": "digraph {t -> y}"}, "pass instruments or a graph, not both"),
        ({"graph": "digraph {u -> t; u -> y; t -> x -> y}", "estimand": "ato"}, "a front door has no ato"),
    ],
)
def test_errors_name_what_is_wrong_with_the_question(options, message) -> None:
    given = {"outcome": "y", "covariates": ["x"], **options}
    with pytest.raises(CausalRecError, match=message):
        identify("t", **given)


def test_an_instrument_and_a_front_door_in_words() -> None:
    graph = "digraph {u -> t; u -> y; w -> z; w -> y; z -> t; z2 -> t; t -> m -> y; w -> m}"
    found = identify("t", "y", graph=graph, covariates=["z", "w", "m"])
    assert found.expression == "cov(y, z | X) / cov(t, z | X) with X = (w)"
    words = (
        "relevance: t moves with z given w",
        "exclusion: y depends on z",
        "independence",
        "monotonicity",
        "no inter",
    )
    assert all(text.startswith(word) for text, word in zip(found.assumptions, words, strict=True))
    assert "(late); by the instrument z, given w." in str(found)
    assert "also possible: the front door m, given w" in str(found)
    two = identify("t", "y", covariates=["w"], instruments=["z1", "z2"])
    assert two.expression == "cov(y, Z | X) / cov(t, Z | X) with X = (w); Z = (z1, z2), by two-stage least squares"
    door = identify("t", "y", graph="digraph {u -> t; u -> y; t -> m -> y}", covariates=["m"], estimand="att")
    assert door.expression.startswith("mean over the treated of Σ_m [P(M=m | t=1) − P(M=m | t=0)]")
    assert door.assumptions[0] == "the whole effect of t on y passes through m"
    assert str(identify("t", "y", graph="digraph {A -> t; t -> y}")).startswith(
        "Effect of t on y (ate); adjust for: nothing (no path is open)."
    )


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


@pytest.mark.parametrize("columns", [[], ["x"], ["b", "a"]])
def test_without_a_graph_no_dowhy_is_needed_to_say_the_same(columns: list[str]) -> None:
    for estimand in ("ate", "att", "ato"):
        plain = identify_plain("t", "y", columns, estimand)
        assert plain.to_dict() == identify("t", "y", covariates=columns, estimand=estimand).to_dict()
        assert str(plain) == str(identify("t", "y", covariates=columns, estimand=estimand))
    with pytest.raises(CausalRecError, match="estimand is 'late'"):
        identify_plain("t", "y", columns, "late")


def test_without_dowhy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dowhy", None)
    monkeypatch.delitem(sys.modules, "causalrec.observational.dowhy_adapter", raising=False)
    with pytest.raises(MissingExtraError, match=r"pip install 'causalrec\[ate\]'"):
        __import__("causalrec.observational.dowhy_adapter")


@pytest.mark.slow
def test_observational_alone_loads_no_dowhy() -> None:
    heavy = "{'dowhy', 'econml', 'networkx', 'matplotlib'}"
    code = (
        "import sys, pandas as pd; from causalrec.observational import ObservationalStudy\n"
        "frame = pd.DataFrame({'x': [1, 2, 3, 4], 't': [0, 1, 0, 1], 'y': [1.0, 2, 3, 5]})\n"
        "study = ObservationalStudy(frame, treatment='t', outcome='y', covariates=['x']); study.identify()\n"
        f"print({heavy} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
