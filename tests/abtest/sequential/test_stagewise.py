"""Stagewise ordering against the multivariate normal law, and by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from causalrec.abtest import (
    Equivalence,
    Estimate,
    GroupSequential,
    NonInferiority,
    Superiority,
    group_sequential_bounds,
    infer,
    stagewise_analysis,
)
from causalrec.abtest.sequential.stagewise import _drift_with, stagewise_tails
from causalrec.exceptions import CausalRecError


def result_of(effect, plan, hypothesis=Superiority(), *, level=0.95, df=math.inf, error=0.2):  # noqa: B008
    half = error**2 / 2
    estimate = Estimate(10.0, 10.0 + effect, half, half, 0.0, df, 500, 500, "z")
    return infer(estimate, metric="orders", control="A", treatment="B", hypothesis=hypothesis, confidence_level=level,
                 inference=plan)  # fmt: skip


@pytest.mark.parametrize("drift", [0.0, 1.7])
def test_tails_are_those_of_the_joint_law(drift):
    """Second of two looks: P(Z1 >= u) + P(l < Z1 < u, Z2 >= z), by the bivariate normal law."""
    t, z, upper, lower = [0.4, 0.7], 1.9, 2.6, 0.1
    mean, r = drift * np.sqrt(t), math.sqrt(t[0] / t[1])
    law = {"mean": mean, "cov": [[1, r], [r, 1]]}
    first = stats.norm.sf(upper - mean[0])
    for options, low in (({"two_sided": True}, -upper), ({"two_sided": False}, -np.inf),
                         ({"two_sided": False, "lower": [lower]}, lower)):  # fmt: skip
        tails = stagewise_tails(z, t, [upper], drift=drift, **options)
        later = stats.multivariate_normal.cdf([upper, np.inf], lower_limit=[low, z], **law)
        assert abs(tails.high - first - later) < 1e-7
        assert abs(tails.high + tails.low - 1) < 1e-12


def test_at_the_first_look_it_is_the_fixed_analysis():
    found = stagewise_analysis(result_of(1.0, GroupSequential([0.3])), GroupSequential([0.3]))
    assert math.isclose(found.pvalue, 2 * stats.norm.sf(5), rel_tol=1e-9)
    half = stats.norm.isf(0.025) * 0.2
    np.testing.assert_allclose([found.estimate, found.ci_low, found.ci_high], [1, 1 - half, 1 + half], rtol=1e-8)


def test_without_bounds_before_it_is_the_fixed_analysis():
    """A plan that spends nothing early is a test with one look."""
    plan = GroupSequential([0.4, 1.0], lambda t, alpha: alpha * float(t >= 1))
    found = stagewise_analysis(result_of(0.3, plan), plan)
    half = stats.norm.isf(0.025) * 0.2
    np.testing.assert_allclose([found.estimate, found.ci_low, found.ci_high], [0.3, 0.3 - half, 0.3 + half], rtol=1e-8)
    assert math.isclose(found.pvalue, 2 * stats.norm.sf(1.5), rel_tol=1e-9)


@pytest.mark.parametrize("two_sided", [True, False])
def test_below_alpha_just_where_the_bound_is_crossed(two_sided):
    looks = [0.25, 0.5, 0.75, 1.0]
    sides = "two-sided" if two_sided else "greater"
    bounds = group_sequential_bounds(looks, spending="pocock", alternative=sides)
    for k in range(4):
        for z, rejected in ((bounds.upper[k] + 1e-6, True), (bounds.upper[k] - 1e-6, False)):
            tail = stagewise_tails(z, looks[: k + 1], list(bounds.upper), two_sided=two_sided).high
            p = 2 * tail if two_sided else tail
            assert p <= bounds.alpha_spent[k] + 1e-6
            if k == 3:  # at the end all is spent; before it only crossing stops
                assert (p < 0.05) == rejected


def test_simulated_coverage_median_and_uniform_pvalues():
    """Stops by lot of the data: intervals cover 95%, the estimate is too high half of the time, p is uniform."""
    looks = [0.2, 0.5, 1.0]
    plan = group_sequential_bounds(looks, spending="pocock")
    upper, rng, runs = list(plan.upper), np.random.default_rng(0), 20_000
    for drift in (0.0, 2.0):
        gaps = np.diff([0, *looks])
        z = (rng.normal(size=(runs, 3)) * np.sqrt(gaps) + drift * gaps).cumsum(axis=1) / np.sqrt(looks)
        stop = np.where((np.abs(z) >= plan.upper).any(axis=1), (np.abs(z) >= plan.upper).argmax(axis=1), 2)
        last = z[np.arange(runs), stop]
        # The tail rises with the statistic, so coverage is that of the statistics between two limits at each look.
        low, middle, high = np.zeros(runs, bool), np.zeros(runs, bool), np.zeros(runs, bool)
        for k in range(3):
            here = stop == k
            grid = np.linspace(last[here].min() - 0.01, last[here].max() + 0.01, 300)
            tails = [stagewise_tails(x, looks[: k + 1], upper, drift=drift).high for x in grid]
            p = np.interp(last[here], grid, tails)
            low[here], middle[here], high[here] = p <= 0.025, p <= 0.5, p >= 0.975
        for seen, rate in ((low, 0.025), (middle, 0.5), (high, 0.025)):
            assert stats.binomtest(int(seen.sum()), runs, rate).pvalue > 1e-3


def test_limits_invert_the_tails():
    looks, upper = [0.3, 0.6, 1.0], [2.9, 2.5, 2.1]
    for two_sided in (True, False):
        for z in (-1.0, 0.4, 2.3, 6.0):
            for q in (0.025, 0.5, 0.975):
                drift = _drift_with(q, z, looks, upper, None, two_sided=two_sided)
                assert abs(stagewise_tails(z, looks, upper, drift=drift, two_sided=two_sided).high - q) < 1e-8


def test_estimate_is_shrunk_and_turns_with_the_sign():
    plan = GroupSequential([0.25, 0.5, 1.0], "pocock")
    up, down = (stagewise_analysis(result_of(e, plan), plan) for e in (0.5, -0.5))
    assert 0 < up.estimate < 0.5
    np.testing.assert_allclose([up.estimate, up.ci_low, up.ci_high, up.pvalue],
                               [-down.estimate, -down.ci_high, -down.ci_low, down.pvalue], rtol=1e-6)  # fmt: skip
    assert up.rejected
    assert up.repeated_ci_high - up.repeated_ci_low > up.ci_high - up.ci_low
    assert "orders: B − A stopped at look 3 (100% of the information), the null is rejected" in str(up)


def test_one_sided_and_non_inferior():
    plan = GroupSequential([0.5, 1.0], "pocock")
    less = stagewise_analysis(result_of(-0.5, plan, Superiority("less")), plan)
    greater = stagewise_analysis(result_of(0.5, plan, Superiority("greater")), plan)
    assert (less.ci_low, greater.ci_high) == (-math.inf, math.inf)
    np.testing.assert_allclose([less.ci_high, less.pvalue], [-greater.ci_low, greater.pvalue], rtol=1e-6)
    safe = stagewise_analysis(result_of(0.1, plan, NonInferiority(0.4)), plan)
    np.testing.assert_allclose([safe.pvalue, safe.ci_low], [greater.pvalue, greater.ci_low - 0.4], rtol=1e-6)
    assert safe.alternative == "greater"


def test_futility_stops_too():
    loose = GroupSequential([0.3, 0.6], futility="pocock", power=0.9)
    found = stagewise_analysis(result_of(0.01, loose, Superiority("greater")), loose)
    assert not found.rejected
    assert found.pvalue > 0.4
    binding = GroupSequential([0.3, 0.6], futility="pocock", power=0.9, binding=True)
    obeyed = stagewise_analysis(result_of(0.01, binding, Superiority("greater")), binding)
    assert obeyed.pvalue < found.pvalue  # paths below the bound cannot come back to count


def test_t_statistics():
    plan = GroupSequential([0.5, 1.0])
    few = stagewise_analysis(result_of(0.6, plan, df=10.0), plan)
    many = stagewise_analysis(result_of(0.6, plan), plan)
    assert few.pvalue > many.pvalue
    assert math.isclose(stats.norm.sf(few.statistic), stats.t.sf(3, 10), rel_tol=1e-9)


@pytest.mark.parametrize(
    ("plan", "options", "words"),
    [
        (GroupSequential([0.5]), {"effect": 0.1}, ["does not cross", "final=True"]),
        (GroupSequential([0.5, 1.0]), {"effect": 0.1, "hypothesis": Equivalence(1.0)}, ["equivalence"]),
        (GroupSequential([1.0], futility="pocock", binding=True), {"effect": 1.0}, ["binding=False"]),
    ],
)
def test_refusals(plan, options, words):
    with pytest.raises(CausalRecError) as caught:
        stagewise_analysis(result_of(plan=plan, **options), plan)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_needs_the_same_inference():
    fixed = infer(Estimate(10.0, 11.0, 0.02, 0.02, 0.0, math.inf, 500, 500, "z"), metric="m", control="A",
                  treatment="B")  # fmt: skip
    with pytest.raises(CausalRecError, match="fixed horizon"):
        stagewise_analysis(fixed, GroupSequential([1.0]))
