"""Posteriors under a prior of effects: closed forms, grids of both means, Fieller, and the scale of the prior."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from causalrec.abtest import Bayesian, Equivalence, Estimate, NonInferiority, NormalPrior, Superiority, infer
from causalrec.abtest.bayes.effects import EffectArms, NormalPair, Observed, effect_quantile, ratio_quantile
from causalrec.abtest.estimation.estimates import difference
from causalrec.abtest.estimation.scores import Names, Stratum
from causalrec.exceptions import CausalRecError, OutcomeError
from causalrec.moments import Moments
from causalrec.results import dump_results, load_results

NAMES = {"metric": "spend", "control": "A", "treatment": "B"}
ESTIMATE = Estimate(10.0, 10.5, 0.02, 0.03, 0.005, math.inf, 500, 400, "Welch t")
PRIORS = [NormalPrior(0.1, 0.2), NormalPrior(0.02, 0.03, scale="relative"), NormalPrior(-0.3, 0.1, scale="relative")]


def on_grid(estimate, prior, n=1_201):
    """The joint posterior of both means by brute force, of shape (n, n), and its two axes."""
    axes = [
        np.linspace(m - 12 * math.sqrt(v), m + 12 * math.sqrt(v), n)
        for m, v in ((estimate.control, estimate.var_control), (estimate.treatment, estimate.var_treatment))
    ]
    c, t = np.meshgrid(*axes, indexing="ij")
    cov = [[estimate.var_control, estimate.covariance], [estimate.covariance, estimate.var_treatment]]
    seen = stats.multivariate_normal([estimate.control, estimate.treatment], cov).logpdf(np.stack([c, t], axis=-1))
    relative = prior.scale == "relative"
    mean, std = (c * (1 + prior.mean), abs(c) * prior.std) if relative else (c + prior.mean, prior.std)
    logs = seen + stats.norm.logpdf(t, mean, std)
    p = np.exp(logs - logs.max())
    return c, t, p / p.sum()


@pytest.mark.parametrize("prior", PRIORS, ids=str)
def test_posterior_by_brute_force(prior):
    c, t, p = on_grid(ESTIMATE, prior)
    found = Bayesian(prior).infer(ESTIMATE, **NAMES)
    mean = (p * (t - c)).sum()
    assert found.estimate == pytest.approx(mean, abs=1e-6)
    assert found.std_error == pytest.approx(math.sqrt((p * (t - c - mean) ** 2).sum()), rel=1e-5)
    assert [found.control_mean, found.treatment_mean] == pytest.approx([(p * c).sum(), (p * t).sum()], abs=1e-6)
    assert found.control_std_error == pytest.approx(math.sqrt((p * (c - (p * c).sum()) ** 2).sum()), rel=1e-5)
    # A grid's steps are seen in its probabilities.
    assert (p * (t - c <= found.ci_low)).sum() == pytest.approx(0.025, abs=1e-3)
    assert (p * (t - c > found.ci_high)).sum() == pytest.approx(0.025, abs=1e-3)
    assert (p * (t / c - 1 <= found.relative_ci_low)).sum() == pytest.approx(0.025, abs=1e-3)
    assert (p * (t / c - 1 <= found.relative_effect)).sum() == pytest.approx(0.5, abs=4e-3)
    assert (p * (t / c - 1 > found.relative_ci_high)).sum() == pytest.approx(0.025, abs=1e-3)


def test_the_effect_under_an_absolute_prior_is_the_textbook_one():
    prior = NormalPrior(0.1, 0.2)
    v = ESTIMATE.variance
    precision = 1 / v + 1 / prior.std**2
    found = Bayesian(prior).infer(ESTIMATE, **NAMES)
    assert found.estimate == pytest.approx((ESTIMATE.effect / v + prior.mean / prior.std**2) / precision, rel=1e-12)
    assert found.std_error == pytest.approx(precision**-0.5, rel=1e-12)


@pytest.mark.parametrize("hypothesis", [Superiority(), Superiority("greater"), Superiority("less"),
                                        NonInferiority(0.01, relative=True), Equivalence(0.8)])  # fmt: skip
@pytest.mark.parametrize("level", [0.8, 0.99])
def test_without_a_prior_the_intervals_are_those_of_z_and_fieller(hypothesis, level):
    found = Bayesian().infer(ESTIMATE, **NAMES, hypothesis=hypothesis, confidence_level=level, segment="s")
    fixed = infer(ESTIMATE, **NAMES, hypothesis=hypothesis, confidence_level=level, segment="s")
    for field in ("estimate", "std_error", "ci_low", "ci_high", "relative_effect", "relative_ci_low",
                  "relative_ci_high", "control_mean", "treatment_mean", "treatment_std_error"):  # fmt: skip
        assert getattr(found, field) == pytest.approx(getattr(fixed, field), rel=1e-9), field
    for field in ("hypothesis", "margin_low", "margin_high", "n_obs", "interval_level", "segment"):
        assert getattr(found, field) == pytest.approx(getattr(fixed, field), nan_ok=True), field
    assert math.isnan(found.pvalue)
    assert found.inference == "Bayesian"


def test_the_prior_holds_on_both_scales():
    """A prior meant as relative is not taken as absolute, nor the other way round, whichever interval is read."""
    relative, absolute = NormalPrior(0.0, 0.01, scale="relative"), NormalPrior(0.0, 0.01)
    r, a = (Bayesian(prior).infer(ESTIMATE, **NAMES) for prior in (relative, absolute))
    # 1% of a control mean of 10 is .1; of so well known a control mean the two ways to say so agree.
    same = Bayesian(NormalPrior(0.0, 0.1)).infer(ESTIMATE, **NAMES)
    assert r.estimate == pytest.approx(same.estimate, rel=0.02)
    assert [r.ci_low, r.ci_high] == pytest.approx([same.ci_low, same.ci_high], abs=0.005)
    assert [r.relative_ci_low, r.relative_ci_high] == pytest.approx(
        [same.relative_ci_low, same.relative_ci_high], abs=5e-4
    )
    for ends in ("ci_low", "ci_high", "relative_ci_low", "relative_ci_high"):
        assert abs(getattr(a, ends)) < 0.4 * abs(getattr(r, ends))
    # In cents instead of euros a relative prior says the same, an absolute one something else.
    cents = Estimate(1000.0, 1050.0, 200.0, 300.0, 50.0, math.inf, 500, 400, "Welch t")
    scaled = Bayesian(relative).infer(cents, **NAMES)
    assert scaled.ci_low == pytest.approx(100 * r.ci_low, rel=1e-6)
    assert scaled.relative_ci_high == pytest.approx(r.relative_ci_high, rel=1e-6)


def test_a_negative_control_mean_turns_relative_ends_only():
    below = Estimate(-10.0, -10.5, 0.02, 0.03, 0.005, math.inf, 500, 400, "Welch t")
    for ways in (Bayesian(), Bayesian(PRIORS[1])):
        plus, minus = (ways.infer(e, **NAMES) for e in (ESTIMATE, below))
        assert [minus.ci_low, minus.ci_high] == pytest.approx([-plus.ci_high, -plus.ci_low], rel=1e-6)
        assert minus.relative_ci_low == pytest.approx(plus.relative_ci_low, rel=1e-6)


def test_wide_and_narrow_priors():
    flat, wide = (Bayesian(prior).infer(ESTIMATE, **NAMES) for prior in (None, NormalPrior(3.0, 1e4)))
    assert [wide.ci_low, wide.ci_high] == pytest.approx([flat.ci_low, flat.ci_high], abs=1e-6)
    for scale, at in (("absolute", 0.3), ("relative", 0.03)):
        sure = Bayesian(NormalPrior(at, 1e-5, scale=scale)).infer(ESTIMATE, **NAMES)  # type: ignore[arg-type]
        assert sure.estimate == pytest.approx(0.3, abs=0.01)
        assert (sure.estimate if scale == "absolute" else sure.relative_effect) == pytest.approx(at, abs=1e-5)


@pytest.mark.parametrize("theta", [0.0, 0.9, 1.0, 1.2])
def test_two_ways_to_the_same_posterior(theta):
    """Closed form and nodes of the control mean, near zero and far away."""
    for control, treatment in ((10.0, 10.8), (0.3, 1.0), (-0.2, 0.1)):
        seen, prior = Observed(treatment, 0.16, 0.05), NormalPrior(0.2, 0.5)
        exact, nodes = NormalPair.of(control, 0.25, seen, prior), EffectArms.of(control, 0.25, [seen], prior)
        assert nodes.below(theta, 0.1) == pytest.approx(exact.below(theta, 0.1), abs=1e-11)
        assert nodes.ratio_below(theta) == pytest.approx(exact.ratio_below(theta), abs=1e-8)
        for mine, other in ((nodes.effect, exact.effect), (nodes.control, exact.control),
                            (nodes.treatment, exact.treatment)):  # fmt: skip
            assert mine == pytest.approx(other, abs=1e-10)
        assert nodes.control_law()[0](control) == pytest.approx(
            stats.norm.cdf(control, *exact.control), abs=1e-6
        )  # fmt: skip


def test_ratios_to_a_control_mean_near_zero_by_draws():
    cov, n = [[0.25, 0.05], [0.05, 0.16]], 400_000
    c, t = np.random.default_rng(4).multivariate_normal([0.3, 1.0], cov, size=n).T
    pair = NormalPair.of(0.3, 0.25, Observed(1.0, 0.16, 0.05))
    for r in (-20.0, -1.0, 0.0, 0.5, 1.0, 3.0, 50.0):
        p = pair.ratio_below(r)
        assert abs((t / c <= r).sum() - n * p) < 4.5 * math.sqrt(n * p * (1 - p))
    assert pair.ratio_below(ratio_quantile(pair, 0.9)) == pytest.approx(0.9, abs=1e-9)
    assert pair.below(1.0, effect_quantile(pair, 0.1)) == pytest.approx(0.1, abs=1e-9)


def test_probabilities_of_what_is_asked():
    z = lambda x: float(stats.norm.cdf(x))  # noqa: E731
    e = Estimate(10.0, 9.9, 0.02, 0.03, 0.0, math.inf, 500, 400, "z")
    sd = math.sqrt(0.05)
    cases = [
        (Superiority(), z(-0.1 / sd)),
        (Superiority("less"), z(0.1 / sd)),
        (NonInferiority(0.4), z(0.3 / sd)),
        (NonInferiority(0.04, relative=True), z(0.3 / math.sqrt(0.03 + 0.96**2 * 0.02))),
        (NonInferiority(0.1, higher_is_better=False), z(0.2 / sd)),
        (Equivalence(0.3), z(0.4 / sd) - z(-0.2 / sd)),
    ]
    for hypothesis, expected in cases:
        assert f"= {expected:.1%}" in Bayesian().infer(e, **NAMES, hypothesis=hypothesis).method
    rope = Bayesian(rope=0.02).infer(e, **NAMES).method
    assert f"P(effect too small to matter) = {z(0.3 / sd) - z(-0.1 / sd):.1%}" in rope
    assert Bayesian(rope=0.2, scale="absolute").infer(e, **NAMES).method == rope
    assert "P(effect > 0) > 99.9%" in Bayesian().infer(Estimate(1, 2, 0.01, 0.01, 0, 9, 5, 5, "z"), **NAMES).method


def test_any_estimate_has_a_posterior():
    """A ratio with a covariate, over clusters' sums, meets a prior as a plain mean does."""
    rng = np.random.default_rng(5)
    before = rng.gamma(4, 2, (2, 800))
    views = before + rng.gamma(2, 2, (2, 800))
    clicks = rng.poisson(0.1 * views)
    arms = [Moments.from_array(np.c_[c, v, b], ["value", "den", "before"])
            for c, v, b in zip(clicks, views, before, strict=True)]  # fmt: skip
    estimate = difference([Stratum(None, *arms)], Names("ctr", "A", "B"), covariates=["before"])
    assert estimate.covariance != 0
    found = Bayesian(NormalPrior(0.0, 0.05, scale="relative")).infer(estimate, **NAMES)
    c, t, p = on_grid(estimate, NormalPrior(0.0, 0.05, scale="relative"))
    assert found.estimate == pytest.approx((p * (t - c)).sum(), rel=1e-4)
    assert found.method.startswith("normal, delta method, adjusted for 'before'; Bayesian, prior: effects of +0.0%")
    copy = load_results(dump_results({"x": found}))["x"]
    assert copy.relative_ci_low == found.relative_ci_low


