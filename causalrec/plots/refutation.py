"""The figure of refutations: what each found where the answer is known, side by side."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalrec.plots._drawing import BLUE, GREEN, GREY, ORANGE, check_known, finish, limits, new_axes, short
from causalrec.results import RefutationResult, RefutationsResult, format_number
from causalrec.results.base import pvalue_text

_PANEL, _COLUMNS = 1.55, 2
_WORDS = {
    "placebo_treatment": "placebo treatment",
    "random_common_cause": "a covariate of pure noise",
    "data_subset": "a part of the units",
    "dummy_outcome": "dummy outcome",
    "bootstrap": "units drawn again",
    "negative_control_outcome": "no effect on",
    "negative_control_treatment": "no effect of",
}


def plot_refutations(result: RefutationsResult, *, title: str = "", ax: Any = None) -> Any:
    """A panel per refutation: the effects found, what is expected, and the estimate; its p-value after Holm.

    Negative controls have one effect each, with its interval, on a scale of their own.
    """
    check_known(result.results)
    columns = min(_COLUMNS, len(result.names))
    rows = -(-len(result.names) // columns)
    ax = new_axes(ax, height=1.0 + _PANEL * rows)
    ax.spines[:].set_visible(False)
    ax.set_xticks([])
    ax.set_yticks([])
    for k, (name, found) in enumerate(zip(result.names, result.results, strict=True)):
        panel = ax.inset_axes(_place(k, rows, columns))
        _draw_panel(panel, found)
        verdict, colour = _verdict(float(result.adjusted_pvalue[k]), result.verdicts[k])
        panel.set_title(_panel_title(name), loc="left", fontsize="small", pad=3)
        panel.set_title(verdict, loc="right", fontsize="x-small", color=colour, pad=3)
    for style, colour, label in (("--", "black", "expected"), ("-", ORANGE, "the estimate")):
        ax.plot([], [], style, color=colour, label=label)
    question = "What does the estimator find where the answer is known?"
    return finish(ax, title or question, _words(result))


def _place(k: int, rows: int, columns: int) -> tuple[float, float, float, float]:
    """Left, bottom, width and height of a panel, with room for its title and its numbers."""
    row, column = divmod(k, columns)
    wide, high = 1 / columns, 1 / rows
    return column * wide + 0.02, 1 - (row + 1) * high + 0.22 * high, wide - 0.06, 0.52 * high


def _draw_panel(ax: Any, found: RefutationResult) -> None:
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.set_yticks([])
    ax.tick_params(axis="x", labelsize="x-small")
    ax.locator_params(axis="x", nbins=5)
    draws = found.draws[np.isfinite(found.draws)]
    own_scale = found.kind.startswith("negative_control")
    if len(draws) > 1:
        ax.hist(draws, bins=min(30, max(8, len(draws) // 5)), color=GREY, alpha=0.6)
    else:
        ax.hlines([0.5], found.ci_low, found.ci_high, color=BLUE, linewidth=1.8)
        ax.plot([found.new_effect], [0.5], "o", color=BLUE)
        ax.set_ylim(0, 1)
    ax.axvline(found.expected, color="black", linestyle="--", linewidth=1.0)
    marks = [found.expected]
    if not own_scale and np.isfinite(found.estimate):
        ax.axvline(found.estimate, color=ORANGE, linewidth=1.6, zorder=1)
        marks.append(found.estimate)
    ends = [found.ci_low, found.ci_high] if own_scale else [draws]
    ax.set_xlim(*limits(marks, *ends))


def _panel_title(name: str, longest: int = 13) -> str:
    kind, _, column = name.partition(": ")
    words = _WORDS.get(kind, kind.replace("_", " "))
    return f"{words} {short(column, longest)}" if column else words


def _verdict(pvalue: float, passed: bool) -> tuple[str, str]:
    if np.isnan(pvalue):
        return "no test", GREY
    return f"{'passed' if passed else 'FAILED'}, {pvalue_text(pvalue)}", GREEN if passed else ORANGE


def _words(result: RefutationsResult) -> str:
    seen = [
        f"{_panel_title(name, 80)}: {format_number(found.new_effect)} where {format_number(found.expected)} is "
        f"expected, {_verdict(float(p), passed)[0]}"
        for name, found, p, passed in zip(
            result.names, result.results, result.adjusted_pvalue, result.verdicts, strict=True
        )
    ]
    return f"The estimate is {format_number(result.estimate)}. {'; '.join(seen)}."
