"""Allocations under a budget against the linear program, brute force, and cases by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, sparse

from causalrec.exceptions import CausalRecError
from causalrec.policy import allocate
from causalrec.policy._path import hull_steps, make_path


def linear_program(gain: np.ndarray, cost: np.ndarray, budget: float, weight: np.ndarray | None = None) -> float:
    """The best gain per unit of the population, by scipy's HiGHS."""
    n, m = gain.shape
    w = np.ones(n) if weight is None else weight
    one_arm = sparse.kron(sparse.eye(n), np.ones((1, m)))
    money = sparse.csr_array((w[:, None] * cost).reshape(1, -1) / w.sum())
    found = optimize.linprog(
        -(w[:, None] * gain).ravel() / w.sum(), A_ub=sparse.vstack([one_arm, money]), b_ub=np.r_[np.ones(n), budget],
        bounds=(0, 1), method="highs",
    )  # fmt: skip
    return -found.fun


def random_arms(rng: np.random.Generator, n: int, m: int, *, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    if ties:
        return rng.choice([-1.0, 0.0, 1.0, 2.0, 3.0], (n, m)), rng.choice([0.5, 1.0, 2.0], (n, m))
    return rng.normal(0.3, 1.0, (n, m)), rng.uniform(0.1, 2.0, (n, m))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("m", [1, 2, 5])
def test_the_linear_program_at_any_budget(m, ties):
    rng = np.random.default_rng(m)
    gain, cost = random_arms(rng, 40, m, ties=ties)
    weight = rng.integers(1, 4, 40).astype(float)
    whole = allocate(gain, cost=cost, sample_weight=weight).spend
    for budget in [0.0, *rng.uniform(0, whole, 5), whole, 2 * whole]:
        plan = allocate(gain, cost=cost, budget=budget, sample_weight=weight)
        assert plan.gain == pytest.approx(linear_program(gain, cost, budget, weight), abs=1e-9)
        assert plan.spend == pytest.approx(min(budget, whole), abs=1e-12)
        share = plan.probabilities()
        assert (weight @ (share[:, 1:] * gain).sum(axis=1)) / weight.sum() == pytest.approx(plan.gain, abs=1e-12)
        assert (weight @ (share[:, 1:] * cost).sum(axis=1)) / weight.sum() == pytest.approx(plan.spend, abs=1e-12)
        assert weight @ share / weight.sum() == pytest.approx(plan.share, abs=1e-12)


def test_the_shadow_price_is_the_slope_of_the_best_gain():
    gain, cost = random_arms(np.random.default_rng(9), 30, 3, ties=False)
    plan = allocate(gain, cost=cost, budget=0.2)
    rise = (linear_program(gain, cost, 0.2 + 1e-6) - plan.gain) / 1e-6
    assert plan.shadow_price == pytest.approx(rise, rel=1e-4)
    assert allocate(gain, cost=cost, budget=50.0).shadow_price == 0.0


def test_no_allocation_of_whole_units_is_better():
    rng = np.random.default_rng(3)
    gain, cost = rng.normal(1.0, 1.0, (5, 2)), rng.integers(1, 4, (5, 2)).astype(float)
    g, c = (np.column_stack([np.zeros(5), v]) for v in (gain, cost))
    for budget in (2.0, 5.0, 8.0):
        plan = allocate(gain, cost=cost, total_budget=budget)
        rows = np.arange(5)
        every = [np.array(arms) for arms in itertools.product(range(3), repeat=5)]
        best = max(g[rows, arms].sum() for arms in every if c[rows, arms].sum() <= budget)
        assert 5 * plan.gain >= best - 1e-12
        if plan.split_row < 0:
            assert 5 * plan.gain == pytest.approx(best)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_hulls_are_the_upper_hulls(data):
    m = data.draw(st.integers(1, 4))
    number = st.integers(-3, 6)
    gain = np.array([data.draw(st.lists(number, min_size=m, max_size=m))], dtype=float)
    cost = np.array([data.draw(st.lists(st.integers(1, 5), min_size=m, max_size=m))], dtype=float)
    _, _, after, run, slope = hull_steps(gain, cost)
    assert (np.diff(slope) <= 0).all()
    at = np.r_[0.0, np.cumsum(run)]
    height = np.r_[0.0, gain[0, after - 1]]
    # No point lies above the path, and no mixture of two points either.
    points = [(0.0, 0.0), *zip(cost[0], gain[0], strict=True)]
    for (c1, g1), (c2, g2) in itertools.product(points, repeat=2):
        for share in (0.0, 0.3, 0.5, 1.0):
            c, g = share * c1 + (1 - share) * c2, share * g1 + (1 - share) * g2
            assert np.interp(c, at, height) >= g - 1e-9


def test_equal_slopes_keep_the_order_of_rows_and_of_steps():
    gain = np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]])
    path = make_path(*hull_steps(gain, np.array([[1.0, 2.0]] * 3)), np.ones(3))
    assert path.unit.tolist() == [0, 0, 1, 1, 2, 2]
    assert path.after.tolist() == [1, 2, 1, 2, 1, 2]
    assert path.end.tolist() == [5]  # all of one slope: one group
    plan = allocate(gain, cost=[1, 2], total_budget=3)
    assert plan.assigned.tolist() == [2, 1, 0]
    assert plan.split_row == -1


