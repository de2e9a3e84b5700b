"""The figures of targeting draw the numbers of their results and say them in words."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from causalrec.exceptions import CausalRecError
from causalrec.plots import plot_cost_curve, plot_cost_difference, plot_profit, plot_regret
from causalrec.results import CostCurveResult

from .policy_results import cost, difference, profit, regret
from .test_figures import LONG, drawn, lines, segments, ticks

NAN = float("nan")


def test_gain_over_spend_and_without_targeting() -> None:
    both, one = cost(), cost("mail only", 0.3, 0.8)
    ax = plot_cost_curve(both, one)
    found = lines(ax)
    assert ([*both.spend, 0.5], [*both.gain, both.gain[-1]]) in found
    assert ([*one.spend, 0.5], [*one.gain, one.gain[-1]]) in found  # flat where nothing is left to spend on
    assert ([0.3], [one.gain[-1]]) in found
    assert (both.spend.tolist(), both.untargeted.tolist()) in found
    assert ax.get_xlim() == (0.0, 0.5)
    assert "both arms gains 0.5 [0.45, 0.55] at 0.5 and 0.3125 at half" in ax.get_label()
    assert "Without targeting 0.3 at the end." in ax.get_label()
    assert drawn(ax)
    with pytest.raises(CausalRecError, match="nothing to draw"):
        plot_cost_curve()


def test_a_rule_without_gain_is_drawn() -> None:
    zero = np.zeros(1)
    assert drawn(plot_cost_curve(CostCurveResult("none", "0", (1,), 0.0, 0.95, 9, "scores", *[zero] * 6)))


def test_difference_of_two_rules() -> None:
    result = difference()
    ax = plot_cost_difference(result)
    assert (result.spend.tolist(), result.difference.tolist()) in lines(ax)
    assert "both less mail only, area up to a spend of 0.5: 0.05 [0.03, 0.07], p = 1.00e-06." in ax.get_label()
    assert drawn(ax)


def test_profit_and_the_shares_that_may_be_best() -> None:
    result = profit()
    ax = plot_profit(result)
    found = lines(ax)
    assert (result.share.tolist(), result.profit.tolist()) in found
    assert (result.share.tolist(), result.random.tolist()) in found
    assert ([0.6], [0.36]) in found
    assert [segment[0][0] for segment in segments(ax)] == [0.4]
    assert [segment[1][0] for segment in segments(ax)] == [0.8]
    band = ax.patches[0].get_extents().transformed(ax.transData.inverted())
    assert (band.x0, band.x1) == pytest.approx((0.4, 0.8))
    assert "0.36 [0.2, 0.52], with 60% treated; shares from 40% to 80% may be best" in ax.get_label()
    assert ticks(ax, "x")[:2] == ["0%", "20%"]
    assert drawn(ax)


def test_a_fixed_cost_is_a_jump_and_not_a_slope() -> None:
    result = profit(0.05)
    found = lines(plot_profit(result))
    assert (result.share[1:].tolist(), result.profit[1:].tolist()) in found


def test_regret_of_policies() -> None:
    result = regret()
    ax = plot_regret(result)
    assert (result.regret.tolist(), [2.0, 1.0, 0.0]) in lines(ax)
    ends = [[[low, row], [high, row]]
            for low, high, row in zip(result.regret_ci_low, result.regret_ci_high, (2, 1, 0), strict=True)]  # fmt: skip
    np.testing.assert_allclose(segments(ax), ends)
    assert ax.get_label().endswith("May be best: tree.")
    assert drawn(plot_regret(regret(LONG, *(f"policy {i}" for i in range(20)))))
    nothing = np.full(3, NAN)
    with pytest.raises(CausalRecError, match="bounds"):
        plot_regret(dataclasses.replace(result, regret_ci_high=nothing))
