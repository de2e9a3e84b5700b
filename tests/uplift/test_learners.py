"""All learners: by hand, against EconML, with weights, arms and tables of every kind, with scikit-learn's manners."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from scipy import special
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import RandomForestRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks
from xgboost import XGBRegressor

from causalrec.exceptions import CausalRecError, ColumnError, OutcomeError, OverlapError, TreatmentError
from causalrec.nuisance import BoostedRegressor, fit_nuisances
from causalrec.uplift import ClassTransformation, DRLearner, RLearner, SLearner, TLearner, XLearner

ALL = (SLearner, TLearner, XLearner, RLearner, DRLearner)
ON_EFFECTS = (XLearner, RLearner, DRLearner)
NAMES = np.array(["none", "mail", "app"])
TREES = BoostedRegressor(n_estimators=10, max_depth=2, n_folds=3)


def rows(n=500, seed=0, arms=2):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    t = rng.integers(0, arms, n)
    return X, 1 + X[:, 0] + t * (0.5 - 2 * X[:, 1]) + 0.3 * rng.normal(size=n), t, rng.uniform(0.5, 2, n)


def mixed_frame(n=300, seed=1):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame({
        "age": np.where(rng.random(n) < 0.1, np.nan, rng.normal(40, 10, n)),
        "channel": pd.Categorical(rng.choice(["web", "phone", None], n), categories=["phone", "web"]),
        "new": rng.random(n) < 0.5,
    })  # fmt: skip
    t = rng.integers(0, 2, n)
    return X, (rng.random(n) < 0.2 + 0.3 * t * (X["channel"] == "web")).astype(int), t


class TestByHand:
    def test_s(self):
        X, y, t, _ = rows()
        base = KNeighborsRegressor(5)
        fitted = clone(base).fit(np.column_stack([X, t]), y)
        by_hand = [fitted.predict(np.column_stack([X, np.full(500, a)])) for a in (0, 1)]
        learner = SLearner(base).fit(X, y, treatment=t)
        np.testing.assert_array_equal(learner.predict(X), by_hand[1] - by_hand[0])
        np.testing.assert_array_equal(learner.predict_outcomes(X), np.column_stack(by_hand))
        assert learner.models_[0].n_features_in_ == 4

    def test_x(self):
        X, y, t, w = rows()
        e = special.expit(X[:, 0])
        base = Ridge(1.0)
        mu = [clone(base).fit(X[t == a], y[t == a], w[t == a]) for a in (0, 1)]
        of_treated = clone(base).fit(X[t == 1], (y - mu[0].predict(X))[t == 1], w[t == 1]).predict(X)
        of_control = clone(base).fit(X[t == 0], (mu[1].predict(X) - y)[t == 0], w[t == 0]).predict(X)
        g = np.average(e, weights=w)
        learner = XLearner(base).fit(X, y, treatment=t, propensity=e, sample_weight=w)
        np.testing.assert_allclose(learner.predict(X), g * of_control + (1 - g) * of_treated, rtol=1e-9)
        model = LogisticRegression().fit(X, t, w)
        g = model.predict_proba(X)[:, 1]
        learner = XLearner(base, propensity_model=LogisticRegression()).fit(X, y, treatment=t, sample_weight=w)
        np.testing.assert_allclose(learner.predict(X), g * of_control + (1 - g) * of_treated, rtol=1e-9)

    def test_r_and_dr(self):
        X, y, t, w = rows()
        found = fit_nuisances(
            X, y, treatment=t, sample_weight=w, outcome_model=LinearRegression(), propensity_model=LogisticRegression()
        )
        e, (mu0, mu1) = found.propensity[:, 1], found.outcomes.T
        m = e * mu1 + (1 - e) * mu0
        by_hand = Ridge(2.0).fit(X, (y - m) / (t - e), w * (t - e) ** 2).predict(X)
        np.testing.assert_allclose(RLearner(Ridge(2.0)).fit(X, y, treatment=t, nuisance=found).predict(X), by_hand)
        scores = mu1 - mu0 + t * (y - mu1) / e - (1 - t) * (y - mu0) / (1 - e)
        by_hand = Ridge(2.0).fit(X, scores, w).predict(X)
        np.testing.assert_allclose(DRLearner(Ridge(2.0)).fit(X, y, treatment=t, nuisance=found).predict(X), by_hand)
        for kind in (RLearner, DRLearner):  # the same nuisances are fitted where none are given
            models = {"outcome_model": LinearRegression(), "propensity_model": LogisticRegression()}
            alone = kind(Ridge(2.0), **models).fit(X, y, treatment=t, sample_weight=w)
            given = kind(Ridge(2.0)).fit(X, y, treatment=t, nuisance=found)
            np.testing.assert_array_equal(alone.predict(X), given.predict(X))
            assert alone.nuisance_.average_effect().estimate == found.average_effect().estimate

    def test_class_transformation(self):
        X, y, t, w = rows()
        y = (y > 1).astype(int)
        e = special.expit(X[:, 0] / 2)
        weight = w * 0.5 / np.where(t == 1, e, 1 - e)
        by_hand = 2 * LogisticRegression().fit(X, (y == t).astype(int), weight).predict_proba(X)[:, 1] - 1
        learner = ClassTransformation(LogisticRegression())
        learner.fit(X, y, treatment=t, propensity=e, sample_weight=w)
        np.testing.assert_allclose(learner.predict(X), by_hand, rtol=1e-6)

    @pytest.mark.slow  # EconML takes many seconds to import
    def test_x_equals_econml(self):
        meta = pytest.importorskip("econml.metalearners")
        X, y, t, _ = rows()
        theirs = meta.XLearner(models=LinearRegression(), propensity_model=LogisticRegression(C=0.5))
        theirs.fit(y, t, X=X)
        ours = XLearner(LinearRegression(), propensity_model=LogisticRegression(C=0.5)).fit(X, y, treatment=t)
        np.testing.assert_allclose(ours.predict(X), theirs.effect(X), rtol=1e-9)

    @pytest.mark.slow  # EconML takes many seconds to import
    def test_dr_equals_econml_on_the_same_folds(self):
        dr = pytest.importorskip("econml.dr")
        X, y, t, _ = rows(600)
        base = XGBRegressor(n_estimators=10, max_depth=3, n_jobs=1, random_state=0)
        ours = DRLearner(base, propensity_model=LogisticRegression(), joint_outcome=True, n_folds=3)
        fold = ours.fit(X, y, treatment=t).nuisance_.fold
        theirs = dr.DRLearner(
            model_regression=base, model_propensity=LogisticRegression(), model_final=base,
            cv=[(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(3)], random_state=0,
        )  # fmt: skip
        theirs.fit(y, t, X=X)
        np.testing.assert_allclose(ours.predict(X), theirs.effect(X), rtol=1e-6)

    def test_out_of_fold_is_a_loop_of_fits(self):
        X, y, t, _ = rows(200)
        learner = TLearner(Ridge(), n_folds=4)
        found = learner.fit_predict(X, y, treatment=t)
        fold = learner._folds(learner._prepared(X, y, t, None, None, None, None)[0])
        for k in range(4):
            out = fold != k
            by_hand = TLearner(Ridge()).fit(X[out], y[out], treatment=t[out]).predict(X[~out])
            np.testing.assert_allclose(found[~out], by_hand)
        np.testing.assert_array_equal(learner.predict(X), TLearner(Ridge()).fit(X, y, treatment=t).predict(X))


class TestArms:
    @pytest.mark.parametrize("kind", [TLearner, XLearner, RLearner, DRLearner])
    def test_three_arms_with_labels(self, kind):
        X, y, t, _ = rows(1500, arms=3)
        learner = kind(LinearRegression(), control="none")
        found = learner.fit_predict(X, y, treatment=NAMES[t], propensity=dict.fromkeys(NAMES, 1 / 3))
        assert learner.labels_ == ("none", "app", "mail")
        truth = np.outer(0.5 - 2 * X[:, 1], [2, 1])
        assert np.abs(found - truth).max() < 0.5
        assert np.mean((learner.predict(X) - truth) ** 2) < 0.02

    def test_the_s_learner_of_three_arms_has_an_indicator_for_each(self):
        X, _, t, _ = rows(600, arms=3)
        learner = SLearner(LinearRegression(), control="none").fit(X, 5 * t + X[:, 0], treatment=NAMES[t])
        np.testing.assert_allclose(learner.predict(X[:2]), [[10, 5]] * 2, atol=1e-9)
        assert learner.predict_outcomes(X).shape == (600, 3)

    @pytest.mark.parametrize("kind", ALL)
    def test_control_one_turns_the_sign(self, kind):
        X, y, t, _ = rows()
        options = {} if kind in (SLearner, TLearner) else {"propensity": {0: 0.4, 1: 0.6}}
        one, other = (kind(Ridge(), control=c).fit(X, y, treatment=t, **options).predict(X) for c in (0, 1))
        np.testing.assert_allclose(one, -other, atol=1e-9)

    def test_one_model_for_all_arms_of_the_dr_learner(self):
        X, y, t, _ = rows(900, arms=3)
        found = fit_nuisances(X, y, treatment=t, control=0, propensity=[[1 / 3] * 3] * 900, outcome_model=Ridge())
        linear = DRLearner(LinearRegression()).fit(X, y, treatment=t, nuisance=found)
        one = DRLearner(LinearRegression(), multi_output=True).fit(X, y, treatment=t, nuisance=found)
        np.testing.assert_allclose(one.predict(X), linear.predict(X), atol=1e-9)
        assert len(one.models_) == 1
        base = XGBRegressor(n_estimators=20, max_depth=3, n_jobs=1)
        trees = DRLearner(base, multi_output=True).fit(X, y, treatment=t, nuisance=found)
        by_hand = XGBRegressor(n_estimators=20, max_depth=3, n_jobs=1, multi_strategy="multi_output_tree")
        by_hand.fit(X, found.effect_scores())
        np.testing.assert_allclose(trees.predict(X), by_hand.predict(X), rtol=1e-5)
        assert trees.feature_importances_.argmax() == 1
        again = pickle.loads(pickle.dumps(trees))
        np.testing.assert_array_equal(again.predict(X), trees.predict(X))
        with pytest.raises(CausalRecError, match="multi_output=True needs an effect model of several targets"):
            DRLearner(multi_output=True).fit(X, y, treatment=t, nuisance=found)

    def test_the_class_transformation_of_three_arms(self):
        rng = np.random.default_rng(3)
        X = rng.integers(0, 2, size=(30_000, 1)).astype(float)
        t = rng.choice(3, 30_000, p=[0.5, 0.3, 0.2])
        y = rng.random(30_000) < 0.2 + np.array([0, 0.2, 0.4])[t] * X[:, 0]
        learner = ClassTransformation(LogisticRegression(), control="none")
        learner.fit(X, y, treatment=NAMES[t], propensity={"none": 0.5, "mail": 0.3, "app": 0.2})
        np.testing.assert_allclose(learner.predict([[0.0], [1.0]]), [[0, 0], [0.4, 0.2]], atol=0.03)


class TestWeights:
    @pytest.mark.parametrize("kind", [SLearner, TLearner, XLearner])
    def test_weights_are_repeated_rows(self, kind):
        X, y, t, _ = rows()
        weight = np.random.default_rng(2).integers(0, 3, 500)
        again = np.repeat(np.arange(500), weight)
        options = {"propensity": 0.5} if kind is XLearner else {}
        one = kind(Ridge()).fit(X, y, treatment=t, sample_weight=weight, **options)
        other = kind(Ridge()).fit(X[again], y[again], treatment=t[again], **options)
        np.testing.assert_allclose(one.predict(X), other.predict(X), atol=1e-9)

    @pytest.mark.parametrize("kind", ALL)
    def test_rows_without_weight_are_no_evidence(self, kind):
        X, y, t, _ = rows()
        weight = (np.arange(500) % 3 > 0).astype(float)
        wild = np.where(weight == 0, 1e6, y)
        options = {"propensity": 0.5}
        one, other = (
            kind(LinearRegression()).fit(X, v, treatment=t, sample_weight=weight, **options).predict(X)
            for v in (y, wild)
        )
        np.testing.assert_allclose(one, other, atol=1e-4)


class TestTables:
    @pytest.mark.parametrize("kind", [*ALL, ClassTransformation])
    def test_pandas_polars_categories_and_gaps(self, kind):
        X, y, t = mixed_frame()
        before = X.copy(deep=True)
        base = TREES if kind in ON_EFFECTS else None
        learner = clone(kind(base, random_state=1)).fit(X, y, treatment=t, propensity=0.5)
        expected = learner.predict(X)
        assert np.isfinite(expected).all()
        np.testing.assert_array_equal(learner.predict(pl.from_pandas(X)), expected)
        np.testing.assert_array_equal(learner.predict(X[["new", "channel", "age"]].assign(more=1)), expected)
        turned = X.assign(channel=X["channel"].cat.reorder_categories(["web", "phone"]))
        np.testing.assert_array_equal(learner.predict(turned), expected)
        again = kind(base, random_state=1).fit(pl.from_pandas(X), y, treatment=pl.Series(t), propensity=0.5)
        np.testing.assert_array_equal(again.predict(X), expected)
        pd.testing.assert_frame_equal(X, before)
        with pytest.raises(ColumnError, match="'fax'"):
            learner.predict(X.assign(channel="fax"))
        with pytest.raises(ColumnError, match="missing column 'age'"):
            learner.predict(X.drop(columns="age"))

    def test_one_row_is_scored(self):
        X, y, t = mixed_frame()
        assert DRLearner(TREES).fit(X, y, treatment=t, propensity=0.5).predict(X.head(1)).shape == (1,)

    def test_names_of_columns_that_the_arm_might_take(self):
        X, y, t, _ = rows()
        frame = pd.DataFrame(X, columns=["arm1", "arm_1", "x"])
        found = SLearner(LinearRegression()).fit(frame, y, treatment=t).predict(frame)
        np.testing.assert_allclose(found, SLearner(LinearRegression()).fit(X, y, treatment=t).predict(X))

    def test_base_learners_of_xgboost(self):
        X, y, t, _ = rows()
        base = XGBRegressor(n_estimators=20, max_depth=3, n_jobs=1)
        learner = TLearner(base).fit(X, y, treatment=t)
        assert type(learner.models_[0]) is XGBRegressor
        by_hand = [clone(base).fit(X[t == a], y[t == a]).predict(X) for a in (0, 1)]
        np.testing.assert_array_equal(learner.predict_outcomes(X), np.column_stack(by_hand))


class TestManners:
    @pytest.mark.parametrize("kind", [*ALL, ClassTransformation])
    def test_clone_params_pickle_and_names(self, kind):
        X, y, t, _ = rows(200)
        frame, y = pd.DataFrame(X, columns=["a", "b", "c"]), (y > 1).astype(int)
        base = LogisticRegression(C=0.1) if kind is ClassTransformation else Ridge(2.0)
        learner = kind(base, control=0, random_state=3)
        assert clone(learner).get_params() | {"base_learner": None} == learner.get_params() | {"base_learner": None}
        before = learner.get_params()
        assert learner.fit(frame, y, treatment=t, propensity=0.5) is learner
        assert learner.get_params() == before
        assert not hasattr(base, "coef_")
        again = pickle.loads(pickle.dumps(learner))
        np.testing.assert_array_equal(again.predict(frame), learner.predict(frame))
        assert learner.feature_names_in_.tolist() == ["a", "b", "c"]
        assert learner.n_features_in_ == 3
        assert not hasattr(learner, "feature_importances_")
        assert not hasattr(clone(learner), "models_")
        with pytest.raises(NotFittedError):
            kind().predict(X)

    def test_importances(self):
        X, y, t, _ = rows()
        for kind in ALL:
            learner = kind(RandomForestRegressor(5, random_state=0)).fit(X, y, treatment=t, propensity=0.5)
            assert learner.feature_importances_.shape == (3,)
            if kind in ON_EFFECTS:
                assert learner.feature_importances_.argmax() == 1  # the effect depends on the second alone

    def test_in_a_pipeline(self):
        X, y, t, _ = rows()
        pipe = Pipeline([("scale", StandardScaler()), ("uplift", RLearner(LinearRegression()))])
        pipe.fit(X, y, uplift__treatment=t, uplift__propensity=0.5)
        assert np.mean((pipe.predict(X) - 0.5 + 2 * X[:, 1]) ** 2) < 0.02

    @pytest.mark.slow
    def test_a_grid_search_finds_the_penalty(self):
        X, y, t, _ = rows(300)
        with sklearn.config_context(enable_metadata_routing=True):
            learner = DRLearner(Ridge(), outcome_model=LinearRegression())
            learner.set_fit_request(treatment=True, propensity=True).set_score_request(treatment=True, propensity=True)
            search = GridSearchCV(learner, {"base_learner__alpha": [0.1, 1e5]}, cv=2)
            search.fit(X, y, treatment=t, propensity=np.full(300, 0.5))
        assert search.best_params_ == {"base_learner__alpha": 0.1}

    def test_what_has_no_intervals_says_so(self):
        with pytest.raises(CausalRecError, match="bootstrap_intervals"):
            TLearner().predict_interval(np.zeros((1, 1)))

    @pytest.mark.parametrize("kind", ALL)
    def test_the_same_seed_gives_the_same_bits(self, kind):
        X, y, t, _ = rows(200)
        options = {} if kind in (SLearner, TLearner) else {"propensity": 0.5}
        one, other = (kind(TREES, random_state=7).fit(X, y, treatment=t, **options).predict(X) for _ in range(2))
        np.testing.assert_array_equal(one, other)


class Alternating(BaseEstimator):
    """A learner as scikit-learn's checks call it: every other row is treated."""

    kind = TLearner

    def __init__(self, base_learner=None):
        self.base_learner = base_learner

    def fit(self, X, y):
        base = Ridge() if self.base_learner is None else self.base_learner
        self.learner_ = self.kind(base).fit(X, y, treatment=np.arange(len(X)) % 2)
        self.n_features_in_ = self.learner_.n_features_in_
        if hasattr(self.learner_, "feature_names_in_"):
            self.feature_names_in_ = self.learner_.feature_names_in_
        return self

    def predict(self, X):
        if not hasattr(self, "learner_"):
            raise NotFittedError
        return self.learner_.predict(X)


