"""Simulated claims: intervals cover as often as they say, tests of a true null reject as seldom.

Small samples (20 to 200 units an arm), lopsided splits, heavy tails and few clusters. ``slack`` is how far the true
rate may be from the nominal one, because no interval is exact for such data. The binomial bounds come on top: a rate
of the nominal +- slack falls outside them once in ten thousand runs.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest

from causalrec.abtest import (
    Equivalence,
    Experiment,
    Mean,
    NonInferiority,
    Proportion,
    Quantile,
    Ratio,
    Superiority,
)
from causalrec.abtest.aggregates import ALL, UNTRIGGERED, Aggregates, Cell
from causalrec.moments import Moments

from .oracle import binomial_bounds

pytestmark = pytest.mark.slow
RUNS = 2_000
Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class Data:
    """Columns per unit with the arm of each, and the groups that the design names."""

    treated: np.ndarray
    columns: Columns
    stratum: np.ndarray | None = None
    triggered: np.ndarray | None = None


@dataclass(frozen=True)
class Scenario:
    """How data come about; ``draw(rng, effect)`` with an effect of 0 gives two arms of one law."""

    draw: Callable[[np.random.Generator, float], Data]
    metric: Callable[..., Any]
    true: Callable[[float], tuple[float, float]]  # effect -> the metric in control and in treatment
    effect: float
    slack: float
    design: dict[str, Any] = field(default_factory=dict)


def _cells(data: Data) -> Aggregates:
    values = np.column_stack(list(data.columns.values()))
    names = list(data.columns)

    def cell(where: np.ndarray) -> Cell:
        return Cell(int(where.sum()), {"m": Moments.from_array(values[where], names)})

    inside = np.ones(len(values), bool) if data.triggered is None else data.triggered
    groups = np.zeros(len(values), int) if data.stratum is None else data.stratum
    cells = {ALL: {}}
    for arm, label in ((0, "a"), (1, "b")):
        for group in np.unique(groups):
            name = None if data.stratum is None else int(group)
            cells[ALL][label, name] = cell(inside & (data.treated == arm) & (groups == group))
        if data.triggered is not None:
            cells.setdefault(UNTRIGGERED, {})[label, None] = cell(~inside & (data.treated == arm))
    return Aggregates(cells, clustered="rows" in data.columns, n_rows=len(values))


def _arms(n0: int, n1: int) -> np.ndarray:
    return np.repeat([0, 1], [n0, n1])


def _normal(n0, n1, spread=1.0):
    def draw(rng, effect):
        t = _arms(n0, n1)
        return Data(t, {"value": 5 + effect * t + rng.normal(size=len(t)) * np.where(t == 1, spread, 1)})

    return draw


def _lognormal(n0, n1, sigma):
    def draw(rng, effect):
        t = _arms(n0, n1)
        return Data(t, {"value": rng.lognormal(-(sigma**2) / 2, sigma, len(t)) * (1 + effect * t)})

    return draw


def _ratio(n0, n1):
    def draw(rng, effect):
        t = _arms(n0, n1)
        den = 1.0 + rng.poisson(5 + t, len(t))  # the treatment changes the denominator too
        rate = rng.beta(2, 6, len(t)) * (1 + 4 * effect * t)
        return Data(t, {"value": rng.binomial(den.astype(int), np.minimum(rate, 1)).astype(float), "den": den})

    return draw


def _ratio_with_covariate(n0, n1):
    def draw(rng, effect):
        t = _arms(n0, n1)
        den = 1.0 + rng.poisson(8, len(t))
        x = rng.uniform(-1, 1, len(t))
        rate = (0.25 + 0.12 * x) * (1 + 4 * effect * t)
        return Data(t, {"value": rng.binomial(den.astype(int), rate).astype(float), "den": den, "x0": x, "x1": den})

    return draw


def _covariates(n0, n1, k=3, slopes=(1.0, 1.0)):
    def draw(rng, effect):
        t = _arms(n0, n1)
        x = rng.normal(size=(len(t), k))
        slope = np.where(t == 1, slopes[1], slopes[0])
        value = 5 + effect * t + slope * x.sum(axis=1) + rng.normal(size=len(t))
        return Data(t, {"value": value, **{f"x{j}": x[:, j] for j in range(k)}})

    return draw


def _clusters(n0, n1, largest=50, covariate=False):
    def draw(rng, effect):
        t = _arms(n0, n1)
        rows = rng.integers(1, largest + 1, len(t)).astype(float)
        x = rng.normal(size=len(t))
        level = 5 + effect * t + 0.5 * rng.normal(size=len(t)) + covariate * x
        columns = {"value": rows * level + np.sqrt(rows) * rng.normal(size=len(t)), "rows": rows}
        return Data(t, {**columns, "x0": x * rows} if covariate else columns)

    return draw


def _strata(n0, n1, s=4):
    levels, shares = np.array([0.0, 1.0, 3.0, 8.0])[:s], np.array([0.4, 0.3, 0.2, 0.1])[:s]

    def draw(rng, effect):
        t = _arms(n0, n1)
        while True:
            group = rng.choice(s, len(t), p=shares / shares.sum())
            sizes = np.bincount(group * 2 + t, minlength=2 * s)
            if sizes.min() >= 2:
                break
        value = 5 + levels[group] + effect * t * (1 + levels[group]) + rng.normal(size=len(t))
        return Data(t, {"value": value}, stratum=group)

    return draw


def _triggered(n0, n1, share=0.4):
    def draw(rng, effect):
        t = _arms(n0, n1)
        saw = rng.random(len(t)) < share
        value = 5 + effect * t * saw + 2.0 * saw + rng.normal(size=len(t))
        return Data(t, {"value": value}, triggered=saw)

    return draw


def _bernoulli(n0, n1, p=0.3):
    def draw(rng, effect):
        t = _arms(n0, n1)
        return Data(t, {"value": (rng.random(len(t)) < p + effect * t).astype(float)})

    return draw


def _shift(base):
    return lambda effect: (base, base + effect)


STRATA_LEVEL = 0.4 * 0 + 0.3 * 1 + 0.2 * 3 + 0.1 * 8
SCENARIOS = {
    "normal 30/30": Scenario(_normal(30, 30), lambda **h: Mean("m", **h), _shift(5), 0.5, 0.004),
    "normal 90/10, unequal spread": Scenario(_normal(90, 10, 3.0), lambda **h: Mean("m", **h), _shift(5), 1.0, 0.01),
    "z 100/100": Scenario(_normal(100, 100), lambda **h: Mean("m", method="z", **h), _shift(5), 0.3, 0.006),
    "lognormal 100/100": Scenario(
        _lognormal(100, 100, 1.0), lambda **h: Mean("m", **h), lambda e: (1.0, 1.0 + e), 0.2, 0.02
    ),
    "ratio 100/100": Scenario(
        _ratio(100, 100), lambda **h: Ratio("m", "d", **h), lambda e: (0.25, 0.25 * (1 + 4 * e)), 0.05, 0.012
    ),
    "ratio 180/20": Scenario(
        _ratio(180, 20), lambda **h: Ratio("m", "d", **h), lambda e: (0.25, 0.25 * (1 + 4 * e)), 0.05, 0.025
    ),
    "ratio with 2 covariates 100/100": Scenario(
        _ratio_with_covariate(100, 100), lambda **h: Ratio("m", "d", covariates=["x0", "x1"], **h),
        lambda e: (0.25, 0.25 * (1 + 4 * e)), 0.04, 0.01,
    ),
    "ratio with 2 covariates 180/20": Scenario(
        _ratio_with_covariate(180, 20), lambda **h: Ratio("m", "d", covariates=["x0", "x1"], **h),
        lambda e: (0.25, 0.25 * (1 + 4 * e)), 0.05, 0.02,
    ),
    "3 covariates 20/20": Scenario(
        _covariates(20, 20), lambda **h: Mean("m", covariates=["x0", "x1", "x2"], **h), _shift(5), 0.7, 0.006
    ),
    "3 covariates 90/10, slopes differ": Scenario(
        _covariates(90, 10, slopes=(1.0, 2.0)), lambda **h: Mean("m", covariates=["x0", "x1", "x2"], **h), _shift(5),
        1.0, 0.01,
    ),
    "10 + 10 clusters": Scenario(
        _clusters(10, 10, 20), lambda **h: Mean("m", **h), _shift(5), 0.5, 0.025, {"cluster": "c"}
    ),
    "40 + 40 clusters": Scenario(
        _clusters(40, 40), lambda **h: Mean("m", **h), _shift(5), 0.3, 0.012, {"cluster": "c"}
    ),
    "30 + 30 clusters, a covariate": Scenario(
        _clusters(30, 30, covariate=True), lambda **h: Mean("m", covariates=["x0"], **h), _shift(5), 0.3, 0.015,
        {"cluster": "c"},
    ),
    "4 strata 80/80": Scenario(
        _strata(80, 80), lambda **h: Mean("m", **h),
        lambda e: (5 + STRATA_LEVEL, 5 + STRATA_LEVEL + e * (1 + STRATA_LEVEL)), 0.3, 0.015, {"strata": "s"},
    ),
    "proportion 100/100": Scenario(_bernoulli(100, 100), lambda **h: Proportion("m", **h), _shift(0.3), 0.1, 0.012),
    "triggered 200/200": Scenario(
        _triggered(200, 200), lambda **h: Mean("m", **h), _shift(7), 0.3, 0.006, {"trigger": "saw"}
    ),
}  # fmt: skip


def _experiment(scenario: Scenario, **options: Any) -> Experiment:
    hypothesis = options.pop("hypothesis", None)
    metric = scenario.metric(hypothesis=hypothesis)
    return Experiment({"m": metric}, variant="v", control="a", **scenario.design, **options)


def _simulate(scenario: Scenario, effect: float, runs: int, seed: int, **options: Any) -> list[Any]:
    rng = np.random.default_rng(seed)
    experiment = _experiment(scenario, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # chance imbalance of a covariate
        return [experiment.analyze(_cells(scenario.draw(rng, effect))) for _ in range(runs)]


def _assert_rate(hits: int, nominal: float, slack: float, runs: int) -> None:
    low = binomial_bounds(max(nominal - slack, 0.0), runs)[0]
    high = binomial_bounds(min(nominal + slack, 1.0), runs)[1]
    assert low <= hits <= high, (
        f"{hits / runs:.4f} of {runs}; expected {nominal} +- {slack}: {low / runs}-{high / runs}"
    )


@pytest.mark.parametrize("name", SCENARIOS)
def test_coverage(name):
    scenario = SCENARIOS[name]
    control, treatment = scenario.true(scenario.effect)
    found = [r["m"] for r in _simulate(scenario, scenario.effect, RUNS, 1)]
    hits = sum(e.ci_low <= treatment - control <= e.ci_high for e in found)
    _assert_rate(hits, 0.95, scenario.slack, RUNS)
    # An honest error: its mean square is the spread of the estimates.
    spread, error = np.var([e.estimate for e in found]), np.mean([e.std_error**2 for e in found])
    assert 0.85 < error / spread < 1.18
    bias = np.mean([e.estimate for e in found]) - (treatment - control)
    assert abs(bias) < 4 * math.sqrt(spread / RUNS) + 0.03 * math.sqrt(spread)


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("relative", ["fieller", "delta", "log"])
def test_relative_coverage(name, relative):
    scenario = SCENARIOS[name]
    control, treatment = scenario.true(scenario.effect)
    found = [r["m"] for r in _simulate(scenario, scenario.effect, RUNS, 2, relative=relative)]
    hits = sum(e.relative_ci_low <= treatment / control - 1 <= e.relative_ci_high for e in found)
    _assert_rate(hits, 0.95, scenario.slack + 0.005, RUNS)


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_size(name, alternative):
    scenario = SCENARIOS[name]
    found = [r["m"] for r in _simulate(scenario, 0.0, RUNS, 3, hypothesis=Superiority(alternative))]
    _assert_rate(sum(e.pvalue < 0.05 for e in found), 0.05, scenario.slack, RUNS)
    if not (isinstance(scenario.metric(), Proportion)):  # pooled p-value, unpooled interval
        assert all((e.pvalue < 0.05) == (not e.ci_low <= 0 <= e.ci_high) for e in found)


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize(("relative", "higher"), [(False, True), (True, True), (False, False), (True, False)])
def test_size_of_noninferiority(name, relative, higher):
    # The treatment is worse by just the margin, which has to be found not inferior in 5% of the runs.
    scenario = SCENARIOS[name]
    effect = (-1 if higher else 1) * scenario.effect
    control, treatment = scenario.true(effect)
    margin = abs(treatment - control) / (abs(control) if relative else 1.0)
    hypothesis = NonInferiority(margin, relative=relative, higher_is_better=higher)
    found = [r["m"] for r in _simulate(scenario, effect, RUNS, 4, hypothesis=hypothesis)]
    _assert_rate(sum(e.pvalue < 0.05 for e in found), 0.05, scenario.slack + 0.01, RUNS)


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("relative", [False, True])
def test_size_of_equivalence(name, relative):
    # At a margin of the true effect at most 5%; less where the margin is not wide against the error.
    scenario = SCENARIOS[name]
    control, treatment = scenario.true(scenario.effect)
    margin = abs(treatment - control) / (abs(control) if relative else 1.0)
    found = [
        r["m"] for r in _simulate(scenario, scenario.effect, RUNS, 5, hypothesis=Equivalence(margin, relative=relative))
    ]
    hits = sum(e.pvalue < 0.05 for e in found)
    assert hits <= binomial_bounds(0.05 + scenario.slack + 0.01, RUNS)[1]


def test_coverage_of_diluted_effect():
    scenario = SCENARIOS["triggered 200/200"]
    found = [r.diluted[0] for r in _simulate(scenario, 0.3, RUNS, 6)]
    hits = sum(e.ci_low <= 0.3 * 0.4 <= e.ci_high for e in found)
    _assert_rate(hits, 0.95, 0.008, RUNS)
    hits = sum(e.relative_ci_low <= 0.12 / 5.8 <= e.relative_ci_high for e in found)
    _assert_rate(hits, 0.95, 0.01, RUNS)
    found = [r.diluted[0] for r in _simulate(scenario, 0.0, RUNS, 7)]
    _assert_rate(sum(e.pvalue < 0.05 for e in found), 0.05, 0.008, RUNS)


@pytest.mark.parametrize("q", [0.25, 0.5, 0.9])
@pytest.mark.parametrize(("n0", "n1"), [(100, 100), (360, 40)])
def test_coverage_of_quantiles(q, n0, n1):
    rng = np.random.default_rng(8)
    experiment = Experiment({"m": Quantile("y", q=q)}, variant="v", control="a")
    runs, hits, relative, rejected = 400, 0, 0, 0
    for _ in range(runs):
        frame = pd.DataFrame({"v": np.repeat(["a", "b"], [n0, n1]), "y": rng.lognormal(0, 1, n0 + n1)})
        result = experiment.analyze(frame)["m"]
        hits += result.ci_low <= 0 <= result.ci_high
        relative += result.relative_ci_low <= 0 <= result.relative_ci_high
        rejected += result.pvalue < 0.05
    _assert_rate(hits, 0.95, 0.03, runs)
    _assert_rate(relative, 0.95, 0.03, runs)
    assert rejected == runs - hits


def test_coverage_of_trend():
    rng = np.random.default_rng(9)
    experiment = Experiment({"m": Mean("y")}, variant="v", control="a", day="day", cluster="user")
    runs, hits, users, days = 300, 0, 60, 8
    for _ in range(runs):
        user = np.repeat(np.arange(users), days)
        day, treated = np.tile(np.arange(days), users), (user % 2).astype(float)
        y = rng.normal(size=users)[user] + treated * (1 - 0.1 * day) + rng.normal(size=users * days)
        frame = pd.DataFrame({"v": np.where(treated == 1, "b", "a"), "user": user, "day": day, "y": y})
        [trend] = experiment.analyze(frame).trends
        hits += trend.ci_low <= -0.1 <= trend.ci_high
    _assert_rate(hits, 0.95, 0.015, runs)
