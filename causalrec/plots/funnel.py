"""The funnel as flows: how wide each arm's stream still is at every step, and what leaves it."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalrec._typing import FloatArray
from causalrec._validation import optional_import
from causalrec.plots._drawing import BLUE, GREY, ORANGE, finish, new_axes, short
from causalrec.results import FunnelResult
from causalrec.results.base import written_interval

_BAR = 0.045  # half width of a step
_ROOM = 0.62  # below an arm's flow, in heights of the first step, for what leaves it
_ARM_COLOURS = (GREY, BLUE, ORANGE)
_LEFT = "#E6DFD3"  # warmer than any arm


def plot_funnel_sankey(result: FunnelResult, *, ax: Any = None) -> Any:
    """A stream per arm, as wide as the share of units that is still there; those who leave bend away below.

    At every step the units and their share of the first; where units leave, how many and what part of those before;
    for arms other than control the difference of the share from control, with its interval, in percentage points.

    Parameters
    ----------
    result : FunnelResult
    ax : Axes, optional
    """
    n_arms, n_steps = result.count.shape
    ax = new_axes(ax, height=0.9 + 2.3 * n_arms)
    if ax.figure.axes == [ax] and n_steps > 4:
        ax.figure.set_figwidth(1.55 * n_steps + 0.8)
    pitch = 1 + _ROOM + 0.5
    for row in range(n_arms):
        _draw_arm(ax, result, row, top=-row * pitch)
    for k, step in enumerate(result.step):
        ax.text(k, 0.36, short(step, 18), ha="center", va="bottom", fontweight="bold")
    ax.set(xlim=(-0.5, n_steps - 0.5 + 0.12), ylim=(-(n_arms - 1) * pitch - 1 - _ROOM, 0.56))
    ax.set_yticks([-row * pitch - 0.5 for row in range(n_arms)], [short(arm, 16) for arm in result.arm])
    for row, label in enumerate(ax.get_yticklabels()):
        label.set(color=_ARM_COLOURS[min(row, len(_ARM_COLOURS) - 1)], fontweight="bold")
    ax.tick_params(axis="y", length=0)
    ax.set_xticks([])
    ax.spines[:].set_visible(False)
    seen = [
        f"{arm}: " + ", ".join(f"{s} {n:,} ({_share(p)})" for s, n, p in zip(result.step, count, of_all, strict=True))
        for arm, count, of_all in zip(result.arm, result.count, result.of_all, strict=True)
    ]
    return finish(ax, f"How far do they get? {short(result.step[0], 18)} to {short(result.step[-1], 18)}",
                  "; ".join(seen) + ".")  # fmt: skip


def _share(value: float) -> str:
    """A percentage with three digits."""
    return f"{100 * value:.3g}%" if value < 0.9995 else "100%"


def _draw_arm(ax: Any, result: FunnelResult, row: int, *, top: float) -> None:
    """The stream of one arm, from the left, hanging from ``top``."""
    colour = _ARM_COLOURS[min(row, len(_ARM_COLOURS) - 1)]
    height = result.of_all[row]
    for k in range(len(height)):
        ax.add_patch(_rectangle(k - _BAR, top - height[k], 2 * _BAR, height[k], colour))
        _label_step(ax, result, row, k, top)
        if k + 1 < len(height):
            _draw_flow(ax, k, (top, top - height[k + 1]), colour)
            _draw_leaving(ax, result, row, k, top)


def _label_step(ax: Any, result: FunnelResult, row: int, k: int, top: float) -> None:
    text = f"{result.count[row, k]:,}" + (f" · {_share(result.of_all[row, k])}" if k else "")
    ax.annotate(text, (k, top), (0, 3), textcoords="offset points", ha="center", va="bottom")
    effect = result.effect[row, k]
    if np.isfinite(effect):
        written = written_interval(effect, result.effect_low[row, k], result.effect_high[row, k], percent=True)
        value, _, interval = written.replace("%", "").partition(" ")
        clear = result.adjusted[row, k] < 1 - result.confidence_level
        for k_line, (line, weight) in enumerate(((interval, "normal"), (f"{value} pp", "bold" if clear else "normal"))):
            ax.annotate(line, (k, top), (0, 16 + 12 * k_line), textcoords="offset points", ha="center", va="bottom",
                        fontsize="small", color="black" if clear else GREY, fontweight=weight)  # fmt: skip


def _draw_flow(ax: Any, k: int, sides: tuple[float, float], colour: str) -> None:
    """From one step to the next; it hangs from the same line, so it is as wide as the next step."""
    ax.add_patch(_rectangle(k + _BAR, sides[1], 1 - 2 * _BAR, sides[0] - sides[1], colour, alpha=0.32))


def _draw_leaving(ax: Any, result: FunnelResult, row: int, k: int, top: float) -> None:
    """The lower part of a step bends down and fades out before the next."""
    left = int(result.count[row, k] - result.count[row, k + 1])
    here, there = result.of_all[row, k], result.of_all[row, k + 1]
    if left == 0:
        return
    low = top - 1 - 0.14
    width = min(0.5, 0.5 * (here - there) + 0.02)
    ax.add_patch(_bend(k + _BAR, (top - there, top - here), 0.24, width, low))
    gone = left / result.count[row, k]
    ax.annotate(f"−{_share(gone)}\n{left:,} leave", (k + _BAR + 0.24 + width / 2, low), (0, -3),
                textcoords="offset points", ha="center", va="top", fontsize="small", color="#555555",
                linespacing=1.15)  # fmt: skip


def _rectangle(x: float, y: float, width: float, height: float, colour: str, alpha: float = 1.0) -> Any:
    patches = optional_import("matplotlib.patches", extra="plots")
    return patches.Rectangle((x, y), width, height, facecolor=colour, edgecolor="none", alpha=alpha)


def _bend(x: float, sides: tuple[float, float], reach: float, width: float, low: float) -> Any:
    """A band that leaves to the right between two heights and turns down to ``low``."""
    path = optional_import("matplotlib.path", extra="plots").Path
    patches = optional_import("matplotlib.patches", extra="plots")
    upper, lower = sides
    inner, outer = x + reach, x + reach + width
    points: FloatArray = np.array([
        (x, upper), (outer, upper), (outer, upper), (outer, low), (inner, low), (inner, lower), (inner, lower),
        (x, lower), (x, upper),
    ])  # fmt: skip
    codes = [path.MOVETO, path.CURVE4, path.CURVE4, path.CURVE4, path.LINETO, path.CURVE4, path.CURVE4, path.CURVE4,
             path.CLOSEPOLY]  # fmt: skip
    return patches.PathPatch(path(points, codes), facecolor=_LEFT, edgecolor="none")
