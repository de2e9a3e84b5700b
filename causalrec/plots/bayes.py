"""The figures of beliefs: posteriors of arms, P(best) over time, how rules to stop behave."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from causalrec._typing import FloatArray
from causalrec._validation import list_some
from causalrec.exceptions import CausalRecError
from causalrec.plots._drawing import BLUE, GREEN, GREY, ORANGE, check_known, finish, new_axes, short
from causalrec.results import BayesStoppingResult, PosteriorResult, format_interval, format_level, format_number
from causalrec.results.bayes import format_probability

_COLOURS = (GREY, BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9")
_SMALL = {"fontsize": "small"}
_ROWS = 1.35  # from one density to the next, in the height of the highest
_APART = 0.075  # least distance of two names beside each other, of the height of the picture


def plot_posterior(result: PosteriorResult, *, as_percent: bool = False, ax: Any = None) -> Any:
    """The density of each arm, a row each, with its credible interval and P(best) written beside it.

    Parameters
    ----------
    result : PosteriorResult
    as_percent : bool
        For values that are shares.
    ax : Axes, optional

    Raises
    ------
    CausalRecError
        For anything but one posterior.
    """
    if not isinstance(result, PosteriorResult):
        raise CausalRecError(
            f"found {type(result).__name__}; expected one PosteriorResult: draw each apart, as in "
            "[plot_posterior(each) for each in result.posteriors]."
        )
    k = len(result.arms)
    ax = new_axes(ax, height=1.5 + 0.62 * k)
    top = float(np.nanmax(result.density))
    seen = []
    for row, arm in zip(range(k)[::-1], range(k), strict=True):
        colour = _COLOURS[arm % len(_COLOURS)]
        x, y = result.value[arm], row * _ROWS + result.density[arm] / top
        inside = (x >= result.ci_low[arm]) & (x <= result.ci_high[arm])
        ax.fill_between(x, row * _ROWS, y, color=colour, alpha=0.15, lw=0)
        ax.fill_between(x, row * _ROWS, y, where=inside, color=colour, alpha=0.4, lw=0)
        ax.plot(x, y, color=colour, linewidth=1.4)
        ax.hlines(row * _ROWS, result.ci_low[arm], result.ci_high[arm], color=colour, linewidth=2.4)
        ax.plot(result.mean[arm], row * _ROWS, "o", color=colour, markersize=5)
        best = format_probability(float(result.prob_best_arm[arm]))
        ax.annotate(f"P(best) {best}", (1.0, row * _ROWS), (4, 4), xycoords=("axes fraction", "data"),
                    textcoords="offset points", **_SMALL)  # fmt: skip
        interval = format_interval(float(result.ci_low[arm]), float(result.ci_high[arm]))
        seen.append(f"{result.arms[arm]} {format_number(float(result.mean[arm]))} {interval}, best with {best}")
    at = result.arms.index(result.control)
    ax.axvline(result.mean[at], color=GREY, linewidth=0.8, linestyle=":", zorder=0)
    ax.set_yticks([row * _ROWS for row in range(k)[::-1]], [short(arm, 20) for arm in result.arms])
    ax.set_ylim(-0.25, (k - 1) * _ROWS + 1.12)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    if as_percent:
        ax.xaxis.set_major_formatter(lambda v, _: f"{100 * v:.3g}%")
    level = format_level(result.confidence_level)
    ax.set(
        xlabel=f"{short(result.metric)}; dark: {level} credible interval, dotted: mean of {short(result.control, 16)}"
    )
    return finish(ax, f"What is believed of {short(result.metric)}", f"{'; '.join(seen)}. {result.answer}")


def plot_prob_best(
    results: Sequence[tuple[float, PosteriorResult]],
    *,
    threshold: float | None = None,
    xlabel: str = "day",
    ax: Any = None,
) -> Any:
    """P(best) of every arm over time, named at the end of its line.

    Parameters
    ----------
    results : sequence of (time, PosteriorResult)
        Of one metric and the same arms, in any order.
    threshold : float, optional
        A probability to draw, such as that at which one would stop.
    xlabel : str
        What the times are.
    ax : Axes, optional

    Raises
    ------
    CausalRecError
        For no results, or results of several metrics or other arms.
    """
    check_known(results)
    results = sorted(results, key=lambda pair: pair[0])
    first = results[0][1]
    if {(r.metric, r.arms) for _, r in results} != {(first.metric, first.arms)}:
        raise CausalRecError(
            f"found the metrics {list_some(dict.fromkeys(r.metric for _, r in results))} and the arms "
            f"{list_some(dict.fromkeys(arm for _, r in results for arm in r.arms))}; expected one metric, with the "
            "same arms at all times."
        )
    ax = new_axes(ax)
    time = np.array([t for t, _ in results], dtype=np.float64)
    prob = np.array([r.prob_best_arm for _, r in results])
    stop = next((t for t, r in results if r.can_stop), None)
    if threshold is not None:
        ax.axhline(threshold, color=GREY, linewidth=1.0, linestyle=":")
        ax.annotate(f"{100 * threshold:.10g}%", (0.0, threshold), (4, 3), xycoords=("axes fraction", "data"),
                    textcoords="offset points", color="#4D4D4D", **_SMALL)  # fmt: skip
    ends = _spread_out(prob[-1], _APART)
    for arm, name in enumerate(first.arms):
        colour = _COLOURS[arm % len(_COLOURS)]
        ax.plot(time, prob[:, arm], color=colour, linewidth=1.8, marker="o" if len(time) < 3 else None)
        text = f"{short(name, 18)} {format_probability(float(prob[-1, arm]))}"
        ax.annotate(text, (1.0, ends[arm]), (5, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
                    va="center", color=colour if arm else "#4D4D4D", annotation_clip=False, **_SMALL)  # fmt: skip
    if stop is not None:
        ax.axvline(stop, color="black", linewidth=0.8)
        left = stop > (time[0] + time[-1]) / 2
        ax.annotate(f"expected loss small enough from {xlabel} {stop:g}", (stop, 1.02), (-4 if left else 4, 0),
                    textcoords="offset points", ha="right" if left else "left", va="center", **_SMALL)  # fmt: skip
    ax.yaxis.set_major_formatter(lambda v, _: f"{v:.0%}")
    ax.set(xlabel=xlabel, ylabel="P(best)", ylim=(-0.03, 1.06))
    if (time == np.round(time)).all():
        ax.xaxis.get_major_locator().set_params(integer=True)
    if len(time) > 1:
        ax.set_xlim(time[0], time[-1])
    seen = "; ".join(f"{arm} {format_probability(float(p))}" for arm, p in zip(first.arms, prob[-1], strict=True))
    small = "" if stop is None else f" The expected loss was small enough from {xlabel} {stop:g}."
    return finish(ax, f"Which arm is best? {short(first.metric)}", f"At the end: {seen}.{small}")


def _spread_out(values: FloatArray, apart: float) -> FloatArray:
    """Places near the values that are at least so far from each other."""
    order, found = np.argsort(values, kind="stable"), np.array(values, dtype=np.float64)
    for _ in range(200):
        close = False
        for low, high in pairwise(order):
            gap = apart - (found[high] - found[low])
            if gap > 1e-6:
                found[low] -= gap / 2
                found[high] += gap / 2
                close = True
        found += max(0.0, -float(found.min())) - max(0.0, float(found.max()) - 1.0)
        if not close:
            break
    return found


def plot_bayes_stopping(result: BayesStoppingResult, *, axes: Sequence[Any] | None = None) -> Any:
    """Two pictures: winners named where there are none, day by day; how soon experiments with effects end.

    Parameters
    ----------
    result : BayesStoppingResult
    axes : sequence of two Axes, optional

    Returns
    -------
    The two Axes.

    Raises
    ------
    CausalRecError
        For other than two Axes.
    """
    left, right = _two_axes(axes)
    top = min(1.02, max(0.1, 1.15 * float(result.declared_null_by_day.max())))
    left.axhline(result.alpha, color=GREY, linewidth=1.0, linestyle=":")
    names = [f"{rule}: {days:.1f} days" for rule, days in zip(result.rules, result.mean_days, strict=True)]
    _draw_steps(left, result, result.declared_null_by_day, [f"{p:.0%}" for p in result.declared_null], top)
    _draw_steps(right, result, result.stopped_by_day, names, 1.02)
    left.set(xlabel="day", ylabel="has named a winner")
    right.set(xlabel="day", ylabel="has stopped")
    for ax in (left, right):
        ax.yaxis.set_major_formatter(lambda v, _: f"{v:.0%}")
        ax.xaxis.get_major_locator().set_params(integer=True)
    seen = "; ".join(
        f"{rule} {null:.1%} and {days:.1f} days"
        for rule, null, days in zip(result.rules, result.declared_null, result.mean_days, strict=True)
    )
    finish(left, "Without an effect: false winners", f"Winners named without an effect, mean duration with: {seen}.")
    finish(right, "With effects: how soon it ends", f"The same experiments, with effects: {seen}.")
    return left, right


def _draw_steps(ax: Any, result: BayesStoppingResult, shares: FloatArray, names: Sequence[str], top: float) -> None:
    """Shares by day, a line per rule with its name at the end."""
    days = np.append(result.day, result.days + 0.6)  # so that what comes on the last day is seen
    last = shares[:, -1]
    if np.ptp(last) == 0 and shares.shape[1] > 1:  # all at the top: they are told apart the day before
        last = shares[:, -2]
    ends = _spread_out(last / top, _APART) * top
    for k, name in enumerate(names):
        colour = _COLOURS[k % len(_COLOURS)]
        ax.step(days, np.append(shares[k], shares[k, -1]), where="post", color=colour, linewidth=1.8)
        ax.annotate(name, (1.0, ends[k]), (5, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
                    va="center", color=colour if k else "#4D4D4D", annotation_clip=False, **_SMALL)  # fmt: skip
    ax.set(xlim=(1, days[-1]), ylim=(0, top))


def _two_axes(axes: Sequence[Any] | None) -> tuple[Any, Any]:
    if axes is not None:
        if len(axes) != 2:
            raise CausalRecError(f"found {len(axes)} Axes; expected two, as of plt.subplots(1, 2).")
        return new_axes(axes[0]), new_axes(axes[1])
    left = new_axes(None)
    figure = left.figure
    figure.set_size_inches(9.6, 3.6)
    left.set_subplotspec(figure.add_gridspec(1, 2)[0])
    return left, new_axes(figure.add_subplot(figure.axes[0].get_gridspec()[1]))
