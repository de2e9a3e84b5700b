"""Uplift metrics against their formula by brute force, exact cases, and simulations with known truth."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from causalrec.evaluation import auuc_score, qini_curve, qini_score, uplift_at_k, uplift_by_bin
from causalrec.exceptions import CausalRecError, OutcomeError, OverlapError, TreatmentError


def gammas(y, t, e, w):
    """Scores of the module docstring, row by row."""
    m = [
        np.sum(((w / np.where(t, e, 1 - e)) * y)[t == a]) / np.sum((w / np.where(t, e, 1 - e))[t == a]) for a in (0, 1)
    ]
    return np.where(t == 1, m[1] - m[0] + (y - m[1]) / e, m[1] - m[0] - (y - m[0]) / (1 - e))


def brute_force_curve(uplift, gamma, w):
    """C at 0 and at the end of every group of equal predictions."""
    points = [(0.0, 0.0)]
    for cut in sorted(set(uplift), reverse=True):
        inside = uplift >= cut
        points.append((w[inside].sum() / w.sum(), (w * gamma)[inside].sum() / w.sum()))
    return np.array(points)


def trapezoid(points):
    return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(points))


def example(seed=0, n=60, levels=None):
    rng = np.random.default_rng(seed)
    uplift = rng.normal(size=n) if levels is None else rng.integers(0, levels, n).astype(float)
    t = np.r_[0, 0, 1, 1, rng.integers(0, 2, n - 4)]
    return rng.normal(size=n) + t * uplift, uplift, t, rng.uniform(0.2, 0.8, n), rng.uniform(0.1, 3, n)


def pairs(tau):
    """Twins, one treated, with equal predictions: every pair's mean score is its effect."""
    tau = np.asarray(tau, dtype=float)
    order = -np.arange(len(tau), dtype=float)
    return np.r_[tau, 0 * tau], np.r_[order, order], np.r_[np.ones(len(tau)), np.zeros(len(tau))]


class TestFormula:
    @pytest.mark.parametrize("levels", [None, 5])
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("propensity", ["estimated", "known", "varying"])
    def test_brute_force(self, levels, weighted, propensity):
        y, uplift, t, e, w = example(1, levels=levels)
        w = w if weighted else np.ones_like(w)
        e = {"estimated": np.full(len(y), np.average(t, weights=w)), "known": np.full(len(y), 0.4), "varying": e}[
            propensity
        ]
        options = {"sample_weight": w if weighted else None, "propensity": None if propensity == "estimated" else e}
        points = brute_force_curve(uplift, gammas(y, t, e, w), w)
        area = trapezoid(points)
        np.testing.assert_allclose(float(auuc_score(y, uplift, t, **options)), area)
        np.testing.assert_allclose(float(qini_score(y, uplift, t, **options)), area - points[-1, 1] / 2)
        curve = qini_curve(y, uplift, t, **options)
        np.testing.assert_allclose(np.array([curve.fraction, curve.value]).T, points, atol=1e-14)
        np.testing.assert_allclose(curve.random, points[:, 0] * points[-1, 1], atol=1e-14)

    def test_grf_definition(self):
        # grf: QINI = sum_i (i / n^2) TOC(i / n), TOC(q) = mean of the top - mean of all; ties averaged.
        y, uplift, t, _, w = example(2, levels=7)
        gamma = gammas(y, t, np.full(len(y), t.mean()), np.ones_like(w))
        order = np.argsort(-uplift, kind="stable")
        tied = np.array([gamma[uplift == u].mean() for u in uplift[order]])
        n, i = len(y), np.arange(1, len(y) + 1)
        toc = np.cumsum(tied) / i - gamma.mean()
        np.testing.assert_allclose(float(qini_score(y, uplift, t)), np.sum(i / n**2 * toc))

    @pytest.mark.parametrize(
        ("tau", "qini", "auuc"),
        [([4, 3, 2, 1], 0.3125, 1.5625), ([1, 2, 3, 4], -0.3125, 0.9375), ([1, 1, 1, 5], -0.375, 0.625)],
    )
    def test_exact_effects(self, tau, qini, auuc):
        # tau = [4, 3, 2, 1] has QINI .3125 by grf's definition, and so by ours.
        assert float(qini_score(*pairs(tau))) == pytest.approx(qini)
        assert float(auuc_score(*pairs(tau))) == pytest.approx(auuc)

    def test_curve_of_exact_effects(self):
        curve = qini_curve(*pairs([4, 3, 2, 1]))
        np.testing.assert_allclose(curve.fraction, [0, 0.25, 0.5, 0.75, 1])
        np.testing.assert_allclose(curve.value, [0, 1, 1.75, 2.25, 2.5])
        np.testing.assert_allclose(curve.random, curve.fraction * 2.5)
        assert (curve.kind, curve.n_obs, curve.ci_low[0], curve.ci_high[0]) == ("qini", 8, 0.0, 0.0)

    def test_a_long_curve_has_200_points_and_the_origin(self):
        y, uplift, t, _, _ = example(3, n=1000)
        curve = qini_curve(y, uplift, t)
        assert len(curve.fraction) == 201
        points = dict(brute_force_curve(uplift, gammas(y, t, np.full(1000, t.mean()), np.ones(1000)), np.ones(1000)))
        np.testing.assert_allclose(curve.value, [points[f] for f in curve.fraction], atol=1e-12)
        assert (curve.fraction[0], curve.fraction[-1]) == (0.0, 1.0)


