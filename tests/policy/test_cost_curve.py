"""Cost curves: the gain curve of one arm, maq's invariants, brute force, pairs, coverage."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression

from causalrec.evaluation import policy_value, qini_curve
from causalrec.exceptions import CausalRecError, TreatmentError
from causalrec.nuisance import arm_scores, fit_nuisances
from causalrec.policy import allocate, compare_cost_curves, cost_curve
from causalrec.policy._path import hull_steps, make_path
from causalrec.policy._process import ScoredPath, gains_at, score_steps


def rows(rng: np.random.Generator, n: int = 300, per: int = 1):
    """Three arms, effects that differ, and predictions that are partly right."""
    x, noise = rng.uniform(size=(n // per, 3)), rng.normal(size=n // per)
    treatment = rng.choice(3, n // per, p=[0.4, 0.3, 0.3])
    x, noise, treatment = (np.repeat(v, per, axis=0) for v in (x, noise, treatment))
    tau = np.column_stack([x[:, 0] - 0.3, 1.5 * x[:, 1] - 0.4])
    uplift = np.column_stack([x[:, 0] - 0.3 + 0.4 * (x[:, 2] - 0.5), 1.2 * x[:, 1] - 0.3])
    cost = np.column_stack([np.full(n, 0.3), 0.5 + 0.5 * x[:, 2]])
    effect = np.where(treatment > 0, tau[np.arange(n), treatment - 1], 0.0)
    y = x[:, 2] + effect + 0.5 * noise + 0.5 * rng.normal(size=n)
    return y, uplift, treatment, cost, tau


def test_one_arm_at_one_cost_is_the_gain_curve():
    rng = np.random.default_rng(0)
    uplift, treatment = np.round(rng.uniform(0.1, 1, 90), 2), rng.integers(0, 2, 90)
    y = rng.normal(size=90) + treatment * uplift
    weight = rng.uniform(0.5, 2, 90)
    for options in ({}, {"propensity": 0.5}, {"clusters": np.arange(90) // 3}, {"sample_weight": weight}):
        ours = cost_curve(y, uplift, treatment, cost=4.0, **options)
        other = qini_curve(y, uplift, treatment, **options)
        gain = np.interp(ours.spend / 4, other.fraction, other.value)
        np.testing.assert_allclose(ours.gain, gain, atol=1e-12)
        # Both count the estimated cut, with the slope of the curve over the same window.
        width = np.interp(ours.spend / 4, other.fraction, other.ci_high - other.ci_low)
        np.testing.assert_allclose((ours.ci_high - ours.ci_low)[:-1], width[:-1], rtol=0.02, atol=1e-9)
        assert ours.at(2.0).estimate == pytest.approx(np.interp(0.5, other.fraction, other.value), abs=1e-12)


def test_the_gain_at_every_point_is_that_of_the_allocation():
    y, uplift, treatment, cost, _ = rows(np.random.default_rng(1), 60)
    scores = arm_scores(y, treatment, control=0).table()
    curve = cost_curve(y, uplift, treatment, cost=cost, control=0)
    for budget, gain in zip(curve.spend, curve.gain, strict=True):
        plan = allocate(uplift, cost=cost, budget=budget)
        expected = (plan.probabilities() * (scores - scores[:, :1])).sum(axis=1).mean()
        assert gain == pytest.approx(expected, abs=1e-10)
    assert curve.total_spend == pytest.approx(allocate(uplift, cost=cost).spend)
    budgets = cost_curve(y, uplift, treatment, cost=cost, control=0, budgets=[0.11, 0.27])
    for budget in (0.11, 0.27):
        plan = allocate(uplift, cost=cost, budget=budget)
        expected = (plan.probabilities() * (scores - scores[:, :1])).sum(axis=1).mean()
        assert budgets.at(budget).estimate == pytest.approx(expected, abs=1e-10)


def test_the_end_is_a_policy_that_no_budget_binds():
    y, uplift, treatment, cost, _ = rows(np.random.default_rng(2))
    for options in ({}, {"propensity": {0: 0.4, 1: 0.3, 2: 0.3}}, {"clusters": np.arange(300) // 2}):
        curve = cost_curve(y, uplift, treatment, cost=cost, control=0, **options)
        policy = allocate(uplift, cost=cost).assigned
        value = policy_value(y, policy, treatment, control=0, **options)
        assert curve.gain[-1] == pytest.approx(value.difference)
        assert curve.std_error[-1] == pytest.approx(value.difference_std_error)
        assert curve.at(9.9).estimate == curve.gain[-1]


def brute_force(scores, table, path, budget: float, rate: float) -> tuple[float, np.ndarray]:
    """Gain and influence function at a budget, step by step."""
    n = len(scores.y)
    held, money, left = np.zeros((n, table.shape[1])), np.zeros(n), budget * n
    held[:, 0] = 1.0
    for unit, before, after, run in zip(path.unit, path.before, path.after, path.run, strict=True):
        part = min(1.0, max(0.0, left) / (run * scores.weight[unit]))
        held[unit, before] -= part
        held[unit, after] += part
        money[unit] += part * run
        left -= part * run * scores.weight[unit]
    held[:, 0] -= 1.0
    gain, influence = scores.average(held)
    return gain, influence - rate * scores.weight * (money - budget)


@pytest.mark.parametrize("design", ["shares", "known", "clusters", "weights"])
def test_errors_are_those_of_the_influence_functions(design):
    y, uplift, treatment, cost, _ = rows(np.random.default_rng(3), 80)
    rng = np.random.default_rng(4)
    scores = arm_scores(
        y, treatment, control=0,
        propensity={0: 0.4, 1: 0.3, 2: 0.3} if design == "known" else None,
        clusters=rng.integers(0, 25, 80) if design == "clusters" else None,
        sample_weight=rng.uniform(0.2, 2, 80) if design == "weights" else None,
    )  # fmt: skip
    path, table = make_path(*hull_steps(uplift, cost), scores.weight), scores.table()
    at = np.array([0.0, 0.05, 0.17, 0.3, path.total])
    found = gains_at(scores, [ScoredPath(path, score_steps(path, table))], at)
    gain_path = np.r_[0.0, np.cumsum(scores.weight[path.unit] * score_steps(path, table))[path.end] / 80]
    spend_path, reach = np.r_[0.0, path.spend], 0.05 * path.total
    parts = []
    for budget in at:
        ends = np.clip([budget - reach, budget + reach], 0, path.total)
        rate = float(np.diff(np.interp(ends, spend_path, gain_path))[0] / np.diff(ends)[0])
        parts.append(brute_force(scores, table, path, budget, rate if budget < path.total else 0.0))
    np.testing.assert_allclose(found.gain[0], [gain for gain, _ in parts], atol=1e-12)
    np.testing.assert_allclose(found.error[0], [scores.error(v) for _, v in parts], rtol=1e-8, atol=1e-12)
    both = found.contrast(np.array([[0.0, 1.0, -2.0, 0.0, 0.5]]))
    assert both[1] == pytest.approx(scores.error(parts[1][1] - 2 * parts[2][1] + 0.5 * parts[4][1]), rel=1e-8)


def test_maqs_invariants():
    """maq's r-package/maq/tests/testthat/test_maq.R: units of reward and cost, weights as copies, ties."""
    y, uplift, treatment, cost, _ = rows(np.random.default_rng(5), 120)
    base = cost_curve(y, uplift, treatment, cost=cost, control=0)
    scaled = cost_curve(1000 * y, 1000 * uplift, treatment, cost=1000 * cost, control=0)
    for name, factor in (("spend", 1000), ("gain", 1000), ("std_error", 1000), ("untargeted", 1000)):
        np.testing.assert_allclose(getattr(scaled, name), factor * getattr(base, name), rtol=1e-9)
    dearer = cost_curve(y, uplift, treatment, cost=1000 * cost, control=0)
    np.testing.assert_allclose(dearer.std_error, base.std_error, rtol=1e-9)
    order = np.random.default_rng(6).permutation(120)
    shuffled = cost_curve(*(v[order] for v in (y, uplift, treatment)), cost=cost[order], control=0)
    np.testing.assert_allclose(shuffled.gain, base.gain, atol=1e-12)
    np.testing.assert_allclose(shuffled.std_error, base.std_error, rtol=1e-9)
    times = np.random.default_rng(7).integers(1, 3, 120)
    budgets = [0.05, 0.1, 0.2, 0.3]
    known = {"control": 0, "propensity": {0: 0.4, 1: 0.3, 2: 0.3}, "budgets": budgets}
    weighted = cost_curve(y, uplift, treatment, cost=cost, sample_weight=times, **known)
    copied = cost_curve(*(np.repeat(v, times, axis=0) for v in (y, uplift, treatment)),
                        cost=np.repeat(cost, times, axis=0), **known)  # fmt: skip
    np.testing.assert_allclose(weighted.gain, copied.gain, atol=1e-12)


