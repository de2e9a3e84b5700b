"""The split that was designed, in all and by segment."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalrec.abtest.sample_ratio import sample_ratio_by, sample_ratio_test
from causalrec.exceptions import CausalRecError, TreatmentError


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

    def test_a_missing_segment_is_called_missing(self):
        counts = {("A", None): 1_000, ("B", None): 500, ("A", "web"): 1_000, ("B", "web"): 1_010}
        assert sample_ratio_by(counts).most_suspicious == "missing"
