"""The figures of targeting: gain over spend, profit by share treated with the best share, regret of policies."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalrec.exceptions import CausalRecError
from causalrec.plots._drawing import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    check_known,
    draw_forest,
    finish,
    forest_height,
    limits,
    new_axes,
    short,
    wrapped,
)
from causalrec.results import (
    CostCurveComparisonResult,
    CostCurveResult,
    PolicyRegretResult,
    ProfitCurveResult,
    format_interval,
    format_level,
    format_number,
    format_pvalue,
)

_BAND = {"alpha": 0.15, "linewidth": 0}
_LONGEST_LABEL = 24


def plot_cost_curve(*curves: CostCurveResult, ax: Any = None) -> Any:
    """Gain over spend with pointwise intervals, and what the first rule's arms gain without looking at whom.

    Lines go on flat where a rule has nothing left to spend on.
    """
    check_known(curves)
    ax = new_axes(ax)
    right = max(curve.spend[-1] for curve in curves)
    first = curves[0]
    ax.axhline(0, color=GREY, linewidth=0.8)
    for curve, colour in zip(curves, (BLUE, ORANGE, GREEN, GREY) * len(curves), strict=False):
        spend, gain, low, high = (
            np.r_[v, e] for v, e in zip((curve.spend, curve.gain, curve.ci_low, curve.ci_high),
                                        (right, curve.gain[-1], curve.ci_low[-1], curve.ci_high[-1]), strict=True)
        )  # fmt: skip
        ax.plot(spend, gain, color=colour, linewidth=1.8, label=short(curve.label, _LONGEST_LABEL))
        ax.fill_between(spend, low, high, color=colour, **_BAND)
        if curve.total_spend < right:
            ax.plot(curve.spend[-1], curve.gain[-1], "o", color=colour, markersize=4)
    ax.plot(first.spend, first.untargeted, color=GREY, linestyle="--", label="without targeting")
    ax.set_xlim(0, right or 1.0)
    ax.set_xlabel("spend per person of the population, highest predicted gain per cost first")
    ax.set_ylabel("gain per person of the population,\nin the outcome's unit")
    seen = []
    for curve in curves:
        half = curve.at(float(right) / 2)
        seen.append(
            f"{curve.label} gains {format_number(curve.gain[-1])} "
            f"{format_interval(curve.ci_low[-1], curve.ci_high[-1])} at {format_number(curve.spend[-1])} and "
            f"{format_number(half.estimate)} at half of the longest"
        )
    text = "; ".join(seen) + f". Without targeting {format_number(first.untargeted[-1])} at the end."
    return finish(ax, "What does the money gain?", text)


def plot_cost_difference(result: CostCurveComparisonResult, *, ax: Any = None) -> Any:
    """How much more the first rule gains than the second at the same spend, with pointwise intervals."""
    ax = new_axes(ax)
    ax.axhline(0, color="black", linewidth=0.8)
    ax.plot(result.spend, result.difference, color=BLUE, linewidth=1.8)
    ax.fill_between(result.spend, result.ci_low, result.ci_high, color=BLUE, **_BAND)
    ax.set_xlim(0, result.up_to)
    ax.set_xlabel("spend per person of the population")
    names = f"{short(result.first, _LONGEST_LABEL)} less {short(result.second, _LONGEST_LABEL)}"
    ax.set_ylabel(wrapped(f"gain of {names}, per person", ax, 0.75))
    area = f"{format_number(result.area)} {format_interval(result.area_ci_low, result.area_ci_high)}"
    return finish(
        ax, "Which rule makes more of the money?",
        f"{names}, area up to a spend of {format_number(result.up_to)}: {area}, "
        f"p = {format_pvalue(result.area_pvalue)}.",
    )  # fmt: skip


def plot_profit(result: ProfitCurveResult, *, ax: Any = None) -> Any:
    """Profit by share treated with its pointwise interval, and the set of shares that may be best."""
    ax = new_axes(ax)
    level = format_level(result.confidence_level)
    low, high = limits([0.0], result.ci_low, result.ci_high)
    room = 0.1 * (high - low)
    ax.set_ylim(low - room, high)
    ax.set_xlim(0, 1)
    ax.axhline(0, color="black", linewidth=0.8)
    ax.axvspan(result.best_share_low, result.best_share_high, color=GREEN, alpha=0.1, linewidth=0)
    start = 1 if len(result.share) > 1 and result.fixed_cost > 0 else 0  # the fixed cost is a jump, not a slope
    ax.fill_between(result.share[start:], result.ci_low[start:], result.ci_high[start:], color=BLUE, **_BAND)
    ax.plot(result.share[start:], result.profit[start:], color=BLUE, linewidth=1.8,
            label=f"{short(result.label, 18)}, {level} interval")  # fmt: skip
    ax.plot(result.share[start:], result.random[start:], color=GREY, linestyle="--", label="random order")
    ax.plot(result.best_share, result.best_profit, "o", color=GREEN)
    height = low - 0.25 * room
    ax.hlines(height, result.best_share_low, result.best_share_high, color=GREEN, linewidth=3, label="may be best")
    ax.plot(result.best_share, height, "o", color=GREEN)
    ax.xaxis.set_major_formatter(lambda v, _: f"{v:.0%}")
    ax.set_xlabel("share of people treated, highest predicted profit first")
    ax.set_ylabel("profit per person of the population")
    bounds = format_interval(result.best_profit_ci_low, result.best_profit_ci_high)
    return finish(
        ax, "How many should be treated?",
        f"{result.label}: profit is highest, {format_number(result.best_profit)} {bounds}, with "
        f"{result.best_share:.0%} treated; shares from {result.best_share_low:.0%} to {result.best_share_high:.0%} may "
        f"be best. With everybody treated it is "
        f"{format_number(result.all_profit)} {format_interval(result.all_profit_ci_low, result.all_profit_ci_high)}.",
    )  # fmt: skip


def plot_regret(result: PolicyRegretResult, *, ax: Any = None) -> Any:
    """What each policy loses on the best one, with bounds: one that reaches zero may itself be the best.

    Raises
    ------
    CausalRecError
        Where no regret has bounds.
    """
    if not np.isfinite(result.regret_ci_high).any():
        raise CausalRecError("no policy's regret has bounds, so there is nothing to draw.")
    names = [str(name) for name in result.policy]
    ax = new_axes(ax, height=forest_height(len(names)))
    low, high = result.regret_ci_low, result.regret_ci_high
    draw_forest(ax, names, result.regret, low, high, lambda v: format_number(v) if v > 0 else "highest")
    level = format_level(result.confidence_level)
    ax.set_xlabel(wrapped(f"outcome per person lost on the best policy, {level} bounds", ax, smaller=1.2))
    seen = [f"{name} {format_number(r)} {format_interval(a, b)}"
            for name, r, a, b in zip(names, result.regret, low, high, strict=True)]  # fmt: skip
    return finish(ax, "Which policy?", f"{'; '.join(seen)}. May be best: {', '.join(result.close)}.")
