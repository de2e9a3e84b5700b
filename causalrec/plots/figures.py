"""The figures of models and studies. No pyplot and no global style: they work in threads, servers and notebooks alike.

Every Axes that comes back says in words what it shows as its label (``ax.get_label()``); a page takes it as the
picture's text for readers who do not see it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from causalrec.plots._drawing import (
    BLUE,
    GREY,
    ORANGE,
    check_known,
    finish,
    limits,
    new_axes,
    short,
)
from causalrec.results import (
    RankingResult,
    RefutationResult,
    format_interval,
    format_metric,
    format_number,
)


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
        f"The {result.n_simulations} placebo effects have the mean {format_number(result.new_effect)} and lie in "
        f"{format_interval(result.ci_low, result.ci_high)}; the estimate is {format_number(result.estimate)}.",
    )  # fmt: skip


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
