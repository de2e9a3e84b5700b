"""Errors as dots: a panel per data set, a row per learner, a colour per package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from causalrec.results import format_number
from experiments.uplift_benchmark.columns import LEARNERS, OURS

_COLOURS = {OURS: "#0072B2", "EconML": "#D55E00", "causalml": "#009E73", "scikit-uplift": "#CC79A7"}
_EDGES = (0.01, 10.0)  # of the axis; what is beyond stands at the edge, as an arrow
_MARKS = {"XGBoost": "s", "own defaults": "D", "causalrec's base": "^", "linear": "v"}


def plot_errors(
    errors: pd.DataFrame,
    columns: Sequence[str],
    panels: Mapping[str, str],
    *,
    published: Mapping[str, Mapping[str, float]] | None = None,
    title: str,
    xlabel: str,
) -> Any:
    """Mean errors on a logarithmic axis; ``panels`` are sets of tasks and their titles.

    Returns the first Axes of the figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 0.9 + 2.5 * -(-len(panels) // 2)), layout="constrained")
    axes = figure.subplots(-(-len(panels) // 2), min(2, len(panels)), sharex=True, sharey=True, squeeze=False).ravel()
    for ax, (name, words) in zip(axes, panels.items(), strict=True):
        _panel(ax, errors[errors["set"] == name], columns, (published or {}).get(name, {}))
        ax.set_title(words, loc="left", fontsize="medium")
    for ax in axes[-min(2, len(panels)) :]:
        ax.set_xlabel(f"{xlabel}; arrows: beyond {format_number(_EDGES[1])}")
    figure.suptitle(title, x=0.01, ha="left", fontsize="large")
    handles, labels = axes[0].get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="outside lower left", ncols=min(3, len(labels)), frameon=False)
    for handle in legend.legend_handles:
        handle.set_markersize(min(handle.get_markersize(), 11))
    axes[0].set_label(_in_words(errors, columns, panels, title))
    return axes[0]


def _panel(ax: Any, errors: pd.DataFrame, columns: Sequence[str], published: Mapping[str, float]) -> None:
    names = list(LEARNERS)
    place = {name: len(names) - 1 - k for k, name in enumerate(names)}
    shift = np.linspace(0.24, -0.24, len(columns))
    for k, column in enumerate(columns):
        package, _, base = column.partition(", ")
        means = errors[errors["column"] == column].groupby("learner")["mse"].mean()
        rows = np.array([place[name] + shift[k] for name in means.index])
        beyond = means.to_numpy() > _EDGES[1]
        ax.plot(np.full(beyond.sum(), 0.9 * _EDGES[1]), rows[beyond], linestyle="none", marker=">",
                color=_COLOURS[package], markersize=6, zorder=3)  # fmt: skip
        means, rows = means[~beyond], rows[~beyond]
        ax.plot(means.to_numpy(), rows, linestyle="none", marker=_MARKS.get(base, "o"), color=_COLOURS[package],
                markersize=8 if column == OURS else 6, fillstyle="full" if package == OURS else "none",
                label=column, zorder=3)  # fmt: skip
    if published:
        ax.plot(list(published.values()), [place[name] for name in published], linestyle="none", marker="|",
                markersize=22, color="black", label="published, tuned XGBoost", zorder=2)  # fmt: skip
    ax.set_xscale("log")
    ax.set_xlim(*_EDGES)
    ax.xaxis.set_major_formatter(lambda value, _: format_number(value))
    ax.set_yticks(list(place.values()), names)
    for y in range(len(names) - 1):
        ax.axhline(y + 0.5, color="#E4E4E4", linewidth=0.8, zorder=1)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(axis="y", length=0)


def _in_words(errors: pd.DataFrame, columns: Sequence[str], panels: Mapping[str, str], title: str) -> str:
    chosen = errors[errors["set"].isin(list(panels)) & errors["column"].isin(list(columns))]
    least = chosen.groupby(["set", "column", "learner"], as_index=False)["mse"].mean()
    best = least.loc[least.groupby("set")["mse"].idxmin()]
    told = [f"{panels[r.set]}: least {r.mse:.3g}, {r.column}, {r.learner}-learner" for r in best.itertuples()]
    return f"{title}. " + "; ".join(told) + "."
