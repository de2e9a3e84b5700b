"""Learners compared without the truth, and stacked: brute force, paired tests, and the right one found."""

from __future__ import annotations

import itertools
import pickle
from dataclasses import replace
from typing import Any, Self

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from statsmodels.regression.linear_model import OLS, WLS
from statsmodels.tools.tools import add_constant

from causalrec.exceptions import CausalRecError
from causalrec.nuisance import Nuisances, dr_loss, fit_nuisances, r_loss
from causalrec.results import dump_results, load_results
from causalrec.uplift import (
    DRLearner,
    RLearner,
    SLearner,
    StackedLearner,
    TLearner,
    XLearner,
    compare_effects,
    compare_learners,
    comparison,
    sequential_effects,
)
from causalrec.uplift.comparison import CONSTANT, compare_losses, constant_effects, treatment_residuals
from causalrec.uplift.heterogeneity import Sample
from causalrec.uplift.stacking import combine_effects, stack_effects


class Oracle(BaseEstimator):
    """Predicts columns of X times a factor, whatever it is fitted on; it counts its fits."""

    fits = 0

    def __init__(self, columns: tuple[int, ...] = (0,), factor: float = 1.0, control: Any = None) -> None:
        self.columns = columns
        self.factor = factor
        self.control = control

    def fit(self, X: Any, y: Any, *, treatment: Any, nuisance: Any = None) -> Self:
        type(self).fits += 1
        return self

    def predict(self, X: Any) -> np.ndarray:
        found = self.factor * np.asarray(X)[:, list(self.columns)]
        return found[:, 0] if found.shape[1] == 1 else found

    def fit_predict(self, X: Any, y: Any, *, treatment: Any, nuisance: Any = None) -> np.ndarray:
        return self.predict(X)


