"""What a graph says, against linear models of it: the criteria against the coefficients that they promise."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import Any

import networkx as nx
import numpy as np
import pytest

from causalrec.observational._criteria import CausalGraph
from causalrec.observational._separation import minimal_separators
from causalrec.observational.dowhy_adapter import _separated, identify, quiet

HARMLESS = ("instrument", "descendant of the treatment")


class Linear:
    """A linear model of a graph with random coefficients: what regressions find in infinitely many units.

    By chance alone no biased regression hits the effect, so that it does where, and only where, a criterion holds.
    """

    def __init__(self, graph: Any, rng: np.random.Generator) -> None:
        self.at = {node: i for i, node in enumerate(nx.topological_sort(graph))}
        B = np.zeros((len(self.at), len(self.at)))
        for a, b in graph.edges:
            B[self.at[b], self.at[a]] = rng.uniform(0.4, 1.2) * rng.choice([-1, 1])
        self.total = np.linalg.inv(np.eye(len(B)) - B)
        self.covariance = self.total @ np.diag(rng.uniform(0.5, 1.5, len(B))) @ self.total.T

    def effect(self, t: str, y: str) -> float:
        return float(self.total[self.at[y], self.at[t]])

    def slopes(self, y: str, regressors: list[str]) -> Any:
        i = [self.at[v] for v in regressors]
        return np.linalg.solve(self.covariance[np.ix_(i, i)], self.covariance[i, self.at[y]])

    def covaries(self, a: str, b: str, given: Any) -> float:
        """The covariance of two variables given others."""
        i, j, k = self.at[a], self.at[b], [self.at[v] for v in given]
        S = self.covariance
        return float(S[i, j] - (S[i, k] @ np.linalg.solve(S[np.ix_(k, k)], S[k, j]) if k else 0.0))


def random_graph(rng: np.random.Generator) -> tuple[Any, list[str]]:
    """A graph in which t causes y, and its observed nodes."""
    while True:
        names = ["t", "y", *(f"v{i}" for i in range(int(rng.integers(2, 6))))]
        order = [names[i] for i in rng.permutation(len(names))]
        graph = nx.DiGraph()
        graph.add_nodes_from(names)
        graph.add_edges_from((a, b) for a, b in combinations(order, 2) if rng.random() < 0.4)
        if nx.has_path(graph, "t", "y"):
            return graph, [v for v in names[2:] if rng.random() < 0.6]


def subsets(nodes: list[str]) -> list[set[str]]:
    return [set(s) for k in range(len(nodes) + 1) for s in combinations(nodes, k)]


def check_adjustment(found: CausalGraph, model: Linear, observed: list[str]) -> list[str]:
    """Every set is judged as its regression is biased or not, and every column beside the best is bad or not."""
    truth = model.effect("t", "y")
    biased = {
        frozenset(s): abs(model.slopes("y", ["t", *sorted(s)])[0] - truth) > 1e-9 for s in subsets(observed)
    }  # fmt: skip
    for s, spoilt in biased.items():
        valid, bad, path = found.judge(set(s))
        assert valid == (not spoilt)
        spoilers = {node for node, why in bad if not why.startswith(HARMLESS)}
        assert (bool(path) or bool(spoilers)) == spoilt
        assert bool(path) == biased[s - spoilers]  # without its bad controls, the rest suffices or leaves a path
    good = [s for s, spoilt in biased.items() if not spoilt]
    if found.adjustment is None:
        assert not good
        return ["no set"]
    best = frozenset(found.adjustment)
    assert best in good
    before = [s for s in good if not s & found.caused]
    smallest = [tuple(sorted(s)) for s in before if not any(other < s for other in before)]
    assert found.minimal_sets == tuple(sorted(smallest, key=lambda s: (len(s), s)))
    bad = dict(found.bad_controls())
    for node in set(observed) - best:
        assert (node in bad and not bad[node].startswith(HARMLESS)) == biased[best | {node}]
    return ["a set"]


def check_other_ways(found: CausalGraph, model: Linear, observed: list[str]) -> list[str]:
    """Instruments and front doors are found where there are any, and give the effect."""
    truth, counted = model.effect("t", "y"), []
    able = [v for v in observed if v not in found.caused]
    instruments, given = found.instruments
    assert bool(instruments) == any(found._serves(z, s) for z in able for s in subsets(able) if z not in s)
    for z in instruments:
        assert model.covaries(z, "y", given) / model.covaries(z, "t", given) == pytest.approx(truth)
        counted.append("instrument")
    later = [v for v in observed if v in found.caused]
    doors = [(m, s) for m in subsets(later) for s in subsets(able) if found.is_front_door(m, s)]
    mediators, given = found.front_door
    assert bool(mediators) == bool(doors)
    if mediators:
        assert not given or not any(not s for _, s in doors)
        onwards = model.slopes("y", [*mediators, "t", *given])[: len(mediators)]
        first = [model.slopes(m, ["t", *given])[0] for m in mediators]
        assert np.dot(first, onwards) == pytest.approx(truth)
        counted.append("front door")
    return counted


def check_graphs(n: int, seed: int) -> Counter[str]:
    rng = np.random.default_rng(seed)
    counted: Counter[str] = Counter()
    for _ in range(n):
        graph, observed = random_graph(rng)
        found, model = CausalGraph(graph, "t", "y", {*observed, "t", "y"}, _separated), Linear(graph, rng)
        counted.update(check_adjustment(found, model, observed))
        counted.update(check_other_ways(found, model, observed))
    return counted


def test_random_graphs_against_linear_models_of_them() -> None:
    with quiet():
        counted = check_graphs(150, 0)
    assert min(counted[kind] for kind in ("a set", "no set", "instrument", "front door")) >= 3


@pytest.mark.slow
def test_many_random_graphs_against_linear_models_of_them() -> None:
    with quiet():
        counted = check_graphs(1500, 1)
    assert min(counted[kind] for kind in ("a set", "no set", "instrument", "front door")) >= 50


def test_all_minimal_separators_are_listed() -> None:
    rng = np.random.default_rng(2)
    for _ in range(60):
        graph, observed = random_graph(rng)
        graph.remove_edges_from([("t", "y")])
        apart = [s for s in subsets(observed) if nx.is_d_separator(graph, {"t"}, {"y"}, s)]
        smallest = {frozenset(s) for s in apart if not any(other < s for other in apart)}
        assert set(minimal_separators(graph, "t", "y", observed)) == smallest


# Cinelli, Forney and Pearl 2022, "A crash course in good and bad controls", models 1 to 18: is z a good control?
CRASH_COURSE = [
    (1, "z -> t; z -> y", "needed"),
    (2, "u -> z; u -> y; z -> t", "needed"),
    (3, "u -> z; u -> t; z -> y", "needed"),
    (4, "z -> t; z -> m; t -> m -> y", "needed"),
    (5, "u -> z; u -> m; z -> t; t -> m -> y", "needed"),
    (6, "u -> z; u -> t; z -> m; t -> m -> y", "needed"),
    (7, "u -> z; u -> t; v -> z; v -> y", "collider: holding z fixed opens the path t ← u → z ← v → y"),
    (8, "z -> y", "allowed"),
    (9, "z -> t", "instrument: "),
    (11, "t -> z -> y", "mediator: "),
    (12, "t -> m -> y; m -> z", "descendant of the mediator m: "),
    (13, "z -> m; t -> m -> y", "allowed"),
    (14, "t -> z", "descendant of the treatment: t causes it, and it can only cost precision"),
    (15, "t -> z; z -> w; u -> w; u -> y", "descendant of the treatment: "),
    (16, "t -> z; u -> z; u -> y", "collider: holding z fixed opens the path t → z ← u → y"),
    (17, "t -> z; y -> z", "collider: both t and y cause it"),
    (18, "y -> z", "descendant of the outcome: "),
]


@pytest.mark.parametrize("number,arrows,expected", CRASH_COURSE, ids=[f"model {c[0]}" for c in CRASH_COURSE])
def test_good_and_bad_controls(number, arrows, expected) -> None:
    direct = "" if " -> m -> y" in arrows or "t -> z -> y" in arrows else "; t -> y"
    graph = f"digraph {{{arrows}{direct}}}"
    judged = identify("t", "y", graph=graph, covariates=["z"], given=["z"])
    found = identify("t", "y", graph=graph, covariates=["z"])
    if expected in ("needed", "allowed"):
        assert (judged.given_valid, judged.bad_controls, judged.open_path) == (True, (), "")
        assert (found.backdoor_variables, found.bad_controls) == (("z",), ())
        assert found.minimal_sets == ((("z",),) if expected == "needed" else ((),))
        assert identify("t", "y", graph=graph, covariates=["z"], given=[]).given_valid == (expected == "allowed")
        return
    assert judged.given_valid == expected.startswith(HARMLESS)
    assert found.backdoor_variables == ()
    for result in (judged, found):
        ((node, why),) = result.bad_controls
        assert node == "z"
        assert why.startswith(expected)
    if number == 9:
        assert found.instruments == ("z",)


def test_bias_amplification_leaves_the_instrument() -> None:
    """Model 10: z is a bad control where something unobserved remains, and the way out."""
    found = identify("t", "y", graph="digraph {z -> t; u -> t; u -> y; t -> y}", covariates=["z"])
    assert (found.strategy, found.instruments, found.estimand) == ("instrument", ("z",), "late")
    assert dict(found.bad_controls)["z"].endswith("amplifies the bias of whatever is unobserved")


@pytest.mark.parametrize(
    "arrows,observed,strategy,by,given",
    [
        # Pearl 1995, figure 3: smoking, tar, cancer.
        ("u -> t; u -> y; t -> m -> y", "m", "front_door", ("m",), ()),
        # Pearl and Mackenzie 2018, the napkin: no adjustment, but z is an instrument given w.
        ("a -> w; a -> t; b -> w; b -> y; w -> z -> t -> y", "wz", "instrument", ("z",), ("w",)),
        # Brito and Pearl 2002, figure 1: valid given w alone.
        ("w -> z -> t -> y; w -> y; u -> t; u -> y", "zw", "instrument", ("z",), ("w",)),
        # A front door whose mediator has an observed cause that works on the outcome too.
        ("u -> t; u -> y; t -> m -> y; x -> t; x -> m; x -> y", "mx", "front_door", ("m",), ("x",)),
        # Two mediators in parallel, both needed.
        ("u -> t; u -> y; t -> m -> y; t -> n -> y", "mn", "front_door", ("m", "n"), ()),
        # Two in a row: one suffices.
        ("u -> t; u -> y; t -> m -> n -> y", "mn", "front_door", ("n",), ()),
        ("x -> t; x -> y; t -> y", "x", "backdoor", (), ()),
        ("x -> y; t -> y", "x", "randomised", (), ()),
    ],
)
def test_ways_of_textbooks(arrows, observed, strategy, by, given) -> None:
    found = identify("t", "y", graph=f"digraph {{{arrows}}}", covariates=list(observed))
    assert found.strategy == strategy
    if strategy == "instrument":
        assert (found.instruments, found.instrument_covariates) == (by, given)
    if strategy == "front_door":
        assert (found.mediators, found.mediator_covariates) == (by, given)