METRICS = {
    "qini": lambda *a, **k: qini_score(*a, **k),
    "auuc": lambda *a, **k: auuc_score(*a, **k),
    "top": lambda *a, **k: uplift_at_k(*a, k=0.4, **k),
}
every_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)


def numbers(result):
    return np.array([result.estimate, result.std_error, result.ci_low, result.ci_high, result.pvalue])


class TestInvariants:
    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 1000), levels=st.sampled_from([None, 2, 9]))
    @pytest.mark.parametrize("name", list(METRICS))
    def test_row_order_weight_scale_and_monotone_scores(self, name, seed, levels):
        y, uplift, t, e, w = example(seed, levels=levels)
        order = np.random.default_rng(seed).permutation(len(y))
        metric = METRICS[name]
        base = numbers(metric(y, uplift, t, propensity=e, sample_weight=w))
        for other in (
            metric(y[order], uplift[order], t[order], propensity=e[order], sample_weight=w[order]),
            metric(y, uplift, t, propensity=e, sample_weight=7 * w),
            metric(y, np.exp(uplift / 3), t, propensity=e, sample_weight=w),
        ):
            np.testing.assert_allclose(numbers(other), base, rtol=1e-8, atol=1e-12)

    @every_metric
    def test_scale_and_shift_of_the_outcome(self, metric):
        y, uplift, t, e, w = example(4)
        base = metric(y, uplift, t, propensity=e, sample_weight=w)
        other = metric(1e3 + 5 * y, uplift, t, propensity=e, sample_weight=w)
        np.testing.assert_allclose(numbers(other)[:4], 5 * numbers(base)[:4], rtol=1e-8)
        assert other.pvalue == pytest.approx(base.pvalue)

    @every_metric
    def test_swapping_the_arms_turns_the_sign(self, metric):
        y, uplift, t, e, w = example(5)
        one = metric(y, uplift, t, propensity=e, sample_weight=w)
        other = metric(y, uplift, t, propensity=e, sample_weight=w, control=1)
        swapped = metric(y, uplift, 1 - t, propensity=1 - e, sample_weight=w)
        assert swapped.estimate == pytest.approx(-one.estimate)
        assert swapped.std_error == pytest.approx(one.std_error)
        assert np.isfinite(other.estimate)

    @every_metric
    def test_a_row_of_weight_zero_is_absent(self, metric):
        y, uplift, t, _, w = example(6)
        w[::4] = 0.0
        with_zeros, without = (
            metric(y[rows], uplift[rows], t[rows], sample_weight=w[rows]) for rows in (slice(None), w > 0)
        )
        np.testing.assert_allclose(numbers(with_zeros), numbers(without))
        assert with_zeros.n_obs == without.n_obs

    @every_metric
    def test_labels_of_any_type(self, metric):
        y, uplift, t, _, _ = example(7)
        labelled = metric(pd.Series(y), uplift, pd.Categorical(np.where(t == 1, "mail", "none")), control="none")
        assert labelled.to_dict() == metric(y, uplift, t).to_dict()
        assert metric(y, uplift, t == 1).estimate == labelled.estimate

    def test_a_constant_score_is_worth_nothing(self):
        y, _, t, e, w = example(8)
        result = qini_score(y, np.full(len(y), 0.3), t, propensity=e, sample_weight=w)
        assert (result.estimate, result.std_error, result.ci_low, result.ci_high) == (0.0, 0.0, 0.0, 0.0)
        assert math.isnan(result.pvalue)
        assert "all predictions are equal" in result.method
        area = auuc_score(y, np.full(len(y), 0.3), t)
        everyone = uplift_at_k(y, np.full(len(y), 0.3), t, k=1)
        np.testing.assert_allclose(
            [area.estimate, area.std_error], [everyone.estimate / 2, everyone.std_error / 2], rtol=0.03
        )
        assert area.estimate == pytest.approx(everyone.estimate / 2)

    def test_reversing_the_score_turns_the_qini(self):
        y, uplift, t, _, _ = example(9)
        one, other = qini_score(y, uplift, t), qini_score(y, -uplift, t)
        np.testing.assert_allclose([other.estimate, other.std_error], [-one.estimate, one.std_error])

    @every_metric
    def test_rows_of_their_own_cluster(self, metric):
        y, uplift, t, _, _ = example(10, n=400)
        plain, alone = metric(y, uplift, t), metric(y, uplift, t, clusters=np.arange(400))
        assert alone.estimate == plain.estimate
        assert alone.std_error == pytest.approx(plain.std_error, rel=0.01)

    @every_metric
    def test_doubled_rows_in_clusters_of_two_say_no_more(self, metric):
        y, uplift, t, _, _ = example(11, n=300)
        ids = np.array([f"user {i}" for i in range(300)])
        once = metric(y, uplift, t, clusters=ids)
        twice = metric(*(np.repeat(v, 2) for v in (y, uplift, t)), clusters=np.repeat(ids, 2))
        np.testing.assert_allclose([twice.estimate, twice.std_error], [once.estimate, once.std_error], rtol=0.01)

    def test_clusters_of_one_in_the_curve_and_the_bins(self):
        y, uplift, t, _, w = example(12, n=300)
        for call in (qini_curve, uplift_by_bin):
            plain, alone = (call(y, uplift, t, sample_weight=w, clusters=c) for c in (None, np.arange(300)))
            np.testing.assert_allclose(alone.ci_low, plain.ci_low, rtol=0.05, atol=0.02)
        one, other = (qini_curve(y, uplift, t, clusters=c) for c in (None, np.arange(300)))
        np.testing.assert_allclose(one.ci_high, other.ci_high, rtol=1e-10)


