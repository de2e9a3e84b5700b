"""A model's prediction as a covariate: out of fold, less variance, and an interval that still covers."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsRegressor

from causalrec.abtest.cupac import cupac_predictions
from causalrec.exceptions import CausalRecError, ColumnError, OutcomeError


def adjusted_effect(y, treated, covariate):
    """CUPED (Deng et al. 2013): the effect and its standard error."""
    arms = [treated == 0, treated == 1]
    weights = [1 / a.sum() for a in arms]
    theta = sum(w * np.cov(y[a], covariate[a])[0, 1] for w, a in zip(weights, arms, strict=True)) / sum(
        w * np.var(covariate[a], ddof=1) for w, a in zip(weights, arms, strict=True)
    )
    rest = y - theta * covariate
    c, t = (rest[a] for a in arms)
    return t.mean() - c.mean(), math.sqrt(np.var(c, ddof=1) / len(c) + np.var(t, ddof=1) / len(t))


def simulate(rng, n=1_000):
    X = rng.normal(size=(n, 3))
    treated = rng.integers(0, 2, n)
    return X, treated, 2 * np.abs(X[:, 0]) + X[:, 1] * (X[:, 2] > 0) + 0.3 * treated + rng.normal(size=n)


class TestOutOfFold:
    def test_no_row_sees_itself(self):
        # The nearest neighbour of a row is the row: in the sample it would be predicted without error.
        rng = np.random.default_rng(0)
        X, y = rng.normal(size=(300, 1)), rng.normal(size=300)
        predicted = cupac_predictions(X, y, model=KNeighborsRegressor(1), random_state=1)
        assert not np.isclose(predicted, y).any()
        assert abs(np.corrcoef(predicted, y)[0, 1]) < 0.25

    def test_no_unit_sees_its_other_rows(self):
        rng = np.random.default_rng(1)
        unit = np.repeat(np.arange(60), 5)
        X = np.repeat(rng.normal(size=(60, 1)), 5, axis=0)
        y = np.repeat(rng.normal(size=60), 5)
        model = KNeighborsRegressor(1)
        assert np.isclose(cupac_predictions(X, y, model=model, random_state=1), y).mean() > 0.9
        assert not np.isclose(cupac_predictions(X, y, model=model, groups=unit, random_state=1), y).any()

    def test_a_linear_model_by_hand(self):
        rng = np.random.default_rng(2)
        X = rng.normal(size=(4, 1))
        y = rng.normal(size=4)
        predicted = cupac_predictions(X, y, model=LinearRegression(), cv=4)
        for i in range(4):
            slope, at_zero = np.polyfit(np.delete(X[:, 0], i), np.delete(y, i), 1)
            assert predicted[i] == pytest.approx(at_zero + slope * X[i, 0])

    def test_weights_reach_the_model(self):
        X, y = np.zeros((6, 1)), np.array([0.0, 0, 0, 0, 0, 1])
        heavy = cupac_predictions(X, y, model=LinearRegression(), cv=6, sample_weight=[1, 1, 1, 1, 1, 5])
        np.testing.assert_allclose(heavy[:5], 5 / 9)

    def test_frames_with_missing_values_and_categories(self):
        rng = np.random.default_rng(3)
        frame = pd.DataFrame({"x": rng.normal(size=400), "kind": pd.Categorical(rng.choice(["a", "b", "c"], 400))})
        y = frame["kind"].cat.codes.to_numpy() * 3.0 + rng.normal(size=400)
        frame.loc[::7, "x"] = np.nan
        predicted = cupac_predictions(frame, y, random_state=4)
        assert np.corrcoef(predicted, y)[0, 1] > 0.8
        np.testing.assert_array_equal(predicted, cupac_predictions(frame, y, random_state=4))

    def test_variance_falls_where_a_line_cannot_help(self):
        X, treated, y = simulate(np.random.default_rng(5), 4_000)
        covariate = cupac_predictions(X, y, random_state=6)
        plain = adjusted_effect(y, treated, np.random.default_rng(7).normal(size=len(y)))[1]
        line = adjusted_effect(y, treated, X[:, 0])[1]
        ours = adjusted_effect(y, treated, covariate)[1]
        assert ours < 0.75 * line
        assert ours < 0.75 * plain


class TestBadInput:
    @pytest.mark.parametrize(
        ("X", "y", "kwargs", "error", "words"),
        [
            (np.ones((5, 1)), np.ones(4), {}, CausalRecError, "4 values but there are 5 rows"),
            (np.ones((5, 1)), [1, 2, 3, 4, np.nan], {}, OutcomeError, "1 of 5"),
            (np.ones((5, 1)), np.ones(5), {"cv": 1}, CausalRecError, "cv is 1"),
            (np.ones((5, 1)), np.ones(5), {"cv": 6}, CausalRecError, "5 rows"),
            (np.ones((5, 1)), np.ones(5), {"cv": 3, "groups": [1, 1, 1, 2, 2]}, CausalRecError, "2 groups"),
            (np.ones((2, 1)), np.ones(2), {"cv": 2, "groups": [1, None]}, CausalRecError, "groups: 1 of 2"),
            (pd.DataFrame({"a": ["x", "y"] * 5}), np.ones(10), {}, ColumnError, "astype('category')"),
        ],
    )
    def test_named_errors(self, X, y, kwargs, error, words):
        with pytest.raises(error) as caught:
            cupac_predictions(X, y, **kwargs)
        assert words in str(caught.value)


@pytest.mark.slow
def test_coverage_with_the_experiments_own_outcome():
    rng = np.random.default_rng(8)
    n_simulations, covered, errors = 150, 0, []
    for _ in range(n_simulations):
        X, treated, y = simulate(rng, 600)
        covariate = cupac_predictions(X, y, model=HistGradientBoostingRegressor(max_iter=30), random_state=rng)
        effect, error = adjusted_effect(y, treated, covariate)
        covered += abs(effect - 0.3) < 1.96 * error
        errors.append(effect - 0.3)
    low, high = stats.binom.ppf([1e-4, 1 - 1e-4], n_simulations, 0.95)
    assert low <= covered <= high
    assert abs(np.mean(errors)) < 4 * np.std(errors) / math.sqrt(n_simulations)
