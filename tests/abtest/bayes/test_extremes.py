"""Beliefs where arms are far apart, near zero or negative."""

import math

import pytest

from causalrec.abtest.bayes.bayesian import Bayesian
from causalrec.abtest.bayes.effects import NormalPair, Observed, ratio_quantile
from causalrec.abtest.bayes.posterior import ArmSummary, posterior_of
from causalrec.abtest.bayes.priors import NormalPrior, fit_beta_prior
from causalrec.abtest.bayes.stopping import simulate_bayes
from causalrec.exceptions import CausalRecError, OutcomeError

FLAT, NEARLY_FLAT = Bayesian(), Bayesian(NormalPrior(0.0, 1e6))


@pytest.mark.parametrize("error", [2e-3, 1e-4])
def test_arms_thousands_of_errors_apart_have_the_same_beliefs_as_without_a_prior(error):
    arms = [ArmSummary("A", 10.0, error), ArmSummary("B", 15.0, error), ArmSummary("C", 15.0 + error, error)]
    tied, free = (posterior_of("m", "mean", arms, ways) for ways in (NEARLY_FLAT, FLAT))
    assert tied.prob_best_arm == pytest.approx(free.prob_best_arm, rel=1e-6)
    assert tied.expected_loss == pytest.approx(free.expected_loss, rel=1e-6)
    assert tied.value_remaining == pytest.approx(free.value_remaining, rel=1e-5)


def test_there_is_no_share_of_a_negative_leader():
    arms = [ArmSummary("A", -10.0, 0.1), ArmSummary("B", -10.2, 0.1)]
    for ways in (FLAT, NEARLY_FLAT):
        for better in (True, False):
            assert math.isnan(posterior_of("m", "mean", arms, ways, higher_is_better=better).value_remaining)


def test_ratios_to_a_control_mean_of_zero_are_those_of_a_cauchy_law():
    pair = NormalPair.of(0.0, 1.0, Observed(0.0, 1.0))
    for r in (-2.0, 0.0, 0.5, 1.0, 3.0):
        assert pair.ratio_below(r) == pytest.approx(0.5 + math.atan(r) / math.pi, abs=1e-12)
    almost = NormalPair.of(1e-17, 1.0, Observed(0.0, 1.0))
    assert ratio_quantile(almost, 0.975) == pytest.approx(math.tan(math.pi * 0.475), rel=1e-6)


def test_refusals():
    with pytest.raises(OutcomeError, match="no more than by chance"):
        fit_beta_prior([1, 0, 1], [1, 1, 1])  # single units say nothing of how shares vary
    for options, words in (({"effects": []}, "effects is empty"), ({"days": 2.5}, "days is 2.5")):
        with pytest.raises(CausalRecError, match=words):
            simulate_bayes(**{"effects": [0.1], "std": 1.0, "n_per_day": 10} | options)