class TestUpliftAtK:
    def test_everyone_is_welchs_test(self):
        y, uplift, t, _, _ = example(13)
        result = uplift_at_k(y, uplift, t, k=1)
        a, b = y[t == 0], y[t == 1]
        error = math.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
        np.testing.assert_allclose([result.estimate, result.std_error], [b.mean() - a.mean(), error])
        assert result.pvalue == pytest.approx(2 * stats.norm.sf(abs(b.mean() - a.mean()) / error))
        assert (result.estimand, result.n_obs) == ("uplift_at_100pct", len(y))

    @pytest.mark.data
    def test_hillstrom_womens_mail_against_none(self, data_dir):
        # A published report counts 2,262 visitors and 19,044 others without mail, 3,238 and 18,149 with it, and gives
        # ATE .045233106587.
        frame = pd.read_parquet(data_dir / "hillstrom" / "hillstrom.parquet")
        frame = frame[frame["segment"] != "Mens E-Mail"]
        result = uplift_at_k(frame["visit"], frame["history"], frame["segment"], k=1, control="No E-Mail")
        assert result.estimate == pytest.approx(0.045233106587, abs=5e-13)
        assert result.n_obs == 42_693

    @pytest.mark.parametrize("k", [0.1, 0.25, 0.5])
    def test_the_top_of_the_order(self, k):
        y, uplift, t, _, _ = example(14, n=100)
        top = np.argsort(-uplift)[: round(100 * k)]
        mean = [y[top][t[top] == a].mean() for a in (0, 1)]
        result = uplift_at_k(y, uplift, t, k=k)
        assert result.estimate == pytest.approx(mean[1] - mean[0])
        assert (result.n_obs, result.estimand) == (round(100 * k), f"uplift_at_{100 * k:g}pct")

    @pytest.mark.parametrize(("k", "n_top"), [(0.1, 40), (0.19, 40), (0.3, 40), (0.55, 60), (1.0, 100)])
    def test_ties_at_the_cut_go_with_their_middle(self, k, n_top):
        # Groups of 40, 20 and 40: their middles are at .2, .5 and .8; the first group is always in.
        y, _, t, _, _ = example(15, n=100)
        uplift = np.repeat([3.0, 2.0, 1.0], [40, 20, 40])
        assert uplift_at_k(y, uplift, t, k=k).n_obs == n_top

    def test_a_top_where_nothing_varies_has_no_interval(self):
        y = np.r_[np.zeros(10), 1, 0, 1, 0.0]
        result = uplift_at_k(y, -np.arange(14.0), np.tile([0, 1], 7), k=0.5)
        assert result.estimate == 0.0
        assert np.isnan(numbers(result)[1:]).all()
        assert "does not vary" in result.method


