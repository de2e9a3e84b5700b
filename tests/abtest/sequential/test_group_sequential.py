"""GroupSequential as an inference of any estimate: bounds, p-values, size and power."""

import math

import numpy as np
import pytest
from scipy import stats

from causalrec.abtest import (
    Equivalence,
    Estimate,
    FixedHorizon,
    GroupSequential,
    HwangShihDeCani,
    NonInferiority,
    PowerFamily,
    Superiority,
    design_group_sequential,
    group_sequential_bounds,
    infer,
)
from causalrec.abtest.estimation.estimates import difference
from causalrec.abtest.estimation.scores import Names, Stratum
from causalrec.exceptions import CausalRecError
from causalrec.moments import Moments

Z = Estimate(10.0, 10.6, 0.02, 0.02, 0.0, math.inf, 500, 500, "z")
LOOKS = [(1.0,), (0.3,), (0.25, 0.5), (0.1, 0.11, 0.7, 1.0), tuple(np.arange(1, 11) / 10)]


@pytest.mark.parametrize("looks", LOOKS)
@pytest.mark.parametrize("spending", ["obrien-fleming", "pocock", PowerFamily(2)])
@pytest.mark.parametrize("two_sided", [True, False])
def test_rejects_just_where_the_bound_is_crossed(looks, spending, two_sided):
    plan = GroupSequential(looks, spending)
    sides = "two-sided" if two_sided else "greater"
    for size in (1e-6, 1e-3, 0.01, 0.05, 0.2, 0.4):
        bound = plan.critical(Z, size, two_sided=two_sided)
        exact = group_sequential_bounds(looks, alpha=size, alternative=sides, spending=plan.spending).upper[-1]
        assert abs(bound - exact) < 1e-6
        beyond, within = (plan.pvalue(Z, bound * (1 + e), two_sided=two_sided) for e in (1e-9, -1e-9))
        assert beyond < size < within


@pytest.mark.parametrize("two_sided", [True, False])
def test_pvalues_fall_from_one_to_nothing(two_sided):
    for looks in LOOKS:
        plan = GroupSequential(looks, "pocock")
        distances = [*np.linspace(-3, 9, 400), 20.0, 37.0, 60.0]
        found = np.array([plan.pvalue(Z, d, two_sided=two_sided) for d in distances if d > 0 or not two_sided])
        assert (np.diff(found) <= 0).all()
        assert 0 <= found[-1] < 1e-300
        assert found[0] <= 1


@pytest.mark.parametrize("looks", [(0.3, 0.6, 1.0), (0.2, 0.5, 0.8)])
@pytest.mark.parametrize("two_sided", [True, False])
def test_tiny_pvalues_go_with_their_bounds(looks, two_sided):
    plan = GroupSequential(looks)
    for size in (1e-8, 1e-10, 1e-14):  # beyond the table
        bound = plan.critical(Z, size, two_sided=two_sided)
        assert plan.pvalue(Z, bound, two_sided=two_sided) == pytest.approx(size, rel=1e-6)
    assert plan.pvalue(Z, 30.0, two_sided=two_sided) < 1e-100


def test_one_look_at_the_end_is_the_fixed_test():
    plan = GroupSequential([1.0])
    t = Estimate(10.0, 10.6, 0.02, 0.02, 0.0, 12.0, 7, 7, "t")
    for estimate in (Z, t):
        for two_sided in (True, False):
            for distance in (-0.3, 0.4, 2.2, 9.0):
                ours, fixed = (w.pvalue(estimate, distance, two_sided=two_sided) for w in (plan, FixedHorizon()))
                assert math.isclose(ours, fixed, rel_tol=1e-9)
            ours, fixed = (w.critical(estimate, 0.03, two_sided=two_sided) for w in (plan, FixedHorizon()))
            assert math.isclose(ours, fixed, rel_tol=1e-12)


def test_a_bound_of_t_has_the_nominal_p_of_the_normal_one():
    t = Estimate(10.0, 10.6, 0.02, 0.02, 0.0, 20.0, 11, 11, "t")
    plan = GroupSequential([0.25, 0.5])
    z, bound = (plan.critical(e, 0.05, two_sided=True) for e in (Z, t))
    assert math.isclose(stats.t.sf(bound, 20), stats.norm.sf(z), rel_tol=1e-9)
    assert plan.pvalue(t, bound * 1.000001, two_sided=True) < 0.05 < plan.pvalue(t, bound * 0.999999, two_sided=True)


def test_interval_and_pvalue_agree_for_every_hypothesis():
    plan = GroupSequential([0.25, 0.5], "pocock")
    for hypothesis in (
        Superiority(),
        Superiority("less"),
        Superiority("greater"),
        NonInferiority(0.1),
        Equivalence(1.0),
    ):
        for level in (0.9, 0.99):
            found = infer(Z, metric="m", control="A", treatment="B", hypothesis=hypothesis, confidence_level=level,
                          inference=plan)  # fmt: skip
            low, high = found.ci_low, found.ci_high
            inside = low > 0 or high < 0
            if isinstance(hypothesis, NonInferiority):
                inside = low > -0.1
            elif isinstance(hypothesis, Equivalence):
                inside = low > -1 and high < 1
            assert (found.pvalue < 1 - level) == inside
            assert found.inference == "group sequential"
    assert "group sequential, look 2 at 50.0% of the information, Pocock spending" in found.method


