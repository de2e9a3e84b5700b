"""The figures of average effects from logs: balance, overlap, weights, effects side by side, event studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from causalrec._typing import AnyArray, FloatArray
from causalrec.plots._drawing import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    check_known,
    draw_forest,
    draw_intervals,
    finish,
    forest_height,
    limits,
    new_axes,
    short,
)
from causalrec.results import (
    BalanceResult,
    EffectComparisonResult,
    EffectResult,
    OverlapResult,
    PanelEffectResult,
    WeightSpreadResult,
    format_interval,
    format_level,
    format_number,
)

_MARKS = ("o", "s", "D", "^", "v", "P", "X", "*")
_COLOURS = (BLUE, GREEN, "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#0072B2", "#009E73")
_FAR = 6.0  # times the limit, beyond which methods could not be told apart within it
_APART, _FARTHER_APART = 0.4, 0.64  # of a row between the methods' marks


def plot_balance(
    result: BalanceResult | Mapping[str, BalanceResult], *, most: int | None = 40, title: str = "", ax: Any = None
) -> Any:
    """Standardised mean differences before and after (a love plot), the largest before at the top.

    Parameters
    ----------
    result : BalanceResult, or a mapping of names to results
        Several methods on the same covariates, each with a mark of its own.
    most : int, optional
        Covariates shown: those with the largest differences, before or after. None: all.
    """
    results = {"after": result} if isinstance(result, BalanceResult) else dict(result)
    check_known(list(results.values()))
    first = next(iter(results.values()))
    order = _shown(results, most)
    before = first.smd_before[order]
    after = {name: _matched(found, first)[order] for name, found in results.items() if found.adjusted}
    if len(after) > 1:  # methods that adjust nothing would cover what is before
        after = {name: values for name, values in after.items() if not np.allclose(values, before, equal_nan=True)}
    rows = np.arange(len(order))
    ax = new_axes(ax, height=_love_height(len(order), len(after)))
    _draw_limits(ax, first.threshold)
    ends = limits([-first.threshold, first.threshold], before, *after.values())
    wide = len(after) > 1 and float(np.abs(ends).max()) > _FAR * first.threshold
    if wide:
        ends = (1.3 * ends[0], 1.3 * ends[1])  # a linear margin is none on a scale that shrinks
        _widen_middle(ax, first.threshold, max(np.abs(ends)))
    if len(after) > 1:
        ax.hlines(rows[::2], *ends, color="#F2F2F2", linewidth=13 if len(after) < 5 else 22, zorder=0)
    ax.plot(before, rows, "o", color=ORANGE, markerfacecolor="none", label="before" if after else "the difference")
    _draw_after(ax, rows, before, after)
    ax.set_xlim(*ends)
    ax.set_ylim(-0.6, len(order) - 0.4)
    ax.set_yticks(rows, [short(c) for c in first.covariate[order]])
    left_out = len(first.covariate) - len(order)
    notes = ["steps grow beyond the limit"] * wide
    notes += [f"the {len(order)} largest of {len(first.covariate)} covariates"] * bool(left_out)
    ax.set(xlabel="\n".join(["difference of means, treated − control,", "in standard deviations", *notes]))
    question = "Are the groups alike after adjustment?" if after else "Are the groups alike?"
    return finish(ax, title or question, _balance_words(results, first))


def plot_overlap(result: OverlapResult, *, weighted: bool = True, title: str = "", ax: Any = None) -> Any:
    """Distribution of the propensity in both arms, mirrored; after weighting as lines, with the bounds of trimming.

    Parameters
    ----------
    weighted : bool
        Whether to draw the distributions after weighting, where the result has them.
    """
    ax = new_axes(ax)
    width = np.diff(result.edges)
    for shares, sign, colour, name in (
        (result.treated, 1, BLUE, "treated (up)"), (result.control, -1, ORANGE, "control (down)"),
    ):  # fmt: skip
        ax.bar(result.edges[:-1], sign * shares, width, align="edge", color=colour, alpha=0.8, label=name)
    tallest = [result.treated, -result.control]
    if weighted and result.treated_after is not None and result.control_after is not None:
        label = f"after weighting ({result.estimand})"
        for shares in (result.treated_after, -result.control_after):
            ax.stairs(shares, result.edges, color="black", linewidth=1.3, label=label)
            tallest.append(shares)
            label = ""
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.set_ylim(*limits([0.0], *tallest))
    _shade_outside(ax, result)
    ax.yaxis.set_major_formatter(lambda value, _: f"{100 * abs(value):.3g}%")
    ax.set(xlabel="propensity: probability of treatment given the covariates", ylabel="share of the arm", xlim=(0, 1))
    return finish(
        ax, title or "Can the groups be compared? Overlap of propensities",
        f"Propensities run from {format_number(result.min_propensity)} to {format_number(result.max_propensity)}; "
        f"{result.share_outside_common_support:.1%} of units lie where only one group is found{_trim_words(result)}.",
    )  # fmt: skip


def plot_weights(result: WeightSpreadResult, *, title: str = "", ax: Any = None) -> Any:
    """How the weights of each arm are spread, mirrored, in multiples of the arm's mean."""
    ax = new_axes(ax)
    width = np.diff(result.edges)
    for shares, sign, colour, name, n, ess in (
        (result.treated, 1, BLUE, "treated (up)", result.n_treated, result.ess_treated),
        (result.control, -1, ORANGE, "control (down)", result.n_control, result.ess_control),
    ):
        alike = ess >= n * (1 - 1e-9)  # a bar for all would leave no room for the other arm
        label = (
            f"{name.split()[0]}: all {n:,} weigh alike" if alike else f"{name}: {n:,} units count like {_rounded(ess)}"
        )
        heights = np.zeros_like(shares) if alike else sign * shares
        ax.bar(result.edges[:-1], heights, width, align="edge", color=colour, alpha=0.8, label=label)
    ax.set_xscale("log")
    low, high = min(result.edges[0], 0.5), max(result.edges[-1], 2.0)
    ax.set_xlim(low, high)
    ax.xaxis.set_major_locator(_plain_ticks(low, high))
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.minorticks_off()
    ax.axvline(1, color=GREY, linewidth=0.9, linestyle=":")
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.yaxis.set_major_formatter(lambda value, _: f"{100 * abs(value):.3g}%")
    zero = _zero_words(result)
    ax.set(xlabel="weight, in multiples of the arm's mean" + (f"\n({zero})" if zero else ""), ylabel="share of the arm")
    return finish(
        ax, title or "Do few units carry the estimate? Weights by arm",
        f"Effective units: treated {_rounded(result.ess_treated)} of {result.n_treated:,}, control "
        f"{_rounded(result.ess_control)} of {result.n_control:,}; the largest weight is "
        f"{format_number(result.max_treated)} and {format_number(result.max_control)} times the mean; the heaviest 1% "
        f"of units have {result.top_share_treated:.0%} and {result.top_share_control:.0%} of the weight"
        f"{f'; {zero}' if zero else ''}.",
    )  # fmt: skip