CHECKS = (
    "check_fit_score_takes_y", "check_estimators_overwrite_params",
    "check_estimators_fit_returns_self", "check_readonly_memmap_input", "check_estimators_unfitted",
    "check_estimators_pickle", "check_fit2d_predict1d", "check_methods_sample_order_invariance",
    "check_methods_subset_invariance", "check_dict_unchanged", "check_fit_idempotent", "check_fit_check_is_fitted",
    "check_n_features_in", "check_fit1d", "check_fit2d_1feature", "check_estimators_dtypes",
)  # fmt: skip


@pytest.mark.parametrize("name", CHECKS)
def test_checks_of_scikit_learn(name):
    """Those that apply to an estimator whose fit needs a treatment; here it alternates."""
    check = getattr(estimator_checks, name)
    check("TLearner", Alternating())


class TestErrors:
    @pytest.mark.parametrize("kind", ALL)
    @pytest.mark.parametrize(
        ("change", "error", "words"),
        [
            ({"treatment": np.ones(500)}, TreatmentError, "only 1.0 in 500 rows"),
            ({"treatment": np.r_[np.nan, np.tile([0, 1], 250)[1:]]}, TreatmentError, "1 of 500 values are missing"),
            ({"treatment": np.r_[1, np.zeros(499)]}, TreatmentError, "1 row"),
            ({"y": np.zeros(499)}, CausalRecError, "y has 499 values but there are 500 rows"),
            ({"y": np.r_[np.inf, np.zeros(499)]}, OutcomeError, "missing or infinite"),
            ({"propensity": 0}, OverlapError, "strictly between"),
            ({"propensity": np.r_[1.0, np.full(499, 0.5)]}, OverlapError, "1 of 500"),
            ({"sample_weight": np.zeros(500)}, CausalRecError, "sample_weight is zero"),
            ({"X": np.zeros(500)}, CausalRecError, "two dimensions"),
            ({"X": pd.DataFrame(np.zeros((500, 2)), columns=["a", "a"])}, ColumnError, "'a'"),
        ],
    )
    def test_bad_input(self, kind, change, error, words):
        X, y, t, _ = rows()
        given = {"X": X, "y": y, "treatment": t, "propensity": 0.5, **change}
        with pytest.raises(error, match=words):
            kind(LinearRegression()).fit(given.pop("X"), given.pop("y"), **given)

    def test_an_arm_with_three_rows(self):
        X, y, _, _ = rows()
        t = (np.arange(500) < 3).astype(int)
        assert np.isfinite(TLearner().fit(X, y, treatment=t).predict(X)).all()
        assert np.isfinite(XLearner(Ridge()).fit(X, y, treatment=t, propensity=0.1).predict(X)).all()
        with pytest.raises(TreatmentError, match="arm 1 has 2 rows, of which 1 lie outside"):
            DRLearner(Ridge()).fit(X[1:], y[1:], treatment=t[1:], propensity=0.1)

    @pytest.mark.parametrize("kind", ALL)
    def test_a_constant_outcome_has_no_effect(self, kind):
        X, _, t, _ = rows()
        for value in (0.0, 1.0, 2.5):
            found = kind().fit(X, np.full(500, value), treatment=t, propensity=0.5).predict(X)
            np.testing.assert_allclose(found, 0, atol=1e-6)

    def test_treatment_by_position(self):
        X, y, t, _ = rows()
        with pytest.raises(TypeError):
            TLearner(Ridge()).fit(X, y, t)

    def test_classifiers_and_what_they_can_model(self):
        X, y, t, _ = rows()
        with pytest.raises(OutcomeError, match="LogisticRegression is a classifier, but y holds"):
            TLearner(LogisticRegression()).fit(X, y, treatment=t)
        with pytest.raises(CausalRecError, match="effects lie on a scale of numbers"):
            XLearner(LogisticRegression()).fit(X, (y > 0).astype(int), treatment=t, propensity=0.5)
        learner = XLearner(Ridge(), outcome_model=LogisticRegression())
        assert np.isfinite(learner.fit(X, (y > 0).astype(int), treatment=t, propensity=0.5).predict(X)).all()
        with pytest.raises(OutcomeError, match="class transformation needs a 0/1 outcome"):
            ClassTransformation().fit(X, y, treatment=t)
        with pytest.raises(CausalRecError, match="needs a classifier"):
            ClassTransformation(Ridge()).fit(X, (y > 0).astype(int), treatment=t, propensity=0.5)

    def test_bases_without_weights(self):
        X, y, t, w = rows()
        with pytest.raises(CausalRecError, match="sample_weight is given, but KNeighborsRegressor"):
            TLearner(KNeighborsRegressor()).fit(X, y, treatment=t, sample_weight=w)
        with pytest.raises(CausalRecError, match="R-learner weights rows"):
            RLearner(KNeighborsRegressor()).fit(X, y, treatment=t, propensity=0.5)

    def test_early_stopping_without_rows_to_stop_by(self):
        X, y, t, _ = rows()
        with pytest.raises(CausalRecError, match="Use BoostedRegressor or BoostedClassifier"):
            TLearner(XGBRegressor(early_stopping_rounds=5)).fit(X, y, treatment=t)

    def test_a_nuisance_of_other_data(self):
        X, y, t, w = rows()
        found = fit_nuisances(X, y, treatment=t, propensity=0.5, outcome_model=LinearRegression())
        for change, words in (
            ({"y": y + 1}, "y differ"), ({"treatment": 1 - t}, "treatment differ"),
            ({"propensity": 0.4}, "propensity differ"), ({"sample_weight": w}, "sample_weight differ"),
        ):  # fmt: skip
            given = {"y": y, "treatment": t, **change}
            with pytest.raises(CausalRecError, match=words):
                RLearner(Ridge()).fit(X, given.pop("y"), nuisance=found, **given)
        with pytest.raises(CausalRecError, match="X has 400 values but there are 500 rows"):
            RLearner(Ridge()).fit(X[:400], y[:400], treatment=t[:400], nuisance=found)
        for learner in (TLearner(Ridge()), DRLearner(outcome_model=Ridge())):
            with pytest.raises(CausalRecError, match="fit_nuisances"):
                learner.fit(X, y, treatment=t, nuisance=found)


