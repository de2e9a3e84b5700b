"""The bootstrap of learners: by hand, against closed forms, at any number of threads, and its coverage."""

from __future__ import annotations

import threading
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBRegressor

from causalrec.exceptions import CausalRecError, ColumnError, TreatmentError
from causalrec.nuisance import make_folds
from causalrec.uplift import DRLearner, RLearner, SLearner, StackedLearner, TLearner, XLearner
from causalrec.uplift.bootstrap import _resampled, _Spread, bootstrap_intervals, takes_weights

Z = stats.norm.isf(0.025)


def data(n=300, p=3, seed=0, arms=2):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p))
    treatment = rng.integers(0, arms, n)
    y = X[:, 0] + treatment * (1 + X[:, 1]) + (1 + np.abs(X[:, 0])) * rng.normal(size=n)
    return X, y, treatment


def weights(random_state, n_draws, n):
    """Exp(1) weights of mean 1, by the documented stream: a spawned seed for each replicate."""
    for seed in np.random.SeedSequence(random_state).spawn(n_draws):
        weight = np.random.default_rng(seed).standard_exponential(n)
        yield weight * (n / weight.sum())


@pytest.mark.parametrize(
    "learner",
    [TLearner(LinearRegression()), DRLearner(LinearRegression(), n_folds=3), TLearner(XGBRegressor(n_estimators=5))],
    ids=("T", "DR", "boosted"),
)
def test_equals_refits_with_weights_by_hand(learner):
    X, y, treatment = data(200)
    sample_weight = np.random.default_rng(1).uniform(0.5, 2, len(y))
    found = bootstrap_intervals(
        learner, X, y, treatment=treatment, propensity=0.5, sample_weight=sample_weight, n_bootstrap=6,
        confidence_level=0.9, random_state=3, target="prediction",
    )  # fmt: skip
    common = {"treatment": treatment, "propensity": 0.5}
    estimate = learner.fit(X, y, sample_weight=sample_weight, **common).predict(X)
    draws = [learner.fit(X, y, sample_weight=w * sample_weight, **common).predict(X) for w in weights(3, 6, len(y))]
    error = np.std(draws, axis=0, ddof=1)
    np.testing.assert_allclose(found.estimate, estimate, rtol=1e-12)
    np.testing.assert_allclose(found.std_error, error, rtol=1e-9)
    np.testing.assert_allclose(found.ci_low, estimate - stats.norm.isf(0.05) * error, rtol=1e-8)
    assert (found.n_obs, found.confidence_level, found.control, found.arms) == (200, 0.9, "0", ("1",))


def test_groups_are_drawn_whole_and_lie_in_one_fold():
    X, y, treatment = data(240)
    groups = np.repeat(np.arange(80), 3)
    learner = DRLearner(LinearRegression(), n_folds=4)
    options = {"treatment": treatment, "propensity": 0.5, "groups": groups}
    found = bootstrap_intervals(learner, X, y, n_bootstrap=5, random_state=1, X_new=X[:7], **options)
    draws = [learner.fit(X, y, sample_weight=w[groups], **options).predict(X[:7]) for w in weights(1, 5, 80)]
    np.testing.assert_allclose(found.std_error, np.std(draws, axis=0, ddof=1), rtol=1e-9)
    assert "Bayesian bootstrap of groups" in found.method


def test_repeated_rows_as_groups_are_no_new_knowledge():
    X, y, treatment = data(150)
    learner, four = TLearner(LinearRegression()), np.repeat(np.arange(150), 4)
    once = bootstrap_intervals(learner, X, y, treatment=treatment, n_bootstrap=8, X_new=X[:5])
    often = bootstrap_intervals(
        learner, X[four], y[four], treatment=treatment[four], groups=four, n_bootstrap=8, X_new=X[:5]
    )
    np.testing.assert_allclose(often.std_error, once.std_error, rtol=1e-9)