def plot_effects(
    effects: Mapping[str, EffectResult] | EffectComparisonResult,
    *,
    truth: float | None = None,
    benchmark: EffectResult | None = None,
    title: str = "Average effect",
    ax: Any = None,
) -> Any:
    """Estimates with intervals, one line each.

    Parameters
    ----------
    effects : mapping of names to effects, or the comparison of a study
        A comparison shows the largest covariate difference that each method leaves, to the right.
    truth : float, optional
        As a dashed line, where it is known.
    benchmark : EffectResult, optional
        That of an experiment, say: a line with its interval as a band.
    """
    compared = effects if isinstance(effects, EffectComparisonResult) else None
    named = _named(effects)
    check_known(list(named.values()))
    ax = new_axes(ax, height=1.8 + 0.5 * len(named) if len(named) < 10 else forest_height(len(named)))
    known = float(truth) if truth is not None and np.isfinite(truth) else None
    also = [x for x in (known, None if benchmark is None else benchmark.estimate) if x is not None]
    draw_forest(
        ax, list(named), [e.estimate for e in named.values()], [e.ci_low for e in named.values()],
        [e.ci_high for e in named.values()], format_number, also=max(also, key=abs) if also else None,
    )  # fmt: skip
    if known is not None:
        ax.axvline(known, color=GREEN, linestyle="--", label=f"the truth, {format_number(known)}")
    if benchmark is not None:
        _draw_benchmark(ax, benchmark)
    if compared is not None:
        _draw_balance_left(ax, compared)
    ax.set(xlabel=f"effect on {compared.outcome} ({compared.estimand})" if compared else
           "effect, in the outcome's unit")  # fmt: skip
    seen = [f"{n}: {format_number(e.estimate)} {format_interval(e.ci_low, e.ci_high)}" for n, e in named.items()]
    beside = [] if known is None else [f"truth {format_number(known)}"]
    if benchmark is not None:
        beside.append(f"benchmark {format_number(benchmark.estimate)} "
                      f"{format_interval(benchmark.ci_low, benchmark.ci_high)}")  # fmt: skip
    return finish(ax, title, "; ".join([*seen, *beside]) + ".")


