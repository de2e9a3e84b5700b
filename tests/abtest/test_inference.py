"""Tests of two arms against published values, scipy, statsmodels, exact arithmetic and simulation."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import special, stats
from statsmodels.stats import proportion

from causalrec.abtest import (
    Estimate,
    Experiment,
    Mean,
    Proportion,
    fieller_ratio,
    infer,
    two_proportion_test,
    welch_test,
)
from causalrec.exceptions import CausalRecError, ColumnError, OutcomeError, TreatmentError
from causalrec.moments import Moments

ALTERNATIVES = ("two-sided", "greater", "less")
MARKETING = (420, 23_524, 14_423, 564_577)


def from_sums(total, squares, n):
    """Mean, variance and size from a sum and a sum of squares, as peers state their cases."""
    return total / n, (squares - total**2 / n) / (n - 1), n


def of_moments(moments, metrics, control):
    """The experiment's answer from moments collected elsewhere."""
    return Experiment(metrics, variant="arm", control=control).analyze(moments)


def check_share(hits, nominal):
    """A simulated share lies within four binomial standard errors of its nominal value."""
    share, reps = np.mean(hits), len(hits)
    assert abs(share - nominal) < 4 * math.sqrt(nominal * (1 - nominal) / reps), share


class TestTwoProportions:
    def test_marketing_ab_as_published(self):
        # 588,101 users; stalcup-dev/marketing-ab-experiment, estimation_report.md: lift +0.769 pp, 95% CI
        # [0.60, 0.94] pp, relative +43.1%, z = 7.370, p = 1.7e-13.
        result = two_proportion_test(*MARKETING)
        assert round(result.statistic, 3) == 7.370
        assert f"{result.pvalue:.1e}" == "1.7e-13"
        assert (round(100 * result.estimate, 3), round(100 * result.ci_low, 2), round(100 * result.ci_high, 2)) == (
            0.769, 0.60, 0.94,
        )  # fmt: skip
        assert round(100 * result.relative_effect, 1) == 43.1
        assert (result.n_obs, result.n_control, result.n_treatment, result.df) == (588_101, 23_524, 564_577, math.inf)

    def test_tea_tasting_without_correction(self):
        # tea-tasting tests/metrics/test_proportion.py: 19/53 against 13/47, pooled, correction off.
        assert two_proportion_test(19, 53, 13, 47).pvalue == pytest.approx(0.3809096823118986, rel=1e-12)

    @pytest.mark.data
    def test_cookie_cats_day_7_retention(self, data_dir):
        # 19.02% against 18.20%, z = 3.16 (gate_30 minus gate_40).
        frame = pd.read_parquet(data_dir / "cookie_cats" / "cookie_cats.parquet")
        moments = {
            arm: Moments.from_array(rows[["retention_7"]].to_numpy(float), ["retention_7"])
            for arm, rows in frame.groupby("version")
        }
        result = of_moments(moments, {"retention_7": Proportion("retention_7")}, control="gate_40")["retention_7"]
        assert round(result.statistic, 2) == 3.16
        assert (round(100 * result.control_mean, 2), round(100 * result.treatment_mean, 2)) == (18.20, 19.02)

    @pytest.mark.parametrize("counts", [MARKETING, (56, 70, 48, 80), (19, 53, 13, 47), (1, 40, 7, 30)], ids=str)
    @pytest.mark.parametrize("pooled", [True, False])
    @pytest.mark.parametrize("alternative", ["two-sided", "larger", "smaller"])
    def test_statsmodels(self, counts, pooled, alternative):
        ours = dict(zip(["two-sided", "larger", "smaller"], ALTERNATIVES, strict=True))[alternative]
        c0, n0, c1, n1 = counts
        result = two_proportion_test(*counts, pooled=pooled, alternative=ours)
        if pooled:
            statistic, pvalue = proportion.proportions_ztest([c1, c0], [n1, n0], alternative=alternative)
        else:
            test = proportion.test_proportions_2indep(
                c1, n1, c0, n0, method="wald", compare="diff", alternative=alternative, correction=False
            )
            statistic, pvalue = test.statistic, test.pvalue
        np.testing.assert_allclose([result.statistic, result.pvalue], [statistic, pvalue], rtol=1e-9)
        if ours == "two-sided":
            interval = proportion.confint_proportions_2indep(c1, n1, c0, n0, method="wald", compare="diff", alpha=0.05)
            np.testing.assert_allclose([result.ci_low, result.ci_high], interval, rtol=1e-9)

    def test_the_unpooled_interval_and_p_value_are_one(self):
        p = two_proportion_test(19, 53, 13, 47, pooled=False).pvalue
        edge = two_proportion_test(19, 53, 13, 47, pooled=False, confidence_level=1 - p)
        assert edge.ci_high == pytest.approx(0, abs=1e-12)
        assert edge.relative_ci_high == pytest.approx(0, abs=1e-12)

    def test_nothing_varies_within_the_arms(self):
        result = two_proportion_test(0, 10, 10, 10)
        assert result.statistic == pytest.approx(math.sqrt(20))  # pooled: 1 / sqrt(.25 (1/10 + 1/10))
        assert all(np.isnan([result.std_error, result.ci_low, result.ci_high, result.relative_ci_low]))
        assert "no variance within either arm" in result.method
        with pytest.raises(OutcomeError, match="no variance to test with"):
            two_proportion_test(0, 10, 10, 10, pooled=False)

    @pytest.mark.parametrize("counts", [(0, 9, 0, 9), (9, 9, 9, 9)])
    def test_all_alike(self, counts):
        with pytest.raises(OutcomeError, match="conversion: every value is the same within each arm"):
            two_proportion_test(*counts)

    @pytest.mark.parametrize(
        "counts",
        [(3, 2, 1, 5), (-1, 2, 1, 5), (math.nan, 5, 1, 5), (1.5, 5, 1, 5), (0, 0, 1, 5), (1, 1, 1, 5)],
        ids=str,
    )
    def test_impossible_counts(self, counts):
        with pytest.raises(OutcomeError, match=r"arm 'control' has .* expected whole numbers .* at least two units"):
            two_proportion_test(*counts)


