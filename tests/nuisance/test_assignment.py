"""Policies in any form become probabilities of arms; several estimates at once; ratios."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalrec._ratios import fieller_interval
from causalrec.exceptions import CausalRecError
from causalrec.nuisance.assignment import policy_shares
from causalrec.nuisance.simultaneous import largest_quantile, may_be_best, normal_draws, shortfall

ARMS = ("none", "call", "mail")


@pytest.mark.parametrize(
    "policy",
    [
        ["mail", "none", "call"],
        pd.Series(["mail", "none", "call"], index=[7, 8, 9]),
        pd.Categorical(["mail", "none", "call"]),
        np.array([2, 0, 1]),
        [[0, 0, 1], [1, 0, 0], [0, 1, 0]],
        pd.DataFrame({"mail": [1, 0, 0], "none": [0, 1, 0], "call": [0, 0, 1.0]}),
    ],
    ids=["labels", "series", "categories", "codes", "probabilities", "frame"],
)
def test_every_form_of_a_policy_is_the_same(policy):
    expected = [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    assert policy_shares(policy, ARMS, n_rows=3).tolist() == expected


def test_one_arm_for_everybody_and_two_arms():
    assert policy_shares("call", ARMS, n_rows=2).tolist() == [[0, 1, 0], [0, 1, 0]]
    for labels in ((0, 1), ("none", "mail")):
        assert policy_shares([True, False], labels, n_rows=2).tolist() == [[0, 1], [1, 0]]
        assert policy_shares([1, 0], labels, n_rows=2).tolist() == [[0, 1], [1, 0]]
        assert policy_shares([0.25, 1.0], labels, n_rows=2).tolist() == [[0.75, 0.25], [0, 1]]
    assert policy_shares([1, 0], (1, 0), n_rows=2).tolist() == [[1, 0], [0, 1]]  # labels, whatever their order
    assert policy_shares([5, 7], (7, 5), n_rows=2).tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("policy", "labels", "words"),
    [
        (["mail", "e-mail"], ARMS, ["'e-mail'", "'none', 'call', 'mail'"]),
        ([0, 3], ARMS, ["3", "'call'"]),
        ([0.5, 1], ARMS, ["0.5"]),
        ([0, 1], (5, 7), ["0, 1", "5, 7"]),
        (["mail", None], ARMS, ["1 of 2", "missing"]),
        ("letter", ARMS, ["'letter'", "'mail'"]),
        (["mail"], ARMS, ["1 values", "2 rows"]),
        ([[0.5, 0.5], [1, 0]], ARMS, ["(2, 2)", "(2, 3)"]),
        ([[0.5, 0.6, 0], [1, 0, 0]], ARMS, ["1 of 2", "sum to one", "row 0"]),
        ([[1.5, -0.5, 0], [1, 0, 0]], ARMS, ["1 of 2"]),
        ([[np.nan, 0.5, 0.5], [1, 0, 0]], ARMS, ["1 of 2"]),
    ],
)
def test_bad_policies_are_named(policy, labels, words):
    with pytest.raises(CausalRecError) as caught:
        policy_shares(policy, labels, n_rows=2)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_the_largest_of_independent_normals_has_sidaks_quantile():
    draws = normal_draws(4 * np.eye(5), rng=0, draws=40_000)
    found = largest_quantile(np.abs(draws), np.full(5, 2.0), 0.95)
    assert found == pytest.approx(stats.norm.isf((1 - 0.95 ** (1 / 5)) / 2), abs=0.02)
    assert largest_quantile(draws, np.zeros(5), 0.95) == 0.0


def test_bounds_of_the_shortfall_of_two_are_the_interval_of_their_difference():
    covariance = np.array([[1.0, 0.3], [0.3, 2.0]]) / 100
    low, high = shortfall(np.array([0.0, 0.5]), covariance, 0.95, rng=0)
    error = np.sqrt(3.0 - 0.6) / 10
    assert (low[0], high[0]) == pytest.approx((0.5 - 1.96 * error, 0.5 + 1.96 * error), abs=0.012)
    assert (low[1], high[1]) == pytest.approx((0.0, 0.0))
    assert may_be_best(np.array([0.0, 0.5]), covariance, 0.95, rng=0).tolist() == [False, True]
    assert may_be_best(np.array([0.3, 0.5]), covariance, 0.95, rng=0).tolist() == [True, True]


@pytest.mark.slow
def test_the_set_holds_the_best_and_the_bounds_the_shortfall():
    rng, truth = np.random.default_rng(1), np.array([0.0, 0.1, 0.1, -0.3])
    root = rng.normal(size=(4, 4)) / 8
    covariance = root @ root.T
    repeats = 400
    held, covered = np.zeros(4), np.zeros(4)
    for seed in range(repeats):
        estimate = truth + root @ rng.normal(size=4)
        held += may_be_best(estimate, covariance, 0.9, rng=seed)
        low, high = shortfall(estimate, covariance, 0.9, rng=seed)
        covered += (low <= 0.1 - truth + 1e-12) & (0.1 - truth <= high + 1e-12)
    least = stats.binom.ppf(0.001, repeats, 0.9)
    assert (held[[1, 2]] >= least).all()
    assert held[3] < held[0] < held[1]
    assert (covered >= least).all()


def test_fieller_against_a_grid():
    args = (1.5, 0.8, 0.04, 0.02, 0.01)
    ratios = np.linspace(-5, 50, 1_100_001)
    variance = args[2] - 2 * ratios * args[4] + ratios**2 * args[3]
    inside = ratios[(args[0] - ratios * args[1]) ** 2 <= 1.96**2 * variance]
    assert fieller_interval(*args, 1.96) == pytest.approx((inside.min(), inside.max()), abs=1e-4)
    assert all(np.isnan(fieller_interval(1.0, 1.0, np.nan, 0.1, 0.0, 1.96)))
