"""Doubly robust scores, effects and losses: closed forms, brute force, statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from causalrec.exceptions import CausalRecError
from causalrec.nuisance.scores import (
    aipw_scores,
    average_of_scores,
    check_effects,
    dr_losses,
    effect_influence,
    effect_result,
    r_losses,
)


def rows(n=300, k=3, seed=0):
    rng = np.random.default_rng(seed)
    propensity = rng.dirichlet(np.full(k, 3.0), n)
    codes = np.array([rng.choice(k, p=p) for p in propensity])
    return rng.normal(size=n), codes, rng.normal(size=(n, k)), propensity


def test_scores_row_by_row():
    y, codes, mu, e = rows()
    scores = aipw_scores(y, codes, mu, e)
    for i in range(20):
        for a in range(3):
            expected = mu[i, a] + (codes[i] == a) * (y[i] - mu[i, a]) / e[i, a]
            assert scores[i, a] == pytest.approx(expected, rel=1e-12)


def test_without_a_model_the_scores_are_inverse_probability_weights():
    y, codes, mu, e = rows(k=2)
    scores = aipw_scores(y, codes, np.zeros_like(mu), e)
    np.testing.assert_allclose(scores[:, 1], (codes == 1) * y / e[:, 1])


def test_effects_on_the_treated_and_the_controls_row_by_row():
    y, codes, mu, e = rows()
    top, bottom = effect_influence(y, codes, mu, e, arm=2, estimand="att")
    expected = (codes == 2) * (y - mu[:, 0]) - (codes == 0) * e[:, 2] / e[:, 0] * (y - mu[:, 0])
    np.testing.assert_allclose(top, expected)
    np.testing.assert_array_equal(bottom, codes == 2)
    top, bottom = effect_influence(y, codes, mu, e, arm=2, estimand="atc")
    expected = (codes == 2) * e[:, 0] / e[:, 2] * (y - mu[:, 2]) - (codes == 0) * (y - mu[:, 2])
    np.testing.assert_allclose(top, expected)
    np.testing.assert_array_equal(bottom, codes == 0)


def test_saturated_models_give_the_stratified_estimates():
    """With one discrete covariate and its cell means, AIPW is standardisation over the cells, for every estimand."""
    rng = np.random.default_rng(4)
    x = rng.integers(0, 3, 600)
    t = (rng.random(600) < np.array([0.2, 0.5, 0.7])[x]).astype(int)
    y = x + t * (1 + x) + rng.normal(size=600)
    share = np.array([t[x == v].mean() for v in range(3)])
    cell = np.array([[y[(x == v) & (t == a)].mean() for a in (0, 1)] for v in range(3)])
    e = np.column_stack([1 - share[x], share[x]])
    for estimand, who in (("ate", np.ones(600, bool)), ("att", t == 1), ("atc", t == 0)):
        found, _ = average_of_scores(*effect_influence(y, t, cell[x], e, estimand=estimand))
        expected = np.mean((cell[:, 1] - cell[:, 0])[x[who]])
        assert found == pytest.approx(expected, rel=1e-12)


def test_the_error_is_that_of_a_mean_and_of_cluster_sums():
    rng = np.random.default_rng(5)
    values, clusters, weight = rng.normal(size=200), rng.integers(0, 30, 200), rng.uniform(0.5, 2, 200)
    estimate, error = average_of_scores(values, np.ones(200))
    assert (estimate, error) == pytest.approx((values.mean(), stats.sem(values)))
    # As weighted least squares on a constant with errors by cluster (statsmodels' cov_type="cluster" gives the same).
    estimate, error = average_of_scores(values, np.ones(200), weight=weight, clusters=clusters)
    assert estimate == pytest.approx(np.average(values, weights=weight))
    sums = [(weight * (values - estimate))[clusters == g].sum() for g in range(30)]
    assert error == pytest.approx(np.sqrt(30 / 29 * np.square(sums).sum()) / weight.sum())


def test_one_cluster_has_no_error():
    estimate, error = average_of_scores(np.array([1.0, 3.0]), np.ones(2), clusters=np.array([0, 0]))
    assert estimate == 2
    assert np.isnan(error)
    result = effect_result(estimate, error, confidence_level=0.95, n_obs=2, method="m", estimand="ate")
    assert np.isnan([result.ci_low, result.pvalue]).all()


def test_tiny_pvalues_are_numbers():
    result = effect_result(37.2, 1.0, confidence_level=0.95, n_obs=2, method="m", estimand="ate")
    assert 0 < result.pvalue < 1e-300


def test_root_r_loss_of_metalearners():
    """test_rlearner.py of metalearners: effect 2, y 6.1, m 3.1, treated, e .5: the root of the R-loss is 2."""
    loss = r_losses(np.array([[2.0]]), np.array([6.1]), np.array([1]), np.array([3.1]), np.array([[0.5, 0.5]]))
    assert np.sqrt(loss[0]) == pytest.approx(2.0)


def test_losses_of_three_arms_row_by_row():
    y, codes, mu, e = rows()
    tau, m = mu[:, 1:] - mu[:, :1], (e * mu).sum(axis=1)
    loss = r_losses(tau, y, codes, m, e)
    i = 7
    expected = y[i] - m[i] - sum(((codes[i] == a) - e[i, a]) * tau[i, a - 1] for a in (1, 2))
    assert loss[i] == pytest.approx(expected**2)
    scores = aipw_scores(y, codes, mu, e)
    gaps = scores[:, 1:] - scores[:, :1] - tau
    np.testing.assert_allclose(dr_losses(tau, scores[:, 1:] - scores[:, :1]), (gaps**2).mean(axis=1))


@pytest.mark.parametrize(
    ("uplift", "words"),
    [(np.zeros((4, 2)), "shape"), (np.zeros(3), "3 values"), ([0, np.nan, 0, 0], "missing or infinite in 1 of 4")],
)
def test_effects_of_another_shape(uplift, words):
    with pytest.raises(CausalRecError, match=words):
        check_effects(uplift, 4, 2)
