"""False alarms of those who look early."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalrec.plots._drawing import BLUE, GREEN, GREY, ORANGE, finish, name_beside, new_axes, short, spread
from causalrec.results import PeekingResult, format_number

_COLOURS = (ORANGE, BLUE, GREEN, "#CC79A7", "#56B4E9")
_APART = 0.055  # of the height of the picture, between names


def plot_peeking(result: PeekingResult, *, ax: Any = None) -> Any:
    """Shares of experiments without an effect that raised an alarm so far: a line and a band per method, and alpha."""
    ax = new_axes(ax)
    top = 1.12 * max(float(result.ci_high.max()), 1.5 * result.alpha)
    ax.axhline(result.alpha, color=GREY, linewidth=1.0, linestyle=":")
    ax.set_ylim(0, top)
    rates = result.false_alarm_rate
    heights = spread(np.append(rates[:, -1], result.alpha), _APART * top)
    for k, method in enumerate(result.methods):
        colour = _COLOURS[k % len(_COLOURS)]
        ax.fill_between(result.looks, result.ci_low[k], result.ci_high[k], color=colour, alpha=0.15, linewidth=0)
        ax.plot(result.looks, rates[k], color=colour, linewidth=1.8, linestyle="-" if k < len(_COLOURS) else "--",
                marker="o" if result.n_looks == 1 else None)  # fmt: skip
        name_beside(ax, f"{short(method, 24)} {rates[k, -1]:.1%}", result.n_obs, heights[k], colour)
    name_beside(ax, f"alpha = {format_number(result.alpha)}", result.n_obs, heights[-1], GREY)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.set_xlim(0 if result.n_looks > 1 else None, result.n_obs)
    ax.set(xlabel="units in both arms so far", ylabel="experiments with a false alarm so far")
    found = "; ".join(f"{m} {rate:.1%}" for m, rate in zip(result.methods, rates[:, -1], strict=True))
    looks = "one look" if result.n_looks == 1 else f"{result.n_looks:,} looks"
    return finish(ax, f"What does looking {looks.replace(' looks', ' times')} cost? {short(result.metric)}",
                  f"False alarms in {result.n_simulations:,} experiments without an effect: {found}.")  # fmt: skip
