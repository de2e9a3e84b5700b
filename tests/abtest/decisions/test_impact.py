"""Yearly impact by hand, and effects without the winner's luck by simulation and numerical optimisation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import optimize, stats

from causalrec.abtest import (
    NonInferiority,
    NormalPrior,
    conditional_estimate,
    fit_prior,
    project_impact,
    shrink_winners,
    welch_test,
)
from causalrec.abtest.bayes.effects import NormalPair, Observed
from causalrec.abtest.decisions.impact import persistence
from causalrec.exceptions import CausalRecError, OutcomeError
from tests.abtest.decisions.cases import effect

REVENUE = welch_test(2.0, 25.0, 40_000, 2.1, 25.0, 40_000, metric="revenue")


def test_absolute_impact_by_hand():
    found = project_impact(REVENUE, units_per_year=1e6, value_per_unit=0.5, rollout=0.8, cost=10_000, unit="EUR")
    assert found.estimate == pytest.approx(0.1 * 1e6 * 0.5 * 0.8 - 10_000)
    half = stats.t.isf(0.025, REVENUE.df) * math.sqrt(2 * 25 / 40_000) * 4e5
    assert (found.ci_low, found.ci_high) == pytest.approx((30_000 - half, 30_000 + half))
    assert found.prob_loss == pytest.approx(stats.t.sf(30_000 / (math.sqrt(2 * 25 / 40_000) * 4e5), REVENUE.df))
    assert found.pvalue == REVENUE.pvalue
    assert str(found).startswith("revenue: treatment instead of control is worth +30,000 EUR a year (95% interval +2,2")
    assert any("80%" in caveat for caveat in found.caveats)
    assert any("winner's curse" in caveat for caveat in found.caveats)


def test_relative_impact_by_hand():
    found = project_impact(REVENUE, baseline_per_year=4e6)
    assert found.estimate == pytest.approx(0.05 * 4e6)
    assert (found.ci_low, found.ci_high) == pytest.approx(
        (REVENUE.relative_ci_low * 4e6, REVENUE.relative_ci_high * 4e6)
    )
    error = math.sqrt(25 / 40_000 * (1 + 1.05**2)) / 2
    assert found.std_error == pytest.approx(error * 4e6)
    # A flat posterior of the ratio, by the quadrature of beliefs.
    pair = NormalPair.of(2.0, 25 / 40_000, Observed(2.1, 25 / 40_000))
    costly = project_impact(REVENUE, baseline_per_year=4e6, cost=100_000)
    assert costly.prob_loss == pytest.approx(pair.ratio_below(1.025), abs=2e-4)


def test_costs_and_one_sided_intervals():
    latency = replace(REVENUE, metric="latency", estimate=-0.1, ci_low=-0.17, ci_high=-0.03)
    found = project_impact(latency, units_per_year=1e6, value_per_unit=-1.0)
    assert found.estimate == pytest.approx(1e5)
    assert (found.ci_low, found.ci_high) == pytest.approx((3e4, 1.7e5))
    assert found.prob_loss < 0.01
    open_end = effect("x", 0.01, hypothesis=NonInferiority(0.02, relative=True))
    assert project_impact(open_end, units_per_year=10.0).ci_high == math.inf
    turned = project_impact(open_end, units_per_year=10.0, value_per_unit=-1.0)
    assert turned.ci_low == -math.inf


def test_decay_is_the_mean_over_the_year():
    days = np.linspace(0, 365, 200_001)
    for life in (20.0, 180.0, 1e5):
        assert persistence(life) == pytest.approx(np.trapezoid(0.5 ** (days / life), days) / 365, rel=1e-8)
    kept = project_impact(REVENUE, units_per_year=1e6, half_life_days=180)
    assert kept.estimate == pytest.approx(1e5 * persistence(180))
    assert "assumption" in kept.caveats[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "expected one of units_per_year"),
        ({"units_per_year": 1, "baseline_per_year": 1}, "expected one of units_per_year"),
        ({"units_per_year": -1}, "units_per_year is -1"),
        ({"units_per_year": 1, "rollout": 1.2}, "rollout is 1.2"),
        ({"units_per_year": 1, "value_per_unit": 0}, "value_per_unit is 0"),
        ({"units_per_year": 1, "cost": math.inf}, "cost is inf"),
        ({"units_per_year": 1, "half_life_days": 0}, "half_life_days is 0"),
    ],
)
def test_what_is_no_projection(options, words):
    with pytest.raises(CausalRecError, match=words):
        project_impact(REVENUE, **options)
    nothing = replace(REVENUE, control_mean=0.0, relative_effect=math.nan)
    with pytest.raises(OutcomeError, match="give units_per_year"):
        project_impact(nothing, baseline_per_year=1.0)


def test_shrinkage_is_the_posterior():
    y, s = np.array([0.08, 0.01, -0.02, 0.0]), np.array([0.03, 0.01, 0.02, 0.05])
    found = shrink_winners(y, s, prior=NormalPrior(0.01, 0.02))
    for k in range(4):
        grid = np.linspace(-0.3, 0.3, 60_001)
        density = stats.norm.pdf(grid, 0.01, 0.02) * stats.norm.pdf(y[k], grid, s[k])
        mean = np.average(grid, weights=density)
        assert found.shrunk[k] == pytest.approx(mean, abs=1e-9)
        assert found.shrunk_error[k] == pytest.approx(math.sqrt(np.average((grid - mean) ** 2, weights=density)))
    past = fit_prior([0.02, -0.01, 0.05, 0.0, -0.04, 0.03], [0.01] * 6)
    np.testing.assert_allclose(shrink_winners(y, s, prior=past).prior_std, past.std)


def test_shrunk_winners_are_right_on_average_and_raw_ones_are_not():
    # The best of 40 experiments, again and again: its estimate is too large, the shrunk one is not.
    rng = np.random.default_rng(8)
    raw, shrunk, covered = [], [], []
    for _ in range(30):
        truth, s = rng.normal(0.0, 0.01, 40), rng.uniform(0.005, 0.02, 40)
        y = rng.normal(truth, s)
        found = shrink_winners(y, s)
        top = int(np.argmax(y))
        raw.append(y[top] - truth[top])
        shrunk.append(found.shrunk[top] - truth[top])
        covered.append(found.ci_low[top] <= truth[top] <= found.ci_high[top])
    assert np.mean(raw) > 0.01
    assert abs(np.mean(shrunk)) < 0.2 * np.mean(raw)  # 2,000 such draws: -0.0006 +- 0.0002 against +0.025
    assert np.mean(covered) > 0.95 - 4 * math.sqrt(0.95 * 0.05 / 30)


def test_shrinkage_of_results():
    results = [effect("x", lift, n=n) for lift, n in ((0.05, 500), (0.0, 5_000), (-0.01, 5_000), (0.02, 800))]
    absolute, relative = shrink_winners(results), shrink_winners(results, relative=True)
    np.testing.assert_allclose(absolute.estimate, [e.estimate for e in results])
    np.testing.assert_allclose(relative.estimate, [e.relative_effect for e in results])
    assert absolute.label[0] == "x, B"
    assert "the largest, x, B, goes from 0.5 to" in str(absolute)
    same = shrink_winners([0.01, 0.01, 0.01], [0.02, 0.02, 0.02])  # no more alike than by chance: all are one
    assert same.prior_std == 0
    np.testing.assert_allclose(same.shrunk, 0.01)
    assert (same.shrunk_error > 0.02 / math.sqrt(3)).all()
    assert (same.shrunk_error < 0.02).all()
    alone = "results alone"
    for bad, words in (((results, [1.0] * 4), alone), (([0.1, 0.2], None), alone), (([0.1], [0.0]), "no error > 0")):
        with pytest.raises(CausalRecError, match=words):
            shrink_winners(*bad)


@pytest.mark.parametrize("alternative", ["two-sided", "greater"])
@pytest.mark.parametrize("z", [2.0, 2.4, 3.5, 8.0])
def test_conditional_likelihood_by_brute_force(alternative, z):
    c = stats.norm.isf(0.025 if alternative == "two-sided" else 0.05)

    def loss(mu):
        chance = stats.norm.sf(c - mu) + (stats.norm.cdf(-c - mu) if alternative == "two-sided" else 0.0)
        return math.log(chance) - stats.norm.logpdf(z, mu)

    best = optimize.minimize_scalar(loss, bounds=(-25, 10), method="bounded", options={"xatol": 1e-10}).x
    found = conditional_estimate(0.1 * z, 0.1, alternative=alternative)
    assert found.estimate == pytest.approx(0.1 * best, abs=1e-6)
    mirrored = conditional_estimate(-0.1 * z, 0.1, alternative={"greater": "less"}.get(alternative, alternative))
    assert (mirrored.estimate, mirrored.ci_low) == pytest.approx((-found.estimate, -found.ci_high))
    truncated = stats.truncnorm(c, np.inf).sf(z)
    assert found.pvalue == pytest.approx(truncated)


@pytest.mark.parametrize("alternative", ["two-sided", "greater"])
@pytest.mark.parametrize("mu", [0.0, 1.0, 2.5])
def test_conditional_intervals_cover_exactly(alternative, mu):
    rng = np.random.default_rng(12)
    x = rng.normal(mu, 1.0, 200_000)
    c = stats.norm.isf(0.025 if alternative == "two-sided" else 0.05)
    seen = x[(np.abs(x) > c) if alternative == "two-sided" else x > c]
    # The interval holds mu where the estimate lies between the 5% and the 95% quantile of its law, truncated.
    up = stats.norm.sf(c - mu)
    down = stats.norm.cdf(-c - mu) if alternative == "two-sided" else 0.0
    beyond = np.where(seen > 0, stats.norm.sf(seen - mu), up + stats.norm.sf(seen - mu) - stats.norm.sf(-c - mu))
    inside = np.abs(beyond / (up + down) - 0.5) < 0.45
    assert abs(inside.mean() - 0.9) < 4 * math.sqrt(0.09 / len(seen))
    for value, held in zip(seen[:40], inside, strict=False):
        found = conditional_estimate(value, 1.0, alternative=alternative, confidence_level=0.9)
        assert (found.ci_low <= mu <= found.ci_high) == held
    naive = np.mean(np.abs(seen - mu) < stats.norm.isf(0.05))
    if mu < 2:
        assert naive < 0.82


def test_far_beyond_the_limit_nothing_is_corrected():
    found = conditional_estimate(1.0, 0.05)
    assert found.estimate == pytest.approx(1.0)
    assert (found.ci_low, found.ci_high) == pytest.approx((1 - 1.959964 * 0.05, 1 + 1.959964 * 0.05), rel=1e-6)
    assert "0.022 was reported" in str(conditional_estimate(0.022, 0.01))


def test_what_was_not_selected():
    with pytest.raises(OutcomeError, match="not significant at"):
        conditional_estimate(0.1, 0.1)
    with pytest.raises(OutcomeError, match="not significant"):
        conditional_estimate(-0.5, 0.1, alternative="greater")
    with pytest.raises(CausalRecError, match="one > 0"):
        conditional_estimate(0.1, 0.0)
