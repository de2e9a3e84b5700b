"""The T-learner: two hand-fitted models, scikit-learn's manners, and a truth that it finds."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import xgboost
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from causalrec.exceptions import CausalRecError, ColumnError, OutcomeError, TreatmentError
from causalrec.uplift import TLearner


def rows(n=400, seed=0, arms=2):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    t = rng.integers(0, arms, n)
    return X, 1 + X[:, 0] + t * (0.5 - 2 * X[:, 1]), t, rng.uniform(0.5, 2, n)


def mixed_frame(n=300, seed=1):
    """Numbers with gaps, a category with gaps, booleans; a 0/1 outcome."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame({
        "age": np.where(rng.random(n) < 0.1, np.nan, rng.normal(40, 10, n)),
        "channel": pd.Categorical(rng.choice(["web", "phone", None], n), categories=["phone", "web"]),
        "new": rng.random(n) < 0.5,
    })  # fmt: skip
    t = rng.integers(0, 2, n)
    y = (rng.random(n) < 0.2 + 0.3 * t * (X["channel"] == "web")).astype(int)
    return X, y, t


SMALL = xgboost.XGBClassifier(
    n_estimators=20, max_depth=2, learning_rate=0.05, min_child_weight=0.2, enable_categorical=True, n_jobs=1
)


class TestModels:
    def test_a_linear_base_finds_a_linear_effect(self):
        X, y, t, _ = rows()
        effect = TLearner(LinearRegression()).fit(X, y, treatment=t).predict(X)
        np.testing.assert_allclose(effect, 0.5 - 2 * X[:, 1], atol=1e-10)

    @pytest.mark.parametrize(
        "base", [Ridge(3.0), make_pipeline(StandardScaler(), LinearRegression())], ids=["ridge", "pipe"]
    )
    def test_two_models_fitted_by_hand(self, base):
        X, y, t, _ = rows()
        learner = TLearner(base).fit(X, y, treatment=t)
        by_hand = [clone(base).fit(X[t == a], y[t == a]).predict(X) for a in (0, 1)]
        np.testing.assert_array_equal(learner.predict_outcomes(X), np.column_stack(by_hand))
        np.testing.assert_array_equal(learner.predict(X), by_hand[1] - by_hand[0])

    def test_a_classifier_is_used_through_its_probabilities(self):
        X, y, t = mixed_frame()
        X = X[["new"]].astype(float)
        learner = TLearner(LogisticRegression(C=0.5)).fit(X, y, treatment=t)
        by_hand = [LogisticRegression(C=0.5).fit(X[t == a], y[t == a]).predict_proba(X)[:, 1] for a in (0, 1)]
        np.testing.assert_array_equal(learner.predict(X), by_hand[1] - by_hand[0])

    def test_weights_are_used(self):
        X, y, t, w = rows()
        y = y + np.random.default_rng(9).normal(size=len(y))
        base = Ridge(1.0)
        learner = TLearner(base).fit(X, y, treatment=t, sample_weight=w)
        by_hand = [clone(base).fit(X[t == a], y[t == a], sample_weight=w[t == a]).predict(X) for a in (0, 1)]
        np.testing.assert_array_equal(learner.predict_outcomes(X), np.column_stack(by_hand))
        assert not np.allclose(learner.predict(X), TLearner(base).fit(X, y, treatment=t).predict(X))

    def test_three_arms_with_labels(self):
        X, y, t, _ = rows(arms=3)
        names = np.array(["none", "mail", "app"])[t]
        learner = TLearner(LinearRegression(), control="none").fit(X, y, treatment=names)
        assert learner.labels_ == ("none", "app", "mail")
        effect = learner.predict(X)
        np.testing.assert_allclose(effect, np.outer(0.5 - 2 * X[:, 1], [2, 1]), atol=1e-9)
        assert learner.predict_outcomes(X).shape == (len(X), 3)

    def test_control_one_turns_the_sign(self):
        X, y, t, _ = rows()
        one, other = (TLearner(Ridge(), control=c).fit(X, y, treatment=t).predict(X) for c in (0, 1))
        np.testing.assert_array_equal(one, -other)

    def test_an_arm_with_one_outcome_value(self):
        X, y, t = mixed_frame()
        X = X[["new"]].astype(float)
        y = np.where(t == 0, 0, y)
        for base in (LogisticRegression(), None):
            learner = TLearner(base).fit(X, y, treatment=t)
            assert (learner.predict_outcomes(X)[:, 0] == 0).all()
            assert (learner.predict(X) == learner.predict_outcomes(X)[:, 1]).all()
        # Rows without weight are no evidence of a second value either.
        some = np.where(np.arange(len(y)) == np.flatnonzero(t == 0)[0], 1, y)
        weight = np.where((t == 0) & (some == 1), 0.0, 1.0)
        learner = TLearner(LogisticRegression()).fit(X, some, treatment=t, sample_weight=weight)
        assert (learner.predict_outcomes(X)[:, 0] == 0).all()

    def test_the_known_propensity_changes_nothing_but_is_checked(self):
        X, y, t, _ = rows()
        plain = TLearner(Ridge()).fit(X, y, treatment=t).predict(X)
        np.testing.assert_array_equal(TLearner(Ridge()).fit(X, y, treatment=t, propensity=0.5).predict(X), plain)
        with pytest.raises(CausalRecError, match="propensity"):
            TLearner(Ridge()).fit(X, y, treatment=t, propensity=1.0)

    def test_the_default_beats_a_constant_effect(self):
        rng = np.random.default_rng(4)
        X = rng.normal(size=(6000, 5))
        t, tau = rng.integers(0, 2, 6000), np.where(X[:, 0] > 0, 1.0, 0.0) + 0.5 * X[:, 1]
        y = X[:, 2] + tau * t + rng.normal(size=6000)
        found = TLearner().fit(X[:4000], y[:4000], treatment=t[:4000]).predict(X[4000:])
        truth = tau[4000:]
        assert np.mean((found - truth) ** 2) < 0.25 * truth.var()

    @pytest.mark.slow
    def test_the_default_ranks_the_effect_on_a_rare_outcome(self):
        rng = np.random.default_rng(5)
        X = rng.normal(size=(12_000, 4))
        t, tau = rng.integers(0, 2, 12_000), np.where(X[:, 0] > 0, 0.10, 0.0)
        y = (rng.random(12_000) < 0.05 + 0.03 * (X[:, 1] > 0) + tau * t).astype(int)
        found = TLearner().fit(X[:8000], y[:8000], treatment=t[:8000]).predict(X[8000:])
        assert np.mean((found - tau[8000:]) ** 2) < tau[8000:].var()
        assert np.corrcoef(found, tau[8000:])[0, 1] > 0.6


