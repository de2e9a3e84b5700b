"""The figures of refutations: what each found where the answer is known, and hidden causes that are made up."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalrec.plots._drawing import BLUE, GREEN, GREY, ORANGE, check_known, finish, limits, new_axes, short
from causalrec.plots.sensitivity import draw_contours
from causalrec.results import RefutationResult, RefutationsResult, SimulatedConfounderResult, format_number
from causalrec.results.base import pvalue_text

_PANEL, _COLUMNS = 1.55, 2
_LEGIBLE = {"facecolor": "white", "edgecolor": "none", "pad": 0.4, "alpha": 0.8}
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


def plot_simulated_confounder(result: SimulatedConfounderResult, *, title: str = "", ax: Any = None) -> Any:
    """The estimate beside made-up hidden causes, by what they explain of treatment and outcome, with benchmarks."""
    ax = new_axes(ax, height=4.6)
    end = float(result.strengths[-1])
    draw_contours(ax, result.strengths, result.effect, 0.0, "estimate", [end, end])
    ax.plot([0], [0], "o", color="black", clip_on=False)
    ax.annotate(f"no hidden cause: {format_number(result.estimate)}", (0, 0), (6, 5), textcoords="offset points",
                fontsize="small", bbox=_LEGIBLE)  # fmt: skip
    inside = (result.r2_treatment <= end) & (result.r2_outcome <= end)
    for name, x, y, value in zip(
        result.benchmark[inside], result.r2_treatment[inside], result.r2_outcome[inside],
        result.benchmark_effect[inside], strict=True,
    ):  # fmt: skip
        ax.plot([x], [y], "D", color=BLUE, markersize=5)
        if max(x, y) < 0.05 * end:  # its name would lie on that of the estimate
            continue
        ax.annotate(f"like {short(name, 18)}: {format_number(float(value))}", (x, y), (6, 4), bbox=_LEGIBLE,
                    textcoords="offset points", fontsize="small", color=BLUE)  # fmt: skip
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")
    ax.set(xlabel="share of what is left of the treatment that the hidden cause explains",
           ylabel="share of the outcome", xlim=(0, end), ylim=(0, end))  # fmt: skip
    outside = int((~inside).sum())
    beyond = f" {outside} benchmark{'s' * (outside > 1)} beyond the picture." if outside else ""
    return finish(
        ax,
        title or "What is left beside a hidden cause that is made up?",
        f"{str(result).replace(chr(10), '; ')}.{beyond}",
    )
