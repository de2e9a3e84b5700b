"""The bootstrap: the law of its draws, its intervals against scipy's, and whether they cover."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest
from scipy import stats

from causalrec.abtest.resampling import _bins
from causalrec.abtest.resampling._bins import make_bins
from causalrec.abtest.resampling._samples import QuantileSample, read_pair
from causalrec.abtest.resampling.bootstrap import bootstrap_diff
from causalrec.abtest.resampling.permutation import permutation_test
from causalrec.exceptions import CausalRecError, OutcomeError

# The Monte-Carlo error of a 2.5% quantile of R normal draws is 2.67 / sqrt(R) standard deviations.
N_DRAWS = 20_000
ENDPOINT_ERROR = 4 * math.sqrt(2) * 2.67 / math.sqrt(N_DRAWS)


def difference(of):
    return lambda a, b, axis=-1: of(b, axis=axis) - of(a, axis=axis)


def skewed(n=60, m=45, seed=0):
    rng = np.random.default_rng(seed)
    return rng.exponential(10, n), rng.exponential(13, m)


class TestBins:
    """Sums of a resample without its rows."""

    @pytest.mark.parametrize("kind", ["lognormal", "normal", "cauchy", "zero-inflated"])
    @pytest.mark.parametrize("sampling", ["bootstrap", "subset"])
    def test_mean_and_variance_of_sums(self, kind, sampling, monkeypatch):
        monkeypatch.setattr(_bins, "EXACT_DRAWS", 0)
        rng = np.random.default_rng(1)
        n, m, size = 20_000, 5_000, 20_000
        draw = {"lognormal": rng.lognormal, "normal": rng.normal, "cauchy": rng.standard_cauchy}
        x = draw[kind](size=n) if kind in draw else rng.exponential(size=n) * (rng.random(n) < 0.1)
        bins = make_bins(np.column_stack([x, np.ones(n), x**2]), 2, size)
        assert len(bins.count) <= 512
        sums = bins.bootstrap_sums(size, rng) if sampling == "bootstrap" else bins.subset_sums(m, size, rng)
        units = n if sampling == "bootstrap" else m
        variance = np.var(x) * (n if sampling == "bootstrap" else m * (n - m) / (n - 1))
        z = (sums[:, 0].mean() - units * x.mean()) / math.sqrt(variance / size)
        assert abs(z) < 4
        np.testing.assert_allclose(sums[:, 1], units)
        if kind != "cauchy":  # of which single values make the variance: no normal law for its estimate
            assert np.var(sums[:, 0]) / variance == pytest.approx(1, abs=4 * math.sqrt(2 / size))

    @pytest.mark.parametrize("with_sizes", [False, True])
    def test_share_of_variance_and_of_skewness_within_bins(self, with_sizes, monkeypatch):
        # What is lost is the third cumulant of deviations within bins: E|d|^3 / sigma^3 bounds it.
        monkeypatch.setattr(_bins, "EXACT_DRAWS", 0)
        rng = np.random.default_rng(2)
        x = rng.lognormal(0, 1.5, 100_000)
        columns = np.column_stack([x - x.mean(), rng.exponential(size=len(x)) if with_sizes else np.ones(len(x))])
        bins = make_bins(columns, 2, 1)
        share = (bins.count * bins.cov[:, 0, 0]).sum() / (len(x) * np.var(x))
        assert share < (2e-2 if with_sizes else 2e-4)
        assert len(bins.count) <= (1024 if with_sizes else 256)
        ends = np.sort(columns[:, 0])[[0, -1]]
        assert any(np.isclose(bins.mean[bins.count == 1][:, 0], ends[1]))  # the extreme stands alone

    def test_few_distinct_values_are_exact(self):
        bins = make_bins(np.array([[2.0], [1.0], [2.0], [5.0]]), 1, 10**9)
        assert bins.cov is None
        np.testing.assert_array_equal(bins.mean[:, 0], [1, 2, 5])
        np.testing.assert_array_equal(bins.count, [1, 2, 1])

    @pytest.mark.parametrize("statistic", ["mean", "ratio"])
    @pytest.mark.parametrize("method", ["percentile", "studentized"])
    def test_bins_draw_from_the_law_of_rows(self, statistic, method, monkeypatch):
        rng = np.random.default_rng(3)
        x, y = rng.lognormal(0, 1.2, 3_000), rng.lognormal(0, 1.2, 2_000)
        if statistic == "ratio":
            x, y = (np.column_stack([v, 1 + rng.exponential(size=len(v))]) for v in (x, y))
        kwargs = {"statistic": statistic, "method": method, "n_resamples": 8_000}
        rows = bootstrap_diff(x, y, rng=4, **kwargs)
        monkeypatch.setattr(_bins, "EXACT_DRAWS", 0)
        binned = bootstrap_diff(x, y, rng=5, **kwargs)
        assert stats.ks_2samp(rows.draws, binned.draws).pvalue > 1e-3
        width = rows.ci_high - rows.ci_low
        assert binned.ci_low == pytest.approx(rows.ci_low, abs=0.04 * width)
        assert binned.ci_high == pytest.approx(rows.ci_high, abs=0.04 * width)


class TestQuantileDraws:
    @pytest.mark.parametrize("n", [2, 11, 12])
    @pytest.mark.parametrize("q", [0.1, 0.3, 0.5, 0.97])
    def test_law_of_rows(self, n, q):
        rng = np.random.default_rng(6)
        x = np.sort(rng.normal(size=n))
        ours = QuantileSample(x, q).bootstrap(20_000, rng)[:, 0]
        rows = np.quantile(x[rng.integers(n, size=(20_000, n))], q, axis=1)
        # Discrete: compare the frequencies of the values that occur often.
        values = np.unique(np.round(np.concatenate([ours, rows]), 9))
        counts = np.array([[(np.round(a, 9) == v).sum() for v in values] for a in (ours, rows)])
        counts = counts[:, counts.sum(axis=0) >= 20]
        if counts.shape[1] > 1:
            assert stats.chi2_contingency(counts).pvalue > 1e-4

    @pytest.mark.parametrize("n", [2, 3, 10, 11])
    @pytest.mark.parametrize("q", [0.05, 0.5, 0.9])
    def test_leave_one_out(self, n, q):
        x = np.sort(np.random.default_rng(7).normal(size=n))
        brute = [np.quantile(np.delete(x, i), q) for i in range(n)]
        np.testing.assert_allclose(QuantileSample(x, q).leave_one_out(), brute)


class TestAgainstScipy:
    @pytest.mark.parametrize("method", ["percentile", "basic", "bca"])
    @pytest.mark.parametrize(
        ("statistic", "relative", "theirs"),
        [
            ("mean", False, difference(np.mean)),
            (("quantile", 0.3), False, difference(lambda a, axis: np.quantile(a, 0.3, axis=axis))),
            (np.std, False, difference(np.std)),
            ("mean", True, lambda a, b, axis=-1: b.mean(axis=axis) / a.mean(axis=axis) - 1),
            ("median", False, difference(np.median)),
        ],
        ids=["mean", "quantile", "std", "relative mean", "median"],
    )
    def test_intervals(self, method, statistic, relative, theirs):
        x, y = skewed()
        reference = stats.bootstrap((x, y), theirs, n_resamples=N_DRAWS, method=method, rng=1)
        ours = bootstrap_diff(x, y, statistic=statistic, relative=relative, method=method, n_resamples=N_DRAWS, rng=2)
        error = float(reference.standard_error)
        # The tails of these laws are thinner than the normal's on one side, fatter on the other: twice the error.
        allowed = 2 * ENDPOINT_ERROR * error
        np.testing.assert_allclose([ours.ci_low, ours.ci_high], [*reference.confidence_interval], rtol=0, atol=allowed)
        assert ours.std_error == pytest.approx(error, rel=0.04)
        assert ours.estimate == pytest.approx(float(theirs(x, y)), rel=1e-12)

    @pytest.mark.parametrize("alternative", ["greater", "less"])
    def test_one_sided(self, alternative):
        x, y = skewed()
        theirs = stats.bootstrap(
            (x, y), difference(np.mean), n_resamples=N_DRAWS, method="bca", alternative=alternative, rng=1
        )
        ours = bootstrap_diff(x, y, method="bca", alternative=alternative, n_resamples=N_DRAWS, rng=2)
        np.testing.assert_allclose(
            [ours.ci_low, ours.ci_high], [*theirs.confidence_interval], atol=ENDPOINT_ERROR * ours.std_error
        )

    def test_ratio_against_rows_of_two_columns(self):
        rng = np.random.default_rng(8)
        arms = [np.column_stack([rng.poisson(3 + k, 50), 1 + rng.poisson(5, 50)]) for k in (0, 1)]

        def of_rows(i, j, axis=-1):
            one, two = arms[0][i], arms[1][j]
            return two[..., 0].sum(axis) / two[..., 1].sum(axis) - one[..., 0].sum(axis) / one[..., 1].sum(axis)

        rows = (np.arange(50), np.arange(50))
        theirs = stats.bootstrap(rows, of_rows, n_resamples=N_DRAWS, method="bca", rng=1, vectorized=True)
        ours = bootstrap_diff(*arms, statistic="ratio", method="bca", n_resamples=N_DRAWS, rng=2)
        np.testing.assert_allclose(
            [ours.ci_low, ours.ci_high], [*theirs.confidence_interval], atol=ENDPOINT_ERROR * ours.std_error
        )
        assert ours.std_error == pytest.approx(float(theirs.standard_error), rel=0.03)

    @pytest.mark.parametrize("relative", [False, True])
    def test_studentized_against_a_loop(self, relative):
        x, y = skewed(30, 25)
        rng = np.random.default_rng(9)

        def estimate(a, b):
            effect = b.mean() - a.mean()
            va, vb = np.var(a, ddof=1) / len(a), np.var(b, ddof=1) / len(b)
            if not relative:
                return effect, math.sqrt(va + vb)
            return effect / a.mean(), math.sqrt(vb + (b.mean() / a.mean()) ** 2 * va) / a.mean()

        theta, error = estimate(x, y)
        resampled = [estimate(rng.choice(x, len(x)), rng.choice(y, len(y))) for _ in range(N_DRAWS)]
        t = [(e - theta) / s for e, s in resampled]
        low, high = theta - np.quantile(t, [0.975, 0.025]) * error
        ours = bootstrap_diff(x, y, method="studentized", relative=relative, n_resamples=N_DRAWS, rng=2)
        np.testing.assert_allclose([ours.ci_low, ours.ci_high], [low, high], atol=2 * ENDPOINT_ERROR * error)


class TestClusters:
    def test_means_of_rows_by_cluster_sums(self):
        # Whole clusters are drawn: the error is that of the ratio of cluster sums to cluster sizes (delta method).
        rng = np.random.default_rng(10)
        arms, labels = [], []
        for shift in (0.0, 0.3):
            sizes = rng.integers(1, 9, 400)
            cluster = np.repeat(np.arange(400), sizes)
            arms.append(shift + rng.normal(size=400)[cluster] + rng.normal(size=len(cluster)))
            labels.append([f"school {c}" for c in cluster])
        result = bootstrap_diff(*arms, clusters_control=labels[0], clusters_treatment=labels[1], rng=11)
        variance = 0.0
        for x, cluster in zip(arms, labels, strict=True):
            codes = np.unique(cluster, return_inverse=True)[1]
            sums, sizes = np.bincount(codes, x), np.bincount(codes)
            variance += np.var(sums - x.mean() * sizes, ddof=1) / 400 / sizes.mean() ** 2
        assert result.std_error == pytest.approx(math.sqrt(variance), rel=0.03)
        assert result.estimate == pytest.approx(arms[1].mean() - arms[0].mean())
        assert result.n_obs == 800
        assert "of clusters" in result.method
        rows = bootstrap_diff(*arms, rng=11)
        assert result.std_error > 1.5 * rows.std_error


class TestPValue:
    @pytest.mark.parametrize("method", ["percentile", "basic", "bca", "studentized"])
    @pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
    def test_inverts_the_interval(self, method, alternative):
        x, y = skewed()
        sign = -1 if alternative == "less" else 1
        kwargs = {"method": method, "alternative": alternative, "n_resamples": N_DRAWS, "rng": 3}
        p = bootstrap_diff(sign * x, sign * y, **kwargs).pvalue
        at_p = bootstrap_diff(sign * x, sign * y, confidence_level=1 - p, **kwargs)
        end = at_p.ci_high if alternative == "less" else at_p.ci_low
        assert end == pytest.approx(0, abs=0.02 * at_p.std_error)  # a few gaps between draws

    def test_never_zero_and_close_to_welch(self):
        rng = np.random.default_rng(12)
        x, y = rng.normal(size=2_000), rng.normal(0.05, 1, size=2_000)
        ours = bootstrap_diff(x, y, n_resamples=N_DRAWS, rng=1)
        welch = stats.ttest_ind(y, x, equal_var=False).pvalue
        assert ours.pvalue == pytest.approx(welch, abs=4 * math.sqrt(welch / N_DRAWS))
        assert bootstrap_diff(x, y + 1, n_resamples=999, rng=1).pvalue == pytest.approx(2 / 1000)


class TestProperties:
    def test_a_large_mean_loses_nothing(self):
        x, y = np.random.default_rng(13).normal(size=(2, 5_000))
        small, large = bootstrap_diff(x, y, rng=1), bootstrap_diff(x + 1e8, y + 1e8, rng=1)
        np.testing.assert_allclose(large.draws, small.draws, atol=2e-8)
        assert large.control_value == pytest.approx(1e8)

    @pytest.mark.parametrize("statistic", ["mean", "median", np.mean])
    def test_same_seed_same_draws(self, statistic):
        x, y = skewed()
        once, twice = (bootstrap_diff(x, y, statistic=statistic, n_resamples=1_200, rng=5) for _ in range(2))
        np.testing.assert_array_equal(once.draws, twice.draws)
        assert once.draws.shape == (1_200,)

    def test_progress_and_an_interrupt(self):
        x, y = skewed()
        seen = []
        bootstrap_diff(x, y, n_resamples=1_200, progress=lambda *step: seen.append(step))
        assert seen == [(500, 1200), (1000, 1200), (1200, 1200)]

        def interrupt(done, total):
            raise KeyboardInterrupt

        before = threading.active_count()
        with pytest.raises(KeyboardInterrupt):
            bootstrap_diff(x, y, progress=interrupt)
        assert threading.active_count() == before

    def test_a_function_without_axis(self):
        x, y = skewed()

        def spread(values):
            return values.max() - values.min()

        result = bootstrap_diff(x, y, statistic=spread, n_resamples=200, rng=1)
        assert result.statistic == "spread"
        assert result.estimate == pytest.approx(np.ptp(y) - np.ptp(x))


class TestBadInput:
    @pytest.mark.parametrize(
        ("control", "treatment", "kwargs", "error", "words"),
        [
            ([1.0], [1.0, 2.0], {}, OutcomeError, ["control has 1 units", "at least two"]),
            ([1.0, np.nan], [1.0, 2.0], {}, OutcomeError, ["control: 1 of 2", "missing"]),
            (["a", "b"], [1.0, 2.0], {}, OutcomeError, ["not a number"]),
            ([[1.0, 1.0]] * 3, [1.0, 2.0], {}, CausalRecError, ["shape (3, 2)"]),
            ([1.0, 2.0], [1.0, 2.0], {"statistic": "ratio"}, CausalRecError, ["shape (2,)", "(n, 2)"]),
            ([[1, 0], [2, 0]], [[1, 1], [2, 1]], {"statistic": "ratio"}, OutcomeError, ["control", "sum to zero"]),
            ([1.0, 2.0], [1.0, 2.0], {"statistic": "mode"}, CausalRecError, ["'mode'", "'ratio'"]),
            ([1.0, 2.0], [1.0, 2.0], {"statistic": ("quantile", 1.5)}, CausalRecError, ["1.5"]),
            ([1.0, 2.0], [1.0, 2.0], {"method": "normal"}, CausalRecError, ["'normal'", "'bca'"]),
            ([1.0, 2.0], [1.0, 2.0], {"statistic": "median", "method": "studentized"}, CausalRecError, ["'bca'"]),
            ([1.0, 2.0], [1.0, 2.0], {"n_resamples": 0}, CausalRecError, ["resamples is 0"]),
            ([-1.0, 1.0], [1.0, 2.0], {"relative": True}, OutcomeError, ["control is zero", "relative=False"]),
            ([1.0, 2.0], [1.0, 2.0], {"clusters_control": [1, 2]}, CausalRecError, ["one arm only"]),
            (
                [1.0, 2.0], [1.0, 2.0], {"clusters_control": [1, None], "clusters_treatment": [1, 2]}, CausalRecError,
                ["clusters_control: 1 of 2 are missing"],
            ),
            (
                [1.0, 2.0], [1.0, 2.0],
                {"clusters_control": [1, 2], "clusters_treatment": [1, 2], "statistic": "median"}, CausalRecError,
                ["'mean' or 'ratio'", "'median'"],
            ),
            (
                [[1, 0], [1, 0], [1, 0], [2, 1]], [[1, 1], [2, 1]], {"statistic": "ratio"}, OutcomeError,
                ["resamples have no finite ratio"],
            ),
            ([1.0, 2.0], [1.0, 2.0], {"statistic": lambda a: a}, CausalRecError, ["expected one number a sample"]),
        ],
    )  # fmt: skip
    def test_named_errors(self, control, treatment, kwargs, error, words):
        with pytest.raises(error) as caught:
            bootstrap_diff(control, treatment, **kwargs)
        assert all(word in str(caught.value) for word in words), str(caught.value)

    @pytest.mark.parametrize("method", ["percentile", "basic", "bca", "studentized"])
    def test_constant_arms_have_no_interval(self, method):
        result = bootstrap_diff([1.0] * 5, [2.0] * 5, method=method)
        assert result.estimate == 1.0
        assert all(map(math.isnan, (result.ci_low, result.ci_high, result.pvalue, result.std_error)))
        assert "every resample gives the same difference" in result.method

    def test_one_constant_arm_is_no_problem(self):
        x, _ = skewed()
        result = bootstrap_diff(x, [20.0] * 30, method="bca", rng=1)
        assert result.ci_low < 20 - x.mean() < result.ci_high

    def test_basic_limits_of_tied_quantiles_are_warned_of(self):
        tied, free = np.random.default_rng(2).integers(1, 5, (2, 200)).astype(float), skewed(200, 200)
        words = "values tie at the quantile"
        assert words in bootstrap_diff(*tied, statistic="median", method="basic", n_resamples=200).method
        assert words not in bootstrap_diff(*tied, statistic="median", n_resamples=200).method
        assert words not in bootstrap_diff(*tied, method="basic", n_resamples=200).method
        assert words not in bootstrap_diff(*free, statistic="median", method="basic", n_resamples=200).method

    def test_reasons_for_no_interval(self):
        two = bootstrap_diff([1.0, 2.0], [2.0, 5.0], method="studentized", rng=1)
        assert math.isnan(two.ci_low)
        assert "resamples have no variance" in two.method
        x = np.random.default_rng(1).normal(0.05, 1, 100)
        crossing = bootstrap_diff(x, x + 1, relative=True, rng=1)
        assert math.isnan(crossing.pvalue)
        assert "other side of zero" in crossing.method

    def test_pairs_give_distances_from_a_common_centre(self):
        pair = read_pair([1.0, 3.0], [5.0, 7.0], "mean", n_resamples=10, with_variance=True)
        assert pair.centre == 4.0
        np.testing.assert_allclose(pair.control.value(), [-2, 1.0])
        np.testing.assert_allclose(pair.treatment.value(), [2, 1.0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "statistic", "lowest"),
    [
        # At 40 and 60 exponential units all fall short by a point or two; the studentised ones least.
        ("percentile", "mean", 0.91),
        ("basic", "mean", 0.91),
        ("bca", "mean", 0.91),
        ("studentized", "mean", 0.925),
        ("percentile", "median", 0.93),
        ("studentized", "ratio", 0.925),
        ("percentile", "ratio", 0.91),
    ],
)
def test_coverage(method, statistic, lowest):
    rng = np.random.default_rng(20)
    n_simulations, covered = 1_000, 0
    for _ in range(n_simulations):
        x, y = rng.exponential(1, 40), rng.exponential(1, 60)
        if statistic == "ratio":
            x, y = (np.column_stack([v + 0.5 * (d := 1 + rng.poisson(2, len(v))), d]) for v in (x, y))
        result = bootstrap_diff(x, y, method=method, statistic=statistic, n_resamples=500, rng=rng)
        covered += result.ci_low <= 0 <= result.ci_high
    error = math.sqrt(0.05 * 0.95 / n_simulations)
    assert lowest < covered / n_simulations < 0.95 + 4 * error + (0.02 if statistic == "median" else 0)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["percentile", "basic", "bca", "studentized"])
def test_coverage_of_large_samples_in_bins(method):
    """All four at the nominal level, with the draws from bins."""
    rng = np.random.default_rng(21)
    n_simulations, covered, small = 400, 0, 0
    for _ in range(n_simulations):
        x, y = rng.gamma(2, 1, 30_000), rng.gamma(2, 1, 30_000)
        result = bootstrap_diff(x, y, method=method, n_resamples=2_000, rng=rng)
        covered += result.ci_low <= 0 <= result.ci_high
        small += result.pvalue < 0.05
    low, high = stats.binom.ppf([1e-4, 1 - 1e-4], n_simulations, 0.95)
    assert low <= covered <= high
    assert n_simulations - high <= small <= n_simulations - low


class TestDenominatorsThatCancel:
    """Sums such as .1 + .2 - .3 are zero, not 3e-17."""

    @staticmethod
    def arm(seed, n=10):
        rng = np.random.default_rng(seed)
        denominators = np.tile([0.1, -0.1], n // 2) * rng.permutation(np.repeat([1.0, 3.0], n // 2))
        return np.column_stack([rng.normal(size=n), denominators])

    def test_of_resamples(self):
        control, treatment = (self.arm(seed) for seed in (1, 2))
        control[0, 1] = treatment[0, 1] = 0.7  # the samples themselves have a ratio
        assert abs(control[:, 1].sum()) > 0.1
        with pytest.raises(OutcomeError, match="of 2000 resamples have no finite ratio"):
            bootstrap_diff(control, treatment, statistic="ratio", n_resamples=2_000, rng=0)
        with pytest.raises(OutcomeError, match="denominators sum to zero"):
            permutation_test(control, treatment, statistic="ratio", n_resamples=2_000, rng=0)

    def test_of_the_sample(self):
        control = np.column_stack([np.arange(3.0), [0.1, 0.2, -0.3]])
        assert control[:, 1].sum() != 0
        with pytest.raises(OutcomeError, match="control: the denominators sum to zero"):
            bootstrap_diff(control, np.ones((3, 2)), statistic="ratio")

    def test_small_sums_are_kept(self):
        """A sum is small for its terms, but no rounding."""
        control = np.column_stack([np.ones(4), [1.0, -1.0, 1e-9, 1e-9]])
        found = read_pair(control, control, "ratio", n_resamples=10, with_variance=False)
        assert found.centre == pytest.approx(4 / 2e-9, rel=1e-6)
