"""A/A simulation: moments of splits as from the rows, and what it says of sound and of broken analyses."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import ndtr

from causalrec.abtest.experiment import Experiment
from causalrec.abtest.metrics import Mean, Quantile, Ratio, SampleRatio
from causalrec.abtest.resampling.simulation import _Splits, simulate_aa
from causalrec.exceptions import CausalRecError, ColumnError, OutcomeError, TreatmentError
from causalrec.moments import Moments


def z_test(control, treatment, column="value"):
    variance = control.var_of(column) / control.n + treatment.var_of(column) / treatment.n
    if variance == 0:
        raise OutcomeError("no variance")
    return 2 * ndtr(-abs(treatment.mean_of(column) - control.mean_of(column)) / math.sqrt(variance))


def ratio_test(control, treatment):
    """Delta method (Deng et al. 2018)."""
    value, variance = [], []
    for arm in (control, treatment):
        r = arm.mean_of("value") / arm.mean_of("den")
        spread = arm.var_of("value") - 2 * r * arm.cov_of("value", "den") + r**2 * arm.var_of("den")
        value.append(r)
        variance.append(spread / arm.n / arm.mean_of("den") ** 2)
    return 2 * ndtr(-abs(value[1] - value[0]) / math.sqrt(sum(variance)))


def cuped_test(control, treatment):
    """Deng et al. 2013."""
    theta = (control.cov_of("value", "pre") + treatment.cov_of("value", "pre")) / (
        control.var_of("pre") + treatment.var_of("pre")
    )
    value, variance = [], []
    for arm in (control, treatment):
        value.append(arm.mean_of("value") - theta * arm.mean_of("pre"))
        spread = arm.var_of("value") - 2 * theta * arm.cov_of("value", "pre") + theta**2 * arm.var_of("pre")
        variance.append(spread / arm.n)
    return 2 * ndtr(-abs(value[1] - value[0]) / math.sqrt(sum(variance)))


class TestSplits:
    def test_moments_are_those_of_the_rows(self):
        rng = np.random.default_rng(0)
        values = np.column_stack([1e8 + rng.normal(size=500), rng.poisson(3, 500), rng.exponential(size=500)])
        names = ("value", "den", "pre")
        splits = _Splits(values, Moments.from_array(values, names), 0.3)
        for row in splits.treated_sums(20, np.random.default_rng(1)):
            control, treatment = splits.moments(row)
            assert control.n + treatment.n == 500
        # The same generator deals out the same units.
        treated = np.random.default_rng(1).random((20, 500), dtype=np.float32) < np.float32(0.3)
        for arm, chosen in ((control, ~treated[-1]), (treatment, treated[-1])):
            expected = Moments.from_array(values[chosen], names)
            assert arm.n == expected.n
            np.testing.assert_allclose(arm.mean, expected.mean, rtol=1e-13)
            np.testing.assert_allclose(arm.products, expected.products, rtol=1e-8, atol=1e-7)

    def test_shares(self):
        seen = []

        def keep(control, treatment):
            seen.append(treatment.n)
            return 0.5

        simulate_aa(np.ones((10_000, 1)), ["value"], keep, weights=(9, 1), n_simulations=200, rng=1)
        assert np.mean(seen) == pytest.approx(1000, abs=4 * 30 / math.sqrt(200))
        assert np.std(seen) == pytest.approx(30, rel=0.25)


class TestCalibration:
    @pytest.mark.parametrize("test", [z_test, ratio_test, cuped_test])
    @pytest.mark.parametrize("weights", [(0.5, 0.5), (0.9, 0.1)])
    def test_sound_analyses(self, test, weights):
        rng = np.random.default_rng(2)
        n = 20_000
        user = rng.gamma(2, 1, n)
        values = np.column_stack([rng.poisson(3 * user), 1 + rng.poisson(5 * user), user])
        result = simulate_aa(values, ["value", "den", "pre"], test, weights=weights, n_simulations=2_000, rng=3)
        low, high = stats.binom.ppf([1e-4, 1 - 1e-4], 2_000, 0.05) / 2_000
        assert low <= result.false_positive_rate <= high
        assert result.uniformity_pvalue > 1e-4
        assert result.pvalues.shape == (2_000,)

    def test_a_broken_analysis_is_found(self):
        # Ten equal rows a user, taken for ten users: a standard error too small by a factor of sqrt(10).
        def naive_test(control, treatment):
            def tenfold(m):
                return Moments(10 * m.n, m.names, m.mean, 10 * m.products)

            return z_test(tenfold(control), tenfold(treatment))

        values = np.random.default_rng(4).normal(size=(5_000, 1))
        naive = simulate_aa(values, ["value"], naive_test, n_simulations=500, rng=5)
        assert not naive.calibrated
        rate = 2 * stats.norm.sf(1.96 / math.sqrt(10))
        assert naive.false_positive_rate == pytest.approx(rate, abs=4 * math.sqrt(rate * (1 - rate) / 500))
        assert naive.uniformity_pvalue < 1e-10

    def test_naive_rows_of_clusters_are_found(self):
        # Users are dealt out whole; the test takes their 1 to 19 correlated rows for independent ones.
        rng = np.random.default_rng(8)
        n = 2_000
        rows = rng.integers(1, 20, n).astype(float)
        level = rng.normal(0, 0.5, n)
        total = rows * level + rng.normal(size=n) * np.sqrt(rows)
        squares = rows * (level**2 + 1)
        values = np.column_stack([total, rows, squares])

        def naive_test(control, treatment):
            mean, variance = [], 0.0
            for arm in (control, treatment):
                r = arm.mean_of("value") / arm.mean_of("den")
                mean.append(r)
                variance += (arm.mean_of("squares") / arm.mean_of("den") - r**2) / (arm.n * arm.mean_of("den"))
            return 2 * ndtr(-abs(mean[1] - mean[0]) / math.sqrt(variance))

        names = ["value", "den", "squares"]
        naive, sound = (
            simulate_aa(values, names, test, n_simulations=1_000, rng=9) for test in (naive_test, ratio_test)
        )
        # The variance of the mean over the naive one is the design effect 1 + (E m^2 / E m - 1) icc, icc = .25 / 1.25.
        effect = 1 + ((rows**2).mean() / rows.mean() - 1) * 0.2
        rate = 2 * stats.norm.sf(1.96 / math.sqrt(effect))
        assert naive.false_positive_rate == pytest.approx(rate, abs=0.06)
        assert not naive.calibrated
        assert naive.uniformity_pvalue < 1e-10
        low, high = stats.binom.ppf([1e-4, 1 - 1e-4], 1_000, 0.05) / 1_000
        assert low <= sound.false_positive_rate <= high

    def test_interval_is_clopper_pearsons(self):
        values = np.random.default_rng(6).normal(size=(500, 1))
        result = simulate_aa(values, ["value"], z_test, n_simulations=300, alpha=0.1, confidence_level=0.9, rng=7)
        hits = int((result.pvalues < 0.1).sum())
        assert result.false_positive_rate == hits / 300
        assert result.ci_low == pytest.approx(stats.beta.ppf(0.05, hits, 301 - hits))
        assert result.ci_high == pytest.approx(stats.beta.ppf(0.95, hits + 1, 300 - hits))

    def test_same_seed_same_p_values(self):
        values = np.random.default_rng(6).normal(size=(500, 1))
        once, twice = (simulate_aa(values, ["value"], z_test, n_simulations=600, rng=7).pvalues for _ in range(2))
        np.testing.assert_array_equal(once, twice)


class TestOfAnExperiment:
    METRICS: ClassVar = {"y": Mean("y", covariates=["x"]), "r": Ratio("y", "x"), "q": Quantile("y")}

    @staticmethod
    def before(n=3_000):
        rng = np.random.default_rng(14)
        x = 1.0 + rng.poisson(3, n)
        return pd.DataFrame({"x": x, "y": x + rng.normal(size=n), "user": np.arange(n)})

    @pytest.mark.parametrize("arm", [None, "A", "before"])
    @pytest.mark.parametrize("unit", ["user", None])
    def test_a_time_before_it_has_one_arm_or_no_column_of_arms(self, arm, unit):
        frame = self.before() if arm is None else self.before().assign(arm=arm)
        designed = Experiment(
            {**self.METRICS, "s": SampleRatio({"A": 9, "B": 1})}, variant="arm", control="A", unit=unit, segments="s",
            day="d",
        )  # fmt: skip
        plain = Experiment(self.METRICS, variant="arm", control="A", unit=unit)
        found = designed.simulate_aa(frame, 400, rng=1)
        given = plain.simulate_aa(frame, 400, rng=1, weights=(0.9, 0.1))
        low, high = stats.binom.ppf([1e-4, 1 - 1e-4], 400, 0.05) / 400
        for one, other in zip(found, given, strict=True):
            np.testing.assert_array_equal(one.pvalues, other.pvalues)
            assert (one.metric, one.n_obs) == (other.metric, 3_000)
            assert low <= one.false_positive_rate <= high

    @pytest.mark.parametrize(("arm", "error"), [(None, ColumnError), ("A", TreatmentError)])
    def test_without_shares_it_needs_arms(self, arm, error):
        frame = self.before() if arm is None else self.before().assign(arm=arm)
        with pytest.raises(error, match="arm"):
            Experiment(self.METRICS, variant="arm", control="A").simulate_aa(frame)


class TestBadInput:
    def test_splits_without_a_p_value_are_counted(self):
        values = np.zeros((40, 1))
        values[0] = 1.0

        def without_the_one(control, treatment):
            return math.nan if treatment.mean_of("value") > 1e-9 else z_test(control, treatment)

        result = simulate_aa(values, ["value"], without_the_one, n_simulations=200, rng=1, method="z")
        assert 60 < result.n_simulations < 140
        assert (
            result.method
            == f"z; random splits of the units; {200 - result.n_simulations} of 200 splits gave no p-value"
        )

    @pytest.mark.parametrize(
        ("values", "kwargs", "error", "words"),
        [
            (np.ones((50, 1)), {}, OutcomeError, "none of 1000 splits"),
            (np.ones((3, 1)), {}, OutcomeError, "3 units"),
            (np.full((9, 1), np.nan), {}, OutcomeError, "9 of 9 values are missing"),
            (np.ones(9), {}, CausalRecError, "shape (9,)"),
            (np.ones((9, 1)), {"weights": (1, 0)}, TreatmentError, "(1, 0)"),
            (np.ones((9, 1)), {"weights": (1, 1, 1)}, TreatmentError, "two positive numbers"),
            (np.ones((9, 1)), {"alpha": 5}, CausalRecError, "alpha is 5"),
            (np.ones((9, 1)), {"n_simulations": 0}, CausalRecError, "resamples is 0"),
        ],
    )
    def test_named_errors(self, values, kwargs, error, words):
        with pytest.raises(error) as caught:
            simulate_aa(values, ["value"], z_test, **kwargs)
        assert words in str(caught.value)
