"""What the figures share: axes, colours, names that fit, intervals with open ends, rows of estimates."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from causalrec._typing import AnyArray
from causalrec._validation import optional_import
from causalrec.exceptions import CausalRecError

# Okabe and Ito's palette, which readers with colour-blindness can tell apart.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#7A7A7A"
_WIDTH, _LONGEST = 6.4, 38
_LEGIBLE = {"facecolor": "white", "edgecolor": "none", "pad": 0.4}  # a minus sign on the line at zero is not
_ROOMY, _MUCH_WIDER = 12, 6.0


def new_axes(ax: Any, height: float = 3.8) -> Any:
    """The given Axes, or those of a figure of their own."""
    if ax is None:
        figure = optional_import("matplotlib.figure", extra="plots").Figure(figsize=(_WIDTH, height))
        figure.set_layout_engine("constrained")
        ax = figure.add_subplot()
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def finish(ax: Any, title: str, text: str) -> Any:
    """Title, the legend in a row of its own where it covers nothing, and what is seen in words."""
    handles, labels = ax.get_legend_handles_labels()
    columns = _legend_columns(labels, ax)
    if handles:
        ax.legend(handles, labels, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=min(len(labels), columns),
                  frameon=False, borderaxespad=0.2, handlelength=1.6, columnspacing=1.4)  # fmt: skip
    ax.set_title(wrapped(title, ax), loc="left", pad=6 + 17 * -(-len(labels) // columns))
    ax.set_label(f"{title}{'' if title.endswith('?') else '.'} {text}")
    return ax


def _legend_columns(labels: Sequence[str], ax: Any) -> int:
    """As many as fit above the picture, which is narrow where names of rows are long."""
    columns = 3 if sum(map(len, labels)) <= 45 else 2
    room = 72 - _longest_name(ax)
    while labels and columns > 1:
        rows = -(-len(labels) // columns)
        widths = [max(map(len, labels[k : k + rows])) for k in range(0, len(labels), rows)]
        if sum(widths) + 6 * len(widths) <= room:
            break
        columns -= 1
    return columns


def _longest_name(ax: Any) -> int:
    return max((len(label.get_text()) for label in ax.get_yticklabels()), default=0)


def wrapped(text: str, ax: Any, smaller: float = 1.0) -> str:
    """Text above or below the picture in lines that fit; the picture is narrow where names of rows are long."""
    return "\n".join(textwrap.wrap(text, int(smaller * max(24, 56 - 0.83 * _longest_name(ax)))))


def short(name: object, longest: int = _LONGEST) -> str:
    """A name that fits; cut in the middle, since names that begin alike often differ at the end."""
    text = str(name)
    tail = longest // 3
    return text if len(text) <= longest else f"{text[: longest - tail - 1]}…{text[-tail:]}"


def check_known(results: Sequence[Any]) -> None:
    """Refuse to draw nothing."""
    if not results:
        raise CausalRecError("there is nothing to draw: found no results, expected at least one.")


def limits(*values: ArrayLike) -> tuple[float, float]:
    """Room for every finite value, with a margin."""
    finite = np.concatenate([np.ravel(np.asarray(v, dtype=np.float64)) for v in values])
    finite = finite[np.isfinite(finite)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    margin = 0.06 * (high - low) or 0.5 * abs(high) or 0.5
    return low - margin, high + margin


def draw_intervals(
    ax: Any, places: ArrayLike, low: ArrayLike, high: ArrayLike, *, across: bool, colour: str = BLUE
) -> None:
    """Lines from low to high; one without an end in the picture runs to the edge, as an arrow; NaN is left out."""
    at, start, stop = (np.asarray(v, dtype=np.float64) for v in (places, low, high))
    edge = ax.get_xlim() if across else ax.get_ylim()
    known = ~(np.isnan(start) | np.isnan(stop))
    ends = np.clip(start[known], *edge), np.clip(stop[known], *edge)
    (ax.hlines if across else ax.vlines)(at[known], *ends, color=colour, linewidth=1.8)
    for values, end, marker in ((start, ends[0], "<" if across else "v"), (stop, ends[1], ">" if across else "^")):
        open_end = (values[known] < edge[0]) | (values[known] > edge[1])
        if open_end.any():  # markers without a place, which are not clipped either, would confuse the layout
            xy = (end[open_end], at[known][open_end])
            ax.plot(*(xy if across else xy[::-1]), marker, color=colour, clip_on=False)


def spread(heights: ArrayLike, apart: float, lowest: float = 0.0) -> AnyArray:
    """The same heights, moved up where names beside them would overlap; NaN stays."""
    placed = np.array(heights, dtype=np.float64)
    floor = lowest + apart / 2
    for k in np.argsort(placed):
        placed[k] = max(placed[k], floor)
        floor = placed[k] + apart if np.isfinite(placed[k]) else floor
    return placed


def name_beside(ax: Any, text: str, x: float, y: float, colour: str) -> None:
    """A name to the right of a point, in its colour."""
    ax.annotate(text, (x, y), (5, 0), textcoords="offset points", va="center", ha="left", color=colour,
                fontsize="small", annotation_clip=False)  # fmt: skip


def percent(value: float) -> str:
    """A signed share in words."""
    return "–" if np.isnan(value) else "no bound" if np.isinf(value) else f"{value:+.1%}"


def forest_height(n_rows: int) -> float:
    """Inches for a forest: rows move closer where there are many."""
    return 1.6 + (0.5 if n_rows <= _ROOMY else 0.36) * n_rows


def draw_forest(
    ax: Any,
    names: Sequence[str],
    estimates: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    write: Callable[[float], str],
    also: float | None = None,
    margins: ArrayLike | None = None,
) -> None:
    """A row per estimate, from the top: a point, its interval, its value in numbers; a line at zero.

    ``margins`` of shape (rows, 2) are marked in their rows; NaN where there is none.

    Intervals much wider than most run out of the picture, so that the others can be read.
    """
    values, start, stop = (np.asarray(v, dtype=np.float64) for v in (estimates, low, high))
    rows = np.arange(len(values))[::-1]
    width = stop - start
    finite = width[np.isfinite(width)]
    usual = width <= _MUCH_WIDER * np.median(finite) if finite.size else np.isfinite(width)
    ends = [np.where(usual | (np.isinf(width)), end, np.nan) for end in (start, stop)]
    marks = np.full((len(values), 2), np.nan) if margins is None else np.asarray(margins, dtype=np.float64)
    ax.set_xlim(*limits([0.0] if also is None else [0.0, also], values, *ends, marks))
    ax.axvline(0, color=GREY, linewidth=0.8)
    if np.isfinite(marks).any():
        at = np.isfinite(marks)
        height = np.broadcast_to(rows[:, None], marks.shape)[at]
        ax.vlines(marks[at], height - 0.32, height + 0.32, color=ORANGE, linewidth=1.8, label="margin")
    draw_intervals(ax, rows, start, stop, across=True)
    ax.plot(values, rows, "o", color=BLUE)
    for row, value in zip(rows, values, strict=True):
        if np.isfinite(value):
            ax.annotate(write(float(value)), (value, row), (0, 6), textcoords="offset points", ha="center",
                        fontsize="small", bbox=_LEGIBLE)  # fmt: skip
    ax.set_yticks(rows, [short(n) for n in names])
    ax.set_ylim(-0.6, len(values) - 0.2)