def test_what_has_no_posterior():
    tied = Estimate(7.0, 7.5, math.nan, math.nan, math.nan, math.inf, 100, 100, "no error: ties")
    found = Bayesian().infer(tied, **NAMES)
    assert (found.estimate, found.method) == (0.5, "no error: ties")
    assert math.isnan(found.ci_low)
    with pytest.raises(OutcomeError, match="every value is the same within each arm"):
        Bayesian().infer(Estimate(7.0, 7.5, 0.0, 0.0, 0.0, math.inf, 9, 9, "z"), **NAMES)
    with pytest.raises(OutcomeError, match="within control"):
        Bayesian(PRIORS[1]).infer(Estimate(7.0, 7.5, 0.0, 0.1, 0.0, math.inf, 9, 9, "z"), **NAMES)
    with pytest.raises(CausalRecError, match="needs one above"):
        Bayesian().infer(ESTIMATE, **NAMES, hypothesis=Equivalence(1.0), confidence_level=0.4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rope": -1.0}, "rope is -1.0"), ({"loss_threshold": math.inf}, "loss_threshold is inf"),
        ({"scale": "percent"}, "scale is 'percent'"), ({"prior": 0.1}, "expected a NormalPrior"),
        ({"share_prior": NormalPrior(0, 1)}, "expected a BetaPrior"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be(options, words):
    with pytest.raises(CausalRecError, match=words):
        Bayesian(**options)
