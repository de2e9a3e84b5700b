"""The figures of models and studies. No pyplot and no global style: they work in threads, servers and notebooks alike.

Every Axes that comes back says in words what it shows as its label (``ax.get_label()``); a page takes it as the
picture's text for readers who do not see it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from causalrec.plots._drawing import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    check_known,
    draw_forest,
    finish,
    limits,
    new_axes,
    short,
)
from causalrec.results import (
    BalanceResult,
    EffectResult,
    OverlapResult,
    RankingResult,
    RefutationResult,
    format_interval,
    format_metric,
    format_number,
)


def plot_balance(result: BalanceResult, *, ax: Any = None) -> Any:
    """Standardised mean differences before and after (a love plot), sorted by the difference before."""
    order = np.argsort(np.abs(result.smd_before), kind="stable")
    before, after = result.smd_before[order], result.smd_after[order]
    ax = new_axes(ax, height=max(2.6, 0.26 * len(order) + 1.5))
    rows = np.arange(len(order))
    ax.axvline(0, color=GREY, linewidth=0.8)
    for limit in (-result.threshold, result.threshold):
        label = f"usual limit, ±{format_number(result.threshold)}" if limit > 0 else None
        ax.axvline(limit, color=GREY, linewidth=1.0, linestyle=":", label=label)
    ax.hlines(rows, before, after, color="#D0D0D0")
    ax.plot(before, rows, "o", color=ORANGE, markerfacecolor="none", label="before")
    ax.plot(after, rows, "o", color=BLUE, label="after")
    ax.set_xlim(*limits([-result.threshold, result.threshold], before, after))
    ax.set_ylim(-0.6, len(order) - 0.4)
    ax.set_yticks(rows, [short(c) for c in result.covariate[order]])
    ax.set(xlabel="difference of means, treated − control,\nin standard deviations")
    return finish(
        ax, "Are the groups alike after adjustment?",
        f"Largest standardised difference over {len(order)} covariates: {format_number(result.max_abs_smd_before)} "
        f"before, {format_number(result.max_abs_smd_after)} after; the usual limit is "
        f"{format_number(result.threshold)}.",
    )  # fmt: skip


def plot_overlap(result: OverlapResult, *, ax: Any = None) -> Any:
    """Distribution of the propensity in both arms, mirrored."""
    ax = new_axes(ax)
    width = np.diff(result.edges)
    ax.bar(result.edges[:-1], result.treated, width, align="edge", color=BLUE, alpha=0.8, label="treated (up)")
    ax.bar(result.edges[:-1], -result.control, width, align="edge", color=ORANGE, alpha=0.8, label="control (down)")
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.yaxis.set_major_formatter(lambda value, _: f"{100 * abs(value):.3g}%")
    ax.set(xlabel="propensity: probability of treatment given the covariates", ylabel="share of the arm", xlim=(0, 1))
    return finish(
        ax, "Can the groups be compared? Overlap of propensities",
        f"Propensities run from {format_number(result.min_propensity)} to {format_number(result.max_propensity)}; "
        f"{result.share_outside_common_support:.1%} of units lie where only one group is found.",
    )  # fmt: skip


def plot_placebo(result: RefutationResult, *, ax: Any = None) -> Any:
    """The effects of permuted treatments, with the estimate beside them."""
    ax = new_axes(ax)
    draws = result.draws[np.isfinite(result.draws)]
    ax.hist(draws, bins=min(30, max(8, result.n_simulations // 5)), color=GREY, alpha=0.6)
    ax.axvline(0, color="black", linewidth=0.8)
    ax.axvline(result.estimate, color=ORANGE, linewidth=2, label=f"the estimate, {format_number(result.estimate)}")
    ax.yaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="effect found under a permuted treatment", ylabel=f"number of the {result.n_simulations} placebos")
    return finish(
        ax, "Placebo: what the estimator finds where nothing is",
        f"The {result.n_simulations} placebo effects have the mean {format_number(result.placebo_effect)} and lie in "
        f"{format_interval(result.ci_low, result.ci_high)}; the estimate is {format_number(result.estimate)}.",
    )  # fmt: skip


def plot_effects(
    effects: Mapping[str, EffectResult], *, truth: float | None = None, title: str = "Average effect", ax: Any = None
) -> Any:
    """Estimates with intervals, one line each; ``truth`` as a dashed line where it is known."""
    check_known(list(effects.values()))
    ax = new_axes(ax, height=1.8 + 0.5 * len(effects))
    known = truth if truth is not None and np.isfinite(truth) else None
    draw_forest(
        ax, list(effects), [e.estimate for e in effects.values()], [e.ci_low for e in effects.values()],
        [e.ci_high for e in effects.values()], format_number, also=known,
    )  # fmt: skip
    if known is not None:
        ax.axvline(known, color=GREEN, linestyle="--", label=f"the truth, {format_number(known)}")
    ax.set(xlabel="effect, in the outcome's unit")
    seen = [f"{n}: {format_number(e.estimate)} {format_interval(e.ci_low, e.ci_high)}" for n, e in effects.items()]
    return finish(ax, title, "; ".join([*seen, *([] if known is None else [f"truth {format_number(known)}"])]) + ".")


def plot_ranking(results: Sequence[RankingResult], *, ax: Any = None) -> Any:
    """One ranking metric of the model, the first of ``results``, beside its baselines."""
    check_known(results)
    ax = new_axes(ax, height=1.3 + 0.42 * len(results))
    rows = np.arange(len(results))[::-1]
    values = np.array([r.estimate for r in results], dtype=np.float64)
    low = np.array([r.ci_low for r in results], dtype=np.float64)
    high = np.array([r.ci_high for r in results], dtype=np.float64)
    ax.barh(rows, values, height=0.62, color=[BLUE, *["#B8B8B8"] * (len(results) - 1)])
    ax.set_xlim(0.0, limits([0.0], values, high)[1])
    known = np.isfinite(low) & np.isfinite(high)
    ax.hlines(rows[known], low[known], high[known], color="black", linewidth=1.2)
    for row, value, end in zip(rows, values, np.where(known, high, values), strict=True):
        ax.annotate(format_number(round(float(value), 4)), (end, row), (5, 0), textcoords="offset points",
                    va="center", fontsize="small")  # fmt: skip
    ax.set_yticks(rows, [short(r.model) for r in results])
    metric = format_metric(results[0].estimand)
    ax.set(xlabel=f"{metric}, from 0 to 1, higher is better")
    ax.set_xlim(0.0, ax.get_xlim()[1] * 1.1)
    return finish(
        ax, "The ranker beside its baselines",
        f"{metric}: " + ", ".join(f"{r.model} {format_number(r.estimate)}" for r in results) + ".",
    )  # fmt: skip
