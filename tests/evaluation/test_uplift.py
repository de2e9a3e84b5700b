"""Uplift metrics against their formula by brute force, exact cases, and simulations with known truth."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.linear_model import LinearRegression

from causalrec.evaluation import (
    auuc_score,
    lift_share,
    qini_curve,
    qini_score,
    rate,
    toc_curve,
    uplift_at_k,
    uplift_by_bin,
)
from causalrec.evaluation._areas import area_score, toc_mean
from causalrec.evaluation._ranked import rank_units
from causalrec.evaluation._tops import lift_shares
from causalrec.exceptions import CausalRecError, OutcomeError, OverlapError, TreatmentError
from causalrec.nuisance import arm_scores, fit_nuisances


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


def grf_autoc(uplift, gamma, w):
    """The rows' definition in grf: TOC over the grid of rows, scores of ties averaged; a mean by weight."""
    order = np.argsort(-uplift, kind="stable")
    uplift, gamma, w = uplift[order], gamma[order], w[order]
    tied = np.array([np.average(gamma[uplift == u], weights=w[uplift == u]) for u in uplift])
    toc = np.cumsum(w * tied) / np.cumsum(w) - np.average(gamma, weights=w)
    return np.average(toc, weights=w)


class TestRate:
    """AUTOC; the Qini is above."""

    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("propensity", ["estimated", "varying"])
    def test_grf_definition(self, weighted, propensity):
        y, uplift, t, e, w = example(31)
        w = w if weighted else np.ones_like(w)
        e = e if propensity == "varying" else np.full(len(y), np.average(t, weights=w))
        options = {"sample_weight": w if weighted else None, "propensity": e if propensity == "varying" else None}
        expected = grf_autoc(uplift, gammas(y, t, e, w), w)
        assert float(rate(y, uplift, t, **options)) == pytest.approx(expected, rel=1e-12)

    def test_ties_are_averaged(self):
        y, uplift, t, _, w = example(32, levels=6)
        gamma = gammas(y, t, np.full(len(y), t.mean()), np.ones_like(w))
        assert float(rate(y, uplift, t)) == pytest.approx(grf_autoc(uplift, gamma, np.ones_like(w)), rel=1e-12)

    def test_ties_of_other_weights_do_not_depend_on_the_order_of_rows(self):
        # grf averages the scores of ties but takes their weights one by one. Averaged too, no order matters.
        y, uplift, t, e, w = example(33, levels=6)
        gamma = gammas(y, t, e, w)
        even = np.array([w[uplift == u].mean() for u in uplift])
        tied = np.array([np.average(gamma[uplift == u], weights=w[uplift == u]) for u in uplift])
        found = rate(y, uplift, t, propensity=e, sample_weight=w)
        assert float(found) == pytest.approx(grf_autoc(uplift, tied, even), rel=1e-12)

    @pytest.mark.parametrize(
        ("tau", "autoc", "qini"), [([4, 3, 2, 1], 0.75, 0.3125), ([1, 2, 3, 4], -0.75, -0.3125), ([5, 5], 0.0, 0.0)]
    )
    def test_exact_effects(self, tau, autoc, qini):
        # tau = [4, 3, 2, 1]: grf's AUTOC is .75 and its QINI .3125. rate_score of causalml 0.18 has .806818 and .625.
        assert float(self.of_scores(tau)) == pytest.approx(autoc, abs=1e-14)
        assert float(rate(*pairs(tau), target="qini")) == pytest.approx(qini, abs=1e-14)

    @staticmethod
    def of_scores(tau):
        """AUTOC of rows whose scores are these effects, the first row ranked first.

        Doubly robust scores of control rows whose models are exact: the outcome is that of control.
        """
        n, tau = len(tau), np.asarray(tau, dtype=float)
        control = np.arange(n) % 3.0
        scores = dataclasses.replace(
            arm_scores(np.arange(n), np.arange(n) % 2), y=control, codes=np.zeros(n, dtype=np.int64),
            outcomes=np.column_stack([control, control + tau]), shares_estimated=False,
        )  # fmt: skip
        return toc_mean(rank_units(scores, -np.arange(float(n))))[0]

    def test_a_perfect_ranking_of_uniform_effects(self):
        # TOC(q) = (1 - q) / 2, so AUTOC is .25. rate_score of causalml 0.18, which weights by 1 / q, says .4157 of
        # these very effects (and .1667 for "qini", which is 1 / 12).
        n = 20_000
        tau = (np.arange(n) + 0.5) / n
        assert float(self.of_scores(tau[::-1])) == pytest.approx(0.25, abs=1e-4)

    def test_the_mean_of_the_curve(self):
        y, uplift, t, _, _ = example(34, n=200)
        assert toc_curve(y, uplift, t).value.mean() == pytest.approx(float(rate(y, uplift, t)), rel=1e-12)

    def test_qini_is_the_same_as_qini_score(self):
        y, uplift, t, e, w = example(35, levels=9)
        one, other = (
            rate(y, uplift, t, target="qini", propensity=e, sample_weight=w),
            qini_score(y, uplift, t, propensity=e, sample_weight=w),
        )
        assert one.to_dict() == other.to_dict()

    def test_unknown_target(self):
        with pytest.raises(CausalRecError, match="target is 'auc'; expected one of 'autoc', 'qini'"):
            rate(**FOUR, target="auc")


