"""Effects by group and the calibration error: brute force, closed forms, and simulations with known truth."""

from __future__ import annotations

import itertools
import math
from typing import ClassVar

import numpy as np
import pytest
from scipy import stats
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression

from causalrec.evaluation import uplift_by_bin, uplift_calibration
from causalrec.evaluation._ranked import rank_units
from causalrec.evaluation._tops import subset_effect
from causalrec.evaluation.calibration import (
    calibration_error,
    form_groups,
    group_effects,
    quadratic_form_sf,
    wald_test,
)
from causalrec.exceptions import CausalRecError, TreatmentError
from causalrec.nuisance import arm_scores, fit_nuisances


def example(seed=0, n=240, levels=None):
    rng = np.random.default_rng(seed)
    uplift = rng.normal(size=n) if levels is None else rng.integers(0, levels, n).astype(float)
    t = rng.permutation(np.arange(n) % 2)
    return rng.normal(size=n) + t * uplift, uplift, t, rng.uniform(0.2, 0.8, n), rng.uniform(0.1, 3, n)


def scores_of_rows(n=300, seed=1):
    """Nuisances of a linear outcome model, with the rows they are of."""
    rng = np.random.default_rng(seed)
    X, t = rng.normal(size=(n, 1)), np.arange(n) % 2
    y = X[:, 0] * t + rng.normal(size=n)
    found = fit_nuisances(X, y, treatment=t, propensity=0.5, outcome_model=LinearRegression())
    return X[:, 0], y, t, found


class TestGroups:
    @pytest.mark.parametrize("levels", [None, 7])
    def test_equal_groups_best_first_ties_whole(self, levels):
        y, uplift, t, _, w = example(1, levels=levels)
        ranked = rank_units(arm_scores(y, t, sample_weight=w), uplift)
        group = form_groups(ranked, 4)
        middle = np.array([w[ranked.uplift[i] < uplift].sum() + w[ranked.uplift[i] == uplift].sum() / 2
                           for i in range(len(y))]) / w.sum()  # fmt: skip
        wanted = np.unique(np.floor(middle * 4), return_inverse=True)[1]
        assert group.tolist() == wanted.tolist()
        for value in np.unique(uplift):
            assert len(np.unique(group[ranked.uplift == value])) == 1

    def test_edges_part_the_predictions(self):
        y, uplift, t, _, _ = example(2, levels=4)
        result = uplift_calibration(y, uplift, t, bins=[1.0, 3.0])
        assert result.n.tolist() == [(uplift >= 3).sum(), ((uplift >= 1) & (uplift < 3)).sum(), (uplift < 1).sum()]
        # An edge beyond all predictions makes no empty group.
        assert uplift_by_bin(y, uplift, t, bins=[-9.0, 1.0, 3.0, 99.0]).n.tolist() == result.n.tolist()

    @pytest.mark.parametrize("bins", [1, 0, 2.5, True, [], [1.0, 1.0], [2.0, 1.0], [np.nan, 1.0]])
    def test_what_are_no_bins(self, bins):
        y, uplift, t, _, _ = example(3)
        for call in (uplift_by_bin, uplift_calibration):
            with pytest.raises(CausalRecError, match="bins"):
                call(y, uplift, t, bins=bins)


