"""Confidence sequences of shares: published values, brute force, coverage under a look after every unit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

from causalrec.abtest import bernoulli_difference, bernoulli_interval
from causalrec.abtest.sequential.bernoulli import _tuned
from causalrec.exceptions import CausalRecError, OutcomeError


def test_published_values():
    """confseq's bernoulli_confidence_interval, as its users print it."""
    for successes, n, n_tuning, low, high in (
        (700, 1000, 100, 0.651629, 0.745949),
        (15, 50, 50, 0.129556, 0.511896),
        (100, 200, 1, 0.328923, 0.671076),
    ):
        found = bernoulli_interval(successes, n, n_tuning=n_tuning)
        assert [float(v) for v in found] == pytest.approx([low, high], abs=1.5e-6)


@pytest.mark.parametrize("one_sided", [False, True])
def test_log_ratio_is_the_integral_over_the_mixture(one_sided):
    tuned = _tuned(200, 0.95, "greater" if one_sided else "two-sided")
    p, good, bad = 0.2, 18, 40
    law = stats.beta(p * tuned.weight, (1 - p) * tuned.weight)
    low = p if one_sided else 0.0
    top = quad(lambda q: law.pdf(q) * (q / p) ** good * ((1 - q) / (1 - p)) ** bad, low, 1, points=[0.3])[0]
    assert tuned.log_ratio(p, good, bad) == pytest.approx(math.log(top / law.sf(low)), abs=1e-8)


def test_expected_ratio_is_one_under_the_null():
    for alternative in ("two-sided", "greater"):
        tuned, n, p = _tuned(50, 0.95, alternative), 40, 0.07
        k = np.arange(n + 1)
        assert (stats.binom.pmf(k, n, p) * np.exp(tuned.log_ratio(p, k, n - k))).sum() == pytest.approx(1, abs=1e-10)


def test_arrays_ends_and_symmetry():
    good, n = np.array([0, 1, 5, 10, 0]), np.array([10, 10, 10, 10, 0])
    low, high = bernoulli_interval(good, n, n_tuning=50)
    assert low[[0, 4]].tolist() == [0, 0]
    assert high[[3, 4]].tolist() == [1, 1]
    turned = bernoulli_interval(n - good, n, n_tuning=50)
    assert 1 - turned[1] == pytest.approx(low, abs=1e-12)
    for one, two in zip(bernoulli_interval(good[2], n[2], n_tuning=50), (low[2], high[2]), strict=True):
        assert one == two
    greater = bernoulli_interval(5, 10, n_tuning=50, alternative="greater")
    less = bernoulli_interval(5, 10, n_tuning=50, alternative="less")
    assert greater[1] == 1
    assert less[0] == 0
    assert greater[0] > low[2]
    assert less[1] == pytest.approx(1 - greater[0])


@pytest.mark.parametrize("p", [0.005, 0.05, 0.5])
@pytest.mark.parametrize("alternative", ["two-sided", "greater"])
def test_coverage_with_a_look_after_every_unit(p, alternative):
    rng, n = np.random.default_rng(7), 1_200
    tuned, n_simulations = _tuned(500, 0.95, alternative), 150 if alternative == "greater" else 1_000
    good = np.cumsum(rng.random((n_simulations, n)) < p, axis=1)
    bad = np.arange(1, n + 1) - good
    missed = (tuned.log_ratio(p, good, bad) > tuned.evidence).any(axis=1).sum()
    assert stats.binomtest(int(missed), n_simulations, 0.05, alternative="greater").pvalue > 1e-4
    low = bernoulli_interval(good[0, ::400], np.arange(1, n + 1)[::400], n_tuning=500, alternative=alternative)[0]
    assert ((low > p) <= (tuned.log_ratio(p, good[0, ::400], bad[0, ::400]) > tuned.evidence)).all()


COUNTS = [(40, 100, 60, 110), (4, 200, 22, 200), (0, 30, 5, 30), (30, 30, 20, 30), (1, 50, 0, 40), (0, 9, 0, 9)]