class TestInfluence:
    """Influence functions are derivatives by the rows' weights, the rows' scores being held."""

    @staticmethod
    def derivative(function, scores, uplift, i, step=1e-5):
        found = []
        for sign in (1, -1):
            w = scores.weight.copy()
            w[i] += sign * step
            moved = dataclasses.replace(scores, weight=w * (np.count_nonzero(w) / w.sum()))
            found.append(function(rank_units(moved, uplift)))
        return (found[0] - found[1]) / (2 * step)

    @pytest.mark.parametrize("levels", [None, 4])
    @pytest.mark.parametrize("name", ["qini", "auuc", "autoc"])
    def test_numeric_derivative(self, name, levels):
        y, uplift, t, e, w = example(41, n=30, levels=levels)
        w[3] = 0.0
        metric = {
            "qini": lambda r: area_score(r, 0.5), "auuc": lambda r: area_score(r, 0.0), "autoc": toc_mean
        }[name]  # fmt: skip
        scores = arm_scores(y, t, propensity=e, sample_weight=w)
        ranked = rank_units(scores, uplift)
        influence = ranked.by_row(metric(ranked)[1])
        rows = np.flatnonzero(w)
        slopes = [self.derivative(lambda r: metric(r)[0], scores, uplift, i) for i in rows]
        np.testing.assert_allclose(influence[rows], scores.weight[rows] * scores.n_obs * slopes, rtol=1e-5, atol=1e-7)
        assert influence.sum() == pytest.approx(0, abs=1e-10)

    def test_lift_share_with_the_cut_among_ties(self):
        # Where the cut lies in a wide group of ties, gain and total are smooth in the weights.
        y, _, t, e, w = example(42, n=40)
        uplift = np.repeat([3.0, 2.0, 1.0], [12, 16, 12])
        scores = arm_scores(y, t, propensity=e, sample_weight=w)
        ranked = rank_units(scores, uplift)
        found = lift_shares(ranked, 0.5).estimate_and_influence()[1]
        slopes = [
            self.derivative(lambda r: lift_shares(r, 0.5).estimate_and_influence()[0], scores, uplift, i)
            for i in range(40)
        ]
        np.testing.assert_allclose(ranked.by_row(found), scores.weight * 40 * slopes, rtol=1e-4, atol=1e-6)

    def test_an_estimated_share_brings_its_own_error(self):
        # By weights, the share treated moves too: gamma changes with it, around the arms' means that are held.
        y, uplift, t, _, _ = example(43, n=40)
        scores = arm_scores(y, t)

        def moved(ranked):
            s = ranked.scores
            share = float(np.average(s.codes, weights=s.weight))
            table = np.broadcast_to([1 - share, share], (40, 2))
            return area_score(rank_units(dataclasses.replace(s, propensity=table), uplift), 0.0)[0]

        ranked = rank_units(scores, uplift)
        influence = ranked.by_row(area_score(ranked, 0.0)[1])
        slopes = [self.derivative(moved, scores, uplift, i) for i in range(40)]
        np.testing.assert_allclose(influence, 40 * np.array(slopes), rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(55)
    X = rng.normal(size=(200, 2))
    t = (rng.random(200) < 1 / (1 + np.exp(-X[:, 0]))).astype(int)
    y = 3 * X[:, 0] + t * X[:, 1] + rng.normal(size=200)
    w, groups = rng.uniform(0.5, 2, 200), np.repeat(np.arange(100), 2)
    return (
        X,
        y,
        t,
        fit_nuisances(X, y, treatment=t, outcome_model=LinearRegression(), sample_weight=w, groups=groups),
    )


class TestDoublyRobustAndManyArms:
    def three_arms(self, seed, n=90):
        rng = np.random.default_rng(seed)
        t = rng.permutation(np.repeat(["none", "mail", "app"], n // 3))
        uplift = rng.normal(size=(n, 2)).round(1)
        return rng.normal(size=n) + (t == "mail") * uplift[:, 1], uplift, t, rng.uniform(0.1, 3, n)

    @pytest.mark.parametrize("known", [False, True])
    def test_an_arm_of_three_by_brute_force(self, known):
        y, uplift, t, w = self.three_arms(51)
        share = {a: 1 / 3 if known else w[t == a].sum() / w.sum() for a in ("none", "mail", "app")}
        m = {a: np.average(y[t == a], weights=w[t == a]) for a in share}
        gamma = (
            m["mail"]
            - m["none"]
            + np.select(
                [t == "mail", t == "none"], [(y - m["mail"]) / share["mail"], -(y - m["none"]) / share["none"]], 0.0
            )
        )
        points = brute_force_curve(uplift[:, 1], gamma, w)  # arms other than control stand in alphabetic order
        options = {
            "control": "none", "arm": "mail", "sample_weight": w, "propensity": share if known else None,
        }  # fmt: skip
        assert float(auuc_score(y, uplift, t, **options)) == pytest.approx(trapezoid(points))
        assert float(auuc_score(y, uplift[:, 1], t, **options)) == pytest.approx(trapezoid(points))
        top = uplift[:, 1] >= np.sort(uplift[:, 1])[45]
        assert np.isfinite(uplift_at_k(y, uplift, t, k=0.5, **options).std_error)
        whole = uplift_at_k(y, uplift, t, k=1, **options)
        assert whole.estimate == pytest.approx(m["mail"] - m["none"])
        assert top.any()

    def test_other_arms_count_in_the_population(self):
        y, uplift, t, _ = self.three_arms(52)
        found = uplift_at_k(y, uplift, t, k=1, control="none", arm="mail")
        two = t != "app"
        alone = uplift_at_k(y[two], uplift[two, 1], t[two], k=1, control="none")
        assert (found.estimate, found.n_obs) == (pytest.approx(alone.estimate), 90)
        assert found.std_error == pytest.approx(alone.std_error, rel=1e-12)  # Welch's in both

    @pytest.mark.parametrize("arm", [None, "none", "sms"])
    def test_which_arm(self, arm):
        y, uplift, t, _ = self.three_arms(53)
        with pytest.raises(TreatmentError, match="arm"):
            qini_score(y, uplift, t, control="none", arm=arm)

    @pytest.mark.parametrize("table", [pd.DataFrame, pl.DataFrame, dict])
    def test_columns_go_by_the_names_of_arms(self, table):
        y, uplift, t, _ = self.three_arms(56)
        options = {"control": "none", "arm": "mail"}
        named = table({"mail": uplift[:, 1], "app": uplift[:, 0]})  # not in the order of the arms
        expected = qini_score(y, uplift[:, 1], t, **options)
        assert qini_score(y, named, t, **options).to_dict() == expected.to_dict()
        assert qini_score(y, pd.DataFrame(uplift), t, **options).to_dict() == expected.to_dict()
        with pytest.raises(CausalRecError, match=r"uplift has the columns 'mail', 'sms'; expected .* 'app', 'mail'"):
            qini_score(y, table({"mail": uplift[:, 1], "sms": uplift[:, 0]}), t, **options)

    def test_a_table_of_another_width(self):
        y, uplift, t, _ = self.three_arms(54)
        with pytest.raises(CausalRecError, match=r"uplift has shape \(90, 4\).*each of the 2 arms"):
            qini_score(y, np.column_stack([uplift, uplift]), t, control="none", arm="mail")

    def test_doubly_robust_by_brute_force(self, fitted):
        X, y, t, nuisance = fitted
        uplift, gamma, w = X[:, 1].round(1), nuisance.effect_scores()[:, 0], nuisance.sample_weight
        points = brute_force_curve(uplift, gamma, w)
        qini = qini_score(y, uplift, t, nuisance=nuisance)
        assert qini.estimate == pytest.approx(trapezoid(points) - points[-1, 1] / 2)
        assert "doubly robust" in qini.method
        assert "clustered" in qini.method  # the groups of the nuisances are clusters
        top = uplift >= np.sort(uplift)[::-1][20]
        k = w[top].sum() / w.sum()
        found = uplift_at_k(y, uplift, t, k=k, nuisance=nuisance)
        assert found.estimate == pytest.approx(np.average(gamma[top], weights=w[top]))
        whole = uplift_at_k(y, uplift, t, k=1, nuisance=nuisance)
        average = nuisance.average_effect()
        np.testing.assert_allclose([whole.estimate, whole.std_error], [average.estimate, average.std_error])

    def test_nuisances_of_other_rows(self, fitted):
        X, y, t, nuisance = fitted
        with pytest.raises(CausalRecError, match="y is not the outcome"):
            qini_score(y[::-1], X[:, 1], t, nuisance=nuisance)
        with pytest.raises(TreatmentError, match="treatment is not the one"):
            rate(y, X[:, 1], 1 - t, nuisance=nuisance)
        with pytest.raises(CausalRecError, match="both nuisance and propensity"):
            auuc_score(y, X[:, 1], t, nuisance=nuisance, propensity=0.5)
        with pytest.raises(CausalRecError, match="by_group"):
            uplift_at_k(y, X[:, 1], t, nuisance=nuisance, strategy="by_group")


class TestLiftShare:
    def test_brute_force(self):
        y, uplift, t, e, w = example(61, levels=7)
        points = brute_force_curve(uplift, gammas(y, t, e, w), w)
        for share in (0.05, 0.3, 0.62, 1.0):
            expected = np.interp(share, *points.T) / points[-1, 1]
            found = lift_share(y, uplift, t, share=share, propensity=e, sample_weight=w)
            assert found.estimate == pytest.approx(expected)
        assert (found.std_error, found.ci_low, found.ci_high) == (0.0, 1.0, 1.0)

    def test_the_ends_of_the_interval_are_just_significant(self):
        y, uplift, t, _, _ = example(62, n=300)
        y = y + 2 * t
        found = lift_share(y, uplift, t, share=0.3)
        parts = lift_shares(rank_units(arm_scores(y, t), uplift), 0.3)
        for end in (found.ci_low, found.ci_high):
            influence = parts.gain_influence - end * parts.total_influence
            gap = parts.gain - end * parts.total
            assert abs(gap) / (influence.std(ddof=1) / math.sqrt(300)) == pytest.approx(stats.norm.isf(0.025))
        assert found.ci_low < found.estimate < found.ci_high

    def test_no_effect_to_share(self):
        y, uplift, t, _, _ = example(63, n=300)
        found = lift_share(y - t * uplift, uplift, t, share=0.3)
        assert (found.ci_low, found.ci_high) == (-math.inf, math.inf)
        assert "no bounds" in found.method
        assert 0 < found.pvalue <= 1

    def test_a_constant_score_holds_its_own_share(self):
        y, _, t, _, _ = example(64)
        found = lift_share(y + t, np.ones(60), t, share=0.3)
        assert (found.estimate, found.ci_low, found.ci_high) == (0.3, 0.3, 0.3)
        assert math.isnan(found.pvalue)

    @pytest.mark.parametrize("share", [0, 1.2, math.nan])
    def test_no_share(self, share):
        with pytest.raises(CausalRecError, match=r"share is .*expected a share in \(0, 1\]"):
            lift_share(**FOUR, share=share)


class TestByGroup:
    @pytest.mark.parametrize("k", [0.1, 0.3, 1.0])
    def test_brute_force(self, k):
        y, uplift, t, _, _ = example(71, n=203)
        tops = [np.flatnonzero(t == a)[np.argsort(-uplift[t == a])] for a in (0, 1)]
        tops = [rows[: int(k * len(rows) + 0.5)] for rows in tops]
        found = uplift_at_k(y, uplift, t, k=k, strategy="by_group")
        assert found.estimate == pytest.approx(y[tops[1]].mean() - y[tops[0]].mean())
        if k == 1:
            assert numbers(found) == pytest.approx(numbers(uplift_at_k(y, uplift, t, k=1)))

    def test_a_top_that_is_too_small(self):
        with pytest.raises(TreatmentError, match="the top 10% of an arm holds 1 unit"):
            uplift_at_k(**FOUR, k=0.1, strategy="by_group")

    def test_unknown_strategy(self):
        with pytest.raises(CausalRecError, match="strategy is 'both'"):
            uplift_at_k(**FOUR, strategy="both")


class TestValueAlone:
    @pytest.mark.parametrize("metric", [qini_score, auuc_score, rate, uplift_at_k, lift_share])
    def test_same_value_and_no_interval(self, metric):
        y, uplift, t, e, w = example(81, n=200, levels=40)
        options = {"propensity": e, "sample_weight": w}
        alone, full = metric(y, uplift, t, confidence_level=None, **options), metric(y, uplift, t, **options)
        assert alone.estimate == pytest.approx(full.estimate, rel=1e-12)
        assert np.isnan(numbers(alone)[1:]).all()
        assert math.isnan(alone.confidence_level)
        assert "value alone" in alone.method
        assert "nan" not in str(alone)
        assert alone.estimand == full.estimand


METRICS = {
    "qini": lambda *a, **k: qini_score(*a, **k),
    "auuc": lambda *a, **k: auuc_score(*a, **k),
    "autoc": lambda *a, **k: rate(*a, **k),
    "top": lambda *a, **k: uplift_at_k(*a, k=0.4, **k),
    "top by group": lambda *a, **k: uplift_at_k(*a, k=0.4, strategy="by_group", **k),
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
        autoc = rate(y, np.full(len(y), 0.3), t, propensity=e, sample_weight=w)
        assert numbers(autoc)[:4].tolist() == [0.0, 0.0, 0.0, 0.0]
        assert math.isnan(autoc.pvalue)
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

    @pytest.mark.parametrize("strategy", ["overall", "by_group"])
    def test_a_top_where_one_arm_does_not_vary_has_no_interval(self, strategy):
        y = np.tile([1, 0, 0, 0, 1, 0, 0, 1], 3).astype(float)  # nobody untreated converts in the first half
        y[1:12:2] = 0
        result = uplift_at_k(y, -np.arange(24.0), np.tile([1, 0], 12), k=0.5, strategy=strategy)
        assert result.estimate == pytest.approx(3 / 6)
        assert np.isnan(numbers(result)[1:]).all()
        assert "do not vary in the top" in result.method
        always = uplift_at_k(np.where(np.arange(24) % 2, 0, y), -np.arange(24.0), np.tile([1, 0], 12), k=0.5)
        assert always.std_error > 0  # an arm that never varies is taken at its word

    def test_a_top_where_nothing_varies_has_no_interval(self):
        y = np.r_[np.zeros(10), 1, 0, 1, 0.0]
        result = uplift_at_k(y, -np.arange(14.0), np.tile([0, 1], 7), k=0.5)
        assert result.estimate == 0.0
        assert np.isnan(numbers(result)[1:]).all()
        assert "do not vary in the top" in result.method


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


EVERY = [qini_score, auuc_score, rate, uplift_at_k, lift_share, qini_curve, toc_curve, uplift_by_bin]


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
    @pytest.mark.parametrize(
        "metric", [qini_score, auuc_score, rate, uplift_at_k, lift_share, qini_curve, uplift_by_bin]
    )
    def test_misuse_says_what_to_do(self, metric, change, error, words):
        with pytest.raises(error) as caught:
            metric(**{**FOUR, **change})
        assert all(word in str(caught.value) for word in words), str(caught.value)

    @pytest.mark.parametrize("k", [0, 10, -0.1, math.nan, "0.3", None])
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