class TestWelch:
    def test_tea_tasting(self):
        # tea-tasting tests/metrics/test_mean.py.
        result = welch_test(0.5660377358490566, 0.7888243831640053, 53, 0.3829787234042553, 0.5023126734505092, 47)
        assert result.pvalue == pytest.approx(0.2551230546709908, rel=1e-12)
        assert result.statistic == pytest.approx(-1.1447678040118034, rel=1e-12)
        assert result.ci_low == pytest.approx(-0.5004359360326984, rel=1e-9)  # the t quantile of scipy
        assert result.ci_high == pytest.approx(0.13431791114309583, rel=1e-9)

    def test_growthbook_absolute(self):
        # growthbook gbstats tests/frequentist/test_tests.py.
        result = welch_test(*from_sums(1396.87, 52377.9767, 3407), *from_sums(2422.7, 134698.29, 3461))
        found = (
            result.estimate,
            result.std_error,
            result.ci_low,
            result.ci_high,
            result.pvalue,
            result.relative_effect,
        )
        np.testing.assert_allclose(found, (0.29, 0.12478, 0.04538, 0.53462, 0.02016, 0.70732), atol=6e-6)

    @pytest.mark.parametrize(
        ("control", "treatment", "expected"),
        [
            ((312, 984, 104), (1969, 5767, 1009), (-1.048563, -1.205963, -0.891163)),
            ((24, 80, 10), (330, 1010, 150), (-0.2, -1.340533, 0.940533)),
        ],
    )
    def test_confidence_from_sums(self, control, treatment, expected):
        # spotify confidence tests/frequentist/test_ttest.py.
        result = welch_test(*from_sums(*control), *from_sums(*treatment))
        np.testing.assert_allclose((result.estimate, result.ci_low, result.ci_high), expected, atol=6e-7)
        if control[2] == 10:
            assert result.pvalue == pytest.approx(0.704021, abs=1e-6)

    @pytest.mark.parametrize("alternative", ALTERNATIVES)
    def test_scipy(self, alternative):
        rng = np.random.default_rng(3)
        a, b = rng.exponential(2, 40), rng.normal(2.5, 0.5, 25)
        theirs = stats.ttest_ind(b, a, equal_var=False, alternative=alternative)
        interval = theirs.confidence_interval(0.9)
        ours = welch_test(
            a.mean(), a.var(ddof=1), 40, b.mean(), b.var(ddof=1), 25, alternative=alternative, confidence_level=0.9
        )
        np.testing.assert_allclose(
            (ours.statistic, ours.df, ours.pvalue, ours.ci_low, ours.ci_high),
            (theirs.statistic, theirs.df, theirs.pvalue, interval.low, interval.high),
        )

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ((1.0, 1.0, 1, 1.0, 1.0, 5), ["'control' has 1 units", "at least two"]),
            ((1.0, 1.0, 5, 1.0, 1.0, 0), ["'treatment' has 0 units"]),
            ((math.nan, 1.0, 5, 1.0, 1.0, 5), ["mean nan", "missing"]),
            ((1.0, math.inf, 5, 1.0, 1.0, 5), ["variance inf"]),
            ((1.0, -0.1, 5, 1.0, 1.0, 5), ["variance -0.1", ">= 0"]),
            ((1.0, 0.0, 5, 2.0, 0.0, 5), ["same within each arm", "Check"]),
        ],
    )
    def test_impossible_moments(self, arguments, words):
        with pytest.raises(OutcomeError) as caught:
            welch_test(*arguments)
        assert all(word in str(caught.value) for word in words), str(caught.value)

    def test_one_constant_arm_is_a_one_sample_test(self):
        b = np.array([1.0, 2.0, 4.0, 5.5])
        ours = welch_test(2.0, 0.0, 9, b.mean(), b.var(ddof=1), 4)
        theirs = stats.ttest_1samp(b, 2.0)
        np.testing.assert_allclose((ours.statistic, ours.df, ours.pvalue), (theirs.statistic, 3, theirs.pvalue))


