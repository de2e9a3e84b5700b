"""The figures of running experiments: the effect and intervals at every look, and when many would have stopped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from causalrec._typing import FloatArray
from causalrec.exceptions import CausalRecError
from causalrec.plots._drawing import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    check_known,
    finish,
    limits,
    name_beside,
    new_axes,
    spread,
)
from causalrec.results import ABResult, MonitorResult, TimeSavedResult, format_interval, format_level, format_number
from causalrec.results.answers import margins

By = Literal["n_obs", "look", "label"]

_COLOURS = (BLUE, GREEN, "#CC79A7")
_METHODS = (ORANGE, BLUE, GREEN, "#CC79A7", "#56B4E9")
_SETTLED = 0.12  # of the looks: intervals before run out of the picture where they are much wider
_X = {"n_obs": "units so far", "look": "look", "label": "label of the look"}


class _Band(NamedTuple):
    """Intervals of one kind."""

    name: str
    colour: str
    x: FloatArray
    low: FloatArray
    high: FloatArray
    first: int | None  # of the looks, which answers first
    place: str = ""  # of that look, in words


def plot_intervals_over_time(
    results: MonitorResult | Sequence[MonitorResult],
    metric: str | None = None,
    treatment: str | None = None,
    *,
    by: By = "n_obs",
    xlabel: str | None = None,
    fixed: bool = True,
    title: str | None = None,
    ax: Any = None,
) -> Any:
    """The effect on a metric at every look, with the interval that bears looking and that of a fixed test.

    The legend says when each kind of interval first gave an answer; a dot marks it. What is asked decides what an
    answer is: an interval without zero, or one on the right side of a margin. Early intervals that are far wider run
    out of the picture.

    Parameters
    ----------
    results : MonitorResult or sequence of it
        Several show the same comparison monitored in several ways; effects and fixed intervals are of the first.
    metric, treatment : str, optional
        By default the first comparison.
    by : {"n_obs", "look", "label"}
        What runs across; labels that are numbers, such as days.
    xlabel, title : str, optional
    fixed : bool
        Whether to show the intervals of a fixed test, which are for one look.
    ax : Axes, optional

    Raises
    ------
    CausalRecError
        For no results, a comparison that they do not hold or that could not be computed yet, another ``by``, or labels
        that are not numbers.
    """
    listed = [results] if isinstance(results, MonitorResult) else list(results)
    check_known(listed)
    first = listed[0]
    metric = str(first.metric[0]) if metric is None else metric
    if treatment is None:
        treatment = str(next(iter(first.treatment[first.metric == metric]), first.treatment[0]))
    effect, unit = _effect(first, metric, treatment), xlabel or "label"
    bands = [_band(each, metric, treatment, by, colour, unit) for each, colour in zip(listed, _COLOURS, strict=False)]
    alone = _band(first, metric, treatment, by, ORANGE, unit, fixed=True)
    shown = [*bands, alone] if fixed else bands
    history = first.history(metric, treatment)
    estimate = history["estimate"].to_numpy(np.float64)
    ax = new_axes(ax, height=4.4)
    null = [value for value in margins(effect, relative=False) if math.isfinite(value)] or [0.0]
    ax.set_ylim(*_window(shown, estimate, null))
    for level in null:
        ax.axhline(level, color=GREY, linewidth=0.9)
    for band in bands:
        _draw(ax, band, null[0], fill=band is bands[0])
    if fixed:
        _draw(ax, alone, null[0], fill=False, dashed=True)
    ax.plot(alone.x, estimate, color="black", linewidth=1.3)
    ax.annotate("effect", (alone.x[-1], estimate[-1]), (5, 0), textcoords="offset points", va="center",
                fontsize="small", annotation_clip=False)  # fmt: skip
    if any(level != 0 for level in null):
        ax.annotate("margin", (alone.x[0], null[0]), (2, 3), textcoords="offset points", fontsize="small", color=GREY)
    ax.set_xlim(alone.x[0] if len(alone.x) > 1 else None, alone.x[-1] if len(alone.x) > 1 else None)
    if by == "n_obs":
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        ax.locator_params(axis="x", nbins=6)
    elif (alone.x == np.floor(alone.x)).all():
        ax.locator_params(axis="x", integer=True)
    ax.set(
        xlabel=xlabel or _X[by],
        ylabel=f"{treatment} − {effect.control}, {format_level(effect.interval_level)} intervals",
    )
    words = "; ".join(f"{band.name}, {_when(band)}, last {format_interval(*_last(band))}" for band in shown)
    return finish(
        ax, title or f"{metric}: {treatment} against {effect.control}, look by look",
        f"Effect at the end {format_number(float(estimate[-1]))}; {words}.",
    )  # fmt: skip


def _effect(result: MonitorResult, metric: str, treatment: str) -> ABResult:
    result.history(metric, treatment)  # for its checks
    found = [e for e in result.effects if (e.metric, e.treatment) == (metric, treatment)]
    if not found:
        raise CausalRecError(
            f"{metric}, {treatment}: the last look has no effect to draw; see the notes of the result."
        )
    return found[0]


def _band(
    result: MonitorResult, metric: str, treatment: str, by: By, colour: str, unit: str, *, fixed: bool = False
) -> _Band:
    if by not in _X:
        raise CausalRecError(f"by is {by!r}; expected one of {', '.join(_X)}.")
    history, effect = result.history(metric, treatment), _effect(result, metric, treatment)
    try:
        x = history[by].to_numpy(np.float64)
    except ValueError as error:
        raise CausalRecError(
            f"the labels, such as {history[by].iloc[0]!r}, are not numbers; take by='n_obs' or by='look'."
        ) from error
    names = ("fixed_low", "fixed_high") if fixed else ("ci_low", "ci_high")
    low, high = (history[name].to_numpy(np.float64) for name in names)
    answered = np.flatnonzero(_answers(effect, low, high))
    name = "fixed test" if fixed else result.inference
    if not len(answered):
        return _Band(name, colour, x, low, high, None)
    at = int(answered[0])
    place = f"{unit} {format_number(float(x[at]))}" if by == "label" else f"look {history['look'].iloc[at]}"
    return _Band(name, colour, x, low, high, at, place)


def _answers(effect: ABResult, low: FloatArray, high: FloatArray) -> Any:
    """Whether an interval answers the effect's question."""
    below, above = margins(effect, relative=False)
    if effect.hypothesis == "equivalence":
        return (low > below) & (high < above)
    if effect.hypothesis == "non-inferiority":
        return low > below if math.isfinite(below) else high < above
    return (low > 0) | (high < 0)