class TestEffectsOfGroups:
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("propensity", [None, 0.4, "varying"])
    @pytest.mark.parametrize("clustered", [False, True])
    def test_each_group_is_its_subset(self, weighted, propensity, clustered):
        y, uplift, t, e, w = example(4, levels=9)
        scores = arm_scores(y, t, propensity=e if propensity == "varying" else propensity,
                            sample_weight=w if weighted else None,
                            clusters=np.arange(240) // 3 if clustered else None)  # fmt: skip
        ranked = rank_units(scores, uplift)
        group = form_groups(ranked, 5)
        found = group_effects(ranked, group)
        for g in range(len(found.n)):
            effect, influence = subset_effect(ranked, group == g)
            assert found.effect[g] == pytest.approx(effect)
            assert found.std_error[g] == pytest.approx(ranked.error(influence), rel=0.02 if clustered else 1e-9)
            inside = np.isin(uplift, ranked.uplift[group == g])
            predicted = np.average(uplift[inside], weights=w[inside] if weighted else None)
            assert found.predicted[g] == pytest.approx(predicted)

    def test_gaps_of_scores_are_a_paired_mean(self):
        # With doubly robust scores a gap is the mean of score less prediction: its error is that of a mean.
        x, y, t, nuisance = scores_of_rows()
        result = uplift_calibration(y, x, t, nuisance=nuisance, bins=4)
        gap = (nuisance.effect_scores()[:, 0] - x)[np.argsort(-x)].reshape(4, 75)
        np.testing.assert_allclose(result.gap, gap.mean(axis=1))
        np.testing.assert_allclose(result.gap_std_error, stats.sem(gap, axis=1))
        assert "doubly robust" in result.method

    def test_without_weights_the_effect_has_welchs_error(self):
        y, uplift, t, _, _ = example(5, n=200)
        result = uplift_calibration(y, uplift, t, bins=4)
        for g, rows in enumerate(np.argsort(-uplift).reshape(4, 50)):
            a, b = y[rows][t[rows] == 0], y[rows][t[rows] == 1]
            error = math.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
            np.testing.assert_allclose(
                [result.effect[g], result.effect_std_error[g]], [b.mean() - a.mean(), error], rtol=1e-10
            )
        half = stats.norm.isf(0.025)
        np.testing.assert_allclose(result.effect_ci_high - result.effect, half * result.effect_std_error)
        np.testing.assert_allclose(result.gap - result.gap_ci_low, half * result.gap_std_error)

    def test_the_covariance_of_clusters_that_lie_in_several_groups(self):
        x, y, t, nuisance = scores_of_rows()
        ids = np.random.default_rng(0).integers(0, 40, 300)
        ranked = rank_units(arm_scores(y, t, nuisance=nuisance, clusters=ids), x)
        group = form_groups(ranked, 3)
        found = group_effects(ranked, group)
        gap, ids = (nuisance.effect_scores()[:, 0] - x)[ranked.order], ids[ranked.order]
        sums = np.array([[((gap - gap[group == g].mean()) * (group == g))[ids == c].sum() / 100 for g in range(3)]
                         for c in range(40)])  # fmt: skip
        units = (np.abs(sums) > 0).sum(axis=0)
        factor = np.sqrt(units / (units - 1))
        np.testing.assert_allclose(found.gap_covariance, sums.T @ sums * np.outer(factor, factor), rtol=1e-10)
        assert found.units == 40

    def test_other_arms_count_in_the_groups(self):
        y, uplift, t, _, _ = example(6)
        third = np.random.default_rng(0).random(240) < 0.3
        arms = np.where(third, "c", np.where(t == 1, "b", "a"))
        result = uplift_calibration(y, uplift, arms, control="a", arm="b", bins=4)
        rows = np.argsort(-uplift).reshape(4, 60)
        for g in range(4):
            here, group = arms[rows[g]], y[rows[g]]
            assert result.effect[g] == pytest.approx(group[here == "b"].mean() - group[here == "a"].mean())
            assert result.predicted[g] == pytest.approx(uplift[rows[g]].mean())
        table = np.column_stack([uplift, -uplift])
        assert uplift_calibration(y, table, arms, control="a", arm="b", bins=4).estimate == result.estimate
        assert (result.control, result.treatment) == ("a", "b")


class TestError:
    def test_pairs_of_rows(self):
        # Xu and Yadlowsky 2022: products of a row's own gap and the others', leaving the row out. Brute force.
        x, y, t, nuisance = scores_of_rows(60)
        result = uplift_calibration(y, 2 * x, t, nuisance=nuisance, bins=3)
        gap = (nuisance.effect_scores()[:, 0] - 2 * x)[np.argsort(-x)].reshape(3, 20)
        pairs = [np.mean([a * b for a, b in itertools.permutations(row, 2)]) for row in gap]
        assert result.squared == pytest.approx(np.mean(pairs))
        assert result.estimate == pytest.approx(math.sqrt(max(np.mean(pairs), 0)))
        assert result.raw == pytest.approx(math.sqrt(np.mean(gap.mean(axis=1) ** 2)))
        # As the paper's own code has it (ECETH.R of its repository): the calibration curve without the row, less the
        # row's prediction. It differs by the covariance of gap and prediction within groups.
        order = np.argsort(-x)
        score, own = nuisance.effect_scores()[order, 0].reshape(3, 20), (2 * x[order]).reshape(3, 20)
        without = (20 * score.mean(axis=1, keepdims=True) - score) / 19
        theirs = np.mean((score - own) * (without - own))
        within = np.mean([np.cov(g, p)[0, 1] for g, p in zip(gap, own, strict=True)])
        assert theirs == pytest.approx(result.squared - within)

    def test_with_equal_noise_the_interval_is_that_of_a_noncentral_chi_square(self):
        gap = np.array([0.3, -0.1, 0.2, 0.4])
        found = calibration_error(gap, 0.01 * np.eye(4), np.full(4, 0.25), 0.9)
        q, unit = np.mean(gap**2), 0.0025
        assert found.squared == pytest.approx(q - 0.01)
        low, high = found.ci_low / unit, found.ci_high / unit
        assert stats.ncx2.sf(q / unit, 4, low) == pytest.approx(0.05, abs=1e-6)
        assert stats.ncx2.cdf(q / unit, 4, high) == pytest.approx(0.05, abs=1e-6)

    def test_an_estimate_below_zero_has_the_upper_end_of_zero(self):
        share, noise = np.full(4, 0.25), 0.01 * np.eye(4)
        lucky, zero = (calibration_error(np.full(4, gap), noise, share, 0.95) for gap in (0.001, 0.1))
        assert lucky.squared < 0
        assert zero.squared == pytest.approx(0, abs=1e-15)
        assert (lucky.ci_low, lucky.ci_high) == pytest.approx((0, zero.ci_high), rel=1e-6)
        assert zero.ci_high > 0

    @pytest.mark.parametrize("at", [0.0, 0.3, 2.0])
    def test_quadratic_forms_of_unequal_weights(self, at):
        rng = np.random.default_rng(0)
        weights, shift = np.array([3.0, 1.0, 0.5, 0.1]), at * np.array([1.0, 2.0, 0.0, 1.0])
        drawn = ((rng.normal(size=(200_000, 4)) + np.sqrt(shift)) ** 2) @ weights
        for p, apart in ((0.5, 0.03), (0.9, 0.006), (0.975, 0.002)):
            found = quadratic_form_sf(float(np.quantile(drawn, p)), weights, shift)
            assert found == pytest.approx(1 - p, abs=apart)

    def test_variance_of_the_squared_error(self):
        rng = np.random.default_rng(1)
        root = rng.normal(size=(3, 3)) / 5
        true, covariance, share = np.array([0.9, 0.3, -0.8]), root @ root.T, np.array([0.2, 0.3, 0.5])
        found = [calibration_error(gap, covariance, share, 0.95)
                 for gap in rng.multivariate_normal(true, covariance, 400)]  # fmt: skip
        squared = np.array([each.squared for each in found])
        assert squared.mean() == pytest.approx(share @ true**2, abs=4 * squared.std() / math.sqrt(400))
        assert np.mean([each.std_error**2 for each in found]) == pytest.approx(
            squared.var(), rel=4 * math.sqrt(2 / 400)
        )

    def test_hotellings_test_of_scores(self):
        # Rows in clusters of one group each: the gaps of G groups are a mean vector of the clusters' sums.
        rng = np.random.default_rng(2)
        rows = rng.normal(size=(25, 3)) + 0.3
        gap, covariance = rows.mean(axis=0), np.cov(rows.T) / 25
        statistic, df, pvalue = wald_test(gap, covariance, 25.0)
        t2 = 25 * gap @ np.linalg.inv(np.cov(rows.T)) @ gap
        assert statistic == pytest.approx((25 - 3) / (3 * 24) * t2)
        assert (df, pvalue) == (22, pytest.approx(stats.f.sf(statistic, 3, 22)))
        assert np.isnan(wald_test(gap, covariance, 3.0)).all()
        assert np.isnan(wald_test(gap, np.zeros((3, 3)), 25.0)).all()

    def test_the_root_has_an_error_only_away_from_zero(self):
        y, uplift, t, _, _ = example(7, n=2000)
        right, wrong = uplift_calibration(y, uplift, t), uplift_calibration(y, 3 * uplift, t)
        assert right.ci_low == 0
        assert math.isnan(right.std_error)
        assert wrong.ci_low > 0
        assert wrong.std_error == pytest.approx(wrong.squared_std_error / (2 * wrong.estimate))
        np.testing.assert_allclose([wrong.ci_low**2, wrong.ci_high**2], [wrong.squared_ci_low, wrong.squared_ci_high])
        assert wrong.pvalue < 1e-10


def numbers(result):
    return np.array([result.squared, result.squared_std_error, result.ci_low, result.ci_high, result.statistic])


class TestInvariants:
    def test_row_order_weight_scale_and_rows_without_weight(self):
        y, uplift, t, e, w = example(8, levels=30)
        w[::5] = 0.0
        base = uplift_calibration(y, uplift, t, propensity=e, sample_weight=w, bins=4)
        order, kept = np.random.default_rng(0).permutation(len(y)), w > 0
        for rows, scale in ((order, 1.0), (slice(None), 7.0), (kept, 1.0)):
            other = uplift_calibration(
                y[rows], uplift[rows], t[rows], propensity=e[rows], sample_weight=scale * w[rows], bins=4
            )
            np.testing.assert_allclose(numbers(other), numbers(base), rtol=1e-7, atol=1e-12)
            assert other.n_obs == base.n_obs == kept.sum()

    def test_scale_of_the_outcome(self):
        y, uplift, t, _, _ = example(9)
        base, other = uplift_calibration(y, uplift, t, bins=4), uplift_calibration(1e3 + 5 * y, 5 * uplift, t, bins=4)
        np.testing.assert_allclose(other.squared, 25 * base.squared, rtol=1e-8)
        np.testing.assert_allclose([other.statistic, other.ci_high], [base.statistic, 5 * base.ci_high], rtol=1e-6)

    def test_rows_of_their_own_cluster(self):
        y, uplift, t, _, _ = example(10, n=1000)
        plain, alone = (uplift_calibration(y, uplift, t, bins=4, clusters=c) for c in (None, np.arange(1000)))
        np.testing.assert_allclose(alone.gap, plain.gap)
        np.testing.assert_allclose(alone.gap_std_error, plain.gap_std_error, rtol=0.01)


class TestRefusals:
    def test_a_group_without_an_arm(self):
        y, t = np.arange(20.0), np.r_[np.ones(10), np.tile([0, 1], 5)]
        with pytest.raises(TreatmentError, match=r"group 2 of 2.*holds 10 units of arm 1 and 0 of arm 0.*fewer bins"):
            uplift_calibration(y, np.arange(20.0), t, bins=2)

    def test_a_group_where_nothing_happens_has_no_interval(self):
        rng = np.random.default_rng(0)
        t, uplift = np.arange(400) % 2, rng.random(400)
        y = ((uplift > 0.5) & (rng.random(400) < 0.3)).astype(float)
        result = uplift_calibration(y, uplift / 10, t, bins=4)
        assert np.isfinite(result.estimate)
        assert np.isnan([result.ci_low, result.ci_high, result.pvalue, result.gap_std_error[-1]]).all()
        assert "no outcome varies within its arms" in result.method
        assert "–" in str(result)

    def test_too_few_clusters_for_the_test(self):
        y, uplift, t, _, _ = example(11)
        result = uplift_calibration(y, uplift, t, bins=5, clusters=np.arange(240) % 5)
        assert math.isnan(result.pvalue)
        assert "too few clusters" in result.method

    def test_a_single_cluster_has_no_interval(self):
        y, uplift, t, _, _ = example(11)
        result = uplift_calibration(y, uplift, t, bins=5, clusters=0 * t)
        assert np.isnan([result.estimate, result.squared, result.ci_low, result.pvalue]).all()
        assert result.raw > 0
        assert "one cluster" in result.method

    def test_what_is_missing_or_of_another_length(self):
        y, uplift, t, _, _ = example(12)
        for change in ({"uplift": uplift[1:]}, {"uplift": np.r_[np.nan, uplift[1:]]}, {"clusters": t[1:]},
                       {"confidence_level": 1.5}, {"treatment": 0 * t}):  # fmt: skip
            with pytest.raises(CausalRecError):
                uplift_calibration(**({"y": y, "uplift": uplift, "treatment": t} | change))

    def test_nuisances_of_other_rows(self):
        x, y, t, nuisance = scores_of_rows(60)
        with pytest.raises(CausalRecError, match="nuisance"):
            uplift_calibration(y, x, 1 - t, nuisance=nuisance)


class TestClaims:
    """y = τ t + noise with unequal variances; τ uniform; predictions with a known calibration error."""

    KINDS: ClassVar = {  # prediction of x, and the mean squared gap of ten equal groups
        "right": (lambda x: x, 0.0),
        "shifted": (lambda x: x + 0.15, 0.0225),
        "doubled": (lambda x: 2 * x, np.mean(np.linspace(0.05, 0.95, 10) ** 2)),
    }

    def run(self, kind, n, size, reps, nuisance=False):
        rng = np.random.default_rng(5)
        predict, truth = self.KINDS[kind]
        covered, rejected, squared = [], [], []
        for _ in range(reps):
            ids = np.repeat(np.arange(n // size), size)
            x, t = rng.random(n), rng.integers(0, 2, n // size)[ids]
            y = (0.5 + x) * (rng.normal(size=n) + (rng.normal(size=n // size)[ids] if size > 1 else 0)) + x * t
            given = None
            if nuisance:
                given = fit_nuisances(
                    x[:, None], y, treatment=t, propensity=0.5, outcome_model=DummyRegressor(), n_folds=2
                )
            found = uplift_calibration(y, predict(x), t, clusters=ids if size > 1 else None, nuisance=given)
            covered.append(found.squared_ci_low <= truth + 1e-12 and truth <= found.squared_ci_high)
            rejected.append(found.pvalue < 0.05)
            squared.append(found.squared)
        assert np.mean(squared) == pytest.approx(truth, abs=4 * np.std(squared) / math.sqrt(reps) + 0.001)
        bound = 4 * math.sqrt(0.05 * 0.95 / reps)
        assert np.mean(covered) > 0.95 - bound
        if kind == "doubled":
            assert np.mean(covered) < 0.95 + bound
        if kind == "right":
            assert np.mean(rejected) == pytest.approx(0.05, abs=bound + 0.01)
        return np.mean(covered), np.mean(rejected)

    @pytest.mark.parametrize("kind", ["right", "doubled"])
    def test_coverage_and_size(self, kind):
        self.run(kind, 1500, 1, 150)

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("size", [1, 4])
    def test_coverage_and_size_with_clusters(self, kind, size):
        self.run(kind, 2400, size, 600)

    @pytest.mark.slow
    def test_coverage_with_doubly_robust_scores(self):
        self.run("doubled", 1500, 1, 300, nuisance=True)


class TestRareOutcomes:
    """An arm of which nobody converts in a group shows no variance, and that is no certainty."""

    @staticmethod
    def rows(n, seed):
        rng = np.random.default_rng(seed)
        treatment = (rng.random(n) < 0.15).astype(np.int64)
        return (rng.random(n) < 0.02).astype(np.float64), 1e-9 * rng.normal(size=n), treatment

    def test_a_silent_arm_has_no_interval_but_the_test_goes_on(self):
        y, uplift, treatment = self.rows(3000, 0)
        found = uplift_calibration(y, uplift, treatment)
        order = np.argsort(-uplift)
        silent = [y[rows][treatment[rows] == 1].max() == 0 for rows in np.array_split(order, 10)]
        assert 0 < sum(silent) < 10
        np.testing.assert_array_equal(np.isnan(found.effect_ci_low), silent)
        assert 0 <= found.pvalue <= 1
        bins = uplift_by_bin(y, uplift, treatment)
        np.testing.assert_array_equal(np.isnan(bins.ci_low), silent)

    def test_by_cluster_there_is_no_test(self):
        y, uplift, treatment = self.rows(3000, 0)
        found = uplift_calibration(y, uplift, treatment, clusters=np.arange(3000))
        assert np.isnan(found.pvalue)
        assert "no test" in found.method

    def test_an_arm_that_never_varies_is_taken_at_its_word(self):
        y, uplift, treatment = self.rows(3000, 0)
        assert np.isfinite(uplift_by_bin(y * (treatment == 0), uplift, treatment, bins=2).ci_low).all()

    def test_size_of_the_test(self):
        """150 tests of scores without a gap: with each group's own variances about 0.43 reject, pooled about 0.05."""
        pvalue = [uplift_calibration(*self.rows(3000, seed), bins=5).pvalue for seed in range(150)]
        assert stats.binom.sf(np.sum(np.array(pvalue) < 0.05) - 1, 150, 0.07) > 1e-3

    def test_pooled_variances_are_each_groups_own_where_these_agree(self):
        rng = np.random.default_rng(3)
        y, uplift, treatment = rng.normal(size=20_000), rng.normal(size=20_000), rng.integers(0, 2, 20_000)
        ranked = rank_units(arm_scores(y * (1 + treatment), treatment, propensity=0.5), uplift)
        found = group_effects(ranked, np.arange(20_000) // 4000)
        np.testing.assert_allclose(np.diag(found.test_covariance), np.diag(found.gap_covariance), rtol=0.08)


def test_bins_as_text():
    y, uplift, treatment = [3, 1, 2, 0, 1, 1, 0, 1], [9, 8, 7, 6, 4, 3, 2, 1], [1, 0, 1, 0, 1, 0, 1, 0]
    lines = str(uplift_by_bin(y, uplift, treatment, bins=2)).splitlines()
    assert lines[0] == "Effect by group of predicted uplift, the highest first, n = 8 (95% intervals)"
    assert lines[1].startswith("  group 1 (n = 4): predicted 7.5, observed 2 [")
    assert len(lines) == 3
