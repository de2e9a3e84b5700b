"""EconML's estimators with our face: the same numbers as EconML itself, and refusals where it would mislead.

Importing econml takes many seconds, so that the tests that need it are slow; the others need no import.
"""

from __future__ import annotations

import doctest
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit
from sklearn.base import clone
from sklearn.ensemble import RandomForestRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import KFold

from causalrec.exceptions import CausalRecError, ColumnError, OutcomeError, TreatmentError
from causalrec.nuisance import fit_nuisances, make_folds
from causalrec.uplift import TLearner, bootstrap_intervals, econml_adapter
from causalrec.uplift._econml import FixedPropensity, quiet
from causalrec.uplift.econml_adapter import EconMLLearner

DML = {"model_y": LinearRegression(), "model_t": LogisticRegression()}
DR = {"model_regression": LinearRegression(), "model_propensity": LogisticRegression()}
META = {"models": LinearRegression()}


def econml(name):
    """An EconML class; its import warns of what is not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from econml import dml, dr, grf, iv, metalearners
        from econml.iv import dml as iv_dml

        assert iv
        return next(getattr(m, name) for m in (dml, metalearners, dr, grf, iv_dml) if hasattr(m, name))


def data(n=300, seed=0, arms=2, p=3):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p))
    treatment = (rng.random(n) < expit(X[:, 0] / 2)).astype(int) if arms == 2 else rng.integers(0, arms, n)
    return X, X[:, 0] + treatment * (1 + X[:, 1]) + rng.normal(size=n), treatment


# Without econml


def test_only_estimators_of_econml_are_taken():
    X, y, treatment = data(20)
    for estimator, words in (
        (LinearRegression(), r"LinearRegression\(\); expected an instance of an EconML estimator"),
        (EconMLLearner, "the class EconMLLearner"),
        (None, "None"),
    ):
        with pytest.raises(CausalRecError, match=words):
            EconMLLearner(estimator).fit(X, y, treatment=treatment)
    with pytest.raises(NotFittedError):
        EconMLLearner(LinearRegression()).predict(X)
    with pytest.raises(NotFittedError):
        EconMLLearner(LinearRegression()).predict_interval(X)
    with pytest.raises(NotFittedError):
        EconMLLearner(LinearRegression()).average_effect()
    assert not hasattr(EconMLLearner(None), "estimator_")


def test_a_fixed_propensity_is_what_it_was_told():
    X = np.array([[7.0, 0.3], [8.0, 0.6]])
    rows = FixedPropensity().fit(X, [0, 1])
    np.testing.assert_allclose(rows.predict_proba(X), [[0.7, 0.3], [0.4, 0.6]], rtol=1e-15)
    assert rows.predict(X).tolist() == [0, 1]
    three = FixedPropensity((0.5, 0.3, 0.2), 3)
    assert three.fit(X, [2, 0]).predict_proba(X).round(12).tolist() == [[0.714285714286, 0.285714285714]] * 2
    assert clone(three).fit(np.zeros((3, 1)), [0, 1, 2]).predict_proba(X).tolist() == [[0.5, 0.3, 0.2]] * 2
    table = FixedPropensity(None, 3).fit(np.zeros((3, 1)), [0, 1, 2]).predict_proba(np.array([[9, 0.3, 0.2]]))
    assert table.round(15).tolist() == [[0.5, 0.3, 0.2]]


def test_filters_of_warnings_come_back():
    before = list(warnings.filters)
    with quiet, quiet:
        warnings.warn("sklearn will change", FutureWarning, stacklevel=1)
    assert warnings.filters == before
    with pytest.raises(UserWarning), quiet:
        warnings.warn("of the data", UserWarning, stacklevel=1)


# With econml

slow = pytest.mark.slow
ESTIMATORS = {
    "CausalForestDML": {"n_estimators": 60, "n_jobs": 1, **DML},
    "LinearDML": DML,
    "SparseLinearDML": DML,
    "NonParamDML": {"model_final": LinearRegression(), **DML},
    "KernelDML": DML,
    "DRLearner": DR,
    "LinearDRLearner": DR,
    "SparseLinearDRLearner": DR,
    "ForestDRLearner": {"n_estimators": 20, "n_jobs": 1, **DR},
    "TLearner": META,
    "SLearner": {"overall_model": LinearRegression()},
    "XLearner": META,
    "DomainAdaptationLearner": {**META, "final_models": LinearRegression()},
}


@slow
@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_same_as_econml_to_the_bit(name):
    X, y, treatment = data(p=6)
    estimator = econml(name)(**ESTIMATORS[name])
    before = pickle.dumps(estimator)
    learner = clone(EconMLLearner(estimator, random_state=7)).fit(X, y, treatment=treatment)
    own = econml(name)(**ESTIMATORS[name])
    if hasattr(own, "discrete_treatment"):
        own.discrete_treatment = True
    if hasattr(own, "random_state"):
        own.random_state = 7
    own.fit(y, treatment, X=X)
    effects = own.effect(X, T0=0, T1=1)
    assert learner.predict(X).tobytes() == effects.tobytes()
    assert pickle.loads(pickle.dumps(learner)).predict(X).tobytes() == effects.tobytes()
    assert pickle.dumps(estimator) == before
    if name in ("NonParamDML", "KernelDML") or name in ("TLearner", "SLearner", "XLearner", "DomainAdaptationLearner"):
        with pytest.raises(CausalRecError, match=r"without errors.*CausalForestDML.*bootstrap_intervals"):
            learner.predict_interval(X)
        return
    found = learner.predict_interval(X, confidence_level=0.9)
    inference = own.effect_inference(X, T0=0, T1=1)
    assert found.std_error.tobytes() == inference.stderr.tobytes()
    assert [found.ci_low.tobytes(), found.ci_high.tobytes()] == [x.tobytes() for x in inference.conf_int(alpha=0.1)]
    assert found.method.startswith(f"{name}, ")


@slow
def test_a_causal_forest_without_nuisances_takes_arms_too():
    X, y, treatment = data(arms=3)
    forest = econml("CausalForest")(n_estimators=20, n_jobs=1)
    learner = EconMLLearner(forest, random_state=3, control=0).fit(X, y, treatment=treatment)
    own = econml("CausalForest")(n_estimators=20, n_jobs=1, random_state=3)
    own.fit(X, np.column_stack([treatment == 1, treatment == 2]).astype(float), y)
    assert learner.predict(X).tobytes() == own.predict(X).tobytes()
    found = learner.predict_interval(X)
    low, high = own.predict_interval(X, alpha=1 - 0.95)
    assert (found.ci_low.tobytes(), found.ci_high.tobytes()) == (low.tobytes(), high.tobytes())


@slow
@pytest.mark.parametrize("name", ["LinearDML", "LinearDRLearner", "CausalForestDML", "XLearner", "SLearner"])
def test_three_arms_by_label(name):
    X, y, codes = data(arms=3)
    arms = np.array(["none", "app", "mail"])[codes]
    learner = EconMLLearner(econml(name)(**ESTIMATORS[name]), control="none").fit(X, y, treatment=arms)
    own = econml(name)(**ESTIMATORS[name])
    for setting, value in (("discrete_treatment", True), ("random_state", 0)):
        if hasattr(own, setting):
            setattr(own, setting, value)
    own.fit(y, codes, X=X)
    expected = np.column_stack([own.effect(X, T0=0, T1=1), own.effect(X, T0=0, T1=2)])
    assert learner.labels_ == ("none", "app", "mail")
    np.testing.assert_allclose(learner.predict(X), expected, rtol=1e-9, atol=1e-12)
    turned = EconMLLearner(econml("TLearner")(**META), control="mail").fit(X, y, treatment=arms)
    ours = TLearner(LinearRegression(), control="mail").fit(X, y, treatment=arms)
    assert turned.labels_ == ours.labels_ == ("mail", "app", "none")
    np.testing.assert_allclose(turned.predict(X), ours.predict(X), rtol=1e-9, atol=1e-12)


@slow
def test_out_of_fold_equals_a_loop():
    X, y, treatment = data(150)
    groups = np.arange(150) // 2
    learner = EconMLLearner(econml("LinearDML")(**DML), random_state=4)
    found = learner.fit_predict(X, y, treatment=treatment, groups=groups)
    fold = make_folds(treatment, 5, groups=groups, random_state=4)
    expected = np.empty(150)
    for k in range(5):
        rest = fold != k
        own = econml("LinearDML")(discrete_treatment=True, random_state=4, **DML)
        own.fit(y[rest], treatment[rest], X=X[rest], groups=groups[rest])
        expected[~rest] = own.effect(X[~rest])
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert learner.predict(X).shape == (150,)


@slow
def test_weights_and_frames():
    X, y, treatment = data(200)
    weight = np.random.default_rng(0).integers(1, 4, 200).astype(float)
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    learner = EconMLLearner(econml("LinearDML")(**DML)).fit(frame, y, treatment=treatment, sample_weight=weight)
    own = econml("LinearDML")(discrete_treatment=True, random_state=0, **DML)
    own.fit(y, treatment, X=X, sample_weight=weight)
    assert learner.predict(frame[["c", "a", "b"]]).tobytes() == own.effect(X).tobytes()
    assert learner.feature_names_in_.tolist() == ["a", "b", "c"]
    forest = EconMLLearner(econml("CausalForestDML")(**ESTIMATORS["CausalForestDML"])).fit(X, y, treatment=treatment)
    assert forest.feature_importances_.argmax() == 1
    assert not hasattr(learner, "feature_importances_")


@slow
def test_a_binary_outcome_is_a_probability():
    X, y, treatment = data(300)
    y = (y > 0.5).astype(int)
    settings = {"model_y": LogisticRegression(), "model_t": LogisticRegression()}
    learner = EconMLLearner(econml("LinearDML")(**settings)).fit(X, y, treatment=treatment)
    own = econml("LinearDML")(discrete_treatment=True, discrete_outcome=True, random_state=0, **settings)
    assert learner.predict(X).tobytes() == own.fit(y, treatment, X=X).effect(X).tobytes()
    assert learner.estimator_.discrete_outcome
    assert not EconMLLearner(econml("LinearDML")(**DML)).fit(X, y, treatment=treatment).estimator_.discrete_outcome


@slow
def test_a_known_propensity_is_used():
    X, y, treatment = data(400)
    e = expit(X[:, 0] / 2)
    learner = EconMLLearner(econml("LinearDML")(model_y=LinearRegression())).fit(
        X, y, treatment=treatment, propensity=e
    )
    # By hand: least squares of Robinson's residuals, those of the treatment from the propensity itself.
    own = econml("LinearDML")(
        model_y=LinearRegression(), model_t=FixedPropensity(), discrete_treatment=True, random_state=0
    )
    residual_y, residual_t, Xs, _ = own.fit(y, treatment, X=X, W=e[:, None], cache_values=True).residuals_
    at = [np.flatnonzero((row == X).all(axis=1))[0] for row in Xs]
    np.testing.assert_allclose(np.ravel(residual_t), (treatment - e)[at], rtol=1e-12)
    design = np.column_stack([np.ones(len(Xs)), Xs]) * np.reshape(residual_t, (-1, 1))
    beta = np.linalg.lstsq(design, np.ravel(residual_y))[0]
    np.testing.assert_allclose(learner.predict(X), np.column_stack([np.ones(len(X)), X]) @ beta, rtol=1e-9)
    X3, y3, codes = data(300, arms=3)
    three = EconMLLearner(econml("LinearDRLearner")(model_regression=LinearRegression()), control=0)
    shares = {0: 0.3, 1: 0.3, 2: 0.4}
    same = [three.fit(X3, y3, treatment=codes, propensity=p).predict(X3) for p in (shares, [[0.3, 0.3, 0.4]] * 300)]
    assert same[0].tobytes() == same[1].tobytes()
    assert three.estimator_.model_propensity.shares == (0.3, 0.3, 0.4)


@slow
def test_a_known_propensity_that_cannot_be_used_is_refused():
    X, y, treatment = data(100)
    e = expit(X[:, 0] / 2)
    for name in ("TLearner", "SLearner"):
        with pytest.raises(CausalRecError, match=f"{name} has no place for a known one"):
            EconMLLearner(econml(name)(**ESTIMATORS[name])).fit(X, y, treatment=treatment, propensity=0.5)
    x_learner = EconMLLearner(econml("XLearner")(**META))
    assert x_learner.fit(X, y, treatment=treatment, propensity=0.4).predict(X).shape == (100,)
    with pytest.raises(CausalRecError, match="differs between rows"):
        x_learner.fit(X, y, treatment=treatment, propensity=e)


@slow
def test_seeds_make_unseeded_models_repeatable():
    X, y, treatment = data(120)
    estimator = econml("NonParamDML")(
        model_y=RandomForestRegressor(5), model_t=LogisticRegression(), model_final=RandomForestRegressor(5)
    )
    runs = [
        EconMLLearner(estimator, random_state=s).fit(X, y, treatment=treatment).predict(X).tobytes() for s in (1, 1, 2)
    ]
    assert runs[0] == runs[1] != runs[2]
    assert estimator.model_y.random_state is None


@slow
def test_what_cannot_be_done_is_named():
    X, y, treatment = data(100)
    linear, forest, t = econml("LinearDML"), econml("CausalForestDML"), econml("TLearner")
    frame = pd.DataFrame(X, columns=["a", "b", "c"]).assign(c=pd.Categorical(np.where(X[:, 2] > 0, "x", "y")))
    hole = np.where(np.arange(300).reshape(100, 3) == 4, np.nan, X)
    fit = {"X": X, "y": y, "treatment": treatment}
    for estimator, changed, error, words in (
        (linear(categories=[0, 1]), {}, CausalRecError, "categories"),
        (linear(treatment_featurizer=object()), {}, CausalRecError, "doses"),
        (linear(model_t=LinearRegression()), {}, CausalRecError, "predict_proba"),
        (linear(model_y=LogisticRegression()), {}, OutcomeError, "LogisticRegression"),
        (linear(discrete_outcome=True), {}, OutcomeError, "discrete_outcome=True"),
        (linear(cv=KFold(2), **DML), {"groups": np.arange(100) // 2}, CausalRecError, "Groups were passed"),
        (linear(**DML), {"nuisance": fit_nuisances(X, y, treatment=treatment, outcome_model=LinearRegression(),
                                                   propensity=0.5)}, CausalRecError, "takes none from outside"),
        (linear(**DML), {"X": frame}, ColumnError, "'c' of type category"),
        (forest(**DML), {"X": hole}, CausalRecError, "missing values in 1 of 100 rows"),
        (t(models=LogisticRegression()), {"y": (y > 0) * 1}, CausalRecError, "subtract predicted classes"),
        (t(**META), {"sample_weight": np.ones(100)}, CausalRecError, "takes none"),
        (econml("OrthoIV")(), {}, CausalRecError, "an instrument"),
        (econml("NonParamDML")(**ESTIMATORS["NonParamDML"]), {"treatment": np.arange(100) % 3, "control": 0},
         CausalRecError, "NonParamDML cannot be fitted"),
        (linear(**DML), {"treatment": np.zeros(100)}, TreatmentError, "two arms"),
    ):  # fmt: skip
        options = fit | changed
        learner = EconMLLearner(estimator, control=options.pop("control", None))
        with pytest.raises(error, match=words):
            learner.fit(**options)
    learner = EconMLLearner(linear(**DML)).fit(X, y, treatment=treatment, groups=np.arange(100) // 2)
    with pytest.raises(CausalRecError, match=r"too narrow.*bootstrap_intervals"):
        learner.predict_interval(X)
    with pytest.raises(CausalRecError, match=r"knows no groups.*fit_nuisances"):
        learner.average_effect()
    with pytest.raises(ColumnError, match="2 columns"):
        learner.predict(X[:, :2])


@slow
def test_average_effects():
    X, y, treatment = data(400)
    forest = EconMLLearner(econml("CausalForestDML")(**ESTIMATORS["CausalForestDML"])).fit(X, y, treatment=treatment)
    found, own = forest.average_effect(), forest.estimator_
    assert (found.estimate, found.std_error) == (own.ate__inference().point_estimate[0], own.ate_stderr_[0])
    assert (found.estimand, found.n_obs) == ("ate", 400)
    X3, y3, codes = data(400, arms=3)
    linear = EconMLLearner(econml("LinearDRLearner")(**DR), control=0).fit(X3, y3, treatment=codes)
    with pytest.raises(TreatmentError, match="there are 3 arms"):
        linear.average_effect()
    with pytest.raises(TreatmentError, match="arm=7"):
        linear.average_effect(arm=7)
    second = linear.average_effect(arm=2)
    theirs = linear.estimator_.ate_inference(X3, T0=0, T1=2)
    effects = linear.predict(X3)[:, 1]
    assert second.estimate == pytest.approx(theirs.mean_point, rel=1e-12)
    assert second.std_error == pytest.approx(np.hypot(theirs.stderr_mean, effects.std(ddof=1) / 20), rel=1e-12)
    three = EconMLLearner(econml("CausalForestDML")(**ESTIMATORS["CausalForestDML"]), control=0)
    with pytest.raises(CausalRecError, match="two arms only"):
        three.fit(X3, y3, treatment=codes).average_effect(arm=1)
    for name in ("ForestDRLearner", "TLearner", "NonParamDML"):
        learner = EconMLLearner(econml(name)(**ESTIMATORS[name])).fit(X, y, treatment=treatment)
        with pytest.raises(CausalRecError, match=r"no error of an average effect.*fit_nuisances"):
            learner.average_effect()


@slow
def test_bootstrap_of_an_econml_estimator():
    X, y, treatment = data(150)
    learner = EconMLLearner(econml("LinearDML")(**DML))
    one, two = (
        bootstrap_intervals(learner, X, y, treatment=treatment, n_bootstrap=30, n_jobs=jobs, X_new=X[:20])
        for jobs in (1, 3)
    )
    assert one.std_error.tobytes() == two.std_error.tobytes()
    assert "Bayesian" in one.method
    analytic = learner.fit(X, y, treatment=treatment).predict_interval(X[:20]).std_error
    assert 0.8 < np.mean(one.std_error / analytic) < 1.25
    rows = bootstrap_intervals(EconMLLearner(econml("TLearner")(**META)), X, y, treatment=treatment, n_bootstrap=3)
    assert "with replacement" in rows.method
    forest = EconMLLearner(econml("CausalForestDML")(**ESTIMATORS["CausalForestDML"]))
    with pytest.raises(CausalRecError, match="come from CausalForestDML, which"):
        bootstrap_intervals(forest, X, y, treatment=treatment)


@slow
def test_the_example_runs():
    econml("LinearDML")
    found = [t for t in doctest.DocTestFinder().find(EconMLLearner, globs={**vars(econml_adapter)}) if t.examples]
    assert len(found) == 1
    for example in found[0].examples:
        example.options.pop(doctest.SKIP, None)
    assert doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(found[0]).failed == 0


# Coverage of the truth


def covered(learner, n, runs, effect, points, *, level=0.95):
    """Share of intervals that hold the truth, for each point."""
    hits = np.zeros(len(points))
    for run in range(runs):
        rng = np.random.default_rng([11, run])
        X = rng.normal(size=(n, points.shape[1]))
        treatment = (rng.random(n) < expit(X[:, 0] / 2)).astype(int)
        y = X[:, 0] + treatment * effect(X) + rng.normal(size=n)
        found = learner.fit(X, y, treatment=treatment).predict_interval(points, confidence_level=level)
        hits += (found.ci_low <= effect(points)) & (effect(points) <= found.ci_high)
    return hits / runs


@slow
@pytest.mark.parametrize("name", ["LinearDML", "LinearDRLearner"])
def test_linear_effects_are_covered(name):
    points = np.random.default_rng(0).normal(size=(12, 3))
    found = covered(EconMLLearner(econml(name)(**ESTIMATORS[name])), 500, 150, lambda X: 1 + X[:, 1], points)
    low, high = stats.binom.ppf([5e-4, 1 - 5e-4], 150, 0.95) / 150
    assert low <= found.mean() <= high


@slow
def test_average_effects_are_covered():
    truth, hits = 1.0, {"LinearDML": 0, "CausalForestDML": 0}
    for run in range(100):
        X, y, treatment = data(400, seed=[5, run])
        for name in hits:
            settings = ESTIMATORS[name] | ({"n_estimators": 100} if name == "CausalForestDML" else {})
            found = EconMLLearner(econml(name)(**settings)).fit(X, y, treatment=treatment).average_effect()
            hits[name] += found.ci_low <= truth <= found.ci_high
    low = stats.binom.ppf(5e-4, 100, 0.95)
    assert all(count >= low for count in hits.values()), hits


@slow
def test_a_causal_forest_covers_a_flat_effect_at_every_point():
    points = np.random.default_rng(0).uniform(-1, 1, size=(12, 3))
    forest = econml("CausalForestDML")(**ESTIMATORS["CausalForestDML"] | {"n_estimators": 200})
    found = covered(EconMLLearner(forest), 1000, 25, lambda X: np.ones(len(X)), points)
    low = stats.binom.ppf(5e-4, 25, 0.95) / 25
    assert found.mean() > 0.9
    assert found.min() >= low
