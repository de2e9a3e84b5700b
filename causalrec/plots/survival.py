"""Who stays: curves with numbers at risk, churn by period, retention by day."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalrec._typing import AnyArray, FloatArray
from causalrec.plots._drawing import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    check_known,
    draw_intervals,
    finish,
    new_axes,
    short,
    spread,
)
from causalrec.results import (
    ChurnResult,
    RetentionResult,
    SurvivalCurveResult,
    SurvivalResult,
    format_level,
    format_number,
)
from causalrec.results.base import written_interval

_COLOURS = (GREY, BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9")  # control first
_APART = 0.055  # of the height of the picture, between names
_BELOW, _ROW = 52, 13  # points: from the axis to the first row of numbers, and from row to row
_TICKS = 7


def plot_survival(result: SurvivalResult, *, unit: str = "days", ax: Any = None) -> Any:
    """Kaplan-Meier curves: a step line and a band per arm, and below the ticks how many were still observed.

    Parameters
    ----------
    result : SurvivalResult
        Of :func:`causalrec.survival.kaplan_meier`.
    unit : str
        Of the durations.
    ax : Axes, optional

    Raises
    ------
    CausalRecError
        For a result without curves.
    """
    check_known(result.curves)
    ax = new_axes(ax, height=4.0 + 0.2 * len(result.curves))
    last = max(float(c.time[-1]) for c in result.curves)
    names = [f"{short(c.arm, 18)} {c.survival[-1]:.0%}" for c in result.curves]
    lowest = min(float(np.nanmin([*c.ci_low, c.survival[-1]])) for c in result.curves)
    bottom = 0.0 if lowest < 0.5 else max(0.0, np.floor(20 * lowest - 0.5) / 20)
    ax.set_xlim(0, last)
    ax.set_ylim(bottom, 1.0 + 0.01 * (1 - bottom))
    for k, curve in enumerate(result.curves):
        _draw_curve(ax, curve, _COLOURS[k % len(_COLOURS)])
    ends = np.array([c.survival[-1] for c in result.curves])
    for k, height in enumerate(spread(ends, _APART * (1 - bottom), bottom)):
        x = float(result.curves[k].time[-1])
        at = (last, height) if x > 0.8 * last else (x, ends[k])
        ax.annotate(names[k], at, (5, 0), textcoords="offset points", va="center", ha="left", annotation_clip=False,
                    color=_COLOURS[k % len(_COLOURS)], fontsize="small")  # fmt: skip
    ticks = _ticks(last)
    ax.set_xticks(ticks)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.4g}")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.set(xlabel=f"{unit} since the start", ylabel="still there")
    if bottom > 0:
        ax.annotate(f"from {bottom:.0%}, not 0", (0, bottom), (4, 4), textcoords="offset points", fontsize="x-small",
                    color=GREY)  # fmt: skip
    _draw_at_risk(ax, result.curves, ticks)
    shares = "; ".join(f"{c.arm} {c.survival[-1]:.1%} at {format_number(c.follow_up)} {unit}" for c in result.curves)
    return finish(ax, "Who is still there?", f"Kaplan-Meier curves: {shares}.")


def _draw_curve(ax: Any, curve: SurvivalCurveResult, colour: str) -> None:
    ax.fill_between(curve.time, curve.ci_low, curve.ci_high, step="post", color=colour, alpha=0.18, linewidth=0)
    ax.step(curve.time, curve.survival, where="post", color=colour, linewidth=1.8)


def _draw_at_risk(ax: Any, curves: tuple[SurvivalCurveResult, ...], ticks: FloatArray) -> None:
    """Numbers aligned to the ticks, a row per arm in its colour."""
    place = ax.get_xaxis_transform()
    text = {"xycoords": place, "textcoords": "offset points", "va": "center", "annotation_clip": False}
    ax.annotate("still observed", (0, 0), (-8, -_BELOW + _ROW), ha="right", fontsize="small", color="black", **text)
    for k, curve in enumerate(curves):
        y, colour = -_BELOW - _ROW * k, _COLOURS[k % len(_COLOURS)]
        ax.annotate(short(curve.arm, 18), (0, 0), (-24, y), ha="right", fontsize="small", color=colour, **text)
        for tick, count in zip(ticks, curve.at(ticks)["at_risk"], strict=True):
            ax.annotate(f"{count:,.0f}", (tick, 0), (0, y), ha="center", fontsize="small", color=colour, **text)


def _ticks(last: float) -> FloatArray:
    """About seven round numbers; weeks where the time may be days."""
    steps = np.array([1, 2, 5, 7, 10, 14, 20, 28, 50, 100, 200, 365, 500, 1000])
    whole = steps * 10.0 ** np.floor(np.log10(last) - 3.5) if last > 2000 or last < 3 else steps
    step = whole[np.argmax(last / whole <= _TICKS)] if (last / whole <= _TICKS).any() else last / _TICKS
    ticks: FloatArray = np.arange(0, last + 1e-9 * last, step, dtype=np.float64)
    return ticks


def plot_hazards(result: ChurnResult, *, unit: str = "days", ax: Any = None) -> Any:
    """Churn by period: a line with intervals per arm, of those still there at the start of each period.

    Raises
    ------
    CausalRecError
        Where nothing is known.
    """
    arms = list(dict.fromkeys(result.arm.tolist()))
    check_known([h for h in result.hazard if np.isfinite(h)])
    ax = new_axes(ax, height=4.0)
    top = 1.08 * float(np.nanmax(np.where(result.ci_high < 1, result.ci_high, result.hazard)))
    ax.set_ylim(0, top)
    period = np.arange(1, result.n_periods + 1)
    ax.set_xlim(0.5, result.n_periods + 0.5)
    ends, last = np.zeros(len(arms)), np.zeros(len(arms))
    for k, arm in enumerate(arms):
        rows, colour = result.arm == arm, _COLOURS[k % len(_COLOURS)]
        x = period + _beside(k, len(arms), 0.09)
        draw_intervals(ax, x, result.ci_low[rows], result.ci_high[rows], across=False, colour=colour)
        ax.plot(x, result.hazard[rows], "o-", color=colour, linewidth=1.0, markersize=4.5)
        known = np.flatnonzero(np.isfinite(result.hazard[rows]))
        ends[k], last[k] = (result.hazard[rows][known[-1]], x[known[-1]]) if len(known) else (np.nan, np.nan)
    for k, height in enumerate(spread(ends, _APART * top, 0.0)):
        if np.isfinite(height):
            ax.annotate(short(arms[k], 18), (np.nanmax(last) + 0.12, height), (4, 0), textcoords="offset points",
                        va="center", color=_COLOURS[k % len(_COLOURS)], fontsize="small",
                        annotation_clip=False)  # fmt: skip
    if result.n_periods <= 16:
        ax.set_xticks(period)
    ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")
    ax.set(xlabel=f"period of {format_number(result.period)} {unit}", ylabel="leave, of those still there")
    found = "; ".join(f"{arm} {_series(result.hazard[result.arm == arm])}" for arm in arms)
    return finish(ax, "When do they leave?", f"Shares that leave in each period: {found}.")


def plot_retention(result: RetentionResult, *, ax: Any = None) -> Any:
    """Retention after some days: a point with its interval per arm, and its value; days that are not known are said.

    Raises
    ------
    CausalRecError
        Where nothing is known.
    """
    arms = list(dict.fromkeys(result.arm.tolist()))
    check_known([r for r in result.retention if np.isfinite(r)])
    days = result.day[result.arm == arms[0]]
    place = np.arange(len(days), dtype=np.float64)
    ax = new_axes(ax, height=4.0)
    known = result.retention[np.isfinite(result.retention)]
    top = 1.1 * float(np.nanmax([*result.ci_high, *known]))
    ax.set_ylim(0, min(top, 1.05))
    ax.set_xlim(-0.65, len(days) - 0.35)
    for k, arm in enumerate(arms):
        rows, colour = result.arm == arm, _COLOURS[k % len(_COLOURS)]
        x = place + _beside(k, len(arms), 0.16)
        draw_intervals(ax, x, result.ci_low[rows], result.ci_high[rows], across=False, colour=colour)
        ax.plot(x, result.retention[rows], "o", color=colour, markersize=4, label=short(arm, 24))
        for at, value in zip(x, result.retention[rows], strict=True):
            if np.isfinite(value):
                left = len(arms) > 1 and k < len(arms) / 2
                ax.annotate(f"{value:.1%}", (at, value), (-7 if left else 7, 0), textcoords="offset points",
                            va="center", ha="right" if left else "left", color=colour, fontsize="small")  # fmt: skip
    for at, day in zip(place, days, strict=True):
        if np.isnan(result.retention[result.day == day]).all():
            ax.annotate("beyond\nfollow-up", (at, 0.5 * ax.get_ylim()[1]), ha="center", color=GREY, fontsize="small")
    ax.set_xticks(place, [_day_words(result, day, len(arms)) for day in days])
    if len(arms) == 2:
        level = format_level(result.confidence_level)
        ax.set_xlabel(f"{short(arms[1], 18)} − {short(arms[0], 18)} in percentage points, {level} interval")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.set(ylabel="still there")
    found = "; ".join(f"{arm} {_series(result.retention[result.arm == arm])}" for arm in arms)
    return finish(ax, "How many are still there?", f"Retention by day: {found}.")


def _day_words(result: RetentionResult, day: float, n_arms: int) -> str:
    words = f"{format_number(day)} day{'' if day == 1 else 's'}"
    if n_arms != 2:
        return words
    e = result.effect(day)
    known = written_interval(e.estimate, e.ci_low, e.ci_high, percent=True).replace("%", "")
    return f"{words}\n{known.replace(' [', chr(10) + '[')}"


def _series(values: AnyArray) -> str:
    return ", ".join("not known" if np.isnan(v) else f"{v:.1%}" for v in values)


def _beside(k: int, n: int, apart: float) -> float:
    return (k - (n - 1) / 2) * min(apart, 0.6 / n)