def test_ties_do_not_depend_on_the_order_of_rows():
    rng = np.random.default_rng(8)
    y, treatment = rng.normal(size=60), np.tile([0, 1, 2], 20)
    uplift = rng.choice([0.5, 1.0], (60, 2))
    curve = cost_curve(y, uplift, treatment, cost=[1.0, 2.0], control=0, budgets=[0.2, 0.4])
    order = rng.permutation(60)
    again = cost_curve(*(v[order] for v in (y, uplift, treatment)), cost=[1.0, 2.0], control=0, budgets=[0.2, 0.4])
    np.testing.assert_allclose(again.gain, curve.gain, atol=1e-12)
    np.testing.assert_allclose(again.std_error, curve.std_error, rtol=1e-9)


def test_predictions_that_do_not_vary_gain_as_much_as_a_random_order():
    rng = np.random.default_rng(9)
    y, treatment = rng.normal(size=200), rng.integers(0, 2, 200)
    curve = cost_curve(y, np.full(200, 0.5), treatment, cost=1.0, budgets=[0.25, 0.5, 1.0])
    effect = y[treatment == 1].mean() - y[treatment == 0].mean()
    assert curve.gain == pytest.approx(effect * curve.spend)
    assert curve.untargeted == pytest.approx(curve.gain)


