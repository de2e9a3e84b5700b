"""The figures. No pyplot and no global style: they work in threads, servers and notebooks alike.

Every Axes that comes back says in words what it shows as its label (``ax.get_label()``); a page takes it as the
picture's text for readers who do not see it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from causalrec._typing import FloatArray
from causalrec._validation import optional_import
from causalrec.exceptions import CausalRecError
from causalrec.results import (
    ABResult,
    BalanceResult,
    CurveResult,
    EffectResult,
    OverlapResult,
    RankingResult,
    RefutationResult,
    UpliftBinsResult,
    format_interval,
    format_metric,
    format_number,
)

# Okabe and Ito's palette, which readers with colour-blindness can tell apart.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#7A7A7A"
_WIDTH, _LONGEST = 6.4, 38


def _axes(ax: Any, height: float = 3.8) -> Any:
    if ax is None:
        figure = optional_import("matplotlib.figure", extra="plots").Figure(figsize=(_WIDTH, height))
        figure.set_layout_engine("constrained")
        ax = figure.add_subplot()
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _finish(ax: Any, title: str, text: str) -> Any:
    """Title, the legend in a row of its own where it covers nothing, and what is seen in words."""
    handles, labels = ax.get_legend_handles_labels()
    columns = 3 if sum(map(len, labels)) <= 45 else 2
    if handles:
        ax.legend(handles, labels, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=min(len(labels), columns),
                  frameon=False, borderaxespad=0.2, handlelength=1.6, columnspacing=1.4)  # fmt: skip
    ax.set_title(title, loc="left", pad=6 + 17 * -(-len(labels) // columns))
    ax.set_label(f"{title}{'' if title.endswith('?') else '.'} {text}")
    return ax


def _short(name: object, longest: int = _LONGEST) -> str:
    """A name that fits; cut in the middle, since names that begin alike often differ at the end."""
    text = str(name)
    tail = longest // 3
    return text if len(text) <= longest else f"{text[: longest - tail - 1]}…{text[-tail:]}"


def _known(results: Sequence[Any]) -> None:
    if not results:
        raise CausalRecError("there is nothing to draw: found no results, expected at least one.")


def _limits(*values: ArrayLike) -> tuple[float, float]:
    """Room for every finite value, with a margin."""
    finite = np.concatenate([np.ravel(np.asarray(v, dtype=np.float64)) for v in values])
    finite = finite[np.isfinite(finite)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    margin = 0.06 * (high - low) or 0.5 * abs(high) or 0.5
    return low - margin, high + margin


def _intervals(ax: Any, places: ArrayLike, low: ArrayLike, high: ArrayLike, *, across: bool) -> None:
    """Lines from low to high; one without an end runs to the edge, as an arrow; one that is not known is left out."""
    at, start, stop = (np.asarray(v, dtype=np.float64) for v in (places, low, high))
    edge = ax.get_xlim() if across else ax.get_ylim()
    known = ~(np.isnan(start) | np.isnan(stop))
    ends = np.clip(start[known], *edge), np.clip(stop[known], *edge)
    (ax.hlines if across else ax.vlines)(at[known], *ends, color=BLUE, linewidth=1.8)
    for values, end, marker in ((start, ends[0], "<" if across else "v"), (stop, ends[1], ">" if across else "^")):
        open_end = np.isinf(values[known])
        xy = (end[open_end], at[known][open_end])
        ax.plot(*(xy if across else xy[::-1]), marker, color=BLUE, clip_on=False)


def plot_curve(*curves: CurveResult, ax: Any = None) -> Any:
    """Gain over the share of units targeted, with pointwise intervals and a random order for comparison."""
    _known(curves)
    ax = _axes(ax)
    for curve, colour in zip(curves, (BLUE, ORANGE, GREEN, GREY) * len(curves), strict=False):
        ax.plot(curve.fraction, curve.value, color=colour, linewidth=1.8, label=_short(curve.label))
        bounded = np.isfinite(curve.ci_low) & np.isfinite(curve.ci_high)
        ax.fill_between(curve.fraction, curve.ci_low, curve.ci_high, where=bounded, color=colour, alpha=0.15, lw=0)
    first = curves[0]
    ax.plot(first.fraction, first.random, color=GREY, linestyle="--", label="random order")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.set(xlabel="share of people targeted, highest predicted uplift first", xlim=(0, 1))
    ax.set_ylabel("gain per person of the population,\nin the outcome's unit")
    best = int(np.argmax(first.value))
    name = "Qini curve: what targeting gains" if first.kind == "qini" else "Uplift curve: what targeting gains"
    return _finish(
        ax, name,
        f"{first.label}: the gain is highest, {format_number(first.value[best])}, with "
        f"{first.fraction[best]:.0%} targeted; a random order gains {format_number(first.random[best])} there. "
        f"With everybody targeted it is {format_number(first.value[-1])}.",
    )  # fmt: skip


def plot_uplift_bins(result: UpliftBinsResult, *, ax: Any = None) -> Any:
    """Observed effect, with its interval, beside the predicted one, by group of predicted uplift."""
    ax = _axes(ax)
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.set_ylim(*_limits([0.0], result.effect, result.predicted, result.ci_low, result.ci_high))
    _intervals(ax, result.bin, result.ci_low, result.ci_high, across=False)
    ax.plot(result.bin, result.effect, "o", color=BLUE, label="observed effect")
    ax.plot(result.bin, result.predicted, "_", color=ORANGE, markersize=14, markeredgewidth=2, label="mean prediction")
    ax.set(xlabel="group by predicted uplift (1 = highest)", ylabel="effect, in the outcome's unit")
    ax.set_xticks(result.bin)
    return _finish(
        ax, "Does the order hold? Effect by predicted uplift",
        f"Observed effect in the group predicted highest: {format_number(result.effect[0])} "
        f"{format_interval(result.ci_low[0], result.ci_high[0])}, predicted {format_number(result.predicted[0])}; "
        f"in the lowest of {len(result.bin)}: {format_number(result.effect[-1])} "
        f"{format_interval(result.ci_low[-1], result.ci_high[-1])}, predicted {format_number(result.predicted[-1])}.",
    )  # fmt: skip


def plot_balance(result: BalanceResult, *, ax: Any = None) -> Any:
    """Standardised mean differences before and after (a love plot), sorted by the difference before."""
    order = np.argsort(np.abs(result.smd_before), kind="stable")
    before, after = result.smd_before[order], result.smd_after[order]
    ax = _axes(ax, height=max(2.6, 0.26 * len(order) + 1.5))
    rows = np.arange(len(order))
    ax.axvline(0, color=GREY, linewidth=0.8)
    for limit in (-result.threshold, result.threshold):
        label = f"usual limit, ±{format_number(result.threshold)}" if limit > 0 else None
        ax.axvline(limit, color=GREY, linewidth=1.0, linestyle=":", label=label)
    ax.hlines(rows, before, after, color="#D0D0D0")
    ax.plot(before, rows, "o", color=ORANGE, markerfacecolor="none", label="before")
    ax.plot(after, rows, "o", color=BLUE, label="after")
    ax.set_xlim(*_limits([-result.threshold, result.threshold], before, after))
    ax.set_ylim(-0.6, len(order) - 0.4)
    ax.set_yticks(rows, [_short(c) for c in result.covariate[order]])
    ax.set(xlabel="difference of means, treated − control,\nin standard deviations")
    return _finish(
        ax, "Are the groups alike after adjustment?",
        f"Largest standardised difference over {len(order)} covariates: {format_number(result.max_abs_smd_before)} "
        f"before, {format_number(result.max_abs_smd_after)} after; the usual limit is "
        f"{format_number(result.threshold)}.",
    )  # fmt: skip


def plot_overlap(result: OverlapResult, *, ax: Any = None) -> Any:
    """Distribution of the propensity in both arms, mirrored."""
    ax = _axes(ax)
    width = np.diff(result.edges)
    ax.bar(result.edges[:-1], result.treated, width, align="edge", color=BLUE, alpha=0.8, label="treated (up)")
    ax.bar(result.edges[:-1], -result.control, width, align="edge", color=ORANGE, alpha=0.8, label="control (down)")
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.yaxis.set_major_formatter(lambda value, _: f"{100 * abs(value):.3g}%")
    ax.set(xlabel="propensity: probability of treatment given the covariates", ylabel="share of the arm", xlim=(0, 1))
    return _finish(
        ax, "Can the groups be compared? Overlap of propensities",
        f"Propensities run from {format_number(result.min_propensity)} to {format_number(result.max_propensity)}; "
        f"{result.share_outside_common_support:.1%} of units lie where only one group is found.",
    )  # fmt: skip


def plot_placebo(result: RefutationResult, *, ax: Any = None) -> Any:
    """The effects of permuted treatments, with the estimate beside them."""
    ax = _axes(ax)
    draws = result.draws[np.isfinite(result.draws)]
    ax.hist(draws, bins=min(30, max(8, result.n_simulations // 5)), color=GREY, alpha=0.6)
    ax.axvline(0, color="black", linewidth=0.8)
    ax.axvline(result.estimate, color=ORANGE, linewidth=2, label=f"the estimate, {format_number(result.estimate)}")
    ax.yaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="effect found under a permuted treatment", ylabel=f"number of the {result.n_simulations} placebos")
    return _finish(
        ax, "Placebo: what the estimator finds where nothing is",
        f"The {result.n_simulations} placebo effects have the mean {format_number(result.placebo_effect)} and lie in "
        f"{format_interval(result.ci_low, result.ci_high)}; the estimate is {format_number(result.estimate)}.",
    )  # fmt: skip


def plot_effects(
    effects: Mapping[str, EffectResult], *, truth: float | None = None, title: str = "Average effect", ax: Any = None
) -> Any:
    """Estimates with intervals, one line each; ``truth`` as a dashed line where it is known."""
    _known(list(effects.values()))
    ax = _axes(ax, height=1.8 + 0.5 * len(effects))
    known = truth if truth is not None and np.isfinite(truth) else None
    _forest(
        ax, list(effects), [e.estimate for e in effects.values()], [e.ci_low for e in effects.values()],
        [e.ci_high for e in effects.values()], format_number, also=known,
    )  # fmt: skip
    if known is not None:
        ax.axvline(known, color=GREEN, linestyle="--", label=f"the truth, {format_number(known)}")
    ax.set(xlabel="effect, in the outcome's unit")
    seen = [f"{n}: {format_number(e.estimate)} {format_interval(e.ci_low, e.ci_high)}" for n, e in effects.items()]
    return _finish(ax, title, "; ".join([*seen, *([] if known is None else [f"truth {format_number(known)}"])]) + ".")


def plot_ab(results: Sequence[ABResult], *, ax: Any = None) -> Any:
    """Relative effect of every metric with its interval; a metric without one is said to have none."""
    _known(results)
    ax = _axes(ax, height=1.6 + 0.5 * len(results))
    estimates = [r.relative_effect for r in results]
    low, high = [r.relative_ci_low for r in results], [r.relative_ci_high for r in results]
    _forest(ax, [r.metric for r in results], estimates, low, high, lambda value: f"{value:+.1%}")
    ax.xaxis.set_major_formatter(lambda value, _: f"{100 * value:+.3g}%" if value else "0%")
    for row, r in zip(range(len(results))[::-1], results, strict=True):
        if np.isnan(r.relative_effect):
            ax.text(0.5, row, "no relative effect", transform=ax.get_yaxis_transform(), ha="center", va="center")
    first = results[0]
    arms = _short(first.treatment, 26), _short(first.control, 26)
    ax.set(xlabel=f"relative effect of {arms[0]}{chr(10) if len(''.join(arms)) > 26 else ' '}against {arms[1]}")
    seen = [f"{r.metric} {_percent(r.relative_effect)} [{_percent(a)}, {_percent(b)}]"
            for r, a, b in zip(results, low, high, strict=True)]  # fmt: skip
    return _finish(ax, "A/B test: lift by metric", "; ".join(seen) + ".")


def plot_ranking(results: Sequence[RankingResult], *, ax: Any = None) -> Any:
    """One ranking metric of the model, the first of ``results``, beside its baselines."""
    _known(results)
    ax = _axes(ax, height=1.3 + 0.42 * len(results))
    rows = np.arange(len(results))[::-1]
    values = np.array([r.estimate for r in results], dtype=np.float64)
    low = np.array([r.ci_low for r in results], dtype=np.float64)
    high = np.array([r.ci_high for r in results], dtype=np.float64)
    ax.barh(rows, values, height=0.62, color=[BLUE, *["#B8B8B8"] * (len(results) - 1)])
    ax.set_xlim(0.0, _limits([0.0], values, high)[1])
    known = np.isfinite(low) & np.isfinite(high)
    ax.hlines(rows[known], low[known], high[known], color="black", linewidth=1.2)
    for row, value, end in zip(rows, values, np.where(known, high, values), strict=True):
        ax.annotate(format_number(round(float(value), 4)), (end, row), (5, 0), textcoords="offset points",
                    va="center", fontsize="small")  # fmt: skip
    ax.set_yticks(rows, [_short(r.model) for r in results])
    metric = format_metric(results[0].estimand)
    ax.set(xlabel=f"{metric}, from 0 to 1, higher is better")
    ax.set_xlim(0.0, ax.get_xlim()[1] * 1.1)
    return _finish(
        ax, "The ranker beside its baselines",
        f"{metric}: " + ", ".join(f"{r.model} {format_number(r.estimate)}" for r in results) + ".",
    )  # fmt: skip


def _percent(value: float) -> str:
    return "–" if np.isnan(value) else "no bound" if np.isinf(value) else f"{value:+.1%}"


def _forest(
    ax: Any, names: Sequence[str], estimates: ArrayLike, low: ArrayLike, high: ArrayLike, write: Any,
    also: float | None = None,
) -> None:  # fmt: skip
    """A row per estimate, from the top: a point, its interval, its value in numbers; a line at zero."""
    values: FloatArray = np.asarray(estimates, dtype=np.float64)
    rows = np.arange(len(values))[::-1]
    ax.set_xlim(*_limits([0.0] if also is None else [0.0, also], values, low, high))
    ax.axvline(0, color=GREY, linewidth=0.8)
    _intervals(ax, rows, low, high, across=True)
    ax.plot(values, rows, "o", color=BLUE)
    for row, value in zip(rows, values, strict=True):
        if np.isfinite(value):
            ax.annotate(write(float(value)), (value, row), (0, 6), textcoords="offset points", ha="center",
                        fontsize="small")  # fmt: skip
    ax.set_yticks(rows, [_short(n) for n in names])
    ax.set_ylim(-0.6, len(values) - 0.2)
