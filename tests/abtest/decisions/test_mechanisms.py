"""Proxies and cannibalisation, beside regressions, test inversion and simulated truth."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

from causalrec.abtest import cannibalisation, proxy_across, proxy_analysis
from causalrec.abtest.decisions.proxy_across import _by_cholesky, _Model, _of_correlation, _of_slope
from causalrec.exceptions import CausalRecError, ColumnError, OutcomeError
from causalrec.moments import Moments


def two_arms(n=(4000, 4000), lift=(1.0, 0.0), slope=0.2, seed=0):
    rng = np.random.default_rng(seed)
    arms = []
    for k, size in enumerate(n):
        s = rng.normal(30 + k * lift[0], 8, size)
        arms.append(np.c_[s, slope * s + k * lift[1] + rng.normal(0, 2, size)])
    return arms


def moments(arms, names=("minutes", "spend")):
    return [Moments.from_array(a, names) for a in arms]


class TestProxy:
    @pytest.mark.parametrize("lift", [(1.0, 0.0), (1.0, 0.5), (-2.0, 0.3)])
    def test_the_rest_is_the_coefficient_of_the_regression_on_treatment_and_proxy(self, lift):
        arms = two_arms(n=(3000, 5000), lift=lift)
        found = proxy_analysis(*moments(arms), proxy="minutes", outcome="spend")
        both, t = np.vstack(arms), np.repeat([0.0, 1.0], [3000, 5000])
        ols = sm.OLS(both[:, 1], sm.add_constant(np.c_[t, both[:, 0]])).fit()
        assert found.remainder == pytest.approx(ols.params[1], rel=1e-9)
        assert found.slope == pytest.approx(ols.params[2], rel=1e-9)
        assert found.slope_std_error == pytest.approx(ols.bse[2], rel=0.03)
        assert found.remainder_std_error == pytest.approx(ols.bse[1], rel=0.03)  # one variance there, one an arm here
        assert found.predicted_effect + found.remainder == pytest.approx(found.outcome_effect, rel=1e-12)

    def test_coverage_of_prediction_rest_and_part_explained(self):
        covered, n = np.zeros(3), 600
        for seed in range(n):
            f = proxy_analysis(*moments(two_arms((300, 200), (3.0, 0.4), seed=seed)), proxy="minutes", outcome="spend")
            covered += [
                f.predicted_ci_low <= 0.6 <= f.predicted_ci_high,
                f.remainder_ci_low <= 0.4 <= f.remainder_ci_high,
                f.explained_ci_low <= 0.6 <= f.explained_ci_high,
            ]
        low, high = stats.binom.ppf([0.0005, 0.9995], n, 0.95)
        assert ((covered >= low - 0.005 * n) & (covered <= high)).all(), covered / n

    def test_sums_of_clusters_give_what_their_mean_per_row_does(self):
        rng = np.random.default_rng(3)
        arms = []
        for k in range(2):
            rows = rng.integers(1, 6, 2000).astype(float)
            s = rows * (5 + k) + rng.normal(0, 1, 2000) * rows
            arms.append(np.c_[s, 0.5 * s + rng.normal(0, 1, 2000) * np.sqrt(rows), rows])
        found = proxy_analysis(*moments(arms, ("s", "y", "rows")), proxy="s", outcome="y", size="rows")
        means = [a.sum(axis=0) / a[:, 2].sum() for a in arms]
        assert found.proxy_effect == pytest.approx(means[1][0] - means[0][0], rel=1e-12)
        scores = [(a[:, :2] - m[:2] * a[:, 2:]) / a[:, 2].mean() for a, m in zip(arms, means, strict=True)]
        error = np.sqrt(sum(s[:, 0].var(ddof=1) / len(s) for s in scores))
        assert found.proxy_std_error == pytest.approx(error, rel=1e-9)
        centred = np.vstack([s - s.mean(axis=0) for s in scores])
        assert found.slope == pytest.approx((centred[:, 0] @ centred[:, 1]) / (centred[:, 0] @ centred[:, 0]), rel=1e-9)

    def test_slopes_that_differ_between_arms_are_said(self):
        a, b = two_arms()
        b[:, 1] += 0.3 * (b[:, 0] - 31)
        found = proxy_analysis(*moments([a, b]), proxy="minutes", outcome="spend")
        assert found.slopes_pvalue < 1e-6
        assert "slope differs between the arms" in str(found)
        assert "slope differs" not in str(proxy_analysis(*moments(two_arms()), proxy="minutes", outcome="spend"))

    def test_no_effect_on_the_outcome_has_no_part_explained(self):
        found = proxy_analysis(*moments(two_arms(lift=(0.0, 0.0), seed=5)), proxy="minutes", outcome="spend")
        assert (found.explained_ci_low, found.explained_ci_high) == (-np.inf, np.inf)
        assert "the part explained cannot be said" in str(found)
        assert "chose their own minutes" in str(found)

    def test_refusals(self):
        a, b = moments(two_arms())
        with pytest.raises(ColumnError, match="each once"):
            proxy_analysis(a, b, proxy="minutes", outcome="minutes")
        with pytest.raises(ColumnError, match="clicks"):
            proxy_analysis(a, b, proxy="clicks", outcome="spend")
        exact = [np.c_[x[:, 0], 2 * x[:, 0]] for x in two_arms()]
        with pytest.raises(OutcomeError, match="Take another proxy"):
            proxy_analysis(*moments(exact), proxy="minutes", outcome="spend")
        with pytest.raises(OutcomeError, match="2 units"):
            proxy_analysis(*moments([x[:2] for x in two_arms()]), proxy="minutes", outcome="spend")


def experiments(k=60, r=0.8, true=((1.0, 0.5), (0.5, 0.5)), seed=1):
    rng = np.random.default_rng(seed)
    size = rng.uniform(0.5, 1.5, k)
    noise = rng.multivariate_normal([0, 0], [[1, r], [r, 1]], size=k) * size[:, None]
    effects = rng.multivariate_normal([0.3, 0.1], true, size=k) + noise
    return effects[:, 0], effects[:, 1], size, size, r


class TestProxyAcross:
    def test_the_likelihood_is_that_of_the_normal_law_with_a_flat_mean(self):
        x, y, sx, sy, r = experiments(k=6)
        model = _Model(x, y, sx**2, sy**2, r * sx * sy)
        values = []
        for v in (np.array([0.5, 0.2, 0.4]), np.array([1.0, -0.3, 0.2])):
            spread = _by_cholesky(v)[0]
            t = np.array([[spread.proxy, spread.both], [spread.both, spread.outcome]])
            cov = [t + np.array([[a * a, r * a * b], [r * a * b, b * b]]) for a, b in zip(sx, sy, strict=True)]
            weight = [np.linalg.inv(c) for c in cov]
            total = sum(weight)
            mean = np.linalg.solve(total, sum(w @ p for w, p in zip(weight, np.c_[x, y], strict=True)))
            logs = sum(stats.multivariate_normal(mean, c).logpdf(p) for c, p in zip(cov, np.c_[x, y], strict=True))
            values.append(-2 * logs + np.linalg.slogdet(total)[1] - model.fit(spread)[0])
            np.testing.assert_allclose(model.fit(spread)[2], mean, rtol=1e-9)
        assert values[0] == pytest.approx(values[1], abs=1e-9)

    @pytest.mark.parametrize("shape", [_by_cholesky, _of_correlation(0.4), _of_slope(-0.7)])
    def test_gradient(self, shape):
        x, y, sx, sy, r = experiments(k=12)
        model = _Model(x, y, sx**2, sy**2, r * sx * sy)
        v = np.array([0.8, 0.5, 0.3])[: 3 if shape is _by_cholesky else 2]
        spread, slopes = shape(v)
        step = 1e-6 * np.eye(len(v))
        numeric = [(model.fit(shape(v + e)[0])[0] - model.fit(shape(v - e)[0])[0]) / 2e-6 for e in step]
        np.testing.assert_allclose(model.fit(spread)[1] @ slopes, numeric, rtol=1e-5)

    def test_without_noise_it_is_the_plain_correlation(self):
        x, y, *_ = experiments(k=40)
        tiny = np.full(40, 1e-6)
        found = proxy_across(x, y, tiny, tiny, 0.0)
        assert found.correlation == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-5)
        assert found.slope == pytest.approx(found.naive_slope, rel=1e-4)
        assert found.outcome_spread == pytest.approx(y.std(ddof=1), rel=1e-4)  # restricted likelihood: k - 1

    def test_shared_noise_alone_correlates_the_estimates_but_not_the_effects(self):
        found = [proxy_across(*experiments(true=((0.3, 0.0), (0.0, 0.3)), seed=seed)) for seed in range(3)]
        assert np.mean([f.naive_correlation for f in found]) > 0.5
        assert sum(f.pvalue < 0.05 for f in found) <= stats.binom.ppf(0.999, 3, 0.05)
        for f in found:
            assert (f.pvalue < 0.05) == (not f.correlation_ci_low < 0 < f.correlation_ci_high)

    def test_units_do_not_matter(self):
        x, y, sx, sy, r = experiments()
        one, two = proxy_across(x, y, sx, sy, r), proxy_across(100 * x, -y / 7, 100 * sx, sy / 7, -r)
        assert two.correlation == pytest.approx(-one.correlation, abs=1e-4)
        assert two.slope_ci_high == pytest.approx(-one.slope_ci_low / 700, rel=1e-3)

    def test_a_proxy_that_never_moved_has_no_slope(self):
        rng = np.random.default_rng(2)
        found = proxy_across(*rng.normal(0, [[1.0], [1.2]], (2, 30)), np.ones(30), np.ones(30))
        assert (found.slope_ci_low, found.slope_ci_high) == (-np.inf, np.inf)
        assert "may not vary at all" in str(found)

    @pytest.mark.slow
    def test_coverage(self):
        n, covered = 200, np.zeros(2)
        for seed in range(n):
            f = proxy_across(*experiments(seed=seed))
            covered += [
                f.correlation_ci_low <= 0.5**0.5 <= f.correlation_ci_high, f.slope_ci_low <= 0.5 <= f.slope_ci_high
            ]  # fmt: skip
        assert (covered >= stats.binom.ppf(0.001, n, 0.94)).all(), covered / n

    def test_refusals(self):
        x, y, sx, sy, r = experiments()
        for change, words in [
            ((x[:4], y[:4], sx[:4], sy[:4], r), "4 experiments"),
            ((x, y, 0 * sx, sy, r), "60 of 60 experiments"),
            ((x, y, sx, sy, 1.5), "outside"),
            ((np.zeros(60), y, sx, sy, r), "all 0"),
        ]:
            with pytest.raises(OutcomeError, match=words):
                proxy_across(*change)

    def test_asos(self, data_dir):
        """Two of the four metrics at the end of each experiment; the errors' correlation is not published."""
        frame = pd.read_parquet(data_dir / "asos_experiments" / "asos_digital_experiments_dataset.parquet").dropna()
        last = frame.sort_values("time_since_start").groupby(["experiment_id", "variant_id", "metric_id"]).last()
        first_arm = last.reset_index().groupby(["experiment_id", "metric_id"]).first()
        effect = ((first_arm.mean_t - first_arm.mean_c) / first_arm.mean_c).unstack()
        variance = first_arm.variance_c / first_arm.count_c + first_arm.variance_t / first_arm.count_t
        error = (np.sqrt(variance) / first_arm.mean_c).unstack()
        kept = effect[[1, 2]].notna().all(axis=1)
        e, s = effect[kept], error[kept]
        found = [proxy_across(e[1], e[2], s[1], s[2], r) for r in (0.0, 0.6)]
        assert found[0].n_experiments == kept.sum() > 50
        assert found[0].naive_correlation == pytest.approx(np.corrcoef(e[1], e[2])[0, 1], rel=1e-9)
        for f in found:
            assert f.correlation_ci_low <= f.correlation <= f.correlation_ci_high