@pytest.mark.parametrize("counts", COUNTS)
def test_difference_spans_the_pairs_that_are_not_rejected(counts):
    """Against all pairs of a grid."""
    c, nc, t, nt = counts
    tuned, p = _tuned(100, 0.95), np.linspace(1e-6, 1 - 1e-6, 1_501)
    evidence = tuned.log_ratio(p, c, nc - c)[:, None] + tuned.log_ratio(p, t, nt - t)
    kept = evidence < tuned.evidence
    difference, step = (p[None, :] - p[:, None])[kept], p[1] - p[0]
    found = bernoulli_difference(*counts, n_tuning=200)
    for ours, brute in ((found.ci_low, difference.min()), (-found.ci_high, -difference.max())):
        assert brute - 2 * step < ours < brute + 1e-9
    ratio = (p[None, :] / p[:, None])[kept].min() - 1
    assert found.relative_ci_low <= ratio + 1e-9
    assert found.relative_ci_low == pytest.approx(ratio, abs=0.01)
    assert found.pvalue == pytest.approx(min(1, math.exp(-np.diag(evidence).min())), abs=2e-3)
    assert (found.pvalue < 0.05) == (not found.ci_low <= 0 <= found.ci_high)
    assert (found.relative_ci_low > 0) == (found.ci_low > 0)
    turned = bernoulli_difference(t, nt, c, nc, n_tuning=200)
    assert [-turned.ci_high, -turned.ci_low, turned.pvalue] == pytest.approx(
        [found.ci_low, found.ci_high, found.pvalue]
    )


def test_one_side_is_that_of_two():
    both = bernoulli_difference(4, 200, 22, 200, n_tuning=200)
    one = bernoulli_difference(4, 200, 22, 200, n_tuning=200, alternative="greater")
    other = bernoulli_difference(4, 200, 22, 200, n_tuning=200, alternative="less")
    assert (one.ci_low, one.ci_high, one.pvalue) == (both.ci_low, 1.0, both.pvalue)
    assert (other.ci_low, other.ci_high, other.pvalue) == (-1.0, both.ci_high, 1.0)


def test_rare_events_in_unequal_arms_with_a_look_after_every_unit():
    """Where the asymptotic test fails: a tenth in treatment, 2% events; tested at the truth."""
    rng, n, n_simulations = np.random.default_rng(8), 1_500, 1_000
    tuned, p = _tuned(500, 0.95), 0.02
    event, treated = rng.random((n_simulations, n)) < p, rng.random((n_simulations, n)) < 0.1
    evidence = sum(
        tuned.log_ratio(p, np.cumsum(event & arm, axis=1), np.cumsum(~event & arm, axis=1))
        for arm in (treated, ~treated)
    )
    missed = int((evidence > tuned.evidence).any(axis=1).sum())
    assert stats.binomtest(missed, n_simulations, 0.05, alternative="greater").pvalue > 1e-4


def test_refused():
    for successes, n in ((5, 4), (-1, 4), (math.nan, 4)):
        with pytest.raises(OutcomeError, match="successes <= n"):
            bernoulli_interval(successes, n)
        with pytest.raises(OutcomeError, match="arm 'B'"):
            bernoulli_difference(1, 4, successes, n, treatment="B")
    with pytest.raises(OutcomeError, match="arm 'A' has 0 successes among 0"):
        bernoulli_difference(0, 0, 1, 4, control="A")
    with pytest.raises(CausalRecError, match="n_tuning"):
        bernoulli_difference(1, 4, 1, 4, n_tuning=0)
    with pytest.raises(CausalRecError, match="alternative"):
        bernoulli_difference(1, 4, 1, 4, alternative="larger")
    with pytest.raises(CausalRecError, match="confidence_level"):
        bernoulli_interval(1, 4, alternative="less", confidence_level=0.5)
