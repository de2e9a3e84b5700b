"""Importance: contributions that equal Shapley's values by brute force, rises of the loss with their errors."""

from __future__ import annotations

from itertools import combinations
from math import factorial

import numpy as np
import pandas as pd
import pytest
import xgboost
from scipy import stats
from sklearn.ensemble import RandomForestRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression

from causalrec.exceptions import CausalRecError, ColumnError, TreatmentError
from causalrec.nuisance import BoostedRegressor, fit_nuisances, r_loss
from causalrec.uplift import (
    ClassTransformation,
    DRLearner,
    RLearner,
    SLearner,
    StackedLearner,
    TLearner,
    XLearner,
    effect_contributions,
    gain_importance,
    permutation_importance,
    shap_importance,
)
from causalrec.uplift._contributions import contributions, with_known
from causalrec.uplift.importance import shuffle_rise


def trial(n: int = 600, *, binary: bool = False, seed: int = 0, n_arms: int = 2):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(
        {
            "a": rng.normal(size=n),
            "b": rng.normal(size=n),
            "c": pd.Categorical(rng.choice(["x", "y"], n)),
            "d": rng.integers(0, 4, n).astype(float),
        }
    )
    X.loc[:9, "a"] = np.nan
    t = rng.integers(0, n_arms, n)
    tau = (X["b"] + (X["c"] == "x")) * t
    y = np.nan_to_num(X["a"]) ** 2 + tau + 0.5 * rng.normal(size=n)
    return X, ((y > 1).astype(float) if binary else y.to_numpy()), t


BASE = xgboost.XGBRegressor(n_estimators=8, max_depth=3, enable_categorical=True, n_jobs=1)


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize(
    "learner",
    [
        TLearner(), SLearner(), XLearner(BASE), DRLearner(BASE), TLearner(BASE), SLearner(BASE), RLearner(BASE),
        StackedLearner({"S": SLearner(BASE), "T": TLearner(BASE)}, outcome_model=BASE),
    ],
    ids=lambda each: f"{type(each).__name__}{'' if getattr(each, 'base_learner', BASE) is None else ' XGB'}",
)  # fmt: skip
def test_contributions_add_up_to_the_predicted_effect(learner, binary):
    X, y, t = trial(300, binary=binary)
    learner.fit(X, y, treatment=t, propensity=0.5)
    values, base = effect_contributions(learner, X)
    np.testing.assert_allclose(values.sum(axis=1) + base, learner.predict(X), atol=3e-6)
    np.testing.assert_allclose(base, base[0], atol=1e-12)  # no row starts from elsewhere
    assert values.shape == X.shape


def test_other_learners_arms_and_nuisances():
    X, y, t = trial(300, binary=True)
    kinds = ClassTransformation().fit(X, y, treatment=t, propensity=0.5)
    values, base = effect_contributions(kinds, X)
    np.testing.assert_allclose(values.sum(axis=1) + base, kinds.predict(X), atol=1e-6)
    X, y, t = trial(400, n_arms=3)
    for learner in (SLearner(BASE), XLearner(BASE)):
        learner.set_params(control=0).fit(X, y, treatment=t)
        for k, arm in enumerate((1, 2)):
            with pytest.raises(TreatmentError, match="arm"):
                effect_contributions(learner, X)
            values, base = effect_contributions(learner, X, arm=arm)
            np.testing.assert_allclose(values.sum(axis=1) + base, learner.predict(X)[:, k], atol=3e-6)
    for joint in (False, True):
        nuisance = fit_nuisances(X, y, treatment=t == 2, propensity=0.4, outcome_model=BASE, joint_outcome=joint)
        learner = TLearner().fit(X, y, treatment=t == 2, nuisance=nuisance)
        values, base = effect_contributions(learner, X)
        np.testing.assert_allclose(values.sum(axis=1) + base, learner.predict(X), atol=3e-6)