def test_nothing_to_spend_rejects_nothing():
    plan = GroupSequential([0.2, 0.3], lambda t, alpha: alpha * float(t >= 0.5))
    assert plan.critical(Z, 0.05, two_sided=True) == math.inf
    assert plan.pvalue(Z, 50.0, two_sided=True) == 1.0
    found = infer(Z, metric="m", control="A", treatment="B", inference=plan)
    assert (found.ci_low, found.ci_high, found.pvalue) == (-math.inf, math.inf, 1.0)


def test_looks_from_units_and_futility():
    plan = GroupSequential.at(5_000, n_max=10_000, previous=[2_000], spending=HwangShihDeCani(-4), futility="pocock")
    assert (plan.fractions, plan.look, plan.ended) == ((0.2, 0.5), 2, False)
    bounds = group_sequential_bounds(
        [0.2, 0.5], alternative="greater", alpha=0.025, spending=HwangShihDeCani(-4), futility="pocock"
    )
    assert math.isclose(plan.futility_bound(0.025, two_sided=False), bounds.lower[-1])
    assert math.isnan(GroupSequential([0.5]).futility_bound())
    assert hash(plan) == hash(GroupSequential.at(5_000, n_max=10_000, previous=[2_000], spending=HwangShihDeCani(-4),
                                                 futility="pocock"))  # fmt: skip
    binding = GroupSequential([0.3, 0.6, 1.0], "pocock", futility="pocock", binding=True)
    for size in (0.025, 0.05):
        exact = group_sequential_bounds(
            [0.3, 0.6, 1.0], alpha=size, alternative="greater", spending="pocock", futility="pocock", binding=True
        )
        bound = binding.critical(Z, size, two_sided=False)
        assert abs(bound - exact.upper[-1]) < 1e-5
        assert binding.pvalue(Z, bound * 1.00001, two_sided=False) < size


def scores(rng, n):
    """Users with a correlated value before, and a ratio's two parts."""
    before = rng.exponential(1.0, n)
    views = 1 + rng.poisson(before)
    clicks = rng.binomial(views, 0.3)
    return np.column_stack([clicks, views, before])


KINDS = {
    "mean": (["value"], [0], ()),
    "CUPED": (["value", "before"], [0, 2], ("before",)),
    "ratio": (["value", "den"], [0, 1], ()),
}


def crossings(kind, looks, plans, n_max, runs, seed, lift=0.0):
    """Share of runs in which a look crosses, by looking until one does."""
    names, columns, covariates = KINDS[kind]
    rng, crossed = np.random.default_rng(seed), 0
    for _ in range(runs):
        arms = [scores(rng, n_max)[:, columns].astype(float) for _ in range(2)]
        arms[1][:, 0] += lift
        for n, plan in zip(looks, plans, strict=True):
            moments = [Moments.from_array(arm[:n], names) for arm in arms]
            estimate = difference([Stratum("", *moments)], Names("m", "A", "B"), covariates=covariates)
            result = infer(estimate, metric="m", control="A", treatment="B", inference=plan)
            if result.pvalue < 0.05:
                crossed += 1
                break
    return crossed


def planned(looks, n_max, **options):
    return [GroupSequential.at(n, n_max=n_max, previous=looks[:k], **options) for k, n in enumerate(looks)]


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("looks", [[200, 400, 600, 800], [130, 150, 700, 800]], ids=["planned", "unplanned"])
def test_size(kind, looks):
    """False alarms at four looks of skewed data are binomial around 5%."""
    runs = 400
    crossed = crossings(kind, looks, planned(looks, 800, spending="pocock"), 800, runs, seed=1)
    assert stats.binomtest(crossed, runs, 0.05).pvalue > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("looks", [[200, 400, 600, 800], [130, 150, 700, 800]], ids=["planned", "unplanned"])
def test_size_of_many_runs(kind, looks):
    runs = 2_000
    crossed = crossings(kind, looks, planned(looks, 800), 800, runs, seed=2)
    assert stats.binomtest(crossed, runs, 0.05).pvalue > 1e-3


def test_power_as_designed():
    """Normal means: power, and where it stops, as the design says."""
    design = design_group_sequential(n_looks=4, power=0.8, spending="pocock")
    runs, rng = 20_000, np.random.default_rng(3)
    step = design.drift / 4 + rng.normal(size=(runs, 4)) / 2
    z = step.cumsum(axis=1) / np.sqrt(design.fraction)
    crossed = z >= design.upper
    first = np.where(crossed.any(axis=1), crossed.argmax(axis=1), -1)
    assert stats.binomtest(int((first >= 0).sum()), runs, 0.8).pvalue > 1e-3
    for k in range(4):
        assert stats.binomtest(int((first == k).sum()), runs, design.efficacy_alternative[k]).pvalue > 1e-4


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GroupSequential([0.5, 0.4]), ["0.5, 0.4", "new data"]),
        (lambda: GroupSequential([0.5], "obf"), ["'obf'"]),
        (lambda: GroupSequential([0.5], binding=True), ["futility"]),
        (lambda: GroupSequential([0.5], power=1.0), ["power is 1.0"]),
        (lambda: GroupSequential([0.5], futility="pocock", drift=0.0), ["drift is 0.0"]),
        (lambda: GroupSequential.at(100, n_max=0), ["n_max is 0"]),
        (lambda: GroupSequential.at(100, n_max=1000, previous=[200]), ["200, 100", "new units"]),
        (lambda: GroupSequential([0.2, 0.5]).critical(Z, 0.0, two_sided=True), ["size is 0.0"]),
    ],
)
def test_refusals(make, words):
    with pytest.raises(CausalRecError) as caught:
        make()
    assert all(word in str(caught.value) for word in words), str(caught.value)
