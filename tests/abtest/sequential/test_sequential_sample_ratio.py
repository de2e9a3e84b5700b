"""The sample ratio at every look: against closed forms, numerical integration and simulation."""

import math

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import betaln

from causalrec.abtest import sequential_sample_ratio
from causalrec.exceptions import CausalRecError, TreatmentError


def test_two_arms_by_the_beta_function():
    found = sequential_sample_ratio({"A": 5_000, "B": 5_400}, concentration=100)
    factor = betaln(50 + 5_000, 50 + 5_400) - betaln(50, 50) + 10_400 * math.log(2)
    assert found.statistic == pytest.approx(factor, rel=1e-10)
    assert found.pvalue == pytest.approx(math.exp(-factor), rel=1e-8)
    assert (found.counts, found.expected, found.df) == ((5_000, 5_400), (5_200.0, 5_200.0), 1)


def test_unequal_shares_by_integration():
    """The Bayes factor is the mean of the likelihood ratio over the mixture."""
    mixture = stats.beta(0.9 * 200, 0.1 * 200)

    def ratio(theta):
        return math.exp(170 * math.log(theta / 0.9) + 30 * math.log((1 - theta) / 0.1)) * mixture.pdf(theta)

    expected = integrate.quad(ratio, 0.7, 0.99, epsabs=0, epsrel=1e-10)[0]
    found = sequential_sample_ratio({"A": 170, "B": 30}, {"A": 9, "B": 1}, concentration=200)
    assert found.statistic == pytest.approx(math.log(expected), rel=1e-7)


def test_three_arms_unit_by_unit():
    """The mixture's predictive probabilities, one unit after another, over the designed shares."""
    rng = np.random.default_rng(0)
    arms, share = np.array(list("ABC")), np.array([0.5, 0.3, 0.2])
    drawn = rng.choice(3, size=400, p=[0.4, 0.4, 0.2])
    seen, log = 50 * share, 0.0
    path = []
    for unit in drawn:
        log += math.log(seen[unit] / seen.sum() / share[unit])
        seen[unit] += 1
        path.append(log)
    counts = {arm: np.cumsum(drawn == k) for k, arm in enumerate(arms)}
    found = sequential_sample_ratio(counts, dict(zip(arms, share, strict=True)), concentration=50)
    assert found.statistic == pytest.approx(path[-1], abs=1e-9)
    assert found.pvalue == pytest.approx(math.exp(-max(path)), rel=1e-9)


def test_a_sound_split_looked_at_after_every_unit():
    """False alarms at 5% in 2,000 experiments of 2,000 units each; chi-square, as often, gives many more."""
    rng = np.random.default_rng(7)
    n, repeats = 2_000, 2_000
    drawn = rng.random((repeats, n)) < 0.5
    first = np.cumsum(drawn, axis=1)
    total = np.arange(1, n + 1)
    a = 50.0
    log = betaln(a + first, a + total - first) - betaln(a, a) + total * math.log(2)
    one = sequential_sample_ratio({"A": first[0], "B": total - first[0]}, concentration=100)
    assert one.pvalue == pytest.approx(math.exp(-max(log[0].max(), 0.0)), rel=1e-9)
    alarms = int((log.max(axis=1) > -math.log(0.05)).sum())
    assert alarms <= stats.binom.ppf(0.999, repeats, 0.05)
    chi_square = (2 * first[:, 100:] - total[100:]) ** 2 / total[100:]
    assert (chi_square.max(axis=1) > stats.chi2.isf(0.05, 1)).mean() > 0.25


def test_a_broken_split_is_found():
    rng = np.random.default_rng(3)
    days = rng.binomial(5_000, 0.51, 14)
    found = sequential_sample_ratio({"A": days.cumsum(), "B": (5_000 - days).cumsum()})
    assert found.mismatch
    assert found.pvalue < 1e-3


def test_units_in_an_arm_without_a_share():
    found = sequential_sample_ratio({"A": 10, "B": 10, "C": 1}, {"A": 1, "B": 1, "C": 0})
    assert (found.pvalue, found.statistic, found.mismatch) == (0.0, math.inf, True)


@pytest.mark.parametrize(
    "counts,weights,error",
    [
        ({"A": 5}, None, TreatmentError),
        ({"A": 5, "B": -1}, None, TreatmentError),
        ({"A": 5, "B": 0.5}, None, TreatmentError),
        ({"A": 0, "B": 0}, None, TreatmentError),
        ({"A": [5, 4], "B": [5, 6]}, None, TreatmentError),
        ({"A": [5, 6], "B": [5]}, None, TreatmentError),
        ({"A": 5, "B": 5}, {"A": 1}, TreatmentError),
        ({"A": 5, "B": 5}, {"A": 0, "B": 0}, TreatmentError),
    ],
)
def test_refused(counts, weights, error):
    with pytest.raises(error):
        sequential_sample_ratio(counts, weights)


def test_refused_numbers():
    with pytest.raises(CausalRecError, match="concentration is 0"):
        sequential_sample_ratio({"A": 5, "B": 5}, concentration=0)
    with pytest.raises(CausalRecError, match="threshold is 1"):
        sequential_sample_ratio({"A": 5, "B": 5}, threshold=1)
