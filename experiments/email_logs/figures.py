"""What many campaigns show: where each method's estimates lie about the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

_GOOD, _BAD, _WORSE, _TRUTH = "#0072B2", "#D55E00", "#7B3294", "#1A1A1A"


def plot_errors(table: pd.DataFrame, title: str) -> Any:
    """By estimate: mean error with the middle 95% of errors, and how often the interval held the truth; the Axes."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(6.8, 1.6 + 0.34 * len(table)), layout="constrained")
    ax = figure.add_subplot()
    places = np.arange(len(table))[::-1]
    ends = []
    for place, row in zip(places, table.to_dict("records"), strict=True):
        colour = _GOOD if row["to"] >= 95 else _BAD
        reach = 1.96 * row["spread seen"]
        ax.plot([row["off by"] - reach, row["off by"] + reach], [place, place], color=colour, linewidth=2)
        ax.plot(row["off by"], place, "o", color=colour, markersize=6)
        ends.append(row["off by"] + reach)
    right = max(ends)
    for place, row in zip(places, table.to_dict("records"), strict=True):
        colour = _GOOD if row["to"] >= 95 else _BAD
        ax.annotate(f"{row['held, %']:.0f}%", (right, place), (28, 0), textcoords="offset points", va="center",
                    ha="right", color=colour, annotation_clip=False)  # fmt: skip
    ax.annotate("holds the truth", (right, len(table) - 0.35), (34, 0), textcoords="offset points", ha="right",
                fontsize="small", annotation_clip=False)  # fmt: skip
    ax.axvline(0, color=_TRUTH, linewidth=1, linestyle="--")
    ax.set_yticks(places, list(table["estimate"]))
    ax.set_ylim(-0.6, len(table) - 0.1)
    ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlabel("estimate − truth, $ per user: mean and middle 95% of campaigns")
    ax.set_title(title, loc="left")
    ax.set_label(f"{title}. " + "; ".join(
        f"{r['estimate']}: off by {r['off by']:.2f}, interval holds the truth in {r['held, %']}%"
        for r in table.to_dict("records")))  # fmt: skip
    return ax


def plot_rates(table: pd.DataFrame, title: str, nominal: float = 5.0) -> Any:
    """By check and design: the share of campaigns that are flagged, with its interval; the Axes."""
    from matplotlib.figure import Figure

    checks, designs = list(dict.fromkeys(table["check"])), list(dict.fromkeys(table["design"]))
    figure = Figure(figsize=(6.8, 1.5 + 0.62 * len(checks)), layout="constrained")
    ax = figure.add_subplot()
    for k, (design, colour) in enumerate(zip(designs, (_GOOD, _BAD, _WORSE), strict=False)):
        rows = table[table["design"] == design]
        places = [len(checks) - 1 - checks.index(c) + 0.22 * (1 - k) for c in rows["check"]]
        ax.hlines(places, rows["from"], rows["to"], color=colour, linewidth=2)
        ax.plot(rows["flagged, %"], places, "osD"[k % 3], color=colour, markersize=6, label=design)
    ax.axvline(nominal, color=_TRUTH, linewidth=1, linestyle="--")
    ax.annotate(f"{nominal:g}%", (nominal, len(checks) - 0.5), (4, 0), textcoords="offset points", fontsize="small")
    ax.set_yticks(np.arange(len(checks))[::-1], checks)
    ax.set_ylim(-0.6, len(checks) - 0.2)
    ax.set_xlim(-3, 103)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlabel("campaigns flagged, %, with 95% intervals")
    ax.set_title(title, loc="left")
    figure.legend(loc="outside lower center", ncols=len(designs), frameon=False, title="adjusted for")
    ax.set_label(f"{title}. " + "; ".join(
        f"{r['check']}, {r['design']}: {r['flagged, %']}%" for r in table.to_dict("records")))  # fmt: skip
    return ax
