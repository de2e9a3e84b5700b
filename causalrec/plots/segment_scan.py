"""The segment scan as a forest: what was found beside what to expect."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalrec.plots._drawing import (
    BLUE,
    GREY,
    ORANGE,
    check_known,
    draw_intervals,
    finish,
    forest_height,
    limits,
    new_axes,
    short,
)
from causalrec.results import SegmentScanResult, format_interval, format_number

_PALE = "#B5B5B5"


def plot_segment_scan(result: SegmentScanResult, *, ax: Any = None) -> Any:
    """A row per segment, largest first: the effect found, hollow, and what to expect, filled, with its interval.

    Vertical lines are the overall effect and where the best of as many segments would be by chance alone. Segments that
    differ from the others after correction are drawn in another colour and named in bold.

    Parameters
    ----------
    result : SegmentScanResult
    ax : Axes, optional

    Raises
    ------
    CausalRecError
        For no segments.
    """
    check_known(result.segment.tolist())
    order = np.argsort(np.where(np.isnan(result.estimate), -np.inf, result.estimate), kind="stable")
    k = len(order)
    ax = new_axes(ax, height=0.8 * forest_height(k) + 0.6)
    rows = np.arange(k, dtype=np.float64)
    found, expected = result.estimate[order], result.shrunken[order]
    low, high = result.shrunken_low[order], result.shrunken_high[order]
    differs = result.difference_adjusted[order] < 1 - result.confidence_level
    ax.set_xlim(*limits([0.0, result.overall, result.expected_best], found, low, high))
    ax.axvline(0, color=GREY, linewidth=0.8)
    ax.axvline(result.overall, color="black", linewidth=1.2, label=f"overall, {format_number(result.overall)}")
    ax.axvline(result.expected_best, color=GREY, linewidth=1.2, linestyle="--", label=(
        f"best of {k} by chance, {format_number(result.expected_best)}"))  # fmt: skip
    ax.hlines(rows, expected, found, color=_PALE, linewidth=0.9, linestyle=":")
    ax.plot(found, rows, "o", markerfacecolor="white", markeredgecolor=GREY, label="found")
    for some, colour, label in ((~differs, BLUE, "to expect"), (differs, ORANGE, "differs from others")):
        if some.any():
            draw_intervals(ax, rows[some], low[some], high[some], across=True, colour=colour)
            ax.plot(expected[some], rows[some], "o", color=colour, label=label)
    ax.set_yticks(rows, [short(name) for name in result.segment[order]])
    for label, bold in zip(ax.get_yticklabels(), differs, strict=True):
        label.set_fontweight("bold" if bold else "normal")
    ax.set_ylim(-0.6, k - 0.4)
    ax.set(xlabel=f"effect of {short(result.treatment, 20)} against {short(result.control, 20)}")
    seen = "; ".join(
        f"{result.segment[i]} found {format_number(result.estimate[i])}, expect {format_number(result.shrunken[i])} "
        f"{format_interval(result.shrunken_low[i], result.shrunken_high[i])}"
        for i in order[::-1]
    )
    return finish(ax, f"Where does it work? {short(result.metric)}", f"{seen}.")