def test_nothing_to_gain_is_a_curve_of_one_point():
    curve = cost_curve([1.0, 2.0, 0.0, 1.0], [-1.0, -1.0, 0.0, -2.0], [1, 0, 1, 0], cost=1.0)
    assert (curve.spend.tolist(), curve.gain.tolist(), curve.total_spend) == ([0.0], [0.0], 0.0)
    assert curve.at(3.0).estimate == 0.0
    assert "spending 0" in str(curve)
    with pytest.raises(CausalRecError, match="up_to"):
        compare_cost_curves([1, 2, 0, 1], {"a": [-1] * 4, "b": [-2] * 4}, [1, 0, 1, 0], cost=1.0)


def test_an_outcome_that_never_varies_has_no_error():
    curve = cost_curve([1.0, 1.0, 1.0, 1.0], [1.0, 2.0, 3.0, 4.0], [1, 0, 1, 0], cost=1.0)
    assert curve.gain == pytest.approx(0.0)
    assert curve.std_error[0] == 0.0
    assert np.isnan(curve.std_error[1:]).all()
    assert np.isnan(curve.at(0.5).pvalue)


def test_one_cluster_has_no_error():
    args = ([3.0, 1.0, 2.0, 0.0], [1, 0, 1, 0])
    options = {"cost": 1.0, "clusters": [7, 7, 7, 7]}
    curve = cost_curve(args[0], [1.0, 2.0, 3.0, 4.0], args[1], **options)
    assert np.isnan(curve.std_error).all()
    gap = compare_cost_curves(args[0], {"a": [1.0, 2.0, 3.0, 4.0], "b": [4.0, 3.0, 2.0, 1.0]}, args[1], **options)
    assert np.isnan([*gap.std_error, gap.area_std_error, gap.area_pvalue]).all()