def shapley(worth, p: int) -> np.ndarray:
    """Shapley values by their definition; ``worth`` maps a set of players to a number."""
    found = np.zeros(p)
    for j in range(p):
        rest = [k for k in range(p) if k != j]
        for size in range(p):
            for team in combinations(rest, size):
                weight = factorial(size) * factorial(p - size - 1) / factorial(p)
                found[j] += weight * (worth({*team, j}) - worth(set(team)))
    return found


def tree_value(tree: dict, row: np.ndarray, present: set[int], node: int = 0) -> float:
    """A tree's expected prediction where some covariates are absent: branches by their weight in training."""
    left, right = tree["left_children"][node], tree["right_children"][node]
    if left < 0:
        return tree["split_conditions"][node]
    column = tree["split_indices"][node]
    if column in present:
        return tree_value(tree, row, present, left if row[column] < tree["split_conditions"][node] else right)
    weights = [tree["sum_hessian"][k] for k in (left, right)]
    values = [tree_value(tree, row, present, k) for k in (left, right)]
    return float(np.average(values, weights=weights))


def test_an_s_learners_trees_are_shapley_values_with_the_arm_always_there():
    rng = np.random.default_rng(1)
    X, t = rng.normal(size=(200, 3)), rng.integers(0, 2, 200)
    y = X[:, 0] * X[:, 1] * t + X[:, 2] * t + X[:, 0] + 0.1 * rng.normal(size=200)
    base = xgboost.XGBRegressor(n_estimators=3, max_depth=4, n_jobs=1, learning_rate=0.9)
    learner = SLearner(base).fit(X, y, treatment=t)
    values, _ = effect_contributions(learner, X[:5])
    import json

    model = json.loads(bytes(learner.models_[0].get_booster().save_raw("json")))
    trees = model["learner"]["gradient_booster"]["model"]["trees"]
    assert any(3 in tree["split_indices"] for tree in trees)
    for i in range(5):
        rows = [np.r_[X[i], arm].astype(np.float32) for arm in (0.0, 1.0)]

        def worth(team, rows=rows):
            one, zero = (sum(tree_value(tree, row, team | {3}) for tree in trees) for row in (rows[1], rows[0]))
            return one - zero

        np.testing.assert_allclose(values[i], shapley(worth, 3), atol=2e-5)


def test_known_columns_have_no_contribution():
    X, y, t = trial(200)
    learner = SLearner(BASE).fit(X, y, treatment=t)
    booster = learner.models_[0].get_booster()
    changed = with_known(booster, {4: 1.0})
    joined = X.assign(arm1=1.0)
    matrix = xgboost.DMatrix(joined, enable_categorical=True)
    found = changed.predict(matrix, pred_contribs=True)
    assert np.abs(found[:, 4]).max() < 1e-6
    np.testing.assert_allclose(found.sum(axis=1), booster.predict(matrix), atol=1e-5)


def test_slopes_and_products_are_shapley_values_for_independent_covariates():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(2000, 3))
    y = X[:, 0] + 2 * X[:, 0] * X[:, 1] + X[:, 2] ** 2 + 0.01 * rng.normal(size=2000)
    model = BoostedRegressor(n_estimators=0).fit(X, y)
    assert model.best_degree_ == 2
    parts = contributions(model, X)
    np.testing.assert_allclose(parts.values.sum(axis=1) + parts.base, model.predict(X), atol=1e-9)
    background = X[:300]
    for i in range(3):

        def worth(team, i=i):
            mixed = background.copy()
            mixed[:, list(team)] = X[i, list(team)]
            return model.predict(mixed).mean()

        np.testing.assert_allclose(parts.values[i], shapley(worth, 3), atol=0.3)  # 300 rows of background
    direct = X[:, 0] + X[:, 0] * X[:, 1]
    np.testing.assert_allclose(parts.values[:, 0], direct, atol=0.15)


