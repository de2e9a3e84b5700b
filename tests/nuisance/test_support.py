"""Balancing weights, common support, Crump trimming and overlap, against their definitions and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from sklearn.linear_model import LinearRegression, LogisticRegression

from causalrec.exceptions import CausalRecError, OverlapError, TreatmentError
from causalrec.nuisance import fit_nuisances, overlap
from causalrec.nuisance.support import TARGETS, balancing_weights, crump_bounds, trim_bounds

LINEAR = {"outcome_model": LinearRegression(), "propensity_model": LogisticRegression()}
SCORE = np.array([0.1, 0.3, 0.5, 0.8, 0.9, 0.2])
T = np.array([0, 1, 0, 1, 0, 1])


def tilt(e: np.ndarray, estimand: str) -> np.ndarray:
    """Table 1 of Li, Morgan and Zaslavsky 2018."""
    return {"ate": 1 + 0 * e, "att": e, "atc": 1 - e, "ato": e * (1 - e), "atm": np.minimum(e, 1 - e)}[estimand]


@pytest.mark.parametrize("estimand", TARGETS)
def test_weights_are_the_tilt_over_the_probability_of_the_own_arm(estimand) -> None:
    weight, change = balancing_weights(SCORE, T, estimand)
    np.testing.assert_allclose(weight, tilt(SCORE, estimand) / np.where(T == 1, SCORE, 1 - SCORE), rtol=1e-14)
    up, down = (balancing_weights(SCORE + d, T, estimand)[0] for d in (1e-6, -1e-6))
    smooth = (SCORE != 0.5) | (estimand != "atm")
    np.testing.assert_allclose(change[smooth], ((up - down) / 2e-6)[smooth], rtol=1e-6, atol=1e-8)


def bound(score: np.ndarray, estimand: str, keep: np.ndarray) -> float:
    """The efficiency bound of the effect among some units, over the outcome's variance: E[h²/(e(1-e))] / E[h]²."""
    e = score[keep]
    h = tilt(e, estimand)
    return float((h**2 * (1 / e + 1 / (1 - e))).sum() / h.sum() ** 2)


@pytest.mark.parametrize("estimand", ["ate", "att", "atc"])
@settings(deadline=None, max_examples=25)
@given(score=st.lists(st.integers(1, 99), min_size=1, max_size=9))
def test_no_set_of_units_has_a_smaller_bound_than_crumps(estimand, score) -> None:
    e = np.array(score) / 100
    low, high = crump_bounds(e, estimand)
    found = bound(e, estimand, (e >= low) & (e <= high))
    sets = ([bool(code >> i & 1) for i in range(len(e))] for code in range(1, 2 ** len(e)))
    assert found == pytest.approx(min(bound(e, estimand, np.array(keep)) for keep in sets), rel=1e-12)


def test_crumps_alpha_of_a_large_sample_solves_their_equation() -> None:
    """Corollary 1 for scores that are uniform: 1 / (α (1 - α)) = 2 E[1 / (e (1 - e)) | α < e < 1 - α]."""
    e = (np.arange(400_000) + 0.5) / 400_000
    log_odds = lambda a: np.log((1 - a) / a)  # noqa: E731
    alpha = optimize.brentq(lambda a: 1 / (a * (1 - a)) - 4 * log_odds(a) / (1 - 2 * a), 0.01, 0.3)
    assert crump_bounds(e) == pytest.approx((alpha, 1 - alpha), abs=1e-5)


def test_crump_trims_nobody_where_scores_are_alike() -> None:
    assert crump_bounds(np.array([0.4, 0.5, 0.6])) == (0.0, 1.0)


def test_sample_weights_in_crumps_rule_are_copies() -> None:
    e, w = np.array([0.01, 0.05, 0.3, 0.5, 0.97]), np.array([1, 3, 2, 4, 1])
    for estimand in ("ate", "att", "atc"):
        assert crump_bounds(e, estimand, w.astype(float)) == pytest.approx(crump_bounds(np.repeat(e, w), estimand))