def _window(bands: Sequence[_Band], estimate: FloatArray, null: Sequence[float]) -> tuple[float, float]:
    """Room for the intervals of all looks but the very first."""
    ends = []
    for band in bands:
        start = min(int(len(band.x) * _SETTLED), len(band.x) - 1)
        ends += [band.low[start:], band.high[start:]]
    return limits(*ends, estimate[-1:], null)


def _draw(ax: Any, band: _Band, null: float, *, fill: bool, dashed: bool = False) -> None:
    """Both ends of a kind of interval, and a dot where it first answered."""
    edge = ax.get_ylim()
    low, high = np.clip(band.low, *edge), np.clip(band.high, *edge)
    if fill:
        ax.fill_between(band.x, low, high, color=band.colour, alpha=0.12, linewidth=0)
    style = {"color": band.colour, "linewidth": 1.6, "linestyle": (0, (4, 2)) if dashed else "-"}
    label = f"{band.name}: {_when(band)}"
    for ends in (band.low, band.high):
        if np.isfinite(ends).any():
            ax.plot(band.x, np.where(np.isfinite(ends), ends, np.nan), label=label, **style)
            label = None  # type: ignore[assignment]
    if band.first is not None:
        near = min((band.low[band.first], band.high[band.first]), key=lambda end: abs(end - null))
        ax.plot(band.x[band.first], near, "o", color=band.colour, markersize=7, markeredgecolor="white",
                zorder=5, clip_on=False)  # fmt: skip


def _when(band: _Band) -> str:
    return "no answer" if band.first is None else f"answer at {band.place}"


def _last(band: _Band) -> tuple[float, float]:
    return float(band.low[-1]), float(band.high[-1])


def plot_stops(result: TimeSavedResult, *, title: str | None = None, ax: Any = None) -> Any:
    """Share of past experiments in which each way of looking had given an answer, over the time that each ran.

    Raises
    ------
    CausalRecError
        For no experiments.
    """
    check_known(range(result.n_experiments))
    ax = new_axes(ax)
    grid = np.linspace(0, 1, 201)
    share = np.array([[np.mean(at / result.duration <= g) for g in grid] for at in result.stopped_at])
    top = 1.15 * max(float(share.max()), 0.05)
    ax.set_ylim(0, top)
    heights = spread(share[:, -1], 0.055 * top)
    for k, method in enumerate(result.methods):
        colour = _METHODS[k % len(_METHODS)]
        ax.plot(100 * grid, share[k], color=colour, linewidth=1.8, drawstyle="steps-post")
        name_beside(ax, f"{method} {share[k, -1]:.0%}", 100, heights[k], colour)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}%")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.set_xlim(0, 100)
    ax.set(xlabel="time since the start, of the time that it ran", ylabel="comparisons with an answer so far")
    words = "; ".join(f"{m} {s[-1]:.1%}" for m, s in zip(result.methods, share, strict=True))
    return finish(ax, title or "When would it have been stopped?", f"Of {result.n_experiments:,} comparisons: {words}.")


def plot_time_saved(result: TimeSavedResult, *, title: str | None = None, ax: Any = None) -> Any:
    """Time that each way of looking saves, experiment by experiment, the largest first.

    Raises
    ------
    CausalRecError
        Where nothing stops before its end.
    """
    frame = result.to_frame()
    check_known(range(int(frame["early"].max() if len(frame) else 0)))
    ax = new_axes(ax)
    ends = []
    for k, saved in enumerate(result.saved):
        ranked = np.sort(saved[saved > 0])[::-1]
        if len(ranked):
            colour = _METHODS[k % len(_METHODS)]
            ax.plot(np.arange(1, len(ranked) + 1), ranked, color=colour, linewidth=1.8, label=result.methods[k])
            ends.append(f"{result.methods[k]} {len(ranked)} early, {format_number(float(ranked.sum()))} in all")
    ax.set_ylim(0, None)
    ax.set_xlim(1, None)
    ax.set(xlabel="comparisons that stop early, by time saved", ylabel=f"{result.unit} saved")
    return finish(ax, title or f"How many {result.unit} does it save?", f"{'; '.join(ends)} {result.unit}.")
