"""Policy trees: the best of all by brute force, planted trees found, values that hold."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression

from causalrec.evaluation import policy_value
from causalrec.exceptions import CausalRecError, ColumnError, OutcomeError
from causalrec.nuisance import arm_scores, fit_nuisances, make_folds
from causalrec.policy import PolicyTree
from causalrec.policy._tree_grid import level_column, number_column, spread_cuts

NAN = float("nan")


def brute_force(X: np.ndarray, advantage: np.ndarray, depth: int, least: int) -> float:
    """The highest reward over control of any tree, by trying them all."""
    best = max(0.0, advantage.sum(axis=0).max()) if len(advantage) >= least else -np.inf
    if depth == 0:
        return best
    for values in X.T:
        missing = np.isnan(values)
        for cut in np.unique(values[~missing]):
            for with_missing in (False, True) if missing.any() else (False,):
                left = (values <= cut) | (missing & with_missing)
                if 0 < left.sum() < len(left):
                    parts = (brute_force(X[side], advantage[side], depth - 1, least) for side in (left, ~left))
                    best = max(best, sum(parts))
    return best


def gain(tree: PolicyTree, X: np.ndarray, scores: np.ndarray) -> float:
    return float((scores[np.arange(len(scores)), tree.predict(X)] - scores[:, 0]).sum())


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), depth=st.integers(1, 3), k=st.integers(2, 4), least=st.integers(1, 3))
def test_no_tree_is_better(seed, depth, k, least):
    rng = np.random.default_rng(seed)
    n, p = (8, 2) if depth == 3 else (14, 3)
    X = rng.integers(0, rng.choice([3, 30]), (n, p)).astype(float)
    X[rng.random((n, p)) < rng.choice([0.0, 0.2])] = NAN
    scores = rng.normal(size=(n, k)).round(2)
    found = gain(PolicyTree(depth, min_leaf=least, n_cuts=None).fit(X, scores), X, scores)
    assert found == pytest.approx(brute_force(X, scores[:, 1:] - scores[:, :1], depth, least), abs=1e-9)


def test_the_default_grid_of_few_rows_is_every_cut():
    rng = np.random.default_rng(3)
    X, scores = rng.normal(size=(30, 3)), rng.normal(size=(30, 2))
    tree = PolicyTree(2, min_leaf=1).fit(X, scores)
    assert gain(tree, X, scores) == pytest.approx(brute_force(X, scores[:, 1:] - scores[:, :1], 2, 1))


@pytest.mark.parametrize("depth", [2, 3])
def test_a_planted_tree_is_found_where_no_single_split_helps(depth):
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (1500, 3))
    signs = np.prod(np.sign(X[:, :depth]), axis=1)  # an exclusive or: greedy splits see nothing
    scores = np.column_stack([np.zeros(1500), signs + 0.5 * rng.normal(size=1500)])
    tree = PolicyTree(depth, n_cuts=31).fit(X, scores)
    truth = signs > 0
    assert (tree.predict(X) == truth).mean() > 0.94
    assert tree.evaluate(X, scores).n_leaves == 2**depth
    assert tree.search_depth_ == depth


def test_searching_two_levels_at_once_is_never_better_than_three():
    rng = np.random.default_rng(1)
    X, scores = rng.integers(0, 8, (300, 3)).astype(float), rng.normal(size=(300, 3))
    values = [gain(PolicyTree(3, search_depth=s, min_leaf=5).fit(X, scores), X, scores) for s in (1, 2, 3)]
    assert values[2] >= max(values) - 1e-9
    assert PolicyTree(3, search_depth=2).fit(X, scores).search_depth_ == 2


def test_categories_are_split_into_the_best_two_sets():
    rng = np.random.default_rng(2)
    city = pd.Categorical(rng.choice(list("ABCDEF"), 400))
    effect = rng.normal(size=6)[city.codes] + rng.normal(0, 0.1, 400)
    scores = np.column_stack([np.zeros(400), effect])
    X = pd.DataFrame({"city": city})
    tree = PolicyTree(1, min_leaf=1).fit(X, scores)
    sums = np.bincount(city.codes, weights=effect)
    assert gain(tree, X, scores) == pytest.approx(sums[sums > 0].sum())
    assert "city in {" in tree.export_text()
    reordered = X.assign(city=X["city"].cat.reorder_categories(list("FEDCBA")))
    assert (tree.predict(reordered) == tree.predict(X)).all()
    with pytest.raises(ColumnError, match="not fitted on"):
        tree.predict(pd.DataFrame({"city": pd.Categorical(["Z"])}))


def test_levels_of_several_arms_are_ordered_by_where_their_means_differ_most():
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(4), 50)
    place = np.array([3.0, 0.0, 2.0, 1.0])[codes]
    column = level_column(codes, np.column_stack([place, 0.1 * place]) + rng.normal(0, 0.01, (200, 2)))
    assert column.levels.tolist() == [1, 3, 2, 0]
    with_missing = level_column(np.where(codes == 3, -1, codes), place[:, None])
    assert with_missing.levels.tolist() == [1, 2, 0]
    assert (with_missing.codes[codes == 3] == 3).all()


def test_missing_values_and_unknown_levels_have_a_side():
    X = pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0, NAN, NAN] * 10})
    scores = np.column_stack([np.zeros(60), np.tile([-1.0, -1.0, 1.0, 1.0, -2.0, -2.0], 10)])
    tree = PolicyTree(1).fit(X, scores)
    assert "x ≤ 2.5 or missing" in tree.export_text()
    assert tree.predict(pd.DataFrame({"x": [NAN, 3.0]})).tolist() == [0, 1]
    known = PolicyTree(1).fit(X, np.column_stack([np.zeros(60), np.where(X["x"].isna(), -1.0, 1.0)]))
    assert "x is known" in known.export_text()
    assert known.predict(X).tolist() == X["x"].notna().astype(int).tolist()
    kinds = pd.DataFrame({"c": pd.Categorical(list("aabbbb"), categories=list("abz"))})
    by_kind = PolicyTree(1, min_leaf=1).fit(kinds, np.column_stack([np.zeros(6), [1.0, 1, -1, -1, -1, -1]]))
    assert by_kind.predict(pd.DataFrame({"c": pd.Categorical(["z"], categories=list("abz"))})).tolist() == [0]


def test_grid_of_quantiles():
    column = number_column(np.arange(1000.0), 3)
    assert column.cuts.tolist() == [249.5, 499.5, 749.5]
    assert np.bincount(column.codes).tolist() == [250, 250, 250, 250]
    assert spread_cuts(np.array([1, 1, 1, 1]), 3).tolist() == [0, 1, 2]


def test_cost_and_value_move_the_cut():
    x = np.linspace(0, 1, 1001)
    scores = np.column_stack([np.zeros(1001), x])
    tree = PolicyTree(1, cost=2.0, value=4.0).fit(x[:, None], scores)
    assert tree.predict([[0.49], [0.51]]).tolist() == [0, 1]
    dear = PolicyTree(2, cost=2.0).fit(x[:, None], scores)
    assert dear.tree_.leaf
    assert "0 (100.0% of the training rows)" in dear.export_text()
    three = np.column_stack([np.zeros(1001), x, x + 0.1])
    chosen = PolicyTree(1, cost={1: 0.0, 2: 0.2}).fit(x[:, None], three)
    assert set(chosen.predict(x[:, None])) <= {0, 1}


def test_weights_are_copies_and_zero_weights_nothing():
    rng = np.random.default_rng(4)
    X, scores = rng.integers(0, 5, (80, 2)).astype(float), rng.normal(size=(80, 2))
    weight = rng.integers(0, 4, 80)
    one = PolicyTree(2, min_leaf=1).fit(X, scores, sample_weight=weight)
    two = PolicyTree(2, min_leaf=1).fit(np.repeat(X, weight, axis=0), np.repeat(scores, weight, axis=0))
    assert one.tree_ == two.tree_


def test_labels_nuisances_and_scikit_learns_manners():
    rng = np.random.default_rng(5)
    X = pd.DataFrame({"x": rng.uniform(-1, 1, 900), "z": rng.normal(size=900)})
    arm = np.array(["none", "mail"])[rng.integers(0, 2, 900)]
    y = X["x"] * (arm == "mail") + 0.3 * rng.normal(size=900)
    nuisance = fit_nuisances(
        X, y, treatment=arm, control="none", propensity=0.5, outcome_model=LinearRegression(),
        groups=np.arange(900) // 3,
    )  # fmt: skip
    tree = clone(PolicyTree(1)).fit(X, nuisance)
    assert tree.labels_ == ("none", "mail")
    assert set(tree.predict(X)) == {"none", "mail"}
    assert tree.feature_names_in_.tolist() == ["x", "z"]
    same = PolicyTree(1).fit(X, nuisance.scores)
    assert same.tree_ == tree.tree_
    crossed = tree.cross_evaluate(X, nuisance)
    assert crossed.evaluated == "cross-validated"
    assert "clustered by 300" in crossed.method
    assert crossed.gain_pvalue[0] < 1e-6
    assert np.isnan(crossed.node_ci_low).all()
    named = pd.DataFrame(nuisance.scores, columns=["none", "mail"])
    assert PolicyTree(1).fit(X, named).labels_ == ("none", "mail")
    with pytest.raises(NotFittedError):
        PolicyTree().predict(X)
    with pytest.raises(NotFittedError):
        PolicyTree().export_text()


@pytest.mark.parametrize("nuisance", [False, True])
def test_values_are_those_of_policy_value(nuisance):
    rng = np.random.default_rng(6)
    X, t = rng.uniform(-1, 1, (800, 2)), rng.integers(0, 2, 800)
    y = X[:, 0] * t + rng.normal(size=800)
    clusters = np.arange(800) // 2
    options = {"clusters": clusters}
    if nuisance:
        model = LinearRegression()
        options |= {"nuisance": fit_nuisances(X, y, treatment=t, propensity=0.5, outcome_model=model)}
    scores = arm_scores(y, t, **options)
    tree = PolicyTree(1, cost=0.1).fit(rng.uniform(-1, 1, (50, 2)), rng.normal(size=(50, 2)))
    tree.labels_ = (0, 1)
    found = tree.evaluate(X, scores)
    policy = tree.predict(X)
    for k, base in enumerate((0, 1)):
        expected = policy_value(y - 0.1 * 0, policy, t, baseline=base, **options)
        cost = 0.1 * (policy.mean() - base)
        assert found.gain[k] == pytest.approx(expected.difference - cost)
    free = tree.set_params(cost=None).evaluate(X, scores)
    expected = policy_value(y, policy, t, baseline=0, **options)
    for ours, theirs in (
        (free.value, expected.estimate), (free.std_error, expected.std_error), (free.gain[0], expected.difference),
        (free.gain_std_error[0], expected.difference_std_error), (free.gain_pvalue[0], expected.difference_pvalue),
    ):  # fmt: skip
        assert ours == pytest.approx(theirs, rel=1e-6)


def test_leaves_show_what_treatment_does_there():
    rng = np.random.default_rng(7)
    x, t = rng.uniform(-1, 1, 2000), rng.integers(0, 2, 2000)
    y = np.sign(x) * t + rng.normal(size=2000)
    scores = arm_scores(y, t, propensity=0.5)
    tree = PolicyTree(1).fit(x[:1000, None], scores.table()[:1000])
    held = arm_scores(y[1000:], t[1000:], propensity=0.5)
    found = tree.evaluate(x[1000:, None], held)
    assert found.node_rule[0].startswith("x0 ≤ ")
    assert found.children(0) == [1, 2]
    assert found.node_arm[1:].tolist() == ["0", "1"]
    assert found.node_compared.tolist() == ["1", "1", "1"]
    for k, side in ((1, x[1000:] <= tree.tree_.cut), (2, x[1000:] > tree.tree_.cut)):
        a, b = y[1000:][side & (t[1000:] == 1)], y[1000:][side & (t[1000:] == 0)]
        error = stats.ttest_ind(a, b, equal_var=False)
        assert found.node_gain[k] == pytest.approx(a.mean() - b.mean())
        half = stats.norm.isf(0.025) * (a.mean() - b.mean()) / error.statistic
        assert found.node_ci_high[k] - found.node_gain[k] == pytest.approx(half)
    assert found.node_n.tolist() == [1000, (x[1000:] <= tree.tree_.cut).sum(), (x[1000:] > tree.tree_.cut).sum()]
    text = str(found)
    assert "1 would bring" in text
    assert "less 1 for everybody" in text
    own = tree.evaluate(x[:1000, None], scores.table()[:1000])
    assert own.evaluated == "training rows"
    assert np.isnan(own.std_error)
    assert own.value > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"depth": 4}, "depth is 4"), ({"depth": True}, "depth is True"), ({"min_leaf": 1.5}, "min_leaf"),
        ({"min_leaf": 0}, "min_leaf"), ({"n_cuts": 0}, "n_cuts"), ({"n_cuts": "many"}, "n_cuts"),
        ({"search_depth": 0}, "search_depth"), ({"value": 0}, "value is 0"), ({"cost": -1}, "below zero"),
        ({"cost": {"A": 1}}, "cost names"),
    ],
)  # fmt: skip
def test_settings_out_of_range(options, words):
    with pytest.raises(CausalRecError, match=words):
        PolicyTree(**options).fit(np.zeros((10, 1)), np.zeros((10, 2)))


@pytest.mark.parametrize(
    ("X", "scores", "options", "error", "words"),
    [
        (np.zeros((3, 1)), np.zeros((2, 2)), {}, CausalRecError, "X has 3 values"),
        (np.zeros((2, 1)), np.zeros(2), {}, CausalRecError, "a column for each arm"),
        (np.zeros((2, 1)), np.array([[0, NAN], [0, 1]]), {}, CausalRecError, "in 1 of 2 rows"),
        (np.zeros((2, 1)), np.zeros((2, 2)), {"sample_weight": [-1, 1]}, CausalRecError, "negative"),
        (np.zeros((2, 1)), np.zeros((2, 2)), {"sample_weight": ["a", "b"]}, OutcomeError, "number"),
        (pd.DataFrame({"t": ["a", "b"]}), np.zeros((2, 2)), {}, ColumnError, "category"),
        (
            np.zeros((4, 1)),
            arm_scores([0, 1, 0, 1], [0, 0, 1, 1]),
            {"sample_weight": [1] * 4},
            CausalRecError,
            "theirs",
        ),
    ],
)
def test_bad_input(X, scores, options, error, words):
    with pytest.raises(error, match=words):
        PolicyTree(1).fit(X, scores, **options)
    tree = PolicyTree(1).fit(np.zeros((4, 1)), np.zeros((4, 2)))
    with pytest.raises(CausalRecError, match="arms"):
        tree.evaluate(np.zeros((4, 1)), np.zeros((4, 3)))


def _cover(held_out: bool, reps: int, effect: float) -> float:
    inside = 0
    for seed in range(reps):
        rng = np.random.default_rng(seed)
        X, t = rng.uniform(-1, 1, (800, 3)), rng.integers(0, 2, 800)
        y = X[:, 1] + effect * X[:, 0] * t + rng.normal(size=800)
        scores = arm_scores(y, t, propensity=0.5)
        if held_out:
            tree = PolicyTree(1).fit(X[:400], scores.table()[:400])
            found = tree.evaluate(X[400:], arm_scores(y[400:], t[400:], propensity=0.5))
            fresh = np.random.default_rng(10**6 + seed).uniform(-1, 1, (20_000, 3))
            truth = (effect * fresh[:, 0] * tree.predict(fresh)).mean()
        inside += found.gain_ci_low[0] <= truth <= found.gain_ci_high[0]
    return inside / reps


@pytest.mark.slow
@pytest.mark.parametrize("effect", [0.0, 0.5])
def test_held_out_values_cover_the_truth(effect):
    cover = _cover(True, 400, effect)
    assert stats.binom.ppf(0.001, 400, 0.95) / 400 <= cover <= stats.binom.ppf(0.999, 400, 0.95) / 400


@pytest.mark.slow
@pytest.mark.parametrize("effect", [0.0, 0.5])
def test_cross_validated_values_cover_those_of_the_folds_trees(effect):
    inside, reps, n = 0, 200, 400
    for seed in range(reps):
        rng = np.random.default_rng(seed)
        X, t = rng.uniform(-1, 1, (n, 3)), rng.integers(0, 2, n)
        y = X[:, 1] + effect * X[:, 0] * t + rng.normal(size=n)
        table = arm_scores(y, t, propensity=0.5).table()
        tree = PolicyTree(1, n_cuts=20)
        found = tree.cross_evaluate(X, table)
        fresh = np.random.default_rng(10**6 + seed).uniform(-1, 1, (20_000, 3))
        folds = make_folds(np.zeros(n, dtype=np.int64), 5, labels=(0, 1))
        truth = 0.0
        for k in range(5):
            part = PolicyTree(1, n_cuts=20).fit(X[folds != k], table[folds != k])
            truth += (effect * fresh[:, 0] * part.predict(fresh)).mean() * (folds == k).mean()
        inside += found.gain_ci_low[0] <= truth <= found.gain_ci_high[0]
    assert inside / reps >= stats.binom.ppf(0.001, reps, 0.95) / reps
