"""The figures. No pyplot and no global style: they work in threads, servers and notebooks alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from causalrec.results import (
    ABResult,
    BalanceResult,
    CurveResult,
    EffectResult,
    OverlapResult,
    RankingResult,
    RefutationResult,
    UpliftBinsResult,
    format_number,
)

# Okabe and Ito's palette, which readers with colour-blindness can tell apart.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#7A7A7A"
_WIDTH = 6.4


def _axes(ax: Any, height: float = 3.8) -> Any:
    if ax is None:
        from matplotlib.figure import Figure

        ax = Figure(figsize=(_WIDTH, height), layout="constrained").add_subplot()
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def plot_curve(*curves: CurveResult, ax: Any = None) -> Any:
    """Gain over the share of units targeted, with pointwise intervals and a random order for comparison."""
    ax = _axes(ax)
    for curve, colour in zip(curves, (BLUE, ORANGE, GREEN, GREY) * len(curves), strict=False):
        ax.plot(curve.fraction, curve.value, color=colour, label=curve.label)
        ax.fill_between(curve.fraction, curve.ci_low, curve.ci_high, color=colour, alpha=0.15, linewidth=0)
    ax.plot(curves[0].fraction, curves[0].random, color=GREY, linestyle="--", label="random order")
    ax.set(
        xlabel="share targeted, highest predicted uplift first", ylabel="gain per unit of the population", xlim=(0, 1)
    )
    ax.set_title("Qini curve: what targeting gains", loc="left")
    ax.legend(frameon=False, loc="upper left")
    return ax


def plot_uplift_bins(result: UpliftBinsResult, *, ax: Any = None) -> Any:
    """Observed effect, with its interval, beside the predicted one, by group of predicted uplift."""
    ax = _axes(ax)
    half = np.array([result.effect - result.ci_low, result.ci_high - result.effect])
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.errorbar(result.bin, result.effect, half, fmt="o", color=BLUE, capsize=3, label="observed effect")
    ax.plot(result.bin, result.predicted, "_", color=ORANGE, markersize=14, markeredgewidth=2, label="mean prediction")
    ax.set(xlabel="group by predicted uplift (1 = highest)", ylabel="effect on the outcome")
    ax.set_xticks(result.bin)
    ax.set_title("Does the order hold? Effect by predicted uplift", loc="left")
    ax.legend(frameon=False)
    return ax


def plot_balance(result: BalanceResult, *, ax: Any = None) -> Any:
    """Standardised mean differences before and after (a love plot), sorted by the difference before."""
    order = np.argsort(np.abs(result.smd_before))
    ax = _axes(ax, height=max(2.6, 0.26 * len(order) + 1.2))
    rows = np.arange(len(order))
    ax.axvline(0, color=GREY, linewidth=0.8)
    for limit in (-result.threshold, result.threshold):
        ax.axvline(limit, color=GREY, linewidth=0.8, linestyle=":")
    ax.hlines(rows, result.smd_before[order], result.smd_after[order], color="#D0D0D0")
    ax.plot(result.smd_before[order], rows, "o", color=ORANGE, markerfacecolor="none", label="before")
    ax.plot(result.smd_after[order], rows, "o", color=BLUE, label="after")
    ax.set_yticks(rows, [str(c) for c in result.covariate[order]])
    ax.set(xlabel="standardised mean difference, treated − control")
    ax.set_title("Are the groups alike after matching?", loc="left")
    ax.legend(frameon=False, loc="lower right")
    return ax


def plot_overlap(result: OverlapResult, *, ax: Any = None) -> Any:
    """Distribution of the propensity in both arms, mirrored."""
    ax = _axes(ax)
    width = np.diff(result.edges)
    ax.bar(result.edges[:-1], result.treated, width, align="edge", color=BLUE, alpha=0.8, label="treated")
    ax.bar(result.edges[:-1], -result.control, width, align="edge", color=ORANGE, alpha=0.8, label="control")
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.yaxis.set_major_formatter(lambda value, _: f"{abs(value):.0%}")
    ax.set(xlabel="propensity: P(treated given covariates)", ylabel="share of the arm", xlim=(0, 1))
    ax.set_title("Can the groups be compared? Overlap of propensities", loc="left")
    ax.legend(frameon=False)
    return ax


def plot_placebo(result: RefutationResult, *, ax: Any = None) -> Any:
    """The effects of permuted treatments, with the estimate beside them."""
    ax = _axes(ax)
    ax.hist(result.draws, bins=min(30, max(8, result.n_simulations // 5)), color=GREY, alpha=0.6)
    ax.axvline(0, color="black", linewidth=0.8)
    ax.axvline(result.estimate, color=ORANGE, linewidth=2, label=f"estimate {format_number(result.estimate)}")
    ax.set(xlabel="effect under a permuted treatment", ylabel=f"of {result.n_simulations} placebos")
    ax.set_title("Placebo: what the estimator finds where nothing is", loc="left")
    ax.legend(frameon=False)
    return ax


def plot_effects(
    effects: Mapping[str, EffectResult], *, truth: float | None = None, title: str = "Average effect", ax: Any = None
) -> Any:
    """Estimates with intervals, one line each; ``truth`` as a dashed line where it is known."""
    ax = _axes(ax, height=1.4 + 0.5 * len(effects))
    rows = np.arange(len(effects))[::-1]
    for row, effect in zip(rows, effects.values(), strict=True):
        ax.errorbar(effect.estimate, row, xerr=[[effect.estimate - effect.ci_low], [effect.ci_high - effect.estimate]],
                    fmt="o", color=BLUE, capsize=3)  # fmt: skip
    ax.axvline(0, color=GREY, linewidth=0.8)
    if truth is not None and np.isfinite(truth):
        ax.axvline(truth, color=GREEN, linestyle="--", label=f"truth {format_number(truth)}")
        ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    ax.set_yticks(rows, list(effects))
    ax.set_ylim(-0.6, len(effects) - 0.4)
    ax.set(xlabel="effect on the outcome")
    ax.set_title(title, loc="left")
    return ax


def plot_ab(results: Sequence[ABResult], *, ax: Any = None) -> Any:
    """Relative effect of every metric with its interval."""
    ax = _axes(ax, height=1.4 + 0.5 * len(results))
    rows = np.arange(len(results))[::-1]
    for row, r in zip(rows, results, strict=True):
        ax.plot([r.relative_ci_low, r.relative_ci_high], [row, row], color=BLUE)
        ax.plot(r.relative_effect, row, "o", color=BLUE)
    ax.axvline(0, color=GREY, linewidth=0.8)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:+.0%}")
    ax.set_yticks(rows, [r.metric for r in results])
    ax.set_ylim(-0.6, len(results) - 0.4)
    ax.set(xlabel=f"relative effect, {results[0].treatment} against {results[0].control}")
    ax.set_title("A/B test: lift by metric", loc="left")
    return ax


def plot_ranking(results: Sequence[RankingResult], *, ax: Any = None) -> Any:
    """One ranking metric of the model beside its baselines."""
    ax = _axes(ax)
    places = np.arange(len(results))
    values = np.array([r.estimate for r in results])
    half = np.nan_to_num([[r.estimate - r.ci_low for r in results], [r.ci_high - r.estimate for r in results]])
    ax.bar(places, values, yerr=half, capsize=3, width=0.6, color=[BLUE, *[GREY] * (len(results) - 1)], ecolor="black")
    ax.set_xticks(places, [r.model for r in results])
    ax.set(ylabel=results[0].estimand.replace("_at_", "@"))
    ax.set_title("The ranker beside its baselines", loc="left")
    return ax
