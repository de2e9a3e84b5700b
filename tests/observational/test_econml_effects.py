"""Double machine learning and causal forests through EconML: against EconML's own numbers and simulated truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression, LogisticRegression

from causalrec.exceptions import CausalRecError, OverlapError
from causalrec.observational._inputs import read_sample
from causalrec.observational.doubly_robust import aipw
from causalrec.observational.econml_adapter import _forest_effect, _quiet, _settings, causal_forest, dml

LINEAR = {"outcome_model": LinearRegression(), "propensity_model": LogisticRegression(C=1e6)}


def confounded(seed: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Covariates, treatment, outcome, and the true propensity; every effect is 1 + x0."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    e = 1 / (1 + np.exp(-(0.6 * X[:, 0] - 0.4 * X[:, 1])))
    t = (rng.random(n) < e).astype(np.int64)
    return X, t, X[:, 0] + X[:, 1] + t * (1 + X[:, 0]) + rng.normal(size=n), e


# --- without EconML -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method,options,error,message",
    [
        (dml, {"estimand": "ate"}, CausalRecError, "'ate', but dml averages effects by the overlap.*causal_forest"),
        (causal_forest, {"estimand": "ato"}, CausalRecError, "estimand is 'ato'"),
        (causal_forest, {"n_trees": 10}, CausalRecError, "n_trees is 10; expected a multiple of 4"),
    ],
)
def test_refused_before_anything_is_imported(method, options: dict, error: type[Exception], message: str) -> None:
    X, t, y, _ = confounded(0, 40)
    with pytest.raises(error, match=message):
        method(X, y, treatment=t, **options)


@pytest.mark.parametrize("estimand", ["ate", "att", "atc"])
def test_a_forest_of_the_true_effects_is_aipw(estimand: str) -> None:
    """From the true mean, score and effects the average is that of doubly robust scores at the true outcomes."""
    X, t, y, e = confounded(1, 2000)
    sample = read_sample(y, treatment=t, what="a test")
    effect = 1 + X[:, 0]
    mean = X[:, 0] + X[:, 1] + e * effect
    found = _forest_effect(sample, e, mean, effect, estimand, 5, 4)
    control = X[:, 0] + X[:, 1]
    residual = y - control - t * effect
    own = {"ate": np.ones(2000), "att": t, "atc": 1 - t}[estimand]
    odds = {"ate": 1, "att": e, "atc": 1 - e}[estimand] / np.where(t == 1, e, 1 - e)
    scores = own * effect + np.where(t == 1, 1, -1) * odds * residual
    assert found.estimate == pytest.approx(scores.sum() / own.sum())
    with pytest.raises(OverlapError, match="exactly 0 or 1 for 2000 of 2000"):
        _forest_effect(sample, t.astype(float), mean, effect, estimand, 5, 4)


# --- with EconML ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_numbers_are_econmls() -> None:
    X, t, y, _ = confounded(2, 1000)
    sample = read_sample(y, treatment=t, what="a test")
    ours = dml(X, y, treatment=t, **LINEAR)
    forest = causal_forest(X, y, treatment=t, n_trees=200, **LINEAR)
    with _quiet():
        from econml.dml import CausalForestDML, LinearDML

        settings = _settings(sample, *LINEAR.values(), 5, 0)
        peer = LinearDML(**settings).fit(y, t, X=None, W=X)
        grown = CausalForestDML(**settings, n_estimators=200, n_jobs=1, inference=False).fit(y, t, X=X)
        found = peer.intercept__inference()
    # EconML's error of one coefficient has White's factor n / (n - 1).
    expected = (found.point_estimate, found.stderr * np.sqrt(999 / 1000))
    assert (ours.estimate, ours.std_error) == pytest.approx(expected, rel=1e-8)
    assert ours.estimand == "ato"
    assert forest.estimate == pytest.approx(grown.ate_[0], rel=1e-8)
    assert forest.std_error == pytest.approx(grown.ate_stderr_[0] * np.sqrt(1000 / 999), rel=1e-8)


@pytest.mark.slow
def test_dml_is_the_partialled_out_regression_with_weights_and_clusters() -> None:
    """Closed form from the residuals: θ = Σ w v u / Σ w v², clusters summed."""
    X, t, y, _ = confounded(3, 600)
    w, groups = np.random.default_rng(0).random(600), np.arange(600) // 3
    found = dml(X, y, treatment=t, sample_weight=w, clusters=groups, **LINEAR)
    v = t - found.propensity
    pairs = np.unique(np.column_stack([groups, np.zeros(600)]), axis=0)
    assert len(pairs) == 200
    assert 0 < found.propensity.min() < found.propensity.max() < 1
    np.testing.assert_allclose(found.weights, w * np.abs(v))
    again = dml(X, y, treatment=t, sample_weight=w, clusters=groups, **LINEAR)
    assert (again.estimate, again.std_error) == (found.estimate, found.std_error)
    assert "clustered by 200 groups" in found.method


@pytest.mark.slow
def test_intervals_cover_and_the_att_of_a_forest_is_that_of_the_treated() -> None:
    """ATE 1, overlap 1 by symmetry, ATT 1.26855 (integrated in test_regression)."""
    truth = {"ato": 1.0, "ate": 1.0, "att": 1.26855}
    n_runs, held = 40, dict.fromkeys(truth, 0)
    for seed in range(n_runs):
        X, t, y, _ = confounded(seed, 600)
        for estimand in truth:
            if estimand == "ato":
                one = dml(X, y, treatment=t, **LINEAR)
            else:
                one = causal_forest(X, y, treatment=t, estimand=estimand, n_trees=100, **LINEAR)
            held[estimand] += one.ci_low <= truth[estimand] <= one.ci_high
    for estimand, count in held.items():
        assert count >= stats.binom.ppf(0.001, n_runs, 0.95), (estimand, count)


@pytest.mark.slow
def test_default_models_run_silently_and_agree_with_aipw() -> None:
    X, t, y, _ = confounded(4, 800)
    forest, plain = causal_forest(X, y, treatment=t, n_trees=100), aipw(X, y, treatment=t)
    assert abs(forest.estimate - plain.estimate) < forest.std_error
    assert np.isfinite(dml(X, y, treatment=t).std_error)
