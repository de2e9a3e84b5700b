"""The figures of decisions: what an effect is worth in a year, and what is left of the winners."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from causalrec.exceptions import CausalRecError
from causalrec.plots._drawing import (
    BLUE,
    GREY,
    ORANGE,
    draw_intervals,
    finish,
    forest_height,
    limits,
    new_axes,
    short,
)
from causalrec.results import ImpactResult, ShrinkageResult, format_level, format_number
from causalrec.results.decisions import format_chance, format_money

_MOST_ROWS = 40
_SHORT = 0.03  # of the width


def plot_impact(result: ImpactResult, *, ax: Any = None) -> Any:
    """The yearly value: how likely each is, the part that is a loss, and the interval below.

    Raises
    ------
    CausalRecError
        For an impact without an error.
    """
    if not result.std_error > 0:
        raise CausalRecError(f"{result.metric}: the impact has no standard error, so there is no curve to draw.")
    ax = new_axes(ax, height=3.4)
    value, spread = result.estimate, result.std_error
    ends = [end for end in (result.ci_low, result.ci_high) if np.isfinite(end)]
    low, high = limits([0.0, value - 3.5 * spread, value + 3.5 * spread, *ends])
    x = np.linspace(low, high, 600)
    y = stats.norm.pdf(x, value, spread) * spread
    top = float(y.max())
    ax.set_xlim(low, high)
    ax.set_ylim(-0.34 * top, 1.12 * top)
    ax.fill_between(x, y, where=(x >= 0).tolist(), color=BLUE, alpha=0.3, linewidth=0)
    ax.fill_between(x, y, where=(x <= 0).tolist(), color=ORANGE, alpha=0.6, linewidth=0)
    ax.plot(x, y, color=BLUE, linewidth=1.2)
    ax.axvline(0, color=GREY, linewidth=0.8)
    draw_intervals(ax, [-0.12 * top], [result.ci_low], [result.ci_high], across=True)
    ax.plot(value, -0.12 * top, "o", color=BLUE)
    unit = f" {result.unit}" if result.unit else ""
    ax.annotate(f"{format_money(value)}{unit}", (value, top), (0, 4), textcoords="offset points", ha="center")
    chance = f"probability of a loss {format_chance(result.prob_loss)}"
    side = "left" if value > 0 else "right"
    ax.text(0.0 if side == "left" else 1.0, 0.97, chance, color=ORANGE, ha=side, va="top", transform=ax.transAxes)
    ax.set(yticks=[], xlabel=f"value in a year{f', {result.unit}' if result.unit else ''}")
    ax.spines["left"].set_visible(False)
    ax.xaxis.set_major_formatter(lambda v, _: _ticks(v, max(abs(low), abs(high))))
    within = f"{format_level(result.confidence_level)} interval {_between(result)}"
    ax.annotate(
        within, (value, -0.12 * top), (0, -6), textcoords="offset points", ha="center", va="top", fontsize="small"
    )
    seen = f"{within}; {chance}."
    return finish(ax, f"{short(result.metric)}: worth of {short(result.treatment, 20)} in a year", seen)


def _between(result: ImpactResult) -> str:
    low, high = format_money(result.ci_low), format_money(result.ci_high)
    if np.isinf(result.ci_low) or np.isinf(result.ci_high):
        return f"at least {low}" if np.isinf(result.ci_high) else f"at most {high}"
    return f"{low} to {high}"


def _ticks(value: float, largest: float) -> str:
    """In thousands or millions where all are."""
    for size, letter in ((1e9, "bn"), (1e6, "m"), (1e3, "k")):
        if largest >= 2 * size:
            return f"{value / size:.3g}{letter}" if value else "0"
    return f"{value:.3g}"


def plot_shrinkage(result: ShrinkageResult, *, as_percent: bool = False, ax: Any = None) -> Any:
    """Each effect as measured and as it is believed, the largest first, with the credible interval.

    Of more than 40 effects the 20 highest and the 20 lowest are drawn.

    Parameters
    ----------
    result : ShrinkageResult
    as_percent : bool
        For relative effects.
    ax : Axes, optional
    """
    order = np.argsort(-result.estimate, kind="stable")
    left_out = max(len(order) - _MOST_ROWS, 0)
    if left_out:
        order = np.r_[order[: _MOST_ROWS // 2], order[-(_MOST_ROWS // 2) :]]
    ax = new_axes(ax, height=0.3 + forest_height(len(order)) * 0.8)
    rows = np.arange(len(order))[::-1]
    raw, after, low, high = (v[order] for v in (result.estimate, result.shrunk, result.ci_low, result.ci_high))
    ax.set_xlim(*limits([0.0], raw, low, high))
    ax.axvline(0, color=GREY, linewidth=0.8)
    ax.axvline(result.prior_mean, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), label="mean of all")
    draw_intervals(ax, rows, low, high, across=True)
    for row, start, stop in zip(rows, raw, after, strict=True):
        if np.isfinite(start) and np.isfinite(stop):
            way = "->" if abs(stop - start) > _SHORT * np.ptp(ax.get_xlim()) else "-"  # no head longer than its arrow
            look = {"arrowstyle": way, "color": ORANGE, "linewidth": 0.9, "shrinkA": 3, "shrinkB": 0}
            ax.annotate("", (stop, row + 0.22), (start, row + 0.22), arrowprops=look)
    ax.plot(raw, rows + 0.22, "o", color=ORANGE, markersize=4, label="as measured")
    ax.plot(after, rows, "o", color=BLUE, markersize=5, label="shrunk")
    ax.set_yticks(rows, [short(str(name), 26) for name in result.label[order]])
    ax.set_ylim(-0.7, len(order) - 0.2)
    if as_percent:
        ax.xaxis.set_major_formatter(lambda v, _: f"{100 * v:+.3g}%" if v else "0%")
    ax.set(xlabel="effect" + (f"; {left_out} in the middle are not drawn" if left_out else ""))

    def text(v: float) -> str:
        return f"{v:+.2%}" if as_percent else format_number(float(v))

    seen = "; ".join(f"{n} {text(a)} to {text(b)}" for n, a, b in zip(result.label[order], raw, after, strict=True))
    return finish(ax, "What is left of each effect?", seen + ".")
