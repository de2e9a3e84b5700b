"""Base models that the data size: against closed forms, XGBoost by hand, and truths that are known."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import xgboost
from scipy.special import expit
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from causalrec.exceptions import CausalRecError, ColumnError, OutcomeError
from causalrec.nuisance.bins import Bins
from causalrec.nuisance.boosting import BoostedClassifier, BoostedRegressor
from causalrec.nuisance.linear_start import (
    PENALTIES,
    Slopes,
    Terms,
    clearly_less,
    fit_slopes,
    logistic_ridge,
    ridge,
    ridge_path,
)
from causalrec.nuisance.rounds import Curve, Task, assign_folds, cross_validate


def rows(n=500, p=4, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p))
    return X, rng


def steps(n, seed=0):
    """A surface of steps that no smooth function follows; signal and noise have about the same variance."""
    X, rng = rows(n, 5, seed)
    signal = 2.0 * ((X[:, 0] > 0.3) ^ (X[:, 1] > 0)) + (X[:, 2] > 1)
    return X, signal, signal + rng.normal(size=n)


def mixed(n=400, seed=1):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame({
        "age [years]": np.where(rng.random(n) < 0.1, np.nan, rng.normal(40, 10, n)),
        "channel": pd.Categorical(rng.choice(["web", "phone", "shop", None], n)),
        "new": rng.random(n) < 0.5,
        "visits": pd.array(rng.integers(0, 9, n), dtype="Int64"),
    })  # fmt: skip
    signal = (X["channel"] == "web") * 3.0 + X["age [years]"].isna() * 3.0 + X["visits"].to_numpy(float)
    return X, signal.to_numpy(float), signal.to_numpy(float) + rng.normal(size=n)


class TestSlopes:
    def test_ridge_is_scikit_learns(self):
        X, rng = rows()
        y, w = X[:, 0] + rng.normal(size=500), rng.uniform(0, 2, 500)
        coef, intercept = ridge(X, y, w, 0.3)
        known = Ridge(alpha=0.3 * w.sum()).fit(X, y, sample_weight=w)
        np.testing.assert_allclose(coef, known.coef_, rtol=1e-8)
        assert intercept == pytest.approx(known.intercept_)

    def test_the_path_is_ridge_by_brute_force(self):
        X, rng = rows(120, 3)
        y, w, fold = X[:, 0] + rng.normal(size=120), rng.uniform(0, 2, 120), np.arange(120) % 4
        path = ridge_path(X, y, w, fold)
        for i, penalty in enumerate(PENALTIES):
            for k in range(4):
                out = fold == k
                coef, intercept = ridge(X[~out], y[~out], w[~out], penalty)
                np.testing.assert_allclose(path[i, out], (y[out] - X[out] @ coef - intercept) ** 2, rtol=1e-6)

    def test_logistic_ridge_is_scikit_learns(self):
        X, rng = rows(800)
        y, w = (rng.random(800) < expit(X[:, 0] - 1)).astype(float), rng.uniform(0, 2, 800)
        share = w @ y / w.sum()
        coef, intercept = logistic_ridge(X, y, w, 0.05, n_steps=30)
        strength = 1 / (0.05 * w.sum() * share * (1 - share))
        known = LogisticRegression(C=strength, tol=1e-10, max_iter=1000).fit(X, y, sample_weight=w)
        np.testing.assert_allclose(coef, known.coef_[0], atol=1e-5)
        assert intercept == pytest.approx(known.intercept_[0], abs=1e-5)

    def test_separable_classes_stay_finite(self):
        X, _ = rows(60, 2)
        coef, intercept = logistic_ridge(X, (X[:, 0] > 0).astype(float), np.ones(60), PENALTIES[0])
        assert np.isfinite(coef).all()
        assert np.isfinite(intercept)
        assert coef[0] > 2

    def test_nothing_is_extrapolated(self):
        X, _ = rows(300, 2)
        slopes = fit_slopes(X, X[:, 0], np.ones(300), np.arange(300) % 5, binary=False).slopes
        far = np.array([[1e6, 0.0], [X[:, 0].max(), 0.0]])
        assert slopes.predict(far)[0] == pytest.approx(slopes.predict(far)[1])

    def test_missing_numbers_count_as_the_mean(self):
        X, _ = rows(300, 2)
        X[:30, 0] = np.nan
        terms = Terms.of(X, np.ones(300))
        Z = terms.design(X)
        assert not Z[:30, 0].any()
        np.testing.assert_allclose(Z[:, 0].mean(), 0.0, atol=1e-12)
        np.testing.assert_allclose(Z[30:, 0].std(), 1.0)

    def test_squares_and_products_are_scikit_learns(self):
        X, _ = rows(300, 3)
        terms = Terms.of(X, np.ones(300), max_pairs=10)
        powers = PolynomialFeatures(2, include_bias=False).fit_transform(StandardScaler().fit_transform(X))
        np.testing.assert_allclose(terms.design(X), StandardScaler().fit_transform(powers), atol=1e-9)

    def test_the_square_of_an_indicator_is_left_out(self):
        X = np.column_stack([np.arange(40) % 2, np.arange(40.0)])
        terms = Terms.of(X, np.ones(40), max_pairs=10)
        assert terms.pairs.tolist() == [[0, 1], [1, 1]]

    def test_constant_and_absent_columns(self):
        X = np.column_stack([np.full(50, 3.0), np.full(50, np.nan), np.arange(50.0)])
        assert Terms.of(X, np.ones(50)).columns.tolist() == [2]

    def test_degrees_are_chosen(self):
        X, rng = rows(600, 3)
        fold, ones = np.arange(600) % 5, np.ones(600)
        noise = rng.normal(size=600)
        degrees = [
            fit_slopes(X, y, ones, fold, binary=False).slopes.degree
            for y in (noise, X[:, 0] + noise, X[:, 0] * X[:, 1] + X[:, 2] ** 2 + noise)
        ]
        assert degrees == [0, 1, 2]

    def test_parts_of_many_rows_are_the_whole(self, monkeypatch):
        X, _ = rows(300, 3)
        slopes = fit_slopes(X, X[:, 0] * X[:, 1], np.ones(300), np.arange(300) % 5, binary=False).slopes
        whole = slopes.predict(X)
        monkeypatch.setattr("causalrec.nuisance.linear_start._CHUNK_CELLS", 70)
        np.testing.assert_allclose(slopes.predict(X), whole)
        assert Slopes.constant(2.0).predict(X).tolist() == [2.0] * 300

    def test_clearly_less_is_half_a_standard_error(self):
        rng = np.random.default_rng(0)
        loss = rng.uniform(size=400)
        gain = rng.normal(size=400)
        gain -= gain.mean()
        error = gain.std() / 20
        assert clearly_less(loss, loss + gain + 0.51 * error, np.ones(400))
        assert not clearly_less(loss, loss + gain + 0.49 * error, np.ones(400))


class TestCrossValidation:
    @pytest.mark.parametrize("binary", [False, True])
    def test_side_by_side_is_one_by_one(self, binary):
        """Boosters that share a matrix are those of XGBoost on the rows of their own fold, with equal cuts."""
        X, signal, y = steps(300)
        y = (signal > 1).astype(float) if binary else (y - y.mean()) / y.std()
        rng = np.random.default_rng(0)
        task = Task(y, rng.uniform(0.5, 2, 300), binary)
        fold = assign_folds(task, 3, rng)
        margins = 0.1 * rng.normal(size=(3, 300))
        params = {
            "max_depth": 2, "eta": 0.3, "nthread": 1, "base_score": 0.5 if binary else 0.0,
            "objective": "binary:logistic" if binary else "reg:squarederror",
        }  # fmt: skip
        full = xgboost.QuantileDMatrix(X)
        curve = cross_validate(full, task, margins, fold, params, rounds=4, patience=99, step=2)
        expected = np.zeros((3, 300))
        for k in range(3):
            out = fold == k
            part = xgboost.QuantileDMatrix(
                X[~out], y[~out], weight=task.weight[~out], base_margin=margins[k][~out], ref=full
            )
            for i, n_trees in enumerate((2, 4), start=1):
                booster = xgboost.train(params, part, n_trees)
                m = margins[k][out] + booster.inplace_predict(X[out], predict_type="margin")
                expected[i, out] = np.logaddexp(0, m) - y[out] * m if binary else (y[out] - m) ** 2
            m = margins[k][out]
            expected[0, out] = np.logaddexp(0, m) - y[out] * m if binary else (y[out] - m) ** 2
        np.testing.assert_allclose(curve.validation, expected @ task.weight / task.weight.sum(), rtol=1e-4)
        assert curve.rounds == [0, 2, 4]
        assert full.get_base_margin().size == 0
        assert full.get_weight().size == 0

    def test_patience(self):
        curve = Curve([3, 2, 2, 2], [3.0, 2.0, 2.5, 2.5], step=3)
        assert curve.best == 3
        assert curve.waited(6)
        assert not curve.waited(7)
        assert Curve([3, 2], [3.0, 2.0], worth=False).best == 0

    def test_folds_hold_equal_shares_of_ones(self):
        y = (np.arange(1000) < 50).astype(float)
        fold = assign_folds(Task(y, np.ones(1000), True), 5, np.random.default_rng(0))
        assert np.bincount(fold).tolist() == [200] * 5
        assert np.bincount(fold, weights=y).tolist() == [10] * 5


class TestTruth:
    def test_steps_need_trees(self):
        X, signal, y = steps(2000)
        model = BoostedRegressor().fit(X, y)
        assert model.best_n_estimators_ > 20
        assert np.mean((model.predict(X) - signal) ** 2) < 0.1 * signal.var()

    def test_noise_leaves_a_constant(self):
        constant = []
        for seed in range(20):
            X, rng = rows(300, 5, seed)
            y = rng.normal(size=300)
            found = BoostedRegressor().fit(X, y).predict(X)
            constant.append(np.var(found) < 0.02)
        assert sum(constant) >= 17  # each is so with probability above 0.9

    def test_a_smooth_surface_beats_trees_alone_and_ridge_alone(self):
        X, rng = rows(500, 6)
        test, _ = rows(4000, 6, 1)

        def f(X):
            return np.log1p(np.exp(X[:, :3].sum(axis=1)))

        y = f(X) + rng.normal(size=500)
        models = [
            BoostedRegressor(), BoostedRegressor(linear_start=False), make_pipeline(StandardScaler(), Ridge()),
            xgboost.XGBRegressor(n_jobs=1),
        ]  # fmt: skip
        errors = [np.mean((m.fit(X, y).predict(test) - f(test)) ** 2) for m in models]
        assert errors[0] < 0.6 * min(errors[1:])

    def test_probabilities(self):
        X, rng = rows(3000, 4)
        p = expit(X[:, 0] + X[:, 1] * (X[:, 2] > 0) - 2)
        y = (rng.random(3000) < p).astype(int)
        model = BoostedClassifier().fit(X, y)
        found = model.predict_proba(X)
        np.testing.assert_allclose(found.sum(axis=1), 1.0)
        assert np.mean((found[:, 1] - p) ** 2) < 0.15 * p.var()
        assert found[:, 1].mean() == pytest.approx(y.mean(), abs=0.01)

    def test_many_rows_stop_early_and_few_do_not_overfit(self):
        X, signal, y = steps(6000)
        large = BoostedRegressor(small=1000).fit(X, y)
        assert 5 < large.best_n_estimators_ <= 120
        curve = large.evals_result_["validation"]["mse"]
        assert large.best_n_estimators_ == np.argmin(curve)
        assert len(curve) == large.best_n_estimators_ + large.patience + 1 or len(curve) == 121
        assert np.mean((large.predict(X) - signal) ** 2) < 0.1 * signal.var()

    def test_units_do_not_matter(self):
        X, _, y = steps(600)
        one = BoostedRegressor().fit(X, y)
        other = BoostedRegressor().fit(X * [1e-6, 1e6, 1, 1, 1], 1e9 + 1e6 * y)
        np.testing.assert_allclose((other.predict(X * [1e-6, 1e6, 1, 1, 1]) - 1e9) / 1e6, one.predict(X), atol=0.05)

    def test_a_mixed_frame(self):
        X, signal, y = mixed(1500)
        model = BoostedRegressor().fit(X, y)
        assert np.mean((model.predict(X) - signal) ** 2) < 0.05 * signal.var()
        assert model.feature_names_in_.tolist() == list(X.columns)
        order = model.predict(
            X[X.columns[::-1]].assign(channel=X["channel"].cat.reorder_categories(["web", "shop", "phone"]))
        )
        np.testing.assert_array_equal(order, model.predict(X))
        shares = model.feature_importances_
        assert shares.sum() == pytest.approx(1.0)
        assert shares.argmin() == 2  # "new" plays no part


class TestWeights:
    @pytest.mark.parametrize("kind", [BoostedRegressor, BoostedClassifier])
    def test_weightless_rows_do_not_matter(self, kind):
        X, signal, y = steps(1200)
        if kind is BoostedClassifier:
            y = (y > 1).astype(int)
        weight = np.ones(1200)
        weight[600:] = 0.0
        wrong = y.copy()
        wrong[600:] = (1 - y[600:]) if kind is BoostedClassifier else 50.0
        a, b = kind().fit(X, y, sample_weight=weight), kind().fit(X, wrong, sample_weight=weight)
        if kind is BoostedRegressor:
            np.testing.assert_allclose(a.predict(X), b.predict(X), atol=1e-5)
        assert a._centre == pytest.approx(b._centre)
        assert np.mean((b.predict(X) - (signal > 1 if kind is BoostedClassifier else signal)) ** 2) < 0.5

    def test_the_scale_of_weights_does_not_matter(self):
        X, _, y = steps(500)
        w = np.random.default_rng(1).uniform(0.5, 2, 500)
        a, b = (BoostedRegressor().fit(X, y, sample_weight=k * w).predict(X) for k in (1.0, 1024.0))
        np.testing.assert_array_equal(a, b)

    def test_weights_choose(self):
        """Where the rows with weight hold nothing but noise, no tree is taken."""
        X, _, y = steps(1000)
        rng = np.random.default_rng(0)
        y[500:] = rng.normal(size=500)
        weight = np.r_[np.full(500, 1e-6), np.ones(500)]
        assert BoostedRegressor().fit(X, y).best_n_estimators_ > 10
        assert BoostedRegressor().fit(X, y, sample_weight=weight).best_n_estimators_ <= 3


class TestManners:
    def test_the_same_seed_gives_the_same_bits(self):
        X, _, y = steps(500)
        a, b, c = (BoostedRegressor(random_state=s).fit(X, y).predict(X) for s in (0, 0, 1))
        np.testing.assert_array_equal(a, b)
        assert (a != c).any()

    def test_threads_do_not_matter(self, monkeypatch):
        monkeypatch.setattr("causalrec.nuisance.boosting._ONE_THREAD_CELLS", 0)
        X, _, y = steps(500)
        a, b = (BoostedRegressor(n_jobs=k).fit(X, y).predict(X) for k in (1, 2))
        np.testing.assert_array_equal(a, b)

    @pytest.mark.parametrize("small", [10, 20_000])
    def test_shared_bins_and_own_bins_are_the_same(self, small):
        X, _, y = steps(500)
        base = BoostedRegressor(small=small)
        np.testing.assert_array_equal(Bins(X).fit(base, y).predict(X), clone(base).fit(X, y).predict(X))
        bins, some = Bins(X), np.arange(0, 500, 2)
        model = bins.fit(base, y[some], rows=some)
        np.testing.assert_array_equal(bins.predict(model, some), model.predict(X[some]))

    def test_pickle_and_clone(self):
        X, _, y = mixed()
        model = BoostedRegressor(max_depth=2, random_state=3).fit(X, y)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X), model.predict(X))
        assert clone(model).get_params() == model.get_params()

    def test_a_fixed_number_of_trees(self):
        X, _, y = steps(500)
        base = BoostedRegressor(n_estimators=7, max_depth=3, early_stopping=False)
        for small in (10, 20_000):
            model = clone(base).set_params(small=small).fit(X, y)
            assert (model.best_n_estimators_, model.best_max_depth_) == (7, 3)
            assert model._booster.num_boosted_rounds() == 7

    @pytest.mark.parametrize("n", [1, 2, 9, 15])
    def test_a_handful_of_rows(self, n):
        X, rng = rows(n, 3)
        y = rng.normal(size=n)
        assert np.isfinite(BoostedRegressor().fit(X, y).predict(X)).all()
        if n < 10:
            np.testing.assert_allclose(BoostedRegressor().fit(X, y).predict(X), y.mean())
        p = BoostedClassifier().fit(X, np.arange(n) % 2).predict_proba(X)
        assert ((p >= 0) & (p <= 1)).all()

    def test_constant_targets(self):
        X, _ = rows(300)
        np.testing.assert_array_equal(BoostedRegressor().fit(X, np.full(300, 0.1)).predict(X), 0.1)
        for value in (0, 1):
            model = BoostedClassifier().fit(X, np.full(300, value))
            np.testing.assert_allclose(model.predict_proba(X)[:, value], 1.0)
            assert model.predict(X).tolist() == [value] * 300

    def test_one_class_on_many_rows_but_a_few(self):
        X, _ = rows(5000, 2)
        y = np.zeros(5000)
        y[7] = 1
        p = BoostedClassifier(small=1000).fit(X, y).predict_proba(X)[:, 1]
        assert p.mean() == pytest.approx(1 / 5000, rel=0.5)

    def test_columns_of_nothing_but_categories(self):
        rng = np.random.default_rng(0)
        X = pd.DataFrame({"kind": pd.Categorical(rng.choice(["a", "b", "c"], 900))})
        signal = X["kind"].map({"a": 0.0, "b": 3.0, "c": -3.0}).to_numpy(float)
        model = BoostedRegressor().fit(X, signal + rng.normal(size=900))
        assert np.mean((model.predict(X) - signal) ** 2) < 0.1

    def test_scores_of_cross_validation(self):
        X, _, y = steps(400)
        assert cross_val_score(BoostedRegressor(), X, y, cv=3).shape == (3,)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"n_estimators": "many"}, "n_estimators is 'many'"), ({"max_depth": -1}, "max_depth is -1"),
            ({"n_folds": 1}, "n_folds is 1"), ({"validation_fraction": 1.5}, "validation_fraction is 1.5"),
        ],
    )  # fmt: skip
    def test_settings_out_of_range(self, change, message):
        X, _, y = steps(50)
        with pytest.raises(CausalRecError, match=message):
            BoostedRegressor(**change).fit(X, y)

    def test_bad_input(self):
        X, _, y = steps(50)
        with pytest.raises(OutcomeError, match="missing or infinite"):
            BoostedRegressor().fit(X, np.r_[np.nan, y[1:]])
        with pytest.raises(OutcomeError, match="y holds 3 values"):
            BoostedClassifier().fit(X, np.arange(50) % 3)
        with pytest.raises(CausalRecError, match="y has 49 values"):
            BoostedRegressor().fit(X, y[1:])
        with pytest.raises(NotFittedError):
            BoostedRegressor().predict(X)
        with pytest.raises(ColumnError, match="3 columns"):
            BoostedRegressor().fit(X, y).predict(X[:, :3])
        with pytest.raises(CausalRecError, match="infinite values"):
            BoostedRegressor().fit(np.where(X > 2, np.inf, X), y)


_OWN_WORDS = "an error of ours, in other words"
_NOT_OURS = {
    "check_complex_data": _OWN_WORDS,
    "check_estimators_empty_data_messages": _OWN_WORDS,
    "check_n_features_in_after_fitting": _OWN_WORDS,
    "check_supervised_y_2d": "a column is taken as a vector without a warning",
    "check_sample_weight_equivalence_on_dense_data": "folds are drawn by row",
}


@pytest.mark.slow
@parametrize_with_checks(
    [BoostedRegressor(n_jobs=1), BoostedClassifier(n_jobs=1)],
    expected_failed_checks=lambda estimator: _NOT_OURS,
)
def test_scikit_learn(estimator, check):
    check(estimator)
