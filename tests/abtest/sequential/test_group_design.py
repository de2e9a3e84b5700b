"""Designs against Jennison & Turnbull's tables, gsDesign's and rpact's printed values."""

import math

import numpy as np
import pytest

from causalrec.abtest import (
    CustomSpending,
    Equivalence,
    HwangShihDeCani,
    NonInferiority,
    PowerFamily,
    crossing_probabilities,
    design_group_sequential,
    solve_power,
    wang_tsiatis_bounds,
)
from causalrec.exceptions import CausalRecError


@pytest.mark.parametrize(
    ("shape", "power", "factors"),
    [
        # Jennison & Turnbull (2000), Tables 2.2 (Pocock) and 2.4 (O'Brien-Fleming), alpha 0.05, K = 2, 3, 4, 5.
        (0.5, 0.8, [1.110, 1.166, 1.202, 1.229]),
        (0.5, 0.9, [1.100, 1.151, 1.183, 1.207]),
        (0.0, 0.8, [1.008, 1.017, 1.024, 1.028]),
        (0.0, 0.9, [1.007, 1.016, 1.022, 1.026]),
    ],
)
def test_inflation_factors_of_the_classic_tests(shape, power, factors):
    found = []
    for k in (2, 3, 4, 5):
        classic = wang_tsiatis_bounds(k, shape=shape)
        spending = CustomSpending(classic.fraction, classic.alpha_spent / classic.alpha_spent[-1])
        found.append(design_group_sequential(n_looks=k, power=power, spending=spending).inflation_factor)
    np.testing.assert_allclose(found, factors, atol=5.5e-4)


def test_gsdesign_default():
    """gsDesign() prints bounds 3.0107, 2.5465, 1.9992 and -0.2387, 0.9411, 1.9992, n 1.0699, E{N} 0.6249 and 0.7913."""
    design = design_group_sequential(
        n_looks=3, alpha=0.025, power=0.9, alternative="greater", spending=HwangShihDeCani(-4),
        futility=HwangShihDeCani(-2),
    )  # fmt: skip
    np.testing.assert_allclose(design.upper, [3.0107, 2.5465, 1.9992], atol=5.1e-5)
    np.testing.assert_allclose(design.lower, [-0.2387, 0.9411, 1.9992], atol=5.1e-5)
    found = [design.inflation_factor, design.expected_null, design.expected_alternative]
    np.testing.assert_allclose(found, [1.0699, 0.6249, 0.7913], atol=5.1e-5)
    np.testing.assert_allclose(design.beta_spent[-1], 0.1, atol=1e-9)


def test_rpact_kim_demets():
    """rpact 3.3's vignette of summaries: asKD (1), bsOF, power 0.95: inflation factor 1.1247, ASN H1 0.6553."""
    design = design_group_sequential(
        n_looks=3, alpha=0.025, power=0.95, alternative="greater", spending=PowerFamily(1), futility="obrien-fleming",
    )  # fmt: skip
    np.testing.assert_allclose([design.inflation_factor, design.expected_alternative], [1.1247, 0.6553], atol=5.1e-5)


@pytest.mark.parametrize("alternative", ["two-sided", "greater"])
@pytest.mark.parametrize(("futility", "binding"), [(None, False), ("pocock", False), ("pocock", True)])
def test_power_is_kept_and_exits_add_up(alternative, futility, binding):
    design = design_group_sequential(
        fractions=[0.3, 0.7, 1.0], power=0.9, alternative=alternative, futility=futility, binding=binding
    )
    exits = crossing_probabilities(design, design.drift)
    assert abs(exits.above.sum() - 0.9) < 1e-9
    for pair in (
        (design.efficacy_null, design.futility_null),
        (design.efficacy_alternative, design.futility_alternative),
    ):
        assert abs(sum(map(np.sum, pair)) - 1) < 1e-12
    assert design.efficacy_null.sum() <= 0.05 + 1e-12
    if futility is None or binding:
        assert abs(design.efficacy_null.sum() - 0.05) < 1e-12


def test_one_look_is_the_fixed_test():
    design = design_group_sequential(n_looks=1)
    assert abs(design.inflation_factor - 1) < 1e-9
    assert abs(design.upper[0] - 1.959963984540054) < 1e-12


def test_units_come_from_the_fixed_design():
    fixed = solve_power(mean=10, std=20, effect=1, power=0.8, hypothesis=NonInferiority(0.5), metric="minutes")
    design = design_group_sequential(fixed, n_looks=2, spending="pocock")
    assert (design.alternative, design.alpha, design.power) == ("greater", fixed.alpha, fixed.power)
    expected = [math.ceil(design.inflation_factor * fixed.n_obs * t) for t in (0.5, 1.0)]
    assert design.n_obs.tolist() == expected
    assert design.n_obs_max == expected[1]
    assert abs(design.n_obs_null - design.expected_null * fixed.n_obs) < 1e-6
    assert f"at most {expected[1]:,} units ({fixed.n_obs:,} with one look)" in str(design)
    assert design.to_frame()["n_obs"].tolist() == expected


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: design_group_sequential(n_looks=2, fractions=[0.5, 1.0]), ["both n_looks and fractions"]),
        (lambda: design_group_sequential(fractions=[0.5, 0.9]), ["0.9", "expected 1"]),
        (lambda: design_group_sequential(n_looks=0), ["n_looks is 0"]),
        (lambda: design_group_sequential(power=0.04), ["power is 0.04", "alpha"]),
        (lambda: design_group_sequential(binding=True), ["futility"]),
        (
            lambda: design_group_sequential(
                solve_power(mean=10, std=2, effect=0, power=0.8, hypothesis=Equivalence(0.5))
            ),
            ["equivalence"],
        ),
    ],
)
def test_refusals(make, words):
    with pytest.raises(CausalRecError) as caught:
        make()
    assert all(word in str(caught.value) for word in words), str(caught.value)
