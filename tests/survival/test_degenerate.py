"""Lifetimes that leave nothing, or little, to compare."""

import math

import pytest

from causalrec.survival import cox_effect, durations_of, logrank_test, rmst_difference


def test_arms_that_meet_only_in_their_own_strata_add_up():
    one = logrank_test([1, 2, 3, 4], [1] * 4, treatment=list("aabb"), control="a")
    both = logrank_test(
        [1, 2, 3, 4] * 2, [1] * 8, treatment=list("aabbccdd"), control="a", strata=[0] * 4 + [1] * 4
    )  # fmt: skip
    assert both.df == 2  # a with b, c with d: not the three of arms that all meet
    assert both.statistic == pytest.approx(2 * one.statistic)


@pytest.mark.parametrize("durations", [[5.0] * 4, [9.0, 1.0, 9.0, 2.0]])
def test_no_restricted_mean_has_an_error_of_zero(durations):
    found = rmst_difference(durations, [1] * 4, treatment=list("abab"), control="a", horizon=4)
    effect = found.effects[0]
    absent = [found.std_error[0], found.ci_low[0], effect.std_error, effect.ci_low, effect.ci_high, effect.pvalue]
    assert all(math.isnan(v) for v in absent)


def test_cox_without_two_different_times_has_no_concordance():
    pytest.importorskip("lifelines")
    found = cox_effect([5.0] * 4, [1] * 4, treatment=list("abab"), control="a")
    assert math.isnan(found.concordance)
    assert found["b"].estimate == pytest.approx(0.0, abs=1e-9)
    assert math.isnan(found["b"].std_error)  # no unit moves the estimate
    assert math.isnan(found["b"].pvalue)


def test_silence_of_just_the_limit_is_not_yet_churn():
    found = durations_of([0, 0], [10.0, 9.9], as_of=17, inactive_for=7)
    assert found.to_dict("list") == {"durations": [10.0, 9.9], "event_observed": [False, True]}