class TestBins:
    def test_brute_force(self):
        y, uplift, t, _, _ = example(16, n=200)
        result = uplift_by_bin(y, uplift, t, bins=4)
        order = np.argsort(-uplift).reshape(4, 50)
        for i, rows in enumerate(order):
            a, b = y[rows][t[rows] == 0], y[rows][t[rows] == 1]
            half = stats.norm.isf(0.025) * math.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
            effect = b.mean() - a.mean()
            found = (
                result.bin[i],
                result.n[i],
                result.predicted[i],
                result.effect[i],
                result.ci_low[i],
                result.ci_high[i],
            )
            np.testing.assert_allclose(found, (i + 1, 50, uplift[rows].mean(), effect, effect - half, effect + half))

    def test_ties_stay_together(self):
        y, _, t, _, _ = example(17, n=100)
        result = uplift_by_bin(y, np.repeat([2.0, 1.0], [70, 30]), t, bins=10)
        assert (result.n.tolist(), result.predicted.tolist(), result.bin.tolist()) == ([70, 30], [2.0, 1.0], [1, 2])

    def test_a_bin_without_an_arm_has_no_effect(self):
        y, t = np.arange(20.0), np.r_[np.ones(10), np.tile([0, 1], 5)]
        result = uplift_by_bin(y, -y, t, bins=2)
        assert np.isnan([result.effect[0], result.ci_low[0]]).all()
        assert np.isfinite([result.effect[1], result.ci_low[1]]).all()


