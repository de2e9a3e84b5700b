"""Who should be treated: segments with their effects, the map of people, and a policy tree drawn as one."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np

from causalrec._typing import AnyArray
from causalrec.exceptions import CausalRecError
from causalrec.plots._drawing import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    draw_intervals,
    finish,
    limits,
    new_axes,
    short,
    wrapped,
)
from causalrec.results import (
    PolicyTreeResult,
    SegmentsResult,
    format_interval,
    format_level,
    format_number,
)

COLOURS = {
    "persuadables": GREEN, "sure things": BLUE, "lost causes": GREY, "sleeping dogs": ORANGE, "undecided": "#CC79A7",
}  # fmt: skip
_LARGEST = 190.0  # of a dot of the map, in square points
_LEGIBLE = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
_BEND = 0.84  # of the way to the next level, from where a branch is level
_ARMS = (GREEN, BLUE, ORANGE, "#CC79A7", "#56B4E9")


def plot_segments(result: SegmentsResult, *, ax: Any = None) -> Any:
    """Effect of every segment with its interval, its share of the people, and its share of the lift.

    The dashed line is the effect on everybody; the dotted one the effect that pays for treatment, where it is not zero.
    """
    k = result.n_segments
    ax = new_axes(ax, height=1.7 + 0.62 * k)
    rows = np.arange(k, dtype=np.float64)[::-1]
    worth = result.threshold if np.isfinite(result.threshold) and result.threshold > 0 else None
    ax.set_xlim(*limits([0.0, result.average, *([] if worth is None else [worth])], result.effect, result.ci_low,
                        result.ci_high))  # fmt: skip
    ax.axvline(0, color="black", linewidth=0.8)
    ax.axvline(result.average, color=GREY, linestyle="--", linewidth=1.2,
               label=f"everybody, {format_number(result.average)}")  # fmt: skip
    if worth is not None:
        ax.axvline(worth, color=GREY, linestyle=":", linewidth=1.4, label=f"pays, {format_number(worth)}")
    for at, name, effect, low, high, lift in zip(rows, result.segment, result.effect, result.ci_low, result.ci_high,
                                                 _lifts(result), strict=True):  # fmt: skip
        colour = COLOURS[str(name)]
        draw_intervals(ax, [at], [low], [high], across=True, colour=colour)
        if np.isfinite(effect):
            ax.plot([effect], [at], "o", color=colour, markersize=7)
            ax.annotate(f"{effect:.3g}{lift}", (effect, at), (0, 8), textcoords="offset points", ha="center",
                        fontsize="small", bbox=_LEGIBLE, annotation_clip=False)  # fmt: skip
    ax.set_yticks(rows, [f"{name}\n{share:.1%} of people" for name, share in zip(result.segment, result.share,
                                                                              strict=True)])  # fmt: skip
    ax.set_ylim(-0.5, k - 0.3)
    level = format_level(result.confidence_level)
    compared = f"{short(result.treatment, 24)} against {short(result.control, 24)}"
    ax.set_xlabel(wrapped(f"effect of {compared}, {level} intervals for all at once", ax, 1.45))
    seen = [
        f"{name}: {share:.1%} of the people, effect {format_number(effect)} {format_interval(low, high)}{lift}"
        for name, share, effect, low, high, lift in zip(
            result.segment, result.share, result.effect, result.ci_low, result.ci_high, _lifts(result), strict=True
        )
    ]
    return finish(ax, "Whom does treatment change?", "; ".join(seen) + ".")


def _lifts(result: SegmentsResult) -> list[str]:
    """Shares of the lift in words, where they can be told."""
    known = np.isfinite(result.lift_share_ci_low) & np.isfinite(result.lift_share_ci_high)
    return [f", {share:.0%} of the lift" if k else "" for share, k in zip(result.lift_share, known, strict=True)]


def plot_segment_map(result: SegmentsResult, *, ax: Any = None) -> Any:
    """Where people are by predicted uplift and expected outcome without treatment, coloured by segment.

    A dot is a cell of the map and as large as the number of people there. Lines are where the rule cuts.

    Raises
    ------
    CausalRecError
        When the segments came without predicted uplift or without a baseline.
    """
    if not len(result.map_n):
        raise CausalRecError(
            "there is no map to draw: that takes predicted uplift and expected outcome without treatment of every row. "
            "Pass uplift= and baseline= (or nuisance=) to learn_segments or describe_segments."
        )
    ax = new_axes(ax, height=4.2)
    ax.set_xlim(*limits(result.map_uplift, [0.0]))
    ax.set_ylim(*limits(result.map_baseline))
    ax.axvline(0, color="black", linewidth=0.8)
    for cut in result.group_low[np.isfinite(result.group_low) & _changes(result.group_verdict)]:
        ax.axvline(cut, color=GREY, linewidth=0.9, linestyle="--")
    if np.isfinite(result.baseline_cut) and "no effect shown" in result.group_verdict.tolist():
        ax.axhline(result.baseline_cut, color=GREY, linewidth=0.9, linestyle=":")
    size = _LARGEST * result.map_n / result.map_n.max()
    for name, n in zip(result.segment, result.n, strict=True):
        here = result.map_segment == name
        ax.scatter(result.map_uplift[here], result.map_baseline[here], s=np.maximum(size[here], 1.5),
                   color=COLOURS[str(name)], alpha=0.75, linewidths=0, label=f"{name}, {n:,}")  # fmt: skip
    ax.set_xlabel(wrapped(f"predicted effect of {short(result.treatment, 24)} against {short(result.control, 24)}", ax,
                          1.2))  # fmt: skip
    ax.set_ylabel("expected outcome without treatment")
    ax = finish(
        ax, "Where the segments lie",
        "; ".join(f"{name}: {n:,} people, mean predicted effect {format_number(u)}, mean outcome without treatment "
                  f"{format_number(b)}"
                  for name, n, u, b in zip(result.segment, result.n, result.predicted, result.outcome, strict=True))
        + ".",
    )  # fmt: skip
    legend = ax.get_legend()
    for handle in legend.legend_handles:
        handle.set_sizes([45.0])
    return ax


def _changes(verdict: AnyArray) -> AnyArray:
    """Groups below which the verdict is another."""
    return np.append(verdict[1:] != verdict[:-1], False)


def plot_policy_tree(result: PolicyTreeResult, *, ax: Any = None) -> Any:
    """The tree from left to right: its questions, and in each leaf the arm, its people, and what it brings."""
    places, depth = _layout(result)
    n_leaves = result.n_leaves
    ax = new_axes(ax, height=1.5 + max(1.0, 0.78 * n_leaves))
    ax.set_axis_off()
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_xlim(-0.02, depth + (1.45 if depth else 3.0))
    ax.set_ylim(n_leaves - 0.45, -0.55)
    colours = dict(zip(result.arm.tolist(), (GREY, *_ARMS * len(result.arm)), strict=False))
    wide = {0: 34, 1: 26, 2: 20, 3: 16}[depth]
    for node in range(len(result.node_parent)):
        x, y = places[node]
        for child in result.children(node):
            _branch(ax, (x, y), places[child], str(result.node_side[child]))
        if result.node_rule[node]:
            text = "\n".join(textwrap.wrap(f"{short(result.node_rule[node], 3 * wide)}?", wide))
            ax.text(x, y, text, ha="left", va="center", fontsize="small",
                    bbox={"facecolor": "white", "edgecolor": GREY, "boxstyle": "round,pad=0.35"})  # fmt: skip
        else:
            colour = colours[str(result.node_arm[node])]
            ax.text(x, y, _leaf_text(result, node, wide + 4), ha="left", va="center", fontsize="small", color="white",
                    bbox={"facecolor": colour, "edgecolor": colour, "boxstyle": "round,pad=0.4"})  # fmt: skip
    return finish(ax, "Whom to give what: a policy tree", " ".join(str(result).split()))


def _leaf_text(result: PolicyTreeResult, node: int, wide: int) -> str:
    arm, compared = str(result.node_arm[node]), str(result.node_compared[node])
    low, high = result.node_ci_low[node], result.node_ci_high[node]
    width = (high - low) / 2
    decimals = int(np.clip(1 - np.floor(np.log10(width)), 0, 8)) if width > 0 else None
    value, *ends = (format_number(v) if decimals is None else f"{v:,.{decimals}f}"
                    for v in (float(result.node_gain[node]), low, high))  # fmt: skip
    other = "treating" if len(result.arm) == 2 else short(compared, 12)
    what = "brings" if arm == compared else f"{other}:"
    span = f" [{ends[0]}, {ends[1]}]" if np.isfinite(low) else ""
    return f"{short(arm, wide)}\n{result.node_share[node]:.1%} of people\n{what} {value}{span}"


def _branch(ax: Any, start: tuple[float, float], end: tuple[float, float], answer: str) -> None:
    middle = start[0] + _BEND
    ax.plot([start[0], middle, end[0]], [start[1], end[1], end[1]], color=GREY, linewidth=1.1, zorder=0)
    ax.text(
        middle, end[1], answer, ha="right", va="bottom" if answer == "yes" else "top", fontsize="x-small", color=GREY
    )


def _layout(result: PolicyTreeResult) -> tuple[list[tuple[float, float]], int]:
    """The place of each node: its depth, and its leaves' middle from the top; and the depth of the tree."""
    m = len(result.node_parent)
    depth, height, leaves = [0] * m, [0.0] * m, 0
    for node in range(m):
        if result.node_parent[node] >= 0:
            depth[node] = depth[int(result.node_parent[node])] + 1
    for node in range(m):
        if not result.children(node):
            height[node], leaves = float(leaves), leaves + 1
    for node in reversed(range(m)):
        below = result.children(node)
        if below:
            height[node] = float(np.mean([height[k] for k in below]))
    return [(float(d), h) for d, h in zip(depth, height, strict=True)], max(depth)