def plot_event_study(result: PanelEffectResult, *, title: str = "", ax: Any = None) -> Any:
    """Effects by periods since treatment, with intervals for each and the band for all at once."""
    ax = new_axes(ax)
    event, estimate = result.event, result.event_estimate
    before = event < -result.anticipation
    band = np.isfinite(result.event_band_low)
    ax.set_xlim(event.min() - 0.6, event.max() + 0.6)
    ax.set_ylim(*limits([0.0], estimate, result.event_band_low, result.event_band_high))
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.axvline(-0.5 - result.anticipation, color=GREY, linewidth=0.9, linestyle=":")
    level = format_level(result.confidence_level)
    ax.fill_between(event[band], result.event_band_low[band], result.event_band_high[band], color="#E4E4E4",
                    linewidth=0, label=f"{level} for all at once")  # fmt: skip
    for at, colour, name in ((before, ORANGE, "before treatment"), (~before, BLUE, "since treatment")):
        if at.any():
            draw_intervals(ax, event[at], result.event_low[at], result.event_high[at], across=False, colour=colour)
            ax.plot(event[at], estimate[at], "o", color=colour, label=f"{name}, {level} each")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="periods since treatment began", ylabel=f"effect on {result.outcome}")
    trend = (
        "There is no period to test the trends in"
        if not result.pretrend_df
        else f"Effects before treatment: p = {format_number(result.pretrend_pvalue)} for all of them being zero"
    )
    return finish(
        ax, title or "What happens once treatment begins?",
        f"Overall {format_number(result.estimate)} {format_interval(result.ci_low, result.ci_high)}. {trend}.",
    )  # fmt: skip


# --- parts ----------------------------------------------------------------------------------------------------------


def _shown(results: Mapping[str, BalanceResult], most: int | None) -> AnyArray:
    """Places of the covariates to draw, from the bottom: ordered by the difference before."""
    first = next(iter(results.values()))
    size = np.nan_to_num(np.abs(first.smd_before), nan=-1.0)
    order = np.argsort(size, kind="stable")
    if most is None or len(order) <= most:
        return order
    worst = np.max([np.nan_to_num(np.abs(_matched(r, first)), nan=-1.0) for r in results.values()], axis=0)
    kept = np.argsort(-np.maximum(size, worst), kind="stable")[:most]
    return order[np.isin(order, kept)]


def _matched(found: BalanceResult, first: BalanceResult) -> FloatArray:
    """Differences after in the order of the first result's covariates; NaN where a result lacks one."""
    known = dict(zip(found.covariate.tolist(), found.smd_after.tolist(), strict=True))
    return np.array([known.get(name, np.nan) for name in first.covariate.tolist()])


def _love_height(n_rows: int, n_methods: int) -> float:
    """Inches: rows of several marks are higher, and so is their legend."""
    row = 0.26 if n_methods < 3 else min(0.24 + 0.035 * n_methods, 0.6)
    return max(2.6, row * n_rows + 1.6) + 0.1 * max(n_methods - 3, 0)


def _draw_limits(ax: Any, threshold: float) -> None:
    ax.axvline(0, color=GREY, linewidth=0.8)
    for limit in (-threshold, threshold):
        label = f"usual limit, ±{format_number(threshold)}" if limit > 0 else None
        ax.axvline(limit, color=GREY, linewidth=1.0, linestyle=":", label=label)


