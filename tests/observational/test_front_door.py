"""The front door: Pearl's formula, the truth of simulated graphs, coverage, and what is wrong with the data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalrec.exceptions import CausalRecError, ColumnError, OutcomeError, OverlapError, TreatmentError
from causalrec.observational import METHODS, ObservationalStudy, estimate_ate, front_door, instrumental_variable
from causalrec.observational.front_door import front_door_values


def by_hand(t: Any, m: Any, y: Any, weight: Any = None) -> dict[int, float]:
    """Pearl 1995, Biometrika 82, equation 13, with the shares and means of the cells: E[Y(a)]."""
    w = np.ones(len(t)) if weight is None else weight
    values, cell = np.unique(m, return_inverse=True)
    at = t * len(values) + cell
    mass, total = (np.bincount(at, v, 2 * len(values)).reshape(2, -1) for v in (w, w * y))
    share, within, mean = mass.sum(axis=1) / mass.sum(), mass / mass.sum(axis=1, keepdims=True), total / mass
    return {a: float(within[a] @ (share @ mean)) for a in (0, 1)}


def simulate(n: int, seed: int, effect: float = 1.5) -> pd.DataFrame:
    """A hidden cause u of treatment and outcome, a covariate x of all, and a mediator m that carries the effect.

    Given x the score is saturated and that given m logistic, so that all models of the estimator are right.
    """
    rng = np.random.default_rng(seed)
    u, x = rng.integers(0, 2, n), rng.integers(0, 2, n)
    t = (rng.random(n) < 1 / (1 + np.exp(1 - 1.5 * u - 0.8 * x))).astype(int)
    m = t + 0.7 * x + rng.normal(size=n)
    y = effect * m + 2.0 * u + x + rng.normal(size=n)
    return pd.DataFrame({"x": x.astype(float), "t": t, "m": m, "y": y})


GRAPH = "digraph {x -> t; x -> m; x -> y; t <-> y; t -> m -> y}"


def categories(n: int = 400, seed: int = 0) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    t = rng.integers(0, 2, n)
    m = np.array(["low", "middle", "high"], dtype=object)[rng.integers(0, 2, n) + (rng.random(n) < 0.3 + 0.4 * t)]
    return t, m, rng.normal(size=n) + (m == "high") * (1 + t)


@pytest.mark.parametrize("weighted", [False, True])
def test_with_one_categorical_mediator_it_is_pearls_formula(weighted: bool) -> None:
    t, m, y = categories()
    weight = np.random.default_rng(1).integers(1, 4, len(t)).astype(float) if weighted else None
    expected = by_hand(t, m, y, weight)
    w = np.ones(len(t)) if weight is None else weight
    mean, share = float(np.average(y, weights=w)), float(np.average(t, weights=w))
    found = {e: front_door(None, y, treatment=t, mediators=m, estimand=e, sample_weight=weight).estimate
             for e in ("ate", "att", "atc")}  # fmt: skip
    assert found["ate"] == pytest.approx(expected[1] - expected[0], abs=1e-9)
    assert found["att"] == pytest.approx((mean - expected[0]) / share, abs=1e-9)
    assert found["atc"] == pytest.approx((expected[1] - mean) / (1 - share), abs=1e-9)


def test_the_error_is_that_of_the_formula_by_the_delta_method() -> None:
    """The formula is a smooth function of the shares and means of the cells: derivatives by each unit's weight."""
    t, m, y = categories(300)
    step, n = 1e-6, len(t)
    influence = np.empty(n)
    for i in range(n):
        up, down = np.ones(n), np.ones(n)
        up[i] += step
        down[i] -= step
        high, low = by_hand(t, m, y, up), by_hand(t, m, y, down)
        influence[i] = (high[1] - high[0] - low[1] + low[0]) / (2 * step)
    found = front_door(None, y, treatment=t, mediators=m)
    assert found.std_error == pytest.approx(np.sqrt(influence @ influence), rel=1e-6)


def test_the_values_are_those_of_a_given_density() -> None:
    """The ratio of densities by Bayes' rule is that of the densities themselves: normal mediators."""
    rng = np.random.default_rng(3)
    x, n = rng.normal(size=50), 50
    e = 1 / (1 + np.exp(-x))
    t = (rng.random(n) < e).astype(int)
    m = 0.8 * t + 0.5 * x + rng.normal(size=n)
    density = [stats.norm.pdf(m - 0.8 * a - 0.5 * x) for a in (0, 1)]
    seen = e * density[1] / (e * density[1] + (1 - e) * density[0])
    outcomes, later, y = rng.normal(size=(n, 2)), rng.normal(size=(n, 2)), rng.normal(size=n)
    own = np.arange(n), t
    ratio = density[1] / np.where(t == 1, density[1], density[0])
    mixed = (outcomes - later) @ np.array([0, 1]) * e + (outcomes - later) @ np.array([1, 0]) * (1 - e)
    expected = ratio * (y - outcomes[own]) + t / e * mixed + later[own]
    found = front_door_values(y, t, 1, score=e, seen=seen, outcomes=outcomes, later=later)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("estimand", ["ate", "att", "atc"])
