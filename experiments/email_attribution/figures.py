"""The study's figures: what drives purchases, how the models did on later days, effects beside their placebo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from causalrec.results import AdjustedEffect
from experiments._effects import between, number
from experiments.email_attribution.drivers import GROUPS, Drivers

_COLOURS = dict(zip(GROUPS, ("#D55E00", "#0072B2", "#009E73", "#777777"), strict=True))
_NAMES = {
    "emailed_3d": "e-mail in the last 3 days", "log_recency": "days since a purchase, log",
    "log_spend_30d": "spend of 30 days, log", "log_purchases_90d": "purchases of 90 days, log",
    "redeemed": "used a coupon", "has_profile": "profile known", "aged_55_up": "aged 55 and over",
    "income_75k_up": "income $75,000 and over", "three_or_more": "three or more people", "month_end": "end of month",
}  # fmt: skip
_AFTER, _BEFORE, _TRUTH = "#0072B2", "#E69F00", "#1A1A1A"


def plot_drivers(found: Mapping[str, Drivers]) -> Any:
    """Standardised coefficients of the likelihood with intervals, a panel per part; the Figure."""
    from matplotlib.figure import Figure

    tables = {name: d.likelihood.table() for name, d in found.items()}
    figure = Figure(figsize=(5.2 * len(tables), 1.6 + 0.27 * max(map(len, tables.values()))), layout="constrained")
    figure.suptitle("What drives a purchase on a day", x=0.01, ha="left")
    for ax, (name, table) in zip(np.atleast_1d(figure.subplots(1, len(tables))), tables.items(), strict=True):
        _draw_coefficients(ax, table)
        ax.set_title(name, loc="left", fontsize="medium")
        ax.set_label(f"Standardised coefficients, {name}: " + "; ".join(
            f"{r['column']} {r['coefficient']:.3f}" for r in table.to_dict("records")))  # fmt: skip
    handles = {g: figure.axes[0].plot([], [], "o", color=c, label=g)[0] for g, c in _COLOURS.items()}
    shown = set().union(*(set(t["group"]) for t in tables.values()))
    figure.legend(handles=[h for g, h in handles.items() if g in shown], loc="outside lower center",
                  ncols=len(shown), frameon=False)  # fmt: skip
    return figure


def _draw_coefficients(ax: Any, table: pd.DataFrame) -> None:
    places = np.arange(len(table))[::-1]
    for place, row in zip(places, table.to_dict("records"), strict=True):
        colour = _COLOURS[row["group"]]
        ax.plot([row["ci_low"], row["ci_high"]], [place, place], color=colour, linewidth=2)
        ax.plot(row["coefficient"], place, "o", color=colour, markersize=5)
    ax.axvline(0, color=_TRUTH, linewidth=0.8)
    ax.set_yticks(places, [_NAMES.get(c, c) for c in table["column"]])
    ax.set_xlabel("log odds per standard deviation, 95% interval")
    ax.spines[["top", "right"]].set_visible(False)


def plot_deciles(found: Mapping[str, Drivers]) -> Any:
    """Predicted against observed purchases on the later days, and the lift, by tenth of the prediction; the Figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 3.4 * len(found)), layout="constrained")
    panels = figure.subplots(len(found), 2, squeeze=False)
    for (left, right), (name, drivers) in zip(panels, found.items(), strict=True):
        table = drivers.likelihood_test
        predicted, observed = 100 * table["predicted"], 100 * table["observed"]
        top = 1.08 * max(predicted.max(), observed.max())
        left.plot([0, top], [0, top], color=_TRUTH, linewidth=0.8, linestyle="--")
        left.plot(predicted, observed, "o-", color=_AFTER, markersize=5)
        left.set(xlabel="predicted, % of customer-days", ylabel="observed, %", xlim=(0, top), ylim=(0, top))
        left.set_title(f"{name}: purchases", loc="left", fontsize="medium")
        right.bar(table["decile"], table["lift"], color=_AFTER)
        right.axhline(1, color=_TRUTH, linewidth=0.8, linestyle="--")
        right.set(xlabel="tenth of customer-days, the likeliest first", ylabel="times the average",
                  xticks=table["decile"].tolist())  # fmt: skip
        right.set_title("lift", loc="left", fontsize="medium")
        for ax in (left, right):
            ax.spines[["top", "right"]].set_visible(False)
        left.set_label(f"{name}, predicted and observed %: " + "; ".join(
            f"{p:.2f}, {o:.2f}" for p, o in zip(predicted, observed, strict=True)))  # fmt: skip
        right.set_label(f"{name}, lift: " + ", ".join(f"{v:.2f}" for v in table["lift"]))
    return figure


def plot_ways(
    after: Mapping[str, AdjustedEffect], before: Mapping[str, AdjustedEffect], title: str, truth: float | None = None
) -> Any:
    """Effects on a purchase in percentage points by way, each beside its placebo; the Axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.4, 1.9 + 0.55 * len(after)), layout="constrained")
    ax = figure.add_subplot()
    places = np.arange(len(after))[::-1]
    for effects, shift, colour, mark, label in (
        (after, 0.14, _AFTER, "o", "after the e-mail"), (before, -0.14, _BEFORE, "s", "before it (placebo)"),
    ):  # fmt: skip
        for place, effect in zip(places, effects.values(), strict=True):
            ax.plot([100 * effect.ci_low, 100 * effect.ci_high], [place + shift] * 2, color=colour, linewidth=2)
        ax.plot([100 * e.estimate for e in effects.values()], places + shift, mark, color=colour, label=label)
    ax.axvline(0, color=_TRUTH, linewidth=0.8)
    if truth is not None:
        ax.axvline(100 * truth, color="#009E73", linestyle="--", label=f"the truth, {number(100 * truth)}")
    ax.set_yticks(places, list(after))
    ax.set_xlabel("percentage points of customers who buy, 95% interval by customer")
    ax.set_title(title, loc="left")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_label(f"{title}. " + "; ".join(
        f"{way}: {number(100 * e.estimate)} {between(100 * e.ci_low, 100 * e.ci_high)}, before "
        f"{number(100 * before[way].estimate)}" for way, e in after.items()))  # fmt: skip
    return ax
