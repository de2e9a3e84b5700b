"""Always valid inference: published values, the inverse of critical value and p-value, false alarms by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from causalrec.abtest import (
    AlwaysValid,
    Estimate,
    FixedHorizon,
    NonInferiority,
    Superiority,
    confidence_sequence,
    infer,
    mixture_sprt,
)
from causalrec.abtest.estimation.estimates import difference
from causalrec.abtest.estimation.scores import Names, Stratum
from causalrec.abtest.sequential.always_valid import mixture_rho2
from causalrec.exceptions import CausalRecError, OutcomeError
from causalrec.moments import Moments

NAMES = Names("spend", "A", "B")


def arm_of(n, total, squares):
    mean = total / n
    return mean, (squares - n * mean**2) / (n - 1) / n


def estimate_of(control, treatment, n):
    return Estimate(control[0], treatment[0], control[1], treatment[1], 0.0, math.inf, *n, "z")


def sized(n, share=0.5):
    n1 = round(n * share)
    return Estimate(10.0, 10.4, 0.02, 0.02, 0.0, math.inf, n - n1, n1, "z")


GROWTHBOOK = estimate_of(arm_of(3000, 1396.87, 52377.9767), arm_of(3461, 2422.7, 134698.29), (3000, 3461))
P, Q = 1396 / 3000, 2422 / 3461
SHARES = estimate_of((P, P * (1 - P) / 3000), (Q, Q * (1 - Q) / 3461), (3000, 3461))


def ask(estimate, inference, **options):
    return infer(estimate, metric="m", control="A", treatment="B", relative="delta", inference=inference, **options)


class TestPublishedValues:
    """growthbook's gbstats, tests/frequentist/test_tests.py."""

    def test_relative_interval(self):
        found = ask(GROWTHBOOK, AlwaysValid(1_000))
        assert (round(found.relative_ci_low, 5), round(found.relative_ci_high, 5)) == (-0.55844, 1.56516)
        assert found.pvalue == 1.0

    def test_shares(self):
        found = ask(SHARES, AlwaysValid(5_000))
        assert (round(found.relative_ci_low, 5), round(found.relative_ci_high, 5)) == (0.40098, 0.60675)

    def test_one_sided(self):
        found = ask(GROWTHBOOK, AlwaysValid(5_000), hypothesis=Superiority("greater"))
        assert found.ci_low == pytest.approx(-0.12656844172804982, abs=1e-14)
        assert found.ci_high == math.inf
        assert found.pvalue == pytest.approx(0.46316491943359384, abs=1.3e-4)  # theirs stops its bisection there
        closer = AlwaysValid(5_000).critical(GROWTHBOOK, found.pvalue, two_sided=False)
        assert closer == pytest.approx(found.statistic, abs=1e-12)