def test_a_study_finds_the_truth_by_the_front_door(estimand: str) -> None:
    frame = simulate(6000, 0)
    before = frame.copy(deep=True)
    study = ObservationalStudy(frame, treatment="t", outcome="y", graph=GRAPH)
    assert study.identify().strategy == "front_door"
    effect = study.estimate(estimand=estimand)
    assert effect.recipe is not None
    assert effect.recipe.name == "front_door"
    assert abs(effect.estimate - 1.5) < 2.5 * effect.std_error < 0.4
    naive = estimate_ate(frame[["x"]], frame["y"], treatment=frame["t"], method="lin", estimand=estimand)
    assert naive.ci_low > 1.7  # what is unobserved biases an adjustment
    pd.testing.assert_frame_equal(frame, before)


def test_effects_that_differ_with_what_is_unobserved() -> None:
    """Effects of 1 or 2 by a hidden u, which the treated have more often: the att is above the ate."""
    rng = np.random.default_rng(4)
    n = 40_000
    u = rng.integers(0, 2, n)
    t = (rng.random(n) < 0.2 + 0.6 * u).astype(int)
    m = (rng.random(n) < 0.2 + 0.5 * t).astype(int)
    y = 2.0 * m * (1 + u) + 3.0 * u + rng.normal(size=n)
    for estimand, truth in (("ate", 1.5), ("att", 1.8), ("atc", 1.2)):
        found = front_door(None, y, treatment=t, mediators=m, estimand=estimand)
        assert abs(found.estimate - truth) < 2.5 * found.std_error < 0.15


def test_two_mediators_of_different_kinds_and_a_binary_outcome() -> None:
    rng = np.random.default_rng(5)
    n = 20_000
    u = rng.integers(0, 2, n)
    t = (rng.random(n) < 0.3 + 0.4 * u).astype(int)
    number = 0.8 * t + rng.normal(size=n)
    kind = np.where(rng.random(n) < 0.3 + 0.3 * t, "a", "b")
    p = 1 / (1 + np.exp(-(number + 1.0 * (kind == "a") - 1)))
    y = (rng.random(n) < 0.3 * u + 0.7 * p).astype(float)
    grid = np.random.default_rng(6).normal(size=400_000)
    at = {a: sum(w * 0.7 * np.mean(1 / (1 + np.exp(-(0.8 * a + grid + 1.0 * k - 1))))
                 for k, w in ((1, 0.3 + 0.3 * a), (0, 0.7 - 0.3 * a))) for a in (0, 1)}  # fmt: skip
    found = front_door(None, y, treatment=t, mediators=pd.DataFrame({"number": number, "kind": kind}))
    assert abs(found.estimate - (at[1] - at[0])) < 2.5 * found.std_error < 0.03
    assert "2 columns of mediators" in found.method


def test_a_study_finds_the_truth_by_an_instrument() -> None:
    rng = np.random.default_rng(7)
    n = 8000
    u, w = rng.normal(size=n), rng.normal(size=n)
    z = (w + rng.normal(size=n) > 0).astype(int)
    t = (z + u + rng.normal(size=n) > 0.5).astype(int)
    frame = pd.DataFrame({"w": w, "z": z, "t": t, "y": 2.0 * t + 1.5 * w + 2 * u + rng.normal(size=n)})
    graph = "digraph {w -> z; w -> y; z -> t; u -> t; u -> y; t -> y}"
    study = ObservationalStudy(frame, treatment="t", outcome="y", graph=graph)
    found = study.estimate()
    assert abs(found.estimate - 2.0) < 2.5 * found.std_error < 0.7
    by_function = instrumental_variable(frame[["w"]], frame["y"], treatment=frame["t"], instruments=frame[["z"]])
    assert found.to_dict() == by_function.to_dict()
    assert repr(study) == "ObservationalStudy(t → y, 8,000 units, by instrumental_variable given w)"
    without = ObservationalStudy(frame, treatment="t", outcome="y", covariates=["w"], instruments=["z"])
    assert without.estimate().to_dict() == found.to_dict()
    assert without.identify().instruments == ("z",)
    assert study.compare().names == ("instrumental_variable",)
    with pytest.raises(
        CausalRecError,
        match=r"aipw adjusts for columns, but by the graph no set of columns suffices: "
        r"'u' are unobserved. What is left is instrumental_variable \(by 'z'\)",
    ):
        study.estimate("aipw")
    with pytest.raises(CausalRecError, match="instruments are given"):
        without.estimate("difference_in_means")


