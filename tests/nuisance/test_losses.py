"""Losses of effects: a published value, the mean and error by hand, clusters, weights."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats
from sklearn.dummy import DummyRegressor

from causalrec.exceptions import CausalRecError
from causalrec.nuisance import dr_loss, fit_nuisances, r_loss
from causalrec.nuisance.scores import dr_losses, r_losses

N = 40


def nuisances(**options):
    rng = np.random.default_rng(0)
    t = np.tile([0, 1], N // 2)
    y = t + rng.normal(size=N)
    return fit_nuisances(
        np.zeros((N, 1)), y, treatment=t, propensity=0.5, outcome_model=DummyRegressor(), n_folds=2, **options
    )


FOUND = nuisances()
UPLIFT = np.linspace(-1, 2, N)


def rows(name, found=FOUND, uplift=UPLIFT):
    if name == "dr":
        return dr_losses(uplift[:, None], found.effect_scores())
    return r_losses(uplift[:, None], found.y, found.codes, found.mean_outcome, found.propensity)


LOSSES = {"r": r_loss, "dr": dr_loss}
each = pytest.mark.parametrize("name", LOSSES)


def test_root_r_loss_of_metalearners():
    # QuantCo's metalearners, tests/test_rlearner.py: effect 2, y 6.1, expected 3.1, treated, propensity 1/2: root 2.
    one = FOUND.take(np.array([1]))
    one = dataclasses.replace(one, y=np.array([6.1]), outcomes=np.array([[3.1, 3.1]]))
    loss = r_loss(np.array([2.0]), one)
    assert math.sqrt(float(loss)) == pytest.approx(2.0, abs=1e-12)
    assert math.isnan(loss.std_error)


@each
def test_the_mean_of_the_rows_and_its_error(name):
    loss, losses = LOSSES[name](UPLIFT, FOUND, confidence_level=0.9), rows(name)
    error = losses.std(ddof=1) / math.sqrt(N)
    half = stats.norm.isf(0.05) * error
    np.testing.assert_allclose(
        [loss.estimate, loss.std_error, loss.ci_low, loss.ci_high],
        [losses.mean(), error, losses.mean() - half, losses.mean() + half],
    )
    assert (loss.estimand, loss.n_obs, loss.confidence_level) == (f"{name}_loss", N, 0.9)
    assert math.isnan(loss.pvalue)
    assert "no hypothesis" in loss.method


@each
def test_clusters_are_the_groups_by_default(name):
    ids = np.repeat(np.arange(N // 4), 4)
    grouped = nuisances(groups=ids)
    losses = rows(name, grouped)
    sums = np.bincount(ids, weights=losses - losses.mean())
    expected = math.sqrt((sums @ sums) * 10 / 9) / N
    by_default, asked = LOSSES[name](UPLIFT, grouped), LOSSES[name](UPLIFT, grouped, clusters=ids.astype(str))
    assert by_default.std_error == pytest.approx(expected)
    assert (asked.estimate, asked.std_error) == (by_default.estimate, by_default.std_error)
    assert "clustered by 10 groups" in by_default.method
    alone = LOSSES[name](UPLIFT, FOUND, clusters=np.arange(N))
    assert alone.std_error == pytest.approx(LOSSES[name](UPLIFT, FOUND).std_error)


@each
def test_a_row_of_weight_zero_is_absent(name):
    weight = np.r_[np.zeros(10), np.linspace(1, 2, N - 10)]
    found = dataclasses.replace(FOUND, sample_weight=weight)
    part = dataclasses.replace(FOUND.take(np.arange(10, N)), sample_weight=7 * weight[10:])
    whole, less = LOSSES[name](UPLIFT, found), LOSSES[name](UPLIFT[10:], part)
    assert whole.estimate == pytest.approx(np.average(rows(name), weights=weight))
    np.testing.assert_allclose([less.estimate, less.std_error], [whole.estimate, whole.std_error])
    assert less.n_obs == whole.n_obs == N - 10


@each
def test_what_is_refused(name):
    with pytest.raises(CausalRecError, match="uplift has 39"):
        LOSSES[name](UPLIFT[1:], FOUND)
    with pytest.raises(CausalRecError, match="missing or infinite in 1 of 40"):
        LOSSES[name](np.r_[np.nan, UPLIFT[1:]], FOUND)
    with pytest.raises(CausalRecError, match="confidence_level"):
        LOSSES[name](UPLIFT, FOUND, confidence_level=1.0)
    with pytest.raises(CausalRecError, match="clusters"):
        LOSSES[name](UPLIFT, FOUND, clusters=np.zeros(N))


@pytest.mark.parametrize("loss", [r_loss, dr_loss])
def test_something_else_for_nuisances(loss):
    with pytest.raises(CausalRecError, match=r"nuisance is of type NoneType.*fit_nuisances"):
        loss(np.ones(3), None)
