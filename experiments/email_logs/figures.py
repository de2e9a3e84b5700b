"""What many campaigns show: where each method's estimates lie about the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

_GOOD, _BAD, _TRUTH = "#0072B2", "#D55E00", "#1A1A1A"


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
