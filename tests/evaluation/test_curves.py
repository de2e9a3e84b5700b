"""Curves against brute force, and their errors against the influence functions of single points."""

from __future__ import annotations

import math

import numpy as np
import pytest

from causalrec.evaluation import cumulative_gain_curve, qini_curve, rate, toc_curve, uplift_at_k, uplift_curve
from causalrec.evaluation._curve_errors import prefix_moments
from causalrec.evaluation._ranked import rank_units
from causalrec.evaluation._tops import lift_shares
from causalrec.exceptions import CausalRecError, TreatmentError
from causalrec.nuisance import arm_scores

CURVES = [qini_curve, uplift_curve, cumulative_gain_curve, toc_curve]
every_curve = pytest.mark.parametrize("call", CURVES)


def example(seed=0, n=120, levels=None, clustered=False):
    rng = np.random.default_rng(seed)
    uplift = rng.normal(size=n) if levels is None else rng.integers(0, levels, n).astype(float)
    t = rng.permutation(np.arange(n) % 2)
    y = 50 + rng.normal(size=n) + t * uplift
    options = {"sample_weight": rng.uniform(0.1, 3, n), "propensity": rng.uniform(0.2, 0.8, n)}
    if clustered:
        options["clusters"] = rng.integers(0, n // 3, n)
    return y, uplift, t, options


@pytest.mark.parametrize("levels", [None, 5])
@pytest.mark.parametrize("estimated", [False, True])
def test_uplift_by_brute_force(levels, estimated):
    y, uplift, t, options = example(1, levels=levels)
    w = options["sample_weight"]
    if estimated:
        options.pop("propensity")
        each = w
    else:
        each = w / np.where(t == 1, options["propensity"], 1 - options["propensity"])
    expected = []
    for cut in sorted(set(uplift), reverse=True):
        top = [(uplift >= cut) & (t == a) for a in (0, 1)]
        if min(rows.sum() for rows in top) >= 2:
            means = [np.average(y[rows], weights=each[rows]) for rows in top]
            expected.append((w[uplift >= cut].sum() / w.sum(), means[1] - means[0]))
    expected = np.array(expected)
    curve = uplift_curve(y, uplift, t, **options)
    np.testing.assert_allclose(np.array([curve.fraction, curve.value]).T, expected, rtol=1e-9)
    np.testing.assert_array_equal(curve.random, np.full(len(expected), curve.value[-1]))
    gain = cumulative_gain_curve(y, uplift, t, **options)
    np.testing.assert_allclose(gain.value, np.r_[0, expected.prod(axis=1)], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(gain.random, gain.fraction * expected[-1, 1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("estimated", [False, True])
class TestErrors:
    """Running sums give what the influence function of each point gives."""

    def ends(self, clustered, estimated, seed):
        y, uplift, t, options = example(seed, clustered=clustered)
        if estimated:
            options.pop("propensity")
        scores = arm_scores(y, t, **options)
        return y, uplift, t, options, rank_units(scores, uplift)

    def test_qini_and_toc(self, clustered, estimated):
        y, uplift, t, options, ranked = self.ends(clustered, estimated, 2)
        qini, toc = qini_curve(y, uplift, t, **options), toc_curve(y, uplift, t, **options)
        for i in (1, 10, 60, 119):
            part = lift_shares(ranked, float(qini.fraction[i]))
            half = 1.959963984540054 * ranked.error(part.gain_influence)
            np.testing.assert_allclose(qini.ci_high[i] - qini.value[i], half, rtol=1e-8)
            half = 1.959963984540054 * ranked.error(part.above_random) / part.share
            np.testing.assert_allclose(toc.ci_high[i - 1] - toc.value[i - 1], half, rtol=1e-8)

    def test_uplift(self, clustered, estimated):
        y, uplift, t, options, _ = self.ends(clustered, estimated, 3)
        curve = uplift_curve(y, uplift, t, **options)
        for i in (0, 10, 60, len(curve.fraction) - 1):
            point = uplift_at_k(y, uplift, t, k=float(curve.fraction[i]), **options)
            found = (curve.value[i], curve.ci_low[i], curve.ci_high[i])
            np.testing.assert_allclose(found, (point.estimate, point.ci_low, point.ci_high), rtol=1e-8)


def test_moments_by_brute_force():
    rng = np.random.default_rng(4)
    prefix, total, clusters = rng.normal(size=(2, 30)), rng.normal(size=(2, 30)), rng.integers(0, 8, 30)
    ends = np.array([0, 7, 29])
    for ids in (None, clusters):
        found = prefix_moments(ends, list(prefix), list(total), ids)
        own = np.arange(30) if ids is None else ids
        for k, end in enumerate(ends):
            above = np.arange(30) <= end
            sums = np.array([np.bincount(own, weights=v) for v in (*(prefix * above), *total)])
            np.testing.assert_allclose(found[k], sums @ sums.T)


class TestToc:
    def test_zero_at_the_end(self):
        y, uplift, t, options = example(5)
        curve = toc_curve(y, uplift, t, **options)
        assert (curve.fraction[-1], curve.value[-1], curve.ci_low[-1], curve.ci_high[-1]) == (1, 0, 0, 0)
        assert not curve.random.any()

    def test_its_mean_is_the_autoc(self):
        y, uplift, t, _ = example(6)
        assert toc_curve(y, uplift, t).value.mean() == pytest.approx(float(rate(y, uplift, t)))


@every_curve
class TestAll:
    def test_at_most_200_points_and_the_origin(self, call):
        y, uplift, t, _ = example(7, n=1000)
        curve = call(y, uplift, t, label="new")
        assert len(curve.fraction) == 200 + (call in (qini_curve, cumulative_gain_curve))
        assert (curve.label, curve.n_obs, curve.fraction[-1]) == ("new", 1000, 1.0)
        assert np.isfinite(curve.to_frame().to_numpy()).all()

    def test_row_order_and_scale_of_weights(self, call):
        y, uplift, t, options = example(8, levels=9, clustered=True)
        order = np.random.default_rng(8).permutation(len(y))
        moved = {name: values[order] * (7 if name == "sample_weight" else 1) for name, values in options.items()}
        one, other = call(y, uplift, t, **options), call(y[order], uplift[order], t[order], **moved)
        np.testing.assert_allclose(other.to_frame(), one.to_frame(), rtol=1e-7, atol=1e-9)

    def test_a_constant_score_is_a_straight_line(self, call):
        y, _, t, _ = example(9)
        curve = call(y, np.zeros(len(y)), t)
        np.testing.assert_allclose(curve.value, curve.random, atol=1e-12)

    def test_more_arms(self, call):
        y, uplift, t, _ = example(10)
        t = np.where(np.arange(120) % 3 == 0, 2, t)
        curve = call(y, uplift, t, control=0, arm=1)
        assert np.isfinite(curve.value).all()
        with pytest.raises(TreatmentError, match="say which with arm="):
            call(y, uplift, t, control=0)

    @pytest.mark.parametrize("level", [0, 1, math.nan, 95])
    def test_confidence_level(self, call, level):
        with pytest.raises(CausalRecError, match="confidence_level"):
            call(*example(11)[:3], confidence_level=level)

    def test_unknown_convention(self, call):
        with pytest.raises(CausalRecError, match="convention is 'sklearn'"):
            call(*example(12)[:3], convention="sklearn")


def test_an_arm_of_one_has_no_uplift_curve():
    with pytest.raises(TreatmentError, match="an arm has a single unit"):
        uplift_curve([1, 2, 3.0], [3, 2, 1], [1, 0, 0])
