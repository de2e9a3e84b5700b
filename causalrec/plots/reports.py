"""Reports on a log as pictures: users by day, cohorts by day since the first, revenue by segment."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalrec._typing import FloatArray
from causalrec._validation import optional_import
from causalrec.plots._drawing import BLUE, GREEN, GREY, ORANGE, finish, new_axes, short
from causalrec.results import CohortRetentionResult, DailyUsersResult, RevenueResult, format_number

_COLOURS = (GREY, BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9")
_MOST_SEGMENTS = 15
_ALL_ROWS = 20  # cohorts, beyond which the cells have no numbers
_WEEK = 7


def plot_daily_users(result: DailyUsersResult, *, ax: Any = None) -> Any:
    """Users of each UTC day by variant, and their mean of seven days where there are more than two weeks.

    Parameters
    ----------
    result : DailyUsersResult
    ax : Axes, optional
    """
    dates = optional_import("matplotlib.dates", extra="plots")
    ax = new_axes(ax)
    days = np.array(result.day, dtype="datetime64[D]").astype(np.float64)  # since 1970, as matplotlib counts
    several = len(result.variant) > 1
    for k, variant in enumerate(result.variant):
        users = result.users[:, k].astype(np.float64)
        colour = _COLOURS[(k if several else 1) % len(_COLOURS)]
        smooth = len(users) > 2 * _WEEK
        ax.plot(days, users, color=colour, alpha=0.35 if smooth else 1.0, linewidth=1.1 if smooth else 1.8,
                label=short(variant, 20) if several and not smooth else None)  # fmt: skip
        if smooth:
            mean = np.convolve(users, np.full(_WEEK, 1 / _WEEK), mode="valid")
            ax.plot(days[_WEEK - 1 :], mean, color=colour, linewidth=2,
                    label=f"{short(variant, 20)}, mean of 7 days" if several else "mean of 7 days")  # fmt: skip
    ax.set_ylim(0, 1.08 * max(1, int(result.users.max(initial=0))))
    locator = dates.AutoDateLocator(minticks=3, maxticks=7)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
    ax.yaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="day (UTC)", ylabel="users with an event")
    return finish(ax, "Daily active users", str(result))


def plot_cohorts(result: CohortRetentionResult, *, ax: Any = None) -> Any:
    """A row per cohort, a column per day after the first: the darker, the more users were active on it.

    The lowest row is of all users whose day the log reaches. Days that it does not reach are hatched.

    Parameters
    ----------
    result : CohortRetentionResult
    ax : Axes, optional
    """
    ax = new_axes(ax, height=1.9 + 0.27 * min(len(result.cohort) + 1, 40))
    shares = np.vstack([result.retention, result.overall]) if len(result.cohort) else np.atleast_2d(result.overall)
    rows, columns = shares.shape
    top = float(np.nanmax(shares)) if np.isfinite(shares).any() else 1.0
    places = np.arange(rows, dtype=np.float64)
    places[-1] += 0.35  # apart from the cohorts
    for row, place in enumerate(places):
        for column in range(columns):
            _draw_cell(ax, column, float(place), float(shares[row, column]), top, numbered=rows <= _ALL_ROWS + 1)
    step = -(-rows // 40)
    named = [k for k in range(rows - 1) if k % step == 0]
    names = [f"{result.cohort[k]}  ({result.size[k]:,})" for k in named]
    ax.set_yticks([*places[named], places[-1]], [*names, f"all  ({result.n_obs:,})"])
    ax.set_xticks(np.arange(columns), [f"day {d}" for d in result.day.tolist()])
    ax.set(xlim=(-0.5, columns - 0.5), ylim=(places[-1] + 0.5, -0.5), xlabel="days after a user's first",
           ylabel=f"{result.period} of the first day  (users)")  # fmt: skip
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return finish(ax, "Who comes back? Retention by cohort", str(result))


def _draw_cell(ax: Any, x: float, y: float, share: float, top: float, *, numbered: bool) -> None:
    patches = optional_import("matplotlib.patches", extra="plots")
    corner, size = (x - 0.48, y - 0.46), (0.96, 0.92)
    if np.isnan(share):
        ax.add_patch(
            patches.Rectangle(corner, *size, facecolor="#F2F2F2", edgecolor="#D0D0D0", hatch="///", linewidth=0)
        )
        return
    strength = share / top if top > 0 else 0.0
    ax.add_patch(patches.Rectangle(corner, *size, facecolor=_shade(strength), edgecolor="none"))
    if numbered:
        ax.text(x, y, f"{share:.1%}", ha="center", va="center", fontsize="small",
                color="white" if strength > 0.6 else "black")  # fmt: skip


def _shade(strength: float) -> tuple[float, float, float]:
    """From nearly white to blue."""
    light: FloatArray = np.array([0.95, 0.97, 0.99])
    dark: FloatArray = np.array([0.0, 0.27, 0.49])
    red, green, blue = (light + strength * (dark - light)).tolist()
    return red, green, blue


def plot_revenue(result: RevenueResult, *, ax: Any = None) -> Any:
    """A bar per segment, the largest revenue first; segments beyond the 15th are one bar.

    Parameters
    ----------
    result : RevenueResult
    ax : Axes, optional
    """
    names, values = list(result.segment), result.revenue.tolist()
    if len(names) > _MOST_SEGMENTS:
        rest = sum(values[_MOST_SEGMENTS - 1 :])
        names = [*names[: _MOST_SEGMENTS - 1], f"{len(names) - _MOST_SEGMENTS + 1} others"]
        values = [*values[: _MOST_SEGMENTS - 1], rest]
    ax = new_axes(ax, height=1.4 + 0.36 * max(1, len(names)))
    rows = np.arange(len(names))[::-1]
    ax.barh(rows, values, height=0.66, color=[ORANGE if v < 0 else BLUE for v in values])
    for row, value in zip(rows, values, strict=True):
        share = f"  {value / result.total:.1%}" if result.total > 0 else ""
        ax.annotate(f"{format_number(value)}{share}", (max(value, 0.0), row), (4, 0), textcoords="offset points",
                    va="center", fontsize="small")  # fmt: skip
    ax.axvline(0, color=GREY, linewidth=0.8)
    ax.set_xlim(min([0.0, *values]) * 1.1, 1.28 * max([0.0, *values]) or 1.0)
    ax.set_yticks(rows, [short(name, 26) for name in names])
    ax.set(xlabel=f"revenue by {result.column}, returns taken off")
    return finish(ax, "Where the revenue comes from", str(result))