class TestTinyPValues:
    def test_normal(self):
        # 10% against 12%, n = 100,000 each: 2 * (1 - cdf) is 0 there.
        result = two_proportion_test(10_000, 100_000, 12_000, 100_000)
        assert math.log(result.pvalue) == pytest.approx(math.log(2) + stats.norm.logsf(result.statistic), rel=1e-12)
        assert 0 < result.pvalue < 1e-40

    def test_far_out_in_both_laws(self):
        tiny = two_proportion_test(3000, 10_000, 6475, 13_000, alternative="greater")
        assert 0 < welch_test(0.0, 1.0, 500_000, 0.0742, 1.0, 500_000).pvalue < 1e-290
        assert math.log(tiny.pvalue) == pytest.approx(stats.norm.logsf(tiny.statistic), rel=1e-12)

    def test_t_against_the_incomplete_beta_function(self):
        result = welch_test(0.0, 1.0, 200, 3.2, 1.0, 200)
        expected = special.betainc(result.df / 2, 0.5, result.df / (result.df + result.statistic**2))
        assert result.pvalue == pytest.approx(expected, rel=1e-9)
        assert 0 < result.pvalue < 1e-100


means = st.floats(-50, 50).filter(lambda x: abs(x) > 0.1)
variances = st.floats(0.01, 100)
sizes = st.integers(2, 5000)