def test_a_budget_that_is_not_used_up_says_so():
    curve = cost_curve([3.0, 1.0, 2.0, 0.0], [1.0, 2.0, -1.0, -1.0], [1, 0, 1, 0], cost=1.0, budgets=[5.0])
    assert "a budget of 5, 0.5 of it spent" in str(curve)


def test_a_value_ends_the_curve_where_nothing_is_worth_its_cost():
    y, uplift, treatment, cost, _ = rows(np.random.default_rng(10))
    whole = cost_curve(y, uplift, treatment, cost=cost, control=0)
    worth = cost_curve(y, uplift, treatment, cost=cost, control=0, value=2.0)
    assert worth.total_spend < whole.total_spend
    assert worth.total_spend == pytest.approx(allocate(uplift, cost=cost, value=2.0).spend)


def test_comparisons_are_paired_and_antisymmetric():
    y, uplift, treatment, cost, _ = rows(np.random.default_rng(11))
    frame = pd.DataFrame(uplift, columns=[1, 2])
    rules = {"both": frame, "first": frame[[1]]}
    options = {"cost": {1: cost[:, 0], 2: cost[:, 1]}, "control": 0}
    one = compare_cost_curves(y, rules, treatment, **options)
    back = compare_cost_curves(y, dict(reversed(rules.items())), treatment, **options)
    np.testing.assert_allclose(back.difference, -one.difference, atol=1e-12)
    np.testing.assert_allclose(back.std_error, one.std_error, rtol=1e-6, atol=1e-9)
    assert back.area == pytest.approx(-one.area)
    assert back.area_std_error == pytest.approx(one.area_std_error)
    curves = [cost_curve(y, u, treatment, budgets=one.spend, **options) for u in rules.values()]
    np.testing.assert_allclose(one.difference, curves[0].gain - curves[1].gain, atol=1e-12)
    assert one.area == pytest.approx(np.trapezoid(one.difference, one.spend))
    assert (one.std_error[5:] < np.hypot(curves[0].std_error, curves[1].std_error)[5:]).all()
    middle = one.spend[len(one.spend) // 2]
    assert one.at(middle).estimate == pytest.approx(one.difference[len(one.spend) // 2])
    same = compare_cost_curves(y, {"a": frame, "b": frame}, treatment, **options)
    assert (same.difference == 0).all()
    assert (same.std_error == 0).all()


def test_costs_by_position_serve_rules_of_some_arms():
    y, uplift, treatment, _, _ = rows(np.random.default_rng(12))
    second = pd.DataFrame({2: uplift[:, 1]})
    by_name = cost_curve(y, second, treatment, cost={2: 0.7}, control=0)
    by_place = cost_curve(y, second, treatment, cost=[0.3, 0.7], control=0)
    np.testing.assert_array_equal(by_name.spend, by_place.spend)
    assert by_name.arms == (2,)


def test_doubly_robust_scores():
    rng = np.random.default_rng(13)
    y, uplift, treatment, cost, _ = rows(rng, 400)
    X = rng.normal(size=(400, 2))
    nuisance = fit_nuisances(X, y, treatment=treatment, control=0, outcome_model=LinearRegression(), n_folds=2,
                             propensity={0: 0.4, 1: 0.3, 2: 0.3})  # fmt: skip
    curve = cost_curve(y, uplift, treatment, cost=cost, nuisance=nuisance)
    policy = allocate(uplift, cost=cost).assigned
    expected = (nuisance.scores[np.arange(400), policy] - nuisance.scores[:, 0]).mean()
    assert curve.gain[-1] == pytest.approx(expected)
    assert "doubly robust" in curve.method


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"cost": 0.0}, CausalRecError, ["cost", "not above zero"]),
        ({"cost": [1.0, 2.0]}, CausalRecError, ["(2,)"]),
        ({"budgets": [-0.1, 1.0]}, CausalRecError, ["budgets", "-0.1"]),
        ({"uplift": [1.0, np.nan, 1.0, 1.0]}, CausalRecError, ["uplift", "1 of 4"]),
        ({"uplift": {"mail": [1.0] * 4}}, TreatmentError, ["'mail'", "1"]),
        ({"uplift": np.ones((4, 2))}, CausalRecError, ["(4, 2)", "1 arms"]),
        ({"uplift": [1.0, 2.0]}, CausalRecError, ["2 values", "4 rows"]),
        ({"value": -1.0}, CausalRecError, ["value"]),
        ({"treatment": [1, 1, 1, 1]}, TreatmentError, ["only 1"]),
    ],
)
def test_bad_input_is_named(change, kind, words):
    given = {"y": [3.0, 1.0, 2.0, 0.0], "uplift": [1.0, 2.0, 3.0, 4.0], "treatment": [1, 0, 1, 0], "cost": 1.0} | change
    with pytest.raises(kind) as caught:
        cost_curve(given.pop("y"), given.pop("uplift"), given.pop("treatment"), **given)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_bad_comparisons_and_budgets_are_named():
    args = ([3.0, 1.0, 2.0, 0.0], {"a": [1.0] * 4}, [1, 0, 1, 0])
    with pytest.raises(CausalRecError, match="two"):
        compare_cost_curves(*args, cost=1.0)
    two = {"a": [1.0] * 4, "b": [2.0, 1.0, 1.0, 1.0]}
    with pytest.raises(CausalRecError, match="up_to is -1"):
        compare_cost_curves(args[0], two, args[2], cost=1.0, up_to=-1.0)
    with pytest.raises(CausalRecError, match="budget is -1"):
        compare_cost_curves(args[0], two, args[2], cost=1.0).at(-1.0)


