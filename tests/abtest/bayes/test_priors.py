"""Priors learned from past experiments: published meta-analyses, closed forms, recovery of known ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats

from causalrec.abtest import BetaPrior, GammaPrior, NormalPrior, fit_beta_prior, fit_prior
from causalrec.exceptions import CausalRecError, OutcomeError

# Trials of the BCG vaccine: log relative risks and their variances (Colditz et al. 1994; metafor's dat.bcg).
BCG = np.array([-0.8893, -1.5854, -1.3481, -1.4416, -0.2175, -0.7861, -1.6209, 0.0120, -0.4694, -1.3713, -0.3394,
                0.4459, -0.0173])  # fmt: skip
BCG_VARIANCE = np.array([0.3256, 0.1946, 0.4154, 0.0200, 0.0512, 0.0069, 0.2230, 0.0040, 0.0564, 0.0730, 0.0124, 0.5325,
                         0.0714])  # fmt: skip


def test_a_published_meta_analysis():
    """Metafor prints tau^2 = 0.2800 and a mean of -0.7112 by maximum likelihood."""
    found = fit_prior(BCG, np.sqrt(BCG_VARIANCE))
    assert found.mean == pytest.approx(-0.7112, abs=5e-4)
    assert found.std**2 == pytest.approx(0.2800, abs=5e-4)


def log_likelihood(mean, tau):
    return stats.norm.logpdf(BCG, mean, np.sqrt(BCG_VARIANCE + tau**2)).sum()


def test_the_limits_are_where_the_profile_has_fallen():
    found = fit_prior(BCG, np.sqrt(BCG_VARIANCE), confidence_level=0.9)
    peak = log_likelihood(found.mean, found.std)
    assert found.log_likelihood == pytest.approx(peak, rel=1e-12)
    drop = stats.chi2.ppf(0.9, 1) / 2
    for std in (found.std_low, found.std_high):
        best = -optimize.minimize_scalar(lambda m, s=std: -log_likelihood(m, s), bounds=(-3, 1), method="bounded").fun
        assert peak - best == pytest.approx(drop, abs=1e-6)
    for mean in (found.mean_low, found.mean_high):
        best = -optimize.minimize_scalar(lambda s, m=mean: -log_likelihood(m, s), bounds=(0, 3), method="bounded").fun
        assert peak - best == pytest.approx(drop, abs=1e-6)
    assert found.mean_low < found.mean < found.mean_high
    assert found.std_low < found.std < found.std_high


def test_equal_errors_have_a_closed_form_in_any_unit():
    effects = np.array([0.02, -0.01, 0.05, 0.0, -0.04, 0.03])
    for unit in (1.0, 1e-6, 1e6):
        found = fit_prior(unit * effects, [unit * 0.01] * 6)
        assert found.mean == pytest.approx(unit * effects.mean(), rel=1e-9)
        assert found.std == pytest.approx(unit * math.sqrt(effects.var() - 0.0001), rel=1e-6)


def test_no_more_spread_than_chance_is_zero_and_no_prior():
    found = fit_prior([0.01, -0.01, 0.0, 0.005], [0.05] * 4, scale="relative")
    assert (found.std, found.std_low) == (0.0, 0.0)
    assert 0.02 < found.std_high < 0.1
    with pytest.raises(OutcomeError, match="vary no more than by chance"):
        NormalPrior.of(found)
    assert "of 4 past experiments" in str(found).lower()


def test_known_priors_are_found_again():
    rng = np.random.default_rng(6)
    errors = rng.uniform(0.01, 0.05, 1_000)
    found = fit_prior(rng.normal(0.01, 0.03, 1_000) + rng.normal(0, errors), errors, scale="relative")
    assert found.mean_low < 0.01 < found.mean_high
    assert found.std_low < 0.03 < found.std_high
    assert found.std == pytest.approx(0.03, rel=0.1)
    prior = NormalPrior.of(found)
    assert (prior.mean, prior.std, prior.scale) == (found.mean, found.std, "relative")
    n = rng.integers(50, 2_000, 500)
    shares = fit_beta_prior(rng.binomial(n, rng.beta(8.0, 72.0, 500)), n)
    assert shares.mean_low < 0.1 < shares.mean_high
    assert shares.std_low < math.sqrt(0.1 * 0.9 / 81) < shares.std_high
    assert [shares.a, shares.b] == pytest.approx([8, 72], rel=0.15)


@pytest.mark.slow
def test_limits_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(7)
    hits = np.zeros(2)
    for _ in range(400):
        errors = rng.uniform(0.5, 2.0, 60)
        found = fit_prior(rng.normal(0.5, 1.5, 60) + rng.normal(0, errors), errors)
        hits += found.mean_low < 0.5 < found.mean_high, found.std_low < 1.5 < found.std_high
    # Likelihood intervals of sixty experiments are right to about a percentage point.
    low, high = stats.binom.ppf([0.0005, 0.9995], 400, [0.94, 0.955])
    assert ((hits >= low) & (hits <= high)).all(), hits


def test_the_beta_prior_is_at_the_peak_of_its_likelihood():
    x, n = np.array([10, 22, 35, 14, 41, 3]), np.array([200, 200, 400, 200, 400, 150])
    found = fit_beta_prior(x, n)
    peak = stats.betabinom.logpmf(x, n, found.a, found.b).sum()
    assert found.log_likelihood == pytest.approx(peak, rel=1e-12)
    for a, b in ((1.01, 1), (0.99, 1), (1, 1.01), (1, 0.99), (1.05, 1.05), (0.95, 0.95)):
        assert stats.betabinom.logpmf(x, n, found.a * a, found.b * b).sum() < peak
    assert [found.mean, found.std] == pytest.approx(
        [stats.beta.mean(found.a, found.b), stats.beta.std(found.a, found.b)]
    )
    assert BetaPrior.of(found) == BetaPrior(found.a, found.b)
    assert f"Beta({found.a:.4g}, {found.b:.4g})" in str(found)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fit_prior([0.1, 0.2], [0.1, 0.1]), "found 2 past experiments"),
        (lambda: fit_prior([0.1, 0.2, 0.3], [0.1, 0.0, 0.1]), "1 standard errors that are not positive"),
        (lambda: fit_prior([0.1, 0.2, 0.3], [0.1, 0.1]), "std_errors has 2 values"),
        (lambda: fit_prior([0.1, math.nan, 0.3], [0.1] * 3), "missing or infinite"),
        (lambda: fit_prior([0.1, 0.2, 0.3], [0.1] * 3, scale="log"), "scale is 'log'"),
        (lambda: fit_beta_prior([1, 2, 9], [5, 5, 5]), "1 counts"),
        (lambda: fit_beta_prior([50, 50, 50, 50], [100] * 4), "vary no more than by chance"),
        (lambda: BetaPrior.of(fit_prior([0.1, 0.9, 0.3], [0.1] * 3)), "family 'normal'"),
        (lambda: NormalPrior.of(fit_beta_prior([1, 22, 35], [200] * 3)), "family 'beta'"),
        (lambda: NormalPrior(0.0, 0.0), "standard deviation > 0"),
        (lambda: NormalPrior(0.0, 1.0, scale="x"), "scale is 'x'"),  # type: ignore[arg-type]
        (lambda: BetaPrior(0.0, 1.0), "two finite numbers > 0"),
        (lambda: GammaPrior(1.0, -1.0), "rate >= 0"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(CausalRecError, match=words):
        call()


def test_priors_in_words():
    assert str(BetaPrior()) == "Jeffreys' Beta(0.5, 0.5)"
    assert str(GammaPrior(2, 10)) == "Gamma(2, 10)"
    assert str(NormalPrior(0.1, 0.2)) == "effects of 0.1, give or take 0.2"
