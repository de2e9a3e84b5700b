"""Integrals over arms against closed forms, arbitrary precision, adaptive quadrature and seeded draws."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from scipy import integrate, special, stats

from causalrec.abtest.bayes.laws import Betas, Gammas, Normals
from causalrec.abtest.bayes.quadrature import (
    Line,
    difference_quantile,
    expected_loss,
    prob_below,
    prob_best,
    prob_greater,
    ratio_quantile,
    value_remaining,
)
from causalrec.exceptions import CausalRecError

CASE_26 = Betas.of([42.5, 500.5], [62.5, 509.5])
FAMILIES = {
    "shares": Betas.of([30.5, 41.5, 36.5, 0.5], [400.5, 430.5, 377.5, 12.5]),
    "rates": Gammas.of([10.5, 14.5, 9.5], [100.0, 110.0, 90.0]),
    "normal": Normals.of([10.0, 10.3, 9.6, 10.25], [0.2, 0.4, 1.5, 0.05]),
}
DRAWS = 400_000
families = pytest.mark.parametrize("arms", FAMILIES.values(), ids=FAMILIES)


def draw(arms, n=DRAWS, seed=0):
    rng = np.random.default_rng(seed)
    one, two = arms.first[:, None], arms.second[:, None]
    if isinstance(arms, Normals):
        return rng.normal(one, two, (len(arms), n))
    return rng.beta(one, two, (len(arms), n)) if isinstance(arms, Betas) else rng.gamma(one, 1 / two, (len(arms), n))


def laws(arms):
    """The same laws in scipy's words."""
    kind = {
        Normals: lambda m, s: stats.norm(m, s), Betas: lambda a, b: stats.beta(a, b),
        Gammas: lambda a, r: stats.gamma(a, scale=1 / r),
    }[type(arms)]  # fmt: skip
    return [kind(*pair) for pair in zip(arms.first, arms.second, strict=True)]


def pieces(cuts, n=60):
    """Nodes and weights of Gauss and Legendre between cuts."""
    x, w = np.polynomial.legendre.leggauss(n)
    half = np.diff(cuts) / 2
    return ((cuts[:-1] + half)[:, None] + half[:, None] * x).ravel(), (half[:, None] * w).ravel()


def test_case_26():
    assert prob_best(CASE_26)[1] == pytest.approx(0.9629065, abs=5e-8)
    assert CASE_26.mean[1] - CASE_26.mean[0] == pytest.approx(0.0907826, abs=5e-8)
    assert expected_loss(CASE_26)[1] == pytest.approx(0.00076167, abs=5e-9)
    low, high = CASE_26.quantile(0.025), CASE_26.quantile(0.975)
    np.testing.assert_allclose([low[0], high[0], low[1], high[1]], [0.3132419, 0.49971958, 0.46473987, 0.52636595],
                               atol=5e-8)  # fmt: skip


def exact_beta(a1, b1, a0, b0, n=200_000):
    """P(Beta(a1, b1) > Beta(a0, b0)) as a series of positive terms.

    I_x(a0, b0) = x^a0 (1 - x)^b0 / (a0 B(a0, b0)) 2F1(a0 + b0, 1; a0 + 1; x); each of its terms times the other density
    has a Beta function as its integral.
    """
    k = np.arange(n)
    ratio = (a0 + b0 + k) / (a0 + 1 + k) * (a0 + a1 + k) / (a0 + a1 + b0 + b1 + k)
    logs = np.r_[0.0, np.log(ratio).cumsum()[:-1]] + special.betaln(a0 + a1, b0 + b1)
    return float(np.exp(logs - math.log(a0) - special.betaln(a0, b0) - special.betaln(a1, b1)).sum())


@pytest.mark.parametrize(
    "parameters", [(0.5, 10.5, 3.5, 4.5), (0.5, 1000.5, 0.5, 20.5), (42.5, 62.5, 500.5, 509.5), (9.5, 4.5, 30.5, 2.5)]
)
def test_two_betas_by_a_series(parameters):
    a1, b1, a0, b0 = parameters
    arms = Betas.of([a0, a1], [b0, b1])
    assert prob_greater(arms, 1, 0) == pytest.approx(exact_beta(a1, b1, a0, b0), rel=1e-9)
    assert prob_best(arms).sum() == pytest.approx(1, abs=1e-11)


@pytest.mark.parametrize("a", [(3, 8.3, 4.7, 9.1), (5.2, 4, 6.6, 1.5), (4.4, 7.5, 2, 3.3), (2.5, 3.1, 2.2, 11)])
def test_the_finite_sum_and_the_integral_agree_whichever_parameter_is_whole(a):
    arms = Betas.of([a[0], a[2]], [a[1], a[3]])
    assert prob_greater(arms, 0, 1) == pytest.approx(prob_below(arms, 1, 0, Line(0.0, 1.0)), abs=1e-11)
    assert prob_greater(arms, 1, 0) == pytest.approx(1 - prob_greater(arms, 0, 1), abs=1e-11)