FOUR = {"y": np.array([0.0, 1, 0, 1]), "uplift": np.array([4.0, 3, 2, 1]), "treatment": np.array([0, 1, 1, 0])}


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "error", "words"),
        [
            ({"y": [0, 1, np.nan, 1]}, OutcomeError, ["y: 1 of 4", "missing"]),
            ({"y": [1, 1, 1, 1]}, OutcomeError, ["y is 1 in all 4 rows"]),
            ({"uplift": [1, 2, 3]}, CausalRecError, ["uplift has 3", "4 rows"]),
            ({"uplift": [1, 2, 3, np.inf]}, CausalRecError, ["uplift: 1 of 4"]),
            ({"treatment": [1, 1, 1, 1]}, TreatmentError, ["only 1", "two arms"]),
            ({"treatment": [0, 1, 2, 0], "control": 0}, TreatmentError, ["there are 3 arms", "arm=: 1, 2"]),
            ({"treatment": ["a", "b", "a", "b"]}, TreatmentError, ["control="]),
            ({"propensity": [0.5, 0.5, 0, 0.5]}, OverlapError, ["1 of 4"]),
            ({"sample_weight": [1, 0, 0, 1]}, TreatmentError, ["arm 1 has no weight"]),
            ({"clusters": [1, 2, 3]}, CausalRecError, ["clusters has 3", "4 rows"]),
            ({"clusters": [1, 2, 3, 4, 5]}, CausalRecError, ["clusters has 5"]),
            ({"clusters": [1, 2, None, 4]}, CausalRecError, ["clusters: 1 of 4", "missing"]),
            ({"confidence_level": 95}, CausalRecError, ["confidence_level is 95"]),
            ({"y": [], "uplift": [], "treatment": []}, TreatmentError, ["no rows"]),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("metric", [qini_score, auuc_score, uplift_at_k, qini_curve, uplift_by_bin])
    def test_misuse_says_what_to_do(self, metric, change, error, words):
        with pytest.raises(error) as caught:
            metric(**{**FOUR, **change})
        assert all(word in str(caught.value) for word in words), str(caught.value)

    @pytest.mark.parametrize("k", [0, 10, -0.1, math.nan])
    def test_a_k_that_is_no_share(self, k):
        with pytest.raises(CausalRecError, match="expected a share in"):
            uplift_at_k(**FOUR, k=k)

    def test_a_top_that_is_too_small(self):
        with pytest.raises(TreatmentError, match=r"the top 25% holds 0 treated and 1 control units.*larger k"):
            uplift_at_k(**FOUR, k=0.25)

    def test_one_cluster_has_no_standard_error(self):
        result = qini_score(**FOUR, clusters=["a"] * 4)
        assert np.isnan(result.std_error)
        assert "one cluster" in result.method

    def test_too_few_bins(self):
        with pytest.raises(CausalRecError, match="bins is 1"):
            uplift_by_bin(**FOUR, bins=1)


class TestClaims:
    """A randomised test with effect a + b x and score x, x uniform, so that all truths are closed forms.

    C(q) = a q + b (q - q^2 / 2); qini = b / 12; auuc = a / 2 + b / 3; the top share k has effect a + b (1 - k / 2).
    """

    a, b, n, reps = 0.02, 0.06, 1000, 800
    points = (0.1, 0.3, 0.5, 0.8, 1.0)

    def draw(self, rng, outcome, share, size=1):
        """Rows of one test; ``size`` rows a cluster share x, arm and a part of the noise."""
        g = self.n // size
        x = np.repeat(rng.random(g), size)
        t = np.repeat((rng.random(g) < share).astype(int), size)
        noise = np.repeat(rng.normal(size=g), size) if size > 1 else 0.0
        tau = self.a + self.b * x
        if outcome == "binary":
            return (rng.random(self.n) < 0.1 + 0.1 * x + t * tau).astype(float), x, t, np.repeat(np.arange(g), size)
        scale, level, sd = {"continuous": (10, 5 + 2 * x, 1.0), "strong": (100, x, 0.2)}[outcome]
        y = level + t * tau * scale + sd * rng.normal(size=self.n) + noise
        return y, x, t, np.repeat(np.arange(g), size)

    def truths(self, outcome):
        scale = {"binary": 1, "continuous": 10, "strong": 100}[outcome]
        a, b = scale * self.a, scale * self.b
        return a, b, {"qini": b / 12, "auuc": a / 2 + b / 3, "top": a + b * (1 - 0.4 / 2)}

    def check(self, found, truth, reps, slack=0.0):
        estimate, error, covered = np.array(found).T
        assert abs(estimate.mean() - truth) < 5 * estimate.std() / math.sqrt(reps)
        # The sd of R draws has a relative error of about 1 / sqrt(2 R).
        assert error.mean() / estimate.std() == pytest.approx(1, abs=4 / math.sqrt(2 * reps) + slack)
        assert covered.mean() == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / reps) + slack)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("outcome", "size"), [("binary", 1), ("continuous", 1), ("continuous", 4), ("strong", 1), ("strong", 4)]
    )
    @pytest.mark.parametrize("share", [0.5, 0.2])
    @pytest.mark.parametrize("known", [False, True])
    def test_standard_errors_and_coverage(self, outcome, share, known, size):
        rng = np.random.default_rng(21)
        *_, truth = self.truths(outcome)
        found = {name: [] for name in METRICS}
        for _ in range(self.reps):
            y, x, t, ids = self.draw(rng, outcome, share, size)
            options = {"propensity": share if known else None, "clusters": ids if size > 1 else None}
            for name, metric in METRICS.items():
                r = metric(y, x, t, **options)
                found[name].append((r.estimate, r.std_error, r.ci_low <= truth[name] <= r.ci_high))
        for name, values in found.items():
            # 50 treated clusters: the normal law is a little too narrow there.
            self.check(values, truth[name], self.reps, slack=0.03 if size > 1 and share < 0.5 else 0.0)

    @pytest.mark.parametrize(("outcome", "share"), [("binary", 0.5), ("continuous", 0.2)])
    def test_qini_covers_the_truth(self, outcome, share):
        rng = np.random.default_rng(22)
        *_, truth = self.truths(outcome)
        found = []
        for _ in range(600):
            r = qini_score(*self.draw(rng, outcome, share)[:3])
            found.append((r.estimate, r.std_error, r.ci_low <= truth["qini"] <= r.ci_high))
        self.check(found, truth["qini"], 600)

    @pytest.mark.parametrize("share", [0.5, 0.2])
    def test_a_useless_score_is_found_useful_at_the_nominal_rate(self, share):
        rng = np.random.default_rng(23)
        hits = [
            qini_score(y, rng.random(self.n), t).pvalue < 0.05
            for y, _, t, _ in (self.draw(rng, "binary", share) for _ in range(800))
        ]
        assert np.mean(hits) == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / 800))

    @pytest.mark.parametrize(("outcome", "share"), [("binary", 0.5), ("strong", 0.2)])
    def test_pointwise_intervals_of_the_curve(self, outcome, share):
        rng = np.random.default_rng(24)
        reps = 600
        a, b, _ = self.truths(outcome)
        found = []
        for _ in range(reps):
            curve = qini_curve(*self.draw(rng, outcome, share)[:3])
            at = [int(np.argmin(np.abs(curve.fraction - q))) for q in self.points]
            q = curve.fraction[at]
            found.append((curve.value[at], curve.ci_low[at], curve.ci_high[at], a * q + b * (q - q**2 / 2)))
        value, low, high, truth = np.array(found).transpose(1, 0, 2)
        error = (high - low) / 2 / stats.norm.isf(0.025)
        np.testing.assert_allclose(error.mean(axis=0) / value.std(axis=0), 1, atol=4 / math.sqrt(2 * reps))
        covered = ((low <= truth) & (truth <= high)).mean(axis=0)
        np.testing.assert_allclose(covered, 0.95, atol=4 * math.sqrt(0.95 * 0.05 / reps))

    @pytest.mark.slow
    def test_pointwise_intervals_of_the_curve_with_clusters(self):
        rng = np.random.default_rng(25)
        a, b, _ = self.truths("continuous")
        covered = []
        for _ in range(300):
            y, x, t, ids = self.draw(rng, "continuous", 0.5, size=4)
            curve = qini_curve(y, x, t, clusters=ids)
            q = curve.fraction
            truth = a * q + b * (q - q**2 / 2)
            covered.append(
                [((curve.ci_low <= truth) & (truth <= curve.ci_high))[np.argmin(np.abs(q - p))] for p in self.points]
            )
        np.testing.assert_allclose(np.mean(covered, axis=0), 0.95, atol=4 * math.sqrt(0.95 * 0.05 / 300))