def test_scores_of_zero_and_one_are_always_cut_off() -> None:
    low, high = crump_bounds(np.array([0.0, 0.4, 0.5, 0.6, 1.0]))
    assert 0 < low < 0.4
    assert 0.6 < high < 1


def test_trimming_rules() -> None:
    assert trim_bounds(None, SCORE, T) == (0.0, 1.0)
    assert trim_bounds(0.15, SCORE, T) == (0.15, 0.85)
    assert trim_bounds((0.2, 0.85), SCORE, T) == (0.2, 0.85)
    assert trim_bounds("common_support", SCORE, T) == (0.2, 0.8)
    assert trim_bounds("crump", SCORE, T) == crump_bounds(SCORE)


@pytest.mark.parametrize("trim", [0.5, -0.1, (0.9, 0.1), (0.1,), (0.1, 0.5, 0.9), "crumb", True, np.nan, {}])
def test_trimming_that_makes_no_sense(trim) -> None:
    with pytest.raises(CausalRecError, match=r"trim is .*expected a score below 0\.5"):
        trim_bounds(trim, SCORE, T)


def test_trimming_that_leaves_nothing_of_an_arm() -> None:
    with pytest.raises(OverlapError, match=r"no treated unit has a propensity in \[0.4, 0.6\].*from 0.2 to 0.8"):
        trim_bounds(0.4, SCORE, T)


def test_overlap_says_what_weighting_costs() -> None:
    rng = np.random.default_rng(0)
    score = rng.beta(0.7, 1.5, 4000).clip(0.001, 0.999)
    t = (rng.random(4000) < score).astype(np.int64)
    found = overlap(score, t, estimand="att", share_clipped=0.25)
    odds = (score / (1 - score))[t == 0]
    assert (found.ess_treated, found.ess_control) == pytest.approx((t.sum(), odds.sum() ** 2 / (odds**2).sum()))
    assert (found.n_treated, found.n_control) == (t.sum(), 4000 - t.sum())
    assert (found.crump_low, found.crump_high) == crump_bounds(score, "att")
    assert found.share_trimmed == np.mean(score > found.crump_high)
    assert found.control_after.sum() == pytest.approx(1)
    # Weighted, the controls lie as the treated do.
    assert found.control_after == pytest.approx(np.histogram(score[t == 0], found.edges, weights=odds / odds.sum())[0])
    assert np.abs(found.control_after - found.treated_after).sum() < np.abs(found.control - found.treated).sum() / 4
    assert str(found).splitlines()[3:] == [
        f"  Crump trimming  [0, {found.crump_high:.4g}]; outside: 8.1% of units",
        "  effective size  treated 1,225 of 1,225, control 330.3 of 2,775 (weights for the att)",
        "  clipped         25.0% of units",
    ]


def test_overlap_of_other_weights() -> None:
    found = overlap(SCORE, T, weights=np.array([1.0, 1.0, 1.0, 3.0, 0.0, 0.0]))
    assert (found.ess_treated, found.ess_control) == pytest.approx((1.6, 2.0))


def test_a_unit_that_was_certain_to_be_in_the_other_arm_is_the_whole_effective_sample() -> None:
    found = overlap(np.array([0.0, 0.5, 0.5, 0.5]), np.array([1, 1, 0, 0]))
    assert (found.ess_treated, found.ess_control) == (1.0, 2.0)


def test_overlap_of_nuisances_knows_what_was_clipped() -> None:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(300, 1))
    t = (rng.random(300) < 1 / (1 + np.exp(-3 * X[:, 0]))).astype(int)
    found = fit_nuisances(X, X[:, 0], treatment=t, clip=0.1, **LINEAR)
    assert found.overlap().share_clipped == found.share_clipped > 0


def test_overlap_refuses() -> None:
    with pytest.raises(TreatmentError, match="0 treated units of 2"):
        overlap(np.array([0.5, 0.5]), np.array([0, 0]))
    with pytest.raises(CausalRecError, match="estimand is 'atx'"):
        overlap(SCORE, T, estimand="atx")
