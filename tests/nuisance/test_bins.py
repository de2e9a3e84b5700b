"""Shared bins: the models that XGBoost fits itself, and no trace of one fit in the next."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.base import clone

from causalrec.exceptions import CausalRecError, ColumnError
from causalrec.nuisance.bins import Bins, BinSettings
from causalrec.nuisance.boosting import BoostedClassifier, BoostedRegressor, is_boosted

SMALL = {"n_estimators": 8, "max_depth": 3, "n_jobs": 1}


def rows(n=400, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4))
    y = X[:, 0] + np.abs(X[:, 1]) + rng.normal(size=n)
    return X, y, (y > 0.5).astype(int), rng.uniform(0.2, 3, n)


def mixed(n=400, seed=1):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame({
        "age": np.where(rng.random(n) < 0.1, np.nan, rng.normal(40, 10, n)),
        "channel": pd.Categorical(rng.choice(["web", "phone", None], n), categories=["phone", "web"]),
        "new": rng.random(n) < 0.5,
        "visits": pd.array(rng.integers(0, 9, n), dtype="Int64"),
    })  # fmt: skip
    y = (X["channel"] == "web") * 2.0 + X["age"].isna() + rng.normal(size=n)
    return X, y.to_numpy()


def same(a, b):
    np.testing.assert_array_equal(a, b)


class TestPlainXGBoost:
    @pytest.mark.parametrize(
        "extra",
        [
            {}, {"max_bin": 16}, {"booster": "dart", "rate_drop": 0.3}, {"num_parallel_tree": 3, "subsample": 0.6},
            {"monotone_constraints": (1, 0, 0, 0)}, {"objective": "reg:absoluteerror"}, {"grow_policy": "lossguide"},
        ],
        ids=str,
    )  # fmt: skip
    def test_all_rows_give_the_same_bits(self, extra):
        X, y, _, _ = rows()
        base = xgboost.XGBRegressor(**SMALL, **extra)
        assert is_boosted(base)
        same(Bins(X).fit(base, y).predict(X), clone(base).fit(X, y).predict(X))

    @pytest.mark.parametrize("kind", [xgboost.XGBRFRegressor, xgboost.XGBRFClassifier])
    def test_forests(self, kind):
        X, y, b, _ = rows()
        target = b if kind is xgboost.XGBRFClassifier else y
        base = kind(n_estimators=5, max_depth=3, n_jobs=1)
        same(Bins(X).fit(base, target).predict(X), clone(base).fit(X, target).predict(X))

    def test_a_classifier(self):
        X, _, b, _ = rows()
        base = xgboost.XGBClassifier(**SMALL)
        bins = Bins(X)
        model, plain = bins.fit(base, b.astype(float)), clone(base).fit(X, b)
        same(model.predict_proba(X), plain.predict_proba(X))
        same(bins.predict(model), plain.predict_proba(X)[:, 1])
        same(model.classes_, [0, 1])

    def test_a_custom_objective(self):
        def halves(y, p):
            return (p - y) / 2, np.full(len(y), 0.5)

        X, y, _, _ = rows()
        base = xgboost.XGBRegressor(**SMALL, objective=halves)
        same(Bins(X).fit(base, y).predict(X), clone(base).fit(X, y).predict(X))

    def test_a_frame_with_categories_and_missing_values(self):
        X, y = mixed()
        base = xgboost.XGBRegressor(**SMALL, enable_categorical=True)
        before = X.copy(deep=True)
        model = Bins(X).fit(base, y)
        same(model.predict(X), clone(base).fit(X, y).predict(X))
        same(model.feature_names_in_, list(X.columns))
        pd.testing.assert_frame_equal(X, before)

    def test_another_missing_value(self):
        X, y, _, _ = rows()
        X = np.where(X > 1.0, -1.0, X)
        base = xgboost.XGBRegressor(**SMALL, missing=-1.0)
        bins = Bins(X)
        bins.fit(xgboost.XGBRegressor(**SMALL), y)
        same(bins.fit(base, y).predict(X), clone(base).fit(X, y).predict(X))

    def test_any_layout_and_type_of_numbers(self):
        X, y, _, _ = rows()
        base = xgboost.XGBRegressor(**SMALL)
        wide = np.zeros((len(X), 8))
        wide[:, ::2] = X
        for form in (np.asfortranarray(X), wide[:, ::2], X.astype(np.float32)):
            same(Bins(form).fit(base, y).predict(X), clone(base).fit(form, y).predict(X))

    def test_a_subset_is_xgboost_with_the_cuts_of_all(self):
        """By hand: a matrix of the subset that refers to one of all rows."""
        X, y, _, w = rows()
        some = np.arange(0, 400, 3)
        base = xgboost.XGBRegressor(**SMALL)
        full = xgboost.QuantileDMatrix(X)
        part = xgboost.QuantileDMatrix(X[some], y[some], weight=w[some], ref=full)
        by_hand = xgboost.train(base.get_xgb_params(), part, 8)
        model = Bins(X).fit(base, y[some], rows=some, weight=w[some])
        same(model.predict(X), by_hand.inplace_predict(X))

    def test_a_subset_with_every_value_of_all_is_plain_xgboost(self):
        rng = np.random.default_rng(3)
        X = rng.integers(0, 6, (600, 3)).astype(float)
        y = X[:, 0] * X[:, 1] + rng.normal(size=600)
        some = np.arange(300)
        base = xgboost.XGBRegressor(**SMALL)
        model = Bins(X).fit(base, y[some], rows=some)
        np.testing.assert_allclose(model.predict(X), base.fit(X[some], y[some]).predict(X), rtol=1e-6)


class TestFittedModel:
    def test_it_is_an_estimator_like_any_other(self, tmp_path):
        X, _, b, _ = rows()
        model = Bins(X).fit(xgboost.XGBClassifier(**SMALL), b)
        again = pickle.loads(pickle.dumps(model))
        same(again.predict_proba(X), model.predict_proba(X))
        model.save_model(tmp_path / "model.ubj")
        loaded = xgboost.XGBClassifier()
        loaded.load_model(tmp_path / "model.ubj")
        same(loaded.predict_proba(X), model.predict_proba(X))
        assert model.feature_importances_.shape == (4,)
        assert not [name for name in vars(model) if "matrix" in name]
        assert clone(model).get_params() == xgboost.XGBClassifier(**SMALL).get_params()
        plain = clone(model).fit(X[:50], b[:50])  # and can be fitted anew, on other rows
        assert plain.predict(X[:50]).shape == (50,)

    def test_predictions_of_rows(self):
        X, y, _, _ = rows()
        bins = Bins(X)
        model = bins.fit(xgboost.XGBRegressor(**SMALL), y)
        some = np.array([5, 3, 300])
        same(bins.predict(model, some), model.predict(X)[some])
        assert bins.predict(model, np.array([], dtype=int)).shape == (0,)


class TestSharing:
    @pytest.mark.parametrize(
        ("first", "second"),
        [
            (xgboost.XGBRegressor(**SMALL), xgboost.XGBRegressor(**SMALL)),
            (BoostedRegressor(), xgboost.XGBRegressor(**SMALL)),
            (BoostedRegressor(max_bin=256, small=10), BoostedRegressor()),
            (BoostedClassifier(), BoostedRegressor()),
        ],
        ids=["xgboost", "ours, xgboost", "ours, large and small", "ours, classifier"],
    )
    def test_a_fit_leaves_nothing_behind(self, first, second):
        X, y, b, w = rows()
        some = np.flatnonzero(X[:, 2] > 0)
        bins = Bins(X)
        once = bins.fit(second, y[some], rows=some)
        bins.fit(first, b[some] if isinstance(first, BoostedClassifier) else -3 * y[some], rows=some, weight=w[some])
        same(bins.fit(second, y[some], rows=some).predict(X), once.predict(X))
        same(Bins(X).fit(second, y[some], rows=some).predict(X), once.predict(X))

    def test_weights_go_with_their_fit(self):
        X, y, _, w = rows()
        base = xgboost.XGBRegressor(**SMALL)
        bins = Bins(X)
        plain = bins.fit(base, y).predict(X)
        assert np.abs(bins.fit(base, y, weight=w).predict(X) - plain).max() > 0.05
        same(bins.fit(base, y).predict(X), plain)

    def test_one_sketch_and_few_subsets(self, monkeypatch):
        made = []
        build = xgboost.QuantileDMatrix

        def counted(data, **settings):
            made.append((len(data), settings.get("ref") is None))
            return build(data, **settings)

        monkeypatch.setattr(xgboost, "QuantileDMatrix", counted)
        X, y, _, _ = rows()
        bins = Bins(X)
        folds = [np.flatnonzero(np.arange(400) % 5 != k) for k in range(5)]
        for target in (y, -y):
            for rows_ in folds:
                bins.fit(xgboost.XGBRegressor(**SMALL), target[rows_], rows=rows_.copy())
        assert made == [(400, True)] + [(320, False)] * 5  # once, not once for every target

    def test_subsets_that_are_kept_are_bounded(self):
        X, y, _, _ = rows()
        bins = Bins(X)
        rng = np.random.default_rng(0)
        for _ in range(30):
            some = np.sort(rng.choice(400, 200, replace=False))
            bins.fit(xgboost.XGBRegressor(n_estimators=1, n_jobs=1), y[some], rows=some)
        assert sum(n for n, _ in bins._subsets.values()) <= 4 * 400
        assert len(bins._locks) <= len(bins._subsets) + len(bins._full)

    def test_threads(self):
        X, y, _, _ = rows()
        bins, base = Bins(X), xgboost.XGBRegressor(**SMALL)
        targets = [y * k for k in range(1, 9)]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda t: bins.fit(base, t).predict(X), targets))
        for target, prediction in zip(targets, found, strict=True):
            same(prediction, clone(base).fit(X, target).predict(X))

    def test_bins_travel_without_their_matrices(self):
        X, y, _, _ = rows()
        bins, base = Bins(X), xgboost.XGBRegressor(**SMALL)
        before = bins.fit(base, y).predict(X)
        same(pickle.loads(pickle.dumps(bins)).fit(base, y).predict(X), before)


class TestIsBoosted:
    @pytest.mark.parametrize(
        "settings",
        [
            {"tree_method": "exact"}, {"tree_method": "approx"}, {"booster": "gblinear"},
            {"feature_weights": [1, 1, 2, 1]},
        ],
        ids=str,
    )  # fmt: skip
    def test_what_bins_cannot_serve(self, settings):
        assert not is_boosted(xgboost.XGBRegressor(**settings))

    def test_others(self):
        class Mine(xgboost.XGBRegressor):
            pass

        assert not is_boosted(Mine())
        assert not is_boosted(xgboost.XGBRanker())
        assert not is_boosted(None)
        assert is_boosted(BoostedRegressor())
        assert is_boosted(xgboost.XGBClassifier(tree_method="hist"))


class TestBadInput:
    def test_text(self):
        with pytest.raises(ColumnError, match="'channel'"):
            Bins(pd.DataFrame({"channel": ["web", "phone"]}))

    def test_infinite(self):
        X, y, _, _ = rows()
        X[3, 1] = np.inf
        with pytest.raises(CausalRecError, match="infinite"):
            Bins(X).fit(xgboost.XGBRegressor(**SMALL), y)

    def test_lengths(self):
        X, y, _, _ = rows()
        with pytest.raises(CausalRecError, match="target has 400 values but there are 3 rows"):
            Bins(X).fit(xgboost.XGBRegressor(), y, rows=np.arange(3))
        with pytest.raises(CausalRecError, match="weight has 2"):
            Bins(X).fit(xgboost.XGBRegressor(), y, weight=np.ones(2))

    def test_a_failed_fit_leaves_the_estimator_whole(self):
        X, y, _, _ = rows()
        base = xgboost.XGBRegressor(n_estimators=2, max_depth=-4, n_jobs=1)
        with pytest.raises(xgboost.core.XGBoostError):
            Bins(X).fit(base, y)
        with Bins(X).matrix(BinSettings()) as matrix:
            assert matrix.num_row() == 400
