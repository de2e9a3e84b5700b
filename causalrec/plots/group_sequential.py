"""The figures of group-sequential tests: bounds with what was seen, and what is spent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from causalrec._typing import ArrayLike, FloatArray
from causalrec.exceptions import CausalRecError
from causalrec.plots._drawing import BLUE, GREEN, GREY, ORANGE, finish, new_axes
from causalrec.results import GroupBoundsResult, format_number

_HIGHEST = 5.5  # bounds of looks that spend next to nothing run out of the picture


def plot_bounds(result: GroupBoundsResult, *, observed: Sequence[float] | None = None, ax: Any = None) -> Any:
    """Where a group-sequential test stops, over the information, and the statistics seen so far.

    Bounds far beyond 5 standard errors run out of the picture.

    Parameters
    ----------
    result : GroupBoundsResult
        Or a design.
    observed : sequence of float, optional
        Statistics of the first looks, positive in the direction of the alternative.
    ax : Axes, optional

    Raises
    ------
    CausalRecError
        For more statistics than looks.
    """
    seen = np.array([] if observed is None else observed, dtype=np.float64)
    if len(seen) > result.n_looks:
        raise CausalRecError(f"found {len(seen)} statistics and {result.n_looks} looks; expected one a look at most.")
    two_sided = result.alternative == "two-sided"
    known = [v for v in (*result.upper, *np.abs(seen)) if np.isfinite(v)]
    top = max(min(max(known, default=3.0), _HIGHEST), *np.abs(seen), 3.0) + 0.4
    lowest = min([0.0, *result.lower[np.isfinite(result.lower)], *seen]) - 0.5
    ax = new_axes(ax, height=4.2)
    ax.set_ylim(-top if two_sided else lowest, top)
    ax.axhline(0, color=GREY, linewidth=0.8)
    x = 100 * result.fraction
    _draw_rejection(ax, x, result.upper, top, two_sided=two_sided)
    _draw_futility(ax, x, result.lower, -top if two_sided else lowest, two_sided=two_sided)
    if len(seen):
        ax.plot(x[: len(seen)], seen, "o-", color=GREEN, label="seen")
        ax.annotate(f"{seen[-1]:.2f}", (x[len(seen) - 1], seen[-1]), (9, 6), textcoords="offset points", va="center",
                    color=GREEN)  # fmt: skip
    ax.set_xlim(min(0.0, x[0]), x[-1] * 1.06)
    ax.set_xticks(x if result.n_looks <= 12 else np.linspace(0, x[-1], 6))
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.3g}%")
    ax.set(xlabel="information, of the maximum", ylabel="statistic (standard errors from the null)")
    title = f"When to stop: {result.spending}, alpha {format_number(result.alpha)}"
    return finish(ax, title, _words(result, seen))


def _draw_rejection(ax: Any, x: FloatArray, upper: FloatArray, top: float, *, two_sided: bool) -> None:
    """The bound and its mirror, with values; light beyond them."""
    shown = np.where(np.isfinite(upper), upper, 10 * top)
    for sign in (1, -1) if two_sided else (1,):
        ax.fill_between(x, sign * np.minimum(shown, top), sign * top, color=BLUE, alpha=0.1, linewidth=0)
        ax.plot(x, sign * shown, "o-", color=BLUE, markersize=4, label="reject" if sign == 1 else None)
    if len(x) <= 8:
        for at, z in zip(x, shown, strict=True):
            if z < top - 0.2:
                ax.annotate(f"{z:.2f}", (at, z), (0, 7), textcoords="offset points", ha="center", fontsize="small",
                            color=BLUE)  # fmt: skip


def _draw_futility(ax: Any, x: FloatArray, lower: FloatArray, bottom: float, *, two_sided: bool) -> None:
    """Light below the bound for futility, or around zero."""
    known = np.isfinite(lower)
    if not known.any():
        return
    at, z = x[known], lower[known]
    ax.fill_between(at, -z if two_sided else np.full(len(z), bottom), z, color=ORANGE, alpha=0.12, linewidth=0)
    ax.plot(at, z, "s-", color=ORANGE, markersize=4, label="give up")
    if two_sided:
        ax.plot(at, -z, "s-", color=ORANGE, markersize=4)
    if len(x) <= 8:
        for place, value, last in zip(at, z, at == x[-1], strict=True):
            if not last:  # there it meets the other bound
                above = 7 if two_sided else -14  # away from its mirror image
                ax.annotate(f"{value:.2f}", (place, value), (0, above), textcoords="offset points", ha="center",
                            fontsize="small", color=ORANGE)  # fmt: skip


def _words(result: GroupBoundsResult, seen: FloatArray) -> str:
    bounds = ", ".join(f"{z:.2f} at {t:.0%}" for t, z in zip(result.fraction, result.upper, strict=True))
    said = f"Reject beyond {bounds}"
    if np.isfinite(result.lower).any():
        said += "; give up below " + ", ".join(
            f"{z:.2f} at {t:.0%}" for t, z in zip(result.fraction, result.lower, strict=True) if np.isfinite(z)
        )
    return f"{said}; seen {', '.join(f'{z:.2f}' for z in seen)}." if len(seen) else f"{said}."


def plot_spending(result: GroupBoundsResult, *, ax: Any = None) -> Any:
    """Error spent so far over the information: alpha, and beta where there is a bound for futility.

    Parameters
    ----------
    result : GroupBoundsResult
        Or a design.
    ax : Axes, optional
    """
    ax = new_axes(ax)
    x = 100 * np.concatenate([[0.0], result.fraction])
    said = [_draw_spent(ax, x, result.alpha_spent, BLUE, "alpha")]
    if result.futility != "none":
        said.append(_draw_spent(ax, x, result.beta_spent, ORANGE, "beta"))
    ax.set_xlim(0, x[-1] * 1.16)
    ax.set_ylim(0, None)
    ax.set_xticks(x if result.n_looks <= 12 else np.linspace(0, x[-1], 6))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:.3g}%")
    ax.set(xlabel="information, of the maximum", ylabel="error spent so far")
    names = result.spending if result.futility == "none" else f"{result.spending}; futility: {result.futility}"
    return finish(ax, f"Error spent by look ({names})", "; ".join(said) + ".")


def _draw_spent(ax: Any, x: FloatArray, spent: ArrayLike, colour: str, name: str) -> str:
    """A line with its name and last value at its end."""
    y = 100 * np.concatenate([[0.0], np.asarray(spent, dtype=np.float64)])
    ax.plot(x, y, "o-", color=colour, markersize=4)
    ax.annotate(f"{name}\n{y[-1]:.3g}%", (x[-1], y[-1]), (8, 0), textcoords="offset points", va="center", color=colour)
    return f"{name}: " + ", ".join(f"{v:.3g}% by {t:.3g}%" for t, v in zip(x[1:], y[1:], strict=True))
