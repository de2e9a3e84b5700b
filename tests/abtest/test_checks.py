"""The split that was designed, and units in more than one arm."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalrec.abtest import assignment_counts, sample_ratio_test
from causalrec.exceptions import CausalRecError, ColumnError, TreatmentError


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

    def test_arms_of_weight_zero(self):
        weights = {"a": 1, "b": 1, "off": 0}
        assert sample_ratio_test({"a": 500, "b": 600, "off": 1}, weights).pvalue == 0.0
        assert sample_ratio_test({"a": 5, "off": 0}, {"a": 1, "off": 0}).pvalue == 1.0

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