def test_other_ways_beside_an_adjustment() -> None:
    frame = simulate(2000, 8)
    frame["z"] = np.random.default_rng(8).normal(size=2000)
    graph = "digraph {x -> t; x -> m; x -> y; z -> t; t -> m -> y}"
    study = ObservationalStudy(frame, treatment="t", outcome="y", graph=graph)
    assert study.covariates == ("x",)
    assert study.estimate("front_door").estimate == pytest.approx(
        front_door(frame[["x"]], frame["y"], treatment=frame["t"], mediators=frame["m"]).estimate
    )
    assert study.identify().instruments == ("z",)
    frame.loc[:9, "m"] = np.nan
    study = ObservationalStudy(frame, treatment="t", outcome="y", graph=graph)
    assert study.estimate("lin").n_obs == 2000
    with pytest.raises(ColumnError, match="missing values that front_door would need: 10 of m"):
        study.estimate("front_door")


def test_missing_mediators_of_the_way_taken_follow_the_policy() -> None:
    frame = simulate(1000, 9)
    frame.loc[:9, "m"] = np.nan
    with pytest.raises(CausalRecError, match=r"missing values in 1,000 rows: 10 of m \(front_door\)"):
        ObservationalStudy(frame, treatment="t", outcome="y", graph=GRAPH)
    study = ObservationalStudy(frame, treatment="t", outcome="y", graph=GRAPH, missing="drop")
    rest = frame.iloc[10:]
    expected = front_door(rest[["x"]], rest["y"], treatment=rest["t"], mediators=rest["m"])
    assert study.estimate().estimate == pytest.approx(expected.estimate, abs=1e-12)
    assert study.n_obs == 990


def test_order_units_and_clusters() -> None:
    frame = simulate(800, 10)
    ask = {"treatment": frame["t"], "mediators": frame["m"]}
    found = front_door(frame[["x"]], frame["y"], **ask)
    order = np.random.default_rng(0).permutation(len(frame))
    mixed = frame.iloc[order]
    again = front_door(mixed[["x"]], mixed["y"], treatment=mixed["t"], mediators=mixed["m"])
    assert (again.estimate, again.std_error) == pytest.approx((found.estimate, found.std_error), abs=1e-10)
    scaled = front_door(1e3 * frame[["x"]] - 7, 10 * frame["y"] + 3, treatment=frame["t"], mediators=5 - 2 * frame["m"])
    assert (scaled.estimate, scaled.std_error) == pytest.approx((10 * found.estimate, 10 * found.std_error), rel=1e-8)
    twice = pd.concat([frame, frame])
    doubled = front_door(
        twice[["x"]], twice["y"], treatment=twice["t"], mediators=twice["m"], clusters=np.tile(np.arange(800), 2)
    )  # fmt: skip
    assert doubled.estimate == pytest.approx(found.estimate, abs=1e-9)
    assert doubled.std_error == pytest.approx(found.std_error * np.sqrt(800 / 799), rel=1e-6)
    swapped = front_door(frame[["x"]], frame["y"], treatment=1 - frame["t"], mediators=frame["m"])
    assert swapped.estimate == pytest.approx(-found.estimate, abs=1e-8)


def test_errors_name_what_is_wrong() -> None:
    frame = simulate(300, 11)
    X, y, t, m = frame[["x"]], frame["y"], frame["t"], frame["m"]
    with pytest.raises(OverlapError, match="the mediators tell the arms apart: some of their values occur in one arm"):
        front_door(X, y, treatment=t, mediators=m + 100 * t)
    with pytest.raises(OverlapError, match="the covariates tell the arms apart"):
        front_door(frame[["m"]] + 100 * t.to_numpy()[:, None], y, treatment=t, mediators=m)
    with pytest.raises(ColumnError, match="missing"):
        front_door(X, y, treatment=t, mediators=m.where(m > 0))
    with pytest.raises(OutcomeError, match="logistic"):
        front_door(X, y, treatment=t, mediators=m, outcome_model="logistic")
    with pytest.raises(TreatmentError):
        front_door(X, y, treatment=np.zeros(300), mediators=m)
    with pytest.raises(CausalRecError, match="mediators"):
        front_door(X, y, treatment=t, mediators=m.iloc[:100])
    with pytest.raises(CausalRecError, match="estimand is 'late'"):
        front_door(X, y, treatment=t, mediators=m, estimand="late")
    study = ObservationalStudy(frame, treatment="t", outcome="y", covariates=["x"])
    with pytest.raises(CausalRecError, match="the study has no front door; front_door needs a graph that has one"):
        study.estimate("front_door")
    with pytest.raises(CausalRecError, match="no instrument; instrumental_variable needs a graph that has one, or ins"):
        study.estimate("instrumental_variable")
    assert not {"mediators", "instruments"} & {
        *METHODS["front_door"].options,
        *METHODS["instrumental_variable"].options,
    }


@pytest.mark.slow
def test_intervals_cover() -> None:
    runs, hits = 400, {"ate": 0, "att": 0, "atc": 0}
    for seed in range(runs):
        frame = simulate(1000, 100 + seed)
        for estimand in hits:
            found = front_door(frame[["x"]], frame["y"], treatment=frame["t"], mediators=frame["m"], estimand=estimand)
            hits[estimand] += found.ci_low <= 1.5 <= found.ci_high
    low, high = stats.binom.ppf([0.0005, 0.9995], runs, 0.95)
    assert all(low <= count <= high for count in hits.values()), hits