@pytest.mark.slow
def test_error_of_least_squares_is_the_sandwich():
    import statsmodels.api as sm

    X, y, treatment = data(400)
    found = bootstrap_intervals(TLearner(LinearRegression()), X, y, treatment=treatment, n_bootstrap=500)
    new = sm.add_constant(X)
    variance = np.zeros(len(X))
    for arm in (0, 1):
        rows = treatment == arm
        fit = sm.OLS(y[rows], sm.add_constant(X[rows])).fit(cov_type="HC0")
        variance += np.einsum("ij,jk,ik->i", new, fit.cov_params(), new)
    ratio = found.std_error / np.sqrt(variance)
    # Of 500 draws the deviation is within 4 / sqrt(1000) of its expectation; the rest is of second order.
    assert np.abs(ratio - 1).max() < 0.15
    assert abs(ratio.mean() - 1) < 0.06


@pytest.mark.parametrize("learner", [RLearner(LinearRegression()), TLearner(KNeighborsRegressor(20))], ids="RT")
def test_the_same_to_the_bit_at_any_number_of_threads(learner):
    X, y, treatment = data(120)
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    options = {"treatment": treatment, "propensity": 0.5, "n_bootstrap": 9, "random_state": 5, "target": "prediction"}
    one, four, other = (
        bootstrap_intervals(learner, X, y, **options | more) for more in ({}, {"n_jobs": 4}, {"random_state": 6})
    )
    assert one.std_error.tobytes() == four.std_error.tobytes()
    assert one.estimate.tobytes() == four.estimate.tobytes() == other.estimate.tobytes()
    assert (one.std_error != other.std_error).all()
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002
    assert not hasattr(learner, "models_")