class TestClaims:
    @pytest.mark.slow
    def test_more_rows_come_closer(self):
        for kind in ALL:
            errors = []
            for n in (300, 3000):
                rng = np.random.default_rng(n)
                X = rng.normal(size=(n, 3))
                t, tau = rng.integers(0, 2, n), 1 + X[:, 0] * X[:, 0] / 2
                y = X[:, 1] + tau * t + rng.normal(size=n)
                new = rng.normal(size=(2000, 3))
                found = kind().fit(X, y, treatment=t, propensity=0.5).predict(new)
                errors.append(np.mean((found - 1 - new[:, 0] ** 2 / 2) ** 2))
            assert errors[1] < 0.5 * errors[0], (kind, errors)

    @pytest.mark.slow
    def test_dr_and_r_are_right_on_average_under_confounding_where_s_and_t_are_not(self):
        """Penalised outcome models shrink what confounds: S and T inherit the bias, the scores correct it."""
        found = {kind: [] for kind in ALL}
        for seed in range(60):
            rng = np.random.default_rng(seed)
            X = rng.normal(size=(800, 3))
            t = (rng.random(800) < special.expit(X[:, 0])).astype(int)
            y = 3 * X[:, 0] + t + rng.normal(size=800)
            base = Ridge(800.0)  # halves every slope
            for kind in ALL:
                models = {} if kind in (SLearner, TLearner) else {"propensity_model": LogisticRegression()}
                effect = {"effect_model": LinearRegression()} if kind in ON_EFFECTS else {}
                learner = kind(base, random_state=seed, **models, **effect)
                found[kind].append(learner.fit(X, y, treatment=t).predict(X).mean())
        bias = {kind: np.mean(v) - 1 for kind, v in found.items()}
        error = {kind: np.std(v) / np.sqrt(60) for kind, v in found.items()}
        for kind in (SLearner, TLearner):
            assert abs(bias[kind]) > 0.3
        for kind in (RLearner, DRLearner):
            assert abs(bias[kind]) < 3.5 * error[kind] + 0.03, (kind, bias[kind], error[kind])
