"""Estimates from moments alone: adjustment by covariates in small and lopsided samples, and names of columns."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from causalrec.abtest.aggregates import covariate_name
from causalrec.abtest.estimation.adjustment import fit_adjustment
from causalrec.abtest.estimation.estimates import Estimate, difference, slope_difference, welch_df
from causalrec.abtest.estimation.scores import Names, Stratum, score_strata
from causalrec.abtest.inference import infer
from causalrec.exceptions import OutcomeError
from causalrec.moments import Moments

from .oracle import binomial_bounds

NAMES = Names("m", "a", "b")


def moments(y, x):
    return Moments.from_array(np.column_stack([y, x]), ["value", *(f"x{j}" for j in range(x.shape[1]))])


def arms(rng, n0, n1, k, *, slopes=(1.0, 1.0), spread=(1.0, 1.0), effect=0.0):
    """Outcome and covariates of control and treatment."""
    found = []
    for n, slope, sd, shift in ((n0, slopes[0], spread[0], 0.0), (n1, slopes[1], spread[1], effect)):
        x = rng.normal(size=(n, k))
        found.append((5 + shift + slope * x.sum(axis=1) + sd * rng.normal(size=n), x))
    return found


def adjusted(control, treatment):
    k = control[1].shape[1]
    return difference(
        [Stratum(None, moments(*control), moments(*treatment))], NAMES, covariates=[f"x{j}" for j in range(k)]
    )


def coverage(runs, n0, n1, k, **law):
    """How many intervals hold the true effect."""
    rng, hits = np.random.default_rng(1000 * k + n0), 0
    for _ in range(runs):
        found = infer(adjusted(*arms(rng, n0, n1, k, effect=0.5, **law)), metric="m", control="a", treatment="b")
        hits += found.ci_low <= 0.5 <= found.ci_high
    return hits


class TestAdjustment:
    @pytest.mark.parametrize("k", [1, 2, 3])
    @pytest.mark.parametrize("n", [10, 30, 2_000])
    def test_equal_arms_with_the_same_covariates_are_least_squares(self, k, n):
        # The same covariates in both arms: the fit weighs all units alike, so it is least squares with one slope,
        # whose error (with one residual variance) has n - 1 - k / 2 degrees of freedom from each arm.
        rng = np.random.default_rng(n + k)
        (y0, x), (y1, _) = arms(rng, n, n, k)
        y1 = y1 - y1.mean() + 6
        found = adjusted((y0, x), (y1, x))
        t = np.repeat([0.0, 1.0], n)
        fit = sm.OLS(np.r_[y0, y1], np.column_stack([np.ones(2 * n), t, np.r_[x, x]])).fit()
        assert found.effect == pytest.approx(fit.params[1], rel=1e-9)
        assert found.std_error == pytest.approx(fit.bse[1], rel=1e-9)

    def test_degrees_of_freedom_are_those_of_least_squares_where_residuals_are_alike(self):
        # Treatment repeats control up to a constant, so both residual variances are equal: df = 2n - 2 - k.
        rng = np.random.default_rng(0)
        (y, x), _ = arms(rng, 12, 12, 2)
        found = adjusted((y, x), (y + 1, x))
        fit = sm.OLS(np.r_[y, y + 1], np.column_stack([np.ones(24), np.repeat([0.0, 1.0], 12), np.r_[x, x]])).fit()
        assert fit.df_resid == 20
        assert found.df == pytest.approx(20, rel=1e-9)
        assert found.std_error == pytest.approx(fit.bse[1], rel=1e-9)

    @pytest.mark.parametrize("k", [1, 3])
    def test_leverages_are_of_the_weighted_fit(self, k):
        # By the hat matrix of weighted least squares, unit weights 1 / (n_a (n_a - 1)) around each arm's mean.
        rng = np.random.default_rng(k)
        data = arms(rng, 90, 10, k)
        cells = score_strata([Stratum(None, *(moments(*d) for d in data))], NAMES, k)[2]
        fit = fit_adjustment(cells, NAMES)
        root = np.concatenate([np.full(len(y), 1 / math.sqrt(len(y) * (len(y) - 1))) for y, _ in data])
        x = np.vstack([x - x.mean(axis=0) for _, x in data]) * root[:, None]
        y = np.concatenate([y - y.mean() for y, _ in data]) * root
        hat = x @ np.linalg.pinv(x)
        theta = np.linalg.lstsq(x, y, rcond=None)[0]
        np.testing.assert_allclose(fit.theta, theta, rtol=1e-9)
        leverage = np.diag(hat)
        control, treatment = fit.residuals
        for residual, here in ((control, slice(0, 90)), (treatment, slice(90, 100))):
            n = here.stop - here.start
            assert residual.df == pytest.approx(n - 1 - leverage[here].sum(), rel=1e-9)
            # e' W e around the arm's mean is its sum of squares over n (n - 1).
            assert residual.error == pytest.approx(((y - x @ theta)[here] ** 2).sum() * (n - 1) / residual.df, rel=1e-9)
        assert control.df + treatment.df == pytest.approx(98 - k)
        assert treatment.df < 9 - 0.7 * k  # the small arm pays nearly all

    def test_a_cell_without_degrees_of_freedom_is_refused(self):
        rng = np.random.default_rng(1)
        (y0, x0), (y1, x1) = arms(rng, 30, 3, 2)
        # Covariates vary in treatment only, in as many directions as it has degrees of freedom.
        with pytest.raises(
            OutcomeError, match=r"m: arm 'b' has 3 units, too few to adjust for 2 covariates.*fewer cov"
        ):
            adjusted((y0, np.zeros_like(x0)), (y1, x1))
        found = adjusted((y0, np.zeros_like(x0[:, :1])), (y1, x1[:, :1]))
        assert 0 < found.df < 35

    def test_an_arm_of_four_with_three_covariates_is_honest_or_refused(self):
        rng = np.random.default_rng(2)
        data = arms(rng, 60, 4, 3)
        found = adjusted(*data)
        plain = difference([Stratum(None, *(moments(y, np.empty((len(y), 0))) for y, _ in data))], NAMES)
        assert math.isfinite(found.std_error)
        assert found.df < plain.df

    def test_a_covariate_that_tells_nothing_costs_a_degree_of_freedom_only(self):
        rng = np.random.default_rng(3)
        data = arms(rng, 5_000, 5_000, 1, slopes=(0.0, 0.0))
        plain = difference([Stratum(None, *(moments(y, np.empty((len(y), 0))) for y, _ in data))], NAMES)
        found = adjusted(*data)
        assert found.std_error == pytest.approx(plain.std_error, rel=1e-3)

    @pytest.mark.slow
    @pytest.mark.parametrize("k", [1, 2, 3])
    @pytest.mark.parametrize(
        ("n0", "n1", "slopes", "spread"),
        [
            (90, 10, (1.0, 1.0), (1.0, 1.0)),
            (90, 10, (1.0, 1.0), (1.0, 2.0)),
            (180, 20, (1.0, 1.5), (1.0, 1.0)),
            (20, 20, (1.0, 1.0), (1.0, 1.0)),
            (15, 25, (1.0, 1.0), (2.0, 1.0)),
        ],
    )
    def test_coverage(self, k, n0, n1, slopes, spread):
        hits = coverage(4_000, n0, n1, k, slopes=slopes, spread=spread)
        low, high = binomial_bounds(0.94, 4_000)[0], binomial_bounds(0.96, 4_000)[1]
        assert low <= hits <= high, hits / 4_000

    @pytest.mark.slow
    @pytest.mark.parametrize("k", [1, 2])
    def test_coverage_of_four_against_36(self, k):
        # Welch's test itself covers less with so few units; adjustment is no worse than to have k units fewer.
        rng, runs = np.random.default_rng(k), 6_000
        plain = stats.ttest_ind(rng.normal(size=(runs, 4 - k)), rng.normal(size=(runs, 36)), axis=1, equal_var=False)
        share = (plain.pvalue >= 0.05).mean()
        assert 0.85 < share < 0.935
        assert coverage(runs, 36, 4, k) >= binomial_bounds(share, runs)[0]


class TestNames:
    def test_names_of_covariates_are_distinct(self):
        columns = ["value", "den", "rows", "covariate value", "covariate covariate value", "x"]
        keys = [covariate_name(c) for c in columns]
        assert len(set(keys)) == len(keys)
        assert not {"value", "den", "rows"} & set(keys)


def test_welch_degrees_of_freedom():
    assert welch_df([(2.0, 5), (3.0, 9)]) == pytest.approx(25 / (4 / 5 + 9 / 9))
    assert math.isnan(welch_df([]))
    assert math.isnan(welch_df([(0.0, 5)]))


def test_a_slope_needs_two_days():
    names = ["w", "dw", "ddw", "v", "dv"]
    day = np.full(20, 3.0)
    v = np.random.default_rng(0).normal(size=20)
    one = Moments.from_array(np.column_stack([np.ones(20), day, day**2, v, day * v]), names)
    with pytest.raises(OutcomeError, match="too few days"):
        slope_difference(one, one, NAMES)


def test_an_estimate_knows_its_error():
    estimate = Estimate(10.0, 12.0, 4.0, 5.0, 1.5, math.inf, 10, 12, "z")
    assert (estimate.effect, estimate.variance, estimate.std_error) == (2.0, 6.0, math.sqrt(6))


class TestNoVarianceButRounding:
    """What varies by rounding only has no variance: an error by name, never p = 1."""

    @pytest.mark.parametrize("case", ["ratio", "ratio with a covariate", "covariate", "two covariates", "clusters"])
    def test_is_refused(self, case):
        for seed in range(10):
            rng = np.random.default_rng(seed)
            d, x, z = rng.exponential(10, 2_000), rng.normal(3, 2, 2_000), rng.normal(size=2_000)
            rows = 1.0 + rng.poisson(5, 2_000)
            columns, names = {
                "ratio": ([0.1 * d, d], ["value", "den"]),
                "ratio with a covariate": ([0.1 * d, d, x], ["value", "den", "x"]),
                "covariate": ([3.7 * x + 1, x], ["value", "x"]),
                "two covariates": ([x + z, x, z], ["value", "x", "z"]),
                "clusters": ([0.1 * rows, rows], ["value", "rows"]),
            }[case]
            halves = np.split(np.column_stack(columns), 2)
            stratum = Stratum(None, *(Moments.from_array(half, names) for half in halves))
            covariates = [name for name in names if name in "xz"]
            estimate = difference([stratum], NAMES, covariates=covariates)
            with pytest.raises(OutcomeError, match="no variance to test with"):
                infer(estimate, metric="m", control="A", treatment="B")