def test_a_value_stops_where_a_step_is_not_worth_its_cost():
    gain, cost = np.array([[3.0, 4.0], [0.4, 3.0]]), [1.0, 2.0]
    free = allocate(gain, cost=cost)
    assert free.assigned.tolist() == [2, 2]
    assert (free.shadow_price, np.isnan(free.budget), np.isnan(free.profit)) == (0.0, True, True)
    worth = allocate(gain, cost=cost, value=0.9)  # the step from 3 to 4 is worth .9 and costs 1
    assert worth.assigned.tolist() == [1, 2]
    assert worth.profit == pytest.approx((0.9 * 6.0 - 3.0) / 2)
    brute = max(0.9 * (a + b) - (c + d) for (a, c), (b, d) in itertools.product(
        [(0, 0), (3, 1), (4, 2)], [(0, 0), (0.4, 1), (3, 2)]))  # fmt: skip
    assert 2 * worth.profit == pytest.approx(brute)
    assert allocate(gain, cost=cost, value=0.01).share_treated == 0.0


def test_frames_labels_and_the_split_row():
    frame = pd.DataFrame({"mail": [1.0, 3.0, -1.0], "call": [1.5, 4.0, 2.0]}, index=[5, 6, 7])
    plan = allocate(frame, cost={"call": 2.0, "mail": 1.0}, total_budget=1.5, control="none")
    assert plan.arms.tolist() == ["none", "mail", "none"]
    assert (plan.split_row, plan.split_arm) == (0, "mail")
    assert plan.split_share == pytest.approx(0.5)
    assert plan.to_frame().columns.tolist() == ["arm", "share", "spend", "gain"]
    assert plan.to_frame()["share"].tolist() == pytest.approx([0.5, 0.5, 0.0])
    assert "mail 50.0%" in str(plan)
    rows = allocate({"mail": [1.0, 3.0, -1.0]}, cost={"mail": [0.1, 1.0, 1.0]}, total_budget=0.1, control="none")
    assert rows.arms.tolist() == ["mail", "none", "none"]


def test_frames_of_polars_go_by_name():
    columns = {"mail": [1.0, 3.0, -1.0], "call": [1.5, 4.0, 2.0]}
    cost = {"call": [2.0, 2.0, 2.0], "mail": [1.0, 1.0, 1.0]}
    plans = [
        allocate(kind(columns), cost=kind(cost), budget=0.7, control="none").to_frame()
        for kind in (pd.DataFrame, pl.DataFrame, dict)
    ]
    pd.testing.assert_frame_equal(plans[0], plans[1])
    pd.testing.assert_frame_equal(plans[0], plans[2])


def test_rows_of_weight_zero_get_control():
    plan = allocate([5.0, 1.0, 2.0], cost=1.0, sample_weight=[0, 1, 1])
    assert plan.assigned.tolist() == [0, 1, 1]
    assert plan.share_treated == 1.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cost": 0.0}, ["cost", "not above zero", "0"]),
        ({"cost": [-1.0, 1.0, 1.0]}, ["1 of 3", "-1"]),
        ({"cost": {"mail": 1.0}}, ["'mail'", "1"]),
        ({"cost": [1.0, 2.0]}, ["(2,)", "(3, 1)"]),
        ({"cost": np.nan}, ["missing"]),
        ({"budget": -1.0}, ["budget is -1.0"]),
        ({"budget": np.nan}, ["budget is nan"]),
        ({"total_budget": -1.0}, ["total_budget is -1.0"]),
        ({"budget": 1.0, "total_budget": 1.0}, ["both"]),
        ({"value": 0.0}, ["value is 0.0"]),
        ({"uplift": [1.0, np.nan, 2.0]}, ["uplift", "1 of 3"]),
        ({"uplift": np.zeros((2, 2, 2))}, ["(2, 2, 2)"]),
        ({"uplift": {}}, ["uplift"]),
        ({"control": 1}, ["control is 1"]),
        ({"uplift": []}, ["uplift", "0 rows"]),
        ({"uplift": ["a"] * 5}, ["uplift", "numbers"]),
        ({"uplift": {"mail": [1.0, 2.0], "call": [1.0]}}, ["'call'", "1 values", "2 rows"]),
        ({"budget": "all"}, ["budget is 'all'"]),
        ({"value": "a"}, ["value is 'a'"]),
        ({"cost": "a"}, ["cost", "numbers"]),
        ({"sample_weight": [1, 1]}, ["2 values", "3 rows"]),
    ],
)
def test_bad_input_is_named(change, words):
    given_ = {"uplift": [1.0, 3.0, 2.0], "cost": 1.0} | change
    with pytest.raises(CausalRecError) as caught:
        allocate(given_.pop("uplift"), **given_)
    assert all(word in str(caught.value) for word in words), str(caught.value)