class TestInverse:
    @settings(max_examples=150, deadline=None)
    @given(st.integers(40, 10**9), st.integers(1, 10**8), st.floats(-299, -0.02), st.booleans())
    def test_pvalue_is_the_size_at_which_the_distance_is_critical(self, n, n_tuning, exponent, two_sided):
        size = 10.0**exponent
        ways, estimate = AlwaysValid(n_tuning), sized(n)
        distance = ways.critical(estimate, size, two_sided=two_sided)
        assert ways.pvalue(estimate, distance, two_sided=two_sided) == pytest.approx(size, rel=1e-9)
        assert ways.pvalue(estimate, distance * (1 + 1e-10), two_sided=two_sided) < size
        assert ways.pvalue(estimate, distance * (1 - 1e-10), two_sided=two_sided) > size
        if two_sided:
            assert ways.pvalue(estimate, -distance, two_sided=True) == pytest.approx(size, rel=1e-9)

    def test_ends(self):
        ways, estimate = AlwaysValid(), sized(10_000)
        for two_sided in (True, False):
            assert ways.pvalue(estimate, 0.0, two_sided=two_sided) == 1
            assert ways.pvalue(estimate, 1e9, two_sided=two_sided) == 0
            assert math.isnan(ways.pvalue(estimate, math.nan, two_sided=two_sided))
        assert ways.pvalue(estimate, -50.0, two_sided=False) == 1
        assert 0 < ways.pvalue(estimate, 39.0, two_sided=True) < 1e-290

    @pytest.mark.parametrize("size", [0.001, 0.05, 0.2])
    def test_boundary_is_lowest_near_n_tuning(self, size):
        ways = AlwaysValid(10_000, tuning_size=size)
        width = {n: ways.critical(sized(n), size, two_sided=True) / math.sqrt(n) for n in (5_000, 10_000, 20_000)}
        best = AlwaysValid(10_000, tuning_size=size * 1.3), AlwaysValid(10_000, tuning_size=size / 1.3)
        assert list(width.values()) == sorted(width.values(), reverse=True)
        for other in best:
            assert other.critical(sized(10_000), size, two_sided=True) > 0.9999 * width[10_000] * 100

    def test_width_against_the_fixed_test(self):
        for n, times in ((2_000, 1.72), (10_000, 1.55), (100_000, 1.65)):
            assert AlwaysValid().critical(sized(n), 0.05, two_sided=True) / 1.959964 == pytest.approx(times, abs=0.006)

    @pytest.mark.parametrize("n", [100, 10_000, 10**6])
    def test_one_side_against_the_exact_mixture_of_positive_effects(self, n):
        ways, estimate = AlwaysValid(), sized(n)
        x = n * mixture_rho2(10_000, 0.1)
        for size in (0.001, 0.01, 0.05):
            d = ways.critical(estimate, size, two_sided=False)

            def log_mixture(d):
                return math.log(2) + stats.norm.logcdf(d * math.sqrt(x / (1 + x))) + d * d * x / (2 + 2 * x)

            enough = math.log1p(x) / 2 - math.log(size)
            assert log_mixture(d) >= enough > log_mixture(0.98 * d)


class TestMixtureSprt:
    def test_the_same_with_tau_from_rho(self):
        estimate, ways = sized(6_000), AlwaysValid()
        s = estimate.std_error
        tau = math.sqrt(6_000 * mixture_rho2(10_000, 0.05)) * s
        for d in (0.0, 1.0, 3.0, 8.0):
            assert mixture_sprt(d * s, s, tau=tau) == pytest.approx(ways.pvalue(estimate, d, two_sided=True), rel=1e-12)

    def test_is_one_over_the_integrated_likelihood_ratio(self):
        from scipy.integrate import quad

        effect, s, tau, null = 0.3, 0.1, 0.2, 0.05
        top = quad(lambda m: stats.norm.pdf(effect, m, s) * stats.norm.pdf(m, null, tau), -3, 3, points=[0.3])[0]
        assert mixture_sprt(effect, s, tau=tau, null=null) == pytest.approx(stats.norm.pdf(effect, null, s) / top)

    def test_refused(self):
        with pytest.raises(CausalRecError, match="tau is 0"):
            mixture_sprt(1.0, 1.0, tau=0.0)
        with pytest.raises(CausalRecError, match="above 0"):
            mixture_sprt([1.0], [0.0], tau=1.0)


class TestFewUnits:
    def test_no_answer(self):
        ways = AlwaysValid()
        few = sized(38)
        found = ask(few, ways)
        assert (found.ci_low, found.ci_high, found.pvalue) == (-math.inf, math.inf, 1.0)
        assert "no answer yet: 19 units in the smaller arm, 20 needed" in found.method
        assert math.isfinite(ways.critical(sized(40), 0.05, two_sided=True))
        for relative in ("fieller", "delta", "log"):
            shown = infer(few, metric="m", control="A", treatment="B", relative=relative, inference=ways)
            assert not math.isfinite(shown.relative_ci_high)

    def test_unequal_arms_need_more(self):
        needed = 20 * 49 * (8 / 9) ** 2 / (10 / 9)
        assert AlwaysValid().pvalue(sized(6_900, 0.1), 9.0, two_sided=True) == 1  # 690 in treatment
        assert needed == pytest.approx(696.9, abs=0.1)
        assert AlwaysValid().pvalue(sized(7_000, 0.1), 9.0, two_sided=True) < 1e-6
        assert AlwaysValid(skewness=0).pvalue(sized(400, 0.1), 39.0, two_sided=True) < 1

    @pytest.mark.parametrize("wrong", [{"n_tuning": 0}, {"n_tuning": math.nan}, {"tuning_size": 0.5},
                                       {"min_units": 1}, {"skewness": -1.0}])  # fmt: skip
    def test_refused(self, wrong):
        with pytest.raises(CausalRecError, match=next(iter(wrong))):
            AlwaysValid(**wrong)