class TestProperties:
    @settings(max_examples=60, deadline=None)
    @given(means, variances, sizes, means, variances, sizes, st.floats(0.01, 100), st.floats(-100, 100))
    def test_units_and_origin_of_the_outcome_do_not_matter(self, m0, v0, n0, m1, v1, n1, scale, shift):
        base = welch_test(m0, v0, n0, m1, v1, n1)
        other = welch_test(scale * m0 + shift, scale**2 * v0, n0, scale * m1 + shift, scale**2 * v1, n1)
        expected = scale * np.array([base.estimate, base.std_error, base.ci_low, base.ci_high])
        np.testing.assert_allclose(
            [other.estimate, other.std_error, other.ci_low, other.ci_high],
            expected,
            rtol=1e-7,
            atol=1e-9 * scale + 1e-10,
        )
        np.testing.assert_allclose([other.statistic, other.df], [base.statistic, base.df], rtol=1e-6, atol=1e-6)
        same = welch_test(scale * m0, scale**2 * v0, n0, scale * m1, scale**2 * v1, n1)
        np.testing.assert_allclose(
            [same.relative_effect, same.relative_ci_low, same.relative_ci_high],
            [base.relative_effect, base.relative_ci_low, base.relative_ci_high],
            rtol=1e-6, atol=1e-9,
        )  # fmt: skip

    @settings(max_examples=60, deadline=None)
    @given(means, variances, sizes, means, variances, sizes)
    def test_swapping_the_arms_turns_the_sign(self, m0, v0, n0, m1, v1, n1):
        one, other = welch_test(m0, v0, n0, m1, v1, n1), welch_test(m1, v1, n1, m0, v0, n0)
        np.testing.assert_allclose(
            [one.estimate, one.statistic, one.ci_low, one.ci_high, one.pvalue, one.df],
            [-other.estimate, -other.statistic, -other.ci_high, -other.ci_low, other.pvalue, other.df],
        )

    @settings(max_examples=80, deadline=None)
    @given(means, variances, sizes, means, variances, sizes, st.sampled_from(ALTERNATIVES), st.floats(0.5, 0.999))
    def test_absolute_interval_relative_interval_and_p_value_agree(self, m0, v0, n0, m1, v1, n1, alternative, level):
        result = welch_test(m0, v0, n0, m1, v1, n1, alternative=alternative, confidence_level=level)
        assume(abs(result.pvalue - (1 - level)) > 1e-6)
        excludes = not result.ci_low <= 0 <= result.ci_high
        assert excludes == (result.pvalue < 1 - level)
        if "unbounded" in result.method:
            assert (result.relative_ci_low, result.relative_ci_high) == (-math.inf, math.inf)
        else:
            assert excludes == (not result.relative_ci_low <= 0 <= result.relative_ci_high)


class TestFieller:
    @pytest.mark.parametrize("quantile", [1.96, 0.5, -1.0])
    def test_the_limits_are_the_ratios_on_the_edge_of_rejection(self, quantile):
        m1, v1, m0, v0 = 12.0, 0.4, 10.0, 0.3
        low, high, note = fieller_ratio(m1, v1, m0, v0, quantile)
        edge = [(m1 - r * m0) / math.sqrt(v1 + r**2 * v0) for r in (low, high)]
        np.testing.assert_allclose(edge, [quantile, -quantile], rtol=1e-12)
        assert note == ""

    @pytest.mark.parametrize("mean", [1e4, 1e8, -1e8])
    def test_digits_survive_a_large_mean(self, mean):
        # The textbook form is a difference of squares: at 1e8 it has no digit left.
        m1, v1, m0, v0, z = mean + 1, 1e-4, mean, 2e-4, 1.96
        low, high, _ = fieller_ratio(m1, v1, m0, v0, z)
        with localcontext() as context:
            context.prec = 80
            M1, V1, M0, V0, Z = map(Decimal, (m1, v1, m0, v0, z))
            a = M0**2 - Z**2 * V0
            root = ((M0 * M1) ** 2 - a * (M1**2 - Z**2 * V1)).sqrt()
            exact = sorted(float((M0 * M1 + sign * root) / a - 1) for sign in (-1, 1))
        np.testing.assert_allclose([low - 1, high - 1], exact, rtol=0, atol=5e-16)

    @pytest.mark.parametrize("m0", [0.0, 0.1, -0.1])
    def test_a_control_mean_like_zero_has_no_bounded_interval(self, m0):
        result = welch_test(m0, 1.0, 100, 5.0, 1.0, 100)
        assert (result.relative_ci_low, result.relative_ci_high) == (-math.inf, math.inf)
        assert "not distinguishable from zero" in result.method
        assert np.isnan(result.relative_effect) == (m0 == 0)

    @pytest.mark.parametrize(("m0", "sides"), [(10.0, (True, False)), (-10.0, (False, True))])
    def test_one_sided_intervals_open_to_the_right_side(self, m0, sides):
        result = welch_test(m0, 1.0, 100, m0 + 1, 1.0, 100, alternative="greater")
        assert (result.ci_low > 0, result.ci_high) == (True, math.inf)
        assert np.isfinite([result.relative_ci_low, result.relative_ci_high]).tolist() == list(sides)


