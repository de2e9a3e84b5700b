"""The split that was designed, and units in more than one arm."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalrec.abtest.checks import (
    assignment_counts,
    heterogeneity_test,
    outlier_report,
    sample_ratio_by,
    sample_ratio_test,
)
from causalrec.abtest.inference import welch_test
from causalrec.exceptions import CausalRecError, ColumnError, OutcomeError, TreatmentError


class TestSampleRatio:
    def test_cookie_cats_as_published(self):
        # 44,700 against 45,489: chi-square 6.90, p = .0086.
        result = sample_ratio_test({"gate_30": 44_700, "gate_40": 45_489}, threshold=0.01)
        assert (round(result.statistic, 2), round(result.pvalue, 4), result.mismatch) == (6.90, 0.0086, True)
        assert result.expected == (45_094.5, 45_094.5)

    def test_tea_tasting(self):
        # tea-tasting tests/metrics/test_proportion.py: 53 against 47, exact binomial.
        result = sample_ratio_test({"a": 53, "b": 47})
        assert result.pvalue == pytest.approx(0.6172994135892521, rel=1e-12)
        assert result.method == "exact binomial test"
        # The same file: the normal approximation, with and without continuity correction.
        normal = sample_ratio_test({"a": 53, "b": 47}, method="chi-square")
        assert normal.pvalue == pytest.approx(0.5485062355001472, rel=1e-12)
        corrected = sample_ratio_test({"a": 53, "b": 47}, correction=True)
        assert corrected.pvalue == pytest.approx(0.6170750774519738, rel=1e-12)
        assert corrected.method == "Pearson chi-square test with continuity correction"

    def test_exact_whatever_the_size(self):
        result = sample_ratio_test({"a": 50_300, "b": 49_700, "off": 0}, {"a": 1, "b": 1, "off": 0}, method="exact")
        assert result.pvalue == pytest.approx(stats.binomtest(50_300, 100_000).pvalue)

    @pytest.mark.parametrize("kwargs", [{"method": "exact"}, {"correction": True}, {"method": "g"}])
    def test_tests_of_two_arms_refuse_three(self, kwargs):
        with pytest.raises(CausalRecError, match=r"for two|'chi-square'"):
            sample_ratio_test({"a": 5, "b": 5, "c": 5}, **kwargs)

    @pytest.mark.parametrize(
        ("counts", "weights"),
        [
            ({"a": 530, "b": 470, "c": 505}, None),
            ({"a": 3000, "b": 1100}, {"b": 1, "a": 3}),
            ({"a": 5, "b": 4, "c": 9}, {"a": 0.25, "b": 0.25, "c": 0.5}),
            ({1: 5100, 2: 4900}, {1: 50, 2: 50, 3: 0}),
        ],
        ids=str,
    )
    def test_scipy(self, counts, weights):
        arms = list(counts)
        share = np.array([1.0 if weights is None else weights[a] for a in arms])
        observed = np.array(list(counts.values()))
        theirs = stats.chisquare(observed, share / share.sum() * observed.sum())
        result = sample_ratio_test(counts, weights)
        np.testing.assert_allclose([result.statistic, result.pvalue], [theirs.statistic, theirs.pvalue])
        assert (result.df, result.n_obs) == (len(arms) - 1, observed.sum())

    def test_scipy_exact_with_unequal_shares(self):
        result = sample_ratio_test({"a": 30, "b": 12}, {"a": 0.8, "b": 0.2})
        assert result.pvalue == pytest.approx(stats.binomtest(30, 42, 0.8).pvalue)

    def test_a_tiny_p_value_is_a_number(self):
        result = sample_ratio_test({"a": 500_000, "b": 518_500})
        assert math.log(result.pvalue) == pytest.approx(
            math.log(2) + stats.norm.logsf(math.sqrt(result.statistic)), rel=1e-9
        )
        assert 0 < result.pvalue < 1e-70

    def test_a_designed_arm_that_never_showed(self):
        result = sample_ratio_test({"a": 500, "b": 510}, {"a": 1, "b": 1, "c": 1})
        assert result.counts == (500, 510, 0)
        assert result.pvalue == pytest.approx(stats.chisquare([500, 510, 0]).pvalue)
        assert result.mismatch
        assert sample_ratio_test({"a": 100}, {"a": 0.5, "b": 0.5}).pvalue == pytest.approx(2**-99)

    def test_a_series_is_a_mapping_and_a_list_is_not(self):
        counts = pd.Series(["A"] * 50 + ["B"] * 70).value_counts()
        found = sample_ratio_test(counts, pd.Series({"A": 1, "B": 1}))
        assert found.pvalue == pytest.approx(stats.binomtest(50, 120).pvalue)
        with pytest.raises(CausalRecError, match="expected a mapping of arm to number"):
            sample_ratio_test([50, 70])

    def test_arms_of_weight_zero(self):
        weights = {"a": 1, "b": 1, "off": 0}
        assert sample_ratio_test({"a": 500, "b": 600, "off": 1}, weights).pvalue == 0.0
        assert math.isnan(sample_ratio_test({"a": 5, "off": 0}, {"a": 1, "off": 0}).pvalue)

    @pytest.mark.parametrize(
        ("counts", "weights", "words"),
        [
            ({"a": 5}, None, ["found 1 arms", "'a'", "at least two"]),
            ({}, None, ["found 0 arms"]),
            ({"a": 0, "b": 0}, None, ["0.0, 0.0", "at least one unit"]),
            ({"a": -1, "b": 3}, None, ["-1.0, 3.0", ">= 0"]),
            ({"a": math.nan, "b": 3}, None, ["nan", "whole numbers"]),
            ({"a": 1.5, "b": 3}, None, ["1.5", "whole numbers"]),
            ({"a": 5, "b": 5}, {"a": 1, "bb": 1}, ["'b' has no weight", "'a', 'bb'"]),
            ({"a": 5, "b": 5}, {"a": 0, "b": 0}, ["weights are 0.0, 0.0", "positive sum"]),
            ({"a": 5, "b": 5}, {"a": math.nan, "b": 1}, ["weights are nan"]),
        ],
        ids=str,
    )
    def test_misuse_says_what_to_do(self, counts, weights, words):
        with pytest.raises(TreatmentError) as caught:
            sample_ratio_test(counts, weights)
        assert all(word in str(caught.value) for word in words), str(caught.value)

    @pytest.mark.parametrize("threshold", [0, 1, math.nan])
    def test_a_threshold_that_is_no_p_value(self, threshold):
        with pytest.raises(CausalRecError, match="threshold"):
            sample_ratio_test({"a": 5, "b": 5}, threshold=threshold)

    @pytest.mark.parametrize(("n", "exact"), [(300, True), (4000, False)])
    def test_size(self, n, exact):
        rng = np.random.default_rng(5)
        hits = [
            sample_ratio_test({"a": c, "b": n - c}, threshold=0.05).mismatch
            for c in rng.binomial(n, 0.5, 1500).tolist()
        ]
        bound = 4 * math.sqrt(0.05 * 0.95 / len(hits))
        assert np.mean(hits) < 0.05 + bound
        if not exact:
            assert np.mean(hits) > 0.05 - bound


ASSIGNED = pd.DataFrame(
    {"user": [1, 1, 2, 3, 3, 4, 4], "arm": ["A", "B", "A", "B", "B", "A", "A"], "day": [1, 1, 1, 1, 1, 1, 2]}
)


class TestAssignments:
    def test_conflicts_are_refused(self):
        with pytest.raises(TreatmentError) as caught:
            assignment_counts(ASSIGNED, unit="user", variant="arm")
        text = str(caught.value)
        assert all(word in text for word in ("1 of 4 units", "more than one arm", "user 1", "on_conflict='drop'"))

    def test_conflicts_are_dropped_and_counted(self):
        before = ASSIGNED.copy()
        clean, n_conflicts = assignment_counts(ASSIGNED, unit="user", variant="arm", on_conflict="drop")
        assert n_conflicts == 1
        # The doubled row of user 3 is one row now; user 4 was seen on two days.
        assert clean.to_dict("list") == {"user": [2, 3, 4, 4], "arm": ["A", "B", "A", "A"], "day": [1, 1, 1, 2]}
        pd.testing.assert_frame_equal(ASSIGNED, before)

    def test_clean_frames_come_back_as_they_are(self):
        frame = ASSIGNED.iloc[[1, 2, 3]]
        clean, n_conflicts = assignment_counts(frame, unit="user", variant="arm")
        assert clean is frame
        assert n_conflicts == 0

    def test_an_arm_and_no_arm_is_a_conflict(self):
        frame = pd.DataFrame({"user": [1, 1], "arm": pd.Categorical(["A", None])})
        assert assignment_counts(frame, unit="user", variant="arm", on_conflict="drop")[1] == 1

    @pytest.mark.parametrize(
        ("frame", "options", "error", "words"),
        [
            (ASSIGNED, {"unit": "users", "variant": "arm"}, ColumnError, ["'users'", "Did you mean 'user'?"]),
            (ASSIGNED, {"unit": "user", "variant": "arm", "on_conflict": "keep"}, CausalRecError, ["'keep'", "'drop'"]),
            (
                pd.DataFrame({"user": [1, None], "arm": ["A", "B"]}),
                {"unit": "user", "variant": "arm"},
                TreatmentError,
                ["1 of 2 rows", "no 'user'", "Drop"],
            ),
        ],
    )
    def test_misuse_says_what_to_do(self, frame, options, error, words):
        with pytest.raises(error) as caught:
            assignment_counts(frame, **options)
        assert all(word in str(caught.value) for word in words), str(caught.value)


class TestSampleRatioBy:
    def test_the_broken_segment_is_named(self):
        rng = np.random.default_rng(0)
        counts = {}
        for day in range(14):
            a = int(rng.binomial(4_000, 0.5))
            counts[("A", day)], counts[("B", day)] = a, 4_000 - a
        counts[("B", 9)] -= 400
        result = sample_ratio_by(counts)
        assert (result.most_suspicious, result.mismatch, result.n_segments) == ("9", True, 14)
        frame = result.to_frame()
        raw = [sample_ratio_test({"A": counts["A", d], "B": counts["B", d]}).pvalue for d in range(14)]
        np.testing.assert_allclose(frame["raw_pvalue"], np.sort(raw))
        assert frame["raw_pvalue"].is_monotonic_increasing
        # Holm (1979) by hand.
        steps = np.maximum.accumulate(np.sort(raw) * (14 - np.arange(14)))
        np.testing.assert_allclose(frame["adjusted_pvalue"], np.minimum(steps, 1))
        assert result.pvalue == frame["adjusted_pvalue"][0]

    def test_false_alarms_do_not_grow_with_segments(self):
        rng = np.random.default_rng(1)
        alarms = 0
        for _ in range(300):
            a = rng.binomial(3_000, 0.5, size=30)
            counts = {(arm, s): int(n) for s in range(30) for arm, n in (("A", a[s]), ("B", 3_000 - a[s]))}
            alarms += sample_ratio_by(counts, threshold=0.05).mismatch
        assert alarms <= stats.binom.ppf(1 - 1e-4, 300, 0.05)

    def test_three_arms_one_absent_and_one_of_weight_zero(self):
        counts = {("A", "x"): 500, ("B", "x"): 520, ("C", "x"): 490, ("A", "y"): 300, ("B", "y"): 310}
        result = sample_ratio_by(counts, {"A": 1, "B": 1, "C": 1, "off": 0})
        assert result.most_suspicious == "y"
        assert result.to_frame()["raw_pvalue"][0] == pytest.approx(stats.chisquare([300, 310, 0]).pvalue)
        off = sample_ratio_by(counts | {("off", "x"): 1}, {"A": 1, "B": 1, "C": 1, "off": 0})
        assert (off.most_suspicious, off.pvalue) == ("x", 0.0)

    def test_errors(self):
        with pytest.raises(TreatmentError, match="no segment"):
            sample_ratio_by({})
        with pytest.raises(TreatmentError, match="found 1 arms"):
            sample_ratio_by({("A", 1): 10})
        with pytest.raises(TreatmentError, match="'B' has no weight"):
            sample_ratio_by({("A", 1): 10, ("B", 1): 10}, {"A": 1})


class TestHeterogeneity:
    @staticmethod
    def effects(means, variance=4.0, n=400, **kwargs):
        return [welch_test(10.0, variance, n, 10.0 + m, variance, n, **kwargs) for m in means]

    def test_two_groups_are_a_z_test_of_their_difference(self):
        one, two = self.effects([0.1, 0.7])
        result = heterogeneity_test([one, two], dimension="device")
        z = (two.estimate - one.estimate) / math.hypot(one.std_error, two.std_error)
        assert result.pvalue == pytest.approx(2 * stats.norm.sf(abs(z)))
        assert (result.df, result.n_groups, result.dimension, result.metric) == (1, 2, "device", "mean")

    def test_generalised_least_squares(self):
        # Q is the residual sum of squares of the weighted mean (Cochran 1954), by another route: a projection.
        results = self.effects([0.1, 0.7, -0.2, 0.4])
        e, s = np.array([r.estimate for r in results]), np.array([r.std_error for r in results])
        q, _ = np.linalg.qr((1 / s)[:, None])
        rest = e / s - q @ (q.T @ (e / s))
        result = heterogeneity_test(results)
        assert result.statistic == pytest.approx(rest @ rest)
        assert result.pvalue == pytest.approx(stats.chi2.sf(rest @ rest, 3))

    def test_size(self):
        rng = np.random.default_rng(2)
        n, k = 200, 5
        hits = 0
        for _ in range(1_000):
            x = rng.normal(size=(2, k, n))
            results = [
                welch_test(a.mean(), a.var(ddof=1), n, b.mean(), b.var(ddof=1), n) for a, b in zip(*x, strict=True)
            ]
            hits += heterogeneity_test(results).pvalue < 0.05
        low, high = stats.binom.ppf([1e-4, 1 - 1e-4], 1_000, 0.05)
        assert low <= hits <= high

    def test_one_group_has_no_test(self):
        result = heterogeneity_test(self.effects([0.3]))
        assert math.isnan(result.pvalue)
        assert math.isnan(result.statistic)
        assert "needs two groups" in result.method

    def test_arms_and_metrics_are_not_mixed(self):
        mixed = self.effects([0.1], treatment="b") + self.effects([0.2], treatment="c")
        with pytest.raises(CausalRecError, match="Test each apart"):
            heterogeneity_test(mixed)
        with pytest.raises(CausalRecError, match="found effects of 0"):
            heterogeneity_test([])


class TestOutliers:
    @staticmethod
    def report(n, outside):
        arms = "ABC"[: len(n)]
        pairs = dict.fromkeys(arms, 1.0)
        return outlier_report(
            "rounds", low=-math.inf, high=500, n=dict(zip(arms, n, strict=True)),
            n_outside=dict(zip(arms, outside, strict=True)), mean=pairs, mean_inside=pairs,
        )  # fmt: skip

    @pytest.mark.parametrize(("n", "outside"), [((900, 1100), (9, 31)), ((500, 600, 700), (20, 30, 60))])
    def test_scipy_chi_square(self, n, outside):
        table = [outside, [a - b for a, b in zip(n, outside, strict=True)]]
        expected = stats.chi2_contingency(table, correction=False)
        result = self.report(n, outside)
        assert result.pvalue == pytest.approx(expected.pvalue)
        assert result.method == "Pearson chi-square test"

    def test_few_outliers_take_fishers_test(self):
        result = self.report((1_000, 1_000), (6, 0))
        # Hypergeometric: all six in one arm, either of them.
        assert result.pvalue == pytest.approx(2 * math.comb(1000, 6) / math.comb(2000, 6))
        assert result.method == "Fisher's exact test"

    @pytest.mark.parametrize(("outside", "word"), [((0, 0), "no unit"), ((10, 10), "every unit")])
    def test_no_test_without_both_kinds(self, outside, word):
        result = self.report((10, 10), outside)
        assert math.isnan(result.pvalue)
        assert word in result.method

    def test_a_row_per_arm(self):
        frame = self.report((900, 1100), (9, 33)).to_frame()
        assert frame["share"].tolist() == [0.01, 0.03]

    @pytest.mark.parametrize(
        ("n", "outside", "error", "words"),
        [
            ((10,), (1,), TreatmentError, "two"),
            ((10, 10), (11, 1), OutcomeError, "0 <= outside <= n"),
            ((10, 0), (1, 0), OutcomeError, "n > 0"),
        ],
    )
    def test_errors(self, n, outside, error, words):
        with pytest.raises(error, match=words):
            self.report(n, outside)
