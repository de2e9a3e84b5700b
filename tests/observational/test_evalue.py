"""E-values and tipping points: printed numbers, and that the confounders they name do what is said."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from causalrec.exceptions import CausalRecError
from causalrec.observational import bias_factor, evalue, evalue_of_table, tipping_points, without_confounder
from causalrec.observational.evalue import evalue_of_ratio, ratios_for
from causalrec.results import EffectResult

EFFECT = EffectResult(0.4, 0.1, 0.2, 0.6, 0.001, 0.95, 100, "OLS", "ate")


@pytest.mark.parametrize(
    ("estimate", "low", "high", "measure", "rare", "expected"),
    [
        (0.80, 0.71, 0.91, "rr", None, (1.80902, 1.42857)),
        (3.9, 1.8, 8.7, "or", True, (7.26303, 3.0)),
        (3.9, 1.8, 8.7, "hr", True, (7.26303, 3.0)),
        (10.73, 8.02, 14.36, "rr", None, (20.94777, 15.52336)),
    ],
)
def test_printed_examples(estimate, low, high, measure, rare, expected) -> None:
    """VanderWeele and Ding 2017: leukaemia, formula feeding, smoking and lung cancer."""
    found = evalue(estimate, low, high, measure=measure, rare=rare)
    assert (found.evalue, found.evalue_ci) == pytest.approx(expected, abs=5.1e-6)


def test_a_risk_difference_from_a_table() -> None:
    """Smoking and lung cancer (Hammond and Horn 1958), the example of the R package EValue."""
    found = evalue_of_table(397, 78557, 51, 108778)
    assert (round(found.evalue, 2), round(found.evalue_ci, 2)) == (20.95, 15.96)
    higher = evalue_of_table(397, 78557, 51, 108778, true_value=0.001)
    assert 1 < higher.evalue_ci < higher.evalue < found.evalue
    assert evalue_of_table(12, 90, 10, 92).evalue_ci == 1.0


def test_common_outcomes() -> None:
    odds = evalue(0.86, 0.75, 0.99, measure="or", rare=False)
    assert odds.evalue == evalue(math.sqrt(0.86)).evalue
    assert odds.evalue_ci == evalue(math.sqrt(0.99)).evalue
    hazards = evalue(0.56, 0.46, 0.69, measure="hr", rare=False)
    ratio = (1 - 0.5 ** math.sqrt(0.56)) / (1 - 0.5 ** math.sqrt(1 / 0.56))
    assert hazards.risk_ratio == pytest.approx(ratio)
    assert hazards.evalue == pytest.approx(1 / ratio + math.sqrt(1 / ratio * (1 / ratio - 1)))


def test_differences() -> None:
    """Of a standardised difference d, exp(0.91 d), and limits at ±1.78 standard errors (VanderWeele and Ding 2017)."""
    found = evalue(0.5, measure="smd", std_error=0.25)
    assert found.risk_ratio == pytest.approx(math.exp(0.91 * 0.5))
    assert math.log(found.risk_ratio_low) == pytest.approx(0.91 * 0.5 - 1.78 * 0.25, abs=2e-3)
    coefficient = evalue(1.0, measure="ols", std_error=0.5, sd=2.0)
    assert coefficient.evalue == pytest.approx(found.evalue)
    assert coefficient.evalue_ci == pytest.approx(found.evalue_ci)
    assert evalue(0.5, measure="ols", sd=2.0, delta=2.0).evalue == pytest.approx(found.evalue)
    assert evalue(EFFECT, measure="ols", sd=1.0).evalue_ci == evalue(0.4, 0.2, 0.6, measure="smd").evalue_ci
    risks = evalue(0.1, 0.05, 0.15, measure="rd", baseline_risk=0.2)
    assert (risks.risk_ratio, risks.risk_ratio_low) == pytest.approx((1.5, 1.25))


def test_another_value_than_none() -> None:
    assert evalue(2.5, true_value=1.5).evalue == pytest.approx(evalue(2.5 / 1.5).evalue)
    assert evalue(2.0, 1.2, 3.0, true_value=1.1).evalue_ci == pytest.approx(evalue_of_ratio(1.2 / 1.1))
    assert evalue(0.9, 0.8, 0.98, true_value=1.2).evalue == pytest.approx(evalue_of_ratio(0.9 / 1.2))


@given(st.floats(0.05, 20))
def test_a_confounder_so_strong_explains_it_away(ratio: float) -> None:
    value = evalue(ratio).evalue
    assert bias_factor(value, value) == pytest.approx(max(ratio, 1 / ratio))
    assert value == pytest.approx(evalue(1 / ratio).evalue)


def test_ratios_that_go_together() -> None:
    factor = 2.5
    for a, b in zip((3.0, 5.0, 40.0), ratios_for(factor, [3.0, 5.0, 40.0]), strict=True):
        assert bias_factor(a, b) == pytest.approx(factor)


def test_an_interval_with_no_effect_in_it() -> None:
    assert evalue(1.3, 0.9, 1.9).evalue_ci == 1.0
    assert evalue(1.0, 0.9, 1.2).evalue == 1.0
    assert math.isnan(evalue(1.3).evalue_ci)
    assert "both the treatment and the outcome" in str(evalue(1.3))


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ((-0.5,), {}, "above 0"),
        ((2.0, -1.0, 3.0), {}, "above 0"),
        ((2.0, 2.5, 3.0), {}, "does not contain the estimate"),
        ((2.0, 1.0, 1.5), {}, "does not contain the estimate"),
        ((2.0,), {"measure": "or"}, "needs rare"),
        ((2.0,), {"measure": "odds"}, "expected one of"),
        ((2.0,), {"measure": "ols"}, "needs sd"),
        ((0.1,), {"measure": "rd"}, "needs baseline_risk"),
        ((0.1, 0, 1), {"measure": "smd", "std_error": 0.1}, "pass one of them"),
        ((math.nan,), {}, "finite"),
        ((EFFECT,), {}, "measure is not given"),
    ],
)
def test_bad_input(arguments, options, words: str) -> None:
    with pytest.raises(CausalRecError, match=words):
        evalue(*arguments, **options)


def test_bad_tables() -> None:
    for counts, words in (((-1, 2, 3, 4), "0 or more"), ((1, 2, 0, 4), "above"), ((1, 9, 5, 5), "exchange the arms")):
        with pytest.raises(CausalRecError, match=words):
            evalue_of_table(*counts)
    with pytest.raises(CausalRecError, match="at least 1"):
        bias_factor(0.5, 2)


# ---- tipping points


@pytest.mark.parametrize("confounder", ["binary", "normal"])
@pytest.mark.parametrize(("scale", "values"), [("difference", (0.4, 0.2, 0.6)), ("ratio", (0.7, 0.6, 0.9))])
def test_the_effect_that_is_named_tips_the_estimate(confounder: str, scale: str, values) -> None:
    found = tipping_points(*values, scale=scale, confounder=confounder)
    assert np.isfinite(found.effect_for_estimate).any()
    for start, effects in ((values[0], found.effect_for_estimate), (found.end, found.effect_for_interval)):
        known = np.isfinite(effects)
        moved = [
            without_confounder(start, treated=a, control=b, effect=e, scale=scale, confounder=confounder)[0]
            for a, b, e in zip(found.treated[known], found.control[known], effects[known], strict=True)
        ]
        np.testing.assert_allclose(moved, 1.0 if scale == "ratio" else 0.0, atol=1e-12)


def test_no_effect_is_enough_where_the_prevalences_are_too_alike() -> None:
    """Even an infinite effect divides a ratio by no more than the ratio of the prevalences."""
    found = tipping_points(2.0, treated=[0.2, 0.2, 0.2], control=[0.1, 0.11, 0.05], scale="ratio")
    assert np.isnan(found.effect_for_estimate).tolist() == [True, True, False]


def test_a_binary_confounder_in_a_population() -> None:
    """Lin, Psaty and Kronmal: rates with a confounder of known prevalences, adjusted back to the truth."""
    p1, p0, effect, true = 0.6, 0.2, 2.5, 1.3
    base = 0.01
    rate1 = true * base * (p1 * effect + 1 - p1)
    rate0 = base * (p0 * effect + 1 - p0)
    adjusted = without_confounder(rate1 / rate0, treated=p1, control=p0, effect=effect, scale="ratio")
    assert adjusted[0] == pytest.approx(true)


def test_tipping_points_of_results() -> None:
    found = tipping_points(EFFECT, treated=[0.5], control=[0.1])
    assert (found.effect_for_estimate[0], found.effect_for_interval[0]) == pytest.approx((1.0, 0.5))
    assert np.isnan(tipping_points(0.1, -0.1, 0.3, treated=[0.5], control=[0.1]).effect_for_interval[0])
    assert "Tipping points" in str(found)


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ((0.4, 0.5, 0.6), {}, "does not contain"),
        ((-2.0,), {"scale": "ratio"}, "above 0"),
        ((0.4,), {"treated": [1.5], "control": [0.1]}, "between 0 and 1"),
        ((0.4,), {"treated": [0.5]}, "go together"),
        ((0.4,), {"scale": "odds"}, "scale is"),
        ((math.inf,), {}, "finite"),
    ],
)
def test_bad_tipping_points(arguments, options, words: str) -> None:
    with pytest.raises(CausalRecError, match=words):
        tipping_points(*arguments, **options)
    with pytest.raises(CausalRecError, match="not above 0"):
        without_confounder(2.0, treated=0.5, control=0.1, effect=-1, scale="ratio")


def test_the_interval_of_a_table_is_the_usual_one() -> None:
    found = evalue_of_table(40, 60, 20, 80)
    half = stats.norm.isf(0.025) * math.sqrt(0.4 * 0.6 / 100 + 0.2 * 0.8 / 100)
    assert (found.ci_low, found.ci_high) == pytest.approx((0.2 - half, 0.2 + half))


def test_a_difference_of_thousands_of_deviations_never_overflows() -> None:
    found = evalue(1.0, 0.9, 1.1, measure="ols", sd=1e-6)
    assert np.isfinite(found.risk_ratio)
    assert np.isnan(evalue(1.0, measure="ols", sd=1.0).evalue_ci)