def test_two_betas_with_a_million_units():
    x, n = np.array([100_000, 100_700]), 1_000_000
    share = x / n
    z = (share[1] - share[0]) / np.sqrt((share * (1 - share) / n).sum())
    # The normal law is right to the order of 1 / n there, as the skews all but cancel.
    assert prob_best(Betas.of(x + 0.5, n - x + 0.5))[1] == pytest.approx(stats.norm.cdf(z), abs=2e-5)


def test_gammas_and_normals_by_their_formulas():
    rates = FAMILIES["rates"]
    found = integrate.quad(lambda x: laws(rates)[1].pdf(x) * laws(rates)[0].cdf(x), 0, 1, epsabs=1e-13, points=[0.1])[0]
    assert prob_greater(rates, 1, 0) == pytest.approx(found, abs=1e-10)
    m, s = np.array([0.3, 0.1]), np.array([0.1, 0.2])
    two = Normals.of(m, s)
    d, spread = m[0] - m[1], np.hypot(*s)
    z = d / spread
    assert prob_best(two)[0] == pytest.approx(stats.norm.cdf(z), rel=1e-14)
    assert expected_loss(two)[0] == pytest.approx(spread * stats.norm.pdf(z) - d * stats.norm.cdf(-z), rel=1e-12)
    # A loss of 1e-25, in which a difference of means would leave no digit.
    far = Normals.of([10.0, 9.0], [0.1, 0.01])
    with mpmath.workdps(40):
        spread = mpmath.sqrt(mpmath.mpf(0.1) ** 2 + mpmath.mpf(0.01) ** 2)
        z = 1 / spread
        exact = float(spread * mpmath.npdf(z) - mpmath.ncdf(-z))
    assert expected_loss(far)[0] == pytest.approx(exact, rel=1e-8)


def test_loss_of_two_betas_by_their_closed_form():
    """E[(A - B)+] = E[A] P(A' > B) - E[B] P(A > B'), where a prime adds a success (Stucchio 2015)."""
    a, b = CASE_26.first, CASE_26.second
    plus = lambda i: Betas.of(a + (np.arange(2) == i), b)  # noqa: E731
    expected = CASE_26.mean[0] * prob_greater(plus(0), 0, 1) - CASE_26.mean[1] * prob_greater(plus(1), 0, 1)
    assert expected_loss(CASE_26)[1] == pytest.approx(expected, rel=1e-9)


@families
@pytest.mark.parametrize("highest", [True, False])
def test_many_arms_by_other_integrals(arms, highest):
    """P(best) over the probability of each arm, the loss over plain values, on thousands of nodes."""
    frozen, k = laws(arms), len(arms)
    below = [law.cdf if highest else law.sf for law in frozen]
    u, du = pieces(np.array([0.0, 1e-6, 1e-3, 0.1, 0.5, 0.9, 0.999, 1 - 1e-6, 1.0]))
    for i, found in enumerate(prob_best(arms, highest=highest)):
        x = frozen[i].ppf(u)
        assert found == pytest.approx(math.prod(below[j](x) for j in range(k) if j != i) @ du, abs=1e-8)
    x, dx = pieces(
        np.unique([law.ppf(q) for law in frozen for q in (1e-13, 1e-4, 0.05, 0.5, 0.95, 1 - 1e-4, 1 - 1e-13)])
    )
    values = np.array([law(x) for law in below])
    for i, found in enumerate(expected_loss(arms, highest=highest)):
        assert found == pytest.approx(values[i] * (1 - np.delete(values, i, axis=0).prod(axis=0)) @ dx, rel=1e-6)


@families
def test_many_arms_by_draws(arms):
    x = draw(arms)
    top, p = x.max(axis=0), prob_best(arms)
    counts = (x == top).sum(axis=1)
    for count, each in zip(counts, p, strict=True):
        assert stats.binom.cdf(count, DRAWS, each) > 1e-4
        assert stats.binom.sf(count - 1, DRAWS, each) > 1e-4
    gaps = top - x
    assert (np.abs(expected_loss(arms) - gaps.mean(axis=1)) < 4.5 * gaps.std(axis=1) / math.sqrt(DRAWS)).all()


@families
def test_quantiles_of_differences_and_ratios_by_draws(arms):
    x = draw(arms, seed=1)
    for i, j in ((1, 0), (0, 2), (2, 1)):
        for q in (0.025, 0.5, 0.9):
            below = (x[i] - x[j] <= difference_quantile(arms, i, j, q)).sum()
            assert abs(below - q * DRAWS) < 4.5 * math.sqrt(q * (1 - q) * DRAWS)
            if not isinstance(arms, Normals):
                below = (x[i] / x[j] <= ratio_quantile(arms, i, j, q)).sum()
                assert abs(below - q * DRAWS) < 4.5 * math.sqrt(q * (1 - q) * DRAWS)


