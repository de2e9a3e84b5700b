"""Units in more than one arm, effects that differ between segments, removed outliers."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalrec.abtest.checks import assignment_counts, heterogeneity_test, outlier_report
from causalrec.abtest.inference import welch_test
from causalrec.exceptions import CausalRecError, ColumnError, OutcomeError, TreatmentError

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


def test_groups_too_small_for_known_errors_are_counted():
    large, small = welch_test(10.0, 4.0, 400, 10.9, 4.0, 400), welch_test(10.0, 4.0, 10, 10.1, 4.0, 400)
    assert heterogeneity_test([large, large]).method == "Cochran's Q"
    assert "1 groups have fewer than 30 units" in heterogeneity_test([large, small]).method