ROWS = {
    "A": np.array([[0.0, 3.0], [1.0, 5.0], [0.0, 4.0], [0.0, 9.0]]),
    "B": np.array([[1.0, 6.0], [1.0, 2.0], [0.0, 8.0]]),
    "C": np.array([[1.0, 1.0], [0.0, 2.0]]),
}
MOMENTS = {arm: Moments.from_array(values, ["bought", "spend"]) for arm, values in ROWS.items()}


class TestMomentsCollectedElsewhere:
    def test_every_arm_against_control_on_every_metric(self):
        found = of_moments(MOMENTS, {"bought": Proportion("bought"), "spend": Mean("spend")}, control="B").effects
        assert [(r.metric, r.control, r.treatment) for r in found] == [
            (m, "B", t) for m in ("bought", "spend") for t in ("A", "C")
        ]
        direct = two_proportion_test(2, 3, 1, 4, metric="bought", control="B", treatment="A")
        np.testing.assert_equal(found[0].to_dict(), direct.to_dict())
        theirs = stats.ttest_ind(ROWS["A"][:, 1], ROWS["B"][:, 1], equal_var=False)
        assert found[2].pvalue == pytest.approx(theirs.pvalue)

    @pytest.mark.parametrize(
        ("metrics", "control", "error", "words"),
        [
            ({"spend": Mean("spend")}, "D", TreatmentError, ["'D'", "'A', 'B', 'C'"]),
            ({"spend": Mean("spend")}, 1, TreatmentError, ["control 1", "'A', 'B', 'C'"]),
            ({"spend": Proportion("spend")}, "A", OutcomeError, ["spend", "'A'", "other than 0 and 1", "mean"]),
            ({"spend": "Mean"}, "A", CausalRecError, ["'Mean'", "expected a metric, such as Mean"]),
            ({"spend": Mean("spent")}, "A", ColumnError, ["Did you mean 'spend'?"]),
        ],
    )
    def test_misuse_says_what_to_do(self, metrics, control, error, words):
        with pytest.raises(error) as caught:
            of_moments(MOMENTS, metrics, control=control)
        assert all(word in str(caught.value) for word in words), str(caught.value)

    def test_one_arm(self):
        with pytest.raises(TreatmentError, match="only the arm 'A'"):
            of_moments({"A": MOMENTS["A"]}, {"spend": Mean("spend")}, control="A")

    @pytest.mark.parametrize(
        "values", [[0.5], [2.0, 0.0], [0.5, 0.5], [1.0, 1.0, 1.0, -1.0], [2.0, *[0.5] * 8]], ids=str
    )
    def test_what_is_no_proportion(self, values):
        moments = {
            "A": Moments.from_array(np.array([values]).T, ["y"]),
            "B": Moments.from_array(np.eye(2)[:, :1], ["y"]),
        }
        metrics = {"y": Proportion("y")}
        if values == [2.0, *[0.5] * 8]:
            # Mean, variance and a whole sum as of six ones in nine: moments alone cannot tell, the caller checks rows.
            assert of_moments(moments, metrics, control="B")["y"].treatment_mean == pytest.approx(6 / 9)
            return
        with pytest.raises(OutcomeError):
            of_moments(moments, metrics, control="A")

    @pytest.mark.parametrize("metric", [Proportion("bought"), Mean("bought")], ids=["proportion", "mean"])
    def test_an_arm_with_one_unit(self, metric):
        moments = {"A": MOMENTS["A"], "B": Moments.from_array(np.array([[1.0, 2.0]]), ["bought", "spend"])}
        with pytest.raises(OutcomeError, match=r"'B' has .*at least two"):
            of_moments(moments, {"bought": metric}, control="A")