class TestTables:
    def test_pandas_polars_and_column_order_agree(self):
        X, y, t = mixed_frame()
        base = TLearner(SMALL).fit(X, y, treatment=t)
        expected = base.predict(X)
        polars = pl.from_pandas(X)
        np.testing.assert_array_equal(base.predict(polars), expected)
        np.testing.assert_array_equal(base.predict(X[["new", "channel", "age"]].assign(more=1)), expected)
        np.testing.assert_array_equal(TLearner(SMALL).fit(polars, y, treatment=pl.Series(t)).predict(X), expected)
        assert list(X.columns) == ["age", "channel", "new"]

    def test_category_codes_of_another_batch_do_not_matter(self):
        X, y, t = mixed_frame()
        learner = TLearner(SMALL).fit(X, y, treatment=t)
        turned = X.assign(channel=X["channel"].cat.reorder_categories(["web", "phone"]))
        np.testing.assert_array_equal(learner.predict(turned), learner.predict(X))
        web = X[X["channel"] == "web"].head(3)
        alone = web.assign(channel=pd.Categorical(["web"] * 3))
        np.testing.assert_array_equal(learner.predict(alone), learner.predict(web))
        assert learner.predict(web.head(1)).shape == (1,)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda X: X.drop(columns="age"), ["missing column 'age'"]),
            (lambda X: X.assign(channel="fax"), ["'channel'", "'fax'", "'phone', 'web'"]),
            (
                lambda X: X.drop(columns="channel").assign(channel=1).to_numpy(float),
                ["array", "'age', 'channel', 'new'"],
            ),
        ],
        ids=["column", "category", "array"],
    )
    def test_a_batch_that_does_not_fit_is_refused(self, change, words):
        X, y, t = mixed_frame()
        learner = TLearner(SMALL).fit(X, y, treatment=t)
        with pytest.raises(ColumnError) as caught:
            learner.predict(change(X))
        assert all(word in str(caught.value) for word in words), str(caught.value)

    def test_an_array_of_another_width_is_refused(self):
        X, y, t, _ = rows()
        with pytest.raises(ColumnError, match="2 columns; the model was fitted on 3"):
            TLearner(Ridge()).fit(X, y, treatment=t).predict(X[:, :2])


