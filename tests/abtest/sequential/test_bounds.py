"""Bounds against published tables, R's printed values, the multivariate normal law and Monte Carlo."""

import math

import numpy as np
import pytest
from scipy import stats

from causalrec.abtest import (
    CustomSpending,
    HwangShihDeCani,
    ObrienFleming,
    Pocock,
    PowerFamily,
    crossing_probabilities,
    group_sequential_bounds,
    wang_tsiatis_bounds,
)
from causalrec.exceptions import CausalRecError

FIFTHS = [0.2, 0.4, 0.6, 0.8, 1.0]


@pytest.mark.parametrize(
    ("fractions", "options", "expected"),
    [
        # Case 20 of the reference: spotify-confidence's tests, from ldbounds, whose coarse grid is 1e-4 off; the second
        # on a finer grid.
        (np.array([250, 450, 630, 810]) / 810, {"alpha": 0.01, "spending": PowerFamily(2)},
         [3.30416, 3.03414, 2.87058, 2.72851]),
        (FIFTHS, {"spending": PowerFamily(2)}, [3.09023, 2.71411, 2.47278, 2.27986, 2.11403]),
        # Lan-DeMets O'Brien-Fleming and Pocock, five looks: ldbounds' and gsDesign's printed values
        # (Reboussin, DeMets, Kim & Lan 2000, Table 1, for the first).
        (FIFTHS, {}, [4.8769, 3.3569, 2.6803, 2.2898, 2.0310]),
        (FIFTHS, {"spending": "pocock"}, [2.4380, 2.4268, 2.4101, 2.3966, 2.3859]),
        # gsDesign(k = 3, test.type = 4), its default, prints 3.0107, 2.5465, 1.9992.
        ([1 / 3, 2 / 3, 1.0], {"alpha": 0.025, "alternative": "greater", "spending": HwangShihDeCani(-4)},
         [3.0107, 2.5465, 1.9992]),
    ],
)  # fmt: skip
def test_published_bounds(fractions, options, expected):
    tolerance = 5.1e-6 if expected[-1] == 2.11403 else 1.2e-4
    np.testing.assert_allclose(group_sequential_bounds(fractions, **options).upper, expected, atol=tolerance)


@pytest.mark.parametrize(
    ("alpha", "shape", "last"),
    [
        # Jennison & Turnbull (2000), Tables 2.1 (Pocock) and 2.3 (O'Brien-Fleming), for K = 2, 3, 4, 5.
        (0.05, 0.5, [2.178, 2.289, 2.361, 2.413]),
        (0.01, 0.5, [2.772, 2.873, 2.939, 2.986]),
        (0.10, 0.5, [1.875, 1.992, 2.067, 2.122]),
        (0.05, 0.0, [1.977, 2.004, 2.024, 2.040]),
        (0.01, 0.0, [2.580, 2.595, 2.609, 2.621]),
        (0.10, 0.0, [1.678, 1.710, 1.733, 1.751]),
    ],
)
def test_classic_constants(alpha, shape, last):
    found = [wang_tsiatis_bounds(k, alpha=alpha, shape=shape).upper[-1] for k in (2, 3, 4, 5)]
    np.testing.assert_allclose(found, last, atol=5.1e-4)


def test_armitage_mcpherson_rowe():
    """Repeated tests at 5% reject that often in all (Armitage, McPherson & Rowe 1969, Table 2)."""
    for looks, rate in ((1, 0.05), (2, 0.083), (3, 0.107), (5, 0.142), (10, 0.193), (50, 0.320)):
        bounds = wang_tsiatis_bounds(looks, shape=0.5)
        object.__setattr__(bounds, "upper", np.full(looks, stats.norm.isf(0.025)))
        assert abs(crossing_probabilities(bounds, 0.0).rejected.sum() - rate) < 5.1e-4


@pytest.mark.parametrize("drift", [-2.5, 2.0])
def test_crossing_is_the_multivariate_normal_law(drift):
    """Three looks, bounds for both errors: each region by scipy's integration of the joint law."""
    t = np.array([0.3, 0.35, 0.9])
    bounds = group_sequential_bounds(t, alternative="greater", futility="pocock", power=0.9)
    exits = crossing_probabilities(bounds, drift)
    mean, cov = drift * np.sqrt(t), np.sqrt(np.minimum.outer(t, t) / np.maximum.outer(t, t))

    def region(low, high):
        m = len(low)
        options = {"abseps": 1e-9, "releps": 1e-9, "maxpts": 500_000}
        return stats.multivariate_normal.cdf(high, mean[:m], cov[:m, :m], lower_limit=low, **options)

    for k in range(3):
        above = region([*bounds.lower[:k], bounds.upper[k]], [*bounds.upper[:k], np.inf])
        below = region([*bounds.lower[:k], -np.inf], [*bounds.upper[:k], bounds.lower[k]])
        np.testing.assert_allclose([exits.above[k], exits.futile[k]], [above, below], atol=2e-6)


def test_monte_carlo_two_sided_with_futility():
    bounds = group_sequential_bounds([0.1, 0.5, 1.0], spending="pocock", futility="pocock", binding=True)
    rng, n = np.random.default_rng(0), 400_000
    steps = rng.normal(size=(n, 3)) * np.sqrt(np.diff([0, *bounds.fraction])) + 2.0 * np.diff([0, *bounds.fraction])
    z = steps.cumsum(axis=1) / np.sqrt(bounds.fraction)
    going, lower = np.ones(n, bool), np.nan_to_num(bounds.lower, nan=-np.inf)
    exits = crossing_probabilities(bounds, 2.0)
    for k in range(3):
        for seen, expected in (
            (going & (z[:, k] >= bounds.upper[k]), exits.above[k]),
            (going & (z[:, k] <= -bounds.upper[k]), exits.below[k]),
            (going & (np.abs(z[:, k]) < lower[k]), exits.futile[k]),
        ):
            assert abs(seen.mean() - expected) < 4.5 * math.sqrt(expected / n) + 1e-9
        going &= (np.abs(z[:, k]) < bounds.upper[k]) & (np.abs(z[:, k]) >= lower[k])
    assert abs(exits.stopped.sum() - 1) < 1e-12