def test_linear_models_in_closed_form():
    rng = np.random.default_rng(3)
    X, t = rng.normal(size=(500, 3)), rng.integers(0, 2, 500)
    y = X @ [1.0, 2.0, 0.0] + t * (X @ [3.0, 0.0, -1.0] + 0.5)
    learner = TLearner(LinearRegression()).fit(X, y, treatment=t)
    values, base = effect_contributions(learner, X)
    np.testing.assert_allclose(values, (X - X.mean(axis=0)) * [3.0, 0.0, -1.0], atol=1e-9)
    np.testing.assert_allclose(base, 0.5 + X.mean(axis=0) @ [3.0, 0.0, -1.0])
    found = shap_importance(learner, X)
    assert found.covariate.tolist() == ["x0", "x2", "x1"]
    np.testing.assert_allclose(found.direction[:2], [1.0, -1.0])
    assert found.importance[0] == pytest.approx(3 * np.abs(X[:, 0] - X[:, 0].mean()).mean())
    assert found.share.sum() == pytest.approx(1.0)
    assert "x2" in str(found)
    assert "falls with it" in str(found)
    constant = SLearner(LinearRegression()).fit(X, y, treatment=t)
    assert np.abs(effect_contributions(constant, X)[0]).max() < 1e-12
    logit = TLearner(LogisticRegression()).fit(X, (y > 0).astype(float), treatment=t)
    values, base = effect_contributions(logit, X)
    np.testing.assert_allclose(values.sum(axis=1) + base, logit.predict(X), atol=1e-9)


def test_rows_are_sampled_and_categories_have_no_direction():
    X, y, t = trial(500)
    found = shap_importance(XLearner(BASE).fit(X, y, treatment=t), X, n_rows=100)
    assert found.n_obs == 100
    frame = found.to_frame().set_index("covariate")
    assert np.isnan(frame.loc["c", "direction"])
    assert frame.loc["b", "direction"] > 0.9
    assert found.covariate[0] == "b"


def test_permutation_importance_of_a_linear_effect_has_its_closed_form():
    rng = np.random.default_rng(4)
    n = 4000
    X, t = rng.normal(size=(n, 2)), rng.integers(0, 2, n)
    y = X[:, 0] * t + 0.2 * rng.normal(size=n)
    nuisance = fit_nuisances(X, y, treatment=t, propensity=0.5, outcome_model=LinearRegression())

    class Known:
        def predict(self, X):
            return np.asarray(X)[:, 0]

    found = permutation_importance(Known(), X, nuisance)
    assert found.covariate.tolist() == ["x0", "x1"]
    assert found.importance[1] == 0.0
    assert np.isnan(found.pvalue[1])
    # E (t - e)² (x - x')² = 1/4 · 2
    assert found.importance[0] == pytest.approx(0.5, abs=3.5 * found.std_error[0])
    assert found.loss == pytest.approx(float(r_loss(X[:, 0], nuisance)))
    assert found.constant_loss > found.loss
    assert "x0" in str(found)


def test_influence_of_a_shuffle_is_that_of_a_jackknife_over_all_pairs():
    rng = np.random.default_rng(5)
    n = 12
    table = rng.normal(size=(n, n)) + rng.normal(size=n)[:, None]  # loss of row i with the value of row j
    now = np.diag(table).copy()
    orders = [np.roll(np.arange(n), k) for k in range(n)]  # every pair once, each row with itself too
    shuffled = [table[np.arange(n), order] for order in orders]
    rise, influence = shuffle_rise(now, shuffled, orders, np.ones(n))
    assert rise == pytest.approx(table.mean() - now.mean())
    by_hand = table.mean(axis=1) - now + table.mean(axis=0)
    np.testing.assert_allclose(influence, by_hand - by_hand.mean())


