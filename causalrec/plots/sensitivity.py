"""The figures of hidden bias: contours of a confounder's strength with benchmarks, and bounds by gamma."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from causalrec._typing import FloatArray
from causalrec.exceptions import CausalRecError
from causalrec.plots._drawing import BLUE, GREEN, GREY, ORANGE, finish, limits, new_axes, short
from causalrec.results import PartialR2Result, RosenbaumResult, format_interval, format_level, format_number

_SMALLEST_P = 1e-6
_LETTER, _LINE = 4.6, 11.5  # points, of small letters
_LEGIBLE = {"facecolor": "white", "edgecolor": "none", "pad": 0.4, "alpha": 0.8}


def plot_confounding(
    result: PartialR2Result, *, show: Literal["estimate", "t"] = "estimate", title: str = "", ax: Any = None
) -> Any:
    """What a regression would give with a hidden confounder in it, by what that explains of treatment and outcome.

    Parameters
    ----------
    result : PartialR2Result
    show : {"estimate", "t"}
        The adjusted estimate with the line where it has lost the share ``q``, or the t statistic with the line of the
        level.

    Notes
    -----
    Points are confounders as strong as observed covariates, or some times as strong (Cinelli and Hazlett 2020, JRSS B
    82, figure 2).
    """
    if show not in ("estimate", "t"):
        raise CausalRecError(f"show is {show!r}; expected 'estimate' or 't'.")
    ax = new_axes(ax, height=4.6)
    sign = -1.0 if result.estimate < 0 else 1.0
    if show == "estimate":
        values, limit, at = result.grid_estimate, (1 - result.q) * result.estimate + 0.0, result.adjusted_estimate
        start, what = result.estimate, "estimate"
    else:
        values, limit, at = result.grid_t, sign * result.critical_t, result.adjusted_t
        start, what = float(result.grid_t[0, 0]), "t statistic"
    reach = [1.3 * max([result.robustness_value, *shares]) for shares in (result.r2_treatment, result.r2_outcome)]
    draw_contours(ax, result.grid, values, limit, what, reach)
    ax.set(xlim=(0, min(reach[0], result.grid[-1])), ylim=(0, min(reach[1], result.grid[-1])))
    ax.plot([0], [0], "o", color="black", clip_on=False)
    ax.plot(result.r2_treatment, result.r2_outcome, "D", color=BLUE, markersize=5, clip_on=False)
    points = [(0.0, 0.0), *zip(result.r2_treatment.tolist(), result.r2_outcome.tolist(), strict=True)]
    texts = [f"no confounder: {format_number(start)}"] + [
        f"{format_number(float(times))}× {short(name, 18)}: {format_number(float(value))}"
        for name, times, value in zip(result.benchmark, result.kd, at, strict=True)
    ]
    _label(ax, points, texts)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")
    ax.set(xlabel="share of what is left of the treatment that a hidden confounder explains",
           ylabel="share of the outcome")  # fmt: skip
    return finish(
        ax, title or f"How strong must a hidden confounder be? The {what} with it", _confounding_words(result)
    )


def plot_gamma(
    result: RosenbaumResult, *, show: Literal["pvalue", "effect"] = "pvalue", title: str = "", ax: Any = None
) -> Any:
    """The largest p-value, or the effects that remain possible, by the size of hidden bias, with the turning point.

    Parameters
    ----------
    result : RosenbaumResult
    show : {"pvalue", "effect"}
        ``"effect"`` needs a result with an additive effect: not of binary outcomes.
    """
    if show not in ("pvalue", "effect"):
        raise CausalRecError(f"show is {show!r}; expected 'pvalue' or 'effect'.")
    if show == "effect" and np.isnan(result.estimate):
        raise CausalRecError(
            "this result has p-values but no additive effect: its outcome is binary. Pass show='pvalue'."
        )
    ax = new_axes(ax)
    turn = result.turning_gamma
    if show == "pvalue":
        _draw_pvalues(ax, result)
    else:
        _draw_effects(ax, result)
    if 1 < turn <= result.gamma[-1]:
        ax.axvline(turn, color=ORANGE, linewidth=1.2, label=f"turns at {format_number(turn)}")
    end = float(result.gamma[-1])
    ax.set_xlim(1, end if end > 1 else 1.5)
    ax.set_xlabel("gamma: factor by which the odds of treatment may differ within a matched set")
    question = "How much hidden bias would it take?"
    return finish(ax, title or question, _gamma_words(result))


def draw_contours(ax: Any, grid: FloatArray, values: FloatArray, limit: float, what: str, reach: list[float]) -> None:
    """Lines of equal values by the shares in ``grid``, in the part shown, whose edges are a little beyond ``reach``."""
    columns, rows = (np.count_nonzero(grid <= end) + 1 for end in reach)
    x, y, shown = grid[:columns], grid[:rows], values[:rows, :columns]
    shown = np.where(np.isfinite(shown), shown, np.nan)
    lines = ax.contour(x, y, shown, levels=9, colors=GREY, linewidths=0.7, linestyles="-")
    ax.clabel(lines, fmt=lambda value: format_number(round(float(value), 12)), fontsize="x-small")
    if np.nanmin(shown) < limit < np.nanmax(shown):
        ax.contour(x, y, shown, levels=[limit], colors=ORANGE, linewidths=2.0, linestyles="--")
        ax.plot([], [], "--", color=ORANGE, linewidth=2.0, label=f"{what} {format_number(limit)}")


def _label(ax: Any, points: list[tuple[float, float]], texts: list[str]) -> None:
    """Texts beside points, the first in black; one that would cover another is moved up, with a line to its point."""
    scale = 72 / ax.figure.dpi
    edge = ax.get_window_extent().x1 * scale
    places = ax.transData.transform(points) * scale
    taken: list[tuple[float, float, float]] = []  # left, right, bottom
    for k in np.lexsort((places[:, 0], places[:, 1])):
        x, y = places[k]
        width = _LETTER * len(texts[k])
        left = x + 6 if x + 6 + width < edge else x - 6 - width
        bottom = y + 4
        for start, end, low in sorted(taken, key=lambda box: box[2]):
            if left < end and start < left + width and abs(bottom - low) < _LINE:
                bottom = low + _LINE
        taken.append((left, left + width, bottom))
        line = {"arrowstyle": "-", "color": GREY, "linewidth": 0.6} if bottom - y > _LINE else None
        ax.annotate(texts[k], points[k], (left - x, bottom - y), textcoords="offset points", fontsize="small",
                    color="black" if k == 0 else BLUE, bbox=_LEGIBLE, arrowprops=line)  # fmt: skip


def _draw_pvalues(ax: Any, result: RosenbaumResult) -> None:
    floor = max(min(_SMALLEST_P, float(result.pvalue_high.min()) / 3), 1e-300)
    high, low = (np.maximum(p, floor) for p in (result.pvalue_high, result.pvalue_low))
    ax.fill_between(result.gamma, low, high, color=BLUE, alpha=0.15, linewidth=0)
    ax.plot(result.gamma, high, "o-", color=BLUE, markersize=4, label="largest p-value")
    ax.axhline(result.alpha, color=GREEN, linestyle="--", label=f"level {format_number(round(result.alpha, 10))}")
    ax.set_yscale("log")
    ax.set_ylim(low.min() / 1.5, 1.3)
    ax.set_ylabel("p-value")


def _draw_effects(ax: Any, result: RosenbaumResult) -> None:
    ends = [np.where(np.isfinite(e), e, np.nan) for e in (result.ci_low, result.ci_high)]
    estimates = result.estimate_low, result.estimate_high
    ax.set_ylim(*limits([0.0], *ends, *estimates))
    floor, ceiling = ax.get_ylim()
    band = np.clip(result.ci_low, floor, ceiling), np.clip(result.ci_high, floor, ceiling)
    level = format_level(result.confidence_level)
    ax.fill_between(result.gamma, *band, color=BLUE, alpha=0.15, linewidth=0, label=f"{level} interval")
    ax.fill_between(result.gamma, *estimates, color=BLUE, alpha=0.5, linewidth=1, label="estimates")
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.set_ylabel("effect, treated − control")


def _confounding_words(result: PartialR2Result) -> str:
    benchmarks = "; ".join(
        f"a confounder {format_number(float(k))} times as strong as {name} would leave {format_number(float(value))}"
        for k, name, value in zip(result.kd, result.benchmark, result.adjusted_estimate, strict=True)
    )
    text = (
        f"The estimate is {format_number(result.estimate)}; a confounder must explain {result.robustness_value:.1%} of "
        f"what is left of treatment and outcome to explain it away, {result.robustness_value_alpha:.1%} for the "
        f"{format_level(result.confidence_level)} interval"
    )
    return f"{text}; {benchmarks}." if benchmarks else f"{text}."


def _gamma_words(result: RosenbaumResult) -> str:
    last = result.gamma[-1]
    end = f"at gamma {format_number(float(last))} the p-value is at most {format_number(float(result.pvalue_high[-1]))}"
    if not np.isnan(result.estimate):
        interval = format_interval(float(result.ci_low[-1]), float(result.ci_high[-1]))
        end += f" and the effect within {interval}"
    turn = (
        "even without hidden bias" if result.turning_gamma <= 1 else f"from gamma {format_number(result.turning_gamma)}"
    )
    return f"The p-value may be above {format_number(round(result.alpha, 10))} {turn}; {end}."