class TestConfidenceSequence:
    @pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
    def test_is_the_interval_of_always_valid(self, alternative):
        estimate = sized(6_000)
        found = ask(estimate, AlwaysValid(2_000), hypothesis=Superiority(alternative))
        low, high = confidence_sequence(estimate.effect, estimate.std_error * math.sqrt(6_000), [6_000], n_tuning=2_000,
                                        alternative=alternative)  # fmt: skip
        assert [low[0], high[0]] == pytest.approx([found.ci_low, found.ci_high], abs=1e-12)

    def test_refused(self):
        for wrong in ({"mean": math.nan}, {"std": -1.0}, {"n": 0}):
            with pytest.raises(OutcomeError, match="finite"):
                confidence_sequence(**{"mean": 0.0, "std": 1.0, "n": 10, **wrong})
        with pytest.raises(CausalRecError, match=r"above 0\.5"):
            confidence_sequence(0.0, 1.0, 10, alternative="less", confidence_level=0.4)
        with pytest.raises(CausalRecError, match="n_tuning"):
            confidence_sequence(0.0, 1.0, 10, n_tuning=0)


# False alarms with a look after every unit. Effects and variances of all prefixes at once, from cumulative moments;
# some prefixes are compared with the estimates of the library.


def prefixes(columns, treated):
    """Means and covariances of the columns (simulations, units, p) in both arms, after every unit."""
    found = []
    for arm in (~treated, treated):
        n = np.cumsum(arm, axis=1)
        seen = columns * arm[..., None]
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = np.cumsum(seen, axis=1) / n[..., None]
            cross = np.cumsum(seen[..., :, None] * columns[..., None, :], axis=1) / n[..., None, None]
            cov = (cross - mean[..., :, None] * mean[..., None, :]) * (n / (n - 1))[..., None, None]
        found.append((n, mean, cov))
    return found


def linear(arms, gradients):
    """Effect and variance of the difference of smooth functions with these values and gradients per arm."""
    (value0, g0), (value1, g1) = gradients
    variances = [np.einsum("snp,snpq,snq->sn", g, cov, g) / n for (n, _, cov), g in zip(arms, (g0, g1), strict=True)]
    return value1 - value0, variances[0] + variances[1]


def mean_distance(columns, treated):
    arms = prefixes(columns[..., :1], treated)
    return linear(arms, [(m[..., 0], np.ones_like(m)) for _, m, _ in arms])


def ratio_distance(columns, treated):
    arms = prefixes(columns[..., :2], treated)
    parts = []
    for _, m, _ in arms:
        with np.errstate(divide="ignore", invalid="ignore"):
            r = m[..., 0] / m[..., 1]
            parts.append((r, np.stack([1 / m[..., 1], -r / m[..., 1]], axis=-1)))
    return linear(arms, parts)


def cuped_distance(columns, treated):
    arms = prefixes(columns[..., :2], treated)
    (n0, _, c0), (n1, _, c1) = arms
    with np.errstate(divide="ignore", invalid="ignore"):
        theta = (c0[..., 0, 1] / n0 + c1[..., 0, 1] / n1) / (c0[..., 1, 1] / n0 + c1[..., 1, 1] / n1)
    g = np.stack([np.ones_like(theta), -theta], axis=-1)
    return linear(arms, [(m[..., 0] - theta * m[..., 1], g) for _, m, _ in arms])


def skewed(rng, size):
    taste = rng.gamma(1.0, 1.0, size)
    return np.stack([taste * rng.exponential(1.0, size), taste], axis=-1)


def clusters(rng, size):
    """Sums over the rows of a cluster, and their number."""
    rows = 1 + rng.poisson(3.0, size)
    return np.stack([rows * rng.gamma(1.0, 1.0, size) + rng.normal(0, 1, size) * np.sqrt(rows), rows], axis=-1)


CASES = {
    "mean": (mean_distance, skewed, ()),
    "ratio": (ratio_distance, clusters, ()),
    "cuped": (cuped_distance, skewed, ("x",)),
}


