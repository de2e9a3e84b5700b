"""Reweighted metrics against the metrics of weighted rows, and bootstrap intervals against the truth."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from causalrec.evaluation import _reweighting as reweighting
from causalrec.evaluation import (
    auuc_score,
    bootstrap_curve,
    bootstrap_metric,
    cumulative_gain_curve,
    lift_share,
    qini_curve,
    qini_score,
    rate,
    toc_curve,
    uplift_at_k,
    uplift_curve,
)
from causalrec.evaluation._metrics import Choice, value
from causalrec.evaluation._ranked import rank_units
from causalrec.evaluation._reweighting import reweighted_curve, reweighted_values, sorted_units
from causalrec.evaluation.bootstrap import band_half_width, reweighted
from causalrec.exceptions import CausalRecError
from causalrec.nuisance import arm_scores, fit_nuisances

CHOICES = {
    "qini": Choice("qini"),
    "auuc": Choice("auuc"),
    "autoc": Choice("autoc"),
    "top": Choice("uplift_at_k", k=0.35),
    "first": Choice("uplift_at_k", k=0.1),
    "share": Choice("lift_share", k=0.35),
}
METRICS = {
    "qini": lambda *a, **k: qini_score(*a, **k),
    "auuc": lambda *a, **k: auuc_score(*a, **k),
    "autoc": lambda *a, **k: rate(*a, **k),
    "uplift_at_k": lambda *a, **k: uplift_at_k(*a, k=0.35, **k),
    "lift_share": lambda *a, **k: lift_share(*a, share=0.35, **k),
}


def example(seed=0, n=200, levels=None, arms=2):
    rng = np.random.default_rng(seed)
    uplift = rng.normal(size=n) if levels is None else rng.integers(0, levels, n).astype(float)
    t = rng.permutation(np.arange(n) % arms)
    y = 50 + rng.normal(size=n) + (t == 1) * (0.5 + uplift)
    return y, uplift, t, rng.uniform(0.2, 0.8, n), rng.uniform(0.1, 3, n)


def nuisances(y, t, x):
    return fit_nuisances(x[:, None], y, treatment=t, propensity=0.5, outcome_model=LinearRegression(), n_folds=2)


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(reweighting, "_CHUNK", 60)  # some chunks, several groups of ties larger than one


class TestReweighting:
    @pytest.mark.parametrize("levels", [None, 40, 5])
    @pytest.mark.parametrize("scores", ["estimated", "known", "varying", "doubly robust", "three arms"])
    @pytest.mark.parametrize("name", CHOICES)
    def test_the_metric_of_weighted_units(self, name, scores, levels, small_chunks):
        y, uplift, t, e, w = example(1, levels=levels, arms=3 if scores == "three arms" else 2)
        options = {
            "estimated": {}, "known": {"propensity": 0.4}, "varying": {"propensity": e}, "three arms": {"control": 0},
            "doubly robust": {"nuisance": nuisances(y, t, uplift)} if scores == "doubly robust" else {},
        }[scores]  # fmt: skip
        found = arm_scores(y, t, sample_weight=w, **options)
        ranked = rank_units(found, uplift, arm=1)
        rng = np.random.default_rng(0)
        unit = rng.integers(0, 90, len(y))
        unit[0] = 89
        drawn = rng.exponential(size=(90, 5))
        values = reweighted_values(CHOICES[name], sorted_units(ranked, unit[ranked.order], 90), drawn)
        for r in range(5):
            other = reweighted(ranked, w * drawn[unit, r])
            assert values[r] == pytest.approx(value(CHOICES[name], other), rel=1e-9, abs=1e-12)
            again = rank_units(arm_scores(y, t, sample_weight=w * drawn[unit, r], **options), uplift, arm=1)
            assert values[r] == pytest.approx(value(CHOICES[name], again), rel=1e-9, abs=1e-12)

    @pytest.mark.parametrize("kind", ["qini", "toc", "uplift", "cumulative_gain"])
    def test_the_curve_of_weighted_units(self, kind, small_chunks):
        y, uplift, t, _, _ = example(2, n=150)
        ranked = rank_units(arm_scores(y, t), uplift)
        drawn = np.random.default_rng(0).exponential(size=(150, 2))
        curve = {"qini": qini_curve, "toc": toc_curve, "uplift": uplift_curve, "cumulative_gain": cumulative_gain_curve}
        for r in range(2):
            wanted = curve[kind](y[ranked.order], uplift[ranked.order], t[ranked.order], sample_weight=drawn[:, r])
            shares = wanted.fraction[wanted.fraction > 0.1]
            found = reweighted_curve(kind, sorted_units(ranked, None, 150), drawn, np.arange(150), shares)
            np.testing.assert_allclose(found[:, r], wanted.value[wanted.fraction > 0.1], atol=1e-10)


class TestDraws:
    @pytest.mark.parametrize("name", METRICS)
    def test_they_spread_as_the_influence_function_says(self, name):
        y, uplift, t, _, w = example(3, n=2000)
        clusters = np.random.default_rng(0).integers(0, 500, 2000)
        for options in ({}, {"clusters": clusters, "sample_weight": w}):
            one = METRICS[name](y, uplift, t, **options)
            many = bootstrap_metric(y, uplift, t, metric=name, k=0.35, n_resamples=800, rng=0, **options).effect()
            assert many.estimate == pytest.approx(one.estimate)
            assert many.std_error == pytest.approx(one.std_error, rel=0.12)
            assert many.estimand == one.estimand
            assert many.n_obs == 2000

    @pytest.mark.parametrize(
        ("metric", "options", "single"),
        [
            ("qini", {"convention": "sklift"}, lambda *a: qini_score(*a, convention="sklift")),
            ("auuc", {"convention": "causalml"}, lambda *a: auuc_score(*a, convention="causalml")),
            ("uplift_at_k", {"strategy": "by_group"}, lambda *a: uplift_at_k(*a, strategy="by_group")),
        ],
    )
    def test_definitions_that_are_computed_anew(self, metric, options, single):
        y, uplift, t, _, _ = example(4, n=1000)
        y = (y > np.median(y)).astype(float)
        one = single(y, uplift, t)
        many = bootstrap_metric(y, uplift, t, metric=metric, n_resamples=200, rng=0, **options).effect()
        assert many.estimate == pytest.approx(one.estimate)
        assert many.std_error == pytest.approx(one.std_error, rel=0.25)

    def test_scorers_share_the_resamples(self):
        y, uplift, t, _, _ = example(5, n=500)
        noisy = uplift + np.random.default_rng(1).normal(size=500)
        both = bootstrap_metric(y, {"right": uplift, "noisy": noisy, "again": 2 * uplift}, t, n_resamples=300, rng=3)
        alone = bootstrap_metric(y, uplift, t, n_resamples=300, rng=3)
        np.testing.assert_allclose(both.draws[:, 0], alone.draws[:, 0])
        np.testing.assert_allclose(both.draws[:, 2], alone.draws[:, 0])
        gap, back = both.difference("right", "noisy"), both.difference("noisy", "right")
        assert (gap.estimate, gap.ci_low) == (-back.estimate, -back.ci_high)
        assert gap.pvalue == back.pvalue
        assert gap.std_error == pytest.approx(np.std(both.draws[:, 0] - both.draws[:, 1], ddof=1))
        assert gap.std_error < math.hypot(both.std_error[0], both.std_error[1])
        same = both.difference("right", "again")
        assert same.estimate == pytest.approx(0)
        assert same.ci_high == pytest.approx(0, abs=1e-12)
        assert both.differences()["first"].tolist() == ["right", "right", "noisy"]
        assert "right − noisy" in str(both)
        frame = bootstrap_metric(y, pd.DataFrame({"right": uplift, "noisy": noisy}), t, n_resamples=300, rng=3)
        np.testing.assert_array_equal(frame.draws, both.draws[:, :2])

    def test_threads_and_row_order_change_nothing(self):
        y, uplift, t, _, w = example(6, n=300)
        order = np.random.default_rng(0).permutation(300)
        base = bootstrap_metric(y, uplift, t, sample_weight=w, n_resamples=50, rng=1, n_jobs=1)
        calls = []
        threads = bootstrap_metric(
            y, uplift, t, sample_weight=w, n_resamples=50, rng=1, n_jobs=3, progress=lambda *a: calls.append(a)
        )
        moved = bootstrap_metric(y[order], uplift[order], t[order], sample_weight=w[order], n_resamples=50, rng=1)
        np.testing.assert_array_equal(threads.draws, base.draws)
        np.testing.assert_allclose(moved.draws, base.draws)
        assert calls[-1] == (50, 50)

    def test_a_row_of_weight_zero_is_absent(self):
        y, uplift, t, _, w = example(7, n=300)
        w[::4] = 0.0
        kept = w > 0
        other = np.random.default_rng(0).normal(size=300)
        with_zeros = bootstrap_metric(y, {"a": uplift, "b": other}, t, sample_weight=w, n_resamples=20, rng=1)
        without = bootstrap_metric(
            y[kept], {"a": uplift[kept], "b": other[kept]}, t[kept], sample_weight=w[kept], n_resamples=20, rng=1
        )
        np.testing.assert_allclose(with_zeros.draws, without.draws)
        assert with_zeros.n_obs == kept.sum()

    def test_p_values_are_of_a_random_order(self):
        rng = np.random.default_rng(0)
        t, useless = np.arange(800) % 2, rng.random(800)
        y = rng.normal(size=800) + t
        share = bootstrap_metric(y, useless, t, metric="lift_share", k=0.3, n_resamples=400, rng=0)
        area = bootstrap_metric(y, useless, t, metric="auuc", n_resamples=400, rng=0)
        assert share.null == 0.3
        assert share.pvalue[0] > 0.05
        assert area.pvalue[0] == pytest.approx(2 / 401)

    def test_a_constant_score_is_zero_by_definition(self):
        y, _, t, _, _ = example(8)
        for metric in ("qini", "autoc"):
            result = bootstrap_metric(y, np.ones(200), t, metric=metric, n_resamples=10, rng=0).effect()
            assert (result.estimate, result.std_error, result.ci_low, result.ci_high) == (0.0, 0.0, 0.0, 0.0)
            assert math.isnan(result.pvalue)
        assert bootstrap_metric(y, np.ones(200), t, metric="auuc", n_resamples=10, rng=0).std_error[0] > 0

    def test_where_nothing_varies_there_is_no_interval(self):
        t = np.arange(40) % 2
        result = bootstrap_metric(t.astype(float), -np.arange(40.0), t, metric="uplift_at_k", k=0.5, n_resamples=10)
        assert result.estimate[0] == pytest.approx(1.0)
        assert np.isnan([result.std_error[0], result.ci_low[0], result.pvalue[0]]).all()

    def test_a_top_that_lacks_an_arm_in_some_resamples_has_no_interval(self):
        rng = np.random.default_rng(0)
        y, t = rng.normal(size=60), np.r_[1, 1, 0, 0, np.arange(56) % 2]
        result = bootstrap_metric(y, -np.arange(60.0), t, metric="uplift_at_k", k=4 / 60, n_resamples=200, rng=0)
        assert np.isfinite(result.estimate[0])
        assert np.isnan([result.std_error[0], result.ci_low[0], result.pvalue[0]]).all()
        assert "resamples the top lacks an arm" in result.method


class TestBands:
    def test_a_band_is_wider_than_points_and_keeps_the_curve(self):
        y, uplift, t, _, _ = example(9, n=1000)
        for kind, points in (("qini", qini_curve(y, uplift, t)), ("toc", toc_curve(y, uplift, t)),
                             ("uplift", uplift_curve(y, uplift, t))):  # fmt: skip
            band = bootstrap_curve(y, uplift, t, kind=kind, n_resamples=400, rng=0, label="x")
            np.testing.assert_array_equal(band.value, points.value)
            assert (band.kind, band.label, band.band, points.band) == (kind, "x", "simultaneous", "pointwise")
            wide = points.fraction > 0.1
            ratio = ((band.ci_high - band.ci_low) / np.maximum(points.ci_high - points.ci_low, 1e-12))[wide & (
                points.fraction < 0.999)]  # fmt: skip
            assert 1.15 < np.median(ratio) < 1.9

    def test_independent_points_need_the_quantile_of_their_maximum(self):
        draws = np.random.default_rng(0).normal(size=(20_000, 10)) * np.arange(1, 11)
        from scipy import stats

        wanted = stats.norm.isf((1 - 0.95 ** (1 / 10)) / 2)  # of the largest of ten independent deviations
        np.testing.assert_allclose(band_half_width(draws, np.zeros(10), 0.95) / np.arange(1, 11), wanted, rtol=0.03)
        assert band_half_width(np.ones((5, 2)), np.ones(2), 0.95).tolist() == [0, 0]

    @pytest.mark.slow
    def test_the_whole_curve_lies_inside_as_often_as_said(self):
        # Effects x, x uniform, best first: C(q) = q - q²/2.
        rng, hits = np.random.default_rng(4), []
        for _ in range(200):
            x, t = rng.random(800), rng.integers(0, 2, 800)
            y = x * t + rng.normal(size=800)
            band = bootstrap_curve(y, x, t, n_resamples=200, rng=rng)
            truth = band.fraction - band.fraction**2 / 2
            known = np.isfinite(band.ci_low)
            assert not known[1]
            assert known[-180:].all()
            hits.append(((band.ci_low <= truth + 1e-12) & (truth <= band.ci_high + 1e-12))[known].all())
        assert np.mean(hits) == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 200))


class TestCoverage:
    """Effects x, x uniform: C(q) = q - q²/2, so Qini 1/12, AUUC 1/3, AUTOC 1/4, and .75 among the best half."""

    TRUTH = (("qini", 1 / 12), ("auuc", 1 / 3), ("autoc", 1 / 4), ("uplift_at_k", 0.75), ("lift_share", 0.75))

    def hits(self, metric, truth, reps, size):
        rng, found = np.random.default_rng(5), []
        for _ in range(reps):
            n = 600
            ids = np.repeat(np.arange(n // size), size)
            x, t = rng.random(n), rng.integers(0, 2, n // size)[ids]
            y = x * t + 0.5 * rng.normal(size=n) + (0.5 * rng.normal(size=n // size)[ids] if size > 1 else 0.0)
            result = bootstrap_metric(
                y, x, t, metric=metric, k=0.5, n_resamples=200, rng=rng, clusters=ids if size > 1 else None, n_jobs=1
            )
            found.append(result.ci_low[0] <= truth <= result.ci_high[0])
        return np.mean(found)

    def test_qini(self):
        assert self.hits("qini", 1 / 12, 120, 1) == pytest.approx(0.94, abs=4 * math.sqrt(0.95 * 0.05 / 120))

    @pytest.mark.slow
    @pytest.mark.parametrize(("metric", "truth"), TRUTH)
    @pytest.mark.parametrize("size", [1, 3])
    def test_every_metric(self, metric, truth, size):
        # 200 resamples and 600 units (200 clusters): a percent below the nominal level.
        assert self.hits(metric, truth, 400, size) == pytest.approx(0.94, abs=4 * math.sqrt(0.95 * 0.05 / 400))


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"metric": "gini"}, "metric is 'gini'"),
            ({"metric": "r_loss"}, "expected one of 'qini'"),
            ({"convention": "none"}, "convention"),
            ({"n_resamples": 1}, "n_resamples is 1"),
            ({"n_jobs": 0}, "n_jobs is 0"),
            ({"uplift": {}}, "scorers none"),
            ({"uplift": np.r_[np.nan, np.arange(9)]}, "uplift: 1 of 10"),
            ({"clusters": np.zeros(10)}, "clusters holds one value"),
            ({"metric": "uplift_at_k", "k": 0.1}, "at least two of each"),
            ({"metric": "lift_share", "k": 1.5}, "k is 1.5"),
        ],
    )
    def test_by_name(self, change, words):
        base = {"y": np.arange(10.0), "uplift": np.arange(10.0), "treatment": np.arange(10) % 2}
        with pytest.raises(CausalRecError, match=words):
            bootstrap_metric(**(base | change))

    def test_of_curves_and_results(self):
        y, uplift, t, _, _ = example(10)
        with pytest.raises(CausalRecError, match="kind is 'gain'"):
            bootstrap_curve(y, uplift, t, kind="gain")
        found = bootstrap_metric(y, {"a": uplift, "b": -uplift}, t, n_resamples=10, rng=0)
        with pytest.raises(CausalRecError, match="scorer is None; expected one of 'a', 'b'"):
            found.effect()
        with pytest.raises(CausalRecError, match="scorer is 'c'"):
            found.difference("a", "c")