def test_three_arms_by_label_at_new_points():
    X, y, codes = data(300, arms=3)
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    arms = np.array(["none", "mail", "app"])[codes]
    learner = TLearner(LinearRegression(), control="none")
    found = bootstrap_intervals(learner, frame, y, treatment=arms, X_new=frame[["c", "a", "b"]].head(4), n_bootstrap=3)
    assert (found.control, found.arms, found.estimate.shape) == ("none", ("app", "mail"), (4, 2))
    np.testing.assert_array_equal(found.estimate, learner.fit(frame, y, treatment=arms).predict(frame.head(4)))
    table = found.to_frame()
    assert table["arm"].tolist() == ["app", "mail"] * 4
    assert table["point"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert table["ci_low"].tolist() == found.ci_low.ravel().tolist()
    assert "effect of mail against none at 4 points" in str(found)
    with pytest.raises(ColumnError, match="missing column"):
        bootstrap_intervals(learner, frame, y, treatment=arms, X_new=frame[["a", "b"]], n_bootstrap=3)


def test_memory_does_not_grow_with_replicates():
    X, y, treatment = data(60)
    new = np.random.default_rng(0).normal(size=(40_000, 3))
    peaks = []
    for n_draws in (5, 60):
        tracemalloc.start()
        bootstrap_intervals(
            TLearner(LinearRegression()), X, y, treatment=treatment, X_new=new, n_bootstrap=n_draws, n_jobs=2
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 10 * new.nbytes / 3  # keeping all would take 55 columns more


@pytest.mark.parametrize("n_jobs", [1, 3])
def test_progress_and_interruption(n_jobs):
    X, y, treatment = data(80)
    seen, threads = [], threading.active_count()
    run = {"treatment": treatment, "n_bootstrap": 30, "n_jobs": n_jobs}
    bootstrap_intervals(
        TLearner(LinearRegression()), X, y, progress=lambda done, total: seen.append((done, total)), **run
    )
    assert seen == [(k, 30) for k in range(1, 31)]

    def stop(done, total):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bootstrap_intervals(TLearner(LinearRegression()), X, y, progress=stop, **run)
    assert threading.active_count() == threads


def test_without_weights_units_are_drawn_and_copies_share_a_fold():
    X, y, treatment = data(100)
    learner = TLearner(KNeighborsRegressor(5))
    found = bootstrap_intervals(learner, X, y, treatment=treatment, n_bootstrap=4, random_state=2, target="prediction")
    draws = []
    for seed in np.random.SeedSequence(2).spawn(4):
        rows = np.sort(np.random.default_rng(seed).integers(0, 100, 100))
        draws.append(learner.fit(X[rows], y[rows], treatment=treatment[rows]).predict(X))
    np.testing.assert_allclose(found.std_error, np.std(draws, axis=0, ddof=1), rtol=1e-9)
    assert "bootstrap of rows with replacement" in found.method

    training = learner._prepared(X, y, treatment, None, None, None, None)[0]
    drawn = _resampled(training, np.random.default_rng(0))
    folds = pd.Series(make_folds(drawn.codes, 5, groups=drawn.groups))
    assert len(np.unique(drawn.groups)) < 80
    assert (folds.groupby(drawn.groups).nunique() == 1).all()


class Nearest(RegressorMixin, BaseEstimator):
    def fit(self, X, y):
        self.X_, self.y_ = X, y
        return self

    def predict(self, X):
        return self.y_[np.abs(X[:, None, :] - self.X_[None]).sum(axis=2).argmin(axis=1)]


def test_who_takes_weights():
    scaled = make_pipeline(StandardScaler(), LinearRegression())
    assert takes_weights(TLearner())
    assert takes_weights(XLearner(LinearRegression(), propensity_model=LogisticRegression()))
    assert not takes_weights(TLearner(scaled))
    assert not takes_weights(DRLearner(LinearRegression(), outcome_model=Nearest()))


@pytest.mark.parametrize(
    ("learner", "named"),
    [
        (TLearner(), "boosted trees"),
        (SLearner(Ridge()), "Ridge"),
        (XLearner(LinearRegression(), outcome_model=KNeighborsRegressor()), "KNeighborsRegressor"),
        (DRLearner(LinearRegression(), effect_model=Ridge()), "Ridge"),
        (TLearner(make_pipeline(StandardScaler(), Ridge())), "Ridge"),
        (StackedLearner({"T": TLearner(LinearRegression())}), "a stack of learners"),
    ],
    ids=lambda x: x if isinstance(x, str) else type(x).__name__,
)
def test_no_interval_for_the_effect_from_a_learner_with_bias(learner, named):
    X, y, treatment = data(60)
    with pytest.raises(CausalRecError, match=rf"come from {named}.*CausalForestDML.*target='prediction'"):
        bootstrap_intervals(learner, X, y, treatment=treatment, propensity=0.5)


def test_unbiased_final_models_are_enough():
    X, y, treatment = data(60)
    scaled = make_pipeline(StandardScaler(), LinearRegression())
    for learner in (DRLearner(LinearRegression(), outcome_model=Ridge()), TLearner(scaled)):
        found = bootstrap_intervals(learner, X, y, treatment=treatment, propensity=0.5, n_bootstrap=2)
        assert found.covers == "the effect, as far as the learner's model can express it"
    stack = StackedLearner({"T": TLearner(LinearRegression())}, outcome_model=LinearRegression())
    one, two = (
        bootstrap_intervals(
            stack, X, y, treatment=treatment, propensity=0.5, n_bootstrap=4, target="prediction", n_jobs=jobs
        )
        for jobs in (1, 2)
    )
    assert one.std_error.tobytes() == two.std_error.tobytes()
    assert "prediction" not in one.covers
    assert one.covers.startswith("what the learner predicts on average")


@pytest.mark.filterwarnings("error")
def test_what_cannot_be_done_is_named():
    X, y, treatment = data(60)
    learner = TLearner(LinearRegression())
    for changed, error, words in (
        ({"learner": LinearRegression()}, CausalRecError, "expected an uplift learner"),
        ({"n_bootstrap": 1}, CausalRecError, "n_bootstrap is 1"),
        ({"n_bootstrap": 10.0}, CausalRecError, "whole number"),
        ({"n_jobs": 0}, CausalRecError, "n_jobs is 0"),
        ({"confidence_level": 95}, CausalRecError, "confidence_level"),
        ({"target": "truth"}, CausalRecError, "target is 'truth'"),
        ({"treatment": np.zeros(60)}, TreatmentError, "two arms"),
    ):
        with pytest.raises(error, match=words):
            bootstrap_intervals(**{"learner": learner, "X": X, "y": y, "treatment": treatment} | changed)
    tiny = np.r_[1, 1, np.zeros(58, dtype=int)]
    with pytest.raises(TreatmentError, match="arm 1 is so small"):
        bootstrap_intervals(TLearner(KNeighborsRegressor(1)), X, y, treatment=tiny, target="prediction")
    with pytest.raises(CausalRecError, match="bootstrap_intervals"):
        learner.fit(X, y, treatment=treatment).predict_interval(X)


def test_running_moments():
    values = np.random.default_rng(0).normal(loc=1e6, size=(50, 4))
    spread = _Spread()
    for row in values:
        spread.add(row)
    np.testing.assert_allclose(spread.mean, values.mean(axis=0), rtol=1e-15)
    np.testing.assert_allclose(spread.deviation, values.std(axis=0, ddof=1), rtol=1e-9)


def simulated(learner, n, runs, effect, points, *, known=False, **options):
    """Estimates and errors at some points over independent data sets, each of shape (runs, m)."""
    estimates, errors = [], []
    for run in range(runs):
        rng = np.random.default_rng([3, run])
        X = rng.normal(size=(n, 3))
        propensity = expit(0.6 * X[:, 0])
        treatment = (rng.random(n) < propensity).astype(int)
        y = X[:, 0] + treatment * effect(X) + rng.normal(size=n)
        found = bootstrap_intervals(
            learner, X, y, treatment=treatment, X_new=points, propensity=propensity if known else None,
            random_state=run, **options,
        )  # fmt: skip
        estimates.append(found.estimate)
        errors.append(found.std_error)
    return np.array(estimates), np.array(errors)


def share_covered(estimates, errors, values):
    return float((np.abs(estimates - values) <= Z * errors).mean())


def bounds(runs, level=0.95):
    """Where the share of intervals that hold lies but for one time in a thousand, were points one and the same."""
    return stats.binom.ppf([5e-4, 1 - 5e-4], runs, level) / runs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("learner", "effect"),
    [
        (TLearner(LinearRegression()), lambda X: 1 + X[:, 1]),
        (SLearner(LinearRegression()), lambda X: np.ones(len(X))),
        (DRLearner(LinearRegression(), n_folds=3), lambda X: 1 + X[:, 1]),
    ],
    ids=("T", "S", "DR"),
)
def test_effects_that_the_model_can_express_are_covered(learner, effect):
    points = np.random.default_rng(0).normal(size=(10, 3))
    known = isinstance(learner, DRLearner)
    runs, draws = 80, 50
    found = simulated(learner, 400, runs, effect, points, known=known, n_bootstrap=draws)
    # A normal quantile with the deviation of 50 draws covers as often as |t| with 49 degrees of freedom is below it.
    low, high = bounds(runs, 1 - 2 * stats.t.sf(Z, draws - 1))
    assert low <= share_covered(*found, effect(points)) <= high


@pytest.mark.slow
def test_a_shrunken_model_covers_its_prediction_and_not_the_effect():
    points = np.random.default_rng(0).normal(size=(10, 3))
    runs = 80
    estimates, errors = simulated(
        TLearner(Ridge(alpha=200.0)), 400, runs, lambda X: 1 + X[:, 1], points, n_bootstrap=50, target="prediction"
    )
    low, high = bounds(runs, 1 - 2 * stats.t.sf(Z, 49))
    assert low <= share_covered(estimates, errors, estimates.mean(axis=0)) <= high
    assert share_covered(estimates, errors, 1 + points[:, 1]) < 0.75