def _draw_after(ax: Any, rows: AnyArray, before: FloatArray, after: Mapping[str, FloatArray]) -> None:
    """A mark per covariate and method; of several methods one above the other."""
    if len(after) == 1:
        ax.hlines(rows, before, next(iter(after.values())), color="#D0D0D0", zorder=1)
    for k, (name, values) in enumerate(after.items()):
        lift = 0.0 if len(after) == 1 else (_APART if len(after) < 5 else _FARTHER_APART) * (0.5 - k / (len(after) - 1))
        mark = _MARKS[(k + k // len(_COLOURS)) % len(_MARKS)]  # another one when the colours come again
        ax.plot(values, rows + lift, mark, color=_COLOURS[k % len(_COLOURS)],
                markersize=6 if len(after) == 1 else 4.5, label=short(name.replace("_", " "), 24))  # fmt: skip


def _widen_middle(ax: Any, threshold: float, farthest: float) -> None:
    """Even steps within the usual limit, where methods differ; beyond it steps that grow."""
    ax.set_xscale("symlog", linthresh=threshold, linscale=1.5)
    beyond = [threshold * step for step in (3.0, 10.0, 30.0, 100.0) if threshold * step <= farthest]
    ticks = [threshold / 2, threshold, *beyond]
    ax.set_xticks([*(-t for t in reversed(ticks)), 0.0, *ticks])
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.4g}".replace("-", "−"))
    ax.minorticks_off()


def _balance_words(results: Mapping[str, BalanceResult], first: BalanceResult) -> str:
    left = [format_number(r.max_abs_smd_after) + ("" if len(results) == 1 else f" ({name})")
            for name, r in results.items() if r.adjusted]  # fmt: skip
    after = f", {', '.join(left)} after" if left else ""
    return (
        f"Largest standardised difference over {len(first.covariate)} covariates: "
        f"{format_number(first.max_abs_smd_before)} before{after}; the usual limit is {format_number(first.threshold)}."
    )


def _shade_outside(ax: Any, result: OverlapResult) -> None:
    """Grey where only one arm is found, dotted lines where trimming pays."""
    low, high = result.support_low, result.support_high
    if np.isfinite(low) and np.isfinite(high) and low <= high:
        label = "one arm alone"
        for start, stop in ((0.0, low), (high, 1.0)):
            if stop - start > 1e-3:
                ax.axvspan(start, stop, color="#E8E8E8", zorder=0, linewidth=0, label=label)
                label = ""
    if np.isfinite(result.share_trimmed) and result.share_trimmed > 0:
        label = _trim_label(result)
        for bound in (result.crump_low, result.crump_high):
            if 0 < bound < 1:
                ax.axvline(bound, color=GREEN, linestyle="--", linewidth=1.2, label=label)
                label = ""


def _trim_label(result: OverlapResult) -> str:
    low, high = (format_number(round(bound, 3)) for bound in (result.crump_low, result.crump_high))
    if result.crump_low <= 0:
        return f"best trimmed above {high}"
    return f"best trimmed below {low}" if result.crump_high >= 1 else f"best trimmed to {low}–{high}"


def _trim_words(result: OverlapResult) -> str:
    if not (np.isfinite(result.share_trimmed) and result.share_trimmed > 0):
        return ""
    inside = format_interval(result.crump_low, result.crump_high)
    return f"; an estimate is most precise within {inside}, without {result.share_trimmed:.1%} of units"


def _zero_words(result: WeightSpreadResult) -> str:
    """Units that are not in the picture."""
    parts = [f"{n:,} of {of:,} {arm}" for n, of, arm in (
        (result.n_zero_treated, result.n_treated, "treated"), (result.n_zero_control, result.n_control, "control"),
    ) if n]  # fmt: skip
    return f"weight zero: {' and '.join(parts)} units" if parts else ""


def _rounded(size: float) -> str:
    return f"{size:,.0f}" if size >= 10 else format_number(size)


def _plain_ticks(low: float, high: float) -> Any:
    """Ticks at 1, 2, 5 times powers of ten, or at powers alone where the range is wide."""
    from causalrec._validation import optional_import

    ticker = optional_import("matplotlib.ticker", extra="plots")
    steps = (1.0,) if high / low > 1e4 else (1.0, 3.0) if high / low > 200 else (1.0, 2.0, 5.0)
    return ticker.LogLocator(base=10, subs=steps, numticks=12)


def _named(effects: Mapping[str, EffectResult] | EffectComparisonResult) -> dict[str, EffectResult]:
    """Effects by name; one that is of another estimand than the comparison's says so."""
    if not isinstance(effects, EffectComparisonResult):
        return dict(effects)
    return {
        name.replace("_", " ") + ("" if effect.estimand == effects.estimand else f" ({effect.estimand})"): effect
        for name, effect in zip(effects.names, effects.effects, strict=True)
    }


def _draw_benchmark(ax: Any, benchmark: EffectResult) -> None:
    low, high = benchmark.ci_low, benchmark.ci_high
    if np.isfinite(low) and np.isfinite(high):
        edge = ax.get_xlim()
        ax.axvspan(max(low, edge[0]), min(high, edge[1]), color=GREEN, alpha=0.12, linewidth=0, zorder=0)
    value = format_number(benchmark.estimate)
    ax.axvline(benchmark.estimate, color=GREEN, linestyle="--", label=f"the benchmark, {value}")


def _draw_balance_left(ax: Any, compared: EffectComparisonResult) -> None:
    """The largest difference that each method leaves, in a column beside the picture."""
    smd: Sequence[float] = compared.max_abs_smd.tolist()
    rows = np.arange(len(smd))[::-1]
    place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "ha": "left", "va": "center",
             "fontsize": "small", "annotation_clip": False}  # fmt: skip
    for row, value in zip(rows, smd, strict=True):
        text = "–" if np.isnan(value) else f"{value:.3f}"
        ax.annotate(text, (1.0, row), (8, 0), color=ORANGE if value > 0.1 else "black", **place)
    ax.annotate("worst\n|SMD|", (1.0, len(smd) - 0.35), (8, 0), color=GREY, **{**place, "va": "bottom"})
