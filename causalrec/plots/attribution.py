"""The figures of attribution: credit by rule, and what channels caused beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from causalrec._typing import AnyArray, FloatArray
from causalrec.plots._drawing import BLUE, GREEN, GREY, check_known, draw_intervals, finish, limits, new_axes, short
from causalrec.results import NO_CHANNEL, AttributionResult, CreditResult, format_level, format_number

_MARKS = ("<", ">", "s", "D", "^", "v", "P", "X")
_COLOURS = ("#D55E00", "#E69F00", "#CC79A7", "#56B4E9", "#000000", "#7A7A7A", "#999933", "#882255")
_LOWER = 0.26  # of a row, from what was caused to what rules credit


def plot_credit(result: CreditResult, *, title: str = "", ax: Any = None) -> Any:
    """The conversions that each rule credits to each channel, those with most at the top.

    Parameters
    ----------
    result : CreditResult
    title : str, optional
    ax : Axes, optional
    """
    check_known(result.channels)
    known = [k for k, name in enumerate(result.channels) if name != NO_CHANNEL or result.credit[k].any()]
    order = np.array(sorted(known, key=lambda k: (result.channels[k] == NO_CHANNEL, -result.credit[k].mean())))
    ax = new_axes(ax, height=1.6 + 0.42 * len(order))
    rows = np.arange(len(order))[::-1]
    credit = result.credit[order]
    if len(result.rules) > 1:
        ax.hlines(rows, credit.min(axis=1), credit.max(axis=1), color="#D0D0D0", linewidth=5, zorder=0)
    _draw_rules(ax, credit, rows, result.rules)
    _name_rows(ax, rows, [result.channels[k] for k in order])
    ax.set_xlim(*limits([0.0], credit))
    ax.set(xlabel=f"conversions credited, of {result.n_conversions:,}")
    seen = [
        f"{result.channels[k]}: " + ", ".join(
            f"{rule.replace('_', ' ')} {format_number(round(float(x), 1))}"
            for rule, x in zip(result.rules, result.credit[k], strict=True)
        ) for k in order
    ]  # fmt: skip
    return finish(ax, title or "Who gets the credit, by rule", "; ".join(seen) + ".")


def plot_attribution(result: AttributionResult, *, title: str = "", ax: Any = None) -> Any:
    """What each channel caused, with its interval, and below it in the same row what the rules credit to it.

    The channel that caused most is at the top; the truth is a green line where it is known.

    Parameters
    ----------
    result : AttributionResult
    title : str, optional
    ax : Axes, optional
    """
    check_known(result.channels)
    order = np.argsort(-np.nan_to_num(result.incremental, nan=-np.inf), kind="stable")
    ax = new_axes(ax, height=1.9 + 0.72 * len(order))
    rows = np.arange(len(order))[::-1].astype(np.float64)
    caused, low, high = result.incremental[order], result.ci_low[order], result.ci_high[order]
    credit, naive = result.credit[order], result.naive[order]
    truth = None if result.truth is None else result.truth[order]
    ax.hlines(rows[:-1] - 0.5, 0, 1, color="#E8E8E8", linewidth=0.8, transform=ax.get_yaxis_transform(), zorder=0)
    ax.set_xlim(*limits([0.0], caused, low, high, credit, naive, [] if truth is None else truth))
    ax.axvline(0, color=GREY, linewidth=0.8)
    above = rows + _LOWER / 2
    if truth is not None:
        ax.vlines(truth, above - 0.2, above + 0.2, color=GREEN, linewidth=2.6, label="truth")
    draw_intervals(ax, above, low, high, across=True)
    ax.plot(caused, above, "o", color=BLUE, label=f"caused, {format_level(result.confidence_level)} interval")
    ax.plot(naive, above, "x", color=GREY, label="plain difference")
    _draw_rules(ax, credit, rows - _LOWER, result.rules)
    _name_rows(ax, rows, [result.channels[k] for k in order])
    ax.set(xlabel=f"{result.outcome}, of {result.total:,.0f}")
    seen = []
    for k in order:
        numbers = [f"caused {_rounded(result.incremental[k])} [{_rounded(result.ci_low[k])}, "
                   f"{_rounded(result.ci_high[k])}]"]  # fmt: skip
        numbers += [] if result.truth is None else [f"truth {_rounded(result.truth[k])}"]
        numbers += [f"{r.replace('_', ' ')} {_rounded(x)}" for r, x in zip(result.rules, result.credit[k], strict=True)]
        seen.append(f"{result.channels[k]}: {', '.join(numbers)}")
    return finish(ax, title or "Caused by channels, and credited by rules", "; ".join(seen) + ".")


def _draw_rules(ax: Any, credit: FloatArray, rows: AnyArray, rules: Sequence[str]) -> None:
    for k, rule in enumerate(rules):
        ax.plot(credit[:, k], rows, _MARKS[k % len(_MARKS)], color=_COLOURS[k % len(_COLOURS)], markersize=6,
                alpha=0.85, label=rule.replace("_", " "))  # fmt: skip


def _name_rows(ax: Any, rows: AnyArray, names: Sequence[str]) -> None:
    ax.set_yticks(rows, [short(n) for n in names])
    ax.set_ylim(-0.6, len(rows) - 0.4)


def _rounded(value: float) -> str:
    return format_number(round(float(value), 1))