@pytest.mark.parametrize("spending", [ObrienFleming(), Pocock(), PowerFamily(3), HwangShihDeCani(0)])
@pytest.mark.parametrize("alternative", ["two-sided", "greater"])
def test_what_is_spent_is_what_is_crossed(spending, alternative):
    """The bounds spend the plan exactly, at close and at distant looks, and the total is alpha."""
    t = [0.01, 0.0102, 0.3, 0.31, 0.97, 1.0]
    bounds = group_sequential_bounds(t, spending=spending, alternative=alternative)
    sides = 2 if alternative == "two-sided" else 1
    plan = [sides * spending(x, 0.05 / sides) for x in t]
    spent = crossing_probabilities(bounds, 0.0).rejected.cumsum()
    np.testing.assert_allclose(spent, plan, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(bounds.alpha_spent, plan, rtol=1e-9, atol=1e-15)


def test_only_past_fractions_matter():
    whole = group_sequential_bounds(FIFTHS)
    np.testing.assert_allclose(group_sequential_bounds(FIFTHS[:3]).upper, whole.upper[:3], rtol=1e-12)


def test_binding_futility_lowers_the_bound_and_keeps_the_size():
    options = {"alternative": "greater", "alpha": 0.025, "futility": "pocock", "power": 0.9}
    loose, binding = (group_sequential_bounds(FIFTHS, **options, binding=b) for b in (False, True))
    assert (binding.upper <= loose.upper + 1e-12).all()
    assert binding.upper[-1] < loose.upper[-1] - 0.05
    assert abs(crossing_probabilities(binding, 0.0).rejected.sum() - 0.025) < 1e-12
    assert crossing_probabilities(loose, 0.0).rejected.sum() < 0.024


def test_tiny_spending_gives_far_or_infinite_bounds():
    bounds = group_sequential_bounds([1e-4, 0.002, 0.05, 1.0])
    assert bounds.upper[0] == math.inf  # 2 sf(224 standard deviations) is nothing
    assert np.isfinite(bounds.upper[2:]).all()
    assert abs(bounds.upper[-1] - stats.norm.isf(0.025)) < 1e-9
    late = group_sequential_bounds([0.2, 0.5, 1.0], spending=CustomSpending([0.5, 1.0], [0.0, 1.0]))
    assert late.upper[:2].tolist() == [math.inf, math.inf]
    assert abs(late.upper[2] - stats.norm.isf(0.025)) < 1e-12


def test_underrun_and_overrun_spend_the_rest():
    under = group_sequential_bounds([0.3, 0.8], final=True)
    over = group_sequential_bounds([0.3, 1.2])
    for bounds in (under, over):
        assert abs(bounds.alpha_spent[-1] - 0.05) < 1e-12
        assert abs(crossing_probabilities(bounds, 0.0).rejected.sum() - 0.05) < 1e-12
    assert group_sequential_bounds([0.3, 1.0, 1.2]).upper[-1] == math.inf  # nothing was left


def test_fifty_looks():
    bounds = group_sequential_bounds(np.arange(1, 51) / 50)
    assert abs(crossing_probabilities(bounds, 0.0).rejected.sum() - 0.05) < 1e-12
    assert (np.diff(bounds.upper) < 0).all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: group_sequential_bounds([]), ["none", "[0.25, 0.5, 1]"]),
        (lambda: group_sequential_bounds([0.5, 0.5]), ["0.5, 0.5", "new data"]),
        (lambda: group_sequential_bounds([0.5, 0.5 + 1e-9]), ["too close", "AlwaysValid"]),
        (lambda: group_sequential_bounds([0.5], alpha=1.0), ["alpha is 1.0"]),
        (lambda: group_sequential_bounds([0.5], alternative="more"), ["'more'", "two-sided"]),
        (lambda: group_sequential_bounds([0.5], spending="obrien"), ["'obrien'", "Did you mean 'obrien-fleming'"]),
        (lambda: group_sequential_bounds([0.5], spending="power"), ["PowerFamily(rho=2)"]),
        (lambda: group_sequential_bounds([0.5], futility="pocock", drift=-1.0), ["drift is -1.0"]),
        (lambda: crossing_probabilities(group_sequential_bounds([1.0]), math.inf), ["drift is inf"]),
        (lambda: wang_tsiatis_bounds(0), ["n_looks is 0"]),
        (lambda: HwangShihDeCani(100.0), ["gamma is 100.0"]),
        (lambda: PowerFamily(0.0), ["rho is 0.0"]),
        (lambda: CustomSpending([0.5, 0.4], [0.1, 1.0]), ["0.5, 0.4", "CustomSpending("]),
        (lambda: CustomSpending([0.5, 1.0], [0.6, 0.9]), ["0.6, 0.9"]),
    ],
)  # fmt: skip
def test_refusals_say_what_to_do(make, words):
    with pytest.raises(CausalRecError) as caught:
        make()
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_prints_for_people():
    text = str(group_sequential_bounds([0.5, 1.0], futility="pocock", power=0.9))
    assert "Stop at look k if the statistic is beyond its bound either way" in text
    assert "50.0%" in text
    assert "2.963" in text
