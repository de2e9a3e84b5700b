"""Gates and graphs against closed testing by brute force, published graphs and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from causalrec.abtest import adjust_experiment, adjust_pvalues, gatekeeping, graphical_test
from causalrec.abtest.decisions.families import estimate_of
from causalrec.abtest.estimation.estimates import Estimate
from causalrec.abtest.hypotheses import Equivalence, NonInferiority, Superiority
from causalrec.abtest.inference import infer, welch_test
from causalrec.abtest.proportions import two_proportion_test
from causalrec.abtest.sequential.always_valid import AlwaysValid
from causalrec.exceptions import CausalRecError
from causalrec.results import ExperimentResult
from tests.abtest.decisions.cases import effect, experiment

probability = st.floats(1e-6, 1.0)


def weights_within(kept, w, g):
    """The weights of an intersection: the others are taken out of the graph, in the order of their names, by hand."""
    w, g = dict(w), {a: dict(b) for a, b in g.items()}
    for j in [name for name in w if name not in kept]:
        new = {}
        for a in w:
            if a == j:
                continue
            new[a] = {}
            for b in w:
                if b in (a, j):
                    continue
                loop = g[a].get(j, 0) * g[j].get(a, 0)
                new[a][b] = (g[a].get(b, 0) + g[a].get(j, 0) * g[j].get(b, 0)) / (1 - loop) if loop < 1 else 0.0
        w = {a: w[a] + w[j] * g[j].get(a, 0) for a in new}
        g = new
    return w


def closed(p, w, g):
    """Weighted Bonferroni tests of every intersection."""
    names = list(p)
    sets = [s for k in range(1, len(names) + 1) for s in itertools.combinations(names, k)]
    of = {}
    for s in sets:
        inner = weights_within(s, w, g)
        of[s] = min([1.0, *(p[i] / inner[i] for i in s if inner[i] > 0)])
    return {i: max(of[s] for s in sets if i in s) for i in names}


@settings(max_examples=60, deadline=None)
@given(data=st.data(), m=st.integers(2, 4))
def test_a_graph_is_closed_testing(data, m):
    names = "abcd"[:m]
    p = dict(zip(names, data.draw(st.lists(probability, min_size=m, max_size=m)), strict=True))
    share = st.lists(st.integers(0, 3), min_size=m, max_size=m)
    raw = data.draw(share)
    w = {n: x / max(sum(raw), 1) for n, x in zip(names, raw, strict=True)}
    g = {}
    for k, n in enumerate(names):
        row = [0 if i == k else x for i, x in enumerate(data.draw(share))]
        g[n] = {b: x / max(sum(row), 1) for b, x in zip(names, row, strict=True)}
    found = graphical_test(p, w, g)
    expected = closed(p, w, g)
    for n in names:
        assert found[n] == pytest.approx(expected[n], rel=1e-9)


def test_holm_and_the_fixed_sequence_are_graphs():
    p = {"a": 0.004, "b": 0.03, "c": 0.2, "d": 0.013}
    thirds = {i: {j: 1 / 3 for j in p if j != i} for i in p}
    holm = graphical_test(p, dict.fromkeys(p, 0.25), thirds)
    assert holm == pytest.approx(adjust_pvalues(p, "holm"))
    chain = graphical_test(p, {"a": 1}, {"a": {"b": 1}, "b": {"c": 1}, "c": {"d": 1}})
    assert chain == {"a": 0.004, "b": 0.03, "c": 0.2, "d": 0.2}
    assert chain == gatekeeping([{n: x} for n, x in p.items()])


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        ((0.01, 0.005, 0.015, 0.022), (0.02, 0.01, 0.03, 0.03)),
        ((0.02, 0.015, 0.010, 0.023), (0.04, 0.03, 0.04, 0.04)),
    ],
)
def test_the_improved_parallel_gates_of_bretz(p, expected):
    # The graph and p-values of the example of lrstat's fadjpbon (after Bretz et al. 2009); values by hand: in
    # the first row 2 goes at .005 / .5, its half to 4; 1 at .01 / .5, its half to 3; 3 at .015 / .5, then 4 holds all.
    w, g = {"1": 0.5, "2": 0.5}, {"1": {"3": 1}, "2": {"4": 1}, "3": {"2": 1}, "4": {"1": 1}}
    values = dict(zip("1234", p, strict=True))
    found = graphical_test(values, w, g)
    full = {a: {b: g.get(a, {}).get(b, 0.0) for b in "1234"} for a in "1234"}
    assert found == pytest.approx(closed(values, {n: w.get(n, 0.0) for n in "1234"}, full))
    assert tuple(found.values()) == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(p=st.lists(probability, min_size=4, max_size=4), method=st.sampled_from(["bonferroni", "holm", "hochberg"]))
def test_serial_gates_test_only_what_is_open(p, method):
    # At every level: a family is tested at it if all before were rejected, and not otherwise.
    families = [{"a": p[0], "b": p[1]}, {"c": p[2], "d": p[3]}]
    found = gatekeeping(families, method)
    for alpha in (0.01, 0.05, 0.3):
        first = {n for n, x in adjust_pvalues(families[0], method).items() if x <= alpha}
        second = {n for n, x in adjust_pvalues(families[1], method).items() if x <= alpha}
        expected = first | (second if first == {"a", "b"} else set())
        assert {n for n, x in found.items() if x <= alpha} == expected


def test_serial_gates_of_bonferroni_and_holm_within_closed_testing():
    # The closure: an intersection is tested by its members of the first family that it touches (Holm = Bonferroni).
    p = {"a": 0.004, "b": 0.021, "c": 0.012, "d": 0.3}
    first = {"a", "b"}
    sets = [s for k in range(1, 5) for s in itertools.combinations(p, k)]

    def of(s):
        own = [i for i in s if i in first] or list(s)
        return min(1.0, len(own) * min(p[i] for i in own))

    expected = {i: max(of(s) for s in sets if i in s) for i in p}
    assert gatekeeping([{"a": p["a"], "b": p["b"]}, {"c": p["c"], "d": p["d"]}]) == pytest.approx(expected)


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_false_rejections_are_as_rare_as_the_level_says(correlation):
    # One of two gates is a true null, and so is one behind them.
    rng = np.random.default_rng(4)
    reps = 1_500
    z = math.sqrt(correlation) * rng.standard_normal((reps, 1)) + math.sqrt(1 - correlation) * rng.standard_normal(
        (reps, 4)
    )
    p = ndtr(-(z + np.array([3.0, 0.0, 0.0, 3.0])))
    graph = {"a": {"c": 1}, "b": {"d": 1}, "c": {"b": 1}, "d": {"a": 1}}
    wrong = np.zeros(2)
    for row in p:
        values = dict(zip("abcd", row, strict=True))
        serial = gatekeeping([{n: values[n] for n in "ab"}, {n: values[n] for n in "cd"}])
        by_graph = graphical_test(values, {"a": 0.5, "b": 0.5}, graph)
        wrong += [min(found["b"], found["c"]) < 0.05 for found in (serial, by_graph)]
    assert (wrong / reps < 0.05 + 4 * math.sqrt(0.05 * 0.95 / reps)).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: gatekeeping([]), ["families is empty"]),
        (lambda: gatekeeping([{"a": 0.1}, {"a": 0.2}]), ["'a'", "more than one family"]),
        (lambda: gatekeeping([{"a": math.nan}, {"b": 0.2}]), ["'a'", "no p-value"]),
        (lambda: gatekeeping([{"a": 0.1}], "bh"), ["'bh'", "family-wise"]),
        (lambda: gatekeeping([{"a": 0.1}], ["holm", "holm"]), ["2 methods for 1"]),
        (lambda: graphical_test({}, {}, {}), ["pvalues is empty"]),
        (lambda: graphical_test({"a": 0.1}, {"b": 1}, {}), ["'b'", "no p-value"]),
        (lambda: graphical_test({"a": 0.1, "b": 0.1}, {"a": 0.7, "b": 0.7}, {}), ["weights", "1.4"]),
        (lambda: graphical_test({"a": 0.1, "b": 0.1}, {"a": 1}, {"a": {"a": 1}}), ["to itself"]),
        (lambda: graphical_test({"a": 1.1}, {"a": 1}, {}), ["[0, 1]"]),
        (lambda: adjust_experiment(experiment(effect("x", 0.1)), over="segment"), ["Did you mean 'segments'?"]),
        (lambda: adjust_experiment(experiment(effect("x", 0.1)), metrics=["y"]), ["'y'"]),
        (lambda: adjust_experiment(ExperimentResult(1, 0.95, ())), ["no effects"]),
        (lambda: adjust_experiment(experiment(effect("x", 0.1)), inference=AlwaysValid()), ["pass the inference"]),
    ],
)
def test_what_cannot_be_corrected(call, words):
    with pytest.raises(CausalRecError) as caught:
        call()
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_families_of_an_experiment():
    found = [effect(m, lift, arm=a, n=500)
             for m, a, lift in (("x", "B", 0.02), ("x", "C", 0.03), ("y", "B", 0.01), ("y", "C", 0.05))]  # fmt: skip
    within = tuple(effect("x", 0.04, n=200) for _ in range(3))
    result = ExperimentResult(1500, 0.95, tuple(found), segments=within)
    p = [e.pvalue for e in found]
    for over, families in (
        (("metrics", "variants"), [[0, 1, 2, 3]]),
        (("metrics",), [[0, 2], [1, 3]]),
        ("variants", [[0, 1], [2, 3]]),
        ((), [[0], [1], [2], [3]]),
    ):
        corrected = adjust_experiment(result, "holm", over=over)
        expected = np.empty(4)
        for family in families:
            expected[family] = adjust_pvalues([p[k] for k in family], "holm")
        np.testing.assert_allclose(corrected.adjusted_pvalue, expected)
        assert corrected.n_families == len(families)
    every = adjust_experiment(result, "bh", over=("metrics", "variants", "segments"))
    np.testing.assert_allclose(every.adjusted_pvalue, adjust_pvalues([*p, *(e.pvalue for e in within)], "bh"))
    assert (every.n_tests, every.n_families) == (7, 1)
    assert np.isnan(every.ci_low).all()
    assert "no simultaneous intervals" in every.method
    assert "of 7 tests reject at 5%" in str(every)


@pytest.mark.parametrize(("method", "level"), [("bonferroni", 1 - 0.05 / 3), ("sidak", 0.95 ** (1 / 3))])
def test_simultaneous_intervals_are_those_of_a_higher_level(method, level):
    questions = (Superiority(), NonInferiority(0.02, relative=True), Equivalence(0.5))
    found = [
        welch_test(10.0, 4.0, 90, 10.4, 5.0, 70, metric=str(k), hypothesis=h) for k, h in enumerate(questions)
    ]  # fmt: skip
    wider = [welch_test(10.0, 4.0, 90, 10.4, 5.0, 70, hypothesis=h, confidence_level=level) for h in questions]
    corrected = adjust_experiment(ExperimentResult(160, 0.95, tuple(found)), method)
    np.testing.assert_allclose(corrected.ci_low, [e.ci_low for e in wider], rtol=1e-9)
    np.testing.assert_allclose(corrected.ci_high, [e.ci_high for e in wider], rtol=1e-9)


def test_simultaneous_intervals_of_another_inference_and_of_another_kind():
    how = AlwaysValid(n_tuning=5_000)
    estimate = Estimate(10.0, 10.4, 0.02, 0.02, 0.005, math.inf, 2_500, 2_500, "z")
    pair = [infer(estimate, metric=m, control="A", treatment="B", inference=how) for m in "xy"]
    corrected = adjust_experiment(ExperimentResult(5_000, 0.95, tuple(pair)), "bonferroni", inference=how)
    half = how.critical(estimate, 0.025, two_sided=True) * estimate.std_error
    np.testing.assert_allclose(corrected.ci_low, 0.4 - half)
    exact = two_proportion_test(19, 53, 13, 47, method="fisher", metric="z")
    mixed = adjust_experiment(ExperimentResult(100, 0.95, (exact, effect("x", 0.1))), "bonferroni")
    assert np.isfinite(mixed.ci_low[1])
    assert not np.isfinite(mixed.ci_low[0]) or exact.ci_low > mixed.ci_low[0]


def test_simultaneous_intervals_hold_together():
    rng = np.random.default_rng(9)
    reps, m = 400, 4
    z = rng.standard_normal((reps, m))
    missed = 0
    for row in z:
        found = tuple(
            infer(Estimate(10.0, 10.0 + x, 0.5, 0.5, 0.0, math.inf, 100, 100, "z"), metric=str(k), control="A",
                  treatment="B")
            for k, x in enumerate(row)
        )  # fmt: skip
        corrected = adjust_experiment(ExperimentResult(200, 0.95, found), "sidak")
        missed += bool(((corrected.ci_low > 0) | (corrected.ci_high < 0)).any())
    assert abs(missed / reps - 0.05) < 4 * math.sqrt(0.05 * 0.95 / reps)  # Šidák is exact for independent tests


def test_an_estimate_is_had_again():
    estimate = Estimate(10.0, 10.4, 0.02, 0.03, 0.01, 77.0, 400, 500, "Welch t")
    again = estimate_of(infer(estimate, metric="x", control="A", treatment="B"))
    for name in ("control", "treatment", "var_control", "var_treatment", "covariance", "df", "n_control"):
        assert getattr(again, name) == pytest.approx(getattr(estimate, name))
