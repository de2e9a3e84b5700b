"""The permutation test against enumeration by scipy, its exactness, and its size."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from causalrec.abtest.resampling import _bins, permutation
from causalrec.abtest.resampling.permutation import permutation_test
from causalrec.exceptions import CausalRecError, OutcomeError


def difference(of):
    return lambda a, b, axis=-1: of(b, axis=axis) - of(a, axis=axis)


def integers(n, m, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 10, n).astype(float), rng.integers(0, 12, m).astype(float)


class TestAgainstScipy:
    @pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
    @pytest.mark.parametrize(
        ("statistic", "theirs"),
        [("mean", np.mean), ("median", np.median), (np.std, np.std)],
        ids=["mean", "median", "std"],
    )
    def test_all_splits(self, statistic, theirs, alternative):
        x, y = integers(7, 5)
        expected = stats.permutation_test((x, y), difference(theirs), n_resamples=np.inf, alternative=alternative)
        ours = permutation_test(x, y, statistic=statistic, alternative=alternative)
        assert ours.pvalue == pytest.approx(expected.pvalue, rel=1e-12)
        np.testing.assert_allclose(np.sort(ours.draws), np.sort(expected.null_distribution), atol=1e-12)
        assert "all 792 splits" in ours.method

    @pytest.mark.parametrize("statistic", ["mean", np.mean], ids=["name", "function"])
    def test_random_splits(self, statistic):
        x, y = integers(60, 45)
        expected = stats.permutation_test((x, y), difference(np.mean), n_resamples=50_000, rng=1)
        ours = permutation_test(x, y, statistic=statistic, n_resamples=50_000, rng=2)
        p = expected.pvalue
        # Twice a one-sided share of 50,000 draws, in both.
        assert ours.pvalue == pytest.approx(p, abs=4 * 2 * math.sqrt(2 * p / 2 * (1 - p / 2) / 50_000))
        # Rounded: equal differences differ in their last digits.
        assert stats.ks_2samp(ours.draws.round(9), expected.null_distribution.round(9)).pvalue > 1e-3

    def test_studentized_and_ratio_by_enumeration(self):
        rng = np.random.default_rng(3)
        rows = np.column_stack([rng.poisson(4, 9), 1 + rng.poisson(3, 9)]).astype(float)

        def student(order):
            value, variance = [], []
            for arm in (rows[order[:4]], rows[order[4:]]):
                r = arm[:, 0].sum() / arm[:, 1].sum()
                value.append(r)
                variance.append(np.var(arm[:, 0] - r * arm[:, 1], ddof=1) / len(arm) / arm[:, 1].mean() ** 2)
            return (value[1] - value[0]) / math.sqrt(sum(variance))

        expected = stats.permutation_test(
            (np.arange(4), np.arange(4, 9)), lambda a, b: student(np.concatenate([a, b])), n_resamples=np.inf,
            vectorized=False,
        )  # fmt: skip
        ours = permutation_test(rows[:4], rows[4:], statistic="ratio", studentized=True)
        assert ours.pvalue == pytest.approx(expected.pvalue, rel=1e-12)

    def test_two_by_two_table_is_fisher(self):
        x, y = np.repeat([1.0, 0.0], [8, 42]), np.repeat([1.0, 0.0], [15, 25])
        fisher = stats.fisher_exact([[15, 25], [8, 42]], alternative="greater").pvalue
        ours = permutation_test(x, y, alternative="greater", n_resamples=100_000, rng=1)
        assert ours.pvalue == pytest.approx(fisher, abs=4 * math.sqrt(fisher / 100_000))


class TestLargeSamples:
    @pytest.mark.parametrize("studentized", [False, True])
    def test_bins_draw_from_the_law_of_rows(self, studentized, monkeypatch):
        rng = np.random.default_rng(4)
        x, y = rng.lognormal(0, 1.2, 3_000), rng.lognormal(0, 1.2, 1_000)
        kwargs = {"studentized": studentized, "n_resamples": 8_000}
        rows = permutation_test(x, y, rng=5, **kwargs)
        monkeypatch.setattr(_bins, "EXACT_DRAWS", 0)
        binned = permutation_test(x, y, rng=6, **kwargs)
        assert stats.ks_2samp(rows.draws, binned.draws).pvalue > 1e-3

    @pytest.mark.parametrize("window", [6, 0.5, 0])
    @pytest.mark.parametrize("n_treated", [120, 31])
    def test_a_window_around_a_quantile_has_the_law_of_all_rows(self, window, n_treated, monkeypatch):
        rng = np.random.default_rng(12)
        x, y = rng.poisson(20, 90).astype(float), rng.poisson(20, n_treated).astype(float)
        rows = permutation_test(x, y, statistic=lambda v, axis: np.quantile(v, 0.8, axis=axis), rng=13)
        monkeypatch.setattr(permutation, "_WINDOW", window)
        ours = permutation_test(x, y, statistic=("quantile", 0.8), rng=14)
        steps = np.unique(np.round(rows.draws, 9))
        counts = [[(np.abs(d.draws - s) < 1e-9).sum() for s in steps] for d in (rows, ours)]
        assert np.sum(counts[1]) > 9_950
        frequent = np.sum(counts, axis=0) > 20
        assert stats.chi2_contingency(np.array(counts)[:, frequent]).pvalue > 1e-4

    def test_close_to_welch(self):
        rng = np.random.default_rng(7)
        x, y = rng.exponential(1, 200_000), rng.exponential(1.006, 100_000)
        welch = stats.ttest_ind(y, x, equal_var=False).pvalue
        ours = permutation_test(x, y, studentized=True, n_resamples=20_000, rng=8)
        assert ours.pvalue == pytest.approx(welch, abs=8 * math.sqrt(welch / 20_000))

    def test_clusters_are_dealt_out_whole(self):
        rng = np.random.default_rng(9)
        cluster = np.repeat(np.arange(60), 20)
        x, y = rng.normal(size=(2, 60))[:, cluster] + 0.1 * rng.normal(size=(2, 1200))
        rows = permutation_test(x, y, rng=1)
        whole = permutation_test(x, y, clusters_control=cluster, clusters_treatment=cluster, rng=1)
        means = permutation_test(x.reshape(60, 20).mean(axis=1), y.reshape(60, 20).mean(axis=1), rng=1)
        np.testing.assert_allclose(whole.draws, means.draws, atol=1e-12)  # equal sizes: a test of cluster means
        assert np.std(whole.draws) > 3 * np.std(rows.draws)


class TestResult:
    def test_no_interval_and_it_prints(self):
        result = permutation_test(*integers(60, 45), rng=1)
        assert all(map(math.isnan, (result.std_error, result.ci_low, result.ci_high)))
        assert "nan" not in str(result)
        assert str(result).startswith("difference in mean = ")

    def test_the_least_p_value(self):
        x = np.arange(100.0)
        assert permutation_test(x, x + 1000, n_resamples=999, alternative="greater").pvalue == 1 / 1000

    def test_a_large_mean_loses_nothing(self):
        x, y = integers(60, 45)
        assert permutation_test(x + 1e8, y + 1e8, rng=1).pvalue == permutation_test(x, y, rng=1).pvalue


class TestBadInput:
    def test_nothing_varies(self):
        result = permutation_test([1.0] * 30, [1.0] * 20)
        assert math.isnan(result.pvalue)
        assert "every split gives the same difference" in result.method

    def test_some_splits_have_no_variance(self):
        result = permutation_test([1.0, 1.0, 1.0], [2.0, 2.0, 2.0], studentized=True)
        assert math.isnan(result.pvalue)
        assert "no variance" in result.method

    @pytest.mark.parametrize(
        ("control", "treatment", "kwargs", "error", "words"),
        [
            ([1.0], [1.0, 2.0], {}, OutcomeError, "control has 1 units"),
            ([1.0, 2.0], [1.0, math.inf], {}, OutcomeError, "treatment: 1 of 2"),
            ([1.0, 2.0], [1.0, 2.0], {"statistic": "median", "studentized": True}, CausalRecError, "studentized=False"),
            ([1.0, 2.0], [1.0, 2.0], {"alternative": "both"}, CausalRecError, "'both'"),
            ([[1, 0], [1, 1]], [[1, 0], [2, 3]], {"statistic": "ratio"}, OutcomeError, "splits have an arm"),
        ],
    )
    def test_named_errors(self, control, treatment, kwargs, error, words):
        with pytest.raises(error) as caught:
            permutation_test(control, treatment, **kwargs)
        assert words in str(caught.value)


@pytest.mark.slow
def test_size_with_unequal_variances():
    """The plain test is of equal laws and rejects too often here; the studentised one is of equal means."""
    rng = np.random.default_rng(10)
    n_simulations, hits = 1_000, {False: 0, True: 0}
    for _ in range(n_simulations):
        x, y = rng.normal(0, 1, 120), rng.normal(0, 4, 30)
        for studentized in hits:
            result = permutation_test(x, y, studentized=studentized, n_resamples=999, rng=rng)
            hits[studentized] += result.pvalue < 0.05
    low, high = stats.binom.ppf([1e-4, 1 - 1e-4], n_simulations, 0.05)
    assert low <= hits[True] <= high + 0.01 * n_simulations  # asymptotic: a point of grace at 30 units
    assert hits[False] > 2 * high


@pytest.mark.slow
@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_size_is_exact(statistic):
    rng = np.random.default_rng(11)
    n_simulations = 1_500
    hits = sum(
        permutation_test(*rng.exponential(1, (2, 15)), statistic=statistic, n_resamples=999, rng=rng).pvalue <= 0.05
        for _ in range(n_simulations)
    )
    low, high = stats.binom.ppf([1e-4, 1 - 1e-4], n_simulations, 0.05)
    assert hits <= high
    assert statistic == "median" or low <= hits  # medians tie, so that the test is conservative