class TestManners:
    def test_clone_params_and_pickle(self):
        X, y, t = mixed_frame()
        learner = TLearner(Ridge(2.0), control=0, random_state=3)
        assert clone(learner).get_params()["base_learner__alpha"] == 2.0
        assert learner.set_params(base_learner__alpha=5.0).base_learner.alpha == 5.0
        fitted = TLearner(SMALL).fit(X, y, treatment=t)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict(X), fitted.predict(X))
        assert not hasattr(clone(fitted), "models_")

    def test_fit_leaves_the_parameters_alone(self):
        X, y, t, _ = rows()
        base = Ridge()
        learner = TLearner(base)
        before = learner.get_params()
        assert learner.fit(X, y, treatment=t) is learner
        assert learner.get_params() == before
        assert not hasattr(base, "coef_")

    def test_not_fitted(self):
        learner = TLearner(Ridge())
        X, y, t, _ = rows()
        with pytest.raises(NotFittedError):
            learner.predict(X)
        with pytest.raises(NotFittedError):
            check_is_fitted(learner)
        check_is_fitted(learner.fit(X, y, treatment=t))

    def test_names_of_features_as_in_scikit_learn(self):
        X, y, t, _ = rows()
        frame = pd.DataFrame(X, columns=["a", "b", "c"])
        learner = TLearner(Ridge()).fit(frame, y, treatment=t)
        assert learner.feature_names_in_.tolist() == ["a", "b", "c"]
        assert learner.n_features_in_ == 3
        assert not hasattr(learner.fit(X, y, treatment=t), "feature_names_in_")
        assert not hasattr(learner.fit(pd.DataFrame(X), y, treatment=t), "feature_names_in_")

    def test_in_a_pipeline(self):
        X, y, t, _ = rows()
        pipe = Pipeline([("scale", StandardScaler()), ("uplift", TLearner(LinearRegression()))])
        pipe.fit(X, y, uplift__treatment=t)
        np.testing.assert_allclose(pipe.predict(X), 0.5 - 2 * X[:, 1], atol=1e-9)

    def test_importances_only_where_the_models_have_them(self):
        X, y, t, _ = rows()
        assert not hasattr(TLearner(Ridge()).fit(X, y, treatment=t), "feature_importances_")
        assert not hasattr(TLearner(), "feature_importances_")
        learner = TLearner(xgboost.XGBRegressor(n_estimators=20, n_jobs=1)).fit(X, y, treatment=t)
        by_hand = np.mean([m.feature_importances_ for m in learner.models_], axis=0)
        np.testing.assert_allclose(learner.feature_importances_, by_hand, rtol=1e-6)
        forest = RandomForestClassifier(5, random_state=0)
        half = TLearner(forest).fit(X, np.where(t == 0, 0, X[:, 0] > 0), treatment=t)
        np.testing.assert_allclose(half.feature_importances_, half.models_[1].feature_importances_ / 2)

    def test_the_same_seed_gives_the_same_bits(self):
        X, y, t = mixed_frame()
        one, other = (TLearner(random_state=7).fit(X, y, treatment=t).predict(X) for _ in range(2))
        np.testing.assert_array_equal(one, other)

    @pytest.mark.parametrize(
        ("learner", "change", "error", "words"),
        [
            (TLearner(), {"treatment": np.zeros(40, int)}, TreatmentError, ["only 0", "two arms"]),
            (TLearner(), {"treatment": np.r_[1, np.zeros(39, int)]}, TreatmentError, ["arm 1 has 1 row", "at least 2"]),
            (TLearner(), {"treatment": ["a", "b"] * 20}, TreatmentError, ["control="]),
            (TLearner(control="c"), {"treatment": ["a", "b"] * 20}, TreatmentError, ["'c'", "'a', 'b'"]),
            (TLearner(), {"y": np.r_[np.nan, np.ones(39)]}, OutcomeError, ["1 of 40"]),
            (TLearner(), {"y": np.ones(39)}, CausalRecError, ["y has 39", "40 rows"]),
            (TLearner(LogisticRegression()), {"y": np.arange(40) / 2}, OutcomeError, ["LogisticRegression", "0.5"]),
            (TLearner(LogisticRegression()), {"y": np.tile([1, 2], 20)}, OutcomeError, ["classifier", "holds 2"]),
            (TLearner(KNeighborsRegressor()), {"sample_weight": np.ones(40)}, CausalRecError, ["KNeighborsRegressor"]),
            (TLearner(), {"sample_weight": np.tile([0, 1], 20)}, TreatmentError, ["arm 0 has no weight"]),
            (TLearner(), {"X": pd.DataFrame({"city": ["x"] * 40})}, ColumnError, ["'city'", "astype('category')"]),
            (TLearner(), {"X": np.zeros(40)}, CausalRecError, ["shape (40,)"]),
        ],
    )
    def test_misuse_says_what_to_do(self, learner, change, error, words):
        base = {"X": np.zeros((40, 2)), "y": np.arange(40.0), "treatment": np.tile([0, 1], 20)}
        with pytest.raises(error) as caught:
            clone(learner).fit(**{**base, **change})
        assert all(word in str(caught.value) for word in words), str(caught.value)
