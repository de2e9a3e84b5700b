"""The figures of targeting draw the numbers of their results and say them in words."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from causalrec.exceptions import CausalRecError
from causalrec.plots import plot_cost_curve, plot_cost_difference, plot_profit, plot_regret
from causalrec.results import CostCurveComparisonResult, CostCurveResult, PolicyRegretResult, ProfitCurveResult

from .test_figures import LONG, drawn, lines, segments, ticks

NAN = float("nan")


def cost(label: str = "both arms", total: float = 0.5, height: float = 1.0) -> CostCurveResult:
    spend = np.linspace(0, total, 11)
    gain = height * spend * (1.5 - spend)
    half = 0.1 * spend
    return CostCurveResult(label, "none", ("mail",), total, 0.95, 900, "scores", spend, gain, half / 1.96, gain - half,
                           gain + half, 0.6 * spend)  # fmt: skip


def difference() -> CostCurveComparisonResult:
    spend = np.linspace(0, 0.5, 11)
    gap = 0.4 * spend
    return CostCurveComparisonResult(
        "both", "mail only", 0.5, 0.05, 0.01, 0.03, 0.07, 1e-6, 0.95, 900, "paired", spend, gap, 0.1 * spend,
        gap - 0.2 * spend, gap + 0.2 * spend,
    )  # fmt: skip


def profit(fixed: float = 0.0) -> ProfitCurveResult:
    share = np.linspace(0, 1, 11)
    value = share * (1.2 - share) - np.where(share > 0, fixed, 0.0)
    half = 0.1 * share
    near = ((share > 0.35) & (share < 0.85)).astype(np.int64)
    return ProfitCurveResult(
        "DR-learner", 0.6, 0.4, 0.8, 0.36, 0.2, 0.52, 0.55, 0.35, 0.25, 0.45, 1e-9, 0.2, 0.1, 0.3, 1e-4, fixed, 0.95,
        900, "scores", share, value, half / 2, value - half, value + half, value - 2 * half, value + 2 * half,
        0.2 * share - fixed, near,
    )  # fmt: skip


def regret(*names: str) -> PolicyRegretResult:
    many = names or ("tree", "all mail", "all none")
    lost = np.linspace(0, 0.4, len(many))
    low, high = np.maximum(lost - 0.1, 0), lost + 0.1
    return PolicyRegretResult(
        many[0], len(many), 0.95, 900, "scores", np.array(many, dtype=object), 1 - lost, 0 * lost + 0.05, 0.9 - lost,
        1.1 - lost, lost, low, high, (low == 0).astype(np.int64),
    )  # fmt: skip


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
