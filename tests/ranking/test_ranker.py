"""The ranker learns an order, whatever the order of the rows."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from causalrec.exceptions import CausalRecError, ColumnError, OutcomeError
from causalrec.ranking import Ranker, ndcg_at_k


def log(seed=0, n_queries=80, per_query=12):
    rng = np.random.default_rng(seed)
    n = n_queries * per_query
    X = pd.DataFrame({
        "price": np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n).round(1)),
        "shop": pd.Categorical(rng.choice(["a", "b", "c"], n)),
        "noise": rng.normal(size=n),
    })  # fmt: skip
    signal = X["price"].fillna(0) + 1.5 * (X["shop"] == "b")
    y = (signal + rng.normal(size=n) > 1.8).astype(int) + (signal > 2.5)
    return X, y.to_numpy(), np.array([f"q{i}" for i in np.repeat(np.arange(n_queries), per_query)])


def small(**options):
    return Ranker(**{"n_estimators": 15, "min_child_weight": 1.0, **options})


def test_it_beats_a_random_order_on_later_queries():
    X, y, query = log()
    later, grades, ids = log(1)
    model = Ranker().fit(X, y, query=query, eval_set=(later, grades, ids))
    ours = ndcg_at_k(grades, model.predict(later), ids, k=5)
    chance = ndcg_at_k(grades, np.random.default_rng(0).random(len(grades)), ids, k=5)
    best = ndcg_at_k(grades, later["price"].fillna(0) + 1.5 * (later["shop"] == "b"), ids, k=5)
    assert ours.ci_low > chance.ci_high
    assert ours.estimate > 0.9 * best.estimate


def test_it_fits_queries_that_are_not_sorted_and_row_order_does_not_matter():
    X, y, query = log(2)
    base = small().fit(X, y, query=query).predict(X)
    for seed in range(3):
        rows = np.random.default_rng(seed).permutation(len(y))
        found = small().fit(X.iloc[rows], y[rows], query=query[rows])
        np.testing.assert_array_equal(found.predict(X), base)


def test_row_order_does_not_matter_for_arrays_and_the_evaluation_set():
    X, y, query = log(3)
    X = X[["price", "noise"]].to_numpy()
    later = tuple(v[["price", "noise"]].to_numpy() if isinstance(v, pd.DataFrame) else v for v in log(4))
    rows = np.random.default_rng(0).permutation(len(y))
    models = [small().fit(X[r], y[r], query=query[r], eval_set=tuple(v[r] for v in later)) for r in (slice(None), rows)]
    np.testing.assert_array_equal(models[0].predict(X), models[1].predict(X))
    assert models[0].history_ == models[1].history_


def test_columns_and_categories_of_another_batch():
    X, y, query = log(5)
    model = small().fit(X, y, query=query)
    expected = model.predict(X)
    turned = X.assign(shop=X["shop"].cat.reorder_categories(["c", "b", "a"]))[["noise", "shop", "price"]]
    np.testing.assert_array_equal(model.predict(turned), expected)
    np.testing.assert_array_equal(model.predict(pl.from_pandas(X)), expected)
    np.testing.assert_array_equal(small().fit(pl.from_pandas(X), y, query=query).predict(X), expected)
    with pytest.raises(ColumnError, match="'z'"):
        model.predict(X.assign(shop="z"))
    with pytest.raises(ColumnError, match="missing column 'shop'"):
        model.predict(X.drop(columns="shop"))
    with pytest.raises(ColumnError, match="an array"):
        model.predict(np.zeros((1, 3)))


def test_early_stopping_and_history():
    X, y, query = log(6)
    model = Ranker(n_estimators=200, early_stopping_rounds=3, k=5).fit(X, y, query=query, eval_set=log(7))
    later, grades, ids = log(7)
    assert len(model.history_) < 200
    # XGBoost's NDCG@5 of the best round is ours, on queries with a positive and no ties.
    ours = ndcg_at_k(grades, model.predict(later), ids, k=5)
    judged = ours.n_obs / (ours.n_obs + ours.n_without_positives)
    assert max(model.history_) == pytest.approx(ours.estimate * judged + 1 - judged, abs=0.02)
    assert small().fit(X, y, query=query).history_ == []
    assert model.feature_importances_.argmin() == 2


def test_manners():
    X, y, query = log(8)
    model = small(random_state=3)
    with pytest.raises(NotFittedError):
        model.predict(X)
    with pytest.raises(NotFittedError):
        check_is_fitted(model)
    before = model.get_params()
    assert model.fit(X, y, query=query) is model
    assert clone(model).get_params() == before
    check_is_fitted(model)
    assert (model.n_features_in_, model.feature_names_in_.tolist()) == (3, ["price", "shop", "noise"])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X), model.predict(X))
    np.testing.assert_array_equal(clone(model).fit(X, y, query=query).predict(X), model.predict(X))
    assert not hasattr(model.fit(X[["price"]].to_numpy(), y, query=query), "feature_names_in_")


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"y": [0, 0, 0, 0]}, OutcomeError, ["y holds", "0 positive", "at least one"]),
        ({"y": [0, -1, 1, 1]}, OutcomeError, ["1 negative and 2 positive"]),
        ({"y": [0, np.nan, 1, 1]}, OutcomeError, ["y: 1 of 4"]),
        ({"query": [1, 1, 2]}, CausalRecError, ["query has 3", "4 rows"]),
        ({"query": [1, 1, 2, None]}, CausalRecError, ["query: 1 of 4 ids are missing"]),
        ({"X": pd.DataFrame({"name": list("abcd")})}, ColumnError, ["'name'", "the ranker", "astype('category')"]),
        ({"eval_set": (np.ones((2, 1)), [0, 0], [1, 1])}, OutcomeError, ["y of eval_set", "0 positive"]),
        ({"eval_set": (np.ones((2, 3)), [0, 1], [1, 1])}, ColumnError, ["3 columns", "fitted on 1"]),
    ],
    ids=lambda c: str(list(c)) if isinstance(c, dict) else "",
)
def test_misuse_says_what_to_do(change, error, words):
    with pytest.raises(error) as caught:
        small().fit(**{"X": np.arange(4.0)[:, None], "y": [0, 1, 0, 1], "query": [1, 1, 2, 2], **change})
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_k_of_zero():
    with pytest.raises(CausalRecError, match="k is 0"):
        Ranker(k=0).fit(np.zeros((2, 1)), [0, 1], query=[1, 1])
