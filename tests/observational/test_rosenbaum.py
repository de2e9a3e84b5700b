"""Rosenbaum bounds: printed numbers, enumeration of every assignment, and what units and order must not change."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from causalrec.exceptions import CausalRecError, OutcomeError, TreatmentError
from causalrec.observational import (
    amplify_gamma,
    match,
    matched_set_bounds,
    mcnemar_bounds,
    rosenbaum_bounds,
)
from causalrec.observational._hidden_bias import pair_averages_at, set_moments, trials_tail

# Lead in the blood of children whose fathers work with it, and of neighbours: Rosenbaum 2002, chapter 4, as printed in
# the manual of the R package rbounds (psens, hlsens).
EXPOSED = np.array([38, 23, 41, 18, 37, 36, 23, 62, 31, 34, 24, 14, 21, 17, 16, 20, 15, 10, 45, 39, 22, 35, 49, 48, 44,
                    35, 43, 39, 34, 13, 73, 25, 27.0])  # fmt: skip
NEIGHBOUR = np.array([16, 18, 18, 24, 19, 11, 10, 15, 16, 18, 18, 13, 19, 10, 16, 16, 24, 13, 9, 14, 21, 19, 7, 18, 19,
                      12, 11, 22, 25, 16, 13, 11, 13.0])  # fmt: skip


def test_lead_in_the_blood_of_children() -> None:
    found = rosenbaum_bounds(EXPOSED, NEIGHBOUR, gamma=[2, 3, 4, 5, 6], alternative="greater", exact=False)
    assert (found.statistic, found.n_sets, found.n_used) == (499, 33, 32)
    assert found.pvalue_high.round(4).tolist() == [0.0018, 0.0131, 0.0367, 0.0694, 0.1073]
    averages = [(d + e) / 2 for d, e in itertools.combinations_with_replacement(EXPOSED - NEIGHBOUR, 2)]
    assert found.estimate == np.median(averages) == 15
    assert 4 < found.turning_gamma < 5


def test_zeros_that_are_ranked_before_they_are_left_out() -> None:
    found = rosenbaum_bounds(EXPOSED, NEIGHBOUR, gamma=[2, 3, 4, 5], alternative="greater", exact=False, zeros="keep")
    assert found.statistic == 527
    assert found.pvalue_high.round(4).tolist() == [0.0018, 0.0136, 0.0388, 0.0740]


def test_without_bias_it_is_wilcoxons_test() -> None:
    d = np.array([1.5, -0.3, 2.2, 0.7, -1.1, 3.1, 0.9, 4.0, -0.2])
    for alternative in ("two-sided", "greater", "less"):
        found = rosenbaum_bounds(d, gamma=1, alternative=alternative)
        assert found.pvalue == pytest.approx(stats.wilcoxon(d, alternative=alternative, method="exact").pvalue)
        normal = rosenbaum_bounds(d, gamma=1, alternative=alternative, exact=False).pvalue
        expected = stats.wilcoxon(d, alternative=alternative, correction=False, method="approx").pvalue
        assert normal == pytest.approx(expected)


@pytest.mark.parametrize("statistic", ["signed_rank", "sign"])
@pytest.mark.parametrize("gamma", [1.0, 2.5])
def test_every_assignment_with_ties_and_a_zero(statistic: str, gamma: float) -> None:
    d = np.array([1.0, 1.0, -2.0, 3.0, 0.0, 5.0, -1.0])
    ranks = np.where(d != 0, stats.rankdata(np.where(d != 0, np.abs(d), -1)) - 1, 0.0)
    scores = ranks if statistic == "signed_rank" else (d != 0).astype(float)
    observed = scores[d > 0].sum()
    for worst, name in ((True, "pvalue_high"), (False, "pvalue_low")):
        p = gamma / (1 + gamma) if worst else 1 / (1 + gamma)
        total = sum(
            math.prod(p if sign else 1 - p for sign in signs)
            for signs in itertools.product([0, 1], repeat=len(d))
            if scores @ np.array(signs) >= observed - 1e-9
        )
        found = rosenbaum_bounds(d, gamma=gamma, statistic=statistic, alternative="greater")
        assert getattr(found, name)[0] == pytest.approx(total, abs=1e-12)


def test_lung_cancer_and_smoking() -> None:
    """P(X >= 110) of 122 discordant pairs; the R package rbounds prints P(X > 110)."""
    found = mcnemar_bounds(110, 12, gamma=[4, 5, 6], alternative="greater")
    assert found.pvalue_high.round(5).tolist() == [0.00196, 0.02317, 0.09693]
    assert stats.binom.sf(109, 122, found.turning_gamma / (1 + found.turning_gamma)) == pytest.approx(0.05)
    two_sided = mcnemar_bounds(110, 12, gamma=1)
    assert two_sided.pvalue == pytest.approx(stats.binomtest(110, 122).pvalue)
    assert mcnemar_bounds(12, 110, gamma=5, alternative="less").pvalue_high[0].round(5) == 0.02317


def test_the_turning_gamma_is_where_p_is_alpha() -> None:
    for options in ({}, {"exact": False}, {"statistic": "sign"}, {"alternative": "greater"}):
        turn = rosenbaum_bounds(EXPOSED, NEIGHBOUR, **options).turning_gamma
        at = rosenbaum_bounds(EXPOSED, NEIGHBOUR, gamma=turn, **options)
        assert at.pvalue_high[0] == pytest.approx(0.05, abs=1e-8)
    assert rosenbaum_bounds([1.0, -2.0, 1.5], gamma=1).turning_gamma == 1.0


@pytest.mark.parametrize("statistic", ["signed_rank", "sign"])
@pytest.mark.parametrize("exact", [True, False])
def test_the_interval_is_what_is_not_rejected(statistic: str, exact: bool) -> None:
    d = np.random.default_rng(3).normal(1.0, 2.0, 30)
    for gamma in (1.0, 1.6):
        options = {"gamma": gamma, "statistic": statistic, "exact": exact}
        found = rosenbaum_bounds(d, **options)
        for end, outward in ((found.ci_low[0], -1), (found.ci_high[0], 1)):
            inside = rosenbaum_bounds(d - (end - outward * 1e-7), **options).pvalue_high[0]
            outside = rosenbaum_bounds(d - (end + outward * 1e-7), **options).pvalue_high[0]
            assert outside <= 0.05 < inside


def test_estimates_without_and_with_bias() -> None:
    d = np.random.default_rng(4).normal(1.0, 2.0, 25)
    averages = [(d[i] + d[j]) / 2 for i in range(25) for j in range(i, 25)]
    found = rosenbaum_bounds(d, gamma=[1, 2])
    assert found.estimate == pytest.approx(np.median(averages))
    assert found.estimate_low[0] == found.estimate_high[0]
    p = 2 / 3
    below, above = ((np.array(averages) > found.estimate_low[1] + e).sum() for e in (-1e-9, 1e-9))
    assert above <= p * len(averages) <= below
    signs = rosenbaum_bounds(d, gamma=1, statistic="sign")
    assert signs.estimate == pytest.approx(np.median(d))


def test_averages_by_bisection_are_those_written_out() -> None:
    d = np.random.default_rng(5).normal(size=1600)
    i, j = np.triu_indices(len(d))
    averages = np.sort((d[i] + d[j]) / 2)
    for place in (1, 1000, len(averages) // 2, len(averages)):
        assert pair_averages_at(d, place) == pytest.approx(averages[place - 1], abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-20, 20), min_size=4, max_size=30), st.floats(1, 5), st.randoms(use_true_random=False))
def test_bounds_widen_with_gamma_and_know_neither_order_nor_units(d: list[int], gamma: float, random) -> None:
    if not any(d):
        return
    found = rosenbaum_bounds(np.array(d, dtype=float), gamma=[1, gamma, gamma + 1])
    assert (np.diff(found.pvalue_high) >= -1e-12).all()
    assert (np.diff(found.pvalue_low) <= 1e-12).all()
    assert (found.ci_low[1:] <= found.ci_low[:-1]).all()
    assert (found.estimate_high[1:] >= found.estimate_high[:-1]).all()
    shuffled = list(d)
    random.shuffle(shuffled)
    other = rosenbaum_bounds(-8.0 * np.array(shuffled), gamma=[1, gamma, gamma + 1])
    np.testing.assert_allclose(other.pvalue_high, found.pvalue_high, rtol=1e-9)
    np.testing.assert_allclose(other.estimate_low, -8 * found.estimate_high)
    np.testing.assert_allclose(other.ci_low, -8 * found.ci_high)


@pytest.mark.slow
def test_the_interval_covers_under_the_worst_bias() -> None:
    """Hidden bias of gamma 2 that always favours the larger outcome: the interval at 2 holds, that at 1 does not."""
    rng = np.random.default_rng(6)
    covered = {1.0: 0, 2.0: 0}
    for _ in range(400):
        size = np.abs(rng.normal(size=60))
        d = 0.5 + np.where(rng.random(60) < 2 / 3, size, -size)
        found = rosenbaum_bounds(d, gamma=[1, 2])
        for k, gamma in enumerate((1.0, 2.0)):
            covered[gamma] += int(found.ci_low[k] <= 0.5 <= found.ci_high[k])
    assert covered[2.0] >= stats.binom.ppf(0.001, 400, 0.95)
    assert covered[1.0] < 0.6 * 400


def test_amplification() -> None:
    """Rosenbaum and Silber 2009: a gamma of 2 is a confounder of 3 and 5, or of 5 and 3."""
    assert amplify_gamma(2, [3, 5]).tolist() == [5, 3]
    assert amplify_gamma(1.25, 2.0)[0] == pytest.approx(2.0)
    with pytest.raises(CausalRecError, match="above gamma = 2"):
        amplify_gamma(2, [1.5])


# ---- matched sets


def worst_mean(scores: np.ndarray, gamma: float) -> float:
    """The greatest mean over all hidden u in {0, 1}^n, by enumeration."""
    best = -math.inf
    for u in itertools.product([0, 1], repeat=len(scores)):
        weight = gamma ** np.array(u, dtype=float)
        best = max(best, float(weight @ scores / weight.sum()))
    return best


def test_moments_are_the_worst_of_every_hidden_cause() -> None:
    rng = np.random.default_rng(7)
    sets = [np.sort(rng.integers(0, 9, size).astype(float)) for size in (2, 3, 3, 5)]
    start = np.cumsum([0, *map(len, sets)])
    mean, variance = set_moments(np.concatenate(sets), start, 3.0)
    assert mean == pytest.approx(sum(worst_mean(q, 3.0) for q in sets))
    assert variance > 0


def test_sets_of_two_are_pairs() -> None:
    y = np.column_stack([EXPOSED, NEIGHBOUR]).ravel()
    sets, treatment = np.repeat(np.arange(33), 2), np.tile([1, 0], 33)
    found = matched_set_bounds(y, sets, treatment=treatment, gamma=[1, 3])
    pairs = rosenbaum_bounds(EXPOSED, NEIGHBOUR, gamma=[1, 3])
    assert found.pvalue_high.tolist() == pairs.pvalue_high.tolist()
    assert found.ci_low.tolist() == pairs.ci_low.tolist()


def test_events_in_sets_are_exact() -> None:
    """Three sets of one treated and two or three controls, and one of one control and two treated: all assignments."""
    y = np.array([1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0])
    sets = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 3])
    treatment = np.array([1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1, 0])
    y, sets, treatment = np.append(y, [1, 0, 1]), np.append(sets, [4, 4, 4]), np.append(treatment, [1, 0, 1])
    groups = [np.flatnonzero(sets == s) for s in range(5)]
    gamma = 2.0
    observed = y[treatment == 1].sum()
    total = 0.0
    for ones in itertools.product(*groups):
        chance, events = 1.0, 0.0
        for one, rows in zip(ones, groups, strict=True):
            few = treatment[rows].sum() == 1
            # The worst case favours treated with the event: of one treated those with it, of one control those without.
            odds = np.where(y[rows] == few, gamma, 1.0)
            chance *= odds[rows == one][0] / odds.sum()
            events += y[one] if few else y[rows].sum() - y[one]
        total += chance * (events >= observed)
    found = matched_set_bounds(y, sets, treatment=treatment, gamma=gamma, alternative="greater")
    assert found.pvalue_high[0] == pytest.approx(total)
    assert (found.statistic, found.n_sets) == (observed, 5)
    other = matched_set_bounds(1 - y, sets, treatment=treatment, gamma=gamma, alternative="less")
    assert other.pvalue_high[0] == pytest.approx(total)


def test_events_in_pairs_are_mcnemars() -> None:
    treated, control = [1] * 9 + [0] * 3 + [1] * 4, [0] * 9 + [1] * 3 + [1] * 4
    y = np.concatenate([treated, control])
    sets, treatment = np.tile(np.arange(16), 2), np.repeat([1, 0], 16)
    found = matched_set_bounds(y, sets, treatment=treatment, gamma=[1, 2])
    expected = mcnemar_bounds(9, 3, gamma=[1, 2])
    np.testing.assert_allclose(found.pvalue_high, expected.pvalue_high)
    assert (found.n_sets, found.n_used) == (16, 12)


def test_many_trials_of_several_kinds() -> None:
    groups = [(3000, 0.3), (2500, 0.6)]
    exact = np.convolve(*(stats.binom.pmf(np.arange(n + 1), n, p) for n, p in groups))[2450:].sum()
    assert trials_tail(groups, 2450) == pytest.approx(exact, rel=0.01)


@pytest.fixture
def triples() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(8)
    sets, treatment = np.repeat(np.arange(60), 3), np.tile([1, 0, 0], 60)
    return rng.normal(size=60)[sets] * 3 + rng.normal(size=180) + 1.0 * treatment, sets, treatment


def test_larger_sets(triples) -> None:
    y, sets, treatment = triples
    found = matched_set_bounds(y, sets, treatment=treatment, gamma=1.5)
    unbiased = matched_set_bounds(y, sets, treatment=treatment, gamma=1)
    assert found.ci_low[0] < unbiased.ci_low[0] < 1.0 < unbiased.ci_high[0] < found.ci_high[0]
    assert found.estimate == unbiased.estimate == pytest.approx(1.0, abs=0.35)
    assert unbiased.estimate_low[0] == pytest.approx(unbiased.estimate_high[0], abs=1e-6)
    for end, outward in ((found.ci_low[0], -1), (found.ci_high[0], 1)):
        for move, rejected in ((-1e-5, False), (1e-5, True)):
            shifted = y - (end + outward * move) * treatment
            p = matched_set_bounds(shifted, sets, treatment=treatment, gamma=1.5).pvalue_high[0]
            assert (p <= 0.05) == rejected
    order = np.random.default_rng(9).permutation(len(y))
    other = matched_set_bounds(5 * y[order] - 2, sets[order], treatment=treatment[order], gamma=1.5)
    np.testing.assert_allclose(other.pvalue_high, found.pvalue_high)
    np.testing.assert_allclose(other.ci_low, 5 * found.ci_low, atol=1e-6)
    turned = matched_set_bounds(-y, sets, treatment=treatment, gamma=1.5)
    np.testing.assert_allclose(turned.ci_low, -found.ci_high, atol=1e-6)
    flipped = matched_set_bounds(y, sets, treatment=1 - treatment, gamma=1.5)  # one control, two treated
    np.testing.assert_allclose(flipped.pvalue_high, found.pvalue_high, rtol=1e-9)
    np.testing.assert_allclose(flipped.ci_low, -found.ci_high, atol=1e-6)


@pytest.mark.slow
def test_the_size_of_the_test_of_sets() -> None:
    rng = np.random.default_rng(10)
    sets, treatment = np.repeat(np.arange(40), 3), np.tile([1, 0, 0], 40)
    pvalues = [
        matched_set_bounds(rng.normal(size=120), sets, treatment=treatment, gamma=1, alternative="greater").pvalue
        for _ in range(200)
    ]
    assert stats.kstest(pvalues, "uniform").pvalue > 0.001


def test_from_matches() -> None:
    rng = np.random.default_rng(11)
    x = rng.normal(size=300)
    treatment = (rng.random(300) < 1 / (1 + np.exp(1 - x))).astype(int)
    y = x + treatment + rng.normal(size=300)
    score = 1 / (1 + np.exp(1 - x))
    pairs = match(propensity=score, treatment=treatment, replace=False)
    found = matched_set_bounds(y, pairs, treatment=treatment, gamma=1)
    table = pairs.pairs()
    expected = rosenbaum_bounds(y[table["unit"]], y[table["match"]], gamma=1)
    assert found.pvalue == pytest.approx(expected.pvalue)
    full = matched_set_bounds(
        y, match(propensity=score, treatment=treatment, method="full"), treatment=treatment, gamma=1
    )
    assert full.ci_low[0] < 1.0 < full.ci_high[0]
    with pytest.raises(CausalRecError, match="replace=False"):
        matched_set_bounds(y, match(propensity=score, treatment=treatment), treatment=treatment)


@pytest.mark.parametrize("bad", [0.5, [1, -1], math.inf, math.nan, []])
def test_gamma_below_one(bad) -> None:
    with pytest.raises(CausalRecError, match="at least 1"):
        rosenbaum_bounds([1.0, 2.0], gamma=bad)


def test_errors_that_name_the_remedy() -> None:
    with pytest.raises(CausalRecError, match="no discordant pairs"):
        mcnemar_bounds(0, 0)
    with pytest.raises(CausalRecError, match="whole number"):
        mcnemar_bounds(1.5, 2)
    with pytest.raises(OutcomeError, match="finer"):
        rosenbaum_bounds([1.0, 2.0], [1.0, 2.0])
    with pytest.raises(OutcomeError, match="no values"):
        rosenbaum_bounds([])
    with pytest.raises(CausalRecError, match="signed_rank"):
        rosenbaum_bounds([1.0], statistic="mean")
    with pytest.raises(CausalRecError, match="alternative"):
        rosenbaum_bounds([1.0], alternative="up")
    with pytest.raises(OutcomeError, match="discordant"):
        matched_set_bounds([1, 1, 0, 0], [0, 0, 1, 1], treatment=[1, 0, 1, 0])
    with pytest.raises(OutcomeError, match="same outcome"):
        matched_set_bounds([3, 3, 3, 2, 2, 2], [0, 0, 0, 1, 1, 1], treatment=[1, 0, 0, 1, 0, 0])
    with pytest.raises(CausalRecError, match="several treated and several controls"):
        matched_set_bounds([3, 1, 2, 2], [0, 0, 0, 0], treatment=[1, 1, 0, 0])
    with pytest.raises(TreatmentError, match="both arms"):
        matched_set_bounds([3, 1, 2, 2], [0, 1, 2, -1], treatment=[1, 1, 0, 0])


def test_in_words() -> None:
    found = rosenbaum_bounds(EXPOSED, NEIGHBOUR, gamma=[1, 2])
    assert "up to gamma = " in str(found)
    assert "even without hidden bias" in str(rosenbaum_bounds([1.0, -2.0, 1.5], gamma=1))
    assert found.to_frame()["gamma"].tolist() == [1, 2]
