"""What the predicted effect depends on: rises of the loss with their intervals, and contributions of covariates."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalrec.exceptions import CausalRecError
from causalrec.plots._drawing import BLUE, GREY, ORANGE, draw_intervals, finish, limits, new_axes, short, wrapped
from causalrec.results import (
    PermutationImportanceResult,
    ShapImportanceResult,
    format_interval,
    format_level,
    format_number,
)

_MOST_BARS = 15
_LONGEST = 28
_CLEAR = 0.5  # of a correlation, from which on a direction is named


def plot_permutation_importance(result: PermutationImportanceResult, *, ax: Any = None) -> Any:
    """Rise of the R-loss when a covariate is shuffled, with its interval; at most 15 covariates.

    Raises
    ------
    CausalRecError
        For no covariates.
    """
    n_shown = min(_MOST_BARS, result.n_covariates)
    if not n_shown:
        raise CausalRecError("there is nothing to draw: the result holds no covariates.")
    values, low, high = (getattr(result, name)[:n_shown] for name in ("importance", "ci_low", "ci_high"))
    names, rows = result.covariate[:n_shown], np.arange(n_shown)[::-1]
    ax = new_axes(ax, height=1.5 + 0.32 * n_shown)
    ax.set_xlim(*limits([0.0], values, low, high))
    clear = low > 0
    ax.barh(rows, values, height=0.6, color=np.where(clear, BLUE, "#B8B8B8"))
    draw_intervals(ax, rows, low, high, across=True, colour="black")
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_yticks(rows, [short(name, _LONGEST) for name in names])
    ax.set_ylim(-0.6, n_shown - 0.4)
    ax.locator_params(axis="x", nbins=5)
    level = format_level(result.confidence_level)
    ax.set_xlabel(wrapped(f"rise of the R-loss when the covariate is shuffled, {level} intervals", ax, 1.2))
    rest = result.n_covariates - n_shown
    seen = "; ".join(f"{n} {format_number(v)} {format_interval(a, b)}"
                     for n, v, a, b in zip(names, values, low, high, strict=True))  # fmt: skip
    more = f"; {rest} more" if rest else ""
    return finish(ax, "What the predicted effect needs", f"{result.model}: {seen}{more}.")


def plot_shap_importance(result: ShapImportanceResult, *, ax: Any = None) -> Any:
    """Mean size of the covariates' contributions to the predicted effect, coloured by which way they go; at most 15.

    Raises
    ------
    CausalRecError
        For no covariates.
    """
    n_shown = min(_MOST_BARS, max(1, int((result.importance > 0).sum())), result.n_covariates)
    if not n_shown:
        raise CausalRecError("there is nothing to draw: the result holds no covariates.")
    names, values, way = (getattr(result, name)[:n_shown] for name in ("covariate", "importance", "direction"))
    rows = np.arange(n_shown)[::-1]
    ax = new_axes(ax, height=1.6 + 0.32 * n_shown)
    kinds = (
        ("rises with it", BLUE, way >= _CLEAR), ("falls with it", ORANGE, way <= -_CLEAR),
        ("neither", GREY, ~(np.abs(way) >= _CLEAR)),
    )  # fmt: skip
    for label, colour, here in kinds:
        if here.any():
            ax.barh(rows[here], values[here], height=0.6, color=colour, label=label)
    for row, value, share in zip(rows, values, result.share[:n_shown], strict=True):
        ax.annotate(f"{share:.0%}", (value, row), (4, 0), textcoords="offset points", va="center", fontsize="small")
    ax.set_yticks(rows, [short(name, _LONGEST) for name in names])
    ax.set_ylim(-0.6, n_shown - 0.4)
    ax.set_xlim(0.0, 1.12 * float(values.max()) or 1.0)
    ax.locator_params(axis="x", nbins=5)
    ax.set_xlabel(wrapped("mean size of the contribution to the predicted effect, in the outcome's unit", ax, 1.2))
    seen = ", ".join(f"{n} {format_number(v)}" for n, v in zip(names, values, strict=True))
    return finish(ax, "What moves the predicted effect", f"{result.model}: {seen}.")
