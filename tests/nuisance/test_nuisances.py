"""Nuisances: equal to a loop by hand, blind to what they must not see, fitted once, right on average."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression

from causalrec.exceptions import CausalRecError, OutcomeError, OverlapError, TreatmentError
from causalrec.nuisance import BoostedRegressor, dr_loss, fit_nuisances, make_folds, r_loss
from causalrec.uplift import DRLearner, RLearner, SLearner, TLearner, XLearner

LINEAR = {"outcome_model": LinearRegression(), "propensity_model": LogisticRegression()}


def rows(n=400, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    t = (rng.random(n) < special.expit(X[:, 0])).astype(int)
    return X, X[:, 0] + t * (1 + X[:, 1]) + rng.normal(size=n), t


class Counting(RegressorMixin, BaseEstimator):
    """Least squares that counts its fits."""

    fits = 0

    def fit(self, X, y, sample_weight=None):
        type(self).fits += 1
        self.model_ = LinearRegression().fit(X, y, sample_weight=sample_weight)
        return self

    def predict(self, X):
        return self.model_.predict(X)


class TestCrossFitting:
    def test_equals_a_loop(self):
        X, y, t = rows()
        w = np.random.default_rng(1).uniform(0.5, 2, len(y))
        found = fit_nuisances(X, y, treatment=t, sample_weight=w, n_folds=4, **LINEAR)
        outcomes, propensity = np.empty((400, 2)), np.empty(400)
        for k in range(4):
            out, away = found.fold != k, found.fold == k
            for a in (0, 1):
                of = out & (t == a)
                outcomes[away, a] = LinearRegression().fit(X[of], y[of], w[of]).predict(X[away])
            propensity[away] = LogisticRegression().fit(X[out], t[out], w[out]).predict_proba(X[away])[:, 1]
        np.testing.assert_allclose(found.outcomes, outcomes)
        np.testing.assert_allclose(found.propensity[:, 1], propensity)
        np.testing.assert_allclose(found.mean_outcome, outcomes[:, 0] * (1 - propensity) + outcomes[:, 1] * propensity)
        np.testing.assert_allclose(found.effect_scores()[:, 0], found.scores[:, 1] - found.scores[:, 0])

    def test_a_known_propensity_is_used_as_given(self):
        X, y, t = rows()
        e = special.expit(X[:, 0])
        found = fit_nuisances(X, y, treatment=t, propensity=e, outcome_model=LinearRegression())
        np.testing.assert_array_equal(found.propensity[:, 1], e)
        assert all(fold.propensity == () for fold in found.models)
        with pytest.raises(OverlapError, match="known row by row"):
            found.predict_propensity(X)
        half = fit_nuisances(X, y, treatment=t, propensity=0.5, outcome_model=LinearRegression())
        np.testing.assert_array_equal(half.predict_propensity(X[:3]), np.full((3, 2), 0.5))

    def test_new_rows_get_the_mean_of_the_folds(self):
        X, y, t = rows()
        found = fit_nuisances(X, y, treatment=t, n_folds=3, **LINEAR)
        new = np.random.default_rng(2).normal(size=(5, 3))
        by_hand = np.mean([[m.predict(new) for m in fold.outcome] for fold in found.models], axis=0).T
        np.testing.assert_allclose(found.predict_outcomes(new), by_hand)
        by_hand = np.mean([fold.propensity[0].predict_proba(new)[:, 1] for fold in found.models], axis=0)
        np.testing.assert_allclose(found.predict_propensity(new)[:, 1], by_hand)

    def test_three_arms(self):
        rng = np.random.default_rng(3)
        X = rng.normal(size=(900, 2))
        odds = np.exp(np.column_stack([0 * X[:, 0], 0.5 * X[:, 0], -0.5 * X[:, 1]]))
        e = odds / odds.sum(axis=1, keepdims=True)
        t = np.array([rng.choice(3, p=p) for p in e])
        y = X[:, 0] + np.array([0, 1, 3])[t]
        labels = np.array(["none", "app", "mail"])[t]
        found = fit_nuisances(X, y, treatment=labels, control="none", **LINEAR)
        assert found.labels == ("none", "app", "mail")
        np.testing.assert_allclose(found.propensity.sum(axis=1), 1)
        assert np.corrcoef(found.propensity[:, 2], e[:, 2])[0, 1] > 0.9
        np.testing.assert_allclose([r.estimate for r in found.average_effects()], [1, 3], atol=1e-9)
        for estimand in ("att", "atc"):
            assert found.average_effect(estimand, arm="mail").estimate == pytest.approx(3)
        assert found.overlap("app").n_obs == int((t != 2).sum())
        with pytest.raises(TreatmentError, match="say which with arm=: 'app', 'mail'"):
            found.average_effect()
        with pytest.raises(TreatmentError, match="'none' is no arm other than control"):
            found.average_effect(arm="none")

    def test_one_outcome_model_of_all_arms(self):
        rng = np.random.default_rng(5)
        X, t, w = rng.normal(size=(300, 2)), rng.integers(0, 3, 300), rng.uniform(0.5, 2, 300)
        y = X[:, 0] + t * (t + X[:, 1]) + rng.normal(size=300)
        base = RandomForestRegressor(5, max_depth=4, random_state=0)
        found = fit_nuisances(
            X, y, treatment=t, control=0, propensity=[[0.3, 0.3, 0.4]] * 300, sample_weight=w, outcome_model=base,
            joint_outcome=True, n_folds=3,
        )  # fmt: skip

        def joined(rows, arms):
            return np.column_stack([X[rows], arms == 1, arms == 2])

        for k in range(3):
            out, away = found.fold != k, found.fold == k
            fitted = clone(base).fit(joined(out, t[out]), y[out], w[out])
            for a in range(3):
                by_hand = fitted.predict(joined(away, np.full(away.sum(), a)))
                np.testing.assert_allclose(found.outcomes[away, a], by_hand)
        assert all(len({id(m.model) for m in fold.outcome}) == 1 for fold in found.models)
        assert found.predict_outcomes(X[:4]).shape == (4, 3)
        np.testing.assert_array_equal(TLearner().fit(X, y, treatment=t, nuisance=found).predict(X[:4]).shape, (4, 2))
        frame = pd.DataFrame(X, columns=["a", "arm"]).assign(kind=pd.Categorical(rng.choice(["u", "v"], 300)))
        trees = BoostedRegressor(n_estimators=5, max_depth=2, n_folds=2)
        learner = DRLearner(trees, effect_model=BoostedRegressor(n_folds=2), control=0, joint_outcome=True, n_folds=3)
        learner.fit(frame, y, treatment=t, propensity=[[0.3, 0.3, 0.4]] * 300)
        again = pickle.loads(pickle.dumps(learner))
        np.testing.assert_array_equal(
            again.nuisance_.predict_outcomes(frame), learner.nuisance_.predict_outcomes(frame)
        )

    def test_groups_lie_in_one_fold_and_are_clusters(self):
        X, y, t = rows()
        users = np.random.default_rng(4).integers(0, 80, 400)
        found = fit_nuisances(X, y, treatment=t, groups=users, **LINEAR)
        assert (pd.Series(found.fold).groupby(users).nunique() == 1).all()
        effect = found.average_effect()
        assert "clustered by" in effect.method
        assert effect.std_error == found.average_effect(clusters=users).std_error
        # Doubled rows are no more evidence once they are clusters.
        twice = fit_nuisances(
            np.repeat(X, 2, axis=0), np.repeat(y, 2), treatment=np.repeat(t, 2), groups=np.repeat(np.arange(400), 2),
            propensity=0.5, outcome_model=LinearRegression(),
        )  # fmt: skip
        naive = twice.average_effect(clusters=np.arange(800)).std_error
        assert twice.average_effect().std_error == pytest.approx(np.sqrt(2) * naive, rel=0.01)

    def test_clipping_is_said(self):
        X, y, t = rows()
        found = fit_nuisances(X, y, treatment=t, clip=0.2, **LINEAR)
        assert found.propensity.min() == pytest.approx(0.2)
        assert 0 < found.share_clipped < 1
        assert f"clipped in {found.share_clipped:.2%} of rows" in found.average_effect().method

    def test_calibration_of_an_overconfident_model(self):
        X, y, t = rows(2000)
        sharp = LogisticRegression().fit(8 * X, t)

        class Sharp(LogisticRegression):
            def predict_proba(self, X):
                p = special.expit(4 * self.decision_function(X))
                return np.column_stack([1 - p, p])

        e = special.expit(X[:, 0])
        gaps = {}
        for kind in (None, "sigmoid", "isotonic"):
            clip = 0.01 if kind == "isotonic" else None
            found = fit_nuisances(
                X,
                y,
                treatment=t,
                outcome_model=LinearRegression(),
                propensity_model=Sharp(),
                calibration=kind,
                clip=clip,
            )
            gaps[kind] = np.abs(found.propensity[:, 1] - e).mean()
            assert (found.calibrator is None) == (kind is None)
            if kind is not None:
                assert np.abs(found.predict_propensity(X)[:, 1] - e).mean() < 0.05
        assert gaps["sigmoid"] < 0.05 < 0.15 < gaps[None]
        assert gaps["isotonic"] < 0.06
        assert sharp.classes_.tolist() == [0, 1]

    def test_pickled_without_the_covariates(self):
        X, y, t = rows()
        found = fit_nuisances(X, y, treatment=t, **LINEAR)
        again = pickle.loads(pickle.dumps(found))
        assert again._cache == {}
        np.testing.assert_array_equal(again.scores, found.scores)
        np.testing.assert_array_equal(again.predict_outcomes(X), found.predict_outcomes(X))


class TestSharing:
    def test_five_learners_and_the_effect_fit_the_outcomes_once(self):
        X, y, t = rows()
        Counting.fits = 0
        found = fit_nuisances(X, y, treatment=t, propensity=0.5, outcome_model=Counting())
        assert Counting.fits == 10  # five folds, two arms
        found.average_effect()
        for learner in (
            TLearner(),
            SLearner(),
            *(kind(LinearRegression()) for kind in (XLearner, RLearner, DRLearner)),
        ):
            base = LinearRegression() if isinstance(learner, SLearner) else learner.base_learner
            learner.set_params(base_learner=base).fit(X, y, treatment=t, nuisance=found)
        assert Counting.fits == 10

    def test_honest_second_stages_fit_each_pair_of_folds_once(self):
        X, y, t = rows()
        Counting.fits = 0
        found = fit_nuisances(X, y, treatment=t, propensity=0.5, outcome_model=Counting())
        for kind in (XLearner, RLearner, DRLearner):
            kind(LinearRegression()).fit_predict(X, y, treatment=t, nuisance=found)
        assert Counting.fits == 10 + 2 * 10  # ten pairs of five folds, two arms

    def test_leaving_out_equals_a_fit_without_both_folds(self):
        X, y, t = rows()
        found = fit_nuisances(X, y, treatment=t, n_folds=3, **LINEAR)
        part = found.leaving_out(1, X)
        kept = found.fold != 1
        np.testing.assert_array_equal(part.fold, found.fold[kept])
        for j, other in ((0, 2), (2, 0)):
            inside, train = found.fold == j, found.fold == other
            for a in (0, 1):
                by_hand = LinearRegression().fit(X[train & (t == a)], y[train & (t == a)]).predict(X[inside])
                np.testing.assert_allclose(part.outcomes[part.fold == j, a], by_hand)
            by_hand = LogisticRegression().fit(X[train], t[train]).predict_proba(X[inside])
            np.testing.assert_allclose(part.propensity[part.fold == j], by_hand)

    @pytest.mark.parametrize("kind", [SLearner, XLearner, RLearner, DRLearner])
    @pytest.mark.parametrize("grouped", [True, False])
    def test_of_two_folds_the_other_is_split(self, kind, grouped):
        """So that the fold that is scored is seen by no model, and its outcomes change none of its scores."""
        X, y, t = rows(200)
        groups = np.repeat(np.arange(100), 2) if grouped else None
        found = []
        for shift in (0.0, 5.0):
            fold = fit_nuisances(X, y, treatment=t, n_folds=2, groups=groups, **LINEAR).fold
            changed = np.where(fold == 1, y + shift * t * X[:, 2], y)
            nuisance = fit_nuisances(X, changed, treatment=t, n_folds=2, groups=groups, **LINEAR)
            found.append(kind(LinearRegression()).fit_predict(X, changed, treatment=t, nuisance=nuisance))
        np.testing.assert_array_equal(found[0][fold == 1], found[1][fold == 1])
        assert not np.allclose(found[0][fold == 0], found[1][fold == 0])
        part = nuisance.leaving_out(1, X)
        assert part.n_folds == 2
        assert np.isfinite(part.scores).all()

    def test_an_s_learner_fits_no_nuisances_out_of_fold(self):
        X, y, t = rows(200)
        found = fit_nuisances(X, y, treatment=t, propensity=0.5, outcome_model=Counting())
        Counting.fits = 0
        SLearner(LinearRegression()).fit_predict(X, y, treatment=t, nuisance=found)
        assert Counting.fits == 0

    @pytest.mark.parametrize("kind", [SLearner, TLearner, XLearner, RLearner, DRLearner])
    @pytest.mark.parametrize("shared", [True, False])
    def test_no_row_is_scored_by_anything_that_saw_it(self, kind, shared):
        """Other outcomes in a fold leave its own scores as they were, to the bit."""
        X, y, t = rows(200)
        fold, found = make_folds(t, 4), []
        for shift in (0.0, 5.0):
            changed = np.where(fold == 2, y + shift * X[:, 2], y)
            nuisance = fit_nuisances(X, changed, treatment=t, n_folds=4, **LINEAR) if shared else None
            base = None if shared and kind is TLearner else LinearRegression()
            models = (
                {"propensity_model": LogisticRegression()} if not shared and kind not in (SLearner, TLearner) else {}
            )
            learner = kind(base, n_folds=4, **models)
            found.append(learner.fit_predict(X, changed, treatment=t, nuisance=nuisance))
        np.testing.assert_array_equal(found[0][fold == 2], found[1][fold == 2])
        assert not np.allclose(found[0][fold != 2], found[1][fold != 2])


class TestErrors:
    @pytest.mark.parametrize(
        ("change", "error", "words"),
        [
            ({"treatment": np.ones(400)}, TreatmentError, "only 1.0 in 400 rows"),
            ({"treatment": np.r_[np.nan, np.ones(399)]}, TreatmentError, "1 of 400 values are missing"),
            ({"treatment": np.ones(399)}, CausalRecError, "399 values"),
            ({"y": np.r_[np.nan, np.ones(399)]}, OutcomeError, "1 of 400"),
            ({"y": np.ones(7)}, CausalRecError, "y has 7 values but there are 400 rows"),
            ({"propensity": 0.0}, OverlapError, "strictly between"),
            ({"propensity": 1}, OverlapError, "strictly between"),
            ({"outcome_model": LogisticRegression()}, OutcomeError, "LogisticRegression is a classifier"),
            ({"outcome_model": LinearRegression}, CausalRecError, "the class LinearRegression; pass an instance"),
            ({"propensity_model": LinearRegression()}, CausalRecError, "classifier"),
            ({"sample_weight": -np.ones(400)}, CausalRecError, "negative"),
            ({"n_folds": 1}, CausalRecError, "n_folds"),
            ({"calibration": "platt"}, CausalRecError, "platt"),
            ({"clip": 0.7}, CausalRecError, "clip"),
            ({"groups": np.zeros(400)}, CausalRecError, "one value"),
            ({"control": "none"}, TreatmentError, "not among the arms"),
        ],
    )
    def test_bad_input(self, change, error, words):
        X, y, t = rows()
        with pytest.raises(error, match=words):
            fit_nuisances(X, **{"y": y, "treatment": t, **LINEAR, **change})

    def test_no_weight_in_an_arm(self):
        X, y, t = rows()
        with pytest.raises(TreatmentError, match="arm 1 has no weight"):
            fit_nuisances(X, y, treatment=t, sample_weight=1.0 - t, **LINEAR)

    def test_treatment_by_position(self):
        X, y, t = rows()
        with pytest.raises(TypeError):
            fit_nuisances(X, y, t)

    def test_losses_of_effects_of_other_rows(self):
        X, y, t = rows()
        found = fit_nuisances(X, y, treatment=t, **LINEAR)
        assert float(r_loss(X[:, 1] + 1, found)) < float(r_loss(np.zeros(400), found))
        assert float(dr_loss(X[:, 1] + 1, found)) < float(dr_loss(np.zeros(400), found))
        with pytest.raises(CausalRecError, match="399 values"):
            r_loss(np.zeros(399), found)


@pytest.mark.slow
class TestClaims:
    """Under confounding that both models can learn, seeded, with binomial bounds."""

    @pytest.mark.parametrize("estimand", ["ate", "att", "atc"])
    def test_intervals_cover(self, estimand):
        hits, runs = 0, 400
        for seed in range(runs):
            rng = np.random.default_rng(seed)
            X = rng.normal(size=(500, 3))
            e = special.expit(0.7 * X[:, 0])
            t = (rng.random(500) < e).astype(int)
            tau = 1 + X[:, 0]
            y = X[:, 0] + X[:, 1] + tau * t + rng.normal(size=500)
            truth = {"ate": 1.0, "att": 1 + _mean_of_treated(), "atc": 1 - _mean_of_treated()}[estimand]
            r = fit_nuisances(X, y, treatment=t, random_state=seed, **LINEAR).average_effect(estimand)
            hits += r.ci_low <= truth <= r.ci_high
        low, high = stats.binom.ppf([0.0005, 0.9995], runs, 0.95)
        assert low <= hits <= high, hits / runs

    def test_clustered_intervals_cover_where_others_do_not(self):
        hits, naive, runs = 0, 0, 300
        for seed in range(runs):
            rng = np.random.default_rng(1000 + seed)
            user = np.repeat(np.arange(120), 6)
            X = rng.normal(size=(120, 2))[user]
            t = rng.integers(0, 2, 120)[user]
            y = X[:, 0] + t + rng.normal(size=120)[user] + 0.5 * rng.normal(size=720)
            found = fit_nuisances(
                X, y, treatment=t, propensity=0.5, groups=user, outcome_model=LinearRegression(), random_state=seed
            )
            r, plain = found.average_effect(), found.average_effect(clusters=np.arange(720))
            hits += r.ci_low <= 1 <= r.ci_high
            naive += plain.ci_low <= 1 <= plain.ci_high
        low, high = stats.binom.ppf([0.0005, 0.9995], runs, 0.95)
        assert low <= hits <= high, hits / runs
        assert naive < low


def _mean_of_treated():
    """E[x | treated] where x is standard normal and P(treated) = expit(0.7 x): by quadrature."""
    x = np.linspace(-9, 9, 20_001)
    weight = stats.norm.pdf(x) * special.expit(0.7 * x)
    return float((x * weight).sum() / weight.sum())
