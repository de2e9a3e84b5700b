"""Values that other projects and papers publish, through the public functions; order is (control, treatment)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from causalrec.abtest import (
    Experiment,
    Mean,
    Ratio,
    adjust_pvalues,
    sample_ratio_test,
    solve_power,
    two_proportion_test,
    welch_test,
)
from causalrec.moments import Moments

EXACT = {"rtol": 1e-9, "atol": 1e-12}
COUNTS = (19, 53, 13, 47)  # tea-tasting tests/metrics/test_proportion.py


def _moments(n, names, mean, cov):
    return Moments(n, tuple(names), np.array(mean, float), np.array(cov, float) * (n - 1))


def test_proportions_pooled():
    # tea-tasting tests/metrics/test_proportion.py
    result = two_proportion_test(*COUNTS, pooled_interval=True)
    np.testing.assert_allclose(result.pvalue, 0.3809096823118986, **EXACT)
    np.testing.assert_allclose((result.ci_low, result.ci_high), (-0.26508014358420723, 0.10129050087043773), **EXACT)


def test_proportions_corrected():
    # tea-tasting tests/metrics/test_proportion.py
    result = two_proportion_test(*COUNTS, correction=True, pooled_interval=True)
    np.testing.assert_allclose(result.pvalue, 0.5083165530405196, **EXACT)
    np.testing.assert_allclose((result.ci_low, result.ci_high), (-0.2851524037206986, 0.12136276100692911), **EXACT)
    np.testing.assert_allclose(
        two_proportion_test(*COUNTS, correction=True, pooled=False).pvalue, 0.5049066155125612, **EXACT
    )


@pytest.mark.parametrize(
    ("correction", "expected"),
    [(True, (-0.5884358933441386, 0.44643204227351263)), (False, (-0.5647346534627081, 0.367670355686605))],
)
def test_proportions_relative(correction, expected):
    # tea-tasting tests/metrics/test_proportion.py
    result = two_proportion_test(*COUNTS, correction=correction, relative="log", pooled_interval=True)
    np.testing.assert_allclose((result.relative_ci_low, result.relative_ci_high), expected, **EXACT)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"method": "barnard"}, 0.530637102766593),
        ({"method": "boschloo"}, 0.4000169399363184),
        ({"method": "fisher"}, 0.3999948918153569),
        ({"method": "g", "correction": True}, 0.5076294534617167),
    ],
)
def test_proportions_exact(options, expected):
    # tea-tasting tests/metrics/test_proportion.py; scipy's grid of nuisance values gives the first two
    np.testing.assert_allclose(two_proportion_test(*COUNTS, **options).pvalue, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"method": "exact"}, 0.6172994135892521),
        ({"method": "chi-square", "correction": True}, 0.6170750774519738),
        ({"method": "chi-square"}, 0.5485062355001472),
    ],
)
def test_sample_ratio(options, expected):
    # tea-tasting tests/metrics/test_proportion.py
    np.testing.assert_allclose(sample_ratio_test({"a": 53, "b": 47}, **options).pvalue, expected, **EXACT)


def test_welch_with_log_interval():
    # tea-tasting tests/metrics/test_mean.py
    result = welch_test(
        0.5660377358490566, 0.7888243831640053, 53, 0.3829787234042553, 0.5023126734505092, 47, relative="log"
    )
    got = (result.pvalue, result.statistic, result.ci_low, result.ci_high)
    expected = (0.2551230546709908, -1.1447678040118034, -0.5004359360326984, 0.13431791114309583)
    np.testing.assert_allclose(got, expected, **EXACT)
    got = (result.relative_ci_low, result.relative_ci_high)
    np.testing.assert_allclose(got, (-0.6593351111187646, 0.34378920945924096), **EXACT)


def test_variance_of_ratio():
    # tea-tasting tests/test_aggr.py: means 5, 4; variances 3, 2; covariance 1
    arm = _moments(50, ("top", "bottom"), (5, 4), ((3, 1), (1, 2)))
    experiment = Experiment({"r": Ratio("top", "bottom")}, variant="variant", control="a")
    result = experiment.analyze({"a": arm, "b": arm})["r"]
    np.testing.assert_allclose(result.std_error**2, 2 * 0.2265625 / 50, **EXACT)


def test_power_of_means():
    # tea-tasting tests/metrics/test_mean.py: noncentral t
    given = {"mean": 0.47, "std": math.sqrt(0.6556565656565659)}
    result = solve_power(**given, relative_effect=0.1, n_obs=10_000, alternative="greater")
    np.testing.assert_allclose(result.power, 0.895653144822902, **EXACT)
    np.testing.assert_allclose(solve_power(**given, n_obs=10_000, power=0.8).effect, 0.04537464375458489, rtol=1e-7)
    assert solve_power(**given, effect=0.05, power=0.8).n_obs == 8236


def _from_sums(n, total, squares):
    return total / n, (squares - total**2 / n) / (n - 1), n


def test_welch_relative_and_absolute():
    # gbstats tests/frequentist/test_tests.py, to the five digits that are published. Its relative p-value (.06191) is
    # that of another null; ours is one on both scales.
    arms = (*_from_sums(3407, 1396.87, 52377.9767), *_from_sums(3461, 2422.7, 134698.29))
    result = welch_test(*arms, relative="delta")
    np.testing.assert_allclose(
        (result.estimate, result.std_error, result.ci_low, result.ci_high, result.pvalue),
        (0.29, 0.12478, 0.04538, 0.53462, 0.02016), rtol=0, atol=6e-6,
    )  # fmt: skip
    np.testing.assert_allclose(
        (result.relative_effect, result.relative_ci_low, result.relative_ci_high), (0.70732, -0.03526, 1.44989),
        rtol=0, atol=2e-5,
    )  # fmt: skip


def test_power_of_relative_effects():
    # growthbook packages/shared/test/power.test.ts: 400,000 units over three arms
    given = {"mean": 10, "std": math.sqrt(3909.9997749994377), "n_arms": 3, "test": "relative", "method": "normal"}
    np.testing.assert_allclose(solve_power(**given, relative_effect=0.05, n_obs=400_000).power, 0.52144, atol=6e-6)
    found = solve_power(**given, n_obs=400_000, power=0.8)
    np.testing.assert_allclose(found.relative_effect, 0.07027, atol=6e-6)


def test_ratio_from_sums():
    # PostHog test_frequentist.py; there the denominator's sum equals its sum of squares (0/1), and the product's is
    # the numerator's sum.
    def arm(n, m, mm, d):
        sums, products = np.array([m, d]), np.array([[mm, m], [m, d]])
        return Moments(n, ("m", "d"), sums / n, products - np.outer(sums, sums) / n)

    arms = {
        "control": arm(1966, 94605.79858780127, 10463129.505392816, 936),
        "test": arm(2034, 99673.9364269569, 11298745.182728939, 947),
    }
    experiment = Experiment({"r": Ratio("m", "d")}, variant="variant", control="control", relative="delta")
    result = experiment.analyze(arms)["r"]
    np.testing.assert_allclose(result.relative_effect, 0.041333, atol=6e-7)
    np.testing.assert_allclose((result.relative_ci_low, result.relative_ci_high), (0.01378609, 0.0689), atol=5e-5)
    # Its p-value is of the relative effect, whose standard error is that of the interval; ours is of the difference.
    error = (result.relative_ci_high - result.relative_ci_low) / 2 / stats.t.ppf(0.975, result.df)
    np.testing.assert_allclose(2 * stats.t.sf(result.relative_effect / error, result.df), 0.0032826, rtol=0.02)


@pytest.mark.parametrize(
    ("control", "treatment", "effect", "low", "high", "pvalue"),
    [
        ((104, 312, 984), (1009, 1969, 5767), -1.048563, -1.205963, -0.891163, None),
        ((10, 24, 80), (150, 330, 1010), -0.2, -1.340533, 0.940533, 0.704021),
    ],
)
def test_welch_from_sums(control, treatment, effect, low, high, pvalue):
    # spotify-confidence tests/frequentist/test_ttest.py, through the function and through an experiment
    arms = {"c": _from_sums(*control), "t": _from_sums(*treatment)}
    moments = {name: _moments(n, ("y",), (mean,), ((var,),)) for name, (mean, var, n) in arms.items()}
    alone = welch_test(*arms["c"], *arms["t"])
    whole = Experiment({"y": Mean("y")}, variant="variant", control="c").analyze(moments)["y"]
    for result in (alone, whole):
        np.testing.assert_allclose((result.estimate, result.ci_low, result.ci_high), (effect, low, high), atol=6e-7)
        if pvalue is not None:
            np.testing.assert_allclose(result.pvalue, pvalue, atol=1e-6)


def test_sample_sizes():
    # spotify-confidence tests/samplesize (G*Power): 39906 and 897348; the formulas give 39903.99 and 897348.79
    assert solve_power(std=10, effect=0.3, power=0.85, method="normal").n_obs in (39_904, 39_906)
    assert abs(solve_power(std=10, effect=0.3, power=0.85).n_obs - 39_906) <= 2
    found = solve_power(proportion=0.34, effect=0.003, power=0.85, method="pooled").n_obs
    assert abs(found - 897_348.79) <= 2


def test_multiplicity():
    # tea-tasting tests/test_multiplicity.py, growthbook experiments.test.ts
    pvalues = [0.005, 0.06, 0.007, 0.04, 0.01, 0.03]
    expected = {
        "bh": [0.02, 0.06, 0.02, 0.048, 0.02, 0.045],
        "by": [0.049, 0.147, 0.049, 0.1176, 0.049, 0.11025],
        "holm-sidak": [0.0296274906, 0.087327, 0.0345134180, 0.087327, 0.03940399, 0.087327],
    }
    for method, values in expected.items():
        np.testing.assert_allclose(adjust_pvalues(pvalues, method), values, atol=1e-8)
    holm = adjust_pvalues([0.01, 0.04, 0.03, 0.005, 0.55, 0.6], "holm")
    np.testing.assert_allclose(holm, [0.05, 0.12, 0.12, 0.03, 1, 1], atol=1e-12)


def test_newcombe():
    # Newcombe (1998), as in statsmodels: treatment 56/70, control 48/80
    result = two_proportion_test(48, 80, 56, 70, method="newcombe")
    np.testing.assert_allclose((result.ci_low, result.ci_high), (0.0524315, 0.3338727), atol=6e-8)


def test_marketing_counts():
    # The full counts of the marketing data: lift .769 points, 95% interval (.595, .943), z 7.37
    result = two_proportion_test(420, 23_524, 14_423, 564_577)
    got = np.round([100 * result.estimate, 100 * result.ci_low, 100 * result.ci_high], 3)
    np.testing.assert_allclose(got, (0.769, 0.595, 0.943))
    assert round(result.statistic, 2) == 7.37