@pytest.mark.slow
@pytest.mark.parametrize("design", ["estimated", "known", "clustered"])
def test_intervals_cover_gains_differences_and_areas(design):
    budgets, top, repeats = np.array([0.05, 0.15, 0.3, 0.42]), 0.4, 400
    _, uplift, _, cost, tau = rows(np.random.default_rng(99), 1_000_000)

    def truth(columns: list[int]):
        place = np.array([0, *(c + 1 for c in columns)])
        unit, before, after, run, slope = hull_steps(uplift[:, columns], cost[:, columns])
        path = make_path(unit, place[before], place[after], run, slope, np.ones(len(tau)))
        gain = np.cumsum(score_steps(path, np.column_stack([np.zeros(len(tau)), tau])))[path.end] / len(tau)
        return lambda at: np.interp(at, np.r_[0, path.spend], np.r_[0, gain])

    both, first = truth([0, 1]), truth([0])
    grid = np.linspace(0, top, 2001)
    area = np.trapezoid(both(grid) - first(grid), grid)
    hits = np.zeros((repeats, len(budgets) + 3))
    for r in range(repeats):
        per = 4 if design == "clustered" else 1
        y, u, t, c, _ = rows(np.random.default_rng(r), 1000, per)
        options = {
            "cost": c, "control": 0,
            "propensity": {0: 0.4, 1: 0.3, 2: 0.3} if design == "known" else None,
            "clusters": np.arange(1000) // 4 if per == 4 else None,
        }  # fmt: skip
        curve = cost_curve(y, u, t, budgets=[*budgets, 9.0], **options)
        frame = pd.DataFrame(u, columns=[1, 2])
        gap = compare_cost_curves(y, {"both": frame, "first": frame[[1]]}, t, budgets=np.linspace(0, top, 41),
                                  up_to=top, **options)  # fmt: skip
        true = both(np.r_[budgets, 9.0])
        hits[r, : len(true)] = (curve.ci_low[1:] <= true) & (true <= curve.ci_high[1:])
        at = gap.at(0.3)
        hits[r, -2] = at.ci_low <= both(0.3) - first(0.3) <= at.ci_high
        hits[r, -1] = gap.area_ci_low <= area <= gap.area_ci_high
    low, high = stats.binom.ppf([0.0005, 0.9995], repeats, 0.95) / repeats
    assert ((low <= hits.mean(axis=0)) & (hits.mean(axis=0) <= high)).all(), hits.mean(axis=0)
