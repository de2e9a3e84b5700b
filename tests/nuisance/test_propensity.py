"""Known propensities in every form, calibration, clipping, overlap."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import special
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression, Ridge

from causalrec.exceptions import CausalRecError, OverlapError
from causalrec.nuisance import known_propensity, overlap
from causalrec.nuisance.propensity import (
    Calibrator,
    arm_probabilities,
    calibrate_across,
    check_calibration,
    check_clip,
    clip_propensity,
    propensity_base,
)

ARMS = ("none", "app", "mail")


class TestKnown:
    def test_two_arms(self):
        np.testing.assert_allclose(known_propensity(0.3, (0, 1), n_rows=2), [[0.7, 0.3]] * 2)
        np.testing.assert_allclose(known_propensity([0.3, 0.6], (0, 1), n_rows=2), [[0.7, 0.3], [0.4, 0.6]])
        np.testing.assert_allclose(known_propensity({0: 0.7, 1: 0.3}, (0, 1), n_rows=1), [[0.7, 0.3]])

    def test_a_number_costs_no_memory(self):
        assert known_propensity(0.5, (0, 1), n_rows=10**9).strides[0] == 0

    def test_three_arms(self):
        expected = [[0.5, 0.2, 0.3]]
        np.testing.assert_allclose(known_propensity({"none": 0.5, "mail": 0.3, "app": 0.2}, ARMS, n_rows=1), expected)
        np.testing.assert_allclose(known_propensity(expected, ARMS, n_rows=1), expected)
        frame = pd.DataFrame({"mail": [0.3], "none": [0.5], "app": [0.2]})
        np.testing.assert_allclose(known_propensity(frame, ARMS, n_rows=1), expected)

    @pytest.mark.parametrize(
        ("propensity", "labels", "words"),
        [
            (1.0, (0, 1), "strictly between 0 and 1"),
            (float("nan"), (0, 1), "strictly between 0 and 1"),
            ([0.5, 0.0], (0, 1), "1 of 2"),
            ([0.5, 0.5, 0.5], (0, 1), "3 values but there are 2 rows"),
            (0.5, ARMS, "there are 3 arms"),
            ({"none": 0.5, "mail": 0.5}, ARMS, "expected a share for each"),
            ([[0.5, 0.2, 0.2], [0.5, 0.2, 0.3]], ARMS, "1 of 2 rows do not sum to 1"),
            ([[0.5, 0.5, 0.0], [0.5, 0.2, 0.3]], ARMS, "strictly between"),
        ],
    )
    def test_errors(self, propensity, labels, words):
        with pytest.raises(CausalRecError, match=words):
            known_propensity(propensity, labels, n_rows=2)


class TestModels:
    def test_arms_against_the_rest_sum_to_one(self):
        table = arm_probabilities([np.array([0.2, 0.0]), np.array([0.2, 0.0]), np.array([0.4, 0.0])])
        np.testing.assert_allclose(table, [[0.25, 0.25, 0.5], [1 / 3] * 3])
        np.testing.assert_allclose(arm_probabilities([np.array([0.2])]), [[0.8, 0.2]])

    def test_a_regressor_or_a_class_is_refused(self):
        for model in (Ridge(), LogisticRegression):
            with pytest.raises(CausalRecError, match="classifier"):
                propensity_base(model, random_state=0, n_jobs=1)


class TestCalibration:
    def setup_method(self):
        rng = np.random.default_rng(1)
        self.odds = rng.normal(size=800)
        self.codes = (rng.random(800) < special.expit(0.5 + 0.4 * self.odds)).astype(np.int64)
        p = special.expit(self.odds)
        self.p = np.column_stack([1 - p, p])
        self.fold = np.arange(800) % 4

    def test_sigmoid_is_a_logistic_regression_on_the_log_odds(self):
        fitted = LogisticRegression(C=np.inf, tol=1e-10).fit(self.odds[:, None], self.codes)
        ours = Calibrator("sigmoid", self.p, self.codes, None).apply(self.p)
        np.testing.assert_allclose(ours, fitted.predict_proba(self.odds[:, None]), atol=1e-5)

    def test_weights_are_repeated_rows(self):
        weight = np.random.default_rng(2).integers(0, 3, 800)
        rows = np.repeat(np.arange(800), weight)
        for kind in ("sigmoid", "isotonic"):
            one = Calibrator(kind, self.p, self.codes, weight.astype(float)).apply(self.p)
            other = Calibrator(kind, self.p[rows], self.codes[rows], None).apply(self.p)
            np.testing.assert_allclose(one, other, atol=1e-5)

    def test_each_fold_is_calibrated_by_the_others(self):
        ours = calibrate_across("isotonic", self.p, self.codes, self.fold, None)
        inside = self.fold == 2
        by_hand = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
        by_hand.fit(self.p[~inside, 1], self.codes[~inside])
        np.testing.assert_allclose(ours[inside, 1], by_hand.predict(self.p[inside, 1]))

    def test_three_arms_still_sum_to_one(self):
        rng = np.random.default_rng(3)
        table = rng.dirichlet([2, 2, 2], 500)
        codes = np.array([rng.choice(3, p=row) for row in table])
        found = Calibrator("sigmoid", table, codes, None).apply(table)
        np.testing.assert_allclose(found.sum(axis=1), 1)
        assert np.abs(found - table).mean() < 0.06

    def test_unknown_kind(self):
        assert check_calibration(None) is None
        with pytest.raises(CausalRecError, match="'platt'"):
            check_calibration("platt")


class TestClipping:
    def test_nothing_is_clipped_unasked(self):
        p = np.array([[0.999, 0.001], [0.5, 0.5]])
        same, share = clip_propensity(p, None)
        assert same is p
        assert share == 0
        with pytest.raises(OverlapError, match="exactly 0 or 1 for 1 of 2 rows"):
            clip_propensity(np.array([[1.0, 0.0], [0.5, 0.5]]), None)

    def test_bounds(self):
        p, share = clip_propensity(np.array([[0.999, 0.001], [0.5, 0.5], [0.0, 1.0]]), 0.01)
        np.testing.assert_allclose(p, [[0.99, 0.01], [0.5, 0.5], [0.01, 0.99]])
        assert share == 2 / 3
        p, _ = clip_propensity(np.array([[0.6, 0.4, 0.0]]), 0.1)
        np.testing.assert_allclose(p, [[0.54, 0.36, 0.1]])

    @pytest.mark.parametrize("clip", [0, 0.5, -0.1, 1])
    def test_a_bound_that_leaves_nothing(self, clip):
        with pytest.raises(CausalRecError, match="clip"):
            check_clip(clip, 2)


def test_overlap_says_what_lies_outside():
    found = overlap(np.array([0.1, 0.4, 0.3, 0.9]), np.array([0, 0, 1, 1]))
    assert found.share_outside_common_support == 0.5
    assert found.method == "propensity as given"
