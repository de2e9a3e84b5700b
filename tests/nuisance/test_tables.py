"""Rows in parts: the same bits as a copy of all, and memory that is given back."""

from __future__ import annotations

import ctypes
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.base import clone
from sklearn.linear_model import LinearRegression

from causalrec.exceptions import CausalRecError, ColumnError
from causalrec.nuisance import tables
from causalrec.nuisance.bins import Bins, BinSettings
from causalrec.nuisance.boosting import BoostedRegressor
from causalrec.nuisance.fitting import SharedCovariates
from causalrec.nuisance.joined import ArmModel, predict_joined
from causalrec.nuisance.tables import Joined, head, join_arms, row_chunks, take_rows

BASE = xgboost.XGBRegressor(n_estimators=6, max_depth=3, n_jobs=1, enable_categorical=True)


@pytest.fixture
def parts(monkeypatch):
    """Parts of 64 rows."""
    monkeypatch.setattr(tables, "CHUNK_CELLS", 1)


def array(n=500):
    X = np.random.default_rng(0).normal(size=(n, 4))
    X[::7, 2] = np.nan
    X[:, 3] = np.round(X[:, 3])
    return X


def frame(n=500):
    X = pd.DataFrame(array(n), columns=list("abcd"))
    channels = np.random.default_rng(1).choice(["web", "phone", None], n)
    return X.assign(channel=pd.Categorical(channels, categories=["phone", "shop", "web"]), new=X["a"] > 0)


def outcome(X):
    columns = np.asarray(X)[:, :2].astype(float)
    return columns[:, 0] + np.abs(columns[:, 1]) + np.random.default_rng(2).normal(size=len(columns))


def arms(n=500, k=3):
    return np.random.default_rng(3).integers(0, k, n)


class TestParts:
    @pytest.mark.parametrize("make", [array, frame])
    def test_rows_cut_on_their_own_are_a_plain_fit_of_a_copy(self, make, parts):
        X = make()
        y, some = outcome(X), np.random.default_rng(4).permutation(500)[:333]
        model = Bins(X, common=False).fit(BASE, y[some], rows=some)
        plain = clone(BASE).fit(take_rows(X, some), y[some])
        np.testing.assert_array_equal(model.predict(X), plain.predict(X))
        if isinstance(X, pd.DataFrame):
            np.testing.assert_array_equal(model.feature_names_in_, list(X.columns))

    @pytest.mark.parametrize("make", [array, frame])
    def test_rows_with_the_cuts_of_all(self, make, parts):
        X = make()
        y, some = outcome(X), np.arange(0, 500, 2)
        full = xgboost.QuantileDMatrix(X, enable_categorical=True)
        part = xgboost.QuantileDMatrix(take_rows(X, some), y[some], ref=full, enable_categorical=True)
        by_hand = xgboost.train({**BASE.get_xgb_params(), "nthread": 1}, part, 6)
        model = Bins(X).fit(BASE, y[some], rows=some)
        np.testing.assert_array_equal(model.predict(X), by_hand.inplace_predict(X))

    def test_cuts_of_parts_are_those_of_one_piece(self, parts):
        """The sketch of quantiles, where values are many more than bins, does not see where parts end."""
        X = np.random.default_rng(5).normal(size=(20_000, 2))
        with Bins(X, common=False).matrix(BinSettings(max_bin=16), np.arange(20_000), n_jobs=1) as matrix:
            cuts = matrix.get_quantile_cut()
        plain = xgboost.QuantileDMatrix(X, max_bin=16, nthread=1).get_quantile_cut()
        for found, expected in zip(cuts, plain, strict=True):
            np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize("make", [array, frame])
    def test_predictions(self, make, parts):
        X = make()
        bins, some = Bins(X), np.random.default_rng(6).permutation(500)[:200]
        model = bins.fit(BASE, outcome(X))
        np.testing.assert_array_equal(bins.predict(model, some), model.predict(X)[some])
        np.testing.assert_array_equal(bins.predict(model), model.predict(X))
        assert bins.predict(model, some[:0]).shape == (0,)

    @pytest.mark.parametrize("make", [array, frame])
    def test_chunks_are_the_rows_in_order(self, make, parts):
        X = make()
        pieces = list(row_chunks(X, np.arange(499, -1, -1)))
        assert [len(piece) for piece in pieces] == [64] * 7 + [52]
        if isinstance(X, pd.DataFrame):
            pd.testing.assert_frame_equal(pd.concat(pieces), X.iloc[::-1])
        else:
            np.testing.assert_array_equal(np.concatenate(pieces), X[::-1])

    def test_infinite_values_in_a_part(self, parts):
        X = array()
        X[400, 1] = np.inf
        with pytest.raises(CausalRecError, match="infinite"):
            Bins(X, common=False).fit(BASE, outcome(X[:450]), rows=np.arange(450))