def simulate(
    n: int = 800, arms: int = 2, seed: int = 0, **options: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Nuisances]:
    """Effects (a + 1)(1 + x_a) of arm a + 1, under confounding by x_0; nuisances by linear models."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4))
    odds = np.column_stack([np.ones(n), *(np.exp(0.5 * X[:, 0]) for _ in range(arms - 1))])
    t = (rng.random((n, 1)) > np.cumsum(odds / odds.sum(axis=1, keepdims=True), axis=1)).sum(axis=1)
    tau = np.column_stack([(a + 1) * (1 + X[:, a]) for a in range(arms - 1)])
    y = X[:, 0] + np.where(t > 0, tau[np.arange(n), np.maximum(t - 1, 0)], 0.0) + rng.normal(size=n)
    nuisance = fit_nuisances(X, y, treatment=t, control=0, outcome_model=LinearRegression(),
                             propensity_model=LogisticRegression())  # fmt: skip
    return X, y, t, nuisance


X, Y, T, NUISANCE = simulate()
N = len(Y)
X3, Y3, T3, NUISANCE3 = simulate(1_200, arms=3, seed=1)
WEIGHT = np.random.default_rng(3).uniform(0.3, 2.0, N)
USERS = np.random.default_rng(4).integers(0, 90, N)


def close(found: Any, expected: Any, rtol: float = 1e-9) -> None:
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-11)


def parts(nuisance: Nuisances) -> tuple[np.ndarray, np.ndarray]:
    return nuisance.y - nuisance.mean_outcome, treatment_residuals(nuisance.codes, nuisance.propensity)


def lowest_by_brute_force(effects: np.ndarray, residual: np.ndarray, moved: np.ndarray, weight: np.ndarray) -> Any:
    """Least squares on every subset of the learners; the best of those without a negative weight."""
    n, arms, m = effects.shape
    free = np.column_stack([np.ones(n), moved])
    columns = (moved[:, :, None] * effects).reshape(n, arms * m)
    best = (np.inf, None, None)
    for size in range(arms * m + 1):
        for chosen in itertools.combinations(range(arms * m), size):
            fit = WLS(residual, np.column_stack([free, columns[:, chosen]]), weights=weight).fit()
            found = np.zeros(arms * m)
            found[list(chosen)] = fit.params[1 + arms :]
            loss = weight @ fit.resid**2
            if (found >= 0).all() and loss < best[0] - 1e-9:
                best = (loss, fit.params[1 : 1 + arms], found.reshape(arms, m).T)
    return best


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("arms", [1, 2])
def test_weights_by_brute_force(seed: int, arms: int) -> None:
    rng = np.random.default_rng(seed)
    effects, moved = rng.normal(size=(120, arms, 3)), rng.uniform(-1, 1, (120, arms))
    signal = (moved[:, :, None] * effects).sum(axis=1) @ [1.0, -0.5, 0.1]
    residual, weight = signal + 0.3 * moved[:, 0] + rng.normal(size=120) + 0.2, rng.uniform(0.2, 2, 120)
    constants, weights = stack_effects(effects, residual, moved, weight)
    _, c, w = lowest_by_brute_force(effects, residual, moved, weight)
    close(constants, c)
    close(weights, w)
    assert (weights >= 0).all()
    assert (weights == 0).any()


def test_the_right_learner_gets_all_the_weight_in_the_right_measure() -> None:
    learners = {"right": Oracle((0,)), "twice": Oracle((1,), 2.0), "noise": Oracle((2,)), "against": Oracle((0,), -1.0)}
    stack = StackedLearner(learners).fit(X, Y, treatment=T, nuisance=NUISANCE)
    assert stack.weights_.shape == (4, 1)
    assert stack.weights_[0, 0] == pytest.approx(1.0, abs=0.15)
    assert (stack.weights_[1:] < 0.1).all()
    assert stack.constant_[0] == pytest.approx(1.0, abs=0.25)
    doubled = StackedLearner({"exaggerates": Oracle((0,), 2.0)}).fit(X, Y, treatment=T, nuisance=NUISANCE)
    alone = StackedLearner({"right": Oracle((0,))}).fit(X, Y, treatment=T, nuisance=NUISANCE)
    close(doubled.weights_, alone.weights_ / 2)
    close(doubled.predict(X), alone.predict(X))


def test_several_arms_have_weights_of_their_own() -> None:
    learners = {"first": Oracle((0, 2)), "second": Oracle((3, 1)), "noise": Oracle((2, 3))}
    stack = StackedLearner(learners).fit(X3, Y3, treatment=T3, nuisance=NUISANCE3)
    assert stack.weights_.shape == (3, 2)
    close(stack.weights_[[0, 1], [0, 1]], [1.0, 2.0], rtol=0.15)
    assert max(stack.weights_[1, 0], stack.weights_[0, 1], *stack.weights_[2]) < 0.15
    found = stack.predict(X3)
    assert found.shape == (1_200, 2)
    close(found[:, 0], stack.constant_[0] + stack.weights_[:, 0] @ X3[:, [0, 3, 2]].T)
    assert stack.fit_predict(X3, Y3, treatment=T3, nuisance=NUISANCE3).shape == (1_200, 2)


def test_only_learners_with_weight_are_fitted_on_all_rows() -> None:
    Oracle.fits = 0
    stack = StackedLearner({"right": Oracle((0,)), "against": Oracle((0,), -1.0)})
    stack.fit(X, Y, treatment=T, nuisance=NUISANCE)
    assert list(stack.models_) == ["right"]
    assert Oracle.fits == 1


def test_learners_that_help_nothing_leave_a_constant_effect() -> None:
    stack = StackedLearner({"constant": SLearner(LinearRegression()), "against": Oracle((0,), -1.0)})
    stack.fit(X, Y, treatment=T, nuisance=NUISANCE)
    assert not stack.weights_.any()
    assert stack.models_ == {}
    residual, moved = parts(NUISANCE)
    line = OLS(residual, add_constant(moved)).fit()
    close(stack.predict(X[:3]), np.full(3, line.params[1]))
    with pytest.raises(AttributeError, match="no learner has a weight"):
        _ = stack.feature_importances_


def test_out_of_fold_effects_take_the_weights_of_the_other_folds() -> None:
    learners = {"X": XLearner(LinearRegression()), "R": RLearner(LinearRegression())}
    found = StackedLearner(learners).fit_predict(X, Y, treatment=T, nuisance=NUISANCE)
    table = np.stack([each.fit_predict(X, Y, treatment=T, nuisance=NUISANCE) for each in learners.values()], axis=1)
    residual, moved = parts(NUISANCE)
    for k in range(5):
        rest, held = NUISANCE.fold != k, NUISANCE.fold == k
        c, w = stack_effects(table[rest][:, None], residual[rest], moved[rest])
        close(found[held], combine_effects(table[held][:, None], c, w)[:, 0])


def test_sample_weights_of_two_are_two_copies() -> None:
    twice = np.r_[np.arange(N), np.arange(N)]
    residual, moved = parts(NUISANCE)
    effects = X[:, None, :3]
    whole = np.where(X[:, 3] > 0, 2.0, 1.0)
    rows = np.repeat(np.arange(N), whole.astype(int))
    for found, expected in zip(
        stack_effects(effects[rows], residual[rows], moved[rows]), stack_effects(effects, residual, moved, whole),
        strict=True,
    ):  # fmt: skip
        close(found, expected)
    double = StackedLearner({"a": Oracle((0,)), "b": Oracle((1,))})
    one = clone(double).fit(X, Y, treatment=T, nuisance=replace(NUISANCE, sample_weight=np.full(N, 2.0)))
    two = clone(double).fit(X[twice], Y[twice], treatment=T[twice], nuisance=NUISANCE.take(twice))
    close(one.weights_, two.weights_)
    order = np.random.default_rng(0).permutation(N)
    moved_rows = clone(double).fit(X[order], Y[order], treatment=T[order], nuisance=NUISANCE.take(order))
    close(moved_rows.weights_, one.weights_)


def test_stacked_learner_is_a_scikit_learn_citizen() -> None:
    stack = StackedLearner(
        {"T": TLearner(LinearRegression()), "X": XLearner(LinearRegression())}, outcome_model=LinearRegression(),
        control="none",
    )  # fmt: skip
    assert stack.get_params()["X__base_learner"] is stack.learners["X"].base_learner
    assert stack.get_params()["T"] is stack.learners["T"]
    copy = clone(stack).set_params(X__random_state=5, T=SLearner(LinearRegression()), n_folds=3)
    assert (copy.learners["X"].random_state, copy.n_folds, type(copy.learners["T"])) == (5, 3, SLearner)
    assert (stack.learners["X"].random_state, type(stack.learners["T"])) == (0, TLearner)
    with pytest.raises(ValueError, match="depth"):
        copy.set_params(depth=3)
    with pytest.raises(CausalRecError, match="'n_folds'"):
        StackedLearner({"n_folds": TLearner()}).fit(X, Y, treatment=T)
    with pytest.raises(NotFittedError):
        stack.predict(X)
    frame = pd.DataFrame(X, columns=list("abcd"))
    labels = np.where(T == 1, "mail", "none")
    stack.fit(frame, Y, treatment=labels, propensity=0.5)
    assert stack.labels_ == ("none", "mail")
    assert stack.feature_names_in_.tolist() == list("abcd")
    assert "StackedLearner" in repr(stack)
    again = pickle.loads(pickle.dumps(stack))
    np.testing.assert_array_equal(again.predict(frame[["d", "c", "b", "a"]]), stack.predict(frame))
    pairs = StackedLearner(list(stack.learners.items()), outcome_model=LinearRegression(), control="none")
    np.testing.assert_array_equal(pairs.fit(frame, Y, treatment=labels, propensity=0.5).predict(frame),
                                  stack.predict(frame))  # fmt: skip


def test_importances_are_averaged_by_weight() -> None:
    from sklearn.tree import DecisionTreeRegressor

    tree = DecisionTreeRegressor(max_depth=3, min_samples_leaf=40, random_state=0)
    stack = StackedLearner({"X": XLearner(tree), "DR": DRLearner(tree)}).fit(X, Y, treatment=T, nuisance=NUISANCE)
    total = sum(
        w * stack.models_[name].feature_importances_ / stack.models_[name].feature_importances_.sum()
        for name, w in zip(("X", "DR"), stack.weights_[:, 0], strict=True) if name in stack.models_
    )  # fmt: skip
    close(stack.feature_importances_, total / stack.weights_.sum())
    assert stack.feature_importances_.argmax() == 0


def test_nuisances_are_fitted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    learners = {"T": TLearner(), "X": XLearner(LinearRegression()), "DR": DRLearner(LinearRegression())}
    calls = []
    real = comparison.fit_nuisances
    monkeypatch.setattr(
        comparison, "fit_nuisances",
        lambda *given, **options: calls.append(1) or real(*given, **options, outcome_model=LinearRegression()),
    )  # fmt: skip
    found = compare_learners(learners, X, Y, treatment=T, propensity=0.5)
    assert calls == [1]
    assert sorted(found.learner) == sorted([*learners, CONSTANT])
    compare_learners(learners, X, Y, treatment=T, nuisance=NUISANCE)
    assert calls == [1]


def test_losses_and_paired_differences() -> None:
    effects = {"right": 1 + X[:, 0], "noise": 1 + X[:, 2]}
    found = compare_effects(effects, NUISANCE, predictions="of one model", confidence_level=0.9)
    assert found.learner.tolist() == ["right", CONSTANT, "noise"]
    residual, moved = parts(NUISANCE)
    effects[CONSTANT] = constant_effects(residual, moved, NUISANCE.fold, np.ones(N))[:, 0]
    scores = NUISANCE.effect_scores()[:, 0]
    for loss, total, rows in (
        ("r", r_loss, lambda uplift: (residual - moved[:, 0] * uplift) ** 2),
        ("dr", dr_loss, lambda uplift: (scores - uplift) ** 2),
    ):
        for k, name in enumerate(found.learner):
            close(getattr(found, f"{loss}_loss")[k], float(total(effects[name], NUISANCE)))
            if name == "right":
                continue
            test = stats.ttest_rel(rows(effects[name]), rows(effects["right"]))
            interval = test.confidence_interval(0.95)  # two others: 90% of both
            close(getattr(found, f"{loss}_pvalue")[k], min(1.0, 2 * test.pvalue))
            close(getattr(found, f"{loss}_ci_low")[k], interval.low)
            close(getattr(found, f"{loss}_ci_high")[k], interval.high)
    assert (found.best, found.n_close, found.close) == ("right", 1, ("right",))
    assert found.effects[0].estimate == NUISANCE.average_effect().estimate


def test_the_constant_effect_is_out_of_fold() -> None:
    residual, moved = parts(NUISANCE3)
    found = constant_effects(residual, moved, NUISANCE3.fold, np.ones(1_200))
    for k in range(5):
        rest = NUISANCE3.fold != k
        close(found[NUISANCE3.fold == k], OLS(residual[rest], moved[rest]).fit().params[None] + np.zeros((240, 1)))


def test_differences_by_cluster_and_weight_are_statsmodels() -> None:
    weighted = replace(NUISANCE, sample_weight=WEIGHT, groups=USERS)
    found = compare_effects({"a": 1 + X[:, 0], "b": 1 + X[:, 2]}, weighted, predictions="in sequence")
    residual, moved = parts(weighted)
    gap = (residual - moved[:, 0] * (1 + X[:, 2])) ** 2 - (residual - moved[:, 0] * (1 + X[:, 0])) ** 2
    fit = WLS(gap, np.ones(N), weights=WEIGHT).fit(cov_type="cluster", cov_kwds={"groups": USERS})
    place = found.learner.tolist().index("b")
    close((found.r_difference[place], found.r_std_error[place]), (fit.params[0], fit.bse[0]))
    assert "clustered by" in found.method
    assert "clustered by" in found.effects[0].method


def test_out_of_fold_variances_are_raised_for_five_folds_by_nadeau_and_bengios_factor() -> None:
    effects = {"right": 1 + X[:, 0], "noise": 1 + X[:, 2]}
    plain, raised = (compare_effects(effects, NUISANCE, predictions=name) for name in ("in sequence", "out of fold"))
    close(raised.r_std_error[1:], 1.5 * plain.r_std_error[1:])
    close(raised.dr_ci_high[1:] - raised.dr_difference[1:], 1.5 * (plain.dr_ci_high[1:] - plain.dr_difference[1:]))
    close(raised.r_difference, plain.r_difference)
    with pytest.raises(CausalRecError, match="'elsewhere'"):
        compare_effects(effects, NUISANCE, predictions="elsewhere")  # type: ignore[arg-type]


def test_three_arms_are_compared_by_the_joint_loss() -> None:
    right = np.column_stack([1 + X3[:, 0], 2 + 2 * X3[:, 1]])
    found = compare_effects({"right": right, "one arm": right * [1, 0]}, NUISANCE3)
    assert found.best == "right"
    assert len(found.effects) == 2
    close(found.r_loss[0], float(r_loss(right, NUISANCE3)))
    close(found.dr_loss[0], float(dr_loss(right, NUISANCE3)))


def test_what_cannot_be_told_apart_is_said() -> None:
    rng = np.random.default_rng(0)
    effects = {"a": 1 + X[:, 0], "b": 1 + X[:, 0] + 0.02 * rng.normal(size=N), "same": 1 + X[:, 0], "c": -X[:, 0]}
    found = compare_effects(effects, NUISANCE)
    assert set(found.close) == {"a", "b", "same"}
    assert found.n_close == 3
    text = str(found)
    assert f"Lowest R-loss: {found.best}; cannot be told from it: " in text
    assert "2 are worse" in text
    assert "no other comes close" in str(compare_effects({"a": 1 + X[:, 0]}, NUISANCE))
    loaded = load_results(dump_results({"x": found}))["x"]
    pd.testing.assert_frame_equal(loaded.to_frame(), found.to_frame())
    assert str(loaded) == text


def test_a_learner_with_a_model_of_its_own_is_fitted_with_it() -> None:
    learners = {"linear": TLearner(LinearRegression()), "shared": TLearner()}
    found = compare_learners(learners, X, Y, treatment=T, nuisance=NUISANCE)
    own = TLearner(LinearRegression()).fit_predict(X, Y, treatment=T)
    place = found.learner.tolist().index("linear")
    close(found.r_loss[place], float(r_loss(own, NUISANCE)))
    stack = StackedLearner(learners).fit(X, Y, treatment=T, nuisance=NUISANCE)
    assert np.isfinite(stack.predict(X)).all()


def test_a_stack_can_be_compared_with_its_learners() -> None:
    learners = {"X": XLearner(LinearRegression()), "S": SLearner(LinearRegression())}
    found = compare_learners({**learners, "both": StackedLearner(learners)}, X, Y, treatment=T, nuisance=NUISANCE)
    assert {"X", "both"} <= set(found.close)
    assert "S" not in found.close


def test_effects_in_sequence_never_see_their_fold_or_later_ones() -> None:
    weighted = replace(NUISANCE, sample_weight=WEIGHT, groups=USERS)
    learner = RLearner(LinearRegression(), propensity_model=LogisticRegression(), n_folds=3)
    rows, found = sequential_effects(learner, X, Y, treatment=T, nuisance=weighted)
    assert rows.tolist() == np.flatnonzero(NUISANCE.fold > 0).tolist()
    for k in (1, 4):
        past, now = NUISANCE.fold < k, NUISANCE.fold == k
        own = clone(learner).fit(X[past], Y[past], treatment=T[past], sample_weight=WEIGHT[past], groups=USERS[past])
        close(found[np.isin(rows, np.flatnonzero(now))], own.predict(X[now]))
    several = sequential_effects(TLearner(LinearRegression()), X3, Y3, treatment=T3, nuisance=NUISANCE3)[1]
    assert several.shape == (960, 2)
    frame, labels = pd.DataFrame(X, columns=list("abcd")), np.where(T == 1, "mail", "none")
    known = fit_nuisances(frame, Y, treatment=labels, control="none", propensity=0.5, outcome_model=LinearRegression())
    assert len(sequential_effects(learner, frame, Y, treatment=labels, nuisance=known)[1]) == 640
    with pytest.raises(CausalRecError, match="other data"):
        sequential_effects(learner, X, Y + 1, treatment=T, nuisance=NUISANCE)
    with pytest.raises(CausalRecError, match="fit_predict"):
        sequential_effects(LinearRegression(), X, Y, treatment=T, nuisance=NUISANCE)


@pytest.mark.parametrize(
    ("learners", "words"),
    [
        ({}, ["no learners"]),
        ({"a__b": TLearner()}, ["'a__b'"]),
        ({CONSTANT: TLearner()}, [CONSTANT]),
        ({1: TLearner()}, ["1", "text"]),
        ([("a", TLearner()), ("a", TLearner())], ["'a'", "once"]),
        ({"a": TLearner}, ["'a'", "fit_predict"]),
        ({"a": LinearRegression()}, ["'a'", "fit_predict"]),
        ([TLearner()], ["mapping"]),
        (None, ["mapping"]),
    ],
)
def test_what_cannot_be_compared_is_named(learners: Any, words: list[str]) -> None:
    for call in (
        lambda: compare_learners(learners, X, Y, treatment=T, nuisance=NUISANCE),
        lambda: StackedLearner(learners).fit(X, Y, treatment=T, nuisance=NUISANCE),
    ):
        with pytest.raises(CausalRecError) as caught:
            call()
        assert all(word in str(caught.value) for word in words), str(caught.value)


def test_effects_of_other_rows_are_refused() -> None:
    with pytest.raises(CausalRecError, match="uplift"):
        compare_effects({"a": X[:9, 0]}, NUISANCE)
    with pytest.raises(CausalRecError, match="no effects"):
        compare_effects({}, NUISANCE)
    with pytest.raises(CausalRecError, match="other data"):
        compare_learners({"T": TLearner()}, X, Y + 1, treatment=T, nuisance=NUISANCE)


@pytest.mark.slow
def test_each_of_equally_good_learners_is_called_worse_no_more_often_than_said() -> None:
    """Three predictions equally far from the truth: each has a p-value below 5% against the lowest in 5% at most."""
    rng, runs = np.random.default_rng(21), 400
    rejected = np.zeros(3)
    for _ in range(runs):
        x, t = rng.normal(size=(500, 4)), rng.integers(0, 2, 500)
        y = t * (1 + x[:, 0]) + rng.normal(size=500)
        nuisance = fit_nuisances(x, y, treatment=t, propensity=0.5, outcome_model=LinearRegression())
        found = compare_effects(
            {str(k): 1 + x[:, 0] + 0.5 * x[:, k] for k in (1, 2, 3)}, nuisance, predictions="of one model"
        )
        pvalue = dict(zip(found.learner, found.r_pvalue, strict=True))
        rejected += [pvalue[str(k)] < 0.05 for k in (1, 2, 3)]
    assert rejected.max() <= stats.binom.ppf(0.9995, runs, 0.05), rejected


@pytest.mark.slow
def test_intervals_of_differences_cover_out_of_fold() -> None:
    """Learners that hardly differ: least squares on 3 covariates against the mean, where effects are 1 for all.

    The truth of each run is the mean, over the folds, of what the fitted models would lose on new rows.
    """
    rng, runs, n = np.random.default_rng(22), 500, 400
    hits = {1.0: 0, 2.25: 0}
    for _ in range(runs):
        x, fold = rng.normal(size=(n, 3)), np.arange(n) % 5
        scores = 1 + 2 * rng.normal(size=n)
        losses, truth = np.empty((n, 2)), 0.0
        for k in range(5):
            past, now = fold != k, fold == k
            model, mean = LinearRegression().fit(x[past], scores[past]), scores[past].mean()
            losses[now] = np.column_stack([scores[now] - model.predict(x[now]), scores[now] - mean]) ** 2
            truth += (model.coef_ @ model.coef_ + (model.intercept_ - 1) ** 2 - (mean - 1) ** 2) / 5
        sample = Sample(np.ones(n, dtype=bool), np.ones(n), None)
        for raised in hits:
            found = compare_losses(losses, sample, 0.95, raised)
            best = int(found.loss.argmin())
            truth_of_other = truth if best == 1 else -truth
            hits[raised] += found.ci_low[1 - best] <= truth_of_other <= found.ci_high[1 - best]
    assert hits[2.25] / runs >= stats.binom.ppf(0.0005, runs, 0.95) / runs, hits
    assert hits[1.0] / runs < 0.9, hits


@pytest.mark.slow
def test_the_stack_is_nearer_to_the_truth_than_the_average_learner_and_near_the_best() -> None:
    errors = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        x, t = rng.normal(size=(1_500, 4)), rng.integers(0, 2, 1_500)
        tau = 1 + x[:, 0]
        y = x[:, 1] ** 2 + t * tau + rng.normal(size=1_500)
        nuisance = fit_nuisances(x, y, treatment=t, propensity=0.5, random_state=seed)
        learners = {"S": SLearner(LinearRegression()), "DR": DRLearner(LinearRegression()), "T": TLearner()}
        fresh = rng.normal(size=(4_000, 4))
        stack = StackedLearner(learners).fit(x, y, treatment=t, nuisance=nuisance)
        rows = [clone(each).fit(x, y, treatment=t, nuisance=nuisance) for each in learners.values()]
        errors.append([np.mean((each.predict(fresh) - 1 - fresh[:, 0]) ** 2) for each in (stack, *rows)])
    assert stack.score(x, y, treatment=t, propensity=0.5) > clone(learners["S"]).fit(x, y, treatment=t).score(
        x, y, treatment=t, propensity=0.5
    )
    mean = np.mean(errors, axis=0)
    assert mean[0] < 1.5 * mean[1:].min(), mean
    assert mean[0] < 0.3 * mean[1:].mean(), mean