def test_margins_by_integrals_over_probability():
    arms = Betas.of([4.5, 7.5], [9.5, 8.5])
    u, du = pieces(np.array([0.0, 1e-3, 0.1, 0.5, 0.9, 0.999, 1.0]))
    x = special.betaincinv(4.5, 9.5, u)
    for margin in (-0.2, 0.05, 0.4):
        direct = special.betaincc(7.5, 8.5, np.clip(x + margin, 0, 1)) @ du
        assert prob_below(arms, 0, 1, Line(margin, 1.0)) == pytest.approx(direct, abs=1e-8)


def test_a_difference_whose_density_is_infinite_at_an_end():
    arms = Betas.of([0.5, 3.5], [20.5, 17.5])
    direct = integrate.quad(lambda u: stats.beta.sf(stats.beta.ppf(u, 0.5, 20.5) + 0.1, 3.5, 17.5), 0, 1, limit=200)[0]
    assert prob_below(arms, 0, 1, Line(0.1, 1.0)) == pytest.approx(direct, abs=1e-7)
    direct = integrate.quad(lambda u: stats.beta.sf(stats.beta.ppf(u, 3.5, 17.5) - 0.1, 0.5, 20.5), 0, 1, limit=200,
                            points=[float(stats.beta.cdf(0.1, 3.5, 17.5))])[0]  # fmt: skip
    assert prob_below(arms, 1, 0, Line(-0.1, 1.0)) == pytest.approx(direct, abs=1e-6)


@families
def test_value_remaining_by_draws(arms):
    x = draw(arms, seed=2)
    for highest in (True, False):
        leader = int(np.argmax(prob_best(arms, highest=highest)))
        gain = x.max(axis=0) / x[leader] - 1 if highest else 1 - x.min(axis=0) / x[leader]
        found = value_remaining(arms, leader, highest=highest)
        assert abs((gain <= found).sum() - 0.95 * DRAWS) < 4.5 * math.sqrt(0.0475 * DRAWS)
    assert value_remaining(arms, leader, q=1e-9) == 0


def test_value_remaining_of_two_normals_is_a_formula():
    m, s = np.array([10.0, 10.1]), np.array([0.3, 0.2])
    v = value_remaining(Normals.of(m, s), 1)
    # P(A <= (1 + v) B) = .95
    assert special.ndtr(((1 + v) * m[1] - m[0]) / math.hypot(s[0], (1 + v) * s[1])) == pytest.approx(0.95, abs=1e-8)
    assert math.isnan(value_remaining(Normals.of([0.1, 0.2], 0.1), 1))
    assert value_remaining(Normals.of([5.0, 10.0], 0.1), 1) == 0


def test_equal_arms_are_equally_likely_best():
    for arms in (Betas.of([3.5] * 7, 50.5), Gammas.of([0.5] * 7, 2.0), Normals.of([1.0] * 7, 2.0)):
        np.testing.assert_allclose(prob_best(arms), 1 / 7, rtol=1e-12)
    # The expected maximum of three standard normals is 3 / (2 sqrt(pi)).
    np.testing.assert_allclose(expected_loss(Normals.of([0.0] * 3, 1.0)), 1.5 / math.sqrt(math.pi), rtol=1e-12)


def test_arms_of_very_different_widths():
    arms = Normals.of([0.0, 1e-6, 0.5], [1e-6, 1e-6, 1.0])
    found = prob_best(arms)
    third = stats.norm.sf(-0.5)  # above both, whose places do not matter
    np.testing.assert_allclose(found[2], third, atol=1e-6)
    np.testing.assert_allclose(found[1] / (found[0] + found[1]), stats.norm.cdf(1 / math.sqrt(2)), atol=1e-6)


def test_order_of_arms_and_units_do_not_matter():
    arms, order = FAMILIES["normal"], [2, 0, 3, 1]
    np.testing.assert_allclose(prob_best(arms.take(order)), prob_best(arms)[order], rtol=1e-11)
    scaled = Normals.of(1e6 * arms.first + 5, 1e6 * arms.second)
    np.testing.assert_allclose(expected_loss(scaled), 1e6 * expected_loss(arms), rtol=1e-9)
    np.testing.assert_allclose(prob_best(arms, highest=False), prob_best(Normals.of(-arms.first, arms.second)),
                               rtol=1e-10)  # fmt: skip


def test_one_arm_is_the_best():
    one = Normals.of(1.0, 2.0)
    assert (prob_best(one).tolist(), expected_loss(one).tolist(), value_remaining(one, 0)) == ([1.0], [0.0], 0.0)


@pytest.mark.parametrize(("kind", "first", "second"), [(Betas, 0.0, 1.0), (Gammas, 1.0, 0.0), (Normals, 1.0, -1.0),
                                                       (Normals, math.nan, 1.0)])  # fmt: skip
def test_impossible_laws_are_refused(kind, first, second):
    with pytest.raises(CausalRecError, match="expected finite numbers"):
        kind.of([first], [second])
