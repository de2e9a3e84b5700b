"""The figures of who responds: effects by group, a line through the effects, learners side by side."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalrec.exceptions import CausalRecError
from causalrec.plots._drawing import (
    BLUE,
    GREY,
    ORANGE,
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
    GroupEffectsResult,
    LearnerComparisonResult,
    ProjectionResult,
    format_interval,
    format_level,
    format_number,
    format_pvalue,
)

_MANY = 6  # groups, beyond which their names are turned
_LONG = 14
_LOSSES = {"r": "R-loss", "dr": "DR-loss"}


def plot_group_effects(result: GroupEffectsResult, *, ax: Any = None) -> Any:
    """Effect in every group with its interval, what was predicted, and the average effect with its band."""
    ax = new_axes(ax)
    places = np.arange(result.n_groups)
    predicted = np.isfinite(result.predicted)
    ax.set_xlim(-0.6, result.n_groups - 0.4)
    ax.set_ylim(*limits([0.0], result.effect, result.ci_low, result.ci_high, result.predicted,
                        [result.average_ci_low, result.average_ci_high]))  # fmt: skip
    if np.isfinite([result.average_ci_low, result.average_ci_high]).all():
        ax.axhspan(result.average_ci_low, result.average_ci_high, color=GREY, alpha=0.15, lw=0)
    ax.axhline(0, color="black", linewidth=0.8)
    ax.axhline(result.average, color=GREY, linestyle="--", linewidth=1.4,
               label=f"average effect, {format_number(result.average)}")  # fmt: skip
    draw_intervals(ax, places, result.ci_low, result.ci_high, across=False)
    ax.plot(places, result.effect, "o", color=BLUE, label=f"effect, {format_level(result.confidence_level)} interval")
    if predicted.any():
        beside = places[predicted] + 0.12  # so that neither hides the other where they agree
        ax.plot(beside, result.predicted[predicted], "D", color=ORANGE, fillstyle="none", label="predicted")
    names = [short(name, 24) for name in result.group]
    step = max(1, len(names) // 30)
    longest = max(map(len, names))
    turned = longest > _LONG or (len(names) > _MANY and longest > 3)
    ax.set_xticks(places[::step], names[::step],
                  **({"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if turned else {}))  # fmt: skip
    ranked = result.group.dtype.kind in "iu"
    ax.set_xlabel("group, 1 with the highest predicted effects" if ranked else "group")
    ax.set_ylabel(wrapped(f"effect of {short(result.treatment, 20)} against {short(result.control, 20)}", ax, 0.6))
    seen = [
        f"{name} {format_number(e)} {format_interval(low, high)}"
        for name, e, low, high in zip(result.group, result.effect, result.ci_low, result.ci_high, strict=True)
    ]
    equal = "" if np.isnan(result.equal_pvalue) else f" All equal: p = {format_pvalue(result.equal_pvalue)}."
    return finish(ax, "Effect by group", f"{'; '.join(seen)}. Average {format_number(result.average)}.{equal}")


def plot_projection(result: ProjectionResult, *, intercept: bool = False, ax: Any = None) -> Any:
    """Coefficients of a best linear projection with their intervals, a row each.

    Parameters
    ----------
    result : ProjectionResult
    intercept : bool
        Draw the intercept too; it is drawn in any case where there is nothing else.
    ax : Axes, optional
    """
    shown = np.ones(len(result.term), dtype=bool)
    shown[0] = intercept or len(result.term) == 1
    names = [str(name) for name in result.term[shown]]
    ax = new_axes(ax, height=forest_height(len(names)))
    values, low, high = result.coefficient[shown], result.ci_low[shown], result.ci_high[shown]
    draw_forest(ax, names, values, low, high, format_number)
    compared = f"{short(result.treatment, 26)} against {short(result.control, 26)}"
    level = format_level(result.confidence_level)
    ax.set_xlabel(wrapped(f"change in the effect of {compared} per unit, {level} intervals", ax, smaller=1.2))
    seen = [f"{name} {format_number(v)} {format_interval(a, b)}"
            for name, v, a, b in zip(names, values, low, high, strict=True)]  # fmt: skip
    joint = "" if np.isnan(result.joint_pvalue) else f" All zero: p = {format_pvalue(result.joint_pvalue)}."
    return finish(ax, "What the effect depends on", f"{'; '.join(seen)}.{joint}")


def plot_learners(result: LearnerComparisonResult, *, loss: str = "r", ax: Any = None) -> Any:
    """How much more each learner loses than the best, with its interval: one that crosses zero is not worse for sure.

    Parameters
    ----------
    result : LearnerComparisonResult
    loss : {"r", "dr"}
        The R-loss or the DR-loss.
    ax : Axes, optional

    Raises
    ------
    CausalRecError
        For another loss.
    """
    if loss not in _LOSSES:
        raise CausalRecError(f"loss is {loss!r}; expected 'r' or 'dr'.")
    order = np.argsort(getattr(result, f"{loss}_loss"), kind="stable")
    gap, low, high, total = (getattr(result, f"{loss}_{kind}")[order]
                             for kind in ("difference", "ci_low", "ci_high", "loss"))  # fmt: skip
    names = [str(name) for name in result.learner[order]]
    ax = new_axes(ax, height=forest_height(len(names)))
    draw_forest(ax, names, gap, low, high, lambda value: f"+{format_number(value)}" if value > 0 else "lowest")
    ax.locator_params(axis="x", nbins=5)
    kind = _LOSSES[loss]
    level = format_level(result.confidence_level)
    best = f"{short(names[0], 26)} ({format_number(total[0])})"
    ax.set_xlabel(wrapped(f"{kind} above that of {best}, {level} intervals", ax, smaller=1.2))
    seen = [f"{name} +{format_number(g)} {format_interval(a, b)}"
            for name, g, a, b in zip(names[1:], gap[1:], low[1:], high[1:], strict=True)]  # fmt: skip
    text = f"Lowest {kind}, {format_number(total[0])}: {names[0]}." + (f" {'; '.join(seen)}." if seen else "")
    return finish(ax, f"Which learner? {kind} on unseen rows", text)