class TestRelativeIntervalsAtTheEdge:
    """Means that are nothing, tiny or huge for their errors: an honest interval and a note, never an overflow."""

    @pytest.mark.parametrize("df", [math.inf, 30.0])
    @pytest.mark.parametrize(
        ("control", "treatment"), [(1e-6, 1e-6), (1e-170, 1e-170), (1e-300, 1e300), (5e-324, 1.0), (1.0, 1e-320)]
    )
    def test_the_logarithm_of_means_like_zero_says_nothing(self, control, treatment, df):
        estimate = Estimate(control, treatment, 1e-4, 1e-4, 0.0, df, 100, 100, "x")
        found = infer(estimate, metric="m", control="a", treatment="b", relative="log")
        assert (found.relative_ci_low, found.relative_ci_high) == (-1.0, math.inf)
        assert "relative unbounded" in found.method
        assert math.isfinite(found.ci_low)

    @pytest.mark.parametrize("control", [0.0, -1.0])
    def test_no_logarithm_of_what_is_not_positive(self, control):
        found = infer(Estimate(control, 1.0, 1.0, 1.0, 0.0, 9.0, 9, 9, "x"), metric="m", control="a", treatment="b",
                      relative="log")  # fmt: skip
        assert math.isnan(found.relative_ci_low)
        assert "needs two positive means" in found.method

    @pytest.mark.parametrize("control", [1e-300, 5e-324])
    def test_the_delta_method_overflows_to_the_whole_line(self, control):
        found = infer(Estimate(control, 1e300, 1.0, 1.0, 0.0, 9.0, 9, 9, "x"), metric="m", control="a", treatment="b",
                      relative="delta")  # fmt: skip
        assert (found.relative_ci_low, found.relative_ci_high) == (-math.inf, math.inf)
        assert "relative unbounded" in found.method

    def test_the_logarithm_by_the_textbook(self):
        # Var log(t / c) = v_t / t^2 + v_c / c^2; Satterthwaite's degrees of freedom on that scale.
        estimate = Estimate(10.0, 12.0, 0.2, 0.3, 0.0, 40.0, 30, 20, "x")
        found = infer(estimate, metric="m", control="a", treatment="b", relative="log")
        parts = np.array([0.2 / 100, 0.3 / 144])
        df = parts.sum() ** 2 / (parts**2 / [29, 19]).sum()
        half = stats.t.isf(0.025, df) * math.sqrt(parts.sum())
        expected = (1.2 * math.exp(-half) - 1, 1.2 * math.exp(half) - 1)
        np.testing.assert_allclose((found.relative_ci_low, found.relative_ci_high), expected, rtol=1e-12)


class TestClaims:
    """Size under the null and coverage of both intervals, seeded."""

    reps = 1500

    @pytest.mark.parametrize("pooled", [True, False])
    @pytest.mark.parametrize("n", [(400, 400), (300, 1500)], ids=str)
    def test_proportions(self, pooled, n):
        rng = np.random.default_rng(11)
        p0, p1 = 0.3, 0.36
        null = np.array([rng.binomial(n[0], p0, self.reps), rng.binomial(n[1], p0, self.reps)]).T
        check_share([two_proportion_test(a, n[0], b, n[1], pooled=pooled).pvalue < 0.05 for a, b in null], 0.05)
        found = [
            two_proportion_test(a, n[0], b, n[1], pooled=pooled)
            for a, b in zip(rng.binomial(n[0], p0, self.reps), rng.binomial(n[1], p1, self.reps), strict=True)
        ]
        check_share([r.ci_low <= p1 - p0 <= r.ci_high for r in found], 0.95)
        check_share([r.relative_ci_low <= p1 / p0 - 1 <= r.relative_ci_high for r in found], 0.95)

    @pytest.mark.parametrize("alternative", ALTERNATIVES)
    def test_means_of_small_unequal_arms(self, alternative):
        # Normal outcomes, so t is right but for Welch's approximation of the degrees of freedom.
        rng = np.random.default_rng(12)
        n0, n1, m0, m1 = 12, 25, 10.0, 11.0
        a, b = rng.normal(m0, 3.0, (self.reps, n0)), rng.normal(m1, 1.0, (self.reps, n1))
        m, v = (a.mean(1), b.mean(1)), (a.var(1, ddof=1), b.var(1, ddof=1))
        found = [
            welch_test(m[0][i], v[0][i], n0, m[1][i], v[1][i], n1, alternative=alternative) for i in range(self.reps)
        ]
        check_share([r.ci_low <= m1 - m0 <= r.ci_high for r in found], 0.95)
        check_share([r.relative_ci_low <= m1 / m0 - 1 <= r.relative_ci_high for r in found], 0.95)
        null = [
            welch_test(m[0][i], v[0][i], n0, m[1][i] - 1, v[1][i], n1, alternative=alternative).pvalue < 0.05
            for i in range(self.reps)
        ]
        check_share(null, 0.05)