class TestCannibalisation:
    @staticmethod
    def sold(rest=-0.7, n=(3000, 4000), seed=0):
        rng = np.random.default_rng(seed)
        arms = []
        for k, size in enumerate(n):
            taste = rng.normal(0, 1, size)
            arms.append(np.c_[5 + k + taste + rng.normal(0, 2, size), 20 + k * rest + taste + rng.normal(0, 4, size)])
        return arms

    def test_each_effect_is_welchs_and_the_total_their_sum(self):
        a, b = self.sold()
        found = cannibalisation(*moments([a, b], ("own", "rest")), target="own", rest="rest")
        for name, x, y, side in [
            ("target", a[:, 0], b[:, 0], "two-sided"),
            ("rest", a[:, 1], b[:, 1], "less"),
            ("total", a.sum(axis=1), b.sum(axis=1), "two-sided"),
        ]:
            peer = stats.ttest_ind(y, x, equal_var=False, alternative=side)
            assert getattr(found, f"{name}_pvalue") == pytest.approx(peer.pvalue, rel=1e-9)
            two = stats.ttest_ind(y, x, equal_var=False).confidence_interval(0.95)
            assert (getattr(found, f"{name}_ci_low"), getattr(found, f"{name}_ci_high")) == pytest.approx(two, rel=1e-9)

    def test_the_limits_of_the_share_are_where_the_test_just_does_not_reject(self):
        a, b = self.sold()
        found = cannibalisation(*moments([a, b], ("own", "rest")), target="own", rest="rest")
        for share in (found.share_taken_ci_low, found.share_taken_ci_high):
            p = stats.ttest_ind(b @ [share, 1.0], a @ [share, 1.0], equal_var=False).pvalue
            assert p == pytest.approx(0.05, abs=2e-4)  # degrees of freedom of the estimate
        gain = b.mean(axis=0) - a.mean(axis=0)
        assert found.share_taken == pytest.approx(-gain[1] / gain[0])

    def test_total_instead_of_rest_says_the_same(self):
        arms = self.sold()
        one = cannibalisation(*moments(arms, ("own", "rest")), target="own", rest="rest")
        whole = [np.c_[x[:, 0], x.sum(axis=1)] for x in arms]
        two = cannibalisation(*moments(whole, ("own", "all")), target="own", total="all")
        for name in ("rest_effect", "rest_pvalue", "total_ci_low", "share_taken", "share_taken_ci_high"):
            assert getattr(two, name) == pytest.approx(getattr(one, name), rel=1e-9)
        assert two.rest == "all without own"

    @pytest.mark.parametrize(
        ("rest", "verdict", "said"),
        [
            (-0.7, "cannibalised in part", "the total still rises"),
            (-1.0, "a mere shift", "no change of the total"),
            (0.3, "not seen", "no loss of rest is shown"),
            (-3.0, "total falls", "loses more than own gains"),
        ],
    )
    def test_verdicts(self, rest, verdict, said):
        found = cannibalisation(*moments(self.sold(rest, n=(20000, 20000)), ("own", "rest")), target="own", rest="rest")
        assert found.verdict == verdict
        assert said in str(found)

    def test_no_gain(self):
        a, b = self.sold(rest=0.0)
        b[:, 0] -= b[:, 0].mean() - a[:, 0].mean()
        found = cannibalisation(*moments([a, b], ("own", "rest")), target="own", rest="rest")
        assert found.verdict == "no gain"
        assert "cannot be said" in str(found)

    def test_share_covers_the_truth(self):
        n = 400
        covered = 0
        for seed in range(n):
            found = cannibalisation(*moments(self.sold(n=(150, 200), seed=seed), ("o", "r")), target="o", rest="r")
            covered += found.share_taken_ci_low <= 0.7 <= found.share_taken_ci_high
        assert covered >= stats.binom.ppf(0.001, n, 0.95)

    def test_refusals(self):
        arms = moments(self.sold(), ("own", "rest"))
        for given in ({}, {"rest": "rest", "total": "own"}):
            with pytest.raises(CausalRecError, match="expected one of them"):
                cannibalisation(*arms, target="own", **given)
        flat = [np.c_[x[:, 0], np.ones(len(x))] for x in self.sold()]
        with pytest.raises(OutcomeError, match="no variance"):
            cannibalisation(*moments(flat, ("own", "rest")), target="own", rest="rest")