def false_alarms(family, *, n_simulations, n_units, seed, side="two-sided", shift=0.0, share=0.5, n_tuning=1_000):
    """Simulations with an alarm of the always valid and of the fixed test; ``shift`` moves the null."""
    distance, draw, _ = CASES[family]
    rng = np.random.default_rng(seed)
    two_sided, alarms = side == "two-sided", np.zeros(2, dtype=int)
    ways = AlwaysValid(n_tuning)
    for start in range(0, n_simulations, 100):
        size = (min(100, n_simulations - start), n_units)
        columns, treated = draw(rng, size), rng.random(size) < share
        columns[treated, 0] += shift
        effect, variance = distance(columns, treated)
        with np.errstate(divide="ignore", invalid="ignore"):
            z = (effect - shift) / np.sqrt(variance)
        z = np.abs(z) if two_sided else z
        n1 = np.cumsum(treated, axis=1)
        n0 = np.cumsum(~treated, axis=1)
        smaller, larger = np.minimum(n0, n1), np.maximum(n0, n1)
        r = smaller / larger
        known = smaller >= np.maximum(20, 980 * (1 - r) ** 2 / (1 + r))
        n = np.arange(1, n_units + 1)
        bounds = np.array([ways.critical(sized(max(k, 40)), 0.05, two_sided=two_sided) for k in n])
        assert ways.critical(sized(n_units), 0.05, two_sided=two_sided) == bounds[-1]
        alarms += [(known & (z > bound)).any(axis=1).sum() for bound in (bounds, 1.96 if two_sided else 1.645)]
    return alarms


@pytest.mark.parametrize("family", CASES)
def test_prefixes_are_the_estimates_of_the_library(family):
    distance, draw, covariates = CASES[family]
    rng = np.random.default_rng(5)
    columns, treated = draw(rng, (1, 400)), rng.random((1, 400)) < 0.5
    effect, variance = distance(columns, treated)
    names = {"mean": ["value"], "ratio": ["value", "rows"], "cuped": ["value", "x"]}[family]
    for n in (60, 200, 400):
        arms = [Moments.from_array(columns[0, :n][arm[0, :n], : len(names)], names) for arm in (~treated, treated)]
        found = difference([Stratum("", *arms)], NAMES, covariates=covariates)
        assert found.effect == pytest.approx(effect[0, n - 1], rel=1e-9)
        # With covariates the library adds what is known of theta's own error.
        assert found.variance == pytest.approx(variance[0, n - 1], rel=0.1 if covariates else 1e-9)


def at_most(count, n, alpha=0.05):
    return stats.binomtest(int(count), n, alpha, alternative="greater").pvalue > 1e-4


@pytest.mark.parametrize("family", CASES)
def test_false_alarms_with_a_look_after_every_unit(family):
    always, fixed = false_alarms(family, n_simulations=300, n_units=1_000, seed=1)
    assert at_most(always, 300)
    assert fixed > 0.25 * 300


@pytest.mark.parametrize(("side", "shift"), [("greater", 0.0), ("greater", -0.1)])
def test_false_alarms_of_one_side_and_at_the_margin_of_non_inferiority(side, shift):
    always, fixed = false_alarms("mean", n_simulations=300, n_units=1_000, seed=2, side=side, shift=shift)
    assert at_most(always, 300)
    assert fixed > 0.12 * 300


@pytest.mark.slow
@pytest.mark.parametrize("family", CASES)
@pytest.mark.parametrize("n_tuning", [100, 1_000])
@pytest.mark.parametrize("share", [0.5, 0.2])
def test_false_alarms_of_many_simulations(family, n_tuning, share):
    always, fixed = false_alarms(family, n_simulations=1_500, n_units=3_000, seed=3, n_tuning=n_tuning, share=share)
    assert at_most(always, 1_500)
    assert fixed > (0.2 if share == 0.5 else 0.08) * 1_500  # looks start later where arms are unequal


def test_non_inferiority_is_one_sided():
    found = ask(GROWTHBOOK, AlwaysValid(5_000), hypothesis=NonInferiority(0.5))
    at_margin = AlwaysValid(5_000).pvalue(GROWTHBOOK, found.statistic, two_sided=False)
    assert found.pvalue == at_margin
    assert (found.pvalue < 0.05) == (found.ci_low > -0.5)
    assert found.inference == "always valid"
    assert ask(GROWTHBOOK, FixedHorizon()).inference == "fixed horizon"
