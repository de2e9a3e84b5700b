"""What fitted learners are made of: boosting curves, and the covariates that matter."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalrec.exceptions import CausalRecError
from causalrec.plots._drawing import BLUE, GREEN, GREY, ORANGE, finish, limits, new_axes, short
from causalrec.results import BoostingCurveResult, ImportanceResult

# The rest of Okabe and Ito's palette, for learners of many parts.
_COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", GREY)
_MOST_BARS = 15


def plot_boosting(result: BoostingCurveResult, *, ax: Any = None) -> Any:
    """Loss on rows left out after every round, as a share of that before the first tree; a dot where each model ended.

    Lines of one colour are the folds of one model. The dotted ones are the loss on the rows of training.

    Raises
    ------
    CausalRecError
        When no model has a curve.
    """
    if not len(result.curve_model):
        raise CausalRecError("there is nothing to draw: none of the models has a boosting curve.")
    ax = new_axes(ax)
    ax.axhline(1.0, color=GREY, linewidth=0.8)
    names = list(dict.fromkeys(result.model[np.unique(result.curve_model)].tolist()))
    shown: list[float] = [1.0]
    for k in np.unique(result.curve_model):
        rows = result.of_model(int(k))
        at = result.curve_round[rows]
        validation, train = (_share_of_first(curve[rows]) for curve in (result.curve_validation, result.curve_train))
        name = result.model[k]
        place = names.index(name)
        colour = _COLOURS[place % len(_COLOURS)]
        first = int(np.flatnonzero(result.model == name)[0]) == k
        ax.plot(at, train, ":", color=colour, linewidth=0.9, alpha=0.6)
        ax.plot(at, validation, color=colour, linewidth=1.4, alpha=0.85, label=short(name, 26) if first else None)
        chosen = at == result.trees[k]
        ax.plot(at[chosen], validation[chosen], "o", color=colour, markersize=4, clip_on=False, zorder=3)
        shown += [float(np.nanmin(validation)), float(np.nanmax(validation[at <= max(result.trees[k], 1)]))]
    ax.set_ylim(*limits(shown))
    ax.set_xlim(left=0)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:.4g}")
    ax.set(xlabel="trees", ylabel="loss on rows left out,\nas a share of that without trees")
    sizes = [f"{n}: {_sizes(result, n)}" for n in names]
    return finish(ax, "What boosting brought, and where it stopped", f"Trees chosen, {'; '.join(sizes)}.")


def plot_importances(result: ImportanceResult, *, ax: Any = None) -> Any:
    """The covariates that matter most, as shares; at most 15 of those that are used."""
    n_shown = max(1, min(_MOST_BARS, result.n_used or result.n_covariates))
    names, values = result.covariate[:n_shown], result.importance[:n_shown]
    ax = new_axes(ax, height=1.3 + 0.3 * n_shown)
    rows = np.arange(n_shown)[::-1]
    ax.barh(rows, values, height=0.66, color=BLUE)
    for row, value in zip(rows, values, strict=True):
        ax.annotate(f"{value:.1%}", (value, row), (4, 0), textcoords="offset points", va="center", fontsize="small")
    ax.set_yticks(rows, [short(name) for name in names])
    ax.set_ylim(-0.6, n_shown - 0.4)
    ax.set_xlim(0.0, 1.15 * float(values.max()) or 1.0)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    rest = result.n_covariates - n_shown
    more = f" ({rest} more covariates: {1 - values.sum():.1%})" if rest and result.n_used else ""
    ax.set(xlabel=f"share of what the covariates explain of the {result.what}{more}")
    top = ", ".join(f"{n} {v:.1%}" for n, v in zip(names[:3], values[:3], strict=True))
    return finish(ax, f"What the predicted {result.what} depends on", f"{result.model}: {top}.")


def _share_of_first(curve: Any) -> Any:
    """A curve divided by its first value, which is the loss before the first tree."""
    start = curve[0]
    return curve / start if np.isfinite(start) and start > 0 else np.full(len(curve), np.nan)


def _sizes(result: BoostingCurveResult, name: str) -> str:
    trees = result.trees[result.model == name]
    return f"{trees.min()}" if trees.min() == trees.max() else f"{trees.min()} to {trees.max()}"
