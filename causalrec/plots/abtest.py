"""The figures of experiments: arms, effects, designs and checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from scipy import stats

from causalrec._typing import FloatArray
from causalrec._validation import list_some, nearest
from causalrec.exceptions import CausalRecError
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
    percent,
    short,
    wrapped,
)
from causalrec.results import (
    AAResult,
    ABResult,
    DistributionResult,
    ExperimentResult,
    PowerCurveResult,
    ResamplingResult,
    TrendResult,
    format_interval,
    format_level,
    format_number,
    format_pvalue,
)
from causalrec.results.answers import margins

Effects: TypeAlias = ExperimentResult | ABResult | Sequence[ABResult]

_COLOURS = (GREY, BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9")
_USUAL_POWER = 0.8
_MANY = 6  # groups or arms beside each other, beyond which their names are turned
_AA_BINS = 20


def plot_ab(results: Effects, *, ax: Any = None) -> Any:
    """Relative effect of every metric with its interval; a metric without one is said to have none."""
    return plot_forest(results, title="A/B test: lift by metric", ax=ax)


def plot_forest(results: Effects, *, relative: bool = True, title: str | None = None, ax: Any = None) -> Any:
    """Effects with their intervals, a row each, named by what differs between them: metric, arm, segment.

    Relative effects by default; with ``relative=False`` those in the metric's unit. An interval that has no end, or
    none near the others, runs out of the picture as an arrow. The margin of non-inferiority or equivalence is marked;
    one given in the other scale stands where it lies at the control mean.

    Parameters
    ----------
    results : ExperimentResult, ABResult or sequence of ABResult
        Of an experiment its effects.
    relative : bool
    title : str, optional
    ax : Axes, optional

    Raises
    ------
    CausalRecError
        For no results, or others.
    """
    results = _effects_of(results)
    ax = new_axes(ax, height=forest_height(len(results)))
    names = _row_names(results)
    fields = (
        ("relative_effect", "relative_ci_low", "relative_ci_high") if relative else ("estimate", "ci_low", "ci_high")
    )
    estimates, low, high = ([getattr(r, f) for r in results] for f in fields)
    write: Callable[[float], str] = (lambda value: f"{value:+.1%}") if relative else format_number
    marks = np.array([margins(r, relative=relative) for r in results])
    draw_forest(ax, names, estimates, low, high, write, margins=marks)
    if relative:
        ax.xaxis.set_major_formatter(lambda value, _: f"{100 * value:+.3g}%" if value else "0%")
    for row, estimate in zip(range(len(results))[::-1], estimates, strict=True):
        if np.isnan(estimate):
            ax.text(0.5, row, "no relative effect" if relative else "no effect known", ha="center", va="center",
                    transform=ax.get_yaxis_transform())  # fmt: skip
    compared = _compared(results, "relative effect" if relative else "effect, in the metric's unit,")
    ax.set(xlabel=wrapped(compared, ax, smaller=1.2))
    if title is None:
        metrics = list(dict.fromkeys(r.metric for r in results))
        title = "Effect by metric" if len(metrics) > 1 else f"Effect on {short(metrics[0])}"
    if relative:
        seen = [f"{n} {percent(e)} [{percent(a)}, {percent(b)}]"
                for n, e, a, b in zip(names, estimates, low, high, strict=True)]  # fmt: skip
    else:
        seen = [f"{n} {format_number(e)} {format_interval(a, b)}"
                for n, e, a, b in zip(names, estimates, low, high, strict=True)]  # fmt: skip
    seen = [
        f"{text}, margin {' and '.join(write(m) for m in pair if np.isfinite(m))}" if np.isfinite(pair).any() else text
        for text, pair in zip(seen, marks, strict=True)
    ]
    return finish(ax, title, "; ".join(seen) + ".")


def _effects_of(results: Effects) -> list[ABResult]:
    """The effects in whatever holds them; anything else is refused."""
    if isinstance(results, ExperimentResult):
        results = results.effects
    found = [results] if isinstance(results, ABResult) else list(results)
    strange = [type(each).__name__ for each in found if not isinstance(each, ABResult)]
    if strange:
        raise CausalRecError(
            f"found {list_some(dict.fromkeys(strange))} among the results; expected an ExperimentResult, an ABResult "
            "or a sequence of ABResult, such as result.segments."
        )
    check_known(found)
    return found


def _row_names(results: Sequence[ABResult]) -> list[str]:
    """What tells the rows apart; the metric where nothing else does."""
    several_metrics = len({r.metric for r in results}) > 1
    several_arms = len({r.treatment for r in results}) > 1
    segmented = any(r.segment for r in results)
    names = []
    for r in results:
        parts = [r.metric] * several_metrics + [r.treatment] * several_arms + [r.segment or "all"] * segmented
        names.append(", ".join(parts) or r.metric)
    return names


def _compared(results: Sequence[ABResult], what: str) -> str:
    treatments = list(dict.fromkeys(r.treatment for r in results))
    treatment = short(treatments[0], 26) if len(treatments) == 1 else "each arm"
    return f"{what} of {treatment} against {short(results[0].control, 26)}"


def plot_rates(results: Effects, *, metric: str | None = None, as_percent: bool = False, ax: Any = None) -> Any:
    """One metric's value in every arm, with its interval; by segment where the results are of segments.

    The intervals are normal, of each arm's own standard error; an arm without one has no interval.

    Parameters
    ----------
    results : ExperimentResult, ABResult or sequence of ABResult
        Of an experiment its effects.
    metric : str, optional
        The metric to draw, where the results are of several.
    as_percent : bool
        For values that are shares.
    ax : Axes, optional

    Raises
    ------
    CausalRecError
        For no results, or several metrics or controls.
    """
    results = _effects_of(results)
    if metric is not None:
        known = dict.fromkeys(r.metric for r in results)
        results = [r for r in results if r.metric == metric]
        if not results:
            raise CausalRecError(f"metric is {metric!r}; found results of {list_some(known)}.{nearest(metric, known)}")
    if len({(r.metric, r.control) for r in results}) > 1:
        raise CausalRecError(
            f"found the metrics {list_some(dict.fromkeys(r.metric for r in results))} against "
            f"{list_some(dict.fromkeys(r.control for r in results))}; expected one metric against one control: draw "
            "each apart, with metric='name'."
        )
    groups = list(dict.fromkeys(r.segment for r in results))
    arms = list(dict.fromkeys([results[0].control, *(r.treatment for r in results)]))
    table = _arm_values(results, groups, arms)
    ax = new_axes(ax)
    half = stats.norm.ppf((1 + results[0].confidence_level) / 2) * table[..., 1]
    value = table[..., 0]
    ax.axhline(0, color=GREY, linewidth=0.8)
    low, high = limits([0.0], value, value - half, value + half)
    ax.set_ylim(low if (value - half < 0).any() or (value < 0).any() else 0.0, high + 0.06 * (high - low))
    alone = len(groups) == 1
    width = 0.6 if alone else 0.8 / len(arms)
    for k, arm in enumerate(arms):
        places = np.array([float(k)]) if alone else np.arange(len(groups)) + (k - (len(arms) - 1) / 2) * width
        colour = _COLOURS[k % len(_COLOURS)]
        ax.bar(places, value[:, k], width, color=colour, alpha=0.75, label=None if alone else short(arm, 20))
        draw_intervals(ax, places, (value - half)[:, k], (value + half)[:, k], across=False, colour="black")
        if len(groups) * len(arms) <= _MANY:
            for place, v, h in zip(places, value[:, k], half[:, k], strict=True):
                _above(ax, place, v, v + h if np.isfinite(h) else v, _share(v) if as_percent else format_number(v))
    names = [short(name, 16 if alone else 24) for name in (arms if alone else groups)]
    if alone and len(arms) <= _MANY:
        names = [f"{name}\nn = {n:,.0f}" for name, n in zip(names, table[0, :, 2], strict=True)]
    _name_groups(ax, names)
    if as_percent:
        ax.yaxis.set_major_formatter(lambda v, _: f"{100 * v:.3g}%")
    metric = results[0].metric
    level = f"\nwith {format_level(results[0].confidence_level)} intervals" if np.isfinite(half).any() else ""
    apart = alone and len({r.control_mean for r in results}) > 1  # by adjustment for covariates
    beside = f"; {short(arms[0], 16)} as adjusted beside {short(arms[-1], 16)}" if apart else ""
    ax.set(xlabel=f"arm{beside}" if alone else "segment", ylabel=f"{short(metric)}{level}")
    seen = [
        f"{f'{g}, ' if g else ''}{arm} {format_number(value[i, k])} "
        f"{format_interval(value[i, k] - half[i, k], value[i, k] + half[i, k])}"
        for i, g in enumerate(groups) for k, arm in enumerate(arms)
    ]  # fmt: skip
    return finish(ax, f"{short(metric)} in every arm", "; ".join(seen) + ".")


def _arm_values(results: Sequence[ABResult], groups: Sequence[str], arms: Sequence[str]) -> FloatArray:
    """Value, standard error and units by group and arm; NaN where an arm has no result."""
    table = np.full((len(groups), len(arms), 3), np.nan)
    for r in results:
        row = table[groups.index(r.segment)]
        row[0] = r.control_mean, r.control_std_error, r.n_control
        row[arms.index(r.treatment)] = r.treatment_mean, r.treatment_std_error, r.n_treatment
    return table


def _above(ax: Any, place: float, value: float, end: float, text: str) -> None:
    if np.isfinite(value):
        ax.annotate(text, (place, max(end, 0.0)), (0, 4), textcoords="offset points", ha="center", fontsize="small")


def _share(value: float) -> str:
    return f"{100 * value:.3g}%"


def _name_groups(ax: Any, names: Sequence[str]) -> None:
    """Names below places 0, 1, …; turned where there are many, every other one left out where there are very many."""
    step = max(1, len(names) // 30)
    turned: dict[str, Any] = {}
    if len(names) > _MANY:
        size = "small" if len(names) > 2 * _MANY else None
        turned = {"rotation": 60, "ha": "right", "rotation_mode": "anchor", "fontsize": size}
    ax.set_xticks(np.arange(len(names))[::step], list(names)[::step], **turned)
    ax.set_xlim(-0.6, len(names) - 0.4)


def plot_power_curve(result: PowerCurveResult, *, ax: Any = None) -> Any:
    """Power over the number of units, a line per effect, with the usual 80%."""
    ax = new_axes(ax)
    ax.axhline(_USUAL_POWER, color=GREY, linewidth=1.0, linestyle=":")
    seen = []
    for k, (effect, power) in enumerate(zip(result.effect, result.power, strict=True)):
        name = f"effect {format_number(effect)}"
        ax.plot(result.n_obs, power, color=(*_COLOURS[1:], GREY)[k % len(_COLOURS)], linewidth=1.8, label=name,
                linestyle="-" if k < len(_COLOURS) else "--")  # fmt: skip
        enough = result.n_obs[power >= _USUAL_POWER]
        reached = f"has {_USUAL_POWER:.0%} power from {enough.min():,} units" if enough.size else (
            f"has {power.max():.0%} power at most")  # fmt: skip
        seen.append(f"{name} {reached}")
    positive = result.n_obs[result.n_obs > 0]
    if positive.size and positive.max() > 20 * positive.min():
        ax.set_xscale("log")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.set(xlabel="units in all arms", ylabel=f"power, alpha = {format_number(result.alpha)}", ylim=(0, 1.02))
    metric = short(result.metric)
    baseline = f"Baseline {format_number(result.baseline)}. " if np.isfinite(result.baseline) else ""
    return finish(ax, f"How many units does it take? {metric}", f"{baseline}{'; '.join(seen)}.")


def plot_resampling(result: ResamplingResult, *, ax: Any = None) -> Any:
    """The resampled differences: of a bootstrap with the interval, of a permutation test with the estimate."""
    ax = new_axes(ax)
    draws = result.draws[np.isfinite(result.draws)]
    bootstrap = result.kind == "bootstrap"
    ax.hist(draws, bins=min(60, max(10, int(np.sqrt(draws.size)))), color=GREY, alpha=0.6)
    ax.set_xlim(*limits(draws, [result.estimate]))
    if bootstrap:
        edge = ax.get_xlim()
        known = not (np.isnan(result.ci_low) or np.isnan(result.ci_high))
        if known:
            ax.axvspan(*np.clip([result.ci_low, result.ci_high], *edge), color=BLUE, alpha=0.15, lw=0,
                       label=f"{format_level(result.confidence_level)} interval")  # fmt: skip
    ax.axvline(0, color="black", linewidth=0.8)
    ax.axvline(result.estimate, color=ORANGE, linewidth=2, label=f"the estimate, {format_number(result.estimate)}")
    what = "resampled difference" if bootstrap else "difference where arms are permuted"
    ax.set(xlabel=f"{what}, {short(result.statistic)}", ylabel=f"number of the {draws.size:,} resamples")
    numbers = (
        f"{format_level(result.confidence_level)} interval {format_interval(result.ci_low, result.ci_high)}"
        if bootstrap
        else f"p = {format_pvalue(result.pvalue)}"
    )
    title = "Bootstrap: how far the difference varies" if bootstrap else "Permutation: differences by chance alone"
    return finish(ax, title, f"{draws.size:,} resamples; the estimate is {format_number(result.estimate)}, {numbers}.")


def plot_aa(result: AAResult | Sequence[AAResult], *, ax: Any = None) -> Any:
    """P-values of an A/A simulation beside what uniform ones would be, with 95% binomial bands of each bar.

    Parameters
    ----------
    result : AAResult or sequence of one AAResult
    ax : Axes, optional

    Raises
    ------
    CausalRecError
        For none, or those of several metrics, each of which needs a picture of its own.
    """
    result = _one_aa(result)
    ax = new_axes(ax)
    n = len(result.pvalues)
    expected = n / _AA_BINS
    low, high = stats.binom.ppf([0.025, 0.975], n, 1 / _AA_BINS)
    ax.hist(result.pvalues, bins=_AA_BINS, range=(0, 1), color=BLUE, alpha=0.6, label="p-values found")
    ax.axhspan(low, high, color=GREY, alpha=0.3, lw=0, label="95% of bars, if uniform")
    ax.axhline(expected, color="black", linewidth=1.0)
    ax.axvline(result.alpha, color=ORANGE, linestyle="--", label=f"alpha, {format_number(result.alpha)}")
    ax.set(xlabel="p-value", ylabel=f"number of the {n:,} simulations", xlim=(0, 1))
    interval = f"[{result.ci_low:.1%}, {result.ci_high:.1%}]"
    return finish(
        ax, f"A/A: what {short(result.metric)} finds where nothing is",
        f"{result.false_positive_rate:.1%} {interval} of {n:,} p-values are below {format_number(result.alpha)}; "
        f"uniformity p = {format_pvalue(result.uniformity_pvalue)}.",
    )  # fmt: skip


def _one_aa(result: AAResult | Sequence[AAResult]) -> AAResult:
    found = [result] if isinstance(result, AAResult) else list(result)
    check_known(found)
    if strange := [type(each).__name__ for each in found if not isinstance(each, AAResult)]:
        raise CausalRecError(f"found {list_some(dict.fromkeys(strange))}; expected the AAResult of simulate_aa.")
    if len(found) > 1:
        raise CausalRecError(
            f"found the simulations of {list_some([each.metric for each in found])}; expected one: draw each apart, as "
            "in [plot_aa(each) for each in results]."
        )
    return found[0]


def plot_distribution(result: DistributionResult, *, ax: Any = None) -> Any:
    """A box per arm with the mean beside it; which quantiles box and whiskers are of stands above."""
    label = result.label
    ax = new_axes(ax, height=1.7 + 0.55 * len(result.arms))
    rows = np.arange(len(result.arms))[::-1]
    order = np.argsort(result.quantile)
    q, value = result.quantile[order], result.value[:, order]
    below, above = np.flatnonzero(q < 0.5), np.flatnonzero(q > 0.5)
    seen = [f"{arm} mean {format_number(m)}" for arm, m in zip(result.arms, result.mean, strict=True)]
    if below.size and above.size:
        inner, outer = (below[-1], above[0]), (0, len(q) - 1)
        if outer != inner:
            ax.hlines(rows, value[:, outer[0]], value[:, outer[1]], color=BLUE, linewidth=1.4,
                      label=f"{100 * q[0]:g}–{100 * q[-1]:g}%")  # fmt: skip
        ax.barh(rows, value[:, inner[1]] - value[:, inner[0]], 0.5, left=value[:, inner[0]], color="#BBD7EA",
                edgecolor=BLUE, label=f"{100 * q[inner[0]]:g}–{100 * q[inner[1]]:g}%")  # fmt: skip
    for k in np.flatnonzero(q == 0.5):
        ax.vlines(value[:, k], rows - 0.25, rows + 0.25, color=BLUE, linewidth=2.4, label="median")
        seen = [f"{s}, median {format_number(v)}" for s, v in zip(seen, value[:, k], strict=True)]
    ax.plot(result.mean, rows, "D", color=ORANGE, label="mean")
    ax.set_yticks(rows, [short(arm, 24) for arm in result.arms])
    ax.set_ylim(-0.6, len(rows) - 0.4)
    ax.xaxis.get_major_locator().set_params(nbins=5)
    ax.set(xlabel=short(label if label == result.metric else f"{label}, of {result.metric}"))
    return finish(ax, f"Distribution of {short(label)}", "; ".join(seen) + ".")


def plot_trend(result: TrendResult, *, ax: Any = None) -> Any:
    """The effect on each day with its interval, and the fitted change per day."""
    ax = new_axes(ax)
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.set_ylim(*limits([0.0], result.effect, result.effect_low, result.effect_high))
    draw_intervals(ax, result.day, result.effect_low, result.effect_high, across=False)
    ax.plot(result.day, result.effect, "o", color=BLUE, label="effect on the day")
    weight = 1 / np.square(result.effect_high - result.effect_low)
    weight = np.where(np.isfinite(weight) & np.isfinite(result.effect), weight, 0.0)
    if np.isfinite(result.estimate) and weight.any():
        centre = weight @ result.day / weight.sum(), weight @ np.nan_to_num(result.effect) / weight.sum()
        ax.plot(result.day, centre[1] + result.estimate * (result.day - centre[0]), color=ORANGE,
                label=f"trend, {format_number(result.estimate)} a day")  # fmt: skip
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="day since exposure", ylabel="effect, in the metric's unit")
    return finish(
        ax, f"Does the effect last? {short(result.metric)}",
        f"{result.treatment} against {result.control}: the effect changes by {format_number(result.estimate)} "
        f"{format_interval(result.ci_low, result.ci_high)} a day, p = {format_pvalue(result.pvalue)}.",
    )  # fmt: skip