class TestJoined:
    @pytest.mark.parametrize("make", [array, frame])
    def test_fits_are_those_on_covariates_joined_by_hand(self, make, parts):
        X, codes = make(), arms()
        y, some, by_hand = outcome(X), np.arange(0, 500, 3), join_arms(make(), codes, 3)
        joined = Joined(X, codes, 3)
        assert joined.shape == by_hand.shape == (500, X.shape[1] + 2)
        for rows in (None, some):
            target = y if rows is None else y[rows]
            found = Bins(joined).fit(BASE, target, rows=rows).predict(by_hand)
            np.testing.assert_array_equal(found, Bins(by_hand).fit(BASE, target, rows=rows).predict(by_hand))
        default = BoostedRegressor(small=50, n_estimators=5)
        found = Bins(joined).fit(default, y[some], rows=some).predict(by_hand)
        np.testing.assert_allclose(found, Bins(by_hand).fit(default, y[some], rows=some).predict(by_hand), rtol=1e-12)

    def test_a_model_of_scikit_learn(self):
        X, codes = np.nan_to_num(array()), arms()
        y, by_hand = outcome(X), join_arms(X, codes, 3)
        model = SharedCovariates(Joined(X, codes, 3)).fit(LinearRegression(), y)
        np.testing.assert_array_equal(model.predict(by_hand), LinearRegression().fit(by_hand, y).predict(by_hand))

    @pytest.mark.parametrize("make", [array, frame])
    def test_predictions_under_every_arm(self, make, parts):
        X, codes, some = make(), arms(), np.array([400, 3, 77])
        model = clone(BASE).fit(join_arms(X, codes, 3), outcome(X))
        expected = np.column_stack([model.predict(join_arms(X, np.full(500, code), 3)) for code in range(3)])
        np.testing.assert_array_equal(predict_joined(model, X, 3, range(3)), expected)
        np.testing.assert_array_equal(predict_joined(model, X, 3, range(3), rows=some), expected[some])
        np.testing.assert_array_equal(ArmModel(model, 2, 3).predict(X), expected[:, 2])
        assert predict_joined(model, X, 3, range(3), rows=some[:0]).shape == (0, 3)

    def test_text_is_refused_as_in_covariates_that_are_not_joined(self):
        X = frame().assign(channel="web")
        with pytest.raises(ColumnError, match="'channel'"):
            SharedCovariates(Joined(X, arms(), 3)).fit(BASE, outcome(X))

    def test_the_head_has_the_columns_of_all(self):
        top = head(Joined(frame(), arms(), 3))
        assert list(top.columns) == ["a", "b", "c", "d", "channel", "new", "arm1", "arm2"]
        assert list(top["channel"].cat.categories) == ["phone", "shop", "web"]


class TestMemory:
    def test_no_copy_of_the_rows_is_made(self):
        X = np.random.default_rng(0).normal(size=(200_000, 10))  # 15 MiB, in parts of 4
        codes, rows = np.zeros(200_000, dtype=np.int64), np.arange(0, 200_000, 2)
        base = xgboost.XGBRegressor(n_estimators=1, max_depth=1, max_bin=4, n_jobs=1)
        bins = Bins(Joined(X, codes, 2), common=False)
        bins.fit(base, X[:100, 0], rows=rows[:100])  # imports
        tracemalloc.start()
        model = bins.fit(base, X[rows, 0], rows=rows)
        predict_joined(model, X, 2, range(2))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < X.nbytes  # the parts, joined; predictions

    def test_bins_that_no_fit_needs_are_let_go(self, monkeypatch):
        X = array()
        y, rows = outcome(X), np.arange(250)
        shared = SharedCovariates(X)
        shared.fit(BASE, y[rows], rows=rows)
        shared.forget_rows(rows)
        held = shared._bins[True]
        assert len(held._subsets) == 1  # few rows may keep them
        monkeypatch.setattr(tables, "_MANY_CELLS", 1)
        shared.forget_rows(rows[:100])
        assert len(held._subsets) == 1
        before = shared.fit(BASE, y[rows], rows=rows).predict(X)
        shared.forget_rows(rows.astype(np.int32))
        assert not held._subsets
        assert not held._locks
        np.testing.assert_array_equal(shared.fit(BASE, y[rows], rows=rows).predict(X), before)

    def test_giving_back_is_for_glibc_and_for_many_rows(self, monkeypatch):
        calls = []
        monkeypatch.setattr(tables, "_trim", lambda: calls.append)
        tables.give_back(np.empty((10, 2)))
        assert not calls
        tables.give_back(np.broadcast_to(0.0, (10**7, 2)))
        assert calls == [0]

    @pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
    def test_without_glibc_nothing_happens(self, monkeypatch, error):
        def none(_):
            raise error

        monkeypatch.setattr(ctypes, "CDLL", none)
        tables._trim.cache_clear()
        try:
            tables.give_back(np.broadcast_to(0.0, (10**7, 2)))
        finally:
            tables._trim.cache_clear()
