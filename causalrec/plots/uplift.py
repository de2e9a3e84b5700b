"""The figures of ranking by uplift: curves, groups, calibration, scorers side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from causalrec._typing import FloatArray
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
    wrapped,
)
from causalrec.results import (
    CurveResult,
    ScorerComparisonResult,
    UpliftBinsResult,
    UpliftCalibrationResult,
    format_interval,
    format_level,
    format_number,
    format_pvalue,
)

_COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#000000")  # Okabe and Ito
_DASHES = ("-", "--", ":")
_STEADY = 0.05  # share of the units below which an average over them swings too much to set the scale


class _Kind(NamedTuple):
    """The words of a kind of curve."""

    title: str
    scale: str
    random: str


_KINDS = {
    "qini": _Kind("Qini curve: what targeting gains", "gain per person of the population", "random order"),
    "cumulative_gain": _Kind("Cumulative gain: what targeting gains", "gain per person of the population",
                             "random order"),
    "uplift": _Kind("Uplift curve: the effect among those targeted", "average effect among those targeted",
                    "random order: the average effect"),
    "toc": _Kind("TOC curve: how much more the best gain", "effect above that of all",
                 "random order"),
}  # fmt: skip


def plot_curve(*curves: CurveResult, ax: Any = None) -> Any:
    """A curve over the share of units targeted for one scorer or several, with intervals and a random order.

    Curves of several scorers are of one kind and of the same rows. Averages over few units swing, so that of curves of
    averages the first 5% do not set the scale.
    """
    check_known(curves)
    ax = new_axes(ax)
    first = curves[0]
    base = next((name for name in _KINDS if first.kind == name or first.kind.startswith(f"{name}_")), "qini")
    kind, own = _KINDS[base], first.kind == base
    for number, curve in enumerate(curves):
        colour = _COLOURS[number % len(_COLOURS)]
        dashes = _DASHES[number // len(_COLOURS) % len(_DASHES)]
        ax.plot(curve.fraction, curve.value, color=colour, linestyle=dashes, linewidth=1.8, label=short(curve.label))
        bounded = np.isfinite(curve.ci_low) & np.isfinite(curve.ci_high)
        ax.fill_between(curve.fraction, curve.ci_low, curve.ci_high, where=bounded, color=colour, lw=0,
                        alpha=max(0.18 - 0.03 * len(curves), 0.05))  # fmt: skip
    ax.plot(first.fraction, first.random, color=GREY, linestyle="--", linewidth=1.2, label=kind.random)
    if base in ("uplift", "toc"):
        ax.set_ylim(*limits([0.0], *(_steady(curve) for curve in curves)))
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.set(xlabel=f"share of people targeted, highest predicted uplift first{_shading(curves)}", xlim=(0, 1))
    unit = "in the outcome's unit" if own else f"as {first.kind.removeprefix(base).strip('_')} defines it"
    ax.set_ylabel(f"{kind.scale},\n{unit}" if own else f"{kind.title.partition(':')[0]}\n{unit}")
    return finish(ax, kind.title, _curve_words(first, base))


def _steady(curve: CurveResult) -> FloatArray:
    inside = curve.fraction >= _STEADY
    return np.concatenate([values[inside] for values in (curve.value, curve.ci_low, curve.ci_high, curve.random)])


def _shading(curves: Sequence[CurveResult]) -> str:
    first = next((curve for curve in curves if np.isfinite(curve.ci_low).any()), None)
    if first is None:
        return ""
    level = format_level(first.confidence_level)
    whole = f"{level} band for the whole" if first.band == "simultaneous" else f"{level} intervals, point by point"
    return f"\n(shaded: {whole})"


def _curve_words(curve: CurveResult, base: str) -> str:
    steady = np.flatnonzero((curve.fraction >= _STEADY) if base in ("uplift", "toc") else (curve.fraction >= 0))
    best = int(steady[np.argmax(curve.value[steady])]) if len(steady) else len(curve.value) - 1
    at, value, random = (format_number(v) for v in (curve.value[-1], curve.value[best], curve.random[best]))
    share = f"with {curve.fraction[best]:.0%} targeted"
    if base == "uplift":
        return f"{curve.label}: the effect is highest, {value}, {share}; over all it is {at}."
    if base == "toc":
        return f"{curve.label}: the effect is furthest above that of all, by {value}, {share}."
    return (
        f"{curve.label}: the gain is highest, {value}, {share}; a random order gains {random} there. "
        f"With everybody targeted it is {at}."
    )


def plot_uplift_bins(result: UpliftBinsResult, *, ax: Any = None) -> Any:
    """Observed effect, with its interval, beside the predicted one, by group of predicted uplift."""
    ax = new_axes(ax)
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.set_ylim(*limits([0.0], result.effect, result.predicted, result.ci_low, result.ci_high))
    draw_intervals(ax, result.bin, result.ci_low, result.ci_high, across=False)
    ax.plot(result.bin, result.effect, "o", color=BLUE, label="observed effect")
    ax.plot(result.bin, result.predicted, "_", color=ORANGE, markersize=14, markeredgewidth=2, label="mean prediction")
    ax.set(xlabel="group by predicted uplift (1 = highest)", ylabel="effect, in the outcome's unit")
    ax.set_xticks(result.bin)
    return finish(
        ax, "Does the order hold? Effect by predicted uplift",
        f"Observed effect in the group predicted highest: {format_number(result.effect[0])} "
        f"{format_interval(result.ci_low[0], result.ci_high[0])}, predicted {format_number(result.predicted[0])}; "
        f"in the lowest of {len(result.bin)}: {format_number(result.effect[-1])} "
        f"{format_interval(result.ci_low[-1], result.ci_high[-1])}, predicted {format_number(result.predicted[-1])}.",
    )  # fmt: skip


def plot_uplift_calibration(result: UpliftCalibrationResult, *, ax: Any = None) -> Any:
    """Observed effect of each group, with its interval, over the predicted one; on the diagonal they agree."""
    ax = new_axes(ax)
    low, high = limits(result.predicted)
    ax.set_xlim(low, high)
    ax.set_ylim(*limits([low, high], result.effect, result.effect_ci_low, result.effect_ci_high))
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.plot([low, high], [low, high], color=GREY, linestyle="--", linewidth=1.2, label="as predicted")
    draw_intervals(ax, result.predicted, result.effect_ci_low, result.effect_ci_high, across=False)
    level = format_level(result.confidence_level)
    ax.plot(result.predicted, result.effect, "o", color=BLUE, label=f"observed, {level} interval")
    ax.set(xlabel=f"mean predicted effect of a group ({result.n_bins} groups)")
    ax.locator_params(axis="x", nbins=6)
    compared = f"effect of {short(result.treatment, 20)} against {short(result.control, 20)}"
    ax.set_ylabel(wrapped(compared, ax, 0.6))
    error = f"calibration error {format_number(result.estimate)} {format_interval(result.ci_low, result.ci_high)}"
    test = "" if np.isnan(result.pvalue) else f"all gaps zero: p = {format_pvalue(result.pvalue)}"
    ax.annotate("\n".join(filter(None, (error, test))), (0.02, 0.98), xycoords="axes fraction", va="top",
                fontsize="small", bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
                )  # fmt: skip
    seen = [f"{format_number(p)}: {format_number(e)} {format_interval(a, b)}"
            for p, e, a, b in zip(result.predicted, result.effect, result.effect_ci_low, result.effect_ci_high,
                                  strict=True)]  # fmt: skip
    words = f"{error[0].upper()}{error[1:]}{f'; {test}' if test else ''}. Predicted and observed: {'; '.join(seen)}."
    return finish(ax, "Are the predicted effects right?", words)


def plot_scorers(result: ScorerComparisonResult, *, ax: Any = None) -> Any:
    """The metric of every scorer with its interval, best first.

    Intervals that overlap say nothing about a difference: :func:`plot_scorer_differences` shows those.
    """
    order = np.argsort(-result.estimate if result.higher_is_better else result.estimate, kind="stable")
    names = [str(name) for name in result.scorer[order]]
    ax = new_axes(ax, height=forest_height(len(names)))
    values, low, high = result.estimate[order], result.ci_low[order], result.ci_high[order]
    draw_forest(ax, names, values, low, high, format_number)
    better = "higher" if result.higher_is_better else "lower"
    level = format_level(result.confidence_level)
    ax.set_xlabel(wrapped(f"{_metric_words(result.metric)}, {better} is better, {level} intervals", ax, smaller=1.2))
    ax.locator_params(axis="x", nbins=6)
    seen = [f"{name} {format_number(v)} {format_interval(a, b)}"
            for name, v, a, b in zip(names, values, low, high, strict=True)]  # fmt: skip
    return finish(ax, "Which scorer? Each on the same rows", f"{'; '.join(seen)}.")


def plot_scorer_differences(result: ScorerComparisonResult, *, ax: Any = None) -> Any:
    """The difference of every pair of scorers: an interval that crosses zero cannot tell them apart."""
    names = [f"{short(a, 17)} − {short(b, 17)}" for a, b in zip(result.first, result.second, strict=True)]
    ax = new_axes(ax, height=forest_height(len(names)))
    low, high = result.difference_ci_low, result.difference_ci_high
    draw_forest(ax, names, result.difference, low, high, lambda value: f"{value:+.3g}")
    better = "right" if result.higher_is_better else "left"
    level = format_level(result.confidence_level)
    words = f"difference in {_metric_words(result.metric)}, {level} intervals; to the {better} the first is better"
    ax.set_xlabel(wrapped(words, ax, smaller=1.2))
    ax.locator_params(axis="x", nbins=6)
    seen = [f"{a} − {b}: {format_number(d)} {format_interval(x, y)}, {verdict}"
            for a, b, d, x, y, verdict in zip(result.first, result.second, result.difference, low, high,
                                              result.verdict, strict=True)]  # fmt: skip
    return finish(ax, "Who ranks better? Differences in pairs", f"{'; '.join(seen)}.")


def _metric_words(metric: str) -> str:
    """The name of a metric as it is said."""
    names = {"qini": "Qini", "auuc": "AUUC", "autoc": "AUTOC", "r_loss": "R-loss", "dr_loss": "DR-loss"}
    if metric in names:
        return names[metric]
    if metric.startswith("uplift_at_") and metric.endswith("pct"):
        return f"uplift@{metric.removeprefix('uplift_at_').removesuffix('pct')}%"
    if metric.startswith("lift_share_of_"):
        return f"share of the lift in the best {metric.removeprefix('lift_share_of_').removesuffix('pct')}%"
    return metric.replace("_", " ")
