"""Posteriors of all arms: the right model, its numbers, ties by a prior against draws, and what is said."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from causalrec.abtest import ArmSummary, Bayesian, BetaPrior, GammaPrior, NormalPrior, posterior_of
from causalrec.exceptions import CausalRecError, OutcomeError
from causalrec.results import dump_results, load_results

COUNTS = [ArmSummary("A", 42 / 104, 0.048, 42, 104), ArmSummary("B", 500 / 1009, 0.0157, 500, 1009)]
MEANS = [ArmSummary("A", 10.0, 0.5), ArmSummary("B", 10.8, 0.4), ArmSummary("C", 11.5, 0.6), ArmSummary("D", 9.5, 0.4)]
DRAWS = 400_000


def test_case_26_through_counts():
    found = posterior_of("visit", "proportion", COUNTS)
    assert (found.best, found.model, found.can_stop) == ("B", "Beta-Bernoulli", False)
    assert [found.prob_best, found.prob_beats_control[1]] == pytest.approx([0.9629065] * 2, abs=5e-8)
    assert found.effect[1] == pytest.approx(0.0907826, abs=5e-8)
    assert found.loss == pytest.approx(0.00076167, abs=5e-9)
    np.testing.assert_allclose(found.ci_low, [0.3132419, 0.46473987], atol=5e-8)
    np.testing.assert_allclose(found.ci_high, [0.49971958, 0.52636595], atol=5e-8)
    assert found.value_remaining == 0  # as P(best) is above .95
    copy = load_results(dump_results({"x": found}))["x"]
    np.testing.assert_array_equal(copy.density, found.density)


@pytest.mark.parametrize(
    ("kind", "arms", "ways", "model"),
    [
        ("proportion", COUNTS, Bayesian(), "Beta-Bernoulli"),
        ("retention", COUNTS, Bayesian(share_prior=BetaPrior(4, 6)), "Beta-Bernoulli"),
        ("count", COUNTS, Bayesian(rate_prior=GammaPrior(4, 10)), "Gamma-Poisson"),
        ("mean", COUNTS, Bayesian(), "normal"),
        ("proportion", [arm._replace(successes=None) for arm in COUNTS], Bayesian(), "normal"),
        ("proportion", COUNTS, Bayesian(NormalPrior(0, 0.1)), "normal, arms tied by the prior of the effect"),
    ],
)
def test_which_model_and_its_densities(kind, arms, ways, model):
    found = posterior_of("visit", kind, arms, ways)
    assert found.model == model
    laws = {
        "Beta-Bernoulli": lambda k: stats.beta(ways.share_prior.a + arms[k].successes,
                                               ways.share_prior.b + arms[k].n - arms[k].successes),
        "Gamma-Poisson": lambda k: stats.gamma(ways.rate_prior.shape + arms[k].successes,
                                               scale=1 / (ways.rate_prior.rate + arms[k].n)),
        "normal": lambda k: stats.norm(arms[k].mean, arms[k].std_error),
    }  # fmt: skip
    if model in laws:
        for k in range(2):
            law = laws[model](k)
            np.testing.assert_allclose(found.density[k], law.pdf(found.value[k]), rtol=1e-8)
            assert [found.mean[k], found.std[k]] == pytest.approx([law.mean(), law.std()], rel=1e-12)
            assert [found.ci_low[k], found.ci_high[k]] == pytest.approx(law.ppf([0.025, 0.975]).tolist(), rel=1e-9)
    # The range that is drawn holds all but a thousandth.
    np.testing.assert_allclose(np.trapezoid(found.density, found.value, axis=1), 0.999, atol=3e-4)


def tied_draws(prior, seed=8):
    """Arms drawn from the posterior: first the effects and control from the prior and its data, then weighted."""
    rng = np.random.default_rng(seed)
    control, *treated = MEANS
    c = rng.normal(control.mean, control.std_error, DRAWS)
    effects = rng.normal(prior.mean, prior.std, (len(treated), DRAWS))
    arms = np.vstack([c, c * (1 + effects) if prior.scale == "relative" else c + effects])
    logs = sum(stats.norm.logpdf(t.mean, x, t.std_error) for t, x in zip(treated, arms[1:], strict=True))
    weight = np.exp(logs - logs.max())
    return arms, weight / weight.sum()


@pytest.mark.parametrize("prior", [NormalPrior(0.02, 0.05, scale="relative"), NormalPrior(0.2, 0.5)], ids=str)
@pytest.mark.parametrize("higher", [True, False])
def test_arms_tied_by_a_prior_by_draws(prior, higher):
    found = posterior_of("m", "mean", MEANS, Bayesian(prior, rope=0.02), higher_is_better=higher)
    arms, weight = tied_draws(prior)
    error = 4.5 / math.sqrt(1 / (weight**2).sum())  # of a share, from the effective number of draws
    best = arms.max(axis=0) if higher else arms.min(axis=0)
    np.testing.assert_allclose(found.prob_best_arm, ((arms == best) * weight).sum(axis=1), atol=error / 2)
    gaps = abs(best - arms)
    np.testing.assert_allclose(found.expected_loss, (gaps * weight).sum(axis=1), atol=error * gaps.std())
    lift = arms - arms[0]
    np.testing.assert_allclose(found.effect[1:], (lift * weight).sum(axis=1)[1:], atol=error * lift.std())
    for j in range(1, 4):
        assert ((lift[j] > 0) == higher) @ weight == pytest.approx(found.prob_beats_control[j], abs=error / 2)
        assert (lift[j] <= found.effect_low[j]) @ weight == pytest.approx(0.025, abs=error / 4)
        assert (arms[j] / arms[0] - 1 > found.relative_high[j]) @ weight == pytest.approx(0.025, abs=error / 4)
        assert (abs(lift[j]) < 0.02 * 10) @ weight == pytest.approx(found.prob_in_rope[j], abs=error / 2)
    for j in range(4):
        assert (arms[j] <= found.ci_low[j]) @ weight == pytest.approx(0.025, abs=error / 4)
    leader = found.arms.index(found.best)
    gain = best / arms[leader] - 1 if higher else 1 - best / arms[leader]
    assert (gain <= found.value_remaining) @ weight == pytest.approx(0.95, abs=error / 4)


def test_a_very_wide_prior_is_as_none():
    tied, free = (posterior_of("m", "mean", MEANS, Bayesian(prior)) for prior in (NormalPrior(0.0, 1e5), None))
    for field in ("mean", "std", "ci_low", "ci_high", "prob_best_arm", "expected_loss", "effect_low", "relative_high",
                  "prob_beats_control"):  # fmt: skip
        np.testing.assert_allclose(getattr(tied, field), getattr(free, field), rtol=2e-5, err_msg=field)
    assert tied.value_remaining == pytest.approx(free.value_remaining, rel=1e-5)


def test_stopping_by_loss_in_the_unit_and_relative_to_control():
    loss = posterior_of("visit", "proportion", COUNTS).loss
    for threshold, scale in ((loss, "absolute"), (loss / (42 / 104), "relative")):
        above, below = (
            posterior_of("visit", "proportion", COUNTS, Bayesian(loss_threshold=f * threshold, scale=scale))
            for f in (1.001, 0.999)
        )
        assert (above.can_stop, below.can_stop) == (True, False)
        assert above.loss_threshold == pytest.approx(1.001 * loss)
        assert "It can be chosen now." in str(above)
        assert "Keep running." in str(below)


def test_the_rope_in_counts():
    found = posterior_of("visit", "proportion", COUNTS, Bayesian(rope=0.05, scale="absolute"))
    rng = np.random.default_rng(9)
    lift = rng.beta(500.5, 509.5, DRAWS) - rng.beta(42.5, 62.5, DRAWS)
    p = found.prob_in_rope[1]
    assert abs((abs(lift) < 0.05).sum() - DRAWS * p) < 4.5 * math.sqrt(DRAWS * p * (1 - p))
    assert (found.rope_low, found.rope_high) == (-0.05, 0.05)


def test_text_and_table():
    found = posterior_of("visit", "proportion", COUNTS)
    head, names, first, second, how = str(found).splitlines()
    assert head == found.answer
    assert head.endswith("96.3%; choosing it is expected to cost 7.62e-04 (0.15% of its mean).")
    assert names.split() == ["arm", "mean", "P(best)", "expected", "loss", "lift", "against", "A"]
    assert first == "  A    0.4048 [0.3132, 0.4997]  3.7%     0.09154        –"
    assert second == "  B    0.4955 [0.4647, 0.5264]  96.3%    7.62e-04       +23% [-2%, +59%]"
    assert "with at least 95% probability no arm is better than B" in how
    assert how.endswith("(Beta-Bernoulli, prior Jeffreys' Beta(0.5, 0.5))")
    frame = found.to_frame()
    assert frame["arm"].tolist() == ["A", "B"]
    assert frame["prob_best_arm"].sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("kind", "arms", "ways", "words"),
    [
        ("mean", MEANS[:1], Bayesian(), "found 1 arms"),
        ("mean", [MEANS[0], ArmSummary("B", 1.0, 0.0)], Bayesian(), "arm 'B' has mean 1.0 and standard error 0.0"),
        ("mean", [MEANS[0], ArmSummary("B", 1.0, math.nan)], Bayesian(NormalPrior(0, 1)), "arm 'B'"),
        ("proportion", [COUNTS[0], ArmSummary("B", 0.5, 0.1, 7, 5)], Bayesian(), "found 7 of 5"),
        ("count", [COUNTS[0], ArmSummary("B", 0.5, 0.1, 7, 0)], Bayesian(), "found 7 of 0"),
    ],
)
def test_refusals(kind, arms, ways, words):
    with pytest.raises(OutcomeError, match=words):
        posterior_of("m", kind, arms, ways)
    with pytest.raises(CausalRecError, match="confidence_level"):
        posterior_of("m", "mean", MEANS, confidence_level=1.0)