def test_sets_of_columns_weights_and_clusters():
    X, y, t = trial(400)
    keep = np.arange(400) < 300
    learner = XLearner(BASE).fit(X, y, treatment=t, propensity=0.5)
    options = {"treatment": t, "propensity": 0.5, "outcome_model": BASE}
    weighted = fit_nuisances(X, y, sample_weight=keep.astype(float), **options)
    part = weighted.take(np.flatnonzero(keep))
    sets = {"both": ["a", "b"], "kind": ["c"]}
    one = permutation_importance(learner, X, weighted, columns=sets, n_repeats=3)
    two = permutation_importance(learner, X[keep], part, columns=sets, n_repeats=3)
    np.testing.assert_allclose(one.importance, two.importance)
    np.testing.assert_allclose(one.std_error, two.std_error)
    assert set(one.covariate) == {"both", "kind"}
    assert one.n_obs == 300
    pairs = permutation_importance(learner, X, weighted, columns=["b"], clusters=np.arange(400) // 2)
    assert "clustered by 150" in pairs.method
    assert X.equals(trial(400)[0])
    array = X.drop(columns="c").to_numpy()
    plain = TLearner(BASE).fit(array, y, treatment=t)
    assert permutation_importance(plain, array, weighted, columns=[1], n_repeats=1).covariate.tolist() == ["x1"]


def test_gain():
    X, y, t = trial(400)
    found = gain_importance(XLearner(BASE).fit(X, y, treatment=t, propensity=0.5))
    assert found.importance.sum() == pytest.approx(1.0)
    assert found.what == "effect"
    assert gain_importance(TLearner(BASE).fit(X, y, treatment=t)).what == "outcome"
    with pytest.raises(CausalRecError, match="permutation_importance"):
        gain_importance(TLearner(LinearRegression()).fit(X[["b"]], y, treatment=t))


def test_what_is_refused():
    X, y, t = trial(200)
    numbers = X[["b", "d"]]
    forest = TLearner(RandomForestRegressor(n_estimators=3)).fit(numbers, y, treatment=t)
    with pytest.raises(CausalRecError, match="RandomForestRegressor"):
        shap_importance(forest, numbers)
    count = TLearner(xgboost.XGBRegressor(n_estimators=2, objective="count:poisson")).fit(numbers, y**2, treatment=t)
    with pytest.raises(CausalRecError, match="count:poisson"):
        effect_contributions(count, numbers)
    with pytest.raises(NotFittedError):
        shap_importance(TLearner(), X)
    with pytest.raises(CausalRecError, match="takes any learner"):
        effect_contributions(LinearRegression(), X)
    nuisance = fit_nuisances(X, y, treatment=t, propensity=0.5, outcome_model=BASE)
    learner = TLearner(BASE).fit(X, y, treatment=t)
    for options, error, words in (
        ({"columns": ["z"]}, ColumnError, "'z'"), ({"columns": []}, CausalRecError, "nothing"),
        ({"columns": {"empty": []}}, CausalRecError, "nothing"), ({"columns": "a"}, CausalRecError, "in a list"),
        ({"n_repeats": 0}, CausalRecError, "n_repeats"), ({"confidence_level": 2}, CausalRecError, "confidence_level"),
    ):  # fmt: skip
        with pytest.raises(error, match=words):
            permutation_importance(learner, X, nuisance, **options)
    with pytest.raises(CausalRecError, match="X has 5 values"):
        permutation_importance(learner, X[:5], nuisance)


@pytest.mark.slow
@pytest.mark.parametrize("repeats", [1, 10])
def test_intervals_of_permutation_importance_cover_the_truth(repeats):
    inside, reps = 0, 300

    class Known:
        def predict(self, X):
            return np.asarray(X)[:, 0] * (1 + 0.5 * np.asarray(X)[:, 1])

    for seed in range(reps):
        rng = np.random.default_rng(seed)
        X, t = rng.normal(size=(400, 2)), rng.integers(0, 2, 400)
        y = Known().predict(X) * t + rng.normal(size=400)
        nuisance = fit_nuisances(X, y, treatment=t, propensity=0.5, outcome_model=LinearRegression())
        found = permutation_importance(Known(), X, nuisance, columns=[0], n_repeats=repeats, rng=seed)
        # E (t - e)² E (x - x')² (1 + z/2)² = 1/4 · 2 · 1.25
        inside += found.ci_low[0] <= 0.625 <= found.ci_high[0]
    assert inside / reps >= stats.binom.ppf(0.001, reps, 0.95) / reps
